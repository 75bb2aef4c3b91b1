//! Line discipline behaviour, as `termios(3)` describes it.

use super::super::termios::{DEFAULT, iflag, lflag, oflag};
use super::*;
use alloc::vec::Vec;

#[derive(Default)]
struct Screen {
    shown: Vec<u8>,
    signals: Vec<i32>,
    held: bool,
    flushed: usize,
}

impl Port for Screen {
    fn echo(&mut self, bytes: &[u8]) {
        self.shown.extend_from_slice(bytes);
    }
    fn signal(&mut self, signo: i32) {
        self.signals.push(signo);
    }
    fn flush_output(&mut self) {
        self.flushed += 1;
    }
    fn hold_output(&mut self, hold: bool) {
        self.held = hold;
    }
}

struct Terminal {
    line: LineDiscipline,
    screen: Screen,
    settings: Termios,
}

impl Terminal {
    fn new(settings: Termios) -> Self {
        Self { line: LineDiscipline::new().unwrap(), screen: Screen::default(), settings }
    }

    fn typed(&mut self, text: &[u8]) -> &mut Self {
        self.line.receive(text, &self.settings, &mut self.screen);
        self
    }

    fn read(&mut self, size: usize) -> Option<Vec<u8>> {
        let mut into = vec![0; size];
        let count = self.line.read(&mut into, &self.settings)?;
        into.truncate(count);
        Some(into)
    }
}

#[test]
fn a_line_is_readable_only_once_it_is_finished() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"ls -l");
    assert_eq!(t.read(100), None);
    t.typed(b"\r");
    assert_eq!(t.read(100).unwrap(), b"ls -l\n");
    assert_eq!(t.screen.shown, b"ls -l\r\n");
    assert_eq!(t.read(100), None);
}

#[test]
fn short_reads_continue_the_line_and_stop_at_its_end() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"abc\nde\n");
    assert_eq!(t.read(2).unwrap(), b"ab");
    assert_eq!(t.read(10).unwrap(), b"c\n");
    assert_eq!(t.read(10).unwrap(), b"de\n");
}

#[test]
fn end_of_file_ends_a_line_without_being_part_of_it() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"ab\x04");
    assert_eq!(t.read(10).unwrap(), b"ab");
    assert_eq!(t.read(10), None);
    t.typed(b"\x04");
    assert_eq!(t.read(10).unwrap(), b"");
    t.typed(b"xy\x04");
    assert_eq!(t.read(2).unwrap(), b"xy", "a mark right after a full buffer goes with it");
    assert_eq!(t.read(2), None);
}

#[test]
fn erase_word_and_kill_edit_the_line_and_the_screen() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"abx\x7fc foo\x17bar\n");
    assert_eq!(t.read(100).unwrap(), b"abc bar\n");
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"ab\x15c\n");
    assert_eq!(t.read(100).unwrap(), b"c\n");
    assert_eq!(t.screen.shown, b"ab\x08 \x08\x08 \x08c\r\n");
}

#[test]
fn erasing_a_control_character_takes_both_its_columns() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"\x01\x7f");
    assert_eq!(t.screen.shown, b"^A\x08 \x08\x08 \x08");
}

#[test]
fn erasing_a_tab_moves_back_over_its_width() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"abc\t\x7f");
    assert_eq!(t.screen.shown, b"abc\t\x08\x08\x08\x08\x08");
}

#[test]
fn erase_takes_a_whole_utf8_character() {
    let mut t = Terminal::new(Termios { iflag: DEFAULT.iflag | iflag::IUTF8, ..DEFAULT });
    t.typed("aß\x7f\n".as_bytes());
    assert_eq!(t.read(10).unwrap(), b"a\n");
}

#[test]
fn interrupt_discards_the_line_and_signals() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"half\x03ok\n");
    assert_eq!(t.screen.signals, [2]);
    assert_eq!(t.read(10).unwrap(), b"ok\n");
    assert_eq!(t.screen.shown, b"half^Cok\r\n");
    t.settings.lflag |= lflag::NOFLSH;
    t.typed(b"keep\x1a\n");
    assert_eq!(t.screen.signals, [2, 20]);
    assert_eq!(t.read(10).unwrap(), b"keep\n");
}

