//! System V semaphores, and what all System V objects share: identifiers, permissions, namespaces (sysvipc(7), semget(2),
//! semop(2), semctl(2), ipc_namespaces(7)).

use crate::prelude::*;
use crate::sysv_undo::clone;
use std::sync::atomic::Ordering::SeqCst;

tests![
    sem_get,
    identifiers_are_not_reused,
    sem_operations,
    sem_sets_are_atomic,
    sem_operation_errors,
    sem_control,
    sem_control_errors,
    sem_info,
    sem_permissions,
    sem_capabilities,
    sem_limits,
    sem_chosen_identifiers,
    sem_proc_file,
    namespaces_are_separate,
    namespace_of_a_clone,
    sem_race_with_removal,
    sem_ping_pong,
    sem_hostile,
];

const GETVAL: i32 = 12;

const GETALL: i32 = 13;

pub(crate) const GETPID: i32 = 11;

pub(crate) const GETNCNT: i32 = 14;

pub(crate) const GETZCNT: i32 = 15;

const SETVAL: i32 = 16;

pub(crate) const SETALL: i32 = 17;

const SEM_STAT: i32 = 18;

const SEM_INFO: i32 = 19;

const SEM_STAT_ANY: i32 = 20;

pub(crate) const SEM_UNDO: i32 = 0x1000;

/// Puts the test into an IPC namespace of its own, which is empty.
pub fn fresh() -> Outcome {
    sys!(SYS_unshare, CLONE_NEWIPC)?;
    Ok(())
}

/// Runs `body` in a child that is user and group `id` and nothing else.
pub fn as_user(id: u32, body: impl FnOnce() -> i32) -> crate::sys::Result<i32> {
    in_child(|| {
        let changed = sys!(SYS_setgroups, 0, 0)
            .and_then(|_| sys!(SYS_setresgid, id, id, id))
            .and_then(|_| sys!(SYS_setresuid, id, id, id));
        if changed.is_err() { 99 } else { body() }
    })
}

/// The words of an object's `*_ds` structure.
pub type Ds = [u64; 16];

/// The mode in a `*_ds` structure.
pub fn mode_of(ds: &Ds) -> u32 {
    (ds[2] >> 32) as u32
}

/// Writes owner and mode into a `*_ds` structure.
pub fn set_owner(ds: &mut Ds, uid: u32, gid: u32, mode: u32) {
    ds[0] = ds[0] & 0xffff_ffff | u64::from(uid) << 32;
    ds[1] = ds[1] & 0xffff_ffff_0000_0000 | u64::from(gid);
    ds[2] = ds[2] & 0xffff_ffff | u64::from(mode) << 32;
}

pub(crate) fn semget(key: i32, count: i32, flags: i32) -> crate::sys::Result<i32> {
    sys!(SYS_semget, key, count, flags).map(|id| id as i32)
}

pub(crate) fn semctl(id: i32, number: i32, command: i32, arg: usize) -> crate::sys::Result<i32> {
    sys!(SYS_semctl, id, number, command, arg).map(|value| value as i32)
}

pub(crate) fn buffers(ops: &[(u16, i16, i32)]) -> Vec<sembuf> {
    let one =
        |&(num, op, flags): &(u16, i16, i32)| sembuf { sem_num: num, sem_op: op, sem_flg: flags as i16 };
    ops.iter().map(one).collect()
}

pub(crate) fn semop(id: i32, ops: &[(u16, i16, i32)]) -> crate::sys::Result<()> {
    let ops = buffers(ops);
    sys!(SYS_semop, id, ops.as_ptr(), ops.len()).map(drop)
}

pub(crate) fn value(id: i32, number: i32) -> i32 {
    semctl(id, number, GETVAL, 0).unwrap_or(-1)
}

pub(crate) fn set(id: i32, number: i32, value: i32) -> crate::sys::Result<()> {
    semctl(id, number, SETVAL, value as usize).map(drop)
}

