//! Logs that somebody has damaged or made up.

use std::sync::Arc;

use abi::Errno;
use buffer::BufferCache;
use buffer::testing::{Disk, Random};
use proptest::prelude::*;

use super::{CHECKSUMS, Layout, PLAIN, fill, number};
use crate::checksum::{crc32_be, crc32c};
use crate::format::{self, COMPAT_CHECKSUM, Format, Incompat, MAGIC, Tag, TagFlags, commit, kind, put, sb};
use crate::{Features, Journal, Options};

const LAYOUT: Layout = Layout { block_size: 1024, fs: 64, len: 64 };

/// Three transactions, each of which writes its number to blocks 1 to 5 and frees block 10 plus its number.
fn used(features: Features) -> Vec<u8> {
    let machine = LAYOUT.open(Disk::new(LAYOUT.image(5)), features);
    for value in 1..=3 {
        let mut handle = machine.journal.start(5).unwrap();
        for block in 1..=5 {
            handle.modify(&machine.read(block), |bytes| fill(bytes, value)).unwrap();
        }
        handle.revoke(10 + value, None).unwrap();
        handle.set_sync();
        handle.stop().unwrap();
    }
    machine.disk.image()
}

/// Byte `at` of the log's block `block`.
fn position(block: u32, at: usize) -> usize {
    let gap = u64::from(block >= LAYOUT.len / 2);
    (LAYOUT.fs + u64::from(block) + gap) as usize * LAYOUT.block_size + at
}

/// A transaction has a revoke block, a descriptor, five blocks and a commit block.
const PER: u32 = 8;

#[test]
fn checksums_tell_what_is_not_whole() {
    assert_eq!(crc32c(!0, b"123456789") ^ !0, 0xe306_9283);
    assert_eq!(crc32_be(!0, b"123456789") ^ !0, 0xfc89_1918);
    let good = used(CHECKSUMS);
    let recovered = |image: &[u8]| {
        let machine = LAYOUT.try_open(Disk::new(image.to_vec()), CHECKSUMS)?;
        let values: Vec<_> = (1..=5).map(|block| machine.number(block)).collect();
        assert!(values.iter().all(|value| *value == values[0]));
        Ok::<_, Errno>(values[0])
    };
    assert_eq!(recovered(&good), Ok(3));
    let broken = |block: u32, at: usize| {
        let mut image = good.clone();
        image[position(block, at)] ^= 1;
        image
    };
    // The last commit block: not committed. The first: nothing is.
    assert_eq!(recovered(&broken(1 + 2 * PER + 7, 50)), Ok(2));
    assert_eq!(recovered(&broken(1 + 7, 50)), Ok(0));
    // What a whole transaction has, and should not.
    assert_eq!(recovered(&broken(1 + PER, 14)), Err(Errno::EBADMSG));
    assert_eq!(recovered(&broken(1 + PER + 1, 40)), Err(Errno::EBADMSG));
    assert_eq!(recovered(&broken(1 + PER + 3, 700)), Err(Errno::EBADMSG));
    // The same, and the commit block is missing.
    let mut image = broken(1 + 2 * PER + 1, 40);
    image[position(1 + 2 * PER + 7, 0)..][..12].fill(0);
    assert_eq!(recovered(&image), Ok(2));
    // The super block.
    assert_eq!(recovered(&broken(0, sb::SEQUENCE + 3)), Err(Errno::EBADMSG));
    // A commit that may have come before its data.
    let asynchronous = |mut image: Vec<u8>| {
        let block = &mut image[position(0, 0)..][..sb::SIZE];
        let incompat = format::be32(block, sb::INCOMPAT) | Incompat::ASYNC_COMMIT.bits();
        put(block, sb::INCOMPAT, incompat.to_be_bytes());
        put(block, sb::CHECKSUM, [0; 4]);
        let checksum = crc32c(!0, block);
        put(block, sb::CHECKSUM, checksum.to_be_bytes());
        image
    };
    assert_eq!(recovered(&asynchronous(good.clone())), Ok(3));
    assert_eq!(recovered(&asynchronous(broken(1 + PER + 3, 700))), Ok(1));
    assert_eq!(recovered(&asynchronous(broken(1 + 2 * PER + 1, 40))), Ok(2));
}

#[test]
fn a_block_that_cannot_be_read_or_is_nowhere_is_an_error() {
    for features in [PLAIN, CHECKSUMS] {
        let disk = Disk::new(used(features));
        let sector = position(1 + PER + 4, 0) as u64 / 512;
        disk.fail(move |op, at, _| op == block::Op::Read && at == sector);
        assert_eq!(LAYOUT.try_open(disk, features).err(), Some(Errno::EIO));
    }
    let mut image = used(PLAIN);
    // Its first tag.
    image[position(1 + 1, 12)] = 0x7f;
    assert_eq!(LAYOUT.try_open(Disk::new(image), PLAIN).err(), Some(Errno::EIO));
}

