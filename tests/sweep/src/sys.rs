//! What the sweep needs of the system. No allocation happens between arming a failure and reading back whether it was reached.

use crate::work::Workload;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};

/// Mounts what a system has.
pub fn mount_system() {
    for (kind, at) in [
        (c"devtmpfs", c"/dev"),
        (c"proc", c"/proc"),
        (c"sysfs", c"/sys"),
        (c"tmpfs", c"/tmp"),
        (c"devpts", c"/dev/pts"),
        (c"mqueue", c"/dev/mqueue"),
        (c"debugfs", c"/sys/kernel/debug"),
    ] {
        // SAFETY: paths.
        unsafe {
            libc::mkdir(at.as_ptr(), 0o755);
            libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null());
        }
    }
}

fn write(path: &str, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{path}: {error}"))
}

/// Lets every allocation fail that may.
pub fn prepare() -> Result<(), String> {
    for kind in ["failslab", "fail_page_alloc"] {
        let file = |name: &str| format!("/sys/kernel/debug/{kind}/{name}");
        write(&file("verbose"), "0")?;
        write(&file("ignore-gfp-wait"), "N")?;
    }
    write("/sys/kernel/debug/fail_page_alloc/min-order", "0")?;
    write("/proc/sys/vm/overcommit_memory", "1")
}

/// Switches the machine off.
pub fn power_off() -> ! {
    // SAFETY: no memory is involved.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
        libc::_exit(0)
    }
}

/// KiB that are not available to programs, after caches have been dropped.
pub fn in_use_kib() -> i64 {
    // A first round only takes marks of use away, and a directory goes when what was in it has gone: with the end of a grace period.
    for _ in 0..6 {
        let _ = write("/proc/sys/vm/drop_caches", "3");
        std::thread::sleep(std::time::Duration::from_millis(40));
    }
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| -> i64 {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    // Pages that CPUs keep at hand count as used there.
    let zones = std::fs::read_to_string("/proc/zoneinfo").unwrap_or_default();
    let counts = zones.lines().filter_map(|line| line.trim().strip_prefix("count:"));
    let at_hand: i64 = counts.filter_map(|count| count.trim().parse::<i64>().ok()).sum();
    of("MemTotal:") - of("MemFree:") - at_hand * 4
}

const REACHED: u32 = 1;
const NOT_REACHED: u32 = 2;

/// Numbers of the kernel's memory, by name.
pub fn numbers() -> Vec<(String, i64)> {
    let mut all = Vec::new();
    for (file, column, unit) in [("/proc/meminfo", 1, 1), ("/proc/slabinfo", 2, 0)] {
        for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value = words.get(column).and_then(|word| word.parse::<i64>().ok());
            let size = words.get(3).and_then(|word| word.parse::<i64>().ok()).unwrap_or(1024);
            if let (Some(name), Some(value)) = (words.first(), value) {
                all.push((name.to_string(), if unit == 1 { value } else { value * size / 1024 }));
            }
        }
    }
    all
}

/// What a child tells, in memory that it shares with its parent.
pub struct Report(&'static [AtomicU32; 3]);

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        static PAGE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let page = *PAGE.get_or_init(|| {
            // SAFETY: a new mapping.
            unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                ) as usize
            }
        });
        // SAFETY: a page that stays mapped; zeroes are valid.
        let report = Self(unsafe { &*(page as *const [AtomicU32; 3]) });
        report.0.iter().for_each(|word| word.store(0, Ordering::SeqCst));
        report
    }

    /// Whether the allocation was reached.
    pub fn reached(&self) -> bool {
        self.0[0].load(Ordering::SeqCst) == REACHED
    }

    /// The error of the workload, 0 for none.
    pub fn error(&self) -> i32 {
        self.0[1].load(Ordering::SeqCst) as i32
    }

    /// Whether the child has not come to an end of its own: another program has.
    pub fn is_silent(&self) -> bool {
        self.0[0].load(Ordering::SeqCst) == 0
    }

    /// At which step.
    pub fn step(&self) -> u32 {
        self.0[2].load(Ordering::SeqCst)
    }
}

