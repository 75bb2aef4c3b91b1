use alloc::sync::Arc;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec::Vec;

use mm::dma::{Coherent, Reach};
use proptest::prelude::*;

use super::identify::{self, Page};
use super::namespace::{MAX_TRANSFER, PerQueue, of_command};
use super::pair::Pair;
use super::regs::{Bells, COMPLETION_DWORDS, Command, Status, io};

const PAGE: u64 = 4096;

/// A device that answers when it is told to.
#[derive(Default)]
struct Device(Mutex<State>);

#[derive(Default)]
struct State {
    pair: Option<Arc<Pair>>,
    /// Commands that were seen.
    waiting: Vec<Command>,
    head: u16,
    /// Where the next completion goes, and its phase.
    tail: u16,
    inverted: bool,
    /// How far the driver has read.
    read: u16,
    bells: usize,
}

impl Bells for Device {
    fn submitted(&self, queue: u16, tail: u16) {
        let state = &mut *self.0.lock().unwrap();
        let pair = state.pair.clone().unwrap();
        assert_eq!(queue, pair.id());
        assert!(tail < pair.entries());
        state.bells += 1;
        while state.head != tail {
            state.waiting.push(pair.rings().0.read(state.head.into()).unwrap());
            state.head = (state.head + 1) % pair.entries();
        }
    }

    fn completed(&self, _: u16, head: u16) {
        self.0.lock().unwrap().read = head;
    }
}

impl Device {
    fn new(entries: u16) -> (Arc<Self>, Arc<Pair>) {
        mm::testing::init();
        let device = Arc::new(Self::default());
        let pair = Arc::new(Pair::new(3, entries, device.clone()).unwrap());
        pair.rewind();
        device.0.lock().unwrap().pair = Some(pair.clone());
        (device, pair)
    }

    /// Writes a completion.
    fn answer(&self, id: u16, status: u16, result: u32) {
        let state = &mut *self.0.lock().unwrap();
        let pair = state.pair.clone().unwrap();
        let ring = pair.rings().1;
        let first = usize::from(state.tail) * COMPLETION_DWORDS;
        ring.write(first, result);
        let phase = u32::from(!state.inverted);
        ring.write(first + 3, u32::from(status) << 17 | phase << 16 | u32::from(id));
        state.tail += 1;
        if state.tail == pair.entries() {
            (state.tail, state.inverted) = (0, !state.inverted);
        }
    }
}

#[test]
fn every_command_ends_once() {
    let (device, pair) = Device::new(5);
    assert!(pair.submit().is_none());
    pair.open(true);
    let mut id = 0;
    for round in 0..200_u16 {
        let count = round % 5;
        {
            let mut submission = pair.submit().unwrap();
            for _ in 0..count.min(4) {
                id += 1;
                submission.push(&Command { opcode: io::READ, id, ..Command::default() });
            }
        }
        let mut seen = std::mem::take(&mut device.0.lock().unwrap().waiting);
        // In the opposite order.
        while let Some(command) = seen.pop() {
            device.answer(command.id, 0, u32::from(command.id) * 2);
        }
        let mut ended = BTreeMap::new();
        pair.reap(|completion| {
            assert!(completion.status.is_ok());
            assert!(ended.insert(completion.id, completion.result).is_none());
        });
        let expected: BTreeMap<u16, u32> =
            (0..count.min(4)).map(|n| (id - n, u32::from(id - n) * 2)).collect();
        assert_eq!(ended, expected, "round {round}");
        let state = device.0.lock().unwrap();
        assert_eq!(state.read, state.tail);
    }
    // Once for each batch that had something.
    assert_eq!(device.0.lock().unwrap().bells, 160);
}

#[test]
fn more_completions_than_are_taken_at_once() {
    let (device, pair) = Device::new(64);
    for id in 0..63 {
        device.answer(id, 1, 0);
    }
    let mut ids = Vec::new();
    pair.reap(|completion| ids.push(completion.id));
    assert_eq!(ids, (0..63).collect::<Vec<_>>());
    pair.reap(|_| panic!("there is nothing"));
}

#[test]
fn a_closed_pair_takes_nothing() {
    let (device, pair) = Device::new(4);
    pair.open(true);
    pair.submit().unwrap().push(&Command::default());
    pair.open(false);
    assert!(pair.submit().is_none());
    device.answer(0, 0, 0);
    pair.rewind();
    pair.reap(|_| panic!("what came before is forgotten"));
}

