//! Which layers still deny which rights.
//!
//! A check begins with every layer denying what it handles of the request, and meets rules on the way up; each takes the
//! rights it gives out of its layers. What nobody denies at the end is granted.

use super::MAX_LAYERS;
use vfs::security::Rights;

/// Bits of [`Rights`].
const RIGHTS: usize = 16;

/// What one rule gives, by layer.
pub type Given = [Rights; MAX_LAYERS];

/// For each right, a bit per layer that denies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied([u16; RIGHTS]);

/// The bit numbers of `rights`.
fn bits(rights: Rights) -> impl Iterator<Item = usize> {
    let mut left = rights.bits();
    core::iter::from_fn(move || {
        let bit = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (bit < RIGHTS).then_some(bit)
    })
}

impl Denied {
    /// What layers that handle `handled` deny of `request`.
    pub fn new(handled: impl Iterator<Item = Rights>, request: Rights) -> Self {
        let mut denied = [0; RIGHTS];
        for (layer, handled) in handled.enumerate() {
            for bit in bits(handled & request) {
                if let Some(layers) = denied.get_mut(bit) {
                    *layers |= 1 << layer;
                }
            }
        }
        Self(denied)
    }

    /// Applies a rule to `rights`; whether nothing of them is denied any more.
    pub fn give(&mut self, given: Option<&Given>, rights: Rights) -> bool {
        if let Some(given) = given {
            for (layer, given) in given.iter().enumerate() {
                for bit in bits(*given & rights) {
                    if let Some(layers) = self.0.get_mut(bit) {
                        *layers &= !(1 << layer);
                    }
                }
            }
        }
        !self.any(rights)
    }

    /// The rights that some layer denies.
    pub fn rights(&self) -> Rights {
        let mut rights = 0;
        for (bit, layers) in self.0.iter().enumerate() {
            rights |= u16::from(*layers != 0) << bit;
        }
        Rights::from_bits_retain(rights)
    }

    /// Whether any of `rights` is denied.
    pub fn any(&self, rights: Rights) -> bool {
        self.rights().intersects(rights)
    }

    /// Forgets what was not asked for; whether nothing is left.
    pub fn narrow(&mut self, rights: Rights) -> bool {
        for (bit, layers) in self.0.iter_mut().enumerate() {
            if rights.bits() >> bit & 1 == 0 {
                *layers = 0;
            }
        }
        self.rights().is_empty()
    }

    fn layers(&self, bit: usize) -> u16 {
        self.0.get(bit).copied().unwrap_or(0)
    }
}

/// An object that moves, with what its own rules leave denied.
#[derive(Clone, Copy)]
pub struct Moved {
    /// What is denied by the rules on the object itself.
    pub denied: Denied,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Whether `object` is at least as restricted below `to` as it was below `from`: what is denied to it at both its old place
/// and by itself must be denied at the new one, layer by layer.
pub fn stays_restricted(object: &Moved, from: &Denied, to: &Denied) -> bool {
    (0..RIGHTS).all(|bit| {
        let concerns = object.is_dir || Rights::FILE.bits() >> bit & 1 != 0;
        let before = from.layers(bit) & object.denied.layers(bit);
        !concerns || before & !to.layers(bit) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: Rights = Rights::READ_FILE;
    const W: Rights = Rights::WRITE_FILE;

    fn given(layers: &[Rights]) -> Given {
        let mut all = [Rights::empty(); MAX_LAYERS];
        all[..layers.len()].copy_from_slice(layers);
        all
    }

    #[test]
    fn every_layer_must_give() {
        let mut denied = Denied::new([R | W, R].into_iter(), R | W);
        assert_eq!(denied.rights(), R | W);
        assert!(!denied.give(Some(&given(&[R])), R | W));
        assert!(denied.any(R));
        assert!(!denied.give(Some(&given(&[Rights::empty(), R])), R | W));
        assert_eq!(denied.rights(), W);
        assert!(denied.give(None, R));
        assert!(denied.give(Some(&given(&[W])), R | W));
        // What a layer does not handle it does not deny.
        assert_eq!(Denied::new([R].into_iter(), W).rights(), Rights::empty());
    }

    #[test]
    fn moves_must_not_gain() {
        let all = Denied::new([R | W].into_iter(), R | W);
        let mut less = all;
        less.give(Some(&given(&[W])), W);
        let file = Moved { denied: all, is_dir: false };
        // To where more is denied: fine. The other way round: not.
        assert!(stays_restricted(&file, &less, &all));
        assert!(!stays_restricted(&file, &all, &less));
        // A file that has the right by a rule of its own gains nothing.
        assert!(stays_restricted(&Moved { denied: less, is_dir: false }, &all, &less));
        // Rights about directories do not matter for files.
        let dirs = Denied::new([Rights::MAKE_REG].into_iter(), Rights::all());
        let free = Denied::new([].into_iter(), Rights::all());
        assert!(stays_restricted(&Moved { denied: dirs, is_dir: false }, &dirs, &free));
        assert!(!stays_restricted(&Moved { denied: dirs, is_dir: true }, &dirs, &free));
    }

    #[test]
    fn narrowing() {
        let mut denied = Denied::new([R | W].into_iter(), R | W);
        assert!(!denied.narrow(R));
        assert_eq!(denied.rights(), R);
        assert!(denied.narrow(W));
    }
}