/// Waits until `count` waiters want semaphore `number` to grow.
pub(crate) fn waiting(id: i32, number: i32, count: i32) -> bool {
    eventually(|| semctl(id, number, GETNCNT, 0) == Ok(count))
}

/// An error number as an exit status; 0 for success.
pub(crate) fn code<T>(result: crate::sys::Result<T>) -> i32 {
    result.map_or_else(|errno| errno.0, |_| 0)
}

fn sem_get() -> Outcome {
    fresh()?;
    let one = semget(IPC_PRIVATE, 1, 0o600)?;
    let two = semget(IPC_PRIVATE, 1, 0o600)?;
    check!(one != two);
    check_err!(semget(0x1234, 1, 0o600), ENOENT);
    let id = semget(0x1234, 3, IPC_CREAT | 0o600)?;
    check_eq!(semget(0x1234, 3, 0)?, id);
    check_eq!(semget(0x1234, 2, IPC_CREAT | 0o600)?, id);
    // Of a set that is there no number is needed.
    check_eq!(semget(0x1234, 0, 0o600)?, id);
    check_err!(semget(0x1234, 3, IPC_CREAT | IPC_EXCL | 0o600), EEXIST);
    // Without IPC_CREAT, IPC_EXCL means nothing.
    check_eq!(semget(0x1234, 3, IPC_EXCL | 0o600)?, id);
    check_err!(semget(0x1234, 4, 0), EINVAL);
    check_err!(semget(IPC_PRIVATE, 0, 0o600), EINVAL);
    check_err!(semget(IPC_PRIVATE, -1, 0o600), EINVAL);
    check_err!(semget(IPC_PRIVATE, 32001, 0o600), EINVAL);
    check_err!(semget(0x99, 0, IPC_CREAT | 0o600), EINVAL);
    semctl(id, 0, IPC_RMID, 0)?;
    check_err!(semget(0x1234, 3, 0), ENOENT);
    check!(semget(0x1234, 5, IPC_CREAT | 0o600)? != id);
    Ok(())
}

fn identifiers_are_not_reused() -> Outcome {
    fresh()?;
    let first = semget(IPC_PRIVATE, 1, 0o600)?;
    semctl(first, 0, IPC_RMID, 0)?;
    check_err!(semctl(first, 0, GETVAL, 0), EINVAL);
    let mut seen = vec![first];
    let mut again = None;
    for _ in 0..300 {
        let id = semget(IPC_PRIVATE, 1, 0o600)?;
        check!(!seen.contains(&id), "{id}");
        seen.push(id);
        if id & 0x7fff == first & 0x7fff {
            again = Some(id);
            break;
        }
        semctl(id, 0, IPC_RMID, 0)?;
    }
    // The index is in use again, by another object.
    check!(again.is_some());
    check_err!(semctl(first, 0, GETVAL, 0), EINVAL);
    check_err!(semop(first, &[(0, 1, 0)]), EINVAL);
    check_err!(semctl(first, 0, IPC_RMID, 0), EINVAL);
    check_eq!(semctl(again.unwrap_or(0), 0, GETVAL, 0)?, 0);
    Ok(())
}

fn sem_operations() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 3, 0o600)?;
    let mut ds: Ds = [0; 16];
    semctl(id, 0, IPC_STAT, addr_mut(&mut ds))?;
    let otime = if cfg!(target_arch = "x86_64") { (6, 8, 10) } else { (6, 7, 8) };
    check_eq!(ds[otime.0], 0);
    check!(ds[otime.1] > 1_600_000_000);
    check_eq!(ds[otime.2], 3);
    semop(id, &[(0, 5, 0)])?;
    check_eq!(value(id, 0), 5);
    semop(id, &[(0, -2, 0), (1, 1, 0), (2, 0, 0)])?;
    check_eq!((value(id, 0), value(id, 1), value(id, 2)), (3, 1, 0));
    for number in 0..3 {
        check_eq!(semctl(id, number, GETPID, 0)?, getpid());
    }
    semctl(id, 0, IPC_STAT, addr_mut(&mut ds))?;
    check!(ds[otime.0] > 1_600_000_000);
    // Waiting for zero needs nothing but reading, and counts as an operation.
    let other = semget(IPC_PRIVATE, 1, 0o600)?;
    check_eq!(semctl(other, 0, GETPID, 0)?, 0);
    semop(other, &[(0, 0, 0)])?;
    check_eq!(semctl(other, 0, GETPID, 0)?, getpid());
    Ok(())
}

