//! Processes, threads, tracers, signals.

use super::Cook;

/// A child under trace, and requests of any kind.
pub fn tracer(cook: &Cook<'_>) {
    let Some(child) = cook.child() else { return };
    let options = cook.some_of(0x0030_00ff);
    if cook.rng.one_in(3) {
        cook.call(libc::SYS_ptrace, [16, child, 0, 0, 0, 0]);
    } else {
        cook.call(libc::SYS_ptrace, [0x4206, child, 0, options, 0, 0]);
    }
    const REQUESTS: &[u64] = &[
        1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 17, 18, 19, 24, 25, 30, 31, 32, 33, 0x4200, 0x4201,
        0x4202, 0x4203, 0x4204, 0x4205, 0x4207, 0x4208, 0x4209, 0x420a, 0x420b, 0x420c, 0x420d, 0x420e,
        0x420f, 0x4210,
    ];
    const RESUMES: &[u64] = &[7, 24, 9, 31, 0x4207, 33];
    for _ in 0..4 + cook.below(24) {
        if cook.rng.one_in(2) {
            let how = 0x4000_0001 | if cook.rng.one_in(2) { 2 } else { 0 };
            let status = cook.arg(b'b');
            cook.call(libc::SYS_wait4, [u64::MAX, status, how, 0, 0, 0]);
        }
        let request = if cook.rng.one_in(2) { *cook.rng.pick(RESUMES) } else { *cook.rng.pick(REQUESTS) };
        let (address, data) = match request {
            0x4204 | 0x4205 => {
                let set = *cook.rng.pick(&[1, 2, 0x202, 0x400, 0x401, 0x402, 0x403, 0x404, 0x405, 0x406]);
                let (base, len) = (cook.arg(b'b'), cook.below(2000));
                (set, cook.words(&[base, len]))
            }
            0x4200 => (0, cook.some_of(0x0030_00ff)),
            _ if RESUMES.contains(&request) => (0, if cook.rng.one_in(4) { cook.arg(b'S') } else { 0 }),
            3 | 6 => (cook.below(1000) & !7, cook.arg(b'x')),
            _ => (cook.arg(b'A'), cook.arg(b'B')),
        };
        cook.call(libc::SYS_ptrace, [request, child, address, data, 0, 0]);
        if cook.rng.one_in(6) {
            let signal = cook.arg(b'S');
            cook.call(libc::SYS_kill, [child, signal, 0, 0, 0, 0]);
        }
    }
    if cook.rng.one_in(2) {
        cook.call(libc::SYS_kill, [child, 9, 0, 0, 0, 0]);
    }
}

/// A child with namespaces and more of its own.
pub fn clone3(cook: &Cook<'_>) {
    // Neither shared memory nor a thread: the child would run on this stack.
    let flags = cook.few_of(0xfe0f_f000_u64 & !0x1_4000) | cook.few_of(0x3_0000_0000) & !0x100;
    let mut fd = -1_i64;
    let mut ids = [0_u64; 4];
    let id = cook.below(300);
    ids[0] = id;
    let chosen = u64::from(cook.rng.one_in(6));
    let group = cook.arg(b'f');
    let mut words = [
        flags,
        (&raw mut fd) as u64,
        (&raw mut ids[2]) as u64,
        (&raw mut ids[3]) as u64,
        17,
        0,
        0,
        0,
        if chosen != 0 { ids.as_ptr() as u64 } else { 0 },
        chosen,
        group,
    ];
    if cook.rng.one_in(12) {
        let which = cook.below(11) as usize;
        words[which] = cook.arg(b'x');
    }
    if words[5] != 0 || words[7] != 0 || words[0] & 0x1_4100 != 0 || !cook.around.may_fork() {
        return;
    }
    let len = if cook.rng.one_in(8) { cook.below(200) } else { 88 };
    let seed = cook.rng.bits();
    if cook.call(435, [words.as_ptr() as u64, len, 0, 0, 0, 0]) == 0 {
        crate::program::end_as_child(seed, cook.around);
    }
    cook.known.borrow_mut().learn("open", fd);
}

/// A filter that may be valid.
pub fn filter(cook: &Cook<'_>) {
    const CODES: &[u16] = &[
        0x20, 0x00, 0x01, 0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74, 0x84, 0x0c, 0x3c, 0x05, 0x15, 0x25,
        0x35, 0x45, 0x1d, 0x02, 0x03, 0x60, 0x61, 0x07, 0x87, 0x06, 0x16, 0xb1,
    ];
    let count = 1 + cook.below(12) as usize;
    let mut code = Vec::new();
    for index in 0..count {
        let op = *cook.rng.pick(CODES);
        let left = (count - index) as u64;
        let k = if op == 0x20 { cook.below(17) * 4 } else { cook.arg(b'n') };
        let (yes, no) = (cook.below(left), cook.below(left));
        code.push(u64::from(op) | yes << 16 | no << 24 | k << 32);
    }
    const RESULTS: &[u64] = &[0x7fff_0000, 0x7ffc_0000, 0x5_0026, 0x3_0000, 0x7ff0_0001, 0x7fc0_0000];
    let result = *cook.rng.pick(RESULTS);
    code.push(0x06 | result << 32);
    let program = [code.len() as u64, code.as_ptr() as u64];
    let place = cook.words(&program);
    cook.call(libc::SYS_prctl, [38, 1, 0, 0, 0, 0]);
    let flags = cook.few_of(0x3f);
    let fd = cook.call(libc::SYS_seccomp, [1, flags, place, 0, 0, 0]);
    if flags & 8 != 0 {
        cook.known.borrow_mut().learn("open", fd);
    }
}

