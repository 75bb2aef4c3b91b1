//! Mounts by descriptor: `fsopen(2)`, `fsconfig(2)`, `fspick(2)`, `fsmount(2)`, `open_tree(2)`, `move_mount(2)`,
//! `mount_setattr(2)`.

use alloc::vec::Vec;

use abi::fs::MountAttr;
use abi::{Errno, Result, raw};
use arch::addr::PAGE_SIZE;
use macros::syscall;
use mm::user::{UserPtr, UserSlice, UserStr, copy_struct_from_user};
use vfs::fdtable::Fd;
use vfs::fs_context::{Sharing, Value, file as contexts};
use vfs::mount::attr::{self, Change, Depth};
use vfs::mount::moving::{self, Side};
use vfs::mount::tree::CopyWhat;
use vfs::mount::{detached, may_mount};
use vfs::namei::{At, LookupFlags, OpenArgs, open_path, path_lookup};
use vfs::path::LookupContext;

use super::context::{Caller, DirFd, at, fd_flags, file, file_raw, files, install, nofile};
use crate::syscall::Syscall;

/// Longest name and text value of a parameter, with the NUL.
const PARAM_MAX: usize = 256;
/// Most bytes of a binary value.
const BLOB_MAX: usize = 1024 * 1024;

fn require_mount_rights() -> Result<Caller> {
    let caller = Caller::current()?;
    if may_mount(&caller.ctx()) { Ok(caller) } else { Err(Errno::EPERM) }
}

#[syscall(fsopen)]
fn sys_fsopen(name: UserStr, flags: u32) -> Result<Fd> {
    let caller = require_mount_rights()?;
    if flags & !raw::FSOPEN_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let name = name.read(PAGE_SIZE, Errno::EINVAL)?;
    install(contexts::fsopen(&caller.ctx(), &name)?, flags & raw::FSOPEN_CLOEXEC != 0)
}

#[syscall(fspick)]
fn sys_fspick(dirfd: DirFd, name: UserStr, flags: u32) -> Result<Fd> {
    const KNOWN: u32 = raw::FSPICK_CLOEXEC
        | raw::FSPICK_SYMLINK_NOFOLLOW
        | raw::FSPICK_NO_AUTOMOUNT
        | raw::FSPICK_EMPTY_PATH;
    require_mount_rights()?;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & raw::FSPICK_SYMLINK_NOFOLLOW == 0);
    lookup.set(LookupFlags::NO_AUTOMOUNT, flags & raw::FSPICK_NO_AUTOMOUNT != 0);
    lookup.set(LookupFlags::EMPTY, flags & raw::FSPICK_EMPTY_PATH != 0);
    let name = name.read_path()?;
    let file = at(dirfd, &name, |ctx, at| contexts::fspick(ctx, at, &name, lookup))?;
    install(file, flags & raw::FSPICK_CLOEXEC != 0)
}

