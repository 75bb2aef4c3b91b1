//! The content of debugfs: `Documentation/filesystems/debugfs.rst`.
//!
//! What is in it is for people who look for mistakes in the kernel; programs do not depend on it. All of it but the root directory is in
//! debug builds only.
//!
//! | file | what it owns |
//! |---|---|
//! | [`fault`] | `failslab`, `fail_page_alloc` |
//! | [`kmemleak`] | `kmemleak` |
//! | [`provoke`] | `provoke-crash` |

use alloc::sync::Arc;

use abi::Result;
use kernfs::{Access, KernFs, StaticDir};
use sync::Lazy;
use vfs::super_block::MountRequest;

#[cfg(debug_assertions)]
pub mod fault;
#[cfg(all(debug_assertions, target_os = "none"))]
mod kmemleak;
#[cfg(debug_assertions)]
pub mod provoke;

/// `DEBUGFS_MAGIC`.
const MAGIC: u64 = 0x6462_6720;

static TOP: Lazy<Arc<StaticDir>> = Lazy::new(|| StaticDir::with_access(Access::Mode));
static DEBUGFS: KernFs = KernFs::single("debugfs", MAGIC, mount).for_administrators(0o700);

fn mount(_: &MountRequest<'_>) -> kernfs::RootOf {
    Ok((TOP.clone(), None))
}

/// Registers the type and declares the files.
///
/// # Errors
/// `ENOMEM`.
pub fn init() -> Result<()> {
    #[cfg(debug_assertions)]
    {
        fault::init(&TOP);
        provoke::init(&TOP);
        #[cfg(target_os = "none")]
        kmemleak::init(&TOP);
    }
    vfs::fs_type::register_filesystem(&DEBUGFS)
}
