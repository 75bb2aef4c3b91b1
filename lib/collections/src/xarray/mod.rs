//! A radix tree from `u64` to a pointer-sized value: Linux's XArray, as the page cache uses it.
//!
//! Owns: the tree nodes (64 slots each, 6 index bits per level) and the values in them.
//! Does not own: locking. Readers need `&`, writers `&mut`; the page cache keeps the array under
//! its mapping lock.
//!
//! A slot holds nothing, a value (`T`), a *shadow* (an integer of 62 bits that an evicted folio
//! leaves behind), or a child node. Values and shadows share the slot word: the two lowest bits
//! tell them apart, hence the [`PointerLike`] bound. A node is 568 bytes.
//!
//! Three [`Mark`]s per entry are summarised in every ancestor, so that "next dirty page" skips
//! clean subtrees. Marks die with their entry.
//!
//! Invariants: a node other than the root has at least one used slot; a mark bit is set in a
//! node only if its slot is used (leaf) or the child has that mark somewhere (inner node); the
//! tree is only as high as its highest index needs.

mod entry;
mod iter;
mod node;
#[cfg(test)]
mod tests;

pub use entry::{Entry, EntryRef, PointerLike};
pub use iter::Iter;

use core::marker::PhantomData;

use crate::OutOfMemory;
use entry::{Decoded, Slot};
use node::{Node, SHIFT, SLOTS, slot_of};

/// One of three per-entry flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    /// Linux's `XA_MARK_0` (page cache: dirty).
    Mark0 = 0,
    /// Linux's `XA_MARK_1` (page cache: under writeback).
    Mark1 = 1,
    /// Linux's `XA_MARK_2` (page cache: to be written).
    Mark2 = 2,
}

/// Page-cache name for [`Mark::Mark0`].
pub const MARK_DIRTY: Mark = Mark::Mark0;
/// Page-cache name for [`Mark::Mark1`].
pub const MARK_WRITEBACK: Mark = Mark::Mark1;
/// Page-cache name for [`Mark::Mark2`].
pub const MARK_TOWRITE: Mark = Mark::Mark2;

/// The largest shadow value (62 bits).
pub const MAX_SHADOW: u64 = u64::MAX >> 2;

/// The tree. See the module text.
pub struct XArray<T: PointerLike> {
    /// Nothing, or the top node (an entry at index 0 alone also sits in a node: simple, and the
    /// page cache of a one-page file pays one node).
    root: Slot,
    /// Index bits the root node resolves above its own six; 0 for a single leaf node.
    shift: u32,
    values: usize,
    shadows: usize,
    _owns: PhantomData<T>,
}

// SAFETY: the array owns its values like a Vec does; nodes are plain memory.
unsafe impl<T: PointerLike + Send> Send for XArray<T> {}
// SAFETY: `&XArray` only hands out `&T`.
unsafe impl<T: PointerLike + Sync> Sync for XArray<T> {}

impl<T: PointerLike> Default for XArray<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: PointerLike> XArray<T> {
    /// An empty array; allocates nothing.
    pub const fn new() -> Self {
        Self { root: Slot::EMPTY, shift: 0, values: 0, shadows: 0, _owns: PhantomData }
    }

    /// Number of values (Linux's `nrpages`).
    pub fn len(&self) -> usize {
        self.values
    }

    /// Whether there are no values (shadows may remain).
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// Number of shadow entries (Linux's `nrexceptional`).
    pub fn shadows(&self) -> usize {
        self.shadows
    }

