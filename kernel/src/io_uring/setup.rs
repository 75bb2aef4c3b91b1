//! `io_uring_setup(2)`.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use abi::cap::Cap;
use abi::creds::Gid;
use abi::io_uring::{Params, raw};
use abi::{Errno, Result, raw as uapi};
use mm::user::UserPtr;
use mm::{SharedRing, try_box};
use vfs::anon;
use vfs::fdtable::Fd;
use vfs::file::{File, FileImpl};

use super::layout::{Layout, MAX_CQ_ENTRIES, MAX_ENTRIES};
use super::ring::{Parts, Ring, RingFile};
use super::sqpoll::SqThread;
use super::task::TaskCtx;
use crate::fs::context::{file, files, nofile};
use crate::process::current;
use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[IO_URING_SETUP];

/// `kernel.io_uring_disabled`: 0 everybody, 1 the group and administrators, 2 nobody.
pub static DISABLED: AtomicU32 = AtomicU32::new(0);
/// `kernel.io_uring_group`: -1 is none.
pub static GROUP: AtomicI32 = AtomicI32::new(-1);

/// Flags of Linux 6.12.
const KNOWN: u32 = raw::IORING_SETUP_NO_SQARRAY | (raw::IORING_SETUP_NO_SQARRAY - 1);

/// What is there, truthfully.
const FEATURES: u32 = raw::IORING_FEAT_SINGLE_MMAP
    | raw::IORING_FEAT_NODROP
    | raw::IORING_FEAT_SUBMIT_STABLE
    | raw::IORING_FEAT_RW_CUR_POS
    | raw::IORING_FEAT_CUR_PERSONALITY
    | raw::IORING_FEAT_FAST_POLL
    | raw::IORING_FEAT_POLL_32BITS
    | raw::IORING_FEAT_SQPOLL_NONFIXED
    | raw::IORING_FEAT_EXT_ARG
    | raw::IORING_FEAT_NATIVE_WORKERS
    | raw::IORING_FEAT_RSRC_TAGS
    | raw::IORING_FEAT_CQE_SKIP
    | raw::IORING_FEAT_LINKED_FILE
    | raw::IORING_FEAT_REG_REG_RING
    | raw::IORING_FEAT_MIN_TIMEOUT;

fn check_allowed() -> Result<()> {
    let me = current();
    let disabled = DISABLED.load(Ordering::Relaxed);
    let admin = me.with_cred(|cred| cred.capable(Cap::SysAdmin));
    if disabled == 0 || disabled == 1 && admin {
        return Ok(());
    }
    let group = GROUP.load(Ordering::Relaxed);
    let member = disabled == 1 && group >= 0 && me.with_cred(|cred| cred.in_group(Gid(group as u32)));
    if member { Ok(()) } else { Err(Errno::EPERM) }
}

/// Sizes and combinations of flags.
fn layout(entries: u32, params: &Params) -> Result<Layout> {
    let has = |flag| params.flags & flag != 0;
    let clamp = has(raw::IORING_SETUP_CLAMP);
    let fit = |value: u32, max: u32| match value {
        0 => Err(Errno::EINVAL),
        value if value <= max => Ok(value),
        _ if clamp => Ok(max),
        _ => Err(Errno::EINVAL),
    };
    let sq = fit(entries, MAX_ENTRIES)?;
    if has(raw::IORING_SETUP_REGISTERED_FD_ONLY) && !has(raw::IORING_SETUP_NO_MMAP) {
        return Err(Errno::EINVAL);
    }
    let sq = sq.next_power_of_two();
    let cq = if has(raw::IORING_SETUP_CQSIZE) {
        let cq = fit(params.cq_entries, MAX_CQ_ENTRIES)?.next_power_of_two();
        if cq < sq {
            return Err(Errno::EINVAL);
        }
        cq
    } else {
        2 * sq
    };
    let cooperative =
        raw::IORING_SETUP_COOP_TASKRUN | raw::IORING_SETUP_TASKRUN_FLAG | raw::IORING_SETUP_DEFER_TASKRUN;
    if has(raw::IORING_SETUP_SQPOLL) && has(cooperative)
        || has(raw::IORING_SETUP_TASKRUN_FLAG)
            && !has(raw::IORING_SETUP_COOP_TASKRUN | raw::IORING_SETUP_DEFER_TASKRUN)
        || has(raw::IORING_SETUP_DEFER_TASKRUN) && !has(raw::IORING_SETUP_SINGLE_ISSUER)
    {
        return Err(Errno::EINVAL);
    }
    Ok(Layout::new(sq, cq, params.flags))
}

