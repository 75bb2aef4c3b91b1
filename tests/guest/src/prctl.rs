//! prctl(2) beyond credentials and signals: the auxiliary vector, the layout of memory, writable code, the cycle counter,
//! speculation, system calls as signals; and arch_prctl(2).

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering::SeqCst};

tests![
    auxiliary_vector,
    auxiliary_vector_is_set,
    places_are_set_one_by_one,
    places_are_set_together,
    place_errors,
    the_program_file_is_set,
    writable_code_is_refused,
    refusal_is_inherited,
    refusal_errors,
    cycle_counter_faults,
    speculation,
    options_that_are_none,
    calls_become_signals,
    dispatch_errors,
    state_components,
    cpuid_and_vdso,
];

const SET_MM: usize = 35;
const START_CODE: usize = 1;
const END_CODE: usize = 2;
const BRK: usize = 7;
const ARG_START: usize = 8;
const ARG_END: usize = 9;
const ENV_START: usize = 10;
const AUXV: usize = 12;
const EXE_FILE: usize = 13;
const MAP: usize = 14;
const MAP_SIZE: usize = 15;
const GET_AUXV: usize = 0x4155_5856;
const SET_MDWE: usize = 65;
const GET_MDWE: usize = 66;
const REFUSE_GAIN: usize = 1;
const NO_INHERIT: usize = 2;
const GET_TSC: usize = 25;
const SET_TSC: usize = 26;
const SET_DISPATCH: usize = 59;

/// `struct prctl_mm_map`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct MmMap {
    /// Code, data, heap: two each; the stack's start; arguments and environment: two each.
    places: [u64; 11],
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

fn prctl(option: usize, a: usize, b: usize, c: usize, d: usize) -> Result<usize, Errno> {
    sys!(SYS_prctl, option, a, b, c, d)
}

fn set_mm(what: usize, addr: usize) -> Result<usize, Errno> {
    prctl(SET_MM, what, addr, 0, 0)
}

/// Field `n` of `/proc/self/stat`, counted from 1.
fn stat_field(n: usize) -> Result<u64, Failure> {
    let stat = slurp(c"/proc/self/stat")?;
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = rest.split_whitespace().nth(n - 3).and_then(|field| field.parse().ok());
    field.ok_or_else(|| Failure::new(format!("no field {n} in {stat}")))
}

/// The places as the kernel has them now.
fn places() -> Result<MmMap, Failure> {
    let field = stat_field;
    let brk = sys!(SYS_brk, 0)? as u64;
    Ok(MmMap {
        places: [
            field(26)?,
            field(27)?,
            field(45)?,
            field(46)?,
            field(47)?,
            brk,
            field(28)?,
            field(48)?,
            field(49)?,
            field(50)?,
            field(51)?,
        ],
        exe_fd: u32::MAX,
        ..MmMap::default()
    })
}

fn set_map(map: &MmMap) -> Result<usize, Errno> {
    prctl(SET_MM, MAP, addr(map), size_of::<MmMap>(), 0)
}

/// Runs `body` in a child, because it changes the process for good.
fn separately(body: impl FnOnce() -> Outcome) -> Outcome {
    let shared = map_shared(4096)?;
    let status = in_child(|| match body() {
        Ok(()) => 0,
        Err(Failure(why)) => {
            why.bytes().take(4000).enumerate().for_each(|(n, byte)| poke(shared + n, byte));
            1
        }
    })?;
    let why: Vec<u8> = (0..4000).map(|n| peek(shared + n)).take_while(|byte| *byte != 0).collect();
    if status == 0 { Ok(()) } else { Err(Failure(format!("{status}: {}", String::from_utf8_lossy(&why)))) }
}