    /// The value at `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&T> {
        match self.get_entry(index) {
            Some(EntryRef::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// What is at `index`.
    #[inline]
    pub fn get_entry(&self, index: u64) -> Option<EntryRef<'_, T>> {
        let (node, slot) = self.leaf(index)?;
        node.slots[slot].entry_ref()
    }

    /// Puts a value at `index`; returns what was there. Keeps the marks of a replaced value.
    pub fn store(&mut self, index: u64, value: T) -> Result<Option<Entry<T>>, OutOfMemory> {
        self.store_entry(index, Entry::Value(value))
    }

    /// Puts a value or a shadow at `index`; returns what was there. A shadow clears the marks.
    pub fn store_entry(&mut self, index: u64, entry: Entry<T>) -> Result<Option<Entry<T>>, OutOfMemory> {
        self.reserve(index)?;
        Ok(self.store_reserved(index, entry))
    }

    /// Allocates the nodes on the way to `index`, so that a following [`XArray::store_entry`]
    /// at that index cannot fail. Unused nodes go away with the next removal below them.
    pub fn reserve(&mut self, index: u64) -> Result<(), OutOfMemory> {
        self.grow_to(index)?;
        let mut shift = self.shift;
        let Decoded::Node(root) = self.root.decode::<T>() else {
            return Err(OutOfMemory);
        };
        // SAFETY: the root slot holds a node this array owns; `&mut self` makes access exclusive.
        let mut node = unsafe { &mut *root };
        while shift > 0 {
            let slot = slot_of(index, shift);
            if node.slots[slot].is_empty() {
                let child = Node::allocate(shift - SHIFT)?;
                node.set_slot(slot, Slot::from_node(child));
            }
            let Decoded::Node(child) = node.slots[slot].decode::<T>() else {
                return Err(OutOfMemory);
            };
            // SAFETY: as for the root; inner slots hold owned nodes only.
            node = unsafe { &mut *child };
            shift -= SHIFT;
        }
        Ok(())
    }

    /// Takes the entry at `index` out.
    pub fn remove_entry(&mut self, index: u64) -> Option<Entry<T>> {
        self.leaf(index)?;
        let old = self.clear_slot(index);
        self.count_out(&old);
        old
    }

    /// Takes the value at `index` out; a shadow stays and gives `None`.
    pub fn remove(&mut self, index: u64) -> Option<T> {
        self.get(index)?;
        match self.remove_entry(index) {
            Some(Entry::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// Puts `shadow` in place of the value at `index` without allocating; returns the value.
    pub fn replace_with_shadow(&mut self, index: u64, shadow: u64) -> Option<T> {
        self.get(index)?;
        match self.store_reserved(index, Entry::Shadow(shadow & MAX_SHADOW)) {
            Some(Entry::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// Drops every entry.
    pub fn clear(&mut self) {
        let root = core::mem::replace(&mut self.root, Slot::EMPTY);
        self.shift = 0;
        self.values = 0;
        self.shadows = 0;
        root.free::<T>();
    }

    /// Sets `mark` on the entry at `index`; returns whether there is one.
    pub fn set_mark(&mut self, index: u64, mark: Mark) -> bool {
        if self.get_entry(index).is_none() {
            return false;
        }
        self.walk_path(index, |node, slot| node.set_mark(slot, mark));
        true
    }

    /// Clears `mark` on the entry at `index`; returns whether it was set.
    pub fn clear_mark(&mut self, index: u64, mark: Mark) -> bool {
        if !self.is_marked(index, mark) {
            return false;
        }
        if let Decoded::Node(root) = self.root.decode::<T>() {
            node::clear_mark_below::<T>(root, self.shift, index, mark);
        }
        true
    }

    /// Whether the entry at `index` has `mark`.
    pub fn is_marked(&self, index: u64, mark: Mark) -> bool {
        self.leaf(index).is_some_and(|(node, slot)| node.has_mark(slot, mark))
    }

    /// Whether any entry has `mark`.
    pub fn any_marked(&self, mark: Mark) -> bool {
        match self.root.node_ref() {
            Some(node) => node.marks[mark as usize] != 0,
            None => false,
        }
    }

    /// The highest index the present height can hold.
    fn max_index(&self) -> u64 {
        node::max_index(self.shift)
    }

    #[inline]
    fn leaf(&self, index: u64) -> Option<(&Node, usize)> {
        if index > self.max_index() {
            return None;
        }
        let mut node = self.root.node_ref()?;
        let mut shift = self.shift;
        while shift > 0 {
            node = node.slots[slot_of(index, shift)].node_ref()?;
            shift -= SHIFT;
        }
        Some((node, slot_of(index, 0)))
    }

    fn grow_to(&mut self, index: u64) -> Result<(), OutOfMemory> {
        if self.root.is_empty() {
            self.shift = 0;
            while index > self.max_index() {
                self.shift += SHIFT;
            }
            self.root = Slot::from_node(Node::allocate(self.shift)?);
            return Ok(());
        }
        while index > self.max_index() {
            let mut top = Node::allocate(self.shift + SHIFT)?;
            if let Some(old) = self.root.node_ref() {
                for (mark, bits) in old.marks.iter().enumerate() {
                    top.marks[mark] = u64::from(*bits != 0);
                }
            }
            top.set_slot(0, core::mem::replace(&mut self.root, Slot::EMPTY));
            self.root = Slot::from_node(top);
            self.shift += SHIFT;
        }
        Ok(())
    }

    /// Stores where [`XArray::reserve`] has made the path.
    fn store_reserved(&mut self, index: u64, entry: Entry<T>) -> Option<Entry<T>> {
        let keep_marks = matches!(entry, Entry::Value(_));
        if !keep_marks {
            for mark in [Mark::Mark0, Mark::Mark1, Mark::Mark2] {
                self.clear_mark(index, mark);
            }
        }
        match entry {
            Entry::Value(_) => self.values += 1,
            Entry::Shadow(_) => self.shadows += 1,
        }
        let mut new = Some(Slot::from_entry(entry));
        let mut old = None;
        let shift = self.shift;
        self.walk_path(index, |node, slot| {
            if node.shift == 0
                && let Some(new) = new.take()
            {
                old = node.replace_slot(slot, new).into_entry::<T>();
            }
        });
        debug_assert!(new.is_none(), "store without reserve at shift {shift}");
        self.count_out(&old);
        old
    }

    fn count_out(&mut self, old: &Option<Entry<T>>) {
        match old {
            Some(Entry::Value(_)) => self.values -= 1,
            Some(Entry::Shadow(_)) => self.shadows -= 1,
            None => {}
        }
    }

    /// Calls `f` on every existing node from the root to the leaf of `index`.
    fn walk_path(&mut self, index: u64, mut f: impl FnMut(&mut Node, usize)) {
        if index > self.max_index() {
            return;
        }
        let mut slot = self.root.bits();
        let mut shift = self.shift;
        while let Some(node) = Slot::node_ptr(slot) {
            // SAFETY: a node reachable from the root is owned by this array, and `&mut self`
            // makes the access exclusive; the previous node's borrow has ended.
            let node = unsafe { &mut *node };
            let at = slot_of(index, shift);
            f(node, at);
            slot = node.slots[at].bits();
            if shift == 0 {
                break;
            }
            shift -= SHIFT;
        }
    }

    /// Empties the slot of `index`, and frees the nodes that became empty.
    fn clear_slot(&mut self, index: u64) -> Option<Entry<T>> {
        let Decoded::Node(root) = self.root.decode::<T>() else {
            return None;
        };
        let (old, empty) = node::remove_below::<T>(root, self.shift, index);
        if empty {
            core::mem::replace(&mut self.root, Slot::EMPTY).free::<T>();
            self.shift = 0;
        }
        old
    }
}

impl<T: PointerLike> Drop for XArray<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

const _: () = assert!(SLOTS == 64);
