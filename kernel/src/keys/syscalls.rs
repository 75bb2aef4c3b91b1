//! add_key(2), request_key(2), keyctl(2).

use super::add;
use super::kind::Kind;
use super::links::{self, Displace};
use super::lookup::Missing;
use super::manage::{self, Content};
use crate::syscall::Syscall;
use abi::{Errno, Result};
use alloc::vec::Vec;
use mm::user::{UserPtr, UserSlice, UserStr};
use zerocopy::IntoBytes;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[ADD_KEY, REQUEST_KEY, KEYCTL];

/// Longest description, with its NUL.
const MAX_DESCRIPTION: usize = 4096;
/// Longest payload of `add_key`.
const MAX_PAYLOAD: usize = 1024 * 1024 - 1;

/// Numbers of keyctl(2).
mod op {
    pub const GET_KEYRING_ID: u32 = 0;
    pub const JOIN_SESSION_KEYRING: u32 = 1;
    pub const UPDATE: u32 = 2;
    pub const REVOKE: u32 = 3;
    pub const CHOWN: u32 = 4;
    pub const SETPERM: u32 = 5;
    pub const DESCRIBE: u32 = 6;
    pub const CLEAR: u32 = 7;
    pub const LINK: u32 = 8;
    pub const UNLINK: u32 = 9;
    pub const SEARCH: u32 = 10;
    pub const READ: u32 = 11;
    pub const INSTANTIATE: u32 = 12;
    pub const NEGATE: u32 = 13;
    pub const SET_REQKEY_KEYRING: u32 = 14;
    pub const SET_TIMEOUT: u32 = 15;
    pub const ASSUME_AUTHORITY: u32 = 16;
    pub const GET_SECURITY: u32 = 17;
    pub const SESSION_TO_PARENT: u32 = 18;
    pub const REJECT: u32 = 19;
    pub const INSTANTIATE_IOV: u32 = 20;
    pub const INVALIDATE: u32 = 21;
    pub const GET_PERSISTENT: u32 = 22;
    pub const RESTRICT_KEYRING: u32 = 29;
    pub const MOVE: u32 = 30;
    pub const CAPABILITIES: u32 = 31;
}

/// What `KEYCTL_CAPABILITIES` says: itself, persistent keyrings, `big_key`, invalidate, restrict, move; names of keyrings
/// are by user namespace.
const CAPABILITIES: [u8; 2] = [0x01 | 0x02 | 0x10 | 0x20 | 0x40 | 0x80, 0x01];

/// A type by the name at `at`. `None`: there is no such type.
fn kind_at(at: usize) -> Result<Option<Kind>> {
    let mut buffer = [0; 32];
    let name = UserStr::new(at).read_into(&mut buffer, Errno::EINVAL)?;
    match name.first() {
        None => Err(Errno::EINVAL),
        // The kernel's own.
        Some(b'.') => Err(Errno::EPERM),
        Some(_) => Ok(Kind::by_name(name)),
    }
}

fn text_at(at: usize) -> Result<Vec<u8>> {
    UserStr::new(at).read(MAX_DESCRIPTION, Errno::EINVAL)
}

fn payload_at(at: usize, len: usize) -> Result<Vec<u8>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    UserSlice::<u8>::new(at, len).to_vec()
}

#[macros::syscall(add_key)]
fn sys_add_key(kind: usize, description: usize, payload: usize, len: usize, ring: i32) -> Result<i32> {
    if len > MAX_PAYLOAD {
        return Err(Errno::EINVAL);
    }
    let kind = kind_at(kind)?;
    let description = if description == 0 { Vec::new() } else { text_at(description)? };
    if kind == Some(Kind::Keyring) && description.first() == Some(&b'.') {
        return Err(Errno::EPERM);
    }
    add::add(kind, &description, &payload_at(payload, len)?, ring)
}

#[macros::syscall(request_key)]
fn sys_request_key(kind: usize, description: usize, callout: usize, dest: i32) -> Result<i32> {
    let kind = kind_at(kind)?;
    let description = text_at(description)?;
    if callout != 0 {
        text_at(callout)?;
    }
    add::request(kind, &description, callout != 0, dest)
}

/// Copies all of `bytes` if the buffer has room, and says how many there are.
fn give(bytes: &[u8], at: usize, len: usize) -> Result<isize> {
    if at != 0 && len >= bytes.len() {
        mm::user::copy_to_user(at, bytes)?;
    }
    Ok(bytes.len() as isize)
}

fn done(result: Result<()>) -> Result<isize> {
    result.map(|()| 0)
}

fn number(result: Result<i32>) -> Result<isize> {
    result.map(|number| number as isize)
}

