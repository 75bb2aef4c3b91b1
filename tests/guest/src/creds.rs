//! Who may do what: user and group ids, capabilities, resource limits (credentials(7),
//! capabilities(7), getrlimit(2)).

use crate::prelude::*;

tests![
    resuid_changes,
    setuid_drops_all,
    saved_id_returns,
    resgid_and_groups,
    regid_changes,
    supplementary_access,
    fsuid_counts_for_files,
    capabilities_follow_uids,
    capget_capset,
    capability_bounding,
    no_caps_no_powers,
    ambient_caps,
    keepcaps,
    securebits,
    rlimits_get_set,
    rlimit_nofile,
    rlimit_nproc,
    rlimit_cpu,
    rlimit_stack_reported,
    rlimit_errors,
    prlimit_other,
    ids_in_status,
];

fn ids() -> crate::sys::Result<[u32; 6]> {
    let mut ids = [0_u32; 6];
    let at = ids.as_mut_ptr() as usize;
    sys!(SYS_getresuid, at, at + 4, at + 8)?;
    sys!(SYS_getresgid, at + 12, at + 16, at + 20)?;
    Ok(ids)
}

/// Runs checks in a child, because they change who we are; the first failed one is its status.
fn each(checks: &[&dyn Fn() -> bool]) -> Outcome {
    let status = in_child(|| checks.iter().position(|check| !check()).map_or(0, |n| n as i32 + 1))?;
    if status == 0 { Ok(()) } else { Err(Failure::new(format!("step {status} failed"))) }
}

fn resuid_changes() -> Outcome {
    check_eq!(ids()?, [0; 6]);
    each(&[
        &|| sys!(SYS_setresuid, 1, 2, 3).is_ok(),
        &|| ids() == Ok([1, 2, 3, 0, 0, 0]),
        &|| sys!(SYS_getuid) == Ok(1) && sys!(SYS_geteuid) == Ok(2),
        &|| sys!(SYS_setresuid, -1_i64, 3, -1_i64).is_ok(),
        &|| ids() == Ok([1, 3, 3, 0, 0, 0]),
        &|| sys!(SYS_setresuid, 4, -1_i64, -1_i64) == Err(Errno(EPERM)),
        &|| sys!(SYS_setreuid, 3, 1).is_ok(),
        &|| ids() == Ok([3, 1, 1, 0, 0, 0]),
    ])
}

fn setuid_drops_all() -> Outcome {
    each(&[
        &|| sys!(SYS_setuid, 1000).is_ok(),
        &|| ids() == Ok([1000, 1000, 1000, 0, 0, 0]),
        &|| sys!(SYS_setuid, 0) == Err(Errno(EPERM)),
        &|| sys!(SYS_setuid, 1000).is_ok(),
        &|| sys!(SYS_setgid, 5) == Err(Errno(EPERM)),
        &|| sys!(SYS_setgroups, 0, 0) == Err(Errno(EPERM)),
    ])
}

fn saved_id_returns() -> Outcome {
    each(&[
        &|| sys!(SYS_setresuid, -1_i64, 1000, -1_i64).is_ok(),
        &|| {
            open(c"/root/x", O_CREAT | O_WRONLY, 0o600) == Err(Errno(EACCES))
                || stat(c"/root").is_ok_and(|s| s.st_mode & 0o7 != 0)
        },
        &|| sys!(SYS_setuid, 0).is_ok(),
        &|| ids() == Ok([0; 6]),
    ])
}

fn resgid_and_groups() -> Outcome {
    each(&[
        &|| sys!(SYS_setgroups, 3, [7_u32, 8, 9].as_ptr()).is_ok(),
        &|| {
            let mut groups = [0_u32; 8];
            sys!(SYS_getgroups, 8, groups.as_mut_ptr()) == Ok(3) && groups[..3] == [7, 8, 9]
        },
        &|| sys!(SYS_getgroups, 0, 0) == Ok(3),
        &|| sys!(SYS_getgroups, 2, [0_u32; 2].as_ptr()) == Err(Errno(EINVAL)),
        &|| sys!(SYS_setgroups, 70_000, 0) == Err(Errno(EINVAL)),
        &|| sys!(SYS_setresgid, 4, 5, 6).is_ok(),
        &|| ids() == Ok([0, 0, 0, 4, 5, 6]),
        &|| sys!(SYS_getgid) == Ok(4) && sys!(SYS_getegid) == Ok(5),
        &|| sys!(SYS_setgid, 11).is_ok() && ids() == Ok([0, 0, 0, 11, 11, 11]),
    ])
}

