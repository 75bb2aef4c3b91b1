//! The ELF loader: from checked headers to a process that is ready to run.

use super::binfmt::{Exec, Loaded, Stage};
use super::elf::{self, EHDR_SIZE, Header, Kind, Plan, Segment};
use super::program::{read_at, read_exact_at};
use super::{Program, commit, stack};
use crate::process::{current, thread::flags};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use arch::layout::{ELF_ET_DYN_BASE, LEGACY_WITHOUT_STACK_LIMIT, MMAP_RND_BITS, TASK_SIZE};
use core::sync::atomic::{AtomicU32, Ordering};
use mm::AddressSpace;
use mm::fallible::try_vec;
use mm::mmap::{MmapRequest, StackKind};
use mm::space::Limits;
use vfs::file::File;

/// `personality(2)`: no randomisation.
pub const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
/// `personality(2)`: mappings are put upwards.
const ADDR_COMPAT_LAYOUT: u32 = 0x0020_0000;
/// `/proc/sys/kernel/randomize_va_space`: 0 off, 1 without the heap, 2 all.
pub static RANDOMIZE: AtomicU32 = AtomicU32::new(2);
/// `/proc/sys/vm/mmap_rnd_bits`: random bits, in pages, of where mappings begin.
pub static RND_BITS: AtomicU32 = AtomicU32::new(MMAP_RND_BITS);
/// `/proc/sys/vm/legacy_va_layout`: mappings are put upwards.
pub static LEGACY_LAYOUT: AtomicU32 = AtomicU32::new(0);

/// A file with its headers.
struct Image {
    file: Arc<File>,
    header: Header,
    plan: Plan,
}

impl Image {
    fn read(program: &Program) -> Result<Self> {
        let first = program.prefix.get(..program.prefix_len.min(EHDR_SIZE)).unwrap_or_default();
        let header = Header::parse(first, arch::elf::MACHINE)?;
        let file = program.file().clone();
        let mut table = try_vec(0, header.table_len())?;
        if read_at(&file, &mut table, header.phoff)? != table.len() {
            return Err(Errno::ENOEXEC);
        }
        let list = elf::parse_program_headers(&table)?;
        let plan = elf::plan(&header, &list, TASK_SIZE as u64)?;
        Ok(Self { file, header, plan })
    }

    /// The interpreter that the file asks for.
    fn interpreter(&self) -> Result<Option<Self>> {
        let Some((offset, len)) = self.plan.interp else { return Ok(None) };
        let mut name = try_vec(0, len)?;
        read_exact_at(&self.file, &mut name, offset)?;
        // The name must be a string that ends where the segment ends.
        if name.pop() != Some(0) {
            return Err(Errno::ENOEXEC);
        }
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        name.truncate(end);
        let program = Program::interpreter(&name)?;
        // A loader that is not for this machine is a broken program, not another format.
        let image = Self::read(&program).map_err(|e| if e == Errno::ENOEXEC { Errno::ELIBBAD } else { e })?;
        Ok(Some(image))
    }
}

/// Where an image was put.
struct Placed {
    /// What is added to the addresses in the file.
    bias: u64,
    entry: usize,
}

