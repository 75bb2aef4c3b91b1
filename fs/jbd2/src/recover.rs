//! Recovery: what the log has and the file system may not have.
//!
//! Three passes over the log, from its tail on. *Scan* finds the last transaction that is whole: all its own blocks have the right sequence and
//! checksum, and a commit block ends it. *Revoke* collects blocks that were freed. *Replay* writes all other blocks to their places, in order.
//!
//! The log is a ring of `n` blocks. No pass looks at more than `n` blocks, whatever they contain, and every number in them is checked before
//! it is used.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use buffer::BufferCache;
use collections::sorted::SortedMap;
use mm::Block;

use crate::checksum::crc32_be;
use crate::format::{
    self, COMMIT_CRC32, Format, Incompat, MAGIC, Tag, TagFlags, be32, be64, commit, kind, put,
};
use crate::log::Log;
use crate::super_block::SuperBlock;

/// What recovery has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Whole transactions in the log.
    pub transactions: u32,
    /// Blocks written to their places.
    pub replayed: u32,
    /// Blocks that were not, because they were freed later.
    pub revoked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Scan,
    Revoke,
    Replay,
}

/// So many blocks are read together.
const WINDOW: u32 = 32;

/// Reads the log forward.
struct Reader<'a> {
    log: &'a Log,
    first: u32,
    end: u32,
    at: u32,
    /// Blocks until all of the log was seen.
    left: u32,
    window: Vec<Result<Block>>,
    window_at: u32,
}

impl Reader<'_> {
    fn rewind(&mut self, start: u32) {
        (self.at, self.left) = (start, self.end - self.first);
    }

    /// The number of the next block; `None` when all of the log was seen.
    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.at = if at + 1 >= self.end { self.first } else { at + 1 };
        Some(at)
    }

    fn read(&mut self, block: u32) -> Result<&Block> {
        let inside = |from: u32, len| block.checked_sub(from).filter(|n| (*n as usize) < len);
        if inside(self.window_at, self.window.len()).is_none() {
            self.window = Vec::new();
            self.window = self.log.read(block, WINDOW.min(self.end - block))?;
            self.window_at = block;
        }
        let at = inside(self.window_at, self.window.len()).ok_or(Errno::EIO)?;
        self.window.get(at as usize).ok_or(Errno::EIO)?.as_ref().map_err(|errno| *errno)
    }
}

struct Run<'a> {
    cache: &'a Arc<BufferCache>,
    reader: Reader<'a>,
    format: Format,
    old_checksums: bool,
    start: u32,
    sequence: u32,
    /// The sequence behind the last whole transaction.
    end: u32,
    /// Freed blocks, with the last transaction that says so.
    revokes: SortedMap<u64, u32>,
    done: Recovery,
    /// What went wrong with single blocks, which does not stop the others.
    error: Option<Errno>,
}

/// Replays the log, if there is something in it. The sequence that the next transaction may have, and what was done.
///
/// # Errors
/// `EIO` if a block cannot be read or written, `EBADMSG` for a checksum that is wrong in a whole transaction, `ENOMEM`. The log is left as it is then.
pub(crate) fn recover(cache: &Arc<BufferCache>, log: &Log, sb: &SuperBlock) -> Result<(u32, Recovery)> {
    if sb.start() == 0 {
        return Ok((sb.sequence().wrapping_add(1), Recovery::default()));
    }
    let (first, end) = (sb.first(), sb.end());
    let reader = Reader { log, first, end, at: first, left: 0, window: Vec::new(), window_at: 0 };
    let mut run = Run {
        cache,
        reader,
        format: sb.format(),
        old_checksums: sb.has_old_checksums(),
        start: sb.start(),
        sequence: sb.sequence(),
        end: sb.sequence(),
        revokes: SortedMap::new(),
        done: Recovery::default(),
        error: None,
    };
    run.pass(Pass::Scan)?;
    if run.end != run.sequence {
        run.pass(Pass::Revoke)?;
        run.pass(Pass::Replay)?;
        cache.write_back()?;
        cache.flush()?;
    }
    if let Some(errno) = run.error {
        return Err(errno);
    }
    run.done.transactions = run.end.wrapping_sub(run.sequence);
    Ok((run.end.wrapping_add(1), run.done))
}

