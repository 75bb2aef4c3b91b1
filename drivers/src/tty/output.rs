//! Output processing (`OPOST`): newlines, tabs, and the column the cursor is in.

use alloc::vec::Vec;

use abi::tty::Termios;

use super::termios::{Settings, oflag};
use mm::fallible::TryVec;

/// The longest form one byte can take: a tab as eight spaces.
const LONGEST: usize = 8;

/// Where the cursor is, as far as the bytes sent so far tell.
#[derive(Default)]
pub struct Output {
    column: usize,
    /// The column right after the last newline (`ONLRET` and `ONLCR` put it to zero).
    newline_column: usize,
}

impl Output {
    /// The cursor's column, counted from zero.
    pub fn column(&self) -> usize {
        self.column
    }

    /// The form of `byte` on the device, and its length.
    pub fn expand(&mut self, byte: u8, settings: &Termios) -> ([u8; LONGEST], usize) {
        let mut form = [byte, 0, 0, 0, 0, 0, 0, 0];
        if !settings.output(oflag::OPOST) {
            return (form, 1);
        }
        match byte {
            b'\n' => {
                if settings.output(oflag::ONLRET) {
                    self.column = 0;
                }
                if settings.output(oflag::ONLCR) {
                    self.column = 0;
                    self.newline_column = 0;
                    form = [b'\r', b'\n', 0, 0, 0, 0, 0, 0];
                    return (form, 2);
                }
                self.newline_column = self.column;
            }
            b'\r' => {
                if settings.output(oflag::ONOCR) && self.column == 0 {
                    return (form, 0);
                }
                if settings.output(oflag::OCRNL) {
                    form[0] = b'\n';
                    if settings.output(oflag::ONLRET) {
                        self.column = 0;
                        self.newline_column = 0;
                    }
                } else {
                    self.column = 0;
                    self.newline_column = 0;
                }
            }
            b'\t' => {
                let width = 8 - self.column % 8;
                self.column += width;
                if settings.oflag & oflag::TABDLY == oflag::XTABS {
                    return ([b' '; LONGEST], width);
                }
            }
            0x08 => self.column = self.column.saturating_sub(1),
            _ => {
                if settings.output(oflag::OLCUC) {
                    form[0] = byte.to_ascii_uppercase();
                }
                if !byte.is_ascii_control() {
                    self.column += 1;
                }
            }
        }
        (form, 1)
    }

    /// Appends the device's form of `bytes` to `out`, as long as it fits into `room`. Returns how
    /// many of `bytes` were taken.
    pub fn process(&mut self, bytes: &[u8], room: usize, settings: &Termios, out: &mut Vec<u8>) -> usize {
        if !settings.output(oflag::OPOST) {
            let count = bytes.len().min(room);
            if out.try_reserve(count).is_err() {
                return 0;
            }
            let _ = out.try_extend_from_slice(&bytes[..count]);
            return count;
        }
        let start = out.len();
        for (taken, &byte) in bytes.iter().enumerate() {
            if out.len() - start + LONGEST > room || out.try_reserve(LONGEST).is_err() {
                return taken;
            }
            let (form, length) = self.expand(byte, settings);
            let _ = out.try_extend_from_slice(&form[..length]);
        }
        bytes.len()
    }
}
