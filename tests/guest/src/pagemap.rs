//! /proc/PID/pagemap with its ioctl, /proc/PID/clear_refs, and what smaps shows of both: proc_pid_pagemap(5), ioctl_pagemap_scan(2).

use crate::prelude::*;

tests![
    words,
    frames_are_for_admins,
    soft_dirty,
    soft_dirty_travels,
    accessed_marks,
    scan_requests,
    scans,
    scans_in_parts,
    scan_protects,
];

const PAGE: usize = 4096;

const SOFT_DIRTY: u64 = 1 << 55;
const EXCLUSIVE: u64 = 1 << 56;
const UFFD_WP: u64 = 1 << 57;
const FILE: u64 = 1 << 61;
const SWAP: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = SOFT_DIRTY - 1;

fn pagemap() -> Result<i32, Errno> {
    open(c"/proc/self/pagemap", O_RDONLY, 0)
}

fn words_at(at: usize, count: usize) -> Result<Vec<u64>, Errno> {
    let fd = pagemap()?;
    let mut words = vec![0u64; count];
    let got = sys!(SYS_pread64, fd, words.as_mut_ptr(), count * 8, at / PAGE * 8)?;
    close(fd)?;
    words.truncate(got / 8);
    Ok(words)
}

fn word(at: usize) -> Result<u64, Errno> {
    Ok(words_at(at, 1)?.first().copied().unwrap_or(0))
}

fn clear(what: &str) -> Result<(), Errno> {
    spew(c"/proc/self/clear_refs", what)
}

/// The lines of smaps about the area that `at` is in.
fn smaps(at: usize) -> Result<Vec<String>, Errno> {
    let text = slurp(c"/proc/self/smaps")?;
    let holds = |line: &&str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text: &str| usize::from_str_radix(text, 16).ok();
        range.is_some_and(|(start, end)| match (number(start), number(end)) {
            (Some(start), Some(end)) => start <= at && at < end,
            _ => false,
        })
    };
    let mut area: Vec<_> = text.lines().skip_while(|line| !holds(line)).map(String::from).collect();
    let end = area.iter().position(|line| line.starts_with("VmFlags")).map_or(area.len(), |at| at + 1);
    area.truncate(end);
    Ok(area)
}

fn kib(at: usize, name: &str) -> Result<usize, Errno> {
    let lines = smaps(at)?;
    let line = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(usize::MAX))
}

fn has_flag(at: usize, flag: &str) -> Result<bool, Errno> {
    Ok(smaps(at)?.last().is_some_and(|line| line.split_whitespace().any(|word| word == flag)))
}

fn words() -> Outcome {
    let at = map_anon(8 * PAGE)?;
    poke(at + PAGE, 1);
    peek(at + 2 * PAGE);
    munmap(at + 7 * PAGE, PAGE)?;
    let seen = words_at(at, 8)?;
    let kinds = PRESENT | SWAP | FILE | EXCLUSIVE | UFFD_WP;
    check_eq!(seen.len(), 8);
    check_eq!(seen[0] & kinds, 0);
    check_eq!(seen[1] & kinds, PRESENT | EXCLUSIVE);
    // The page of zeros is nobody's.
    check_eq!(seen[2] & kinds, PRESENT);
    check_eq!(seen[7], 0);
    let fd = create(c"f", &[1; 2 * PAGE])?;
    let file = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0)?;
    peek(file);
    poke(file + PAGE, 2);
    let seen = words_at(file, 2)?;
    check_eq!(seen[0] & (PRESENT | FILE), PRESENT | FILE);
    check_eq!(seen[1] & kinds, PRESENT | EXCLUSIVE);
    let shared = map_shared(2 * PAGE)?;
    poke(shared, 1);
    check_eq!(word(shared)? & kinds, PRESENT | FILE | EXCLUSIVE);
    let status = in_child(|| {
        peek(shared);
        i32::from(word(shared).unwrap_or(0) & kinds != PRESENT | FILE)
    })?;
    check_eq!(status, 0);
    // A page without access is there all the same.
    sys!(SYS_mprotect, at + PAGE, PAGE, PROT_NONE)?;
    check_eq!(word(at + PAGE)? & kinds, PRESENT | EXCLUSIVE);
    let fd = pagemap()?;
    let mut bytes = [0u8; 64];
    check_err!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 8, at / PAGE * 8 + 1), EINVAL);
    check_err!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 9, at / PAGE * 8), EINVAL);
    check_err!(sys!(SYS_pread64, fd, 8, 8, at / PAGE * 8), EFAULT);
    check_eq!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 0, at / PAGE * 8)?, 0);
    check_eq!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 8, 1usize << 60)?, 0);
    check_eq!(seek(fd, 1 << 40, SEEK_SET)?, 1 << 40);
    check_err!(sys!(SYS_ioctl, fd, 0x6611, 0), EINVAL);
    Ok(())
}

