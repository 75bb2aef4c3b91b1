//! What an instance shows to whom: the options `hidepid=`, `gid=` and `subset=` of `proc(5)`.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use abi::creds::Gid;
use abi::{Errno, Result};
use vfs::fs_context::{ParamError, ParamResult};

use super::task::may_look;
use crate::process::{PidNamespace, Thread, current};

/// How much of other users' processes is hidden.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Hide {
    /// Nothing.
    Off = 0,
    /// What is in their directories.
    NoAccess = 1,
    /// Their directories as well.
    Invisible = 2,
    /// All that the caller could not trace; no group is an exception.
    NotPtraceable = 4,
}

impl Hide {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "0" | "off" => Self::Off,
            "1" | "noaccess" => Self::NoAccess,
            "2" | "invisible" => Self::Invisible,
            "4" | "ptraceable" => Self::NotPtraceable,
            _ => return None,
        })
    }

    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::NoAccess,
            2 => Self::Invisible,
            4 => Self::NotPtraceable,
            _ => Self::Off,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoAccess => "noaccess",
            Self::Invisible => "invisible",
            Self::NotPtraceable => "ptraceable",
        }
    }
}

/// What an instance of procfs was mounted for.
pub struct Mounted {
    /// Whose processes it shows.
    pub ns: Arc<PidNamespace>,
    hide: AtomicU8,
    /// Members see everything.
    gid: AtomicU32,
    /// Only processes: no files about the system.
    only_pids: AtomicBool,
}

impl Mounted {
    /// With what `options` say.
    pub(super) fn new(ns: Arc<PidNamespace>, options: &[u8]) -> Result<Self> {
        let mounted =
            Self { ns, hide: AtomicU8::new(0), gid: AtomicU32::new(0), only_pids: AtomicBool::new(false) };
        mounted.apply(options)?;
        Ok(mounted)
    }

    fn apply(&self, options: &[u8]) -> Result<()> {
        let text = core::str::from_utf8(options).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "hidepid" => {
                    let hide = Hide::parse(value).ok_or(Errno::EINVAL)?;
                    self.hide.store(hide as u8, Ordering::Relaxed);
                }
                "gid" => {
                    let gid = value.parse().map_err(|_| Errno::EINVAL)?;
                    let gid = current().with_cred(|cred| cred.user_ns.make_gid(gid)).ok_or(Errno::EINVAL)?;
                    self.gid.store(gid.0, Ordering::Relaxed);
                }
                "subset" => self.only_pids.store(true, Ordering::Relaxed),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether only processes are shown.
    pub(super) fn only_pids(&self) -> bool {
        self.only_pids.load(Ordering::Relaxed)
    }

    fn hide(&self) -> Hide {
        Hide::from_number(self.hide.load(Ordering::Relaxed))
    }

    /// Whether the running thread may see of `target` what is hidden from `least` on.
    fn shows(&self, target: &Thread, least: Hide) -> bool {
        let hide = self.hide();
        if hide == Hide::NotPtraceable {
            return may_look(target);
        }
        let gid = Gid(self.gid.load(Ordering::Relaxed));
        hide < least || current().with_cred(|cred| cred.in_group(gid)) || may_look(target)
    }

    /// Whether a lookup finds the directory of `target`.
    pub(super) fn finds(&self, target: &Thread) -> bool {
        self.hide() != Hide::NotPtraceable || may_look(target)
    }

    /// Whether the directory of `target` is listed, and has attributes.
    pub(super) fn lists(&self, target: &Thread) -> bool {
        self.shows(target, Hide::Invisible)
    }

    /// Whether the directory of `target` may be entered.
    ///
    /// # Errors
    /// `EPERM`, or `ENOENT` where it is invisible.
    pub(super) fn enter(&self, target: &Thread) -> Result<()> {
        match self.hide() {
            Hide::Off => Ok(()),
            _ if self.shows(target, Hide::NoAccess) => Ok(()),
            Hide::Invisible => Err(Errno::ENOENT),
            _ => Err(Errno::EPERM),
        }
    }
}

/// Writes the options for `/proc/mounts`.
pub(super) fn show(data: &dyn Any, out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(mounted) = data.downcast_ref::<Mounted>() else { return Ok(()) };
    let gid = Gid(mounted.gid.load(Ordering::Relaxed));
    if gid != Gid(0) {
        let shown = current().with_cred(|cred| cred.user_ns.from_gid(gid));
        write!(out, ",gid={shown}")?;
    }
    if mounted.hide() != Hide::Off {
        write!(out, ",hidepid={}", mounted.hide().name())?;
    }
    if mounted.only_pids() { out.write_str(",subset=pid") } else { Ok(()) }
}

/// `mount -o remount`: what is not named stays.
pub(super) fn change(data: &dyn Any, options: &[u8]) -> Result<()> {
    data.downcast_ref::<Mounted>().map_or(Ok(()), |mounted| mounted.apply(options))
}

/// Parameters of a mount.
pub(super) fn check_param(key: &str, value: Option<&str>) -> ParamResult {
    let fits = match (key, value) {
        ("gid", Some(gid)) => gid.parse::<u32>().is_ok(),
        ("hidepid", Some(level)) => Hide::parse(level).is_some(),
        ("subset", Some(part)) => part == "pid",
        ("gid" | "hidepid" | "subset", None) => false,
        _ => return Err(ParamError::Unknown),
    };
    if fits { Ok(()) } else { Err(ParamError::BadValue) }
}
