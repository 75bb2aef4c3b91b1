//! Mounts as trees: open_tree(2), move_mount(2), what is left of a tree whose namespace or descriptor goes.

use crate::mountapi::{
    BENEATH, CLOEXEC, CLONE, EMPTY, F_EMPTY_PATH, F_SYMLINKS, RECURSIVE, SET_GROUP, T_EMPTY_PATH, T_SYMLINKS,
    attach, attach_only, info, move_mount, open_tree, tags, tmpfs,
};
use crate::mounts::{alone, mount, umount};
use crate::prelude::*;

tests![
    open_tree_arguments,
    open_tree_plain,
    open_tree_clone_is_private_copy,
    open_tree_recursive,
    open_tree_refuses,
    move_mount_arguments,
    move_mount_attached,
    move_mount_empty_paths,
    move_mount_beneath,
    move_mount_set_group,
    expire_needs_two_idle_calls,
    namespace_exit_leaves_peers,
    detached_copy_leaves_peers,
    detached_tree_stays_together,
    unmounted_tree_comes_apart,
    namespace_file_not_in_itself,
    namespace_file_not_moved_into_itself,
    mount_limit,
];

fn open_tree_arguments() -> Outcome {
    alone(|| {
        symlink(c"missing", c"l")?;
        check_err!(open_tree(c".", 2), EINVAL);
        check_err!(open_tree(c".", RECURSIVE), EINVAL);
        check_err!(open_tree(c"", 0), ENOENT);
        check_err!(open_tree(c"missing", CLONE), ENOENT);
        check_err!(open_tree(c"l", 0), ENOENT);
        let link = open_tree(c"l", AT_SYMLINK_NOFOLLOW as u32 | AT_NO_AUTOMOUNT as u32)?;
        check!(fstat(link)?.st_mode & S_IFMT == S_IFLNK);
        check_err!(sys!(SYS_open_tree, CWD, 1, 0), EFAULT);
        check_err!(sys!(SYS_open_tree, 1000, c"x".as_ptr(), 0), EBADF);
        let tree = open_tree(c".", CLOEXEC)?;
        check_eq!(fcntl(tree, F_GETFD, 0)?, FD_CLOEXEC as usize);
        let again = sys!(SYS_open_tree, tree, c"".as_ptr(), EMPTY)? as i32;
        check_eq!(fcntl(again, F_GETFD, 0)?, 0);
        check_eq!(fstat(again)?.st_ino, stat(c".")?.st_ino);
        Ok(())
    })
}

fn open_tree_plain() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mkdir(c"n", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        // Without CLONE it is the mount itself.
        let tree = open_tree(c"m", CLOEXEC)?;
        check!(fcntl(tree, F_GETFL, 0)? as i32 & O_PATH != 0);
        check_err!(read_vec(tree, 1), EBADF);
        attach(tree, c"n")?;
        check!(info("m").is_err() && info("n").is_ok());
        close(tree)?;
        check!(info("n").is_ok());
        Ok(())
    })
}

fn open_tree_clone_is_private_copy() -> Outcome {
    alone(|| {
        mkdir(c"a", 0o755)?;
        mkdir(c"a/sub", 0o755)?;
        mkdir(c"b", 0o755)?;
        create(c"a/f", b"shared").and_then(close)?;
        let before = slurp(c"/proc/self/mountinfo")?;
        // Any directory can be cloned, also one that no mount begins at.
        let tree = open_tree(c"a", CLONE | CLOEXEC)?;
        check_eq!(slurp(c"/proc/self/mountinfo")?, before);
        let file = sys!(SYS_openat, tree, c"f".as_ptr(), O_RDONLY)? as i32;
        check_eq!(read_vec(file, 10)?, b"shared");
        close(file)?;
        // Its `..` is itself.
        let up = sys!(SYS_openat, tree, c"..".as_ptr(), O_PATH)? as i32;
        check_eq!(fstat(up)?.st_ino, fstat(tree)?.st_ino);
        close(up)?;
        attach(tree, c"b")?;
        check_eq!(slurp(c"b/f")?, "shared");
        let root = info("b")?.split(' ').nth(3).unwrap_or_default().to_string();
        check!(root.ends_with("/a"), "{root}");
        close(tree)?;
        umount(c"b", 0)?;
        // A file can be cloned, and put on a file.
        create(c"t", b"below").and_then(close)?;
        let tree = open_tree(c"a/f", CLONE)?;
        check_err!(attach(tree, c"b"), EINVAL);
        attach(tree, c"t")?;
        check_eq!(slurp(c"t")?, "shared");
        Ok(())
    })
}

