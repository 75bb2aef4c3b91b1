//! Job control: the process layer's side of terminals ([`drivers::tty::job`]).
//!
//! A session's controlling terminal is kept in one table by the session's id object; the object lives as long as
//! the entry, so its address identifies the session.

use alloc::sync::Arc;

use abi::cap::Cap;
use abi::{Errno, Result};
use arch::sync::SpinLock;
use drivers::tty::core::{HangUp, Tty};
use drivers::tty::job::{Group, JobControl, Session};

use crate::process::{Pid, Process, current, tree};
use crate::signal::{Signal, send};
use crate::syscall::Syscall;
use mm::context::NoFailScope;
use mm::fallible::{SortedMap, try_arc};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[VHANGUP];

/// What a session's leader has to do with a terminal.
enum Terminal {
    /// It controls the session.
    Controlling(Arc<Tty>),
    /// It was hung up; this group was in its foreground and is told when the leader exits.
    Lost(Arc<dyn Group>),
}

impl Terminal {
    fn tty(&self) -> Option<Arc<Tty>> {
        match self {
            Self::Controlling(tty) => Some(tty.clone()),
            Self::Lost(_) => None,
        }
    }
}

/// Terminals by the identity of their session.
type Terminals = SortedMap<u64, (Arc<Pid>, Terminal)>;

static TERMINALS: SpinLock<Terminals> = SpinLock::new(SortedMap::new());

fn set(session: &Arc<Pid>, terminal: Option<Terminal>) -> Option<Terminal> {
    let mut terminals = TERMINALS.lock();
    let old = match terminal {
        Some(terminal) => {
            // A terminal that is controlling already cannot be refused.
            let _no_fail = NoFailScope::enter();
            let set = terminals.try_insert(identity(session), (session.clone(), terminal));
            set.unwrap_or_else(|_| {
                log::error!("no memory to note a controlling terminal");
                None
            })
        }
        None => terminals.remove(&identity(session)),
    };
    drop(terminals);
    old.map(|(_, terminal)| terminal)
}

fn identity(pid: &Arc<Pid>) -> u64 {
    Arc::as_ptr(pid).addr() as u64
}

/// The controlling terminal of a process.
pub fn terminal_of(process: &Process) -> Option<Arc<Tty>> {
    let session = process.session()?;
    TERMINALS.lock().get(&identity(&session)).and_then(|(_, terminal)| terminal.tty())
}

/// vhangup(2): nobody that has the caller's terminal open can use it any more.
#[macros::syscall(vhangup)]
fn sys_vhangup() -> Result<()> {
    let me = current();
    me.with_cred(|cred| cred.require(Cap::SysTtyConfig))?;
    if let Some(tty) = terminal_of(&me.process) {
        tty.hang_up(HangUp::Carrier);
    }
    Ok(())
}

/// `Arc::new` where a terminal cannot be told of a lack of memory.
#[expect(clippy::disallowed_methods, reason = "waits for memory")]
fn never_fails<T>(value: T) -> Arc<T> {
    let _no_fail = NoFailScope::enter();
    Arc::new(value)
}

/// A process group as terminals see it.
struct PidGroup(Arc<Pid>);

impl Group for PidGroup {
    fn identity(&self) -> u64 {
        identity(&self.0)
    }

    fn number(&self) -> i32 {
        self.0.nr_in(&current().pid_ns())
    }

    fn signal(&self, signo: i32) {
        if let Some(signal) = Signal::new(signo) {
            send::kernel_signal_group(&self.0, signal);
        }
    }

    fn is_orphaned(&self) -> bool {
        tree::is_orphaned(&tree::lock(), &self.0, None)
    }

    fn session(&self) -> Arc<dyn Session> {
        let member = self.0.group().first().and_then(|process| process.session());
        never_fails(PidSession(member.unwrap_or_else(|| self.0.clone())))
    }
}

/// A session as terminals see it.
struct PidSession(Arc<Pid>);

impl Session for PidSession {
    fn identity(&self) -> u64 {
        identity(&self.0)
    }

    fn number(&self) -> i32 {
        self.0.nr_in(&current().pid_ns())
    }

    fn terminal(&self) -> Option<Arc<Tty>> {
        TERMINALS.lock().get(&identity(&self.0)).and_then(|(_, terminal)| terminal.tty())
    }

    fn set_terminal(&self, tty: Option<Arc<Tty>>) {
        drop(set(&self.0, tty.map(Terminal::Controlling)));
    }

    fn terminal_lost(&self, foreground: Option<Arc<dyn Group>>) {
        drop(set(&self.0, foreground.map(Terminal::Lost)));
    }

    fn signal_leader(&self, signo: i32) {
        if let (Some(leader), Some(signal)) = (self.0.process(), Signal::new(signo)) {
            send::kernel_signal(&leader, signal);
        }
    }
}

/// Implements [`JobControl`] over the process tree.
pub struct Jobs;

impl JobControl for Jobs {
    fn group(&self) -> Arc<dyn Group> {
        let process = &current().process;
        never_fails(PidGroup(process.pgrp().unwrap_or_else(|| process.pid.clone())))
    }

    fn session(&self) -> Arc<dyn Session> {
        let process = &current().process;
        never_fails(PidSession(process.session().unwrap_or_else(|| process.pid.clone())))
    }

    fn is_session_leader(&self) -> bool {
        current().process.is_session_leader()
    }

    fn find_group(&self, number: i32) -> Result<Arc<dyn Group>> {
        let pid = current().pid_ns().find(number).ok_or(Errno::ESRCH)?;
        Ok(try_arc(PidGroup(pid))?)
    }

    fn ignores(&self, signo: i32) -> bool {
        Signal::new(signo).is_some_and(send::ignores)
    }

    fn is_admin(&self) -> bool {
        current().with_cred(|cred| cred.capable(Cap::SysAdmin))
    }
}

impl crate::tty_hooks::TtyHooks for Jobs {
    fn session_leader_exits(&self, process: &Arc<Process>) {
        let Some(pid) = process.session() else { return };
        let session: Arc<dyn Session> = never_fails(PidSession(pid.clone()));
        if let Some(tty) = session.terminal() {
            tty.session_ends(&session);
        } else if let Some(Terminal::Lost(group)) = set(&pid, None) {
            group.signal(Signal::SIGHUP.number());
            group.signal(Signal::SIGCONT.number());
        }
    }
}
