//! Small files, most of which can be written: `comm`, `limits`, `oom_*`, `coredump_filter`, `timerslack_ns`, the id
//! maps of a user namespace, and constants.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::process::Rlimit;
use abi::{Errno, Result};
use kernfs::Text;
use vfs::cred::{Credentials, IdExtent, IdMap, UserNamespace};

use super::stat::comm_of;
use super::{Scope, View};
use crate::process::{Resource, Thread, current};
use crate::procfs::sysctl::parse;
use mm::fallible::{TryVec, try_to_vec};
use mm::pagemap::Refs;

fn io_result(result: fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

fn line(out: &mut Text, value: impl fmt::Display) -> Result<()> {
    io_result(writeln!(out, "{value}"))
}

/// For files that can only be written.
pub(super) fn write_only(_: &View<'_>, _: &mut Text) -> Result<()> {
    Err(Errno::EINVAL)
}

/// `comm`.
pub(super) fn comm(view: &View<'_>, out: &mut Text) -> Result<()> {
    let process = view.process()?;
    let (comm, len) = comm_of(view, &process);
    out.push(comm.get(..len).unwrap_or_default());
    out.push(b"\n");
    Ok(())
}

/// Renames a thread; only threads of the same process may.
pub(super) fn comm_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    view.with_thread(|task, thread| {
        if !Arc::ptr_eq(&thread.process, &current().process) {
            return Err(Errno::EINVAL);
        }
        // The name is what is written, its newline included if there is one: `echo` leaves none thanks to the shells.
        task.set_comm(data);
        Ok(())
    })?
}

/// `personality`.
pub(super) fn personality(view: &View<'_>, out: &mut Text) -> Result<()> {
    let value = view.with_thread(|_, thread| thread.personality.load(Ordering::Relaxed))?;
    io_result(writeln!(out, "{value:08x}"))
}

/// `limits`.
pub(super) fn limits(view: &View<'_>, out: &mut Text) -> Result<()> {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let process = view.process()?;
    let value = |out: &mut Text, value: u64| match value {
        Rlimit::INFINITY => write!(out, "{:<20} ", "unlimited"),
        value => write!(out, "{value:<20} "),
    };
    io_result(writeln!(out, "{:<25} {:<20} {:<20} {:<10}", "Limit", "Soft Limit", "Hard Limit", "Units"))?;
    for (resource, (name, unit)) in Resource::ALL.iter().zip(NAMES) {
        let limit = process.limits.get(*resource);
        io_result(write!(out, "{name:<25} "))?;
        io_result(value(out, limit.cur))?;
        io_result(value(out, limit.max))?;
        io_result(if unit.is_empty() { writeln!(out) } else { writeln!(out, "{unit:<10}") })?;
    }
    Ok(())
}

/// `clear_refs`: 1 to 4 clear marks of pages, 5 resets the peak of the resident set.
pub(super) fn clear_refs(view: &View<'_>, data: &[u8]) -> Result<()> {
    let kind = parse(data, 1..=5)?;
    let Some(mm) = view.with_thread(|_, thread| thread.mm())? else { return Ok(()) };
    match kind {
        1 => mm.clear_refs(Refs::All),
        2 => mm.clear_refs(Refs::Anonymous),
        3 => mm.clear_refs(Refs::Mapped),
        4 => mm.clear_refs(Refs::SoftDirty),
        _ => mm.counters().reset_hiwater_rss(),
    }
    Ok(())
}

/// `cpuset`: everybody is in the root group.
pub(super) fn cpuset(view: &View<'_>, out: &mut Text) -> Result<()> {
    view.process()?;
    line(out, "/")
}

/// `cgroup`: the one hierarchy, at its root.
pub(super) fn cgroup(view: &View<'_>, out: &mut Text) -> Result<()> {
    view.process()?;
    line(out, "0::/")
}

