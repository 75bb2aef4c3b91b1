//! `/proc/sys/kernel/{shm*,msg*,sem*}` and `/proc/sys/fs/mqueue`: `sysvipc(7)`, `mq_overview(7)`.
//!
//! Each file is a [`Row`]: a name and how to show and change a value of an IPC namespace. Opening one binds it to the opener's
//! namespace. Who is root of the namespace's user namespace may write.

use super::IpcNamespace;
use super::shm::segment::destroy_orphans;
use super::{MNI, current_ns};
use crate::procfs::sysctl::parse;
use abi::cap::Cap;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::fmt::Write;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use kernfs::{Context, Entry, Node, Show, StaticDir, Text, next_ino};
use mm::fallible::try_arc;
use vfs::cred::Credentials;
use vfs::types::MayAccess;

/// One file.
struct Row {
    name: &'static str,
    mode: u32,
    value: Value,
}

/// Where a value is, and what it may be.
enum Value {
    /// A number and its range.
    Int(fn(&IpcNamespace) -> &AtomicI32, RangeInclusive<i32>),
    /// A number that is written with a sign, though it is none.
    Unsigned(fn(&IpcNamespace) -> &AtomicU32, RangeInclusive<i32>),
    /// A large number.
    Long(fn(&IpcNamespace) -> &AtomicU64),
    /// The four limits of semaphores.
    Sem,
    /// [`Value::Int`] with consequences.
    RmidForced,
    /// Always 0.
    Nothing,
    /// The identifier that the next object shall have.
    Next(NextId),
}

#[derive(Clone, Copy)]
enum NextId {
    Sem,
    Msg,
    Shm,
}

const fn row(name: &'static str, value: Value) -> Row {
    Row { name, mode: 0o644, value }
}

const fn next(name: &'static str, which: NextId) -> Row {
    Row { name, mode: 0o444, value: Value::Next(which) }
}

const MOST: i32 = MNI as i32;

static KERNEL: &[Row] = &[
    row("shmmax", Value::Long(|ns| &ns.limits.shm_max)),
    row("shmall", Value::Long(|ns| &ns.limits.shm_all)),
    row("shmmni", Value::Int(|ns| &ns.limits.shm_mni, 0..=MOST)),
    row("shm_rmid_forced", Value::RmidForced),
    row("msgmax", Value::Int(|ns| &ns.limits.msg_max, 0..=i32::MAX)),
    row("msgmni", Value::Int(|ns| &ns.limits.msg_mni, 0..=MOST)),
    row("auto_msgmni", Value::Nothing),
    row("msgmnb", Value::Int(|ns| &ns.limits.msg_mnb, 0..=i32::MAX)),
    row("sem", Value::Sem),
    next("sem_next_id", NextId::Sem),
    next("msg_next_id", NextId::Msg),
    next("shm_next_id", NextId::Shm),
];

static MQUEUE: &[Row] = &[
    row("queues_max", Value::Unsigned(|ns| &ns.mqueue.limits.queues_max, i32::MIN..=i32::MAX)),
    row("msg_max", Value::Unsigned(|ns| &ns.mqueue.limits.msg_max, 1..=HARD_MSG_MAX)),
    row("msgsize_max", Value::Unsigned(|ns| &ns.mqueue.limits.msgsize_max, 128..=HARD_MSGSIZE_MAX)),
    row("msg_default", Value::Unsigned(|ns| &ns.mqueue.limits.msg_default, 1..=HARD_MSG_MAX)),
    row("msgsize_default", Value::Unsigned(|ns| &ns.mqueue.limits.msgsize_default, 128..=HARD_MSGSIZE_MAX)),
];

const HARD_MSG_MAX: i32 = mqueue::instance::HARD_MSG_MAX as i32;
const HARD_MSGSIZE_MAX: i32 = mqueue::instance::HARD_MSGSIZE_MAX as i32;

impl NextId {
    fn get(self, ns: &IpcNamespace) -> Option<i32> {
        match self {
            Self::Sem => ns.sem.read().next_id(),
            Self::Msg => ns.msg.read().next_id(),
            Self::Shm => ns.shm.read().next_id(),
        }
    }

    fn set(self, ns: &IpcNamespace, id: Option<i32>) {
        match self {
            Self::Sem => ns.sem.write().set_next_id(id),
            Self::Msg => ns.msg.write().set_next_id(id),
            Self::Shm => ns.shm.write().set_next_id(id),
        }
    }
}

/// The four limits of semaphores, in the file's order.
fn sem_limits(ns: &IpcNamespace) -> [&AtomicI32; 4] {
    let limits = &ns.limits;
    [&limits.sem_msl, &limits.sem_mns, &limits.sem_opm, &limits.sem_mni]
}

