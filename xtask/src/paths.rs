//! Where things are: the repository, the target directory, per-architecture output.

use crate::arch::Arch;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Directory for what xtask makes for `arch` (images, initramfs archives, logs). Created.
pub fn output(arch: Arch) -> Result<PathBuf> {
    directory(target().join("karst").join(arch.name()))
}

/// Directory for unpacked Debian packages. Created.
pub fn downloads() -> Result<PathBuf> {
    directory(target().join("debian"))
}

/// Creates `path` with its parents and returns it.
pub fn directory(path: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// Writes `bytes` to `path` unless it already holds exactly them, so that time stamps stay put.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
