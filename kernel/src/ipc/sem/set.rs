//! A semaphore set: values, waiters, and what a change of values wakes.
//!
//! Lock: one per set ([`SemSet::lock`]), a leaf.

use super::attempt::{Attempt, Sem, attempt};
use super::undo::{Known, Undo};
use crate::ipc::ids::Object;
use crate::ipc::perm::Perm;
use crate::ipc::wake::Sleeper;
use crate::process::Pid;
use abi::ipc::Sembuf;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use arch::sync::{Preempt, SpinLock};
use core::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use mm::fallible::try_with_capacity;
use mm::fallible::{TryDeque, try_arc};
use sched::Task;
use smallvec::SmallVec;
use sync::SpinLockGuard;

/// Operations that fit into a call or a waiter without allocating.
pub const INLINE_OPS: usize = 4;

/// Nobody has ended the wait yet.
const WAITING: i32 = 1;

/// Waiters to wake.
pub type Batch = crate::ipc::wake::Batch<Waiter>;

/// A list of operations that waits.
pub struct Waiter {
    pub(super) task: Arc<Task>,
    pub(super) pid: Arc<Pid>,
    pub(super) ops: SmallVec<[Sembuf; INLINE_OPS]>,
    pub(super) undo: Option<Arc<Undo>>,
    /// Which of them has to wait; under the set's lock.
    blocking: AtomicUsize,
    /// [`WAITING`], 0, or a negative error number.
    status: AtomicI32,
    /// When it came, among all waiters of the set; under the set's lock.
    ticket: AtomicU64,
}

impl Sleeper for Waiter {
    fn task(&self) -> &Task {
        &self.task
    }
}

impl Waiter {
    /// A waiter for the running thread, held up at operation `blocking`.
    pub(super) fn new(
        task: Arc<Task>,
        pid: Arc<Pid>,
        ops: SmallVec<[Sembuf; INLINE_OPS]>,
        undo: Option<Arc<Undo>>,
        blocking: usize,
    ) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            task,
            pid,
            ops,
            undo,
            blocking: AtomicUsize::new(blocking),
            status: AtomicI32::new(WAITING),
            ticket: AtomicU64::new(0),
        })?)
    }

    /// The result, once somebody has ended the wait.
    pub(super) fn result(&self) -> Option<Result<()>> {
        // Acquire pairs with the Release in `finish`.
        match self.status.load(Ordering::Acquire) {
            WAITING => None,
            0 => Some(Ok(())),
            error => Some(Err(Errno::new(-error).unwrap_or(Errno::EINVAL))),
        }
    }

    /// Ends the wait; the record is in no queue any more.
    fn finish(self: Arc<Self>, result: Result<()>, batch: &mut Batch) {
        let status = result.map_or_else(|error| -error.code(), |()| 0);
        self.status.store(status, Ordering::Release);
        batch.add(self);
    }

    /// The operation that holds it up.
    fn blocking(&self) -> Option<&Sembuf> {
        self.ops.get(self.blocking.load(Ordering::Relaxed))
    }

    fn alters(&self) -> bool {
        alters(&self.ops)
    }

    fn ticket(&self) -> u64 {
        self.ticket.load(Ordering::Relaxed)
    }

    /// The semaphore of a single operation.
    fn first(&self) -> usize {
        self.ops.first().map_or(0, |op| usize::from(op.num))
    }
}

/// Whether `ops` would change a value.
pub fn alters(ops: &[Sembuf]) -> bool {
    ops.iter().any(|op| op.op != 0)
}

type Queue = VecDeque<Arc<Waiter>>;

/// Those who wait with a single operation for one semaphore.
#[derive(Default)]
struct Pending {
    alter: Queue,
    zero: Queue,
    /// Scratch of [`State::unmerge`].
    incoming: usize,
}

