//! Mount options: `size= nr_blocks= nr_inodes= mode= uid= gid= huge= inode32 inode64 noswap`.

use core::fmt;

use abi::creds::{Gid, Uid};
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use vfs::fs_context::{ParamError, ParamResult};
use vfs::super_block::parse_options;

/// Options of one tmpfs.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// In pages; none for no limit.
    pub(crate) max_blocks: Option<u64>,
    pub(crate) max_inodes: Option<u64>,
    pub(crate) mode: u32,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    inode64: bool,
    noswap: bool,
    default_blocks: u64,
    default_inodes: u64,
}

impl Options {
    /// Half of the memory, as many inodes as that has pages.
    pub(crate) fn default_for_memory() -> Self {
        let pages = mm::stats::meminfo().total as u64;
        let half = (pages / 2).max(1);
        Self {
            max_blocks: Some(half),
            max_inodes: Some(half),
            mode: 0o1777,
            uid: Uid(0),
            gid: Gid(0),
            inode64: true,
            noswap: false,
            default_blocks: half,
            default_inodes: half,
        }
    }

    /// No limits.
    pub(crate) fn unlimited(mode: u32) -> Self {
        Self { max_blocks: None, max_inodes: None, mode, ..Self::default_for_memory() }
    }

    /// `mode=`, in octal.
    pub(crate) fn set_mode(&mut self, value: Option<&str>) -> Result<()> {
        self.mode = u32::from_str_radix(value.ok_or(Errno::EINVAL)?, 8).map_err(|_| Errno::EINVAL)? & 0o7777;
        Ok(())
    }

    /// `base` changed by the option string.
    pub(crate) fn parse(text: &[u8], base: Self) -> Result<Self> {
        let mut options = base;
        for (key, value) in parse_options(text) {
            options.set(key, value).map_err(|_| Errno::EINVAL)?;
        }
        Ok(options)
    }

    /// Changes one option.
    pub(crate) fn set(&mut self, key: &str, value: Option<&str>) -> ParamResult {
        let bad = |_| ParamError::BadValue;
        let text = || value.ok_or(ParamError::BadValue);
        let flag = || if value.is_some() { Err(ParamError::UnexpectedValue) } else { Ok(()) };
        match key {
            "size" => self.max_blocks = size_in_pages(text()?).map_err(bad)?,
            "nr_blocks" => self.max_blocks = limit(memparse(text()?).map_err(bad)?),
            "nr_inodes" => self.max_inodes = limit(memparse(text()?).map_err(bad)?),
            "mode" => self.set_mode(value).map_err(bad)?,
            "uid" => self.uid = Uid(text()?.parse().map_err(|_| ParamError::BadValue)?),
            "gid" => self.gid = Gid(text()?.parse().map_err(|_| ParamError::BadValue)?),
            "inode64" => flag().map(|()| self.inode64 = true)?,
            "inode32" => flag().map(|()| self.inode64 = false)?,
            "noswap" => flag().map(|()| self.noswap = true)?,
            // Large folios are a hint; small ones satisfy it.
            "huge" if matches!(text()?, "never" | "advise" | "always" | "within_size") => {}
            // NUMA policies need `set_mempolicy`'s parser; "default" is what there is.
            "mpol" if text()? == "default" => {}
            "huge" | "mpol" => return Err(ParamError::BadValue),
            _ => return Err(ParamError::Unknown),
        }
        Ok(())
    }

    /// As `/proc/mounts` shows them: what differs from the default.
    pub(crate) fn show(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.max_blocks != Some(self.default_blocks) {
            let pages = self.max_blocks.unwrap_or(0);
            write!(out, ",size={}k", pages.saturating_mul(PAGE_SIZE as u64 / 1024))?;
        }
        if self.max_inodes != Some(self.default_inodes) {
            write!(out, ",nr_inodes={}", self.max_inodes.unwrap_or(0))?;
        }
        if self.mode != 0o1777 {
            write!(out, ",mode={:03o}", self.mode)?;
        }
        if self.uid != Uid(0) {
            write!(out, ",uid={}", self.uid.0)?;
        }
        if self.gid != Gid(0) {
            write!(out, ",gid={}", self.gid.0)?;
        }
        out.write_str(if self.inode64 { ",inode64" } else { ",inode32" })?;
        if self.noswap {
            out.write_str(",noswap")?;
        }
        Ok(())
    }
}

fn limit(count: u64) -> Option<u64> {
    (count != 0).then_some(count)
}

/// A size with a suffix, or a percentage of the memory.
fn size_in_pages(text: &str) -> Result<Option<u64>> {
    let bytes = match text.strip_suffix('%') {
        Some(percent) => {
            let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
            let pages = mm::stats::meminfo().total as u64;
            (pages.saturating_mul(PAGE_SIZE as u64) / 100).saturating_mul(percent)
        }
        None => memparse(text)?,
    };
    Ok(limit(bytes.div_ceil(PAGE_SIZE as u64)))
}

/// A number (decimal, octal or hexadecimal) with a suffix k, m, g, t, p or e.
pub(crate) fn memparse(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'k') => (text.get(..text.len() - 1), 10),
        Some(b'm') => (text.get(..text.len() - 1), 20),
        Some(b'g') => (text.get(..text.len() - 1), 30),
        Some(b't') => (text.get(..text.len() - 1), 40),
        Some(b'p') => (text.get(..text.len() - 1), 50),
        Some(b'e') if !text.starts_with("0x") => (text.get(..text.len() - 1), 60),
        _ => (Some(text), 0),
    };
    let digits = digits.ok_or(Errno::EINVAL)?;
    let number = if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    let number = number.map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}
