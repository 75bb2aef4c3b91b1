//! Pipes as open files: making and opening them, and their file operations.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use mm::IovIter;
use mm::fallible::try_arc;
use sched::wait::{Wait, WaitQueue};

use super::Pipe;
use crate::anon;
use crate::cred::Credentials;
use crate::fasync::FasyncList;
use crate::file::{File, FileImpl, FileMode, OpenFile};
use crate::file_ops::{FileOps, IoFlags};
use crate::inode::Inode;
use crate::poll::PollTable;

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
    let pipe = try_arc(Pipe::new(cred)?)?;
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
        let fresh = try_arc(Pipe::new(open.cred)?)?;
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
