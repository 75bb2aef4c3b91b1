//! The parts of this architecture that are pure arithmetic or parsing: what `cargo test` compiles of it.
#![allow(dead_code)]

#[path = "date.rs"]
mod date;
#[path = "mptable.rs"]
mod mptable;
#[path = "pte.rs"]
mod pte;
