//! Names against a model.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::*;
use crate::dir_write::Dir;
use crate::extent_write::Kind;
use crate::extent_write::map::Create;
use crate::ops::rename::Name;
use crate::raw::{RawInode, mode};
use crate::space::Reserve;
use crate::space::inodes::NewInode;
use crate::xattr_write::block::Must;

#[derive(Clone, Debug, PartialEq)]
pub enum Thing {
    Dir(BTreeMap<Vec<u8>, u32>),
    File { blocks: u32 },
    Link(Vec<u8>),
    Device,
}

pub struct Model {
    things: HashMap<u32, Thing>,
    dirs: Vec<u32>,
    attributes: HashMap<(u32, Vec<u8>), Vec<u8>>,
    /// Without a name, but still in use.
    open: Vec<u32>,
    names: u32,
}

const NOW: (i64, u32) = (1_700_000_000, 123_456_789);

fn new(kind: u16, random: &mut Random) -> NewInode {
    NewInode {
        mode: kind | 0o644,
        uid: 70_000,
        gid: 80_000,
        links: 1,
        random: random.next() as u32,
        now: NOW,
    }
}

impl Model {
    pub fn new() -> Self {
        Self {
            things: HashMap::from([(2, Thing::Dir(BTreeMap::new()))]),
            dirs: vec![2],
            attributes: HashMap::new(),
            open: Vec::new(),
            names: 0,
        }
    }

    fn name(&mut self, random: &mut Random) -> Vec<u8> {
        self.names += 1;
        let mut name = format!("n{}", self.names).into_bytes();
        let long = [0, 5, 30, 240][random.below(4) as usize];
        let length = name.len() + random.below(long + 1) as usize;
        name.resize(length.min(255), b'x');
        name
    }

    fn dir(&self, random: &mut Random) -> u32 {
        // Mostly the first ones, so that some are large.
        let most = if random.below(2) == 0 { 3.min(self.dirs.len()) } else { self.dirs.len() };
        self.dirs[random.below(most as u64) as usize]
    }

    fn entries(&mut self, dir: u32) -> &mut BTreeMap<Vec<u8>, u32> {
        match self.things.get_mut(&dir) {
            Some(Thing::Dir(entries)) => entries,
            _ => panic!("{dir} is no directory"),
        }
    }

    fn some(&mut self, dir: u32, random: &mut Random) -> Option<(Vec<u8>, u32)> {
        let entries = self.entries(dir);
        if entries.is_empty() {
            return None;
        }
        let at = random.below(entries.len() as u64) as usize;
        entries.iter().nth(at).map(|(name, ino)| (name.clone(), *ino))
    }

    fn is_dir(&self, ino: u32) -> bool {
        matches!(self.things[&ino], Thing::Dir(_))
    }

    fn named(&self, ino: u32) -> bool {
        self.things.values().any(|thing| match thing {
            Thing::Dir(entries) => entries.values().any(|other| *other == ino),
            _ => false,
        })
    }

    /// Whether `dir` is `above` or below it.
    fn is_below(&self, dir: u32, above: u32) -> bool {
        dir == above
            || match &self.things[&above] {
                Thing::Dir(entries) => {
                    entries.values().any(|ino| self.is_dir(*ino) && self.is_below(dir, *ino))
                }
                _ => false,
            }
    }
}

fn open(world: &World, ino: u32) -> RawInode {
    RawInode::open(&world.volume, ino).unwrap()
}

