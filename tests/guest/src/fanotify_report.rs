//! What fanotify events report beside a descriptor: file handles, names, targets, pidfds.

use crate::fanotify::{
    CHILDREN, DIRS, FAN_RENAME, FAN_REPORT_PIDFD, FAN_REPORT_TARGET_FID, add, drain, init, mark, masks,
    parse, records, touch, word,
};
use crate::handles::{handle_of, open_handle};
use crate::prelude::*;

tests![
    fan_report_fid,
    fan_report_dir_fid_and_name,
    fan_report_target_fid,
    fan_report_rename,
    fan_report_self_events,
    fan_report_pidfd_and_tid,
];

fn fan_report_fid() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"abc").and_then(close)?;
    let fd = init(FAN_REPORT_FID)?;
    add(fd, FAN_OPEN | FAN_ATTRIB | FAN_CREATE | FAN_DELETE | CHILDREN | DIRS, c"d")?;
    touch(c"d/f")?;
    let event = drain(fd)?.remove(0);
    check_eq!((event.mask, event.fd, event.pid), (FAN_OPEN, FAN_NOFD, getpid()));
    check_eq!(event.infos.len(), 1);
    let file = handle_of(c"d/f")?;
    check_eq!((event.infos[0].kind, event.infos[0].handle), (1, Some(file)));
    // The handle can be opened, and the file system is the one of statfs.
    let here = open(c".", O_RDONLY, 0)?;
    let opened = open_handle(here, &file, O_RDONLY)?;
    check_eq!(read_vec(opened, 10)?, b"abc");
    check_eq!(masks(fd)?, [FAN_OPEN]);
    sys!(SYS_fchmodat, CWD, c"d/f".as_ptr(), 0o600)?;
    touch(c"d")?;
    create(c"d/g", b"").and_then(close)?;
    mkdir(c"d/sub", 0o755)?;
    let dir = handle_of(c"d")?;
    let seen: Vec<_> = drain(fd)?.into_iter().map(|e| (e.mask, e.infos[0].handle)).collect();
    let new = handle_of(c"d/g")?;
    let wanted = [
        (FAN_ATTRIB, Some(file)),
        (FAN_OPEN | FAN_ONDIR, Some(dir)),
        // Names are told of the directory; who made a file has opened it.
        (FAN_CREATE, Some(dir)),
        (FAN_OPEN, Some(new)),
        (FAN_CREATE | FAN_ONDIR, Some(dir)),
    ];
    // Making a directory and opening one differ in nothing but the bit, and are joined.
    let joined = [
        (FAN_ATTRIB, Some(file)),
        (FAN_OPEN | FAN_CREATE | FAN_ONDIR, Some(dir)),
        (FAN_CREATE, Some(dir)),
        (FAN_OPEN, Some(new)),
    ];
    check!(seen == wanted || seen == joined, "{seen:?}");
    // fsid.
    let mut fs: libc::statfs = zeroed();
    sys!(SYS_statfs, c"d".as_ptr(), addr_mut(&mut fs))?;
    touch(c"d/f")?;
    let bytes = read_vec(fd, 4096)?;
    // SAFETY: plain integers.
    let id: [u32; 2] = unsafe { std::mem::transmute(fs.f_fsid) };
    check_eq!([word(&bytes, 28), word(&bytes, 32)], id);
    check_eq!(word(&bytes, 0) as usize, 24 + 20 + file.bytes as usize);
    Ok(())
}

