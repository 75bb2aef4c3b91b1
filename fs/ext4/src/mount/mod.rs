//! Mounting: from a device to a super block.
//!
//! | file | what |
//! |---|---|
//! | this one | the order of it all (`ext4_fill_super`) |
//! | [`device`] | the types `ext4`, `ext3` and `ext2`, and the device that is claimed for them |
//! | [`features`] | whether it can be mounted at all, and for writing |
//! | [`groups`] | group descriptors, read and checked |
//! | [`super_ops`] | what the VFS asks of the mounted file system |

pub mod device;
pub mod features;
pub mod groups;
pub mod super_ops;

use alloc::string::String;
use alloc::sync::Arc;

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use block::BlockDevice;
use buffer::BufferCache;
use mm::fallible::{try_arc, try_box, try_format};
use sync::Once;
use vfs::inode_table::InodeTable;
use vfs::super_block::{SB_POSIXACL, SB_RDONLY, Stacked, SuperInfo};
use vfs::{FsType, SuperBlock, UserNamespace};

use crate::disk::at;
use crate::disk::checksum::{self, Checksums};
use crate::disk::features::{Compat, Incompat, RoCompat};
use crate::disk::inode::ROOT_INO;
use crate::disk::super_block::{self as disk, REV_GOOD_OLD};
use crate::error::{EFSBADCRC, EFSCORRUPTED, Errors, there};
use crate::fs::{Fs, HashInfo};
use crate::inode::load::Purpose;
use crate::layout::{Layout, block_bits};
use crate::messages::Messages;
use crate::options::{DataMode, Dax, Options};

/// `f_type` of ext2, ext3 and ext4.
pub const MAGIC: u64 = 0xef53;

/// As what it is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
}

/// What is to be mounted, and how.
pub struct Mounting<'a> {
    /// The device.
    pub device: Arc<BlockDevice>,
    /// Its name.
    pub name: &'a str,
    /// Its number.
    pub dev: DevId,
    /// As what.
    pub kind: Kind,
    /// `SB_*`.
    pub flags: u32,
    /// Options.
    pub options: &'a [u8],
}

/// The super block as it is on the device, and the cache that it is in.
struct Found {
    cache: Arc<BufferCache>,
    sb: alloc::boxed::Box<disk::SuperBlock>,
    block: u64,
    offset: usize,
}

fn read_super(
    cache: &BufferCache,
    byte: u64,
    messages: &Messages<'_>,
) -> Result<(disk::SuperBlock, u64, usize)> {
    let size = cache.block_size() as u64;
    let (block, offset) = (byte / size, (byte % size) as usize);
    let buffer = cache.read(block).inspect_err(|_| {
        messages.error(format_args!("unable to read superblock"));
    })?;
    let data = buffer.data();
    Ok((*at(data.bytes(), offset).ok_or(Errno::EINVAL)?, block, offset))
}

/// Finds the super block: first with the smallest blocks, then with those that it names.
fn find_super(device: &Arc<BlockDevice>, sb_at: u64, messages: &Messages<'_>) -> Result<Found> {
    let smallest = device.limits().logical_block_size.max(1024);
    let cache = BufferCache::new(device.clone(), smallest).inspect_err(|_| {
        messages.error(format_args!("unable to set blocksize"));
    })?;
    let byte = sb_at * 1024;
    let (sb, block, offset) = read_super(&cache, byte, messages)?;
    if sb.magic.get() != disk::MAGIC {
        if !messages.silent {
            messages.error(format_args!("VFS: Can't find ext4 filesystem"));
        }
        return Err(Errno::EINVAL);
    }
    let bits = block_bits(&sb, messages)?;
    if 1 << bits == cache.block_size() {
        return Ok(Found { cache, sb: try_box(sb)?, block, offset });
    }
    let cache = BufferCache::new(device.clone(), 1 << bits).map_err(|error| match error {
        Errno::EINVAL => messages.invalid(format_args!("bad block size {}", 1u32 << bits)),
        other => other,
    })?;
    let (sb, block, offset) = read_super(&cache, byte, messages)?;
    if sb.magic.get() != disk::MAGIC {
        return Err(messages.invalid(format_args!("Magic mismatch, very weird!")));
    }
    Ok(Found { cache, sb: try_box(sb)?, block, offset })
}

fn check_checksum(sb: &disk::SuperBlock, messages: &Messages<'_>) -> Result<()> {
    use zerocopy::IntoBytes;
    if !sb.ro_compat().contains(RoCompat::METADATA_CSUM) {
        return Ok(());
    }
    if sb.checksum_type != checksum::TYPE_CRC32C {
        let text = format_args!("VFS: Found ext4 filesystem with unknown checksum algorithm.");
        return Err(messages.invalid(text));
    }
    if checksum::super_block(sb.as_bytes()) != sb.checksum.get() {
        messages
            .error(format_args!("VFS: Found ext4 filesystem with invalid superblock checksum.  Run e2fsck?"));
        return Err(EFSBADCRC);
    }
    Ok(())
}

