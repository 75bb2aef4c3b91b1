//! Events as a reader gets them: metadata, then records with file handles, names and a pidfd.

use alloc::sync::Arc;

use abi::fanotify::{EPIDFD, METADATA_VERSION, Metadata, NOFD, info, init, response};
use abi::{Errno, Result, raw};
use mm::IovIter;
use zerocopy::IntoBytes;

use super::event::{FanEvent, What};
use super::group::Fanotify;
use super::host;
use crate::export::Fid;
use crate::fdtable::FdFlags;
use crate::file::File;
use crate::namei::open::open_unheard;
use crate::notify::mask;
use crate::path::Path;

/// Bytes of the record with `fid` and a name.
fn fid_len(fid: &Fid, name: &[u8]) -> usize {
    let name = if name.is_empty() { 0 } else { name.len() + 1 };
    (info::FID_HEADER + fid.bytes() + name).next_multiple_of(info::ALIGN)
}

fn put_fid(iter: &mut IovIter<'_>, record: &FidRecord<'_>) -> Result<()> {
    let FidRecord { kind, fsid, fid, name } = *record;
    let len = fid_len(fid, name);
    iter.write_all(&[kind, 0])?;
    iter.write_all(&(len as u16).to_ne_bytes())?;
    iter.write_all(fsid.as_bytes())?;
    iter.write_all(&(fid.bytes() as u32).to_ne_bytes())?;
    iter.write_all(&fid.kind.to_ne_bytes())?;
    iter.write_all(fid.words().as_bytes())?;
    iter.write_all(name)?;
    let padding = [0; info::ALIGN + 1];
    let done = info::FID_HEADER + fid.bytes() + name.len();
    iter.write_all(padding.get(..len - done).unwrap_or_default())
}

/// One record with a file handle.
struct FidRecord<'a> {
    kind: u8,
    fsid: [i32; 2],
    fid: &'a Fid,
    name: &'a [u8],
}

