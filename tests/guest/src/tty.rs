//! Terminals: pseudo-terminals, line discipline, job control (pty(7), termios(3), tty_ioctl(4)).

use crate::prelude::*;
use std::ffi::CString;

tests![
    pty_pair_opens,
    pty_errors,
    canonical_lines,
    line_editing,
    raw_reads,
    vmin_vtime,
    echo_controls,
    output_processing,
    input_translation,
    eof_character,
    signals_from_keys,
    window_size,
    controlling_terminal,
    foreground_group,
    background_read,
    background_write,
    hangup_on_close,
    vhangup_of_the_own_terminal,
    session_leader_exit,
    packet_and_exclusive,
    flow_control,
    queue_sizes,
    nonblocking,
    pty_numbers,
    tcsets_variants,
    termio_and_locks,
    sid_and_pgrp_queries,
    dev_tty,
    orphaned_group_read,
    break_and_flush,
    ctrl_z_stops_foreground,
    console_is_a_tty,
    sticky_sequences,
    poll_on_pty,
];

/// A pseudo-terminal: master and slave.
struct Pty {
    master: i32,
    slave: i32,
    name: CString,
}

fn ioctl(fd: i32, request: u64, argument: usize) -> crate::sys::Result<usize> {
    sys!(SYS_ioctl, fd, request, argument)
}

fn pty() -> crate::sys::Result<Pty> {
    let master = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0)?;
    let unlock = 0_i32;
    ioctl(master, TIOCSPTLCK as u64, addr(&unlock))?;
    let mut number = -1_i32;
    ioctl(master, TIOCGPTN as u64, addr_mut(&mut number))?;
    let name = CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
    let slave = open(&name, O_RDWR | O_NOCTTY, 0)?;
    Ok(Pty { master, slave, name })
}

/// The kernel's `struct termios`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Termios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    line: u8,
    cc: [u8; 19],
}

fn get(fd: i32) -> crate::sys::Result<Termios> {
    let mut t = Termios { input: 0, output: 0, control: 0, local: 0, line: 0, cc: [0; 19] };
    ioctl(fd, TCGETS as u64, addr_mut(&mut t))?;
    Ok(t)
}

fn set(fd: i32, change: impl FnOnce(&mut Termios)) -> crate::sys::Result<()> {
    let mut t = get(fd)?;
    change(&mut t);
    ioctl(fd, TCSETS as u64, addr(&t)).map(drop)
}

fn no_echo(pty: &Pty) -> crate::sys::Result<()> {
    set(pty.slave, |t| t.local &= !(ECHO | ECHOCTL))
}

