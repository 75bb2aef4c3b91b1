//! Mounting and roots, and what belongs to a namespace (mount(2), pivot_root(2), chroot(2),
//! unshare(2), mount_namespaces(7)).

use crate::prelude::*;
use std::ffi::CStr;

tests![
    mount_tmpfs,
    mount_errors,
    umount_busy,
    bind_mounts,
    remount_read_only,
    mount_flags_apply,
    move_mount_works,
    mount_namespace_private,
    mount_namespace_by_clone,
    mount_namespace_of_a_thread,
    propagation_shared,
    chroot_confines,
    pivot_root_works,
    new_mount_api,
    tmpfs_options,
    proc_mount_twice,
    stacked_mounts,
    mounts_over_files,
    uts_namespace,
    pid_namespace,
    user_namespace_or_eperm,
    mount_covers_directory,
    readonly_errors,
    sysfs_and_devtmpfs,
    setns_returns,
    lazy_unmount,
];

pub(crate) fn mount(
    from: &CStr,
    to: &CStr,
    kind: &CStr,
    flags: u64,
    data: &CStr,
) -> crate::sys::Result<usize> {
    sys!(SYS_mount, from.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, data.as_ptr())
}

pub(crate) fn umount(path: &CStr, flags: i32) -> crate::sys::Result<usize> {
    sys!(SYS_umount2, path.as_ptr(), flags)
}

/// Runs `body` in a child with a mount namespace of its own, whose mounts nobody else sees.
pub(crate) fn alone(body: impl FnOnce() -> Outcome) -> Outcome {
    elsewhere(
        || {
            sys!(SYS_unshare, CLONE_NEWNS)
                .and_then(|_| mount(c"", c"/", c"", MS_REC | MS_PRIVATE, c""))
                .map(drop)
        },
        body,
    )
}

/// Runs `body` in a child that `enter` has put into namespaces of its own.
pub(crate) fn elsewhere(
    enter: impl FnOnce() -> crate::sys::Result<()>,
    body: impl FnOnce() -> Outcome,
) -> Outcome {
    let report = pipe(0)?;
    let status = in_child(|| {
        let result = enter().map_err(Failure::from).and_then(|()| body());
        match result {
            Ok(()) => 0,
            Err(Failure(why)) => {
                let _ = write(report[1], why.as_bytes());
                1
            }
        }
    })?;
    close(report[1])?;
    if status == 0 {
        return Ok(());
    }
    Err(Failure(format!("status {status} {}", String::from_utf8_lossy(&read_vec(report[0], 4096)?))))
}

fn mount_tmpfs() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        create(c"m/hidden", b"")?;
        mount(c"none", c"m", c"tmpfs", 0, c"mode=750")?;
        check_eq!(stat(c"m")?.st_mode & 0o7777, 0o750);
        check_err!(stat(c"m/hidden"), ENOENT);
        check!(stat(c"m")?.st_dev != stat(c".")?.st_dev);
        create(c"m/f", b"x").and_then(close)?;
        check_eq!(stat(c"m/..")?.st_ino, stat(c".")?.st_ino);
        let line = slurp(c"/proc/self/mounts")?;
        check!(line.lines().any(|l| l.starts_with("none ") && l.contains("/m tmpfs rw,relatime,")), "{line}");
        umount(c"m", 0)?;
        check!(stat(c"m/hidden").is_ok());
        Ok(())
    })
}

fn mount_errors() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        check_err!(mount(c"none", c"m", c"nonsense", 0, c""), ENODEV);
        check_err!(mount(c"none", c"missing", c"tmpfs", 0, c""), ENOENT);
        create(c"f", b"")?;
        check_err!(mount(c"none", c"f", c"tmpfs", 0, c""), ENOTDIR);
        check_err!(mount(c"none", c"m", c"tmpfs", 0, c"size=nonsense"), EINVAL);
        check_err!(mount(c"none", c"m", c"tmpfs", 0, c"unknown=1"), EINVAL);
        check_err!(umount(c"m", 0), EINVAL);
        check_err!(umount(c"missing", 0), ENOENT);
        check_err!(umount(c"m", 0x100), EINVAL);
        check_err!(sys!(SYS_mount, 0, c"m".as_ptr(), 0, 0, 0), EINVAL);
        Ok(())
    })
}

