//! Questions about mounts: `statmount(2)`, `listmount(2)`, and the requests of `ioctl(2)` that go from one mount namespace to
//! the next.

use alloc::sync::Arc;

use abi::cap::Cap;
use abi::fs::{MntIdReq, MntNsInfo, Statmount};
use abi::{Errno, Result, raw};
use arch::addr::PAGE_SIZE;
use macros::syscall;
use mm::user::{UserPtr, UserSlice, access_ok, copy_struct_from_user, copy_to_user};
use vfs::mount::MountNamespace;
use vfs::mount::namespace::Neighbour;
use vfs::mount::query::{self, LSMT_ROOT, Order, UNIQUE_ID_OFFSET};
use zerocopy::IntoBytes;

use super::context::{Caller, install};
use crate::namespaces::Namespace;
use crate::process::current;
use crate::syscall::Syscall;

/// Most ids of one call of `listmount(2)`.
const MAX_IDS: usize = 1_000_000;
/// Size of the first version of `struct mnt_id_req`.
const REQ_SIZE_VER0: usize = 24;
fn read_request(user: UserPtr<MntIdReq>) -> Result<MntIdReq> {
    let size = UserPtr::<u32>::new(user.addr()).read()? as usize;
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < REQ_SIZE_VER0 {
        return Err(Errno::EINVAL);
    }
    let request: MntIdReq = copy_struct_from_user(user, size)?;
    if request.spare != 0 || request.mnt_id <= UNIQUE_ID_OFFSET {
        return Err(Errno::EINVAL);
    }
    Ok(request)
}

#[syscall(statmount)]
fn sys_statmount(request: UserPtr<MntIdReq>, buf: usize, size: usize, flags: u32) -> Result<()> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let request = read_request(request)?;
    let caller = Caller::current()?;
    let ns = query::requested(&caller.ctx(), request.mnt_ns_id, Errno::EPERM)?;
    if !access_ok(buf, size) {
        return Err(Errno::EFAULT);
    }
    let fixed = size_of::<Statmount>();
    if request.param & query::STRINGS != 0 && size == fixed {
        return Err(Errno::EOVERFLOW);
    }
    let (mut st, strings) = query::statmount(&caller.ctx(), &ns, request.mnt_id, request.param)?;
    if !strings.is_empty() && fixed + strings.len() > size {
        return Err(Errno::EOVERFLOW);
    }
    let copied = size.min(fixed);
    st.size = (copied + strings.len()) as u32;
    if !strings.is_empty() {
        copy_to_user(buf + fixed, &strings)?;
    }
    copy_to_user(buf, st.as_bytes().get(..copied).unwrap_or_default())
}

#[syscall(listmount)]
fn sys_listmount(request: UserPtr<MntIdReq>, ids: usize, count: usize, flags: u32) -> Result<usize> {
    if flags & !raw::LISTMOUNT_REVERSE != 0 {
        return Err(Errno::EINVAL);
    }
    if count > MAX_IDS {
        return Err(Errno::EOVERFLOW);
    }
    if !access_ok(ids, count * size_of::<u64>()) {
        return Err(Errno::EFAULT);
    }
    let request = read_request(request)?;
    let last = request.param;
    if last != 0 && last <= UNIQUE_ID_OFFSET {
        return Err(Errno::EINVAL);
    }
    const { assert!(LSMT_ROOT > UNIQUE_ID_OFFSET) };
    let order = if flags & raw::LISTMOUNT_REVERSE != 0 { Order::Reverse } else { Order::Forward };
    let caller = Caller::current()?;
    let ns = query::requested(&caller.ctx(), request.mnt_ns_id, Errno::ENOENT)?;
    let found = query::listmount(&caller.ctx(), &ns, request.mnt_id, last, count, order)?;
    UserSlice::<u64>::new(ids, found.len()).copy_from(&found)?;
    Ok(found.len())
}

/// `NS_GET_MNTNS_ID`.
const NS_GET_MNTNS_ID: u32 = 0x8008_b705;
/// `NS_MNT_GET_INFO`, `NS_MNT_GET_NEXT`, `NS_MNT_GET_PREV`: the number without the size, which may grow.
const NS_MNT_GET_INFO: u32 = 0x8000_b70a;
const NS_MNT_GET_NEXT: u32 = 0x8000_b70b;
const NS_MNT_GET_PREV: u32 = 0x8000_b70c;
/// The bits of a request that hold the size of its argument.
const SIZE_BITS: u32 = 0x3fff_0000;

/// Requests on the descriptor of a namespace, as far as they are about mount namespaces.
///
/// # Errors
/// `ENOTTY` for other requests; `EINVAL` for another kind of namespace; `ENOENT` at the end of the list; `EPERM` if its
/// members are none of the caller's business.
pub fn mount_namespace_request(ns: &Namespace, cmd: u32, arg: usize) -> Result<isize> {
    let mount_ns = match ns {
        Namespace::Mnt(ns) => Ok(ns),
        _ => Err(Errno::EINVAL),
    };
    if cmd == NS_GET_MNTNS_ID {
        UserPtr::<u64>::new(arg).write(&mount_ns?.id())?;
        return Ok(0);
    }
    let size = ((cmd & SIZE_BITS) >> 16) as usize;
    let side = match cmd & !SIZE_BITS {
        NS_MNT_GET_INFO => None,
        NS_MNT_GET_NEXT => Some(Neighbour::Next),
        NS_MNT_GET_PREV => Some(Neighbour::Previous),
        _ => return Err(Errno::ENOTTY),
    };
    let mount_ns = mount_ns?;
    if side.is_none() {
        if arg == 0 || size < size_of::<MntNsInfo>() {
            return Err(Errno::EINVAL);
        }
        put_info(mount_ns, arg)?;
        return Ok(0);
    }
    if arg != 0 && size < size_of::<MntNsInfo>() {
        return Err(Errno::EINVAL);
    }
    let cred = current().cred();
    let may = |ns: &MountNamespace| cred.ns_capable(ns.user_ns(), Cap::SysAdmin);
    let found = side.and_then(|side| mount_ns.neighbour(side, may)).ok_or(Errno::ENOENT)?;
    if arg != 0 {
        put_info(&found, arg)?;
    }
    let file = crate::procfs::open_namespace(Namespace::Mnt(found))?;
    install(file, true).map(|fd| fd.raw() as isize)
}

fn put_info(ns: &Arc<MountNamespace>, arg: usize) -> Result<()> {
    let size = size_of::<MntNsInfo>() as u32;
    let nr_mounts = ns.mount_count() as u32;
    UserPtr::<MntNsInfo>::new(arg).write(&MntNsInfo { size, nr_mounts, mnt_ns_id: ns.id() })
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[STATMOUNT, LISTMOUNT];
