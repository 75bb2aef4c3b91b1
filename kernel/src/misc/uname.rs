//! uname(2), sethostname(2), setdomainname(2), personality(2).

use crate::process::{NsProxy, current};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::system::Utsname;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::user::{UserPtr, UserSlice};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[UNAME, SETHOSTNAME, SETDOMAINNAME, PERSONALITY];

/// Longest host or domain name.
const NAME_MAX: usize = 64;

/// What `uname(2)` answers before anybody changes it.
pub fn initial() -> Utsname {
    let field = |text: &str| {
        let mut bytes = [0; 65];
        bytes.iter_mut().take(NAME_MAX).zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
        bytes
    };
    Utsname {
        sysname: field("Linux"),
        nodename: field("(none)"),
        release: field(crate::version::RELEASE),
        version: field(crate::version::VERSION),
        machine: field(arch::uapi::MACHINE),
        domainname: field("(none)"),
    }
}

fn proxy() -> Result<Arc<NsProxy>> {
    current().nsproxy().ok_or(Errno::EINVAL)
}

#[macros::syscall(uname)]
fn sys_uname(buf: UserPtr<Utsname>) -> Result<()> {
    let mut name = *proxy()?.uts.name.lock();
    const UNAME26: u32 = 0x0002_0000;
    if current().personality.load(Ordering::Relaxed) & UNAME26 != 0 {
        old_release(&mut name.release);
    }
    buf.write(&name)
}

/// Programs that cannot read a version with another first number see 2.6.(60 + minor).
fn old_release(release: &mut [u8; 65]) {
    let text = b"2.6.72";
    let mut new = [0; 65];
    if let Some(to) = new.get_mut(..text.len()) {
        to.copy_from_slice(text);
    }
    *release = new;
}

fn read_name(addr: usize, len: i32) -> Result<[u8; 65]> {
    let uts = proxy()?.uts.clone();
    if !current().with_cred(|cred| cred.ns_capable(&uts.user_ns, Cap::SysAdmin)) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len).ok().filter(|l| *l <= NAME_MAX).ok_or(Errno::EINVAL)?;
    let mut name = [0; 65];
    UserSlice::<u8>::new(addr, len).copy_to(name.get_mut(..len).ok_or(Errno::EINVAL)?)?;
    Ok(name)
}

#[macros::syscall(sethostname)]
fn sys_sethostname(name: usize, len: i32) -> Result<()> {
    let name = read_name(name, len)?;
    proxy()?.uts.name.lock().nodename = name;
    Ok(())
}

#[macros::syscall(setdomainname)]
fn sys_setdomainname(name: usize, len: i32) -> Result<()> {
    let name = read_name(name, len)?;
    proxy()?.uts.name.lock().domainname = name;
    Ok(())
}

#[macros::syscall(personality)]
fn sys_personality(persona: u32) -> Result<u32> {
    let me = current();
    let old = me.personality.load(Ordering::Relaxed);
    if persona != u32::MAX {
        me.personality.store(persona, Ordering::Relaxed);
    }
    Ok(old)
}
