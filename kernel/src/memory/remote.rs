//! process_vm_readv(2), process_vm_writev(2): another process's memory.

use crate::cred::access::{self, Creds};
use crate::process::{Thread, current};
use crate::syscall::Syscall;
use abi::{Errno, Result};
use mm::AddressSpace;
use mm::iov::{Direction, IovIter, import_iovec, import_remote_iovec};
use mm::remote::{RemoteBuf, RemoteMode};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[PROCESS_VM_READV, PROCESS_VM_WRITEV];

/// Bytes that are copied through the kernel at a time.
const CHUNK: usize = 1024;

#[macros::syscall(process_vm_readv)]
fn sys_process_vm_readv(
    pid: i32,
    local: usize,
    liovcnt: usize,
    remote: usize,
    riovcnt: usize,
    flags: usize,
) -> Result<usize> {
    let iter = import_iovec(Direction::Dest, local, liovcnt)?;
    transfer(pid, iter, (remote, riovcnt), flags, read_chunk)
}

#[macros::syscall(process_vm_writev)]
fn sys_process_vm_writev(
    pid: i32,
    local: usize,
    liovcnt: usize,
    remote: usize,
    riovcnt: usize,
    flags: usize,
) -> Result<usize> {
    let iter = import_iovec(Direction::Source, local, liovcnt)?;
    transfer(pid, iter, (remote, riovcnt), flags, write_chunk)
}

/// Copies one chunk; returns how many bytes arrived.
type Copy = fn(&AddressSpace, usize, &mut [u8], &mut IovIter<'_>) -> usize;

fn read_chunk(space: &AddressSpace, addr: usize, buf: &mut [u8], iter: &mut IovIter<'_>) -> usize {
    let got = space.access_remote(addr, RemoteBuf::Read(buf), RemoteMode::Plain);
    iter.copy_to_iter(buf.get(..got).unwrap_or_default())
}

fn write_chunk(space: &AddressSpace, addr: usize, buf: &mut [u8], iter: &mut IovIter<'_>) -> usize {
    let got = iter.copy_from_iter(buf);
    space.access_remote(addr, RemoteBuf::Write(buf.get(..got).unwrap_or_default()), RemoteMode::Plain)
}

fn transfer(
    pid: i32,
    mut iter: IovIter<'_>,
    (remote, count): (usize, usize),
    flags: usize,
    copy: Copy,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let remote = import_remote_iovec(remote, count)?;
    let me = current();
    let task = me.pid_ns().task(pid).ok_or(Errno::ESRCH)?;
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    let space = access::memory(thread, Creds::Real)?.ok_or(Errno::ESRCH)?;
    let mut buf = [0u8; CHUNK];
    let mut total = 0;
    for range in &remote {
        let mut done = 0;
        while done < range.len && !iter.is_empty() {
            let step = CHUNK.min(range.len - done).min(iter.count());
            let part = buf.get_mut(..step).ok_or(Errno::EFAULT)?;
            let moved = copy(&space, range.base.wrapping_add(done), part, &mut iter);
            done += moved;
            total += moved;
            if moved < step {
                return if total > 0 { Ok(total) } else { Err(Errno::EFAULT) };
            }
        }
    }
    Ok(total)
}
