use super::*;
use crate::bio::SECTOR_SIZE;
use crate::driver::Shape;
use crate::elevator::NAMES;
use crate::limits::Features;
use crate::testing::{Machine, Manners, Random, Waiter, bio, page};
use std::sync::atomic::AtomicUsize;
use std::thread;

const SECTORS: u64 = 1024;

fn machine(depth: u32, queues: usize, limits: Limits, manners: Manners) -> Machine {
    Machine::new(SECTORS, Shape { queues, depth, timeout_ms: 50 }, limits, manners)
}

/// Changes the scheduler. `bfq` waits for the next read of a thread, which these tests need not do for long.
fn set_scheduler(machine: &Machine, name: &str) {
    machine.queue.set_scheduler(name).unwrap();
    if name == "bfq" {
        machine.queue.set_attribute("slice_idle_us", 200).unwrap();
    }
}

fn calm(seed: u64) -> Manners {
    Manners { room: 1000, seed, ..Manners::default() }
}

/// Random writes, reads and zeroing from one thread, each checked against an array.
fn as_an_array(machine: &Machine, seed: u64, steps: usize) {
    let mut random = Random(seed | 1);
    let waiter = Waiter::new();
    let mut model = vec![0u8; SECTORS as usize];
    let folio = Pages::new();
    for step in 0..steps {
        let sectors = 1 + random.below(40);
        let sector = random.below(SECTORS - sectors);
        let range = sector as usize..(sector + sectors) as usize;
        match random.below(5) {
            0 | 1 => {
                let byte = (step % 251) as u8 + 1;
                let bio = folio.bio(Op::Write, sector, sectors, byte, &mut random, &waiter);
                let count = bio.segments().len();
                let back = machine.run(bio, &waiter);
                assert!(back.status.is_ok());
                assert_eq!(
                    (back.sector, back.sectors(), back.segments().len()),
                    (sector, sectors, count),
                    "put together again"
                );
                model[range].fill(byte);
            }
            2 => {
                let bio = Bio::without_data(Op::WriteZeroes, OpFlags::empty(), sector, sectors, waiter.end())
                    .unwrap();
                assert!(machine.run(bio, &waiter).status.is_ok());
                model[range].fill(0);
            }
            _ => {
                let bio = folio.bio(Op::Read, sector, sectors, 0xff, &mut random, &waiter);
                let back = machine.run(bio, &waiter);
                assert!(back.status.is_ok());
                let mut at = sector * SECTOR_SIZE;
                for segment in back.segments() {
                    let mut bytes = vec![0; segment.len() as usize];
                    segment.copy_out(0, &mut bytes).unwrap();
                    for byte in bytes {
                        assert_eq!(byte, model[(at / SECTOR_SIZE) as usize]);
                        at += 1;
                    }
                }
                assert_eq!(at, (sector + sectors) * SECTOR_SIZE);
            }
        }
    }
}

/// Pages to make bios of.
struct Pages(Vec<mm::Folio>);

impl Pages {
    fn new() -> Self {
        Self((0..8).map(|_| page(0)).collect())
    }

    /// A bio over pieces of pages, of odd sizes.
    fn bio(
        &self,
        op: Op,
        sector: u64,
        sectors: u64,
        byte: u8,
        random: &mut Random,
        waiter: &Arc<Waiter>,
    ) -> Chained<Bio> {
        let mut bio = Bio::new(op, OpFlags::empty(), sector, 4, waiter.end()).unwrap();
        let mut left = (sectors * SECTOR_SIZE) as usize;
        let mut next = 0;
        while left > 0 {
            let offset = random.below(7) as usize * 512;
            let len = left.min(4096 - offset).min(512 * (1 + random.below(8) as usize));
            let folio = &self.0[next % self.0.len()];
            next += 1;
            // Pieces of one bio do not overlap: each page is used once.
            if next > self.0.len() {
                bio.push(&page(byte), 0, left.min(4096)).unwrap();
                left -= left.min(4096);
                continue;
            }
            folio.fill(0, 4096, byte).unwrap();
            bio.push(folio, offset, len).unwrap();
            left -= len;
        }
        bio
    }
}

fn small() -> Limits {
    Limits { max_sectors: 8, max_segments: 3, max_write_zeroes_sectors: 16, ..Limits::default() }
}

