//! Mount options: what there is, how they depend on each other, how `/proc/mounts` shows them.
//!
//! Names of layers are looked up when they are given, by who gives them. In `lowerdir=` they are separated by colons, which a
//! backslash escapes; `lowerdir+=` (through `fsconfig(2)`) takes one name as it is.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use abi::cap::Cap;
use abi::{Errno, Result};
use mm::fallible::TryVec;
use vfs::Credentials;
use vfs::fs_context::{Caller, Param, ParamError, ParamResult, Params, Value};
use vfs::mount::show::mangle;
use vfs::namei::{At, LookupFlags, path_lookup};
use vfs::path::Path;
use vfs::util::{Lossy, try_to_vec};

/// The most lower layers (`OVL_MAX_STACK`).
pub(crate) const MAX_LAYERS: usize = 500;

/// `redirect_dir=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// Redirects are followed and made.
    On,
    /// They are followed.
    Follow,
    /// They are not.
    NoFollow,
}

impl Redirect {
    fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Follow => "follow",
            Self::NoFollow => "nofollow",
        }
    }
}

/// `xino=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Xino {
    Off,
    Auto,
    On,
}

/// `uuid=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uuid {
    Off,
    Null,
    Auto,
    On,
}

/// `fsync=`: when data of the upper layer is written to its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fsync {
    /// Never: nothing is left of the layer after a crash.
    Volatile,
    /// When a user asks, and before a copy of data gets its name.
    Auto,
    /// Also before any other copy gets its name.
    Strict,
}

/// The options of one mount, without the layers.
#[derive(Debug)]
pub(crate) struct Config {
    /// `lowerdir=` as it was given.
    pub(crate) lowerdir_all: Option<Vec<u8>>,
    /// Names of the lower layers.
    pub(crate) lower: Vec<Vec<u8>>,
    pub(crate) upperdir: Option<Vec<u8>>,
    pub(crate) workdir: Option<Vec<u8>>,
    pub(crate) redirect: Redirect,
    redirect_given: bool,
    pub(crate) xino: Xino,
    pub(crate) uuid: Uuid,
    pub(crate) default_permissions: bool,
    pub(crate) userxattr: bool,
    pub(crate) fsync: Fsync,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lowerdir_all: None,
            lower: Vec::new(),
            upperdir: None,
            workdir: None,
            redirect: Redirect::Follow,
            redirect_given: false,
            xino: Xino::Off,
            uuid: Uuid::Auto,
            default_permissions: false,
            userxattr: false,
            fsync: Fsync::Auto,
        }
    }
}

impl Config {
    /// Whether directories that exist in lower layers can be renamed.
    pub(crate) fn makes_redirects(&self) -> bool {
        self.redirect == Redirect::On
    }

    /// Whether redirects count.
    pub(crate) fn follows_redirects(&self) -> bool {
        self.redirect != Redirect::NoFollow
    }