fn sem_sets_are_atomic() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 3, 0o600)?;
    set(id, 0, 4)?;
    // The last one cannot be done: nothing is.
    check_err!(semop(id, &[(0, -3, 0), (1, 2, 0), (2, -1, IPC_NOWAIT)]), EAGAIN);
    check_eq!((value(id, 0), value(id, 1), value(id, 2)), (4, 0, 0));
    check_err!(semop(id, &[(1, 9, 0), (0, 32767, 0)]), ERANGE);
    check_eq!((value(id, 0), value(id, 1)), (4, 0));
    // In array order, several on one semaphore.
    semop(id, &[(1, 1, 0), (1, -1, 0), (1, 0, 0), (1, 7, 0)])?;
    check_eq!(value(id, 1), 7);
    check_err!(semop(id, &[(0, -5, IPC_NOWAIT), (0, 5, 0)]), EAGAIN);
    semop(id, &[(0, 5, IPC_NOWAIT), (0, -9, IPC_NOWAIT)])?;
    check_eq!(value(id, 0), 0);
    check_err!(semop(id, &[(1, 0, IPC_NOWAIT)]), EAGAIN);
    // A flag counts for its own operation only: this one waits.
    let child = fork(|| code(semop(id, &[(0, 0, IPC_NOWAIT), (2, -1, 0)])))?;
    check!(waiting(id, 2, 1));
    // And when it is tried again the other one counts.
    semop(id, &[(0, 1, 0), (2, 1, 0)])?;
    check_eq!(wait_exit(child)?, EAGAIN);
    check_eq!((value(id, 0), value(id, 2)), (1, 1));
    Ok(())
}

fn sem_operation_errors() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 2, 0o600)?;
    let ops = buffers(&[(0, 1, 0)]);
    check_err!(sys!(SYS_semop, id, ops.as_ptr(), 0), EINVAL);
    check_err!(sys!(SYS_semop, id, ops.as_ptr(), 501), E2BIG);
    check_err!(sys!(SYS_semop, id, 8, 1), EFAULT);
    check_err!(sys!(SYS_semop, -1_i32, ops.as_ptr(), 1), EINVAL);
    check_err!(sys!(SYS_semop, id + 1, ops.as_ptr(), 1), EINVAL);
    check_err!(semop(id, &[(2, 1, 0)]), EFBIG);
    check_err!(semop(id, &[(0, 1, 0), (65535, 0, 0)]), EFBIG);
    check_eq!(value(id, 0), 0);
    semop(id, &[(0, 32767, 0)])?;
    check_err!(semop(id, &[(0, 1, 0)]), ERANGE);
    check_err!(semop(id, &[(0, 1, IPC_NOWAIT)]), ERANGE);
    semop(id, &vec![(1, 1, 0); 500])?;
    check_eq!(value(id, 1), 500);
    Ok(())
}

