//! Boot parameters: the kernel command line (`bootparam(7)`).
//!
//! A parameter is one [`Param`] beside the variable it sets; [`parse`] walks the command line once.
//! What no subsystem knows goes to init as Linux passes it: `name=value` becomes environment,
//! plain words become arguments, words with a dot are module parameters and go nowhere, and all
//! after `--` are arguments.

use alloc::string::String;
use alloc::vec::Vec;

/// A boot parameter.
pub struct Param {
    /// Its name; `-` and `_` mean the same on the command line.
    pub name: &'static str,
    /// Takes the value, `None` for a bare word. An `Err` is logged with the parameter.
    pub set: fn(Option<&'static str>) -> Result<(), Invalid>,
}

/// The value of a parameter makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// What the command line leaves for init.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InitArgs {
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// `NAME=value` strings.
    pub env: Vec<String>,
}

/// Splits a command line into parameters and hands each to `handle`, which returns whether it
/// knew the name. The rest is for init.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub fn parse(
    line: &'static str,
    mut handle: impl FnMut(&'static str, Option<&'static str>) -> bool,
) -> InitArgs {
    let mut rest = InitArgs::default();
    let mut for_init = false;
    for word in Words(line) {
        if for_init {
            rest.args.push(String::from(word));
            continue;
        }
        if word == "--" {
            for_init = true;
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(unquote(value))),
            None => (word, None),
        };
        if handle(name, value) || name.contains('.') {
            continue;
        }
        match value {
            Some(_) => rest.env.push(String::from(unquote(word))),
            None => rest.args.push(String::from(word)),
        }
    }
    rest
}

/// Whether two parameter names are the same.
pub fn same_name(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte == b'-' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

/// A size with an optional suffix K, M, G or T, as in `mem=512M`.
pub fn parse_size(text: &str) -> Result<u64, Invalid> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit());
    let (digits, suffix) = if text.starts_with("0x") || text.starts_with("0X") {
        (digits, &text[digits.len()..])
    } else {
        let end = text.bytes().take_while(u8::is_ascii_digit).count();
        (&text[..end], &text[end..])
    };
    let value = parse_number(digits)?;
    let shift = match suffix {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return Err(Invalid),
    };
    value.checked_mul(1 << shift).ok_or(Invalid)
}

/// A number in decimal, hexadecimal (`0x`) or octal (`0`).
pub fn parse_number(text: &str) -> Result<u64, Invalid> {
    let parsed = if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        u64::from_str_radix(&text[1..], 8)
    } else {
        text.parse()
    };
    parsed.map_err(|_| Invalid)
}

fn unquote(value: &'static str) -> &'static str {
    value.strip_prefix('"').map_or(value, |inner| inner.strip_suffix('"').unwrap_or(inner))
}

/// Words separated by white space; double quotes keep white space inside a word.
struct Words(&'static str);

impl Iterator for Words {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        let text = self.0.trim_start();
        if text.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = text
            .find(|c: char| {
                quoted ^= c == '"';
                c.is_whitespace() && !quoted
            })
            .unwrap_or(text.len());
        self.0 = &text[end..];
        Some(unquote(&text[..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_nobody_knows_goes_to_init() {
        let mut seen = Vec::new();
        let rest = parse("console=ttyS0,115200 ro single FOO=bar a.b=c -- -x y=z", |name, value| {
            let known = matches!(name, "console" | "ro");
            if known {
                seen.push((name, value));
            }
            known
        });
        assert_eq!(seen, [("console", Some("ttyS0,115200")), ("ro", None)]);
        assert_eq!(rest.args, ["single", "-x", "y=z"]);
        assert_eq!(rest.env, ["FOO=bar"]);
    }

    #[test]
    fn quotes_keep_white_space() {
        let rest = parse("A=\"b c\" \"D=e f\"", |_, _| false);
        assert_eq!(rest.env.iter().map(ToString::to_string).collect::<Vec<_>>(), ["A=\"b c\"", "D=e f"]);
    }

    #[test]
    fn sizes_and_numbers() {
        assert_eq!(parse_size("512M"), Ok(512 << 20));
        assert_eq!(parse_size("0x10"), Ok(16));
        assert_eq!(parse_size("0x10K"), Ok(16 << 10));
        assert_eq!(parse_size("12Q"), Err(Invalid));
        assert_eq!(parse_size("99999999999999T"), Err(Invalid));
        assert_eq!(parse_number("010"), Ok(8));
        assert!(same_name("log-buf-len", "log_buf_len"));
    }
}
