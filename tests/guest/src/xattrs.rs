//! Extended attributes: `setxattr(2)`, `getxattr(2)`, `listxattr(2)`, `removexattr(2)`, each by path, by path without
//! following a link, and by descriptor. `xattr(7)`.

use crate::prelude::*;
use crate::sys::Result as SysResult;
use std::ffi::CStr;

tests![
    three_ways_reach_one_file,
    links_have_their_own,
    create_and_replace,
    sizes_of_values,
    lists_of_names,
    names_are_checked,
    namespaces_and_privilege,
    user_attributes_need_permission,
    descriptors_are_checked,
    addresses_are_checked,
    only_regular_files_have_user_attributes,
    change_of_attributes_sets_ctime,
];

/// How a call names its file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Path,
    Link,
    Fd,
}

const WAYS: [By; 3] = [By::Path, By::Link, By::Fd];

fn target(by: By, path: &CStr) -> SysResult<usize> {
    if by == By::Fd { open(path, O_RDONLY, 0).map(|fd| fd as usize) } else { Ok(path.as_ptr() as usize) }
}

fn set(by: By, path: &CStr, name: &CStr, value: &[u8], flags: i32) -> SysResult<usize> {
    let at = target(by, path)?;
    let (name, bytes, len) = (name.as_ptr(), value.as_ptr(), value.len());
    match by {
        By::Path => sys!(SYS_setxattr, at, name, bytes, len, flags),
        By::Link => sys!(SYS_lsetxattr, at, name, bytes, len, flags),
        By::Fd => sys!(SYS_fsetxattr, at, name, bytes, len, flags),
    }
}

