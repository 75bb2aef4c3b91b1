//! fanotify(7): classes, marks, ignore masks, permission events, reports with file handles.

use crate::handles::Handle;
use crate::prelude::*;
use std::ffi::CStr;

tests![
    fan_init_errors,
    fan_mark_errors,
    fan_file_events,
    fan_children_and_directories,
    fan_mount_and_filesystem_marks,
    fan_mark_remove_and_flush,
    fan_ignored_mask,
    fan_ignore_flags,
    fan_evictable,
    fan_merge_and_overflow,
    fan_read_sizes,
    fan_event_descriptors,
    fan_unsupported_filesystems,
    fan_unprivileged,
    fan_limits,
    fan_fdinfo,
    fan_poll_and_sysctls,
];

pub(crate) const FAN_RENAME: u64 = 0x1000_0000;

const FAN_FS_ERROR: u64 = 0x8000;

pub(crate) const FAN_REPORT_TARGET_FID: u32 = 0x1000;

pub(crate) const FAN_REPORT_PIDFD: u32 = 0x80;

const FAN_MARK_EVICTABLE: u32 = 0x200;

const FAN_MARK_IGNORE: u32 = 0x400;

pub(crate) const DIRS: u64 = FAN_ONDIR;

pub(crate) const CHILDREN: u64 = FAN_EVENT_ON_CHILD;

pub(crate) fn init(flags: u32) -> Result<i32, Errno> {
    let event_flags = O_RDONLY | O_LARGEFILE;
    sys!(SYS_fanotify_init, flags | FAN_NONBLOCK | FAN_CLOEXEC, event_flags).map(|fd| fd as i32)
}

pub(crate) fn mark(fd: i32, flags: u32, mask: u64, path: &CStr) -> Result<(), Errno> {
    sys!(SYS_fanotify_mark, fd, flags, mask, CWD, path.as_ptr()).map(drop)
}

pub(crate) fn add(fd: i32, mask: u64, path: &CStr) -> Result<(), Errno> {
    mark(fd, FAN_MARK_ADD, mask, path)
}

/// A record behind the metadata: type, handle, name; for a pidfd: type and descriptor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Info {
    pub(crate) kind: u8,
    pub(crate) handle: Option<Handle>,
    pub(crate) name: String,
    pub(crate) pidfd: i32,
}

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) mask: u64,
    pub(crate) fd: i32,
    pub(crate) pid: i32,
    pub(crate) infos: Vec<Info>,
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn parse_info(bytes: &[u8]) -> Info {
    let mut info = Info { kind: bytes[0], handle: None, name: String::new(), pidfd: 0 };
    if info.kind == 4 {
        info.pidfd = word(bytes, 4) as i32;
        return info;
    }
    // Header, fsid, handle.
    let mut handle = Handle::new(word(bytes, 12));
    handle.kind = word(bytes, 16) as i32;
    let end = 20 + handle.bytes as usize;
    for (slot, chunk) in handle.data.iter_mut().zip(bytes[20..end].chunks(4)) {
        *slot = word(chunk, 0);
    }
    info.handle = Some(handle);
    let name = &bytes[end..];
    let len = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    info.name = String::from_utf8_lossy(&name[..len]).into_owned();
    info
}

pub(crate) fn parse(bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = 0;
    while at + 24 <= bytes.len() {
        let len = word(bytes, at) as usize;
        let mask = u64::from(word(bytes, at + 8)) | u64::from(word(bytes, at + 12)) << 32;
        let (fd, pid) = (word(bytes, at + 16) as i32, word(bytes, at + 20) as i32);
        let mut infos = Vec::new();
        let mut info = at + 24;
        while info < at + len {
            let size = usize::from(u16::from_ne_bytes([bytes[info + 2], bytes[info + 3]]));
            infos.push(parse_info(&bytes[info..info + size]));
            info += size;
        }
        events.push(Event { mask, fd, pid, infos });
        at += len;
    }
    events
}

/// All events that are queued; their descriptors are closed.
pub(crate) fn drain(fd: i32) -> Result<Vec<Event>, Errno> {
    let mut all = Vec::new();
    loop {
        match read_vec(fd, 65536) {
            Ok(bytes) => all.extend(parse(&bytes)),
            Err(Errno(EAGAIN)) => break,
            Err(error) => return Err(error),
        }
    }
    for event in &all {
        if event.fd >= 0 {
            close(event.fd)?;
        }
    }
    Ok(all)
}

pub(crate) fn masks(fd: i32) -> Result<Vec<u64>, Errno> {
    Ok(drain(fd)?.into_iter().map(|event| event.mask).collect())
}

