//! `/proc/sysvipc/{msg,sem,shm}`: the objects of the opener's namespace, a line each. `proc_sysvipc(5)`, `sysvipc(7)`.

use super::ids::{Ids, Object};
use super::{IpcNamespace, current_ns};
use crate::process::{PidNamespace, current};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use core::fmt::{self, Write};
use kernfs::{Context, Entry, Node, Show, StaticDir, Text, next_ino};
use mm::fallible::try_arc;

/// One of the files, bound to who opened it.
struct Listing {
    ns: Arc<IpcNamespace>,
    pid_ns: Arc<PidNamespace>,
    show: fn(&Self, &Context<'_>, &mut Text) -> fmt::Result,
}

impl Show for Listing {
    fn show(&self, cx: &Context<'_>, out: &mut Text) -> Result<()> {
        (self.show)(self, cx, out).map_err(|_| Errno::ENOMEM)
    }
}

/// Calls `line` for each object.
fn each<T: Object>(ids: &Ids<T>, mut line: impl FnMut(&T) -> fmt::Result) -> fmt::Result {
    let index = ids.read();
    let mut result = Ok(());
    ids.for_each(&index, |object| {
        result = line(object);
        result.is_ok()
    });
    result
}

/// The first columns.
fn identity(object: &impl Object, out: &mut Text) -> fmt::Result {
    let perm = object.perm();
    write!(out, "{:10} {:10}  {:4o} ", perm.key(), perm.id(), perm.mode())
}

/// Owner, its group, creator, its group.
fn owners(object: &impl Object, cx: &Context<'_>, out: &mut Text) -> fmt::Result {
    let [uid, gid, cuid, cgid] = object.perm().ids_in(&cx.cred.user_ns);
    write!(out, "{uid:5} {gid:5} {cuid:5} {cgid:5} ")
}

fn msg(list: &Listing, cx: &Context<'_>, out: &mut Text) -> fmt::Result {
    out.write_str(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    )?;
    each(&list.ns.msg, |queue| {
        let (numbers, times) = {
            let state = queue.lock();
            let pids = (state.lspid.nr_in(&list.pid_ns), state.lrpid.nr_in(&list.pid_ns));
            ((state.cbytes, state.messages.len(), pids), (state.stime, state.rtime, state.ctime))
        };
        let (bytes, count, (lspid, lrpid)) = numbers;
        identity(queue, out)?;
        write!(out, " {bytes:10} {count:10} {lspid:5} {lrpid:5} ")?;
        owners(queue, cx, out)?;
        writeln!(out, "{:10} {:10} {:10}", times.0, times.1, times.2)
    })
}

fn sem(list: &Listing, cx: &Context<'_>, out: &mut Text) -> fmt::Result {
    out.write_str("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n")?;
    each(&list.ns.sem, |set| {
        let (otime, ctime) = {
            let state = set.lock();
            (state.otime, state.ctime)
        };
        identity(set, out)?;
        write!(out, "{:10} ", set.len())?;
        owners(set, cx, out)?;
        writeln!(out, "{otime:10} {ctime:10}")
    })
}

fn shm(list: &Listing, cx: &Context<'_>, out: &mut Text) -> fmt::Result {
    out.write_str(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
    )?;
    each(&list.ns.shm, |segment| {
        let resident = segment.resident_pages() * PAGE_SIZE;
        let (attached, pids, times) = {
            let state = segment.lock();
            let pids = (state.cpid.nr_in(&list.pid_ns), state.lpid.nr_in(&list.pid_ns));
            (state.attached, pids, (state.atime, state.dtime, state.ctime))
        };
        identity(segment, out)?;
        write!(out, "{:21} {:5} {:5}  {attached:5} ", segment.size(), pids.0, pids.1)?;
        owners(segment, cx, out)?;
        writeln!(out, "{:10} {:10} {:10} {resident:21} {:21}", times.0, times.1, times.2, 0)
    })
}

/// Declares the files in `/proc/sysvipc`.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub fn init(dir: &StaticDir) {
    type ShowFn = fn(&Listing, &Context<'_>, &mut Text) -> fmt::Result;
    let files: [(&str, ShowFn); 3] = [("msg", msg), ("sem", sem), ("shm", shm)];
    for (name, show) in files {
        let open = move |_: &Context<'_>, _: &mut vfs::file::OpenFile<'_>| {
            let listing = Listing { ns: current_ns()?, pid_ns: current().pid_ns(), show };
            kernfs::open_text(try_arc(listing)?)
        };
        dir.add_entry(name, Entry::new(Node::Custom(Arc::new(open)), next_ino(), 0o444));
    }
}
