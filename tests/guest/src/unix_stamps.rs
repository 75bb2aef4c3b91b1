//! Times of reception: `SO_TIMESTAMP`, `SO_TIMESTAMPNS`, `SO_TIMESTAMPING` on unix sockets. `socket(7)`, `Documentation/networking/timestamping`.

use crate::prelude::*;
use crate::sys::Result as SysResult;
use crate::unix::{BAD, option, pair, receive_with, rights, send, send_with, set_option, socket};

tests![
    stamp_options,
    stamp_forms,
    stamp_is_of_sending,
    stamp_without_asking_before,
    stamps_are_for_datagrams,
    stamping_options,
    stamping_errors,
    stamping_needs_a_stamp,
    stamping_forms,
    stamps_come_first,
    peeks_are_stamped,
];

const STAMP: i32 = 29;
const STAMP_NS: i32 = 35;
const STAMPING: i32 = 37;
const STAMP_NEW: i32 = 63;
const STAMP_NS_NEW: i32 = 64;
const STAMPING_NEW: i32 = 65;
const FORMS: [i32; 4] = [STAMP, STAMP_NS, STAMP_NEW, STAMP_NS_NEW];

const RX_SOFTWARE: i32 = 1 << 3;
const SOFTWARE: i32 = 1 << 4;
const RAW_HARDWARE: i32 = 1 << 6;
const OPT_ID: i32 = 1 << 7;
const OPT_TSONLY: i32 = 1 << 11;
const OPT_STATS: i32 = 1 << 12;
const BIND_PHC: i32 = 1 << 15;
const OPT_ID_TCP: i32 = 1 << 16;
const OPT_RX_FILTER: i32 = 1 << 17;

fn now_ns() -> SysResult<i64> {
    let mut time = [0_i64; 2];
    sys!(SYS_clock_gettime, CLOCK_REALTIME, addr_mut(&mut time))?;
    Ok(time[0] * 1_000_000_000 + time[1])
}

fn words(data: &[u8]) -> Vec<i64> {
    data.chunks_exact(8).map(|word| i64::from_ne_bytes(word.try_into().unwrap())).collect()
}

/// The time in a control message of one of [`FORMS`], in nanoseconds.
fn stamp_of(kind: i32, data: &[u8]) -> i64 {
    let parts = words(data);
    let unit = if matches!(kind, STAMP | STAMP_NEW) { 1000 } else { 1 };
    parts[0] * 1_000_000_000 + parts[1] * unit
}

fn which(fd: i32) -> SysResult<[i32; 4]> {
    let mut shown = [0; 4];
    for (shown, name) in shown.iter_mut().zip(FORMS) {
        *shown = option(fd, name)?;
    }
    Ok(shown)
}

fn stamp_options() -> Outcome {
    let fd = socket(SOCK_DGRAM)?;
    check_eq!(which(fd)?, [0; 4]);
    set_option(fd, STAMP, 7)?;
    check_eq!(which(fd)?, [1, 0, 0, 0]);
    set_option(fd, STAMP_NS, 1)?;
    check_eq!(which(fd)?, [0, 1, 0, 0]);
    set_option(fd, STAMP_NEW, 1)?;
    check_eq!(which(fd)?, [0, 0, 1, 0]);
    set_option(fd, STAMP_NS_NEW, 1)?;
    check_eq!(which(fd)?, [0, 0, 1, 1]);
    // Any of them switches all off.
    for off in FORMS {
        for on in FORMS {
            set_option(fd, on, 1)?;
            set_option(fd, off, 0)?;
            check_eq!((off, on, which(fd)?), (off, on, [0; 4]));
        }
    }
    // The newer option decides about the form of both.
    set_option(fd, STAMP_NEW, 1)?;
    set_option(fd, STAMPING, SOFTWARE)?;
    check_eq!(which(fd)?, [1, 0, 0, 0]);
    set_option(fd, STAMPING_NEW, SOFTWARE)?;
    check_eq!(which(fd)?, [0, 0, 1, 0]);
    Ok(())
}

