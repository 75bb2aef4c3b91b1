//! A tmpfs under random operations, against a plain tree; and many threads at once.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use abi::{Errno, raw};
use common::World;
use proptest::prelude::*;
use vfs::{At, namei};

#[derive(Clone, Debug, PartialEq)]
enum Node {
    File(Vec<u8>),
    Dir(BTreeMap<String, Node>),
    Link(String),
}

#[derive(Clone, Debug)]
enum Op {
    Write(String, usize, u8, usize),
    Mkdir(String),
    Symlink(String, String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String, u32),
    Truncate(String, usize),
    Punch(String, usize, usize),
    Read(String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), 0..9000usize, any::<u8>(), 0..9000usize).prop_map(|(p, at, b, n)| Op::Write(p, at, b, n)),
        3 => path().prop_map(Op::Mkdir),
        2 => (path(), path()).prop_map(|(t, p)| Op::Symlink(t, p)),
        1 => path().prop_map(Op::Unlink),
        1 => path().prop_map(Op::Rmdir),
        3 => (path(), path(), prop_oneof![Just(0), Just(1), Just(2)]).prop_map(|(a, b, f)| Op::Rename(a, b, f)),
        1 => (path(), 0..20_000usize).prop_map(|(p, n)| Op::Truncate(p, n)),
        1 => (path(), 0..9000usize, 1..9000usize).prop_map(|(p, a, n)| Op::Punch(p, a, n)),
        2 => path().prop_map(Op::Read),
    ]
}

struct Model {
    root: Node,
}

type Parts = Vec<String>;

impl Model {
    fn at(&self, parts: &[String]) -> Option<&Node> {
        parts.iter().try_fold(&self.root, |node, part| match node {
            Node::Dir(map) => map.get(part),
            _ => None,
        })
    }

    fn dir_mut(&mut self, parts: &[String]) -> Option<&mut BTreeMap<String, Node>> {
        let node = parts.iter().try_fold(&mut self.root, |node, part| match node {
            Node::Dir(map) => map.get_mut(part),
            _ => None,
        })?;
        match node {
            Node::Dir(map) => Some(map),
            _ => None,
        }
    }

