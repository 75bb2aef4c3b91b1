//! The file descriptor based mount calls: fsopen(2), fsconfig(2), fspick(2), fsmount(2), open_tree(2), move_mount(2),
//! mount_setattr(2), statmount(2), listmount(2).

use crate::mounts::{alone, mount, umount};
use crate::prelude::*;
use crate::sys::Result;
use std::ffi::CStr;

tests![
    fsopen_arguments,
    fsconfig_arguments,
    fsconfig_log,
    fsconfig_unread_log_is_bounded,
    fsconfig_flags,
    context_phases,
    failed_context,
    source_and_legacy,
    single_instance_exclusive,
    fsmount_arguments,
    fsmount_flags,
    detached_mount_goes_with_its_descriptor,
    reconfigure_after_fsmount,
    fspick_reconfigures,
    fspick_arguments,
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
    setattr_arguments,
    setattr_flags,
    setattr_atime,
    setattr_recursive,
    setattr_propagation,
    setattr_on_detached,
    setattr_busy_writer,
    setattr_that_fails_shares_nothing,
    privileges,
    expire_needs_two_idle_calls,
    namespace_exit_leaves_peers,
    detached_copy_leaves_peers,
    detached_tree_stays_together,
    unmounted_tree_comes_apart,
    namespace_file_not_in_itself,
    namespace_file_not_moved_into_itself,
    mount_limit,
    locked_mounts,
    statmount_arguments,
    statmount_basic,
    statmount_strings,
    statmount_propagation,
    statmount_other_namespace,
    listmount_arguments,
    listmount_order_and_pages,
    mount_ids_are_not_reused,
    namespace_requests,
];

const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const SET_BINARY: u32 = 2;
const SET_PATH: u32 = 3;
const SET_PATH_EMPTY: u32 = 4;
const SET_FD: u32 = 5;
const CREATE: u32 = 6;
const RECONFIGURE: u32 = 7;
const CREATE_EXCL: u32 = 8;

const F_SYMLINKS: u32 = 0x01;
const F_EMPTY_PATH: u32 = 0x04;
const T_SYMLINKS: u32 = 0x10;
const T_EMPTY_PATH: u32 = 0x40;
const SET_GROUP: u32 = 0x100;
const BENEATH: u32 = 0x200;

const CLONE: u32 = 1;
const CLOEXEC: u32 = O_CLOEXEC as u32;
const RECURSIVE: u32 = 0x8000;
const EMPTY: u32 = AT_EMPTY_PATH as u32;

const ATTR_RDONLY: u64 = 0x01;
const ATTR_NOSUID: u64 = 0x02;
const ATTR_NODEV: u64 = 0x04;
const ATTR_NOEXEC: u64 = 0x08;
const ATTR_ATIME: u64 = 0x70;
const ATTR_NOATIME: u64 = 0x10;
const ATTR_STRICTATIME: u64 = 0x20;
const ATTR_NODIRATIME: u64 = 0x80;
const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

fn fsopen(kind: &CStr) -> Result<i32> {
    sys!(SYS_fsopen, kind.as_ptr(), 1).map(|fd| fd as i32)
}

fn set_string(fd: i32, key: &CStr, value: &CStr) -> Result<usize> {
    sys!(SYS_fsconfig, fd, SET_STRING, key.as_ptr(), value.as_ptr(), 0)
}

fn set_flag(fd: i32, key: &CStr) -> Result<usize> {
    sys!(SYS_fsconfig, fd, SET_FLAG, key.as_ptr(), 0, 0)
}

fn command(fd: i32, command: u32) -> Result<usize> {
    sys!(SYS_fsconfig, fd, command, 0, 0, 0)
}

fn fsmount(fd: i32, attributes: u64) -> Result<i32> {
    sys!(SYS_fsmount, fd, 1, attributes).map(|fd| fd as i32)
}

/// A new tmpfs, mounted nowhere.
fn tmpfs() -> Result<i32> {
    let context = fsopen(c"tmpfs")?;
    command(context, CREATE)?;
    let mount = fsmount(context, 0);
    close(context)?;
    mount
}

fn open_tree(path: &CStr, flags: u32) -> Result<i32> {
    sys!(SYS_open_tree, CWD, path.as_ptr(), flags).map(|fd| fd as i32)
}

/// Puts the detached mount `fd` on `path`.
fn attach(fd: i32, path: &CStr) -> Result<usize> {
    sys!(SYS_move_mount, fd, c"".as_ptr(), CWD, path.as_ptr(), F_EMPTY_PATH)
}

/// The same, and closes the descriptor.
fn attach_only(fd: i32, path: &CStr) -> Result<()> {
    attach(fd, path)?;
    close(fd)
}