fn frames_are_for_admins() -> Outcome {
    let shared = map_shared(PAGE)?;
    poke(shared, 1);
    let twin = sys!(SYS_mremap, shared, 0, PAGE, MREMAP_MAYMOVE)?;
    peek(twin);
    let frame = word(shared)? & FRAME;
    check!(frame != 0);
    check_eq!(word(twin)? & FRAME, frame);
    let at = map_anon(PAGE)?;
    poke(at, 1);
    check!(word(at)? & FRAME != frame);
    let status = in_child(|| {
        let before = pagemap();
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let _ = sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
        let hidden = word(at).is_ok_and(|word| word & FRAME == 0 && word & PRESENT != 0);
        // It is the opener that counts.
        let mut one = 0u64;
        let kept = before.is_ok_and(|fd| sys!(SYS_pread64, fd, &raw mut one, 8, at / PAGE * 8) == Ok(8));
        i32::from(!hidden) + 2 * i32::from(!kept || one & FRAME == 0)
    })?;
    check_eq!(status, 0);
    Ok(())
}

/// Four pages in an area that nothing is merged with.
fn lonely() -> Result<usize, Errno> {
    let at = map_anon(6 * PAGE)?;
    sys!(SYS_mprotect, at, PAGE, PROT_NONE)?;
    sys!(SYS_mprotect, at + 5 * PAGE, PAGE, PROT_NONE)?;
    Ok(at + PAGE)
}

/// Whether this kernel has soft-dirty marks; those of arm64 have none.
fn tracks() -> Result<bool, Errno> {
    let at = map_anon(PAGE)?;
    poke(at, 1);
    Ok(word(at)? & SOFT_DIRTY != 0)
}

fn soft_dirty() -> Outcome {
    if !tracks()? {
        clear("4")?;
        return Ok(());
    }
    let at = lonely()?;
    // New memory is different from what was there, pages or not.
    check_eq!(word(at)? & SOFT_DIRTY, SOFT_DIRTY);
    check!(has_flag(at, "sd")?);
    (0..2).for_each(|n| poke(at + n * PAGE, 1));
    clear("4")?;
    check!(!has_flag(at, "sd")?);
    let dirty = |at: usize| -> Result<Vec<bool>, Errno> {
        Ok(words_at(at, 4)?.iter().map(|word| word & SOFT_DIRTY != 0).collect())
    };
    check_eq!(dirty(at)?, [false; 4]);
    check_eq!((peek(at), peek(at + 2 * PAGE)), (1, 0));
    check_eq!(dirty(at)?, [false; 4]);
    poke(at, 2);
    poke(at + 3 * PAGE, 2);
    check_eq!(dirty(at)?, [true, false, false, true]);
    // mprotect does not let a store slip by.
    sys!(SYS_mprotect, at, 2 * PAGE, PROT_READ)?;
    sys!(SYS_mprotect, at, 2 * PAGE, PROT_READ | PROT_WRITE)?;
    check_eq!(dirty(at)?, [true, false, false, true]);
    poke(at + PAGE, 3);
    check_eq!(dirty(at)?, [true, true, false, true]);
    // The kernel's stores count.
    clear("4")?;
    let [read, write_end] = pipe(0)?;
    write(write_end, b"x")?;
    sys!(SYS_read, read, at + PAGE, 1)?;
    check_eq!(dirty(at)?, [false, true, false, false]);
    // Shared memory.
    let shared = map_shared(4 * PAGE)?;
    poke(shared, 1);
    clear("4")?;
    poke(shared + PAGE, 1);
    check_eq!(dirty(shared)?, [false, true, false, false]);
    poke(shared, 2);
    check_eq!(dirty(shared)?, [true, true, false, false]);
    check_eq!((peek(shared), peek(at)), (2, 2));
    Ok(())
}

