//! Filters: programs that look at each packet before a socket gets it, and say how much of it to keep (`SO_ATTACH_FILTER`).
//!
//! The programs are classic BPF, checked and run by `cbpf`; here is what they see: the bytes of the packet, and facts about it under the
//! offsets `SKF_AD_*` of `linux/filter.h`. A packet of this machine alone has no device, no link layer and no protocol number: loads
//! that need one end the program, which drops the packet.
//!
//! Source: `socket(7)`, "Linux Socket Filtering aka Berkeley Packet Filter" of the kernel's user documentation.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use arch::sync::SpinLock;
use cbpf::{Data, Error, Insn, Program, Width};
use sync::RcuPtr;

/// A filter.
pub struct Filter {
    program: Program,
    /// As it was given, to be shown.
    insns: Vec<Insn>,
}

impl Filter {
    /// The filter of these instructions.
    ///
    /// # Errors
    /// `EINVAL`: they are no program; `ENOMEM`.
    pub fn new(insns: Vec<Insn>) -> Result<Self> {
        let program = Program::new(&insns, |_| true).map_err(|error| match error {
            Error::Invalid => Errno::EINVAL,
            Error::NoMemory => Errno::ENOMEM,
        })?;
        Ok(Self { program, insns })
    }

    /// Its instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// How many bytes of `packet` may come through; `None`: it is dropped.
    pub fn keep(&self, packet: &[u8]) -> Option<usize> {
        match self.program.run(&Packet(packet)) {
            None | Some(0) => None,
            Some(count) => Some(packet.len().min(count as usize)),
        }
    }
}

/// Where offsets from the network header begin (`SKF_NET_OFF`).
const NETWORK: u32 = 0xfff0_0000;

/// Facts about a packet: offsets from `SKF_AD_OFF`.
mod fact {
    pub const IFINDEX: u32 = 8;
    pub const NLATTR: u32 = 12;
    pub const NLATTR_NEST: u32 = 16;
    pub const HATYPE: u32 = 28;
    pub const CPU: u32 = 36;
    pub const ALU_XOR_X: u32 = 40;
    pub const RANDOM: u32 = 56;
}

struct Packet<'a>(&'a [u8]);

impl Data for Packet<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn load(&self, offset: u32, width: Width) -> Option<u32> {
        let at = match offset {
            // The network header is where the data begin.
            NETWORK.. => offset - NETWORK,
            0..0x8000_0000 => offset,
            _ => return None,
        };
        let rest = self.0.get(at as usize..)?;
        Some(match width {
            Width::Byte => u32::from(*rest.first()?),
            Width::Half => u32::from(u16::from_be_bytes(*rest.first_chunk()?)),
            Width::Word => u32::from_be_bytes(*rest.first_chunk()?),
        })
    }

    fn ancillary(&self, fact: u32, a: u32, x: u32) -> Option<u32> {
        match fact {
            fact::IFINDEX | fact::HATYPE => None,
            fact::NLATTR => Some(find_attribute(self.0, a, x)),
            fact::NLATTR_NEST => Some(find_nested(self.0, a, x)),
            fact::CPU => Some(arch::cpu::current().index() as u32),
            fact::ALU_XOR_X => Some(a ^ x),
            fact::RANDOM => Some(crate::host::random()),
            // Protocol, type, mark, queue, hash, VLAN, payload: there is none of it.
            _ => Some(0),
        }
    }
}

/// Bytes of the header of a netlink attribute: its length and its type (`struct nlattr`).
const ATTRIBUTE: usize = 4;

fn attribute(data: &[u8], at: usize) -> Option<(usize, u32)> {
    let header: [u8; ATTRIBUTE] = *data.get(at..)?.first_chunk()?;
    let [a, b, c, d] = header;
    Some((u16::from_ne_bytes([a, b]).into(), u32::from(u16::from_ne_bytes([c, d]) & 0x3fff)))
}

/// The offset of the first attribute of type `kind` in `data` from `from` on; 0 for none.
fn find_attribute(data: &[u8], from: u32, kind: u32) -> u32 {
    let mut at = from as usize;
    while let Some((len, found)) = attribute(data, at) {
        if len < ATTRIBUTE || len > data.len() - at {
            break;
        }
        if found == kind {
            return at as u32;
        }
        at += len.next_multiple_of(ATTRIBUTE);
    }
    0
}

