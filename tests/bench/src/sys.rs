//! Bare system calls and the instruction counter.
//!
//! A call costs one `syscall`/`svc` instruction and no C library code, so that a row shows the
//! kernel and nothing else. Under QEMU's `-icount shift=0` the counter of either architecture
//! advances once per nanosecond of virtual time, which is once per guest instruction.

use std::arch::asm;

/// Makes a system call and returns what the kernel returned (negative error numbers included).
macro_rules! call {
    ($nr:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::raw(libc::$nr, &[$(($arg) as usize),*])
    };
}
pub(crate) use call;

/// Makes a system call that must succeed.
macro_rules! must {
    ($nr:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::check(stringify!($nr), $crate::sys::call!($nr $(, $arg)*))
    };
}
pub(crate) use must;

/// The value of a successful call; ends the program otherwise.
#[inline(always)]
pub fn check(name: &str, value: isize) -> usize {
    if value < 0 {
        failed(name, value);
    }
    value.cast_unsigned()
}

#[cold]
fn failed(name: &str, value: isize) -> ! {
    println!("bench: {name}: {}", std::io::Error::from_raw_os_error(-(value as i32)));
    std::process::exit(1)
}

/// The system call itself; missing arguments are zero.
#[inline(always)]
pub fn raw(nr: libc::c_long, args: &[usize]) -> isize {
    let arg = |index: usize| args.get(index).copied().unwrap_or(0);
    let value: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the callers pass addresses of live objects of their own, of the size the call wants.
    unsafe {
        asm!("syscall", inlateout("rax") nr as isize => value,
            in("rdi") arg(0), in("rsi") arg(1), in("rdx") arg(2),
            in("r10") arg(3), in("r8") arg(4), in("r9") arg(5),
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!("svc #0", in("x8") nr, inlateout("x0") arg(0) as isize => value,
            in("x1") arg(1), in("x2") arg(2), in("x3") arg(3), in("x4") arg(4), in("x5") arg(5),
            options(nostack));
    }
    value
}

/// The instruction counter.
#[inline(always)]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the time stamp counter, which kernels leave to programs.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: reads the virtual counter, which kernels leave to programs.
        unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack)) };
        ticks
    }
}

/// Counts per nanosecond of the counter, as a fraction: nanoseconds = counts * scale.0 / scale.1.
pub fn scale() -> (u64, u64) {
    #[cfg(target_arch = "x86_64")]
    {
        // QEMU's time stamp counter runs at 1 GHz under -icount.
        (1, 1)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let frequency: u64;
        // SAFETY: reads the frequency of the counter, which programs may do.
        unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack)) };
        (1_000_000_000, frequency.max(1))
    }
}