/// Reads and checks everything that the whole file system needs. Returns it, and whether it is read-only.
///
/// # Errors
/// Linux's, with its messages in the log.
pub fn open(mounting: &Mounting<'_>) -> Result<(Arc<Fs>, u32)> {
    let silent = mounting.flags & raw::MS_SILENT != 0;
    let messages = Messages { device: mounting.name, silent };
    // Where the super block is must be known first.
    let sb_at = Options::blank().parse(mounting.options)?.sb;
    let Found { cache, sb, block, offset } = find_super(&mounting.device, sb_at.into(), &messages)?;
    check_checksum(&sb, &messages)?;
    let page_blocks = cache.block_size() == arch::addr::PAGE_SIZE;
    let defaults = Options::of_super_block(&sb, page_blocks, mounting.kind != Kind::Ext4);
    let options = of_super_block(&sb, defaults.clone(), &messages).parse(mounting.options)?;

    let mut flags = mounting.flags & !SB_POSIXACL;
    if options.acl {
        flags |= SB_POSIXACL;
    }
    if mounting.device.is_read_only() && flags & SB_RDONLY == 0 {
        messages.error(format_args!("write access unavailable, device is read-only"));
        return Err(Errno::EROFS);
    }
    if sb.rev_level.get() == REV_GOOD_OLD
        && (sb.feature_compat.get(), sb.feature_incompat.get(), sb.feature_ro_compat.get()) != (0, 0, 0)
    {
        messages.warning(format_args!("feature flags set on rev 0 fs, running e2fsck is recommended"));
    }
    flags = features::check(&sb, mounting.kind, flags, &messages)?;
    check_options(&sb, &options, &messages)?;

    let bytes = mounting.device.sectors().saturating_mul(512);
    let layout = Layout::new(&sb, block, bytes, &messages)?;
    let reserved = u32::from(sb.reserved_gdt_blocks.get());
    if reserved as usize > layout.block_size() / 4 {
        return Err(
            messages.invalid(format_args!("Number of reserved GDT blocks insanely large: {reserved}"))
        );
    }
    let checksums = Checksums::new(&sb);
    let read_only = flags & SB_RDONLY != 0;
    let groups = groups::read(&cache, &layout, &checksums, &sb, read_only, &messages)?;
    let recover = sb.incompat().contains(Incompat::RECOVER);
    check_recovery(&sb, &options, recover, read_only, &messages)?;

    let buffer = cache.get(block)?;
    let fs = try_arc(Fs {
        name: try_format(format_args!("{}", mounting.name))?,
        dev: mounting.dev,
        device: mounting.device.clone(),
        overhead: groups::overhead(&sb, &layout),
        layout,
        checksums,
        sb_buffer: (buffer, offset),
        compat: sb.compat(),
        incompat: sb.incompat(),
        ro_compat: sb.ro_compat(),
        hash: HashInfo::new(&sb),
        sb,
        cache,
        descs: groups,
        errors: Errors::default(),
        inodes: InodeTable::new()?,
        options: SpinLock::new(try_arc(options)?),
        default_options: defaults,
        vfs: Once::new(),
    })?;
    Ok((fs, flags))
}

/// Options in the super block itself (`tune2fs -E mount_opts=`).
fn of_super_block(sb: &disk::SuperBlock, defaults: Options, messages: &Messages<'_>) -> Options {
    let len = sb.mount_opts.iter().position(|byte| *byte == 0).unwrap_or(sb.mount_opts.len());
    let text = sb.mount_opts.get(..len).unwrap_or_default();
    match defaults.clone().parse(text) {
        Ok(options) => options,
        Err(_) => {
            messages
                .warning(format_args!("failed to parse options in superblock: {}", vfs::util::Lossy(text)));
            defaults
        }
    }
}

/// Options that do not go with the file system.
fn check_options(sb: &disk::SuperBlock, options: &Options, messages: &Messages<'_>) -> Result<()> {
    if options.dax == Dax::Always {
        return Err(messages.invalid(format_args!("DAX unsupported by block device.")));
    }
    if options.quotas.project && !sb.ro_compat().contains(RoCompat::PROJECT) {
        return Err(messages.invalid(format_args!(
            "Project quota feature not enabled. Cannot enable project quota enforcement."
        )));
    }
    if options.data == DataMode::Journal && options.data_given {
        messages.info(format_args!("Warning: mounting with data=journal disables delayed allocation, dioread_nolock, O_DIRECT and fast_commit support!"));
    }
    let journal = sb.compat().contains(Compat::HAS_JOURNAL) && !options.noload;
    if !journal {
        let what = if options.journal_async_commit {
            "journal_async_commit"
        } else if options.journal_checksum {
            "journal_checksum"
        } else if options.commit_given && options.commit != crate::options::COMMIT_SECONDS {
            return Err(messages.invalid(format_args!(
                "can't mount with commit={}, fs mounted w/o journal",
                options.commit
            )));
        } else if options.data_given {
            "data="
        } else {
            return Ok(());
        };
        return Err(messages.invalid(format_args!("can't mount with {what}, fs mounted w/o journal")));
    }
    Ok(())
}

