//! The directory, `ptmx` and the slaves.

use alloc::sync::Arc;
use core::any::Any;

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use vfs::file::{FileImpl, OpenFile};
use vfs::file_ops::FileOps;
use vfs::super_block::SuperBlock;
use vfs::{Credentials, DirContext, File, FileType, Inode, InodeFlags, InodeInit, InodeOps};

use crate::Instance;
use mm::fallible::try_box;

const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
const FIRST_SLAVE_INO: u64 = 3;
const PTMX: DevId = DevId::new(5, 2);

struct Root {
    instance: Arc<Instance>,
    ptmx: Arc<Inode>,
}

/// A device node, with the driver's object behind it.
struct Node {
    object: Option<Arc<dyn Any + Send + Sync>>,
}

pub(crate) fn object_of(inode: &Inode) -> Option<Arc<dyn Any + Send + Sync>> {
    inode.private::<Node>()?.object.clone()
}

pub(crate) fn new_root(sb: &Arc<SuperBlock>, instance: &Arc<Instance>) -> Result<Arc<Inode>> {
    let mode = raw::S_IFCHR | instance.state.lock().options.ptmx_mode;
    let init = InodeInit { rdev: PTMX, ..InodeInit::new(PTMX_INO, mode) };
    let ptmx = Inode::new(sb.clone(), init, Node { object: None })?;
    let init = InodeInit {
        nlink: 2,
        flags: InodeFlags::NO_NEGATIVE,
        ..InodeInit::new(ROOT_INO, raw::S_IFDIR | 0o755)
    };
    Inode::new(sb.clone(), init, Root { instance: instance.clone(), ptmx })
}

/// A remount changed the mode of `ptmx` below `root`.
pub(crate) fn set_ptmx_mode(root: &Inode, mode: u32) {
    if let Some(root) = root.private::<Root>() {
        root.ptmx.set_permissions(mode);
    }
}

pub(crate) fn new_slave(
    sb: &Arc<SuperBlock>,
    instance: &Arc<Instance>,
    index: u32,
    cred: &Credentials,
    dev: DevId,
    object: Arc<dyn Any + Send + Sync>,
) -> Result<Arc<Inode>> {
    let options = instance.state.lock().options.clone();
    let init = InodeInit {
        uid: options.uid.unwrap_or(cred.fsuid),
        gid: options.gid.unwrap_or(cred.fsgid),
        rdev: dev,
        ..InodeInit::new(FIRST_SLAVE_INO + u64::from(index), raw::S_IFCHR | options.mode)
    };
    Inode::new(sb.clone(), init, Node { object: Some(object) })
}

/// A number as text.
pub(crate) struct Decimal([u8; 10]);

impl Decimal {
    pub(crate) fn of(mut number: u32) -> Self {
        let mut text = [0; 10];
        for digit in text.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        Self(text)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        let zeros = self.0.iter().take(9).take_while(|digit| **digit == b'0').count();
        self.0.get(zeros..).unwrap_or_default()
    }
}

/// The number that `name` writes, if it is one in its only spelling.
fn parse_index(name: &[u8]) -> Option<u32> {
    let index: u32 = core::str::from_utf8(name).ok()?.parse().ok()?;
    (Decimal::of(index).as_bytes() == name).then_some(index)
}

impl InodeOps for Root {
    fn lookup(&self, _: &Arc<Inode>, name: &[u8]) -> Result<Option<Arc<Inode>>> {
        let state = self.instance.state.lock();
        if name == b"ptmx" {
            return Ok(Some(self.ptmx.clone()));
        }
        Ok(parse_index(name).and_then(|index| state.slaves.get(&index)).cloned())
    }

    fn open(&self, _: &Arc<Inode>, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        Ok(FileImpl::Owned(try_box(List { instance: self.instance.clone() })?))
    }
}

impl InodeOps for Node {
    fn open(&self, _: &Arc<Inode>, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        // Device nodes are opened by their drivers.
        Err(Errno::ENXIO)
    }
}

struct List {
    instance: Arc<Instance>,
}

impl FileOps for List {
    fn iterate(&self, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        if !ctx.emit_dots(file) {
            return Ok(());
        }
        if ctx.pos == 2 && !ctx.emit(b"ptmx", PTMX_INO, Some(FileType::CharDevice), 3) {
            return Ok(());
        }
        loop {
            let Ok(from) = u32::try_from(ctx.pos.saturating_sub(3)) else { return Ok(()) };
            let next = self.instance.state.lock().slaves.range_from(&from).next().map(|(index, _)| *index);
            let Some(index) = next else { return Ok(()) };
            let ino = FIRST_SLAVE_INO + u64::from(index);
            let name = Decimal::of(index);
            if !ctx.emit(name.as_bytes(), ino, Some(FileType::CharDevice), u64::from(index) + 4) {
                return Ok(());
            }
        }
    }

    fn fsync(&self, _: &File, _: u64, _: u64, _: bool) -> Result<()> {
        Ok(())
    }
}
