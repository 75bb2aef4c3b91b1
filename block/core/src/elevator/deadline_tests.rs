use super::*;
use crate::bio::{End, OpFlags};
use proptest::prelude::*;

const READ_CLASS: u16 = 0;
const IDLE_CLASS: u16 = 3 << 13;
const RT_CLASS: u16 = 1 << 13;

fn scheduler() -> Arc<Deadline> {
    mm::testing::init();
    Deadline::new(Place::for_test(1, 64, false)).unwrap()
}

fn request(slot: u32, op: Op, sector: u64, ioprio: u16, now: u64) -> Chained<Request> {
    let mut bio = Bio::without_data(op, OpFlags::empty(), sector, 8, End::Nobody).unwrap();
    bio.ioprio = ioprio;
    let mut request = Chained::try_new(Request::empty(slot)).unwrap();
    request.fill(bio, 1);
    request.queued_ns = now;
    request
}

fn insert(scheduler: &Deadline, request: Chained<Request>) {
    let mut one = Fifo::new();
    one.push_back(request);
    scheduler.insert(&mut one);
}

/// Up to `most` that go together, none of which is over.
fn going(scheduler: &Deadline, most: usize, now: u64) -> Vec<Chained<Request>> {
    let mut out = Fifo::new();
    scheduler.dispatch(0, &mut out, most, now);
    core::iter::from_fn(|| out.pop_front()).collect()
}

fn slots(requests: &[Chained<Request>]) -> Vec<u32> {
    requests.iter().map(|request| request.slot()).collect()
}

/// The order in which up to `most` go, each of which is over before the next one goes.
fn order(scheduler: &Deadline, most: usize, now: u64) -> Vec<u32> {
    let one = |_| {
        let mut gone = going(scheduler, 1, now).pop()?;
        scheduler.completed(&gone);
        gone.finish_bios(crate::Status::Ok);
        Some(gone.slot())
    };
    (0..most).map_while(one).collect()
}

#[test]
fn by_sector_from_the_last_one_on() {
    let scheduler = scheduler();
    for (slot, sector) in [(0, 100), (1, 50), (2, 300), (3, 200)] {
        insert(&scheduler, request(slot, Op::Read, sector, READ_CLASS, 0));
    }
    assert_eq!(order(&scheduler, 2, 0), [1, 0]);
    insert(&scheduler, request(4, Op::Read, 60, READ_CLASS, 0));
    assert_eq!(order(&scheduler, 9, 0), [3, 2, 4]);
    assert!(!scheduler.has_work(0));
    assert_eq!(order(&scheduler, 9, 0), []);
}

#[test]
fn the_oldest_goes_when_it_is_overdue() {
    let scheduler = scheduler();
    scheduler.set("fifo_batch", 1).unwrap();
    insert(&scheduler, request(0, Op::Read, 1000, READ_CLASS, 0));
    for slot in 1..4 {
        insert(&scheduler, request(slot, Op::Read, u64::from(slot) * 10, READ_CLASS, 400 * MS));
    }
    assert_eq!(order(&scheduler, 1, 400 * MS), [1]);
    assert_eq!(order(&scheduler, 1, 501 * MS), [0]);
    // From there on upwards there is nothing: the oldest.
    assert_eq!(order(&scheduler, 9, 501 * MS), [2, 3]);
}

#[test]
fn reads_first_but_writes_in_the_end() {
    let scheduler = scheduler();
    scheduler.set("fifo_batch", 1).unwrap();
    for slot in 0..6 {
        insert(&scheduler, request(slot, Op::Read, u64::from(slot) * 10, READ_CLASS, 0));
        insert(&scheduler, request(slot + 10, Op::Write, u64::from(slot) * 10, READ_CLASS, 0));
    }
    assert_eq!(order(&scheduler, 99, 0), [0, 1, 10, 2, 3, 11, 4, 5, 12, 13, 14, 15]);
}

#[test]
fn batches_stay_with_a_direction() {
    let scheduler = scheduler();
    scheduler.set("fifo_batch", 3).unwrap();
    for slot in 0..4 {
        insert(&scheduler, request(slot + 10, Op::Write, u64::from(slot) * 10, READ_CLASS, 0));
    }
    assert_eq!(order(&scheduler, 1, 0), [10]);
    insert(&scheduler, request(0, Op::Read, 5, READ_CLASS, 0));
    assert_eq!(order(&scheduler, 99, 0), [11, 12, 0, 13]);
}

#[test]
fn priorities_and_aging() {
    let scheduler = scheduler();
    insert(&scheduler, request(0, Op::Read, 10, IDLE_CLASS, 0));
    insert(&scheduler, request(1, Op::Read, 20, READ_CLASS, 0));
    insert(&scheduler, request(2, Op::Write, 30, RT_CLASS, 0));
    insert(&scheduler, request(3, Op::Read, 40, RT_CLASS, 0));
    assert_eq!(order(&scheduler, 1, 0), [3]);
    // The idle one has waited for ten seconds.
    assert_eq!(order(&scheduler, 1, 10_000 * MS), [1]);
    assert_eq!(order(&scheduler, 1, 10_000 * MS), [0]);
    assert_eq!(order(&scheduler, 9, 10_000 * MS), [2]);
}

