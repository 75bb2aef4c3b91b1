//! Programs that do not keep the rules of `io_uring(7)`, and races: rings rewritten while they are read, rings closed and threads that
//! end while others submit, completions against cancellations; pinned memory across fork(2).

use crate::prelude::*;
use crate::uring::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

tests![
    pinned_buffers_survive_fork,
    user_memory_rings_survive_fork,
    rings_are_rewritten,
    tails_run_wild,
    heads_are_moved_back,
    cancel_against_completion,
    timers_against_cancellation,
    close_against_submit,
    exit_against_submit,
    exec_against_submit,
    polling_threads_end,
    threads_share_a_ring,
];

const REGISTER_BUFFERS: u32 = 0;
const READ_FIXED: u8 = 4;
const WRITE_FIXED: u8 = 5;
const PAGE: usize = 4096;

/// A small generator: the tests repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }
}

fn pinned_buffers_survive_fork() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"0123456789")?;
    let memory = map_anon(3 * PAGE)?;
    for page in 0..3 {
        poke(memory + page * PAGE, b'a' + page as u8);
    }
    // The last page is not registered: it is shared as ever.
    let list = iov(&[(memory, 2 * PAGE)]);
    check_eq!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1)?, 0);
    let fixed = |op, at: usize, len, off| sqe(op, fd, at, len, off);
    let (go, done) = (pipe(0)?, pipe(0)?);
    let child = fork(|| {
        // What it has is what there was, whatever the parent does.
        let _ = read_vec(go[0], 1);
        let seen = [peek(memory), peek(memory + PAGE), peek(memory + 2 * PAGE)];
        poke(memory, b'X');
        poke(memory + PAGE, b'Y');
        let _ = write(done[1], b".");
        let _ = read_vec(go[0], 1);
        i32::from(&seen != b"abc" || peek(memory) != b'X' || peek(memory + PAGE) != b'Y')
    })?;
    // The parent's writes reach the ring's pages.
    poke(memory, b'A');
    poke(memory + 2 * PAGE, b'C');
    check_eq!(ring.res(fixed(WRITE_FIXED, memory, 1, 0))?, 1);
    check_eq!(slurp(c"f")?, "A123456789");
    // And the ring's reach the parent, also in a page that it has not written since.
    check_eq!(ring.res(fixed(READ_FIXED, memory + PAGE, 3, 1))?, 3);
    check_eq!((peek(memory + PAGE), peek(memory + PAGE + 2)), (b'1', b'3'));
    write(go[1], b".")?;
    read_vec(done[0], 1)?;
    // The child's writes reach neither.
    check_eq!((peek(memory), peek(memory + PAGE)), (b'A', b'1'));
    check_eq!(ring.res(fixed(WRITE_FIXED, memory + PAGE, 1, 9))?, 1);
    check_eq!(slurp(c"f")?, "A123456781");
    write(go[1], b".")?;
    check_eq!(wait_exit(child)?, 0);
    // Again, now that the first child is gone.
    check_eq!(in_child(|| i32::from(peek(memory) != b'A'))?, 0);
    poke(memory, b'B');
    check_eq!(ring.res(fixed(WRITE_FIXED, memory, 1, 5))?, 1);
    check_eq!(slurp(c"f")?, "A1234B6781");
    Ok(())
}