fn umount_busy() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        let fd = create(c"m/f", b"x")?;
        check_err!(umount(c"m", 0), EBUSY);
        close(fd)?;
        let here = open(c".", O_RDONLY, 0)?;
        sys!(SYS_chdir, c"m".as_ptr())?;
        check_err!(umount(c".", 0), EBUSY);
        sys!(SYS_fchdir, here)?;
        mkdir(c"m/sub", 0o755)?;
        mount(c"none", c"m/sub", c"tmpfs", 0, c"")?;
        check_err!(umount(c"m", 0), EBUSY);
        umount(c"m/sub", 0)?;
        umount(c"m", 0)?;
        Ok(())
    })
}

fn bind_mounts() -> Outcome {
    alone(|| {
        mkdir(c"a", 0o755)?;
        mkdir(c"b", 0o755)?;
        mkdir(c"a/sub", 0o755)?;
        create(c"a/f", b"bound").and_then(close)?;
        mount(c"none", c"a/sub", c"tmpfs", 0, c"")?;
        create(c"a/sub/x", b"").and_then(close)?;
        mount(c"a", c"b", c"", MS_BIND, c"")?;
        check_eq!(slurp(c"b/f")?, "bound");
        check_eq!(stat(c"a/f")?.st_ino, stat(c"b/f")?.st_ino);
        // Not recursive: the mount below is not there.
        check_err!(stat(c"b/sub/x"), ENOENT);
        umount(c"b", 0)?;
        mount(c"a", c"b", c"", MS_BIND | MS_REC, c"")?;
        check!(stat(c"b/sub/x").is_ok());
        check_err!(crate::sys::rmdir(c"b/sub"), EBUSY);
        // A link between the two mounts of one file system is refused.
        let link = sys!(SYS_linkat, CWD, c"a/f".as_ptr(), CWD, c"b/g".as_ptr(), 0);
        check_err!(link, EXDEV);
        Ok(())
    })
}

fn remount_read_only() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        let fd = create(c"m/f", b"x")?;
        check_err!(mount(c"none", c"m", c"tmpfs", MS_REMOUNT | MS_RDONLY, c""), EBUSY);
        close(fd)?;
        mount(c"none", c"m", c"tmpfs", MS_REMOUNT | MS_RDONLY, c"")?;
        check_err!(create(c"m/g", b""), EROFS);
        check_err!(open(c"m/f", O_WRONLY, 0), EROFS);
        check_eq!(slurp(c"m/f")?, "x");
        mount(c"none", c"m", c"tmpfs", MS_REMOUNT, c"")?;
        create(c"m/g", b"").and_then(close)?;
        // A bind mount can be read-only by itself.
        mkdir(c"ro", 0o755)?;
        mount(c"m", c"ro", c"", MS_BIND, c"")?;
        mount(c"", c"ro", c"", MS_BIND | MS_REMOUNT | MS_RDONLY, c"")?;
        check_err!(create(c"ro/h", b""), EROFS);
        create(c"m/h", b"").and_then(close)?;
        Ok(())
    })
}

fn mount_flags_apply() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", MS_NOEXEC | MS_NODEV, c"")?;
        let bytes = std::fs::read("/proc/self/exe")?;
        let fd = create(c"m/program", &bytes)?;
        sys!(SYS_fchmod, fd, 0o755)?;
        close(fd)?;
        check_err!(sys!(SYS_execve, c"m/program".as_ptr(), 0, 0), EACCES);
        sys!(SYS_mknodat, CWD, c"m/null".as_ptr(), S_IFCHR | 0o666, makedev(1, 3))?;
        check_err!(open(c"m/null", O_RDONLY, 0), EACCES);
        let program = open(c"m/program", O_RDONLY, 0)?;
        check_err!(mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, program, 0), EPERM);
        let mut s: libc::statfs = zeroed();
        sys!(SYS_statfs, c"m".as_ptr(), addr_mut(&mut s))?;
        check_eq!(s.f_flags as u64 & (ST_NOEXEC | ST_NODEV), ST_NOEXEC | ST_NODEV);
        Ok(())
    })
}

