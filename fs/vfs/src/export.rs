//! File handles: `open_by_handle_at(2)`. A handle names an inode of a file system for as long as the inode exists, whatever
//! happens to its names.
//!
//! A file system that can find its inodes again has [`ExportOps`] ([`crate::super_block::SuperOps::export`]); one without can
//! still say who an inode is ([`FidUse::Identity`]: what fanotify reports), but not take that back.
//!
//! [`AliasTable`] is the whole of it for file systems that live in memory: it remembers weakly which dentry a handle was made
//! from. Such a dentry stays in the dentry cache until its name goes ([`DentryFlags::EXPORTED`]), so it is found again.
//!
//! Locks: [`EVICTION`] decides between a handle that is being opened and the end of an inode without names; the table's lock is
//! a leaf. Both are short spin locks.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{Ordering, fence};

use abi::cap::Cap;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::fallible::{SortedMap, TryVec, try_with_capacity};

use crate::dentry::{Dentry, DentryFlags};
use crate::inode::{Inode, InodeFlags};
use crate::mount::tree;
use crate::namei::{At, LookupFlags, path_lookup};
use crate::path::{LookupContext, Path};
use crate::super_block::SuperBlock;
use crate::types::Ino;

/// The longest identification, in bytes (`MAX_HANDLE_SZ`).
pub const MAX_HANDLE_SZ: usize = 128;
/// Words of the longest identification that a file system here makes.
const WORDS: usize = 4;
/// `FILEID_INO32_GEN`, the type that memory file systems use.
pub const FILEID_INO32_GEN: i32 = 1;
/// `FILEID_INO64_GEN`: of file systems that cannot decode.
const FILEID_INO64_GEN: i32 = 0x81;

/// What identifies an inode within its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fid {
    /// `handle_type`.
    pub kind: i32,
    len: usize,
    words: [u32; WORDS],
}

impl Fid {
    /// An identification of type `kind`.
    pub fn new<const N: usize>(kind: i32, from: [u32; N]) -> Self {
        const { assert!(N <= WORDS) }
        let mut words = [0; WORDS];
        for (slot, word) in words.iter_mut().zip(from) {
            *slot = word;
        }
        Self { kind, len: N, words }
    }

    /// `f_handle`.
    pub fn words(&self) -> &[u32] {
        self.words.get(..self.len).unwrap_or_default()
    }

    /// `handle_bytes`.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<u32>()
    }
}

/// What a handle is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FidUse {
    /// To be opened later.
    Decode,
    /// To be compared only (`AT_HANDLE_FID`).
    Identity,
}

/// How a file system makes handles and finds what they mean.
pub trait ExportOps: Send + Sync {
    /// The identification of `inode`; `alias` is a dentry of it, if there is one at hand.
    ///
    /// # Errors
    /// `ENOMEM`: the inode would not be found again. Not without an alias.
    fn encode(&self, inode: &Inode, alias: Option<&Arc<Dentry>>) -> Result<Fid>;

    /// The inode that `words` identify, as a dentry; `None` if there is no such inode any more.
    fn decode(&self, sb: &Arc<SuperBlock>, kind: i32, words: &[u32]) -> Option<Arc<Dentry>>;
}

/// Whether handles of `sb` can be made for a use.
///
/// # Errors
/// `EOPNOTSUPP`.
pub fn may_encode(sb: &SuperBlock, purpose: FidUse) -> Result<()> {
    match purpose {
        FidUse::Decode if sb.ops().export().is_none() => Err(Errno::EOPNOTSUPP),
        _ => Ok(()),
    }
}

/// The identification of `inode`; `alias` is a dentry of it, if there is one at hand.
///
/// # Errors
/// `ENOMEM`; not without an alias.
pub fn encode(inode: &Inode, alias: Option<&Arc<Dentry>>) -> Result<Fid> {
    match inode.sb().ops().export() {
        Some(ops) => ops.encode(inode, alias),
        None => {
            let generation = inode.generation.load(Ordering::Relaxed);
            Ok(Fid::new(FILEID_INO64_GEN, [inode.ino() as u32, (inode.ino() >> 32) as u32, generation]))
        }
    }
}

