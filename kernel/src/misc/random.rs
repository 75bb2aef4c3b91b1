//! Random numbers: getrandom(2), random(4).
//!
//! One ChaCha20 generator per system with fast key erasure: every request takes a fresh key from the stream before
//! it takes output, so that a later look at memory says nothing about earlier output. The seed is the
//! hardware's generator where there is one, mixed with timing jitter; interrupts and users of `/dev/urandom` add to
//! it. The generator counts as seeded from boot on if the hardware has an instruction for it, otherwise after
//! enough interrupts.
//!
//! Locks: [`STATE`] (interrupts off), a leaf; long requests release it between blocks of output.

use crate::syscall::Syscall;
use abi::{Errno, Result, raw};
use arch::sync::SpinLockIrq;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use core::sync::atomic::{AtomicU32, Ordering};
use mm::user::UserPtr;
use sched::wait::WaitQueue;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[GETRANDOM];

/// Bits of estimated entropy that make the generator ready.
const READY_BITS: u32 = 256;

struct State {
    key: [u8; 32],
    counter: u64,
}

static STATE: SpinLockIrq<State> = SpinLockIrq::new(State { key: [0x5a; 32], counter: 0 });
static BITS: AtomicU32 = AtomicU32::new(0);
static READY: WaitQueue = WaitQueue::new();

impl State {
    /// The stream of the present key; the key is replaced by its first block.
    fn stream(&mut self) -> ChaCha20 {
        self.counter = self.counter.wrapping_add(1);
        let mut nonce = [0u8; 12];
        let (low, _) = nonce.split_at_mut(8);
        low.copy_from_slice(&self.counter.to_le_bytes());
        let mut stream = ChaCha20::new(&self.key.into(), &nonce.into());
        let mut next = [0u8; 32];
        stream.apply_keystream(&mut next);
        self.key = next;
        stream
    }

    /// Mixes bytes into the key: what was there is lost to nobody who does not know all of them.
    fn mix(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(32) {
            for (k, b) in self.key.iter_mut().zip(chunk) {
                *k ^= b;
            }
            self.stream();
        }
    }
}

/// Seeds the generator at boot.
pub fn init() {
    let mut credited = 0;
    for _ in 0..8 {
        if let Some(word) = arch::random::hw_seed() {
            STATE.lock().mix(&word.to_le_bytes());
            credited += 64;
        }
        add_jitter();
    }
    credit(credited);
}

/// A moment that an attacker cannot know exactly: an interrupt, a scheduling event.
pub fn add_jitter() {
    let noise = arch::random::jitter() ^ arch::time::now_raw().rotate_left(32);
    STATE.lock().mix(&noise.to_le_bytes());
}

/// Called by the tick while the generator is not ready: each adds at most a bit.
pub fn tick() {
    if !is_ready() {
        add_jitter();
        credit(1);
    }
}

/// Mixes what a user wrote to `/dev/urandom`, which is worth nothing until proven.
pub fn add_bytes(bytes: &[u8]) {
    STATE.lock().mix(bytes);
}

fn credit(bits: u32) {
    let before = BITS.fetch_add(bits, Ordering::Release);
    if before < READY_BITS && before.saturating_add(bits) >= READY_BITS {
        READY.wake_all();
        log::info!("random: crng init done");
    }
}

/// Whether the generator has seen enough.
pub fn is_ready() -> bool {
    BITS.load(Ordering::Acquire) >= READY_BITS
}

/// Fills `out`.
pub fn fill(out: &mut [u8]) {
    out.fill(0);
    let mut stream = STATE.lock().stream();
    stream.apply_keystream(out);
}

/// 64 random bits.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Waits until the generator is ready.
///
/// # Errors
/// `ERESTARTSYS`.
pub fn wait_ready() -> Result<()> {
    if is_ready() {
        return Ok(());
    }
    // Without a hardware generator and without interrupts to learn from, sampling the clock against itself is
    // what is left.
    for _ in 0..READY_BITS {
        add_jitter();
        sched::cond_resched();
    }
    credit(READY_BITS);
    READY.wait_event_interruptible(is_ready).map_err(Into::into)
}

#[macros::syscall(getrandom)]
fn sys_getrandom(buf: UserPtr<u8>, buflen: usize, flags: u32) -> Result<usize> {
    let known = raw::GRND_NONBLOCK | raw::GRND_RANDOM | raw::GRND_INSECURE;
    let both = raw::GRND_RANDOM | raw::GRND_INSECURE;
    if flags & !known != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    if flags & raw::GRND_INSECURE == 0 && !is_ready() {
        if flags & raw::GRND_NONBLOCK != 0 {
            return Err(Errno::EAGAIN);
        }
        wait_ready()?;
    }
    let len = buflen.min(i32::MAX as usize);
    let mut chunk = [0u8; 256];
    let mut done = 0;
    while done < len {
        let now = chunk.len().min(len - done);
        let part = chunk.get_mut(..now).unwrap_or_default();
        fill(part);
        if buf.add(done).slice(now).copy_from(part).is_err() {
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
        done += now;
        if done < len && sched::current().has_pending_signal() {
            break;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_never_repeats_and_the_key_changes() {
        let mut s = State { key: [1; 32], counter: 0 };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut out = [0u8; 16];
            s.stream().apply_keystream(&mut out);
            assert!(seen.insert(out));
            assert!(seen.insert(s.key[..16].try_into().unwrap()));
        }
    }

    #[test]
    fn mixing_changes_the_stream() {
        let mut a = State { key: [1; 32], counter: 0 };
        let mut b = State { key: [1; 32], counter: 0 };
        a.mix(b"x");
        b.mix(b"y");
        assert_ne!(a.key, b.key);
    }
}
