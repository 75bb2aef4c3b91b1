//! Domains: what rulesets make of a thread, and how far it reaches.

use super::ruleset::{Rules, Ruleset};
use super::{Handled, MAX_LAYERS, SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL};
use abi::{Errno, Result};
use alloc::sync::Arc;
use vfs::security::{Reach, Rights};

/// The restrictions of a thread. Immutable.
#[derive(Debug)]
pub struct Domain {
    /// The domain that was restricted further. Domains form a tree: each thread has a path in it.
    parent: Option<Arc<Domain>>,
    /// Layers, this one included.
    depth: usize,
    handled: [Handled; MAX_LAYERS],
    rules: Rules,
}

impl Domain {
    /// `parent` (or no restriction) under one more ruleset.
    ///
    /// # Errors
    /// `E2BIG`: too many layers; `ENOMEM`.
    pub fn new(parent: Option<Arc<Self>>, ruleset: &Ruleset) -> Result<Self> {
        let layer = parent.as_ref().map_or(0, |p| p.depth);
        let mut handled = parent.as_ref().map_or([Handled::default(); MAX_LAYERS], |p| p.handled);
        *handled.get_mut(layer).ok_or(Errno::E2BIG)? = ruleset.handled;
        let mut rules = parent.as_ref().map_or_else(|| Ok(Rules::default()), |p| p.rules.duplicate())?;
        rules.merge(&ruleset.rules()?, layer)?;
        Ok(Self { parent, depth: layer + 1, handled, rules })
    }

    /// What each layer handles.
    pub fn layers(&self) -> impl Iterator<Item = &Handled> {
        self.handled.iter().take(self.depth)
    }

    /// The rules of all layers.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What each layer handles about files. Moving to another directory is denied by every layer that does not say
    /// otherwise.
    pub fn files(&self) -> impl Iterator<Item = Rights> {
        self.layers().map(|layer| layer.files | Rights::REFER)
    }

    /// Whether any layer handles anything about files.
    pub fn has_files(&self) -> bool {
        self.layers().any(|layer| !layer.files.is_empty())
    }

    /// Whether the domain allows `rights` (`LANDLOCK_ACCESS_NET_*`) for TCP `port`.
    pub fn allows_port(&self, port: u16, rights: u16) -> bool {
        let given = self.rules.port(port);
        self.layers().enumerate().all(|(layer, handled)| {
            let given = given.and_then(|given| given.get(layer)).copied().unwrap_or(0);
            rights & handled.net & !given == 0
        })
    }

    /// The domain at `depth` on the path to this one.
    fn at(&self, depth: usize) -> Option<&Self> {
        let mut at = Some(self);
        while let Some(domain) = at {
            if domain.depth == depth {
                break;
            }
            at = domain.parent.as_deref();
        }
        at
    }

    /// Whether this domain is `other` or one that `other` was made from.
    fn is_above(&self, other: Option<&Self>) -> bool {
        other.and_then(|other| other.at(self.depth)).is_some_and(|found| core::ptr::eq(found, self))
    }

    /// Whether a layer with `scope` keeps this domain from acting on `other`: the one who asked for the scope reaches only
    /// its own domain and those made from it.
    fn is_scoped(&self, other: Option<&Self>, scope: u8) -> bool {
        // The innermost layer that has the scope decides: it includes what the outer ones leave.
        let innermost = self.layers().enumerate().filter(|(_, layer)| layer.scoped & scope != 0).last();
        let Some((layer, _)) = innermost else { return false };
        self.at(layer + 1).is_some_and(|scoped| !scoped.is_above(other))
    }

    /// Whether threads here may act on those of `other`.
    pub fn reaches(&self, other: Option<&Self>, how: Reach) -> bool {
        match how {
            Reach::AbstractSocket => !self.is_scoped(other, SCOPE_ABSTRACT_UNIX_SOCKET),
            Reach::Signal => !self.is_scoped(other, SCOPE_SIGNAL),
            Reach::Inspect => self.is_above(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(parent: Option<&Arc<Domain>>, scoped: u8, net: u16) -> Arc<Domain> {
        let ruleset = Ruleset::new(Handled { scoped, net, ..Handled::default() });
        ruleset.add_port(80, net).unwrap();
        Arc::new(Domain::new(parent.cloned(), &ruleset).unwrap())
    }

    #[test]
    fn scopes_end_at_who_asked_for_them() {
        let outer = under(None, 0, 1);
        let scoped = under(Some(&outer), SCOPE_SIGNAL, 0);
        let inner = under(Some(&scoped), 0, 1);
        let sibling = under(Some(&outer), SCOPE_SIGNAL, 0);
        let reaches = |a: &Arc<Domain>, b: Option<&Arc<Domain>>| a.reaches(b.map(|b| &**b), Reach::Signal);
        assert!(reaches(&outer, None) && reaches(&outer, Some(&inner)));
        assert!(reaches(&scoped, Some(&scoped)) && reaches(&scoped, Some(&inner)));
        assert!(reaches(&inner, Some(&scoped)));
        assert!(!reaches(&inner, Some(&outer)) && !reaches(&inner, None));
        assert!(!reaches(&scoped, Some(&sibling)));
        assert!(inner.reaches(None, Reach::AbstractSocket));
    }

    #[test]
    fn only_ancestors_inspect() {
        let outer = under(None, 0, 1);
        let inner = under(Some(&outer), 0, 1);
        assert!(outer.reaches(Some(&inner), Reach::Inspect) && inner.reaches(Some(&inner), Reach::Inspect));
        assert!(!inner.reaches(Some(&outer), Reach::Inspect) && !outer.reaches(None, Reach::Inspect));
    }

    #[test]
    fn ports_and_layers() {
        let one = under(None, 0, 1);
        assert!(one.allows_port(80, 1) && !one.allows_port(81, 1) && one.allows_port(81, 2));
        let mut domain = one;
        for _ in 1..MAX_LAYERS {
            domain = under(Some(&domain), 0, 1);
        }
        assert!(domain.allows_port(80, 1));
        let ruleset = Ruleset::new(Handled { net: 1, ..Handled::default() });
        assert_eq!(Domain::new(Some(domain), &ruleset).err(), Some(Errno::E2BIG));
    }
}