fn soft_dirty_travels() -> Outcome {
    if !tracks()? {
        return Ok(());
    }
    let at = map_anon(4 * PAGE)?;
    (0..4).for_each(|n| poke(at + n * PAGE, 1));
    clear("4")?;
    poke(at, 2);
    // A child has what its parent has, and goes its own way.
    let status = in_child(|| {
        let before = words_at(at, 2).unwrap_or_default();
        poke(at + PAGE, 2);
        let after = words_at(at, 2).unwrap_or_default();
        let marks =
            [&before, &after].map(|words| words.iter().map(|w| w & SOFT_DIRTY != 0).collect::<Vec<_>>());
        i32::from(marks != [vec![true, false], vec![true, true]])
    })?;
    check_eq!(status, 0);
    check_eq!(word(at + PAGE)? & SOFT_DIRTY, 0);
    // What was moved is new where it is.
    let to = map_anon(4 * PAGE)?;
    sys!(SYS_mremap, at, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to)?;
    check!(words_at(to, 4)?.iter().all(|word| word & SOFT_DIRTY != 0));
    check_eq!((peek(to), peek(to + PAGE)), (2, 1));
    // A new mapping beside an old one.
    clear("4")?;
    munmap(to + 2 * PAGE, 2 * PAGE)?;
    mmap(to + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)?;
    check_eq!(word(to + 2 * PAGE)? & SOFT_DIRTY, SOFT_DIRTY);
    Ok(())
}

