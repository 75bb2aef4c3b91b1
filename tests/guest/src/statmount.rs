//! What is known of mounts: statmount(2), listmount(2), and requests about mount namespaces.

use crate::mountapi::{
    ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, ATTR_STRICTATIME,
    attach, tags, tmpfs,
};
use crate::mounts::{alone, mount, umount};
use crate::prelude::*;
use crate::sys::Result;
use std::ffi::CStr;

tests![
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
