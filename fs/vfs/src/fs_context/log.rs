//! What a context has to say about what went wrong: messages that `read(2)` of its descriptor returns.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::fmt;

use abi::{Errno, Result};
use mm::fallible::{TryDeque, try_format};

/// Messages that are kept; the oldest go first.
const KEPT: usize = 8;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The call failed because of it.
    Error,
    /// Something to think about.
    Warning,
    /// Good to know.
    Info,
}

/// The messages of a context: kept for its descriptor, or printed to the kernel's log if it has none (`mount(2)`).
pub struct Log {
    kept: Option<VecDeque<String>>,
}

impl Log {
    /// Messages go to the kernel's log.
    pub const fn to_console() -> Self {
        Self { kept: None }
    }

    /// Messages wait for a reader.
    pub const fn for_reader() -> Self {
        Self { kept: Some(VecDeque::new()) }
    }

    /// Adds a message about `prefix` (a file system; empty for none).
    pub fn add(&mut self, level: Level, prefix: &str, text: fmt::Arguments<'_>) {
        let colon = if prefix.is_empty() { "" } else { ": " };
        let Some(kept) = &mut self.kept else {
            match level {
                Level::Error => log::error!("{prefix}{colon}{text}"),
                Level::Warning => log::warn!("{prefix}{colon}{text}"),
                Level::Info => log::info!("{prefix}{colon}{text}"),
            }
            return;
        };
        let letter = match level {
            Level::Error => 'e',
            Level::Warning => 'w',
            Level::Info => 'i',
        };
        // A message that finds no memory is lost; the error code says what matters.
        if let Ok(message) = try_format(format_args!("{letter} {prefix}{colon}{text}\n")) {
            if kept.len() >= KEPT {
                kept.pop_front();
            }
            let _ = kept.try_push_back(message);
        }
    }

    /// Takes the oldest message.
    ///
    /// # Errors
    /// `ENODATA` if there is none; `EMSGSIZE` if it has more than `room` bytes (it stays).
    pub fn take(&mut self, room: usize) -> Result<String> {
        let kept = self.kept.as_mut().ok_or(Errno::ENODATA)?;
        let oldest = kept.front().ok_or(Errno::ENODATA)?;
        if oldest.len() > room {
            return Err(Errno::EMSGSIZE);
        }
        kept.pop_front().ok_or(Errno::ENODATA)
    }
}
