//! `syslog(2)`, called `klogctl(3)` by the C library, and `/proc/kmsg`: the log as text.
//!
//! There is one reader for the whole system: what one caller reads, the next does not see. Looking at everything
//! (`dmesg(1)`) has no place of its own but the mark that `clear` leaves.
//!
//! Lock: [`READER`] (sleeping), not held while waiting for a record.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::poll::PollEvents;
use abi::{Errno, Result};
use kernfs::Node;
use mm::IovIter;
use mm::fallible::try_vec;
use mm::iov::Direction;
use sched::mutex::Mutex;
use sched::wait::Wait;
use vfs::file::{File, FileImpl};
use vfs::file_ops::{FileOps, IoFlags, Whence};
use vfs::poll::PollTable;

use super::text;
use crate::printk::{self, ring::Cursor};
use crate::process::current;
use crate::procfs::sysctl::DMESG_RESTRICT;
use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SYSLOG];

/// Actions.
mod action {
    pub const CLOSE: u32 = 0;
    pub const OPEN: u32 = 1;
    pub const READ: u32 = 2;
    pub const READ_ALL: u32 = 3;
    pub const READ_CLEAR: u32 = 4;
    pub const CLEAR: u32 = 5;
    pub const CONSOLE_OFF: u32 = 6;
    pub const CONSOLE_ON: u32 = 7;
    pub const CONSOLE_LEVEL: u32 = 8;
    pub const SIZE_UNREAD: u32 = 9;
    pub const SIZE_BUFFER: u32 = 10;
}

struct Reader {
    /// The next record for `READ`; none before the first look.
    cursor: Option<Cursor>,
    /// Bytes of that record that were read already.
    partial: usize,
    /// Where `CLEAR` was called.
    cleared: Option<Cursor>,
    /// The console level before `CONSOLE_OFF`.
    saved_level: Option<u8>,
}

static READER: Mutex<Reader> =
    Mutex::new(Reader { cursor: None, partial: 0, cleared: None, saved_level: None });

/// Where the log was cleared last.
pub(super) fn cleared() -> Cursor {
    READER.lock().cleared.unwrap_or_else(printk::oldest)
}

fn privileged() -> bool {
    current().with_cred(|cred| cred.capable(Cap::Syslog))
}

