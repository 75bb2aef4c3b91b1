//! The walk over the components of a name. See the module text of [`super`].

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result, raw};
use sched::rcu::ReadGuard;

use super::lookup::{follow_down, lookup_one};
use super::{At, LookupFlags};
use crate::dcache;
use crate::dentry::{Dentry, DentryFlags};
use crate::inode::{Inode, InodeFlags};
use crate::inode_ops::{LinkTarget, Revalidate};
use crate::mount::Mount;
use crate::path::{LookupContext, Path};
use crate::permission::{inode_permission, may_search};
use crate::types::{MayAccess, NAME_MAX, PATH_MAX};
use mm::fallible::TryVec;

/// Symbolic links in one walk (`MAXSYMLINKS`).
const MAX_SYMLINKS: u32 = 40;

/// A name, or the text of a symbolic link.
#[derive(Clone)]
enum Text<'a> {
    Borrowed(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl Text<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// The last component of a name, not looked up.
pub struct Last<'a> {
    text: Text<'a>,
    start: usize,
    end: usize,
    /// Slashes follow it: it must be a directory.
    pub trailing_slash: bool,
}

impl Last<'_> {
    /// The component; empty when the name consists of slashes only.
    pub fn name(&self) -> &[u8] {
        self.text.bytes().get(self.start..self.end).unwrap_or_default()
    }

    /// Whether it is a name proper, not `.`, `..` or the root.
    pub fn is_normal(&self) -> bool {
        !matches!(self.name(), b"" | b"." | b"..")
    }
}

/// What the walk shall end at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The object that the whole name stands for.
    End,
    /// The directory of the last component.
    Parent,
}

enum Stop {
    /// The text is used up.
    End,
    /// The component at the cursor is the last one and shall not be looked up.
    Last,
    /// The component at the cursor is this symbolic link, to be followed.
    Symlink(Arc<Dentry>, Arc<Mount>),
    /// The component at the cursor needs a step that may sleep.
    Slow,
}

/// A component within a text.
struct Component {
    start: usize,
    end: usize,
    /// Where the next component (or the end of the text) is.
    next: usize,
    last: bool,
    slash: bool,
}

/// Finds the component at or after `from`.
fn component(text: &[u8], from: usize, nested: bool) -> Option<Component> {
    let is_slash = |b: &u8| *b == b'/';
    let start = from + text.get(from..)?.iter().position(|b| *b != b'/')?;
    let rest = text.get(start..)?;
    let end = start + rest.iter().position(is_slash).unwrap_or(rest.len());
    let after = text.get(end..)?;
    let next = end + after.iter().position(|b| *b != b'/').unwrap_or(after.len());
    Some(Component { start, end, next, last: next == text.len() && !nested, slash: next > end })
}

/// A walk in progress.
pub struct Walk<'a> {
    ctx: &'a LookupContext<'a>,
    flags: LookupFlags,
    /// Where we are; `None` before the first stop.
    path: Option<Path>,
    /// Where the walk begins.
    at: At<'a>,
    absolute: bool,
    /// The root of a scoped walk.
    scope: Option<Path>,
    text: Text<'a>,
    cursor: usize,
    /// What is left of the texts that contained symbolic links.
    stack: Vec<(Text<'a>, usize)>,
    links: u32,
    /// A magic link ended the walk at an object.
    at_object: bool,
}

/// Resolves `name` to a place.
pub fn path_lookup(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], flags: LookupFlags) -> Result<Path> {
    if name.is_empty() {
        return empty_name(ctx, at, flags);
    }
    let mut walk = Walk::new(ctx, at, name, flags)?;
    walk.run(Until::End)?;
    let path = walk.into_path()?;
    if flags.contains(LookupFlags::DIRECTORY) && !path.inode()?.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if path.mnt.is_expiring() && !flags.contains(LookupFlags::NO_USE) {
        path.mnt.used();
    }
    Ok(path)
}

