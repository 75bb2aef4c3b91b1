//! System calls with `Result`s, and the few conveniences that the tests share.
//!
//! [`sys!`] makes the call itself, so that the numbers and error codes seen are the kernel's and
//! not a C library's. [`c!`] calls a C library function that needs more than the bare call
//! (fork, sigaction, threads).

use std::fmt;
use std::time::{Duration, Instant};

/// An error number of a failed call.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Errno(pub i32);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, std::io::Error::from_raw_os_error(self.0))
    }
}

/// What a call returns.
pub type Result<T> = std::result::Result<T, Errno>;

/// System call numbers: those of the `libc` crate, and those it lacks for one of our targets.
pub mod nr {
    #![allow(non_upper_case_globals, unused)]
    pub use libc::*;
    pub const SYS_map_shadow_stack: c_long = 453;
    pub const SYS_futex_wake: c_long = 454;
    pub const SYS_futex_wait: c_long = 455;
    pub const SYS_futex_requeue: c_long = 456;
    pub const SYS_fchmodat2: c_long = 452;
    pub const SYS_memfd_secret: c_long = 447;
    pub const SYS_set_mempolicy_home_node: c_long = 450;
    pub const SYS_cachestat: c_long = 451;
    pub const SYS_statmount: c_long = 457;
    pub const SYS_listmount: c_long = 458;
    pub const SYS_lsm_get_self_attr: c_long = 459;
    pub const SYS_lsm_set_self_attr: c_long = 460;
    pub const SYS_lsm_list_modules: c_long = 461;
    pub const SYS_mseal: c_long = 462;
    #[cfg(target_arch = "x86_64")]
    pub const SYS_kexec_file_load: c_long = 320;
    #[cfg(target_arch = "aarch64")]
    pub const SYS_kexec_file_load: c_long = 294;
}

/// Makes a system call: `sys!(SYS_read, fd, buf.as_mut_ptr(), buf.len())`.
macro_rules! sys {
    ($nr:ident $(, $arg:expr)* $(,)?) => {{
        // SAFETY: the kernel touches only what the arguments name: the test's own memory, or an
        // address that is wrong on purpose, for which the kernel must answer EFAULT.
        #[allow(unused_unsafe)]
        let value = unsafe { libc::syscall($crate::sys::nr::$nr $(, ($arg) as usize)*) };
        $crate::sys::result(value)
    }};
}
pub(crate) use sys;

/// Calls a C library function that returns -1 and sets errno on failure.
macro_rules! c {
    ($name:ident ( $($arg:expr),* $(,)? )) => {{
        // SAFETY: the arguments are the test's own live objects, as the function's manual page
        // asks for.
        let value = unsafe { libc::$name($($arg),*) };
        $crate::sys::result(value as i64).map(|_| value)
    }};
}
pub(crate) use c;

/// Turns the return value of a C function into a result.
pub fn result(value: i64) -> Result<usize> {
    if value == -1 { Err(last()) } else { Ok(value as usize) }
}

/// `errno` of this thread.
pub fn last() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// The address of `value` as a system call argument.
pub fn addr<T: ?Sized>(value: &T) -> usize {
    std::ptr::from_ref(value).cast::<u8>() as usize
}

/// The address of `value` as a system call argument that the kernel writes through.
pub fn addr_mut<T: ?Sized>(value: &mut T) -> usize {
    std::ptr::from_mut(value).cast::<u8>() as usize
}

/// A value whose bytes are all zero, for structures that the kernel fills in.
pub fn zeroed<T>() -> T {
    // SAFETY: only used for the C structures of the libc crate, which are plain integers, arrays
    // of them and nullable pointers.
    unsafe { std::mem::zeroed() }
}

/// `AT_FDCWD` as an argument.
pub const CWD: i32 = libc::AT_FDCWD;

/// `openat(AT_FDCWD, …)`
pub fn open(path: &std::ffi::CStr, flags: i32, mode: u32) -> Result<i32> {
    sys!(SYS_openat, CWD, path.as_ptr(), flags, mode).map(|fd| fd as i32)
}

/// A new file with `content`, opened for reading and writing.
pub fn create(path: &std::ffi::CStr, content: &[u8]) -> Result<i32> {
    let fd = open(path, libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o644)?;
    write(fd, content)?;
    seek(fd, 0, libc::SEEK_SET)?;
    Ok(fd)
}

/// `close`
pub fn close(fd: i32) -> Result<()> {
    sys!(SYS_close, fd).map(drop)
}

/// `read`
pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    sys!(SYS_read, fd, buffer.as_mut_ptr(), buffer.len())
}

/// Reads at most `limit` bytes.
pub fn read_vec(fd: i32, limit: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; limit];
    let count = read(fd, &mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}

/// Reads to the end.
pub fn read_all(fd: i32) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let part = read_vec(fd, 65536)?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend(part);
    }
}

/// The content of the file `path`.
pub fn slurp(path: &std::ffi::CStr) -> Result<String> {
    let fd = open(path, libc::O_RDONLY, 0)?;
    let bytes = read_all(fd);
    close(fd)?;
    Ok(String::from_utf8_lossy(&bytes?).into_owned())
}

/// Writes `text` to the existing file `path`.
pub fn spew(path: &std::ffi::CStr, text: &str) -> Result<()> {
    let fd = open(path, libc::O_WRONLY, 0)?;
    let written = write(fd, text.as_bytes());
    close(fd)?;
    written.map(drop)
}

/// `write`
pub fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    sys!(SYS_write, fd, bytes.as_ptr(), bytes.len())
}

