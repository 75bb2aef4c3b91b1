//! What a tracer hears of: children, threads, programs, ends; who waits for whom: ptrace(2).

use crate::prelude::*;
#[cfg(target_arch = "x86_64")]
use crate::ptrace::NR;
use crate::ptrace::{
    IP, PTRACE_EVENT_STOP_, RESULT, SP, cont, event, expect_stop, finish, message, peek_word, ptrace, regs,
    run_to, siginfo, sleeper, stop_code, traced,
};
use std::sync::atomic::Ordering::SeqCst;

tests![
    fork_events,
    clone_event_and_threads,
    exec_event,
    exec_from_thread_event,
    exit_event,
    seize_and_interrupt,
    seize_group_stop,
    listen_until_continued,
    group_stop_of_attached,
    tracer_dies,
    exit_kill,
    real_parent_waits_last,
    wait_by_thread,
    zombie_leader,
    setuid_exec_is_tamed,
    setuid_exec_under_root,
    wait_reports,
];

/// The child that an event tells of, which stops as well; both stand afterwards.
fn new_child(parent: i32, code: i32) -> Result<i32, Failure> {
    expect_stop(parent, code)?;
    let child = message(parent)? as i32;
    check!(child > 0 && child != parent);
    let (pid, status) = wait_options(child, __WALL)?;
    check!(pid == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "{status:#x}");
    Ok(child)
}

fn fork_events() -> Outcome {
    let child = traced(|| {
        let forked = fork(|| 11).unwrap_or(0);
        let first = wait_exit(forked);
        // SAFETY: the child exits at once.
        #[allow(deprecated)]
        let forked = unsafe {
            let pid = libc::vfork();
            if pid == 0 {
                libc::_exit(12);
            }
            pid
        };
        let second = wait_exit(forked);
        i32::from(first != Ok(11) || second != Ok(12))
    })?;
    let options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE;
    ptrace(PTRACE_SETOPTIONS, child, 0, options as usize)?;
    cont(child, 0)?;
    let forked = new_child(child, event(PTRACE_EVENT_FORK))?;
    cont(child, 0)?;
    cont(forked, 0)?;
    let (_, status) = wait_options(forked, __WALL)?;
    check!(WIFEXITED(status) && WEXITSTATUS(status) == 11);
    expect_stop(child, SIGCHLD)?;
    cont(child, SIGCHLD)?;
    let forked = new_child(child, event(PTRACE_EVENT_VFORK))?;
    // The parent of a vfork waits while its child stands.
    cont(child, 0)?;
    sleep_ms(20);
    check_eq!(wait_options(child, WNOHANG | __WALL)?.0, 0);
    cont(forked, 0)?;
    // The child has given up its memory before its end can be waited for.
    let mut seen = [0; 2];
    for slot in &mut seen {
        let (pid, status) = wait_options(-1, __WALL)?;
        *slot = pid;
        if pid == child {
            check_eq!(status >> 8, event(PTRACE_EVENT_VFORK_DONE));
            check_eq!(message(child)? as i32, forked);
            cont(child, 0)?;
        } else {
            check!(pid == forked && WIFEXITED(status) && WEXITSTATUS(status) == 12);
        }
    }
    check!(seen.contains(&child) && seen.contains(&forked));
    expect_stop(child, SIGCHLD)?;
    cont(child, SIGCHLD)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn clone_event_and_threads() -> Outcome {
    let word = map_shared(4096)?;
    let child = traced(|| {
        let thread = std::thread::spawn(move || {
            atomic(word).store(1, SeqCst);
            let _ = sys!(SYS_tgkill, getpid(), sys!(SYS_gettid).unwrap_or(0), SIGUSR1);
            21
        });
        let value = thread.join().unwrap_or(0);
        // The end of the process would be reported for the thread, too.
        let _ = sys!(SYS_tgkill, getpid(), getpid(), SIGUSR2);
        value
    })?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE as usize)?;
    cont(child, 0)?;
    let thread = new_child(child, event(PTRACE_EVENT_CLONE))?;
    check_eq!(atomic(word).load(SeqCst), 0);
    let status = std::fs::read_to_string(format!("/proc/{child}/task/{thread}/status"))?;
    check!(status.contains(&format!("TracerPid:\t{}\n", getpid())) && status.contains("t (tracing stop)"));
    cont(child, 0)?;
    // The leader goes on alone.
    sleep_ms(20);
    check_eq!(atomic(word).load(SeqCst), 0);
    cont(thread, 0)?;
    expect_stop(thread, SIGUSR1)?;
    check_eq!(atomic(word).load(SeqCst), 1);
    cont(thread, 0)?;
    // A thread's end is reported to its tracer alone.
    let (pid, status) = wait_options(thread, __WALL)?;
    check!(pid == thread && WIFEXITED(status) && WEXITSTATUS(status) == 0, "{status:#x}");
    check_err!(wait_options(thread, __WALL), ECHILD);
    expect_stop(child, SIGUSR2)?;
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 21);
    Ok(())
}

