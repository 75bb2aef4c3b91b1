//! io_setup(2), io_destroy(2), io_submit(2), io_getevents(2), io_pgetevents(2), io_cancel(2).

use crate::prelude::*;
use std::sync::atomic::Ordering;

tests![
    setup_and_destroy,
    limits,
    the_ring_is_readable,
    transfers,
    vectors,
    submission_errors,
    synchronisation,
    polls,
    cancelled_polls,
    event_descriptors,
    waiting,
    masks_of_pgetevents,
    room_is_limited,
    contexts_end_with_the_program,
];

/// `struct iocb`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    reqprio: i16,
    fildes: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved2: u64,
    flags: u32,
    resfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Event {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const POLL: u16 = 5;
const NOOP: u16 = 6;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

fn setup(events: u32) -> Result<usize, Errno> {
    let mut ctx = 0_u64;
    sys!(SYS_io_setup, events, addr_mut(&mut ctx))?;
    Ok(ctx as usize)
}

fn submit(ctx: usize, list: &[&Iocb]) -> Result<usize, Errno> {
    sys!(SYS_io_submit, ctx, list.len(), list.as_ptr() as usize)
}

fn events(ctx: usize, min: usize, max: usize) -> Result<Vec<Event>, Errno> {
    let mut list = vec![Event::default(); max];
    let count = sys!(SYS_io_getevents, ctx, min, max, list.as_mut_ptr() as usize, 0)?;
    list.truncate(count);
    Ok(list)
}

fn none(ctx: usize) -> Result<bool, Errno> {
    let (mut event, now) = (Event::default(), [0_i64; 2]);
    Ok(sys!(SYS_io_getevents, ctx, 0, 1, addr_mut(&mut event), addr(&now))? == 0)
}

fn iocb(opcode: u16, fd: i32, buf: usize, len: usize, offset: i64) -> Iocb {
    Iocb {
        opcode,
        fildes: fd as u32,
        buf: buf as u64,
        nbytes: len as u64,
        offset,
        data: 77,
        ..Iocb::default()
    }
}

fn one(ctx: usize, iocb: &Iocb) -> Result<i64, Errno> {
    submit(ctx, &[iocb])?;
    Ok(events(ctx, 1, 1)?[0].res)
}

fn setup_and_destroy() -> Outcome {
    let ctx = setup(8)?;
    check!(ctx != 0);
    let mut used = 1_u64;
    check_err!(sys!(SYS_io_setup, 8, addr_mut(&mut used)), EINVAL);
    check_err!(setup(0), EINVAL);
    check_err!(sys!(SYS_io_setup, 8, 16), EFAULT);
    check_err!(setup(u32::MAX), EINVAL);
    sys!(SYS_io_destroy, ctx)?;
    check_err!(sys!(SYS_io_destroy, ctx), EINVAL);
    check_err!(sys!(SYS_io_destroy, 4096), EINVAL);
    check_err!(submit(ctx, &[]), EINVAL);
    check_err!(events(ctx, 0, 1), EINVAL);
    Ok(())
}

fn number(path: &std::ffi::CStr) -> Result<usize, Failure> {
    slurp(path)?.trim().parse().map_err(|_| Failure::new("not a number"))
}

fn limits() -> Outcome {
    let max = number(c"/proc/sys/fs/aio-max-nr")?;
    check_eq!(max, 65536);
    let before = number(c"/proc/sys/fs/aio-nr")?;
    let ctx = setup(100)?;
    check_eq!(number(c"/proc/sys/fs/aio-nr")?, before + 100);
    sys!(SYS_io_destroy, ctx)?;
    check!(eventually(|| number(c"/proc/sys/fs/aio-nr").is_ok_and(|now| now == before)));
    check_err!(setup(70000), EAGAIN);
    Ok(())
}

fn the_ring_is_readable() -> Outcome {
    let ctx = setup(8)?;
    let word = |index: usize| atomic(ctx + 4 * index).load(Ordering::SeqCst);
    check_eq!(word(4), 0xa10a_10a1);
    check_eq!((word(5), word(6), word(7)), (1, 0, 32));
    check!(word(1) > 16);
    check_eq!((word(2), word(3)), (0, 0));
    let fd = create(c"f", b"abc")?;
    let mut buffer = [0_u8; 3];
    let read = iocb(PREAD, fd, addr_mut(&mut buffer), 3, 0);
    submit(ctx, &[&read])?;
    check_eq!((word(2), word(3)), (0, 1));
    // The user may consume the event.
    atomic(ctx + 8).store(1, Ordering::SeqCst);
    check!(none(ctx)?);
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    check!(maps.contains("/[aio] (deleted)"));
    Ok(())
}

fn transfers() -> Outcome {
    let ctx = setup(8)?;
    let fd = create(c"f", b"")?;
    let data = *b"hello world";
    let write = iocb(PWRITE, fd, addr(&data), 11, 0);
    check_eq!(submit(ctx, &[&write])?, 1);
    let event = events(ctx, 1, 1)?[0];
    check_eq!(event, Event { data: 77, obj: addr(&write) as u64, res: 11, res2: 0 });
    let mut buffer = [0_u8; 5];
    let read = iocb(PREAD, fd, addr_mut(&mut buffer), 5, 6);
    check_eq!(one(ctx, &read)?, 5);
    check_eq!(&buffer, b"world");
    check_eq!(seek(fd, 0, SEEK_CUR)?, 0);
    check_eq!(one(ctx, &Iocb { offset: 100, ..read })?, 0);
    check_eq!(one(ctx, &Iocb { buf: 16, ..read })?, -i64::from(EFAULT));
    // Several at once.
    check_eq!(submit(ctx, &[&read, &write, &read])?, 3);
    check_eq!(events(ctx, 3, 8)?.iter().map(|e| e.res).collect::<Vec<_>>(), [5, 11, 5]);
    let append = Iocb { rw_flags: 16, ..write };
    check_eq!(one(ctx, &append)?, 11);
    check_eq!(fstat(fd)?.st_size, 22);
    Ok(())
}

fn vectors() -> Outcome {
    let ctx = setup(8)?;
    let fd = create(c"f", b"")?;
    let parts = [[b"abc".as_ptr() as usize, 3], [b"de".as_ptr() as usize, 2]];
    check_eq!(one(ctx, &iocb(PWRITEV, fd, addr(&parts), 2, 0))?, 5);
    let mut buffer = [0_u8; 5];
    let parts = [[addr_mut(&mut buffer), 1], [addr_mut(&mut buffer) + 1, 4]];
    check_eq!(one(ctx, &iocb(PREADV, fd, addr(&parts), 2, 0))?, 5);
    check_eq!(&buffer, b"abcde");
    check_err!(submit(ctx, &[&iocb(PREADV, fd, addr(&parts), 1025, 0)]), EINVAL);
    check_err!(submit(ctx, &[&iocb(PREADV, fd, 16, 2, 0)]), EFAULT);
    Ok(())
}

fn submission_errors() -> Outcome {
    let ctx = setup(8)?;
    let fd = create(c"f", b"abc")?;
    let mut buffer = [0_u8; 3];
    let good = iocb(PREAD, fd, addr_mut(&mut buffer), 3, 0);
    check_err!(submit(ctx, &[&Iocb { fildes: 9999, ..good }]), EBADF);
    check_err!(submit(ctx, &[&Iocb { opcode: 99, ..good }]), EINVAL);
    check_err!(submit(ctx, &[&Iocb { opcode: NOOP, ..good }]), EINVAL);
    check_err!(submit(ctx, &[&Iocb { reserved2: 1, ..good }]), EINVAL);
    check_err!(submit(ctx, &[&Iocb { nbytes: u64::MAX, ..good }]), EINVAL);
    check_err!(submit(ctx, &[&Iocb { rw_flags: 1 << 30, ..good }]), EOPNOTSUPP);
    check_err!(submit(ctx, &[&Iocb { flags: 1, resfd: 9999, ..good }]), EBADF);
    check_err!(submit(ctx, &[&Iocb { flags: 1, resfd: fd as u32, ..good }]), EINVAL);
    check_err!(submit(ctx, &[&Iocb { flags: 2, reqprio: 5 << 13, ..good }]), EINVAL);
    let only = open(c"f", O_WRONLY, 0)?;
    check_err!(submit(ctx, &[&Iocb { fildes: only as u32, ..good }]), EBADF);
    check_err!(sys!(SYS_io_submit, ctx, -1_isize, 0), EINVAL);
    check_err!(sys!(SYS_io_submit, ctx, 1, 16), EFAULT);
    check_err!(sys!(SYS_io_submit, ctx, 1, addr(&[16_u64])), EFAULT);
    check_eq!(submit(ctx, &[])?, 0);
    // What came before the error counts.
    let bad = Iocb { opcode: 99, ..good };
    check_eq!(submit(ctx, &[&good, &bad, &good])?, 1);
    check_eq!(events(ctx, 1, 4)?.len(), 1);
    check!(none(ctx)?);
    Ok(())
}

fn synchronisation() -> Outcome {
    let ctx = setup(8)?;
    let fd = create(c"f", b"abc")?;
    check_eq!(one(ctx, &iocb(FSYNC, fd, 0, 0, 0))?, 0);
    check_eq!(one(ctx, &iocb(FDSYNC, fd, 0, 0, 0))?, 0);
    check_err!(submit(ctx, &[&iocb(FSYNC, fd, 0, 1, 0)]), EINVAL);
    check_err!(submit(ctx, &[&iocb(FSYNC, fd, 0, 0, 1)]), EINVAL);
    let ends = pipe(0)?;
    check_err!(submit(ctx, &[&iocb(FSYNC, ends[0], 0, 0, 0)]), EINVAL);
    Ok(())
}

fn polls() -> Outcome {
    let ctx = setup(8)?;
    let ends = pipe(0)?;
    let poll = iocb(POLL, ends[0], POLLIN as usize, 0, 0);
    check_eq!(submit(ctx, &[&poll])?, 1);
    check!(none(ctx)?);
    write(ends[1], b"x")?;
    // A wake-up may report more than was asked for.
    check!(events(ctx, 1, 1)?[0].res & i64::from(POLLIN) != 0);
    // Ready at once.
    check_eq!(one(ctx, &poll)?, i64::from(POLLIN));
    check_err!(submit(ctx, &[&iocb(POLL, ends[0], 1 << 16, 0, 0)]), EINVAL);
    check_err!(submit(ctx, &[&iocb(POLL, ends[0], 1, 1, 0)]), EINVAL);
    read_vec(ends[0], 1)?;
    submit(ctx, &[&poll])?;
    close(ends[1])?;
    check_eq!(events(ctx, 1, 1)?[0].res & i64::from(POLLHUP), i64::from(POLLHUP));
    Ok(())
}

fn cancelled_polls() -> Outcome {
    let ctx = setup(8)?;
    let ends = pipe(0)?;
    let poll = iocb(POLL, ends[0], POLLIN as usize, 0, 0);
    let mut event = Event::default();
    check_err!(sys!(SYS_io_cancel, ctx, addr(&poll), addr_mut(&mut event)), EINVAL);
    check_eq!(submit(ctx, &[&poll])?, 1);
    check_err!(sys!(SYS_io_cancel, ctx, addr(&poll), addr_mut(&mut event)), EINPROGRESS);
    let event = events(ctx, 1, 1)?[0];
    check_eq!((event.obj, event.res), (addr(&poll) as u64, 0));
    check_err!(sys!(SYS_io_cancel, ctx, 16, 0), EFAULT);
    check_err!(sys!(SYS_io_cancel, ctx, addr(&Iocb { key: 9, ..poll }), 0), EINVAL);
    // The context goes with a poll in it.
    check_eq!(submit(ctx, &[&poll])?, 1);
    sys!(SYS_io_destroy, ctx)?;
    Ok(())
}

fn event_descriptors() -> Outcome {
    let ctx = setup(8)?;
    let event = sys!(SYS_eventfd2, 0, EFD_NONBLOCK)? as u32;
    let fd = create(c"f", b"abc")?;
    let mut buffer = [0_u8; 3];
    let read = Iocb { flags: 1, resfd: event, ..iocb(PREAD, fd, addr_mut(&mut buffer), 3, 0) };
    check_eq!(submit(ctx, &[&read, &read])?, 2);
    check!(eventually(|| none(ctx).is_ok_and(|none| !none)));
    check_eq!(read_vec(event as i32, 8)?, 2_u64.to_ne_bytes());
    Ok(())
}

fn waiting() -> Outcome {
    let ctx = setup(8)?;
    check_err!(events(ctx, 2, 1), EINVAL);
    let mut event = Event::default();
    check_err!(sys!(SYS_io_getevents, ctx, -1_isize, 1, addr_mut(&mut event), 0), EINVAL);
    check_err!(sys!(SYS_io_getevents, ctx, 0, 1, addr_mut(&mut event), 16), EFAULT);
    let start = std::time::Instant::now();
    let time = [0_i64, 30_000_000];
    check_eq!(sys!(SYS_io_getevents, ctx, 1, 1, addr_mut(&mut event), addr(&time))?, 0);
    check!(start.elapsed() >= std::time::Duration::from_millis(29));
    let ends = pipe(0)?;
    let poll = iocb(POLL, ends[0], POLLIN as usize, 0, 0);
    submit(ctx, &[&poll])?;
    let writer = ends[1];
    let other = std::thread::spawn(move || {
        sleep_ms(20);
        write(writer, b"x")
    });
    check_eq!(events(ctx, 1, 4)?.len(), 1);
    check!(other.join().is_ok());
    extern "C" fn handler(_: i32) {}
    let mut action: sigaction = zeroed();
    action.sa_sigaction = handler as *const () as usize;
    c!(sigaction(SIGALRM, &raw const action, std::ptr::null_mut()))?;
    let timer = [0_i64, 0, 0, 30_000];
    sys!(SYS_setitimer, ITIMER_REAL, addr(&timer), 0)?;
    check_err!(events(ctx, 1, 1), EINTR);
    Ok(())
}

fn masks_of_pgetevents() -> Outcome {
    let ctx = setup(8)?;
    let mut event = Event::default();
    let now = [0_i64; 2];
    let mask = u64::MAX;
    let set = [addr(&mask), 8];
    check_eq!(sys!(SYS_io_pgetevents, ctx, 0, 1, addr_mut(&mut event), addr(&now), addr(&set))?, 0);
    check_eq!(sys!(SYS_io_pgetevents, ctx, 0, 1, addr_mut(&mut event), addr(&now), 0)?, 0);
    let bad = [addr(&mask), 4];
    check_err!(sys!(SYS_io_pgetevents, ctx, 0, 1, addr_mut(&mut event), addr(&now), addr(&bad)), EINVAL);
    check_err!(sys!(SYS_io_pgetevents, ctx, 0, 1, addr_mut(&mut event), addr(&now), 16), EFAULT);
    Ok(())
}

fn room_is_limited() -> Outcome {
    let ctx = setup(1)?;
    let fd = create(c"f", b"abc")?;
    let mut buffer = [0_u8; 3];
    let read = iocb(PREAD, fd, addr_mut(&mut buffer), 3, 0);
    let mut count = 0;
    let error = loop {
        match submit(ctx, &[&read]) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        check!(count < 10_000);
    };
    check_eq!(error, Errno(EAGAIN));
    let room = atomic(ctx + 4).load(Ordering::SeqCst);
    check!(count >= 1 && count < room);
    check_eq!(events(ctx, 1, count as usize)?.len(), count as usize);
    check_eq!(submit(ctx, &[&read])?, 1);
    Ok(())
}

fn contexts_end_with_the_program() -> Outcome {
    let before = number(c"/proc/sys/fs/aio-nr")?;
    let child = fork(|| {
        let ends = pipe(0);
        let (Ok(ctx), Ok(ends)) = (setup(50), ends) else { return 1 };
        let poll = iocb(POLL, ends[0], POLLIN as usize, 0, 0);
        i32::from(submit(ctx, &[&poll]) != Ok(1))
    })?;
    check_eq!(wait_exit(child)?, 0);
    check!(eventually(|| number(c"/proc/sys/fs/aio-nr").is_ok_and(|now| now == before)));
    // A child has the mapping, but not the context.
    let ctx = setup(8)?;
    check_eq!(in_child(|| i32::from(events(ctx, 0, 1) != Err(Errno(EINVAL))))?, 0);
    Ok(())
}
