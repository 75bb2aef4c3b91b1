//! `cwd`, `root`, `exe`, `map_files/`: links that lead to objects, whatever their names are by now.

use alloc::sync::Arc;
use core::ops::Range;

use abi::cap::Cap;
use abi::{Errno, Result};
use kernfs::{Context, Dir, Entry, Link, Listing, Node};
use vfs::file::File;
use vfs::inode_ops::LinkTarget;
use vfs::path::Path;
use vfs::types::FileType;

use super::access::{self, Mode};
use super::{Class, Subject};
use mm::fallible::{try_arc, try_format};

/// `cwd`.
pub(super) fn cwd(subject: &Subject) -> Result<Path> {
    subject.with_thread(|_, thread| thread.fs())?.ok_or(Errno::ENOENT)?.cwd()
}

/// `root`.
pub(super) fn root(subject: &Subject) -> Result<Path> {
    subject.with_thread(|_, thread| thread.fs())?.ok_or(Errno::ENOENT)?.root()
}

/// `exe`: the program, or `ENOENT` for a kernel thread.
pub(super) fn exe(subject: &Subject) -> Result<Path> {
    // A zombie has no memory and so no program either.
    subject.with_thread(|_, thread| thread.mm())?.ok_or(Errno::ENOENT)?;
    let exe = subject.process()?.exe.lock().clone().ok_or(Errno::ENOENT)?;
    Ok(exe.file().path().clone())
}

struct MapFiles(Subject);

/// The link for one mapped file. It names the place, not the file: what is mapped there may change.
struct MapLink {
    subject: Subject,
    range: Range<usize>,
}

impl Link for MapLink {
    fn target(&self, _: &Context<'_>) -> Result<LinkTarget> {
        let file = MapFiles(self.subject.clone()).file_at(&self.range)?.ok_or(Errno::ENOENT)?;
        Ok(LinkTarget::Jump(file.path().clone()))
    }

    /// They lead past the permissions of the directories on the way.
    fn may_follow(&self, cx: &Context<'_>) -> Result<()> {
        let may = cx.cred.capable(Cap::SysAdmin) || cx.cred.capable(Cap::CheckpointRestore);
        if may { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn is_magic(&self) -> bool {
        true
    }
}

/// The two addresses of a name.
fn parse(name: &[u8]) -> Option<(usize, usize)> {
    let text = core::str::from_utf8(name).ok()?;
    let (start, end) = text.split_once('-')?;
    let number = |text: &str| {
        let plain = !text.is_empty() && (text.len() == 1 || !text.starts_with('0')) && !text.starts_with('+');
        plain.then(|| usize::from_str_radix(text, 16).ok()).flatten()
    };
    Some((number(start)?, number(end)?))
}

impl MapFiles {
    fn space(&self) -> Result<Option<Arc<mm::AddressSpace>>> {
        self.0.with_thread(|_, thread| access::check(thread, Mode::Read).map(|()| thread.mm()))?
    }

    /// The file that exactly this range maps.
    fn file_at(&self, range: &Range<usize>) -> Result<Option<Arc<File>>> {
        let Some(space) = self.space()? else { return Ok(None) };
        let mut file = None;
        space.for_each_area(range.start, &mut |area| {
            if area.range() == *range {
                file = area.file();
            }
            false
        });
        Ok(file.and_then(|file| file.as_any().downcast::<File>().ok()))
    }
}

impl Dir for MapFiles {
    fn lookup(&self, _: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        let Some((start, end)) = parse(name) else { return Ok(None) };
        let range = start..end;
        if self.file_at(&range)?.is_none() {
            return Ok(None);
        }
        let ino = self.0.ino(Class::MapFiles, (start as u64) >> 12);
        let (uid, gid) = self.0.owner(false);
        let link = MapLink { subject: self.0.clone(), range };
        Ok(Some(Entry::new(Node::Link(try_arc(link)?), ino, 0o700).owned_by(uid, gid)))
    }

    fn list(&self, _: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        let Some(space) = self.space()? else { return Ok(()) };
        let mut at = from as usize;
        loop {
            let mut found = None;
            space.for_each_area(at, &mut |area| {
                found = Some((area.range(), area.is_file()));
                // On to the next one with a file.
                !area.is_file()
            });
            let Some((range, true)) = found else { return Ok(()) };
            at = range.end;
            let name = try_format(format_args!("{:x}-{:x}", range.start, range.end))?;
            let ino = self.0.ino(Class::MapFiles, (range.start as u64) >> 12);
            if !emit(name.as_bytes(), ino, FileType::Symlink, range.end as u64) {
                return Ok(());
            }
        }
    }

    fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn follows_owner(&self) -> bool {
        true
    }
}

/// `map_files/`.
pub(super) fn map_files(subject: &Subject) -> Result<Arc<dyn Dir>> {
    Ok(try_arc(MapFiles(subject.clone()))?)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_are_two_plain_addresses() {
        assert_eq!(parse(b"400000-401000"), Some((0x40_0000, 0x40_1000)));
        for name in [&b"400000"[..], b"0400000-401000", b"x-1", b"-1", b"1-+2"] {
            assert_eq!(parse(name), None);
        }
    }
}
