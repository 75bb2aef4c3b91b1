//! A small tree of nodes, mounted and used by name.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once};

use abi::{Errno, raw};
use kernfs::{Access, Attr, Context, Dir, Entry, KernFs, Listing, Node, StaticDir, attr, file_entry};
use mm::IovIter;
use vfs::types::FileType;
use vfs::{At, Credentials, FsStruct, LookupContext, OpenArgs, namei};

static TOP: LazyLock<Arc<StaticDir>> = LazyLock::new(|| StaticDir::with_access(Access::Bits));
static FS: KernFs = KernFs::single("testfs", 0x1234, |_| Ok((TOP.clone(), None)));
static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
static STORED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static INIT: Once = Once::new();

const VALUE: Attr = attr("value", |out| {
    let _ = writeln!(out, "{}", String::from_utf8_lossy(&STORED.lock().unwrap()));
    Ok(())
})
.writable(|data| {
    *STORED.lock().unwrap() = data.to_vec();
    Ok(())
});

/// Names 0 to 9, some of which are gone.
struct Numbers;

impl Dir for Numbers {
    fn lookup(&self, _: &Context<'_>, name: &[u8]) -> abi::Result<Option<Entry>> {
        LOOKUPS.fetch_add(1, Ordering::Relaxed);
        let Some(n) = std::str::from_utf8(name).ok().and_then(|t| t.parse::<u64>().ok()) else {
            return Ok(None);
        };
        (n < 10)
            .then(|| {
                file_entry(1000 + n, 0o444, move |_, out| {
                    let _ = write!(out, "number {n}");
                    Ok(())
                })
            })
            .transpose()
    }

    fn list(&self, _: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> abi::Result<()> {
        for n in from..10 {
            if !emit(n.to_string().as_bytes(), 1000 + n, FileType::Regular, n + 1) {
                break;
            }
        }
        Ok(())
    }

    fn is_volatile(&self) -> bool {
        true
    }
}

#[test]
fn a_tree_of_nodes() {
    INIT.call_once(|| {
        mm::testing::init();
        vfs::init(8192).unwrap();
    });
    let sub = TOP.mkdir("sub");
    assert!(Arc::ptr_eq(&sub, &TOP.mkdir("sub")));
    static ATTRS: &[Attr] = &[VALUE];
    sub.add_attrs(ATTRS);
    sub.add_link("link", "value");
    TOP.add("numbers", Node::Dir(Arc::new(Numbers)), 0o555);
    let request = vfs::MountRequest {
        flags: 0,
        source: b"t",
        device: None,
        options: b"",
        user_ns: vfs::UserNamespace::initial(),
        private: None,
    };
    let sb = vfs::FsType::mount(&FS, &request).unwrap();
    let mount = vfs::mount::kernel_mount(&sb, 0, b"t").unwrap();
    let ns = vfs::mount::initial_namespace(&mount);
    let fs = FsStruct::new(mount.root_path()).unwrap();
    let ctx = LookupContext { cred: Credentials::kernel(), fs: &fs, ns: &ns };
    let open = |name: &str, flags| {
        namei::open(&ctx, At::Cwd, name.as_bytes(), &OpenArgs::from_open(flags, 0).unwrap())
    };
    let stat = |name: &str| vfs::stat::stat(&ctx, At::Cwd, name.as_bytes(), 0, raw::STATX_BASIC_STATS);

    // Shells write with O_TRUNC; short reads see one state; going back to the start shows the new one.
    let file = open("/sub/link", raw::O_WRONLY | raw::O_TRUNC).unwrap();
    vfs::rw::write(&file, &mut IovIter::source(b"hello"), 0).unwrap();
    let file = open("/sub/value", 0).unwrap();
    let mut part = [0; 3];
    assert_eq!(vfs::rw::read(&file, &mut IovIter::dest(&mut part), 0).unwrap(), 3);
    *STORED.lock().unwrap() = b"changed".to_vec();
    assert_eq!(vfs::rw::read(&file, &mut IovIter::dest(&mut part), 0).unwrap(), 3);
    assert_eq!(&part, b"lo\n");
    assert_eq!(vfs::rw::read(&file, &mut IovIter::dest(&mut part), 0).unwrap(), 0);
    vfs::rw::lseek(&file, 0, vfs::Whence::Set).unwrap();
    vfs::rw::read(&file, &mut IovIter::dest(&mut part), 0).unwrap();
    assert_eq!(&part, b"cha");
    assert_eq!(vfs::rw::pread(&file, &mut IovIter::dest(&mut part), 4, 0).unwrap(), 3);
    assert_eq!(&part, b"ged");

    // Missing names are remembered until the directory changes.
    assert_eq!(stat("/sub/later").unwrap_err(), Errno::ENOENT);
    let before = vfs::dcache::nr_dentry();
    for _ in 0..10 {
        assert_eq!(stat("/sub/later").unwrap_err(), Errno::ENOENT);
    }
    assert_eq!(vfs::dcache::nr_dentry(), before);
    sub.add_link("later", "value");
    assert!(stat("/sub/later").is_ok());
    assert!(sub.remove("later"));
    assert_eq!(stat("/sub/later").unwrap_err(), Errno::ENOENT);
    assert!(stat("/sub/value").is_ok());

    // A directory that follows state is asked each time.
    assert!(stat("/numbers/3").is_ok());
    let asked = LOOKUPS.load(Ordering::Relaxed);
    assert!(stat("/numbers/3").is_ok());
    assert!(LOOKUPS.load(Ordering::Relaxed) > asked);
    assert_eq!(stat("/numbers/11").unwrap_err(), Errno::ENOENT);
    let dir = open("/numbers", raw::O_DIRECTORY).unwrap();
    let mut names = Vec::new();
    // Two at a time.
    loop {
        let mut room = 2;
        let before = names.len();
        vfs::dir::iterate_dir(&dir, &mut |entry: &vfs::dir::DirEntry<'_>| {
            room -= 1;
            if room >= 0 {
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            }
            room >= 0
        })
        .unwrap();
        if names.len() == before {
            break;
        }
    }
    assert_eq!(names, [".", "..", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(namei::mkdir(&ctx, At::Cwd, b"/new", 0o755).unwrap_err(), Errno::EPERM);
    assert_eq!(open("/new", raw::O_CREAT | raw::O_WRONLY).unwrap_err(), Errno::EACCES);
    assert_eq!(namei::unlink(&ctx, At::Cwd, b"/sub/value").unwrap_err(), Errno::EPERM);
    let user = Arc::new(Credentials::user(abi::creds::Uid(5), abi::creds::Gid(5), &[]));
    let user = LookupContext { cred: &user, ..ctx };
    let write = OpenArgs::from_open(raw::O_WRONLY, 0).unwrap();
    assert_eq!(namei::open(&user, At::Cwd, b"/sub/value", &write).unwrap_err(), Errno::EACCES);
}
