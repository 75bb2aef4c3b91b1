//! Whether a file system's features let it be mounted, and mounted for writing.

use abi::{Errno, Result};
use vfs::super_block::SB_RDONLY;

use super::Kind;
use crate::disk::features::Compat;
use crate::disk::features::{
    EXT2_INCOMPAT, EXT2_RO_COMPAT, EXT3_INCOMPAT, EXT3_RO_COMPAT, INCOMPAT_SERVED, Incompat,
    RO_COMPAT_SERVED, RoCompat,
};
use crate::disk::super_block::SuperBlock;
use crate::messages::Messages;

/// Whether anything can be written. Without, a mount for writing is refused as that of a medium that is read-only: `mount(8)` then
/// mounts it for reading.
pub const WRITES: bool = false;

/// Checks the features. Returns the flags, which may have become read-only.
///
/// # Errors
/// `EINVAL`: it cannot be mounted so; `EROFS`: not for writing.
pub fn check(sb: &SuperBlock, kind: Kind, mut flags: u32, messages: &Messages<'_>) -> Result<u32> {
    let (incompat, ro_compat) = (sb.incompat(), sb.ro_compat());
    let read_only = flags & SB_RDONLY != 0;
    let old = match kind {
        Kind::Ext2 => Some(("ext2", EXT2_INCOMPAT, EXT2_RO_COMPAT)),
        Kind::Ext3 => Some(("ext3", EXT3_INCOMPAT, EXT3_RO_COMPAT)),
        Kind::Ext4 => None,
    };
    if let Some((name, known, known_ro)) = old {
        let journal = sb.compat().contains(Compat::HAS_JOURNAL) || kind == Kind::Ext2;
        let fits = known.contains(incompat) && (read_only || known_ro.contains(ro_compat)) && journal;
        if !fits {
            // It may well be a newer one: whoever tries types asks in silence.
            if !messages.silent {
                messages.error(format_args!("couldn't mount as {name} due to feature incompatibilities"));
            }
            return Err(Errno::EINVAL);
        }
        messages.info(format_args!("mounting {name} file system using the ext4 subsystem"));
    }
    let unknown = incompat.difference(INCOMPAT_SERVED);
    if unknown == Incompat::CASEFOLD {
        return Err(messages.invalid(format_args!(
            "Filesystem with casefold feature cannot be mounted without CONFIG_UNICODE"
        )));
    }
    if !unknown.is_empty() {
        return Err(messages.invalid(format_args!(
            "Couldn't mount because of unsupported optional features ({:x})",
            unknown.bits()
        )));
    }
    if ro_compat.contains(RoCompat::BIGALLOC) && !incompat.contains(Incompat::EXTENTS) {
        return Err(
            messages.invalid(format_args!("Can't support bigalloc feature without extents feature\n"))
        );
    }
    if ro_compat.contains(RoCompat::READONLY) && !read_only {
        messages.info(format_args!("filesystem is read-only"));
        flags |= SB_RDONLY;
    }
    if flags & SB_RDONLY != 0 {
        return Ok(flags);
    }
    may_write(sb, messages)?;
    Ok(flags)
}

/// Whether the file system can be written: at mount, and when a mount for reading becomes one for writing.
///
/// # Errors
/// `EINVAL` for features that nobody here can write, `EROFS`.
pub fn may_write(sb: &SuperBlock, messages: &Messages<'_>) -> Result<()> {
    let unknown = sb.ro_compat().difference(RO_COMPAT_SERVED);
    if !unknown.is_empty() {
        return Err(messages.invalid(format_args!(
            "couldn't mount RDWR because of unsupported optional features ({:x})",
            unknown.bits()
        )));
    }
    if sb.ro_compat().intersects(RoCompat::QUOTA | RoCompat::PROJECT) {
        return Err(
            messages.invalid(format_args!("The kernel was not built with CONFIG_QUOTA and CONFIG_QFMT_V2"))
        );
    }
    if !WRITES {
        messages.error(format_args!("couldn't mount RDWR: writing is not supported yet"));
        return Err(Errno::EROFS);
    }
    Ok(())
}
