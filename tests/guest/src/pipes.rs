//! Pages that pipes share, and wake-ups that must not end with whoever was woken first: pipe(7), fifo(7), tee(2), splice(2).

use crate::prelude::*;

tests![
    tee_keeps_its_copy,
    spliced_part_keeps_its_bytes,
    failed_reader_passes_the_wake_on,
    failed_writer_passes_the_wake_on,
    opening_a_fifo_for_both_wakes_who_waits,
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
