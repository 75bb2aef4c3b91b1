//! Attributes: `stat(2)`, `statx(2)`, `statfs(2)`, `access(2)`, `chmod(2)`, `chown(2)`, `utimensat(2)`.

use abi::creds::{Gid, Uid};
use abi::fs::Statfs;
use abi::time::{Timespec, Timeval};
use abi::{Errno, Result, raw};
use arch::uapi::Stat;
use macros::syscall;
use mm::user::{UserPtr, UserStr};
use vfs::fdtable::Fd;
use vfs::namei::{At, LookupFlags, path_lookup};
use vfs::types::Kstat;
use vfs::{attr, namei, stat};

use super::context::{Caller, DirFd, at, file, file_raw, path};
use crate::process::current;
use crate::syscall::Syscall;

/// Owner and group as the caller's user namespace shows them.
fn ids(stat: &Kstat) -> (u32, u32) {
    current().with_cred(|cred| (cred.user_ns.from_uid(Uid(stat.uid)), cred.user_ns.from_gid(Gid(stat.gid))))
}

fn put(buf: usize, kstat: &Kstat) -> Result<()> {
    let (uid, gid) = ids(kstat);
    UserPtr::<Stat>::new(buf)
        .write(&arch::uapi::stat_from(kstat.to_x86_64(uid, gid), kstat.to_generic(uid, gid)))
}

/// Attributes of what `dirfd` and `name` say. An empty name is the descriptor itself, if flagged.
fn stat_at(dirfd: DirFd, name: UserStr, flags: u32, mask: u32) -> Result<Kstat> {
    stat_name(dirfd, &path(name)?, flags, mask)
}

fn stat_name(dirfd: DirFd, name: &[u8], flags: u32, mask: u32) -> Result<Kstat> {
    if name.is_empty() && flags & raw::AT_EMPTY_PATH != 0 && dirfd != DirFd::CWD {
        return stat::vfs_getattr(file_raw(Fd::from_raw(dirfd.0)?)?.path(), mask);
    }
    at(dirfd, name, |ctx, at| stat::stat(ctx, at, name, flags, mask))
}

#[syscall(newfstatat)]
fn sys_newfstatat(dirfd: DirFd, name: UserStr, buf: usize, flags: u32) -> Result<()> {
    const KNOWN: u32 = raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT | raw::AT_EMPTY_PATH;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    put(buf, &stat_at(dirfd, name, flags, raw::STATX_BASIC_STATS)?)
}

#[syscall(stat)]
fn sys_stat(name: UserStr, buf: usize) -> Result<()> {
    sys_newfstatat(DirFd::CWD, name, buf, 0)
}

#[syscall(lstat)]
fn sys_lstat(name: UserStr, buf: usize) -> Result<()> {
    sys_newfstatat(DirFd::CWD, name, buf, raw::AT_SYMLINK_NOFOLLOW)
}

#[syscall(fstat)]
fn sys_fstat(fd: Fd, buf: usize) -> Result<()> {
    put(buf, &stat::fstat(&*file_raw(fd)?)?)
}