/// The last part of the name of an event's file, and its mask.
fn named(fd: i32) -> Result<Vec<(u64, String)>, Errno> {
    let mut all = Vec::new();
    loop {
        match read_vec(fd, 4096) {
            Ok(bytes) => {
                for event in parse(&bytes) {
                    let link = std::fs::read_link(format!("/proc/self/fd/{}", event.fd)).unwrap_or_default();
                    let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    all.push((event.mask, name));
                    close(event.fd)?;
                }
            }
            Err(Errno(EAGAIN)) => return Ok(all),
            Err(error) => return Err(error),
        }
    }
}

/// An event by handle: its mask, and kind and name of each record.
type Named = (u64, Vec<(u8, String)>);

/// Records of events by handle.
pub(crate) fn records(fd: i32) -> Result<Vec<Named>, Errno> {
    let events = drain(fd)?.into_iter();
    Ok(events.map(|e| (e.mask, e.infos.into_iter().map(|i| (i.kind, i.name)).collect())).collect())
}

pub(crate) fn touch(path: &CStr) -> Result<(), Errno> {
    close(open(path, O_RDONLY, 0)?)
}

fn fan_init_errors() -> Outcome {
    let call = |flags: u32, file: i32| sys!(SYS_fanotify_init, flags, file).map(|fd| fd as i32);
    check_err!(call(0x8000_0000, O_RDONLY), EINVAL);
    check_err!(call(0x4000, O_RDONLY), EINVAL);
    check_err!(call(FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT, O_RDONLY), EINVAL);
    check_err!(call(0, O_ACCMODE), EINVAL);
    check_err!(call(0, O_RDONLY | O_TRUNC), EINVAL);
    check_err!(call(0, O_RDONLY | O_DIRECTORY), EINVAL);
    check_err!(call(FAN_CLASS_CONTENT | FAN_REPORT_FID, O_RDONLY), EINVAL);
    check_err!(call(FAN_REPORT_NAME, O_RDONLY), EINVAL);
    check_err!(call(FAN_REPORT_FID | FAN_REPORT_NAME, O_RDONLY), EINVAL);
    check_err!(call(FAN_REPORT_TARGET_FID, O_RDONLY), EINVAL);
    check_err!(call(FAN_REPORT_TARGET_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME, O_RDONLY), EINVAL);
    check_err!(call(FAN_REPORT_PIDFD | FAN_REPORT_TID, O_RDONLY), EINVAL);
    let all_files = O_RDWR | O_APPEND | O_NONBLOCK | O_SYNC | O_CLOEXEC | O_LARGEFILE | O_NOATIME;
    for (flags, file) in [
        (0, O_RDONLY),
        (FAN_CLASS_CONTENT, O_WRONLY),
        (FAN_CLASS_PRE_CONTENT, all_files),
        (FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS, O_RDONLY),
        (FAN_REPORT_FID, O_RDONLY),
        (FAN_REPORT_DIR_FID, O_RDONLY),
        (FAN_REPORT_DIR_FID | FAN_REPORT_NAME, O_RDONLY),
        (FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_FID | FAN_REPORT_TARGET_FID, O_RDONLY),
        (FAN_REPORT_PIDFD, O_RDONLY),
        (FAN_REPORT_TID, O_RDONLY),
    ] {
        close(call(flags, file)?)?;
    }
    let fd = call(FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"))?;
    check_eq!(link.to_string_lossy(), "anon_inode:[fanotify]");
    let fd = call(0, O_RDONLY)?;
    check_eq!(fcntl(fd, F_GETFD, 0)?, 0);
    Ok(())
}

fn fan_mark_errors() -> Outcome {
    create(c"f", b"").and_then(close)?;
    mkdir(c"d", 0o755)?;
    let fd = init(0)?;
    let add_flag = FAN_MARK_ADD;
    check_err!(mark(fd, add_flag, 0, c"f"), EINVAL);
    check_err!(mark(fd, add_flag, 1 << 40, c"f"), EINVAL);
    check_err!(mark(fd, add_flag, 0x2000, c"f"), EINVAL);
    check_err!(mark(fd, 0, FAN_OPEN, c"f"), EINVAL);
    check_err!(mark(fd, FAN_MARK_ADD | FAN_MARK_REMOVE, FAN_OPEN, c"f"), EINVAL);
    check_err!(mark(fd, FAN_MARK_ADD | 0x8000, FAN_OPEN, c"f"), EINVAL);
    check_err!(mark(fd, add_flag | FAN_MARK_MOUNT | FAN_MARK_FILESYSTEM, FAN_OPEN, c"f"), EINVAL);
    check_err!(mark(fd, FAN_MARK_FLUSH | FAN_MARK_ONLYDIR, 0, c"f"), EINVAL);
    check_err!(mark(fd, add_flag | FAN_MARK_IGNORE | FAN_MARK_IGNORED_MASK, FAN_OPEN, c"f"), EINVAL);
    check_err!(mark(999, add_flag, FAN_OPEN, c"f"), EBADF);
    let file = open(c"f", O_RDONLY, 0)?;
    check_err!(mark(file, add_flag, FAN_OPEN, c"f"), EINVAL);
    check_err!(mark(fd, add_flag, FAN_OPEN, c"missing"), ENOENT);
    check_err!(mark(fd, add_flag | FAN_MARK_ONLYDIR, FAN_OPEN, c"f"), ENOTDIR);
    check_err!(mark(fd, FAN_MARK_REMOVE, FAN_OPEN, c"f"), ENOENT);
    // Events without a descriptor need handles; permission needs a class.
    for mask in [FAN_CREATE, FAN_DELETE, FAN_MOVED_FROM, FAN_ATTRIB, FAN_DELETE_SELF, FAN_RENAME] {
        check_err!(mark(fd, add_flag, mask, c"d"), EINVAL);
    }
    check_err!(mark(fd, add_flag, FAN_OPEN_PERM, c"f"), EINVAL);
    check_err!(mark(fd, add_flag, FAN_FS_ERROR, c"f"), EINVAL);
    check_err!(mark(fd, add_flag | FAN_MARK_EVICTABLE | FAN_MARK_MOUNT, FAN_OPEN, c"f"), EINVAL);
    let fid = init(FAN_REPORT_FID)?;
    check_err!(mark(fid, add_flag | FAN_MARK_MOUNT, FAN_CREATE, c"d"), EINVAL);
    check_err!(mark(fid, add_flag, FAN_RENAME, c"d"), EINVAL);
    mark(fid, add_flag | FAN_MARK_FILESYSTEM, FAN_FS_ERROR, c"d")?;
    // By descriptor.
    check_err!(sys!(SYS_fanotify_mark, fd, add_flag, FAN_OPEN, CWD, 0), EBADF);
    check_err!(sys!(SYS_fanotify_mark, fd, add_flag | FAN_MARK_ONLYDIR, FAN_OPEN, file, 0), ENOTDIR);
    sys!(SYS_fanotify_mark, fd, add_flag, FAN_OPEN, file, 0)?;
    let dir = open(c"d", O_RDONLY, 0)?;
    create(c"d/g", b"").and_then(close)?;
    sys!(SYS_fanotify_mark, fd, add_flag, FAN_OPEN, dir, c"g".as_ptr())?;
    check_err!(sys!(SYS_fanotify_mark, fd, add_flag, FAN_OPEN, CWD, 8), EFAULT);
    symlink(c"f", c"l")?;
    symlink(c"nowhere", c"dangling")?;
    mark(fd, add_flag | FAN_MARK_DONT_FOLLOW, FAN_OPEN, c"dangling")?;
    check_err!(mark(fd, add_flag, FAN_OPEN, c"dangling"), ENOENT);
    mark(fd, FAN_MARK_REMOVE, FAN_OPEN, c"l")?;
    // Strict rules with the newer interfaces.
    let name = init(FAN_REPORT_DIR_FID | FAN_REPORT_NAME)?;
    check_err!(mark(name, add_flag, FAN_RENAME, c"f"), ENOTDIR);
    mark(name, add_flag, FAN_CREATE, c"f")?;
    let all = FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_FID | FAN_REPORT_TARGET_FID;
    let target = init(all)?;
    check_err!(mark(target, add_flag, FAN_CREATE, c"f"), ENOTDIR);
    check_err!(mark(target, add_flag, FAN_OPEN | DIRS, c"f"), ENOTDIR);
    let ignore = add_flag | FAN_MARK_IGNORE;
    check_err!(mark(fd, ignore | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN | DIRS, c"f"), ENOTDIR);
    check_err!(mark(fd, ignore, FAN_OPEN, c"d"), EISDIR);
    check_err!(mark(fd, ignore | FAN_MARK_MOUNT, FAN_OPEN, c"d"), EINVAL);
    Ok(())
}

fn fan_file_events() -> Outcome {
    create(c"f", b"0123456789").and_then(close)?;
    let fd = init(0)?;
    add(fd, FAN_OPEN | FAN_ACCESS | FAN_MODIFY | FAN_CLOSE, c"f")?;
    let child = fork(|| {
        let Ok(file) = open(c"f", O_RDWR, 0) else { return 1 };
        let _ = (read_vec(file, 4), write(file, b"xx"), close(file));
        0
    })?;
    check_eq!(wait_exit(child)?, 0);
    // Events of one process and file that differ in their masks only are joined.
    let bytes = read_vec(fd, 4096)?;
    let events = parse(&bytes);
    check_eq!(events.len(), 1);
    let event = &events[0];
    check_eq!(event.mask, FAN_OPEN | FAN_ACCESS | FAN_MODIFY | FAN_CLOSE_WRITE);
    check_eq!(event.pid, child);
    check_eq!((bytes[4], word(&bytes, 0), bytes[6]), (3, 24, 24));
    check_eq!(fstat(event.fd)?.st_ino, stat(c"f")?.st_ino);
    check_eq!(fcntl(event.fd, F_GETFL, 0)? as i32 & O_ACCMODE, O_RDONLY);
    check_eq!(read_vec(event.fd, 3)?, b"012");
    // What the listener does with its own descriptor is no event.
    close(event.fd)?;
    check_eq!(masks(fd)?, []);
    let file = open(c"f", O_RDONLY, 0)?;
    check_eq!(masks(fd)?, [FAN_OPEN]);
    close(file)?;
    check_eq!(masks(fd)?, [FAN_CLOSE_NOWRITE]);
    add(fd, FAN_OPEN_EXEC, c"f")?;
    std::fs::copy("/proc/self/exe", "prog")?;
    add(fd, FAN_OPEN_EXEC, c"prog")?;
    touch(c"prog")?;
    check_eq!(masks(fd)?, []);
    std::process::Command::new("./prog").arg("helper:args").output()?;
    check_eq!(masks(fd)?, [FAN_OPEN_EXEC]);
    Ok(())
}

fn fan_children_and_directories() -> Outcome {
    mkdir(c"d", 0o755)?;
    mkdir(c"d/sub", 0o755)?;
    create(c"d/f", b"x").and_then(close)?;
    let fd = init(0)?;
    add(fd, FAN_OPEN, c"d")?;
    touch(c"d/f")?;
    touch(c"d")?;
    check_eq!(named(fd)?, []);
    add(fd, FAN_OPEN | CHILDREN, c"d")?;
    touch(c"d/f")?;
    touch(c"d/sub")?;
    touch(c"d")?;
    check_eq!(named(fd)?, [(FAN_OPEN, "f".to_string())]);
    add(fd, FAN_OPEN | DIRS, c"d")?;
    touch(c"d")?;
    touch(c"d/sub")?;
    touch(c"d/f")?;
    let wanted = [(FAN_OPEN, "d"), (FAN_OPEN, "sub"), (FAN_OPEN, "f")].map(|(m, n)| (m, n.to_string()));
    check_eq!(named(fd)?, wanted);
    // Not deeper.
    create(c"d/sub/deep", b"").and_then(close)?;
    drain(fd)?;
    touch(c"d/sub/deep")?;
    check_eq!(named(fd)?, []);
    Ok(())
}

fn fan_mount_and_filesystem_marks() -> Outcome {
    mkdir(c"m", 0o755)?;
    mkdir(c"b", 0o755)?;
    sys!(SYS_mount, c"x".as_ptr(), c"m".as_ptr(), c"tmpfs".as_ptr(), 0, 0)?;
    let result = with_mounts();
    let _ = sys!(SYS_umount2, c"b".as_ptr(), MNT_DETACH);
    let _ = sys!(SYS_umount2, c"m".as_ptr(), MNT_DETACH);
    result
}

fn with_mounts() -> Outcome {
    sys!(SYS_mount, c"m".as_ptr(), c"b".as_ptr(), 0, MS_BIND, 0)?;
    mkdir(c"m/deep", 0o755)?;
    create(c"m/deep/f", b"").and_then(close)?;
    let (mount, fs) = (init(0)?, init(0)?);
    mark(mount, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, c"m")?;
    mark(fs, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN | DIRS, c"m/deep/f")?;
    touch(c"m/deep/f")?;
    check_eq!(named(mount)?, [(FAN_OPEN, "f".to_string())]);
    check_eq!(named(fs)?, [(FAN_OPEN, "f".to_string())]);
    // Through the other mount only the file system sees it.
    touch(c"b/deep/f")?;
    touch(c"b/deep")?;
    check_eq!(named(mount)?, []);
    check_eq!(named(fs)?.len(), 2);
    // Other file systems are not concerned.
    create(c"f", b"").and_then(close)?;
    check_eq!(named(fs)?, []);
    // A mark does not keep the file system mounted, and ends with it.
    sys!(SYS_umount2, c"b".as_ptr(), 0)?;
    sys!(SYS_umount2, c"m".as_ptr(), 0)?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{mount}"))?;
    check!(!text.contains("mnt_id:") || !text.contains("fanotify mnt_id:"), "{text}");
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fs}"))?;
    check!(!text.contains("fanotify sdev:"), "{text}");
    Ok(())
}

