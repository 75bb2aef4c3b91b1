//! The record of a process: `struct acct_v3` of acct(5), as programs read it.

/// Ticks per second in it (`AHZ`).
const AHZ: u64 = 100;
/// `ac_version`: the third form, in this machine's order of bytes (both architectures are little endian).
const VERSION: u8 = 3;

/// `ac_flag`: forked, and did not call exec.
pub const AFORK: u8 = 0x01;
/// Used super-user rights.
pub const ASU: u8 = 0x02;
/// Dumped core.
pub const ACORE: u8 = 0x08;
/// Was killed by a signal.
pub const AXSIG: u8 = 0x10;

/// Length of a record.
pub const LEN: usize = 64;

/// What a record says, in the kernel's units.
#[derive(Clone, Copy, Default, Debug)]
pub struct Record {
    /// `AFORK`, `ASU`, `ACORE`, `AXSIG`.
    pub flag: u8,
    /// Device number of the terminal in its old form, 0 for none.
    pub tty: u16,
    /// As wait(2) shows it.
    pub exit_code: u32,
    /// Real user.
    pub uid: u32,
    /// Real group.
    pub gid: u32,
    /// Process.
    pub pid: u32,
    /// Parent.
    pub ppid: u32,
    /// When it began, in seconds of the wall clock.
    pub began_s: u32,
    /// How long it lived.
    pub lived_ns: u64,
    /// Time in user mode.
    pub utime_ns: u64,
    /// Time in the kernel.
    pub stime_ns: u64,
    /// Size of its memory, in KiB.
    pub memory_kib: u64,
    /// Page faults without I/O.
    pub min_flt: u64,
    /// Page faults with I/O.
    pub maj_flt: u64,
    /// Name.
    pub comm: [u8; 16],
}

fn ticks(ns: u64) -> u64 {
    ns / (1_000_000_000 / AHZ)
}

/// `comp_t`: 13 bits, and above them how often they are to be multiplied by 8; rounded, and the largest value for what is more.
fn compressed(value: u64) -> u16 {
    const BITS: u32 = 13;
    let (mut fraction, mut exponent, mut round) = (value, 0, false);
    while fraction >> BITS != 0 {
        round = fraction & 4 != 0;
        fraction >>= 3;
        exponent += 1;
    }
    if round {
        fraction += 1;
        if fraction >> BITS != 0 {
            fraction >>= 3;
            exponent += 1;
        }
    }
    if exponent > 7 { u16::MAX } else { (exponent << BITS) as u16 | fraction as u16 }
}

/// The bits of a `float` with this value, without what does not fit.
fn float_bits(value: u64) -> u32 {
    if value == 0 {
        return 0;
    }
    let top = 63 - value.leading_zeros();
    let mantissa = if top > 23 { value >> (top - 23) } else { value << (23 - top) };
    (top + 127) << 23 | mantissa as u32 & 0x7f_ffff
}

impl Record {
    /// Its bytes.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut out = Bytes { bytes: [0; LEN], at: 0 };
        out.put(&[self.flag, VERSION]);
        out.put(&self.tty.to_ne_bytes());
        for word in [self.exit_code, self.uid, self.gid, self.pid, self.ppid, self.began_s] {
            out.put(&word.to_ne_bytes());
        }
        out.put(&float_bits(ticks(self.lived_ns)).to_ne_bytes());
        // Characters transferred, blocks, and swaps are not counted.
        let (io, blocks, swaps) = (0, 0, 0);
        let (user, system) = (ticks(self.utime_ns), ticks(self.stime_ns));
        for value in [user, system, self.memory_kib, io, blocks, self.min_flt, self.maj_flt, swaps] {
            out.put(&compressed(value).to_ne_bytes());
        }
        out.put(&self.comm);
        out.bytes
    }
}

struct Bytes {
    bytes: [u8; LEN],
    at: usize,
}

impl Bytes {
    fn put(&mut self, part: &[u8]) {
        if let Some(to) = self.bytes.get_mut(self.at..self.at + part.len()) {
            to.copy_from_slice(part);
        }
        self.at += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_numbers() {
        let value = |c: u16| u64::from(c & 0x1fff) << (3 * (c >> 13));
        for exact in [0, 1, 8191, 8192, 65_528, 8191 << 21] {
            assert_eq!(value(compressed(exact)), exact);
        }
        // Rounded to the nearest that there is.
        assert_eq!(value(compressed(8195)), 8192);
        assert_eq!(value(compressed(8196)), 8200);
        assert_eq!(value(compressed(65_535)), 65_536);
        assert_eq!(compressed(u64::MAX), u16::MAX);
    }

    #[test]
    fn floats() {
        for value in [0, 1, 2, 3, 100, 16_777_215, 16_777_216, 1 << 40] {
            assert_eq!(f32::from_bits(float_bits(value)), value as f32);
        }
        // Cut, not rounded.
        assert_eq!(f32::from_bits(float_bits(16_777_219)), 16_777_218.0);
        assert!(f32::from_bits(float_bits(u64::MAX)).is_finite());
    }

    #[test]
    fn layout() {
        let record =
            Record { flag: AFORK, pid: 7, comm: *b"sixteen-letters\0", maj_flt: 9, ..Record::default() };
        let bytes = record.to_bytes();
        assert_eq!((bytes[0], bytes[1]), (1, 3));
        assert_eq!(bytes[16..20], 7u32.to_ne_bytes());
        assert_eq!(bytes[44..46], 9u16.to_ne_bytes());
        assert_eq!(&bytes[48..], b"sixteen-letters\0");
    }
}