/// What can be read from `fd` within `ms` milliseconds of silence.
fn available(fd: i32, ms: i64) -> String {
    let mut text = Vec::new();
    loop {
        let mut poll = pollfd { fd, events: POLLIN, revents: 0 };
        let time = timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
        match sys!(SYS_ppoll, addr_mut(&mut poll), 1, addr(&time), 0, 0) {
            Ok(1) if poll.revents & POLLIN != 0 => match read_vec(fd, 4096) {
                Ok(part) if !part.is_empty() => text.extend(part),
                _ => break,
            },
            _ => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads from the master until `text` has come.
fn expect(fd: i32, text: &str) -> bool {
    let mut seen = String::new();
    eventually(|| {
        seen.push_str(&available(fd, 20));
        seen.contains(text)
    })
}

/// Runs `body` in a child whose session has the pseudo-terminal as controlling terminal and as
/// descriptors 0, 1 and 2.
fn in_session(pty: &Pty, body: impl FnOnce() -> i32) -> crate::sys::Result<i32> {
    fork(|| {
        let ok = sys!(SYS_setsid).is_ok() && ioctl(pty.slave, TIOCSCTTY as u64, 0).is_ok();
        for fd in 0..3 {
            let _ = sys!(SYS_dup3, pty.slave, fd, 0);
        }
        let _ = close(pty.master);
        let _ = close(pty.slave);
        if ok { body() } else { 99 }
    })
}

fn pty_pair_opens() -> Outcome {
    let pty = pty()?;
    check_eq!(stat(&pty.name)?.st_mode & S_IFMT, S_IFCHR);
    check_eq!(stat(&pty.name)?.st_rdev >> 8 & 0xff, 136);
    check_eq!(fstat(pty.master)?.st_rdev, makedev(5, 2));
    let t = get(pty.slave)?;
    check_eq!(t.input, ICRNL | IXON);
    check_eq!(t.output, OPOST | ONLCR);
    check_eq!(t.control, B38400 | CS8 | CREAD);
    check_eq!(t.local, ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN);
    check_eq!(&t.cc[..11], &[3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26]);
    check_eq!(get(pty.master)?, t);
    let link = std::fs::read_link(format!("/proc/self/fd/{}", pty.slave))?;
    check_eq!(link.as_os_str().to_string_lossy(), pty.name.to_string_lossy());
    Ok(())
}

fn pty_errors() -> Outcome {
    let master = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0)?;
    let mut number = -1_i32;
    ioctl(master, TIOCGPTN as u64, addr_mut(&mut number))?;
    let name = CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
    // Locked until TIOCSPTLCK.
    check_err!(open(&name, O_RDWR | O_NOCTTY, 0), EIO);
    check_err!(ioctl(master, 0x9999, 0), ENOTTY);
    check_err!(ioctl(master, TCGETS as u64, 1), EFAULT);
    check_err!(seek(master, 0, SEEK_SET), ESPIPE);
    close(master)?;
    check_err!(stat(&name), ENOENT);
    Ok(())
}

fn canonical_lines() -> Outcome {
    let pty = pty()?;
    no_echo(&pty)?;
    write(pty.master, b"one\ntwo\nrest")?;
    check_eq!(read_vec(pty.slave, 100)?, b"one\n");
    check_eq!(read_vec(pty.slave, 2)?, b"tw");
    check_eq!(read_vec(pty.slave, 100)?, b"o\n");
    fcntl(pty.slave, F_SETFL, O_NONBLOCK as usize)?;
    check_err!(read_vec(pty.slave, 100), EAGAIN);
    write(pty.master, b"!\n")?;
    check_eq!(read_vec(pty.slave, 100)?, b"rest!\n");
    Ok(())
}

fn line_editing() -> Outcome {
    let pty = pty()?;
    no_echo(&pty)?;
    // Erase, kill, word erase, literal next.
    write(pty.master, b"abc\x7fd\n")?;
    check_eq!(read_vec(pty.slave, 100)?, b"abd\n");
    write(pty.master, b"garbage\x15good\n")?;
    check_eq!(read_vec(pty.slave, 100)?, b"good\n");
    write(pty.master, b"one two\x17three\n")?;
    check_eq!(read_vec(pty.slave, 100)?, b"one three\n");
    write(pty.master, b"a\x16\x7fb\n")?;
    check_eq!(read_vec(pty.slave, 100)?, b"a\x7fb\n");
    write(pty.master, b"\x7f\x7fx\n")?;
    check_eq!(read_vec(pty.slave, 100)?, b"x\n");
    // With IUTF8 a whole character is erased.
    set(pty.slave, |t| t.input |= IUTF8)?;
    write(pty.master, "aö\x7fb\n".as_bytes())?;
    check_eq!(read_vec(pty.slave, 100)?, b"ab\n");
    Ok(())
}

fn raw_reads() -> Outcome {
    let pty = pty()?;
    set(pty.slave, |t| {
        t.local &= !(ICANON | ECHO | ISIG | IEXTEN);
        t.input &= !(ICRNL | IXON);
        t.output &= !OPOST;
    })?;
    write(pty.master, b"\x03\x04\r\n\x7f")?;
    check_eq!(read_vec(pty.slave, 100)?, b"\x03\x04\r\n\x7f");
    write(pty.slave, b"a\nb")?;
    check_eq!(read_vec(pty.master, 100)?, b"a\nb");
    Ok(())
}

fn vmin_vtime() -> Outcome {
    let pty = pty()?;
    let mode = |min: u8, time: u8| {
        set(pty.slave, |t| {
            t.local &= !(ICANON | ECHO);
            t.cc[VMIN] = min;
            t.cc[VTIME] = time;
        })
    };
    mode(0, 0)?;
    check_eq!(read_vec(pty.slave, 10)?, b"");
    mode(0, 1)?;
    let start = std::time::Instant::now();
    check_eq!(read_vec(pty.slave, 10)?, b"");
    check!(start.elapsed().as_millis() >= 90);
    mode(3, 0)?;
    let child = fork(|| {
        for byte in [b"a", b"b", b"c"] {
            sleep_ms(20);
            let _ = write(pty.master, byte);
        }
        0
    })?;
    check_eq!(read_vec(pty.slave, 10)?, b"abc");
    wait(child)?;
    mode(5, 1)?;
    write(pty.master, b"xy")?;
    check_eq!(read_vec(pty.slave, 10)?, b"xy");
    Ok(())
}

fn echo_controls() -> Outcome {
    let pty = pty()?;
    write(pty.master, b"ab\x01\n")?;
    check_eq!(available(pty.master, 50), "ab^A\r\n");
    write(pty.master, b"abc\x7f\x7f")?;
    check_eq!(available(pty.master, 50), "abc\x08 \x08\x08 \x08");
    write(pty.master, b"\x15")?;
    check_eq!(available(pty.master, 50), "\x08 \x08");
    read_vec(pty.slave, 100)?;
    set(pty.slave, |t| t.local &= !ECHO)?;
    write(pty.master, b"secret\n")?;
    check_eq!(available(pty.master, 30), "");
    set(pty.slave, |t| t.local |= ECHONL)?;
    write(pty.master, b"secret\n")?;
    check_eq!(available(pty.master, 50), "\r\n");
    Ok(())
}

fn output_processing() -> Outcome {
    let pty = pty()?;
    write(pty.slave, b"a\nb\n")?;
    check_eq!(available(pty.master, 50), "a\r\nb\r\n");
    set(pty.slave, |t| t.output = OPOST | OCRNL)?;
    write(pty.slave, b"a\rb\n")?;
    check_eq!(available(pty.master, 50), "a\nb\n");
    set(pty.slave, |t| t.output = OPOST | OLCUC)?;
    write(pty.slave, b"abc")?;
    check_eq!(available(pty.master, 50), "ABC");
    set(pty.slave, |t| t.output = OPOST | TAB3 as u32)?;
    write(pty.slave, b"\n\rab\tc")?;
    check_eq!(available(pty.master, 50), "\n\rab      c");
    Ok(())
}

fn input_translation() -> Outcome {
    let pty = pty()?;
    no_echo(&pty)?;
    write(pty.master, b"a\r")?;
    check_eq!(read_vec(pty.slave, 10)?, b"a\n");
    set(pty.slave, |t| t.input = IGNCR)?;
    write(pty.master, b"a\rb\n")?;
    check_eq!(read_vec(pty.slave, 10)?, b"ab\n");
    set(pty.slave, |t| t.input = INLCR | ISTRIP)?;
    set(pty.slave, |t| t.local &= !ICANON)?;
    write(pty.master, b"\n\xe1")?;
    check_eq!(read_vec(pty.slave, 10)?, b"\ra");
    Ok(())
}

fn eof_character() -> Outcome {
    let pty = pty()?;
    no_echo(&pty)?;
    write(pty.master, b"\x04")?;
    check_eq!(read_vec(pty.slave, 10)?, b"");
    write(pty.master, b"partial\x04")?;
    check_eq!(read_vec(pty.slave, 10)?, b"partial");
    write(pty.master, b"x\x04\x04")?;
    check_eq!(read_vec(pty.slave, 10)?, b"x");
    check_eq!(read_vec(pty.slave, 10)?, b"");
    Ok(())
}

fn signals_from_keys() -> Outcome {
    let pty = pty()?;
    for (key, signal) in [(b"\x03", SIGINT), (b"\x1c", SIGQUIT)] {
        let child = in_session(&pty, || {
            let _ = write(1, b"ready");
            sleep_ms(20_000);
            0
        })?;
        check!(expect(pty.master, "ready"));
        write(pty.master, key)?;
        check_eq!(wait_exit(child)?, -signal);
        let echoed = available(pty.master, 50);
        check_eq!(echoed, if signal == SIGINT { "^C" } else { "^\\" });
    }
    // Typed-ahead input is thrown away by an interrupt, unless NOFLSH.
    no_echo(&pty)?;
    fcntl(pty.slave, F_SETFL, O_NONBLOCK as usize)?;
    write(pty.master, b"lost\n\x03")?;
    check_err!(read_vec(pty.slave, 10), EAGAIN);
    Ok(())
}

fn window_size() -> Outcome {
    let pty = pty()?;
    let mut size: winsize = zeroed();
    ioctl(pty.slave, TIOCGWINSZ as u64, addr_mut(&mut size))?;
    check_eq!((size.ws_row, size.ws_col), (0, 0));
    let child = in_session(&pty, || {
        let set = 1_u64 << (SIGWINCH - 1);
        let _ = sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8);
        let _ = write(1, b"ready");
        let time = timespec { tv_sec: 5, tv_nsec: 0 };
        let got = sys!(SYS_rt_sigtimedwait, addr(&set), 0, addr(&time), 8);
        let mut size: winsize = zeroed();
        let _ = ioctl(0, TIOCGWINSZ as u64, addr_mut(&mut size));
        i32::from(got != Ok(SIGWINCH as usize)) | i32::from((size.ws_row, size.ws_col) != (24, 80)) << 1
    })?;
    check!(expect(pty.master, "ready"));
    let size = winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    ioctl(pty.master, TIOCSWINSZ as u64, addr(&size))?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn controlling_terminal() -> Outcome {
    let pty = pty()?;
    let status = {
        let child = in_session(&pty, || {
            let mut sid = 0;
            let own = ioctl(0, TIOCGSID as u64, addr_mut(&mut sid)).is_ok() && sid == getpid();
            let tty = open(c"/dev/tty", O_RDWR, 0).is_ok();
            let stat = slurp(c"/proc/self/stat").unwrap_or_default();
            let number: Option<u64> = stat.split(' ').nth(6).and_then(|n| n.parse().ok());
            let shown = number.is_some_and(|n| n != 0 && n >> 8 == 136);
            let given_up = ioctl(0, TIOCNOTTY as u64, 0);
            // The session leader gets SIGHUP by that: block it before.
            i32::from(!own)
                | i32::from(!tty) << 1
                | i32::from(!shown) << 2
                | i32::from(given_up.is_err()) << 3
        })?;
        wait_exit(child)?
    };
    check!(status == 0 || status == -SIGHUP, "{status}");
    // Opening without O_NOCTTY by a session leader acquires it.
    let name = pty.name.clone();
    let status = in_child(|| {
        let _ = sys!(SYS_setsid);
        let opened = open(&name, O_RDWR, 0).is_ok();
        let tty = open(c"/dev/tty", O_RDWR, 0).is_ok();
        i32::from(!opened) | i32::from(!tty) << 1
    })?;
    check_eq!(status, 0);
    // A process that leads no session cannot.
    check_err!(ioctl(pty.slave, TIOCSCTTY as u64, 0), EPERM);
    Ok(())
}

fn foreground_group() -> Outcome {
    let pty = pty()?;
    let child = in_session(&pty, || {
        let mut group = 0;
        let first = ioctl(0, TIOCGPGRP as u64, addr_mut(&mut group)).is_ok() && group == getpid();
        let Ok(job) = fork(|| {
            sleep_ms(20_000);
            0
        }) else {
            return 1;
        };
        let _ = sys!(SYS_setpgid, job, job);
        let bad = ioctl(0, TIOCSPGRP as u64, addr(&4_000_000_i32));
        let foreign = ioctl(0, TIOCSPGRP as u64, addr(&1_i32));
        let given = ioctl(0, TIOCSPGRP as u64, addr(&job)).is_ok();
        let moved = ioctl(0, TIOCGPGRP as u64, addr_mut(&mut group)).is_ok() && group == job;
        let _ = write(1, b"ready");
        let status = wait_exit(job);
        let all = [first, given, moved, bad == Err(Errno(ESRCH)), foreign.is_err(), status == Ok(-SIGINT)];
        all.iter().enumerate().map(|(n, ok)| i32::from(!ok) << n).sum()
    })?;
    // `write` comes from the background now; without TOSTOP that is fine.
    check!(expect(pty.master, "ready"));
    write(pty.master, b"\x03")?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

/// Runs `body` as a background job of a session on `pty`; its wait status.
fn background(pty: &Pty, body: fn() -> i32) -> crate::sys::Result<i32> {
    let child = in_session(pty, || {
        let Ok(job) = fork(|| {
            let _ = sys!(SYS_setpgid, 0, 0);
            body()
        }) else {
            return 98;
        };
        let _ = sys!(SYS_setpgid, job, job);
        let Ok((_, status)) = wait_options(job, WUNTRACED) else { return 97 };
        let _ = kill(job, SIGKILL);
        if WIFSTOPPED(status) { 50 + WSTOPSIG(status) } else { WEXITSTATUS(status) }
    })?;
    wait_exit(child)
}

fn background_read() -> Outcome {
    let pty = pty()?;
    let body = || read_vec(0, 10).map_or(1, |_| 0);
    check_eq!(background(&pty, body)?, 50 + SIGTTIN);
    // Blocked or ignored: EIO instead.
    let body = || {
        let _ = c!(signal(SIGTTIN, SIG_IGN));
        i32::from(read_vec(0, 10) != Err(Errno(EIO)))
    };
    check_eq!(background(&self::pty()?, body)?, 0);
    Ok(())
}

fn background_write() -> Outcome {
    let pty = pty()?;
    check_eq!(background(&pty, || i32::from(write(1, b"x") != Ok(1)))?, 0);
    set(self::pty()?.slave, |_| ())?;
    let strict = self::pty()?;
    set(strict.slave, |t| t.local |= TOSTOP)?;
    check_eq!(background(&strict, || i32::from(write(1, b"x") != Ok(1)))?, 50 + SIGTTOU);
    // Changing settings stops a background job in any case.
    let body = || i32::from(set(0, |t| t.local &= !ECHO).is_err());
    check_eq!(background(&self::pty()?, body)?, 50 + SIGTTOU);
    Ok(())
}

fn hangup_on_close() -> Outcome {
    let pty = pty()?;
    let child = in_session(&pty, || {
        let _ = write(1, b"ready");
        sleep_ms(20_000);
        0
    })?;
    check!(expect(pty.master, "ready"));
    close(pty.master)?;
    check_eq!(wait_exit(child)?, -SIGHUP);
    // The slave that is still open here is dead: end of file, EIO.
    check_eq!(read_vec(pty.slave, 10)?, b"");
    check_err!(write(pty.slave, b"x"), EIO);
    check_err!(get(pty.slave), EIO);
    // And the other way round: the master sees EIO when all slaves are closed.
    let pty = self::pty()?;
    write(pty.slave, b"last words")?;
    close(pty.slave)?;
    check_eq!(read_vec(pty.master, 100)?, b"last words");
    check_err!(read_vec(pty.master, 100), EIO);
    Ok(())
}

fn vhangup_of_the_own_terminal() -> Outcome {
    let pty = pty()?;
    let child = in_session(&pty, || {
        let both = 1_u64 << (SIGHUP - 1) | 1 << (SIGCONT - 1);
        let _ = sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&both), 0, 8);
        let unprivileged = in_child(|| {
            let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
            i32::from(sys!(SYS_vhangup) != Err(Errno(EPERM)))
        });
        let hung_up = sys!(SYS_vhangup);
        let mut pending = 0_u64;
        let _ = sys!(SYS_rt_sigpending, addr_mut(&mut pending), 8);
        // Dead for everybody who had it open; a new opening is not.
        let dead = write(1, b"x") == Err(Errno(EIO)) && read_vec(0, 1) == Ok(Vec::new());
        let gone = open(c"/dev/tty", O_RDWR, 0) == Err(Errno(ENXIO));
        // Without a terminal there is nothing to do.
        let again = sys!(SYS_vhangup);
        i32::from(unprivileged != Ok(0))
            | i32::from(hung_up != Ok(0) || again != Ok(0)) << 1
            | i32::from(pending & both != both) << 2
            | i32::from(!dead) << 3
            | i32::from(!gone) << 4
    })?;
    check_eq!(wait_exit(child)?, 0);
    check_err!(write(pty.slave, b"x"), EIO);
    Ok(())
}

fn session_leader_exit() -> Outcome {
    // When the session leader ends, the foreground group gets SIGHUP.
    let pty = pty()?;
    let ends = pipe(0)?;
    let child = in_session(&pty, || {
        let _ = fork(|| {
            let set = 1_u64 << (SIGHUP - 1);
            let _ = sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&set), 0, 8);
            let _ = write(ends[1], b"r");
            let time = timespec { tv_sec: 5, tv_nsec: 0 };
            let got = sys!(SYS_rt_sigtimedwait, addr(&set), 0, addr(&time), 8);
            let gone = open(c"/dev/tty", O_RDWR, 0) == Err(Errno(ENXIO));
            let _ = write(ends[1], &[u8::from(got == Ok(SIGHUP as usize)), u8::from(gone)]);
            0
        });
        let mut ready = [0];
        let _ = crate::sys::read(ends[0], &mut ready);
        0
    })?;
    check_eq!(wait_exit(child)?, 0);
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(read_vec(ends[0], 2)?);
    }
    check_eq!(told, [1, 1]);
    Ok(())
}

