//! What a tree is made of.

use alloc::sync::Arc;
use core::any::Any;

use abi::creds::{Gid, Uid};
use abi::{Errno, Result};
use vfs::cred::Credentials;
use vfs::file::{FileImpl, OpenFile};
use vfs::inode_ops::LinkTarget;
use vfs::super_block::SuperBlock;
use vfs::types::{FileType, MayAccess};

use crate::text::Text;
use mm::fallible::try_arc;

/// Who looks: the file system instance and the credentials in question.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The instance; its private data says for which namespace it was mounted.
    pub sb: &'a SuperBlock,
    /// Of the opener for reads and writes, of the caller for lookups.
    pub cred: &'a Credentials,
}

impl Context<'_> {
    /// What the instance was mounted for, if it is a `T`.
    pub fn mounted_for<T: Any>(&self) -> Option<&T> {
        self.sb.private::<crate::KernSuper>()?.data()
    }
}

/// A file of text.
pub trait Show: Send + Sync {
    /// Writes the whole text.
    ///
    /// # Errors
    /// What `read(2)` shall answer, for example `ESRCH` for a process that is gone.
    fn show(&self, cx: &Context<'_>, out: &mut Text) -> Result<()>;

    /// Takes what a user wrote in one call.
    ///
    /// # Errors
    /// What `write(2)` shall answer.
    fn store(&self, cx: &Context<'_>, data: &[u8]) -> Result<()> {
        let _ = (cx, data);
        Err(Errno::EIO)
    }

    /// Checks whether the file may be opened at all.
    ///
    /// # Errors
    /// What `open(2)` shall answer.
    fn open(&self, cx: &Context<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }
}

/// A symbolic link.
pub trait Link: Send + Sync {
    /// Where it leads, for the caller.
    ///
    /// # Errors
    /// What following it shall answer.
    fn target(&self, cx: &Context<'_>) -> Result<LinkTarget>;

    /// Whether the caller may follow it, and not only read it.
    ///
    /// # Errors
    /// What following it shall answer.
    fn may_follow(&self, cx: &Context<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// The text that `readlink(2)` shows, where it is not the path that the link leads to.
    fn text(&self, cx: &Context<'_>) -> Result<Option<alloc::vec::Vec<u8>>> {
        let _ = cx;
        Ok(None)
    }

    /// Whether it leads to an object and not to a path: following it then checks no names.
    fn is_magic(&self) -> bool {
        false
    }
}

/// One name of a directory as a listing shows it: name, inode number, type, and the position after it.
pub type Listing<'a> = dyn FnMut(&[u8], u64, FileType, u64) -> bool + 'a;

/// A directory.
pub trait Dir: Send + Sync {
    /// The node called `name`.
    ///
    /// # Errors
    /// Only what makes the lookup itself fail; an unknown name is `None`.
    fn lookup(&self, cx: &Context<'_>, name: &[u8]) -> Result<Option<Entry>>;

    /// Lists names from position `from` on until `emit` returns `false`. Positions are the directory's
    /// own, stable while names come and go, and begin at 0.
    ///
    /// # Errors
    /// What `getdents64(2)` shall answer.
    fn list(&self, cx: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()>;

    /// Whether the directory still stands for what it did when it was looked up.
    fn is_alive(&self) -> bool {
        true
    }

    /// A number that changes whenever a name comes, goes or changes its meaning. With one, names that
    /// were looked up (and names that do not exist) stay in the cache until it changes.
    fn revision(&self) -> Option<usize> {
        None
    }

    /// Whether names found earlier must be looked up again each time, if there is no revision.
    fn is_volatile(&self) -> bool {
        false
    }

    /// Whether the owners of its nodes change with what they stand for: each lookup then brings the inode's
    /// owner up to date.
    fn follows_owner(&self) -> bool {
        false
    }

    /// Whether [`Self::may_enter`] and [`Self::may_see`] have something to say.
    fn is_guarded(&self) -> bool {
        false
    }

    /// Whether the caller may use it at all, before its permission bits are looked at.
    ///
    /// # Errors
    /// What using it shall answer.
    fn may_enter(&self, cx: &Context<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Whether the caller may look at its attributes.
    ///
    /// # Errors
    /// What `stat(2)` shall answer.
    fn may_see(&self, cx: &Context<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// The rule for its inode when it is the root of a tree.
    fn access(&self) -> Access {
        Access::Mode
    }

    /// Hard links as `stat(2)` shows them.
    fn nlink(&self) -> u32 {
        2
    }

    /// The object that the directory stands for, for whoever is given a descriptor of it.
    fn stands_for(&self) -> Option<&dyn Any> {
        None
    }
}

/// Decides who may use a node, in place of its owner and mode.
pub type PermissionFn = fn(&Credentials, MayAccess) -> Result<()>;

/// How a file with its own operations is opened.
pub type OpenCustom = dyn Fn(&Context<'_>, &mut OpenFile<'_>) -> Result<FileImpl> + Send + Sync;

/// What a name stands for.
#[derive(Clone)]
pub enum Node {
    /// A directory.
    Dir(Arc<dyn Dir>),
    /// A file of text.
    Text(Arc<dyn Show>),
    /// A file of text declared as a constant.
    Attr(&'static Attr),
    /// A symbolic link.
    Link(Arc<dyn Link>),
    /// A file with operations of its own.
    Custom(Arc<OpenCustom>),
}

impl Node {
    /// The type of its inode.
    pub fn file_type(&self) -> FileType {
        match self {
            Self::Dir(_) => FileType::Directory,
            Self::Link(_) => FileType::Symlink,
            Self::Text(_) | Self::Attr(_) | Self::Custom(_) => FileType::Regular,
        }
    }
}

/// Who may open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Access {
    /// Whom the permission bits or capabilities let (procfs).
    #[default]
    Mode,
    /// Nobody for what no permission bit stands for, capabilities or not (sysfs).
    Bits,
    /// As if root owned it, and capabilities do not count (`/proc/sys`).
    Sysctl,
}

/// A node with what its inode needs.
#[derive(Clone)]
pub struct Entry {
    /// The node.
    pub node: Node,
    /// Inode number.
    pub ino: u64,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
    /// Size that `stat(2)` shows.
    pub size: u64,
    /// Who may open it.
    pub access: Access,
    /// Who may use it, where owner and mode do not say.
    pub permission: Option<PermissionFn>,
}

impl Entry {
    /// A node of root.
    pub fn new(node: Node, ino: u64, mode: u32) -> Self {
        Self { node, ino, mode, uid: Uid(0), gid: Gid(0), size: 0, access: Access::Mode, permission: None }
    }

    /// The same with the size that `stat(2)` shall show.
    #[must_use]
    pub fn sized(mut self, size: u64) -> Self {
        self.size = size;
        self
    }

    /// The same with another rule for opening it.
    #[must_use]
    pub fn accessed_by(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The same with a rule of its own for who may use it.
    #[must_use]
    pub fn permitted_by(mut self, permission: PermissionFn) -> Self {
        self.permission = Some(permission);
        self
    }

    /// The same with another owner.
    #[must_use]
    pub fn owned_by(mut self, uid: Uid, gid: Gid) -> Self {
        self.uid = uid;
        self.gid = gid;
        self
    }
}

/// Takes what a user wrote to a file.
pub type StoreFn = fn(&[u8]) -> Result<()>;

/// A file of text that is declared beside the data it shows.
///
/// ```ignore
/// pub const UPTIME: Attr = attr("uptime", |out| writeln!(out, "{}", …));
/// ```
pub struct Attr {
    /// Its name.
    pub name: &'static str,
    /// Permissions.
    pub mode: u32,
    /// Writes the whole text.
    pub show: fn(&mut Text) -> Result<()>,
    /// Takes what a user wrote.
    pub store: Option<StoreFn>,
}

/// A read-only file.
pub const fn attr(name: &'static str, show: fn(&mut Text) -> Result<()>) -> Attr {
    Attr { name, mode: 0o444, show, store: None }
}

impl Attr {
    /// The same, writable by root.
    #[must_use]
    pub const fn writable(mut self, store: StoreFn) -> Self {
        self.mode = 0o644;
        self.store = Some(store);
        self
    }

    /// The same with other permissions.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }
}

/// A text node made of a function and what it captured.
///
/// # Errors
/// `ENOMEM`.
pub fn file_entry(
    ino: u64,
    mode: u32,
    show: impl Fn(&Context<'_>, &mut Text) -> Result<()> + Send + Sync + 'static,
) -> Result<Entry> {
    struct Closure<F>(F);
    impl<F: Fn(&Context<'_>, &mut Text) -> Result<()> + Send + Sync> Show for Closure<F> {
        fn show(&self, cx: &Context<'_>, out: &mut Text) -> Result<()> {
            (self.0)(cx, out)
        }
    }
    Ok(Entry::new(Node::Text(try_arc(Closure(show))?), ino, mode))
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Entry({} {:?} {:o})", self.ino, self.node.file_type(), self.mode)
    }
}
