//! Text that devices give: model names, serial numbers.

use abi::{Errno, Result};
use alloc::string::String;
use alloc::vec::Vec;
use mm::fallible::TryVec;

/// The printable characters of `bytes`, blanks for others, without those at both ends.
///
/// # Errors
/// `ENOMEM`.
pub fn printable(bytes: impl Iterator<Item = u8>) -> Result<String> {
    let mut text = Vec::new();
    for byte in bytes {
        text.try_push(if byte.is_ascii_graphic() { byte } else { b' ' })?;
    }
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    text.truncate(end);
    let start = text.iter().position(|byte| *byte != b' ').unwrap_or(0);
    text.drain(..start);
    String::from_utf8(text).map_err(|_| Errno::EIO)
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_trimmed_and_made_printable() {
        let of = |bytes: &[u8]| super::printable(bytes.iter().copied()).unwrap();
        assert_eq!(of(b"  QEMU HARDDISK \0 "), "QEMU HARDDISK");
        assert_eq!(of(b"a\xffb\n"), "a b");
        assert_eq!(of(b"   "), "");
        assert_eq!(of(b""), "");
    }
}