fn put(world: &World, node: &RawInode, from: u32, to: u32) -> Result<(), Errno> {
    let volume = &world.volume;
    let how = Create { unwritten: true, reserve: Reserve::Root, promised: false };
    let mut at = from;
    while at < to {
        let found = volume.map_for_write(node, at, to - at, &how)?;
        // With a journal the data is not looked at: it would have to go past the journal's buffers.
        let data = if volume.journal.is_some() { 0 } else { u64::from(found.len) };
        for block in found.start..found.start + data {
            let buffer = volume.cache.get(block).unwrap();
            buffer.create(|bytes| bytes.fill(node.ino as u8)).unwrap();
            buffer.mark_dirty();
        }
        let end = u64::from(at + found.len) << volume.layout.block_bits;
        if found.kind == Kind::Unwritten {
            volume.written(node, at..at + found.len, Some(end))?;
        } else {
            volume.written(node, at..at, Some(end))?;
        }
        at += found.len;
    }
    Ok(())
}

/// One random operation. `Err`: the disk is full, which changed nothing.
pub fn step(world: &World, model: &mut Model, random: &mut Random) -> Result<(), Errno> {
    let volume = &world.volume;
    let dir_ino = model.dir(random);
    let dir = open(world, dir_ino);
    match random.below(24) {
        0..5 => {
            let name = model.name(random);
            let node = volume.create_node(&dir, &name, &new(mode::REG, random), (0, 0))?;
            model.things.insert(node.ino, Thing::File { blocks: 0 });
            model.entries(dir_ino).insert(name, node.ino);
        }
        5 => {
            let name = model.name(random);
            let node = volume.create_node(&dir, &name, &new(mode::CHAR, random), (300, 70_000))?;
            model.things.insert(node.ino, Thing::Device);
            model.entries(dir_ino).insert(name, node.ino);
        }
        6..8 => {
            let name = model.name(random);
            let node = volume.make_dir(&dir, &name, &new(mode::DIR, random))?;
            model.things.insert(node.ino, Thing::Dir(BTreeMap::new()));
            model.dirs.push(node.ino);
            model.entries(dir_ino).insert(name, node.ino);
        }
        8..10 => {
            let name = model.name(random);
            let length = [5, 59, 60, 61, 200, 900][random.below(6) as usize];
            let target = vec![b'a' + random.below(26) as u8; length];
            let node = volume.make_link(&dir, &name, &target, &new(mode::LINK, random))?;
            model.things.insert(node.ino, Thing::Link(target));
            model.entries(dir_ino).insert(name, node.ino);
        }
        10 => {
            let other = model.dir(random);
            let Some((_, ino)) = model.some(other, random) else { return Ok(()) };
            if model.is_dir(ino) {
                return Ok(());
            }
            let name = model.name(random);
            volume.link_node(&dir, &name, &open(world, ino), NOW)?;
            model.entries(dir_ino).insert(name, ino);
        }
        11..15 => {
            let Some((name, ino)) = model.some(dir_ino, random) else { return Ok(()) };
            let node = open(world, ino);
            if model.is_dir(ino) {
                if !model.entries(ino).is_empty() {
                    assert_eq!(volume.remove_dir(&dir, &name, &node, NOW), Err(Errno::ENOTEMPTY));
                    return Ok(());
                }
                volume.remove_dir(&dir, &name, &node, NOW)?;
                model.dirs.retain(|dir| *dir != ino);
                model.entries(dir_ino).remove(&name);
                gone(world, model, random, ino);
            } else {
                let left = volume.unlink_node(&dir, &name, &node, NOW)?;
                model.entries(dir_ino).remove(&name);
                assert_eq!(left == 0, !model.named(ino));
                if left == 0 {
                    gone(world, model, random, ino);
                }
            }
        }
        15..18 => {
            let to_ino = model.dir(random);
            let to = open(world, to_ino);
            let Some((name, ino)) = model.some(dir_ino, random) else { return Ok(()) };
            if model.is_dir(ino) && model.is_below(to_ino, ino) {
                return Ok(());
            }
            let mut target = None;
            if random.below(2) == 0 {
                target = model.some(to_ino, random).filter(|(_, other)| {
                    *other != ino
                        && model.is_dir(*other) == model.is_dir(ino)
                        && !(model.is_dir(*other) && model.is_below(dir_ino, *other))
                });
            }
            if let Some((_, other)) = &target
                && let Thing::Dir(entries) = &model.things[other]
                && !entries.is_empty()
            {
                return Ok(());
            }
            let target_node = target.as_ref().map(|(_, ino)| open(world, *ino));
            let new_name = target.as_ref().map_or_else(|| model.name(random), |(name, _)| name.clone());
            let whiteout = (random.below(4) == 0).then(|| new(mode::CHAR, random));
            // Linux replaces the old name by a whiteout with the same functions; here its number is found by name.
            volume.rename_node(
                Name { dir: &dir, name: &name },
                Name { dir: &to, name: &new_name },
                &open(world, ino),
                target_node.as_ref(),
                whiteout.as_ref(),
                NOW,
            )?;
            model.entries(dir_ino).remove(&name);
            model.entries(to_ino).insert(new_name, ino);
            if whiteout.is_some() {
                let place = Dir { volume, node: &dir }.find(&name).unwrap().unwrap();
                model.things.insert(place.ino, Thing::Device);
                model.entries(dir_ino).insert(name, place.ino);
            }
            if let Some((_, other)) = target
                && !model.named(other)
            {
                model.dirs.retain(|dir| *dir != other);
                gone(world, model, random, other);
            }
        }
        18 => {
            let to_ino = model.dir(random);
            let to = open(world, to_ino);
            let (Some((one, one_ino)), Some((two, two_ino))) =
                (model.some(dir_ino, random), model.some(to_ino, random))
            else {
                return Ok(());
            };
            let crosses = |ino, dir| model.is_dir(ino) && model.is_below(dir, ino);
            if one_ino == two_ino || crosses(one_ino, to_ino) || crosses(two_ino, dir_ino) {
                return Ok(());
            }
            volume.exchange_nodes(
                Name { dir: &dir, name: &one },
                &open(world, one_ino),
                Name { dir: &to, name: &two },
                &open(world, two_ino),
                NOW,
            )?;
            model.entries(dir_ino).insert(one, two_ino);
            model.entries(to_ino).insert(two, one_ino);
        }
        19..22 => {
            let Some((_, ino)) = model.some(dir_ino, random) else { return Ok(()) };
            let Thing::File { blocks } = model.things[&ino] else { return Ok(()) };
            let node = open(world, ino);
            if random.below(3) == 0 {
                let size = random.below(u64::from(blocks) + 1) as u32;
                volume.truncate_node(&node, u64::from(size) << volume.layout.block_bits, NOW)?;
                model.things.insert(ino, Thing::File { blocks: size });
            } else {
                let more = 1 + random.below(20) as u32;
                let done = put(world, &node, blocks, blocks + more);
                let blocks = (node.size() >> volume.layout.block_bits) as u32;
                model.things.insert(ino, Thing::File { blocks });
                done?;
            }
        }
        _ => {
            let Some((_, ino)) = model.some(dir_ino, random) else { return Ok(()) };
            let node = open(world, ino);
            let name = format!("a{}", random.below(5)).into_bytes();
            let key = (ino, name.clone());
            if random.below(3) == 0 {
                let done = volume.set_attribute(&node, 1, &name, None, Must::BeThere, NOW);
                assert_eq!(done == Err(Errno::ENODATA), model.attributes.remove(&key).is_none());
            } else {
                let value = vec![b'v'; random.below(400) as usize];
                volume.set_attribute(&node, 1, &name, Some(&value), Must::Any, NOW)?;
                model.attributes.insert(key, value);
            }
        }
    }
    Ok(())
}

