//! System V message queues (msgget(2), msgop(2), msgctl(2)).

use crate::prelude::*;
use crate::sysv::{Ds, as_user, drop_capability, fresh, mode_of, set_owner};
use crate::sysv_wait::catch_restarting;

tests![
    msg_get,
    msg_order_and_types,
    msg_sizes,
    msg_bad_addresses,
    msg_full_queue,
    msg_number_of_messages,
    msg_blocked_senders,
    msg_blocked_receivers,
    msg_receiver_too_small,
    msg_copy,
    msg_removed_while_waiting,
    msg_interrupted,
    msg_control,
    msg_control_wakes,
    msg_info,
    msg_permissions,
    msg_limits,
    msg_proc_file,
    msg_namespaces,
    msg_race_with_removal,
    msg_many_to_many,
    msg_hostile,
];

const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
const MSG_NOERROR: i32 = 0o10000;
const MSG_EXCEPT: i32 = 0o20000;
const MSG_COPY: i32 = 0o40000;

type Call<T> = crate::sys::Result<T>;

fn msgget(key: i32, flags: i32) -> Call<i32> {
    sys!(SYS_msgget, key, flags).map(|id| id as i32)
}

fn msgctl(id: i32, command: i32, buffer: usize) -> Call<i32> {
    sys!(SYS_msgctl, id, command, buffer).map(|value| value as i32)
}

fn send(id: i32, kind: i64, text: &[u8], flags: i32) -> Call<()> {
    let mut buffer = kind.to_ne_bytes().to_vec();
    buffer.extend_from_slice(text);
    sys!(SYS_msgsnd, id, buffer.as_ptr(), text.len(), flags).map(drop)
}

/// Receives up to `room` bytes: type and text.
fn receive(id: i32, room: usize, kind: i64, flags: i32) -> Call<(i64, Vec<u8>)> {
    let mut buffer = vec![0_u8; 8 + room];
    let len = sys!(SYS_msgrcv, id, buffer.as_mut_ptr(), room, kind, flags)?;
    let mut kind = [0; 8];
    kind.copy_from_slice(&buffer[..8]);
    Ok((i64::from_ne_bytes(kind), buffer[8..8 + len].to_vec()))
}

fn stat(id: i32) -> Call<Ds> {
    let mut ds: Ds = [0; 16];
    msgctl(id, IPC_STAT, addr_mut(&mut ds))?;
    Ok(ds)
}

/// Messages in the queue.
fn count(id: i32) -> u64 {
    stat(id).map_or(u64::MAX, |ds| ds[10])
}

fn code<T>(result: Call<T>) -> i32 {
    result.map_or_else(|errno| errno.0, |_| 0)
}

/// Whether process `pid` has gone to sleep in a system call that waits for a queue.
fn asleep(pid: i32) -> bool {
    eventually(|| state(pid) == Some('S'))
}

fn msg_get() -> Outcome {
    fresh()?;
    let one = msgget(IPC_PRIVATE, 0o600)?;
    check!(msgget(IPC_PRIVATE, 0o600)? != one);
    check_err!(msgget(0x1234, 0o600), ENOENT);
    let id = msgget(0x1234, IPC_CREAT | 0o600)?;
    check_eq!(msgget(0x1234, 0)?, id);
    check_eq!(msgget(0x1234, IPC_CREAT | 0o600)?, id);
    check_err!(msgget(0x1234, IPC_CREAT | IPC_EXCL | 0o600), EEXIST);
    msgctl(id, IPC_RMID, 0)?;
    check_err!(msgget(0x1234, 0), ENOENT);
    check_err!(send(id, 1, b"", 0), EINVAL);
    check_err!(receive(id, 1, 0, 0), EINVAL);
    check_err!(msgctl(id, IPC_RMID, 0), EINVAL);
    Ok(())
}