fn fan_mark_remove_and_flush() -> Outcome {
    create(c"f", b"").and_then(close)?;
    create(c"g", b"").and_then(close)?;
    let fd = init(0)?;
    add(fd, FAN_OPEN | FAN_CLOSE, c"f")?;
    mark(fd, FAN_MARK_REMOVE, FAN_CLOSE_NOWRITE, c"f")?;
    touch(c"f")?;
    check_eq!(masks(fd)?, [FAN_OPEN]);
    mark(fd, FAN_MARK_REMOVE, FAN_OPEN | FAN_CLOSE_WRITE, c"f")?;
    check_err!(mark(fd, FAN_MARK_REMOVE, FAN_OPEN, c"f"), ENOENT);
    add(fd, FAN_OPEN, c"f")?;
    add(fd, FAN_OPEN, c"g")?;
    mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_NOWRITE, c"g")?;
    mark(fd, FAN_MARK_FLUSH, 0, c"f")?;
    check_err!(mark(fd, FAN_MARK_REMOVE, FAN_OPEN, c"g"), ENOENT);
    touch(c"g")?;
    check!(masks(fd)?.iter().all(|mask| *mask == FAN_CLOSE_NOWRITE));
    mark(fd, FAN_MARK_FLUSH | FAN_MARK_MOUNT, 0, c"f")?;
    touch(c"g")?;
    check_eq!(masks(fd)?, []);
    mark(fd, FAN_MARK_FLUSH | FAN_MARK_FILESYSTEM, 0, c"f")?;
    Ok(())
}

