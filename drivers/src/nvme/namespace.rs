//! A namespace: a disk.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use abi::{Errno, Result};
use block::disk::{Attribute, Disk, DiskOps};
use block::{Batch, Driver, Features, Limits, Op, OpFlags, Queue, Request};
use mm::dma::{Coherent, Reach};
use mm::fallible::{try_into_boxed_slice, try_with_capacity};

use super::Controller;
use super::pair::Completion;
use super::regs::{Command, PAGE_SHIFT, io};

const PAGE: u64 = 1 << PAGE_SHIFT;
/// Pages of a transfer that are in a list: all but the first.
const LIST: usize = 128;
/// The longest transfer: what fits however it lies in its pages.
pub const MAX_TRANSFER: u64 = LIST as u64 * PAGE;
/// Bits of a command's number that are the tag; the others are the namespace's slot.
const TAG_BITS: u32 = 10;
/// Requests of a namespace on one queue.
pub const MAX_DEPTH: u32 = 256;
/// How often a request is tried that could work the next time.
const TRIES: u8 = 5;

const _: () = assert!(MAX_DEPTH <= 1 << TAG_BITS);

/// Which namespace, and which of its requests, a command is for.
pub fn of_command(id: u16) -> (usize, u32) {
    (usize::from(id >> TAG_BITS), u32::from(id) & ((1 << TAG_BITS) - 1))
}

/// What requests of one hardware queue need.
pub(super) struct PerQueue {
    /// For each tag: the pages of its transfer, or the range of a discard.
    lists: Coherent<u64>,
    /// For each tag: how often it was tried.
    tries: Box<[AtomicU8]>,
}

/// A namespace of a controller. See the module text.
pub struct Namespace {
    controller: Arc<Controller>,
    id: u32,
    /// In the upper bits of its commands' numbers.
    slot: u16,
    shift: u32,
    depth: u32,
    queues: Box<[PerQueue]>,
    identity: super::identify::Namespace,
}

