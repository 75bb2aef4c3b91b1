//! Linker arguments for the kernel image: one linker script per architecture, in `boot/link`.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    println!("cargo:rerun-if-changed={dir}/../boot/link/{arch}.ld");
    if os != "none" {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-T{dir}/../boot/link/{arch}.ld");
    if arch == "x86_64" {
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
        // The image runs where it was linked before it relocates itself: addends in place too.
        println!("cargo:rustc-link-arg-bins=--apply-dynamic-relocs");
    }
}
