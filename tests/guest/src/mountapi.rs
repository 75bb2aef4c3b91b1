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
    privileges,
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
        check_eq!(info("m")?.split(' ').nth(4), Some(format!("{}/m", std::env::current_dir()?.display()).as_str()));
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
