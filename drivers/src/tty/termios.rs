//! Terminal settings: the defaults of a fresh terminal and readable tests of its flags.
//!
//! Source: `termios(3)`, UAPI header `asm-generic/termbits.h` (both architectures use its numbers).

use abi::tty::Termios;

/// Indices of the control characters in `Termios::cc`.
#[allow(missing_docs)]
pub mod cc {
    pub const VINTR: usize = 0;
    pub const VQUIT: usize = 1;
    pub const VERASE: usize = 2;
    pub const VKILL: usize = 3;
    pub const VEOF: usize = 4;
    pub const VTIME: usize = 5;
    pub const VMIN: usize = 6;
    pub const VSWTC: usize = 7;
    pub const VSTART: usize = 8;
    pub const VSTOP: usize = 9;
    pub const VSUSP: usize = 10;
    pub const VEOL: usize = 11;
    pub const VREPRINT: usize = 12;
    pub const VDISCARD: usize = 13;
    pub const VWERASE: usize = 14;
    pub const VLNEXT: usize = 15;
    pub const VEOL2: usize = 16;
}

/// Input flags.
#[allow(missing_docs)]
pub mod iflag {
    pub const IGNBRK: u32 = 0o1;
    pub const BRKINT: u32 = 0o2;
    pub const IGNPAR: u32 = 0o4;
    pub const PARMRK: u32 = 0o10;
    pub const INPCK: u32 = 0o20;
    pub const ISTRIP: u32 = 0o40;
    pub const INLCR: u32 = 0o100;
    pub const IGNCR: u32 = 0o200;
    pub const ICRNL: u32 = 0o400;
    pub const IUCLC: u32 = 0o1000;
    pub const IXON: u32 = 0o2000;
    pub const IXANY: u32 = 0o4000;
    pub const IXOFF: u32 = 0o10000;
    pub const IMAXBEL: u32 = 0o20000;
    pub const IUTF8: u32 = 0o40000;
}

/// Output flags.
#[allow(missing_docs)]
pub mod oflag {
    pub const OPOST: u32 = 0o1;
    pub const OLCUC: u32 = 0o2;
    pub const ONLCR: u32 = 0o4;
    pub const OCRNL: u32 = 0o10;
    pub const ONOCR: u32 = 0o20;
    pub const ONLRET: u32 = 0o40;
    pub const TABDLY: u32 = 0o14000;
    pub const XTABS: u32 = 0o14000;
}

/// Control flags.
#[allow(missing_docs)]
pub mod cflag {
    pub const B38400: u32 = 0o17;
    pub const B115200: u32 = 0o10002;
    pub const CBAUD: u32 = 0o10017;
    pub const CS8: u32 = 0o60;
    pub const CREAD: u32 = 0o200;
    pub const HUPCL: u32 = 0o2000;
    pub const CLOCAL: u32 = 0o4000;
}

/// Local flags.
#[allow(missing_docs)]
pub mod lflag {
    pub const ISIG: u32 = 0o1;
    pub const ICANON: u32 = 0o2;
    pub const XCASE: u32 = 0o4;
    pub const ECHO: u32 = 0o10;
    pub const ECHOE: u32 = 0o20;
    pub const ECHOK: u32 = 0o40;
    pub const ECHONL: u32 = 0o100;
    pub const NOFLSH: u32 = 0o200;
    pub const TOSTOP: u32 = 0o400;
    pub const ECHOCTL: u32 = 0o1000;
    pub const ECHOPRT: u32 = 0o2000;
    pub const ECHOKE: u32 = 0o4000;
    pub const FLUSHO: u32 = 0o10000;
    pub const PENDIN: u32 = 0o40000;
    pub const IEXTEN: u32 = 0o100000;
    pub const EXTPROC: u32 = 0o200000;
}

/// A control character that is switched off.
pub const DISABLED: u8 = 0;

/// What a terminal starts with: cooked, echoing, signals on.
pub const DEFAULT: Termios = Termios {
    iflag: iflag::ICRNL | iflag::IXON,
    oflag: oflag::OPOST | oflag::ONLCR,
    cflag: cflag::B38400 | cflag::CS8 | cflag::CREAD | cflag::HUPCL,
    lflag: lflag::ISIG
        | lflag::ICANON
        | lflag::ECHO
        | lflag::ECHOE
        | lflag::ECHOK
        | lflag::ECHOCTL
        | lflag::ECHOKE
        | lflag::IEXTEN,
    line: 0,
    cc: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
};

/// The settings of a pseudo terminal: no line that could be hung up.
pub const PTY: Termios = Termios { cflag: cflag::B38400 | cflag::CS8 | cflag::CREAD, ..DEFAULT };

/// The settings of a serial line that is a console at 115200 baud.
pub const CONSOLE: Termios =
    Termios { cflag: cflag::B115200 | cflag::CS8 | cflag::CREAD | cflag::HUPCL | cflag::CLOCAL, ..DEFAULT };

/// Readable questions about a terminal's settings.
pub trait Settings {
    /// Whether input flag `flag` is set.
    fn input(&self, flag: u32) -> bool;
    /// Whether output flag `flag` is set.
    fn output(&self, flag: u32) -> bool;
    /// Whether local flag `flag` is set.
    fn local(&self, flag: u32) -> bool;
    /// Whether `byte` is the control character at `index`, which is not switched off.
    fn is(&self, byte: u8, index: usize) -> bool;
}

impl Settings for Termios {
    fn input(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }

    fn output(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }

    fn local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }

    fn is(&self, byte: u8, index: usize) -> bool {
        byte != DISABLED && self.cc.get(index) == Some(&byte)
    }
}
