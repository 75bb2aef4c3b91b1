//! Provided buffers: groups from which an operation takes a buffer when it has data.
//!
//! A group is a list filled by `IORING_OP_PROVIDE_BUFFERS`, or a ring in shared memory (`IORING_REGISTER_PBUF_RING`) whose tail the user
//! moves. Lock: `Ring::kbufs`, sleeping, inside of the submission lock and of `mmap_lock`: page faults on a mapped ring take it, so no
//! user memory is touched under it.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::io_uring::{Buf, raw};
use abi::{Errno, Result};
use mm::{SharedRing, SortedMap, TryDeque, TryVec};

use super::ring::Ring;

/// Offset of the tail in a ring of buffers.
const TAIL: usize = 14;
/// Bytes of a ring's entry.
const ENTRY: usize = size_of::<Buf>();

/// A buffer that a list holds.
#[derive(Clone, Copy, Debug)]
struct Provided {
    addr: u64,
    len: u32,
    bid: u16,
}

/// A ring of buffers.
pub struct BufRing {
    memory: SharedRing,
    entries: u32,
    head: u16,
    /// The user maps the kernel's memory.
    mapped: bool,
    /// Buffers are consumed piece by piece.
    incremental: bool,
}

enum Group {
    List(VecDeque<Provided>),
    Ring(BufRing),
}

/// All groups of a ring.
#[derive(Default)]
pub struct Groups {
    groups: SortedMap<u16, Group>,
    /// Rings that were removed and may still be mapped: they go with the io_uring.
    retired: Vec<BufRing>,
}

/// A buffer that was taken for an operation.
#[derive(Clone, Copy, Debug)]
pub struct Selected {
    /// Its group.
    group: u16,
    /// Its number.
    bid: u16,
    /// Where it is.
    pub addr: u64,
    /// Bytes of it that may be used.
    pub len: u32,
    /// All its bytes.
    full: u32,
    ring: bool,
}

/// Most buffers of a list, and entries of a ring.
const MAX_BUFFERS: u32 = 1 << 16;

impl BufRing {
    fn tail(&self) -> u16 {
        // The tail is the upper half of the word before the second entry's address.
        (self.memory.load(TAIL - 2) >> 16) as u16
    }

    fn entry(&self, at: u16) -> usize {
        (u32::from(at) & (self.entries - 1)) as usize * ENTRY
    }
}

impl Groups {
    /// Takes a buffer of `group` for at most `len` bytes (zero: all of it).
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn select(&mut self, group: u16, len: usize) -> Result<Selected> {
        let cut = |have: u32| if len == 0 { have } else { have.min(u32::try_from(len).unwrap_or(u32::MAX)) };
        match self.groups.get_mut(&group) {
            Some(Group::List(list)) => {
                let buf = list.pop_front().ok_or(Errno::ENOBUFS)?;
                Ok(Selected {
                    group,
                    bid: buf.bid,
                    addr: buf.addr,
                    len: cut(buf.len),
                    full: buf.len,
                    ring: false,
                })
            }
            Some(Group::Ring(ring)) => {
                if ring.tail() == ring.head {
                    return Err(Errno::ENOBUFS);
                }
                let buf: Buf = ring.memory.read(ring.entry(ring.head)).ok_or(Errno::ENOBUFS)?;
                ring.head = ring.head.wrapping_add(1);
                Ok(Selected {
                    group,
                    bid: buf.bid,
                    addr: buf.addr,
                    len: cut(buf.len),
                    full: buf.len,
                    ring: true,
                })
            }
            None => Err(Errno::ENOBUFS),
        }
    }

    /// Gives back a buffer that was not used.
    pub fn put_back(&mut self, selected: Selected) {
        match self.groups.get_mut(&selected.group) {
            Some(Group::Ring(ring)) if selected.ring => ring.head = ring.head.wrapping_sub(1),
            Some(Group::List(list)) => {
                let fits = !selected.ring && list.try_reserve(1).is_ok();
                let buffer = Provided { addr: selected.addr, len: selected.full, bid: selected.bid };
                if fits {
                    list.push_front_reserved(buffer);
                }
            }
            _ => {}
        }
    }

    /// `used` bytes of a buffer were used: what the completion's flags say of it.
    pub fn used(&mut self, selected: &Selected, used: usize) -> u32 {
        let mut flags = raw::IORING_CQE_F_BUFFER | u32::from(selected.bid) << raw::IORING_CQE_BUFFER_SHIFT;
        if selected.ring
            && let Some(Group::Ring(ring)) = self.groups.get_mut(&selected.group)
            && ring.incremental
        {
            let at = ring.entry(ring.head.wrapping_sub(1));
            if let Some(mut buf) = ring.memory.read::<Buf>(at)
                && buf.bid == selected.bid
            {
                let used = u32::try_from(used).unwrap_or(u32::MAX).min(buf.len);
                buf.addr = buf.addr.wrapping_add(u64::from(used));
                buf.len -= used;
                // Only these two: the tail may lie in the entry.
                ring.memory.write(at, &buf.addr);
                ring.memory.store(at + 8, buf.len);
                if buf.len != 0 {
                    ring.head = ring.head.wrapping_sub(1);
                    flags |= raw::IORING_CQE_F_BUF_MORE;
                }
            }
        }
        flags
    }

