//! The socket behind a descriptor.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::IovIter;
use vfs::fasync::FasyncList;
use vfs::file::File;
use vfs::file_ops::{FileOps, IoFlags, Whence};
use vfs::poll::PollTable;

use crate::message::{MessageFlags, SendMessage};
use crate::ops::SocketOps;
use crate::options::Options;

/// `SOCK_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Kind {
    Stream = 1,
    Dgram = 2,
    Raw = 3,
    Rdm = 4,
    Seqpacket = 5,
    Packet = 10,
}

impl Kind {
    /// From the number, flags removed.
    ///
    /// # Errors
    /// `EINVAL` for a number that no type has.
    pub fn from_raw(kind: i32) -> Result<Self> {
        Ok(match kind {
            1 => Self::Stream,
            2 => Self::Dgram,
            3 => Self::Raw,
            4 => Self::Rdm,
            5 => Self::Seqpacket,
            10 => Self::Packet,
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// An open socket.
pub struct Socket {
    family: u16,
    kind: Kind,
    protocol: i32,
    options: Options,
    ops: Arc<dyn SocketOps>,
    ino: AtomicU64,
}

static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Sockets that exist (`/proc/net/sockstat`).
pub fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

impl Socket {
    /// A socket around a protocol's own.
    pub fn new(family: u16, kind: Kind, protocol: i32, ops: Arc<dyn SocketOps>) -> Self {
        IN_USE.fetch_add(1, Ordering::Relaxed);
        Self { family, kind, protocol, options: Options::default(), ops, ino: AtomicU64::new(0) }
    }

    /// The socket of a connection that `listener` accepted: it has the listener's options.
    pub fn accepted(listener: &Self, ops: Arc<dyn SocketOps>) -> Self {
        let socket = Self::new(listener.family, listener.kind, listener.protocol, ops);
        socket.options.copy_from(&listener.options);
        socket.ops.options_changed(&socket.options);
        socket
    }

    /// The number of its inode.
    pub fn ino(&self) -> u64 {
        self.ino.load(Ordering::Relaxed)
    }

    /// Notes the number of its inode.
    pub fn set_ino(&self, ino: u64) {
        self.ino.store(ino, Ordering::Relaxed);
        self.ops.set_ino(ino);
    }

    /// `SO_DOMAIN`.
    pub fn family(&self) -> u16 {
        self.family
    }

    /// `SO_TYPE`.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `SO_PROTOCOL`.
    pub fn protocol(&self) -> i32 {
        self.protocol
    }

    /// The common options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The protocol's socket.
    pub fn ops(&self) -> &Arc<dyn SocketOps> {
        &self.ops
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        IN_USE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileOps for Socket {
    fn fasync_lists(&self, _: &File) -> [Option<&FasyncList>; 2] {
        [self.ops.fasync(), None]
    }

    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        if iter.is_empty() {
            return Ok(0);
        }
        let nonblock = file.nonblock() || flags.contains(IoFlags::NOWAIT);
        let received = self.ops.receive(iter, MessageFlags::empty(), nonblock, &self.options)?;
        Ok(received.len)
    }

    fn write_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        let nonblock = file.nonblock() || flags.contains(IoFlags::NOWAIT);
        let message = SendMessage { to: None, control: Vec::new(), flags: MessageFlags::empty(), nonblock };
        self.ops.send(None, iter, message, &self.options)
    }

    fn llseek(&self, _: &File, _: i64, _: Whence) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        self.ops.ioctl(cmd, arg)
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        self.ops.poll(table)
    }

    fn release(&self, _: &File) {
        self.ops.release();
    }
}