fn gone(world: &World, model: &mut Model, random: &mut Random, ino: u32) {
    model.things.remove(&ino);
    model.attributes.retain(|(owner, _), _| *owner != ino);
    if random.below(3) == 0 {
        model.open.push(ino);
    } else {
        world.volume.evict_node(&open(world, ino), NOW.0 as u32).unwrap();
    }
}

fn compare(world: &World, model: &Model) {
    for (ino, thing) in &model.things {
        let Thing::Dir(entries) = thing else { continue };
        let node = open(world, *ino);
        let dir = Dir { volume: &world.volume, node: &node };
        for (name, ino) in entries {
            assert_eq!(dir.find(name).unwrap().map(|place| place.ino), Some(*ino));
        }
        assert!(dir.find(b"no such name").unwrap().is_none());
        assert_eq!(dir.is_empty().unwrap(), entries.is_empty() && *ino != 2);
    }
}

/// Compares what debugfs gets out of the image.
fn compare_folder(model: &Model, ino: u32, path: &std::path::Path, block_size: usize, data: bool) {
    let Thing::Dir(entries) = &model.things[&ino] else { panic!() };
    let mut seen: Vec<Vec<u8>> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_vec())
        .filter(|name| name != b"lost+found")
        .collect();
    seen.sort();
    let expected: Vec<Vec<u8>> = entries
        .iter()
        .filter(|(_, ino)| model.things[ino] != Thing::Device)
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(seen, expected);
    for (name, ino) in entries {
        let path = path.join(std::ffi::OsStr::from_bytes(name));
        match &model.things[ino] {
            Thing::Dir(_) => compare_folder(model, *ino, &path, block_size, data),
            Thing::Link(target) => {
                assert_eq!(std::fs::read_link(&path).unwrap().as_os_str().as_bytes(), target);
            }
            Thing::File { blocks } => {
                let bytes = std::fs::read(&path).unwrap();
                assert_eq!(bytes.len(), *blocks as usize * block_size);
                assert!(!data || bytes.iter().all(|byte| *byte == *ino as u8));
            }
            Thing::Device => {}
        }
    }
}

