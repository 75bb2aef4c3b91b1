//! Arguments: typed, mostly plausible, now and then hostile.

use crate::rng::Rng;
use crate::table::Kind;

/// Where programs put what their calls point to; followed by a page that is not mapped.
pub const ARENA: usize = 0x10_0000_0000;
/// Bytes of it.
pub const ARENA_LEN: usize = 64 * PAGE;
const PAGE: usize = 4096;

/// Paths that programs use: their own directory, and kernel files that do no harm to others.
const PATHS: &[&[u8]] = &[
    b"a\0",
    b"b\0",
    b"d\0",
    b"d/a\0",
    b"d/b\0",
    b"d/e\0",
    b"d/e/f\0",
    b".\0",
    b"..\0",
    b"a/b\0",
    b"\0",
    b"/\0",
    b"/tmp\0",
    b"loop\0",
    b"/dev/null\0",
    b"/dev/zero\0",
    b"/dev/full\0",
    b"/dev/ptmx\0",
    b"/dev/tty\0",
    b"/dev/random\0",
    b"/proc/self/maps\0",
    b"/proc/self/mem\0",
    b"/proc/self/status\0",
    b"/proc/self/fd\0",
    b"/proc/self/fd/3\0",
    b"/proc/self/fdinfo/3\0",
    b"/proc/self/exe\0",
    b"/proc/self/ns/pid\0",
    b"/proc/self/ns/user\0",
    b"/proc/self/ns/mnt\0",
    b"/proc/self/oom_score_adj\0",
    b"/proc/self/comm\0",
    b"/proc/self/smaps\0",
    b"/proc/self/pagemap\0",
    b"/proc/self/uid_map\0",
    b"/proc/self/clear_refs\0",
    b"/proc/self/task\0",
    b"/proc/self/environ\0",
    b"/proc/self/stat\0",
    b"/proc/self/mountinfo\0",
    b"/proc/self/auxv\0",
    b"/proc/self/timerslack_ns\0",
    b"/proc/self/coredump_filter\0",
    b"/proc/meminfo\0",
    b"/proc/stat\0",
    b"/proc/cpuinfo\0",
    b"/proc/interrupts\0",
    b"/proc\0",
    b"/proc/sysvipc/shm\0",
    b"/sys\0",
    b"/sys/devices/system/cpu/online\0",
    b"/dev/pts\0",
    b"/dev/shm\0",
    b"fifo\0",
    b"sock\0",
];

const NAMES: &[&[u8]] = &[
    b"user.a\0",
    b"user.\0",
    b"trusted.b\0",
    b"security.capability\0",
    b"system.posix_acl_access\0",
    b"tmpfs\0",
    b"proc\0",
    b"devpts\0",
    b"ramfs\0",
    b"mqueue\0",
    b"sysfs\0",
    b"/q\0",
    b"q\0",
    b"user\0",
    b"keyring\0",
    b"logon\0",
    b"size\0",
    b"source\0",
    b"name\0",
    b"\0",
];

const EDGES: &[u64] = &[
    0,
    1,
    2,
    3,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0xfff,
    0x1000,
    0x1001,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
    u64::MAX - 1,
    u64::MAX - 0xfff,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_8000_0000,
];

/// What a program's calls gave so far.
#[derive(Default)]
pub struct Resources {
    fds: Vec<u64>,
    ids: Vec<u64>,
}

impl Resources {
    /// Remembers what a call that succeeded returned.
    pub fn learn(&mut self, name: &str, result: i64) {
        let Ok(value) = u64::try_from(result) else { return };
        if value < 4096 && value > 2 && self.fds.len() < 64 && !name.starts_with("get") {
            self.fds.push(value);
        }
        if self.ids.len() < 64
            && (name.ends_with("get")
                || name.contains("fork")
                || name.contains("clone")
                || name.contains("key"))
        {
            self.ids.push(value);
        }
    }
}

/// Maps the arena.
pub fn map_arena() -> bool {
    // SAFETY: a fixed range that nothing else uses: programs are linked and loaded far below and above.
    let at = unsafe {
        libc::mmap(
            ARENA as *mut libc::c_void,
            ARENA_LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    at as usize == ARENA
}

/// Puts `words` into the arena the way any user program may: through the kernel, since the program's own calls may
/// have unmapped it. Where, if it worked.
pub fn store(rng: &Rng, bytes: &[u8]) -> u64 {
    let room = (ARENA_LEN - bytes.len()) as u64;
    // Often the last bytes before the unmapped page.
    let at = ARENA as u64 + if rng.one_in(8) { room } else { rng.below(room) & !7 };
    write(at, bytes);
    at
}

/// Puts `words` where `at` says, inside the arena; see [`store`].
pub fn store_at(at: u64, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    write(at, &bytes);
}

fn write(at: u64, bytes: &[u8]) {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: `local` is readable; what `remote` says is checked by the kernel, and the arena holds no Rust value.
    unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) };
}

