//! Core dumps: core(5), the settings that govern them, and the file's contents.

use crate::prelude::*;

tests![
    file_in_working_directory,
    limit_of_zero_and_truncation,
    pattern_specifiers,
    pattern_setting,
    pid_is_appended,
    notes_are_there,
    threads_are_all_there,
    filter_and_advice,
    not_dumpable,
    old_file_is_replaced,
    to_a_program,
    program_that_fails,
    killed_while_dumping,
];

const PATTERN: &std::ffi::CStr = c"/proc/sys/kernel/core_pattern";

/// Puts the pattern back at the end of a test, whatever came of it.
struct Restored(String, String);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = spew(PATTERN, &self.0);
        let _ = spew(c"/proc/sys/kernel/core_uses_pid", &self.1);
    }
}

fn with_pattern(pattern: &str) -> crate::sys::Result<Restored> {
    let before = Restored(slurp(PATTERN)?, slurp(c"/proc/sys/kernel/core_uses_pid")?);
    spew(PATTERN, pattern)?;
    Ok(before)
}

fn set_limit(bytes: u64) {
    let limit = [bytes, u64::MAX];
    let _ = sys!(SYS_prlimit64, 0, RLIMIT_CORE, addr(&limit), 0);
}

fn crash() -> ! {
    let mut action: sigaction = zeroed();
    action.sa_sigaction = SIG_DFL;
    let _ = c!(sigaction(SIGSEGV, &raw const action, std::ptr::null_mut()));
    poke(8, 1);
    exit(99)
}

/// A child that does `body` and crashes with a core limit of `limit`: its pid and wait status.
fn crashed(limit: u64, body: impl FnOnce()) -> Result<(i32, i32), Failure> {
    let child = fork(|| {
        set_limit(limit);
        body();
        crash()
    })?;
    let (_, status) = wait_options(child, 0)?;
    check!(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "{status:#x}");
    Ok((child, status))
}

fn read_core(name: &str) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(name)?;
    check!(bytes.len() >= 64 && bytes[..4] == *b"\x7fELF", "{} bytes", bytes.len());
    Ok(bytes)
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value[..N].copy_from_slice(bytes.get(at..at + N).unwrap_or(&[0; N]));
    u64::from_le_bytes(value)
}

/// The program headers: kind, flags, offset, address, bytes in the file, bytes in memory.
fn segments(core: &[u8]) -> Vec<[u64; 6]> {
    let count = word::<2>(core, 56) as usize;
    let at = word::<8>(core, 32) as usize;
    (0..count)
        .map(|n| {
            let p = at + n * 56;
            [
                word::<4>(core, p),
                word::<4>(core, p + 4),
                word::<8>(core, p + 8),
                word::<8>(core, p + 16),
                word::<8>(core, p + 32),
                word::<8>(core, p + 40),
            ]
        })
        .collect()
}

/// The notes: owner, kind, content.
fn notes(core: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let Some(note) = segments(core).into_iter().find(|s| s[0] == 4) else { return Vec::new() };
    let (mut at, end) = (note[2] as usize, (note[2] + note[4]) as usize);
    let mut found = Vec::new();
    while at + 12 <= end.min(core.len()) {
        let (name, len) = (word::<4>(core, at) as usize, word::<4>(core, at + 4) as usize);
        let kind = word::<4>(core, at + 8) as u32;
        let text = at + 12;
        let content = text + name.next_multiple_of(4);
        let owner = String::from_utf8_lossy(&core[text..text + name - 1]).into_owned();
        found.push((owner, kind, core[content..content + len].to_vec()));
        at = content + len.next_multiple_of(4);
    }
    found
}

/// The byte at `addr`, if the dump has it.
fn byte_at(core: &[u8], addr: usize) -> Option<u8> {
    let addr = addr as u64;
    let segment = segments(core).into_iter().find(|s| s[0] == 1 && s[3] <= addr && addr < s[3] + s[4])?;
    core.get((segment[2] + addr - segment[3]) as usize).copied()
}

