//! What is noted of each block: a hash table of fixed size, by address.

use super::area::{Area, Plain};
use arch::sync::SpinLockIrq;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use sync::Once;

/// Return addresses that are kept.
pub const DEPTH: usize = 12;

/// A block.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Its address; 0 for a free place of the table.
    pub addr: usize,
    /// Bytes.
    pub size: u32,
    /// Who allocated it.
    pub pid: i32,
    /// When, in ticks.
    pub jiffies: u64,
    /// The name of who allocated it.
    pub comm: [u8; sched::COMM_LEN],
    /// Where; ends with a zero if it is shorter.
    pub trace: [usize; DEPTH],
    /// The checksum of its contents in the last scan that did not find it.
    pub crc: u32,
    /// The next place of the same bucket, plus one.
    next: u32,
    /// It was suspected, and that was not cleared.
    suspected: bool,
    /// It is nothing to be told of any more.
    cleared: bool,
}

// SAFETY: numbers and flags, for which zero is a value.
unsafe impl Plain for Object {}

/// Places, and the lists of buckets through them.
pub(super) struct Table {
    pub(super) places: Area<Object>,
    buckets: Area<u32>,
    /// The first free place that was used before, plus one.
    free: u32,
    /// Places from here on were never used.
    pub(super) used: usize,
}

static ON: AtomicBool = AtomicBool::new(false);
static TABLE: SpinLockIrq<Option<Table>> = SpinLockIrq::new(None);

/// Blocks from before there is a table: address and size.
static EARLY: [(AtomicUsize, AtomicUsize); 1024] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; 1024];

/// `kmemleak=on`, before there is a heap.
pub fn switch_on() {
    ON.store(true, Relaxed);
}

/// Notes nothing more, and forgets what there is. Only a boot switches it on again, as on Linux.
pub fn switch_off() {
    ON.store(false, Relaxed);
    let gone = TABLE.lock().take();
    drop(gone);
}

/// Whether blocks are noted.
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

static TASK_NUMBER: Once<fn(&sched::Task) -> i32> = Once::new();

/// Registers who knows the number of a task.
pub fn set_task_number(number: fn(&sched::Task) -> i32) {
    TASK_NUMBER.call_once(|| number);
}

