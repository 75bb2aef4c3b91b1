//! Memory policies: `<linux/mempolicy.h>`, `set_mempolicy(2)`.

#![allow(missing_docs)]

pub const MPOL_DEFAULT: u32 = 0;
pub const MPOL_PREFERRED: u32 = 1;
pub const MPOL_BIND: u32 = 2;
pub const MPOL_INTERLEAVE: u32 = 3;
pub const MPOL_LOCAL: u32 = 4;
pub const MPOL_PREFERRED_MANY: u32 = 5;
pub const MPOL_WEIGHTED_INTERLEAVE: u32 = 6;
/// The first number that is no mode.
pub const MPOL_MAX: u32 = 7;

pub const MPOL_F_STATIC_NODES: u32 = 1 << 15;
pub const MPOL_F_RELATIVE_NODES: u32 = 1 << 14;
pub const MPOL_F_NUMA_BALANCING: u32 = 1 << 13;
/// Flags that come with a mode.
pub const MPOL_MODE_FLAGS: u32 = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING;

/// `get_mempolicy(2)`: a node, not a mode.
pub const MPOL_F_NODE: usize = 1;
/// `get_mempolicy(2)`: of an address.
pub const MPOL_F_ADDR: usize = 2;
/// `get_mempolicy(2)`: the nodes that may be named.
pub const MPOL_F_MEMS_ALLOWED: usize = 4;

/// `mbind(2)`: pages must be where the policy says.
pub const MPOL_MF_STRICT: u32 = 1;
/// `mbind(2)`: moves pages of this process alone.
pub const MPOL_MF_MOVE: u32 = 2;
/// `mbind(2)`: moves all pages.
pub const MPOL_MF_MOVE_ALL: u32 = 4;
