//! A name in all layers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::fs::DevId;
use abi::{Errno, Result};
use mm::fallible::TryVec;
use vfs::namei::layer;
use vfs::types::{FileType, NAME_MAX};
use vfs::util::{Lossy, try_to_vec};
use vfs::{Dentry, Inode};

use crate::fs::{Fs, Lower};
use crate::inode::Node;
use crate::xattr;

/// What a name stands for.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) upper: Option<Arc<Dentry>>,
    pub(crate) lower: Vec<Lower>,
    /// The upper directory hides those below.
    pub(crate) opaque: bool,
    /// Where the upper directory says it is in the layers below.
    pub(crate) redirect: Option<Vec<u8>>,
}

/// Whether `inode` is a whiteout: nothing is what it stands for.
pub(crate) fn is_whiteout(inode: &Inode) -> bool {
    inode.file_type() == FileType::CharDevice && inode.rdev() == DevId::default()
}

/// A search on its way down.
struct Search<'a> {
    fs: &'a Fs,
    /// The name, or from the root of a layer on the path, in the layers to come.
    name: Vec<u8>,
    /// The index of the lower layer it is in.
    layer: Option<usize>,
    /// There is no layer below.
    last: bool,
    is_dir: bool,
    opaque: bool,
    stop: bool,
    redirect: Option<Vec<u8>>,
    metacopy: bool,
}

impl Search<'_> {
    /// Finds the name below `base`.
    fn in_layer(&mut self, base: &Arc<Dentry>) -> Result<Option<Arc<Dentry>>> {
        if self.name.first() != Some(&b'/') {
            let name = try_to_vec(&self.name)?;
            return self.single(base, &name, 0, b"");
        }
        let mut base = base.clone();
        // How much of the name is still to be walked; a redirect on the way changes what comes before.
        let mut rest = self.name.len() - 1;
        loop {
            if !base.inode().is_some_and(|inode| inode.is_dir()) {
                return Ok(Some(base));
            }
            let start = self.name.len().checked_sub(rest).ok_or(Errno::EIO)?;
            let tail = try_to_vec(self.name.get(start..).ok_or(Errno::EIO)?)?;
            let len = tail.iter().position(|byte| *byte == b'/').unwrap_or(tail.len());
            let (element, post) = tail.split_at(len);
            let Some(found) = self.single(&base, element, start, post)? else { return Ok(None) };
            if post.is_empty() {
                return Ok(Some(found));
            }
            base = found;
            rest = rest.checked_sub(len + 1).ok_or(Errno::EIO)?;
        }
    }

    /// One element of the name, which begins at `before` in it; `post` comes after it.
    fn single(
        &mut self,
        base: &Arc<Dentry>,
        element: &[u8],
        before: usize,
        post: &[u8],
    ) -> Result<Option<Arc<Dentry>>> {
        let last_element = post.is_empty();
        let found = match layer::lookup(&self.fs.cred, base, element) {
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => None,
            found => found?,
        };
        let Some(this) = found else { return Ok(None) };
        let inode = this.inode().ok_or(Errno::ENOENT)?;
        if is_whiteout(inode) || self.is_xwhiteout(base, inode)? {
            self.stop = true;
            self.opaque = true;
            return Ok(None);
        }
        if !inode.is_dir() {
            if self.is_dir || !last_element {
                self.stop = true;
                return Ok(None);
            }
            self.metacopy = inode.is_regular() && self.fs.own_get(inode, xattr::METACOPY)?.is_some();
            self.stop = !self.metacopy;
            return Ok(Some(this));
        }
        if self.fs.is_trap(inode) {
            log::warn!("overlayfs: overlapping layers? ({})", Lossy(element));
            return Err(Errno::ELOOP);
        }
        if last_element {
            self.is_dir = true;
        }
        if self.last {
            return Ok(Some(this));
        }
        match self.fs.own_get(inode, xattr::OPAQUE)?.as_deref() {
            Some(b"x") if last_element && self.layer.is_some() => {
                if let Some(layer) = self.layer.and_then(|index| self.fs.layers.get(index)) {
                    layer.xwhiteouts.store(true, Ordering::Relaxed);
                }
            }
            Some(b"y") => {
                self.stop = true;
                self.opaque |= last_element;
                return Ok(Some(this));
            }
            _ => {}
        }
        if let Some(to) = self.fs.redirect_of(inode)? {
            self.follow(to, before, post)?;
        }
        Ok(Some(this))
    }

    /// In the layers below the name goes on as a redirect says.
    fn follow(&mut self, to: Vec<u8>, before: usize, post: &[u8]) -> Result<()> {
        let mut name = Vec::new();
        if to.first() == Some(&b'/') {
            // Whatever was opaque on the way: this is elsewhere.
            self.stop = false;
        } else {
            name.try_extend_from_slice(self.name.get(..before).unwrap_or_default())?;
        }
        name.try_extend_from_slice(&to)?;
        name.try_extend_from_slice(post)?;
        self.redirect = Some(try_to_vec(&name)?);
        self.name = name;
        Ok(())
    }

    /// Whether `inode`, in directory `base` of a lower layer, is a whiteout that is an attribute.
    fn is_xwhiteout(&self, base: &Arc<Dentry>, inode: &Inode) -> Result<bool> {
        let Some(layer) = self.layer.and_then(|index| self.fs.layers.get(index)) else { return Ok(false) };
        if !layer.xwhiteouts.load(Ordering::Relaxed) || !inode.is_regular() || inode.size() != 0 {
            return Ok(false);
        }
        let dir = base.inode().ok_or(Errno::ENOENT)?;
        Ok(self.fs.holds_xwhiteouts(dir)? && self.fs.own_get(inode, xattr::WHITEOUT)?.is_some())
    }
}