fn packet_and_exclusive() -> Outcome {
    let pty = pty()?;
    let on = 1_i32;
    ioctl(pty.master, TIOCPKT as u64, addr(&on))?;
    write(pty.slave, b"data")?;
    check_eq!(read_vec(pty.master, 10)?, b"\0data");
    ioctl(pty.slave, TIOCEXCL as u64, 0)?;
    let name = pty.name.clone();
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        open(&name, O_RDWR | O_NOCTTY, 0).map_or_else(|e| e.0, |_| 0)
    })?;
    check!(status == EBUSY || status == EACCES, "{status}");
    ioctl(pty.slave, TIOCNXCL as u64, 0)?;
    Ok(())
}

fn flow_control() -> Outcome {
    let pty = pty()?;
    no_echo(&pty)?;
    write(pty.master, b"\x13")?;
    let child = fork(|| i32::from(write(pty.slave, b"held") != Ok(4)))?;
    check_eq!(available(pty.master, 100), "");
    write(pty.master, b"\x11")?;
    check!(expect(pty.master, "held"));
    check_eq!(wait_exit(child)?, 0);
    ioctl(pty.slave, TCXONC as u64, TCOOFF as usize)?;
    ioctl(pty.slave, TCXONC as u64, TCOON as usize)?;
    write(pty.slave, b"flows")?;
    check!(expect(pty.master, "flows"));
    Ok(())
}