fn open_tree_recursive() -> Outcome {
    alone(|| {
        mkdir(c"a", 0o755)?;
        mkdir(c"b", 0o755)?;
        mount(c"none", c"a", c"tmpfs", 0, c"")?;
        mkdir(c"a/sub", 0o755)?;
        mount(c"none", c"a/sub", c"tmpfs", 0, c"")?;
        create(c"a/sub/f", b"").and_then(close)?;
        mkdir(c"a/no", 0o755)?;
        mount(c"none", c"a/no", c"tmpfs", 0, c"")?;
        create(c"a/no/f", b"").and_then(close)?;
        mount(c"", c"a/no", c"", MS_UNBINDABLE, c"")?;
        let one = open_tree(c"a", CLONE)?;
        check_err!(sys!(SYS_faccessat, one, c"sub/f".as_ptr(), F_OK), ENOENT);
        let all = open_tree(c"a", CLONE | RECURSIVE)?;
        check!(sys!(SYS_faccessat, all, c"sub/f".as_ptr(), F_OK).is_ok());
        // What cannot be bound is left out.
        check_err!(sys!(SYS_faccessat, all, c"no/f".as_ptr(), F_OK), ENOENT);
        attach(all, c"b")?;
        check!(info("b/sub").is_ok() && info("b/no").is_err());
        close(all)?;
        umount(c"b", MNT_DETACH)?;
        check!(info("a/sub").is_ok());
        Ok(())
    })
}

fn open_tree_refuses() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mount(c"", c"m", c"", MS_UNBINDABLE, c"")?;
        check_err!(open_tree(c"m", CLONE), EINVAL);
        check!(open_tree(c"m", 0).is_ok());
        // What is mounted nowhere cannot be cloned.
        let detached = tmpfs()?;
        check_err!(sys!(SYS_open_tree, detached, c"".as_ptr(), EMPTY | CLONE), EINVAL);
        check!(sys!(SYS_open_tree, detached, c"".as_ptr(), EMPTY).is_ok());
        // Nor can a file of the kernel's own file systems, namespaces excepted.
        let ends = pipe(0)?;
        check_err!(sys!(SYS_open_tree, ends[0], c"".as_ptr(), EMPTY | CLONE), EINVAL);
        let ns = open(c"/proc/self/ns/uts", O_RDONLY, 0)?;
        let tree = sys!(SYS_open_tree, ns, c"".as_ptr(), EMPTY | CLONE)? as i32;
        create(c"f", b"").and_then(close)?;
        attach(tree, c"f")?;
        check_eq!(stat(c"f")?.st_ino, fstat(ns)?.st_ino);
        // Lazily unmounted.
        mkdir(c"n", 0o755)?;
        mount(c"none", c"n", c"tmpfs", 0, c"")?;
        let inside = open(c"n", O_PATH, 0)?;
        umount(c"n", MNT_DETACH)?;
        check_err!(sys!(SYS_open_tree, inside, c"".as_ptr(), EMPTY | CLONE), EINVAL);
        Ok(())
    })
}

fn move_mount_arguments() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mkdir(c"n", 0o755)?;
        create(c"f", b"").and_then(close)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mkdir(c"m/d", 0o755)?;
        for bad in [8, 0x80, 0x400, 0x8000_0000] {
            check_err!(move_mount(c"m", c"n", bad), EINVAL);
        }
        check_err!(move_mount(c"m", c"n", SET_GROUP | BENEATH), EINVAL);
        check_err!(move_mount(c"missing", c"n", 0), ENOENT);
        check_err!(move_mount(c"m", c"missing", 0), ENOENT);
        check_err!(move_mount(c"", c"n", 0), ENOENT);
        check_err!(move_mount(c"m", c"", 0), ENOENT);
        check_err!(sys!(SYS_move_mount, CWD, 1, CWD, c"n".as_ptr(), 0), EFAULT);
        check_err!(sys!(SYS_move_mount, 1000, c"m".as_ptr(), CWD, c"n".as_ptr(), 0), EBADF);
        check_err!(sys!(SYS_move_mount, 1000, c"".as_ptr(), CWD, c"n".as_ptr(), F_EMPTY_PATH), EBADF);
        // Not where a mount begins; not onto a file; not into itself.
        check_err!(move_mount(c"m/d", c"n", 0), EINVAL);
        check_err!(move_mount(c"m", c"f", 0), EINVAL);
        check_err!(move_mount(c"m", c"m/d", 0), ELOOP);
        // The root of everything stays.
        check_err!(move_mount(c"/", c"n", 0), EINVAL);
        Ok(())
    })
}

