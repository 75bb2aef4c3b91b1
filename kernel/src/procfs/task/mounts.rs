//! `mounts`, `mountinfo`, `mountstats`: `proc_pid_mountinfo(5)`.
//!
//! An open file keeps the mount namespace and the root directory of the process, as they were when it was
//! opened. `poll(2)` reports a change of the namespace's mounts as an exceptional condition, once.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::poll::PollEvents;
use abi::{Errno, Result};
use kernfs::Text;
use mm::IovIter;
use mm::fallible::try_box;
use sched::mutex::Mutex;
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::{FileOps, IoFlags, Whence};
use vfs::mount::{MountNamespace, show};
use vfs::path::Path;
use vfs::poll::PollTable;

use super::Subject;

type ShowMounts = fn(&Arc<MountNamespace>, &Path, &mut dyn fmt::Write) -> fmt::Result;

struct Mounts {
    ns: Arc<MountNamespace>,
    root: Path,
    show: ShowMounts,
    /// The last change that the reader was told of.
    seen: AtomicU64,
    text: Mutex<Option<Vec<u8>>>,
}

impl FileOps for Mounts {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let mut text = self.text.lock();
        if *pos == 0 || text.is_none() {
            let mut fresh = Text::new();
            (self.show)(&self.ns, &self.root, &mut fresh).map_err(|_| Errno::ENOMEM)?;
            *text = Some(fresh.finish()?);
        }
        let rest = usize::try_from(*pos).ok().and_then(|at| text.as_deref()?.get(at..)).unwrap_or_default();
        let wanted = rest.len().min(iter.count());
        let copied = iter.copy_to_iter(rest.get(..wanted).unwrap_or_default());
        if copied == 0 && wanted > 0 {
            return Err(Errno::EFAULT);
        }
        *pos += copied as u64;
        Ok(copied)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        vfs::rw::endless_llseek(file, offset, whence)
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.ns.poll);
        let event = self.ns.event();
        let mut events = PollEvents::IN | PollEvents::RDNORM;
        if self.seen.swap(event, Ordering::AcqRel) != event {
            events |= PollEvents::ERR | PollEvents::PRI;
        }
        events
    }
}

fn open(subject: &Subject, show: ShowMounts) -> Result<FileImpl> {
    let (proxy, fs) = subject.with_thread(|_, thread| (thread.nsproxy(), thread.fs()))?;
    let ns = proxy.ok_or(Errno::EINVAL)?.mnt.clone();
    let root = fs.ok_or(Errno::ENOENT)?.root()?;
    let seen = AtomicU64::new(ns.event());
    Ok(FileImpl::Owned(try_box(Mounts { ns, root, show, seen, text: Mutex::new(None) })?))
}

/// Opens `mounts`.
pub(super) fn open_mounts(subject: &Subject, _: &mut OpenFile<'_>) -> Result<FileImpl> {
    open(subject, show::show_mounts)
}

/// Opens `mountinfo`.
pub(super) fn open_mountinfo(subject: &Subject, _: &mut OpenFile<'_>) -> Result<FileImpl> {
    open(subject, show::show_mountinfo)
}

/// Opens `mountstats`.
pub(super) fn open_mountstats(subject: &Subject, _: &mut OpenFile<'_>) -> Result<FileImpl> {
    open(subject, show::show_mountstats)
}
