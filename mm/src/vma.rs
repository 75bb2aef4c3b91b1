//! Virtual memory areas: what a range of an address space is.
//!
//! A [`Vma`] says what its pages are (anonymous, of a file, special) and what may be done with
//! them. It owns no pages: those belong to the page tables and to the page cache. The set of
//! areas of a process is a [`VmaTree`], guarded by the `mmap_lock` of the [`crate::space::AddressSpace`].
//!
//! # Who may change what
//!
//! | field | read with | changed with |
//! |---|---|---|
//! | `start`, `end`, `pgoff`, `flags` | `mmap_lock` (shared) **or** the area's read lock | `mmap_lock` exclusive **and** the area's write lock |
//! | `anon` | the same | set once: any of the above; moved: `mmap_lock` exclusive |
//! | everything else | always | never |
//!
//! # The lock of an area
//!
//! Page faults do not take `mmap_lock`. They find the area through a small cache under RCU, and
//! take its read lock: one atomic addition. A writer sets [`DETACHED`] or [`WRITER`] and waits
//! until the readers are gone; a fault that meets either falls back to `mmap_lock`. An area
//! that left the tree stays detached for ever, so that a stale cache entry is harmless.

use crate::fallible::try_arc;
use crate::filemap::Mapping;
use crate::mempolicy::Policy;
use crate::rmap::AnonVma;
use crate::space::AddressSpace;
use crate::uffd::{Context, Event};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch::paging::Prot;
use arch::pkey::{KEYS, Key};
use arch::sync::SpinLock;
use bitflags::bitflags;
use collections::rangemap::RangeMap;
use core::cell::UnsafeCell;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The areas of one address space, by address.
#[derive(Default)]
pub struct VmaTree {
    map: RangeMap<Arc<Vma>>,
    /// What the holder of `mmap_lock` has to tell userfaultfds once it has let go: [`AddressSpace::unlock_areas`].
    pub(crate) events: Vec<Event>,
}

impl core::ops::Deref for VmaTree {
    type Target = RangeMap<Arc<Vma>>;
    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

impl core::ops::DerefMut for VmaTree {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.map
    }
}

/// Pages that stay free below a stack, so that it cannot run into its neighbour.
pub const STACK_GUARD_GAP: usize = 256 * PAGE_SIZE;

/// Where the protection key lies among an area's flags.
const KEY_SHIFT: u32 = 32;