fn execute(args: &[&str]) -> i32 {
    let strings: Vec<std::ffi::CString> =
        args.iter().map(|s| std::ffi::CString::new(*s).unwrap_or_default()).collect();
    let pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
    let _ = sys!(SYS_execve, c"/proc/self/exe".as_ptr(), pointers.as_ptr(), 0);
    126
}

fn exec_event() -> Outcome {
    // Without the option: a SIGTRAP.
    let child = traced(|| execute(&["helper:count", "abc"]))?;
    cont(child, 0)?;
    expect_stop(child, SIGTRAP)?;
    check_eq!(siginfo(child)?.si_code, SI_USER);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    // With it: an event, and the end of the call.
    let child = traced(|| execute(&["helper:count", "abc"]))?;
    let options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD;
    ptrace(PTRACE_SETOPTIONS, child, 0, options as usize)?;
    run_to(child, SYS_execve)?;
    ptrace(PTRACE_SYSCALL, child, 0, 0)?;
    expect_stop(child, event(PTRACE_EVENT_EXEC))?;
    check_eq!(message(child)? as i32, child);
    let all = regs(child)?;
    ptrace(PTRACE_SYSCALL, child, 0, 0)?;
    expect_stop(child, SIGTRAP | 0x80)?;
    check_eq!(message(child)?, 2);
    #[cfg(target_arch = "x86_64")]
    check_eq!(regs(child)?[NR], SYS_execve as u64);
    check_eq!((regs(child)?[RESULT], regs(child)?[IP]), (0, all[IP]));
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn exec_from_thread_event() -> Outcome {
    let child = traced(|| {
        let thread = std::thread::spawn(|| execute(&["helper:pid"]));
        let _ = thread.join();
        125
    })?;
    let options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXIT;
    ptrace(PTRACE_SETOPTIONS, child, 0, options as usize)?;
    cont(child, 0)?;
    let thread = new_child(child, event(PTRACE_EVENT_CLONE))?;
    cont(child, 0)?;
    cont(thread, 0)?;
    // The leader dies for it.
    expect_stop(child, event(PTRACE_EVENT_EXIT))?;
    cont(child, 0)?;
    // The thread has become the leader; the event tells who it was.
    expect_stop(child, event(PTRACE_EVENT_EXEC))?;
    check_eq!(message(child)? as i32, thread);
    check_err!(cont(thread, 0), ESRCH);
    cont(child, 0)?;
    expect_stop(child, event(PTRACE_EVENT_EXIT))?;
    check_eq!(message(child)?, 0);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn exit_event() -> Outcome {
    let child = traced(|| 33)?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT as usize)?;
    cont(child, 0)?;
    expect_stop(child, event(PTRACE_EVENT_EXIT))?;
    check_eq!(message(child)?, 33 << 8);
    // Its memory is still there.
    check!(peek_word(child, regs(child)?[SP] as usize).is_ok());
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 33);
    // Even the killed say good-bye.
    let child = traced(|| 33)?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT as usize)?;
    kill(child, SIGKILL)?;
    expect_stop(child, event(PTRACE_EVENT_EXIT))?;
    check_eq!(message(child)?, SIGKILL as usize);
    // What is dying takes no more signals, not even that one.
    kill(child, SIGKILL)?;
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, -SIGKILL);
    Ok(())
}

