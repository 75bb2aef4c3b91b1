//! How a row is measured.
//!
//! One short batch warms up and says how long an operation takes; then several batches of about
//! [`BATCH`] instructions run, and the cheapest counts: the others were interrupted by the timer.

use crate::sys;
use std::time::Duration;

/// Instructions in one batch, roughly.
const BATCH: u64 = 1_500_000;
/// Batches per row.
const BATCHES: u32 = 6;
/// Most operations in one batch.
const MOST: u64 = 20_000;

/// The rows asked for.
pub struct Rows {
    /// Names to run; empty: all.
    wanted: Vec<String>,
}

impl Rows {
    /// Rows by a list of names separated by commas; an empty list is all.
    pub fn new(list: &str) -> Rows {
        Rows { wanted: list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect() }
    }

    /// Whether any row that begins with `prefix` is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == name)
    }

    /// Measures `operation`.
    pub fn each(&self, name: &str, mut operation: impl FnMut()) {
        self.batches(name, 1, |count| {
            let start = sys::now();
            for _ in 0..count {
                operation();
            }
            sys::now() - start
        });
    }

    /// Measures a function that does `n` times `unit` operations, rounded as it likes, and returns
    /// what the counter said they took.
    pub fn batches(&self, name: &str, unit: u64, mut batch: impl FnMut(u64) -> u64) {
        if !self.wants(name) {
            return;
        }
        batch(2);
        let probe = batch(4).max(4) / 4;
        let count = (BATCH / probe.max(1)).clamp(4, MOST);
        let best = (0..BATCHES).map(|_| batch(count)).min().unwrap_or(0);
        let (multiply, divide) = sys::scale();
        let each = (best * multiply) as f64 / (divide * count * unit) as f64;
        println!("row {name} {each:.1}");
    }
}

/// The counter as a time since the machine started.
pub fn since_start(counter: u64) -> Duration {
    let (multiply, divide) = sys::scale();
    Duration::from_nanos((u128::from(counter) * u128::from(multiply) / u128::from(divide)) as u64)
}