fn move_mount_works() -> Outcome {
    alone(|| {
        mkdir(c"a", 0o755)?;
        mkdir(c"b", 0o755)?;
        mount(c"none", c"a", c"tmpfs", 0, c"")?;
        create(c"a/f", b"").and_then(close)?;
        mount(c"a", c"b", c"", MS_MOVE, c"")?;
        check!(stat(c"b/f").is_ok());
        check_err!(stat(c"a/f"), ENOENT);
        mkdir(c"b/inside", 0o755)?;
        check_err!(mount(c"b", c"b/inside", c"", MS_MOVE, c""), ELOOP);
        Ok(())
    })
}

fn mount_namespace_private() -> Outcome {
    mkdir(c"m", 0o755)?;
    alone(|| {
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        create(c"m/inside", b"").and_then(close)?;
        Ok(())
    })?;
    check_err!(stat(c"m/inside"), ENOENT);
    Ok(())
}

/// clone(2) with `CLONE_NEWNS` moves the child into the new namespace, and nobody else.
fn mount_namespace_by_clone() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let child = sys!(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0)?;
        if child == 0 {
            let mounted = mount(c"none", c"m", c"tmpfs", 0, c"").and_then(|_| create(c"m/inside", b""));
            // With this the whole of the child's tree changes.
            let hidden = mount(c"none", c"/proc", c"tmpfs", 0, c"");
            exit(i32::from(mounted.is_err() || hidden.is_err()));
        }
        check_eq!(wait_exit(child as i32)?, 0);
        check_err!(stat(c"m/inside"), ENOENT);
        stat(c"/proc/self")?;
        // What the parent mounts is in its own namespace: the child's went with it.
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        check!(slurp(c"/proc/self/mounts")?.lines().any(|line| line.contains("/m tmpfs")));
        umount(c"m", 0)?;
        Ok(())
    })
}

/// A thread that leaves the namespace of its process takes its directories along, not those of the others.
fn mount_namespace_of_a_thread() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let thread = std::thread::spawn(|| -> crate::sys::Result<()> {
            let namespace = open(c"/proc/thread-self/ns/mnt", O_RDONLY, 0)?;
            // Shared with the other thread: cannot join.
            let shared = sys!(SYS_setns, namespace, CLONE_NEWNS);
            if shared != Err(Errno(EINVAL)) {
                return Err(Errno(EBADE));
            }
            sys!(SYS_unshare, CLONE_NEWNS)?;
            mount(c"none", c"m", c"tmpfs", 0, c"")?;
            close(create(c"m/inside", b"")?)?;
            stat(c"m/inside")?;
            sys!(SYS_setns, namespace, CLONE_NEWNS)?;
            Ok(())
        });
        thread.join().map_err(|_| Failure::new("the thread panicked"))??;
        check_err!(stat(c"m/inside"), ENOENT);
        Ok(())
    })
}

fn propagation_shared() -> Outcome {
    alone(|| {
        mkdir(c"s", 0o755)?;
        mount(c"none", c"s", c"tmpfs", 0, c"")?;
        mount(c"", c"s", c"", MS_SHARED, c"")?;
        mkdir(c"s/m", 0o755)?;
        mkdir(c"peer", 0o755)?;
        mount(c"s", c"peer", c"", MS_BIND, c"")?;
        mount(c"none", c"s/m", c"tmpfs", 0, c"")?;
        create(c"s/m/f", b"").and_then(close)?;
        check!(stat(c"peer/m/f").is_ok());
        umount(c"peer/m", 0)?;
        check_err!(stat(c"s/m/f"), ENOENT);
        // A slave receives, but does not send.
        mount(c"", c"peer", c"", MS_SLAVE, c"")?;
        mount(c"none", c"peer/m", c"tmpfs", 0, c"")?;
        create(c"peer/m/own", b"").and_then(close)?;
        check_err!(stat(c"s/m/own"), ENOENT);
        let info = slurp(c"/proc/self/mountinfo")?;
        check!(info.contains(" shared:") && info.contains(" master:"), "{info}");
        check_err!(mount(c"", c"peer", c"", MS_SLAVE | MS_SHARED, c""), EINVAL);
        Ok(())
    })
}

