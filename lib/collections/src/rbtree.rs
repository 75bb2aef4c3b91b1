//! An intrusive red-black tree with a cached smallest node.
//!
//! The scheduler's time lines: run queues by virtual run time, deadlines, timers. Nodes are fields
//! of the objects they order, so insertion never allocates and removal needs no search. The tree
//! knows only nodes; the owner turns a node into its object (a `repr(C)` first field or
//! `offset_of!`) and says which of two nodes comes first. Equal nodes keep the order of insertion.
//!
//! Balance as in Cormen et al., *Introduction to Algorithms*, chapter 13: no red node has a red
//! child, and every path to a leaf has the same number of black nodes.
//!
//! The tree does not lock; whoever owns it does.

use core::cell::Cell;
use core::ptr;

type Link = *const RbNode;

/// The links of one object in one tree.
#[derive(Debug)]
#[repr(C)]
pub struct RbNode {
    parent: Cell<Link>,
    left: Cell<Link>,
    right: Cell<Link>,
    red: Cell<bool>,
}

impl RbNode {
    /// A node in no tree.
    pub const fn new() -> Self {
        Self {
            parent: Cell::new(ptr::null()),
            left: Cell::new(ptr::null()),
            right: Cell::new(ptr::null()),
            red: Cell::new(false),
        }
    }
}

impl Default for RbNode {
    fn default() -> Self {
        Self::new()
    }
}

/// Nodes in order.
#[derive(Debug)]
pub struct RbTree {
    root: Cell<Link>,
    leftmost: Cell<Link>,
}

// SAFETY: a tree is a set of pointers; its owner's lock protects it and the nodes.
unsafe impl Send for RbTree {}

/// # Safety
/// `link` is null or points to a live node of the tree.
unsafe fn get<'a>(link: Link) -> Option<&'a RbNode> {
    // SAFETY: the caller's promise; only shared references to nodes are ever formed.
    unsafe { link.as_ref() }
}

impl RbTree {
    /// A tree without nodes.
    pub const fn new() -> Self {
        Self { root: Cell::new(ptr::null()), leftmost: Cell::new(ptr::null()) }
    }

