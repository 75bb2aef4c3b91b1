//! `/proc/kpagecount` and `/proc/kpageflags`: a word per page frame of the machine, for root.

use alloc::sync::Arc;

use abi::{Errno, Result};
use kernfs::Node;
use mm::IovIter;
use mm::fallible::try_box;
use vfs::File;
use vfs::file::FileImpl;
use vfs::file_ops::{FileOps, IoFlags, Whence};
use zerocopy::IntoBytes;

use super::top;

/// Words made at once.
const CHUNK: usize = 64;

/// What a file says of a frame.
type Word = fn(u64) -> u64;

/// An open file.
struct Words(Word);

impl FileOps for Words {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        if !(*pos).is_multiple_of(8) || iter.count() % 8 != 0 {
            return Err(Errno::EINVAL);
        }
        let end = mm::kpage::end();
        let mut words = [0u64; CHUNK];
        let mut done = 0;
        while !iter.is_empty() && *pos / 8 < end {
            if sched::current().has_fatal_signal() {
                break;
            }
            let first = *pos / 8;
            let left = usize::try_from(end - first).unwrap_or(CHUNK);
            let wanted = words.get_mut(..CHUNK.min(iter.count() / 8).min(left)).unwrap_or_default();
            for (word, frame) in wanted.iter_mut().zip(first..) {
                *word = (self.0)(frame);
            }
            let copied = iter.copy_to_iter(wanted.as_bytes());
            done += copied;
            *pos += copied as u64;
            if copied < wanted.len() * 8 {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            sched::cond_resched();
        }
        Ok(done)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        vfs::rw::memory_llseek(file, offset, whence)
    }
}

/// Declares the files.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub(super) fn init() {
    let files: [(&'static str, Word); 2] =
        [("kpagecount", mm::kpage::count), ("kpageflags", mm::kpage::flags)];
    for (name, word) in files {
        let open = move |_: &kernfs::Context<'_>, _: &mut vfs::file::OpenFile<'_>| {
            Ok(FileImpl::Owned(try_box(Words(word))?))
        };
        top().add(name, Node::Custom(Arc::new(open)), 0o400);
    }
}
