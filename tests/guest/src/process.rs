//! Processes: fork, clone, exec, wait, groups and sessions (fork(2), execve(2), wait4(2), …).

use crate::prelude::*;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};

tests![
    fork_copies_memory,
    fork_return_values,
    vfork_shares_memory,
    clone_flags,
    clone3_works,
    clone_errors,
    clone_into_thread_group_of_parent,
    exit_codes,
    exit_by_signal,
    wait_options_flags,
    waitid_info,
    wait_errors,
    orphans_go_to_init,
    subreaper,
    pdeathsig,
    process_groups,
    sessions,
    prctl_name,
    exec_args_and_env,
    exec_errors,
    running_program_is_not_written,
    exec_script,
    exec_script_nested,
    exec_resets_signals,
    exec_closes_cloexec,
    execveat_fd,
    exec_from_thread,
    setuid_exec,
    auxv_contents,
    exit_group_ends_threads,
    exit_group_meets_new_threads,
    wait_usage,
    pidfd_basics,
    zombie_visible,
    fork_many,
    argument_limits,
    process_vm,
    kcmp_files,
];

/// The program itself, for tests that execute something.
const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// Executes this program's helper `name` and returns its exit status and output.
fn helper(name: &str, args: &[&str], env: &[&str]) -> crate::sys::Result<(i32, String)> {
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = sys!(SYS_dup3, ends[1], 1, 0);
        let _ = close(ends[0]);
        let _ = close(ends[1]);
        exec(name, args, env);
        127
    })?;
    close(ends[1])?;
    let output = read_all(ends[0])?;
    close(ends[0])?;
    Ok((wait_exit(child)?, String::from_utf8_lossy(&output).into_owned()))
}

fn exec(name: &str, args: &[&str], env: &[&str]) {
    let strings = |list: &[&str]| -> Vec<CString> {
        list.iter().map(|s| CString::new(*s).unwrap_or_default()).collect()
    };
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let helper = format!("helper:{name}");
    let mut all = vec![helper.as_str()];
    all.extend(args);
    let (args, env) = (strings(&all), strings(env));
    let _ = sys!(SYS_execve, SELF.as_ptr(), pointers(&args).as_ptr(), pointers(&env).as_ptr());
}

/// Writes a script.
fn script(path: &std::ffi::CStr, text: &str) -> crate::sys::Result<()> {
    let fd = create(path, text.as_bytes())?;
    sys!(SYS_fchmod, fd, 0o755)?;
    close(fd)
}

/// Executes `path` with arguments in a child: exit status (200 + errno if exec failed) and output.
fn run_path(path: &std::ffi::CStr, args: &[&str]) -> crate::sys::Result<(i32, String)> {
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = sys!(SYS_dup3, ends[1], 1, 0);
        let strings: Vec<CString> = args.iter().map(|s| CString::new(*s).unwrap_or_default()).collect();
        let pointers: Vec<*const c_char> =
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        let env = [std::ptr::null::<c_char>()];
        let error = sys!(SYS_execve, path.as_ptr(), pointers.as_ptr(), env.as_ptr());
        200 + error.err().map_or(0, |e| e.0)
    })?;
    close(ends[1])?;
    let output = read_all(ends[0])?;
    close(ends[0])?;
    Ok((wait_exit(child)?, String::from_utf8_lossy(&output).into_owned()))
}

fn fork_copies_memory() -> Outcome {
    let private = map_anon(4096)?;
    let shared = map_shared(4096)?;
    poke(private, 1);
    poke(shared, 1);
    let status = in_child(|| {
        let before = peek(private) == 1 && peek(shared) == 1;
        poke(private, 2);
        poke(shared, 2);
        i32::from(!before)
    })?;
    check_eq!(status, 0);
    check_eq!(peek(private), 1);
    check_eq!(peek(shared), 2);
    Ok(())
}

fn fork_return_values() -> Outcome {
    let parent = getpid();
    let shared = map_shared(4096)?;
    let child = fork(|| {
        atomic(shared).store(getpid() as u32, std::sync::atomic::Ordering::SeqCst);
        i32::from(sys!(SYS_getppid).ok() != Some(parent as usize))
    })?;
    check!(child > 0 && child != parent);
    check_eq!(wait_exit(child)?, 0);
    check_eq!(atomic(shared).load(std::sync::atomic::Ordering::SeqCst), child as u32);
    check_eq!(sys!(SYS_gettid)?, parent as usize);
    Ok(())
}

fn vfork_shares_memory() -> Outcome {
    // vfork by clone: the parent sleeps until the child execs or exits.
    let word = map_shared(4096)?;
    let flags = CLONE_VFORK | SIGCHLD;
    let started = std::time::Instant::now();
    let child = sys!(SYS_clone, flags, 0, 0, 0, 0)?;
    if child == 0 {
        sleep_ms(100);
        poke(word, 5);
        exit(3);
    }
    check_eq!(peek(word), 5);
    check!(started.elapsed().as_millis() >= 100);
    check_eq!(wait_exit(child as i32)?, 3);
    Ok(())
}

