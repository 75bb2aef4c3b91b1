//! Process ids: numbers per namespace, and what a number stands for.
//!
//! A [`Pid`] is Linux's `struct pid`: one object that outlives the process, with one number in
//! its own pid namespace and in each ancestor. Whoever wants to talk about a process later
//! (a pidfd, a parent, a terminal's foreground group) keeps the object and not a number, so that a number
//! that is used again cannot be mistaken. The same object names a thread, a process, a process
//! group and a session; [`Links`] says which of these exist at the moment.
//!
//! Locks: [`PidNamespace::ids`] and [`Pid::links`] are leaf locks, taken inside the tree lock
//! ([`super::tree`]) by those who change groups and sessions. A namespace's ids are in number order, which is the order
//! of `/proc`.
//!
//! pid_namespaces(7), credentials(7).

use super::{Process, Thread};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::sync::{RwSpinLock, SpinLock};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use mm::context::NoFailScope;
use mm::fallible::{SortedMap, TryVec, try_arc, try_with_capacity};
use sched::Task;
use sched::wait::WaitQueue;
use vfs::cred::UserNamespace;
use vfs::ns_count::NsCharge;

/// Deepest nesting of pid namespaces (`MAX_PID_NS_LEVEL`).
pub const MAX_LEVEL: u32 = 32;
/// Numbers below this are not given out again once the counter has wrapped.
const RESERVED: i32 = 300;
/// Ceiling of `pid_max`: `PID_MAX_LIMIT` on 64-bit machines.
pub const PID_MAX_LIMIT: i32 = 4 * 1024 * 1024;

/// `/proc/sys/kernel/pid_max`: numbers are below it.
pub static PID_MAX: AtomicI32 = AtomicI32::new(32768);

/// One number of a [`Pid`]: what it is called in one namespace.
struct Upid {
    nr: i32,
    ns: Arc<PidNamespace>,
}

/// What a [`Pid`] names at the moment.
#[derive(Default)]
pub struct Links {
    /// The thread with this id.
    pub task: Option<Arc<Task>>,
    /// The process with this id; until it is reaped.
    pub process: Option<Arc<Process>>,
    /// The members of the process group with this id, oldest first.
    pub group: Vec<Arc<Process>>,
    /// The processes of the session with this id, oldest first.
    pub session: Vec<Arc<Process>>,
}

impl Links {
    fn is_empty(&self) -> bool {
        self.task.is_none() && self.process.is_none() && self.group.is_empty() && self.session.is_empty()
    }
}

/// An id and what it stands for.
pub struct Pid {
    /// Number in the namespace it was made in: what its own process calls itself.
    nr: i32,
    /// From the initial namespace (level 0) to its own.
    numbers: Box<[Upid]>,
    /// What it names.
    links: SpinLock<Links>,
    /// Its numbers may belong to others by now.
    released: AtomicBool,
    /// Woken when the thread or process it names exits: pidfd polls.
    pub exit_wait: WaitQueue,
}

impl Pid {
    /// Gives out a number in `ns` and in each of its ancestors. `wanted` holds the numbers that
    /// `clone3(2)` asked for, innermost namespace first; the rest are next-fit.
    ///
    /// # Errors
    /// `EAGAIN`: no number is free; `ENOMEM`: the namespace's init is gone; with `wanted`: `EEXIST`, `EINVAL`.
    pub fn new(ns: &Arc<PidNamespace>, wanted: &[i32]) -> Result<Arc<Self>> {
        let mut numbers = try_with_capacity(ns.level as usize + 1)?;
        let mut level = Some(ns);
        let mut wanted = wanted.iter();
        while let Some(at) = level {
            match at.reserve(wanted.next().copied()) {
                Ok(nr) => numbers.push_reserved(Upid { nr, ns: at.clone() }),
                Err(errno) => {
                    numbers.iter().for_each(|n: &Upid| n.ns.forget(n.nr));
                    return Err(errno);
                }
            }
            level = at.parent.as_ref();
        }
        numbers.reverse();
        let nr = numbers.last().map_or(0, |n| n.nr);
        let pid = try_arc(Self {
            nr,
            numbers: numbers.into_boxed_slice(),
            links: SpinLock::new(Links::default()),
            released: AtomicBool::new(false),
            exit_wait: WaitQueue::new(),
        })?;
        for number in &pid.numbers {
            number.ns.publish(number.nr, &pid);
        }
        Ok(pid)
    }