bitflags! {
    /// What an area is and allows; the values are Linux's (`VM_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmFlags: u64 {
        /// Loads are allowed.
        const READ = 0x1;
        /// Stores are allowed.
        const WRITE = 0x2;
        /// Instruction fetches are allowed.
        const EXEC = 0x4;
        /// Stores are seen by everyone who maps the object.
        const SHARED = 0x8;
        /// `mprotect(2)` may allow loads.
        const MAYREAD = 0x10;
        /// `mprotect(2)` may allow stores.
        const MAYWRITE = 0x20;
        /// `mprotect(2)` may allow instruction fetches.
        const MAYEXEC = 0x40;
        /// The object was mapped with `MAP_SHARED` (even if it cannot be written).
        const MAYSHARE = 0x80;
        /// A stack: grows down when the page below it is touched.
        const GROWSDOWN = 0x100;
        /// A `userfaultfd(2)` is asked for pages that are missing.
        const UFFD_MISSING = 0x200;
        /// Frames without page descriptors (device memory).
        const PFNMAP = 0x400;
        /// A `userfaultfd(2)` learns of stores to pages that it protected.
        const UFFD_WP = 0x1000;
        /// Pages are locked into memory.
        const LOCKED = 0x2000;
        /// Device registers.
        const IO = 0x4000;
        /// `MADV_SEQUENTIAL`.
        const SEQ_READ = 0x8000;
        /// `MADV_RANDOM`.
        const RAND_READ = 0x1_0000;
        /// Not copied by fork.
        const DONTCOPY = 0x2_0000;
        /// Cannot be enlarged by `mremap(2)`.
        const DONTEXPAND = 0x4_0000;
        /// Locked when touched, not before (`MLOCK_ONFAULT`).
        const LOCKONFAULT = 0x8_0000;
        /// Counts towards the commit limit.
        const ACCOUNT = 0x10_0000;
        /// Mapped with `MAP_NORESERVE`.
        const NORESERVE = 0x20_0000;
        /// Of huge pages.
        const HUGETLB = 0x40_0000;
        /// Empty after fork.
        const WIPEONFORK = 0x200_0000;
        /// Not in core dumps.
        const DONTDUMP = 0x400_0000;
        /// Written since the soft-dirty bits were cleared.
        const SOFTDIRTY = 0x800_0000;
        /// Transparent huge pages wanted.
        const HUGEPAGE = 0x2000_0000;
        /// Transparent huge pages not wanted.
        const NOHUGEPAGE = 0x4000_0000;
        /// The number of the protection key, four bits; see [`Self::key`].
        const KEY = 0xf << KEY_SHIFT;
        /// `MAP_DROPPABLE`: may vanish under memory pressure.
        const DROPPABLE = 0x10_0000_0000;
        /// Not for users to unmap or change piecemeal: vDSO and the like.
        const SPECIAL = 0x20_0000_0000;
        /// A `userfaultfd(2)` is asked before cached pages are mapped.
        const UFFD_MINOR = 0x40_0000_0000;
        /// Has a memory policy of its own (not one of Linux's bits).
        const POLICY = 1 << 62;
        /// `mseal(2)`: stays where it is, as it is.
        const SEALED = 1 << 63;

        /// A `userfaultfd(2)` has a say.
        const UFFD = Self::UFFD_MISSING.bits() | Self::UFFD_WP.bits() | Self::UFFD_MINOR.bits();
        /// The three access bits.
        const ACCESS = 0x7;
        /// Never merged with a neighbour.
        const NOMERGE = Self::IO.bits() | Self::PFNMAP.bits() | Self::DONTEXPAND.bits() | Self::SPECIAL.bits();
    }
}

impl VmFlags {
    /// The page protection that the access bits ask for. Private and file-backed areas get
    /// their write bit at the fault.
    pub fn prot(self) -> Prot {
        let mut prot = Prot::USER;
        if self.intersects(Self::READ | Self::WRITE | Self::EXEC) {
            prot |= Prot::READ;
        }
        if self.contains(Self::WRITE) {
            prot |= Prot::WRITE;
        }
        if self.contains(Self::EXEC) {
            prot |= Prot::EXEC;
        }
        prot | Prot::of_key(self.key())
    }

    /// The protection key of the pages.
    #[inline]
    pub const fn key(self) -> Key {
        ((self.bits() & Self::KEY.bits()) >> KEY_SHIFT) as Key
    }

    /// With `key` as the protection key.
    pub const fn with_key(self, key: Key) -> Self {
        self.difference(Self::KEY).union(Self::from_bits_retain(((key & (KEYS - 1)) as u64) << KEY_SHIFT))
    }

    /// Whether `PROT_NONE` is all that the area allows.
    pub fn no_access(self) -> bool {
        !self.intersects(Self::ACCESS)
    }

    /// A private area whose pages can be written now or after `mprotect(2)`: stores make copies.
    pub fn is_cow(self) -> bool {
        self & (Self::SHARED | Self::MAYWRITE) == Self::MAYWRITE
    }

    /// Whether writable private memory was promised, and so counts against the commit limit.
    pub fn accountable(self) -> bool {
        self & (Self::NORESERVE | Self::SHARED | Self::WRITE) == Self::WRITE
    }

    /// Whether `RLIMIT_DATA` counts the area: private, writable, not a stack.
    pub fn is_data(self) -> bool {
        self & (Self::WRITE | Self::SHARED | Self::GROWSDOWN) == Self::WRITE
    }

