//! From the driver back to the submitter.

use super::*;

impl HwQueue {
    /// Takes out the request with this tag, if there is one, and if it is the one of this `sequence`.
    fn take_in_flight(&self, tag: u32, sequence: Option<u64>) -> Option<Chained<Request>> {
        let mut place = self.in_flight.get(tag as usize)?.0.lock();
        if sequence.is_some_and(|sequence| sequence != place.sequence) {
            return None;
        }
        place.request.take()
    }
}

impl Queue {
    /// The device works on `request` from now on: [`complete`](Self::complete) ends it, or its time runs out. Before the device can know of it.
    pub fn start(&self, hw: usize, request: Chained<Request>) {
        let place = self.hw.get(hw).and_then(|hw| hw.in_flight.get(request.tag as usize));
        let Some(place) = place else {
            debug_assert!(false, "no such queue or tag: {hw}, {request:?}");
            return self.end(hw, request, Status::IoError);
        };
        // See `look_for_timeouts`.
        let _rcu = rcu::read_lock();
        {
            let mut place = place.0.lock();
            debug_assert!(place.request.is_none(), "two requests with one tag: {request:?}");
            place.sequence += 1;
            place.deadline = sched::time::monotonic_coarse_ns() + self.timeout_ns;
            place.request = Some(request);
        }
        self.timeouts.arm(self.timeout_ns);
    }

    /// The device is done with the request that has this tag; whether there is one: it may have run out of time. Any context.
    pub fn complete(&self, hw: usize, tag: u32, status: Status) -> bool {
        self.end_in_flight(hw, tag, None, status)
    }

    /// The same, for [`Driver::timed_out`]: only if it is still the request that was asked about.
    pub fn complete_expired(&self, hw: usize, tag: u32, sequence: u64, status: Status) -> bool {
        self.end_in_flight(hw, tag, Some(sequence), status)
    }

    fn end_in_flight(&self, hw: usize, tag: u32, sequence: Option<u64>, status: Status) -> bool {
        let Some(hw) = self.hw.get(hw) else { return false };
        let Some(request) = hw.take_in_flight(tag, sequence) else { return false };
        self.finish(hw, request, status);
        true
    }

    /// A request that was not [started](Self::start) is over: drivers that do all at once.
    pub fn end(&self, hw: usize, request: Chained<Request>, status: Status) {
        match self.hw.get(hw) {
            Some(hw) => self.finish(hw, request, status),
            None => {
                debug_assert!(false, "no such queue: {hw}");
                self.release(request, Status::IoError);
            }
        }
    }

    /// The device has lost the request with this tag, or its driver wants it to be tried again; whether there is one. Any context.
    pub fn requeue(&self, hw: usize, tag: u32) -> bool {
        let Some(hw) = self.hw.get(hw) else { return false };
        let Some(mut request) = hw.take_in_flight(tag, None) else { return false };
        hw.give_tag_back(&mut request);
        hw.waiting.lock().push_front(request);
        hw.has_waiting.store(true, Ordering::Release);
        self.came_back(hw);
        self.kblockd.queue_work(&hw.work);
        true
    }

    fn finish(&self, hw: &HwQueue, mut request: Chained<Request>, status: Status) {
        hw.give_tag_back(&mut request);
        let rerun = if request.phase == Phase::Plain {
            self.release(request, status);
            false
        } else {
            self.phase_over(hw, request, status)
        };
        self.came_back(hw);
        if rerun {
            self.kblockd.queue_work(&hw.work);
        }
    }

    /// The end of a request: its bios go home, and it can be used again.
    pub(super) fn release(&self, mut request: Chained<Request>, status: Status) {
        if request.sched != NOT_SCHEDULED {
            let rcu = rcu::read_lock();
            if let Some(elevator) = self.elevator_under(&rcu) {
                elevator.completed(&request);
            }
        }
        if request.counted {
            request.counted = false;
            let (op, sectors) = request.wanted();
            self.accounts.ended(request.part, op, sectors, request.queued_ns);
        }
        request.finish_bios(status);
        if let Some(home) = self.hw.get(request.home()) {
            let gate = request.gate.take().and_then(|gate| home.gates.get(usize::from(gate)));
            gate.into_iter().for_each(Gate::leave);
            home.pool(request.source).park(request);
        }
        self.usage.leave();
    }

    /// Counts a completion, and has a stalled queue run. After tags and slots were given back.
    fn came_back(&self, hw: &HwQueue) {
        let back = &hw.back.0;
        back.completed.fetch_add(1, Ordering::SeqCst);
        if back.stalled.load(Ordering::SeqCst) && back.stalled.swap(false, Ordering::SeqCst) {
            self.kblockd.queue_work(&hw.work);
        }
    }
}

impl HwQueue {
    /// The tag that a request from a scheduler had for its time at the driver.
    fn give_tag_back(&self, request: &mut Request) {
        if request.source == Source::Scheduler && request.tag != NO_TAG {
            self.tags.put_quietly(core::mem::replace(&mut request.tag, NO_TAG));
        }
    }
}
