//! When the device waits for the next request of a flow, rather than to serve others.
//!
//! That is worth it where the next one is near: it saves the way. And where a flow would lose its share: one that has one request at a time is never
//! waiting when its turn comes, unless the device waits for it. A device that does many things at a time is slower for it; so there it
//! is done for shares only, and only if they differ.

use super::flow::Flow;
use super::turns::{Core, MS, Reason};
use super::wfq::IDLE;

/// The shortest time that is worth waiting for a request.
const SHORT_NS: u64 = 2 * MS;
/// And the least that is waited for one of a flow that is raised.
const RAISED_IDLE_NS: u64 = 20 * MS;
/// Whoever has so many requests at the device uses its queue,
const QUEUEING: u32 = 3;
/// which is found out over so many.
const QUEUEING_SAMPLES: u32 = 32;

impl Core {
    /// The device waits for the next request of a flow.
    pub(super) fn begin_idling(&mut self, id: u32, now_ns: u64) {
        let flow = self.flows.get(id);
        let mut idle = self.tunables.slice_idle_ns;
        if flow.raise.is_raised() {
            idle = idle.max(RAISED_IDLE_NS);
        } else if flow.is_seeky() && !self.is_asymmetric(id) {
            idle = idle.min(SHORT_NS);
        }
        (self.waiting, self.idle_since, self.idle_until) = (true, now_ns, now_ns.saturating_add(idle));
    }

    /// Until when the device waits, if it does.
    pub(super) fn waits_until(&self) -> Option<u64> {
        self.waiting.then_some(self.idle_until)
    }

    /// The time to wait is over. Whether others may go now, and which hardware queue is to be run.
    pub(super) fn idled(&mut self, now_ns: u64) -> Option<usize> {
        if !self.waiting || now_ns < self.idle_until {
            return None;
        }
        self.waiting = false;
        let id = self.in_service?;
        let home = usize::from(self.flows.get(id).home);
        if self.is_timed_out(id, now_ns) {
            self.expire(id, Reason::Timeout, now_ns);
        } else if self.flows.get(id).line.len == 0 {
            self.expire(id, Reason::TooIdle, now_ns);
        }
        self.count(id);
        (self.waiting_requests() > 0).then_some(home)
    }

    /// Whether there are flows of different weights or classes, one of them with more than this one's share: whoever has the device then
    /// must not lose it because it is a moment late.
    pub(super) fn is_asymmetric(&self, id: u32) -> bool {
        let least = self.weights.first().and_then(|first| self.weights.key(first));
        let varied = least.is_some_and(|least| {
            self.weights.at_or_after(least + 1).is_some() && self.weights.key(id) != Some(least)
        });
        varied || self.classes.iter().filter(|&&count| count > 0).count() > 1
    }

    /// Whether the device is one that is best kept full.
    pub(super) fn is_fast(&self) -> bool {
        !self.rotational && self.queues == Some(true)
    }

    /// Whether waiting for the next request of a flow makes the device do more: it would be near.
    pub(super) fn idling_is_faster(&self, id: u32) -> bool {
        let flow = self.flows.get(id);
        let sequential = !flow.is_seeky() && flow.is_prompt;
        let queues = self.queues.unwrap_or(true);
        (self.rotational && !queues || (self.rotational || !queues) && sequential) && self.raised == 0
    }

    /// Whether the device is to wait for the next request of a flow, rather than to serve others.
    pub(super) fn is_better_to_idle(&self, id: u32) -> bool {
        if self.tunables.strict_guarantees {
            return true;
        }
        let flow = self.flows.get(id);
        if self.tunables.slice_idle_ns == 0 || !flow.sync || flow.base_weight().0 == IDLE {
            return false;
        }
        let guarantees = flow.raise.is_raised()
            && (self.raised < self.busy || self.at_device >= flow.at_device + 4)
            || self.is_asymmetric(id)
            || self.busy == 1;
        self.idling_is_faster(id) || guarantees
    }

    /// Finds out whether the device takes many requests at a time.
    pub(super) fn note_queueing(&mut self) {
        self.most_at_device = self.most_at_device.max(self.at_device);
        let too_few = |flow: &Flow| {
            flow.is_prompt && flow.at_device + flow.line.len < QUEUEING && self.at_device < QUEUEING
        };
        if self.at_device + self.requests.len() <= QUEUEING
            || self.in_service.is_some_and(|id| too_few(self.flows.get(id)))
        {
            return;
        }
        self.samples += 1;
        if self.samples > QUEUEING_SAMPLES {
            self.queues = Some(self.most_at_device > QUEUEING);
            (self.most_at_device, self.samples) = (0, 0);
        }
    }

    /// A device of which it is known whether it does many things at a time.
    #[cfg(test)]
    pub(super) fn set_queues(&mut self, queues: bool) {
        self.queues = Some(queues);
    }
}
