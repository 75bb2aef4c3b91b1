//! System V shared memory (shmget(2), shmop(2), shmctl(2)).

use crate::prelude::*;
use crate::sysv::{Ds, as_user, drop_capability, fresh, mode_of, set_owner};
use std::sync::atomic::Ordering::SeqCst;

tests![
    shm_get,
    shm_huge_pages,
    shm_shared_by_processes,
    shm_addresses,
    shm_remap,
    shm_read_only,
    shm_exec,
    shm_attach_counts,
    shm_counts_of_parts,
    shm_moved,
    shm_detach,
    shm_removed_while_attached,
    shm_removed_frees_memory,
    shm_times_and_processes,
    shm_control,
    shm_info,
    shm_locking,
    shm_permissions,
    shm_limits,
    shm_maps_and_proc_file,
    shm_rmid_forced,
    shm_namespaces,
    shm_exec_detaches,
    shm_futex,
    shm_beyond_the_end,
    shm_race_with_removal,
    shm_race_of_detaches,
    shm_hostile,
];

const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;
const SHM_RDONLY: i32 = 0o10000;
const SHM_RND: i32 = 0o20000;
const SHM_REMAP: i32 = 0o40000;
const SHM_EXEC: i32 = 0o100000;
const SHM_HUGETLB: i32 = 0o4000;
const SHM_NORESERVE: i32 = 0o10000;
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;
const PAGE: usize = 4096;

type Call<T> = crate::sys::Result<T>;

fn shmget(key: i32, size: usize, flags: i32) -> Call<i32> {
    sys!(SYS_shmget, key, size, flags).map(|id| id as i32)
}

fn shmat(id: i32, at: usize, flags: i32) -> Call<usize> {
    sys!(SYS_shmat, id, at, flags)
}

fn shmdt(at: usize) -> Call<()> {
    sys!(SYS_shmdt, at).map(drop)
}

fn shmctl(id: i32, command: i32, buffer: usize) -> Call<i32> {
    sys!(SYS_shmctl, id, command, buffer).map(|value| value as i32)
}

fn stat(id: i32) -> Call<Ds> {
    let mut ds: Ds = [0; 16];
    shmctl(id, IPC_STAT, addr_mut(&mut ds))?;
    Ok(ds)
}

fn attached(id: i32) -> u64 {
    stat(id).map_or(u64::MAX, |ds| ds[11])
}

fn code<T>(result: Call<T>) -> i32 {
    result.map_or_else(|errno| errno.0, |_| 0)
}

fn shm_get() -> Outcome {
    fresh()?;
    let one = shmget(IPC_PRIVATE, 1, 0o600)?;
    check!(shmget(IPC_PRIVATE, 1, 0o600)? != one);
    check_eq!(stat(one)?[6], 1);
    check_err!(shmget(0x1234, 1, 0o600), ENOENT);
    let id = shmget(0x1234, 5000, IPC_CREAT | 0o600)?;
    check_eq!(shmget(0x1234, 5000, 0)?, id);
    check_eq!(shmget(0x1234, 100, IPC_CREAT | 0o600)?, id);
    check_eq!(shmget(0x1234, 0, 0)?, id);
    check_err!(shmget(0x1234, 5001, 0), EINVAL);
    check_err!(shmget(0x1234, 5000, IPC_CREAT | IPC_EXCL | 0o600), EEXIST);
    check_err!(shmget(IPC_PRIVATE, 0, 0o600), EINVAL);
    check_err!(shmget(0x99, 0, IPC_CREAT | 0o600), EINVAL);
    check_err!(shmget(IPC_PRIVATE, usize::MAX, 0o600), EINVAL);
    check_err!(shmget(IPC_PRIVATE, 1 << 62, 0o600), ENOMEM);
    shmget(IPC_PRIVATE, 1 << 30, SHM_NORESERVE | 0o600)?;
    shmctl(id, IPC_RMID, 0)?;
    check_err!(shmget(0x1234, 1, 0), ENOENT);
    check_err!(shmat(id, 0, 0), EINVAL);
    check_err!(shmctl(id, IPC_RMID, 0), EINVAL);
    Ok(())
}