fn fan_ignored_mask() -> Outcome {
    mkdir(c"d", 0o755)?;
    let file = create(c"d/f", b"")?;
    close(file)?;
    create(c"d/g", b"").and_then(close)?;
    let fd = init(0)?;
    add(fd, FAN_OPEN | FAN_MODIFY | CHILDREN, c"d")?;
    mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, c"d/f")?;
    touch(c"d/f")?;
    touch(c"d/g")?;
    check_eq!(named(fd)?, [(FAN_OPEN, "g".to_string())]);
    // A modification ends it.
    let file = open(c"d/f", O_WRONLY, 0)?;
    check_eq!(named(fd)?, []);
    write(file, b"x")?;
    close(file)?;
    touch(c"d/f")?;
    check_eq!(named(fd)?, [(FAN_OPEN | FAN_MODIFY, "f".to_string())]);
    // Who has it open for writing keeps it from beginning.
    let file = open(c"d/f", O_WRONLY, 0)?;
    drain(fd)?;
    mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, c"d/f")?;
    touch(c"d/f")?;
    check_eq!(named(fd)?.len(), 1);
    let survive = FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY;
    mark(fd, survive, FAN_OPEN, c"d/f")?;
    write(file, b"y")?;
    touch(c"d/f")?;
    check_eq!(named(fd)?, [(FAN_MODIFY, "f".to_string())]);
    mark(fd, FAN_MARK_REMOVE | FAN_MARK_IGNORED_MASK, FAN_OPEN, c"d/f")?;
    touch(c"d/f")?;
    check_eq!(named(fd)?, [(FAN_OPEN, "f".to_string())]);
    // An ignore mask alone is a mark, and makes no events.
    mark(fd, FAN_MARK_FLUSH, 0, c".")?;
    mark(fd, survive, FAN_OPEN, c"d/f")?;
    touch(c"d/f")?;
    check_eq!(named(fd)?, []);
    Ok(())
}

