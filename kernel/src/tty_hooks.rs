//! What the terminal layer does when processes come and go; it registers itself at boot.

use crate::process::Process;
use alloc::sync::Arc;
use sync::Once;

/// Events that concern controlling terminals.
pub trait TtyHooks: Sync {
    /// The leader of a session exits: its terminal is hung up and belongs to nobody.
    fn session_leader_exits(&self, process: &Arc<Process>);
}

static HOOKS: Once<&'static dyn TtyHooks> = Once::new();

/// Registers the terminal layer. The first call counts.
pub fn set(hooks: &'static dyn TtyHooks) {
    HOOKS.call_once(|| hooks);
}

/// See [`TtyHooks::session_leader_exits`].
pub fn session_leader_exits(process: &Arc<Process>) {
    if let Some(hooks) = HOOKS.get() {
        hooks.session_leader_exits(process);
    }
}
