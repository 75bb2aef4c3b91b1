//! The ELF file: headers, notes, memory.

use super::areas::{self, Area};
use super::gather::{Dump, ThreadState};
use super::notes;
use super::sink::Sink;
use crate::process::CurrentThread;
use crate::signal::{Siginfo, Signal};
use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use mm::AddressSpace;
use mm::fallible::{try_vec, try_with_capacity};
use mm::remote::{RemoteBuf, RemoteMode};

const EHDR_SIZE: u64 = 64;
const PHDR_SIZE: u64 = 56;
const SHDR_SIZE: u64 = 64;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// More program headers than the ELF header can count: the first section header does.
const PN_XNUM: u64 = 0xffff;

/// Writes the dump of the running thread's process.
///
/// # Errors
/// Those of the sink before the first byte of memory: what comes then is cut off where it fails, and is a dump all the same.
pub fn write(me: &CurrentThread, signal: Signal, info: &Siginfo, dump: &Dump, sink: &mut Sink) -> Result<()> {
    let space = me.mm().ok_or(Errno::ESRCH)?;
    let areas = areas::list(me, &space)?;
    let own = ThreadState::of(me);
    let others = core::mem::take(&mut *dump.threads.lock());
    let notes = notes::build(me, &space, (signal, info), &own, &others, &areas)?;
    let headers = headers(&areas, notes.len())?;
    // From here on there is a dump, if an incomplete one.
    match body(&space, sink, &headers, &notes, &areas) {
        Err(errno) if sink.position() == 0 => Err(errno),
        _ => Ok(()),
    }
}

fn body(
    space: &AddressSpace,
    sink: &mut Sink,
    headers: &Headers,
    notes: &[u8],
    areas: &[Area],
) -> Result<()> {
    sink.emit(&headers.bytes)?;
    sink.emit(notes)?;
    sink.skip_to(headers.data)?;
    let mut page = try_vec(0, PAGE_SIZE)?;
    for area in areas {
        memory(space, sink, area, &mut page)?;
    }
    sink.finish()?;
    sink.emit(&headers.section)
}

/// The bytes of an area. Pages that are not there, or cannot be read, are holes.
fn memory(space: &AddressSpace, sink: &mut Sink, area: &Area, page: &mut [u8]) -> Result<()> {
    /// Pages that are looked at together.
    const RUN: usize = 64 * PAGE_SIZE;
    let end = area.range.start + area.size;
    let mut at = area.range.start;
    while at < end {
        let len = RUN.min(end - at);
        let mut resident = [true; RUN / PAGE_SIZE];
        if area.is_anonymous {
            let mut slots = resident.iter_mut();
            // An area that went away meanwhile has no pages.
            let _ = space.mincore(at, len, &mut |bytes| {
                bytes.iter().zip(&mut slots).for_each(|(byte, slot)| *slot = byte & 1 != 0);
                Ok(())
            });
        }
        for index in 0..len / PAGE_SIZE {
            let is_there = resident.get(index).copied().unwrap_or(false);
            let addr = at + index * PAGE_SIZE;
            let got = if is_there {
                space.access_remote(addr, RemoteBuf::Read(page), RemoteMode::Force)
            } else {
                0
            };
            if got == PAGE_SIZE {
                sink.emit(page)?;
            } else {
                sink.skip(PAGE_SIZE as u64)?;
            }
        }
        at += len;
    }
    Ok(())
}

/// Everything that is known before the first byte is written.
struct Headers {
    bytes: Vec<u8>,
    /// Where memory begins.
    data: u64,
    /// The section header that counts program headers, if it takes one.
    section: Vec<u8>,
}

fn headers(areas: &[Area], notes_len: usize) -> Result<Headers> {
    let count = areas.len() as u64 + 1;
    let notes_at = EHDR_SIZE + count * PHDR_SIZE;
    let data = (notes_at + notes_len as u64).next_multiple_of(PAGE_SIZE as u64);
    let end = areas.iter().fold(data, |at, area| at + area.size as u64);
    let many = count >= PN_XNUM;

    // Room for all that `put` puts there.
    let mut out = try_with_capacity(notes_at as usize)?;
    let mut put = |bytes: &[u8]| out.extend(bytes);
    // 64 bits, little endian, version 1.
    put(b"\x7fELF\x02\x01\x01");
    put(&[0; 9]);
    put(&ET_CORE.to_le_bytes());
    put(&arch::elf::MACHINE.to_le_bytes());
    put(&1_u32.to_le_bytes());
    put(&0_u64.to_le_bytes());
    put(&EHDR_SIZE.to_le_bytes());
    put(&(if many { end } else { 0 }).to_le_bytes());
    put(&0_u32.to_le_bytes());
    put(&(EHDR_SIZE as u16).to_le_bytes());
    put(&(PHDR_SIZE as u16).to_le_bytes());
    put(&(count.min(PN_XNUM) as u16).to_le_bytes());
    put(&(if many { SHDR_SIZE as u16 } else { 0 }).to_le_bytes());
    put(&u16::from(many).to_le_bytes());
    put(&0_u16.to_le_bytes());
    let mut program = |kind: u32, rights: u32, words: [u64; 6]| {
        put(&kind.to_le_bytes());
        put(&rights.to_le_bytes());
        words.iter().for_each(|word| put(&word.to_le_bytes()));
    };
    program(PT_NOTE, 0, [notes_at, 0, 0, notes_len as u64, 0, 4]);
    let mut at = data;
    for area in areas {
        let (start, size) = (area.range.start as u64, area.size as u64);
        program(PT_LOAD, area.rights, [at, start, 0, size, area.range.len() as u64, PAGE_SIZE as u64]);
        at += size;
    }
    let mut section = Vec::new();
    if many {
        section = try_vec(0, SHDR_SIZE as usize)?;
        // sh_size: the section headers; sh_info: the program headers.
        for (offset, value) in [(32, 1_u64), (44, count)] {
            if let Some(to) = section.get_mut(offset..offset + 8) {
                to.copy_from_slice(&value.to_le_bytes());
            }
        }
    }
    Ok(Headers { bytes: out, data, section })
}
