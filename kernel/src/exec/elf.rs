//! The ELF headers of a program: parsing and checking, nothing else.
//!
//! All input comes from a file that its author controls, so nothing here trusts a field: each
//! offset and length is checked before use, and the result of [`Header::parse`] and
//! [`parse_program_headers`] is a plain value that [`plan`] turns into the list of mappings.
//! Mapping itself is in [`super::load`]. There is no I/O and no lock here; this file is tested on
//! the build machine with hostile input.
//!
//! Which error is given for which defect follows `load_elf_binary`: a file that is not for us is
//! `ENOEXEC` (another format may know it), a file that is for us and broken is `EINVAL`,
//! `ENOEXEC` or `ENOMEM`.
//!
//! Format: System V ABI chapter 5; elf(5).

use abi::{Errno, Result};
use alloc::vec::Vec;
use mm::OutOfMemory;
use mm::fallible::TryVec;

/// Length of an ELF64 file header.
pub const EHDR_SIZE: usize = 64;
/// Length of an ELF64 program header.
pub const PHDR_SIZE: usize = 56;
/// Largest program header table that is read: Linux's limit of 64 KiB.
pub const PHDR_TABLE_MAX: usize = 65536;

const PAGE_SIZE: u64 = 4096;
const PAGE_MASK: u64 = PAGE_SIZE - 1;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_PROPERTY: u32 = 0x6474_e553;
const PT_GNU_STACK: u32 = 0x6474_e551;

const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// How the file wants to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ET_EXEC`: at the addresses it names.
    Fixed,
    /// `ET_DYN`: anywhere (static-PIE, PIE, interpreter).
    Dynamic,
}

/// What the kernel uses of an ELF file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Fixed or position independent.
    pub kind: Kind,
    /// Entry point, before relocation.
    pub entry: u64,
    /// File offset of the program headers.
    pub phoff: u64,
    /// Number of program headers.
    pub phnum: u16,
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

impl Header {
    /// Parses the first bytes of a file; `machine` is the `e_machine` this kernel runs.
    ///
    /// # Errors
    /// `ENOEXEC` for everything that is not an ELF64 little-endian program of `machine`.
    pub fn parse(bytes: &[u8], machine: u16) -> Result<Self> {
        Self::read(bytes, machine).ok_or(Errno::ENOEXEC)
    }

    fn read(bytes: &[u8], machine: u16) -> Option<Self> {
        if bytes.get(..4)? != b"\x7fELF" || bytes.len() < EHDR_SIZE {
            return None;
        }
        let kind = match le16(bytes, 16)? {
            ET_EXEC => Kind::Fixed,
            ET_DYN => Kind::Dynamic,
            _ => return None,
        };
        if le16(bytes, 18)? != machine || le16(bytes, 54)? != PHDR_SIZE as u16 {
            return None;
        }
        let phnum = le16(bytes, 56)?;
        let size = usize::from(phnum) * PHDR_SIZE;
        if size == 0 || size > PHDR_TABLE_MAX {
            return None;
        }
        Some(Self { kind, entry: le64(bytes, 24)?, phoff: le64(bytes, 32)?, phnum })
    }

    /// Bytes in the program header table.
    pub fn table_len(&self) -> usize {
        usize::from(self.phnum) * PHDR_SIZE
    }
}

/// One program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ProgramHeader {
    /// `PT_*`.
    pub kind: u32,
    /// `PF_*`.
    pub flags: u32,
    /// Offset in the file.
    pub offset: u64,
    /// Address in memory.
    pub vaddr: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory.
    pub memsz: u64,
    /// Alignment.
    pub align: u64,
}

/// Reads the table; `bytes` is exactly [`Header::table_len`] long.
///
/// # Errors
/// `ENOEXEC` if `bytes` is short, `ENOMEM` if there is no memory for the list.
pub fn parse_program_headers(bytes: &[u8]) -> Result<Vec<ProgramHeader>> {
    let mut list = Vec::new();
    list.try_reserve_exact(bytes.len() / PHDR_SIZE).map_err(OutOfMemory::from)?;
    for entry in bytes.chunks_exact(PHDR_SIZE) {
        list.push_reserved(parse_one(entry).ok_or(Errno::ENOEXEC)?);
    }
    Ok(list)
}

fn parse_one(bytes: &[u8]) -> Option<ProgramHeader> {
    Some(ProgramHeader {
        kind: le32(bytes, 0)?,
        flags: le32(bytes, 4)?,
        offset: le64(bytes, 8)?,
        vaddr: le64(bytes, 16)?,
        filesz: le64(bytes, 32)?,
        memsz: le64(bytes, 40)?,
        align: le64(bytes, 48)?,
    })
}

/// What `PT_GNU_STACK` says about the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackExec {
    /// No such header: the architecture decides.
    Default,
    /// Not executable.
    Disabled,
    /// Executable.
    Enabled,
}

/// One `PT_LOAD`, checked and rounded to pages, relative to the load bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First page.
    pub start: u64,
    /// Bytes mapped from the file from `start`, rounded up to pages; 0 if the segment has no file part.
    pub file_len: u64,
    /// File offset of `start`.
    pub file_offset: u64,
    /// End of what the file gives (not rounded): bytes from here to the end of that page are cleared.
    pub file_end: u64,
    /// End in memory (not rounded).
    pub mem_end: u64,
    /// `PROT_READ`.
    pub read: bool,
    /// `PROT_WRITE`.
    pub write: bool,
    /// `PROT_EXEC`.
    pub exec: bool,
}