/// Resolves all but the last component of `name`.
pub fn path_parent<'a>(
    ctx: &'a LookupContext<'a>,
    at: At<'a>,
    name: &'a [u8],
    flags: LookupFlags,
) -> Result<(Path, Last<'a>)> {
    let mut walk = Walk::new(ctx, at, name, flags)?;
    let last = walk.run_parent()?;
    Ok((walk.into_path()?, last))
}

fn empty_name(ctx: &LookupContext<'_>, at: At<'_>, flags: LookupFlags) -> Result<Path> {
    if !flags.contains(LookupFlags::EMPTY) {
        return Err(Errno::ENOENT);
    }
    let path = match at {
        At::Cwd => ctx.fs.cwd()?,
        At::File(file) => file.path().clone(),
    };
    if flags.contains(LookupFlags::DIRECTORY) && !path.inode()?.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    Ok(path)
}

impl<'a> Walk<'a> {
    /// A walk along `name` from `at`.
    pub fn new(ctx: &'a LookupContext<'a>, at: At<'a>, name: &'a [u8], flags: LookupFlags) -> Result<Self> {
        if name.is_empty() {
            return Err(Errno::ENOENT);
        }
        if name.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let absolute = name.first() == Some(&b'/');
        let mut walk = Self {
            ctx,
            flags,
            path: None,
            at,
            absolute,
            scope: None,
            text: Text::Borrowed(name),
            cursor: 0,
            stack: Vec::new(),
            links: 0,
            at_object: false,
        };
        if flags.is_scoped() {
            walk.scope = Some(match at {
                At::Cwd => ctx.fs.cwd()?,
                At::File(file) => file.path().clone(),
            });
            if absolute && flags.contains(LookupFlags::BENEATH) {
                return Err(Errno::EXDEV);
            }
            walk.absolute = false;
        }
        if !walk.absolute
            && let At::File(file) = at
            && !file.inode().is_dir()
        {
            return Err(Errno::ENOTDIR);
        }
        Ok(walk)
    }

    /// The place reached.
    pub fn into_path(self) -> Result<Path> {
        match self.path {
            Some(path) => Ok(path),
            None => self.base(),
        }
    }

    /// The directory where the walk stands after [`Walk::run_parent`].
    pub fn path(&mut self) -> Result<Path> {
        if self.path.is_none() {
            self.path = Some(self.base()?);
        }
        self.path.clone().ok_or(Errno::ENOENT)
    }

    /// The object that a magic link just led to, when nothing is left to walk.
    pub fn jumped(&mut self) -> Option<Path> {
        if core::mem::take(&mut self.at_object) { self.path.take() } else { None }
    }

    fn base(&self) -> Result<Path> {
        match (self.absolute, self.at) {
            (true, _) => self.ctx.fs.root(),
            (false, At::Cwd) => self.ctx.fs.cwd(),
            (false, At::File(file)) => Ok(file.path().clone()),
        }
    }

