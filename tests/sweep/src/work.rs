//! What is done with each allocation failing in turn. A workload allocates nothing itself and stops at the first call that fails; what
//! it leaves behind goes with its process, or in the next one's `setup`.

use crate::sys::errno;
use std::ptr::{null, null_mut};

/// The step that failed, and its error.
pub type Outcome = Result<(), (u32, i32)>;

/// A sequence of calls.
pub struct Workload {
    pub name: &'static str,
    /// Runs before failures are armed.
    pub setup: fn(),
    pub run: fn() -> Outcome,
    /// Whether the kernel may kill it for a lack of memory.
    pub may_die: bool,
}

/// Whether a call may answer `error` because there is no memory.
pub fn is_for_lack_of_memory(error: i32) -> bool {
    matches!(error, libc::ENOMEM | libc::EAGAIN | libc::ENOBUFS | libc::ENOLCK | libc::ENFILE | libc::ENOSPC)
}

macro_rules! step {
    ($at:literal, $call:expr) => {{
        // SAFETY: paths are C strings, buffers live over the call, and numbers are numbers.
        #[allow(unused_unsafe)]
        let result = unsafe { $call };
        if (result as i64) == -1 {
            return Err(($at, errno()));
        }
        result
    }};
}

mod watch;
use watch::{dnotify, fanotify, handle, inotify_events, keys, lease, policy, trace};

macro_rules! workloads {
    ($($name:literal: $setup:ident, $run:ident;)*) => {
        /// All of them.
        pub const ALL: &[Workload] = &[$(Workload { name: $name, setup: $setup, run: $run, may_die: false }),*, EXEC];
    };
}

const EXEC: Workload = Workload { name: "exec", setup: nothing, run: exec, may_die: true };

workloads! {
    "open": nothing, open;
    "names": clean_names, names;
    "links": clean_names, links;
    "xattr": clean_names, xattr;
    "listing": make_names, listing;
    "locks": nothing, locks;
    "write": nothing, write_file;
    "memfd": nothing, memfd;
    "dup": nothing, dup;
    "fork": nothing, fork;
    "vfork": nothing, vfork;
    "thread": nothing, thread;
    "pidfd": nothing, pidfd;
    "pipe": nothing, pipe;
    "fifo": make_fifo, fifo;
    "splice": nothing, splice;
    "epoll": nothing, epoll;
    "poll": nothing, poll;
    "select": nothing, select;
    "eventfd": nothing, eventfd;
    "timerfd": nothing, timerfd;
    "signalfd": nothing, signalfd;
    "inotify": clean_names, inotify;
    "inotify-events": clean_names, inotify_events;
    "fanotify": clean_names, fanotify;
    "dnotify": clean_names, dnotify;
    "lease": clean_names, lease;
    "handle": clean_names, handle;
    "keys": nothing, keys;
    "policy": nothing, policy;
    "trace": nothing, trace;
    "signals": nothing, signals;
    "timers": nothing, timers;
    "itimer": nothing, itimer;
    "socketpair": nothing, socketpair;
    "unix-listen": clean_names, unix_listen;
    "pass-fd": nothing, pass_fd;
    "pty": nothing, pty;
    "sysv-sem": nothing, sysv_sem;
    "sysv-msg": nothing, sysv_msg;
    "sysv-shm": nothing, sysv_shm;
    "mqueue": clean_queue, mqueue;
    "mmap": nothing, mmap;
    "mmap-file": nothing, mmap_file;
    "mremap": nothing, mremap;
    "mprotect": nothing, mprotect;
    "fault": nothing, fault;
    "brk": nothing, brk;
    "mlock": nothing, mlock;
    "mount": clean_mount, mount;
    "mount-tree": clean_mount, mount_tree;
    "fsopen": nothing, fsopen;
    "namespaces": nothing, namespaces;
    "user-namespace": nothing, user_namespace;
    "credentials": nothing, credentials;
    "proc-read": nothing, proc_read;
    "proc-list": nothing, proc_list;
    "sys-read": nothing, sys_read;
    "futex": nothing, futex;
    "prctl": nothing, prctl;
    "chroot": clean_names, chroot;
}

fn nothing() {}

