//! Power cuts: after the journal was replayed and orphans were dealt with, nothing is wrong.

use super::tree::{Model, step};
use super::*;

fn run(kib: u32, options: &str, steps: u32, usual: u64) {
    let mut random = Random::new(seed(usual));
    let world = World::open(make(kib, options, 0), true);
    world.disk.note_events();
    let mut model = Model::new();
    for number in 0..steps {
        match step(&world, &mut model, &mut random) {
            Ok(()) | Err(Errno::ENOSPC) => {}
            Err(error) => panic!("step {number}: {error:?}"),
        }
        if random.below(40) == 0 {
            world.volume.journal.as_ref().unwrap().force_commit().unwrap();
        }
    }
    let mut crashes = world.disk.crashes();
    let all = crashes.len();
    println!("{all} writes and flushes");
    let mut at = 0;
    while at < all {
        at = (at + 1 + random.below(all as u64 / 12 + 1) as usize).min(all);
        crashes.advance(at);
        let after = World::open(crashes.image(&mut random), true);
        after.volume.recover_orphans(1_700_000_001).unwrap();
        assert!(!after.volume.has_orphans());
        after.check(|_| ());
    }
}

#[test]
fn power_cuts() {
    run(20_000, "-t ext4 -b 1024 -O has_journal,^orphan_file -N 4000", 600, 41);
}

#[test]
fn power_cuts_orphan_file() {
    run(20_000, "-t ext4 -b 1024 -O has_journal,orphan_file -N 4000 -J size=1", 600, 42);
}