fn sem_control() -> Outcome {
    fresh()?;
    let id = semget(0x77, 4, IPC_CREAT | 0o640)?;
    let values: [u16; 4] = [1, 32767, 0, 9];
    check_eq!(semctl(id, 0, SETALL, addr(&values))?, 0);
    let mut got = [0_u16; 4];
    semctl(id, 0, GETALL, addr_mut(&mut got))?;
    check_eq!(got, values);
    check_eq!(semctl(id, 3, GETPID, 0)?, getpid());
    set(id, 2, 17)?;
    check_eq!(value(id, 2), 17);
    let mut ds: Ds = [0; 16];
    semctl(id, 0, IPC_STAT, addr_mut(&mut ds))?;
    check_eq!((ds[0] as i32, mode_of(&ds)), (0x77, 0o640));
    set_owner(&mut ds, 12, 34, 0o7777);
    semctl(id, 0, IPC_SET, addr(&ds))?;
    let mut ds: Ds = [0; 16];
    semctl(id, 0, IPC_STAT, addr_mut(&mut ds))?;
    // Owner, its group; creator and its group stay.
    check_eq!(((ds[0] >> 32) as u32, ds[1] as u32), (12, 34));
    check_eq!(((ds[1] >> 32) as u32, ds[2] as u32), (0, 0));
    check_eq!(mode_of(&ds), 0o777);
    // A change of a value wakes who waits for it.
    let child = fork(|| code(semop(id, &[(0, -2, 0)])))?;
    check!(waiting(id, 0, 1));
    set(id, 0, 2)?;
    check_eq!(wait_exit(child)?, 0);
    let child = fork(|| code(semop(id, &[(1, 0, 0)])))?;
    check!(eventually(|| semctl(id, 1, GETZCNT, 0) == Ok(1)));
    semctl(id, 0, SETALL, addr(&[0_u16; 4]))?;
    check_eq!(wait_exit(child)?, 0);
    semctl(id, 0, IPC_RMID, 0)?;
    check_err!(semctl(id, 0, IPC_RMID, 0), EINVAL);
    Ok(())
}

fn sem_control_errors() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 2, 0o600)?;
    check_err!(set(id, 0, -1), ERANGE);
    check_err!(set(id, 0, 32768), ERANGE);
    check_err!(set(id, 2, 0), EINVAL);
    check_err!(set(id, -1, 0), EINVAL);
    check_err!(set(-1, 0, 0), EINVAL);
    for command in [GETVAL, GETPID, GETNCNT, GETZCNT] {
        check_err!(semctl(id, 2, command, 0), EINVAL);
        check_err!(semctl(id, -1, command, 0), EINVAL);
        check_err!(semctl(id + 1, 0, command, 0), EINVAL);
    }
    check_err!(semctl(id, 0, SETALL, addr(&[0_u16, 32768])), ERANGE);
    check_err!(semctl(id, 0, SETALL, 8), EFAULT);
    check_err!(semctl(id, 0, GETALL, 8), EFAULT);
    check_err!(semctl(id, 0, IPC_STAT, 8), EFAULT);
    check_err!(semctl(id, 0, IPC_SET, 8), EFAULT);
    check_err!(semctl(id, 0, IPC_INFO, 8), EFAULT);
    check_err!(semctl(id, 0, SEM_STAT, 8), EFAULT);
    check_err!(semctl(id, 0, 99, 0), EINVAL);
    check_err!(semctl(id, 0, -1, 0), EINVAL);
    check_err!(semctl(id, 0, IPC_STAT | 0x100, 0), EINVAL);
    let mut ds: Ds = [0; 16];
    semctl(id, 0, IPC_STAT, addr_mut(&mut ds))?;
    set_owner(&mut ds, u32::MAX, 0, 0o600);
    check_err!(semctl(id, 0, IPC_SET, addr(&ds)), EINVAL);
    check_err!(semctl(-1, 0, IPC_INFO, addr_mut(&mut ds)), EINVAL);
    check_err!(semctl(i32::MIN, 0, IPC_RMID, 0), EINVAL);
    Ok(())
}