impl Run<'_> {
    fn pass(&mut self, pass: Pass) -> Result<()> {
        let format = self.format;
        let is_async = format.incompat.contains(Incompat::ASYNC_COMMIT);
        let mut sequence = self.sequence;
        // Of the transaction that is being looked at: the first kind of checksum; whether one of its own blocks has a wrong one.
        let (mut crc, mut broken) = (!0u32, false);
        let mut last_commit = 0;
        self.reader.rewind(self.start);
        loop {
            if pass != Pass::Scan && sequence == self.end {
                return Ok(());
            }
            let Some(at) = self.reader.next() else { break };
            let block = self.reader.read(at)?;
            let bytes = block.bytes();
            let Some((kind, of)) = format::header(bytes) else { break };
            if of != sequence {
                break;
            }
            match kind {
                kind::DESCRIPTOR => {
                    if !format.is_sealed(bytes) {
                        if pass != Pass::Scan {
                            return Err(Errno::EBADMSG);
                        }
                        broken = true;
                    }
                    if self.old_checksums && pass == Pass::Scan {
                        crc = crc32_be(crc, bytes);
                    }
                    // The block goes out of the window while its tags are gone through.
                    let descriptor = block.try_clone()?;
                    for tag in format.tags(descriptor.bytes()) {
                        let Some(data) = self.reader.next() else { return self.early(pass) };
                        match pass {
                            Pass::Scan if self.old_checksums => {
                                crc = crc32_be(crc, self.reader.read(data)?.bytes());
                            }
                            Pass::Scan if is_async => {
                                let data = self.reader.read(data)?;
                                broken |= !format.data_is_right(sequence, &tag, data.bytes());
                            }
                            Pass::Replay => self.replay(sequence, &tag, data)?,
                            Pass::Scan | Pass::Revoke => {}
                        }
                    }
                }
                kind::REVOKE => {
                    if !format.is_sealed(bytes) {
                        if pass != Pass::Scan {
                            return Err(Errno::EBADMSG);
                        }
                        broken = true;
                    } else if pass == Pass::Revoke {
                        for block in format.revoked(bytes).ok_or(Errno::EUCLEAN)? {
                            self.revokes.try_insert(block, sequence)?;
                        }
                    } else if pass == Pass::Scan && format.revoked(bytes).is_none() {
                        return Err(Errno::EUCLEAN);
                    }
                }
                kind::COMMIT => {
                    if pass == Pass::Scan {
                        let time = be64(bytes, commit::SECONDS);
                        let old_is_wrong = self.old_checksums && !old_checksum_is_right(bytes, crc);
                        if broken && format.commit_is_sealed(bytes) && !is_async && time >= last_commit {
                            // It was whole once: not a commit that a power cut has interrupted.
                            log::error!("jbd2: bad checksum in committed transaction {sequence}");
                            return Err(Errno::EBADMSG);
                        }
                        if broken || old_is_wrong || !format.commit_is_sealed(bytes) {
                            break;
                        }
                        last_commit = time;
                        self.end = sequence.wrapping_add(1);
                    }
                    sequence = sequence.wrapping_add(1);
                    crc = !0;
                }
                _ => break,
            }
        }
        self.early(pass)
    }

    /// The log ends here. For the later passes it should not have, before the last whole transaction.
    fn early(&self, pass: Pass) -> Result<()> {
        if pass == Pass::Scan { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Writes a block to its place, unless it was freed later.
    fn replay(&mut self, sequence: u32, tag: &Tag, at: u32) -> Result<()> {
        if let Some(revoked) = self.revokes.get(&tag.block)
            && (sequence.wrapping_sub(*revoked) as i32) <= 0
        {
            self.done.revoked += 1;
            return Ok(());
        }
        match self.restore(sequence, tag, at) {
            Ok(()) => self.done.replayed += 1,
            Err(Errno::ENOMEM) => return Err(Errno::ENOMEM),
            Err(errno) => {
                log::error!("jbd2: {errno:?} recovering block {} from block {at} of the log", tag.block);
                self.error = Some(errno);
            }
        }
        Ok(())
    }

    fn restore(&mut self, sequence: u32, tag: &Tag, at: u32) -> Result<()> {
        let data = self.reader.read(at)?;
        if !self.format.data_is_right(sequence, tag, data.bytes()) {
            return Err(Errno::EBADMSG);
        }
        let buffer = self.cache.get(tag.block)?;
        buffer.create(|bytes| {
            bytes.copy_from_slice(data.bytes());
            if tag.flags.contains(TagFlags::ESCAPE) {
                put(bytes, 0, MAGIC.to_be_bytes());
            }
        })?;
        buffer.mark_dirty();
        Ok(())
    }
}

/// The first kind of checksum: a CRC32 of descriptors and data. A commit block may have none.
fn old_checksum_is_right(bytes: &[u8], crc: u32) -> bool {
    let (kind, size) = (bytes.get(commit::CHECKSUM_TYPE), bytes.get(commit::CHECKSUM_SIZE));
    let found = be32(bytes, commit::CHECKSUM);
    match (kind, size) {
        (Some(&COMMIT_CRC32), Some(4)) => found == crc,
        (Some(0), Some(0)) => found == 0,
        _ => false,
    }
}
