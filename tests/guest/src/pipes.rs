//! Pages that pipes share, and wake-ups that must not end with whoever was woken first: pipe(7), fifo(7), tee(2), splice(2).

use crate::prelude::*;

tests![
    tee_keeps_its_copy,
    spliced_part_keeps_its_bytes,
    failed_reader_passes_the_wake_on,
    failed_writer_passes_the_wake_on,
    opening_a_fifo_for_both_wakes_who_waits,
    a_part_written_hides_the_error_not_the_signal,
    users_have_so_many_pages,
];

/// An address that nothing is mapped at.
const NOWHERE: usize = 4096 + 8;

fn asleep(pid: i32) -> bool {
    eventually(|| state(pid) == Some('S'))
}

fn ended(pid: i32) -> bool {
    eventually(|| state(pid) == Some('Z'))
}

/// A child that ends with 0 if `call` gives `wanted`.
fn caller(
    wanted: crate::sys::Result<usize>,
    call: impl FnOnce() -> crate::sys::Result<usize>,
) -> crate::sys::Result<i32> {
    fork(|| i32::from(call() != wanted))
}

fn tee_keeps_its_copy() -> Outcome {
    let (one, two) = (pipe(0)?, pipe(0)?);
    write(one[1], b"first")?;
    check_eq!(sys!(SYS_tee, one[0], two[1], 4096, 0)?, 5);
    check_eq!(read_vec(one[0], 10)?, b"first");
    write(one[1], b"second")?;
    check_eq!(read_vec(two[0], 10)?, b"first");
    check_eq!(read_vec(one[0], 10)?, b"second");
    Ok(())
}

fn spliced_part_keeps_its_bytes() -> Outcome {
    let (one, two) = (pipe(0)?, pipe(0)?);
    write(one[1], b"abcdef")?;
    check_eq!(sys!(SYS_splice, one[0], 0, two[1], 0, 3, 0)?, 3);
    check_eq!(read_vec(one[0], 10)?, b"def");
    write(one[1], b"uvwxyz")?;
    check_eq!(read_vec(two[0], 10)?, b"abc");
    check_eq!(read_vec(one[0], 10)?, b"uvwxyz");
    Ok(())
}

fn failed_reader_passes_the_wake_on() -> Outcome {
    let ends = pipe(0)?;
    let bad = caller(Err(Errno(EFAULT)), || sys!(SYS_read, ends[0], NOWHERE, 10))?;
    check!(asleep(bad));
    let good = caller(Ok(1), || {
        let mut byte = [0_u8];
        sys!(SYS_read, ends[0], addr_mut(&mut byte), 1)
    })?;
    check!(asleep(good));
    write(ends[1], b"x")?;
    check!(ended(bad) && ended(good), "{:?} {:?}", state(bad), state(good));
    check_eq!((wait_exit(bad)?, wait_exit(good)?), (0, 0));
    Ok(())
}

fn failed_writer_passes_the_wake_on() -> Outcome {
    let ends = pipe(0)?;
    sys!(SYS_fcntl, ends[1], F_SETPIPE_SZ, 8192)?;
    write(ends[1], &[1; 8192])?;
    let bad = caller(Err(Errno(EFAULT)), || sys!(SYS_write, ends[1], NOWHERE, 10))?;
    check!(asleep(bad));
    let good = caller(Ok(10), || sys!(SYS_write, ends[1], addr(&[2_u8; 10]), 10))?;
    check!(asleep(good));
    check_eq!(read_vec(ends[0], 8192)?.len(), 8192);
    check!(ended(bad) && ended(good), "{:?} {:?}", state(bad), state(good));
    check_eq!((wait_exit(bad)?, wait_exit(good)?), (0, 0));
    check_eq!(read_vec(ends[0], 100)?, [2; 10]);
    Ok(())
}

fn opening_a_fifo_for_both_wakes_who_waits() -> Outcome {
    for flags in [O_RDONLY, O_WRONLY] {
        sys!(SYS_mknodat, CWD, c"fifo".as_ptr(), S_IFIFO | 0o600, 0)?;
        let child = fork(|| i32::from(open(c"fifo", flags, 0).is_err()))?;
        check!(asleep(child));
        let both = open(c"fifo", O_RDWR, 0)?;
        check!(ended(child), "{flags}");
        check_eq!(wait_exit(child)?, 0);
        close(both)?;
        unlink(c"fifo")?;
    }
    Ok(())
}

fn a_part_written_hides_the_error_not_the_signal() -> Outcome {
    let [r, w] = pipe(0)?;
    let sigpipe = 1_u64 << (SIGPIPE - 1);
    let child = fork(|| {
        let _ = close(r);
        let _ = sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&sigpipe), 0, 8);
        let written = write(w, &vec![1; 100_000]);
        let mut pending = 0_u64;
        let _ = sys!(SYS_rt_sigpending, addr_mut(&mut pending), 8);
        i32::from(written != Ok(65_536)) | i32::from(pending & sigpipe == 0) << 1
    })?;
    check!(asleep(child));
    close(r)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

/// Writes `value` to a file below /proc/sys/fs; what was there.
fn sysctl(name: &std::ffi::CStr, value: &str) -> crate::sys::Result<String> {
    let old = slurp(name)?;
    crate::sys::spew(name, value)?;
    Ok(old)
}

fn users_have_so_many_pages() -> Outcome {
    let (soft, hard) = (c"/proc/sys/fs/pipe-user-pages-soft", c"/proc/sys/fs/pipe-user-pages-hard");
    let old_soft = sysctl(soft, "40")?;
    let in_user = |body: fn() -> i32| {
        in_child(|| {
            let _ = sys!(SYS_setresuid, 4711, 4711, 4711);
            body()
        })
    };
    let size = |fd: i32| fcntl(fd, F_GETPIPE_SZ, 0).unwrap_or(0) / 4096;
    // Two pipes as usual; then they are small, and none grows.
    let softly = in_user(|| {
        let size = |fd: i32| fcntl(fd, F_GETPIPE_SZ, 0).unwrap_or(0) / 4096;
        let Ok(pipes) = (0..4).map(|_| pipe(0)).collect::<crate::sys::Result<Vec<_>>>() else { return 1 };
        let sizes: Vec<usize> = pipes.iter().map(|ends| size(ends[0])).collect();
        let grows = fcntl(pipes[0][0], F_SETPIPE_SZ, 32 * 4096);
        let shrinks = fcntl(pipes[0][0], F_SETPIPE_SZ, 8 * 4096);
        i32::from(sizes != [16, 16, 2, 2]) << 1
            | i32::from(grows != Err(Errno(EPERM))) << 2
            | i32::from(shrinks != Ok(8 * 4096)) << 3
    });
    let old_hard = sysctl(hard, "40");
    let hardly = in_user(|| {
        let mut pipes = 0;
        while pipes < 20 && pipe(0).is_ok() {
            pipes += 1;
        }
        let refused = pipe(0) == Err(Errno(ENFILE));
        // 16, 16, and then 2 each, up to 40.
        i32::from(pipes != 6) | i32::from(!refused) << 1
    });
    // The privileged are not concerned.
    let own: crate::sys::Result<Vec<_>> = (0..4).map(|_| pipe(0)).collect();
    sysctl(soft, old_soft.trim())?;
    sysctl(hard, old_hard?.trim())?;
    check_eq!(softly?, 0);
    check_eq!(hardly?, 0);
    check!(own?.iter().all(|ends| size(ends[0]) == 16));
    Ok(())
}
