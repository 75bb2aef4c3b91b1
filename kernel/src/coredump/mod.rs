//! Core dumps: core(5).
//!
//! A thread takes a signal whose action is to dump core. It makes itself the one that dumps, tells all other threads to go,
//! and waits until each has noted its registers and stands at the beginning of its exit ([`gather`]). Memory is at rest
//! then. It opens the file or starts the program that [`name`] makes of `core_pattern` ([`target`]), writes an ELF file
//! ([`write`]: headers, [`notes`], the parts of memory that [`areas`] chooses), lets the others go on, and exits.
//!
//! Only `SIGKILL` interrupts it: the dump ends where it is.

use crate::process::{CurrentThread, Resource};
use crate::signal::{Siginfo, Signal};
use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

pub mod areas;
pub mod gather;
pub mod name;
pub mod notes;
pub mod sink;
pub mod target;
pub mod write;

use gather::Dump;

/// Bytes of `core_pattern` with its NUL.
pub const PATTERN_SIZE: usize = 128;

/// A pattern and its length.
struct Pattern {
    bytes: [u8; PATTERN_SIZE],
    len: usize,
}

static PATTERN: SpinLock<Pattern> = SpinLock::new({
    let mut bytes = [0; PATTERN_SIZE];
    [bytes[0], bytes[1], bytes[2], bytes[3]] = *b"core";
    Pattern { bytes, len: 4 }
});

/// `kernel.core_uses_pid`: the pid is appended to a file name without one.
pub static USES_PID: AtomicI32 = AtomicI32::new(0);
/// `kernel.core_pipe_limit`: how many programs may take dumps at a time, which are then waited for; 0: any number, not
/// waited for.
pub static PIPE_LIMIT: AtomicU32 = AtomicU32::new(0);
/// `fs.suid_dumpable`: what becomes of programs that gained or gave up rights.
pub static SUID_DUMPABLE: AtomicU8 = AtomicU8::new(0);

/// Dumps that programs take at this moment.
static PIPES: AtomicU32 = AtomicU32::new(0);

/// `kernel.core_pattern`.
pub fn pattern() -> ([u8; PATTERN_SIZE], usize) {
    let pattern = PATTERN.lock();
    (pattern.bytes, pattern.len)
}

/// Sets `kernel.core_pattern`: up to the first newline; longer ones are cut.
pub fn set_pattern(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n' || *b == 0).unwrap_or(data.len());
    let text = data.get(..end.min(PATTERN_SIZE - 1)).unwrap_or_default();
    let mut pattern = PATTERN.lock();
    pattern.bytes = [0; PATTERN_SIZE];
    if let Some(to) = pattern.bytes.get_mut(..text.len()) {
        to.copy_from_slice(text);
    }
    pattern.len = text.len();
}

/// A process may be dumped by its own user (`SUID_DUMP_USER`).
const DUMP_USER: u8 = 1;
/// It may be dumped for root's eyes only (`SUID_DUMP_ROOT`).
const DUMP_ROOT: u8 = 2;

/// The running thread dies of `signal`: ends its process, and dumps core if that is wanted. Does not return.
pub fn die(me: &CurrentThread, signal: Signal, info: &Siginfo) -> ! {
    if let Some(dump) = wanted(me).then(|| gather::begin(me, signal)).flatten() {
        let result = dump_to_target(me, signal, info, &dump);
        match &result {
            Ok(()) | Err(Errno::EFBIG | Errno::EINTR) => {}
            Err(errno) => log::info!("{}[{}]: core dump: {errno}", me.task().comm(), me.global_tid()),
        }
        gather::finish(me, &dump, result.is_ok());
    }
    crate::exit::exit_group(signal.number())
}

/// Whether there is to be a dump, as far as the process itself is concerned.
fn wanted(me: &CurrentThread) -> bool {
    let dumpable = me.process.dumpable.load(Ordering::Relaxed);
    me.mm().is_some() && matches!(dumpable, DUMP_USER | DUMP_ROOT)
}

/// Dumps; an error says why not. What was written before an error in the middle stays.
fn dump_to_target(me: &CurrentThread, signal: Signal, info: &Siginfo, dump: &Dump) -> Result<()> {
    let limit = me.process.limits.cur(Resource::Core);
    let root_only = me.process.dumpable.load(Ordering::Relaxed) == DUMP_ROOT;
    let (bytes, len) = pattern();
    let pattern = bytes.get(..len).unwrap_or_default();
    let facts = name::Facts::of(me, signal, limit)?;
    let uses_pid = USES_PID.load(Ordering::Relaxed) != 0;
    match name::expand(pattern, &facts, uses_pid)? {
        name::Name::File(file) => {
            if limit < PAGE_SIZE as u64 {
                return Err(Errno::EFBIG);
            }
            let file = target::open_file(me, &file, root_only)?;
            write::write(me, signal, info, dump, &mut sink::Sink::file(file, limit))
        }
        name::Name::Pipe(words) => to_pipe(me, signal, info, dump, limit, words),
    }
}

fn to_pipe(
    me: &CurrentThread,
    signal: Signal,
    info: &Siginfo,
    dump: &Dump,
    limit: u64,
    words: Vec<Vec<u8>>,
) -> Result<()> {
    // The limit of the programs that take dumps: theirs are not taken.
    if limit == 1 {
        return Err(Errno::EFBIG);
    }
    let _count = PipeCount::new();
    let most = PIPE_LIMIT.load(Ordering::Relaxed);
    if most != 0 && PIPES.load(Ordering::Relaxed) > most {
        return Err(Errno::EAGAIN);
    }
    let (file, helper) = target::open_pipe(me, words)?;
    let result = write::write(me, signal, info, dump, &mut sink::Sink::pipe(file));
    // The sink is gone, and with it the last writer: the program sees the end.
    if most != 0 {
        target::wait_for(&helper);
    }
    result
}

/// One of [`PIPES`].
struct PipeCount;

impl PipeCount {
    fn new() -> Self {
        PIPES.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for PipeCount {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}