/// Whether `count` bytes become readable: they pass through a work queue on their way.
fn queued(fd: i32, count: i32) -> bool {
    eventually(|| {
        let mut now = -1_i32;
        ioctl(fd, FIONREAD as u64, addr_mut(&mut now)).is_ok() && now == count
    })
}

fn queue_sizes() -> Outcome {
    let pty = pty()?;
    no_echo(&pty)?;
    let mut count = -1_i32;
    write(pty.master, b"12345")?;
    ioctl(pty.slave, FIONREAD as u64, addr_mut(&mut count))?;
    // An unfinished line is not readable yet.
    check_eq!(count, 0);
    write(pty.master, b"\n")?;
    check!(queued(pty.slave, 6));
    ioctl(pty.slave, TCFLSH as u64, TCIFLUSH as usize)?;
    ioctl(pty.slave, FIONREAD as u64, addr_mut(&mut count))?;
    check_eq!(count, 0);
    // A line longer than 4095 characters is cut.
    write(pty.master, &[b'x'; 5000])?;
    write(pty.master, b"\n")?;
    let line = read_vec(pty.slave, 8192)?;
    check_eq!(line.len(), 4096);
    check_eq!(line.last(), Some(&b'\n'));
    Ok(())
}

fn nonblocking() -> Outcome {
    let pty = pty()?;
    fcntl(pty.master, F_SETFL, O_NONBLOCK as usize)?;
    fcntl(pty.slave, F_SETFL, O_NONBLOCK as usize)?;
    check_err!(read_vec(pty.master, 10), EAGAIN);
    check_err!(read_vec(pty.slave, 10), EAGAIN);
    // A full pipe to a master that nobody reads.
    let mut total = 0;
    while let Ok(count) = write(pty.slave, &[b'y'; 1024]) {
        total += count;
        check!(total < 1 << 20);
    }
    check!(total >= 1024, "{total}");
    check_eq!(available(pty.master, 20).len(), total);
    Ok(())
}

