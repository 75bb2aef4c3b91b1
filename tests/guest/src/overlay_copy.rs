//! The overlay file system: what is copied to the upper layer, and when; open files, attributes, inode numbers, locks, events.

use crate::mounts::{alone, mount, umount};
use crate::overlay::{USUAL, cs, get_xattr, layers, names, over, remounted, set_xattr, text};
use crate::prelude::*;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink as link_to};

tests![
    open_for_writing_copies,
    looking_copies_nothing,
    attributes_copy,
    what_is_copied,
    holes_and_sizes,
    other_kinds_of_files,
    directories_above,
    truncation,
    hard_links_are_broken,
    links_in_the_upper_layer,
    open_files_see_the_copy,
    mapped_files,
    unlinked_while_open,
    set_id_bits_fall_away,
    numbers_stay,
    numbers_of_several_file_systems,
    mapped_numbers,
    callers_need_rights,
    mounter_needs_rights,
    access_lists,
    immutable_files,
    access_times,
    locks_are_of_the_overlay,
    leases,
    events,
    transfers,
    programs_run,
    pipes_and_sockets,
];

fn upper_has(name: &str) -> bool {
    fs::symlink_metadata(format!("t/u/{name}")).is_ok()
}

fn open_for_writing_copies() -> Outcome {
    layers(|| {
        for name in ["a", "b", "c", "d"] {
            fs::write(format!("t/l/{name}"), name.repeat(5000))?;
        }
        over(USUAL)?;
        for (name, flags) in [(c"m/a", O_WRONLY), (c"m/b", O_RDWR), (c"m/c", O_WRONLY | O_APPEND)] {
            close(open(name, flags, 0)?)?;
        }
        for name in ["a", "b", "c"] {
            check_eq!(text(&format!("t/u/{name}"))?, name.repeat(5000));
        }
        // Also if nobody writes in the end.
        let fd = open(c"m/d", O_RDWR, 0)?;
        sys!(SYS_pwrite64, fd, c"xyz".as_ptr(), 3, 1)?;
        check_eq!(text("m/d")?.get(..5), Some("dxyzd"));
        check_eq!(text("t/l/d")?, "d".repeat(5000));
        check_eq!(fstat(fd)?.st_size, 5000);
        let fd = open(c"m/d", O_WRONLY | O_APPEND, 0)?;
        write(fd, b"end")?;
        check_eq!(fs::metadata("m/d")?.len(), 5003);
        check_eq!(seek(fd, 0, SEEK_END)?, 5003);
        check_eq!(fs::metadata("t/l/d")?.len(), 5000);
        Ok(())
    })
}

fn looking_copies_nothing() -> Outcome {
    layers(|| {
        fs::create_dir("t/l/d")?;
        fs::write("t/l/d/f", "f")?;
        set_xattr("t/l/d/f", "user.a", "1")?;
        over(USUAL)?;
        check_eq!(text("m/d/f")?, "f");
        check_eq!(names("m/d")?, ["f"]);
        check_eq!(get_xattr("m/d/f", "user.a")?, b"1");
        check_err!(get_xattr("m/d/f", "user.b"), ENODATA);
        check!(sys!(SYS_faccessat, CWD, c"m/d/f".as_ptr(), W_OK).is_ok());
        check_err!(open(c"m/d/f", O_CREAT | O_EXCL | O_WRONLY, 0o644), EEXIST);
        close(open(c"m/d/f", O_CREAT | O_RDONLY, 0o644)?)?;
        close(open(c"m/d/f", O_PATH, 0)?)?;
        check_err!(mkdir(c"m/d", 0o755), EEXIST);
        check_eq!(names("t/u")?, Vec::<String>::new());
        Ok(())
    })
}

fn attributes_copy() -> Outcome {
    layers(|| {
        for name in ["mode", "owner", "times", "xattr", "gone", "link"] {
            fs::write(format!("t/l/{name}"), name)?;
        }
        set_xattr("t/l/gone", "user.x", "1")?;
        over(USUAL)?;
        sys!(SYS_fchmodat, CWD, c"m/mode".as_ptr(), 0o4711)?;
        check_eq!(fs::metadata("t/u/mode")?.mode() & 0o7777, 0o4711);
        check_eq!(fs::metadata("m/mode")?.mode() & 0o7777, 0o4711);
        sys!(SYS_fchownat, CWD, c"m/owner".as_ptr(), 12, 34, 0)?;
        check_eq!((fs::metadata("m/owner")?.uid(), fs::metadata("t/u/owner")?.gid()), (12, 34));
        let times = [timespec { tv_sec: 11, tv_nsec: 22 }, timespec { tv_sec: 33, tv_nsec: 44 }];
        sys!(SYS_utimensat, CWD, c"m/times".as_ptr(), times.as_ptr(), 0)?;
        let seen = fs::metadata("m/times")?;
        check_eq!((seen.atime(), seen.mtime(), seen.mtime_nsec()), (11, 33, 44));
        check_eq!(fs::metadata("t/u/times")?.mtime(), 33);
        set_xattr("m/xattr", "user.y", "2")?;
        check_eq!(get_xattr("t/u/xattr", "user.y")?, b"2");
        sys!(SYS_lremovexattr, c"m/gone".as_ptr(), c"user.x".as_ptr())?;
        check_err!(get_xattr("m/gone", "user.x"), ENODATA);
        check_eq!(get_xattr("t/l/gone", "user.x")?, b"1");
        fs::hard_link("m/link", "m/link2")?;
        check_eq!(fs::metadata("m/link")?.nlink(), 2);
        for name in ["mode", "owner", "times", "xattr", "gone", "link", "link2"] {
            check_eq!(text(&format!("t/u/{name}"))?, name.trim_end_matches('2'));
        }
        check_eq!(fs::metadata("t/l/mode")?.mode() & 0o7777, 0o644);
        Ok(())
    })
}

