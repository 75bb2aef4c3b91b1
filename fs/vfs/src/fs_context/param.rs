//! Parameters of a mount: what `fsconfig(2)` sets one by one and `mount(2)` as a text.

use crate::util::Lossy;
use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use abi::{Errno, Result, raw};

use super::log::Level;
use super::{FsContext, Phase};
use crate::file::File;
use crate::fs_type::FsFlags;
use crate::path::LookupContext;
use crate::super_block::{SB_DIRSYNC, SB_LAZYTIME, SB_RDONLY, SB_SYNCHRONOUS};
use mm::OutOfMemory;
use mm::fallible::TryVec;

/// The most text that a file system of the old kind is given: a page, as `mount(2)` passes it.
const TEXT_MAX: usize = 4096;

/// The value of a parameter.
pub enum Value {
    /// None: the name says it all.
    Flag,
    /// A text.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
    /// A name, to be looked up from directory `dirfd` by who uses it.
    Path {
        /// `AT_FDCWD` or a descriptor.
        dirfd: i32,
        /// The name.
        name: Vec<u8>,
    },
    /// An open file.
    File(Arc<File>),
}

/// Why a file system does not take a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamError {
    /// It has none of that name.
    Unknown,
    /// It has, but the value makes no sense.
    BadValue,
    /// It has, but without a value.
    UnexpectedValue,
    /// Another reason, told in the file system's own words.
    Refused(Errno, Cow<'static, str>),
    /// Another reason, of which the kernel's log knows.
    Failed(Errno),
}

impl From<Errno> for ParamError {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

/// How a parameter reaches a file system that keeps its own ([`Params`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// `mount(2)`: as part of a text.
    Monolithic,
    /// `fsconfig(2)`.
    Single,
}

/// One parameter for a file system that keeps its own.
pub struct Param<'a> {
    /// Who gives it, and from where names are looked up.
    pub ctx: &'a LookupContext<'a>,
    /// Through which call.
    pub caller: Caller,
    /// It is for a file system that exists.
    pub reconfigure: bool,
    /// The name.
    pub key: &'a str,
    /// The value.
    pub value: &'a Value,
}

/// The parameters of a mount in the making, kept by its file system: it looks at each when it is given, and can be given one
/// more than once.
pub trait Params: Any + Send {
    /// Takes one parameter.
    fn set(&mut self, param: &Param<'_>) -> ParamResult;

    /// Where the first parameter in the text of `mount(2)` ends.
    fn first_end(&self, text: &[u8]) -> usize {
        text.iter().position(|byte| *byte == b',').unwrap_or(text.len())
    }
}

/// What a file system says of a parameter.
pub type ParamResult = core::result::Result<(), ParamError>;

/// Words that mean a flag of the super block, for every file system: the flag, and whether it is set.
fn super_flag(key: &[u8]) -> Option<(u32, bool)> {
    Some(match key {
        b"dirsync" => (SB_DIRSYNC, true),
        b"lazytime" => (SB_LAZYTIME, true),
        b"nolazytime" => (SB_LAZYTIME, false),
        b"mand" => (raw::MS_MANDLOCK, true),
        b"nomand" => (raw::MS_MANDLOCK, false),
        b"ro" => (SB_RDONLY, true),
        b"rw" => (SB_RDONLY, false),
        b"sync" => (SB_SYNCHRONOUS, true),
        b"async" => (SB_SYNCHRONOUS, false),
        _ => return None,
    })
}

impl FsContext {
    /// Takes one parameter: a flag of the super block, the file system's own, or the source.
    ///
    /// # Errors
    /// `EBUSY` when it is too late for parameters; `EINVAL` for an unknown one or a bad value, with a message in the log.
    pub fn set_param(&mut self, ctx: &LookupContext<'_>, key: &[u8], value: Value) -> Result<()> {
        self.set_from(ctx, Caller::Single, key, value)
    }

