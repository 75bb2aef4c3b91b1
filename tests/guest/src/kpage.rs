//! /proc/kpagecount and /proc/kpageflags: what is said of page frames, whose numbers /proc/PID/pagemap gives.

use crate::prelude::*;

tests![
    how_the_files_read,
    counts_mappings,
    flags_of_anonymous_pages,
    flags_of_cached_pages,
    flags_of_others,
    free_pages,
];

const PAGE: usize = 4096;

const UPTODATE: u64 = 1 << 3;
const DIRTY: u64 = 1 << 4;
const SLAB: u64 = 1 << 7;
const BUDDY: u64 = 1 << 10;
const MAPPED: u64 = 1 << 11;
const ANON: u64 = 1 << 12;
const SWAPBACKED: u64 = 1 << 14;
const NO_PAGE: u64 = 1 << 20;
const ZERO_PAGE: u64 = 1 << 24;
const PAGE_TABLE: u64 = 1 << 26;

/// The frame behind `at`.
fn frame(at: usize) -> Result<u64, Failure> {
    let fd = open(c"/proc/self/pagemap", O_RDONLY, 0)?;
    let mut word = 0u64;
    check_eq!(sys!(SYS_pread64, fd, &raw mut word, 8, at / PAGE * 8)?, 8);
    close(fd)?;
    check!(word >> 63 == 1, "not present: {word:#x}");
    Ok(word & ((1 << 55) - 1))
}

fn word(path: &std::ffi::CStr, frame: u64) -> Result<u64, Failure> {
    let fd = open(path, O_RDONLY, 0)?;
    let mut word = 0u64;
    check_eq!(sys!(SYS_pread64, fd, &raw mut word, 8, frame * 8)?, 8);
    close(fd)?;
    Ok(word)
}

fn count(frame: u64) -> Result<u64, Failure> {
    word(c"/proc/kpagecount", frame)
}

fn flags(frame: u64) -> Result<u64, Failure> {
    word(c"/proc/kpageflags", frame)
}

/// All words.
fn all(path: &std::ffi::CStr) -> Result<Vec<u64>, Failure> {
    let fd = open(path, O_RDONLY, 0)?;
    let bytes = read_all(fd)?;
    close(fd)?;
    check_eq!(bytes.len() % 8, 0);
    Ok(bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default())).collect())
}

fn how_the_files_read() -> Outcome {
    for path in [c"/proc/kpagecount", c"/proc/kpageflags"] {
        check_eq!(stat(path)?.st_mode, S_IFREG | 0o400);
        check_eq!(stat(path)?.st_size, 0);
        let fd = open(path, O_RDONLY, 0)?;
        let mut words = [0u64; 4];
        let mut read = |len: usize, at: u64| sys!(SYS_pread64, fd, words.as_mut_ptr(), len, at);
        // Whole words only.
        for (len, at) in [(7, 0), (8, 1), (12, 8), (1, 4)] {
            check!(read(len, at) == Err(Errno(EINVAL)), "{len} at {at}");
        }
        check_eq!(read(0, 0)?, 0);
        check_eq!(read(32, 0)?, 32);
        check_eq!(read(8, 1 << 50)?, 0);
        check_err!(sys!(SYS_pread64, fd, 8, 16, 0), EFAULT);
        // The position counts in bytes.
        check_eq!(seek(fd, 8, SEEK_SET)?, 8);
        let mut bytes = [0u8; 16];
        check_eq!(crate::sys::read(fd, &mut bytes)?, 16);
        check_eq!(seek(fd, -8, SEEK_CUR)?, 16);
        check_err!(seek(fd, 0, SEEK_END), EINVAL);
        close(fd)?;
        check!(open(path, O_WRONLY, 0).is_ok_and(|fd| write(fd, &[0; 8]).is_err()));
        let status = in_child(|| {
            let _ = sys!(SYS_setuid, 1000);
            i32::from(open(path, O_RDONLY, 0) == Err(Errno(EACCES)))
        })?;
        check_eq!(status, 1);
    }
    check_eq!(all(c"/proc/kpagecount")?.len(), all(c"/proc/kpageflags")?.len());
    Ok(())
}

