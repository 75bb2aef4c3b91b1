//! userfaultfd(2): fork, mremap(2), madvise(2) and munmap(2) of registered memory, and pages that move.

use crate::prelude::*;
use crate::uffd::{
    COPY, EVENT_FORK, EVENT_REMAP, EVENT_REMOVE, EVENT_UNMAP, F_FLAG_WP, F_FORK, F_MOVE, F_REMAP, F_REMOVE,
    F_UNMAP, MISSING, MOVE, PAGE, Uffd, WP, ZEROPAGE, joined, map_fd, memfd, page_of, uffd, vm_flags, with,
};
use std::thread::spawn;

tests![forks_without_event, fork_event, fork_unheard, remap_event, remove_event, unmap_event, moves_pages,];

fn forks_without_event() -> Outcome {
    let uffd = uffd!(F_FLAG_WP);
    let at = map_anon(4 * PAGE)?;
    poke(at, 1);
    uffd.register(at, 4 * PAGE, MISSING | WP)?;
    uffd.protect(at, PAGE, 1)?;
    // The child's memory is its own.
    let status = in_child(|| {
        poke(at, 2);
        poke(at + PAGE, 3);
        let clean = !vm_flags(at).unwrap_or_default().contains(" um ");
        i32::from(peek(at) != 2 || peek(at + PAGE) != 3 || !clean)
    })?;
    check_eq!(status, 0);
    // The parent's protection is still there.
    let writer = spawn(move || poke(at, 9));
    check_eq!(uffd.fault()?, (3, at));
    check_eq!(peek(at), 1);
    uffd.protect(at, PAGE, 0)?;
    joined(writer)?;
    check_eq!(peek(at), 9);
    Ok(())
}

fn fork_event() -> Outcome {
    let uffd = uffd!(F_FORK | F_FLAG_WP);
    let at = map_anon(4 * PAGE)?;
    let source = page_of(0x42)?;
    poke(at + 2 * PAGE, 1);
    uffd.register(at, 4 * PAGE, MISSING | WP)?;
    uffd.protect(at + 2 * PAGE, PAGE, 1)?;
    let parent = spawn(move || -> Result<i32, Errno> {
        let child = fork(|| {
            let value = peek(at);
            poke(at + 2 * PAGE, 8);
            i32::from(value != 0x42 || peek(at + 2 * PAGE) != 8)
        })?;
        wait_exit(child)
    });
    let msg = uffd.read()?;
    check_eq!((msg.event, msg.args[0] >> 32), (EVENT_FORK, 0));
    let child = Uffd(msg.args[0] as i32);
    check_eq!(fcntl(child.0, F_GETFL, 0)? as i32 & O_NONBLOCK, 0);
    check_eq!(child.fault()?, (0, at));
    child.copy(at, source, PAGE, 0)?;
    check_eq!(child.fault()?, (3, at + 2 * PAGE));
    child.protect(at + 2 * PAGE, PAGE, 0)?;
    check_eq!(joined(parent)?, Ok(0));
    check_err!(child.copy(at + PAGE, source, PAGE, 0), ESRCH);
    // The parent's page is still missing.
    uffd.copy(at, source, PAGE, 0)?;
    check_eq!(peek(at), 0x42);
    Ok(())
}

fn fork_unheard() -> Outcome {
    // Whoever forks and is not heard can be killed.
    let at = map_anon(4 * PAGE)?;
    let [ready, tell] = pipe(0)?;
    let forking = fork(|| {
        let Ok(Some(own)) = with(F_FORK) else { return 1 };
        if own.register(at + PAGE, PAGE, MISSING).is_err() {
            return 2;
        }
        let _ = write(tell, b"x");
        let _ = fork(|| 0);
        3
    })?;
    read_vec(ready, 1)?;
    check!(eventually(|| matches!(state(forking), Some('S' | 'D'))));
    kill(forking, SIGKILL)?;
    check_eq!(wait_exit(forking)?, -SIGKILL);
    Ok(())
}

