//! The process that did something last: `sempid`, `msg_lspid`, `shm_cpid` and relatives.

use crate::process::{Pid, PidNamespace};
use alloc::sync::Arc;

/// Nobody, or a process, which may be gone by now.
#[derive(Default)]
pub struct LastPid(Option<Arc<Pid>>);

impl LastPid {
    /// It was `pid`.
    #[inline]
    pub fn set(&mut self, pid: &Arc<Pid>) {
        if !self.0.as_ref().is_some_and(|old| Arc::ptr_eq(old, pid)) {
            self.0 = Some(pid.clone());
        }
    }

    /// Its number as `ns` sees it; 0 for nobody.
    pub fn nr_in(&self, ns: &PidNamespace) -> i32 {
        self.0.as_ref().map_or(0, |pid| pid.nr_in(ns))
    }
}
