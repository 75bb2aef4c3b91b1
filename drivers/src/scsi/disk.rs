//! Disks: `sda` and so on.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use abi::{Errno, Result};
use block::bio::SECTOR_SHIFT;
use block::disk::{Disk as BlockDisk, DiskOps, Removal, Spec};
use block::limits::Features;
use block::{Batch, Limits, Op, OpFlags, Queue, Request, Shape, Status};
use mm::dma::{Coherent, Reach};
use mm::fallible::{try_arc, try_format, try_into_boxed_slice, try_with_capacity};
use sched::rcu;
use sync::RcuPtr;

use super::inquiry::{self, BlockLimits, Capacity, Inquiry};
use super::sense::{Verdict, judge};
use super::{Command, Host, Item, Lost, Outcome, Owner, Unit, command, read};
use crate::sd;

/// How often a command is tried.
const TRIES: u8 = 5;
/// After how many milliseconds without an answer something is done.
const TIMEOUT_MS: u32 = 30_000;
/// Bytes of a list of ranges.
const LIST: usize = 24;
/// The most of a `WRITE SAME` where the device does not say, in blocks.
const WRITE_SAME: u64 = 0xffff;
/// The largest block.
const MAX_BLOCK: usize = 4096;

/// Requests of a queue.
struct Lane {
    /// How often each has been tried.
    tries: Box<[AtomicU8]>,
    /// For each the list of what is not needed.
    lists: Coherent<u8>,
}

/// A disk.
pub struct Disk {
    host: Arc<dyn Host>,
    unit: Unit,
    limits: Limits,
    /// Zeroing may give blocks up.
    unmaps: bool,
    /// log2 of sectors of a block.
    shift: u32,
    lanes: Box<[Lane]>,
    zeroes: Coherent<u8>,
    stopped: AtomicBool,
    index: sd::Index,
    disk: RcuPtr<BlockDisk>,
}

/// The same, as it is told of ends.
struct Ends(Arc<Disk>);

impl Owner for Ends {
    fn done(&self, queue: usize, tag: u32, outcome: Outcome) {
        self.0.done(queue, tag, outcome);
    }
}

/// The same, as the block layer has it.
struct Driver {
    disk: Arc<Disk>,
    owner: Arc<dyn Owner>,
}

struct Ops;

impl DiskOps for Ops {}

/// What a disk says about itself.
struct About {
    capacity: Capacity,
    block: BlockLimits,
    rotational: bool,
    unmap: bool,
    write_same: bool,
    cache: bool,
    fua: bool,
    read_only: bool,
}

impl About {
    fn ask(host: &dyn Host, unit: Unit, answer: &Inquiry, buffer: &Arc<Coherent<u8>>) -> Result<Self> {
        let mut data = [0; 255];
        let mut ask = |command: Command, len: usize| -> Result<([u8; 255], usize)> {
            let part = data.get_mut(..len).ok_or(Errno::EIO)?;
            part.fill(0);
            let len = read(host, unit, command, buffer, part)?;
            Ok((data, len))
        };
        let capacity = match ask(Command::read_capacity_16(32), 32) {
            Ok((data, len)) => inquiry::capacity_16(data.get(..len).unwrap_or(&[])),
            Err(_) => None,
        };
        let capacity = match capacity {
            Some(capacity) => capacity,
            None => {
                let (data, len) = ask(Command::read_capacity_10(), 8)?;
                let (blocks, size) =
                    inquiry::capacity_10(data.get(..len).unwrap_or(&[])).ok_or(Errno::EIO)?;
                let blocks = blocks.ok_or(Errno::EIO)?;
                Capacity { blocks, block_size: size, ..Capacity::default() }
            }
        };
        let mut page = |number: u8| match ask(Command::vital(number, 64), 64) {
            // Pages came with SPC-3.
            Ok((data, len)) if answer.version >= 4 => Some((data, len)),
            _ => None,
        };
        let cut =
            |found: &Option<([u8; 255], usize)>| -> ([u8; 255], usize) { found.unwrap_or(([0; 255], 0)) };
        let (data, len) = cut(&page(0xb0));
        let block = inquiry::block_limits(data.get(..len).unwrap_or(&[])).unwrap_or_default();
        let (data, len) = cut(&page(0xb1));
        let rotational = inquiry::is_rotational(data.get(..len).unwrap_or(&[])).unwrap_or(true);
        let (data, len) = cut(&page(0xb2));
        let (unmap, write_same) =
            inquiry::provisioning(data.get(..len).unwrap_or(&[])).unwrap_or((false, false));
        let (cache, fua, read_only) = match ask(Command::mode_sense(8, 64), 64) {
            Ok((data, len)) => inquiry::caching(data.get(..len).unwrap_or(&[])).unwrap_or_default(),
            Err(_) => Default::default(),
        };
        Ok(Self { capacity, block, rotational, unmap, write_same, cache, fua, read_only })
    }

