//! Memory policies: on which nodes the pages of a thread or of an area are allocated. `set_mempolicy(2)`, `numa(7)`.
//!
//! A [`Policy`] never changes; who changes his policy replaces it. A thread's is in its [`TaskPolicy`], an area's in the area; of
//! shared memory the object has them, by page index ([`SharedPolicies`]), because all who map it see the same.
//!
//! A thread or area without one costs an allocation a look at a flag: [`ThreadFlags::MEMPOLICY`], [`VmFlags::POLICY`](crate::VmFlags::POLICY).

use crate::fallible::{TryVec, try_arc};
use crate::folio::{Folio, Frame};
use crate::gfp::{Gfp, Order, OutOfMemory};
use crate::node;
use crate::page_alloc;
use abi::mempolicy as raw;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLock;
use arch::thread::{ThreadFlags, current_ref};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use sync::Once;

/// A set of nodes, node 0 in bit 0. More than the kernel supports fit, because users name nodes that are not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeMask(pub u64);

impl NodeMask {
    /// No node.
    pub const EMPTY: Self = Self(0);
    /// Whatever there is.
    pub const ALL: Self = Self(u64::MAX);

    /// Just `node`.
    pub const fn of(node: usize) -> Self {
        if node < 64 { Self(1 << node) } else { Self(0) }
    }

    /// The nodes with memory.
    pub fn with_memory() -> Self {
        Self(node::nodes().filter(|n| n.present_pages() > 0).fold(0, |set, n| set | 1 << n.id()))
    }

    /// Whether `node` is in it.
    #[inline]
    pub const fn contains(self, node: usize) -> bool {
        node < 64 && self.0 >> node & 1 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The lowest.
    pub const fn first(self) -> Option<usize> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() as usize) }
    }

    /// Those in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// In order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |n| self.contains(*n))
    }

    /// The `n`th, from 0.
    pub fn nth(self, n: usize) -> Option<usize> {
        self.iter().nth(n)
    }

    /// The one after `node`, going round.
    pub fn after(self, node: usize) -> Option<usize> {
        self.iter().find(|n| *n > node).or_else(|| self.first())
    }

    /// The numbers of `self`, modulo the size of `onto`, as the members of `onto` with these numbers: `MPOL_F_RELATIVE_NODES`.
    fn relative_to(self, onto: Self) -> Self {
        let size = onto.count();
        if size == 0 {
            return Self::EMPTY;
        }
        self.iter().filter_map(|n| onto.nth(n % size)).fold(Self::EMPTY, |set, n| Self(set.0 | 1 << n))
    }

    /// Where `node` of the set `old` goes in the set `new`, by its rank in `old`; itself if it is not in `old`.
    pub fn remap(node: usize, old: Self, new: Self) -> usize {
        let rank = old.iter().position(|n| n == node);
        match rank {
            Some(rank) if !new.is_empty() => new.nth(rank % new.count()).unwrap_or(node),
            _ => node,
        }
    }
}

impl fmt::Display for NodeMask {
    /// As a list: `0-2,5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        let mut first = true;
        while let Some(start) = self.iter().find(|n| *n >= at) {
            let end = (start..64).take_while(|n| self.contains(*n)).last().unwrap_or(start);
            if !first {
                f.write_str(",")?;
            }
            first = false;
            if end > start {
                write!(f, "{start}-{end}")?;
            } else {
                write!(f, "{start}")?;
            }
            at = end + 1;
        }
        Ok(())
    }
}

/// How the nodes of a policy are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// One node first, others if it is full.
    Preferred,
    /// These nodes only.
    Bind,
    /// These nodes in turn.
    Interleave,
    /// The node of the CPU.
    Local,
    /// These nodes first, others if they are full.
    PreferredMany,
    /// These nodes in turn, as often as their weights say.
    WeightedInterleave,
}

impl Mode {
    /// `MPOL_*`.
    pub fn number(self) -> u32 {
        match self {
            Self::Preferred => raw::MPOL_PREFERRED,
            Self::Bind => raw::MPOL_BIND,
            Self::Interleave => raw::MPOL_INTERLEAVE,
            Self::Local => raw::MPOL_LOCAL,
            Self::PreferredMany => raw::MPOL_PREFERRED_MANY,
            Self::WeightedInterleave => raw::MPOL_WEIGHTED_INTERLEAVE,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Preferred => "prefer",
            Self::Bind => "bind",
            Self::Interleave => "interleave",
            Self::Local => "local",
            Self::PreferredMany => "prefer (many)",
            Self::WeightedInterleave => "weighted interleave",
        }
    }

    fn takes_turns(self) -> bool {
        matches!(self, Self::Interleave | Self::WeightedInterleave)
    }
}

