//! `/proc/keys`, `/proc/key-users`, `/proc/sys/kernel/keys`.

use super::key::{GC_DELAY, Key, Value, perm};
use super::kind::Kind;
use super::lookup::{allows, search_own};
use super::manage::shown_gid;
use super::search::{Search, Wanted};
use super::{LOCK, links, now, quota};
use crate::process::current;
use crate::procfs::sysctl::parse;
use abi::creds::Uid;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use kernfs::{Attr, Context, Show, Text, attr};
use mm::fallible::try_format;

/// `/proc/keys`: the keys that the reader may view.
pub struct Keys;

/// `/proc/key-users`.
pub struct Users;

fn io(result: core::fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

impl Show for Keys {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        let _lock = LOCK.lock();
        let me = current();
        let cred = me.cred();
        for key in Key::all()? {
            let search = Search { cred: &cred, wanted: Wanted::Exactly(&key) };
            let possessed = search_own(&me, &search).is_ok();
            if allows(&key, possessed, &cred, perm::VIEW) {
                line(&key, &cred, out)?;
            }
        }
        Ok(())
    }
}

/// How much time is left, in the largest unit that fits.
fn timeout(expiry: Option<i64>) -> Result<String> {
    let Some(left) = expiry.map(|expiry| expiry - now()) else {
        return Ok(try_format(format_args!("perm"))?);
    };
    let (number, unit) = match left {
        ..=0 => return Ok(try_format(format_args!("expd"))?),
        1..60 => (left, 's'),
        60..3600 => (left / 60, 'm'),
        3600..86400 => (left / 3600, 'h'),
        86400..604_800 => (left / 86400, 'd'),
        _ => (left / 604_800, 'w'),
    };
    Ok(try_format(format_args!("{number}{unit}"))?)
}

fn line(key: &Arc<Key>, cred: &vfs::cred::Credentials, out: &mut Text) -> Result<()> {
    let state = key.state.lock();
    let flag = |on: bool, letter: char| if on { letter } else { '-' };
    let negative = matches!(state.value, Value::Negative(_));
    io(write!(
        out,
        "{:08x} {}{}-{}-{}{} {:5} {:>4} {:08x} {:5} {:5} {:<9.9} ",
        key.serial,
        flag(true, 'I'),
        flag(state.revoked.is_some(), 'R'),
        flag(state.charge.counts(), 'Q'),
        flag(negative, 'N'),
        flag(state.invalidated, 'i'),
        // Not our own reference.
        Arc::strong_count(key).saturating_sub(1),
        timeout(state.expiry)?,
        state.perm,
        cred.user_ns.from_uid(Uid(state.uid)),
        shown_gid(cred, state.gid),
        key.kind.name(),
    ))?;
    out.push(&key.description);
    match &state.value {
        Value::Negative(_) => {}
        Value::Ring(links) if links.is_empty() => out.push(b": empty"),
        Value::Ring(links) => io(write!(out, ": {}", links.len()))?,
        Value::Data(_) if state.revoked.is_some() => {}
        Value::Data(data) if key.kind == Kind::BigKey => {
            // Where Linux would keep it.
            let place = if data.len() > 16 { "file" } else { "buff" };
            io(write!(out, ": {} [{place}]", data.len()))?;
        }
        Value::Data(data) => io(write!(out, ": {}", data.len()))?,
    }
    out.push(b"\n");
    Ok(())
}

impl Show for Users {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        let cred = current().cred();
        for user in quota::users()? {
            let uid = cred.user_ns.from_uid(Uid(user.uid));
            let keys = user.keys.load(Ordering::Relaxed);
            let (taken, (max_keys, max_bytes)) = (user.taken(), quota::limits(user.uid));
            io(writeln!(
                out,
                "{uid:5}: {:5} {keys}/{keys} {}/{max_keys} {}/{max_bytes}",
                Arc::strong_count(&user) - 1,
                taken.keys,
                taken.bytes,
            ))?;
        }
        Ok(())
    }
}

macro_rules! number {
    ($name:literal, $variable:expr, $range:expr) => {
        attr($name, |out| io(writeln!(out, "{}", $variable.load(Ordering::Relaxed)))).writable(|data| {
            $variable.store(parse(data, $range)?, Ordering::Relaxed);
            Ok(())
        })
    };
}

/// The sysctls.
pub const SYSCTLS: &[Attr] = &[
    number!("maxkeys", quota::MAX_KEYS, 1..=i32::MAX as usize),
    number!("maxbytes", quota::MAX_BYTES, 1..=i32::MAX as usize),
    number!("root_maxkeys", quota::ROOT_MAX_KEYS, 1..=i32::MAX as usize),
    number!("root_maxbytes", quota::ROOT_MAX_BYTES, 1..=i32::MAX as usize),
    number!("gc_delay", GC_DELAY, 0..=i64::from(i32::MAX)),
    number!("persistent_keyring_expiry", links::PERSISTENT_EXPIRY, 0..=i32::MAX as u32),
];
