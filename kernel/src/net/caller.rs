//! Who calls, as sockets ask for it.

use abi::cap::Cap;
use alloc::sync::Arc;
use socket::{Credentials, FlightLimit, Host, Identity, ProcessRef};
use vfs::security::Domain;

use crate::fs::context::nofile;
use crate::process::current;
use crate::process::pid::Pid;

/// The thread that calls.
pub struct Caller;

impl Host for Caller {
    fn credentials(&self) -> Credentials {
        let me = current();
        let (uid, gid) = me.with_cred(|cred| (cred.euid.0, cred.egid.0));
        Credentials { pid: me.process.pid.global(), uid, gid }
    }

    fn identity(&self) -> Identity {
        let me = current();
        let process: ProcessRef = me.process.pid.clone();
        Identity { ids: Some(self.credentials()), process: Some(process), cred: Some(me.cred()) }
    }

    fn domain(&self) -> Option<Arc<dyn Domain>> {
        current().cred().domain.clone()
    }

    fn random(&self) -> u32 {
        crate::misc::random::u64() as u32
    }

    fn flight_limit(&self) -> FlightLimit {
        let (user, exempt) = current()
            .with_cred(|cred| (cred.uid.0, cred.capable(Cap::SysResource) || cred.capable(Cap::SysAdmin)));
        FlightLimit { user, most: if exempt { u64::MAX } else { nofile() } }
    }
}

/// The process that a socket refers to.
pub(super) fn pid_of(process: &ProcessRef) -> Option<Arc<Pid>> {
    process.clone().downcast().ok()
}