fn msg_order_and_types() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    for (kind, text) in [(3, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (1, b"e"), (7, b"f")] {
        send(id, kind, text, 0)?;
    }
    let take = |kind, flags| receive(id, 8, kind, flags | IPC_NOWAIT);
    check_eq!(take(2, 0)?, (2, b"c".to_vec()));
    check_eq!(take(-2, 0)?, (1, b"b".to_vec()));
    check_eq!(take(0, 0)?, (3, b"a".to_vec()));
    check_eq!(take(3, MSG_EXCEPT)?, (1, b"e".to_vec()));
    check_err!(take(-2, 0), ENOMSG);
    check_err!(take(2, 0), ENOMSG);
    check_eq!(take(-100, 0)?, (3, b"d".to_vec()));
    // For 0 and negative numbers MSG_EXCEPT means nothing.
    send(id, 5, b"g", 0)?;
    check_eq!(take(i64::MIN, MSG_EXCEPT)?, (5, b"g".to_vec()));
    check_err!(take(7, MSG_EXCEPT), ENOMSG);
    check_eq!(take(i64::MIN, 0)?, (7, b"f".to_vec()));
    check_err!(take(0, 0), ENOMSG);
    send(id, i64::MAX, b"max", 0)?;
    check_eq!(take(i64::MAX, 0)?, (i64::MAX, b"max".to_vec()));
    Ok(())
}

fn msg_sizes() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    send(id, 1, b"", 0)?;
    check_eq!(receive(id, 0, 0, 0)?, (1, vec![]));
    send(id, 1, b"12345678", 0)?;
    check_err!(receive(id, 7, 0, 0), E2BIG);
    check_eq!(count(id), 1);
    check_eq!(receive(id, 5, 0, MSG_NOERROR)?, (1, b"12345".to_vec()));
    check_eq!(count(id), 0);
    let large = vec![7_u8; 8192];
    send(id, 2, &large, 0)?;
    check_eq!(receive(id, 100_000, 0, 0)?, (2, large.clone()));
    check_err!(send(id, 2, &[0; 8193], 0), EINVAL);
    let buffer = [1_i64, 0];
    check_err!(sys!(SYS_msgsnd, id, addr(&buffer), -1_i64, 0), EINVAL);
    check_err!(sys!(SYS_msgrcv, id, addr(&buffer), -1_i64, 0, IPC_NOWAIT), EINVAL);
    check_err!(send(id, 0, b"x", 0), EINVAL);
    check_err!(send(id, -1, b"x", 0), EINVAL);
    check_err!(send(-1, 1, b"x", 0), EINVAL);
    check_err!(receive(-1, 1, 0, 0), EINVAL);
    Ok(())
}

fn msg_bad_addresses() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    check_err!(sys!(SYS_msgsnd, id, 8, 1, 0), EFAULT);
    let page = map_anon(8192)?;
    munmap(page + 4096, 4096)?;
    poke(page + 4088, 1);
    check_err!(sys!(SYS_msgsnd, id, page + 4088, 1, 0), EFAULT);
    sys!(SYS_msgsnd, id, page + 4088, 0, 0)?;
    check_eq!(count(id), 1);
    // A message that cannot be delivered is lost.
    check_err!(sys!(SYS_msgrcv, id, 8, 10, 0, 0), EFAULT);
    check_eq!(count(id), 0);
    send(id, 1, b"abc", 0)?;
    check_err!(sys!(SYS_msgrcv, id, page + 4086, 10, 0, 0), EFAULT);
    check_eq!(count(id), 0);
    Ok(())
}

fn msg_full_queue() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    check_eq!(stat(id)?[11], 16384);
    send(id, 1, &[1; 8192], 0)?;
    send(id, 2, &[2; 8000], 0)?;
    check_err!(send(id, 3, &[3; 193], IPC_NOWAIT), EAGAIN);
    send(id, 3, &[3; 192], IPC_NOWAIT)?;
    check_err!(send(id, 3, &[3], IPC_NOWAIT), EAGAIN);
    // A message without text still has room.
    send(id, 4, b"", IPC_NOWAIT)?;
    let ds = stat(id)?;
    check_eq!((ds[9], ds[10]), (16384, 4));
    receive(id, 8192, 2, 0)?;
    send(id, 5, &[5; 8000], IPC_NOWAIT)?;
    let kinds: Vec<i64> = (0..4).map(|_| receive(id, 8192, 0, 0).map_or(0, |m| m.0)).collect();
    check_eq!(kinds, [1, 3, 4, 5]);
    Ok(())
}

