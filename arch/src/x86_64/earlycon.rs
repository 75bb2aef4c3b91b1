//! Where the early console writes.

/// Chooses the device from an `earlycon=` argument; `None`: the machine's usual one.
pub fn setup(_spec: Option<&str>) -> bool {
    todo!()
}

/// Writes bytes, polling.
pub fn put_bytes(_bytes: &[u8]) {
    todo!()
}
