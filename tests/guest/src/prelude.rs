//! What every test file uses: the constants and structures of the `libc` crate, with our calls in
//! place of its functions of the same name.

pub(crate) use crate::harness::{Failure, Outcome, check, check_eq, check_err, checked_child, tests};
pub(crate) use crate::sys::{
    CWD, Errno, addr, addr_mut, atomic, c, close, create, eventually, exit, fcntl, fork, fstat, getpid,
    in_child, kill, lstat, map_anon, map_shared, mkdir, mmap, munmap, open, peek, pipe, poke, read_all,
    read_vec, rmdir, seek, sleep_ms, slurp, spew, stat, state, symlink, sys, unlink, wait, wait_exit,
    wait_options, write, zeroed,
};
pub(crate) use libc::*;
