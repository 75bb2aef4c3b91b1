//! The blocks of files against a model.

use super::*;
use crate::extent_write::map::Create;
use crate::extent_write::{Kind, Map};
use crate::raw::RawInode;
use crate::space::Reserve;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Hole,
    Unwritten,
    Data(u64),
}

struct File {
    node: RawInode,
    model: Vec<Block>,
}

const CREATE: Create = Create { unwritten: false, reserve: Reserve::Root, promised: false };

fn write_data(world: &World, block: u64, stamp: u64) {
    let buffer = world.volume.cache.get(block).unwrap();
    buffer
        .create(|bytes| bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = stamp.to_le_bytes()))
        .unwrap();
    buffer.mark_dirty();
}

impl File {
    fn grow(&mut self, end: usize) {
        if self.model.len() < end {
            self.model.resize(end, Block::Hole);
        }
    }

    /// Takes blocks for the holes of a range, and writes them if they are not unwritten.
    fn fill(
        &mut self,
        world: &World,
        from: u32,
        to: u32,
        unwritten: bool,
        stamp: &mut u64,
    ) -> Result<(), Errno> {
        let map = Map { volume: &world.volume, node: &self.node };
        let mut at = from;
        while at < to {
            let mut tx = world.start(map.create_credits().unwrap());
            let found = map.create(&mut tx, at, to - at, &Create { unwritten, ..CREATE })?;
            drop(tx);
            assert!(found.block == at && found.len > 0 && found.len <= to - at);
            for n in 0..found.len {
                let place = (at + n) as usize;
                if self.model.len() <= place {
                    self.model.resize(place + 1, Block::Hole);
                }
                if unwritten {
                    assert_eq!(found.new, self.model[place] == Block::Hole);
                    if found.new {
                        self.model[place] = Block::Unwritten;
                    }
                } else {
                    *stamp += 1;
                    write_data(world, found.start + u64::from(n), *stamp);
                    self.model[place] = Block::Data(*stamp);
                }
            }
            if !unwritten && found.kind == Kind::Unwritten {
                map.convert(&mut world.start(0), at..at + found.len).unwrap();
            }
            at += found.len;
        }
        Ok(())
    }

    fn compare(&self, world: &World) {
        let map = Map { volume: &world.volume, node: &self.node };
        let mut at = 0;
        while at < self.model.len() as u32 {
            let found = map.lookup(at, self.model.len() as u32 - at).unwrap();
            for n in 0..found.len {
                let expected = match self.model[(at + n) as usize] {
                    Block::Hole => Kind::Hole,
                    Block::Unwritten => Kind::Unwritten,
                    Block::Data(_) => Kind::Mapped,
                };
                assert_eq!(found.kind, expected, "block {} of inode {}", at + n, self.node.ino);
            }
            at += found.len;
        }
    }
}