    /// The two-letter names of the `VmFlags:` line in `/proc/PID/smaps`, in Linux's order.
    pub fn smaps_names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(VmFlags, &str); 24] = [
            (VmFlags::READ, "rd"),
            (VmFlags::WRITE, "wr"),
            (VmFlags::EXEC, "ex"),
            (VmFlags::SHARED, "sh"),
            (VmFlags::MAYREAD, "mr"),
            (VmFlags::MAYWRITE, "mw"),
            (VmFlags::MAYEXEC, "me"),
            (VmFlags::MAYSHARE, "ms"),
            (VmFlags::GROWSDOWN, "gd"),
            (VmFlags::UFFD_MISSING, "um"),
            (VmFlags::PFNMAP, "pf"),
            (VmFlags::UFFD_WP, "uw"),
            (VmFlags::LOCKED, "lo"),
            (VmFlags::IO, "io"),
            (VmFlags::SEQ_READ, "sr"),
            (VmFlags::RAND_READ, "rr"),
            (VmFlags::DONTCOPY, "dc"),
            (VmFlags::DONTEXPAND, "de"),
            (VmFlags::LOCKONFAULT, "lf"),
            (VmFlags::ACCOUNT, "ac"),
            (VmFlags::NORESERVE, "nr"),
            (VmFlags::WIPEONFORK, "wf"),
            (VmFlags::DONTDUMP, "dd"),
            (VmFlags::SOFTDIRTY, "sd"),
        ];
        const MORE: [(VmFlags, &str); 5] = [
            (VmFlags::HUGEPAGE, "hg"),
            (VmFlags::NOHUGEPAGE, "nh"),
            (VmFlags::UFFD_MINOR, "ui"),
            (VmFlags::DROPPABLE, "dp"),
            (VmFlags::SEALED, "sl"),
        ];
        NAMES.into_iter().chain(MORE).filter(move |(f, _)| self.contains(*f)).map(|(_, n)| n)
    }
}

/// What a fault on a page of a [`VmFile`] without a page cache yields.
#[derive(Debug)]
pub enum DevicePage {
    /// A page with a descriptor; the reference goes to the page table.
    Folio(crate::folio::Folio),
    /// A frame without one.
    Frame(arch::addr::Pfn, Prot),
}

/// What `mmap(2)` is about to do, for the file to check and adjust.
#[derive(Debug)]
pub struct MmapSetup {
    /// Flags of the area to come. A file may remove `MAYWRITE` or add `DONTEXPAND`, `PFNMAP`, `IO` …
    pub flags: VmFlags,
    /// Bytes to be mapped.
    pub len: usize,
    /// Offset in the file, in pages.
    pub pgoff: u64,
    /// Set by the file: treat the area as anonymous memory (`/dev/zero`).
    pub anonymous: bool,
}

/// How a mapped file shows in `/proc/PID/maps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmFileId {
    /// Device number (major).
    pub major: u32,
    /// Device number (minor).
    pub minor: u32,
    /// Inode number.
    pub ino: u64,
}

/// An open file as memory mappings see it. `vfs::File` implements it.
pub trait VmFile: Send + Sync {
    /// The page cache that backs mappings, if the file has one.
    fn mapping(&self) -> Option<Arc<Mapping>>;
    /// Opened for reading.
    fn readable(&self) -> bool;
    /// Opened for writing.
    fn writable(&self) -> bool;
    /// Lives on a mount without execution.
    fn noexec(&self) -> bool {
        false
    }
    /// Checks and completes a new mapping. Files that cannot be mapped return `ENODEV`.
    fn mmap(&self, setup: &mut MmapSetup) -> Result<()>;
    /// Supplies the page at `pgoff` when there is no page cache.
    fn fault(&self, _pgoff: u64) -> Result<DevicePage> {
        Err(Errno::EFAULT)
    }
    /// Device and inode number.
    fn id(&self) -> VmFileId;
    /// Writes the path as `/proc/PID/maps` shows it.
    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result;
    /// A mapping began to exist (also by fork or split).
    fn mapped(&self, _flags: VmFlags) {}
    /// A mapping ceased to exist.
    fn unmapped(&self, _flags: VmFlags) {}
    /// Writes back `range` (bytes) and waits: `msync(MS_SYNC)`.
    fn sync_range(&self, _range: core::ops::Range<u64>) -> Result<()> {
        Ok(())
    }
    /// Where readahead stands in the open file.
    fn read_state(&self) -> Option<&SpinLock<crate::readahead::ReadState>> {
        None
    }
    /// Frees the backing of `range` (bytes): `madvise(MADV_REMOVE)`.
    fn punch_hole(&self, _range: core::ops::Range<u64>) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// The object itself, for callers that know the implementing type.
    fn as_any(self: Arc<Self>) -> Arc<dyn core::any::Any + Send + Sync>;
}

