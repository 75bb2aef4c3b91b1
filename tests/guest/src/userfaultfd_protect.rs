//! userfaultfd(2): pages that are protected against stores.

use crate::prelude::*;
use crate::uffd::{
    F_FLAG_WP, F_WP_ASYNC, F_WP_SHMEM, F_WP_UNPOPULATED, MINOR, MISSING, PAGE, UNREGISTER, WAKE, WP, joined,
    map_fd, memfd, page_of, uffd, with,
};
use std::thread::spawn;

tests![write_protection, protects_what_is_not_there, protects_shared, protection_without_waiting,];

fn write_protection() -> Outcome {
    let uffd = uffd!(F_FLAG_WP);
    let at = map_anon(8 * PAGE)?;
    (0..4).for_each(|n| poke(at + n * PAGE, n as u8 + 1));
    uffd.register(at, 8 * PAGE, WP)?;
    poke(at, 1);
    uffd.protect(at, 8 * PAGE, 1)?;
    check_eq!((peek(at), peek(at + PAGE)), (1, 2));
    let writer = spawn(move || poke(at, 50));
    check_eq!(uffd.fault()?, (3, at));
    check_eq!(peek(at), 1);
    uffd.protect(at, PAGE, 0)?;
    joined(writer)?;
    check_eq!(peek(at), 50);
    poke(at + 1, 51);
    // Without being woken nobody goes on.
    let writer = spawn(move || poke(at + PAGE, 60));
    check_eq!(uffd.fault()?, (3, at + PAGE));
    uffd.protect(at + PAGE, PAGE, 2)?;
    sleep_ms(30);
    check_eq!(peek(at + PAGE), 2);
    uffd.range(WAKE, at + PAGE, PAGE)?;
    joined(writer)?;
    check_eq!(peek(at + PAGE), 60);
    // There was no page: nothing to protect.
    poke(at + 5 * PAGE, 1);
    check_err!(uffd.protect(at, PAGE, 3), EINVAL);
    check_err!(uffd.protect(at, PAGE, 4), EINVAL);
    check_err!(uffd.protect(at, 0, 1), EINVAL);
    check_err!(uffd.protect(at + 1, PAGE, 1), EINVAL);
    // mprotect does not undo it.
    sys!(SYS_mprotect, at + 2 * PAGE, PAGE, PROT_READ)?;
    sys!(SYS_mprotect, at + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE)?;
    let writer = spawn(move || poke(at + 2 * PAGE, 70));
    check_eq!(uffd.fault()?, (3, at + 2 * PAGE));
    uffd.protect(at + 2 * PAGE, PAGE, 0)?;
    joined(writer)?;
    // The end of the registration does.
    uffd.range(UNREGISTER, at, 8 * PAGE)?;
    poke(at + 3 * PAGE, 80);
    check_eq!((peek(at + 2 * PAGE), peek(at + 3 * PAGE)), (70, 80));
    // Pages that come with their protection.
    let fresh = map_anon(2 * PAGE)?;
    let source = page_of(5)?;
    uffd.register(fresh, 2 * PAGE, MISSING | WP)?;
    let reader = spawn(move || peek(fresh));
    check_eq!(uffd.fault()?, (0, fresh));
    uffd.copy(fresh, source, PAGE, 2)?;
    check_eq!(joined(reader)?, 5);
    let writer = spawn(move || poke(fresh, 6));
    check_eq!(uffd.fault()?, (3, fresh));
    uffd.protect(fresh, PAGE, 0)?;
    joined(writer)?;
    check_eq!(peek(fresh), 6);
    // Closing it does, too.
    uffd.protect(fresh, PAGE, 1)?;
    close(uffd.0)?;
    poke(fresh, 7);
    check_eq!(peek(fresh), 7);
    Ok(())
}

