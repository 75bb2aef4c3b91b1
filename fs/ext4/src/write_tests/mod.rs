//! What changes the disk, against models, with `e2fsck` and `debugfs` as judges. Each test says its seed.

mod blocks;
mod crash;
mod extents;
mod tree;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use abi::Errno;
use buffer::BufferCache;
use buffer::testing::Disk;
use jbd2::Journal;

use crate::disk::inode::JOURNAL_INO;
use crate::disk::super_block::SuperBlock;
use crate::layout::Layout;
use crate::messages::Messages;
use crate::tx::Handle;
use crate::volume::{Report, Volume};

pub use buffer::testing::Random;

/// A folder that goes with its value.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ext4-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A damaged file system is a failed test.
struct Panics;

impl Report for Panics {
    fn damaged(&self, function: &'static str, ino: u32, block: u64, error: Errno, text: fmt::Arguments<'_>) {
        panic!("{function}: inode {ino}, block {block}: {text} ({error:?})");
    }
}

/// A file system on a disk in memory.
pub struct World {
    pub disk: Arc<Disk>,
    pub volume: Arc<Volume>,
}

/// The memory of the test process is for one of the larger tests at a time. Until the thread of the test ends.
fn one_test_at_a_time() {
    static GATE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    std::thread_local! {
        static TURN: std::cell::RefCell<Option<std::sync::MutexGuard<'static, ()>>> =
            const { std::cell::RefCell::new(None) };
    }
    TURN.with_borrow_mut(|turn| {
        turn.get_or_insert_with(|| GATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    });
}

/// An image of `kib` KiB, made by mke2fs with `options`; with `files` empty files, whose inodes are 12 and following.
pub fn make(kib: u32, options: &str, files: usize) -> Vec<u8> {
    let folder = Folder::new();
    let image = folder.0.join("image");
    let source = folder.0.join("source");
    std::fs::create_dir(&source).unwrap();
    for file in 0..files {
        std::fs::write(source.join(format!("file{file:02}")), "").unwrap();
    }
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-U", "01234567-89ab-cdef-0123-456789abcdef", "-d"]).arg(&source);
    command.args(options.split_whitespace()).arg(&image).arg(format!("{kib}k"));
    let out = command.output().expect("mke2fs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::read(&image).unwrap()
}

impl World {
    pub fn new(kib: u32, options: &str, files: usize) -> Self {
        Self::of(make(kib, options, files))
    }

    pub fn of(image: Vec<u8>) -> Self {
        Self::open(image, false)
    }

    /// `journal`: it is replayed and used.
    pub fn open(image: Vec<u8>, journal: bool) -> Self {
        one_test_at_a_time();
        let bytes = image.len() as u64;
        let raw: &SuperBlock = crate::disk::at(&image, 1024).unwrap();
        let messages = Messages { device: "test", silent: false };
        let bits = 10 + raw.log_block_size.get();
        let layout = Layout::new(raw, 1024 >> bits, bytes, &messages).unwrap();
        let offset = if bits == 10 { 0 } else { 1024 };
        let disk = Arc::new(Disk::new(image));
        let cache = BufferCache::new(disk.clone(), 1 << bits).unwrap();
        let make = |journal| {
            Arc::new(Volume::new(layout, cache.clone(), offset, Box::new(Panics), journal).unwrap())
        };
        let mut volume = make(None);
        if journal {
            let place = volume.journal_place(JOURNAL_INO).unwrap();
            let journal = Journal::load(cache.clone(), place, jbd2::Options::default()).unwrap();
            volume = make(Some(journal));
        }
        Self { disk, volume }
    }

    pub fn start(&self, credits: u32) -> Handle {
        self.volume.start(credits).unwrap()
    }

    /// All on the disk, as after an unmount.
    pub fn image(&self) -> Vec<u8> {
        self.volume.write_counts(&mut self.start(1)).unwrap();
        if let Some(journal) = &self.volume.journal {
            journal.flush().unwrap();
        }
        self.volume.cache.write_back().unwrap();
        self.disk.image()
    }

    /// Checks it with `e2fsck -fn`; then `f` may look at the image.
    pub fn check<R>(&self, f: impl FnOnce(&std::path::Path) -> R) -> R {
        let folder = Folder::new();
        let path = folder.0.join("image");
        std::fs::write(&path, self.image()).unwrap();
        let out =
            Command::new("e2fsck").args(["-fn", "-E", "no_optimize_extents"]).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            let kept = std::env::temp_dir().join(format!("ext4-failed-{}", std::process::id()));
            let _ = std::fs::copy(&path, &kept);
            panic!("e2fsck: {text}{}\nimage: {}", String::from_utf8_lossy(&out.stderr), kept.display());
        }
        f(&path)
    }
}

/// What debugfs answers.
pub fn debugfs(image: &std::path::Path, request: &str) -> Vec<u8> {
    let out = Command::new("debugfs").args(["-R", request]).arg(image).output().expect("debugfs");
    assert!(out.status.success());
    out.stdout
}

/// A seed: of the environment, or the usual one.
pub fn seed(usual: u64) -> u64 {
    let seed = std::env::var("EXT4_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    println!("EXT4_SEED={seed}");
    seed
}
