//! A disk for tests: memory with a volatile cache in front, that answers from a thread of its own, in any order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;

use collections::fifo::{Chained, Fifo};
use mm::{Folio, Gfp, Order};

use crate::bio::{SECTOR_SIZE, Segment};
use crate::driver::{Batch, Driver};
use crate::queue::Queue;
use crate::request::Request;
use crate::{Bio, End, EndIo, Limits, Op, OpFlags, Shape, Status};

/// A small generator (xorshift64*), so that tests can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
}

struct Command {
    hw: usize,
    tag: u32,
    op: Op,
    fua: bool,
    sector: u64,
    len: u64,
    memory: Vec<Segment>,
}

#[derive(Default)]
struct Content {
    /// What a read sees.
    cache: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// Sectors that differ.
    dirty: BTreeMap<u64, ()>,
}

/// How the disk behaves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manners {
    /// How many commands it takes at a time, of all queues.
    pub(crate) room: usize,
    /// Does everything at once, in `queue_rqs`.
    pub(crate) inline: bool,
    /// Of how many commands it forgets one; 0: none.
    pub(crate) forgets: u64,
    /// Of how many times it refuses to take anything, once; 0: never.
    pub(crate) refuses: u64,
    pub(crate) seed: u64,
}

pub(crate) struct Disk {
    manners: Manners,
    content: Mutex<Content>,
    commands: Mutex<Vec<Command>>,
    /// What is being executed: queue and tag.
    at_work: Mutex<Option<(usize, u32)>>,
    more: Condvar,
    random: Mutex<Random>,
    queue: OnceLock<Weak<Queue>>,
    stop: AtomicBool,
    pub(crate) flushes: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    pub(crate) batches: AtomicUsize,
    pub(crate) forgotten: AtomicUsize,
    pub(crate) last_batch: AtomicU64,
    /// Sectors in the order in which they came.
    pub(crate) order: Mutex<Vec<(Op, u64)>>,
    pub(crate) hold: AtomicBool,
    /// How often it was asked about requests without an answer, and whether it does nothing about that.
    pub(crate) asked: AtomicUsize,
    pub(crate) late: AtomicBool,
    /// Takes nothing.
    pub(crate) shut: AtomicBool,
}