fn clean_names() {
    let inside = [
        c"a/a-name-that-is-much-longer-than-what-fits-into-the-entry-itself",
        c"b/a-name-that-is-much-longer-than-what-fits-into-the-entry-itself",
        c"a/another-name-that-is-longer-than-thirty-bytes",
        c"b/another-name-that-is-longer-than-thirty-bytes",
    ];
    for path in inside.into_iter().chain([c"a", c"b", c"c", c"link", c"s"]) {
        // SAFETY: a path.
        unsafe {
            libc::unlink(path.as_ptr());
            libc::rmdir(path.as_ptr());
        }
    }
}

fn make_names() {
    clean_names();
    for path in [c"a", c"b", c"c"] {
        // SAFETY: a path.
        unsafe { libc::mkdir(path.as_ptr(), 0o755) };
    }
}

fn make_fifo() {
    clean_names();
    // SAFETY: a path.
    unsafe { libc::mkfifo(c"a".as_ptr(), 0o644) };
}

fn clean_mount() {
    // SAFETY: paths.
    unsafe {
        libc::mkdir(c"/tmp/m".as_ptr(), 0o755);
        libc::unshare(libc::CLONE_NEWNS);
        libc::mount(null(), c"/".as_ptr(), null(), libc::MS_REC | libc::MS_PRIVATE, null());
    }
}

fn clean_queue() {
    // SAFETY: a path.
    unsafe { libc::mq_unlink(c"/sweep".as_ptr()) };
}

fn open() -> Outcome {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    let fd = step!(1, libc::open(c"/etc-none".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600));
    step!(2, libc::fstat(fd, stat.as_mut_ptr()));
    step!(3, libc::stat(c"/proc/self/status".as_ptr(), stat.as_mut_ptr()));
    step!(4, libc::openat(libc::AT_FDCWD, c".".as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o600));
    step!(5, libc::unlink(c"/etc-none".as_ptr()));
    Ok(())
}

fn names() -> Outcome {
    step!(1, libc::mkdir(c"a".as_ptr(), 0o755));
    let long = c"a/a-name-that-is-much-longer-than-what-fits-into-the-entry-itself";
    step!(2, libc::mknod(long.as_ptr(), libc::S_IFREG | 0o644, 0));
    step!(3, libc::rename(long.as_ptr(), c"b".as_ptr()));
    step!(4, libc::rename(c"b".as_ptr(), c"a/another-name-that-is-longer-than-thirty-bytes".as_ptr()));
    step!(5, libc::unlink(c"a/another-name-that-is-longer-than-thirty-bytes".as_ptr()));
    step!(6, libc::mkdir(c"b".as_ptr(), 0o755));
    let exchange = 2;
    step!(
        7,
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            c"a".as_ptr(),
            libc::AT_FDCWD,
            c"b".as_ptr(),
            exchange
        )
    );
    step!(8, libc::rmdir(c"a".as_ptr()));
    step!(9, libc::rmdir(c"b".as_ptr()));
    Ok(())
}

fn links() -> Outcome {
    let mut text = [0u8; 64];
    step!(1, libc::close(step!(2, libc::open(c"a".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o644))));
    step!(3, libc::link(c"a".as_ptr(), c"b".as_ptr()));
    step!(4, libc::symlink(c"a".as_ptr(), c"link".as_ptr()));
    step!(5, libc::readlink(c"link".as_ptr(), text.as_mut_ptr().cast(), text.len()));
    step!(6, libc::open(c"link".as_ptr(), libc::O_RDONLY));
    step!(7, libc::truncate(c"link".as_ptr(), 10));
    step!(8, libc::chmod(c"a".as_ptr(), 0o600));
    Ok(())
}

fn xattr() -> Outcome {
    let mut list = [0u8; 256];
    step!(1, libc::close(step!(2, libc::open(c"a".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o644))));
    step!(3, libc::setxattr(c"a".as_ptr(), c"user.one".as_ptr(), c"value".as_ptr().cast(), 5, 0));
    step!(4, libc::setxattr(c"a".as_ptr(), c"user.two".as_ptr(), c"value".as_ptr().cast(), 5, 0));
    step!(5, libc::listxattr(c"a".as_ptr(), list.as_mut_ptr().cast(), list.len()));
    step!(6, libc::getxattr(c"a".as_ptr(), c"user.one".as_ptr(), list.as_mut_ptr().cast(), list.len()));
    step!(7, libc::removexattr(c"a".as_ptr(), c"user.one".as_ptr()));
    Ok(())
}

fn read_all(fd: i32) -> i64 {
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: a buffer that lives over the call.
        let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        if got <= 0 {
            return got as i64;
        }
    }
}

