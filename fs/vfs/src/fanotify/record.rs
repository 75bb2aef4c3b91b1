//! Events as a reader gets them: metadata, then records with file handles, names and a pidfd.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "not converted to mm::fallible yet")]

use alloc::sync::Arc;
use alloc::vec::Vec;

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

fn put_fid(out: &mut Vec<u8>, kind: u8, fsid: [i32; 2], fid: &Fid, name: &[u8]) {
    let len = fid_len(fid, name);
    let end = out.len() + len;
    out.extend([kind, 0]);
    out.extend((len as u16).to_ne_bytes());
    out.extend(fsid.iter().flat_map(|word| word.to_ne_bytes()));
    out.extend((fid.bytes() as u32).to_ne_bytes());
    out.extend(fid.kind.to_ne_bytes());
    out.extend(fid.words().iter().flat_map(|word| word.to_ne_bytes()));
    out.extend(name);
    out.resize(end, 0);
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
    fn fid_records<'a>(&self, event: &'a FanEvent) -> Vec<FidRecord<'a>> {
        let mut records = Vec::new();
        match &event.what {
            What::Overflow | What::Path(_) | What::Permission(_) => {}
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
                records.push(FidRecord { kind, fsid: id.fsid, fid: &id.fid, name });
            }
            What::Names(names) => {
                let fsid = names.fsid;
                if let Some(fid) = &names.dir {
                    let kind = match (event.mask & mask::RENAME != 0, names.name.is_empty()) {
                        (true, _) => info::OLD_DFID_NAME,
                        (false, false) => info::DFID_NAME,
                        (false, true) => info::DFID,
                    };
                    records.push(FidRecord { kind, fsid, fid, name: &names.name });
                }
                if let Some((fid, name)) = &names.moved {
                    records.push(FidRecord { kind: info::NEW_DFID_NAME, fsid, fid, name });
                }
                if let Some(fid) = &names.child {
                    records.push(FidRecord { kind: info::FID, fsid, fid, name: b"" });
                }
            }
        }
        records
    }

    fn reports_pidfd(&self) -> bool {
        self.flags & init::REPORT_PIDFD != 0
    }

    /// Bytes of all records of `event`.
    pub(super) fn event_len(&self, event: &FanEvent) -> usize {
        let fids: usize = self.fid_records(event).iter().map(|r| fid_len(r.fid, r.name)).sum();
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
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        bytes.extend_from_slice(metadata.as_bytes());
        for record in self.fid_records(event) {
            put_fid(&mut bytes, record.kind, record.fsid, record.fid, record.name);
        }
        if self.reports_pidfd() {
            bytes.extend([info::PIDFD, 0]);
            bytes.extend((info::PIDFD_LEN as u16).to_ne_bytes());
            bytes.extend(pidfd_number.to_ne_bytes());
        }
        iter.write_all(&bytes)?;
        if let What::Permission(question) = &event.what
            && !self.ask(fd, question)
        {
            return Err(Errno::ENOMEM);
        }
        if let Some((slot, opened)) = file {
            slot.install(opened);
        }
        if let Some((slot, made)) = pidfd {
            slot.install(made);
        }
        Ok(())
    }
}
