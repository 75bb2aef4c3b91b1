//! A queue of boxes that are linked through themselves: pushing never allocates, and whoever pops a box owns it.
//!
//! For objects that are handed from stage to stage, such as block requests: at any time one stage owns an object, and a stage
//! with many of them keeps them in a [`Fifo`].

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// The place of an object in a [`Fifo`].
pub struct Link<T>(Option<NonNull<T>>);

// SAFETY: a link that is set belongs to a `Fifo<T>`, which moves between threads if its boxes may; without a `Fifo` it says nothing.
unsafe impl<T: Send> Send for Link<T> {}
// SAFETY: a shared link cannot be followed.
unsafe impl<T: Send> Sync for Link<T> {}

impl<T> Link<T> {
    /// In no queue.
    pub const fn new() -> Self {
        Self(None)
    }
}

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// What can be in a [`Fifo`].
pub trait Chained: Sized {
    /// The object's link: always the same field, which nobody else writes.
    fn link(&mut self) -> &mut Link<Self>;
    /// The same field.
    fn link_ref(&self) -> &Link<Self>;
}

/// A queue of boxes, first in, first out.
pub struct Fifo<T: Chained> {
    head: Option<NonNull<T>>,
    tail: Option<NonNull<T>>,
    len: usize,
    owns: PhantomData<Box<T>>,
}

// SAFETY: the queue owns its boxes, as a `Vec<Box<T>>` would.
unsafe impl<T: Chained + Send> Send for Fifo<T> {}
// SAFETY: a shared queue gives out shared references only.
unsafe impl<T: Chained + Sync> Sync for Fifo<T> {}

impl<T: Chained> Fifo<T> {
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
    pub fn push_back(&mut self, mut item: Box<T>) {
        item.link().0 = None;
        let item = NonNull::from(Box::leak(item));
        match self.tail {
            // SAFETY: the queue owns what is linked, and nobody else refers to it while the queue is borrowed mutably.
            Some(tail) => unsafe { (*tail.as_ptr()).link().0 = Some(item) },
            None => self.head = Some(item),
        }
        self.tail = Some(item);
        self.len += 1;
    }

    /// Adds one before all others.
    #[inline]
    pub fn push_front(&mut self, mut item: Box<T>) {
        item.link().0 = self.head;
        let item = NonNull::from(Box::leak(item));
        if self.head.is_none() {
            self.tail = Some(item);
        }
        self.head = Some(item);
        self.len += 1;
    }

    /// Takes the first.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Box<T>> {
        let head = self.head?;
        // SAFETY: what is linked came out of a box, and is taken out of the queue once.
        let mut item = unsafe { Box::from_raw(head.as_ptr()) };
        self.head = item.link().0.take();
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
            Some(tail) => unsafe { (*tail.as_ptr()).link().0 = Some(first) },
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
        self.head.map(|head| unsafe { head.as_ref() })
    }

    /// The first, to change.
    #[inline]
    pub fn front_mut(&mut self) -> Option<&mut T> {
        // SAFETY: the queue owns it, and is borrowed mutably.
        self.head.map(|mut head| unsafe { head.as_mut() })
    }

    /// The last.
    #[inline]
    pub fn back(&self) -> Option<&T> {
        // SAFETY: the queue owns it, and is borrowed.
        self.tail.map(|tail| unsafe { tail.as_ref() })
    }

    /// The last, to change.
    #[inline]
    pub fn back_mut(&mut self) -> Option<&mut T> {
        // SAFETY: the queue owns it, and is borrowed mutably.
        self.tail.map(|mut tail| unsafe { tail.as_mut() })
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

impl<T: Chained> Default for Fifo<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Chained> Drop for Fifo<T> {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

impl<T: Chained + fmt::Debug> fmt::Debug for Fifo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterator of [`Fifo::iter`].
pub struct Iter<'a, T: Chained> {
    next: Option<NonNull<T>>,
    queue: PhantomData<&'a T>,
}

impl<'a, T: Chained> Iterator for Iter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        // SAFETY: the queue is borrowed for 'a: what is linked stays, unchanged.
        let item = unsafe { self.next?.as_ref() };
        self.next = item.link_ref().0;
        Some(item)
    }
}

/// Iterator of [`Fifo::iter_mut`].
pub struct IterMut<'a, T: Chained> {
    next: Option<NonNull<T>>,
    queue: PhantomData<&'a mut T>,
}

impl<'a, T: Chained> Iterator for IterMut<'a, T> {
    type Item = &'a mut T;

    #[inline]
    fn next(&mut self) -> Option<&'a mut T> {
        // SAFETY: the queue is borrowed mutably for 'a, and each object is given out once.
        let item = unsafe { self.next?.as_mut() };
        self.next = item.link_ref().0;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use proptest::prelude::*;

    struct Node {
        link: Link<Node>,
        value: Box<u32>,
    }

    impl Chained for Node {
        fn link(&mut self) -> &mut Link<Self> {
            &mut self.link
        }
        fn link_ref(&self) -> &Link<Self> {
            &self.link
        }
    }

    fn node(value: u32) -> Box<Node> {
        Box::new(Node { link: Link::new(), value: Box::new(value) })
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
                    Step::Pop => prop_assert_eq!(fifo.pop_front().map(|n| *n.value), model.pop_front()),
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
                        for n in fifo.iter_mut() { *n.value *= 2; *n.value %= 1000; }
                        for n in &mut model { *n *= 2; *n %= 1000; }
                        if let (Some(n), Some(m)) = (fifo.back_mut(), model.back_mut()) { *n.value += 1; *m += 1; }
                    }
                }
                prop_assert_eq!(fifo.len(), model.len());
                prop_assert_eq!(fifo.front().map(|n| *n.value), model.front().copied());
                prop_assert_eq!(fifo.back().map(|n| *n.value), model.back().copied());
                prop_assert!(fifo.iter().map(|n| *n.value).eq(model.iter().copied()));
            }
        }
    }
}
