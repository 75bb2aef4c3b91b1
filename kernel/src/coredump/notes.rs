//! The notes of a core file: `elfcore.h`, `linux/elf.h`, elf(5).

use super::areas::Area;
use super::gather::ThreadState;
use crate::process::{CurrentThread, Usage};
use crate::signal::{Siginfo, Signal};
use abi::time::NSEC_PER_SEC;
use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::ptrace::NT_PRSTATUS;
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use mm::fallible::TryVec;
use mm::remote::{RemoteBuf, RemoteMode};
use zerocopy::IntoBytes;

const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;
const CORE: &str = "CORE";

/// Longest list of mapped files, in bytes; a longer one is left out, as Linux does.
const FILES_MAX: usize = 4 << 20;

/// Bytes that grow, and may find no memory.
#[derive(Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.try_extend_from_slice(bytes)?)
    }

    fn u16(&mut self, value: u16) -> Result<()> {
        self.put(&value.to_ne_bytes())
    }

    fn u32(&mut self, value: u32) -> Result<()> {
        self.put(&value.to_ne_bytes())
    }

    fn u64(&mut self, value: u64) -> Result<()> {
        self.put(&value.to_ne_bytes())
    }

    fn time(&mut self, ns: u64) -> Result<()> {
        self.u64(ns / NSEC_PER_SEC)?;
        self.u64(ns % NSEC_PER_SEC / 1000)
    }

    fn align(&mut self, to: usize) -> Result<()> {
        let end = self.0.len().next_multiple_of(to);
        Ok(self.0.try_resize(end, 0)?)
    }

    /// A note: header, name and content, each aligned.
    fn note(&mut self, owner: &str, kind: u32, content: &[u8]) -> Result<()> {
        self.u32(owner.len() as u32 + 1)?;
        self.u32(u32::try_from(content.len()).map_err(|_| Errno::EFBIG)?)?;
        self.u32(kind)?;
        self.put(owner.as_bytes())?;
        self.put(&[0])?;
        self.align(4)?;
        self.put(content)?;
        self.align(4)
    }
}

/// Ids of the process, as it sees them.
struct Ids {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
}

impl Ids {
    fn of(me: &CurrentThread) -> Self {
        let ns = me.pid_ns();
        let process = &me.process;
        Self {
            pid: process.id(),
            parent: process.parent().map_or(0, |p| p.id_in(&ns)),
            group: process.pgrp().map_or(0, |p| p.nr_in(&ns)),
            session: process.session().map_or(0, |p| p.nr_in(&ns)),
        }
    }
}

/// All notes: the running thread's first, which debuggers take for the one that failed.
///
/// # Errors
/// `ENOMEM`.
pub fn build(
    me: &CurrentThread,
    space: &AddressSpace,
    (signal, info): (Signal, &Siginfo),
    own: &ThreadState,
    others: &[ThreadState],
    areas: &[Area],
) -> Result<Vec<u8>> {
    let ids = Ids::of(me);
    let mut out = Bytes::default();
    status(&mut out, me, &ids, own, (signal, info))?;
    out.note(CORE, NT_PRPSINFO, &process_info(me, space, &ids)?)?;
    out.note(CORE, NT_SIGINFO, info.as_bytes())?;
    if let Some(auxv) = space.auxv() {
        out.note(CORE, NT_AUXV, crate::memory::auxv::used(&auxv).as_bytes())?;
    }
    if let Some(files) = files(areas)? {
        out.note(CORE, NT_FILE, &files)?;
    }
    registers(&mut out, own)?;
    for other in others {
        status(&mut out, me, &ids, other, (signal, info))?;
        registers(&mut out, other)?;
    }
    Ok(out.0)
}

/// `NT_PRSTATUS`: `struct elf_prstatus`.
fn status(
    out: &mut Bytes,
    me: &CurrentThread,
    ids: &Ids,
    thread: &ThreadState,
    (signal, info): (Signal, &Siginfo),
) -> Result<()> {
    let Some(general) = thread.registers.iter().find(|set| set.note == NT_PRSTATUS) else { return Ok(()) };
    let has_fp = thread.registers.iter().any(|set| set.note == arch::ptrace::NT_PRFPREG);
    let children = me.process.children_usage();
    let used: &Usage = &thread.usage;
    let mut s = Bytes::default();
    for word in [info.signo, info.code, info.errno] {
        s.u32(word as u32)?;
    }
    s.u16(signal.number() as u16)?;
    s.u16(0)?;
    s.u64(thread.pending)?;
    s.u64(thread.blocked)?;
    for id in [thread.tid, ids.parent, ids.group, ids.session] {
        s.u32(id as u32)?;
    }
    for ns in [used.utime_ns, used.stime_ns, children.utime_ns, children.stime_ns] {
        s.time(ns)?;
    }
    s.put(&general.bytes)?;
    s.u32(has_fp.into())?;
    s.align(8)?;
    out.note(CORE, NT_PRSTATUS, &s.0)
}

/// `NT_PRPSINFO`: `struct elf_prpsinfo`.
fn process_info(me: &CurrentThread, space: &AddressSpace, ids: &Ids) -> Result<Vec<u8>> {
    let mut s = Bytes::default();
    let nice = me.task().nice() as u8;
    // It runs.
    s.put(&[0, b'R', 0, nice])?;
    s.align(8)?;
    s.u64(0)?;
    let (uid, gid) = me.with_cred(|c| (c.user_ns.from_uid(c.uid), c.user_ns.from_gid(c.gid)));
    s.u32(uid)?;
    s.u32(gid)?;
    for id in [ids.pid, ids.parent, ids.group, ids.session] {
        s.u32(id as u32)?;
    }
    s.put(me.task().comm().padded())?;
    // The arguments with blanks between them.
    let mut args = [0u8; 80];
    let start = space.layout.arg_start.load(Ordering::Relaxed);
    let end = space.layout.arg_end.load(Ordering::Relaxed);
    let len = end.saturating_sub(start).min(args.len() - 1);
    let part = args.get_mut(..len).unwrap_or_default();
    let got = space.access_remote(start, RemoteBuf::Read(part), RemoteMode::Force);
    let part = part.get_mut(..got).unwrap_or_default();
    part.iter_mut().filter(|b| **b == 0).for_each(|b| *b = b' ');
    s.put(&args)?;
    s.align(8)?;
    Ok(s.0)
}

/// `NT_FILE`: which files are mapped where. `None` if that is too long.
fn files(areas: &[Area]) -> Result<Option<Vec<u8>>> {
    let mapped = || areas.iter().filter_map(|area| area.file.as_ref().map(|file| (area, file)));
    let mut s = Bytes::default();
    s.u64(mapped().count() as u64)?;
    s.u64(PAGE_SIZE as u64)?;
    for (area, (_, offset)) in mapped() {
        s.u64(area.range.start as u64)?;
        s.u64(area.range.end as u64)?;
        s.u64(*offset)?;
    }
    for (_, (name, _)) in mapped() {
        s.put(name)?;
        s.put(&[0])?;
    }
    Ok((s.0.len() <= FILES_MAX).then_some(s.0))
}

fn registers(out: &mut Bytes, thread: &ThreadState) -> Result<()> {
    let sets = thread.registers.iter().filter(|set| set.note != NT_PRSTATUS);
    sets.into_iter().try_for_each(|set| out.note(set.owner, set.note, &set.bytes))
}