    /// Whether there is no node.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root.get().is_null()
    }

    /// The first node, or null: one load.
    #[inline]
    pub fn first(&self) -> *const RbNode {
        self.leftmost.get()
    }

    /// The last node, or null.
    pub fn last(&self) -> *const RbNode {
        let mut at = self.root.get();
        // SAFETY: links in the tree point to live nodes.
        while let Some(node) = unsafe { get(at) } {
            if node.right.get().is_null() {
                break;
            }
            at = node.right.get();
        }
        at
    }

    /// The node after `node`, or null.
    ///
    /// # Safety
    /// `node` is in this tree.
    pub unsafe fn next(&self, node: *const RbNode) -> *const RbNode {
        // SAFETY: links in the tree point to live nodes.
        unsafe {
            let mut at = &*node;
            if let Some(mut next) = get(at.right.get()) {
                while let Some(left) = get(next.left.get()) {
                    next = left;
                }
                return next;
            }
            while let Some(parent) = get(at.parent.get()) {
                if ptr::eq(parent.left.get(), at) {
                    return parent;
                }
                at = parent;
            }
        }
        ptr::null()
    }

    /// Adds `node` behind all nodes that it is not `less` than. Returns whether it is the first now.
    ///
    /// # Safety
    /// `node` is live, in no tree, and stays where it is until it is removed; `less` is called with
    /// `node` and nodes of this tree.
    pub unsafe fn insert(
        &self,
        node: *const RbNode,
        less: impl Fn(*const RbNode, *const RbNode) -> bool,
    ) -> bool {
        let mut parent: Link = ptr::null();
        let mut at = self.root.get();
        let mut leftmost = true;
        let mut left = true;
        // SAFETY: links in the tree point to live nodes.
        while let Some(here) = unsafe { get(at) } {
            parent = at;
            left = less(node, at);
            if left {
                at = here.left.get();
            } else {
                leftmost = false;
                at = here.right.get();
            }
        }
        // SAFETY: the caller's promise for `node`; `parent` is null or in the tree.
        unsafe {
            let new = &*node;
            new.parent.set(parent);
            new.left.set(ptr::null());
            new.right.set(ptr::null());
            new.red.set(true);
            match get(parent) {
                None => self.root.set(node),
                Some(parent) if left => parent.left.set(node),
                Some(parent) => parent.right.set(node),
            }
            if leftmost {
                self.leftmost.set(node);
            }
            self.insert_fixup(node);
        }
        leftmost
    }

    /// # Safety
    /// `node` was just linked into this tree, red.
    unsafe fn insert_fixup(&self, mut node: Link) {
        // SAFETY: links in the tree point to live nodes; a red node has a parent (the root is
        // black), and the parent of a red node has a parent for the same reason.
        unsafe {
            while let Some(parent) = get((*node).parent.get()) {
                if !parent.red.get() {
                    break;
                }
                let grand = &*parent.parent.get();
                let parent_is_left = ptr::eq(grand.left.get(), parent);
                let uncle = if parent_is_left { grand.right.get() } else { grand.left.get() };
                if let Some(uncle) = get(uncle).filter(|u| u.red.get()) {
                    parent.red.set(false);
                    uncle.red.set(false);
                    grand.red.set(true);
                    node = grand;
                    continue;
                }
                let inner = if parent_is_left { parent.right.get() } else { parent.left.get() };
                if ptr::eq(inner, node) {
                    node = parent;
                    self.rotate(parent, parent_is_left);
                }
                let parent = &*(*node).parent.get();
                parent.red.set(false);
                grand.red.set(true);
                self.rotate(grand, !parent_is_left);
            }
            (*self.root.get()).red.set(false);
        }
    }

    /// Rotates `top` down to the left or to the right; its child on the other side takes its place.
    ///
    /// # Safety
    /// `top` is in this tree and has that child.
    unsafe fn rotate(&self, top: &RbNode, to_left: bool) {
        // SAFETY: links in the tree point to live nodes, and the child exists.
        unsafe {
            let child = if to_left { &*top.right.get() } else { &*top.left.get() };
            let middle = if to_left { child.left.get() } else { child.right.get() };
            if to_left {
                top.right.set(middle);
                child.left.set(top);
            } else {
                top.left.set(middle);
                child.right.set(top);
            }
            if let Some(middle) = get(middle) {
                middle.parent.set(top);
            }
            self.replace_child(top, child);
            top.parent.set(child);
        }
    }

    /// Puts `new` (or nothing) where `old` hangs.
    ///
    /// # Safety
    /// `old` is in this tree; `new` is null or live.
    unsafe fn replace_child(&self, old: &RbNode, new: Link) {
        // SAFETY: links in the tree point to live nodes.
        unsafe {
            match get(old.parent.get()) {
                None => self.root.set(new),
                Some(parent) if ptr::eq(parent.left.get(), old) => parent.left.set(new),
                Some(parent) => parent.right.set(new),
            }
            if let Some(new) = get(new) {
                new.parent.set(old.parent.get());
            }
        }
    }

    /// Takes `node` out.
    ///
    /// # Safety
    /// `node` is in this tree.
    pub unsafe fn remove(&self, node: *const RbNode) {
        // SAFETY: links in the tree point to live nodes.
        unsafe {
            if ptr::eq(self.leftmost.get(), node) {
                self.leftmost.set(self.next(node));
            }
            let out = &*node;
            // `hole` is where a black node may be missing, `above` its parent (it may be null).
            let (hole, above, missing);
            if out.left.get().is_null() || out.right.get().is_null() {
                hole = if out.left.get().is_null() { out.right.get() } else { out.left.get() };
                above = out.parent.get();
                missing = !out.red.get();
                self.replace_child(out, hole);
            } else {
                let mut heir = &*out.right.get();
                while let Some(left) = get(heir.left.get()) {
                    heir = left;
                }
                missing = !heir.red.get();
                hole = heir.right.get();
                if ptr::eq(heir.parent.get(), out) {
                    above = heir;
                } else {
                    above = heir.parent.get();
                    self.replace_child(heir, hole);
                    heir.right.set(out.right.get());
                    (*heir.right.get()).parent.set(heir);
                }
                self.replace_child(out, heir);
                heir.left.set(out.left.get());
                (*heir.left.get()).parent.set(heir);
                heir.red.set(out.red.get());
            }
            if missing {
                self.remove_fixup(hole, above);
            }
        }
    }

    /// # Safety
    /// `node` is null or in the tree, `parent` is its parent; one black node is missing there.
    unsafe fn remove_fixup(&self, mut node: Link, mut parent: Link) {
        let is_red = |link: Link| {
            // SAFETY: links in the tree point to live nodes.
            unsafe { get(link) }.is_some_and(|n| n.red.get())
        };
        // SAFETY: links in the tree point to live nodes; where a black node is missing on one side,
        // the other side has at least one, so the sibling exists.
        unsafe {
            while !is_red(node) {
                let Some(above) = get(parent) else { break };
                let on_left = ptr::eq(above.left.get(), node);
                let side = |n: &RbNode, left: bool| if left { n.left.get() } else { n.right.get() };
                let mut sibling = &*side(above, !on_left);
                if sibling.red.get() {
                    sibling.red.set(false);
                    above.red.set(true);
                    self.rotate(above, on_left);
                    sibling = &*side(above, !on_left);
                }
                let (near, far) = (side(sibling, on_left), side(sibling, !on_left));
                if !is_red(near) && !is_red(far) {
                    sibling.red.set(true);
                    node = parent;
                    parent = above.parent.get();
                    continue;
                }
                if !is_red(far) {
                    (*near).red.set(false);
                    sibling.red.set(true);
                    self.rotate(sibling, !on_left);
                    sibling = &*side(above, !on_left);
                }
                sibling.red.set(above.red.get());
                above.red.set(false);
                (*side(sibling, !on_left)).red.set(false);
                self.rotate(above, on_left);
                return;
            }
            if let Some(node) = get(node) {
                node.red.set(false);
            }
        }
    }
}

