//! What is said while a file system is mounted: `EXT4-fs (vda): text`, to the kernel's log.

use core::fmt;

use abi::Errno;

/// Says things about a device.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a> {
    /// Its name.
    pub device: &'a str,
    /// Whether it may as well be another file system: nothing is said of that.
    pub silent: bool,
}

impl Messages<'_> {
    /// Something is wrong.
    pub fn error(&self, text: fmt::Arguments<'_>) {
        log::error!("EXT4-fs ({}): {text}", self.device);
    }

    /// Something is wrong, and the mount is refused: `EINVAL`.
    #[must_use]
    pub fn invalid(&self, text: fmt::Arguments<'_>) -> Errno {
        self.error(text);
        Errno::EINVAL
    }

    /// Something is odd.
    pub fn warning(&self, text: fmt::Arguments<'_>) {
        log::warn!("EXT4-fs ({}): {text}", self.device);
    }

    /// Good to know.
    pub fn info(&self, text: fmt::Arguments<'_>) {
        log::info!("EXT4-fs ({}): {text}", self.device);
    }
}