    /// Number 0 of `ns`: the idle task's, which names the group and session of process 1 at boot and which nobody
    /// can look up.
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    pub fn idle(ns: &Arc<PidNamespace>) -> Arc<Self> {
        Arc::new(Self {
            nr: 0,
            numbers: Box::new([Upid { nr: 0, ns: ns.clone() }]),
            links: SpinLock::new(Links::default()),
            released: AtomicBool::new(false),
            exit_wait: WaitQueue::new(),
        })
    }

    /// The number in the namespace the pid was made in.
    #[inline]
    pub fn vnr(&self) -> i32 {
        self.nr
    }

    /// The number in the initial namespace.
    pub fn global(&self) -> i32 {
        self.numbers.first().map_or(0, |n| n.nr)
    }

    /// The number as `ns` sees it; 0 if it does not see it.
    pub fn nr_in(&self, ns: &PidNamespace) -> i32 {
        match self.numbers.get(ns.level as usize) {
            Some(number) if core::ptr::eq(&raw const *number.ns, ns) => number.nr,
            _ => 0,
        }
    }

    /// The namespace the pid was made in.
    pub fn namespace(&self) -> Option<&Arc<PidNamespace>> {
        self.numbers.last().map(|n| &n.ns)
    }

    /// All numbers that `ns` may see, from `ns` inward (`NSpid` of `/proc/<pid>/status`).
    pub fn numbers_from(&self, ns: &PidNamespace) -> impl Iterator<Item = i32> + '_ {
        let from = if self.nr_in(ns) == 0 { self.numbers.len() } else { ns.level as usize };
        self.numbers.iter().skip(from).map(|n| n.nr)
    }

    /// Whether it is the init of its namespace.
    pub fn is_reaper(&self) -> bool {
        self.nr == 1
    }

    /// Looks at or changes what the pid names. Leaf lock: no other lock inside.
    pub fn with_links<R>(&self, f: impl FnOnce(&mut Links) -> R) -> R {
        f(&mut self.links.lock())
    }

    /// The thread with this id.
    pub fn task(&self) -> Option<Arc<Task>> {
        self.links.lock().task.clone()
    }

    /// The process with this id, dead or alive, until it is reaped.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.links.lock().process.clone()
    }

    /// The members of the process group.
    pub fn group(&self) -> Vec<Arc<Process>> {
        snapshot(|take| take(&self.links.lock().group))
    }

    /// The processes of the session.
    pub fn session(&self) -> Vec<Arc<Process>> {
        snapshot(|take| take(&self.links.lock().session))
    }

    /// Changes what the pid names and gives its numbers back when it names nothing any more.
    pub fn unlink(&self, f: impl FnOnce(&mut Links)) {
        let unused = {
            let mut links = self.links.lock();
            f(&mut links);
            links.is_empty()
        };
        if unused {
            self.release_numbers();
        }
    }

    /// Gives the numbers back, once.
    fn release_numbers(&self) {
        if !self.released.swap(true, Ordering::AcqRel) {
            for number in &self.numbers {
                number.ns.forget(number.nr);
            }
        }
    }
}

impl Drop for Pid {
    fn drop(&mut self) {
        // A pid that never came to name anything: a fork that failed.
        self.release_numbers();
    }
}

impl core::fmt::Debug for Pid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Pid({})", self.global())
    }
}

/// Numbers in use. A number whose pid is not published yet is reserved with an empty reference.
struct Ids {
    used: SortedMap<i32, Weak<Pid>>,
    /// The number given out last.
    last: i32,
}

/// A pid namespace.
pub struct PidNamespace {
    level: u32,
    user_ns: Arc<UserNamespace>,
    parent: Option<Arc<PidNamespace>>,
    ids: RwSpinLock<Ids>,
    /// Its init, to which orphans go.
    reaper: SpinLock<Option<Weak<Process>>>,
    /// Set when its init has exited: nothing is made here any more.
    closed: AtomicBool,
    /// Inode number below `/proc/<pid>/ns`.
    pub inum: u32,
    /// Threads and processes with a number here.
    population: AtomicU32,
    /// `vm.memfd_noexec` as it was set here.
    memfd_noexec: AtomicU32,
    /// Counts for its makers.
    _charge: NsCharge,
}

