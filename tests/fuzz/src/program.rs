//! One program: processes and threads that make random calls.

use crate::args::{self, Resources};
use crate::recipe::{self, Cook, Recipe};
use crate::rng::Rng;
use crate::table::Call;
use std::cell::RefCell;

/// Calls that a thread makes.
const CALLS: u64 = 250;
/// Nesting of forks.
const DEPTH: u32 = 2;

/// What a thread of a program knows about the program.
#[derive(Clone, Copy)]
pub struct Around {
    calls: &'static [&'static Call],
    recipes: &'static [&'static Recipe],
    depth: u32,
}

impl Around {
    /// Whether children may still be made.
    pub fn may_fork(&self) -> bool {
        self.depth > 0
    }

    fn deeper(self) -> Self {
        Self { depth: self.depth.saturating_sub(1), ..self }
    }
}

/// Runs the program of `seed` in this process, which has nothing to lose.
pub fn run(seed: u64, calls: &'static [Call], filter: &str) {
    let rng = Rng::new(seed);
    if !args::map_arena() {
        return;
    }
    prepare();
    let around = choose(&rng, calls, filter);
    let threads = rng.below(3);
    for _ in 0..threads {
        let seed = rng.bits();
        let _ = std::thread::Builder::new().stack_size(128 << 10).spawn(move || thread(seed, around));
    }
    thread(rng.bits(), around);
}

/// What the program tries: usually a few calls out of all, over and over, so that they meet in more ways (swarm
/// testing: Groce et al., ISSTA 2012).
fn choose(rng: &Rng, calls: &'static [Call], filter: &str) -> Around {
    /// What nearly every program needs.
    const COMMON: &[&str] =
        &["openat", "close", "dup", "read", "write", "mmap", "munmap", "fork", "kill", "wait4"];
    let everything = !filter.is_empty() || rng.one_in(4);
    let share = 2 + rng.below(30);
    let chosen: Vec<&Call> =
        calls.iter().filter(|call| everything || COMMON.contains(&call.name) || rng.one_in(share)).collect();
    let recipes = recipe::ALL.iter().filter(|recipe| recipe.name.contains(filter));
    let recipes: Vec<&Recipe> = recipes.filter(|_| everything || rng.one_in(5)).collect();
    Around { calls: Vec::leak(chosen), recipes: Vec::leak(recipes), depth: DEPTH }
}

/// Files for the calls to find.
fn prepare() {
    for directory in [c"d", c"d/e"] {
        // SAFETY: a path.
        unsafe { libc::mkdir(directory.as_ptr(), 0o777) };
    }
    for file in [c"a", c"d/a", c"d/e/f"] {
        // SAFETY: a path; the descriptor stays open for the calls.
        unsafe {
            let fd = libc::open(file.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o666);
            libc::write(fd, c"some bytes".as_ptr().cast(), 10);
        }
    }
    // SAFETY: paths, and a pair of descriptors to fill.
    unsafe {
        libc::symlink(c"loop".as_ptr(), c"loop".as_ptr());
        libc::mkfifo(c"fifo".as_ptr(), 0o666);
        let mut pair = [0; 2];
        libc::pipe(pair.as_mut_ptr());
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0, pair.as_mut_ptr());
        libc::eventfd(1, libc::EFD_NONBLOCK);
        libc::epoll_create1(0);
    }
}

fn thread(seed: u64, around: Around) {
    let rng = Rng::new(seed);
    let known = RefCell::new(Resources::default());
    for fd in 3..12 {
        known.borrow_mut().learn("open", fd);
    }
    let count = if around.calls.is_empty() { CALLS / 8 } else { CALLS };
    for _ in 0..count {
        if !around.recipes.is_empty() && (around.calls.is_empty() || rng.one_in(16)) {
            let recipe = rng.pick(around.recipes);
            (recipe.run)(&Cook { rng: &rng, known: &known, around });
            continue;
        }
        if around.calls.is_empty() {
            return;
        }
        let call = rng.pick(around.calls);
        match call.name {
            "fork" | "vfork" | "clone" | "clone3" => drop(child(rng.bits(), around)),
            // These would end the program early; once in a while that is what should be tried.
            "exit" | "exit_group" | "execve" | "execveat" | "pause" | "rt_sigreturn" | "rt_sigsuspend"
                if !rng.one_in(16) => {}
            _ => {
                let [a, b, c, d, e, f] = call.kinds.map(|kind| args::make(&rng, kind, &known.borrow()));
                // SAFETY: none. This process is there to be broken: it holds nothing but its own life.
                let result = unsafe { libc::syscall(call.nr, a, b, c, d, e, f) };
                known.borrow_mut().learn(call.name, result);
            }
        }
    }
}

/// A child that goes on with calls of its own; its process id.
pub fn child(seed: u64, around: Around) -> Option<u64> {
    if !around.may_fork() {
        return None;
    }
    // SAFETY: the child only makes system calls, and exits.
    match unsafe { libc::fork() } {
        0 => end_as_child(seed, around),
        pid => u64::try_from(pid).ok(),
    }
}

/// What a child does.
pub fn end_as_child(seed: u64, around: Around) -> ! {
    thread(seed, around.deeper());
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}
