//! Messages between processes, and keys.

use super::Cook;

/// Descriptors sent over sockets, sockets themselves among them.
pub fn rights(cook: &Cook<'_>) {
    let kind = *cook.rng.pick(&[1, 2, 5]) | libc::SOCK_NONBLOCK as u64;
    let mut ends = [-1_i32; 2];
    cook.call(libc::SYS_socketpair, [1, kind, 0, ends.as_mut_ptr() as u64, 0, 0]);
    let ends = ends.map(|fd| fd as u64);
    ends.iter().for_each(|fd| cook.known.borrow_mut().learn("open", *fd as i64));
    for _ in 0..1 + cook.below(6) {
        let count = 1 + cook.below(6);
        let fds: Vec<u64> = (0..count)
            .map(|_| if cook.rng.one_in(3) { *cook.rng.pick(&ends) } else { cook.arg(b'f') })
            .collect();
        let mut control = vec![16 + 4 * count, 1 | 1 << 32];
        control.extend(fds.chunks(2).map(|pair| pair[0] & 0xffff_ffff | pair.get(1).unwrap_or(&0) << 32));
        if cook.rng.one_in(4) {
            // SAFETY: only asks.
            let pid = unsafe { libc::getpid() } as u64;
            control.extend([28, 1 | 2 << 32, pid, 0]);
        }
        let room = control.len() as u64 * 8;
        let control = cook.words(&control);
        let vector = cook.arg(b'v');
        let header = cook.words(&[0, 0, vector, 1, control, room, 0]);
        let end = *cook.rng.pick(&ends);
        let flags = cook.few_of(0x4000_40ff);
        cook.call(libc::SYS_sendmsg, [end, header, flags | 0x4040, 0, 0, 0]);
        let option = *cook.rng.pick(&[16, 76, 42, 29, 35, 7, 8, 18, 20, 21, 17, 77, 59]);
        let value = cook.words(&[cook.rng.below(100), 0]);
        cook.call(libc::SYS_setsockopt, [end, 1, option, value, 4, 0]);
        if cook.rng.one_in(2) {
            let end = *cook.rng.pick(&ends);
            let control = cook.arg(b'b');
            let header = cook.words(&[0, 0, vector, 1, control, room, 0]);
            let flags = cook.few_of(0x4000_01ff) | 0x40;
            cook.call(libc::SYS_recvmsg, [end, header, flags, 0, 0, 0]);
        }
    }
    if cook.rng.one_in(2) {
        for fd in ends {
            cook.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        }
    }
}

/// A message queue by name.
pub fn queue(cook: &Cook<'_>) {
    let name = [b'q', b'a' + cook.below(3) as u8, 0];
    let name = cook.bytes(&name);
    let (most, size) = (1 + cook.below(8), 1 + cook.below(100));
    let attributes = cook.words(&[0, most, size, 0]);
    let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_NONBLOCK) as u64;
    let fd = cook.open(libc::SYS_mq_open, [name, flags, 0o666, attributes, 0, 0]);
    for _ in 0..1 + cook.below(8) {
        let (buffer, time, priority) = (cook.arg(b'B'), cook.arg(b't'), cook.below(40000));
        match cook.below(5) {
            0 | 1 => {
                cook.call(libc::SYS_mq_timedsend, [fd, buffer, cook.rng.below(size + 2), priority, time, 0])
            }
            2 => cook.call(libc::SYS_mq_timedreceive, [fd, buffer, size, buffer, time, 0]),
            3 => {
                let event = cook.words(&[1, 10 | cook.rng.below(3) << 32, 0, 0, 0, 0, 0, 0]);
                cook.call(libc::SYS_mq_notify, [fd, event, 0, 0, 0, 0])
            }
            _ => cook.call(libc::SYS_mq_unlink, [name, 0, 0, 0, 0, 0]),
        };
    }
}