/// Whether a redirect is one that we could have made: a name, or a path from the root.
fn is_redirect(text: &[u8]) -> bool {
    match text.split_first() {
        Some((b'/', path)) => path.split(|byte| *byte == b'/').all(|name| !name.is_empty()),
        Some(_) => !text.contains(&b'/'),
        None => false,
    }
}

impl Fs {
    /// Whether entries of lower directory `dir` may be whiteouts that are attributes.
    pub(crate) fn holds_xwhiteouts(&self, dir: &Inode) -> Result<bool> {
        Ok(self.own_get(dir, xattr::OPAQUE)?.as_deref() == Some(b"x"))
    }

    /// Where directory `real` says it is in the layers below.
    ///
    /// # Errors
    /// `EINVAL` if it says something that makes no sense.
    fn redirect_of(&self, real: &Inode) -> Result<Option<Vec<u8>>> {
        let Some(text) = self.own_get(real, xattr::REDIRECT)? else { return Ok(None) };
        if !is_redirect(&text) {
            log::warn!("overlayfs: invalid redirect ({})", Lossy(&text));
            return Err(Errno::EINVAL);
        }
        Ok(Some(text))
    }

    /// What `name` in the directory `dir` stands for; `None` for nothing.
    pub(crate) fn find(&self, dir: &Node, name: &[u8]) -> Result<Option<Found>> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut search = Search {
            fs: self,
            name: try_to_vec(name)?,
            layer: None,
            last: !self.config.follows_redirects() && dir.lower().is_empty(),
            is_dir: false,
            opaque: false,
            stop: false,
            redirect: None,
            metacopy: false,
        };
        let mut found = Found::default();
        let mut stack: Vec<Lower> = Vec::new();
        // Where the layers below are searched: in those of the directory, or from their roots on.
        let mut from_roots = false;
        if let Some(base) = dir.upper() {
            found.upper = search.in_layer(base)?;
            found.opaque = search.opaque;
            if let Some(upper) = found.upper.as_ref().and_then(|upper| upper.inode())
                && !upper.is_dir()
            {
                if search.metacopy {
                    return self.refuse_metacopy(name);
                }
                stack.try_extend(self.origin(upper)?)?;
            }
            found.redirect = search.redirect.take();
            from_roots = search.name.first() == Some(&b'/');
        }
        let mut index = 0;
        while !search.stop {
            // With absolute names each layer's root is where they begin.
            let next = match from_roots {
                true => self.layers.get(index).map(|layer| (index, layer.root.clone())),
                false => dir.lower().iter().find(|l| l.layer >= index).map(|l| (l.layer, l.dentry.clone())),
            };
            let Some((layer, base)) = next else { break };
            index = layer + 1;
            search.layer = Some(layer);
            search.last = index == self.layers.len()
                || !self.config.follows_redirects() && dir.lower().last().is_some_and(|l| l.layer == layer);
            let Some(dentry) = search.in_layer(&base)? else { continue };
            if search.metacopy {
                return self.refuse_metacopy(name);
            }
            if stack.is_empty()
                && search.is_dir
                && let Some(upper) = &found.upper
            {
                self.fix_origin(dir, upper, &dentry)?;
            }
            stack.try_push(Lower { layer, dentry })?;
            let redirected = search.redirect.take().is_some();
            // It would be like following a link without asking for permissions on the way.
            if (redirected || found.redirect.is_some()) && !self.config.follows_redirects() {
                return self.refuse_redirect(name);
            }
            from_roots |= redirected && search.name.first() == Some(&b'/');
        }
        found.lower = stack;
        Ok((found.upper.is_some() || !found.lower.is_empty()).then_some(found))
    }

    /// A merged directory remembers what it is merged with, and its parent that it has such entries.
    fn fix_origin(&self, dir: &Node, upper: &Arc<Dentry>, lower: &Arc<Dentry>) -> Result<()> {
        let inode = upper.inode().ok_or(Errno::ENOENT)?;
        if self.no_xattr || self.own_get(inode, xattr::ORIGIN)?.is_some() {
            return Ok(());
        }
        let Ok(change) = self.change() else { return Ok(()) };
        let fixed = self.set_origin(upper, lower).and_then(|()| dir.set_impure(&change));
        match fixed {
            // Who may not set attributes can still look.
            Err(Errno::EPERM | Errno::EOPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    fn refuse_metacopy<T>(&self, name: &[u8]) -> Result<T> {
        log::warn!("overlayfs: refusing to follow metacopy origin for ({})", Lossy(name));
        Err(Errno::EPERM)
    }

    fn refuse_redirect<T>(&self, name: &[u8]) -> Result<T> {
        log::warn!("overlayfs: refusing to follow redirect for ({})", Lossy(name));
        Err(Errno::EPERM)
    }
}

#[cfg(test)]
mod tests {
    use super::is_redirect;

    #[test]
    fn redirects_are_names_or_paths() {
        for good in ["a", "a b", "/a", "/a/b", ".hidden"] {
            assert!(is_redirect(good.as_bytes()), "{good}");
        }
        for bad in ["", "/", "a/b", "//a", "/a//b", "/a/", "a/"] {
            assert!(!is_redirect(bad.as_bytes()), "{bad}");
        }
    }
}
