//! Images made with e2fsprogs, mounted on the build machine, and compared with the directory that they were made of.
#![allow(dead_code, clippy::disallowed_methods, clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File as HostFile;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};

use abi::{Errno, raw};
use block::disk::{Disk, DiskOps, Numbers, Removal, Spec};
use block::{Batch, BlockDevice, Driver, Limits, Op, Queue, Request, Shape, Status};
use ext4::fs::Fs;
use ext4::mount::{Kind, Mounting};
use vfs::fs_context::ParamResult;
use vfs::mount::MountNamespace;
use vfs::super_block::MountRequest;
use vfs::{
    At, Credentials, File, FsFlags, FsStruct, FsType, LookupContext, OpenArgs, SuperBlock, UserNamespace,
    namei,
};

/// Where the bytes of a disk are.
enum Bytes {
    File(HostFile),
    Memory(Vec<u8>),
}

/// A read-only disk over an image.
struct Driven(Bytes);

struct NoOps;

impl DiskOps for NoOps {}

impl Driven {
    fn execute(&self, request: &Request) -> Status {
        if request.op() != Op::Read {
            return Status::NotSupported;
        }
        let mut at = request.sector() * 512;
        for segment in request.bios().flat_map(|bio| bio.segments()) {
            let len = segment.len() as usize;
            let done = match &self.0 {
                Bytes::File(file) => {
                    let mut bytes = vec![0; len];
                    file.read_exact_at(&mut bytes, at).is_ok() && segment.copy_in(0, &bytes).is_ok()
                }
                Bytes::Memory(all) => {
                    let part = all.get(at as usize..).and_then(|rest| rest.get(..len));
                    part.is_some_and(|bytes| segment.copy_in(0, bytes).is_ok())
                }
            };
            if !done {
                return Status::IoError;
            }
            at += len as u64;
        }
        Status::Ok
    }
}

impl Driver for Driven {
    fn queue_rqs(&self, queue: &Queue, hw: usize, batch: &mut Batch) {
        while let Some(request) = batch.next() {
            let status = self.execute(&request);
            queue.end(hw, request, status);
        }
    }
}

/// A disk that is there as long as the value.
pub struct Image {
    disk: Arc<Disk>,
}

impl Image {
    pub fn open(path: &Path) -> Self {
        let file = HostFile::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        Self::new(Bytes::File(file), len)
    }

    pub fn memory(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self::new(Bytes::Memory(bytes), len)
    }

    fn new(bytes: Bytes, len: u64) -> Self {
        init();
        let queue = Queue::new(Arc::new(Driven(bytes)), Shape::default(), Limits::default()).unwrap();
        let spec = Spec {
            name: format!("image{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            numbers: Numbers::Extended,
            parent: None,
            removable: false,
            partitions: false,
            ops: Arc::new(NoOps),
        };
        let disk = Disk::new(spec, queue).unwrap();
        disk.set_capacity(len / 512);
        disk.set_read_only(true);
        disk.add().unwrap();
        Self { disk }
    }

    pub fn device(&self) -> Arc<BlockDevice> {
        self.disk.whole().unwrap()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.disk.remove(Removal::Orderly);
    }
}

/// The type of the tests' super blocks: they are made by hand.
struct TestType;

impl FsType for TestType {
    fn name(&self) -> &'static str {
        "ext4"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::REQUIRES_DEV
    }

    fn check_param(&self, _: &str, _: Option<&str>) -> ParamResult {
        Ok(())
    }

    fn mount(&'static self, _: &MountRequest<'_>) -> abi::Result<Arc<SuperBlock>> {
        Err(Errno::ENODEV)
    }
}

