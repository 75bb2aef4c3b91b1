//! Registered resources: files and buffers that a ring holds, so that operations need not look them up.
//!
//! A slot holds a counted node. Requests that use a node keep it; when the last use of a node with a tag ends, the ring gets a
//! completion with the tag.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::io_uring::Cqe;
use abi::{Errno, Result};
use mm::fallible::try_with_capacity;
use mm::{PinnedPages, TryVec, try_arc};
use vfs::file::File;

use super::cq::IfFull;
use super::ring::Ring;
use crate::process::user::PinnedCharge;

/// Tells the user that a resource is not used any more.
struct Tag {
    ring: Weak<Ring>,
    tag: u64,
}

impl Drop for Tag {
    fn drop(&mut self) {
        if self.tag != 0
            && let Some(ring) = self.ring.upgrade()
            && !ring.is_dying()
        {
            ring.post(Cqe { user_data: self.tag, res: 0, flags: 0 }, IfFull::Keep);
        }
    }
}

/// The tag of a registered file, kept by the requests that use the file.
pub struct FileNode {
    _tag: Tag,
}

/// A registered file, about to be put into a slot.
pub struct FileSlot {
    file: Arc<File>,
    node: Option<Arc<FileNode>>,
}

impl FileSlot {
    /// A file with its tag; zero is none.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(ring: &Arc<Ring>, file: Arc<File>, tag: u64) -> Result<Self> {
        let node = match tag {
            0 => None,
            tag => Some(try_arc(FileNode { _tag: Tag { ring: Arc::downgrade(ring), tag } })?),
        };
        Ok(Self { file, node })
    }
}

/// The slots of a table, made outside of its lock.
pub struct FileSlots(Vec<Option<FileSlot>>);

impl FileSlots {
    /// `count` empty slots.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(count: u32) -> Result<Self> {
        let mut slots = try_with_capacity(count as usize)?;
        for _ in 0..count {
            slots.push_reserved(None);
        }
        Ok(Self(slots))
    }
}

/// The registered files of a ring.
#[derive(Default)]
pub struct FileTable {
    slots: Option<Vec<Option<FileSlot>>>,
    /// Slots that automatic allocation takes.
    range: (u32, u32),
    hint: u32,
}

/// What a slot held; dropped outside of the table's lock.
pub struct OldFile(#[allow(dead_code)] Option<FileSlot>);

impl FileTable {
    /// Whether files are registered.
    pub fn is_registered(&self) -> bool {
        self.slots.is_some()
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots.as_ref().map_or(0, Vec::len)
    }

    /// Gives the table its slots.
    ///
    /// # Errors
    /// `EBUSY` if it has some already.
    pub fn create(&mut self, slots: FileSlots) -> Result<()> {
        if self.slots.is_some() {
            return Err(Errno::EBUSY);
        }
        self.range = (0, slots.0.len() as u32);
        self.slots = Some(slots.0);
        self.hint = 0;
        Ok(())
    }

    /// The file in slot `index`, and its tag's node.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn get(&self, index: u32) -> Result<(Arc<File>, Option<Arc<FileNode>>)> {
        let slot = self.slots.as_ref().and_then(|slots| slots.get(index as usize)).ok_or(Errno::EBADF)?;
        slot.as_ref().map(|slot| (slot.file.clone(), slot.node.clone())).ok_or(Errno::EBADF)
    }

    /// Puts a file, or none, into slot `index`; what was there comes back, to be dropped outside of the lock.
    ///
    /// # Errors
    /// `ENXIO`: no table; `EINVAL`: no such slot.
    pub fn set(&mut self, index: u32, new: Option<FileSlot>) -> Result<OldFile> {
        let slots = self.slots.as_mut().ok_or(Errno::ENXIO)?;
        let slot = slots.get_mut(index as usize).ok_or(Errno::EINVAL)?;
        Ok(OldFile(core::mem::replace(slot, new)))
    }

    /// A free slot in the range of automatic allocation.
    ///
    /// # Errors
    /// `ENFILE`.
    pub fn allocate(&mut self) -> Result<u32> {
        let (start, end) = self.range;
        let slots = self.slots.as_ref().ok_or(Errno::ENFILE)?;
        let free = |index: &u32| slots.get(*index as usize).is_some_and(Option::is_none);
        let from = self.hint.clamp(start, end);
        let found = (from..end).find(free).or_else(|| (start..from).find(free)).ok_or(Errno::ENFILE)?;
        self.hint = found + 1;
        Ok(found)
    }

    /// Restricts automatic allocation to `len` slots from `start` on.
    ///
    /// # Errors
    /// `EINVAL`, `EOVERFLOW`.
    pub fn set_range(&mut self, start: u32, len: u32) -> Result<()> {
        let end = start.checked_add(len).ok_or(Errno::EOVERFLOW)?;
        if end as usize > self.slots() {
            return Err(Errno::EINVAL);
        }
        self.range = (start, end);
        self.hint = start;
        Ok(())
    }

    /// Empties the table; what it held is dropped by the caller.
    pub fn take_all(&mut self) -> Option<FileSlots> {
        self.range = (0, 0);
        self.slots.take().map(FileSlots)
    }

    /// Calls `f` for every file.
    pub fn each(&self, f: &mut dyn FnMut(usize, &Arc<File>)) {
        for (index, slot) in self.slots.iter().flatten().enumerate() {
            if let Some(slot) = slot {
                f(index, &slot.file);
            }
        }
    }
}