/// Puts words into the arena; where.
pub fn store_words(rng: &Rng, words: &[u64]) -> u64 {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    store(rng, &bytes)
}

/// An argument of `kind`.
pub fn make(rng: &Rng, kind: Kind, known: &Resources) -> u64 {
    if rng.one_in(24) {
        return *rng.pick(EDGES);
    }
    let fd = |rng: &Rng| {
        if known.fds.is_empty() || rng.one_in(8) { rng.below(16) } else { *rng.pick(&known.fds) }
    };
    match kind {
        b'f' => fd(rng),
        b'd' => {
            if rng.one_in(3) {
                fd(rng)
            } else {
                libc::AT_FDCWD as i64 as u64
            }
        }
        b'p' => {
            if rng.one_in(64) {
                let long: Vec<u8> =
                    (0..rng.below(5000)).map(|at| if at % 17 == 0 { b'/' } else { b'n' }).collect();
                return store(rng, &long);
            }
            let path = *rng.pick(PATHS);
            store(rng, path)
        }
        b's' => {
            let name = *rng.pick(NAMES);
            store(rng, name)
        }
        b'b' | b'2' => {
            ARENA as u64
                + if rng.one_in(8) {
                    ARENA_LEN as u64 - rng.below(64)
                } else {
                    rng.below(ARENA_LEN as u64) & !7
                }
        }
        b'B' | b'e' => {
            let words: Vec<u64> = (0..16).map(|_| word(rng, known)).collect();
            store_words(rng, &words)
        }
        b'v' => {
            let words: Vec<u64> = (0..16)
                .map(|at| if at % 2 == 0 { make(rng, b'b', known) } else { make(rng, b'l', known) })
                .collect();
            store_words(rng, &words)
        }
        b'k' => rng.below(17),
        b'l' => match rng.below(4) {
            0 => rng.below(64),
            1 => rng.below(8192),
            2 => PAGE as u64 * rng.below(32),
            _ => rng.below(1 << 20),
        },
        b'o' => match rng.below(3) {
            0 => rng.below(100),
            1 => PAGE as u64 * rng.below(64),
            _ => rng.below(1 << 21),
        },
        b'a' => ARENA as u64 + PAGE as u64 * rng.below(80),
        b'A' => ARENA as u64 + rng.below(ARENA_LEN as u64),
        b'g' => match rng.below(4) {
            0 => 0,
            1 => 1 << rng.below(32),
            2 => 1 << rng.below(12) | 1 << rng.below(12),
            _ => rng.below(16),
        },
        b'O' => {
            rng.below(4)
                | rng.bits() & (0o100 | 0o1000 | 0o2000 | 0o4000)
                | if rng.one_in(4) { 1 << rng.below(25) } else { 0 }
        }
        b'M' => *rng.pick(&[0o600, 0o644, 0o755, 0o10644, 0o20600, 0o140777, 0o4755, 0o40000, 0]),
        b'P' => rng.below(8) | if rng.one_in(16) { 1 << rng.below(28) } else { 0 },
        b'm' => *rng.pick(&[
            0x22, 0x21, 0x32, 0x31, 0x02, 0x01, 0x12, 0x8022, 0x100022, 0x0122, 0x4022, 0x2022, 0x40022,
        ]),
        b't' => {
            let nanoseconds = rng.below(3_000_000);
            store_words(rng, &[0, nanoseconds, 0, nanoseconds])
        }
        b'S' => {
            if rng.one_in(3) {
                rng.below(66)
            } else {
                *rng.pick(&[0, 10, 12, 13, 14, 17, 18, 23, 28, 34, 64])
            }
        }
        b'i' => match rng.below(4) {
            0 => 0,
            1 => rng.below(8),
            2 if !known.ids.is_empty() => *rng.pick(&known.ids),
            _ => std::process::id().into(),
        },
        b'u' => *rng.pick(&[0, 1, 1000, 65534, u64::from(u32::MAX)]),
        b'c' => rng.below(13),
        b'n' => {
            if known.ids.is_empty() || !rng.one_in(3) {
                rng.below(40)
            } else {
                *rng.pick(&known.ids)
            }
        }
        _ => word(rng, known),
    }
}

/// Any word: an edge, a bit, an address, a descriptor, noise.
fn word(rng: &Rng, known: &Resources) -> u64 {
    match rng.below(8) {
        0 => *rng.pick(EDGES),
        1 => 1 << rng.below(64),
        2 => ARENA as u64 + rng.below(ARENA_LEN as u64),
        3 if !known.fds.is_empty() => *rng.pick(&known.fds),
        4 => rng.bits(),
        5 => rng.bits() & 0xffff_ffff,
        _ => rng.below(64),
    }
}
