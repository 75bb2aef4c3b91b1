//! Attributes of mounts and who may change them: mount_setattr(2).

use crate::mountapi::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_RDONLY, ATTR_STRICTATIME, Attr, CLONE, CREATE, EMPTY, RECURSIVE, attach, command, fsopen,
    move_mount, open_tree, options, setattr, tags, tmpfs,
};
use crate::mounts::{alone, elsewhere, mount, umount};
use crate::prelude::*;
use crate::sys::Result;

tests![
    setattr_arguments,
    setattr_flags,
    setattr_atime,
    setattr_recursive,
    setattr_propagation,
    setattr_on_detached,
    setattr_busy_writer,
    setattr_that_fails_shares_nothing,
    privileges,
    locked_mounts,
];

fn setattr_arguments() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let ro = Attr { set: ATTR_RDONLY, ..Attr::default() };
        check_err!(setattr(CWD, c"m", 0, ro), EINVAL);
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        check_err!(setattr(CWD, c"m", 1, ro), EINVAL);
        check_err!(setattr(CWD, c"missing", 0, ro), ENOENT);
        check_err!(setattr(CWD, c"", 0, ro), ENOENT);
        let size = |size: usize| sys!(SYS_mount_setattr, CWD, c"m".as_ptr(), 0, addr(&ro), size);
        check_err!(size(31), EINVAL);
        check_err!(size(4097), E2BIG);
        check_err!(sys!(SYS_mount_setattr, CWD, c"m".as_ptr(), 0, 8, 32), EFAULT);
        // Longer is fine as long as the rest is zero.
        let long = [0_u64, 0, 0, 0, 0, 0];
        sys!(SYS_mount_setattr, CWD, c"m".as_ptr(), 0, addr(&long), 48)?;
        let long = [0_u64, 0, 0, 0, 0, 1];
        check_err!(sys!(SYS_mount_setattr, CWD, c"m".as_ptr(), 0, addr(&long), 48), E2BIG);
        // Nothing to do: not even the name is looked at.
        setattr(CWD, c"missing", 0, Attr::default())?;
        let bad = |set, clear, propagation| Attr { set, clear, propagation, userns: 0 };
        check_err!(setattr(CWD, c"m", 0, bad(0x100, 0, 0)), EINVAL);
        check_err!(setattr(CWD, c"m", 0, bad(0, 0x100, 0)), EINVAL);
        check_err!(setattr(CWD, c"m", 0, bad(0, 0, 1)), EINVAL);
        check_err!(setattr(CWD, c"m", 0, bad(0, 0, MS_SHARED | MS_SLAVE)), EINVAL);
        check_err!(setattr(CWD, c"m", 0, bad(ATTR_NOATIME, 0, 0)), EINVAL);
        check_err!(setattr(CWD, c"m", 0, bad(0, ATTR_NOATIME, 0)), EINVAL);
        check_err!(setattr(CWD, c"m", 0, bad(0x30, ATTR_ATIME, 0)), EINVAL);
        check_err!(setattr(CWD, c"m", 0, bad(0x40, ATTR_ATIME, 0)), EINVAL);
        check_eq!(options("m")?, "rw,relatime");
        Ok(())
    })
}

fn setattr_flags() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        symlink(c"d", c"m/l")?;
        mkdir(c"m/d", 0o755)?;
        let mut set = 0;
        for (bit, text) in [
            (ATTR_RDONLY, "ro,relatime"),
            (ATTR_NOSUID, "ro,nosuid,relatime"),
            (ATTR_NODEV, "ro,nosuid,nodev,relatime"),
            (ATTR_NOEXEC, "ro,nosuid,nodev,noexec,relatime"),
            (ATTR_NODIRATIME, "ro,nosuid,nodev,noexec,nodiratime,relatime"),
            (ATTR_NOSYMFOLLOW, "ro,nosuid,nodev,noexec,nodiratime,relatime,nosymfollow"),
        ] {
            setattr(CWD, c"m", 0, Attr { set: bit, ..Attr::default() })?;
            check_eq!(options("m")?, text);
            set |= bit;
        }
        check_err!(stat(c"m/l/"), ELOOP);
        check_err!(mkdir(c"m/x", 0o755), EROFS);
        // Set wins over clear; both at once.
        setattr(CWD, c"m", 0, Attr { clear: set, set: ATTR_NODEV, ..Attr::default() })?;
        check_eq!(options("m")?, "rw,nodev,relatime");
        mkdir(c"m/x", 0o755)?;
        check!(stat(c"m/l/").is_ok());
        Ok(())
    })
}