fn accessed_marks() -> Outcome {
    for bad in ["0", "6", "-1", "x", ""] {
        let result = clear(bad);
        check!(matches!(result, Err(Errno(EINVAL))) || bad.is_empty(), "{bad}: {result:?}");
    }
    check_err!(open(c"/proc/self/clear_refs", O_RDONLY, 0).and_then(read_all), EINVAL);
    let at = lonely()?;
    (0..4).for_each(|n| poke(at + n * PAGE, 1));
    let fd = create(c"f", &[1; 4 * PAGE])?;
    let file = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
    (0..4).for_each(|n| poke(file + n * PAGE, 1));
    check_eq!((kib(at, "Referenced")?, kib(file, "Referenced")?), (16, 16));
    clear("2")?;
    check_eq!((kib(at, "Referenced")?, kib(file, "Referenced")?), (0, 16));
    (0..4).for_each(|n| poke(at + n * PAGE, 1));
    clear("3\n")?;
    check_eq!(kib(file, "Referenced")?, 0);
    clear("1")?;
    check_eq!((kib(at, "Referenced")?, kib(file, "Referenced")?), (0, 0));
    check_eq!((kib(at, "Rss")?, kib(file, "Rss")?), (16, 16));
    clear("5")?;
    Ok(())
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Arg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    inverted: u64,
    mask: u64,
    anyof: u64,
    report: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const SCAN: u32 = 0xc060_6610;
const WPALLOWED: u64 = 1;
const WRITTEN: u64 = 2;
const IS_FILE: u64 = 4;
const IS_PRESENT: u64 = 8;
const PFNZERO: u64 = 32;
const IS_SOFT_DIRTY: u64 = 128;

fn scan(arg: &mut Arg) -> Result<usize, Errno> {
    let fd = pagemap()?;
    let result = sys!(SYS_ioctl, fd, SCAN, std::ptr::from_mut(arg));
    close(fd)?;
    result
}

fn request(at: usize, pages: usize, regions: &mut [Region]) -> Arg {
    Arg {
        size: size_of::<Arg>() as u64,
        start: at as u64,
        end: (at + pages * PAGE) as u64,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        ..Arg::default()
    }
}

fn scan_requests() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    let mut regions = [Region::default(); 4];
    let mut good = request(at, 4, &mut regions);
    (good.mask, good.report) = (IS_PRESENT, IS_PRESENT);
    check_eq!(scan(&mut good.clone())?, 0);
    check_err!(scan(&mut Arg { size: 88, ..good }), EINVAL);
    check_err!(scan(&mut Arg { flags: 4, ..good }), EINVAL);
    check_err!(scan(&mut Arg { mask: 256, ..good }), EINVAL);
    check_err!(scan(&mut Arg { anyof: 256, ..good }), EINVAL);
    check_err!(scan(&mut Arg { inverted: 256, ..good }), EINVAL);
    check_err!(scan(&mut Arg { report: 256, ..good }), EINVAL);
    check_err!(scan(&mut Arg { start: good.start + 1, ..good }), EINVAL);
    check_err!(scan(&mut Arg { vec: 0, ..good }), EINVAL);
    check_err!(scan(&mut Arg { end: !4095, ..good }), EFAULT);
    check_err!(scan(&mut Arg { vec: !7, ..good }), EFAULT);
    // Protecting needs a userfaultfd that does not wait.
    check_err!(scan(&mut Arg { flags: 2, ..good }), EPERM);
    check_eq!(scan(&mut Arg { flags: 1, ..good })?, 0);
    poke(at, 1);
    check_err!(scan(&mut Arg { vec: 8, ..good }), EFAULT);
    let fd = pagemap()?;
    check_err!(sys!(SYS_ioctl, fd, SCAN, 8), EFAULT);
    Ok(())
}

fn scans() -> Outcome {
    let at = map_anon(16 * PAGE)?;
    [1, 2, 5].iter().for_each(|n| poke(at + n * PAGE, 1));
    peek(at + 8 * PAGE);
    let mut regions = [Region::default(); 8];
    let mut arg = request(at, 16, &mut regions);
    (arg.mask, arg.report) = (IS_PRESENT, IS_PRESENT | PFNZERO | IS_FILE | WPALLOWED);
    check_eq!(scan(&mut arg)?, 3);
    check_eq!(arg.walk_end, arg.end);
    let region = |from: usize, to: usize, categories: u64| Region {
        start: (at + from * PAGE) as u64,
        end: (at + to * PAGE) as u64,
        categories,
    };
    let want = [region(1, 3, IS_PRESENT), region(5, 6, IS_PRESENT), region(8, 9, IS_PRESENT | PFNZERO)];
    check_eq!(regions[..3], want);
    // The opposite.
    let mut arg = request(at, 16, &mut regions);
    (arg.mask, arg.inverted) = (IS_PRESENT, IS_PRESENT);
    check_eq!(scan(&mut arg)?, 4);
    check_eq!(regions[..4], [region(0, 1, 0), region(3, 5, 0), region(6, 8, 0), region(9, 16, 0)]);
    // One of several.
    let shared = map_shared(4 * PAGE)?;
    poke(shared, 1);
    let mut arg = request(shared, 4, &mut regions);
    (arg.anyof, arg.report) = (IS_FILE | PFNZERO, IS_FILE | IS_PRESENT);
    check_eq!(scan(&mut arg)?, 1);
    check_eq!(
        regions[0],
        Region { start: shared as u64, end: (shared + PAGE) as u64, categories: IS_FILE | IS_PRESENT }
    );
    if tracks()? {
        clear("4")?;
        poke(at + 2 * PAGE, 2);
        let mut arg = request(at, 16, &mut regions);
        (arg.mask, arg.report) = (IS_SOFT_DIRTY, IS_SOFT_DIRTY);
        check_eq!(scan(&mut arg)?, 1);
        check_eq!(regions[0], region(2, 3, IS_SOFT_DIRTY));
    }
    Ok(())
}

