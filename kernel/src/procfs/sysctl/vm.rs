//! `/proc/sys/vm`: `proc_sys_vm(5)`.
//!
//! A value is that of the mechanism it steers. What Linux has here for mechanisms that are not there (huge pages, memory
//! failure, compaction in the background) is missing.

use core::fmt::Write;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use abi::cap::Cap;
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use kernfs::{Attr, StaticDir, Text, attr};
use mm::overcommit::{ADMIN_RESERVE_KBYTES, KBYTES, MODE, RATIO, USER_RESERVE_KBYTES};
use mm::{oom, writeback, zone_setup};

use super::{line, parse};
use crate::exec::load;
use crate::process::current;

/// Declares two numbers of which the one written last counts: the other becomes 0.
macro_rules! either {
    ($name:literal, $variable:expr, $range:expr, $other:expr) => {
        attr($name, |out| line(out, $variable.load(Ordering::Relaxed))).writable(|data| {
            $variable.store(parse(data, $range)?, Ordering::Relaxed);
            $other.store(0, Ordering::Relaxed);
            Ok(())
        })
    };
}

/// `vm.swappiness`; there is no swap that it could matter for.
static SWAPPINESS: AtomicUsize = AtomicUsize::new(60);
/// `vm.page-cluster`: pages read ahead from swap, as a power of two.
static PAGE_CLUSTER: AtomicU32 = AtomicU32::new(3);
/// `vm.stat_interval`. Counters are summed when they are read, so that there is no interval to wait for.
static STAT_INTERVAL: AtomicU32 = AtomicU32::new(1);

const FILES: &[Attr] = &[
    number!("admin_reserve_kbytes", ADMIN_RESERVE_KBYTES, 0..=usize::MAX),
    attr("compact_memory", write_only)
        .writable(|data| {
            parse(data, 1..=1u32)?;
            mm::page_alloc::drain_all();
            Ok(())
        })
        .mode(0o200),
    either!(
        "dirty_background_bytes",
        writeback::BACKGROUND_BYTES,
        1..=usize::MAX,
        writeback::BACKGROUND_RATIO
    ),
    either!("dirty_background_ratio", writeback::BACKGROUND_RATIO, 0..=100, writeback::BACKGROUND_BYTES),
    either!("dirty_bytes", writeback::DIRTY_BYTES, 2 * PAGE_SIZE..=usize::MAX, writeback::DIRTY_RATIO),
    number!("dirty_expire_centisecs", writeback::EXPIRE_CENTISECS, 0..=i32::MAX as u32),
    either!("dirty_ratio", writeback::DIRTY_RATIO, 0..=100, writeback::DIRTY_BYTES),
    number!("dirty_writeback_centisecs", writeback::INTERVAL_CENTISECS, 0..=i32::MAX as u32),
    number!("dirtytime_expire_seconds", writeback::DIRTYTIME_SECONDS, 0..=i32::MAX as u32),
    attr("drop_caches", write_only).writable(drop_caches).mode(0o200),
    number!("laptop_mode", writeback::LAPTOP_MODE, 0..=i32::MAX as u32),
    number!("legacy_va_layout", load::LEGACY_LAYOUT, 0..=i32::MAX as u32),
    attr("lowmem_reserve_ratio", show_reserve_ratio).writable(set_reserve_ratio),
    number!("max_map_count", mm::space::MAX_MAP_COUNT, 0..=i32::MAX as usize),
    attr("memfd_noexec", |out| line(out, current().pid_ns().memfd_noexec())).writable(|data| {
        if !current().with_cred(|cred| cred.ns_capable(&cred.user_ns, Cap::SysAdmin)) {
            return Err(Errno::EPERM);
        }
        current().pid_ns().set_memfd_noexec(parse(data, 0..=2)?)
    }),
    attr("min_free_kbytes", |out| line(out, zone_setup::min_free_kbytes())).writable(|data| {
        zone_setup::set_min_free_kbytes(parse(data, 0..=i32::MAX as usize)?);
        Ok(())
    }),
    attr("mmap_min_addr", |out| line(out, mm::space::MMAP_MIN_ADDR.load(Ordering::Relaxed))).writable(
        |data| {
            if !current().with_cred(|cred| cred.capable(Cap::SysRawio)) {
                return Err(Errno::EPERM);
            }
            mm::space::MMAP_MIN_ADDR.store(parse(data, 0..=usize::MAX)?, Ordering::Relaxed);
            Ok(())
        },
    ),
    number!("mmap_rnd_bits", load::RND_BITS, arch::layout::MMAP_RND_RANGE).mode(0o600),
    number!("oom_dump_tasks", oom::DUMP_TASKS, 0..=i32::MAX as u32),
    number!("oom_kill_allocating_task", oom::KILL_ALLOCATING_TASK, 0..=i32::MAX as u32),
    either!("overcommit_kbytes", KBYTES, 0..=usize::MAX, RATIO),
    number!("overcommit_memory", MODE, 0..=2),
    either!("overcommit_ratio", RATIO, 0..=i32::MAX as usize, KBYTES),
    number!("page-cluster", PAGE_CLUSTER, 0..=31),
    number!("panic_on_oom", oom::PANIC_ON_OOM, 0..=2),
    number!("stat_interval", STAT_INTERVAL, 0..=i32::MAX as u32),
    // Reading or writing it makes the counters of `vmstat` exact; they always are.
    attr("stat_refresh", |_| Ok(())).writable(|_| Ok(())).mode(0o600),
    number!("swappiness", SWAPPINESS, 0..=200),
    number!("unprivileged_userfaultfd", crate::userfaultfd::UNPRIVILEGED, 0..=1),
    number!("user_reserve_kbytes", USER_RESERVE_KBYTES, 0..=usize::MAX),
    attr("watermark_scale_factor", |out| line(out, zone_setup::watermark_scale_factor())).writable(|data| {
        zone_setup::set_watermark_scale_factor(parse(data, 1..=3000)?);
        Ok(())
    }),
];

/// What cannot be opened for reading.
fn write_only(_: &mut Text) -> Result<()> {
    Err(Errno::EACCES)
}

/// 1 the page cache, 2 what shrinks (names), 3 both; 4 only asks for silence.
fn drop_caches(data: &[u8]) -> Result<()> {
    let what = parse(data, 1..=4u32)?;
    if what & 1 != 0 {
        mm::reclaim::drop_pagecache();
    }
    if what & 2 != 0 {
        vfs::dcache::shrink(usize::MAX);
        mm::stats::count(mm::stats::Event::DropSlab, 1);
    }
    Ok(())
}

fn show_reserve_ratio(out: &mut Text) -> Result<()> {
    for (index, ratio) in zone_setup::reserve_ratios().into_iter().enumerate() {
        write!(out, "{}{ratio}", if index > 0 { "\t" } else { "" }).map_err(|_| Errno::ENOMEM)?;
    }
    out.push(b"\n");
    Ok(())
}

/// Takes as many numbers as are written, from the lowest zone on; those below 1 stand for no reserve.
fn set_reserve_ratio(data: &[u8]) -> Result<()> {
    let mut ratios = zone_setup::reserve_ratios();
    let words = data.split(|byte| byte.is_ascii_whitespace() || *byte == 0).filter(|word| !word.is_empty());
    for (slot, word) in ratios.iter_mut().zip(words) {
        *slot = usize::try_from(parse(word, i32::MIN..=i32::MAX)?).unwrap_or(0);
    }
    zone_setup::set_reserve_ratios(ratios);
    Ok(())
}

/// Builds the directory.
pub(super) fn init(dir: &StaticDir) {
    dir.add_attrs(FILES);
}