/// As many of the four as are written, in order. All that is written must be numbers.
fn store_sem(ns: &IpcNamespace, data: &[u8]) -> Result<()> {
    let mut new = [None; 4];
    let mut words = data.split(|b| b.is_ascii_whitespace() || *b == 0).filter(|word| !word.is_empty());
    for (slot, word) in new.iter_mut().zip(&mut words) {
        *slot = Some(parse::<i32>(word, i32::MIN..=i32::MAX)?);
    }
    if new.iter().all(Option::is_none) {
        return Err(Errno::EINVAL);
    }
    let mut result = Ok(());
    for (index, (limit, value)) in sem_limits(ns).into_iter().zip(new).enumerate() {
        match value {
            // The number of sets has a range; the others are taken as they are.
            Some(value) if index == 3 && !(0..=MOST).contains(&value) => result = Err(Errno::ERANGE),
            Some(value) => limit.store(value, Relaxed),
            None => {}
        }
    }
    result
}

/// A row, bound to a namespace.
struct Bound {
    ns: Arc<IpcNamespace>,
    row: &'static Row,
}

impl Show for Bound {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        let ns = &*self.ns;
        let shown = match &self.row.value {
            Value::Int(at, _) => writeln!(out, "{}", at(ns).load(Relaxed)),
            Value::Unsigned(at, _) => writeln!(out, "{}", at(ns).load(Relaxed) as i32),
            Value::Long(at) => writeln!(out, "{}", at(ns).load(Relaxed)),
            Value::Sem => {
                let [msl, mns, opm, mni] = sem_limits(ns).map(|limit| limit.load(Relaxed));
                writeln!(out, "{msl}\t{mns}\t{opm}\t{mni}")
            }
            Value::RmidForced => writeln!(out, "{}", ns.limits.shm_rmid_forced.load(Relaxed)),
            Value::Nothing => writeln!(out, "0"),
            Value::Next(which) => writeln!(out, "{}", which.get(ns).unwrap_or(-1)),
        };
        shown.map_err(|_| Errno::ENOMEM)
    }

    fn store(&self, _: &Context<'_>, data: &[u8]) -> Result<()> {
        let ns = &*self.ns;
        match &self.row.value {
            Value::Int(at, range) => at(ns).store(parse(data, range.clone())?, Relaxed),
            Value::Unsigned(at, range) => at(ns).store(parse(data, range.clone())? as u32, Relaxed),
            Value::Long(at) => at(ns).store(parse(data, 0..=u64::MAX)?, Relaxed),
            Value::Sem => store_sem(ns, data)?,
            Value::RmidForced => {
                let forced = parse(data, 0..=1)?;
                ns.limits.shm_rmid_forced.store(forced, Relaxed);
                if forced != 0 {
                    destroy_orphans(ns);
                }
            }
            // Taken, and without effect.
            Value::Nothing => drop(parse(data, 0..=1)?),
            Value::Next(which) => {
                let id = parse(data, -1..=i32::MAX)?;
                which.set(ns, (id >= 0).then_some(id));
            }
        }
        Ok(())
    }
}

/// The rights that `mode` gives to `cred`: as owner if it is root of the namespace's user namespace. Capabilities do not count.
fn check_mode(ns: &IpcNamespace, cred: &Credentials, mode: u32, mask: MayAccess) -> Result<()> {
    let root = ns.user_ns.make_uid(0).is_some_and(|root| root == cred.euid);
    let group = ns.user_ns.make_gid(0).is_some_and(|group| cred.in_egroup(group));
    let granted = if root {
        mode >> 6
    } else if group {
        mode >> 3
    } else {
        mode
    };
    let wanted = mask & (MayAccess::READ | MayAccess::WRITE | MayAccess::EXEC);
    if wanted.bits() & !granted & 7 == 0 { Ok(()) } else { Err(Errno::EACCES) }
}

fn permission(cred: &Credentials, mask: MayAccess) -> Result<()> {
    check_mode(&*current_ns()?, cred, 0o644, mask)
}

/// Of the identifiers that restoring chooses.
fn next_permission(cred: &Credentials, mask: MayAccess) -> Result<()> {
    let ns = current_ns()?;
    let may = |cap| cred.ns_capable(&ns.user_ns, cap);
    let mode = if may(Cap::CheckpointRestore) || may(Cap::SysAdmin) { 0o666 } else { 0o444 };
    check_mode(&ns, cred, mode, mask)
}

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
fn add(dir: &StaticDir, rows: &'static [Row]) {
    for row in rows {
        let open = move |_: &Context<'_>, _: &mut vfs::file::OpenFile<'_>| {
            kernfs::open_text(try_arc(Bound { ns: current_ns()?, row })?)
        };
        let permission = if row.mode == 0o644 { permission } else { next_permission };
        let entry = Entry::new(Node::Custom(Arc::new(open)), next_ino(), row.mode);
        dir.add_entry(row.name, entry.permitted_by(permission));
    }
}

/// Declares the files: `kernel` is `/proc/sys/kernel`, `fs` is `/proc/sys/fs`.
pub fn init(kernel: &StaticDir, fs: &StaticDir) {
    add(kernel, KERNEL);
    add(&fs.mkdir("mqueue"), MQUEUE);
}
