//! `prctl(PR_SET_MM)`: what the kernel says of where a program's parts lie, for programs that restore others.
//!
//! PR_SET_MM(2const).

use super::auxv;
use crate::cred::commit::permit;
use crate::exec::Exe;
use crate::process::{CurrentThread, Resource, current};
use abi::cap::Cap;
use abi::raw_sys::prctl as pr;
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::layout::TASK_SIZE;
use core::sync::atomic::{AtomicUsize, Ordering};
use mm::AddressSpace;
use mm::fallible::try_arc;
use mm::space::{Layout, mmap_min_addr};
use mm::user::UserPtr;
use vfs::fdtable::Fd;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct prctl_mm_map`
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Map {
    places: Places,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Addresses in the order of `struct prctl_mm_map`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Places {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
}

/// No file is named.
const NO_FD: u32 = u32::MAX;

impl Places {
    fn of(layout: &Layout) -> Self {
        let at = |place: &AtomicUsize| place.load(Ordering::Relaxed) as u64;
        Self {
            start_code: at(&layout.start_code),
            end_code: at(&layout.end_code),
            start_data: at(&layout.start_data),
            end_data: at(&layout.end_data),
            start_brk: at(&layout.start_brk),
            brk: at(&layout.brk),
            start_stack: at(&layout.start_stack),
            arg_start: at(&layout.arg_start),
            arg_end: at(&layout.arg_end),
            env_start: at(&layout.env_start),
            env_end: at(&layout.env_end),
        }
    }

    fn store(&self, layout: &Layout) {
        let pairs = [
            (&layout.start_code, self.start_code),
            (&layout.end_code, self.end_code),
            (&layout.start_data, self.start_data),
            (&layout.end_data, self.end_data),
            (&layout.start_brk, self.start_brk),
            (&layout.brk, self.brk),
            (&layout.start_stack, self.start_stack),
            (&layout.arg_start, self.arg_start),
            (&layout.arg_end, self.arg_end),
            (&layout.env_start, self.env_start),
            (&layout.env_end, self.env_end),
        ];
        for (place, value) in pairs {
            place.store(value as usize, Ordering::Relaxed);
        }
    }

    /// The place that an option names, and whether it must be mapped.
    fn place(&mut self, option: u32) -> Option<(&mut u64, bool)> {
        Some(match option {
            pr::PR_SET_MM_START_CODE => (&mut self.start_code, false),
            pr::PR_SET_MM_END_CODE => (&mut self.end_code, false),
            pr::PR_SET_MM_START_DATA => (&mut self.start_data, false),
            pr::PR_SET_MM_END_DATA => (&mut self.end_data, false),
            pr::PR_SET_MM_START_STACK => (&mut self.start_stack, true),
            pr::PR_SET_MM_START_BRK => (&mut self.start_brk, false),
            pr::PR_SET_MM_BRK => (&mut self.brk, false),
            pr::PR_SET_MM_ARG_START => (&mut self.arg_start, true),
            pr::PR_SET_MM_ARG_END => (&mut self.arg_end, true),
            pr::PR_SET_MM_ENV_START => (&mut self.env_start, true),
            pr::PR_SET_MM_ENV_END => (&mut self.env_end, true),
            _ => return None,
        })
    }

    /// Whether the places lie in user space and in order, and the data within `RLIMIT_DATA`.
    fn check(&self, data_limit: u64) -> Result<()> {
        let user = mmap_min_addr() as u64..TASK_SIZE as u64;
        let inside = [
            self.start_code,
            self.end_code,
            self.start_data,
            self.end_data,
            self.start_brk,
            self.brk,
            self.start_stack,
            self.arg_start,
            self.arg_end,
            self.env_start,
            self.env_end,
        ]
        .iter()
        .all(|place| user.contains(place));
        let ordered = self.start_code < self.end_code
            && self.start_data <= self.end_data
            && self.start_brk <= self.brk
            && self.arg_start <= self.arg_end
            && self.env_start <= self.env_end;
        // In order, so none of these is negative; in user space, so their sum is small.
        let fits = || self.brk - self.start_brk + (self.end_data - self.start_data) <= data_limit;
        if inside && ordered && fits() { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

fn data_limit(me: &CurrentThread) -> u64 {
    me.process.limits.cur(Resource::Data)
}

/// `prctl(PR_SET_MM, option, addr, arg4, arg5)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT`, and those of naming another program.
pub fn set(option: usize, addr: usize, arg4: usize, arg5: usize) -> Result<()> {
    let option = option as u32;
    let with_size = matches!(option, pr::PR_SET_MM_AUXV | pr::PR_SET_MM_MAP | pr::PR_SET_MM_MAP_SIZE);
    if arg5 != 0 || arg4 != 0 && !with_size {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let space = super::space()?;
    match option {
        pr::PR_SET_MM_MAP_SIZE => return UserPtr::<u32>::new(addr).write(&(size_of::<Map>() as u32)),
        pr::PR_SET_MM_MAP => return set_map(&me, &space, addr, arg4),
        _ => {}
    }
    permit(me.with_cred(|cred| cred.capable(Cap::SysResource)))?;
    match option {
        pr::PR_SET_MM_EXE_FILE => return set_exe(&me, &space, addr as i32),
        pr::PR_SET_MM_AUXV => return auxv::set(&space, addr, arg4),
        _ => {}
    }
    if addr >= TASK_SIZE || addr < mmap_min_addr() {
        return Err(Errno::EINVAL);
    }
    let mut places = Places::of(&space.layout);
    let (place, mapped) = places.place(option).ok_or(Errno::EINVAL)?;
    *place = addr as u64;
    places.check(data_limit(&me))?;
    if mapped {
        // In front of some area is enough.
        let mut found = false;
        space.for_each_area(addr, &mut |_| {
            found = true;
            false
        });
        if !found {
            return Err(Errno::EFAULT);
        }
    }
    places.store(&space.layout);
    Ok(())
}

/// `PR_SET_MM_MAP`: everything at once.
fn set_map(me: &CurrentThread, space: &Arc<AddressSpace>, addr: usize, size: usize) -> Result<()> {
    if size != size_of::<Map>() {
        return Err(Errno::EINVAL);
    }
    let map = UserPtr::<Map>::new(addr).read()?;
    map.places.check(data_limit(me))?;
    let auxv = match map.auxv_size {
        0 => None,
        _ if map.auxv == 0 => return Err(Errno::EINVAL),
        size => Some(try_arc(auxv::read(map.auxv as usize, size as usize)?)?),
    };
    if map.exe_fd != NO_FD {
        let allowed = |cap| me.with_cred(|cred| cred.ns_capable(&cred.user_ns, cap));
        permit(allowed(Cap::CheckpointRestore) || allowed(Cap::SysAdmin))?;
        set_exe(me, space, map.exe_fd as i32)?;
    }
    map.places.store(&space.layout);
    if let Some(auxv) = auxv {
        space.set_auxv(auxv);
    }
    Ok(())
}

/// `PR_SET_MM_EXE_FILE`: what `/proc/PID/exe` leads to. The old program must not be mapped any more.
fn set_exe(me: &CurrentThread, space: &AddressSpace, fd: i32) -> Result<()> {
    let file = crate::fs::context::file(Fd::from_raw(fd)?)?;
    let exe = Exe::of_open(&file)?;
    let old = me.process.exe.lock().clone();
    if let Some(old) = &old {
        let old = mm::vma::VmFile::id(&**old.file());
        let mut mapped = false;
        space.for_each_area(0, &mut |area| {
            mapped |= area.is_file() && area.file_id() == old;
            !mapped
        });
        if mapped {
            return Err(Errno::EBUSY);
        }
    }
    let replaced = me.process.exe.lock().replace(exe);
    drop(replaced);
    Ok(())
}
