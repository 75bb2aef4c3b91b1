//! `mem`, `environ`, `cmdline`, `auxv`: a process's memory as files.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use core::sync::atomic::{AtomicUsize, Ordering};
use kernfs::{Context, Show, Text};
use mm::fallible::{try_arc, try_box, try_vec};
use mm::remote::{RemoteBuf, RemoteMode};
use mm::{AddressSpace, IovIter};
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::{FileOps, IoFlags, Whence};

use super::access::{self, Mode};
use super::{Subject, View};
use zerocopy::IntoBytes;

/// Bytes that are copied at a time.
const CHUNK: usize = PAGE_SIZE;
/// More than any argument list can have.
const LONGEST: usize = 8 << 20;

fn chunk() -> Result<Vec<u8>> {
    Ok(try_vec(0, CHUNK)?)
}

/// Appends `start..end` of `space` to `out`, as far as it can be read.
fn push_range(space: &AddressSpace, start: usize, end: usize, out: &mut Text) -> Result<usize> {
    let mut buffer = chunk()?;
    let end = end.min(start.saturating_add(LONGEST));
    let mut at = start;
    while at < end {
        let part = buffer.get_mut(..CHUNK.min(end - at)).unwrap_or_default();
        let got = space.access_remote(at, RemoteBuf::Read(part), RemoteMode::Force);
        out.push(part.get(..got).unwrap_or_default());
        at += got;
        if got < part.len() {
            break;
        }
    }
    Ok(at - start)
}

/// `cmdline`: the arguments, each ending in NUL. A program that overwrote them with a title shows the title up to
/// its NUL, which may reach into the environment (`setproctitle(3)`).
pub(super) fn cmdline(view: &View<'_>, out: &mut Text) -> Result<()> {
    let Some(space) = view.with_thread(|_, thread| thread.mm()).ok().flatten() else { return Ok(()) };
    let place = |field: &core::sync::atomic::AtomicUsize| field.load(Ordering::Relaxed);
    let layout = &space.layout;
    let (start, end) = (place(&layout.arg_start), place(&layout.arg_end));
    let (env_start, env_end) = (place(&layout.env_start), place(&layout.env_end));
    if start >= end {
        return Ok(());
    }
    let mut last = [0u8];
    let got = space.access_remote(end - 1, RemoteBuf::Read(&mut last), RemoteMode::Force);
    if got == 0 || last == [0] || env_start != end || env_end < env_start {
        push_range(&space, start, end, out)?;
        return Ok(());
    }
    let mut title = Text::new();
    push_range(&space, start, env_end, &mut title)?;
    let bytes = title.as_bytes();
    let len = bytes.iter().position(|&byte| byte == 0).map_or(bytes.len(), |nul| nul + 1);
    out.push(bytes.get(..len).unwrap_or_default());
    Ok(())
}

/// What a file says about a memory.
pub(super) type ShowMemory = fn(&AddressSpace, &mut Text) -> Result<()>;

/// Text about the memory that the process had when the file was opened. After exec it has another one, which who opened the file
/// need not be allowed to see.
struct MemoryText {
    space: Option<Arc<AddressSpace>>,
    show: ShowMemory,
}

impl Show for MemoryText {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        self.space
            .as_deref()
            .filter(|space| space.users() > 0)
            .map_or(Ok(()), |space| (self.show)(space, out))
    }
}

/// Opens a file about a memory.
pub(super) fn open_text(subject: &Subject, show: ShowMemory) -> Result<FileImpl> {
    let space = checked_space(subject, Mode::Read)?;
    kernfs::open_text(try_arc(MemoryText { space, show })?)
}

/// A part of the stack as exec laid it out.
fn push_part(space: &AddressSpace, ends: [&AtomicUsize; 2], out: &mut Text) -> Result<()> {
    let [start, end] = ends.map(|end| end.load(Ordering::Relaxed));
    push_range(space, start, end, out).map(drop)
}

/// `environ`.
pub(super) fn environ(space: &AddressSpace, out: &mut Text) -> Result<()> {
    push_part(space, [&space.layout.env_start, &space.layout.env_end], out)
}

/// `auxv`: what the kernel told the program, up to the mark of its end.
pub(super) fn auxv(space: &AddressSpace, out: &mut Text) -> Result<()> {
    if let Some(auxv) = space.auxv() {
        out.push(crate::memory::auxv::used(&auxv).as_bytes());
    }
    Ok(())
}

/// What an open file of a process's memory keeps: the address space that the process had when it was opened.
pub(super) struct Opened(pub(super) Option<Arc<AddressSpace>>);

impl Opened {
    /// The memory, unless every thread has left it.
    pub(super) fn space(&self) -> Option<&AddressSpace> {
        self.0.as_deref().filter(|space| space.users() > 0)
    }
}

/// An open `mem`.
struct Mem(Opened);

impl FileOps for Mem {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let Some(space) = self.0.space() else { return Ok(0) };
        let mut buffer = chunk()?;
        let mut done = 0;
        while !iter.is_empty() {
            let addr = usize::try_from(*pos).map_err(|_| Errno::EIO)?;
            let part = buffer.get_mut(..CHUNK.min(iter.count())).unwrap_or_default();
            let got = space.access_remote(addr, RemoteBuf::Read(part), RemoteMode::Force);
            if got == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            let copied = iter.copy_to_iter(part.get(..got).unwrap_or_default());
            done += copied;
            *pos += copied as u64;
            if copied < got {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            if sched::current().has_fatal_signal() {
                break;
            }
        }
        Ok(done)
    }

    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let Some(space) = self.0.space() else { return Ok(0) };
        let mut buffer = chunk()?;
        let mut done = 0;
        while !iter.is_empty() {
            let addr = usize::try_from(*pos).map_err(|_| Errno::EIO)?;
            let part = buffer.get_mut(..CHUNK.min(iter.count())).unwrap_or_default();
            let got = iter.copy_from_iter(part);
            if got == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            let data = part.get(..got).unwrap_or_default();
            let written = space.access_remote(addr, RemoteBuf::Write(data), RemoteMode::Force);
            done += written;
            *pos += written as u64;
            if written < got {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
        }
        Ok(done)
    }

    /// Addresses are positions, the upper half included.
    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        vfs::rw::memory_llseek(file, offset, whence)
    }
}

pub(super) fn checked_space(subject: &Subject, mode: Mode) -> Result<Option<Arc<AddressSpace>>> {
    subject.with_thread(|_, thread| {
        // The memory first: an exec in the middle must not slip another program's in.
        let space = thread.mm();
        access::check(thread, mode).map(|()| space)
    })?
}

/// Opens `mem`.
pub(super) fn open_mem(subject: &Subject, _: &mut OpenFile<'_>) -> Result<FileImpl> {
    Ok(FileImpl::Owned(try_box(Mem(Opened(checked_space(subject, Mode::Attach)?)))?))
}
