//! Terminals: line discipline, job control, pseudo terminals.
//!
//! | file | what it owns |
//! |---|---|
//! | [`ldisc`] | the input buffer, line editing, echo: a state machine that knows no processes |
//! | `output` | output processing and the cursor's column |
//! | [`termios`] | the settings' defaults and flags |
//! | [`core`] | [`core::Tty`]: blocking, job control, hang-up |
//! | [`file`] | terminals as open files |
//! | `ioctl` | requests to terminals |
//! | [`devices`] | terminals by device number |
//! | [`job`] | the traits that the process layer implements |
//! | [`pty`] | pseudo terminals |

pub mod core;
pub mod devices;
pub mod file;
mod ioctl;
pub mod job;
pub mod ldisc;
mod output;
pub mod pty;
pub mod termios;