#[test]
fn a_disk_is_an_array() {
    let shapes = [(1, 1, false), (2, 3, false), (1, 2, false), (3, 64, true)];
    for ((queues, depth, inline), scheduler) in
        NAMES.into_iter().flat_map(|name| shapes.map(|shape| (shape, name)))
    {
        let machine = machine(depth, queues, small(), Manners { inline, ..calm(depth.into()) });
        set_scheduler(&machine, scheduler);
        as_an_array(&machine, 7 * u64::from(depth), 400);
        settle(&machine);
    }
}

#[test]
fn chunks_are_kept() {
    let limits = Limits { chunk_sectors: 16, ..small() };
    as_an_array(&machine(4, 1, limits, calm(3)), 99, 300);
}

/// Submitters hear of the end a moment before the queue has done with the request.
fn settle(machine: &Machine) {
    machine.queue.freeze();
    machine.queue.unfreeze();
    while machine.queue.in_flight() != 0 {
        thread::yield_now();
    }
}

/// Threads that each write and read a part of the disk of their own, with plugs, flushes and FUA in between.
fn stress(machine: &Machine, threads: u64, rounds: u64, seed: u64) {
    let lost = AtomicUsize::new(0);
    thread::scope(|scope| {
        for id in 0..threads {
            let (queue, disk) = (machine.queue.clone(), machine.disk.clone());
            let lost = &lost;
            scope.spawn(move || {
                let mut random = Random(seed + id * 77 + 1);
                let waiter = Waiter::new();
                let share = SECTORS / threads;
                let pages: Vec<_> = (0..16).map(|_| page(0)).collect();
                for round in 0..rounds {
                    let byte = (round % 250) as u8 + 1;
                    let count = 1 + random.below(16);
                    let first = id * share + random.below(share - count);
                    let mut plug = (random.below(2) == 0).then(crate::Plug::new);
                    for n in 0..count {
                        pages[n as usize].fill(0, 512, byte).unwrap();
                        let bio = bio(Op::Write, OpFlags::empty(), first + n, 1, &pages[n as usize], &waiter);
                        queue.submit(bio, plug.as_mut());
                    }
                    drop(plug);
                    let failed = (0..count).filter(|_| !waiter.take().status.is_ok()).count();
                    lost.fetch_add(failed, Ordering::SeqCst);
                    // Durable by a flush, or by a write with FUA behind a flush.
                    let flush = match random.below(4) {
                        0 => Bio::without_data(Op::Flush, OpFlags::PREFLUSH, 0, 0, waiter.end()).unwrap(),
                        1 => bio(Op::Write, OpFlags::PREFLUSH | OpFlags::FUA, first, 1, &pages[0], &waiter),
                        _ => bio(Op::Read, OpFlags::empty(), first, 1, &pages[0], &waiter),
                    };
                    let (op, durable) = (flush.op, flush.flags.contains(OpFlags::PREFLUSH));
                    queue.submit(flush, None);
                    let back = waiter.take();
                    if !back.status.is_ok() {
                        lost.fetch_add(1, Ordering::SeqCst);
                    } else if failed == 0 {
                        if op == Op::Read {
                            let mut bytes = [0; 512];
                            back.segments()[0].copy_out(0, &mut bytes).unwrap();
                            assert_eq!(bytes, [byte; 512]);
                        }
                        if durable {
                            for n in 0..count {
                                assert_eq!(disk.durable(first + n), [byte; 512], "acknowledged, but lost");
                            }
                        }
                    }
                }
            });
        }
    });
    settle(machine);
    let forgotten = machine.disk.forgotten.load(Ordering::SeqCst);
    let lost = lost.load(Ordering::SeqCst);
    assert!(lost >= forgotten.min(1) && (forgotten > 0 || lost == 0), "{lost} lost, {forgotten} forgotten");
}

fn cached(fua: bool) -> Limits {
    let mut limits = Limits { max_write_zeroes_sectors: 16, ..Limits::default() };
    limits.features.insert(Features::WRITE_CACHE);
    limits.features.set(Features::FUA, fua);
    limits
}

#[test]
fn nothing_is_lost_without_a_scheduler() {
    for (queues, depth, room) in [(1, 1, 1), (1, 4, 2), (2, 8, 1000), (4, 64, 20)] {
        stress(
            &machine(depth, queues, cached(depth > 4), Manners { room, ..calm(depth.into()) }),
            6,
            150,
            depth.into(),
        );
    }
}