fn file_in_working_directory() -> Outcome {
    let _restored = with_pattern("core")?;
    let (_, status) = crashed(u64::MAX, || {})?;
    check!(WCOREDUMP(status));
    let core = read_core("core")?;
    // Type ET_CORE, this machine.
    check_eq!(word::<2>(&core, 16), 4);
    check_eq!(word::<2>(&core, 18), if cfg!(target_arch = "x86_64") { 62 } else { 183 });
    let stat = stat(c"core")?;
    check_eq!(stat.st_mode & 0o777, 0o600);
    // waitid knows, too.
    let child = fork(|| {
        set_limit(u64::MAX);
        crash()
    })?;
    let mut info: siginfo_t = zeroed();
    sys!(SYS_waitid, P_PID, child, addr_mut(&mut info), WEXITED, 0)?;
    // SAFETY: the structure of a child's change.
    check_eq!((info.si_code, unsafe { info.si_status() }), (CLD_DUMPED, SIGSEGV));
    Ok(())
}

fn limit_of_zero_and_truncation() -> Outcome {
    let _restored = with_pattern("core")?;
    let (_, status) = crashed(0, || {})?;
    check!(!WCOREDUMP(status));
    check_err!(stat(c"core"), ENOENT);
    let (_, status) = crashed(100, || {})?;
    check!(!WCOREDUMP(status));
    check_err!(stat(c"core"), ENOENT);
    // A file that would be larger is cut off.
    let (_, status) = crashed(64 * 1024, || {})?;
    check!(WCOREDUMP(status));
    let stat = stat(c"core")?;
    // Holes do not count.
    check!(stat.st_size > 4096 && stat.st_blocks * 512 <= 72 * 1024, "{} {}", stat.st_size, stat.st_blocks);
    Ok(())
}

fn pattern_specifiers() -> Outcome {
    let _restored = with_pattern("c-%p-%P-%i-%I-%u-%g-%s-%e-%f-%%-%d-%z")?;
    let (pid, status) = crashed(u64::MAX, || {
        let _ = sys!(SYS_prctl, PR_SET_NAME, c"na/me".as_ptr());
    })?;
    check!(WCOREDUMP(status));
    let exe = std::fs::read_link("/proc/self/exe")?;
    let exe = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = format!("c-{pid}-{pid}-{pid}-{pid}-0-0-11-na!me-{exe}-%-1-");
    read_core(&name).map(drop)?;
    // An absolute place, with names of the system.
    let here = std::env::current_dir()?;
    spew(PATTERN, &format!("{}/%h.%E.%c", here.display()))?;
    let (_, status) = crashed(1 << 30, || {})?;
    check!(WCOREDUMP(status));
    let mut uts: utsname = zeroed();
    sys!(SYS_uname, addr_mut(&mut uts))?;
    let host: String = uts.nodename.iter().take_while(|c| **c != 0).map(|c| char::from(*c as u8)).collect();
    let full = std::fs::read_link("/proc/self/exe")?.display().to_string().replace('/', "!");
    read_core(&format!("{host}.{full}.{}", 1 << 30)).map(drop)
}

fn pattern_setting() -> Outcome {
    let _restored = with_pattern("abc")?;
    check_eq!(slurp(PATTERN)?, "abc\n");
    spew(PATTERN, "def\n")?;
    check_eq!(slurp(PATTERN)?, "def\n");
    // 127 bytes and no more.
    spew(PATTERN, &"x".repeat(200))?;
    check_eq!(slurp(PATTERN)?, format!("{}\n", "x".repeat(127)));
    check_eq!(slurp(c"/proc/sys/kernel/core_pipe_limit")?, "0\n");
    check_eq!(slurp(c"/proc/sys/fs/suid_dumpable")?, "0\n");
    check_err!(spew(c"/proc/sys/fs/suid_dumpable", "3"), EINVAL);
    Ok(())
}

fn pid_is_appended() -> Outcome {
    let _restored = with_pattern("core")?;
    spew(c"/proc/sys/kernel/core_uses_pid", "1")?;
    let (pid, _) = crashed(u64::MAX, || {})?;
    read_core(&format!("core.{pid}")).map(drop)?;
    spew(PATTERN, "p%p")?;
    let (pid, _) = crashed(u64::MAX, || {})?;
    read_core(&format!("p{pid}")).map(drop)
}

