//! Names: making, finding, renaming, removing, and who may.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use abi::{Errno, raw};
use common::World;
use vfs::{At, LookupContext, namei};

#[test]
fn files_and_directories() {
    let w = World::new();
    w.mkdir("/a").unwrap();
    assert_eq!(w.mkdir("/a"), Err(Errno::EEXIST));
    assert_eq!(w.mkdir("/x/y"), Err(Errno::ENOENT));
    w.write("/a/f", "hello").unwrap();
    assert_eq!(w.read("/a/f").unwrap(), "hello");
    assert_eq!(w.read("/a/./../a//f").unwrap(), "hello");
    assert_eq!(w.read("/../../a/f").unwrap(), "hello");
    assert_eq!(w.read("/a/f/").unwrap_err(), Errno::ENOTDIR);
    assert_eq!(w.read("/a/f/g").unwrap_err(), Errno::ENOTDIR);
    assert_eq!(w.rmdir("/a"), Err(Errno::ENOTEMPTY));
    assert_eq!(w.unlink("/a"), Err(Errno::EISDIR));
    assert_eq!(w.rmdir("/a/f"), Err(Errno::ENOTDIR));
    assert_eq!(w.stat("/a/f").unwrap().size, 5);
    assert_eq!(w.stat("/a").unwrap().nlink, 2);
    w.mkdir("/a/d").unwrap();
    assert_eq!(w.stat("/a").unwrap().nlink, 3);
    w.unlink("/a/f").unwrap();
    assert_eq!(w.read("/a/f").unwrap_err(), Errno::ENOENT);
    w.rmdir("/a/d").unwrap();
    assert_eq!(w.list("/a"), Vec::<String>::new());
    w.rmdir("/a").unwrap();
    assert_eq!(w.rmdir("/."), Err(Errno::EINVAL));
    assert_eq!(w.rmdir("/"), Err(Errno::EBUSY));
    assert_eq!(w.unlink("/"), Err(Errno::EISDIR));
    assert_eq!(w.mkdir("/"), Err(Errno::EEXIST));
    let long = "n".repeat(256);
    assert_eq!(w.mkdir(&long), Err(Errno::ENAMETOOLONG));
    assert_eq!(w.mkdir(&"n/".repeat(2048)), Err(Errno::ENAMETOOLONG));
    assert_eq!(w.stat("").unwrap_err(), Errno::ENOENT);
}

#[test]
fn symbolic_links() {
    let w = World::new();
    w.mkdir("/d").unwrap();
    w.write("/d/f", "x").unwrap();
    w.symlink("d", "/l").unwrap();
    w.symlink("/l/f", "/d/g").unwrap();
    w.symlink("../d/g", "/d/h").unwrap();
    assert_eq!(w.read("/l/h").unwrap(), "x");
    assert_eq!(w.lstat("/l").unwrap().size, 1);
    assert!(w.stat("/l/").unwrap().mode & raw::S_IFMT == raw::S_IFDIR);
    assert_eq!(namei::readlink(&w.ctx(), At::Cwd, b"/d/h").unwrap(), b"../d/g");
    assert_eq!(namei::readlink(&w.ctx(), At::Cwd, b"/d/f").unwrap_err(), Errno::EINVAL);
    w.symlink("loop", "/loop").unwrap();
    assert_eq!(w.stat("/loop").unwrap_err(), Errno::ELOOP);
    assert_eq!(w.stat("/loop/x").unwrap_err(), Errno::ELOOP);
    // Forty links are followed, not more.
    w.write("/c0", "end").unwrap();
    for i in 1..=41 {
        w.symlink(&format!("c{}", i - 1), &format!("/c{i}")).unwrap();
    }
    assert_eq!(w.read("/c40").unwrap(), "end");
    assert_eq!(w.read("/c41").unwrap_err(), Errno::ELOOP);
    // Creation goes through a dangling link; exclusive creation does not.
    w.symlink("made", "/dangling").unwrap();
    assert_eq!(w.open("/dangling", raw::O_CREAT | raw::O_EXCL | raw::O_WRONLY).unwrap_err(), Errno::EEXIST);
    assert_eq!(w.open("/dangling", raw::O_CREAT | raw::O_NOFOLLOW).unwrap_err(), Errno::ELOOP);
    w.write("/dangling", "new").unwrap();
    assert_eq!(w.read("/made").unwrap(), "new");
    assert_eq!(w.open("/l", raw::O_NOFOLLOW).unwrap_err(), Errno::ELOOP);
    assert!(w.open("/l", raw::O_NOFOLLOW | raw::O_PATH).is_ok());
    assert_eq!(w.unlink("/l/"), Err(Errno::ENOTDIR));
    w.unlink("/l").unwrap();
}