fn seize_and_interrupt() -> Outcome {
    let child = sleeper()?;
    check_err!(ptrace(PTRACE_SEIZE, child, 1, 0), EIO);
    check_err!(ptrace(PTRACE_SEIZE, child, 0, 1 << 30), EIO);
    check_err!(ptrace(PTRACE_INTERRUPT, child, 0, 0), ESRCH);
    ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD as usize)?;
    // It does not stop by itself.
    sleep_ms(20);
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    check_eq!(state(child), Some('S'));
    ptrace(PTRACE_INTERRUPT, child, 0, 0)?;
    expect_stop(child, event(PTRACE_EVENT_STOP_))?;
    check_eq!(siginfo(child)?.si_code, event(PTRACE_EVENT_STOP_));
    check_err!(ptrace(PTRACE_LISTEN, child, 0, 0).map(|_| ptrace(PTRACE_CONT, child, 0, 0))?, ESRCH);
    ptrace(PTRACE_INTERRUPT, child, 0, 0)?;
    expect_stop(child, event(PTRACE_EVENT_STOP_))?;
    cont(child, 0)?;
    finish(child)?;
    // Interrupting and listening are for the seized.
    let child = traced(|| 0)?;
    check_err!(ptrace(PTRACE_INTERRUPT, child, 0, 0), EIO);
    check_err!(ptrace(PTRACE_LISTEN, child, 0, 0), EIO);
    finish(child)
}

fn seize_group_stop() -> Outcome {
    let child = sleeper()?;
    ptrace(PTRACE_SEIZE, child, 0, 0)?;
    kill(child, SIGSTOP)?;
    expect_stop(child, SIGSTOP)?;
    check_eq!(siginfo(child)?.si_code, SI_USER);
    cont(child, SIGSTOP)?;
    // Now the group stop.
    expect_stop(child, SIGSTOP | PTRACE_EVENT_STOP_ << 8)?;
    // The tracer is the parent, which hears of nothing else.
    check_eq!(wait_options(child, WNOHANG | WUNTRACED)?.0, 0);
    // It can be made to run all the same.
    cont(child, 0)?;
    check!(eventually(|| state(child) == Some('S')));
    finish(child)
}

fn listen_until_continued() -> Outcome {
    let child = sleeper()?;
    ptrace(PTRACE_SEIZE, child, 0, 0)?;
    kill(child, SIGTSTP)?;
    expect_stop(child, SIGTSTP)?;
    cont(child, SIGSTOP)?;
    expect_stop(child, SIGSTOP | PTRACE_EVENT_STOP_ << 8)?;
    ptrace(PTRACE_LISTEN, child, 0, 0)?;
    check_eq!(state(child), Some('t'));
    check_eq!(wait_options(child, WNOHANG)?.0, 0);
    kill(child, SIGCONT)?;
    // The end of the group stop, then the signal itself.
    expect_stop(child, event(PTRACE_EVENT_STOP_))?;
    cont(child, 0)?;
    expect_stop(child, SIGCONT)?;
    cont(child, SIGCONT)?;
    check!(eventually(|| state(child) == Some('S')));
    finish(child)
}

fn group_stop_of_attached() -> Outcome {
    let child = traced(|| {
        loop {
            sleep_ms(1000);
        }
    })?;
    // Passing the stop on makes a group stop, which has no siginfo.
    cont(child, SIGSTOP)?;
    expect_stop(child, SIGSTOP)?;
    check_err!(siginfo(child), EINVAL);
    cont(child, 0)?;
    check!(eventually(|| state(child) == Some('S')));
    // SIGCONT is a signal like others for the tracer.
    kill(child, SIGCONT)?;
    expect_stop(child, SIGCONT)?;
    cont(child, 0)?;
    finish(child)
}

fn tracer_dies() -> Outcome {
    let target = sleeper()?;
    let tracer = fork(|| {
        if ptrace(PTRACE_ATTACH, target, 0, 0).is_err() || stop_code(target).ok() != Some(SIGSTOP) {
            return 1;
        }
        0
    })?;
    check_eq!(wait_exit(tracer)?, 0);
    // It goes on by itself.
    check!(eventually(|| state(target) == Some('S')));
    let status = std::fs::read_to_string(format!("/proc/{target}/status"))?;
    check!(status.contains("TracerPid:\t0\n"));
    finish(target)
}

