//! Process accounting: acct(2), acct(5).
//!
//! A pid namespace may have a file ([`Account`]) to which a [`record`] is appended for every process in it, and in the
//! namespaces below, that ends. The last thread of a process writes them on its way out, in [`process_exits`], while the
//! process still has its memory and files.
//!
//! The file is a regular one: nothing that could make an exit wait for a reader. It does not keep its file system mounted;
//! unmounting ends the accounting. While the file system is nearly full nothing is written (`kernel.acct`).
//!
//! A log that comes to its end gets a record of the process that ends it.
//!
//! Without accounting an exit pays for one load.

pub mod record;

use crate::fs::context::Caller;
use crate::process::thread::flags;
use crate::process::{CurrentThread, PidNamespace, Usage, current};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::time::NSEC_PER_SEC;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use mm::fallible::{TryVec, try_arc};
use mm::user::UserStr;
use record::Record;
use sched::mutex::Mutex;
use vfs::file::{File, FileMode};
use vfs::file_ops::IoFlags;
use vfs::mount::Mount;
use vfs::namei::{self, At, OpenArgs};
use vfs::types::FileType;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[ACCT];

/// `kernel.acct`: percent of free space above which accounting goes on, below which it pauses, and seconds between looks.
pub static LIMITS: [AtomicI32; 3] = [AtomicI32::new(4), AtomicI32::new(2), AtomicI32::new(30)];

/// How many namespaces have a file.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);
static ACCOUNTS: SpinLock<Vec<Account>> = SpinLock::new(Vec::new());

/// The file of a namespace.
#[derive(Clone)]
struct Account {
    ns: Arc<PidNamespace>,
    log: Arc<Log>,
}

struct Log {
    file: Arc<File>,
    /// Held while a record is written.
    state: Mutex<State>,
}

struct State {
    /// There was space when it was looked for last.
    has_space: bool,
    /// When to look again, on the monotonic clock.
    next_look_ns: u64,
}

impl Log {
    fn new(file: Arc<File>) -> Result<Arc<Self>> {
        // Undone when the log is dropped.
        file.path().mnt.add_passive();
        Ok(try_arc(Self { file, state: Mutex::new(State { has_space: true, next_look_ns: 0 }) })?)
    }

    /// Whether there is space, as far as is known.
    fn has_space(&self, state: &mut State) -> bool {
        let now = sched::time::monotonic_ns();
        if now < state.next_look_ns {
            return state.has_space;
        }
        let [resume, suspend, seconds] =
            LIMITS.each_ref().map(|limit| limit.load(Ordering::Relaxed).max(0) as u64);
        state.next_look_ns = now.saturating_add(seconds.saturating_mul(NSEC_PER_SEC));
        let Ok(found) = vfs::stat::statfs(self.file.path()) else { return state.has_space };
        let percent = |percent: u64| found.blocks.saturating_mul(percent) / 100;
        if state.has_space && found.bavail <= percent(suspend) {
            state.has_space = false;
            log::info!("Process accounting paused");
        } else if !state.has_space && found.bavail >= percent(resume) {
            state.has_space = true;
            log::info!("Process accounting resumed");
        }
        state.has_space
    }

    fn write(&self, record: Record) {
        let mut state = self.state.lock();
        if !self.has_space(&mut state) {
            return;
        }
        let bytes = record.to_bytes();
        let mut iter = mm::IovIter::source(&bytes);
        // What does not fit any more is lost, as is said of a full disk in acct(2).
        let _ = vfs::rw::write_at(&self.file, &mut iter, &mut 0, IoFlags::APPEND);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.file.path().mnt.remove_passive();
    }
}

/// Gives `ns` another file, or none.
fn replace(ns: &Arc<PidNamespace>, log: Option<Arc<Log>>) -> Result<()> {
    let new = log.map(|log| Account { ns: ns.clone(), log });
    let mut accounts = ACCOUNTS.lock();
    if new.is_some() {
        accounts.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    }
    let at = accounts.iter().position(|account| Arc::ptr_eq(&account.ns, ns));
    let old = at.map(|at| accounts.swap_remove(at));
    if let Some(new) = new {
        accounts.try_push(new)?;
    }
    ACTIVE.store(accounts.len(), Ordering::Relaxed);
    drop(accounts);
    if let Some(old) = old {
        let me = current();
        let ended = if me.has(flags::EXITING) { Some(me.exit_code.load(Ordering::Relaxed)) } else { None };
        write(&me, ended, ns, &old.log);
    }
    Ok(())
}

