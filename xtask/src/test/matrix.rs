//! Not there yet.
use super::{Context, Report};
use anyhow::Result;
/// Runs the part.
pub fn run(_context: &Context, _report: &mut Report) -> Result<()> {
    Ok(())
}
