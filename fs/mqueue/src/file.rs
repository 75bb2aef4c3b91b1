//! An open queue. `read(2)` gives a line of text about it; messages go through calls of their own.

use core::fmt::{self, Write};

use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::IovIter;
use vfs::File;
use vfs::file_ops::{FileOps, IoFlags};
use vfs::poll::PollTable;

use crate::inode::{QueueInode, touch};
use crate::order::Message;
use crate::queue::{Patience, Queue};

/// Operations of an open queue.
pub struct QueueFile;

pub(crate) static QUEUE_FILE: QueueFile = QueueFile;

/// The queue behind an open file.
///
/// # Errors
/// `EBADF`: it is no queue.
pub fn queue_of(file: &File) -> Result<&Queue> {
    file.private::<QueueFile>().ok_or(Errno::EBADF)?;
    file.inode().private::<QueueInode>().map(|inode| &inode.queue).ok_or(Errno::EBADF)
}

/// [`Queue::send`] through an open file.
///
/// # Errors
/// Those of [`Queue::send`]; `EBADF`: not open for writing.
pub fn send(file: &File, message: Message, patience: Patience) -> Result<()> {
    queue_of(file)?.send(message, patience)?;
    touch(file.inode());
    Ok(())
}

/// [`Queue::receive`] through an open file.
///
/// # Errors
/// Those of [`Queue::receive`]; `EBADF`: not open for reading.
pub fn receive(file: &File, patience: Patience) -> Result<Message> {
    let message = queue_of(file)?.receive(patience)?;
    touch(file.inode());
    Ok(message)
}

/// Notes that attributes were asked for or changed, or a registration came or went.
pub fn accessed(file: &File) {
    let inode = file.inode();
    let now = inode.now();
    inode.update_times(|times| (times.atime, times.ctime) = (now, now));
}

/// Longer than the text can be.
const LINE: usize = 128;

/// A line of text on the stack.
struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        to.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

impl FileOps for QueueFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let (size, info) = queue_of(file)?.show();
        let mut line = Line { bytes: [0; LINE], len: 0 };
        writeln!(
            line,
            "QSIZE:{size:<10} NOTIFY:{:<5} SIGNO:{:<5} NOTIFY_PID:{:<6}",
            info.notify, info.signo, info.pid
        )
        .map_err(|_| Errno::EIO)?;
        let text = line.bytes.get(..line.len).unwrap_or_default();
        let rest = usize::try_from(*pos).ok().and_then(|at| text.get(at..)).unwrap_or_default();
        if rest.is_empty() || iter.is_empty() {
            return Ok(0);
        }
        let wanted = rest.len().min(iter.count());
        let count = iter.copy_to_iter(rest.get(..wanted).unwrap_or_default());
        if count == 0 {
            return Err(Errno::EFAULT);
        }
        *pos += count as u64;
        accessed(file);
        Ok(count)
    }

    fn poll(&self, file: &File, table: &mut PollTable<'_>) -> PollEvents {
        let Ok(queue) = queue_of(file) else { return PollEvents::empty() };
        table.wait(queue.poll_queue());
        queue.ready()
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    /// A process that closes a descriptor of the queue hears no more of it.
    fn flush(&self, file: &File) -> Result<()> {
        queue_of(file)?.unregister();
        Ok(())
    }
}