/// Pages that the kernel put into an address space under a name: vDSO, vvar.
pub struct SpecialMapping {
    /// The name in `/proc/PID/maps`, for instance `[vdso]`.
    pub name: &'static str,
    /// The frames, in order. They belong to the kernel and are never freed.
    pub pages: Vec<arch::addr::Pfn>,
    /// The page in whose place an address space may have another one ([`crate::vdso::TimePage`]).
    pub time_page: Option<usize>,
}

/// Where the pages of an area come from.
#[derive(Clone)]
pub enum Backing {
    /// Zero-filled private memory.
    Anonymous,
    /// A file (with its page cache, if any).
    File(Arc<dyn VmFile>, Option<Arc<Mapping>>),
    /// Pages of the kernel.
    Special(Arc<SpecialMapping>),
}

impl Backing {
    /// Whether `other` is the same object.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::File(a, _), Self::File(b, _)) => Arc::ptr_eq(a, b),
            (Self::Special(a), Self::Special(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Membership in an anon_vma.
pub(crate) struct AnonSlot {
    pub(crate) node: Option<Arc<AnonVma>>,
    /// Whether pages that this area makes may belong to `node` (and not to a new one below it).
    pub(crate) own: bool,
}

/// What few areas have.
#[derive(Clone, Default)]
pub(crate) struct Extra {
    /// The name given with `prctl(PR_SET_VMA_ANON_NAME)`.
    pub(crate) name: Option<Arc<[u8]>>,
    /// The memory policy; there is one if [`VmFlags::POLICY`] is set.
    pub(crate) policy: Option<Arc<Policy>>,
    /// The userfaultfd; there is one if one of [`VmFlags::UFFD`] is set.
    pub(crate) uffd: Option<Arc<Context>>,
}

/// The area has been taken out of the tree, for good.
const DETACHED: u32 = 1 << 31;
/// A writer has the lock or waits for it.
const WRITER: u32 = 1 << 30;
/// Reader count.
const READERS: u32 = WRITER - 1;

/// One area. See the module documentation.
pub struct Vma {
    lock: AtomicU32,
    /// Position in the list of whatever `anon` points to; owned by the lock of that list.
    pub(crate) anon_slot: AtomicU32,
    /// Position in the list of the file's mapping; owned by the lock of that list.
    pub(crate) file_slot: AtomicU32,
    start: AtomicUsize,
    end: AtomicUsize,
    pgoff: AtomicU64,
    flags: AtomicU64,
    space: NonNull<AddressSpace>,
    backing: UnsafeCell<Backing>,
    /// Which slots of the area cache point here.
    pub(crate) cached: AtomicU64,
    /// The own node's mapping word, for the fault path; 0 until there is one.
    own_anon: AtomicUsize,
    anon: SpinLock<AnonSlot>,
    extra: SpinLock<Extra>,
}

// SAFETY: `space` is only followed while the space lives: by threads that hold a reference to it, and by
// reverse-map walkers under the lock of a list that the area leaves before the space is gone.
unsafe impl Send for Vma {}
// SAFETY: as above; everything else is atomic or locked.
unsafe impl Sync for Vma {}

impl fmt::Debug for Vma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x} {:?}", self.start(), self.end(), self.flags())
    }
}

