//! Pseudo terminals: where the driver ([`drivers::tty::pty`]), the names ([`devpts`]) and the descriptor table meet.
//!
//! Opening a `ptmx` (5:2) takes a number in the devpts instance that belongs to it, makes a pair, and gives the slave its name;
//! the name and the number go when the master is closed. Opening a slave (136:N) finds the pair behind its inode.
//!
//! Source: `pts(4)`, `ioctl_tty(2)` (`TIOCGPTPEER`).

use alloc::sync::Arc;

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use devpts::PtsName;
use drivers::tty::core::Tty;
use drivers::tty::devices::{self, AUX_MAJOR};
use drivers::tty::file::{MasterFile, SlaveName};
use drivers::tty::pty::Pty;
use vfs::chrdev::{CHAR_DEVICES, DeviceDriver};
use vfs::file::{FileImpl, OpenFile};
use vfs::namei::{self, OpenArgs};
use vfs::path::Path;

use crate::fs::context::{Caller, install};
use mm::fallible::{try_arc, try_box};

/// Minor number of `/dev/ptmx`.
pub const PTMX_MINOR: u32 = 2;
/// Major number of the slaves.
const SLAVE_MAJOR: u32 = 136;
/// Minor numbers there are.
const SLAVES: u32 = 1 << 20;

/// What lies behind a slave's inode.
struct Slave {
    pty: Arc<Pty>,
    tty: Arc<Tty>,
}

/// The slave's name, as its master knows it.
struct Name {
    name: PtsName,
    /// What the master was opened as: the slave is found beside it.
    ptmx: Path,
}

impl SlaveName for Name {
    fn open_peer(&self, flags: u32) -> Result<i32> {
        let caller = Caller::current()?;
        let args = OpenArgs::from_open(flags, 0)?;
        let file = namei::open_path(&caller.ctx(), self.name.path(&self.ptmx)?, &args)?;
        install(file, flags & raw::O_CLOEXEC != 0).map(|fd| fd.raw())
    }
}

struct Masters;

impl DeviceDriver for Masters {
    fn open(&self, _: DevId, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        let reserved = devpts::instance_for(open.path)?.reserve()?;
        let dev = DevId::new(SLAVE_MAJOR, reserved.index());
        let (pty, tty) = Pty::pair(reserved.index(), dev)?;
        let slave = try_arc(Slave { pty: pty.clone(), tty: tty.clone() })?;
        let name = reserved.publish(open.cred, dev, slave)?;
        open.stream();
        let name = try_arc(Name { name, ptmx: open.path.clone() })?;
        Ok(FileImpl::Owned(try_box(MasterFile::new(pty, tty, name))?))
    }
}

struct Slaves;

impl DeviceDriver for Slaves {
    fn open(&self, _: DevId, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        // A node made elsewhere with a slave's number has no terminal behind it.
        let object = open.path.dentry.inode().and_then(|inode| devpts::object_of(inode)).ok_or(Errno::EIO)?;
        let slave = object.downcast::<Slave>().map_err(|_| Errno::EIO)?;
        slave.pty.slave_opened()?;
        devices::open(slave.tty.clone(), open, true)
    }
}

/// Registers the device numbers.
///
/// # Errors
/// `EBUSY` if somebody has them, `ENOMEM`.
pub fn init() -> Result<()> {
    CHAR_DEVICES.register("/dev/ptmx", AUX_MAJOR, PTMX_MINOR, 1, &Masters)?;
    CHAR_DEVICES.register("pts", SLAVE_MAJOR, 0, SLAVES, &Slaves)
}
