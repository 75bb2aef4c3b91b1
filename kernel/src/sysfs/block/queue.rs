//! Files of a disk's queue.

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use block::bio::{SECTOR_SHIFT, SECTOR_SIZE};
use block::limits::{Features, Limits};
use block::{BlockDevice, elevator};
use kernfs::Text;

use super::device::parse;
use super::tree::{File, Of};
use crate::sysfs::print;

const fn file(name: &'static str, show: fn(&BlockDevice, &mut Text) -> Result<()>) -> File {
    File { name, of: Of::Disk, show, store: None }
}

const fn writable(
    name: &'static str,
    show: fn(&BlockDevice, &mut Text) -> Result<()>,
    store: fn(&BlockDevice, &str) -> Result<()>,
) -> File {
    File { name, of: Of::Disk, show, store: Some(store) }
}

/// A number that follows from the limits.
macro_rules! limit {
    ($name:literal, $value:expr) => {
        file($name, |device, out| {
            let value: fn(&Limits) -> u64 = $value;
            print(out, format_args!("{}\n", value(&device.limits())))
        })
    };
}

/// A feature that a user can switch.
macro_rules! feature {
    ($name:literal, $feature:expr) => {
        writable(
            $name,
            |device, out| {
                print(out, format_args!("{}\n", u8::from(device.limits().features.contains($feature))))
            },
            |device, text| {
                let on = parse(text)? != 0;
                device.queue().update_limits(|limits| limits.features.set($feature, on))
            },
        )
    };
}

const fn bytes(sectors: u32) -> u64 {
    (sectors as u64) << SECTOR_SHIFT
}

pub(super) const FILES: &[File] = &[
    feature!("add_random", Features::ADD_RANDOM),
    limit!("chunk_sectors", |limits| limits.chunk_sectors.into()),
    limit!("dax", |_| 0),
    limit!("discard_granularity", |limits| limits.discard_granularity.into()),
    limit!("discard_max_bytes", |limits| bytes(limits.max_discard_sectors)),
    limit!("discard_max_hw_bytes", |limits| bytes(limits.max_discard_sectors)),
    limit!("discard_zeroes_data", |_| 0),
    limit!("dma_alignment", |limits| limits.dma_alignment.into()),
    limit!("fua", |limits| limits.features.contains(Features::FUA).into()),
    limit!("hw_sector_size", |limits| limits.logical_block_size.into()),
    writable(
        "io_poll",
        |device, out| {
            print(out, format_args!("{}\n", u8::from(device.limits().features.contains(Features::POLL))))
        },
        // Linux ignores what is written where there is polling.
        |device, _| {
            if device.limits().features.contains(Features::POLL) { Ok(()) } else { Err(Errno::EINVAL) }
        },
    ),
    writable("io_poll_delay", |_, out| print(out, format_args!("-1\n")), |_, _| Ok(())),
    file("io_timeout", |device, out| print(out, format_args!("{}\n", device.queue().timeout_ms()))),
    feature!("iostats", Features::IO_STAT),
    limit!("logical_block_size", |limits| limits.logical_block_size.into()),
    limit!("max_discard_segments", |limits| limits.max_discard_segments.into()),
    limit!("max_hw_sectors_kb", |limits| u64::from(limits.max_hw_sectors) / 2),
    limit!("max_integrity_segments", |_| 0),
    writable(
        "max_sectors_kb",
        |device, out| print(out, format_args!("{}\n", device.limits().max_sectors / 2)),
        set_max_sectors,
    ),
    limit!("max_segment_size", |limits| limits.max_segment_size.into()),
    limit!("max_segments", |limits| limits.max_segments.into()),
    limit!("minimum_io_size", |limits| limits.io_min.into()),
    writable(
        "nomerges",
        |device, out| {
            let none = device.limits().features.contains(Features::NO_MERGES);
            print(out, format_args!("{}\n", if none { 2 } else { 0 }))
        },
        |device, text| {
            // 1 leaves out the search that costs most: here it is one search.
            let none = parse(text)? != 0;
            device.queue().update_limits(|limits| limits.features.set(Features::NO_MERGES, none))
        },
    ),
    file("nr_requests", |device, out| print(out, format_args!("{}\n", device.queue().nr_requests()))),
    limit!("nr_zones", |_| 0),
    limit!("optimal_io_size", |limits| limits.io_opt.into()),
    limit!("physical_block_size", |limits| limits.physical_block_size.into()),
    writable(
        "read_ahead_kb",
        |device, out| print(out, format_args!("{}\n", device.disk().read_ahead() >> 10)),
        |device, text| {
            let bytes =
                parse(text)?.checked_mul(1024).ok_or(Errno::EINVAL)? / PAGE_SIZE as u64 * PAGE_SIZE as u64;
            device.disk().set_read_ahead(u32::try_from(bytes).map_err(|_| Errno::EINVAL)?);
            Ok(())
        },
    ),
    feature!("rotational", Features::ROTATIONAL),
    file("rq_affinity", |_, out| print(out, format_args!("0\n"))),
    writable("scheduler", schedulers, |device, name| {
        let result = device.queue().set_scheduler(name);
        super::REVISION.fetch_add(1, core::sync::atomic::Ordering::AcqRel);
        result
    }),
    feature!("stable_writes", Features::STABLE_WRITES),
    limit!("virt_boundary_mask", |limits| limits.virt_boundary_mask),
    writable("write_cache", write_cache, set_write_cache),
    limit!("write_same_max_bytes", |_| 0),
    limit!("write_zeroes_max_bytes", |limits| bytes(limits.max_write_zeroes_sectors)),
    limit!("zone_append_max_bytes", |_| 0),
    limit!("zone_write_granularity", |_| 0),
    file("zoned", |_, out| print(out, format_args!("none\n"))),
];

