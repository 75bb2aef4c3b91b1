//! Events of files, leases, file handles, keys, memory policies, tracing.

use super::{Outcome, errno};
use std::ptr::null_mut;

pub fn fanotify() -> Outcome {
    const FLAGS: u32 = libc::FAN_NONBLOCK | libc::FAN_REPORT_DFID_NAME | libc::FAN_REPORT_FID;
    let fd = step!(1, libc::fanotify_init(FLAGS, libc::O_RDONLY as u32));
    let mask =
        libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_OPEN | libc::FAN_ONDIR | libc::FAN_EVENT_ON_CHILD;
    step!(2, libc::fanotify_mark(fd, libc::FAN_MARK_ADD, mask, libc::AT_FDCWD, c".".as_ptr()));
    step!(
        3,
        libc::fanotify_mark(
            fd,
            libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM,
            libc::FAN_ATTRIB,
            libc::AT_FDCWD,
            c".".as_ptr()
        )
    );
    step!(4, libc::mkdir(c"a".as_ptr(), 0o755));
    step!(5, libc::chmod(c"a".as_ptr(), 0o700));
    let mut events = [0_u8; 4096];
    // Nothing but the overflow may be there.
    step!(6, libc::read(fd, events.as_mut_ptr().cast(), events.len()));
    step!(7, libc::fanotify_mark(fd, libc::FAN_MARK_FLUSH, 0, libc::AT_FDCWD, std::ptr::null()));
    step!(8, libc::close(fd));
    let fd = step!(9, libc::fanotify_init(libc::FAN_NONBLOCK, libc::O_RDONLY as u32));
    step!(
        10,
        libc::fanotify_mark(
            fd,
            libc::FAN_MARK_ADD,
            mask & !libc::FAN_CREATE & !libc::FAN_DELETE,
            libc::AT_FDCWD,
            c".".as_ptr()
        )
    );
    let dir = step!(11, libc::open(c".".as_ptr(), libc::O_RDONLY));
    step!(12, libc::close(dir));
    step!(13, libc::read(fd, events.as_mut_ptr().cast(), events.len()));
    Ok(())
}

pub fn inotify_events() -> Outcome {
    let fd = step!(1, libc::inotify_init1(libc::IN_NONBLOCK));
    step!(2, libc::inotify_add_watch(fd, c".".as_ptr(), libc::IN_ALL_EVENTS));
    step!(3, libc::mkdir(c"a".as_ptr(), 0o755));
    step!(4, libc::rename(c"a".as_ptr(), c"b".as_ptr()));
    let mut events = [0_u8; 4096];
    // What was lost is said to be.
    step!(5, libc::read(fd, events.as_mut_ptr().cast(), events.len()));
    step!(6, libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK));
    Ok(())
}

pub fn dnotify() -> Outcome {
    /// `DN_CREATE`, `DN_DELETE`, `DN_MULTISHOT`.
    const CREATE: u32 = 4;
    const DELETE: u32 = 8;
    const MULTISHOT: u32 = 0x8000_0000;
    // SAFETY: ignores a signal.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    let fd = step!(1, libc::open(c".".as_ptr(), libc::O_RDONLY));
    let other = step!(2, libc::open(c"/tmp".as_ptr(), libc::O_RDONLY));
    step!(3, libc::fcntl(fd, libc::F_NOTIFY, CREATE | MULTISHOT));
    step!(4, libc::fcntl(other, libc::F_NOTIFY, DELETE));
    step!(5, libc::mkdir(c"a".as_ptr(), 0o755));
    step!(6, libc::close(fd));
    Ok(())
}

pub fn lease() -> Outcome {
    // SAFETY: ignores a signal.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    let fd = step!(1, libc::open(c"b".as_ptr(), libc::O_CREAT | libc::O_RDONLY, 0o600));
    step!(2, libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK));
    // SAFETY: a path.
    let broken = unsafe { libc::open(c"b".as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK) };
    if broken != -1 || errno() != libc::EWOULDBLOCK {
        return Err((3, errno()));
    }
    step!(4, libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK));
    Ok(())
}