fn move_mount_attached() -> Outcome {
    alone(|| {
        mkdir(c"a", 0o755)?;
        mkdir(c"b", 0o755)?;
        symlink(c"a", c"la")?;
        symlink(c"b", c"lb")?;
        mount(c"none", c"a", c"tmpfs", 0, c"")?;
        mkdir(c"a/sub", 0o755)?;
        mount(c"none", c"a/sub", c"tmpfs", 0, c"")?;
        let fd = create(c"a/f", b"open")?;
        // Links are followed only if asked.
        check_err!(move_mount(c"la", c"b", 0), EINVAL);
        check_err!(move_mount(c"a", c"lb", 0), EINVAL);
        move_mount(c"la", c"lb", F_SYMLINKS | T_SYMLINKS)?;
        check!(info("a").is_err() && info("b").is_ok() && info("b/sub").is_ok());
        // Open files move along.
        let name = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
        check!(name.to_string_lossy().ends_with("/b/f"), "{name:?}");
        // From below a shared mount nothing is moved.
        mount(c"", c"b", c"", MS_SHARED, c"")?;
        check_err!(move_mount(c"b/sub", c"a", 0), EINVAL);
        // Nothing that cannot be bound goes below a shared mount.
        mount(c"none", c"a", c"tmpfs", 0, c"")?;
        mount(c"", c"a", c"", MS_UNBINDABLE, c"")?;
        check_err!(move_mount(c"a", c"b", 0), EINVAL);
        Ok(())
    })
}

fn move_mount_empty_paths() -> Outcome {
    alone(|| {
        mkdir(c"a", 0o755)?;
        mkdir(c"b", 0o755)?;
        mount(c"none", c"a", c"tmpfs", 0, c"")?;
        let from = open(c"a", O_PATH, 0)?;
        let to = open(c"b", O_PATH, 0)?;
        let both = F_EMPTY_PATH | T_EMPTY_PATH;
        check_err!(sys!(SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), F_EMPTY_PATH), ENOENT);
        check_err!(sys!(SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), T_EMPTY_PATH), ENOENT);
        sys!(SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), both)?;
        check!(info("b").is_ok());
        // Onto a place in a mount that is nowhere.
        let detached = tmpfs()?;
        let call = sys!(SYS_move_mount, from, c"".as_ptr(), detached, c"".as_ptr(), both);
        check_err!(call, EINVAL);
        Ok(())
    })
}

fn move_mount_beneath() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        create(c"m/top", b"").and_then(close)?;
        let below = tmpfs()?;
        sys!(SYS_mkdirat, below, c"below".as_ptr(), 0o755)?;
        let empty = F_EMPTY_PATH | BENEATH;
        // There must be something to go beneath.
        mkdir(c"n", 0o755)?;
        check_err!(sys!(SYS_move_mount, below, c"".as_ptr(), CWD, c"n".as_ptr(), empty), EINVAL);
        sys!(SYS_move_mount, below, c"".as_ptr(), CWD, c"m".as_ptr(), empty)?;
        check!(stat(c"m/top").is_ok());
        check_err!(stat(c"m/below"), ENOENT);
        umount(c"m", 0)?;
        check!(stat(c"m/below").is_ok());
        // Not beneath the root directory, nor beneath the root of the namespace.
        let other = tmpfs()?;
        check_err!(sys!(SYS_move_mount, other, c"".as_ptr(), CWD, c"/".as_ptr(), empty), EINVAL);
        // An attached mount moves too, and keeps what is on it.
        mkdir(c"a", 0o755)?;
        mount(c"none", c"a", c"tmpfs", 0, c"")?;
        mkdir(c"a/x", 0o755)?;
        mount(c"none", c"a/x", c"tmpfs", 0, c"")?;
        mount(c"none", c"n", c"tmpfs", 0, c"")?;
        move_mount(c"a", c"n", BENEATH)?;
        umount(c"n", 0)?;
        check!(info("n").is_ok() && info("n/x").is_ok());
        check_err!(stat(c"a/x"), ENOENT);
        // Nor what is mounted on the target itself.
        check_err!(move_mount(c"n/x", c"n", BENEATH), EINVAL);
        Ok(())
    })
}

