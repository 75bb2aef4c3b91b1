//! Mount options: `ext4(5)`. Their defaults come from the super block.

use alloc::borrow::Cow;
use core::fmt;

use abi::{Errno, Result};
use vfs::fs_context::{ParamError, ParamResult};
use vfs::super_block::parse_options;

use crate::disk::super_block::{self as disk, SuperBlock, default_opts};

/// `errors=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OnError {
    Continue,
    ReadOnly,
    Panic,
}

/// `data=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DataMode {
    Journal,
    Ordered,
    Writeback,
}

/// `dax=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dax {
    /// Not said: as the inode says.
    Default,
    Always,
    Never,
    Inode,
}

/// Which quotas are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Quotas {
    pub quota: bool,
    pub user: bool,
    pub group: bool,
    pub project: bool,
}

/// Default of `commit=`, in seconds.
pub const COMMIT_SECONDS: u32 = 5;
/// Default of `max_batch_time=`, in microseconds.
const MAX_BATCH_TIME: u32 = 15_000;
/// Default of `inode_readahead_blks=`.
const INODE_READAHEAD: u32 = 32;
/// Default of `init_itable=`.
const INIT_ITABLE: u32 = 10;

/// The options of a mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the manual page")]
pub struct Options {
    pub errors: OnError,
    pub data: DataMode,
    /// `data=` was given.
    pub data_given: bool,
    pub data_err_abort: bool,
    pub minix_df: bool,
    pub grpid: bool,
    pub block_validity: bool,
    pub dioread_nolock: bool,
    pub discard: bool,
    pub delalloc: bool,
    pub warn_on_error: bool,
    pub journal_checksum: bool,
    pub journal_async_commit: bool,
    /// `noload`, `norecovery`.
    pub noload: bool,
    pub abort: bool,
    pub barrier: bool,
    pub auto_da_alloc: bool,
    /// The manual page's `init_itable`, with its multiple of the wait; none for `noinit_itable`.
    pub init_itable: Option<u32>,
    pub dax: Dax,
    pub user_xattr: bool,
    pub acl: bool,
    pub uid16: bool,
    pub debug: bool,
    pub mbcache: bool,
    pub prefetch_block_bitmaps: bool,
    pub mb_optimize_scan: Option<i32>,
    pub quotas: Quotas,
    pub resuid: u32,
    pub resgid: u32,
    /// `sb=`, in blocks of 1 KiB.
    pub sb: u32,
    /// In seconds.
    pub commit: u32,
    pub commit_given: bool,
    /// In microseconds.
    pub min_batch_time: u32,
    /// In microseconds.
    pub max_batch_time: u32,
    /// In blocks.
    pub stripe: u32,
    pub inode_readahead_blks: u32,
    pub journal_ioprio: Option<u32>,
    pub journal_dev: Option<u32>,
    pub max_dir_size_kb: u32,
    pub debug_want_extra_isize: Option<u32>,
    pub inlinecrypt: bool,
}

impl Options {
    /// Without a super block: what options are checked against when they are given.
    pub fn blank() -> Self {
        Self {
            errors: OnError::Continue,
            data: DataMode::Ordered,
            data_given: false,
            data_err_abort: false,
            minix_df: false,
            grpid: false,
            block_validity: true,
            dioread_nolock: false,
            discard: false,
            delalloc: true,
            warn_on_error: false,
            journal_checksum: false,
            journal_async_commit: false,
            noload: false,
            abort: false,
            barrier: true,
            auto_da_alloc: true,
            init_itable: Some(INIT_ITABLE),
            dax: Dax::Default,
            user_xattr: true,
            acl: true,
            uid16: false,
            debug: false,
            mbcache: true,
            prefetch_block_bitmaps: true,
            mb_optimize_scan: None,
            quotas: Quotas::default(),
            resuid: 0,
            resgid: 0,
            sb: 1,
            commit: COMMIT_SECONDS,
            commit_given: false,
            min_batch_time: 0,
            max_batch_time: MAX_BATCH_TIME,
            stripe: 0,
            inode_readahead_blks: INODE_READAHEAD,
            journal_ioprio: None,
            journal_dev: None,
            max_dir_size_kb: 0,
            debug_want_extra_isize: None,
            inlinecrypt: false,
        }
    }