fn list_all(fd: i32) -> i64 {
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: a buffer that lives over the call.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) };
        if got <= 0 {
            return got;
        }
    }
}

fn listing() -> Outcome {
    let mut path = [0u8; 256];
    let fd = step!(1, libc::open(c".".as_ptr(), libc::O_DIRECTORY));
    step!(2, list_all(fd));
    step!(3, libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()));
    step!(4, libc::chdir(c"a".as_ptr()));
    step!(5, libc::fchdir(fd));
    Ok(())
}

fn locks() -> Outcome {
    let fd = step!(1, libc::open(c".".as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o600));
    step!(2, libc::flock(fd, libc::LOCK_EX));
    // SAFETY: zeroes are valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    lock.l_len = 100;
    step!(3, libc::fcntl(fd, libc::F_SETLK, &lock));
    lock.l_type = libc::F_UNLCK as i16;
    lock.l_start = 10;
    lock.l_len = 10;
    step!(4, libc::fcntl(fd, libc::F_SETLK, &lock));
    step!(5, read_all(step!(6, libc::open(c"/proc/locks".as_ptr(), libc::O_RDONLY))));
    Ok(())
}

fn write_file() -> Outcome {
    let data = [7u8; 8192];
    let fd = step!(1, libc::open(c".".as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o600));
    for _ in 0..4 {
        step!(2, libc::write(fd, data.as_ptr().cast(), data.len()));
    }
    step!(3, libc::fallocate(fd, 0, 0, 64 << 10));
    step!(4, libc::lseek(fd, 0, libc::SEEK_SET));
    step!(5, read_all(fd));
    step!(6, libc::ftruncate(fd, 5000));
    step!(7, libc::fsync(fd));
    Ok(())
}

fn memfd() -> Outcome {
    let fd = step!(1, libc::memfd_create(c"sweep".as_ptr(), libc::MFD_ALLOW_SEALING));
    step!(2, libc::ftruncate(fd, 8192));
    step!(3, libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_GROW));
    Ok(())
}

fn dup() -> Outcome {
    step!(1, libc::dup(0));
    step!(2, libc::dup2(0, 200));
    step!(3, libc::dup2(0, 900));
    step!(4, libc::fcntl(0, libc::F_DUPFD, 300));
    Ok(())
}

/// Waits for a child that has been made.
fn wait_for(child: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::waitpid(child, null_mut(), libc::__WALL) };
}

fn fork() -> Outcome {
    for _ in 0..2 {
        let child = step!(1, libc::fork());
        if child == 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        wait_for(child);
    }
    Ok(())
}

fn vfork() -> Outcome {
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    let child = step!(1, libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0));
    if child == 0 {
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    wait_for(child as i32);
    Ok(())
}

extern "C" fn thread_body(_: *mut libc::c_void) -> *mut libc::c_void {
    null_mut()
}

fn thread() -> Outcome {
    for _ in 0..2 {
        // SAFETY: only a place to write to.
        let mut thread: libc::pthread_t = unsafe { std::mem::zeroed() };
        // SAFETY: the thread touches nothing; it is waited for.
        unsafe {
            match libc::pthread_create(&mut thread, null(), thread_body, null_mut()) {
                0 => libc::pthread_join(thread, null_mut()),
                error => return Err((1, error)),
            };
        }
    }
    Ok(())
}

fn pidfd() -> Outcome {
    let fd = step!(1, libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0)) as i32;
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    step!(2, libc::poll(&mut poll, 1, 1));
    step!(3, libc::syscall(libc::SYS_pidfd_getfd, fd, 0, 0));
    Ok(())
}

fn pipe() -> Outcome {
    let mut ends = [0; 2];
    let data = [1u8; 5000];
    step!(1, libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK));
    step!(2, libc::write(ends[1], data.as_ptr().cast(), data.len()));
    step!(3, libc::fcntl(ends[0], libc::F_SETPIPE_SZ, 1 << 17));
    step!(4, libc::write(ends[1], data.as_ptr().cast(), data.len()));
    let mut buffer = [0u8; 9000];
    step!(5, libc::read(ends[0], buffer.as_mut_ptr().cast(), buffer.len()));
    Ok(())
}

fn fifo() -> Outcome {
    step!(1, libc::open(c"a".as_ptr(), libc::O_RDWR | libc::O_NONBLOCK));
    Ok(())
}

