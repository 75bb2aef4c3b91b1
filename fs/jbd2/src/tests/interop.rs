//! Journals that e2fsprogs write or replay. Skipped, with a line that says so, where e2fsprogs are not installed.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use buffer::BufferCache;
use buffer::testing::Disk;

use super::{CHECKSUMS, PLAIN, fill};
use crate::format::MAGIC;
use crate::{Extent, Features, Journal, JournalPlace, Options};

/// A file that is gone at the end.
struct Image(PathBuf);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(program: &str, args: &[&str]) -> Output {
    let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
    Command::new(program)
        .args(args)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .expect("a program that runs")
}

impl Image {
    /// A new file system with a journal of 4 MiB; `None` without e2fsprogs.
    fn new(name: &str, block_size: u32, features: &str) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("jbd2-{}-{name}.img", std::process::id()));
        let image = Self(path);
        let size = block_size.to_string();
        let file = image.0.to_str()?;
        let args = ["-q", "-F", "-t", "ext4", "-b", &size, "-J", "size=4", "-O", features, file, "24M"];
        let have = ["/usr/sbin", "/sbin"].iter().any(|dir| std::path::Path::new(dir).join("mke2fs").exists());
        if !have {
            eprintln!("skipped: no e2fsprogs");
            return None;
        }
        let made = run("mke2fs", &args);
        assert!(made.status.success(), "{made:?}");
        Some(image)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Lets debugfs do something; what it prints.
    fn debugfs(&self, request: &str) -> String {
        let done = run("debugfs", &["-w", "-R", request, self.path()]);
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// The same with several requests.
    fn script(&self, requests: &str) {
        let script = Image(self.0.with_extension("script"));
        std::fs::write(&script.0, requests).unwrap();
        let done = run("debugfs", &["-w", "-f", script.path(), self.path()]);
        assert!(done.status.success(), "{done:?}");
    }

    fn blocks(&self, file: &str) -> Vec<u64> {
        let printed = self.debugfs(&format!("blocks {file}"));
        printed.split_whitespace().map(|block| block.parse().unwrap()).collect()
    }

    /// Checks, replays and repairs; whether nothing was wrong but a log that was not empty.
    fn fsck(&self) -> bool {
        let done = run("e2fsck", &["-f", "-y", self.path()]);
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let well = matches!(done.status.code(), Some(0 | 1)) && !text.contains("Fix? ");
        if !well {
            eprintln!("{text}");
        }
        well
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }

    /// The journal's place.
    fn place(&self) -> JournalPlace {
        let mut extents: Vec<Extent> = Vec::new();
        for (n, block) in self.blocks("<8>").into_iter().enumerate() {
            match extents.last_mut() {
                Some(last) if last.physical + u64::from(last.len) == block => last.len += 1,
                _ => extents.push(Extent { first: n as u32, len: 1, physical: block }),
            }
        }
        JournalPlace::Inode(extents)
    }

    fn load(&self, block_size: u32, features: Features) -> (Arc<Disk>, Arc<BufferCache>, Arc<Journal>) {
        let disk = Arc::new(Disk::new(self.bytes()));
        let cache = BufferCache::new(disk.clone(), block_size).unwrap();
        let options = Options { features, interval_ms: 3_600_000, ..Options::default() };
        let journal = Journal::load(cache.clone(), self.place(), options).unwrap();
        (disk, cache, journal)
    }
}

const OLD: &str = "^metadata_csum,^64bit";

