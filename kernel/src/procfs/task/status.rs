//! `status`: `proc_pid_status(5)`, every line in Linux's order.

use core::fmt::{self, Write};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::cpu::CpuMask;
use kernfs::Text;
use mm::AddressSpace;

use super::View;
use super::stat::{code_pages, comm_of, signals_of, state_letter};
use crate::process::thread::flags;
use crate::process::{Process, Resource};
use crate::procfs::numbers::{write_list, write_mask};

fn io(result: fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

const fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "R (running)",
        'S' => "S (sleeping)",
        'D' => "D (disk sleep)",
        'T' => "T (stopped)",
        't' => "t (tracing stop)",
        'X' => "X (dead)",
        'Z' => "Z (zombie)",
        'P' => "P (parked)",
        _ => "I (idle)",
    }
}

/// Writes a name with white space and backslashes escaped.
pub(super) fn escape(out: &mut Text, name: &[u8]) {
    for &byte in name {
        match byte {
            b'\n' => out.push(b"\\n"),
            b'\\' => out.push(b"\\\\"),
            _ => out.push(&[byte]),
        }
    }
}

/// `status`.
pub(super) fn status(view: &View<'_>, out: &mut Text) -> Result<()> {
    let process = view.process()?;
    let (comm, len) = comm_of(view, &process);
    out.push(b"Name:\t");
    escape(out, comm.get(..len).unwrap_or_default());
    out.push(b"\n");
    identity(view, &process, out)?;
    let mm = view.with_thread(|_, thread| thread.mm()).ok().flatten();
    if let Some(mm) = &mm {
        io(memory(mm, out))?;
        let dumping = process.sig.lock().dump.is_some();
        out.push(if dumping { b"CoreDumping:\t1\n" } else { b"CoreDumping:\t0\n" });
        out.push(b"THP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n");
    }
    signal_lines(view, &process, out)?;
    capability_lines(view, out)?;
    security_lines(view, out)?;
    placement_lines(view, out)
}

fn identity(view: &View<'_>, process: &Process, out: &mut Text) -> Result<()> {
    let ns = &view.ns;
    let pid = &view.subject.pid;
    let umask = view.with_thread(|_, thread| thread.fs().map(|fs| fs.umask())).ok().flatten();
    if let Some(umask) = umask {
        io(writeln!(out, "Umask:\t{umask:04o}"))?;
    }
    let cred = view.with_thread(|_, thread| thread.cred()).unwrap_or_else(|_| crate::process::init_cred());
    let user_ns = view.cred.user_ns.clone();
    let uid = |uid| user_ns.from_uid(uid);
    let gid = |gid| user_ns.from_gid(gid);
    io(write!(
        out,
        "State:\t{}\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t{}\nUid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\n",
        state_name(state_letter(view, process)),
        process.id_in(ns),
        pid.nr_in(ns),
        process.parent().map_or(0, |parent| parent.id_in(ns)),
        view.with_thread(|_, thread| thread.trace.tracer_id(ns)).unwrap_or(0),
        uid(cred.uid),
        uid(cred.euid),
        uid(cred.suid),
        uid(cred.fsuid),
        gid(cred.gid),
        gid(cred.egid),
        gid(cred.sgid),
        gid(cred.fsgid),
    ))?;
    let slots = view.with_thread(|_, thread| thread.files().map_or(0, |files| files.size())).unwrap_or(0);
    io(write!(out, "FDSize:\t{slots}\nGroups:\t"))?;
    for (index, group) in cred.groups.iter().enumerate() {
        io(write!(out, "{}{}", if index > 0 { " " } else { "" }, gid(*group)))?;
    }
    // The blank at the end is Linux's, and parsers have come to know it.
    out.push(b" \n");
    let numbers = |out: &mut Text, name: &str, pid: Option<&crate::process::Pid>| -> Result<()> {
        out.push(name.as_bytes());
        for number in pid.into_iter().flat_map(|pid| pid.numbers_from(ns)) {
            io(write!(out, "\t{number}"))?;
        }
        out.push(b"\n");
        Ok(())
    };
    numbers(out, "NStgid:", Some(&process.pid))?;
    numbers(out, "NSpid:", Some(pid))?;
    numbers(out, "NSpgid:", process.pgrp().as_deref())?;
    numbers(out, "NSsid:", process.session().as_deref())?;
    let kthread = view.with_thread(|_, thread| thread.has(flags::KTHREAD)).unwrap_or(false);
    io(writeln!(out, "Kthread:\t{}", u8::from(kthread)))
}