    /// Where `path` leads: real directory and last name.
    fn parent(&self, path: &str, budget: &mut u32) -> Result<(Parts, String), Errno> {
        let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let last = parts.pop().unwrap().to_string();
        let dir = self.walk(vec![], &parts, budget)?;
        match self.at(&dir) {
            Some(Node::Dir(_)) => Ok((dir, last)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn walk(&self, mut at: Parts, parts: &[&str], budget: &mut u32) -> Result<Parts, Errno> {
        for part in parts {
            match self.at(&at) {
                Some(Node::Dir(_)) => {}
                _ => return Err(Errno::ENOTDIR),
            }
            at.push((*part).to_string());
            match self.at(&at) {
                None => return Err(Errno::ENOENT),
                Some(Node::Link(target)) => {
                    *budget = budget.checked_sub(1).ok_or(Errno::ELOOP)?;
                    let target = target.clone();
                    let rest: Vec<&str> = target.split('/').filter(|p| !p.is_empty()).collect();
                    at = self.walk(vec![], &rest, budget)?;
                }
                Some(_) => {}
            }
        }
        Ok(at)
    }

    fn resolve(&self, path: &str) -> Result<Parts, Errno> {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        self.walk(vec![], &parts, &mut 40)
    }

    /// Where a file is made or found, through links at the end.
    fn create_at(&self, path: &str, budget: &mut u32) -> Result<(Parts, String), Errno> {
        let (dir, last) = self.parent(path, budget)?;
        let mut full = dir.clone();
        full.push(last.clone());
        match self.at(&full) {
            Some(Node::Link(target)) => {
                *budget = budget.checked_sub(1).ok_or(Errno::ELOOP)?;
                self.create_at(&target.clone(), budget)
            }
            _ => Ok((dir, last)),
        }
    }

    fn write(&mut self, path: &str, at: usize, byte: u8, len: usize) -> Result<(), Errno> {
        let (dir, last) = self.create_at(path, &mut 40)?;
        let map = self.dir_mut(&dir).unwrap();
        match map.entry(last).or_insert_with(|| Node::File(vec![])) {
            Node::File(bytes) => {
                if len > 0 {
                    if bytes.len() < at + len {
                        bytes.resize(at + len, 0);
                    }
                    bytes[at..at + len].fill(byte);
                }
                Ok(())
            }
            _ => Err(Errno::EISDIR),
        }
    }

    fn file(&mut self, path: &str) -> Result<&mut Vec<u8>, Errno> {
        let mut at = self.resolve(path)?;
        let last = at.pop().unwrap();
        match self.dir_mut(&at).unwrap().get_mut(&last) {
            Some(Node::File(bytes)) => Ok(bytes),
            _ => Err(Errno::EISDIR),
        }
    }

    fn make(&mut self, path: &str, node: Node) -> Result<(), Errno> {
        let (dir, last) = self.parent(path, &mut 40)?;
        let map = self.dir_mut(&dir).unwrap();
        if map.contains_key(&last) {
            return Err(Errno::EEXIST);
        }
        map.insert(last, node);
        Ok(())
    }

    fn remove(&mut self, path: &str, want_dir: bool) -> Result<(), Errno> {
        let (dir, last) = self.parent(path, &mut 40)?;
        let map = self.dir_mut(&dir).unwrap();
        match (map.get(&last), want_dir) {
            (None, _) => Err(Errno::ENOENT),
            (Some(Node::Dir(_)), false) => Err(Errno::EISDIR),
            (Some(Node::Dir(inner)), true) if !inner.is_empty() => Err(Errno::ENOTEMPTY),
            (Some(Node::File(_) | Node::Link(_)), true) => Err(Errno::ENOTDIR),
            _ => {
                map.remove(&last);
                Ok(())
            }
        }
    }

    fn rename(&mut self, old: &str, new: &str, flags: u32) -> Result<(), Errno> {
        let (from_dir, from) = self.parent(old, &mut 40)?;
        let (to_dir, to) = self.parent(new, &mut 40)?;
        let full = |dir: &Parts, name: &String| [dir.clone(), vec![name.clone()]].concat();
        let (a, b) = (full(&from_dir, &from), full(&to_dir, &to));
        let source = self.at(&a).cloned().ok_or(Errno::ENOENT)?;
        let target = self.at(&b).cloned();
        if flags == raw::RENAME_NOREPLACE && target.is_some() {
            return Err(Errno::EEXIST);
        }
        if flags == raw::RENAME_EXCHANGE && target.is_none() {
            return Err(Errno::ENOENT);
        }
        if to_dir.starts_with(&a) {
            return Err(Errno::EINVAL);
        }
        if from_dir.starts_with(&b) {
            return Err(if flags == raw::RENAME_EXCHANGE { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if a == b {
            return Ok(());
        }
        if flags == raw::RENAME_EXCHANGE {
            self.dir_mut(&from_dir).unwrap().insert(from, target.unwrap());
            self.dir_mut(&to_dir).unwrap().insert(to, source);
            return Ok(());
        }
        match (&source, &target) {
            (Node::Dir(_), Some(Node::Dir(inner))) if !inner.is_empty() => return Err(Errno::ENOTEMPTY),
            (Node::Dir(_), Some(Node::File(_) | Node::Link(_))) => return Err(Errno::ENOTDIR),
            (Node::File(_) | Node::Link(_), Some(Node::Dir(_))) => return Err(Errno::EISDIR),
            _ => {}
        }
        self.dir_mut(&from_dir).unwrap().remove(&from);
        self.dir_mut(&to_dir).unwrap().insert(to, source);
        Ok(())
    }
}

fn bytes_of(w: &World, path: &str) -> Result<Vec<u8>, Errno> {
    let file = w.open(path, 0)?;
    if file.inode().is_dir() {
        return Err(Errno::EISDIR);
    }
    let mut bytes = vec![0; 40_000];
    let n = vfs::rw::kernel_read(&file, &mut bytes, 0)?;
    bytes.truncate(n);
    Ok(bytes)
}

fn snapshot(w: &World, path: &str) -> Node {
    match w.lstat(path).unwrap().mode & raw::S_IFMT {
        raw::S_IFDIR => {
            let mut map = BTreeMap::new();
            for name in w.list(path) {
                let node = snapshot(w, &format!("{}/{name}", path.trim_end_matches('/')));
                map.insert(name, node);
            }
            Node::Dir(map)
        }
        raw::S_IFLNK => {
            let text = namei::readlink(&w.ctx(), At::Cwd, path.as_bytes()).unwrap();
            Node::Link(String::from_utf8(text).unwrap())
        }
        _ => Node::File(bytes_of(w, path).unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn tmpfs_is_a_tree(ops in prop::collection::vec(op(), 1..120)) {
        let w = World::new();
        let mut model = Model { root: Node::Dir(BTreeMap::new()) };
        for op in &ops {
            match op {
                Op::Write(path, at, byte, len) => {
                    let got = w.open(path, raw::O_CREAT | raw::O_WRONLY).and_then(|file| {
                        vfs::rw::kernel_write(&file, &vec![*byte; *len], &mut (*at as u64))
                    });
                    prop_assert_eq!(got, model.write(path, *at, *byte, *len), "{:?}", op);
                }
                Op::Mkdir(path) => {
                    prop_assert_eq!(w.mkdir(path), model.make(path, Node::Dir(BTreeMap::new())), "{:?}", op);
                }
                Op::Symlink(target, path) => {
                    prop_assert_eq!(w.symlink(target, path), model.make(path, Node::Link(target.clone())), "{:?}", op);
                }
                Op::Unlink(path) => prop_assert_eq!(w.unlink(path), model.remove(path, false), "{:?}", op),
                Op::Rmdir(path) => prop_assert_eq!(w.rmdir(path), model.remove(path, true), "{:?}", op),
                Op::Rename(a, b, flags) => {
                    prop_assert_eq!(w.rename(a, b, *flags), model.rename(a, b, *flags), "{:?}", op);
                }
                Op::Truncate(path, len) => {
                    let got = vfs::attr::truncate(&w.ctx(), path.as_bytes(), *len as i64);
                    prop_assert_eq!(got, model.file(path).map(|bytes| bytes.resize(*len, 0)), "{:?}", op);
                }
                Op::Punch(path, at, len) => {
                    let mode = raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE;
                    let got = w.open(path, raw::O_WRONLY)
                        .and_then(|file| vfs::rw::fallocate(&file, mode, *at as i64, *len as i64));
                    let want = model.file(path).map(|bytes| {
                        let end = bytes.len().min(at + len);
                        if let Some(hole) = bytes.get_mut(*at..end) { hole.fill(0); }
                    });
                    prop_assert_eq!(got, want, "{:?}", op);
                }
                Op::Read(path) => prop_assert_eq!(bytes_of(&w, path), model.file(path).cloned(), "{:?}", op),
            }
        }
        prop_assert_eq!(snapshot(&w, "/"), model.root);
    }
}

#[test]
fn threads_walk_while_others_rename() {
    let w = Arc::new(World::new());
    for d in ["/x", "/y", "/x/in"] {
        w.mkdir(d).unwrap();
    }
    w.write("/x/in/f", "stable").unwrap();
    w.symlink("/x/in", "/link").unwrap();
    let mut threads = Vec::new();
    for id in 0..2 {
        let w = w.clone();
        threads.push(thread::spawn(move || {
            for i in 0..1500 {
                let name = format!("/y/t{id}");
                w.write(&name, "1").unwrap();
                w.rename(&name, &format!("/x/m{id}"), 0).unwrap();
                assert!(w.stat(&format!("/y/none{id}{}", i % 7)).is_err());
                w.unlink(&format!("/x/m{id}")).unwrap();
                assert_eq!(w.stat(&format!("/x/m{id}")).unwrap_err(), Errno::ENOENT);
            }
        }));
    }
    let done = Arc::new(AtomicBool::new(false));
    let (mover, finished) = (w.clone(), done.clone());
    threads.push(thread::spawn(move || {
        for _ in 0..800 {
            mover.rename("/x/in", "/y/in", 0).unwrap();
            mover.rename("/y/in", "/x/in", 0).unwrap();
        }
        finished.store(true, Ordering::Release);
    }));
    for _ in 0..2 {
        let (w, done) = (w.clone(), done.clone());
        threads.push(thread::spawn(move || {
            while !done.load(Ordering::Acquire) {
                match w.read("/link/f") {
                    Ok(text) => assert_eq!(text, "stable"),
                    Err(error) => assert_eq!(error, Errno::ENOENT),
                }
            }
            // Nobody moves it any more: it must be found.
            assert_eq!(w.read("/link/f").unwrap(), "stable");
        }));
    }
    for t in threads {
        t.join().unwrap();
    }
    assert_eq!(w.list("/x"), ["in"]);
    assert_eq!(w.read("/link/f").unwrap(), "stable");
}

#[test]
fn cache_shrinks_and_names_stay_right() {
    let w = World::new();
    w.mkdir("/d").unwrap();
    for i in 0..500 {
        w.write(&format!("/d/{i}"), "").unwrap();
        assert!(w.stat(&format!("/d/none{i}")).is_err());
    }
    let held = w.open("/d/7", 0).unwrap();
    // The first round only takes back the mark of recent use. Other tests share the cache and its
    // clock, so a bucket may be theirs in one round.
    for _ in 0..4 {
        vfs::dcache::shrink(usize::MAX);
    }
    let dir = held.path().dentry.parent().unwrap();
    let left = (0..500).filter(|i| vfs::dcache::lookup(&dir, i.to_string().as_bytes()).is_some()).count();
    assert!(left < 100, "{left}");
    assert!(vfs::dcache::lookup(&dir, b"7").is_some());
    drop(dir);
    assert_eq!(vfs::path::d_path(held.path(), None).unwrap(), b"/d/7");
    for i in 0..500 {
        assert!(w.stat(&format!("/d/{i}")).is_ok());
        assert!(w.stat(&format!("/d/none{i}")).is_err());
    }
}

#[test]
fn listings_stay_stable() {
    let w = World::new();
    for i in 0..100 {
        w.write(&format!("/f{i:03}"), "").unwrap();
    }
    let dir = w.open("/", raw::O_DIRECTORY).unwrap();
    let mut seen = Vec::new();
    let mut round = 0;
    loop {
        let mut buffer = [0; 300];
        let n =
            vfs::dir::getdents(&dir, &mut mm::IovIter::dest(&mut buffer), vfs::dir::Layout::TypeBeforeName)
                .unwrap();
        if n == 0 {
            break;
        }
        let mut at = 0;
        while at < n {
            let len = usize::from(u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]));
            let name: Vec<u8> = buffer[at + 19..at + len].iter().copied().take_while(|b| *b != 0).collect();
            seen.push(String::from_utf8(name).unwrap());
            at += len;
        }
        // Entries come and go meanwhile.
        w.write(&format!("/new{round}"), "").unwrap();
        w.unlink(&format!("/new{round}")).unwrap();
        w.unlink(&format!("/f{round:03}")).ok();
        round += 1;
    }
    let files: Vec<_> = seen.iter().filter(|n| n.starts_with('f')).collect();
    assert_eq!(files.len(), 100);
    assert!(files.is_sorted());
    assert_eq!(
        vfs::dir::getdents(
            &w.open("/", 0).unwrap(),
            &mut mm::IovIter::dest(&mut [0; 10]),
            vfs::dir::Layout::TypeBeforeName
        ),
        Err(Errno::EINVAL)
    );
}