fn exit_kill() -> Outcome {
    let target = sleeper()?;
    let tracer = fork(|| i32::from(ptrace(PTRACE_SEIZE, target, 0, PTRACE_O_EXITKILL as usize).is_err()))?;
    check_eq!(wait_exit(tracer)?, 0);
    check_eq!(wait_exit(target)?, -SIGKILL);
    Ok(())
}

fn real_parent_waits_last() -> Outcome {
    let word = map_shared(4096)?;
    let target = fork(|| {
        while atomic(word).load(SeqCst) == 0 {
            sleep_ms(1);
        }
        44
    })?;
    let tracer = fork(|| {
        if ptrace(PTRACE_SEIZE, target, 0, 0).is_err() {
            return 1;
        }
        atomic(word).store(1, SeqCst);
        while state(target) != Some('Z') {
            sleep_ms(1);
        }
        atomic(word + 4).store(1, SeqCst);
        while atomic(word + 4).load(SeqCst) == 1 {
            sleep_ms(1);
        }
        let status = wait_exit(target);
        // Reported once; what comes then is the parent's.
        let again = wait_options(target, __WALL);
        i32::from(status != Ok(44) || again != Err(Errno(ECHILD)))
    })?;
    check!(eventually(|| atomic(word + 4).load(SeqCst) == 1));
    // A zombie, but not ours yet.
    check_eq!(state(target), Some('Z'));
    check_eq!(wait_options(target, WNOHANG)?.0, 0);
    atomic(word + 4).store(2, SeqCst);
    check_eq!(wait_exit(target)?, 44);
    check_eq!(wait_exit(tracer)?, 0);
    // A tracer that never waits is no obstacle once it has gone.
    let target = fork(|| {
        sleep_ms(30);
        45
    })?;
    let tracer = fork(|| {
        let failed = ptrace(PTRACE_SEIZE, target, 0, 0).is_err();
        while state(target) != Some('Z') {
            sleep_ms(1);
        }
        i32::from(failed)
    })?;
    check_eq!(wait_exit(target)?, 45);
    check_eq!(wait_exit(tracer)?, 0);
    Ok(())
}

fn wait_by_thread() -> Outcome {
    let child = traced(|| 6)?;
    let (asked, other) = std::thread::spawn(move || {
        // Requests are for the thread that traces; waiting is for all, unless they say otherwise.
        (cont(child, 0), wait_options(-1, WNOHANG | __WALL | __WNOTHREAD))
    })
    .join()
    .map_err(|_| Failure::new("thread"))?;
    check_eq!(asked, Err(Errno(ESRCH)));
    check_eq!(other, Err(Errno(ECHILD)));
    cont(child, 0)?;
    let status =
        std::thread::spawn(move || wait_options(child, 0)).join().map_err(|_| Failure::new("thread"))??;
    check!(WIFEXITED(status.1) && WEXITSTATUS(status.1) == 6);
    Ok(())
}

fn zombie_leader() -> Outcome {
    let word = map_shared(4096)?;
    let child = traced(|| {
        std::thread::spawn(move || {
            while atomic(word).load(SeqCst) == 0 {
                sleep_ms(1);
            }
            let _ = sys!(SYS_exit, 8);
        });
        sleep_ms(5);
        let _ = sys!(SYS_exit, 7);
        0
    })?;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE as usize)?;
    cont(child, 0)?;
    let thread = new_child(child, event(PTRACE_EVENT_CLONE))?;
    cont(child, 0)?;
    cont(thread, 0)?;
    // The leader is gone, but its process is not.
    check!(eventually(|| state(child) == Some('Z')));
    check_eq!(wait_options(child, WNOHANG | __WALL)?.0, 0);
    check_err!(cont(child, 0), ESRCH);
    atomic(word).store(1, SeqCst);
    // The thread first, then the process, whose status is that of the last to go.
    let (pid, status) = wait_options(-1, __WALL)?;
    check!(pid == thread && WIFEXITED(status) && WEXITSTATUS(status) == 8, "{pid} {status:#x}");
    check_eq!(wait_exit(child)?, 8);
    Ok(())
}

