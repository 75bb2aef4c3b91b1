//! A directory whose names are put there by the kernel and stay until taken away.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use abi::Result;
use arch::sync::SpinLock;

use crate::node::{Access, Attr, Context, Dir, Entry, Link, Listing, Node};

/// Inode numbers of nodes that are registered. Process directories and the like use numbers of their own,
/// far above.
static NEXT_INO: AtomicU64 = AtomicU64::new(2);

/// A fresh inode number for a registered node.
pub fn next_ino() -> u64 {
    NEXT_INO.fetch_add(1, Ordering::Relaxed)
}

struct Child {
    name: Arc<[u8]>,
    entry: Entry,
    /// The directory itself, if [`StaticDir::mkdir`] made it.
    dir: Option<Arc<StaticDir>>,
}

/// A directory that is built by registration. Order of registration is order of listing.
pub struct StaticDir {
    children: SpinLock<Children>,
    revision: AtomicUsize,
    /// The rule for what is in it.
    access: Access,
}

#[derive(Default)]
struct Children {
    by_position: BTreeMap<u64, Child>,
    by_name: BTreeMap<Arc<[u8]>, u64>,
    next: u64,
}

struct Path(Arc<[u8]>);

impl Link for Path {
    fn target(&self, _: &Context<'_>) -> Result<vfs::inode_ops::LinkTarget> {
        Ok(vfs::inode_ops::LinkTarget::Path(self.0.clone()))
    }
}

impl StaticDir {
    /// An empty directory.
    pub fn new() -> Arc<Self> {
        Self::with_access(Access::Mode)
    }

    /// An empty directory with a rule for opening what is in it and below.
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    pub fn with_access(access: Access) -> Arc<Self> {
        Arc::new(Self { children: SpinLock::new(Children::default()), revision: AtomicUsize::new(1), access })
    }

    /// Adds a node; one of the same name is replaced.
    pub fn add(&self, name: &str, node: Node, mode: u32) {
        self.add_entry(name, Entry::new(node, next_ino(), mode));
    }

    /// Adds a node with everything its inode shows.
    pub fn add_entry(&self, name: &str, entry: Entry) {
        let name = name.as_bytes().into();
        let child = Child { name, entry: entry.accessed_by(self.access), dir: None };
        let mut children = self.children.lock();
        let replaced = self.insert(&mut children, child);
        drop(children);
        drop(replaced);
    }

    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    fn insert(&self, children: &mut Children, child: Child) -> Option<Child> {
        let name = child.name.clone();
        let position = children.by_name.get(&name).copied().unwrap_or_else(|| {
            children.next += 1;
            children.next
        });
        children.by_name.insert(name, position);
        self.revision.fetch_add(1, Ordering::AcqRel);
        children.by_position.insert(position, child)
    }

    /// Adds a file of text declared as a constant.
    pub fn add_attr(&self, attr: &'static Attr) {
        self.add(attr.name, Node::Attr(attr), attr.mode);
    }

    /// Adds several.
    pub fn add_attrs(&self, attrs: &'static [Attr]) {
        attrs.iter().for_each(|attr| self.add_attr(attr));
    }

    /// Adds a symbolic link.
    pub fn add_link(&self, name: &str, target: &str) {
        self.insert_link(name, target, 0);
    }

    /// [`Self::add_link`], with the target's length as size of the link, as a few links in `/proc` have it.
    pub fn add_sized_link(&self, name: &str, target: &str) {
        self.insert_link(name, target, target.len() as u64);
    }

    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    fn insert_link(&self, name: &str, target: &str, size: u64) {
        let link = Node::Link(Arc::new(Path(target.as_bytes().into())));
        self.add_entry(name, Entry::new(link, next_ino(), 0o777).sized(size));
    }

    /// Adds a directory, or finds the one that is there.
    pub fn mkdir(&self, name: &str) -> Arc<Self> {
        self.mkdir_mode(name, 0o555)
    }

    /// [`Self::mkdir`] with other permissions.
    pub fn mkdir_mode(&self, name: &str, mode: u32) -> Arc<Self> {
        self.mkdir_with(name, mode, self.access)
    }

    /// [`Self::mkdir_mode`] with another rule for opening what is below.
    pub fn mkdir_with(&self, name: &str, mode: u32, access: Access) -> Arc<Self> {
        let fresh = Self::with_access(access);
        let entry = Entry::new(Node::Dir(fresh.clone()), next_ino(), mode).accessed_by(access);
        let mut children = self.children.lock();
        let at = children.by_name.get(name.as_bytes()).and_then(|at| children.by_position.get(at));
        if let Some(dir) = at.and_then(|child| child.dir.clone()) {
            return dir;
        }
        let child = Child { name: name.as_bytes().into(), entry, dir: Some(fresh.clone()) };
        let replaced = self.insert(&mut children, child);
        drop(children);
        drop(replaced);
        fresh
    }

    /// Takes a name away; whether it was there.
    pub fn remove(&self, name: &str) -> bool {
        let mut children = self.children.lock();
        let Some(position) = children.by_name.remove(name.as_bytes()) else { return false };
        let removed = children.by_position.remove(&position);
        self.revision.fetch_add(1, Ordering::AcqRel);
        drop(children);
        removed.is_some()
    }

    /// The node called `name`.
    pub fn get(&self, name: &[u8]) -> Option<Entry> {
        let children = self.children.lock();
        let position = children.by_name.get(name)?;
        children.by_position.get(position).map(|child| child.entry.clone())
    }
}

impl Dir for StaticDir {
    fn lookup(&self, _: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        Ok(self.get(name))
    }

    fn list(&self, _: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        let mut at = from;
        loop {
            // One name at a time: `emit` writes to the user and may sleep.
            let children = self.children.lock();
            let Some((&position, child)) = children.by_position.range(at..).next() else { return Ok(()) };
            let (name, ino, kind) = (child.name.clone(), child.entry.ino, child.entry.node.file_type());
            drop(children);
            at = position + 1;
            if !emit(&name, ino, kind, at) {
                return Ok(());
            }
        }
    }

    fn revision(&self) -> Option<usize> {
        Some(self.revision.load(Ordering::Acquire))
    }

    fn access(&self) -> Access {
        self.access
    }

    fn nlink(&self) -> u32 {
        let children = self.children.lock();
        2 + children.by_position.values().filter(|child| matches!(child.entry.node, Node::Dir(_))).count()
            as u32
    }
}
