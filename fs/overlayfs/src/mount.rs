//! Making a mount: what the layers are, and what they must not be.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::cap::Cap;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::SortedMap;
use mm::fallible::{TryVec, try_arc, try_box};
use vfs::inode::InodeFlags;
use vfs::mount::detached::private_copy;
use vfs::mount::flags as mnt_flags;
use vfs::path::{LookupContext, Path};
use vfs::super_block::{
    AnonymousDev, MAX_STACK_DEPTH, MountRequest, SB_POSIXACL, SB_RDONLY, Stacked, SuperBlock, SuperInfo,
};
use vfs::types::MAX_LFS_FILESIZE;
use vfs::{Credentials, Dentry, Inode};

use crate::fs::{Fs, Layer, LayerFs, Lower, Numbers, Super, Upper};
use crate::lookup::Found;
use crate::options::{Config, Setup, Uuid, Xino};
use crate::workdir::Preparing;
use crate::xattr;

/// The high bits of an inode number that `xino` may use at most.
const MOST_BITS: u32 = 32;

/// Directories that layers begin at.
#[derive(Default)]
pub(crate) struct Traps(Vec<Arc<Inode>>);

impl Traps {
    fn contains(&self, inode: &Arc<Inode>) -> bool {
        self.0.iter().any(|trap| Arc::ptr_eq(trap, inode))
    }

    /// One more; `ELOOP` if it is one already.
    pub(crate) fn add(&mut self, dentry: &Dentry, name: &str) -> Result<()> {
        let inode = dentry.inode().ok_or(Errno::ENOENT)?;
        if self.contains(inode) {
            log::error!("overlayfs: conflicting {name} path");
            return Err(Errno::ELOOP);
        }
        Ok(self.0.try_push(inode.clone())?)
    }

    /// `ELOOP` if `dentry` lies below one of them.
    fn check_above(&self, dentry: &Arc<Dentry>, name: &str) -> Result<()> {
        let mut at = dentry.parent();
        while let Some(above) = at {
            let inode = above.inode().ok_or(Errno::ENOENT)?;
            // An upper layer may be inside of a lower one: it is not entered there.
            if name == "lowerdir" && self.contains(inode) {
                log::error!("overlayfs: overlapping {name} path");
                return Err(Errno::ELOOP);
            }
            if inode.flags().contains(InodeFlags::UNION_INUSE) {
                in_use(name);
            }
            at = above.parent();
        }
        Ok(())
    }
}

fn in_use(name: &str) {
    log::warn!(
        "overlayfs: {name} is in-use as upperdir/workdir of another mount, accessing files from both mounts will result in undefined behavior."
    );
}

/// Marks a directory as in use; `false` if somebody else uses it.
fn mark(dentry: &Dentry, name: &str) -> Result<bool> {
    let inode = dentry.inode().ok_or(Errno::ENOENT)?;
    let free = !inode.insert_flags(InodeFlags::UNION_INUSE).contains(InodeFlags::UNION_INUSE);
    if !free {
        in_use(name);
    }
    Ok(free)
}

/// File systems that layers are on; the first is that of the upper layer, or none.
#[derive(Default)]
struct Systems(Vec<LayerFs>);

impl Systems {
    fn of(&mut self, sb: &SuperBlock) -> Result<u32> {
        if let Some(index) = self.0.iter().position(|system| system.sb == sb.dev()) {
            return Ok(index as u32);
        }
        let own = AnonymousDev::new()?;
        self.0.try_push(LayerFs { sb: sb.dev(), dev: own.id(), _own: Some(own) })?;
        Ok(self.0.len() as u32 - 1)
    }
}

/// How inode numbers are mapped, when lower layers are on `lower` file systems beside the upper one.
fn numbers(config: &Config, systems: usize, has_upper: bool, lower: usize) -> Numbers {
    // The first place is the upper layer's, also if there is none.
    if lower == usize::from(!has_upper) {
        if config.xino == Xino::On {
            log::info!("overlayfs: \"xino=on\" is useless with all layers on same fs, ignore.");
        }
        return Numbers::Same;
    }
    if config.xino == Xino::Off {
        return Numbers::Apart;
    }
    let bits = (systems.max(2) as u32 - 1).ilog2() + 2;
    log::info!("overlayfs: \"xino\" feature enabled using {bits} upper inode bits.");
    Numbers::Bits(bits.min(MOST_BITS))
}

