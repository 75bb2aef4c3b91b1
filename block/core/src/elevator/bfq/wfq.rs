//! Budget Worst-case Fair Weighted Fair Queueing+ (B-WF2Q+): who gets the device next, and what is fair.
//!
//! The extension of WF2Q+ (Bennett, Zhang: *Hierarchical Packet Fair Queueing Algorithms*, IEEE/ACM ToN 1997) to *budgets*, in Valente and
//! Checconi, *High Throughput Disk Scheduling with Fair Bandwidth Distribution*, IEEE Transactions on Computers 59(9), 2010. An
//! entity gets the device to itself for up to a budget of sectors. In an ideal system all entities are served at the same time, each
//! by its weight; *virtual time* is how far that one has got. In it an entity's budget starts at one point and finishes at another
//! one. Of those that have started there the one goes that finishes first. What it did not use of its budget moves
//! its finish back, so nobody pays for more than it got.
//!
//! Entities are leaves, or groups of others; each group has virtual times of its own for three classes, of which a higher one goes first.
//! Numbers below that of the first group are leaves. The root is a group that no entity stands for.

use alloc::boxed::Box;

use abi::Result;
use mm::fallible::{try_into_boxed_slice, try_with_capacity};

use super::tree::{Nodes, Tree};

/// The real-time class, best effort, and idle, in the order in which they go.
pub(super) const CLASSES: usize = 3;
/// The class that goes when no other does, or at times.
pub(super) const IDLE: u8 = 2;
/// How long entities of the idle class wait for one of their own to be served at most.
const IDLE_CLASS_NS: u64 = 200_000_000;
/// Virtual time is in fractions of a sector at weight 1.
const SHIFT: u32 = 22;

/// When a class has got so far, its time begins anew. Tests get there.
const FAR: u64 = if cfg!(test) { 1 << 32 } else { 1 << 62 };

/// The group above all.
pub(super) const ROOT: usize = 0;

/// Where an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It wants nothing, and what it got is history.
    Forgotten,
    /// It wants nothing, but has got something that in the ideal system would still be under way.
    Idle,
    /// It waits for its turn.
    Active,
    /// It has the device.
    InService,
}

#[derive(Clone, Copy, Debug)]
struct Entity {
    group: usize,
    /// The group that it stands for.
    stands_for: Option<usize>,
    state: State,
    class: u8,
    weight: u32,
    /// What it will be from the next time on.
    next: (u8, u32),
    start: u64,
    finish: u64,
    /// Sectors that it may get in this turn, and has got.
    budget: u64,
    service: u64,
}

#[derive(Clone, Copy, Default)]
struct Class {
    active: Tree,
    idle: Tree,
    /// How far the ideal system has got.
    time: u64,
    /// Weights of all but those that are forgotten.
    weights: u64,
}

#[derive(Clone, Copy, Default)]
struct Group {
    entity: Option<u32>,
    classes: [Class; CLASSES],
    in_service: Option<u32>,
    /// When the idle class was served last.
    idle_served_ns: u64,
}

/// The scheduler of entities.
pub(super) struct Wfq {
    nodes: Nodes,
    entities: Box<[Entity]>,
    groups: Box<[Group]>,
}

/// What service is in virtual time.
fn virtually(sectors: u64, weight: u64) -> u64 {
    (sectors << SHIFT) / weight.max(1)
}