fn run(kib: u32, options: &str, steps: u32, largest: u64, usual: u64) {
    println!("{options}");
    let mut random = Random::new(seed(usual));
    let world = World::new(kib, options, 4);
    let free = world.volume.space.free();
    let mut files: Vec<File> = (12..16)
        .map(|ino| File { node: RawInode::open(&world.volume, ino).unwrap(), model: Vec::new() })
        .collect();
    let extents = files[0].node.has_extents();
    let mut stamp = 0;
    let mut full = 0;
    for _ in 0..steps {
        let file = &mut files[random.below(4) as usize];
        let from = random.below(largest) as u32;
        let long = if random.below(4) == 0 { largest / 4 } else { 3 };
        let len = 1 + random.below(long) as u32;
        let to = from + len;
        let node = file.node.clone();
        let map = Map { volume: &world.volume, node: &node };
        let kind = random.below(if extents { 20 } else { 14 });
        match kind {
            0..10 => full += u32::from(file.fill(&world, from, to, false, &mut stamp).is_err()),
            10..13 => {
                let done = map.remove(&mut world.start(0), from..to);
                if done == Err(Errno::ENOSPC) {
                    full += 1;
                    continue;
                }
                done.unwrap();
                file.model.iter_mut().take(to as usize).skip(from as usize).for_each(|b| *b = Block::Hole);
            }
            13 => {
                let from = if random.below(20) == 0 { 0 } else { from };
                map.remove(&mut world.start(0), from..u32::MAX).unwrap();
                file.model.truncate(from as usize);
            }
            14..17 => full += u32::from(file.fill(&world, from, to, true, &mut stamp).is_err()),
            17 => {
                let done = map.unwrite(&mut world.start(0), from..to);
                if done == Err(Errno::ENOSPC) {
                    // A part may be done: what is there says which.
                    full += 1;
                    map.remove(&mut world.start(0), 0..u32::MAX).unwrap();
                    file.model.clear();
                    continue;
                }
                done.unwrap();
                for block in file.model.iter_mut().take(to as usize).skip(from as usize) {
                    if *block != Block::Hole {
                        *block = Block::Unwritten;
                    }
                }
            }
            18 if (to as usize) < file.model.len() => {
                if map.collapse(&mut world.start(0), from..to) == Err(Errno::ENOSPC) {
                    continue;
                }
                file.model.drain(from as usize..to as usize);
            }
            19 if (from as usize) < file.model.len() => {
                if map.make_room(&mut world.start(0), from, len) == Err(Errno::ENOSPC) {
                    continue;
                }
                file.model.splice(from as usize..from as usize, (0..len).map(|_| Block::Hole));
            }
            _ => {}
        }
        file.grow(0);
        if random.below(20) == 0 {
            file.compare(&world);
        }
    }
    println!("full {full} times");
    let size = world.volume.block_size() as u64;
    for file in &files {
        file.compare(&world);
        let end = file.model.len() as u64 * size;
        file.node.update(&world.volume, &mut world.start(1), |core| core.set_size(end)).unwrap();
    }
    world.check(|image| {
        for file in &files {
            let out = image.with_extension("out");
            debugfs(image, &format!("dump <{}> {}", file.node.ino, out.display()));
            let bytes = std::fs::read(&out).unwrap();
            assert_eq!(bytes.len() as u64, file.model.len() as u64 * size);
            for (at, block) in bytes.chunks(size as usize).enumerate() {
                let stamp = match file.model[at] {
                    Block::Data(stamp) => stamp,
                    _ => 0,
                };
                assert!(
                    block.as_chunks::<8>().0.iter().all(|word| *word == stamp.to_le_bytes()),
                    "block {at} of inode {}: {:?}",
                    file.node.ino,
                    file.model[at]
                );
            }
        }
    });
    for file in &files {
        let map = Map { volume: &world.volume, node: &file.node };
        map.remove(&mut world.start(0), 0..u32::MAX).unwrap();
        file.node.update(&world.volume, &mut world.start(1), |core| core.set_size(0)).unwrap();
    }
    assert_eq!(world.volume.space.free(), free);
    world.check(|_| ());
}

#[test]
fn extents_small_blocks() {
    run(40_000, "-t ext4 -b 1024 -O ^has_journal", 6000, 9000, 11);
}

#[test]
fn extents_no_checksums() {
    run(40_000, "-t ext4 -b 1024 -O ^has_journal,^metadata_csum,^64bit", 6000, 9000, 12);
}

#[test]
fn extents_deep() {
    // One block of two: a tree of three levels.
    let world = World::new(60_000, "-t ext4 -b 1024 -O ^has_journal", 1);
    let node = RawInode::open(&world.volume, 12).unwrap();
    let free = world.volume.space.free();
    let mut file = File { node, model: Vec::new() };
    let mut stamp = 0;
    for block in (0..40_000).step_by(2) {
        file.fill(&world, block, block + 1, false, &mut stamp).unwrap();
    }
    file.compare(&world);
    file.node.update(&world.volume, &mut world.start(1), |core| core.set_size(40_000 << 10)).unwrap();
    world.check(|_| ());
    for block in (0..40_000).step_by(2).rev().filter(|block| block % 3 != 0) {
        let map = Map { volume: &world.volume, node: &file.node };
        map.remove(&mut world.start(0), block..block + 1).unwrap();
        file.model[block as usize] = Block::Hole;
    }
    file.compare(&world);
    world.check(|_| ());
    let map = Map { volume: &world.volume, node: &file.node };
    map.remove(&mut world.start(0), 0..u32::MAX).unwrap();
    file.node.update(&world.volume, &mut world.start(1), |core| core.set_size(0)).unwrap();
    assert_eq!(world.volume.space.free(), free);
    world.check(|_| ());
}

#[test]
fn extents_full_disk() {
    run(3_000, "-t ext4 -b 1024 -O ^has_journal -m 0", 4000, 2500, 13);
}

#[test]
fn extents_large_blocks() {
    run(200_000, "-t ext4 -b 4096 -O ^has_journal", 3000, 20_000, 14);
}

#[test]
fn addresses() {
    run(60_000, "-t ext2 -b 1024", 4000, 14_000, 15);
    run(3_000, "-t ext3 -b 1024 -O ^has_journal -m 0", 3000, 2500, 16);
    run(60_000, "-t ext2 -b 4096", 2000, 6_000, 17);
}
