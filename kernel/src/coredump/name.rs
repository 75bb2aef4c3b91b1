//! What `core_pattern` says: the name of a file, or a program with its arguments. core(5), "Naming of core dump files".

use crate::process::{CurrentThread, init_pid_ns};
use crate::signal::Signal;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;
use mm::fallible::{TryVec, try_to_vec};

/// What the specifiers stand for.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `%p`, `%P`: the process, in its own namespace and the initial one.
    pub pid: (i32, i32),
    /// `%i`, `%I`: the thread.
    pub tid: (i32, i32),
    /// `%u`.
    pub uid: u32,
    /// `%g`.
    pub gid: u32,
    /// `%d`.
    pub dumpable: u8,
    /// `%s`.
    pub signal: i32,
    /// `%t`: seconds since the epoch.
    pub time: u64,
    /// `%h`.
    pub host: Vec<u8>,
    /// `%e`.
    pub comm: Vec<u8>,
    /// `%E`, and its last component for `%f`.
    pub exe: Vec<u8>,
    /// `%c`.
    pub limit: u64,
    /// `%C`.
    pub cpu: u32,
}

impl Facts {
    /// Those of the running thread, which dies of `signal`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn of(me: &CurrentThread, signal: Signal, limit: u64) -> Result<Self> {
        let exe = me.process.exe.lock().clone();
        let exe = exe.and_then(|exe| vfs::path::d_path(exe.file().path(), None).ok());
        let host = me.nsproxy().map(|proxy| {
            let name = proxy.uts.name.lock().nodename;
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            try_to_vec(name.get(..end).unwrap_or_default())
        });
        Ok(Self {
            pid: (me.process.id(), me.process.id_in(&init_pid_ns())),
            tid: (me.tid(), me.global_tid()),
            uid: me.with_cred(|c| c.uid.0),
            gid: me.with_cred(|c| c.gid.0),
            dumpable: me.process.dumpable.load(Ordering::Relaxed),
            signal: signal.number(),
            time: sched::time::realtime_ns() / abi::time::NSEC_PER_SEC,
            host: host.transpose()?.unwrap_or_default(),
            comm: try_to_vec(me.task().comm().as_bytes())?,
            exe: exe.map_or_else(|| try_to_vec(b"(unknown)"), Ok)?,
            limit,
            cpu: me.task().cpu().0,
        })
    }
}

/// Where a dump goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name {
    /// Into this file.
    File(Vec<u8>),
    /// To this program: its path and arguments.
    Pipe(Vec<Vec<u8>>),
}

/// Text that grows, and may find no memory.
struct Out(Vec<u8>);

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

impl Out {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.try_extend_from_slice(bytes)?)
    }

    /// Text that others chose, which must not lead into another directory.
    fn push_component(&mut self, text: &[u8]) -> Result<()> {
        match text {
            b"" => self.push(b"!"),
            b"." | b".." => {
                self.push(b"!")?;
                self.push(text.get(1..).unwrap_or_default())
            }
            _ => text
                .iter()
                .try_for_each(|b| self.push(if *b == b'/' { b"!" } else { core::slice::from_ref(b) })),
        }
    }

    fn push_number(&mut self, number: impl fmt::Display) -> Result<()> {
        write!(self, "{number}").map_err(|_| Errno::ENOMEM)
    }

    fn push_specifier(&mut self, letter: u8, facts: &Facts) -> Result<()> {
        match letter {
            b'%' => self.push(b"%"),
            b'p' => self.push_number(facts.pid.0),
            b'P' => self.push_number(facts.pid.1),
            b'i' => self.push_number(facts.tid.0),
            b'I' => self.push_number(facts.tid.1),
            b'u' => self.push_number(facts.uid),
            b'g' => self.push_number(facts.gid),
            b'd' => self.push_number(facts.dumpable),
            b's' => self.push_number(facts.signal),
            b't' => self.push_number(facts.time),
            b'h' => self.push_component(&facts.host),
            b'e' => self.push_component(&facts.comm),
            b'f' => {
                let last = facts.exe.rsplit(|b| *b == b'/').next().unwrap_or_default();
                self.push_component(last)
            }
            b'E' => self.push_component(&facts.exe),
            b'c' => self.push_number(facts.limit),
            b'C' => self.push_number(facts.cpu),
            // Others stand for nothing.
            _ => Ok(()),
        }
    }
}