#[test]
fn what_debugfs_writes_is_replayed() {
    let cases = [
        ("a1", 1024, "", "jo -c"),
        ("a2", 4096, "", "jo -c"),
        ("a3", 1024, OLD, "jo"),
        ("a4", 1024, "", "jo"),
    ];
    for (name, size, features, open) in cases {
        let Some(image) = Image::new(name, size, if features.is_empty() { "extent" } else { features })
        else {
            return;
        };
        let free: u64 = if size == 1024 { 20000 } else { 5000 };
        let file = Image(image.0.with_extension("data"));
        let mut data: Vec<u8> = (0..5 * size).map(|n| (n / 7 + n) as u8).collect();
        data[2 * size as usize..][..4].copy_from_slice(&MAGIC.to_be_bytes());
        std::fs::write(&file.0, &data).unwrap();
        let list = (0..5).map(|n| (free + n).to_string()).collect::<Vec<_>>().join(",");
        let path = file.path();
        image.script(&format!(
            "{open}\njw -b {list} {path}\njw -r {} /dev/null\njw -b {} {path}\njw -c -b {} {path}\njc\n",
            free + 3,
            free + 9,
            free + 10,
        ));
        let theirs = Image(image.0.with_extension("theirs"));
        std::fs::copy(&image.0, &theirs.0).unwrap();
        let features = if features == OLD { PLAIN } else { CHECKSUMS };
        let (disk, _cache, journal) = image.load(size, features);
        let recovery = journal.recovery();
        assert_eq!((recovery.transactions, recovery.replayed, recovery.revoked), (3, 5, 1), "{name}");
        assert!(theirs.fsck());
        let (ours, theirs) = (disk.image(), theirs.bytes());
        let at = |n: u64| ((free + n) * u64::from(size)) as usize;
        let block = size as usize;
        assert_eq!(ours[at(0)..at(12)], theirs[at(0)..at(12)], "{name}");
        assert_eq!(ours[at(0)..at(3)], data[..3 * block]);
        assert_eq!(ours[at(3)..at(4)], vec![0; block]);
        assert_eq!((&ours[at(4)..at(5)], &ours[at(9)..at(10)]), (&data[4 * block..], &data[..block]));
        assert_eq!(ours[at(10)..at(11)], vec![0; block]);
        // With the log empty the check finds nothing.
        drop(journal);
        std::fs::write(&image.0, disk.image()).unwrap();
        assert!(image.fsck());
    }
}

#[test]
fn what_we_write_is_replayed_by_e2fsck() {
    let other = "^metadata_csum,64bit";
    let cases = [
        ("b1", 1024, "extent", CHECKSUMS),
        ("b2", 4096, "extent", CHECKSUMS),
        ("b3", 1024, OLD, PLAIN),
        ("b4", 4096, other, Features { big_blocks: true, checksums: false }),
    ];
    for (name, size, options, features) in cases {
        let Some(image) = Image::new(name, size, options) else { return };
        let block = size as usize;
        let file = Image(image.0.with_extension("data"));
        std::fs::write(&file.0, vec![0x55; 12 * block]).unwrap();
        image.debugfs(&format!("write {} f", file.path()));
        let blocks = image.blocks("f");
        assert_eq!(blocks.len(), 12);
        let (disk, cache, journal) = image.load(size, features);
        for round in 1..=3u64 {
            let mut handle = journal.start(20).unwrap();
            for nr in &blocks[..8] {
                handle.modify(&cache.read(*nr).unwrap(), |bytes| fill(bytes, round * nr)).unwrap();
            }
            let magic = cache.read(blocks[8]).unwrap();
            handle.modify(&magic, |bytes| bytes[..4].copy_from_slice(&MAGIC.to_be_bytes())).unwrap();
            if round == 3 {
                // Freed, and data of something else by now.
                handle.revoke(blocks[0], None).unwrap();
            }
            handle.set_sync();
            handle.stop().unwrap();
        }
        let mut bytes = disk.image();
        let place = |nr: u64| nr as usize * block..(nr as usize + 1) * block;
        bytes[place(blocks[0])].fill(0x99);
        std::fs::write(&image.0, bytes).unwrap();
        image.debugfs("feature needs_recovery");
        assert!(image.fsck(), "{name}");
        let after = image.bytes();
        assert_eq!(after[place(blocks[0])], vec![0x99; block]);
        for nr in &blocks[1..8] {
            let mut expected = vec![0; block];
            fill(&mut expected, 3 * nr);
            assert_eq!(after[place(*nr)], expected, "{name}");
        }
        assert_eq!(after[place(blocks[8])][..5], [0xc0, 0x3b, 0x39, 0x98, 0x55]);
        assert_eq!(after[place(blocks[9])], vec![0x55; block]);
        // And what e2fsck leaves is a journal again.
        let (disk, cache, journal) = image.load(size, features);
        assert_eq!(journal.recovery(), Default::default());
        let mut handle = journal.start(1).unwrap();
        handle.modify(&cache.read(blocks[1]).unwrap(), |bytes| bytes.fill(1)).unwrap();
        drop(handle);
        drop(journal);
        std::fs::write(&image.0, disk.image()).unwrap();
        assert!(image.fsck(), "{name}");
    }
}
