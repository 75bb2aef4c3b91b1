//! Protection against mounting on two machines (`mmp`): a block that who has the file system changes every few seconds.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{U16, U32, U64};

/// `magic`.
pub const MAGIC: u32 = 0x004d_4d50;
/// `seq`: nobody has it.
pub const SEQ_CLEAN: u32 = 0xff4d_4d50;
/// `seq`: it is being checked.
pub const SEQ_FSCK: u32 = 0xe24d_4d50;
/// Largest `seq` of who has it mounted.
pub const SEQ_MAX: u32 = 0xe24d_4d4f;
/// Shortest interval of checks, in seconds.
pub const MIN_CHECK_INTERVAL: u16 = 5;
/// Longest interval of checks, in seconds.
pub const MAX_CHECK_INTERVAL: u16 = 300;
/// Shortest interval of updates, in seconds.
pub const UPDATE_INTERVAL: u16 = 5;

/// `struct mmp_struct`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct Mmp {
    pub magic: U32,
    pub seq: U32,
    pub time: U64,
    pub nodename: [u8; 64],
    pub bdevname: [u8; 32],
    pub check_interval: U16,
    pub pad1: U16,
    pub pad2: [U32; 226],
    pub checksum: U32,
}

/// What the checksum is of.
pub const CHECKSUM_OFFSET: usize = 1020;

const _: () = assert!(size_of::<Mmp>() == 1024);
