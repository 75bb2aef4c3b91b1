//! Text under construction, and the file that hands it out.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use abi::{Errno, Result};
use mm::IovIter;
use mm::fallible::{TryVec, try_box};
use sched::mutex::Mutex;
use vfs::file::{File, FileImpl};
use vfs::file_ops::{FileOps, IoFlags, Whence};

use crate::node::{Attr, Context, Show};

/// The largest write that is taken in one piece.
const WRITE_MAX: usize = 64 * 1024;

/// A growing text. Running out of memory is remembered and reported once, at the end.
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
    failed: bool,
}

impl Text {
    /// An empty text.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), failed: false }
    }

    /// Appends bytes, which need not be UTF-8.
    pub fn push(&mut self, bytes: &[u8]) {
        self.failed |= self.bytes.try_extend_from_slice(bytes).is_err();
    }

    /// Appends spaces up to `column` characters since the last newline.
    pub fn pad_to(&mut self, column: usize) {
        let line = self.bytes.iter().rev().take_while(|&&byte| byte != b'\n').count();
        for _ in line..column {
            self.push(b" ");
        }
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes away what is behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// The finished text.
    ///
    /// # Errors
    /// `ENOMEM` when it did not fit into memory.
    pub fn finish(self) -> Result<Vec<u8>> {
        if self.failed { Err(Errno::ENOMEM) } else { Ok(self.bytes) }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Where the text of an open file comes from.
#[derive(Clone)]
pub(crate) enum Source {
    Shared(Arc<dyn Show>),
    Constant(&'static Attr),
}

impl Source {
    fn show(&self, cx: &Context<'_>, out: &mut Text) -> Result<()> {
        match self {
            Self::Shared(show) => show.show(cx, out),
            Self::Constant(attr) => (attr.show)(out),
        }
    }

    fn store(&self, cx: &Context<'_>, data: &[u8]) -> Result<()> {
        match self {
            Self::Shared(show) => show.store(cx, data),
            // An empty write changes nothing.
            Self::Constant(attr) if data.is_empty() => attr.store.ok_or(Errno::EIO).map(drop),
            Self::Constant(attr) => attr.store.ok_or(Errno::EIO)?(data),
        }
    }

    pub(crate) fn open(&self, cx: &Context<'_>) -> Result<()> {
        match self {
            Self::Shared(show) => show.open(cx),
            Self::Constant(_) => Ok(()),
        }
    }
}

/// An open file of text.
pub(crate) struct TextFile {
    source: Source,
    /// The text being read; made at the first read and again when the reader returns to the start.
    text: Mutex<Option<Vec<u8>>>,
}

impl TextFile {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, text: Mutex::new(None) }
    }

    fn context(file: &File) -> Context<'_> {
        Context { sb: file.inode().sb(), cred: file.cred() }
    }
}

/// An open file of the text that `show` makes: for nodes with operations of their own that choose what to show when they are opened.
///
/// # Errors
/// `ENOMEM`.
pub fn open_text(show: Arc<dyn Show>) -> Result<FileImpl> {
    Ok(FileImpl::Owned(try_box(TextFile::new(Source::Shared(show)))?))
}

impl FileOps for TextFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let mut text = self.text.lock();
        if *pos == 0 || text.is_none() {
            let mut fresh = Text::new();
            self.source.show(&Self::context(file), &mut fresh)?;
            *text = Some(fresh.finish()?);
        }
        let bytes = text.as_deref().unwrap_or_default();
        let rest = usize::try_from(*pos).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        if rest.is_empty() || iter.is_empty() {
            return Ok(0);
        }
        let wanted = rest.len().min(iter.count());
        let count = iter.copy_to_iter(rest.get(..wanted).unwrap_or_default());
        if count == 0 {
            return Err(Errno::EFAULT);
        }
        *pos += count as u64;
        Ok(count)
    }

    fn write_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let size = iter.count();
        if size > WRITE_MAX {
            return Err(Errno::EINVAL);
        }
        let data = iter.read_to_vec(size)?;
        if data.len() < size {
            return Err(Errno::EFAULT);
        }
        self.source.store(&Self::context(file), &data)?;
        *pos += size as u64;
        Ok(size)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        vfs::rw::endless_llseek(file, offset, whence)
    }
}
