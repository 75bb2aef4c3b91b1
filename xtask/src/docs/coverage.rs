//! Which guest tests make which system calls: read from the text of `tests/guest`.
//!
//! A function makes a call if it names its `SYS_` constant, calls the C library's function of that name through `c!`,
//! or calls a function or macro of the test program that does. Only functions in a `tests!` list are tests.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// A function of the test program.
struct Function {
    file: String,
    name: String,
    calls: BTreeSet<String>,
    uses: BTreeSet<String>,
    is_test: bool,
}

/// The tests of each call that has any, as `file::name`, fewest calls first: those are about it.
pub fn tests_by_call(folder: &Path, is_call: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<String>>> {
    let mut functions = Vec::new();
    for path in super::files(folder, "rs")? {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        functions.extend(functions_of(&file, &text, &is_call));
    }
    close(&mut functions);
    let mut found: BTreeMap<String, Vec<&Function>> = BTreeMap::new();
    for function in functions.iter().filter(|function| function.is_test) {
        for call in &function.calls {
            found.entry(call.clone()).or_default().push(function);
        }
    }
    let names = |mut tests: Vec<&Function>| {
        tests.sort_by_key(|test| (test.calls.len(), &test.file, &test.name));
        tests.iter().map(|test| format!("{}::{}", test.file, test.name)).collect()
    };
    Ok(found.into_iter().map(|(call, tests)| (call, names(tests))).collect())
}

fn functions_of(file: &str, text: &str, is_call: &impl Fn(&str) -> bool) -> Vec<Function> {
    let tests: BTreeSet<&str> = text
        .split_once("tests![")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(list, _)| list.split(',').map(str::trim).collect())
        .unwrap_or_default();
    let mut functions: Vec<Function> = Vec::new();
    for line in text.lines() {
        if let Some(name) = function_name(line) {
            functions.push(Function {
                file: file.to_string(),
                name: name.to_string(),
                calls: BTreeSet::new(),
                uses: BTreeSet::new(),
                is_test: tests.contains(name),
            });
        }
        let Some(function) = functions.last_mut() else { continue };
        // What the hostile tests leave out is not made.
        if function.name.ends_with("skipped") {
            continue;
        }
        for (word, rest) in words(line) {
            if let Some(call) = word.strip_prefix("SYS_") {
                function.calls.insert(call.to_string());
            } else if ["(", "::<", "!("].iter().any(|mark| rest.starts_with(mark)) {
                if line.contains(&format!("c!({word}(")) && is_call(word) {
                    function.calls.insert(word.to_string());
                }
                function.uses.insert(word.to_string());
            }
        }
    }
    functions
}

/// The name of the function or macro that begins on `line`, if one does: those at the margin, and methods.
fn function_name(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    if line.len() - trimmed.len() > 4 {
        return None;
    }
    let trimmed = ["pub(crate) ", "pub ", "const ", "unsafe "]
        .iter()
        .fold(trimmed, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    let rest = trimmed.strip_prefix("fn ").or_else(|| trimmed.strip_prefix("macro_rules! "))?;
    rest.split(['(', '<', ' ']).next()
}

/// The identifiers of `line`, each with what follows it.
fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line.split("//").next().unwrap_or_default();
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '_')?;
        let from = &rest[start..];
        let end = from.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(from.len());
        rest = &from[end..];
        Some((&from[..end], rest))
    })
}

/// Gives every function the calls of those it uses, until nothing changes. A name means the function of the same file
/// if there is one, otherwise those of all files.
fn close(functions: &mut [Function]) {
    loop {
        let mut by_name: HashMap<(Option<&str>, &str), BTreeSet<String>> = HashMap::new();
        for function in functions.iter().filter(|function| !function.is_test) {
            for key in
                [(Some(function.file.as_str()), function.name.as_str()), (None, function.name.as_str())]
            {
                by_name.entry(key).or_default().extend(function.calls.iter().cloned());
            }
        }
        let mut more = Vec::new();
        for function in functions.iter() {
            let mut found = BTreeSet::new();
            for name in &function.uses {
                let own = by_name.get(&(Some(function.file.as_str()), name.as_str()));
                found.extend(
                    own.or_else(|| by_name.get(&(None, name.as_str()))).into_iter().flatten().cloned(),
                );
            }
            more.push(found);
        }
        let mut changed = false;
        for (function, more) in functions.iter_mut().zip(more) {
            let before = function.calls.len();
            function.calls.extend(more);
            changed |= function.calls.len() > before;
        }
        if !changed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_pass_their_calls_on() {
        let text = "tests![one, two, three];\nmacro_rules! ctl {\n    () => { sys!(SYS_keyctl) };\n}\nfn three() -> Outcome {\n    ctl!(1);\n}\nfn one() -> Outcome {\n    opened();\n}\nfn opened() -> R {\n    sys!(SYS_openat, 1)\n}\n\
                    fn two() -> Outcome {\n    c!(fork())?; // SYS_read is not made\n}\n";
        let mut functions = functions_of("f", text, &|name| name == "fork");
        close(&mut functions);
        let calls = |name: &str| functions.iter().find(|f| f.name == name).map(|f| f.calls.clone());
        assert_eq!(calls("one"), Some(BTreeSet::from(["openat".to_string()])));
        assert_eq!(calls("two"), Some(BTreeSet::from(["fork".to_string()])));
        assert_eq!(calls("three"), Some(BTreeSet::from(["keyctl".to_string()])));
        assert_eq!(functions.iter().filter(|f| f.is_test).count(), 3);
    }
}
