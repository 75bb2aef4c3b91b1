//! CRC32c, as the journal's blocks have it, and the CRC32 of the first kind of commit checksums.

use crc::{Algorithm, Crc, Table};

/// CRC32c (Castagnoli) without inversions: what is stored is the register itself.
const CASTAGNOLI: Algorithm<u32> = Algorithm {
    width: 32,
    poly: 0x1edc_6f41,
    init: 0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0x58e3_fa20,
    residue: 0,
};

/// CRC32 of Ethernet, highest bit first and without inversions.
const ETHERNET: Algorithm<u32> = Algorithm {
    width: 32,
    poly: 0x04c1_1db7,
    init: 0,
    refin: false,
    refout: false,
    xorout: 0,
    check: 0x89a1_897f,
    residue: 0,
};

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CASTAGNOLI);
static CRC32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&ETHERNET);

/// CRC32c of `bytes`, going on from `crc`. A first one begins with `!0`.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32C.digest_with_initial(crc.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// CRC32, highest bit first, of `bytes`, going on from `crc`. A first one begins with `!0`.
pub fn crc32_be(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32.digest_with_initial(crc);
    digest.update(bytes);
    digest.finalize()
}