fn remap_event() -> Outcome {
    let source = page_of(0x31)?;
    let moved = |at: usize, to: usize, flags: i32| {
        sys!(SYS_mremap, at, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to)
    };
    // Without the event the new place is an ordinary one.
    let plain = uffd!(F_FLAG_WP);
    let at = map_anon(2 * PAGE)?;
    poke(at, 5);
    plain.register(at, 2 * PAGE, MISSING | WP)?;
    plain.protect(at, PAGE, 1)?;
    let to = map_anon(4 * PAGE)?;
    moved(at, to, 0)?;
    check!(!vm_flags(to)?.contains(" um "));
    check_eq!((peek(to), peek(to + PAGE)), (5, 0));
    close(plain.0)?;
    let uffd = uffd!(F_REMAP);
    let at = map_anon(2 * PAGE)?;
    let to = map_anon(4 * PAGE)?;
    uffd.register(at, 2 * PAGE, MISSING)?;
    let mover = spawn(move || moved(at, to, 0));
    let msg = uffd.read()?;
    check_eq!((msg.event, msg.args), (EVENT_REMAP, [at as u64, to as u64, 2 * PAGE as u64]));
    check_eq!(joined(mover)?, Ok(to));
    check!(vm_flags(to)?.contains(" um "));
    let reader = spawn(move || peek(to));
    check_eq!(uffd.fault()?, (0, to));
    uffd.copy(to, source, PAGE, 0)?;
    check_eq!(joined(reader)?, 0x31);
    // With the old area left behind both are registered.
    let next = map_anon(2 * PAGE)?;
    let mover = spawn(move || moved(to, next, MREMAP_DONTUNMAP));
    let msg = uffd.read()?;
    check_eq!(msg.args, [to as u64, next as u64, 2 * PAGE as u64]);
    joined(mover)??;
    check!(vm_flags(to)?.contains(" um ") && vm_flags(next)?.contains(" um "));
    check_eq!(peek(next), 0x31);
    Ok(())
}

fn remove_event() -> Outcome {
    let uffd = uffd!(F_REMOVE);
    let at = map_anon(4 * PAGE)?;
    (0..4).for_each(|n| poke(at + n * PAGE, 1));
    uffd.register(at, 4 * PAGE, MISSING)?;
    let source = page_of(2)?;
    let dropper = spawn(move || sys!(SYS_madvise, at + PAGE, 2 * PAGE, MADV_DONTNEED));
    // While the event is unread pages cannot be put.
    check!(eventually(|| uffd.transfer(COPY, at, source, PAGE, 0).0 == Err(Errno(EAGAIN))));
    check_err!(uffd.fill(ZEROPAGE, at, PAGE, 0).0, EAGAIN);
    let msg = uffd.read()?;
    check_eq!((msg.event, &msg.args[..2]), (EVENT_REMOVE, &[(at + PAGE) as u64, (at + 3 * PAGE) as u64][..]));
    check_eq!(joined(dropper)?, Ok(0));
    let reader = spawn(move || peek(at + PAGE));
    check_eq!(uffd.fault()?, (0, at + PAGE));
    uffd.copy(at + PAGE, source, PAGE, 0)?;
    check_eq!(joined(reader)?, 2);
    check_eq!(peek(at + 3 * PAGE), 1);
    let fd = memfd(2 * PAGE)?;
    let shared = map_fd(fd, 2 * PAGE, MAP_SHARED)?;
    poke(shared, 1);
    uffd.register(shared, 2 * PAGE, MISSING)?;
    let dropper = spawn(move || sys!(SYS_madvise, shared, PAGE, MADV_REMOVE));
    let msg = uffd.read()?;
    check_eq!((msg.event, &msg.args[..2]), (EVENT_REMOVE, &[shared as u64, (shared + PAGE) as u64][..]));
    check_eq!(joined(dropper)?, Ok(0));
    let dropper = spawn(move || sys!(SYS_madvise, at, PAGE, MADV_FREE));
    check_eq!(uffd.read()?.event, EVENT_REMOVE);
    check_eq!(joined(dropper)?, Ok(0));
    Ok(())
}