/// The kind of checksum that old journals have, written by hand.
#[test]
fn old_checksums() {
    for (right, expected) in [(true, 77), (false, 0)] {
        let mut image = LAYOUT.image(9);
        let old = Format { block_size: 1024, incompat: Incompat::REVOKE, seed: 0 };
        let mut blocks = vec![vec![0; 1024]; 3];
        format::put_header(&mut blocks[0], kind::DESCRIPTOR, 9);
        let tag = Tag { block: 6, flags: TagFlags::LAST, checksum: 0 };
        old.put_tag(&mut blocks[0], 0, &tag);
        fill(&mut blocks[1], 77);
        let crc = crc32_be(crc32_be(!0, &blocks[0]), &blocks[1]) ^ u32::from(!right);
        format::put_header(&mut blocks[2], kind::COMMIT, 9);
        put(&mut blocks[2], commit::CHECKSUM_TYPE, [format::COMMIT_CRC32, 4]);
        put(&mut blocks[2], commit::CHECKSUM, crc.to_be_bytes());
        for (n, block) in blocks.iter().enumerate() {
            image[position(n as u32 + 3, 0)..][..1024].copy_from_slice(block);
        }
        put(&mut image[position(0, 0)..], sb::START, 3u32.to_be_bytes());
        put(&mut image[position(0, 0)..], sb::COMPAT, COMPAT_CHECKSUM.to_be_bytes());
        let machine = LAYOUT.open(Disk::new(image), PLAIN);
        assert_eq!(machine.number(6), expected);
    }
}

#[test]
fn super_blocks_that_are_not_taken() {
    let errors: [(usize, u32, Errno); 12] = [
        (0, 0, Errno::EINVAL),
        (4, kind::COMMIT, Errno::EINVAL),
        (sb::BLOCK_SIZE, 4096, Errno::EINVAL),
        (sb::MAX_LEN, LAYOUT.len + 1, Errno::EINVAL),
        (sb::MAX_LEN, 3, Errno::EINVAL),
        (sb::FIRST, 0, Errno::EINVAL),
        (sb::FIRST, 60, Errno::EINVAL),
        (sb::START, LAYOUT.len, Errno::EINVAL),
        (sb::INCOMPAT, 0x40, Errno::EINVAL),
        (sb::INCOMPAT, 0x18, Errno::EINVAL),
        (sb::INCOMPAT, Incompat::FAST_COMMIT.bits(), Errno::EINVAL),
        (sb::RO_COMPAT, 1, Errno::EINVAL),
    ];
    for (at, value, errno) in errors {
        let mut image = LAYOUT.image(1);
        put(&mut image[position(0, 0)..], at, value.to_be_bytes());
        assert_eq!(LAYOUT.try_open(Disk::new(image), PLAIN).err(), Some(errno), "{at:#x} {value}");
    }
    // Fast commits: nothing to be replayed is well, something is not.
    for (start, expected) in [(0, None), (1, Some(Errno::EOPNOTSUPP))] {
        let mut image = LAYOUT.image(1);
        let block = &mut image[position(0, 0)..];
        put(block, sb::INCOMPAT, Incompat::FAST_COMMIT.bits().to_be_bytes());
        put(block, sb::FAST_COMMIT_BLOCKS, 16u32.to_be_bytes());
        put(block, sb::START, [0, 0, 0, start]);
        let machine = LAYOUT.try_open(Disk::new(image), PLAIN);
        assert_eq!(machine.as_ref().err(), expected.as_ref());
        if let Ok(machine) = machine {
            assert_eq!(machine.journal.max_credits(), (64 - 16 - 1) / 4);
        }
    }
    // The first version has no features, and becomes the second when it is used.
    let mut image = LAYOUT.image(1);
    put(&mut image[position(0, 0)..], 4, kind::SUPER_V1.to_be_bytes());
    put(&mut image[position(0, 0)..], sb::INCOMPAT, [0xff; 4]);
    let machine = LAYOUT.open(Disk::new(image), CHECKSUMS);
    let mut handle = machine.journal.start(1).unwrap();
    handle.modify(&machine.read(1), |bytes| fill(bytes, 1)).unwrap();
    handle.set_sync();
    handle.stop().unwrap();
    assert_eq!(LAYOUT.open(Disk::new(machine.disk.image()), CHECKSUMS).number(1), 1);
    // A place with a hole, or behind the end of the device.
    let disk = Arc::new(Disk::new(LAYOUT.image(1)));
    let cache = BufferCache::new(disk, 1024).unwrap();
    for (first, physical) in [(1, 64), (0, 100), (0, u64::MAX)] {
        let place = crate::JournalPlace::Inode(vec![crate::Extent { first, len: 64, physical }]);
        assert_eq!(Journal::load(cache.clone(), place, Options::default()).err(), Some(Errno::EUCLEAN));
    }
}

