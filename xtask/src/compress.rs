//! The compressions an initramfs may have, made with the usual tools as Linux's kernel build does.

use crate::{proc, setup};
use anyhow::Result;
use std::process::Command;

/// A compression of an initramfs archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// gzip
    Gzip,
    /// Zstandard
    Zstd,
    /// xz with the one check the kernel's decoder knows
    Xz,
    /// LZ4 in its legacy frame
    Lz4,
}

/// Compresses `bytes`.
pub fn compress(bytes: &[u8], compression: Compression) -> Result<Vec<u8>> {
    let (program, package, args): (_, _, &[&str]) = match compression {
        Compression::Gzip => ("gzip", "gzip", &["-n", "-9", "-c"]),
        Compression::Zstd => ("zstd", "zstd", &["-q", "-12", "-c"]),
        Compression::Xz => ("xz", "xz-utils", &["--check=crc32", "-6", "-c"]),
        Compression::Lz4 => ("lz4", "lz4", &["-l", "-9", "-c"]),
    };
    setup::program(program, package)?;
    proc::filter(Command::new(program).args(args), bytes)
}