fn shm_huge_pages() -> Outcome {
    fresh()?;
    // None are set aside.
    check_err!(shmget(IPC_PRIVATE, 1 << 21, SHM_HUGETLB | 0o600), ENOMEM);
    check_err!(shmget(IPC_PRIVATE, 1 << 21, SHM_HUGETLB | 21 << 26 | 0o600), ENOMEM);
    check_err!(shmget(IPC_PRIVATE, 1 << 21, SHM_HUGETLB | 13 << 26 | 0o600), EINVAL);
    check_err!(shmget(IPC_PRIVATE, 0, SHM_HUGETLB | 0o600), EINVAL);
    let status = as_user(1000, || code(shmget(IPC_PRIVATE, 1 << 21, SHM_HUGETLB | 0o600)))?;
    check_eq!(status, EPERM);
    Ok(())
}

fn shm_shared_by_processes() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, 3 * PAGE, 0o600)?;
    let (one, two) = (shmat(id, 0, 0)?, shmat(id, 0, 0)?);
    check!(one != two && one.is_multiple_of(PAGE));
    check!((0..3 * PAGE).step_by(512).all(|at| peek(one + at) == 0));
    poke(one + 5000, 7);
    check_eq!(peek(two + 5000), 7);
    let status = in_child(|| {
        let Ok(own) = shmat(id, 0, 0) else { return 1 };
        poke(own, peek(own + 5000) + 1);
        poke(one + 2 * PAGE, 9);
        i32::from(shmdt(two).is_err())
    })?;
    check_eq!((status, peek(one), peek(two + 2 * PAGE)), (0, 8, 9));
    shmdt(one)?;
    check_eq!(peek(two), 8);
    shmdt(two)?;
    // Contents stay when nobody is attached.
    let again = shmat(id, 0, SHM_RDONLY)?;
    check_eq!((peek(again), peek(again + 5000)), (8, 7));
    check_eq!(attached(id), 1);
    Ok(())
}

fn shm_addresses() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, 2 * PAGE, 0o600)?;
    let free = map_anon(16 * PAGE)?;
    munmap(free, 16 * PAGE)?;
    check_eq!(shmat(id, free, 0)?, free);
    check_eq!(shmat(id, free + 5 * PAGE + 77, SHM_RND)?, free + 5 * PAGE);
    check_err!(shmat(id, free + 8 * PAGE + 1, 0), EINVAL);
    // Something is there, in whole or in part.
    check_err!(shmat(id, free, 0), EINVAL);
    check_err!(shmat(id, free + PAGE, 0), EINVAL);
    check_err!(shmat(id, free + 4 * PAGE, 0), EINVAL);
    check_eq!(attached(id), 2);
    check_err!(shmat(-1, 0, 0), EINVAL);
    check_err!(shmat(id + 1, 0, 0), EINVAL);
    check_err!(shmat(id, usize::MAX & !(PAGE - 1), 0), EINVAL);
    check_eq!(attached(id), 2);
    Ok(())
}

fn shm_remap() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, 2 * PAGE, 0o600)?;
    let at = map_anon(4 * PAGE)?;
    poke(at, 5);
    poke(at + PAGE, 5);
    check_err!(shmat(id, at + PAGE, 0), EINVAL);
    check_eq!(shmat(id, at + PAGE, SHM_REMAP)?, at + PAGE);
    check_eq!((peek(at), peek(at + PAGE)), (5, 0));
    check_eq!(attached(id), 1);
    // Over itself.
    check_eq!(shmat(id, at + PAGE, SHM_REMAP)?, at + PAGE);
    check_eq!(attached(id), 1);
    check_err!(shmat(id, 0, SHM_REMAP), EINVAL);
    check_err!(shmat(id, 77, SHM_REMAP | SHM_RND), EINVAL);
    shmdt(at + PAGE)?;
    check_eq!(attached(id), 0);
    Ok(())
}

fn shm_read_only() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, PAGE, 0o400)?;
    let at = shmat(id, 0, SHM_RDONLY)?;
    check_eq!(peek(at), 0);
    check_eq!(
        in_child(|| {
            poke(at, 1);
            0
        })?,
        -SIGSEGV
    );
    check_err!(sys!(SYS_mprotect, at, PAGE, PROT_READ | PROT_WRITE), EACCES);
    let write = shmat(id, 0, 0)?;
    poke(write, 3);
    check_eq!(peek(at), 3);
    // A writable one may be protected and opened again.
    sys!(SYS_mprotect, write, PAGE, PROT_READ)?;
    check_eq!(
        in_child(|| {
            poke(write, 1);
            0
        })?,
        -SIGSEGV
    );
    sys!(SYS_mprotect, write, PAGE, PROT_READ | PROT_WRITE)?;
    poke(write, 4);
    check_eq!(peek(at), 4);
    Ok(())
}

