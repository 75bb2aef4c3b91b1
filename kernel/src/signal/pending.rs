//! A queue of pending signals: one per thread, one per process.
//!
//! A standard signal is pending at most once; a real-time signal queues each instance, oldest
//! first. Which signal leaves first is decided by [`SigSet::first`]. Instances live in a slab of
//! slots linked by index, in order of arrival, so that adding is constant time, nothing moves on
//! removal, and the memory is used again for the next signal.
//!
//! When there is no memory or the user's `RLIMIT_SIGPENDING` is used up, the signal still becomes
//! pending but without its siginfo; only `sigqueue(3)` hears of it (`EAGAIN`, in the sender).
//! The queue itself takes no lock: its owner's `siglock` covers it.

use super::set::{SigSet, Signal};
use abi::signal::Siginfo;
use alloc::vec::Vec;
use mm::fallible::TryVec;

const NONE: u32 = u32::MAX;

/// Above this many slots an emptied queue gives its memory back.
const KEEP_SLOTS: usize = 16;

/// One queued instance. `C` is what it costs its sender (released by drop).
#[derive(Debug)]
struct Slot<C> {
    info: Siginfo,
    charge: Option<C>,
    next: u32,
}

/// Pending signals with their siginfo.
#[derive(Debug)]
pub struct Pending<C> {
    set: SigSet,
    slots: Vec<Slot<C>>,
    head: u32,
    tail: u32,
    free: u32,
    queued: u32,
}