#[test]
fn nothing_is_lost_with_a_scheduler() {
    let shapes = [(1, 1, 1), (1, 4, 2), (2, 8, 1000), (4, 64, 20)];
    for ((queues, depth, room), scheduler) in
        NAMES[1..].iter().flat_map(|name| shapes.map(|shape| (shape, name)))
    {
        let machine = machine(depth, queues, cached(depth > 4), Manners { room, ..calm(depth.into()) });
        set_scheduler(&machine, scheduler);
        stress(&machine, 6, 150, depth.into());
    }
}

#[test]
fn nothing_is_lost_by_a_driver_that_does_all_at_once() {
    let machine = machine(4, 2, cached(false), Manners { inline: true, ..calm(1) });
    for scheduler in NAMES {
        set_scheduler(&machine, scheduler);
        stress(&machine, 6, 150, 5);
    }
}

#[test]
fn a_driver_without_room_is_asked_again() {
    for scheduler in NAMES {
        let machine = machine(8, 2, cached(true), Manners { refuses: 3, ..calm(9) });
        set_scheduler(&machine, scheduler);
        stress(&machine, 4, 60, 11);
    }
}

#[test]
fn what_the_device_forgets_times_out() {
    for scheduler in NAMES {
        let machine = machine(8, 1, cached(true), Manners { forgets: 40, ..calm(21) });
        set_scheduler(&machine, scheduler);
        stress(&machine, 4, 40, 31);
        assert!(machine.disk.forgotten.load(Ordering::SeqCst) > 0);
    }
}

#[test]
fn schedulers_change_under_load() {
    let machine = machine(8, 2, cached(false), calm(4));
    let stop = AtomicBool::new(false);
    let changes = thread::scope(|scope| {
        let changer = scope.spawn(|| {
            let mut changes = 0;
            while !stop.load(Ordering::SeqCst) {
                set_scheduler(&machine, NAMES[(changes + 1) % NAMES.len()]);
                machine.queue.update_limits(|limits| limits.max_sectors = 8 + changes as u32 % 64).unwrap();
                changes += 1;
            }
            changes
        });
        stress(&machine, 5, 200, 77);
        stop.store(true, Ordering::SeqCst);
        changer.join().unwrap()
    });
    assert!(changes > 2);
    assert_eq!(machine.queue.set_scheduler("nonsense").err(), Some(Errno::EINVAL));
}

#[test]
fn flushes_are_shared() {
    let machine = machine(32, 1, cached(false), calm(8));
    let (waiter, folio) = (Waiter::new(), page(1));
    machine.disk.hold.store(true, Ordering::SeqCst);
    for sector in 0..16 {
        machine.queue.submit(bio(Op::Write, OpFlags::FUA, sector, 1, &folio, &waiter), None);
    }
    machine.disk.hold.store(false, Ordering::SeqCst);
    for _ in 0..16 {
        assert!(waiter.take().status.is_ok());
    }
    let flushes = machine.disk.flushes.load(Ordering::SeqCst);
    assert!((1..16).contains(&flushes), "{flushes}");
    for sector in 0..16 {
        assert_eq!(machine.disk.durable(sector), [1; 512]);
    }
}

#[test]
fn a_plug_joins_neighbours() {
    let machine = machine(32, 1, Limits::default(), calm(8));
    let waiter = Waiter::new();
    let pages: Vec<_> = (0..16).map(page).collect();
    let mut plug = crate::Plug::new();
    for (n, page) in pages.iter().enumerate() {
        machine.queue.submit(bio(Op::Write, OpFlags::empty(), n as u64, 1, page, &waiter), Some(&mut plug));
    }
    assert_eq!(machine.disk.requests.load(Ordering::SeqCst), 0);
    plug.finish();
    for _ in 0..16 {
        assert!(waiter.take().status.is_ok());
    }
    assert_eq!(machine.disk.requests.load(Ordering::SeqCst), 1);
}

#[test]
fn a_scheduler_hands_over_as_many_as_there_is_room_for() {
    let machine = machine(8, 1, Limits::default(), calm(8));
    machine.queue.set_scheduler("mq-deadline").unwrap();
    let (waiter, folio) = (Waiter::new(), page(1));
    machine.disk.hold.store(true, Ordering::SeqCst);
    // With gaps: no two are joined.
    for n in (0..8).chain((8..24).map(|n| 8 + n * 5 % 16)) {
        machine.queue.submit(bio(Op::Write, OpFlags::empty(), n * 4, 1, &folio, &waiter), None);
    }
    // Eight went one by one as they came; the rest waits for tags.
    assert_eq!(machine.disk.batches.load(Ordering::SeqCst), 8);
    machine.disk.hold.store(false, Ordering::SeqCst);
    for _ in 0..24 {
        assert!(waiter.take().status.is_ok());
    }
    // The driver was told as often as it was called.
    settle(&machine);
    let sizes = machine.queue.dispatch_batches(0).unwrap();
    assert_eq!(sizes.iter().sum::<u64>(), machine.disk.batches.load(Ordering::SeqCst) as u64);
    assert!(sizes[0] == 0 && sizes[1] >= 8 && sizes[5..] == [0, 0]);
    assert_eq!(machine.queue.dispatch_batches(1), None);
    // In the order of sectors.
    let order = machine.disk.order.lock().unwrap().clone();
    assert!(order.is_sorted_by_key(|(_, sector)| *sector), "{order:?}");
}