/// Which arguments a command of `fsconfig(2)` has.
fn check_arguments(command: u32, key: usize, value: usize, aux: i32) -> Result<()> {
    use raw::fsconfig_command as c;
    let (key, value) = (key != 0, value != 0);
    let fits = match command {
        _ if command == c::FSCONFIG_SET_FLAG as u32 => key && !value && aux == 0,
        _ if command == c::FSCONFIG_SET_STRING as u32 => key && value && aux == 0,
        _ if command == c::FSCONFIG_SET_BINARY as u32 => key && value && aux > 0 && aux as usize <= BLOB_MAX,
        _ if command == c::FSCONFIG_SET_PATH as u32 || command == c::FSCONFIG_SET_PATH_EMPTY as u32 => {
            key && value && (aux == raw::AT_FDCWD || aux >= 0)
        }
        _ if command == c::FSCONFIG_SET_FD as u32 => key && !value && aux >= 0,
        _ if (c::FSCONFIG_CMD_CREATE as u32..=c::FSCONFIG_CMD_CREATE_EXCL as u32).contains(&command) => {
            !key && !value && aux == 0
        }
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Reads the value that a command of `fsconfig(2)` comes with.
fn read_value(command: u32, value: usize, aux: i32) -> Result<Value> {
    use raw::fsconfig_command as c;
    if command == c::FSCONFIG_SET_FLAG as u32 {
        return Ok(Value::Flag);
    }
    if command == c::FSCONFIG_SET_STRING as u32 {
        return Ok(Value::Text(UserStr::new(value).read(PARAM_MAX, Errno::EINVAL)?));
    }
    if command == c::FSCONFIG_SET_BINARY as u32 {
        return Ok(Value::Blob(UserSlice::<u8>::new(value, aux as usize).to_vec()?));
    }
    if command == c::FSCONFIG_SET_FD as u32 {
        return Ok(Value::File(file_raw(Fd(aux as u32))?));
    }
    let name = UserStr::new(value).read_path()?;
    if name.is_empty() && command != c::FSCONFIG_SET_PATH_EMPTY as u32 {
        return Err(Errno::ENOENT);
    }
    Ok(Value::Path { dirfd: aux, name })
}

#[syscall(fsconfig)]
fn sys_fsconfig(fd: i32, command: u32, key: UserStr, value: usize, aux: i32) -> Result<()> {
    use raw::fsconfig_command as c;
    let fd = Fd::from_raw(fd).map_err(|_| Errno::EINVAL)?;
    check_arguments(command, key.addr(), value, aux)?;
    let caller = Caller::current()?;
    let context = file(fd)?;
    let textual = command <= c::FSCONFIG_SET_STRING as u32
        || command == c::FSCONFIG_CMD_CREATE as u32
        || command == c::FSCONFIG_CMD_RECONFIGURE as u32;
    if !contexts::is_modern(&context)? && !textual {
        return Err(Errno::EOPNOTSUPP);
    }
    if key.addr() != 0 {
        let key: Vec<u8> = key.read(PARAM_MAX, Errno::EINVAL)?;
        let value = read_value(command, value, aux)?;
        return contexts::fsconfig(&caller.ctx(), &context, contexts::Command::Set(&key, value));
    }
    let command = if command == c::FSCONFIG_CMD_CREATE as u32 {
        contexts::Command::Create(Sharing::Allowed)
    } else if command == c::FSCONFIG_CMD_CREATE_EXCL as u32 {
        contexts::Command::Create(Sharing::Exclusive)
    } else {
        contexts::Command::Reconfigure
    };
    contexts::fsconfig(&caller.ctx(), &context, command)
}

#[syscall(fsmount)]
fn sys_fsmount(fd: Fd, flags: u32, attributes: u32) -> Result<Fd> {
    let caller = require_mount_rights()?;
    if flags & !raw::FSMOUNT_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let mnt_flags = attr::from_attributes(u64::from(attributes))?;
    let context = file(fd)?;
    let mount = contexts::fsmount(&caller.ctx(), &context, mnt_flags)?;
    install(mount, flags & raw::FSMOUNT_CLOEXEC != 0)
}

#[syscall(open_tree)]
fn sys_open_tree(dirfd: DirFd, name: UserStr, flags: u32) -> Result<Fd> {
    const KNOWN: u32 = raw::AT_EMPTY_PATH
        | raw::AT_NO_AUTOMOUNT
        | raw::AT_RECURSIVE
        | raw::AT_SYMLINK_NOFOLLOW
        | raw::OPEN_TREE_CLONE
        | raw::OPEN_TREE_CLOEXEC;
    let clones = flags & raw::OPEN_TREE_CLONE != 0;
    let recursive = flags & raw::AT_RECURSIVE != 0;
    if flags & !KNOWN != 0 || recursive && !clones {
        return Err(Errno::EINVAL);
    }
    if clones {
        require_mount_rights()?;
    }
    let table = files()?;
    let slot = table.reserve(nofile(), fd_flags(flags & raw::OPEN_TREE_CLOEXEC != 0))?;
    let name = name.read_path()?;
    let file = at(dirfd, &name, |ctx, at| {
        let path = path_lookup(ctx, at, &name, LookupFlags::from_at(flags))?;
        match (clones, recursive) {
            (false, _) => open_path(ctx, path, &OpenArgs::from_open(raw::O_PATH, 0)?),
            (true, false) => detached::open_copy(ctx, &path, CopyWhat::One),
            (true, true) => detached::open_copy(ctx, &path, CopyWhat::Tree),
        }
    })?;
    Ok(slot.install(file))
}

/// How to resolve one of the two names of `move_mount(2)`, from the bits for links, automounts and the empty name.
fn lookup_of(flags: u32, [links, automounts, empty]: [u32; 3]) -> LookupFlags {
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & links != 0);
    lookup.set(LookupFlags::NO_AUTOMOUNT, flags & automounts == 0);
    lookup.set(LookupFlags::EMPTY, flags & empty != 0);
    lookup
}

#[syscall(move_mount)]
fn sys_move_mount(from_dir: DirFd, from: UserStr, to_dir: DirFd, to: UserStr, flags: u32) -> Result<()> {
    let caller = require_mount_rights()?;
    const EXCLUSIVE: u32 = raw::MOVE_MOUNT_BENEATH | raw::MOVE_MOUNT_SET_GROUP;
    if flags & !raw::MOVE_MOUNT__MASK != 0 || flags & EXCLUSIVE == EXCLUSIVE {
        return Err(Errno::EINVAL);
    }
    let from_lookup = lookup_of(
        flags,
        [raw::MOVE_MOUNT_F_SYMLINKS, raw::MOVE_MOUNT_F_AUTOMOUNTS, raw::MOVE_MOUNT_F_EMPTY_PATH],
    );
    let to_lookup = lookup_of(
        flags,
        [raw::MOVE_MOUNT_T_SYMLINKS, raw::MOVE_MOUNT_T_AUTOMOUNTS, raw::MOVE_MOUNT_T_EMPTY_PATH],
    );
    let find = |dirfd: DirFd, name: UserStr, lookup: LookupFlags| {
        let name = name.read_path()?;
        at(dirfd, &name, |ctx: &LookupContext<'_>, at: At<'_>| path_lookup(ctx, at, &name, lookup))
    };
    let from = find(from_dir, from, from_lookup)?;
    let to = find(to_dir, to, to_lookup)?;
    let ctx = caller.ctx();
    match flags & EXCLUSIVE {
        0 => moving::move_mount(&ctx, &from, &to, Side::Above),
        raw::MOVE_MOUNT_BENEATH => moving::move_mount(&ctx, &from, &to, Side::Beneath),
        _ => moving::set_group(&ctx, &from, &to),
    }
}

#[syscall(mount_setattr)]
fn sys_mount_setattr(
    dirfd: DirFd,
    name: UserStr,
    flags: u32,
    attr: UserPtr<MountAttr>,
    size: usize,
) -> Result<()> {
    const KNOWN: u32 =
        raw::AT_EMPTY_PATH | raw::AT_RECURSIVE | raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < raw::MOUNT_ATTR_SIZE_VER0 as usize {
        return Err(Errno::EINVAL);
    }
    require_mount_rights()?;
    let attr: MountAttr = copy_struct_from_user(attr, size)?;
    if attr.set == 0 && attr.clear == 0 && attr.propagation == 0 {
        return Ok(());
    }
    let change = Change::new(attr.set, attr.clear, attr.propagation)?;
    let depth = if flags & raw::AT_RECURSIVE != 0 { Depth::Tree } else { Depth::One };
    let name = name.read_path()?;
    at(dirfd, &name, |ctx, at| {
        let path = path_lookup(ctx, at, &name, LookupFlags::from_at(flags))?;
        attr::setattr(ctx, &path, &change, depth)
    })
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[FSOPEN, FSPICK, FSCONFIG, FSMOUNT, OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR];
