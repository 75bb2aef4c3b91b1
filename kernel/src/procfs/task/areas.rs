//! Files with an entry per area of an address space (`maps`, `smaps`): made as far as they are read, since there may be tens of
//! thousands of areas and many readers want the first few.
//!
//! An entry is consistent, made with the areas locked; between entries the lock is given up, and the next one is the first area that ends
//! behind the last one shown. A read ends before an entry that it has no room for, as on Linux, unless it is the first. A reader that goes
//! to another place than where it stopped starts over from the beginning.

use alloc::vec::Vec;
use core::fmt;

use abi::{Errno, Result};
use kernfs::Text;
use mm::fallible::try_box;
use mm::query::AreaInfo;
use mm::{AddressSpace, IovIter};
use sched::mutex::Mutex;
use vfs::file::{File, FileImpl};
use vfs::file_ops::{FileOps, IoFlags, Whence};

use super::Subject;
use super::access::Mode;
use super::memory::{Opened, checked_space};

/// Writes the entry of an area.
pub(super) type Entry = fn(&mut Text, &AreaInfo<'_>) -> fmt::Result;

/// Where a reader is.
#[derive(Default)]
struct Place {
    /// Position in the file of the first byte of `entry` that was not read.
    pos: u64,
    /// The entry that is being read, and how much of it was.
    entry: Vec<u8>,
    read: usize,
    /// Where the areas begin that were not shown.
    from: usize,
}

impl Place {
    /// What is left of the entry.
    fn left(&self) -> &[u8] {
        self.entry.get(self.read..).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        self.read += bytes;
        self.pos += bytes as u64;
    }

    /// Makes the next entry; false if there is none.
    fn make_next(&mut self, space: &AddressSpace, entry: Entry) -> Result<bool> {
        let mut text = Text::new();
        let mut made = None;
        let mut result = Ok(());
        space.for_each_area(self.from, &mut |area| {
            result = entry(&mut text, area);
            made = Some(area.range().end);
            false
        });
        result.map_err(|_| Errno::ENOMEM)?;
        let Some(end) = made else { return Ok(false) };
        self.entry = text.finish()?;
        self.read = 0;
        self.from = end;
        Ok(true)
    }
}

/// An open file.
struct Areas {
    memory: Opened,
    entry: Entry,
    place: Mutex<Place>,
}

impl FileOps for Areas {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let Some(space) = self.memory.space() else { return Ok(0) };
        let mut place = self.place.lock();
        if place.pos != *pos {
            *place = Place::default();
        }
        let mut done = 0;
        while !iter.is_empty() {
            if place.left().is_empty() {
                sched::cond_resched();
                if sched::current().has_fatal_signal() || !place.make_next(space, self.entry)? {
                    break;
                }
            }
            if place.pos < *pos {
                let skipped = (place.left().len() as u64).min(*pos - place.pos);
                place.advance(skipped as usize);
                continue;
            }
            if done > 0 && place.left().len() > iter.count() {
                break;
            }
            let wanted = place.left().len().min(iter.count());
            let copied = iter.copy_to_iter(place.left().get(..wanted).unwrap_or_default());
            place.advance(copied);
            *pos += copied as u64;
            done += copied;
            if copied < wanted {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(done)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        vfs::rw::endless_llseek(file, offset, whence)
    }
}

/// Opens such a file.
///
/// # Errors
/// `EACCES` if the caller may not look at the process, `ESRCH`, `ENOMEM`.
pub(super) fn open(subject: &Subject, entry: Entry) -> Result<FileImpl> {
    let memory = Opened(checked_space(subject, Mode::Read)?);
    Ok(FileImpl::Owned(try_box(Areas { memory, entry, place: Mutex::new(Place::default()) })?))
}