fn fan_ignore_flags() -> Outcome {
    mkdir(c"d", 0o755)?;
    mkdir(c"d/sub", 0o755)?;
    create(c"d/f", b"").and_then(close)?;
    let ignore = FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY;
    let fd = init(0)?;
    mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN | DIRS, c"d")?;
    // Without flags the ignore mask of a directory means nothing but itself, and not as a directory.
    mark(fd, ignore, FAN_OPEN, c"d")?;
    let opened = |fd| -> Result<Vec<String>, Errno> {
        touch(c"d")?;
        touch(c"d/sub")?;
        touch(c"d/f")?;
        let seen = named(fd)?;
        Ok(seen
            .into_iter()
            .map(|(_, name)| name)
            .filter(|n| ["d", "sub", "f"].contains(&n.as_str()))
            .collect())
    };
    check_eq!(opened(fd)?, ["d", "sub", "f"]);
    mark(fd, ignore, FAN_OPEN | DIRS, c"d")?;
    check_eq!(opened(fd)?, ["sub", "f"]);
    mark(fd, ignore, FAN_OPEN | CHILDREN, c"d")?;
    check_eq!(opened(fd)?, Vec::<String>::new());
    mark(fd, FAN_MARK_REMOVE | FAN_MARK_IGNORE, DIRS, c"d")?;
    check_eq!(opened(fd)?, ["d", "sub"]);
    // The two kinds do not mix.
    check_err!(mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, c"d"), EEXIST);
    create(c"g", b"").and_then(close)?;
    mark(fd, ignore, FAN_OPEN, c"g")?;
    check_err!(mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORE, FAN_OPEN, c"g"), EEXIST);
    // The older kind ignores directories always.
    let old = init(0)?;
    mark(old, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN | DIRS, c"d")?;
    let survive = FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY;
    mark(old, survive, FAN_OPEN | DIRS, c"d")?;
    check_eq!(opened(old)?, ["sub", "f"]);
    Ok(())
}