/// The same in the attribute at `outer`.
fn find_nested(data: &[u8], outer: u32, kind: u32) -> u32 {
    let inside = attribute(data, outer as usize).and_then(|(len, _)| data.get(..outer as usize + len));
    inside.map_or(0, |inside| find_attribute(inside, outer.saturating_add(ATTRIBUTE as u32), kind))
}

/// Where a socket has its filter.
#[derive(Default)]
pub struct FilterSlot {
    filter: RcuPtr<Filter>,
    /// `SO_LOCK_FILTER`; held while the filter is changed.
    locked: SpinLock<bool>,
}

impl FilterSlot {
    /// An empty slot.
    pub const fn new() -> Self {
        Self { filter: RcuPtr::empty(), locked: SpinLock::new(false) }
    }

    /// Whether the filter may be changed.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn check(&self) -> Result<()> {
        if *self.locked.lock() { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Attaches `filter` in place of what there was.
    ///
    /// # Errors
    /// `EPERM`: locked.
    pub fn attach(&self, filter: Arc<Filter>) -> Result<()> {
        self.change(Some(filter))
    }

    /// Detaches the filter.
    ///
    /// # Errors
    /// `EPERM`: locked; `ENOENT`: there is none.
    pub fn detach(&self) -> Result<()> {
        self.change(None)
    }

    fn change(&self, filter: Option<Arc<Filter>>) -> Result<()> {
        let old = {
            let locked = self.locked.lock();
            if *locked {
                return Err(Errno::EPERM);
            }
            if filter.is_none() && self.filter.is_none() {
                return Err(Errno::ENOENT);
            }
            self.filter.replace(filter)
        };
        drop(old);
        Ok(())
    }

    /// `SO_LOCK_FILTER`: for ever.
    ///
    /// # Errors
    /// `EPERM`: it cannot be unlocked.
    pub fn lock(&self, on: bool) -> Result<()> {
        let mut locked = self.locked.lock();
        if *locked && !on {
            return Err(Errno::EPERM);
        }
        *locked = on;
        Ok(())
    }

    /// Whether it is locked.
    pub fn is_locked(&self) -> bool {
        *self.locked.lock()
    }

    /// The filter.
    pub fn get(&self) -> Option<Arc<Filter>> {
        self.filter.load_arc(&sched::rcu::read_lock())
    }

    /// Asks the filter, if there is one, how many bytes of `packet` may come through; `None`: it is dropped.
    #[inline]
    pub fn keep(&self, packet: &[u8]) -> Option<usize> {
        if self.filter.is_none() {
            return Some(packet.len());
        }
        // With a reference, and preemptible: programs may look through a long packet very often.
        self.get().map_or(Some(packet.len()), |filter| filter.keep(packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_hostile_ones_end_the_search() {
        let attributes =
            |words: &[u16]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let list = attributes(&[6, 1, 9, 0, 8, 0x8002, 0, 0]);
        assert_eq!(find_attribute(&list, 0, 1), 0);
        assert_eq!(find_attribute(&list, 0, 2), 8);
        assert_eq!(find_attribute(&list, 8, 1), 0);
        for from in [13, 16, 17, u32::MAX] {
            assert_eq!(find_attribute(&list, from, 2), 0);
            assert_eq!(find_nested(&list, from, 2), 0);
        }
        for len in [0, 3, 17, u16::MAX] {
            assert_eq!(find_attribute(&attributes(&[len, 1, 0, 0, 8, 2, 0, 0]), 0, 2), 0);
        }
        let nested = attributes(&[12, 1, 8, 2, 0, 0, 8, 3, 0, 0]);
        assert_eq!((find_nested(&nested, 0, 2), find_nested(&nested, 0, 3)), (4, 0));
    }

    #[test]
    fn loads_outside_end_the_program() {
        let packet = Packet(&[1, 2, 3, 4, 5]);
        assert_eq!(packet.load(1, Width::Word), Some(0x0203_0405));
        assert_eq!(packet.load(2, Width::Word), None);
        assert_eq!(packet.load(NETWORK + 3, Width::Half), Some(0x0405));
        assert_eq!(packet.load(NETWORK - 1, Width::Byte), None);
        assert_eq!(packet.load(0x8000_0000, Width::Byte), None);
        assert_eq!(packet.load(u32::MAX, Width::Byte), None);
    }
}
