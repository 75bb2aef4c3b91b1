//! The formats that programs come in, and the search for the right one.

use super::args::Vectors;
use super::{Program, load, script};
use crate::process::current;
use crate::signal::{Signal, force};
use abi::{Errno, Result};
use alloc::boxed::Box;
use arch::trap::TrapFrame;
use mm::fallible::{try_box, try_to_vec};

/// What a format makes of a file.
pub enum Loaded {
    /// The new program is in place.
    Done,
    /// Another file is to be run in its stead.
    Interpreter(Box<Program>),
}

/// Where an exec stands: decides what an error means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The old program can go on.
    Revocable,
    /// The old program is gone.
    Committed,
}

/// What one exec carries through its steps.
pub struct Exec<'a> {
    /// The caller's registers.
    pub frame: &'a mut TrapFrame,
    /// Arguments and environment.
    pub vectors: Vectors,
    /// The name the user called, for `AT_EXECFN` and the task's name.
    pub filename: alloc::vec::Vec<u8>,
    /// How far it is.
    pub stage: Stage,
}

/// A format: `ENOEXEC` means "not mine".
type Load = fn(&mut Exec<'_>, &Program) -> Result<Loaded>;

/// The formats, in the order in which they are asked.
pub const FORMATS: &[(&str, Load)] = &[("script", load_script), ("elf", load::load_elf)];

/// How many interpreters may stand behind one another.
const DEPTH_MAX: usize = 5;

/// Runs `program` in the running process.
///
/// # Errors
/// Those of the formats, `ENOEXEC` if none knows the file, `ELOOP` when scripts go too deep.
pub fn exec(frame: &mut TrapFrame, program: Program, vectors: Vectors) -> Result<()> {
    let filename = try_to_vec(&program.name)?;
    let before = current().pid();
    let mut exec = Exec { frame, vectors, filename, stage: Stage::Revocable };
    let result = search(&mut exec, program);
    if result.is_err() && exec.stage == Stage::Committed && !sched::current().has_fatal_signal() {
        force::fatal(Signal::SIGSEGV);
    }
    if result.is_err() {
        super::commit::abandon(&current());
    } else {
        crate::ptrace::stop::exec(&before);
        // A tracer may have changed every register behind our back.
        core::hint::black_box(exec.frame);
    }
    result
}

/// Runs `path` with these arguments in the running process: how boot turns process 1 into init.
///
/// # Errors
/// As execve(2).
pub fn kernel_exec(frame: &mut TrapFrame, path: &[u8], argv: &[&[u8]], envp: &[&[u8]]) -> Result<()> {
    let program = Program::open(abi::raw::AT_FDCWD, path, 0)?;
    let collect = |list: &[&[u8]]| {
        let mut strings = super::args::Strings::default();
        list.iter().try_for_each(|s| strings.push(s)).map(|()| strings)
    };
    let vectors = Vectors::new(collect(argv)?, collect(envp)?, &super::args::Limits::of_current())?;
    exec(frame, program, vectors)
}

fn search(exec: &mut Exec<'_>, mut program: Program) -> Result<()> {
    for _ in 0..=DEPTH_MAX {
        match ask(exec, &program)? {
            Loaded::Done => return Ok(()),
            Loaded::Interpreter(next) => program = *next,
        }
    }
    Err(Errno::ELOOP)
}

fn ask(exec: &mut Exec<'_>, program: &Program) -> Result<Loaded> {
    for (_, load) in FORMATS {
        match load(exec, program) {
            Err(Errno::ENOEXEC) if exec.stage == Stage::Revocable => {}
            other => return other,
        }
    }
    Err(Errno::ENOEXEC)
}

fn load_script(exec: &mut Exec<'_>, program: &Program) -> Result<Loaded> {
    let prefix = program.prefix.get(..program.prefix_len).unwrap_or_default();
    let script = script::parse(prefix)?;
    if program.inaccessible {
        // The interpreter could not open /dev/fd/N.
        return Err(Errno::ENOENT);
    }
    exec.vectors.interpret(script.interpreter, script.argument, &program.name)?;
    Ok(Loaded::Interpreter(try_box(Program::interpreter(script.interpreter)?)?))
}
