//! A queue of boxes that are linked through themselves: pushing never allocates, and whoever pops a box owns it.
//!
//! For objects that are handed from stage to stage, such as block requests: at any time one stage owns an object, and a stage
//! with many of them keeps them in a [`Fifo`]. The link lies beside the object, out of reach of whoever can change the object.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::OutOfMemory;
use crate::fallible;

/// An object and its place in a queue.
pub struct Node<T> {
    next: Option<NonNull<Node<T>>>,
    value: T,
}

// SAFETY: a link that is set belongs to a `Fifo<T>`, which moves between threads if its objects may; of a node outside of one it is none.
unsafe impl<T: Send> Send for Node<T> {}
// SAFETY: links are followed by the owner of the queue only.
unsafe impl<T: Sync> Sync for Node<T> {}

/// A boxed object that can be in a [`Fifo`].
pub struct Chained<T>(Box<Node<T>>);

impl<T> Chained<T> {
    /// Boxes `value`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn try_new(value: T) -> Result<Self, OutOfMemory> {
        fallible::try_box(Node { next: None, value }).map(Self)
    }

    /// The box, for a place that keeps boxes.
    #[inline]
    pub fn into_box(self) -> Box<Node<T>> {
        self.0
    }

    /// The other way.
    #[inline]
    pub fn from_box(node: Box<Node<T>>) -> Self {
        Self(node)
    }

    fn leak(self) -> NonNull<Node<T>> {
        NonNull::from(Box::leak(self.0))
    }
}

impl<T> Deref for Chained<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> DerefMut for Chained<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Chained<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A queue of boxes, first in, first out.
pub struct Fifo<T> {
    head: Option<NonNull<Node<T>>>,
    tail: Option<NonNull<Node<T>>>,
    len: usize,
    owns: PhantomData<Box<Node<T>>>,
}

// SAFETY: the queue owns its boxes, as a `Vec<Box<T>>` would.
unsafe impl<T: Send> Send for Fifo<T> {}
// SAFETY: a shared queue gives out shared references only.
unsafe impl<T: Sync> Sync for Fifo<T> {}

impl<T> Fifo<T> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { head: None, tail: None, len: 0, owns: PhantomData }
    }

    /// Whether there is nothing in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// How many are in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds one behind all others.
    #[inline]
    pub fn push_back(&mut self, mut item: Chained<T>) {
        item.0.next = None;
        let item = item.leak();
        match self.tail {
            // SAFETY: the queue owns what is linked, and nobody else refers to it while the queue is borrowed mutably.
            Some(tail) => unsafe { (*tail.as_ptr()).next = Some(item) },
            None => self.head = Some(item),
        }
        self.tail = Some(item);
        self.len += 1;
    }

    /// Adds one before all others.
    #[inline]
    pub fn push_front(&mut self, mut item: Chained<T>) {
        item.0.next = self.head;
        let item = item.leak();
        if self.head.is_none() {
            self.tail = Some(item);
        }
        self.head = Some(item);
        self.len += 1;
    }

    /// Takes the first.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Chained<T>> {
        let head = self.head?;
        // SAFETY: what is linked came out of a box, and is taken out of the queue once.
        let mut item = Chained(unsafe { Box::from_raw(head.as_ptr()) });
        self.head = item.0.next.take();
        if self.head.is_none() {
            self.tail = None;
        }
        self.len -= 1;
        Some(item)
    }

    /// Moves all of `other` behind all others.
    pub fn append(&mut self, other: &mut Self) {
        let Some(first) = other.head.take() else { return };
        match self.tail {
            // SAFETY: as in `push_back`.
            Some(tail) => unsafe { (*tail.as_ptr()).next = Some(first) },
            None => self.head = Some(first),
        }
        self.tail = other.tail.take();
        self.len += core::mem::take(&mut other.len);
    }

    /// Moves all of `other` before all others.
    pub fn prepend(&mut self, other: &mut Self) {
        core::mem::swap(self, other);
        self.append(other);
    }

    /// The first.
    #[inline]
    pub fn front(&self) -> Option<&T> {
        // SAFETY: the queue owns it, and is borrowed.
        self.head.map(|head| unsafe { &head.as_ref().value })
    }

    /// The first, to change.
    #[inline]
    pub fn front_mut(&mut self) -> Option<&mut T> {
        // SAFETY: the queue owns it, and is borrowed mutably. The link is not given out.
        self.head.map(|head| unsafe { &mut (*head.as_ptr()).value })
    }

    /// The last.
    #[inline]
    pub fn back(&self) -> Option<&T> {
        // SAFETY: the queue owns it, and is borrowed.
        self.tail.map(|tail| unsafe { &tail.as_ref().value })
    }

    /// The last, to change.
    #[inline]
    pub fn back_mut(&mut self) -> Option<&mut T> {
        // SAFETY: the queue owns it, and is borrowed mutably. The link is not given out.
        self.tail.map(|tail| unsafe { &mut (*tail.as_ptr()).value })
    }

    /// All, in order.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { next: self.head, queue: PhantomData }
    }

    /// All, in order, to change.
    pub fn iter_mut(&mut self) -> IterMut<'_, T> {
        IterMut { next: self.head, queue: PhantomData }
    }
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Fifo<T> {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

impl<T: fmt::Debug> fmt::Debug for Fifo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterator of [`Fifo::iter`].
pub struct Iter<'a, T> {
    next: Option<NonNull<Node<T>>>,
    queue: PhantomData<&'a T>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        // SAFETY: the queue is borrowed for 'a: what is linked stays, unchanged.
        let node = unsafe { self.next?.as_ref() };
        self.next = node.next;
        Some(&node.value)
    }
}