/// `io`: proc_pid_io(5).
pub(super) fn io(view: &View<'_>, out: &mut Text) -> Result<()> {
    let io = match view.subject.scope {
        Scope::Process => view.process()?.usage().io,
        Scope::Thread => view.with_thread(|_, thread| thread.io.get())?,
    };
    let rows = [
        ("rchar", io.rchar),
        ("wchar", io.wchar),
        ("syscr", io.syscr),
        ("syscw", io.syscw),
        ("read_bytes", io.read_bytes),
        ("write_bytes", io.write_bytes),
        ("cancelled_write_bytes", io.cancelled_write_bytes),
    ];
    rows.iter().try_for_each(|(name, value)| io_result(writeln!(out, "{name}: {value}")))
}

/// `oom_score`.
pub(super) fn oom_score(view: &View<'_>, out: &mut Text) -> Result<()> {
    let process = view.process()?;
    let adj = process.oom_score_adj.load(Ordering::Relaxed);
    let mm = view.with_thread(|_, thread| thread.mm()).ok().flatten();
    line(out, mm.map_or(0, |mm| mm::oom::score(&mm, adj.into())))
}

/// `oom_score_adj`.
pub(super) fn oom_score_adj(view: &View<'_>, out: &mut Text) -> Result<()> {
    line(out, view.process()?.oom_score_adj.load(Ordering::Relaxed))
}

fn set_oom_adj(view: &View<'_>, adj: i16) -> Result<()> {
    let process = view.process()?;
    let admin = current().with_cred(|cred| cred.capable(Cap::SysResource));
    let least = process.oom_score_adj_min.load(Ordering::Relaxed);
    if adj < least && !admin {
        return Err(Errno::EACCES);
    }
    process.oom_score_adj.store(adj, Ordering::Relaxed);
    if admin {
        process.oom_score_adj_min.store(adj, Ordering::Relaxed);
    }
    Ok(())
}

/// Sets `oom_score_adj`.
pub(super) fn oom_score_adj_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    set_oom_adj(view, parse(data, -1000..=1000)?)
}

/// `oom_adj`, the old scale from -17 to 15.
pub(super) fn oom_adj(view: &View<'_>, out: &mut Text) -> Result<()> {
    let adj = i32::from(view.process()?.oom_score_adj.load(Ordering::Relaxed));
    line(out, if adj == 1000 { 15 } else { adj * 17 / 1000 })
}

/// Sets `oom_score_adj` on the old scale.
pub(super) fn oom_adj_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    let old: i32 = parse(data, -17..=15)?;
    set_oom_adj(view, if old == 15 { 1000 } else { (old * 1000 / 17) as i16 })
}

/// `coredump_filter`.
pub(super) fn coredump_filter(view: &View<'_>, out: &mut Text) -> Result<()> {
    let process = view.process()?;
    io_result(writeln!(out, "{:08x}", process.coredump_filter.load(Ordering::Relaxed)))
}

/// Sets the nine bits of `core(5)`.
pub(super) fn coredump_filter_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim();
    let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let value = value.map_err(|_| Errno::EINVAL)?;
    view.process()?.coredump_filter.store(value & 0x1ff, Ordering::Relaxed);
    Ok(())
}

fn may_set_slack(thread: &Thread) -> Result<()> {
    let me = current();
    let own = Arc::ptr_eq(&me.process, &thread.process);
    if own || me.with_cred(|cred| cred.capable(Cap::SysNice)) { Ok(()) } else { Err(Errno::EPERM) }
}

/// `timerslack_ns`.
pub(super) fn timerslack(view: &View<'_>, out: &mut Text) -> Result<()> {
    let value = view.with_thread(|_, thread| {
        may_set_slack(thread).map(|()| thread.timer_slack_ns.load(Ordering::Relaxed))
    })??;
    line(out, value)
}

/// Sets `timerslack_ns`; 0 is the default.
pub(super) fn timerslack_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    let wanted: u64 = parse(data, 0..=u64::MAX)?;
    view.with_thread(|_, thread| {
        may_set_slack(thread)?;
        let default = thread.default_timer_slack_ns.load(Ordering::Relaxed);
        thread.timer_slack_ns.store(if wanted == 0 { default } else { wanted }, Ordering::Relaxed);
        Ok(())
    })?
}

fn user_ns_of(view: &View<'_>) -> Result<Arc<UserNamespace>> {
    view.with_thread(|_, thread| thread.cred().user_ns.clone())
}

