//! `#!` lines: what Linux's `binfmt_script` accepts.
//!
//! The first 256 bytes of the file decide. The interpreter's name must end inside them (else
//! `ENOEXEC`: a cut-off name could start another program); the one optional argument may be cut.
//! Blanks are space and tab; a NUL ends the line as a newline does; everything after the first
//! blank run is one argument, with trailing blanks removed. execve(2), "Interpreter scripts".

use abi::{Errno, Result};

/// How many bytes of a file are looked at.
pub const PREFIX_LEN: usize = 256;

/// A parsed `#!` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script<'a> {
    /// Path of the interpreter.
    pub interpreter: &'a [u8],
    /// Its single argument.
    pub argument: Option<&'a [u8]>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Parses the first bytes of a file (zero padded to [`PREFIX_LEN`] when the file is shorter).
///
/// # Errors
/// `ENOEXEC`: not a script, no name, or a name that does not end inside the prefix.
pub fn parse(prefix: &[u8]) -> Result<Script<'_>> {
    let line = prefix.strip_prefix(b"#!").ok_or(Errno::ENOEXEC)?;
    let full = prefix.len() >= PREFIX_LEN;
    let newline = line.iter().position(|&b| b == b'\n');
    let line = match newline {
        Some(end) => line.get(..end).unwrap_or_default(),
        // The kernel keeps room for a terminator: the last byte of a full prefix is not looked at.
        None if full => line.get(..line.len().saturating_sub(1)).unwrap_or_default(),
        None => line,
    };
    let first = line.iter().position(|&b| !is_blank(b)).ok_or(Errno::ENOEXEC)?;
    let line = line.get(first..).unwrap_or_default();
    let name_end = line.iter().position(|&b| is_blank(b) || b == 0);
    if newline.is_none() && full && name_end.is_none() {
        return Err(Errno::ENOEXEC);
    }
    let (interpreter, rest) = line.split_at_checked(name_end.unwrap_or(line.len())).ok_or(Errno::ENOEXEC)?;
    if interpreter.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let rest = rest.split(|&b| b == 0).next().unwrap_or_default();
    let start = rest.iter().position(|&b| !is_blank(b));
    let argument = start.and_then(|start| {
        let end = rest.iter().rposition(|&b| !is_blank(b))?;
        rest.get(start..=end)
    });
    Ok(Script { interpreter, argument })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn ok(line: &[u8]) -> (&[u8], Option<&[u8]>) {
        let s = parse(line).unwrap();
        (s.interpreter, s.argument)
    }

    #[test]
    fn plain_lines() {
        assert_eq!(ok(b"#!/bin/sh\n"), (&b"/bin/sh"[..], None));
        assert_eq!(ok(b"#! \t/bin/sh -e -x \t\necho"), (&b"/bin/sh"[..], Some(&b"-e -x"[..])));
        assert_eq!(ok(b"#!/bin/sh"), (&b"/bin/sh"[..], None));
        assert_eq!(ok(b"#!sh\0junk\n"), (&b"sh"[..], None));
    }

    #[test]
    fn refused_lines() {
        for line in [&b""[..], b"#", b"#!", b"#!\n/bin/sh", b"#!  \t\n", b"\x7fELF"] {
            assert_eq!(parse(line), Err(Errno::ENOEXEC));
        }
    }

    #[test]
    fn long_lines() {
        let mut name = vec![b'x'; PREFIX_LEN];
        name[..3].copy_from_slice(b"#!/");
        assert_eq!(parse(&name), Err(Errno::ENOEXEC));
        let mut arg = name.clone();
        arg[10] = b' ';
        let s = parse(&arg).unwrap();
        assert_eq!(s.interpreter.len(), 8);
        assert_eq!(s.argument.unwrap().len(), PREFIX_LEN - 11 - 1);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..PREFIX_LEN + 1)) {
            if let Ok(s) = parse(&bytes) {
                prop_assert!(!s.interpreter.is_empty());
                prop_assert!(!s.interpreter.iter().any(|&b| is_blank(b) || b == b'\n' || b == 0));
            }
        }
    }
}
