//! /sys/devices/system/memory: memory that is put offline and comes back.

use crate::prelude::*;

tests![block_files, refused_states, contents_survive, memory_of_the_kernel_stays];

const DIR: &str = "/sys/devices/system/memory";
const PAGE: usize = 4096;

fn file(block: u64, name: &str) -> Result<String, Failure> {
    let path = format!("{DIR}/memory{block}/{name}");
    Ok(std::fs::read_to_string(&path)?.trim_end().to_string())
}

fn set(block: u64, name: &str, value: &str) -> Result<(), Errno> {
    let path = std::ffi::CString::new(format!("{DIR}/memory{block}/{name}")).unwrap_or_default();
    spew(&path, value)
}

fn block_size() -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("{DIR}/block_size_bytes"))?;
    u64::from_str_radix(text.trim(), 16).map_err(|error| Failure(error.to_string()))
}

/// The numbers of all blocks.
fn blocks() -> Result<Vec<u64>, Failure> {
    let mut blocks: Vec<u64> = std::fs::read_dir(DIR)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("memory")?.parse().ok())
        .collect();
    blocks.sort_unstable();
    Ok(blocks)
}

fn total_kib() -> Result<u64, Failure> {
    let text = slurp(c"/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_err(|_| Failure(text.clone()))
}

fn block_files() -> Outcome {
    let size = block_size()?;
    check!(size.is_power_of_two() && size >= 16 << 20, "{size:#x}");
    let blocks = blocks()?;
    check!(!blocks.is_empty());
    for block in blocks {
        check_eq!(file(block, "state")?, "online");
        check_eq!(file(block, "online")?, "1");
        check_eq!(file(block, "removable")?, "1");
        check_eq!(u64::from_str_radix(&file(block, "phys_index")?, 16).ok(), Some(block));
        let zones = file(block, "valid_zones")?;
        check!(["DMA", "DMA32", "Normal", "Movable", "none"].contains(&zones.as_str()), "{zones}");
        let link = (0..8).find_map(|node| std::fs::read_link(format!("{DIR}/memory{block}/node{node}")).ok());
        check!(link.is_some_and(|link| link.starts_with("../../node/")), "no link to its node");
    }
    Ok(())
}

fn refused_states() -> Outcome {
    let block = *blocks()?.last().ok_or(Failure(String::new()))?;
    for nonsense in ["", "x", "off", "online_", "ONLINE"] {
        let result = set(block, "state", nonsense);
        check!(nonsense.is_empty() || result == Err(Errno(EINVAL)), "{nonsense}: {result:?}");
    }
    // It is what it is to become.
    check_err!(set(block, "state", "online"), EINVAL);
    set(block, "online", "1")?;
    check_eq!(file(block, "state")?, "online");
    let status = in_child(|| {
        let _ = sys!(SYS_setuid, 1000);
        i32::from(set(block, "state", "offline") == Err(Errno(EACCES)))
    })?;
    check_eq!(status, 1);
    Ok(())
}

/// What the page at `at` should hold.
fn pattern(at: usize) -> u64 {
    (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn holds(area: usize, len: usize) -> bool {
    // SAFETY: the area is mapped.
    (area..area + len).step_by(PAGE).all(|at| unsafe { *(at as *const u64) } == pattern(at - area))
}

fn fill(area: usize, len: usize) {
    for at in (area..area + len).step_by(PAGE) {
        // SAFETY: the area is mapped.
        unsafe { *(at as *mut u64) = pattern(at - area) };
    }
}

/// The frame behind `at`.
fn frame(at: usize) -> Result<u64, Failure> {
    let fd = open(c"/proc/self/pagemap", O_RDONLY, 0)?;
    let mut word = 0u64;
    sys!(SYS_pread64, fd, &raw mut word, 8, at / PAGE * 8)?;
    close(fd)?;
    Ok(word & ((1 << 55) - 1))
}

fn contents_survive() -> Outcome {
    const LEN: usize = 96 << 20;
    let size = block_size()?;
    let private = map_anon(LEN)?;
    fill(private, LEN);
    // Shared with a child, and memory of a file.
    let fd = create(c"f", b"")?;
    sys!(SYS_ftruncate, fd, LEN / 4)?;
    let cached = mmap(0, LEN / 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
    fill(cached, LEN / 4);
    let [ready, go] = [pipe(0)?, pipe(0)?];
    let child = fork(|| {
        let _ = write(ready[1], b"x");
        let mut byte = [0];
        let _ = crate::sys::read(go[0], &mut byte);
        i32::from(!holds(private, LEN))
    })?;
    let mut byte = [0];
    crate::sys::read(ready[0], &mut byte)?;

    let before = total_kib()?;
    let mut gone = Vec::new();
    for block in blocks()?.into_iter().rev().take(8) {
        match set(block, "state", "offline") {
            Ok(()) => gone.push(block),
            Err(Errno(EBUSY | EINVAL | EAGAIN)) => check_eq!(file(block, "state")?, "online"),
            // Memory that was there at boot stays: arm64's rule.
            Err(Errno(EPERM)) if cfg!(target_arch = "aarch64") => return Ok(()),
            Err(error) => return Err(Failure(format!("memory{block}: {error:?}"))),
        }
        if gone.len() == 2 {
            break;
        }
    }
    check!(!gone.is_empty(), "no block can be put offline");
    for block in &gone {
        check_eq!(file(*block, "state")?, "offline");
        check_eq!(file(*block, "online")?, "0");
        check_err!(set(*block, "state", "offline"), EINVAL);
    }
    // Memory that is described only when it is first needed may cost a little more than was thought.
    let after = total_kib()?;
    let lost = gone.len() as u64 * size / 1024;
    check!((before - after).abs_diff(lost) < 64, "{before} - {after}");
    check!(holds(private, LEN) && holds(cached, LEN / 4), "contents changed");
    for (area, len) in [(private, LEN), (cached, LEN / 4)] {
        for at in (area..area + len).step_by(64 * PAGE) {
            let block = frame(at)? * PAGE as u64 / size;
            check!(!gone.contains(&block), "a page is still in memory{block}");
        }
    }
    // What is written afterwards goes elsewhere, too.
    let more = map_anon(LEN / 4)?;
    fill(more, LEN / 4);
    for at in (more..more + LEN / 4).step_by(16 * PAGE) {
        check!(!gone.contains(&(frame(at)? * PAGE as u64 / size)));
    }
    for block in &gone {
        set(*block, "state", "online")?;
        check_eq!(file(*block, "state")?, "online");
    }
    check_eq!(total_kib()?, after + lost);
    write(go[1], b"x")?;
    check_eq!(wait_exit(child)?, 0);
    check!(holds(more, LEN / 4));
    munmap(private, LEN)?;
    munmap(more, LEN / 4)?;
    munmap(cached, LEN / 4)?;
    close(fd)?;
    unlink(c"f")?;
    Ok(())
}

fn memory_of_the_kernel_stays() -> Outcome {
    // The first block holds the kernel on one architecture or another, and something that cannot move on each.
    let first = *blocks()?.first().ok_or(Failure(String::new()))?;
    let result = set(first, "state", "offline");
    let arm64 = cfg!(target_arch = "aarch64") && result == Err(Errno(EPERM));
    check!(arm64 || matches!(result, Err(Errno(EBUSY | EINVAL))), "{result:?}");
    check_eq!(file(first, "state")?, "online");
    Ok(())
}