impl Vma {
    /// A new area, not yet in any tree.
    pub(crate) fn new(
        space: &AddressSpace,
        range: core::ops::Range<usize>,
        flags: VmFlags,
        pgoff: u64,
        backing: Backing,
    ) -> Result<Arc<Self>> {
        if let Backing::File(file, _) = &backing {
            file.mapped(flags);
        }
        Ok(try_arc(Self {
            lock: AtomicU32::new(0),
            anon_slot: AtomicU32::new(0),
            file_slot: AtomicU32::new(0),
            start: AtomicUsize::new(range.start),
            end: AtomicUsize::new(range.end),
            pgoff: AtomicU64::new(pgoff),
            flags: AtomicU64::new(flags.bits()),
            space: NonNull::from(space),
            backing: UnsafeCell::new(backing),
            cached: AtomicU64::new(0),
            own_anon: AtomicUsize::new(0),
            anon: SpinLock::new(AnonSlot { node: None, own: false }),
            extra: SpinLock::new(Extra::default()),
        })?)
    }

    /// First address.
    #[inline]
    pub fn start(&self) -> usize {
        self.start.load(Ordering::Relaxed)
    }

    /// First address after the area.
    #[inline]
    pub fn end(&self) -> usize {
        self.end.load(Ordering::Relaxed)
    }

    /// The whole range.
    #[inline]
    pub fn range(&self) -> core::ops::Range<usize> {
        self.start()..self.end()
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end() - self.start()
    }

    /// Never true: areas have at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Pages.
    #[inline]
    pub fn pages(&self) -> usize {
        self.len() >> PAGE_SHIFT
    }

    /// Offset of the first page in the object; for anonymous memory, the page number where it was first mapped.
    #[inline]
    pub fn pgoff(&self) -> u64 {
        self.pgoff.load(Ordering::Relaxed)
    }

