//! Argument and environment strings on their way from the old memory to the new.
//!
//! The strings of one vector are kept back to back, each with its NUL, in chunks of bounded size: what a user can
//! ask for is megabytes, and the heap should not have to find them in one piece.

use crate::process::{Resource, current};
use abi::{Errno, Result};
use alloc::vec::Vec;
use arch::uaccess::{get_u64, strncpy_from_user};
use mm::fallible::{TryVec, try_with_capacity};

/// Longest single string with its NUL (`MAX_ARG_STRLEN`).
const STRING_MAX: usize = 128 * 1024;
/// The least that is always allowed for strings and pointers (`ARG_MAX`).
const TOTAL_MIN: usize = 128 * 1024;
/// The most, whatever the stack limit: three quarters of the default stack.
const TOTAL_MAX: usize = 6 * 1024 * 1024;
/// Bytes in one chunk.
const CHUNK: usize = 32 * 1024;
/// Bytes in the first chunk: enough for most programs.
const FIRST_CHUNK: usize = 2 * 1024;

/// How much a program may be given.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Strings and pointers together.
    pub total: usize,
}

impl Limits {
    /// A quarter of the stack limit, within bounds.
    pub fn of_current() -> Self {
        Self::of_stack(current().process.limits.cur(Resource::Stack))
    }

    /// See [`Limits::of_current`].
    pub fn of_stack(stack: u64) -> Self {
        let quarter = usize::try_from(stack / 4).unwrap_or(usize::MAX);
        Self { total: quarter.clamp(TOTAL_MIN, TOTAL_MAX) }
    }
}

/// The strings of one vector.
#[derive(Default)]
pub struct Strings {
    chunks: Vec<Vec<u8>>,
    count: usize,
    len: usize,
    /// Length of the first string with its NUL: a script replaces it.
    first_len: usize,
}

impl Strings {
    /// Copies the strings of a NULL-terminated user vector (a null vector is empty).
    ///
    /// # Errors
    /// `EFAULT`, `E2BIG`, `ENOMEM`; `EINTR` when the process is being killed.
    pub fn from_user(vector: usize, limits: &Limits) -> Result<Self> {
        let mut all = Self::default();
        if vector == 0 {
            return Ok(all);
        }
        let mut at = vector;
        loop {
            let string = get_u64(at).map_err(|_| Errno::EFAULT)? as usize;
            if string == 0 {
                return Ok(all);
            }
            all.add_user(string, limits)?;
            at = at.checked_add(8).ok_or(Errno::EFAULT)?;
            if all.count % 512 == 0 && sched::current().has_fatal_signal() {
                return Err(Errno::EINTR);
            }
        }
    }

    /// Room in the last chunk, making one if it is full.
    fn chunk(&mut self) -> Result<&mut Vec<u8>> {
        if self.chunks.last().is_none_or(|c| c.len() == c.capacity()) {
            let size = if self.chunks.is_empty() { FIRST_CHUNK } else { CHUNK };
            self.chunks.try_push(try_with_capacity(size)?)?;
        }
        self.chunks.last_mut().ok_or(Errno::ENOMEM)
    }

    fn add_user(&mut self, string: usize, limits: &Limits) -> Result<()> {
        let before = self.len;
        loop {
            let copied = self.len - before;
            let chunk = self.chunk()?;
            let used = chunk.len();
            // Zeroing more than a string needs would cost more than copying it.
            let room = (chunk.capacity() - used).min(256.max(copied));
            chunk.try_resize(used + room, 0)?;
            let to = chunk.get_mut(used..).unwrap_or_default();
            let from = string.checked_add(copied).ok_or(Errno::EFAULT)?;
            let got = strncpy_from_user(to, from).map_err(|_| Errno::EFAULT)?;
            let complete = got < room;
            let kept = if complete { got + 1 } else { room };
            chunk.truncate(used + kept);
            self.len += kept;
            let length = self.len - before;
            if length > STRING_MAX || self.len + (self.count + 1) * 8 > limits.total {
                return Err(Errno::E2BIG);
            }
            if complete {
                self.end_string(length);
                return Ok(());
            }
        }
    }

    fn end_string(&mut self, length: usize) {
        if self.count == 0 {
            self.first_len = length;
        }
        self.count += 1;
    }