fn clone_flags() -> Outcome {
    let fd = create(c"f", b"")?;
    // Shared descriptors: what the child closes is closed here.
    let child = sys!(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0)?;
    if child == 0 {
        let _ = close(fd);
        exit(0);
    }
    check_eq!(wait_exit(child as i32)?, 0);
    check_err!(fstat(fd), EBADF);
    // Shared file system state: where the child goes, we go.
    mkdir(c"d", 0o755)?;
    let child = sys!(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0)?;
    if child == 0 {
        exit(i32::from(sys!(SYS_chdir, c"d".as_ptr()).is_err()));
    }
    check_eq!(wait_exit(child as i32)?, 0);
    check!(std::env::current_dir()?.ends_with("d"));
    // CLONE_PARENT: the child is our sibling.
    let status = in_child(|| {
        let parent = sys!(SYS_getppid).unwrap_or(0);
        match sys!(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) {
            Ok(0) => exit(i32::from(sys!(SYS_getppid) != Ok(parent)) + 40),
            Ok(_) => i32::from(wait_options(-1, 0) != Err(Errno(ECHILD))),
            Err(_) => 9,
        }
    })?;
    check!(status == 0 || status == 40, "{status}");
    let other = wait_options(-1, 0)?;
    check!(WEXITSTATUS(other.1) == 40 || WEXITSTATUS(other.1) == 0);
    // CLONE_CHILD_SETTID and CLONE_PARENT_SETTID.
    let (at, shared) = (map_shared(4096)?, map_shared(4096)?);
    let flags = CLONE_CHILD_SETTID | CLONE_PARENT_SETTID | SIGCHLD;
    let child = {
        #[cfg(target_arch = "x86_64")]
        let child = sys!(SYS_clone, flags, 0, at, shared, 0)?;
        #[cfg(not(target_arch = "x86_64"))]
        let child = sys!(SYS_clone, flags, 0, at, 0, shared)?;
        child
    };
    if child == 0 {
        exit(0);
    }
    check_eq!(wait_exit(child as i32)?, 0);
    let order = std::sync::atomic::Ordering::SeqCst;
    check_eq!((atomic(at).load(order), atomic(shared).load(order)), (child as u32, child as u32));
    // Without an exit signal only __WCLONE or __WALL waits for it.
    let child = sys!(SYS_clone, 0, 0, 0, 0, 0)?;
    if child == 0 {
        exit(7);
    }
    check_err!(wait_options(child as i32, 0), ECHILD);
    check_eq!(WEXITSTATUS(wait_options(child as i32, __WALL)?.1), 7);
    Ok(())
}

/// `struct clone_args`
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn clone3_works() -> Outcome {
    let mut pidfd = -1;
    let args = CloneArgs {
        flags: CLONE_PIDFD as u64,
        pidfd: addr_mut(&mut pidfd) as u64,
        exit_signal: SIGCHLD as u64,
        ..CloneArgs::default()
    };
    let child = sys!(SYS_clone3, addr(&args), size_of::<CloneArgs>())?;
    if child == 0 {
        exit(6);
    }
    check!(pidfd > 2);
    check_eq!(wait_exit(child as i32)?, 6);
    let call = |args: &CloneArgs, size: usize| sys!(SYS_clone3, addr(args), size);
    check_err!(call(&args, 8), EINVAL);
    check_err!(call(&args, 1 << 20), E2BIG);
    let bad = CloneArgs { exit_signal: 100, ..CloneArgs::default() };
    check_err!(call(&bad, 64), EINVAL);
    let bad = CloneArgs { flags: CLONE_THREAD as u64, ..CloneArgs::default() };
    check_err!(call(&bad, 64), EINVAL);
    let bad = CloneArgs { stack: 4096, ..CloneArgs::default() };
    check_err!(call(&bad, 64), EINVAL);
    check_err!(sys!(SYS_clone3, 1, 64), EFAULT);
    Ok(())
}

fn clone_errors() -> Outcome {
    check_err!(sys!(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0), EINVAL);
    check_err!(sys!(SYS_clone, CLONE_THREAD | CLONE_VM, 0, 0, 0, 0), EINVAL);
    check_err!(sys!(SYS_clone, CLONE_FS | CLONE_NEWNS, 0, 0, 0, 0), EINVAL);
    check_err!(sys!(SYS_unshare, 0x1), EINVAL);
    Ok(())
}