extern "C" fn handler(_: i32) {}

/// Handlers, stacks for them, timers that raise.
pub fn signals(cook: &Cook<'_>) {
    for _ in 0..1 + cook.below(4) {
        let signal = cook.arg(b'S');
        let restorer = if cfg!(target_arch = "x86_64") { 0x0400_0000 } else { 0 };
        let flags = cook.some_of(0xd800_0007) | restorer;
        // SAFETY: the handler does nothing; the C library supplies the way back.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as extern "C" fn(i32) as usize;
            action.sa_flags = flags as i32;
            libc::sigaction(signal as i32, &action, std::ptr::null_mut());
        }
    }
    let (base, size) = (cook.arg(b'a'), 2048 + cook.below(16384));
    let stack = cook.words(&[base, cook.rng.below(4) << 31, size]);
    if cook.rng.one_in(3) {
        cook.call(libc::SYS_sigaltstack, [stack, 0, 0, 0, 0, 0]);
    }
    let mut timer = 0_u64;
    let (signal, clock) = (cook.arg(b'S'), cook.arg(b'c'));
    let event = cook.words(&[7, signal | cook.rng.below(5) << 32, 0, 0, 0, 0, 0, 0]);
    cook.call(libc::SYS_timer_create, [clock, event, (&raw mut timer) as u64, 0, 0, 0]);
    let (interval, first) = (cook.below(2_000_000), cook.below(2_000_000));
    let setting = cook.words(&[0, interval, 0, first]);
    cook.call(libc::SYS_timer_settime, [timer, 0, setting, 0, 0, 0]);
    // SAFETY: only asks.
    let (pid, tid) = unsafe { (libc::getpid() as u64, libc::syscall(libc::SYS_gettid) as u64) };
    for _ in 0..cook.below(4) {
        let signal = cook.arg(b'S');
        let info = cook.arg(b'B');
        match cook.below(3) {
            0 => cook.call(libc::SYS_tgkill, [pid, tid, signal, 0, 0, 0]),
            1 => cook.call(libc::SYS_rt_tgsigqueueinfo, [pid, tid, signal, info, 0, 0]),
            _ => cook.call(libc::SYS_kill, [pid, signal, 0, 0, 0, 0]),
        };
    }
    if cook.rng.one_in(2) {
        cook.call(libc::SYS_timer_delete, [timer, 0, 0, 0, 0, 0]);
    }
}

/// Policies and their parameters.
pub fn scheduling(cook: &Cook<'_>) {
    let policy = cook.below(8);
    let runtime = 1000 + cook.below(2_000_000);
    let deadline = runtime + cook.below(5_000_000);
    let period = deadline + cook.below(5_000_000);
    let (nice, priority, flags) = (cook.below(40), cook.below(101), cook.few_of(0x7f));
    let (low, high) = (cook.below(1100), cook.below(1100));
    let words = [
        56 | policy << 32,
        flags,
        nice.wrapping_sub(20) & 0xffff_ffff | priority << 32,
        runtime,
        deadline,
        period,
        low | high << 32,
    ];
    let place = cook.words(&words);
    let who = cook.arg(b'i');
    cook.call(libc::SYS_sched_setattr, [who, place, 0, 0, 0, 0]);
    let mask = 1 + cook.below(15);
    let mask = cook.words(&[mask]);
    cook.call(libc::SYS_sched_setaffinity, [who, 8, mask, 0, 0, 0]);
    for _ in 0..cook.below(3) {
        cook.call(libc::SYS_sched_yield, [0; 6]);
    }
}

/// Words that several threads wait on; locks with owners; a list of them to leave behind.
pub fn futexes(cook: &Cook<'_>) {
    let base = crate::args::ARENA;
    let word = |cook: &Cook<'_>| base as u64 + 8 * cook.below(6);
    // SAFETY: only asks.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u64;
    let head = base as u64 + 256;
    if cook.rng.one_in(3) {
        let local = [head + 24, 8_u64.wrapping_neg(), 0, head, 0, tid];
        crate::args::store_at(head, &local);
        cook.call(libc::SYS_set_robust_list, [head, 24, 0, 0, 0, 0]);
    }
    for _ in 0..2 + cook.below(8) {
        let (one, other) = (word(cook), word(cook));
        if cook.rng.one_in(3) {
            let value = *cook.rng.pick(&[0, 1, tid, tid | 0x8000_0000, 0x4000_0000]);
            crate::args::store_at(one, &[value]);
        }
        let clock = if cook.rng.one_in(6) { 256 } else { 0 };
        let op = cook.below(14) | (cook.below(2) << 7) | clock;
        let value = *cook.rng.pick(&[0, 1, 2, tid]);
        let time = if matches!(op & 127, 3 | 4 | 5 | 12) { 1 + cook.below(3) } else { cook.arg(b't') };
        let mask = *cook.rng.pick(&[0, 1, 2, 0xffff_ffff]);
        cook.call(libc::SYS_futex, [one, op, value, time, other, mask]);
    }
}
