//! mmap(2), munmap(2), mprotect(2), mremap(2), brk(2), remap_file_pages(2).

use super::space;
use crate::process::current;
use crate::syscall::{Fd, Syscall};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use core::sync::atomic::Ordering;
use mm::user::UserStr;
use mm::{MmapRequest, VmFile};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[MMAP, MUNMAP, MPROTECT, MREMAP, BRK, REMAP_FILE_PAGES];

#[macros::syscall(mmap)]
fn sys_mmap(addr: usize, length: usize, prot: u32, flags: u32, fd: Fd, offset: u64) -> Result<usize> {
    if !offset.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let file = if flags & raw::MAP_ANONYMOUS != 0 {
        None
    } else {
        let file = me.files().ok_or(Errno::EBADF)?.get_raw(vfs::fdtable::Fd::from_raw(fd.0)?)?;
        Some(file as Arc<dyn VmFile>)
    };
    let prot = with_personality(prot);
    let limits = me.process.mm_limits();
    space()?.mmap(&MmapRequest { addr, len: length, prot, flags, file, offset, limits: &limits })
}

/// `READ_IMPLIES_EXEC` of old binaries.
pub fn with_personality(prot: u32) -> u32 {
    const READ_IMPLIES_EXEC: u32 = 0x0040_0000;
    let implies = current().personality.load(Ordering::Relaxed) & READ_IMPLIES_EXEC != 0;
    if implies && prot & raw::PROT_READ != 0 { prot | raw::PROT_EXEC } else { prot }
}

#[macros::syscall(munmap)]
fn sys_munmap(addr: usize, length: usize) -> Result<()> {
    space()?.munmap(addr, length)
}

#[macros::syscall(mprotect)]
fn sys_mprotect(addr: usize, len: usize, prot: u32) -> Result<()> {
    space()?.mprotect(addr, len, with_personality(prot), &current().process.mm_limits())
}

#[macros::syscall(mremap)]
fn sys_mremap(addr: usize, old_len: usize, new_len: usize, flags: u32, new_addr: usize) -> Result<usize> {
    space()?.mremap(addr, old_len, new_len, flags, new_addr, &current().process.mm_limits())
}

#[macros::syscall(brk)]
fn sys_brk(addr: usize) -> Result<usize> {
    Ok(space()?.brk(addr, &current().process.mm_limits()))
}

#[macros::syscall(remap_file_pages)]
fn sys_remap_file_pages(addr: usize, size: usize, prot: usize, pgoff: u64, flags: u32) -> Result<()> {
    space()?.remap_file_pages(addr, size, prot, pgoff, flags, &current().process.mm_limits())
}

/// Longest name of `PR_SET_VMA_ANON_NAME` with its NUL.
const ANON_NAME_MAX: usize = 80;

/// `prctl(PR_SET_VMA)`.
///
/// # Errors
/// `EINVAL` for another operation or a bad name, those of the address space.
pub fn set_vma_name(op: usize, addr: usize, len: usize, name: usize) -> Result<()> {
    if op != abi::raw_sys::prctl::PR_SET_VMA_ANON_NAME as usize {
        return Err(Errno::EINVAL);
    }
    let name = if name == 0 {
        None
    } else {
        let bytes = UserStr::new(name).read(ANON_NAME_MAX, Errno::EINVAL)?;
        let fine = |b: &u8| (0x20..0x7f).contains(b) && !b"\\`$[]".contains(b);
        if !bytes.iter().all(fine) {
            return Err(Errno::EINVAL);
        }
        Some(bytes.into())
    };
    space()?.set_anon_name(addr, len, name)
}