/// Replaces the specifiers in one word or name; says whether `%p` was among them.
fn replace(pattern: &[u8], facts: &Facts) -> Result<(Vec<u8>, bool)> {
    let mut out = Out(Vec::new());
    let mut has_pid = false;
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(core::slice::from_ref(byte))?;
            continue;
        }
        let Some(letter) = bytes.next() else { break };
        has_pid |= *letter == b'p';
        out.push_specifier(*letter, facts)?;
    }
    Ok((out.0, has_pid))
}

/// What `pattern` makes of the facts.
///
/// # Errors
/// `EINVAL`: a `|` with nothing behind it. `ENOMEM`.
pub fn expand(pattern: &[u8], facts: &Facts, uses_pid: bool) -> Result<Name> {
    if let [b'|', program @ ..] = pattern {
        let mut words = Vec::new();
        // Specifiers do not make new words.
        for word in program.split(|b| *b == b' ').filter(|word| !word.is_empty()) {
            words.try_push(replace(word, facts)?.0)?;
        }
        return if words.is_empty() { Err(Errno::EINVAL) } else { Ok(Name::Pipe(words)) };
    }
    let (name, has_pid) = replace(pattern, facts)?;
    let mut out = Out(name);
    if uses_pid && !has_pid {
        out.push(b".")?;
        out.push_number(facts.pid.0)?;
    }
    Ok(Name::File(out.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            pid: (5, 105),
            tid: (6, 106),
            uid: 1000,
            gid: 100,
            dumpable: 1,
            signal: 11,
            time: 1234,
            host: b"box".to_vec(),
            comm: b"a/b".to_vec(),
            exe: b"/usr/bin/prog".to_vec(),
            limit: u64::MAX,
            cpu: 3,
        }
    }

    fn file(pattern: &str, uses_pid: bool) -> String {
        match expand(pattern.as_bytes(), &facts(), uses_pid).unwrap() {
            Name::File(name) => String::from_utf8(name).unwrap(),
            Name::Pipe(_) => panic!("a pipe"),
        }
    }

    #[test]
    fn every_specifier() {
        assert_eq!(file("%p %P %i %I %u %g %d %s %t", false), "5 105 6 106 1000 100 1 11 1234");
        assert_eq!(file("%h %e %f %E %C", false), "box a!b prog !usr!bin!prog 3");
        assert_eq!(file("100%% %c", false), "100% 18446744073709551615");
        assert_eq!(file("a%zb%", false), "ab");
    }

    #[test]
    fn the_pid_is_appended_unless_it_is_there() {
        assert_eq!(file("core", true), "core.5");
        assert_eq!(file("core", false), "core");
        assert_eq!(file("core.%p", true), "core.5");
        assert_eq!(file("core.%P", true), "core.105.5");
    }

    #[test]
    fn components_stay_components() {
        let mut f = facts();
        for (comm, expect) in [("..", "!."), (".", "!"), ("", "!"), ("../x", "..!x")] {
            f.comm = comm.as_bytes().to_vec();
            assert_eq!(expand(b"%e", &f, false).unwrap(), Name::File(expect.as_bytes().to_vec()));
        }
    }

    #[test]
    fn a_program_gets_words() {
        let mut f = facts();
        f.comm = b"two words".to_vec();
        let words = |list: &[&str]| Name::Pipe(list.iter().map(|w| w.as_bytes().to_vec()).collect());
        assert_eq!(
            expand(b"|/bin/dump  %e -p %p", &f, true).unwrap(),
            words(&["/bin/dump", "two words", "-p", "5"])
        );
        assert_eq!(expand(b"|", &f, false), Err(Errno::EINVAL));
        assert_eq!(expand(b"|  ", &f, false), Err(Errno::EINVAL));
    }
}