fn auxiliary_vector() -> Outcome {
    let mut words = [7_u64; 64];
    let size = prctl(GET_AUXV, words.as_mut_ptr() as usize, 512, 0, 0)?;
    check!((320..=512).contains(&size) && size % 16 == 0, "{size}");
    let entry = |kind: u64| words.chunks(2).find(|entry| entry[0] == kind).map(|entry| entry[1]);
    check_eq!(entry(AT_PAGESZ), Some(4096));
    check_eq!(words[size / 8 - 2..size / 8], [0, 0]);
    // The file shows it up to its end.
    let shown = std::fs::read("/proc/self/auxv")?;
    let used = words.chunks(2).take_while(|entry| entry[0] != 0).count() * 16 + 16;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    check_eq!(shown[..], bytes[..used]);
    // What does not fit is left out, the size is that of all.
    let mut few = [7_u64; 4];
    check_eq!(prctl(GET_AUXV, few.as_mut_ptr() as usize, 16, 0, 0)?, size);
    check_eq!((few[..2] == words[..2], few[2]), (true, 7));
    check_eq!(prctl(GET_AUXV, 8, 0, 0, 0)?, size);
    check_err!(prctl(GET_AUXV, 8, 16, 0, 0), EFAULT);
    check_err!(prctl(GET_AUXV, few.as_mut_ptr() as usize, 16, 1, 0), EINVAL);
    check_err!(prctl(GET_AUXV, few.as_mut_ptr() as usize, 16, 0, 1), EINVAL);
    Ok(())
}

fn auxiliary_vector_is_set() -> Outcome {
    let vector = [6_u64, 4096, 1234, 5678, 0, 0];
    prctl(SET_MM, AUXV, addr(&vector), size_of_val(&vector), 0)?;
    let mut words = [7_u64; 64];
    let size = prctl(GET_AUXV, words.as_mut_ptr() as usize, 512, 0, 0)?;
    check_eq!(words[..6], vector);
    check!(words[6..size / 8].iter().all(|word| *word == 0));
    // Even without an end it has one.
    let endless = [9_u64; 64];
    prctl(SET_MM, AUXV, addr(&endless), size, 0)?;
    prctl(GET_AUXV, words.as_mut_ptr() as usize, 512, 0, 0)?;
    check_eq!(words[size / 8 - 4..size / 8], [9, 9, 0, 0]);
    check_err!(prctl(SET_MM, AUXV, addr(&endless), size + 8, 0), EINVAL);
    check_err!(prctl(SET_MM, AUXV, 8, 16, 0), EFAULT);
    check_err!(prctl(SET_MM, AUXV, addr(&vector), 16, 1), EINVAL);
    Ok(())
}

fn places_are_set_one_by_one() -> Outcome {
    let at = map_anon(8192)?;
    let title = b"another title\0";
    title.iter().enumerate().for_each(|(n, byte)| poke(at + n, *byte));
    // The stack lies above, so the end first.
    let old = places()?;
    let up = at as u64 > old.places[8];
    for _ in 0..2 {
        let (first, second) = if up { (ARG_END, ARG_START) } else { (ARG_START, ARG_END) };
        let place = |what: usize| if what == ARG_START { at } else { at + title.len() };
        set_mm(first, place(first))?;
        set_mm(second, place(second))?;
    }
    check_eq!(std::fs::read("/proc/self/cmdline")?, title);
    check_eq!((stat_field(48)?, stat_field(49)?), (at as u64, (at + title.len()) as u64));
    let code = places()?.places[0];
    set_mm(START_CODE, code as usize + 1)?;
    check_eq!(stat_field(26)?, code + 1);
    let brk = sys!(SYS_brk, 0)?;
    set_mm(BRK, brk + 5)?;
    check_eq!(sys!(SYS_brk, 0)?, brk + 5);
    Ok(())
}

