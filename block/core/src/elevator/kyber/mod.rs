//! `kyber`: so few requests at the device at a time that reads are fast, for devices that are fast and have many queues.
//!
//! Requests are of four *domains*: reads, writes, discards, others. The device may have only so many of each, which hold a *token* while they
//! are under way; [`tuning`] finds out how many. What waits for a token waits here, where a read does not stand behind
//! a thousand writes. Each hardware queue serves the domains in turn, in batches.
//!
//! Nothing is sorted: requests of a CPU lie on its list for each domain, where bios that follow join them; a hardware queue takes whole lists
//! over. The design is Omar Sandoval's for Linux 4.12 (*Two new block I/O schedulers for 4.12*, LWN 2017; the attributes
//! are those of Linux's `Documentation/block/kyber-iosched.rst`).
//!
//! Locks: hardware queue → list of a CPU. Tokens are counted without one; whoever gives one back tells a queue that has none.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::Result;
use arch::cpu::{self, MAX_CPUS};
use arch::sync::SpinLock;
use collections::fifo::{Chained, Fifo};
use mm::fallible::{try_arc, try_into_boxed_slice, try_with_capacity};
use sched::timer::Timer;
use sync::CachePadded;

use self::tuning::{DOMAINS, PERIOD_MS, Tuning, domain_of};
use super::{Elevator, Limit, Place};
use crate::bio::{Bio, Op, OpFlags};
use crate::limits::Limits;
use crate::request::Request;

mod tuning;

#[cfg(test)]
mod tests;

/// How many requests of each domain go in a row.
const BATCH: [u32; DOMAINS] = [16, 8, 1, 1];
/// What part of a hardware queue's requests may be such that nobody waits for, in percent.
const ASYNC_PERCENT: u32 = 75;
/// Of [`Request::sched`], whose other bits are the domain: it holds a token.
const HAS_TOKEN: u32 = 1 << 8;
/// To how many of the last requests of a list a bio is offered.
const MERGE_WITH: usize = 8;

const ATTRIBUTES: [&str; 2] = ["read_lat_nsec", "write_lat_nsec"];

type Lists = [Fifo<Request>; DOMAINS];

/// A hardware queue.
struct Hw {
    inner: SpinLock<Inner>,
    /// How many requests `inner` has.
    listed: AtomicU32,
    /// CPUs that have requests of a domain.
    pending: [AtomicU64; DOMAINS],
}

#[derive(Default)]
struct Inner {
    lists: Lists,
    /// Whose turn it is, and how many went in this turn.
    domain: usize,
    gone: u32,
}

/// The scheduler.
pub struct Kyber {
    hw: Box<[CachePadded<Hw>]>,
    /// Requests by CPU.
    cpus: Box<[CachePadded<SpinLock<Lists>>]>,
    tuning: Arc<Tuning>,
    /// Runs when there is something to tune by.
    timer: Timer,
    armed: Arc<AtomicBool>,
    async_depth: u32,
}

impl Kyber {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(place: Place) -> Result<Arc<Self>> {
        let mut hw = try_with_capacity(place.queues)?;
        hw.extend((0..place.queues).map(|_| {
            CachePadded::new(Hw {
                inner: SpinLock::new(Inner::default()),
                listed: AtomicU32::new(0),
                pending: Default::default(),
            })
        }));
        let mut cpus = try_with_capacity(MAX_CPUS)?;
        cpus.extend((0..MAX_CPUS).map(|_| CachePadded::new(SpinLock::new(Lists::default()))));
        let tuning = try_arc(Tuning::new(place.kick)?)?;
        let armed = try_arc(AtomicBool::new(false))?;
        let timer = Timer::new({
            let (tuning, armed) = (tuning.clone(), armed.clone());
            move || {
                armed.store(false, Ordering::Release);
                tuning.tune(sched::time::monotonic_ns());
            }
        })?;
        Ok(try_arc(Self {
            hw: try_into_boxed_slice(hw)?,
            cpus: try_into_boxed_slice(cpus)?,
            tuning,
            timer,
            armed,
            async_depth: (place.slots * ASYNC_PERCENT / 100).max(1),
        })?)
    }

    /// How many requests of reads, writes, discards and others the device may have at a time, and has.
    pub fn depths(&self) -> [(u32, u32); DOMAINS] {
        core::array::from_fn(|domain| self.tuning.depth(domain))
    }

    fn completed_at(&self, request: &Request, now_ns: u64) {
        if request.sched & HAS_TOKEN == 0 {
            return;
        }
        let domain = (request.sched & !HAS_TOKEN) as usize;
        self.tuning.put(domain);
        let since = |ns: u64| now_ns.saturating_sub(ns);
        self.tuning.sample(domain, since(request.queued_ns), since(request.issued_ns));
    }

    /// Moves up to `most` requests of a domain; how many.
    fn take(&self, index: usize, lists: &mut Lists, domain: usize, most: u32, to: &mut Fifo<Request>) -> u32 {
        let Some(hw) = self.hw.get(index).map(|hw| &hw.0) else { return 0 };
        let (list, mut taken) = (&mut lists[domain], 0);
        while taken < most {
            if list.is_empty() {
                self.collect(hw, domain, list);
            }
            let wanted = (most - taken).min(list.len() as u32);
            if wanted == 0 {
                break;
            }
            let got = self.tuning.take(domain, index, wanted);
            for mut request in core::iter::from_fn(|| list.pop_front()).take(got as usize) {
                request.sched |= HAS_TOKEN;
                to.push_back(request);
            }
            hw.listed.fetch_sub(got, Ordering::Relaxed);
            taken += got;
            if got < wanted {
                break;
            }
        }
        taken
    }