fn msg_number_of_messages() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    let mut ds = stat(id)?;
    set_owner(&mut ds, 0, 0, 0o600);
    ds[11] = 3;
    msgctl(id, IPC_SET, addr(&ds))?;
    for _ in 0..3 {
        send(id, 1, b"", IPC_NOWAIT)?;
    }
    check_err!(send(id, 1, b"", IPC_NOWAIT), EAGAIN);
    receive(id, 1, 0, 0)?;
    send(id, 1, b"abc", IPC_NOWAIT)?;
    check_err!(send(id, 1, b"", IPC_NOWAIT), EAGAIN);
    ds[11] = 5000;
    msgctl(id, IPC_SET, addr(&ds))?;
    let mut number = 3;
    while send(id, 1, b"", IPC_NOWAIT).is_ok() {
        number += 1;
    }
    check_eq!((number, count(id)), (5000, 5000));
    Ok(())
}

fn msg_blocked_senders() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    send(id, 1, &[1; 8192], 0)?;
    send(id, 1, &[1; 8192], 0)?;
    let mut children = Vec::new();
    for kind in 2..5 {
        let child = fork(|| code(send(id, kind, &[kind as u8; 6000], 0)))?;
        check!(asleep(child));
        children.push(child);
    }
    check_eq!(count(id), 2);
    receive(id, 8192, 1, 0)?;
    // Room for one; whose it is is nobody's promise.
    check!(eventually(|| count(id) == 2));
    receive(id, 8192, 1, 0)?;
    check!(eventually(|| count(id) == 2));
    receive(id, 8192, 0, 0)?;
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    let mut kinds = [receive(id, 8192, 0, 0)?.0, receive(id, 8192, 0, 0)?.0];
    kinds.sort_unstable();
    check_err!(receive(id, 8192, 0, IPC_NOWAIT), ENOMSG);
    check!(kinds[0] != kinds[1]);
    // A small one fits where a large one waits.
    send(id, 1, &[1; 8192], 0)?;
    let large = fork(|| code(send(id, 2, &[0; 8192], 0).and_then(|()| send(id, 3, &[0; 4096], 0))))?;
    check!(asleep(large));
    check_eq!(count(id), 2);
    receive(id, 8192, 1, 0)?;
    check_eq!(wait_exit(large)?, 0);
    Ok(())
}

fn msg_blocked_receivers() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    let wanted = [(2, 0), (-5, 0), (9, MSG_EXCEPT), (0, 0)];
    let mut children = Vec::new();
    for (kind, flags) in wanted {
        let child = fork(|| receive(id, 8, kind, flags).map_or(99, |(kind, _)| kind as i32))?;
        check!(asleep(child));
        children.push(child);
    }
    // Each goes to the first that wants it.
    for kind in [9, 5, 8, 2] {
        send(id, kind, b"text", 0)?;
    }
    let got: Vec<i32> = children.iter().map(|child| wait_exit(*child).unwrap_or(98)).collect();
    check_eq!(got, [2, 5, 8, 9]);
    check_eq!(count(id), 0);
    let ds = stat(id)?;
    check_eq!((ds[12] as i32, (ds[12] >> 32) as i32), (getpid(), children[0]));
    // What nobody wants stays.
    let child = fork(|| receive(id, 8, 4, 0).map_or(99, |(kind, _)| kind as i32))?;
    check!(asleep(child));
    send(id, 3, b"", 0)?;
    check_eq!(count(id), 1);
    send(id, 4, b"", 0)?;
    check_eq!(wait_exit(child)?, 4);
    check_eq!(count(id), 1);
    Ok(())
}

fn msg_receiver_too_small() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    let small = fork(|| code(receive(id, 4, 0, 0)))?;
    check!(asleep(small));
    let cut = fork(|| receive(id, 4, 0, MSG_NOERROR).map_or(99, |(_, text)| text.len() as i32))?;
    check!(asleep(cut));
    send(id, 1, b"12345678", 0)?;
    check_eq!(wait_exit(small)?, E2BIG);
    check_eq!(wait_exit(cut)?, 4);
    check_eq!(count(id), 0);
    let small = fork(|| code(receive(id, 4, 0, 0)))?;
    check!(asleep(small));
    send(id, 1, b"12345678", 0)?;
    check_eq!(wait_exit(small)?, E2BIG);
    check_eq!(count(id), 1);
    Ok(())
}

