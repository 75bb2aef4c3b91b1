//! Rulesets: what they handle and the rules they have, behind a descriptor.

use super::{Handled, MAX_LAYERS};
use crate::process::current;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLock;
use mm::IovIter;
use mm::fallible::{TryVec, try_arc};
use vfs::file::{File, FileImpl, FileMode};
use vfs::file_ops::{FileOps, IoFlags};
use vfs::inode::Inode;
use vfs::security::Rights;

/// A rule about what lies at or below an inode.
#[derive(Clone, Debug)]
pub struct PathRule {
    /// The inode, which the rule keeps.
    pub inode: Arc<Inode>,
    /// What it gives, by layer. A ruleset has one.
    pub given: [Rights; MAX_LAYERS],
}

/// A rule about a TCP port.
#[derive(Clone, Copy, Debug)]
pub struct PortRule {
    /// In host byte order.
    pub port: u16,
    /// What it gives, by layer.
    pub given: [u16; MAX_LAYERS],
}

/// Rules, each kind sorted by its key.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    paths: Vec<PathRule>,
    ports: Vec<PortRule>,
}

fn key(inode: &Arc<Inode>) -> usize {
    Arc::as_ptr(inode).addr()
}

impl Rules {
    /// A copy that can fail.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate(&self) -> Result<Self> {
        let mut copy = Self::default();
        copy.paths.try_reserve_exact(self.paths.len()).map_err(|_| Errno::ENOMEM)?;
        copy.paths.extend(self.paths.iter().cloned());
        copy.ports.try_reserve_exact(self.ports.len()).map_err(|_| Errno::ENOMEM)?;
        copy.ports.extend(self.ports.iter().copied());
        Ok(copy)
    }

    /// What the rule about `inode` gives.
    pub fn path(&self, inode: &Arc<Inode>) -> Option<&[Rights; MAX_LAYERS]> {
        let index = self.paths.binary_search_by_key(&key(inode), |rule| key(&rule.inode)).ok()?;
        self.paths.get(index).map(|rule| &rule.given)
    }

    /// What the rule about `port` gives.
    pub fn port(&self, port: u16) -> Option<&[u16; MAX_LAYERS]> {
        let index = self.ports.binary_search_by_key(&port, |rule| rule.port).ok()?;
        self.ports.get(index).map(|rule| &rule.given)
    }

    fn add_path(&mut self, inode: &Arc<Inode>, layer: usize, rights: Rights) -> Result<()> {
        let index = match self.paths.binary_search_by_key(&key(inode), |rule| key(&rule.inode)) {
            Ok(index) => index,
            Err(index) => {
                let given = [Rights::empty(); MAX_LAYERS];
                self.paths.try_insert(index, PathRule { inode: inode.clone(), given })?;
                index
            }
        };
        if let Some(given) = self.paths.get_mut(index).and_then(|rule| rule.given.get_mut(layer)) {
            *given |= rights;
        }
        Ok(())
    }

    fn add_port(&mut self, port: u16, layer: usize, rights: u16) -> Result<()> {
        let index = match self.ports.binary_search_by_key(&port, |rule| rule.port) {
            Ok(index) => index,
            Err(index) => {
                self.ports.try_insert(index, PortRule { port, given: [0; MAX_LAYERS] })?;
                index
            }
        };
        if let Some(given) = self.ports.get_mut(index).and_then(|rule| rule.given.get_mut(layer)) {
            *given |= rights;
        }
        Ok(())
    }

    /// Adds the rules of a ruleset, which has one layer, as layer `layer`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn merge(&mut self, ruleset: &Self, layer: usize) -> Result<()> {
        for rule in &ruleset.paths {
            self.add_path(&rule.inode, layer, rule.given[0])?;
        }
        for rule in &ruleset.ports {
            self.add_port(rule.port, layer, rule.given[0])?;
        }
        Ok(())
    }
}

/// A ruleset in the making.
pub struct Ruleset {
    /// What it handles.
    pub handled: Handled,
    rules: SpinLock<Rules>,
}

impl Ruleset {
    /// One without rules.
    pub fn new(handled: Handled) -> Self {
        Self { handled, rules: SpinLock::new(Rules::default()) }
    }

    /// Gives `rights` at and below `inode`. What the ruleset does not handle is given everywhere.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add_path(&self, inode: &Arc<Inode>, rights: Rights) -> Result<()> {
        self.rules.lock().add_path(inode, 0, rights)
    }

    /// Gives `rights` for `port`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add_port(&self, port: u16, rights: u16) -> Result<()> {
        self.rules.lock().add_port(port, 0, rights)
    }

    /// The rules as they are now.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn rules(&self) -> Result<Rules> {
        self.rules.lock().duplicate()
    }
}

/// The object behind the descriptor.
struct RulesetFile(Arc<Ruleset>);

impl FileOps for RulesetFile {
    fn read_iter(&self, _: &File, _: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn can_poll(&self, _: &File) -> bool {
        false
    }
}

/// A file for a new ruleset.
///
/// # Errors
/// `ENFILE`, `ENOMEM`.
pub fn file(ruleset: Ruleset) -> Result<Arc<File>> {
    let object = try_arc(RulesetFile(try_arc(ruleset)?))?;
    vfs::anon::anon_file(&current().cred(), "[landlock-ruleset]", FileImpl::Shared(object), raw::O_RDWR)
}

/// Whether the file is a ruleset's.
pub fn is_ruleset(file: &File) -> bool {
    file.private::<RulesetFile>().is_some()
}

/// The ruleset of a file that is open for `mode`.
///
/// # Errors
/// `EBADFD`: another kind of file. `EPERM`: not open like that.
pub fn of(file: &File, mode: FileMode) -> Result<Arc<Ruleset>> {
    let object = file.private::<RulesetFile>().ok_or(Errno::EBADFD)?;
    if file.mode().contains(mode) { Ok(object.0.clone()) } else { Err(Errno::EPERM) }
}
