//! Images with every combination of features, read back and compared with what they were made of.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::path::Path;

use abi::{Errno, raw};
use common::{Image, Place, World, compare, debugfs, e2fsck_index, mke2fs, populate};
use ext4::mount::Kind;

/// Makes an image of a populated directory, with and without hash trees, and compares.
fn round(name: &str, size: &str, args: &str) {
    round_as(name, size, args, Kind::Ext4);
}

fn round_as(name: &str, size: &str, args: &str, kind: Kind) {
    let place = Place::new(name);
    let dir = place.join("dir");
    std::fs::create_dir(&dir).unwrap();
    populate(&dir, 600);
    let image = place.join("image");
    mke2fs(&image, size, args, Some(&dir));
    check(&image, &dir, kind);
    e2fsck_index(&image);
    check(&image, &dir, kind);
}

fn check(image: &Path, dir: &Path, kind: Kind) {
    let world = World::mount_as(Image::open(image), "", kind, raw::MS_RDONLY).unwrap();
    compare(&world, b"/", dir);
    // A listing that stops and goes on finds the same.
    let mut whole: Vec<Vec<u8>> = world.list(b"/many").unwrap().into_iter().map(|entry| entry.0).collect();
    let mut slow = world.list_slowly(b"/many", 7).unwrap();
    assert_eq!(whole, slow);
    whole.sort();
    slow.dedup();
    assert_eq!(whole.len(), slow.len());
    assert_eq!(world.lstat(b"/many/nothing").err(), Some(Errno::ENOENT));
    assert_eq!(world.lstat(b"/odd/x").err(), Some(Errno::ENOTDIR));
    let noted = world.ext4.errors.peek();
    assert!(noted.is_none(), "{noted:?}");
}