fn sem_info() -> Outcome {
    fresh()?;
    let mut info = [0_i32; 10];
    check_eq!(semctl(0, 0, IPC_INFO, addr_mut(&mut info))?, 0);
    check_eq!(info, [1_024_000_000, 32000, 1_024_000_000, 1_024_000_000, 32000, 500, 500, 20, 32767, 32767]);
    let ids =
        [semget(IPC_PRIVATE, 3, 0o600)?, semget(IPC_PRIVATE, 4, 0o200)?, semget(IPC_PRIVATE, 5, 0o600)?];
    let highest = semctl(0, 0, SEM_INFO, addr_mut(&mut info))?;
    check_eq!(highest, 2);
    // Sets and semaphores that there are.
    check_eq!((info[7], info[9]), (3, 12));
    let mut ds: Ds = [0; 16];
    for (index, id) in ids.iter().enumerate() {
        check_eq!(semctl(index as i32, 0, SEM_STAT, addr_mut(&mut ds))?, *id);
        check_eq!(semctl(index as i32, 0, SEM_STAT_ANY, addr_mut(&mut ds))?, *id);
    }
    check_err!(semctl(3, 0, SEM_STAT, addr_mut(&mut ds)), EINVAL);
    semctl(ids[1], 0, IPC_RMID, 0)?;
    check_err!(semctl(1, 0, SEM_STAT_ANY, addr_mut(&mut ds)), EINVAL);
    check_eq!(semctl(0, 0, SEM_INFO, addr_mut(&mut info))?, 2);
    semctl(ids[2], 0, IPC_RMID, 0)?;
    check_eq!(semctl(0, 0, SEM_INFO, addr_mut(&mut info))?, 0);
    check_eq!((info[7], info[9]), (1, 3));
    Ok(())
}

fn sem_permissions() -> Outcome {
    fresh()?;
    let id = semget(0x55, 1, IPC_CREAT | 0o600)?;
    let mut ds: Ds = [0; 16];
    let to = addr_mut(&mut ds);
    let status = as_user(1000, || {
        i32::from(
            code(semop(id, &[(0, 1, 0)])) != EACCES
                || code(semop(id, &[(0, 0, 0)])) != EACCES
                || code(semctl(id, 0, GETVAL, 0)) != EACCES
                || code(set(id, 0, 1)) != EACCES
                || code(semctl(id, 0, IPC_STAT, to)) != EACCES
                || code(semctl(0, 0, SEM_STAT, to)) != EACCES
                || code(semctl(0, 0, SEM_STAT_ANY, to)) != 0
                || code(semctl(id, 0, IPC_RMID, 0)) != EPERM
                || code(semctl(id, 0, IPC_SET, to)) != EPERM
                || code(semget(0x55, 1, 0o600)) != EACCES
                || code(semget(0x55, 1, 0)) != 0,
        )
    })?;
    check_eq!(status, 0);
    semctl(id, 0, IPC_STAT, to)?;
    set_owner(&mut ds, 0, 0, 0o604);
    semctl(id, 0, IPC_SET, to)?;
    // Reading, not altering.
    let status = as_user(1000, || {
        i32::from(
            code(semctl(id, 0, GETVAL, 0)) != 0
                || code(semop(id, &[(0, 0, 0)])) != 0
                || code(semop(id, &[(0, 1, 0)])) != EACCES
                || code(semop(id, &[(0, 0, 0), (0, 1, 0)])) != EACCES
                || code(set(id, 0, 1)) != EACCES
                || code(semget(0x55, 1, 0o400)) != 0
                || code(semget(0x55, 1, 0o200)) != EACCES,
        )
    })?;
    check_eq!(status, 0);
    // The group's rights.
    set_owner(&mut ds, 0, 1000, 0o060);
    semctl(id, 0, IPC_SET, to)?;
    check_eq!(as_user(1000, || code(semop(id, &[(0, 1, 0)])))?, 0);
    check_eq!(as_user(1001, || code(semop(id, &[(0, 1, 0)])))?, EACCES);
    // The owner's come first, even if the group has more.
    set_owner(&mut ds, 1000, 1000, 0o066);
    semctl(id, 0, IPC_SET, to)?;
    check_eq!(as_user(1000, || code(semop(id, &[(0, 1, 0)])))?, EACCES);
    // The owner may change and remove.
    let status = as_user(1000, || {
        let mut ds: Ds = [0; 16];
        set_owner(&mut ds, 1000, 1000, 0o600);
        i32::from(
            code(semctl(id, 0, IPC_SET, addr(&ds))) != 0
                || code(semop(id, &[(0, 1, 0)])) != 0
                || code(semctl(id, 0, IPC_RMID, 0)) != 0,
        )
    })?;
    check_eq!(status, 0);
    check_err!(semctl(id, 0, GETVAL, 0), EINVAL);
    Ok(())
}