fn regid_changes() -> Outcome {
    each(&[
        &|| sys!(SYS_setregid, 5, -1_i64).is_ok(),
        // Setting the real one sets the saved one to the effective one.
        &|| ids() == Ok([0, 0, 0, 5, 0, 0]),
        &|| sys!(SYS_setregid, -1_i64, 6).is_ok(),
        &|| ids() == Ok([0, 0, 0, 5, 6, 6]),
        // An effective one that is the real one leaves the saved one.
        &|| sys!(SYS_setregid, -1_i64, 5).is_ok(),
        &|| ids() == Ok([0, 0, 0, 5, 5, 6]),
        &|| sys!(SYS_setregid, -1_i64, -1_i64).is_ok() && ids() == Ok([0, 0, 0, 5, 5, 6]),
    ])?;
    // Without CAP_SETGID: real from real or effective, effective from any of the three.
    each(&[
        &|| sys!(SYS_setresgid, 5, 6, 7).is_ok() && sys!(SYS_setresuid, 1000, 1000, 1000).is_ok(),
        &|| sys!(SYS_setregid, 7, -1_i64) == Err(Errno(EPERM)),
        &|| sys!(SYS_setregid, -1_i64, 8) == Err(Errno(EPERM)),
        &|| sys!(SYS_setregid, -1_i64, 7).is_ok(),
        &|| ids() == Ok([1000, 1000, 1000, 5, 7, 7]),
        &|| sys!(SYS_setregid, 7, 5).is_ok(),
        &|| ids() == Ok([1000, 1000, 1000, 7, 5, 5]),
    ])
}

fn supplementary_access() -> Outcome {
    create(c"f", b"x")?;
    sys!(SYS_fchownat, CWD, c"f".as_ptr(), 0, 77, 0)?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o640)?;
    let be = |group: u32| {
        sys!(SYS_setgroups, 1, [group].as_ptr()).is_ok()
            && sys!(SYS_setresgid, 1000, 1000, 1000).is_ok()
            && sys!(SYS_setresuid, 1000, 1000, 1000).is_ok()
    };
    each(&[&|| be(77), &|| open(c"f", O_RDONLY, 0).is_ok(), &|| {
        open(c"f", O_WRONLY, 0) == Err(Errno(EACCES))
    }])?;
    each(&[&|| be(78), &|| open(c"f", O_RDONLY, 0) == Err(Errno(EACCES))])
}

fn fsuid_counts_for_files() -> Outcome {
    mkdir(c"d", 0o777)?;
    sys!(SYS_fchmodat, CWD, c"d".as_ptr(), 0o777)?;
    each(&[
        &|| sys!(SYS_setfsuid, 55) == Ok(0),
        &|| sys!(SYS_setfsuid, -1_i64) == Ok(55),
        &|| create(c"d/f", b"").is_ok(),
        &|| stat(c"d/f").is_ok_and(|s| s.st_uid == 55),
        &|| sys!(SYS_setfsgid, 66) == Ok(0),
    ])
}

fn caps(pid: i32) -> crate::sys::Result<[u64; 3]> {
    let header = [0x2008_0522_u32, pid as u32];
    let mut data = [0_u32; 6];
    sys!(SYS_capget, addr(&header), addr_mut(&mut data))?;
    let set = |n: usize| u64::from(data[n]) | u64::from(data[n + 3]) << 32;
    Ok([set(0), set(1), set(2)])
}

