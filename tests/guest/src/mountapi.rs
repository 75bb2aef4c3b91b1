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
];

const SET_FLAG: u32 = 0;

const SET_STRING: u32 = 1;

const SET_BINARY: u32 = 2;

const SET_PATH: u32 = 3;

const SET_PATH_EMPTY: u32 = 4;

const SET_FD: u32 = 5;

pub(crate) const CREATE: u32 = 6;

const RECONFIGURE: u32 = 7;

const CREATE_EXCL: u32 = 8;

pub(crate) const F_SYMLINKS: u32 = 0x01;

pub(crate) const F_EMPTY_PATH: u32 = 0x04;

pub(crate) const T_SYMLINKS: u32 = 0x10;

pub(crate) const T_EMPTY_PATH: u32 = 0x40;

pub(crate) const SET_GROUP: u32 = 0x100;

pub(crate) const BENEATH: u32 = 0x200;

pub(crate) const CLONE: u32 = 1;

pub(crate) const CLOEXEC: u32 = O_CLOEXEC as u32;

pub(crate) const RECURSIVE: u32 = 0x8000;

pub(crate) const EMPTY: u32 = AT_EMPTY_PATH as u32;

pub(crate) const ATTR_RDONLY: u64 = 0x01;

pub(crate) const ATTR_NOSUID: u64 = 0x02;

pub(crate) const ATTR_NODEV: u64 = 0x04;

pub(crate) const ATTR_NOEXEC: u64 = 0x08;

pub(crate) const ATTR_ATIME: u64 = 0x70;

pub(crate) const ATTR_NOATIME: u64 = 0x10;

pub(crate) const ATTR_STRICTATIME: u64 = 0x20;

pub(crate) const ATTR_NODIRATIME: u64 = 0x80;

pub(crate) const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

pub(crate) fn fsopen(kind: &CStr) -> Result<i32> {
    sys!(SYS_fsopen, kind.as_ptr(), 1).map(|fd| fd as i32)
}

fn set_string(fd: i32, key: &CStr, value: &CStr) -> Result<usize> {
    sys!(SYS_fsconfig, fd, SET_STRING, key.as_ptr(), value.as_ptr(), 0)
}

fn set_flag(fd: i32, key: &CStr) -> Result<usize> {
    sys!(SYS_fsconfig, fd, SET_FLAG, key.as_ptr(), 0, 0)
}

pub(crate) fn command(fd: i32, command: u32) -> Result<usize> {
    sys!(SYS_fsconfig, fd, command, 0, 0, 0)
}

fn fsmount(fd: i32, attributes: u64) -> Result<i32> {
    sys!(SYS_fsmount, fd, 1, attributes).map(|fd| fd as i32)
}

/// A new tmpfs, mounted nowhere.
pub(crate) fn tmpfs() -> Result<i32> {
    let context = fsopen(c"tmpfs")?;
    command(context, CREATE)?;
    let mount = fsmount(context, 0);
    close(context)?;
    mount
}

pub(crate) fn open_tree(path: &CStr, flags: u32) -> Result<i32> {
    sys!(SYS_open_tree, CWD, path.as_ptr(), flags).map(|fd| fd as i32)
}

/// Puts the detached mount `fd` on `path`.
pub(crate) fn attach(fd: i32, path: &CStr) -> Result<usize> {
    sys!(SYS_move_mount, fd, c"".as_ptr(), CWD, path.as_ptr(), F_EMPTY_PATH)
}

/// The same, and closes the descriptor.
pub(crate) fn attach_only(fd: i32, path: &CStr) -> Result<()> {
    attach(fd, path)?;
    close(fd)
}

pub(crate) fn move_mount(from: &CStr, to: &CStr, flags: u32) -> Result<usize> {
    sys!(SYS_move_mount, CWD, from.as_ptr(), CWD, to.as_ptr(), flags)
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Attr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns: u64,
}

pub(crate) fn setattr(fd: i32, path: &CStr, flags: u32, attr: Attr) -> Result<usize> {
    sys!(SYS_mount_setattr, fd, path.as_ptr(), flags, addr(&attr), size_of::<Attr>())
}

/// The next message of a context.
fn message(fd: i32) -> Result<String> {
    read_vec(fd, 4096).map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// The line of `mountinfo` for the mount on `name` in the test's directory; the topmost one.
pub(crate) fn info(name: &str) -> std::result::Result<String, Failure> {
    let here = std::env::current_dir()?.display().to_string();
    let all = slurp(c"/proc/self/mountinfo")?;
    let wanted = format!("{here}/{name}");
    let line = all.lines().rev().find(|line| line.split(' ').nth(4) == Some(&wanted));
    line.map(str::to_string).ok_or_else(|| Failure::new(format!("no mount on {name}")))
}

/// The mount's own options in `mountinfo`.
pub(crate) fn options(name: &str) -> std::result::Result<String, Failure> {
    Ok(info(name)?.split(' ').nth(5).unwrap_or_default().to_string())
}

/// The optional fields of `mountinfo`: propagation.
pub(crate) fn tags(name: &str) -> std::result::Result<Vec<String>, Failure> {
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
