//! File handles: name_to_handle_at(2), open_by_handle_at(2).

use crate::prelude::*;
use std::ffi::CStr;

const AT_HANDLE_FID: i32 = 0x200;
const AT_HANDLE_MNT_ID_UNIQUE: i32 = 1;

tests![
    handle_size_protocol,
    handle_flags,
    handle_errors,
    handle_of_each_kind,
    handle_survives_rename_and_unlink,
    handle_open_flags,
    handle_capability,
    handle_unsupported,
    handle_mount_ids,
];

/// `struct file_handle` with room for 128 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Handle {
    pub bytes: u32,
    pub kind: i32,
    pub data: [u32; 32],
}

impl Handle {
    pub fn new(bytes: u32) -> Self {
        Self { bytes, kind: 0, data: [0; 32] }
    }
}

fn encode(dir: i32, path: &CStr, handle: &mut Handle, flags: i32) -> Result<u64, Errno> {
    let mut mount = 0_u64;
    sys!(SYS_name_to_handle_at, dir, path.as_ptr(), addr_mut(handle), addr_mut(&mut mount), flags)?;
    Ok(mount)
}

/// The handle of `path`.
pub fn handle_of(path: &CStr) -> Result<Handle, Errno> {
    let mut handle = Handle::new(128);
    encode(CWD, path, &mut handle, 0)?;
    Ok(handle)
}

/// Opens what a handle means.
pub fn open_handle(mount: i32, handle: &Handle, flags: i32) -> Result<i32, Errno> {
    sys!(SYS_open_by_handle_at, mount, addr(handle), flags).map(|fd| fd as i32)
}

fn handle_size_protocol() -> Outcome {
    create(c"f", b"x")?;
    let mut probe = Handle::new(0);
    check_err!(encode(CWD, c"f", &mut probe, 0), EOVERFLOW);
    let size = probe.bytes;
    check!(size > 0 && size <= 128 && size.is_multiple_of(4), "{size}");
    // Too small by a byte: the last word does not count.
    let mut small = Handle::new(size - 1);
    check_err!(encode(CWD, c"f", &mut small, 0), EOVERFLOW);
    check_eq!(small.bytes, size);
    let mut exact = Handle::new(size);
    encode(CWD, c"f", &mut exact, 0)?;
    let roomy = handle_of(c"f")?;
    check_eq!(roomy, exact);
    check_eq!(roomy.bytes, size);
    check_eq!(&roomy.data[size as usize / 4..], &[0; 32][size as usize / 4..]);
    let mut big = Handle::new(129);
    check_err!(encode(CWD, c"f", &mut big, 0), EINVAL);
    Ok(())
}

fn handle_flags() -> Outcome {
    create(c"f", b"x")?;
    symlink(c"f", c"l")?;
    let file = handle_of(c"f")?;
    let link = handle_of(c"l")?;
    check!(file != link);
    let mut followed = Handle::new(128);
    encode(CWD, c"l", &mut followed, AT_SYMLINK_FOLLOW)?;
    check_eq!(followed, file);
    let fd = open(c"f", O_RDONLY, 0)?;
    let mut empty = Handle::new(128);
    check_err!(encode(fd, c"", &mut empty, 0), ENOENT);
    encode(fd, c"", &mut empty, AT_EMPTY_PATH)?;
    check_eq!(empty, file);
    let path = open(c"f", O_PATH, 0)?;
    let mut by_path = Handle::new(128);
    encode(path, c"", &mut by_path, AT_EMPTY_PATH)?;
    check_eq!(by_path, file);
    let mut fid = Handle::new(128);
    encode(CWD, c"f", &mut fid, AT_HANDLE_FID)?;
    check_eq!(fid, file);
    let mut bad = Handle::new(128);
    check_err!(encode(CWD, c"f", &mut bad, AT_SYMLINK_NOFOLLOW), EINVAL);
    check_err!(encode(CWD, c"f", &mut bad, 0x8000), EINVAL);
    Ok(())
}