/// Checks the flags of `statx(2)`.
fn check_statx(flags: u32, mask: u32) -> Result<()> {
    const SYNC: u32 = raw::AT_STATX_SYNC_TYPE;
    const KNOWN: u32 = raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT | raw::AT_EMPTY_PATH | SYNC;
    if mask & raw::STATX__RESERVED != 0 || flags & SYNC == SYNC || flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn put_statx(kstat: &Kstat, buf: usize) -> Result<()> {
    let (uid, gid) = ids(kstat);
    UserPtr::new(buf).write(&kstat.to_statx(uid, gid))
}

/// `statx(2)` with a name that was read already.
///
/// # Errors
/// Those of the call.
pub fn statx(dirfd: DirFd, name: &[u8], flags: u32, mask: u32, buf: usize) -> Result<()> {
    check_statx(flags, mask)?;
    put_statx(&stat_name(dirfd, name, flags, mask)?, buf)
}

#[syscall(statx)]
fn sys_statx(dirfd: DirFd, name: UserStr, flags: u32, mask: u32, buf: usize) -> Result<()> {
    check_statx(flags, mask)?;
    // Linux 6.11 takes a null name for an empty one here.
    let kstat = if name.addr() == 0 && flags & raw::AT_EMPTY_PATH != 0 && dirfd != DirFd::CWD {
        stat::vfs_getattr(file_raw(Fd::from_raw(dirfd.0)?)?.path(), mask)?
    } else {
        stat_at(dirfd, name, flags, mask)?
    };
    put_statx(&kstat, buf)
}

#[syscall(statfs)]
fn sys_statfs(name: UserStr, buf: usize) -> Result<()> {
    let name = path(name)?;
    let path = path_lookup(&Caller::current()?.ctx(), At::Cwd, &name, LookupFlags::FOLLOW)?;
    UserPtr::<Statfs>::new(buf).write(&stat::statfs(&path)?)
}

#[syscall(fstatfs)]
fn sys_fstatfs(fd: Fd, buf: usize) -> Result<()> {
    UserPtr::<Statfs>::new(buf).write(&stat::statfs(file_raw(fd)?.path())?)
}

#[syscall(faccessat2)]
fn sys_faccessat2(dirfd: DirFd, name: UserStr, mode: u32, flags: u32) -> Result<()> {
    let name = path(name)?;
    at(dirfd, &name, |ctx, at| namei::access(ctx, at, &name, mode, flags))
}

#[syscall(faccessat)]
fn sys_faccessat(dirfd: DirFd, name: UserStr, mode: u32) -> Result<()> {
    sys_faccessat2(dirfd, name, mode, 0)
}

#[syscall(access)]
fn sys_access(name: UserStr, mode: u32) -> Result<()> {
    sys_faccessat2(DirFd::CWD, name, mode, 0)
}

#[syscall(fchmodat2)]
fn sys_fchmodat2(dirfd: DirFd, name: UserStr, mode: u32, flags: u32) -> Result<()> {
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = path(name)?;
    at(dirfd, &name, |ctx, at| attr::chmod(ctx, at, &name, mode, flags))
}

#[syscall(fchmodat)]
fn sys_fchmodat(dirfd: DirFd, name: UserStr, mode: u32) -> Result<()> {
    sys_fchmodat2(dirfd, name, mode, 0)
}

#[syscall(chmod)]
fn sys_chmod(name: UserStr, mode: u32) -> Result<()> {
    sys_fchmodat2(DirFd::CWD, name, mode, 0)
}

#[syscall(fchmod)]
fn sys_fchmod(fd: Fd, mode: u32) -> Result<()> {
    let file = file(fd)?;
    attr::chmod_path(Caller::current()?.cred(), file.path(), mode)
}

/// An owner or group argument: -1 leaves it alone.
fn owner(uid: u32, gid: u32) -> Result<(Option<Uid>, Option<Gid>)> {
    current().with_cred(|cred| {
        let uid = match uid {
            u32::MAX => None,
            uid => Some(cred.user_ns.make_uid(uid).ok_or(Errno::EINVAL)?),
        };
        let gid = match gid {
            u32::MAX => None,
            gid => Some(cred.user_ns.make_gid(gid).ok_or(Errno::EINVAL)?),
        };
        Ok((uid, gid))
    })
}

#[syscall(fchownat)]
fn sys_fchownat(dirfd: DirFd, name: UserStr, uid: u32, gid: u32, flags: u32) -> Result<()> {
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = path(name)?;
    let (uid, gid) = owner(uid, gid)?;
    at(dirfd, &name, |ctx, at| attr::chown(ctx, at, &name, uid, gid, flags))
}

#[syscall(chown)]
fn sys_chown(name: UserStr, uid: u32, gid: u32) -> Result<()> {
    sys_fchownat(DirFd::CWD, name, uid, gid, 0)
}

#[syscall(lchown)]
fn sys_lchown(name: UserStr, uid: u32, gid: u32) -> Result<()> {
    sys_fchownat(DirFd::CWD, name, uid, gid, raw::AT_SYMLINK_NOFOLLOW)
}

#[syscall(fchown)]
fn sys_fchown(fd: Fd, uid: u32, gid: u32) -> Result<()> {
    let file = file(fd)?;
    let (uid, gid) = owner(uid, gid)?;
    attr::chown_path(Caller::current()?.cred(), file.path(), uid, gid)
}

/// Sets times by name; without a name, those of the open file itself.
fn utimes(dirfd: DirFd, name: UserStr, times: Option<[Timespec; 2]>, flags: u32) -> Result<()> {
    if name.addr() == 0 && dirfd != DirFd::CWD {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let file = file(Fd::from_raw(dirfd.0)?)?;
        return attr::utimes_path(Caller::current()?.cred(), file.path(), times);
    }
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = path(name)?;
    at(dirfd, &name, |ctx, at| attr::utimes(ctx, at, &name, times, flags))
}

#[syscall(utimensat)]
fn sys_utimensat(dirfd: DirFd, name: UserStr, times: usize, flags: u32) -> Result<()> {
    let times = UserPtr::<[Timespec; 2]>::new(times).read_opt()?;
    if times.is_some_and(|times| times.iter().all(|time| time.nsec == attr::UTIME_OMIT)) {
        return Ok(());
    }
    utimes(dirfd, name, times, flags)
}

#[syscall(futimesat)]
fn sys_futimesat(dirfd: DirFd, name: UserStr, times: usize) -> Result<()> {
    let times = UserPtr::<[Timeval; 2]>::new(times).read_opt()?;
    let times = match times {
        None => None,
        Some([a, m]) => Some([timespec(a)?, timespec(m)?]),
    };
    utimes(dirfd, name, times, 0)
}

fn timespec(time: Timeval) -> Result<Timespec> {
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EINVAL);
    }
    Ok(Timespec { sec: time.sec, nsec: time.usec * 1000 })
}

#[syscall(utimes)]
fn sys_utimes(name: UserStr, times: usize) -> Result<()> {
    sys_futimesat(DirFd::CWD, name, times)
}

#[syscall(utime)]
fn sys_utime(name: UserStr, times: usize) -> Result<()> {
    let times = UserPtr::<[i64; 2]>::new(times).read_opt()?;
    let times = times.map(|seconds| seconds.map(|sec| Timespec { sec, nsec: 0 }));
    utimes(DirFd::CWD, name, times, 0)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[
    NEWFSTATAT, STAT, LSTAT, FSTAT, STATX, STATFS, FSTATFS, FACCESSAT2, FACCESSAT, ACCESS, FCHMODAT2,
    FCHMODAT, CHMOD, FCHMOD, FCHOWNAT, CHOWN, LCHOWN, FCHOWN, UTIMENSAT, FUTIMESAT, UTIMES, UTIME,
];
