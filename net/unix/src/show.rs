//! A socket's row in `/proc/net/unix`: `proc_pid_net(5)`.

use core::fmt::{Result, Write};

use crate::address::Name;
use crate::endpoint::{Endpoint, State};

/// `__SO_ACCEPTCON`.
const ACCEPTS: u32 = 1 << 16;

impl Endpoint {
    /// Writes the row.
    pub(crate) fn show(&self, out: &mut dyn Write) -> Result {
        let (state, flags, name) = {
            let inner = self.inner.lock();
            let (state, flags) = match inner.state {
                State::Idle => (1, 0),
                State::Listening { .. } => (1, ACCEPTS),
                State::Connected(_) => (3, 0),
            };
            (state, flags, inner.name.clone())
        };
        let kind = self.kind as i32;
        write!(out, "{:016x}: {:08X} {:08X} {flags:08X} {kind:04X} {state:02X} {:5}", 0, 2, 0, self.ino())?;
        let (first, bytes) = match &name {
            Name::Unnamed => return out.write_char('\n'),
            Name::Path(path) => ("", path),
            Name::Abstract(name) => ("@", name),
        };
        write!(out, " {first}")?;
        for byte in &**bytes {
            // An abstract name is any bytes: NUL shows as its mark.
            out.write_char(if *byte == 0 { '@' } else { char::from(*byte) })?;
        }
        out.write_char('\n')
    }
}
