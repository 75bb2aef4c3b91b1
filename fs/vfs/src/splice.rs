//! Moving data between files without a detour through a user's memory: `sendfile(2)`, `splice(2)`, `tee(2)`,
//! `copy_file_range(2)`, `vmsplice(2)`.
//!
//! Page cache pages and pipe buffers move by reference; what has neither is copied through one page of the kernel's.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result, raw};
use arch::addr::PAGE_SIZE;
use mm::fallible::TryVec;
use mm::{Folio, Gfp, IovIter, Order};

use crate::file::{File, FileMode};
use crate::file_ops::IoFlags;
use crate::inode::InodeFlags;
use crate::notify;
use crate::pipe::{Pipe, PipeBuffer};
use crate::rw::{Access, io_flags, limit_write, read_at, read_part, write_at, write_part};

/// The most one call moves.
const MAX_COUNT: usize = 0x7fff_f000;

/// Position of one side: given by the caller, or the file's own.
fn side_pos(file: &File, given: Option<i64>, need: FileMode) -> Result<u64> {
    match given {
        Some(pos) => {
            if !file.mode().contains(need) {
                return Err(Errno::ESPIPE);
            }
            u64::try_from(pos).map_err(|_| Errno::EINVAL)
        }
        None => Ok(file.pos()),
    }
}

/// `sendfile(2)`: copies up to `count` bytes of `input` (from `offset`, or its position) to `output`.
/// Returns the bytes moved and the input position after them.
pub fn sendfile(
    output: &Arc<File>,
    input: &Arc<File>,
    offset: Option<i64>,
    count: usize,
) -> Result<(usize, u64)> {
    input.want_read()?;
    let mut pos_in = side_pos(input, offset, FileMode::PREAD)?;
    output.want_write()?;
    let count = count.min(MAX_COUNT);
    if output.flags() & raw::O_APPEND != 0 || count > 0 && !input.ops().can_splice(input) {
        return Err(Errno::EINVAL);
    }
    // What was read but cannot be written is lost, unless the input has a position to stay at or the output a buffer.
    if !input.mode().contains(FileMode::LSEEK) && pipe_of(output).is_none() {
        return Err(Errno::EINVAL);
    }
    let mut pos_out = output.pos();
    notify::may_read(input)?;
    let done = copy_loop(input, &mut pos_in, output, &mut pos_out, count)?;
    if offset.is_none() {
        input.set_pos(pos_in);
    }
    if !output.mode().contains(FileMode::STREAM) {
        output.set_pos(pos_out);
    }
    announce(input, output, done);
    Ok((done, pos_in))
}

/// Tells those who watch that data moved.
fn announce(input: &File, output: &File, done: usize) {
    if done > 0 {
        notify::on_file(input, notify::mask::ACCESS);
        notify::on_file(output, notify::mask::MODIFY);
    }
}