impl Namespace {
    /// The namespace `id`, whose commands are told from others' by `slot`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(
        controller: Arc<Controller>,
        id: u32,
        slot: u16,
        depth: u32,
        identity: super::identify::Namespace,
    ) -> Result<Self> {
        let count = controller.pairs().len();
        let mut queues = try_with_capacity(count)?;
        for _ in 0..count {
            queues.extend([PerQueue::new(depth)?]);
        }
        let queues = try_into_boxed_slice(queues)?;
        Ok(Self { controller, id, slot, shift: identity.shift, depth, queues, identity })
    }

    /// Sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.identity.blocks << (self.shift - block::bio::SECTOR_SHIFT)
    }

    /// What the block layer has to know.
    pub fn limits(&self) -> Limits {
        let of = self.controller.identity();
        let max_sectors = (of.max_transfer.min(MAX_TRANSFER) >> block::bio::SECTOR_SHIFT) as u32;
        let mut features = Features::IO_STAT | Features::NOWAIT;
        if of.write_cache {
            features |= Features::WRITE_CACHE | Features::FUA;
        }
        Limits {
            logical_block_size: 1 << self.shift,
            max_hw_sectors: max_sectors,
            max_segments: LIST as u16,
            virt_boundary_mask: PAGE - 1,
            dma_alignment: 3,
            max_discard_sectors: if of.discard { u32::MAX } else { 0 },
            max_write_zeroes_sectors: if of.write_zeroes { max_sectors } else { 0 },
            features,
            ..Limits::default()
        }
    }

    /// The command for a request.
    ///
    /// # Errors
    /// A request that cannot be said in a command: a bug of the layers above.
    fn command(&self, hw: usize, request: &Request, limits: &Limits) -> Result<Command, block::Status> {
        let tag = request.tag();
        let mut command =
            Command { nsid: self.id, id: self.slot << TAG_BITS | tag as u16, ..Command::default() };
        let block = request.sector() >> (self.shift - block::bio::SECTOR_SHIFT);
        let blocks = request.len() >> self.shift;
        let queue = self.queues.get(hw).ok_or(block::Status::IoError)?;
        match request.op() {
            Op::Flush => {
                command.opcode = io::FLUSH;
                return Ok(command);
            }
            Op::Discard => {
                command.opcode = io::DATASET_MANAGEMENT;
                command.prp1 = queue.range(tag, block, blocks)?;
                // One range.
                command.dwords = [0, io::DEALLOCATE, 0, 0, 0, 0];
                return Ok(command);
            }
            Op::Read => command.opcode = io::READ,
            Op::Write => command.opcode = io::WRITE,
            Op::WriteZeroes => command.opcode = io::WRITE_ZEROES,
            Op::SecureErase => return Err(block::Status::NotSupported),
        }
        let last = u16::try_from(blocks.wrapping_sub(1)).map_err(|_| block::Status::IoError)?;
        let fua = if request.flags().contains(OpFlags::FUA) { io::FUA } else { 0 };
        command.dwords = [block as u32, (block >> 32) as u32, u32::from(last) | fua, 0, 0, 0];
        if request.op().has_data() {
            (command.prp1, command.prp2) = queue.pages(tag, request.pieces(limits))?;
        }
        Ok(command)
    }

    /// A command of this namespace is over.
    pub fn completed(&self, queue: &Queue, hw: usize, tag: u32, completion: &Completion) {
        let Some(tries) = self.queues.get(hw).and_then(|queue| queue.tries.get(tag as usize)) else { return };
        let status = completion.status;
        let again = !status.is_ok() && !status.is_final() && tries.fetch_add(1, Ordering::Relaxed) < TRIES;
        if again {
            queue.requeue(hw, tag);
            return;
        }
        if !status.is_ok() || tries.load(Ordering::Relaxed) != 0 {
            tries.store(0, Ordering::Relaxed);
        }
        // Twice for the same command: there is none the second time.
        queue.complete(hw, tag, status.block());
    }

    /// The device has forgotten all commands: they are tried again, or end with `status`.
    pub fn lost(&self, queue: &Queue, status: Option<block::Status>) {
        for (hw, of) in self.queues.iter().enumerate() {
            for (tag, tries) in (0..).zip(&of.tries) {
                let status = match status {
                    None if tries.fetch_add(1, Ordering::Relaxed) >= TRIES => Some(block::Status::Timeout),
                    status => status,
                };
                match status {
                    Some(status) => {
                        tries.store(0, Ordering::Relaxed);
                        queue.complete(hw, tag, status);
                    }
                    None => {
                        if !queue.requeue(hw, tag) {
                            tries.store(0, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    }
}

impl PerQueue {
    pub(super) fn new(depth: u32) -> Result<Self> {
        let lists = Coherent::new(depth as usize * LIST, Reach::Full)?;
        let mut tries = try_with_capacity(depth as usize)?;
        tries.extend((0..depth).map(|_| AtomicU8::new(0)));
        Ok(Self { lists, tries: try_into_boxed_slice(tries)? })
    }

    #[cfg(test)]
    pub(super) fn entry(&self, tag: u32, index: usize) -> (u64, u64) {
        let (at, list) = self.list(tag);
        (at, self.lists.read(list + index).unwrap())
    }

    /// Where the device finds the list of a tag, and the number of its first entry.
    fn list(&self, tag: u32) -> (u64, usize) {
        let first = tag as usize * LIST;
        (self.lists.device_addr().0 + (first * size_of::<u64>()) as u64, first)
    }

    /// Describes memory by its pages: the two pointers of the command.
    pub(super) fn pages(
        &self,
        tag: u32,
        pieces: impl Iterator<Item = (u64, u32)>,
    ) -> Result<(u64, u64), block::Status> {
        let (list_at, list) = self.list(tag);
        let (mut first, mut second, mut count) = (0, 0, 0);
        for (phys, len) in pieces {
            let (mut at, end) = (phys, phys + u64::from(len));
            while at < end {
                match count {
                    0 => first = at,
                    // A list of pages has no gaps.
                    _ if at % PAGE != 0 || count > LIST => return Err(block::Status::IoError),
                    _ => {
                        second = if count == 1 { at } else { list_at };
                        self.lists.write(list + count - 1, at);
                    }
                }
                count += 1;
                at = (at / PAGE + 1) * PAGE;
            }
        }
        Ok((first, second))
    }

    /// Writes down a range of blocks; where it is.
    pub(super) fn range(&self, tag: u32, block: u64, blocks: u32) -> Result<u64, block::Status> {
        let (at, list) = self.list(tag);
        let written = self.lists.write(list, u64::from(blocks) << 32) && self.lists.write(list + 1, block);
        if written { Ok(at) } else { Err(block::Status::IoError) }
    }
}

impl Driver for Namespace {
    fn queue_rqs(&self, queue: &Queue, hw: usize, batch: &mut Batch) {
        let (Some(pair), Ok(limits)) = (self.controller.pairs().get(hw), queue.limits()) else { return };
        while !batch.is_empty() {
            let Some(mut submission) = pair.submit() else {
                if self.controller.is_dead() {
                    while let Some(request) = batch.next() {
                        queue.end(hw, request, block::Status::Offline);
                    }
                }
                // A reset: they come again when it is over.
                return;
            };
            let mut wrong = None;
            while let Some(request) = batch.next() {
                match self.command(hw, &request, &limits) {
                    Ok(command) => {
                        queue.start(hw, request);
                        submission.push(&command);
                    }
                    Err(status) => {
                        wrong = Some((request, status));
                        break;
                    }
                }
            }
            drop(submission);
            if let Some((request, status)) = wrong {
                queue.end(hw, request, status);
            }
        }
    }

    fn timed_out(&self, _: &Queue, hw: usize, tag: u32, _sequence: u64) {
        self.controller.timed_out(hw, self.slot << TAG_BITS | tag as u16);
    }

    fn poll(&self, _queue: &Queue, hw: usize) -> usize {
        self.controller.reap(hw)
    }
}

impl DiskOps for Namespace {
    fn attributes(&self) -> &'static [Attribute] {
        const fn file(name: &'static str) -> Attribute {
            Attribute { group: "", name, writable: false }
        }
        const FILES: &[Attribute] = &[file("nsid"), file("wwid")];
        FILES
    }

    fn show(&self, _: &Disk, attribute: &Attribute, to: &mut dyn fmt::Write) -> Result<()> {
        let result = match attribute.name {
            "nsid" => write!(to, "{}", self.id),
            "wwid" => self.show_id(to),
            _ => return Err(Errno::EIO),
        };
        result.map_err(|_| Errno::ENOMEM)
    }
}

impl Namespace {
    /// How user space tells it from all others.
    fn show_id(&self, to: &mut dyn fmt::Write) -> fmt::Result {
        let mut hex = |prefix: &str, bytes: &[u8]| {
            write!(to, "{prefix}")?;
            bytes.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
        };
        if self.identity.guid != [0; 16] {
            return hex("eui.", &self.identity.guid);
        }
        if self.identity.eui != [0; 8] {
            return hex("eui.", &self.identity.eui);
        }
        let of = self.controller.identity();
        write!(to, "nvme.{:04x}-", of.vendor)?;
        hex_of(to, of.serial.as_bytes())?;
        write!(to, "-")?;
        hex_of(to, of.model.as_bytes())?;
        write!(to, "-{:08x}", self.id)
    }

    /// Requests that it has on each queue.
    pub fn depth(&self) -> u32 {
        self.depth
    }
}

fn hex_of(to: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
}
