//! Names and numbers of SCSI and ATA disks: `sda`, `sdb` …, whoever drives them
//! (`Documentation/admin-guide/devices.txt`, majors 8, 65–71 and 128–135).

use alloc::string::String;
use alloc::vec::Vec;

use abi::{Errno, Result};
use arch::sync::SpinLock;
use block::disk::{Numbers, letters};
use mm::fallible::TryVec;

/// Minor numbers of a disk: itself and 15 partitions.
const MINORS: u32 = 16;
/// Disks of a major number.
const PER_MAJOR: u32 = 16;

static USED: SpinLock<Vec<bool>> = SpinLock::new(Vec::new());

/// The place of a disk among all; free again when this is dropped.
#[derive(Debug)]
pub struct Index(u32);

impl Index {
    /// The first that is free.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let mut used = USED.lock();
        let index = match used.iter().position(|used| !used) {
            Some(index) => index,
            None => {
                used.try_push(false)?;
                used.len() - 1
            }
        };
        if let Some(place) = used.get_mut(index) {
            *place = true;
        }
        Ok(Self(u32::try_from(index).map_err(|_| Errno::ENOMEM)?))
    }

    /// The disk's name.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn name(&self) -> Result<String> {
        letters("sd", self.0)
    }

    /// Its numbers; beyond 256 disks any.
    pub fn numbers(&self) -> Numbers {
        let major = match self.0 / PER_MAJOR {
            0 => 8,
            block @ 1..=7 => 64 + block,
            block @ 8..=15 => 120 + block,
            _ => return Numbers::Extended,
        };
        Numbers::Own { major, first: self.0 % PER_MAJOR * MINORS, count: MINORS }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if let Some(place) = USED.lock().get_mut(self.0 as usize) {
            *place = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_list_of_devices() {
        let of = |index| {
            let index = core::mem::ManuallyDrop::new(Index(index));
            (index.name().unwrap(), index.numbers())
        };
        let own = |major, first| Numbers::Own { major, first, count: 16 };
        assert_eq!(of(0), ("sda".into(), own(8, 0)));
        assert_eq!(of(15), ("sdp".into(), own(8, 240)));
        assert_eq!(of(16), ("sdq".into(), own(65, 0)));
        assert_eq!(of(127), ("sddx".into(), own(71, 240)));
        assert_eq!(of(128), ("sddy".into(), own(128, 0)));
        assert_eq!(of(255), ("sdiv".into(), own(135, 240)));
        assert_eq!(of(256), ("sdiw".into(), Numbers::Extended));
    }

    #[test]
    fn what_is_given_back_comes_again() {
        let (first, second) = (Index::new().unwrap(), Index::new().unwrap());
        assert_ne!(first.0, second.0);
        let free = first.0;
        drop(first);
        assert_eq!(Index::new().unwrap().0, free);
    }
}
