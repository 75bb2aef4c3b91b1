//! The system as a whole: `/proc/stat`, `/proc/uptime`, `/proc/version`, `/proc/cpuinfo`, ….

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use abi::time::USER_HZ;
use abi::{Errno, Result};
use arch::cpu::CpuId;
use kernfs::{Attr, Text, attr};
use sched::cputime::{CPU_TIMES, CpuState};
use sched::softirq;

use super::top;
use crate::time::clock::namespace_boottime_ns;

const FILES: &[Attr] = &[
    attr("cmdline", |out| text(writeln!(out, "{}", crate::init::command_line()))),
    attr("cpuinfo", |out| {
        text(arch::cpu::online().iter().try_for_each(|cpu| arch::cpu::write_cpuinfo(out, cpu)))
    }),
    attr("filesystems", show_filesystems),
    attr("loadavg", show_loadavg),
    attr("stat", show_stat),
    attr("uptime", show_uptime),
    attr("version", |out| text(writeln!(out, "{}", crate::version::banner()))),
    attr("partitions", |out| {
        out.push(b"major minor  #blocks  name\n\n");
        Ok(())
    }),
    attr("diskstats", |_| Ok(())),
    attr("modules", |_| Ok(())),
    crate::sysrq::TRIGGER,
    attr("softirqs", |out| text(show_softirqs(out))),
    attr("execdomains", |out| text(writeln!(out, "0-0\tLinux           \t[kernel]"))),
];

/// Declares the files.
pub(super) fn init() {
    top().add_attrs(FILES);
    top().mkdir("fs");
    crate::ipc::show::init(&top().mkdir("sysvipc"));
    top().mkdir("bus");
    top().mkdir("irq");
}

/// Declares the files of drivers, when these have looked for their devices.
pub(super) fn init_drivers() {
    let driver = top().mkdir("driver");
    if drivers::rtc::name().is_some() {
        driver.add_attrs(RTC);
    }
}

fn text(result: fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

/// Nanoseconds in the units of `/proc/stat`.
fn ticks(ns: u64) -> u64 {
    ns / (1_000_000_000 / USER_HZ)
}

fn show_filesystems(out: &mut Text) -> Result<()> {
    for fs in vfs::fs_type::filesystems()? {
        let device = fs.flags().contains(vfs::fs_type::FsFlags::REQUIRES_DEV);
        text(writeln!(out, "{}\t{}", if device { "" } else { "nodev" }, fs.name()))?;
    }
    Ok(())
}

fn show_uptime(out: &mut Text) -> Result<()> {
    let up = namespace_boottime_ns() / 10_000_000;
    let idle: u64 = arch::cpu::online()
        .iter()
        .map(|cpu| CPU_TIMES.get(cpu.0 as usize).map_or(0, |times| times.get(CpuState::Idle)))
        .sum();
    let idle = idle / 10_000_000;
    text(writeln!(out, "{}.{:02} {}.{:02}", up / 100, up % 100, idle / 100, idle % 100))
}

fn show_loadavg(out: &mut Text) -> Result<()> {
    for load in sched::loadavg::averages() {
        // Fixed point with 11 fractional bits, rounded to hundredths as Linux does.
        let rounded = load + (1 << 11) / 200;
        text(write!(out, "{}.{:02} ", rounded >> 11, ((rounded & 0x7ff) * 100) >> 11))?;
    }
    let ns = crate::process::current().pid_ns();
    let (running, _) = sched::loadavg::active();
    let total = crate::fork::THREADS.load(Ordering::Relaxed);
    text(writeln!(out, "{running}/{total} {}", ns.last()))
}

fn show_stat(out: &mut Text) -> Result<()> {
    let cpus = || arch::cpu::online().iter();
    let mut sum = [0u64; 8];
    for cpu in cpus() {
        sum.iter_mut().zip(columns(cpu)).for_each(|(sum, value)| *sum += value);
    }
    row(out, format_args!("cpu "), &sum)?;
    for cpu in cpus() {
        row(out, format_args!("cpu{}", cpu.0), &columns(cpu))?;
    }
    text(write!(out, "intr {}", drivers::irq::total()))?;
    text(drivers::irq::show_counts(out))?;
    out.push(b"\n");
    text(writeln!(out, "ctxt {}", sched::cputime::total_switches()))?;
    let boot = sched::time::realtime_ns().saturating_sub(namespace_boottime_ns()) / 1_000_000_000;
    text(writeln!(out, "btime {boot}"))?;
    text(writeln!(out, "processes {}", crate::fork::TOTAL_FORKS.load(Ordering::Relaxed)))?;
    let (running, blocked) = sched::loadavg::active();
    text(writeln!(out, "procs_running {running}\nprocs_blocked {blocked}"))?;
    let on_all = |kind| -> u64 { arch::cpu::possible().iter().map(|cpu| softirq::done(cpu, kind)).sum() };
    let total: u64 = softirq::Kind::ALL.iter().map(|(kind, _)| on_all(*kind)).sum();
    text(write!(out, "softirq {total}"))?;
    for (kind, _) in softirq::Kind::ALL {
        text(write!(out, " {}", on_all(kind)))?;
    }
    text(writeln!(out))
}

/// user, nice, system, idle, iowait, irq, softirq, steal.
fn columns(cpu: CpuId) -> [u64; 8] {
    const ORDER: [CpuState; 8] = [
        CpuState::User,
        CpuState::Nice,
        CpuState::System,
        CpuState::Idle,
        CpuState::IoWait,
        CpuState::Irq,
        CpuState::SoftIrq,
        CpuState::Steal,
    ];
    let Some(times) = CPU_TIMES.get(cpu.0 as usize) else { return [0; 8] };
    ORDER.map(|state| ticks(times.get(state)))
}

fn row(out: &mut Text, name: fmt::Arguments<'_>, columns: &[u64; 8]) -> Result<()> {
    text(write!(out, "{name}"))?;
    for value in columns {
        text(write!(out, " {value}"))?;
    }
    out.push(b" 0 0\n");
    Ok(())
}

const RTC: &[Attr] = &[attr("rtc", show_rtc)];

fn show_rtc(out: &mut Text) -> Result<()> {
    let date = drivers::rtc::Date::of(drivers::rtc::read()?);
    text(writeln!(out, "rtc_time\t: {:02}:{:02}:{:02}", date.hour, date.minute, date.second))?;
    text(writeln!(out, "rtc_date\t: {:04}-{:02}-{:02}", date.year, date.month, date.day))?;
    text(writeln!(out, "24hr\t\t: yes"))
}

fn show_softirqs(out: &mut Text) -> fmt::Result {
    write!(out, "                    ")?;
    for cpu in arch::cpu::possible().iter() {
        write!(out, "CPU{:<8}", cpu.0)?;
    }
    writeln!(out)?;
    for (kind, name) in softirq::Kind::ALL {
        write!(out, "{name:>12}:")?;
        for cpu in arch::cpu::possible().iter() {
            write!(out, " {:10}", softirq::done(cpu, kind))?;
        }
        writeln!(out)?;
    }
    Ok(())
}