fn what_is_copied() -> Outcome {
    layers(|| {
        fs::write("t/l/f", "contents")?;
        sys!(SYS_fchownat, CWD, c"t/l/f".as_ptr(), 12, 34, 0)?;
        sys!(SYS_fchmodat, CWD, c"t/l/f".as_ptr(), 0o2754)?;
        set_xattr("t/l/f", "user.a", "1")?;
        set_xattr("t/l/f", "trusted.b", "2")?;
        set_xattr("t/l/f", "security.c", "3")?;
        let times = [timespec { tv_sec: 1000, tv_nsec: 1 }, timespec { tv_sec: 2000, tv_nsec: 2 }];
        sys!(SYS_utimensat, CWD, c"t/l/f".as_ptr(), times.as_ptr(), 0)?;
        sys!(SYS_utimensat, CWD, c"t/u".as_ptr(), times.as_ptr(), 0)?;
        over(USUAL)?;
        let before = fs::metadata("m/f")?;
        let fd = open(c"m/f", O_WRONLY, 0)?;
        let after = fs::metadata("m/f")?;
        check!(upper_has("f"));
        check_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), 12, 34));
        check_eq!((after.mtime(), after.mtime_nsec(), after.atime()), (2000, 2, 1000));
        check_eq!(after.ino(), before.ino());
        check_eq!(fstat(fd)?.st_ino, before.ino());
        for (name, value) in [("user.a", b"1"), ("trusted.b", b"2"), ("security.c", b"3")] {
            check_eq!(get_xattr("t/u/f", name)?, value);
        }
        // The directory looks as if nothing had been made in it.
        check_eq!(fs::metadata("m")?.mtime(), 2000);
        fs::write("m/new", "")?;
        check!(fs::metadata("m")?.mtime() > 2000);
        Ok(())
    })
}

fn holes_and_sizes() -> Outcome {
    layers(|| {
        let file = fs::File::create("t/l/f")?;
        file.write_all_at(b"begin", 0)?;
        file.write_all_at(b"middle", 5 << 20)?;
        file.set_len(16 << 20)?;
        fs::File::create("t/l/empty")?;
        fs::File::create("t/l/hole")?.set_len(123_456)?;
        let big: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
        fs::write("t/l/big", &big)?;
        over(USUAL)?;
        for name in ["f", "empty", "hole", "big"] {
            fs::OpenOptions::new().write(true).open(format!("m/{name}"))?;
            check!(upper_has(name));
        }
        let copy = fs::metadata("t/u/f")?;
        check_eq!(copy.len(), 16 << 20);
        check!(copy.blocks() <= 8192, "{}", copy.blocks());
        let mut part = [0; 8];
        fs::File::open("m/f")?.read_exact_at(&mut part, (5 << 20) - 1)?;
        check_eq!(&part, b"\0middle\0");
        check_eq!(fs::metadata("m/hole")?.len(), 123_456);
        check_eq!(fs::metadata("m/hole")?.blocks(), 0);
        check_eq!(fs::metadata("m/empty")?.len(), 0);
        check!(fs::read("m/big")? == big);
        // Holes are found through the overlay.
        let fd = open(c"m/f", O_RDONLY, 0)?;
        check_eq!(seek(fd, 2 << 20, SEEK_DATA)?, 5 << 20);
        check!(seek(fd, 0, SEEK_HOLE)? < 2 << 20);
        check_err!(seek(fd, 16 << 20, SEEK_DATA), ENXIO);
        Ok(())
    })
}

fn other_kinds_of_files() -> Outcome {
    layers(|| {
        link_to("nowhere", "t/l/link")?;
        sys!(SYS_mknodat, CWD, c"t/l/fifo".as_ptr(), S_IFIFO | 0o644, 0)?;
        sys!(SYS_mknodat, CWD, c"t/l/null".as_ptr(), S_IFCHR | 0o644, 0x103)?;
        sys!(SYS_mknodat, CWD, c"t/l/socket".as_ptr(), S_IFSOCK | 0o644, 0)?;
        over(USUAL)?;
        // Devices and pipes are written to without being changed.
        let fd = open(c"m/null", O_WRONLY, 0)?;
        check_eq!(write(fd, b"x")?, 1);
        check!(!upper_has("null"));
        for name in ["link", "fifo", "null", "socket"] {
            let path = cs(&format!("m/{name}"));
            sys!(SYS_fchownat, CWD, path.as_ptr(), 5, 6, AT_SYMLINK_NOFOLLOW)?;
            let copy = fs::symlink_metadata(format!("t/u/{name}"))?;
            check_eq!((copy.uid(), copy.gid()), (5, 6));
            check_eq!(copy.mode(), fs::symlink_metadata(format!("t/l/{name}"))?.mode());
        }
        check_eq!(fs::read_link("t/u/link")?.to_string_lossy(), "nowhere");
        check_eq!(fs::read_link("m/link")?.to_string_lossy(), "nowhere");
        check!(fs::symlink_metadata("t/u/fifo")?.file_type().is_fifo());
        check_eq!(fs::symlink_metadata("t/u/null")?.rdev(), 0x103);
        sys!(SYS_mknodat, CWD, c"m/zero".as_ptr(), S_IFCHR | 0o644, 0x105)?;
        check_eq!(fs::metadata("t/u/zero")?.rdev(), 0x105);
        let mut byte = [1];
        fs::File::open("m/zero")?.read_exact_at(&mut byte, 0)?;
        check_eq!(byte, [0]);
        Ok(())
    })
}