/// The name of the task, from the name that the user called: its last component. Of a script that is the script's.
fn task_name(called: &[u8]) -> &[u8] {
    called.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// Randomness for one exec.
struct Random {
    enabled: bool,
}

impl Random {
    fn new(personality: u32) -> Self {
        Self { enabled: personality & ADDR_NO_RANDOMIZE == 0 && RANDOMIZE.load(Ordering::Relaxed) != 0 }
    }

    /// A number below `count`, or 0 without randomisation.
    fn below(&self, count: usize) -> usize {
        if self.enabled && count > 1 { crate::misc::random::u64() as usize % count } else { 0 }
    }

    fn mmap_pages(&self) -> usize {
        self.below(1 << RND_BITS.load(Ordering::Relaxed))
    }
}

/// The entry of the format table.
///
/// # Errors
/// `ENOEXEC`: not an ELF program for this machine; others end the exec.
pub fn load_elf(exec: &mut Exec<'_>, program: &Program) -> Result<Loaded> {
    let image = Image::read(program)?;
    let interpreter = image.interpreter()?;
    let me = current();
    let guard = me.process.exec_guard.lock_killable().map_err(|_| Errno::ERESTARTNOINTR)?;
    let cred = crate::cred::exec::prepare(&me, program.file())?;
    let space = AddressSpace::new()?;
    if let Some(old) = me.mm() {
        space.inherit_flags(&old);
    }
    let limits = me.process.mm_limits();
    let personality = me.personality.load(Ordering::Relaxed) & !cred.clear_personality;
    let random = Random::new(personality);

    exec.stage = Stage::Committed;
    let secure = commit::commit(&me, &space, program, task_name(&exec.filename), cred)?;
    drop(guard);
    me.personality.store(personality, Ordering::Relaxed);
    me.shadow_stacks_locked.store(0, Ordering::Relaxed);
    me.clear(flags::FORKNOEXEC);

    let stack_top = set_up_stack(&space, &image, exec, &random, &limits)?;
    if is_legacy(personality, &limits) {
        space.set_legacy_layout(random.mmap_pages());
    }
    let placed = place_program(&space, &image, interpreter.is_some(), &random, &limits)?;
    let loader = match &interpreter {
        Some(image) => Some(place_anywhere(&space, image, &limits)?),
        None => None,
    };
    set_up_layout(&space, &image, &placed, interpreter.is_some(), &random);
    let vdso = stack::map_vdso(&space, &limits, random_hint(&random, stack_top))?;
    let entry = loader.as_ref().map_or(placed.entry, |l| l.entry);
    let aux = stack::Aux {
        phdr: if image.plan.phdr == 0 { 0 } else { image.plan.phdr.wrapping_add(placed.bias) as usize },
        phnum: image.header.phnum.into(),
        entry: placed.entry,
        base: loader.as_ref().map_or(0, |l| l.bias as usize),
        vdso,
        secure,
    };
    let sp = stack::write(&space, exec, &aux, stack_top)?;
    sched::current().with_thread(arch::thread::Thread::reset_for_exec);
    crate::syscall::user_dispatch::exec();
    let call = exec.frame.syscall_nr();
    exec.frame.set_user_entry(entry, sp);
    // A tracer sees at the call's end which one it was.
    exec.frame.set_syscall_nr(call);
    Ok(Loaded::Done)
}

/// Whether mappings are put upwards (`mmap_is_legacy`).
fn is_legacy(personality: u32, limits: &Limits) -> bool {
    personality & ADDR_COMPAT_LAYOUT != 0
        || LEGACY_LAYOUT.load(Ordering::Relaxed) != 0
        || LEGACY_WITHOUT_STACK_LIMIT && limits.stack == usize::MAX
}

fn random_hint(random: &Random, stack_top: usize) -> usize {
    // Behind the stack, where nothing else goes; a hint only.
    let room = TASK_SIZE.saturating_sub(stack_top) / PAGE_SIZE;
    if room > 64 { stack_top + random.below(room - 32) * PAGE_SIZE } else { 0 }
}

fn set_up_stack(
    space: &AddressSpace,
    image: &Image,
    exec: &Exec<'_>,
    random: &Random,
    limits: &Limits,
) -> Result<usize> {
    let shift = random.below(arch::layout::STACK_RND_PAGES + 1) * PAGE_SIZE;
    let top = (arch::layout::STACK_TOP - shift) & !(PAGE_SIZE - 1);
    space.set_mmap_base(limits.stack, arch::layout::STACK_RND_PAGES * PAGE_SIZE, random.mmap_pages());
    let mut prot = raw::PROT_READ | raw::PROT_WRITE;
    if image.plan.stack == elf::StackExec::Enabled {
        prot |= raw::PROT_EXEC;
    }
    let need = exec.vectors.args_len() + exec.vectors.envp.len() + exec.filename.len();
    let size = stack::initial_size(need, exec.vectors.argc() + exec.vectors.envp.count());
    space.map_anonymous(top - size..top, prot, StackKind::GrowsDown, limits)?;
    Ok(top)
}

fn place_program(
    space: &AddressSpace,
    image: &Image,
    has_loader: bool,
    random: &Random,
    limits: &Limits,
) -> Result<Placed> {
    if image.header.kind == Kind::Fixed {
        return place_at(space, image, 0, limits);
    }
    if !has_loader {
        // A static position-independent program, or a loader run by hand: where a loader would be.
        return place_anywhere(space, image, limits);
    }
    let align = image.plan.align;
    let base = (ELF_ET_DYN_BASE + random.mmap_pages() * PAGE_SIZE) as u64 & !(align - 1);
    place_at(space, image, base.wrapping_sub(image.plan.start), limits)
}

/// Puts an image where there is room for it as a whole.
fn place_anywhere(space: &AddressSpace, image: &Image, limits: &Limits) -> Result<Placed> {
    if image.header.kind == Kind::Fixed {
        return place_at(space, image, 0, limits);
    }
    let span = image.plan.span();
    let align = image.plan.align;
    let padded = span.checked_add(align - PAGE_SIZE as u64).ok_or(Errno::ENOMEM)?;
    let request = MmapRequest {
        addr: 0,
        len: usize::try_from(padded).map_err(|_| Errno::ENOMEM)?,
        prot: raw::PROT_NONE,
        flags: raw::MAP_PRIVATE | raw::MAP_ANONYMOUS | raw::MAP_NORESERVE,
        file: None,
        offset: 0,
        limits,
    };
    // Reserve the span, so that nothing else gets between the segments, then give it back.
    let addr = space.mmap(&request)?;
    space.munmap(addr, request.len)?;
    let base = (addr as u64).next_multiple_of(align);
    place_at(space, image, base.wrapping_sub(image.plan.start), limits)
}

fn place_at(space: &AddressSpace, image: &Image, bias: u64, limits: &Limits) -> Result<Placed> {
    for segment in &image.plan.segments {
        map_segment(space, image, segment, bias, limits)?;
    }
    let entry = image.header.entry.wrapping_add(bias) as usize;
    if entry >= TASK_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(Placed { bias, entry })
}

fn prot_of(segment: &Segment) -> u32 {
    let mut prot = raw::PROT_NONE;
    if segment.read {
        prot |= raw::PROT_READ;
    }
    if segment.write {
        prot |= raw::PROT_WRITE;
    }
    if segment.exec {
        prot |= raw::PROT_EXEC;
    }
    prot
}

/// The user address of `at` in an image placed with `bias`.
fn address(at: u64, bias: u64) -> Result<usize> {
    let addr = at.wrapping_add(bias) as usize;
    if addr > TASK_SIZE { Err(Errno::EINVAL) } else { Ok(addr) }
}

fn map_segment(
    space: &AddressSpace,
    image: &Image,
    segment: &Segment,
    bias: u64,
    limits: &Limits,
) -> Result<()> {
    let start = address(segment.start, bias)?;
    if segment.file_len != 0 {
        let request = MmapRequest {
            addr: start,
            len: segment.file_len as usize,
            prot: prot_of(segment),
            flags: raw::MAP_PRIVATE | raw::MAP_FIXED,
            file: Some(image.file.clone()),
            offset: segment.file_offset,
            limits,
        };
        if space.mmap(&request)? != start {
            return Err(Errno::ENOMEM);
        }
    }
    if segment.mem_end <= segment.file_end {
        return Ok(());
    }
    // What the file does not give is zero: the rest of its last page, then pages of their own.
    let zero_from = address(segment.file_end, bias)?;
    let page_end = address(segment.mapped_end(), bias)?;
    let end = address(segment.mem_end, bias)?;
    if segment.file_len != 0 && segment.write && page_end > zero_from {
        mm::user::clear_user(zero_from, page_end.min(end.next_multiple_of(PAGE_SIZE)) - zero_from)?;
    }
    let bss_end = end.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
    if bss_end > page_end {
        // Overlapping segments replace one another, as a fixed mapping does. Like the heap, these pages are writable
        // and count as promised memory whatever the segment says.
        let exec = if segment.exec { raw::PROT_EXEC } else { raw::PROT_NONE };
        let request = MmapRequest {
            addr: page_end,
            len: bss_end - page_end,
            prot: raw::PROT_READ | raw::PROT_WRITE | exec,
            flags: raw::MAP_PRIVATE | raw::MAP_FIXED | raw::MAP_ANONYMOUS,
            file: None,
            offset: 0,
            limits,
        };
        space.mmap(&request)?;
    }
    Ok(())
}

/// Bytes by which the heap's start varies.
const BRK_RANDOM: usize = 0x0200_0000;

fn set_up_layout(space: &AddressSpace, image: &Image, placed: &Placed, has_loader: bool, random: &Random) {
    let at = |x: u64| x.wrapping_add(placed.bias) as usize;
    let layout = &space.layout;
    let set = |field: &core::sync::atomic::AtomicUsize, value| field.store(value, Ordering::Relaxed);
    set(&layout.start_code, at(image.plan.code.0));
    set(&layout.end_code, at(image.plan.code.1));
    set(&layout.start_data, at(image.plan.data.0));
    set(&layout.end_data, at(image.plan.data.1));
    let mut brk = at(image.plan.brk()).next_multiple_of(PAGE_SIZE);
    if image.header.kind == Kind::Dynamic && !has_loader && random.enabled {
        // A static position-independent program lies among the mappings: its heap gets room of its own.
        brk = ELF_ET_DYN_BASE;
    }
    if RANDOMIZE.load(Ordering::Relaxed) > 1 {
        brk += random.below(BRK_RANDOM / PAGE_SIZE) * PAGE_SIZE;
    }
    set(&layout.start_brk, brk);
    set(&layout.brk, brk);
}
