//! Pipes, sockets, waiting for descriptors, futexes, signals.

use crate::measure::Rows;
use crate::process::fork;
use crate::sys::{self, must};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A pipe: reading end, writing end.
fn pipe() -> (usize, usize) {
    let mut fds = [0i32; 2];
    must!(SYS_pipe2, fds.as_mut_ptr(), 0);
    (fds[0] as usize, fds[1] as usize)
}

/// Runs the rows.
pub fn run(rows: &Rows) {
    pipes(rows);
    sockets(rows);
    waiting(rows);
    futex(rows);
    signals(rows);
    protection(rows);
}

fn write_byte(fd: usize) {
    must!(SYS_write, fd, [0u8].as_ptr(), 1);
}

fn read_byte(fd: usize) -> bool {
    let mut byte = [0u8];
    must!(SYS_read, fd, byte.as_mut_ptr(), 1) == 1
}

/// The two ends of a conversation: what the first reads from and writes to, and the second.
struct Ends {
    first: (usize, usize),
    second: (usize, usize),
}

fn close_both((read, write): (usize, usize)) {
    must!(SYS_close, read);
    if write != read {
        must!(SYS_close, write);
    }
}

/// Measures a byte that goes to another process and comes back.
fn round_trip(rows: &Rows, name: &str, ends: &Ends) {
    if rows.wants(name) {
        let child = fork(|| {
            close_both(ends.first);
            while read_byte(ends.second.0) {
                write_byte(ends.second.1);
            }
        });
        close_both(ends.second);
        rows.each(name, || {
            write_byte(ends.first.1);
            read_byte(ends.first.0);
        });
        // The child sees the end of file and ends.
        close_both(ends.first);
        child.wait();
    }
}

fn pipes(rows: &Rows) {
    let (read, write) = pipe();
    rows.each("pipe_1", || {
        write_byte(write);
        read_byte(read);
    });
    let mut buffer = vec![0u8; 65536];
    rows.each("pipe_64k", || {
        must!(SYS_write, write, buffer.as_ptr(), buffer.len());
        let mut left = buffer.len();
        while left > 0 {
            left -= must!(SYS_read, read, buffer.as_mut_ptr(), left);
        }
    });
    must!(SYS_close, read);
    must!(SYS_close, write);
    let (there, back) = (pipe(), pipe());
    round_trip(rows, "pipe_switch", &Ends { first: (back.0, there.1), second: (there.0, back.1) });
    rows.each("sched_yield", || {
        must!(SYS_sched_yield);
    });
}

fn sockets(rows: &Rows) {
    let mut fds = [0i32; 2];
    must!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, fds.as_mut_ptr());
    let [ours, theirs] = fds.map(|fd| fd as usize);
    rows.each("unix_1", || {
        write_byte(ours);
        read_byte(theirs);
    });
    round_trip(rows, "unix_switch", &Ends { first: (ours, ours), second: (theirs, theirs) });
}

fn waiting(rows: &Rows) {
    let pipes: Vec<_> = (0..10).map(|_| pipe()).collect();
    let mut polls: Vec<_> = pipes
        .iter()
        .map(|pipe| libc::pollfd { fd: pipe.0 as i32, events: libc::POLLIN, revents: 0 })
        .collect();
    let none = [0u64; 2];
    rows.each("poll_10", || {
        must!(SYS_ppoll, polls.as_mut_ptr(), polls.len(), none.as_ptr(), 0, 8);
    });
    rows.each("select_10", || {
        let mut set = [0u64; 16];
        for (fd, _) in &pipes {
            set[fd / 64] |= 1 << (fd % 64);
        }
        let highest = pipes.last().map_or(0, |pipe| pipe.0 + 1);
        must!(SYS_pselect6, highest, set.as_mut_ptr(), 0, 0, none.as_ptr(), 0);
    });
    let epoll = must!(SYS_epoll_create1, 0);
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    for (fd, _) in &pipes {
        must!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, *fd, &raw mut event);
    }
    write_byte(pipes[3].1);
    let mut events = [event; 10];
    rows.each("epoll_wait_1_of_10", || {
        must!(SYS_epoll_pwait, epoll, events.as_mut_ptr(), events.len(), 0, 0, 8);
    });
    let (read, write) = pipe();
    rows.each("epoll_add_del", || {
        must!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, read, &raw mut event);
        must!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_DEL, read, 0);
    });
    for fd in pipes.into_iter().flat_map(|(a, b)| [a, b]).chain([epoll, read, write]) {
        must!(SYS_close, fd);
    }
    let event = must!(SYS_eventfd2, 0, 0);
    let mut value = 1u64;
    rows.each("eventfd", || {
        must!(SYS_write, event, &raw const value, 8);
        must!(SYS_read, event, &raw mut value, 8);
    });
    must!(SYS_close, event);
}

/// The turn of a two-player game on one futex word.
struct Turn(AtomicU32);

impl Turn {
    fn pass(&self, to: u32) {
        self.0.store(to, Ordering::Release);
        must!(SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
    }

    fn wait_until(&self, mine: u32) {
        loop {
            let turn = self.0.load(Ordering::Acquire);
            if turn == mine {
                return;
            }
            // EAGAIN if the turn has changed since.
            sys::call!(SYS_futex, self.0.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, turn, 0);
        }
    }
}

fn futex(rows: &Rows) {
    let turn = Turn(AtomicU32::new(0));
    rows.each("futex_wake_none", || turn.pass(0));
    if !rows.wants("futex_switch") {
        return;
    }
    let shared = Arc::new((turn, AtomicBool::new(false)));
    let other = Arc::clone(&shared);
    let thread = std::thread::spawn(move || {
        loop {
            other.0.wait_until(1);
            if other.1.load(Ordering::Relaxed) {
                return;
            }
            other.0.pass(0);
        }
    });
    rows.each("futex_switch", || {
        shared.0.pass(1);
        shared.0.wait_until(0);
    });
    shared.1.store(true, Ordering::Relaxed);
    shared.0.pass(1);
    // The thread cannot panic.
    let _ = thread.join();
}

extern "C" fn handler(_: i32) {}

extern "C" fn unprotect(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the page is the row's own.
    unsafe {
        let at = (*info).si_addr();
        libc::mprotect(at, 4096, libc::PROT_READ | libc::PROT_WRITE);
    }
}

/// A fault that the program handles itself.
fn protection(rows: &Rows) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let at = must!(SYS_mmap, 0, 4096, libc::PROT_READ, flags, usize::MAX, 0);
    // SAFETY: as in `signals`.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = unprotect as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
    }
    rows.each("signal_fault", || {
        // SAFETY: the handler makes the page writable.
        unsafe { (at as *mut u8).write_volatile(1) };
        must!(SYS_mprotect, at, 4096, libc::PROT_READ);
    });
    must!(SYS_munmap, at, 4096);
}

fn signals(rows: &Rows) {
    let install = || {
        // SAFETY: the handler only returns, and the structure is valid when zero.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        }
    };
    rows.each("signal_install", install);
    install();
    let (pid, tid) = (must!(SYS_getpid), must!(SYS_gettid));
    rows.each("signal_deliver", || {
        must!(SYS_tgkill, pid, tid, libc::SIGUSR1);
    });
}