    /// Makes the options agree with each other.
    ///
    /// # Errors
    /// `EINVAL` for options that contradict each other; `EPERM` for one that takes `trusted.` attributes, which `cred` has no
    /// access to.
    pub(crate) fn verify(&mut self, cred: &Credentials) -> Result<()> {
        if self.upperdir.is_none() {
            if let Some(workdir) = self.workdir.take() {
                let shown = Lossy(&workdir);
                log::info!("overlayfs: option \"workdir={shown}\" is useless in a non-upper mount, ignore");
            }
            if self.fsync == Fsync::Volatile {
                log::info!("overlayfs: option \"volatile\" is useless in a non-upper mount, ignore");
                self.fsync = Fsync::Auto;
            }
        }
        // Where none are made, following is all there is to redirects.
        if self.upperdir.is_none() && self.redirect == Redirect::Follow {
            self.redirect = Redirect::On;
        }
        let asks = self.redirect_given && self.redirect != Redirect::NoFollow;
        if self.userxattr {
            if asks {
                log::error!(
                    "overlayfs: conflicting options: userxattr,redirect_dir={}",
                    self.redirect.name()
                );
                return Err(Errno::EINVAL);
            }
            self.redirect = Redirect::NoFollow;
        } else if asks && !cred.capable(Cap::SysAdmin) {
            log::error!("overlayfs: redirect_dir requires permission to access trusted xattrs");
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// As `/proc/mounts` shows it; `one_fs`: all layers are on one file system.
    pub(crate) fn show(&self, one_fs: bool, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut show = |key: &str, value: &[u8]| {
            write!(out, ",{key}=")?;
            show_value(out, value)
        };
        match &self.lowerdir_all {
            Some(all) => show("lowerdir", all)?,
            None => self.lower.iter().try_for_each(|name| show("lowerdir+", name))?,
        }
        if let (Some(upper), Some(work)) = (&self.upperdir, &self.workdir) {
            show("upperdir", upper)?;
            show("workdir", work)?;
        }
        if self.default_permissions {
            out.write_str(",default_permissions")?;
        }
        if self.redirect != Redirect::Follow {
            write!(out, ",redirect_dir={}", self.redirect.name())?;
        }
        match self.uuid {
            Uuid::Auto => {}
            Uuid::Off => out.write_str(",uuid=off")?,
            Uuid::Null => out.write_str(",uuid=null")?,
            Uuid::On => out.write_str(",uuid=on")?,
        }
        match self.xino {
            Xino::Off => {}
            _ if one_fs => {}
            Xino::Auto => out.write_str(",xino=auto")?,
            Xino::On => out.write_str(",xino=on")?,
        }
        match self.fsync {
            Fsync::Auto => {}
            Fsync::Volatile => out.write_str(",fsync=volatile")?,
            Fsync::Strict => out.write_str(",fsync=strict")?,
        }
        if self.userxattr {
            out.write_str(",userxattr")?;
        }
        Ok(())
    }
}

/// A value as `/proc/mounts` shows it: a comma that belongs to it is escaped, too.
fn show_value(out: &mut dyn fmt::Write, value: &[u8]) -> fmt::Result {
    for (index, part) in value.split(|byte| *byte == b',').enumerate() {
        if index > 0 {
            out.write_str("\\054")?;
        }
        mangle(out, part)?;
    }
    Ok(())
}

/// The parameters of a mount in the making, with the layers they name.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) lower: Vec<Path>,
    /// How many of them, at the end, hold data only.
    data: usize,
    pub(crate) upper: Option<Path>,
    pub(crate) work: Option<Path>,
}

/// Whether a name stands for a layer that is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Lower,
    Data,
    Upper,
}

fn refuse(why: fmt::Arguments<'_>) -> ParamError {
    match mm::try_format(why) {
        Ok(text) => ParamError::Refused(Errno::EINVAL, Cow::Owned(text)),
        Err(_) => ParamError::Failed(Errno::ENOMEM),
    }
}

impl Setup {
    /// The directory called `name`.
    fn directory(
        &self,
        param: &Param<'_>,
        name: &[u8],
        usage: Use,
    ) -> core::result::Result<Path, ParamError> {
        let shown = Lossy(name);
        if name.is_empty() {
            log::error!("overlayfs: empty {}", if usage == Use::Upper { "upperdir" } else { "lowerdir" });
            return Err(ParamError::Failed(Errno::EINVAL));
        }
        let found = path_lookup(param.ctx, At::Cwd, name, LookupFlags::FOLLOW);
        let path =
            found.inspect_err(|error| log::error!("overlayfs: failed to resolve '{shown}': {error}"))?;
        if !path.inode()?.is_dir() {
            return Err(refuse(format_args!("{shown} is not a directory")));
        }
        if usage == Use::Upper {
            if path.dentry.sb().fs_type().name() == crate::NAME {
                return Err(refuse(format_args!("filesystem on {shown} not supported as upperdir")));
            }
            if path.mnt.is_read_only() || path.dentry.sb().is_read_only() {
                return Err(refuse(format_args!("filesystem on {shown} is read-only")));
            }
        }
        Ok(path)
    }