    /// `IORING_OP_PROVIDE_BUFFERS`: `count` buffers of `len` bytes from `addr` on, numbered from `bid`.
    ///
    /// # Errors
    /// `EINVAL`: the group is a ring; `ENOMEM`.
    pub fn provide(&mut self, group: u16, addr: u64, len: u32, bid: u16, count: u32) -> Result<()> {
        let list = match self.groups.try_get_or_insert_with(group, || Group::List(VecDeque::new()))? {
            Group::List(list) => list,
            Group::Ring(_) => return Err(Errno::EINVAL),
        };
        list.try_reserve(count as usize).map_err(|_| Errno::ENOMEM)?;
        for index in 0..count {
            let addr = addr.wrapping_add(u64::from(index) * u64::from(len));
            list.push_back_reserved(Provided { addr, len, bid: bid.wrapping_add(index as u16) });
        }
        Ok(())
    }

    /// `IORING_OP_REMOVE_BUFFERS`: up to `count`; how many there were.
    ///
    /// # Errors
    /// `ENOENT`: no such group; `EINVAL`: it is a ring.
    pub fn remove(&mut self, group: u16, count: u32) -> Result<usize> {
        match self.groups.get_mut(&group) {
            None => Err(Errno::ENOENT),
            Some(Group::Ring(_)) => Err(Errno::EINVAL),
            Some(Group::List(list)) => {
                let count = list.len().min(count as usize);
                list.drain(..count);
                Ok(count)
            }
        }
    }

    /// Adds a ring in pinned memory, or in the kernel's, which is to be mapped.
    fn insert(
        &mut self,
        group: u16,
        pinned: Option<SharedRing>,
        entries: u32,
        incremental: bool,
    ) -> Result<()> {
        match self.groups.get(&group) {
            None => {}
            Some(Group::List(list)) if list.is_empty() => {}
            Some(_) => return Err(Errno::EEXIST),
        }
        let len = entries as usize * ENTRY;
        let mapped = pinned.is_none();
        let memory = match pinned {
            Some(memory) => memory,
            // One of the same size that was removed serves again: what may be mapped does not pile up.
            None => match self.retired.iter().position(|ring| ring.entries == entries) {
                Some(at) => {
                    let memory = self.retired.swap_remove(at).memory;
                    memory.zero();
                    memory
                }
                None => SharedRing::alloc(len)?,
            },
        };
        let ring = BufRing { memory, entries, head: 0, mapped, incremental };
        drop(self.groups.try_insert(group, Group::Ring(ring))?);
        Ok(())
    }

    /// Removes a ring.
    ///
    /// # Errors
    /// `ENOENT`: no such group; `EINVAL`: it is a list.
    pub fn unregister(&mut self, group: u16) -> Result<()> {
        match self.groups.get(&group) {
            None => Err(Errno::ENOENT),
            Some(Group::List(_)) => Err(Errno::EINVAL),
            Some(Group::Ring(_)) => {
                self.retired.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                if let Some(Group::Ring(ring)) = self.groups.remove(&group)
                    && ring.mapped
                {
                    self.retired.push_reserved(ring);
                }
                Ok(())
            }
        }
    }

    /// How far a ring was consumed.
    ///
    /// # Errors
    /// `ENOENT`, `EINVAL`.
    pub fn head(&self, group: u16) -> Result<u16> {
        match self.groups.get(&group) {
            None => Err(Errno::ENOENT),
            Some(Group::List(_)) => Err(Errno::EINVAL),
            Some(Group::Ring(ring)) => Ok(ring.head),
        }
    }

    /// The memory of a ring that the user maps.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn mapped_ring(&self, group: u16) -> Result<&SharedRing> {
        match self.groups.get(&group) {
            Some(Group::Ring(ring)) if ring.mapped => Ok(&ring.memory),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Registers a ring of `entries` buffers: in the user's memory at `addr`, or in memory to be mapped.
///
/// # Errors
/// `EINVAL`, `EEXIST`, `EFAULT`, `ENOMEM`.
pub fn register(ring: &Ring, group: u16, addr: u64, entries: u32, flags: u16) -> Result<()> {
    let flags = u32::from(flags);
    const MMAP: u32 = 1;
    const INC: u32 = 2;
    if flags & !(MMAP | INC) != 0 {
        return Err(Errno::EINVAL);
    }
    let mapped = flags & MMAP != 0;
    if mapped == (addr != 0) || !mapped && !addr.is_multiple_of(arch::addr::PAGE_SIZE as u64) {
        return Err(if mapped || addr != 0 { Errno::EINVAL } else { Errno::EFAULT });
    }
    if !entries.is_power_of_two() || entries >= MAX_BUFFERS {
        return Err(Errno::EINVAL);
    }
    let pinned = if mapped {
        None
    } else {
        let mm = crate::process::current().mm().ok_or(Errno::EFAULT)?;
        Some(SharedRing::pin_user(&mm, addr as usize, entries as usize * ENTRY)?)
    };
    ring.kbufs.lock().insert(group, pinned, entries, flags & INC != 0)
}

/// Takes a buffer for `len` bytes.
///
/// # Errors
/// `ENOBUFS`.
pub fn select(ring: &Arc<Ring>, group: u16, len: usize) -> Result<Selected> {
    ring.kbufs.lock().select(group, len)
}
