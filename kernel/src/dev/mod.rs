//! Character devices of the kernel proper: random numbers and the log. Devices of hardware are in `drivers`.
//!
//! | file | what it owns |
//! |---|---|
//! | [`random`] | `/dev/random`, `/dev/urandom`: `random(4)` |
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
mod random;
pub mod syslog;
mod text;

const RANDOM: u32 = 8;
const URANDOM: u32 = 9;
const KMSG: u32 = 11;

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
    syslog::init()
}