    fn base_rcu<'g>(&'g self, guard: &'g ReadGuard) -> Option<(&'g Arc<Mount>, &'g Arc<Dentry>)> {
        let path = match (self.absolute, self.at) {
            (true, _) => self.ctx.fs.root_rcu(guard)?,
            (false, At::Cwd) => self.ctx.fs.cwd_rcu(guard)?,
            (false, At::File(file)) => file.path(),
        };
        Some((&path.mnt, &path.dentry))
    }

    /// Walks up to the last component, and returns it.
    pub fn run_parent(&mut self) -> Result<Last<'a>> {
        self.run(Until::Parent)?;
        let text = self.text.clone();
        match component(text.bytes(), self.cursor, false) {
            Some(c) => Ok(Last { text, start: c.start, end: c.end, trailing_slash: c.slash }),
            None => {
                let end = text.bytes().len();
                Ok(Last { text, start: end, end, trailing_slash: true })
            }
        }
    }

    /// Goes on at the symbolic link `link`, found as the last component in the directory where the
    /// walk stands.
    pub fn follow_last(&mut self, link: &Arc<Dentry>) -> Result<()> {
        let mnt = self.path.as_ref().ok_or(Errno::ENOENT)?.mnt.clone();
        self.cursor = self.text.bytes().len();
        self.follow(link, &mnt)
    }

    fn run(&mut self, until: Until) -> Result<()> {
        loop {
            match self.fast(until)? {
                Stop::End => match self.stack.pop() {
                    Some((text, cursor)) => {
                        self.text = text;
                        self.cursor = cursor;
                        if component(self.text.bytes(), self.cursor, false).is_some() {
                            self.require_directory()?;
                        }
                    }
                    None => return self.finish(),
                },
                Stop::Last => return self.require_directory(),
                Stop::Symlink(link, mnt) => {
                    self.consume();
                    self.follow(&link, &mnt)?;
                }
                Stop::Slow => {
                    if self.flags.contains(LookupFlags::CACHED) {
                        return Err(Errno::EAGAIN);
                    }
                    self.slow()?;
                }
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        if self.path.is_none() {
            self.path = Some(self.base()?);
        }
        if self.text.bytes().last() == Some(&b'/') {
            self.require_directory()?;
        }
        Ok(())
    }

    fn require_directory(&self) -> Result<()> {
        match &self.path {
            Some(path) if !path.inode()?.is_dir() => Err(Errno::ENOTDIR),
            _ => Ok(()),
        }
    }

    /// Moves the cursor behind the component at it.
    fn consume(&mut self) {
        if let Some(c) = component(self.text.bytes(), self.cursor, true) {
            self.cursor = c.next;
        }
    }

    /// Walks under RCU as far as possible, then takes references.
    fn fast(&mut self, until: Until) -> Result<Stop> {
        let guard = sched::rcu::read_lock();
        let start = match &self.path {
            Some(path) => (&path.mnt, &path.dentry),
            None => self.base_rcu(&guard).ok_or(Errno::ENOENT)?,
        };
        let (mut mnt, mut dentry) = start;
        let root = match &self.scope {
            Some(scope) => (&scope.mnt, &scope.dentry),
            None => self.ctx.fs.root_rcu(&guard).map(|p| (&p.mnt, &p.dentry)).ok_or(Errno::ENOENT)?,
        };
        let nested = !self.stack.is_empty();
        let text = self.text.bytes();
        let mut cursor = self.cursor;
        let stop = loop {
            let Some(c) = component(text, cursor, nested) else { break Stop::End };
            let inode = dentry.inode().ok_or(Errno::ENOENT)?;
            if c.last && until == Until::Parent {
                break Stop::Last;
            }
            if !inode.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            match self.search_rcu(inode) {
                Err(Errno::EAGAIN) => break Stop::Slow,
                other => other?,
            }
            let name = text.get(c.start..c.end).unwrap_or_default();
            match name {
                b"." => {
                    cursor = c.next;
                    continue;
                }
                b".." => {
                    (mnt, dentry) = self.up_rcu(&guard, mnt, dentry, root)?;
                    cursor = c.next;
                    continue;
                }
                _ if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                _ => {}
            }
            let Some(mut child) = dcache::lookup_rcu(&guard, dentry, name) else { break Stop::Slow };
            if inode.flags().contains(InodeFlags::OP_REVALIDATE)
                && inode.ops().revalidate(inode, child, false) != Revalidate::Valid
            {
                break Stop::Slow;
            }
            child.mark_used();
            let Some(mut found) = child.inode() else { return Err(Errno::ENOENT) };
            let mut child_mnt = mnt;
            while child.flags().contains(DentryFlags::MOUNTED) {
                let Some(mounted) = child_mnt.child_rcu(&guard, child) else { break };
                if self.flags.contains(LookupFlags::NO_XDEV) {
                    return Err(Errno::EXDEV);
                }
                child_mnt = mounted;
                child = mounted.root();
                found = child.inode().ok_or(Errno::ENOENT)?;
            }
            if found.is_symlink() && (!c.last || c.slash || self.flags.contains(LookupFlags::FOLLOW)) {
                let Some(link) = dcache::legitimize(child) else { break Stop::Slow };
                break Stop::Symlink(link, child_mnt.clone());
            }
            if c.slash && c.last && !found.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            (mnt, dentry) = (child_mnt, child);
            cursor = c.next;
        };
        if !core::ptr::eq(dentry, start.1) || !core::ptr::eq(mnt, start.0) || self.path.is_none() {
            match dcache::legitimize(dentry) {
                Some(dentry) => {
                    let path = Path::new(mnt.clone(), dentry);
                    self.path = Some(path);
                    self.cursor = cursor;
                }
                // It was removed under us, or the start itself is an unlinked directory: one step
                // with references held decides.
                None => {
                    let unlinked_start = core::ptr::eq(dentry, start.1);
                    if self.path.is_none() {
                        let base = Path::new(start.0.clone(), start.1.clone());
                        self.path = Some(base);
                        if unlinked_start {
                            self.cursor = cursor;
                            return Ok(stop);
                        }
                    }
                    return Ok(Stop::Slow);
                }
            }
        } else {
            self.cursor = cursor;
        }
        Ok(stop)
    }

    fn search_rcu(&self, dir: &Inode) -> Result<()> {
        if dir.flags().contains(InodeFlags::OP_PERMISSION) {
            return inode_permission(dir, self.ctx.cred, MayAccess::EXEC | MayAccess::NOT_BLOCK);
        }
        may_search(dir, self.ctx.cred)
    }

    /// `..` under RCU.
    fn up_rcu<'g>(
        &self,
        guard: &'g ReadGuard,
        mut mnt: &'g Arc<Mount>,
        mut dentry: &'g Arc<Dentry>,
        root: (&Arc<Mount>, &Arc<Dentry>),
    ) -> Result<(&'g Arc<Mount>, &'g Arc<Dentry>)> {
        loop {
            if Arc::ptr_eq(mnt, root.0) && Arc::ptr_eq(dentry, root.1) {
                if self.flags.contains(LookupFlags::BENEATH) {
                    return Err(Errno::EXDEV);
                }
                break;
            }
            if Arc::ptr_eq(dentry, mnt.root()) {
                match mnt.mountpoint_rcu(guard) {
                    Some(at) => {
                        if self.flags.contains(LookupFlags::NO_XDEV) {
                            return Err(Errno::EXDEV);
                        }
                        (mnt, dentry) = (&at.mount, &at.dentry);
                        continue;
                    }
                    None => break,
                }
            }
            if let Some(parent) = dentry.name(guard).and_then(|name| name.parent()) {
                dentry = parent;
            }
            break;
        }
        while dentry.flags().contains(DentryFlags::MOUNTED) {
            let Some(mounted) = mnt.child_rcu(guard, dentry) else { break };
            mnt = mounted;
            dentry = mounted.root();
        }
        Ok((mnt, dentry))
    }

    /// One component with references held.
    fn slow(&mut self) -> Result<()> {
        let path = match self.path.take() {
            Some(path) => path,
            None => self.base()?,
        };
        let text = self.text.clone();
        let nested = !self.stack.is_empty();
        let Some(c) = component(text.bytes(), self.cursor, nested) else {
            self.path = Some(path);
            return Ok(());
        };
        let name = text.bytes().get(c.start..c.end).unwrap_or_default();
        let dir = path.inode()?;
        if !dir.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        inode_permission(dir, self.ctx.cred, MayAccess::EXEC)?;
        if matches!(name, b"." | b"..") {
            let up = {
                let guard = sched::rcu::read_lock();
                let scope = match &self.scope {
                    Some(scope) => scope.clone(),
                    None => self.ctx.fs.root()?,
                };
                match name {
                    b"." => path.clone(),
                    _ => {
                        let root = (&scope.mnt, &scope.dentry);
                        let (mnt, dentry) = self.up_rcu(&guard, &path.mnt, &path.dentry, root)?;
                        Path::new(mnt.clone(), dentry.clone())
                    }
                }
            };
            self.cursor = c.next;
            self.path = Some(up);
            return Ok(());
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let child = lookup_one(&path.dentry, name)?;
        if child.is_negative() {
            return Err(Errno::ENOENT);
        }
        let crossed = follow_down(Path::new(path.mnt.clone(), child));
        if self.flags.contains(LookupFlags::NO_XDEV) && !Arc::ptr_eq(&crossed.mnt, &path.mnt) {
            return Err(Errno::EXDEV);
        }
        let found = crossed.inode()?;
        self.cursor = c.next;
        if found.is_symlink() && (!c.last || c.slash || self.flags.contains(LookupFlags::FOLLOW)) {
            let (link, mnt) = (crossed.dentry.clone(), crossed.mnt.clone());
            self.path = Some(path);
            return self.follow(&link, &mnt);
        }
        if c.slash && c.last && !found.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        self.path = Some(crossed);
        Ok(())
    }

    /// Goes on along the text of `link`, which lies in the directory where the walk stands. The
    /// cursor is behind the link's name already.
    fn follow(&mut self, link: &Arc<Dentry>, mnt: &Arc<Mount>) -> Result<()> {
        self.links += 1;
        if self.links > MAX_SYMLINKS
            || self.flags.contains(LookupFlags::NO_SYMLINKS)
            || mnt.flags() & raw::MS_NOSYMFOLLOW != 0
        {
            return Err(Errno::ELOOP);
        }
        let inode = link.inode().ok_or(Errno::ENOENT)?;
        self.may_follow(inode)?;
        crate::attr::touch_atime(&Path::new(mnt.clone(), link.clone()));
        let target = match inode.cached_link() {
            Some(text) => LinkTarget::Path(text.clone()),
            None => inode.ops().get_link(inode, self.ctx.cred)?,
        };
        match target {
            LinkTarget::Jump(path) => {
                if self.flags.contains(LookupFlags::NO_MAGICLINKS) {
                    return Err(Errno::ELOOP);
                }
                if self.flags.is_scoped() {
                    return Err(Errno::EXDEV);
                }
                if self.flags.contains(LookupFlags::NO_XDEV) && !Arc::ptr_eq(&path.mnt, mnt) {
                    return Err(Errno::EXDEV);
                }
                self.at_object = self.stack.is_empty() && self.cursor >= self.text.bytes().len();
                self.path = Some(path);
                Ok(())
            }
            LinkTarget::Path(text) => self.follow_text(text),
        }
    }

    fn follow_text(&mut self, text: Arc<[u8]>) -> Result<()> {
        match text.first() {
            None => return Err(Errno::ENOENT),
            Some(b'/') => self.jump_to_root()?,
            Some(_) => {}
        }
        let rest = core::mem::replace(&mut self.text, Text::Shared(text));
        let cursor = core::mem::replace(&mut self.cursor, 0);
        if cursor < rest.bytes().len() || rest.bytes().last() == Some(&b'/') {
            self.stack.try_push((rest, cursor))?;
        }
        Ok(())
    }

    fn jump_to_root(&mut self) -> Result<()> {
        if self.flags.contains(LookupFlags::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let root = match &self.scope {
            Some(scope) => scope.clone(),
            None => self.ctx.fs.root()?,
        };
        if self.flags.contains(LookupFlags::NO_XDEV)
            && self.path.as_ref().is_some_and(|p| !Arc::ptr_eq(&p.mnt, &root.mnt))
        {
            return Err(Errno::EXDEV);
        }
        self.path = Some(root);
        Ok(())
    }

    /// `/proc/sys/fs/protected_symlinks`: in a sticky world-writable directory only one's own links
    /// and those of the directory's owner are followed.
    fn may_follow(&self, link: &Inode) -> Result<()> {
        if super::PROTECTED_SYMLINKS.load(Ordering::Relaxed) == 0 || link.uid() == self.ctx.cred.fsuid {
            return Ok(());
        }
        let Some(dir) = self.path.as_ref().and_then(|p| p.dentry.inode()) else { return Ok(()) };
        let sticky = raw::S_ISVTX | raw::S_IWOTH;
        if dir.mode() & sticky != sticky || dir.uid() == link.uid() {
            return Ok(());
        }
        Err(Errno::EACCES)
    }
}
