//! Inodes: 128 bytes, and as many more as the file system was made with.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use super::inode_flags::Flags;
use super::{U16, U32, join48, join64};

/// The root directory.
pub const ROOT_INO: u32 = 2;
/// The user quota file.
pub const USR_QUOTA_INO: u32 = 3;
/// The group quota file.
pub const GRP_QUOTA_INO: u32 = 4;
/// Blocks reserved for growth of the group descriptors.
pub const RESIZE_INO: u32 = 7;
/// The journal.
pub const JOURNAL_INO: u32 = 8;

/// Size of the part that every inode has.
pub const CORE_SIZE: usize = 128;
/// Where the low half of the checksum is.
pub const CHECKSUM_LO_OFFSET: usize = 0x7c;
/// Where the high half of the checksum is.
pub const CHECKSUM_HI_OFFSET: usize = 0x82;
/// Bytes of `block`: addresses, the root of an extent tree, a short link, or a file.
pub const BLOCK_BYTES: usize = 60;
/// Addresses of data blocks in `block`.
pub const DIRECT_BLOCKS: u32 = 12;
/// Links that a directory can count; one that has more counts 1 (`dir_nlink`).
pub const LINK_MAX: u32 = 65000;

/// The first 128 bytes of `struct ext4_inode`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct Core {
    pub mode: U16,
    pub uid: U16,
    pub size_lo: U32,
    pub atime: U32,
    pub ctime: U32,
    pub mtime: U32,
    pub dtime: U32,
    pub gid: U16,
    pub links_count: U16,
    pub blocks_lo: U32,
    pub flags: U32,
    /// `osd1`: the change counter.
    pub version: U32,
    pub block: [u8; BLOCK_BYTES],
    pub generation: U32,
    pub file_acl_lo: U32,
    pub size_high: U32,
    pub obso_faddr: U32,
    pub blocks_high: U16,
    pub file_acl_high: U16,
    pub uid_high: U16,
    pub gid_high: U16,
    pub checksum_lo: U16,
    pub reserved: U16,
}

/// What follows in larger inodes; `extra_isize` says how much of it counts.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct Extra {
    /// Bytes that count of this structure, itself included.
    pub extra_isize: U16,
    pub checksum_hi: U16,
    pub ctime_extra: U32,
    pub mtime_extra: U32,
    pub atime_extra: U32,
    pub crtime: U32,
    pub crtime_extra: U32,
    pub version_hi: U32,
    pub projid: U32,
}

const _: () = assert!(size_of::<Core>() == CORE_SIZE && size_of::<Extra>() == 32);

/// End of each field of [`Extra`], for [`Extra::has`].
pub mod extra_end {
    /// `checksum_hi`.
    pub const CHECKSUM: usize = 4;
    /// `ctime_extra`.
    pub const CTIME: usize = 8;
    /// `mtime_extra`.
    pub const MTIME: usize = 12;
    /// `atime_extra`.
    pub const ATIME: usize = 16;
    /// `crtime`.
    pub const CRTIME: usize = 20;
    /// `crtime_extra`.
    pub const CRTIME_EXTRA: usize = 24;
    /// `version_hi`.
    pub const VERSION: usize = 28;
    /// `projid`.
    pub const PROJID: usize = 32;
}

impl Core {
    /// The flags.
    pub fn flags(&self) -> Flags {
        Flags::from_bits_retain(self.flags.get())
    }

    /// Size in bytes, as regular files and large directories have it.
    pub fn size(&self) -> u64 {
        join64(self.size_lo, self.size_high)
    }

    /// Sets the size.
    pub fn set_size(&mut self, size: u64) {
        self.size_lo.set(size as u32);
        self.size_high.set((size >> 32) as u32);
    }

    /// Owner.
    pub fn uid(&self) -> u32 {
        u32::from(self.uid_high.get()) << 16 | u32::from(self.uid.get())
    }

    /// Group.
    pub fn gid(&self) -> u32 {
        u32::from(self.gid_high.get()) << 16 | u32::from(self.gid.get())
    }

