//! Keys and keyrings: keyrings(7), add_key(2), request_key(2), keyctl(2).
//!
//! A [`Key`] is a small secret or a keyring, which holds other keys. Threads have keyrings of their own ([`slots`]), users
//! have theirs; a key lives as long as somebody holds it. Who may do what follows from the owner, from permission bits, and
//! from *possession*: whether a key is found on the way down from the thread's own keyrings ([`lookup`]).
//!
//! | file | matter |
//! |---|---|
//! | [`key`] | keys, their serial numbers |
//! | [`kind`] | the types: `user`, `logon`, `keyring`, `big_key` |
//! | [`quota`] | what each user's keys may take |
//! | [`ring`] | links of keyrings |
//! | [`search`] | looking for a key in keyrings |
//! | [`slots`] | the keyrings of threads and users |
//! | [`lookup`] | from the number in a call to a key, with permissions |
//! | [`add`], [`manage`], [`links`] | what the calls do |
//! | [`syscalls`] | the calls |
//! | [`show`] | `/proc/keys`, `/proc/key-users`, sysctls |
//!
//! There is no program that could make keys on request (`/sbin/request-key` is not started), so `request_key` finds what
//! is there or leaves a negative key.
//!
//! # Locks
//! Everything that looks at more than one key holds [`LOCK`], a sleeping lock; user memory is copied outside of it. A key's
//! `state` is a spin lock inside, as are a thread's slots, the tables of keys and of users, all leaves.

pub mod add;
pub mod key;
pub mod kind;
pub mod links;
pub mod lookup;
pub mod manage;
pub mod quota;
pub mod ring;
pub mod search;
pub mod show;
pub mod slots;
pub mod syscalls;

pub use key::Key;
pub use slots::Slots;

use sched::mutex::Mutex;

/// Held by every operation on keys.
pub static LOCK: Mutex<()> = Mutex::new(());

/// Seconds since 1970.
pub fn now() -> i64 {
    (sched::time::realtime_ns() / 1_000_000_000) as i64
}