fn memory(mm: &AddressSpace, out: &mut Text) -> fmt::Result {
    let counters = mm.counters();
    let kib = |pages: usize| pages * (PAGE_SIZE / 1024);
    let text = kib(code_pages(mm));
    let lib = kib(counters.exec_vm()).saturating_sub(text);
    let rows = [
        ("VmPeak", kib(counters.hiwater_vm())),
        ("VmSize", kib(counters.total_vm())),
        ("VmLck", kib(counters.locked_vm())),
        ("VmPin", 0),
        ("VmHWM", kib(counters.hiwater_rss())),
        ("VmRSS", kib(counters.rss())),
        ("RssAnon", kib(counters.anon())),
        ("RssFile", kib(counters.file())),
        ("RssShmem", kib(counters.shmem())),
        ("VmData", kib(counters.data_vm())),
        ("VmStk", kib(counters.stack_vm())),
        ("VmExe", text),
        ("VmLib", lib),
        ("VmPTE", mm.pgtables_bytes() / 1024),
        ("VmSwap", kib(counters.swap())),
        ("HugetlbPages", 0),
    ];
    rows.iter().try_for_each(|(name, value)| writeln!(out, "{name}:\t{value:8} kB"))
}

fn signal_lines(view: &View<'_>, process: &Process, out: &mut Text) -> Result<()> {
    let signals = signals_of(view, process);
    let limit = process.limits.cur(Resource::Sigpending);
    io(write!(
        out,
        "Threads:\t{}\nSigQ:\t{}/{limit}\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n",
        signals.threads,
        signals.queued,
        signals.pending.0,
        signals.shared.0,
        signals.blocked.0,
        signals.ignored.0,
        signals.caught.0,
    ))
}

fn capability_lines(view: &View<'_>, out: &mut Text) -> Result<()> {
    let cred = view.with_thread(|_, thread| thread.cred()).unwrap_or_else(|_| crate::process::init_cred());
    let sets = [
        ("CapInh", cred.cap_inheritable),
        ("CapPrm", cred.cap_permitted),
        ("CapEff", cred.cap_effective),
        ("CapBnd", cred.cap_bset),
        ("CapAmb", cred.cap_ambient),
    ];
    sets.iter().try_for_each(|(name, set)| io(writeln!(out, "{name}:\t{:016x}", set.0)))
}

fn security_lines(view: &View<'_>, out: &mut Text) -> Result<()> {
    let locked = view.with_thread(|_, thread| thread.has(flags::NO_NEW_PRIVS)).unwrap_or(false);
    let (mode, filters) =
        view.with_thread(|_, thread| (thread.seccomp.mode(), thread.seccomp.count())).unwrap_or_default();
    io(write!(
        out,
        "NoNewPrivs:\t{}\nSeccomp:\t{mode}\nSeccomp_filters:\t{filters}\nSpeculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\talways enabled\n",
        u8::from(locked)
    ))
}

fn placement_lines(view: &View<'_>, out: &mut Text) -> Result<()> {
    let task = view.task().ok();
    let cpus = task.as_ref().map_or(arch::cpu::possible(), |task| task.affinity()).and(arch::cpu::possible());
    out.push(b"Cpus_allowed:\t");
    io(write_mask(out, cpus, arch::cpu::possible()))?;
    out.push(b"\nCpus_allowed_list:\t");
    io(write_list(out, cpus))?;
    let nodes = CpuMask::first_n(1);
    out.push(b"\nMems_allowed:\t");
    // As wide as on Linux, whose kernels are built for 1024 nodes.
    for _ in 1..1024 / 32 {
        out.push(b"00000000,");
    }
    io(write_mask(out, nodes, CpuMask::first_n(32)))?;
    out.push(b"\nMems_allowed_list:\t");
    io(write_list(out, nodes))?;
    let (voluntary, involuntary) = task.as_ref().map_or((0, 0), |task| task.context_switches());
    io(write!(out, "\nvoluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n"))
}