/// `lseek`
pub fn seek(fd: i32, offset: i64, whence: i32) -> Result<u64> {
    sys!(SYS_lseek, fd, offset, whence).map(|at| at as u64)
}

/// `fcntl`
pub fn fcntl(fd: i32, command: i32, argument: usize) -> Result<usize> {
    sys!(SYS_fcntl, fd, command, argument)
}

/// `newfstatat` of `path`, not following a symbolic link at its end.
pub fn lstat(path: &std::ffi::CStr) -> Result<libc::stat> {
    let mut stat = zeroed();
    sys!(SYS_newfstatat, CWD, path.as_ptr(), addr_mut(&mut stat), libc::AT_SYMLINK_NOFOLLOW)?;
    Ok(stat)
}

/// `newfstatat` of `path`
pub fn stat(path: &std::ffi::CStr) -> Result<libc::stat> {
    let mut stat = zeroed();
    sys!(SYS_newfstatat, CWD, path.as_ptr(), addr_mut(&mut stat), 0)?;
    Ok(stat)
}

/// `fstat`
pub fn fstat(fd: i32) -> Result<libc::stat> {
    let mut stat = zeroed();
    sys!(SYS_fstat, fd, addr_mut(&mut stat))?;
    Ok(stat)
}

/// `pipe2`
pub fn pipe(flags: i32) -> Result<[i32; 2]> {
    let mut ends = [-1; 2];
    sys!(SYS_pipe2, ends.as_mut_ptr(), flags)?;
    Ok(ends)
}

/// `mkdirat`
pub fn mkdir(path: &std::ffi::CStr, mode: u32) -> Result<()> {
    sys!(SYS_mkdirat, CWD, path.as_ptr(), mode).map(drop)
}

/// `unlinkat`
pub fn unlink(path: &std::ffi::CStr) -> Result<()> {
    sys!(SYS_unlinkat, CWD, path.as_ptr(), 0).map(drop)
}

/// `unlinkat(…, AT_REMOVEDIR)`
pub fn rmdir(path: &std::ffi::CStr) -> Result<()> {
    sys!(SYS_unlinkat, CWD, path.as_ptr(), libc::AT_REMOVEDIR).map(drop)
}

/// `symlinkat`
pub fn symlink(target: &std::ffi::CStr, path: &std::ffi::CStr) -> Result<()> {
    sys!(SYS_symlinkat, target.as_ptr(), CWD, path.as_ptr()).map(drop)
}

/// `getpid`
pub fn getpid() -> i32 {
    sys!(SYS_getpid).unwrap_or(0) as i32
}

/// `kill`
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    sys!(SYS_kill, pid, signal).map(drop)
}

/// Runs `body` in a child process, which exits with what it returns.
pub fn fork(body: impl FnOnce() -> i32) -> Result<i32> {
    match c!(fork())? {
        0 => exit(body()),
        pid => Ok(pid),
    }
}

/// `_exit`
pub fn exit(status: i32) -> ! {
    // SAFETY: ends the process without running destructors, which is what a child wants.
    unsafe { libc::_exit(status) }
}

/// `wait4`
pub fn wait_options(pid: i32, options: i32) -> Result<(i32, i32)> {
    let mut status = 0;
    let pid = sys!(SYS_wait4, pid, addr_mut(&mut status), options, 0)?;
    Ok((pid as i32, status))
}

/// Waits for child `pid` and returns its wait status.
pub fn wait(pid: i32) -> Result<i32> {
    wait_options(pid, 0).map(|(_, status)| status)
}

/// Waits for child `pid`: its exit status, or minus the signal that killed it.
pub fn wait_exit(pid: i32) -> Result<i32> {
    let status = wait(pid)?;
    Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) })
}

/// Runs `body` in a child and returns its exit status, or minus the signal that killed it.
pub fn in_child(body: impl FnOnce() -> i32) -> Result<i32> {
    wait_exit(fork(body)?)
}

/// Sleeps for `ms` milliseconds, whatever interrupts.
pub fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Polls `condition` for up to five seconds.
pub fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        sleep_ms(2);
    }
    true
}

/// The state letter of process or thread `pid` in /proc.
pub fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// `mmap`
pub fn mmap(at: usize, len: usize, prot: i32, flags: i32, fd: i32, offset: u64) -> Result<usize> {
    sys!(SYS_mmap, at, len, prot, flags, fd, offset)
}

/// A private anonymous mapping for reading and writing.
pub fn map_anon(len: usize) -> Result<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    mmap(0, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
}

/// A shared anonymous mapping for reading and writing.
pub fn map_shared(len: usize) -> Result<usize> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    mmap(0, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
}

/// `munmap`
pub fn munmap(at: usize, len: usize) -> Result<()> {
    sys!(SYS_munmap, at, len).map(drop)
}

/// The byte at `at`, which the test has mapped (or wants to fault on).
pub fn peek(at: usize) -> u8 {
    // SAFETY: the test mapped the address, or is a child made to die of this access.
    unsafe { std::ptr::read_volatile(at as *const u8) }
}

/// Stores a byte at `at`, which the test has mapped (or wants to fault on).
pub fn poke(at: usize, value: u8) {
    // SAFETY: as for `peek`; the memory is not used by anything but the test.
    unsafe { std::ptr::write_volatile(at as *mut u8, value) }
}

/// The 32-bit word at `at` as an atomic.
pub fn atomic(at: usize) -> &'static std::sync::atomic::AtomicU32 {
    // SAFETY: the test mapped the aligned address and keeps it mapped to the end of the process.
    unsafe { &*(at as *const std::sync::atomic::AtomicU32) }
}
