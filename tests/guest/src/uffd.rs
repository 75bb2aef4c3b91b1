//! What the tests of userfaultfd(2) share: ioctl_userfaultfd(2) with its numbers.

use crate::prelude::*;
use std::thread::JoinHandle;

pub(crate) const PAGE: usize = 4096;

pub(crate) const MISSING: u64 = 1;
pub(crate) const WP: u64 = 2;
pub(crate) const MINOR: u64 = 4;

pub(crate) const F_FLAG_WP: u64 = 1;
pub(crate) const F_FORK: u64 = 1 << 1;
pub(crate) const F_REMAP: u64 = 1 << 2;
pub(crate) const F_REMOVE: u64 = 1 << 3;
pub(crate) const F_SHMEM: u64 = 1 << 5;
pub(crate) const F_UNMAP: u64 = 1 << 6;
pub(crate) const F_SIGBUS: u64 = 1 << 7;
pub(crate) const F_TID: u64 = 1 << 8;
pub(crate) const F_MINOR_SHMEM: u64 = 1 << 10;
pub(crate) const F_EXACT: u64 = 1 << 11;
pub(crate) const F_WP_SHMEM: u64 = 1 << 12;
pub(crate) const F_WP_UNPOPULATED: u64 = 1 << 13;
pub(crate) const F_POISON: u64 = 1 << 14;
pub(crate) const F_WP_ASYNC: u64 = 1 << 15;
pub(crate) const F_MOVE: u64 = 1 << 16;

pub(crate) const API: u32 = 0xc018_aa3f;
pub(crate) const REGISTER: u32 = 0xc020_aa00;
pub(crate) const UNREGISTER: u32 = 0x8010_aa01;
pub(crate) const WAKE: u32 = 0x8010_aa02;
pub(crate) const COPY: u32 = 0xc028_aa03;
pub(crate) const ZEROPAGE: u32 = 0xc020_aa04;
pub(crate) const MOVE: u32 = 0xc028_aa05;
pub(crate) const WRITEPROTECT: u32 = 0xc018_aa06;
pub(crate) const CONTINUE: u32 = 0xc020_aa07;
pub(crate) const POISON: u32 = 0xc020_aa08;
pub(crate) const NEW: u32 = 0xaa00;

pub(crate) const EVENT_PAGEFAULT: u8 = 0x12;
pub(crate) const EVENT_FORK: u8 = 0x13;
pub(crate) const EVENT_REMAP: u8 = 0x14;
pub(crate) const EVENT_REMOVE: u8 = 0x15;
pub(crate) const EVENT_UNMAP: u8 = 0x16;

pub(crate) const USER_MODE_ONLY: i32 = 1;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Msg {
    pub(crate) event: u8,
    pub(crate) reserved: [u8; 7],
    pub(crate) args: [u64; 3],
}

/// A descriptor with its features agreed.
#[derive(Clone, Copy)]
pub(crate) struct Uffd(pub(crate) i32);

pub(crate) fn syscall(flags: i32) -> Result<i32, Errno> {
    sys!(SYS_userfaultfd, flags).map(|fd| fd as i32)
}

pub(crate) fn ioctl<const N: usize>(fd: i32, cmd: u32, words: &mut [u64; N]) -> Result<usize, Errno> {
    sys!(SYS_ioctl, fd, cmd, words.as_mut_ptr())
}