fn fan_evictable() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init(0)?;
    mark(fd, FAN_MARK_ADD | FAN_MARK_EVICTABLE, FAN_OPEN, c"f")?;
    touch(c"f")?;
    check_eq!(masks(fd)?, [FAN_OPEN]);
    mark(fd, FAN_MARK_ADD | FAN_MARK_EVICTABLE, FAN_CLOSE, c"f")?;
    add(fd, FAN_ACCESS, c"f")?;
    // It is not evictable any more, and cannot become so again.
    check_err!(mark(fd, FAN_MARK_ADD | FAN_MARK_EVICTABLE, FAN_OPEN, c"f"), EEXIST);
    unlink(c"f")?;
    check_err!(mark(fd, FAN_MARK_REMOVE, FAN_OPEN, c"f"), ENOENT);
    Ok(())
}

fn fan_merge_and_overflow() -> Outcome {
    mkdir(c"d", 0o755)?;
    for index in 0..8 {
        std::fs::write(format!("d/{index}"), "")?;
    }
    let limit = c"/proc/sys/fs/fanotify/max_queued_events";
    let old = slurp(limit)?;
    spew(limit, "4")?;
    let (fd, unlimited) = (init(0), init(FAN_UNLIMITED_QUEUE));
    spew(limit, &old)?;
    let (fd, unlimited) = (fd?, unlimited?);
    add(fd, FAN_OPEN | CHILDREN, c"d")?;
    add(unlimited, FAN_OPEN | CHILDREN, c"d")?;
    for _ in 0..3 {
        for index in 0..8 {
            std::fs::File::open(format!("d/{index}"))?;
        }
    }
    let events = drain(fd)?;
    check_eq!(events.len(), 5);
    check_eq!(events[4].mask, FAN_Q_OVERFLOW);
    check_eq!((events[4].fd, events[4].pid), (FAN_NOFD, 0));
    // The same file again joins the event that is queued.
    check_eq!(drain(unlimited)?.len(), 8);
    std::fs::File::open("d/0")?;
    check_eq!(masks(fd)?, [FAN_OPEN]);
    Ok(())
}

fn fan_read_sizes() -> Outcome {
    create(c"f", b"").and_then(close)?;
    create(c"g", b"").and_then(close)?;
    let fd = init(0)?;
    add(fd, FAN_OPEN, c"f")?;
    add(fd, FAN_OPEN, c"g")?;
    check_err!(read_vec(fd, 4096), EAGAIN);
    touch(c"f")?;
    touch(c"g")?;
    check_err!(read_vec(fd, 23), EINVAL);
    let mut queued = 0;
    sys!(SYS_ioctl, fd, FIONREAD, addr_mut(&mut queued))?;
    check_eq!(queued, 48);
    check_err!(sys!(SYS_ioctl, fd, TIOCGWINSZ, 0), ENOTTY);
    let one = read_vec(fd, 47)?;
    check_eq!(one.len(), 24);
    close(parse(&one)[0].fd)?;
    check_err!(sys!(SYS_read, fd, 8, 100), EFAULT);
    check_err!(read_vec(fd, 4096), EAGAIN);
    // Without a free descriptor the event is lost.
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    sys!(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, addr_mut(&mut limit))?;
    let small = rlimit { rlim_cur: 3, ..limit };
    touch(c"f")?;
    sys!(SYS_prlimit64, 0, RLIMIT_NOFILE, addr(&small), 0)?;
    let read = read_vec(fd, 4096);
    sys!(SYS_prlimit64, 0, RLIMIT_NOFILE, addr(&limit), 0)?;
    check_err!(read, EMFILE);
    Ok(())
}