fn places_are_set_together() -> Outcome {
    let mut size = 0_u32;
    prctl(SET_MM, MAP_SIZE, addr_mut(&mut size), 0, 0)?;
    check_eq!(size as usize, size_of::<MmMap>());
    let mut map = places()?;
    let at = map_anon(4096)?;
    b"together\0E=1\0".iter().enumerate().for_each(|(n, byte)| poke(at + n, *byte));
    map.places[7..].copy_from_slice(&[0, 9, 9, 13].map(|n| at as u64 + n));
    let vector = [33_u64, 44, 0, 0];
    (map.auxv, map.auxv_size) = (addr(&vector) as u64, 32);
    // It needs no privilege as long as it names no program.
    separately(|| {
        sys!(SYS_setresuid, 1000, 1000, 1000)?;
        prctl(4, 1, 0, 0, 0)?;
        set_map(&map)?;
        check_eq!(std::fs::read("/proc/self/cmdline")?, b"together\0");
        check_eq!(std::fs::read("/proc/self/environ")?, b"E=1\0");
        check_eq!(std::fs::read("/proc/self/auxv")?.len(), 32);
        let exe = open(c"/proc/self/exe", O_RDONLY, 0)?;
        check_err!(set_map(&MmMap { exe_fd: exe as u32, ..map }), EPERM);
        Ok(())
    })?;
    for (place, value) in
        [(0, 0), (1, map.places[0]), (3, map.places[2] - 1), (5, map.places[4] - 1), (6, u64::MAX)]
    {
        let mut wrong = map;
        wrong.places[place] = value;
        check_err!(set_map(&wrong), EINVAL);
    }
    check_err!(set_map(&MmMap { auxv: 0, ..map }), EINVAL);
    check_err!(set_map(&MmMap { auxv_size: 4096, ..map }), EINVAL);
    check_err!(set_map(&MmMap { auxv: 8, ..map }), EFAULT);
    check_err!(set_map(&MmMap { exe_fd: 9999, ..map }), EBADF);
    check_err!(prctl(SET_MM, MAP, addr(&map), size_of::<MmMap>() - 8, 0), EINVAL);
    check_err!(prctl(SET_MM, MAP, 8, size_of::<MmMap>(), 0), EFAULT);
    check_err!(prctl(SET_MM, MAP_SIZE, 8, 0, 0), EFAULT);
    Ok(())
}

