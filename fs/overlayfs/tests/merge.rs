//! Overlays over tmpfs layers on the host.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

#[path = "../../vfs/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::sync::Once;

use abi::fs::DevId;
use abi::{Errno, raw};
use common::World;
use vfs::namei::{At, LookupFlags, path_lookup};
use vfs::{FileType, xattr};

const ON: &str = "lowerdir=/l1:/l2,upperdir=/u,workdir=/w,redirect_dir=on";

static REGISTER: Once = Once::new();

fn world() -> World {
    let world = World::new();
    REGISTER.call_once(|| vfs::register_filesystem(&overlayfs::OVERLAY).unwrap());
    for dir in ["/l1", "/l2", "/u", "/w", "/m"] {
        world.mkdir(dir).unwrap();
    }
    world
}

fn over(world: &World, options: &str) -> abi::Result<()> {
    world.mount("overlay", "/m", Some("overlay"), 0, options)
}

fn set(world: &World, path: &str, name: &str, value: &str) {
    let path = path_lookup(&world.ctx(), At::Cwd, path.as_bytes(), LookupFlags::empty()).unwrap();
    xattr::setxattr(&world.cred, &path, name.as_bytes(), value.as_bytes(), 0).unwrap();
}

fn get(world: &World, path: &str, name: &str) -> abi::Result<Vec<u8>> {
    let path = path_lookup(&world.ctx(), At::Cwd, path.as_bytes(), LookupFlags::empty()).unwrap();
    xattr::getxattr(&world.cred, &path, name.as_bytes())
}

fn is_whiteout(world: &World, path: &str) -> bool {
    world
        .lstat(path)
        .is_ok_and(|stat| stat.file_type() == Some(FileType::CharDevice) && stat.rdev == DevId::default())
}

/// Path and contents of every file below `dir`; directories end in a slash.
fn tree(world: &World, dir: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for name in world.list(dir) {
        let path = format!("{dir}/{name}");
        let short = |path: &str| path.trim_start_matches("/m/").to_string();
        if world.lstat(&path).unwrap().file_type() == Some(FileType::Directory) {
            all.insert(short(&path) + "/", String::new());
            all.extend(tree(world, &path));
        } else {
            all.insert(short(&path), world.read(&path).unwrap());
        }
    }
    all
}

fn shape(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
}

#[test]
fn layers_are_merged() {
    let world = world();
    for dir in ["/l1/d", "/l2/d", "/u/d", "/l2/f", "/l1/opaque", "/l2/opaque", "/l2/only"] {
        world.mkdir(dir).unwrap();
    }
    for (path, text) in [
        ("/l2/d/a", "lowest"),
        ("/l1/d/a", "lower"),
        ("/l2/d/b", "lowest"),
        ("/u/d/c", "upper"),
        ("/l1/f", "a file hides a directory"),
        ("/l2/f/hidden", ""),
        ("/l1/opaque/shown", "1"),
        ("/l2/opaque/hidden", ""),
    ] {
        world.write(path, text).unwrap();
    }
    set(&world, "/l1/opaque", "trusted.overlay.opaque", "y");
    over(&world, ON).unwrap();
    let want = shape(&[
        ("d/", ""),
        ("d/a", "lower"),
        ("d/b", "lowest"),
        ("d/c", "upper"),
        ("f", "a file hides a directory"),
        ("only/", ""),
        ("opaque/", ""),
        ("opaque/shown", "1"),
    ]);
    assert_eq!(tree(&world, "/m"), want);
    assert!(world.list("/u/d") == ["c"] && world.list("/u") == ["d"]);
}

#[test]
fn changes_go_to_the_upper_layer() {
    let world = world();
    world.mkdir("/l2/d").unwrap();
    world.write("/l2/d/f", "lower").unwrap();
    world.write("/l2/g", "lower").unwrap();
    over(&world, ON).unwrap();
    let before = world.stat("/m/d/f").unwrap();
    world.write("/m/d/f", "changed").unwrap();
    assert_eq!(world.read("/m/d/f").unwrap(), "changed");
    assert_eq!(world.read("/u/d/f").unwrap(), "changed");
    assert_eq!(world.read("/l2/d/f").unwrap(), "lower");
    let after = world.stat("/m/d/f").unwrap();
    assert_eq!((before.ino, before.dev), (after.ino, after.dev));
    world.unlink("/m/g").unwrap();
    assert!(is_whiteout(&world, "/u/g"));
    assert_eq!(world.stat("/m/g").unwrap_err(), Errno::ENOENT);
    assert_eq!(world.list("/m"), ["d"]);
    world.write("/m/g", "new").unwrap();
    assert_eq!(world.read("/u/g").unwrap(), "new");
    world.unlink("/m/d/f").unwrap();
    world.rmdir("/m/d").unwrap();
    assert!(is_whiteout(&world, "/u/d"));
    world.mkdir("/m/d").unwrap();
    assert_eq!(get(&world, "/u/d", "trusted.overlay.opaque").unwrap(), b"y");
    assert!(world.list("/m/d").is_empty());
    assert!(world.list("/w/work").is_empty());
}