fn move_mount_set_group() -> Outcome {
    alone(|| {
        for name in [c"a", c"b", c"c", c"d"] {
            mkdir(name, 0o755)?;
        }
        mount(c"none", c"a", c"tmpfs", 0, c"")?;
        mkdir(c"a/sub", 0o755)?;
        mount(c"a", c"b", c"", MS_BIND, c"")?;
        mount(c"a/sub", c"c", c"", MS_BIND, c"")?;
        mount(c"none", c"d", c"tmpfs", 0, c"")?;
        // A private source has no group to give.
        check_err!(move_mount(c"a", c"b", SET_GROUP), EINVAL);
        mount(c"", c"a", c"", MS_SHARED, c"")?;
        // Only of one file system, onto roots of mounts, and not from narrow to wide.
        check_err!(move_mount(c"a", c"d", SET_GROUP), EINVAL);
        check_err!(move_mount(c"a/sub", c"b", SET_GROUP), EINVAL);
        check_err!(move_mount(c"a", c"b/sub", SET_GROUP), EINVAL);
        move_mount(c"a", c"b", SET_GROUP)?;
        check_eq!(tags("b")?, tags("a")?);
        move_mount(c"a", c"c", SET_GROUP)?;
        check_eq!(tags("c")?, tags("a")?);
        // The target must be private.
        check_err!(move_mount(c"a", c"b", SET_GROUP), EINVAL);
        check_err!(move_mount(c"c", c"b", SET_GROUP), EINVAL);
        // Events travel now.
        mount(c"none", c"a/sub", c"tmpfs", 0, c"")?;
        check!(info("b/sub").is_ok());
        umount(c"a/sub", 0)?;
        check!(info("b/sub").is_err());
        // Being a slave is passed on as well.
        mount(c"", c"b", c"", MS_SLAVE, c"")?;
        mount(c"", c"c", c"", MS_PRIVATE, c"")?;
        move_mount(c"b", c"c", SET_GROUP)?;
        check_eq!(tags("c")?, tags("b")?);
        check!(tags("c")?[0].starts_with("master:"));
        Ok(())
    })
}

fn expire_needs_two_idle_calls() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        check_err!(umount(c"m", MNT_EXPIRE | MNT_DETACH), EINVAL);
        check_err!(umount(c"m", MNT_EXPIRE | MNT_FORCE), EINVAL);
        check_err!(umount(c"/", MNT_EXPIRE), EINVAL);
        let fd = create(c"m/f", b"")?;
        check_err!(umount(c"m", MNT_EXPIRE), EBUSY);
        close(fd)?;
        check_err!(umount(c"m", MNT_EXPIRE), EAGAIN);
        // Any use begins the game anew.
        stat(c"m/f")?;
        check_err!(umount(c"m", MNT_EXPIRE), EAGAIN);
        umount(c"m", MNT_EXPIRE)?;
        check_err!(umount(c"m", MNT_EXPIRE), EINVAL);
        Ok(())
    })
}

/// The end of a namespace is no event that travels.
fn namespace_exit_leaves_peers() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mount(c"", c"m", c"", MS_SHARED, c"")?;
        mkdir(c"m/a", 0o755)?;
        mount(c"none", c"m/a", c"tmpfs", 0, c"")?;
        let status = in_child(|| {
            let _ = sys!(SYS_unshare, CLONE_NEWNS);
            // A peer of the first: what it mounts appears there too.
            let made = mkdir(c"m/b", 0o755).is_ok() && mount(c"none", c"m/b", c"tmpfs", 0, c"").is_ok();
            i32::from(!made)
        })?;
        check_eq!(status, 0);
        sleep_ms(100);
        check!(info("m/a").is_ok() && info("m/b").is_ok());
        Ok(())
    })
}

fn detached_copy_leaves_peers() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mount(c"", c"m", c"", MS_SHARED, c"")?;
        mkdir(c"m/a", 0o755)?;
        mount(c"none", c"m/a", c"tmpfs", 0, c"")?;
        let tree = open_tree(c"m", CLONE | RECURSIVE)?;
        close(tree)?;
        check!(info("m/a").is_ok());
        // Events do not reach a copy that is mounted nowhere.
        let tree = open_tree(c"m", CLONE)?;
        mkdir(c"m/b", 0o755)?;
        mount(c"none", c"m/b", c"tmpfs", 0, c"")?;
        create(c"m/b/f", b"").and_then(close)?;
        check_err!(sys!(SYS_faccessat, tree, c"b/f".as_ptr(), F_OK), ENOENT);
        close(tree)?;
        check!(info("m/b").is_ok());
        Ok(())
    })
}