fn setattr_atime() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        for (set, text) in [
            (ATTR_NOATIME, "rw,noatime"),
            (ATTR_STRICTATIME, "rw"),
            (0, "rw,relatime"),
            (ATTR_STRICTATIME | ATTR_NODIRATIME, "rw,nodiratime"),
            (ATTR_NOATIME, "rw,noatime,nodiratime"),
        ] {
            setattr(CWD, c"m", 0, Attr { set, clear: ATTR_ATIME, ..Attr::default() })?;
            check_eq!(options("m")?, text);
        }
        Ok(())
    })
}

fn setattr_recursive() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mkdir(c"m/a", 0o755)?;
        mount(c"none", c"m/a", c"tmpfs", MS_NOSUID, c"")?;
        let ro = Attr { set: ATTR_RDONLY, ..Attr::default() };
        setattr(CWD, c"m", 0, ro)?;
        check_eq!((options("m")?, options("m/a")?), ("ro,relatime".into(), "rw,nosuid,relatime".into()));
        setattr(CWD, c"m", RECURSIVE, Attr { clear: ATTR_RDONLY, set: ATTR_NOEXEC, ..Attr::default() })?;
        check_eq!(options("m")?, "rw,noexec,relatime");
        check_eq!(options("m/a")?, "rw,nosuid,noexec,relatime");
        // All or nothing.
        let writer = create(c"m/a/f", b"")?;
        check_err!(setattr(CWD, c"m", RECURSIVE, ro), EBUSY);
        check_eq!(options("m")?, "rw,noexec,relatime");
        mkdir(c"m/still", 0o755)?;
        close(writer)?;
        setattr(CWD, c"m", RECURSIVE, ro)?;
        check_eq!(options("m/a")?, "ro,nosuid,noexec,relatime");
        Ok(())
    })
}

fn setattr_propagation() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mkdir(c"m/a", 0o755)?;
        mount(c"none", c"m/a", c"tmpfs", 0, c"")?;
        let kind = |propagation| Attr { propagation, ..Attr::default() };
        setattr(CWD, c"m", 0, kind(MS_SHARED))?;
        check!(tags("m")?[0].starts_with("shared:") && tags("m/a")?.is_empty());
        setattr(CWD, c"m", RECURSIVE, kind(MS_SHARED))?;
        check!(tags("m/a")?[0].starts_with("shared:"));
        setattr(CWD, c"m", RECURSIVE, kind(MS_PRIVATE))?;
        check!(tags("m")?.is_empty() && tags("m/a")?.is_empty());
        setattr(CWD, c"m/a", 0, kind(MS_UNBINDABLE))?;
        check_eq!(tags("m/a")?, ["unbindable"]);
        setattr(CWD, c"m", 0, kind(MS_SHARED))?;
        mkdir(c"n", 0o755)?;
        mount(c"m", c"n", c"", MS_BIND, c"")?;
        setattr(CWD, c"n", 0, Attr { propagation: MS_SLAVE, set: ATTR_NOEXEC, ..Attr::default() })?;
        check!(tags("n")?[0].starts_with("master:"));
        check_eq!(options("n")?, "rw,noexec,relatime");
        Ok(())
    })
}

fn setattr_on_detached() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let detached = tmpfs()?;
        setattr(detached, c"", EMPTY, Attr { set: ATTR_RDONLY | ATTR_NOEXEC, ..Attr::default() })?;
        check_err!(sys!(SYS_mkdirat, detached, c"d".as_ptr(), 0o755), EROFS);
        setattr(detached, c"", EMPTY, Attr { propagation: MS_SHARED, ..Attr::default() })?;
        attach(detached, c"m")?;
        check_eq!(options("m")?, "ro,noexec,relatime");
        check!(tags("m")?[0].starts_with("shared:"));
        // What was unmounted lazily cannot be changed any more.
        let inside = open(c"m", O_PATH, 0)?;
        umount(c"m", MNT_DETACH)?;
        check_err!(setattr(inside, c"", EMPTY, Attr { clear: ATTR_RDONLY, ..Attr::default() }), EINVAL);
        Ok(())
    })
}

fn setattr_busy_writer() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        let writer = create(c"m/f", b"")?;
        let ro = Attr { set: ATTR_RDONLY, ..Attr::default() };
        check_err!(setattr(CWD, c"m", 0, ro), EBUSY);
        check_eq!(options("m")?, "rw,relatime");
        // Another mount of the same file system has its own writers.
        mkdir(c"n", 0o755)?;
        mount(c"m", c"n", c"", MS_BIND, c"")?;
        setattr(CWD, c"n", 0, ro)?;
        check_err!(open(c"n/f", O_RDWR, 0), EROFS);
        check!(write(writer, b"x").is_ok());
        Ok(())
    })
}

