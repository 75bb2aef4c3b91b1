//! Real-time clocks: rtc(4).
//!
//! `/dev/rtc0` shows and sets the time that goes on while the machine is off. The chips' interrupts (alarms, updates, periods)
//! are not used; requests about them answer what Linux answers for a clock without an interrupt.
//!
//! | file | what it owns |
//! |---|---|
//! | [`date`] | dates of the calendar |
//! | [`mc146818`] | the PC's chip |
//! | [`pl031`] | Arm's |
//!
//! Locks: a chip's own, a leaf.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::cap::Cap;
use abi::fs::DevId;
use abi::{Errno, Result};
use arch::rtc::Registers;
use mm::IovIter;
use mm::user::UserPtr;
use sync::Once;
use vfs::chrdev::{CHAR_DEVICES, DeviceDriver};
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::{FileOps, IoFlags};

pub mod date;
mod mc146818;
mod pl031;

pub use date::Date;

/// Major number: the first of those that Linux gives out as it needs them.
pub const MAJOR: u32 = 252;

/// A clock chip.
trait Chip: Send + Sync {
    /// Name of its driver.
    fn name(&self) -> &'static str;
    /// Seconds since the epoch.
    ///
    /// # Errors
    /// `EIO`: the clock does not answer; `EINVAL`: it shows no date.
    fn read(&self) -> Result<i64>;
    /// Sets it.
    ///
    /// # Errors
    /// `ERANGE`: a date that it cannot hold; `EIO`.
    fn set(&self, seconds: i64) -> Result<()>;
}

static CHIP: Once<Box<dyn Chip>> = Once::new();
/// Somebody has the device open; one may.
static BUSY: AtomicBool = AtomicBool::new(false);

/// `RTC_*` of `linux/rtc.h`.
mod request {
    pub const AIE_ON: u32 = 0x7001;
    pub const AIE_OFF: u32 = 0x7002;
    pub const UIE_ON: u32 = 0x7003;
    pub const UIE_OFF: u32 = 0x7004;
    pub const ALM_SET: u32 = 0x4024_7007;
    pub const ALM_READ: u32 = 0x8024_7008;
    pub const RD_TIME: u32 = 0x8024_7009;
    pub const SET_TIME: u32 = 0x4024_700a;
    pub const WKALM_SET: u32 = 0x4028_700f;
    pub const WKALM_RD: u32 = 0x8028_7010;
}

/// Name of the clock's driver; `None` without a clock.
pub fn name() -> Option<&'static str> {
    CHIP.get().map(|chip| chip.name())
}

/// The time that it shows, in seconds since the epoch.
///
/// # Errors
/// `ENODEV` without a clock; `EIO`, `EINVAL`.
pub fn read() -> Result<i64> {
    CHIP.get().ok_or(Errno::ENODEV)?.read()
}

struct Clock;

impl FileOps for Clock {
    fn ioctl(&self, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let chip = CHIP.get().ok_or(Errno::ENODEV)?;
        match cmd {
            request::RD_TIME => {
                UserPtr::<[i32; 9]>::new(arg).write(&Date::of(chip.read()?).to_rtc_time())?;
                Ok(0)
            }
            request::SET_TIME => {
                if !file.cred().capable(Cap::SysTime) {
                    return Err(Errno::EACCES);
                }
                let time = UserPtr::<[i32; 9]>::new(arg).read()?;
                chip.set(Date::from_rtc_time(&time).ok_or(Errno::EINVAL)?.seconds())?;
                Ok(0)
            }
            request::ALM_SET | request::ALM_READ | request::WKALM_SET | request::WKALM_RD => {
                Err(Errno::EINVAL)
            }
            request::AIE_ON | request::UIE_ON => Err(Errno::EINVAL),
            request::AIE_OFF | request::UIE_OFF => Err(Errno::EINVAL),
            _ => Err(Errno::ENOTTY),
        }
    }

    /// Interrupts are what would be read, and there are none.
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        if iter.count() < size_of::<u32>() {
            return Err(Errno::EINVAL);
        }
        if file.nonblock() || flags.contains(IoFlags::NOWAIT) {
            return Err(Errno::EAGAIN);
        }
        let nobody = sched::wait::WaitQueue::new();
        let never = || None::<()>;
        let _ = nobody.wait(sched::wait::Wait::INTERRUPTIBLE, never);
        Err(Errno::ERESTARTSYS)
    }

    fn release(&self, _: &File) {
        BUSY.store(false, Ordering::Release);
    }
}

struct Clocks;

impl DeviceDriver for Clocks {
    fn open(&self, _: DevId, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        if BUSY.swap(true, Ordering::Acquire) {
            return Err(Errno::EBUSY);
        }
        open.stream();
        Ok(FileImpl::Static(&Clock))
    }
}

/// Looks for a clock; says whether there is one, which then has its device number.
///
/// # Errors
/// `EBUSY` if somebody has the number, `ENOMEM`.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub fn init() -> Result<bool> {
    let chip: Box<dyn Chip> = match arch::rtc::registers() {
        Some(Registers::Mc146818(ports)) => match mc146818::Mc146818::probe(ports) {
            Some(chip) => Box::new(chip),
            None => return Ok(false),
        },
        Some(Registers::Pl031(registers)) => Box::new(pl031::Pl031::new(registers)),
        None => return Ok(false),
    };
    let _ = CHIP.set(chip);
    CHAR_DEVICES.register("rtc", MAJOR, 0, 1, &Clocks)?;
    Ok(true)
}
