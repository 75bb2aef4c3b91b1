//! I/O ports for programs: ioperm(2), iopl(2).

use crate::prelude::*;

tests![ports_one_by_one, ports_are_inherited, all_ports, port_errors];

/// Where the machine's self-test reports its progress: nothing happens on a write.
const POST: usize = 0x80;

fn ioperm(from: usize, num: usize, on: i32) -> Result<usize, Errno> {
    sys!(SYS_ioperm, from, num, on)
}

/// Writes a byte to `port` in a child: 0, or minus the signal that it died of.
fn out(port: usize) -> Result<i32, Errno> {
    in_child(|| write_port(port))
}

fn write_port(port: usize) -> i32 {
    let _ = c!(signal(SIGSEGV, SIG_DFL));
    // SAFETY: a write to a port that only shows what is written, or a fault.
    unsafe { std::arch::asm!("out dx, al", in("dx") port as u16, in("al") 0_u8) };
    0
}

fn ports_one_by_one() -> Outcome {
    check_eq!(out(POST)?, -SIGSEGV);
    ioperm(POST, 1, 1)?;
    check_eq!(out(POST)?, 0);
    check_eq!(out(POST + 1)?, -SIGSEGV);
    check_eq!(out(POST - 1)?, -SIGSEGV);
    // Others on the same CPU do not have it.
    sys!(SYS_sched_yield)?;
    check_eq!(write_port(POST), 0);
    ioperm(POST, 1, 0)?;
    check_eq!(out(POST)?, -SIGSEGV);
    // To forbid what is not allowed is no error; the last port is one, too.
    ioperm(0, 65_536, 0)?;
    ioperm(65_535, 1, 1)?;
    ioperm(65_535, 1, 0)?;
    Ok(())
}

fn ports_are_inherited() -> Outcome {
    ioperm(POST, 1, 1)?;
    let status = in_child(|| {
        // A child's own changes are its own.
        let _ = ioperm(POST, 1, 0);
        write_port(POST)
    })?;
    check_eq!(status, -SIGSEGV);
    check_eq!(out(POST)?, 0);
    let thread = std::thread::spawn(|| write_port(POST));
    check_eq!(thread.join().map_err(|_| Failure::new("panicked"))?, 0);
    // An unprivileged child may keep it, and give it up, but not more.
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let more = ioperm(POST, 2, 1) == Err(Errno(EPERM));
        let works = write_port(POST) == 0;
        let less = ioperm(POST, 1, 0).is_ok();
        i32::from(!more) | i32::from(!works) << 1 | i32::from(!less) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn all_ports() -> Outcome {
    sys!(SYS_iopl, 3)?;
    check_eq!(out(POST)?, 0);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let kept = write_port(POST) == 0;
        let lowered = sys!(SYS_iopl, 0).is_ok() && sys!(SYS_iopl, 3) == Err(Errno(EPERM));
        i32::from(!kept) | i32::from(!lowered) << 1
    })?;
    check_eq!(status, 0);
    sys!(SYS_iopl, 0)?;
    check_eq!(out(POST)?, -SIGSEGV);
    // The map of single ports is kept behind it.
    ioperm(POST, 1, 1)?;
    sys!(SYS_iopl, 3)?;
    sys!(SYS_iopl, 0)?;
    check_eq!(out(POST)?, 0);
    check_eq!(out(POST + 1)?, -SIGSEGV);
    Ok(())
}

fn port_errors() -> Outcome {
    check_err!(ioperm(0, 0, 1), EINVAL);
    check_err!(ioperm(65_536, 1, 1), EINVAL);
    check_err!(ioperm(65_535, 2, 1), EINVAL);
    check_err!(ioperm(usize::MAX, 2, 0), EINVAL);
    check_err!(sys!(SYS_iopl, 4), EINVAL);
    check_err!(sys!(SYS_iopl, -1_i32), EINVAL);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(ioperm(POST, 1, 1) != Err(Errno(EPERM)))
            | i32::from(sys!(SYS_iopl, 1) != Err(Errno(EPERM))) << 1
            | i32::from(ioperm(POST, 1, 0).is_err()) << 2
            | i32::from(sys!(SYS_iopl, 0).is_err()) << 3
    })?;
    check_eq!(status, 0);
    Ok(())
}