/// The rings in the user's memory: `NO_MMAP`.
fn user_memory(params: &Params, layout: &Layout) -> Result<(SharedRing, SharedRing)> {
    let mm = current().mm().ok_or(Errno::EFAULT)?;
    let pin = |addr: u64, len: usize| SharedRing::pin_user(&mm, addr as usize, len);
    let rings = pin(params.cq_off.user_addr, layout.rings_len)?;
    rings.zero();
    Ok((rings, pin(params.sq_off.user_addr, layout.sqes_len())?))
}

/// The ring whose thread (and, on Linux, workers) the new one shares.
fn attached(params: &Params) -> Result<Arc<File>> {
    let file = file(Fd(params.wq_fd)).map_err(|_| Errno::ENXIO)?;
    if Ring::is_ring(&file) { Ok(file) } else { Err(Errno::EINVAL) }
}

fn sq_thread(params: &Params) -> Result<Option<Arc<SqThread>>> {
    let attach = params.flags & raw::IORING_SETUP_ATTACH_WQ != 0;
    if params.flags & raw::IORING_SETUP_SQPOLL == 0 {
        if attach {
            attached(params)?;
        }
        // The CPU of a thread that is not there.
        return if params.flags & raw::IORING_SETUP_SQ_AFF != 0 { Err(Errno::EINVAL) } else { Ok(None) };
    }
    if attach {
        let file = attached(params)?;
        let other = Ring::of(&file)?;
        let thread = other.sq_thread.clone().ok_or(Errno::EINVAL)?;
        if thread.belongs_to(&current().process) && !thread.is_stopping() {
            return Ok(Some(thread));
        }
    }
    let cpu = (params.flags & raw::IORING_SETUP_SQ_AFF != 0).then_some(params.sq_thread_cpu);
    SqThread::start(params.sq_thread_idle, cpu).map(Some)
}

#[macros::syscall(io_uring_setup)]
fn sys_io_uring_setup(entries: u32, user: UserPtr<Params>) -> Result<i32> {
    check_allowed()?;
    let mut params = user.read()?;
    if params.resv != [0; 3] || params.flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let layout = layout(entries, &params)?;
    let (rings, sqes) = if params.flags & raw::IORING_SETUP_NO_MMAP != 0 {
        user_memory(&params, &layout)?
    } else {
        (SharedRing::alloc(layout.rings_len)?, SharedRing::alloc(layout.sqes_len())?)
    };
    let ctx = TaskCtx::current()?;
    let thread = sq_thread(&params)?;
    let cred = current().cred();
    let sq_thread = thread.clone();
    let made = Ring::new(Parts { setup: params.flags, layout, rings, sqes, sq_thread, cred })
        .and_then(|ring| ctx.join(&ring).and_then(|()| make_file(&ring)).map(|file| (ring, file)));
    let (ring, file) = match made {
        Ok(made) => made,
        Err(errno) => {
            if let Some(thread) = &thread {
                thread.remove(None);
            }
            return Err(errno);
        }
    };
    if let Some(thread) = &ring.sq_thread {
        thread.add(&ring, params.sq_thread_idle)?;
    }
    layout.describe(&mut params);
    params.features = FEATURES;
    user.write(&params)?;
    if params.flags & (raw::IORING_SETUP_SINGLE_ISSUER | raw::IORING_SETUP_R_DISABLED)
        == raw::IORING_SETUP_SINGLE_ISSUER
    {
        ring.set_submitter(&ctx);
    }
    if params.flags & raw::IORING_SETUP_REGISTERED_FD_ONLY != 0 {
        return super::register::ringfd::install(&ctx, file);
    }
    // The ring is closed on exec.
    Ok(files()?.install(file, nofile(), vfs::fdtable::FdFlags::CLOEXEC)?.raw())
}

fn make_file(ring: &Arc<Ring>) -> Result<Arc<File>> {
    let file = try_box(RingFile(ring.clone()))?;
    anon::anon_file(&current().cred(), "[io_uring]", FileImpl::Owned(file), uapi::O_RDWR)
}