fn move_mount(from: &CStr, to: &CStr, flags: u32) -> Result<usize> {
    sys!(SYS_move_mount, CWD, from.as_ptr(), CWD, to.as_ptr(), flags)
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn setattr(fd: i32, path: &CStr, flags: u32, attr: Attr) -> Result<usize> {
    sys!(SYS_mount_setattr, fd, path.as_ptr(), flags, addr(&attr), size_of::<Attr>())
}

/// The next message of a context.
fn message(fd: i32) -> Result<String> {
    read_vec(fd, 4096).map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// The line of `mountinfo` for the mount on `name` in the test's directory; the topmost one.
fn info(name: &str) -> std::result::Result<String, Failure> {
    let here = std::env::current_dir()?.display().to_string();
    let all = slurp(c"/proc/self/mountinfo")?;
    let wanted = format!("{here}/{name}");
    let line = all.lines().rev().find(|line| line.split(' ').nth(4) == Some(&wanted));
    line.map(str::to_string).ok_or_else(|| Failure::new(format!("no mount on {name}")))
}

/// The mount's own options in `mountinfo`.
fn options(name: &str) -> std::result::Result<String, Failure> {
    Ok(info(name)?.split(' ').nth(5).unwrap_or_default().to_string())
}

/// The optional fields of `mountinfo`: propagation.
fn tags(name: &str) -> std::result::Result<Vec<String>, Failure> {
    Ok(info(name)?.split(' ').skip(6).take_while(|word| *word != "-").map(str::to_string).collect())
}

fn fsopen_arguments() -> Outcome {
    check_err!(sys!(SYS_fsopen, c"tmpfs".as_ptr(), 2), EINVAL);
    check_err!(sys!(SYS_fsopen, c"nonsense".as_ptr(), 0), ENODEV);
    check_err!(sys!(SYS_fsopen, c"".as_ptr(), 0), ENODEV);
    check_err!(sys!(SYS_fsopen, 1, 0), EFAULT);
    let fd = sys!(SYS_fsopen, c"tmpfs".as_ptr(), 0)? as i32;
    check_eq!(fcntl(fd, F_GETFD, 0)?, 0);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & O_ACCMODE, O_RDWR);
    let fd = fsopen(c"tmpfs")?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    check_eq!(link.to_string_lossy(), "anon_inode:[fscontext]");
    check_err!(write(fd, b"x"), EINVAL);
    check_err!(seek(fd, 0, SEEK_SET), ESPIPE);
    Ok(())
}

fn fsconfig_arguments() -> Outcome {
    let fd = fsopen(c"tmpfs")?;
    let call = |cmd: u32, key: *const i8, value: *const i8, aux: i32| {
        sys!(SYS_fsconfig, fd, cmd, key as usize, value as usize, aux)
    };
    let (key, text) = (c"size".as_ptr().cast::<i8>(), c"1M".as_ptr().cast::<i8>());
    let none = std::ptr::null();
    check_err!(sys!(SYS_fsconfig, -1_i32, SET_FLAG, key as usize, 0, 0), EINVAL);
    check_err!(call(9, none, none, 0), EOPNOTSUPP);
    check_err!(call(SET_FLAG, none, none, 0), EINVAL);
    check_err!(call(SET_FLAG, key, text, 0), EINVAL);
    check_err!(call(SET_FLAG, key, none, 1), EINVAL);
    check_err!(call(SET_STRING, none, text, 0), EINVAL);
    check_err!(call(SET_STRING, key, none, 0), EINVAL);
    check_err!(call(SET_STRING, key, text, 1), EINVAL);
    check_err!(call(SET_BINARY, key, text, 0), EINVAL);
    check_err!(call(SET_BINARY, key, text, -1), EINVAL);
    check_err!(call(SET_BINARY, key, text, 1024 * 1024 + 1), EINVAL);
    check_err!(call(SET_PATH, key, none, CWD), EINVAL);
    check_err!(call(SET_PATH, key, text, -5), EINVAL);
    check_err!(call(SET_PATH_EMPTY, none, text, CWD), EINVAL);
    check_err!(call(SET_FD, key, text, 1), EINVAL);
    check_err!(call(SET_FD, key, none, -1), EINVAL);
    check_err!(call(CREATE, key, none, 0), EINVAL);
    check_err!(call(CREATE, none, none, 1), EINVAL);
    check_err!(call(RECONFIGURE, none, text, 0), EINVAL);
    check_err!(call(SET_FLAG, 1 as *const i8, none, 0), EFAULT);
    check_err!(call(SET_STRING, key, 1 as *const i8, 0), EFAULT);
    // The argument checks come before the look at the descriptor.
    check_err!(sys!(SYS_fsconfig, 1000, 9, 0, 0, 0), EOPNOTSUPP);
    check_err!(sys!(SYS_fsconfig, 1000, CREATE, 0, 0, 0), EBADF);
    let other = create(c"f", b"")?;
    check_err!(sys!(SYS_fsconfig, other, CREATE, 0, 0, 0), EINVAL);
    // Names and values have at most 255 bytes.
    let long = [[b'x'; 256].as_slice(), b"\0"].concat();
    check_err!(call(SET_FLAG, long.as_ptr().cast(), none, 0), EINVAL);
    check_err!(call(SET_STRING, key, long.as_ptr().cast(), 0), EINVAL);
    // Types that the parameter does not have.
    check_err!(call(SET_FLAG, key, none, 0), EINVAL);
    check_err!(call(SET_BINARY, key, text, 2), EINVAL);
    check_err!(call(SET_FD, key, none, other), EINVAL);
    check_err!(call(SET_FD, key, none, 1000), EBADF);
    check_err!(call(SET_PATH, key, text, CWD), EINVAL);
    check_err!(call(SET_PATH, key, c"".as_ptr().cast(), CWD), ENOENT);
    check_err!(call(SET_PATH_EMPTY, key, c"".as_ptr().cast(), CWD), EINVAL);
    check_err!(call(SET_FLAG, c"".as_ptr().cast(), none, 0), EINVAL);
    Ok(())
}

fn fsconfig_log() -> Outcome {
    let fd = fsopen(c"tmpfs")?;
    check_err!(message(fd), ENODATA);
    check_err!(set_string(fd, c"nonsense", c"1"), EINVAL);
    check_eq!(message(fd)?, "e tmpfs: Unknown parameter 'nonsense'\n");
    check_err!(message(fd), ENODATA);
    check_err!(set_string(fd, c"mode", c"abc"), EINVAL);
    check_err!(set_string(fd, c"size", c"xyz"), EINVAL);
    check_err!(set_flag(fd, c"nr_inodes"), EINVAL);
    check_err!(set_string(fd, c"inode64", c"1"), EINVAL);
    check_err!(set_string(fd, c"huge", c"sometimes"), EINVAL);
    check_eq!(message(fd)?, "e tmpfs: Bad value for 'mode'\n");
    check_eq!(message(fd)?, "e tmpfs: Bad value for 'size'\n");
    check_eq!(message(fd)?, "e tmpfs: Bad value for 'nr_inodes'\n");
    check_eq!(message(fd)?, "e tmpfs: Unexpected value for 'inode64'\n");
    check_eq!(message(fd)?, "e tmpfs: Bad value for 'huge'\n");
    check_err!(message(fd), ENODATA);
    check_err!(set_flag(fd, c""), EINVAL);
    check_eq!(message(fd)?, "e tmpfs: Unknown parameter ''\n");
    check_err!(sys!(SYS_fsconfig, fd, SET_BINARY, c"source".as_ptr(), c"x".as_ptr(), 1), EINVAL);
    check_eq!(message(fd)?, "e Non-string source\n");
    set_string(fd, c"source", c"a")?;
    check_err!(set_string(fd, c"source", c"b"), EINVAL);
    check_eq!(message(fd)?, "e Multiple sources\n");
    // A message that does not fit stays.
    check_err!(set_string(fd, c"nonsense", c"1"), EINVAL);
    check_err!(read_vec(fd, 5), EMSGSIZE);
    check_eq!(message(fd)?, "e tmpfs: Unknown parameter 'nonsense'\n");
    check_err!(message(fd), ENODATA);
    Ok(())
}

fn fsconfig_unread_log_is_bounded() -> Outcome {
    let fd = fsopen(c"tmpfs")?;
    for name in [c"a", c"b", c"c", c"d", c"e", c"f", c"g", c"h", c"i", c"j"] {
        check_err!(set_flag(fd, name), EINVAL);
    }
    // Eight are kept: the last ones.
    for name in ["c", "d", "e", "f", "g", "h", "i", "j"] {
        check_eq!(message(fd)?, format!("e tmpfs: Unknown parameter '{name}'\n"));
    }
    check_err!(message(fd), ENODATA);
    Ok(())
}

fn fsconfig_flags() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let fd = fsopen(c"tmpfs")?;
        for name in [c"ro", c"sync", c"dirsync", c"lazytime", c"mand"] {
            set_flag(fd, name)?;
        }
        // The last one counts.
        set_flag(fd, c"nomand")?;
        set_flag(fd, c"nolazytime")?;
        // Flags of the file system only.
        for name in [c"nosuid", c"nodev", c"noexec", c"relatime", c"remount", c"bind"] {
            check_err!(set_flag(fd, name), EINVAL);
        }
        command(fd, CREATE)?;
        attach(fsmount(fd, 0)?, c"m")?;
        let line = info("m")?;
        check!(line.contains(" - tmpfs none ro,sync,dirsync,"), "{line}");
        check_eq!(options("m")?, "rw,relatime");
        check_err!(mkdir(c"m/d", 0o755), EROFS);
        Ok(())
    })
}