    /// What a super block has as defaults. `old`: mounted as ext2 or ext3, which do not delay allocation.
    pub fn of_super_block(sb: &SuperBlock, page_blocks: bool, old: bool) -> Self {
        let flags = sb.default_mount_opts.get();
        let has = |flag| flags & flag != 0;
        Self {
            errors: match sb.errors.get() {
                disk::ERRORS_PANIC => OnError::Panic,
                disk::ERRORS_CONTINUE => OnError::Continue,
                _ => OnError::ReadOnly,
            },
            data: match flags & default_opts::JOURNAL_MODE {
                default_opts::DATA_JOURNAL => DataMode::Journal,
                default_opts::DATA_WRITEBACK => DataMode::Writeback,
                _ => DataMode::Ordered,
            },
            grpid: has(default_opts::BSDGROUPS),
            debug: has(default_opts::DEBUG),
            uid16: has(default_opts::UID16),
            barrier: !has(default_opts::NOBARRIER),
            discard: has(default_opts::DISCARD),
            delalloc: !old && !has(default_opts::NODELALLOC),
            dioread_nolock: page_blocks,
            resuid: sb.def_resuid.get().into(),
            resgid: sb.def_resgid.get().into(),
            ..Self::blank()
        }
    }

    /// Changes them by an option string.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub fn parse(mut self, text: &[u8]) -> Result<Self> {
        for (key, value) in parse_options(text) {
            self.set(key, value).map_err(|error| match error {
                ParamError::Refused(error, _) => error,
                _ => Errno::EINVAL,
            })?;
        }
        Ok(self)
    }

    /// Changes one option.
    ///
    /// # Errors
    /// That it is not known, or what is wrong with its value.
    pub fn set(&mut self, key: &str, value: Option<&str>) -> ParamResult {
        if let Some(done) = self.set_flag(key) {
            if value.is_none() {
                return Ok(());
            }
            // Some are flags and numbers.
            if !matches!(key, "barrier" | "auto_da_alloc" | "init_itable" | "dax") {
                return done.and(Err(ParamError::UnexpectedValue));
            }
        }
        self.set_value(key, value)
    }

    /// An option without a value: sets it and answers.
    fn set_flag(&mut self, key: &str) -> Option<ParamResult> {
        match key {
            "bsddf" => self.minix_df = false,
            "minixdf" => self.minix_df = true,
            "grpid" | "bsdgroups" => self.grpid = true,
            "nogrpid" | "sysvgroups" => self.grpid = false,
            "nouid32" => self.uid16 = true,
            "debug" => self.debug = true,
            "user_xattr" => self.user_xattr = true,
            "acl" => self.acl = true,
            "noacl" => self.acl = false,
            "norecovery" | "noload" => self.noload = true,
            "journal_checksum" => self.journal_checksum = true,
            "nojournal_checksum" => self.journal_checksum = false,
            "journal_async_commit" => {
                self.journal_async_commit = true;
                self.journal_checksum = true;
            }
            "abort" => self.abort = true,
            "barrier" => self.barrier = true,
            "nobarrier" => self.barrier = false,
            "dax" => self.dax = Dax::Always,
            "delalloc" => self.delalloc = true,
            "nodelalloc" => self.delalloc = false,
            "warn_on_error" => self.warn_on_error = true,
            "nowarn_on_error" => self.warn_on_error = false,
            "block_validity" => self.block_validity = true,
            "noblock_validity" => self.block_validity = false,
            "auto_da_alloc" => self.auto_da_alloc = true,
            "noauto_da_alloc" => self.auto_da_alloc = false,
            "dioread_nolock" => self.dioread_nolock = true,
            "dioread_lock" | "nodioread_nolock" => self.dioread_nolock = false,
            "discard" => self.discard = true,
            "nodiscard" => self.discard = false,
            "init_itable" => self.init_itable = Some(INIT_ITABLE),
            "noinit_itable" => self.init_itable = None,
            "nombcache" | "no_mbcache" => self.mbcache = false,
            "no_prefetch_block_bitmaps" => self.prefetch_block_bitmaps = false,
            "inlinecrypt" => self.inlinecrypt = true,
            "quota" => self.quotas.quota = true,
            "usrquota" => self.quotas = Quotas { quota: true, user: true, ..self.quotas },
            "grpquota" => self.quotas = Quotas { quota: true, group: true, ..self.quotas },
            "prjquota" => self.quotas = Quotas { quota: true, project: true, ..self.quotas },
            "noquota" => self.quotas = Quotas::default(),
            // A journaled quota file given up.
            "usrjquota" | "grpjquota" => {}
            "oldalloc"
            | "orlov"
            | "bh"
            | "nobh"
            | "i_version"
            | "mblk_io_submit"
            | "nomblk_io_submit"
            | "prefetch_block_bitmaps"
            | "nocheck"
            | "reservation"
            | "noreservation" => {
                log::warn!("EXT4-fs: Ignoring removed {key} option");
            }
            _ => return None,
        }
        Some(Ok(()))
    }

    fn set_value(&mut self, key: &str, value: Option<&str>) -> ParamResult {
        let refused = |text| Err(ParamError::Refused(Errno::EINVAL, Cow::Borrowed(text)));
        let text = || value.ok_or(ParamError::BadValue);
        let number = || number(value.ok_or(ParamError::BadValue)?).ok_or(ParamError::BadValue);
        match key {
            "errors" => {
                self.errors = match text()? {
                    "continue" => OnError::Continue,
                    "panic" => OnError::Panic,
                    "remount-ro" => OnError::ReadOnly,
                    _ => return Err(ParamError::BadValue),
                }
            }
            "data" => {
                self.data = match text()? {
                    "journal" => DataMode::Journal,
                    "ordered" => DataMode::Ordered,
                    "writeback" => DataMode::Writeback,
                    _ => return Err(ParamError::BadValue),
                };
                self.data_given = true;
            }
            "data_err" => {
                self.data_err_abort = match text()? {
                    "abort" => true,
                    "ignore" => false,
                    _ => return Err(ParamError::BadValue),
                }
            }
            "dax" => {
                self.dax = match text()? {
                    "always" => Dax::Always,
                    "inode" => Dax::Inode,
                    "never" => Dax::Never,
                    _ => return Err(ParamError::BadValue),
                }
            }
            "jqfmt" if matches!(text()?, "vfsold" | "vfsv0" | "vfsv1") => {}
            // Names of quota files: there are no quotas that would use them.
            "usrjquota" | "grpjquota" => {
                text()?;
            }
            "sb" => self.sb = number()?,
            "resuid" => self.resuid = number()?,
            "resgid" => self.resgid = number()?,
            "commit" => {
                self.commit = number()?;
                if self.commit == 0 {
                    self.commit = COMMIT_SECONDS;
                }
                if self.commit > i32::MAX as u32 / 250 {
                    return refused("Invalid commit interval, must be smaller than 8589934");
                }
                self.commit_given = true;
            }
            "min_batch_time" => self.min_batch_time = number()?,
            "max_batch_time" => self.max_batch_time = number()?,
            "stripe" => self.stripe = number()?,
            "barrier" => self.barrier = number()? != 0,
            "auto_da_alloc" => self.auto_da_alloc = number()? != 0,
            "init_itable" => self.init_itable = Some(number()?),
            "max_dir_size_kb" => self.max_dir_size_kb = number()?,
            "journal_dev" => self.journal_dev = Some(number()?),
            "journal_ioprio" => {
                let class = number()?;
                if class > 7 {
                    return refused("Invalid journal IO priority (must be 0-7)");
                }
                self.journal_ioprio = Some(class);
            }
            "inode_readahead_blks" => {
                let blocks = number()?;
                if blocks != 0 && (blocks > 1 << 30 || !blocks.is_power_of_two()) {
                    return refused("inode_readahead_blks must be 0 or a power of 2 smaller than 2^31");
                }
                self.inode_readahead_blks = blocks;
            }
            "debug_want_extra_isize" => self.debug_want_extra_isize = Some(number()?),
            "mb_optimize_scan" => match text()? {
                "0" => self.mb_optimize_scan = Some(0),
                "1" => self.mb_optimize_scan = Some(1),
                "-1" => self.mb_optimize_scan = None,
                _ => return refused("mb_optimize_scan should be set to 0 or 1."),
            },
            "check" if text()? == "none" => {
                log::warn!("EXT4-fs: Ignoring removed check option");
            }
            "journal" => {
                number()?;
                log::warn!("EXT4-fs: Ignoring removed journal option");
            }
            "test_dummy_encryption" => {
                return refused("test_dummy_encryption option not supported");
            }
            "journal_path" => {
                text()?;
                return refused("error: could not find journal device path");
            }
            "check" | "jqfmt" => return Err(ParamError::BadValue),
            _ => return Err(ParamError::Unknown),
        }
        Ok(())
    }

    /// As `/proc/mounts` shows them: what differs from the defaults of the super block.
    ///
    /// # Errors
    /// The writer's.
    pub fn show(&self, default: &Self, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.sb != 1 {
            write!(out, ",sb={}", self.sb)?;
        }
        let flags = [
            (self.minix_df, default.minix_df, "minixdf", "bsddf"),
            (self.grpid, default.grpid, "grpid", "nogrpid"),
            (self.block_validity, default.block_validity, "block_validity", "noblock_validity"),
            (self.dioread_nolock, default.dioread_nolock, "dioread_nolock", "dioread_lock"),
            (self.discard, default.discard, "discard", "nodiscard"),
            (self.delalloc, default.delalloc, "delalloc", "nodelalloc"),
            (self.warn_on_error, default.warn_on_error, "warn_on_error", "nowarn_on_error"),
            (self.journal_checksum, default.journal_checksum, "journal_checksum", "nojournal_checksum"),
            (self.journal_async_commit, default.journal_async_commit, "journal_async_commit", ""),
            (self.noload, default.noload, "norecovery", ""),
            (self.barrier, default.barrier, "barrier", "nobarrier"),
            (self.auto_da_alloc, default.auto_da_alloc, "auto_da_alloc", "noauto_da_alloc"),
            (self.init_itable.is_some(), default.init_itable.is_some(), "", "noinit_itable"),
            (self.user_xattr, default.user_xattr, "user_xattr", ""),
            (self.acl, default.acl, "acl", "noacl"),
            (self.uid16, default.uid16, "nouid32", ""),
            (self.debug, default.debug, "debug", ""),
            (self.quotas.quota, default.quotas.quota, "quota", "noquota"),
            (self.quotas.user, default.quotas.user, "usrquota", ""),
            (self.quotas.group, default.quotas.group, "grpquota", ""),
            (self.quotas.project, default.quotas.project, "prjquota", ""),
            (self.mbcache, default.mbcache, "", "nombcache"),
            (self.prefetch_block_bitmaps, default.prefetch_block_bitmaps, "", "no_prefetch_block_bitmaps"),
        ];
        for (now, usual, set, clear) in flags {
            let text = if now { set } else { clear };
            if now != usual && !text.is_empty() {
                write!(out, ",{text}")?;
            }
        }
        if self.resuid != 0 || default.resuid != 0 {
            write!(out, ",resuid={}", self.resuid)?;
        }
        if self.resgid != 0 || default.resgid != 0 {
            write!(out, ",resgid={}", self.resgid)?;
        }
        if self.errors != default.errors {
            out.write_str(match self.errors {
                OnError::Continue => ",errors=continue",
                OnError::ReadOnly => ",errors=remount-ro",
                OnError::Panic => ",errors=panic",
            })?;
        }
        for (name, now, usual) in [
            ("commit", self.commit, COMMIT_SECONDS),
            ("min_batch_time", self.min_batch_time, 0),
            ("max_batch_time", self.max_batch_time, MAX_BATCH_TIME),
            ("stripe", self.stripe, 0),
        ] {
            if now != usual {
                write!(out, ",{name}={now}")?;
            }
        }
        if self.data != default.data {
            out.write_str(match self.data {
                DataMode::Journal => ",data=journal",
                DataMode::Ordered => ",data=ordered",
                DataMode::Writeback => ",data=writeback",
            })?;
        }
        if self.inode_readahead_blks != INODE_READAHEAD {
            write!(out, ",inode_readahead_blks={}", self.inode_readahead_blks)?;
        }
        if let Some(wait) = self.init_itable
            && wait != INIT_ITABLE
        {
            write!(out, ",init_itable={wait}")?;
        }
        if self.max_dir_size_kb != 0 {
            write!(out, ",max_dir_size_kb={}", self.max_dir_size_kb)?;
        }
        if self.data_err_abort {
            out.write_str(",data_err=abort")?;
        }
        match self.dax {
            Dax::Default => {}
            Dax::Always => out.write_str(",dax=always")?,
            Dax::Never => out.write_str(",dax=never")?,
            Dax::Inode => out.write_str(",dax=inode")?,
        }
        match self.mb_optimize_scan {
            Some(value) => write!(out, ",mb_optimize_scan={value}"),
            None => Ok(()),
        }
    }
}