/// Gives up one effective capability.
pub fn drop_capability(number: u32) -> Outcome {
    let header = [0x2008_0522_u32, 0];
    let mut data = [0_u32; 6];
    sys!(SYS_capget, addr(&header), addr_mut(&mut data))?;
    data[(number / 32 * 3) as usize] &= !(1 << (number % 32));
    sys!(SYS_capset, addr(&header), addr(&data))?;
    Ok(())
}

const CAP_IPC_OWNER: u32 = 15;

const CAP_SYS_ADMIN: u32 = 21;

fn sem_capabilities() -> Outcome {
    fresh()?;
    let made = pipe(0)?;
    let status = as_user(1000, || {
        let Ok(id) = semget(IPC_PRIVATE, 1, 0) else { return 1 };
        i32::from(write(made[1], &id.to_le_bytes()).is_err())
    })?;
    check_eq!(status, 0);
    let bytes = read_vec(made[0], 4)?;
    let id = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    semop(id, &[(0, 1, 0)])?;
    check_eq!(value(id, 0), 1);
    drop_capability(CAP_IPC_OWNER)?;
    check_err!(semop(id, &[(0, 1, 0)]), EACCES);
    let mut ds: Ds = [0; 16];
    check_err!(semctl(id, 0, IPC_STAT, addr_mut(&mut ds)), EACCES);
    set_owner(&mut ds, 1000, 1000, 0o444);
    semctl(id, 0, IPC_SET, addr(&ds))?;
    check_eq!(value(id, 0), 1);
    drop_capability(CAP_SYS_ADMIN)?;
    check_err!(semctl(id, 0, IPC_SET, addr(&ds)), EPERM);
    check_err!(semctl(id, 0, IPC_RMID, 0), EPERM);
    Ok(())
}

fn sem_limits() -> Outcome {
    fresh()?;
    let sysctl = c"/proc/sys/kernel/sem";
    check_eq!(slurp(sysctl)?, "32000\t1024000000\t500\t32000\n");
    spew(sysctl, "5 12 3 4\n")?;
    check_eq!(slurp(sysctl)?, "5\t12\t3\t4\n");
    check_err!(semget(IPC_PRIVATE, 6, 0o600), EINVAL);
    let id = semget(IPC_PRIVATE, 5, 0o600)?;
    let other = semget(IPC_PRIVATE, 5, 0o600)?;
    check_err!(semget(IPC_PRIVATE, 3, 0o600), ENOSPC);
    semget(IPC_PRIVATE, 1, 0o600)?;
    semget(IPC_PRIVATE, 1, 0o600)?;
    check_err!(semget(IPC_PRIVATE, 1, 0o600), ENOSPC);
    semctl(other, 0, IPC_RMID, 0)?;
    semget(IPC_PRIVATE, 1, 0o600)?;
    semop(id, &[(0, 1, 0); 3])?;
    check_err!(semop(id, &[(0, 1, 0); 4]), E2BIG);
    // Some of the four; a bad number of sets leaves that one as it was.
    spew(sysctl, "6")?;
    check_eq!(slurp(sysctl)?, "6\t12\t3\t4\n");
    check_err!(spew(sysctl, "7 13 4 99999"), ERANGE);
    check_eq!(slurp(sysctl)?, "7\t13\t4\t4\n");
    check_err!(spew(sysctl, "x"), EINVAL);
    check_err!(spew(sysctl, "\n"), EINVAL);
    // Another namespace has the defaults.
    fresh()?;
    check_eq!(slurp(sysctl)?, "32000\t1024000000\t500\t32000\n");
    Ok(())
}

