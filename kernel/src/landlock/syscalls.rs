//! landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2).

use super::ruleset::{self, Ruleset};
use super::{Domain, Handled, NET_RIGHTS, SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL};
use crate::fs::context::{file, file_raw, install};
use crate::process::current;
use crate::process::thread::flags;
use crate::syscall::{Fd, Syscall};
use abi::cap::Cap;
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use core::any::Any;
use mm::fallible::try_arc;
use mm::user::{UserPtr, copy_struct_from_user};
use vfs::cred::Credentials;
use vfs::fdtable::Fd as VfsFd;
use vfs::file::FileMode;
use vfs::security::{Rights, is_internal, is_internal_mount};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF];

/// The version of the interface.
const ABI: i32 = 6;
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const RULE_NET_PORT: u32 = 2;

/// `struct landlock_ruleset_attr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PathBeneathAttr {
    allowed_access: [u32; 2],
    parent_fd: i32,
}

/// `struct landlock_net_port_attr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct NetPortAttr {
    allowed_access: u64,
    port: u64,
}

#[macros::syscall(landlock_create_ruleset)]
fn sys_landlock_create_ruleset(attr: UserPtr<RulesetAttr>, size: usize, flags: u32) -> Result<i32> {
    if flags != 0 {
        let asks = flags == CREATE_RULESET_VERSION && attr.is_null() && size == 0;
        return if asks { Ok(ABI) } else { Err(Errno::EINVAL) };
    }
    if attr.is_null() {
        return Err(Errno::EFAULT);
    }
    // The first member has been there from the beginning.
    if size < size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let attr = copy_struct_from_user(attr, size)?;
    let files = u16::try_from(attr.handled_access_fs).map_err(|_| Errno::EINVAL)?;
    let files = Rights::from_bits(files).ok_or(Errno::EINVAL)?;
    let scopes = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
    if attr.handled_access_net & !u64::from(NET_RIGHTS) != 0 || attr.scoped & !u64::from(scopes) != 0 {
        return Err(Errno::EINVAL);
    }
    let handled = Handled { files, net: attr.handled_access_net as u16, scoped: attr.scoped as u8 };
    if handled == Handled::default() {
        return Err(Errno::ENOMSG);
    }
    Ok(install(ruleset::file(Ruleset::new(handled))?, true)?.raw())
}

fn ruleset_of(fd: i32, mode: FileMode) -> Result<Arc<Ruleset>> {
    ruleset::of(&*file(VfsFd::from_raw(fd)?)?, mode)
}

#[macros::syscall(landlock_add_rule)]
fn sys_landlock_add_rule(ruleset_fd: Fd, kind: u32, attr: usize, flags: u32) -> Result<()> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let ruleset = ruleset_of(ruleset_fd.0, FileMode::WRITE)?;
    match kind {
        RULE_PATH_BENEATH => add_path(&ruleset, UserPtr::new(attr)),
        RULE_NET_PORT => add_port(&ruleset, UserPtr::new(attr)),
        _ => Err(Errno::EINVAL),
    }
}

fn add_path(ruleset: &Ruleset, attr: UserPtr<PathBeneathAttr>) -> Result<()> {
    let attr = attr.read()?;
    let [low, high] = attr.allowed_access;
    if low == 0 && high == 0 {
        return Err(Errno::ENOMSG);
    }
    let rights = u16::try_from(low).ok().filter(|_| high == 0).ok_or(Errno::EINVAL)?;
    let rights = Rights::from_bits_retain(rights);
    let handled = ruleset.handled.files;
    if !handled.contains(rights) {
        return Err(Errno::EINVAL);
    }
    let parent = file_raw(VfsFd::from_raw(attr.parent_fd)?)?;
    let path = parent.path();
    // Only places that have a name.
    if ruleset::is_ruleset(&parent) || is_internal(&path.dentry) || is_internal_mount(path) {
        return Err(Errno::EBADFD);
    }
    let inode = path.inode().map_err(|_| Errno::EBADFD)?;
    if !inode.is_dir() && !Rights::FILE.contains(rights) {
        return Err(Errno::EINVAL);
    }
    // Moving to another directory is given by name only.
    ruleset.add_path(inode, rights | (Rights::all() - (handled | Rights::REFER)))
}

fn add_port(ruleset: &Ruleset, attr: UserPtr<NetPortAttr>) -> Result<()> {
    let attr = attr.read()?;
    if attr.allowed_access == 0 {
        return Err(Errno::ENOMSG);
    }
    let handled = ruleset.handled.net;
    if attr.allowed_access & !u64::from(handled) != 0 {
        return Err(Errno::EINVAL);
    }
    let port = u16::try_from(attr.port).map_err(|_| Errno::EINVAL)?;
    ruleset.add_port(port, attr.allowed_access as u16 | NET_RIGHTS & !handled)
}

#[macros::syscall(landlock_restrict_self)]
fn sys_landlock_restrict_self(ruleset_fd: Fd, flags: u32) -> Result<()> {
    let me = current();
    // Otherwise a program with more rights could be confused by what it is denied.
    let capable = me.with_cred(|cred| cred.ns_capable(&cred.user_ns, Cap::SysAdmin));
    if !me.has(flags::NO_NEW_PRIVS) && !capable {
        return Err(Errno::EPERM);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let ruleset = ruleset_of(ruleset_fd.0, FileMode::READ)?;
    let mut new = Credentials::clone(&me.cred());
    let parent = new.domain.take().and_then(|domain| {
        let any: Arc<dyn Any + Send + Sync> = domain;
        any.downcast::<Domain>().ok()
    });
    new.domain = Some(try_arc(Domain::new(parent, &ruleset)?)?);
    crate::cred::commit::commit(&me, new)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_headers() {
        assert_eq!(size_of::<RulesetAttr>(), 24);
        assert_eq!(size_of::<PathBeneathAttr>(), 12);
        assert_eq!(size_of::<NetPortAttr>(), 16);
    }
}
