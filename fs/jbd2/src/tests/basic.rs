use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use abi::{Errno, Result};
use block::Op;
use buffer::testing::Disk;

use super::{CHECKSUMS, Layout, PLAIN, fill, number};
use crate::format::{MAGIC, sb};
use crate::{Committed, Features, Handle, OrderedData};

const SMALL: Layout = Layout { block_size: 1024, fs: 256, len: 128 };

const ALL: [Features; 4] = [
    PLAIN,
    CHECKSUMS,
    Features { big_blocks: true, checksums: false },
    Features { big_blocks: false, checksums: true },
];

type Notes = Arc<Mutex<Vec<(u64, Result<()>)>>>;

struct Note(Notes, u64);

impl Committed for Note {
    fn committed(self: Box<Self>, result: Result<()>) {
        self.0.lock().unwrap().push((self.1, result));
    }
}

#[test]
fn what_was_synced_is_replayed() {
    for features in ALL {
        for layout in
            [SMALL, Layout { block_size: 4096, fs: 64, len: 64 }, Layout { block_size: 2048, ..SMALL }]
        {
            let machine = layout.open(Disk::new(layout.image(1)).threaded(1), features);
            assert_eq!(machine.journal.recovery(), Default::default());
            for round in 1..=3 {
                let mut handle = machine.journal.start(8).unwrap();
                for block in 10..15 {
                    let buffer = machine.read(block);
                    handle.modify(&buffer, |bytes| fill(bytes, block * 100 + round)).unwrap();
                    handle.modify(&buffer, |bytes| bytes[100] = 1).unwrap();
                }
                let fresh = machine.cache.get(20 + round).unwrap();
                // Looks like a block of the journal's own.
                handle.create(&fresh, |bytes| bytes[..4].copy_from_slice(&MAGIC.to_be_bytes())).unwrap();
                assert_eq!(handle.credits(), 2);
                handle.set_sync();
                handle.stop().unwrap();
            }
            let mut handle = machine.journal.start(1).unwrap();
            handle.modify(&machine.read(10), |bytes| bytes.fill(0xff)).unwrap();
            drop(handle);
            let image = machine.disk.image();
            assert_eq!(image[10 * layout.block_size..][..8], [0; 8]);
            let after = layout.open(Disk::new(image), features);
            assert_eq!(after.journal.recovery().transactions, 3);
            assert_eq!(after.journal.recovery().replayed, 18);
            for block in 10..15 {
                assert_eq!(after.number(block), block * 100 + 3);
                assert_eq!(after.read(block).data().bytes()[100], 1);
            }
            for block in 21..24 {
                assert_eq!(after.read(block).data().bytes()[..5], [0xc0, 0x3b, 0x39, 0x98, 0]);
            }
            drop(machine);
            // The second mount left nothing in the log.
            let image = after.disk.image();
            assert_eq!(layout.open(Disk::new(image), features).journal.recovery(), Default::default());
        }
    }
}

#[test]
fn dropping_a_journal_leaves_everything_in_its_place() {
    let machine = SMALL.open(Disk::new(SMALL.image(1)).threaded(2), CHECKSUMS);
    let disk = machine.disk.clone();
    let mut handle = machine.journal.start(2).unwrap();
    handle.modify(&machine.read(3), |bytes| fill(bytes, 33)).unwrap();
    drop(handle);
    drop(machine);
    assert_eq!(number(&disk.image()[3 * 1024..]), 33);
    let start = SMALL.fs as usize * 1024 + sb::START;
    assert_eq!(disk.image()[start..start + 4], [0; 4]);
}

/// Many more transactions than the log has room for, over the wrap of the log and of the sequence.
#[test]
fn the_log_goes_round_and_so_do_its_numbers() {
    for features in [PLAIN, CHECKSUMS] {
        let machine = SMALL.open(Disk::new(SMALL.image(u32::MAX - 20)).threaded(3), features);
        for value in 1..=100u64 {
            let mut handle = machine.journal.start(12).unwrap();
            for n in 0..12 {
                let buffer = machine.read((value * 5 + n) % 200);
                handle.modify(&buffer, |bytes| fill(bytes, value)).unwrap();
            }
            drop(handle);
            if value % 3 == 0 {
                machine.journal.force_commit().unwrap();
            }
        }
        machine.journal.force_commit().unwrap();
        let after = SMALL.open(Disk::new(machine.disk.image()), features);
        for block in 0..200 {
            let last = (1..=100).rev().find(|value| (0..12).any(|n| (value * 5 + n) % 200 == block));
            assert_eq!(after.number(block), last.unwrap_or(0), "block {block}");
        }
    }
}

