//! Pipes and moving data through them: `pipe(2)`, `splice(2)`, `tee(2)`, `vmsplice(2)`, `sendfile(2)`,
//! `copy_file_range(2)`.

use abi::{Errno, Result, raw};
use macros::syscall;
use mm::iov::{Direction, import_iovec};
use mm::user::UserPtr;
use vfs::fdtable::Fd;
use vfs::{pipe, splice};

use super::context::{Caller, fd_flags, file, files, nofile};
use crate::process::current;
use crate::signal;
use crate::syscall::Syscall;

#[syscall(pipe2)]
fn sys_pipe2(fds: UserPtr<[i32; 2]>, flags: u32) -> Result<()> {
    let (reader, writer) = pipe::pipe(Caller::current()?.cred(), flags)?;
    let files = files()?;
    let cloexec = fd_flags(flags & raw::O_CLOEXEC != 0);
    let first = files.reserve(nofile(), cloexec)?;
    let second = files.reserve(nofile(), cloexec)?;
    fds.write(&[first.fd().raw(), second.fd().raw()])?;
    first.install(reader);
    second.install(writer);
    Ok(())
}

#[syscall(pipe)]
fn sys_pipe(fds: UserPtr<[i32; 2]>) -> Result<()> {
    sys_pipe2(fds, 0)
}

/// Where a transfer went on to: written back to a position that the user gave.
fn put_offset(user: UserPtr<i64>, given: Option<i64>, pos: u64) -> Result<()> {
    if given.is_some() { user.write(&(pos as i64)) } else { Ok(()) }
}

/// Bytes that went from file to file count as read and written.
fn count_copy(count: usize) {
    let me = current();
    me.io.read(&Ok::<_, Errno>(count));
    me.io.write(&Ok::<_, Errno>(count));
}

fn piped<R>(result: Result<R>) -> Result<R> {
    if matches!(result, Err(Errno::EPIPE)) {
        signal::raise_sigpipe();
    }
    result
}

#[syscall(splice)]
fn sys_splice(
    input: Fd,
    in_offset: UserPtr<i64>,
    output: Fd,
    out_offset: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if len == 0 {
        return Ok(0);
    }
    let (input, output) = (file(input)?, file(output)?);
    let (from, to) = (in_offset.read_opt()?, out_offset.read_opt()?);
    let (count, pos) = piped(splice::splice(&input, from, &output, to, len, flags))?;
    // At most one side has a position: the other one is a pipe.
    put_offset(in_offset, from, pos)?;
    put_offset(out_offset, to, pos)?;
    Ok(count)
}

#[syscall(tee)]
fn sys_tee(input: Fd, output: Fd, len: usize, flags: u32) -> Result<usize> {
    if len == 0 {
        return Ok(0);
    }
    piped(splice::tee(&*file(input)?, &*file(output)?, len, flags))
}

#[syscall(vmsplice)]
fn sys_vmsplice(fd: Fd, iov: usize, count: usize, flags: u32) -> Result<usize> {
    let file = file(fd)?;
    let writes = file.mode().contains(vfs::file::FileMode::WRITE);
    let direction = if writes { Direction::Source } else { Direction::Dest };
    piped(splice::vmsplice(&file, &mut import_iovec(direction, iov, count)?, flags))
}

#[syscall(sendfile)]
fn sys_sendfile(output: Fd, input: Fd, offset: UserPtr<i64>, count: usize) -> Result<usize> {
    let (output, input) = (file(output)?, file(input)?);
    let from = offset.read_opt()?;
    let (count, pos) = piped(splice::sendfile(&output, &input, from, count))?;
    count_copy(count);
    put_offset(offset, from, pos)?;
    Ok(count)
}

#[syscall(copy_file_range)]
fn sys_copy_file_range(
    input: Fd,
    in_offset: UserPtr<i64>,
    output: Fd,
    out_offset: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    let (input, output) = (file(input)?, file(output)?);
    let (from, to) = (in_offset.read_opt()?, out_offset.read_opt()?);
    let (count, pos_in, pos_out) = splice::copy_file_range(&input, from, &output, to, len, flags)?;
    count_copy(count);
    put_offset(in_offset, from, pos_in)?;
    put_offset(out_offset, to, pos_out)?;
    Ok(count)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[PIPE2, PIPE, SPLICE, TEE, VMSPLICE, SENDFILE, COPY_FILE_RANGE];
