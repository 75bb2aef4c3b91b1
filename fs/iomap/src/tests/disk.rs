//! A disk in memory that answers from a thread of its own, in any order, and fails when told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::vec::Vec;

use block::bio::{SECTOR_SIZE, Segment};
use block::disk::{Disk as Gendisk, DiskOps, Numbers, Spec};
use block::{Batch, BlockDevice, Driver, Limits, Op, OpFlags, Queue, Shape, Status};

/// A small generator (xorshift64*), so that tests can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % n
    }
}

struct Command {
    hw: usize,
    tag: u32,
    op: Op,
    sector: u64,
    memory: Vec<Segment>,
}

pub(crate) struct Disk {
    pub(crate) bytes: Mutex<Vec<u8>>,
    commands: Mutex<(Vec<Command>, Random)>,
    more: Condvar,
    queue: OnceLock<Weak<Queue>>,
    stop: AtomicBool,
    pub(crate) fail_writes: AtomicBool,
    pub(crate) fail_reads: AtomicBool,
    pub(crate) reads: AtomicUsize,
    pub(crate) writes: AtomicUsize,
}

struct NoOps;
impl DiskOps for NoOps {}

/// A disk and the device that it is.
pub(crate) struct Machine {
    pub(crate) disk: Arc<Disk>,
    pub(crate) device: Arc<BlockDevice>,
    gendisk: Arc<Gendisk>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Machine {
    pub(crate) fn new(bytes: usize, seed: u64) -> Self {
        mm::testing::init();
        mm::init_virtual();
        let disk = Arc::new(Disk {
            bytes: Mutex::new(std::vec![0; bytes]),
            commands: Mutex::new((Vec::new(), Random(seed | 1))),
            more: Condvar::new(),
            queue: OnceLock::new(),
            stop: AtomicBool::new(false),
            fail_writes: AtomicBool::new(false),
            fail_reads: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        });
        let queue = Queue::new(disk.clone(), Shape::default(), Limits::default()).unwrap();
        disk.queue.set(Arc::downgrade(&queue)).unwrap();
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let spec = Spec {
            name: std::format!("test{}", NUMBER.fetch_add(1, Ordering::SeqCst)),
            numbers: Numbers::Extended,
            parent: None,
            removable: false,
            partitions: false,
            ops: Arc::new(NoOps),
        };
        let gendisk = Gendisk::new(spec, queue).unwrap();
        gendisk.set_capacity(bytes as u64 / SECTOR_SIZE);
        gendisk.add().unwrap();
        let thread = std::thread::spawn({
            let disk = disk.clone();
            move || disk.work()
        });
        Self { device: gendisk.whole().unwrap(), disk, gendisk, thread: Some(thread) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.gendisk.remove(block::disk::Removal::Orderly);
        self.disk.stop.store(true, Ordering::SeqCst);
        self.disk.more.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Disk {
    /// All of it holds something.
    pub(crate) fn scribble(&self) {
        self.bytes.lock().unwrap().fill(0x5a);
    }

    fn work(&self) {
        loop {
            let command = {
                let mut commands = self.commands.lock().unwrap();
                loop {
                    if self.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    if !commands.0.is_empty() {
                        break;
                    }
                    let wait = std::time::Duration::from_millis(20);
                    commands = self.more.wait_timeout(commands, wait).unwrap().0;
                }
                let (list, random) = &mut *commands;
                let at = random.below(list.len() as u64) as usize;
                list.swap_remove(at)
            };
            let status = self.execute(&command);
            if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
                // As an interrupt would: nothing may sleep.
                assert!(queue.complete(command.hw, command.tag, status));
            }
        }
    }

    fn execute(&self, command: &Command) -> Status {
        let mut bytes = self.bytes.lock().unwrap();
        let mut at = (command.sector * SECTOR_SIZE) as usize;
        let fails = match command.op {
            Op::Read => &self.fail_reads,
            _ => &self.fail_writes,
        };
        if fails.load(Ordering::SeqCst) {
            return Status::Medium;
        }
        match command.op {
            Op::Read => self.reads.fetch_add(1, Ordering::SeqCst),
            _ => self.writes.fetch_add(1, Ordering::SeqCst),
        };
        for segment in &command.memory {
            let Some(place) = bytes.get_mut(at..at + segment.len() as usize) else { return Status::IoError };
            match command.op {
                Op::Read => segment.copy_in(0, place).unwrap(),
                _ => segment.copy_out(0, place).unwrap(),
            }
            at += segment.len() as usize;
        }
        Status::Ok
    }
}

impl Driver for Disk {
    fn queue_rqs(&self, queue: &Queue, hw: usize, batch: &mut Batch) {
        while let Some(request) = batch.next() {
            assert!(!request.flags().contains(OpFlags::PREFLUSH));
            let memory = if request.op().has_data() {
                request.bios().flat_map(|bio| bio.segments()).cloned().collect()
            } else {
                Vec::new()
            };
            let command =
                Command { hw, tag: request.tag(), op: request.op(), sector: request.sector(), memory };
            let mut commands = self.commands.lock().unwrap();
            queue.start(hw, request);
            commands.0.push(command);
            self.more.notify_one();
        }
    }
}
