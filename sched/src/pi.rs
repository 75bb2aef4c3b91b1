//! What `pi_lock` of a task protects: its wake-ups, and the priorities it inherits.

/// The state behind `pi_lock`.
#[derive(Debug)]
pub(crate) struct PiState {}

impl PiState {
    pub(crate) const fn new() -> Self {
        Self {}
    }
}
