//! Terminals by device number: what opening `/dev/ttyS0`, `/dev/console`, `/dev/tty` or `/dev/ptmx` means.
//!
//! Source: `tty(4)`, `console(4)`, `ttyS(4)`, `ptmx(4)`, the kernel's list of device numbers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use arch::sync::RwSpinLock;
use sync::Once;
use vfs::chrdev::{CHAR_DEVICES, DeviceDriver};
use vfs::file::{FileImpl, OpenFile};

use super::core::Tty;
use super::file::TtyFile;
use super::job::job_control;
use mm::fallible::{TryVec, try_box, try_to_vec};

/// Major number of virtual and serial terminals.
pub const TTY_MAJOR: u32 = 4;
/// Minor number of `/dev/ttyS0`.
pub const SERIAL_FIRST: u32 = 64;
/// Major number of `/dev/tty`, `/dev/console` and `/dev/ptmx`.
pub const AUX_MAJOR: u32 = 5;
/// Major number of less common serial ports; `/dev/ttyAMA0` is minor 64 of it.
pub const AMBA_MAJOR: u32 = 204;

/// Device number of `/dev/tty`.
pub const DEV_TTY: DevId = DevId::new(AUX_MAJOR, 0);
/// Device number of `/dev/console`.
pub const DEV_CONSOLE: DevId = DevId::new(AUX_MAJOR, 1);

static TERMINALS: RwSpinLock<Vec<Arc<Tty>>> = RwSpinLock::new(Vec::new());
static CONSOLE: Once<Arc<Tty>> = Once::new();

/// Makes a terminal openable by its device number.
///
/// # Errors
/// `ENOMEM`.
pub fn add(tty: Arc<Tty>) -> Result<()> {
    Ok(TERMINALS.write().try_push(tty)?)
}

/// Says which terminal `/dev/console` is. Only the first call counts.
pub fn set_console(tty: Arc<Tty>) {
    CONSOLE.call_once(|| tty);
}

/// The terminal that `/dev/console` is.
pub fn console() -> Option<&'static Arc<Tty>> {
    CONSOLE.get()
}

/// The terminals there are, in order of registration.
///
/// # Errors
/// `ENOMEM`.
pub fn terminals() -> Result<Vec<Arc<Tty>>> {
    Ok(try_to_vec(&TERMINALS.read())?)
}

/// Opens `tty` for `open`; it becomes the controlling terminal unless `O_NOCTTY` or write-only forbids.
pub fn open(tty: Arc<Tty>, open: &mut OpenFile<'_>, may_control: bool) -> Result<FileImpl> {
    open.stream();
    let acquire = may_control && open.flags & raw::O_NOCTTY == 0 && open.readable();
    Ok(FileImpl::Owned(try_box(TtyFile::open(tty, acquire)?)?))
}

struct Serial;

impl DeviceDriver for Serial {
    fn open(&self, dev: DevId, file: &mut OpenFile<'_>) -> Result<FileImpl> {
        let tty = TERMINALS.read().iter().find(|tty| tty.dev() == dev).cloned().ok_or(Errno::ENODEV)?;
        open(tty, file, true)
    }
}

struct Auxiliary;

impl DeviceDriver for Auxiliary {
    fn open(&self, dev: DevId, file: &mut OpenFile<'_>) -> Result<FileImpl> {
        match dev {
            DEV_TTY => {
                let tty = job_control()?.session().terminal().ok_or(Errno::ENXIO)?;
                open(tty, file, false)
            }
            // The console never becomes a controlling terminal by being opened.
            DEV_CONSOLE => {
                file.stream();
                let tty = CONSOLE.get().cloned().ok_or(Errno::ENODEV)?;
                Ok(FileImpl::Owned(try_box(TtyFile::open_console(tty)?)?))
            }
            _ => Err(Errno::ENXIO),
        }
    }
}

/// Registers the device numbers.
///
/// # Errors
/// `EBUSY` if somebody has them, `ENOMEM`.
pub fn init() -> Result<()> {
    CHAR_DEVICES.register("ttyS", TTY_MAJOR, SERIAL_FIRST, 32, &Serial)?;
    CHAR_DEVICES.register("/dev/tty", AUX_MAJOR, 0, 1, &Auxiliary)?;
    CHAR_DEVICES.register("/dev/console", AUX_MAJOR, 1, 1, &Auxiliary)?;
    CHAR_DEVICES.register("ttyAMA", AMBA_MAJOR, 64, 16, &Serial)
}