fn directories_above() -> Outcome {
    layers(|| {
        fs::create_dir_all("t/l/a/b/c")?;
        fs::write("t/l/a/b/c/f", "f")?;
        fs::write("t/l/a/b/other", "")?;
        sys!(SYS_fchmodat, CWD, c"t/l/a".as_ptr(), 0o1751)?;
        sys!(SYS_fchownat, CWD, c"t/l/a/b".as_ptr(), 7, 8, 0)?;
        set_xattr("t/l/a/b/c", "user.a", "1")?;
        let times = [timespec { tv_sec: 1000, tv_nsec: 1 }, timespec { tv_sec: 2000, tv_nsec: 2 }];
        sys!(SYS_utimensat, CWD, c"t/l/a".as_ptr(), times.as_ptr(), 0)?;
        over(USUAL)?;
        let before = fs::metadata("m/a/b")?;
        fs::write("m/a/b/c/f", "changed")?;
        check_eq!(fs::metadata("t/u/a")?.mode() & 0o7777, 0o1751);
        check_eq!(fs::metadata("t/u/a")?.mtime(), 2000);
        check_eq!((fs::metadata("t/u/a/b")?.uid(), fs::metadata("t/u/a/b")?.gid()), (7, 8));
        check_eq!(get_xattr("t/u/a/b/c", "user.a")?, b"1");
        check_eq!(names("t/u/a/b")?, ["c"]);
        check_eq!(names("m/a/b")?, ["c", "other"]);
        check_eq!(fs::metadata("m/a/b")?.ino(), before.ino());
        check_eq!(text("t/l/a/b/c/f")?, "f");
        remounted(USUAL)?;
        check_eq!(text("m/a/b/c/f")?, "changed");
        check_eq!(fs::metadata("m/a/b")?.ino(), before.ino());
        Ok(())
    })
}

fn truncation() -> Outcome {
    layers(|| {
        for name in ["open", "path", "grow", "fd", "zero"] {
            fs::write(format!("t/l/{name}"), "0123456789")?;
        }
        over(USUAL)?;
        close(open(c"m/open", O_WRONLY | O_TRUNC, 0)?)?;
        check_eq!((text("m/open")?, text("t/u/open")?), (String::new(), String::new()));
        sys!(SYS_truncate, c"m/path".as_ptr(), 4)?;
        check_eq!((text("m/path")?, text("t/u/path")?), ("0123".into(), "0123".into()));
        sys!(SYS_truncate, c"m/grow".as_ptr(), 12)?;
        check_eq!(text("m/grow")?, "0123456789\0\0");
        let fd = open(c"m/fd", O_RDWR, 0)?;
        sys!(SYS_ftruncate, fd, 2)?;
        check_eq!((text("m/fd")?, fstat(fd)?.st_size), ("01".into(), 2));
        sys!(SYS_truncate, c"m/zero".as_ptr(), 0)?;
        check_eq!(fs::metadata("m/zero")?.len(), 0);
        // Read-only and yet truncating.
        let fd = open(c"m/path", O_RDONLY | O_TRUNC, 0)?;
        check_eq!(fstat(fd)?.st_size, 0);
        sys!(SYS_fallocate, open(c"m/path", O_WRONLY, 0)?, 0, 0, 8192)?;
        check_eq!(fs::metadata("m/path")?.len(), 8192);
        check_eq!(text("t/l/path")?, "0123456789");
        check_err!(sys!(SYS_truncate, c"m".as_ptr(), 0), EISDIR);
        Ok(())
    })
}

fn hard_links_are_broken() -> Outcome {
    layers(|| {
        fs::write("t/l/a", "one")?;
        fs::hard_link("t/l/a", "t/l/b")?;
        over(USUAL)?;
        check_eq!(fs::metadata("m/a")?.nlink(), 2);
        check_eq!(fs::metadata("m/a")?.ino(), fs::metadata("m/b")?.ino());
        fs::write("m/a", "two")?;
        check_eq!((text("m/a")?, text("m/b")?), ("two".into(), "one".into()));
        check_eq!(fs::metadata("m/a")?.nlink(), 1);
        check!(fs::metadata("m/a")?.ino() != fs::metadata("m/b")?.ino());
        fs::write("m/b", "three")?;
        check_eq!((text("m/a")?, text("m/b")?), ("two".into(), "three".into()));
        fs::remove_file("m/a")?;
        check_eq!(text("m/b")?, "three");
        Ok(())
    })
}

fn links_in_the_upper_layer() -> Outcome {
    layers(|| {
        fs::write("t/l/low", "low")?;
        over(USUAL)?;
        fs::write("m/a", "a")?;
        fs::hard_link("m/a", "m/b")?;
        fs::hard_link("m/low", "m/low2")?;
        fs::write("m/b", "changed")?;
        fs::write("m/low2", "changed")?;
        check_eq!((text("m/a")?, text("m/low")?), ("changed".into(), "changed".into()));
        check_eq!(fs::metadata("m/a")?.ino(), fs::metadata("m/b")?.ino());
        check_eq!(fs::metadata("m/low")?.ino(), fs::metadata("m/low2")?.ino());
        let fd = open(c"m/a", O_RDONLY, 0)?;
        fs::remove_file("m/a")?;
        check_eq!((fstat(fd)?.st_nlink, fs::metadata("m/b")?.nlink()), (1, 1));
        fs::remove_file("m/b")?;
        check_eq!(fstat(fd)?.st_nlink, 0);
        check_eq!(read_vec(fd, 100)?, b"changed");
        close(fd)?;
        // Both names are one inode: what one changes the other shows.
        remounted(USUAL)?;
        sys!(SYS_fchmodat, CWD, c"m/low".as_ptr(), 0o600)?;
        check_eq!(fs::metadata("m/low2")?.mode() & 0o777, 0o600);
        check_err!(sys!(SYS_linkat, CWD, c"m/low".as_ptr(), CWD, c"m/low2".as_ptr(), 0), EEXIST);
        check_err!(sys!(SYS_linkat, CWD, c"t/u/low".as_ptr(), CWD, c"m/x".as_ptr(), 0), EXDEV);
        Ok(())
    })
}

