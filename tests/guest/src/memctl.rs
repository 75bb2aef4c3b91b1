//! Other processes' memory, memory barriers: process_madvise(2), process_mrelease(2), process_vm_writev(2), membarrier(2).

use crate::prelude::*;

tests![
    advises_processes,
    advice_errors,
    releases_the_dying,
    barrier_registrations,
    hidden_processes,
    only_processes,
    writes_to_others,
    write_errors,
];

const PAGE: usize = 4096;

#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    base: usize,
    len: usize,
}

fn pidfd(pid: i32) -> Result<i32, Errno> {
    sys!(SYS_pidfd_open, pid, 0).map(|fd| fd as i32)
}

fn advise(fd: i32, ranges: &[Range], advice: i32, flags: u32) -> Result<usize, Errno> {
    sys!(SYS_process_madvise, fd, ranges.as_ptr(), ranges.len(), advice, flags)
}

fn advises_processes() -> Outcome {
    let at = map_anon(8 * PAGE)?;
    (0..8).for_each(|n| poke(at + n * PAGE, n as u8));
    let ranges = [Range { base: at, len: 2 * PAGE }, Range { base: at + 4 * PAGE, len: PAGE }];
    let own = pidfd(getpid())?;
    for advice in [MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED] {
        let done = advise(own, &ranges, advice, 0);
        // There is nothing to read ahead in anonymous memory without swap.
        check!(done == Ok(3 * PAGE), "{advice}: {done:?}");
    }
    check!((0..8).all(|n| peek(at + n * PAGE) == n as u8));
    check_eq!(advise(own, &[], MADV_COLD, 0)?, 0);
    munmap(at + 6 * PAGE, PAGE)?;
    // What was done before a hole counts.
    let holes = [Range { base: at, len: PAGE }, Range { base: at + 5 * PAGE, len: 3 * PAGE }];
    check_eq!(advise(own, &holes, MADV_COLD, 0)?, PAGE);
    check_err!(advise(own, &holes[1..], MADV_COLD, 0), ENOMEM);
    let child = sleeper()?;
    let fd = pidfd(child)?;
    check_eq!(advise(fd, &ranges, MADV_COLD, 0)?, 3 * PAGE);
    kill(child, SIGKILL)?;
    wait(child)?;
    check_err!(advise(fd, &ranges, MADV_COLD, 0), ESRCH);
    Ok(())
}

fn advice_errors() -> Outcome {
    let at = map_anon(PAGE)?;
    let ranges = [Range { base: at, len: PAGE }];
    let own = pidfd(getpid())?;
    check_err!(advise(own, &ranges, MADV_COLD, 1), EINVAL);
    check_err!(advise(own, &ranges, MADV_DONTNEED, 0), EINVAL);
    check_err!(advise(own, &ranges, MADV_NORMAL, 0), EINVAL);
    check_err!(advise(-1, &ranges, MADV_COLD, 0), EBADF);
    check_err!(advise(1, &ranges, MADV_COLD, 0), EBADF);
    check_err!(sys!(SYS_process_madvise, own, 8, 1, MADV_COLD, 0), EFAULT);
    check_err!(sys!(SYS_process_madvise, own, ranges.as_ptr(), 1025, MADV_COLD, 0), EINVAL);
    check_err!(advise(own, &[Range { base: at + 1, len: PAGE }], MADV_COLD, 0), EINVAL);
    let denied = in_child(|| {
        let Ok(init) = pidfd(1) else { return 90 };
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        // Init is somebody else's: nothing is to be learned of its memory.
        i32::from(!matches!(advise(init, &ranges, MADV_COLD, 0), Err(Errno(EACCES | EPERM))))
    })?;
    check_eq!(denied, 0);
    Ok(())
}

fn releases_the_dying() -> Outcome {
    let release = |fd: i32, flags: u32| sys!(SYS_process_mrelease, fd, flags);
    let child = fork(|| {
        let at = map_anon(256 * PAGE).unwrap_or(0);
        (0..256).for_each(|n| poke(at + n * PAGE, 1));
        sleep_ms(60_000);
        0
    })?;
    let fd = pidfd(child)?;
    check_err!(release(fd, 1), EINVAL);
    check_err!(release(-1, 0), EBADF);
    check_err!(release(1, 0), EBADF);
    // It is not dying.
    check_err!(release(fd, 0), EINVAL);
    kill(child, SIGKILL)?;
    let released = release(fd, 0);
    // It may have been faster.
    check!(matches!(released, Ok(0) | Err(Errno(ESRCH))), "{released:?}");
    check_eq!(wait_exit(child)?, -SIGKILL);
    check_err!(release(fd, 0), ESRCH);
    Ok(())
}

