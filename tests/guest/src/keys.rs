//! Keys: add_key(2), request_key(2), keyctl(2), keyrings(7).

use crate::prelude::*;
use std::ffi::CStr;

tests![
    user_keys,
    add_errors,
    types,
    payload_limits,
    special_keyrings,
    thread_and_process_keyrings,
    session_keyrings,
    named_sessions,
    session_inherited,
    session_to_parent,
    permissions,
    possession,
    describe,
    set_permissions,
    chown,
    update,
    links,
    link_errors,
    cycles,
    move_between,
    search,
    search_nested,
    revoke,
    invalidate,
    timeouts,
    read_buffers,
    request,
    request_negative,
    default_keyring,
    restrict,
    persistent,
    quota,
    instantiate_errors,
    capabilities,
    unknown_operations,
    proc_keys,
    proc_key_users,
    sysctls,
    long_chain,
];

const THREAD: i32 = -1;
const PROCESS: i32 = -2;
const SESSION: i32 = -3;
const USER: i32 = -4;
const USER_SESSION: i32 = -5;

const GET_ID: usize = 0;
const JOIN: usize = 1;
const UPDATE: usize = 2;
const REVOKE: usize = 3;
const CHOWN: usize = 4;
const SETPERM: usize = 5;
const DESCRIBE: usize = 6;
const CLEAR: usize = 7;
const LINK: usize = 8;
const UNLINK: usize = 9;
const SEARCH: usize = 10;
const READ: usize = 11;
const INSTANTIATE: usize = 12;
const NEGATE: usize = 13;
const SET_DEFAULT: usize = 14;
const SET_TIMEOUT: usize = 15;
const ASSUME: usize = 16;
const SECURITY: usize = 17;
const TO_PARENT: usize = 18;
const REJECT: usize = 19;
const INSTANTIATE_IOV: usize = 20;
const INVALIDATE: usize = 21;
const PERSISTENT: usize = 22;
const RESTRICT: usize = 29;
const MOVE: usize = 30;
const CAPABILITIES: usize = 31;

type Res<T> = crate::sys::Result<T>;

macro_rules! ctl {
    ($op:expr $(, $arg:expr)*) => { sys!(SYS_keyctl, $op $(, $arg)*) };
}

fn add(kind: &CStr, description: &CStr, payload: &[u8], ring: i32) -> Res<i32> {
    sys!(SYS_add_key, kind.as_ptr(), description.as_ptr(), payload.as_ptr(), payload.len(), ring)
        .map(|id| id as i32)
}

fn user(description: &CStr, payload: &[u8], ring: i32) -> Res<i32> {
    add(c"user", description, payload, ring)
}

/// A big key; none where the kernel is built without them.
fn big(description: &CStr, payload: &[u8]) -> Res<Option<i32>> {
    match add(c"big_key", description, payload, SESSION) {
        Err(error) if error.0 == ENODEV => Ok(None),
        other => other.map(Some),
    }
}

fn ring(description: &CStr, parent: i32) -> Res<i32> {
    add(c"keyring", description, b"", parent)
}

fn read(id: i32) -> Res<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    let len = ctl!(READ, id, buffer.as_mut_ptr(), buffer.len())?;
    buffer.truncate(len);
    Ok(buffer)
}