fn clone_into_thread_group_of_parent() -> Outcome {
    let tid = std::thread::spawn(|| (getpid(), sys!(SYS_gettid).unwrap_or(0) as i32));
    let Ok((pid, tid)) = tid.join() else { return Err(Failure::new("thread panicked")) };
    check_eq!(pid, getpid());
    check!(tid != pid);
    // The joiner may run before the thread is wholly gone.
    check!(eventually(|| sys!(SYS_tgkill, pid, tid, 0) == Err(Errno(ESRCH))));
    Ok(())
}

fn exit_codes() -> Outcome {
    for code in [0, 1, 127, 255] {
        check_eq!(in_child(|| code)?, code);
    }
    check_eq!(in_child(|| 256 + 7)?, 7);
    check_eq!(in_child(|| -1)?, 255);
    Ok(())
}

fn exit_by_signal() -> Outcome {
    for signal in [SIGTERM, SIGKILL, SIGUSR1, SIGALRM, SIGPIPE] {
        let child = fork(|| {
            loop {
                sleep_ms(1000);
            }
        })?;
        kill(child, signal)?;
        let status = wait(child)?;
        check!(WIFSIGNALED(status) && !WIFEXITED(status) && WTERMSIG(status) == signal);
    }
    Ok(())
}

fn wait_options_flags() -> Outcome {
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = close(ends[1]);
        let _ = read_vec(ends[0], 1);
        4
    })?;
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    kill(child, SIGSTOP)?;
    let (pid, status) = wait_options(child, WUNTRACED)?;
    check!(pid == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    // A stop is reported once.
    check_eq!(wait_options(child, WNOHANG | WUNTRACED)?.0, 0);
    check_eq!(state(child), Some('T'));
    kill(child, SIGCONT)?;
    let (pid, status) = wait_options(child, WCONTINUED)?;
    check!(pid == child && WIFCONTINUED(status));
    close(ends[1])?;
    check_eq!(wait_exit(child)?, 4);
    check_err!(wait_options(child, 0), ECHILD);
    // By process group.
    let child = fork(|| {
        let _ = sys!(SYS_setpgid, 0, 0);
        5
    })?;
    let _ = sys!(SYS_setpgid, child, child);
    check_eq!(wait_options(-child, 0)?.0, child);
    Ok(())
}

fn waitid_info() -> Outcome {
    let child = fork(|| 42)?;
    let mut info: siginfo_t = zeroed();
    sys!(SYS_waitid, P_PID, child, addr_mut(&mut info), WEXITED | WNOWAIT, 0)?;
    check_eq!((info.si_signo, info.si_code), (SIGCHLD, CLD_EXITED));
    // SAFETY: the kernel filled in the fields of a child's siginfo.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    check_eq!((pid, status), (child, 42));
    // WNOWAIT left it there.
    sys!(SYS_waitid, P_PID, child, addr_mut(&mut info), WEXITED, 0)?;
    check_err!(sys!(SYS_waitid, P_PID, child, addr_mut(&mut info), WEXITED, 0), ECHILD);
    let child = fork(|| {
        loop {
            sleep_ms(1000);
        }
    })?;
    info = zeroed();
    sys!(SYS_waitid, P_ALL, 0, addr_mut(&mut info), WEXITED | WNOHANG, 0)?;
    check_eq!(info.si_signo, 0);
    kill(child, SIGKILL)?;
    sys!(SYS_waitid, P_ALL, 0, addr_mut(&mut info), WEXITED, 0)?;
    check_eq!(info.si_code, CLD_KILLED);
    check_err!(sys!(SYS_waitid, P_ALL, 0, addr_mut(&mut info), 0, 0), EINVAL);
    check_err!(sys!(SYS_waitid, 77, 0, addr_mut(&mut info), WEXITED, 0), EINVAL);
    Ok(())
}

fn wait_errors() -> Outcome {
    check_err!(wait_options(-1, 0), ECHILD);
    check_err!(wait_options(1, WNOHANG), ECHILD);
    check_err!(wait_options(-1, 0x4000), EINVAL);
    check_err!(wait_options(i32::MIN, 0), ESRCH);
    // Ignoring SIGCHLD leaves no zombies.
    c!(signal(SIGCHLD, SIG_IGN))?;
    let child = fork(|| 1)?;
    check_err!(wait_options(child, 0), ECHILD);
    Ok(())
}

fn orphans_go_to_init() -> Outcome {
    let ends = pipe(0)?;
    let status = in_child(|| {
        let _ = fork(|| {
            // Wait for the parent to be gone.
            let gone = eventually(|| sys!(SYS_getppid).is_ok_and(|p| p == 1));
            let _ = write(ends[1], &[u8::from(gone)]);
            0
        });
        0
    })?;
    check_eq!(status, 0);
    check_eq!(read_vec(ends[0], 1)?, [1]);
    Ok(())
}

