//! From the driver back to the submitter.

use super::*;

impl Queue {
    /// The device works on `request` from now on: [`complete`](Self::complete) ends it, or its time runs out. Before the device can know of it.
    pub fn start(&self, hw: usize, request: Box<Request>) {
        let Some(hw) = self.hw.get(hw) else { return };
        let tag = request.tag as usize;
        let (Some(place), Some(deadline)) = (hw.in_flight.get(tag), hw.deadlines.get(tag)) else {
            debug_assert!(false, "a request without a tag: {request:?}");
            return self.finish(hw, request, Status::IoError);
        };
        // See `look_for_timeouts`.
        let _rcu = rcu::read_lock();
        deadline.store(sched::time::monotonic_coarse_ns() + self.timeout_ns, Ordering::Relaxed);
        let before = place.put(request);
        debug_assert!(before.is_none(), "two requests with tag {tag}");
        self.timeouts.arm(self.timeout_ns);
    }

    /// The device is done with the request that has this tag; whether there is one: it may have run out of time. Any context.
    pub fn complete(&self, hw: usize, tag: u32, status: Status) -> bool {
        let Some(hw) = self.hw.get(hw) else { return false };
        let Some(request) = hw.in_flight.get(tag as usize).and_then(BoxSlot::take) else { return false };
        self.finish(hw, request, status);
        true
    }

    /// A request that was not [started](Self::start) is over: drivers that do all at once.
    pub fn end(&self, hw: usize, request: Box<Request>, status: Status) {
        if let Some(hw) = self.hw.get(hw) {
            self.finish(hw, request, status);
        }
    }

    /// The device has lost the request with this tag, or its driver wants it to be tried again. Any context.
    pub fn requeue(&self, hw: usize, tag: u32) -> bool {
        let Some(hw) = self.hw.get(hw) else { return false };
        let Some(request) = hw.in_flight.get(tag as usize).and_then(BoxSlot::take) else { return false };
        hw.wait_first(request);
        self.came_back(hw);
        kblockd().queue_work(&hw.work);
        true
    }

    fn finish(&self, hw: &HwQueue, mut request: Box<Request>, status: Status) {
        if request.scheduled && request.tag != NO_TAG {
            hw.tags.put(core::mem::replace(&mut request.tag, NO_TAG));
        }
        let rerun = if request.phase == Phase::Plain {
            self.release(request, status);
            false
        } else {
            self.phase_over(hw, request, status)
        };
        self.came_back(hw);
        if rerun {
            kblockd().queue_work(&hw.work);
        }
    }

    /// The end of a request: its bios go home, and it can be used again.
    pub(super) fn release(&self, mut request: Box<Request>, status: Status) {
        if request.scheduled
            && let Some(elevator) = self.elevator()
        {
            elevator.completed(&request, sched::time::monotonic_ns());
        }
        request.finish_bios(status);
        let home = &self.hw[request.home()];
        home.pool_for(request.scheduled).park(request);
        self.usage.leave();
    }

    /// Counts a completion, and has a stalled queue run. After tags and slots were given back.
    fn came_back(&self, hw: &HwQueue) {
        hw.completed.0.fetch_add(1, Ordering::SeqCst);
        if hw.stalled.load(Ordering::SeqCst) && hw.stalled.swap(false, Ordering::SeqCst) {
            kblockd().queue_work(&hw.work);
        }
    }
}
