//! Block devices: `/sys/block`, `/sys/class/block`, `/sys/dev/block`, and a directory for each
//! (Linux's `Documentation/ABI/stable/sysfs-block`).
//!
//! | file | what it owns |
//! |---|---|
//! | [`tree`] | directories and links |
//! | [`device`] | files of disks and partitions |
//! | [`queue`] | files of a disk's queue |
//!
//! Directories are not kept anywhere: they follow the registry of the block layer. This is also where nodes in `/dev` come from.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::Result;
use block::BlockDevice;
use block::disk::{self, Event, Observer};
use kernfs::{Entry, Node};
use tmpfs::devtmpfs::{blk, create_node, delete_node};

use super::directory;

mod device;
mod queue;
mod tree;

/// Changes whenever a device comes, goes, or gets other files.
static REVISION: AtomicUsize = AtomicUsize::new(1);

struct Visible;

impl Observer for Visible {
    fn added(&self, device: &Arc<BlockDevice>) {
        REVISION.fetch_add(1, Ordering::AcqRel);
        if let (Some(parent), None) = (device.disk().parent(), device.partition())
            && let Err(error) = tree::add_below(parent)
        {
            log::warn!("{}: no directory in sysfs ({error:?})", device.name());
        }
        if let Err(error) = create_node(device.name(), blk(0o600), device.dev()) {
            log::warn!("{}: no node in /dev ({error:?})", device.name());
        }
    }

    fn removed(&self, device: &Arc<BlockDevice>) {
        REVISION.fetch_add(1, Ordering::AcqRel);
        let _ = delete_node(device.name());
    }

    fn changed(&self, _: &Arc<BlockDevice>, _: Event) {
        REVISION.fetch_add(1, Ordering::AcqRel);
    }
}

/// Makes block devices visible, those that come later as well.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn init() -> Result<()> {
    let top = super::top();
    for (parent, name, dir) in [
        ("", "block", tree::Dir::Disks),
        ("class", "block", tree::Dir::Devices),
        ("dev", "block", tree::Dir::Numbers),
        ("devices/virtual", "block", tree::Dir::Virtual),
    ] {
        let dir = mm::try_arc(dir)?;
        let entry = Entry::new(Node::Dir(dir), kernfs::next_ino(), 0o755);
        if parent.is_empty() {
            top.add_entry(name, entry);
        } else {
            directory(parent).add_entry(name, entry);
        }
    }
    disk::set_observer(&Visible);
    Ok(())
}