    fn set_from(&mut self, ctx: &LookupContext<'_>, caller: Caller, key: &[u8], value: Value) -> Result<()> {
        if !matches!(self.phase, Phase::CreateParams | Phase::ReconfigureParams) {
            return Err(Errno::EBUSY);
        }
        if let Some((flag, set)) = super_flag(key) {
            self.flags = self.flags & !flag | if set { flag } else { 0 };
            self.flags_mask |= flag;
            return Ok(());
        }
        let modern = self.fs.flags().contains(FsFlags::CHECKS_PARAMS);
        if key == b"source" {
            return self.set_source(value);
        }
        let reconfigure = self.phase == Phase::ReconfigureParams;
        if let Some(params) = self.own_params()? {
            let answer = match core::str::from_utf8(key) {
                Err(_) | Ok("") => Err(ParamError::Unknown),
                Ok(key) => params.set(&Param { ctx, caller, reconfigure, key, value: &value }),
            };
            return answer.map_err(|error| self.explain(key, error));
        }
        if modern { self.set_checked(key, value) } else { self.set_unchecked(key, value) }
    }

    /// A file system that looks at each parameter when it is given.
    fn set_checked(&mut self, key: &[u8], value: Value) -> Result<()> {
        let answer = match core::str::from_utf8(key) {
            Err(_) | Ok("") => Err(ParamError::Unknown),
            Ok(key) => match &value {
                Value::Flag => self.fs.check_param(key, None),
                Value::Text(text) => match core::str::from_utf8(text) {
                    Ok(text) if text.contains(',') => known_but_bad(self.fs.check_param(key, None)),
                    Ok(text) => self.fs.check_param(key, Some(text)),
                    Err(_) => known_but_bad(self.fs.check_param(key, None)),
                },
                Value::Blob(_) | Value::Path { .. } | Value::File(_) => {
                    known_but_bad(self.fs.check_param(key, None))
                }
            },
        };
        let text = match &value {
            Value::Text(text) => Some(text.as_slice()),
            _ => None,
        };
        answer.map_err(|error| self.explain(key, error))?;
        forget(&mut self.options, key);
        self.append(key, text)
    }

    /// Says in the log why a parameter was not taken, and returns the error for the caller.
    fn explain(&mut self, key: &[u8], error: ParamError) -> Errno {
        let name = self.fs.name();
        let shown = Lossy(key);
        match error {
            ParamError::Unknown => {
                self.log.add(Level::Error, name, format_args!("Unknown parameter '{shown}'"));
                Errno::EINVAL
            }
            ParamError::BadValue => {
                self.log.add(Level::Error, name, format_args!("Bad value for '{shown}'"));
                Errno::EINVAL
            }
            ParamError::UnexpectedValue => {
                self.log.add(Level::Error, name, format_args!("Unexpected value for '{shown}'"));
                Errno::EINVAL
            }
            ParamError::Refused(error, why) => {
                self.log.add(Level::Error, name, format_args!("{why}"));
                error
            }
            ParamError::Failed(error) => error,
        }
    }

    /// A file system that looks at its parameters when it is mounted: any text will do.
    fn set_unchecked(&mut self, key: &[u8], value: Value) -> Result<()> {
        let shown = Lossy(key);
        let text = match &value {
            Value::Flag => None,
            Value::Text(text) => Some(text.as_slice()),
            _ => {
                self.log.add(
                    Level::Error,
                    "",
                    format_args!("VFS: Legacy: Parameter type for '{shown}' not supported"),
                );
                return Err(Errno::EINVAL);
            }
        };
        if key.contains(&b',') || text.is_some_and(|text| text.contains(&b',')) {
            self.log.add(Level::Error, "", format_args!("VFS: Legacy: Option '{shown}' contained comma"));
            return Err(Errno::EINVAL);
        }
        if self.options.len() + key.len() + text.map_or(0, |text| text.len() + 1) + 2 > TEXT_MAX {
            self.log.add(Level::Error, "", format_args!("VFS: Legacy: Cumulative options too large"));
            return Err(Errno::EINVAL);
        }
        self.append(key, text)
    }

