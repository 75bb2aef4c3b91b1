use super::posix::{Owner, PosixLock, apply};
use super::{LockKind, PosixOwner};
use proptest::prelude::*;

const BYTES: usize = 40;

proptest! {
    /// Ranges against one cell per byte and owner.
    #[test]
    fn ranges_match_a_byte_map(ops in proptest::collection::vec(
        (0..2u64, 0..BYTES, 0..BYTES, 0..3u8), 1..80)) {
        let mut locks = Vec::new();
        let mut model = [[None; BYTES]; 2];
        for (owner, a, b, kind) in ops {
            let (start, end) = (a.min(b), a.max(b));
            let kind = match kind { 0 => None, 1 => Some(LockKind::Read), _ => Some(LockKind::Write) };
            let owner_id = Owner::Process(PosixOwner(owner));
            let new = PosixLock {
                owner: owner_id, kind: kind.unwrap_or(LockKind::Read),
                start: start as u64, end: end as u64, pid: 1,
            };
            apply(&mut locks, new, kind).unwrap();
            model[owner as usize][start..=end].fill(kind);
            for (id, bytes) in model.iter().enumerate() {
                let own: Vec<_> = locks.iter().filter(|l| l.owner == Owner::Process(PosixOwner(id as u64))).collect();
                for (byte, want) in bytes.iter().enumerate() {
                    let hits: Vec<_> = own.iter().filter(|l| l.start <= byte as u64 && byte as u64 <= l.end).collect();
                    prop_assert!(hits.len() <= 1);
                    prop_assert_eq!(hits.first().map(|l| l.kind), *want);
                }
                for pair in own.windows(2) {
                    prop_assert!(pair[0].end + 1 < pair[1].start || pair[0].kind != pair[1].kind);
                }
            }
        }
    }
}
