//! A filter: a checked program, and the filters that were there before it.

use super::cache::Allowed;
use super::listener::Listener;
use abi::seccomp::{SeccompData, c};
use alloc::sync::Arc;
use cbpf::{Data, Insn, Program, Width, code};
use zerocopy::IntoBytes;

/// Most instructions on one path, each filter after the first counting [`PENALTY`] more.
const MAX_INSNS_PER_PATH: usize = (1 << 18) / 8;
const PENALTY: usize = 4;

/// One filter. Immutable once threads have it.
pub struct Filter {
    program: Program,
    /// The filters before it.
    prev: Option<Arc<Filter>>,
    /// Filters on the path, this one included.
    depth: u32,
    /// Instructions on the path, with penalties.
    cost: usize,
    /// `SECCOMP_FILTER_FLAG_LOG`.
    pub log: bool,
    /// Who decides about its `SECCOMP_RET_USER_NOTIF`.
    pub listener: Option<Arc<Listener>>,
    /// Calls that the path allows whatever the arguments.
    allowed: Allowed,
}

/// Whether seccomp knows the instruction: no packet data, loads of whole words of [`SeccompData`] only.
pub fn is_allowed(insn: &Insn) -> bool {
    use code::*;
    const LD_ABS: u16 = LD | W | ABS;
    const LD_LEN: u16 = LD | W | LEN;
    const LDX_LEN: u16 = LDX | W | LEN;
    const LD_IMM: u16 = LD | IMM;
    const LD_MEM: u16 = LD | MEM;
    const LDX_IMM: u16 = LDX | IMM;
    const LDX_MEM: u16 = LDX | MEM;
    match insn.code {
        LD_ABS => insn.k.is_multiple_of(4) && (insn.k as usize) < size_of::<SeccompData>(),
        LD_LEN | LDX_LEN | LD_IMM | LD_MEM | LDX_IMM | LDX_MEM => true,
        other => match other & 7 {
            LD | LDX => false,
            ALU => other & 0xf0 != MOD,
            _ => true,
        },
    }
}

/// [`SeccompData`] as a program sees it.
struct View<'a>(&'a SeccompData);

impl Data for View<'_> {
    fn len(&self) -> u32 {
        size_of::<SeccompData>() as u32
    }

    #[inline]
    fn load(&self, offset: u32, _: Width) -> Option<u32> {
        let bytes = self.0.as_bytes().get(offset as usize..)?;
        Some(u32::from_ne_bytes(*bytes.first_chunk()?))
    }
}

impl Filter {
    /// A filter on top of `prev`. `None`: the path would be too long.
    pub fn new(
        program: Program,
        prev: Option<Arc<Self>>,
        log: bool,
        listener: Option<Arc<Listener>>,
    ) -> Option<Self> {
        let cost = program.len() + prev.as_ref().map_or(0, |p| p.cost + PENALTY);
        if cost > MAX_INSNS_PER_PATH {
            return None;
        }
        let depth = 1 + prev.as_ref().map_or(0, |p| p.depth);
        let allowed = Allowed::of(&program, prev.as_ref().map(|p| &p.allowed));
        Some(Self { program, prev, depth, cost, log, listener, allowed })
    }

    /// Filters on the path.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The path, newest first.
    pub fn path(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |f| f.prev.as_deref())
    }

    /// Whether the whole path allows call `nr` whatever its arguments.
    #[inline]
    pub fn always_allows(&self, nr: i32) -> bool {
        self.allowed.has(nr)
    }

    /// Asks every filter of the path: the most restrictive answer, of equal ones the newest filter's.
    pub fn ask(&self, data: &SeccompData) -> (u32, &Self) {
        let view = View(data);
        // The order of actions is that of their numbers, with a sign.
        let rank = |value: u32| (value & c::SECCOMP_RET_ACTION_FULL) as i32;
        let mut found = (c::SECCOMP_RET_ALLOW, self);
        for filter in self.path() {
            let value = filter.program.run(&view).unwrap_or(c::SECCOMP_RET_KILL_PROCESS);
            if rank(value) < rank(found.0) {
                found = (value, filter);
            }
        }
        found
    }
}

impl Drop for Filter {
    /// The path may be thousands of filters long: one after the other, not one inside the other.
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.orphaned();
        }
        let mut next = self.prev.take();
        while let Some(filter) = next {
            next = Arc::into_inner(filter).and_then(|mut last| last.prev.take());
        }
    }
}
