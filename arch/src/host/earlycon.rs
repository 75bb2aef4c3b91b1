//! Where the early console writes.

/// Chooses the device from an `earlycon=` argument; `None`: the machine's usual one.
pub fn setup(_spec: Option<&str>) -> bool {
    true
}

/// Writes bytes, polling.
pub fn put_bytes(bytes: &[u8]) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(bytes);
}