/// The keys of a keyring.
fn members(id: i32) -> Res<Vec<i32>> {
    Ok(read(id)?.chunks_exact(4).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn describe_text(id: i32) -> Res<String> {
    let mut buffer = vec![0_u8; 4096];
    let len = ctl!(DESCRIBE, id, buffer.as_mut_ptr(), buffer.len())?;
    buffer.truncate(len - 1);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

fn id_of(ring: i32) -> Res<i32> {
    ctl!(GET_ID, ring, 1).map(|id| id as i32)
}

fn find(ring: i32, kind: &CStr, description: &CStr) -> Res<i32> {
    ctl!(SEARCH, ring, kind.as_ptr(), description.as_ptr(), 0).map(|id| id as i32)
}

fn request_key(kind: &CStr, description: &CStr, callout: Option<&CStr>, dest: i32) -> Res<i32> {
    let callout = callout.map_or(0, |text| text.as_ptr() as usize);
    sys!(SYS_request_key, kind.as_ptr(), description.as_ptr(), callout, dest).map(|id| id as i32)
}

/// A fresh session keyring, so that tests do not see each other's keys.
fn fresh() -> Res<i32> {
    ctl!(JOIN, 0).map(|id| id as i32)
}

fn errno_of<T>(result: Res<T>) -> i32 {
    result.err().map_or(0, |e| e.0)
}

/// 0 if all is true, otherwise the position (from 1) of the first that is not.
fn all(facts: &[bool]) -> i32 {
    facts.iter().position(|fact| !fact).map_or(0, |at| at as i32 + 1)
}

/// Runs `body` as user 1000 with a session of its own.
fn as_user(body: impl FnOnce() -> i32) -> Res<i32> {
    as_id(1000, body)
}

fn as_id(id: u32, body: impl FnOnce() -> i32) -> Res<i32> {
    in_child(|| {
        let _ = sys!(SYS_setresgid, id, id, id);
        let _ = sys!(SYS_setgroups, 0, 0);
        let _ = sys!(SYS_setresuid, id, id, id);
        let _ = fresh();
        body()
    })
}

fn user_keys() -> Outcome {
    fresh()?;
    let key = user(c"name", b"secret", SESSION)?;
    check!(key > 0);
    check_eq!(read(key)?, b"secret");
    check_eq!(members(SESSION)?, [key]);
    // The same name: the same key with another payload.
    check_eq!(user(c"name", b"other", SESSION)?, key);
    check_eq!(read(key)?, b"other");
    // In another keyring: another key.
    let ring = ring(c"ring", SESSION)?;
    let second = user(c"name", b"third", ring)?;
    check!(second != key);
    check_eq!(members(SESSION)?.len(), 2);
    Ok(())
}

fn add_errors() -> Outcome {
    fresh()?;
    let key = user(c"name", b"x", SESSION)?;
    check_err!(add(c"nonsense", c"name", b"x", SESSION), ENODEV);
    check_err!(add(c"", c"name", b"x", SESSION), EINVAL);
    check_err!(add(c".user", c"name", b"x", SESSION), EPERM);
    check_err!(add(c"a-type-name-that-is-longer-than-31", c"name", b"x", SESSION), EINVAL);
    check_err!(sys!(SYS_add_key, 16, c"name".as_ptr(), c"x".as_ptr(), 1, SESSION), EFAULT);
    check_err!(sys!(SYS_add_key, c"user".as_ptr(), 16, c"x".as_ptr(), 1, SESSION), EFAULT);
    check_err!(sys!(SYS_add_key, c"user".as_ptr(), c"name".as_ptr(), 16, 1, SESSION), EFAULT);
    check_err!(sys!(SYS_add_key, c"user".as_ptr(), 0, c"x".as_ptr(), 1, SESSION), EINVAL);
    check_err!(user(c"", b"x", SESSION), EINVAL);
    let long = std::ffi::CString::new(vec![b'a'; 4096]).unwrap_or_default();
    check_err!(user(&long, b"x", SESSION), EINVAL);
    check_err!(user(c"name", b"", SESSION), EINVAL);
    check_err!(ring(c".hidden", SESSION), EPERM);
    check_err!(add(c"keyring", c"ring", b"x", SESSION), EINVAL);
    check_err!(user(c"name", b"x", 0), EINVAL);
    check_err!(user(c"name", b"x", -6), EINVAL);
    check_err!(user(c"name", b"x", -7), ENOKEY);
    check_err!(user(c"name", b"x", -8), ENOKEY);
    check_err!(user(c"name", b"x", -9), EINVAL);
    check_err!(user(c"name", b"x", 0x7fff_fff0), ENOKEY);
    check_err!(user(c"name", b"x", key), ENOTDIR);
    Ok(())
}

fn types() -> Outcome {
    fresh()?;
    // Secrets of the kernel's users: named after them, and not to be read.
    check_err!(add(c"logon", c"plain", b"x", SESSION), EINVAL);
    check_err!(add(c"logon", c":plain", b"x", SESSION), EINVAL);
    let logon = add(c"logon", c"service:name", b"secret", SESSION)?;
    check_err!(read(logon), EOPNOTSUPP);
    check_eq!(describe_text(logon)?.split(';').nth(3), Some("3d010000"));
    if let Some(big) = big(c"big", &[7; 3000])? {
        check_eq!(read(big)?, vec![7; 3000]);
        check_eq!(describe_text(big)?.split(';').nth(3), Some("3f010000"));
    }
    let ring = ring(c"ring", SESSION)?;
    check_eq!(members(ring)?, []);
    // A keyring of the same name replaces the old one.
    let second = add(c"keyring", c"ring", b"", SESSION)?;
    check!(second != ring);
    check!(!members(SESSION)?.contains(&ring));
    check_err!(ctl!(UPDATE, second, 0, 0), EOPNOTSUPP);
    Ok(())
}

fn payload_limits() -> Outcome {
    fresh()?;
    check!(user(c"most", &[1; 32767], SESSION).is_ok());
    check_err!(user(c"more", &[1; 32768], SESSION), EINVAL);
    check_err!(add(c"logon", c"a:b", &[1; 32768], SESSION), EINVAL);
    let most = vec![3; (1 << 20) - 1];
    if let Some(key) = big(c"most", &most)? {
        check_eq!(ctl!(READ, key, 0, 0)?, most.len());
    }
    let more = vec![3; 1 << 20];
    check_err!(add(c"big_key", c"more", &more, SESSION), EINVAL);
    let key = user(c"key", b"x", SESSION)?;
    check_err!(ctl!(UPDATE, key, more.as_ptr(), 4097), EINVAL);
    check_err!(ctl!(UPDATE, key, 16, 5), EFAULT);
    Ok(())
}

fn special_keyrings() -> Outcome {
    fresh()?;
    check!(describe_text(SESSION)?.starts_with("keyring;0;0;3f030000;_ses"));
    check!(describe_text(USER)?.starts_with("keyring;0;65534;1f3f0000;_uid.0"));
    check!(describe_text(USER_SESSION)?.starts_with("keyring;0;65534;1f3f0000;_uid_ses.0"));
    check!(members(USER_SESSION)?.contains(&id_of(USER)?));
    check_eq!(id_of(id_of(SESSION)?)?, id_of(SESSION)?);
    check_err!(ctl!(GET_ID, 0, 1), EINVAL);
    check_err!(ctl!(GET_ID, -6_i32, 1), EINVAL);
    let status = as_user(|| {
        all(&[
            describe_text(USER).is_ok_and(|text| text.starts_with("keyring;1000;65534;1f3f0000;_uid.1000")),
            describe_text(SESSION).is_ok_and(|text| text.starts_with("keyring;1000;1000;3f030000;_ses")),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn thread_and_process_keyrings() -> Outcome {
    fresh()?;
    check_err!(ctl!(GET_ID, THREAD, 0), ENOKEY);
    check_err!(ctl!(GET_ID, PROCESS, 0), ENOKEY);
    let (thread, process) = (id_of(THREAD)?, id_of(PROCESS)?);
    check!(describe_text(thread)?.starts_with("keyring;0;0;3f010000;_tid"));
    check!(describe_text(process)?.starts_with("keyring;0;0;3f010000;_pid"));
    check_eq!(ctl!(GET_ID, THREAD, 0)? as i32, thread);
    // A thread has its own, and shares the process's; a child has neither.
    let other = std::thread::spawn(move || {
        let own = id_of(THREAD);
        let shared = ctl!(GET_ID, PROCESS, 0).map(|id| id as i32);
        own.is_ok_and(|own| own != thread) && shared == Ok(process)
    });
    check!(other.join().unwrap_or(false));
    let status = in_child(|| {
        all(&[
            errno_of(ctl!(GET_ID, THREAD, 0)) == ENOKEY,
            errno_of(ctl!(GET_ID, PROCESS, 0)) == ENOKEY,
            // The parent's is not even seen any more.
            errno_of(read(thread)) == EACCES,
        ])
    })?;
    check_eq!(status, 0);
    // Keys of a thread keyring go with the thread.
    let key = std::thread::spawn(|| user(c"gone", b"x", THREAD)).join().unwrap_or(Ok(0))?;
    check!(eventually(|| errno_of(describe_text(key)) == ENOKEY));
    Ok(())
}

fn session_keyrings() -> Outcome {
    let first = fresh()?;
    let second = fresh()?;
    check!(first != second);
    check_eq!(id_of(SESSION)?, second);
    check_err!(ctl!(JOIN, 16), EFAULT);
    check_err!(ctl!(JOIN, c".hidden".as_ptr()), EPERM);
    // Nobody has the first any more.
    check!(eventually(|| errno_of(describe_text(first)) == ENOKEY));
    Ok(())
}

fn named_sessions() -> Outcome {
    let name = c"guest-test-session";
    let first = ctl!(JOIN, name.as_ptr())? as i32;
    check_eq!(describe_text(first)?, format!("keyring;0;0;3f130000;{}", name.to_string_lossy()));
    // Another process joins it by name, if it may search it.
    let refused = in_child(|| {
        let _ = fresh();
        i32::from(ctl!(JOIN, name.as_ptr()).is_ok_and(|id| id as i32 == first))
    })?;
    check_eq!(refused, 0);
    ctl!(SETPERM, first, 0x3f1b_0000)?;
    let joined = in_child(|| {
        let _ = fresh();
        i32::from(ctl!(JOIN, name.as_ptr()).is_ok_and(|id| id as i32 == first))
    })?;
    check_eq!(joined, 1);
    Ok(())
}

fn session_inherited() -> Outcome {
    let session = fresh()?;
    let key = user(c"name", b"secret", SESSION)?;
    let status = in_child(|| all(&[id_of(SESSION) == Ok(session), read(key).as_deref() == Ok(b"secret")]))?;
    check_eq!(status, 0);
    let status = in_child(|| {
        let _ = fresh();
        i32::from(id_of(SESSION) == Ok(session))
    })?;
    check_eq!((status, id_of(SESSION)?), (0, session));
    Ok(())
}

fn session_to_parent() -> Outcome {
    let before = fresh()?;
    let ends = pipe(0)?;
    let child = fork(|| {
        let mine = fresh().unwrap_or(0);
        let _ = write(ends[1], &mine.to_ne_bytes());
        errno_of(ctl!(TO_PARENT))
    })?;
    check_eq!(wait_exit(child)?, 0);
    let sent = read_vec(ends[0], 4)?;
    let sent = i32::from_ne_bytes([sent[0], sent[1], sent[2], sent[3]]);
    check!(sent != before);
    check_eq!(id_of(SESSION)?, sent);
    // Of another user it is not taken.
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let _ = fresh();
        errno_of(ctl!(TO_PARENT))
    })?;
    check_eq!(status, EPERM);
    Ok(())
}

fn permissions() -> Outcome {
    fresh()?;
    // The owner may view, nothing else, when the key is not possessed.
    let key = user(c"name", b"secret", SESSION)?;
    let status = in_child(|| {
        let _ = fresh();
        all(&[
            describe_text(key).is_ok(),
            errno_of(read(key)) == EACCES,
            errno_of(ctl!(UPDATE, key, c"x".as_ptr(), 1)) == EACCES,
            errno_of(ctl!(LINK, key, SESSION)) == EACCES,
            errno_of(ctl!(SETPERM, key, 0x3f3f_0000)) == EACCES,
            errno_of(ctl!(REVOKE, key)) == EACCES,
            errno_of(ctl!(INVALIDATE, key)) == EACCES,
            errno_of(ctl!(SET_TIMEOUT, key, 5)) == EACCES,
        ])
    })?;
    check_eq!(status, 0);
    // Group and others.
    let as_other = |bits: usize, gid: usize| -> Res<i32> {
        ctl!(SETPERM, key, bits)?;
        in_child(|| {
            let _ = fresh();
            let _ = sys!(SYS_setgroups, 0, 0);
            let _ = sys!(SYS_setresgid, gid, gid, gid);
            let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
            let _ = fresh();
            errno_of(read(key))
        })
    };
    check_eq!(as_other(0x3f01_0200, 0)?, 0);
    check_eq!(as_other(0x3f01_0200, 77)?, EACCES);
    check_eq!(as_other(0x3f01_0002, 77)?, 0);
    // A group with any bit counts instead of the others.
    check_eq!(as_other(0x3f01_0102, 0)?, EACCES);
    check_eq!(as_other(0x3f01_0002, 0)?, 0);
    Ok(())
}

fn possession() -> Outcome {
    fresh()?;
    let outer = ring(c"outer", SESSION)?;
    let inner = ring(c"inner", outer)?;
    let key = user(c"name", b"secret", inner)?;
    check_eq!(read(key)?, b"secret");
    // A keyring that may not be searched hides what is below it.
    ctl!(SETPERM, outer, 0x3701_0000)?;
    check_err!(read(key), EACCES);
    check!(describe_text(key).is_ok());
    // Searchable is readable, for who possesses it.
    let other = user(c"other", b"text", SESSION)?;
    ctl!(SETPERM, other, 0x0900_0000)?;
    check_eq!(read(other)?, b"text");
    ctl!(SETPERM, user(c"third", b"text", SESSION)?, 0x0100_0000)?;
    check_err!(find(SESSION, c"user", c"third"), EACCES);
    Ok(())
}

fn describe() -> Outcome {
    fresh()?;
    let key = user(c"a;b c", b"x", SESSION)?;
    check_eq!(describe_text(key)?, "user;0;0;3f010000;a;b c");
    let len = "user;0;0;3f010000;a;b c".len() + 1;
    check_eq!(ctl!(DESCRIBE, key, 0, 0)?, len);
    // All or nothing.
    let mut short = [9_u8; 8];
    check_eq!(ctl!(DESCRIBE, key, short.as_mut_ptr(), short.len())?, len);
    check_eq!(short, [9; 8]);
    check_err!(ctl!(DESCRIBE, key, 16, 100), EFAULT);
    check_err!(ctl!(DESCRIBE, 0, 0, 0), EINVAL);
    let mut text = [9_u8; 64];
    let len = ctl!(SECURITY, key, text.as_mut_ptr(), text.len())?;
    check!(len >= 1 && text[len - 1] == 0);
    Ok(())
}

fn set_permissions() -> Outcome {
    fresh()?;
    let key = user(c"name", b"x", SESSION)?;
    check_err!(ctl!(SETPERM, key, 0x4000_0000), EINVAL);
    check_err!(ctl!(SETPERM, key, 0x40), EINVAL);
    check_eq!(ctl!(SETPERM, key, 0x3f3f_3f3f)?, 0);
    check!(describe_text(key)?.contains(";3f3f3f3f;"));
    // Possession gives no right to change it without the bit, and only the owner may.
    ctl!(SETPERM, key, 0x1f1f_0000)?;
    check_err!(ctl!(SETPERM, key, 0x3f3f_0000), EACCES);
    let key = user(c"second", b"x", SESSION)?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        errno_of(ctl!(SETPERM, key, 0x3f3f_0000))
    })?;
    check_eq!(status, EACCES);
    Ok(())
}

fn chown() -> Outcome {
    fresh()?;
    let key = user(c"name", b"x", SESSION)?;
    check_eq!(ctl!(CHOWN, key, -1_i32, -1_i32)?, 0);
    check_eq!(ctl!(CHOWN, key, 1000, 2000)?, 0);
    check!(describe_text(key)?.starts_with("user;1000;2000;"));
    check_err!(ctl!(CHOWN, 0x7fff_fff0, 1000, -1_i32), ENOKEY);
    let status = as_user(|| {
        let Ok(key) = user(c"name", b"x", SESSION) else { return 99 };
        all(&[
            errno_of(ctl!(CHOWN, key, 0, -1_i32)) == EACCES,
            errno_of(ctl!(CHOWN, key, -1_i32, 5)) == EACCES,
            ctl!(CHOWN, key, 1000, 1000).is_ok(),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn update() -> Outcome {
    fresh()?;
    let key = user(c"name", b"one", SESSION)?;
    check_eq!(ctl!(UPDATE, key, c"two2".as_ptr(), 4)?, 0);
    check_eq!(read(key)?, b"two2");
    check_err!(ctl!(UPDATE, key, 0, 0), EINVAL);
    check_err!(ctl!(UPDATE, 0, 0, 0), EINVAL);
    check_err!(ctl!(UPDATE, 0x7fff_fff0, 0, 0), ENOKEY);
    if let Some(big) = big(c"big", b"one")? {
        check_eq!(ctl!(UPDATE, big, c"two".as_ptr(), 3)?, 0);
        check_eq!(read(big)?, b"two");
    }
    Ok(())
}

fn links() -> Outcome {
    fresh()?;
    let (a, b) = (ring(c"a", SESSION)?, ring(c"b", SESSION)?);
    let key = user(c"name", b"x", a)?;
    check_eq!(ctl!(LINK, key, b)?, 0);
    check_eq!(ctl!(LINK, key, b)?, 0);
    check_eq!((members(a)?, members(b)?), (vec![key], vec![key]));
    // A link to a key of the same name gives way.
    let other = user(c"name", b"y", SESSION)?;
    ctl!(LINK, other, b)?;
    check_eq!(members(b)?, [other]);
    check_eq!(ctl!(UNLINK, key, a)?, 0);
    check_eq!(members(a)?, []);
    // Nobody has it any more.
    check!(eventually(|| errno_of(describe_text(key)) == ENOKEY));
    ctl!(CLEAR, b)?;
    check_eq!(members(b)?, []);
    Ok(())
}

fn link_errors() -> Outcome {
    fresh()?;
    let ring = ring(c"ring", SESSION)?;
    let key = user(c"name", b"x", SESSION)?;
    check_err!(ctl!(LINK, ring, key), ENOTDIR);
    check_err!(ctl!(UNLINK, ring, key), ENOTDIR);
    check_err!(ctl!(UNLINK, key, ring), ENOENT);
    check_err!(ctl!(CLEAR, key), ENOTDIR);
    check_err!(ctl!(LINK, 0x7fff_fff0, ring), ENOKEY);
    ctl!(SETPERM, ring, 0x3b3f_0000 & !0x0004_0000)?;
    check_err!(ctl!(LINK, key, ring), EACCES);
    check_err!(user(c"new", b"x", ring), EACCES);
    Ok(())
}

fn cycles() -> Outcome {
    fresh()?;
    let a = ring(c"a", SESSION)?;
    let b = ring(c"b", a)?;
    let c = ring(c"c", b)?;
    check_err!(ctl!(LINK, a, a), EDEADLK);
    check_err!(ctl!(LINK, a, c), EDEADLK);
    check_err!(ctl!(LINK, a, b), EDEADLK);
    check_eq!(ctl!(LINK, c, a)?, 0);
    Ok(())
}

fn move_between() -> Outcome {
    fresh()?;
    let (a, b) = (ring(c"a", SESSION)?, ring(c"b", SESSION)?);
    let key = user(c"name", b"x", a)?;
    check_eq!(ctl!(MOVE, key, a, b, 0)?, 0);
    check_eq!((members(a)?, members(b)?), (vec![], vec![key]));
    check_err!(ctl!(MOVE, key, a, b, 0), ENOENT);
    check_err!(ctl!(MOVE, key, b, a, 2), EINVAL);
    check_eq!(ctl!(MOVE, key, b, b, 0)?, 0);
    let other = user(c"name", b"y", a)?;
    check_err!(ctl!(MOVE, key, b, a, 1), EEXIST);
    check_eq!(ctl!(MOVE, key, b, a, 0)?, 0);
    check_eq!((members(a)?, members(b)?), (vec![key], vec![]));
    check!(other != key);
    check_err!(ctl!(MOVE, key, a, key, 0), ENOTDIR);
    Ok(())
}

fn search() -> Outcome {
    fresh()?;
    let ring = ring(c"ring", SESSION)?;
    let dest = add(c"keyring", c"dest", b"", PROCESS)?;
    let key = user(c"name", b"x", ring)?;
    check_eq!(find(SESSION, c"user", c"name")?, key);
    check_eq!(find(ring, c"user", c"name")?, key);
    check_eq!(find(SESSION, c"keyring", c"ring")?, ring);
    check_err!(find(SESSION, c"user", c"other"), ENOKEY);
    check_err!(find(SESSION, c"logon", c"name"), ENOKEY);
    check_err!(find(SESSION, c"nonsense", c"name"), ENOKEY);
    check_err!(find(key, c"user", c"name"), ENOTDIR);
    check_eq!(ctl!(SEARCH, SESSION, c"user".as_ptr(), c"name".as_ptr(), dest)? as i32, key);
    check_eq!(members(dest)?, [key]);
    check_err!(ctl!(SEARCH, SESSION, 16, c"name".as_ptr(), 0), EFAULT);
    check_err!(ctl!(SEARCH, SESSION, c"user".as_ptr(), 16, 0), EFAULT);
    // Found, but no use.
    ctl!(REVOKE, key)?;
    check_err!(find(SESSION, c"user", c"name"), EKEYREVOKED);
    let hidden = user(c"hidden", b"x", ring)?;
    ctl!(SETPERM, hidden, 0x3701_0000)?;
    check_err!(find(SESSION, c"user", c"hidden"), EACCES);
    Ok(())
}

fn search_nested() -> Outcome {
    fresh()?;
    // Six keyrings below the first are searched, not more.
    let mut at = id_of(SESSION)?;
    let mut keys = Vec::new();
    for depth in 0..9 {
        // Possessed through the process's keyring until the next one takes its place there.
        let deeper = ring(c"deeper", PROCESS)?;
        ctl!(SETPERM, deeper, 0x3f3f_0000)?;
        let name = std::ffi::CString::new(format!("key{depth}")).unwrap_or_default();
        keys.push((user(&name, b"x", deeper)?, name));
        ctl!(LINK, deeper, at)?;
        at = deeper;
    }
    let found: Vec<bool> = keys.iter().map(|(key, name)| find(SESSION, c"user", name) == Ok(*key)).collect();
    check_eq!(found, [true, true, true, true, true, true, false, false, false]);
    Ok(())
}

fn revoke() -> Outcome {
    fresh()?;
    let key = user(c"name", b"x", SESSION)?;
    check_eq!(ctl!(REVOKE, key)?, 0);
    check_err!(read(key), EKEYREVOKED);
    check_err!(ctl!(UPDATE, key, c"y".as_ptr(), 1), EKEYREVOKED);
    check_err!(describe_text(key), EKEYREVOKED);
    check_err!(ctl!(REVOKE, key), EKEYREVOKED);
    check_err!(ctl!(LINK, key, PROCESS), EKEYREVOKED);
    // Its name is free for a new one.
    let new = user(c"name", b"y", SESSION)?;
    check!(new != key);
    let ring = ring(c"ring", SESSION)?;
    ctl!(REVOKE, ring)?;
    check_err!(user(c"name", b"x", ring), EKEYREVOKED);
    check_eq!(ctl!(UNLINK, ring, SESSION)?, 0);
    Ok(())
}

fn invalidate() -> Outcome {
    fresh()?;
    let key = user(c"name", b"x", SESSION)?;
    check_eq!(ctl!(INVALIDATE, key)?, 0);
    check_err!(read(key), ENOKEY);
    check!(eventually(|| members(SESSION).is_ok_and(|list| list.is_empty())));
    check!(eventually(|| errno_of(ctl!(INVALIDATE, key)) == ENOKEY));
    Ok(())
}

fn timeouts() -> Outcome {
    fresh()?;
    let key = user(c"name", b"x", SESSION)?;
    ctl!(SET_TIMEOUT, key, 1)?;
    check_eq!(read(key)?, b"x");
    sleep_ms(2100);
    check_err!(read(key), EKEYEXPIRED);
    check_err!(find(SESSION, c"user", c"name"), EKEYEXPIRED);
    check_err!(request_key(c"user", c"name", None, 0), ENOKEY);
    check_err!(ctl!(SET_TIMEOUT, key, 0), EKEYEXPIRED);
    let key = user(c"other", b"x", SESSION)?;
    ctl!(SET_TIMEOUT, key, 1)?;
    ctl!(SET_TIMEOUT, key, 0)?;
    sleep_ms(1500);
    check_eq!(read(key)?, b"x");
    check_err!(ctl!(SET_TIMEOUT, 0x7fff_fff0, 1), ENOKEY);
    Ok(())
}

fn read_buffers() -> Outcome {
    fresh()?;
    let key = user(c"name", b"secret", SESSION)?;
    check_eq!(ctl!(READ, key, 0, 0)?, 6);
    let mut short = [9_u8; 4];
    check_eq!(ctl!(READ, key, short.as_mut_ptr(), 4)?, 6);
    check_eq!(short, [9; 4]);
    check_err!(ctl!(READ, key, 16, 100), EFAULT);
    check_err!(ctl!(READ, 0x7fff_fff0, 0, 0), ENOKEY);
    check_err!(ctl!(READ, 0, 0, 0), ENOKEY);
    check_eq!(ctl!(READ, SESSION, 0, 0)?, 4);
    Ok(())
}

fn request() -> Outcome {
    fresh()?;
    let key = user(c"name", b"x", SESSION)?;
    check_eq!(request_key(c"user", c"name", None, 0)?, key);
    let ring = ring(c"ring", SESSION)?;
    check_eq!(request_key(c"user", c"name", None, ring)?, key);
    check_eq!(members(ring)?, [key]);
    check_err!(request_key(c"user", c"other", None, 0), ENOKEY);
    check_err!(request_key(c"nonsense", c"name", None, 0), ENOKEY);
    check_err!(request_key(c".user", c"name", None, 0), EPERM);
    check_err!(sys!(SYS_request_key, 16, c"name".as_ptr(), 0, 0), EFAULT);
    check_err!(sys!(SYS_request_key, c"user".as_ptr(), 16, 0, 0), EFAULT);
    check_err!(sys!(SYS_request_key, c"user".as_ptr(), c"name".as_ptr(), 16, 0), EFAULT);
    check_err!(request_key(c"user", c"name", None, key), ENOTDIR);
    // The thread's keyring comes before the session's.
    let mine = user(c"name", b"y", THREAD)?;
    check_eq!(request_key(c"user", c"name", None, 0)?, mine);
    ctl!(REVOKE, mine)?;
    check_eq!(request_key(c"user", c"name", None, 0)?, key);
    ctl!(REVOKE, key)?;
    check_err!(request_key(c"user", c"name", None, 0), EKEYREVOKED);
    Ok(())
}

fn request_negative() -> Outcome {
    fresh()?;
    // There is no program to make keys: what was asked for is remembered as not to be had.
    let ring = ring(c"ring", SESSION)?;
    let first = errno_of(request_key(c"user", c"wanted", Some(c"info"), ring));
    check!(first == ENOKEY || first == ENOENT, "{first}");
    check_eq!(members(ring)?.len(), 1);
    let negative = members(ring)?[0];
    check_err!(request_key(c"user", c"wanted", Some(c"info"), ring), ENOKEY);
    check_err!(find(SESSION, c"user", c"wanted"), ENOKEY);
    check_err!(read(negative), ENOKEY);
    check!(describe_text(negative)?.starts_with("user;0;0;3f010000;wanted"));
    check_err!(request_key(c"keyring", c"wanted", Some(c"info"), ring), EPERM);
    // It gives way to a key.
    let key = user(c"wanted", b"x", ring)?;
    check_eq!(request_key(c"user", c"wanted", None, 0)?, key);
    Ok(())
}

fn default_keyring() -> Outcome {
    fresh()?;
    check_eq!(ctl!(SET_DEFAULT, -1_i32)?, 0);
    check_eq!(ctl!(SET_DEFAULT, 2)?, 0);
    check_eq!(ctl!(SET_DEFAULT, -1_i32)?, 2);
    check!(ctl!(GET_ID, PROCESS, 0).is_ok());
    let _ = request_key(c"user", c"wanted", Some(c"info"), 0);
    check_eq!(members(PROCESS)?.len(), 1);
    check_eq!(ctl!(SET_DEFAULT, 0)?, 2);
    check_err!(ctl!(SET_DEFAULT, 6), EINVAL);
    check_err!(ctl!(SET_DEFAULT, 8), EINVAL);
    check_err!(ctl!(SET_DEFAULT, -2_i32), EINVAL);
    Ok(())
}

fn restrict() -> Outcome {
    fresh()?;
    let ring = ring(c"ring", SESSION)?;
    let key = user(c"name", b"x", ring)?;
    check_err!(ctl!(RESTRICT, ring, c"user".as_ptr(), 0), EINVAL);
    check_err!(ctl!(RESTRICT, ring, 0, c"x".as_ptr()), EINVAL);
    check_err!(ctl!(RESTRICT, ring, c"nonsense".as_ptr(), c"x".as_ptr()), ENOKEY);
    check_err!(ctl!(RESTRICT, ring, c"user".as_ptr(), c"x".as_ptr()), ENOENT);
    check_err!(ctl!(RESTRICT, key, 0, 0), ENOTDIR);
    check_eq!(ctl!(RESTRICT, ring, 0, 0)?, 0);
    check_err!(ctl!(RESTRICT, ring, 0, 0), EEXIST);
    let other = user(c"other", b"x", SESSION)?;
    check_err!(ctl!(LINK, other, ring), EPERM);
    check_err!(user(c"new", b"x", ring), EPERM);
    check_eq!(ctl!(UNLINK, key, ring)?, 0);
    Ok(())
}

fn persistent() -> Outcome {
    fresh()?;
    let mine = ctl!(PERSISTENT, -1_i32, SESSION)? as i32;
    check!(describe_text(mine)?.starts_with("keyring;0;65534;1f030000;_persistent.0"));
    check!(members(SESSION)?.contains(&mine));
    let key = user(c"kept", b"x", mine)?;
    // It outlives the session.
    fresh()?;
    check_eq!(ctl!(PERSISTENT, 0, PROCESS)? as i32, mine);
    check_eq!(read(key)?, b"x");
    ctl!(UNLINK, key, mine)?;
    let theirs = ctl!(PERSISTENT, 1000, SESSION)? as i32;
    check!(describe_text(theirs)?.contains("_persistent.1000"));
    let key = user(c"plain", b"x", SESSION)?;
    check_err!(ctl!(PERSISTENT, -1_i32, key), ENOTDIR);
    let status = as_user(|| {
        all(&[
            errno_of(ctl!(PERSISTENT, 0, SESSION)) == EPERM,
            ctl!(PERSISTENT, 1000, SESSION).is_ok_and(|id| id as i32 == theirs),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn quota() -> Outcome {
    let status = as_user(|| {
        // Bytes.
        let bytes = errno_of(user(c"large", &[1; 20_000], SESSION)) == EDQUOT
            && user(c"fits", &[1; 15_000], SESSION).is_ok()
            && errno_of(user(c"second", &[1; 15_000], SESSION)) == EDQUOT
            && ctl!(CLEAR, SESSION).is_ok();
        // What is gone does not count.
        let again = eventually(|| user(c"again", &[1; 15_000], SESSION).is_ok());
        let _ = ctl!(CLEAR, SESSION);
        // Keys.
        let mut count = 0;
        let refused = loop {
            let name = std::ffi::CString::new(format!("key{count}")).unwrap_or_default();
            match user(&name, b"x", SESSION) {
                Ok(_) if count > 300 => break 0,
                Ok(_) => count += 1,
                Err(error) => break error.0,
            }
        };
        all(&[bytes, again, refused == EDQUOT, (150..=200).contains(&count)])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn instantiate_errors() -> Outcome {
    fresh()?;
    let key = user(c"name", b"x", SESSION)?;
    check_err!(ctl!(INSTANTIATE, key, c"x".as_ptr(), 1, SESSION), EPERM);
    check_err!(ctl!(INSTANTIATE, key, c"x".as_ptr(), 1 << 20, SESSION), EINVAL);
    check_err!(ctl!(NEGATE, key, 5, SESSION), EPERM);
    check_err!(ctl!(REJECT, key, 5, 0, SESSION), EINVAL);
    check_err!(ctl!(REJECT, key, 5, 4095, SESSION), EINVAL);
    check_err!(ctl!(REJECT, key, 5, 512, SESSION), EINVAL);
    check_err!(ctl!(REJECT, key, 5, 1, SESSION), EPERM);
    check_err!(ctl!(INSTANTIATE_IOV, key, 0, 0, SESSION), EPERM);
    check_err!(ctl!(ASSUME, -1_i32), EINVAL);
    check_eq!(ctl!(ASSUME, 0)?, 0);
    check_err!(ctl!(ASSUME, key), ENOKEY);
    Ok(())
}

fn capabilities() -> Outcome {
    let mut bytes = [9_u8; 8];
    let len = ctl!(CAPABILITIES, bytes.as_mut_ptr(), bytes.len())?;
    check!(len >= 2);
    check_eq!(bytes[0] & 0xe3, 0xe3);
    fresh()?;
    check_eq!(bytes[0] & 0x10 != 0, big(c"big", b"x")?.is_some());
    check_eq!(bytes[1] & 1, 1);
    check_eq!(bytes[len..], [0; 8][len..]);
    let mut one = [9_u8; 2];
    check_eq!(ctl!(CAPABILITIES, one.as_mut_ptr(), 1)?, len);
    check_eq!(one[1], 9);
    check_eq!(ctl!(CAPABILITIES, 0, 0)?, len);
    check_err!(ctl!(CAPABILITIES, 16, 2), EFAULT);
    Ok(())
}

fn unknown_operations() -> Outcome {
    check_err!(ctl!(33), EOPNOTSUPP);
    check_err!(ctl!(1000), EOPNOTSUPP);
    Ok(())
}

/// The line of /proc/keys for `id`, in words.
fn proc_line(id: i32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string("/proc/keys").ok()?;
    let line = text.lines().find(|line| line.starts_with(&format!("{id:08x} ")))?;
    Some(line.split_whitespace().map(str::to_string).collect())
}

fn proc_keys() -> Outcome {
    fresh()?;
    let key = user(c"name", b"secret", SESSION)?;
    let Some(line) = proc_line(key) else { return Err(Failure::new("no line")) };
    check_eq!(line[1], "I--Q---");
    check_eq!(line[3..], ["perm", "3f010000", "0", "0", "user", "name:", "6"].map(String::from));
    ctl!(SET_TIMEOUT, key, 600)?;
    check!(proc_line(key).is_some_and(|line| line[3] == "9m" || line[3] == "10m"));
    let ring = ring(c"ring", SESSION)?;
    check!(proc_line(ring).is_some_and(|line| line[7..] == ["keyring", "ring:", "empty"].map(String::from)));
    user(c"inside", b"x", ring)?;
    check!(proc_line(ring).is_some_and(|line| line[9] == "1"));
    ctl!(SETPERM, key, 0x3e00_0000)?;
    check!(proc_line(key).is_none());
    let raw = std::fs::read_to_string("/proc/keys")?;
    let row = raw.lines().find(|l| l.starts_with(&format!("{ring:08x}"))).unwrap_or_default();
    check!(row.contains(" perm 3f010000     0     0 keyring   ring: 1"), "{row}");
    Ok(())
}

fn proc_key_users() -> Outcome {
    fresh()?;
    let count = || -> Option<(usize, usize)> {
        let text = std::fs::read_to_string("/proc/key-users").ok()?;
        let line = text.lines().find(|line| line.trim_start().starts_with("0:"))?.to_string();
        let words: Vec<&str> = line.split_whitespace().collect();
        let first = |word: &str| word.split('/').next().and_then(|n| n.parse().ok());
        Some((first(words.get(3)?)?, first(words.get(4)?)?))
    };
    let before = count();
    user(c"counted", &[1; 100], SESSION)?;
    let after = count();
    let (Some(before), Some(after)) = (before, after) else { return Err(Failure::new("no line")) };
    check!(after.0 >= before.0);
    let text = std::fs::read_to_string("/proc/key-users")?;
    check!(text.contains("/1000000 "));
    check!(text.contains("/25000000"));
    Ok(())
}

fn sysctls() -> Outcome {
    let directory = "/proc/sys/kernel/keys";
    for (name, value) in [
        ("maxkeys", "200"),
        ("maxbytes", "20000"),
        ("root_maxkeys", "1000000"),
        ("root_maxbytes", "25000000"),
        ("gc_delay", "300"),
        ("persistent_keyring_expiry", "259200"),
    ] {
        let text = std::fs::read_to_string(format!("{directory}/{name}"))?;
        check_eq!((name, text.trim()), (name, value));
    }
    spew(c"/proc/sys/kernel/keys/maxkeys", "10")?;
    // A user without keys: those of tests before count until they are collected.
    let status = as_id(1731, || {
        let mut count = 0;
        loop {
            let name = std::ffi::CString::new(format!("key{count}")).unwrap_or_default();
            match user(&name, b"x", SESSION) {
                Ok(_) => count += 1,
                Err(_) => return count,
            }
        }
    })?;
    spew(c"/proc/sys/kernel/keys/maxkeys", "200")?;
    check!((1..=10).contains(&status), "{status}");
    Ok(())
}

fn long_chain() -> Outcome {
    fresh()?;
    // Each keyring in the one before: taken down in good order.
    let first = ring(c"first", SESSION)?;
    let mut at = first;
    for _ in 0..2000 {
        // Possessed through the process's keyring until the next one takes its place there.
        let deeper = ring(c"deeper", PROCESS)?;
        ctl!(SETPERM, deeper, 0x3f3f_0000)?;
        ctl!(LINK, deeper, at)?;
        at = deeper;
    }
    ctl!(CLEAR, PROCESS)?;
    fresh()?;
    check!(eventually(|| errno_of(describe_text(first)) == ENOKEY));
    Ok(())
}