/// Segments, semaphores and queues of System V.
pub fn sysv(cook: &Cook<'_>) {
    let key = cook.below(4);
    let mode = 0o1666;
    let shm = cook.call(libc::SYS_shmget, [key, 4096 * (1 + cook.rng.below(16)), mode, 0, 0, 0]) as u64;
    let at = cook.call(libc::SYS_shmat, [shm, 0, 0, 0, 0, 0]) as u64;
    let sem = cook.call(libc::SYS_semget, [key, 1 + cook.rng.below(8), mode, 0, 0, 0]) as u64;
    let msg = cook.call(libc::SYS_msgget, [key, mode, 0, 0, 0, 0]) as u64;
    for id in [shm, sem, msg] {
        cook.known.borrow_mut().learn("semget", id as i64);
    }
    for _ in 0..2 + cook.below(8) {
        let buffer = cook.arg(b'B');
        match cook.below(8) {
            0 => {
                let (op, flags) = (cook.below(5).wrapping_sub(2) & 0xffff, cook.below(4) << 11);
                let operation = cook.words(&[cook.rng.below(8) | op << 16 | flags << 32]);
                let time = cook.arg(b't');
                cook.call(libc::SYS_semtimedop, [sem, operation, 1, time, 0, 0])
            }
            1 => cook.call(libc::SYS_semctl, [sem, cook.rng.below(8), cook.rng.below(21), buffer, 0, 0]),
            2 => {
                let message = cook.words(&[1 + cook.rng.below(4), 7, 7, 7]);
                cook.call(libc::SYS_msgsnd, [msg, message, cook.rng.below(24), 0o4000, 0, 0])
            }
            3 => {
                let kind = cook.below(5).wrapping_sub(2);
                let flags = 0o4000 | cook.few_of(0o70000);
                cook.call(libc::SYS_msgrcv, [msg, buffer, cook.rng.below(64), kind, flags, 0])
            }
            4 => cook.call(libc::SYS_msgctl, [msg, cook.rng.below(14), buffer, 0, 0, 0]),
            5 => cook.call(libc::SYS_shmctl, [shm, cook.rng.below(16), buffer, 0, 0, 0]),
            6 => cook.call(libc::SYS_shmdt, [at, 0, 0, 0, 0, 0]),
            _ => {
                let at = cook.arg(b'a');
                cook.call(libc::SYS_shmat, [shm, at, cook.rng.bits() & 0o170000, 0, 0, 0])
            }
        };
    }
}

/// Keys and keyrings.
pub fn keys(cook: &Cook<'_>) {
    const SPECIAL: &[u64] = &[u64::MAX, u64::MAX - 1, u64::MAX - 2, u64::MAX - 3, u64::MAX - 4];
    let mut ids = SPECIAL.to_vec();
    for _ in 0..2 + cook.below(10) {
        let kind = *cook.rng.pick(&[&b"user\0"[..], b"keyring\0", b"logon\0", b"big_key\0"]);
        let kind = cook.bytes(kind);
        let name = [b'k', b'a' + cook.below(4) as u8, b':', b'x', 0];
        let name = cook.bytes(&name);
        let payload = cook.arg(b'B');
        let (ring, key) = (*cook.rng.pick(&ids), *cook.rng.pick(&ids));
        let id = if cook.rng.one_in(2) {
            let len = if cook.rng.one_in(2) { 0 } else { cook.below(64) };
            cook.call(libc::SYS_add_key, [kind, name, if len == 0 { 0 } else { payload }, len, ring, 0])
        } else {
            let op = cook.below(33);
            let last = cook.arg(b'l');
            match op {
                1 => cook.call(libc::SYS_keyctl, [op, name, 0, 0, 0, 0]),
                10 => cook.call(libc::SYS_keyctl, [op, ring, kind, name, key, 0]),
                _ => cook.call(libc::SYS_keyctl, [op, key, ring, payload, last, 0]),
            }
        };
        if id > 1 << 16 {
            ids.push(id as u64);
            cook.known.borrow_mut().learn("key", id);
        }
    }
}