/// Why an instance could not be queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl<C> Default for Pending<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> Pending<C> {
    /// An empty queue; it allocates when the first signal arrives.
    pub const fn new() -> Self {
        Self { set: SigSet::EMPTY, slots: Vec::new(), head: NONE, tail: NONE, free: NONE, queued: 0 }
    }

    /// The pending signals.
    pub const fn set(&self) -> SigSet {
        self.set
    }

    /// How many instances are queued.
    pub const fn queued(&self) -> u32 {
        self.queued
    }

    /// Makes `signal` pending without siginfo.
    pub fn mark(&mut self, signal: Signal) {
        self.set.add(signal);
    }

    /// Whether another instance of `signal` would add nothing.
    pub fn is_duplicate(&self, signal: Signal) -> bool {
        !signal.is_realtime() && self.set.has(signal)
    }

    /// Queues an instance of `signal` and makes it pending.
    ///
    /// # Errors
    /// [`NoMemory`]; the signal is not pending then.
    pub fn push(&mut self, signal: Signal, info: Siginfo, charge: Option<C>) -> Result<(), NoMemory> {
        let slot = Slot { info, charge, next: NONE };
        let index = self.free;
        let index = if let Some(old) = self.slots.get_mut(index as usize) {
            self.free = old.next;
            *old = slot;
            index
        } else {
            self.slots.try_reserve(1).map_err(|_| NoMemory)?;
            self.slots.push_reserved(slot);
            (self.slots.len() - 1) as u32
        };
        match self.slots.get_mut(self.tail as usize) {
            Some(tail) => tail.next = index,
            None => self.head = index,
        }
        self.tail = index;
        self.queued += 1;
        self.set.add(signal);
        Ok(())
    }

    /// Takes the next signal that is not in `blocked`.
    pub fn take(&mut self, blocked: SigSet) -> Option<(Signal, Siginfo)> {
        let signal = self.set.minus(blocked).first()?;
        Some((signal, self.take_signal(signal)))
    }

    /// Takes the oldest instance of `signal`, which is pending.
    pub fn take_signal(&mut self, signal: Signal) -> Siginfo {
        let mut found = None;
        let mut more = false;
        let mut prev = NONE;
        let mut at = self.head;
        while let Some(slot) = self.slots.get(at as usize) {
            if slot.info.signo == signal.number() {
                if found.is_some() {
                    more = true;
                    break;
                }
                found = Some((prev, at));
            }
            prev = at;
            at = slot.next;
        }
        if !more {
            self.set.remove(signal);
        }
        match found {
            Some((prev, at)) => self.unlink(prev, at),
            None => Siginfo::from_kill(signal.number(), abi::signal::SI_USER, 0, 0),
        }
    }

    /// The siginfo of the `index`th instance in order of arrival, which stays.
    pub fn nth(&self, index: usize) -> Option<Siginfo> {
        let mut at = self.head;
        for _ in 0..index {
            at = self.slots.get(at as usize)?.next;
        }
        self.slots.get(at as usize).map(|slot| slot.info)
    }

    /// Drops every instance of the members of `signals`.
    pub fn flush(&mut self, signals: SigSet) {
        if self.set.and(signals).is_empty() {
            return;
        }
        self.set = self.set.minus(signals);
        let mut prev = NONE;
        let mut at = self.head;
        while let Some(slot) = self.slots.get(at as usize) {
            let next = slot.next;
            if Signal::new(slot.info.signo).is_some_and(|s| signals.has(s)) {
                self.unlink(prev, at);
            } else {
                prev = at;
            }
            at = next;
        }
    }

    /// Changes the siginfo of the queued instance that `pick` accepts; says whether there is one.
    pub fn update(&mut self, mut pick: impl FnMut(&mut Siginfo) -> bool) -> bool {
        let mut at = self.head;
        while let Some(slot) = self.slots.get_mut(at as usize) {
            if pick(&mut slot.info) {
                return true;
            }
            at = slot.next;
        }
        false
    }

    fn unlink(&mut self, prev: u32, at: u32) -> Siginfo {
        let Some(slot) = self.slots.get_mut(at as usize) else { return Siginfo::default() };
        let (info, next) = (slot.info, slot.next);
        drop(slot.charge.take());
        slot.next = self.free;
        self.free = at;
        match self.slots.get_mut(prev as usize) {
            Some(prev) => prev.next = next,
            None => self.head = next,
        }
        if self.tail == at {
            self.tail = prev;
        }
        self.queued -= 1;
        if self.queued == 0 && self.slots.len() > KEEP_SLOTS {
            let set = self.set;
            *self = Self::new();
            self.set = set;
        }
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn info(signal: i32, value: u64) -> Siginfo {
        Siginfo::from_queue(signal, abi::signal::SI_QUEUE, 1, 0, value)
    }

    fn sig(n: i32) -> Signal {
        Signal::new(n).unwrap()
    }

    #[test]
    fn realtime_is_ordered_by_number_then_age() {
        let mut p: Pending<()> = Pending::new();
        for (n, v) in [(40, 1), (35, 2), (40, 3), (35, 4), (10, 5)] {
            p.push(sig(n), info(n, v), None).unwrap();
        }
        let mut order = Vec::new();
        while let Some((s, i)) = p.take(SigSet::EMPTY) {
            order.push((s.number(), i.value()));
        }
        assert_eq!(order, [(10, 5), (35, 2), (35, 4), (40, 1), (40, 3)]);
        assert!(p.set().is_empty());
    }

    #[test]
    fn a_marked_signal_has_plain_siginfo() {
        let mut p: Pending<()> = Pending::new();
        p.mark(Signal::SIGTERM);
        let (s, i) = p.take(SigSet::EMPTY).unwrap();
        assert_eq!((s, i.signo, i.code, i.pid()), (Signal::SIGTERM, 15, 0, 0));
    }

    #[test]
    fn charges_are_released() {
        let cost = Rc::new(());
        let mut p = Pending::new();
        for n in 0..40 {
            p.push(sig(33), info(33, n), Some(cost.clone())).unwrap();
        }
        assert_eq!(Rc::strong_count(&cost), 41);
        p.flush(SigSet::FULL);
        assert_eq!(Rc::strong_count(&cost), 1);
        assert!(p.slots.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(i32, u64),
        Take(u64),
        Flush(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (1..=64i32, any::<u64>()).prop_map(|(n, v)| Op::Push(n, v)),
            3 => any::<u64>().prop_map(Op::Take),
            1 => any::<u64>().prop_map(Op::Flush),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_list(ops in proptest::collection::vec(op(), 0..200)) {
            let mut p: Pending<()> = Pending::new();
            let mut model: VecDeque<(i32, u64)> = VecDeque::new();
            for op in ops {
                match op {
                    Op::Push(n, v) => {
                        if !p.is_duplicate(sig(n)) {
                            p.push(sig(n), info(n, v), None).unwrap();
                            model.push_back((n, v));
                        }
                    }
                    Op::Take(blocked) => {
                        let set = model.iter().fold(SigSet::EMPTY, |s, &(n, _)| s.with(sig(n)));
                        prop_assert_eq!(set, p.set());
                        let expect = set.minus(SigSet(blocked)).first().map(|s| {
                            let at = model.iter().position(|&(n, _)| n == s.number()).unwrap();
                            model.remove(at).unwrap()
                        });
                        let got = p.take(SigSet(blocked)).map(|(s, i)| (s.number(), i.value()));
                        prop_assert_eq!(got, expect);
                    }
                    Op::Flush(set) => {
                        p.flush(SigSet(set));
                        model.retain(|&(n, _)| !SigSet(set).has(sig(n)));
                    }
                }
                prop_assert_eq!(p.queued() as usize, model.len());
            }
        }
    }
}
