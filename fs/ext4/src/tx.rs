//! One change of the file system, of any number of blocks: all of it is on the device after a crash, or nothing.
//!
//! Until there is a journal this writes in place: what it marks dirty is written back later, and what was freed may be used again when the
//! handle is dropped.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Result;
use buffer::{Buffer, BufferCache};
use mm::TryVec;

/// Something that waits for a change to be on the device.
pub trait Committed: Send {
    /// It is.
    fn committed(self: Box<Self>);
}

/// A change under way.
pub struct Handle {
    cache: Arc<BufferCache>,
    credits: u32,
    waiting: Vec<Box<dyn Committed>>,
    #[cfg(test)]
    touched: std::collections::BTreeSet<u64>,
}

impl Handle {
    /// A change of at most `credits` blocks.
    pub fn start(cache: &Arc<BufferCache>, credits: u32) -> Self {
        Self {
            cache: cache.clone(),
            credits,
            waiting: Vec::new(),
            #[cfg(test)]
            touched: std::collections::BTreeSet::new(),
        }
    }

    /// Makes room for as many blocks more; `false` if the journal has not as many.
    ///
    /// # Errors
    /// `EROFS` if the journal was aborted.
    pub fn extend(&mut self, credits: u32) -> Result<bool> {
        self.credits += credits;
        Ok(true)
    }

    /// Ends this change and begins another one.
    ///
    /// # Errors
    /// `EROFS` if the journal was aborted.
    pub fn restart(&mut self, credits: u32) -> Result<()> {
        self.finish();
        self.credits = credits;
        #[cfg(test)]
        self.touched.clear();
        Ok(())
    }

    /// Changes a block that is in use.
    ///
    /// # Errors
    /// `ENOMEM`, `EROFS`: nothing was changed.
    pub fn modify<R>(&mut self, buffer: &Arc<Buffer>, f: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        self.touch(buffer.block());
        buffer.write(f)
    }

    /// Fills a block that was not in use; `f` gets zeros.
    ///
    /// # Errors
    /// `ENOMEM`, `EROFS`: nothing was changed.
    pub fn create<R>(&mut self, buffer: &Arc<Buffer>, f: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        self.touch(buffer.block());
        let result = buffer.create(f)?;
        buffer.set_verified();
        buffer.mark_dirty();
        Ok(result)
    }

    /// A block of metadata was freed: it is not replayed, and not written.
    ///
    /// # Errors
    /// `ENOMEM`, `EROFS`.
    pub fn revoke(&mut self, block: u64, _buffer: Option<&Arc<Buffer>>) -> Result<()> {
        self.cache.forget(block);
        Ok(())
    }

    /// `what` is told when this change is on the device.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn on_commit(&mut self, what: Box<dyn Committed>) -> Result<()> {
        self.waiting.try_push(what)?;
        Ok(())
    }

    fn finish(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.committed();
        }
    }

    #[cfg(test)]
    fn touch(&mut self, block: u64) {
        self.touched.insert(block);
        assert!(
            self.touched.len() <= self.credits as usize,
            "more blocks changed than the {} announced: {:?}",
            self.credits,
            self.touched
        );
    }

    #[cfg(not(test))]
    fn touch(&mut self, _: u64) {}
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.finish();
    }
}
