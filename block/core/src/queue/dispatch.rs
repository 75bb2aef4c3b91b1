//! From the waiting requests to the driver.

use super::*;
use crate::driver::Batch;

/// Of [`HwQueue::runner`]: somebody dispatches.
const RUNNING: u32 = 1 << 0;
/// Of it: somebody came since that one looked.
const AGAIN: u32 = 1 << 1;

/// How often one who dispatches looks again before it leaves that to kblockd: others' work should not keep it forever.
const ROUNDS: usize = 64;
/// How many requests are asked of a scheduler at once.
const BATCH: usize = 32;
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
        let mut rounds = 0;
        while rounds < ROUNDS {
            runner.swap(RUNNING, Ordering::AcqRel);
            while matches!(self.round(hw), Round::Went) && rounds < ROUNDS {
                rounds += 1;
            }
            rounds += 1;
            if rounds < ROUNDS
                && runner.compare_exchange(RUNNING, 0, Ordering::Release, Ordering::Relaxed).is_ok()
            {
                return;
            }
        }
        runner.store(0, Ordering::Release);
        kblockd().queue_work(&hw.work);
    }

    fn round(&self, hw: &HwQueue) -> Round {
        // Before anything is found missing: what completes from here on may have made room.
        let seen = hw.completed.0.load(Ordering::SeqCst);
        let mut list = Fifo::new();
        if hw.has_waiting.load(Ordering::Acquire) {
            let mut waiting = hw.waiting.lock();
            list = core::mem::take(&mut *waiting);
            hw.has_waiting.store(false, Ordering::Relaxed);
        }
        let mut short_of_tags = false;
        if list.is_empty() {
            match self.elevator() {
                Some(elevator) => short_of_tags = Self::take_from_elevator(hw, &*elevator, &mut list),
                None => self.take_from_ctx(hw, &mut list),
            }
        } else {
            short_of_tags = Self::give_tags(hw, &mut list);
        }
        if list.is_empty() {
            return if short_of_tags { self.stall(hw, seen) } else { Round::Empty };
        }
        let now = sched::time::monotonic_ns();
        list.iter_mut().for_each(|request| request.issued_ns = now);
        let mut batch = Batch { list };
        let handed = batch.len() as u32;
        let issued = hw.issued.load(Ordering::Relaxed).wrapping_add(handed);
        hw.issued.store(issued, Ordering::Release);
        self.driver.queue_rqs(self, hw.index, &mut batch);
        let left = batch.len() as u32;
        if left > 0 {
            hw.issued.store(issued.wrapping_sub(left), Ordering::Release);
            Self::put_back(hw, batch.list);
            return self.stall(hw, seen);
        }
        Round::Went
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
            list.append(&mut self.ctx[cpu].lock());
        }
    }

    /// As many as there are tags for, or whether there is work but no tag.
    fn take_from_elevator(hw: &HwQueue, elevator: &dyn Elevator, list: &mut Fifo<Request>) -> bool {
        if !elevator.has_work(hw.index) {
            return false;
        }
        let mut tags = hw.tags.get(BATCH);
        if tags.len() == 0 {
            return true;
        }
        elevator.dispatch(hw.index, list, tags.len(), sched::time::monotonic_ns());
        for request in list.iter_mut() {
            request.tag = tags.pop().unwrap_or(NO_TAG);
        }
        hw.tags.put_set(tags);
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

    /// There is something to do, but no room: the next completion has the queue run, unless there was one since `seen`.
    fn stall(&self, hw: &HwQueue, seen: u32) -> Round {
        hw.stalled.store(true, Ordering::SeqCst);
        if hw.completed.0.load(Ordering::SeqCst) != seen {
            // It may have come before the mark. If it took the mark, the queue runs once more than needed.
            hw.stalled.store(false, Ordering::SeqCst);
            return Round::Went;
        }
        if hw.in_flight() == 0 {
            // Nothing will complete.
            hw.later.start_in_ms(RETRY_MS);
        }
        Round::Stalled
    }
}
