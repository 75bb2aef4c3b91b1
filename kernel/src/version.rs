//! What the kernel calls itself: `uname(2)`, `/proc/version`.

/// `uname -r`: the Linux whose interface this is, and our own name.
pub const RELEASE: &str = "6.12.0-karst";
/// `uname -v`.
pub const VERSION: &str = concat!("#1 SMP PREEMPT Karst ", env!("CARGO_PKG_VERSION"));

/// The line of `/proc/version`, and the first of the log.
pub fn banner() -> impl core::fmt::Display {
    struct Banner;
    impl core::fmt::Display for Banner {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            write!(f, "Linux version {RELEASE} (karst) (rustc) {VERSION}")
        }
    }
    Banner
}