fn sem_chosen_identifiers() -> Outcome {
    fresh()?;
    let sysctl = c"/proc/sys/kernel/sem_next_id";
    check_eq!(slurp(sysctl)?, "-1\n");
    let wanted = 7 << 15 | 123;
    spew(sysctl, &format!("{wanted}\n"))?;
    check_eq!(semget(IPC_PRIVATE, 1, 0o600)?, wanted);
    check_eq!(slurp(sysctl)?, "-1\n");
    check!(semget(IPC_PRIVATE, 1, 0o600)? != wanted);
    // Taken: the next index that is free.
    spew(sysctl, &format!("{wanted}\n"))?;
    check_eq!(semget(IPC_PRIVATE, 1, 0o600)?, wanted + 1);
    check_err!(spew(sysctl, "-2"), EINVAL);
    check_eq!(as_user(1000, || code(open(sysctl, O_WRONLY, 0)))?, EACCES);
    Ok(())
}

fn sem_proc_file() -> Outcome {
    fresh()?;
    let path = c"/proc/sysvipc/sem";
    let heading = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
    check_eq!(slurp(path)?, heading);
    let id = semget(0x7b, 3, IPC_CREAT | 0o640)?;
    let text = slurp(path)?;
    let line = text.lines().nth(1).unwrap_or_default();
    let start = format!("       123 {id:10}   640          3     0     0     0     0          0 ");
    check!(line.starts_with(&start), "{line}");
    check_eq!(line.len(), start.len() + 10);
    // The file shows what its opener would see.
    let fd = open(path, O_RDONLY, 0)?;
    fresh()?;
    check_eq!(read_vec(fd, 4096)?.len(), text.len());
    check_eq!(slurp(path)?, heading);
    Ok(())
}

fn namespaces_are_separate() -> Outcome {
    fresh()?;
    let name = |link: &str| std::fs::read_link(link).map(|text| text.to_string_lossy().into_owned());
    let before = name("/proc/self/ns/ipc")?;
    let id = semget(0x4242, 1, IPC_CREAT | 0o600)?;
    set(id, 0, 3)?;
    let home = open(c"/proc/self/ns/ipc", O_RDONLY, 0)?;
    semop(id, &[(0, -1, SEM_UNDO)])?;
    fresh()?;
    check!(name("/proc/self/ns/ipc")? != before);
    check_err!(semget(0x4242, 1, 0), ENOENT);
    check_err!(semctl(id, 0, GETVAL, 0), EINVAL);
    let other = semget(0x4242, 2, IPC_CREAT | 0o600)?;
    set(other, 1, 7)?;
    sys!(SYS_setns, home, CLONE_NEWIPC)?;
    check_eq!(name("/proc/self/ns/ipc")?, before);
    // Leaving paid what was owed.
    check_eq!(value(id, 0), 3);
    check_eq!(semget(0x4242, 1, 0)?, id);
    check_err!(sys!(SYS_setns, home, CLONE_NEWUTS), EINVAL);
    check_eq!(as_user(1000, || code(sys!(SYS_setns, home, CLONE_NEWIPC)))?, EPERM);
    check_eq!(as_user(1000, || code(fresh().map_err(|_| Errno(EPERM))))?, EPERM);
    Ok(())
}

fn namespace_of_a_clone() -> Outcome {
    fresh()?;
    let id = semget(0x4242, 1, IPC_CREAT | 0o600)?;
    let child = clone(CLONE_NEWIPC, || {
        let gone = code(semget(0x4242, 1, 0)) == ENOENT;
        let made = semget(0x4242, 9, IPC_CREAT | 0o600);
        i32::from(!gone || made.is_err())
    })?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(semget(0x4242, 1, 0)?, id);
    check_err!(semget(0x4242, 9, 0), EINVAL);
    // Shared by an ordinary child.
    check_eq!(in_child(|| i32::from(semget(0x4242, 1, 0) != Ok(id)))?, 0);
    Ok(())
}

