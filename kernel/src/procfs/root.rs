//! The top directory: registered names first, then a directory per process.

use alloc::sync::Arc;

use abi::{Errno, Result};
use kernfs::{Context, Dir, Entry, Link, Listing, Node};
use vfs::inode_ops::LinkTarget;
use vfs::types::FileType;

use super::{Mounted, task, top};
use crate::process::{Pid, PidNamespace, Thread, current};
use mm::fallible::{try_arc_slice, try_format};

/// Positions of registered names lie below this, process `n` is at this plus `n`.
const PROCESSES: u64 = 1 << 20;

/// The names that an instance has which shows nothing but processes.
const OF_PROCESSES: [&[u8]; 2] = [b"self", b"thread-self"];

/// Calls `f` with a thread of whatever `pid` names, if one lives.
fn with_some_thread<R>(pid: &Pid, f: impl FnOnce(&Thread) -> R) -> Option<R> {
    let task = pid.task().or_else(|| pid.process()?.any_task())?;
    task.data::<Thread>().map(f)
}

/// The root directory of one instance.
pub(super) struct Root {
    ns: Arc<PidNamespace>,
}

impl Root {
    pub(super) fn new(ns: Arc<PidNamespace>) -> Self {
        Self { ns }
    }
}

/// A process number in a name: digits without leading zeroes.
pub(super) fn parse_number(name: &[u8]) -> Option<i32> {
    if name.is_empty() || name.len() > 10 || name.first() == Some(&b'0') {
        return None;
    }
    name.iter().try_fold(0i32, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| i32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

impl Dir for Root {
    fn lookup(&self, cx: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        let mounted = cx.mounted_for::<Mounted>();
        let all = mounted.is_none_or(|mounted| !mounted.only_pids()) || OF_PROCESSES.contains(&name);
        if let Some(entry) = top().get(name).filter(|_| all) {
            return Ok(Some(entry));
        }
        let Some(number) = parse_number(name) else { return Ok(None) };
        let Some(pid) = self.ns.find(number) else { return Ok(None) };
        if let Some(mounted) = mounted
            && let Some(found) = with_some_thread(&pid, |thread| mounted.finds(thread))
            && !found
        {
            return Ok(None);
        }
        task::process_entry(pid)
    }

    fn list(&self, cx: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        if from < PROCESSES {
            let mut full = false;
            let all = cx.mounted_for::<Mounted>().is_none_or(|mounted| !mounted.only_pids());
            top().list(cx, from, &mut |name, ino, kind, next| {
                if !all && !OF_PROCESSES.contains(&name) {
                    return true;
                }
                full = !emit(name, ino, kind, next);
                !full
            })?;
            if full {
                return Ok(());
            }
        }
        let mut number = i32::try_from(from.saturating_sub(PROCESSES)).unwrap_or(i32::MAX);
        while let Some((found, process)) = self.ns.next_process(number) {
            let ino = task::directory_ino(&process.pid);
            let name = try_format(format_args!("{found}"))?;
            let shown = cx.mounted_for::<Mounted>().is_none_or(|mounted| {
                with_some_thread(&process.pid, |thread| mounted.lists(thread)).unwrap_or(true)
            });
            if shown && !emit(name.as_bytes(), ino, FileType::Directory, PROCESSES + found as u64 + 1) {
                return Ok(());
            }
            let Some(next) = found.checked_add(1) else { return Ok(()) };
            number = next;
        }
        Ok(())
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn follows_owner(&self) -> bool {
        true
    }

    fn nlink(&self) -> u32 {
        2 + self.ns.population()
    }
}

/// `/proc/self` and `/proc/thread-self`.
struct SelfLink {
    thread: bool,
}

impl Link for SelfLink {
    fn target(&self, cx: &Context<'_>) -> Result<LinkTarget> {
        let mounted = cx.mounted_for::<Mounted>().ok_or(Errno::ENOENT)?;
        let thread = current();
        let process = thread.process.id_in(&mounted.ns);
        if process == 0 {
            return Err(Errno::ENOENT);
        }
        let text = if self.thread {
            try_format(format_args!("{process}/task/{}", thread.tid_in(&mounted.ns)))?
        } else {
            try_format(format_args!("{process}"))?
        };
        Ok(LinkTarget::Path(try_arc_slice(text.as_bytes())?))
    }
}

/// Declares the links of the top directory.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub(super) fn init() {
    top().add("self", Node::Link(Arc::new(SelfLink { thread: false })), 0o777);
    top().add("thread-self", Node::Link(Arc::new(SelfLink { thread: true })), 0o777);
    top().add_sized_link("mounts", "self/mounts");
    top().add_sized_link("net", "self/net");
    top().add("keys", Node::Text(Arc::new(crate::keys::show::Keys)), 0o444);
    top().add("key-users", Node::Text(Arc::new(crate::keys::show::Users)), 0o444);
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    #[test]
    fn only_plain_numbers_are_processes() {
        assert_eq!(parse_number(b"1"), Some(1));
        assert_eq!(parse_number(b"4194304"), Some(4_194_304));
        for name in [&b""[..], b"0", b"01", b"1x", b"-1", b"99999999999", b"2147483648"] {
            assert_eq!(parse_number(name), None);
        }
    }
}