#[test]
fn credits() {
    let machine = SMALL.open(Disk::new(SMALL.image(1)), PLAIN);
    let most = machine.journal.max_credits();
    assert_eq!(most, 127 / 4);
    assert_eq!(machine.journal.start(most + 1).err(), Some(Errno::ENOSPC));
    let mut handle = machine.journal.start(1).unwrap();
    handle.modify(&machine.read(1), |_| ()).unwrap();
    handle.modify(&machine.read(1), |_| ()).unwrap();
    assert_eq!(handle.modify(&machine.read(2), |_| ()), Err(Errno::ENOSPC));
    assert_eq!(handle.extend(5), Ok(true));
    handle.modify(&machine.read(2), |_| ()).unwrap();
    assert_eq!((handle.extend(most), handle.credits()), (Ok(false), 4));
    let tid = handle.tid();
    handle.restart(most).unwrap();
    assert_eq!((handle.tid(), handle.credits()), (tid + 1, most));
    machine.journal.wait(tid).unwrap();
    drop(handle);
    // What was not used goes to others.
    let handles: Vec<_> = (0..10).map(|_| machine.journal.start(most / 10).unwrap()).collect();
    assert!(handles.iter().all(|handle| handle.tid() == tid + 1));
    drop(handles);
    assert_eq!(machine.journal.wait(tid + 2), Err(Errno::EINVAL));
    machine.journal.complete(tid + 1).unwrap();
    assert!(machine.journal.is_over(tid + 1) && machine.journal.running().is_none());
}

#[test]
fn a_freed_block_is_not_replayed_over_what_it_is_now() {
    for features in ALL {
        let machine = SMALL.open(Disk::new(SMALL.image(1)).threaded(5), features);
        let mut handle = machine.journal.start(4).unwrap();
        for block in 1..=4 {
            handle.modify(&machine.read(block), |bytes| fill(bytes, 11)).unwrap();
        }
        handle.set_sync();
        handle.stop().unwrap();
        let mut handle = machine.journal.start(4).unwrap();
        handle.revoke(1, None).unwrap();
        handle.revoke(2, Some(&machine.read(2))).unwrap();
        // Freed, and metadata again.
        let third = machine.read(3);
        handle.revoke(3, Some(&third)).unwrap();
        handle.create(&third, |bytes| fill(bytes, 33)).unwrap();
        handle.set_sync();
        handle.stop().unwrap();
        assert!(!machine.cache.get(1).unwrap().is_valid());
        // Block 1 is data now, block 2 metadata.
        let mut handle = machine.journal.start(1).unwrap();
        handle.create(&machine.cache.get(2).unwrap(), |bytes| fill(bytes, 22)).unwrap();
        handle.set_sync();
        handle.stop().unwrap();
        let mut image = machine.disk.image();
        image[1024..2048].fill(0x77);
        let after = SMALL.open(Disk::new(image), features);
        assert_eq!(after.journal.recovery().transactions, 3);
        assert_eq!(after.journal.recovery().revoked, 2);
        assert_eq!(after.read(1).data().bytes(), [0x77; 1024]);
        assert_eq!((after.number(2), after.number(3), after.number(4)), (22, 33, 11));
        // And in the living system: nothing old is written over the data.
        machine.journal.flush().unwrap();
        assert_eq!(number(&machine.disk.image()[1024..]), 0);
        assert_eq!(number(&machine.disk.image()[2048..]), 22);
    }
}

#[test]
fn a_freed_block_that_only_the_log_knows_keeps_the_log() {
    let machine = SMALL.open(Disk::new(SMALL.image(1)), PLAIN);
    let mut handle = machine.journal.start(1).unwrap();
    handle.modify(&machine.read(9), |bytes| fill(bytes, 99)).unwrap();
    handle.set_sync();
    handle.stop().unwrap();
    let mut handle = machine.journal.start(1).unwrap();
    handle.revoke(9, None).unwrap();
    drop(handle);
    // Not on disk: until then the block is what the first transaction says.
    let after = SMALL.open(Disk::new(machine.disk.image()), PLAIN);
    assert_eq!(after.number(9), 99);
}

