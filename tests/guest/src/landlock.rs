//! Restrictions that a thread puts on itself: landlock(7).

use crate::prelude::*;
use std::ffi::CStr;

tests![
    version,
    create_errors,
    ruleset_descriptor,
    add_path_errors,
    add_port_errors,
    restrict_errors,
    files_read_and_write,
    rights_of_making,
    rights_of_removing,
    rules_add_up,
    layers_intersect,
    sixteen_layers,
    execute,
    truncate,
    ioctl_of_devices,
    refer_needs_the_right,
    refer_must_not_gain,
    rename_in_one_directory,
    exchange,
    links,
    mount_points_and_roots,
    internal_files,
    mounts_stay,
    only_ports,
    opened_before,
    inherited,
    inspect_only_below,
    scope_signal,
    scope_socket,
    not_restricted,
];

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const ALL: u64 = (1 << 16) - 1;
const FILE: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

const BIND_TCP: u64 = 1;
const CONNECT_TCP: u64 = 2;

const SCOPE_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;

const PATH_BENEATH: usize = 1;
const NET_PORT: usize = 2;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attr {
    fs: u64,
    net: u64,
    scoped: u64,
}

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Beneath {
    allowed: u64,
    fd: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Port {
    allowed: u64,
    port: u64,
}

type Res<T> = crate::sys::Result<T>;

fn create_ruleset(attr: &Attr) -> Res<i32> {
    sys!(SYS_landlock_create_ruleset, addr(attr), 24, 0).map(|fd| fd as i32)
}

fn add_fd(ruleset: i32, fd: i32, allowed: u64) -> Res<usize> {
    let rule = Beneath { allowed, fd };
    sys!(SYS_landlock_add_rule, ruleset, PATH_BENEATH, std::ptr::from_ref(&rule) as usize, 0)
}

fn add_path(ruleset: i32, path: &CStr, allowed: u64) -> Res<usize> {
    let fd = open(path, O_PATH | O_CLOEXEC, 0)?;
    let added = add_fd(ruleset, fd, allowed);
    close(fd)?;
    added
}

fn add_port(ruleset: i32, port: u64, allowed: u64) -> Res<usize> {
    let rule = Port { allowed, port };
    sys!(SYS_landlock_add_rule, ruleset, NET_PORT, addr(&rule), 0)
}

fn restrict(ruleset: i32) -> Res<usize> {
    sys!(SYS_landlock_restrict_self, ruleset, 0)
}

/// Restricts the calling thread: `handled` about files, with `rules`.
fn confine(handled: u64, rules: &[(&CStr, u64)]) -> Res<()> {
    let ruleset = create_ruleset(&Attr { fs: handled, ..Attr::default() })?;
    for (path, allowed) in rules {
        add_path(ruleset, path, *allowed)?;
    }
    restrict(ruleset)?;
    close(ruleset)
}

/// Runs `body` in a child that is confined like that; it says with a number what failed.
fn confined(handled: u64, rules: &[(&CStr, u64)], body: impl FnOnce() -> i32) -> Res<i32> {
    in_child(|| match confine(handled, rules) {
        Ok(()) => body(),
        Err(error) => 100 + error.0,
    })
}

fn errno_of<T>(result: Res<T>) -> i32 {
    result.err().map_or(0, |e| e.0)
}

/// 0 if all is true, otherwise the position (from 1) of the first that is not.
fn all(facts: &[bool]) -> i32 {
    facts.iter().position(|fact| !fact).map_or(0, |at| at as i32 + 1)
}

fn try_open(path: &CStr, flags: i32) -> i32 {
    match open(path, flags, 0o644) {
        Ok(fd) => {
            let _ = close(fd);
            0
        }
        Err(error) => error.0,
    }
}

/// Directories a and b with a file each.
fn tree() -> Res<()> {
    for dir in [c"a", c"b", c"a/sub"] {
        mkdir(dir, 0o755)?;
    }
    for file in [c"a/file", c"b/file", c"a/sub/file"] {
        close(create(file, b"text")?)?;
    }
    Ok(())
}

fn rename(old: &CStr, new: &CStr, flags: usize) -> i32 {
    errno_of(sys!(SYS_renameat2, CWD, old.as_ptr(), CWD, new.as_ptr(), flags))
}

fn link(old: &CStr, new: &CStr) -> i32 {
    errno_of(sys!(SYS_linkat, CWD, old.as_ptr(), CWD, new.as_ptr(), 0))
}

fn version() -> Outcome {
    let version = sys!(SYS_landlock_create_ruleset, 0, 0, 1)?;
    check_eq!(version, 6);
    let attr = Attr { fs: ALL, ..Attr::default() };
    check_err!(sys!(SYS_landlock_create_ruleset, addr(&attr), 0, 1), EINVAL);
    check_err!(sys!(SYS_landlock_create_ruleset, 0, 8, 1), EINVAL);
    check_err!(sys!(SYS_landlock_create_ruleset, 0, 0, 1 << 31), EINVAL);
    Ok(())
}

fn create_errors() -> Outcome {
    let make = |attr: Attr, size: usize| sys!(SYS_landlock_create_ruleset, addr(&attr), size, 0);
    let good = Attr { fs: READ_FILE, ..Attr::default() };
    check_err!(sys!(SYS_landlock_create_ruleset, 0, 24, 0), EFAULT);
    check_err!(sys!(SYS_landlock_create_ruleset, 16, 24, 0), EFAULT);
    check_err!(make(good, 0), EINVAL);
    check_err!(make(good, 7), EINVAL);
    check_err!(make(good, 4097), E2BIG);
    for size in [8, 16, 24] {
        close(make(good, size)? as i32)?;
    }
    let longer = [READ_FILE, 0, 0, 0];
    check!(sys!(SYS_landlock_create_ruleset, addr(&longer), 32, 0).is_ok());
    let longer = [READ_FILE, 0, 0, 1];
    check_err!(sys!(SYS_landlock_create_ruleset, addr(&longer), 32, 0), E2BIG);
    check_err!(make(Attr { fs: ALL + 1, ..good }, 24), EINVAL);
    check_err!(make(Attr { net: 4, ..good }, 24), EINVAL);
    check_err!(make(Attr { scoped: 4, ..good }, 24), EINVAL);
    check_err!(make(Attr::default(), 24), ENOMSG);
    for attr in [Attr { net: 3, ..Attr::default() }, Attr { scoped: 3, ..Attr::default() }] {
        check!(make(attr, 24).is_ok());
    }
    Ok(())
}

fn ruleset_descriptor() -> Outcome {
    let fd = create_ruleset(&Attr { fs: ALL, ..Attr::default() })?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_ACCMODE, O_RDWR);
    check_err!(read_vec(fd, 8), EINVAL);
    check_err!(write(fd, b"x"), EINVAL);
    let name = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    check_eq!(name.to_string_lossy(), "anon_inode:[landlock-ruleset]");
    Ok(())
}

