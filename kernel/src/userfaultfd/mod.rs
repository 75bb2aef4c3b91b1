//! `userfaultfd(2)` and `/dev/userfaultfd`: descriptors through which a program resolves page faults. What they do to memory is
//! [`mm::uffd`]'s.
//!
//! | file | what it owns |
//! |---|---|
//! | this one | who may have a descriptor, making one, `poll`, `/proc/PID/fdinfo` |
//! | `read.rs` | messages: faults, events, the descriptor of a forked child's |
//! | `ioctl.rs` | `ioctl_userfaultfd(2)` |

mod ioctl;
mod read;

use crate::fs::context::{Caller, install};
use crate::memory::space;
use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::fs::DevId;
use abi::poll::PollEvents;
use abi::uffd::USERFAULTFD_IOC_NEW;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use mm::IovIter;
use mm::fallible::try_box;
use mm::uffd::{Context, Mode};
use tmpfs::devtmpfs::create_node;
use vfs::anon;
use vfs::chrdev::{CHAR_DEVICES, DeviceDriver};
use vfs::fdtable::Fd;
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::{FileOps, IoFlags};
use vfs::poll::PollTable;

/// `vm.unprivileged_userfaultfd`: whether faults of the kernel may be put to users without `CAP_SYS_PTRACE`.
pub static UNPRIVILEGED: AtomicU32 = AtomicU32::new(0);

/// Device numbers of `/dev/userfaultfd`.
const DEVICE: DevId = DevId::new(10, 126);
/// The flags that a descriptor shares with `open(2)`.
const FILE_FLAGS: u32 = raw::O_CLOEXEC | raw::O_NONBLOCK;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[USERFAULTFD];

#[macros::syscall(userfaultfd)]
fn sys_userfaultfd(flags: u32) -> Result<Fd> {
    let allowed = flags & raw::UFFD_USER_MODE_ONLY != 0
        || UNPRIVILEGED.load(Ordering::Relaxed) != 0
        || current().with_cred(|cred| cred.capable(Cap::SysPtrace));
    if !allowed {
        return Err(Errno::EPERM);
    }
    create(flags)
}

/// A descriptor for the running process's memory.
fn create(flags: u32) -> Result<Fd> {
    if flags & !(FILE_FLAGS | raw::UFFD_USER_MODE_ONLY) != 0 {
        return Err(Errno::EINVAL);
    }
    let mode = if flags & raw::UFFD_USER_MODE_ONLY != 0 { Mode::UserOnly } else { Mode::Full };
    let context = Context::new(&space()?, mode, || current().tid())?;
    let file = file_of(context, flags & raw::O_NONBLOCK, Armed::Yes)?;
    install(file, flags & raw::O_CLOEXEC != 0)
}

/// Whether closing a file releases its context.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Armed {
    Yes,
    /// Not before [`Userfaultfd::arm`].
    No,
}

/// An open file for a context.
fn file_of(context: Arc<Context>, flags: u32, armed: Armed) -> Result<Arc<File>> {
    let ops = try_box(Userfaultfd { context, armed: AtomicBool::new(armed == Armed::Yes) })?;
    anon::anon_file(Caller::current()?.cred(), "[userfaultfd]", FileImpl::Owned(ops), raw::O_RDONLY | flags)
}

/// What is behind a descriptor.
struct Userfaultfd {
    context: Arc<Context>,
    armed: AtomicBool,
}

impl Userfaultfd {
    /// From now on closing the file releases the context.
    fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }
}

impl FileOps for Userfaultfd {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        read::read(&self.context, file.nonblock() || flags.contains(IoFlags::NOWAIT), file.flags(), iter)
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        ioctl::ioctl(&self.context, cmd, arg)
    }

    fn poll(&self, file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.context.readers);
        // Whoever polls must not be able to sleep in `read` afterwards.
        if !self.context.is_agreed() || !file.nonblock() {
            return PollEvents::ERR;
        }
        if self.context.is_readable() { PollEvents::IN } else { PollEvents::empty() }
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn release(&self, _: &File) {
        if self.armed.load(Ordering::Acquire) {
            self.context.release();
            self.context.readers.wake_all_poll(PollEvents::HUP);
        }
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let (pending, total) = self.context.counts();
        writeln!(out, "pending:\t{pending}\ntotal:\t{total}")?;
        let ioctls = ioctl::API_IOCTLS | ioctl::RANGE_IOCTLS;
        writeln!(out, "API:\t{:x}:{:x}:{ioctls:x}", raw::UFFD_API, self.context.features())
    }
}

/// `/dev/userfaultfd`: its mode says who may have descriptors.
struct Device;

impl FileOps for Device {
    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        if cmd != USERFAULTFD_IOC_NEW {
            return Err(Errno::EINVAL);
        }
        create(arg as u32).map(|fd| fd.raw() as isize)
    }
}

struct Driver;

impl DeviceDriver for Driver {
    fn open(&self, _: DevId, _: &mut OpenFile<'_>) -> Result<FileImpl> {
        Ok(FileImpl::Static(&Device))
    }
}

/// Registers the device and makes its node.
///
/// # Errors
/// `EBUSY` if somebody has the number, `ENOMEM`.
pub fn init() -> Result<()> {
    CHAR_DEVICES.register("userfaultfd", DEVICE.major, DEVICE.minor, 1, &Driver)?;
    create_node("userfaultfd", raw::S_IFCHR | 0o600, DEVICE)
}