impl PidNamespace {
    /// The namespace the system starts with.
    pub fn initial() -> Self {
        Self::at(0, None, super::nsproxy::PID_INIT_INO, UserNamespace::initial().clone(), NsCharge::none())
    }

    fn at(
        level: u32,
        parent: Option<Arc<Self>>,
        inum: u32,
        user_ns: Arc<UserNamespace>,
        charge: NsCharge,
    ) -> Self {
        Self {
            level,
            user_ns,
            parent,
            ids: RwSpinLock::new(Ids { used: SortedMap::new(), last: 0 }),
            reaper: SpinLock::new(None),
            closed: AtomicBool::new(false),
            inum,
            population: AtomicU32::new(0),
            memfd_noexec: AtomicU32::new(0),
            _charge: charge,
        }
    }

    /// `vm.memfd_noexec`: the strictest of what was set here and in the namespaces around.
    pub fn memfd_noexec(&self) -> u32 {
        let own = self.memfd_noexec.load(Ordering::Relaxed);
        self.parent.as_ref().map_or(own, |parent| own.max(parent.memfd_noexec()))
    }

    /// Sets `vm.memfd_noexec`.
    ///
    /// # Errors
    /// `EINVAL`: not 0 to 2, or less strict than the namespaces around.
    pub fn set_memfd_noexec(&self, level: u32) -> Result<()> {
        let least = self.parent.as_ref().map_or(0, |parent| parent.memfd_noexec());
        if !(least..=2).contains(&level) {
            return Err(Errno::EINVAL);
        }
        self.memfd_noexec.store(level, Ordering::Relaxed);
        Ok(())
    }

    /// A namespace inside `parent`, owned by `user_ns`.
    ///
    /// # Errors
    /// `EINVAL` for an owner outside of the parent's; `ENOSPC` when they are nested too deep.
    pub fn nested(parent: &Arc<Self>, user_ns: &Arc<UserNamespace>, charge: NsCharge) -> Result<Arc<Self>> {
        if !user_ns.is_inside(&parent.user_ns) {
            return Err(Errno::EINVAL);
        }
        if parent.level >= MAX_LEVEL {
            return Err(Errno::ENOSPC);
        }
        let (level, inum) = (parent.level + 1, super::nsproxy::next_inum());
        Ok(try_arc(Self::at(level, Some(parent.clone()), inum, user_ns.clone(), charge))?)
    }

    /// Capabilities over it are held in this one.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }

    /// How deep it is nested; 0 for the initial one.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// The namespace around it.
    pub fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// Whether `self` is `ancestor` or inside it.
    pub fn is_inside(&self, ancestor: &Self) -> bool {
        let mut at = self;
        loop {
            if core::ptr::eq(at, ancestor) {
                return true;
            }
            match &at.parent {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// The pid with number `nr`.
    pub fn find(&self, nr: i32) -> Option<Arc<Pid>> {
        self.ids.read().used.get(&nr)?.upgrade()
    }

    /// The process with number `nr`, zombies included.
    pub fn process(&self, nr: i32) -> Option<Arc<Process>> {
        self.find(nr)?.process()
    }

    /// The thread with number `nr`.
    pub fn task(&self, nr: i32) -> Option<Arc<Task>> {
        self.find(nr)?.task()
    }

    /// The first process whose number is at least `from`, with its number: iteration for `/proc`.
    pub fn next_process(&self, from: i32) -> Option<(i32, Arc<Process>)> {
        let mut from = from;
        loop {
            let (nr, pid) = {
                let ids = self.ids.read();
                let (nr, pid) = ids.used.range_from(&from).next()?;
                (*nr, pid.upgrade())
            };
            if let Some(process) = pid.and_then(|p| p.process()) {
                return Some((nr, process));
            }
            from = nr.checked_add(1)?;
        }
    }

    /// Every process, in number order.
    pub fn processes(&self) -> impl Iterator<Item = Arc<Process>> + '_ {
        let mut from = 1;
        core::iter::from_fn(move || {
            let (nr, process) = self.next_process(from)?;
            from = nr + 1;
            Some(process)
        })
    }

    /// The number given out last (`/proc/loadavg`, `/proc/sys/kernel/ns_last_pid`).
    pub fn last(&self) -> i32 {
        self.ids.read().last
    }

    /// How many ids are in use.
    pub fn population(&self) -> u32 {
        self.population.load(Ordering::Relaxed)
    }

    /// The namespace's init.
    pub fn reaper(&self) -> Option<Arc<Process>> {
        self.reaper.lock().as_ref()?.upgrade()
    }

    /// Makes `process` the namespace's init.
    pub fn set_reaper(&self, process: &Arc<Process>) {
        *self.reaper.lock() = Some(Arc::downgrade(process));
    }

    /// Nothing is made here any more: its init is exiting.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether its init is gone.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn reserve(&self, wanted: Option<i32>) -> Result<i32> {
        // Linux: a fork into a dead namespace fails with ENOMEM.
        if self.closed.load(Ordering::Acquire) {
            return Err(Errno::ENOMEM);
        }
        let max = PID_MAX.load(Ordering::Relaxed);
        let mut ids = self.ids.write();
        let nr = match wanted {
            Some(nr) if nr < 1 || nr >= max => return Err(Errno::EINVAL),
            // Only the first process of a namespace can be given another number than 1.
            Some(nr) if nr != 1 && ids.used.is_empty() && self.reaper.lock().is_none() => {
                return Err(Errno::EINVAL);
            }
            Some(nr) if ids.used.contains_key(&nr) => return Err(Errno::EEXIST),
            Some(nr) => nr,
            None => {
                let nr = next_free(&ids.used, ids.last, max).ok_or(Errno::EAGAIN)?;
                ids.last = nr;
                nr
            }
        };
        ids.used.try_insert(nr, Weak::new())?;
        drop(ids);
        self.population.fetch_add(1, Ordering::Relaxed);
        Ok(nr)
    }

    fn publish(&self, nr: i32, pid: &Arc<Pid>) {
        if let Some(slot) = self.ids.write().used.get_mut(&nr) {
            *slot = Arc::downgrade(pid);
        }
    }

    fn forget(&self, nr: i32) {
        let old = self.ids.write().used.remove(&nr);
        if old.is_some() {
            self.population.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A copy of a list that a spin lock protects; `locked` passes it on under the lock. The memory is found outside of it, and waited for:
/// a signal to a group must not miss a member.
#[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
pub(super) fn snapshot<T: Clone>(locked: impl Fn(&mut dyn FnMut(&[T]))) -> Vec<T> {
    let _no_fail = NoFailScope::enter();
    let mut copy: Vec<T> = Vec::new();
    loop {
        let mut missing = 0;
        locked(&mut |list| match copy.capacity() >= list.len() {
            true => copy.extend_from_slice(list),
            false => missing = list.len(),
        });
        if missing == 0 {
            return copy;
        }
        if copy.try_reserve_exact(missing).is_err() {
            log::error!("no memory for a list of {missing}");
            return copy;
        }
    }
}

/// The first free number after `last`, wrapping once to [`RESERVED`].
fn next_free(used: &SortedMap<i32, Weak<Pid>>, last: i32, max: i32) -> Option<i32> {
    let gap = |from: i32, end: i32| {
        if from >= end {
            return None;
        }
        let mut free = from;
        for nr in used.range_from(&from).map(|(nr, _)| *nr).take_while(|nr| *nr < end) {
            if nr != free {
                break;
            }
            free += 1;
        }
        (free < end).then_some(free)
    };
    let from = last.saturating_add(1).max(1);
    let low = if last < RESERVED { 1 } else { RESERVED };
    gap(from, max).or_else(|| gap(low.min(max), from.min(max)))
}

/// The thread of a task that user space can name (kernel threads included once they have one).
pub fn thread_of(task: &Task) -> Option<&Thread> {
    task.data::<Thread>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_next_fit() {
        let ns = Arc::new(PidNamespace::initial());
        let a = Pid::new(&ns, &[]).unwrap();
        let b = Pid::new(&ns, &[]).unwrap();
        assert_eq!((a.vnr(), b.vnr()), (1, 2));
        b.unlink(|_| {});
        let c = Pid::new(&ns, &[]).unwrap();
        assert_eq!(c.vnr(), 3);
        assert!(ns.find(2).is_none());
        assert!(Arc::ptr_eq(&ns.find(3).unwrap(), &c));
        assert_eq!(ns.population(), 2);
    }

    #[test]
    fn each_namespace_has_its_own_numbers() {
        let root = Arc::new(PidNamespace::initial());
        let _init = Pid::new(&root, &[]).unwrap();
        let child = PidNamespace::nested(&root, UserNamespace::initial(), NsCharge::none()).unwrap();
        let grandchild = PidNamespace::nested(&child, UserNamespace::initial(), NsCharge::none()).unwrap();
        let pid = Pid::new(&grandchild, &[]).unwrap();
        assert_eq!((pid.vnr(), pid.nr_in(&child), pid.nr_in(&root)), (1, 1, 2));
        let outer = Pid::new(&child, &[]).unwrap();
        assert_eq!((outer.nr_in(&root), outer.nr_in(&child), outer.nr_in(&grandchild)), (3, 2, 0));
        assert!(Arc::ptr_eq(&root.find(2).unwrap(), &pid));
        assert!(Arc::ptr_eq(&grandchild.find(1).unwrap(), &pid));
        assert_eq!(pid.numbers_from(&child).collect::<Vec<_>>(), [1, 1]);
        assert!(grandchild.is_inside(&root) && !root.is_inside(&child));
    }

    #[test]
    fn chosen_numbers() {
        let root = Arc::new(PidNamespace::initial());
        let _init = Pid::new(&root, &[]).unwrap();
        let ns = PidNamespace::nested(&root, UserNamespace::initial(), NsCharge::none()).unwrap();
        assert_eq!(Pid::new(&ns, &[7]).unwrap_err(), Errno::EINVAL);
        let pid = Pid::new(&ns, &[1, 500]).unwrap();
        assert_eq!((pid.vnr(), pid.global()), (1, 500));
        assert_eq!(Pid::new(&root, &[500]).unwrap_err(), Errno::EEXIST);
        assert_eq!(Pid::new(&root, &[0]).unwrap_err(), Errno::EINVAL);
        // A failure in an outer namespace leaves nothing behind in the inner one.
        assert_eq!(Pid::new(&ns, &[9, 500]).unwrap_err(), Errno::EEXIST);
        assert!(ns.find(9).is_none());
        assert_eq!(ns.population(), 1);
    }

    #[test]
    fn a_closed_namespace_makes_nothing() {
        let root = Arc::new(PidNamespace::initial());
        let ns = PidNamespace::nested(&root, UserNamespace::initial(), NsCharge::none()).unwrap();
        ns.close();
        assert_eq!(Pid::new(&ns, &[]).unwrap_err(), Errno::ENOMEM);
        assert_eq!(root.population(), 0);
    }

    #[test]
    fn nesting_is_bounded() {
        let mut ns = Arc::new(PidNamespace::initial());
        for _ in 0..MAX_LEVEL {
            ns = PidNamespace::nested(&ns, UserNamespace::initial(), NsCharge::none()).unwrap();
        }
        assert_eq!(
            PidNamespace::nested(&ns, UserNamespace::initial(), NsCharge::none()).err(),
            Some(Errno::ENOSPC)
        );
    }

    proptest! {
        #[test]
        fn next_free_finds_every_number(
            used in proptest::collection::btree_set(1i32..64, 0..64), last in 0i32..64, max in 2i32..64,
        ) {
            let mut map: SortedMap<i32, Weak<Pid>> = SortedMap::new();
            for &n in &used {
                map.try_insert(n, Weak::new()).unwrap();
            }
            let got = next_free(&map, last, max);
            let expect = (last.max(0) + 1..max).chain(1..(last + 1).min(max)).find(|n| !used.contains(n));
            prop_assert_eq!(got, expect);
        }
    }
}