/// Which of the two maps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids {
    Users,
    Groups,
}

fn show_map(view: &View<'_>, ids: Ids, out: &mut Text) -> Result<()> {
    let ns = user_ns_of(view)?;
    // The lower ids are shown as the reader's namespace sees them; its own map as its parent sees it.
    let mut seer = view.cred.user_ns.clone();
    if Arc::ptr_eq(&seer, &ns)
        && let Some(parent) = &ns.parent
    {
        seer = parent.clone();
    }
    let map = if ids == Ids::Users { &ns.uid_map } else { &ns.gid_map };
    let extents = try_to_vec(map.lock().extents())?;
    for extent in extents {
        let lower = match (seer.is_initial(), ids) {
            (true, _) => extent.lower_first,
            (false, Ids::Users) => seer.from_uid(abi::creds::Uid(extent.lower_first)),
            (false, Ids::Groups) => seer.from_gid(abi::creds::Gid(extent.lower_first)),
        };
        io_result(writeln!(out, "{:10} {lower:10} {:10}", extent.first, extent.count))?;
    }
    Ok(())
}

/// Lines of `first lower count`, none overlapping another: `user_namespaces(7)`.
fn parse_map(data: &[u8]) -> Result<Vec<IdExtent>> {
    /// Most lines of a map.
    const LINES: usize = 340;
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let mut extents: Vec<IdExtent> = Vec::new();
    for row in text.lines().filter(|row| !row.trim().is_empty()) {
        let mut words = row.split_ascii_whitespace();
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or(Errno::EINVAL);
        let extent = IdExtent { first: number()?, lower_first: number()?, count: number()? };
        let ends = |start: u32| start.checked_add(extent.count).is_some() && start != u32::MAX;
        if words.next().is_some() || extent.count == 0 || !ends(extent.first) || !ends(extent.lower_first) {
            return Err(Errno::EINVAL);
        }
        let apart = |a: u32, b: u32, other: u32| a + extent.count <= b || b + other <= a;
        let free = |old: &IdExtent| {
            apart(extent.first, old.first, old.count) && apart(extent.lower_first, old.lower_first, old.count)
        };
        if extents.len() >= LINES || !extents.iter().all(free) {
            return Err(Errno::EINVAL);
        }
        extents.try_push(extent)?;
    }
    if extents.is_empty() { Err(Errno::EINVAL) } else { Ok(extents) }
}

/// Whether `cred`, the opener of the file, may give `ns` this map: user_namespaces(7), "Defining user and group ID mappings".
fn may_map(
    cred: &Credentials,
    ns: &Arc<UserNamespace>,
    parent: &Arc<UserNamespace>,
    ids: Ids,
    map: &[IdExtent],
) -> bool {
    // The parent's root could give files capabilities that hold in the parent.
    if ids == Ids::Users && map.iter().any(|extent| extent.lower_first == 0) {
        let may = match Arc::ptr_eq(&cred.user_ns, ns) {
            true => ns.parent_could_setfcap,
            false => cred.ns_capable(parent, Cap::Setfcap),
        };
        if !may {
            return false;
        }
    }
    // One id, the opener's own.
    if let [only] = map
        && only.count == 1
        && cred.euid == ns.owner
    {
        match ids {
            Ids::Users if parent.make_uid(only.lower_first) == Some(cred.euid) => return true,
            Ids::Groups
                if parent.make_gid(only.lower_first) == Some(cred.egid)
                    && ns.setgroups_denied.load(Ordering::Acquire) =>
            {
                return true;
            }
            _ => {}
        }
    }
    let cap = if ids == Ids::Users { Cap::Setuid } else { Cap::Setgid };
    // The writer too: neither may lend the other what it does not have.
    cred.ns_capable(parent, cap) && current().with_cred(|writer| writer.ns_capable(parent, cap))
}

