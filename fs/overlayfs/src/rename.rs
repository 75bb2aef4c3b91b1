//! Names that move.
//!
//! A directory that shows something of lower layers can only move if a redirect may tell where that stays behind; otherwise
//! `EXDEV` makes programs copy it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use mm::fallible::{TryVec, try_arc_slice};
use vfs::Inode;
use vfs::inode_ops::Rename;
use vfs::namei::RenameFlags;
use vfs::namei::layer;
use vfs::util::Lossy;

use crate::copy_up::{Contents, copy_up};
use crate::fs::Fs;
use crate::inode::{Node, NodeFlags, Place, node};
use crate::lookup::is_whiteout;
use crate::xattr::{OPAQUE, REDIRECT};

/// The longest redirect.
const REDIRECT_MAX: usize = 256;

impl Node {
    /// Whether it shows a directory of a lower layer.
    fn shows_lower(&self) -> bool {
        self.is_merged() || self.upper().is_none()
    }

    fn can_move(&self, inode: &Inode) -> bool {
        self.fs.config.makes_redirects() || !inode.is_dir() || !self.shows_lower()
    }

    /// Makes the upper directory say where it is in the layers below, before it gets another name.
    fn set_redirect(&self, place: &Place, same_dir: bool) -> Result<()> {
        let upper = self.upper().ok_or(Errno::EIO)?;
        if let Some(there) = self.redirect.lock().as_deref()
            && (same_dir || there.first() == Some(&b'/'))
        {
            return Ok(());
        }
        let text = match same_dir {
            true => vfs::util::try_to_vec(&place.name)?,
            false => redirect_path(place, self.redirect.lock().clone().as_deref())?,
        };
        let set = match text.len() > REDIRECT_MAX {
            true => Err(Errno::ENAMETOOLONG),
            false => self.fs.own_set(upper, REDIRECT, &text),
        };
        if let Err(error) = set {
            log::warn!("overlayfs: failed to set redirect ({error}) for '{}'", Lossy(&place.name));
            // The program may copy it instead.
            return Err(Errno::EXDEV);
        }
        let old = self.redirect.lock().replace(try_arc_slice(&text)?);
        drop(old);
        Ok(())
    }

    /// Before a directory that shows nothing of lower layers is moved below one that does.
    fn keep_opaque(&self) -> Result<()> {
        let upper = self.upper().ok_or(Errno::EIO)?;
        self.set_opaque(upper).map_err(|_| Errno::EXDEV)
    }
}

/// The path of `place` from the root, as the layers below know it. `known` is the name they know it by, if that is another one.
fn redirect_path(place: &Place, known: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    parts.try_push(vfs::util::try_to_vec(known.unwrap_or(&place.name))?)?;
    let mut at = place.parent.clone();
    let mut prefix = Vec::new();
    loop {
        let directory = node(&at)?;
        let Some(above) = directory.place() else { break };
        let redirect = directory.redirect.lock().clone();
        match redirect.as_deref() {
            Some(path) if path.first() == Some(&b'/') => {
                prefix = vfs::util::try_to_vec(path)?;
                break;
            }
            Some(name) => parts.try_push(vfs::util::try_to_vec(name)?)?,
            None => parts.try_push(vfs::util::try_to_vec(&above.name)?)?,
        }
        at = above.parent.clone();
    }
    for part in parts.iter().rev() {
        prefix.try_push(b'/')?;
        prefix.try_extend_from_slice(part)?;
    }
    Ok(prefix)
}

/// One of the two names.
struct Side<'a> {
    dir: &'a Arc<Inode>,
    parent: &'a Node,
    name: &'a [u8],
}

