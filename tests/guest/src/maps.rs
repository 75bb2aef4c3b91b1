//! How /proc/PID/maps and /proc/PID/smaps are read: proc_pid_maps(5), proc_pid_smaps(5).

use crate::prelude::*;

tests![whole_entries, pieces_make_the_whole, any_place, areas_that_go];

const PAGE: usize = 4096;
const FILES: [&std::ffi::CStr; 2] = [c"/proc/self/maps", c"/proc/self/smaps"];

/// `count` areas of a page each, between pages that may not be touched. The first.
fn areas(count: usize) -> Result<usize, Errno> {
    let at = mmap(0, (2 * count + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)?;
    for n in 0..count {
        sys!(SYS_mprotect, at + (2 * n + 1) * PAGE, PAGE, PROT_READ | PROT_WRITE)?;
    }
    Ok(at + PAGE)
}

/// Room that reading does not change the areas of.
fn room() -> Result<&'static mut [u8], Errno> {
    const LEN: usize = 4 << 20;
    let at = mmap(0, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)?;
    // SAFETY: a mapping of that length, which is never taken away.
    Ok(unsafe { std::slice::from_raw_parts_mut(at as *mut u8, LEN) })
}

/// Reads to the end by `step` bytes; how many came.
fn read_by(fd: i32, to: &mut [u8], step: usize) -> Result<usize, Errno> {
    let mut done = 0;
    loop {
        let end = (done + step).min(to.len());
        let got = crate::sys::read(fd, &mut to[done..end])?;
        if got == 0 {
            return Ok(done);
        }
        done += got;
    }
}

fn whole_entries() -> Outcome {
    areas(300)?;
    let buffer = room()?;
    for file in FILES {
        let fd = open(file, O_RDONLY, 0)?;
        // As many entries as there is room for, none of them cut.
        for _ in 0..5 {
            let got = crate::sys::read(fd, &mut buffer[..PAGE])?;
            check!(got > PAGE / 2 && got <= PAGE, "{got}");
            check_eq!(buffer[got - 1], b'\n');
        }
        close(fd)?;
    }
    Ok(())
}

fn pieces_make_the_whole() -> Outcome {
    areas(200)?;
    let (whole, pieces) = (room()?, room()?);
    let fd = open(FILES[0], O_RDONLY, 0)?;
    // A read without room for an entry takes a part of it.
    for step in [1 << 20, PAGE, 333, 80, 7] {
        seek(fd, 0, SEEK_SET)?;
        let len = read_by(fd, whole, 1 << 20)?;
        check!(len > 200 * 40);
        seek(fd, 0, SEEK_SET)?;
        let got = read_by(fd, pieces, step)?;
        check!(whole[..len] == pieces[..got], "by {step}: {got} of {len}");
    }
    check_eq!(whole.iter().take_while(|byte| **byte != 0).filter(|byte| **byte == b'\n').count() > 400, true);
    Ok(())
}

fn any_place() -> Outcome {
    areas(100)?;
    let (whole, part) = (room()?, room()?);
    let fd = open(FILES[0], O_RDONLY, 0)?;
    let len = read_by(fd, whole, 1 << 20)?;
    for at in [0, 1, 5000, 77, 3000, len - 1, 2999] {
        let got = sys!(SYS_pread64, fd, part.as_mut_ptr(), 50, at)?;
        check!(got > 0 && whole[at..at + got] == part[..got], "{at}: {got}");
    }
    check_eq!(sys!(SYS_pread64, fd, part.as_mut_ptr(), 50, len)?, 0);
    check_eq!(sys!(SYS_pread64, fd, part.as_mut_ptr(), 50, 1usize << 40)?, 0);
    check_eq!(seek(fd, 100, SEEK_SET)?, 100);
    check_eq!(seek(fd, -60, SEEK_CUR)?, 40);
    let got = crate::sys::read(fd, &mut part[..30])?;
    check!(whole[40..40 + got] == part[..got]);
    check_err!(seek(fd, -1, SEEK_SET), EINVAL);
    check_err!(sys!(SYS_pread64, fd, 8, 50, 0), EFAULT);
    check_eq!(crate::sys::read(fd, &mut part[..0])?, 0);
    Ok(())
}

/// What was shown is not shown again, and what is left comes, whatever goes in between.
fn areas_that_go() -> Outcome {
    let first = areas(100)?;
    let buffer = room()?;
    let fd = open(FILES[0], O_RDONLY, 0)?;
    let start = |n: usize| format!("{:x}-", first + 2 * n * PAGE);
    let mut len = 0;
    while !String::from_utf8_lossy(&buffer[..len]).contains(&start(50)) {
        let got = crate::sys::read(fd, &mut buffer[len..len + 128])?;
        check!(got > 0);
        len += got;
    }
    munmap(first, 70 * 2 * PAGE)?;
    len += read_by(fd, &mut buffer[len..], PAGE)?;
    let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
    let seen = |n: usize| text.matches(&start(n)).count();
    check!((0..=50).all(|n| seen(n) == 1));
    check!((53..69).all(|n| seen(n) == 0));
    check!((71..100).all(|n| seen(n) == 1));
    Ok(())
}