fn user_memory_rings_survive_fork() -> Outcome {
    const NO_MMAP: u32 = 1 << 14;
    const NO_SQARRAY: u32 = 1 << 16;
    let memory = map_anon(2 * PAGE)?;
    let mut params = Params { flags: NO_MMAP | NO_SQARRAY, ..Params::default() };
    // The address of each area is the last field of its offsets.
    (params.cq_off[8], params.cq_off[9]) = (memory as u32, (memory >> 32) as u32);
    (params.sq_off[8], params.sq_off[9]) = ((memory + PAGE) as u32, ((memory + PAGE) >> 32) as u32);
    let fd = setup(8, &mut params)?;
    let word = |offset: u32| atomic(memory + offset as usize);
    for round in 1..4_u32 {
        check_eq!(in_child(|| 0)?, 0);
        let slot = memory + PAGE + 64 * (round as usize - 1);
        // SAFETY: the slot lies in the second page.
        unsafe { std::ptr::write_volatile(slot as *mut Sqe, nop(u64::from(round))) };
        word(params.sq_off[1]).store(round, Ordering::SeqCst);
        check_eq!(enter(fd, 1, 1, ENTER_GETEVENTS)?, 1);
        check_eq!(word(params.cq_off[1]).load(Ordering::SeqCst), round);
        check_eq!(word(params.sq_off[0]).load(Ordering::SeqCst), round);
    }
    close(fd).map_err(Failure::from)
}

/// A submission that does no harm, with anything in it.
fn anything(random: &mut Random, ends: [i32; 2], buffer: usize) -> Sqe {
    let opcodes =
        [0, 0, 0, READ, WRITE, POLL_ADD, POLL_REMOVE, TIMEOUT_REMOVE, CANCEL, LINK_TIMEOUT, 60, 255];
    let fds = [ends[0], ends[1], -1, 9999];
    Sqe {
        opcode: opcodes[random.below(opcodes.len())],
        // Drains would wait for what never comes.
        flags: random.next() as u8 & !DRAIN,
        fd: fds[random.below(fds.len())],
        addr: if random.below(2) == 0 { buffer as u64 } else { random.next() },
        len: random.below(64) as u32,
        off: if random.below(2) == 0 { u64::MAX } else { random.next() },
        op_flags: if random.below(2) == 0 { 0 } else { 1 << random.below(32) },
        user_data: random.below(8) as u64,
        ..Sqe::default()
    }
}

