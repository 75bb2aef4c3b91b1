//! The lines in the log about a program that a fault kills: `debug.exception-trace`.

use crate::prelude::*;

tests![accesses, instructions, not_of_what_is_handled, switched_off];

const SWITCH: &std::ffi::CStr = c"/proc/sys/debug/exception-trace";

/// Messages of the log that come while `body` runs, without their headers.
fn log_of(body: impl FnOnce() -> Outcome) -> Result<Vec<String>, Failure> {
    let fd = open(c"/dev/kmsg", O_RDONLY | O_NONBLOCK, 0)?;
    sys!(SYS_lseek, fd, 0, SEEK_END)?;
    body()?;
    let mut lines = Vec::new();
    loop {
        let mut buffer = [0_u8; 8192];
        match sys!(SYS_read, fd, addr_mut(&mut buffer), buffer.len()) {
            Ok(count) => {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let text = text
                    .lines()
                    .next()
                    .and_then(|line| line.split_once(';'))
                    .map(|(_, text)| text.to_string());
                lines.extend(text);
            }
            Err(Errno(EPIPE)) => {}
            Err(_) => break,
        }
    }
    close(fd)?;
    Ok(lines)
}

/// With the lines switched on or off, and as many as there are.
fn with(value: &str, body: impl FnOnce() -> Outcome) -> Outcome {
    let limit = c"/proc/sys/kernel/printk_ratelimit";
    let (old, interval) = (slurp(SWITCH)?, slurp(limit)?);
    spew(limit, "0")?;
    spew(SWITCH, value)?;
    let result = body();
    spew(SWITCH, &old)?;
    spew(limit, &interval)?;
    result
}

/// The number after `word`, in hexadecimal.
fn hex(line: &str, word: &str) -> Option<u64> {
    let rest = line.split_once(word)?.1;
    let rest = rest.strip_prefix("0x").unwrap_or(rest);
    let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    u64::from_str_radix(&rest[..end], 16).ok()
}

/// A child named `victim` that dies of `body`.
fn victim(body: impl Fn(), signal: i32) -> Result<(i32, Vec<String>), Failure> {
    let mut pid = 0;
    let lines = log_of(|| {
        pid = fork(|| {
            let _ = sys!(SYS_prctl, PR_SET_NAME, c"victim".as_ptr(), 0, 0, 0);
            // The runtime looks at some signals first.
            let _ = c!(signal(SIGSEGV, SIG_DFL));
            body();
            0
        })?;
        check_eq!(wait_exit(pid)?, -signal);
        Ok(())
    })?;
    Ok((pid, lines))
}

/// The line that begins as it must.
fn line_of(pid: i32, lines: &[String]) -> Result<String, Failure> {
    let name = format!("victim[{pid}]");
    let found = lines.iter().find(|line| line.contains(&name)).cloned();
    found.ok_or_else(|| Failure::new(format!("nothing of {name} in {lines:?}")))
}

fn jump(to: usize) {
    // SAFETY: dies there.
    let code: extern "C" fn() = unsafe { std::mem::transmute(to) };
    code();
}

fn accesses() -> Outcome {
    let readable = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)?;
    check_eq!(peek(readable), 0);
    with("1", || {
        // The page, what is done to it, x86's error code, arm64's class and bits of the syndrome.
        let cases: [(usize, u32, u64, &str, u64); 5] = [
            (0x10, 0, 6, "DABT (lower EL)", 0x9200_0040),
            (0x20, 1, 4, "DABT (lower EL)", 0x9200_0000),
            (readable, 0, 6, "DABT (lower EL)", 0x9200_0040),
            (0x1230, 2, 0x14, "IABT (lower EL)", 0x8200_0000),
            (readable, 2, 0x15, "IABT (lower EL)", 0x8200_0000),
        ];
        for (at, what, error, class, syndrome) in cases {
            let (pid, lines) = victim(
                || match what {
                    0 => poke(at, 1),
                    1 => drop(peek(at)),
                    _ => {
                        // There in this process too, if it may be.
                        if at == readable {
                            peek(at);
                        }
                        jump(at)
                    }
                },
                SIGSEGV,
            )?;
            let line = line_of(pid, &lines)?;
            let in_file = line.contains(" in ") && line.contains(",") && line.contains("+");
            check!(in_file == (what != 2), "{line}");
            if cfg!(target_arch = "x86_64") {
                check!(line.starts_with(&format!("victim[{pid}]: segfault at {at:x} ip 0000")), "{line}");
                check_eq!((hex(&line, " error "), line.contains(" likely on CPU ")), (Some(error), true));
                let code = lines.iter().find(|line| line.starts_with("Code: "));
                let code = code.ok_or(Failure::new("no code"))?;
                let shown = code.contains('<') && code.len() == 6 + 64 * 3 + 1;
                let absent = code.starts_with("Code: Unable to access opcode bytes at 0x");
                check!(if what == 2 { absent } else { shown }, "{code}");
            } else {
                let start = format!("victim[{pid}]: unhandled exception: {class}, ESR 0x0000");
                check!(line.starts_with(&start), "{line}");
                let bits = hex(&line, "ESR ").unwrap_or(0);
                check_eq!((at, bits & !0x3f), (at, syndrome));
                check!(line.contains(" fault"), "{line}");
                registers(&lines, pid)?;
            }
        }
        Ok(())
    })
}

