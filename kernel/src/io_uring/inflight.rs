//! The table of requests under way: found by what the user knows them by, or one after the other.
//!
//! A request that waits for an event must be in the table, or nobody could cancel it; and a request that has begun cannot fail for
//! want of room in it. So room is *promised* when a request is allocated ([`Table::promise`]): the table has a slot for
//! every request there is, and putting one in allocates nothing.
//!
//! Slots with the same key are chained in the order in which they were put in, in both directions, so that all steps but a search
//! among equal keys take constant time.

use abi::Result;
use alloc::vec::Vec;
use mm::fallible::{TryVec, try_with_capacity};

/// No slot.
const NONE: u32 = u32::MAX;
/// Slots of a table that has any.
const LEAST: usize = 16;

struct Slot<T> {
    value: Option<T>,
    key: u64,
    /// Grows from one that is put in to the next.
    serial: u64,
    prev: u32,
    /// Next in the chain; of a free slot, the next free one.
    next: u32,
}

#[derive(Clone, Copy)]
struct Chain {
    first: u32,
    last: u32,
}

const EMPTY: Chain = Chain { first: NONE, last: NONE };

/// See the module text.
pub struct Table<T> {
    slots: Vec<Slot<T>>,
    /// By hash of the key; as many as there are slots, a power of two.
    chains: Vec<Chain>,
    free: u32,
    serial: u64,
    used: usize,
    promised: usize,
}

/// Memory for a larger table, allocated outside of the table's lock; afterwards the old one's.
pub struct Room<T> {
    slots: Vec<Slot<T>>,
    chains: Vec<Chain>,
}

impl<T> Room<T> {
    /// For `slots` slots, a power of two.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(slots: usize) -> Result<Self> {
        let mut chains = try_with_capacity(slots)?;
        chains.try_resize(slots, EMPTY)?;
        Ok(Self { slots: try_with_capacity(slots)?, chains })
    }
}

