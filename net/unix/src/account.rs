//! What a socket has on its way: the memory of sent messages is held against the sender until they are received.
//!
//! As in Linux, a message counts with the memory that a network buffer for it takes, so that as many messages fit into a
//! buffer of a given size as there: programs, and people, tune by that.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use abi::Result;
use abi::poll::PollEvents;
use mm::fallible::try_arc;
use sched::wait::WaitQueue;

/// Bytes of a buffer's header.
const HEADER: usize = 256;
/// Bytes behind the data that describe further pages.
const SHARED_INFO: usize = 320;
/// The smallest block that data come in.
const SMALL_BLOCK: usize = 704;
/// Bytes of data up to which they lie in one block.
const LINEAR: usize = PAGE - SHARED_INFO;
const PAGE: usize = 4096;

/// The memory of a message of `len` bytes (`truesize`).
pub const fn true_size(len: usize) -> usize {
    let in_pages = len.saturating_sub(LINEAR).next_multiple_of(PAGE);
    let in_pages = if in_pages > len { len } else { in_pages };
    let block = len - in_pages + SHARED_INFO;
    let block = if block <= SMALL_BLOCK { SMALL_BLOCK } else { block.next_power_of_two() };
    HEADER + block + in_pages.next_multiple_of(PAGE)
}

/// A sender's account.
pub struct Account {
    bytes: AtomicUsize,
    /// `SO_SNDBUF`.
    limit: AtomicU32,
    /// Those who wait for room.
    pub room: WaitQueue,
}

impl Account {
    /// An empty one.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(limit: u32) -> Result<Arc<Self>> {
        let (bytes, limit) = (AtomicUsize::new(0), AtomicU32::new(limit));
        Ok(try_arc(Self { bytes, limit, room: WaitQueue::new() })?)
    }

    /// Bytes on their way (`SIOCOUTQ`).
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether another message may be sent.
    pub fn has_room(&self) -> bool {
        self.bytes() < self.limit.load(Ordering::Relaxed) as usize
    }

    /// Whether it is worth while to wake a sender: three quarters are free.
    pub fn is_writable(&self) -> bool {
        self.bytes() * 4 <= self.limit.load(Ordering::Relaxed) as usize
    }

    /// Another `SO_SNDBUF`.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
        self.wake();
    }

    /// Wakes who waits for room, to look again.
    pub fn wake(&self) {
        self.room.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND);
    }

    /// Enters a message of `len` bytes.
    pub fn charge(self: &Arc<Self>, len: usize) -> Charge {
        let bytes = true_size(len);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge { account: self.clone(), bytes }
    }
}

/// What one message is charged; given back when it is dropped, which must not happen under a lock of sockets.
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if self.account.is_writable() {
            self.account.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cost_what_their_buffers_take() {
        assert_eq!(true_size(0), 256 + 704);
        assert_eq!(true_size(384), 256 + 704);
        assert_eq!(true_size(385), 256 + 1024);
        assert_eq!(true_size(LINEAR), 256 + 4096);
        // One page, and nothing but the description in the block.
        assert_eq!(true_size(4096), 256 + 704 + 4096);
        assert_eq!(true_size(32 * 1024), 256 + 704 + 32 * 1024);
    }

    #[test]
    fn room_comes_back() {
        let account = Account::new(4000).unwrap();
        let charges: std::vec::Vec<_> = (0..4).map(|_| account.charge(1)).collect();
        assert!(account.has_room() && !account.is_writable());
        let last = account.charge(1);
        assert!(!account.has_room());
        drop((charges, last));
        assert!(account.is_writable());
        assert_eq!(account.bytes(), 0);
    }
}