fn subreaper() -> Outcome {
    sys!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)?;
    let mut set = 0;
    sys!(SYS_prctl, PR_GET_CHILD_SUBREAPER, addr_mut(&mut set), 0, 0, 0)?;
    check_eq!(set, 1);
    let me = getpid();
    let status = in_child(|| {
        let _ = fork(|| {
            let adopted = eventually(|| sys!(SYS_getppid).is_ok_and(|p| p == me as usize));
            if adopted { 11 } else { 12 }
        });
        0
    })?;
    check_eq!(status, 0);
    check_eq!(WEXITSTATUS(wait_options(-1, 0)?.1), 11);
    Ok(())
}

fn pdeathsig() -> Outcome {
    let ends = pipe(0)?;
    let status = in_child(|| {
        let ready = pipe(0).unwrap_or([-1; 2]);
        let _ = fork(|| {
            let _ = close(ends[0]);
            let _ = sys!(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
            let _ = write(ready[1], b"x");
            sleep_ms(30_000);
            0
        });
        let _ = read_vec(ready[0], 1);
        0
    })?;
    check_eq!(status, 0);
    close(ends[1])?;
    // The pipe closes when the grandchild has died of its parent's death.
    check_eq!(read_vec(ends[0], 1)?.len(), 0);
    check_err!(sys!(SYS_prctl, PR_SET_PDEATHSIG, 99, 0, 0, 0), EINVAL);
    Ok(())
}

fn process_groups() -> Outcome {
    let me = getpid();
    check_eq!(sys!(SYS_getpgid, 0)?, me as usize);
    let ends = pipe(0)?;
    let sleeper = || {
        let _ = close(ends[1]);
        let _ = read_vec(ends[0], 1);
        0
    };
    let a = fork(sleeper)?;
    let b = fork(sleeper)?;
    check_eq!(sys!(SYS_getpgid, a)?, me as usize);
    sys!(SYS_setpgid, a, a)?;
    sys!(SYS_setpgid, b, a)?;
    check_eq!(sys!(SYS_getpgid, b)?, a as usize);
    kill(-a, SIGTERM)?;
    check_eq!(wait_exit(a)?, -SIGTERM);
    check_eq!(wait_exit(b)?, -SIGTERM);
    check_err!(kill(-a, 0), ESRCH);
    check_err!(sys!(SYS_setpgid, 1, 1), ESRCH);
    check_err!(sys!(SYS_setpgid, 0, 99_999), EPERM);
    check_err!(sys!(SYS_setpgid, 0, -1_i64), EINVAL);
    check_err!(sys!(SYS_getpgid, 99_999), ESRCH);
    // After exec a parent may not move its child any more.
    let child = fork(|| {
        exec("sleep", &[], &[]);
        1
    })?;
    let name = format!("/proc/{child}/cmdline");
    check!(eventually(|| std::fs::read(&name).is_ok_and(|c| c.starts_with(b"helper"))));
    check_err!(sys!(SYS_setpgid, child, child), EACCES);
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn sessions() -> Outcome {
    // A group leader may not start a session.
    check_err!(sys!(SYS_setsid), EPERM);
    let status = in_child(|| {
        let me = getpid();
        let sid = sys!(SYS_setsid) == Ok(me as usize);
        let same = sys!(SYS_getsid, 0) == Ok(me as usize) && sys!(SYS_getpgid, 0) == Ok(me as usize);
        let no_tty = open(c"/dev/tty", O_RDWR, 0) == Err(Errno(ENXIO));
        let leader = sys!(SYS_setpgid, 0, 0) == Err(Errno(EPERM));
        i32::from(!sid) | i32::from(!same) << 1 | i32::from(!no_tty) << 2 | i32::from(!leader) << 3
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn prctl_name() -> Outcome {
    let mut name = [0_u8; 16];
    sys!(SYS_prctl, PR_SET_NAME, c"a-name-that-is-too-long".as_ptr(), 0, 0, 0)?;
    sys!(SYS_prctl, PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0)?;
    check_eq!(&name, b"a-name-that-is-\0");
    check_eq!(slurp(c"/proc/self/comm")?, "a-name-that-is-\n");
    spew(c"/proc/self/comm", "other")?;
    sys!(SYS_prctl, PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0)?;
    check_eq!(&name[..6], b"other\0");
    check_err!(sys!(SYS_prctl, 9999, 0, 0, 0, 0), EINVAL);
    check_eq!(sys!(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0)?, 1);
    check_eq!(sys!(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)?, 0);
    sys!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
    check_err!(sys!(SYS_prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    check_eq!(sys!(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)?, 1);
    Ok(())
}

fn exec_args_and_env() -> Outcome {
    let (status, output) = helper("args", &["one", "", "two words"], &["A=1", "B=x y"])?;
    check_eq!(status, 0);
    check_eq!(output, "[one][][two words]{A=1}{B=x y}");
    Ok(())
}

/// The file of a program that runs can be truncated in no way (`ETXTBSY`).
fn running_program_is_not_written() -> Outcome {
    std::fs::copy("/proc/self/exe", "p")?;
    sys!(SYS_fchmodat, CWD, c"p".as_ptr(), 0o755)?;
    let child = fork(|| {
        let args = [c"p".as_ptr(), c"helper:sleep".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, c"p".as_ptr(), args.as_ptr(), 0);
        1
    })?;
    check!(eventually(
        || std::fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|exe| exe.ends_with("p"))
    ));
    let size = stat(c"p")?.st_size;
    for flags in [O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_TRUNC] {
        check_err!(open(c"p", flags, 0), ETXTBSY);
    }
    check_err!(sys!(SYS_truncate, c"p".as_ptr(), 0), ETXTBSY);
    check_eq!(stat(c"p")?.st_size, size);
    kill(child, SIGKILL)?;
    wait(child)?;
    close(open(c"p", O_RDONLY | O_TRUNC, 0)?)?;
    check_eq!(stat(c"p")?.st_size, 0);
    Ok(())
}

fn exec_errors() -> Outcome {
    let try_exec = |path: &std::ffi::CStr| {
        let none = [std::ptr::null::<c_char>()];
        sys!(SYS_execve, path.as_ptr(), none.as_ptr(), none.as_ptr())
    };
    check_err!(try_exec(c"missing"), ENOENT);
    check_err!(try_exec(c"/"), EACCES);
    let fd = create(c"f", b"no program")?;
    check_err!(try_exec(c"f"), EACCES);
    sys!(SYS_fchmod, fd, 0o755)?;
    // Open for writing: text busy.
    check_err!(try_exec(c"f"), ETXTBSY);
    close(fd)?;
    check_err!(try_exec(c"f"), ENOEXEC);
    check_err!(try_exec(c"f/x"), ENOTDIR);
    symlink(c"l", c"l")?;
    check_err!(try_exec(c"l"), ELOOP);
    script(c"empty", "")?;
    check_err!(try_exec(c"empty"), ENOEXEC);
    script(c"elf", "\x7fELF")?;
    check_err!(try_exec(c"elf"), ENOEXEC);
    script(c"interp", "#!/missing/interpreter\n")?;
    check_err!(try_exec(c"interp"), ENOENT);
    script(c"nothing", "#!  \n")?;
    check_err!(try_exec(c"nothing"), ENOEXEC);
    check_err!(sys!(SYS_execve, 1, 0, 0), EFAULT);
    check_err!(sys!(SYS_execve, SELF.as_ptr(), 1, 0), EFAULT);
    Ok(())
}

fn exec_script() -> Outcome {
    script(c"s", "#! /proc/self/exe helper:args  x y \nignored\n")?;
    // The kernel gives the interpreter: its path, one argument, the script, then the arguments.
    let (status, output) = run_path(c"./s", &["zero", "one", "two"])?;
    check_eq!(status, 0);
    check_eq!(output, "[helper:args  x y][./s][one][two]");
    Ok(())
}

fn exec_script_nested() -> Outcome {
    script(c"a", "#!/proc/self/exe helper:args\n")?;
    let here = std::env::current_dir()?;
    script(c"b", &format!("#!{}/a opt\n", here.display()))?;
    let (status, output) = run_path(c"./b", &["b", "x"])?;
    check_eq!(status, 0);
    check_eq!(output, format!("[helper:args][{}/a][opt][./b][x]", here.display()));
    // Too deep a chain ends in ELOOP.
    for n in 1..8 {
        let name = CString::new(format!("n{n}")).unwrap_or_default();
        script(&name, &format!("#!{}/n{}\n", here.display(), n - 1))?;
    }
    script(c"n0", "#!/proc/self/exe helper:args\n")?;
    check_eq!(run_path(c"./n3", &["n"])?.0, 0);
    check_eq!(run_path(c"./n7", &["n"])?.0, 200 + ELOOP);
    Ok(())
}

fn exec_resets_signals() -> Outcome {
    extern "C" fn handler(_: i32) {}
    c!(signal(SIGUSR1, handler as *const () as usize))?;
    c!(signal(SIGUSR2, SIG_IGN))?;
    let mut set: sigset_t = zeroed();
    c!(sigaddset(&raw mut set, SIGTERM))?;
    c!(sigprocmask(SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
    kill(getpid(), SIGTERM)?;
    let (status, output) = helper("signals", &[], &[])?;
    check_eq!(status, 0);
    // Caught becomes default, ignored stays ignored, the mask stays, pending is the parent's own.
    check_eq!(output, "usr1=default usr2=ignored term-blocked=1 pending=0");
    Ok(())
}

fn exec_closes_cloexec() -> Outcome {
    let keep = create(c"f", b"")?;
    let shut = open(c"f", O_RDONLY | O_CLOEXEC, 0)?;
    let (_, output) = helper("fds", &[], &[])?;
    let fds: Vec<i32> = output.split(' ').filter_map(|n| n.parse().ok()).collect();
    check!(fds.contains(&keep), "{fds:?}");
    check!(!fds.contains(&shut), "{fds:?}");
    Ok(())
}

fn execveat_fd() -> Outcome {
    let fd = open(SELF, O_RDONLY | O_CLOEXEC, 0)?;
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = sys!(SYS_dup3, ends[1], 1, 0);
        let args = [c"helper:args".as_ptr(), c"fd".as_ptr(), std::ptr::null()];
        let env = [std::ptr::null::<c_char>()];
        let path = c"".as_ptr();
        let _ = sys!(SYS_execveat, fd, path, args.as_ptr(), env.as_ptr(), AT_EMPTY_PATH);
        1
    })?;
    close(ends[1])?;
    check_eq!(read_all(ends[0])?, b"[fd]");
    check_eq!(wait_exit(child)?, 0);
    symlink(SELF, c"l")?;
    let none = [std::ptr::null::<c_char>()];
    let path = c"l".as_ptr();
    let flags = AT_SYMLINK_NOFOLLOW;
    check_err!(sys!(SYS_execveat, CWD, path, none.as_ptr(), none.as_ptr(), flags), ELOOP);
    check_err!(sys!(SYS_execveat, CWD, path, none.as_ptr(), none.as_ptr(), 0x8000), EINVAL);
    Ok(())
}

fn exec_from_thread() -> Outcome {
    let child = fork(|| {
        let _ = std::thread::spawn(|| exec("pid", &[], &[])).join();
        99
    })?;
    // The thread that execs takes over the process's id; the others are gone.
    let status = wait_exit(child)?;
    check_eq!(status, 0);
    Ok(())
}

fn setuid_exec() -> Outcome {
    let bytes = std::fs::read("/proc/self/exe")?;
    let fd = create(c"suid", &bytes)?;
    sys!(SYS_fchown, fd, 33, 44)?;
    sys!(SYS_fchmod, fd, 0o6755)?;
    close(fd)?;
    // A file system mounted nosuid would hide the effect: /tmp is. Use the root file system.
    let copy = c"/suid-test";
    let fd = create(copy, &bytes)?;
    sys!(SYS_fchown, fd, 33, 44)?;
    sys!(SYS_fchmod, fd, 0o6755)?;
    close(fd)?;
    let (_, plain) = run_path(c"./suid", &["helper:ids"])?;
    let (_, raised) = run_path(copy, &["helper:ids"])?;
    unlink(copy)?;
    check_eq!(plain, "0 0 0 0 0 0 secure=0");
    check_eq!(raised, "0 33 33 0 44 44 secure=1");
    Ok(())
}

fn auxv_contents() -> Outcome {
    let auxv = std::fs::read("/proc/self/auxv")?;
    let words: Vec<u64> =
        auxv.chunks_exact(8).map(|c| c.iter().rev().fold(0, |a, b| a << 8 | u64::from(*b))).collect();
    let get = |key: u64| words.chunks_exact(2).find(|p| p[0] == key).map(|p| p[1]);
    check_eq!(get(AT_PAGESZ), Some(4096));
    check_eq!(get(AT_CLKTCK), Some(100));
    check_eq!(get(AT_UID), Some(0));
    check_eq!(get(AT_SECURE), Some(0));
    check!(get(AT_PHDR).is_some() && get(AT_ENTRY).is_some() && get(AT_PHNUM).is_some());
    check!(get(AT_SYSINFO_EHDR).is_some_and(|a| a % 4096 == 0 && a != 0));
    let random = get(AT_RANDOM).unwrap_or(0);
    check!((0..16).any(|n| peek(random as usize + n) != 0));
    check!(get(AT_EXECFN).is_some_and(|a| peek(a as usize) != 0));
    check!(get(AT_HWCAP).is_some() && get(AT_PLATFORM).is_some());
    Ok(())
}

fn exit_group_ends_threads() -> Outcome {
    let child = fork(|| {
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    sleep_ms(1000);
                }
            });
        }
        std::thread::spawn(|| {
            sleep_ms(20);
            let _ = sys!(SYS_exit_group, 9);
        });
        loop {
            std::hint::spin_loop();
        }
    })?;
    check_eq!(wait_exit(child)?, 9);
    // exit ends only the calling thread, even if it is the first.
    let child = fork(|| {
        std::thread::spawn(|| {
            sleep_ms(50);
            let _ = sys!(SYS_exit_group, 8);
        });
        let _ = sys!(SYS_exit, 3);
        0
    })?;
    check_eq!(wait_exit(child)?, 8);
    Ok(())
}

/// A thread that is made while the process is told to end does not outlive it.
fn exit_group_meets_new_threads() -> Outcome {
    for round in 0..200 {
        let child = fork(|| {
            let made = &*Box::leak(Box::new(AtomicU32::new(0)));
            for _ in 0..3 {
                std::thread::spawn(move || {
                    let sleeper =
                        || std::thread::Builder::new().stack_size(16 << 10).spawn(|| sleep_ms(1_000_000));
                    while sleeper().is_ok() {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while made.load(Ordering::Relaxed) < round % 20 {
                std::hint::spin_loop();
            }
            5
        })?;
        check_eq!(wait_exit(child)?, 5);
    }
    Ok(())
}

fn wait_usage() -> Outcome {
    let child = fork(|| {
        let end = std::time::Instant::now() + std::time::Duration::from_millis(200);
        while std::time::Instant::now() < end {
            let _ = sys!(SYS_getppid);
        }
        0
    })?;
    let mut usage: rusage = zeroed();
    let mut status = 0;
    sys!(SYS_wait4, child, addr_mut(&mut status), 0, addr_mut(&mut usage))?;
    let us = |t: timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    check!(us(usage.ru_utime) + us(usage.ru_stime) > 20_000);
    check!(usage.ru_maxrss > 0 && usage.ru_minflt > 0);
    let mut children: rusage = zeroed();
    sys!(SYS_getrusage, RUSAGE_CHILDREN as i64, addr_mut(&mut children))?;
    check!(us(children.ru_utime) + us(children.ru_stime) > 20_000);
    let mut times: tms = zeroed();
    sys!(SYS_times, addr_mut(&mut times))?;
    check!(times.tms_cutime + times.tms_cstime > 0);
    check_err!(sys!(SYS_getrusage, 77, addr_mut(&mut children)), EINVAL);
    Ok(())
}

fn pidfd_basics() -> Outcome {
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = close(ends[1]);
        let _ = read_vec(ends[0], 1);
        3
    })?;
    let fd = sys!(SYS_pidfd_open, child, 0)? as i32;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    let mut poll = pollfd { fd, events: POLLIN, revents: 0 };
    let zero = timespec { tv_sec: 0, tv_nsec: 0 };
    check_eq!(sys!(SYS_ppoll, addr_mut(&mut poll), 1, addr(&zero), 0, 0)?, 0);
    sys!(SYS_pidfd_send_signal, fd, 0, 0, 0)?;
    sys!(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0)?;
    check_eq!(sys!(SYS_ppoll, addr_mut(&mut poll), 1, 0, 0, 0)?, 1);
    let mut info: siginfo_t = zeroed();
    sys!(SYS_waitid, P_PIDFD, fd, addr_mut(&mut info), WEXITED, 0)?;
    check_eq!(info.si_code, CLD_KILLED);
    check_err!(sys!(SYS_pidfd_send_signal, fd, 0, 0, 0), ESRCH);
    check_err!(sys!(SYS_pidfd_open, 99_999, 0), ESRCH);
    check_err!(sys!(SYS_pidfd_open, 1, 0x1), EINVAL);
    let me = sys!(SYS_pidfd_open, getpid(), 0)? as i32;
    let copy = sys!(SYS_pidfd_getfd, me, ends[1], 0)? as i32;
    check_eq!(fstat(copy)?.st_ino, fstat(ends[1])?.st_ino);
    // Signals go through a descriptor of /proc/PID too, but not of a thread or of anything else.
    let dir = open(c"/proc/self", O_RDONLY | O_DIRECTORY, 0)?;
    sys!(SYS_pidfd_send_signal, dir, 0, 0, 0)?;
    check_err!(sys!(SYS_pidfd_send_signal, dir, 99, 0, 0), EINVAL);
    let path_only = open(c"/proc/self", O_PATH | O_DIRECTORY, 0)?;
    check_err!(sys!(SYS_pidfd_send_signal, path_only, 0, 0, 0), EBADF);
    for path in [c"/proc/thread-self", c"/proc", c"/proc/self/ns", c"/"] {
        let dir = open(path, O_RDONLY | O_DIRECTORY, 0)?;
        check_err!(sys!(SYS_pidfd_send_signal, dir, 0, 0, 0), EBADF);
    }
    Ok(())
}

fn zombie_visible() -> Outcome {
    let child = fork(|| 0)?;
    check!(eventually(|| state(child) == Some('Z')));
    kill(child, SIGKILL)?;
    check_eq!(wait_exit(child)?, 0);
    check_eq!(state(child), None);
    check_err!(kill(child, 0), ESRCH);
    Ok(())
}

fn fork_many() -> Outcome {
    let mut children = Vec::new();
    for n in 0..100 {
        children.push((fork(|| n)?, n));
    }
    for (pid, n) in children.into_iter().rev() {
        check_eq!(wait_exit(pid)?, n);
    }
    for _ in 0..200 {
        check_eq!(in_child(|| 1)?, 1);
    }
    Ok(())
}

fn argument_limits() -> Outcome {
    // One string may have 128 KiB, all together a quarter of the stack limit.
    let big = "x".repeat(131_000);
    let (status, output) = helper("count", &[&big, "y"], &[])?;
    check_eq!((status, output.as_str()), (0, "131001"));
    let too_big = CString::new("x".repeat(131_072)).unwrap_or_default();
    let args = [too_big.as_ptr(), std::ptr::null()];
    check_err!(sys!(SYS_execve, SELF.as_ptr(), args.as_ptr(), 0), E2BIG);
    let one = CString::new("x".repeat(100_000)).unwrap_or_default();
    let many: Vec<_> = (0..64).map(|_| one.as_ptr()).chain([std::ptr::null()]).collect();
    check_err!(sys!(SYS_execve, SELF.as_ptr(), many.as_ptr(), 0), E2BIG);
    Ok(())
}

fn process_vm() -> Outcome {
    let at = map_anon(4096)?;
    poke(at, 9);
    let ends = pipe(0)?;
    let child = fork(|| {
        poke(at, 77);
        let _ = write(ends[1], b"r");
        sleep_ms(30_000);
        0
    })?;
    read_vec(ends[0], 1)?;
    let mut byte = 0_u8;
    let local = iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = iovec { iov_base: at as *mut _, iov_len: 1 };
    check_eq!(sys!(SYS_process_vm_readv, child, addr(&local), 1, addr(&remote), 1, 0)?, 1);
    check_eq!(byte, 77);
    let bad = iovec { iov_base: 4096 as *mut _, iov_len: 1 };
    check_err!(sys!(SYS_process_vm_readv, child, addr(&local), 1, addr(&bad), 1, 0), EFAULT);
    check_err!(sys!(SYS_process_vm_readv, 99_999, addr(&local), 1, addr(&remote), 1, 0), ESRCH);
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn kcmp_files() -> Outcome {
    let fd = create(c"f", b"")?;
    let copy = sys!(SYS_dup, fd)?;
    let other = open(c"f", O_RDONLY, 0)?;
    let me = getpid();
    check_eq!(sys!(SYS_kcmp, me, me, 0, fd, copy)?, 0);
    check!(sys!(SYS_kcmp, me, me, 0, fd, other)? != 0);
    check_err!(sys!(SYS_kcmp, me, me, 99, fd, other), EINVAL);
    // System V adjustments: none at first, the child's own as soon as it has some.
    check_eq!(sys!(SYS_kcmp, me, me, 6, 0, 0)?, 0);
    let child = fork(|| {
        let op = sembuf { sem_num: 0, sem_op: 1, sem_flg: SEM_UNDO as i16 };
        let made = sys!(SYS_semget, IPC_PRIVATE, 1, 0o600).and_then(|id| {
            sys!(SYS_semop, id, addr(&op), 1)?;
            let same = sys!(SYS_kcmp, getpid(), me, 6, 0, 0)? == 0;
            sys!(SYS_semctl, id, 0, IPC_RMID, 0)?;
            Ok(same)
        });
        i32::from(made != Ok(false))
    })?;
    check_eq!(wait_exit(child)?, 0);
    // A descriptor against what an epoll watches.
    let ends = pipe(0)?;
    let epoll = sys!(SYS_epoll_create1, 0)? as i32;
    let event = epoll_event { events: EPOLLIN as u32, u64: 0 };
    sys!(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, ends[0], addr(&event))?;
    let slot = |target: i32, skip: u32| [epoll as u32, target as u32, skip];
    check_eq!(sys!(SYS_kcmp, me, me, 7, ends[0], addr(&slot(ends[0], 0)))?, 0);
    check!(sys!(SYS_kcmp, me, me, 7, ends[1], addr(&slot(ends[0], 0)))? != 0);
    check_err!(sys!(SYS_kcmp, me, me, 7, ends[0], addr(&slot(ends[0], 1))), ENOENT);
    check_err!(sys!(SYS_kcmp, me, me, 7, ends[0], addr(&slot(ends[1], 0))), ENOENT);
    check_err!(sys!(SYS_kcmp, me, me, 7, ends[0], addr(&[ends[0] as u32, ends[0] as u32, 0])), EINVAL);
    check_err!(sys!(SYS_kcmp, me, me, 7, ends[0], addr(&[999_u32, ends[0] as u32, 0])), EBADF);
    check_err!(sys!(SYS_kcmp, me, me, 7, ends[0], 8), EFAULT);
    Ok(())
}
