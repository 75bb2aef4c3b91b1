//! Enough of Rust's lexical structure to tell code from comments and literals.

/// `source` with comments and the contents of string and character literals blanked out; line
/// breaks stay, so that positions keep their line numbers.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            [b'/', b'*', ..] => block_comment(bytes, at),
            [b'"', ..] => string(bytes, at),
            [b'r', b'"' | b'#', ..] if !identifier_before(bytes, at) => raw_string(bytes, at).unwrap_or(at),
            [b'\'', ..] => character(bytes, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether `word` occurs in `code` as a whole identifier.
pub fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && !part(after)
    })
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|w| w == what).map(|at| from + at)
}

fn identifier_before(bytes: &[u8], at: usize) -> bool {
    // `br"…"` is a raw string too; any other identifier character is not.
    let before = |n: usize| at.checked_sub(n).map(|i| bytes[i]);
    let part = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if matches!(before(1), Some(b'b' | b'c')) { part(before(2)) } else { part(before(1)) }
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

fn string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = start + 2 + hashes;
    Some(find(bytes, body.min(bytes.len()), &close).map_or(bytes.len(), |at| at + close.len()))
}

/// The end of a character literal; `None` for a lifetime.
fn character(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes.get(start + 1)? {
        b'\\' => find(bytes, start + 3, b"'").map(|at| at + 1),
        _ => {
            let text = std::str::from_utf8(&bytes[start + 1..]).ok()?;
            let width = text.chars().next()?.len_utf8();
            (bytes.get(start + 1 + width) == Some(&b'\'')).then_some(start + 2 + width)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{code_only, has_word};

    #[test]
    fn comments_and_literals_vanish() {
        let source = "a // unsafe\n/* unsafe /* x */ unsafe */ b \"un\\\"safe\" r#\"unsafe\"# '\\'' 'x 'y'";
        let code = code_only(source);
        assert_eq!(code.len(), source.len());
        assert!(!code.contains("safe"));
        assert!(code.contains("'x "));
        assert!(!code.contains("'y'"));
        assert_eq!(code.matches('\n').count(), 1);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
        assert!(!has_word("not_unsafe()", "unsafe"));
    }
}
