//! The files of `/proc/sys/kernel`.

use super::{ENABLED, PANIC_ON_RCU_STALL, SOFT, SOFTLOCKUP_PANIC, THRESH, hung_task};
use crate::procfs::sysctl::parse;
use abi::{Errno, Result};
use arch::cpu::{CpuId, CpuMask};
use core::fmt::{Display, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use kernfs::{Attr, Text, attr};

fn line(out: &mut Text, value: impl Display) -> Result<()> {
    writeln!(out, "{value}").map_err(|_| Errno::ENOMEM)
}

fn show_flag(out: &mut Text, flag: &AtomicBool) -> Result<()> {
    line(out, u8::from(flag.load(Ordering::Relaxed)))
}

macro_rules! flag {
    ($name:literal, $variable:expr) => {
        attr($name, |out| show_flag(out, &$variable)).writable(|data| {
            $variable.store(parse(data, 0..=1)? != 0, Ordering::Relaxed);
            Ok(())
        })
    };
}

/// A number of `khungtaskd`.
macro_rules! hung {
    ($name:literal, $variable:ident, $range:expr) => {
        attr($name, |out| line(out, hung_task::$variable.load(Ordering::Relaxed))).writable(|data| {
            hung_task::$variable.store(parse(data, $range)?, Ordering::Relaxed);
            hung_task::changed();
            Ok(())
        })
    };
}

/// So many seconds can be counted in ticks.
const MOST_SECONDS: u64 = i64::MAX as u64 / 250;

/// A switch; both files show whether anything is watched.
macro_rules! switch {
    ($name:literal, $variable:ident) => {
        attr($name, |out| line(out, u8::from(super::is_on()))).writable(|data| {
            super::set(&$variable, parse(data, 0..=1)? != 0);
            Ok(())
        })
    };
}

/// The files.
pub const FILES: &[Attr] = &[
    switch!("watchdog", ENABLED),
    switch!("soft_watchdog", SOFT),
    attr("watchdog_thresh", |out| line(out, THRESH.load(Ordering::Relaxed)))
        .writable(|data| super::set_thresh(parse(data, 0..=60)?)),
    attr("watchdog_cpumask", |out| show_cpus(out, sched::lockup::WATCHED.load(Ordering::Relaxed))).writable(
        |data| {
            let cpus = parse_cpus(data)?;
            sched::lockup::WATCHED.store(cpus, Ordering::Relaxed);
            Ok(())
        },
    ),
    flag!("softlockup_panic", SOFTLOCKUP_PANIC),
    flag!("panic_on_rcu_stall", PANIC_ON_RCU_STALL),
    flag!("hung_task_panic", hung_task::PANIC),
    hung!("hung_task_check_count", CHECK_COUNT, 0..=i32::MAX as u32),
    hung!("hung_task_timeout_secs", TIMEOUT, 0..=MOST_SECONDS),
    hung!("hung_task_check_interval_secs", INTERVAL, 0..=MOST_SECONDS),
    hung!("hung_task_warnings", WARNINGS, -1..=i32::MAX),
];

/// Possible CPUs of a set as ranges: `0-2,5`.
fn show_cpus(out: &mut Text, cpus: CpuMask) -> Result<()> {
    let is_in = |cpu: u32| {
        let id = CpuId(cpu);
        id.index() < arch::cpu::MAX_CPUS && arch::cpu::possible().contains(id) && cpus.contains(id)
    };
    let most = arch::cpu::MAX_CPUS as u32;
    let (mut cpu, mut comma) = (0, "");
    while cpu < most {
        if !is_in(cpu) {
            cpu += 1;
            continue;
        }
        let end = (cpu..most).take_while(|other| is_in(*other)).last().unwrap_or(cpu);
        let written =
            if end == cpu { write!(out, "{comma}{cpu}") } else { write!(out, "{comma}{cpu}-{end}") };
        written.map_err(|_| Errno::ENOMEM)?;
        (cpu, comma) = (end + 1, ",");
    }
    line(out, "")
}

/// A list of CPUs; those that cannot be there do not count.
fn parse_cpus(data: &[u8]) -> Result<CpuMask> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim_matches(['\n', '\0', ' ']);
    let number = |text: &str| text.parse::<u32>().map_err(|_| Errno::EINVAL);
    let mut cpus = CpuMask::EMPTY;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(from)?, number(to)?);
        if from > to || to as usize >= arch::cpu::MAX_CPUS {
            return Err(Errno::EINVAL);
        }
        (from..=to).for_each(|cpu| cpus.set(CpuId(cpu)));
    }
    Ok(CpuMask::from_bits(cpus.bits() & arch::cpu::possible().bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpus(b"0-1,3\n").unwrap().bits(), 0b1011);
        assert_eq!(parse_cpus(b"\n").unwrap().bits(), 0);
        for wrong in [&b"x"[..], b"3-1", b"1-", b"99999"] {
            assert_eq!(parse_cpus(wrong).err(), Some(Errno::EINVAL));
        }
        let mut out = Text::new();
        show_cpus(&mut out, parse_cpus(b"0-1,3").unwrap()).unwrap();
        assert_eq!(out.as_bytes(), b"0-1,3\n");
    }
}