fn handle_errors() -> Outcome {
    create(c"f", b"x")?;
    let dir = open(c".", O_RDONLY, 0)?;
    let mut handle = Handle::new(128);
    check_err!(encode(CWD, c"missing", &mut handle, 0), ENOENT);
    check_err!(encode(999, c"f", &mut handle, 0), EBADF);
    let mut mount = 0_u64;
    let name = c"f".as_ptr();
    check_err!(sys!(SYS_name_to_handle_at, CWD, name, 8, addr_mut(&mut mount), 0), EFAULT);
    check_err!(sys!(SYS_name_to_handle_at, CWD, name, addr_mut(&mut handle), 8, 0), EFAULT);
    check_err!(sys!(SYS_name_to_handle_at, CWD, 8, addr_mut(&mut handle), addr_mut(&mut mount), 0), EFAULT);
    let good = handle_of(c"f")?;
    check_err!(open_handle(999, &good, O_RDONLY), EBADF);
    check_err!(sys!(SYS_open_by_handle_at, dir, 8, O_RDONLY), EFAULT);
    check_err!(open_handle(dir, &Handle { bytes: 0, ..good }, O_RDONLY), EINVAL);
    check_err!(open_handle(dir, &Handle { bytes: 129, ..good }, O_RDONLY), EINVAL);
    // Too short to mean anything, and one that means nothing.
    check_err!(open_handle(dir, &Handle { bytes: 4, ..good }, O_RDONLY), ESTALE);
    let mut other = good;
    other.data[1] ^= 0x5a5a_5a5a;
    check_err!(open_handle(dir, &other, O_RDONLY), ESTALE);
    let mut other = good;
    other.data[0] ^= 1;
    check_err!(open_handle(dir, &other, O_RDONLY), ESTALE);
    // The working directory names a file system as well; an O_PATH descriptor does not.
    close(open_handle(CWD, &good, O_RDONLY)?)?;
    let path = open(c".", O_PATH, 0)?;
    check_err!(open_handle(path, &good, O_RDONLY), EBADF);
    // Any file of the file system will do.
    let file = open(c"f", O_RDONLY, 0)?;
    close(open_handle(file, &good, O_RDONLY)?)?;
    Ok(())
}

fn handle_of_each_kind() -> Outcome {
    create(c"f", b"content")?;
    mkdir(c"d", 0o755)?;
    create(c"d/inner", b"inner")?;
    symlink(c"f", c"l")?;
    sys!(SYS_mknodat, CWD, c"fifo".as_ptr(), S_IFIFO | 0o600, 0)?;
    let here = open(c".", O_RDONLY, 0)?;
    let file = open_handle(here, &handle_of(c"f")?, O_RDWR)?;
    check_eq!(read_vec(file, 20)?, b"content");
    check_eq!(write(file, b"!")?, 1);
    check_eq!(slurp(c"f")?, "content!");
    let dir = open_handle(here, &handle_of(c"d")?, O_RDONLY | O_DIRECTORY)?;
    let inner = sys!(SYS_openat, dir, c"inner".as_ptr(), O_RDONLY, 0)? as i32;
    check_eq!(read_vec(inner, 20)?, b"inner");
    check_err!(open_handle(here, &handle_of(c"d")?, O_RDWR), EISDIR);
    check_err!(open_handle(here, &handle_of(c"l")?, O_RDONLY), ELOOP);
    let link = open_handle(here, &handle_of(c"l")?, O_PATH)?;
    check_eq!(fstat(link)?.st_mode & S_IFMT, S_IFLNK);
    let fifo = open_handle(here, &handle_of(c"fifo")?, O_RDONLY | O_NONBLOCK)?;
    check_eq!(fstat(fifo)?.st_mode & S_IFMT, S_IFIFO);
    // What was opened has its name.
    let shown = std::fs::read_link(format!("/proc/self/fd/{dir}"))?;
    check!(shown.ends_with("d"), "{shown:?}");
    Ok(())
}