fn add_path_errors() -> Outcome {
    tree()?;
    let ruleset = create_ruleset(&Attr { fs: READ_FILE | READ_DIR | WRITE_FILE, ..Attr::default() })?;
    let dir = open(c"a", O_PATH, 0)?;
    let rule = Beneath { allowed: READ_FILE, fd: dir };
    let at = std::ptr::from_ref(&rule) as usize;
    check_err!(sys!(SYS_landlock_add_rule, ruleset, PATH_BENEATH, at, 1), EINVAL);
    check_err!(sys!(SYS_landlock_add_rule, -1_i32, PATH_BENEATH, at, 0), EBADF);
    check_err!(sys!(SYS_landlock_add_rule, dir, PATH_BENEATH, at, 0), EBADF);
    let plain = open(c"a", O_RDONLY, 0)?;
    check_err!(sys!(SYS_landlock_add_rule, plain, PATH_BENEATH, at, 0), EBADFD);
    check_err!(sys!(SYS_landlock_add_rule, ruleset, 0, at, 0), EINVAL);
    check_err!(sys!(SYS_landlock_add_rule, ruleset, 3, at, 0), EINVAL);
    check_err!(sys!(SYS_landlock_add_rule, ruleset, PATH_BENEATH, 0, 0), EFAULT);
    check_err!(add_fd(ruleset, dir, 0), ENOMSG);
    check_err!(add_fd(ruleset, dir, EXECUTE), EINVAL);
    check_err!(add_fd(ruleset, dir, 1 << 40), EINVAL);
    check_err!(add_fd(ruleset, -1, READ_FILE), EBADF);
    // What has no name: the ruleset, pipes, sockets, anonymous files.
    check_err!(add_fd(ruleset, ruleset, READ_FILE), EBADFD);
    check_err!(add_fd(ruleset, pipe(0)?[0], READ_FILE), EBADFD);
    let socket = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)? as i32;
    check_err!(add_fd(ruleset, socket, READ_FILE), EBADFD);
    let event = sys!(SYS_eventfd2, 0, 0)? as i32;
    check_err!(add_fd(ruleset, event, READ_FILE), EBADFD);
    // Rights of directories do not go with files.
    check_err!(add_path(ruleset, c"a/file", READ_DIR), EINVAL);
    check_eq!(add_path(ruleset, c"a/file", READ_FILE | WRITE_FILE)?, 0);
    check_eq!(add_fd(ruleset, plain, READ_DIR)?, 0);
    Ok(())
}