/// Which semaphores were changed.
#[derive(Clone, Copy)]
pub enum Changed<'a> {
    /// Those of the operations that were done.
    Ops(&'a [Sembuf]),
    /// Any.
    All,
}

/// What the lock of a set covers.
pub struct State {
    /// The semaphores.
    pub sems: Box<[Sem]>,
    /// Time of the last operation.
    pub otime: i64,
    /// Time of the last change by `semctl(2)`.
    pub ctime: i64,
    /// Adjustments that processes owe to the set.
    pub undos: Known,
    pending: Box<[Pending]>,
    /// Waiters that change something, if there is one with several operations (or was, and memory is short): then all of them.
    merged_alter: Queue,
    /// Waiters with several operations that change nothing.
    complex_zero: Queue,
    /// How many waiters have several operations.
    complex: usize,
    /// Whether `merged_alter` is in use instead of `Pending::alter`.
    merged: bool,
    next_ticket: u64,
}

/// A semaphore set.
pub struct SemSet {
    perm: Perm,
    len: usize,
    state: SpinLock<State>,
}

/// The parts of a set that is to be made.
pub struct Parts {
    sems: Box<[Sem]>,
    pending: Box<[Pending]>,
}

#[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
fn boxed<T: Default>(len: usize) -> Result<Box<[T]>> {
    let mut all = try_with_capacity(len)?;
    all.resize_with(len, T::default);
    Ok(all.into_boxed_slice())
}

impl Parts {
    /// Memory for `len` semaphores.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(len: usize) -> Result<Self> {
        Ok(Self { sems: boxed(len)?, pending: boxed(len)? })
    }
}

impl Object for SemSet {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

impl SemSet {
    /// A set whose semaphores are 0.
    pub fn new(perm: Perm, parts: Parts) -> Self {
        Self {
            perm,
            len: parts.sems.len(),
            state: SpinLock::new(State {
                sems: parts.sems,
                otime: 0,
                ctime: crate::ipc::now(),
                undos: Known::default(),
                pending: parts.pending,
                merged_alter: Queue::new(),
                complex_zero: Queue::new(),
                complex: 0,
                merged: false,
                next_ticket: 0,
            }),
        }
    }

    /// How many semaphores it has.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Takes the lock.
    pub fn lock(&self) -> SpinLockGuard<'_, State, Preempt> {
        self.state.lock()
    }

    /// `EIDRM` if it was removed. Call under its lock.
    ///
    /// # Errors
    /// `EIDRM`.
    pub fn check_alive(&self) -> Result<()> {
        self.perm.check_alive()
    }

    /// Ends every wait with `EIDRM`; adjustments are void.
    pub fn remove(&self) {
        let mut batch = Batch::new();
        let mut state = self.lock();
        self.perm.mark_removed();
        let undos = core::mem::take(&mut state.undos);
        let State { pending, merged_alter, complex_zero, .. } = &mut *state;
        let queues = pending.iter_mut().flat_map(|p| [&mut p.alter, &mut p.zero]);
        for queue in queues.chain([merged_alter, complex_zero]) {
            queue.drain(..).for_each(|waiter| waiter.finish(Err(Errno::EIDRM), &mut batch));
        }
        drop(state);
        drop(undos);
    }
}

impl State {
    /// An operation was done now.
    pub fn touch(&mut self) {
        self.otime = crate::ipc::now();
    }

