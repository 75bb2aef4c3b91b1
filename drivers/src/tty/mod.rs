//! Terminals.

pub mod ldisc;
mod output;
pub mod termios;
