//! A list of rings that is walked one step at a time, without its lock in between.
//!
//! Every entry has a number that grows from one addition to the next, and the list is in the order of the numbers. A walk remembers the
//! number it has come to and not a place, so whatever is added or removed meanwhile, it leaves nothing out that was there all the time and
//! visits nothing twice.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::Result;
use arch::sync::SpinLock;
use mm::TryVec;

struct Entries<T> {
    last: u64,
    list: Vec<(u64, Weak<T>)>,
}

/// See the module text. `T` is the ring.
pub struct RingList<T> {
    entries: SpinLock<Entries<T>>,
}

impl<T> RingList<T> {
    /// An empty list.
    pub const fn new() -> Self {
        Self { entries: SpinLock::new(Entries { last: 0, list: Vec::new() }) }
    }

    /// Adds `ring`, unless it is there.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add(&self, ring: &Arc<T>) -> Result<()> {
        let mut entries = self.entries.lock();
        if entries.list.iter().any(|(_, known)| is(known, ring)) {
            return Ok(());
        }
        // Rings that are gone make room.
        entries.list.retain(|(_, known)| known.strong_count() > 0);
        entries.last += 1;
        let number = entries.last;
        entries.list.try_push((number, Arc::downgrade(ring)))?;
        Ok(())
    }

    /// Removes `ring`.
    pub fn remove(&self, ring: &Arc<T>) {
        self.entries.lock().list.retain(|(_, known)| !is(known, ring));
    }

    /// Grows with every ring that is added.
    pub fn additions(&self) -> u64 {
        self.entries.lock().last
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.lock().list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rings that are not gone, in the order in which they came; those that come meanwhile too.
    pub fn iter(&self) -> impl Iterator<Item = Arc<T>> + '_ {
        let mut after = 0;
        core::iter::from_fn(move || {
            loop {
                let (number, ring) = {
                    let entries = self.entries.lock();
                    let at = entries.list.partition_point(|(number, _)| *number <= after);
                    let (number, ring) = entries.list.get(at)?;
                    (*number, ring.upgrade())
                };
                after = number;
                if ring.is_some() {
                    return ring;
                }
            }
        })
    }
}

impl<T> Default for RingList<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn is<T>(known: &Weak<T>, ring: &Arc<T>) -> bool {
    core::ptr::eq(known.as_ptr(), Arc::as_ptr(ring))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_leaves_nothing_out() {
        let rings: Vec<Arc<u32>> = (0..6).map(Arc::new).collect();
        let list = RingList::new();
        for ring in rings.iter().take(5) {
            list.add(ring).unwrap();
            list.add(ring).unwrap();
        }
        assert_eq!(list.len(), 5);
        let mut walk = list.iter();
        assert_eq!((walk.next().as_deref(), walk.next().as_deref()), (Some(&0), Some(&1)));
        // What was visited goes, and what comes goes to the end.
        list.remove(&rings[0]);
        list.remove(&rings[1]);
        list.remove(&rings[3]);
        list.add(&rings[5]).unwrap();
        let rest: Vec<u32> = walk.map(|ring| *ring).collect();
        assert_eq!(rest, [2, 4, 5]);
    }

    #[test]
    fn what_is_gone_is_not_visited_and_makes_room() {
        let list = RingList::new();
        let (first, second) = (Arc::new(1), Arc::new(2));
        list.add(&first).unwrap();
        list.add(&second).unwrap();
        drop(first);
        assert_eq!(list.iter().map(|ring| *ring).collect::<Vec<_>>(), [2]);
        list.add(&Arc::new(3)).unwrap();
        assert_eq!(list.len(), 2);
        list.remove(&second);
        assert!(!list.is_empty());
    }
}
