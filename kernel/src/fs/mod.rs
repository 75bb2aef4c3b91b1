//! File system calls: thin, one file per family.
//!
//! A call here decodes what the user passed and calls `vfs`, which knows nothing of descriptors in
//! registers or user addresses. Rules of files live there; only the order in which Linux looks at
//! arguments, and what belongs to the process (descriptors, limits), lives here.

pub mod context;
pub mod dirs;
pub mod event;
pub mod fd;
pub mod handle;
mod ioctl;
pub mod legacy;
pub mod mount;
pub mod mountapi;
pub mod names;
pub mod notify;
pub mod open;
mod owner;
pub mod pipe;
pub mod poll;
pub mod quota;
pub mod rw;
pub mod stat;
pub mod statmount;
pub mod xattr;