    /// Takes over what the CPUs have.
    fn collect(&self, hw: &Hw, domain: usize, list: &mut Fifo<Request>) {
        if hw.pending[domain].load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut pending = hw.pending[domain].swap(0, Ordering::AcqRel);
        let before = list.len();
        while pending != 0 {
            if let Some(cpu) = self.cpus.get(pending.trailing_zeros() as usize) {
                list.append(&mut cpu.0.lock()[domain]);
            }
            pending &= pending - 1;
        }
        hw.listed.fetch_add((list.len() - before) as u32, Ordering::Relaxed);
    }
}

impl Elevator for Kyber {
    fn name(&self) -> &'static str {
        "kyber"
    }

    fn merge(&self, mut bio: Chained<Bio>, segments: u32, limits: &Limits) -> Result<(), Chained<Bio>> {
        let Some(cpu) = self.cpus.get(cpu::current().index()) else { return Err(bio) };
        let mut lists = cpu.0.lock();
        let list = &mut lists[domain_of(bio.op)];
        let try_one =
            |request: &mut Request, bio: Chained<Bio>| match request.can_merge(&bio, segments, limits) {
                Some(side) => {
                    request.merge(bio, segments, side);
                    Ok(())
                }
                None => Err(bio),
            };
        // The last one first: that is the one that most often fits.
        if let Some(last) = list.back_mut() {
            match try_one(last, bio) {
                Ok(()) => return Ok(()),
                Err(same) => bio = same,
            }
        }
        if list.len() <= MERGE_WITH {
            for request in list.iter_mut() {
                match try_one(request, bio) {
                    Ok(()) => return Ok(()),
                    Err(same) => bio = same,
                }
            }
        }
        Err(bio)
    }

    fn insert(&self, requests: &mut Fifo<Request>) {
        while let Some((cpu, home)) = requests.front().map(|first| (first.cpu, first.home())) {
            let (Some(list), Some(hw)) = (self.cpus.get(usize::from(cpu)), self.hw.get(home)) else { return };
            let mut domains = 0u32;
            {
                // Those of one CPU in a row: usually all.
                let mut lists = list.0.lock();
                while requests.front().is_some_and(|next| next.cpu == cpu)
                    && let Some(mut request) = requests.pop_front()
                {
                    let domain = domain_of(request.op());
                    request.sched = domain as u32;
                    domains |= 1 << domain;
                    lists[domain].push_back(request);
                }
            }
            for (domain, pending) in hw.0.pending.iter().enumerate() {
                if domains & 1 << domain != 0 {
                    pending.fetch_or(1 << cpu, Ordering::AcqRel);
                }
            }
        }
    }

    fn insert_first(&self, requests: &mut Fifo<Request>) {
        while let Some(mut request) = requests.pop_front() {
            let Some(hw) = self.hw.get(request.home()) else { return };
            let domain = domain_of(request.op());
            request.sched = domain as u32;
            let mut inner = hw.0.inner.lock();
            inner.lists[domain].push_front(request);
            hw.0.listed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn dispatch(&self, index: usize, to: &mut Fifo<Request>, most: usize, _now_ns: u64) {
        let Some(hw) = self.hw.get(index) else { return };
        {
            let mut inner = hw.0.inner.lock();
            let Inner { lists, domain, gone } = &mut *inner;
            let (mut left, mut in_vain) = (most as u32, 0);
            loop {
                let room = BATCH[*domain].saturating_sub(*gone).min(left);
                let went = self.take(index, lists, *domain, room, to);
                (left, *gone) = (left - went, *gone + went);
                if went > 0 {
                    in_vain = 0;
                } else if in_vain == DOMAINS {
                    break;
                }
                if left == 0 {
                    break;
                }
                // Its turn is over, or it has nothing, or no token. The last to be asked is the first again.
                (*domain, *gone) = ((*domain + 1) % DOMAINS, 0);
                in_vain += 1;
            }
        }
        self.tuning.pass_on(index);
    }

    fn drain(&self, index: usize, to: &mut Fifo<Request>) {
        let Some(hw) = self.hw.get(index) else { return };
        let mut inner = hw.0.inner.lock();
        for (domain, list) in inner.lists.iter_mut().enumerate() {
            self.collect(&hw.0, domain, list);
            to.append(list);
        }
        hw.0.listed.store(0, Ordering::Relaxed);
    }

    fn has_work(&self, index: usize) -> bool {
        self.hw.get(index).is_some_and(|hw| {
            hw.0.listed.load(Ordering::Relaxed) != 0
                || hw.0.pending.iter().any(|pending| pending.load(Ordering::Relaxed) != 0)
        })
    }

    fn completed(&self, request: &Request) {
        self.completed_at(request, sched::time::monotonic_ns());
        if !self.armed.load(Ordering::Relaxed) && !self.armed.swap(true, Ordering::AcqRel) {
            self.timer.start_in_ms(PERIOD_MS);
        }
    }

    fn limit(&self, op: Op, flags: OpFlags) -> Option<Limit> {
        (!flags.is_sync(op)).then_some(Limit { gate: 0, depth: self.async_depth })
    }

    fn stop(&self) {
        self.timer.cancel();
    }

    fn get(&self, attribute: &str) -> Result<u64> {
        match attribute {
            // Linux shows it in debugfs.
            "async_depth" => Ok(self.async_depth.into()),
            _ => Ok(self.tuning.target(attribute)?.load(Ordering::Relaxed)),
        }
    }

    fn set(&self, attribute: &str, value: u64) -> Result<()> {
        self.tuning.target(attribute)?.store(value, Ordering::Relaxed);
        Ok(())
    }

    fn attributes(&self) -> &'static [&'static str] {
        &ATTRIBUTES
    }
}