fn context_phases() -> Outcome {
    alone(|| {
        let fd = fsopen(c"tmpfs")?;
        check_err!(command(fd, RECONFIGURE), EBUSY);
        check_err!(fsmount(fd, 0), EINVAL);
        set_string(fd, c"size", c"1M")?;
        command(fd, CREATE)?;
        check_err!(command(fd, CREATE), EBUSY);
        check_err!(command(fd, RECONFIGURE), EBUSY);
        check_err!(set_string(fd, c"size", c"2M"), EBUSY);
        let mount = fsmount(fd, 0)?;
        check_err!(fsmount(fd, 0), EBUSY);
        check_err!(command(fd, CREATE), EBUSY);
        check_err!(fsmount(fd, 0), EBUSY);
        close(mount)?;
        Ok(())
    })
}

fn failed_context() -> Outcome {
    alone(|| {
        // devpts looks at its options when it is mounted.
        let fd = fsopen(c"devpts")?;
        set_string(fd, c"mode", c"nonsense")?;
        check_err!(command(fd, CREATE), EINVAL);
        check_err!(set_string(fd, c"mode", c"600"), EBUSY);
        check_err!(command(fd, CREATE), EBUSY);
        check_err!(fsmount(fd, 0), EINVAL);
        Ok(())
    })
}

fn source_and_legacy() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let fd = fsopen(c"tmpfs")?;
        set_string(fd, c"source", c"a name")?;
        set_string(fd, c"size", c"64k")?;
        set_string(fd, c"mode", c"711")?;
        command(fd, CREATE)?;
        attach_only(fsmount(fd, 0)?, c"m")?;
        let line = info("m")?;
        check!(line.contains(" - tmpfs a\\040name rw,size=64k,mode=711"), "{line}");
        umount(c"m", 0)?;
        // A type of the old kind: text only, and no look at what it says.
        let fd = fsopen(c"devpts")?;
        check_err!(sys!(SYS_fsconfig, fd, SET_BINARY, c"mode".as_ptr(), c"600".as_ptr(), 3), EOPNOTSUPP);
        check_err!(sys!(SYS_fsconfig, fd, SET_FD, c"mode".as_ptr(), 0, 0), EOPNOTSUPP);
        check_err!(sys!(SYS_fsconfig, fd, SET_PATH, c"mode".as_ptr(), c"/".as_ptr(), CWD), EOPNOTSUPP);
        check_err!(command(fd, CREATE_EXCL), EOPNOTSUPP);
        check_err!(set_string(fd, c"mode", c"6,00"), EINVAL);
        check_eq!(message(fd)?, "e VFS: Legacy: Option 'mode' contained comma\n");
        set_string(fd, c"source", c"terminals")?;
        set_string(fd, c"ptmxmode", c"666")?;
        set_flag(fd, c"newinstance")?;
        command(fd, CREATE)?;
        attach(fsmount(fd, 0)?, c"m")?;
        check_eq!(stat(c"m/ptmx")?.st_mode & 0o777, 0o666);
        let line = info("m")?;
        check!(line.contains(" - devpts terminals rw,"), "{line}");
        Ok(())
    })
}

