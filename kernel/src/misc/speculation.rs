//! `PR_GET_SPECULATION_CTRL`, `PR_SET_SPECULATION_CTRL`: what a thread may choose about the processor's guesses.
//!
//! The kernel has no switch for any of them, so the answers are those of a Linux that runs with `mitigations=off`: speculation is
//! on, and nobody can turn it off. PR_SET_SPECULATION_CTRL(2const).

use abi::raw_sys::prctl as pr;
use abi::{Errno, Result};

fn check(feature: usize) -> Result<u32> {
    match feature as u32 {
        _ if feature > u32::MAX as usize => Err(Errno::ENODEV),
        feature @ pr::PR_SPEC_STORE_BYPASS => Ok(feature),
        feature @ (pr::PR_SPEC_INDIRECT_BRANCH | pr::PR_SPEC_L1D_FLUSH)
            if arch::layout::HAS_BRANCH_CONTROL =>
        {
            Ok(feature)
        }
        _ => Err(Errno::ENODEV),
    }
}

/// How speculation `feature` is set.
///
/// # Errors
/// `ENODEV`: unknown on this architecture.
pub fn get(feature: usize) -> Result<isize> {
    Ok(match check(feature)? {
        pr::PR_SPEC_L1D_FLUSH => pr::PR_SPEC_FORCE_DISABLE,
        _ => pr::PR_SPEC_ENABLE,
    } as isize)
}

/// Sets how the thread may be speculated about.
///
/// # Errors
/// `ENODEV` as for [`get`]; `ENXIO`, `EPERM`: there is no such control. `ERANGE`: no such setting.
pub fn set(feature: usize, control: usize) -> Result<isize> {
    match (check(feature)?, control as u32) {
        (pr::PR_SPEC_STORE_BYPASS, _) if arch::layout::HAS_BRANCH_CONTROL => Err(Errno::ENXIO),
        // arm64 has a state where x86 has no control.
        (pr::PR_SPEC_STORE_BYPASS, pr::PR_SPEC_ENABLE) => Ok(0),
        (
            pr::PR_SPEC_STORE_BYPASS,
            pr::PR_SPEC_DISABLE | pr::PR_SPEC_FORCE_DISABLE | pr::PR_SPEC_DISABLE_NOEXEC,
        ) => Err(Errno::EPERM),
        (pr::PR_SPEC_INDIRECT_BRANCH, pr::PR_SPEC_ENABLE) => Ok(0),
        (pr::PR_SPEC_INDIRECT_BRANCH, pr::PR_SPEC_DISABLE | pr::PR_SPEC_FORCE_DISABLE)
        | (pr::PR_SPEC_L1D_FLUSH, _) => Err(Errno::EPERM),
        _ => Err(Errno::ERANGE),
    }
}