fn fan_event_descriptors() -> Outcome {
    create(c"f", b"abc").and_then(close)?;
    let flags = FAN_NONBLOCK;
    let fd = sys!(SYS_fanotify_init, flags, O_RDWR | O_CLOEXEC | O_APPEND)? as i32;
    add(fd, FAN_OPEN, c"f")?;
    touch(c"f")?;
    let event = parse(&read_vec(fd, 4096)?).remove(0);
    check_eq!(fcntl(event.fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(fcntl(event.fd, F_GETFL, 0)? as i32 & (O_ACCMODE | O_APPEND), O_RDWR | O_APPEND);
    write(event.fd, b"d")?;
    check_eq!(slurp(c"f")?, "abcd");
    close(event.fd)?;
    drain(fd)?;
    // What cannot be opened like that is an error, and the event is gone.
    std::fs::copy("/proc/self/exe", "prog")?;
    let child = std::process::Command::new("./prog").arg("helper:sleep").spawn()?;
    add(fd, FAN_OPEN, c"prog")?;
    check!(eventually(|| open(c"prog", O_WRONLY, 0) == Err(Errno(ETXTBSY))));
    touch(c"prog")?;
    let failed = read_vec(fd, 4096);
    kill(child.id() as i32, SIGKILL)?;
    wait(child.id() as i32)?;
    check_err!(failed, ETXTBSY);
    check_err!(read_vec(fd, 4096), EAGAIN);
    Ok(())
}

fn fan_unsupported_filesystems() -> Outcome {
    let fid = init(FAN_REPORT_FID)?;
    // An inode can be told by a handle that leads nowhere; a file system cannot.
    add(fid, FAN_OPEN, c"/proc/self/status")?;
    touch(c"/proc/self/status")?;
    let events = drain(fid)?;
    check!(events.is_empty() || events[0].infos[0].handle.map(|h| h.kind) == Some(0x81));
    let add_flag = FAN_MARK_ADD;
    check_err!(mark(fid, add_flag | FAN_MARK_FILESYSTEM, FAN_OPEN, c"/proc"), EOPNOTSUPP);
    check_err!(mark(fid, add_flag | FAN_MARK_MOUNT, FAN_OPEN, c"/proc"), EOPNOTSUPP);
    let ends = crate::sys::pipe(0)?;
    let fd = init(FAN_CLASS_CONTENT)?;
    let pipe = add_flag | FAN_MARK_MOUNT;
    check_err!(sys!(SYS_fanotify_mark, fd, pipe, FAN_OPEN, ends[0], 0), EINVAL);
    check_err!(sys!(SYS_fanotify_mark, fd, add_flag | FAN_MARK_FILESYSTEM, FAN_OPEN, ends[0], 0), EINVAL);
    // Nobody is asked about files of procfs.
    check_err!(add(fd, FAN_OPEN_PERM, c"/proc/self/status"), EINVAL);
    add(fd, FAN_OPEN, c"/proc/sys/kernel/ostype")?;
    // FIFOs and devices have no events with descriptors.
    sys!(SYS_mknodat, CWD, c"p".as_ptr(), S_IFIFO | 0o600, 0)?;
    add(fd, FAN_OPEN, c"p")?;
    close(open(c"p", O_RDWR, 0)?)?;
    check_eq!(masks(fd)?, []);
    Ok(())
}

fn fan_unprivileged() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let here =
        std::ffi::CString::new(std::env::current_dir()?.to_string_lossy().as_bytes()).unwrap_or_default();
    sys!(SYS_fchmodat, CWD, here.as_ptr(), 0o777)?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 4243, 4243, 4243);
        let eperm = Err(Errno(EPERM));
        let refused = [
            0,
            FAN_CLASS_CONTENT,
            FAN_REPORT_FID | FAN_UNLIMITED_QUEUE,
            FAN_REPORT_FID | FAN_UNLIMITED_MARKS,
            FAN_REPORT_FID | FAN_REPORT_PIDFD,
            FAN_REPORT_FID | FAN_REPORT_TID,
        ];
        if refused.iter().any(|flags| init(*flags) != eperm) {
            return 1;
        }
        let Ok(fd) = init(FAN_REPORT_FID) else { return 2 };
        let eperm = Err(Errno(EPERM));
        if mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, c"f") != eperm
            || mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, c"f") != eperm
            || mark(fd, FAN_MARK_FLUSH | FAN_MARK_MOUNT, 0, c"f") != eperm
        {
            return 3;
        }
        if add(fd, FAN_OPEN, c"f").is_err() || touch(c"f").is_err() {
            return 4;
        }
        // Its own events carry its number, those of others do not.
        let own = drain(fd).unwrap_or_default();
        if own.len() != 1 || own[0].pid != getpid() {
            return 5;
        }
        let _ = in_child(|| i32::from(touch(c"f").is_err()));
        let others = drain(fd).unwrap_or_default();
        if others.len() != 1 || others[0].pid != 0 {
            return 6;
        }
        0
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn fan_limits() -> Outcome {
    create(c"f", b"").and_then(close)?;
    create(c"g", b"").and_then(close)?;
    let (groups, marks) = (c"/proc/sys/fs/fanotify/max_user_groups", c"/proc/sys/fs/fanotify/max_user_marks");
    let (old_groups, old_marks) = (slurp(groups)?, slurp(marks)?);
    spew(groups, "2")?;
    spew(marks, "1")?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 4244, 4244, 4244);
        let made = (init(FAN_REPORT_FID), init(FAN_REPORT_FID), init(FAN_REPORT_FID));
        let (Ok(a), Ok(b), Err(Errno(EMFILE))) = made else { return 1 };
        if add(a, FAN_OPEN, c"f").is_err() || add(a, FAN_OPEN, c"g") != Err(Errno(ENOSPC)) {
            return 2;
        }
        if add(b, FAN_OPEN, c"f") != Err(Errno(ENOSPC)) || add(a, FAN_CLOSE, c"f").is_err() {
            return 3;
        }
        if mark(a, FAN_MARK_FLUSH, 0, c".").is_err() || add(b, FAN_OPEN, c"f").is_err() || close(b).is_err() {
            return 4;
        }
        i32::from(add(a, FAN_OPEN, c"g").is_err() || init(FAN_REPORT_FID).is_err()) * 5
    });
    spew(groups, &old_groups)?;
    spew(marks, &old_marks)?;
    check_eq!(status?, 0);
    Ok(())
}

