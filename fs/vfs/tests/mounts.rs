//! Mounts, binds, propagation, namespaces.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use abi::{Errno, raw};
use common::World;
use vfs::mount::{self, show};
use vfs::ns_count::NsCharge;
use vfs::{LookupContext, namei};

fn mountinfo(w: &World) -> String {
    let mut out = String::new();
    show::show_mountinfo(&w.ns, &w.fs.root().unwrap(), &mut out).unwrap();
    out
}

fn points(w: &World) -> Vec<String> {
    mountinfo(w).lines().map(|l| l.split(' ').nth(4).unwrap().to_string()).collect()
}

#[test]
fn mount_and_umount() {
    let w = World::new();
    w.mkdir("/m").unwrap();
    w.write("/m/under", "").unwrap();
    w.mount("src name", "/m", Some("tmpfs"), raw::MS_NOSUID | raw::MS_NOEXEC, "size=1m,mode=750").unwrap();
    assert_eq!(w.list("/m"), Vec::<String>::new());
    assert_eq!(w.stat("/m").unwrap().mode & 0o7777, 0o750);
    let text = {
        let mut out = String::new();
        show::show_mounts(&w.ns, &w.fs.root().unwrap(), &mut out).unwrap();
        out
    };
    assert!(
        text.contains("src\\040name /m tmpfs rw,nosuid,noexec,relatime,size=1024k,mode=750,inode64 0 0\n"),
        "{text}"
    );
    w.write("/m/f", "x").unwrap();
    assert_eq!(w.rmdir("/m"), Err(Errno::EBUSY));
    assert_eq!(w.rename("/m", "/n", 0), Err(Errno::EBUSY));
    assert_eq!(w.rename("/m/f", "/f", 0), Err(Errno::EXDEV));
    assert_eq!(w.link("/m/f", "/f"), Err(Errno::EXDEV));
    let file = w.open("/m/f", 0).unwrap();
    assert_eq!(w.umount("/m", 0), Err(Errno::EBUSY));
    assert_eq!(w.umount("/m/f", 0), Err(Errno::EINVAL));
    drop(file);
    namei::chdir(&w.ctx(), b"/m").unwrap();
    assert_eq!(w.umount("/m", 0), Err(Errno::EBUSY));
    namei::chdir(&w.ctx(), b"/").unwrap();
    w.umount("/m", 0).unwrap();
    assert_eq!(w.list("/m"), ["under"]);
    assert_eq!(w.umount("/m", 0), Err(Errno::EINVAL));
    assert_eq!(w.mount("x", "/m", Some("nofs"), 0, ""), Err(Errno::ENODEV));
    assert_eq!(w.mount("x", "/m", Some("tmpfs"), 0, "colour=red"), Err(Errno::EINVAL));
    assert_eq!(w.mount("x", "/none", Some("tmpfs"), 0, ""), Err(Errno::ENOENT));
    // Space of a full tmpfs.
    w.mount("x", "/m", Some("tmpfs"), 0, "size=8k,nr_inodes=3").unwrap();
    assert_eq!(w.write("/m/big", &"x".repeat(20_000)), Err(Errno::ENOSPC));
    w.write("/m/b", "").unwrap();
    assert_eq!(w.write("/m/c", "").unwrap_err(), Errno::ENOSPC);
    // Lazily, with a file open.
    let file = w.open("/m/big", 0).unwrap();
    w.umount("/m", raw::MNT_DETACH).unwrap();
    assert_eq!(vfs::stat::fstat(&file).unwrap().size, 8192);
    assert_eq!(points(&w), ["/"]);
}