fn open_files_see_the_copy() -> Outcome {
    layers(|| {
        fs::write("t/l/f", "lower")?;
        over(USUAL)?;
        let old = open(c"m/f", O_RDONLY, 0)?;
        check_eq!(read_vec(old, 3)?, b"low");
        let new = open(c"m/f", O_WRONLY, 0)?;
        sys!(SYS_pwrite64, new, c"UPPER!".as_ptr(), 6, 0)?;
        // It goes on in the copy, where it was.
        check_eq!(read_vec(old, 10)?, b"ER!");
        check_eq!((fstat(old)?.st_size, fstat(old)?.st_ino), (6, fstat(new)?.st_ino));
        check_eq!(seek(old, 0, SEEK_END)?, 6);
        sys!(SYS_fchmod, old, 0o600)?;
        check_eq!(fs::metadata("t/u/f")?.mode() & 0o777, 0o600);
        check_eq!(text("t/l/f")?, "lower");
        Ok(())
    })
}

fn mapped_files() -> Outcome {
    layers(|| {
        fs::write("t/l/f", "lower")?;
        over(USUAL)?;
        let old = open(c"m/f", O_RDONLY, 0)?;
        let at = mmap(0, 4096, PROT_READ, MAP_SHARED, old, 0)?;
        check_eq!(peek(at), b'l');
        let maps = text("/proc/self/maps")?;
        let line = maps.lines().find(|line| line.ends_with("/m/f")).unwrap_or_default();
        check!(line.contains(&format!(" {} ", stat(c"m/f")?.st_ino)), "{line}");
        let new = open(c"m/f", O_RDWR, 0)?;
        sys!(SYS_pwrite64, new, c"UPPER".as_ptr(), 5, 0)?;
        // What was mapped from the lower layer stays that.
        check_eq!(peek(at), b'l');
        let map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, new, 0)?;
        check_eq!(peek(map), b'U');
        poke(map + 1, b'x');
        check_eq!(text("m/f")?, "UxPER");
        check_eq!(text("t/u/f")?, "UxPER");
        sys!(SYS_msync, map, 4096, MS_SYNC)?;
        munmap(map, 4096)?;
        close(new)?;
        let fd = open(c"m/f", O_RDONLY, 0)?;
        check_err!(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
        let private = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0)?;
        poke(private, b'p');
        check_eq!(text("m/f")?, "UxPER");
        let dir = open(c"m", O_RDONLY, 0)?;
        check_err!(mmap(0, 4096, PROT_READ, MAP_SHARED, dir, 0), ENODEV);
        Ok(())
    })
}

fn unlinked_while_open() -> Outcome {
    layers(|| {
        for name in ["low", "moved"] {
            fs::write(format!("t/l/{name}"), name)?;
        }
        over(USUAL)?;
        fs::write("m/up", "up")?;
        for (path, what) in [(c"m/low", "low"), (c"m/up", "up")] {
            let fd = open(path, O_RDONLY, 0)?;
            unlink(path)?;
            check_eq!(read_vec(fd, 10)?, what.as_bytes());
            let name = fs::read_link(format!("/proc/self/fd/{fd}"))?;
            check!(name.to_string_lossy().ends_with(" (deleted)"), "{name:?}");
            close(fd)?;
        }
        let fd = open(c"m/moved", O_RDWR, 0)?;
        fs::rename("m/moved", "m/elsewhere")?;
        unlink(c"m/elsewhere")?;
        check_eq!(write(fd, b"written")?, 7);
        check_eq!(sys!(SYS_pread64, fd, [0u8; 9].as_mut_ptr(), 9, 0)?, 7);
        check_eq!(fstat(fd)?.st_nlink, 0);
        check_eq!(names("m")?, Vec::<String>::new());
        // Its space is free when it is closed.
        let big = open(c"m/big", O_CREAT | O_RDWR, 0o600)?;
        let mut before: statfs = zeroed();
        sys!(SYS_statfs, c"t".as_ptr(), addr_mut(&mut before))?;
        sys!(SYS_fallocate, big, 0, 0, 1 << 20)?;
        unlink(c"m/big")?;
        close(big)?;
        check!(eventually(|| {
            let mut now: statfs = zeroed();
            let _ = sys!(SYS_statfs, c"t".as_ptr(), addr_mut(&mut now));
            now.f_bfree >= before.f_bfree
        }));
        Ok(())
    })
}

fn set_id_bits_fall_away() -> Outcome {
    layers(|| {
        fs::write("t/l/f", "f")?;
        sys!(SYS_fchmodat, CWD, c"t/l/f".as_ptr(), 0o6777)?;
        over(USUAL)?;
        let status = in_child(|| {
            let done = sys!(SYS_setresuid, 1000, 1000, 1000)
                .and_then(|_| open(c"m/f", O_WRONLY, 0))
                .and_then(|fd| write(fd, b"x"));
            i32::from(done.is_err())
        })?;
        check_eq!(status, 0);
        check_eq!(fs::metadata("m/f")?.mode() & 0o7777, 0o777);
        check_eq!(fs::metadata("t/u/f")?.mode() & 0o7777, 0o777);
        Ok(())
    })
}