fn place_errors() -> Outcome {
    let code = places()?.places;
    check_err!(set_mm(0, code[0] as usize), EINVAL);
    check_err!(set_mm(16, code[0] as usize), EINVAL);
    check_err!(prctl(SET_MM, START_CODE, code[0] as usize, 1, 0), EINVAL);
    check_err!(prctl(SET_MM, START_CODE, code[0] as usize, 0, 1), EINVAL);
    check_err!(set_mm(START_CODE, 0), EINVAL);
    check_err!(set_mm(START_CODE, usize::MAX), EINVAL);
    check_err!(set_mm(END_CODE, code[0] as usize), EINVAL);
    check_err!(set_mm(BRK, code[4] as usize - 1), EINVAL);
    // In order, but beyond every mapping.
    check_err!(set_mm(ENV_START, code[10] as usize + 1), EINVAL);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(set_mm(START_CODE, code[0] as usize) != Err(Errno(EPERM)))
            | i32::from(prctl(SET_MM, AUXV, addr(&[0_u64; 2]), 16, 0) != Err(Errno(EPERM))) << 1
            | i32::from(set_mm(EXE_FILE, 0) != Err(Errno(EPERM))) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn the_program_file_is_set() -> Outcome {
    check_err!(set_mm(EXE_FILE, 9999), EBADF);
    check_err!(set_mm(EXE_FILE, open(c"/proc", O_RDONLY, 0)? as usize), EACCES);
    let plain = create(c"plain", b"x")?;
    check_err!(set_mm(EXE_FILE, plain as usize), EACCES);
    let exe = open(c"/proc/self/exe", O_RDONLY, 0)?;
    // The running program is mapped.
    check_err!(set_mm(EXE_FILE, exe as usize), EBUSY);
    Ok(())
}

const RW: i32 = PROT_READ | PROT_WRITE;
const RX: i32 = PROT_READ | PROT_EXEC;

fn map(prot: i32) -> Result<usize, Errno> {
    mmap(0, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
}

fn protect(at: usize, prot: i32) -> Result<usize, Errno> {
    sys!(SYS_mprotect, at, 4096, prot)
}

fn mdwe(bits: usize) -> Result<usize, Errno> {
    prctl(SET_MDWE, bits, 0, 0, 0)
}

fn writable_code_is_refused() -> Outcome {
    let (data, code) = (map(RW)?, map(RX)?);
    check_eq!(prctl(GET_MDWE, 0, 0, 0, 0)?, 0);
    separately(|| {
        mdwe(REFUSE_GAIN)?;
        check_eq!(prctl(GET_MDWE, 0, 0, 0, 0)?, REFUSE_GAIN);
        mdwe(REFUSE_GAIN)?;
        check_err!(map(RW | PROT_EXEC), EACCES);
        check_err!(protect(data, RX), EACCES);
        check_err!(protect(data, RW | PROT_EXEC), EACCES);
        check_err!(protect(code, RW | PROT_EXEC), EACCES);
        check_err!(protect(code, PROT_EXEC | PROT_WRITE), EACCES);
        // What is executable may stay so, and may cease to be.
        protect(code, PROT_EXEC)?;
        protect(code, RX)?;
        map(RX)?;
        protect(code, RW)?;
        check_err!(protect(code, RX), EACCES);
        Ok(())
    })
}

fn refusal_is_inherited() -> Outcome {
    separately(|| {
        mdwe(REFUSE_GAIN)?;
        check_eq!(in_child(|| i32::from(map(RW | PROT_EXEC) != Err(Errno(EACCES))))?, 0);
        Ok(())
    })?;
    separately(|| {
        mdwe(REFUSE_GAIN | NO_INHERIT)?;
        check_eq!(prctl(GET_MDWE, 0, 0, 0, 0)?, REFUSE_GAIN | NO_INHERIT);
        check_err!(map(RW | PROT_EXEC), EACCES);
        check_eq!(
            in_child(|| i32::from(map(RW | PROT_EXEC).is_err() || prctl(GET_MDWE, 0, 0, 0, 0) != Ok(0)))?,
            0
        );
        Ok(())
    })
}

fn refusal_errors() -> Outcome {
    check_err!(mdwe(4), EINVAL);
    check_err!(mdwe(NO_INHERIT), EINVAL);
    check_err!(prctl(SET_MDWE, REFUSE_GAIN, 1, 0, 0), EINVAL);
    check_err!(prctl(SET_MDWE, REFUSE_GAIN, 0, 0, 1), EINVAL);
    check_err!(prctl(GET_MDWE, 1, 0, 0, 0), EINVAL);
    check_err!(prctl(GET_MDWE, 0, 0, 1, 0), EINVAL);
    mdwe(0)?;
    separately(|| {
        mdwe(REFUSE_GAIN)?;
        check_err!(mdwe(REFUSE_GAIN | NO_INHERIT), EPERM);
        check_err!(mdwe(0), EPERM);
        Ok(())
    })
}

/// Reads the counter itself.
fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a counter, or dies of it.
    let value = unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    let value = {
        let value: u64;
        // SAFETY: reads a counter, or dies of it.
        unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) value) };
        value
    };
    value
}

fn cycle_counter_faults() -> Outcome {
    let mode = || {
        let mut mode = 0_u32;
        prctl(GET_TSC, addr_mut(&mut mode), 0, 0, 0).map(|_| mode)
    };
    check_eq!(mode()?, 1);
    check_err!(prctl(SET_TSC, 0, 0, 0, 0), EINVAL);
    check_err!(prctl(SET_TSC, 3, 0, 0, 0), EINVAL);
    check_err!(prctl(GET_TSC, 8, 0, 0, 0), EFAULT);
    let status = in_child(|| {
        let _ = c!(signal(SIGSEGV, SIG_DFL));
        let _ = prctl(SET_TSC, 2, 0, 0, 0);
        if mode() != Ok(2) {
            return 1;
        }
        // Others are not concerned, also on the same CPU; children are.
        let _ = sys!(SYS_sched_yield);
        let mut status = 0;
        let pid = sys!(SYS_clone, SIGCHLD, 0, 0, 0, 0).unwrap_or(0) as i32;
        if pid == 0 {
            counter();
            exit(0);
        }
        let _ = sys!(SYS_wait4, pid, addr_mut(&mut status), 0, 0);
        if !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV {
            return 2;
        }
        let _ = prctl(SET_TSC, 1, 0, 0, 0);
        counter();
        let _ = prctl(SET_TSC, 2, 0, 0, 0);
        counter();
        3
    })?;
    check_eq!(status, -SIGSEGV);
    counter();
    Ok(())
}