    /// `lowerdir=`: all lower layers at once.
    fn set_lower(&mut self, param: &Param<'_>, text: &[u8]) -> ParamResult {
        self.lower.clear();
        self.config.lower.clear();
        self.config.lowerdir_all = None;
        self.data = 0;
        if text.is_empty() {
            return Ok(());
        }
        let parts = split_lower(text)?;
        for Part { name, data } in parts {
            let name = unescape(name)?;
            self.add_lower(param, &name, if data { Use::Data } else { Use::Lower })?;
        }
        self.config.lowerdir_all = Some(try_to_vec(text)?);
        Ok(())
    }

    fn add_lower(&mut self, param: &Param<'_>, name: &[u8], usage: Use) -> ParamResult {
        let path = self.directory(param, name, usage)?;
        if self.config.lowerdir_all.is_some() {
            return Err(refuse(format_args!("lowerdir+ and datadir+ cannot follow lowerdir")));
        }
        if self.data > 0 && usage == Use::Lower {
            return Err(refuse(format_args!("regular lower layers cannot follow data layers")));
        }
        if self.lower.len() >= MAX_LAYERS {
            return Err(refuse(format_args!("too many lower directories, limit is {MAX_LAYERS}")));
        }
        self.lower.try_push(path).map_err(Errno::from)?;
        self.config.lower.try_push(try_to_vec(name)?).map_err(Errno::from)?;
        self.data += usize::from(usage == Use::Data);
        Ok(())
    }

    fn set_upper(&mut self, param: &Param<'_>, text: &[u8]) -> ParamResult {
        let name = unescape(text)?;
        let path = self.directory(param, &name, Use::Upper)?;
        let (slot, config) = match param.key {
            "workdir" => (&mut self.work, &mut self.config.workdir),
            _ => (&mut self.upper, &mut self.config.upperdir),
        };
        *slot = Some(path);
        *config = Some(name);
        Ok(())
    }

