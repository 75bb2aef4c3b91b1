//! A small io_uring of the tests' own: rings mapped by hand, submissions as plain structures.

use crate::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Params {
    pub sq_entries: u32,
    pub cq_entries: u32,
    pub flags: u32,
    pub sq_thread_cpu: u32,
    pub sq_thread_idle: u32,
    pub features: u32,
    pub wq_fd: u32,
    pub resv: [u32; 3],
    pub sq_off: [u32; 10],
    pub cq_off: [u32; 10],
}

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sqe {
    pub opcode: u8,
    pub flags: u8,
    pub ioprio: u16,
    pub fd: i32,
    pub off: u64,
    pub addr: u64,
    pub len: u32,
    pub op_flags: u32,
    pub user_data: u64,
    pub buf_index: u16,
    pub personality: u16,
    pub file_index: u32,
    pub addr3: u64,
    pub pad2: u64,
}

/// `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cqe {
    pub user_data: u64,
    pub res: i32,
    pub flags: u32,
}

fn store<T>(at: usize, value: T) {
    // SAFETY: the ring mapped the address, which is aligned for `T`; the kernel reads it only after the tail moved.
    unsafe { std::ptr::write_volatile(at as *mut T, value) }
}

fn load<T>(at: usize) -> T {
    // SAFETY: as for `store`; the kernel wrote it before it moved the tail.
    unsafe { std::ptr::read_volatile(at as *const T) }
}

/// A submission with the commonest fields.
pub fn sqe(opcode: u8, fd: i32, addr: usize, len: usize, off: u64) -> Sqe {
    Sqe { opcode, fd, addr: addr as u64, len: len as u32, off, ..Sqe::default() }
}

/// A ring and its mappings.
pub struct Ring {
    pub fd: i32,
    pub params: Params,
    rings: usize,
    sqes: usize,
    lens: (usize, usize),
    sq_tail: u32,
}

/// `io_uring_setup`.
pub fn setup(entries: u32, params: &mut Params) -> Result<i32, Errno> {
    sys!(SYS_io_uring_setup, entries, addr_mut(params)).map(|fd| fd as i32)
}

/// `io_uring_enter`.
pub fn enter(fd: i32, submit: u32, wait: u32, flags: u32) -> Result<usize, Errno> {
    sys!(SYS_io_uring_enter, fd, submit, wait, flags, 0, 0)
}

/// `io_uring_register`.
pub fn register(fd: i32, op: u32, arg: usize, nr: u32) -> Result<usize, Errno> {
    sys!(SYS_io_uring_register, fd, op, arg, nr)
}

pub const ENTER_GETEVENTS: u32 = 1;
pub const SUBMIT_ALL: u32 = 128;
pub const POLL_REMOVE: u8 = 7;
pub const TIMEOUT_REMOVE: u8 = 12;
pub const CANCEL: u8 = 14;
pub const NOP: u8 = 0;
pub const READ: u8 = 22;
pub const WRITE: u8 = 23;
pub const POLL_ADD: u8 = 6;
pub const TIMEOUT: u8 = 11;
pub const LINK_TIMEOUT: u8 = 15;
pub const SQPOLL: u32 = 2;
pub const COOP: u32 = 256;
pub const TASKRUN_FLAG: u32 = 512;
pub const DEFER: u32 = 1 << 13;
pub const OPENAT: u8 = 18;
pub const CLOSE: u8 = 19;
pub const PROVIDE: u8 = 31;
pub const POS: u64 = u64::MAX;
pub const REGISTER_FILES: u32 = 2;
pub const LINK: u8 = 4;
pub const HARDLINK: u8 = 8;
pub const DRAIN: u8 = 2;
pub const ASYNC: u8 = 16;
pub const FIXED: u8 = 1;
pub const SELECT: u8 = 32;
pub const SKIP: u8 = 64;

impl Ring {
    /// A ring with these flags.
    pub fn new(entries: u32, flags: u32) -> Result<Self, Errno> {
        Self::with(entries, Params { flags, ..Params::default() })
    }

