//! The page cache's side.

use alloc::sync::Arc;
use core::ops::Range;

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use block::OpFlags;
use mm::context::NoFsScope;
use mm::filemap::{Prepared, SyncMode};
use mm::readahead::Run;
use mm::writeback::BackingDevice;
use mm::{AddressSpaceOps, FolioGuard, Mapping, PageFlags, WritebackControl, try_arc};

use crate::ending::Endings;
use crate::extent::{Kind, Mapper, Purpose, map};
use crate::read::Reader;
use crate::write::Writer;

const PAGE: u64 = PAGE_SIZE as u64;

/// The page cache of an inode over its [`Mapper`].
pub struct IomapOps<M> {
    mapper: Arc<M>,
    endings: Option<Arc<Endings>>,
    max_bytes: u64,
}

impl<M: Mapper + 'static> IomapOps<M> {
    /// For an inode; `endings` are those of its file system.
    pub fn new(mapper: Arc<M>, endings: Arc<Endings>) -> Self {
        Self { mapper, endings: Some(endings), max_bytes: i64::MAX as u64 }
    }

    /// For what has neither unwritten extents nor a size of its own on the device: [`Mapper::written`] is never called.
    pub fn plain(mapper: Arc<M>) -> Self {
        Self { mapper, endings: None, max_bytes: i64::MAX as u64 }
    }

    /// The same for a file system whose files can be this long at most.
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// The inode.
    pub fn mapper(&self) -> &Arc<M> {
        &self.mapper
    }

    /// The blocks of `range`, which hold what is not the file's, were just given to it, and `written` in it is to be written: pages that this covers
    /// in part only are filled now, while that is known.
    fn fill_edges(&self, mapping: &Mapping, range: Range<u64>, written: Range<u64>) -> Result<()> {
        for edge in [written.start, written.end] {
            if edge.is_multiple_of(PAGE) {
                continue;
            }
            let guard = mapping.find_or_create_locked(edge / PAGE)?;
            if !guard.page().test(PageFlags::UPTODATE) {
                Reader::new(&*self.mapper, mapping.size(), OpFlags::SYNC)?.read(&guard)?;
                let start = guard.index() * PAGE;
                let from = range.start.max(start) - start;
                let to = range.end.min(start + PAGE) - start;
                guard.zero(from as usize..to as usize);
            }
            // It does not go before it is written: it could not be read again.
            mapping.set_dirty(guard.page());
        }
        Ok(())
    }
}

impl<M: Mapper + 'static> AddressSpaceOps for IomapOps<M> {
    fn read_folio(&self, mapping: &Mapping, folio: &FolioGuard) -> Result<()> {
        let _nofs = NoFsScope::enter();
        Reader::new(&*self.mapper, mapping.size(), OpFlags::SYNC)?.read(folio)
    }

    fn readahead(&self, run: &mut Run<'_>) {
        let _nofs = NoFsScope::enter();
        let Ok(mut reader) = Reader::new(&*self.mapper, run.mapping().size(), OpFlags::RAHEAD) else {
            return;
        };
        // What fails here is tried again by who wants it, and fails there.
        while let Some(folio) = run.next() {
            if reader.add(folio, run.end()).is_err() {
                break;
            }
        }
        reader.finish();
    }

    fn prepare_write(&self, mapping: &Mapping, pos: u64, len: u64) -> Result<Prepared> {
        let extent = map(&*self.mapper, pos, len, Purpose::BufferedWrite)?;
        let end = extent.end().min(pos.saturating_add(len));
        if extent.new && extent.kind == Kind::Mapped {
            let block = u64::from(self.mapper.block_size());
            let first = (pos / block * block).max(extent.offset);
            let last = end.next_multiple_of(block).min(extent.end());
            self.fill_edges(mapping, first..last, pos..end)?;
        }
        Ok(Prepared { end, fresh: extent.new })
    }

    fn unprepare(&self, mapping: &Mapping, range: Range<u64>, prepared: Prepared) {
        if !prepared.fresh {
            return;
        }
        // Blocks that no dirty folio stands for.
        let block = u64::from(self.mapper.block_size());
        let (mut pos, end) = (range.start.next_multiple_of(block), range.end.next_multiple_of(block));
        while pos < end {
            let next = ((pos / PAGE + 1) * PAGE).min(end);
            let kept = mapping.get(pos / PAGE).is_some_and(|folio| folio.test(PageFlags::DIRTY));
            if !kept {
                self.mapper.release_reserved(pos..next);
            }
            pos = next;
        }
    }

    fn write_folios(&self, mapping: &Mapping, control: &mut WritebackControl) -> Result<()> {
        let _nofs = NoFsScope::enter();
        let mut flags = OpFlags::empty();
        flags.set(OpFlags::SYNC, control.mode == SyncMode::All);
        flags.set(OpFlags::BACKGROUND, control.background);
        let until = control.range.end.saturating_mul(PAGE);
        let mut writer = match Writer::new(&self.mapper, self.endings.as_ref(), mapping, flags) {
            Ok(writer) => writer,
            Err(error) => {
                // The device is gone: what was to be written is lost.
                let mut folios = mapping.dirty_folios(control);
                while let Some(folio) = folios.next() {
                    mapping.skip(&folio);
                }
                return Err(error);
            }
        };
        let mut result = Ok(());
        let mut folios = mapping.dirty_folios(control);
        while let Some(folio) = folios.next() {
            match writer.add(&folio, until) {
                Err(error @ (Errno::ENOMEM | Errno::EAGAIN)) => {
                    // It is dirty as before; the others fare no better now.
                    result = result.and(Err(error));
                    break;
                }
                added => result = result.and(added),
            }
        }
        writer.finish();
        result
    }

    fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}

/// The page cache of an inode of `size` bytes, whose dirty pages are written to `device` in the background.
///
/// # Errors
/// `ENOMEM`.
pub fn new_mapping<M: Mapper + 'static>(
    ops: IomapOps<M>,
    size: u64,
    device: Arc<BackingDevice>,
) -> Result<Arc<Mapping>> {
    Mapping::with_device(try_arc(ops)?, size, device)
}