fn fan_report_dir_fid_and_name() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"abc").and_then(close)?;
    let all = FAN_OPEN | FAN_ATTRIB | FAN_CREATE | FAN_DELETE | FAN_MOVE | CHILDREN | DIRS;
    let (dir, name, both) = (
        init(FAN_REPORT_DIR_FID)?,
        init(FAN_REPORT_DIR_FID | FAN_REPORT_NAME)?,
        init(FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_FID)?,
    );
    for fd in [dir, name, both] {
        add(fd, all, c"d")?;
    }
    let s = |text: &str| text.to_string();
    touch(c"d/f")?;
    // The handle is the directory's, whatever the type of the record says.
    let event = drain(dir)?.remove(0);
    check_eq!((event.mask, event.infos.len(), event.infos[0].kind), (FAN_OPEN, 1, 1));
    check_eq!(event.infos[0].handle, Some(handle_of(c"d")?));
    check_eq!(records(name)?, [(FAN_OPEN, vec![(2, s("f"))])]);
    let events = drain(both)?;
    check_eq!(
        events[0].infos.iter().map(|i| (i.kind, i.name.clone())).collect::<Vec<_>>(),
        [(2, s("f")), (1, s(""))]
    );
    check_eq!(events[0].infos[0].handle, Some(handle_of(c"d")?));
    check_eq!(events[0].infos[1].handle, Some(handle_of(c"d/f")?));
    // An event of the directory itself: its own name is not known.
    touch(c"d")?;
    check_eq!(records(dir)?, [(FAN_OPEN | FAN_ONDIR, vec![(3, s(""))])]);
    check_eq!(records(name)?, [(FAN_OPEN | FAN_ONDIR, vec![(2, s("."))])]);
    check_eq!(records(both)?, [(FAN_OPEN | FAN_ONDIR, vec![(2, s("."))])]);
    mkdir(c"d/sub", 0o755)?;
    check_eq!(records(dir)?, [(FAN_CREATE | FAN_ONDIR, vec![(3, s(""))])]);
    check_eq!(records(name)?, [(FAN_CREATE | FAN_ONDIR, vec![(2, s("sub"))])]);
    check_eq!(records(both)?, [(FAN_CREATE | FAN_ONDIR, vec![(2, s("sub"))])]);
    sys!(SYS_renameat, CWD, c"d/f".as_ptr(), CWD, c"d/g".as_ptr())?;
    unlink(c"d/g")?;
    check_eq!(records(dir)?, [(FAN_MOVED_FROM | FAN_MOVED_TO | FAN_DELETE, vec![(3, s(""))])]);
    let wanted = [(FAN_MOVED_FROM, vec![(2, s("f"))]), (FAN_MOVED_TO | FAN_DELETE, vec![(2, s("g"))])];
    check_eq!(records(name)?, wanted);
    check_eq!(records(both)?, wanted);
    // A mark on the file itself: directory and name are told all the same.
    create(c"h", b"").and_then(close)?;
    add(both, FAN_OPEN, c"h")?;
    touch(c"h")?;
    check_eq!(records(both)?, [(FAN_OPEN, vec![(2, s("h")), (1, s(""))])]);
    Ok(())
}

fn fan_report_target_fid() -> Outcome {
    mkdir(c"d", 0o755)?;
    let fd = init(FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_FID | FAN_REPORT_TARGET_FID)?;
    add(fd, FAN_CREATE | FAN_DELETE | FAN_MOVE | DIRS, c"d")?;
    create(c"d/f", b"").and_then(close)?;
    let file = handle_of(c"d/f")?;
    let events = drain(fd)?;
    check_eq!(events.len(), 1);
    check_eq!(events[0].infos[0].name, "f");
    check_eq!((events[0].infos[1].kind, events[0].infos[1].handle), (1, Some(file)));
    sys!(SYS_renameat, CWD, c"d/f".as_ptr(), CWD, c"d/g".as_ptr())?;
    unlink(c"d/g")?;
    let events = drain(fd)?;
    check!(events.iter().all(|event| event.infos[1].handle == Some(file)));
    check_eq!(events.iter().map(|e| e.mask).collect::<Vec<_>>(), [FAN_MOVED_FROM, FAN_MOVED_TO | FAN_DELETE]);
    mkdir(c"d/sub", 0o755)?;
    let events = drain(fd)?;
    check_eq!(events[0].infos[1].handle, Some(handle_of(c"d/sub")?));
    Ok(())
}