impl Segment {
    /// End of the file mapping, page aligned.
    pub fn mapped_end(&self) -> u64 {
        self.start.saturating_add(self.file_len)
    }
}

/// Where a program goes: the result of looking at all its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The segments in file order.
    pub segments: Vec<Segment>,
    /// Lowest page.
    pub start: u64,
    /// End of the highest segment, rounded up to a page.
    pub end: u64,
    /// Largest `p_align` that is a power of two (at least a page).
    pub align: u64,
    /// Offset and length of the interpreter's name in the file.
    pub interp: Option<(u64, usize)>,
    /// What the file asks for its stack.
    pub stack: StackExec,
    /// Offset and length of the `PT_GNU_PROPERTY` note.
    pub property: Option<(u64, u64)>,
    /// Address of the program headers in memory, before relocation; 0 when no segment holds them.
    pub phdr: u64,
    /// Bounds of code and data for `/proc/<pid>/stat` and `prctl(PR_SET_MM)`.
    pub code: (u64, u64),
    /// See `code`.
    pub data: (u64, u64),
}

/// Longest interpreter path: `PATH_MAX`.
const INTERP_MAX: u64 = 4096;

/// Checks the headers against each other and against `limit` (the size of the user address
/// space) and says what to map.
///
/// # Errors
/// `ENOEXEC`: bad `PT_INTERP`, no `PT_LOAD`; `EINVAL`: a segment that is outside the address space
/// or larger in the file than in memory, or whose offset and address differ within a page.
pub fn plan(header: &Header, list: &[ProgramHeader], limit: u64) -> Result<Plan> {
    let mut plan = Plan {
        segments: Vec::new(),
        start: u64::MAX,
        end: 0,
        align: PAGE_SIZE,
        interp: None,
        stack: StackExec::Default,
        property: None,
        phdr: 0,
        code: (u64::MAX, 0),
        data: (0, 0),
    };
    let loads = list.iter().filter(|p| p.kind == PT_LOAD).count();
    plan.segments.try_reserve_exact(loads).map_err(|_| Errno::ENOMEM)?;
    for ph in list {
        match ph.kind {
            PT_LOAD => plan.add(header, ph, limit)?,
            PT_INTERP if plan.interp.is_none() => {
                if ph.filesz < 2 || ph.filesz > INTERP_MAX {
                    return Err(Errno::ENOEXEC);
                }
                plan.interp = Some((ph.offset, ph.filesz as usize));
            }
            PT_GNU_STACK => {
                plan.stack = if ph.flags & PF_X != 0 { StackExec::Enabled } else { StackExec::Disabled };
            }
            PT_GNU_PROPERTY => plan.property = Some((ph.offset, ph.filesz)),
            _ => {}
        }
    }
    if plan.segments.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    Ok(plan)
}

impl Plan {
    fn add(&mut self, header: &Header, ph: &ProgramHeader, limit: u64) -> Result<()> {
        let end = ph.vaddr.checked_add(ph.memsz).ok_or(Errno::EINVAL)?;
        if ph.filesz > ph.memsz || ph.vaddr >= limit || end > limit - PAGE_SIZE {
            return Err(Errno::EINVAL);
        }
        let skew = ph.vaddr & PAGE_MASK;
        if ph.filesz != 0 && ph.offset & PAGE_MASK != skew {
            return Err(Errno::EINVAL);
        }
        let file_end = ph.vaddr + ph.filesz;
        let file_len = if ph.filesz == 0 { 0 } else { round_up(ph.filesz + skew) };
        let offset = if ph.filesz == 0 { 0 } else { ph.offset - skew };
        if offset.checked_add(file_len).is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::EINVAL);
        }
        if ph.align.is_power_of_two() && ph.align > self.align {
            self.align = ph.align.min(1 << 30);
        }
        let segment = Segment {
            start: ph.vaddr - skew,
            file_len,
            file_offset: offset,
            file_end,
            mem_end: end,
            read: ph.flags & PF_R != 0,
            write: ph.flags & PF_W != 0,
            exec: ph.flags & PF_X != 0,
        };
        self.start = self.start.min(segment.start);
        self.end = self.end.max(round_up(end));
        let holds = ph.offset..ph.offset.saturating_add(ph.filesz);
        if self.phdr == 0 && holds.contains(&header.phoff) {
            self.phdr = header.phoff - ph.offset + ph.vaddr;
        }
        if segment.exec {
            self.code.0 = self.code.0.min(ph.vaddr);
            self.code.1 = self.code.1.max(file_end);
        }
        self.data.0 = self.data.0.max(ph.vaddr);
        self.data.1 = self.data.1.max(file_end);
        self.segments.push_reserved(segment);
        Ok(())
    }

    /// Bytes from the first page to the end of the last.
    pub fn span(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// End of the highest segment, not rounded: where the heap begins.
    pub fn brk(&self) -> u64 {
        self.segments.iter().map(|s| s.mem_end).max().unwrap_or(0)
    }
}

/// Rounds up to a page. The callers have checked that `x` is below the user limit.
fn round_up(x: u64) -> u64 {
    x.saturating_add(PAGE_MASK) & !PAGE_MASK
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