#[test]
fn batches_may_be_turned_off() {
    let machine = machine(8, 1, Limits::default(), calm(8));
    machine.queue.set_scheduler("mq-deadline").unwrap();
    assert_eq!(machine.queue.set_sched_batch(0), Err(Errno::EINVAL));
    machine.queue.set_sched_batch(1).unwrap();
    let (waiter, folio) = (Waiter::new(), page(1));
    machine.disk.hold.store(true, Ordering::SeqCst);
    for n in 0..24 {
        machine.queue.submit(bio(Op::Write, OpFlags::empty(), n * 4, 1, &folio, &waiter), None);
    }
    machine.disk.hold.store(false, Ordering::SeqCst);
    (0..24).for_each(|_| assert!(waiter.take().status.is_ok()));
    settle(&machine);
    assert_eq!(machine.queue.dispatch_batches(0), Some([0, 24, 0, 0, 0, 0, 0]));
}

/// Linux gives the data to the scheduler as well.
#[test]
fn the_data_of_a_write_with_flushes_has_its_priority() {
    for flags in [OpFlags::FUA, OpFlags::PREFLUSH, OpFlags::FUA | OpFlags::PREFLUSH] {
        let machine = machine(1, 1, cached(false), calm(8));
        machine.queue.set_scheduler("mq-deadline").unwrap();
        let (waiter, folio) = (Waiter::new(), page(1));
        let submit = |flags, sector, class: u16| {
            let mut bio = bio(Op::Write, flags, sector, 1, &folio, &waiter);
            bio.ioprio = class << 13;
            machine.queue.submit(bio, None);
        };
        // One is under way; then the other priorities' turn comes in their order.
        machine.disk.hold.store(true, Ordering::SeqCst);
        submit(OpFlags::empty(), 0, 1);
        submit(flags, 8, 3);
        submit(OpFlags::empty(), 16, 2);
        submit(OpFlags::empty(), 24, 1);
        machine.disk.hold.store(false, Ordering::SeqCst);
        (0..4).for_each(|_| assert!(waiter.take().status.is_ok()));
        let order = machine.disk.order.lock().unwrap().clone();
        let data: Vec<u64> =
            order.iter().filter(|(op, _)| *op == Op::Write).map(|(_, sector)| *sector).collect();
        assert_eq!(data, [0, 24, 16, 8], "{flags:?} {order:?}");
        settle(&machine);
    }
}

/// Those that nobody waits for leave something to others.
#[test]
fn writes_in_the_background_do_not_take_all_requests() {
    let machine = machine(4, 1, Limits::default(), calm(8));
    machine.queue.set_scheduler("kyber").unwrap();
    let (waiter, folio) = (Waiter::new(), page(1));
    let submit = |op, flags, sector| machine.queue.submit(bio(op, flags, sector, 1, &folio, &waiter), None);
    machine.disk.hold.store(true, Ordering::SeqCst);
    (0..250).for_each(|n| submit(Op::Write, OpFlags::NOWAIT, n * 4));
    let refused = 250 - 192;
    for _ in 0..refused {
        assert_eq!(waiter.take().status, Status::Again);
    }
    submit(Op::Read, OpFlags::NOWAIT, 4);
    submit(Op::Write, OpFlags::NOWAIT | OpFlags::SYNC, 8);
    thread::scope(|scope| {
        let waits = scope.spawn(|| submit(Op::Write, OpFlags::empty(), 12));
        thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waits.is_finished());
        machine.disk.hold.store(false, Ordering::SeqCst);
        waits.join().unwrap();
    });
    (0..192 + 3).for_each(|_| assert!(waiter.take().status.is_ok()));
    settle(&machine);
}