fn chroot_confines() -> Outcome {
    mkdir(c"root", 0o755)?;
    create(c"root/f", b"inside").and_then(close)?;
    create(c"outside", b"").and_then(close)?;
    symlink(c"/f", c"root/link")?;
    let status = in_child(|| {
        let went = sys!(SYS_chroot, c"root".as_ptr()).is_ok();
        // The current directory is still outside: chroot alone is no prison.
        let out = stat(c"outside").is_ok();
        let moved = sys!(SYS_chdir, c"/".as_ptr()).is_ok();
        let up = stat(c"../../../../outside").err() == Some(Errno(ENOENT));
        let link = slurp(c"/link").is_ok_and(|t| t == "inside");
        let mut buffer = [0_u8; 64];
        let cwd = sys!(SYS_getcwd, buffer.as_mut_ptr(), 64).is_ok() && buffer[..2] == *b"/\0";
        [went, out, moved, up, link, cwd].iter().enumerate().map(|(n, ok)| i32::from(!ok) << n).sum()
    })?;
    check_eq!(status, 0);
    check_err!(sys!(SYS_chroot, c"outside".as_ptr()), ENOTDIR);
    check_err!(sys!(SYS_chroot, c"missing".as_ptr()), ENOENT);
    Ok(())
}

fn pivot_root_works() -> Outcome {
    alone(|| {
        // The initial root file system cannot be pivoted: first enter a mount of our own.
        mkdir(c"one", 0o755)?;
        mount(c"none", c"one", c"tmpfs", 0, c"")?;
        sys!(SYS_chdir, c"one".as_ptr())?;
        mount(c".", c"/", c"", MS_MOVE, c"")?;
        sys!(SYS_chroot, c".".as_ptr())?;
        mkdir(c"/two", 0o755)?;
        mount(c"none", c"/two", c"tmpfs", 0, c"")?;
        mkdir(c"/two/old", 0o755)?;
        create(c"/two/here", b"").and_then(close)?;
        check_err!(sys!(SYS_pivot_root, c"/two".as_ptr(), c"/".as_ptr()), EBUSY);
        check_err!(sys!(SYS_pivot_root, c"/two/old".as_ptr(), c"/two/old".as_ptr()), EINVAL);
        sys!(SYS_pivot_root, c"/two".as_ptr(), c"/two/old".as_ptr())?;
        sys!(SYS_chdir, c"/".as_ptr())?;
        check!(stat(c"/here").is_ok() && stat(c"/old/two").is_ok());
        umount(c"/old", MNT_DETACH)?;
        check_err!(stat(c"/old/two"), ENOENT);
        Ok(())
    })
}

fn new_mount_api() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let fs = sys!(SYS_fsopen, c"tmpfs".as_ptr(), 1)? as i32;
        check_err!(sys!(SYS_fsconfig, fs, 1, c"nonsense".as_ptr(), c"1".as_ptr(), 0), EINVAL);
        sys!(SYS_fsconfig, fs, 1, c"size".as_ptr(), c"1M".as_ptr(), 0)?;
        sys!(SYS_fsconfig, fs, 6, 0, 0, 0)?;
        let mnt = sys!(SYS_fsmount, fs, 1, 0)? as i32;
        sys!(SYS_move_mount, mnt, c"".as_ptr(), CWD, c"m".as_ptr(), 4)?;
        create(c"m/f", b"").and_then(close)?;
        // A detached copy of a tree.
        let tree = sys!(SYS_open_tree, CWD, c"m".as_ptr(), 1)? as i32;
        close(mnt)?;
        close(fs)?;
        umount(c"m", 0)?;
        check!(sys!(SYS_openat, tree, c"f".as_ptr(), O_RDONLY, 0).is_ok());
        let attr = [1_u64, 0, 0, 0];
        sys!(SYS_mount_setattr, tree, c"".as_ptr(), AT_EMPTY_PATH, attr.as_ptr(), 32)?;
        check_err!(sys!(SYS_openat, tree, c"g".as_ptr(), O_CREAT | O_RDWR, 0o600), EROFS);
        check_err!(sys!(SYS_fsopen, c"nonsense".as_ptr(), 0), ENODEV);
        Ok(())
    })
}

