//! Process accounting: acct(2), acct(5).

use crate::prelude::*;

tests![
    records_of_processes,
    records_of_signals_and_exec,
    errors,
    only_the_last_thread_writes,
    a_child_of_a_thread,
    off_means_off,
    files_may_be_limited,
    unmounting_ends_it,
    limits_are_three_numbers,
    namespaces_have_files_of_their_own,
    float_and_compressed_numbers,
];

/// `struct acct_v3`.
#[derive(Clone, Debug)]
struct Record {
    flag: u8,
    version: u8,
    exit_code: u32,
    uid: u32,
    gid: u32,
    pid: u32,
    ppid: u32,
    btime: u32,
    etime: f32,
    utime: u16,
    stime: u16,
    mem: u16,
    comm: String,
}

const AFORK: u8 = 1;
const ASU: u8 = 2;
const AXSIG: u8 = 0x10;

fn parse(bytes: &[u8]) -> Record {
    let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let comm = bytes[48..64].split(|b| *b == 0).next().unwrap_or_default();
    Record {
        flag: bytes[0],
        version: bytes[1],
        exit_code: word(4),
        uid: word(8),
        gid: word(12),
        pid: word(16),
        ppid: word(20),
        btime: word(24),
        etime: f32::from_bits(word(28)),
        utime: half(32),
        stime: half(34),
        mem: half(36),
        comm: String::from_utf8_lossy(comm).into_owned(),
    }
}

fn records(path: &str) -> Result<Vec<Record>, Failure> {
    let bytes = std::fs::read(path)?;
    check_eq!(bytes.len() % 64, 0);
    Ok(bytes.chunks(64).map(parse).collect())
}

fn find(path: &str, pid: i32) -> Result<Record, Failure> {
    let found: Vec<_> = records(path)?.into_iter().filter(|record| record.pid == pid as u32).collect();
    check_eq!(found.len(), 1);
    found.into_iter().next().ok_or(Failure::new("none"))
}

fn acct(path: &std::ffi::CStr) -> crate::sys::Result<()> {
    sys!(SYS_acct, path.as_ptr()).map(drop)
}

/// Switches it off at the end.
struct On;

impl On {
    fn new(path: &std::ffi::CStr) -> Result<Self, Failure> {
        let _ = close(create(path, b"")?);
        acct(path)?;
        Ok(Self)
    }
}

impl Drop for On {
    fn drop(&mut self) {
        let _ = sys!(SYS_acct, 0);
    }
}

fn records_of_processes() -> Outcome {
    let _on = On::new(c"log")?;
    let now = sys!(SYS_clock_gettime, CLOCK_REALTIME, addr_mut(&mut zeroed::<timespec>()));
    check!(now.is_ok());
    let child = fork(|| {
        let _ = sys!(SYS_prctl, PR_SET_NAME, c"accounted".as_ptr(), 0, 0, 0);
        let _ = sys!(SYS_setresgid, 500, 500, 500);
        let _ = sys!(SYS_setresuid, 400, 400, 400);
        sleep_ms(60);
        37
    })?;
    check_eq!(wait_exit(child)?, 37);
    let record = find("log", child)?;
    check_eq!((record.version, record.comm.as_str()), (3, "accounted"));
    check_eq!(record.flag, AFORK | ASU);
    check_eq!(record.exit_code, 37 << 8);
    check_eq!((record.uid, record.gid), (400, 500));
    check_eq!(record.ppid, getpid() as u32);
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    check!((record.btime as u64).abs_diff(wall) < 60, "{}", record.btime);
    // In hundredths of a second.
    check!((6.0..3000.0).contains(&record.etime), "{}", record.etime);
    check!(record.mem > 0);
    Ok(())
}

