//! Weight raising: what seems to be waited for by a person is preferred for a while.
//!
//! *Interactive* is what begins to read after it was quiet for long: a program that starts, a command. *Soft real-time* is
//! what asks for no more than a certain rate, and for the next piece only some time after it got the last: a player. Many flows that begin at
//! about the same time (*bursts*: services that start, `make -j`) are neither.

use super::turns::Core;

const MS: u64 = 1_000_000;
/// By how much weights are raised.
pub(super) const RAISED: u32 = 30;
/// And those of soft real-time flows on top of that.
const SOFT_REALTIME: u32 = 100;
/// How long a soft real-time flow is raised after it has asked for something.
const SOFT_REALTIME_NS: u64 = 300 * MS;
/// Sectors in a second that a soft real-time flow reads at most.
const SOFT_REALTIME_RATE: u64 = 7000;
/// How long something was quiet before it is interactive.
const QUIET_NS: u64 = 2_000 * MS;
/// Whoever was quiet for so long is no part of a burst any more.
const OUT_OF_BURST_NS: u64 = 10_000 * MS;
/// Sectors that an interactive flow gets raised at most.
const MOST_SECTORS: u64 = 120_000;
/// Flows that begin so soon after each other are a burst,
const BURST_NS: u64 = 180 * MS;
/// a large one from so many on.
const LARGE_BURST: u32 = 8;
/// Only flows of this weight are raised: the others have been given theirs by somebody who knew why.
const DEFAULT_WEIGHT: u32 = 40;

/// What is noted in each flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raise {
    /// What its weight is multiplied by.
    pub(super) by: u32,
    /// For how long, and since when. While it is not raised: when it was last.
    pub(super) for_ns: u64,
    pub(super) since: u64,
    /// When it began to be interactive, before it was found to be soft real-time.
    interactive_since: u64,
    /// Sectors that it got meanwhile.
    sectors: u64,
    /// Since when it has had something to do all the time, and what it has got.
    backlogged_since: u64,
    backlog_sectors: u64,
    /// Whoever comes earlier than this is not soft real-time.
    soft_realtime_from: u64,
    /// That is to be calculated when its requests have ended.
    to_calculate: bool,
    is_new: bool,
    burst: u32,
    in_large_burst: bool,
}

impl Raise {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            by: 1,
            for_ns: 0,
            since: now_ns,
            interactive_since: 0,
            sectors: 0,
            backlogged_since: now_ns,
            backlog_sectors: 0,
            soft_realtime_from: now_ns,
            to_calculate: false,
            is_new: true,
            burst: 0,
            in_large_burst: false,
        }
    }

    pub(super) fn is_raised(&self) -> bool {
        self.by > 1
    }

    /// Whether it is so as soft real-time.
    pub(super) fn is_soft_realtime(&self) -> bool {
        self.is_raised() && self.for_ns == SOFT_REALTIME_NS
    }

    fn end(&mut self, now_ns: u64) {
        (self.by, self.for_ns, self.since) = (1, 0, now_ns);
    }

    fn begin_interactive(&mut self, for_ns: u64, now_ns: u64) {
        if !self.is_raised() {
            self.sectors = 0;
        }
        (self.by, self.for_ns, self.since) = (RAISED, for_ns, now_ns);
    }
}

/// Flows that began one soon after the other.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    /// Which burst is the last.
    id: u32,
    size: u32,
    last_ns: u64,
}

impl Core {
    /// A flow begins to have something to do; what it is. Whether it is to be preferred.
    pub(super) fn raise_if_waited_for(&mut self, id: u32, now_ns: u64) -> bool {
        let interactive_ns = self.rate.interactive_ns();
        if self.flows.get(id).raise.is_new && self.flows.get(id).sync {
            self.in_burst(id, now_ns);
        }
        let slow_device = !self.is_fast();
        let flow = self.flows.get_mut(id);
        let long_quiet = now_ns.saturating_sub(flow.quiet_since) > QUIET_NS;
        let default = flow.base_weight() == (1, DEFAULT_WEIGHT);
        let raise = &mut flow.raise;
        // A device that does many things at once is not held up by many that begin.
        let in_burst = raise.in_large_burst && slow_device;
        let interactive = !in_burst && long_quiet && default;
        let soft_realtime = !in_burst
            && default
            && flow.at_device == 0
            && flow.seeks != u32::MAX
            && now_ns > raise.soft_realtime_from;
        if !raise.is_new && now_ns.saturating_sub(flow.quiet_since) > OUT_OF_BURST_NS {
            raise.in_large_burst = false;
        }
        raise.is_new = false;
        let low_latency = self.tunables.low_latency;
        let deserves = low_latency && (raise.is_raised() || flow.sync && (interactive || soft_realtime));
        if low_latency && deserves {
            let was_raised = raise.is_raised();
            if interactive {
                raise.begin_interactive(interactive_ns, now_ns);
            } else if was_raised && in_burst {
                raise.end(now_ns);
            } else if soft_realtime {
                if !raise.is_soft_realtime() {
                    raise.interactive_since = if was_raised { raise.since } else { 0 };
                    (raise.by, raise.for_ns) = (RAISED * SOFT_REALTIME, SOFT_REALTIME_NS);
                }
                raise.since = now_ns;
            }
        }
        (raise.backlogged_since, raise.backlog_sectors, raise.to_calculate) = (now_ns, 0, false);
        self.apply_weight(id);
        deserves
    }