/// Who decodes a handle, if not somebody with `CAP_DAC_READ_SEARCH` over everything.
enum Bounds {
    None,
    /// Only directories whose ids the caller's user namespace knows; `true`: below the directory given only.
    Directories(bool),
}

/// What the caller may reach through `root` with the open flags `flags`.
fn bounds(ctx: &LookupContext<'_>, root: &Path, flags: u32) -> Result<Bounds> {
    if ctx.cred.capable(Cap::DacReadSearch) {
        return Ok(Bounds::None);
    }
    // Who could mount the file system, or bind the directory, would get there anyway.
    if flags & raw::O_DIRECTORY == 0 || !ctx.cred.ns_capable(&ctx.cred.user_ns, Cap::DacReadSearch) {
        return Err(Errno::EPERM);
    }
    if ctx.cred.ns_capable(root.mnt.sb().user_ns(), Cap::SysAdmin) {
        return Ok(Bounds::Directories(false));
    }
    match root.mnt.namespace() {
        Some(ns)
            if ctx.cred.ns_capable(ns.user_ns(), Cap::SysAdmin)
                && !tree::has_locked_children(&root.mnt, &root.dentry) =>
        {
            Ok(Bounds::Directories(true))
        }
        _ => Err(Errno::EPERM),
    }
}

/// Whether the caller may decode handles with `root` at all.
///
/// # Errors
/// `EPERM`.
pub fn may_decode(ctx: &LookupContext<'_>, root: &Path, flags: u32) -> Result<()> {
    bounds(ctx, root, flags).map(drop)
}

/// What a handle means in the file system of `root`, seen through its mount.
///
/// # Errors
/// `ESTALE`: nothing (any more), or nothing that the caller may reach; `EPERM`.
pub fn decode(ctx: &LookupContext<'_>, root: &Path, flags: u32, kind: i32, words: &[u32]) -> Result<Path> {
    let bounds = bounds(ctx, root, flags)?;
    let sb = root.mnt.sb();
    let ops = sb.ops().export().ok_or(Errno::ESTALE)?;
    let dentry = ops.decode(sb, kind, words).ok_or(Errno::ESTALE)?;
    if let Bounds::Directories(below) = bounds {
        let inode = dentry.inode().ok_or(Errno::ESTALE)?;
        let known = ctx.cred.user_ns.has_mapping(inode.uid().0, inode.gid().0);
        if !inode.is_dir() || !known || below && !dentry.is_below(&root.dentry) {
            return Err(Errno::ESTALE);
        }
    }
    Ok(Path::new(root.mnt.clone(), dentry))
}

/// The place whose handle `name_to_handle_at(2)` makes.
pub fn lookup(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], flags: u32) -> Result<Path> {
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & raw::AT_SYMLINK_FOLLOW != 0);
    lookup.set(LookupFlags::EMPTY, flags & raw::AT_EMPTY_PATH != 0);
    path_lookup(ctx, at, name, lookup)
}

/// Decides between opening by handle and eviction; see the module text.
static EVICTION: SpinLock<()> = SpinLock::new(());

/// Marks `inode` as evicted if `unused` still says so; `false` if it is in use, or was evicted before.
pub(crate) fn claim_eviction(inode: &Inode, unused: impl FnOnce() -> bool) -> bool {
    if !inode.flags().contains(InodeFlags::EXPORTED) {
        return unused() && inode.claim_eviction();
    }
    let _decided = EVICTION.lock();
    unused() && inode.claim_eviction()
}

/// A reference to an inode that may be on its way out; none if it is.
pub(crate) fn revive(inode: &Weak<Inode>) -> Option<Arc<Inode>> {
    let (inode, alive) = {
        let _decided = EVICTION.lock();
        let inode = inode.upgrade()?;
        fence(Ordering::SeqCst);
        // Refused below with the lock released: a reference may be the last.
        let alive = !inode.flags().contains(InodeFlags::EVICTED);
        (inode, alive)
    };
    alive.then_some(inode)
}

/// An inode that has handles, and dentries that it was seen as.
struct Exported {
    inode: Weak<Inode>,
    aliases: Vec<Weak<Dentry>>,
}

/// Which dentries each handle was made from; see the module text.
#[derive(Default)]
pub struct AliasTable {
    inodes: SpinLock<SortedMap<Ino, Exported>>,
}