fn msg_copy() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    for (kind, text) in [(5, &b"zero"[..]), (6, b"one"), (7, b"two")] {
        send(id, kind, text, 0)?;
    }
    let copy = |at, flags| receive(id, 16, at, MSG_COPY | IPC_NOWAIT | flags);
    check_eq!(copy(1, 0)?, (6, b"one".to_vec()));
    check_eq!(copy(0, 0)?, (5, b"zero".to_vec()));
    check_eq!(copy(2, 0)?, (7, b"two".to_vec()));
    check_err!(copy(3, 0), ENOMSG);
    check_err!(copy(-1, 0), ENOMSG);
    check_err!(copy(0, MSG_EXCEPT), EINVAL);
    check_err!(receive(id, 16, 0, MSG_COPY), EINVAL);
    check_err!(receive(id, 2, 0, MSG_COPY | IPC_NOWAIT), E2BIG);
    check_err!(receive(id, 2, 0, MSG_COPY | IPC_NOWAIT | MSG_NOERROR), EINVAL);
    check_err!(sys!(SYS_msgrcv, id, 8, 16, 0, MSG_COPY | IPC_NOWAIT), EFAULT);
    check_eq!(count(id), 3);
    check_eq!(stat(id)?[7], 0);
    Ok(())
}

fn msg_removed_while_waiting() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    send(id, 1, &[0; 8192], 0)?;
    send(id, 1, &[0; 8192], 0)?;
    let children = [
        fork(|| code(send(id, 2, &[0; 10], 0)))?,
        fork(|| code(send(id, 2, &[0; 10], 0)))?,
        fork(|| code(receive(id, 100, 7, 0)))?,
        fork(|| code(receive(id, 100, 8, 0)))?,
    ];
    check!(children.iter().all(|child| asleep(*child)));
    msgctl(id, IPC_RMID, 0)?;
    for child in children {
        check_eq!(wait_exit(child)?, EIDRM);
    }
    Ok(())
}

fn msg_interrupted() -> Outcome {
    fresh()?;
    catch_restarting()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    let receiver = fork(|| code(receive(id, 8, 0, 0)))?;
    check!(asleep(receiver));
    kill(receiver, SIGUSR1)?;
    // Never restarted, whatever the handler says.
    check_eq!(wait_exit(receiver)?, EINTR);
    send(id, 1, &[0; 8192], 0)?;
    send(id, 1, &[0; 8192], 0)?;
    let sender = fork(|| code(send(id, 1, b"x", 0)))?;
    check!(asleep(sender));
    kill(sender, SIGUSR1)?;
    check_eq!(wait_exit(sender)?, EINTR);
    check_eq!(count(id), 2);
    // A stop that is continued is not noticed.
    let sender = fork(|| code(send(id, 1, b"x", 0)))?;
    check!(asleep(sender));
    kill(sender, SIGSTOP)?;
    check!(eventually(|| state(sender) == Some('T')));
    kill(sender, SIGCONT)?;
    check!(asleep(sender));
    receive(id, 8192, 0, 0)?;
    check_eq!(wait_exit(sender)?, 0);
    Ok(())
}

fn msg_control() -> Outcome {
    fresh()?;
    let id = msgget(0x77, IPC_CREAT | 0o640)?;
    let ds = stat(id)?;
    check_eq!((ds[0] as i32, mode_of(&ds)), (0x77, 0o640));
    check_eq!((ds[6], ds[7]), (0, 0));
    check!(ds[8] > 1_600_000_000);
    check_eq!((ds[9], ds[10], ds[11], ds[12]), (0, 0, 16384, 0));
    send(id, 1, b"abc", 0)?;
    let ds = stat(id)?;
    check!(ds[6] > 1_600_000_000 && ds[7] == 0);
    check_eq!((ds[9], ds[10], ds[12] as i32, ds[12] >> 32), (3, 1, getpid(), 0));
    receive(id, 8, 0, 0)?;
    let mut ds = stat(id)?;
    check!(ds[7] > 1_600_000_000);
    check_eq!((ds[12] >> 32) as i32, getpid());
    set_owner(&mut ds, 12, 34, 0o7777);
    ds[11] = 100;
    msgctl(id, IPC_SET, addr(&ds))?;
    let ds = stat(id)?;
    check_eq!(((ds[0] >> 32) as u32, ds[1] as u32, mode_of(&ds)), (12, 34, 0o777));
    check_eq!(ds[11], 100);
    check_err!(send(id, 1, &[0; 101], IPC_NOWAIT), EAGAIN);
    check_err!(msgctl(id, IPC_STAT, 8), EFAULT);
    check_err!(msgctl(id, IPC_SET, 8), EFAULT);
    check_err!(msgctl(id, IPC_INFO, 8), EFAULT);
    check_err!(msgctl(id, 99, 0), EINVAL);
    check_err!(msgctl(id, -1, 0), EINVAL);
    check_err!(msgctl(-1, IPC_STAT, 0), EINVAL);
    check_err!(msgctl(id + 1, IPC_RMID, 0), EINVAL);
    Ok(())
}