fn single_instance_exclusive() -> Outcome {
    alone(|| {
        let fd = fsopen(c"tmpfs")?;
        command(fd, CREATE_EXCL)?;
        close(fsmount(fd, 0)?)?;
        // sysfs of a network namespace exists once.
        let fd = fsopen(c"sysfs")?;
        check_err!(command(fd, CREATE_EXCL), EBUSY);
        check_eq!(message(fd)?, "w sysfs: reusing existing filesystem not allowed\n");
        let fd = fsopen(c"sysfs")?;
        check_err!(set_flag(fd, c"anything"), EINVAL);
        command(fd, CREATE)?;
        let mount = fsmount(fd, 0)?;
        check!(sys!(SYS_faccessat, mount, c"kernel".as_ptr(), F_OK).is_ok());
        Ok(())
    })
}

fn fsmount_arguments() -> Outcome {
    let fd = fsopen(c"tmpfs")?;
    command(fd, CREATE)?;
    check_err!(sys!(SYS_fsmount, fd, 2, 0), EINVAL);
    check_err!(sys!(SYS_fsmount, fd, 0, 0x40), EINVAL);
    check_err!(sys!(SYS_fsmount, fd, 0, 0x30), EINVAL);
    check_err!(sys!(SYS_fsmount, fd, 0, 0x10_0000), EINVAL);
    check_err!(sys!(SYS_fsmount, fd, 0, 0x100), EINVAL);
    check_err!(sys!(SYS_fsmount, 1000, 0, 0), EBADF);
    let other = create(c"f", b"")?;
    check_err!(sys!(SYS_fsmount, other, 0, 0), EINVAL);
    let mount = sys!(SYS_fsmount, fd, 0, 0)? as i32;
    check_eq!(fcntl(mount, F_GETFD, 0)?, 0);
    // Like a descriptor from O_PATH.
    check_err!(read_vec(mount, 1), EBADF);
    check!(fcntl(mount, F_GETFL, 0)? as i32 & O_PATH != 0);
    check!(fstat(mount)?.st_mode & S_IFMT == S_IFDIR);
    Ok(())
}

fn fsmount_flags() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        for (attributes, text) in [
            (0, "rw,relatime"),
            (ATTR_RDONLY, "ro,relatime"),
            (ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, "rw,nosuid,nodev,noexec,relatime"),
            (ATTR_NOATIME | ATTR_NODIRATIME, "rw,noatime,nodiratime"),
            (ATTR_STRICTATIME, "rw"),
            (ATTR_NOSYMFOLLOW, "rw,relatime,nosymfollow"),
        ] {
            let fd = fsopen(c"tmpfs")?;
            command(fd, CREATE)?;
            attach_only(fsmount(fd, attributes)?, c"m")?;
            check_eq!(options("m")?, text);
            umount(c"m", 0)?;
            close(fd)?;
        }
        Ok(())
    })
}

fn detached_mount_goes_with_its_descriptor() -> Outcome {
    alone(|| {
        let mount = tmpfs()?;
        sys!(SYS_mkdirat, mount, c"d".as_ptr(), 0o755)?;
        let inside = sys!(SYS_openat, mount, c"d".as_ptr(), O_RDONLY)? as i32;
        // A descriptor made from it keeps the file system, not the mount.
        let copy = fcntl(mount, F_DUPFD, 0)? as i32;
        close(mount)?;
        check_eq!(std::fs::read_link(format!("/proc/self/fd/{copy}"))?.to_string_lossy(), "/");
        check!(sys!(SYS_faccessat, copy, c"d".as_ptr(), F_OK).is_ok());
        close(copy)?;
        // Nothing of it can be mounted any more.
        mkdir(c"m", 0o755)?;
        check_err!(attach(inside, c"m"), EINVAL);
        check!(sys!(SYS_mkdirat, inside, c"e".as_ptr(), 0o755).is_ok());
        // Attached, it survives its descriptor.
        let mount = tmpfs()?;
        attach(mount, c"m")?;
        close(mount)?;
        check!(info("m").is_ok());
        // And it is attached only once.
        let mount = tmpfs()?;
        attach(mount, c"m")?;
        mkdir(c"n", 0o755)?;
        attach(mount, c"n")?;
        check_eq!(
            info("m")?.split(' ').nth(4),
            Some(format!("{}/m", std::env::current_dir()?.display()).as_str())
        );
        check!(info("n").is_ok());
        Ok(())
    })
}

fn reconfigure_after_fsmount() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let fd = fsopen(c"tmpfs")?;
        set_string(fd, c"size", c"64k")?;
        command(fd, CREATE)?;
        attach(fsmount(fd, 0)?, c"m")?;
        // The context goes on as one that fspick made.
        set_string(fd, c"size", c"128k")?;
        set_flag(fd, c"ro")?;
        command(fd, RECONFIGURE)?;
        let line = info("m")?;
        check!(line.contains(" - tmpfs none ro,size=128k"), "{line}");
        set_flag(fd, c"rw")?;
        command(fd, RECONFIGURE)?;
        let line = info("m")?;
        check!(line.contains(" - tmpfs none rw,size=128k"), "{line}");
        check_err!(command(fd, CREATE), EBUSY);
        check_err!(fsmount(fd, 0), EBUSY);
        Ok(())
    })
}