/// Whether the caller may look at the whole log.
///
/// # Errors
/// `EPERM` with `kernel.dmesg_restrict` and without `CAP_SYSLOG`.
pub(super) fn may_read_all() -> Result<()> {
    if DMESG_RESTRICT.load(Ordering::Relaxed) == 0 || privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

fn check(action: u32) -> Result<()> {
    match action {
        action::READ_ALL | action::SIZE_BUFFER => may_read_all(),
        _ if privileged() => Ok(()),
        _ => Err(Errno::EPERM),
    }
}

fn record_buffer() -> Result<Vec<u8>> {
    Ok(try_vec(0, printk::LONGEST)?)
}

/// The next record as text.
fn next(cursor: &mut Cursor, buffer: &mut [u8]) -> Result<Option<Vec<u8>>> {
    match printk::read(cursor, buffer) {
        Some(header) => text::lines(&header, buffer.get(..header.len).unwrap_or_default()).map(Some),
        None => Ok(None),
    }
}

/// Whether the one reader has something to read.
fn has_unread() -> bool {
    let mut cursor = READER.lock().cursor.unwrap_or_else(printk::oldest);
    printk::peek(&mut cursor).is_some()
}

/// Reads what has not been read; waits for at least one record.
fn read(iter: &mut IovIter<'_>, nonblock: bool) -> Result<usize> {
    let mut buffer = record_buffer()?;
    let mut done = 0;
    while !iter.is_empty() {
        let mut reader = READER.lock();
        let mut cursor = reader.cursor.unwrap_or_else(printk::oldest);
        if printk::lost(cursor) > 0 {
            reader.partial = 0;
        }
        let Some(record) = next(&mut cursor, &mut buffer)? else {
            drop(reader);
            if done > 0 {
                break;
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            let some = || has_unread().then_some(());
            printk::readers().wait(Wait::INTERRUPTIBLE, some).map_err(|_| Errno::ERESTARTSYS)?;
            continue;
        };
        let rest = record.get(reader.partial..).unwrap_or_default();
        // A record goes out whole unless it is the first and does not fit.
        if rest.len() > iter.count() && done > 0 {
            break;
        }
        let wanted = rest.len().min(iter.count());
        let copied = iter.copy_to_iter(rest.get(..wanted).unwrap_or_default());
        if copied < wanted {
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
        done += copied;
        if wanted == rest.len() {
            reader.cursor = Some(cursor);
            reader.partial = 0;
        } else {
            reader.partial += wanted;
        }
    }
    Ok(done)
}

/// Copies the newest records that fit, oldest first.
fn read_all(iter: &mut IovIter<'_>, clear: bool) -> Result<usize> {
    let mut buffer = record_buffer()?;
    let mut start = cleared();
    let mut total = 0;
    let mut scan = start;
    while let Some(record) = next(&mut scan, &mut buffer)? {
        total += record.len();
    }
    let end = scan;
    while total > iter.count() {
        match next(&mut start, &mut buffer)? {
            Some(record) => total -= record.len(),
            None => break,
        }
    }
    let mut done = 0;
    while start.seq() < end.seq() {
        let Some(record) = next(&mut start, &mut buffer)? else { break };
        if record.len() > iter.count() {
            break;
        }
        if iter.copy_to_iter(&record) < record.len() {
            return Err(Errno::EFAULT);
        }
        done += record.len();
    }
    if clear {
        READER.lock().cleared = Some(end);
    }
    Ok(done)
}

fn unread_size() -> Result<usize> {
    let mut buffer = record_buffer()?;
    let (mut cursor, partial) = {
        let reader = READER.lock();
        (reader.cursor.unwrap_or_else(printk::oldest), reader.partial)
    };
    let mut size = 0;
    while let Some(record) = next(&mut cursor, &mut buffer)? {
        size += record.len();
    }
    Ok(size.saturating_sub(partial))
}

#[macros::syscall(syslog)]
fn sys_syslog(kind: u32, buf: usize, len: i32) -> Result<usize> {
    check(kind)?;
    match kind {
        action::CLOSE | action::OPEN => Ok(0),
        action::READ | action::READ_ALL | action::READ_CLEAR => {
            let size = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
            if buf == 0 {
                return Err(Errno::EINVAL);
            }
            if size == 0 {
                return Ok(0);
            }
            let mut iter = IovIter::user(Direction::Dest, buf, size)?;
            match kind {
                action::READ => read(&mut iter, false),
                _ => read_all(&mut iter, kind == action::READ_CLEAR),
            }
        }
        action::CLEAR => {
            READER.lock().cleared = Some(printk::newest());
            Ok(0)
        }
        action::CONSOLE_OFF => {
            let mut reader = READER.lock();
            reader.saved_level.get_or_insert_with(printk::console_level);
            printk::set_console_level(1);
            Ok(0)
        }
        action::CONSOLE_ON => {
            if let Some(level) = READER.lock().saved_level.take() {
                printk::set_console_level(level);
            }
            Ok(0)
        }
        action::CONSOLE_LEVEL => {
            if !(1..=8).contains(&len) {
                return Err(Errno::EINVAL);
            }
            printk::set_console_level(len as u8);
            READER.lock().saved_level = None;
            Ok(0)
        }
        action::SIZE_UNREAD => unread_size(),
        action::SIZE_BUFFER => Ok(printk::LOG_BYTES),
        _ => Err(Errno::EINVAL),
    }
}

/// `/proc/kmsg`.
struct ProcKmsg;

impl FileOps for ProcKmsg {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        read(iter, file.nonblock() || flags.contains(IoFlags::NOWAIT))
    }

    fn llseek(&self, file: &File, _: i64, _: Whence) -> Result<u64> {
        Ok(file.pos())
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(printk::readers());
        if has_unread() { PollEvents::IN | PollEvents::RDNORM } else { PollEvents::empty() }
    }
}

/// Makes `/proc/kmsg`.
///
/// # Errors
/// None at present.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub(super) fn init() -> Result<()> {
    let open = Node::Custom(Arc::new(|_, open| {
        check(action::OPEN)?;
        open.nonseekable();
        Ok(FileImpl::Static(&ProcKmsg))
    }));
    crate::procfs::top().add("kmsg", open, 0o400);
    Ok(())
}
