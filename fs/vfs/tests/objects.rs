//! Descriptors, pipes, epoll, eventfd, timerfd, locks, splice.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use abi::poll::PollEvents;
use abi::{Errno, raw};
use common::World;
use mm::IovIter;
use vfs::fdtable::{Fd, FdFlags, FdTable};
use vfs::lock::flock::{IfBusy, flock};
use vfs::lock::{LockKind, posix};
use vfs::{File, epoll, eventfd, pipe, poll, rw, splice, timerfd};

fn write(file: &Arc<File>, bytes: &[u8]) -> abi::Result<usize> {
    rw::write(file, &mut IovIter::source(bytes), 0)
}

fn read(file: &Arc<File>, len: usize) -> abi::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let n = rw::read(file, &mut IovIter::dest(&mut bytes), 0)?;
    bytes.truncate(n);
    Ok(bytes)
}

#[test]
fn descriptors() {
    let w = World::new();
    w.write("/f", "x").unwrap();
    let open = || w.open("/f", raw::O_RDWR).unwrap();
    let t = FdTable::new();
    for want in 0..200 {
        assert_eq!(t.install(open(), 1024, FdFlags::empty()).unwrap(), Fd(want));
    }
    t.close(Fd(70)).unwrap();
    t.close(Fd(3)).unwrap();
    assert_eq!(t.close(Fd(3)), Err(Errno::EBADF));
    assert_eq!(t.dup(Fd(0), 1024).unwrap(), Fd(3));
    assert_eq!(t.dup_from(Fd(0), 10, 1024, FdFlags::CLOEXEC).unwrap(), Fd(70));
    assert_eq!(t.flags(Fd(70)).unwrap(), FdFlags::CLOEXEC);
    assert_eq!(t.dup_to(Fd(0), Fd(500), 1024, FdFlags::empty()).unwrap(), Fd(500));
    assert_eq!(t.dup_to(Fd(0), Fd(1024), 1024, FdFlags::empty()), Err(Errno::EBADF));
    assert_eq!(t.dup(Fd(0), 200), Err(Errno::EMFILE));
    let held = t.reserve(1024, FdFlags::empty()).unwrap();
    assert_eq!(held.fd(), Fd(200));
    assert_eq!(t.dup_to(Fd(0), Fd(200), 1024, FdFlags::empty()), Err(Errno::EBUSY));
    assert!(t.get(Fd(200)).is_err());
    drop(held);
    let copy = t.copy(None).unwrap();
    copy.close_on_exec();
    assert!(copy.get(Fd(70)).is_err());
    copy.close_range(1, 499);
    assert_eq!(copy.count(), 2);
    assert!(copy.get(Fd(500)).is_ok());
    let shared = t.get(Fd(0)).unwrap();
    assert!(Arc::ptr_eq(&shared, &t.get(Fd(500)).unwrap()));
}

#[test]
fn pipes_move_bytes_and_end() {
    let w = World::new();
    let (r, wr) = pipe::pipe(&w.cred, 0).unwrap();
    assert_eq!(write(&wr, b"hello").unwrap(), 5);
    assert_eq!(write(&wr, b" world").unwrap(), 6);
    assert_eq!(read(&r, 3).unwrap(), b"hel");
    assert_eq!(read(&r, 100).unwrap(), b"lo world");
    r.set_flags(raw::O_NONBLOCK, raw::O_NONBLOCK);
    wr.set_flags(raw::O_NONBLOCK, raw::O_NONBLOCK);
    assert_eq!(read(&r, 1), Err(Errno::EAGAIN));
    let big = vec![7u8; 100_000];
    assert_eq!(write(&wr, &big).unwrap(), 65536);
    assert_eq!(write(&wr, b"x"), Err(Errno::EAGAIN));
    assert_eq!(poll::look(&wr), PollEvents::empty());
    assert_eq!(read(&r, 4096).unwrap().len(), 4096);
    assert!(poll::look(&wr).contains(PollEvents::OUT));
    assert_eq!(vfs::fcntl::pipe_size(&r).unwrap(), 65536);
    assert_eq!(vfs::fcntl::set_pipe_size(&r, &w.cred, 5000), Err(Errno::EBUSY));
    assert_eq!(vfs::fcntl::set_pipe_size(&r, &w.cred, 200_000).unwrap(), 262_144);
    drop(wr);
    assert!(poll::look(&r).contains(PollEvents::HUP | PollEvents::IN));
    assert_eq!(read(&r, 200_000).unwrap().len(), 61440);
    assert_eq!(read(&r, 1).unwrap(), b"");
    let (r, wr) = pipe::pipe(&w.cred, raw::O_DIRECT).unwrap();
    write(&wr, b"packet one").unwrap();
    write(&wr, b"two").unwrap();
    assert_eq!(read(&r, 3).unwrap(), b"pac");
    assert_eq!(read(&r, 100).unwrap(), b"two");
    drop(r);
    assert_eq!(write(&wr, b"x"), Err(Errno::EPIPE));
    assert!(poll::look(&wr).contains(PollEvents::ERR));
    assert!(String::from_utf8(wr.display_name(None).unwrap()).unwrap().starts_with("pipe:["));
}

