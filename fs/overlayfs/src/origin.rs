//! Where a copied file came from: the file handle of the lower one, kept with the upper one, so that its inode number stays
//! what it was over copy up and for later mounts.
//!
//! The attribute is `struct ovl_fb`: version, magic, length, flags, handle type, the file system's id, the handle.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::cap::Cap;
use abi::{Errno, Result};
use mm::fallible::TryVec;
use vfs::export::{self, FidUse};
use vfs::{Dentry, Inode};

use crate::fs::{Fs, Lower};
use crate::xattr::ORIGIN;

const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
/// Before the handle.
const HEADER: usize = 21;
/// The handle's words are in the byte order of the machine.
const FLAGS: u8 = if cfg!(target_endian = "big") { 1 } else { 0 };

/// What identifies `real`; empty if its file system cannot find it again.
fn encode(fs: &Fs, real: &Arc<Dentry>) -> Result<Vec<u8>> {
    let inode = real.inode().ok_or(Errno::ENOENT)?;
    let mut out = Vec::new();
    if !fs.cred.capable(Cap::DacReadSearch) || export::may_encode(real.sb(), FidUse::Decode).is_err() {
        return Ok(out);
    }
    let fid = export::encode(inode, Some(real))?;
    let (Ok(len), Ok(kind)) = (u8::try_from(HEADER + fid.bytes()), u8::try_from(fid.kind)) else {
        return Ok(out);
    };
    out.try_extend([VERSION, MAGIC, len, FLAGS, kind])?;
    out.try_extend_from_slice(&real.sb().uuid)?;
    for word in fid.words() {
        out.try_extend_from_slice(&word.to_ne_bytes())?;
    }
    Ok(out)
}

/// The parts of what [`encode`] made: handle type, file system, words. None of what others made.
fn parse(value: &[u8]) -> Option<(i32, [u8; 16], Vec<u32>)> {
    let (header, fid) = value.split_first_chunk::<HEADER>()?;
    let [version, magic, len, flags, kind, uuid @ ..] = *header;
    if version != VERSION || magic != MAGIC || usize::from(len) != value.len() || flags != FLAGS {
        return None;
    }
    let mut words = Vec::new();
    for word in fid.as_chunks::<4>().0 {
        words.try_push(u32::from_ne_bytes(*word)).ok()?;
    }
    Some((i32::from(kind), uuid, words))
}

impl Fs {
    /// Says of `upper` that it is a copy of `lower`.
    ///
    /// # Errors
    /// Those of setting attributes.
    pub(crate) fn set_origin(&self, upper: &Arc<Dentry>, lower: &Arc<Dentry>) -> Result<()> {
        self.own_set(upper, ORIGIN, &encode(self, lower)?)
    }

    /// What `upper` is a copy of, if that can be found.
    pub(crate) fn origin(&self, upper: &Inode) -> Result<Option<Lower>> {
        let Some(value) = self.own_get(upper, ORIGIN)? else { return Ok(None) };
        let Some((kind, uuid, words)) = parse(&value) else { return Ok(None) };
        if !self.cred.capable(Cap::DacReadSearch) {
            return Ok(None);
        }
        // Without ids, handles of several file systems cannot be told apart.
        let first = self.layers.first().map(|layer| layer.fsid);
        if uuid == [0; 16] && !self.layers.iter().all(|layer| Some(layer.fsid) == first) {
            return Ok(None);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let sb = layer.mnt.sb();
            if sb.uuid != uuid {
                continue;
            }
            let Some(ops) = sb.ops().export() else { continue };
            let Some(dentry) = ops.decode(sb, kind, &words) else { continue };
            // Another kind of file has nothing to do with it.
            let same = dentry.inode().is_some_and(|inode| inode.file_type() == upper.file_type());
            return Ok(same.then_some(Lower { layer: index, dentry }));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_handles_of_ours_are_taken() {
        let mut value = vec![VERSION, MAGIC, 29, FLAGS, 1];
        value.extend([7; 16]);
        value.extend(5u32.to_ne_bytes());
        value.extend(6u32.to_ne_bytes());
        assert_eq!(parse(&value), Some((1, [7; 16], vec![5, 6])));
        for (at, bad) in [(0, 1), (1, 0), (2, 28), (3, 1 - FLAGS)] {
            let mut value = value.clone();
            value[at] = bad;
            assert_eq!(parse(&value), None);
        }
        assert_eq!(parse(&value[..20]), None);
        assert_eq!(parse(b""), None);
    }
}
