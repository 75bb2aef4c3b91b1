//! `fd/`: a link per descriptor; `fdinfo/`: what is known of each. `proc_pid_fd(5)`.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result, raw};
use kernfs::{Context, Dir, Entry, Link, Listing, Node, Text, file_entry};
use vfs::fdtable::{Fd, FdFlags, FdTable};
use vfs::file::{File, FileMode};
use vfs::inode_ops::LinkTarget;
use vfs::types::FileType;

use super::access::{self, Mode};
use super::{Class, Subject, View};
use mm::fallible::{try_arc, try_format};

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Links,
    Info,
}

struct FdDir {
    subject: Subject,
    what: What,
}

fn table(subject: &Subject) -> Result<Arc<FdTable>> {
    subject
        .with_thread(|_, thread| access::check(thread, Mode::Read).map(|()| thread.files()))??
        .ok_or(Errno::ENOENT)
}

fn parse(name: &[u8]) -> Option<Fd> {
    if name == b"0" {
        return Some(Fd(0));
    }
    crate::procfs::root::parse_number(name).and_then(|number| u32::try_from(number).ok()).map(Fd)
}

/// The link of a descriptor. It names the descriptor, not the file: what is behind it may change.
struct FdLink {
    subject: Subject,
    fd: Fd,
}

impl Link for FdLink {
    fn target(&self, _: &Context<'_>) -> Result<LinkTarget> {
        let file = table(&self.subject)?.get_raw(self.fd).map_err(|_| Errno::ENOENT)?;
        Ok(LinkTarget::Jump(file.path().clone()))
    }

    fn is_magic(&self) -> bool {
        true
    }
}

/// Owner's permissions show what the descriptor allows.
fn link_mode(file: &File) -> u32 {
    let mut mode = 0o100;
    if file.mode().contains(FileMode::READ) {
        mode |= 0o400;
    }
    if file.mode().contains(FileMode::WRITE) {
        mode |= 0o200;
    }
    mode
}

impl FdDir {
    fn class(&self) -> Class {
        match self.what {
            What::Links => Class::Fd,
            What::Info => Class::FdInfo,
        }
    }

    fn entry(&self, fd: Fd, file: &File) -> Result<Entry> {
        let subject = self.subject.clone();
        // Whether the descriptor is open for something else now is part of the identity of a link: a new
        // inode then has the new permissions.
        let mode = link_mode(file);
        let ino = self.subject.ino(self.class(), u64::from(fd.0) << 3 | u64::from(mode >> 7));
        let (uid, gid) = self.subject.owner(false);
        let entry = match self.what {
            What::Links => Entry::new(Node::Link(try_arc(FdLink { subject, fd })?), ino, mode).sized(64),
            What::Info => {
                file_entry(ino, 0o444, move |cx, out| show_info(&View::new(&subject, cx), fd, out))?
            }
        };
        Ok(entry.owned_by(uid, gid))
    }
}

impl Dir for FdDir {
    fn lookup(&self, _: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        let Some(fd) = parse(name) else { return Ok(None) };
        let Ok(file) = table(&self.subject)?.get_raw(fd) else { return Ok(None) };
        self.entry(fd, &file).map(Some)
    }

    fn list(&self, _: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        let Ok(table) = table(&self.subject) else { return Err(Errno::EACCES) };
        let kind = if self.what == What::Links { FileType::Symlink } else { FileType::Regular };
        let Ok(mut at) = u32::try_from(from) else { return Ok(()) };
        while let Some((fd, file)) = table.next_open(at) {
            let ino = self.subject.ino(self.class(), u64::from(fd.0) << 3 | u64::from(link_mode(&file) >> 7));
            drop(file);
            if !emit(try_format(format_args!("{}", fd.0))?.as_bytes(), ino, kind, u64::from(fd.0) + 1) {
                break;
            }
            at = fd.0 + 1;
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        self.subject.is_alive()
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn follows_owner(&self) -> bool {
        true
    }
}

fn show_info(view: &View<'_>, fd: Fd, out: &mut Text) -> Result<()> {
    let table = table(view.subject)?;
    let file = table.get_raw(fd).map_err(|_| Errno::ENOENT)?;
    let cloexec = table.flags(fd).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC));
    let flags = file.flags() | if cloexec { raw::O_CLOEXEC } else { 0 };
    let (pos, mnt, ino) = (file.pos(), file.path().mnt.id(), file.inode().ino());
    write!(out, "pos:\t{pos}\nflags:\t0{flags:o}\nmnt_id:\t{mnt}\nino:\t{ino}\n")
        .map_err(|_| Errno::ENOMEM)?;
    crate::procfs::locks::fdinfo(&file, table.posix_owner(), &view.ns, out)?;
    file.ops().show_fdinfo(&file, out).map_err(|_| Errno::ENOMEM)
}

/// How many descriptors are open: the size of `fd/`.
pub(super) fn count(subject: &Subject) -> u64 {
    subject.with_thread(|_, thread| thread.files().map_or(0, |files| files.count())).unwrap_or(0) as u64
}

/// `fd/`.
pub(super) fn dir(subject: &Subject) -> Result<Arc<dyn Dir>> {
    Ok(try_arc(FdDir { subject: subject.clone(), what: What::Links })?)
}

/// `fdinfo/`.
pub(super) fn info_dir(subject: &Subject) -> Result<Arc<dyn Dir>> {
    Ok(try_arc(FdDir { subject: subject.clone(), what: What::Info })?)
}