fn handle_survives_rename_and_unlink() -> Outcome {
    create(c"f", b"same").and_then(close)?;
    let here = open(c".", O_RDONLY, 0)?;
    let handle = handle_of(c"f")?;
    sys!(SYS_renameat, CWD, c"f".as_ptr(), CWD, c"g".as_ptr())?;
    check_eq!(handle_of(c"g")?, handle);
    let fd = open_handle(here, &handle, O_RDONLY)?;
    check_eq!(read_vec(fd, 10)?, b"same");
    // A new file of the old name is another one.
    create(c"f", b"new").and_then(close)?;
    check!(handle_of(c"f")? != handle);
    // Another name keeps it.
    sys!(SYS_linkat, CWD, c"g".as_ptr(), CWD, c"h".as_ptr(), 0)?;
    check_eq!(handle_of(c"h")?, handle);
    close(fd)?;
    unlink(c"g")?;
    let fd = open_handle(here, &handle, O_RDONLY)?;
    check_eq!(read_vec(fd, 10)?, b"same");
    // Without a name it is there as long as somebody has it open.
    unlink(c"h")?;
    let again = open_handle(here, &handle, O_RDONLY)?;
    check_eq!(read_vec(again, 10)?, b"same");
    close(again)?;
    close(fd)?;
    check_err!(open_handle(here, &handle, O_RDONLY), ESTALE);
    mkdir(c"d", 0o755)?;
    let handle = handle_of(c"d")?;
    rmdir(c"d")?;
    check_err!(open_handle(here, &handle, O_RDONLY), ESTALE);
    Ok(())
}