/// A memory policy. See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    mode: Mode,
    /// `MPOL_F_STATIC_NODES` and others that the user gave with the mode.
    flags: u32,
    /// Nodes that exist.
    nodes: NodeMask,
    /// Nodes as the user named them.
    user_nodes: NodeMask,
    /// `set_mempolicy_home_node(2)`: where to look first.
    home: Option<usize>,
}

/// The mode argument of `set_mempolicy(2)`, checked, without its flags.
#[derive(Clone, Copy, Debug)]
pub struct ModeArg {
    /// `MPOL_*`.
    pub mode: u32,
    /// `MPOL_F_*`.
    pub flags: u32,
}

impl ModeArg {
    /// Takes the argument apart.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn parse(arg: u32) -> Result<Self> {
        let (mode, flags) = (arg & !raw::MPOL_MODE_FLAGS, arg & raw::MPOL_MODE_FLAGS);
        let both = raw::MPOL_F_STATIC_NODES | raw::MPOL_F_RELATIVE_NODES;
        let balances = matches!(mode, raw::MPOL_BIND | raw::MPOL_PREFERRED_MANY);
        if mode >= raw::MPOL_MAX
            || flags & both == both
            || flags & raw::MPOL_F_NUMA_BALANCING != 0 && !balances
        {
            return Err(Errno::EINVAL);
        }
        Ok(Self { mode, flags })
    }
}

impl Policy {
    /// The policy that a user asked for; `None` for `MPOL_DEFAULT`.
    ///
    /// # Errors
    /// `EINVAL`: nodes where there may be none or none where there must be, or none of them has memory. `ENOMEM`.
    pub fn new(arg: ModeArg, nodes: NodeMask) -> Result<Option<Arc<Self>>> {
        Self::among(arg, nodes, NodeMask::with_memory())
    }

    fn among(arg: ModeArg, nodes: NodeMask, memory: NodeMask) -> Result<Option<Arc<Self>>> {
        let placed = arg.flags & (raw::MPOL_F_STATIC_NODES | raw::MPOL_F_RELATIVE_NODES) != 0;
        let mode = match arg.mode {
            raw::MPOL_DEFAULT if nodes.is_empty() => return Ok(None),
            raw::MPOL_PREFERRED if nodes.is_empty() && !placed => Mode::Local,
            raw::MPOL_LOCAL if nodes.is_empty() && !placed => Mode::Local,
            raw::MPOL_DEFAULT | raw::MPOL_LOCAL => return Err(Errno::EINVAL),
            _ if nodes.is_empty() => return Err(Errno::EINVAL),
            raw::MPOL_PREFERRED => Mode::Preferred,
            raw::MPOL_BIND => Mode::Bind,
            raw::MPOL_INTERLEAVE => Mode::Interleave,
            raw::MPOL_PREFERRED_MANY => Mode::PreferredMany,
            raw::MPOL_WEIGHTED_INTERLEAVE => Mode::WeightedInterleave,
            _ => return Err(Errno::EINVAL),
        };
        let mut real = if arg.flags & raw::MPOL_F_RELATIVE_NODES != 0 {
            nodes.relative_to(memory)
        } else {
            nodes.and(memory)
        };
        if mode == Mode::Local {
            real = NodeMask::EMPTY;
        } else if real.is_empty() {
            return Err(Errno::EINVAL);
        }
        if mode == Mode::Preferred {
            real = NodeMask::of(real.first().unwrap_or(0));
        }
        let policy = Self { mode, flags: arg.flags, nodes: real, user_nodes: nodes, home: None };
        Ok(Some(try_arc(policy)?))
    }