fn sem_race_with_removal() -> Outcome {
    fresh()?;
    for round in 0..150 {
        let id = semget(IPC_PRIVATE, 2, 0o600)?;
        let threads: Vec<_> = (0..3)
            .map(|which| {
                std::thread::spawn(move || match which {
                    0 => semop(id, &[(0, -1, 0)]),
                    1 => semop(id, &[(0, -1, SEM_UNDO), (1, -1, 0)]),
                    _ => semop(id, &[(1, 1, 0), (0, -2, 0)]),
                })
            })
            .collect();
        if round % 3 == 0 {
            std::thread::yield_now();
        } else if round % 3 == 1 {
            check!(waiting(id, 0, 3));
        }
        semctl(id, 0, IPC_RMID, 0)?;
        for thread in threads {
            let result = thread.join().map_err(|_| Failure::new("panic"))?;
            // Removed while it waited, or before it came.
            check!(matches!(result, Err(Errno(EIDRM | EINVAL))), "{result:?}");
        }
    }
    Ok(())
}

fn sem_ping_pong() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 2, 0o600)?;
    let rounds = 1000;
    let child = fork(|| {
        let turn = |_| semop(id, &[(0, -1, 0)]).and_then(|()| semop(id, &[(1, 1, 0)]));
        code((0..rounds).try_for_each(turn))
    })?;
    for _ in 0..rounds {
        semop(id, &[(0, 1, 0)])?;
        semop(id, &[(1, -1, 0)])?;
    }
    check_eq!(wait_exit(child)?, 0);
    // Mutual exclusion of many.
    set(id, 0, 1)?;
    let shared = map_shared(4096)?;
    let children: Vec<i32> = (0..4)
        .map(|_| {
            fork(|| {
                for _ in 0..200 {
                    if semop(id, &[(0, -1, SEM_UNDO)]).is_err() {
                        return 1;
                    }
                    let seen = atomic(shared).load(SeqCst);
                    std::thread::yield_now();
                    atomic(shared).store(seen + 1, SeqCst);
                    if semop(id, &[(0, 1, SEM_UNDO)]).is_err() {
                        return 2;
                    }
                }
                0
            })
        })
        .collect::<Result<_, _>>()?;
    for child in children {
        check_eq!(wait_exit(child)?, 0);
    }
    check_eq!(atomic(shared).load(SeqCst), 800);
    check_eq!(value(id, 0), 1);
    Ok(())
}

fn sem_hostile() -> Outcome {
    fresh()?;
    let id = semget(IPC_PRIVATE, 32000, 0o600)?;
    let ops = buffers(&[(31999, 1, 0)]);
    sys!(SYS_semop, id, ops.as_ptr(), 1)?;
    check_eq!(value(id, 31999), 1);
    check_err!(sys!(SYS_semop, id, ops.as_ptr(), u32::MAX), E2BIG);
    check_err!(sys!(SYS_semop, id, usize::MAX - 2, 1), EFAULT);
    check_err!(sys!(SYS_semop, id, 1_usize << 63, 500), EFAULT);
    check_err!(sys!(SYS_semop, i32::MIN, ops.as_ptr(), 1), EINVAL);
    check_err!(semctl(id, i32::MAX, GETVAL, 0), EINVAL);
    check_err!(semctl(id, i32::MIN, SETVAL, 0), EINVAL);
    check_err!(semctl(id, 0, i32::MIN, 0), EINVAL);
    check_err!(semctl(id, 0, GETALL, usize::MAX - 7), EFAULT);
    check_err!(semctl(id, 0, SETALL, usize::MAX - 7), EFAULT);
    // A buffer that ends in the middle.
    let page = map_anon(8192)?;
    munmap(page + 4096, 4096)?;
    check_err!(semctl(id, 0, SETALL, page + 4000), EFAULT);
    check_err!(semctl(id, 0, GETALL, page + 4000), EFAULT);
    check_eq!(value(id, 0), 0);
    let undo = buffers(&[(0, 1, SEM_UNDO), (31999, 1, SEM_UNDO)]);
    check_eq!(in_child(|| code(sys!(SYS_semop, id, undo.as_ptr(), 2)))?, 0);
    check_eq!(value(id, 31999), 1);
    Ok(())
}
