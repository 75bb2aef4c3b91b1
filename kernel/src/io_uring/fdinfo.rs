//! `/proc/PID/fdinfo/N` of a ring.

use core::fmt::{Result, Write};

use abi::io_uring::{Cqe, Sqe};

use super::layout::{CQ_HEAD, CQ_TAIL, SQ_HEAD, SQ_TAIL};
use super::ring::Ring;

/// Writes the lines.
pub fn show(ring: &Ring, out: &mut dyn Write) -> Result {
    let layout = &ring.layout;
    let word = |at| ring.rings.load(at);
    let (sq_head, sq_tail) = (word(SQ_HEAD), word(SQ_TAIL));
    let (cq_head, cq_tail) = (word(CQ_HEAD), word(CQ_TAIL));
    writeln!(out, "SqMask:\t0x{:x}", layout.sq_entries - 1)?;
    writeln!(out, "SqHead:\t{sq_head}\nSqTail:\t{sq_tail}\nCachedSqHead:\t{sq_head}")?;
    writeln!(out, "CqMask:\t0x{:x}", layout.cq_entries - 1)?;
    writeln!(out, "CqHead:\t{cq_head}\nCqTail:\t{cq_tail}\nCachedCqTail:\t{cq_tail}")?;
    let waiting = sq_tail.wrapping_sub(sq_head).min(layout.sq_entries);
    writeln!(out, "SQEs:\t{waiting}")?;
    for at in 0..waiting {
        let head = sq_head.wrapping_add(at);
        let index = layout.index(head).map_or(head & (layout.sq_entries - 1), word);
        if index >= layout.sq_entries {
            continue;
        }
        let Some(sqe) = ring.sqes.read::<Sqe>(layout.sqe(index)) else { continue };
        writeln!(
            out,
            "{index:5}: opcode:{}, fd:{}, flags:{:x}, off:{}, addr:0x{:x}, rw_flags:0x{:x}, buf_index:{} user_data:{}",
            sqe.opcode, sqe.fd, sqe.flags, sqe.off, sqe.addr, sqe.op_flags, sqe.buf_index, sqe.user_data
        )?;
    }
    let ready = cq_tail.wrapping_sub(cq_head).min(layout.cq_entries);
    writeln!(out, "CQEs:\t{ready}")?;
    for at in 0..ready {
        let at = cq_head.wrapping_add(at);
        let Some(cqe) = ring.rings.read::<Cqe>(layout.cqe(at)) else { continue };
        let slot = at & (layout.cq_entries - 1);
        writeln!(out, "{slot:5}: user_data:{}, res:{}, flag:{:x}", cqe.user_data, cqe.res, cqe.flags)?;
    }
    let (pid, cpu, work_ns) = match &ring.sq_thread {
        Some(thread) => thread.describe(),
        None => (-1, -1, 0),
    };
    writeln!(out, "SqThread:\t{pid}\nSqThreadCpu:\t{cpu}\nSqTotalTime:\t{}", work_ns / 1000)?;
    writeln!(out, "SqWorkTime:\t{}", work_ns / 1000)?;
    show_resources(ring, out)?;
    writeln!(out, "PollList:")?;
    let mut from = 0;
    while let Some(req) = ring.next_inflight(&mut from) {
        if req.place() == super::request::Place::Poll {
            let works = u8::from(!req.owner.work.is_empty());
            writeln!(out, "  op={}, task_works={works}", req.opcode)?;
        }
    }
    writeln!(out, "CqOverflowList:")?;
    let mut written = Ok(());
    ring.each_overflowed(&mut |cqe| {
        if written.is_ok() {
            let (data, res, flags) = (cqe.user_data, cqe.res, cqe.flags);
            written = writeln!(out, "  user_data={data}, res={res}, flags={flags:x}");
        }
    });
    written
}

fn show_resources(ring: &Ring, out: &mut dyn Write) -> Result {
    let mut written = Ok(());
    let files = ring.files.lock();
    writeln!(out, "UserFiles:\t{}", files.slots())?;
    files.each(&mut |index, file| {
        if written.is_ok() {
            written = writeln!(out, "{index:5}: {:?}", file.path());
        }
    });
    drop(files);
    written?;
    let mut written = Ok(());
    let buffers = ring.buffers.lock();
    writeln!(out, "UserBufs:\t{}", buffers.slots())?;
    buffers.each(&mut |index, buffer| {
        if written.is_ok() {
            written = match buffer {
                Some(buffer) => writeln!(out, "{index:5}: 0x{:x}/{}", buffer.addr, buffer.pages.len()),
                None => writeln!(out, "{index:5}: <none>"),
            };
        }
    });
    written
}