    /// The same with a home node.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_home(&self, home: usize) -> Result<Arc<Self>> {
        Ok(try_arc(Self { home: Some(home), ..self.clone() })?)
    }

    /// How nodes are used.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether its nodes are used in turn.
    pub fn takes_turns(&self) -> bool {
        self.mode.takes_turns()
    }

    /// What `get_mempolicy(2)` returns: mode and flags.
    pub fn number(&self) -> u32 {
        self.mode.number() | self.flags
    }

    /// The nodes that `get_mempolicy(2)` shows: those that the user named where he said that they stay as named.
    pub fn shown_nodes(&self) -> NodeMask {
        let placed = raw::MPOL_F_STATIC_NODES | raw::MPOL_F_RELATIVE_NODES;
        if self.flags & placed != 0 { self.user_nodes } else { self.nodes }
    }

    /// The node of turn number `index`.
    fn turn(&self, index: u64) -> Option<usize> {
        if self.mode == Mode::Interleave {
            let count = self.nodes.count() as u64;
            return index.checked_rem(count).and_then(|n| self.nodes.nth(n as usize));
        }
        let total: u64 = self.nodes.iter().map(|n| u64::from(weight(n))).sum();
        let mut left = index.checked_rem(total)?;
        for node in self.nodes.iter() {
            let share = u64::from(weight(node));
            if left < share {
                return Some(node);
            }
            left -= share;
        }
        None
    }

    /// Where a page goes: the node to begin with, and the nodes that may serve.
    fn place(&self, turn: impl FnOnce() -> Option<usize>) -> (usize, NodeMask) {
        let local = page_alloc::local_node_id();
        match self.mode {
            Mode::Local => (local, NodeMask::ALL),
            Mode::Preferred => (self.nodes.first().unwrap_or(local), NodeMask::ALL),
            Mode::Bind | Mode::PreferredMany => (self.home.unwrap_or(local), self.nodes),
            Mode::Interleave | Mode::WeightedInterleave => (turn().unwrap_or(local), NodeMask::ALL),
        }
    }

    fn alloc_at(&self, gfp: Gfp, (node, mask): (usize, NodeMask)) -> Result<Frame, OutOfMemory> {
        if self.mode == Mode::PreferredMany {
            let gentle = gfp & !Gfp::DIRECT_RECLAIM | Gfp::NOWARN;
            return page_alloc::alloc_pages_among(gentle, Order::ZERO, node, mask)
                .or_else(|_| page_alloc::alloc_pages_among(gfp, Order::ZERO, node, NodeMask::ALL));
        }
        let frame = page_alloc::alloc_pages_among(gfp, Order::ZERO, node, mask)?;
        if self.mode.takes_turns() && node_of(frame.pfn()) == node {
            page_alloc::count_interleaved(node);
        }
        Ok(frame)
    }

    /// A page for the place with number `index` (of an area or object): nodes in turn go by the place.
    pub(crate) fn alloc_indexed(&self, gfp: Gfp, index: u64) -> Result<Frame, OutOfMemory> {
        self.alloc_at(gfp, self.place(|| self.turn(index)))
    }
}

impl fmt::Display for Policy {
    /// As `/proc/PID/numa_maps` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mode.name())?;
        let names = [
            (raw::MPOL_F_STATIC_NODES, "static"),
            (raw::MPOL_F_RELATIVE_NODES, "relative"),
            (raw::MPOL_F_NUMA_BALANCING, "balancing"),
        ];
        let mut sign = "=";
        for (flag, name) in names {
            if self.flags & flag != 0 {
                write!(f, "{sign}{name}")?;
                sign = "|";
            }
        }
        if self.nodes.is_empty() { Ok(()) } else { write!(f, ":{}", self.nodes) }
    }
}

/// The node that a frame is on.
pub(crate) fn node_of(pfn: arch::addr::Pfn) -> usize {
    crate::vmemmap::block(pfn.0 as u32).zone().node()
}

// ---- weights ---------------------------------------------------------------------------------

static WEIGHTS: [AtomicU8; node::MAX_NODES] = [const { AtomicU8::new(1) }; node::MAX_NODES];

/// How many pages in a row a node gets in weighted interleaving (`/sys/kernel/mm/mempolicy/weighted_interleave`).
pub fn weight(node: usize) -> u8 {
    WEIGHTS.get(node).map_or(1, |w| w.load(Relaxed))
}

/// Sets a node's weight, at least 1.
pub fn set_weight(node: usize, weight: u8) {
    if let Some(slot) = WEIGHTS.get(node) {
        slot.store(weight.max(1), Relaxed);
    }
}

// ---- threads ---------------------------------------------------------------------------------

/// The policy of a thread, and whose turn it is.
#[derive(Default)]
pub struct TaskPolicy {
    policy: SpinLock<Option<Arc<Policy>>>,
    /// The node that had the last turn, plus one; 0 before the first.
    last: AtomicU32,
    /// Turns left for it.
    left: AtomicU32,
}

impl TaskPolicy {
    /// The policy.
    pub fn get(&self) -> Option<Arc<Policy>> {
        self.policy.lock().clone()
    }

    /// What a new thread begins with.
    pub fn inherit(&self, parent: &Self) {
        *self.policy.lock() = parent.get();
    }

    /// `set_mempolicy(2)`, by the thread itself.
    pub fn set_own(&self, policy: Option<Arc<Policy>>) {
        let flags = current_ref().flags();
        if policy.is_some() {
            flags.set(ThreadFlags::MEMPOLICY);
        } else {
            flags.clear(ThreadFlags::MEMPOLICY);
        }
        self.last.store(0, Relaxed);
        self.left.store(0, Relaxed);
        let old = core::mem::replace(&mut *self.policy.lock(), policy);
        drop(old);
    }

    /// The node that has the next turn, for policies with turns.
    pub fn next_turn(&self, policy: &Policy) -> Option<usize> {
        let last = (self.last.load(Relaxed) as usize).checked_sub(1);
        if policy.mode == Mode::WeightedInterleave && self.left.load(Relaxed) > 0 {
            return last;
        }
        match last {
            Some(last) => policy.nodes.after(last),
            None => policy.nodes.first(),
        }
    }

