//! Linker arguments for the examples: kernel images of their own.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    println!("cargo:rerun-if-changed={dir}/link/{arch}.ld");
    if target == "none" {
        println!("cargo:rustc-link-arg-examples=-T{dir}/link/{arch}.ld");
        println!("cargo:rustc-link-arg-examples=-zmax-page-size=4096");
        // The image runs where it was linked before it relocates itself: addends in place too.
        println!("cargo:rustc-link-arg-examples=--apply-dynamic-relocs");
    }
}
