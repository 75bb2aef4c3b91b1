//! What a slot word means.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use super::node::Node;

/// A type that is one non-null word whose two lowest bits are zero: a pointer to something
/// aligned to four bytes.
///
/// # Safety
/// The type has exactly the size and alignment of `usize`, no padding, and in every value of it
/// that word is non-zero with its two lowest bits clear. Moving the bits moves the value.
pub unsafe trait PointerLike: Sized {}

// SAFETY: Box<U> is a non-null pointer aligned for U; the assertion in `Slot` checks the alignment.
unsafe impl<U> PointerLike for Box<U> {}
// SAFETY: Arc<U> points to its counters, which are `usize` aligned.
unsafe impl<U> PointerLike for Arc<U> {}
// SAFETY: a reference is a non-null aligned pointer; alignment is checked on store.
unsafe impl<U> PointerLike for &'static U {}

/// An entry taken out of, or going into, the array.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<T> {
    /// A value.
    Value(T),
    /// What an evicted value left behind (62 bits).
    Shadow(u64),
}

/// An entry seen in place.
#[derive(Debug, PartialEq, Eq)]
pub enum EntryRef<'a, T> {
    /// A value.
    Value(&'a T),
    /// What an evicted value left behind.
    Shadow(u64),
}

impl<T> Clone for EntryRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for EntryRef<'_, T> {}

const TAG: usize = 0b11;
const TAG_VALUE: usize = 0b00;
const TAG_SHADOW: usize = 0b01;
const TAG_NODE: usize = 0b10;

/// One word: empty, a value, a shadow or a node.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Slot(usize);

pub(super) enum Decoded<T> {
    Empty,
    Value,
    Shadow(u64),
    Node(*mut Node),
    #[allow(dead_code)]
    Never(PhantomData<T>),
}

impl Slot {
    pub(super) const EMPTY: Slot = Slot(0);

    pub(super) fn from_entry<T: PointerLike>(entry: Entry<T>) -> Slot {
        const { assert!(size_of::<T>() == size_of::<usize>()) };
        match entry {
            Entry::Value(value) => {
                let value = ManuallyDrop::new(value);
                // SAFETY: PointerLike promises a word without padding; the ManuallyDrop hands
                // ownership to the slot.
                let bits = unsafe { core::mem::transmute_copy::<ManuallyDrop<T>, usize>(&value) };
                assert!(bits != 0 && bits & TAG == TAG_VALUE, "value not aligned to four bytes");
                Slot(bits)
            }
            Entry::Shadow(shadow) => Slot((shadow as usize) << 2 | TAG_SHADOW),
        }
    }

    pub(super) fn from_node(node: Box<Node>) -> Slot {
        Slot(Box::into_raw(node) as usize | TAG_NODE)
    }

    pub(super) fn bits(&self) -> usize {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == 0
    }

    pub(super) fn node_ptr(bits: usize) -> Option<*mut Node> {
        (bits & TAG == TAG_NODE).then_some((bits & !TAG) as *mut Node)
    }

    #[inline]
    pub(super) fn node_ref(&self) -> Option<&Node> {
        let node = Self::node_ptr(self.0)?;
        // SAFETY: a slot tagged as node owns that node; borrowing the slot borrows the tree.
        Some(unsafe { &*node })
    }

    pub(super) fn decode<T>(&self) -> Decoded<T> {
        match (self.0, self.0 & TAG) {
            (0, _) => Decoded::Empty,
            (bits, TAG_NODE) => Decoded::Node((bits & !TAG) as *mut Node),
            (bits, TAG_SHADOW) => Decoded::Shadow((bits >> 2) as u64),
            _ => Decoded::Value,
        }
    }

    #[inline]
    pub(super) fn entry_ref<T: PointerLike>(&self) -> Option<EntryRef<'_, T>> {
        match self.decode::<T>() {
            // SAFETY: the slot holds the bits of a live `T` (PointerLike: same size, alignment).
            Decoded::Value => Some(EntryRef::Value(unsafe { &*(&raw const self.0).cast::<T>() })),
            Decoded::Shadow(shadow) => Some(EntryRef::Shadow(shadow)),
            _ => None,
        }
    }

    /// Takes the entry out; a node slot must not be passed.
    pub(super) fn into_entry<T: PointerLike>(self) -> Option<Entry<T>> {
        match self.decode::<T>() {
            Decoded::Value => {
                // SAFETY: the bits came from a `T` in `from_entry`, and `self` is consumed.
                Some(Entry::Value(unsafe { core::mem::transmute_copy::<usize, T>(&self.0) }))
            }
            Decoded::Shadow(shadow) => Some(Entry::Shadow(shadow)),
            _ => None,
        }
    }

    /// Frees whatever the slot owns.
    pub(super) fn free<T: PointerLike>(self) {
        if let Decoded::Node(node) = self.decode::<T>() {
            // SAFETY: the slot owns the node it was made from with `Box::into_raw`.
            let mut node = unsafe { Box::from_raw(node) };
            for slot in &mut node.slots {
                core::mem::replace(slot, Slot::EMPTY).free::<T>();
            }
        } else {
            drop(self.into_entry::<T>());
        }
    }
}
