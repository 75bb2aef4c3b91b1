//! Pipes and FIFOs: `pipe(7)`, `fifo(7)`.
//!
//! A [`Pipe`] is a ring of page buffers under a sleeping lock, because copies to and from users fault.
//! `poll(2)` and the decision whether to wake look at mirrors of the counters in atomics. One page that a reader
//! has emptied is kept for the next writer, so a ping-pong allocates nothing.
//!
//! Atomicity: a write of up to `PIPE_BUF` (a page) goes into one buffer, whole. A small write is appended to the
//! last buffer when it fits there. In packet mode (`O_DIRECT`) each write of up to a page is a packet.
//!
//! Wake-ups happen only on the edges that somebody can wait for: readers when the pipe was empty, writers
//! when it was full. Waiters are exclusive; who leaves something behind wakes the next.

pub mod account;
mod file;
mod ring;

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::cap::Cap;
use abi::poll::PollEvents;
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use mm::IovIter;
use mm::fallible::TryDeque;
use sched::mutex::{Mutex, MutexGuard};
use sched::wait::{Wait, WaitQueue};

pub use file::pipe;
pub(crate) use file::{open_fifo, opened};
pub use ring::PipeBuffer;

use crate::cred::Credentials;
use crate::fasync::{Band, FasyncList};
use crate::file::FileMode;
use crate::inode::Inode;
use account::Charge;
use ring::{Ring, put, take};

/// Buffers of a new pipe.
pub const PIPE_DEF_BUFFERS: usize = 16;
/// The largest size an ordinary user can set (`/proc/sys/fs/pipe-max-size`).
pub static PIPE_MAX_SIZE: AtomicU32 = AtomicU32::new(1024 * 1024);

/// A pipe. See the module text.
pub struct Pipe {
    ring: Mutex<Ring>,
    readable: WaitQueue,
    writable: WaitQueue,
    readers: AtomicU32,
    writers: AtomicU32,
    /// How often each side was ever opened: what the open of a FIFO waits for.
    reader_opens: AtomicU32,
    writer_opens: AtomicU32,
    filled: AtomicU32,
    slots: AtomicU32,
    /// Somebody polls the reading end: edge-triggered epoll wants to hear of each write, not only of the first.
    polled: AtomicBool,
    /// Who wants a signal when there is something to read, or room.
    fasync: [FasyncList; 2],
    /// Its buffers on the account of the user who made it. Changes under the ring's lock.
    charge: Charge,
}

impl Pipe {
    fn new(cred: &Credentials) -> Result<Self> {
        let (charge, slots) = Charge::new(cred)?;
        let mut bufs = VecDeque::new();
        bufs.try_reserve_exact(slots).map_err(|_| Errno::ENOMEM)?;
        Ok(Self {
            ring: Mutex::new(Ring { bufs, slots, spare: None }),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            reader_opens: AtomicU32::new(0),
            writer_opens: AtomicU32::new(0),
            filled: AtomicU32::new(0),
            slots: AtomicU32::new(slots as u32),
            polled: AtomicBool::new(false),
            fasync: [FasyncList::new(), FasyncList::new()],
            charge,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock()
    }

    fn note(&self, ring: &Ring) {
        self.filled.store(ring.bufs.len() as u32, Ordering::Release);
        self.slots.store(ring.slots as u32, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        self.filled.load(Ordering::Acquire) == 0
    }

    fn is_full(&self) -> bool {
        self.filled.load(Ordering::Acquire) >= self.slots.load(Ordering::Acquire)
    }

    fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) > 0
    }

    fn wake_readers(&self) {
        self.readable.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
    }

    fn wake_writers(&self) {
        self.writable.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM);
    }

    /// Bytes that can be read (`FIONREAD`).
    pub fn bytes(&self) -> usize {
        self.lock().bufs.iter().map(|buf| buf.len).sum()
    }

    /// The size in bytes (`F_GETPIPE_SZ`).
    pub fn size(&self) -> usize {
        self.slots.load(Ordering::Acquire) as usize * PAGE_SIZE
    }