fn set_caps(effective: u64, permitted: u64, inheritable: u64) -> crate::sys::Result<usize> {
    let header = [0x2008_0522_u32, 0];
    let sets = [effective, permitted, inheritable];
    let data: Vec<u32> = (0..2).flat_map(|half| sets.map(|set| (set >> (32 * half)) as u32)).collect();
    sys!(SYS_capset, addr(&header), data.as_ptr())
}

/// All capabilities that Linux 6.12 knows.
const ALL: u64 = (1 << 41) - 1;

fn capabilities_follow_uids() -> Outcome {
    check_eq!(caps(0)?, [ALL, ALL, 0]);
    each(&[
        &|| sys!(SYS_setresuid, -1_i64, 1000, -1_i64).is_ok() && caps(0) == Ok([0, ALL, 0]),
        &|| sys!(SYS_setresuid, -1_i64, 0, -1_i64).is_ok() && caps(0) == Ok([ALL, ALL, 0]),
        &|| sys!(SYS_setresuid, 1000, 1000, 1000).is_ok() && caps(0) == Ok([0, 0, 0]),
    ])
}

fn capget_capset() -> Outcome {
    // An unknown version is answered with the one the kernel prefers.
    let mut header = [0x1111_u32, 0];
    check_err!(sys!(SYS_capget, addr_mut(&mut header), addr(&[0_u32; 6])), EINVAL);
    check_eq!(header[0], 0x2008_0522);
    check_err!(caps(4_000_000), ESRCH);
    check_eq!(caps(getpid())?, caps(0)?);
    let chown = 1_u64;
    each(&[
        &|| set_caps(chown, chown, 0).is_ok(),
        &|| caps(0) == Ok([chown, chown, 0]),
        &|| set_caps(ALL, ALL, 0) == Err(Errno(EPERM)),
        &|| set_caps(ALL, chown, 0) == Err(Errno(EPERM)),
        &|| set_caps(0, chown, chown).is_ok() && caps(0) == Ok([0, chown, chown]),
    ])
}

fn capability_bounding() -> Outcome {
    check_eq!(sys!(SYS_prctl, PR_CAPBSET_READ, 0, 0, 0, 0)?, 1);
    check_err!(sys!(SYS_prctl, PR_CAPBSET_READ, 63, 0, 0, 0), EINVAL);
    each(&[
        &|| sys!(SYS_prctl, PR_CAPBSET_DROP, 12, 0, 0, 0).is_ok(),
        &|| sys!(SYS_prctl, PR_CAPBSET_READ, 12, 0, 0, 0) == Ok(0),
        &|| sys!(SYS_prctl, PR_CAPBSET_DROP, 63, 0, 0, 0) == Err(Errno(EINVAL)),
    ])
}

fn no_caps_no_powers() -> Outcome {
    // Still user 0, but without capabilities.
    create(c"f", b"")?;
    sys!(SYS_fchownat, CWD, c"f".as_ptr(), 5, 5, 0)?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0)?;
    each(&[
        &|| set_caps(0, 0, 0).is_ok(),
        &|| open(c"f", O_RDONLY, 0) == Err(Errno(EACCES)),
        &|| sys!(SYS_setuid, 7) == Err(Errno(EPERM)),
        &|| sys!(SYS_chroot, c"/".as_ptr()) == Err(Errno(EPERM)),
        &|| sys!(SYS_sethostname, c"x".as_ptr(), 1) == Err(Errno(EPERM)),
        &|| sys!(SYS_mount, 0, c"/mnt".as_ptr(), c"tmpfs".as_ptr(), 0, 0) == Err(Errno(EPERM)),
        &|| sys!(SYS_reboot, 0xfee1_dead_u32, 672_274_793, 0, 0) == Err(Errno(EPERM)),
        &|| sys!(SYS_fchownat, CWD, c"f".as_ptr(), 6, 6, 0) == Err(Errno(EPERM)),
        &|| sys!(SYS_unshare, CLONE_NEWUTS) == Err(Errno(EPERM)),
    ])
}