macro_rules! rounds {
    ($($name:ident: $size:literal, $args:literal;)*) => {
        $(#[test] fn $name() { round(stringify!($name), $size, $args); })*
    };
}

rounds! {
    blocks_of_1k: "64M", "-t ext4 -b 1024";
    blocks_of_2k: "64M", "-t ext4 -b 2048";
    blocks_of_4k: "64M", "-t ext4 -b 4096";
    without_extents: "64M", "-t ext4 -b 1024 -O ^extents,^64bit";
    without_extents_4k: "64M", "-t ext4 -b 4096 -O ^extents,^64bit";
    inline_data: "64M", "-t ext4 -b 4096 -O inline_data -I 256";
    inline_data_1k: "64M", "-t ext4 -b 1024 -O inline_data -I 512";
    inline_data_without_trees: "64M", "-t ext4 -b 1024 -O inline_data,^dir_index";
    large_dir: "64M", "-t ext4 -b 1024 -O large_dir";
    bigalloc: "128M", "-t ext4 -b 1024 -O bigalloc -C 8192";
    bits_32: "64M", "-t ext4 -O ^64bit";
    without_checksums: "64M", "-t ext4 -b 1024 -O ^metadata_csum";
    uninit_bg: "64M", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg";
    checksum_seed: "64M", "-t ext4 -b 1024 -O metadata_csum_seed";
    ea_inode: "64M", "-t ext4 -b 1024 -O ea_inode";
    meta_bg: "64M", "-t ext4 -b 1024 -O meta_bg,^resize_inode";
    sparse_super2: "64M", "-t ext4 -b 1024 -O sparse_super2,^resize_inode";
    every_group_has_a_copy: "64M", "-t ext4 -b 1024 -O ^sparse_super,^resize_inode";
    small_inodes: "64M", "-t ext4 -b 1024 -I 128";
    without_types: "64M", "-t ext4 -b 1024 -O ^filetype";
    orphan_file: "64M", "-t ext4 -b 1024 -O orphan_file";
    without_journal: "64M", "-t ext4 -b 1024 -O ^has_journal";
    mmp: "64M", "-t ext4 -b 1024 -O mmp";
    quota_and_project: "64M", "-t ext4 -b 1024 -O quota,project -I 256";
    without_trees: "64M", "-t ext4 -b 1024 -O ^dir_index";
    without_flex: "64M", "-t ext4 -b 1024 -O ^flex_bg";
    without_huge_files: "64M", "-t ext4 -b 1024 -O ^huge_file";
    legacy_hash: "64M", "-t ext4 -b 1024 -E hash_seed=00000000-0000-0000-0000-000000000000";
    large_inodes: "64M", "-t ext4 -b 1024 -I 1024";
    fast_commit: "64M", "-t ext4 -b 1024 -O fast_commit";
    stable_inodes: "64M", "-t ext4 -b 1024 -O stable_inodes";
}

#[test]
fn ext2() {
    round_as("ext2", "64M", "-t ext2 -b 1024", Kind::Ext2);
}

#[test]
fn ext3() {
    round_as("ext3", "64M", "-t ext3 -b 1024", Kind::Ext3);
}

#[test]
fn revision_0() {
    let place = Place::new("rev0");
    let dir = place.join("dir");
    std::fs::create_dir(&dir).unwrap();
    populate(&dir, 100);
    let image = place.join("image");
    mke2fs(&image, "64M", "-t ext2 -r 0 -b 1024", Some(&dir));
    check(&image, &dir, Kind::Ext2);
}

#[test]
fn a_newer_file_system_is_no_ext2() {
    let place = Place::new("newer");
    let image = place.join("image");
    mke2fs(&image, "8M", "-t ext4 -b 1024", None);
    for (kind, fits) in [(Kind::Ext2, false), (Kind::Ext3, false), (Kind::Ext4, true)] {
        assert_eq!(World::mount_as(Image::open(&image), "", kind, raw::MS_RDONLY).is_ok(), fits);
    }
}

#[test]
fn what_is_not_served_is_refused() {
    let place = Place::new("refused");
    for features in ["encrypt", "casefold"] {
        let image = place.join(features);
        mke2fs(&image, "8M", &format!("-t ext4 -O {features}"), None);
        assert_eq!(World::mount(Image::open(&image), "").err(), Some(Errno::EINVAL), "{features}");
    }
    // A file that is none, and an empty one.
    for (name, len) in [("zeros", 1 << 20), ("short", 1024), ("nothing", 0)] {
        let path = place.join(name);
        std::fs::write(&path, vec![0; len]).unwrap();
        let error = World::mount(Image::open(&path), "").err();
        assert!(matches!(error, Some(Errno::EINVAL | Errno::EIO)), "{name}: {error:?}");
    }
    let image = place.join("plain");
    mke2fs(&image, "8M", "-t ext4", None);
    for (options, error) in [
        ("nonsense", Errno::EINVAL),
        ("dax=always", Errno::EINVAL),
        ("sb=2", Errno::EINVAL),
        ("prjquota", Errno::EINVAL),
        ("noload,data=journal", Errno::EINVAL),
    ] {
        assert_eq!(World::mount(Image::open(&image), options).err(), Some(error), "{options}");
    }
    // Truncated below what it says.
    let bytes = std::fs::read(&image).unwrap();
    let short = Image::memory(bytes[..bytes.len() / 2].to_vec());
    assert_eq!(World::mount(short, "").err(), Some(Errno::EINVAL));
}

#[test]
fn a_copy_of_the_super_block() {
    let place = Place::new("copy");
    let image = place.join("image");
    mke2fs(&image, "32M", "-t ext4 -b 1024", None);
    let world = World::mount(Image::open(&image), "sb=8193").unwrap();
    assert!(world.list(b"/").unwrap().iter().any(|entry| entry.0 == b"lost+found"));
}

#[test]
fn sixteen_tebibytes() {
    let place = Place::new("huge");
    let dir = place.join("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "far away").unwrap();
    let image = place.join("image");
    // The longest file that the build machine may have is a block less than 16 TiB; nearly all of it is a hole.
    mke2fs(
        &image,
        "4294967295",
        "-t ext4 -b 4096 -O 64bit -N 2097152 -E lazy_itable_init=1,lazy_journal_init=1 -J size=4",
        Some(&dir),
    );
    let said = || common::SAID.lock().unwrap().join("\n");
    let world = World::mount(Image::open(&image), "").unwrap_or_else(|error| panic!("{error}: {}", said()));
    compare(&world, b"/", &dir);
    assert_eq!(world.ext4.layout.groups, 1 << 17);
    let st = vfs::stat::statfs(&world.path(b"/").unwrap()).unwrap();
    assert!(st.blocks > 4_200_000_000 && st.bfree < st.blocks && st.bavail < st.bfree, "{st:?}");
}

#[test]
fn extended_attributes() {
    for (name, args) in [
        ("xattr", "-b 1024"),
        ("xattr-small", "-b 1024 -I 128"),
        ("xattr-ea", "-b 1024 -O ea_inode"),
        ("xattr-plain", "-b 4096 -O ^metadata_csum"),
    ] {
        let place = Place::new(name);
        let image = place.join("image");
        mke2fs(&image, "8M", &format!("-t ext4 {args}"), None);
        let value = |len: usize| (0..len).map(|i| b'a' + (i % 23) as u8).collect::<Vec<u8>>();
        std::fs::write(place.join("source"), b"contents").unwrap();
        debugfs(&image, &format!("write {} f", place.join("source").display()));
        let mut sizes = vec![("user.one", 1), ("user.empty", 0), ("trusted.t", 30), ("security.s", 300)];
        if args.contains("ea_inode") {
            // What debugfs takes is a block, which does not fit into one with its entry.
            sizes.push(("user.large", 1024));
        }
        for (key, len) in &sizes {
            let path = place.join("value");
            std::fs::write(&path, value(*len)).unwrap();
            debugfs(&image, &format!("ea_set -f {} f {key}", path.display()));
        }
        let world = World::mount(Image::open(&image), "").unwrap();
        let list = world.listxattr(b"/f").unwrap();
        for (key, len) in &sizes {
            assert!(world.getxattr(b"/f", key).unwrap() == value(*len), "{name} {key}");
            let listed = list.split(|byte| *byte == 0).filter(|name| *name == key.as_bytes());
            assert_eq!(listed.count(), 1, "{key}");
        }
        assert_eq!(world.getxattr(b"/f", "user.none").err(), Some(Errno::ENODATA));
        assert_eq!(world.getxattr(b"/f", "system.posix_acl_access").err(), Some(Errno::ENODATA));
        assert_eq!(world.getxattr(b"/f", "system.other").err(), Some(Errno::EOPNOTSUPP));
        assert!(world.ext4.errors.peek().is_none());
    }
}

#[test]
fn handles_lead_back() {
    use vfs::export;
    let place = Place::new("handles");
    let dir = place.join("dir");
    std::fs::create_dir(&dir).unwrap();
    populate(&dir, 300);
    let image = place.join("image");
    mke2fs(&image, "64M", "-t ext4 -b 1024", Some(&dir));
    for name in [&b"/many"[..], b"/a/b/c/d/e/f/g/h", b"/odd", b"/", b"/a/b/c/d/e/f/g/h/leaf"] {
        let (fid, ino) = {
            let world = World::mount(Image::open(&image), "").unwrap();
            let path = world.path(name).unwrap();
            (export::encode(path.inode().unwrap(), Some(&path.dentry)).unwrap(), path.inode().unwrap().ino())
        };
        // Nothing of it is in memory.
        let world = World::mount(Image::open(&image), "").unwrap();
        let root = world.path(b"/").unwrap();
        let path = export::decode(&world.ctx(), &root, 0, fid.kind, fid.words()).unwrap();
        assert_eq!(path.inode().unwrap().ino(), ino);
        if path.inode().unwrap().is_dir() {
            let same = std::sync::Arc::ptr_eq(&path.dentry, &world.path(name).unwrap().dentry);
            assert!(same, "{name:?}");
        }
        let mut wrong = fid.words().to_vec();
        wrong[1] ^= 1;
        assert_eq!(export::decode(&world.ctx(), &root, 0, fid.kind, &wrong).err(), Some(Errno::ESTALE));
        let nobody = export::decode(&world.ctx(), &root, 0, fid.kind, &[1_000_000, 1]);
        assert_eq!(nobody.err(), Some(Errno::ESTALE));
    }
}

#[test]
fn holes_are_found() {
    let place = Place::new("holes");
    let dir = place.join("dir");
    std::fs::create_dir(&dir).unwrap();
    let file = std::fs::File::create(dir.join("f")).unwrap();
    file.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], 8192).unwrap();
    drop(file);
    for args in ["-t ext4 -b 4096", "-t ext3 -b 4096"] {
        let image = place.join("image");
        mke2fs(&image, "16M", args, Some(&dir));
        let world = World::mount(Image::open(&image), "").unwrap();
        let file = world.open(b"/f", 0).unwrap();
        let seek = |offset: i64, whence| file.ops().llseek(&file, offset, whence);
        use vfs::Whence::{Data, Hole};
        assert_eq!(seek(0, Data), Ok(8192));
        assert_eq!(seek(0, Hole), Ok(0));
        assert_eq!(seek(8192, Hole), Ok(12288));
        assert_eq!(seek(9000, Data), Ok(9000));
        assert_eq!(seek(12288, Data), Err(Errno::ENXIO));
        assert_eq!(seek(1 << 20, Hole), Err(Errno::ENXIO));
    }
}

#[test]
fn it_is_not_written() {
    let place = Place::new("readonly");
    let image = place.join("image");
    mke2fs(&image, "8M", "-t ext4", None);
    // The disk is read-only, and nothing would be written to another one.
    let error = World::mount_as(Image::open(&image), "", Kind::Ext4, 0).err();
    assert_eq!(error, Some(Errno::EROFS));
    let world = World::mount(Image::open(&image), "").unwrap();
    assert_eq!(world.open(b"/new", raw::O_CREAT | raw::O_WRONLY).err(), Some(Errno::EROFS));
    assert_eq!(vfs::namei::mkdir(&world.ctx(), vfs::At::Cwd, b"/d", 0o755).err(), Some(Errno::EROFS));
}