pub fn handle() -> Outcome {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }
    step!(1, libc::mkdir(c"a".as_ptr(), 0o755));
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let mut mount = 0;
    let at = libc::AT_FDCWD;
    step!(
        2,
        libc::syscall(libc::SYS_name_to_handle_at, at, c"a".as_ptr(), &raw mut handle, &raw mut mount, 0)
    );
    let dir = step!(3, libc::open(c".".as_ptr(), libc::O_RDONLY));
    // SAFETY: a handle that the kernel made.
    let opened =
        unsafe { libc::syscall(libc::SYS_open_by_handle_at, dir, &raw const handle, libc::O_RDONLY) };
    // Without memory it may not be found.
    if opened == -1 && errno() != libc::ESTALE {
        return Err((4, errno()));
    }
    Ok(())
}

pub fn keys() -> Outcome {
    /// `KEY_SPEC_PROCESS_KEYRING`, `KEY_SPEC_USER_KEYRING`.
    const PROCESS: i32 = -2;
    const USER: i32 = -4;
    let add = |name: &std::ffi::CStr, ring: i32| {
        // SAFETY: strings and a payload that live over the call.
        unsafe {
            libc::syscall(libc::SYS_add_key, c"user".as_ptr(), name.as_ptr(), c"payload".as_ptr(), 7, ring)
        }
    };
    let key = step!(1, add(c"one", PROCESS));
    step!(2, add(c"two", PROCESS));
    // KEYCTL_LINK, KEYCTL_DESCRIBE, KEYCTL_READ, KEYCTL_UNLINK, KEYCTL_GET_PERSISTENT, KEYCTL_JOIN_SESSION_KEYRING
    step!(3, libc::syscall(libc::SYS_keyctl, 8, key, USER));
    let mut text = [0_u8; 256];
    step!(4, libc::syscall(libc::SYS_keyctl, 6, key, text.as_mut_ptr(), text.len()));
    step!(5, libc::syscall(libc::SYS_keyctl, 11, key, text.as_mut_ptr(), text.len()));
    step!(6, libc::syscall(libc::SYS_keyctl, 9, key, USER));
    step!(7, libc::syscall(libc::SYS_keyctl, 22, -1, PROCESS));
    step!(8, libc::syscall(libc::SYS_keyctl, 1, c"session".as_ptr()));
    step!(9, super::read_all(step!(10, libc::open(c"/proc/keys".as_ptr(), libc::O_RDONLY))));
    Ok(())
}

pub fn policy() -> Outcome {
    /// `MPOL_BIND`, `MPOL_INTERLEAVE`.
    const BIND: i32 = 2;
    const INTERLEAVE: i32 = 3;
    let nodes = 1_u64;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let len = 16 << 12;
    let area = step!(1, libc::mmap(null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0));
    step!(2, libc::syscall(libc::SYS_set_mempolicy, INTERLEAVE, &raw const nodes, 64));
    step!(3, libc::syscall(libc::SYS_mbind, area, len / 2, BIND, &raw const nodes, 64, 0));
    step!(4, libc::syscall(libc::SYS_set_mempolicy_home_node, area, len / 2, 0, 0));
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let area = step!(5, libc::mmap(null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, shared, -1, 0));
    step!(6, libc::syscall(libc::SYS_mbind, area, len / 2, BIND, &raw const nodes, 64, 0));
    Ok(())
}

pub fn trace() -> Outcome {
    // SAFETY: a child that only stops.
    let child = step!(1, libc::fork());
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
            libc::_exit(0)
        }
    }
    // Whatever happens, it goes.
    let result = traced(child);
    // SAFETY: a child of ours.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, null_mut(), libc::__WALL);
    }
    result
}

fn traced(child: i32) -> Outcome {
    let mut status = 0;
    step!(2, libc::waitpid(child, &mut status, 0));
    let mut registers = [0_u64; 64];
    let mut area =
        libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: std::mem::size_of_val(&registers) };
    step!(3, libc::ptrace(libc::PTRACE_GETREGSET, child, 1, &raw mut area));
    step!(4, libc::ptrace(libc::PTRACE_SETREGSET, child, 1, &raw mut area));
    Ok(())
}