fn scans_in_parts() -> Outcome {
    let at = map_anon(16 * PAGE)?;
    [1, 2, 5, 7, 9].iter().for_each(|n| poke(at + n * PAGE, 1));
    let mut regions = [Region::default(); 2];
    let mut arg = request(at, 16, &mut regions);
    (arg.mask, arg.report) = (IS_PRESENT, IS_PRESENT);
    check_eq!(scan(&mut arg)?, 2);
    check_eq!((regions[0].end, regions[1].end), ((at + 3 * PAGE) as u64, (at + 6 * PAGE) as u64));
    check_eq!(arg.walk_end, (at + 7 * PAGE) as u64);
    arg.start = arg.walk_end;
    check_eq!(scan(&mut arg)?, 2);
    check_eq!((regions[0].start, regions[1].end), ((at + 7 * PAGE) as u64, (at + 10 * PAGE) as u64));
    check_eq!(arg.walk_end, arg.end);
    // So many pages and no more.
    let mut arg = request(at, 16, &mut regions);
    (arg.mask, arg.report, arg.max_pages) = (IS_PRESENT, IS_PRESENT, 1);
    let found = scan(&mut arg)?;
    check!(found >= 1, "{found}");
    check_eq!((regions[0].start, regions[0].end), ((at + PAGE) as u64, (at + 2 * PAGE) as u64));
    check_eq!(arg.walk_end, (at + 2 * PAGE) as u64);
    Ok(())
}

fn scan_protects() -> Outcome {
    let ioctl = |fd: i32, cmd: u32, words: &mut [u64]| sys!(SYS_ioctl, fd, cmd, words.as_mut_ptr());
    let fd = sys!(SYS_userfaultfd, O_CLOEXEC)? as i32;
    if ioctl(fd, 0xc018_aa3f, &mut [0xaa, 1 | 1 << 15, 0]).is_err() {
        return Ok(());
    }
    let at = map_anon(8 * PAGE)?;
    [0, 1, 4].iter().for_each(|n| poke(at + n * PAGE, 1));
    ioctl(fd, 0xc020_aa00, &mut [at as u64, 8 * PAGE as u64, 2, 0])?;
    ioctl(fd, 0xc018_aa06, &mut [at as u64, 8 * PAGE as u64, 1])?;
    let mut regions = [Region::default(); 8];
    let mut arg = request(at, 8, &mut regions);
    (arg.flags, arg.mask, arg.report) = (3, WRITTEN | WPALLOWED, WRITTEN | WPALLOWED);
    check_eq!(scan(&mut arg)?, 0);
    poke(at + PAGE, 2);
    poke(at + 6 * PAGE, 2);
    let region = |from: usize, to: usize| Region {
        start: (at + from * PAGE) as u64,
        end: (at + to * PAGE) as u64,
        categories: WRITTEN | WPALLOWED,
    };
    // Found, and forgotten in the same breath.
    check_eq!(scan(&mut arg.clone())?, 2);
    check_eq!(regions[..2], [region(1, 2), region(6, 7)]);
    check_eq!(scan(&mut arg.clone())?, 0);
    check_eq!(word(at + PAGE)? & UFFD_WP, UFFD_WP);
    poke(at + 6 * PAGE, 3);
    // Only a look.
    let look = Arg { flags: 0, ..arg };
    check_eq!((scan(&mut look.clone())?, scan(&mut look.clone())?), (1, 1));
    // Nothing reported, all protected.
    check_eq!(scan(&mut Arg { vec: 0, vec_len: 0, ..arg })?, 0);
    check_eq!(scan(&mut look.clone())?, 0);
    check_eq!((peek(at + PAGE), peek(at + 6 * PAGE)), (2, 3));
    Ok(())
}
