//! Character devices of the kernel proper: random numbers and the log. Devices of hardware are in `drivers`.
//!
//! | file | what it owns |
//! |---|---|
//! | [`random`] | `/dev/random`, `/dev/urandom`: `random(4)` |
//! | [`latency`] | `/dev/cpu_dma_latency` |
//! | [`kmsg`] | `/dev/kmsg`: records of the log, one per `read(2)` |
//! | [`syslog`] | `syslog(2)` and `/proc/kmsg`: the log as text |

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use drivers::mem::MAJOR;
use mm::fallible::try_box;
use tmpfs::devtmpfs::create_node;
use vfs::chrdev::{CHAR_DEVICES, DeviceDriver};
use vfs::file::{FileImpl, OpenFile};

mod kmsg;
mod latency;
mod random;
pub mod syslog;
mod text;

const RANDOM: u32 = 8;
const URANDOM: u32 = 9;
const KMSG: u32 = 11;
/// Major number of devices that have none of their own.
pub const MISC_MAJOR: u32 = 10;
/// Minor number of `/dev/cpu_dma_latency`; Linux gives it out as it comes.
pub const LATENCY: u32 = 262;

struct Misc;

impl DeviceDriver for Misc {
    fn open(&self, _: DevId, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        Ok(FileImpl::Owned(try_box(latency::Request::new()?)?))
    }
}

struct Devices;

impl DeviceDriver for Devices {
    fn open(&self, dev: DevId, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        Ok(match dev.minor {
            RANDOM => FileImpl::Static(&random::Random),
            URANDOM => FileImpl::Static(&random::Urandom),
            KMSG => FileImpl::Owned(try_box(kmsg::Kmsg::open(open)?)?),
            _ => return Err(Errno::ENXIO),
        })
    }
}

/// Registers the devices and makes their nodes.
///
/// # Errors
/// `EBUSY` if somebody has the numbers, `ENOMEM`.
pub fn init() -> Result<()> {
    for (name, minor, mode) in [("random", RANDOM, 0o666), ("urandom", URANDOM, 0o666), ("kmsg", KMSG, 0o644)]
    {
        CHAR_DEVICES.register("mem", MAJOR, minor, 1, &Devices)?;
        create_node(name, raw::S_IFCHR | mode, DevId::new(MAJOR, minor))?;
    }
    CHAR_DEVICES.register("misc", MISC_MAJOR, LATENCY, 1, &Misc)?;
    create_node("cpu_dma_latency", raw::S_IFCHR | 0o600, DevId::new(MISC_MAJOR, LATENCY))?;
    syslog::init()
}