fn add_port_errors() -> Outcome {
    let ruleset = create_ruleset(&Attr { net: BIND_TCP, ..Attr::default() })?;
    check_eq!(add_port(ruleset, 80, BIND_TCP)?, 0);
    check_eq!(add_port(ruleset, 0, BIND_TCP)?, 0);
    check_eq!(add_port(ruleset, 65535, BIND_TCP)?, 0);
    check_err!(add_port(ruleset, 65536, BIND_TCP), EINVAL);
    check_err!(add_port(ruleset, 80, CONNECT_TCP), EINVAL);
    check_err!(add_port(ruleset, 80, 0), ENOMSG);
    check_err!(sys!(SYS_landlock_add_rule, ruleset, NET_PORT, 16, 0), EFAULT);
    let files = create_ruleset(&Attr { fs: READ_FILE, ..Attr::default() })?;
    check_err!(add_port(files, 80, BIND_TCP), EINVAL);
    check_err!(add_path(ruleset, c"/", READ_FILE), EINVAL);
    Ok(())
}

fn restrict_errors() -> Outcome {
    let ruleset = create_ruleset(&Attr { fs: MAKE_SOCK, ..Attr::default() })?;
    check_err!(sys!(SYS_landlock_restrict_self, ruleset, 1), EINVAL);
    check_err!(restrict(-1), EBADF);
    let plain = open(c"/", O_RDONLY, 0)?;
    check_err!(restrict(plain), EBADFD);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let before = errno_of(restrict(ruleset));
        // Noticed before everything else.
        let bad = errno_of(sys!(SYS_landlock_restrict_self, -1_i32, 1));
        let _ = sys!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        all(&[before == EPERM, bad == EPERM, restrict(ruleset).is_ok()])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn files_read_and_write() -> Outcome {
    tree()?;
    let handled = READ_FILE | WRITE_FILE | READ_DIR;
    let status = confined(handled, &[(c"a", READ_FILE | READ_DIR), (c"b/file", WRITE_FILE)], || {
        all(&[
            try_open(c"a/file", O_RDONLY) == 0,
            try_open(c"a/sub/file", O_RDONLY) == 0,
            try_open(c"a/file", O_WRONLY) == EACCES,
            try_open(c"a/file", O_RDWR) == EACCES,
            try_open(c"a", O_RDONLY | O_DIRECTORY) == 0,
            try_open(c"b", O_RDONLY | O_DIRECTORY) == EACCES,
            try_open(c".", O_RDONLY) == EACCES,
            try_open(c"b/file", O_WRONLY) == 0,
            try_open(c"b/file", O_RDONLY) == EACCES,
            try_open(c"b/../a/file", O_RDONLY) == 0,
            try_open(c"/dev/null", O_RDONLY) == EACCES,
            // Ordinary rules come first.
            try_open(c"b/none", O_RDONLY) == ENOENT,
            // A place without access to the data.
            try_open(c"b/file", O_PATH) == 0,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn mknod(path: &CStr, mode: u32) -> i32 {
    // Whatever has a number gets that of /dev/null.
    errno_of(sys!(SYS_mknodat, CWD, path.as_ptr(), mode, 0x103))
}

fn make_each(dir: &str) -> [i32; 7] {
    let at = |name: &str| std::ffi::CString::new(format!("{dir}/{name}")).unwrap_or_default();
    let socket = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).unwrap_or(0);
    let path = at("socket");
    let mut name: sockaddr_un = zeroed();
    name.sun_family = AF_UNIX as u16;
    for (to, from) in name.sun_path.iter_mut().zip(path.as_bytes()) {
        *to = *from as c_char;
    }
    [
        errno_of(mkdir(&at("dir"), 0o755)),
        try_open(&at("regular"), O_WRONLY | O_CREAT),
        mknod(&at("fifo"), S_IFIFO | 0o600),
        errno_of(symlink(c"x", &at("link"))),
        errno_of(sys!(SYS_bind, socket, addr(&name), size_of::<sockaddr_un>())),
        mknod(&at("plain"), S_IFREG | 0o600),
        mknod(&at("char"), S_IFCHR | 0o600),
    ]
}

fn rights_of_making() -> Outcome {
    tree()?;
    let handled = MAKE_DIR | MAKE_REG | MAKE_FIFO | MAKE_SYM | MAKE_SOCK | MAKE_CHAR;
    let rights = [MAKE_DIR, MAKE_REG, MAKE_FIFO, MAKE_SYM, MAKE_SOCK, MAKE_REG, MAKE_CHAR];
    for right in [MAKE_DIR, MAKE_REG, MAKE_FIFO, MAKE_SYM, MAKE_SOCK, MAKE_CHAR] {
        let status = in_child(|| {
            let dir = format!("b/{right}");
            let _ = std::fs::create_dir(&dir);
            if confine(handled, &[(c"b", right)]).is_err() {
                return 99;
            }
            let refused = make_each("a");
            let expected = rights.map(|r| if r == right { 0 } else { EACCES });
            let made = make_each(&dir);
            let device = made[6] == expected[6];
            all(&[refused == [EACCES; 7], made[..6] == expected[..6], device])
        })?;
        check_eq!((right, status), (right, 0));
    }
    // An existing name is noticed first, and what is opened is not made.
    let status = confined(handled | WRITE_FILE, &[(c"a", WRITE_FILE)], || {
        all(&[
            errno_of(mkdir(c"a/sub", 0o755)) == EEXIST,
            try_open(c"a/file", O_WRONLY | O_CREAT) == 0,
            try_open(c"a/new", O_WRONLY | O_CREAT) == EACCES,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn rights_of_removing() -> Outcome {
    tree()?;
    mkdir(c"a/empty", 0o755)?;
    mkdir(c"b/empty", 0o755)?;
    let status = confined(REMOVE_DIR | REMOVE_FILE, &[(c"a", REMOVE_FILE), (c"b", REMOVE_DIR)], || {
        all(&[
            errno_of(unlink(c"b/file")) == EACCES,
            errno_of(rmdir(c"a/empty")) == EACCES,
            errno_of(unlink(c"b/none")) == ENOENT,
            unlink(c"a/sub/file").is_ok(),
            rmdir(c"b/empty").is_ok(),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn rules_add_up() -> Outcome {
    tree()?;
    let status = in_child(|| {
        let Ok(ruleset) = create_ruleset(&Attr { fs: READ_FILE | WRITE_FILE, ..Attr::default() }) else {
            return 99;
        };
        // Twice the same place, and one above another.
        let added = add_path(ruleset, c"a/sub", READ_FILE).is_ok()
            && add_path(ruleset, c"a/sub", WRITE_FILE).is_ok()
            && add_path(ruleset, c"a", READ_FILE).is_ok()
            && add_path(ruleset, c"a/file", WRITE_FILE).is_ok();
        let _ = restrict(ruleset);
        all(&[
            added,
            try_open(c"a/sub/file", O_RDWR) == 0,
            try_open(c"a/file", O_RDWR) == 0,
            try_open(c"b/file", O_RDONLY) == EACCES,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn layers_intersect() -> Outcome {
    tree()?;
    let status = confined(READ_FILE | WRITE_FILE, &[(c"a", READ_FILE | WRITE_FILE)], || {
        // The rules of the second layer cannot give back what the first denies.
        if confine(READ_FILE, &[(c"/", READ_FILE)]).is_err() {
            return 99;
        }
        let second = all(&[try_open(c"a/file", O_RDWR) == 0, try_open(c"b/file", O_RDONLY) == EACCES]);
        if second != 0 || confine(READ_FILE, &[(c"a/sub", READ_FILE)]).is_err() {
            return second + 50;
        }
        all(&[
            try_open(c"a/file", O_RDONLY) == EACCES,
            try_open(c"a/file", O_WRONLY) == 0,
            try_open(c"a/sub/file", O_RDWR) == 0,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn sixteen_layers() -> Outcome {
    let status = in_child(|| {
        for _ in 0..16 {
            if confine(MAKE_SOCK, &[(c"/", MAKE_SOCK)]).is_err() {
                return 1;
            }
        }
        let Ok(ruleset) = create_ruleset(&Attr { fs: MAKE_SOCK, ..Attr::default() }) else { return 2 };
        errno_of(restrict(ruleset))
    })?;
    check_eq!(status, E2BIG);
    Ok(())
}

fn run_self(path: &CStr) -> i32 {
    in_child(|| {
        let args = [c"helper:count".as_ptr(), std::ptr::null()];
        let error = sys!(SYS_execve, path.as_ptr(), args.as_ptr(), args[1..].as_ptr());
        200 + errno_of(error)
    })
    .unwrap_or(-1)
}

fn execute() -> Outcome {
    tree()?;
    std::fs::copy("/proc/self/exe", "a/program")?;
    std::fs::copy("/proc/self/exe", "b/program")?;
    for path in [c"a/program", c"b/program"] {
        sys!(SYS_fchmodat, CWD, path.as_ptr(), 0o755)?;
    }
    check_eq!(run_self(c"b/program"), 0);
    let status = confined(EXECUTE, &[(c"a", EXECUTE)], || {
        all(&[run_self(c"a/program") == 0, run_self(c"b/program") == 200 + EACCES])
    })?;
    check_eq!(status, 0);
    // Running is reading, too.
    let status = confined(EXECUTE | READ_FILE, &[(c"a", EXECUTE)], || run_self(c"a/program"))?;
    check_eq!(status, 200 + EACCES);
    Ok(())
}

fn truncate_path(path: &CStr) -> i32 {
    errno_of(sys!(SYS_truncate, path.as_ptr(), 1))
}

fn truncate() -> Outcome {
    tree()?;
    let handled = WRITE_FILE | TRUNCATE;
    let status = confined(handled, &[(c"a", handled), (c"b", WRITE_FILE)], || {
        let (a, b) = (open(c"a/file", O_WRONLY, 0), open(c"b/file", O_WRONLY, 0));
        let (Ok(a), Ok(b)) = (a, b) else { return 99 };
        all(&[
            errno_of(sys!(SYS_ftruncate, a, 2)) == 0,
            errno_of(sys!(SYS_ftruncate, b, 2)) == EACCES,
            truncate_path(c"a/file") == 0,
            truncate_path(c"b/file") == EACCES,
            try_open(c"a/file", O_WRONLY | O_TRUNC) == 0,
            try_open(c"b/file", O_WRONLY | O_TRUNC) == EACCES,
            // A new file has nothing to lose.
            try_open(c"b/new", O_WRONLY | O_CREAT | O_TRUNC) == 0,
            write(b, b"xy") == Ok(2),
        ])
    })?;
    check_eq!(status, 0);
    check_eq!(slurp(c"b/file")?, "xyxt");
    // Without it in what is handled.
    check_eq!(confined(WRITE_FILE, &[(c"b", WRITE_FILE)], || truncate_path(c"b/file"))?, 0);
    Ok(())
}

fn ioctl_of_devices() -> Outcome {
    close(create(c"plain", b"text")?)?;
    let mut value = 0_i32;
    let ask = |fd: i32, command: usize, at: usize| errno_of(sys!(SYS_ioctl, fd, command, at));
    let at = addr_mut(&mut value);
    let status = confined(IOCTL_DEV, &[(c"/dev/zero", IOCTL_DEV)], || {
        let (Ok(null), Ok(zero), Ok(plain)) =
            (open(c"/dev/null", O_RDWR, 0), open(c"/dev/zero", O_RDWR, 0), open(c"plain", O_RDWR, 0))
        else {
            return 99;
        };
        all(&[
            ask(null, TCGETS as usize, at) == EACCES,
            ask(null, FIONREAD as usize, at) == EACCES,
            ask(zero, TCGETS as usize, at) == ENOTTY,
            ask(plain, FIONREAD as usize, at) == 0,
            // What concerns the descriptor alone.
            ask(null, FIOCLEX as usize, 0) == 0,
            ask(null, FIONCLEX as usize, 0) == 0,
            ask(null, FIONBIO as usize, at) == 0,
            ask(null, 2, at) == 0,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn refer_needs_the_right() -> Outcome {
    tree()?;
    // Never given: denied even when nobody handles it.
    let status = confined(EXECUTE, &[(c"/", EXECUTE)], || {
        all(&[rename(c"a/file", c"b/new", 0) == EXDEV, link(c"a/file", c"b/new") == EXDEV])
    })?;
    check_eq!(status, 0);
    let status = confined(REFER, &[(c"a", REFER)], || {
        all(&[
            rename(c"a/file", c"b/new", 0) == EXDEV,
            rename(c"b/file", c"a/new", 0) == EXDEV,
            rename(c"a/sub/file", c"a/moved", 0) == 0,
        ])
    })?;
    check_eq!(status, 0);
    let status = confined(REFER, &[(c"a", REFER), (c"b", REFER)], || {
        all(&[rename(c"a/file", c"b/new", 0) == 0, link(c"b/new", c"a/file") == 0])
    })?;
    check_eq!(status, 0);
    // Other rights that are missing come first.
    let handled = REFER | MAKE_REG | REMOVE_FILE;
    let status = confined(handled, &[(c"a", handled), (c"b", REFER)], || {
        all(&[rename(c"a/file", c"b/other", 0) == EACCES, link(c"a/file", c"b/other") == EACCES])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn refer_must_not_gain() -> Outcome {
    tree()?;
    let handled = REFER | EXECUTE | READ_FILE;
    // b allows more than a: nothing may move there, but the other way is fine.
    let rules: &[(&CStr, u64)] = &[(c"a", REFER | READ_FILE), (c"b", handled)];
    let status = confined(handled, rules, || {
        all(&[
            rename(c"a/file", c"b/new", 0) == EXDEV,
            link(c"a/file", c"b/new") == EXDEV,
            rename(c"b/file", c"a/new", 0) == 0,
        ])
    })?;
    check_eq!(status, 0);
    close(create(c"b/file", b"text")?)?;
    // What has a right by a rule of its own loses or gains nothing.
    let rules: &[(&CStr, u64)] =
        &[(c"a", REFER | READ_FILE), (c"a/file", EXECUTE), (c"b", REFER | READ_FILE | EXECUTE)];
    let status = confined(handled, rules, || rename(c"a/file", c"b/new", 0))?;
    check_eq!(status, 0);
    Ok(())
}

fn rename_in_one_directory() -> Outcome {
    tree()?;
    let handled = REMOVE_FILE | MAKE_REG | MAKE_DIR | REMOVE_DIR;
    let status = confined(handled, &[(c"a", REMOVE_FILE | MAKE_REG), (c"b", MAKE_REG)], || {
        all(&[
            rename(c"a/file", c"a/other", 0) == 0,
            rename(c"b/file", c"b/other", 0) == EACCES,
            rename(c"a/sub", c"a/dir", 0) == EACCES,
            link(c"b/file", c"b/second") == 0,
            rename(c"b/none", c"b/other", 0) == ENOENT,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn exchange() -> Outcome {
    tree()?;
    const EXCHANGE: usize = 2;
    let handled = REFER | REMOVE_FILE | MAKE_REG | MAKE_DIR | REMOVE_DIR;
    let rules: &[(&CStr, u64)] = &[(c"a", handled), (c"b", REFER | REMOVE_FILE | MAKE_REG)];
    let status = confined(handled, rules, || {
        all(&[
            // Each object must be allowed in the place of the other, and gain nothing by it.
            rename(c"a/file", c"b/file", EXCHANGE) == EXDEV || rename(c"a/file", c"b/file", EXCHANGE) == 0,
            rename(c"a/sub", c"b/file", EXCHANGE) == EACCES,
            rename(c"a/file", c"a/sub", EXCHANGE) == 0,
            rename(c"a/file", c"a/none", EXCHANGE) == ENOENT,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn links() -> Outcome {
    tree()?;
    let status = confined(MAKE_REG | REFER, &[(c"a", MAKE_REG | REFER), (c"b", MAKE_REG)], || {
        all(&[
            link(c"a/file", c"a/second") == 0,
            link(c"a/file", c"a/sub/third") == 0,
            link(c"a/file", c"b/second") == EXDEV,
            link(c"a/none", c"b/second") == ENOENT,
            link(c"a/file", c"b/file") == EEXIST,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn mount_points_and_roots() -> Outcome {
    tree()?;
    let fs = c"tmpfs";
    sys!(SYS_mount, fs.as_ptr(), c"a/sub".as_ptr(), fs.as_ptr(), 0, 0)?;
    close(create(c"a/sub/inner", b"text")?)?;
    let result = confined(READ_FILE, &[(c"a", READ_FILE)], || try_open(c"a/sub/inner", O_RDONLY));
    let inner = confined(READ_FILE, &[(c"a/sub", READ_FILE)], || {
        all(&[try_open(c"a/sub/inner", O_RDONLY) == 0, try_open(c"a/file", O_RDONLY) == EACCES])
    });
    let root = confined(READ_FILE, &[(c"/", READ_FILE)], || try_open(c"a/sub/inner", O_RDONLY));
    sys!(SYS_umount2, c"a/sub".as_ptr(), 0)?;
    check_eq!((result?, inner?, root?), (0, 0, 0));
    Ok(())
}

fn internal_files() -> Outcome {
    // What has no place in the tree is not restricted.
    let ends = pipe(0)?;
    let memory = sys!(SYS_memfd_create, c"m".as_ptr(), 0)? as i32;
    let status = confined(READ_FILE | WRITE_FILE | READ_DIR, &[], || {
        let path = |fd: i32| std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        all(&[
            try_open(&path(ends[1]), O_WRONLY) == 0,
            try_open(&path(memory), O_RDWR) == 0,
            try_open(c"/proc/self/ns/mnt", O_RDONLY) == 0,
            try_open(c"/proc/self/status", O_RDONLY) == EACCES,
            sys!(SYS_memfd_create, c"n".as_ptr(), 0).is_ok(),
            pipe(0).is_ok(),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn mounts_stay() -> Outcome {
    tree()?;
    let fs = c"tmpfs";
    let mount = |flags: usize| errno_of(sys!(SYS_mount, fs.as_ptr(), c"a".as_ptr(), fs.as_ptr(), flags, 0));
    let status = in_child(|| {
        let _ = sys!(SYS_unshare, CLONE_NEWNS);
        if mount(0) != 0 || confine(EXECUTE, &[(c"/", EXECUTE)]).is_err() {
            return 99;
        }
        all(&[
            mount(0) == EPERM,
            mount(MS_REMOUNT as usize) == EPERM,
            errno_of(sys!(SYS_umount2, c"a".as_ptr(), 0)) == EPERM,
            errno_of(sys!(SYS_move_mount, CWD, c"a".as_ptr(), CWD, c"b".as_ptr(), 0)) == EPERM,
            errno_of(sys!(SYS_pivot_root, c"a".as_ptr(), c"a".as_ptr())) == EPERM,
            // A root of one's own is no change of mounts.
            sys!(SYS_chroot, c"a".as_ptr()).is_ok(),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn only_ports() -> Outcome {
    tree()?;
    // A domain that says nothing about files restricts none.
    let status = in_child(|| {
        let Ok(ruleset) = create_ruleset(&Attr { net: BIND_TCP, scoped: 3, ..Attr::default() }) else {
            return 99;
        };
        let _ = restrict(ruleset);
        all(&[
            try_open(c"a/file", O_RDWR) == 0,
            rename(c"a/file", c"b/new", 0) == 0,
            errno_of(sys!(SYS_mount, c"t".as_ptr(), c"a".as_ptr(), c"tmpfs".as_ptr(), 0, 0)) == 0,
            errno_of(sys!(SYS_umount2, c"a".as_ptr(), 0)) == 0,
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn opened_before() -> Outcome {
    tree()?;
    let fd = open(c"a/file", O_RDWR, 0)?;
    let dir = open(c"a", O_RDONLY, 0)?;
    let status = confined(ALL, &[], || {
        all(&[
            read_vec(fd, 4).as_deref() == Ok(b"text"),
            sys!(SYS_ftruncate, fd, 2).is_ok(),
            errno_of(sys!(SYS_openat, dir, c"file".as_ptr(), O_RDONLY)) == EACCES,
            std::fs::metadata("a/file").is_ok(),
            sys!(SYS_fchmod, fd, 0o600).is_ok(),
            sys!(SYS_chdir, c"a".as_ptr()).is_ok(),
        ])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn inherited() -> Outcome {
    tree()?;
    let status = confined(WRITE_FILE, &[], || {
        let child = in_child(|| try_open(c"a/file", O_WRONLY)).unwrap_or(98);
        let thread = std::thread::spawn(|| try_open(c"a/file", O_WRONLY)).join().unwrap_or(97);
        all(&[child == EACCES, thread == EACCES])
    })?;
    check_eq!(status, 0);
    // A thread restricts itself alone.
    let status = in_child(|| {
        let other = std::thread::spawn(|| confine(WRITE_FILE, &[]).is_ok()).join().unwrap_or(false);
        all(&[other, try_open(c"a/file", O_WRONLY) == 0])
    })?;
    check_eq!(status, 0);
    Ok(())
}

/// Reads from the memory of `pid`, which has a page at `at`.
fn read_memory(pid: i32, at: usize) -> i32 {
    let mut byte = 0_u8;
    let local = iovec { iov_base: std::ptr::from_mut(&mut byte).cast(), iov_len: 1 };
    let remote = iovec { iov_base: at as *mut c_void, iov_len: 1 };
    errno_of(sys!(SYS_process_vm_readv, pid, addr(&local), 1, addr(&remote), 1, 0))
}

fn inspect_only_below() -> Outcome {
    let page = map_anon(4096)?;
    poke(page, 1);
    let outside = getpid();
    let status = confined(EXECUTE, &[(c"/", EXECUTE)], || {
        let child = |deeper: bool| {
            let ends = pipe(0).unwrap_or_default();
            let child = fork(|| {
                if deeper {
                    let _ = confine(EXECUTE, &[]);
                }
                let _ = write(ends[1], b"x");
                sleep_ms(20_000);
                0
            })
            .unwrap_or(0);
            let _ = read_vec(ends[0], 1);
            let result = read_memory(child, page);
            let _ = kill(child, SIGKILL);
            let _ = wait(child);
            result
        };
        all(&[child(false) == 0, child(true) == 0, read_memory(outside, page) == EPERM])
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn scope_to(scoped: u64) -> Res<usize> {
    restrict(create_ruleset(&Attr { scoped, ..Attr::default() })?)
}

fn scope_signal() -> Outcome {
    let outside = getpid();
    let status = in_child(|| {
        if scope_to(SCOPE_SIGNAL).is_err() {
            return 99;
        }
        let child = fork(|| {
            // Same domain as the parent: reached; everything outside is not.
            all(&[
                errno_of(kill(outside, 0)) == EPERM,
                errno_of(kill(outside, SIGCONT)) == EPERM,
                sys!(SYS_getppid).is_ok_and(|parent| kill(parent as i32, 0).is_ok()),
                kill(getpid(), 0).is_ok(),
            ])
        })
        .unwrap_or(0);
        let inside = wait_exit(child);
        let below = fork(|| {
            let _ = scope_to(SCOPE_SIGNAL);
            sleep_ms(20_000);
            0
        })
        .unwrap_or(0);
        sleep_ms(20);
        let reached = kill(below, SIGKILL).is_ok() && wait_exit(below) == Ok(-SIGKILL);
        all(&[inside == Ok(0), reached])
    })?;
    check_eq!(status, 0);
    // Without the scope.
    let status = confined(EXECUTE, &[(c"/", EXECUTE)], || errno_of(kill(outside, 0)))?;
    check_eq!(status, 0);
    Ok(())
}

/// An address in the abstract name space.
fn abstract_name(name: &[u8]) -> (sockaddr_un, usize) {
    let mut address: sockaddr_un = zeroed();
    address.sun_family = AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().skip(1).zip(name) {
        *to = *from as c_char;
    }
    (address, 3 + name.len())
}

fn socket_at(kind: i32, name: &[u8]) -> Res<i32> {
    let socket = sys!(SYS_socket, AF_UNIX, kind, 0)? as i32;
    let (address, len) = abstract_name(name);
    sys!(SYS_bind, socket, addr(&address), len)?;
    if kind == SOCK_STREAM {
        sys!(SYS_listen, socket, 5)?;
    }
    Ok(socket)
}

fn connect(socket: i32, name: &[u8]) -> i32 {
    let (address, len) = abstract_name(name);
    errno_of(sys!(SYS_connect, socket, addr(&address), len))
}

fn send_to(socket: i32, name: &[u8]) -> i32 {
    let (address, len) = abstract_name(name);
    errno_of(sys!(SYS_sendto, socket, c"x".as_ptr(), 1, 0, addr(&address), len))
}

fn fresh(kind: i32) -> i32 {
    sys!(SYS_socket, AF_UNIX, kind, 0).map_or(-1, |fd| fd as i32)
}

fn scope_socket() -> Outcome {
    socket_at(SOCK_STREAM, b"landlock-s")?;
    socket_at(SOCK_DGRAM, b"landlock-d")?;
    let before = fresh(SOCK_DGRAM);
    check_eq!(connect(before, b"landlock-d"), 0);
    let status = in_child(|| {
        if scope_to(SCOPE_SOCKET).is_err() {
            return 99;
        }
        let outside = all(&[
            connect(fresh(SOCK_STREAM), b"landlock-s") == EPERM,
            connect(fresh(SOCK_DGRAM), b"landlock-d") == EPERM,
            send_to(fresh(SOCK_DGRAM), b"landlock-d") == EPERM,
            // Connected already: that goes on.
            write(before, b"x").is_ok(),
            connect(fresh(SOCK_STREAM), b"landlock-none") == ECONNREFUSED,
        ]);
        if outside != 0 {
            return outside;
        }
        // What was made inside is reached.
        let inside = socket_at(SOCK_STREAM, b"landlock-i").is_ok()
            && socket_at(SOCK_DGRAM, b"landlock-j").is_ok()
            && connect(fresh(SOCK_STREAM), b"landlock-i") == 0
            && send_to(fresh(SOCK_DGRAM), b"landlock-j") == 0;
        if inside { 0 } else { 50 }
    })?;
    check_eq!(status, 0);
    // Without the scope.
    let status = confined(EXECUTE, &[(c"/", EXECUTE)], || connect(fresh(SOCK_STREAM), b"landlock-s"))?;
    check_eq!(status, 0);
    Ok(())
}

fn not_restricted() -> Outcome {
    tree()?;
    let status = confined(ALL, &[], || {
        let time = [timespec { tv_sec: 1, tv_nsec: 0 }; 2];
        all(&[
            stat(c"a/file").is_ok(),
            sys!(SYS_faccessat, CWD, c"a/file".as_ptr(), R_OK).is_ok(),
            sys!(SYS_fchmodat, CWD, c"a/file".as_ptr(), 0o600).is_ok(),
            sys!(SYS_fchownat, CWD, c"a/file".as_ptr(), 0, 0, 0).is_ok(),
            sys!(SYS_utimensat, CWD, c"a/file".as_ptr(), addr(&time), 0).is_ok(),
            sys!(SYS_setxattr, c"a/file".as_ptr(), c"trusted.x".as_ptr(), c"y".as_ptr(), 1, 0).is_ok(),
            try_open(c"a/file", O_RDONLY) == EACCES,
            errno_of(mkdir(c"a/new", 0o755)) == EACCES,
        ])
    })?;
    check_eq!(status, 0);
    check_eq!(FILE & !ALL, 0);
    Ok(())
}