fn numbers_stay() -> Outcome {
    layers(|| {
        fs::create_dir("t/l/d")?;
        fs::write("t/l/f", "f")?;
        over(USUAL)?;
        fs::write("m/new", "")?;
        let dev = fs::metadata("m")?.dev();
        check!(dev != fs::metadata("t")?.dev());
        let numbers = || -> std::io::Result<Vec<u64>> {
            ["m", "m/d", "m/f", "m/new"].iter().map(|path| Ok(fs::metadata(path)?.ino())).collect()
        };
        for path in ["m/d", "m/f", "m/new"] {
            check_eq!(fs::metadata(path)?.dev(), dev);
        }
        let before = numbers()?;
        check_eq!(before.get(2), Some(&fs::metadata("t/l/f")?.ino()));
        fs::write("m/f", "changed")?;
        fs::write("m/d/in", "")?;
        check!(fs::metadata("t/u/f")?.ino() != fs::metadata("m/f")?.ino());
        check_eq!(numbers()?, before);
        fs::rename("m/f", "m/g")?;
        check_eq!(Some(&fs::metadata("m/g")?.ino()), before.get(2));
        fs::rename("m/g", "m/f")?;
        remounted(USUAL)?;
        check_eq!(numbers()?, before);
        Ok(())
    })
}

/// Layers on three file systems.
fn apart(options: &str, body: impl FnOnce() -> Outcome) -> Outcome {
    alone(|| {
        for dir in ["t", "l", "l2", "m"] {
            fs::create_dir(dir)?;
        }
        for dir in [c"t", c"l", c"l2"] {
            mount(c"none", dir, c"tmpfs", 0, c"")?;
        }
        fs::create_dir("t/u")?;
        fs::create_dir("t/w")?;
        for dir in ["l/d", "l2/d", "l2/e"] {
            fs::create_dir(dir)?;
        }
        for file in ["t/u/up", "l/f", "l2/g"] {
            fs::write(file, file)?;
        }
        over(&format!("lowerdir=l:l2,upperdir=t/u,workdir=t/w,{options}"))?;
        body()
    })
}

fn numbers_of_several_file_systems() -> Outcome {
    apart("xino=off", || {
        let dev = fs::metadata("m")?.dev();
        for path in ["m/d", "m/e"] {
            check_eq!(fs::metadata(path)?.dev(), dev);
        }
        // Files have the numbers of their file systems, and a device number that nobody else has.
        let (f, g, up) = (fs::metadata("m/f")?, fs::metadata("m/g")?, fs::metadata("m/up")?);
        check_eq!(f.ino(), fs::metadata("l/f")?.ino());
        check!(f.dev() != dev && f.dev() != fs::metadata("l")?.dev() && f.dev() != g.dev());
        check_eq!(up.ino(), fs::metadata("t/u/up")?.ino());
        check!(up.dev() != dev && up.dev() != fs::metadata("t")?.dev() && up.dev() != f.dev());
        let d = fs::metadata("m/d")?;
        fs::write("m/f", "changed")?;
        fs::write("m/d/in", "")?;
        check_eq!((fs::metadata("m/f")?.dev(), fs::metadata("m/f")?.ino()), (f.dev(), f.ino()));
        check_eq!((fs::metadata("m/d")?.dev(), fs::metadata("m/d")?.ino()), (d.dev(), d.ino()));
        Ok(())
    })
}

fn mapped_numbers() -> Outcome {
    apart("xino=on", || {
        let dev = fs::metadata("m")?.dev();
        let mut seen = std::collections::BTreeSet::new();
        for path in ["m", "m/d", "m/e", "m/f", "m/g", "m/up"] {
            let found = fs::metadata(path)?;
            check_eq!(found.dev(), dev);
            check!(seen.insert(found.ino()), "{path} {}", found.ino());
        }
        let bits = fs::metadata("m/f")?.ino() ^ fs::metadata("l/f")?.ino();
        check!(bits != 0 && bits.trailing_zeros() >= 60, "{bits:x}");
        let before = fs::metadata("m/f")?.ino();
        fs::write("m/f", "changed")?;
        check_eq!(fs::metadata("m/f")?.ino(), before);
        for entry in fs::read_dir("m")? {
            use std::os::unix::fs::DirEntryExt;
            let entry = entry?;
            check_eq!(entry.ino(), fs::metadata(entry.path())?.ino());
        }
        let shown = text("/proc/self/mounts")?;
        check!(
            shown.lines().any(|line| line.starts_with("overlay ") && line.contains(",xino=on")),
            "{shown}"
        );
        Ok(())
    })
}