/// A blocking descriptor, or none if the features cannot be had.
pub(crate) fn with(features: u64) -> Result<Option<Uffd>, Failure> {
    let fd = syscall(O_CLOEXEC)?;
    let mut api = [0xaa, features, 0];
    match ioctl(fd, API, &mut api) {
        Ok(_) => Ok(Some(Uffd(fd))),
        Err(Errno(EINVAL)) => {
            println!("not offered: {features:#x}");
            close(fd)?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

macro_rules! uffd {
    ($features:expr) => {
        match with($features)? {
            Some(uffd) => uffd,
            None => return Ok(()),
        }
    };
}

impl Uffd {
    pub(crate) fn register(self, at: usize, len: usize, mode: u64) -> Result<u64, Errno> {
        let mut words = [at as u64, len as u64, mode, 0];
        ioctl(self.0, REGISTER, &mut words).map(|_| words[3])
    }

    pub(crate) fn range(self, cmd: u32, at: usize, len: usize) -> Result<usize, Errno> {
        ioctl(self.0, cmd, &mut [at as u64, len as u64])
    }

    /// Error or not, and the result word.
    pub(crate) fn transfer(
        self,
        cmd: u32,
        dst: usize,
        src: usize,
        len: usize,
        mode: u64,
    ) -> (Result<usize, Errno>, i64) {
        let mut words = [dst as u64, src as u64, len as u64, mode, 0x55];
        let result = ioctl(self.0, cmd, &mut words);
        (result, words[4] as i64)
    }

    pub(crate) fn copy(self, dst: usize, src: usize, len: usize, mode: u64) -> Result<i64, Errno> {
        let (result, copied) = self.transfer(COPY, dst, src, len, mode);
        result.map(|_| copied)
    }

    pub(crate) fn fill(self, cmd: u32, at: usize, len: usize, mode: u64) -> (Result<usize, Errno>, i64) {
        let mut words = [at as u64, len as u64, mode, 0x55];
        let result = ioctl(self.0, cmd, &mut words);
        (result, words[3] as i64)
    }

    pub(crate) fn protect(self, at: usize, len: usize, mode: u64) -> Result<usize, Errno> {
        ioctl(self.0, WRITEPROTECT, &mut [at as u64, len as u64, mode])
    }

    pub(crate) fn read(self) -> Result<Msg, Errno> {
        let mut msg = Msg::default();
        let got = sys!(SYS_read, self.0, &raw mut msg, size_of::<Msg>())?;
        if got == size_of::<Msg>() { Ok(msg) } else { Err(Errno(0)) }
    }

    /// The next message, which is a fault: flags and address.
    pub(crate) fn fault(self) -> Result<(u64, usize), Failure> {
        let msg = self.read()?;
        check_eq!((msg.event, msg.reserved), (EVENT_PAGEFAULT, [0; 7]));
        Ok((msg.args[0], msg.args[1] as usize))
    }

    pub(crate) fn is_ready(self) -> Result<i16, Errno> {
        let mut poll = pollfd { fd: self.0, events: POLLIN, revents: 0 };
        sys!(SYS_ppoll, &raw mut poll, 1, &raw const ZERO, 0, 0)?;
        Ok(poll.revents)
    }
}

pub(crate) static ZERO: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

/// A page of `value`, to copy from.
pub(crate) fn page_of(value: u8) -> Result<usize, Errno> {
    let at = map_anon(PAGE)?;
    (0..PAGE).for_each(|n| poke(at + n, value));
    Ok(at)
}

pub(crate) fn joined<T>(thread: JoinHandle<T>) -> Result<T, Failure> {
    thread.join().map_err(|_| Failure::new("a thread panicked"))
}

pub(crate) fn memfd(len: usize) -> Result<i32, Errno> {
    let fd = sys!(SYS_memfd_create, c"uffd".as_ptr(), 0)? as i32;
    sys!(SYS_ftruncate, fd, len)?;
    Ok(fd)
}

pub(crate) fn map_fd(fd: i32, len: usize, flags: i32) -> Result<usize, Errno> {
    mmap(0, len, PROT_READ | PROT_WRITE, flags, fd, 0)
}

pub(crate) fn vm_flags(at: usize) -> Result<String, Errno> {
    let smaps = slurp(c"/proc/self/smaps")?;
    let start = format!("{at:x}-");
    let mut inside = false;
    for line in smaps.lines() {
        if line.starts_with(&start) {
            inside = true;
        }
        if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
            return Ok(format!("{flags} "));
        }
    }
    Ok(String::new())
}

/// What fdinfo says.
pub(crate) fn fdinfo(fd: i32) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default()
}

pub(crate) use uffd;