fn msg_control_wakes() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o666)?;
    // A larger queue lets a sender go on.
    let mut ds = stat(id)?;
    set_owner(&mut ds, 0, 0, 0o666);
    ds[11] = 10;
    msgctl(id, IPC_SET, addr(&ds))?;
    send(id, 1, &[0; 10], 0)?;
    let sender = fork(|| code(send(id, 1, &[0; 10], 0)))?;
    check!(asleep(sender));
    ds[11] = 20;
    msgctl(id, IPC_SET, addr(&ds))?;
    check_eq!(wait_exit(sender)?, 0);
    // A receiver that lost its right hears so; one that has it waits on.
    let go = pipe(0)?;
    let loser = fork(|| {
        as_user(1000, || {
            let _ = write(go[1], b"x");
            code(receive(id, 8, 77, 0))
        })
        .unwrap_or(98)
    })?;
    read_vec(go[0], 1)?;
    let keeper = fork(|| receive(id, 8, 77, 0).map_or(99, |(kind, _)| kind as i32))?;
    check!(asleep(keeper));
    sleep_ms(50);
    set_owner(&mut ds, 0, 0, 0o600);
    ds[11] = 100;
    msgctl(id, IPC_SET, addr(&ds))?;
    check_eq!(wait_exit(loser)?, EACCES);
    send(id, 77, b"", 0)?;
    check_eq!(wait_exit(keeper)?, 77);
    Ok(())
}

fn msg_info() -> Outcome {
    fresh()?;
    let mut info = [0_i32; 8];
    let to = addr_mut(&mut info);
    check_eq!(msgctl(0, IPC_INFO, to)?, 0);
    check_eq!(info, [512_000, 16384, 8192, 16384, 32000, 16, 16384, 0xffff]);
    let ids = [msgget(IPC_PRIVATE, 0o600)?, msgget(IPC_PRIVATE, 0o200)?];
    send(ids[0], 1, b"abc", 0)?;
    send(ids[1], 1, b"de", 0)?;
    check_eq!(msgctl(0, MSG_INFO, to)?, 1);
    // Queues, messages, bytes.
    check_eq!((info[0], info[1], info[6]), (2, 2, 5));
    let mut ds: Ds = [0; 16];
    for (index, id) in ids.iter().enumerate() {
        check_eq!(msgctl(index as i32, MSG_STAT, addr_mut(&mut ds))?, *id);
        check_eq!(msgctl(index as i32, MSG_STAT_ANY, addr_mut(&mut ds))?, *id);
    }
    check_eq!(ds[10], 1);
    check_err!(msgctl(2, MSG_STAT, addr_mut(&mut ds)), EINVAL);
    msgctl(ids[1], IPC_RMID, 0)?;
    check_eq!(msgctl(0, MSG_INFO, to)?, 0);
    check_eq!((info[0], info[1], info[6]), (1, 1, 3));
    Ok(())
}

