//! The directory, and the queues in it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use abi::ipc::{MQ_PRIO_MAX, MqAttr};
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use vfs::anon::next_ino;
use vfs::file::{FileImpl, OpenFile};
use vfs::file_ops::FileOps;
use vfs::super_block::SuperBlock;
use vfs::{Credentials, DirContext, File, FileType, Inode, InodeInit, InodeOps};

use crate::file::QUEUE_FILE;
use crate::instance::{Counted, Instance};
use crate::queue::Queue;
use mm::fallible::{SortedMap, try_arc_slice};

/// What a queue's file shows as its size.
const FILE_SIZE: u64 = 80;
/// What the directory's size grows by per queue.
const ENTRY_SIZE: u64 = 20;
/// Bytes of bookkeeping per message, as `RLIMIT_MSGQUEUE` counts them.
const PER_MESSAGE: u64 = 48;
/// Bytes of bookkeeping per priority that is in use, as `RLIMIT_MSGQUEUE` counts them.
const PER_PRIORITY: u64 = 48;

/// Entries by the position that listings know them by. There are few, and listings go on where they stopped.
#[derive(Default)]
struct Table {
    by_position: SortedMap<u64, (Arc<[u8]>, Arc<Inode>)>,
    by_name: SortedMap<Arc<[u8]>, u64>,
    next: u64,
}

struct Directory {
    table: SpinLock<Table>,
}

/// A queue as an inode.
pub(crate) struct QueueInode {
    pub(crate) queue: Queue,
    /// What it costs; given back when its last name and user have gone.
    cost: SpinLock<Option<(Counted, Box<dyn Any + Send + Sync>)>>,
}

pub(crate) fn new_root(sb: &Arc<SuperBlock>) -> Result<Arc<Inode>> {
    let mode = raw::S_IFDIR | raw::S_ISVTX | 0o777;
    let init = InodeInit { nlink: 2, size: 2 * ENTRY_SIZE, ..InodeInit::new(next_ino(), mode) };
    Inode::new(sb.clone(), init, Directory { table: SpinLock::new(Table::default()) })
}

/// What a queue may hold, as `RLIMIT_MSGQUEUE` counts it.
fn cost(messages: usize, bytes: usize) -> Result<u64> {
    let (messages, bytes) = (messages as u64, bytes as u64);
    let book = messages * PER_MESSAGE + messages.min(u64::from(MQ_PRIO_MAX)) * PER_PRIORITY;
    messages.checked_mul(bytes).and_then(|all| all.checked_add(book)).ok_or(Errno::EOVERFLOW)
}

/// Makes a queue called `name` in the directory `dir` of an instance, whose `rwsem` is held for writing. `attr` are the sizes
/// that the maker asks for.
///
/// # Errors
/// `EACCES`: the namespace is gone; `ENOSPC`: too many queues; `EINVAL`: sizes out of range; `EMFILE`: beyond `RLIMIT_MSGQUEUE`.
pub fn create(
    cred: &Credentials,
    dir: &Arc<Inode>,
    name: &[u8],
    mode: u32,
    attr: Option<&MqAttr>,
) -> Result<Arc<Inode>> {
    let directory = dir.private::<Directory>().ok_or(Errno::EACCES)?;
    let instance = Instance::of(dir.sb())?;
    let counted = instance.count(cred)?;
    let (messages, bytes) = instance.sizes(cred, attr)?;
    let charge = crate::host()?.charge(cost(messages, bytes)?)?;
    let ops = QueueInode { queue: Queue::new(messages, bytes), cost: SpinLock::new(Some((counted, charge))) };
    let init =
        InodeInit { uid: cred.fsuid, gid: cred.fsgid, size: FILE_SIZE, ..InodeInit::new(next_ino(), mode) };
    let inode = Inode::new(dir.sb().clone(), init, ops)?;
    let name = try_arc_slice(name)?;
    {
        let mut table = directory.table.lock();
        let position = table.next;
        table.by_name.try_insert(name.clone(), position)?;
        if let Err(error) = table.by_position.try_insert(position, (name.clone(), inode.clone())) {
            table.by_name.remove(&*name);
            return Err(error.into());
        }
        table.next += 1;
    }
    dir.set_size(dir.size() + ENTRY_SIZE);
    touch(dir);
    Ok(inode)
}

/// All three times are now.
pub(crate) fn touch(inode: &Inode) {
    let now = inode.now();
    inode.update_times(|times| (times.atime, times.mtime, times.ctime) = (now, now, now));
}

impl InodeOps for Directory {
    fn lookup(&self, _: &Arc<Inode>, name: &[u8]) -> Result<Option<Arc<Inode>>> {
        let table = self.table.lock();
        let found = table.by_name.get(name).and_then(|position| table.by_position.get(position));
        Ok(found.map(|(_, inode)| inode.clone()))
    }

    fn create(&self, cred: &Credentials, dir: &Arc<Inode>, name: &[u8], mode: u32) -> Result<Arc<Inode>> {
        create(cred, dir, name, mode, None)
    }

    fn unlink(&self, dir: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        let gone = {
            let mut table = self.table.lock();
            let position = table.by_name.remove(name);
            position.and_then(|position| table.by_position.remove(&position))
        };
        dir.set_size(dir.size().saturating_sub(ENTRY_SIZE));
        touch(dir);
        inode.drop_nlink();
        drop(gone);
        Ok(())
    }

    fn open(&self, _: &Arc<Inode>, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        Ok(FileImpl::Static(&LIST))
    }
}

impl InodeOps for QueueInode {
    fn open(&self, _: &Arc<Inode>, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        Ok(FileImpl::Static(&QUEUE_FILE))
    }

    fn evict(&self, _: &Inode) {
        self.queue.clear();
        let cost = self.cost.lock().take();
        drop(cost);
    }
}

/// Positions of `.` and `..`.
const DOTS: u64 = 2;

struct List;

static LIST: List = List;

impl FileOps for List {
    fn iterate(&self, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        if !ctx.emit_dots(file) {
            return Ok(());
        }
        let directory = file.inode().private::<Directory>().ok_or(Errno::ENOTDIR)?;
        loop {
            // One at a time: who receives it may fault.
            let next = {
                let table = directory.table.lock();
                let next = table.by_position.range_from(&ctx.pos.saturating_sub(DOTS)).next();
                next.map(|(position, (name, inode))| (*position, name.clone(), inode.ino()))
            };
            let Some((position, name, ino)) = next else { return Ok(()) };
            if !ctx.emit(&name, ino, Some(FileType::Regular), position + DOTS + 1) {
                return Ok(());
            }
        }
    }

    fn fsync(&self, _: &File, _: u64, _: u64, _: bool) -> Result<()> {
        Ok(())
    }
}
