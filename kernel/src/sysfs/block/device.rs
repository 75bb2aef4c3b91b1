//! Files of disks and partitions.

use abi::{Errno, Result};
use block::BlockDevice;
use block::disk::stat::Totals;
use kernfs::Text;

use super::tree::{File, Of};
use crate::sysfs::print;

const fn file(name: &'static str, of: Of, show: fn(&BlockDevice, &mut Text) -> Result<()>) -> File {
    File { name, of, show, store: None }
}

pub(super) const FILES: &[File] = &[
    File {
        store: Some(|_, data| super::super::device::uevent_store(data.as_bytes())),
        ..file("uevent", Of::Both, uevent)
    },
    file("dev", Of::Both, |device, out| {
        let dev = device.dev();
        print(out, format_args!("{}:{}\n", dev.major, dev.minor))
    }),
    file("size", Of::Both, |device, out| number(out, device.sectors())),
    file("ro", Of::Both, |device, out| number(out, u64::from(device.is_read_only()))),
    file("stat", Of::Both, |device, out| stat(out, &device.stats().totals_now())),
    file("inflight", Of::Both, |device, out| {
        let [reads, writes] = device.stats().totals().in_flight;
        print(out, format_args!("{reads:8} {writes:8}\n"))
    }),
    file("alignment_offset", Of::Both, |device, out| number(out, device.alignment_offset())),
    file("discard_alignment", Of::Both, |device, out| number(out, discard_alignment(device))),
    file("partition", Of::Partition, |device, out| number(out, device.partition().unwrap_or(0).into())),
    file("start", Of::Partition, |device, out| number(out, device.start())),
    file("removable", Of::Disk, |device, out| number(out, device.disk().is_removable().into())),
    file("range", Of::Disk, |device, out| number(out, device.disk().range().into())),
    file("ext_range", Of::Disk, |device, out| number(out, device.disk().extended_range().into())),
    file("hidden", Of::Disk, |_, out| number(out, 0)),
    file("capability", Of::Disk, |_, out| number(out, 0)),
    file("diskseq", Of::Disk, |device, out| number(out, device.disk().sequence())),
    // No disk says by itself that its medium has changed.
    file("events", Of::Disk, |_, _| Ok(())),
    file("events_async", Of::Disk, |_, _| Ok(())),
    file("events_poll_msecs", Of::Disk, |_, out| print(out, format_args!("-1\n"))),
];

fn number(out: &mut Text, number: u64) -> Result<()> {
    print(out, format_args!("{number}\n"))
}

fn discard_alignment(device: &BlockDevice) -> u64 {
    let granularity = u64::from(device.limits().discard_granularity);
    let start = device.start() << block::bio::SECTOR_SHIFT;
    match granularity {
        0 => 0,
        granularity => (granularity - start % granularity) % granularity,
    }
}

fn uevent(device: &BlockDevice, out: &mut Text) -> Result<()> {
    let dev = device.dev();
    let kind = if device.partition().is_some() { "partition" } else { "disk" };
    print(
        out,
        format_args!(
            "MAJOR={}\nMINOR={}\nDEVNAME={}\nDEVTYPE={kind}\nDISKSEQ={}\n",
            dev.major,
            dev.minor,
            device.name(),
            device.disk().sequence()
        ),
    )?;
    if let Some(number) = device.partition() {
        print(out, format_args!("PARTN={number}\n"))?;
    }
    match device.label() {
        "" => Ok(()),
        label => print(out, format_args!("PARTNAME={label}\n")),
    }
}

fn stat(out: &mut Text, totals: &Totals) -> Result<()> {
    for (index, number) in totals.numbers().iter().enumerate() {
        print(out, format_args!("{}{number:8}", if index > 0 { " " } else { "" }))?;
    }
    out.push(b"\n");
    Ok(())
}

/// What is written to a file that takes a number.
pub(super) fn parse(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Errno::EINVAL)
}