#[test]
fn statuses() {
    let of = |code: u16, dnr: bool| Status::new(code << 1 | u16::from(dnr) << 15);
    assert!(of(0, false).is_ok() && of(0, false).block().is_ok());
    assert_eq!(of(0x281, false).block(), block::Status::Medium);
    assert_eq!(of(0x281, false).code(), 0x281);
    assert!(of(0x281, true).is_final() && !of(0x281, false).is_final());
    assert_eq!(of(0x02, true).block(), block::Status::NotSupported);
    assert_eq!(of(0x7ff, true).block(), block::Status::IoError);
    assert_eq!(of(0x371, false).block(), block::Status::Transport);
}

#[test]
fn ranges_of_discards() {
    mm::testing::init();
    let queue = PerQueue::new(4).unwrap();
    let at = queue.range(3, 0x1_2345_6789, 77).unwrap();
    assert_eq!(queue.entry(3, 0), (at, 77 << 32));
    assert_eq!(queue.entry(3, 1).1, 0x1_2345_6789);
    assert_eq!(of_command(5 << 10 | 1023), (5, 1023));
}

/// The pages that a device finds by the two pointers of a command.
fn pages_by(queue: &PerQueue, tag: u32, pointers: (u64, u64), len: u64) -> Vec<(u64, u64)> {
    let first = (PAGE - pointers.0 % PAGE).min(len);
    let mut pages = vec![(pointers.0, first)];
    let mut left = len - first;
    let rest = left.div_ceil(PAGE);
    for index in 0..rest as usize {
        let (list, entry) = queue.entry(tag, index);
        let at = if rest == 1 {
            pointers.1
        } else {
            assert_eq!(pointers.1, list);
            entry
        };
        pages.push((at, left.min(PAGE)));
        left -= left.min(PAGE);
    }
    pages
}

proptest! {
    #[test]
    fn lists_of_pages_cover_the_memory(start in 0..PAGE / 4, runs in prop::collection::vec(1..20_u64, 1..8), end in 1..=PAGE / 4) {
        mm::testing::init();
        let queue = PerQueue::new(2).unwrap();
        // Runs of pages in places of their own; the first begins and the last ends anywhere.
        let mut pieces: Vec<(u64, u32)> = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            let place = (index as u64 + 1) << 24;
            let skip = if index == 0 { start * 4 } else { 0 };
            let cut = if index + 1 == runs.len() { PAGE - end * 4 } else { 0 };
            prop_assume!(skip + cut < run * PAGE);
            pieces.push((place + skip, (run * PAGE - skip - cut) as u32));
        }
        let len: u64 = pieces.iter().map(|(_, len)| u64::from(*len)).sum();
        prop_assume!(len <= MAX_TRANSFER);
        let pointers = queue.pages(1, pieces.iter().copied()).unwrap();
        let mut expected = pieces.iter().copied();
        let mut piece = expected.next().unwrap();
        for (at, bytes) in pages_by(&queue, 1, pointers, len) {
            if piece.1 == 0 {
                piece = expected.next().unwrap();
            }
            prop_assert_eq!(at, piece.0);
            prop_assert!(bytes <= u64::from(piece.1));
            piece = (piece.0 + bytes, piece.1 - bytes as u32);
        }
        prop_assert_eq!((piece.1, expected.next()), (0, None));
    }

    #[test]
    fn nothing_that_a_controller_says_is_believed(bytes in prop::collection::vec(any::<u8>(), 640)) {
        mm::testing::init();
        let page = Coherent::<u8>::new(4096, Reach::Full).unwrap();
        for (at, byte) in bytes.iter().enumerate() {
            page.write(at, *byte);
        }
        let controller = identify::Controller::parse(&Page(&page), 12).unwrap();
        prop_assert!(controller.max_transfer >= PAGE);
        prop_assert!(controller.model.len() <= 40 && !controller.model.ends_with(' '));
        if let Ok(namespace) = identify::Namespace::parse(&Page(&page)) {
            prop_assert!((9..=12).contains(&namespace.shift));
            prop_assert!(namespace.blocks.checked_mul(1 << namespace.shift).is_some());
        }
        prop_assert!(identify::namespaces(&page).unwrap().len() <= 1024);
    }
}

#[test]
fn gaps_in_a_list_are_refused() {
    mm::testing::init();
    let queue = PerQueue::new(1).unwrap();
    let wrong = [(PAGE, 512), (2 * PAGE + 512, 512)];
    assert_eq!(queue.pages(0, wrong.into_iter()).unwrap_err(), block::Status::IoError);
    let long = [(PAGE, (MAX_TRANSFER + 2 * PAGE) as u32)];
    assert_eq!(queue.pages(0, long.into_iter()).unwrap_err(), block::Status::IoError);
}
