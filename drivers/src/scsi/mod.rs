//! SCSI: logical units behind a host, and disks among them.
//!
//! | file | what it owns |
//! |---|---|
//! | [`command`] | commands as bytes |
//! | [`sense`] | what becomes of a command that did not simply work |
//! | [`inquiry`] | what devices say about themselves |
//! | [`scan`] | which units there are |
//! | [`disk`] | disks: `sda` and so on |
//!
//! A driver of a host implements [`Host`] and calls [`scan::scan`]. Other kinds of units than disks are left alone.
//!
//! Locks: those of the host's driver, and a disk's; nothing here is called with one held but [`Ring`].

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use abi::{Errno, Result};
use block::Status;
use mm::dma::Coherent;

pub mod command;
pub mod disk;
pub mod inquiry;
pub mod scan;
pub mod sense;

pub use command::Command;

/// A logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The target that it is part of.
    pub target: u16,
    /// Its number there.
    pub lun: u16,
}

/// How a command ended, if it got to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The SCSI status.
    pub status: u8,
    /// Sense data.
    pub sense: [u8; sense::LEN],
    /// How many bytes there were less than asked for.
    pub missing: u32,
}

/// Why a command did not get to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// There is no such device.
    NoDevice,
    /// It was aborted by a reset; it may be tried again.
    Reset,
    /// The host has no room now.
    Busy,
    /// Something else.
    Failed,
}

/// What came of a command.
pub type Outcome = core::result::Result<Answer, Lost>;

/// Who submitted a command.
pub trait Owner: Send + Sync {
    /// It is over. Often in an interrupt.
    fn done(&self, queue: usize, tag: u32, outcome: Outcome);
}

/// A command to be submitted.
pub struct Item<'a> {
    /// To whom.
    pub unit: Unit,
    /// Who is told of its end, and with which number.
    pub owner: &'a Arc<dyn Owner>,
    /// See there.
    pub tag: u32,
    /// What.
    pub command: Command,
    /// The memory of its data: physical addresses and lengths.
    pub data: &'a mut dyn Iterator<Item = (u64, u32)>,
    /// Of so many pieces at most.
    pub pieces: usize,
    /// Whether the device writes there.
    pub device_writes: bool,
}

/// There is no room for a command now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A queue that is being filled.
pub trait Ring {
    /// Adds a command; the device does not see it before all have been added.
    ///
    /// # Errors
    /// [`Full`].
    fn add(&mut self, item: Item<'_>) -> core::result::Result<(), Full>;
}

/// What a host can do.
#[derive(Clone, Copy, Debug)]
pub struct Can {
    /// Queues for commands.
    pub queues: usize,
    /// Commands of each at a time.
    pub depth: u32,
    /// Pieces of memory of a command.
    pub pieces: u16,
    /// Sectors of a command.
    pub sectors: u32,
    /// The last target.
    pub last_target: u16,
    /// The last unit of a target.
    pub last_lun: u16,
}

/// A host adapter.
pub trait Host: Send + Sync {
    /// What it can do.
    fn can(&self) -> Can;
    /// Its number among SCSI hosts.
    fn number(&self) -> u32;
    /// Its directory below `/sys/devices`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn path(&self) -> Result<String>;
    /// Lets `fill` fill a queue, and tells the device.
    fn submit(&self, queue: usize, fill: &mut dyn FnMut(&mut dyn Ring));
    /// Looks for the ends of commands without waiting for an interrupt; how many there were.
    fn poll(&self, queue: usize) -> usize;
    /// Runs a command and waits for its end. The device writes to `buffer`. May sleep.
    ///
    /// # Errors
    /// `ETIMEDOUT`, `ENODEV`, `EIO`: it did not get to the device or back.
    fn execute(&self, unit: Unit, command: Command, buffer: &Arc<Coherent<u8>>) -> Result<Answer>;
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0:{}:{}", self.target, self.lun)
    }
}

/// Runs a command that reads, a few times if the device has something else to say first; the bytes that it wrote.
///
/// # Errors
/// `EIO`: it does not work; those of [`Host::execute`].
pub fn read(
    host: &dyn Host,
    unit: Unit,
    command: Command,
    buffer: &Arc<Coherent<u8>>,
    out: &mut [u8],
) -> Result<usize> {
    for _ in 0..5 {
        let answer = host.execute(unit, command, buffer)?;
        match sense::judge(answer.status, &answer.sense) {
            sense::Verdict::End(Status::Ok) => {
                // What is missing, is missing of the buffer, however little was asked for.
                let there = buffer.len().saturating_sub(answer.missing as usize).min(out.len());
                let mut count = 0;
                for (at, byte) in out.iter_mut().enumerate().take(there) {
                    *byte = buffer.read(at).unwrap_or(0);
                    count = at + 1;
                }
                return Ok(count);
            }
            sense::Verdict::End(_) => return Err(Errno::EIO),
            sense::Verdict::Retry(_) => {}
            sense::Verdict::Later => sched::sleep_ns(10_000_000),
        }
    }
    Err(Errno::EIO)
}
