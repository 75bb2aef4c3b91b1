//! File events and file handles: who hears of what, in which order, and what ends when.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::sync::{Arc, Mutex, Weak};

use abi::{Errno, Result, raw};
use common::World;
use vfs::export::{self, FidUse};
use vfs::notify::mark::{self, Interest};
use vfs::notify::{Event, Found, Group, Mark, MarkFlags, Object, Priority, mask};
use vfs::{At, Inode, namei};

/// What was heard, by the name of the group: mask and name of the entry.
type Log = Arc<Mutex<Vec<(&'static str, u32, String)>>>;

struct Recorder {
    name: &'static str,
    log: Log,
    answer: Result<()>,
    gone: Mutex<u32>,
}

impl Group for Recorder {
    fn event(&self, event: &Event<'_>, _: &Found<'_>) -> Result<()> {
        let name = String::from_utf8_lossy(event.name.unwrap_or_default()).into_owned();
        self.log.lock().unwrap().push((self.name, event.mask & !mask::ON_CHILD, name));
        self.answer
    }

    fn object_gone(&self, _: &Arc<Mark>) {
        *self.gone.lock().unwrap() += 1;
    }
}

fn recorder(name: &'static str, log: &Log) -> Arc<Recorder> {
    Arc::new(Recorder { name, log: log.clone(), answer: Ok(()), gone: Mutex::new(0) })
}

fn weak(group: &Arc<Recorder>) -> Weak<dyn Group> {
    let group: Arc<dyn Group> = group.clone();
    Arc::downgrade(&group)
}

fn wants(mask: u32) -> Interest {
    Interest { mask, ignore: 0, flags: MarkFlags::empty() }
}

fn inode(w: &World, name: &str) -> Arc<Inode> {
    let path = namei::path_lookup(&w.ctx(), At::Cwd, name.as_bytes(), namei::LookupFlags::empty()).unwrap();
    path.inode().unwrap().clone()
}

fn taken(log: &Log) -> Vec<(&'static str, u32, String)> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn important_groups_hear_first_and_may_refuse() {
    let w = World::new();
    w.write("/f", "x").unwrap();
    let log = Log::default();
    let (late, early) = (recorder("late", &log), recorder("early", &log));
    let file = Object::Inode(inode(&w, "/f"));
    let interest = wants(mask::OPEN | mask::OPEN_PERM);
    let a = mark::attach(&weak(&late), Priority::Normal, &file, interest, 0).unwrap();
    let b = mark::attach(&weak(&early), Priority::PreContent, &file, interest, 0).unwrap();
    assert_eq!(
        mark::attach(&weak(&early), Priority::PreContent, &file, interest, 0).err(),
        Some(Errno::EEXIST)
    );
    w.read("/f").unwrap();
    let order: Vec<_> = taken(&log).into_iter().map(|(who, mask, _)| (who, mask)).collect();
    let expected = [mask::OPEN_PERM, mask::OPEN].map(|mask| [("early", mask), ("late", mask)]).concat();
    assert_eq!(order, expected);
    assert!(mark::detach(&a) && !mark::detach(&a) && mark::detach(&b));
    let no =
        Arc::new(Recorder { name: "no", log: log.clone(), answer: Err(Errno::EPERM), gone: Mutex::new(0) });
    let c = mark::attach(&weak(&no), Priority::Content, &file, interest, 0).unwrap();
    assert_eq!(w.read("/f").unwrap_err(), Errno::EPERM);
    // Refused is not opened: no other event.
    assert_eq!(taken(&log).len(), 1);
    mark::detach(&c);
    w.read("/f").unwrap();
    assert!(taken(&log).is_empty());
}

#[test]
fn directories_hear_of_their_children() {
    let w = World::new();
    w.mkdir("/d").unwrap();
    w.write("/d/f", "x").unwrap();
    let log = Log::default();
    let group = recorder("g", &log);
    let dir = Object::Inode(inode(&w, "/d"));
    let interest = wants(mask::ON_CHILD | mask::MODIFY | mask::CREATE | mask::DELETE | mask::MOVED_FROM);
    let mark = mark::attach(&weak(&group), Priority::Normal, &dir, interest, 0).unwrap();
    w.write("/d/f", "y").unwrap();
    w.mkdir("/d/s").unwrap();
    w.rename("/d/f", "/f", 0).unwrap();
    w.rmdir("/d/s").unwrap();
    let s = |text: &str| text.to_string();
    let heard = taken(&log);
    // Truncated, then written.
    assert_eq!(heard[..2], [("g", mask::MODIFY, s("f")), ("g", mask::MODIFY, s("f"))]);
    let rest = [
        ("g", mask::CREATE | mask::ISDIR, s("s")),
        ("g", mask::MOVED_FROM, s("f")),
        ("g", mask::DELETE | mask::ISDIR, s("s")),
    ];
    assert_eq!(heard[2..], rest);
    mark::detach(&mark);
}

#[test]
fn ignoring_ends_with_a_modification() {
    let w = World::new();
    w.write("/f", "x").unwrap();
    let log = Log::default();
    let group = recorder("g", &log);
    let root = inode(&w, "/");
    let fs = Object::Super(root.sb().clone());
    let all = mark::attach(&weak(&group), Priority::Normal, &fs, wants(mask::OPEN), 0).unwrap();
    let ignore = Interest { mask: 0, ignore: mask::OPEN, flags: MarkFlags::empty() };
    let file = Object::Inode(inode(&w, "/f"));
    let mark = mark::attach(&weak(&group), Priority::Normal, &file, ignore, 0).unwrap();
    w.read("/f").unwrap();
    assert!(taken(&log).is_empty());
    w.write("/f", "y").unwrap();
    w.read("/f").unwrap();
    assert_eq!(taken(&log).len(), 1);
    mark::update(&mark, |now| Interest { ignore: mask::OPEN, flags: MarkFlags::SURV_MODIFY, ..now });
    w.write("/f", "z").unwrap();
    w.read("/f").unwrap();
    assert!(taken(&log).is_empty());
    mark::detach(&mark);
    mark::detach(&all);
}

#[test]
fn watched_files_end() {
    let w = World::new();
    w.write("/f", "content").unwrap();
    let log = Log::default();
    let group = recorder("g", &log);
    let interest = wants(mask::DELETE_SELF | mask::ATTRIB);
    let mark =
        mark::attach(&weak(&group), Priority::Normal, &Object::Inode(inode(&w, "/f")), interest, 0).unwrap();
    let open = w.open("/f", raw::O_RDONLY).unwrap();
    w.unlink("/f").unwrap();
    assert_eq!(taken(&log).iter().map(|heard| heard.1).collect::<Vec<_>>(), [mask::ATTRIB]);
    drop(open);
    assert_eq!(taken(&log).iter().map(|heard| heard.1).collect::<Vec<_>>(), [mask::DELETE_SELF]);
    assert_eq!(*group.gone.lock().unwrap(), 1);
    assert!(!mark::detach(&mark));
    // Readers of the cache may look at it a little longer.
    sched::rcu::barrier();
    assert!(mark.object().is_none());
}

#[test]
fn handles_lead_back() {
    let w = World::new();
    w.mkdir("/d").unwrap();
    w.write("/d/f", "x").unwrap();
    let ctx = w.ctx();
    let find =
        |name: &str| namei::path_lookup(&ctx, At::Cwd, name.as_bytes(), namei::LookupFlags::empty()).unwrap();
    let (root, path) = (find("/"), find("/d/f"));
    export::may_encode(root.mnt.sb(), FidUse::Decode).unwrap();
    let fid = export::encode(path.inode().unwrap(), Some(&path.dentry)).unwrap();
    assert_eq!(fid, export::encode(path.inode().unwrap(), None).unwrap());
    let decode = || export::decode(&ctx, &root, 0, fid.kind, fid.words());
    drop(path);
    // Also when the cache has been emptied.
    vfs::dcache::shrink(usize::MAX);
    assert_eq!(vfs::path::d_path(&decode().unwrap(), None).unwrap(), b"/d/f");
    w.rename("/d/f", "/g", 0).unwrap();
    assert_eq!(vfs::path::d_path(&decode().unwrap(), None).unwrap(), b"/g");
    let open = w.open("/g", raw::O_RDONLY).unwrap();
    w.unlink("/g").unwrap();
    assert!(decode().is_ok());
    drop(open);
    assert_eq!(decode().err(), Some(Errno::ESTALE));
    assert_eq!(export::decode(&ctx, &root, 0, fid.kind, &fid.words()[..2]).err(), Some(Errno::ESTALE));
}
