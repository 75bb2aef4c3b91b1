//! File systems in memory and their rules: ramfs, and who may open what in /proc, /proc/sys and /sys.

use crate::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

tests![
    ramfs_is_plain,
    ramfs_options,
    sysctl_bits_count,
    sysfs_bits_count,
    proc_root_overrides,
    debugfs_is_roots,
    sysctl_of_oopses,
    memory_files_keep_to_their_memory,
    auxv_is_what_the_kernel_gave,
    map_files_follow_the_mappings,
    map_files_are_followed_by_the_privileged,
];

fn mount(kind: &std::ffi::CStr, data: &std::ffi::CStr) -> crate::sys::Result<usize> {
    sys!(SYS_mount, c"none".as_ptr(), c"m".as_ptr(), kind.as_ptr(), 0, data.as_ptr())
}

/// Runs `body` with a new file system mounted at `m`.
fn mounted(kind: &std::ffi::CStr, data: &std::ffi::CStr, body: impl FnOnce() -> Outcome) -> Outcome {
    mkdir(c"m", 0o755)?;
    mount(kind, data)?;
    let outcome = body();
    sys!(SYS_umount2, c"m".as_ptr(), MNT_DETACH)?;
    outcome
}

fn ramfs_is_plain() -> Outcome {
    mounted(c"ramfs", c"size=1", || {
        let mut fs: statfs = zeroed();
        sys!(SYS_statfs, c"m".as_ptr(), addr_mut(&mut fs))?;
        check_eq!((fs.f_type as u64 & 0xffff_ffff, fs.f_blocks, fs.f_files), (0x8584_58f6, 0, 0));
        check_eq!(stat(c"m")?.st_mode & 0o7777, 0o755);
        let fd = create(c"m/f", &[7; 10_000])?;
        check_eq!(fstat(fd)?.st_size, 10_000);
        check_eq!(read_all(fd)?, [7; 10_000]);
        let at = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
        poke(at + 5, 9);
        seek(fd, 5, SEEK_SET)?;
        check_eq!(read_vec(fd, 1)?, [9]);
        let name = c"user.a".as_ptr();
        check_err!(sys!(SYS_setxattr, c"m/f".as_ptr(), name, c"x".as_ptr(), 1, 0), EOPNOTSUPP);
        check_err!(sys!(SYS_getxattr, c"m/f".as_ptr(), name, 0, 0), EOPNOTSUPP);
        check_err!(sys!(SYS_fallocate, fd, 0, 0, 4096), EOPNOTSUPP);
        check_err!(fcntl(fd, F_GET_SEALS, 0), EINVAL);
        check_err!(open(c"m/f", O_RDONLY | O_DIRECT, 0), EINVAL);
        mkdir(c"m/d", 0o700)?;
        let rename = |flags: u32| sys!(SYS_renameat2, CWD, c"m/f".as_ptr(), CWD, c"m/g".as_ptr(), flags);
        check_err!(rename(RENAME_WHITEOUT as u32), EINVAL);
        rename(RENAME_NOREPLACE as u32)?;
        check!(stat(c"m/g").is_ok());
        let unnamed = open(c"m", O_TMPFILE | O_RDWR, 0o600)?;
        check_eq!(fstat(unnamed)?.st_nlink, 0);
        Ok(())
    })
}

fn ramfs_options() -> Outcome {
    let line = |text: &str| text.lines().find(|l| l.contains("/m ramfs ")).map(str::to_string);
    mounted(c"ramfs", c"mode=1700,whatever", || {
        check_eq!(stat(c"m")?.st_mode & 0o7777, 0o1700);
        let found = line(&slurp(c"/proc/mounts")?).unwrap_or_default();
        check!(found.ends_with(" rw,relatime,mode=1700 0 0"), "{found}");
        Ok(())
    })?;
    mkdir(c"n", 0o755)?;
    check_err!(mount(c"ramfs", c"mode=9"), EINVAL);
    check!(slurp(c"/proc/filesystems")?.contains("nodev\tramfs\n"));
    Ok(())
}

