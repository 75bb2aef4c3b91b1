//! Flushes of the device's cache: before and behind writes that ask for it.
//!
//! At most one flush of a hardware queue is on its way. Who needs one while it is waits for the next, which then is for all of them:
//! that is what makes many concurrent fsync(2)s cost few flushes. The first of them carries the flush, in its own name and with its own tag.

use super::*;

pub(super) struct Flush(SpinLockIrq<State>);

struct State {
    /// Need a flush that begins from now on.
    next: Fifo<Request>,
    /// Are content with the one on its way, besides the one that carries it.
    riders: Fifo<Request>,
    on_its_way: bool,
    /// Since when: monotonic nanoseconds.
    since_ns: u64,
}

impl Flush {
    pub(super) fn new() -> Self {
        Self(SpinLockIrq::new(State {
            next: Fifo::new(),
            riders: Fifo::new(),
            on_its_way: false,
            since_ns: 0,
        }))
    }

    /// Takes a request whose phase is not plain. The queue is to be run then.
    pub(super) fn insert(&self, hw: &HwQueue, request: Chained<Request>) {
        if request.phase == Phase::Data {
            return hw.wait_first(request);
        }
        let carrier = {
            let mut state = self.0.lock();
            state.next.push_back(request);
            state.begin()
        };
        carrier.into_iter().for_each(|carrier| hw.wait_first(carrier));
    }

    /// All that wait for a flush, when there will be none.
    pub(super) fn take_all(&self) -> Fifo<Request> {
        let mut state = self.0.lock();
        let mut all = core::mem::take(&mut state.next);
        if !state.on_its_way {
            all.append(&mut state.riders);
        }
        all
    }

    /// The flush is over: who was content with it, who carries the next one, and when it began.
    fn over(&self) -> (Fifo<Request>, Option<Chained<Request>>, u64) {
        let mut state = self.0.lock();
        state.on_its_way = false;
        let since_ns = state.since_ns;
        let riders = core::mem::take(&mut state.riders);
        (riders, state.begin(), since_ns)
    }
}

impl State {
    /// Begins a flush if one is needed and none is on its way; who carries it.
    fn begin(&mut self) -> Option<Chained<Request>> {
        if self.on_its_way {
            return None;
        }
        let carrier = self.next.pop_front()?;
        self.riders = core::mem::take(&mut self.next);
        self.on_its_way = true;
        self.since_ns = sched::time::monotonic_ns();
        Some(carrier)
    }
}

impl Queue {
    /// A phase of a request is over. Whether the queue is to be run.
    pub(super) fn phase_over(&self, hw: &HwQueue, request: Chained<Request>, status: Status) -> bool {
        if request.phase == Phase::Data {
            return self.next_phase(hw, request, status);
        }
        let (mut riders, carrier, since_ns) = hw.flush.over();
        self.accounts.flushed(since_ns);
        let mut rerun = carrier.is_some();
        carrier.into_iter().for_each(|carrier| hw.wait_first(carrier));
        rerun |= self.next_phase(hw, request, status);
        while let Some(rider) = riders.pop_front() {
            rerun |= self.next_phase(hw, rider, status);
        }
        rerun
    }

    fn next_phase(&self, hw: &HwQueue, mut request: Chained<Request>, status: Status) -> bool {
        let Some(next) = request.next_phase().filter(|_| status.is_ok()) else {
            self.release(request, status);
            return false;
        };
        request.phase = next;
        hw.flush.insert(hw, request);
        true
    }
}
