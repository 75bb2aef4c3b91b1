//! Registers and structures in memory of the *Serial ATA AHCI* specification 1.3.1.
#![allow(missing_docs)]

/// Of the controller.
pub mod hba {
    pub const CAP: usize = 0x00;
    pub const GHC: usize = 0x04;
    pub const IS: usize = 0x08;
    pub const PI: usize = 0x0c;

    pub const CAP_QUEUING: u32 = 1 << 30;
    pub const CAP_64_BIT: u32 = 1 << 31;
    pub const GHC_RESET: u32 = 1;
    pub const GHC_INTERRUPTS: u32 = 1 << 1;
    pub const GHC_AHCI: u32 = 1 << 31;

    /// Commands that a port can have.
    pub fn slots(cap: u32) -> u32 {
        (cap >> 8 & 0x1f) + 1
    }
}

/// Where the registers of a port are, and how many bytes there are.
pub fn port_at(port: usize) -> usize {
    0x100 + port * PORT_BYTES
}
pub const PORT_BYTES: usize = 0x80;
pub const PORTS: usize = 32;

/// Of a port.
pub mod port {
    pub const CLB: usize = 0x00;
    pub const CLBU: usize = 0x04;
    pub const FB: usize = 0x08;
    pub const FBU: usize = 0x0c;
    pub const IS: usize = 0x10;
    pub const IE: usize = 0x14;
    pub const CMD: usize = 0x18;
    pub const TFD: usize = 0x20;
    pub const SIG: usize = 0x24;
    pub const SSTS: usize = 0x28;
    pub const SCTL: usize = 0x2c;
    pub const SERR: usize = 0x30;
    pub const SACT: usize = 0x34;
    pub const CI: usize = 0x38;

    pub const CMD_START: u32 = 1;
    pub const CMD_SPIN_UP: u32 = 1 << 1;
    pub const CMD_POWER_ON: u32 = 1 << 2;
    pub const CMD_RECEIVE: u32 = 1 << 4;
    pub const CMD_RECEIVING: u32 = 1 << 14;
    pub const CMD_RUNNING: u32 = 1 << 15;

    pub const TFD_ERROR: u32 = 1;
    pub const TFD_DATA_REQUEST: u32 = 1 << 3;
    pub const TFD_BUSY: u32 = 1 << 7;

    pub const SIG_ATA: u32 = 0x0000_0101;
    pub const SIG_ATAPI: u32 = 0xeb14_0101;

    pub const DETECT: u32 = 0xf;
    pub const DETECT_READY: u32 = 3;
    pub const SCTL_RESET: u32 = 1;

    /// A frame came that says that something is over.
    pub const INT_DONE: u32 = 0xf;
    /// The link went up or down.
    pub const INT_LINK: u32 = 1 << 6 | 1 << 22;
    /// A command failed, or the link or memory did.
    pub const INT_ERRORS: u32 = 1 << 4 | 1 << 24 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 30;
    pub const INT_ALL: u32 = INT_DONE | INT_LINK | INT_ERRORS;
}

/// Dwords of an entry in a port's list of commands.
pub const HEADER_DWORDS: usize = 8;
/// Dwords of the area where frames of the device arrive.
pub const RECEIVED_DWORDS: usize = 64;
/// Pieces of memory of a command.
pub const PIECES: usize = 120;
/// Dwords of a command's table before its pieces of memory, and of each of these.
pub const TABLE_HEAD_DWORDS: usize = 32;
pub const PIECE_DWORDS: usize = 4;
/// Dwords of a command's table.
pub const TABLE_DWORDS: usize = TABLE_HEAD_DWORDS + PIECES * PIECE_DWORDS;
/// The most bytes of a piece.
pub const PIECE_BYTES: u32 = 4 << 20;

const _: () = assert!((TABLE_DWORDS * 4).is_multiple_of(128));

/// In a header: the command writes to the device.
pub const HEADER_WRITE: u32 = 1 << 6;
