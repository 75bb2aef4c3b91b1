//! Who may enter and make namespaces, and write their maps: setns(2), unshare(2), user_namespaces(7), pid_namespaces(7).

use crate::prelude::*;
use std::ffi::{CStr, CString};

tests![
    setns_needs_rights_over_the_owner,
    rights_inside_are_none_outside,
    setns_into_ones_own_user_namespace,
    setns_by_pidfd_joins_all_or_none,
    setns_of_a_user_namespace_needs_directories_of_its_own,
    setns_enters_at_what_is_on_top,
    no_user_namespace_in_a_chroot,
    one_new_pid_namespace_at_a_time,
    maps_are_the_openers,
    mapping_root_needs_setfcap,
    namespace_relations,
    so_many_namespaces_each,
    limits_hold_for_those_inside,
];

/// An id that stays.
const KEEP: i32 = -1;

const KINDS: [&CStr; 7] = [
    c"/proc/self/ns/uts",
    c"/proc/self/ns/ipc",
    c"/proc/self/ns/net",
    c"/proc/self/ns/mnt",
    c"/proc/self/ns/pid",
    c"/proc/self/ns/cgroup",
    c"/proc/self/ns/time",
];

fn host_name() -> Vec<u8> {
    let mut name: utsname = zeroed();
    let _ = sys!(SYS_uname, addr_mut(&mut name));
    name.nodename.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect()
}

