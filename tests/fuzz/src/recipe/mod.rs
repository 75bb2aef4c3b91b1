//! Several calls that belong together: what one call alone does not get to.
//!
//! Random calls rarely set up what the deeper half of an interface works on: a ring, a tracee, a filter that is
//! valid, a file system that is half made. A recipe does, varies each step, and leaves what it made to the calls that
//! follow.

mod files;
mod memory;
mod messages;
mod tasks;
mod uring;

use crate::args::Resources;
use crate::program::Around;
use crate::rng::Rng;
use std::cell::RefCell;

/// One recipe.
pub struct Recipe {
    /// A name, for `fuzz_calls`.
    pub name: &'static str,
    /// Follows it.
    pub run: fn(&Cook<'_>),
}

/// Who follows a recipe.
pub struct Cook<'a> {
    /// Random numbers.
    pub rng: &'a Rng,
    /// What calls gave so far.
    pub known: &'a RefCell<Resources>,
    /// The rest of the program.
    pub around: Around,
}

/// All recipes.
pub const ALL: &[Recipe] = &[
    Recipe { name: "io_uring", run: uring::ring },
    Recipe { name: "aio", run: uring::aio },
    Recipe { name: "ptrace", run: tasks::tracer },
    Recipe { name: "clone3", run: tasks::clone3 },
    Recipe { name: "seccomp", run: tasks::filter },
    Recipe { name: "signal", run: tasks::signals },
    Recipe { name: "sched", run: tasks::scheduling },
    Recipe { name: "futex", run: tasks::futexes },
    Recipe { name: "landlock", run: files::ruleset },
    Recipe { name: "mount", run: files::mounts },
    Recipe { name: "notify", run: files::watches },
    Recipe { name: "proc", run: files::pseudo },
    Recipe { name: "epoll", run: files::epolls },
    Recipe { name: "lock", run: files::locks },
    Recipe { name: "rights", run: messages::rights },
    Recipe { name: "mqueue", run: messages::queue },
    Recipe { name: "sysv", run: messages::sysv },
    Recipe { name: "key", run: messages::keys },
    Recipe { name: "mapping", run: memory::mappings },
    Recipe { name: "policy", run: memory::policies },
    Recipe { name: "userfaultfd", run: memory::faults },
    Recipe { name: "splice", run: memory::pipes },
];

impl Cook<'_> {
    /// A system call.
    pub fn call(&self, nr: libc::c_long, args: [u64; 6]) -> i64 {
        let [a, b, c, d, e, f] = args;
        // SAFETY: none. This process is there to be broken: it holds nothing but its own life.
        unsafe { libc::syscall(nr, a, b, c, d, e, f) }
    }

    /// A call that makes a descriptor, which later calls know of.
    pub fn open(&self, nr: libc::c_long, args: [u64; 6]) -> u64 {
        let fd = self.call(nr, args);
        self.known.borrow_mut().learn("open", fd);
        fd as u64
    }

    /// Words in memory: where.
    pub fn words(&self, words: &[u64]) -> u64 {
        crate::args::store_words(self.rng, words)
    }

    /// Bytes in memory: where.
    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        crate::args::store(self.rng, bytes)
    }

    /// An argument by its letter; see [`crate::table`].
    pub fn arg(&self, kind: u8) -> u64 {
        crate::args::make(self.rng, kind, &self.known.borrow())
    }

    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        self.rng.below(limit)
    }

    /// Each of the bits of `mask` with even odds.
    pub fn some_of(&self, mask: u64) -> u64 {
        self.rng.bits() & mask
    }

    /// Few of the bits of `mask`.
    pub fn few_of(&self, mask: u64) -> u64 {
        self.rng.bits() & self.rng.bits() & mask
    }

    /// A child that makes calls of its own, then ends; its process id, if there may be one.
    pub fn child(&self) -> Option<u64> {
        let seed = self.rng.bits();
        crate::program::child(seed, self.around)
    }
}
