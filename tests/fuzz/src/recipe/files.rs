//! Files, mounts, and what watches them.

use super::Cook;

const CWD: u64 = libc::AT_FDCWD as i64 as u64;

/// A ruleset that restricts the program from then on.
pub fn ruleset(cook: &Cook<'_>) {
    let rights = [cook.some_of(0xffff), cook.few_of(3), cook.few_of(3)];
    let place = cook.words(&rights);
    let fd = cook.open(444, [place, 24, 0, 0, 0, 0]);
    for _ in 0..cook.below(4) {
        let path = cook.arg(b'p');
        let parent = cook.open(libc::SYS_openat, [CWD, path, libc::O_PATH as u64, 0, 0, 0]);
        let allowed = cook.some_of(0xffff);
        let rule = cook.words(&[allowed, parent & 0xffff_ffff]);
        cook.call(445, [fd, 1, rule, 0, 0, 0]);
    }
    if cook.rng.one_in(4) {
        cook.call(libc::SYS_prctl, [38, 1, 0, 0, 0, 0]);
        cook.call(446, [fd, 0, 0, 0, 0, 0]);
    }
}

/// File systems made step by step, moved, cloned, their attributes changed.
pub fn mounts(cook: &Cook<'_>) {
    const KINDS: &[&[u8]] = &[b"tmpfs\0", b"ramfs\0", b"proc\0", b"devpts\0", b"mqueue\0", b"sysfs\0"];
    const OPTIONS: &[(&[u8], &[u8])] = &[
        (b"size\0", b"1m\0"),
        (b"mode\0", b"755\0"),
        (b"nr_inodes\0", b"10\0"),
        (b"huge\0", b"never\0"),
        (b"hidepid\0", b"2\0"),
        (b"source\0", b"x\0"),
        (b"newinstance\0", b"\0"),
        (b"size\0", b"99999999999999999999\0"),
    ];
    let kind = *cook.rng.pick(KINDS);
    let kind = cook.bytes(kind);
    let context = cook.open(430, [kind, 0, 0, 0, 0, 0]);
    for _ in 0..cook.below(4) {
        let (key, value) = *cook.rng.pick(OPTIONS);
        let (key, value) = (cook.bytes(key), cook.bytes(value));
        let how = cook.below(2);
        cook.call(431, [context, how, key, if how == 0 { 0 } else { value }, 0, 0]);
    }
    cook.call(431, [context, 6, 0, 0, 0, 0]);
    let attributes = cook.few_of(0x2f_ffff);
    let made = cook.open(432, [context, 0, attributes, 0, 0, 0]);
    let empty = cook.bytes(b"\0");
    for _ in 0..1 + cook.below(5) {
        let (path, other) = (cook.arg(b'p'), cook.arg(b'p'));
        match cook.below(7) {
            0 => cook.call(429, [made, empty, CWD, path, 4, 0]),
            1 => {
                let flags = cook.few_of(0x8_9101) | 1;
                cook.open(428, [CWD, path, flags, 0, 0, 0]) as i64
            }
            2 => {
                let (set, clear, spread) =
                    (cook.few_of(0x2f_ffff), cook.few_of(0x2f_ffff), 1 << (17 + cook.below(4)));
                let user = cook.arg(b'f');
                let place = cook.words(&[set, clear, if cook.rng.one_in(2) { spread } else { 0 }, user]);
                cook.call(442, [CWD, path, cook.rng.bits() & 0x9100, place, 32, 0])
            }
            3 => cook.call(libc::SYS_mount, [path, other, 0, 0x1000 | cook.rng.below(2) << 14, 0, 0]),
            4 => cook.call(libc::SYS_mount, [0, path, 0, 1 << (17 + cook.below(4)), 0, 0]),
            5 => cook.call(libc::SYS_umount2, [path, cook.rng.below(16), 0, 0, 0, 0]),
            _ => cook.call(libc::SYS_pivot_root, [path, other, 0, 0, 0, 0]),
        };
    }
}

/// Watches of both kinds, things to see, and what was seen.
pub fn watches(cook: &Cook<'_>) {
    let (class, events) = (cook.below(3) * 4, cook.few_of(0xffff));
    let fan = cook.open(libc::SYS_fanotify_init, [class | events & 0x7ff2 | 2, 0x8000, 0, 0, 0, 0]);
    let inotify = cook.open(libc::SYS_inotify_init1, [libc::O_NONBLOCK as u64, 0, 0, 0, 0, 0]);
    for _ in 0..1 + cook.below(5) {
        let path = cook.arg(b'p');
        let (mask, flags) = (cook.few_of(0x5f03_ffff), cook.few_of(0x3ff) | 1);
        cook.call(libc::SYS_fanotify_mark, [fan, flags, mask, CWD, path, 0]);
        let mask = cook.few_of(0xf700_0fff) | 2;
        let watch = cook.call(libc::SYS_inotify_add_watch, [inotify, path, mask, 0, 0, 0]);
        if cook.rng.one_in(4) {
            cook.call(libc::SYS_inotify_rm_watch, [inotify, watch as u64, 0, 0, 0, 0]);
        }
    }
    for _ in 0..2 + cook.below(8) {
        let (path, other) = (cook.arg(b'p'), cook.arg(b'p'));
        match cook.below(6) {
            0 => {
                let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_NONBLOCK) as u64;
                let fd = cook.open(libc::SYS_openat, [CWD, path, flags, 0o666, 0, 0]);
                cook.call(libc::SYS_write, [fd, other, 4, 0, 0, 0])
            }
            1 => cook.call(libc::SYS_renameat2, [CWD, path, CWD, other, cook.rng.below(4), 0]),
            2 => cook.call(libc::SYS_unlinkat, [CWD, path, cook.rng.below(2) * 0x200, 0, 0, 0]),
            3 => cook.call(libc::SYS_mkdirat, [CWD, path, 0o777, 0, 0, 0]),
            4 => cook.call(libc::SYS_linkat, [CWD, path, CWD, other, 0, 0]),
            _ => cook.call(libc::SYS_fchmodat, [CWD, path, 0o777, 0, 0, 0]),
        };
    }
    for fd in [fan, inotify] {
        let (buffer, len) = (cook.arg(b'b'), cook.below(4096));
        cook.call(libc::SYS_read, [fd, buffer, len, 0, 0, 0]);
    }
    if cook.rng.one_in(2) {
        cook.call(libc::SYS_close, [fan, 0, 0, 0, 0, 0]);
    }
}