fn stamp_forms() -> Outcome {
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        for name in FORMS {
            let [a, b] = pair(kind)?;
            set_option(b, name, 1)?;
            let before = now_ns()?;
            send(a, b"x", 0)?;
            let after = now_ns()?;
            let message = receive_with(b, 10, 100, 0)?;
            check_eq!(message.control.len(), 1);
            let (level, shown, data) = &message.control[0];
            check_eq!((*level, *shown, data.len()), (SOL_SOCKET, name, 16));
            let stamp = stamp_of(name, data);
            check!(before / 1000 <= stamp / 1000 && stamp <= after);
            close(a)?;
            close(b)?;
        }
    }
    Ok(())
}

fn stamp_is_of_sending() -> Outcome {
    let [a, b] = pair(SOCK_DGRAM)?;
    set_option(b, STAMP_NS, 1)?;
    send(a, b"x", 0)?;
    let after = now_ns()?;
    sleep_ms(30);
    let message = receive_with(b, 10, 100, 0)?;
    check!(stamp_of(STAMP_NS, &message.control[0].2) <= after);
    Ok(())
}

fn stamp_without_asking_before() -> Outcome {
    let [a, b] = pair(SOCK_DGRAM)?;
    send(a, b"x", 0)?;
    send(a, b"x", 0)?;
    check_eq!(receive_with(b, 10, 100, 0)?.control.len(), 0);
    // It came before anybody asked: the time is that of the receiving.
    set_option(b, STAMP_NS, 1)?;
    let before = now_ns()?;
    let message = receive_with(b, 10, 100, 0)?;
    check!(stamp_of(STAMP_NS, &message.control[0].2) >= before);
    Ok(())
}

fn stamps_are_for_datagrams() -> Outcome {
    let [a, b] = pair(SOCK_STREAM)?;
    set_option(b, STAMP, 1)?;
    set_option(b, STAMPING, SOFTWARE | RX_SOFTWARE)?;
    send(a, b"x", 0)?;
    check_eq!(receive_with(b, 10, 100, 0)?.control.len(), 0);
    Ok(())
}

/// `SO_TIMESTAMPING` as it is shown: flags, clock, and the length.
fn stamping(fd: i32, name: i32) -> SysResult<(i32, i32, i32)> {
    let (mut value, mut len) = ([-1_i32; 4], 16_i32);
    sys!(SYS_getsockopt, fd, SOL_SOCKET, name, addr_mut(&mut value), addr_mut(&mut len))?;
    Ok((value[0], value[1], len))
}

fn stamping_options() -> Outcome {
    let fd = socket(SOCK_DGRAM)?;
    check_eq!(stamping(fd, STAMPING)?, (0, 0, 8));
    set_option(fd, STAMPING, SOFTWARE | RX_SOFTWARE)?;
    check_eq!(stamping(fd, STAMPING)?, (SOFTWARE | RX_SOFTWARE, 0, 8));
    check_eq!(stamping(fd, STAMPING_NEW)?, (0, 0, 8));
    set_option(fd, STAMPING_NEW, SOFTWARE | OPT_ID)?;
    check_eq!(stamping(fd, STAMPING)?, (SOFTWARE | OPT_ID, 0, 8));
    check_eq!(stamping(fd, STAMPING_NEW)?, (SOFTWARE | OPT_ID, 0, 8));
    // With the clock's number, which counts with a flag only.
    let value = [SOFTWARE, 77];
    sys!(SYS_setsockopt, fd, SOL_SOCKET, STAMPING, addr(&value), 8)?;
    check_eq!(stamping(fd, STAMPING)?, (SOFTWARE, 0, 8));
    set_option(fd, STAMPING, OPT_STATS | OPT_TSONLY | OPT_ID | OPT_ID_TCP | OPT_RX_FILTER)?;
    set_option(fd, STAMPING, 0)?;
    check_eq!(stamping(fd, STAMPING)?, (0, 0, 8));
    Ok(())
}