#[test]
fn resolve_flags() {
    let w = World::new();
    w.mkdir("/jail").unwrap();
    w.mkdir("/jail/sub").unwrap();
    w.write("/jail/f", "in").unwrap();
    w.write("/f", "out").unwrap();
    w.symlink("/f", "/jail/abs").unwrap();
    w.symlink("../f", "/jail/up").unwrap();
    let dir = w.open("/jail", raw::O_DIRECTORY | raw::O_PATH).unwrap();
    let open = |name: &str, resolve: u32| {
        let how = abi::fs::OpenHow { flags: 0, mode: 0, resolve: resolve.into() };
        let args = vfs::OpenArgs::from_how(&how)?;
        let file = namei::open(&w.ctx(), At::File(&dir), name.as_bytes(), &args)?;
        let mut text = [0; 8];
        let n = vfs::rw::kernel_read(&file, &mut text, 0)?;
        Ok::<_, Errno>(String::from_utf8(text[..n].to_vec()).unwrap())
    };
    assert_eq!(open("f", raw::RESOLVE_BENEATH).unwrap(), "in");
    assert_eq!(open("sub/../f", raw::RESOLVE_BENEATH).unwrap(), "in");
    assert_eq!(open("../f", raw::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("/f", raw::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("abs", raw::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("up", raw::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(open("abs", raw::RESOLVE_IN_ROOT).unwrap(), "in");
    assert_eq!(open("up", raw::RESOLVE_IN_ROOT).unwrap(), "in");
    assert_eq!(open("/../../f", raw::RESOLVE_IN_ROOT).unwrap(), "in");
    assert_eq!(open("up", 0).unwrap(), "out");
    assert_eq!(open("up", raw::RESOLVE_NO_SYMLINKS), Err(Errno::ELOOP));
    assert_eq!(open("f", raw::RESOLVE_CACHED).unwrap(), "in");
    assert_eq!(open("f", raw::RESOLVE_IN_ROOT | raw::RESOLVE_BENEATH), Err(Errno::EINVAL));
    w.mkdir("/jail/m").unwrap();
    w.mount("none", "/jail/m", Some("tmpfs"), 0, "").unwrap();
    w.write("/jail/m/f", "mnt").unwrap();
    assert_eq!(open("m/f", 0).unwrap(), "mnt");
    assert_eq!(open("m/f", raw::RESOLVE_NO_XDEV), Err(Errno::EXDEV));
}

#[test]
fn hard_links_and_rename() {
    let w = World::new();
    w.write("/f", "1").unwrap();
    w.link("/f", "/g").unwrap();
    assert_eq!(w.stat("/g").unwrap().nlink, 2);
    assert_eq!(w.stat("/f").unwrap().ino, w.stat("/g").unwrap().ino);
    assert_eq!(w.link("/f", "/g"), Err(Errno::EEXIST));
    // Two names of one file: rename does nothing.
    w.rename("/f", "/g", 0).unwrap();
    assert_eq!(w.list("/"), ["f", "g"]);
    w.unlink("/f").unwrap();
    assert_eq!(w.stat("/g").unwrap().nlink, 1);
    w.mkdir("/d").unwrap();
    w.mkdir("/d/e").unwrap();
    assert_eq!(w.link("/d", "/dd"), Err(Errno::EPERM));
    assert_eq!(w.rename("/d", "/d/e/x", 0), Err(Errno::EINVAL));
    assert_eq!(w.rename("/d/e", "/d", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(w.rename("/g", "/d", 0), Err(Errno::EISDIR));
    assert_eq!(w.rename("/d", "/g", 0), Err(Errno::ENOTDIR));
    w.write("/h", "2").unwrap();
    assert_eq!(w.rename("/g", "/h", raw::RENAME_NOREPLACE), Err(Errno::EEXIST));
    w.rename("/g", "/h", raw::RENAME_EXCHANGE).unwrap();
    assert_eq!((w.read("/g").unwrap(), w.read("/h").unwrap()), ("2".into(), "1".into()));
    w.rename("/g", "/d", raw::RENAME_EXCHANGE).unwrap();
    assert_eq!(w.read("/d").unwrap(), "2");
    assert_eq!(w.list("/g"), ["e"]);
    w.rename("/d", "/g/e/moved", 0).unwrap();
    assert_eq!(w.read("/g/e/moved").unwrap(), "2");
    w.rename("/g/e/moved", "/top", raw::RENAME_WHITEOUT).unwrap();
    let left = w.lstat("/g/e/moved").unwrap();
    assert_eq!((left.mode & raw::S_IFMT, left.rdev), (raw::S_IFCHR, Default::default()));
    assert_eq!(w.rename("/missing", "/x", 0), Err(Errno::ENOENT));
    assert_eq!(w.rename("/top/", "/x", 0), Err(Errno::ENOTDIR));
    // Negative entries give way: the new name was looked up before.
    assert!(w.stat("/x").is_err());
    w.rename("/top", "/x", 0).unwrap();
    assert_eq!(w.read("/x").unwrap(), "2");
    assert!(w.stat("/top").is_err());
    // Moving a directory changes `..` of its working directory.
    w.mkdir("/p").unwrap();
    w.mkdir("/q").unwrap();
    w.mkdir("/p/c").unwrap();
    namei::chdir(&w.ctx(), b"/p/c").unwrap();
    w.rename("/p/c", "/q/c", 0).unwrap();
    assert_eq!(vfs::path::getcwd(&w.ctx()).unwrap(), b"/q/c");
    w.write("../in-q", "").unwrap();
    assert_eq!(w.list("/q"), ["c", "in-q"]);
    w.rmdir("/q/c").unwrap();
    assert_eq!(vfs::path::getcwd(&w.ctx()), Err(Errno::ENOENT));
    assert_eq!(w.write("f", "").unwrap_err(), Errno::ENOENT);
}

#[test]
fn permissions() {
    let w = World::new();
    w.mkdir("/closed").unwrap();
    w.write("/closed/f", "secret").unwrap();
    w.mkdir("/tmp").unwrap();
    let chmod = |name: &str, mode| vfs::attr::chmod(&w.ctx(), At::Cwd, name.as_bytes(), mode, 0).unwrap();
    chmod("/closed", 0o700);
    chmod("/", 0o755);
    chmod("/tmp", 0o1777);
    w.write("/tmp/roots", "r").unwrap();
    let cred = w.as_user(1000, 1000);
    let user = LookupContext { cred: &cred, ..w.ctx() };
    let open = |name: &str, flags| {
        namei::open(&user, At::Cwd, name.as_bytes(), &vfs::OpenArgs::from_open(flags, 0o666).unwrap())
            .map(drop)
    };
    assert_eq!(open("/closed/f", 0), Err(Errno::EACCES));
    assert_eq!(open("/tmp/roots", raw::O_WRONLY), Err(Errno::EACCES));
    assert_eq!(open("/tmp/roots", 0), Ok(()));
    assert_eq!(namei::unlink(&user, At::Cwd, b"/tmp/roots"), Err(Errno::EPERM));
    assert_eq!(open("/new", raw::O_CREAT | raw::O_WRONLY), Err(Errno::EACCES));
    assert_eq!(open("/tmp/mine", raw::O_CREAT | raw::O_WRONLY), Ok(()));
    let mine = w.stat("/tmp/mine").unwrap();
    assert_eq!((mine.uid, mine.gid, mine.mode & 0o7777), (1000, 1000, 0o644));
    // A creator may open what it made unreadable.
    let args = vfs::OpenArgs::from_open(raw::O_CREAT | raw::O_RDWR, 0).unwrap();
    namei::open(&user, At::Cwd, b"/tmp/sealed", &args).unwrap();
    assert_eq!(open("/tmp/sealed", 0), Err(Errno::EACCES));
    // Set-user-id falls away when somebody else writes, and by chown.
    vfs::attr::chmod(&user, At::Cwd, b"/tmp/mine", 0o4755, 0).unwrap();
    let file =
        namei::open(&user, At::Cwd, b"/tmp/mine", &vfs::OpenArgs::from_open(raw::O_WRONLY, 0).unwrap())
            .unwrap();
    vfs::rw::kernel_write(&file, b"x", &mut 0).unwrap();
    assert_eq!(w.stat("/tmp/mine").unwrap().mode & 0o7777, 0o755);
    assert_eq!(vfs::attr::chmod(&user, At::Cwd, b"/tmp/roots", 0o777, 0), Err(Errno::EPERM));
    let chown = |c: &LookupContext<'_>, uid| {
        vfs::attr::chown(c, At::Cwd, b"/tmp/mine", Some(abi::creds::Uid(uid)), None, 0)
    };
    assert_eq!(chown(&user, 5), Err(Errno::EPERM));
    chmod("/tmp/mine", 0o6755);
    chown(&w.ctx(), 5).unwrap();
    assert_eq!(w.stat("/tmp/mine").unwrap().mode & 0o7777, 0o755);
    assert_eq!(namei::access(&user, At::Cwd, b"/tmp/roots", 2, 0), Err(Errno::EACCES));
    assert_eq!(namei::access(&user, At::Cwd, b"/tmp/roots", 4, 0), Ok(()));
    assert_eq!(namei::access(&w.ctx(), At::Cwd, b"/tmp/roots", 1, 0), Err(Errno::EACCES));
    assert_eq!(namei::chroot(&user, b"/tmp"), Err(Errno::EPERM));
}

#[test]
fn tmpfile_and_link_it() {
    let w = World::new();
    let flags = raw::O_TMPFILE | raw::O_RDWR;
    let file = w.open("/", flags).unwrap();
    vfs::rw::kernel_write(&file, b"data", &mut 0).unwrap();
    assert_eq!(w.list("/"), Vec::<String>::new());
    assert_eq!(vfs::stat::fstat(&file).unwrap().nlink, 0);
    namei::link(&w.ctx(), At::File(&file), b"", At::Cwd, b"/named", raw::AT_EMPTY_PATH).unwrap();
    assert_eq!(w.read("/named").unwrap(), "data");
    let excl = w.open("/", flags | raw::O_EXCL).unwrap();
    let result = namei::link(&w.ctx(), At::File(&excl), b"", At::Cwd, b"/no", raw::AT_EMPTY_PATH);
    assert_eq!(result, Err(Errno::ENOENT));
    assert_eq!(w.open("/", raw::O_TMPFILE).unwrap_err(), Errno::EINVAL);
}

#[test]
fn unlinked_files_live_while_open_and_free_their_space_at_once() {
    let w = World::new();
    let used = || {
        let root = w.fs.root().unwrap();
        let st = vfs::stat::statfs(&root).unwrap();
        (st.blocks - st.bfree, st.files - st.ffree)
    };
    let before = used();
    w.write("/f", &"x".repeat(10_000)).unwrap();
    assert_eq!(used(), (before.0 + 3, before.1 + 1));
    w.unlink("/f").unwrap();
    assert_eq!(used(), before);
    w.write("/f", "hello").unwrap();
    let file = w.open("/f", raw::O_RDWR).unwrap();
    w.unlink("/f").unwrap();
    let mut text = [0; 5];
    vfs::rw::kernel_read(&file, &mut text, 0).unwrap();
    assert_eq!(&text, b"hello");
    assert_eq!(vfs::path::d_path(file.path(), None).unwrap(), b"/f (deleted)");
    drop(file);
    assert_eq!(used(), before);
    w.mkdir("/d").unwrap();
    assert!(w.stat("/d/none").is_err());
    w.rmdir("/d").unwrap();
    assert_eq!(used(), before);
}

#[test]
fn deep_trees_do_not_recurse() {
    let w = World::new();
    w.mkdir("/m").unwrap();
    w.mount("none", "/m", Some("tmpfs"), 0, "nr_inodes=0").unwrap();
    namei::chdir(&w.ctx(), b"/m").unwrap();
    std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(move || {
            for _ in 0..20_000 {
                w.mkdir("d").unwrap();
                namei::chdir(&w.ctx(), b"d").unwrap();
            }
            namei::chdir(&w.ctx(), b"/").unwrap();
            w.umount("/m", 0).unwrap();
        })
        .unwrap()
        .join()
        .unwrap();
}