/// What arm64 shows behind the line.
fn registers(lines: &[String], pid: i32) -> Outcome {
    let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
    check!(
        lines
            .iter()
            .any(|line| line.starts_with("CPU: ") && line.contains(&format!("PID: {pid} Comm: victim ")))
    );
    check!(has("pstate: ") && has("pc : 0") && has("lr : 0") && has("sp : 0000"));
    check!(
        lines.iter().any(|line| line.contains(" daif ") && line.contains(" BTYPE=") && line.ends_with(')'))
    );
    for first in ["x29: ", "x26: ", "x23: ", "x11: ", "x8 : ", "x2 : "] {
        check!(has(first), "{first} in {lines:?}");
    }
    check!(
        lines
            .iter()
            .any(|line| line.starts_with("x2 : ") && line.contains(" x1 : ") && line.contains(" x0 : "))
    );
    Ok(())
}

fn instructions() -> Outcome {
    #[cfg(target_arch = "x86_64")]
    fn undefined() {
        // SAFETY: dies.
        unsafe { std::arch::asm!("ud2") }
    }
    #[cfg(target_arch = "aarch64")]
    fn undefined() {
        // SAFETY: dies.
        unsafe { std::arch::asm!("udf #0") }
    }
    #[cfg(target_arch = "x86_64")]
    fn privileged() {
        // SAFETY: dies.
        unsafe { std::arch::asm!("cli") }
    }
    #[cfg(target_arch = "aarch64")]
    fn privileged() {
        // SAFETY: dies.
        unsafe { std::arch::asm!("msr ttbr0_el1, xzr") }
    }
    with("1", || {
        let (pid, lines) = victim(undefined, SIGILL)?;
        let line = line_of(pid, &lines)?;
        if cfg!(target_arch = "x86_64") {
            check!(line.starts_with(&format!("traps: victim[{pid}] trap invalid opcode ip:")), "{line}");
            check!(line.contains(" sp:") && line.contains(" error:0 in "), "{line}");
        } else {
            let start = format!("victim[{pid}]: unhandled exception: undefined instruction in ");
            check!(line.starts_with(&start), "{line}");
            registers(&lines, pid)?;
        }
        let (pid, lines) = victim(privileged, if cfg!(target_arch = "x86_64") { SIGSEGV } else { SIGILL })?;
        let line = line_of(pid, &lines)?;
        if cfg!(target_arch = "x86_64") {
            check!(line.starts_with(&format!("traps: victim[{pid}] general protection fault ip:")), "{line}");
        } else {
            check!(line.contains(": undefined instruction in "), "{line}");
        }
        Ok(())
    })
}

fn not_of_what_is_handled() -> Outcome {
    extern "C" fn leave(_: i32) {
        exit(7);
    }
    with("1", || {
        let mut pid = 0;
        let lines = log_of(|| {
            pid = fork(|| {
                let _ = sys!(SYS_prctl, PR_SET_NAME, c"victim".as_ptr(), 0, 0, 0);
                let _ = c!(signal(SIGSEGV, leave as *const () as usize));
                poke(0x10, 1);
                0
            })?;
            check_eq!(wait_exit(pid)?, 7);
            Ok(())
        })?;
        check!(line_of(pid, &lines).is_err());
        // Nor of a signal that is sent.
        let (pid, lines) = victim(|| drop(kill(getpid(), SIGSEGV)), SIGSEGV)?;
        check!(line_of(pid, &lines).is_err());
        Ok(())
    })
}

fn switched_off() -> Outcome {
    with("0", || {
        let (pid, lines) = victim(|| poke(0x10, 1), SIGSEGV)?;
        check!(line_of(pid, &lines).is_err());
        Ok(())
    })
}
