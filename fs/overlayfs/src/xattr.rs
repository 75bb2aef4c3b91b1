//! Extended attributes: those in layers that say what overlayfs made of files, and how they are kept from users.
//!
//! Ours begin with `trusted.overlay.`, or with `user.overlay.` if the mount says `userxattr`. Through the mount they cannot be seen.
//! A user's own attribute that begins so is kept with one more `overlay.`, which lets overlays stand on overlays.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::cap::Cap;
use abi::{Errno, Result};
use mm::fallible::TryVec;
use vfs::{Dentry, Inode};

use crate::fs::Fs;

/// Hides what is below a directory (`y`), or says that it may hold whiteouts that are attributes (`x`).
pub(crate) const OPAQUE: &str = "opaque";
/// Where a directory is in the layers below.
pub(crate) const REDIRECT: &str = "redirect";
/// What a file was copied from.
pub(crate) const ORIGIN: &str = "origin";
/// A directory that has entries with an origin.
pub(crate) const IMPURE: &str = "impure";
/// Flags of `chattr(1)` that the real file must not have.
pub(crate) const PROTATTR: &str = "protattr";
/// What identifies the upper layer.
pub(crate) const UUID: &str = "uuid";
/// A whiteout that is an empty file.
pub(crate) const WHITEOUT: &str = "whiteout";
/// A file whose data is elsewhere.
pub(crate) const METACOPY: &str = "metacopy";

const TRUSTED: &[u8] = b"trusted.";
const USER: &[u8] = b"user.";
const INFIX: &[u8] = b"overlay.";

fn joined(parts: &[&[u8]]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for part in parts {
        out.try_extend_from_slice(part)?;
    }
    Ok(out)
}

/// What comes after our prefix, if `name` is one of ours.
fn own(name: &[u8], userxattr: bool) -> Option<&[u8]> {
    name.strip_prefix(if userxattr { USER } else { TRUSTED })?.strip_prefix(INFIX)
}

/// The name under which a user's attribute `name` is kept, if that is another one.
pub(crate) fn escaped(name: &[u8], userxattr: bool) -> Result<Option<Vec<u8>>> {
    match own(name, userxattr) {
        Some(rest) => {
            let prefix = if userxattr { USER } else { TRUSTED };
            joined(&[prefix, INFIX, INFIX, rest]).map(Some)
        }
        None => Ok(None),
    }
}

/// Whether `name` is for overlayfs itself. What is kept for a user under such a name is not.
pub(crate) fn is_private(name: &[u8], userxattr: bool) -> bool {
    own(name, userxattr).is_some_and(|rest| !rest.starts_with(INFIX))
}

/// Takes names of ours out of a list, and shows those that were kept under another one as users know them.
pub(crate) fn shown(list: &[u8], userxattr: bool) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for name in list.split_inclusive(|byte| *byte == 0) {
        match own(name, userxattr) {
            None => out.try_extend_from_slice(name)?,
            Some(rest) => {
                if let Some(plain) = rest.strip_prefix(INFIX) {
                    let prefix = if userxattr { USER } else { TRUSTED };
                    out.try_extend_from_slice(&joined(&[prefix, INFIX, plain])?)?;
                }
            }
        }
    }
    Ok(out)
}

impl Fs {
    fn own_name(&self, which: &str) -> Result<Vec<u8>> {
        let prefix = if self.config.userxattr { USER } else { TRUSTED };
        joined(&[prefix, INFIX, which.as_bytes()])
    }

    /// Whether who mounted has access to our attributes of `real`.
    fn may_use(&self, real: &Inode) -> bool {
        match self.config.userxattr {
            true => real.is_regular() || real.is_dir(),
            false => self.cred.capable(Cap::SysAdmin),
        }
    }

    /// One of our attributes of `real`.
    ///
    /// # Errors
    /// Those of the layer; not that there is none.
    pub(crate) fn own_get(&self, real: &Inode, which: &str) -> Result<Option<Vec<u8>>> {
        if !self.may_use(real) {
            return Ok(None);
        }
        match real.ops().getxattr(real, &self.own_name(which)?) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets one of our attributes.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: the upper layer has none; `EPERM`.
    pub(crate) fn own_set(&self, dentry: &Arc<Dentry>, which: &str, value: &[u8]) -> Result<()> {
        let real = dentry.inode().ok_or(Errno::ENOENT)?;
        if self.no_xattr {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.may_use(real) {
            return Err(Errno::EPERM);
        }
        let name = self.own_name(which)?;
        let _exclusive = real.rwsem.write();
        vfs::xattr::set_locked(real, &name, value, 0)?;
        real.touch_ctime();
        Ok(())
    }

    /// Removes one of our attributes, if it is there.
    pub(crate) fn own_remove(&self, dentry: &Arc<Dentry>, which: &str) -> Result<()> {
        let real = dentry.inode().ok_or(Errno::ENOENT)?;
        let name = self.own_name(which)?;
        let _exclusive = real.rwsem.write();
        match vfs::xattr::remove_locked(real, &name) {
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    /// Copies a user's attributes of `from` to `to`, in the upper layer.
    pub(crate) fn copy_xattrs(&self, from: &Arc<Inode>, to: &Arc<Dentry>) -> Result<()> {
        let target = to.inode().ok_or(Errno::ENOENT)?;
        let list = from.ops().listxattr(from)?;
        for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if is_private(name, self.config.userxattr) {
                continue;
            }
            let value = match from.ops().getxattr(from, name) {
                Err(Errno::ENODATA) => continue,
                value => value?,
            };
            let set = {
                let _exclusive = target.rwsem.write();
                vfs::xattr::set_locked(target, name, &value, 0)
            };
            // Without access lists and what guards the file it would be another file.
            let must = name.starts_with(b"security.") || name.starts_with(b"system.posix_acl_");
            match set {
                Err(Errno::EOPNOTSUPP) if !must => {}
                other => other?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_kept_apart() {
        assert!(is_private(b"trusted.overlay.opaque", false));
        assert!(!is_private(b"trusted.overlay.overlay.opaque", false));
        assert!(!is_private(b"user.overlay.opaque", false));
        assert!(is_private(b"user.overlay.opaque", true));
        assert!(!is_private(b"trusted.overlay.opaque", true));
        let kept = |name: &[u8]| escaped(name, false).unwrap();
        assert_eq!(kept(b"trusted.overlay.x").as_deref(), Some(&b"trusted.overlay.overlay.x"[..]));
        assert_eq!(kept(b"trusted.x"), None);
        assert_eq!(kept(b"user.overlay.x"), None);
    }

    #[test]
    fn lists_show_what_users_set() {
        let list = b"user.a\0trusted.overlay.opaque\0trusted.overlay.overlay.opaque\0trusted.b\0";
        assert_eq!(shown(list, false).unwrap(), b"user.a\0trusted.overlay.opaque\0trusted.b\0");
        assert_eq!(shown(list, true).unwrap(), list);
        assert_eq!(shown(b"", false).unwrap(), b"");
    }
}
