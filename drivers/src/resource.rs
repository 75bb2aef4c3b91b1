//! Who uses which addresses: the trees of `/proc/iomem` and `/proc/ioports`.
//!
//! A list of named ranges per address space. A range may lie inside another (a device in its bus, the kernel in memory);
//! that is all there is to the tree, which is made when it is shown. Claims are exclusive by convention of drivers, not
//! enforced: one device may have two names.
//!
//! Lock: one spin lock per list, a leaf.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::fallible::{TryVec, try_to_vec};

#[derive(Clone)]
struct Range {
    start: u64,
    last: u64,
    name: String,
}

/// The users of one address space.
pub struct Resources {
    ranges: SpinLock<Vec<Range>>,
    /// Hexadecimal digits that an address is shown with at least.
    digits: usize,
}

/// Physical memory: RAM and device registers.
pub static MEMORY: Resources = Resources { ranges: SpinLock::new(Vec::new()), digits: 8 };
/// I/O ports.
pub static PORTS: Resources = Resources { ranges: SpinLock::new(Vec::new()), digits: 4 };

/// Whether a reader may see addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Show {
    /// Names only: addresses are zeros.
    Names,
    /// Everything.
    Addresses,
}

impl Resources {
    /// Notes that `name` uses the addresses from `start` to `last`.
    ///
    /// # Errors
    /// `EINVAL` for a range that ends before it starts; `EBUSY` if it begins inside another range and ends outside of it;
    /// `ENOMEM`.
    pub fn claim(&self, start: u64, last: u64, name: impl Into<String>) -> Result<()> {
        if last < start {
            return Err(Errno::EINVAL);
        }
        let name = name.into();
        let mut ranges = self.ranges.lock();
        let crosses = |other: &Range| {
            let (first, second) = if (start, Reverse(last)) <= (other.start, Reverse(other.last)) {
                (last, (other.start, other.last))
            } else {
                (other.last, (start, last))
            };
            second.0 <= first && first < second.1
        };
        if ranges.iter().any(crosses) {
            return Err(Errno::EBUSY);
        }
        let key = (start, Reverse(last));
        // Behind its equals: what is claimed later lies inside.
        let at = ranges.partition_point(|range| (range.start, Reverse(range.last)) <= key);
        ranges.try_insert(at, Range { start, last, name })?;
        Ok(())
    }

    /// Gives addresses back.
    pub fn release(&self, start: u64, last: u64) {
        let mut gone = None;
        let mut ranges = self.ranges.lock();
        if let Some(at) = ranges.iter().rposition(|range| range.start == start && range.last == last) {
            gone = Some(ranges.remove(at));
        }
        drop(ranges);
        drop(gone);
    }

    /// The tree as text.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn show(&self, out: &mut dyn fmt::Write, show: Show) -> fmt::Result {
        let ranges = try_to_vec(&self.ranges.lock()).map_err(|_| fmt::Error)?;
        let mut open: Vec<u64> = Vec::new();
        for range in ranges {
            while open.last().is_some_and(|last| *last < range.start) {
                open.pop();
            }
            let (start, last) = if show == Show::Addresses { (range.start, range.last) } else { (0, 0) };
            let (indent, digits) = (2 * open.len(), self.digits);
            writeln!(out, "{:indent$}{start:0digits$x}-{last:0digits$x} : {}", "", range.name)?;
            open.try_push(range.last).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(resources: &Resources, show: Show) -> String {
        let mut text = String::new();
        resources.show(&mut text, show).unwrap();
        text
    }

    #[test]
    fn ranges_nest_by_what_they_contain() {
        let list = Resources { ranges: SpinLock::new(Vec::new()), digits: 4 };
        list.claim(0x100, 0x1ff, "bus").unwrap();
        list.claim(0x110, 0x11f, "device").unwrap();
        list.claim(0x110, 0x11f, "driver").unwrap();
        list.claim(0x180, 0x180, "other").unwrap();
        list.claim(0x0, 0xff, "first").unwrap();
        list.claim(0x10000, 0x10000, "far").unwrap();
        let whole = "0000-00ff : first\n0100-01ff : bus\n  0110-011f : device\n    0110-011f : driver\n  \
                     0180-0180 : other\n10000-10000 : far\n";
        assert_eq!(text(&list, Show::Addresses), whole);
        assert!(
            text(&list, Show::Names)
                .starts_with("0000-0000 : first\n0000-0000 : bus\n  0000-0000 : device\n")
        );
        list.release(0x100, 0x1ff);
        assert!(text(&list, Show::Addresses).contains("\n0110-011f : device\n  0110-011f : driver\n"));
    }

    #[test]
    fn ranges_do_not_cross() {
        let list = Resources { ranges: SpinLock::new(Vec::new()), digits: 4 };
        list.claim(10, 20, "a").unwrap();
        for (start, last) in [(5, 10), (5, 15), (15, 25), (20, 21), (9, 19)] {
            assert_eq!(list.claim(start, last, "b"), Err(Errno::EBUSY), "{start} {last}");
        }
        assert_eq!(list.claim(5, 4, "b"), Err(Errno::EINVAL));
        for (start, last) in [(10, 20), (10, 15), (16, 20), (5, 25), (26, 30), (0, 4)] {
            list.claim(start, last, "c").unwrap();
        }
    }
}
