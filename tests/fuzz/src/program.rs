//! One program: processes and threads that make random calls.

use crate::args::{self, Resources};
use crate::rng::Rng;
use crate::table::Call;

/// Calls that a thread makes.
const CALLS: u64 = 250;
/// Nesting of forks.
const DEPTH: u32 = 2;

/// Runs the program of `seed` in this process, which has nothing to lose.
pub fn run(seed: u64, calls: &'static [Call]) {
    let mut rng = Rng::new(seed);
    if !args::map_arena() {
        return;
    }
    prepare();
    let threads = rng.below(3);
    for _ in 0..threads {
        let seed = rng.bits();
        let _ = std::thread::Builder::new().stack_size(128 << 10).spawn(move || thread(seed, calls, DEPTH));
    }
    thread(rng.bits(), calls, DEPTH);
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

fn thread(seed: u64, calls: &'static [Call], depth: u32) {
    let mut rng = Rng::new(seed);
    let mut known = Resources::default();
    for fd in 3..12 {
        known.learn("open", fd);
    }
    for _ in 0..CALLS {
        let call = rng.pick(calls);
        match call.name {
            "fork" | "vfork" | "clone" | "clone3" => fork(&mut rng, calls, depth),
            // These would end the program early; once in a while that is what should be tried.
            "exit" | "exit_group" | "execve" | "execveat" | "pause" | "rt_sigreturn" | "rt_sigsuspend"
                if !rng.one_in(16) => {}
            _ => {
                let [a, b, c, d, e, f] = call.kinds.map(|kind| args::make(&mut rng, kind, &known));
                // SAFETY: none. This process is there to be broken: it holds nothing but its own life.
                let result = unsafe { libc::syscall(call.nr, a, b, c, d, e, f) };
                known.learn(call.name, result);
            }
        }
    }
}

/// A child that goes on with calls of its own.
fn fork(rng: &mut Rng, calls: &'static [Call], depth: u32) {
    let seed = rng.bits();
    if depth == 0 {
        return;
    }
    // SAFETY: the child only makes system calls, and exits.
    if unsafe { libc::fork() } == 0 {
        thread(seed, calls, depth - 1);
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
}