/// Copies through one page at a time. What was read but not written is not lost: the input position only
/// moves over what the output took.
fn copy_loop(
    input: &File,
    pos_in: &mut u64,
    output: &File,
    pos_out: &mut u64,
    count: usize,
) -> Result<usize> {
    let flags_in = io_flags(input, 0, Access::Read)?;
    let flags_out = io_flags(output, 0, Access::Write)?;
    let mut buffer = Vec::new();
    let chunk = count.min(16 * PAGE_SIZE);
    buffer.try_reserve_exact(chunk).map_err(|_| Errno::ENOMEM)?;
    buffer.try_resize(chunk, 0)?;
    let mut done = 0;
    while done < count {
        let want = chunk.min(count - done);
        let Some(part) = buffer.get_mut(..want) else { break };
        let mut at = *pos_in;
        let got = match read_part(input, &mut IovIter::dest(part), &mut at, flags_in) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        let mut written = 0;
        let mut failure = None;
        while written < got {
            let Some(rest) = buffer.get(written..got) else { break };
            match write_part(output, &mut IovIter::source(rest), pos_out, flags_out) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        *pos_in += written as u64;
        done += written;
        match failure {
            Some(error) if done == 0 => return Err(error),
            Some(_) => break,
            None if written < got => break,
            None => {}
        }
    }
    Ok(done)
}

/// Copies `count` bytes from `pos` on of one file to the same place of another, for the kernel itself: nobody hears of it. Less, if
/// the input ends before.
///
/// # Errors
/// Those of reading and writing; `ENOMEM`.
pub fn copy_contents(input: &File, output: &File, pos: u64, count: usize) -> Result<usize> {
    match input.ops().copy_file_range(input, pos, output, pos, count) {
        Err(Errno::EOPNOTSUPP | Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS) => {}
        other => return other,
    }
    let (mut pos_in, mut pos_out) = (pos, pos);
    copy_loop(input, &mut pos_in, output, &mut pos_out, count)
}

/// Limits `copy_file_range(2)` puts on its files.
fn check_copy_files(input: &File, output: &File) -> Result<()> {
    for file in [input, output] {
        if file.inode().is_dir() {
            return Err(Errno::EISDIR);
        }
        if !file.inode().is_regular() {
            return Err(Errno::EINVAL);
        }
    }
    if !input.mode().contains(FileMode::READ)
        || !output.mode().contains(FileMode::WRITE)
        || output.flags() & raw::O_APPEND != 0
    {
        return Err(Errno::EBADF);
    }
    if output.inode().flags().contains(InodeFlags::IMMUTABLE) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// `copy_file_range(2)`: returns the bytes copied and both positions after them.
pub fn copy_file_range(
    input: &Arc<File>,
    off_in: Option<i64>,
    output: &Arc<File>,
    off_out: Option<i64>,
    len: usize,
    flags: u32,
) -> Result<(usize, u64, u64)> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    check_copy_files(input, output)?;
    if !Arc::ptr_eq(input.inode().sb(), output.inode().sb()) {
        return Err(Errno::EXDEV);
    }
    let mut pos_in = side_pos(input, off_in, FileMode::PREAD)?;
    let mut pos_out = side_pos(output, off_out, FileMode::PWRITE)?;
    let size = input.inode().size();
    let len = (len as u64).min(size.saturating_sub(pos_in)).min(MAX_COUNT as u64) as usize;
    if Arc::ptr_eq(input.inode(), output.inode())
        && pos_in < pos_out.saturating_add(len as u64)
        && pos_out < pos_in.saturating_add(len as u64)
    {
        return Err(Errno::EINVAL);
    }
    pos_out.checked_add(len as u64).ok_or(Errno::EOVERFLOW)?;
    if len == 0 {
        return Ok((0, pos_in, pos_out));
    }
    let mut probe = IovIter::null(mm::iov::Direction::Source, len);
    limit_write(output, &mut probe, pos_out)?;
    let len = probe.count();
    notify::may_read(input)?;
    let done = match input.ops().copy_file_range(input, pos_in, output, pos_out, len) {
        Ok(done) => {
            pos_in += done as u64;
            pos_out += done as u64;
            done
        }
        Err(Errno::EOPNOTSUPP | Errno::EXDEV) => copy_loop(input, &mut pos_in, output, &mut pos_out, len)?,
        Err(error) => return Err(error),
    };
    if off_in.is_none() {
        input.set_pos(pos_in);
    }
    if off_out.is_none() {
        output.set_pos(pos_out);
    }
    announce(input, output, done);
    Ok((done, pos_in, pos_out))
}

/// Flags of `splice(2)`.
const SPLICE_ALL: u32 = raw::SPLICE_F_MOVE | raw::SPLICE_F_NONBLOCK | raw::SPLICE_F_MORE | raw::SPLICE_F_GIFT;

fn pipe_of(file: &File) -> Option<&Pipe> {
    file.private::<Pipe>()
}

/// `splice(2)`: at least one side is a pipe. Returns the bytes moved and the position of the other side.
pub fn splice(
    input: &Arc<File>,
    off_in: Option<i64>,
    output: &Arc<File>,
    off_out: Option<i64>,
    len: usize,
    flags: u32,
) -> Result<(usize, u64)> {
    if flags & !SPLICE_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok((0, 0));
    }
    let len = len.min(MAX_COUNT);
    input.want_read()?;
    output.want_write()?;
    let moved = splice_sides(input, off_in, output, off_out, len, flags)?;
    announce(input, output, moved.0);
    Ok(moved)
}

