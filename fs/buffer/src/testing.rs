//! A disk for tests on the build machine: memory with a volatile write cache, that notes every write and flush, fails on request, and tells what a
//! power cut would leave.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "tests on the build machine")]

use std::boxed::Box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::vec::Vec;
use std::{format, vec};

use abi::{Errno, Result};
use block::bio::SECTOR_SIZE;
use block::{Bio, Op, OpFlags, Status};
use collections::fifo::{Chained, Fifo};

use crate::device::Device;

/// A small generator (xorshift64*), so that tests can be repeated.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
}

/// What the disk has done that matters for a power cut, in order.
#[derive(Clone)]
pub enum Event {
    /// A write is over.
    Write {
        /// Where.
        sector: u64,
        /// What.
        data: Arc<[u8]>,
        /// It does not stay in the cache.
        fua: bool,
    },
    /// What was over before is durable.
    Flush,
}

struct Content {
    bytes: Vec<u8>,
    /// As it was in the beginning.
    first: Vec<u8>,
    events: Vec<Event>,
}

/// Whether a transfer fails: operation, first sector, number of sectors.
type Fails = Box<dyn Fn(Op, u64, u64) -> bool + Send>;

struct Inner {
    content: Mutex<Content>,
    pending: Mutex<(Vec<Chained<Bio>>, Random)>,
    more: Condvar,
    stop: AtomicBool,
    /// Does not answer.
    hold: AtomicBool,
    notes: AtomicBool,
    fails: Mutex<Option<Fails>>,
    reads: AtomicU64,
    writes: AtomicU64,
    flushes: AtomicU64,
}

/// The disk.
pub struct Disk {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
    read_only: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// A disk with these contents, that does everything at once.
    pub fn new(bytes: Vec<u8>) -> Self {
        mm::testing::init();
        assert!((bytes.len() as u64).is_multiple_of(SECTOR_SIZE));
        let content = Content { first: Vec::new(), bytes, events: Vec::new() };
        let inner = Arc::new(Inner {
            content: Mutex::new(content),
            pending: Mutex::new((Vec::new(), Random::new(1))),
            more: Condvar::new(),
            stop: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            notes: AtomicBool::new(false),
            fails: Mutex::new(None),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
        });
        Self { inner, thread: None, read_only: false }
    }

    /// A disk of zeroes.
    pub fn zeroed(sectors: u64) -> Self {
        Self::new(vec![0; (sectors * SECTOR_SIZE) as usize])
    }

    /// The same, that answers from a thread of its own, in any order.
    pub fn threaded(mut self, seed: u64) -> Self {
        lock(&self.inner.pending).1 = Random::new(seed);
        let inner = self.inner.clone();
        self.thread = Some(std::thread::spawn(move || inner.work()));
        self
    }

    /// The same, that cannot be written.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Notes events from now on, for [`crashes`](Self::crashes).
    pub fn note_events(&self) {
        let mut content = lock(&self.inner.content);
        content.first = content.bytes.clone();
        content.events.clear();
        self.inner.notes.store(true, Ordering::SeqCst);
    }

    /// How many events were noted.
    pub fn events(&self) -> usize {
        lock(&self.inner.content).events.len()
    }

    /// What power cuts after each event would leave.
    pub fn crashes(&self) -> Crashes {
        let content = lock(&self.inner.content);
        Crashes {
            durable: content.first.clone(),
            events: content.events.clone(),
            at: 0,
            volatile: Vec::new(),
        }
    }

    /// What a read would see of all of it.
    pub fn image(&self) -> Vec<u8> {
        lock(&self.inner.content).bytes.clone()
    }

    /// From now on transfers fail of which `fails` says so: operation, first sector, sectors.
    pub fn fail(&self, fails: impl Fn(Op, u64, u64) -> bool + Send + 'static) {
        *lock(&self.inner.fails) = Some(Box::new(fails));
    }

    /// Nothing fails any more.
    pub fn repair(&self) {
        *lock(&self.inner.fails) = None;
    }

    /// Answers nothing until it is let go again; for threaded disks.
    pub fn hold(&self, on: bool) {
        self.inner.hold.store(on, Ordering::SeqCst);
        self.inner.more.notify_all();
    }

