//! File locks as text: `/proc/locks`, and the `lock:` lines of `/proc/PID/fdinfo`. `proc_locks(5)`.

use core::fmt::{self, Write};

use abi::{Errno, Result};
use alloc::sync::Arc;
use kernfs::{Context, Node, Show, Text};
use vfs::file::File;
use vfs::lock::{PosixOwner, show};

use super::{Mounted, top};
use crate::process::{PidNamespace, init_pid_ns};

/// How `ns` sees a process of the initial namespace: 0 if it does not, -1 stays.
fn seen_from(ns: &PidNamespace, pid: i32) -> i32 {
    if pid <= 0 { pid } else { init_pid_ns().find(pid).map_or(0, |pid| pid.nr_in(ns)) }
}

struct Locks;

impl Show for Locks {
    fn show(&self, cx: &Context<'_>, out: &mut Text) -> Result<()> {
        let ns = cx.mounted_for::<Mounted>().map_or_else(init_pid_ns, |mounted| mounted.ns.clone());
        let mut number = 0;
        let mut result: fmt::Result = Ok(());
        show::for_each(&mut |inode, lock| {
            number += u64::from(!lock.waits);
            let pid = seen_from(&ns, lock.pid());
            // Those of processes that the reader does not see count, but are not shown.
            if pid == 0 || result.is_err() {
                return;
            }
            result = write!(out, "{number}: {}", if lock.waits { "-> " } else { "" })
                .and_then(|()| lock.write(inode, pid, out));
        })?;
        result.map_err(|_| Errno::ENOMEM)
    }
}

/// The `lock:` lines of an open file of a process whose record locks are `owner`'s.
pub(super) fn fdinfo(file: &File, owner: PosixOwner, ns: &PidNamespace, out: &mut Text) -> Result<()> {
    let mut number = 0;
    let mut result: fmt::Result = Ok(());
    show::for_each_of(file, owner, &mut |inode, lock| {
        number += 1;
        if result.is_ok() {
            result = write!(out, "lock:\t{number}: ")
                .and_then(|()| lock.write(inode, seen_from(ns, lock.pid()), out));
        }
    })?;
    result.map_err(|_| Errno::ENOMEM)
}

/// Declares the file.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub(super) fn init() {
    top().add("locks", Node::Text(Arc::new(Locks)), 0o444);
}