static TYPE: TestType = TestType;
static INIT: Once = Once::new();
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// What was said to the log, while somebody listens.
pub static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut said = SAID.lock().unwrap();
        if said.len() < 10_000 {
            said.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Everything that tests need once.
pub fn init() {
    INIT.call_once(|| {
        mm::testing::init();
        mm::init_virtual();
        vfs::init(8192).unwrap();
        let _ = log::set_logger(&Listener);
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// A mounted image: its root is the root directory.
pub struct World {
    pub cred: Arc<Credentials>,
    pub fs: Option<FsStruct>,
    pub ns: Arc<MountNamespace>,
    pub sb: Arc<SuperBlock>,
    pub ext4: Arc<Fs>,
    image: Image,
}

impl World {
    /// Mounts a device read-only.
    pub fn mount(image: Image, options: &str) -> abi::Result<Self> {
        Self::mount_as(image, options, Kind::Ext4, raw::MS_RDONLY)
    }

    pub fn mount_as(image: Image, options: &str, kind: Kind, flags: u32) -> abi::Result<Self> {
        let device = image.device();
        let mounting =
            Mounting { dev: device.dev(), device, name: "image", kind, flags, options: options.as_bytes() };
        let (ext4, flags) = ext4::mount::open(&mounting)?;
        let sb = ext4::mount::fill(&TYPE, ext4.clone(), flags, UserNamespace::initial().clone(), None)?;
        let mount = vfs::mount::kernel_mount(&sb, 0, b"image")?;
        let ns = vfs::mount::initial_namespace(&mount);
        let fs = FsStruct::new(mount.root_path())?;
        Ok(Self { cred: Credentials::kernel().clone(), fs: Some(fs), ns, sb, ext4, image })
    }

    pub fn ctx(&self) -> LookupContext<'_> {
        LookupContext { cred: &self.cred, fs: self.fs.as_ref().unwrap(), ns: &self.ns }
    }

    pub fn open(&self, name: &[u8], flags: u32) -> abi::Result<Arc<File>> {
        namei::open(&self.ctx(), At::Cwd, name, &OpenArgs::from_open(flags, 0)?)
    }

    pub fn read_at(&self, file: &File, bytes: &mut [u8], pos: u64) -> abi::Result<usize> {
        vfs::rw::pread(file, &mut mm::IovIter::dest(bytes), pos as i64, 0)
    }

    pub fn lstat(&self, name: &[u8]) -> abi::Result<vfs::Kstat> {
        vfs::stat::stat(
            &self.ctx(),
            At::Cwd,
            name,
            raw::AT_SYMLINK_NOFOLLOW,
            raw::STATX_BASIC_STATS | raw::STATX_BTIME,
        )
    }

    /// Names and inode numbers, in the order of the listing, with the dots.
    pub fn list(&self, name: &[u8]) -> abi::Result<Vec<(Vec<u8>, u64)>> {
        let dir = self.open(name, raw::O_DIRECTORY)?;
        let mut names = Vec::new();
        vfs::dir::iterate_dir(&dir, &mut |entry: &vfs::dir::DirEntry<'_>| {
            names.push((entry.name.to_vec(), entry.ino));
            true
        })?;
        Ok(names)
    }

    /// The same, a few at a time, going on by the position.
    pub fn list_slowly(&self, name: &[u8], at_once: usize) -> abi::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let mut pos = 0;
        let dir = self.open(name, raw::O_DIRECTORY)?;
        loop {
            dir.set_pos(pos);
            let mut left = at_once;
            vfs::dir::iterate_dir(&dir, &mut |entry: &vfs::dir::DirEntry<'_>| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                names.push(entry.name.to_vec());
                true
            })?;
            pos = dir.pos();
            if left == at_once {
                return Ok(names);
            }
        }
    }

    pub fn readlink(&self, name: &[u8]) -> abi::Result<Vec<u8>> {
        namei::readlink(&self.ctx(), At::Cwd, name)
    }

    pub fn path(&self, name: &[u8]) -> abi::Result<vfs::Path> {
        namei::path_lookup(&self.ctx(), At::Cwd, name, namei::LookupFlags::empty())
    }

    pub fn getxattr(&self, name: &[u8], attribute: &str) -> abi::Result<Vec<u8>> {
        vfs::xattr::getxattr(&self.cred, &self.path(name)?, attribute.as_bytes())
    }

    pub fn listxattr(&self, name: &[u8]) -> abi::Result<Vec<u8>> {
        vfs::xattr::listxattr(&self.cred, &self.path(name)?)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.fs = None;
        self.sb.shutdown();
    }
}

/// A directory for one test, removed afterwards.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("karst-ext4-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program; its output. `codes`: what it may end with.
pub fn run(program: &str, args: &[&OsStr], codes: &[i32]) -> String {
    let out = Command::new(program).args(args).env("MKE2FS_DETERMINISTIC", "1").output();
    let out = out.unwrap_or_else(|error| panic!("{program}: {error}"));
    let code = out.status.code().unwrap_or(-1);
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(codes.contains(&code), "{program} {args:?}: {code}\n{text}");
    text
}

/// Makes an image of `size` with mke2fs, filled from `from`.
pub fn mke2fs(image: &Path, size: &str, args: &str, from: Option<&Path>) {
    let mut all: Vec<&OsStr> = vec![OsStr::new("-q"), OsStr::new("-F")];
    all.extend(args.split_whitespace().map(OsStr::new));
    if let Some(from) = from {
        all.extend([OsStr::new("-d"), from.as_os_str()]);
    }
    all.extend([image.as_os_str(), OsStr::new(size)]);
    run("mke2fs", &all, &[0]);
}

/// Runs a request of debugfs on an image.
pub fn debugfs(image: &Path, request: &str) -> String {
    let args = [OsStr::new("-w"), OsStr::new("-R"), OsStr::new(request), image.as_os_str()];
    run("debugfs", &args, &[0])
}

/// Rebuilds all directories as hash trees, and checks.
pub fn e2fsck_index(image: &Path) {
    run("e2fsck", &[OsStr::new("-fyD"), image.as_os_str()], &[0, 1]);
}