fn shm_exec() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, PAGE, 0o700)?;
    let at = shmat(id, 0, SHM_EXEC)?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let line =
        maps.lines().find(|line| line.starts_with(&format!("{at:x}-"))).unwrap_or_default().to_string();
    check!(line.contains(" rwxs "), "{line}");
    let plain = shmget(IPC_PRIVATE, PAGE, 0o600)?;
    drop_capability(15)?;
    check_err!(shmat(plain, 0, SHM_EXEC), EACCES);
    shmat(plain, 0, 0)?;
    shmat(id, 0, SHM_EXEC | SHM_RDONLY)?;
    Ok(())
}

fn shm_attach_counts() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, 2 * PAGE, 0o600)?;
    check_eq!(attached(id), 0);
    let at = shmat(id, 0, 0)?;
    let second = shmat(id, 0, SHM_RDONLY)?;
    check_eq!(attached(id), 2);
    // A child inherits both, and gives them up when it ends.
    let go = pipe(0)?;
    let child = fork(|| {
        let _ = read_vec(go[0], 1);
        0
    })?;
    check_eq!(attached(id), 4);
    write(go[1], b"x")?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(attached(id), 2);
    let child = fork(|| {
        sleep_ms(60_000);
        0
    })?;
    check_eq!(attached(id), 4);
    kill(child, SIGKILL)?;
    wait(child)?;
    check_eq!(attached(id), 2);
    // Threads share.
    check_eq!(std::thread::spawn(move || attached(id)).join().unwrap_or(0), 2);
    // MADV_DONTFORK keeps it from a child.
    sys!(SYS_madvise, at, 2 * PAGE, MADV_DONTFORK)?;
    check_eq!(in_child(|| attached(id) as i32)?, 3);
    munmap(at, 2 * PAGE)?;
    check_eq!(attached(id), 1);
    shmdt(second)?;
    check_eq!(attached(id), 0);
    Ok(())
}

fn shm_counts_of_parts() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, 6 * PAGE, 0o600)?;
    let at = shmat(id, 0, 0)?;
    // A hole makes two of one.
    munmap(at + 2 * PAGE, PAGE)?;
    check_eq!(attached(id), 2);
    munmap(at, PAGE)?;
    check_eq!(attached(id), 2);
    munmap(at + PAGE, PAGE)?;
    check_eq!(attached(id), 1);
    sys!(SYS_mprotect, at + 4 * PAGE, PAGE, PROT_READ)?;
    check_eq!(attached(id), 3);
    // One detach finds all that is left.
    shmdt(at)?;
    check_eq!(attached(id), 0);
    check_err!(shmdt(at), EINVAL);
    Ok(())
}

fn shm_moved() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, 2 * PAGE, 0o600)?;
    let at = shmat(id, 0, 0)?;
    poke(at + PAGE, 8);
    let target = map_anon(8 * PAGE)?;
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    check_eq!(sys!(SYS_mremap, at, 2 * PAGE, 2 * PAGE, flags, target)?, target);
    check_eq!((attached(id), peek(target + PAGE)), (1, 8));
    // An old length of nothing makes another mapping of the same.
    let copy = sys!(SYS_mremap, target, 0, 2 * PAGE, MREMAP_MAYMOVE)?;
    check_eq!((attached(id), peek(copy + PAGE)), (2, 8));
    shmdt(target)?;
    check_eq!(attached(id), 1);
    shmdt(copy)?;
    check_eq!(attached(id), 0);
    // The upper half alone, somewhere else, is not at its place.
    let at = shmat(id, 0, 0)?;
    let target = map_anon(8 * PAGE)?;
    sys!(SYS_mremap, at + PAGE, PAGE, PAGE, flags, target)?;
    check_eq!(attached(id), 2);
    check_err!(shmdt(target), EINVAL);
    shmdt(at)?;
    check_eq!((attached(id), peek(target)), (1, 8));
    // Its place is relative to where the segment would begin.
    shmdt(target - PAGE)?;
    check_eq!(attached(id), 0);
    Ok(())
}