/// Makes the super block.
pub(crate) fn mount(
    ctx: &LookupContext<'_>,
    cred: &Arc<Credentials>,
    request: &MountRequest<'_>,
    mut setup: Setup,
) -> Result<Arc<SuperBlock>> {
    setup.verify(cred)?;
    let mut acting = Credentials::clone(cred);
    // Quotas and reserves of the upper layer hold for everybody.
    acting.cap_effective.0 &= !(1 << Cap::SysResource as u8);
    let cred = try_arc(acting)?;
    let mut traps = Traps::default();
    let mut systems = Systems::default();
    let mut depth = 0;
    let mut granularity = 1;
    let mut upper = None;
    let mut no_xattr = false;
    if let Some(place) = &setup.upper {
        let Some(base) = &setup.work else {
            log::error!("overlayfs: missing 'workdir'");
            return Err(Errno::EINVAL);
        };
        let made = prepare_upper(ctx, place, base, &mut traps)?;
        let sb = made.mnt.sb().clone();
        depth = sb.stack_depth();
        granularity = sb.time_granularity_ns();
        systems.of(&sb)?;
        let preparing = Preparing { cred: &cred, config: &mut setup.config, no_xattr: false };
        (upper, no_xattr) = preparing.work(made, &mut traps)?;
    } else {
        systems.0.try_push(LayerFs { sb: Default::default(), dev: Default::default(), _own: None })?;
    }
    if setup.upper.is_none() && setup.lower.len() == 1 {
        log::error!("overlayfs: at least 2 lowerdir are needed while upperdir nonexistent");
        return Err(Errno::EINVAL);
    }
    depth = setup.lower.iter().map(|path| path.dentry.sb().stack_depth()).fold(depth, u32::max) + 1;
    if depth > MAX_STACK_DEPTH {
        log::error!("overlayfs: maximum fs stacking depth exceeded");
        return Err(Errno::EINVAL);
    }
    let mut layers = Vec::new();
    for path in &setup.lower {
        traps.add(&path.dentry, "lowerdir")?;
        let inode = path.inode()?;
        let ours = upper.as_ref().is_some_and(|upper: &Upper| Arc::ptr_eq(&upper.root, &path.dentry));
        if inode.flags().contains(InodeFlags::UNION_INUSE) && !ours {
            in_use("lowerdir");
        }
        // Nothing is written to it, not even when it was read.
        let kept = path.mnt.flags() & !(mnt_flags::RELATIME | mnt_flags::NODIRATIME);
        let mnt =
            private_copy(ctx, path, kept | mnt_flags::RDONLY | mnt_flags::NOATIME).inspect_err(|_| {
                log::error!("overlayfs: failed to clone lowerpath");
            })?;
        layers.try_push(Layer {
            fsid: systems.of(mnt.sb())?,
            root: path.dentry.clone(),
            xwhiteouts: AtomicBool::new(false),
            mnt,
        })?;
    }
    if let Some(upper) = &upper {
        traps.check_above(&upper.root, "upperdir")?;
        // What is kept in the work directory is not a layer, but must not be in one either.
        traps.check_above(&upper.base, "workdir")?;
    }
    for layer in &layers {
        traps.check_above(&layer.root, "lowerdir")?;
    }
    let lower_systems = systems.0.len() - 1;
    let uuid = match &upper {
        Some(upper) => identify(&cred, &mut setup.config, upper, no_xattr)?,
        None => [0; 16],
    };
    if setup.config.uuid == Uuid::Off && lower_systems > usize::from(upper.is_none()) {
        log::warn!(
            "overlayfs: The uuid=off requires a single fs for lower and upper, falling back to uuid=null."
        );
        setup.config.uuid = Uuid::Null;
    }
    let writable = upper.as_ref().is_some_and(|upper| upper.work.is_some());
    let fs = Fs {
        numbers: numbers(&setup.config, systems.0.len(), upper.is_some(), lower_systems),
        almighty: is_almighty(&cred),
        config: setup.config,
        cred,
        upper,
        layers,
        systems: systems.0,
        no_xattr,
        traps: traps.0,
        inodes: SpinLock::new(SortedMap::default()),
        counter: AtomicU64::new(1),
    };
    finish(request, try_arc(fs)?, Stacked { depth, uuid }, granularity, writable)
}

/// Whether nothing in any layer is forbidden to `cred`.
fn is_almighty(cred: &Credentials) -> bool {
    cred.fsuid.0 == 0 && cred.capable(Cap::DacOverride) && cred.capable(Cap::DacReadSearch)
}

/// Makes super block and root.
fn finish(
    request: &MountRequest<'_>,
    fs: Arc<Fs>,
    stacked: Stacked,
    granularity: u32,
    writable: bool,
) -> Result<Arc<SuperBlock>> {
    let mut flags = request.flags | SB_POSIXACL;
    if !writable {
        flags |= SB_RDONLY;
    }
    let info = SuperInfo {
        magic: u64::from(raw::OVERLAYFS_SUPER_MAGIC),
        block_size: arch::addr::PAGE_SIZE as u32,
        max_bytes: MAX_LFS_FILESIZE,
        time_granularity_ns: granularity,
        flags,
        dev: None,
    };
    let ops = try_box(Super(fs.clone()))?;
    let sb = SuperBlock::new_stacked(&crate::OVERLAY, info, request.user_ns.clone(), ops, stacked)?;
    let mut found = Found::default();
    for (layer, root) in fs.layers.iter().map(|layer| layer.root.clone()).enumerate() {
        found.lower.try_push(Lower { layer, dentry: root })?;
    }
    // Whether there are whiteouts that are attributes is otherwise seen when a directory is looked up.
    for layer in fs.layers.iter().rev().skip(1) {
        if let Some(root) = layer.root.inode()
            && fs.holds_xwhiteouts(root)?
        {
            layer.xwhiteouts.store(true, Ordering::Relaxed);
        }
    }
    found.upper = fs.upper.as_ref().map(|upper| upper.root.clone());
    let root = fs.inode(&sb, found, None)?;
    sb.set_root(root)?;
    Ok(sb)
}