impl Default for RbTree {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[repr(C)]
    struct Item {
        node: RbNode,
        key: u32,
        serial: usize,
    }

    fn key(node: *const RbNode) -> u32 {
        // SAFETY: every node of these tests is the first field of an `Item`.
        unsafe { (*node.cast::<Item>()).key }
    }

    /// Checks colours, parents and black heights below `node`; returns the black height.
    fn check(node: Link, parent: Link) -> usize {
        // SAFETY: nodes of the test are alive.
        let Some(n) = (unsafe { get(node) }) else { return 1 };
        assert!(ptr::eq(n.parent.get(), parent));
        for child in [n.left.get(), n.right.get()] {
            // SAFETY: as above.
            assert!(!(n.red.get() && unsafe { get(child) }.is_some_and(|c| c.red.get())), "red child of red");
        }
        let left = check(n.left.get(), node);
        assert_eq!(left, check(n.right.get(), node), "black heights");
        left + usize::from(!n.red.get())
    }

    fn contents(tree: &RbTree) -> Vec<(u32, usize)> {
        let mut all = Vec::new();
        let mut at = tree.first();
        while !at.is_null() {
            // SAFETY: nodes of the test are alive items.
            unsafe {
                let item = &*at.cast::<Item>();
                all.push((item.key, item.serial));
                at = tree.next(at);
            }
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]
        /// Any sequence of insertions and removals leaves a balanced tree with the model's contents.
        #[test]
        fn behaves_like_a_sorted_list(ops in prop::collection::vec((any::<bool>(), 0u32..64), 1..300)) {
            let tree = RbTree::new();
            let mut items: Vec<Box<Item>> = Vec::new();
            for (serial, (insert, value)) in ops.into_iter().enumerate() {
                if insert || items.is_empty() {
                    let item = Box::new(Item { node: RbNode::new(), key: value, serial });
                    // SAFETY: boxed items do not move and are removed before they are dropped.
                    unsafe { tree.insert(&item.node, |a, b| key(a) < key(b)) };
                    items.push(item);
                } else {
                    let item = items.swap_remove(value as usize % items.len());
                    // SAFETY: it is in the tree.
                    unsafe { tree.remove(&item.node) };
                }
                check(tree.root.get(), ptr::null());
                let mut model: Vec<_> = items.iter().map(|i| (i.key, i.serial)).collect();
                model.sort_unstable();
                prop_assert_eq!(contents(&tree), model);
            }
        }
    }
}
