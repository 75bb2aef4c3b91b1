//! Runs programs side by side and sees to it that they end.

use crate::program;
use crate::table::{self, Call};
use std::ffi::CString;
use std::time::{Duration, Instant};

/// What to run.
pub struct Settings {
    /// Seed of the first program; the following ones count up.
    pub seed: u64,
    /// How long programs are started.
    pub time: Duration,
    /// How many programs at most.
    pub programs: u64,
    /// How many at a time.
    pub workers: usize,
    /// Who runs them.
    pub user: u32,
    /// Part of the names of the calls to make.
    pub calls: String,
}

/// After this a program is killed.
const PATIENCE: Duration = Duration::from_secs(3);
/// A killed program that is still there after this is a failure.
const DEATH: Duration = Duration::from_secs(30);

struct Running {
    pid: i32,
    seed: u64,
    started: Instant,
    killed: Option<Instant>,
}

/// Mounts what a system has.
pub fn mount_system() {
    for (kind, at) in [
        (c"devtmpfs", c"/dev"),
        (c"proc", c"/proc"),
        (c"sysfs", c"/sys"),
        (c"tmpfs", c"/tmp"),
        (c"devpts", c"/dev/pts"),
    ] {
        // SAFETY: paths.
        unsafe {
            libc::mkdir(at.as_ptr(), 0o755);
            libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null());
        }
    }
}

/// Runs programs until time or number is up; how many could not be killed.
pub fn run(settings: &Settings) -> usize {
    let calls: &'static [Call] = Vec::leak(table::calls(&settings.calls));
    let start = Instant::now();
    let (mut next, mut failures) = (0, 0);
    let mut running: Vec<Running> = Vec::new();
    let before = available_kib();
    loop {
        while running.len() < settings.workers && next < settings.programs && start.elapsed() < settings.time
        {
            let seed = settings.seed + next;
            next += 1;
            println!("fuzz: program {seed}");
            if let Some(pid) = start_program(seed, settings, calls) {
                running.push(Running { pid, seed, started: Instant::now(), killed: None });
            }
        }
        if running.is_empty() {
            break;
        }
        // SAFETY: only asks.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        running.retain_mut(|program| {
            // SAFETY: no memory is involved.
            if unsafe { libc::kill(program.pid, 0) } != 0 {
                return false;
            }
            match program.killed {
                None if program.started.elapsed() > PATIENCE => {
                    // SAFETY: as above.
                    unsafe { libc::kill(program.pid, libc::SIGKILL) };
                    program.killed = Some(Instant::now());
                    true
                }
                Some(since) if since.elapsed() > DEATH => {
                    failures += 1;
                    report_stuck(program);
                    false
                }
                _ => true,
            }
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    println!(
        "fuzz: {next} programs in {} s, {before} KiB available before, {} KiB after",
        start.elapsed().as_secs(),
        available_kib()
    );
    failures
}

fn report_stuck(program: &Running) {
    println!("fuzz: program {} cannot be killed", program.seed);
    let process = format!("/proc/{}", program.pid);
    let show = |path: String| println!("{path}: {}", std::fs::read_to_string(&path).unwrap_or_default());
    show(format!("{process}/status"));
    let tasks = std::fs::read_dir(format!("{process}/task")).into_iter().flatten().flatten();
    for task in tasks {
        for file in ["status", "wchan", "stack", "syscall"] {
            show(format!("{}/{file}", task.path().display()));
        }
    }
    // What runs is not asleep anywhere: where it is, the CPUs say (on the console, several times, for it may move).
    for _ in 0..4 {
        let _ = std::fs::write("/proc/sysrq-trigger", "l");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Who else is in its namespaces: such a process holds it up until it is gone itself.
    for other in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let status = std::fs::read_to_string(other.path().join("status")).unwrap_or_default();
        if status.starts_with(&format!("Name:\tfuzz-{}\n", program.seed))
            && other.path().as_os_str() != process.as_str()
        {
            println!("{}: {status}", other.path().display());
            for file in ["wchan", "stack", "syscall"] {
                show(format!("{}/{file}", other.path().display()));
            }
        }
    }
}

fn available_kib() -> u64 {
    let text = match std::fs::read_to_string("/proc/meminfo") {
        Ok(text) => text,
        Err(error) => {
            println!("fuzz: /proc/meminfo: {error}");
            return 0;
        }
    };
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Starts the program of `seed` with namespaces, a directory and limits of its own; its process id here. It is the
/// first process of its pid namespace: all that it starts ends with it.
fn start_program(seed: u64, settings: &Settings, calls: &'static [Call]) -> Option<i32> {
    let spaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: without a stack it is fork(2); this process has one thread, and the child only runs what follows.
    let pid = unsafe { libc::syscall(libc::SYS_clone, spaces | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid != 0 {
        return i32::try_from(pid).ok().filter(|pid| *pid > 0);
    }
    inside(seed, settings, calls);
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

/// The first process of the program's pid namespace.
fn inside(seed: u64, settings: &Settings, calls: &'static [Call]) {
    let user = settings.user;
    let limits = [
        (libc::RLIMIT_AS, 192 << 20),
        (libc::RLIMIT_FSIZE, 1 << 20),
        (libc::RLIMIT_NOFILE, 64),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, 16 << 20),
        (libc::RLIMIT_CPU, 5),
    ];
    // SAFETY: paths, structures that live over the call, and descriptors that nobody here uses any more.
    unsafe {
        libc::setsid();
        let none = c"none".as_ptr();
        libc::mount(none, c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
        libc::mount(none, c"/proc".as_ptr(), c"proc".as_ptr(), 0, std::ptr::null());
        libc::mount(
            none,
            c"/tmp".as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            c"size=8m,nr_inodes=500,mode=777".as_ptr().cast(),
        );
        libc::chdir(c"/tmp".as_ptr());
        for (resource, value) in limits {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            libc::setrlimit(resource, &limit);
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for fd in 0..3 {
            libc::dup2(null, fd);
        }
        if let Ok(name) = CString::new(format!("fuzz-{seed}")) {
            libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        }
        if user != 0 {
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            libc::setrlimit(libc::RLIMIT_NPROC, &limit);
            libc::setgroups(0, std::ptr::null());
            libc::setgid(user);
            libc::setuid(user);
        }
    }
    program::run(seed, calls, &settings.calls);
}