fn splice_sides(
    input: &Arc<File>,
    off_in: Option<i64>,
    output: &Arc<File>,
    off_out: Option<i64>,
    len: usize,
    flags: u32,
) -> Result<(usize, u64)> {
    let nonblock = |file: &File| flags & raw::SPLICE_F_NONBLOCK != 0 || file.nonblock();
    match (pipe_of(input), pipe_of(output)) {
        (Some(from), Some(to)) => {
            if off_in.is_some() || off_out.is_some() {
                return Err(Errno::ESPIPE);
            }
            if core::ptr::eq(from, to) {
                return Err(Errno::EINVAL);
            }
            let wait = nonblock(input) || nonblock(output);
            pipe_to_pipe(from, to, len, wait).map(|done| (done, 0))
        }
        (Some(from), None) => {
            if off_in.is_some() {
                return Err(Errno::ESPIPE);
            }
            if output.flags() & raw::O_APPEND != 0 {
                return Err(Errno::EINVAL);
            }
            let mut pos = side_pos(output, off_out, FileMode::PWRITE)?;
            let done = pipe_to_file(from, output, &mut pos, len, nonblock(input))?;
            if off_out.is_none() && !output.mode().contains(FileMode::STREAM) {
                output.set_pos(pos);
            }
            Ok((done, pos))
        }
        (None, Some(to)) => {
            if off_out.is_some() {
                return Err(Errno::ESPIPE);
            }
            let mut pos = side_pos(input, off_in, FileMode::PREAD)?;
            notify::may_read(input)?;
            let done = file_to_pipe(input, &mut pos, to, len, nonblock(output))?;
            if off_in.is_none() && !input.mode().contains(FileMode::STREAM) {
                input.set_pos(pos);
            }
            Ok((done, pos))
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

/// Moves buffers. Waits for the first only.
fn pipe_to_pipe(from: &Pipe, to: &Pipe, len: usize, nonblock: bool) -> Result<usize> {
    // Others may be faster than who has waited: nothing moved does not mean the end of the data.
    let mut done = 0;
    while done == 0 {
        if !from.wait_readable(nonblock)? {
            return Ok(0);
        }
        to.wait_writable(nonblock)?;
        while done < len {
            let Some(buffer) = from.pop(len - done) else { break };
            let count = buffer.len;
            if let Err(buffer) = to.push(buffer) {
                from.unpop(buffer);
                break;
            }
            done += count;
        }
    }
    Ok(done)
}

fn pipe_to_file(from: &Pipe, output: &File, pos: &mut u64, len: usize, nonblock: bool) -> Result<usize> {
    let flags = io_flags(output, 0, Access::Write)?;
    let mut done = 0;
    while done < len {
        if done == 0 && !from.wait_readable(nonblock)? {
            break;
        }
        let Some(buffer) = from.pop(len - done) else {
            if done == 0 {
                continue;
            }
            break;
        };
        match write_buffer(&buffer, output, pos, flags) {
            Ok(count) => {
                done += count;
                if count < buffer.len {
                    from.unpop(PipeBuffer {
                        offset: buffer.offset + count,
                        len: buffer.len - count,
                        ..buffer
                    });
                    break;
                }
            }
            Err(error) => {
                from.unpop(buffer);
                return if done > 0 { Ok(done) } else { Err(error) };
            }
        }
    }
    Ok(done)
}

fn write_buffer(buffer: &PipeBuffer, output: &File, pos: &mut u64, flags: IoFlags) -> Result<usize> {
    let mut bytes = [0u8; 512];
    let mut done = 0;
    while done < buffer.len {
        let now = (buffer.len - done).min(bytes.len());
        let Some(part) = bytes.get_mut(..now) else { break };
        buffer.page.copy_out(buffer.offset + done, part).map_err(|_| Errno::EIO)?;
        match write_part(output, &mut IovIter::source(part), pos, flags) {
            Ok(count) => {
                done += count;
                if count < now {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn file_to_pipe(input: &File, pos: &mut u64, to: &Pipe, len: usize, nonblock: bool) -> Result<usize> {
    let flags = io_flags(input, 0, Access::Read)?;
    let mut done = 0;
    while done < len {
        match to.wait_writable(nonblock || done > 0) {
            Ok(()) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        let buffer = match fill_buffer(input, *pos, len - done, flags) {
            Ok(Some(buffer)) => buffer,
            Ok(None) => break,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        let count = buffer.len;
        if to.push(buffer).is_err() {
            // Another writer took the slot; the data is still in the file.
            if input.mode().contains(FileMode::STREAM) {
                return Err(Errno::EIO);
            }
            continue;
        }
        *pos += count as u64;
        done += count;
        if input.mode().contains(FileMode::STREAM) {
            break;
        }
    }
    Ok(done)
}

/// Up to a page of the input: the page cache's own page where there is one.
fn fill_buffer(input: &File, pos: u64, len: usize, flags: IoFlags) -> Result<Option<PipeBuffer>> {
    let offset = (pos % PAGE_SIZE as u64) as usize;
    if input.inode().is_regular()
        && let Some(mapping) = input.mapping()
    {
        let size = mapping.size();
        if pos >= size {
            return Ok(None);
        }
        let want = len.min(PAGE_SIZE - offset).min(usize::try_from(size - pos).unwrap_or(usize::MAX));
        let page = match mapping.is_memory() {
            true => mapping.get(pos / PAGE_SIZE as u64),
            false => Some(mapping.read_page(pos / PAGE_SIZE as u64)?),
        };
        if let Some(page) = page {
            return Ok(Some(PipeBuffer { page, offset, len: want, packet: false, can_merge: false }));
        }
    }
    let page = Folio::alloc(Gfp::USER, Order::ZERO).map_err(|_| Errno::ENOMEM)?;
    let mut bytes = [0u8; 512];
    let mut at = pos;
    let mut filled = 0;
    while filled < len.min(PAGE_SIZE) {
        let now = (len.min(PAGE_SIZE) - filled).min(bytes.len());
        let Some(part) = bytes.get_mut(..now) else { break };
        let count = match read_part(input, &mut IovIter::dest(part), &mut at, flags) {
            Ok(count) => count,
            Err(error) if filled == 0 => return Err(error),
            Err(_) => break,
        };
        let Some(part) = bytes.get(..count) else { break };
        page.copy_in(filled, part).map_err(|_| Errno::EIO)?;
        filled += count;
        if count < now {
            break;
        }
    }
    if filled == 0 {
        return Ok(None);
    }
    Ok(Some(PipeBuffer { page, offset: 0, len: filled, packet: false, can_merge: false }))
}

/// `tee(2)`: copies references, consuming nothing.
pub fn tee(input: &File, output: &File, len: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    input.want_read()?;
    output.want_write()?;
    let (Some(from), Some(to)) = (pipe_of(input), pipe_of(output)) else { return Err(Errno::EINVAL) };
    if core::ptr::eq(from, to) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let nonblock = flags & raw::SPLICE_F_NONBLOCK != 0 || input.nonblock() || output.nonblock();
    let mut done = 0;
    while done == 0 {
        if !from.wait_readable(nonblock)? {
            return Ok(0);
        }
        to.wait_writable(nonblock)?;
        let mut index = 0;
        while done < len
            && let Some(buffer) = from.peek(index, len - done)
        {
            let count = buffer.len;
            if to.push(buffer).is_err() {
                break;
            }
            done += count;
            index += 1;
        }
    }
    Ok(done)
}

/// `vmsplice(2)`: from user memory into a pipe (copied), or from a pipe into user memory.
pub fn vmsplice(pipe: &Arc<File>, iter: &mut IovIter<'_>, flags: u32) -> Result<usize> {
    if flags & !SPLICE_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if pipe_of(pipe).is_none() {
        return Err(Errno::EBADF);
    }
    let io = if flags & raw::SPLICE_F_NONBLOCK != 0 { IoFlags::NOWAIT } else { IoFlags::empty() };
    match iter.direction() {
        mm::iov::Direction::Source => {
            pipe.want_write()?;
            write_at(pipe, iter, &mut 0, io)
        }
        mm::iov::Direction::Dest => {
            pipe.want_read()?;
            read_at(pipe, iter, &mut 0, io)
        }
    }
}
