//! File handles: `name_to_handle_at(2)`, `open_by_handle_at(2)`.

use abi::fs::FileHandle;
use abi::{Errno, Result, raw};
use macros::syscall;
use mm::user::{UserPtr, UserSlice, UserStr};
use vfs::export::{self, FidUse, MAX_HANDLE_SZ};
use vfs::fdtable::Fd;
use vfs::namei::{self, OpenArgs};

use super::context::{Caller, DirFd, at, fd_flags, file, files, nofile, path};
use crate::syscall::Syscall;

/// Where the identification begins in a handle.
const HEADER: usize = size_of::<FileHandle>();

#[syscall(name_to_handle_at)]
fn sys_name_to_handle_at(
    dirfd: DirFd,
    name: UserStr,
    handle: usize,
    mnt_id: usize,
    flags: u32,
) -> Result<()> {
    const KNOWN: u32 =
        raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH | raw::AT_HANDLE_FID | raw::AT_HANDLE_MNT_ID_UNIQUE;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let name = path(name)?;
    let found = at(dirfd, &name, |ctx, at| export::lookup(ctx, at, &name, flags))?;
    let purpose = if flags & raw::AT_HANDLE_FID != 0 { FidUse::Identity } else { FidUse::Decode };
    export::may_encode(found.mnt.sb(), purpose)?;
    let room = UserPtr::<FileHandle>::new(handle).read()?.handle_bytes as usize;
    if room > MAX_HANDLE_SZ {
        return Err(Errno::EINVAL);
    }
    let fid = export::encode(&**found.inode()?, Some(&found.dentry))?;
    // Whole words of the room count.
    let fits = fid.bytes() <= room & !3;
    if flags & raw::AT_HANDLE_MNT_ID_UNIQUE != 0 {
        UserPtr::<u64>::new(mnt_id).write(&found.mnt.unique_id())?;
    } else {
        UserPtr::<u32>::new(mnt_id).write(&found.mnt.id())?;
    }
    let kind = if fits { fid.kind } else { FILEID_INVALID };
    UserPtr::new(handle).write(&FileHandle { handle_bytes: fid.bytes() as u32, handle_type: kind })?;
    if !fits {
        return Err(Errno::EOVERFLOW);
    }
    UserSlice::<u32>::new(handle + HEADER, fid.words().len()).copy_from(fid.words())
}

/// The type that says that the room was too small.
const FILEID_INVALID: i32 = 0xff;

#[syscall(open_by_handle_at)]
fn sys_open_by_handle_at(mountdirfd: DirFd, handle: usize, flags: u32) -> Result<Fd> {
    let flags = flags | raw::O_LARGEFILE;
    let caller = Caller::current()?;
    let root = match mountdirfd {
        DirFd::CWD => caller.fs().cwd()?,
        DirFd(fd) => file(Fd::from_raw(fd)?)?.path().clone(),
    };
    let ctx = caller.ctx();
    export::may_decode(&ctx, &root, flags)?;
    let header = UserPtr::<FileHandle>::new(handle).read()?;
    let bytes = header.handle_bytes as usize;
    if bytes == 0 || bytes > MAX_HANDLE_SZ {
        return Err(Errno::EINVAL);
    }
    let mut raw_words = [0_u8; MAX_HANDLE_SZ];
    let part = raw_words.get_mut(..bytes).ok_or(Errno::EINVAL)?;
    UserSlice::<u8>::new(handle + HEADER, bytes).copy_to(part)?;
    let mut words = [0_u32; MAX_HANDLE_SZ / 4];
    for (word, bytes) in words.iter_mut().zip(raw_words.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    let words = words.get(..bytes / 4).unwrap_or_default();
    let found = export::decode(&ctx, &root, flags, header.handle_type, words)?;
    let files = files()?;
    let slot = files.reserve(nofile(), fd_flags(flags & raw::O_CLOEXEC != 0))?;
    Ok(slot.install(namei::open_found(&ctx, found, &OpenArgs::from_open(flags, 0)?)?))
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[NAME_TO_HANDLE_AT, OPEN_BY_HANDLE_AT];