    /// Queues `waiter`, which was held up.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn enqueue(&mut self, waiter: &Arc<Waiter>) -> Result<()> {
        waiter.ticket.store(self.next_ticket, Ordering::Relaxed);
        let (single, alters) = (waiter.ops.len() == 1, waiter.alters());
        if !single && !self.merged {
            self.merge()?;
        }
        let queue = match (single, alters) {
            (false, false) => &mut self.complex_zero,
            (_, true) if self.merged => &mut self.merged_alter,
            (_, alters) => {
                let pending = self.pending.get_mut(waiter.first()).ok_or(Errno::EFBIG)?;
                if alters { &mut pending.alter } else { &mut pending.zero }
            }
        };
        if queue.try_push_back(waiter.clone()).is_err() {
            self.unmerge();
            return Err(Errno::ENOMEM);
        }
        self.next_ticket += 1;
        self.complex += usize::from(!single);
        Ok(())
    }

    /// Takes a waiter out that gives up.
    pub(super) fn dequeue(&mut self, waiter: &Arc<Waiter>) {
        let single = waiter.ops.len() == 1;
        let queue = match (single, waiter.alters()) {
            (false, false) => &mut self.complex_zero,
            (_, true) if self.merged => &mut self.merged_alter,
            (_, alters) => match self.pending.get_mut(waiter.first()) {
                Some(pending) if alters => &mut pending.alter,
                Some(pending) => &mut pending.zero,
                None => return,
            },
        };
        let Some(at) = queue.iter().position(|other| Arc::ptr_eq(other, waiter)) else { return };
        queue.remove(at);
        self.complex -= usize::from(!single);
        self.unmerge();
    }

    /// Brings all waiters that change something into one queue, in the order they came.
    fn merge(&mut self) -> Result<()> {
        let count = self.pending.iter().map(|pending| pending.alter.len()).sum::<usize>();
        self.merged_alter.try_reserve(count + 1).map_err(|_| Errno::ENOMEM)?;
        for pending in &mut self.pending {
            pending.alter.drain(..).for_each(|waiter| self.merged_alter.push_back_reserved(waiter));
        }
        self.merged_alter.make_contiguous().sort_unstable_by_key(|waiter| waiter.ticket());
        self.merged = true;
        Ok(())
    }

    /// Gives every waiter back to its semaphore, if nobody waits with several operations any more. Without memory for that things
    /// stay as they are: right, only slower.
    fn unmerge(&mut self) {
        if !self.merged || self.complex > 0 {
            return;
        }
        for waiter in &self.merged_alter {
            if let Some(pending) = self.pending.get_mut(waiter.first()) {
                pending.incoming += 1;
            }
        }
        let mut room = true;
        for waiter in &self.merged_alter {
            if let Some(pending) = self.pending.get_mut(waiter.first()) {
                let incoming = core::mem::take(&mut pending.incoming);
                room &= pending.alter.try_reserve(incoming).is_ok();
            }
        }
        if !room {
            return;
        }
        while let Some(waiter) = self.merged_alter.pop_front() {
            if let Some(pending) = self.pending.get_mut(waiter.first()) {
                pending.alter.push_back_reserved(waiter);
            }
        }
        self.merged = false;
    }

    /// Does what has become possible since `changed` was changed, and ends those waits.
    pub fn update(&mut self, changed: Changed<'_>, batch: &mut Batch) {
        let mut done = self.wake_zero(changed, batch);
        if self.merged {
            done |= self.try_merged(batch);
        } else {
            match changed {
                // Without waiters for several semaphores only those are left who wait for more.
                Changed::Ops(ops) => {
                    for op in ops.iter().filter(|op| op.op > 0) {
                        done |= self.try_single(usize::from(op.num), batch);
                    }
                }
                Changed::All => {
                    for num in 0..self.pending.len() {
                        done |= self.try_single(num, batch);
                    }
                }
            }
        }
        if done {
            self.touch();
        }
        self.unmerge();
    }

    /// Ends the waits for zero that have come true.
    fn wake_zero(&mut self, changed: Changed<'_>, batch: &mut Batch) -> bool {
        let mut done = false;
        let mut zero = false;
        match changed {
            Changed::Ops(ops) => {
                for op in ops {
                    zero |= self.wake_zero_at(usize::from(op.num), batch, &mut done);
                }
            }
            Changed::All => {
                for num in 0..self.pending.len() {
                    zero |= self.wake_zero_at(num, batch, &mut done);
                }
            }
        }
        if zero && !self.complex_zero.is_empty() {
            let mut queue = core::mem::take(&mut self.complex_zero);
            let mut at = 0;
            while let Some(waiter) = queue.get(at) {
                let Some(result) = self.retry(waiter) else {
                    at += 1;
                    continue;
                };
                let Some(waiter) = queue.remove(at) else { break };
                done |= result.is_ok();
                self.complex -= 1;
                waiter.finish(result, batch);
            }
            self.complex_zero = queue;
        }
        done
    }

    /// Those who wait for one semaphore alone to be zero; whether it is.
    fn wake_zero_at(&mut self, num: usize, batch: &mut Batch, done: &mut bool) -> bool {
        let Self { sems, pending, .. } = self;
        let (Some(sem), Some(pending)) = (sems.get_mut(num), pending.get_mut(num)) else { return false };
        if sem.value != 0 {
            return false;
        }
        for waiter in pending.zero.drain(..) {
            sem.pid.set(&waiter.pid);
            waiter.finish(Ok(()), batch);
            *done = true;
        }
        true
    }

    /// Tries a waiter's operations; `None`: it goes on waiting.
    fn retry(&mut self, waiter: &Waiter) -> Option<Result<()>> {
        match attempt(&mut self.sems, &waiter.ops, waiter.undo.as_deref(), &waiter.pid) {
            Attempt::Done => Some(Ok(())),
            Attempt::Failed(error) => Some(Err(error)),
            Attempt::Blocked(at) => {
                waiter.blocking.store(at, Ordering::Relaxed);
                None
            }
        }
    }

    /// Those who wait for one semaphore alone to grow.
    fn try_single(&mut self, num: usize, batch: &mut Batch) -> bool {
        let Some(pending) = self.pending.get_mut(num).filter(|pending| !pending.alter.is_empty()) else {
            return false;
        };
        let mut queue = core::mem::take(&mut pending.alter);
        let mut done = false;
        let mut at = 0;
        // An operation that had to wait for more takes; it cannot make an older one possible.
        while let Some(waiter) = queue.get(at)
            && self.sems.get(num).is_some_and(|sem| sem.value > 0)
        {
            let Some(result) = self.retry(waiter) else {
                at += 1;
                continue;
            };
            let Some(waiter) = queue.remove(at) else { break };
            if result.is_ok() {
                done = true;
                self.wake_zero(Changed::Ops(&waiter.ops), batch);
            }
            waiter.finish(result, batch);
        }
        if let Some(pending) = self.pending.get_mut(num) {
            pending.alter = queue;
        }
        done
    }

    /// All who wait to change something, again from the oldest after each success.
    fn try_merged(&mut self, batch: &mut Batch) -> bool {
        let mut queue = core::mem::take(&mut self.merged_alter);
        let mut done = false;
        let mut at = 0;
        while let Some(waiter) = queue.get(at) {
            let Some(result) = self.retry(waiter) else {
                at += 1;
                continue;
            };
            let Some(waiter) = queue.remove(at) else { break };
            self.complex -= usize::from(waiter.ops.len() > 1);
            if result.is_ok() {
                done = true;
                at = 0;
                self.wake_zero(Changed::Ops(&waiter.ops), batch);
            }
            waiter.finish(result, batch);
        }
        self.merged_alter = queue;
        done
    }

    /// How many waiters are held up at semaphore `num` by an operation that `kind` accepts: `GETNCNT`, `GETZCNT`.
    pub fn count(&self, num: u16, kind: fn(&Sembuf) -> bool) -> usize {
        let here = self.pending.get(usize::from(num));
        let single = here.into_iter().flat_map(|p| p.alter.iter().chain(&p.zero));
        let held_up = |waiter: &&Arc<Waiter>| waiter.blocking().is_some_and(|op| op.num == num && kind(op));
        single.chain(&self.merged_alter).chain(&self.complex_zero).filter(held_up).count()
    }
}
