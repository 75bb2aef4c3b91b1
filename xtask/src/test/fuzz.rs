//! Random system calls in the debug kernel, as root and as an ordinary user: five minutes over both architectures.
//!
//! The seed follows from the day, so that each day tries something else and a failure can be repeated; the message of
//! a failure names it.

use super::{Context, Report};
use crate::build::{self, Profile};
use crate::fuzz::{Run, fuzz};
use crate::qemu::Machine;
use crate::ui;
use anyhow::Result;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds that programs are started, for each user.
const SECONDS: u64 = 75;
/// Seeds that a day has to itself.
const SEEDS_PER_DAY: u64 = 100_000;

/// Runs the part.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    if context.oracle || !context.wants("fuzz") {
        return Ok(());
    }
    let kernel = build::kernel(context.arch, Profile::from_debug_flag(true))?.image;
    let day = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400;
    for user in [0, 1000] {
        let run = Run { seed: day * SEEDS_PER_DAY, seconds: SECONDS, user, ..Run::default() };
        let name = format!("{} fuzz as user {user}", context.label());
        match fuzz(Machine::new(context.arch, &kernel), &run)? {
            Ok(summary) => {
                ui::note(&summary);
                report.pass(&name);
            }
            Err(why) => report.fail(&name, &format!("seed {}: {why}", run.seed)),
        }
    }
    Ok(())
}