fn notes_are_there() -> Outcome {
    let _restored = with_pattern("core")?;
    let (pid, _) = crashed(u64::MAX, || {})?;
    let core = read_core("core")?;
    let notes = notes(&core);
    let kinds: Vec<u32> = notes.iter().map(|n| n.1).collect();
    // NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO, NT_AUXV, NT_FILE, NT_FPREGSET, in this order.
    check_eq!(kinds[..6], [1, 3, 0x5349_4749, 6, 0x4649_4c45, 2]);
    check!(notes[..6].iter().all(|n| n.0 == "CORE"));
    let (general, total) = if cfg!(target_arch = "x86_64") { (27 * 8, 336) } else { (34 * 8, 392) };
    let status = &notes[0].2;
    check_eq!(status.len(), total);
    check_eq!((word::<4>(status, 0), word::<2>(status, 12), word::<4>(status, 32)), (11, 11, pid as u64));
    check_eq!(word::<4>(status, 112 + general), 1);
    let info = &notes[1].2;
    check_eq!(info.len(), 136);
    check_eq!((info[1], word::<4>(info, 24)), (b'R', pid as u64));
    // si_signo, si_code, si_addr.
    let siginfo = &notes[2].2;
    check_eq!((word::<4>(siginfo, 0), word::<4>(siginfo, 8), word::<8>(siginfo, 16)), (11, 1, 8));
    check_eq!(notes[3].2, std::fs::read("/proc/self/auxv")?);
    // The program itself is among the files.
    let files = &notes[4].2;
    check!(word::<8>(files, 0) >= 1 && word::<8>(files, 8) == 4096);
    let exe = std::fs::read_link("/proc/self/exe")?.display().to_string();
    check!(String::from_utf8_lossy(files).contains(&exe));
    if cfg!(target_arch = "aarch64") {
        for kind in [0x401, 0x402, 0x403, 0x404] {
            check!(notes.iter().any(|n| n.1 == kind && n.0 == "LINUX"), "{kind:#x}");
        }
    }
    Ok(())
}

fn threads_are_all_there() -> Outcome {
    let _restored = with_pattern("core")?;
    let word_at = map_shared(4096)?;
    let (pid, status) = crashed(u64::MAX, || {
        for n in 0..3 {
            std::thread::spawn(move || {
                let tid = sys!(SYS_gettid).unwrap_or(0) as u32;
                atomic(word_at + 4 + n * 4).store(tid, std::sync::atomic::Ordering::SeqCst);
                atomic(word_at).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                // One of them runs, the others sleep.
                if n == 0 {
                    loop {
                        std::hint::spin_loop();
                    }
                }
                sleep_ms(100_000);
            });
        }
        while atomic(word_at).load(std::sync::atomic::Ordering::SeqCst) < 3 {
            sleep_ms(1);
        }
    })?;
    check!(WCOREDUMP(status));
    let core = read_core("core")?;
    let mut tids: Vec<u64> = notes(&core).iter().filter(|n| n.1 == 1).map(|n| word::<4>(&n.2, 32)).collect();
    // Who failed comes first.
    check_eq!(tids.first().copied(), Some(pid as u64));
    tids.sort_unstable();
    let mut expected: Vec<u64> = (0..3)
        .map(|n| u64::from(atomic(word_at + 4 + n * 4).load(std::sync::atomic::Ordering::SeqCst)))
        .chain([pid as u64])
        .collect();
    expected.sort_unstable();
    check_eq!(tids, expected);
    Ok(())
}

fn filter_and_advice() -> Outcome {
    let _restored = with_pattern("core")?;
    let (private, shared, hidden) = (map_anon(8192)?, map_shared(4096)?, map_anon(4096)?);
    poke(private, 0x51);
    poke(shared, 0x52);
    poke(hidden, 0x53);
    sys!(SYS_madvise, hidden, 4096, MADV_DONTDUMP)?;
    crashed(u64::MAX, || {})?;
    let core = read_core("core")?;
    check_eq!(byte_at(&core, private), Some(0x51));
    // A page that was never touched reads as zero.
    check_eq!(byte_at(&core, private + 4096), Some(0));
    check_eq!(byte_at(&core, shared), Some(0x52));
    check_eq!(byte_at(&core, hidden), None);
    // Nothing but the shared one.
    crashed(u64::MAX, || {
        let _ = spew(c"/proc/self/coredump_filter", "0x2");
    })?;
    let core = read_core("core")?;
    check_eq!((byte_at(&core, private), byte_at(&core, shared)), (None, Some(0x52)));
    sys!(SYS_madvise, hidden, 4096, MADV_DODUMP)?;
    crashed(u64::MAX, || {})?;
    let core = read_core("core")?;
    check_eq!(byte_at(&core, hidden), Some(0x53));
    // Every area has a segment, whether its bytes are there or not.
    check!(segments(&core).iter().any(|s| s[0] == 1 && s[4] < s[5]));
    Ok(())
}