fn pty_numbers() -> Outcome {
    let ptys = (0..16).map(|_| pty()).collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> = ptys.iter().map(|p| p.name.clone()).collect();
    names.sort();
    names.dedup();
    check_eq!(names.len(), 16);
    check!(std::fs::read_dir("/dev/pts")?.count() >= 16);
    // TIOCGPTPEER opens the slave without its name.
    let peer = ioctl(ptys[0].master, TIOCGPTPEER as u64, (O_RDWR | O_NOCTTY) as usize)? as i32;
    check_eq!(fstat(peer)?.st_rdev, fstat(ptys[0].slave)?.st_rdev);
    Ok(())
}

fn tcsets_variants() -> Outcome {
    let pty = pty()?;
    no_echo(&pty)?;
    write(pty.master, b"typed\n")?;
    check!(queued(pty.slave, 6));
    let mut t = get(pty.slave)?;
    t.cc[VERASE] = 8;
    // TCSETSF throws unread input away.
    ioctl(pty.slave, TCSETSF as u64, addr(&t))?;
    check_eq!(get(pty.slave)?.cc[VERASE], 8);
    fcntl(pty.slave, F_SETFL, O_NONBLOCK as usize)?;
    check_err!(read_vec(pty.slave, 10), EAGAIN);
    ioctl(pty.slave, TCSETSW as u64, addr(&t))?;
    write(pty.master, b"ab\x08c\n")?;
    check_eq!(read_vec(pty.slave, 10)?, b"ac\n");
    // termios2 with any speed.
    let mut t2 = [0_u32; 11];
    ioctl(pty.slave, TCGETS2 as u64, addr_mut(&mut t2))?;
    check_eq!(t2[9..11], [38400, 38400]);
    Ok(())
}