fn msg_permissions() -> Outcome {
    fresh()?;
    let id = msgget(0x55, IPC_CREAT | 0o600)?;
    send(id, 1, b"abc", 0)?;
    let mut ds = stat(id)?;
    let to = addr_mut(&mut ds);
    let denied = as_user(1000, || {
        i32::from(
            code(send(id, 1, b"x", 0)) != EACCES
                || code(receive(id, 8, 0, IPC_NOWAIT)) != EACCES
                || code(receive(id, 8, 0, IPC_NOWAIT | MSG_COPY)) != EACCES
                || code(msgctl(id, IPC_STAT, to)) != EACCES
                || code(msgctl(0, MSG_STAT, to)) != EACCES
                || code(msgctl(0, MSG_STAT_ANY, to)) != 0
                || code(msgctl(id, IPC_RMID, 0)) != EPERM
                || code(msgctl(id, IPC_SET, to)) != EPERM
                || code(msgget(0x55, 0o400)) != EACCES,
        )
    })?;
    check_eq!(denied, 0);
    set_owner(&mut ds, 0, 0, 0o602);
    msgctl(id, IPC_SET, addr(&ds))?;
    let sends = as_user(1000, || {
        i32::from(code(send(id, 1, b"x", 0)) != 0 || code(receive(id, 8, 0, IPC_NOWAIT)) != EACCES)
    })?;
    check_eq!(sends, 0);
    // The owner may change it, but not enlarge it beyond what is usual.
    set_owner(&mut ds, 1000, 1000, 0o600);
    msgctl(id, IPC_SET, addr(&ds))?;
    let status = as_user(1000, || {
        let mut ds: Ds = [0; 16];
        set_owner(&mut ds, 1000, 1000, 0o600);
        ds[11] = 16385;
        let refused = code(msgctl(id, IPC_SET, addr(&ds))) == EPERM;
        ds[11] = 16384;
        i32::from(!refused || code(msgctl(id, IPC_SET, addr(&ds))) != 0 || code(msgctl(id, IPC_RMID, 0)) != 0)
    })?;
    check_eq!(status, 0);
    let id = msgget(IPC_PRIVATE, 0o600)?;
    let mut ds = stat(id)?;
    ds[11] = 1 << 20;
    set_owner(&mut ds, 0, 0, 0o600);
    msgctl(id, IPC_SET, addr(&ds))?;
    check_eq!(stat(id)?[11], 1 << 20);
    const CAP_SYS_RESOURCE: u32 = 24;
    drop_capability(CAP_SYS_RESOURCE)?;
    check_err!(msgctl(id, IPC_SET, addr(&ds)), EPERM);
    Ok(())
}

fn msg_limits() -> Outcome {
    fresh()?;
    let (max, mnb, mni) =
        (c"/proc/sys/kernel/msgmax", c"/proc/sys/kernel/msgmnb", c"/proc/sys/kernel/msgmni");
    check_eq!((slurp(max)?, slurp(mnb)?, slurp(mni)?), ("8192\n".into(), "16384\n".into(), "32000\n".into()));
    let old = msgget(IPC_PRIVATE, 0o600)?;
    spew(max, "20\n")?;
    spew(mnb, "30\n")?;
    spew(mni, "2\n")?;
    check_err!(send(old, 1, &[0; 21], 0), EINVAL);
    send(old, 1, &[0; 20], 0)?;
    check_eq!(stat(old)?[11], 16384);
    let new = msgget(IPC_PRIVATE, 0o600)?;
    check_eq!(stat(new)?[11], 30);
    check_err!(msgget(IPC_PRIVATE, 0o600), ENOSPC);
    for (path, bad) in [(max, "-1"), (mnb, "-1"), (mni, "32769"), (mni, "-1"), (max, "x"), (max, "")] {
        if !bad.is_empty() {
            check_err!(spew(path, bad), EINVAL);
        }
    }
    check_eq!(slurp(c"/proc/sys/kernel/auto_msgmni")?, "0\n");
    spew(c"/proc/sys/kernel/auto_msgmni", "1")?;
    check_eq!(slurp(c"/proc/sys/kernel/auto_msgmni")?, "0\n");
    check_err!(spew(c"/proc/sys/kernel/auto_msgmni", "2"), EINVAL);
    // A large message.
    spew(max, "1000000")?;
    spew(mnb, "2000000")?;
    spew(mni, "10")?;
    let large = msgget(IPC_PRIVATE, 0o600)?;
    let text: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    send(large, 9, &text, 0)?;
    check!(receive(large, 1_000_000, 0, 0)? == (9, text));
    check_eq!(as_user(1000, || code(open(max, O_WRONLY, 0)))?, EACCES);
    Ok(())
}

fn msg_proc_file() -> Outcome {
    fresh()?;
    let path = c"/proc/sysvipc/msg";
    let heading = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n";
    check_eq!(slurp(path)?, heading);
    let id = msgget(-5, IPC_CREAT | 0o604)?;
    send(id, 1, b"abcd", 0)?;
    let text = slurp(path)?;
    let line = text.lines().nth(1).unwrap_or_default();
    let me = getpid();
    let start =
        format!("        -5 {id:10}   604           4          1 {me:5}     0     0     0     0     0 ");
    check!(line.starts_with(&start), "{line}");
    check_eq!(line.len(), start.len() + 32);
    Ok(())
}

