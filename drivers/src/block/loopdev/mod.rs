//! Loop devices: a file as a disk. `loop(4)`, `linux/loop.h`.
//!
//! | file | what |
//! |---|---|
//! | `control` | `/dev/loop-control`, and which devices there are |
//! | `device` | a device: bound to a file or not |
//! | `ioctl` | its ioctl(2) |
//! | `io` | its transfers |
//!
//! A request waits on the device's list for a thread, since reading and writing a file may sleep. One thread at a time serves a device.
//!
//! # Locks
//!
//! The table of devices → a disk's `opening` → a device's state → the queue's freeze. The file that is bound is found through a spin lock of
//! its own, which transfers take.

mod control;
mod device;
mod io;
mod ioctl;

pub use control::{CONTROL_MINOR, COUNT, init, set_files};
