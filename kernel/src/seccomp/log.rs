//! What is written to the log, and `/proc/sys/kernel/seccomp`.

use super::action::ACTIONS;
use crate::printk::ratelimit::RateLimit;
use crate::process::current;
use abi::cap::Cap;
use abi::seccomp::SeccompData;
use abi::{Errno, Result};
use core::sync::atomic::{AtomicU32, Ordering};
use kernfs::{Attr, Text, attr};

/// Actions that are logged: a bit per entry of [`ACTIONS`]; all but `allow` at first.
static LOGGED: AtomicU32 = AtomicU32::new(ALL & !ALLOW);
const ALL: u32 = (1 << ACTIONS.len()) - 1;
const ALLOW: u32 = 1 << (ACTIONS.len() - 1);

/// The sysctls.
pub const SYSCTLS: &[Attr] = &[
    attr("actions_avail", |out| show(out, ALL)),
    attr("actions_logged", |out| show(out, LOGGED.load(Ordering::Relaxed))).writable(|data| {
        if !current().with_cred(|cred| cred.capable(Cap::SysAdmin)) {
            return Err(Errno::EPERM);
        }
        LOGGED.store(parse(data)?, Ordering::Relaxed);
        Ok(())
    }),
];

fn show(out: &mut Text, bits: u32) -> Result<()> {
    let mut first = true;
    for (index, (_, name)) in ACTIONS.iter().enumerate() {
        if bits >> index & 1 != 0 {
            if !first {
                out.push(b" ");
            }
            first = false;
            out.push(name.as_bytes());
        }
    }
    out.push(b"\n");
    Ok(())
}

/// Names with blanks between them. `allow` cannot be logged.
fn parse(data: &[u8]) -> Result<u32> {
    let mut bits = 0;
    for name in data.split(|b| matches!(b, b' ' | b'\n' | b'\t' | 0)).filter(|name| !name.is_empty()) {
        let index = ACTIONS.iter().position(|(_, known)| known.as_bytes() == name).ok_or(Errno::EINVAL)?;
        bits |= 1 << index;
    }
    if bits & ALLOW != 0 { Err(Errno::EINVAL) } else { Ok(bits) }
}

/// A filter must not fill the log.
static LIMIT: RateLimit = RateLimit::new();

/// Notes what became of a call, if that action is logged and the filter (or the action itself) asks for it.
pub fn record(data: &SeccompData, signal: i32, action: u32, asked: bool) {
    let index = ACTIONS.iter().position(|(known, _)| *known == action).unwrap_or(0);
    if !asked || LOGGED.load(Ordering::Relaxed) >> index & 1 == 0 || !LIMIT.allows() {
        return;
    }
    let me = current();
    let (uid, gid) = me.with_cred(|cred| (cred.uid.0, cred.gid.0));
    ::log::info!(
        "audit: type=1326 uid={uid} gid={gid} pid={} comm=\"{}\" sig={signal} arch={:x} syscall={} compat=0 ip={:#x} code={action:#x}",
        me.process.pid.global(),
        me.task().comm(),
        data.arch,
        data.nr,
        data.instruction_pointer,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_actions() {
        assert_eq!(parse(b"kill_process trap\n"), Ok(0b101));
        assert_eq!(parse(b"\n"), Ok(0));
        assert_eq!(parse(b"allow"), Err(Errno::EINVAL));
        assert_eq!(parse(b"kill"), Err(Errno::EINVAL));
        assert_eq!(ACTIONS[7].0, abi::seccomp::c::SECCOMP_RET_ALLOW);
    }
}
