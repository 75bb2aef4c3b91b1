//! The line discipline `N_TTY`: what happens to bytes between a terminal and its reader and writer.
//!
//! Owns the input buffer, line editing, echo and output processing. It does not block, know
//! processes or touch hardware: the terminal ([`super::core`]) passes the settings in, takes echo and
//! signals out through [`Port`], and holds the lock.
//!
//! The input buffer is a ring of [`BUFFER`] bytes with three positions that only grow:
//! `tail ≤ canon ≤ head`. Bytes before `canon` belong to finished lines; a bit beside each byte
//! says that a line ends there. An end-of-file character is kept as a marked NUL that ends a line
//! without being part of it.
//!
//! Source: `termios(3)`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use abi::Result;
use abi::tty::Termios;

use super::output::Output;
use super::termios::{Settings, cc, iflag, lflag};

/// Bytes of input that can wait for a reader; one line is at most one byte shorter.
pub const BUFFER: usize = 4096;

/// What the line discipline asks of its terminal.
pub trait Port {
    /// Sends echo to the device.
    fn echo(&mut self, bytes: &[u8]);
    /// Sends `signo` to the foreground process group.
    fn signal(&mut self, signo: i32);
    /// Discards output that the device has not sent yet.
    fn flush_output(&mut self);
    /// Holds (`true`) or resumes output, for Ctrl-S and Ctrl-Q.
    fn hold_output(&mut self, hold: bool);
}

/// The interrupt signals a line discipline can raise.
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGTSTP: i32 = 20;

/// The state of one terminal's line discipline.
pub struct LineDiscipline {
    ring: Box<[u8]>,
    ends: [u64; BUFFER / 64],
    tail: usize,
    canon: usize,
    head: usize,
    /// The next byte is to be taken literally (Ctrl-V).
    literal: bool,
    /// Inside an `ECHOPRT` erasure: `\` is open.
    erasing: bool,
    /// Output is held by Ctrl-S.
    held: bool,
    /// The output column at which the line being typed began.
    line_column: usize,
    output: Output,
}

impl LineDiscipline {
    /// A line discipline with nothing typed yet.
    ///
    /// # Errors
    /// `ENOMEM` when there is no memory for the buffer.
    pub fn new() -> Result<Self> {
        let ring = mm::fallible::try_vec(0, BUFFER)?;
        Ok(Self {
            ring: ring.into_boxed_slice(),
            ends: [0; BUFFER / 64],
            tail: 0,
            canon: 0,
            head: 0,
            literal: false,
            erasing: false,
            held: false,
            line_column: 0,
            output: Output::default(),
        })
    }

    /// Bytes that the device may still deliver before input is lost.
    pub fn room(&self, settings: &Termios) -> usize {
        // A full buffer in canonical mode holds one byte more: the end of its line.
        let left = (BUFFER - 1).saturating_sub(self.head - self.tail);
        // In canonical mode an overfull line must still take editing and its end.
        if left == 0 && settings.local(lflag::ICANON) && self.canon == self.tail { 1 } else { left }
    }

    /// Bytes waiting for a reader (`FIONREAD`).
    pub fn available(&self, settings: &Termios) -> usize {
        if !settings.local(lflag::ICANON) {
            return self.head - self.tail;
        }
        (self.tail..self.canon).filter(|&at| !(self.ends_at(at) && self.at(at) == 0)).count()
    }

    /// Whether a read would find a line, or in raw mode at least `minimum` bytes.
    pub fn readable(&self, settings: &Termios, minimum: usize) -> bool {
        if settings.local(lflag::ICANON) {
            self.canon != self.tail
        } else {
            self.head - self.tail >= minimum.max(1)
        }
    }

    /// Whether output is held by Ctrl-S.
    pub fn held(&self) -> bool {
        self.held
    }

    /// Holds or resumes output (`tcflow(3)`).
    pub fn set_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Forgets all input (`tcflush(3)`).
    pub fn flush_input(&mut self) {
        self.tail = self.head;
        self.canon = self.head;
        self.ends = [0; BUFFER / 64];
        self.literal = false;
        self.erasing = false;
    }