    /// The flags.
    #[inline]
    pub fn flags(&self) -> VmFlags {
        VmFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// What backs the area. (Looked at with `mmap_lock`, the area's lock or the lock of a reverse-map list held.)
    #[inline]
    pub fn backing(&self) -> &Backing {
        // SAFETY: changes once, in `release_backing`, when nobody can look any more.
        unsafe { &*self.backing.get() }
    }

    /// Lets go of the file, so that it does not wait for RCU.
    ///
    /// # Safety
    /// The area is detached and on no list.
    pub(crate) unsafe fn release_backing(&self) {
        // SAFETY: nobody else looks at the backing any more (caller).
        let old = unsafe { core::mem::replace(&mut *self.backing.get(), Backing::Anonymous) };
        if let Backing::File(file, _) = &old {
            file.unmapped(self.flags());
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Arc<dyn VmFile>> {
        match self.backing() {
            Backing::File(file, _) => Some(file),
            _ => None,
        }
    }

    /// The page cache behind the area, if there is one.
    #[inline]
    pub fn mapping(&self) -> Option<&Arc<Mapping>> {
        match self.backing() {
            Backing::File(_, mapping) => mapping.as_ref(),
            _ => None,
        }
    }

    /// Whether only the area itself reaches its pages (`memfd_secret(2)`).
    pub(crate) fn is_secret(&self) -> bool {
        self.mapping().is_some_and(|mapping| mapping.is_secret())
    }

    /// Whether the area is plain anonymous memory.
    #[inline]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.backing(), Backing::Anonymous)
    }

    /// Whether `addr` lies inside.
    #[inline]
    pub fn contains(&self, addr: usize) -> bool {
        addr >= self.start() && addr < self.end()
    }

    /// The index in the object of the page at `addr`.
    #[inline]
    pub fn index_of(&self, addr: usize) -> u64 {
        self.pgoff().wrapping_add(((addr - self.start()) >> PAGE_SHIFT) as u64)
    }

    /// Where page `index` of the object lies in this area.
    pub fn addr_of_index(&self, index: u64) -> Option<usize> {
        let page = index.checked_sub(self.pgoff())?;
        (page < self.pages() as u64).then(|| self.start() + ((page as usize) << PAGE_SHIFT))
    }

    /// Bytes below the area that must stay free.
    pub fn guard_gap(&self) -> usize {
        if self.flags().contains(VmFlags::GROWSDOWN) { STACK_GUARD_GAP } else { 0 }
    }

    /// The address space that the area belongs to.
    ///
    /// # Safety
    /// The caller holds a reference to the space, or the lock of a reverse-map list that the
    /// area is on.
    pub(crate) unsafe fn space<'a>(&self) -> &'a AddressSpace {
        // SAFETY: the space outlives its areas' membership in reverse-map lists, see above.
        unsafe { self.space.as_ref() }
    }

    /// The anon_vma that the area is a member of.
    pub(crate) fn anon(&self) -> Option<Arc<AnonVma>> {
        self.anon.lock().node.clone()
    }

    /// Whether the area ever had anonymous pages.
    pub(crate) fn has_anon(&self) -> bool {
        self.anon.lock().node.is_some()
    }

    /// Whether new anonymous pages have an anon_vma of this process to belong to.
    #[inline]
    pub(crate) fn has_own_anon(&self) -> bool {
        self.own_anon.load(Ordering::Acquire) != 0
    }

    /// The mapping word of new anonymous pages; only after [`crate::rmap::prepare_anon`].
    #[inline]
    pub(crate) fn anon_word(&self) -> usize {
        self.own_anon.load(Ordering::Acquire)
    }

    /// The slot that holds the anon_vma.
    pub(crate) fn anon_slot_lock(&self) -> impl core::ops::DerefMut<Target = AnonSlot> + '_ {
        self.anon.lock()
    }

    /// The inherited node turned out to be this area's alone.
    pub(crate) fn set_own_anon(&self, node: &Arc<AnonVma>) {
        let mut slot = self.anon.lock();
        if slot.node.as_ref().is_some_and(|n| Arc::ptr_eq(n, node)) {
            slot.own = true;
            drop(slot);
            self.publish_own_anon();
        }
    }

    /// Makes the own node known to the fault path.
    pub(crate) fn publish_own_anon(&self) {
        let slot = self.anon.lock();
        if let Some(node) = slot.node.as_ref().filter(|_| slot.own) {
            self.own_anon.store(node.tagged(), Ordering::Release);
        }
    }

    /// The name given with `prctl(PR_SET_VMA_ANON_NAME)`.
    pub fn anon_name(&self) -> Option<Arc<[u8]>> {
        self.extra.lock().name.clone()
    }

    pub(crate) fn set_anon_name(&self, name: Option<Arc<[u8]>>) {
        let old = core::mem::replace(&mut self.extra.lock().name, name);
        drop(old);
    }

    /// The memory policy of the area itself.
    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        if !self.flags().contains(VmFlags::POLICY) {
            return None;
        }
        self.extra.lock().policy.clone()
    }

    /// Replaces the memory policy; [`VmFlags::POLICY`] is the caller's.
    pub(crate) fn set_policy(&self, policy: Option<Arc<Policy>>) {
        let old = core::mem::replace(&mut self.extra.lock().policy, policy);
        drop(old);
    }

    /// The userfaultfd that has a say about the area.
    pub(crate) fn uffd(&self) -> Option<Arc<Context>> {
        if !self.flags().intersects(VmFlags::UFFD) {
            return None;
        }
        self.extra.lock().uffd.clone()
    }

    /// Replaces the userfaultfd; the flags are the caller's.
    pub(crate) fn set_uffd(&self, context: Option<Arc<Context>>) {
        let old = core::mem::replace(&mut self.extra.lock().uffd, context);
        drop(old);
    }

    /// Takes over what another area has besides its pages: a copy by fork, a split, a move.
    pub(crate) fn inherit(&self, other: &Self) {
        let extra = other.extra.lock().clone();
        let old = core::mem::replace(&mut *self.extra.lock(), extra);
        drop(old);
    }

    /// Whether both have the same besides their pages.
    pub(crate) fn same_extra(&self, other: &Self) -> bool {
        let mine = self.extra.lock().clone();
        let theirs = other.extra.lock();
        mine.name == theirs.name
            && mine.policy == theirs.policy
            && mine.uffd.as_ref().map(Arc::as_ptr) == theirs.uffd.as_ref().map(Arc::as_ptr)
    }