fn sysctl_bits_count() -> Outcome {
    // Being root does not help where root has no permission bit.
    check_err!(open(c"/proc/sys/kernel/osrelease", O_WRONLY, 0), EACCES);
    check_err!(open(c"/proc/sys/vm/drop_caches", O_RDONLY, 0), EACCES);
    check_err!(sys!(SYS_faccessat, CWD, c"/proc/sys/kernel/osrelease".as_ptr(), W_OK), EACCES);
    check_err!(open(c"/proc/sys/kernel/nothing", O_CREAT | O_WRONLY, 0o600), ENOENT);
    let status = in_child(|| {
        let _ = sys!(SYS_setresgid, 5, 5, 5);
        let _ = sys!(SYS_setgroups, 0, 0);
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let write = open(c"/proc/sys/kernel/hostname", O_WRONLY, 0) == Err(Errno(EACCES));
        let read = open(c"/proc/sys/kernel/hostname", O_RDONLY, 0).is_ok();
        i32::from(!write) | i32::from(!read) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn sysfs_bits_count() -> Outcome {
    check_err!(open(c"/sys/kernel/uevent_seqnum", O_WRONLY, 0), EACCES);
    check_err!(open(c"/sys/kernel/uevent_seqnum", O_RDWR, 0), EACCES);
    check!(open(c"/sys/kernel/uevent_seqnum", O_RDONLY, 0).is_ok());
    check_err!(open(c"/sys/new", O_CREAT | O_WRONLY, 0o600), EACCES);
    check_err!(unlink(c"/sys/kernel/uevent_seqnum"), EPERM);
    Ok(())
}

fn proc_root_overrides() -> Outcome {
    let fd = open(c"/proc/uptime", O_RDWR, 0)?;
    check_err!(write(fd, b"x"), EIO);
    check!(!read_vec(fd, 100)?.is_empty());
    check_err!(mkdir(c"/proc/self/new", 0o755), ENOENT);
    check_err!(symlink(c"x", c"/proc/tty/new"), ENOENT);
    check_err!(rmdir(c"/proc/tty"), EPERM);
    // Nor do those who may not search for a name learn more.
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(mkdir(c"/proc/new", 0o755) != Err(Errno(ENOENT)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

/// debugfs can be mounted, and only root may look into it.
fn debugfs_is_roots() -> Outcome {
    mounted(c"debugfs", c"", || {
        let mut fs: statfs = zeroed();
        sys!(SYS_statfs, c"m".as_ptr(), addr_mut(&mut fs))?;
        check_eq!(fs.f_type as u64, 0x6462_6720);
        check_eq!(stat(c"m")?.st_mode & 0o7777, 0o700);
        Ok(())
    })?;
    check!(slurp(c"/proc/filesystems")?.contains("nodev\tdebugfs\n"));
    Ok(())
}

/// What the kernel does about its own faults can be read and set; what has happened cannot be taken back.
fn sysctl_of_oopses() -> Outcome {
    check_eq!(slurp(c"/proc/sys/kernel/oops_limit")?, "10000\n");
    check_eq!(slurp(c"/proc/sys/kernel/warn_limit")?, "0\n");
    for path in ["/proc/sys/kernel/panic_on_oops", "/proc/sys/kernel/panic_on_warn"] {
        check_eq!(std::fs::read_to_string(path)?, "0\n");
        std::fs::write(path, "0")?;
    }
    check!(std::fs::write("/proc/sys/kernel/panic_on_warn", "2").is_err());
    // The one is a truth value, the other any number.
    std::fs::write("/proc/sys/kernel/panic_on_oops", "2")?;
    check_eq!(slurp(c"/proc/sys/kernel/panic_on_oops")?, "2\n");
    std::fs::write("/proc/sys/kernel/panic_on_oops", "0")?;
    let before = slurp(c"/proc/sys/kernel/tainted")?;
    std::fs::write("/proc/sys/kernel/tainted", "0")?;
    check_eq!(slurp(c"/proc/sys/kernel/tainted")?, before);
    for path in ["/sys/kernel/oops_count", "/sys/kernel/warn_count"] {
        check!(std::fs::read_to_string(path)?.trim().parse::<u32>().is_ok());
    }
    Ok(())
}

/// Who was allowed to look at a program is not thereby allowed to look at the next one in the same process.
fn memory_files_keep_to_their_memory() -> Outcome {
    let go = pipe(0)?;
    let child = fork(|| {
        let _ = read_vec(go[0], 1);
        let argv = [c"guest-tests".as_ptr(), c"helper:sleep".as_ptr(), std::ptr::null()];
        let envp = [c"SECRET=x".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, c"/proc/self/exe".as_ptr(), argv.as_ptr(), envp.as_ptr());
        1
    })?;
    let names = ["maps", "smaps", "smaps_rollup", "environ", "mem", "pagemap"];
    let mut files = Vec::new();
    for name in names {
        let path = std::ffi::CString::new(format!("/proc/{child}/{name}")).unwrap_or_default();
        files.push(open(&path, O_RDONLY, 0)?);
    }
    write(go[1], b"x")?;
    let command = format!("/proc/{child}/cmdline");
    check!(eventually(|| std::fs::read(&command).is_ok_and(|line| line.ends_with(b"helper:sleep\0"))));
    for (fd, name) in files.into_iter().zip(names) {
        let seen = read_vec(fd, 4096).unwrap_or_default();
        check_eq!((name, String::from_utf8_lossy(&seen).into_owned()), (name, String::new()));
    }
    check!(std::fs::read(format!("/proc/{child}/environ"))?.starts_with(b"SECRET=x"));
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

/// Whatever the program makes of the place on its stack where it found it.
fn auxv_is_what_the_kernel_gave() -> Outcome {
    let before = std::fs::read("/proc/self/auxv")?;
    check!(before.len() > 64 && before.ends_with(&[0; 16]), "{}", before.len());
    // As `unsetenv(3)` does with the pointers on the stack: the list ends where it did not.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let field = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(25));
    let stack: usize =
        field.and_then(|text| text.parse().ok()).ok_or(Failure::new("no start of the stack"))?;
    let word = |at: usize| atomic(at).load(SeqCst) as usize | (atomic(at + 4).load(SeqCst) as usize) << 32;
    let first = stack + 8 * (word(stack) + 2);
    check!(word(first) != 0);
    atomic(first).store(0, SeqCst);
    atomic(first + 4).store(0, SeqCst);
    check!(std::fs::read("/proc/self/auxv")? == before);
    Ok(())
}

fn map_link(at: usize) -> String {
    format!("/proc/self/map_files/{at:x}-{:x}", at + 4096)
}

fn map_files_follow_the_mappings() -> Outcome {
    let (a, b) = (create(c"a", &[1; 4096])?, create(c"b", &[2; 4096])?);
    let at = mmap(0, 4096, PROT_READ, MAP_PRIVATE, a, 0)?;
    let name = map_link(at);
    check!(std::fs::read_link(&name)?.ends_with("a"));
    check_eq!(std::fs::read(&name)?, [1; 4096]);
    mmap(at, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, b, 0)?;
    check!(std::fs::read_link(&name)?.ends_with("b"), "{:?}", std::fs::read_link(&name)?);
    check_eq!(std::fs::read(&name)?, [2; 4096]);
    munmap(at, 4096)?;
    check!(std::fs::read_link(&name).is_err());
    Ok(())
}

/// The links pass by the permissions of directories.
fn map_files_are_followed_by_the_privileged() -> Outcome {
    let fd = create(c"f", &[1; 4096])?;
    let at = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0)?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let _ = sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
        let name = std::ffi::CString::new(map_link(at)).unwrap_or_default();
        let read = std::fs::read_link(map_link(at)).is_ok();
        let followed = open(&name, O_RDONLY, 0);
        i32::from(!read) | i32::from(followed != Err(Errno(EPERM))) << 1
    })?;
    check_eq!(status, 0);
    Ok(())
}