fn splice() -> Outcome {
    let mut ends = [0; 2];
    let fd = step!(1, libc::open(c".".as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o600));
    step!(2, libc::write(fd, [3u8; 5000].as_ptr().cast(), 5000));
    step!(3, libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK));
    let mut at = 0;
    step!(4, libc::splice(fd, &mut at, ends[1], null_mut(), 5000, 0));
    let null = step!(5, libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY));
    step!(6, libc::splice(ends[0], null_mut(), null, null_mut(), 5000, 0));
    let mut from = 0;
    step!(7, libc::sendfile(null, fd, &mut from, 5000));
    Ok(())
}

fn epoll() -> Outcome {
    let mut ends = [0; 2];
    let ep = step!(1, libc::epoll_create1(0));
    step!(2, libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK));
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
    step!(3, libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, ends[0], &mut event));
    step!(4, libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, ends[1], &mut event));
    let outer = step!(5, libc::epoll_create1(0));
    step!(6, libc::epoll_ctl(outer, libc::EPOLL_CTL_ADD, ep, &mut event));
    step!(7, libc::write(ends[1], c"x".as_ptr().cast(), 1));
    step!(8, libc::epoll_wait(outer, &mut event, 1, 0));
    step!(9, libc::epoll_ctl(ep, libc::EPOLL_CTL_DEL, ends[0], &mut event));
    Ok(())
}

fn poll() -> Outcome {
    let mut ends = [0; 2];
    step!(1, libc::pipe2(ends.as_mut_ptr(), 0));
    let mut polls = [libc::pollfd { fd: ends[0], events: libc::POLLIN, revents: 0 }; 40];
    step!(2, libc::poll(polls.as_mut_ptr(), 1, 1));
    step!(3, libc::poll(polls.as_mut_ptr(), 40, 1));
    Ok(())
}

fn select() -> Outcome {
    let mut ends = [0; 2];
    step!(1, libc::pipe2(ends.as_mut_ptr(), 0));
    step!(2, libc::dup2(ends[0], 500));
    // SAFETY: zeroes are valid.
    let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 1000 };
    // SAFETY: a set that lives over the call.
    unsafe { libc::FD_SET(500, &mut set) };
    step!(3, libc::select(501, &mut set, null_mut(), null_mut(), &mut time));
    Ok(())
}

fn eventfd() -> Outcome {
    let fd = step!(1, libc::eventfd(1, 0));
    let mut value = 0u64;
    step!(2, libc::read(fd, (&raw mut value).cast(), 8));
    Ok(())
}

fn timerfd() -> Outcome {
    let fd = step!(1, libc::timerfd_create(libc::CLOCK_REALTIME, 0));
    // SAFETY: zeroes are valid.
    let mut spec: libc::itimerspec = unsafe { std::mem::zeroed() };
    spec.it_value.tv_nsec = 1;
    step!(
        2,
        libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET, &spec, null_mut())
    );
    Ok(())
}

fn signalfd() -> Outcome {
    // SAFETY: zeroes are valid.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    step!(1, libc::sigaddset(&mut set, libc::SIGUSR1));
    step!(2, libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut()));
    let fd = step!(3, libc::signalfd(-1, &set, 0));
    step!(4, libc::kill(libc::getpid(), libc::SIGUSR1));
    let mut info = [0u8; 128];
    step!(5, libc::read(fd, info.as_mut_ptr().cast(), info.len()));
    Ok(())
}

fn inotify() -> Outcome {
    let fd = step!(1, libc::inotify_init1(libc::IN_NONBLOCK));
    let wd = step!(2, libc::inotify_add_watch(fd, c".".as_ptr(), libc::IN_ALL_EVENTS));
    let other = step!(3, libc::inotify_init1(libc::IN_NONBLOCK));
    step!(4, libc::inotify_add_watch(other, c".".as_ptr(), libc::IN_CREATE));
    step!(5, libc::mkdir(c"a".as_ptr(), 0o755));
    step!(6, libc::inotify_rm_watch(fd, wd));
    Ok(())
}

extern "C" fn handler(_: i32) {}

fn signals() -> Outcome {
    // SAFETY: zeroes are valid; the handler is one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    let rt = libc::SIGRTMIN();
    step!(1, libc::sigaction(rt, &action, null_mut()));
    // SAFETY: zeroes are valid.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    step!(2, libc::sigaddset(&mut set, rt));
    step!(3, libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut()));
    for _ in 0..3 {
        step!(4, libc::sigqueue(libc::getpid(), rt, libc::sigval { sival_ptr: null_mut() }));
    }
    step!(5, libc::kill(0, 0));
    step!(6, libc::sigprocmask(libc::SIG_UNBLOCK, &set, null_mut()));
    Ok(())
}