fn page() -> &'static [AtomicU32; 3] {
    // SAFETY: `in_child` has stored the address of the page of `Report::new`.
    unsafe { &*(PAGE_ADDRESS.load(Ordering::SeqCst) as *const [AtomicU32; 3]) }
}

static PAGE_ADDRESS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
static ARMED: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

/// Runs the workload in the child and ends it.
pub fn in_child(workload: &Workload, n: u32, report: &Report) -> ! {
    PAGE_ADDRESS.store(std::ptr::from_ref(report.0) as usize, Ordering::SeqCst);
    // SAFETY: calls with paths and buffers that live over them.
    unsafe {
        libc::setpgid(0, 0);
        let name = CString::new(format!("sweep-{}", workload.name)).unwrap_or_default();
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        let dir = c"/tmp/sweep";
        libc::mkdir(dir.as_ptr(), 0o777);
        libc::chdir(dir.as_ptr());
        (workload.setup)();
        let fd = libc::open(c"/proc/thread-self/fail-nth".as_ptr(), libc::O_RDWR);
        let text = format!("{n}");
        ARMED.store(fd, Ordering::SeqCst);
        if libc::pwrite(fd, text.as_ptr().cast(), text.len(), 0) < 0 {
            page()[1].store(999, Ordering::SeqCst);
            libc::_exit(1);
        }
    }
    let result = (workload.run)();
    disarm(n);
    if let Err((step, error)) = result {
        page()[1].store(error as u32, Ordering::SeqCst);
        page()[2].store(step, Ordering::SeqCst);
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

/// Reads whether the failure has happened, and lets none happen any more.
fn disarm(n: u32) {
    let mut text = [0u8; 12];
    let fd = ARMED.load(Ordering::SeqCst);
    // SAFETY: a buffer that lives over the calls.
    unsafe {
        let got = libc::pread(fd, text.as_mut_ptr().cast(), text.len(), 0);
        let reached = n != 0 && got > 0 && text[0] == b'0';
        page()[0].store(if reached { REACHED } else { NOT_REACHED }, Ordering::SeqCst);
        libc::pwrite(fd, c"0".as_ptr().cast(), 1, 0);
    }
}

/// Exit code of the program that `exec` starts if the failure was not reached.
pub const BEYOND: i32 = 42;

/// The program that `exec` starts: says whether the failure was reached.
pub fn after_exec() -> ! {
    let mut text = [0u8; 12];
    // SAFETY: a path, and a buffer that lives over the calls.
    unsafe {
        let fd = libc::open(c"/proc/thread-self/fail-nth".as_ptr(), libc::O_RDWR);
        let got = libc::pread(fd, text.as_mut_ptr().cast(), text.len(), 0);
        libc::_exit(if got > 0 && text[0] != b'0' { BEYOND } else { 0 })
    }
}

/// `fork`.
pub fn fork() -> i32 {
    // SAFETY: the child only runs what is written here, on a copy of the only thread.
    unsafe { libc::fork() }
}

/// Whether `pid` has ended; its status goes to `status`.
pub fn try_wait(pid: i32, status: &mut i32) -> bool {
    // SAFETY: a number to write to.
    unsafe { libc::waitpid(pid, status, libc::WNOHANG) == pid }
}

/// Collects what the child left behind.
pub fn reap() {
    // SAFETY: no memory is involved.
    unsafe { while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {} }
}

/// The signal that ended it, if one did.
pub fn signal_of(status: i32) -> Option<i32> {
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

/// Shows where a child hangs, and kills it.
pub fn show_stuck(pid: i32) {
    for file in ["status", "wchan", "stack", "syscall"] {
        let path = format!("/proc/{pid}/{file}");
        println!("{path}: {}", std::fs::read_to_string(&path).unwrap_or_default());
    }
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// The error of the last call.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