fn rings_are_rewritten() -> Outcome {
    for flags in [0, SUBMIT_ALL] {
        let mut ring = Ring::new(16, flags)?;
        let ends = pipe(O_NONBLOCK)?;
        let buffer = map_anon(PAGE)?;
        let (rings, sqes) = ring.addresses();
        let (array, tail) = (ring.params.sq_off[6] as usize, ring.params.sq_off[1] as usize);
        static STOP: AtomicBool = AtomicBool::new(false);
        STOP.store(false, Ordering::SeqCst);
        let writer = thread::spawn(move || {
            let mut random = Random(0x9e37_79b9);
            while !STOP.load(Ordering::Relaxed) {
                let slot = random.below(16);
                let entry = anything(&mut random, ends, buffer);
                // SAFETY: the slot lies in the mapping of the submissions.
                unsafe { std::ptr::write_volatile((sqes + 64 * slot) as *mut Sqe, entry) };
                let index = if random.below(64) == 0 { random.next() as u32 } else { slot as u32 };
                atomic(rings + array + 4 * random.below(16)).store(index, Ordering::Relaxed);
                atomic(rings + tail).fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..3000 {
            // Anything may come of it, but an answer.
            let _ = enter(ring.fd, 16, 0, 0);
            while ring.pop().is_some() {}
        }
        STOP.store(true, Ordering::SeqCst);
        writer.join().map_err(|_| Failure::new("the writer panicked"))?;
        // The ring is as good as ever.
        ring.resynchronise();
        ring.push(Sqe { op_flags: 4, ..tagged(1000, sqe(CANCEL, -1, 0, 0, 0)) });
        ring.submit()?;
        ring.push(nop(1001));
        ring.submit()?;
        // What the ring had no room for comes first, a ring at a time.
        let (mut seen, start) = (false, std::time::Instant::now());
        while !seen && start.elapsed().as_secs() < 20 {
            let mut any = false;
            while let Some(cqe) = ring.pop() {
                any = true;
                seen |= cqe.user_data == 1001;
            }
            let _ = enter(ring.fd, 0, 0, ENTER_GETEVENTS);
            if !any {
                sleep_ms(1);
            }
        }
        check!(seen);
    }
    Ok(())
}

fn tails_run_wild() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let (rings, _) = ring.addresses();
    let tail = rings + ring.params.sq_off[1] as usize;
    for ahead in [1, 7, 8, 9, 1 << 20, u32::MAX / 2, u32::MAX] {
        let head = ring.sq_head();
        atomic(tail).store(head.wrapping_add(ahead), Ordering::SeqCst);
        // Never more than the ring has room for, and never what was not asked for.
        let taken = enter(ring.fd, 3, 0, 0)?;
        check!(taken <= 3);
        let taken = enter(ring.fd, u32::MAX, 0, 0)?;
        check!(taken <= 8);
        while ring.pop().is_some() {}
    }
    ring.resynchronise();
    check_eq!(ring.run(nop(5))?.user_data, 5);
    // An index beyond the ring, again and again.
    for round in 1..4 {
        ring.push_index(8 + round);
        let _ = enter(ring.fd, 1, 0, 0);
        check_eq!(ring.dropped(), round);
    }
    check_eq!(ring.run(nop(6))?.user_data, 6);
    Ok(())
}

fn heads_are_moved_back() -> Outcome {
    // What the user says of the completions it took is believed, but nothing outside of the ring is written.
    let mut ring = Ring::new(8, 0)?;
    let (rings, _) = ring.addresses();
    let head = rings + ring.params.cq_off[0] as usize;
    for lie in [1_u32, 100, u32::MAX, 1 << 31] {
        let tail = ring.cq_tail();
        atomic(head).store(tail.wrapping_sub(lie), Ordering::SeqCst);
        for _ in 0..4 {
            ring.push(nop(1));
        }
        let _ = ring.submit();
        let _ = enter(ring.fd, 0, 0, ENTER_GETEVENTS);
        atomic(head).store(ring.cq_tail(), Ordering::SeqCst);
        // What found no room comes now.
        let _ = enter(ring.fd, 0, 0, ENTER_GETEVENTS);
        while ring.pop().is_some() {}
        ring.resynchronise();
    }
    check_eq!(ring.run(nop(7))?.user_data, 7);
    Ok(())
}

fn cancel_against_completion() -> Outcome {
    // Each request completes once, whoever wins.
    let mut ring = Ring::new(64, 0)?;
    let mut buffers = [[0_u8; 1]; 16];
    for round in 0..60 {
        let ends = pipe(0)?;
        for (n, buffer) in buffers.iter_mut().enumerate() {
            let flags = if n % 4 == 3 { ASYNC } else { 0 };
            let wait = match n % 3 {
                0 => poll_add(ends[0], POLLIN, 0),
                _ => sqe(READ, ends[0], buffer.as_mut_ptr() as usize, 1, u64::MAX),
            };
            ring.push(Sqe { flags, ..tagged(n as u64, wait) });
        }
        check_eq!(ring.submit()?, 16);
        let writer = thread::spawn(move || {
            for _ in 0..16 {
                let _ = write(ends[1], b"x");
            }
        });
        let cancels = if round % 2 == 0 { 16 } else { 1 };
        for n in 0..cancels {
            // Those with user data 0 to 15, or any.
            let entry = if cancels == 1 { Sqe { op_flags: 4, ..Sqe::default() } } else { Sqe::default() };
            ring.push(Sqe { opcode: CANCEL, fd: -1, addr: n, user_data: 100 + n, ..entry });
        }
        ring.submit()?;
        writer.join().map_err(|_| Failure::new("the writer panicked"))?;
        let all = ring.collect(16 + cancels as usize)?;
        let users: Vec<u64> = all.iter().map(|cqe| cqe.user_data).collect();
        let expected: Vec<u64> = (0..16).chain(100..100 + cancels).collect();
        check_eq!(users, expected);
        check_eq!(ring.ready(), 0);
        close(ends[0])?;
        close(ends[1])?;
    }
    Ok(())
}

fn timers_against_cancellation() -> Outcome {
    let mut ring = Ring::new(64, 0)?;
    let soon = [0, 300_000_i64];
    let ends = pipe(0)?;
    let mut byte = [0_u8];
    for _ in 0..60 {
        for n in 0..8 {
            ring.push(tagged(n, timeout(&soon, 0, 0)));
        }
        // Limited by a timer that expires at about the same time.
        let limited = sqe(READ, ends[0], byte.as_mut_ptr() as usize, 1, u64::MAX);
        ring.push(Sqe { flags: LINK, ..tagged(8, limited) });
        ring.push(tagged(9, link_timeout(&soon)));
        check_eq!(ring.submit()?, 10);
        let stop = now(CLOCK_MONOTONIC)? + 250_000;
        while now(CLOCK_MONOTONIC)? < stop {}
        for n in 0..8 {
            ring.push(Sqe { opcode: TIMEOUT_REMOVE, fd: -1, addr: n, user_data: 100 + n, ..Sqe::default() });
        }
        ring.push(Sqe { opcode: CANCEL, fd: -1, addr: 8, user_data: 108, ..Sqe::default() });
        ring.submit()?;
        let users: Vec<u64> = ring.collect(19)?.iter().map(|cqe| cqe.user_data).collect();
        let expected: Vec<u64> = (0..10).chain(100..109).collect();
        check_eq!(users, expected);
    }
    Ok(())
}

/// Submits what waits and what does not, until the ring is gone.
fn hammer(fd: i32, rings: usize, sqes: usize, params: Params, ends: [i32; 2], buffer: usize) {
    let mut random = Random(u64::from(fd as u32) + 77);
    let times = Box::leak(Box::new(span(5)));
    loop {
        let tail = atomic(rings + params.sq_off[1] as usize);
        for _ in 0..4 {
            let at = tail.load(Ordering::SeqCst);
            let slot = (at & (params.sq_entries - 1)) as usize;
            let flags = [0, 0, ASYNC, LINK, DRAIN][random.below(5)];
            let entry = match random.below(4) {
                0 => nop(1),
                1 => poll_add(ends[0], POLLIN, 0),
                2 => timeout(times, 0, 0),
                _ => sqe(READ, ends[0], buffer, 1, u64::MAX),
            };
            // SAFETY: the slot lies in the mapping of the submissions, which stays until the process ends.
            unsafe { std::ptr::write_volatile((sqes + 64 * slot) as *mut Sqe, Sqe { flags, ..entry }) };
            atomic(rings + params.sq_off[6] as usize + 4 * slot).store(slot as u32, Ordering::SeqCst);
            tail.store(at.wrapping_add(1), Ordering::SeqCst);
        }
        if enter(fd, 4, 0, ENTER_GETEVENTS) == Err(Errno(EBADF)) {
            return;
        }
        let done = atomic(rings + params.cq_off[1] as usize).load(Ordering::SeqCst);
        atomic(rings + params.cq_off[0] as usize).store(done, Ordering::SeqCst);
    }
}

/// A ring, the ends of a pipe, and those who keep them busy.
type Hammered = (Ring, [i32; 2], Vec<thread::JoinHandle<()>>);

/// A ring and `count` threads that submit to it.
fn hammered(flags: u32, count: usize) -> Result<Hammered, Errno> {
    let ring = Ring::with(16, Params { flags, sq_thread_idle: 10, ..Params::default() })?;
    let ends = pipe(0)?;
    let buffer = map_anon(PAGE)?;
    let ((rings, sqes), fd, params) = (ring.addresses(), ring.fd, ring.params);
    let threads = (0..count).map(|_| thread::spawn(move || hammer(fd, rings, sqes, params, ends, buffer)));
    let threads = threads.collect();
    Ok((ring, ends, threads))
}

fn close_against_submit() -> Outcome {
    for round in 0..8 {
        let (ring, ends, threads) = hammered(if round % 2 == 0 { 0 } else { COOP }, 2)?;
        sleep_ms(10);
        close(ring.fd)?;
        for thread in threads {
            thread.join().map_err(|_| Failure::new("a thread panicked"))?;
        }
        std::mem::forget(ring);
        close(ends[0])?;
        close(ends[1])?;
    }
    Ok(())
}

fn exit_against_submit() -> Outcome {
    for round in 0..8 {
        let child = fork(|| {
            let Ok((ring, _, threads)) = hammered(0, 3) else { return 1 };
            sleep_ms(10 + round);
            std::mem::forget((ring, threads));
            0
        })?;
        check_eq!(wait_exit(child)?, 0);
    }
    // Killed from outside.
    for _ in 0..4 {
        let child = fork(|| {
            let _busy = hammered(0, 3);
            sleep_ms(60_000);
            1
        })?;
        sleep_ms(30);
        kill(child, SIGKILL)?;
        check!(WIFSIGNALED(wait(child)?));
    }
    Ok(())
}

fn exec_against_submit() -> Outcome {
    for _ in 0..4 {
        let child = fork(|| {
            let Ok((ring, _, threads)) = hammered(0, 2) else { return 1 };
            std::mem::forget((ring, threads));
            sleep_ms(10);
            let argv = [c"/proc/self/exe".as_ptr(), c"helper:pid".as_ptr(), std::ptr::null()];
            let _ = sys!(SYS_execve, argv[0], argv.as_ptr(), addr(&[0_usize]));
            2
        })?;
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}

fn polling_threads_end() -> Outcome {
    // A ring with a thread of its own, while that is busy: closed, left at exit, killed.
    for round in 0..3 {
        let (ring, ends, threads) = hammered(SQPOLL, 1)?;
        sleep_ms(10 + round);
        close(ring.fd)?;
        for thread in threads {
            thread.join().map_err(|_| Failure::new("a thread panicked"))?;
        }
        std::mem::forget(ring);
        close(ends[0])?;
        close(ends[1])?;
        let child = fork(|| {
            let Ok((ring, _, threads)) = hammered(SQPOLL, 1) else { return 1 };
            sleep_ms(10 + round);
            std::mem::forget((ring, threads));
            0
        })?;
        check_eq!(wait_exit(child)?, 0);
        let child = fork(|| {
            let _busy = hammered(SQPOLL, 1);
            sleep_ms(60_000);
            1
        })?;
        sleep_ms(30);
        kill(child, SIGKILL)?;
        check!(WIFSIGNALED(wait(child)?));
    }
    Ok(())
}

fn threads_share_a_ring() -> Outcome {
    // Requests of one thread are cancelled after it has ended, those of the others go on.
    let mut ring = Ring::new(16, 0)?;
    let ends = pipe(0)?;
    let mut mine = [0_u8; 2];
    ring.push(tagged(1, read_next(ends[0], &mut mine)));
    ring.submit()?;
    let ring = thread::spawn(move || {
        let mut ring = ring;
        for n in 0..4 {
            ring.push(tagged(10 + n, poll_add(ends[0], POLLIN, 0)));
        }
        ring.submit().map(|_| ring)
    });
    let ring = ring.join().map_err(|_| Failure::new("the thread panicked"))??;
    write(ends[1], b"ab")?;
    let all = ring.collect(5)?;
    let outcomes: Vec<(u64, i32)> = all.iter().map(|cqe| (cqe.user_data, cqe.res)).collect();
    let cancelled = (10..14).map(|n| (n, -ECANCELED));
    check_eq!(outcomes, [(1, 2)].into_iter().chain(cancelled).collect::<Vec<_>>());
    check_eq!(&mine, b"ab");
    Ok(())
}