    /// What remains to be checked when all has been said.
    ///
    /// # Errors
    /// `EINVAL`; those of [`Config::verify`].
    pub(crate) fn verify(&mut self, cred: &Credentials) -> Result<()> {
        if self.data > 0 {
            log::error!("overlayfs: lower data-only dirs require metacopy support.");
            return Err(Errno::EINVAL);
        }
        self.config.verify(cred)?;
        if self.config.workdir.is_none() {
            self.work = None;
        }
        if self.lower.is_empty() {
            log::error!("overlayfs: missing 'lowerdir'");
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}

/// The text of a parameter that must have one.
fn text<'a>(param: &'a Param<'_>) -> core::result::Result<&'a [u8], ParamError> {
    match param.value {
        Value::Text(text) => Ok(text),
        _ => Err(ParamError::BadValue),
    }
}

fn one_of<T: Copy>(param: &Param<'_>, words: &[(&str, T)]) -> core::result::Result<T, ParamError> {
    let text = text(param)?;
    let found = words.iter().find(|(word, _)| word.as_bytes() == text);
    found.map(|(_, value)| *value).ok_or(ParamError::BadValue)
}

fn flag(param: &Param<'_>) -> ParamResult {
    match param.value {
        Value::Flag => Ok(()),
        _ => Err(ParamError::UnexpectedValue),
    }
}

/// A feature that is not there and can only be off.
fn only_off(param: &Param<'_>) -> ParamResult {
    if one_of(param, &[("off", false), ("on", true)])? {
        log::warn!("overlayfs: {0}=on is not supported, falling back to {0}=off.", param.key);
    }
    Ok(())
}

impl Params for Setup {
    fn set(&mut self, param: &Param<'_>) -> ParamResult {
        if param.reconfigure {
            // The old call has always ignored whatever it was given.
            return match param.caller {
                Caller::Monolithic => Ok(()),
                Caller::Single => Err(refuse(format_args!("No changes allowed in reconfigure"))),
            };
        }
        let named = |param| match text(param)? {
            b"" => Err(ParamError::BadValue),
            name => Ok(name),
        };
        match param.key {
            "lowerdir" => self.set_lower(param, text(param)?),
            "lowerdir+" => self.add_lower(param, named(param)?, Use::Lower),
            "datadir+" => self.add_lower(param, named(param)?, Use::Data),
            "upperdir" | "workdir" => self.set_upper(param, named(param)?),
            "default_permissions" => flag(param).map(|()| self.config.default_permissions = true),
            "userxattr" => flag(param).map(|()| self.config.userxattr = true),
            "volatile" => flag(param).map(|()| self.config.fsync = Fsync::Volatile),
            "fsync" => {
                let words = [("volatile", Fsync::Volatile), ("auto", Fsync::Auto), ("strict", Fsync::Strict)];
                one_of(param, &words).map(|fsync| self.config.fsync = fsync)
            }
            "redirect_dir" => {
                self.config.redirect = one_of(
                    param,
                    &[
                        ("off", Redirect::Follow),
                        ("follow", Redirect::Follow),
                        ("nofollow", Redirect::NoFollow),
                        ("on", Redirect::On),
                    ],
                )?;
                self.config.redirect_given = true;
                Ok(())
            }
            "xino" => {
                let words = [("off", Xino::Off), ("auto", Xino::Auto), ("on", Xino::On)];
                one_of(param, &words).map(|xino| self.config.xino = xino)
            }
            "uuid" => {
                let words =
                    [("off", Uuid::Off), ("null", Uuid::Null), ("auto", Uuid::Auto), ("on", Uuid::On)];
                one_of(param, &words).map(|uuid| self.config.uuid = uuid)
            }
            "index" | "nfs_export" | "metacopy" => only_off(param),
            "verity" => one_of(param, &[("off", ())]),
            _ => Err(ParamError::Unknown),
        }
    }

    /// At a comma that no backslash escapes.
    fn first_end(&self, text: &[u8]) -> usize {
        let mut at = 0;
        loop {
            match text.get(at) {
                None => return text.len(),
                Some(b'\\') => at += 2,
                Some(b',') => return at,
                Some(_) => at += 1,
            }
        }
    }
}

/// One layer in `lowerdir=`.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    /// With its escapes.
    name: &'a [u8],
    /// It came after two colons.
    data: bool,
}

/// Splits `lowerdir=` at the colons that no backslash escapes. Two of them begin a layer of data only.
fn split_lower(text: &[u8]) -> Result<Vec<Part<'_>>> {
    let bad = |why: &str| {
        log::error!("overlayfs: {why}");
        Err(Errno::EINVAL)
    };
    let mut parts = Vec::new();
    let (mut start, mut at, mut data) = (0, 0, false);
    if text.first() == Some(&b':') {
        return bad("cannot append lower layer");
    }
    loop {
        let end = match text.get(at) {
            Some(b'\\') => {
                at = (at + 2).min(text.len());
                continue;
            }
            Some(b':') | None => at,
            Some(_) => {
                at += 1;
                continue;
            }
        };
        parts.try_push(Part { name: text.get(start..end).unwrap_or_default(), data })?;
        if parts.len() > MAX_LAYERS {
            return bad("too many lower directories, limit is 500");
        }
        if end == text.len() {
            return Ok(parts);
        }
        let double = text.get(end + 1) == Some(&b':');
        if double && text.get(end + 2) == Some(&b':') {
            return bad(
                "only single ':' or double '::' sequences of unescaped colons in lowerdir mount option allowed.",
            );
        }
        if data && !double {
            return bad("regular lower layers cannot follow data lower layers");
        }
        data = double;
        start = end + 1 + usize::from(double);
        at = start;
        if start >= text.len() {
            return bad("trailing ':' or '::' in lowerdir mount option not allowed");
        }
    }
}

/// Takes the backslashes out that escape what follows them.
fn unescape(text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.try_push(match byte {
            b'\\' => *bytes.next().unwrap_or(byte),
            _ => *byte,
        })?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
