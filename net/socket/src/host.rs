//! What sockets ask the layer of processes: who calls, and what it may.

use alloc::sync::Arc;
use core::any::Any;

use sync::Once;
use vfs::security::Domain;

use crate::message::Credentials;

/// A process, as the layer of processes knows it.
pub type ProcessRef = Arc<dyn Any + Send + Sync>;

/// Who made a socket, or connected one.
#[derive(Clone, Default)]
pub struct Identity {
    /// `SO_PEERCRED`.
    pub ids: Option<Credentials>,
    /// The process.
    pub process: Option<ProcessRef>,
    /// Its credentials.
    pub cred: Option<Arc<vfs::Credentials>>,
}

/// How many open files a user may have in messages.
#[derive(Clone, Copy, Debug)]
pub struct FlightLimit {
    /// The user.
    pub user: u32,
    /// Files that may be in flight before no more can be sent.
    pub most: u64,
}

/// Answers for the thread that calls.
pub trait Host: Sync {
    /// Pid, effective user and group.
    fn credentials(&self) -> Credentials;

    /// The same, and what stands behind the numbers.
    fn identity(&self) -> Identity;

    /// What restricts it.
    fn domain(&self) -> Option<Arc<dyn Domain>>;

    /// A random number.
    fn random(&self) -> u32;

    /// What it may have in flight.
    fn flight_limit(&self) -> FlightLimit;
}

static HOST: Once<&'static dyn Host> = Once::new();

/// Says whom to ask; the process layer does so at boot.
pub fn set_host(host: &'static dyn Host) {
    HOST.call_once(|| host);
}

/// Who calls: pid, effective user and group.
pub fn current_credentials() -> Credentials {
    HOST.get().map(|host| host.credentials()).unwrap_or_default()
}

/// Who calls, in full.
pub fn current_identity() -> Identity {
    HOST.get().map(|host| host.identity()).unwrap_or_default()
}

/// What restricts who calls.
pub fn current_domain() -> Option<Arc<dyn Domain>> {
    HOST.get().and_then(|host| host.domain())
}

/// A random number.
pub(crate) fn random() -> u32 {
    HOST.get().map_or(0, |host| host.random())
}

/// The calling user, and how many open files it may have in messages.
pub fn current_flight_limit() -> FlightLimit {
    HOST.get().map_or(FlightLimit { user: 0, most: u64::MAX }, |host| host.flight_limit())
}
