//! Mount options: `uid= gid= mode= ptmxmode= newinstance max=`.

use core::fmt;

use abi::creds::{Gid, Uid};
use abi::{Errno, Result};
use vfs::super_block::parse_options;

use crate::NUMBER_MAX;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) uid: Option<Uid>,
    pub(crate) gid: Option<Gid>,
    pub(crate) mode: u32,
    pub(crate) ptmx_mode: u32,
    pub(crate) max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { uid: None, gid: None, mode: 0o600, ptmx_mode: 0, max: NUMBER_MAX }
    }
}

impl Options {
    pub(crate) fn with(mut self, text: &[u8]) -> Result<Self> {
        for (key, value) in parse_options(text) {
            let number = |radix| {
                let text = value.ok_or(Errno::EINVAL)?;
                u32::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
            };
            match key {
                "uid" => self.uid = Some(Uid(number(10)?)),
                "gid" => self.gid = Some(Gid(number(10)?)),
                "mode" => self.mode = number(8)? & 0o7777,
                "ptmxmode" => self.ptmx_mode = number(8)? & 0o7777,
                // Every mount is an instance of its own.
                "newinstance" => {}
                "max" => {
                    self.max = Some(number(10)?).filter(|max| *max <= NUMBER_MAX).ok_or(Errno::EINVAL)?
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(self)
    }

    pub(crate) fn show(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        if let Some(uid) = self.uid {
            write!(out, ",uid={}", uid.0)?;
        }
        if let Some(gid) = self.gid {
            write!(out, ",gid={}", gid.0)?;
        }
        write!(out, ",mode={:03o},ptmxmode={:03o}", self.mode, self.ptmx_mode)?;
        if self.max < NUMBER_MAX {
            write!(out, ",max={}", self.max)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> std::string::String {
        let mut out = std::string::String::new();
        Options::default().with(text.as_bytes()).unwrap().show(&mut out).unwrap();
        out
    }

    #[test]
    fn options_show_as_on_linux() {
        assert_eq!(shown("gid=5,mode=620"), ",gid=5,mode=620,ptmxmode=000");
        assert_eq!(shown("newinstance,ptmxmode=0666,max=10"), ",mode=600,ptmxmode=666,max=10");
        assert!(Options::default().with(b"colour=blue").is_err());
        assert!(Options::default().with(b"mode=9").is_err());
    }
}
