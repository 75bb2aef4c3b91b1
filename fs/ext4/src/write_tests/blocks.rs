//! Block allocation alone.

use super::*;
use crate::space::{Request, Reserve, Run};

const OPTIONS: [&str; 6] = [
    "-t ext4 -b 1024 -O ^has_journal",
    "-t ext4 -b 1024 -O ^has_journal,^metadata_csum,^64bit,uninit_bg",
    "-t ext4 -b 1024 -O ^has_journal,^flex_bg,meta_bg,^resize_inode -g 2048",
    "-t ext2 -b 1024",
    "-t ext4 -b 4096 -O ^has_journal",
    "-t ext4 -b 1024 -O ^has_journal,^uninit_bg -g 1024",
];

fn request(goal: u64, len: u32) -> Request {
    Request { goal, len, append: false, reserve: Reserve::Root, promised: false }
}

/// All is taken to the last block, no block twice, and given back: the file system is as before.
#[test]
fn to_the_last_block_and_back() {
    for options in OPTIONS {
        let world = World::new(20_000, &format!("{options} -m 0"), 0);
        let volume = &world.volume;
        let free = volume.space.free();
        let mut random = Random::new(seed(1));
        let mut taken: Vec<Run> = Vec::new();
        let mut seen = vec![false; volume.layout.blocks_count as usize];
        loop {
            let goal = random.below(volume.layout.blocks_count);
            let len = 1 + random.below(300) as u32;
            let mut tx = world.start(4);
            let run = match volume
                .allocate(&mut tx, &Request { reserve: Reserve::Promised, ..request(goal, len) })
            {
                Ok(run) => run,
                Err(error) => {
                    assert_eq!(error, Errno::ENOSPC);
                    break;
                }
            };
            assert!(run.len <= len);
            for block in run.start..run.start + u64::from(run.len) {
                assert!(!std::mem::replace(&mut seen[block as usize], true), "{block} twice");
            }
            taken.push(run);
        }
        let sum: u64 = taken.iter().map(|run| u64::from(run.len)).sum();
        assert_eq!((sum, volume.space.free(), volume.space.promised()), (free, 0, 0), "{options}");
        while !taken.is_empty() {
            let run = taken.swap_remove(random.below(taken.len() as u64) as usize);
            volume.free(&mut world.start(4), run).unwrap();
        }
        assert_eq!((volume.space.free(), volume.groups.free_clusters()), (free, free));
        world.check(|_| ());
        // All of it is there again.
        let run = volume.allocate(&mut world.start(4), &request(0, 4000)).unwrap();
        assert!(run.len >= 900, "{options}: {run:?}");
    }
}

/// What is reserved is for the administrator.
#[test]
fn reserved_blocks() {
    let world = World::new(8_000, "-t ext2 -b 1024 -m 10", 0);
    let volume = &world.volume;
    let take = |reserve| {
        loop {
            let wanted = Request { reserve, ..request(1, 100) };
            match volume.allocate(&mut world.start(4), &wanted) {
                Ok(_) => {}
                Err(error) => break assert_eq!(error, Errno::ENOSPC),
            }
        }
    };
    let free = volume.space.free();
    let (_, available) = volume.space.statfs();
    take(Reserve::Leave);
    assert_eq!(volume.space.free(), free - available);
    assert_eq!(volume.space.free(), 800);
    take(Reserve::Root);
    assert_eq!(volume.space.free(), 0);
}

/// What was freed is not taken again before its change is on the device.
#[test]
fn freed_blocks_wait_for_their_change() {
    let world = World::new(8_000, "-t ext2 -b 1024 -m 0", 0);
    let volume = &world.volume;
    let goal = volume.layout.group_start(0) + 5_000;
    let run = volume.allocate(&mut world.start(4), &request(goal, 10)).unwrap();
    assert_eq!(run, Run { start: goal, len: 10 });
    let mut change = world.start(4);
    volume.free(&mut change, run).unwrap();
    let other = volume.allocate(&mut world.start(4), &request(goal, 10)).unwrap();
    assert_eq!(other.start, goal + 10);
    drop(change);
    let again = volume.allocate(&mut world.start(4), &request(goal, 20)).unwrap();
    assert_eq!(again.len, 20);
    let exact = volume.allocate(&mut world.start(4), &request(goal, 10)).unwrap();
    assert_eq!(exact.start, goal);
}

/// Several threads at once.
#[test]
fn many_at_once() {
    let world = World::new(60_000, "-t ext4 -b 1024 -O ^has_journal -m 0", 0);
    let free = world.volume.space.free();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let world = &world;
            scope.spawn(move || {
                let mut random = Random::new(seed(100 + thread));
                let mut mine: Vec<Run> = Vec::new();
                for _ in 0..2000 {
                    let volume = &world.volume;
                    if random.below(5) < 3 {
                        let goal = random.below(volume.layout.blocks_count);
                        let len = 1 + random.below(64) as u32;
                        // The handles' count of blocks is for one thread.
                        mine.extend(volume.allocate(&mut world.start(4), &request(goal, len)));
                    } else if let Some(run) = mine.pop() {
                        volume.free(&mut world.start(4), run).unwrap();
                    }
                }
                for run in mine {
                    world.volume.free(&mut world.start(4), run).unwrap();
                }
            });
        }
    });
    assert_eq!(world.volume.space.free(), free);
    world.check(|_| ());
}