fn ambient_caps() -> Outcome {
    let bind = 1_u64 << 10;
    each(&[
        &|| sys!(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 10, 0, 0) == Err(Errno(EPERM)),
        &|| set_caps(ALL, ALL, bind).is_ok(),
        &|| sys!(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 10, 0, 0).is_ok(),
        &|| sys!(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 10, 0, 0) == Ok(1),
        &|| sys!(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0).is_ok(),
        &|| sys!(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 10, 0, 0) == Ok(0),
    ])
}

fn keepcaps() -> Outcome {
    each(&[
        &|| sys!(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0).is_ok(),
        &|| sys!(SYS_prctl, PR_GET_KEEPCAPS, 0, 0, 0, 0) == Ok(1),
        &|| sys!(SYS_setresuid, 1000, 1000, 1000).is_ok() && caps(0) == Ok([0, ALL, 0]),
        &|| set_caps(ALL, ALL, 0).is_ok(),
        &|| sys!(SYS_setuid, 0).is_ok(),
    ])
}

fn securebits() -> Outcome {
    check_eq!(sys!(SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0)?, 0);
    each(&[
        // SECBIT_NO_SETUID_FIXUP: ids change, capabilities do not.
        &|| sys!(SYS_prctl, PR_SET_SECUREBITS, 4, 0, 0, 0).is_ok(),
        &|| sys!(SYS_setresuid, 1000, 1000, 1000).is_ok() && caps(0) == Ok([ALL, ALL, 0]),
        &|| sys!(SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0) == Ok(4),
    ])
}