#[test]
fn what_cannot_be_done_comes_back() {
    let machine = machine(2, 1, Limits::default(), calm(1));
    let waiter = Waiter::new();
    let folio = page(0);
    let run = |op, flags, sectors| {
        let bio = Bio::without_data(op, flags, 0, sectors, waiter.end()).unwrap();
        machine.run(bio, &waiter).status
    };
    assert_eq!(run(Op::Discard, OpFlags::empty(), 8), Status::NotSupported);
    assert_eq!(run(Op::WriteZeroes, OpFlags::empty(), 8), Status::NotSupported);
    // Without a cache there is nothing to flush.
    assert_eq!(run(Op::Flush, OpFlags::PREFLUSH, 0), Status::Ok);
    assert_eq!(machine.disk.flushes.load(Ordering::SeqCst), 0);
    // Nobody waits who does not want to.
    machine.disk.hold.store(true, Ordering::SeqCst);
    let submit = || machine.queue.submit(bio(Op::Read, OpFlags::NOWAIT, 0, 1, &folio, &waiter), None);
    (0..3).for_each(|_| submit());
    assert_eq!(waiter.take().status, Status::Again);
    machine.disk.hold.store(false, Ordering::SeqCst);
    assert!(waiter.take().status.is_ok() && waiter.take().status.is_ok());
    machine.queue.kill();
    submit();
    assert_eq!(waiter.take().status, Status::Offline);
}

#[test]
fn memory_in_too_many_pieces() {
    let limits = Limits { max_segments: 1, logical_block_size: 4096, ..Limits::default() };
    let machine = machine(2, 1, limits, calm(1));
    let waiter = Waiter::new();
    let pages = [page(1), page(2), page(3)];
    let mut bio = Bio::new(Op::Write, OpFlags::empty(), 0, 8, waiter.end()).unwrap();
    for n in 0..8 {
        bio.push(&pages[n % 3], n / 3 * 1024, 512).unwrap();
    }
    let back = machine.run(bio, &waiter);
    assert_eq!((back.status, back.segments().len()), (Status::IoError, 8));
}

#[test]
fn a_queue_may_go_while_its_work_is_queued() {
    for round in 0..50 {
        let machine = machine(2, 1, cached(false), Manners { refuses: 2, ..calm(round + 1) });
        let (waiter, folio) = (Waiter::new(), page(0));
        let back = machine.run(bio(Op::Write, OpFlags::FUA, 0, 1, &folio, &waiter), &waiter);
        assert!(back.status.is_ok());
    }
}

#[test]
fn what_a_reset_loses_is_done_again() {
    for (scheduler, depth) in NAMES.into_iter().flat_map(|name| [(name, 1), (name, 8)]) {
        let machine = machine(depth, 1, cached(false), calm(depth.into()));
        set_scheduler(&machine, scheduler);
        let stop = AtomicBool::new(false);
        let lost = thread::scope(|scope| {
            let resetter = scope.spawn(|| {
                let mut lost = 0;
                while !stop.load(Ordering::SeqCst) {
                    lost += machine.disk.reset(&machine.queue);
                    thread::sleep(std::time::Duration::from_micros(300));
                }
                lost
            });
            stress(&machine, 4, 60, u64::from(depth) + 50);
            stop.store(true, Ordering::SeqCst);
            resetter.join().unwrap()
        });
        assert!(lost > 0);
    }
}

#[test]
fn a_request_with_a_flush_ahead_of_it_can_be_done_again() {
    let machine = machine(1, 1, cached(false), calm(1));
    machine.queue.set_scheduler("mq-deadline").unwrap();
    let (waiter, folio) = (Waiter::new(), page(7));
    machine.disk.hold.store(true, Ordering::SeqCst);
    machine.queue.submit(bio(Op::Write, OpFlags::empty(), 0, 1, &folio, &waiter), None);
    machine.queue.submit(bio(Op::Write, OpFlags::PREFLUSH, 8, 1, &folio, &waiter), None);
    assert_eq!(machine.disk.reset(&machine.queue), 1);
    machine.disk.hold.store(false, Ordering::SeqCst);
    assert!(waiter.take().status.is_ok() && waiter.take().status.is_ok());
}