fn termio_and_locks() -> Outcome {
    let pty = pty()?;
    let before = get(pty.slave)?;
    // System V's structure: halves of the flags, eight characters, a byte of padding.
    let mut old = [0_u8; 18];
    ioctl(pty.slave, 0x5405, addr_mut(&mut old))?;
    check_eq!(u16::from_ne_bytes([old[0], old[1]]), before.input as u16);
    check_eq!(u16::from_ne_bytes([old[6], old[7]]), before.local as u16);
    check_eq!((old[8], &old[9..17]), (before.line, &before.cc[..8]));
    old[9 + VERASE] = 8;
    old[6] &= !(ECHO as u8);
    for request in [0x5406, 0x5407, 0x5408] {
        ioctl(pty.slave, request, addr(&old))?;
        let now = get(pty.slave)?;
        check_eq!((now.cc[VERASE], now.local), (8, before.local & !ECHO));
        check_eq!((now.control, now.cc[VSUSP]), (before.control, before.cc[VSUSP]));
    }
    check_err!(ioctl(pty.slave, 0x5405, 1), EFAULT);
    // What is locked stays as it is.
    let mut locks = Termios { input: 0, output: 0, control: 0, local: ECHO, line: 0, cc: [0; 19] };
    locks.cc[VERASE] = 1;
    ioctl(pty.slave, 0x5457, addr(&locks))?;
    let mut got = before;
    ioctl(pty.slave, 0x5456, addr_mut(&mut got))?;
    check_eq!(got, locks);
    set(pty.slave, |t| {
        t.local |= ECHO;
        t.cc[VERASE] = 9;
        t.cc[VKILL] = 9;
    })?;
    let now = get(pty.slave)?;
    check_eq!((now.local & ECHO, now.cc[VERASE], now.cc[VKILL]), (0, 8, 9));
    let denied = crate::sysv::as_user(1000, || {
        i32::from(ioctl(pty.slave, 0x5457, addr(&locks)) != Err(Errno(EPERM)))
    })?;
    check_eq!(denied, 0);
    // The carrier that does not matter.
    for wanted in [1_i32, 0] {
        ioctl(pty.slave, 0x541a, addr(&wanted))?;
        let mut got = -1_i32;
        ioctl(pty.slave, 0x5419, addr_mut(&mut got))?;
        check_eq!(got, wanted);
        check_eq!(get(pty.slave)?.control & CLOCAL != 0, wanted == 1);
    }
    Ok(())
}

