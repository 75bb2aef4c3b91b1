//! `pagemap`: a word per page of a process's memory, and `PAGEMAP_SCAN`. `proc_pid_pagemap(5)`, `ioctl_pagemap_scan(2)`.

use abi::cap::Cap;
use abi::pagemap::{PAGEMAP_SCAN, PageRegion, PmScanArg};
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::layout::TASK_SIZE;
use mm::fallible::try_box;
use mm::pagemap::Frames;
use mm::pagemap::scan::{Category, Found, Request};
use mm::user::{UserPtr, access_ok};
use mm::{AddressSpace, IovIter};
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::{FileOps, IoFlags, Whence};
use zerocopy::IntoBytes;

use super::Subject;
use super::access::Mode;
use super::memory::{Opened, checked_space};

/// Words that are made at a time.
const CHUNK: usize = 64;
/// Regions that are collected before they are copied out.
const REGIONS: usize = 512;
/// `PM_SCAN_WP_MATCHING`.
const WP_MATCHING: u64 = 1;
/// `PM_SCAN_CHECK_WPASYNC`.
const CHECK_WPASYNC: u64 = 2;

/// An open `pagemap`.
struct PageMap(Opened);

impl FileOps for PageMap {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let Some(space) = self.0.space() else { return Ok(0) };
        if !(*pos).is_multiple_of(8) || iter.count() % 8 != 0 {
            return Err(Errno::EINVAL);
        }
        // It is the opener that counts: a descriptor may have been passed on.
        let shown = file.cred().capable(Cap::SysAdmin);
        let frames = if shown { Frames::Shown } else { Frames::Hidden };
        let mut words = [0u64; CHUNK];
        let mut done = 0;
        while !iter.is_empty() {
            let page = usize::try_from(*pos / 8).ok();
            let Some(addr) = page.and_then(|page| page.checked_mul(PAGE_SIZE)).filter(|at| *at < TASK_SIZE)
            else {
                break;
            };
            if sched::current().has_fatal_signal() {
                break;
            }
            let wanted = words.get_mut(..CHUNK.min(iter.count() / 8)).unwrap_or_default();
            let made = space.pagemap(addr, frames, wanted);
            let bytes = wanted.get(..made).unwrap_or_default().as_bytes();
            let copied = iter.copy_to_iter(bytes);
            done += copied;
            *pos += copied as u64;
            if copied < bytes.len() {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            sched::cond_resched();
        }
        Ok(done)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        vfs::rw::memory_llseek(file, offset, whence)
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            PAGEMAP_SCAN => scan(self.0.space().ok_or(Errno::EFAULT)?, UserPtr::new(arg)),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The checked argument of a scan.
struct Scan {
    range: core::ops::Range<usize>,
    request: Request,
    vec: UserPtr<PageRegion>,
    vec_len: usize,
}

fn check(arg: &PmScanArg) -> Result<Scan> {
    let categories = |bits: u64| Category::from_bits(bits).ok_or(Errno::EINVAL);
    if arg.size != size_of::<PmScanArg>() as u64 || arg.flags & !(WP_MATCHING | CHECK_WPASYNC) != 0 {
        return Err(Errno::EINVAL);
    }
    let request = Request {
        inverted: categories(arg.category_inverted)?,
        all: categories(arg.category_mask)?,
        any: categories(arg.category_anyof_mask)?,
        report: categories(arg.return_mask)?,
        protect: arg.flags & WP_MATCHING != 0,
        insist: arg.flags & CHECK_WPASYNC != 0,
        max_pages: if arg.max_pages == 0 { u64::MAX } else { arg.max_pages },
    };
    let (start, end) = (arg.start as usize, arg.end as usize);
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if !access_ok(start, end.wrapping_sub(start)) {
        return Err(Errno::EFAULT);
    }
    if arg.vec == 0 && arg.vec_len != 0 {
        return Err(Errno::EINVAL);
    }
    let vec_len = usize::try_from(arg.vec_len).map_err(|_| Errno::EINVAL)?;
    let bytes = vec_len.saturating_mul(size_of::<PageRegion>());
    if arg.vec != 0 && !access_ok(arg.vec as usize, bytes) {
        return Err(Errno::EFAULT);
    }
    let end = end.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EFAULT)?;
    Ok(Scan { range: start..end, request, vec: UserPtr::new(arg.vec as usize), vec_len })
}

fn scan(space: &AddressSpace, at: UserPtr<PmScanArg>) -> Result<isize> {
    let mut arg = at.read()?;
    let scan = check(&arg)?;
    let mut walk_end = scan.range.end;
    let copied = walk(space, &scan, &mut walk_end);
    arg.walk_end = walk_end as u64;
    // Told even if the walk failed.
    at.write(&arg)?;
    copied.map(|regions| regions as isize)
}

/// Walks the range; how many regions were copied out. `walk_end` is where it stopped.
fn walk(space: &AddressSpace, scan: &Scan, walk_end: &mut usize) -> Result<usize> {
    let reporting = scan.vec_len > 0;
    let mut found = Found::new(reporting.then(|| scan.vec_len.min(REGIONS)))?;
    let mut copied = 0;
    let mut from = scan.range.start;
    while from < scan.range.end {
        if sched::current().has_fatal_signal() {
            return Err(Errno::EINTR);
        }
        let stopped = space.scan_pages(from..scan.range.end, &scan.request, &mut found)?;
        for region in &found.regions {
            let region = PageRegion {
                start: region.start as u64,
                end: region.end as u64,
                categories: region.categories.bits(),
            };
            scan.vec.add(copied).write(&region)?;
            copied += 1;
        }
        let Some(stop) = stopped else { break };
        *walk_end = stop;
        let left = scan.vec_len - copied;
        if left == 0 || found.pages >= scan.request.max_pages {
            break;
        }
        found.clear(left);
        from = stop;
        *walk_end = scan.range.end;
    }
    Ok(copied)
}

/// Opens `pagemap`.
pub(super) fn open(subject: &Subject, _: &mut OpenFile<'_>) -> Result<FileImpl> {
    Ok(FileImpl::Owned(try_box(PageMap(Opened(checked_space(subject, Mode::Read)?)))?))
}
