//! Numbers of the *NVM Express Base Specification* 2.0 and the *NVM Command Set Specification* 1.0.

use core::time::Duration;

use abi::{Errno, Result};
use arch::mmio::MmioRegion;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const CAP: usize = 0x00;
const VS: usize = 0x08;
const CC: usize = 0x14;
const CSTS: usize = 0x1c;
const AQA: usize = 0x24;
const ASQ: usize = 0x28;
const ACQ: usize = 0x30;
const DOORBELLS: usize = 0x1000;

const CC_ENABLE: u32 = 1;
/// Completions of 16 bytes, commands of 64.
const CC_ENTRY_SIZES: u32 = 4 << 20 | 6 << 16;
const CC_SHUTDOWN: u32 = 1 << 14;
const CC_SHUTDOWN_MASK: u32 = 3 << 14;
const CSTS_READY: u32 = 1;
const CSTS_FATAL: u32 = 1 << 1;
const CSTS_SHUTDOWN_MASK: u32 = 3 << 2;
const CSTS_SHUTDOWN_DONE: u32 = 2 << 2;
/// What a controller answers that is not there any more.
const GONE: u32 = u32::MAX;

/// log2 of the only size of memory pages that is used.
pub const PAGE_SHIFT: u32 = 12;

/// Admin commands.
pub mod admin {
    #![allow(missing_docs)]
    pub const CREATE_SQ: u8 = 0x01;
    pub const CREATE_CQ: u8 = 0x05;
    pub const IDENTIFY: u8 = 0x06;
    pub const SET_FEATURES: u8 = 0x09;

    /// Structures that can be identified.
    pub const CNS_NAMESPACE: u32 = 0;
    pub const CNS_CONTROLLER: u32 = 1;
    pub const CNS_ACTIVE_NAMESPACES: u32 = 2;
    /// A feature: how many queues there are.
    pub const NUMBER_OF_QUEUES: u32 = 0x07;
    /// The queue is one piece of memory.
    pub const CONTIGUOUS: u32 = 1;
    /// It has an interrupt.
    pub const INTERRUPTS: u32 = 2;
}

/// Commands of the NVM command set.
pub mod io {
    #![allow(missing_docs)]
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET_MANAGEMENT: u8 = 0x09;

    /// In command dword 12: the data is on the medium when the command is over.
    pub const FUA: u32 = 1 << 30;
    /// In command dword 11: the ranges hold nothing of use any more.
    pub const DEALLOCATE: u32 = 1 << 2;
}

/// A command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Command {
    /// Which.
    pub opcode: u8,
    /// How memory is described: 0, by PRPs.
    pub flags: u8,
    /// By what its completion names it.
    pub id: u16,
    /// Of which namespace.
    pub nsid: u32,
    /// Dwords 2 and 3.
    pub reserved: u64,
    /// Memory for metadata.
    pub metadata: u64,
    /// The first page of memory.
    pub prp1: u64,
    /// The second, or a list of the others.
    pub prp2: u64,
    /// Dwords 10 to 15.
    pub dwords: [u32; 6],
}

const _: () = assert!(size_of::<Command>() == 64);

/// Dwords of a completion.
pub const COMPLETION_DWORDS: usize = 4;

/// The status of a completion: type and code, and whether it is of no use to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u16);

impl Status {
    /// From the upper half of a completion's dword 3.
    pub fn new(word: u16) -> Self {
        Self(word >> 1)
    }

    /// Whether it worked.
    pub fn is_ok(self) -> bool {
        self.code() == 0
    }

    /// Type (bits 8 to 10) and code.
    pub fn code(self) -> u16 {
        self.0 & 0x7ff
    }

    /// Whether the same command would fail again.
    pub fn is_final(self) -> bool {
        self.0 & 1 << 14 != 0
    }

    /// What the block layer calls it; the words are those that Linux uses for these codes.
    pub fn block(self) -> block::Status {
        use block::Status as B;
        match self.code() {
            0 => B::Ok,
            // Invalid opcode, field, namespace.
            0x01 | 0x02 | 0x0b => B::NotSupported,
            // Sanitizing, namespace not ready, LBA out of range.
            0x1d | 0x82 | 0x80 => B::Target,
            0x81 => B::NoSpace,
            0x83 => B::Conflict,
            // Conflicting attributes.
            0x180 => B::NotSupported,
            // Write to what is read-only, write fault, unrecovered read, compare, access denied, deallocated block.
            0x182 | 0x280 | 0x281 | 0x285 | 0x286 | 0x287 => B::Medium,
            // End-to-end checks.
            0x181 | 0x282..=0x284 => B::Protection,
            // Path related.
            0x300..=0x3ff => B::Transport,
            _ => B::IoError,
        }
    }
}

/// What the controller says of itself before it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities(u64);

impl Capabilities {
    /// The most entries of a queue.
    pub fn max_entries(self) -> u32 {
        (self.0 & 0xffff) as u32 + 1
    }