fn shm_detach() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, 2 * PAGE, 0o600)?;
    let other = shmget(IPC_PRIVATE, PAGE, 0o600)?;
    let free = map_anon(16 * PAGE)?;
    munmap(free, 16 * PAGE)?;
    shmat(id, free, 0)?;
    shmat(other, free + 2 * PAGE, 0)?;
    check_err!(shmdt(free + 1), EINVAL);
    check_err!(shmdt(free + PAGE), EINVAL);
    check_err!(shmdt(0), EINVAL);
    let plain = map_anon(PAGE)?;
    check_err!(shmdt(plain), EINVAL);
    shmdt(free)?;
    check_eq!((attached(id), attached(other)), (0, 1));
    check_err!(shmdt(free), EINVAL);
    check_eq!(
        in_child(|| {
            peek(free);
            0
        })?,
        -SIGSEGV
    );
    check_eq!(peek(free + 2 * PAGE), 0);
    shmdt(free + 2 * PAGE)?;
    Ok(())
}

fn shm_removed_while_attached() -> Outcome {
    fresh()?;
    let id = shmget(0x77, PAGE, IPC_CREAT | 0o600)?;
    let at = shmat(id, 0, 0)?;
    poke(at, 6);
    shmctl(id, IPC_RMID, 0)?;
    let ds = stat(id)?;
    check_eq!((mode_of(&ds), ds[0] as i32), (SHM_DEST | 0o600, 0));
    // The key is free; the identifier still works.
    check_err!(shmget(0x77, PAGE, 0), ENOENT);
    let new = shmget(0x77, PAGE, IPC_CREAT | IPC_EXCL | 0o600)?;
    check!(new != id);
    let second = shmat(id, 0, 0)?;
    check_eq!((peek(second), attached(id)), (6, 2));
    shmctl(id, IPC_RMID, 0)?;
    let go = pipe(0)?;
    let child = fork(|| {
        let _ = read_vec(go[0], 1);
        i32::from(peek(at) != 6)
    })?;
    shmdt(at)?;
    shmdt(second)?;
    check_eq!(attached(id), 2);
    write(go[1], b"x")?;
    check_eq!(wait_exit(child)?, 0);
    check_err!(stat(id), EINVAL);
    check_err!(shmat(id, 0, 0), EINVAL);
    // And by munmap as well.
    let at = shmat(new, 0, 0)?;
    shmctl(new, IPC_RMID, 0)?;
    munmap(at, PAGE)?;
    check_err!(stat(new), EINVAL);
    Ok(())
}

fn shm_removed_frees_memory() -> Outcome {
    fresh()?;
    let mut info = [0_u64; 6];
    let pages = |info: &mut [u64; 6]| -> Call<(u64, u64)> {
        shmctl(0, SHM_INFO, addr_mut(info))?;
        Ok((info[1], info[2]))
    };
    // More in all than there is memory.
    for _ in 0..40 {
        let id = shmget(IPC_PRIVATE, 16 << 20, 0o600)?;
        let at = shmat(id, 0, 0)?;
        check_eq!(pages(&mut info)?, (4096, 0));
        (0..16 << 20).step_by(PAGE).for_each(|offset| poke(at + offset, 1));
        check_eq!(pages(&mut info)?, (4096, 4096));
        shmctl(id, IPC_RMID, 0)?;
        shmdt(at)?;
        check_eq!(pages(&mut info)?, (0, 0));
    }
    Ok(())
}

fn shm_times_and_processes() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, PAGE, 0o600)?;
    let ds = stat(id)?;
    check_eq!((ds[7], ds[8]), (0, 0));
    check!(ds[9] > 1_600_000_000);
    check_eq!((ds[10] as i32, (ds[10] >> 32) as i32), (getpid(), 0));
    let at = shmat(id, 0, 0)?;
    let ds = stat(id)?;
    check!(ds[7] > 1_600_000_000 && ds[8] == 0);
    check_eq!((ds[10] >> 32) as i32, getpid());
    let child = fork(|| i32::from(shmdt(at).is_err()))?;
    check_eq!(wait_exit(child)?, 0);
    let ds = stat(id)?;
    check!(ds[8] > 1_600_000_000);
    check_eq!((ds[10] as i32, (ds[10] >> 32) as i32), (getpid(), child));
    Ok(())
}