#[test]
fn callbacks_and_data_come_in_order() {
    struct Data(Arc<Mutex<Vec<&'static str>>>, Arc<Disk>, AtomicU64);
    impl OrderedData for Data {
        fn submit(&self, range: std::ops::Range<u64>) {
            assert_eq!(range, 0..900);
            self.2.store(self.1.counts().1, Ordering::SeqCst);
            self.0.lock().unwrap().push("submit");
        }
        fn wait(&self, _: std::ops::Range<u64>) -> Result<()> {
            self.0.lock().unwrap().push("wait");
            Err(Errno::EIO)
        }
    }
    let machine = SMALL.open(Disk::new(SMALL.image(1)), CHECKSUMS);
    let (steps, notes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let data = Arc::new(Data(steps.clone(), machine.disk.clone(), AtomicU64::new(0)));
    let before = machine.disk.counts().1;
    let mut handle = machine.journal.start(1).unwrap();
    let tid = handle.tid();
    handle.modify(&machine.read(1), |bytes| bytes[0] = 1).unwrap();
    handle.before_commit(data.clone(), 100..900).unwrap();
    handle.before_commit(data.clone(), 0..50).unwrap();
    handle.on_commit(Box::new(Note(notes.clone(), tid))).unwrap();
    drop(handle);
    assert!(steps.lock().unwrap().is_empty());
    machine.journal.complete(tid).unwrap();
    assert_eq!(*steps.lock().unwrap(), ["submit", "wait"]);
    assert_eq!(data.2.load(Ordering::SeqCst), before);
    assert_eq!(*notes.lock().unwrap(), [(tid, Ok(()))]);
    // A transaction without blocks has data and callbacks too, and nothing in the log.
    let mut handle = machine.journal.start(1).unwrap();
    handle.on_commit(Box::new(Note(notes.clone(), 7))).unwrap();
    handle.set_sync();
    let writes = machine.disk.counts().1;
    handle.stop().unwrap();
    assert_eq!(machine.disk.counts().1, writes);
    assert_eq!(notes.lock().unwrap()[1], (7, Ok(())));
}

#[test]
fn errors_abort() {
    let machine = SMALL.open(Disk::new(SMALL.image(1)).threaded(8), CHECKSUMS);
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut handle = machine.journal.start(2).unwrap();
    handle.modify(&machine.read(5), |bytes| bytes[0] = 1).unwrap();
    handle.set_sync();
    handle.stop().unwrap();
    // The log, but not its super block.
    let log = SMALL.fs * 2 + 2;
    machine.disk.fail(move |op, sector, _| op == Op::Write && sector >= log);
    let mut handle = machine.journal.start(2).unwrap();
    handle.modify(&machine.read(6), |bytes| bytes[0] = 1).unwrap();
    handle.on_commit(Box::new(Note(notes.clone(), 1))).unwrap();
    let mut other = machine.journal.start(2).unwrap();
    handle.set_sync();
    let waits = thread::spawn({
        let journal = machine.journal.clone();
        let tid = handle.tid();
        move || journal.complete(tid)
    });
    other.modify(&machine.read(7), |bytes| bytes[0] = 1).unwrap();
    drop(other);
    assert_eq!(handle.stop(), Err(Errno::EIO));
    assert_eq!(waits.join().unwrap(), Err(Errno::EIO));
    assert_eq!(*notes.lock().unwrap(), [(1, Err(Errno::EIO))]);
    assert_eq!(machine.journal.errno(), Some(Errno::EIO));
    assert_eq!(machine.journal.start(1).err(), Some(Errno::EROFS));
    assert!(machine.journal.flush().is_err());
    machine.disk.repair();
    let disk = machine.disk.clone();
    drop(machine);
    let after = SMALL.open(Disk::new(disk.image()), CHECKSUMS);
    assert_eq!(after.journal.recorded_errno(), Some(Errno::EIO));
    assert_eq!((after.read(5).data().bytes()[0], after.read(6).data().bytes()[0]), (1, 0));
    after.journal.clear_errno().unwrap();
    let image = after.disk.image();
    drop(after);
    assert_eq!(SMALL.open(Disk::new(image), CHECKSUMS).journal.recorded_errno(), None);
}

#[test]
fn a_block_that_cannot_get_to_its_place_stays_in_the_log() {
    let machine = SMALL.open(Disk::new(SMALL.image(1)), CHECKSUMS);
    let mut handle = machine.journal.start(2).unwrap();
    handle.modify(&machine.read(5), |bytes| fill(bytes, 55)).unwrap();
    handle.set_sync();
    handle.stop().unwrap();
    machine.disk.fail(|op, sector, _| op == Op::Write && sector == 10);
    assert_eq!(machine.journal.flush(), Err(Errno::EIO));
    let disk = machine.disk.clone();
    drop(machine);
    let after = SMALL.open(Disk::new(disk.image()), CHECKSUMS);
    assert_eq!(after.number(5), 55);
}

#[test]
fn handles_of_others_may_go_on_while_a_transaction_is_committed() {
    let machine = SMALL.open(Disk::new(SMALL.image(1)).threaded(9), CHECKSUMS);
    let mut handle = machine.journal.start(2).unwrap();
    let first = handle.tid();
    handle.modify(&machine.read(5), |bytes| fill(bytes, 1)).unwrap();
    handle.modify(&machine.read(6), |bytes| fill(bytes, 1)).unwrap();
    drop(handle);
    machine.disk.hold(true);
    machine.journal.commit(first);
    // Begins the next one as soon as the first has its place in the log, which does not get there yet.
    let mut handle = loop {
        let handle = machine.journal.start(2).unwrap();
        if handle.tid() != first {
            break handle;
        }
        drop(handle);
        thread::yield_now();
    };
    handle.modify(&machine.cache.find(5).unwrap(), |bytes| fill(bytes, 2)).unwrap();
    handle.revoke(6, None).unwrap();
    assert!(!machine.journal.is_over(first));
    machine.disk.hold(false);
    machine.journal.wait(first).unwrap();
    let after = SMALL.open(Disk::new(machine.disk.image()), CHECKSUMS);
    assert_eq!((after.number(5), after.number(6)), (1, 1));
    handle.set_sync();
    handle.stop().unwrap();
    let after = SMALL.open(Disk::new(machine.disk.image()), CHECKSUMS);
    assert_eq!((after.number(5), after.number(6)), (2, 0));
}

#[test]
fn frozen_means_an_empty_log_and_no_new_transaction() {
    let machine = SMALL.open(Disk::new(SMALL.image(1)).threaded(4), CHECKSUMS);
    let mut handle = machine.journal.start(1).unwrap();
    handle.modify(&machine.read(5), |bytes| fill(bytes, 5)).unwrap();
    drop(handle);
    machine.journal.freeze().unwrap();
    assert_eq!(number(&machine.disk.image()[5 * 1024..]), 5);
    let starts = thread::spawn({
        let (journal, cache) = (machine.journal.clone(), machine.cache.clone());
        move || {
            let mut handle = journal.start(1).unwrap();
            handle.modify(&cache.read(5).unwrap(), |bytes| fill(bytes, 6)).unwrap();
            handle.set_sync();
            handle.stop().unwrap();
        }
    });
    thread::sleep(std::time::Duration::from_millis(20));
    assert!(!starts.is_finished() && machine.journal.running().is_none());
    machine.journal.thaw();
    starts.join().unwrap();
    assert_eq!(machine.number(5), 6);
}

#[test]
fn an_old_transaction_is_committed_without_being_asked() {
    let machine = SMALL.open(Disk::new(SMALL.image(1)).threaded(4), PLAIN);
    let handle = machine.journal.start(1).unwrap();
    let tid = handle.tid();
    drop(handle);
    machine.journal.set_interval_ms(10);
    machine.journal.wait(tid).unwrap();
}

#[test]
fn without_a_journal_buffers_become_dirty() {
    let disk = Arc::new(Disk::zeroed(64));
    let cache = buffer::BufferCache::new(disk.clone(), 1024).unwrap();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut handle = Handle::without_journal(&cache);
    assert!(!handle.has_journal() && handle.extend(1000) == Ok(true));
    handle.modify(&cache.read(1).unwrap(), |bytes| fill(bytes, 1)).unwrap();
    handle.create(&cache.get(2).unwrap(), |bytes| fill(bytes, 2)).unwrap();
    handle.create(&cache.get(3).unwrap(), |bytes| fill(bytes, 3)).unwrap();
    handle.revoke(3, None).unwrap();
    handle.on_commit(Box::new(Note(notes.clone(), 1))).unwrap();
    handle.stop().unwrap();
    assert_eq!(*notes.lock().unwrap(), [(1, Ok(()))]);
    cache.write_back().unwrap();
    let image = disk.image();
    assert_eq!([1, 2, 3].map(|block| number(&image[block * 1024..])), [1, 2, 0]);
}

#[test]
fn a_read_only_device() {
    let image = SMALL.image(1);
    let machine = SMALL.open(Disk::new(image).read_only(), CHECKSUMS);
    assert_eq!(machine.journal.start(1).err(), Some(Errno::EROFS));
    let machine = SMALL.open(Disk::new(SMALL.image(1)), CHECKSUMS);
    let mut handle = machine.journal.start(1).unwrap();
    handle.modify(&machine.read(5), |bytes| fill(bytes, 5)).unwrap();
    handle.set_sync();
    handle.stop().unwrap();
    let disk = Disk::new(machine.disk.image()).read_only();
    assert_eq!(SMALL.try_open(disk, CHECKSUMS).err(), Some(Errno::EROFS));
}

#[test]
fn opening_and_closing_loses_no_memory() {
    let layout = Layout { block_size: 4096, fs: 64, len: 64 };
    let image = layout.image(1);
    let free_after = |rounds| {
        for _ in 0..rounds {
            let machine = layout.open(Disk::new(image.clone()), CHECKSUMS);
            let mut handle = machine.journal.start(8).unwrap();
            for block in 10..18 {
                handle.modify(&machine.read(block), |bytes| fill(bytes, block)).unwrap();
            }
            drop(handle);
        }
        sched::rcu::barrier();
        mm::stats::meminfo().free
    };
    let before = free_after(10);
    // Other tests use some memory meanwhile; two pages for each round would be noticed.
    let after = free_after(1000);
    assert!(before < after + 2000, "{before} pages were free, {after} are");
}
