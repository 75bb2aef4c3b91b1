//! Runs each test in a child process of its own and reports what came of it.
//!
//! A test is a function that returns [`Outcome`]. It runs in a fresh directory below /tmp, as
//! leader of its own process group, and has [`LIMIT`] to finish. All it leaves behind (children,
//! files) is removed before the next test starts.

use crate::sys::{self, Errno, c, sys};
use std::ffi::CString;
use std::fmt;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Why a test failed.
pub struct Failure(pub String);

/// What a test returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure noticed at the caller's line.
    #[track_caller]
    pub fn new(text: impl fmt::Display) -> Self {
        let at = Location::caller();
        let file = at.file().rsplit('/').next().unwrap_or_default();
        Failure(format!("{file}:{}: {text}", at.line()))
    }
}

impl From<Errno> for Failure {
    #[track_caller]
    fn from(errno: Errno) -> Self {
        Failure::new(format!("unexpected error {errno:?}"))
    }
}

impl From<String> for Failure {
    #[track_caller]
    fn from(text: String) -> Self {
        Failure::new(text)
    }
}

impl From<&str> for Failure {
    #[track_caller]
    fn from(text: &str) -> Self {
        Failure::new(text)
    }
}

impl From<std::io::Error> for Failure {
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        Failure::new(format!("unexpected error {error}"))
    }
}

/// A named test.
pub struct Test {
    /// Module and function.
    pub name: &'static str,
    /// The test.
    pub run: fn() -> Outcome,
}

/// Makes the table of a file's tests.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        /// The tests of this file.
        pub const TESTS: &[$crate::harness::Test] = &[
            $($crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: $name,
            }),*
        ];
    };
}
pub(crate) use tests;

/// Fails the test unless the condition holds.
macro_rules! check {
    ($cond:expr) => {
        if !$cond {
            return Err($crate::harness::Failure::new(stringify!($cond)));
        }
    };
    ($cond:expr, $($format:tt)+) => {
        if !$cond {
            let text = format!($($format)+);
            return Err($crate::harness::Failure::new(format!("{}: {text}", stringify!($cond))));
        }
    };
}
pub(crate) use check;

/// Fails the test unless both values are equal.
macro_rules! check_eq {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) if *left == *right => {}
            (left, right) => {
                let text = format!("{} is {left:?}, expected {right:?}", stringify!($left));
                return Err($crate::harness::Failure::new(text));
            }
        }
    };
}
pub(crate) use check_eq;

/// Fails the test unless the call fails with the given error.
macro_rules! check_err {
    ($call:expr, $errno:ident) => {{
        let result = $call;
        if !matches!(result, Err($crate::sys::Errno(libc::$errno))) {
            let result = result.map(drop);
            let text = format!("{} gave {result:?}, expected {}", stringify!($call), stringify!($errno));
            return Err($crate::harness::Failure::new(text));
        }
    }};
}
pub(crate) use check_err;

