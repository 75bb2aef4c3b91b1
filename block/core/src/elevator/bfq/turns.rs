//! Which flow has the device, for how long, and what of it goes.
//!
//! All of it under one lock, with the time as an argument: tests run it in a time of their own.

use abi::Result;
use collections::fifo::{Chained, Fifo};
use collections::slottree::SlotTree;

use super::flow::{Counted, Flows, key_of};
use super::raise::Bursts;
use super::rate::Rate;
use super::requests::{MOST_FLOWS, Requests};
use super::tunables::Tunables;
use super::wfq::{CLASSES, IDLE, Wfq};
use crate::bio::{Bio, SECTOR_SHIFT};
use crate::limits::Limits;
use crate::request::Request;

pub(super) const MS: u64 = 1_000_000;
/// Sectors of a turn while nobody knows how fast the device is.
const DEFAULT_BUDGET: u64 = 16 * 1024;
/// After so many turns it is known.
const KNOWN_AFTER: u32 = 194;
/// The smallest budget is this part of the largest.
const LEAST_PART: u64 = 32;
/// What nobody waits for is charged as so much more.
const ASYNC_CHARGE: u64 = 3;
/// Farther from the one before it than this, a request is a seek.
const SEEK_SECTORS: u64 = 800;
/// Unless it is at least so long, on a device that does not turn.
const LONG_SECTORS: u64 = 64;
/// What has the device for this time or longer is slow if it does less than half a budget in it.
const SLOW_NS: u64 = 20 * MS;

/// Of [`Request::sched`]: the device has it. The other bits are the flow.
const AT_DEVICE: u32 = 1 << 16;
/// It is no flow's.
const NO_FLOW: u32 = 1 << 17;

/// Why a turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing came while the device waited for it.
    TooIdle,
    /// Its time is up.
    Timeout,
    /// It has used its budget.
    Exhausted,
    /// It has nothing more to do, and it is not worth waiting for it.
    NoMoreRequests,
    /// Somebody else goes first.
    Preempted,
}

/// The state of the scheduler.
pub(super) struct Core {
    pub(super) tunables: Tunables,
    pub(super) flows: Flows,
    pub(super) wfq: Wfq,
    pub(super) rate: Rate,
    pub(super) bursts: Bursts,
    pub(super) requests: Requests,
    /// What goes before all flows.
    pub(super) first: Fifo<Request>,
    pub(super) in_service: Option<u32>,
    /// The device waits for a request of the flow in service, until then, since then.
    pub(super) waiting: bool,
    pub(super) idle_until: u64,
    pub(super) idle_since: u64,
    pub(super) max_budget: u64,
    pub(super) turns: u32,
    pub(super) at_device: u32,
    /// Where the disk's head will be.
    pub(super) position: u64,
    pub(super) rotational: bool,
    /// Whether the device has many requests at a time, unless nobody knows.
    pub(super) queues: Option<bool>,
    pub(super) most_at_device: u32,
    pub(super) samples: u32,
    /// Weights of flows that have requests, here or at the device.
    pub(super) weights: SlotTree,
    pub(super) classes: [u32; CLASSES],
    pub(super) busy: u32,
    pub(super) raised: u32,
}