impl Wfq {
    /// `leaves` leaves in the root group, and room for `groups` groups below the root.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(leaves: usize, groups: usize) -> Result<Self> {
        let mut entities = try_with_capacity(leaves + groups)?;
        entities.extend((0..leaves + groups).map(|id| Entity {
            group: ROOT,
            stands_for: id.checked_sub(leaves).map(|index| index + 1),
            state: State::Forgotten,
            class: 1,
            weight: 1,
            next: (1, 1),
            start: 0,
            finish: 0,
            budget: 0,
            service: 0,
        }));
        let mut all = try_with_capacity(groups + 1)?;
        all.extend((0..=groups).map(|index| Group {
            entity: index.checked_sub(1).map(|index| (leaves + index) as u32),
            ..Group::default()
        }));
        Ok(Self {
            nodes: Nodes::new(leaves + groups)?,
            entities: try_into_boxed_slice(entities)?,
            groups: try_into_boxed_slice(all)?,
        })
    }

    /// Moves an entity that wants nothing to a group.
    #[cfg(test)]
    pub(super) fn place(&mut self, id: u32, group: usize) {
        self.forget(id);
        self.entities[id as usize].group = group;
    }

    /// The entity of a group other than the root.
    #[cfg(test)]
    pub(super) fn entity_of(&self, group: usize) -> u32 {
        self.groups[group].entity.unwrap()
    }

    /// From its next turn on, an entity is of this class and weight.
    pub(super) fn set_weight(&mut self, id: u32, class: u8, weight: u32) {
        if let Some(entity) = self.entities.get_mut(id as usize) {
            entity.next = (class.min(IDLE), weight.max(1));
        }
    }

    /// The class and the weight that it has.
    pub(super) fn weight(&self, id: u32) -> (u8, u32) {
        self.entities.get(id as usize).map_or((1, 1), |entity| (entity.class, entity.weight))
    }

    /// Whether it waits for the device or has it.
    pub(super) fn is_busy(&self, id: u32) -> bool {
        let state = self.entities.get(id as usize).map(|entity| entity.state);
        matches!(state, Some(State::Active | State::InService))
    }

    /// What it may still get in this turn.
    pub(super) fn budget_left(&self, id: u32) -> u64 {
        self.entities.get(id as usize).map_or(0, |entity| entity.budget.saturating_sub(entity.service))
    }

    /// What it was given for this turn, and has got of that.
    pub(super) fn turn(&self, id: u32) -> (u64, u64) {
        self.entities.get(id as usize).map_or((0, 0), |entity| (entity.budget, entity.service))
    }

    /// It wants so much. `missed`: it was away only because others were served meanwhile, and its time is not to have
    /// passed.
    pub(super) fn activate(&mut self, id: u32, budget: u64, missed: bool) {
        let Some(mut entity) = self.entities.get(id as usize).copied() else { return };
        if matches!(entity.state, State::Active | State::InService) {
            return;
        }
        let Some(group) = self.groups.get_mut(entity.group) else { return };
        if entity.state == State::Idle {
            self.nodes.remove(&mut group.classes[usize::from(entity.class)].idle, id);
        }
        let counted = entity.state == State::Idle;
        renew(&mut entity, group, counted);
        let class = &mut group.classes[usize::from(entity.class)];
        let now = if missed { class.time.min(entity.finish) } else { class.time };
        entity.start = now.max(entity.finish);
        (entity.budget, entity.service, entity.state) = (budget, 0, State::Active);
        entity.finish = entity.start + virtually(budget, entity.weight.into());
        self.nodes.insert(&mut class.active, id, entity.start, entity.finish);
        self.entities[id as usize] = entity;
        if let Some(parent) = group.entity {
            self.activate(parent, budget, false);
        }
    }

    /// Gives the device to a leaf. Only when nobody has it.
    pub(super) fn select(&mut self, now_ns: u64) -> Option<u32> {
        let mut group = ROOT;
        loop {
            let (id, class) = self.pick(group, now_ns)?;
            let of = &mut self.groups[group];
            self.nodes.remove(&mut of.classes[class].active, id);
            of.in_service = Some(id);
            let entity = &mut self.entities[id as usize];
            (entity.state, entity.service) = (State::InService, 0);
            match entity.stands_for {
                Some(below) => group = below,
                None => return Some(id),
            }
        }
    }

    /// Who is next in a group, and of which class it is.
    fn pick(&mut self, group: usize, now_ns: u64) -> Option<(u32, usize)> {
        let group = self.groups.get_mut(group)?;
        let mut first = 0;
        let idle = usize::from(IDLE);
        if now_ns.saturating_sub(group.idle_served_ns) > IDLE_CLASS_NS {
            group.idle_served_ns = now_ns;
            if !group.classes[idle].active.is_empty() {
                first = idle;
            }
        }
        let class = (first..CLASSES).find(|&class| !group.classes[class].active.is_empty())?;
        let Class { active, time, .. } = &mut group.classes[class];
        // Nothing has started: the ideal system has nothing to do until something does.
        if let Some(start) = self.nodes.min_start(*active).filter(|start| start > time) {
            *time = start;
        }
        Some((self.nodes.first_started(*active, *time)?, class))
    }

    /// Whether somebody waits who goes before the one that has the device.
    pub(super) fn is_somebody_next(&self) -> bool {
        let mut group = &self.groups[ROOT];
        loop {
            let Some(serving) = group.in_service.and_then(|id| self.entities.get(id as usize)) else {
                return false;
            };
            for (index, class) in group.classes.iter().enumerate().take(usize::from(serving.class) + 1) {
                let next = self.nodes.first_started(class.active, class.time);
                let Some(next) = next.and_then(|id| self.entities.get(id as usize)) else { continue };
                if index < usize::from(serving.class) || next.finish < serving.finish {
                    return true;
                }
            }
            match serving.stands_for.and_then(|below| self.groups.get(below)) {
                Some(below) => group = below,
                None => return false,
            }
        }
    }

    /// The leaf that has the device got so much.
    pub(super) fn served(&mut self, leaf: u32, sectors: u64) {
        let mut at = Some(leaf);
        while let Some(id) = at {
            let Some(entity) = self.entities.get_mut(id as usize) else { return };
            entity.service += sectors;
            let (class, of) = (usize::from(entity.class), entity.group);
            let Some(group) = self.groups.get_mut(of) else { return };
            let Class { time, weights, .. } = &mut group.classes[class];
            *time += virtually(sectors, *weights);
            let far = *time > FAR;
            at = group.entity;
            self.forget_history(of, class);
            if far {
                self.begin_anew(of, class);
            }
        }
    }

    /// The turn of the leaf that has the device is over; it wants so much next, or nothing.
    pub(super) fn expire(&mut self, leaf: u32, next: Option<u64>) {
        let (mut at, mut next) = (Some(leaf), next);
        while let Some(id) = at {
            let Some(mut entity) = self.entities.get(id as usize).copied() else { return };
            let Some(group) = self.groups.get_mut(entity.group) else { return };
            group.in_service = None;
            let old = usize::from(entity.class);
            entity.finish = entity.start + virtually(entity.service, entity.weight.into());
            if let Some(budget) = next {
                let start = entity.finish;
                renew(&mut entity, group, true);
                let class = &mut group.classes[usize::from(entity.class)];
                // Another class has another time.
                entity.start = if usize::from(entity.class) == old { start } else { class.time };
                entity.finish = entity.start + virtually(budget, entity.weight.into());
                (entity.state, entity.budget) = (State::Active, budget);
                self.nodes.insert(&mut class.active, id, entity.start, entity.finish);
            } else {
                let class = &mut group.classes[old];
                if entity.finish > class.time {
                    entity.state = State::Idle;
                    self.nodes.insert(&mut class.idle, id, entity.start, entity.finish);
                } else {
                    entity.state = State::Forgotten;
                    class.weights -= u64::from(entity.weight);
                }
            }
            entity.service = 0;
            self.entities[id as usize] = entity;
            at = self.groups[entity.group].entity;
            // The group goes on if anybody in it does, with what that one wants.
            next = self.groups[entity.group].classes.iter().find_map(|class| {
                let first = self.nodes.first(class.active)?;
                self.entities.get(first as usize).map(|entity| entity.budget)
            });
        }
    }

    /// What an entity that wants nothing has got is no matter any more.
    pub(super) fn forget(&mut self, id: u32) {
        let Some(entity) = self.entities.get_mut(id as usize) else { return };
        if entity.state == State::Idle
            && let Some(group) = self.groups.get_mut(entity.group)
        {
            let class = &mut group.classes[usize::from(entity.class)];
            self.nodes.remove(&mut class.idle, id);
            class.weights -= u64::from(entity.weight);
            entity.state = State::Forgotten;
        }
        if entity.state == State::Forgotten {
            (entity.start, entity.finish) = (0, 0);
        }
    }

    /// Takes what is common to all times of a class off them.
    #[cold]
    fn begin_anew(&mut self, group: usize, class: usize) {
        let is_in = |entity: &&mut Entity| entity.group == group && usize::from(entity.class) == class;
        let matters = |entity: &Entity| entity.state != State::Forgotten;
        let starts = self.entities.iter_mut().filter(is_in).filter(|e| matters(e)).map(|entity| entity.start);
        let time = &mut self.groups[group].classes[class].time;
        let base = starts.fold(*time, u64::min);
        *time -= base;
        for (id, entity) in self.entities.iter_mut().enumerate() {
            if entity.group != group || usize::from(entity.class) != class {
                continue;
            }
            entity.start = entity.start.saturating_sub(base);
            entity.finish = entity.finish.saturating_sub(base);
            if matches!(entity.state, State::Active | State::Idle) {
                self.nodes.take_off(id as u32, base);
            }
        }
    }

    /// Forgets those whose past the ideal system has caught up with: some each time.
    fn forget_history(&mut self, group: usize, class: usize) {
        for _ in 0..2 {
            let Class { idle, time, weights, .. } = &mut self.groups[group].classes[class];
            let Some(first) = self.nodes.first(*idle) else { return };
            let entity = &mut self.entities[first as usize];
            if entity.finish > *time {
                return;
            }
            self.nodes.remove(idle, first);
            *weights -= u64::from(entity.weight);
            entity.state = State::Forgotten;
        }
    }
}

/// Gives an entity, which is in no tree, the class and weight that it is to have. `counted`: its weight is in its class' sum.
fn renew(entity: &mut Entity, group: &mut Group, counted: bool) {
    let (class, weight) = entity.next;
    if counted {
        group.classes[usize::from(entity.class)].weights -= u64::from(entity.weight);
    }
    if class != entity.class {
        // Another class has another time.
        (entity.start, entity.finish) = (0, 0);
    }
    (entity.class, entity.weight) = (class, weight);
    group.classes[usize::from(class)].weights += u64::from(weight);
}

#[cfg(test)]
#[path = "wfq_tests.rs"]
mod tests;