fn get(by: By, path: &CStr, name: &CStr, room: usize) -> SysResult<Vec<u8>> {
    let at = target(by, path)?;
    let mut buffer = vec![0; room];
    let (name, bytes) = (name.as_ptr(), buffer.as_mut_ptr());
    let len = match by {
        By::Path => sys!(SYS_getxattr, at, name, bytes, room),
        By::Link => sys!(SYS_lgetxattr, at, name, bytes, room),
        By::Fd => sys!(SYS_fgetxattr, at, name, bytes, room),
    }?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// The names, sorted. Without a security module there are none but ours; with one it may add its own.
fn list(by: By, path: &CStr, room: usize) -> SysResult<Vec<String>> {
    let at = target(by, path)?;
    let mut buffer = vec![0_u8; room];
    let bytes = buffer.as_mut_ptr();
    let len = match by {
        By::Path => sys!(SYS_listxattr, at, bytes, room),
        By::Link => sys!(SYS_llistxattr, at, bytes, room),
        By::Fd => sys!(SYS_flistxattr, at, bytes, room),
    }?;
    let text = String::from_utf8_lossy(&buffer[..len.min(room)]).into_owned();
    let mut names: Vec<String> = text.split_terminator('\0').map(str::to_string).collect();
    names.sort();
    Ok(names)
}

fn remove(by: By, path: &CStr, name: &CStr) -> SysResult<usize> {
    let at = target(by, path)?;
    match by {
        By::Path => sys!(SYS_removexattr, at, name.as_ptr()),
        By::Link => sys!(SYS_lremovexattr, at, name.as_ptr()),
        By::Fd => sys!(SYS_fremovexattr, at, name.as_ptr()),
    }
}

fn three_ways_reach_one_file() -> Outcome {
    create(c"f", b"")?;
    for by in WAYS {
        check_err!(get(by, c"f", c"user.a", 16), ENODATA);
        check_err!(remove(by, c"f", c"user.a"), ENODATA);
        check_eq!(list(by, c"f", 64)?, Vec::<String>::new());
    }
    for (round, by) in WAYS.into_iter().enumerate() {
        let value = [b'v', round as u8];
        set(by, c"f", c"user.a", &value, 0)?;
        for other in WAYS {
            check_eq!(get(other, c"f", c"user.a", 16)?, value);
            check_eq!(list(other, c"f", 64)?, ["user.a"]);
        }
        remove(WAYS[(round + 1) % 3], c"f", c"user.a")?;
        check_err!(get(by, c"f", c"user.a", 16), ENODATA);
    }
    Ok(())
}

fn links_have_their_own() -> Outcome {
    create(c"f", b"")?;
    symlink(c"f", c"l")?;
    set(By::Path, c"l", c"trusted.a", b"file", 0)?;
    set(By::Link, c"l", c"trusted.a", b"link", 0)?;
    check_eq!(get(By::Path, c"f", c"trusted.a", 16)?, b"file");
    check_eq!(get(By::Path, c"l", c"trusted.a", 16)?, b"file");
    check_eq!(get(By::Link, c"l", c"trusted.a", 16)?, b"link");
    set(By::Link, c"l", c"trusted.b", b"", 0)?;
    check_eq!(list(By::Link, c"l", 64)?, ["trusted.a", "trusted.b"]);
    check_eq!(list(By::Path, c"l", 64)?, ["trusted.a"]);
    remove(By::Link, c"l", c"trusted.a")?;
    check_err!(get(By::Link, c"l", c"trusted.a", 16), ENODATA);
    check_eq!(get(By::Path, c"l", c"trusted.a", 16)?, b"file");
    remove(By::Path, c"l", c"trusted.a")?;
    check_err!(get(By::Path, c"f", c"trusted.a", 16), ENODATA);
    // xattr(7): user attributes of a link are not allowed.
    check_err!(set(By::Link, c"l", c"user.a", b"x", 0), EPERM);
    symlink(c"none", c"dangling")?;
    check_err!(set(By::Path, c"dangling", c"trusted.a", b"x", 0), ENOENT);
    set(By::Link, c"dangling", c"trusted.a", b"x", 0)?;
    Ok(())
}

fn create_and_replace() -> Outcome {
    create(c"f", b"")?;
    for by in WAYS {
        check_err!(set(by, c"f", c"user.a", b"1", XATTR_REPLACE), ENODATA);
        set(by, c"f", c"user.a", b"1", XATTR_CREATE)?;
        check_err!(set(by, c"f", c"user.a", b"2", XATTR_CREATE), EEXIST);
        set(by, c"f", c"user.a", b"3", XATTR_REPLACE)?;
        check_eq!(get(by, c"f", c"user.a", 8)?, b"3");
        check_err!(set(by, c"f", c"user.a", b"4", 4), EINVAL);
        check_err!(set(by, c"f", c"user.a", b"4", -1), EINVAL);
        check_err!(set(by, c"f", c"user.a", b"4", XATTR_CREATE | XATTR_REPLACE), EEXIST);
        remove(by, c"f", c"user.a")?;
        check_err!(set(by, c"f", c"user.a", b"4", XATTR_CREATE | XATTR_REPLACE), ENODATA);
    }
    Ok(())
}

fn sizes_of_values() -> Outcome {
    create(c"f", b"")?;
    for by in WAYS {
        set(by, c"f", c"user.a", b"12345", 0)?;
        check_eq!(get(by, c"f", c"user.a", 0)?.len(), 5);
        check_eq!(get(by, c"f", c"user.a", 5)?, b"12345");
        check_err!(get(by, c"f", c"user.a", 4), ERANGE);
        check_err!(get(by, c"f", c"user.a", 1), ERANGE);
        set(by, c"f", c"user.empty", b"", 0)?;
        check_eq!(get(by, c"f", c"user.empty", 0)?.len(), 0);
        check_eq!(get(by, c"f", c"user.empty", 8)?, b"");
        set(by, c"f", c"user.a", b"1", 0)?;
        check_eq!(get(by, c"f", c"user.a", 8)?, b"1");
        check_err!(set(by, c"f", c"user.big", &[7; 65537], 0), E2BIG);
        set(by, c"f", c"user.big", &[7; 4000], 0)?;
        check_eq!(get(by, c"f", c"user.big", 65536)?, [7; 4000]);
    }
    set(By::Path, c"f", c"trusted.big", &[9; 65536], 0)?;
    check_eq!(get(By::Path, c"f", c"trusted.big", 65536)?, [9; 65536]);
    check_eq!(get(By::Path, c"f", c"trusted.big", 1 << 20)?.len(), 65536);
    Ok(())
}

fn lists_of_names() -> Outcome {
    create(c"f", b"")?;
    for by in WAYS {
        check_eq!(list(by, c"f", 0)?.len(), 0);
        set(by, c"f", c"user.bb", b"1", 0)?;
        set(by, c"f", c"trusted.a", b"1", 0)?;
        check_eq!(list(by, c"f", 18)?, ["trusted.a", "user.bb"]);
        check_err!(list(by, c"f", 17), ERANGE);
        check_err!(list(by, c"f", 1), ERANGE);
        let at = target(by, c"f")?;
        let size = match by {
            By::Path => sys!(SYS_listxattr, at, 0, 0)?,
            By::Link => sys!(SYS_llistxattr, at, 0, 0)?,
            By::Fd => sys!(SYS_flistxattr, at, 0, 0)?,
        };
        check_eq!(size, 18);
        check_eq!(list(by, c"f", 1 << 20)?.len(), 2);
        remove(by, c"f", c"user.bb")?;
        remove(by, c"f", c"trusted.a")?;
    }
    Ok(())
}

fn names_are_checked() -> Outcome {
    create(c"f", b"")?;
    let with_length = |len: usize| {
        let mut name = b"user.".to_vec();
        name.resize(len, b'n');
        std::ffi::CString::new(name).unwrap_or_default()
    };
    for by in WAYS {
        check_err!(set(by, c"f", c"", b"x", 0), ERANGE);
        check_err!(get(by, c"f", c"", 8), ERANGE);
        check_err!(remove(by, c"f", c""), ERANGE);
        check_err!(set(by, c"f", &with_length(256), b"x", 0), ERANGE);
        check_err!(get(by, c"f", &with_length(256), 8), ERANGE);
        check_err!(remove(by, c"f", &with_length(256)), ERANGE);
        set(by, c"f", &with_length(255), b"x", 0)?;
        check_eq!(get(by, c"f", &with_length(255), 8)?, b"x");
        remove(by, c"f", &with_length(255))?;
        // No handler has such a prefix.
        check_err!(set(by, c"f", c"nothing.a", b"x", 0), EOPNOTSUPP);
        check_err!(get(by, c"f", c"nothing.a", 8), EOPNOTSUPP);
        check_err!(remove(by, c"f", c"nothing.a"), EOPNOTSUPP);
        check_err!(set(by, c"f", c"plain", b"x", 0), EOPNOTSUPP);
        // A prefix alone names nothing.
        check_err!(set(by, c"f", c"user.", b"x", 0), EINVAL);
        check_err!(get(by, c"f", c"user.", 8), EINVAL);
        check_err!(set(by, c"f", c"trusted.", b"x", 0), EINVAL);
    }
    Ok(())
}

fn namespaces_and_privilege() -> Outcome {
    create(c"f", b"")?;
    sys!(SYS_fchmodat, CWD, c"f".as_ptr(), 0o666)?;
    set(By::Path, c"f", c"trusted.a", b"secret", 0)?;
    set(By::Path, c"f", c"user.a", b"open", 0)?;
    let status = crate::sysv::as_user(1000, || {
        // xattr(7): trusted attributes are not there for the unprivileged.
        let cases = [
            matches!(set(By::Path, c"f", c"trusted.b", b"x", 0), Err(Errno(EPERM))),
            matches!(get(By::Path, c"f", c"trusted.a", 16), Err(Errno(ENODATA))),
            matches!(remove(By::Path, c"f", c"trusted.a"), Err(Errno(EPERM))),
            matches!(list(By::Path, c"f", 64), Ok(names) if names == ["user.a"]),
            matches!(set(By::Path, c"f", c"security.x", b"x", 0), Err(Errno(EPERM))),
            matches!(set(By::Path, c"f", c"user.b", b"x", 0), Ok(0)),
        ];
        cases.iter().position(|good| !good).map_or(0, |index| index as i32 + 1)
    })?;
    check_eq!(status, 0);
    set(By::Path, c"f", c"security.test", b"x", 0)?;
    check_eq!(get(By::Path, c"f", c"security.test", 8)?, b"x");
    remove(By::Path, c"f", c"security.test")?;
    Ok(())
}

fn user_attributes_need_permission() -> Outcome {
    create(c"f", b"")?;
    set(By::Path, c"f", c"user.a", b"x", 0)?;
    mkdir(c"sticky", 0o1777)?;
    sys!(SYS_fchmodat, CWD, c"sticky".as_ptr(), 0o1777)?;
    for (mode, reads, writes) in [(0o600, false, false), (0o604, true, false), (0o606, true, true)] {
        sys!(SYS_fchmodat, CWD, c"f".as_ptr(), mode)?;
        let status = crate::sysv::as_user(1000, || {
            let got = get(By::Path, c"f", c"user.a", 8);
            let put = set(By::Path, c"f", c"user.a", b"x", 0);
            let removed = remove(By::Path, c"f", c"user.none");
            // Names are no secret.
            let listed = list(By::Path, c"f", 64).is_ok();
            let read_right = if reads { got.is_ok() } else { got == Err(Errno(EACCES)) };
            let write_right = if writes { put.is_ok() } else { put == Err(Errno(EACCES)) };
            let remove_right = removed == Err(Errno(if writes { ENODATA } else { EACCES }));
            // Only the owner of a sticky directory may.
            let sticky = set(By::Path, c"sticky", c"user.a", b"x", 0) == Err(Errno(EPERM));
            [listed, read_right, write_right, remove_right, sticky]
                .iter()
                .position(|good| !good)
                .map_or(0, |index| index as i32 + 1)
        })?;
        check_eq!(status, 0);
    }
    Ok(())
}

fn descriptors_are_checked() -> Outcome {
    create(c"f", b"")?;
    let mut buffer = [0_u8; 64];
    check_err!(sys!(SYS_fsetxattr, 9999, c"user.a".as_ptr(), c"x".as_ptr(), 1, 0), EBADF);
    check_err!(sys!(SYS_fgetxattr, 9999, c"user.a".as_ptr(), buffer.as_mut_ptr(), 64), EBADF);
    check_err!(sys!(SYS_flistxattr, 9999, buffer.as_mut_ptr(), 64), EBADF);
    check_err!(sys!(SYS_fremovexattr, 9999, c"user.a".as_ptr()), EBADF);
    let opath = open(c"f", O_PATH, 0)?;
    check_err!(sys!(SYS_fsetxattr, opath, c"user.a".as_ptr(), c"x".as_ptr(), 1, 0), EBADF);
    check_err!(sys!(SYS_fgetxattr, opath, c"user.a".as_ptr(), buffer.as_mut_ptr(), 64), EBADF);
    check_err!(sys!(SYS_flistxattr, opath, buffer.as_mut_ptr(), 64), EBADF);
    check_err!(sys!(SYS_fremovexattr, opath, c"user.a".as_ptr()), EBADF);
    // The attributes outlive the name.
    let fd = open(c"f", O_RDWR, 0)?;
    unlink(c"f")?;
    sys!(SYS_fsetxattr, fd, c"user.a".as_ptr(), c"xyz".as_ptr(), 3, 0)?;
    check_eq!(sys!(SYS_fgetxattr, fd, c"user.a".as_ptr(), buffer.as_mut_ptr(), 64)?, 3);
    for by in [By::Path, By::Link] {
        check_err!(set(by, c"f", c"user.a", b"x", 0), ENOENT);
        check_err!(get(by, c"f", c"user.a", 8), ENOENT);
        check_err!(list(by, c"f", 8), ENOENT);
        check_err!(remove(by, c"f", c"user.a"), ENOENT);
        check_err!(list(by, c"", 8), ENOENT);
    }
    Ok(())
}

fn addresses_are_checked() -> Outcome {
    create(c"f", b"")?;
    set(By::Path, c"f", c"user.a", b"value", 0)?;
    let (f, name) = (c"f".as_ptr(), c"user.a".as_ptr());
    check_err!(sys!(SYS_setxattr, 1, name, c"x".as_ptr(), 1, 0), EFAULT);
    check_err!(sys!(SYS_setxattr, f, 1, c"x".as_ptr(), 1, 0), EFAULT);
    check_err!(sys!(SYS_setxattr, f, name, 1, 1, 0), EFAULT);
    check_err!(sys!(SYS_lsetxattr, f, name, 1, 1, 0), EFAULT);
    check_err!(sys!(SYS_getxattr, f, 1, 0, 0), EFAULT);
    check_err!(sys!(SYS_getxattr, f, name, 1, 64), EFAULT);
    check_err!(sys!(SYS_lgetxattr, 1, name, 1, 64), EFAULT);
    check_err!(sys!(SYS_listxattr, f, 1, 64), EFAULT);
    check_err!(sys!(SYS_llistxattr, 1, 0, 0), EFAULT);
    check_err!(sys!(SYS_removexattr, f, 1), EFAULT);
    check_err!(sys!(SYS_lremovexattr, 1, name), EFAULT);
    // No value: what the address is does not matter.
    sys!(SYS_setxattr, f, name, 1, 0, 0)?;
    check_eq!(get(By::Path, c"f", c"user.a", 8)?, b"");
    Ok(())
}

fn only_regular_files_have_user_attributes() -> Outcome {
    sys!(SYS_mknodat, CWD, c"fifo".as_ptr(), S_IFIFO | 0o644, 0)?;
    sys!(SYS_mknodat, CWD, c"chr".as_ptr(), S_IFCHR | 0o644, 0x103)?;
    mkdir(c"d", 0o755)?;
    for special in [c"fifo", c"chr"] {
        check_err!(set(By::Path, special, c"user.a", b"x", 0), EPERM);
        check_err!(get(By::Path, special, c"user.a", 8), ENODATA);
        check_err!(remove(By::Link, special, c"user.a"), EPERM);
        set(By::Path, special, c"trusted.a", b"x", 0)?;
        check_eq!(list(By::Path, special, 64)?, ["trusted.a"]);
    }
    set(By::Fd, c"d", c"user.a", b"x", 0)?;
    check_eq!(get(By::Path, c"d", c"user.a", 8)?, b"x");
    Ok(())
}

fn change_of_attributes_sets_ctime() -> Outcome {
    create(c"f", b"")?;
    let ctime = || -> SysResult<(i64, i64)> { stat(c"f").map(|s| (s.st_ctime, s.st_ctime_nsec)) };
    let mtime = stat(c"f")?.st_mtime_nsec;
    let before = ctime()?;
    sleep_ms(30);
    set(By::Path, c"f", c"user.a", b"x", 0)?;
    let after = ctime()?;
    check!(after > before);
    sleep_ms(30);
    remove(By::Fd, c"f", c"user.a")?;
    check!(ctime()? > after);
    check_eq!(stat(c"f")?.st_mtime_nsec, mtime);
    Ok(())
}