    // ---- changes: `mmap_lock` and the area's write lock are held ---------------------------

    pub(crate) fn set_range(&self, range: core::ops::Range<usize>, pgoff: u64) {
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.pgoff.store(pgoff, Ordering::Relaxed);
    }

    pub(crate) fn set_flags(&self, flags: VmFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    // ---- the lock --------------------------------------------------------------------------

    /// Takes the read lock unless the area is being changed or is gone.
    #[inline]
    pub(crate) fn try_read(&self) -> Option<VmaRead> {
        // Acquire pairs with the Release in `VmaWrite::drop`: the fields are those of the last writer.
        let old = self.lock.fetch_add(1, Ordering::Acquire);
        let guard = VmaRead(NonNull::from(self));
        if old & (DETACHED | WRITER) != 0 {
            drop(guard);
            return None;
        }
        Some(guard)
    }

    /// Waits until no fault uses the area and keeps new ones out. `mmap_lock` is held exclusively, so
    /// there is one writer at most.
    pub(crate) fn write(self: &Arc<Self>) -> VmaWrite {
        self.lock.fetch_or(WRITER, Ordering::Acquire);
        while self.lock.load(Ordering::Acquire) & READERS != 0 {
            sched::yield_now();
        }
        VmaWrite(self.clone())
    }

    /// As [`Self::write`], for ever: the area is leaving the tree.
    pub(crate) fn detach(&self) {
        self.lock.fetch_or(DETACHED, Ordering::Acquire);
        while self.lock.load(Ordering::Acquire) & READERS != 0 {
            sched::yield_now();
        }
    }

    // ---- merging ---------------------------------------------------------------------------

    /// Whether an area with these properties that begins where this one ends could be one with it.
    pub(crate) fn can_append(&self, flags: VmFlags, pgoff: u64, backing: &Backing) -> bool {
        self.mergeable(flags, backing) && self.pgoff().wrapping_add(self.pages() as u64) == pgoff
    }

    /// Whether an area of `pages` pages that ends where this one begins could be one with it.
    pub(crate) fn can_prepend(&self, flags: VmFlags, pgoff: u64, pages: usize, backing: &Backing) -> bool {
        self.mergeable(flags, backing) && pgoff.wrapping_add(pages as u64) == self.pgoff()
    }

    fn mergeable(&self, flags: VmFlags, backing: &Backing) -> bool {
        let ignore = VmFlags::SOFTDIRTY;
        self.flags() | ignore == flags | ignore
            && !flags.intersects(VmFlags::NOMERGE)
            && self.backing().same(backing)
    }
}

impl Drop for Vma {
    fn drop(&mut self) {
        if let Backing::File(file, _) = self.backing.get_mut() {
            file.unmapped(VmFlags::from_bits_retain(*self.flags.get_mut()));
        }
    }
}

/// The read lock of an area; the area cannot change or go away while it is held.
pub(crate) struct VmaRead(NonNull<Vma>);

impl VmaRead {
    /// The area as the counted pointer that it is, without counting.
    #[inline]
    pub(crate) fn arc(&self) -> core::mem::ManuallyDrop<Arc<Vma>> {
        // SAFETY: areas are only ever made inside an `Arc` (`Vma::new`), which lives while we hold the lock; the count
        // is not touched, because the value is never dropped.
        core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(self.0.as_ptr()) })
    }
}

impl core::ops::Deref for VmaRead {
    type Target = Vma;
    #[inline]
    fn deref(&self) -> &Vma {
        // SAFETY: whoever drops the last reference to an area first detaches it, which waits for us.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for VmaRead {
    #[inline]
    fn drop(&mut self) {
        self.lock.fetch_sub(1, Ordering::Release);
    }
}

/// The write lock of an area.
pub(crate) struct VmaWrite(Arc<Vma>);

impl Drop for VmaWrite {
    fn drop(&mut self) {
        self.0.lock.fetch_and(!WRITER, Ordering::Release);
    }
}