fn sid_and_pgrp_queries() -> Outcome {
    let pty = pty()?;
    let mut number = 0_i32;
    // Nobody's controlling terminal.
    check_err!(ioctl(pty.slave, TIOCGSID as u64, addr_mut(&mut number)), ENOTTY);
    check_err!(ioctl(pty.slave, TIOCGPGRP as u64, addr_mut(&mut number)), ENOTTY);
    check_eq!(c!(isatty(pty.slave))?, 1);
    Ok(())
}

fn dev_tty() -> Outcome {
    check_err!(in_child(|| 0).and(open(c"/dev/tty/x", O_RDONLY, 0)), ENOTDIR);
    check_eq!(stat(c"/dev/tty")?.st_rdev, makedev(5, 0));
    check_eq!(stat(c"/dev/ptmx")?.st_rdev, makedev(5, 2));
    let pty = pty()?;
    let child = in_session(&pty, || {
        let Ok(fd) = open(c"/dev/tty", O_RDWR, 0) else { return 1 };
        i32::from(write(fd, b"by /dev/tty") != Ok(11)) << 1
    })?;
    check!(expect(pty.master, "by /dev/tty"));
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn orphaned_group_read() -> Outcome {
    // A background process of an orphaned group is not stopped, it gets EIO.
    let pty = pty()?;
    let (ends, hold) = (pipe(0)?, pipe(0)?);
    let child = in_session(&pty, || {
        let Ok(leader) = fork(|| {
            let _ = sys!(SYS_setpgid, 0, 0);
            let parent = getpid() as usize;
            let _ = fork(|| {
                let orphaned = eventually(|| sys!(SYS_getppid) != Ok(parent));
                let result = read_vec(0, 10);
                let good = orphaned && result == Err(Errno(EIO));
                let _ = write(ends[1], &[u8::from(good)]);
                0
            });
            0
        }) else {
            return 1;
        };
        let _ = wait(leader);
        let _ = close(hold[1]);
        let _ = read_vec(hold[0], 1);
        0
    })?;
    check_eq!(read_vec(ends[0], 1)?, [1]);
    close(hold[1])?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn break_and_flush() -> Outcome {
    let pty = pty()?;
    ioctl(pty.slave, TCSBRK as u64, 0)?;
    ioctl(pty.slave, TCSBRK as u64, 1)?;
    write(pty.slave, b"unread")?;
    ioctl(pty.slave, TCFLSH as u64, TCOFLUSH as usize)?;
    check_err!(ioctl(pty.slave, TCFLSH as u64, 99), EINVAL);
    let byte = b'q';
    no_echo(&pty)?;
    set(pty.slave, |t| t.local &= !ICANON)?;
    // Root may fake input.
    check!(matches!(ioctl(pty.slave, TIOCSTI as u64, addr(&byte)), Ok(_) | Err(Errno(EIO))));
    Ok(())
}

fn ctrl_z_stops_foreground() -> Outcome {
    // What a shell does: job in the foreground, Ctrl-Z, bg, fg.
    let pty = pty()?;
    let child = in_session(&pty, || {
        // As shells do.
        let _ = c!(signal(SIGTTOU, SIG_IGN));
        // The job begins when it is in the foreground.
        let Ok([begin, started]) = pipe(0) else { return 7 };
        let Ok(job) = fork(|| {
            let _ = sys!(SYS_setpgid, 0, 0);
            let _ = read_vec(begin, 1);
            let _ = write(1, b"running");
            let line = read_vec(0, 100);
            i32::from(line != Ok(b"go\n".to_vec()))
        }) else {
            return 1;
        };
        let _ = sys!(SYS_setpgid, job, job);
        let _ = ioctl(0, TIOCSPGRP as u64, addr(&job));
        let _ = write(started, b".");
        let Ok((_, status)) = wait_options(job, WUNTRACED) else { return 2 };
        if !(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP) {
            return 3;
        }
        let _ = ioctl(0, TIOCSPGRP as u64, addr(&getpid()));
        // Continued in the background it tries to read and is stopped again.
        let _ = kill(-job, SIGCONT);
        let Ok((_, status)) = wait_options(job, WUNTRACED) else { return 4 };
        if !(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN) {
            return 5;
        }
        let _ = ioctl(0, TIOCSPGRP as u64, addr(&job));
        let _ = kill(-job, SIGCONT);
        let _ = write(1, b"foreground");
        wait_exit(job).map_or(6, |status| status * 10)
    })?;
    check!(expect(pty.master, "running"));
    write(pty.master, b"\x1a")?;
    check!(expect(pty.master, "foreground"));
    write(pty.master, b"go\n")?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn console_is_a_tty() -> Outcome {
    check_eq!(stat(c"/dev/console")?.st_rdev, makedev(5, 1));
    let fd = open(c"/dev/console", O_RDWR | O_NOCTTY, 0)?;
    check_eq!(c!(isatty(fd))?, 1);
    let active = slurp(c"/sys/class/tty/console/active")?;
    check!(active.trim_end().ends_with('0'), "{active}");
    let consoles = slurp(c"/proc/consoles")?;
    check!(consoles.starts_with("tty"), "{consoles}");
    Ok(())
}

fn sticky_sequences() -> Outcome {
    // VEOL ends a line as newline does; VREPRINT echoes the line again.
    let pty = pty()?;
    set(pty.slave, |t| t.cc[VEOL] = b';')?;
    write(pty.master, b"ab\x12;")?;
    check_eq!(available(pty.master, 50), "ab^R\r\nab;");
    check_eq!(read_vec(pty.slave, 10)?, b"ab;");
    Ok(())
}

fn poll_on_pty() -> Outcome {
    let pty = pty()?;
    no_echo(&pty)?;
    let events = |fd: i32| -> crate::sys::Result<i16> {
        let mut poll = pollfd { fd, events: POLLIN | POLLOUT, revents: 0 };
        let zero = timespec { tv_sec: 0, tv_nsec: 0 };
        sys!(SYS_ppoll, addr_mut(&mut poll), 1, addr(&zero), 0, 0)?;
        Ok(poll.revents)
    };
    check_eq!(events(pty.slave)?, POLLOUT);
    write(pty.master, b"x")?;
    check_eq!(events(pty.slave)?, POLLOUT);
    write(pty.master, b"\n")?;
    check_eq!(events(pty.slave)?, POLLIN | POLLOUT);
    write(pty.slave, b"y")?;
    check_eq!(events(pty.master)?, POLLIN | POLLOUT);
    close(pty.slave)?;
    check!(events(pty.master)? & POLLHUP != 0);
    Ok(())
}