fn run(kib: u32, options: &str, steps: u32, usual: u64) {
    println!("{options}");
    let journal = options.contains(",has_journal");
    let world = World::open(make(kib, options, 0), journal);
    run_in(&world, steps, usual);
}

fn run_in(world: &World, steps: u32, usual: u64) {
    let mut random = Random::new(seed(usual));
    let mut model = Model::new();
    let (mut full, mut done) = (0, 0);
    for number in 0..steps {
        match step(world, &mut model, &mut random) {
            Ok(()) => done += 1,
            Err(Errno::ENOSPC) => full += 1,
            Err(error) => panic!("step {number}: {error:?}"),
        }
        if number % 1000 == 999 {
            compare(world, &model);
        }
    }
    compare(world, &model);
    println!("{done} done, {full} full, {} directories", model.dirs.len());
    for ino in std::mem::take(&mut model.open) {
        world.volume.evict_node(&open(world, ino), NOW.0 as u32).unwrap();
    }
    assert!(!world.volume.has_orphans());
    let size = world.volume.block_size();
    world.check(|image| {
        let out = image.with_extension("out");
        std::fs::create_dir(&out).unwrap();
        debugfs(image, &format!("rdump / {}", out.display()));
        compare_folder(&model, 2, &out, size, world.volume.journal.is_none());
        let mut attributes: Vec<_> = model.attributes.iter().collect();
        attributes.truncate(100);
        for ((ino, name), value) in attributes {
            let name = String::from_utf8(name.clone()).unwrap();
            let out = image.with_extension("value");
            let _ = std::fs::remove_file(&out);
            debugfs(image, &format!("ea_get -f {} <{ino}> user.{name}", out.display()));
            assert_eq!(&std::fs::read(&out).unwrap(), value, "inode {ino} {name}");
        }
    });
}

#[test]
fn names_small_blocks() {
    run(30_000, "-t ext4 -b 1024 -O ^has_journal -N 8000", 8000, 21);
}

#[test]
fn names_no_checksums() {
    run(30_000, "-t ext4 -b 1024 -O ^has_journal,^metadata_csum,^64bit -N 8000", 8000, 22);
}