fn hash(addr: usize, buckets: usize) -> usize {
    (addr >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20 & (buckets - 1)
}

/// Makes the table, for a machine with so many pages; vmalloc works.
pub(crate) fn init(pages: usize) {
    if !is_on() {
        return;
    }
    let places = (pages * 2).next_power_of_two().clamp(1 << 14, 1 << 19);
    let (Some(objects), Some(buckets)) = (Area::new(places), Area::new(places)) else {
        log::error!("kmemleak: no memory, switched off");
        return switch_off();
    };
    *TABLE.lock() = Some(Table { places: objects, buckets, free: 0, used: 0 });
    for (addr, size) in &EARLY {
        if let Some(block) = NonNull::new(core::ptr::without_provenance_mut(addr.swap(0, Relaxed))) {
            allocated(Some(block), size.load(Relaxed));
        }
    }
}

impl Table {
    /// The place of the block at `addr`, and the one before it in its bucket.
    fn find(&mut self, addr: usize) -> Option<(usize, Option<usize>)> {
        let buckets = self.buckets.slice();
        let mut link = buckets.get(hash(addr, buckets.len())).copied()?;
        let mut before = None;
        while link != 0 {
            let index = link as usize - 1;
            let object = self.places.slice().get(index)?;
            if object.addr == addr {
                return Some((index, before));
            }
            before = Some(index);
            link = object.next;
        }
        None
    }

    /// Whether there was room.
    fn insert(&mut self, mut object: Object) -> bool {
        if let Some((index, _)) = self.find(object.addr) {
            if let Some(known) = self.places.slice().get_mut(index) {
                object.next = known.next;
                *known = object;
            }
            return true;
        }
        let index = match self.free {
            0 => self.used,
            link => link as usize - 1,
        };
        let places = self.places.slice();
        let Some(place) = places.get_mut(index) else { return false };
        match self.free {
            0 => self.used += 1,
            _ => self.free = place.next,
        }
        let buckets = self.buckets.slice();
        let at = hash(object.addr, buckets.len());
        if let Some(head) = buckets.get_mut(at) {
            object.next = core::mem::replace(head, index as u32 + 1);
            *place = object;
        }
        true
    }

    fn remove(&mut self, addr: usize) {
        let Some((index, before)) = self.find(addr) else { return };
        let free = self.free;
        let places = self.places.slice();
        let Some(place) = places.get_mut(index) else { return };
        let next = core::mem::replace(&mut place.next, free);
        place.addr = 0;
        self.free = index as u32 + 1;
        if let Some(before) = before.and_then(|before| places.get_mut(before)) {
            before.next = next;
            return;
        }
        let buckets = self.buckets.slice();
        let at = hash(addr, buckets.len());
        if let Some(head) = buckets.get_mut(at) {
            *head = next;
        }
    }
}

/// The heap gave this block away.
#[inline]
pub(crate) fn allocated(block: Option<NonNull<u8>>, size: usize) {
    if is_on()
        && let Some(block) = block
    {
        note(block.as_ptr().addr(), size);
    }
}

/// The heap takes this block back.
#[inline]
pub(crate) fn freed(block: NonNull<u8>) {
    if is_on() {
        forget(block.as_ptr().addr());
    }
}

#[cold]
#[inline(never)]
fn note(addr: usize, size: usize) {
    let mut object = Object {
        addr,
        size: size as u32,
        pid: 0,
        jiffies: 0,
        comm: [0; sched::COMM_LEN],
        trace: [0; DEPTH],
        crc: 0,
        next: 0,
        suspected: false,
        cleared: false,
    };
    let mut frame = 0;
    arch::backtrace::frames(arch::backtrace::frame_pointer(), |ip| {
        if let Some(slot) = object.trace.get_mut(frame) {
            *slot = ip;
        }
        frame += 1;
        frame < DEPTH
    });
    if arch::irq::in_interrupt() {
        copy_name(&mut object.comm, b"hardirq");
    } else if let Some(number) = TASK_NUMBER.get() {
        let task = sched::current();
        copy_name(&mut object.comm, task.comm().as_bytes());
        object.pid = number(&task);
    } else {
        copy_name(&mut object.comm, b"swapper/0");
    }
    object.jiffies = sched::time::jiffies();
    let mut table = TABLE.lock();
    let kept = match &mut *table {
        Some(table) => table.insert(object),
        None => note_early(addr, size),
    };
    drop(table);
    if !kept && ON.swap(false, Relaxed) {
        log::error!("kmemleak: too many blocks, switched off");
    }
}

fn copy_name(to: &mut [u8; sched::COMM_LEN], name: &[u8]) {
    to.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
}

fn note_early(addr: usize, size: usize) -> bool {
    let Some((place, of)) = EARLY.iter().find(|(place, _)| place.load(Relaxed) == 0) else { return false };
    of.store(size, Relaxed);
    place.store(addr, Relaxed);
    true
}

#[cold]
#[inline(never)]
fn forget(addr: usize) {
    let mut table = TABLE.lock();
    match &mut *table {
        Some(table) => table.remove(addr),
        None => {
            if let Some((place, _)) = EARLY.iter().find(|(place, _)| place.load(Relaxed) == addr) {
                place.store(0, Relaxed);
            }
        }
    }
}

/// Runs `f` on the table, if there is one.
pub(super) fn with<R>(f: impl FnOnce(&mut Table) -> R) -> Option<R> {
    TABLE.lock().as_mut().map(f)
}

/// The block in place `index`, if there is one.
pub(super) fn place(index: usize) -> Option<Object> {
    with(|table| {
        let used = table.used;
        table.places.slice().get(..used)?.get(index).copied().filter(|object| object.addr != 0)
    })?
}

/// A scan did not find the block in place `index`; `seen` is what was known of it, `crc` the checksum of its contents. Whether it is
/// suspected from now on, and was not before.
pub(super) fn unreached(index: usize, seen: &Object, crc: u32, is_old: bool) -> bool {
    let judged = with(|table| {
        let Some(object) = table.places.slice().get_mut(index) else { return false };
        if object.addr != seen.addr || object.jiffies != seen.jiffies || object.cleared {
            return false;
        }
        // What changes is used by somebody, who hides how.
        let same = core::mem::replace(&mut object.crc, crc) == crc && crc != 0;
        same && is_old && !core::mem::replace(&mut object.suspected, true)
    });
    judged.unwrap_or(false)
}

/// A scan found the block in place `index`.
pub(super) fn reached(index: usize) {
    with(|table| {
        if let Some(object) = table.places.slice().get_mut(index) {
            (object.suspected, object.crc) = (false, 0);
        }
    });
}

/// What is suspected now is nothing to be told of any more.
pub fn clear() {
    with(|table| {
        let used = table.used;
        for object in table.places.slice().iter_mut().take(used).filter(|object| object.suspected) {
            (object.suspected, object.cleared) = (false, true);
        }
    });
}

/// Calls `f` with every block that is suspected, until it returns false.
pub fn for_each_suspect(mut f: impl FnMut(&Object) -> bool) {
    let places = with(|table| table.used).unwrap_or(0);
    for object in (0..places).filter_map(place).filter(|object| object.suspected) {
        if !f(&object) {
            return;
        }
    }
}

/// The block that `addr` lies in.
pub fn holding(addr: usize) -> Option<Object> {
    let places = with(|table| table.used).unwrap_or(0);
    (0..places).filter_map(place).find(|object| (object.addr..object.end()).contains(&addr))
}

impl Object {
    /// Where it ends.
    pub fn end(&self) -> usize {
        self.addr + self.size as usize
    }

    /// Its words, as they are now; ends early where there is no memory any more.
    pub fn words(&self) -> impl Iterator<Item = usize> + use<> {
        (self.addr..self.end() & !7).step_by(8).map_while(arch::backtrace::load)
    }
}
