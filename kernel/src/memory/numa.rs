//! set_mempolicy(2), get_mempolicy(2), mbind(2), set_mempolicy_home_node(2), migrate_pages(2), move_pages(2).

use super::space;
use crate::cred::access::may_inspect;
use crate::process::{Thread, current, with_current};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::mempolicy::{
    MPOL_DEFAULT, MPOL_F_ADDR, MPOL_F_MEMS_ALLOWED, MPOL_F_NODE, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL,
};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use mm::AddressSpace;
use mm::mempolicy::{ModeArg, NodeMask, Policy, TaskPolicies, TaskPolicy};
use mm::numa::Movable;
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[SET_MEMPOLICY, GET_MEMPOLICY, MBIND, SET_MEMPOLICY_HOME_NODE, MIGRATE_PAGES, MOVE_PAGES];

/// Nodes that users may name, whether they exist or not (`MAX_NUMNODES`).
const MAX_NAMED: usize = 1024;
const WORD_BITS: usize = 64;

/// Implements [`TaskPolicies`] over the running thread.
pub struct Tasks;

impl TaskPolicies for Tasks {
    fn with_current(&self, f: &mut dyn FnMut(&TaskPolicy)) {
        with_current(|thread| f(&thread.mempolicy));
    }
}

/// A set of nodes from the user: `max - 1` bits. Bits of nodes that no kernel has are an error, those of nodes that this one could not
/// have are dropped.
fn read_nodes(mask: UserPtr<u64>, max: usize) -> Result<NodeMask> {
    let bits = max.wrapping_sub(1);
    if bits == 0 || mask.addr() == 0 {
        return Ok(NodeMask::EMPTY);
    }
    if bits > PAGE_SIZE * 8 {
        return Err(Errno::EINVAL);
    }
    let word = |index: usize| -> Result<u64> {
        let valid = bits - index * WORD_BITS;
        let word = mask.add(index).read()?;
        Ok(if valid < WORD_BITS { word & ((1 << valid) - 1) } else { word })
    };
    let words = bits.div_ceil(WORD_BITS);
    for index in (MAX_NAMED / WORD_BITS..words).rev() {
        if word(index)? != 0 {
            return Err(Errno::EINVAL);
        }
    }
    let mut first = 0;
    for index in (0..words.min(MAX_NAMED / WORD_BITS)).rev() {
        first = word(index)?;
    }
    Ok(NodeMask(first))
}

/// One more than the highest node.
fn node_ids() -> usize {
    mm::node::nodes().map(|node| node.id() + 1).max().unwrap_or(1)
}

fn write_nodes(mask: UserPtr<u64>, max: usize, nodes: NodeMask) -> Result<()> {
    let bytes = max.wrapping_sub(1).div_ceil(WORD_BITS).saturating_mul(8);
    if bytes > PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    for index in (0..bytes / 8).rev() {
        mask.add(index).write(&if index == 0 { nodes.0 } else { 0 })?;
    }
    Ok(())
}

#[macros::syscall(set_mempolicy)]
fn sys_set_mempolicy(mode: u32, nodemask: UserPtr<u64>, maxnode: usize) -> Result<()> {
    let arg = ModeArg::parse(mode)?;
    let policy = Policy::new(arg, read_nodes(nodemask, maxnode)?)?;
    current().mempolicy.set_own(policy);
    Ok(())
}

#[macros::syscall(get_mempolicy)]
fn sys_get_mempolicy(
    mode: UserPtr<u32>,
    nodemask: UserPtr<u64>,
    maxnode: usize,
    addr: usize,
    flags: usize,
) -> Result<()> {
    if nodemask.addr() != 0 && maxnode < node_ids() {
        return Err(Errno::EINVAL);
    }
    let (number, nodes) = look_up(addr, flags)?;
    if mode.addr() != 0 {
        mode.write(&number)?;
    }
    if nodemask.addr() != 0 {
        write_nodes(nodemask, maxnode, nodes)?;
    }
    Ok(())
}

