//! `task/`: a directory per thread; `children`.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use kernfs::{Context, Dir, Entry, Listing, Text};
use vfs::types::FileType;

use super::{Class, Scope, Subject, View, directory};
use crate::process::{PidNamespace, Thread, init_pid_ns};
use crate::procfs::Mounted;
use crate::procfs::root::parse_number;
use mm::fallible::{TryVec, try_arc, try_format, try_to_vec};

struct Threads(Subject);

fn ns_of(cx: &Context<'_>) -> Arc<PidNamespace> {
    cx.mounted_for::<Mounted>().map_or_else(init_pid_ns, |mounted| mounted.ns.clone())
}

impl Dir for Threads {
    fn lookup(&self, cx: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        let Some(number) = parse_number(name) else { return Ok(None) };
        let process = self.0.process().map_err(|_| Errno::ENOENT)?;
        let Some(pid) = ns_of(cx).find(number) else { return Ok(None) };
        let inside = pid.task().and_then(|task| Some(Arc::ptr_eq(&task.data::<Thread>()?.process, &process)));
        // The directory of a process that is a zombie still has its leader.
        let leader = Arc::ptr_eq(&pid, &process.pid);
        if inside != Some(true) && !leader {
            return Ok(None);
        }
        let scope = if inside == Some(true) { Scope::Thread } else { Scope::Process };
        directory(Subject { pid, scope }).map(Some)
    }

    fn list(&self, cx: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        let ns = ns_of(cx);
        let process = self.0.process().map_err(|_| Errno::ENOENT)?;
        // Positions are thread numbers: threads start in ascending order but for wrapped ids, and a listing in
        // number order misses none of those that stay.
        let mut list = alloc::vec::Vec::new();
        for task in process.threads() {
            if let Some(thread) = task.data::<Thread>() {
                list.try_push((thread.tid_in(&ns), thread.pid()))?;
            }
        }
        if list.is_empty() {
            list.try_push((process.id_in(&ns), process.pid.clone()))?;
        }
        list.sort_by_key(|(number, _)| *number);
        for (number, pid) in list.into_iter().filter(|(number, _)| *number > 0) {
            let position = number as u64;
            if position < from {
                continue;
            }
            let ino = Subject { pid, scope: Scope::Thread }.ino(Class::File, 0);
            if !emit(try_format(format_args!("{number}"))?.as_bytes(), ino, FileType::Directory, position + 1)
            {
                break;
            }
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn follows_owner(&self) -> bool {
        true
    }

    fn nlink(&self) -> u32 {
        2 + self.0.process().map_or(0, |process| process.thread_count()) as u32
    }
}

/// `task/`.
pub(super) fn dir(subject: &Subject) -> Result<Arc<dyn Dir>> {
    Ok(try_arc(Threads(subject.clone()))?)
}

/// `children`: of the whole process, shown at its leader.
pub(super) fn children(view: &View<'_>, out: &mut Text) -> Result<()> {
    let process = view.process()?;
    if !Arc::ptr_eq(&process.pid, &view.subject.pid) {
        return Ok(());
    }
    let children = try_to_vec(&process.children.lock())?;
    for child in children {
        let id = child.id_in(&view.ns);
        if id != 0 {
            write!(out, "{id} ").map_err(|_| Errno::ENOMEM)?;
        }
    }
    Ok(())
}