    /// A ring with these parameters.
    pub fn with(entries: u32, mut params: Params) -> Result<Self, Errno> {
        let fd = setup(entries, &mut params)?;
        let cqe_size = if params.flags & (1 << 11) != 0 { 32 } else { 16 };
        let sqe_size = if params.flags & (1 << 10) != 0 { 128 } else { 64 };
        let len = (params.sq_off[6] + 4 * params.sq_entries)
            .max(params.cq_off[5] + cqe_size * params.cq_entries) as usize;
        let both = PROT_READ | PROT_WRITE;
        let shared = MAP_SHARED | MAP_POPULATE;
        let rings = mmap(0, len, both, shared, fd, 0)?;
        let sqes_len = (sqe_size * params.sq_entries) as usize;
        let sqes = mmap(0, sqes_len, both, shared, fd, 0x1000_0000)?;
        Ok(Self { fd, params, rings, sqes, lens: (len, sqes_len), sq_tail: 0 })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        atomic(self.rings + offset as usize)
    }

    /// The kernel's flags for submitters.
    pub fn sq_flags(&self) -> u32 {
        self.word(self.params.sq_off[4]).load(Ordering::SeqCst)
    }

    /// Sets the user's flags for completions.
    pub fn set_cq_flags(&self, flags: u32) {
        self.word(self.params.cq_off[6]).store(flags, Ordering::SeqCst);
    }

    /// Submissions that were dropped.
    pub fn dropped(&self) -> u32 {
        self.word(self.params.sq_off[5]).load(Ordering::SeqCst)
    }

    /// Where both rings and the submissions are mapped.
    pub fn addresses(&self) -> (usize, usize) {
        (self.rings, self.sqes)
    }

    /// Forgets submissions that were not taken, whatever the tail says.
    pub fn resynchronise(&mut self) {
        self.sq_tail = self.sq_head();
        self.word(self.params.sq_off[1]).store(self.sq_tail, Ordering::SeqCst);
    }

    /// How far the kernel has posted completions.
    pub fn cq_tail(&self) -> u32 {
        self.word(self.params.cq_off[1]).load(Ordering::SeqCst)
    }

    /// How far the kernel has taken submissions.
    pub fn sq_head(&self) -> u32 {
        self.word(self.params.sq_off[0]).load(Ordering::SeqCst)
    }

    /// Puts a submission into the ring.
    pub fn push(&mut self, entry: Sqe) {
        let slot = self.sq_tail & (self.params.sq_entries - 1);
        let shift = if self.params.flags & (1 << 10) != 0 { 7 } else { 6 };
        store(self.sqes + ((slot as usize) << shift), entry);
        // Without an array the offset is zero, which is the head.
        if self.params.flags & (1 << 16) == 0 {
            self.word(self.params.sq_off[6] + 4 * slot).store(slot, Ordering::SeqCst);
        }
        self.sq_tail = self.sq_tail.wrapping_add(1);
        self.word(self.params.sq_off[1]).store(self.sq_tail, Ordering::SeqCst);
    }

    /// Puts an index into the array as it is.
    pub fn push_index(&mut self, index: u32) {
        let slot = self.sq_tail & (self.params.sq_entries - 1);
        self.word(self.params.sq_off[6] + 4 * slot).store(index, Ordering::SeqCst);
        self.sq_tail = self.sq_tail.wrapping_add(1);
        self.word(self.params.sq_off[1]).store(self.sq_tail, Ordering::SeqCst);
    }

    /// Submissions that were pushed and not taken.
    fn waiting(&self) -> u32 {
        self.sq_tail.wrapping_sub(self.sq_head())
    }

    /// Submits everything.
    pub fn submit(&self) -> Result<usize, Errno> {
        enter(self.fd, self.waiting(), 0, 0)
    }

    /// Submits everything and waits for `count` completions.
    pub fn submit_wait(&self, count: u32) -> Result<usize, Errno> {
        enter(self.fd, self.waiting(), count, ENTER_GETEVENTS)
    }

    /// Completions that are there.
    pub fn ready(&self) -> u32 {
        let tail = self.word(self.params.cq_off[1]).load(Ordering::SeqCst);
        tail.wrapping_sub(self.word(self.params.cq_off[0]).load(Ordering::SeqCst))
    }

