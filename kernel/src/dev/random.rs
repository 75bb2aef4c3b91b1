//! `/dev/random` and `/dev/urandom`: `random(4)`. Both read one generator; the first waits until it is ready.

use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::IovIter;
use mm::user::UserPtr;
use vfs::file::File;
use vfs::file_ops::{FileOps, IoFlags, Whence};
use vfs::poll::PollTable;

use crate::misc::random as generator;

/// `/dev/random`.
pub(super) struct Random;
/// `/dev/urandom`.
pub(super) struct Urandom;

/// Bytes made at a time.
const CHUNK: usize = 256;
/// Bytes handed out before looking for a signal.
const STRIDE: usize = 4096;

/// `ioctl(2)` requests of `linux/random.h`.
mod request {
    pub const GET_ENTROPY_COUNT: u32 = 0x8004_5200;
    pub const ADD_TO_ENTROPY_COUNT: u32 = 0x4004_5201;
    pub const ADD_ENTROPY: u32 = 0x4008_5203;
    pub const ZAP_ENTROPY_COUNT: u32 = 0x5204;
    pub const CLEAR_POOL: u32 = 0x5206;
    pub const RESEED: u32 = 0x5207;
}

fn read(iter: &mut IovIter<'_>) -> Result<usize> {
    let mut chunk = [0u8; CHUNK];
    let mut done = 0;
    while !iter.is_empty() {
        let size = CHUNK.min(iter.count());
        let part = chunk.get_mut(..size).unwrap_or_default();
        generator::fill(part);
        let copied = iter.copy_to_iter(part);
        done += copied;
        if copied < size {
            chunk.fill(0);
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
        if done % STRIDE == 0 {
            if sched::current().has_pending_signal() {
                break;
            }
            sched::cond_resched();
        }
    }
    chunk.fill(0);
    Ok(done)
}

/// What is written is mixed in; it makes nothing worse and counts for nothing.
fn write(iter: &mut IovIter<'_>) -> Result<usize> {
    let mut chunk = [0u8; CHUNK];
    let mut done = 0;
    while !iter.is_empty() {
        let size = CHUNK.min(iter.count());
        let got = iter.copy_from_iter(chunk.get_mut(..size).unwrap_or_default());
        generator::add_bytes(chunk.get(..got).unwrap_or_default());
        done += got;
        if got < size {
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
        if done % STRIDE == 0 {
            if sched::current().has_pending_signal() {
                break;
            }
            sched::cond_resched();
        }
    }
    Ok(done)
}

fn ioctl(cmd: u32, arg: usize) -> Result<isize> {
    match cmd {
        request::GET_ENTROPY_COUNT => {
            UserPtr::<i32>::new(arg).write(&if generator::is_ready() { 256 } else { 0 })?;
            return Ok(0);
        }
        request::ADD_TO_ENTROPY_COUNT
        | request::ADD_ENTROPY
        | request::ZAP_ENTROPY_COUNT
        | request::CLEAR_POOL
        | request::RESEED => {}
        _ => return Err(Errno::EINVAL),
    }
    if !crate::process::current().with_cred(|cred| cred.capable(abi::cap::Cap::SysAdmin)) {
        return Err(Errno::EPERM);
    }
    match cmd {
        request::ADD_TO_ENTROPY_COUNT => {
            // What the administrator vouches for was mixed in by `write(2)` before.
            if UserPtr::<i32>::new(arg).read()? < 0 { Err(Errno::EINVAL) } else { Ok(0) }
        }
        request::ADD_ENTROPY => {
            let [count, size] = UserPtr::<[i32; 2]>::new(arg).read()?;
            let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
            if count < 0 {
                return Err(Errno::EINVAL);
            }
            write(&mut IovIter::user(mm::iov::Direction::Source, arg.wrapping_add(8), size)?)?;
            Ok(0)
        }
        request::RESEED if !generator::is_ready() => Err(Errno::ENODATA),
        request::RESEED => {
            generator::add_jitter();
            Ok(0)
        }
        _ => Ok(0),
    }
}

impl FileOps for Random {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        if !generator::is_ready() {
            if file.nonblock() || flags.contains(IoFlags::NOWAIT) {
                return Err(Errno::EAGAIN);
            }
            generator::wait_ready()?;
        }
        read(iter)
    }

    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        write(iter)
    }

    fn llseek(&self, file: &File, _: i64, _: Whence) -> Result<u64> {
        Ok(file.pos())
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        ioctl(cmd, arg)
    }

    fn poll(&self, _: &File, _: &mut PollTable<'_>) -> PollEvents {
        if generator::is_ready() {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::OUT | PollEvents::WRNORM
        }
    }
}

impl FileOps for Urandom {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        read(iter)
    }

    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        write(iter)
    }

    fn llseek(&self, file: &File, _: i64, _: Whence) -> Result<u64> {
        Ok(file.pos())
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        ioctl(cmd, arg)
    }
}