/// A number in decimal, octal or hexadecimal (`kstrtouint` with base 0).
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String> {
        let mut out = String::new();
        Options::blank().parse(text.as_bytes())?.show(&Options::blank(), &mut out).unwrap();
        Ok(out)
    }

    #[test]
    fn options_are_shown_as_linux_does() {
        assert_eq!(parsed("").unwrap(), "");
        assert_eq!(parsed("errors=remount-ro,noload").unwrap(), ",norecovery,errors=remount-ro");
        assert_eq!(parsed("barrier=0,commit=30,data=journal").unwrap(), ",nobarrier,commit=30,data=journal");
        assert_eq!(
            parsed("noacl,nodelalloc,resuid=7,stripe=0x10").unwrap(),
            ",nodelalloc,noacl,resuid=7,stripe=16"
        );
        assert_eq!(parsed("init_itable=0,dax=never").unwrap(), ",init_itable=0,dax=never");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in
            ["foo", "errors", "errors=maybe", "commit=-1", "inode_readahead_blks=3", "acl=1", "data=x"]
        {
            assert_eq!(parsed(text), Err(Errno::EINVAL), "{text}");
        }
        assert_eq!(Options::blank().set("acl", Some("1")), Err(ParamError::UnexpectedValue));
        assert_eq!(Options::blank().set("nonsense", None), Err(ParamError::Unknown));
        assert_eq!(Options::blank().set("errors", Some("x")), Err(ParamError::BadValue));
    }
}