/// What was under way when the machine stopped: there is no journal here yet that could finish it.
fn check_recovery(
    sb: &disk::SuperBlock,
    options: &Options,
    recover: bool,
    read_only: bool,
    messages: &Messages<'_>,
) -> Result<()> {
    if !recover || !sb.compat().contains(Compat::HAS_JOURNAL) {
        return Ok(());
    }
    if options.noload {
        if !read_only {
            return Err(messages
                .invalid(format_args!("required journal recovery suppressed and not mounted read-only")));
        }
        return Ok(());
    }
    messages.info(format_args!("INFO: recovery required on readonly filesystem"));
    messages.error(format_args!("write access unavailable, cannot proceed (try mounting with noload)"));
    Err(Errno::EROFS)
}

/// Makes the super block of an opened file system, with its root. `hold`: what is to be kept as long as it is mounted.
///
/// # Errors
/// `EUCLEAN`, `EBADMSG`: its root is damaged; `EIO`, `ENOMEM`.
pub fn fill(
    fs_type: &'static dyn FsType,
    fs: Arc<Fs>,
    flags: u32,
    user_ns: Arc<UserNamespace>,
    hold: Option<alloc::boxed::Box<dyn core::any::Any + Send + Sync>>,
) -> Result<Arc<SuperBlock>> {
    let info = SuperInfo {
        magic: MAGIC,
        block_size: fs.layout.block_size() as u32,
        max_bytes: fs.layout.max_bytes.max(fs.layout.max_bytes_mapped),
        time_granularity_ns: if fs.layout.inode_size > 128 { 1 } else { 1_000_000_000 },
        flags,
        dev: Some(fs.dev),
    };
    let ops = super_ops::Ext4Super::new(fs.clone(), hold);
    let uuid = Stacked { uuid: fs.sb.uuid, ..Stacked::default() };
    let sb = SuperBlock::new_stacked(fs_type, info, user_ns, try_box(ops)?, uuid)?;
    let _ = fs.vfs.set(Arc::downgrade(&sb));
    let messages = Messages { device: &fs.name, silent: false };
    let root = fs.iget(&sb, ROOT_INO, Purpose::Special).inspect_err(|_| {
        messages.error(format_args!("get root inode failed"));
    })?;
    let inline = crate::inode::node(&root)?.is_inline();
    if !root.is_dir() || root.blocks() == 0 && !inline || root.size() == 0 {
        messages.error(format_args!("corrupt root inode, run fsck"));
        return Err(EFSCORRUPTED);
    }
    sb.set_root(root)?;
    fs.say_mounted(flags)?;
    Ok(sb)
}

/// A UUID, as text.
pub(crate) fn uuid_text(uuid: &[u8; 16]) -> Result<String> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = uuid;
    Ok(try_format(format_args!(
        "{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{f:02x}-{g:02x}{h:02x}-{i:02x}{j:02x}-\
         {k:02x}{l:02x}{m:02x}{n:02x}{o:02x}{p:02x}"
    ))?)
}

impl Fs {
    fn say_mounted(&self, flags: u32) -> Result<()> {
        let options = self.options();
        let journal = self.compat.contains(Compat::HAS_JOURNAL) && !options.noload;
        let mode = match options.data {
            _ if !journal => "out journal",
            DataMode::Journal => " journalled data mode",
            DataMode::Ordered => " ordered data mode",
            DataMode::Writeback => " writeback data mode",
        };
        let access = if flags & SB_RDONLY != 0 { "ro" } else { "r/w" };
        let uuid = uuid_text(&self.sb.uuid)?;
        let messages = Messages { device: &self.name, silent: false };
        messages.info(format_args!("mounted filesystem {uuid} {access} with{mode}. Quota mode: none."));
        Ok(())
    }

    /// The super block as it is in the cache now.
    ///
    /// # Errors
    /// `EUCLEAN`: it is not there.
    pub fn super_block(&self) -> Result<disk::SuperBlock> {
        let (buffer, offset) = &self.sb_buffer;
        Ok(*there(at(buffer.data().bytes(), *offset))?)
    }
}