#[macros::syscall(acct)]
fn sys_acct(name: UserStr) -> Result<()> {
    current().with_cred(|cred| cred.require(Cap::SysPacct))?;
    let ns = current().pid_ns();
    if name.addr() == 0 {
        return replace(&ns, None);
    }
    let name = name.read_path()?;
    let caller = Caller::current()?;
    let args = OpenArgs::from_open(raw::O_WRONLY | raw::O_APPEND | raw::O_LARGEFILE, 0)?;
    let file = namei::open(&caller.ctx(), At::Cwd, &name, &args)?;
    if file.file_type() != FileType::Regular {
        return Err(Errno::EACCES);
    }
    let sb = file.path().dentry.sb();
    // Files of the kernel's own are no logs.
    if matches!(sb.magic() as u32, raw::PROC_SUPER_MAGIC | raw::SYSFS_MAGIC) {
        return Err(Errno::EINVAL);
    }
    if !file.mode().contains(FileMode::WRITE) {
        return Err(Errno::EIO);
    }
    replace(&ns, Some(Log::new(file)?))
}

/// The last process of `ns` is going.
pub fn namespace_ends(ns: &Arc<PidNamespace>) {
    if ACTIVE.load(Ordering::Relaxed) != 0 {
        // Taking away allocates nothing.
        let _ = replace(ns, None);
    }
}

/// `mount` was unmounted: files on it are logs no more.
pub fn unmounted(mount: &Arc<Mount>) {
    while ACTIVE.load(Ordering::Relaxed) != 0 {
        let on_it = |account: &&Account| Arc::ptr_eq(&account.log.file.path().mnt, mount);
        let Some(ns) = ACCOUNTS.lock().iter().find(on_it).map(|account| account.ns.clone()) else { return };
        let _ = replace(&ns, None);
    }
}

/// The running thread exits with `code`; if no thread of its process is left that does not, writes the records.
pub fn process_exits(me: &CurrentThread, code: i32) {
    if ACTIVE.load(Ordering::Relaxed) == 0 {
        return;
    }
    let process = &me.process;
    let code = {
        let mut state = process.sig.lock();
        let mut others = false;
        state.for_each(|_, thread| others |= !thread.has(flags::EXITING));
        if others || core::mem::replace(&mut state.accounted, true) {
            return;
        }
        state.group_exit.unwrap_or(code)
    };
    let own = process.pid_ns();
    let mut at = Some(&own);
    while let Some(ns) = at {
        let log = ACCOUNTS.lock().iter().find(|a| Arc::ptr_eq(&a.ns, ns)).map(|account| account.log.clone());
        if let Some(log) = log {
            write(me, Some(code), ns, &log);
        }
        at = ns.parent();
    }
}

/// Writes a record of the running process, which ended with `code`; what it used is counted when it ends.
fn write(me: &CurrentThread, code: Option<i32>, ns: &PidNamespace, log: &Log) {
    let process = &me.process;
    let usage = if code.is_some() { process.usage() } else { Usage::default() };
    let memory = me.mm().filter(|_| code.is_some());
    let code_or_0 = code.unwrap_or(0);
    let lived_ns = sched::time::boottime_ns().saturating_sub(process.start_ns);
    let now_s = sched::time::realtime_ns() / NSEC_PER_SEC;
    let mut flag = 0;
    for (bit, set) in [
        (record::AFORK, code.is_some() && me.has(flags::FORKNOEXEC)),
        (record::ASU, code.is_some() && me.has(flags::SUPERPRIV)),
        (record::ACORE, code_or_0 & 0x80 != 0),
        (record::AXSIG, code_or_0 & 0x7f != 0),
    ] {
        if set {
            flag |= bit;
        }
    }
    let seer = log.file.cred().user_ns.clone();
    let (uid, gid) = me.with_cred(|cred| (seer.from_uid(cred.uid), seer.from_gid(cred.gid)));
    let dev = crate::job::terminal_of(process).map(|tty| tty.dev());
    let record = Record {
        flag,
        tty: dev.map_or(0, |dev| ((dev.major & 0xff) << 8 | dev.minor & 0xff) as u16),
        exit_code: code_or_0 as u32,
        uid,
        gid,
        pid: process.id_in(ns) as u32,
        ppid: process.parent().map_or(0, |parent| parent.id_in(ns)) as u32,
        began_s: now_s.saturating_sub(lived_ns / NSEC_PER_SEC).min(u32::MAX.into()) as u32,
        lived_ns,
        utime_ns: usage.utime_ns,
        stime_ns: usage.stime_ns,
        memory_kib: memory.map_or(0, |mm| (mm.counters().total_vm() * PAGE_SIZE / 1024) as u64),
        min_flt: usage.min_flt,
        maj_flt: usage.maj_flt,
        comm: *me.task().comm().padded(),
    };
    // Whoever writes here is not asked how large a file may become.
    me.set(flags::WRITES_UNLIMITED);
    log.write(record);
    me.clear(flags::WRITES_UNLIMITED);
}