/// A registered buffer.
pub struct FixedBuffer {
    /// Its memory.
    pub pages: PinnedPages,
    /// Where it was when it was registered.
    pub addr: usize,
    _charge: Option<PinnedCharge>,
    _tag: Tag,
}

impl FixedBuffer {
    /// A buffer at `addr` of the running process.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM` (also beyond `RLIMIT_MEMLOCK`).
    pub fn register(ring: &Arc<Ring>, addr: usize, len: usize, tag: u64) -> Result<Arc<Self>> {
        use crate::process::Resource;
        use crate::process::user::UserCounts;
        use abi::cap::Cap;
        // A gigabyte at a time, as Linux.
        if len > 1 << 30 {
            return Err(Errno::EFAULT);
        }
        let me = crate::process::current();
        let mm = me.mm().ok_or(Errno::EFAULT)?;
        let pages = PinnedPages::pin_user(&mm, addr, len)?;
        let charge = if me.with_cred(|cred| cred.capable(Cap::IpcLock)) {
            None
        } else {
            let limit = me.process.limits.cur(Resource::Memlock) >> arch::addr::PAGE_SHIFT;
            let user = UserCounts::of(me.with_cred(|cred| cred.uid))?;
            Some(PinnedCharge::new(user, pages.nr_pages() as u64, limit).ok_or(Errno::ENOMEM)?)
        };
        let tag = Tag { ring: Arc::downgrade(ring), tag };
        Ok(try_arc(Self { pages, addr, _charge: charge, _tag: tag })?)
    }

    /// Where `len` bytes at user address `addr` are in the buffer.
    ///
    /// # Errors
    /// `EFAULT`: not inside.
    pub fn offset(&self, addr: u64, len: usize) -> Result<usize> {
        let offset = (addr as usize).checked_sub(self.addr).ok_or(Errno::EFAULT)?;
        let end = offset.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > self.pages.len() { Err(Errno::EFAULT) } else { Ok(offset) }
    }
}

/// The registered buffers of a ring.
#[derive(Default)]
pub struct BufferTable {
    slots: Option<Vec<Option<Arc<FixedBuffer>>>>,
}

impl BufferTable {
    /// Whether buffers are registered.
    pub fn is_registered(&self) -> bool {
        self.slots.is_some()
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots.as_ref().map_or(0, Vec::len)
    }

    /// Registers all of `slots`.
    ///
    /// # Errors
    /// `EBUSY`, with nothing changed.
    pub fn create(&mut self, slots: Vec<Option<Arc<FixedBuffer>>>) -> Result<()> {
        if self.slots.is_some() {
            return Err(Errno::EBUSY);
        }
        self.slots = Some(slots);
        Ok(())
    }

    /// The buffer in slot `index`.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn get(&self, index: u16) -> Result<Arc<FixedBuffer>> {
        let slots = self.slots.as_ref().ok_or(Errno::EFAULT)?;
        slots.get(usize::from(index)).cloned().flatten().ok_or(Errno::EFAULT)
    }

    /// Replaces slot `index`; what was there comes back.
    ///
    /// # Errors
    /// `ENXIO`: no table; `EINVAL`: no such slot.
    pub fn set(&mut self, index: u32, buffer: Option<Arc<FixedBuffer>>) -> Result<Option<Arc<FixedBuffer>>> {
        let slots = self.slots.as_mut().ok_or(Errno::ENXIO)?;
        let slot = slots.get_mut(index as usize).ok_or(Errno::EINVAL)?;
        Ok(core::mem::replace(slot, buffer))
    }

    /// A copy of all slots.
    ///
    /// # Errors
    /// `ENXIO`: nothing is registered; `ENOMEM`.
    pub fn duplicate(&self) -> Result<Vec<Option<Arc<FixedBuffer>>>> {
        let slots = self.slots.as_ref().ok_or(Errno::ENXIO)?;
        let mut copy = Vec::new();
        copy.try_extend(slots.iter().cloned())?;
        Ok(copy)
    }

    /// Empties the table; what it held is dropped by the caller.
    pub fn take_all(&mut self) -> Option<Vec<Option<Arc<FixedBuffer>>>> {
        self.slots.take()
    }

    /// Calls `f` for every buffer.
    pub fn each(&self, f: &mut dyn FnMut(usize, Option<&FixedBuffer>)) {
        for (index, slot) in self.slots.iter().flatten().enumerate() {
            f(index, slot.as_deref());
        }
    }
}