fn handle_open_flags() -> Outcome {
    create(c"f", b"0123456789")?;
    let here = open(c".", O_RDONLY, 0)?;
    let handle = handle_of(c"f")?;
    let fd = open_handle(here, &handle, O_RDONLY | O_CLOEXEC)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    let fd = open_handle(here, &handle, O_WRONLY | O_APPEND)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, 0);
    write(fd, b"x")?;
    check_eq!(slurp(c"f")?, "0123456789x");
    check_err!(read_vec(fd, 1), EBADF);
    let fd = open_handle(here, &handle, O_RDWR | O_TRUNC)?;
    check_eq!(fstat(fd)?.st_size, 0);
    check_err!(open_handle(here, &handle, O_RDONLY | O_DIRECTORY), ENOTDIR);
    close(open_handle(here, &handle, O_RDWR | O_CREAT)?)?;
    check_err!(open_handle(here, &handle, O_RDWR | O_CREAT | O_EXCL), EEXIST);
    check_err!(open_handle(here, &handle_of(c".")?, O_RDONLY | O_CREAT), EISDIR);
    // Permissions of the file do not matter to root, but they are looked at.
    sys!(SYS_fchmod, fd, 0o000)?;
    close(open_handle(here, &handle, O_RDWR)?)?;
    let status = in_child(|| {
        // Keep CAP_DAC_READ_SEARCH only: reading works, writing does not.
        let header = [0x2008_0522_u32, 0];
        let caps = [1_u32 << 2, 1 << 2, 0, 0, 0, 0];
        let set = sys!(SYS_capset, addr(&header), addr(&caps));
        let read = open_handle(here, &handle, O_RDONLY);
        let write = open_handle(here, &handle, O_RDWR);
        i32::from(set.is_err()) | i32::from(read.is_err()) << 1 | i32::from(write != Err(Errno(EACCES))) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn handle_capability() -> Outcome {
    create(c"f", b"x")?;
    mkdir(c"d", 0o755)?;
    let here = open(c".", O_RDONLY, 0)?;
    let (file, dir) = (handle_of(c"f")?, handle_of(c"d")?);
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        // Making a handle needs no right but search.
        let made = handle_of(c"f") == Ok(file);
        let file = open_handle(here, &file, O_RDONLY);
        let dir = open_handle(here, &dir, O_RDONLY | O_DIRECTORY);
        let bad = sys!(SYS_open_by_handle_at, here, 8, O_RDONLY);
        let eperm = Err(Errno(EPERM));
        i32::from(!made)
            | i32::from(file != eperm) << 1
            | i32::from(dir != eperm) << 2
            | i32::from(bad != Err(Errno(EPERM))) << 3
    })?;
    check_eq!(status, 0);
    // In a user namespace of its own nobody may, unless the mount is theirs.
    let status = in_child(|| {
        let made = sys!(SYS_unshare, CLONE_NEWUSER);
        let file = open_handle(here, &file, O_RDONLY);
        let dir = open_handle(here, &dir, O_RDONLY | O_DIRECTORY);
        let eperm = Err(Errno(EPERM));
        i32::from(made.is_err()) | i32::from(file != eperm) << 1 | i32::from(dir != eperm) << 2
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn handle_unsupported() -> Outcome {
    // procfs, sysfs, pipes and anonymous inodes cannot find their inodes again, but can say who they are.
    for path in [c"/proc/self/status", c"/sys", c"/dev/pts"] {
        let mut handle = Handle::new(128);
        check_err!(encode(CWD, path, &mut handle, 0), EOPNOTSUPP);
        encode(CWD, path, &mut handle, AT_HANDLE_FID)?;
        check_eq!(handle.kind, 0x81);
        check_eq!(handle.bytes, 12);
        let ino = stat(path)?.st_ino;
        check_eq!(u64::from(handle.data[1]) << 32 | u64::from(handle.data[0]), ino);
        let dir = open(path, O_RDONLY, 0)?;
        check_err!(open_handle(dir, &handle, O_RDONLY), ESTALE);
    }
    let ends = crate::sys::pipe(0)?;
    let mut handle = Handle::new(128);
    check_err!(encode(ends[0], c"", &mut handle, AT_EMPTY_PATH), EOPNOTSUPP);
    encode(ends[0], c"", &mut handle, AT_EMPTY_PATH | AT_HANDLE_FID)?;
    let mut tiny = Handle::new(8);
    check_err!(encode(ends[0], c"", &mut tiny, AT_EMPTY_PATH | AT_HANDLE_FID), EOVERFLOW);
    // The lack of support is noticed before the handle is looked at.
    let mut mount = 0_u64;
    let proc = c"/proc".as_ptr();
    check_err!(sys!(SYS_name_to_handle_at, CWD, proc, 8, addr_mut(&mut mount), 0), EOPNOTSUPP);
    mkdir(c"r", 0o755)?;
    sys!(SYS_mount, c"x".as_ptr(), c"r".as_ptr(), c"ramfs".as_ptr(), 0, 0)?;
    let made = encode(CWD, c"r", &mut handle, 0);
    sys!(SYS_umount2, c"r".as_ptr(), 0)?;
    check_err!(made, EOPNOTSUPP);
    Ok(())
}

fn handle_mount_ids() -> Outcome {
    create(c"f", b"x")?;
    let mut handle = Handle::new(128);
    let old = encode(CWD, c"f", &mut handle, 0)?;
    let unique = encode(CWD, c"f", &mut handle, AT_HANDLE_MNT_ID_UNIQUE)?;
    let info = std::fs::read_to_string("/proc/self/mountinfo")?;
    check!(info.lines().any(|line| line.starts_with(&format!("{old} "))));
    check!(unique > u64::from(u32::MAX >> 1), "{unique}");
    let mut statx: libc::statx = zeroed();
    let mask = 0x4000; // STATX_MNT_ID_UNIQUE
    sys!(SYS_statx, CWD, c"f".as_ptr(), 0, mask, addr_mut(&mut statx))?;
    check_eq!(statx.stx_mnt_id, unique);
    // Through a bind mount: the same handle, another mount.
    mkdir(c"a", 0o755)?;
    mkdir(c"b", 0o755)?;
    create(c"a/g", b"bound")?;
    sys!(SYS_mount, c"a".as_ptr(), c"b".as_ptr(), 0, MS_BIND, 0)?;
    let mut bound = Handle::new(128);
    let other = encode(CWD, c"b/g", &mut bound, AT_HANDLE_MNT_ID_UNIQUE)?;
    let via = open(c"b", O_RDONLY, 0)?;
    let fd = open_handle(via, &bound, O_RDONLY);
    let shown = fd.map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default());
    let _ = fd.map(close);
    close(via)?;
    sys!(SYS_umount2, c"b".as_ptr(), 0)?;
    check!(other != unique);
    check_eq!(bound, handle_of(c"a/g")?);
    check!(shown?.ends_with("b/g"));
    Ok(())
}