#[test]
fn pipes_between_threads() {
    let w = World::new();
    let (r, wr) = pipe::pipe(&w.cred, 0).unwrap();
    const WRITERS: usize = 3;
    const EACH: usize = 4000;
    let threads: Vec<_> = (0..WRITERS)
        .map(|id| {
            let wr = wr.clone();
            thread::spawn(move || {
                for i in 0..EACH {
                    // Records of one size below PIPE_BUF arrive whole.
                    let record = [id as u8; 16].map(|b| b ^ (i & 0xff) as u8);
                    assert_eq!(write(&wr, &record).unwrap(), 16);
                }
            })
        })
        .collect();
    drop(wr);
    let mut all = Vec::new();
    loop {
        let part = read(&r, 1000).unwrap();
        if part.is_empty() {
            break;
        }
        all.extend(part);
    }
    for t in threads {
        t.join().unwrap();
    }
    assert_eq!(all.len(), WRITERS * EACH * 16);
    assert!(all.chunks(16).all(|record| record.iter().all(|b| *b == record[0])));
}

#[test]
fn fifos_wait_for_each_other() {
    let w = Arc::new(World::new());
    vfs::namei::mknod(&w.ctx(), vfs::At::Cwd, b"/fifo", raw::S_IFIFO | 0o666, Default::default()).unwrap();
    assert_eq!(w.open("/fifo", raw::O_WRONLY | raw::O_NONBLOCK).unwrap_err(), Errno::ENXIO);
    let other = w.clone();
    let writer = thread::spawn(move || {
        let file = other.open("/fifo", raw::O_WRONLY).unwrap();
        write(&file, b"through").unwrap();
    });
    let reader = w.open("/fifo", raw::O_RDONLY).unwrap();
    assert_eq!(read(&reader, 100).unwrap(), b"through");
    writer.join().unwrap();
    assert_eq!(read(&reader, 100).unwrap(), b"");
    let nonblocking = w.open("/fifo", raw::O_RDONLY | raw::O_NONBLOCK).unwrap();
    assert_eq!(poll::look(&nonblocking), PollEvents::empty());
}