/// The number and the nodes that `get_mempolicy(2)` shows.
fn look_up(addr: usize, flags: usize) -> Result<(u32, NodeMask)> {
    if flags & !(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MPOL_F_MEMS_ALLOWED != 0 {
        let alone = flags == MPOL_F_MEMS_ALLOWED;
        return if alone { Ok((0, NodeMask::with_memory())) } else { Err(Errno::EINVAL) };
    }
    let me = current();
    let policy = if flags & MPOL_F_ADDR != 0 {
        space()?.policy_at(addr)?
    } else if addr != 0 {
        return Err(Errno::EINVAL);
    } else {
        me.mempolicy.get()
    };
    let nodes = policy.as_ref().map_or(NodeMask::EMPTY, |policy| policy.shown_nodes());
    let number = if flags & MPOL_F_NODE == 0 {
        policy.as_ref().map_or(MPOL_DEFAULT, |policy| policy.number())
    } else if flags & MPOL_F_ADDR != 0 {
        space()?.node_at(addr)? as u32
    } else {
        let turns = policy.as_ref().filter(|policy| policy.takes_turns());
        let next = turns.and_then(|policy| me.mempolicy.next_turn(policy));
        next.ok_or(Errno::EINVAL)? as u32
    };
    Ok((number, nodes))
}

#[macros::syscall(mbind)]
fn sys_mbind(
    addr: usize,
    len: usize,
    mode: usize,
    nodemask: UserPtr<u64>,
    maxnode: usize,
    flags: u32,
) -> Result<()> {
    let arg = ModeArg::parse(mode as u32)?;
    let nodes = read_nodes(nodemask, maxnode)?;
    if flags & MPOL_MF_MOVE_ALL != 0 && !may_move_all() {
        return Err(Errno::EPERM);
    }
    space()?.mbind(addr, len, arg, nodes, flags)
}

fn may_move_all() -> bool {
    current().with_cred(|cred| cred.capable(Cap::SysNice))
}

#[macros::syscall(set_mempolicy_home_node)]
fn sys_set_mempolicy_home_node(addr: usize, len: usize, home_node: usize, flags: usize) -> Result<()> {
    if !addr.is_multiple_of(PAGE_SIZE) || flags != 0 || mm::node::node(home_node).is_none() {
        return Err(Errno::EINVAL);
    }
    space()?.set_home_node(addr, len, home_node)
}

/// The memory of a thread's process, for someone who may look into it.
///
/// # Errors
/// `ESRCH`, `EPERM`; `EINVAL` if it has none.
fn space_of(pid: i32) -> Result<Arc<AddressSpace>> {
    let me = current();
    if pid == 0 {
        return me.mm().ok_or(Errno::EINVAL);
    }
    let task = me.pid_ns().task(pid).ok_or(Errno::ESRCH)?;
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    may_inspect(&me, thread, Cap::SysPtrace)?;
    thread.mm().ok_or(Errno::EINVAL)
}

#[macros::syscall(migrate_pages)]
fn sys_migrate_pages(
    pid: i32,
    maxnode: usize,
    old_nodes: UserPtr<u64>,
    new_nodes: UserPtr<u64>,
) -> Result<usize> {
    let from = read_nodes(old_nodes, maxnode)?;
    let to = read_nodes(new_nodes, maxnode)?;
    let space = match space_of(pid) {
        // That it is a kernel thread is noticed last.
        Err(Errno::EINVAL) => None,
        found => Some(found?),
    };
    let memory = NodeMask::with_memory();
    if to.and(memory) != to && !may_move_all() {
        return Err(Errno::EPERM);
    }
    let to = to.and(memory);
    if to.is_empty() {
        return Err(Errno::EINVAL);
    }
    let movable = if may_move_all() { Movable::All } else { Movable::Own };
    space.ok_or(Errno::EINVAL)?.migrate_nodes(from, to, movable)
}

#[macros::syscall(move_pages)]
fn sys_move_pages(
    pid: i32,
    count: usize,
    pages: UserPtr<usize>,
    nodes: UserPtr<i32>,
    status: UserPtr<i32>,
    flags: u32,
) -> Result<usize> {
    if flags & !(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MPOL_MF_MOVE_ALL != 0 && !may_move_all() {
        return Err(Errno::EPERM);
    }
    let space = space_of(pid)?;
    let movable = if flags & MPOL_MF_MOVE_ALL != 0 { Movable::All } else { Movable::Own };
    let number = |result: Result<usize>| result.map_or_else(|error| -error.code(), |node| node as i32);
    let mut stayed = 0;
    for index in 0..count {
        let addr = pages.add(index).read()?;
        let result = if nodes.addr() == 0 {
            space.page_node(addr)
        } else {
            let node = usize::try_from(nodes.add(index).read()?).map_err(|_| Errno::ENODEV)?;
            if !NodeMask::with_memory().contains(node) {
                return Err(Errno::ENODEV);
            }
            let moved = space.move_page_to(addr, node, movable);
            stayed += usize::from(matches!(moved, Err(Errno::EBUSY | Errno::ENOMEM)));
            moved
        };
        status.add(index).write(&number(result))?;
        if sched::current().has_fatal_signal() {
            return Err(Errno::EINTR);
        }
    }
    Ok(stayed)
}