fn detached_tree_stays_together() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mkdir(c"m/a", 0o755)?;
        mount(c"none", c"m/a", c"tmpfs", 0, c"")?;
        create(c"m/a/f", b"").and_then(close)?;
        let tree = open_tree(c"m", CLONE | RECURSIVE)?;
        let other = sys!(SYS_openat, tree, c".".as_ptr(), O_PATH)? as i32;
        close(tree)?;
        umount(c"m", MNT_DETACH)?;
        // Nobody can mount it any more, but who is in it sees it all.
        check!(sys!(SYS_faccessat, other, c"a/f".as_ptr(), F_OK).is_ok());
        check_err!(sys!(SYS_open_tree, other, c"".as_ptr(), EMPTY | CLONE), EINVAL);
        Ok(())
    })
}

fn unmounted_tree_comes_apart() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mkdir(c"m/a", 0o755)?;
        create(c"m/a/below", b"").and_then(close)?;
        mount(c"none", c"m/a", c"tmpfs", 0, c"")?;
        let inside = open(c"m", O_PATH, 0)?;
        umount(c"m", MNT_DETACH)?;
        check!(sys!(SYS_faccessat, inside, c"a/below".as_ptr(), F_OK).is_ok());
        Ok(())
    })
}

fn namespace_file_not_in_itself() -> Outcome {
    alone(|| {
        create(c"f", b"").and_then(close)?;
        check_err!(mount(c"/proc/self/ns/mnt", c"f", c"", MS_BIND, c""), EINVAL);
        mount(c"/proc/self/ns/uts", c"f", c"", MS_BIND, c"")?;
        // That of a younger namespace can be mounted.
        let (ready, done) = (pipe(0)?, pipe(0)?);
        let child = fork(|| {
            let _ = sys!(SYS_unshare, CLONE_NEWNS);
            let _ = write(ready[1], b"x");
            let _ = read_vec(done[0], 1);
            0
        })?;
        read_vec(ready[0], 1)?;
        let name = std::ffi::CString::new(format!("/proc/{child}/ns/mnt")).unwrap_or_default();
        mount(&name, c"f", c"", MS_BIND, c"")?;
        check_eq!(stat(c"f")?.st_ino, stat(&name)?.st_ino);
        write(done[1], b"x")?;
        check_eq!(wait_exit(child)?, 0);
        umount(c"f", 0)?;
        umount(c"f", 0)?;
        Ok(())
    })
}

/// A namespace that keeps itself would never end.
fn namespace_file_not_moved_into_itself() -> Outcome {
    alone(|| {
        create(c"f", b"").and_then(close)?;
        let own = open_tree(c"/proc/self/ns/mnt", CLONE)?;
        check_err!(attach(own, c"f"), ELOOP);
        let other = open_tree(c"/proc/self/ns/uts", CLONE)?;
        attach_only(other, c"f")?;
        umount(c"f", 0)?;
        Ok(())
    })
}

fn mount_limit() -> Outcome {
    alone(|| {
        let limit = slurp(c"/proc/sys/fs/mount-max")?;
        check_eq!(limit, "100000\n");
        let now = slurp(c"/proc/self/mountinfo")?.lines().count();
        mkdir(c"m", 0o755)?;
        mkdir(c"n", 0o755)?;
        spew(c"/proc/sys/fs/mount-max", &format!("{}", now + 2))?;
        let first = mount(c"none", c"m", c"tmpfs", 0, c"");
        let made = mkdir(c"m/a", 0o755);
        let second = mount(c"none", c"m/a", c"tmpfs", 0, c"");
        let third = mount(c"none", c"n", c"tmpfs", 0, c"");
        let tree = mount(c"m", c"n", c"", MS_BIND | MS_REC, c"");
        let moved = move_mount(c"m", c"n", 0);
        spew(c"/proc/sys/fs/mount-max", &limit)?;
        check!(first.is_ok() && made.is_ok() && second.is_ok());
        check_err!(third, ENOSPC);
        check_err!(tree, ENOSPC);
        check!(moved.is_ok());
        Ok(())
    })
}