#[test]
fn epoll_modes() {
    let w = World::new();
    let ep = epoll::epoll_create(&w.cred).unwrap();
    let event = eventfd::eventfd(&w.cred, 0, raw::EFD_NONBLOCK).unwrap();
    let collect = || {
        let mut got = Vec::new();
        epoll::epoll_wait(&ep, 10, false, None, &mut |events, data| {
            got.push((events, data));
            Ok(())
        })
        .unwrap();
        got
    };
    let ctl = |op, events| epoll::epoll_ctl(&ep, op, 5, &event, events, 42);
    assert_eq!(ctl(raw::EPOLL_CTL_MOD, 1), Err(Errno::ENOENT));
    ctl(raw::EPOLL_CTL_ADD, raw::EPOLLIN).unwrap();
    assert_eq!(ctl(raw::EPOLL_CTL_ADD, raw::EPOLLIN), Err(Errno::EEXIST));
    assert_eq!(collect(), []);
    write(&event, &1u64.to_ne_bytes()).unwrap();
    // Level: again and again.
    assert_eq!(collect(), [(1, 42)]);
    assert_eq!(collect(), [(1, 42)]);
    ctl(raw::EPOLL_CTL_MOD, raw::EPOLLIN | raw::EPOLLET).unwrap();
    assert_eq!(collect(), [(1, 42)]);
    assert_eq!(collect(), []);
    write(&event, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(collect(), [(1, 42)]);
    ctl(raw::EPOLL_CTL_MOD, raw::EPOLLIN | raw::EPOLLONESHOT).unwrap();
    assert_eq!(collect(), [(1, 42)]);
    write(&event, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(collect(), []);
    ctl(raw::EPOLL_CTL_MOD, raw::EPOLLIN | raw::EPOLLOUT).unwrap();
    assert_eq!(collect(), [(5, 42)]);
    assert_eq!(read(&event, 8).unwrap(), 3u64.to_ne_bytes());
    assert_eq!(collect(), [(4, 42)]);
    assert_eq!(ctl(raw::EPOLL_CTL_MOD, raw::EPOLLEXCLUSIVE | 1), Err(Errno::EINVAL));
    ctl(raw::EPOLL_CTL_DEL, 0).unwrap();
    assert_eq!(collect(), []);
    // Nesting, circles and depth.
    let outer = epoll::epoll_create(&w.cred).unwrap();
    epoll::epoll_ctl(&outer, raw::EPOLL_CTL_ADD, 1, &ep, raw::EPOLLIN, 1).unwrap();
    assert_eq!(epoll::epoll_ctl(&ep, raw::EPOLL_CTL_ADD, 1, &outer, raw::EPOLLIN, 1), Err(Errno::ELOOP));
    assert_eq!(epoll::epoll_ctl(&ep, raw::EPOLL_CTL_ADD, 1, &ep, raw::EPOLLIN, 1), Err(Errno::EINVAL));
    ctl(raw::EPOLL_CTL_ADD, raw::EPOLLOUT).unwrap();
    let mut seen = 0;
    epoll::epoll_wait(&outer, 1, false, None, &mut |_, data| {
        seen = data;
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, 1);
    // A closed file leaves the epoll.
    drop(event);
    assert_eq!(poll::look(&ep), PollEvents::empty());
    w.write("/f", "").unwrap();
    let regular = w.open("/f", 0).unwrap();
    assert_eq!(epoll::epoll_ctl(&ep, raw::EPOLL_CTL_ADD, 1, &regular, 1, 1), Err(Errno::EPERM));
}

#[test]
fn epoll_wakes_waiters() {
    let w = World::new();
    let ep = epoll::epoll_create(&w.cred).unwrap();
    let (r, wr) = pipe::pipe(&w.cred, 0).unwrap();
    epoll::epoll_ctl(&ep, raw::EPOLL_CTL_ADD, 1, &r, raw::EPOLLIN | raw::EPOLLET, 9).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let waiter = {
        let (ep, r, count) = (ep.clone(), r.clone(), count.clone());
        thread::spawn(move || {
            let mut ended = false;
            while !ended {
                epoll::epoll_wait(&ep, 8, true, None, &mut |events, _| {
                    ended |= events & raw::EPOLLHUP != 0;
                    Ok(())
                })
                .unwrap();
                r.set_flags(raw::O_NONBLOCK, raw::O_NONBLOCK);
                while let Ok(part) = read(&r, 64) {
                    if part.is_empty() {
                        break;
                    }
                    count.fetch_add(part.len(), Ordering::Relaxed);
                }
            }
        })
    };
    for _ in 0..2000 {
        write(&wr, b"abc").unwrap();
    }
    drop(wr);
    waiter.join().unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 6000);
}

#[test]
fn eventfd_and_timerfd() {
    let w = World::new();
    let event = eventfd::eventfd(&w.cred, 3, raw::EFD_SEMAPHORE | raw::EFD_NONBLOCK).unwrap();
    assert_eq!(read(&event, 8).unwrap(), 1u64.to_ne_bytes());
    assert_eq!(read(&event, 7), Err(Errno::EINVAL));
    assert_eq!(write(&event, &u64::MAX.to_ne_bytes()), Err(Errno::EINVAL));
    assert_eq!(write(&event, &(u64::MAX - 3).to_ne_bytes()).unwrap(), 8);
    assert_eq!(write(&event, &1u64.to_ne_bytes()), Err(Errno::EAGAIN));
    assert_eq!(poll::look(&event), PollEvents::IN);
    let timer = timerfd::timerfd_create(&w.cred, raw::CLOCK_MONOTONIC, raw::TFD_NONBLOCK).unwrap();
    assert_eq!(timerfd::timerfd_create(&w.cred, 99, 0).unwrap_err(), Errno::EINVAL);
    let ns = abi::time::Timespec::from_ns;
    let spec = abi::time::Itimerspec { value: ns(5_000_000), interval: ns(5_000_000) };
    assert_eq!(read(&timer, 8), Err(Errno::EAGAIN));
    timerfd::timerfd_settime(&timer, 0, &spec).unwrap();
    thread::sleep(Duration::from_millis(60));
    let ticks = u64::from_ne_bytes(read(&timer, 8).unwrap().try_into().unwrap());
    assert!((5..=100).contains(&ticks), "{ticks}");
    assert_eq!(timerfd::timerfd_gettime(&timer).unwrap().interval.nsec, 5_000_000);
    timer.set_flags(raw::O_NONBLOCK, 0);
    assert!(read(&timer, 8).is_ok());
    let old = timerfd::timerfd_settime(&timer, 0, &abi::time::Itimerspec::default()).unwrap();
    assert_eq!(old.interval.nsec, 5_000_000);
    assert_eq!(timerfd::timerfd_gettime(&timer).unwrap().value, ns(0));
}

#[test]
fn file_locks() {
    let w = Arc::new(World::new());
    w.write("/f", "0123456789").unwrap();
    let (a, b) = (w.open("/f", raw::O_RDWR).unwrap(), w.open("/f", raw::O_RDWR).unwrap());
    flock(&a, Some(LockKind::Read), IfBusy::Fail, 1).unwrap();
    flock(&b, Some(LockKind::Read), IfBusy::Fail, 1).unwrap();
    assert_eq!(flock(&a, Some(LockKind::Write), IfBusy::Fail, 1), Err(Errno::EAGAIN));
    drop(b);
    flock(&a, Some(LockKind::Write), IfBusy::Fail, 1).unwrap();
    let b = w.open("/f", raw::O_RDWR).unwrap();
    let waiting = {
        let b = b.clone();
        thread::spawn(move || flock(&b, Some(LockKind::Write), IfBusy::Wait, 1))
    };
    thread::sleep(Duration::from_millis(20));
    flock(&a, None, IfBusy::Fail, 1).unwrap();
    waiting.join().unwrap().unwrap();
    // Record locks: conflict, question, deadlock.
    let (t1, t2) = (FdTable::new(), FdTable::new());
    let owner = |t: &FdTable, f: &File| posix::owner_for(f, t.posix_owner(), false);
    let lock =
        |kind: u32, start, len| abi::fs::Flock { type_: kind as i16, start, len, ..Default::default() };
    let set = |t: &FdTable, f: &File, l, busy| posix::setlk(f, owner(t, f), &l, busy, 7);
    set(&t1, &a, lock(raw::F_WRLCK, 0, 10), IfBusy::Fail).unwrap();
    set(&t2, &b, lock(raw::F_WRLCK, 20, 10), IfBusy::Fail).unwrap();
    assert_eq!(set(&t2, &b, lock(raw::F_RDLCK, 5, 1), IfBusy::Fail), Err(Errno::EAGAIN));
    let mut probe = lock(raw::F_RDLCK, 5, 1);
    posix::getlk(&b, owner(&t2, &b), &mut probe).unwrap();
    assert_eq!((probe.type_ as u32, probe.start, probe.len, probe.pid), (raw::F_WRLCK, 0, 10, 7));
    let id1 = owner(&t1, &a);
    let blocked = {
        let a = a.clone();
        thread::spawn(move || posix::setlk(&a, id1, &lock(raw::F_WRLCK, 20, 1), IfBusy::Wait, 7))
    };
    thread::sleep(Duration::from_millis(50));
    assert_eq!(set(&t2, &b, lock(raw::F_WRLCK, 0, 1), IfBusy::Wait), Err(Errno::EDEADLK));
    set(&t2, &b, lock(raw::F_UNLCK, 0, 0), IfBusy::Fail).unwrap();
    blocked.join().unwrap().unwrap();
    // Closing any descriptor of the table drops its locks.
    a.close_one(t1.posix_owner()).unwrap();
    set(&t2, &b, lock(raw::F_WRLCK, 0, 0), IfBusy::Fail).unwrap();
}

#[test]
fn splices() {
    let w = World::new();
    let text: String = (0..30_000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    w.write("/in", &text).unwrap();
    let input = w.open("/in", 0).unwrap();
    let output = w.open("/out", raw::O_CREAT | raw::O_RDWR).unwrap();
    let (done, pos) = splice::sendfile(&output, &input, Some(100), 20_000).unwrap();
    assert_eq!((done, pos, input.pos()), (20_000, 20_100, 0));
    assert_eq!(w.read("/out").unwrap(), text[100..20_100]);
    let (r, wr) = pipe::pipe(&w.cred, 0).unwrap();
    let (done, _) = splice::splice(&input, None, &wr, None, 10_000, 0).unwrap();
    assert_eq!((done, input.pos()), (10_000, 10_000));
    let (r2, wr2) = pipe::pipe(&w.cred, 0).unwrap();
    assert_eq!(splice::tee(&r, &wr2, 5000, 0).unwrap(), 5000);
    assert_eq!(read(&r2, 9999).unwrap(), text.as_bytes()[..5000]);
    let sink = w.open("/sink", raw::O_CREAT | raw::O_RDWR).unwrap();
    let (done, _) = splice::splice(&r, None, &sink, None, 100_000, raw::SPLICE_F_NONBLOCK).unwrap();
    assert_eq!(done, 10_000);
    assert_eq!(w.read("/sink").unwrap(), text[..10_000]);
    let (done, a, b) = splice::copy_file_range(&input, Some(5), &sink, Some(10_000), 50, 0).unwrap();
    assert_eq!((done, a, b), (50, 55, 10_050));
    assert_eq!(w.read("/sink").unwrap()[10_000..], text[5..55]);
    assert_eq!(splice::splice(&input, None, &output, None, 1, 0), Err(Errno::EINVAL));
    assert_eq!(splice::copy_file_range(&sink, Some(0), &sink, Some(10), 50, 0).unwrap_err(), Errno::EINVAL);
}

#[test]
fn poller_waits() {
    let w = World::new();
    let (r, wr) = pipe::pipe(&w.cred, 0).unwrap();
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        write(&wr, b"x").unwrap();
        wr
    });
    let mut poller = vfs::Poller::new();
    let mut rounds = 0;
    while poller.check(&r, PollEvents::IN).is_empty() {
        poller.wait(None).unwrap();
        rounds += 1;
    }
    assert!(rounds >= 1);
    let _open = writer.join().unwrap();
    let mut poller = vfs::Poller::new();
    read(&r, 1).unwrap();
    assert!(poller.check(&r, PollEvents::IN).is_empty());
    let soon = sched::hrtimer::Deadline::after_ms(10);
    assert_eq!(poller.wait(Some(soon)), Err(Errno::ETIMEDOUT));
}

#[test]
fn seals() {
    let w = World::new();
    let f = tmpfs::memfd::memfd_create(&w.cred, b"name", 2).unwrap();
    write(&f, b"data").unwrap();
    assert_eq!(f.display_name(None).unwrap(), b"/memfd:name (deleted)");
    vfs::fcntl::add_seals(&f, raw::F_SEAL_GROW | raw::F_SEAL_SHRINK).unwrap();
    assert_eq!(write(&f, b"more"), Err(Errno::EPERM));
    assert_eq!(vfs::attr::ftruncate(&f, 2), Err(Errno::EPERM));
    vfs::fcntl::add_seals(&f, raw::F_SEAL_WRITE | raw::F_SEAL_SEAL).unwrap();
    f.set_pos(0);
    assert_eq!(write(&f, b"x"), Err(Errno::EPERM));
    assert_eq!(vfs::fcntl::add_seals(&f, raw::F_SEAL_EXEC), Err(Errno::EPERM));
    let plain = tmpfs::memfd::memfd_create(&w.cred, b"", 0).unwrap();
    assert_eq!(vfs::fcntl::get_seals(&plain).unwrap(), raw::F_SEAL_SEAL);
    w.write("/f", "").unwrap();
    assert_eq!(vfs::fcntl::get_seals(&w.open("/f", 0).unwrap()).unwrap(), raw::F_SEAL_SEAL);
}