    fn limits(&self, host: &dyn Host) -> Result<Limits> {
        let can = host.can();
        let size = self.capacity.block_size;
        if !size.is_power_of_two() || !(512..=MAX_BLOCK as u32).contains(&size) {
            return Err(Errno::EINVAL);
        }
        let shift = size.ilog2() - SECTOR_SHIFT;
        let sectors = |blocks: u64| u32::try_from(blocks << shift).unwrap_or(u32::MAX);
        let mut features = Features::IO_STAT | Features::ADD_RANDOM;
        features.set(Features::ROTATIONAL, self.rotational);
        features.set(Features::WRITE_CACHE, self.cache);
        features.set(Features::FUA, self.cache && self.fua);
        let max_transfer = if self.block.max_transfer == 0 { u32::MAX } else { self.block.max_transfer };
        let mut limits = Limits {
            logical_block_size: size,
            physical_block_size: size.checked_shl(self.capacity.physical_exponent.into()).unwrap_or(size),
            io_min: size.saturating_mul(self.block.granularity.into()),
            io_opt: size.saturating_mul(self.block.best_transfer),
            max_hw_sectors: can.sectors.min(sectors(max_transfer.into())),
            max_segments: can.pieces,
            max_segment_size: u32::MAX,
            seg_boundary_mask: u64::MAX,
            dma_alignment: 3,
            features,
            ..Limits::default()
        };
        if self.capacity.thin && self.unmap && self.block.max_unmap > 0 && self.block.max_unmap_ranges > 0 {
            limits.max_discard_sectors = sectors(self.block.max_unmap.into());
            limits.discard_granularity = size.saturating_mul(self.block.unmap_granularity.max(1));
        }
        if self.write_same {
            let most = if self.block.max_write_same == 0 { WRITE_SAME } else { self.block.max_write_same };
            limits.max_write_zeroes_sectors = sectors(most.min(u32::MAX.into()));
        }
        limits.validated()
    }
}

impl Disk {
    /// Makes a disk of a unit. May sleep.
    ///
    /// # Errors
    /// `EIO`: it does not say how large it is; `EINVAL`: its blocks have a size that is not supported; `ENOMEM`.
    pub(super) fn attach(
        host: &Arc<dyn Host>,
        unit: Unit,
        answer: &Inquiry,
        buffer: &Arc<Coherent<u8>>,
    ) -> Result<Arc<Self>> {
        let about = About::ask(&**host, unit, answer, buffer)?;
        let limits = about.limits(&**host)?;
        let can = host.can();
        let depth = can.depth as usize;
        let mut lanes = try_with_capacity(can.queues)?;
        for _ in 0..can.queues {
            let mut tries = try_with_capacity(depth)?;
            tries.extend((0..depth).map(|_| AtomicU8::new(0)));
            let tries = try_into_boxed_slice(tries)?;
            lanes.extend([Lane { tries, lists: Coherent::new(depth * LIST, Reach::Full)? }]);
        }
        let index = sd::Index::new()?;
        let (name, numbers) = (index.name()?, index.numbers());
        let disk = try_arc(Self {
            host: host.clone(),
            unit,
            limits,
            unmaps: about.capacity.thin,
            shift: limits.logical_block_size.ilog2() - SECTOR_SHIFT,
            lanes: try_into_boxed_slice(lanes)?,
            zeroes: Coherent::new(MAX_BLOCK, Reach::Full)?,
            stopped: AtomicBool::new(false),
            index,
            disk: RcuPtr::new(None),
        })?;
        let owner: Arc<dyn Owner> = try_arc(Ends(disk.clone()))?;
        let shape = Shape { queues: can.queues, depth: can.depth, timeout_ms: TIMEOUT_MS };
        let queue = Queue::new(try_arc(Driver { disk: disk.clone(), owner })?, shape, limits)?;
        let place = try_format(format_args!(
            "{}/target{}:0:{}/{}:{unit}",
            host.path()?,
            host.number(),
            unit.target,
            host.number()
        ))?;
        let spec = Spec {
            name,
            numbers,
            parent: Some(place),
            removable: answer.removable,
            partitions: true,
            ops: try_arc(Ops)?,
        };
        let made = BlockDisk::new(spec, queue)?;
        made.set_read_only(about.read_only);
        made.set_capacity(about.capacity.blocks.checked_shl(disk.shift).ok_or(Errno::EIO)?);
        log::info!(
            "sd {}:{unit}: [{}] {} {}-byte logical blocks, {}",
            host.number(),
            made.name(),
            about.capacity.blocks,
            limits.logical_block_size,
            if about.cache { "write back" } else { "write through" }
        );
        drop(disk.disk.replace(Some(made.clone())));
        made.add()?;
        Ok(disk)
    }