fn setattr_that_fails_shares_nothing() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        mkdir(c"m/a", 0o755)?;
        mount(c"none", c"m/a", c"tmpfs", 0, c"")?;
        mount(c"", c"m/a", c"", MS_UNBINDABLE, c"")?;
        let writer = create(c"m/f", b"")?;
        let both = Attr { set: ATTR_RDONLY, propagation: MS_SHARED, ..Attr::default() };
        check_err!(setattr(CWD, c"m", RECURSIVE, both), EBUSY);
        check_eq!(tags("m")?, Vec::<String>::new());
        check_eq!(tags("m/a")?, ["unbindable"]);
        close(writer)?;
        setattr(CWD, c"m", RECURSIVE, both)?;
        check!(tags("m")?[0].starts_with("shared:"));
        Ok(())
    })
}

/// Without `CAP_SYS_ADMIN` there is not even a look at the arguments.
fn privileges() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        let detached = tmpfs()?;
        let context = fsopen(c"tmpfs")?;
        let status = in_child(|| {
            let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
            let eperm = |result: Result<usize>| result == Err(Errno(EPERM));
            let attr = Attr { set: ATTR_RDONLY, ..Attr::default() };
            let checks = [
                eperm(sys!(SYS_fsopen, c"tmpfs".as_ptr(), 77)),
                eperm(sys!(SYS_fspick, CWD, c"m".as_ptr(), 0x100)),
                eperm(sys!(SYS_fsmount, context, 77, 0)),
                eperm(move_mount(c"m", c"m", 0x8000)),
                eperm(setattr(CWD, c"m", 0, attr)),
                // This one looks at the flags first.
                sys!(SYS_mount_setattr, CWD, c"m".as_ptr(), 1, addr(&attr), 32) == Err(Errno(EINVAL)),
                eperm(open_tree(c"m", CLONE).map(|_| 0)),
                open_tree(c"m", CLONE | 2) == Err(Errno(EINVAL)),
                open_tree(c"m", 0).is_ok(),
                eperm(command(context, CREATE)),
                sys!(SYS_faccessat, detached, c".".as_ptr(), F_OK).is_ok(),
            ];
            checks.iter().position(|ok| !ok).map_or(0, |index| index as i32 + 1)
        })?;
        check_eq!(status, 0);
        Ok(())
    })
}

/// Runs `body` as root of a user namespace with a copy of the mounts.
fn as_owner_of_copy(body: impl FnOnce() -> Outcome) -> Outcome {
    elsewhere(
        || {
            sys!(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS)?;
            spew(c"/proc/self/setgroups", "deny")?;
            spew(c"/proc/self/uid_map", "0 0 1")?;
            spew(c"/proc/self/gid_map", "0 0 1")
        },
        body,
    )
}

fn locked_mounts() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", MS_NOSUID | MS_RDONLY, c"")?;
        mkdir(c"n", 0o755)?;
        mount(c"none", c"n", c"tmpfs", MS_NOATIME, c"")?;
        mkdir(c"n/a", 0o755)?;
        create(c"n/a/secret", b"").and_then(close)?;
        mount(c"none", c"n/a", c"tmpfs", 0, c"")?;
        mkdir(c"o", 0o755)?;
        as_owner_of_copy(|| {
            // Nothing that was hidden comes to light.
            check_err!(umount(c"n/a", 0), EINVAL);
            check_err!(umount(c"m", MNT_DETACH), EINVAL);
            check_err!(mount(c"n", c"o", c"", MS_BIND, c""), EINVAL);
            check_err!(open_tree(c"n", CLONE), EINVAL);
            check_err!(move_mount(c"n/a", c"o", 0), EINVAL);
            // Flags stay set.
            let change = |set, clear| Attr { set, clear, ..Attr::default() };
            check_err!(setattr(CWD, c"m", 0, change(0, ATTR_RDONLY)), EPERM);
            check_err!(setattr(CWD, c"m", 0, change(0, ATTR_NOSUID)), EPERM);
            check_err!(mount(c"", c"m", c"", MS_REMOUNT | MS_BIND | MS_NOSUID, c""), EPERM);
            setattr(CWD, c"m", 0, change(ATTR_NOEXEC, 0))?;
            setattr(CWD, c"m", 0, change(0, ATTR_NOEXEC))?;
            // Access times are kept the way they were.
            check_err!(setattr(CWD, c"n", 0, change(0, ATTR_ATIME)), EPERM);
            check_err!(setattr(CWD, c"m", 0, change(ATTR_NOATIME, ATTR_ATIME)), EPERM);
            // A whole tree may be bound, and taken away as a whole.
            mount(c"n", c"o", c"", MS_BIND | MS_REC, c"")?;
            check_err!(umount(c"o/a", 0), EINVAL);
            let inside = open(c"o", O_PATH, 0)?;
            umount(c"o", MNT_DETACH)?;
            check_err!(sys!(SYS_faccessat, inside, c"a/secret".as_ptr(), F_OK), ENOENT);
            // What it mounted itself is its own.
            mount(c"none", c"o", c"tmpfs", 0, c"")?;
            umount(c"o", 0)?;
            Ok(())
        })
    })
}