    /// Takes a completion, if there is one.
    pub fn pop(&self) -> Option<Cqe> {
        if self.ready() == 0 {
            return None;
        }
        let head = self.word(self.params.cq_off[0]).load(Ordering::SeqCst);
        let shift = if self.params.flags & (1 << 11) != 0 { 5 } else { 4 };
        let slot = (head & (self.params.cq_entries - 1)) as usize;
        let cqe = load(self.rings + self.params.cq_off[5] as usize + (slot << shift));
        self.word(self.params.cq_off[0]).store(head.wrapping_add(1), Ordering::SeqCst);
        Some(cqe)
    }

    /// Waits for a completion and takes it.
    pub fn wait(&self) -> Result<Cqe, Errno> {
        loop {
            if let Some(cqe) = self.pop() {
                return Ok(cqe);
            }
            enter(self.fd, 0, 1, ENTER_GETEVENTS)?;
        }
    }

    /// Runs one submission to its completion.
    pub fn run(&mut self, entry: Sqe) -> Result<Cqe, Errno> {
        self.push(entry);
        self.submit_wait(1)?;
        self.wait()
    }

    /// The result of one submission.
    pub fn res(&mut self, entry: Sqe) -> Result<i32, Errno> {
        self.run(entry).map(|cqe| cqe.res)
    }

    /// Waits for `count` completions and returns them by their user data.
    pub fn collect(&self, count: usize) -> Result<Vec<Cqe>, Errno> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.wait()?);
        }
        all.sort_by_key(|cqe| cqe.user_data);
        Ok(all)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The mappings keep the ring as the descriptor does.
        let _ = munmap(self.rings, self.lens.0);
        let _ = munmap(self.sqes, self.lens.1);
        let _ = close(self.fd);
    }
}

pub fn nop(user_data: u64) -> Sqe {
    Sqe { user_data, ..sqe(NOP, -1, 0, 0, 0) }
}

pub fn tagged(user_data: u64, entry: Sqe) -> Sqe {
    Sqe { user_data, ..entry }
}

pub fn read_next(fd: i32, buffer: &mut [u8]) -> Sqe {
    sqe(READ, fd, buffer.as_mut_ptr() as usize, buffer.len(), u64::MAX)
}

pub fn span(ms: i64) -> [i64; 2] {
    [ms / 1000, ms % 1000 * 1_000_000]
}

pub fn timeout(time: &[i64; 2], count: u64, flags: u32) -> Sqe {
    Sqe { op_flags: flags, ..sqe(TIMEOUT, -1, addr(time), 1, count) }
}

pub fn now(clock: i32) -> Result<i64, Errno> {
    let mut time = [0_i64; 2];
    sys!(SYS_clock_gettime, clock, addr_mut(&mut time))?;
    Ok(time[0] * 1_000_000_000 + time[1])
}

pub fn link_timeout(time: &[i64; 2]) -> Sqe {
    sqe(LINK_TIMEOUT, -1, addr(time), 1, 0)
}

pub fn poll_add(fd: i32, events: i16, flags: u32) -> Sqe {
    Sqe { op_flags: u32::from(events as u16), ..sqe(POLL_ADD, fd, 0, flags as usize, 0) }
}

pub fn poll_fd(fd: i32, events: i16, ms: i32) -> Result<i16, Errno> {
    let mut one = pollfd { fd, events, revents: 0 };
    c!(poll(&raw mut one, 1, ms))?;
    Ok(one.revents)
}

pub fn read_at(fd: i32, buffer: &mut [u8], off: u64) -> Sqe {
    sqe(READ, fd, buffer.as_mut_ptr() as usize, buffer.len(), off)
}

pub fn iov(parts: &[(usize, usize)]) -> Vec<[usize; 2]> {
    parts.iter().map(|(at, len)| [*at, *len]).collect()
}

pub fn provide(at: usize, len: usize, count: i32, group: u16, bid: u64) -> Sqe {
    Sqe { buf_index: group, ..sqe(PROVIDE, count, at, len, bid) }
}

pub fn reg(at: usize, entries: u32, group: u16, flags: u16) -> [u64; 5] {
    [at as u64, u64::from(entries) | u64::from(group) << 32 | u64::from(flags) << 48, 0, 0, 0]
}
