//! `shmat(2)`, `shmdt(2)`.

use super::file::{Access, ShmFile};
use crate::ipc::ids::Object;
use crate::ipc::{current_ns, perm};
use crate::memory::space;
use crate::process::current;
use crate::syscall::Syscall;
use abi::ipc::flag::{SHM_EXEC, SHM_RDONLY, SHM_REMAP, SHM_RND};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use mm::fallible::try_arc;
use mm::{MmapRequest, VmFile};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SHMAT, SHMDT];

/// Attach addresses are multiples of this (`SHMLBA`, the same on both architectures).
const SHMLBA: usize = PAGE_SIZE;

/// The address to attach at; `None`: anywhere.
fn place(addr: usize, flags: u32) -> Result<Option<usize>> {
    if addr == 0 {
        return if flags & SHM_REMAP != 0 { Err(Errno::EINVAL) } else { Ok(None) };
    }
    let rounded = addr & !(SHMLBA - 1);
    if rounded == addr {
        return Ok(Some(addr));
    }
    if flags & SHM_RND == 0 || rounded == 0 && flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Some(rounded))
}

#[macros::syscall(shmat)]
fn sys_shmat(shmid: i32, shmaddr: usize, shmflg: u32) -> Result<usize> {
    if shmid < 0 {
        return Err(Errno::EINVAL);
    }
    let at = place(shmaddr, shmflg)?;
    let (mut prot, mut wanted, access) = if shmflg & SHM_RDONLY != 0 {
        (raw::PROT_READ, perm::READ, Access::Read)
    } else {
        (raw::PROT_READ | raw::PROT_WRITE, perm::READ | perm::WRITE, Access::ReadWrite)
    };
    if shmflg & SHM_EXEC != 0 {
        prot |= raw::PROT_EXEC;
        wanted |= perm::EXEC;
    }
    let ns = current_ns()?;
    let segment = ns.shm.get(shmid)?;
    segment.perm().check(&ns, wanted)?;
    let end = at.unwrap_or(0).checked_add(segment.size());
    let object = segment.hold()?;
    let mut flags = raw::MAP_SHARED;
    if at.is_some() {
        flags |= if shmflg & SHM_REMAP != 0 { raw::MAP_FIXED } else { raw::MAP_FIXED_NOREPLACE };
    }
    let file: Arc<dyn VmFile> = try_arc(ShmFile::new(ns.clone(), segment.clone(), object, access))?;
    let limits = current().process.mm_limits();
    let result = end.ok_or(Errno::EINVAL).and_then(|_| space()).and_then(|space| {
        space.mmap(&MmapRequest {
            addr: at.unwrap_or(0),
            len: segment.size(),
            prot: crate::memory::map::with_personality(prot),
            flags,
            file: Some(file),
            offset: 0,
            limits: &limits,
        })
    });
    segment.release(&ns);
    match result {
        // Something is mapped there already.
        Err(Errno::EEXIST) => Err(Errno::EINVAL),
        other => other,
    }
}

#[macros::syscall(shmdt)]
fn sys_shmdt(shmaddr: usize) -> Result<()> {
    if !shmaddr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    space()?.unmap_object(shmaddr, &|file| {
        let file = file.clone().as_any().downcast::<ShmFile>().ok()?;
        Some(file.size())
    })
}