fn stamping_errors() -> Outcome {
    let fd = socket(SOCK_DGRAM)?;
    for name in [STAMPING, STAMPING_NEW] {
        check_err!(set_option(fd, name, 1 << 18), EINVAL);
        check_err!(set_option(fd, name, -1), EINVAL);
        check_err!(set_option(fd, name, OPT_STATS), EINVAL);
        check_err!(set_option(fd, name, OPT_ID_TCP), EINVAL);
        check_err!(set_option(fd, name, BIND_PHC), EOPNOTSUPP);
        check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, name, BAD, 4), EFAULT);
        check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, name, BAD, 8), EFAULT);
        check_err!(sys!(SYS_setsockopt, fd, SOL_SOCKET, name, addr(&0_i32), 3), EINVAL);
        check_eq!(stamping(fd, name)?, (0, 0, 8));
    }
    Ok(())
}

/// Kinds of the control messages of a datagram.
fn kinds(ends: [i32; 2]) -> SysResult<Vec<i32>> {
    send(ends[0], b"x", 0)?;
    Ok(receive_with(ends[1], 10, 200, 0)?.control.iter().map(|control| control.1).collect())
}

fn stamping_needs_a_stamp() -> Outcome {
    let ends = pair(SOCK_DGRAM)?;
    set_option(ends[1], STAMPING, SOFTWARE | RX_SOFTWARE)?;
    check_eq!(kinds(ends)?, []);
    set_option(ends[1], STAMP, 1)?;
    check_eq!(kinds(ends)?, [STAMP, STAMPING]);
    // Any stamp of software will do, unless what is received is to be filtered.
    set_option(ends[1], STAMPING, SOFTWARE)?;
    check_eq!(kinds(ends)?, [STAMP, STAMPING]);
    set_option(ends[1], STAMPING, SOFTWARE | OPT_RX_FILTER)?;
    check_eq!(kinds(ends)?, [STAMP]);
    set_option(ends[1], STAMPING, SOFTWARE | RX_SOFTWARE | OPT_RX_FILTER)?;
    check_eq!(kinds(ends)?, [STAMP, STAMPING]);
    set_option(ends[1], STAMPING, RX_SOFTWARE | RAW_HARDWARE)?;
    check_eq!(kinds(ends)?, [STAMP]);
    Ok(())
}

fn stamping_forms() -> Outcome {
    for (name, form, stamp) in [(STAMPING, STAMPING, STAMP_NS), (STAMPING_NEW, STAMPING_NEW, STAMP_NS_NEW)] {
        let [a, b] = pair(SOCK_DGRAM)?;
        set_option(b, STAMP_NS, 1)?;
        set_option(b, name, SOFTWARE | RX_SOFTWARE)?;
        let before = now_ns()?;
        send(a, b"x", 0)?;
        let after = now_ns()?;
        let message = receive_with(b, 10, 200, 0)?;
        let found: Vec<_> = message.control.iter().map(|c| (c.0, c.1, c.2.len())).collect();
        check_eq!(found, [(SOL_SOCKET, stamp, 16), (SOL_SOCKET, form, 48)]);
        let parts = words(&message.control[1].2);
        let software = parts[0] * 1_000_000_000 + parts[1];
        check!((before..=after).contains(&software));
        check_eq!(software, stamp_of(stamp, &message.control[0].2));
        check_eq!(parts[2..], [0; 4]);
        close(a)?;
        close(b)?;
    }
    Ok(())
}

fn stamps_come_first() -> Outcome {
    let [a, b] = pair(SOCK_DGRAM)?;
    set_option(b, STAMP, 1)?;
    set_option(b, STAMPING, SOFTWARE)?;
    set_option(b, SO_PASSCRED, 1)?;
    send_with(a, b"x", &rights(&[a]), 0)?;
    let message = receive_with(b, 10, 300, 0)?;
    let kinds: Vec<i32> = message.control.iter().map(|control| control.1).collect();
    check_eq!(kinds, [STAMP, STAMPING, SCM_CREDENTIALS, SCM_RIGHTS]);
    Ok(())
}

fn peeks_are_stamped() -> Outcome {
    let [a, b] = pair(SOCK_DGRAM)?;
    set_option(b, STAMP_NS, 1)?;
    send(a, b"x", 0)?;
    let first = receive_with(b, 10, 100, MSG_PEEK)?.control;
    sleep_ms(10);
    let second = receive_with(b, 10, 100, 0)?.control;
    check_eq!(first.len(), 1);
    check_eq!(first, second);
    Ok(())
}