fn msg_namespaces() -> Outcome {
    fresh()?;
    let id = msgget(0x4242, IPC_CREAT | 0o600)?;
    let child = in_child(|| {
        let gone = fresh().is_ok() && code(msgget(0x4242, 0)) == ENOENT;
        let made = msgget(0x4242, IPC_CREAT | 0o600).and_then(|id| send(id, 1, b"x", 0));
        i32::from(!gone || made.is_err())
    })?;
    check_eq!((child, count(id)), (0, 0));
    Ok(())
}

fn msg_race_with_removal() -> Outcome {
    fresh()?;
    for round in 0..150 {
        let id = msgget(IPC_PRIVATE, 0o600)?;
        send(id, 1, &[0; 8192], 0)?;
        send(id, 1, &[0; 8192], 0)?;
        let threads = [
            std::thread::spawn(move || send(id, 2, &[0; 4000], 0)),
            std::thread::spawn(move || receive(id, 8192, 9, 0).map(drop)),
            std::thread::spawn(move || {
                receive(id, 8192, 1, 0).and_then(|_| receive(id, 8192, 7, 0)).map(drop)
            }),
        ];
        if round % 2 == 0 {
            std::thread::yield_now();
        } else {
            // Two left of the first three: the sender has got in, or waits.
            check!(eventually(|| count(id) == 2));
        }
        msgctl(id, IPC_RMID, 0)?;
        for (which, thread) in threads.into_iter().enumerate() {
            let result = thread.join().map_err(|_| Failure::new("panic"))?;
            let removed = matches!(result, Err(Errno(EIDRM | EINVAL)));
            check!(removed || which == 0 && result.is_ok(), "{which} {result:?}");
        }
    }
    Ok(())
}

fn msg_many_to_many() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    let (senders, each) = (3_u64, 150_u64);
    let sent: Vec<i32> = (0..senders)
        .map(|sender| {
            fork(|| {
                let text = |n: u64| vec![(n % 256) as u8; 500 + (n * 7 % 500) as usize];
                code((0..each).try_for_each(|n| send(id, sender as i64 + 1, &text(n), 0)))
            })
        })
        .collect::<Result<_, _>>()?;
    let received: Vec<i32> = (0..senders)
        .map(|sender| {
            fork(|| {
                for n in 0..each {
                    // Messages of one type come in the order they were sent.
                    match receive(id, 2000, sender as i64 + 1, 0) {
                        Ok((_, text)) if text.len() == 500 + (n * 7 % 500) as usize => {
                            if text.iter().any(|byte| u64::from(*byte) != n % 256) {
                                return 1;
                            }
                        }
                        _ => return 2,
                    }
                }
                0
            })
        })
        .collect::<Result<_, _>>()?;
    for child in sent.into_iter().chain(received) {
        check_eq!(wait_exit(child)?, 0);
    }
    check_eq!(count(id), 0);
    Ok(())
}

fn msg_hostile() -> Outcome {
    fresh()?;
    let id = msgget(IPC_PRIVATE, 0o600)?;
    check_err!(sys!(SYS_msgsnd, id, usize::MAX - 3, 1, 0), EFAULT);
    check_err!(sys!(SYS_msgsnd, id, 1_usize << 63, 0, 0), EFAULT);
    let kind = 1_i64;
    check_err!(sys!(SYS_msgsnd, id, addr(&kind), usize::MAX >> 1, 0), EINVAL);
    send(id, 1, b"abc", 0)?;
    // As large a buffer as can be said.
    let mut buffer = [0_u64; 8];
    check_eq!(sys!(SYS_msgrcv, id, addr_mut(&mut buffer), usize::MAX >> 1, 0, 0)?, 3);
    check_err!(sys!(SYS_msgrcv, id, addr_mut(&mut buffer), usize::MAX, 0, 0), EINVAL);
    check_err!(sys!(SYS_msgrcv, i32::MIN, addr_mut(&mut buffer), 1, 0, 0), EINVAL);
    check_err!(msgctl(i32::MIN, IPC_STAT, addr_mut(&mut buffer)), EINVAL);
    check_err!(msgctl(id, i32::MAX, addr_mut(&mut buffer)), EINVAL);
    send(id, 1, b"abc", !IPC_NOWAIT)?;
    check_eq!(count(id), 1);
    Ok(())
}