#[test]
fn literal_next_takes_the_character_as_text() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"\x16\x03\n");
    assert!(t.screen.signals.is_empty());
    assert_eq!(t.read(10).unwrap(), b"\x03\n");
}

#[test]
fn raw_mode_delivers_bytes_as_they_come() {
    let mut raw = DEFAULT;
    raw.lflag = 0;
    raw.iflag = 0;
    let mut t = Terminal::new(raw);
    t.typed(b"\x03a\r");
    assert!(t.line.readable(&t.settings, 3));
    assert!(!t.line.readable(&t.settings, 4));
    assert_eq!(t.read(2).unwrap(), b"\x03a");
    assert_eq!(t.read(2).unwrap(), b"\r");
    assert!(t.screen.shown.is_empty());
}

#[test]
fn turning_canonical_mode_on_makes_what_is_there_a_line() {
    let mut raw = DEFAULT;
    raw.lflag &= !lflag::ICANON;
    let mut t = Terminal::new(raw);
    t.typed(b"abc");
    t.line.settings_changed(&raw, &DEFAULT);
    t.settings = DEFAULT;
    assert_eq!(t.read(10).unwrap(), b"abc");
    assert_eq!(t.read(10), None);
}

#[test]
fn ctrl_s_holds_output_until_ctrl_q() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(b"\x13");
    assert!(t.screen.held);
    t.typed(b"\x11");
    assert!(!t.screen.held);
    assert_eq!(t.read(1), None);
}

#[test]
fn an_overlong_line_keeps_its_beginning_and_its_end() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(&[b'x'; 5000]);
    t.typed(b"\n");
    let line = t.read(8192).unwrap();
    assert_eq!(line.len(), 4096);
    assert_eq!(line.last(), Some(&b'\n'));
}

#[test]
fn output_processing_follows_the_flags() {
    let mut t = Terminal::new(DEFAULT);
    let mut out = Vec::new();
    assert_eq!(t.line.write(b"a\nb", 100, &t.settings, &mut out), 3);
    assert_eq!(out, b"a\r\nb");
    let tabs = Termios { oflag: oflag::OPOST | oflag::XTABS, ..DEFAULT };
    let mut t = Terminal::new(tabs);
    let mut out = Vec::new();
    t.line.write(b"ab\tc", 100, &tabs, &mut out);
    assert_eq!(out, b"ab      c");
}

#[test]
fn output_stops_where_the_device_is_full() {
    let mut t = Terminal::new(DEFAULT);
    let mut out = Vec::new();
    let taken = t.line.write(&[b'\n'; 100], 32, &t.settings, &mut out);
    assert!(taken < 100 && out.len() <= 32);
}

proptest::proptest! {
    #[test]
    fn hostile_input_never_panics(
        input in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6000),
        iflags in proptest::prelude::any::<u32>(), lflags in proptest::prelude::any::<u32>(),
        oflags in proptest::prelude::any::<u32>(), size in 0usize..300,
    ) {
        let mut t = Terminal::new(Termios { iflag: iflags, lflag: lflags, oflag: oflags, ..DEFAULT });
        t.typed(&input);
        while let Some(read) = t.read(size) {
            if read.is_empty() && size == 0 { break; }
        }
    }
}

#[test]
fn a_full_line_with_its_end_leaves_no_room() {
    let mut t = Terminal::new(DEFAULT);
    t.typed(&[b'x'; BUFFER]).typed(b"\n");
    assert_eq!(t.line.head - t.line.tail, BUFFER);
    assert_eq!(t.line.room(&t.settings), 0);
    let mut raw = DEFAULT;
    raw.lflag &= !lflag::ICANON;
    t.line.settings_changed(&t.settings, &raw);
    assert_eq!(t.line.room(&raw), 0);
    t.settings = raw;
    assert_eq!(t.read(2 * BUFFER).unwrap().len(), BUFFER);
}
