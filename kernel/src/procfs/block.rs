//! Disks: `/proc/partitions`, `/proc/diskstats`.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use block::{BlockDevice, disk};
use kernfs::{Attr, Text, attr};

pub(super) const FILES: &[Attr] = &[attr("partitions", partitions), attr("diskstats", diskstats)];

/// Disks, and behind each its partitions.
fn each(mut f: impl FnMut(&Arc<BlockDevice>) -> core::fmt::Result) -> Result<()> {
    for whole in disk::all()?.iter().filter(|device| device.partition().is_none()) {
        for device in whole.disk().all()? {
            f(&device).map_err(|_| Errno::ENOMEM)?;
        }
    }
    Ok(())
}

fn partitions(out: &mut Text) -> Result<()> {
    let mut first = true;
    each(|device| {
        if core::mem::take(&mut first) {
            out.push(b"major minor  #blocks  name\n\n");
        }
        if device.sectors() == 0 {
            return Ok(());
        }
        let dev = device.dev();
        writeln!(out, "{:4}  {:7} {:10} {}", dev.major, dev.minor, device.sectors() / 2, device.name())
    })
}

fn diskstats(out: &mut Text) -> Result<()> {
    each(|device| {
        if device.partition().is_some() && device.sectors() == 0 {
            return Ok(());
        }
        let dev = device.dev();
        writeln!(out, "{:4} {:7} {} {}", dev.major, dev.minor, device.name(), device.stats().totals_now())
    })
}