fn timers() -> Outcome {
    let mut timer: libc::timer_t = null_mut();
    // SAFETY: zeroes are valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_NONE;
    step!(1, libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer));
    // SAFETY: zeroes are valid.
    let mut spec: libc::itimerspec = unsafe { std::mem::zeroed() };
    spec.it_value.tv_sec = 100;
    let id = timer as usize as i32;
    step!(2, libc::syscall(libc::SYS_timer_settime, id, 0, &raw const spec, 0));
    let mut cpu: libc::timer_t = null_mut();
    let clock = libc::CLOCK_PROCESS_CPUTIME_ID;
    step!(3, libc::syscall(libc::SYS_timer_create, clock, &raw mut event, &raw mut cpu));
    step!(4, libc::syscall(libc::SYS_timer_delete, id));
    Ok(())
}

fn itimer() -> Outcome {
    // SAFETY: zeroes are valid.
    let mut value: libc::itimerval = unsafe { std::mem::zeroed() };
    value.it_value.tv_sec = 100;
    step!(1, libc::syscall(libc::SYS_setitimer, 0, &raw const value, 0));
    step!(2, libc::usleep(10));
    Ok(())
}

fn socketpair() -> Outcome {
    let mut ends = [0; 2];
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        step!(1, libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()));
        step!(2, libc::send(ends[0], c"hello".as_ptr().cast(), 5, 0));
        let mut buffer = [0u8; 16];
        step!(3, libc::recv(ends[1], buffer.as_mut_ptr().cast(), 16, libc::MSG_PEEK));
        step!(4, libc::recv(ends[1], buffer.as_mut_ptr().cast(), 16, 0));
    }
    Ok(())
}

fn unix_listen() -> Outcome {
    // SAFETY: zeroes are valid.
    let mut addr: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    addr.sun_family = libc::AF_UNIX as u16;
    addr.sun_path[0] = b's' as libc::c_char;
    let server = step!(1, libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
    step!(2, libc::bind(server, (&raw const addr).cast(), 4));
    step!(3, libc::listen(server, 5));
    let client = step!(4, libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
    step!(5, libc::connect(client, (&raw const addr).cast(), 4));
    step!(6, libc::accept(server, null_mut(), null_mut()));
    let auto = step!(7, libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0));
    step!(8, libc::bind(auto, (&raw const addr).cast(), 2));
    step!(9, read_all(step!(10, libc::open(c"/proc/net/unix".as_ptr(), libc::O_RDONLY))));
    Ok(())
}

fn pass_fd() -> Outcome {
    let mut ends = [0; 2];
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
        step!(1, libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()));
        let mut byte = [0u8; 1];
        let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let mut control = [0u64; 8];
        // SAFETY: zeroes are valid.
        let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
        msg.msg_iov = &mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.as_mut_ptr().cast();
        // SAFETY: sizes; and the buffer holds a header and one descriptor.
        unsafe {
            msg.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&msg);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            *libc::CMSG_DATA(header).cast::<i32>() = 0;
        }
        step!(2, libc::sendmsg(ends[0], &msg, 0));
        step!(3, libc::recvmsg(ends[1], &mut msg, 0));
    }
    Ok(())
}

fn pty() -> Outcome {
    let mut number = 0;
    let master = step!(1, libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY));
    step!(2, libc::ioctl(master, libc::TIOCSPTLCK as _, &raw const number));
    step!(3, libc::ioctl(master, libc::TIOCGPTN as _, &raw mut number));
    let slave = step!(4, libc::ioctl(master, 0x5441, libc::O_RDWR | libc::O_NOCTTY));
    step!(5, libc::write(slave, c"hello\n".as_ptr().cast(), 6));
    step!(6, libc::write(master, c"input\n".as_ptr().cast(), 6));
    let mut buffer = [0u8; 64];
    step!(7, libc::read(slave, buffer.as_mut_ptr().cast(), 64));
    step!(8, libc::tcgetpgrp(slave).max(0));
    Ok(())
}