impl AliasTable {
    /// Forgets an inode that is gone.
    pub fn forget(&self, inode: &Inode) {
        if inode.flags().contains(InodeFlags::EXPORTED) {
            let gone = self.inodes.lock().remove(&inode.ino());
            drop(gone);
        }
    }

    fn remember(&self, inode: &Arc<Inode>, alias: &Arc<Dentry>) -> Result<()> {
        if alias.flags().contains(DentryFlags::EXPORTED) {
            return Ok(());
        }
        inode.insert_flags(InodeFlags::EXPORTED);
        let mut gone = Vec::new();
        {
            let mut inodes = self.inodes.lock();
            let blank = || Exported { inode: Arc::downgrade(inode), aliases: Vec::new() };
            let entry = inodes.try_get_or_insert_with(inode.ino(), blank)?;
            if gone.try_reserve(entry.aliases.len()).is_ok() {
                gone.extend(entry.aliases.extract_if(.., |alias| alias.strong_count() == 0));
            }
            entry.aliases.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            if !alias.insert_flags(DentryFlags::EXPORTED).contains(DentryFlags::EXPORTED) {
                entry.aliases.push_reserved(Arc::downgrade(alias));
            }
        }
        drop(gone);
        Ok(())
    }
}

impl ExportOps for AliasTable {
    fn encode(&self, inode: &Inode, alias: Option<&Arc<Dentry>>) -> Result<Fid> {
        if let Some(alias) = alias
            && let Some(shared) = alias.inode()
            && core::ptr::eq(&**shared, inode)
        {
            self.remember(shared, alias)?;
        }
        let generation = inode.generation.load(Ordering::Relaxed);
        Ok(Fid::new(FILEID_INO32_GEN, [generation, inode.ino() as u32, (inode.ino() >> 32) as u32]))
    }

    fn decode(&self, sb: &Arc<SuperBlock>, _: i32, words: &[u32]) -> Option<Arc<Dentry>> {
        let [generation, low, high, ..] = *words else { return None };
        let (inode, aliases) = {
            let inodes = self.inodes.lock();
            let entry = inodes.get(&(u64::from(high) << 32 | u64::from(low)))?;
            let mut aliases = Vec::new();
            aliases.try_reserve_exact(entry.aliases.len()).ok()?;
            aliases.extend(entry.aliases.iter().cloned());
            (entry.inode.clone(), aliases)
        };
        let mut living = try_with_capacity(aliases.len()).ok()?;
        let (inode, aliases) = {
            let _decided = EVICTION.lock();
            let inode = inode.upgrade()?;
            living.extend(aliases.iter().filter_map(Weak::upgrade));
            fence(Ordering::SeqCst);
            // Refused below with the lock released: a reference may be the last.
            let alive = !inode.flags().contains(InodeFlags::EVICTED);
            (alive.then_some(inode), living)
        };
        let inode = inode?;
        if inode.generation.load(Ordering::Relaxed) != generation {
            return None;
        }
        if let Some(named) = aliases.iter().find(|alias| !alias.is_unlinked()) {
            return Some(named.clone());
        }
        // Without a name it is there as long as somebody uses it.
        let used = |alias: &&Arc<Dentry>| !alias.flags().contains(DentryFlags::IDLE) && alias.users() > 1;
        let nameless = inode.nlink() == 0;
        if nameless || inode.is_dir() {
            return aliases.iter().find(used).cloned();
        }
        // Its other names are not known: it is shown without one.
        let alias = Dentry::new_disconnected(sb, b"/", inode.clone()).ok()?;
        self.remember(&inode, &alias).ok()?;
        Some(alias)
    }
}

/// The identification of `inode` as `/proc/PID/fdinfo/N` shows it.
pub(crate) fn show(inode: &Inode, out: &mut dyn fmt::Write) -> fmt::Result {
    let fid = encode(inode, None).map_err(|_| fmt::Error)?;
    write!(out, "fhandle-bytes:{:x} fhandle-type:{:x} f_handle:", fid.bytes(), fid.kind)?;
    fid.words().iter().flat_map(|word| word.to_ne_bytes()).try_for_each(|byte| write!(out, "{byte:02x}"))
}