/// The upper layer as it is before anything was made in the work directory.
fn prepare_upper(ctx: &LookupContext<'_>, place: &Path, base: &Path, traps: &mut Traps) -> Result<Upper> {
    if place.mnt.is_read_only() || place.dentry.sb().is_read_only() {
        log::error!("overlayfs: upper fs is r/o, try multi-lower layers mount");
        return Err(Errno::EINVAL);
    }
    traps.add(&place.dentry, "upperdir")?;
    let kept = place.mnt.flags() & !mnt_flags::ATIME;
    let mnt = private_copy(ctx, place, kept).inspect_err(|_| {
        log::error!("overlayfs: failed to clone upperpath");
    })?;
    let upper = Upper {
        mnt,
        root: place.dentry.clone(),
        base: base.dentry.clone(),
        work: None,
        marked: [AtomicBool::new(mark(&place.dentry, "upperdir")?), AtomicBool::new(false)],
        tmpfile: false,
    };
    if !Arc::ptr_eq(&place.mnt, &base.mnt) {
        log::error!("overlayfs: workdir and upperdir must reside under the same mount");
        return Err(Errno::EINVAL);
    }
    if base.dentry.is_below(&place.dentry) || place.dentry.is_below(&base.dentry) {
        log::error!("overlayfs: workdir and upperdir must be separate subtrees");
        return Err(Errno::EINVAL);
    }
    let [_, base_marked] = &upper.marked;
    base_marked.store(mark(&base.dentry, "workdir")?, Ordering::Relaxed);
    traps.add(&base.dentry, "workdir")?;
    Ok(upper)
}

/// What identifies the file system, kept with the upper layer.
fn identify(cred: &Credentials, config: &mut Config, upper: &Upper, no_xattr: bool) -> Result<[u8; 16]> {
    if !matches!(config.uuid, Uuid::Auto | Uuid::On) {
        return Ok([0; 16]);
    }
    let trusted = !config.userxattr && !cred.capable(Cap::SysAdmin);
    if no_xattr || trusted || upper.work.is_none() {
        config.uuid = Uuid::Null;
        return Ok([0; 16]);
    }
    let root = upper.root.inode().ok_or(Errno::ENOENT)?;
    let prefix = if config.userxattr { "user.overlay." } else { "trusted.overlay." };
    let name = |which: &str| mm::try_format(format_args!("{prefix}{which}"));
    match root.ops().getxattr(root, name(xattr::UUID)?.as_bytes()) {
        Ok(value) => {
            if let Ok(uuid) = <[u8; 16]>::try_from(value.as_slice()) {
                config.uuid = Uuid::On;
                return Ok(uuid);
            }
        }
        Err(Errno::ENODATA) => {}
        Err(error) => return no_uuid(config, error),
    }
    // An upper layer that was used without one stays without.
    if config.uuid == Uuid::Auto && root.ops().getxattr(root, name(xattr::IMPURE)?.as_bytes()).is_ok() {
        config.uuid = Uuid::Null;
        return Ok([0; 16]);
    }
    config.uuid = Uuid::On;
    let uuid = random_uuid();
    upper.mnt.get_write()?;
    let set = {
        let _exclusive = root.rwsem.write();
        vfs::xattr::set_locked(root, name(xattr::UUID)?.as_bytes(), &uuid, 0)
    };
    upper.mnt.put_write();
    match set {
        Ok(()) => Ok(uuid),
        Err(error) => no_uuid(config, error),
    }
}

fn no_uuid(config: &mut Config, error: Errno) -> Result<[u8; 16]> {
    log::warn!("overlayfs: failed to store uuid ({error}); falling back to uuid=null.");
    config.uuid = Uuid::Null;
    Ok([0; 16])
}

/// A random UUID (RFC 9562, version 4), from what the CPU has to offer. It must be another one each time, not a secret.
fn random_uuid() -> [u8; 16] {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut uuid = [0; 16];
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut state = vfs::time::now_coarse().sec as u64 ^ count.rotate_left(32);
    for half in uuid.as_chunks_mut::<8>().0 {
        state ^= arch::random::hw_seed().unwrap_or_else(arch::random::jitter);
        // The finaliser of splitmix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        *half = (mixed ^ mixed >> 31).to_le_bytes();
    }
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    uuid
}