fn store_map(view: &View<'_>, ids: Ids, data: &[u8]) -> Result<()> {
    let ns = user_ns_of(view)?;
    let parent = ns.parent.clone().ok_or(Errno::EPERM)?;
    // What counts is who opened the file: a privileged program can be made to write to it.
    let opener = view.cred;
    if !Arc::ptr_eq(&opener.user_ns, &ns) && !Arc::ptr_eq(&opener.user_ns, &parent) {
        return Err(Errno::EPERM);
    }
    let mut extents = parse_map(data)?;
    if !opener.ns_capable(&ns, Cap::SysAdmin) || !may_map(opener, &ns, &parent, ids, &extents) {
        return Err(Errno::EPERM);
    }
    for extent in &mut extents {
        let last = extent.lower_first.checked_add(extent.count - 1).ok_or(Errno::EINVAL)?;
        let kernel = |id: u32| match ids {
            Ids::Users => parent.make_uid(id).map(|uid| uid.0),
            Ids::Groups => parent.make_gid(id).map(|gid| gid.0),
        };
        let (first, last) =
            (kernel(extent.lower_first).ok_or(Errno::EPERM)?, kernel(last).ok_or(Errno::EPERM)?);
        // The range must be in one piece in the parent too.
        if last.wrapping_sub(first) != extent.count - 1 {
            return Err(Errno::EPERM);
        }
        extent.lower_first = first;
    }
    let map = if ids == Ids::Users { &ns.uid_map } else { &ns.gid_map };
    let mut map = map.lock();
    // A map is written once.
    if !map.extents().is_empty() {
        return Err(Errno::EPERM);
    }
    *map = IdMap::new(extents);
    Ok(())
}

/// `uid_map`.
pub(super) fn uid_map(view: &View<'_>, out: &mut Text) -> Result<()> {
    show_map(view, Ids::Users, out)
}

/// Sets `uid_map`.
pub(super) fn uid_map_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    store_map(view, Ids::Users, data)
}

/// `gid_map`.
pub(super) fn gid_map(view: &View<'_>, out: &mut Text) -> Result<()> {
    show_map(view, Ids::Groups, out)
}

/// Sets `gid_map`.
pub(super) fn gid_map_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    store_map(view, Ids::Groups, data)
}

/// `projid_map`: no file system here has project ids, so they are the same everywhere.
pub(super) fn projid_map(view: &View<'_>, out: &mut Text) -> Result<()> {
    if user_ns_of(view)?.is_initial() {
        io_result(writeln!(out, "{:10} {:10} {:10}", 0, 0, u32::MAX))?;
    }
    Ok(())
}

/// Project ids cannot be mapped.
pub(super) fn projid_map_store(view: &View<'_>, _: &[u8]) -> Result<()> {
    view.process()?;
    Err(Errno::EPERM)
}

/// `setgroups`.
pub(super) fn setgroups(view: &View<'_>, out: &mut Text) -> Result<()> {
    let denied = user_ns_of(view)?.setgroups_denied.load(Ordering::Acquire);
    line(out, if denied { "deny" } else { "allow" })
}

/// Sets `setgroups`: only before the group map, and never back from `deny`.
pub(super) fn setgroups_store(view: &View<'_>, data: &[u8]) -> Result<()> {
    let ns = user_ns_of(view)?;
    if !view.cred.ns_capable(&ns, Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let map = ns.gid_map.lock();
    match data.trim_ascii() {
        b"allow" if !ns.setgroups_denied.load(Ordering::Acquire) => Ok(()),
        b"allow" => Err(Errno::EPERM),
        b"deny" if map.extents().is_empty() => {
            ns.setgroups_denied.store(true, Ordering::Release);
            Ok(())
        }
        b"deny" if ns.setgroups_denied.load(Ordering::Acquire) => Ok(()),
        b"deny" => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines_of_three_numbers_that_do_not_overlap() {
        let map = parse_map(b"0 1000 1\n1 100000 65536\n").unwrap();
        assert_eq!((map.len(), map[1].lower_first, map[1].count), (2, 100_000, 65536));
        for bad in [
            &b""[..],
            b"0 1000",
            b"0 1000 0",
            b"0 1 2 3",
            b"0 1000 10\n5 2000 10",
            b"0 4294967295 1",
            b"a b c",
        ] {
            assert!(parse_map(bad).is_err(), "{bad:?}");
        }
    }
}