    /// `F_SETPIPE_SZ`: rounds up to a power of two of pages; returns the new size.
    pub fn set_size(&self, bytes: usize, cred: &Credentials) -> Result<usize> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let slots = bytes.max(1).div_ceil(PAGE_SIZE).next_power_of_two();
        let mut ring = self.lock();
        let limit = PIPE_MAX_SIZE.load(Ordering::Relaxed) as usize;
        if slots > ring.slots && slots * PAGE_SIZE > limit && !cred.capable(Cap::SysResource) {
            return Err(Errno::EPERM);
        }
        let kept = self.charge.change(slots, cred)?;
        if ring.bufs.len() > slots {
            return Err(Errno::EBUSY);
        }
        let more = slots.saturating_sub(ring.bufs.len());
        ring.bufs.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)?;
        kept.keep();
        let was_full = ring.bufs.len() >= ring.slots;
        ring.slots = slots;
        self.note(&ring);
        drop(ring);
        if was_full {
            self.wake_writers();
        }
        Ok(slots * PAGE_SIZE)
    }

    fn read(&self, iter: &mut IovIter<'_>, nonblock: bool) -> Result<usize> {
        if iter.is_empty() {
            return Ok(0);
        }
        let mut done = 0;
        let mut wake_writers = false;
        let result = loop {
            let mut ring = self.lock();
            let was_full = ring.bufs.len() >= ring.slots;
            let taken = take(&mut ring, iter);
            self.note(&ring);
            let left = !ring.bufs.is_empty();
            drop(ring);
            done += taken.bytes;
            wake_writers |= was_full && taken.buffers > 0;
            if done > 0 || taken.faulted {
                // Whatever becomes of this reader: the wake-up that it got was for all that is there.
                if left {
                    self.wake_readers();
                }
                break if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            if taken.buffers > 0 {
                // Only empty packets so far.
                continue;
            }
            if !self.has_writers() {
                break Ok(0);
            }
            if nonblock {
                break Err(Errno::EAGAIN);
            }
            let ready = || (!self.is_empty() || !self.has_writers()).then_some(());
            if self.readable.wait(Wait::INTERRUPTIBLE.exclusive(), ready).is_err() {
                break Err(Errno::ERESTARTSYS);
            }
        };
        if wake_writers {
            self.wake_writers();
        }
        if done > 0 {
            self.signal_writers();
        }
        result
    }

    fn signal_readers(&self) {
        let [readers, _] = &self.fasync;
        readers.kill(Band::In);
    }

    fn signal_writers(&self) {
        let [_, writers] = &self.fasync;
        writers.kill(Band::Out);
    }

    fn write(&self, iter: &mut IovIter<'_>, nonblock: bool, packet: bool) -> Result<usize> {
        if iter.is_empty() {
            return Ok(0);
        }
        let mut done = 0;
        let mut wake_readers = false;
        let mut first = true;
        let result = loop {
            let mut ring = self.lock();
            if !self.has_readers() {
                // Whoever sees the error sends the signal; a part that was written hides it.
                if done > 0 {
                    crate::rw::broken_pipe();
                }
                break Err(Errno::EPIPE);
            }
            let was_empty = ring.bufs.is_empty();
            let put = put(&mut ring, iter, packet, core::mem::take(&mut first));
            self.note(&ring);
            let room = ring.bufs.len() < ring.slots;
            drop(ring);
            done += put.bytes;
            wake_readers |= (was_empty || self.polled.load(Ordering::Acquire)) && put.bytes > 0;
            if put.error.is_some() || iter.is_empty() {
                if room {
                    // Another writer may wait for the slots that are left.
                    self.wake_writers_if_waiting();
                }
                break put.error.map_or(Ok(done), Err);
            }
            if nonblock {
                break Err(Errno::EAGAIN);
            }
            if core::mem::take(&mut wake_readers) {
                self.wake_readers();
            }
            let ready = || (!self.is_full() || !self.has_readers()).then_some(());
            if self.writable.wait(Wait::INTERRUPTIBLE.exclusive(), ready).is_err() {
                break Err(Errno::ERESTARTSYS);
            }
        };
        if wake_readers {
            self.wake_readers();
        }
        if done > 0 {
            self.signal_readers();
        }
        match result {
            Err(_) if done > 0 => Ok(done),
            other => other,
        }
    }

    fn wake_writers_if_waiting(&self) {
        if self.writable.has_waiters() {
            self.wake_writers();
        }
    }

    /// Waits until there is something to read; `Ok(false)` at the end of the data.
    pub fn wait_readable(&self, nonblock: bool) -> Result<bool> {
        loop {
            if !self.is_empty() {
                return Ok(true);
            }
            if !self.has_writers() {
                return Ok(false);
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            let ready = || (!self.is_empty() || !self.has_writers()).then_some(());
            self.readable.wait(Wait::INTERRUPTIBLE, ready).map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// Waits until there is room; `EPIPE` without readers.
    pub fn wait_writable(&self, nonblock: bool) -> Result<()> {
        loop {
            if !self.has_readers() {
                return Err(Errno::EPIPE);
            }
            if !self.is_full() {
                return Ok(());
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            let ready = || (!self.is_full() || !self.has_readers()).then_some(());
            self.writable.wait(Wait::INTERRUPTIBLE, ready).map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// Adds a buffer if there is room; gives it back otherwise.
    pub fn push(&self, buffer: PipeBuffer) -> core::result::Result<(), PipeBuffer> {
        let was_empty = {
            let mut ring = self.lock();
            if ring.bufs.len() >= ring.slots {
                return Err(buffer);
            }
            let was_empty = ring.bufs.is_empty();
            ring.bufs.push_back_reserved(buffer);
            self.note(&ring);
            was_empty
        };
        if was_empty {
            self.wake_readers();
        }
        self.signal_readers();
        Ok(())
    }

    /// Takes up to `max` bytes of the first buffer.
    pub fn pop(&self, max: usize) -> Option<PipeBuffer> {
        let mut ring = self.lock();
        let was_full = ring.bufs.len() >= ring.slots;
        let front = ring.bufs.front_mut()?;
        let len = front.len.min(max);
        let taken = PipeBuffer { len, can_merge: false, ..front.clone() };
        front.offset += len;
        front.len -= len;
        if front.len == 0 || front.packet {
            ring.bufs.pop_front();
        }
        self.note(&ring);
        drop(ring);
        if was_full {
            self.wake_writers();
        }
        self.signal_writers();
        Some(taken)
    }

    /// Puts a buffer back in front: what a consumer could not use.
    pub fn unpop(&self, buffer: PipeBuffer) {
        let mut ring = self.lock();
        if ring.bufs.try_reserve(1).is_err() {
            // Another writer has filled the ring up meanwhile, and there is no memory for one place more: the data is lost.
            return;
        }
        ring.bufs.push_front_reserved(PipeBuffer { can_merge: false, ..buffer });
        self.note(&ring);
        drop(ring);
        self.wake_readers();
    }

    /// References to up to `max` bytes of the buffers from `skip` on (`tee(2)`).
    pub fn peek(&self, skip: usize, max: usize) -> Option<PipeBuffer> {
        let ring = self.lock();
        let buffer = ring.bufs.get(skip)?;
        Some(PipeBuffer { len: buffer.len.min(max), can_merge: false, ..buffer.clone() })
    }

    /// Counts an end in; what there was before it. A FIFO attaches under its inode's lock, so that two opens see
    /// one order: whoever comes second finds the first in what is returned, and the first sees its count grow.
    fn attach(&self, mode: FileMode) -> Others {
        let others = Others {
            readers: self.has_readers(),
            writers: self.has_writers(),
            reader_opens: self.reader_opens.load(Ordering::Acquire),
            writer_opens: self.writer_opens.load(Ordering::Acquire),
        };
        if mode.contains(FileMode::READ) {
            self.readers.fetch_add(1, Ordering::AcqRel);
            self.reader_opens.fetch_add(1, Ordering::AcqRel);
        }
        if mode.contains(FileMode::WRITE) {
            self.writers.fetch_add(1, Ordering::AcqRel);
            self.writer_opens.fetch_add(1, Ordering::AcqRel);
        }
        others
    }

    fn detach(&self, mode: FileMode) {
        let mut gone = false;
        if mode.contains(FileMode::READ) {
            gone |= self.readers.fetch_sub(1, Ordering::AcqRel) == 1;
        }
        if mode.contains(FileMode::WRITE) {
            gone |= self.writers.fetch_sub(1, Ordering::AcqRel) == 1;
        }
        if gone {
            let all = PollEvents::IN
                | PollEvents::OUT
                | PollEvents::RDNORM
                | PollEvents::WRNORM
                | PollEvents::ERR
                | PollEvents::HUP;
            self.readable.wake_all_poll(all);
            self.writable.wake_all_poll(all);
            self.signal_readers();
            self.signal_writers();
        }
    }

    fn is_idle(&self) -> bool {
        !self.has_readers() && !self.has_writers()
    }

    /// Counts an end out; the last one takes the pipe away from its inode, unless that has another one by now.
    fn leave(&self, inode: &Inode, mode: FileMode) {
        self.detach(mode);
        if self.is_idle() {
            let mut slot = inode.pipe().lock();
            let idle = slot.as_ref().is_some_and(|pipe| core::ptr::eq(&**pipe, self) && pipe.is_idle());
            let gone = if idle { slot.take() } else { None };
            drop(slot);
            drop(gone);
        }
    }
}

/// The ends of a pipe at the moment of an open.
struct Others {
    readers: bool,
    writers: bool,
    reader_opens: u32,
    writer_opens: u32,
}
