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

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::cap::Cap;
use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use arch::addr::PAGE_SIZE;
use mm::fallible::{TryDeque, try_arc};
use mm::{Folio, Gfp, IovIter, Order};
use sched::mutex::{Mutex, MutexGuard};
use sched::wait::{Wait, WaitQueue};

use crate::anon;
use crate::cred::Credentials;
use crate::fasync::{Band, FasyncList};
use crate::file::{File, FileImpl, FileMode, OpenFile};
use crate::file_ops::{FileOps, IoFlags};
use crate::inode::Inode;
use crate::poll::PollTable;

/// Buffers of a new pipe.
pub const PIPE_DEF_BUFFERS: usize = 16;
/// The largest size an ordinary user can set (`/proc/sys/fs/pipe-max-size`).
pub static PIPE_MAX_SIZE: AtomicU32 = AtomicU32::new(1024 * 1024);

/// A piece of a page, and how it may be used.
#[derive(Clone)]
pub struct PipeBuffer {
    /// The page.
    pub page: Folio,
    /// First byte.
    pub offset: usize,
    /// How many.
    pub len: usize,
    /// A packet of its own: what a read does not take is lost.
    pub packet: bool,
    /// Later writes may be appended: the page belongs to the pipe.
    pub can_merge: bool,
}

struct Ring {
    bufs: VecDeque<PipeBuffer>,
    slots: usize,
    spare: Option<Folio>,
}

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
}