fn shm_control() -> Outcome {
    fresh()?;
    let id = shmget(0x77, PAGE, IPC_CREAT | 0o640)?;
    let mut ds = stat(id)?;
    check_eq!((ds[0] as i32, mode_of(&ds), ds[6]), (0x77, 0o640, 4096));
    set_owner(&mut ds, 12, 34, 0o7777);
    shmctl(id, IPC_SET, addr(&ds))?;
    let mut ds = stat(id)?;
    check_eq!(((ds[0] >> 32) as u32, ds[1] as u32, mode_of(&ds)), (12, 34, 0o777));
    set_owner(&mut ds, u32::MAX, 0, 0);
    check_err!(shmctl(id, IPC_SET, addr(&ds)), EINVAL);
    for command in [IPC_STAT, IPC_SET, IPC_INFO, SHM_INFO, SHM_STAT] {
        let target = if command == SHM_STAT { 0 } else { id };
        check_err!(shmctl(target, command, 8), EFAULT);
    }
    check_err!(shmctl(id, 99, 0), EINVAL);
    check_err!(shmctl(id, -1, 0), EINVAL);
    check_err!(shmctl(-1, IPC_STAT, addr_mut(&mut ds)), EINVAL);
    check_err!(shmctl(id + 1, IPC_STAT, addr_mut(&mut ds)), EINVAL);
    check_err!(shmctl(id + 1, SHM_LOCK, 0), EINVAL);
    Ok(())
}

fn shm_info() -> Outcome {
    fresh()?;
    let mut limits = [0_u64; 9];
    check_eq!(shmctl(0, IPC_INFO, addr_mut(&mut limits))?, 0);
    let huge = u64::MAX - (1 << 24);
    check_eq!(limits[..5], [huge, 1, 4096, 4096, huge]);
    let ids = [shmget(IPC_PRIVATE, 3 * PAGE, 0o600)?, shmget(IPC_PRIVATE, 1, 0o200)?];
    let mut info = [0_u64; 6];
    check_eq!(shmctl(0, SHM_INFO, addr_mut(&mut info))?, 1);
    check_eq!((info[0] as i32, info[1], info[2], info[3]), (2, 4, 0, 0));
    let mut ds: Ds = [0; 16];
    for (index, id) in ids.iter().enumerate() {
        check_eq!(shmctl(index as i32, SHM_STAT, addr_mut(&mut ds))?, *id);
        check_eq!(shmctl(index as i32, SHM_STAT_ANY, addr_mut(&mut ds))?, *id);
    }
    check_eq!(ds[6], 1);
    check_err!(shmctl(2, SHM_STAT, addr_mut(&mut ds)), EINVAL);
    shmctl(ids[1], IPC_RMID, 0)?;
    check_eq!(shmctl(0, SHM_INFO, addr_mut(&mut info))?, 0);
    check_eq!((info[0] as i32, info[1]), (1, 3));
    Ok(())
}