    /// How many reads, writes and flushes there were.
    pub fn counts(&self) -> (u64, u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        (count(&self.inner.reads), count(&self.inner.writes), count(&self.inner.flushes))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        self.inner.more.notify_all();
        if let Some(thread) = self.thread.take() {
            // The last reference may have been that of a bio.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Inner {
    fn work(&self) {
        loop {
            let bio = {
                let mut pending = lock(&self.pending);
                loop {
                    if self.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (bios, random) = &mut *pending;
                    if !bios.is_empty() && !self.hold.load(Ordering::SeqCst) {
                        let at = random.below(bios.len() as u64) as usize;
                        break bios.swap_remove(at);
                    }
                    pending = self.more.wait(pending).unwrap_or_else(PoisonError::into_inner);
                }
            };
            self.execute(bio);
        }
    }

    fn flush(&self) -> Result<()> {
        if lock(&self.fails).as_ref().is_some_and(|fails| fails(Op::Flush, 0, 0)) {
            return Err(Errno::EIO);
        }
        self.flushes.fetch_add(1, Ordering::SeqCst);
        if self.notes.load(Ordering::SeqCst) {
            lock(&self.content).events.push(Event::Flush);
        }
        Ok(())
    }

    fn execute(&self, bio: Chained<Bio>) {
        let status = self.transfer(&bio);
        Bio::finish(bio, status);
    }

    fn transfer(&self, bio: &Bio) -> Status {
        if bio.flags.contains(OpFlags::PREFLUSH) && self.flush().is_err() {
            return Status::IoError;
        }
        if lock(&self.fails).as_ref().is_some_and(|fails| fails(bio.op, bio.sector, bio.sectors())) {
            return Status::Medium;
        }
        let mut content = lock(&self.content);
        let start = (bio.sector * SECTOR_SIZE) as usize;
        let Some(place) = content.bytes.get_mut(start..start + bio.len() as usize) else {
            return Status::IoError;
        };
        let mut at = 0;
        for segment in bio.segments() {
            let part = &mut place[at..at + segment.len() as usize];
            at += part.len();
            let done = if bio.op == Op::Read { segment.copy_in(0, part) } else { segment.copy_out(0, part) };
            done.expect("inside of the segment");
        }
        if bio.op == Op::Read {
            self.reads.fetch_add(1, Ordering::SeqCst);
            return Status::Ok;
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        if self.notes.load(Ordering::SeqCst) {
            let data: Arc<[u8]> = Arc::from(&*place);
            let fua = bio.flags.contains(OpFlags::FUA);
            content.events.push(Event::Write { sector: bio.sector, data, fua });
        }
        Status::Ok
    }
}

impl Device for Disk {
    fn submit(&self, mut bios: Fifo<Bio>) {
        while let Some(bio) = bios.pop_front() {
            if self.read_only && bio.op.is_write() {
                Bio::finish(bio, Status::IoError);
            } else if self.thread.is_some() {
                lock(&self.inner.pending).0.push(bio);
                self.inner.more.notify_one();
            } else {
                self.inner.execute(bio);
            }
        }
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    fn sectors(&self) -> u64 {
        lock(&self.inner.content).bytes.len() as u64 / SECTOR_SIZE
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn logical_block_size(&self) -> u32 {
        SECTOR_SIZE as u32
    }
}

/// What power cuts leave: goes through the events in order.
pub struct Crashes {
    durable: Vec<u8>,
    events: Vec<Event>,
    at: usize,
    /// Writes that a power cut may undo.
    volatile: Vec<usize>,
}

impl Crashes {
    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Lets `n` events have happened, not fewer than before.
    pub fn advance(&mut self, n: usize) {
        while self.at < n {
            match &self.events[self.at] {
                Event::Write { fua: false, .. } => self.volatile.push(self.at),
                Event::Write { .. } => {
                    // What the cache has of these sectors is older.
                    self.make_durable(self.at);
                    let at = self.at;
                    self.volatile.retain(|old| !overlap(&self.events[*old], &self.events[at]));
                }
                Event::Flush => {
                    for at in std::mem::take(&mut self.volatile) {
                        self.make_durable(at);
                    }
                }
            }
            self.at += 1;
        }
    }

    fn make_durable(&mut self, at: usize) {
        if let Event::Write { sector, data, .. } = &self.events[at] {
            let start = (sector * SECTOR_SIZE) as usize;
            self.durable[start..start + data.len()].copy_from_slice(data);
        }
    }

    /// One thing that a power cut now might leave: of what is in the cache any part, by sectors, in any order.
    pub fn image(&self, random: &mut Random) -> Vec<u8> {
        let mut image = self.durable.clone();
        let mut rest = self.volatile.clone();
        // Mostly much or little of it.
        let kept = [0, 10, 50, 90, 100][random.below(5) as usize];
        while !rest.is_empty() {
            let at = rest.swap_remove(random.below(rest.len() as u64) as usize);
            let Event::Write { sector, data, .. } = &self.events[at] else { continue };
            let whole = random.below(4) != 0;
            let all = random.below(100) < kept;
            for (n, bytes) in data.chunks(SECTOR_SIZE as usize).enumerate() {
                if if whole { all } else { random.below(100) < kept } {
                    let start = ((sector + n as u64) * SECTOR_SIZE) as usize;
                    image[start..start + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        image
    }
}

fn overlap(a: &Event, b: &Event) -> bool {
    let (Event::Write { sector: a, data: one, .. }, Event::Write { sector: b, data: other, .. }) = (a, b)
    else {
        return false;
    };
    *a < b + other.len() as u64 / SECTOR_SIZE && *b < a + one.len() as u64 / SECTOR_SIZE
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write { sector, data, fua } => {
                f.write_str(&format!("Write({sector}+{} fua {fua})", data.len() as u64 / SECTOR_SIZE))
            }
            Self::Flush => f.write_str("Flush"),
        }
    }
}
