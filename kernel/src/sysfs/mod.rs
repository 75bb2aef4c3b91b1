//! The content of `/sys`: `sysfs(5)`.
//!
//! The frame is `kernfs`. A device is added with [`add_device`], which makes its directory, its links in
//! `/sys/class` and `/sys/dev`, and its `uevent`; the rest is declared here by subject.
//!
//! | file | what it owns |
//! |---|---|
//! | [`device`] | devices with a number, and the directories they appear in |
//! | [`block`] | block devices |
//! | [`cpu`] | `/sys/devices/system/cpu` |
//! | [`node`] | `/sys/devices/system/node` |
//! | [`memory`] | `/sys/devices/system/memory` |
//! | [`system`] | `/sys/kernel`, `/sys/power` and the directories that others fill |

use alloc::sync::Arc;
use core::fmt::{Arguments, Write};

use abi::{Errno, Result};
use kernfs::{Access, Context, Entry, KernFs, Node, Show, StaticDir, Text, next_ino};
use sync::Lazy;
use vfs::fs_context::ParamError;
use vfs::super_block::MountRequest;

mod block;
mod cpu;
pub mod device;
mod memory;
mod node;
mod system;

pub use device::{Device, add_device};

/// `SYSFS_MAGIC`.
const MAGIC: u64 = 0x6265_6572;
/// What `stat(2)` says of every file.
const FILE_SIZE: u64 = 4096;

static TOP: Lazy<Arc<StaticDir>> = Lazy::new(|| StaticDir::with_access(Access::Bits));
static SYSFS: KernFs = KernFs::single("sysfs", MAGIC, mount).with_params(|_, _| Err(ParamError::Unknown));

/// The root directory.
pub fn top() -> &'static Arc<StaticDir> {
    &TOP
}

fn mount(_: &MountRequest<'_>) -> kernfs::RootOf {
    Ok((TOP.clone(), None))
}

/// The directory at `path` below the root, made as needed.
pub fn directory(path: &str) -> Arc<StaticDir> {
    path.split('/').filter(|name| !name.is_empty()).fold(TOP.clone(), |dir, name| dir.mkdir_mode(name, 0o755))
}

/// Takes what a user wrote.
type Store = fn(&[u8]) -> Result<()>;

/// A file whose text a function makes.
struct Attribute<F> {
    show: F,
    store: Option<Store>,
}

impl<F: Fn(&mut Text) -> Result<()> + Send + Sync> Show for Attribute<F> {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        (self.show)(out)
    }

    fn store(&self, _: &Context<'_>, data: &[u8]) -> Result<()> {
        self.store.ok_or(Errno::EIO)?(data)
    }
}

/// Adds a file that can be read.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub fn add_file(dir: &StaticDir, name: &str, show: impl Fn(&mut Text) -> Result<()> + Send + Sync + 'static) {
    let node = Node::Text(Arc::new(Attribute { show, store: None }));
    dir.add_entry(name, Entry::new(node, next_ino(), 0o444).sized(FILE_SIZE));
}

/// Adds a file that root can also write.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub fn add_writable(
    dir: &StaticDir,
    name: &str,
    show: impl Fn(&mut Text) -> Result<()> + Send + Sync + 'static,
    store: fn(&[u8]) -> Result<()>,
) {
    let node = Node::Text(Arc::new(Attribute { show, store: Some(store) }));
    dir.add_entry(name, Entry::new(node, next_ino(), 0o644).sized(FILE_SIZE));
}

/// Adds a file with a text that never changes.
pub fn add_constant(dir: &StaticDir, name: &str, text: impl Into<alloc::string::String>) {
    let text: alloc::string::String = text.into();
    add_file(dir, name, move |out| {
        out.push(text.as_bytes());
        out.push(b"\n");
        Ok(())
    });
}

/// Writes formatted text.
fn print(out: &mut Text, arguments: Arguments<'_>) -> Result<()> {
    out.write_fmt(arguments).map_err(|_| Errno::ENOMEM)
}

/// Declares every file and makes the type known.
///
/// # Errors
/// `EBUSY` if something else is called `sysfs`.
pub fn init() -> Result<()> {
    system::init();
    cpu::init();
    node::init();
    memory::init();
    device::init();
    block::init()?;
    vfs::fs_type::register_filesystem(&SYSFS)
}