/// A file of a hardware queue.
type HwFile = (&'static str, fn(&BlockDevice, usize, &mut Text) -> Result<()>);

pub(super) const HW_FILES: &[HwFile] = &[
    ("nr_tags", |device, _, out| print(out, format_args!("{}\n", device.queue().depth()))),
    ("nr_reserved_tags", |_, _, out| print(out, format_args!("0\n"))),
    ("cpu_list", |device, hw, out| {
        let possible = arch::cpu::count();
        for (index, cpu) in device.queue().cpus_of(hw).filter(|cpu| *cpu < possible).enumerate() {
            print(out, format_args!("{}{cpu}", if index > 0 { ", " } else { "" }))?;
        }
        out.push(b"\n");
        Ok(())
    }),
];

fn set_max_sectors(device: &BlockDevice, text: &str) -> Result<()> {
    let sectors = parse(text)?.checked_mul(1024 / SECTOR_SIZE).ok_or(Errno::EINVAL)?;
    let sectors = u32::try_from(sectors).map_err(|_| Errno::EINVAL)?;
    let least = (PAGE_SIZE as u64 / SECTOR_SIZE) as u32;
    // 0 stands for what it was in the beginning; what is more than the device can do is cut.
    if sectors != 0 && sectors < least {
        return Err(Errno::EINVAL);
    }
    device.queue().update_limits(|limits| limits.max_sectors = sectors)
}

fn schedulers(device: &BlockDevice, out: &mut Text) -> Result<()> {
    let current = device.queue().scheduler();
    for name in elevator::NAMES {
        if name == current {
            print(out, format_args!("[{name}] "))?;
        } else {
            print(out, format_args!("{name} "))?;
        }
    }
    out.push(b"\n");
    Ok(())
}

fn write_cache(device: &BlockDevice, out: &mut Text) -> Result<()> {
    let back = device.limits().has_write_cache();
    print(out, format_args!("{}\n", if back { "write back" } else { "write through" }))
}

fn set_write_cache(device: &BlockDevice, text: &str) -> Result<()> {
    let off = match text {
        "write back" => false,
        "write through" | "none" => true,
        _ => return Err(Errno::EINVAL),
    };
    if !off && !device.limits().features.contains(Features::WRITE_CACHE) {
        return Err(Errno::EINVAL);
    }
    device.queue().update_limits(|limits| limits.features.set(Features::CACHE_OFF, off))
}