#[test]
fn stacked_bound_and_moved() {
    let w = World::new();
    for d in ["/a", "/b", "/a/sub", "/c"] {
        w.mkdir(d).unwrap();
    }
    w.mount("one", "/a/sub", Some("tmpfs"), 0, "").unwrap();
    w.write("/a/sub/1", "").unwrap();
    w.mount("/a", "/b", None, raw::MS_BIND, "").unwrap();
    assert_eq!(w.list("/b/sub"), Vec::<String>::new());
    w.mount("/a", "/b", None, raw::MS_BIND | raw::MS_REC, "").unwrap();
    assert_eq!(w.list("/b/sub"), ["1"]);
    assert_eq!(points(&w), ["/", "/a/sub", "/b", "/b", "/b/sub"]);
    w.umount("/b/sub", 0).unwrap();
    w.umount("/b", 0).unwrap();
    w.umount("/b", 0).unwrap();
    // Two file systems on one place; `..` leaves both.
    w.mount("two", "/a/sub", Some("tmpfs"), 0, "").unwrap();
    assert_eq!(w.list("/a/sub"), Vec::<String>::new());
    assert_eq!(w.list("/a/sub/.."), ["sub"]);
    w.umount("/a/sub", 0).unwrap();
    assert_eq!(w.list("/a/sub"), ["1"]);
    w.mount("/a/sub", "/c", None, raw::MS_MOVE, "").unwrap();
    assert_eq!(w.list("/c"), ["1"]);
    assert_eq!(w.list("/a/sub"), Vec::<String>::new());
    assert_eq!(w.mount("/c", "/c", None, raw::MS_MOVE, ""), Err(Errno::ELOOP));
    // A bind can be read-only while the file system is not.
    w.mount("/c", "/b", None, raw::MS_BIND, "").unwrap();
    w.mount("", "/b", None, raw::MS_BIND | raw::MS_REMOUNT | raw::MS_RDONLY, "").unwrap();
    assert_eq!(w.write("/b/2", ""), Err(Errno::EROFS));
    w.write("/c/2", "").unwrap();
    assert_eq!(w.list("/b"), ["1", "2"]);
    let file = w.open("/c/2", raw::O_WRONLY).unwrap();
    assert_eq!(w.mount("", "/c", None, raw::MS_REMOUNT | raw::MS_RDONLY, ""), Err(Errno::EBUSY));
    drop(file);
    w.mount("", "/c", None, raw::MS_REMOUNT | raw::MS_RDONLY, "").unwrap();
    assert_eq!(w.write("/c/3", ""), Err(Errno::EROFS));
    // Files are bound to files only.
    w.write("/file", "f").unwrap();
    assert_eq!(w.mount("/file", "/a", None, raw::MS_BIND, ""), Err(Errno::ENOTDIR));
    w.write("/over", "o").unwrap();
    w.mount("/file", "/over", None, raw::MS_BIND, "").unwrap();
    assert_eq!(w.read("/over").unwrap(), "f");
    assert_eq!(w.unlink("/over"), Err(Errno::EBUSY));
    w.umount("/over", 0).unwrap();
    assert_eq!(w.read("/over").unwrap(), "o");
}