fn tmpfs_options() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"size=64k,nr_inodes=5,uid=7,gid=8")?;
        check_eq!((stat(c"m")?.st_uid, stat(c"m")?.st_gid), (7, 8));
        let fd = create(c"m/f", b"")?;
        let written = write(fd, &[1; 100_000]);
        check_eq!(written, Ok(65536));
        check_err!(write(fd, b"x"), ENOSPC);
        let mut s: libc::statfs = zeroed();
        sys!(SYS_statfs, c"m".as_ptr(), addr_mut(&mut s))?;
        check_eq!((s.f_blocks, s.f_bfree, s.f_files), (16, 0, 5));
        sys!(SYS_ftruncate, fd, 0)?;
        for name in [c"m/1", c"m/2", c"m/3"] {
            create(name, b"").and_then(close)?;
        }
        check_err!(create(c"m/4", b""), ENOSPC);
        // Growing while mounted.
        mount(c"none", c"m", c"tmpfs", MS_REMOUNT, c"size=128k,nr_inodes=10")?;
        check_eq!(write(fd, &[1; 200_000])?, 131_072);
        check_err!(mount(c"none", c"m", c"tmpfs", MS_REMOUNT, c"size=4k"), EINVAL);
        Ok(())
    })
}

fn proc_mount_twice() -> Outcome {
    alone(|| {
        mkdir(c"p", 0o755)?;
        mount(c"proc", c"p", c"proc", 0, c"hidepid=2")?;
        check_eq!(slurp(c"p/self/comm")?, slurp(c"/proc/self/comm")?);
        mkdir(c"s", 0o755)?;
        mount(c"sysfs", c"s", c"sysfs", 0, c"")?;
        check!(stat(c"s/kernel").is_ok());
        Ok(())
    })
}

fn stacked_mounts() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        for name in [c"m/1", c"m/2", c"m/3"] {
            mount(c"none", c"m", c"tmpfs", 0, c"")?;
            create(name, b"").and_then(close)?;
        }
        check!(stat(c"m/3").is_ok());
        check_err!(stat(c"m/2"), ENOENT);
        umount(c"m", 0)?;
        check!(stat(c"m/2").is_ok());
        umount(c"m", 0)?;
        umount(c"m", 0)?;
        check_err!(umount(c"m", 0), EINVAL);
        Ok(())
    })
}

fn mounts_over_files() -> Outcome {
    alone(|| {
        create(c"a", b"over").and_then(close)?;
        create(c"b", b"under").and_then(close)?;
        mount(c"a", c"b", c"", MS_BIND, c"")?;
        check_eq!(slurp(c"b")?, "over");
        check_err!(unlink(c"b"), EBUSY);
        check_err!(sys!(SYS_renameat2, CWD, c"a".as_ptr(), CWD, c"b".as_ptr(), 0), EBUSY);
        umount(c"b", 0)?;
        check_eq!(slurp(c"b")?, "under");
        mkdir(c"d", 0o755)?;
        check_err!(mount(c"a", c"d", c"", MS_BIND, c""), ENOTDIR);
        Ok(())
    })
}

fn node_name() -> String {
    let mut name: utsname = zeroed();
    let _ = sys!(SYS_uname, addr_mut(&mut name));
    name.nodename.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect()
}

fn uts_namespace() -> Outcome {
    sys!(SYS_sethostname, c"outer".as_ptr(), 5)?;
    let status = in_child(|| {
        let _ = sys!(SYS_unshare, CLONE_NEWUTS);
        let _ = sys!(SYS_sethostname, c"inner".as_ptr(), 5);
        i32::from(node_name() != "inner")
    })?;
    check_eq!((status, node_name().as_str()), (0, "outer"));
    check_err!(sys!(SYS_sethostname, c"x".as_ptr(), 65), EINVAL);
    sys!(SYS_setdomainname, c"dom".as_ptr(), 3)?;
    check_eq!(slurp(c"/proc/sys/kernel/domainname")?, "dom\n");
    Ok(())
}

fn pid_namespace() -> Outcome {
    let status = in_child(|| {
        if sys!(SYS_unshare, CLONE_NEWPID).is_err() {
            return 90;
        }
        let inner = in_child(|| {
            let first = getpid() == 1 && sys!(SYS_getppid) == Ok(0);
            let second = fork(|| i32::from(getpid() != 2));
            let two = second == Ok(2) && wait_exit(2) == Ok(0);
            // Init of a namespace is not killed by its own processes.
            let _ = in_child(|| {
                let _ = kill(1, SIGTERM);
                0
            });
            i32::from(!first) | i32::from(!two) << 1
        });
        inner.unwrap_or(91)
    })?;
    check_eq!(status, 0);
    // The end of its init ends everything in it.
    let ends = pipe(0)?;
    let status = in_child(|| {
        let _ = sys!(SYS_unshare, CLONE_NEWPID);
        let _ = in_child(|| {
            let _ = fork(|| {
                let _ = close(ends[0]);
                sleep_ms(30_000);
                0
            });
            0
        });
        0
    })?;
    check_eq!(status, 0);
    close(ends[1])?;
    check_eq!(read_vec(ends[0], 1)?, b"");
    Ok(())
}