fn limit(resource: u32) -> crate::sys::Result<(u64, u64)> {
    let mut limit: rlimit = zeroed();
    sys!(SYS_prlimit64, 0, resource, 0, addr_mut(&mut limit))?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

fn set_limit(resource: u32, soft: u64, hard: u64) -> crate::sys::Result<usize> {
    let limit = rlimit { rlim_cur: soft, rlim_max: hard };
    sys!(SYS_prlimit64, 0, resource, addr(&limit), 0)
}

fn rlimits_get_set() -> Outcome {
    check_eq!(limit(RLIMIT_NOFILE as u32)?, (1024, 4096));
    check_eq!(limit(RLIMIT_STACK as u32)?, (8 << 20, u64::MAX));
    check_eq!(limit(RLIMIT_CPU as u32)?, (u64::MAX, u64::MAX));
    check_eq!(limit(RLIMIT_CORE as u32)?.1, u64::MAX);
    let mut old: rlimit = zeroed();
    sys!(SYS_getrlimit, RLIMIT_NOFILE, addr_mut(&mut old))?;
    check_eq!(old.rlim_cur, 1024);
    each(&[
        &|| set_limit(RLIMIT_NOFILE as u32, 100, 200).is_ok(),
        &|| limit(RLIMIT_NOFILE as u32) == Ok((100, 200)),
        &|| in_child(|| i32::from(limit(RLIMIT_NOFILE as u32) != Ok((100, 200)))) == Ok(0),
        &|| sys!(SYS_setresuid, 1000, 1000, 1000).is_ok(),
        &|| set_limit(RLIMIT_NOFILE as u32, 150, 200).is_ok(),
        &|| set_limit(RLIMIT_NOFILE as u32, 150, 201) == Err(Errno(EPERM)),
    ])
}

fn rlimit_nofile() -> Outcome {
    each(&[
        &|| set_limit(RLIMIT_NOFILE as u32, 10, 4096).is_ok(),
        &|| {
            let opened = (0..20).map(|_| open(c"/dev/null", O_RDONLY, 0)).filter(Result::is_ok).count();
            opened < 10
        },
        &|| open(c"/dev/null", O_RDONLY, 0) == Err(Errno(EMFILE)),
        &|| pipe(0) == Err(Errno(EMFILE)),
        &|| sys!(SYS_dup, 0) == Err(Errno(EMFILE)),
        &|| fcntl(0, F_DUPFD, 10) == Err(Errno(EINVAL)),
        &|| sys!(SYS_dup3, 0, 10, 0) == Err(Errno(EBADF)),
        &|| close(5).is_ok() && open(c"/dev/null", O_RDONLY, 0) == Ok(5),
    ])
}

fn rlimit_nproc() -> Outcome {
    each(&[
        &|| set_limit(RLIMIT_NPROC as u32, 5, 5).is_ok(),
        // Root does not count.
        &|| in_child(|| 0) == Ok(0),
        &|| sys!(SYS_setresuid, 4343, 4343, 4343).is_ok(),
        &|| {
            let forks = (0..10)
                .map(|_| {
                    fork(|| {
                        sleep_ms(20_000);
                        0
                    })
                })
                .filter(Result::is_ok)
                .count();
            forks == 4
        },
        &|| fork(|| 0) == Err(Errno(EAGAIN)),
        &|| std::thread::Builder::new().spawn(|| {}).is_err(),
    ])
}

fn rlimit_cpu() -> Outcome {
    let child = fork(|| {
        let _ = set_limit(RLIMIT_CPU as u32, 1, 3);
        loop {
            std::hint::spin_loop();
        }
    })?;
    check_eq!(wait_exit(child)?, -SIGXCPU);
    Ok(())
}

fn rlimit_stack_reported() -> Outcome {
    let limits = slurp(c"/proc/self/limits")?;
    let line = limits.lines().find(|l| l.starts_with("Max stack size")).unwrap_or("");
    let words: Vec<&str> = line.split_whitespace().collect();
    check_eq!(words, ["Max", "stack", "size", "8388608", "unlimited", "bytes"]);
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap_or("");
    check!(line.split_whitespace().any(|w| w == "1024"));
    Ok(())
}

fn rlimit_errors() -> Outcome {
    check_err!(limit(99), EINVAL);
    check_err!(set_limit(RLIMIT_NOFILE as u32, 10, 5), EINVAL);
    check_err!(set_limit(RLIMIT_NOFILE as u32, 10, 1 << 40), EPERM);
    check_err!(sys!(SYS_prlimit64, 0, RLIMIT_CPU, 1, 0), EFAULT);
    check_err!(sys!(SYS_prlimit64, 4_000_000, RLIMIT_CPU, 0, 0), ESRCH);
    Ok(())
}

fn prlimit_other() -> Outcome {
    let child = fork(|| {
        sleep_ms(20_000);
        0
    })?;
    let wanted = rlimit { rlim_cur: 77, rlim_max: 88 };
    let mut old: rlimit = zeroed();
    sys!(SYS_prlimit64, child, RLIMIT_NOFILE, addr(&wanted), addr_mut(&mut old))?;
    check_eq!((old.rlim_cur, old.rlim_max), (1024, 4096));
    sys!(SYS_prlimit64, child, RLIMIT_NOFILE, 0, addr_mut(&mut old))?;
    check_eq!((old.rlim_cur, old.rlim_max), (77, 88));
    check_eq!(limit(RLIMIT_NOFILE as u32)?.0, 1024);
    each(&[&|| sys!(SYS_setresuid, 1000, 1000, 1000).is_ok(), &|| {
        let mut old: rlimit = zeroed();
        sys!(SYS_prlimit64, child, RLIMIT_NOFILE, 0, addr_mut(&mut old)) == Err(Errno(EPERM))
    }])?;
    kill(child, SIGKILL)?;
    wait(child)?;
    Ok(())
}

fn ids_in_status() -> Outcome {
    each(&[
        &|| sys!(SYS_setgroups, 2, [30_u32, 40].as_ptr()).is_ok(),
        &|| sys!(SYS_setresgid, 4, 5, 6).is_ok() && sys!(SYS_setresuid, 1, 2, 3).is_ok(),
        &|| {
            slurp(c"/proc/self/status").is_ok_and(|s| {
                s.contains("\nUid:\t1\t2\t3\t2\n")
                    && s.contains("\nGid:\t4\t5\t6\t5\n")
                    && s.contains("\nGroups:\t30 40 \n")
                    && s.contains("\nCapEff:\t0000000000000000\n")
                    && s.contains("\nCapBnd:\t000001ffffffffff\n")
            })
        },
    ])
}