    /// A flow is new: a part of a burst if others were so a moment ago.
    fn in_burst(&mut self, id: u32, now_ns: u64) {
        let bursts = &mut self.bursts;
        if now_ns.saturating_sub(bursts.last_ns) > BURST_NS {
            (bursts.id, bursts.size) = (bursts.id.wrapping_add(1), 0);
        }
        bursts.last_ns = now_ns;
        bursts.size = bursts.size.saturating_add(1);
        let (burst, size) = (bursts.id, bursts.size);
        let raise = &mut self.flows.get_mut(id).raise;
        (raise.burst, raise.in_large_burst) = (burst, size >= LARGE_BURST);
        if size == LARGE_BURST {
            for other in self.flows.ids() {
                let raise = &mut self.flows.get_mut(other).raise;
                raise.in_large_burst |= raise.burst == burst && !raise.is_new;
            }
        }
    }

    /// A flow got so many sectors: whether it is still to be preferred.
    pub(super) fn raise_served(&mut self, id: u32, sectors: u64, now_ns: u64) {
        let (interactive_ns, slow_device) = (self.rate.interactive_ns(), !self.is_fast());
        let raise = &mut self.flows.get_mut(id).raise;
        raise.backlog_sectors += sectors;
        if !raise.is_raised() {
            return;
        }
        raise.sectors += sectors;
        let is_over = |since: u64, ns: u64| now_ns.saturating_sub(since) > ns;
        if raise.in_large_burst && slow_device {
            raise.end(now_ns);
        } else if is_over(raise.since, raise.for_ns) {
            if !raise.is_soft_realtime() || is_over(raise.interactive_since, interactive_ns) {
                raise.end(now_ns);
            } else {
                (raise.by, raise.for_ns, raise.since) = (RAISED, interactive_ns, raise.interactive_since);
            }
        }
        if raise.is_raised() && !raise.is_soft_realtime() && raise.sectors > MOST_SECTORS {
            raise.end(now_ns);
        }
        self.apply_weight(id);
    }

    /// A flow's turn is over.
    pub(super) fn raise_expired(&mut self, id: u32, now_ns: u64) {
        if !self.tunables.low_latency {
            return;
        }
        let flow = self.flows.get_mut(id);
        if !flow.raise.is_raised() {
            flow.raise.since = now_ns;
        }
        if flow.line.len > 0 {
            return;
        }
        if flow.at_device > 0 {
            flow.raise.to_calculate = true;
        } else if flow.raise.by != RAISED {
            self.calculate_soft_realtime(id, now_ns);
        }
    }

    /// Its last request has ended.
    pub(super) fn raise_quiet(&mut self, id: u32, now_ns: u64) {
        let raise = &self.flows.get(id).raise;
        if raise.to_calculate && raise.by != RAISED {
            self.calculate_soft_realtime(id, now_ns);
        }
    }

    /// Not before it would have got what it got at the rate of one, and not at once after it.
    fn calculate_soft_realtime(&mut self, id: u32, now_ns: u64) {
        let soon = now_ns + self.tunables.slice_idle_ns + 4 * sched::time::TICK_NS;
        let raise = &mut self.flows.get_mut(id).raise;
        let at_rate = raise.backlogged_since + raise.backlog_sectors * 1000 / SOFT_REALTIME_RATE * MS;
        raise.soft_realtime_from = raise.soft_realtime_from.max(at_rate).max(soon);
    }

    /// None is preferred any more.
    pub(super) fn end_all_raises(&mut self, now_ns: u64) {
        for id in self.flows.ids() {
            if self.flows.get(id).raise.is_raised() {
                self.flows.get_mut(id).raise.end(now_ns);
                self.apply_weight(id);
            }
        }
    }
}