#[test]
fn names_ext2() {
    run(30_000, "-t ext2 -b 1024 -I 128 -N 8000", 5000, 23);
}

#[test]
fn names_inline_and_orphan_file() {
    run(30_000, "-t ext4 -b 1024 -O inline_data,orphan_file,has_journal -N 8000", 6000, 24);
}

#[test]
fn names_journal() {
    run(30_000, "-t ext4 -b 1024 -O ^orphan_file,has_journal -N 8000", 4000, 28);
    // Freed blocks wait for their commit.
    run(6_000, "-t ext4 -b 1024 -O ^orphan_file,has_journal -m 0 -N 1000 -J size=1", 3000, 29);
}

#[test]
fn names_full_disk() {
    run(2_000, "-t ext4 -b 1024 -O ^has_journal -m 0 -N 1000", 6000, 25);
    run(8_000, "-t ext4 -b 1024 -O ^has_journal,^flex_bg -m 0 -N 64 -g 1024", 4000, 26);
}

#[test]
fn names_large_blocks() {
    run(100_000, "-t ext4 -b 4096 -O ^has_journal", 6000, 27);
}

/// A directory of so many long names that its tree has all levels that it can have.
#[test]
fn trees_of_all_levels() {
    for (options, most) in [("", 36_000), ("large_dir", 52_000)] {
        let world = World::new(150_000, &format!("-t ext4 -b 1024 -O ^has_journal,{options} -N 1000"), 1);
        let mut random = Random::new(seed(31));
        let root = open(&world, 2);
        let dir = world.volume.make_dir(&root, b"dir", &new(mode::DIR, &mut random)).unwrap();
        let file = open(&world, 12);
        let name = |number: u32| {
            let mut name = format!("{number}").into_bytes();
            name.resize(250, b'-');
            name
        };
        let mut count = 0;
        while count < most {
            // The count of links has an end; another one has room.
            if count % 60_000 == 59_999 {
                break;
            }
            match world.volume.link_node(&dir, &name(count), &file, NOW) {
                Ok(()) => count += 1,
                Err(error) => {
                    assert_eq!(error, Errno::ENOSPC);
                    break;
                }
            }
        }
        println!("{count} names");
        let levels = { Dir { volume: &world.volume, node: &dir }.add_credits().unwrap() };
        println!("{levels} credits");
        if options.is_empty() {
            assert!((20_000..most).contains(&count), "{count}");
        } else {
            assert_eq!(count, most);
        }
        world.check(|_| ());
        for number in 0..count {
            if number % 7 != 0 {
                world.volume.unlink_node(&dir, &name(number), &file, NOW).unwrap();
            }
        }
        let opened = Dir { volume: &world.volume, node: &dir };
        for number in (0..count).step_by(100) {
            assert_eq!(opened.find(&name(number)).unwrap().is_some(), number % 7 == 0);
        }
        world.check(|_| ());
    }
}

/// More directories in one than links can be counted.
#[test]
fn directories_without_number() {
    let world = World::new(110_000, "-t ext4 -b 1024 -O ^has_journal -N 66000", 0);
    let mut random = Random::new(seed(32));
    let root = open(&world, 2);
    let dir = world.volume.make_dir(&root, b"dir", &new(mode::DIR, &mut random)).unwrap();
    for number in 0..65_100u32 {
        let name = format!("{number}").into_bytes();
        world.volume.make_dir(&dir, &name, &new(mode::DIR, &mut random)).unwrap();
        let links = dir.core().links_count.get();
        assert_eq!(links, if number < 64_997 { number as u16 + 3 } else { 1 });
    }
    world.check(|_| ());
}

