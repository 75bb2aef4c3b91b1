//! Chooses the linker script for the bare-metal examples of this crate (`examples/hello.rs`).

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let script = format!("{root}/link/{arch}.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") && std::path::Path::new(&script).exists()
    {
        println!("cargo:rustc-link-arg-examples=-T{script}");
        println!("cargo:rerun-if-changed={script}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