fn fan_report_rename() -> Outcome {
    mkdir(c"a", 0o755)?;
    mkdir(c"b", 0o755)?;
    create(c"a/f", b"").and_then(close)?;
    let file = handle_of(c"a/f")?;
    let flags = FAN_REPORT_DIR_FID | FAN_REPORT_NAME;
    let (old, new, fs, target) =
        (init(flags)?, init(flags)?, init(flags)?, init(flags | FAN_REPORT_FID | FAN_REPORT_TARGET_FID)?);
    add(old, FAN_RENAME | DIRS, c"a")?;
    add(new, FAN_RENAME | DIRS, c"b")?;
    add(target, FAN_RENAME | DIRS, c"a")?;
    add(target, FAN_RENAME | DIRS, c"b")?;
    mark(fs, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_RENAME | DIRS, c"a")?;
    sys!(SYS_renameat, CWD, c"a/f".as_ptr(), CWD, c"b/g".as_ptr())?;
    let s = |text: &str| text.to_string();
    check_eq!(records(old)?, [(FAN_RENAME, vec![(10, s("f"))])]);
    check_eq!(records(new)?, [(FAN_RENAME, vec![(12, s("g"))])]);
    let both = vec![(10, s("f")), (12, s("g"))];
    let seen: Vec<_> = records(fs)?.into_iter().filter(|r| r.1 == both).collect();
    check_eq!(seen, [(FAN_RENAME, both)]);
    let event = drain(target)?.remove(0);
    let infos: Vec<_> = event.infos.iter().map(|i| (i.kind, i.name.as_str(), i.handle)).collect();
    let (a, b) = (handle_of(c"a")?, handle_of(c"b")?);
    check_eq!(infos, [(10, "f", Some(a)), (12, "g", Some(b)), (1, "", Some(file))]);
    // Each rename is an event of its own.
    for _ in 0..2 {
        sys!(SYS_renameat, CWD, c"b/g".as_ptr(), CWD, c"b/h".as_ptr())?;
        sys!(SYS_renameat, CWD, c"b/h".as_ptr(), CWD, c"b/g".as_ptr())?;
    }
    let masks: Vec<_> = drain(new)?.iter().map(|e| e.mask).collect();
    check!(masks.iter().all(|mask| *mask == FAN_RENAME));
    check!(masks.len() == 2 || masks.len() == 4, "{}", masks.len());
    Ok(())
}

fn fan_report_self_events() -> Outcome {
    mkdir(c"d", 0o755)?;
    create(c"d/f", b"").and_then(close)?;
    let fd = init(FAN_REPORT_FID)?;
    add(fd, FAN_DELETE_SELF | FAN_MOVE_SELF | DIRS, c"d/f")?;
    add(fd, FAN_DELETE_SELF | FAN_MOVE_SELF | DIRS, c"d")?;
    let (file, dir) = (handle_of(c"d/f")?, handle_of(c"d")?);
    sys!(SYS_renameat, CWD, c"d/f".as_ptr(), CWD, c"d/g".as_ptr())?;
    let event = drain(fd)?.remove(0);
    check_eq!((event.mask, event.infos[0].handle), (FAN_MOVE_SELF, Some(file)));
    unlink(c"d/g")?;
    let event = drain(fd)?.remove(0);
    check_eq!((event.mask, event.infos[0].kind, event.infos[0].handle), (FAN_DELETE_SELF, 1, Some(file)));
    rmdir(c"d")?;
    let event = drain(fd)?.remove(0);
    check_eq!((event.mask, event.infos[0].handle), (FAN_DELETE_SELF | FAN_ONDIR, Some(dir)));
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    check!(!text.contains("fanotify ino:"), "{text}");
    Ok(())
}

fn fan_report_pidfd_and_tid() -> Outcome {
    create(c"f", b"").and_then(close)?;
    let (fd, tid) = (init(FAN_REPORT_PIDFD)?, init(FAN_REPORT_TID)?);
    add(fd, FAN_OPEN, c"f")?;
    add(tid, FAN_OPEN, c"f")?;
    touch(c"f")?;
    let bytes = read_vec(fd, 4096)?;
    check_eq!(word(&bytes, 0), 32);
    let event = parse(&bytes).remove(0);
    check_eq!((event.pid, event.infos[0].kind), (getpid(), 4));
    let pidfd = event.infos[0].pidfd;
    check_eq!(fcntl(pidfd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    sys!(SYS_pidfd_send_signal, pidfd, 0, 0, 0)?;
    close(pidfd)?;
    close(event.fd)?;
    // A process that was reaped has none.
    check_eq!(in_child(|| i32::from(touch(c"f").is_err()))?, 0);
    let event = parse(&read_vec(fd, 4096)?).remove(0);
    check_eq!(event.infos[0].pidfd, -1);
    close(event.fd)?;
    drain(tid)?;
    let thread = std::thread::spawn(|| {
        let _ = touch(c"f");
        sys!(SYS_gettid).unwrap_or(0) as i32
    });
    // Read while the thread is known, whatever it does.
    let mut seen = 0;
    check!(eventually(|| {
        seen = drain(tid).ok().and_then(|events| events.first().map(|event| event.pid)).unwrap_or(0);
        seen != 0 || thread.is_finished()
    }));
    let number = thread.join().unwrap_or(0);
    check!(seen == number || seen == 0, "{seen} {number}");
    Ok(())
}