    /// Adapts the buffered input to new settings: what was typed raw becomes a line, and vice versa.
    pub fn settings_changed(&mut self, old: &Termios, new: &Termios) {
        let was = old.local(lflag::ICANON);
        let is = new.local(lflag::ICANON);
        if was != is {
            self.ends = [0; BUFFER / 64];
            if is && self.head != self.tail {
                self.mark_end(self.head - 1);
            }
            self.canon = self.head;
            self.erasing = false;
            self.literal = false;
        }
        if !new.input(iflag::IXON) {
            self.held = false;
        }
    }

    /// Takes bytes from the device.
    pub fn receive(&mut self, bytes: &[u8], settings: &Termios, port: &mut dyn Port) {
        for &byte in bytes {
            self.receive_byte(byte, settings, port);
        }
    }

    /// A break condition on the line.
    pub fn receive_break(&mut self, settings: &Termios, port: &mut dyn Port) {
        if settings.input(iflag::IGNBRK) {
            return;
        }
        if settings.input(iflag::BRKINT) {
            return self.interrupt(SIGINT, settings, port);
        }
        if settings.input(iflag::PARMRK) {
            self.push(0xff, settings, port);
            self.push(0, settings, port);
        }
        self.push(0, settings, port);
    }

    /// Copies input to a reader: in canonical mode at most one line, otherwise what is there.
    /// Returns the number of bytes; `None` when there is nothing to read yet.
    pub fn read(&mut self, into: &mut [u8], settings: &Termios) -> Option<usize> {
        if !settings.local(lflag::ICANON) {
            let count = into.len().min(self.head - self.tail);
            if count == 0 {
                return None;
            }
            self.copy_out(&mut into[..count]);
            self.canon = self.canon.max(self.tail);
            return Some(count);
        }
        if self.canon == self.tail {
            return None;
        }
        // One byte beyond the reader's buffer counts too: an end-of-file mark there is part of this read.
        let limit = self.canon.min(self.tail + into.len() + 1);
        let end = (self.tail..limit).find(|&at| self.ends_at(at));
        let count = match end {
            Some(at) if self.at(at) == 0 => at - self.tail,
            Some(at) => (at + 1 - self.tail).min(into.len()),
            None => (limit - self.tail).min(into.len()),
        };
        self.copy_out(&mut into[..count]);
        if let Some(at) = end
            && at == self.tail
            && self.at(at) == 0
        {
            self.clear_end(at);
            self.tail += 1;
        }
        Some(count)
    }

    /// Processes a writer's bytes for the device. Returns how many of `bytes` were taken; the
    /// device's form is appended to `out`, which receives at most `room` bytes.
    pub fn write(&mut self, bytes: &[u8], room: usize, settings: &Termios, out: &mut Vec<u8>) -> usize {
        self.output.process(bytes, room, settings, out)
    }