    /// How long it may take to become ready, or not ready.
    pub fn timeout(self) -> Duration {
        Duration::from_millis(500) * ((self.0 >> 24 & 0xff) as u32).max(1)
    }

    /// Bytes between doorbells.
    fn stride(self) -> usize {
        4 << (self.0 >> 32 & 0xf)
    }

    /// Whether it takes memory pages of 4 KiB, and the NVM command set.
    fn is_usable(self) -> bool {
        self.0 >> 48 & 0xf == 0 && (self.0 >> 37 & 1 != 0 || self.0 >> 43 & 1 != 0)
    }
}

/// Tells the device of the two ends of a queue.
pub trait Bells: Send + Sync {
    /// There are commands up to `tail`.
    fn submitted(&self, queue: u16, tail: u16);
    /// Completions up to `head` were read.
    fn completed(&self, queue: u16, head: u16);
}

/// The registers.
pub struct Registers {
    region: MmioRegion,
    capabilities: Capabilities,
}

impl Registers {
    /// Those in `region`.
    ///
    /// # Errors
    /// `ENODEV`: the controller is gone, or is one that this driver cannot use; `EINVAL`: there is no room for doorbells.
    pub fn new(region: MmioRegion) -> Result<Self> {
        if region.len() < DOORBELLS + 8 {
            return Err(Errno::EINVAL);
        }
        let capabilities = Capabilities(region.read64(CAP));
        if region.read32(CSTS) == GONE || !capabilities.is_usable() {
            return Err(Errno::ENODEV);
        }
        Ok(Self { region, capabilities })
    }

    /// What it can do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The version of the specification: major, minor.
    pub fn version(&self) -> (u32, u32) {
        let version = self.region.read32(VS);
        (version >> 16, version >> 8 & 0xff)
    }

    /// How many queues there are doorbells for, with that of admin commands.
    pub fn max_queues(&self) -> usize {
        (self.region.len() - DOORBELLS) / (2 * self.capabilities.stride())
    }

    /// Whether it answers.
    pub fn is_gone(&self) -> bool {
        self.region.read32(CSTS) == GONE
    }

    /// Switches it off: it forgets all queues and commands. May sleep.
    ///
    /// # Errors
    /// `ETIMEDOUT`, `ENODEV`.
    pub fn disable(&self) -> Result<()> {
        let config = self.region.read32(CC);
        if config == GONE {
            return Err(Errno::ENODEV);
        }
        self.region.write32(CC, config & !(CC_ENABLE | CC_SHUTDOWN_MASK));
        self.wait_for(CSTS_READY, 0)
    }

    /// Switches it on with this queue for admin commands. May sleep.
    ///
    /// # Errors
    /// `ETIMEDOUT`; `ENODEV`: it is gone; `EIO`: it failed.
    pub fn enable(&self, entries: u16, submissions: u64, completions: u64) -> Result<()> {
        let size = u32::from(entries - 1);
        self.region.write32(AQA, size << 16 | size);
        self.region.write64(ASQ, submissions);
        self.region.write64(ACQ, completions);
        self.region.write32(CC, CC_ENTRY_SIZES | CC_ENABLE);
        self.wait_for(CSTS_READY, CSTS_READY)
    }

    /// Tells it that the power may go: what it has in volatile memory goes to the medium. May sleep.
    ///
    /// # Errors
    /// `ETIMEDOUT`, `ENODEV`.
    pub fn shut_down(&self) -> Result<()> {
        let config = self.region.read32(CC);
        if config == GONE {
            return Err(Errno::ENODEV);
        }
        self.region.write32(CC, config & !CC_SHUTDOWN_MASK | CC_SHUTDOWN);
        self.wait_for(CSTS_SHUTDOWN_MASK, CSTS_SHUTDOWN_DONE)
    }

    fn wait_for(&self, mask: u32, wanted: u32) -> Result<()> {
        let deadline = sched::time::monotonic_ns() + self.capabilities.timeout().as_nanos() as u64;
        let mut pause = 50_000;
        loop {
            let status = self.region.read32(CSTS);
            match status {
                GONE => return Err(Errno::ENODEV),
                _ if status & mask == wanted => return Ok(()),
                _ if status & CSTS_FATAL != 0 && wanted == CSTS_READY => return Err(Errno::EIO),
                _ => {}
            }
            if sched::time::monotonic_ns() > deadline {
                return Err(Errno::ETIMEDOUT);
            }
            sched::sleep_ns(pause);
            pause = (pause * 2).min(10_000_000);
        }
    }

    fn ring(&self, bell: usize, value: u16) {
        let offset = DOORBELLS + bell * self.capabilities.stride();
        // Queues have doorbells: their number was bounded by `max_queues`.
        if offset + 4 <= self.region.len() {
            self.region.write32(offset, value.into());
        }
    }
}

impl Bells for Registers {
    fn submitted(&self, queue: u16, tail: u16) {
        self.ring(2 * usize::from(queue), tail);
    }

    fn completed(&self, queue: u16, head: u16) {
        self.ring(2 * usize::from(queue) + 1, head);
    }
}