    fn append(&mut self, key: &[u8], text: Option<&[u8]>) -> Result<()> {
        let length = key.len() + text.map_or(0, |text| text.len() + 1) + 1;
        self.options.try_reserve(length).map_err(OutOfMemory::from)?;
        if !self.options.is_empty() {
            self.options.push_reserved(b',');
        }
        self.options.try_extend_from_slice(key)?;
        if let Some(text) = text {
            self.options.push_reserved(b'=');
            self.options.try_extend_from_slice(text)?;
        }
        Ok(())
    }

    /// The device, or whatever the file system is made from.
    fn set_source(&mut self, value: Value) -> Result<()> {
        let Value::Text(text) = value else {
            self.log.add(Level::Error, "", format_args!("Non-string source"));
            return Err(Errno::EINVAL);
        };
        if self.source.is_some() {
            self.log.add(Level::Error, "", format_args!("Multiple sources"));
            return Err(Errno::EINVAL);
        }
        self.source = Some(text);
        Ok(())
    }

    /// The data argument of `mount(2)`: parameters separated by commas. A file system of the old kind gets the text as it is.
    ///
    /// # Errors
    /// As [`FsContext::set_param`].
    pub fn set_monolithic(&mut self, ctx: &LookupContext<'_>, text: &[u8]) -> Result<()> {
        if !self.fs.flags().contains(FsFlags::CHECKS_PARAMS) {
            self.options = crate::util::try_to_vec(text)?;
            return Ok(());
        }
        let mut rest = text;
        while !rest.is_empty() {
            let end = match self.own_params()? {
                Some(params) => params.first_end(rest).min(rest.len()),
                None => rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len()),
            };
            let (part, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let mut halves = part.splitn(2, |byte| *byte == b'=');
            let key = halves.next().unwrap_or_default();
            let value = match halves.next() {
                // A value without a name is not worth a word.
                _ if key.is_empty() => continue,
                Some(text) => Value::Text(crate::util::try_to_vec(text)?),
                None => Value::Flag,
            };
            self.set_from(ctx, Caller::Monolithic, key, value)?;
        }
        Ok(())
    }
}

/// What a file system says of a value of a type that none of its parameters has, from what it said of none at all.
fn known_but_bad(without: ParamResult) -> ParamResult {
    match without {
        Ok(()) => Err(ParamError::UnexpectedValue),
        Err(ParamError::Unknown) => Err(ParamError::Unknown),
        Err(_) => Err(ParamError::BadValue),
    }
}

/// Takes `key` out of a text of parameters. One that is given again replaces what was said before, so there are never more of them
/// than the file system knows.
fn forget(options: &mut Vec<u8>, key: &[u8]) {
    let mut from = 0;
    while from < options.len() {
        let rest = options.get(from..).unwrap_or_default();
        let len = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
        let part = rest.get(..len).unwrap_or_default();
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        let to = from + len + 1;
        if name != key {
            from = to;
        } else if to >= options.len() {
            // The last part goes with the comma before it.
            options.truncate(from.saturating_sub(1));
        } else {
            options.drain(from..to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::forget;

    #[test]
    fn a_parameter_replaces_itself() {
        for (before, key, after) in [
            ("a=1,b,c=3", "b", "a=1,c=3"),
            ("a=1,b,c=3", "c", "a=1,b"),
            ("a=1,b,c=3", "a", "b,c=3"),
            ("a=1", "a", ""),
            ("ab=1,a", "a", "ab=1"),
            ("a=1,b=a", "x", "a=1,b=a"),
            ("a,b,a=2", "a", "b"),
            ("", "a", ""),
        ] {
            let mut options = before.as_bytes().to_vec();
            forget(&mut options, key.as_bytes());
            assert_eq!(core::str::from_utf8(&options), Ok(after), "{before} without {key}");
        }
    }
}