fn fan_fdinfo() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init(FAN_CLASS_CONTENT | FAN_UNLIMITED_QUEUE)?;
    add(fd, FAN_OPEN | FAN_CLOSE, c"f")?;
    mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_ACCESS, c"f")?;
    mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, c".")?;
    mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MODIFY, c".")?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    check!(text.contains("\nfanotify flags:17 event-flags:"), "{text}");
    let ino = stat(c"f")?.st_ino;
    let inode = text.lines().find(|line| line.starts_with(&format!("fanotify ino:{ino:x} sdev:")));
    let inode = inode.unwrap_or_default();
    check!(
        inode.contains(" mflags:40 mask:38 ignored_mask:1 fhandle-bytes:c fhandle-type:1 f_handle:"),
        "{text}"
    );
    check!(
        text.lines()
            .any(|l| l.starts_with("fanotify mnt_id:") && l.ends_with("mflags:0 mask:20 ignored_mask:0"))
    );
    check!(
        text.lines()
            .any(|l| l.starts_with("fanotify sdev:") && l.ends_with("mflags:0 mask:2 ignored_mask:0"))
    );
    Ok(())
}

fn fan_poll_and_sysctls() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let fd = init(0)?;
    add(fd, FAN_OPEN, c"f")?;
    let ready = || -> Result<i16, Errno> {
        let mut poll = pollfd { fd, events: POLLIN | POLLOUT, revents: 0 };
        sys!(SYS_ppoll, addr_mut(&mut poll), 1, addr(&[0_u64; 2]), 0, 0)?;
        Ok(poll.revents)
    };
    check_eq!(ready()?, 0);
    touch(c"f")?;
    check_eq!(ready()?, POLLIN);
    drain(fd)?;
    check_eq!(ready()?, 0);
    check_eq!(seek(fd, 5, SEEK_SET)?, 0);
    for name in ["max_queued_events", "max_user_groups", "max_user_marks"] {
        let path = std::ffi::CString::new(format!("/proc/sys/fs/fanotify/{name}")).unwrap_or_default();
        let value: u64 = slurp(&path)?.trim().parse().map_err(Failure::new)?;
        check!(value >= 128, "{name} {value}");
        check_err!(spew(&path, "-1"), EINVAL);
    }
    Ok(())
}