fn records_of_signals_and_exec() -> Outcome {
    let _on = On::new(c"log")?;
    let killed = fork(|| {
        sleep_ms(60_000);
        0
    })?;
    kill(killed, SIGKILL)?;
    check_eq!(wait_exit(killed)?, -SIGKILL);
    let record = find("log", killed)?;
    check_eq!((record.flag & (AFORK | AXSIG), record.exit_code), (AFORK | AXSIG, SIGKILL as u32));
    let other = fork(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let argv = [c"x".as_ptr(), c"helper:ids".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, c"/proc/self/exe".as_ptr(), addr(&argv), 0);
        1
    })?;
    check_eq!(wait_exit(other)?, 0);
    let record = find("log", other)?;
    check_eq!(record.flag & (AFORK | AXSIG), 0);
    check_eq!(record.exit_code, 0);
    check_eq!(record.comm, "exe");
    Ok(())
}

fn errors() -> Outcome {
    check_err!(acct(c"missing"), ENOENT);
    check_err!(acct(c"/"), EISDIR);
    check_err!(acct(c"/dev/null"), EACCES);
    check_err!(acct(c"/proc/self/comm"), EINVAL);
    check_err!(acct(c"/sys/devices/system/cpu/uevent"), EINVAL);
    sys!(SYS_mknodat, CWD, c"pipe".as_ptr(), S_IFIFO | 0o600, 0)?;
    let ends = open(c"pipe", O_RDWR, 0)?;
    check_err!(acct(c"pipe"), EACCES);
    close(ends)?;
    close(create(c"file", b"")?)?;
    check_err!(acct(c"file/x"), ENOTDIR);
    check_err!(sys!(SYS_acct, 1), EFAULT);
    symlink(c"loop", c"loop")?;
    check_err!(acct(c"loop"), ELOOP);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let bad = [acct(c"file"), sys!(SYS_acct, 0).map(drop), sys!(SYS_acct, 1).map(drop)];
        i32::from(bad.iter().any(|result| *result != Err(Errno(EPERM))))
    })?;
    check_eq!(status, 0);
    // Off when it is off.
    sys!(SYS_acct, 0)?;
    Ok(())
}

fn only_the_last_thread_writes() -> Outcome {
    let _on = On::new(c"log")?;
    let child = fork(|| {
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| sleep_ms(5))).collect();
        threads.into_iter().for_each(|thread| drop(thread.join()));
        // Some are alive when the process exits.
        for _ in 0..3 {
            drop(std::thread::spawn(|| sleep_ms(60_000)));
        }
        5
    })?;
    check_eq!(wait_exit(child)?, 5);
    check_eq!(find("log", child)?.exit_code, 5 << 8);
    Ok(())
}

fn a_child_of_a_thread() -> Outcome {
    let _on = On::new(c"log")?;
    let child = std::thread::spawn(|| fork(|| 0).and_then(|child| wait_exit(child).map(|_| child)));
    let child = child.join().map_err(|_| Failure::new("thread"))??;
    check_eq!(find("log", child)?.ppid, getpid() as u32);
    Ok(())
}

fn off_means_off() -> Outcome {
    {
        let _on = On::new(c"log")?;
        in_child(|| 0)?;
        // Another file instead.
        close(create(c"second", b"")?)?;
        acct(c"second")?;
        in_child(|| 0)?;
    }
    // The last record is of the process that ended it.
    for path in ["log", "second"] {
        let found: Vec<_> = records(path)?.iter().map(|r| (r.pid == getpid() as u32, r.ppid)).collect();
        check_eq!(found.len(), 2);
        check_eq!((found[0], found[1].0), ((false, getpid() as u32), true));
    }
    in_child(|| 0)?;
    check_eq!(stat(c"second")?.st_size, 128);
    Ok(())
}

/// The log is the kernel's: the limits of those who exit do not hold for it.
fn files_may_be_limited() -> Outcome {
    let _on = On::new(c"log")?;
    let child = fork(|| {
        let limit = rlimit { rlim_cur: 1, rlim_max: 1 };
        let _ = sys!(SYS_prlimit64, 0, RLIMIT_FSIZE, addr(&limit), 0);
        0
    })?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(find("log", child)?.exit_code, 0);
    Ok(())
}