fn blocks_of_any_kind(random: &mut Random, sequence: u32) -> Vec<u8> {
    let mut block = vec![0; LAYOUT.block_size];
    for byte in &mut block {
        *byte = random.next() as u8;
    }
    if random.below(8) != 0 {
        let kind =
            [kind::DESCRIPTOR, kind::DESCRIPTOR, kind::REVOKE, kind::COMMIT, 9][random.below(5) as usize];
        format::put_header(&mut block, kind, sequence.wrapping_add(random.below(3) as u32));
    }
    if random.below(2) == 0 {
        // Tags that could be right.
        for at in (12..1000).step_by(8) {
            put(&mut block, at, (random.below(80) as u32).to_be_bytes());
            put(&mut block, at + 4, [0, 0, 0, (random.below(8) as u8) | 2]);
        }
    }
    block
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 2000 }))]

    /// Whatever is in the log: it ends, without a panic, and what is left can be used.
    #[test]
    fn made_up_logs(seed in any::<u64>(), incompat in 0u32..32, sequence in any::<u32>(), start in 0u32..64) {
        let mut random = Random::new(seed);
        let mut image = LAYOUT.image(sequence);
        for block in 1..LAYOUT.len {
            let bytes = blocks_of_any_kind(&mut random, sequence);
            image[position(block, 0)..][..LAYOUT.block_size].copy_from_slice(&bytes);
        }
        let bytes = &mut image[position(0, 0)..][..sb::SIZE];
        put(bytes, sb::INCOMPAT, incompat.to_be_bytes());
        put(bytes, sb::CHECKSUM_TYPE, [4]);
        put(bytes, sb::START, start.to_be_bytes());
        put(bytes, sb::COMPAT, [0, 0, 0, random.below(2) as u8]);
        let checksum = crc32c(!0, bytes);
        put(bytes, sb::CHECKSUM, checksum.to_be_bytes());
        if let Ok(machine) = LAYOUT.try_open(Disk::new(image), CHECKSUMS) {
            let mut handle = machine.journal.start(1).unwrap();
            handle.modify(&machine.read(3), |bytes| fill(bytes, 4711)).unwrap();
            handle.set_sync();
            handle.stop().unwrap();
            prop_assert_eq!(LAYOUT.open(Disk::new(machine.disk.image()), CHECKSUMS).number(3), 4711);
        }
    }

    /// A good log with some bytes changed: with checksums what comes out is one of the states that there were.
    #[test]
    fn mutated_logs(seed in any::<u64>(), checksums in any::<bool>()) {
        let features = if checksums { CHECKSUMS } else { PLAIN };
        let mut random = Random::new(seed);
        let mut image = used(features);
        for _ in 0..=random.below(3) {
            let within = [64, 1024][random.below(2) as usize];
            let at = position(random.below(28) as u32, random.below(within) as usize);
            image[at] ^= 1 << random.below(8);
        }
        let machine = LAYOUT.try_open(Disk::new(image), features);
        if let (Ok(machine), true) = (&machine, checksums) {
            let values: Vec<_> = (1..=5).map(|block| machine.number(block)).collect();
            prop_assert!(values.iter().all(|value| *value == values[0] && *value <= 3), "{:?}", values);
        }
    }

    #[test]
    fn tags_and_freed_blocks_come_back(incompat in 0u32..32, count in 1usize..60, seed in any::<u64>()) {
        let incompat = Incompat::from_bits_truncate(incompat);
        let format = Format { block_size: 1024, incompat, seed: 5 };
        let mut random = Random::new(seed);
        let count = count.min(format.tags_per_block());
        let mut block = vec![0; 1024];
        let (mut tags, mut freed) = (Vec::new(), Vec::new());
        for n in 0..count {
            let mut flags = TagFlags::from_bits_retain(random.below(2) as u32);
            flags.set(TagFlags::SAME_UUID, n != 0);
            flags.set(TagFlags::LAST, n + 1 == count);
            let block_nr = if incompat.contains(Incompat::BIG_BLOCKS) { random.next() } else { random.next() >> 32 };
            let checksum = match incompat {
                v3 if v3.contains(Incompat::CSUM_V3) => random.next() as u32,
                _ => random.next() as u16 as u32,
            };
            let tag = Tag { block: block_nr, flags, checksum };
            format.put_tag(&mut block, n, &tag);
            tags.push(tag);
        }
        format.seal(&mut block);
        prop_assert!(format.is_sealed(&block));
        prop_assert_eq!(format.tags(&block).collect::<Vec<_>>(), tags.clone());
        let mut block = vec![0; 1024];
        for (n, tag) in tags.iter().enumerate() {
            format.put_revoked(&mut block, n, tag.block);
            freed.push(tag.block);
        }
        prop_assert_eq!(format.revoked(&block).unwrap().collect::<Vec<_>>(), freed);
        prop_assert_eq!(format::be32(&MAGIC.to_be_bytes(), 0), MAGIC);
        prop_assert_eq!(number(&[0; 8]), 0);
    }
}