fn fspick_reconfigures() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mount(c"none", c"m", c"tmpfs", 0, c"size=64k")?;
        let file = create(c"m/f", &[1; 10_000])?;
        let fd = sys!(SYS_fspick, CWD, c"m".as_ptr(), 1)? as i32;
        check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
        set_string(fd, c"size", c"4k")?;
        check_err!(command(fd, RECONFIGURE), EINVAL);
        check_eq!(message(fd)?, "e tmpfs: Too small a size for current use\n");
        let fd = sys!(SYS_fspick, CWD, c"m".as_ptr(), 0)? as i32;
        set_flag(fd, c"ro")?;
        check_err!(command(fd, RECONFIGURE), EBUSY);
        close(file)?;
        let fd = sys!(SYS_fspick, CWD, c"m".as_ptr(), 0)? as i32;
        set_flag(fd, c"ro")?;
        command(fd, RECONFIGURE)?;
        check!(info("m")?.contains(" - tmpfs none ro,size=64k"));
        // Flags that were named before count as named again, and clear.
        set_string(fd, c"nr_inodes", c"100")?;
        command(fd, RECONFIGURE)?;
        let line = info("m")?;
        check!(line.contains(" - tmpfs none rw,size=64k,nr_inodes=100"), "{line}");
        // A context does not keep the mount busy.
        umount(c"m", 0)?;
        Ok(())
    })
}

fn fspick_arguments() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        symlink(c"m", c"l")?;
        check_err!(sys!(SYS_fspick, CWD, c"m".as_ptr(), 0x10), EINVAL);
        // Not where a mount begins.
        check_err!(sys!(SYS_fspick, CWD, c"m".as_ptr(), 0), EINVAL);
        check_err!(sys!(SYS_fspick, CWD, c"missing".as_ptr(), 0), ENOENT);
        check_err!(sys!(SYS_fspick, CWD, c"".as_ptr(), 0), ENOENT);
        mount(c"none", c"m", c"tmpfs", 0, c"")?;
        check!(sys!(SYS_fspick, CWD, c"l".as_ptr(), 0).is_ok());
        check_err!(sys!(SYS_fspick, CWD, c"l".as_ptr(), 2), EINVAL);
        check!(sys!(SYS_fspick, CWD, c"m".as_ptr(), 4).is_ok());
        let dir = open(c"m", O_PATH, 0)?;
        let fd = sys!(SYS_fspick, dir, c"".as_ptr(), 8)? as i32;
        check_err!(command(fd, CREATE), EBUSY);
        check_err!(fsmount(fd, 0), EBUSY);
        Ok(())
    })
}

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