    /// Sets owner and group.
    pub fn set_owner(&mut self, uid: u32, gid: u32) {
        self.uid.set(uid as u16);
        self.uid_high.set((uid >> 16) as u16);
        self.gid.set(gid as u16);
        self.gid_high.set((gid >> 16) as u16);
    }

    /// The block of extended attributes; 0 for none.
    pub fn file_acl(&self) -> u64 {
        join48(self.file_acl_lo, self.file_acl_high)
    }

    /// Sets the block of extended attributes.
    pub fn set_file_acl(&mut self, block: u64) {
        self.file_acl_lo.set(block as u32);
        self.file_acl_high.set((block >> 32) as u16);
    }

    /// Allocated space in 512-byte units. `huge`: the file system has the feature `huge_file`.
    pub fn sectors(&self, huge: bool, block_bits: u32) -> u64 {
        let count = join48(self.blocks_lo, self.blocks_high);
        match (huge, self.flags().contains(Flags::HUGE_FILE)) {
            (false, _) => self.blocks_lo.get().into(),
            (true, false) => count,
            (true, true) => count << block_bits.saturating_sub(9),
        }
    }

    /// Sets the allocated space in 512-byte units, in the form that has room for it; `false` if none has.
    pub fn set_sectors(&mut self, sectors: u64, huge: bool, block_bits: u32) -> bool {
        let in_blocks = sectors >> 48 != 0;
        if sectors >> 32 != 0 && !huge {
            return false;
        }
        let count = if in_blocks { sectors >> block_bits.saturating_sub(9) } else { sectors };
        if count >> 48 != 0 {
            return false;
        }
        let mut flags = self.flags();
        flags.set(Flags::HUGE_FILE, in_blocks);
        self.flags.set(flags.bits());
        self.blocks_lo.set(count as u32);
        self.blocks_high.set((count >> 32) as u16);
        true
    }

    /// The address in slot `index` of `block`, in files without extents.
    pub fn address(&self, index: usize) -> Option<u32> {
        self.block.as_chunks::<4>().0.get(index).map(|bytes| u32::from_le_bytes(*bytes))
    }
}

impl Extra {
    /// Whether the field that ends at `end` counts.
    pub fn has(&self, end: usize) -> bool {
        usize::from(self.extra_isize.get()) >= end
    }
}

/// Seconds since 1970 and nanoseconds, of a field with 32 bits and its extra part: two more bits of seconds and 30 of nanoseconds.
pub fn decode_time(seconds: U32, extra: Option<U32>) -> (i64, u32) {
    let low = i64::from(seconds.get() as i32);
    match extra.map(U32::get) {
        Some(extra) => (low + (i64::from(extra & 3) << 32), (extra >> 2).min(999_999_999)),
        None => (low, 0),
    }
}

/// The opposite of [`decode_time`]: both parts. Seconds beyond what 34 bits can say are brought to the nearest that they can
/// ([`clamp_time`]).
pub fn encode_time(seconds: i64, nanoseconds: u32) -> (U32, U32) {
    let seconds = clamp_time(seconds, true);
    let low = seconds as u32;
    let epoch = ((seconds - i64::from(low as i32)) >> 32) as u32 & 3;
    (U32::new(low), U32::new(nanoseconds << 2 | epoch))
}

/// The nearest time that an inode can have: with (`wide`) or without its extra part.
pub fn clamp_time(seconds: i64, wide: bool) -> i64 {
    let last = if wide { (1 << 34) - (1 << 31) - 1 } else { i64::from(i32::MAX) };
    seconds.clamp(i32::MIN.into(), last)
}

/// A device number in slots 0 and 1 of `block`: the old encoding, or the new one with 20 bits of minor. `(major, minor)`.
pub fn decode_device(old: u32, new: u32) -> (u32, u32) {
    if old != 0 {
        return (old >> 8 & 0xff, old & 0xff);
    }
    (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00)
}

/// The opposite of [`decode_device`]: slots 0 and 1.
pub fn encode_device(major: u32, minor: u32) -> (u32, u32) {
    if major < 256 && minor < 256 {
        return (major << 8 | minor, 0);
    }
    (0, minor & 0xff | major << 8 | (minor & !0xff) << 12)
}