impl Core {
    /// For `slots` requests.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(slots: usize, rotational: bool) -> Result<Self> {
        let flows = Flows::new(slots)?;
        let count = flows.count();
        debug_assert!(count <= MOST_FLOWS);
        Ok(Self {
            tunables: Tunables::default(),
            flows,
            wfq: Wfq::new(count, 0)?,
            rate: Rate::new(rotational),
            bursts: Bursts::default(),
            requests: Requests::new(slots)?,
            first: Fifo::new(),
            in_service: None,
            waiting: false,
            idle_until: 0,
            idle_since: 0,
            max_budget: DEFAULT_BUDGET,
            turns: 0,
            at_device: 0,
            position: 0,
            rotational,
            queues: None,
            most_at_device: 0,
            samples: 0,
            weights: SlotTree::try_new(count)?,
            classes: [0; CLASSES],
            busy: 0,
            raised: 0,
        })
    }

    /// How many requests wait.
    pub(super) fn waiting_requests(&self) -> u32 {
        self.requests.len() + self.first.len() as u32
    }

    /// Adds a bio to a request of the same flow.
    pub(super) fn merge(
        &mut self,
        bio: Chained<Bio>,
        segments: u32,
        limits: &Limits,
    ) -> Result<(), Chained<Bio>> {
        let sync = bio.flags.is_sync(bio.op);
        match self.flows.find(key_of(bio.context, sync, bio.ioprio)) {
            Some(flow) => self.requests.merge(flow, bio, segments, limits),
            None => Err(bio),
        }
    }

    /// A request that goes before all flows.
    pub(super) fn insert_first(&mut self, mut request: Chained<Request>) {
        request.sched = NO_FLOW;
        self.first.push_back(request);
    }

    /// A request comes; `index` is its own among all.
    pub(super) fn insert(&mut self, mut request: Chained<Request>, index: u32, now_ns: u64) {
        let (sync, ioprio) = (request.is_sync(), request.ioprio());
        let key = key_of(request.context(), sync, ioprio);
        let id = match self.flows.find(key) {
            Some(id) => id,
            None => self.make_flow(key, sync, ioprio, now_ns),
        };
        self.flows.touch(id);
        self.learn(id, &request, now_ns);
        request.sched = id;
        let flow = self.flows.get_mut(id);
        flow.home = request.home() as u16;
        let changed = flow.sync && flow.ioprio != ioprio && id != super::flow::SHARED;
        self.requests.insert(id, &mut flow.line, index, request);
        if changed {
            self.flows.get_mut(id).ioprio = ioprio;
            self.apply_weight(id);
        }
        if self.in_service == Some(id) {
            self.awaited(id, now_ns);
        } else if !self.wfq.is_busy(id) {
            self.begin(id, now_ns);
        }
        self.count(id);
    }

    fn make_flow(&mut self, key: u64, sync: bool, ioprio: u16, now_ns: u64) -> u32 {
        let id = self.flows.make(key, sync, ioprio, now_ns);
        if id != super::flow::SHARED {
            self.wfq.forget(id);
            let budget = self.max_budget * 2 / 3;
            let flow = self.flows.get_mut(id);
            flow.wanted = budget;
            flow.is_prompt &= flow.base_weight().0 != IDLE;
        }
        self.apply_weight(id);
        id
    }

    /// What its priority and its raise come to.
    pub(super) fn apply_weight(&mut self, id: u32) {
        let flow = self.flows.get(id);
        let (class, weight) = flow.base_weight();
        self.wfq.set_weight(id, class, weight * flow.raise.by);
    }

    /// What a request tells about its flow: how soon it comes after the last one, and how far from it.
    fn learn(&mut self, id: u32, request: &Request, now_ns: u64) {
        let seeks = self.is_seek(self.flows.get(id).position, request);
        let (idle_ns, busy) = (self.tunables.slice_idle_ns, self.wfq.is_busy(id));
        let in_service = self.in_service == Some(id);
        let flow = self.flows.get_mut(id);
        if flow.at_device == 0 && (!busy || in_service && flow.line.len == 0) {
            flow.think.add(now_ns.saturating_sub(flow.last_end).min(2 * idle_ns));
        }
        if flow.sync && flow.base_weight().0 != IDLE && idle_ns > 0 {
            flow.is_prompt = !flow.think.is_longer_than(idle_ns / 2);
        }
        flow.seeks = flow.seeks << 1 | u32::from(seeks);
        flow.position = request.end_sector();
    }

    fn is_seek(&self, position: u64, request: &Request) -> bool {
        let long = u64::from(request.len() >> SECTOR_SHIFT) >= LONG_SECTORS;
        position.abs_diff(request.sector()) > SEEK_SECTORS && (self.rotational || !long)
    }

    /// A request came for the flow that has the device.
    fn awaited(&mut self, id: u32, now_ns: u64) {
        if !self.waiting {
            return;
        }
        self.waiting = false;
        if self.is_timed_out(id, now_ns) {
            self.expire(id, Reason::Timeout, now_ns);
        }
    }

    /// A flow that had nothing to do has.
    fn begin(&mut self, id: u32, now_ns: u64) {
        let deserves = self.raise_if_waited_for(id, now_ns);
        let idle_ns = self.tunables.slice_idle_ns;
        let need = self.need(id);
        let low = self.least_budget();
        let flow = self.flows.get_mut(id);
        // It was only late: what it had in mind still counts.
        let in_time = now_ns <= flow.last_end.saturating_add(3 * idle_ns);
        let left = flow.left_over.take().filter(|&left| in_time && left > 0);
        let missed = left.is_some();
        if deserves && flow.raise.is_raised() {
            flow.wanted = flow.wanted.min(2 * low);
        }
        let budget = left.map_or(flow.wanted, |left| left.min(flow.wanted)).max(need);
        self.wfq.activate(id, budget, missed);
        self.count(id);
        if let Some(serving) = self.in_service {
            let (class, weight) = self.wfq.weight(id);
            let (other_class, other_weight) = self.wfq.weight(serving);
            let raise_of = |id| self.flows.get(id).raise.by;
            let first = (missed || deserves) && raise_of(id) >= raise_of(serving)
                || class < other_class
                || class == other_class && weight > other_weight
                || !self.is_better_to_idle(serving);
            if first && self.wfq.is_somebody_next() {
                self.expire(serving, Reason::Preempted, now_ns);
            }
        }
    }

    /// What a request of a flow costs.
    fn charge(&self, id: u32, request: &Request) -> u64 {
        let sectors = u64::from(request.len() >> SECTOR_SHIFT);
        let flow = self.flows.get(id);
        if flow.sync || flow.raise.is_raised() || self.is_asymmetric(id) {
            sectors
        } else {
            sectors * ASYNC_CHARGE
        }
    }

    /// What the next request of a flow costs.
    fn need(&self, id: u32) -> u64 {
        let next = self.nearest(id).and_then(|index| self.requests.get(index));
        next.map_or(0, |request| self.charge(id, request))
    }

    fn nearest(&self, id: u32) -> Option<u32> {
        let (back_max, penalty) = (self.tunables.back_seek_max * 2, self.tunables.back_seek_penalty);
        (self.flows.get(id).line.len > 0)
            .then(|| self.requests.nearest(id, self.position, back_max, penalty))?
    }

    fn least_budget(&self) -> u64 {
        (self.max_budget / LEAST_PART).max(1)
    }

    pub(super) fn is_timed_out(&self, id: u32, now_ns: u64) -> bool {
        now_ns >= self.flows.get(id).turn_until
    }

    /// Its time is up, and it has not used its budget so far that it could just as well finish that.
    fn is_to_time_out(&self, id: u32, now_ns: u64) -> bool {
        let (budget, service) = self.wfq.turn(id);
        self.is_timed_out(id, now_ns) && (!self.waiting || budget.saturating_sub(service) >= budget / 3)
    }

    fn must_idle(&self, id: u32) -> bool {
        self.flows.get(id).line.len == 0 && self.is_better_to_idle(id)
    }

    /// The next request to go, and whose it is.
    fn select(&mut self, now_ns: u64) -> Option<(u32, u32)> {
        if let Some(id) = self.in_service
            && self.is_to_time_out(id, now_ns)
            && !self.must_idle(id)
        {
            self.expire(id, Reason::Timeout, now_ns);
        }
        loop {
            let id = match self.in_service {
                Some(id) => id,
                None => self.begin_turn(now_ns)?,
            };
            if let Some(index) = self.next_of(id, now_ns) {
                let cost = self.requests.get(index).map_or(0, |request| self.charge(id, request));
                // The first of a turn goes whatever it costs.
                if self.wfq.turn(id).1 == 0 || cost <= self.wfq.budget_left(id) {
                    return Some((id, index));
                }
                self.expire(id, Reason::Exhausted, now_ns);
                continue;
            }
            if self.waiting || self.flows.get(id).at_device > 0 && self.is_better_to_idle(id) {
                return None;
            }
            self.expire(id, Reason::NoMoreRequests, now_ns);
        }
    }

    fn begin_turn(&mut self, now_ns: u64) -> Option<u32> {
        let id = self.wfq.select(now_ns)?;
        self.turns = self.turns.saturating_add(1);
        self.in_service = Some(id);
        let timeout = self.tunables.timeout_sync_ns;
        let flow = self.flows.get_mut(id);
        let times = if flow.raise.is_soft_realtime() { 1 } else { u64::from(flow.raise.by) };
        (flow.turn_began, flow.turn_until) = (now_ns, now_ns.saturating_add(timeout.saturating_mul(times)));
        flow.age_checked = false;
        Some(id)
    }

    /// The next request of a flow: the nearest, or once in a turn the oldest if that has waited for too long.
    fn next_of(&mut self, id: u32, now_ns: u64) -> Option<u32> {
        let flow = self.flows.get_mut(id);
        if !core::mem::replace(&mut flow.age_checked, true)
            && let Some((index, oldest)) = self.requests.oldest(&flow.line)
        {
            let expire = self.tunables.fifo_expire_ns[usize::from(flow.sync)];
            if oldest.queued_ns.saturating_add(expire) <= now_ns {
                return Some(index);
            }
        }
        self.nearest(id)
    }

    /// The next request, on its way.
    pub(super) fn dispatch(&mut self, now_ns: u64) -> Option<Chained<Request>> {
        if let Some(mut request) = self.first.pop_front() {
            request.sched = NO_FLOW | AT_DEVICE;
            self.at_device += 1;
            return Some(request);
        }
        if self.tunables.strict_guarantees && self.at_device > 0 {
            return None;
        }
        let (id, index) = self.select(now_ns)?;
        let cost = self.requests.get(index).map_or(0, |request| self.charge(id, request));
        let mut request = self.requests.remove(&mut self.flows.get_mut(id).line, index)?;
        self.wfq.served(id, cost);
        self.raise_served(id, cost, now_ns);
        let seeks = self.is_seek(self.position, &request);
        let sectors = u64::from(request.len() >> SECTOR_SHIFT);
        if self.rate.dispatched(sectors, seeks, self.at_device, now_ns) {
            self.follow_rate();
        }
        self.position = request.end_sector();
        request.sched = id | AT_DEVICE;
        self.flows.get_mut(id).at_device += 1;
        self.at_device += 1;
        // It has the device for one request only.
        if self.flows.get(id).base_weight().0 == IDLE && self.busy > 1 {
            self.expire(id, Reason::Exhausted, now_ns);
        }
        self.count(id);
        Some(request)
    }

    /// Budgets are what the device does in the longest turn.
    pub(super) fn follow_rate(&mut self) {
        self.max_budget = match self.tunables.max_budget {
            0 => self.rate.sectors_in(self.tunables.timeout_sync_ns).max(LEAST_PART),
            fixed => fixed,
        };
    }

    /// A request is over, or was never begun. Whether others may go now.
    pub(super) fn completed(&mut self, sched: u32, now_ns: u64) -> bool {
        if sched & AT_DEVICE == 0 {
            return false;
        }
        self.note_queueing();
        self.at_device = self.at_device.saturating_sub(1);
        self.rate.completed(now_ns);
        if sched & NO_FLOW == 0 {
            self.completed_of(sched & !AT_DEVICE, now_ns);
        }
        self.waiting_requests() > 0 && !self.waiting && (self.in_service.is_none() || self.at_device == 0)
    }

    fn completed_of(&mut self, id: u32, now_ns: u64) {
        let busy = self.wfq.is_busy(id);
        let flow = self.flows.get_mut(id);
        flow.at_device = flow.at_device.saturating_sub(1);
        flow.last_end = now_ns;
        let (last, empty) = (flow.at_device == 0, flow.line.len == 0);
        if last && !busy {
            flow.quiet_since = now_ns;
        }
        if last && empty {
            self.raise_quiet(id, now_ns);
        }
        if self.in_service == Some(id) {
            if self.must_idle(id) {
                if last {
                    self.begin_idling(id, now_ns);
                }
            } else if self.is_to_time_out(id, now_ns) {
                self.expire(id, Reason::Timeout, now_ns);
            } else if empty && (last || !self.is_better_to_idle(id)) {
                self.expire(id, Reason::NoMoreRequests, now_ns);
            }
        }
        self.count(id);
    }

    /// The turn of the flow that has the device is over.
    pub(super) fn expire(&mut self, id: u32, reason: Reason, now_ns: u64) {
        (self.in_service, self.waiting) = (None, false);
        let (budget, service) = self.wfq.turn(id);
        let until = if reason == Reason::TooIdle { self.idle_since } else { now_ns };
        let flow = self.flows.get(id);
        let spent = until.saturating_sub(flow.turn_began);
        let slow = flow.sync && spent > SLOW_NS && service < self.max_budget / 2;
        let timed_out = reason == Reason::Timeout && budget.saturating_sub(service) >= budget / 3;
        if !flow.raise.is_raised() && (slow || timed_out) {
            // It pays for the time in which others could have had the device.
            let timeout = self.tunables.timeout_sync_ns.max(1);
            let worth =
                (u128::from(self.max_budget) * u128::from(spent.min(timeout)) / u128::from(timeout)) as u64;
            self.wfq.served(id, worth.saturating_sub(service));
        }
        self.raise_expired(id, now_ns);
        let wanted = self.next_budget(id, reason, service);
        let need = self.need(id);
        let flow = self.flows.get_mut(id);
        flow.wanted = wanted;
        let stays = !matches!(reason, Reason::Timeout | Reason::Exhausted);
        if flow.line.len == 0 {
            if flow.at_device == 0 {
                flow.quiet_since = now_ns;
            }
            flow.left_over = (stays && flow.base_weight().0 != IDLE).then(|| budget.saturating_sub(service));
            self.wfq.expire(id, None);
        } else {
            self.wfq.expire(id, Some(wanted.max(need)));
        }
        self.count(id);
    }

    /// Budgets follow what a flow needs: who uses all of one soon has larger ones, who lets the device wait has smaller ones.
    fn next_budget(&self, id: u32, reason: Reason, service: u64) -> u64 {
        let (low, most, flow) = (self.least_budget(), self.max_budget, self.flows.get(id));
        let raised = flow.raise.is_raised();
        let mut budget = if raised { 2 * low } else { flow.wanted };
        if !flow.sync {
            budget = most;
        } else if !raised {
            budget = match reason {
                // It waits for what the device has: that is why nothing came.
                Reason::TooIdle if flow.at_device > 0 => (budget * 2).min(most),
                Reason::TooIdle if budget > 5 * low => budget - 4 * low,
                Reason::TooIdle => low,
                Reason::Timeout => (budget * 2).min(most),
                Reason::Exhausted => (budget * 4).min(most),
                Reason::NoMoreRequests => service.max(low),
                Reason::Preempted => budget,
            };
        }
        if self.turns >= KNOWN_AFTER && self.tunables.max_budget == 0 { budget.min(most) } else { budget }
    }

    /// Keeps what is counted over all flows.
    pub(super) fn count(&mut self, id: u32) {
        let flow = self.flows.get(id);
        let busy = self.wfq.is_busy(id);
        let pending = flow.line.len > 0 || flow.at_device > 0 || busy;
        let new = Counted {
            pending: pending.then(|| self.wfq.weight(id)),
            busy,
            raised: busy && flow.raise.is_raised(),
        };
        let old = core::mem::replace(&mut self.flows.get_mut(id).counted, new);
        if old == new {
            return;
        }
        if old.pending != new.pending {
            if let Some((class, _)) = old.pending {
                self.weights.remove(id);
                self.classes[usize::from(class)] -= 1;
            }
            if let Some((class, weight)) = new.pending {
                self.weights.insert(id, weight.into());
                self.classes[usize::from(class)] += 1;
            }
        }
        self.busy = self.busy + u32::from(new.busy) - u32::from(old.busy);
        self.raised = self.raised + u32::from(new.raised) - u32::from(old.raised);
    }

    /// All that waits, when nothing will go any more.
    pub(super) fn drain(&mut self, to: &mut Fifo<Request>, now_ns: u64) {
        to.append(&mut self.first);
        self.requests.take_all(to);
        for id in self.flows.ids() {
            self.flows.get_mut(id).line = Default::default();
        }
        // They have nothing to do, one after the other.
        while self.select(now_ns).is_some() {}
        for id in self.flows.ids() {
            self.count(id);
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let all = || self.flows.ids().map(|id| (id, self.flows.get(id)));
        assert_eq!(self.requests.len(), all().map(|(_, flow)| flow.line.len).sum::<u32>());
        assert!(self.at_device >= all().map(|(_, flow)| flow.at_device).sum::<u32>());
        assert_eq!(self.busy as usize, all().filter(|(id, _)| self.wfq.is_busy(*id)).count());
        for (id, flow) in all() {
            assert!(flow.line.len == 0 || self.wfq.is_busy(id), "somebody waits who is not scheduled");
            assert_eq!(flow.counted.busy, self.wfq.is_busy(id));
        }
    }
}