/// Runs `body` as root of a user namespace with a copy of the mounts.
fn as_owner_of_copy(body: impl FnOnce() -> Outcome) -> Outcome {
    let report = pipe(0)?;
    let status = in_child(|| {
        let result = sys!(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS)
            .and_then(|_| spew(c"/proc/self/setgroups", "deny").map(|()| 0))
            .and_then(|_| spew(c"/proc/self/uid_map", "0 0 1").map(|()| 0))
            .and_then(|_| spew(c"/proc/self/gid_map", "0 0 1").map(|()| 0))
            .map_err(Failure::from)
            .and_then(|_| body());
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

/// `struct mnt_id_req`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    size: u32,
    spare: u32,
    id: u64,
    param: u64,
    ns: u64,
}

impl Request {
    fn new(id: u64, param: u64) -> Self {
        Self { size: 32, spare: 0, id, param, ns: 0 }
    }
}

/// The fixed part of `struct statmount`.
#[repr(C)]
#[derive(Clone, Copy)]
struct StatMount {
    size: u32,
    opts: u32,
    mask: u64,
    major: u32,
    minor: u32,
    magic: u64,
    sb_flags: u32,
    fs_type: u32,
    id: u64,
    parent: u64,
    old_id: u32,
    old_parent: u32,
    attr: u64,
    propagation: u64,
    group: u64,
    master: u64,
    from: u64,
    root: u32,
    point: u32,
    ns: u64,
    spare: [u64; 49],
}

const SB_BASIC: u64 = 1;
const MNT_BASIC: u64 = 2;
const PROPAGATE_FROM: u64 = 4;
const MNT_ROOT: u64 = 8;
const MNT_POINT: u64 = 16;
const FS_TYPE: u64 = 32;
const NS_ID: u64 = 64;
const OPTS: u64 = 128;

const LSMT_ROOT: u64 = u64::MAX;

fn statmount(request: &Request, buffer: &mut [u8]) -> Result<usize> {
    sys!(SYS_statmount, addr(request), buffer.as_mut_ptr(), buffer.len(), 0)
}

/// What is known of a mount, with its strings.
fn statmount_of(id: u64, mask: u64) -> std::result::Result<(StatMount, Vec<u8>), Failure> {
    statmount_in(0, id, mask)
}

fn statmount_in(ns: u64, id: u64, mask: u64) -> std::result::Result<(StatMount, Vec<u8>), Failure> {
    let mut buffer = vec![0; 4096];
    statmount(&Request { ns, ..Request::new(id, mask) }, &mut buffer)?;
    check!(size_of::<StatMount>() == 512);
    // SAFETY: the buffer is larger than the structure, which is plain numbers.
    let st = unsafe { std::ptr::read_unaligned(buffer.as_ptr().cast::<StatMount>()) };
    buffer.truncate(st.size as usize);
    Ok((st, buffer.split_off(512.min(st.size as usize))))
}

fn string_at(strings: &[u8], at: u32) -> String {
    let text = strings.get(at as usize..).unwrap_or_default();
    String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// The unique id of the mount at `path`, and the other one.
fn ids(path: &CStr) -> std::result::Result<(u64, u64), Failure> {
    const UNIQUE: u32 = 0x4000;
    const OLD: u32 = 0x1000;
    let get = |mask: u32| {
        let mut stx: libc::statx = zeroed();
        sys!(SYS_statx, CWD, path.as_ptr(), 0, mask, addr_mut(&mut stx))?;
        if stx.stx_mask & mask == 0 {
            return Err(Failure::new("no mount id"));
        }
        Ok(stx.stx_mnt_id)
    };
    Ok((get(UNIQUE)?, get(OLD)?))
}

fn listmount(request: &Request, count: usize, flags: u32) -> Result<Vec<u64>> {
    let mut ids = vec![0_u64; count];
    let found = sys!(SYS_listmount, addr(request), ids.as_mut_ptr(), count, flags)?;
    ids.truncate(found);
    Ok(ids)
}

fn statmount_arguments() -> Outcome {
    alone(|| {
        let (id, _) = ids(c"/")?;
        let mut buffer = vec![0; 1024];
        let good = Request::new(id, MNT_BASIC);
        statmount(&good, &mut buffer)?;
        check_err!(sys!(SYS_statmount, addr(&good), buffer.as_mut_ptr(), 1024, 1), EINVAL);
        check_err!(statmount(&Request { size: 23, ..good }, &mut buffer), EINVAL);
        check_err!(statmount(&Request { size: 4097, ..good }, &mut buffer), E2BIG);
        check_err!(statmount(&Request { spare: 1, ..good }, &mut buffer), EINVAL);
        statmount(&Request { size: 24, ns: 77, ..good }, &mut buffer)?;
        check_err!(statmount(&Request { ns: 0x7777_7777, ..good }, &mut buffer), ENOENT);
        // The numbers of mountinfo are not ids of this kind.
        check_err!(statmount(&Request { id: 1, ..good }, &mut buffer), EINVAL);
        check_err!(statmount(&Request { id: 1 << 31, ..good }, &mut buffer), EINVAL);
        check_err!(statmount(&Request { id: u64::MAX, ..good }, &mut buffer), ENOENT);
        check_err!(sys!(SYS_statmount, 8, buffer.as_mut_ptr(), 1024, 0), EFAULT);
        check_err!(sys!(SYS_statmount, addr(&good), 8, 1024, 0), EFAULT);
        // Numbers may be cut off, strings not.
        statmount(&good, &mut buffer[..16])?;
        check_eq!(u32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]), 16);
        let text = Request::new(id, FS_TYPE);
        check_err!(statmount(&text, &mut buffer[..512]), EOVERFLOW);
        check_err!(statmount(&text, &mut buffer[..514]), EOVERFLOW);
        check_err!(statmount(&text, &mut buffer[..100]), EOVERFLOW);
        // What is not known is not answered.
        let (st, strings) = statmount_of(id, 1 << 60)?;
        check_eq!((st.mask, st.size, strings.len()), (0, 512, 0));
        Ok(())
    })
}

fn statmount_basic() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME;
        mount(c"source", c"m", c"tmpfs", flags | MS_SYNCHRONOUS, c"")?;
        let (id, old) = ids(c"m")?;
        let (st, _) = statmount_of(id, SB_BASIC | MNT_BASIC)?;
        check_eq!(st.mask, SB_BASIC | MNT_BASIC);
        check_eq!((st.id, u64::from(st.old_id)), (id, old));
        check!(st.id > 1 << 31);
        let (parent, old_parent) = ids(c".")?;
        check_eq!((st.parent, u64::from(st.old_parent)), (parent, old_parent));
        let dev = stat(c"m")?.st_dev;
        check_eq!((st.major, st.minor), (libc::major(dev), libc::minor(dev)));
        check_eq!(st.magic, 0x0102_1994);
        check_eq!(st.sb_flags as u64, MS_SYNCHRONOUS);
        let attr = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NOATIME | ATTR_NODIRATIME;
        check_eq!(st.attr, attr);
        check_eq!((st.propagation, st.group, st.master), (MS_PRIVATE, 0, 0));
        mount(c"", c"m", c"", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_STRICTATIME, c"")?;
        check_eq!(statmount_of(id, MNT_BASIC)?.0.attr, ATTR_RDONLY | ATTR_STRICTATIME);
        mount(c"", c"m", c"", MS_REMOUNT | MS_BIND | MS_RELATIME, c"")?;
        check_eq!(statmount_of(id, MNT_BASIC)?.0.attr, 0);
        // The root of the namespace is its own parent.
        let (root, _) = ids(c"/")?;
        check_eq!(statmount_of(root, MNT_BASIC)?.0.parent, root);
        Ok(())
    })
}

fn statmount_strings() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        mkdir(c"n", 0o755)?;
        mount(c"none", c"m", c"tmpfs", MS_RDONLY, c"size=64k,mode=700")?;
        let (id, _) = ids(c"m")?;
        let (st, strings) = statmount_of(id, MNT_ROOT | MNT_POINT | FS_TYPE | OPTS)?;
        check_eq!(st.mask, MNT_ROOT | MNT_POINT | FS_TYPE | OPTS);
        check_eq!(string_at(&strings, st.fs_type), "tmpfs");
        check_eq!(string_at(&strings, st.root), "/");
        let here = std::env::current_dir()?.display().to_string();
        check_eq!(string_at(&strings, st.point), format!("{here}/m"));
        let opts = string_at(&strings, st.opts);
        check!(opts.starts_with("size=64k,mode=700"), "{opts}");
        let (st, strings) = statmount_of(ids(c"/proc")?.0, OPTS)?;
        // Nothing to say is an empty string.
        check_eq!((st.mask, string_at(&strings, st.opts).as_str()), (OPTS, ""));
        // A bind of a directory; names with blanks are not mangled.
        umount(c"m", 0)?;
        mkdir(c"m/a b", 0o755)?;
        mount(c"m/a b", c"n", c"", MS_BIND, c"")?;
        let (id, _) = ids(c"n")?;
        let (st, strings) = statmount_of(id, MNT_ROOT)?;
        check!(string_at(&strings, st.root).ends_with("/m/a b"));
        // Names begin at one's root directory.
        let point = in_child(|| {
            if sys!(SYS_chroot, c".".as_ptr()).is_err() {
                return 1;
            }
            match statmount_of(id, MNT_POINT) {
                Ok((st, strings)) => i32::from(string_at(&strings, st.point) != "/n") * 2,
                Err(_) => 3,
            }
        })?;
        check_eq!(point, 0);
        Ok(())
    })
}