#[test]
fn lower_priorities_wait_for_what_is_under_way() {
    let scheduler = scheduler();
    for (slot, class) in [(0, IDLE_CLASS), (1, IDLE_CLASS), (2, READ_CLASS), (3, RT_CLASS), (4, RT_CLASS)] {
        insert(&scheduler, request(slot, Op::Read, u64::from(slot) * 10, class, 0));
    }
    let urgent = going(&scheduler, 9, 0);
    assert_eq!(slots(&urgent), [3, 4]);
    assert!(scheduler.has_work(0) && going(&scheduler, 9, 0).is_empty());
    scheduler.completed(&urgent[0]);
    assert!(going(&scheduler, 9, 0).is_empty());
    assert_eq!(scheduler.kick.kicked.load(Ordering::SeqCst), 0);
    scheduler.completed(&urgent[1]);
    assert_eq!(scheduler.kick.kicked.load(Ordering::SeqCst), 1, "the last one has the others go");
    let normal = going(&scheduler, 9, 0);
    assert_eq!(slots(&normal), [2]);
    // Whoever has waited for ten seconds does not wait for that.
    assert!(going(&scheduler, 9, 9_999 * MS).is_empty());
    assert_eq!(slots(&going(&scheduler, 9, 10_000 * MS)), [0, 1]);
}

#[test]
fn what_has_waited_elsewhere_goes_first_in_its_priority() {
    let scheduler = scheduler();
    insert(&scheduler, request(0, Op::Write, 10, READ_CLASS, 0));
    insert(&scheduler, request(1, Op::Read, 20, RT_CLASS, 0));
    let mut first = Fifo::new();
    first.push_back(request(2, Op::Write, 500, READ_CLASS, 0));
    scheduler.insert_first(&mut first);
    assert_eq!(order(&scheduler, 9, 0), [1, 2, 0]);
}

#[test]
fn a_drained_scheduler_is_empty() {
    let scheduler = scheduler();
    let mut first = Fifo::new();
    first.push_back(request(0, Op::Write, 500, RT_CLASS, 0));
    scheduler.insert_first(&mut first);
    insert(&scheduler, request(1, Op::Read, 20, RT_CLASS, 0));
    insert(&scheduler, request(2, Op::Read, 20, IDLE_CLASS, 0));
    let mut all = Fifo::new();
    scheduler.drain(0, &mut all);
    assert_eq!((all.len(), scheduler.has_work(0)), (3, false));
    all.iter().for_each(|request| scheduler.completed(request));
    assert!((0..PRIORITIES).all(|priority| !scheduler.is_pending(priority)));
}

#[test]
fn writes_that_nobody_waits_for_may_be_limited() {
    let scheduler = scheduler();
    assert_eq!(scheduler.limit(Op::Write, OpFlags::empty()), None);
    scheduler.set("async_depth", 7).unwrap();
    assert_eq!(scheduler.limit(Op::Write, OpFlags::empty()), Some(Limit { gate: 0, depth: 7 }));
    assert_eq!(scheduler.limit(Op::Write, OpFlags::SYNC), None);
    assert_eq!(scheduler.limit(Op::Read, OpFlags::empty()), None);
}

#[test]
fn attributes() {
    let scheduler = scheduler();
    for (name, value) in ATTRIBUTES.iter().zip([500, 5000, 2, 1, 64, 16, 10_000]) {
        assert_eq!(scheduler.get(name), Ok(value));
        assert_eq!(scheduler.set(name, 1), Ok(()));
        assert_eq!(scheduler.get(name), Ok(1));
    }
    assert_eq!(scheduler.set("front_merges", 2), Err(Errno::EINVAL));
    assert_eq!(scheduler.set("read_expire", u64::MAX), Err(Errno::EINVAL));
    assert_eq!(scheduler.get("nothing"), Err(Errno::ENOENT));
}

proptest! {
    /// Whatever comes goes, once; neighbours are joined, and the orders stay right.
    #[test]
    fn all_that_comes_goes(steps in proptest::collection::vec((0u64..30, any::<bool>(), 0u16..4, 0usize..4), 1..80)) {
        let scheduler = scheduler();
        let limits = Limits { max_sectors: 64, max_discard_sectors: 64, ..Limits::default() }.validated().unwrap();
        let (mut free, mut waiting, mut sectors, mut out) = ((0..64).collect::<Vec<u32>>(), 0u64, 0u64, 0u64);
        let mut now = 0;
        for (at, discard, class, take) in steps {
            now += 50 * MS;
            let op = if discard { Op::Discard } else { Op::WriteZeroes };
            let mut bio = Bio::without_data(op, OpFlags::empty(), at * 8, 8, End::Nobody).unwrap();
            bio.ioprio = class << 13;
            sectors += 8;
            match scheduler.merge(bio, 0, &limits) {
                Ok(()) => {}
                Err(bio) => {
                    let Some(slot) = free.pop() else { sectors -= 8; continue };
                    let mut request = Chained::try_new(Request::empty(slot)).unwrap();
                    request.fill(bio, 0);
                    request.queued_ns = now;
                    insert(&scheduler, request);
                    waiting += 1;
                }
            }
            for _ in 0..waiting.min(take as u64) {
                let Some(mut request) = going(&scheduler, 1, now).pop() else { panic!("nothing goes") };
                scheduler.completed(&request);
                waiting -= 1;
                out += u64::from(request.len()) / 512;
                prop_assert_eq!(request.bios().map(Bio::sectors).sum::<u64>(), u64::from(request.len()) / 512);
                free.push(request.slot());
                request.finish_bios(crate::Status::Ok);
            }
            prop_assert_eq!(scheduler.has_work(0), waiting > 0);
        }
        let mut list = Fifo::new();
        scheduler.drain(0, &mut list);
        out += list.iter().map(|request| u64::from(request.len()) / 512).sum::<u64>();
        prop_assert_eq!(out, sectors);
    }
}