fn shm_locking() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, PAGE, 0o600)?;
    shmctl(id, SHM_LOCK, 0)?;
    shmctl(id, SHM_LOCK, 0)?;
    check_eq!(mode_of(&stat(id)?), SHM_LOCKED | 0o600);
    shmctl(id, SHM_UNLOCK, 0)?;
    shmctl(id, SHM_UNLOCK, 0)?;
    check_eq!(mode_of(&stat(id)?), 0o600);
    // Others may not; the owner may within the limit.
    check_eq!(as_user(1000, || code(shmctl(id, SHM_LOCK, 0)))?, EPERM);
    check_eq!(as_user(1000, || code(shmctl(id, SHM_UNLOCK, 0)))?, EPERM);
    let limit = |bytes: u64| {
        let limit = rlimit { rlim_cur: bytes, rlim_max: bytes };
        sys!(SYS_prlimit64, 0, RLIMIT_MEMLOCK, addr(&limit), 0)
    };
    let status = as_user(1000, || {
        let (Ok(one), Ok(two)) = (shmget(IPC_PRIVATE, 4 * PAGE, 0o600), shmget(IPC_PRIVATE, 5 * PAGE, 0o600))
        else {
            return 50;
        };
        if limit(8 * PAGE as u64).is_err() || code(shmctl(one, SHM_LOCK, 0)) != 0 {
            return 51;
        }
        if code(shmctl(two, SHM_LOCK, 0)) != ENOMEM {
            return 52;
        }
        // What is unlocked or gone counts no more.
        if code(shmctl(one, SHM_UNLOCK, 0)) != 0 || code(shmctl(two, SHM_LOCK, 0)) != 0 {
            return 53;
        }
        if code(shmctl(one, SHM_LOCK, 0)) != ENOMEM || code(shmctl(two, IPC_RMID, 0)) != 0 {
            return 54;
        }
        if code(shmctl(one, SHM_LOCK, 0)) != 0 || code(shmctl(one, SHM_UNLOCK, 0)) != 0 {
            return 55;
        }
        if limit(0).is_err() || code(shmctl(one, SHM_LOCK, 0)) != EPERM {
            return 56;
        }
        code(shmctl(one, SHM_UNLOCK, 0))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn shm_permissions() -> Outcome {
    fresh()?;
    let id = shmget(0x55, PAGE, IPC_CREAT | 0o600)?;
    let mut ds = stat(id)?;
    let to = addr_mut(&mut ds);
    let denied = as_user(1000, || {
        i32::from(
            code(shmat(id, 0, 0)) != EACCES
                || code(shmat(id, 0, SHM_RDONLY)) != EACCES
                || code(shmctl(id, IPC_STAT, to)) != EACCES
                || code(shmctl(0, SHM_STAT, to)) != EACCES
                || code(shmctl(0, SHM_STAT_ANY, to)) != 0
                || code(shmctl(id, IPC_RMID, 0)) != EPERM
                || code(shmctl(id, IPC_SET, to)) != EPERM
                || code(shmget(0x55, PAGE, 0o400)) != EACCES,
        )
    })?;
    check_eq!(denied, 0);
    set_owner(&mut ds, 0, 0, 0o604);
    shmctl(id, IPC_SET, addr(&ds))?;
    let reads = as_user(1000, || {
        i32::from(
            code(shmat(id, 0, 0)) != EACCES
                || code(shmat(id, 0, SHM_RDONLY)) != 0
                || code(shmat(id, 0, SHM_RDONLY | SHM_EXEC)) != EACCES,
        )
    })?;
    check_eq!(reads, 0);
    // Writing without reading is not enough.
    set_owner(&mut ds, 0, 0, 0o602);
    shmctl(id, IPC_SET, addr(&ds))?;
    check_eq!(as_user(1000, || code(shmat(id, 0, 0)))?, EACCES);
    set_owner(&mut ds, 1000, 1000, 0o600);
    shmctl(id, IPC_SET, addr(&ds))?;
    check_eq!(as_user(1000, || code(shmat(id, 0, 0)))?, 0);
    check_eq!(as_user(1000, || code(shmctl(id, IPC_RMID, 0)))?, 0);
    check_eq!(attached(id), u64::MAX);
    Ok(())
}

fn shm_limits() -> Outcome {
    fresh()?;
    let (max, all, mni) =
        (c"/proc/sys/kernel/shmmax", c"/proc/sys/kernel/shmall", c"/proc/sys/kernel/shmmni");
    let huge = format!("{}\n", u64::MAX - (1 << 24));
    check_eq!((slurp(max)?, slurp(all)?, slurp(mni)?), (huge.clone(), huge, "4096\n".into()));
    spew(max, "10000")?;
    check_err!(shmget(IPC_PRIVATE, 10001, 0o600), EINVAL);
    let id = shmget(IPC_PRIVATE, 10000, 0o600)?;
    spew(all, "5")?;
    check_err!(
        shmget(IPC_PRIVATE, 3 * PAGE - 5000, 0o600).and_then(|_| shmget(IPC_PRIVATE, 1, 0o600)),
        ENOSPC
    );
    shmctl(id, IPC_RMID, 0)?;
    shmget(IPC_PRIVATE, 10000, 0o600)?;
    spew(all, "100")?;
    spew(mni, "3")?;
    shmget(IPC_PRIVATE, 1, 0o600)?;
    check_err!(shmget(IPC_PRIVATE, 1, 0o600), ENOSPC);
    for (path, bad) in [(mni, "-1"), (mni, "32769"), (max, "-1"), (all, "x"), (mni, "\n")] {
        check_err!(spew(path, bad), EINVAL);
    }
    check_eq!((slurp(max)?, slurp(mni)?), ("10000\n".into(), "3\n".into()));
    Ok(())
}

fn shm_maps_and_proc_file() -> Outcome {
    fresh()?;
    let path = c"/proc/sysvipc/shm";
    let heading = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n";
    check_eq!(slurp(path)?, heading);
    let id = shmget(0xabc, 2 * PAGE + 1, IPC_CREAT | 0o640)?;
    let at = shmat(id, 0, 0)?;
    poke(at, 1);
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let line = |maps: &str| {
        maps.lines().find(|line| line.starts_with(&format!("{at:x}-"))).unwrap_or_default().to_string()
    };
    let shown = line(&maps);
    let words: Vec<&str> = shown.split_whitespace().collect();
    check_eq!(words[0], format!("{at:x}-{:x}", at + 3 * PAGE));
    check_eq!(words[1..3], ["rw-s", "00000000"]);
    check_eq!(words[4..], [&id.to_string()[..], "/SYSV00000abc", "(deleted)"]);
    let text = slurp(path)?;
    let row = text.lines().nth(1).unwrap_or_default();
    let me = getpid();
    let start = format!(
        "      2748 {id:10}   640                  8193 {me:5} {me:5}      1     0     0     0     0 "
    );
    check!(row.starts_with(&start), "{row}");
    check!(row.ends_with("                  4096                     0"), "{row}");
    check_eq!(row.len(), heading.len() - 1);
    shmctl(id, IPC_RMID, 0)?;
    check!(slurp(path)?.contains(&format!("         0 {id:10}  1640 ")));
    // The name in maps stays.
    check_eq!(line(&std::fs::read_to_string("/proc/self/maps")?), shown);
    Ok(())
}

fn shm_rmid_forced() -> Outcome {
    fresh()?;
    let sysctl = c"/proc/sys/kernel/shm_rmid_forced";
    check_eq!(slurp(sysctl)?, "0\n");
    check_err!(spew(sysctl, "2"), EINVAL);
    let mine = shmget(1, PAGE, IPC_CREAT | 0o600)?;
    let make = |key: i32| in_child(|| i32::from(shmget(key, PAGE, IPC_CREAT | 0o600).is_err()));
    check_eq!(make(2)?, 0);
    let orphan = shmget(2, PAGE, 0)?;
    check_eq!(make(3)?, 0);
    let used = shmget(3, PAGE, 0)?;
    let at = shmat(used, 0, 0)?;
    // Switching it on takes what nobody uses and whose maker is gone.
    spew(sysctl, "1")?;
    check_err!(stat(orphan), EINVAL);
    check_eq!((attached(mine), attached(used)), (0, 1));
    shmdt(at)?;
    check_err!(stat(used), EINVAL);
    // From now on they go with their maker, or with the last who is attached.
    check_eq!(make(4)?, 0);
    check_err!(shmget(4, PAGE, 0), ENOENT);
    let at = shmat(mine, 0, 0)?;
    shmdt(at)?;
    check_err!(stat(mine), EINVAL);
    Ok(())
}

fn shm_namespaces() -> Outcome {
    fresh()?;
    let id = shmget(0x4242, PAGE, IPC_CREAT | 0o600)?;
    let at = shmat(id, 0, 0)?;
    poke(at, 5);
    let home = open(c"/proc/self/ns/ipc", O_RDONLY, 0)?;
    shmctl(id, IPC_RMID, 0)?;
    fresh()?;
    // What is attached stays, and detaching counts where it belongs.
    check_eq!(peek(at), 5);
    check_err!(shmget(0x4242, PAGE, 0), ENOENT);
    check_err!(shmat(id, 0, 0), EINVAL);
    let other = shmget(0x4242, PAGE, IPC_CREAT | 0o600)?;
    check_eq!(attached(other), 0);
    shmdt(at)?;
    sys!(SYS_setns, home, CLONE_NEWIPC)?;
    check_err!(stat(id), EINVAL);
    // A namespace whose last process has gone, while something of it is attached here.
    let pages = map_shared(4096)?;
    let child = fork(|| {
        let made = fresh().is_ok();
        let id = shmget(IPC_PRIVATE, PAGE, 0o600).and_then(|id| shmat(id, 0, 0));
        let Ok(at) = id else { return 1 };
        poke(at, 9);
        let inner = fork(|| {
            while atomic(pages).load(SeqCst) == 0 {
                sleep_ms(1);
            }
            i32::from(peek(at) != 9 || sys!(SYS_setns, home, CLONE_NEWIPC).is_err() || peek(at) != 9)
        });
        atomic(pages).store(1, SeqCst);
        let _ = munmap(at, PAGE);
        i32::from(!made || inner.and_then(wait_exit) != Ok(0))
    })?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn shm_exec_detaches() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, PAGE, 0o600)?;
    let at = shmat(id, 0, 0)?;
    let child = fork(|| {
        let args = [c"guest".as_ptr(), c"helper:sleep".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, c"/proc/self/exe".as_ptr(), args.as_ptr(), 0);
        1
    })?;
    let name = format!("/proc/{child}/cmdline");
    check!(eventually(|| std::fs::read_to_string(&name).is_ok_and(|text| text.contains("helper:sleep"))));
    check_eq!(attached(id), 1);
    shmdt(at)?;
    kill(child, SIGKILL)?;
    wait(child)?;
    check_eq!(attached(id), 0);
    Ok(())
}

fn shm_futex() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, PAGE, 0o600)?;
    let at = shmat(id, 0, 0)?;
    let child = fork(|| {
        let Ok(own) = shmat(id, 0, 0) else { return 1 };
        i32::from(own == at || sys!(SYS_futex, own + 8, FUTEX_WAIT, 0, 0, 0, 0).is_err())
    })?;
    // One word, whatever its address.
    check!(eventually(|| sys!(SYS_futex, at + 8, FUTEX_WAKE, 1, 0, 0, 0) == Ok(1)));
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn shm_beyond_the_end() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, PAGE + 1, 0o600)?;
    let at = shmat(id, 0, 0)?;
    // The last page is whole.
    poke(at + 2 * PAGE - 1, 1);
    check_eq!(peek(at + 2 * PAGE - 1), 1);
    let larger = sys!(SYS_mremap, at, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE)?;
    check_eq!(peek(larger + 2 * PAGE - 1), 1);
    check_eq!(
        in_child(|| {
            peek(larger + 2 * PAGE);
            0
        })?,
        -SIGBUS
    );
    Ok(())
}