fn protects_what_is_not_there() -> Outcome {
    let uffd = uffd!(F_FLAG_WP | F_WP_UNPOPULATED);
    let at = map_anon(1024 * PAGE)?;
    uffd.register(at, 1024 * PAGE, WP)?;
    uffd.protect(at, 1024 * PAGE, 1)?;
    for page in [0, 511, 512, 1023] {
        let place = at + page * PAGE;
        let writer = spawn(move || poke(place, 3));
        check_eq!(uffd.fault()?, (3, place));
        uffd.protect(place, PAGE, 0)?;
        joined(writer)?;
        check_eq!(peek(place), 3);
    }
    // Reading does not end it.
    check_eq!(peek(at + 7 * PAGE), 0);
    let writer = spawn(move || poke(at + 7 * PAGE, 4));
    check_eq!(uffd.fault()?, (3, at + 7 * PAGE));
    uffd.protect(at + 7 * PAGE, PAGE, 0)?;
    joined(writer)?;
    // Dropping private pages does.
    sys!(SYS_madvise, at, 1024 * PAGE, MADV_DONTNEED)?;
    poke(at + 9 * PAGE, 1);
    check_eq!((peek(at + 7 * PAGE), peek(at + 9 * PAGE)), (0, 1));
    // A missing page is missing first.
    let both = map_anon(2 * PAGE)?;
    let source = page_of(6)?;
    uffd.register(both, 2 * PAGE, WP | MISSING)?;
    uffd.protect(both, 2 * PAGE, 1)?;
    let writer = spawn(move || poke(both, 4));
    check_eq!(uffd.fault()?, (1, both));
    uffd.copy(both, source, PAGE, 0)?;
    joined(writer)?;
    check_eq!((peek(both), peek(both + 1)), (4, 6));
    Ok(())
}

fn protects_shared() -> Outcome {
    let uffd = uffd!(F_FLAG_WP | F_WP_SHMEM);
    let fd = memfd(8 * PAGE)?;
    let at = map_fd(fd, 8 * PAGE, MAP_SHARED)?;
    let twin = map_fd(fd, 8 * PAGE, MAP_SHARED)?;
    poke(at, 1);
    poke(twin + PAGE, 2);
    uffd.register(at, 8 * PAGE, WP)?;
    uffd.protect(at, 8 * PAGE, 1)?;
    // Only through this mapping.
    poke(twin, 9);
    for page in [0, 1, 2] {
        let place = at + page * PAGE;
        let before = peek(place);
        let writer = spawn(move || poke(place, 30));
        check_eq!(uffd.fault()?, (3, place));
        check_eq!(peek(twin + page * PAGE), before);
        uffd.protect(place, PAGE, 0)?;
        joined(writer)?;
        check_eq!(peek(twin + page * PAGE), 30);
    }
    // The protection outlives the page.
    check_eq!(peek(at + 3 * PAGE), 0);
    sys!(SYS_madvise, at + 3 * PAGE, PAGE, MADV_DONTNEED)?;
    sys!(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE, PAGE)?;
    for page in [3, 4] {
        let place = at + page * PAGE;
        let writer = spawn(move || poke(place, 31));
        check_eq!(uffd.fault()?, (3, place));
        uffd.protect(place, PAGE, 0)?;
        joined(writer)?;
        check_eq!(peek(twin + page * PAGE), 31);
    }
    Ok(())
}

fn protection_without_waiting() -> Outcome {
    let uffd = uffd!(F_FLAG_WP | F_WP_ASYNC);
    let at = map_anon(4 * PAGE)?;
    poke(at, 1);
    uffd.register(at, 4 * PAGE, WP)?;
    uffd.protect(at, 4 * PAGE, 1)?;
    let written = |page: usize| -> Result<bool, Failure> {
        let fd = open(c"/proc/self/pagemap", O_RDONLY, 0)?;
        let mut word = 0u64;
        check_eq!(sys!(SYS_pread64, fd, &raw mut word, 8, (at / PAGE + page) * 8)?, 8);
        close(fd)?;
        Ok(word & 1 << 57 == 0)
    };
    check!(!written(0)? && !written(1)?);
    poke(at, 2);
    poke(at + PAGE, 3);
    check!(written(0)? && written(1)? && !written(2)?);
    check_eq!((peek(at), peek(at + PAGE)), (2, 3));
    check_eq!(peek(at + 2 * PAGE), 0);
    check!(!written(2)?);
    poke(at + 2 * PAGE, 3);
    check!(written(2)?);
    // Any memory can be watched so, a file's as well.
    let file = create(c"file", &[1; PAGE])?;
    let mapped = map_fd(file, PAGE, MAP_PRIVATE)?;
    uffd.register(mapped, PAGE, WP)?;
    check_err!(uffd.register(at, PAGE, MINOR), EINVAL);
    uffd.protect(mapped, PAGE, 1)?;
    poke(mapped, 2);
    check_eq!((peek(mapped), peek(mapped + 1)), (2, 1));
    Ok(())
}