/// Runs the tests whose name contains one of `filters` (all without filters); the number of
/// failures.
pub fn run(tables: &[&[Test]], filters: &[String]) -> usize {
    let (mut passed, mut failed) = (0, 0);
    for test in tables.iter().copied().flatten() {
        let name = test.name.trim_start_matches("guest_tests::");
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let started = Instant::now();
        let outcome = one(name, test.run);
        let ms = started.elapsed().as_millis();
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("ok {name} ({ms} ms)");
            }
            Err(Failure(why)) => {
                failed += 1;
                println!("FAIL {name}: {}", why.replace('\n', " "));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    failed
}

fn one(name: &str, test: fn() -> Outcome) -> Outcome {
    let directory = format!("/tmp/{}", name.replace("::", "."));
    let report = sys::pipe(libc::O_CLOEXEC)?;
    let child = sys::fork(|| child(&directory, report[1], test))?;
    sys::close(report[1])?;
    // Both sides do it, so that it is done whoever comes first.
    let _ = sys!(SYS_setpgid, child, child);
    let status = wait_within(child, LIMIT);
    let _ = sys::kill(-child, libc::SIGKILL);
    if status.is_none() {
        let _ = sys::kill(child, libc::SIGKILL);
        let _ = sys::wait(child);
    }
    reap_rest();
    // A process that escaped its group could hold the other end: do not wait for it.
    sys::fcntl(report[0], libc::F_SETFL, libc::O_NONBLOCK as usize)?;
    let why = sys::read_vec(report[0], 4096).unwrap_or_default();
    sys::close(report[0])?;
    let _ = std::fs::remove_dir_all(&directory);
    let why = String::from_utf8_lossy(&why).into_owned();
    match status {
        None => Err(Failure(format!("not finished after {} s", LIMIT.as_secs()))),
        Some(0) => Ok(()),
        Some(status) if why.is_empty() => Err(Failure(if libc::WIFSIGNALED(status) {
            format!("killed by signal {}", libc::WTERMSIG(status))
        } else {
            format!("exit status {}", libc::WEXITSTATUS(status))
        })),
        Some(_) => Err(Failure(why)),
    }
}

fn child(directory: &str, report: i32, test: fn() -> Outcome) -> i32 {
    let _ = sys!(SYS_setpgid, 0, 0);
    // Results must not depend on where the runner was started, nor land in its output.
    if let Ok(null) = sys::open(c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC, 0) {
        for fd in 0..3 {
            let _ = sys!(SYS_dup3, null, fd, 0);
        }
        let _ = sys::close(null);
    }
    // Rust's runtime ignores it; a test program should start as any other.
    let _ = c!(signal(libc::SIGPIPE, libc::SIG_DFL));
    std::panic::set_hook(Box::new(move |info| {
        let _ = sys::write(report, format!("panic: {info}").as_bytes());
    }));
    if let Err(Failure(why)) = enter(directory).and_then(|()| test()) {
        let _ = sys::write(report, why.as_bytes());
        return 1;
    }
    0
}

fn enter(directory: &str) -> Outcome {
    std::fs::create_dir_all(directory)?;
    let path = CString::new(directory).map_err(|_| Failure::new("NUL in the name"))?;
    sys!(SYS_chdir, path.as_ptr())?;
    Ok(())
}

fn wait_within(pid: i32, limit: Duration) -> Option<i32> {
    let end = Instant::now() + limit;
    let mut pause = 200;
    loop {
        match sys::wait_options(pid, libc::WNOHANG) {
            Ok((0, _)) if Instant::now() < end => {
                std::thread::sleep(Duration::from_micros(pause));
                pause = (pause * 2).min(10_000);
            }
            Ok((0, _)) => return None,
            Ok((_, status)) => return Some(status),
            Err(_) => return Some(1),
        }
    }
}

/// Collects what was reparented to us.
fn reap_rest() {
    for _ in 0..1000 {
        match sys::wait_options(-1, libc::WNOHANG) {
            Ok((1.., _)) => {}
            _ => break,
        }
    }
}

/// Prepares the system when we are its init: what every distribution mounts.
pub fn mount_system() {
    let mounts = [
        (c"proc", c"/proc"),
        (c"sysfs", c"/sys"),
        (c"devtmpfs", c"/dev"),
        (c"devpts", c"/dev/pts"),
        (c"tmpfs", c"/dev/shm"),
        (c"tmpfs", c"/tmp"),
    ];
    for (kind, path) in mounts {
        let _ = sys::mkdir(path, 0o755);
        let flags = if path == c"/dev" { 0 } else { libc::MS_NOSUID };
        if let Err(errno) = sys!(SYS_mount, kind.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, 0) {
            println!("mount {path:?}: {errno:?}");
        }
    }
    let _ = sys!(SYS_fchmodat, sys::CWD, c"/tmp".as_ptr(), 0o1777);
    load_modules();
    let _ = c!(setenv(c"PATH".as_ptr(), c"/bin:/sbin:/usr/bin:/usr/sbin".as_ptr(), 1));
}

/// Loads the modules that came with the system, in the order of their names: what a kernel that has no modules has built in.
fn load_modules() {
    let Ok(found) = std::fs::read_dir("/lib/modules") else { return };
    let mut paths: Vec<_> = found.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let loaded = match std::fs::File::open(&path) {
            Ok(file) => sys!(SYS_finit_module, std::os::fd::AsRawFd::as_raw_fd(&file), c"".as_ptr(), 0),
            Err(_) => Err(sys::last()),
        };
        if let Err(errno) = loaded {
            println!("load {path:?}: {errno:?}");
        }
    }
}

/// Has the kernel look for memory that it has lost, if it can (`kmemleak`), and prints what it says.
pub fn look_for_leaks() {
    let file = c"/sys/kernel/debug/kmemleak";
    let _ = sys!(SYS_mount, c"debugfs".as_ptr(), c"/sys/kernel/debug".as_ptr(), c"debugfs".as_ptr(), 0, 0);
    if sys::spew(file, "scan").is_err() {
        return;
    }
    // What is younger is not told of, and what moved during one search is found by another.
    sys::sleep_ms(6000);
    for _ in 0..3 {
        let _ = sys::spew(file, "scan");
    }
    if let Ok(found) = sys::slurp(file) {
        println!("searched for lost memory");
        found.lines().for_each(|line| println!("kmemleak: {line}"));
    }
}

/// Writes back and powers off.
pub fn power_off() -> ! {
    let _ = sys!(SYS_sync);
    let (magic1, magic2, off) = (0xfee1_dead_u32, 672_274_793, 0x4321_fedc);
    let _ = sys!(SYS_reboot, magic1, magic2, off, 0);
    loop {
        sys::sleep_ms(1000);
    }
}

/// Runs `body` in a child; what it says went wrong is said here.
pub fn checked_child(body: impl FnOnce() -> Outcome) -> Outcome {
    let ends = sys::pipe(0)?;
    let status = sys::in_child(|| match body() {
        Ok(()) => 0,
        Err(Failure(why)) => {
            let _ = sys::write(ends[1], why.as_bytes());
            1
        }
    })?;
    sys::close(ends[1])?;
    let why = sys::read_vec(ends[0], 2000)?;
    sys::close(ends[0])?;
    if status == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("child ended with {status}: {}", String::from_utf8_lossy(&why))))
}