    fn receive_byte(&mut self, mut byte: u8, settings: &Termios, port: &mut dyn Port) {
        if settings.input(iflag::ISTRIP) {
            byte &= 0x7f;
        }
        if settings.input(iflag::IUCLC) && settings.local(lflag::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if settings.local(lflag::EXTPROC) {
            return self.push(byte, settings, port);
        }
        if self.literal {
            self.literal = false;
            return self.accept(byte, settings, port);
        }
        if self.held
            && settings.input(iflag::IXON)
            && settings.input(iflag::IXANY)
            && !settings.is(byte, cc::VSTART)
            && !settings.is(byte, cc::VSTOP)
        {
            self.hold(false, port);
        }
        if settings.input(iflag::IXON) {
            if settings.is(byte, cc::VSTART) {
                return self.hold(false, port);
            }
            if settings.is(byte, cc::VSTOP) {
                return self.hold(true, port);
            }
        }
        if settings.local(lflag::ISIG) {
            for (index, signo) in [(cc::VINTR, SIGINT), (cc::VQUIT, SIGQUIT), (cc::VSUSP, SIGTSTP)] {
                if settings.is(byte, index) {
                    self.interrupt(signo, settings, port);
                    if settings.local(lflag::ECHO) {
                        self.echo_byte(byte, settings, port);
                    }
                    return;
                }
            }
        }
        match byte {
            b'\r' if settings.input(iflag::IGNCR) => return,
            b'\r' if settings.input(iflag::ICRNL) => byte = b'\n',
            b'\n' if settings.input(iflag::INLCR) => byte = b'\r',
            _ => {}
        }
        if settings.local(lflag::ICANON) && self.edit(byte, settings, port) {
            return;
        }
        self.accept(byte, settings, port);
    }

    /// Editing and line ends of canonical mode. Returns whether the byte was used up.
    fn edit(&mut self, byte: u8, settings: &Termios, port: &mut dyn Port) -> bool {
        let extended = settings.local(lflag::IEXTEN);
        if settings.is(byte, cc::VERASE)
            || settings.is(byte, cc::VKILL)
            || (extended && settings.is(byte, cc::VWERASE))
        {
            self.erase(byte, settings, port);
            return true;
        }
        if extended && settings.is(byte, cc::VLNEXT) {
            self.literal = true;
            if settings.local(lflag::ECHO) {
                self.finish_erasing(settings, port);
                if settings.local(lflag::ECHOCTL) {
                    self.put(b"^\x08", settings, port);
                }
            }
            return true;
        }
        if extended && settings.local(lflag::ECHO) && settings.is(byte, cc::VREPRINT) {
            self.finish_erasing(settings, port);
            self.echo_byte(byte, settings, port);
            self.put(b"\n", settings, port);
            self.line_column = 0;
            for at in self.canon..self.head {
                let typed = self.at(at);
                self.echo_byte(typed, settings, port);
            }
            return true;
        }
        let end = if byte == b'\n' {
            if settings.local(lflag::ECHO) || settings.local(lflag::ECHONL) {
                self.put(b"\n", settings, port);
            }
            byte
        } else if settings.is(byte, cc::VEOF) {
            0
        } else if settings.is(byte, cc::VEOL) || (extended && settings.is(byte, cc::VEOL2)) {
            if settings.local(lflag::ECHO) {
                self.echo_byte(byte, settings, port);
            }
            byte
        } else {
            return false;
        };
        self.finish_line(end);
        true
    }

    /// Keeps a byte of text and echoes it.
    fn accept(&mut self, byte: u8, settings: &Termios, port: &mut dyn Port) {
        if settings.local(lflag::ECHO) {
            self.finish_erasing(settings, port);
            if self.canon == self.head {
                self.line_column = self.output.column();
            }
            self.echo_byte(byte, settings, port);
        }
        if byte == 0xff && settings.input(iflag::PARMRK) {
            self.push(byte, settings, port);
        }
        self.push(byte, settings, port);
    }

    /// Appends to the ring; a full ring loses the byte and rings the bell if `IMAXBEL` asks for it.
    fn push(&mut self, byte: u8, settings: &Termios, port: &mut dyn Port) {
        if self.head - self.tail >= BUFFER - 1 {
            if settings.input(iflag::IMAXBEL) && self.head == self.tail + BUFFER - 1 {
                port.echo(b"\x07");
            }
            return;
        }
        self.ring[self.head % BUFFER] = byte;
        self.clear_end(self.head);
        self.head += 1;
        if !settings.local(lflag::ICANON) {
            self.canon = self.head;
        }
    }

    fn finish_line(&mut self, end: u8) {
        if self.head - self.tail >= BUFFER {
            return;
        }
        self.ring[self.head % BUFFER] = end;
        self.mark_end(self.head);
        self.head += 1;
        self.canon = self.head;
        self.erasing = false;
    }

    fn interrupt(&mut self, signo: i32, settings: &Termios, port: &mut dyn Port) {
        if !settings.local(lflag::NOFLSH) {
            self.flush_input();
            port.flush_output();
        }
        if settings.input(iflag::IXON) {
            self.hold(false, port);
        }
        port.signal(signo);
    }

    fn hold(&mut self, hold: bool, port: &mut dyn Port) {
        if self.held != hold {
            self.held = hold;
            port.hold_output(hold);
        }
    }

    /// Erases a character, a word or the line, as the control character `byte` says.
    fn erase(&mut self, byte: u8, settings: &Termios, port: &mut dyn Port) {
        if self.canon == self.head {
            return;
        }
        let echo = settings.local(lflag::ECHO);
        let word = settings.is(byte, cc::VWERASE);
        let kill = !word && settings.is(byte, cc::VKILL);
        if kill && !(echo && settings.local(lflag::ECHOK) && self.erases_visibly(settings)) {
            self.head = self.canon;
            if echo {
                self.finish_erasing(settings, port);
                self.echo_byte(byte, settings, port);
                if settings.local(lflag::ECHOK) {
                    self.put(b"\n", settings, port);
                }
            }
            return;
        }
        let mut in_word = false;
        while self.head != self.canon {
            let start = self.last_character(settings);
            let first = self.at(start);
            if word {
                if first.is_ascii_alphanumeric() || first == b'_' || first >= 0x80 {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            let count = self.head - start;
            self.head = start;
            if echo {
                self.echo_erased(byte, start, count, first, word || kill, settings, port);
            }
            if !word && !kill {
                break;
            }
        }
        if self.head == self.canon && echo {
            self.finish_erasing(settings, port);
        }
    }

    /// Whether a killed line is wiped from the screen instead of being left behind.
    fn erases_visibly(&self, settings: &Termios) -> bool {
        settings.local(lflag::ECHOKE) && settings.local(lflag::ECHOE)
    }

    /// The start of the last typed character: several bytes with `IUTF8`.
    fn last_character(&self, settings: &Termios) -> usize {
        let mut start = self.head - 1;
        if settings.input(iflag::IUTF8) {
            while start > self.canon && self.at(start) & 0xc0 == 0x80 {
                start -= 1;
            }
        }
        start
    }

    #[allow(clippy::too_many_arguments)]
    fn echo_erased(
        &mut self,
        byte: u8,
        start: usize,
        count: usize,
        first: u8,
        many: bool,
        settings: &Termios,
        port: &mut dyn Port,
    ) {
        if settings.local(lflag::ECHOPRT) {
            if !self.erasing {
                self.put(b"\\", settings, port);
                self.erasing = true;
            }
            for at in start..start + count {
                let erased = self.at(at);
                self.echo_byte(erased, settings, port);
            }
        } else if !many && !settings.local(lflag::ECHOE) {
            self.echo_byte(byte, settings, port);
        } else if first == b'\t' {
            let width = self.tab_width(start, settings);
            for _ in 0..width {
                self.put(b"\x08", settings, port);
            }
        } else {
            if first.is_ascii_control() && settings.local(lflag::ECHOCTL) {
                self.put(b"\x08 \x08", settings, port);
            }
            if !first.is_ascii_control() || settings.local(lflag::ECHOCTL) {
                self.put(b"\x08 \x08", settings, port);
            }
        }
    }

    /// How many columns the tab that was typed at position `tab` takes on the screen.
    fn tab_width(&self, tab: usize, settings: &Termios) -> usize {
        let mut column = 0;
        let mut start = self.line_column;
        for at in (self.canon..tab).rev() {
            let byte = self.at(at);
            if byte == b'\t' {
                start = 0;
                break;
            }
            if byte.is_ascii_control() {
                column += if settings.local(lflag::ECHOCTL) { 2 } else { 0 };
            } else if !(settings.input(iflag::IUTF8) && byte & 0xc0 == 0x80) {
                column += 1;
            }
        }
        8 - (start + column) % 8
    }

    fn finish_erasing(&mut self, settings: &Termios, port: &mut dyn Port) {
        if self.erasing {
            self.erasing = false;
            self.put(b"/", settings, port);
        }
    }

    /// Echoes a byte, control characters as `^X` with `ECHOCTL`.
    fn echo_byte(&mut self, byte: u8, settings: &Termios, port: &mut dyn Port) {
        if settings.local(lflag::ECHOCTL) && byte.is_ascii_control() && byte != b'\t' && byte != b'\n' {
            self.put(&[b'^', byte ^ 0x40], settings, port);
        } else {
            self.put(&[byte], settings, port);
        }
    }

    fn put(&mut self, bytes: &[u8], settings: &Termios, port: &mut dyn Port) {
        for &byte in bytes {
            let (form, length) = self.output.expand(byte, settings);
            port.echo(&form[..length]);
        }
    }

    fn copy_out(&mut self, into: &mut [u8]) {
        for slot in into {
            *slot = self.at(self.tail);
            self.clear_end(self.tail);
            self.tail += 1;
        }
    }

    fn at(&self, position: usize) -> u8 {
        self.ring[position % BUFFER]
    }

    fn ends_at(&self, position: usize) -> bool {
        let bit = position % BUFFER;
        self.ends[bit / 64] & (1 << (bit % 64)) != 0
    }

    fn mark_end(&mut self, position: usize) {
        let bit = position % BUFFER;
        self.ends[bit / 64] |= 1 << (bit % 64);
    }

    fn clear_end(&mut self, position: usize) {
        let bit = position % BUFFER;
        self.ends[bit / 64] &= !(1 << (bit % 64));
    }
}

#[cfg(test)]
mod tests;
