//! `/dev/kmsg`: each `read(2)` gives one record, each `write(2)` makes one.
//!
//! Every open file has its own place in the log. A reader that was overtaken hears of it (`EPIPE`) once and goes
//! on with the oldest record that is left.

use alloc::vec::Vec;

use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::IovIter;
use mm::fallible::try_vec;
use sched::mutex::Mutex;
use sched::wait::Wait;
use vfs::file::{File, OpenFile};
use vfs::file_ops::{FileOps, IoFlags, Whence};
use vfs::poll::PollTable;

use super::{syslog, text};
use crate::printk::{self, ring::Cursor, ring::Priority};

/// The longest text that is taken.
const LONGEST: usize = 1024;

/// An open `/dev/kmsg`.
pub(super) struct Kmsg {
    cursor: Mutex<Cursor>,
}

impl Kmsg {
    pub(super) fn open(open: &OpenFile<'_>) -> Result<Self> {
        if open.readable() {
            syslog::may_read_all()?;
        }
        Ok(Self { cursor: Mutex::new(printk::oldest()) })
    }
}

fn buffer() -> Result<Vec<u8>> {
    Ok(try_vec(0, printk::LONGEST)?)
}

impl FileOps for Kmsg {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        let mut bytes = buffer()?;
        let mut cursor = self.cursor.lock_interruptible().map_err(|_| Errno::ERESTARTSYS)?;
        if printk::lost(*cursor) > 0 {
            *cursor = printk::oldest();
            return Err(Errno::EPIPE);
        }
        if printk::peek(&mut cursor).is_none() {
            if file.nonblock() || flags.contains(IoFlags::NOWAIT) {
                return Err(Errno::EAGAIN);
            }
            let place = *cursor;
            let some = || printk::peek(&mut { place }).map(drop);
            printk::readers().wait(Wait::INTERRUPTIBLE, some).map_err(|_| Errno::ERESTARTSYS)?;
        }
        let mut next = *cursor;
        let Some(header) = printk::read(&mut next, &mut bytes) else { return Err(Errno::EAGAIN) };
        let record = text::record(&header, bytes.get(..header.len).unwrap_or_default())?;
        if iter.count() < record.len() {
            return Err(Errno::EINVAL);
        }
        if iter.copy_to_iter(&record) < record.len() {
            return Err(Errno::EFAULT);
        }
        *cursor = next;
        Ok(record.len())
    }

    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        let size = iter.count();
        if size > LONGEST {
            return Err(Errno::EINVAL);
        }
        let data = iter.read_to_vec(size)?;
        if data.len() < size {
            return Err(Errno::EFAULT);
        }
        let (priority, line) = text::parse_prefix(&data, printk::DEFAULT_MESSAGE_LEVEL);
        printk::record(Priority(priority), line.strip_suffix(b"\n").unwrap_or(line));
        Ok(size)
    }

    /// To the first record, to the first after the last `clear`, or behind the last.
    fn llseek(&self, _: &File, offset: i64, whence: Whence) -> Result<u64> {
        if offset != 0 {
            return Err(Errno::ESPIPE);
        }
        let place = match whence {
            Whence::Set => printk::oldest(),
            Whence::Data => syslog::cleared(),
            Whence::End => printk::newest(),
            _ => return Err(Errno::EINVAL),
        };
        *self.cursor.lock() = place;
        Ok(0)
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(printk::readers());
        let mut place = *self.cursor.lock();
        if printk::lost(place) > 0 {
            return PollEvents::IN | PollEvents::RDNORM | PollEvents::ERR | PollEvents::PRI;
        }
        match printk::peek(&mut place) {
            Some(_) => PollEvents::IN | PollEvents::RDNORM,
            None => PollEvents::empty(),
        }
    }
}
