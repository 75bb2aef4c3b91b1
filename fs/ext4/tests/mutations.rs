//! Damaged images: whatever is in them, reading them ends, in bounded time, and without a panic.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use abi::raw;
use common::{Image, Place, Random, World, debugfs, e2fsck_index, mke2fs};

/// Files and directories that are looked at in one image: a damaged tree may show the same ones over and over.
const LOOKED_AT: usize = 400;
/// Bytes that are read of a file.
const READ: u64 = 1 << 17;

/// Looks at everything that can be reached.
fn walk(world: &World) {
    let mut left = LOOKED_AT;
    let mut paths = vec![b"/".to_vec()];
    while let Some(path) = paths.pop() {
        let Some(less) = left.checked_sub(1) else { return };
        left = less;
        let Ok(stat) = world.lstat(&path) else { continue };
        let _ = world.listxattr(&path).map(|list| {
            for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                let _ = std::str::from_utf8(name).map(|name| world.getxattr(&path, name));
            }
        });
        for name in ["user.one", "security.capability", "system.posix_acl_access"] {
            let _ = world.getxattr(&path, name);
        }
        match stat.mode & raw::S_IFMT {
            raw::S_IFDIR => {
                let Ok(dir) = world.open(&path, raw::O_DIRECTORY) else { continue };
                let mut names = Vec::new();
                let mut most = 4 * LOOKED_AT;
                let _ = vfs::dir::iterate_dir(&dir, &mut |entry: &vfs::dir::DirEntry<'_>| {
                    most -= 1;
                    names.push(entry.name.to_vec());
                    most > 0
                });
                let _ = world.lstat(&[&path[..], b"/no-such-name"].concat());
                // Deep enough: a directory may contain itself.
                if path.iter().filter(|byte| **byte == b'/').count() < 12 {
                    let below = names
                        .into_iter()
                        .filter(|name| name != b"." && name != b".." && !name.contains(&b'/'));
                    paths.extend(below.map(|name| [&path[..], b"/", &name].concat()));
                }
            }
            raw::S_IFREG => {
                let Ok(file) = world.open(&path, 0) else { continue };
                let mut chunk = [0; 5000];
                let mut at = 0;
                while at < READ {
                    match world.read_at(&file, &mut chunk, at) {
                        Ok(0) => break,
                        Ok(count) => at += count as u64,
                        Err(_) => at += chunk.len() as u64,
                    }
                }
                let last = stat.size.min(i64::MAX as u64 - 8192).saturating_sub(100);
                let _ = world.read_at(&file, &mut chunk, last);
                for whence in [vfs::Whence::Data, vfs::Whence::Hole] {
                    let _ = file.ops().llseek(&file, 1000, whence);
                }
            }
            raw::S_IFLNK => {
                let _ = world.readlink(&path);
            }
            _ => {}
        }
    }
}

/// An image with something of everything, but small.
fn image(place: &Place, args: &str) -> Vec<u8> {
    let dir = place.join("dir");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    let mut random = Random::new(3);
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    write("small", &random.bytes(50));
    write("file", &random.bytes(50_000));
    let file = std::fs::File::create(dir.join("fragments")).unwrap();
    for at in 0..150u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &random.bytes(20), at * 4096).unwrap();
    }
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    write("a/b/leaf", b"leaf");
    std::fs::create_dir(dir.join("many")).unwrap();
    for i in 0..120 {
        write(&format!("many/a-rather-long-name-{i}"), b"");
    }
    for len in [20, 70, 300] {
        std::os::unix::fs::symlink("s".repeat(len), dir.join(format!("link{len}"))).unwrap();
    }
    let path = place.join("image");
    let _ = std::fs::remove_file(&path);
    mke2fs(&path, "3M", &format!("-b 1024 -J size=1 -N 256 {args}"), Some(&dir));
    e2fsck_index(&path);
    std::fs::write(place.join("value"), vec![b'v'; 300]).unwrap();
    for name in ["user.one", "security.two", "trusted.three"] {
        debugfs(&path, &format!("ea_set -f {} file {name}", place.join("value").display()));
    }
    std::fs::read(&path).unwrap()
}

/// The blocks that hold no file's contents: what is worth damaging.
fn metadata(path: &Path, bytes: &[u8]) -> Vec<usize> {
    let blocks = bytes.len() / 1024;
    let list = (1..blocks).map(|block| block.to_string()).collect::<Vec<_>>().join(" ");
    let owners = debugfs(path, &format!("icheck {list}"));
    let mut found = Vec::new();
    for line in owners.lines() {
        let Some((block, owner)) = line.split_once('\t') else { continue };
        let Ok(block) = block.parse::<usize>() else { continue };
        // Owned by nobody: bitmaps, tables, or free, and free ones are all zero. Inode 8 is the journal.
        let zero = bytes[block * 1024..(block + 1) * 1024].iter().all(|byte| *byte == 0);
        if !zero && owner != "8" {
            found.push(block);
        }
    }
    found
}

fn mutate(name: &str, args: &str, rounds: u64) {
    let place = Place::new(name);
    let bytes = image(&place, args);
    let blocks = metadata(&place.join("image"), &bytes);
    assert!(blocks.len() > 20, "{blocks:?}");
    let (mut mounted, mut slowest) = (0, Duration::ZERO);
    for seed in 0..rounds {
        let mut random = Random::new(seed + 1);
        let mut damaged = bytes.clone();
        for _ in 0..=random.below(8) {
            // Every other time the super block and the descriptors, which are few.
            let block = match random.below(6) {
                0 => 1,
                1 => 2,
                _ => blocks[random.below(blocks.len() as u64) as usize],
            };
            let at = block * 1024 + random.below(1024) as usize;
            let value = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => damaged[at] ^ 1 << random.below(8),
                _ => random.next() as u8,
            };
            let len = if random.below(4) == 0 { 4 } else { 1 };
            damaged[at..(at + len).min(bytes.len())].fill(value);
        }
        let start = Instant::now();
        let device = Image::memory(damaged);
        if let Ok(world) = World::mount(device, "norecovery") {
            mounted += 1;
            walk(&world);
        }
        slowest = slowest.max(start.elapsed());
        assert!(slowest < Duration::from_secs(20), "seed {seed}: {slowest:?}");
    }
    println!("{name}: {rounds} images, {mounted} mounted, slowest {slowest:?}");
    // Damage that nobody notices tests nothing, and neither does what is never mounted.
    assert!(mounted > rounds / 10 && mounted < rounds);
}

#[test]
fn without_checksums() {
    mutate("m-plain", "-t ext4 -O ^metadata_csum", 1000);
}

#[test]
fn with_checksums() {
    mutate("m-csum", "-t ext4", 500);
}

#[test]
fn without_extents() {
    mutate("m-ext3", "-t ext3", 1000);
}

#[test]
fn with_inline_data() {
    mutate("m-inline", "-t ext4 -O inline_data,^metadata_csum,ea_inode", 1000);
}

#[test]
fn the_image_itself_is_good() {
    let place = Place::new("m-good");
    let bytes = image(&place, "-t ext4");
    let world = World::mount(Image::memory(bytes), "").unwrap();
    walk(&world);
    assert!(world.ext4.errors.peek().is_none());
}