/// Files of the kernel, of this process and of others.
pub fn pseudo(cook: &Cook<'_>) {
    const FILES: &[&str] = &[
        "status",
        "stat",
        "statm",
        "maps",
        "smaps",
        "smaps_rollup",
        "pagemap",
        "mem",
        "environ",
        "auxv",
        "cmdline",
        "io",
        "limits",
        "mountinfo",
        "mounts",
        "mountstats",
        "oom_score",
        "oom_adj",
        "oom_score_adj",
        "wchan",
        "stack",
        "syscall",
        "sched",
        "schedstat",
        "timers",
        "timerslack_ns",
        "numa_maps",
        "uid_map",
        "gid_map",
        "setgroups",
        "projid_map",
        "loginuid",
        "sessionid",
        "comm",
        "clear_refs",
        "cgroup",
        "cpuset",
        "coredump_filter",
        "autogroup",
        "timens_offsets",
        "personality",
        "attr/current",
        "fdinfo/0",
        "fdinfo/5",
        "fd/5",
        "ns/mnt",
        "ns/time",
        "map_files",
        "task",
        "net/unix",
        "exe",
        "root",
        "cwd",
        "children",
        "patch_state",
    ];
    let who = match cook.below(4) {
        0 => "1".to_string(),
        1 => "thread-self".to_string(),
        2 => cook.arg(b'i').to_string(),
        _ => "self".to_string(),
    };
    let file = *cook.rng.pick(FILES);
    let path = format!("/proc/{who}/{file}\0");
    let path = cook.bytes(path.as_bytes());
    let flags = *cook.rng.pick(&[0, 1, 2, 0x800]);
    let fd = cook.open(libc::SYS_openat, [CWD, path, flags, 0, 0, 0]);
    for _ in 0..1 + cook.below(4) {
        let (buffer, len, offset) = (cook.arg(b'B'), cook.arg(b'l'), cook.arg(b'o'));
        match cook.below(4) {
            0 => cook.call(libc::SYS_write, [fd, buffer, len.min(64), 0, 0, 0]),
            1 => cook.call(libc::SYS_pread64, [fd, buffer, len, offset, 0, 0]),
            2 => cook.call(libc::SYS_getdents64, [fd, buffer, len, 0, 0, 0]),
            _ => cook.call(libc::SYS_read, [fd, buffer, len, 0, 0, 0]),
        };
    }
}

/// Sets of descriptors that watch each other.
pub fn epolls(cook: &Cook<'_>) {
    let sets: Vec<u64> = (0..2 + cook.below(3)).map(|_| cook.open(libc::SYS_epoll_create1, [0; 6])).collect();
    for _ in 0..2 + cook.below(10) {
        let set = *cook.rng.pick(&sets);
        let target = if cook.rng.one_in(3) { *cook.rng.pick(&sets) } else { cook.arg(b'f') };
        let events = cook.few_of(0xf000_201f) | 1;
        let event = cook.words(&[events, target, 0]);
        let op = 1 + cook.below(3);
        cook.call(libc::SYS_epoll_ctl, [set, op, target, event, 0, 0]);
    }
    let set = *cook.rng.pick(&sets);
    let (buffer, count) = (cook.arg(b'b'), 1 + cook.below(8));
    let time = cook.below(2);
    cook.call(libc::SYS_epoll_pwait, [set, buffer, count, time, 0, 8]);
    if cook.rng.one_in(2) {
        cook.call(libc::SYS_close, [set, 0, 0, 0, 0, 0]);
    }
}

/// Locks of the three kinds, leases, owners.
pub fn locks(cook: &Cook<'_>) {
    let path = cook.arg(b'p');
    let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_NONBLOCK) as u64;
    let fd = cook.open(libc::SYS_openat, [CWD, path, flags, 0o666, 0, 0]);
    for _ in 0..2 + cook.below(8) {
        let (kind, start, len) = (cook.below(3), cook.below(100), cook.below(100));
        let lock = cook.words(&[kind | cook.rng.below(3) << 16, start, len, 0]);
        let command =
            *cook.rng.pick(&[5, 6, 7, 36, 37, 38, 1024, 1025, 1026, 8, 10, 15, 16, 1031, 1032, 1033, 1034]);
        let argument = match command {
            5..=7 | 36..=38 => lock,
            1024 => cook.below(3),
            1031 => cook.below(1 << 21),
            1033 => cook.below(64),
            _ => cook.arg(b'x'),
        };
        // Not the calls that wait: another thread of the program may never let go.
        if matches!(command, 7 | 38) && !cook.rng.one_in(8) {
            continue;
        }
        cook.call(libc::SYS_fcntl, [fd, command, argument, 0, 0, 0]);
        let operation = cook.below(4) | 4;
        cook.call(libc::SYS_flock, [fd, operation, 0, 0, 0, 0]);
    }
}