impl Pipe {
    fn new() -> Result<Self> {
        let mut bufs = VecDeque::new();
        bufs.try_reserve_exact(PIPE_DEF_BUFFERS).map_err(|_| Errno::ENOMEM)?;
        Ok(Self {
            ring: Mutex::new(Ring { bufs, slots: PIPE_DEF_BUFFERS, spare: None }),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            reader_opens: AtomicU32::new(0),
            writer_opens: AtomicU32::new(0),
            filled: AtomicU32::new(0),
            slots: AtomicU32::new(PIPE_DEF_BUFFERS as u32),
            polled: AtomicBool::new(false),
            fasync: [FasyncList::new(), FasyncList::new()],
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
        if ring.bufs.len() > slots {
            return Err(Errno::EBUSY);
        }
        let more = slots.saturating_sub(ring.bufs.len());
        ring.bufs.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)?;
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

struct Taken {
    bytes: usize,
    buffers: usize,
    faulted: bool,
}

/// Moves data from the ring into `iter`.
fn take(ring: &mut Ring, iter: &mut IovIter<'_>) -> Taken {
    let mut taken = Taken { bytes: 0, buffers: 0, faulted: false };
    while let Some(front) = ring.bufs.front_mut() {
        let want = front.len.min(iter.count());
        let moved = iter.copy_folio_to_iter(&front.page, front.offset, want);
        front.offset += moved;
        front.len -= moved;
        taken.bytes += moved;
        let packet = front.packet;
        if front.len == 0 || packet && moved == want {
            taken.buffers += 1;
            // A page that `tee` or `splice` gave to somebody else as well is not ours to write to.
            if let Some(used) = ring.bufs.pop_front()
                && used.can_merge
                && used.page.refcount() == 1
            {
                ring.spare = Some(used.page);
            }
        }
        if moved < want {
            taken.faulted = true;
            break;
        }
        if packet || iter.is_empty() {
            break;
        }
    }
    taken
}

struct Put {
    bytes: usize,
    error: Option<Errno>,
}

/// Moves data from `iter` into the ring as far as there is room.
fn put(ring: &mut Ring, iter: &mut IovIter<'_>, packet: bool, may_merge: bool) -> Put {
    let mut put = Put { bytes: 0, error: None };
    let odd = iter.count() % PAGE_SIZE;
    if may_merge
        && !packet
        && odd > 0
        && let Some(last) = ring.bufs.back_mut()
        && last.can_merge
        && !last.packet
        && last.offset + last.len + odd <= PAGE_SIZE
    {
        let moved = iter.copy_folio_from_iter(&last.page, last.offset + last.len, odd);
        last.len += moved;
        put.bytes += moved;
        if moved < odd {
            put.error = Some(Errno::EFAULT);
            return put;
        }
    }
    while !iter.is_empty() && ring.bufs.len() < ring.slots {
        let page = match ring.spare.take() {
            Some(page) => page,
            None => match Folio::alloc(Gfp::USER, Order::ZERO) {
                Ok(page) => page,
                Err(_) => {
                    put.error = Some(Errno::ENOMEM);
                    return put;
                }
            },
        };
        let want = iter.count().min(PAGE_SIZE);
        let moved = iter.copy_folio_from_iter(&page, 0, want);
        if moved == 0 {
            ring.spare = Some(page);
            put.error = Some(Errno::EFAULT);
            return put;
        }
        // Room for `slots` buffers was reserved with the ring.
        ring.bufs.push_back_reserved(PipeBuffer { page, offset: 0, len: moved, packet, can_merge: !packet });
        put.bytes += moved;
        if moved < want {
            put.error = Some(Errno::EFAULT);
            return put;
        }
    }
    put
}

impl FileOps for Pipe {
    /// A pipe has no pages that sendfile could take; splice moves its buffers.
    fn can_splice(&self, _file: &File) -> bool {
        false
    }

    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        self.read(iter, file.nonblock() || flags.contains(IoFlags::NOWAIT))
    }

    fn write_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        let packet = file.flags() & raw::O_DIRECT != 0;
        self.write(iter, file.nonblock() || flags.contains(IoFlags::NOWAIT), packet)
    }

    fn poll(&self, file: &File, table: &mut PollTable<'_>) -> PollEvents {
        let mut ready = PollEvents::empty();
        if file.mode().contains(FileMode::READ) {
            if !table.is_look() {
                self.polled.store(true, Ordering::Release);
            }
            table.wait(&self.readable);
        }
        if file.mode().contains(FileMode::WRITE) {
            table.wait(&self.writable);
        }
        if file.mode().contains(FileMode::READ) {
            if !self.is_empty() {
                ready |= PollEvents::IN | PollEvents::RDNORM;
            }
            // A FIFO that no writer ever opened since is not hung up.
            let seen = u64::from(self.writer_opens.load(Ordering::Acquire));
            if !self.has_writers() && file.version.load(Ordering::Relaxed) != seen {
                ready |= PollEvents::HUP;
            }
        }
        if file.mode().contains(FileMode::WRITE) {
            if !self.is_full() {
                ready |= PollEvents::OUT | PollEvents::WRNORM;
            }
            if !self.has_readers() {
                ready |= PollEvents::ERR;
            }
        }
        ready
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn check_flags(&self, _: &File, _: u32) -> Result<()> {
        Ok(())
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        if cmd == crate::ioctl::FIONREAD {
            let bytes = i32::try_from(self.bytes()).unwrap_or(i32::MAX);
            mm::UserPtr::<i32>::new(arg).write(&bytes)?;
            return Ok(0);
        }
        Err(Errno::ENOTTY)
    }

    fn fasync_lists(&self, file: &File) -> [Option<&FasyncList>; 2] {
        let [readers, writers] = &self.fasync;
        let has = |mode| file.mode().contains(mode);
        [has(FileMode::READ).then_some(readers), has(FileMode::WRITE).then_some(writers)]
    }

    fn release(&self, file: &File) {
        self.leave(file.inode(), file.mode());
    }
}

/// `pipe2(2)`: the reading and the writing end. Flags are `O_NONBLOCK` and `O_DIRECT`.
pub fn pipe(cred: &Arc<Credentials>, flags: u32) -> Result<(Arc<File>, Arc<File>)> {
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK | raw::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let pipe = try_arc(Pipe::new()?)?;
    let path = anon::pipe_path(cred)?;
    // For those who open it again through `/proc/PID/fd`.
    *path.inode()?.pipe().lock() = Some(pipe.clone());
    let end = |access: u32, mode: FileMode| {
        let kept = if access == raw::O_WRONLY { raw::O_NONBLOCK | raw::O_DIRECT } else { raw::O_NONBLOCK };
        let open = OpenFile {
            path: &path,
            cred,
            flags: flags & kept | access,
            mode: mode | FileMode::STREAM | FileMode::NOWAIT,
        };
        pipe.attach(mode);
        File::new(open, FileImpl::Shared(pipe.clone())).inspect_err(|_| pipe.detach(mode))
    };
    let reader = end(raw::O_RDONLY, FileMode::READ)?;
    // Nobody was hung up on yet.
    let writer = end(raw::O_WRONLY, FileMode::WRITE)?;
    Ok((reader, writer))
}

/// A FIFO was opened: a reader that did not wait for a writer is not hung up on before one came.
pub(crate) fn opened(file: &File) {
    if let Some(pipe) = file.private::<Pipe>()
        && !file.mode().contains(FileMode::WRITE)
        && !pipe.has_writers()
    {
        file.version.store(u64::from(pipe.writer_opens.load(Ordering::Acquire)), Ordering::Relaxed);
    }
}

/// Opens a FIFO: a reader waits for a writer and the other way round, unless it opens both or does not want to wait.
pub(crate) fn open_fifo(inode: &Arc<Inode>, open: &mut OpenFile<'_>) -> Result<FileImpl> {
    let (pipe, others) = {
        let fresh = try_arc(Pipe::new()?)?;
        let mut slot = inode.pipe().lock();
        let pipe = slot.get_or_insert(fresh).clone();
        let others = pipe.attach(open.mode);
        (pipe, others)
    };
    open.stream();
    open.mode |= FileMode::NOWAIT;
    let mode = open.mode;
    // A pipe opened again through `/proc/PID/fd` has its ends already: there is nobody to wait for.
    let is_pipe = inode.sb().magic() == u64::from(raw::PIPEFS_MAGIC);
    let (reads, writes) = (mode.contains(FileMode::READ), mode.contains(FileMode::WRITE));
    let result = match (reads, writes) {
        (true, true) => {
            // Readers and writers wait in queues of their own.
            pipe.readable.wake_all();
            pipe.writable.wake_all();
            Ok(())
        }
        (true, false) => {
            pipe.writable.wake_all();
            if is_pipe || others.writers || open.nonblock() {
                Ok(())
            } else {
                wait_for(&pipe.readable, &pipe.writer_opens, others.writer_opens)
            }
        }
        (false, true) => {
            pipe.readable.wake_all();
            if others.readers {
                Ok(())
            } else if open.nonblock() {
                Err(Errno::ENXIO)
            } else if is_pipe {
                Ok(())
            } else {
                wait_for(&pipe.writable, &pipe.reader_opens, others.reader_opens)
            }
        }
        (false, false) => Err(Errno::EINVAL),
    };
    if let Err(error) = result {
        pipe.leave(inode, mode);
        return Err(error);
    }
    Ok(FileImpl::Shared(pipe))
}

/// Waits for an open after the `seen` first ones. Whether that end is still open does not matter: it may have been
/// opened, used and closed before the waiter runs.
fn wait_for(queue: &WaitQueue, opens: &AtomicU32, seen: u32) -> Result<()> {
    let came = || (opens.load(Ordering::Acquire) != seen).then_some(());
    queue.wait(Wait::INTERRUPTIBLE, came).map_err(|_| Errno::ERESTARTSYS)
}