fn sysv_sem() -> Outcome {
    let id = step!(1, libc::semget(libc::IPC_PRIVATE, 3, 0o600));
    let mut ops = [
        libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: libc::SEM_UNDO as i16 },
        libc::sembuf { sem_num: 1, sem_op: 1, sem_flg: 0 },
    ];
    let result = (|| {
        step!(2, libc::semop(id, ops.as_mut_ptr(), 2));
        ops[0].sem_op = -5;
        let time = libc::timespec { tv_sec: 0, tv_nsec: 1000 };
        let waited = step!(
            3,
            match libc::syscall(libc::SYS_semtimedop, id, ops.as_mut_ptr(), 1, &raw const time) {
                -1 if errno() == libc::EAGAIN => 0,
                other => other,
            }
        );
        let _ = waited;
        Ok(())
    })();
    // SAFETY: no memory is involved.
    unsafe { libc::semctl(id, 0, libc::IPC_RMID) };
    result
}

fn sysv_msg() -> Outcome {
    #[repr(C)]
    struct Message(i64, [u8; 64]);
    let id = step!(1, libc::msgget(libc::IPC_PRIVATE, 0o600));
    let mut message = Message(1, [5; 64]);
    let result = (|| {
        for _ in 0..6 {
            step!(2, libc::msgsnd(id, (&raw const message).cast(), 64, 0));
        }
        step!(3, libc::msgrcv(id, (&raw mut message).cast(), 64, 0, 0));
        Ok(())
    })();
    // SAFETY: no memory is involved.
    unsafe { libc::msgctl(id, libc::IPC_RMID, null_mut()) };
    result
}

fn sysv_shm() -> Outcome {
    let id = step!(1, libc::shmget(libc::IPC_PRIVATE, 8192, 0o600));
    let result = (|| {
        let at = step!(2, libc::shmat(id, null(), 0));
        step!(3, libc::shmdt(at));
        Ok(())
    })();
    // SAFETY: no memory is involved.
    unsafe { libc::shmctl(id, libc::IPC_RMID, null_mut()) };
    result
}

fn mqueue() -> Outcome {
    let none: *mut libc::mq_attr = null_mut();
    let mq = step!(1, libc::mq_open(c"/sweep".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600, none));
    step!(2, libc::mq_send(mq, c"hello".as_ptr(), 5, 1));
    let mut buffer = [0u8; 8192];
    step!(3, libc::mq_receive(mq, buffer.as_mut_ptr().cast(), buffer.len(), null_mut()));
    // SAFETY: zeroes are valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_NONE;
    step!(4, libc::syscall(libc::SYS_mq_notify, mq, &raw const event));
    Ok(())
}

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const ANON: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn mmap() -> Outcome {
    let at = step!(1, libc::mmap(null_mut(), 64 << 10, RW, ANON, -1, 0));
    step!(2, libc::mmap(null_mut(), 64 << 10, RW, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0));
    step!(3, libc::munmap(at.byte_add(16 << 10), 16 << 10));
    step!(4, libc::mmap(at, 16 << 10, libc::PROT_READ, ANON | libc::MAP_FIXED, -1, 0));
    step!(5, libc::munmap(at, 64 << 10));
    Ok(())
}

fn mmap_file() -> Outcome {
    let fd = step!(1, libc::memfd_create(c"m".as_ptr(), 0));
    step!(2, libc::ftruncate(fd, 64 << 10));
    let at = step!(3, libc::mmap(null_mut(), 64 << 10, RW, libc::MAP_SHARED, fd, 0));
    let own = step!(4, libc::mmap(null_mut(), 64 << 10, RW, libc::MAP_PRIVATE, fd, 0));
    step!(5, libc::madvise(at, 64 << 10, 22)); // MADV_POPULATE_READ
    step!(6, libc::madvise(own, 64 << 10, 23)); // MADV_POPULATE_WRITE
    step!(7, libc::msync(at, 64 << 10, libc::MS_SYNC));
    step!(8, libc::remap_file_pages(at, 4096, 0, 2, 0));
    Ok(())
}

fn mremap() -> Outcome {
    let at = step!(1, libc::mmap(null_mut(), 64 << 10, RW, ANON | libc::MAP_POPULATE, -1, 0));
    step!(2, libc::madvise(at, 64 << 10, 23));
    let at = step!(3, libc::mremap(at, 64 << 10, 4 << 20, libc::MREMAP_MAYMOVE));
    step!(4, libc::mremap(at, 4 << 20, 32 << 10, 0));
    Ok(())
}