#[macros::syscall(keyctl)]
fn sys_keyctl(operation: u32, arg2: usize, arg3: usize, arg4: usize, arg5: usize) -> Result<isize> {
    let id = arg2 as i32;
    match operation {
        op::GET_KEYRING_ID => {
            let missing = if arg3 as i32 != 0 { Missing::Create } else { Missing::Fail };
            number(links::keyring_id(id, missing))
        }
        op::JOIN_SESSION_KEYRING => {
            let name = if arg2 == 0 { None } else { Some(text_at(arg2)?) };
            number(links::join_session(name.as_deref()))
        }
        op::UPDATE => {
            if arg4 > arch::addr::PAGE_SIZE {
                return Err(Errno::EINVAL);
            }
            done(add::update(id, &payload_at(arg3, arg4)?))
        }
        op::REVOKE => done(manage::revoke(id)),
        op::CHOWN => done(manage::chown(id, arg3 as u32, arg4 as u32)),
        op::SETPERM => done(manage::set_permissions(id, arg3 as u32)),
        op::DESCRIBE => give(&manage::describe(id)?, arg3, arg4),
        op::CLEAR => done(links::clear(id)),
        op::LINK => done(links::link(id, arg3 as i32)),
        op::UNLINK => done(links::unlink(id, arg3 as i32)),
        op::SEARCH => {
            let (kind, description) = (kind_at(arg3)?, text_at(arg4)?);
            number(links::search(id, kind, &description, arg5 as i32))
        }
        op::READ => match manage::read(id)? {
            Content::Data(data) => give(&data, arg3, arg4),
            Content::Serials(serials) => give(serials.as_bytes(), arg3, arg4),
        },
        op::INSTANTIATE | op::NEGATE | op::REJECT | op::INSTANTIATE_IOV => instantiate(operation, arg3, arg4),
        op::SET_REQKEY_KEYRING => number(manage::set_default(id)),
        op::SET_TIMEOUT => done(manage::set_timeout(id, arg3 as u32)),
        op::ASSUME_AUTHORITY => match id {
            ..0 => Err(Errno::EINVAL),
            // Giving up what one does not have.
            0 => Ok(0),
            _ => Err(Errno::ENOKEY),
        },
        op::GET_SECURITY => {
            manage::security(id)?;
            if arg3 != 0 && arg4 > 0 {
                UserPtr::<u8>::new(arg3).write(&0)?;
            }
            Ok(1)
        }
        op::SESSION_TO_PARENT => done(links::session_to_parent()),
        op::INVALIDATE => done(manage::invalidate(id)),
        op::GET_PERSISTENT => number(links::persistent(arg2 as u32, arg3 as i32)),
        op::RESTRICT_KEYRING => {
            let kind = match (arg3, arg4) {
                (0, 0) => None,
                (0, _) | (_, 0) => return Err(Errno::EINVAL),
                (kind, restriction) => {
                    let kind = kind_at(kind)?;
                    text_at(restriction)?;
                    Some(kind)
                }
            };
            done(links::restrict(id, kind))
        }
        op::MOVE => {
            let displace = match arg5 as u32 {
                0 => Displace::Replace,
                1 => Displace::Refuse,
                _ => return Err(Errno::EINVAL),
            };
            done(links::move_key(id, arg3 as i32, arg4 as i32, displace))
        }
        op::CAPABILITIES => {
            let some = CAPABILITIES.get(..arg3.min(CAPABILITIES.len())).unwrap_or_default();
            if arg3 > 0 {
                mm::user::copy_to_user(arg2, some)?;
                let rest = arg2.wrapping_add(some.len());
                UserSlice::<u8>::new(rest, arg3 - some.len()).clear()?;
            }
            Ok(CAPABILITIES.len() as isize)
        }
        // Diffie-Hellman, public keys and watches are not configured.
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Making a key that was requested takes an authority that only the kernel hands out, which it does to nobody.
fn instantiate(operation: u32, arg3: usize, arg4: usize) -> Result<isize> {
    const RESTARTS: core::ops::RangeInclusive<u32> = 512..=516;
    match operation {
        op::INSTANTIATE if arg4 > MAX_PAYLOAD => return Err(Errno::EINVAL),
        op::REJECT => {
            let error = arg4 as u32;
            if error == 0 || error >= 4095 || RESTARTS.contains(&error) {
                return Err(Errno::EINVAL);
            }
        }
        op::INSTANTIATE_IOV => {
            let count = arg4;
            if arg3 != 0 && count > 1024 {
                return Err(Errno::EINVAL);
            }
        }
        _ => {}
    }
    Err(Errno::EPERM)
}