/// What a crash leaves of files without names and of truncations is gone after the next mount.
#[test]
fn orphans_after_a_crash() {
    for options in ["^has_journal", "orphan_file,has_journal"] {
        let world = World::new(20_000, &format!("-t ext4 -b 1024 -O {options}"), 20);
        let free = world.volume.space.free();
        let root = open(&world, 2);
        for number in 0..20 {
            let name = format!("file{number:02}").into_bytes();
            let place = Dir { volume: &world.volume, node: &root }.find(&name).unwrap().unwrap();
            let node = open(&world, place.ino);
            put(&world, &node, 0, 30).unwrap();
            if number % 2 == 0 {
                world.volume.unlink_node(&root, &name, &node, NOW).unwrap();
            } else {
                // The first half of a truncation.
                let mut tx = world.start(10);
                world.volume.add_orphan(&mut tx, &node).unwrap();
                node.update(&world.volume, &mut tx, |core| core.set_size(5 << 10)).unwrap();
            }
        }
        let mut random = Random::new(1);
        world.volume.create_unnamed(&root, &new(mode::REG, &mut random)).unwrap();
        let world = World::of(world.image());
        let recovered = world.volume.recover_orphans(1_700_000_001).unwrap();
        assert_eq!((recovered.freed, recovered.truncated), (11, 10));
        assert_eq!(world.volume.space.free(), free - 10 * 5);
        assert!(!world.volume.has_orphans());
        world.check(|_| ());
    }
}

/// Directories whose names are in their inodes get blocks when they are changed, and keep names and other attributes.
#[test]
fn inline_directories() {
    let folder = Folder::new();
    let path = folder.0.join("image");
    std::fs::write(&path, make(8_000, "-t ext4 -b 1024 -I 512 -O ^has_journal,inline_data", 0)).unwrap();
    let mut commands = String::new();
    for dir in 0..3 {
        commands += &format!("mkdir dir{dir}\nea_set dir{dir} user.some value{dir}\ncd dir{dir}\n");
        for file in 0..3 {
            commands += &format!("write /dev/null name{file}\n");
        }
        commands += "cd ..\n";
    }
    let script = folder.0.join("script");
    std::fs::write(&script, commands).unwrap();
    let out = Command::new("debugfs").arg("-w").arg("-f").arg(&script).arg(&path).output().unwrap();
    assert!(out.status.success());
    let world = World::of(std::fs::read(&path).unwrap());
    let root = open(&world, 2);
    let mut random = Random::new(1);
    let find = |dir: &RawInode, name: &[u8]| {
        world.volume.opened(&mut world.start(100), dir).unwrap().find(name).unwrap().map(|place| place.ino)
    };
    let dirs = [0, 1, 2].map(|dir| open(&world, find(&root, format!("dir{dir}").as_bytes()).unwrap()));
    assert!(dirs.iter().all(RawInode::is_inline));
    world.volume.create_node(&dirs[0], b"one more", &new(mode::REG, &mut random), (0, 0)).unwrap();
    assert!(!dirs[0].is_inline());
    for file in 0..3 {
        assert!(find(&dirs[0], format!("name{file}").as_bytes()).is_some());
    }
    let moved = open(&world, find(&dirs[0], b"name2").unwrap());
    world
        .volume
        .rename_node(
            Name { dir: &dirs[0], name: b"name2" },
            Name { dir: &dirs[1], name: b"moved" },
            &moved,
            None,
            None,
            NOW,
        )
        .unwrap();
    // To another parent.
    world
        .volume
        .rename_node(
            Name { dir: &root, name: b"dir2" },
            Name { dir: &dirs[0], name: b"below" },
            &dirs[2],
            None,
            None,
            NOW,
        )
        .unwrap();
    world.check(|image| {
        for (place, value) in [("dir0", "value0"), ("dir1", "value1"), ("dir0/below", "value2")] {
            let out = String::from_utf8(debugfs(image, &format!("ea_get {place} user.some"))).unwrap();
            assert!(out.contains(value), "{out}");
        }
    });
}
