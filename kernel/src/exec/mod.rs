//! Running programs: execve(2), execveat(2).
//!
//! # The steps
//!
//! 1. Open the file for execution; nobody may write to it from here on ([`program`]).
//! 2. Copy argument and environment strings into the kernel ([`args`]): the old memory is about to go.
//! 3. Ask the formats, in the order of [`binfmt::FORMATS`], which one knows the file. A script names its
//!    interpreter and the search begins again, at most five times ([`script`]).
//! 4. The ELF loader reads and checks all headers, of the program and of its interpreter ([`elf`], [`load`]).
//! 5. *The point of no return* ([`commit`]): the other threads go, memory, credentials and signal handlers change.
//! 6. Map, write the stack ([`stack`]), point the registers at the entry.
//!
//! An error before step 5 is the call's result. After it there is nothing to return to: the process dies of `SIGSEGV`
//! (`SIGKILL` if it is being killed anyway).
//!
//! Everything that comes from the file or from user memory is hostile: lengths are bounded before they are used
//! ([`args::Limits`], [`elf`]), and no error leaves half a process behind.

pub mod args;
pub mod binfmt;
pub mod commit;
pub mod elf;
pub mod load;
pub mod program;
pub mod script;
pub mod stack;
pub mod syscalls;

pub use binfmt::{exec, kernel_exec};
pub use program::{Exe, Program};