fn barrier_registrations() -> Outcome {
    let barrier = |command: u32, flags: u32, cpu: i32| sys!(SYS_membarrier, command, flags, cpu);
    const GLOBAL: u32 = 1;
    const PRIVATE: u32 = 1 << 3;
    const REGISTER: u32 = 1 << 4;
    const RSEQ: u32 = 1 << 7;
    const REGISTER_RSEQ: u32 = 1 << 8;
    const GET: u32 = 1 << 9;
    let known = barrier(0, 0, 0)? as u32;
    check_eq!(known & (GLOBAL | PRIVATE | REGISTER | RSEQ | REGISTER_RSEQ | GET), 0x399);
    barrier(GLOBAL, 0, 0)?;
    check_err!(barrier(1 << 12, 0, 0), EINVAL);
    check_err!(barrier(PRIVATE | REGISTER, 0, 0), EINVAL);
    check_err!(barrier(PRIVATE, 1, 0), EINVAL);
    check_err!(barrier(RSEQ, 2, 0), EINVAL);
    check_err!(barrier(RSEQ, 0, 0), EPERM);
    barrier(REGISTER_RSEQ, 0, 0)?;
    check_eq!(barrier(GET, 0, 0)? as u32 & REGISTER_RSEQ, REGISTER_RSEQ);
    barrier(RSEQ, 0, 0)?;
    barrier(RSEQ, 1, 0)?;
    barrier(RSEQ, 1, 4000)?;
    barrier(RSEQ, 1, -1)?;
    barrier(REGISTER, 0, 0)?;
    // What a process registered counts for all its threads.
    let thread = std::thread::spawn(move || sys!(SYS_membarrier, PRIVATE, 0, 0));
    thread.join().map_err(|_| Failure::new("thread"))??;
    let registered = barrier(GET, 0, 0)? as u32;
    check_eq!(registered & (REGISTER | REGISTER_RSEQ), REGISTER | REGISTER_RSEQ);
    Ok(())
}

/// Mounts procfs at `p` in a namespace of its own, and runs `body` there in a child that is user and group 1000.
fn with_proc(options: &std::ffi::CStr, body: fn() -> i32) -> Result<i32, Failure> {
    mkdir(c"p", 0o755)?;
    let status = in_child(|| {
        let made = sys!(SYS_unshare, CLONE_NEWNS)
            .and_then(|_| sys!(SYS_mount, c"none".as_ptr(), c"/".as_ptr(), 0, MS_REC | MS_PRIVATE, 0))
            .and_then(|_| {
                sys!(SYS_mount, c"p".as_ptr(), c"p".as_ptr(), c"proc".as_ptr(), 0, options.as_ptr())
            });
        if made.is_err() {
            return 90;
        }
        let dropped = sys!(SYS_setgroups, 0, 0)
            .and_then(|_| sys!(SYS_setresgid, 1000, 1000, 1000))
            .and_then(|_| sys!(SYS_setresuid, 1000, 1000, 1000));
        // A process that changed its user is not its own to look at until it says so.
        let _ = sys!(SYS_prctl, PR_SET_DUMPABLE, 1);
        if dropped.is_err() { 91 } else { body() }
    });
    rmdir(c"p")?;
    Ok(status?)
}

fn listed(name: &str) -> bool {
    std::fs::read_dir("p").is_ok_and(|all| all.flatten().any(|e| e.file_name() == name))
}

fn check_all(facts: &[bool]) -> i32 {
    facts.iter().position(|fact| !fact).map_or(0, |n| n as i32 + 1)
}

fn hidden_processes() -> Outcome {
    check_eq!(
        with_proc(c"hidepid=0", || {
            check_all(&[listed("1"), stat(c"p/1").is_ok(), open(c"p/1/stat", O_RDONLY, 0).is_ok()])
        })?,
        0
    );
    check_eq!(
        with_proc(c"hidepid=noaccess", || {
            let own = open(c"p/self/stat", O_RDONLY, 0).is_ok();
            check_all(&[
                listed("1"),
                stat(c"p/1").is_ok(),
                open(c"p/1/stat", O_RDONLY, 0) == Err(Errno(EPERM)),
                own,
                slurp(c"p/self/mounts").is_ok_and(|t| t.contains(",hidepid=noaccess")),
            ])
        })?,
        0
    );
    check_eq!(
        with_proc(c"hidepid=2", || {
            check_all(&[
                !listed("1"),
                listed(&getpid().to_string()),
                stat(c"p/1").is_err_and(|e| e == Errno(ENOENT)),
                open(c"p/1/stat", O_RDONLY, 0) == Err(Errno(ENOENT)),
                open(c"p/self/stat", O_RDONLY, 0).is_ok(),
                slurp(c"p/self/mounts").is_ok_and(|t| t.contains(",hidepid=invisible")),
            ])
        })?,
        0
    );
    check_eq!(
        with_proc(c"hidepid=2,gid=1000", || {
            check_all(&[
                listed("1"),
                open(c"p/1/stat", O_RDONLY, 0).is_ok(),
                slurp(c"p/self/mounts").is_ok_and(|t| t.contains(",gid=1000,hidepid=invisible")),
            ])
        })?,
        0
    );
    check_eq!(
        with_proc(c"hidepid=ptraceable,gid=1000", || {
            check_all(&[
                !listed("1"),
                stat(c"p/1").is_err_and(|e| e == Errno(ENOENT)),
                open(c"p/1/stat", O_RDONLY, 0) == Err(Errno(ENOENT)),
                open(c"p/self/stat", O_RDONLY, 0).is_ok(),
            ])
        })?,
        0
    );
    check_eq!(with_proc(c"hidepid=3", || 0)?, 90);
    Ok(())
}