fn speculation() -> Outcome {
    let get = |which: usize| prctl(52, which, 0, 0, 0);
    let set = |which: usize, how: usize| prctl(53, which, how, 0, 0);
    // Not affected, or one of the four settings, with or without a switch.
    check!(get(0)? < 32);
    check_err!(get(99), ENODEV);
    check_err!(set(99, 2), ENODEV);
    check_err!(prctl(52, 0, 1, 0, 0), EINVAL);
    check_err!(prctl(53, 0, 2, 1, 0), EINVAL);
    check_err!(prctl(53, 0, 2, 0, 1), EINVAL);
    // Without a switch there is nothing to set.
    if get(0)? & 1 == 0 {
        check!(matches!(set(0, 4), Err(Errno(ENXIO | EPERM))));
    }
    Ok(())
}

fn options_that_are_none() -> Outcome {
    for option in [0, 1000, 0x7fff_ffff] {
        check_err!(prctl(option, 0, 0, 0, 0), EINVAL);
    }
    // Of other processors.
    for option in [9, 10, 11, 12, 19, 20, 43] {
        check_err!(prctl(option, 0, 0, 0, 0), EINVAL);
    }
    Ok(())
}

static SELECTOR: AtomicU8 = AtomicU8::new(0);
static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn catches(_: i32, info: *mut siginfo_t, _: *mut c_void) {
    SELECTOR.store(0, SeqCst);
    // SAFETY: the kernel passes a siginfo; the number lies behind the address.
    let words = unsafe { *info.cast::<[i32; 8]>() };
    CAUGHT.store(if words[2] == 2 { words[6] } else { -2 }, SeqCst);
}

fn dispatch(mode: usize, offset: usize, len: usize, selector: usize) -> Result<usize, Errno> {
    prctl(SET_DISPATCH, mode, offset, len, selector)
}

fn calls_become_signals() -> Outcome {
    if cfg!(not(target_arch = "x86_64")) {
        check_err!(dispatch(1, 0, 0, 0), EINVAL);
        return Ok(());
    }
    let mut action: sigaction = zeroed();
    action.sa_sigaction = catches as *const () as usize;
    action.sa_flags = SA_SIGINFO;
    c!(sigaction(SIGSYS, &raw const action, std::ptr::null_mut()))?;
    let selector = SELECTOR.as_ptr() as usize;
    dispatch(1, 0, 0, selector)?;
    let free = getpid();
    SELECTOR.store(1, SeqCst);
    let caught = sys!(SYS_getppid);
    // The handler opened the gate, so that it could return; the call was not made: its register holds its number.
    check_eq!(CAUGHT.load(SeqCst), SYS_getppid as i32);
    check_eq!(caught?, SYS_getppid as usize);
    // Calls from the range go through.
    dispatch(1, 1, usize::MAX - 1, selector)?;
    SELECTOR.store(1, SeqCst);
    let inside = getpid();
    SELECTOR.store(0, SeqCst);
    dispatch(0, 0, 0, 0)?;
    check_eq!((free, inside), (getpid(), getpid()));
    // A child does not have it.
    dispatch(1, 0, 0, selector)?;
    let child = fork(|| {
        SELECTOR.store(1, SeqCst);
        i32::from(getpid() == 0)
    })?;
    check_eq!(wait_exit(child)?, 0);
    // Another value is an error that nobody survives, and so is no value at all.
    let wrong = |selector: usize| {
        in_child(|| {
            let _ = dispatch(1, 0, 0, selector);
            SELECTOR.store(2, SeqCst);
            getpid();
            0
        })
    };
    check_eq!(wrong(selector)?, -SIGSYS);
    check_eq!(wrong(8)?, -SIGSEGV);
    dispatch(0, 0, 0, 0)?;
    Ok(())
}