fn unmounting_ends_it() -> Outcome {
    mkdir(c"m", 0o755)?;
    sys!(SYS_mount, c"tmpfs".as_ptr(), c"m".as_ptr(), c"tmpfs".as_ptr(), 0, 0)?;
    {
        let _on = On::new(c"m/log")?;
        in_child(|| 0)?;
        check_eq!(stat(c"m/log")?.st_size, 64);
        sys!(SYS_umount2, c"m".as_ptr(), 0)?;
        in_child(|| 0)?;
    }
    check_err!(stat(c"m/log"), ENOENT);
    // A file that is really open keeps it, and then the log goes on.
    sys!(SYS_mount, c"tmpfs".as_ptr(), c"m".as_ptr(), c"tmpfs".as_ptr(), 0, 0)?;
    {
        let _on = On::new(c"m/log")?;
        let file = open(c"m/log", O_RDONLY, 0)?;
        check_err!(sys!(SYS_umount2, c"m".as_ptr(), 0), EBUSY);
        in_child(|| 0)?;
        check_eq!(fstat(file)?.st_size, 64);
        close(file)?;
    }
    sys!(SYS_umount2, c"m".as_ptr(), 0)?;
    Ok(())
}

fn limits_are_three_numbers() -> Outcome {
    let file = c"/proc/sys/kernel/acct";
    let old = slurp(file)?;
    check_eq!(old, "4\t2\t30\n");
    spew(file, "5 3 31\n")?;
    check_eq!(slurp(file)?, "5\t3\t31\n");
    // Accounting pauses: there is no file system with that much space.
    {
        let _on = On::new(c"log")?;
        spew(file, "200 101 0")?;
        in_child(|| 0)?;
        let paused = stat(c"log")?.st_size;
        spew(file, "0 0 0")?;
        in_child(|| 0)?;
        in_child(|| 0)?;
        let resumed = stat(c"log")?.st_size;
        spew(file, &old)?;
        check!(paused <= 64 && resumed > paused, "{paused} {resumed}");
    }
    check_err!(spew(file, "x"), EINVAL);
    check_eq!(slurp(file)?, old);
    Ok(())
}

fn namespaces_have_files_of_their_own() -> Outcome {
    let _on = On::new(c"log")?;
    let outer = fork(|| {
        if sys!(SYS_unshare, CLONE_NEWPID).is_err() {
            return 1;
        }
        let init = fork(|| {
            if create(c"inner", b"").is_err() || acct(c"inner").is_err() {
                return 2;
            }
            in_child(|| 9).unwrap_or(3)
        });
        init.and_then(wait_exit).unwrap_or(4)
    })?;
    check_eq!(wait_exit(outer)?, 9);
    let inner: Vec<_> = records("inner")?.iter().map(|r| (r.pid, r.ppid, r.exit_code >> 8)).collect();
    check_eq!(inner, vec![(2, 1, 9), (1, 0, 9), (1, 0, 9)]);
    // Outside all three.
    check_eq!(records("log")?.len(), 3);
    Ok(())
}

fn float_and_compressed_numbers() -> Outcome {
    let _on = On::new(c"log")?;
    let child = fork(|| {
        // 300 ms of CPU time.
        let mut spent: timespec = zeroed();
        while spent.tv_sec * 1000 + spent.tv_nsec / 1_000_000 < 300 {
            let _ = sys!(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, addr_mut(&mut spent));
        }
        0
    })?;
    check_eq!(wait_exit(child)?, 0);
    let record = find("log", child)?;
    let value = |c: u16| u32::from(c & 0x1fff) << (3 * (c >> 13));
    let ticks = value(record.utime) + value(record.stime);
    check!((10..1000).contains(&ticks), "{ticks}");
    check!(record.etime >= ticks as f32 - 1.0, "{} {ticks}", record.etime);
    check!(value(record.mem) > 100, "{}", value(record.mem));
    Ok(())
}