fn user_namespace_or_eperm() -> Outcome {
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        // The change of user made our files in /proc root's.
        let _ = sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
        match sys!(SYS_unshare, CLONE_NEWUSER) {
            Ok(_) => {
                let overflow = sys!(SYS_getuid) == Ok(65534);
                let mapped = spew(c"/proc/self/uid_map", "0 1000 1").is_ok();
                let root = sys!(SYS_getuid) == Ok(0);
                i32::from(!overflow) | i32::from(!mapped) << 1 | i32::from(!root) << 2
            }
            Err(errno) => i32::from(errno != Errno(EPERM)) << 3,
        }
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn mount_covers_directory() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let before = open(c"m", O_RDONLY, 0)?;
        create(c"m/f", b"").and_then(close)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        // A descriptor opened before still sees what is below.
        check!(sys!(SYS_faccessat, before, c"f".as_ptr(), F_OK).is_ok());
        check_err!(stat(c"m/f"), ENOENT);
        check_eq!(std::fs::read_dir("m")?.count(), 0);
        Ok(())
    })
}

fn readonly_errors() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        create(c"m/f", b"x").and_then(close)?;
        mkdir(c"m/d", 0o755)?;
        mount(c"none", c"m", c"tmpfs", MS_REMOUNT | MS_RDONLY, c"")?;
        check_err!(unlink(c"m/f"), EROFS);
        check_err!(mkdir(c"m/x", 0o755), EROFS);
        check_err!(crate::sys::rmdir(c"m/d"), EROFS);
        check_err!(symlink(c"x", c"m/l"), EROFS);
        check_err!(sys!(SYS_fchmodat, CWD, c"m/f".as_ptr(), 0o600), EROFS);
        check_err!(sys!(SYS_fchownat, CWD, c"m/f".as_ptr(), 1, 1, 0), EROFS);
        check_err!(sys!(SYS_truncate, c"m/f".as_ptr(), 0), EROFS);
        check_err!(sys!(SYS_utimensat, CWD, c"m/f".as_ptr(), 0, 0), EROFS);
        check_err!(sys!(SYS_faccessat, CWD, c"m/f".as_ptr(), W_OK), EROFS);
        check_err!(mkdir(c"m/d", 0o755), EEXIST);
        Ok(())
    })
}

fn sysfs_and_devtmpfs() -> Outcome {
    alone(|| {
        mkdir(c"d", 0o755)?;
        mount(c"dev", c"d", c"devtmpfs", 0, c"")?;
        // All mounts of devtmpfs are one file system.
        check_eq!(stat(c"d/null")?.st_ino, stat(c"/dev/null")?.st_ino);
        mkdir(c"p", 0o755)?;
        mount(c"devpts", c"p", c"devpts", 0, c"ptmxmode=666")?;
        check_eq!(stat(c"p/ptmx")?.st_mode & 0o777, 0o666);
        Ok(())
    })
}

fn setns_returns() -> Outcome {
    let status = in_child(|| {
        let Ok(old) = open(c"/proc/self/ns/uts", O_RDONLY, 0) else { return 1 };
        let before = node_name();
        let _ = sys!(SYS_unshare, CLONE_NEWUTS);
        let _ = sys!(SYS_sethostname, c"elsewhere".as_ptr(), 9);
        let wrong = sys!(SYS_setns, old, CLONE_NEWNET) == Err(Errno(EINVAL));
        let back = sys!(SYS_setns, old, CLONE_NEWUTS).is_ok() && node_name() == before;
        i32::from(!wrong) << 1 | i32::from(!back) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn lazy_unmount() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        let fd = create(c"m/f", b"alive")?;
        umount(c"m", MNT_DETACH)?;
        check_err!(stat(c"m/f"), ENOENT);
        check_eq!(read_vec(fd, 10)?, b"alive");
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        let inner = create(c"m/f", b"")?;
        close(inner)?;
        check_err!(umount(c"m", MNT_EXPIRE), EAGAIN);
        umount(c"m", MNT_EXPIRE)?;
        Ok(())
    })
}