/// Makes a copy of this program that runs as user 1111: on the root file system, as /tmp is mounted nosuid.
fn setuid_copy(path: &std::ffi::CStr) -> crate::sys::Result<()> {
    let image = std::fs::read("/proc/self/exe").unwrap_or_default();
    let file = create(path, &image)?;
    sys!(SYS_fchown, file, 1111, 1111)?;
    sys!(SYS_fchmod, file, 0o4755)?;
    close(file)
}

fn run_ids(path: &std::ffi::CStr, output: i32) -> i32 {
    let _ = sys!(SYS_dup3, output, 1, 0);
    let args = [c"helper:ids".as_ptr(), std::ptr::null()];
    let _ = sys!(SYS_execve, path.as_ptr(), args.as_ptr(), 0);
    126
}

fn setuid_exec_is_tamed() -> Outcome {
    let path = c"/suid-tamed";
    setuid_copy(path)?;
    let ends = pipe(0)?;
    // An ordinary user traces: the program runs with that user's id.
    let status = in_child(|| {
        let _ = sys!(SYS_setresgid, 2222, 2222, 2222);
        let _ = sys!(SYS_setresuid, 2222, 2222, 2222);
        let Ok(child) = traced(|| run_ids(path, ends[1])) else { return 1 };
        if cont(child, 0).is_err() || stop_code(child).ok() != Some(SIGTRAP) {
            return 2;
        }
        let _ = cont(child, 0);
        wait_exit(child).unwrap_or(3)
    })?;
    close(ends[1])?;
    check_eq!(status, 0);
    unlink(path)?;
    let text = String::from_utf8_lossy(&read_all(ends[0])?).into_owned();
    check!(text.starts_with("2222 2222 2222 2222 2222 2222"), "{text}");
    Ok(())
}

fn setuid_exec_under_root() -> Outcome {
    let path = c"/suid-root";
    setuid_copy(path)?;
    let ends = pipe(0)?;
    let word = map_shared(4096)?;
    // A tracer that attached with the capability changes nothing.
    let child = fork(|| {
        let _ = sys!(SYS_setresgid, 2222, 2222, 2222);
        let _ = sys!(SYS_setresuid, 2222, 2222, 2222);
        while atomic(word).load(SeqCst) == 0 {
            sleep_ms(1);
        }
        run_ids(path, ends[1])
    })?;
    close(ends[1])?;
    ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACEEXEC as usize)?;
    atomic(word).store(1, SeqCst);
    expect_stop(child, event(PTRACE_EVENT_EXEC))?;
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    unlink(path)?;
    let text = String::from_utf8_lossy(&read_all(ends[0])?).into_owned();
    check!(text.starts_with("2222 1111 1111 2222 2222 2222"), "{text}");
    Ok(())
}

fn wait_reports() -> Outcome {
    let child = traced(|| 0)?;
    cont(child, SIGSTOP)?;
    // waitid sees a trap, also without WSTOPPED, and can leave it.
    let mut info: siginfo_t = zeroed();
    sys!(SYS_waitid, P_PID, child, addr_mut(&mut info), WEXITED | WNOWAIT, 0)?;
    // SAFETY: the structure of a child's change.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    check_eq!((info.si_signo, info.si_code, pid, status), (SIGCHLD, CLD_TRAPPED, child, SIGSTOP));
    sys!(SYS_waitid, P_ALL, 0, addr_mut(&mut info), WSTOPPED, 0)?;
    // SAFETY: as above.
    check_eq!((info.si_code, unsafe { info.si_status() }), (CLD_TRAPPED, SIGSTOP));
    check_eq!(wait_options(-1, WNOHANG)?.0, 0);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT as usize)?;
    cont(child, 0)?;
    sys!(SYS_waitid, P_PGID, 0, addr_mut(&mut info), WEXITED, 0)?;
    // SAFETY: as above.
    check_eq!((info.si_code, unsafe { info.si_status() }), (CLD_TRAPPED, event(PTRACE_EVENT_EXIT)));
    cont(child, 0)?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}