/// A disk with its queue and its thread.
pub(crate) struct Machine {
    pub(crate) disk: Arc<Disk>,
    pub(crate) queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Machine {
    pub(crate) fn new(sectors: u64, shape: Shape, limits: Limits, manners: Manners) -> Self {
        mm::testing::init();
        let size = (sectors * SECTOR_SIZE) as usize;
        let content = Content { cache: vec![0; size], durable: vec![0; size], dirty: BTreeMap::new() };
        let disk = Arc::new(Disk {
            manners,
            content: Mutex::new(content),
            commands: Mutex::default(),
            at_work: Mutex::default(),
            more: Condvar::new(),
            random: Mutex::new(Random(manners.seed | 1)),
            queue: OnceLock::new(),
            stop: AtomicBool::new(false),
            flushes: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
            forgotten: AtomicUsize::new(0),
            last_batch: AtomicU64::new(0),
            order: Mutex::default(),
            hold: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            late: AtomicBool::new(false),
            shut: AtomicBool::new(false),
        });
        let queue = Queue::new(disk.clone(), shape, limits).unwrap();
        disk.queue.set(Arc::downgrade(&queue)).unwrap();
        let thread = std::thread::spawn({
            let disk = disk.clone();
            move || disk.work()
        });
        Self { disk, queue, thread: Some(thread) }
    }

    /// Submits and waits.
    pub(crate) fn run(&self, bio: Chained<Bio>, waiter: &Arc<Waiter>) -> Chained<Bio> {
        self.queue.submit(bio, None);
        waiter.take()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.disk.stop.store(true, Ordering::SeqCst);
        self.disk.more.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Disk {
    fn work(&self) {
        loop {
            let command = {
                let mut commands = self.commands.lock().unwrap();
                loop {
                    if self.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    if !commands.is_empty() && !self.hold.load(Ordering::SeqCst) {
                        break;
                    }
                    let wait = std::time::Duration::from_millis(5);
                    commands = self.more.wait_timeout(commands, wait).unwrap().0;
                }
                let at = self.random.lock().unwrap().below(commands.len() as u64) as usize;
                let command = commands.swap_remove(at);
                *self.at_work.lock().unwrap() = Some((command.hw, command.tag));
                command
            };
            let status = self.execute(&command);
            if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
                assert!(queue.complete(command.hw, command.tag, status), "ended twice");
            }
            *self.at_work.lock().unwrap() = None;
        }
    }

    fn execute(&self, command: &Command) -> Status {
        let mut content = self.content.lock().unwrap();
        let content = &mut *content;
        let start = (command.sector * SECTOR_SIZE) as usize;
        match command.op {
            Op::Flush => {
                self.flushes.fetch_add(1, Ordering::SeqCst);
                for (sector, ()) in std::mem::take(&mut content.dirty) {
                    let range = (sector * SECTOR_SIZE) as usize..((sector + 1) * SECTOR_SIZE) as usize;
                    content.durable[range.clone()].copy_from_slice(&content.cache[range]);
                }
                return Status::Ok;
            }
            Op::Read | Op::Write => {
                let mut at = start;
                for segment in &command.memory {
                    let range = at..at + segment.len() as usize;
                    if range.end > content.cache.len() {
                        return Status::IoError;
                    }
                    if command.op == Op::Read {
                        segment.copy_in(0, &content.cache[range]).unwrap();
                    } else {
                        segment.copy_out(0, &mut content.cache[range]).unwrap();
                    }
                    at += segment.len() as usize;
                }
            }
            Op::Discard | Op::SecureErase | Op::WriteZeroes => {
                content.cache[start..start + command.len as usize].fill(0);
            }
        }
        if command.op.is_write() {
            for sector in command.sector..command.sector + command.len / SECTOR_SIZE {
                let range = (sector * SECTOR_SIZE) as usize..((sector + 1) * SECTOR_SIZE) as usize;
                if command.fua {
                    content.durable[range.clone()].copy_from_slice(&content.cache[range]);
                    content.dirty.remove(&sector);
                } else {
                    content.dirty.insert(sector, ());
                }
            }
        }
        Status::Ok
    }

    fn command(hw: usize, request: &Request) -> Command {
        let memory = if request.op().has_data() {
            request.bios().flat_map(|bio| bio.segments()).cloned().collect()
        } else {
            Vec::new()
        };
        Command {
            hw,
            tag: request.tag(),
            op: request.op(),
            fua: request.flags().contains(OpFlags::FUA),
            sector: request.sector(),
            len: u64::from(request.len()),
            memory,
        }
    }

    /// Forgets all it has: the driver has it done again.
    pub(crate) fn reset(&self, queue: &Queue) -> usize {
        let lost = std::mem::take(&mut *self.commands.lock().unwrap());
        for command in &lost {
            assert!(queue.requeue(command.hw, command.tag));
        }
        lost.len()
    }

    /// What a power cut would leave of a sector.
    pub(crate) fn durable(&self, sector: u64) -> Vec<u8> {
        let start = (sector * SECTOR_SIZE) as usize;
        self.content.lock().unwrap().durable[start..start + SECTOR_SIZE as usize].to_vec()
    }
}

impl Driver for Disk {
    fn queue_rqs(&self, queue: &Queue, hw: usize, batch: &mut Batch) {
        let manners = &self.manners;
        if self.shut.load(Ordering::SeqCst) {
            return;
        }
        if manners.refuses != 0 && self.random.lock().unwrap().below(manners.refuses) == 0 {
            return;
        }
        self.batches.fetch_add(1, Ordering::SeqCst);
        self.last_batch.store(batch.len() as u64, Ordering::SeqCst);
        while let Some(request) = batch.next() {
            let limits = queue.limits().unwrap();
            let pieces: Vec<_> = request.pieces(&limits).collect();
            assert!(
                pieces.len() <= request.max_pieces() as usize
                    && request.max_pieces() <= u32::from(limits.max_segments)
            );
            if request.op().has_data() {
                assert_eq!(
                    pieces.iter().map(|piece| u64::from(piece.1)).sum::<u64>(),
                    u64::from(request.len())
                );
                assert!(u64::from(request.len()) <= limits.max_bytes(request.op(), request.sector()));
            }
            let command = Self::command(hw, &request);
            if manners.inline {
                self.requests.fetch_add(1, Ordering::SeqCst);
                let status = self.execute(&command);
                queue.end(hw, request, status);
                continue;
            }
            let mut commands = self.commands.lock().unwrap();
            if commands.len() >= manners.room {
                drop(commands);
                batch.put_back(request);
                return;
            }
            assert!(commands.iter().all(|c| (c.hw, c.tag) != (hw, command.tag)), "a tag twice");
            self.requests.fetch_add(1, Ordering::SeqCst);
            self.order.lock().unwrap().push((command.op, command.sector));
            let forgets = manners.forgets != 0 && self.random.lock().unwrap().below(manners.forgets) == 0;
            queue.start(hw, request);
            if forgets {
                self.forgotten.fetch_add(1, Ordering::SeqCst);
            } else {
                commands.push(command);
            }
            self.more.notify_one();
        }
    }

    fn timed_out(&self, queue: &Queue, hw: usize, tag: u32, sequence: u64) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let commands = self.commands.lock().unwrap();
        let known = commands.iter().any(|command| (command.hw, command.tag) == (hw, tag))
            || *self.at_work.lock().unwrap() == Some((hw, tag));
        drop(commands);
        if !known && self.manners.forgets != 0 && !self.late.load(Ordering::SeqCst) {
            queue.complete_expired(hw, tag, sequence, Status::Timeout);
        }
    }
}

/// Waits for bios.
#[derive(Default)]
pub(crate) struct Waiter {
    over: Mutex<Fifo<Bio>>,
    one: Condvar,
}

impl EndIo for Waiter {
    fn end_io(&self, bio: Chained<Bio>) {
        self.over.lock().unwrap().push_back(bio);
        self.one.notify_all();
    }
}

impl Waiter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits for one; a test that waits for a minute has failed.
    pub(crate) fn take(&self) -> Chained<Bio> {
        let mut over = self.over.lock().unwrap();
        loop {
            if let Some(bio) = over.pop_front() {
                return bio;
            }
            let (guard, timeout) = self.one.wait_timeout(over, std::time::Duration::from_secs(60)).unwrap();
            assert!(!timeout.timed_out(), "a bio did not come back");
            over = guard;
        }
    }

    pub(crate) fn end(self: &Arc<Self>) -> End {
        End::Shared(self.clone())
    }
}

/// A folio of one page, all of whose bytes are `byte`.
pub(crate) fn page(byte: u8) -> Folio {
    mm::testing::init();
    let folio = Folio::alloc(Gfp::KERNEL, Order::new(0).unwrap()).unwrap();
    folio.fill(0, 4096, byte).unwrap();
    folio
}

/// A bio of `sectors` sectors, at most 8, in one page.
pub(crate) fn bio(
    op: Op,
    flags: OpFlags,
    sector: u64,
    sectors: u64,
    folio: &Folio,
    waiter: &Arc<Waiter>,
) -> Chained<Bio> {
    let mut bio = Bio::new(op, flags, sector, 1, waiter.end()).unwrap();
    bio.push(folio, 0, (sectors * SECTOR_SIZE) as usize).unwrap();
    bio
}
