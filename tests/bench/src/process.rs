//! Processes and threads.

use crate::measure::Rows;
use crate::sys::{call, must};
use std::ffi::CStr;

/// A child process, to be waited for.
pub struct Child(usize);

impl Child {
    /// Waits for the child to end.
    pub fn wait(self) {
        must!(SYS_wait4, self.0, 0, 0, 0);
    }
}

/// Runs `body` in a new process, which ends after it.
pub fn fork(body: impl FnOnce()) -> Child {
    // SAFETY: the program has one thread when it forks, so the child may do what the parent may.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            body();
            call!(SYS_exit_group, 0);
            unreachable!("exit_group returned");
        }
        1.. => Child(pid as usize),
        _ => {
            println!("bench: fork: {}", std::io::Error::last_os_error());
            std::process::exit(1)
        }
    }
}

const SELF: &CStr = c"/init";

/// Runs the rows.
pub fn run(rows: &Rows) {
    rows.each("fork_exit", || fork(|| {}).wait());
    let arguments = [SELF.as_ptr(), c"--exit".as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null::<libc::c_char>()];
    rows.each("fork_exec", || {
        fork(|| {
            must!(SYS_execve, SELF.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        })
        .wait();
    });
    // The C library's way to run a program: a child that borrows the memory until it executes.
    rows.each("vfork_exec", || {
        let mut pid = 0;
        // SAFETY: all arguments are null or live, and the lists end with null.
        let error = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                SELF.as_ptr(),
                std::ptr::null(),
                std::ptr::null(),
                arguments.as_ptr().cast(),
                environment.as_ptr().cast(),
            )
        };
        assert_eq!(error, 0, "posix_spawn");
        Child(pid as usize).wait();
    });
    rows.each("thread", || {
        // The thread cannot panic.
        let _ = std::thread::spawn(|| {}).join();
    });
}