fn counts_mappings() -> Outcome {
    let at = map_anon(PAGE)?;
    poke(at, 1);
    let private = frame(at)?;
    check_eq!(count(private)?, 1);
    let child = fork(|| {
        sleep_ms(60_000);
        0
    })?;
    check_eq!(count(private)?, 2);
    kill(child, SIGKILL)?;
    wait(child)?;
    check!(eventually(|| count(private).is_ok_and(|count| count == 1)));
    // A page of a file, mapped more than once.
    let fd = create(c"f", &[1; PAGE])?;
    let map = || mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    let (one, two) = (map()?, map()?);
    peek(one);
    let shared = frame(one)?;
    check_eq!(count(shared)?, 1);
    peek(two);
    check_eq!(frame(two)?, shared);
    check_eq!(count(shared)?, 2);
    munmap(one, PAGE)?;
    check_eq!(count(shared)?, 1);
    munmap(two, PAGE)?;
    check_eq!(count(shared)?, 0);
    // Still in the cache.
    check_eq!(flags(shared)? & (UPTODATE | MAPPED | ANON), UPTODATE);
    Ok(())
}

fn flags_of_anonymous_pages() -> Outcome {
    let at = map_anon(2 * PAGE)?;
    poke(at, 1);
    let seen = flags(frame(at)?)?;
    let wanted = UPTODATE | MAPPED | ANON | SWAPBACKED;
    check!(seen & (wanted | SLAB | BUDDY | NO_PAGE) == wanted, "{seen:#x}");
    peek(at + PAGE);
    let zero = frame(at + PAGE)?;
    check!(flags(zero)? & (ZERO_PAGE | ANON) == ZERO_PAGE, "{:#x}", flags(zero)?);
    check_eq!(count(zero)?, 0);
    Ok(())
}

fn flags_of_cached_pages() -> Outcome {
    let fd = sys!(SYS_memfd_create, c"f".as_ptr(), 0)? as i32;
    sys!(SYS_ftruncate, fd, PAGE)?;
    let at = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
    poke(at, 1);
    let number = frame(at)?;
    let wanted = UPTODATE | DIRTY | MAPPED | SWAPBACKED;
    let seen = flags(number)?;
    check!(seen & (wanted | ANON | SLAB | BUDDY) == wanted, "{seen:#x}");
    munmap(at, PAGE)?;
    let seen = flags(number)?;
    check!(seen & (UPTODATE | MAPPED | BUDDY) == UPTODATE, "{seen:#x}");
    // The end of the object is the end of the page.
    close(fd)?;
    check!(eventually(|| flags(number).is_ok_and(|seen| seen & (UPTODATE | DIRTY) == 0)));
    Ok(())
}

/// A machine that runs has some of each.
fn flags_of_others() -> Outcome {
    let words = all(c"/proc/kpageflags")?;
    for kind in [SLAB, BUDDY, ANON, PAGE_TABLE, ZERO_PAGE] {
        check!(words.iter().any(|word| word & kind != 0), "{kind:#x}");
    }
    check_eq!(words.iter().filter(|word| **word & ZERO_PAGE != 0 && **word & PAGE_TABLE == 0).count(), 1);
    // What is free has no contents.
    check!(words.iter().all(|word| word & BUDDY == 0 || word & (MAPPED | ANON | SLAB) == 0));
    Ok(())
}

fn free_pages() -> Outcome {
    let text = slurp(c"/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:")).unwrap_or_default();
    let free: usize = line.trim().trim_end_matches(" kB").parse().unwrap_or(0) / 4;
    let seen = all(c"/proc/kpageflags")?.iter().filter(|word| **word & BUDDY != 0).count();
    // Some are kept by CPUs, and some come and go.
    check!(seen > free / 2 && seen < free + free / 4, "{seen} of {free}");
    Ok(())
}