impl Fanotify {
    /// The records with file handles, in order.
    fn fid_records<'a>(&self, event: &'a FanEvent) -> impl Iterator<Item = FidRecord<'a>> + use<'a> {
        let records = match &event.what {
            What::Overflow | What::Path(_) | What::Permission(_) => [None, None, None],
            What::Object(id) => {
                let on_dir = event.mask & mask::ISDIR != 0;
                let mode = self.flags & init::FID_BITS;
                let (kind, name): (u8, &[u8]) = if mode == init::REPORT_FID {
                    (info::FID, b"")
                } else if mode & init::REPORT_NAME != 0 && on_dir {
                    (info::DFID_NAME, b".")
                } else if event.mask & mask::DIRENT != 0 || on_dir {
                    (info::DFID, b"")
                } else {
                    (info::FID, b"")
                };
                [Some(FidRecord { kind, fsid: id.fsid, fid: &id.fid, name }), None, None]
            }
            What::Names(names) => {
                let fsid = names.fsid;
                let dir_kind = match (event.mask & mask::RENAME != 0, names.name.is_empty()) {
                    (true, _) => info::OLD_DFID_NAME,
                    (false, false) => info::DFID_NAME,
                    (false, true) => info::DFID,
                };
                let dir = names.dir.as_ref().map(|fid| (dir_kind, fid, &*names.name));
                let moved = names.moved.as_ref().map(|(fid, name)| (info::NEW_DFID_NAME, fid, &**name));
                let child = names.child.as_ref().map(|fid| (info::FID, fid, &b""[..]));
                [dir, moved, child].map(|r| r.map(|(kind, fid, name)| FidRecord { kind, fsid, fid, name }))
            }
        };
        records.into_iter().flatten()
    }

    fn reports_pidfd(&self) -> bool {
        self.flags & init::REPORT_PIDFD != 0
    }

    /// Bytes of all records of `event`.
    pub(super) fn event_len(&self, event: &FanEvent) -> usize {
        let fids: usize = self.fid_records(event).map(|r| fid_len(r.fid, r.name)).sum();
        size_of::<Metadata>() + fids + if self.reports_pidfd() { info::PIDFD_LEN } else { 0 }
    }

    /// Hands `event` to the reader. A question that cannot be asked is answered with no.
    ///
    /// # Errors
    /// `EFAULT`, and what opening the file gives.
    pub(super) fn deliver(&self, event: FanEvent, iter: &mut IovIter<'_>) -> Result<()> {
        let result = self.write_event(&event, iter);
        if let (Err(_), What::Permission(question)) = (&result, &event.what) {
            question.answer(response::DENY);
            self.answers.wake_all();
        }
        result
    }

    /// Opens what an event is about, for the reader.
    fn open(&self, path: &Path) -> Result<Arc<File>> {
        open_unheard(&host()?.cred(), path, self.file_flags & !raw::O_CLOEXEC)
    }

    fn write_records(
        &self,
        event: &FanEvent,
        metadata: &Metadata,
        pidfd: i32,
        iter: &mut IovIter<'_>,
    ) -> Result<()> {
        iter.write_all(metadata.as_bytes())?;
        for record in self.fid_records(event) {
            put_fid(iter, &record)?;
        }
        if self.reports_pidfd() {
            iter.write_all(&[info::PIDFD, 0])?;
            iter.write_all(&(info::PIDFD_LEN as u16).to_ne_bytes())?;
            iter.write_all(&pidfd.to_ne_bytes())?;
        }
        Ok(())
    }

    fn write_event(&self, event: &FanEvent, iter: &mut IovIter<'_>) -> Result<()> {
        let host = host()?;
        let (files, limit) = host.files()?;
        let path = match &event.what {
            What::Path(path) => Some(path),
            What::Permission(question) => Some(&question.path),
            _ => None,
        };
        let flags_of = |cloexec| if cloexec { FdFlags::CLOEXEC } else { FdFlags::empty() };
        let cloexec = self.file_flags & raw::O_CLOEXEC != 0;
        let mut file = None;
        if let Some(path) = path {
            let slot = files.reserve(limit, flags_of(cloexec))?;
            file = Some((slot, self.open(path)?));
        }
        let fd = file.as_ref().map_or(NOFD, |(slot, _)| slot.fd().raw());
        let me = host.acting(super::Actor::Process);
        let is_me = |who: &super::Who| me.as_ref().is_some_and(|me| Arc::ptr_eq(me, who));
        let pid = match &event.who {
            // Somebody without privileges recognises itself, and nobody else.
            Some(who) if !self.unprivileged || is_me(who) => host.number(who),
            _ => 0,
        };
        let mut pidfd = None;
        let mut pidfd_number = NOFD;
        if self.reports_pidfd()
            && pid != 0
            && let Some(who) = &event.who
        {
            match host.pidfd(who) {
                Ok(made) => match files.reserve(limit, FdFlags::CLOEXEC) {
                    Ok(slot) => {
                        pidfd_number = slot.fd().raw();
                        pidfd = Some((slot, made));
                    }
                    Err(_) => pidfd_number = EPIDFD,
                },
                Err(Errno::ESRCH) => {}
                Err(_) => pidfd_number = EPIDFD,
            }
        }
        let len = self.event_len(event);
        let metadata = Metadata {
            event_len: len as u32,
            vers: METADATA_VERSION,
            reserved: 0,
            metadata_len: size_of::<Metadata>() as u16,
            mask: u64::from(event.mask),
            fd,
            pid,
        };
        let question = match &event.what {
            What::Permission(question) => Some(question),
            _ => None,
        };
        if let Some(question) = question {
            self.ask(fd, question)?;
        }
        let written = self.write_records(event, &metadata, pidfd_number, iter);
        if written.is_err() && question.is_some() {
            drop(self.asked_with(fd));
        }
        written?;
        if let Some((slot, opened)) = file {
            slot.install(opened);
        }
        if let Some((slot, made)) = pidfd {
            slot.install(made);
        }
        Ok(())
    }
}
