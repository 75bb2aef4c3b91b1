//! An ordered set of small numbers ("slots"), each under a key: a balanced tree whose nodes lie in an array.
//!
//! For objects that have a number already, such as requests with tags: which of them comes next behind a given key? The room for
//! all slots is allocated once; inserting and removing never allocate, and nothing in it is `unsafe`.
//!
//! An AA tree (Andersson, *Balanced search trees made simple*, 1993): a red-black tree in which only right children are red, kept by
//! two operations, skew and split.

use alloc::boxed::Box;

use crate::OutOfMemory;
use crate::fallible;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    key: u64,
    left: u32,
    right: u32,
    /// Of the leaves 1; 0: in no tree.
    level: u32,
}

const OUTSIDE: Node = Node { key: 0, left: NONE, right: NONE, level: 0 };

/// The set. Slots with equal keys are ordered by their numbers.
#[derive(Debug)]
pub struct SlotTree {
    nodes: Box<[Node]>,
    root: u32,
    len: usize,
}

impl SlotTree {
    /// An empty set of slots below `slots`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn try_new(slots: usize) -> Result<Self, OutOfMemory> {
        let nodes = fallible::try_into_boxed_slice(fallible::try_vec(OUTSIDE, slots)?)?;
        Ok(Self { nodes, root: NONE, len: 0 })
    }

    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key of a slot that is in the set.
    pub fn key(&self, slot: u32) -> Option<u64> {
        self.nodes.get(slot as usize).filter(|node| node.level > 0).map(|node| node.key)
    }

    /// Adds a slot; whether it was not there and its number is below the set's bound.
    pub fn insert(&mut self, slot: u32, key: u64) -> bool {
        match self.nodes.get_mut(slot as usize) {
            Some(node) if node.level == 0 => *node = Node { key, level: 1, ..OUTSIDE },
            _ => return false,
        }
        self.root = self.insert_below(self.root, slot);
        self.len += 1;
        true
    }

    /// Takes a slot out; whether it was there.
    pub fn remove(&mut self, slot: u32) -> bool {
        let Some(key) = self.key(slot) else { return false };
        self.root = self.remove_below(self.root, (key, slot));
        if let Some(node) = self.nodes.get_mut(slot as usize) {
            *node = OUTSIDE;
        }
        self.len -= 1;
        true
    }

    /// The slot with the smallest key.
    pub fn first(&self) -> Option<u32> {
        self.at_or_after(0)
    }

    /// The slot with the smallest key that is not below `key`; of several the smallest number.
    pub fn at_or_after(&self, key: u64) -> Option<u32> {
        self.search((key, 0))
    }

    /// The slot that comes next behind `slot`, which need not be in the set any more but had this key.
    pub fn next(&self, slot: u32, key: u64) -> Option<u32> {
        self.search((key, slot.checked_add(1)?))
    }

    /// Whether a slot with exactly this key is in the set, and which.
    pub fn find(&self, key: u64) -> Option<u32> {
        self.at_or_after(key).filter(|&slot| self.key(slot) == Some(key))
    }

    fn search(&self, from: (u64, u32)) -> Option<u32> {
        let (mut at, mut best) = (self.root, None);
        while let Some(node) = self.nodes.get(at as usize) {
            if (node.key, at) >= from {
                best = Some(at);
                at = node.left;
            } else {
                at = node.right;
            }
        }
        best
    }

    fn node(&self, at: u32) -> Node {
        self.nodes.get(at as usize).copied().unwrap_or(OUTSIDE)
    }

    fn change(&mut self, at: u32, f: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            f(node);
        }
    }

    /// Turns a red left child into a red right one.
    fn skew(&mut self, at: u32) -> u32 {
        let node = self.node(at);
        if node.level == 0 || self.node(node.left).level != node.level {
            return at;
        }
        let up = node.left;
        let inner = self.node(up).right;
        self.change(at, |node| node.left = inner);
        self.change(up, |node| node.right = at);
        up
    }

    /// Takes the middle of three of one level up.
    fn split(&mut self, at: u32) -> u32 {
        let node = self.node(at);
        let up = node.right;
        if node.level == 0 || self.node(self.node(up).right).level != node.level {
            return at;
        }
        let inner = self.node(up).left;
        self.change(at, |node| node.right = inner);
        self.change(up, |node| {
            node.left = at;
            node.level += 1;
        });
        up
    }

    fn insert_below(&mut self, at: u32, slot: u32) -> u32 {
        if at == NONE {
            return slot;
        }
        let node = self.node(at);
        if (self.node(slot).key, slot) < (node.key, at) {
            let left = self.insert_below(node.left, slot);
            self.change(at, |node| node.left = left);
        } else {
            let right = self.insert_below(node.right, slot);
            self.change(at, |node| node.right = right);
        }
        let at = self.skew(at);
        self.split(at)
    }

    fn remove_below(&mut self, at: u32, target: (u64, u32)) -> u32 {
        let node = self.node(at);
        let here = (node.key, at);
        let mut top = at;
        if at == NONE {
            return NONE;
        } else if target < here {
            let left = self.remove_below(node.left, target);
            self.change(at, |node| node.left = left);
        } else if target > here {
            let right = self.remove_below(node.right, target);
            self.change(at, |node| node.right = right);
        } else if node.left == NONE {
            // A leaf, or with one red right child, which takes its place.
            return node.right;
        } else {
            // The node before it takes its place.
            let mut heir = node.left;
            while self.node(heir).right != NONE {
                heir = self.node(heir).right;
            }
            let left = self.remove_below(node.left, (self.node(heir).key, heir));
            self.change(heir, |new| *new = Node { key: new.key, left, right: node.right, level: node.level });
            top = heir;
        }
        self.lower(top)
    }

    /// A child of `at` may have lost a level.
    fn lower(&mut self, at: u32) -> u32 {
        let node = self.node(at);
        let level = self.node(node.left).level.min(self.node(node.right).level) + 1;
        if level < node.level {
            self.change(at, |node| node.level = level);
            if self.node(node.right).level > level {
                self.change(node.right, |right| right.level = level);
            }
        }
        let at = self.skew(at);
        let right = self.skew(self.node(at).right);
        self.change(at, |node| node.right = right);
        let inner = self.skew(self.node(right).right);
        self.change(right, |node| node.right = inner);
        let at = self.split(at);
        let right = self.split(self.node(at).right);
        self.change(at, |node| node.right = right);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    fn check(tree: &SlotTree, at: u32) -> (usize, u32) {
        if at == NONE {
            return (0, 0);
        }
        let node = tree.node(at);
        let (left, left_level) = check(tree, node.left);
        let (right, right_level) = check(tree, node.right);
        assert_eq!(left_level, node.level - 1);
        assert!(right_level == node.level || right_level == node.level - 1);
        assert!(right_level < node.level || tree.node(tree.node(node.right).right).level < node.level);
        assert!(node.level == 1 || right > 0);
        (left + right + 1, node.level)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn as_a_btree_set(steps in proptest::collection::vec((0u32..40, 0u64..20), 0..200)) {
            let (mut tree, mut model) = (SlotTree::try_new(32).unwrap(), BTreeSet::new());
            for (slot, key) in steps {
                let known = tree.key(slot);
                prop_assert_eq!(known.is_some(), model.iter().any(|&(_, s)| s == slot));
                match known {
                    Some(key) => {
                        prop_assert!(!tree.insert(slot, 3));
                        prop_assert!(tree.remove(slot) && model.remove(&(key, slot)));
                    }
                    None if slot < 32 => prop_assert!(tree.insert(slot, key) && model.insert((key, slot))),
                    None => prop_assert!(!tree.insert(slot, key) && !tree.remove(slot)),
                }
                prop_assert_eq!(check(&tree, tree.root).0, model.len());
                prop_assert_eq!(tree.len(), model.len());
                prop_assert_eq!(tree.first(), model.first().map(|&(_, slot)| slot));
                prop_assert_eq!(tree.at_or_after(key), model.range((key, 0)..).next().map(|&(_, slot)| slot));
                prop_assert_eq!(tree.next(slot, key), model.range((key, slot + 1)..).next().map(|&(_, slot)| slot));
                prop_assert_eq!(tree.find(key), model.range((key, 0)..(key + 1, 0)).next().map(|&(_, slot)| slot));
            }
        }
    }
}