fn not_dumpable() -> Outcome {
    let _restored = with_pattern("core")?;
    let (_, status) = crashed(u64::MAX, || {
        let _ = sys!(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    })?;
    check!(!WCOREDUMP(status));
    check_err!(stat(c"core"), ENOENT);
    check_err!(sys!(SYS_prctl, PR_SET_DUMPABLE, 2, 0, 0, 0), EINVAL);
    // Who changes ids is not dumped, unless the system says that root may see it.
    let (_, status) = crashed(u64::MAX, || {
        let _ = sys!(SYS_setresuid, 1234, 1234, 1234);
    })?;
    check!(!WCOREDUMP(status));
    let here = std::env::current_dir()?;
    spew(c"/proc/sys/fs/suid_dumpable", "2")?;
    spew(PATTERN, &format!("{}/root-%d", here.display()))?;
    let outcome = crashed(u64::MAX, || {
        let _ = sys!(SYS_setresuid, 1234, 1234, 1234);
    });
    spew(c"/proc/sys/fs/suid_dumpable", "0")?;
    check!(WCOREDUMP(outcome?.1));
    let stat = stat(c"root-2")?;
    check_eq!((stat.st_uid, stat.st_mode & 0o777), (0, 0o600));
    Ok(())
}

fn old_file_is_replaced() -> Outcome {
    let _restored = with_pattern("core")?;
    close(create(c"core", b"old")?)?;
    sys!(SYS_linkat, CWD, c"core".as_ptr(), CWD, c"kept".as_ptr(), 0)?;
    crashed(u64::MAX, || {})?;
    read_core("core")?;
    check_eq!(slurp(c"kept")?, "old");
    // A link is not followed but removed.
    unlink(c"core")?;
    symlink(c"kept", c"core")?;
    crashed(u64::MAX, || {})?;
    check_eq!(slurp(c"kept")?, "old");
    check_eq!(lstat(c"core")?.st_mode & S_IFMT, S_IFREG);
    Ok(())
}

fn to_a_program() -> Outcome {
    let here = std::env::current_dir()?;
    let exe = std::fs::read_link("/proc/self/exe")?;
    let _restored = with_pattern(&format!("|{} helper:core {}/out %p %s", exe.display(), here.display()))?;
    // It is waited for.
    spew(c"/proc/sys/kernel/core_pipe_limit", "4")?;
    let outcome = crashed(0, || {});
    spew(c"/proc/sys/kernel/core_pipe_limit", "0")?;
    let (pid, status) = outcome?;
    check!(WCOREDUMP(status));
    check!(eventually(|| std::fs::metadata("out.args").is_ok()));
    let args = slurp(c"out.args")?;
    check!(args.starts_with(&format!("{pid} 11 uid=0 cwd=/ fds=0")), "{args}");
    read_core("out").map(drop)
}

fn program_that_fails() -> Outcome {
    let _restored = with_pattern("|/nowhere/at/all %p")?;
    let (_, status) = crashed(u64::MAX, || {})?;
    check!(!WCOREDUMP(status));
    // A limit of one keeps dumps from programs.
    spew(PATTERN, "|/bin/true")?;
    let (_, status) = crashed(1, || {})?;
    check!(!WCOREDUMP(status));
    Ok(())
}

fn killed_while_dumping() -> Outcome {
    // The reader of this pipe does not read: the dump stands still until it is killed.
    let exe = std::fs::read_link("/proc/self/exe")?;
    let _restored = with_pattern(&format!("|{} helper:sleep", exe.display()))?;
    let child = fork(|| {
        set_limit(u64::MAX);
        crash()
    })?;
    let status = || std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
    check!(eventually(|| status().contains("CoreDumping:\t1\n")));
    sleep_ms(20);
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    // Nothing else gets through.
    kill(child, SIGTERM)?;
    sleep_ms(20);
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    kill(child, SIGKILL)?;
    let (_, status) = wait_options(child, 0)?;
    check!(WIFSIGNALED(status) && !WCOREDUMP(status), "{status:#x}");
    Ok(())
}