fn only_processes() -> Outcome {
    check_eq!(
        with_proc(c"subset=pid", || {
            check_all(&[
                !listed("meminfo"),
                listed("self"),
                listed("1"),
                open(c"p/meminfo", O_RDONLY, 0) == Err(Errno(ENOENT)),
                open(c"p/self/stat", O_RDONLY, 0).is_ok(),
                open(c"p/thread-self/stat", O_RDONLY, 0).is_ok(),
                slurp(c"p/self/mounts").is_ok_and(|t| t.contains(",subset=pid")),
            ])
        })?,
        0
    );
    check_eq!(with_proc(c"subset=all", || 0)?, 90);
    Ok(())
}

/// `process_vm_writev`
fn vm_write(pid: i32, local: &[Range], remote: &[Range], flags: usize) -> Result<usize, Errno> {
    sys!(SYS_process_vm_writev, pid, local.as_ptr(), local.len(), remote.as_ptr(), remote.len(), flags)
}

/// A child that sleeps for ever.
fn sleeper() -> Result<i32, Errno> {
    fork(|| {
        sleep_ms(60_000);
        0
    })
}

fn range(bytes: &[u8]) -> Range {
    Range { base: addr(bytes), len: bytes.len() }
}

fn writes_to_others() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    (0..4).for_each(|n| poke(at + n * PAGE, b'.'));
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = read_vec(ends[0], 1);
        let (end, page) = (at + 2 * PAGE - 2, at + 3 * PAGE);
        let seen: Vec<u8> = [end, end + 1, end + 2, page, page + 1].iter().map(|at| peek(*at)).collect();
        i32::from(seen != b"abcde")
    })?;
    // Pieces of other sizes on both sides, one across a page's edge.
    let remote = [Range { base: at + 2 * PAGE - 2, len: 3 }, Range { base: at + 3 * PAGE, len: 2 }];
    check_eq!(vm_write(child, &[range(b"a"), range(b"bcd"), range(b""), range(b"e")], &remote, 0)?, 5);
    // Private memory: here nothing changed.
    check_eq!(peek(at + 3 * PAGE), b'.');
    check_eq!(vm_write(child, &[], &remote, 0)?, 0);
    check_eq!(vm_write(child, &[range(b"x")], &[], 0)?, 0);
    // The shorter side counts, and what lies before a hole.
    let hole = map_anon(2 * PAGE)?;
    munmap(hole + PAGE, PAGE)?;
    let own = getpid();
    check_eq!(vm_write(own, &[range(&[7; 100])], &[Range { base: hole + PAGE - 9, len: 9 }], 0)?, 9);
    let ranges = [Range { base: hole, len: 4 }, Range { base: hole + PAGE, len: 4 }];
    check_eq!(vm_write(own, &[range(&[8; 100])], &ranges, 0)?, 4);
    check_eq!((peek(hole), peek(hole + PAGE - 1)), (8, 7));
    check_err!(vm_write(own, &[range(b"x")], &ranges[1..], 0), EFAULT);
    write(ends[1], b"go")?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn write_errors() -> Outcome {
    let child = sleeper()?;
    let at = map_anon(PAGE)?;
    let (local, remote) = ([range(b"x")], [Range { base: at, len: 1 }]);
    check_err!(vm_write(child, &local, &remote, 1), EINVAL);
    check_err!(vm_write(4_000_000, &local, &remote, 0), ESRCH);
    check_err!(vm_write(0, &local, &remote, 0), ESRCH);
    check_err!(sys!(SYS_process_vm_writev, child, 8, 1, remote.as_ptr(), 1, 0), EFAULT);
    check_err!(sys!(SYS_process_vm_writev, child, local.as_ptr(), 1, 8, 1, 0), EFAULT);
    check_err!(sys!(SYS_process_vm_writev, child, local.as_ptr(), 1025, remote.as_ptr(), 1, 0), EINVAL);
    check_err!(sys!(SYS_process_vm_writev, child, local.as_ptr(), 1, remote.as_ptr(), 1025, 0), EINVAL);
    let negative = [Range { base: at, len: usize::MAX }];
    check_err!(vm_write(child, &negative, &remote, 0), EINVAL);
    check_err!(vm_write(child, &local, &negative, 0), EINVAL);
    // Protection holds for others, too.
    sys!(SYS_mprotect, at, PAGE, PROT_READ)?;
    check_err!(vm_write(getpid(), &local, &remote, 0), EFAULT);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(vm_write(child, &local, &remote, 0) != Err(Errno(EPERM)))
    })?;
    check_eq!(status, 0);
    kill(child, SIGKILL)?;
    check!(eventually(|| state(child) == Some('Z')));
    check_err!(vm_write(child, &local, &remote, 0), ESRCH);
    wait(child)?;
    Ok(())
}
