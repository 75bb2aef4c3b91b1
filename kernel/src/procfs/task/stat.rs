//! `stat`, `statm`, `schedstat`, `sched`, `wchan`, `syscall`: `proc_pid_stat(5)` and its neighbours.

use core::fmt::Write;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::time::USER_HZ;
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use kernfs::Text;
use sched::Task;

use super::{Scope, View, access};
use crate::process::Usage;
use crate::process::thread::flags;
use crate::process::{Process, Resource, State, Thread};
use crate::procfs::inside::OneWord;
use crate::signal::SigSet;

/// `PF_*` as `stat` shows them.
mod pf {
    pub const EXITING: u32 = 0x4;
    pub const FORKNOEXEC: u32 = 0x40;
    pub const SUPERPRIV: u32 = 0x100;
    pub const SIGNALED: u32 = 0x400;
    pub const KTHREAD: u32 = 0x0020_0000;
    pub const RANDOMIZE: u32 = 0x0040_0000;
}

fn io(result: core::fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

/// Nanoseconds in clock ticks.
pub(super) fn ticks(ns: u64) -> u64 {
    ns / (1_000_000_000 / USER_HZ)
}

/// The state letter: a thread that has exited but whose process is still listed is a zombie.
pub(super) fn state_letter(view: &View<'_>, process: &Process) -> char {
    // Files of a process are about its leader, who may be gone before the others.
    let no_leader = view.subject.scope == Scope::Process && view.subject.pid.task().is_none();
    match view.task() {
        _ if process.state() != State::Alive || no_leader => 'Z',
        Ok(task) if task.data::<Thread>().is_some_and(|t| t.gone.load(Ordering::Acquire)) => 'Z',
        Ok(task) => task.state().letter(),
        Err(_) => 'Z',
    }
}

/// The name: that of the thread, or the last one of a dead process.
pub(super) fn comm_of(view: &View<'_>, process: &Process) -> ([u8; 16], usize) {
    let comm = match view.task() {
        Ok(task) => *task.comm().padded(),
        Err(_) => *process.last_comm.lock(),
    };
    let len = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    (comm, len)
}

/// Pending, blocked, ignored and caught signals: of the thread, of the process, and what it does with them.
pub(super) struct Signals {
    pub(super) pending: SigSet,
    pub(super) shared: SigSet,
    pub(super) blocked: SigSet,
    pub(super) ignored: SigSet,
    pub(super) caught: SigSet,
    pub(super) queued: u64,
    pub(super) threads: usize,
}

pub(super) fn signals_of(view: &View<'_>, process: &Process) -> Signals {
    let own = view.with_thread(|_, thread| (thread.signals.pending.lock().set(), thread.blocked()));
    let (pending, blocked) = own.unwrap_or((SigSet::EMPTY, SigSet::EMPTY));
    let state = process.sig.lock();
    let (shared, threads) = (state.shared.set(), state.threads.len());
    let sighand = state.sighand.clone();
    drop(state);
    let user = view.with_thread(|_, t| t.charge.lock().as_ref().map(|charge| charge.user().clone()));
    Signals {
        pending,
        shared,
        blocked,
        ignored: sighand.explicitly_ignored(),
        caught: sighand.handled(),
        queued: user.ok().flatten().map_or(0, |user| user.signals.load(Ordering::Relaxed)),
        threads,
    }
}

/// Device number of the terminal as `stat` packs it, and the foreground group.
fn terminal(process: &Process) -> (i64, i32) {
    let Some(tty) = crate::job::terminal_of(process) else {
        return (0, -1);
    };
    let dev = tty.dev();
    let packed = dev.minor & 0xff | dev.major << 8 | (dev.minor & !0xff) << 12;
    (i64::from(packed as i32), tty.foreground().map_or(-1, |group| group.number()))
}

fn kernel_flags(thread: &Thread) -> u32 {
    let pairs = [
        (flags::EXITING, pf::EXITING),
        (flags::FORKNOEXEC, pf::FORKNOEXEC),
        (flags::SUPERPRIV, pf::SUPERPRIV),
        (flags::SIGNALED, pf::SIGNALED),
        (flags::KTHREAD, pf::KTHREAD),
    ];
    let set = pairs.iter().filter(|(ours, _)| thread.has(*ours)).fold(0, |all, (_, theirs)| all | theirs);
    if thread.has(flags::KTHREAD) { set } else { set | pf::RANDOMIZE }
}

fn usage_of(view: &View<'_>, process: &Process, task: Option<&Arc<Task>>) -> Usage {
    match (view.subject.scope, task) {
        (Scope::Thread, Some(task)) => Usage::of(task),
        _ => process.usage(),
    }
}

/// `stat`.
pub(super) fn stat(view: &View<'_>, out: &mut Text) -> Result<()> {
    let process = view.process()?;
    let task = view.task().ok();
    let thread = task.as_ref().and_then(|task| task.data::<Thread>());
    let allowed = thread.is_some_and(access::permitted);
    let mm = thread.and_then(Thread::mm);
    let usage = usage_of(view, &process, task.as_ref());
    let children = process.children_usage();
    let signals = signals_of(view, &process);
    let (tty, foreground) = terminal(&process);
    let ns = &view.ns;
    let ppid = process.parent().map_or(0, |parent| parent.id_in(ns));
    let pgrp = process.pgrp().map_or(0, |pid| pid.nr_in(ns));
    let session = process.session().map_or(0, |pid| pid.nr_in(ns));
    let (comm, len) = comm_of(view, &process);

    io(write!(out, "{} (", view.subject.pid.nr_in(ns)))?;
    out.push(comm.get(..len).unwrap_or_default());
    io(write!(
        out,
        ") {} {ppid} {pgrp} {session} {tty} {foreground} {}",
        state_letter(view, &process),
        thread.map_or(pf::EXITING, kernel_flags),
    ))?;
    io(write!(
        out,
        " {} {} {} {} {} {} {} {}",
        usage.min_flt,
        children.min_flt,
        usage.maj_flt,
        children.maj_flt,
        ticks(usage.utime_ns),
        ticks(usage.stime_ns),
        ticks(children.utime_ns),
        ticks(children.stime_ns),
    ))?;
    let (priority, nice) = task.as_ref().map_or((20, 0), |task| (task.proc_priority(), task.nice()));
    let start = thread.map_or(process.start_ns, |thread| thread.start_ns);
    let start = crate::time::clock::namespace_boottime_of(start);
    let (vsize, rss) = mm
        .as_ref()
        .map_or((0, 0), |mm| (mm.counters().total_vm() as u64 * PAGE_SIZE as u64, mm.counters().rss()));
    let rss_limit = process.limits.cur(Resource::Rss);
    io(write!(out, " {priority} {nice} {} 0 {} {vsize} {rss} {rss_limit}", signals.threads, ticks(start)))?;
    let place = |field: fn(&mm::space::Layout) -> &core::sync::atomic::AtomicUsize| {
        mm.as_ref().filter(|_| allowed).map_or(0, |mm| field(&mm.layout).load(Ordering::Relaxed))
    };
    let code = |field| if mm.is_some() && !allowed { 1 } else { place(field) };
    io(write!(
        out,
        " {} {} {} 0 0",
        code(|l| &l.start_code),
        code(|l| &l.end_code),
        place(|l| &l.start_stack)
    ))?;
    // Only the first 31 signals: the rest is in `status`.
    let low = |set: SigSet| set.0 & 0x7fff_ffff;
    let asleep = task.as_ref().is_some_and(|task| !task.state().is_running() && !task.is_on_cpu());
    io(write!(
        out,
        " {} {} {} {} {} 0 0",
        low(signals.pending),
        low(signals.blocked),
        low(signals.ignored),
        low(signals.caught),
        u8::from(allowed && asleep),
    ))?;
    let exit_signal = match view.subject.scope {
        Scope::Thread if thread.is_some_and(|thread| !thread.is_leader()) => -1,
        _ => process.exit_signal.load(Ordering::Relaxed),
    };
    let attr = task.as_ref().map(|task| task.sched_attr());
    io(write!(
        out,
        " {exit_signal} {} {} {} 0 0 0",
        task.as_ref().map_or(0, |task| task.cpu().0),
        attr.map_or(0, |attr| attr.priority),
        attr.map_or(0, |attr| attr.policy as u32),
    ))?;
    io(write!(
        out,
        " {} {} {} {} {} {} {}",
        place(|l| &l.start_data),
        place(|l| &l.end_data),
        place(|l| &l.start_brk),
        place(|l| &l.arg_start),
        place(|l| &l.arg_end),
        place(|l| &l.env_start),
        place(|l| &l.env_end),
    ))?;
    // A zombie's exit code is for its parent and for those who could trace it; the memory is gone, so ask by user.
    let code = if allowed { process.exit_code.load(Ordering::Relaxed) } else { 0 };
    io(writeln!(out, " {code}"))
}

/// `statm`: sizes in pages.
pub(super) fn statm(view: &View<'_>, out: &mut Text) -> Result<()> {
    let process = view.process()?;
    let Some(mm) = view.with_thread(|_, thread| thread.mm()).ok().flatten() else {
        drop(process);
        out.push(b"0 0 0 0 0 0 0\n");
        return Ok(());
    };
    let counters = mm.counters();
    let text = code_pages(&mm);
    let shared = counters.file() + counters.shmem();
    let data = counters.data_vm() + counters.stack_vm();
    io(writeln!(out, "{} {} {shared} {text} 0 {data} 0", counters.total_vm(), counters.rss()))
}

/// Pages of the program's own code.
pub(super) fn code_pages(mm: &mm::AddressSpace) -> usize {
    let end = mm.layout.end_code.load(Ordering::Relaxed);
    let start = mm.layout.start_code.load(Ordering::Relaxed) & !(PAGE_SIZE - 1);
    end.saturating_sub(start).div_ceil(PAGE_SIZE)
}

/// `schedstat`: time on a CPU, time waiting for one, turns.
pub(super) fn schedstat(view: &View<'_>, out: &mut Text) -> Result<()> {
    let task = view.task()?;
    let (voluntary, involuntary) = task.context_switches();
    io(writeln!(out, "{} 0 {}", task.exec_runtime_ns(), voluntary + involuntary))
}

/// Calls `f` with return addresses of a task that sleeps, innermost first, until it returns false.
fn backtrace(view: &View<'_>, mut f: impl FnMut(usize) -> bool) -> Result<()> {
    let mut addresses = [0; sched::asleep::DEPTH];
    let count = view.task()?.while_asleep(|asleep| asleep.backtrace(&mut addresses)).unwrap_or(0);
    addresses.iter().take(count).copied().take_while(|address| f(*address)).for_each(drop);
    Ok(())
}

/// `wchan`: the function that the task sleeps in, the scheduler's own left out; 0 for one that does not sleep, and for
/// those who may not know.
pub(super) fn wchan(view: &View<'_>, out: &mut Text) -> Result<()> {
    if !view.with_thread(|_, thread| access::permitted(thread))? {
        out.push(b"0");
        return Ok(());
    }
    let mut found = None;
    backtrace(view, |address| {
        found = arch::symbols::lookup(address);
        // Names of crates are the beginnings of the paths.
        let mut name = Text::new();
        let written = found.is_some_and(|symbol| write!(name, "{symbol}").is_ok());
        let name = name.as_bytes();
        written && name.strip_prefix(b"<").unwrap_or(name).starts_with(b"sched::")
    })?;
    match found {
        Some(symbol) => io(write!(OneWord(out), "{symbol}")),
        None => {
            out.push(b"0");
            Ok(())
        }
    }
}

/// `stack`: where in the kernel the task sleeps. Only for those who administer the machine.
pub(super) fn stack(view: &View<'_>, out: &mut Text) -> Result<()> {
    if !view.cred.capable(Cap::SysAdmin) {
        return Err(Errno::EACCES);
    }
    view.with_thread(|_, thread| access::check(thread, access::Mode::Attach))??;
    let mut result = Ok(());
    backtrace(view, |address| {
        result = io(writeln!(out, "[<0>] {}", arch::symbols::At(address)));
        result.is_ok()
    })?;
    result
}

/// `syscall`: number, arguments, stack pointer and program counter of a task that sleeps in a system call; -1 and the
/// last two for one that sleeps elsewhere.
pub(super) fn syscall(view: &View<'_>, out: &mut Text) -> Result<()> {
    view.with_thread(|_, thread| access::check(thread, access::Mode::Attach))??;
    let frame = view.task()?.while_asleep(|asleep| {
        asleep.user_frame().map(|frame| (frame.syscall_nr(), frame.syscall_args(), frame.sp(), frame.ip()))
    });
    match frame {
        None => out.push(b"running\n"),
        Some(None) => io(writeln!(out, "-1 0x0 0x0"))?,
        Some(Some((nr, _, sp, ip))) if nr < 0 => io(writeln!(out, "-1 {sp:#x} {ip:#x}"))?,
        Some(Some((nr, [a, b, c, d, e, f], sp, ip))) => {
            io(writeln!(out, "{nr} {a:#x} {b:#x} {c:#x} {d:#x} {e:#x} {f:#x} {sp:#x} {ip:#x}"))?;
        }
    }
    Ok(())
}

/// `sched`: the scheduler's view.
pub(super) fn sched(view: &View<'_>, out: &mut Text) -> Result<()> {
    let process = view.process()?;
    let task = view.task()?;
    let (comm, len) = comm_of(view, &process);
    out.push(comm.get(..len).unwrap_or_default());
    let threads = process.thread_count();
    io(writeln!(out, " ({}, #threads: {threads})", view.subject.pid.nr_in(&view.ns)))?;
    out.push(b"-------------------------------------------------------------------\n");
    let (voluntary, involuntary) = task.context_switches();
    let runtime = task.exec_runtime_ns();
    let attr = task.sched_attr();
    let millis = |out: &mut Text, name: &str, ns: u64| {
        writeln!(out, "{name:<45}:{:>14}.{:06}", ns / 1_000_000, ns % 1_000_000)
    };
    io(millis(out, "se.exec_start", sched::time::monotonic_ns()))?;
    io(millis(out, "se.sum_exec_runtime", runtime))?;
    let mut number = |name: &str, value: u64| io(writeln!(out, "{name:<45}:{value:>21}"));
    number("nr_switches", voluntary + involuntary)?;
    number("nr_voluntary_switches", voluntary)?;
    number("nr_involuntary_switches", involuntary)?;
    number("policy", attr.policy as u64)?;
    number("prio", (100 + task.proc_priority()).max(0) as u64)
}

/// Writing to `sched` resets its counters; there is nothing to reset here.
pub(super) fn sched_store(view: &View<'_>, _: &[u8]) -> Result<()> {
    view.task().map(drop)
}