fn mprotect() -> Outcome {
    let at = step!(1, libc::mmap(null_mut(), 64 << 10, RW, ANON, -1, 0));
    step!(2, libc::madvise(at, 64 << 10, 23));
    step!(3, libc::mprotect(at.byte_add(8192), 8192, libc::PROT_READ));
    step!(4, libc::mprotect(at.byte_add(8192), 8192, RW));
    step!(5, libc::madvise(at.byte_add(4096), 8192, libc::MADV_DONTNEED));
    step!(6, libc::madvise(at.byte_add(4096), 8192, libc::MADV_DONTFORK));
    Ok(())
}

/// Faults themselves: a page that cannot be had is tried again.
fn fault() -> Outcome {
    let at = step!(1, libc::mmap(null_mut(), 8 << 20, RW, ANON, -1, 0));
    for page in [0, 1, 512, 1024] {
        // SAFETY: inside the mapping.
        unsafe { at.cast::<u8>().add(page * 4096).write_volatile(1) };
    }
    let mut buffer = [0u8; 16];
    let zero = step!(2, libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY));
    step!(3, libc::read(zero, at.byte_add(6 << 20), 8192));
    step!(4, libc::read(zero, buffer.as_mut_ptr().cast(), 16));
    Ok(())
}

fn brk() -> Outcome {
    // SAFETY: the heap is not used afterwards.
    let end = unsafe { libc::syscall(libc::SYS_brk, 0) };
    let after = step!(1, libc::syscall(libc::SYS_brk, end + (64 << 10)));
    if after == end { Err((2, libc::ENOMEM)) } else { Ok(()) }
}

fn mlock() -> Outcome {
    let at = step!(1, libc::mmap(null_mut(), 64 << 10, RW, ANON, -1, 0));
    step!(2, libc::mlock(at.byte_add(4096), 8192));
    step!(3, libc::munlock(at, 64 << 10));
    Ok(())
}

fn mount() -> Outcome {
    let (none, at) = (c"none".as_ptr(), c"/tmp/m".as_ptr());
    for kind in [c"tmpfs", c"proc", c"sysfs", c"devpts", c"mqueue", c"ramfs"] {
        step!(1, libc::mount(none, at, kind.as_ptr(), 0, null()));
        step!(2, libc::umount2(at, libc::MNT_DETACH));
    }
    Ok(())
}

fn mount_tree() -> Outcome {
    let (none, at) = (c"none".as_ptr(), c"/tmp/m".as_ptr());
    step!(1, libc::mount(none, at, c"tmpfs".as_ptr(), 0, null()));
    step!(2, libc::mkdir(c"/tmp/m/x".as_ptr(), 0o755));
    step!(3, libc::mkdir(c"/tmp/m/y".as_ptr(), 0o755));
    step!(4, libc::mount(none, at, null(), libc::MS_SHARED, null()));
    step!(5, libc::mount(at, c"/tmp/m/x".as_ptr(), null(), libc::MS_BIND, null()));
    step!(
        6,
        libc::mount(c"/tmp/m/x".as_ptr(), c"/tmp/m/y".as_ptr(), null(), libc::MS_BIND | libc::MS_REC, null())
    );
    step!(7, libc::mount(none, at, null(), libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, null()));
    step!(8, read_all(step!(9, libc::open(c"/proc/self/mountinfo".as_ptr(), libc::O_RDONLY))));
    step!(10, libc::umount2(at, libc::MNT_DETACH));
    Ok(())
}

fn fsopen() -> Outcome {
    let fd = step!(1, libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0)) as i32;
    step!(2, libc::syscall(libc::SYS_fsconfig, fd, 1, c"size".as_ptr(), c"1m".as_ptr(), 0));
    step!(3, libc::syscall(libc::SYS_fsconfig, fd, 6, 0, 0, 0));
    step!(4, libc::syscall(libc::SYS_fsmount, fd, 0, 0));
    step!(5, libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/tmp".as_ptr(), 1));
    Ok(())
}

fn namespaces() -> Outcome {
    step!(1, libc::unshare(libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET));
    step!(2, libc::unshare(libc::CLONE_NEWNS));
    step!(3, libc::unshare(libc::CLONE_NEWPID));
    step!(4, libc::unshare(libc::CLONE_NEWCGROUP));
    let fd = step!(5, libc::open(c"/proc/self/ns/uts".as_ptr(), libc::O_RDONLY));
    step!(6, libc::setns(fd, libc::CLONE_NEWUTS));
    step!(7, libc::unshare(libc::CLONE_FS | libc::CLONE_FILES));
    Ok(())
}