/// Iterator of [`Fifo::iter_mut`].
pub struct IterMut<'a, T> {
    next: Option<NonNull<Node<T>>>,
    queue: PhantomData<&'a mut T>,
}

impl<'a, T> Iterator for IterMut<'a, T> {
    type Item = &'a mut T;

    #[inline]
    fn next(&mut self) -> Option<&'a mut T> {
        let node = self.next?.as_ptr();
        // SAFETY: the queue is borrowed mutably for 'a, and each object is given out once; the link is read apart from it.
        unsafe {
            self.next = (*node).next;
            Some(&mut (*node).value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use proptest::prelude::*;

    fn node(value: u32) -> Chained<Box<u32>> {
        Chained::try_new(Box::new(value)).unwrap()
    }

    /// Whoever can change objects cannot change the order.
    #[test]
    fn exchanged_objects_leave_the_queues_as_they_are() {
        let (mut one, mut two) = (Fifo::new(), Fifo::new());
        one.push_back(node(1));
        two.push_back(node(2));
        two.push_back(node(3));
        core::mem::swap(one.front_mut().unwrap(), two.front_mut().unwrap());
        assert!(one.iter().map(|n| **n).eq([2]) && two.iter().map(|n| **n).eq([1, 3]));
        let popped = one.pop_front().unwrap();
        assert!(one.back().is_none() && **popped == 2);
        one.push_back(popped);
        one.append(&mut two);
        assert!(one.iter().map(|n| **n).eq([2, 1, 3]));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Back(u32),
        Front(u32),
        Pop,
        Append(Vec<u32>),
        Prepend(Vec<u32>),
        Double,
    }

    fn step() -> impl Strategy<Value = Step> {
        let some = || proptest::collection::vec(0u32..100, 0..4);
        prop_oneof![
            (0u32..100).prop_map(Step::Back),
            (0u32..100).prop_map(Step::Front),
            Just(Step::Pop),
            some().prop_map(Step::Append),
            some().prop_map(Step::Prepend),
            Just(Step::Double),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn as_a_deque(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut fifo, mut model) = (Fifo::new(), VecDeque::new());
            for step in steps {
                match step {
                    Step::Back(n) => { fifo.push_back(node(n)); model.push_back(n); }
                    Step::Front(n) => { fifo.push_front(node(n)); model.push_front(n); }
                    Step::Pop => prop_assert_eq!(fifo.pop_front().map(|n| **n), model.pop_front()),
                    Step::Append(list) => {
                        let mut other = Fifo::new();
                        for &n in &list { other.push_back(node(n)); model.push_back(n); }
                        fifo.append(&mut other);
                        prop_assert!(other.is_empty() && other.back().is_none());
                    }
                    Step::Prepend(list) => {
                        let mut other = Fifo::new();
                        for &n in &list { other.push_back(node(n)); }
                        for &n in list.iter().rev() { model.push_front(n); }
                        fifo.prepend(&mut other);
                        prop_assert!(other.is_empty());
                    }
                    Step::Double => {
                        for n in fifo.iter_mut() { **n *= 2; **n %= 1000; }
                        for n in &mut model { *n *= 2; *n %= 1000; }
                        if let (Some(n), Some(m)) = (fifo.back_mut(), model.back_mut()) { **n += 1; *m += 1; }
                    }
                }
                prop_assert_eq!(fifo.len(), model.len());
                prop_assert_eq!(fifo.front().map(|n| **n), model.front().copied());
                prop_assert_eq!(fifo.back().map(|n| **n), model.back().copied());
                prop_assert!(fifo.iter().map(|n| **n).eq(model.iter().copied()));
            }
        }
    }
}
