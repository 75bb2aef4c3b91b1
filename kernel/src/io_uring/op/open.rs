//! `OPENAT`, `OPENAT2`, `CLOSE`, also of direct descriptors: slots of the table of registered files.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fs::OpenHow;
use abi::io_uring::{Sqe, raw as uring};
use abi::{Errno, Result, raw};
use mm::user::{UserPtr, UserStr, copy_struct_from_user};
use vfs::fdtable::Fd;
use vfs::file::File;
use vfs::namei::{self, At, LookupFlags, OpenArgs};
use vfs::path::LookupContext;

use super::super::ring::Ring;
use super::super::rsrc::FileSlot;
use super::{Call, Issue, Op, Prep, flags};
use crate::fs::context::{self, DirFd, at, at_dir, fd_flags, files, nofile};

/// Where a new file goes.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A descriptor.
    Descriptor {
        /// Closed on exec.
        cloexec: bool,
    },
    /// A slot, or (`None`) a free one.
    Slot(Option<u32>),
}

impl Target {
    /// From `file_index` of a submission.
    ///
    /// # Errors
    /// `EINVAL`: a slot has no flags.
    pub fn new(file_index: u32, cloexec: bool) -> Result<Self> {
        match file_index {
            0 => Ok(Self::Descriptor { cloexec }),
            _ if cloexec => Err(Errno::EINVAL),
            _ if file_index as i32 == uring::IORING_FILE_INDEX_ALLOC => Ok(Self::Slot(None)),
            _ => Ok(Self::Slot(Some(file_index - 1))),
        }
    }

    /// Puts the file there: the descriptor, the slot that was found, or 0 for one that was named.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENXIO`, `EINVAL`, `EBADF` for a ring in a slot.
    pub fn install(self, ring: &Arc<Ring>, file: Arc<File>) -> Result<usize> {
        match self {
            Self::Descriptor { cloexec } => context::install(file, cloexec).map(|fd| fd.0 as usize),
            Self::Slot(slot) => install_slot(ring, file, slot),
        }
    }
}

/// Puts a file into a slot, or a free one, whose index is returned.
///
/// # Errors
/// `ENFILE`, `ENXIO`, `EINVAL`, `EBADF` for a ring.
pub fn install_slot(ring: &Arc<Ring>, file: Arc<File>, slot: Option<u32>) -> Result<usize> {
    if Ring::is_ring(&file) {
        return Err(Errno::EBADF);
    }
    let file = FileSlot::new(ring, file, 0)?;
    let mut table = ring.files.lock();
    let (index, value) = match slot {
        Some(index) => (index, 0),
        None => {
            let index = table.allocate()?;
            (index, index as usize)
        }
    };
    let old = table.set(index, Some(file))?;
    drop(table);
    drop(old);
    Ok(value)
}

/// `IORING_OP_OPENAT`, `IORING_OP_OPENAT2`.
#[derive(Debug)]
pub struct Open {
    dir: DirFd,
    name: Vec<u8>,
    args: OpenArgs,
    target: Target,
}

fn build(prep: &Prep<'_>, entry: &Sqe, args: OpenArgs, cloexec: bool) -> Result<Op> {
    if entry.buf_index != 0 {
        return Err(Errno::EINVAL);
    }
    if prep.has(flags::FIXED_FILE) {
        return Err(Errno::EBADF);
    }
    let target = Target::new(entry.file_index, cloexec)?;
    let name = UserStr::new(entry.addr as usize).read_path()?;
    Ok(Op::Open(Open { dir: DirFd(entry.fd), name, args, target }))
}

/// Prepares `IORING_OP_OPENAT`.
pub fn prep_openat(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    let bits = entry.op_flags;
    build(prep, entry, OpenArgs::from_open(bits | raw::O_LARGEFILE, entry.len)?, bits & raw::O_CLOEXEC != 0)
}

/// Prepares `IORING_OP_OPENAT2`.
pub fn prep_openat2(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if (entry.len as usize) < size_of::<OpenHow>() {
        return Err(Errno::EINVAL);
    }
    let how: OpenHow = copy_struct_from_user(UserPtr::new(entry.off as usize), entry.len as usize)?;
    build(prep, entry, OpenArgs::from_how(&how)?, how.flags & u64::from(raw::O_CLOEXEC) != 0)
}

impl Open {
    /// Opens: by name lookups that need not sleep, otherwise by a worker.
    pub fn issue(&self, call: &Call<'_, '_>) -> Issue {
        let creates = self.args.flags & (raw::O_TRUNC | raw::O_CREAT | raw::O_TMPFILE) != 0;
        if !call.worker && creates {
            return Issue::Punt;
        }
        let mut args = self.args;
        let own_nonblock = args.flags & raw::O_NONBLOCK != 0;
        let only_cached = args.resolve.contains(LookupFlags::CACHED);
        if !call.worker {
            args.resolve |= LookupFlags::CACHED;
            args.flags |= raw::O_NONBLOCK;
        }
        match self.run(call, &args, own_nonblock) {
            Err(Errno::EAGAIN) if !call.worker && !only_cached => Issue::Punt,
            result => Issue::of(result),
        }
    }

    fn run(&self, call: &Call<'_, '_>, args: &OpenArgs, nonblock: bool) -> Result<usize> {
        let table = files()?;
        let slot = match self.target {
            Target::Descriptor { cloexec } => Some(table.reserve(nofile(), fd_flags(cloexec))?),
            Target::Slot(_) => None,
        };
        let open = |ctx: &LookupContext<'_>, at: At<'_>| namei::open(ctx, at, &self.name, args);
        let file =
            if args.resolve.is_scoped() { at_dir(self.dir, open)? } else { at(self.dir, &self.name, open)? };
        if !nonblock && !call.worker {
            file.set_flags(raw::O_NONBLOCK, 0);
        }
        match (slot, self.target) {
            (Some(slot), _) => Ok(slot.install(file).0 as usize),
            (None, target) => target.install(call.ring(), file),
        }
    }
}

/// `IORING_OP_CLOSE`.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    fd: i32,
    slot: Option<u32>,
}

/// Prepares it.
pub fn prep_close(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.off != 0 || entry.addr != 0 || entry.len != 0 || entry.op_flags != 0 || entry.buf_index != 0 {
        return Err(Errno::EINVAL);
    }
    if prep.has(flags::FIXED_FILE) {
        return Err(Errno::EBADF);
    }
    let slot = entry.file_index.checked_sub(1);
    if slot.is_some() && entry.fd != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Close(Close { fd: entry.fd, slot }))
}

impl Close {
    /// Closes.
    pub fn run(&self, call: &Call<'_, '_>) -> Result<()> {
        if let Some(slot) = self.slot {
            return clear_slot(call.ring(), slot);
        }
        let fd = Fd::from_raw(self.fd)?;
        let table = files()?;
        // A ring is not closed from inside.
        if Ring::is_ring(&*table.get_raw(fd)?) {
            return Err(Errno::EBADF);
        }
        table.close(fd)
    }
}

/// Empties a slot.
///
/// # Errors
/// `ENXIO`, `EINVAL`, `EBADF` if it is empty.
pub fn clear_slot(ring: &Arc<Ring>, slot: u32) -> Result<()> {
    let mut table = ring.files.lock();
    if !table.is_registered() {
        return Err(Errno::ENXIO);
    }
    if slot as usize >= table.slots() {
        return Err(Errno::EINVAL);
    }
    table.get(slot)?;
    let old = table.set(slot, None)?;
    drop(table);
    drop(old);
    Ok(())
}