/// Runs `body` in a child as user and group 1000 without privileges; what it returns are the numbers of failed checks.
fn as_user(body: impl FnOnce() -> crate::sys::Result<bool>) -> Outcome {
    let status = in_child(|| {
        let enter = sys!(SYS_setgroups, 0, 0)
            .and_then(|_| sys!(SYS_setresgid, 1000, 1000, 1000))
            .and_then(|_| sys!(SYS_setresuid, 1000, 1000, 1000));
        match enter.and_then(|_| body()) {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(Errno(errno)) => errno,
        }
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn callers_need_rights() -> Outcome {
    layers(|| {
        fs::create_dir("t/l/secret")?;
        fs::create_dir("t/l/open")?;
        fs::write("t/l/secret/f", "")?;
        fs::write("t/l/private", "private")?;
        fs::write("t/l/public", "public")?;
        for (path, mode) in [("secret", 0o700), ("open", 0o777), ("private", 0o600), ("public", 0o666)] {
            fs::set_permissions(format!("t/l/{path}"), fs::Permissions::from_mode(mode))?;
        }
        over(USUAL)?;
        // Where the layers are is nobody's business.
        fs::set_permissions("t", fs::Permissions::from_mode(0o700))?;
        let here = std::env::current_dir()?;
        let mut at = Some(here.as_path());
        while let Some(dir) = at.filter(|dir| dir.parent().is_some()) {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
            at = dir.parent();
        }
        as_user(|| {
            let denied = |result: crate::sys::Result<i32>| result == Err(Errno(EACCES));
            Ok(denied(open(c"m/private", O_RDONLY, 0))
                && denied(open(c"m/private", O_WRONLY, 0))
                && denied(open(c"m/secret/f", O_RDONLY, 0))
                && denied(open(c"m/new", O_CREAT | O_WRONLY, 0o644))
                && denied(mkdir(c"m/new", 0o755).map(|()| 0))
                && unlink(c"m/public") == Err(Errno(EACCES)))
        })?;
        check!(!upper_has("private") && !upper_has("public"));
        as_user(|| {
            let fd = open(c"m/public", O_WRONLY, 0)?;
            write(fd, b"PUB")?;
            close(create(c"m/open/mine", b"mine")?)?;
            mkdir(c"m/open/dir", 0o700)?;
            Ok(sys!(SYS_fchmodat, CWD, c"m/public".as_ptr(), 0o777) == Err(Errno(EPERM)))
        })?;
        check_eq!(text("t/u/public")?, "PUBlic");
        check_eq!(fs::metadata("t/u/public")?.uid(), 0);
        for path in ["m/open/mine", "t/u/open/mine", "t/u/open/dir"] {
            check_eq!((fs::metadata(path)?.uid(), fs::metadata(path)?.gid()), (1000, 1000));
        }
        // Over a whiteout it is the user's, too.
        fs::write("t/l/open/late", "")?;
        fs::remove_file("m/open/late")?;
        as_user(|| create(c"m/open/late", b"").and_then(close).map(|()| true))?;
        check_eq!(fs::metadata("t/u/open/late")?.uid(), 1000);
        // A set-group-id directory passes its group on.
        sys!(SYS_fchownat, CWD, c"m/open".as_ptr(), 0, 77, 0)?;
        sys!(SYS_fchmodat, CWD, c"m/open".as_ptr(), 0o2777)?;
        fs::remove_file("m/open/late")?;
        as_user(|| {
            create(c"m/open/late", b"").and_then(close)?;
            mkdir(c"m/open/sub", 0o755).map(|()| true)
        })?;
        check_eq!(fs::metadata("t/u/open/late")?.gid(), 77);
        check_eq!(fs::metadata("m/open/sub")?.gid(), 77);
        check_eq!(fs::metadata("m/open/sub")?.mode() & 0o7777, 0o2755);
        Ok(())
    })
}

fn mounter_needs_rights() -> Outcome {
    alone(|| {
        for dir in ["t", "m"] {
            fs::create_dir(dir)?;
        }
        mount(c"none", c"t", c"tmpfs", 0, c"mode=777")?;
        for dir in ["t/l", "t/l2", "t/l/d"] {
            fs::create_dir(dir)?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        fs::write("t/l/f", "f")?;
        fs::write("t/l/d/g", "g")?;
        fs::set_permissions("t/l/f", fs::Permissions::from_mode(0o600))?;
        // Whoever mounts in a namespace of users has no rights over files of others.
        let mut at = std::env::current_dir()?;
        while at.parent().is_some() {
            fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
            at.pop();
        }
        sys!(SYS_setresgid, 1000, 1000, 1000)?;
        sys!(SYS_setresuid, 1000, 1000, 1000)?;
        sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)?;
        if sys!(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS).is_err() {
            return Ok(());
        }
        spew(c"/proc/self/setgroups", "deny")?;
        spew(c"/proc/self/uid_map", "0 1000 1")?;
        spew(c"/proc/self/gid_map", "0 1000 1")?;
        over("lowerdir=t/l:t/l2,userxattr")?;
        check_eq!(text("m/d/g")?, "g");
        check_err!(open(c"m/f", O_RDONLY, 0), EACCES);
        Ok(())
    })
}

/// An access list: version, and entries of tag, permission, id.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

fn set_list(path: &str, name: &str, value: &[u8]) -> crate::sys::Result<usize> {
    sys!(SYS_setxattr, cs(path).as_ptr(), cs(name).as_ptr(), value.as_ptr(), value.len(), 0)
}

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const NOBODY: u32 = u32::MAX;

fn access_lists() -> Outcome {
    layers(|| {
        let acl = list(&[(1, 6, NOBODY), (2, 4, 1000), (4, 0, NOBODY), (0x10, 4, NOBODY), (0x20, 0, NOBODY)]);
        fs::write("t/l/f", "f")?;
        fs::create_dir("t/l/d")?;
        set_list("t/l/f", ACCESS, &acl)?;
        set_list("t/l/d", DEFAULT, &acl)?;
        over(USUAL)?;
        check_eq!(get_xattr("m/f", ACCESS)?, acl);
        check_eq!(fs::metadata("m/f")?.mode() & 0o777, 0o640);
        let mut dir = std::env::current_dir()?;
        loop {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
            if !dir.pop() || dir.parent().is_none() {
                break;
            }
        }
        as_user(|| open(c"m/f", O_RDONLY, 0).map(|_| open(c"m/f", O_WRONLY, 0) == Err(Errno(EACCES))))?;
        // It is copied, and goes along with the mode.
        sys!(SYS_fchmodat, CWD, c"m/f".as_ptr(), 0o660)?;
        check_eq!(get_xattr("t/u/f", ACCESS)?, get_xattr("m/f", ACCESS)?);
        check_eq!(fs::metadata("t/u/f")?.mode() & 0o777, 0o660);
        // New entries inherit.
        fs::write("m/d/new", "")?;
        check_eq!(fs::metadata("m/d/new")?.mode() & 0o777, 0o640);
        check!(get_xattr("t/u/d/new", ACCESS).is_ok());
        fs::write("t/l/d/old", "")?;
        fs::remove_file("m/d/old")?;
        fs::write("m/d/old", "")?;
        check!(get_xattr("m/d/old", ACCESS).is_ok());
        fs::create_dir("m/d/sub")?;
        check_eq!(get_xattr("m/d/sub", DEFAULT)?, acl);
        // One that a mode can express becomes the mode.
        set_list("m/f", ACCESS, &list(&[(1, 7, NOBODY), (4, 5, NOBODY), (0x20, 1, NOBODY)]))?;
        check_eq!(fs::metadata("m/f")?.mode() & 0o777, 0o751);
        check_eq!(fs::metadata("t/u/f")?.mode() & 0o777, 0o751);
        check_err!(get_xattr("m/f", ACCESS), ENODATA);
        Ok(())
    })
}

fn immutable_files() -> Outcome {
    const GET: u64 = 0x8008_6601;
    const SET: u64 = 0x4008_6602;
    layers(|| {
        fs::write("t/l/f", "f")?;
        over(USUAL)?;
        let fd = open(c"m/f", O_RDONLY, 0)?;
        let mut flags = 0x10u32;
        sys!(SYS_ioctl, fd, SET, addr(&flags))?;
        flags = 0;
        sys!(SYS_ioctl, fd, GET, addr_mut(&mut flags))?;
        check_eq!(flags & 0x30, 0x10);
        check_err!(open(c"m/f", O_WRONLY, 0), EPERM);
        check_err!(unlink(c"m/f"), EPERM);
        // The real file can still be moved.
        check_eq!(get_xattr("t/u/f", "trusted.overlay.protattr")?, b"i");
        remounted_with_open(fd)?;
        check_err!(unlink(c"m/f"), EPERM);
        let fd = open(c"m/f", O_RDONLY, 0)?;
        flags = 0;
        sys!(SYS_ioctl, fd, SET, addr(&flags))?;
        check_err!(get_xattr("t/u/f", "trusted.overlay.protattr"), ENODATA);
        unlink(c"m/f")?;
        Ok(())
    })
}

fn remounted_with_open(fd: i32) -> Outcome {
    close(fd)?;
    remounted(USUAL)?;
    Ok(())
}

fn access_times() -> Outcome {
    layers(|| {
        let times = [timespec { tv_sec: 1000, tv_nsec: 0 }, timespec { tv_sec: 2000, tv_nsec: 0 }];
        for path in [c"t/l/f", c"t/u/g"] {
            create(path, b"x").and_then(close)?;
            sys!(SYS_utimensat, CWD, path.as_ptr(), times.as_ptr(), 0)?;
        }
        over(USUAL)?;
        check_eq!(text("m/f")? + &text("m/g")?, "xx");
        // In a lower layer nothing is written, not even when it was read.
        check_eq!(fs::metadata("m/f")?.atime(), 1000);
        check_eq!(fs::metadata("t/l/f")?.atime(), 1000);
        check!(fs::metadata("m/g")?.atime() > 2000);
        check_eq!(fs::metadata("m/g")?.atime(), fs::metadata("t/u/g")?.atime());
        Ok(())
    })
}

fn locks_are_of_the_overlay() -> Outcome {
    layers(|| {
        fs::write("t/l/f", "f")?;
        over(USUAL)?;
        let before = open(c"m/f", O_RDONLY, 0)?;
        sys!(SYS_flock, before, LOCK_SH)?;
        // Copied up since, it is still the same file.
        let after = open(c"m/f", O_RDWR, 0)?;
        check_err!(sys!(SYS_flock, after, LOCK_EX | LOCK_NB), EWOULDBLOCK);
        sys!(SYS_flock, before, LOCK_UN)?;
        sys!(SYS_flock, after, LOCK_EX | LOCK_NB)?;
        let mut region: flock = zeroed();
        region.l_type = F_WRLCK as i16;
        fcntl(after, F_SETLK, addr(&region))?;
        let status = in_child(|| {
            let mut probe: flock = zeroed();
            probe.l_type = F_RDLCK as i16;
            let asked = fcntl(before, F_GETLK, addr_mut(&mut probe));
            i32::from(asked.is_err() || probe.l_type != F_WRLCK as i16)
        })?;
        check_eq!(status, 0);
        // The real file is not locked.
        let real = open(c"t/u/f", O_RDWR, 0)?;
        sys!(SYS_flock, real, LOCK_EX | LOCK_NB)?;
        Ok(())
    })
}

fn ignore(signal: i32) -> Outcome {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = SIG_IGN;
    c!(sigaction(signal, &raw const action, std::ptr::null_mut()))?;
    Ok(())
}

fn leases() -> Outcome {
    layers(|| {
        fs::write("t/l/f", "f")?;
        over(USUAL)?;
        // The kernel asks with it for the lease.
        ignore(SIGIO)?;
        let fd = open(c"m/f", O_RDONLY, 0)?;
        fcntl(fd, F_SETLEASE, F_RDLCK as usize)?;
        check_eq!(fcntl(fd, F_GETLEASE, 0)?, F_RDLCK as usize);
        check_err!(open(c"m/f", O_WRONLY | O_NONBLOCK, 0), EWOULDBLOCK);
        fcntl(fd, F_SETLEASE, F_UNLCK as usize)?;
        let writer = open(c"m/f", O_WRONLY, 0)?;
        check_err!(fcntl(fd, F_SETLEASE, F_RDLCK as usize), EAGAIN);
        close(writer)?;
        Ok(())
    })
}

fn events() -> Outcome {
    layers(|| {
        fs::create_dir("t/l/d")?;
        fs::write("t/l/d/f", "f")?;
        over(USUAL)?;
        let fd = sys!(SYS_inotify_init1, O_NONBLOCK)? as i32;
        let wanted = IN_MODIFY | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_CLOSE_WRITE;
        sys!(SYS_inotify_add_watch, fd, c"m/d".as_ptr(), wanted)?;
        let file = sys!(SYS_inotify_add_watch, fd, c"m/d/f".as_ptr(), wanted)? as i32;
        let next = || -> std::result::Result<Vec<(i32, u32)>, Failure> {
            let bytes = read_vec(fd, 4096)?;
            let (mut at, mut seen) = (0, Vec::new());
            while let Some(header) = bytes.get(at..at + 16) {
                let word = |n: usize| {
                    u32::from_ne_bytes(
                        header.get(4 * n..4 * n + 4).and_then(|w| w.try_into().ok()).unwrap_or([0; 4]),
                    )
                };
                seen.push((word(0) as i32, word(1)));
                at += 16 + word(3) as usize;
            }
            Ok(seen)
        };
        // The copy that a write makes is not an event; the write is.
        fs::write("m/d/f", "changed")?;
        let seen = next()?;
        check!(seen.contains(&(file, IN_MODIFY)) && seen.contains(&(file, IN_CLOSE_WRITE)), "{seen:?}");
        check!(seen.iter().all(|(_, mask)| mask & (IN_CREATE | IN_DELETE) == 0), "{seen:?}");
        fs::write("m/d/new", "")?;
        fs::remove_file("m/d/new")?;
        let masks: Vec<u32> = next()?.iter().map(|(_, mask)| mask & (IN_CREATE | IN_DELETE)).collect();
        check!(masks.contains(&IN_CREATE) && masks.contains(&IN_DELETE), "{masks:?}");
        sys!(SYS_fchmodat, CWD, c"m/d/f".as_ptr(), 0o600)?;
        check!(next()?.contains(&(file, IN_ATTRIB)));
        fs::remove_file("m/d/f")?;
        let seen = next()?;
        check!(seen.contains(&(file, IN_ATTRIB)), "{seen:?}");
        Ok(())
    })
}

fn transfers() -> Outcome {
    layers(|| {
        let contents: Vec<u8> = (0..100_000u32).map(|n| (n % 253) as u8).collect();
        fs::write("t/l/f", &contents)?;
        over(USUAL)?;
        let from = open(c"m/f", O_RDONLY, 0)?;
        let to = open(c"m/copy", O_CREAT | O_RDWR, 0o644)?;
        check_eq!(sys!(SYS_copy_file_range, from, 0, to, 0, 100_000, 0)?, 100_000);
        check!(fs::read("m/copy")? == contents);
        let to = open(c"m/sent", O_CREAT | O_RDWR, 0o644)?;
        seek(from, 0, SEEK_SET)?;
        let mut sent = 0;
        while sent < 100_000 {
            sent += sys!(SYS_sendfile, to, from, 0, 100_000 - sent)?;
        }
        check!(fs::read("t/u/sent")? == contents);
        let ends = pipe(0)?;
        seek(from, 0, SEEK_SET)?;
        check_eq!(sys!(SYS_splice, from, 0, ends[1], 0, 5000, 0)?, 5000);
        check!(read_vec(ends[0], 5000)? == contents[..5000]);
        // Into a file that was copied for that.
        write(ends[1], b"spliced")?;
        let to = open(c"m/f", O_WRONLY, 0)?;
        check_eq!(sys!(SYS_splice, ends[0], 0, to, 0, 7, 0)?, 7);
        check_eq!(fs::read("m/f")?.get(..7), Some(b"spliced".as_slice()));
        // The reader has the copy now.
        seek(from, 0, SEEK_SET)?;
        check_eq!(sys!(SYS_splice, from, 0, ends[1], 0, 7, 0)?, 7);
        check_eq!(read_vec(ends[0], 7)?, b"spliced");
        let file = fs::File::open("m/f")?;
        sys!(SYS_fadvise64, file.as_raw_fd(), 0, 0, POSIX_FADV_WILLNEED)?;
        sys!(SYS_fsync, to)?;
        sys!(SYS_fdatasync, from)?;
        Ok(())
    })
}

fn programs_run() -> Outcome {
    layers(|| {
        let program = fs::read("/proc/self/exe")?;
        fs::write("t/l/program", program)?;
        fs::set_permissions("t/l/program", fs::Permissions::from_mode(0o755))?;
        over(USUAL)?;
        let run = || std::process::Command::new("m/program").arg("--list").output();
        check!(String::from_utf8_lossy(&run()?.stdout).contains("overlay_copy::programs_run"));
        check!(!upper_has("program"));
        sys!(SYS_fchmodat, CWD, c"m/program".as_ptr(), 0o700)?;
        check!(upper_has("program"));
        check!(run()?.status.success());
        // As long as it is written it does not run.
        let fd = open(c"m/program", O_WRONLY, 0)?;
        check_eq!(run().err().and_then(|error| error.raw_os_error()), Some(ETXTBSY));
        close(fd)?;
        mount(c"", c"m", c"", MS_REMOUNT | MS_BIND | MS_NOEXEC, c"")?;
        check_eq!(run().err().and_then(|error| error.raw_os_error()), Some(EACCES));
        Ok(())
    })
}

fn pipes_and_sockets() -> Outcome {
    layers(|| {
        sys!(SYS_mknodat, CWD, c"t/l/fifo".as_ptr(), S_IFIFO | 0o644, 0)?;
        over(USUAL)?;
        let both = open(c"m/fifo", O_RDWR, 0)?;
        write(both, b"through")?;
        let reader = open(c"m/fifo", O_RDONLY | O_NONBLOCK, 0)?;
        check_eq!(read_vec(reader, 10)?, b"through");
        let listener = std::os::unix::net::UnixListener::bind("m/socket")?;
        check!(fs::symlink_metadata("t/u/socket")?.file_type().is_socket());
        let client = std::os::unix::net::UnixStream::connect("m/socket")?;
        drop((listener, client));
        umount(c"m", 0).err();
        Ok(())
    })
}