fn shm_race_with_removal() -> Outcome {
    fresh()?;
    for _ in 0..150 {
        let id = shmget(IPC_PRIVATE, PAGE, 0o600)?;
        let threads: Vec<_> = (0..2)
            .map(|_| {
                std::thread::spawn(move || {
                    let at = shmat(id, 0, 0)?;
                    poke(at, 1);
                    shmdt(at)
                })
            })
            .collect();
        shmctl(id, IPC_RMID, 0)?;
        for thread in threads {
            let result = thread.join().map_err(|_| Failure::new("panic"))?;
            check!(matches!(result, Ok(()) | Err(Errno(EIDRM | EINVAL))), "{result:?}");
        }
        check_err!(stat(id), EINVAL);
    }
    Ok(())
}

fn shm_race_of_detaches() -> Outcome {
    fresh()?;
    for _ in 0..100 {
        let id = shmget(IPC_PRIVATE, 4 * PAGE, 0o600)?;
        // Where nothing else is put when it becomes free.
        let at = shmat(id, 0x1000_0000_0000, 0)?;
        munmap(at + PAGE, PAGE)?;
        shmctl(id, IPC_RMID, 0)?;
        let threads: Vec<_> = (0..3)
            .map(|which| {
                std::thread::spawn(move || match which {
                    0 => shmdt(at),
                    1 => munmap(at + 2 * PAGE, 2 * PAGE),
                    _ => in_child(|| 0).map(drop),
                })
            })
            .collect();
        for thread in threads {
            let result = thread.join().map_err(|_| Failure::new("panic"))?;
            check!(matches!(result, Ok(()) | Err(Errno(EINVAL))), "{result:?}");
        }
        let _ = munmap(at, 4 * PAGE);
        check_err!(stat(id), EINVAL);
    }
    Ok(())
}