#[test]
fn propagation() {
    let w = World::new();
    for d in ["/s", "/p", "/sl", "/pr", "/un", "/s/x"] {
        w.mkdir(d).unwrap();
    }
    w.mount("s", "/s", Some("tmpfs"), 0, "").unwrap();
    w.mkdir("/s/x").unwrap();
    w.mount("", "/s", None, raw::MS_SHARED, "").unwrap();
    for (dir, kind) in
        [("/p", 0), ("/sl", raw::MS_SLAVE), ("/pr", raw::MS_PRIVATE), ("/un", raw::MS_UNBINDABLE)]
    {
        w.mount("/s", dir, None, raw::MS_BIND, "").unwrap();
        if kind != 0 {
            w.mount("", dir, None, kind, "").unwrap();
        }
    }
    let info = mountinfo(&w);
    assert!(info.contains("/s rw,relatime shared:"), "{info}");
    assert!(info.contains("/sl rw,relatime master:"), "{info}");
    assert!(info.contains("/un rw,relatime unbindable - tmpfs"), "{info}");
    w.mount("new", "/p/x", Some("tmpfs"), 0, "").unwrap();
    w.write("/p/x/f", "").unwrap();
    assert_eq!(w.list("/s/x"), ["f"]);
    assert_eq!(w.list("/sl/x"), ["f"]);
    assert_eq!(w.list("/pr/x"), Vec::<String>::new());
    // A slave's own mounts stay its own.
    w.umount("/sl/x", 0).unwrap();
    assert_eq!(w.list("/s/x"), ["f"]);
    w.mount("own", "/sl/x", Some("tmpfs"), 0, "").unwrap();
    assert_eq!(w.list("/s/x"), ["f"]);
    w.umount("/sl/x", 0).unwrap();
    w.umount("/s/x", 0).unwrap();
    assert_eq!(w.list("/p/x"), Vec::<String>::new());
    assert_eq!(w.mount("/un", "/pr", None, raw::MS_BIND, ""), Err(Errno::EINVAL));
    // Shared and slave at once: events flow through.
    w.mount("", "/sl", None, raw::MS_SHARED, "").unwrap();
    w.mkdir("/down").unwrap();
    w.mount("/sl", "/down", None, raw::MS_BIND, "").unwrap();
    w.mount("deep", "/s/x", Some("tmpfs"), 0, "").unwrap();
    w.write("/s/x/g", "").unwrap();
    assert_eq!(w.list("/down/x"), ["g"]);
    w.umount("/s/x", 0).unwrap();
    assert_eq!(w.list("/down/x"), Vec::<String>::new());
    // Moving out of a shared mount is refused.
    w.mount("n", "/s/x", Some("tmpfs"), 0, "").unwrap();
    assert_eq!(w.mount("/s/x", "/pr", None, raw::MS_MOVE, ""), Err(Errno::EINVAL));
}

#[test]
fn namespaces_and_pivot() {
    let w = World::new();
    w.mkdir("/m").unwrap();
    w.mount("m", "/m", Some("tmpfs"), 0, "").unwrap();
    namei::chdir(&w.ctx(), b"/m").unwrap();
    let fs = w.fs.copy();
    let ns =
        mount::copy_namespace(&w.ns, vfs::UserNamespace::initial(), NsCharge::none(), Some(&fs)).unwrap();
    let other = LookupContext { cred: &w.cred, fs: &fs, ns: &ns };
    mount::umount(&other, b"/m", 0).unwrap_err();
    namei::chdir(&other, b"/").unwrap();
    mount::umount(&other, b"/m", 0).unwrap();
    assert_eq!(points(&w), ["/", "/m"]);
    // The root of the namespace stays where it is.
    namei::mkdir(&other, vfs::At::Cwd, b"/outer", 0o755).unwrap();
    mount::mount(&other, b"o", b"/outer", Some(b"tmpfs"), 0, b"", None).unwrap();
    namei::mkdir(&other, vfs::At::Cwd, b"/outer/put", 0o755).unwrap();
    assert_eq!(mount::pivot_root(&other, b"/outer", b"/outer/put").err(), Some(Errno::EINVAL));
    // A new root, as a container makes it, on a root that is mounted on another.
    namei::chroot(&other, b"/outer").unwrap();
    namei::chdir(&other, b"/").unwrap();
    namei::mkdir(&other, vfs::At::Cwd, b"/new", 0o755).unwrap();
    mount::mount(&other, b"n", b"/new", Some(b"tmpfs"), 0, b"", None).unwrap();
    namei::mkdir(&other, vfs::At::Cwd, b"/new/old", 0o755).unwrap();
    let (old, new) = mount::pivot_root(&other, b"/new", b"/new/old").unwrap();
    fs.replace_path(&old, &new);
    assert_eq!(vfs::path::getcwd(&other).unwrap(), b"/");
    let dir =
        namei::open(&other, vfs::At::Cwd, b"/old", &vfs::OpenArgs::from_open(raw::O_DIRECTORY, 0).unwrap())
            .unwrap();
    assert!(dir.path().is_mount_root());
    drop((dir, old, new));
    mount::umount(&other, b"/old", raw::MNT_DETACH).unwrap();
    let mut text = String::new();
    show::show_mountinfo(&ns, &fs.root().unwrap(), &mut text).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(points(&w), ["/", "/m"]);
}