/// A small generator (xorshift64*), so that tests can be repeated.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Fills a directory with one of everything.
pub fn populate(dir: &Path, entries: usize) {
    let mut random = Random::new(7);
    for (name, len) in [
        ("empty", 0),
        ("tiny", 1),
        ("inode", 60),
        ("body", 100),
        ("page", 4096),
        ("odd", 12_345),
        ("large", 1_500_001),
    ] {
        write(&dir.join(name), &random.bytes(len));
    }
    let sparse = HostFile::create(dir.join("sparse")).unwrap();
    sparse.set_len(40_000_000).unwrap();
    for at in [0u64, 8192, 1 << 20, 12_345_678, 39_999_990] {
        sparse.write_all_at(&random.bytes(10), at).unwrap();
    }
    let fragments = HostFile::create(dir.join("fragments")).unwrap();
    for at in 0..700u64 {
        fragments.write_all_at(&random.bytes(100), at * 8192).unwrap();
    }
    let deep = dir.join("a/b/c/d/e/f/g/h");
    std::fs::create_dir_all(&deep).unwrap();
    write(&deep.join("leaf"), b"at the end\n");
    let many = dir.join("many");
    std::fs::create_dir(&many).unwrap();
    for i in 0..entries {
        let name = format!("{}-{i:x}", "name".repeat(i % 40));
        write(&many.join(name), format!("{i}").repeat(i % 7).as_bytes());
    }
    write(&dir.join(OsStr::from_bytes(b"not \xff text \x01")), b"bytes");
    write(&dir.join("x".repeat(255)), b"longest");
    for len in [1, 10, 58, 59, 60, 61, 155, 500, 1000] {
        std::os::unix::fs::symlink("t".repeat(len), dir.join(format!("link{len}"))).unwrap();
    }
    std::os::unix::fs::symlink("a/b/c", dir.join("inside")).unwrap();
    std::fs::hard_link(dir.join("odd"), dir.join("hard")).unwrap();
    for (name, rest) in [("fifo", "p"), ("chr", "c 1 3"), ("blk", "b 259 70000")] {
        let path = dir.join(name);
        let args: Vec<&OsStr> =
            [path.as_os_str()].into_iter().chain(rest.split(' ').map(OsStr::new)).collect();
        // Not everybody may.
        let _ = Command::new("mknod").args(args).status();
    }
    let script = dir.join("script");
    write(&script, b"#!/bin/sh\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(&script, mode).unwrap();
    std::io::stdout().flush().unwrap();
}

/// Compares a directory of the image with one of the build machine, all the way down.
pub fn compare(world: &World, at: &[u8], host: &Path) {
    let mut ours: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut dots = 0;
    for (name, ino) in world.list(at).unwrap_or_else(|error| panic!("{at:?}: {error}")) {
        if name == b"." || name == b".." {
            dots += 1;
            continue;
        }
        assert!(ours.insert(name, ino).is_none(), "a name twice in {}", String::from_utf8_lossy(at));
    }
    assert_eq!(dots, 2, "{}", String::from_utf8_lossy(at));
    if at == b"/" {
        ours.remove(&b"lost+found"[..]);
    }
    let names: Vec<Vec<u8>> =
        std::fs::read_dir(host).unwrap().map(|entry| entry.unwrap().file_name().into_vec()).collect();
    assert_eq!(ours.len(), names.len(), "{}", String::from_utf8_lossy(at));
    for name in names {
        let path = [at, if at == b"/" { b"" } else { b"/" }, &name].concat();
        let shown = String::from_utf8_lossy(&path).into_owned();
        let there = host.join(OsStr::from_bytes(&name));
        let want = std::fs::symlink_metadata(&there).unwrap();
        let have = world.lstat(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(ours.get(&name), Some(&have.ino), "{shown}");
        assert_eq!(have.mode, want.mode(), "{shown}");
        assert_eq!((have.uid, have.gid), (want.uid(), want.gid()), "{shown}");
        assert_eq!(have.mtime.sec, want.mtime(), "{shown}");
        if want.is_dir() {
            compare(world, &path, &there);
            continue;
        }
        assert_eq!(u64::from(have.nlink), want.nlink(), "{shown}");
        if want.is_symlink() {
            let target = std::fs::read_link(&there).unwrap();
            assert_eq!(world.readlink(&path).unwrap(), target.as_os_str().as_bytes(), "{shown}");
            assert_eq!(have.size, want.size(), "{shown}");
        } else if want.is_file() {
            assert_eq!(have.size, want.size(), "{shown}");
            same_contents(world, &path, &there);
        } else {
            assert_eq!(u64::from(have.rdev.encode()), to_linux(want.rdev()), "{shown}");
        }
    }
}

/// A device number of the C library as the kernel has it.
fn to_linux(dev: u64) -> u64 {
    let major = (dev >> 8 & 0xfff) | (dev >> 32 & !0xfff);
    let minor = (dev & 0xff) | (dev >> 12 & 0xff_ff00);
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

/// Compares a file, in pieces that are no whole pages.
pub fn same_contents(world: &World, path: &[u8], host: &Path) {
    let want = std::fs::read(host).unwrap();
    let file = world.open(path, 0).unwrap();
    let mut chunk = vec![0; 100_001];
    let mut at = 0;
    loop {
        let count = world.read_at(&file, &mut chunk, at as u64).unwrap();
        if count == 0 {
            break;
        }
        assert!(want.get(at..at + count) == Some(&chunk[..count]), "{host:?} at {at}");
        at += count;
    }
    assert_eq!(at, want.len(), "{host:?}");
}