    /// Adds a string of the kernel's (without NUL).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn push(&mut self, string: &[u8]) -> Result<()> {
        let before = self.len;
        let mut rest = string;
        while !rest.is_empty() {
            let chunk = self.chunk()?;
            let room = (chunk.capacity() - chunk.len()).min(rest.len());
            let (now, later) = rest.split_at_checked(room).ok_or(Errno::E2BIG)?;
            chunk.try_extend_from_slice(now)?;
            rest = later;
        }
        self.chunk()?.try_push(0)?;
        self.len += string.len() + 1;
        self.end_string(self.len - before);
        Ok(())
    }

    /// How many strings.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Their bytes, NULs included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Calls `f` for the bytes from `skip` on, piece by piece.
    ///
    /// # Errors
    /// The first of `f`.
    pub fn for_each_piece(&self, skip: usize, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut skip = skip;
        for chunk in &self.chunks {
            let now = skip.min(chunk.len());
            skip -= now;
            f(chunk.get(now..).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Both vectors of a program, as scripts change them.
pub struct Vectors {
    /// Strings in front: interpreters and their arguments, innermost script last.
    prefix: Strings,
    /// The caller's arguments.
    argv: Strings,
    /// The first of `argv` was replaced.
    replaced: bool,
    /// The environment.
    pub envp: Strings,
    limits: Limits,
}

impl Vectors {
    /// # Errors
    /// `E2BIG` if they do not fit together.
    pub fn new(mut argv: Strings, envp: Strings, limits: &Limits) -> Result<Self> {
        if argv.is_empty() {
            // A program without even a name has been the way into many exploits.
            argv.push(b"")?;
        }
        let all = Self { prefix: Strings::default(), argv, replaced: false, envp, limits: *limits };
        all.check()?;
        Ok(all)
    }

    fn check(&self) -> Result<()> {
        let pointers = (self.argc() + self.envp.count()) * 8;
        if self.args_len() + self.envp.len() + pointers > self.limits.total {
            return Err(Errno::E2BIG);
        }
        Ok(())
    }

    /// A script: its interpreter, the one argument and the script's name take the place of the first argument.
    ///
    /// # Errors
    /// `E2BIG`, `ENOMEM`.
    pub fn interpret(&mut self, interpreter: &[u8], argument: Option<&[u8]>, script: &[u8]) -> Result<()> {
        let mut prefix = Strings::default();
        prefix.push(interpreter)?;
        if let Some(argument) = argument {
            prefix.push(argument)?;
        }
        prefix.push(script)?;
        // The name in front of what was there (an outer interpreter's own name) is replaced in turn.
        if self.replaced {
            let old = core::mem::take(&mut self.prefix);
            let skip = old.first_len;
            let mut bytes = Vec::new();
            old.for_each_piece(skip, |piece| Ok(bytes.try_extend_from_slice(piece)?))?;
            for string in bytes.split_inclusive(|b| *b == 0) {
                prefix.push(string.strip_suffix(&[0]).unwrap_or(string))?;
            }
        }
        self.prefix = prefix;
        self.replaced = true;
        self.check()
    }

    fn argv_skip(&self) -> usize {
        if self.replaced { self.argv.first_len } else { 0 }
    }

    /// Number of arguments.
    pub fn argc(&self) -> usize {
        self.prefix.count() + self.argv.count() - usize::from(self.replaced)
    }

    /// Bytes of the arguments.
    pub fn args_len(&self) -> usize {
        self.prefix.len() + self.argv.len() - self.argv_skip()
    }

    /// Calls `f` for all argument bytes in order.
    ///
    /// # Errors
    /// The first of `f`.
    pub fn for_each_arg_piece(&self, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.prefix.for_each_piece(0, &mut f)?;
        self.argv.for_each_piece(self.argv_skip(), &mut f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&[u8]]) -> Strings {
        let mut s = Strings::default();
        list.iter().for_each(|x| s.push(x).unwrap());
        s
    }

    fn bytes(v: &Vectors) -> Vec<u8> {
        let mut all = Vec::new();
        v.for_each_arg_piece(|p| {
            all.extend_from_slice(p);
            Ok(())
        })
        .unwrap();
        assert_eq!(all.len(), v.args_len());
        assert_eq!(all.iter().filter(|b| **b == 0).count(), v.argc());
        all
    }

    #[test]
    fn scripts_replace_the_first_argument() {
        let limits = Limits::of_stack(8 << 20);
        let mut v = Vectors::new(strings(&[b"a", b"b c", b""]), strings(&[b"X=1"]), &limits).unwrap();
        assert_eq!(bytes(&v), b"a\0b c\0\0");
        v.interpret(b"/bin/awk", Some(b"-f"), b"./script").unwrap();
        assert_eq!(bytes(&v), b"/bin/awk\0-f\0./script\0b c\0\0");
        // The interpreter is a script itself.
        v.interpret(b"/bin/sh", None, b"/bin/awk").unwrap();
        assert_eq!(bytes(&v), b"/bin/sh\0/bin/awk\0-f\0./script\0b c\0\0");
    }

    #[test]
    fn an_empty_vector_gets_a_name() {
        let v = Vectors::new(Strings::default(), Strings::default(), &Limits::of_stack(0)).unwrap();
        assert_eq!((v.argc(), bytes(&v)), (1, vec![0]));
    }

    #[test]
    fn limits_are_those_of_linux() {
        assert_eq!(Limits::of_stack(8 << 20).total, 2 << 20);
        assert_eq!(Limits::of_stack(u64::MAX).total, 6 << 20);
        assert_eq!(Limits::of_stack(0).total, 128 << 10);
    }

    #[test]
    fn long_strings_cross_chunks() {
        let long = vec![b'x'; CHUNK * 2 + 5];
        let mut s = strings(&[b"first"]);
        s.push(&long).unwrap();
        let mut all = Vec::new();
        s.for_each_piece(6, |p| {
            all.extend_from_slice(p);
            Ok(())
        })
        .unwrap();
        assert_eq!(all.len(), long.len() + 1);
        assert!(s.chunks.iter().all(|c| c.len() <= CHUNK));
    }

    #[test]
    fn too_much_is_refused() {
        let limits = Limits { total: 64 };
        assert!(Vectors::new(strings(&[&[b'x'; 60]]), Strings::default(), &limits).is_err());
    }
}