fn file_of(pid: i32, name: &str) -> CString {
    CString::new(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

/// An ordinary user whose files in /proc are still its own.
fn become_user() -> bool {
    sys!(SYS_setresgid, 1000, 1000, 1000).is_ok()
        && sys!(SYS_setresuid, 1000, 1000, 1000).is_ok()
        && sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0).is_ok()
}

/// A child that makes new namespaces and stays until it is killed.
fn stayer(flags: i32, prepare: impl FnOnce() -> bool) -> crate::sys::Result<i32> {
    let ready = pipe(0)?;
    let child = fork(|| {
        if !prepare() || sys!(SYS_unshare, flags).is_err() {
            return 1;
        }
        let _ = write(ready[1], b"x");
        sleep_ms(60_000);
        0
    })?;
    close(ready[1])?;
    let came = read_vec(ready[0], 1)?;
    close(ready[0])?;
    if came == b"x" { Ok(child) } else { Err(Errno(ECHILD)) }
}

fn end(child: i32) -> crate::sys::Result<()> {
    kill(child, SIGKILL)?;
    wait(child).map(drop)
}

/// All capabilities in a namespace below are none in those above.
fn setns_needs_rights_over_the_owner() -> Outcome {
    let mut fds = Vec::new();
    for name in KINDS {
        fds.push(open(name, O_RDONLY, 0)?);
    }
    for (fd, name) in fds.into_iter().zip(KINDS) {
        let status = in_child(|| {
            let mine = sys!(SYS_unshare, CLONE_NEWUSER).is_ok();
            let before = (sys!(SYS_setns, fd, 0), 0);
            i32::from(!mine) << 1 | i32::from(before.0 != Err(Errno(EPERM)))
        })?;
        check_eq!((name, status), (name, 0));
    }
    Ok(())
}

/// Host name, the machine itself, and other processes' ids belong to the namespaces around.
fn rights_inside_are_none_outside() -> Outcome {
    let ends = socketpair_of_credentials()?;
    let status = in_child(|| {
        let mine = sys!(SYS_unshare, CLONE_NEWUSER).is_ok();
        let named = sys!(SYS_sethostname, c"x".as_ptr(), 1) == Err(Errno(EPERM));
        // The magic numbers are looked at later.
        let halted = sys!(SYS_reboot, 0, 0, 0, 0) == Err(Errno(EPERM));
        let mapped = spew(c"/proc/self/setgroups", "deny").is_ok()
            && spew(c"/proc/self/uid_map", "0 0 1").is_ok()
            && spew(c"/proc/self/gid_map", "0 0 1").is_ok();
        let posed = send_as(ends[0], 1) == Err(Errno(EPERM)) && send_as(ends[0], getpid()).is_ok();
        let bad = [!mine, !named, !halted, !mapped, !posed];
        bad.iter().enumerate().fold(0, |all, (n, bad)| all | i32::from(*bad) << n)
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn socketpair_of_credentials() -> crate::sys::Result<[i32; 2]> {
    let mut ends = [0_i32; 2];
    sys!(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, addr_mut(&mut ends))?;
    Ok(ends)
}

/// Sends a byte with credentials of this process.
fn send_as(socket: i32, pid: i32) -> crate::sys::Result<usize> {
    #[repr(C)]
    struct Control {
        len: usize,
        level: i32,
        kind: i32,
        credentials: [i32; 4],
    }
    let ids = [sys!(SYS_getuid)? as i32, sys!(SYS_getgid)? as i32];
    let credentials = [pid, ids[0], ids[1], 0];
    let control = Control { len: 16 + 12, level: SOL_SOCKET, kind: SCM_CREDENTIALS, credentials };
    let byte = [1_u8];
    let part = [addr(&byte), 1];
    // `struct msghdr`: name, length of the name, parts, their number, control, its length, flags.
    let header = [0, 0, addr(&part), 1, addr(&control), 16 + 12, 0];
    sys!(SYS_sendmsg, socket, addr(&header), 0)
}

/// Who made a user namespace has all rights in it, even without any capability of his own.
fn setns_into_ones_own_user_namespace() -> Outcome {
    let status = in_child(|| {
        if !become_user() {
            return 10;
        }
        let Ok(child) = stayer(CLONE_NEWUSER | CLONE_NEWUTS, || true) else { return 11 };
        let Ok(user) = open(&file_of(child, "ns/user"), O_RDONLY, 0) else { return 12 };
        let Ok(uts) = open(&file_of(child, "ns/uts"), O_RDONLY, 0) else { return 13 };
        let alone = sys!(SYS_setns, uts, 0) == Err(Errno(EPERM));
        let joined = sys!(SYS_setns, user, CLONE_NEWUSER);
        let again = sys!(SYS_setns, user, CLONE_NEWUSER) == Err(Errno(EINVAL));
        let inside = sys!(SYS_setns, uts, 0).is_ok() && sys!(SYS_sethostname, c"x".as_ptr(), 1).is_ok();
        let _ = end(child);
        i32::from(!alone) | i32::from(joined.is_err()) << 1 | i32::from(!again) << 2 | i32::from(!inside) << 3
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn setns_by_pidfd_joins_all_or_none() -> Outcome {
    let outside = sys!(SYS_pidfd_open, getpid(), 0)?;
    let status = in_child(|| {
        if sys!(SYS_unshare, CLONE_NEWPID | CLONE_NEWUTS).is_err()
            || sys!(SYS_sethostname, c"inner".as_ptr(), 5).is_err()
        {
            return 1;
        }
        // In a pid namespace below that of the other process, which cannot be left upwards.
        let status = in_child(|| {
            let refused = sys!(SYS_setns, outside, CLONE_NEWUTS | CLONE_NEWPID) == Err(Errno(EINVAL));
            let stayed = host_name() == b"inner";
            let moved =
                sys!(SYS_setns, outside, CLONE_NEWUTS | CLONE_NEWIPC).is_ok() && host_name() != b"inner";
            i32::from(!refused) << 1 | i32::from(!stayed) << 2 | i32::from(!moved) << 3
        });
        status.unwrap_or(1)
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn setns_of_a_user_namespace_needs_directories_of_its_own() -> Outcome {
    let child = stayer(CLONE_NEWUSER, || true)?;
    let user = open(&file_of(child, "ns/user"), O_RDONLY, 0)?;
    let sharing = sys!(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0)? as i32;
    if sharing == 0 {
        let refused = sys!(SYS_setns, user, 0) == Err(Errno(EINVAL));
        let own = sys!(SYS_unshare, CLONE_FS).is_ok() && sys!(SYS_setns, user, 0).is_ok();
        exit(i32::from(!refused) | i32::from(!own) << 1);
    }
    let status = wait_exit(sharing)?;
    end(child)?;
    check_eq!(status, 0);
    Ok(())
}

/// The root of a mount namespace may be covered; who enters stands on what covers it.
fn setns_enters_at_what_is_on_top() -> Outcome {
    let covering = || {
        let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
        sys!(SYS_unshare, CLONE_NEWNS).is_ok()
            && sys!(SYS_mount, none, root, none, MS_REC | MS_PRIVATE, 0).is_ok()
            && sys!(SYS_mount, none, root, c"tmpfs".as_ptr(), 0, 0).is_ok()
    };
    let child = stayer(0, covering)?;
    let ns = open(&file_of(child, "ns/mnt"), O_RDONLY, 0)?;
    let status = in_child(|| {
        let joined = sys!(SYS_setns, ns, CLONE_NEWNS).is_ok();
        let entries = std::fs::read_dir("/").map_or(99, Iterator::count);
        i32::from(!joined) | i32::from(entries != 0) << 1
    })?;
    end(child)?;
    check_eq!(status, 0);
    Ok(())
}

fn no_user_namespace_in_a_chroot() -> Outcome {
    mkdir(c"d", 0o755)?;
    let status = in_child(|| {
        let caged = sys!(SYS_chroot, c"d".as_ptr()).is_ok();
        let unshared = sys!(SYS_unshare, CLONE_NEWUSER) == Err(Errno(EPERM));
        let cloned = sys!(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
        if cloned == Ok(0) {
            exit(0);
        }
        i32::from(!caged) | i32::from(!unshared) << 1 | i32::from(cloned != Err(Errno(EPERM))) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn one_new_pid_namespace_at_a_time() -> Outcome {
    let status = in_child(|| {
        let first = sys!(SYS_unshare, CLONE_NEWPID).is_ok();
        let second = sys!(SYS_unshare, CLONE_NEWPID) == Err(Errno(EINVAL));
        // Nor can threads be made, which would live in two.
        let flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
        let thread = sys!(SYS_clone, flags, 0, 0, 0, 0);
        if thread == Ok(0) {
            exit(0);
        }
        i32::from(!first) | i32::from(!second) << 1 | i32::from(thread != Err(Errno(EINVAL))) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

/// What counts is who opened the map, not whom he could make write into it.
fn maps_are_the_openers() -> Outcome {
    for (name, map) in [("uid_map", "0 0 1"), ("gid_map", "0 0 1")] {
        let child = stayer(CLONE_NEWUSER, become_user)?;
        let status = in_child(|| {
            let lowered = sys!(SYS_setresgid, KEEP, 1000, KEEP).is_ok()
                && sys!(SYS_setresuid, KEEP, 1000, KEEP).is_ok();
            let Ok(fd) = open(&file_of(child, name), O_WRONLY, 0) else { return 10 };
            let raised =
                sys!(SYS_setresuid, KEEP, 0, KEEP).is_ok() && sys!(SYS_setresgid, KEEP, 0, KEEP).is_ok();
            let refused = write(fd, map.as_bytes()) == Err(Errno(EPERM));
            let own = spew(&file_of(child, name), map).is_ok();
            i32::from(!lowered) | i32::from(!raised) << 1 | i32::from(!refused) << 2 | i32::from(!own) << 3
        })?;
        end(child)?;
        check_eq!((name, status), (name, 0));
    }
    Ok(())
}

fn mapping_root_needs_setfcap() -> Outcome {
    let status = in_child(|| {
        #[repr(C)]
        struct Header {
            version: u32,
            pid: i32,
        }
        let header = Header { version: 0x2008_0522, pid: 0 };
        let mut sets = [0_u32; 6];
        let _ = sys!(SYS_capget, addr(&header), addr_mut(&mut sets));
        // CAP_SETFCAP leaves the effective set.
        sets[0] &= !(1 << 31);
        let dropped = sys!(SYS_capset, addr(&header), addr(&sets)).is_ok();
        let made = sys!(SYS_unshare, CLONE_NEWUSER).is_ok();
        let refused = spew(c"/proc/self/uid_map", "0 0 1") == Err(Errno(EPERM));
        i32::from(!dropped) | i32::from(!made) << 1 | i32::from(!refused) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

/// ioctl_ns(2).
fn namespace_relations() -> Outcome {
    const NS_GET_USERNS: usize = 0xb701;
    const NS_GET_PARENT: usize = 0xb702;
    const NS_GET_NSTYPE: usize = 0xb703;
    const NS_GET_OWNER_UID: usize = 0xb704;
    let child = stayer(CLONE_NEWUSER | CLONE_NEWUTS, || true)?;
    let uts = open(&file_of(child, "ns/uts"), O_RDONLY, 0)?;
    let user = open(&file_of(child, "ns/user"), O_RDONLY, 0)?;
    let same = |a: i32, b: i32| {
        fstat(a).and_then(|a| fstat(b).map(|b| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)))
    };
    check_eq!(sys!(SYS_ioctl, uts, NS_GET_NSTYPE)?, CLONE_NEWUTS as usize);
    check_eq!(sys!(SYS_ioctl, user, NS_GET_NSTYPE)?, CLONE_NEWUSER as usize);
    let owner = sys!(SYS_ioctl, uts, NS_GET_USERNS)? as i32;
    check!(same(owner, user)?);
    check_eq!(fcntl(owner, F_GETFD, 0)?, FD_CLOEXEC as usize);
    let parent = sys!(SYS_ioctl, user, NS_GET_PARENT)? as i32;
    check!(same(parent, open(c"/proc/self/ns/user", O_RDONLY, 0)?)?);
    let above = sys!(SYS_ioctl, user, NS_GET_USERNS)? as i32;
    check!(same(parent, above)?);
    check_err!(sys!(SYS_ioctl, parent, NS_GET_PARENT), EPERM);
    check_err!(sys!(SYS_ioctl, uts, NS_GET_PARENT), EINVAL);
    let mut uid = 77_u32;
    sys!(SYS_ioctl, user, NS_GET_OWNER_UID, addr_mut(&mut uid))?;
    check_eq!(uid, 0);
    check_err!(sys!(SYS_ioctl, uts, NS_GET_OWNER_UID, addr_mut(&mut uid)), EINVAL);
    check_err!(sys!(SYS_ioctl, uts, 0xb7ff), ENOTTY);
    end(child)?;
    Ok(())
}

/// The limit of each kind and the flag that makes one.
const LIMITS: [(&CStr, i32); 8] = [
    (c"/proc/sys/user/max_uts_namespaces", CLONE_NEWUTS),
    (c"/proc/sys/user/max_ipc_namespaces", CLONE_NEWIPC),
    (c"/proc/sys/user/max_net_namespaces", CLONE_NEWNET),
    (c"/proc/sys/user/max_mnt_namespaces", CLONE_NEWNS),
    (c"/proc/sys/user/max_pid_namespaces", CLONE_NEWPID),
    (c"/proc/sys/user/max_cgroup_namespaces", CLONE_NEWCGROUP),
    (c"/proc/sys/user/max_time_namespaces", 0x80),
    (c"/proc/sys/user/max_user_namespaces", CLONE_NEWUSER),
];

fn so_many_namespaces_each() -> Outcome {
    for (file, flag) in LIMITS {
        let old = slurp(file)?;
        check!(old.trim().parse::<u32>().is_ok_and(|limit| limit > 0), "{file:?}: {old}");
        crate::sys::spew(file, "0")?;
        let none = in_child(|| i32::from(sys!(SYS_unshare, flag) != Err(Errno(ENOSPC))));
        crate::sys::spew(file, old.trim())?;
        check_eq!(none?, 0);
        check_eq!(in_child(|| i32::from(sys!(SYS_unshare, flag).is_err()))?, 0);
        check_err!(crate::sys::spew(file, "-1"), EINVAL);
        check_err!(crate::sys::spew(file, "2147483648"), EINVAL);
    }
    Ok(())
}

fn limits_hold_for_those_inside() -> Outcome {
    let file = c"/proc/sys/user/max_uts_namespaces";
    // Counted for the user, and for the makers of the user namespaces around.
    let status = in_child(|| {
        if !become_user() || sys!(SYS_unshare, CLONE_NEWUSER).is_err() {
            return 1;
        }
        // A namespace of one's own has limits of its own, as high as can be.
        let fresh = slurp(file).map(|text| text.trim() == "2147483647");
        let made = (0..3).all(|_| sys!(SYS_unshare, CLONE_NEWUTS).is_ok());
        i32::from(fresh != Ok(true)) << 1 | i32::from(!made) << 2
    })?;
    check_eq!(status, 0);
    let old = slurp(file)?;
    crate::sys::spew(file, "1")?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 4712, 4712, 4712);
        if sys!(SYS_unshare, CLONE_NEWUSER).is_err() {
            return 1;
        }
        let first = sys!(SYS_unshare, CLONE_NEWUTS);
        // The one that it leaves goes only when the new one is there.
        let second = sys!(SYS_unshare, CLONE_NEWUTS);
        let other = in_child(|| i32::from(sys!(SYS_unshare, CLONE_NEWUTS) != Err(Errno(ENOSPC))));
        i32::from(first.is_err()) << 1
            | i32::from(second != Err(Errno(ENOSPC))) << 2
            | i32::from(other != Ok(0)) << 3
    });
    crate::sys::spew(file, old.trim())?;
    check_eq!(status?, 0);
    Ok(())
}
