//! From the waiting requests to the driver.

use super::*;
use crate::driver::Batch;

/// Of [`HwQueue::runner`]: somebody dispatches.
const RUNNING: u32 = 1 << 0;
/// Of it: somebody came since that one looked.
const AGAIN: u32 = 1 << 1;

/// How often one who dispatches looks again before it leaves that to kblockd: it has better things to do than others' work.
const ROUNDS: usize = 4;
/// When to try again if the driver had no room though it has nothing to do.
const RETRY_MS: u64 = 3;

/// What a round came to.
enum Round {
    /// There is nothing to do.
    Empty,
    /// Something went to the driver.
    Went,
    /// There is something to do that must wait for a completion.
    Stalled,
}

impl Queue {
    /// Hands waiting requests to the driver, unless somebody does already. Task context.
    pub(crate) fn run(&self, hw: &HwQueue) {
        let runner = &hw.runner.0;
        // Always written, even if it changes nothing: who dispatches reads this and with it what was inserted before.
        if runner.fetch_or(RUNNING | AGAIN, Ordering::AcqRel) & RUNNING != 0 {
            return;
        }
        // The others rely on this one: it is not to be put aside for something more urgent than itself.
        let _no_preemption = rcu::read_lock();
        for _ in 0..ROUNDS {
            runner.swap(RUNNING, Ordering::AcqRel);
            if matches!(self.round(hw), Round::Went) {
                continue;
            }
            if runner.compare_exchange(RUNNING, 0, Ordering::Release, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        runner.swap(0, Ordering::AcqRel);
        self.kblockd.queue_work(&hw.work);
    }

    fn round(&self, hw: &HwQueue) -> Round {
        if self.is_dead() {
            self.end_waiting(hw);
            return Round::Empty;
        }
        // Before anything is found missing: what completes from here on may have made room.
        let seen = hw.back.0.completed.load(Ordering::SeqCst);
        let mut list = self.take_waiting(hw);
        let short_of_tags = if list.is_empty() {
            let rcu = rcu::read_lock();
            match self.elevator_under(&rcu) {
                Some(elevator) => self.take_from_elevator(hw, elevator, &mut list),
                None => {
                    self.take_from_ctx(hw, &mut list);
                    false
                }
            }
        } else {
            Self::give_tags(hw, &mut list)
        };
        if list.is_empty() {
            return if short_of_tags { self.stall(hw, seen, false) } else { Round::Empty };
        }
        let mut batch = Batch { list };
        let before = hw.issued.load(Ordering::Relaxed);
        let issued = before.wrapping_add(batch.len() as u32);
        hw.issued.store(issued, Ordering::Release);
        self.driver.queue_rqs(self, hw.index, &mut batch);
        let left = batch.len() as u32;
        hw.count_batch(issued.wrapping_sub(left).wrapping_sub(before));
        if left > 0 {
            hw.issued.store(issued.wrapping_sub(left), Ordering::Release);
            Self::put_back(hw, batch.list);
            return self.stall(hw, seen, true);
        }
        Round::Went
    }

    /// What goes before all others. The data of writes with flushes is the scheduler's: whoever ended the flush before it could not give it
    /// to that one in an interrupt.
    fn take_waiting(&self, hw: &HwQueue) -> Fifo<Request> {
        let mut waiting = hw.take_waiting();
        if !waiting.iter().any(Request::is_for_scheduler) {
            return waiting;
        }
        let (mut list, mut first, mut others) = (Fifo::new(), Fifo::new(), Fifo::new());
        while let Some(request) = waiting.pop_front() {
            match (request.is_for_scheduler(), request.flushed_before) {
                (false, _) => list.push_back(request),
                (true, true) => first.push_back(request),
                (true, false) => others.push_back(request),
            }
        }
        let rcu = rcu::read_lock();
        match self.elevator_under(&rcu) {
            Some(elevator) => {
                elevator.insert_first(&mut first);
                elevator.insert(&mut others);
            }
            None => {
                list.append(&mut first);
                list.append(&mut others);
            }
        }
        list
    }

    /// Ends all that waits, in whatever place: there is no device any more.
    pub(super) fn end_waiting(&self, hw: &HwQueue) {
        let mut list = hw.take_waiting();
        self.take_from_ctx(hw, &mut list);
        {
            let rcu = rcu::read_lock();
            if let Some(elevator) = self.elevator_under(&rcu) {
                elevator.drain(hw.index, &mut list);
            }
        }
        list.append(&mut hw.flush.take_all());
        while let Some(mut request) = list.pop_front() {
            if request.source == Source::Scheduler && request.tag != NO_TAG {
                hw.tags.put_quietly(core::mem::replace(&mut request.tag, NO_TAG));
            }
            self.release(request, Status::Offline);
        }
    }

    /// All that wait on lists of CPUs.
    fn take_from_ctx(&self, hw: &HwQueue, list: &mut Fifo<Request>) {
        if hw.ctx_pending.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut pending = hw.ctx_pending.swap(0, Ordering::AcqRel);
        while pending != 0 {
            let cpu = pending.trailing_zeros() as usize;
            pending &= pending - 1;
            if let Some(ctx) = self.ctx.get(cpu) {
                list.append(&mut ctx.0.lock());
            }
        }
    }

    /// As many as there are tags for, or whether there is work but no tag.
    fn take_from_elevator(&self, hw: &HwQueue, elevator: &dyn Elevator, list: &mut Fifo<Request>) -> bool {
        if !elevator.has_work(hw.index) {
            return false;
        }
        let now = sched::time::monotonic_ns();
        let most = self.sched_batch() as usize;
        // A look at the tags finds those of one word.
        while list.len() < most {
            let mut tags = hw.tags.get(most - list.len());
            if tags.len() == 0 {
                return list.is_empty();
            }
            let mut some = Fifo::new();
            elevator.dispatch(hw.index, &mut some, tags.len(), now);
            for request in some.iter_mut() {
                request.tag = tags.pop().unwrap_or(NO_TAG);
                request.issued_ns = now;
            }
            list.append(&mut some);
            if tags.len() > 0 {
                // It had no more.
                hw.tags.put_set(tags);
                break;
            }
        }
        false
    }

    /// Gives tags to those that have none; those for which there are not enough wait on. Whether that is so.
    fn give_tags(hw: &HwQueue, list: &mut Fifo<Request>) -> bool {
        let mut ready = Fifo::new();
        while let Some(mut request) = list.pop_front() {
            if request.tag == NO_TAG {
                match hw.tags.get(1).pop() {
                    Some(tag) => request.tag = tag,
                    None => {
                        list.push_front(request);
                        break;
                    }
                }
            }
            ready.push_back(request);
        }
        let rest = core::mem::replace(list, ready);
        let short = !rest.is_empty();
        Self::put_back(hw, rest);
        short
    }

    /// These are the next again.
    fn put_back(hw: &HwQueue, mut rest: Fifo<Request>) {
        if !rest.is_empty() {
            let mut waiting = hw.waiting.lock();
            waiting.prepend(&mut rest);
            hw.has_waiting.store(true, Ordering::Release);
        }
    }

    /// There is something to do, but no tag or no room: the next completion has the queue run, unless there was one since `seen`.
    fn stall(&self, hw: &HwQueue, seen: u32, refused: bool) -> Round {
        let back = &hw.back.0;
        back.stalled.store(true, Ordering::SeqCst);
        if back.completed.load(Ordering::SeqCst) != seen {
            // It may have come before the mark. If it took the mark, the queue runs once more than needed.
            back.stalled.store(false, Ordering::SeqCst);
            return Round::Went;
        }
        // Nothing may complete here, or the driver may lack something else.
        if (refused || hw.in_flight() == 0) && !hw.later.is_queued() {
            hw.later.start_in_ms(RETRY_MS);
        }
        Round::Stalled
    }
}

impl HwQueue {
    /// The driver took so many requests in a call.
    fn count_batch(&self, taken: u32) {
        let size = (u32::BITS - taken.leading_zeros()) as usize;
        if let Some(count) = self.batches.get(size.min(BATCH_SIZES - 1)) {
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    fn take_waiting(&self) -> Fifo<Request> {
        if !self.has_waiting.load(Ordering::Acquire) {
            return Fifo::new();
        }
        let mut waiting = self.waiting.lock();
        self.has_waiting.store(false, Ordering::Relaxed);
        core::mem::take(&mut *waiting)
    }
}
