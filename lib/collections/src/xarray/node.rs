//! Tree nodes and the walks that change them.

use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;

use super::Mark;
use super::entry::{Decoded, Entry, PointerLike, Slot};
use crate::OutOfMemory;

/// Index bits per level.
pub(super) const SHIFT: u32 = 6;
/// Slots per node.
pub(super) const SLOTS: usize = 1 << SHIFT;

/// 64 slots, their marks, and how many are used.
pub(super) struct Node {
    pub(super) slots: [Slot; SLOTS],
    pub(super) marks: [u64; 3],
    pub(super) shift: u32,
    pub(super) used: u32,
}

/// Which slot of a node at `shift` leads to `index`.
#[inline]
pub(super) fn slot_of(index: u64, shift: u32) -> usize {
    (index >> shift) as usize & (SLOTS - 1)
}

/// The highest index below a node at `shift`.
pub(super) fn max_index(shift: u32) -> u64 {
    if shift + SHIFT >= u64::BITS { u64::MAX } else { (1 << (shift + SHIFT)) - 1 }
}

impl Node {
    pub(super) fn allocate(shift: u32) -> Result<Box<Node>, OutOfMemory> {
        // SAFETY: Node is not zero-sized.
        let raw = unsafe { alloc(Layout::new::<Node>()) }.cast::<Node>();
        if raw.is_null() {
            return Err(OutOfMemory);
        }
        let node = Node { slots: [const { Slot::EMPTY }; SLOTS], marks: [0; 3], shift, used: 0 };
        // SAFETY: `raw` is fresh memory of Node's layout.
        unsafe { raw.write(node) };
        // SAFETY: allocated by the global allocator with Node's layout and initialised.
        Ok(unsafe { Box::from_raw(raw) })
    }

    pub(super) fn set_slot(&mut self, slot: usize, value: Slot) {
        let old = self.replace_slot(slot, value);
        debug_assert!(old.is_empty());
    }

    pub(super) fn replace_slot(&mut self, slot: usize, value: Slot) -> Slot {
        let now = u32::from(!value.is_empty());
        let old = core::mem::replace(&mut self.slots[slot], value);
        self.used = self.used + now - u32::from(!old.is_empty());
        old
    }

    pub(super) fn set_mark(&mut self, slot: usize, mark: Mark) {
        self.marks[mark as usize] |= 1 << slot;
    }

    pub(super) fn has_mark(&self, slot: usize, mark: Mark) -> bool {
        self.marks[mark as usize] >> slot & 1 != 0
    }
}

/// Clears `mark` on the path to `index`; returns whether the node still has it anywhere.
pub(super) fn clear_mark_below<T>(node: *mut Node, shift: u32, index: u64, mark: Mark) -> bool {
    // SAFETY: the caller holds the array exclusively and passes a node of it.
    let node = unsafe { &mut *node };
    let slot = slot_of(index, shift);
    let keep = match node.slots[slot].decode::<T>() {
        Decoded::Node(child) if shift > 0 => clear_mark_below::<T>(child, shift - SHIFT, index, mark),
        _ => false,
    };
    if !keep {
        node.marks[mark as usize] &= !(1 << slot);
    }
    node.marks[mark as usize] != 0
}

/// Empties the slot of `index` with its marks; returns the entry and whether `node` is now empty.
pub(super) fn remove_below<T: PointerLike>(
    node: *mut Node,
    shift: u32,
    index: u64,
) -> (Option<Entry<T>>, bool) {
    // SAFETY: the caller holds the array exclusively and passes a node of it.
    let node = unsafe { &mut *node };
    let slot = slot_of(index, shift);
    let old = match node.slots[slot].decode::<T>() {
        Decoded::Node(child) => {
            let (old, empty) = remove_below::<T>(child, shift - SHIFT, index);
            // SAFETY: still owned by this node; freed only below.
            let child_marks = unsafe { (*child).marks };
            for (mark, bits) in child_marks.iter().enumerate() {
                if *bits == 0 {
                    node.marks[mark] &= !(1 << slot);
                }
            }
            if empty {
                node.replace_slot(slot, Slot::EMPTY).free::<T>();
            }
            old
        }
        _ => {
            for marks in &mut node.marks {
                *marks &= !(1 << slot);
            }
            node.replace_slot(slot, Slot::EMPTY).into_entry::<T>()
        }
    };
    (old, node.used == 0)
}
