//! Linker arguments for the bare-metal examples of this crate: kernel images of their own.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let script = format!("{root}/link/{arch}.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") && std::path::Path::new(&script).exists()
    {
        println!("cargo:rustc-link-arg-examples=-T{script}");
        println!("cargo:rerun-if-changed={script}");
        if arch == "x86_64" {
            println!("cargo:rustc-link-arg-examples=-zmax-page-size=4096");
            // The image runs where it was linked before it relocates itself: addends in place too.
            println!("cargo:rustc-link-arg-examples=--apply-dynamic-relocs");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}