    fn block(&self) -> Option<Arc<BlockDisk>> {
        self.disk.load_arc(&rcu::read_lock())
    }

    /// Its name.
    pub fn name(&self) -> Result<String> {
        self.index.name()
    }

    /// Takes it away. Before, the host has ended all of its commands. May sleep.
    pub fn detach(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(disk) = self.block() {
            disk.remove(Removal::Surprise);
        }
        drop(self.disk.replace(None));
    }

    fn done(&self, queue: usize, tag: u32, outcome: Outcome) {
        let rcu = rcu::read_lock();
        let Some(disk) = self.disk.load(&rcu) else { return };
        let verdict = match outcome {
            Ok(answer) => judge(answer.status, &answer.sense),
            Err(Lost::NoDevice) => Verdict::End(Status::Offline),
            Err(Lost::Reset) => Verdict::Retry(Status::IoError),
            Err(Lost::Busy) => Verdict::Later,
            Err(Lost::Failed) => Verdict::End(Status::Transport),
        };
        let tries = self.lanes.get(queue).and_then(|lane| lane.tries.get(tag as usize));
        let stopped = self.stopped.load(Ordering::Relaxed);
        let again = !stopped && tries.is_some_and(|tries| tries.fetch_add(1, Ordering::Relaxed) < TRIES);
        let status = match verdict {
            Verdict::Retry(_) | Verdict::Later if again => {
                disk.queue().requeue(queue, tag);
                return;
            }
            Verdict::Later => Status::Timeout,
            Verdict::End(status) | Verdict::Retry(status) => status,
        };
        // The next with this tag begins anew.
        if let Some(tries) = tries {
            tries.store(0, Ordering::Relaxed);
        }
        disk.queue().complete(queue, tag, status);
    }

    /// The command of a request.
    fn command(&self, request: &Request) -> Command {
        let lba = request.sector() >> self.shift;
        let blocks = request.len() >> (SECTOR_SHIFT + self.shift);
        match request.op() {
            Op::Read => Command::transfer(false, lba, blocks, false),
            Op::Write => Command::transfer(true, lba, blocks, request.flags().contains(OpFlags::FUA)),
            Op::Flush => Command::synchronize_cache(),
            Op::Discard | Op::SecureErase => Command::unmap(LIST as u16),
            Op::WriteZeroes => Command::write_same(lba, blocks, self.unmaps),
        }
    }
}

impl block::Driver for Driver {
    fn queue_rqs(&self, queue: &Queue, hw: usize, batch: &mut Batch) {
        let disk = &*self.disk;
        let Some(lane) = disk.lanes.get(hw) else { return };
        if disk.stopped.load(Ordering::Acquire) {
            return;
        }
        disk.host.submit(hw, &mut |ring| {
            while let Some(request) = batch.next() {
                let tag = request.tag();
                let command = disk.command(&request);
                let device_writes = request.op() == Op::Read;
                let mut pieces = request.pieces(&disk.limits);
                let mut one = core::iter::empty().chain(None);
                let (data, count): (&mut dyn Iterator<Item = (u64, u32)>, usize) = match request.op() {
                    Op::Read | Op::Write => (&mut pieces, request.max_pieces() as usize),
                    Op::Flush => (&mut one, 0),
                    Op::Discard | Op::SecureErase => {
                        let blocks = request.len() >> (SECTOR_SHIFT + disk.shift);
                        let list = command::unmap_list(request.sector() >> disk.shift, blocks);
                        let at = tag as usize * LIST;
                        for (offset, byte) in list.into_iter().enumerate() {
                            lane.lists.write(at + offset, byte);
                        }
                        one = core::iter::empty()
                            .chain(Some((lane.lists.device_addr().0 + at as u64, LIST as u32)));
                        (&mut one, 1)
                    }
                    Op::WriteZeroes => {
                        let block = disk.limits.logical_block_size;
                        one = core::iter::empty().chain(Some((disk.zeroes.device_addr().0, block)));
                        (&mut one, 1)
                    }
                };
                let owner = &self.owner;
                let item = Item { unit: disk.unit, owner, tag, command, data, pieces: count, device_writes };
                if ring.add(item).is_err() {
                    batch.put_back(request);
                    break;
                }
                // The device does not see it before the end of the batch.
                queue.start(hw, request);
            }
        });
    }

    fn timed_out(&self, _: &Queue, hw: usize, tag: u32, _: u64) {
        let found = self.disk.host.poll(hw);
        let name = self.disk.name().unwrap_or_default();
        if found > 0 {
            log::warn!("{name}: an interrupt of queue {hw} is missing; {found} commands were done");
        } else {
            log::warn!("{name}: command {tag} of queue {hw} takes long");
        }
    }

    fn poll(&self, _: &Queue, hw: usize) -> usize {
        self.disk.host.poll(hw)
    }
}