/// Renames. See [`vfs::inode_ops::InodeOps::rename`].
pub(crate) fn rename(r: &Rename<'_>) -> Result<()> {
    if r.flags.intersects(!(RenameFlags::EXCHANGE | RenameFlags::NOREPLACE)) {
        return Err(Errno::EINVAL);
    }
    let exchange = r.flags.contains(RenameFlags::EXCHANGE);
    let moved = node(r.inode)?;
    let target = match r.target {
        Some(target) => Some((target, node(target)?)),
        None => None,
    };
    let fs = &moved.fs;
    if !moved.can_move(r.inode) || exchange && target.is_some_and(|(inode, other)| !other.can_move(inode)) {
        return Err(Errno::EXDEV);
    }
    let from = Side { dir: r.old_dir, parent: node(r.old_dir)?, name: r.old_name };
    let to = Side { dir: r.new_dir, parent: node(r.new_dir)?, name: r.new_name };
    let whiteouts = match target {
        Some((inode, other)) if !exchange && inode.is_dir() && other.may_hold_whiteouts() => {
            other.must_be_empty()?
        }
        _ => Vec::new(),
    };
    let change = fs.change()?;
    copy_up(r.inode, Contents::All)?;
    let to_upper = to.parent.upper_dir(to.dir)?;
    let from_upper = from.parent.upper_dir(from.dir)?;
    if let Some((inode, _)) = target
        && exchange
    {
        copy_up(inode, Contents::All)?;
    }
    let _not_copied_meanwhile = target.filter(|_| !exchange).map(|(_, other)| other.copying.lock());

    moved.in_upper(from_upper, from.name)?.ok_or(Errno::ESTALE)?;
    let there = match target {
        Some((_, other)) => other.in_upper(to_upper, to.name)?,
        None => match layer::lookup(&fs.cred, to_upper, to.name)? {
            Some(there) if !there.inode().is_some_and(|inode| is_whiteout(inode)) => {
                return Err(Errno::ESTALE);
            }
            there => there,
        },
    };
    let over_whiteout = target.is_none() && there.is_some();
    let mut flags = r.flags & RenameFlags::EXCHANGE;
    let mut clean_whiteout = false;
    if !exchange {
        if from.parent.hides(moved, from.name)? {
            // What it hid must not come to light.
            flags |= if over_whiteout { RenameFlags::EXCHANGE } else { RenameFlags::WHITEOUT };
        } else if r.inode.is_dir() && over_whiteout {
            flags |= RenameFlags::EXCHANGE;
            clean_whiteout = true;
        }
    }
    if let Some((_, other)) = target
        && there.is_some()
        && !whiteouts.is_empty()
    {
        other.replace_by_empty(&change, to_upper, to.name, &whiteouts)?;
    }

    let same_dir = Arc::ptr_eq(from.dir, to.dir);
    let origins = moved.has_origin() || exchange && target.is_some_and(|(_, other)| other.has_origin());
    if !same_dir && origins {
        to.parent.set_impure(&change)?;
        if exchange {
            from.parent.set_impure(&change)?;
        }
    }
    prepare(fs, r.inode, moved, &from, &to, same_dir)?;
    if let Some((inode, other)) = target
        && exchange
    {
        prepare(fs, inode, other, &to, &from, same_dir)?;
    }
    let places = (
        Fs::new_place(to.dir, to.name)?,
        if exchange { Some(Fs::new_place(from.dir, from.name)?) } else { None },
    );
    layer::rename(&fs.cred, (from_upper, from.name), (to_upper, to.name), flags)?;
    if clean_whiteout && let Err(error) = layer::remove(&fs.cred, from_upper, from.name) {
        log::error!("overlayfs: cleanup of a whiteout failed ({error})");
    }

    moved.set_place(Some(places.0));
    if let Some((inode, other)) = target {
        match places.1 {
            Some(place) => {
                other.set_place(Some(place));
                other.copy_attributes(inode)?;
            }
            None => other.lost_name(inode)?,
        }
    }
    from.parent.changed();
    to.parent.changed();
    from.parent.copy_attributes(from.dir)?;
    to.parent.copy_attributes(to.dir)?;
    moved.copy_attributes(r.inode)
}

/// What moves from one side to the other must be the same there, as far as the layers below are concerned.
fn prepare(
    fs: &Fs,
    inode: &Inode,
    moved: &Node,
    from: &Side<'_>,
    to: &Side<'_>,
    same_dir: bool,
) -> Result<()> {
    if !inode.is_dir() {
        return Ok(());
    }
    if moved.shows_lower() {
        let place = Place {
            parent: from.dir.clone(),
            name: mm::fallible::try_into_boxed_slice(mm::try_to_vec(from.name)?)?,
        };
        return moved.set_redirect(&place, same_dir);
    }
    let opaque = || match moved.real_inode() {
        Ok(real) => fs.own_get(real, OPAQUE).is_ok_and(|value| value.as_deref() == Some(b"y")),
        Err(_) => false,
    };
    if to.parent.is_merged() && !(moved.has(NodeFlags::OPAQUE) && opaque()) {
        return moved.keep_opaque();
    }
    Ok(())
}