fn unmap_event() -> Outcome {
    let uffd = uffd!(F_UNMAP);
    let at = map_anon(8 * PAGE)?;
    uffd.register(at + PAGE, 2 * PAGE, MISSING)?;
    let remover = spawn(move || munmap(at, 4 * PAGE));
    let msg = uffd.read()?;
    check_eq!((msg.event, &msg.args[..2]), (EVENT_UNMAP, &[at as u64, (at + 4 * PAGE) as u64][..]));
    check_eq!(joined(remover)?, Ok(()));
    // What is mapped over is unmapped.
    uffd.register(at + 4 * PAGE, 4 * PAGE, MISSING)?;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    let mapper = spawn(move || mmap(at + 5 * PAGE, PAGE, PROT_READ, flags, -1, 0));
    let msg = uffd.read()?;
    let want = [(at + 5 * PAGE) as u64, (at + 6 * PAGE) as u64];
    check_eq!((msg.event, &msg.args[..2]), (EVENT_UNMAP, &want[..]));
    check_eq!(joined(mapper)?, Ok(at + 5 * PAGE));
    // Nobody is told of what was not registered, and the end of a process waits for nobody.
    munmap(at + 5 * PAGE, PAGE)?;
    let status = in_child(|| {
        let Ok(Some(own)) = with(F_UNMAP) else { return 1 };
        i32::from(own.register(at + 6 * PAGE, PAGE, MISSING).is_err())
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn moves_pages() -> Outcome {
    let uffd = uffd!(F_MOVE);
    let dst = map_anon(8 * PAGE)?;
    let src = map_anon(8 * PAGE)?;
    (0..4).for_each(|n| poke(src + n * PAGE, n as u8 + 1));
    check_err!(uffd.transfer(MOVE, dst, src, PAGE, 0).0, EINVAL);
    uffd.register(dst, 8 * PAGE, MISSING)?;
    let reader = spawn(move || peek(dst));
    check_eq!(uffd.fault()?, (0, dst));
    check_eq!(uffd.transfer(MOVE, dst, src, 2 * PAGE, 0), (Ok(0), 2 * PAGE as i64));
    check_eq!(joined(reader)?, 1);
    check_eq!((peek(dst + PAGE), peek(src), peek(src + PAGE)), (2, 0, 0));
    poke(dst, 7);
    check_eq!(peek(dst), 7);
    check_eq!(uffd.transfer(MOVE, dst, src + 2 * PAGE, PAGE, 0), (Err(Errno(EEXIST)), -i64::from(EEXIST)));
    // Holes.
    check_eq!(
        uffd.transfer(MOVE, dst + 6 * PAGE, src + 6 * PAGE, PAGE, 0),
        (Err(Errno(ENOENT)), -i64::from(ENOENT))
    );
    check_eq!(
        uffd.transfer(MOVE, dst + 3 * PAGE, src + 3 * PAGE, 3 * PAGE, 0),
        (Err(Errno(EAGAIN)), PAGE as i64)
    );
    check_eq!(peek(dst + 3 * PAGE), 4);
    check_eq!(uffd.transfer(MOVE, dst + 4 * PAGE, src + 4 * PAGE, 2 * PAGE, 2), (Ok(0), 2 * PAGE as i64));
    // The page of zeros: it was read.
    check_eq!(peek(src + 7 * PAGE), 0);
    uffd.transfer(MOVE, dst + 7 * PAGE, src + 7 * PAGE, PAGE, 0).0?;
    check_eq!(peek(dst + 7 * PAGE), 0);
    // Bad requests.
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, PAGE, 4).0, EINVAL);
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE + 1, PAGE, 0).0, EINVAL);
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, 0, 0).0, EINVAL);
    let shared = map_shared(PAGE)?;
    poke(shared, 1);
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, shared, PAGE, 0).0, EINVAL);
    let hole = map_anon(PAGE)?;
    munmap(hole, PAGE)?;
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, hole, PAGE, 0).0, ENOENT);
    sys!(SYS_mprotect, src + 2 * PAGE, PAGE, PROT_READ)?;
    check_err!(uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, PAGE, 0).0, EINVAL);
    sys!(SYS_mprotect, src + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE)?;
    // A page that a child has too.
    let [go, tell] = pipe(0)?;
    let child = fork(|| {
        let _ = read_vec(go, 1);
        i32::from(peek(src + 2 * PAGE) != 3)
    })?;
    check_eq!(
        uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, PAGE, 0),
        (Err(Errno(EBUSY)), -i64::from(EBUSY))
    );
    write(tell, b"x")?;
    check_eq!(wait_exit(child)?, 0);
    poke(src + 2 * PAGE, 9);
    uffd.transfer(MOVE, dst + 2 * PAGE, src + 2 * PAGE, PAGE, 0).0?;
    check_eq!(peek(dst + 2 * PAGE), 9);
    // The moved page is one like any other.
    check_eq!(
        in_child(|| {
            poke(dst + 2 * PAGE, 1);
            i32::from(peek(dst + 2 * PAGE) != 1)
        })?,
        0
    );
    check_eq!(peek(dst + 2 * PAGE), 9);
    Ok(())
}
