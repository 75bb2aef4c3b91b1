//! Trees of entities, ordered by when they finish, in which the first that may start is found.
//!
//! A treap whose nodes lie in an array, by number: each entity is in one tree at most. Every node knows the earliest start below it, so
//! that the walk to the first one that has started by some time is as long as the tree is high. The ranks are
//! scrambled numbers of the nodes; nobody outside can choose them.

use alloc::boxed::Box;

use abi::Result;
use mm::fallible::{try_into_boxed_slice, try_with_capacity};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    start: u64,
    finish: u64,
    /// The earliest start of this node and all below.
    min_start: u64,
    left: u32,
    right: u32,
    linked: bool,
}

const OUTSIDE: Node =
    Node { start: 0, finish: 0, min_start: u64::MAX, left: NONE, right: NONE, linked: false };

/// A tree: its nodes are in [`Nodes`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    root: u32,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: NONE }
    }
}

impl Tree {
    pub(super) fn is_empty(self) -> bool {
        self.root == NONE
    }
}

/// The nodes of all trees.
pub(super) struct Nodes(Box<[Node]>);

/// Scrambles (the finalizer of MurmurHash3).
fn rank(id: u32) -> u32 {
    let mut x = id.wrapping_add(0x9E37_79B9);
    x = (x ^ x >> 16).wrapping_mul(0x85EB_CA6B);
    x = (x ^ x >> 13).wrapping_mul(0xC2B2_AE35);
    x ^ x >> 16
}

impl Nodes {
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(count: usize) -> Result<Self> {
        let mut nodes = try_with_capacity(count)?;
        nodes.extend((0..count).map(|_| OUTSIDE));
        Ok(Self(try_into_boxed_slice(nodes)?))
    }

    /// Adds one that is in no tree.
    pub(super) fn insert(&mut self, tree: &mut Tree, id: u32, start: u64, finish: u64) {
        match self.0.get_mut(id as usize) {
            Some(node) if !node.linked => {
                *node = Node { start, finish, min_start: start, linked: true, ..OUTSIDE };
            }
            _ => return debug_assert!(false, "in a tree already"),
        }
        tree.root = self.insert_below(tree.root, id);
    }

    /// Takes out one that is in this tree.
    pub(super) fn remove(&mut self, tree: &mut Tree, id: u32) {
        let node = self.node(id);
        if !node.linked {
            return debug_assert!(false, "in no tree");
        }
        tree.root = self.remove_below(tree.root, (node.finish, id));
        if let Some(node) = self.0.get_mut(id as usize) {
            *node = OUTSIDE;
        }
    }

    /// Takes `base`, which no start is below, off a node's times. To be done with all nodes of a tree before it is used again.
    pub(super) fn take_off(&mut self, id: u32, base: u64) {
        self.change(id, |node| {
            (node.start, node.finish) = (node.start - base, node.finish - base);
            node.min_start -= base;
        });
    }

    /// The one that finishes first.
    pub(super) fn first(&self, tree: Tree) -> Option<u32> {
        let mut at = (tree.root != NONE).then_some(tree.root)?;
        while self.node(at).left != NONE {
            at = self.node(at).left;
        }
        Some(at)
    }

    /// The one that finishes first of those that start at `time` or before.
    pub(super) fn first_started(&self, tree: Tree, time: u64) -> Option<u32> {
        let mut at = tree.root;
        loop {
            let node = self.node(at);
            if node.min_start > time || at == NONE {
                return None;
            }
            at = if self.node(node.left).min_start <= time {
                node.left
            } else if node.start <= time {
                return Some(at);
            } else {
                node.right
            };
        }
    }

    /// When the earliest starts.
    pub(super) fn min_start(&self, tree: Tree) -> Option<u64> {
        (tree.root != NONE).then(|| self.node(tree.root).min_start)
    }

    fn node(&self, at: u32) -> Node {
        self.0.get(at as usize).copied().unwrap_or(OUTSIDE)
    }

    fn change(&mut self, at: u32, f: impl FnOnce(&mut Node)) {
        if let Some(node) = self.0.get_mut(at as usize) {
            f(node);
        }
    }

    fn update(&mut self, at: u32) {
        let node = self.node(at);
        let min = node.start.min(self.node(node.left).min_start).min(self.node(node.right).min_start);
        self.change(at, |node| node.min_start = min);
    }

    fn insert_below(&mut self, at: u32, id: u32) -> u32 {
        if at == NONE {
            return id;
        }
        let (node, key) = (self.node(at), (self.node(id).finish, id));
        if rank(id) > rank(at) {
            let (left, right) = self.split(at, key);
            self.change(id, |node| (node.left, node.right) = (left, right));
            self.update(id);
            return id;
        }
        if key < (node.finish, at) {
            let left = self.insert_below(node.left, id);
            self.change(at, |node| node.left = left);
        } else {
            let right = self.insert_below(node.right, id);
            self.change(at, |node| node.right = right);
        }
        self.update(at);
        at
    }

    /// What is below `key`, and the rest.
    fn split(&mut self, at: u32, key: (u64, u32)) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        let node = self.node(at);
        let (low, high);
        if (node.finish, at) < key {
            let (left, right) = self.split(node.right, key);
            self.change(at, |node| node.right = left);
            (low, high) = (at, right);
        } else {
            let (left, right) = self.split(node.left, key);
            self.change(at, |node| node.left = right);
            (low, high) = (left, at);
        }
        self.update(at);
        (low, high)
    }

    fn join(&mut self, low: u32, high: u32) -> u32 {
        if low == NONE || high == NONE {
            return if low == NONE { high } else { low };
        }
        if rank(low) > rank(high) {
            let right = self.join(self.node(low).right, high);
            self.change(low, |node| node.right = right);
            self.update(low);
            low
        } else {
            let left = self.join(low, self.node(high).left);
            self.change(high, |node| node.left = left);
            self.update(high);
            high
        }
    }

    fn remove_below(&mut self, at: u32, key: (u64, u32)) -> u32 {
        let node = self.node(at);
        if at == NONE {
            return NONE;
        }
        if key == (node.finish, at) {
            return self.join(node.left, node.right);
        }
        if key < (node.finish, at) {
            let left = self.remove_below(node.left, key);
            self.change(at, |node| node.left = left);
        } else {
            let right = self.remove_below(node.right, key);
            self.change(at, |node| node.right = right);
        }
        self.update(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn as_a_list(steps in proptest::collection::vec((0u32..40, 0u64..50, 0u64..50), 0..300)) {
            let (mut nodes, mut tree, mut model) = (Nodes::new(40).unwrap(), Tree::default(), BTreeMap::new());
            for (id, start, finish) in steps {
                if model.remove(&id).is_some() {
                    nodes.remove(&mut tree, id);
                } else {
                    nodes.insert(&mut tree, id, start, finish);
                    model.insert(id, (start, finish));
                }
                prop_assert_eq!(tree.is_empty(), model.is_empty());
                prop_assert_eq!(nodes.min_start(tree), model.values().map(|(start, _)| *start).min());
                let first = |time: u64| {
                    let started = model.iter().filter(|(_, (start, _))| *start <= time);
                    started.map(|(id, (_, finish))| (*finish, *id)).min().map(|(_, id)| id)
                };
                prop_assert_eq!(nodes.first(tree), first(u64::MAX));
                for time in (0..50).step_by(7) {
                    prop_assert_eq!(nodes.first_started(tree, time), first(time));
                }
            }
        }
    }
}
