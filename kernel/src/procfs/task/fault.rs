//! `make-it-fail` and `fail-nth`: which allocations of a thread shall fail. `Documentation/fault-injection/fault-injection.rst`.

use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

use abi::cap::Cap;
use abi::{Errno, Result};
use kernfs::Text;
use mm::fallible::try_box;
use mm::{IovIter, inject};
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::{FileOps, IoFlags, Whence};

use super::{Subject, View};
use crate::debugfs::fault::parse;

/// `make-it-fail`.
pub(super) fn make_it_fail(view: &View<'_>, out: &mut Text) -> Result<()> {
    let on = view.with_thread(|task, _| task.faults().make_it_fail.load(Relaxed))?;
    writeln!(out, "{}", u8::from(on)).map_err(|_| Errno::ENOMEM)
}

/// Sets `make-it-fail`.
pub(super) fn make_it_fail_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    if !view.cred.capable(Cap::SysResource) {
        return Err(Errno::EPERM);
    }
    let on = match parse(data)? {
        0 => false,
        1 => true,
        _ => return Err(Errno::EINVAL),
    };
    view.with_thread(|task, _| task.faults().make_it_fail.store(on, Relaxed))
}

/// `fail-nth`. Not a file of text: reading it back must not itself allocate, and so count.
struct FailNth(Subject);

/// Opens `fail-nth`.
pub(super) fn open_fail_nth(subject: &Subject, _: &mut OpenFile<'_>) -> Result<FileImpl> {
    Ok(FileImpl::Owned(try_box(FailNth(subject.clone()))?))
}

impl FileOps for FailNth {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let mut left = self.0.with_thread(|task, _| task.faults().fail_nth.load(Relaxed))?;
        let mut text = [b'\n'; 11];
        let mut at = 10;
        loop {
            at -= 1;
            if let Some(digit) = text.get_mut(at) {
                *digit = b'0' + (left % 10) as u8;
            }
            left /= 10;
            if left == 0 {
                break;
            }
        }
        let text = text.get(at..).unwrap_or_default();
        let rest = usize::try_from(*pos).ok().and_then(|pos| text.get(pos..)).unwrap_or_default();
        let copied = iter.copy_to_iter(rest.get(..iter.count().min(rest.len())).unwrap_or_default());
        *pos += copied as u64;
        Ok(copied)
    }

    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        let mut text = [0; 16];
        let size = iter.count();
        let text = text.get_mut(..size).ok_or(Errno::EINVAL)?;
        iter.read_exact(text)?;
        let nth: u32 = parse(text)?;
        inject::enable();
        self.0.with_thread(|task, _| task.faults().fail_nth.store(nth, Relaxed))?;
        Ok(size)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        let target = match whence {
            Whence::Set => Some(offset),
            Whence::Cur => (file.pos() as i64).checked_add(offset),
            _ => None,
        };
        let target = target.and_then(|at| u64::try_from(at).ok()).ok_or(Errno::EINVAL)?;
        file.set_pos(target);
        Ok(target)
    }
}