fn shm_hostile() -> Outcome {
    fresh()?;
    let id = shmget(IPC_PRIVATE, PAGE, 0o600)?;
    for at in [1_usize << 63, usize::MAX - 4095, (1 << 56) - PAGE] {
        check!(shmat(id, at, 0).is_err());
        check!(shmat(id, at, SHM_REMAP).is_err());
        check_err!(shmdt(at), EINVAL);
    }
    check_err!(shmat(i32::MIN, 0, 0), EINVAL);
    check_err!(shmctl(i32::MIN, IPC_RMID, 0), EINVAL);
    check_err!(shmctl(id, i32::MIN, 0), EINVAL);
    check_err!(shmctl(id, IPC_STAT | 0x100, 0), EINVAL);
    check_eq!(attached(id), 0);
    // As much as the address space has no room for.
    let large = shmget(IPC_PRIVATE, 1 << 40, SHM_NORESERVE | 0o600)?;
    let mut places = Vec::new();
    loop {
        match shmat(large, 0, 0) {
            Ok(at) => places.push(at),
            Err(Errno(ENOMEM)) => break,
            Err(other) => return Err(other.into()),
        }
        check!(places.len() < 1000);
    }
    check_eq!(attached(large) as usize, places.len());
    shmctl(large, IPC_RMID, 0)?;
    for at in places {
        shmdt(at)?;
    }
    check_err!(stat(large), EINVAL);
    Ok(())
}