fn dispatch_errors() -> Outcome {
    check_err!(dispatch(0, 1, 0, 0), EINVAL);
    check_err!(dispatch(0, 0, 1, 0), EINVAL);
    check_err!(dispatch(0, 0, 0, 1), EINVAL);
    check_err!(dispatch(3, 0, 0, 0), EINVAL);
    check_err!(dispatch(1, 5, 0, 0), EINVAL);
    check_err!(dispatch(1, 5, usize::MAX, 0), EINVAL);
    if cfg!(target_arch = "x86_64") {
        check_err!(dispatch(1, 0, 0, usize::MAX), EFAULT);
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn arch_prctl(op: usize, argument: usize) -> Result<usize, Errno> {
    sys!(SYS_arch_prctl, op, argument)
}

#[cfg(not(target_arch = "x86_64"))]
fn state_components() -> Outcome {
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn state_components() -> Outcome {
    let get = |op: usize| {
        let mut bits = 0_u64;
        arch_prctl(op, addr_mut(&mut bits)).map(|_| bits)
    };
    let (supported, permitted) = (get(0x1021)?, get(0x1022)?);
    check_eq!(supported & 3, 3);
    check_eq!(permitted & !supported, 0);
    get(0x1024)?;
    check_err!(arch_prctl(0x1021, 8), EFAULT);
    for op in [0x1023, 0x1025] {
        // Only what is large has to be asked for.
        check_err!(arch_prctl(op, 2), EOPNOTSUPP);
        check_err!(arch_prctl(op, 19), EINVAL);
        check_err!(arch_prctl(op, usize::MAX), EINVAL);
    }
    if supported >> 18 & 1 == 0 {
        check_err!(arch_prctl(0x1023, 18), EOPNOTSUPP);
    }
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn cpuid_and_vdso() -> Outcome {
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn cpuid_and_vdso() -> Outcome {
    check_eq!(arch_prctl(0x1011, 0)?, 1);
    match arch_prctl(0x1012, 1) {
        Ok(_) | Err(Errno(ENODEV)) => {}
        other => return Err(Failure::new(format!("{other:?}"))),
    }
    // It is there already.
    check_err!(arch_prctl(0x2003, 0), EEXIST);
    check_err!(arch_prctl(0x1000, 0), EINVAL);
    separately(|| {
        let maps = slurp(c"/proc/self/maps")?;
        let area = |name: &str, maps: &str| {
            let line = maps.lines().find(|line| line.ends_with(name))?;
            let (start, rest) = line.split_once('-')?;
            let end = rest.split(' ').next()?;
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            Some((number(start)?, number(end)?))
        };
        for line in maps.lines().filter(|line| line.contains("[vvar") || line.ends_with("[vdso]")) {
            let name = line.rsplit(' ').next().unwrap_or_default();
            let Some((start, end)) = area(name, &maps) else { return Err(Failure::new(line)) };
            sys!(SYS_munmap, start, end - start)?;
        }
        let hint = map_anon(1 << 20)?;
        munmap(hint, 1 << 20)?;
        let size = arch_prctl(0x2003, hint)?;
        let maps = slurp(c"/proc/self/maps")?;
        let Some((start, end)) = area("[vdso]", &maps) else { return Err(Failure::new(maps)) };
        check_eq!(end - start, size.next_multiple_of(4096));
        check!((hint..hint + (1 << 20)).contains(&start), "{start:#x} for {hint:#x}");
        check_eq!(peek(start), 0x7f);
        Ok(())
    })
}