fn statmount_propagation() -> Outcome {
    alone(|| {
        for name in [c"a", c"b", c"c"] {
            mkdir(name, 0o755)?;
        }
        mount(c"none", c"a", c"tmpfs", 0, c"")?;
        mount(c"", c"a", c"", MS_SHARED, c"")?;
        mount(c"a", c"b", c"", MS_BIND, c"")?;
        mount(c"", c"b", c"", MS_SLAVE, c"")?;
        mount(c"none", c"c", c"tmpfs", 0, c"")?;
        mount(c"", c"c", c"", MS_UNBINDABLE, c"")?;
        let get = |path: &CStr| statmount_of(ids(path)?.0, MNT_BASIC | PROPAGATE_FROM);
        let (a, b, c) = (get(c"a")?.0, get(c"b")?.0, get(c"c")?.0);
        check_eq!((a.propagation, a.master), (MS_SHARED, 0));
        check_eq!((a.mask, a.from), (MNT_BASIC | PROPAGATE_FROM, 0));
        check!(a.group != 0);
        check_eq!(tags("a")?, [format!("shared:{}", a.group)]);
        check_eq!((b.propagation, b.group, b.master), (MS_SLAVE, 0, a.group));
        check_eq!((b.mask, b.from), (MNT_BASIC | PROPAGATE_FROM, a.group));
        check_eq!(c.propagation, MS_UNBINDABLE);
        mount(c"", c"b", c"", MS_SHARED, c"")?;
        let (b, _) = get(c"b")?;
        check_eq!((b.propagation, b.master), (MS_SHARED | MS_SLAVE, a.group));
        check!(b.group != 0 && b.group != a.group);
        Ok(())
    })
}

fn statmount_other_namespace() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let own = statmount_of(ids(c"/")?.0, NS_ID)?.0;
        check_eq!(own.mask, NS_ID);
        check!(own.ns != 0);
        let (ready, done) = (pipe(0)?, pipe(0)?);
        let child = fork(|| {
            let report = || -> std::result::Result<[u64; 2], Failure> {
                sys!(SYS_unshare, CLONE_NEWNS)?;
                mount(c"none", c"m", c"tmpfs", 0, c"")?;
                let id = ids(c"m")?.0;
                Ok([statmount_of(id, NS_ID)?.0.ns, id])
            };
            let [ns, id] = report().unwrap_or([0, 0]);
            let _ = write(ready[1], &[ns.to_ne_bytes(), id.to_ne_bytes()].concat());
            let _ = read_vec(done[0], 1);
            0
        })?;
        let bytes = read_vec(ready[0], 16)?;
        let number =
            |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
        let (ns, id) = (number(0), number(8));
        check!(ns != 0 && ns != own.ns);
        // A mount of another namespace is found only there.
        let mut buffer = vec![0; 1024];
        check_err!(statmount(&Request::new(id, MNT_BASIC), &mut buffer), ENOENT);
        let (st, strings) = statmount_in(ns, id, MNT_BASIC | FS_TYPE | NS_ID)?;
        check_eq!((st.id, st.ns), (id, ns));
        check_eq!(string_at(&strings, st.fs_type), "tmpfs");
        let all = listmount(&Request { ns, ..Request::new(st.parent, 0) }, 1000, 0)?;
        check!(all.contains(&id));
        check!(!listmount(&Request::new(LSMT_ROOT, 0), 1000, 0)?.contains(&id));
        // Others see nothing of it.
        let hidden = in_child(|| {
            let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
            let mut buffer = vec![0; 1024];
            let other = statmount(&Request { ns, ..Request::new(id, MNT_BASIC) }, &mut buffer);
            let list = listmount(&Request { ns, ..Request::new(LSMT_ROOT, 0) }, 10, 0);
            i32::from(other != Err(Errno(EPERM))) | i32::from(list != Err(Errno(ENOENT))) << 1
        })?;
        check_eq!(hidden, 0);
        write(done[1], b"x")?;
        check_eq!(wait_exit(child)?, 0);
        Ok(())
    })
}

fn listmount_arguments() -> Outcome {
    alone(|| {
        let good = Request::new(LSMT_ROOT, 0);
        check_err!(listmount(&good, 10, 2), EINVAL);
        check_err!(sys!(SYS_listmount, addr(&good), 8, 1_000_001, 0), EOVERFLOW);
        check_err!(sys!(SYS_listmount, addr(&good), usize::MAX - 8, 10, 0), EFAULT);
        check_err!(sys!(SYS_listmount, addr(&good), 8, 10, 0), EFAULT);
        check_err!(sys!(SYS_listmount, 8, 0, 0, 0), EFAULT);
        check_err!(listmount(&Request { spare: 1, ..good }, 10, 0), EINVAL);
        check_err!(listmount(&Request { size: 8, ..good }, 10, 0), EINVAL);
        check_err!(listmount(&Request { id: 5, ..good }, 10, 0), EINVAL);
        check_err!(listmount(&Request { id: u64::MAX - 1, ..good }, 10, 0), ENOENT);
        check_err!(listmount(&Request { param: 5, ..good }, 10, 0), EINVAL);
        check_err!(listmount(&Request { ns: 0x7777_7777, ..good }, 10, 0), ENOENT);
        check_eq!(listmount(&good, 0, 0)?, []);
        check_eq!(listmount(&Request { param: u64::MAX, ..good }, 10, 0)?, []);
        Ok(())
    })
}