impl<T> Table<T> {
    /// An empty table.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), chains: Vec::new(), free: NONE, serial: 0, used: 0, promised: 0 }
    }

    /// How many slots the table needs before another promise can be made; `None`: it has enough.
    pub fn needs(&self) -> Option<usize> {
        (self.promised == self.slots.len()).then(|| (self.slots.len() * 2).max(LEAST))
    }

    /// Makes the table as large as `room`, which has the old memory afterwards. Does nothing if it is that large.
    pub fn grow(&mut self, room: &mut Room<T>) {
        let count = room.chains.len();
        if count <= self.slots.len() || room.slots.capacity() < count {
            return;
        }
        core::mem::swap(&mut self.slots, &mut room.slots);
        core::mem::swap(&mut self.chains, &mut room.chains);
        for slot in room.slots.drain(..) {
            self.slots.push_reserved(slot);
        }
        while self.slots.len() < count {
            let next = self.free;
            self.free = self.slots.len() as u32;
            self.slots.push_reserved(Slot { value: None, key: 0, serial: 0, prev: NONE, next });
        }
        // Equal keys were in one chain, in order, and so they are again.
        for chain in &room.chains {
            let mut at = chain.first;
            while let Some(slot) = self.slots.get(at as usize) {
                let next = slot.next;
                self.link(at);
                at = next;
            }
        }
    }

    /// Promises a slot; `false`: the table must grow first.
    pub fn promise(&mut self) -> bool {
        let fits = self.promised < self.slots.len();
        if fits {
            self.promised += 1;
        }
        fits
    }

    /// A promise is not needed any more.
    pub fn release(&mut self) {
        self.promised = self.promised.saturating_sub(1);
    }

    fn chain(&mut self, key: u64) -> Option<&mut Chain> {
        let hash = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        let mask = self.chains.len().wrapping_sub(1);
        self.chains.get_mut(hash & mask)
    }

    /// Puts a slot at the end of the chain of its key.
    fn link(&mut self, at: u32) {
        let Some(key) = self.slots.get(at as usize).map(|slot| slot.key) else { return };
        let Some(chain) = self.chain(key) else { return };
        let last = core::mem::replace(&mut chain.last, at);
        if last == NONE {
            chain.first = at;
        }
        if let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.prev, slot.next) = (last, NONE);
        }
        if let Some(last) = self.slots.get_mut(last as usize) {
            last.next = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slots.get(at as usize) else { return };
        let (key, prev, next) = (slot.key, slot.prev, slot.next);
        let Some(chain) = self.chain(key) else { return };
        if chain.first == at {
            chain.first = next;
        }
        if chain.last == at {
            chain.last = prev;
        }
        if let Some(prev) = self.slots.get_mut(prev as usize) {
            prev.next = next;
        }
        if let Some(next) = self.slots.get_mut(next as usize) {
            next.prev = prev;
        }
    }

    /// Puts a value in whose slot was promised; the slot. Without a promise it comes back.
    pub fn insert(&mut self, key: u64, value: T) -> core::result::Result<u32, T> {
        let at = self.free;
        let Some(slot) = self.slots.get_mut(at as usize) else { return Err(value) };
        self.serial += 1;
        self.free = slot.next;
        (slot.value, slot.key, slot.serial) = (Some(value), key, self.serial);
        self.used += 1;
        self.link(at);
        Ok(at)
    }

    /// Takes out what is in a slot.
    pub fn remove(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get_mut(at as usize)?;
        let value = slot.value.take()?;
        self.unlink(at);
        let free = core::mem::replace(&mut self.free, at);
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.next = free;
        }
        self.used -= 1;
        Some(value)
    }

    /// Changes the key of what is in a slot.
    pub fn rekey(&mut self, at: u32, key: u64) {
        if self.slots.get(at as usize).is_none_or(|slot| slot.value.is_none()) {
            return;
        }
        self.unlink(at);
        self.serial += 1;
        let serial = self.serial;
        if let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.key, slot.serial) = (key, serial);
        }
        self.link(at);
    }

    /// The first value with `key` that was put in after the one with the serial number `after` (0: at all), and its number.
    pub fn with_key(&mut self, key: u64, after: u64) -> Option<(u64, &T)> {
        let mut at = self.chain(key)?.first;
        while let Some(slot) = self.slots.get(at as usize) {
            if slot.key == key && slot.serial > after {
                break;
            }
            at = slot.next;
        }
        let slot = self.slots.get(at as usize)?;
        Some((slot.serial, slot.value.as_ref()?))
    }

    /// The first value in a slot from `from` on, and the number of the slot.
    pub fn next(&self, from: u32) -> Option<(u32, &T)> {
        let slots = self.slots.get(from as usize..)?;
        if self.used == 0 {
            return None;
        }
        let found = slots.iter().position(|slot| slot.value.is_some())?;
        Some((from + found as u32, slots.get(found)?.value.as_ref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    fn grow(table: &mut Table<u32>) {
        if let Some(count) = table.needs() {
            table.grow(&mut Room::new(count).unwrap());
        }
    }

    #[test]
    fn it_is_what_a_sorted_map_is() {
        let mut table = Table::new();
        assert!(!table.promise());
        assert_eq!(table.insert(1, 5), Err(5));
        let mut model: BTreeMap<(u64, u64), (u32, u32)> = BTreeMap::new();
        let mut random = 88_172_645_463_325_252_u64;
        let mut order = 0;
        for round in 0..if cfg!(miri) { 300 } else { 20_000 } {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = random % 7;
            match (random >> 20) % 4 {
                0 | 1 if model.len() < 200 => {
                    grow(&mut table);
                    assert!(table.promise());
                    order += 1;
                    let slot = table.insert(key, round).unwrap();
                    model.insert((key, order), (slot, round));
                }
                2 => {
                    let Some((&at, &(slot, value))) = model.range((key, 0)..).next() else { continue };
                    assert_eq!(table.remove(slot), Some(value));
                    table.release();
                    model.remove(&at);
                    assert_eq!(table.remove(slot), None);
                }
                _ => {
                    let Some((&at, &entry)) = model.range((key, 0)..).next() else { continue };
                    order += 1;
                    table.rekey(entry.0, key + 1);
                    model.remove(&at);
                    model.insert((key + 1, order), entry);
                }
            }
            let mut after = 0;
            let mut seen = Vec::new();
            while let Some((serial, value)) = table.with_key(key, after) {
                seen.push(*value);
                after = serial;
            }
            let expected: Vec<u32> =
                model.range((key, 0)..(key + 1, 0)).map(|(_, (_, value))| *value).collect();
            assert_eq!(seen, expected);
            let mut from = 0;
            let mut count = 0;
            while let Some((slot, _)) = table.next(from) {
                from = slot + 1;
                count += 1;
            }
            assert_eq!(count, model.len());
        }
    }
}