#[test]
fn a_bio_that_waited_goes_by_the_limits_of_its_time() {
    let machine = machine(4, 1, Limits { max_sectors: 64, ..Limits::default() }, calm(1));
    let (waiter, folio) = (Waiter::new(), page(7));
    machine.queue.freeze();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bio = Bio::new(Op::Write, OpFlags::empty(), 0, 8, waiter.end()).unwrap();
            for _ in 0..8 {
                bio.push(&page(3), 0, 4096).unwrap();
            }
            machine.queue.submit(bio, None);
        });
        thread::sleep(std::time::Duration::from_millis(20));
        // The driver checks what it gets.
        machine.queue.update_limits(|limits| limits.max_sectors = 8).unwrap();
        machine.queue.unfreeze();
    });
    assert!(waiter.take().status.is_ok());
    assert_eq!(machine.disk.requests.load(Ordering::SeqCst), 8);
    machine.queue.submit(bio(Op::Read, OpFlags::empty(), 0, 1, &folio, &waiter), None);
    assert!(waiter.take().status.is_ok());
}

#[test]
fn a_driver_that_does_nothing_about_a_time_out_is_asked_again() {
    let machine = machine(4, 1, Limits::default(), Manners { forgets: 1, ..calm(1) });
    machine.disk.late.store(true, Ordering::SeqCst);
    let (waiter, folio) = (Waiter::new(), page(7));
    machine.queue.submit(bio(Op::Read, OpFlags::empty(), 0, 1, &folio, &waiter), None);
    while machine.disk.asked.load(Ordering::SeqCst) < 3 {
        thread::yield_now();
    }
    machine.disk.late.store(false, Ordering::SeqCst);
    assert_eq!(waiter.take().status, Status::Timeout);
}

#[test]
fn what_waits_for_a_device_that_is_gone_comes_back() {
    for scheduler in NAMES {
        let machine = machine(2, 1, cached(false), calm(1));
        set_scheduler(&machine, scheduler);
        machine.disk.shut.store(true, Ordering::SeqCst);
        let (waiter, folio) = (Waiter::new(), page(7));
        thread::scope(|scope| {
            for sector in 0..6 {
                let (machine, waiter, folio) = (&machine, &waiter, &folio);
                scope.spawn(move || {
                    let flags =
                        if sector % 2 == 0 { OpFlags::FUA | OpFlags::PREFLUSH } else { OpFlags::empty() };
                    machine.queue.submit(bio(Op::Write, flags, sector * 8, 1, folio, waiter), None);
                });
            }
            thread::sleep(std::time::Duration::from_millis(20));
            machine.queue.kill();
        });
        for _ in 0..6 {
            assert_eq!(waiter.take().status, Status::Offline);
        }
    }
}

#[test]
fn nothing_is_lost_with_the_queue() {
    let waiter = Waiter::new();
    let machine = machine(2, 1, cached(false), calm(1));
    machine.disk.shut.store(true, Ordering::SeqCst);
    machine.queue.submit(bio(Op::Write, OpFlags::empty(), 0, 1, &page(7), &waiter), None);
    drop(machine);
    assert!(!waiter.take().status.is_ok());
}

#[test]
fn hostile_numbers() {
    let limits = Limits { logical_block_size: 4096, max_discard_sectors: 1 << 20, ..Limits::default() };
    let machine = machine(2, 1, limits, calm(1));
    machine.queue.set_scheduler("mq-deadline").unwrap();
    let waiter = Waiter::new();
    assert_eq!(
        Bio::without_data(Op::Discard, OpFlags::empty(), 0, 1 << 55, waiter.end()).err(),
        Some(Errno::EINVAL)
    );
    for (op, sector, sectors) in [
        (Op::Discard, u64::MAX - 7, 8),
        (Op::Discard, u64::MAX - 3, 4),
        (Op::Discard, 0, 4),
        (Op::Discard, 4, 8),
        (Op::Flush, 0, 8),
    ] {
        let bio = Bio::without_data(op, OpFlags::empty(), sector, sectors, waiter.end()).unwrap();
        let status = machine.run(bio, &waiter).status;
        let nothing_to_flush = op == Op::Flush;
        assert_eq!(
            status,
            if nothing_to_flush { Status::Ok } else { Status::IoError },
            "{op:?} {sector}+{sectors}"
        );
    }
}

#[test]
fn many_parts() {
    let limits = Limits { max_discard_sectors: 1, ..Limits::default() };
    let machine = machine(32, 1, limits, Manners { inline: true, ..calm(1) });
    let waiter = Waiter::new();
    let bio = Bio::without_data(Op::Discard, OpFlags::empty(), 0, 1000, waiter.end()).unwrap();
    let back = machine.run(bio, &waiter);
    assert_eq!((back.status, back.sector, back.sectors()), (Status::Ok, 0, 1000));
}