fn user_namespace() -> Outcome {
    step!(1, libc::unshare(libc::CLONE_NEWUSER));
    let fd = step!(2, libc::open(c"/proc/self/uid_map".as_ptr(), libc::O_RDWR));
    step!(3, libc::write(fd, c"0 0 1".as_ptr().cast(), 5));
    Ok(())
}

fn credentials() -> Outcome {
    let groups = [1, 2, 3];
    step!(1, libc::syscall(libc::SYS_setgroups, 3, groups.as_ptr()));
    step!(2, libc::syscall(libc::SYS_setresgid, 5, 5, 5));
    step!(3, libc::syscall(libc::SYS_setresuid, 1234, 1234, -1i64));
    step!(4, libc::access(c"/".as_ptr(), libc::R_OK));
    Ok(())
}

fn proc_read() -> Outcome {
    for path in [
        c"/proc/self/status",
        c"/proc/self/maps",
        c"/proc/self/smaps",
        c"/proc/self/stat",
        c"/proc/self/cmdline",
        c"/proc/self/environ",
        c"/proc/self/limits",
        c"/proc/self/mounts",
        c"/proc/self/fdinfo/0",
        c"/proc/self/auxv",
        c"/proc/meminfo",
        c"/proc/stat",
        c"/proc/interrupts",
        c"/proc/filesystems",
        c"/proc/slabinfo",
        c"/proc/sys/kernel/hostname",
    ] {
        let fd = step!(1, libc::open(path.as_ptr(), libc::O_RDONLY));
        step!(2, read_all(fd));
        step!(3, libc::close(fd));
    }
    let mut text = [0u8; 64];
    step!(4, libc::readlink(c"/proc/self/exe".as_ptr(), text.as_mut_ptr().cast(), text.len()));
    step!(5, libc::readlink(c"/proc/self/ns/mnt".as_ptr(), text.as_mut_ptr().cast(), text.len()));
    Ok(())
}

fn proc_list() -> Outcome {
    for path in
        [c"/proc", c"/proc/self", c"/proc/self/fd", c"/proc/self/task", c"/proc/self/ns", c"/proc/sys/kernel"]
    {
        let fd = step!(1, libc::open(path.as_ptr(), libc::O_DIRECTORY));
        step!(2, list_all(fd));
        step!(3, libc::close(fd));
    }
    Ok(())
}

fn sys_read() -> Outcome {
    for path in
        [c"/sys/kernel/oops_count", c"/sys/devices/system/cpu/online", c"/sys/class/tty/console/active"]
    {
        let fd = step!(1, libc::open(path.as_ptr(), libc::O_RDONLY));
        step!(2, read_all(fd));
        step!(3, libc::close(fd));
    }
    step!(4, list_all(step!(5, libc::open(c"/sys/class/tty".as_ptr(), libc::O_DIRECTORY))));
    Ok(())
}

fn futex() -> Outcome {
    let word = 0u32;
    let time = libc::timespec { tv_sec: 0, tv_nsec: 1000 };
    let wait = |op: i32| {
        // SAFETY: a word and a time that live over the call.
        let result = unsafe { libc::syscall(libc::SYS_futex, &raw const word, op, 0, &raw const time, 0, 0) };
        if result == -1 && errno() == libc::ETIMEDOUT { 0 } else { result }
    };
    step!(1, wait(0));
    step!(2, wait(128));
    step!(3, libc::syscall(libc::SYS_futex, &raw const word, 6, 0, 0, 0, 0)); // FUTEX_LOCK_PI
    step!(4, libc::syscall(libc::SYS_futex, &raw const word, 7, 0, 0, 0, 0)); // FUTEX_UNLOCK_PI
    Ok(())
}

fn prctl() -> Outcome {
    step!(1, libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    step!(2, libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0));
    step!(3, libc::setpriority(libc::PRIO_PGRP as _, 0, 1));
    Ok(())
}

fn chroot() -> Outcome {
    step!(1, libc::mkdir(c"a".as_ptr(), 0o755));
    step!(2, libc::chroot(c"a".as_ptr()));
    step!(3, libc::chdir(c"/".as_ptr()));
    Ok(())
}

fn exec() -> Outcome {
    let argv = [c"init".as_ptr(), c"executed".as_ptr(), null()];
    let envp = [c"HOME=/".as_ptr(), null()];
    step!(1, libc::execve(c"/init".as_ptr(), argv.as_ptr(), envp.as_ptr()));
    Ok(())
}
