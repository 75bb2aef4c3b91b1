//! Requests that the device does not answer.

use super::*;

/// One timer for the device. It runs while something is in flight, and looks at all of it.
pub(super) struct Timeouts {
    armed: AtomicBool,
    timer: Timer,
}

impl Timeouts {
    pub(super) fn new(queue: &Arc<SpinLockIrq<Weak<Queue>>>, kblockd: &'static WorkQueue) -> Result<Self> {
        let queue = queue.clone();
        let work = Work::new(move || {
            let queue = queue.lock().upgrade();
            if let Some(queue) = queue {
                queue.look_for_timeouts();
            }
        })?;
        let timer = Timer::new(move || {
            kblockd.queue_work(&work);
        })?;
        Ok(Self { armed: AtomicBool::new(false), timer })
    }

    /// Something is in flight: it is looked at in time.
    #[inline]
    pub(super) fn arm(&self, timeout_ns: u64) {
        if !self.armed.load(Ordering::Relaxed) && !self.armed.swap(true, Ordering::AcqRel) {
            self.timer.start_in_ms(timeout_ns / 1_000_000);
        }
    }
}

impl Queue {
    fn look_for_timeouts(&self) {
        let mut next = self.end_overdue();
        if next.is_none() {
            self.timeouts.armed.store(false, Ordering::Release);
            // Who still saw the timer as armed has put its request into its place after this.
            rcu::synchronize();
            next = self.end_overdue();
            if next.is_none() || self.timeouts.armed.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        let left = next.unwrap_or(0).saturating_sub(sched::time::monotonic_ns());
        self.timeouts.timer.start_in_ms(left / 1_000_000 + 1);
    }

    /// Asks the driver about requests whose time is up. When that of the next is: monotonic nanoseconds; `None`: nothing is in flight.
    fn end_overdue(&self) -> Option<u64> {
        let now = sched::time::monotonic_ns();
        let mut next = None;
        for hw in &self.hw {
            for (tag, place) in hw.in_flight.iter().enumerate() {
                let (sequence, mut until) = {
                    let place = place.0.lock();
                    if place.request.is_none() {
                        continue;
                    }
                    (place.sequence, place.deadline)
                };
                if until <= now {
                    self.driver.timed_out(self, hw.index, tag as u32, sequence);
                    let mut place = place.0.lock();
                    if place.request.is_none() {
                        continue;
                    }
                    // The device has as much time again, or the driver to end it.
                    if place.sequence == sequence {
                        place.deadline = now + self.timeout_ns;
                    }
                    until = place.deadline;
                }
                next = Some(next.map_or(until, |next: u64| next.min(until)));
            }
        }
        next
    }
}
