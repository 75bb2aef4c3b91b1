//! What a device says about a command that did not simply work: status and sense data (SPC-4, 4.5).

use block::Status;

/// The device did it.
pub const GOOD: u8 = 0x00;
/// There is sense data.
pub const CHECK_CONDITION: u8 = 0x02;
/// It is busy.
pub const BUSY: u8 = 0x08;
/// Somebody else has it reserved.
pub const RESERVATION_CONFLICT: u8 = 0x18;
/// It has as many commands as it can take.
pub const TASK_SET_FULL: u8 = 0x28;

/// Bytes of sense data that are looked at.
pub const LEN: usize = 32;

/// Key and qualifiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// What kind of trouble.
    pub key: u8,
    /// More of it.
    pub code: u8,
    /// And more.
    pub qualifier: u8,
}

/// What becomes of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is over.
    End(Status),
    /// It is to be tried again, a few times.
    Retry(Status),
    /// It is to be tried again when the device has room.
    Later,
}

const RECOVERED: u8 = 1;
const NOT_READY: u8 = 2;
const MEDIUM: u8 = 3;
const HARDWARE: u8 = 4;
const ILLEGAL: u8 = 5;
const ATTENTION: u8 = 6;
const PROTECT: u8 = 7;
const ABORTED: u8 = 11;
const OVERFLOW: u8 = 13;

impl Sense {
    /// From sense data in either format; `None` if it is neither.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let byte = |at: usize| data.get(at).copied();
        match byte(0)? & 0x7f {
            // Fixed: how much there is says byte 7.
            0x70 | 0x71 => {
                let there = usize::from(byte(7).unwrap_or(0)) + 8;
                let at = |at: usize| if at < there { byte(at).unwrap_or(0) } else { 0 };
                Some(Self { key: byte(2)? & 15, code: at(12), qualifier: at(13) })
            }
            0x72 | 0x73 => Some(Self { key: byte(1)? & 15, code: byte(2)?, qualifier: byte(3)? }),
            _ => None,
        }
    }

    /// It is becoming ready.
    fn becomes_ready(self) -> bool {
        self.key == NOT_READY && self.code == 4 && matches!(self.qualifier, 1 | 4..=9)
    }
}

/// What is to be done about a command that ended with a status and sense data.
pub fn judge(status: u8, data: &[u8]) -> Verdict {
    match status {
        GOOD => return Verdict::End(Status::Ok),
        CHECK_CONDITION => {}
        BUSY | TASK_SET_FULL => return Verdict::Later,
        RESERVATION_CONFLICT => return Verdict::End(Status::Conflict),
        _ => return Verdict::End(Status::IoError),
    }
    let Some(sense) = Sense::parse(data) else { return Verdict::Retry(Status::IoError) };
    match (sense.key, sense.code) {
        (0 | RECOVERED, _) => Verdict::End(Status::Ok),
        // Something happened to the device; the command itself was not carried out.
        (ATTENTION, _) => Verdict::Retry(Status::IoError),
        (NOT_READY, _) if sense.becomes_ready() => Verdict::Later,
        (NOT_READY, _) => Verdict::End(Status::IoError),
        (MEDIUM, _) => Verdict::End(Status::Medium),
        (HARDWARE, _) => Verdict::End(Status::Target),
        // No such command, or not with these parameters.
        (ILLEGAL, 0x20 | 0x24) => Verdict::End(Status::NotSupported),
        (ILLEGAL, _) => Verdict::End(Status::Target),
        // Thin provisioning has no more room.
        (PROTECT, 0x27) if sense.qualifier == 7 => Verdict::End(Status::NoSpace),
        (PROTECT, _) => Verdict::End(Status::IoError),
        // The data was not what its checksum says.
        (ABORTED, 0x10) => Verdict::End(Status::Protection),
        (ABORTED, _) => Verdict::Retry(Status::IoError),
        (OVERFLOW, _) => Verdict::End(Status::NoSpace),
        _ => Verdict::End(Status::IoError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixed(key: u8, code: u8, qualifier: u8) -> [u8; 18] {
        let mut data = [0; 18];
        (data[0], data[2], data[7], data[12], data[13]) = (0xf0, key, 10, code, qualifier);
        data
    }

    #[test]
    fn both_formats() {
        let sense = Sense { key: 5, code: 0x20, qualifier: 1 };
        assert_eq!(Sense::parse(&fixed(5, 0x20, 1)), Some(sense));
        assert_eq!(Sense::parse(&[0x72, 5, 0x20, 1, 0, 0, 0, 0]), Some(sense));
        // Cut off.
        assert_eq!(Sense::parse(&fixed(5, 0x20, 1)[..8]), Some(Sense { key: 5, code: 0, qualifier: 0 }));
        assert_eq!(Sense::parse(&[0x72, 5]), None);
        assert_eq!(Sense::parse(&[0x55; 18]), None);
        assert_eq!(Sense::parse(&[]), None);
    }

    #[test]
    fn verdicts() {
        let of = |key, code, qualifier| judge(CHECK_CONDITION, &fixed(key, code, qualifier));
        assert_eq!(judge(GOOD, &[]), Verdict::End(Status::Ok));
        assert_eq!(judge(BUSY, &[]), Verdict::Later);
        assert_eq!(of(6, 0x29, 0), Verdict::Retry(Status::IoError));
        assert_eq!(of(1, 0, 0), Verdict::End(Status::Ok));
        assert_eq!(of(3, 0x11, 0), Verdict::End(Status::Medium));
        assert_eq!(of(5, 0x20, 0), Verdict::End(Status::NotSupported));
        assert_eq!(of(5, 0x21, 0), Verdict::End(Status::Target));
        assert_eq!(of(7, 0x27, 7), Verdict::End(Status::NoSpace));
        assert_eq!(of(2, 4, 1), Verdict::Later);
        assert_eq!(of(2, 0x3a, 0), Verdict::End(Status::IoError));
        assert_eq!(judge(CHECK_CONDITION, &[]), Verdict::Retry(Status::IoError));
    }

    proptest! {
        #[test]
        fn nothing_panics(status: u8, data in prop::collection::vec(any::<u8>(), 0..100)) {
            judge(status, &data);
        }
    }
}