fn listmount_order_and_pages() -> Outcome {
    alone(|| {
        for name in [c"a", c"b"] {
            mkdir(name, 0o755)?;
            mount(c"none", name, c"tmpfs", 0, c"")?;
        }
        mkdir(c"a/x", 0o755)?;
        mount(c"none", c"a/x", c"tmpfs", 0, c"")?;
        let (a, b, x) = (ids(c"a")?.0, ids(c"b")?.0, ids(c"a/x")?.0);
        check!(a < b && b < x);
        let all = listmount(&Request::new(LSMT_ROOT, 0), 1000, 0)?;
        check!(all.is_sorted());
        check_eq!(all.len(), slurp(c"/proc/self/mountinfo")?.lines().count());
        check!(all.ends_with(&[a, b, x]));
        let mut backward = listmount(&Request::new(LSMT_ROOT, 0), 1000, 1)?;
        backward.reverse();
        check_eq!(backward, all);
        // Page by page.
        let mut pages = Vec::new();
        loop {
            let last = pages.last().copied().unwrap_or(0);
            let page = listmount(&Request::new(LSMT_ROOT, last), 2, 0)?;
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        check_eq!(pages, all);
        check_eq!(listmount(&Request::new(LSMT_ROOT, x), 2, 1)?, [b, a]);
        // What is on one mount, however deep; without the mount itself.
        check_eq!(listmount(&Request::new(a, 0), 10, 0)?, [x]);
        check_eq!(listmount(&Request::new(b, 0), 10, 0)?, []);
        // Below one's root directory.
        let status = in_child(|| {
            if sys!(SYS_chroot, c"a".as_ptr()).is_err() {
                return 1;
            }
            let list = listmount(&Request::new(LSMT_ROOT, 0), 10, 0);
            let seen = list == Ok(vec![a, x]);
            let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
            let outside = listmount(&Request::new(b, 0), 10, 0) == Err(Errno(EPERM));
            let mut buffer = vec![0; 512];
            let other = statmount(&Request::new(b, MNT_BASIC), &mut buffer) == Err(Errno(EPERM));
            i32::from(!seen) << 1 | i32::from(!outside) << 2 | i32::from(!other) << 3
        })?;
        check_eq!(status, 0);
        Ok(())
    })
}

fn mount_ids_are_not_reused() -> Outcome {
    alone(|| {
        mkdir(c"m", 0o755)?;
        let mut seen = Vec::new();
        for _ in 0..5 {
            mount(c"none", c"m", c"tmpfs", 0, c"")?;
            let (id, _) = ids(c"m")?;
            check!(!seen.contains(&id));
            seen.push(id);
            umount(c"m", 0)?;
        }
        let mut buffer = vec![0; 512];
        check_err!(statmount(&Request::new(seen[4], MNT_BASIC), &mut buffer), ENOENT);
        // Detached mounts have an id, but are in no namespace that one could ask.
        let detached = tmpfs()?;
        let mut stx: libc::statx = zeroed();
        sys!(SYS_statx, detached, c"".as_ptr(), AT_EMPTY_PATH, 0x4000, addr_mut(&mut stx))?;
        check_err!(statmount(&Request::new(stx.stx_mnt_id, MNT_BASIC), &mut buffer), ENOENT);
        mkdir(c"n", 0o755)?;
        attach(detached, c"n")?;
        check_eq!(ids(c"n")?.0, stx.stx_mnt_id);
        Ok(())
    })
}

/// `ioctl_ns(2)`: from one mount namespace to the next.
fn namespace_requests() -> Outcome {
    const GET_ID: u64 = 0x8008_b705;
    const GET_INFO: u64 = 0x8010_b70a;
    const GET_NEXT: u64 = 0x8010_b70b;
    const GET_PREV: u64 = 0x8010_b70c;
    alone(|| {
        let ns = open(c"/proc/self/ns/mnt", O_RDONLY, 0)?;
        let mut id = 0_u64;
        sys!(SYS_ioctl, ns, GET_ID, addr_mut(&mut id))?;
        check_eq!(statmount_of(ids(c"/")?.0, NS_ID)?.0.ns, id);
        let mut info = [0_u64; 2];
        sys!(SYS_ioctl, ns, GET_INFO, addr_mut(&mut info))?;
        check_eq!((info[0] as u32, info[1]), (16, id));
        check!(info[0] >> 32 > 0);
        check_err!(sys!(SYS_ioctl, ns, GET_INFO, 0), EINVAL);
        check_err!(sys!(SYS_ioctl, ns, GET_INFO & !0x10_0000, addr_mut(&mut info)), EINVAL);
        check_err!(sys!(SYS_ioctl, ns, GET_ID, 8), EFAULT);
        let uts = open(c"/proc/self/ns/uts", O_RDONLY, 0)?;
        check_err!(sys!(SYS_ioctl, uts, GET_ID, addr_mut(&mut id)), EINVAL);
        check_err!(sys!(SYS_ioctl, uts, GET_NEXT, 0), EINVAL);
        // Backwards from here to the first, and forwards again.
        let mut at = ns;
        let mut seen = vec![id];
        loop {
            match sys!(SYS_ioctl, at, GET_PREV, addr_mut(&mut info)) {
                Ok(fd) => {
                    check!(info[1] < seen[seen.len() - 1]);
                    seen.push(info[1]);
                    at = fd as i32;
                    check_eq!(fcntl(at, F_GETFD, 0)?, FD_CLOEXEC as usize);
                }
                Err(errno) => {
                    check_eq!(errno, Errno(ENOENT));
                    break;
                }
            }
        }
        check!(seen.len() >= 2);
        while seen.len() > 1 {
            at = sys!(SYS_ioctl, at, GET_NEXT, addr_mut(&mut info))? as i32;
            seen.pop();
            check_eq!(Some(&info[1]), seen.last());
        }
        Ok(())
    })
}