#[test]
fn renamed_directories_stay_merged() {
    let world = world();
    world.mkdir("/l2/d").unwrap();
    world.mkdir("/l2/d/sub").unwrap();
    world.write("/l2/d/f", "f").unwrap();
    world.write("/l2/d/sub/g", "g").unwrap();
    world.mkdir("/l1/to").unwrap();
    over(&world, ON).unwrap();
    world.rename("/m/d", "/m/e", 0).unwrap();
    assert_eq!(get(&world, "/u/e", "trusted.overlay.redirect").unwrap(), b"d");
    world.rename("/m/e", "/m/to/e", 0).unwrap();
    assert_eq!(get(&world, "/u/to/e", "trusted.overlay.redirect").unwrap(), b"/d");
    world.rename("/m/to/e/sub", "/m/sub", 0).unwrap();
    assert_eq!(get(&world, "/u/sub", "trusted.overlay.redirect").unwrap(), b"/d/sub");
    let want = shape(&[("sub/", ""), ("sub/g", "g"), ("to/", ""), ("to/e/", ""), ("to/e/f", "f")]);
    assert_eq!(tree(&world, "/m"), want);
    world.umount("/m", 0).unwrap();
    over(&world, ON).unwrap();
    assert_eq!(tree(&world, "/m"), want);
    world.umount("/m", 0).unwrap();
    // Where no redirects are made, directories do not move.
    over(&world, "lowerdir=/l1:/l2,upperdir=/u,workdir=/w").unwrap();
    assert_eq!(world.rename("/m/to", "/m/x", 0), Err(Errno::EXDEV));
    assert_eq!(tree(&world, "/m"), want);
}

#[test]
fn what_was_opened_before_reads_the_copy() {
    let world = world();
    world.write("/l1/f", "lower").unwrap();
    over(&world, ON).unwrap();
    let old = world.open("/m/f", raw::O_RDONLY).unwrap();
    world.write("/m/f", "UPPER").unwrap();
    let mut bytes = [0; 5];
    vfs::rw::kernel_read_exact(&old, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"UPPER");
    world.unlink("/m/f").unwrap();
    vfs::rw::kernel_read_exact(&old, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"UPPER");
}

#[test]
fn random_changes_look_as_in_one_file_system() {
    // The same changes are made in an overlay and in a plain directory with the same contents.
    let world = world();
    world.mkdir("/plain").unwrap();
    let names = ["a", "b", "c"];
    for base in ["/l2", "/plain"] {
        for dir in names {
            world.mkdir(&format!("{base}/{dir}")).unwrap();
            for file in names {
                world.write(&format!("{base}/{dir}/{file}"), &format!("{dir}{file}")).unwrap();
            }
        }
    }
    over(&world, ON).unwrap();
    let mut seed = 1u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for step in 0..2000 {
        let mut path = || match next(3) {
            0 => names[next(3)].to_string(),
            _ => format!("{}/{}", names[next(3)], names[next(3)]),
        };
        let (one, two) = (path(), path());
        let change = next(6);
        let run = |base: &str| {
            let (one, two) = (format!("{base}/{one}"), format!("{base}/{two}"));
            match change {
                0 => world.write(&one, &format!("{step}")),
                1 => world.unlink(&one),
                2 => world.rmdir(&one),
                3 => world.mkdir(&one),
                4 => world.rename(&one, &two, 0),
                _ => world.rename(&one, &two, raw::RENAME_EXCHANGE),
            }
        };
        let (ours, plain) = (run("/m"), run("/plain"));
        assert_eq!(ours, plain, "step {step}: change {change} of {one} and {two}");
        if step % 50 == 0 {
            let plain: BTreeMap<_, _> = tree(&world, "/plain")
                .into_iter()
                .map(|(path, text)| (path.trim_start_matches("/plain/").to_string(), text))
                .collect();
            assert_eq!(tree(&world, "/m"), plain, "step {step}");
        }
        if step % 400 == 399 {
            world.umount("/m", 0).unwrap();
            over(&world, ON).unwrap();
        }
    }
    assert!(world.list("/w/work").is_empty());
}