    fn take_turn(&self, policy: &Policy) -> Option<usize> {
        let node = self.next_turn(policy)?;
        if policy.mode == Mode::WeightedInterleave {
            let left = self.left.load(Relaxed);
            let left = if left == 0 { u32::from(weight(node)) } else { left };
            self.left.store(left - 1, Relaxed);
        }
        self.last.store(node as u32 + 1, Relaxed);
        Some(node)
    }
}

/// Who knows the running thread's [`TaskPolicy`]; implemented by the kernel.
pub trait TaskPolicies: Sync {
    /// Calls `f` with that of the running thread, if it has one.
    fn with_current(&self, f: &mut dyn FnMut(&TaskPolicy));
}

static TASKS: Once<&'static dyn TaskPolicies> = Once::new();

/// Sets who knows the threads' policies. The first call wins.
pub fn set_task_policies(tasks: &'static dyn TaskPolicies) {
    TASKS.call_once(|| tasks);
}

/// Whether the running thread has a policy of its own.
#[inline]
pub(crate) fn current_has_policy() -> bool {
    current_ref().flags().load().contains(ThreadFlags::MEMPOLICY)
}

/// The policy of the running thread.
fn current_policy() -> Option<Arc<Policy>> {
    let mut found = None;
    TASKS.get()?.with_current(&mut |task| found = task.get());
    found
}

/// A page as the running thread's policy says, for the place with number `index` of an area that has none.
pub(crate) fn alloc_by_task(gfp: Gfp, index: u64) -> Result<Frame, OutOfMemory> {
    match current_policy().filter(|_| !arch::irq::in_interrupt()) {
        Some(policy) => policy.alloc_indexed(gfp, index),
        None => page_alloc::alloc_page(gfp),
    }
}

/// A page that belongs to no place, as the running thread's policy says: nodes in turn go by the thread's turns.
#[cold]
fn alloc_by_turn(gfp: Gfp) -> Result<Frame, OutOfMemory> {
    let Some(policy) = current_policy() else { return page_alloc::alloc_page(gfp) };
    let mut turn = None;
    if policy.mode.takes_turns()
        && let Some(tasks) = TASKS.get()
    {
        tasks.with_current(&mut |task| turn = task.take_turn(&policy));
    }
    policy.alloc_at(gfp, policy.place(|| turn))
}

// ---- objects ---------------------------------------------------------------------------------

/// The policies of a shared object, by page index.
#[derive(Default)]
pub struct SharedPolicies {
    some: AtomicBool,
    ranges: SpinLock<Vec<(Range<u64>, Arc<Policy>)>>,
}

impl SharedPolicies {
    /// The policy of page `index`.
    pub fn get(&self, index: u64) -> Option<Arc<Policy>> {
        if !self.some.load(Relaxed) {
            return None;
        }
        let ranges = self.ranges.lock();
        ranges.iter().find(|(range, _)| range.contains(&index)).map(|(_, policy)| policy.clone())
    }

    /// Sets (or takes away) the policy of a range of pages.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set(&self, range: Range<u64>, policy: Option<Arc<Policy>>) -> Result<()> {
        let mut ranges = self.ranges.lock();
        // Each range may become two, and one is new.
        let most = ranges.len() * 2 + 1;
        let mut new = Vec::new();
        new.try_reserve(most).map_err(|_| Errno::ENOMEM)?;
        for (old, kept) in ranges.iter() {
            for part in [old.start..old.end.min(range.start), old.start.max(range.end)..old.end] {
                if !part.is_empty() {
                    new.push_reserved((part, kept.clone()));
                }
            }
        }
        if let Some(policy) = policy {
            new.push_reserved((range, policy));
        }
        self.some.store(!new.is_empty(), Relaxed);
        let gone = core::mem::replace(&mut *ranges, new);
        drop(ranges);
        drop(gone);
        Ok(())
    }

    /// A page for index `index` of the object: by its own policy, or the running thread's.
    pub(crate) fn alloc(&self, gfp: Gfp, index: u64) -> Result<Folio, OutOfMemory> {
        if let Some(policy) = self.get(index) {
            return policy.alloc_indexed(gfp, index).map(Frame::into_folio);
        }
        alloc_cache_page(gfp)
    }
}

/// A page for a page cache, by the running thread's policy.
#[inline]
pub(crate) fn alloc_cache_page(gfp: Gfp) -> Result<Folio, OutOfMemory> {
    if current_has_policy() {
        return alloc_by_turn(gfp).map(Frame::into_folio);
    }
    Folio::alloc(gfp, Order::ZERO)
}

#[cfg(test)]
#[path = "mempolicy_tests.rs"]
mod tests;
