//! The overlay file system: mounts, merged trees, names. Linux's `Documentation/filesystems/overlayfs.rst`.

use crate::mounts::{alone, mount, umount};
use crate::prelude::*;
use crate::sys::Result;
use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink as link_to};

tests![
    is_known,
    merged_tree,
    mount_errors,
    layers_must_not_overlap,
    escapes_in_options,
    options_are_shown,
    layers_one_by_one,
    stacking_depth,
    whiteouts,
    whiteouts_that_are_attributes,
    opaque_directories,
    directories_over_whiteouts,
    rmdir_of_merged,
    rename_files,
    rename_exchange,
    rename_needs_redirect,
    redirects,
    redirect_not_followed,
    listings,
    read_only_without_upper,
    remount,
    volatile_leaves_a_mark,
    layers_are_free_after_unmount,
    statfs_is_of_the_upper_layer,
    own_attributes_are_hidden,
    in_a_user_namespace,
    nameless_files,
];

pub(crate) fn cs(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// The usual options.
pub(crate) const USUAL: &str = "lowerdir=t/l,upperdir=t/u,workdir=t/w";

/// Runs `body` with empty layers t/l, t/u and t/w on one tmpfs, and an empty directory m.
pub(crate) fn layers(body: impl FnOnce() -> Outcome) -> Outcome {
    alone(|| {
        for dir in ["t", "m"] {
            fs::create_dir(dir)?;
        }
        mount(c"none", c"t", c"tmpfs", 0, c"mode=755")?;
        for dir in ["t/l", "t/u", "t/w"] {
            fs::create_dir(dir)?;
        }
        body()
    })
}

/// Mounts an overlay on m.
pub(crate) fn over(options: &str) -> Result<()> {
    over_at(c"m", options)
}

pub(crate) fn over_at(at: &CStr, options: &str) -> Result<()> {
    mount(c"overlay", at, c"overlay", 0, &cs(options)).map(drop)
}

pub(crate) fn remounted(options: &str) -> Result<()> {
    umount(c"m", 0)?;
    over(options)
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &str) -> std::result::Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub(crate) fn text(path: &str) -> std::result::Result<String, Failure> {
    Ok(fs::read_to_string(path)?)
}

pub(crate) fn get_xattr(path: &str, name: &str) -> Result<Vec<u8>> {
    let mut value = vec![0; 256];
    let (path, name) = (cs(path), cs(name));
    let len = sys!(SYS_lgetxattr, path.as_ptr(), name.as_ptr(), value.as_mut_ptr(), value.len())?;
    value.truncate(len);
    Ok(value)
}

pub(crate) fn set_xattr(path: &str, name: &str, value: &str) -> Result<()> {
    let (path, name) = (cs(path), cs(name));
    sys!(SYS_lsetxattr, path.as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), 0).map(drop)
}

pub(crate) fn list_xattr(path: &str) -> Result<Vec<String>> {
    let mut list = vec![0; 4096];
    let len = sys!(SYS_llistxattr, cs(path).as_ptr(), list.as_mut_ptr(), list.len())?;
    let parts = list.get(..len).unwrap_or_default().split(|b| *b == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = parts.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

pub(crate) fn is_whiteout(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

/// Nothing is left in the work directory, but perhaps a whiteout that has all the names of whiteouts.
fn work_is_done() -> Outcome {
    for name in names("t/w/work")? {
        check!(is_whiteout(&format!("t/w/work/{name}")), "{name}");
    }
    Ok(())
}

fn rename(from: &str, to: &str, flags: u32) -> Result<()> {
    sys!(SYS_renameat2, CWD, cs(from).as_ptr(), CWD, cs(to).as_ptr(), flags).map(drop)
}

const EXCHANGE: u32 = 2;
const NOREPLACE: u32 = 1;
const WHITEOUT: u32 = 4;

fn is_known() -> Outcome {
    check!(text("/proc/filesystems")?.lines().any(|line| line == "nodev\toverlay"));
    Ok(())
}

fn merged_tree() -> Outcome {
    layers(|| {
        for dir in ["t/l/d", "t/u/d", "t/l/only", "t/l2", "t/l2/d", "t/l2/deep"] {
            fs::create_dir(dir)?;
        }
        for (path, what) in [
            ("t/l/a", "lower a"),
            ("t/l/b", "lower b"),
            ("t/u/b", "upper b"),
            ("t/l/d/x", "lower x"),
            ("t/u/d/y", "upper y"),
            ("t/l2/d/x", "lowest x"),
            ("t/l2/d/z", "lowest z"),
            ("t/l2/a", "lowest a"),
            ("t/l2/only", "a file below a directory"),
        ] {
            fs::write(path, what)?;
        }
        link_to("a", "t/l/link")?;
        over("lowerdir=t/l:t/l2,upperdir=t/u,workdir=t/w")?;
        check_eq!(names("m")?, ["a", "b", "d", "deep", "link", "only"]);
        check_eq!(names("m/d")?, ["x", "y", "z"]);
        check_eq!(names("m/only")?, Vec::<String>::new());
        check_eq!(text("m/a")?, "lower a");
        check_eq!(text("m/b")?, "upper b");
        check_eq!(text("m/d/x")?, "lower x");
        check_eq!(text("m/d/y")?, "upper y");
        check_eq!(text("m/d/z")?, "lowest z");
        check_eq!(text("m/link")?, "lower a");
        check_eq!(fs::read_link("m/link")?.to_string_lossy(), "a");
        // Merged directories have one link.
        check_eq!(fs::metadata("m/d")?.nlink(), 1);
        check_eq!(fs::metadata("m/a")?.nlink(), 1);
        // What is made goes to the upper layer.
        fs::write("m/new", "new")?;
        fs::create_dir("m/d/newdir")?;
        fs::write("m/deep/in", "in")?;
        check_eq!(text("t/u/new")?, "new");
        check!(fs::metadata("t/u/d/newdir")?.is_dir());
        check_eq!(text("t/u/deep/in")?, "in");
        check_eq!(names("t/l")?, ["a", "b", "d", "link", "only"]);
        check_eq!(names("t/l2/deep")?, Vec::<String>::new());
        check_eq!(names("m")?, ["a", "b", "d", "deep", "link", "new", "only"]);
        check_eq!(text("m/../m/new")?, "new");
        check!(fs::metadata("m/a/").is_err());
        check_err!(stat(c"m/missing"), ENOENT);
        check_err!(stat(c"m/a/b"), ENOTDIR);
        let long = cs(&format!("m/{}", "n".repeat(256)));
        check_err!(stat(&long), ENAMETOOLONG);
        Ok(())
    })
}

fn mount_errors() -> Outcome {
    layers(|| {
        fs::write("t/file", "")?;
        fs::create_dir("t/u/in")?;
        fs::create_dir("other")?;
        mount(c"none", c"other", c"tmpfs", 0, c"")?;
        fs::create_dir("other/w")?;
        for (options, error) in [
            ("", EINVAL),
            ("upperdir=t/u,workdir=t/w", EINVAL),
            ("lowerdir=t/l", EINVAL),
            ("lowerdir=t/l,upperdir=t/u", EINVAL),
            ("lowerdir=t/missing,upperdir=t/u,workdir=t/w", ENOENT),
            ("lowerdir=t/file,upperdir=t/u,workdir=t/w", EINVAL),
            ("lowerdir=t/l,upperdir=t/file,workdir=t/w", EINVAL),
            ("lowerdir=t/l,upperdir=t/u,workdir=t/missing", ENOENT),
            ("lowerdir=t/l,upperdir=t/u,workdir=t/u/in", EINVAL),
            ("lowerdir=t/l,upperdir=t/u,workdir=t/u", EINVAL),
            ("lowerdir=t/l,upperdir=t/u/in,workdir=t/u", EINVAL),
            ("lowerdir=t/l,upperdir=t/u,workdir=other/w", EINVAL),
            ("lowerdir=:t/l,upperdir=t/u,workdir=t/w", EINVAL),
            ("lowerdir=t/l:,upperdir=t/u,workdir=t/w", EINVAL),
            ("lowerdir=t/l:::t/u/in", EINVAL),
            ("lowerdir=t/l::t/u/in", EINVAL),
            ("lowerdir,upperdir=t/u,workdir=t/w", EINVAL),
            ("lowerdir=t/l,upperdir,workdir=t/w", EINVAL),
            ("lowerdir=t/l,upperdir=,workdir=t/w", EINVAL),
            ("lowerdir=t/l,upperdir=t/u,workdir=t/w,nonsense", EINVAL),
            ("lowerdir=t/l,upperdir=t/u,workdir=t/w,volatile=1", EINVAL),
            ("lowerdir=t/l,upperdir=t/u,workdir=t/w,xino=maybe", EINVAL),
            ("lowerdir=t/l,upperdir=t/u,workdir=t/w,redirect_dir", EINVAL),
            ("lowerdir=t/l,upperdir=t/u,workdir=t/w,userxattr,redirect_dir=on", EINVAL),
        ] {
            let result = over(options);
            check!(result == Err(Errno(error)), "{options}: {result:?}");
        }
        // What is off can be said to be off.
        over(&format!("{USUAL},index=off,nfs_export=off,metacopy=off,verity=off,uuid=null,xino=off"))?;
        umount(c"m", 0)?;
        // The last of the same options counts.
        over("lowerdir=t/missing/..,lowerdir=t/l,upperdir=t/u,workdir=t/w").err();
        let _ = umount(c"m", 0);
        over("lowerdir=t/l,upperdir=t/u/in,upperdir=t/u,workdir=t/w")?;
        check_eq!(names("m")?, ["in"]);
        Ok(())
    })
}

fn layers_must_not_overlap() -> Outcome {
    layers(|| {
        fs::create_dir_all("t/l/in/deep")?;
        fs::create_dir("t/u/in")?;
        for options in [
            "lowerdir=t/u,upperdir=t/u,workdir=t/w",
            "lowerdir=t/w,upperdir=t/u,workdir=t/w",
            "lowerdir=t/l:t/l,upperdir=t/u,workdir=t/w",
            "lowerdir=t/l:t/l/in",
            "lowerdir=t/l/in/deep:t/l",
            "lowerdir=t/u/in,upperdir=t/u,workdir=t/w",
        ] {
            let result = over(options);
            check!(result == Err(Errno(ELOOP)), "{options}: {result:?}");
        }
        // A layer that is inside of another one, or turns up there, is not entered.
        over("lowerdir=t/l,upperdir=t/l/in,workdir=t/w")?;
        check_err!(stat(c"m/in"), ELOOP);
        check_eq!(names("m")?, ["deep", "in"]);
        umount(c"m", 0)?;
        fs::create_dir("t/l2")?;
        over("lowerdir=t/l:t/l2,upperdir=t/u,workdir=t/w")?;
        fs::rename("t/l2", "t/l/in/l2")?;
        check_err!(stat(c"m/in/l2"), ELOOP);
        umount(c"m", 0)?;
        // Two mounts with one upper directory are a bad idea, not an error.
        fs::create_dir("n")?;
        over(USUAL)?;
        over_at(c"n", USUAL)?;
        Ok(())
    })
}

fn escapes_in_options() -> Outcome {
    layers(|| {
        for (dir, file) in [("t/a:b", "1"), ("t/c,d", "2"), ("t/e\\f", "3")] {
            fs::create_dir(dir)?;
            fs::write(format!("{dir}/{file}"), file)?;
        }
        over(r"lowerdir=t/a\:b:t/c\,d:t/e\\f")?;
        check_eq!(names("m")?, ["1", "2", "3"]);
        umount(c"m", 0)?;
        fs::create_dir("t/u,1")?;
        over(r"lowerdir=t/a\:b,upperdir=t/u\,1,workdir=t/w")?;
        fs::write("m/new", "")?;
        check_eq!(names("t/u,1")?, ["new"]);
        Ok(())
    })
}

/// The options of the mount on m.
fn shown() -> std::result::Result<String, Failure> {
    let all = text("/proc/self/mounts")?;
    let line = all.lines().rfind(|line| line.starts_with("overlay ")).unwrap_or_default();
    Ok(line.split(' ').nth(3).unwrap_or_default().to_string())
}

fn options_are_shown() -> Outcome {
    layers(|| {
        over(USUAL)?;
        check_eq!(shown()?, format!("rw,relatime,{USUAL},uuid=on"));
        umount(c"m", 0)?;
        fs::create_dir("t/l2")?;
        over("lowerdir=t/l:t/l2,redirect_dir=nofollow,uuid=null")?;
        check_eq!(shown()?, "ro,relatime,lowerdir=t/l:t/l2,redirect_dir=nofollow,uuid=null");
        umount(c"m", 0)?;
        fs::create_dir_all("t/v/u")?;
        fs::create_dir_all("t/v/w")?;
        let more = "volatile,userxattr,redirect_dir=nofollow,xino=on,uuid=null";
        over(&format!("lowerdir=t/l,upperdir=t/v/u,workdir=t/v/w,{more}"))?;
        let options = shown()?;
        for part in
            [",fsync=volatile", ",userxattr", ",redirect_dir=nofollow", "upperdir=t/v/u,workdir=t/v/w"]
        {
            check!(options.contains(part), "{options}");
        }
        // All layers are on one file system: there is nothing to map.
        check!(!options.contains("xino"), "{options}");
        umount(c"m", 0)?;
        over(&format!("{USUAL},fsync=strict,uuid=null"))?;
        check!(shown()?.contains(",fsync=strict"));
        umount(c"m", 0)?;
        over(&format!("{USUAL},volatile,fsync=auto,uuid=null"))?;
        check!(!shown()?.contains("sync"));
        umount(c"m", 0)?;
        // What was said for the upper layer counts for nothing without one.
        over("lowerdir=t/l:t/l2,workdir=t/w,volatile,uuid=null")?;
        check_eq!(shown()?, "ro,relatime,lowerdir=t/l:t/l2,redirect_dir=on,uuid=null");
        Ok(())
    })
}

fn configure(fd: i32, key: &str, value: &str) -> Result<()> {
    sys!(SYS_fsconfig, fd, 1, cs(key).as_ptr(), cs(value).as_ptr(), 0).map(drop)
}

fn message(fd: i32) -> String {
    read_vec(fd, 200).map(|text| String::from_utf8_lossy(&text).trim_end().to_string()).unwrap_or_default()
}

fn layers_one_by_one() -> Outcome {
    layers(|| {
        for (dir, file) in [("t/x:y", "1"), ("t/z,z", "2")] {
            fs::create_dir(dir)?;
            fs::write(format!("{dir}/{file}"), file)?;
        }
        fs::write("t/l/1", "topmost")?;
        fs::write("t/file", "")?;
        let fd = sys!(SYS_fsopen, c"overlay".as_ptr(), 1)? as i32;
        check_err!(configure(fd, "lowerdir+", "t/missing"), ENOENT);
        check_err!(configure(fd, "lowerdir+", "t/file"), EINVAL);
        check_eq!(message(fd), "e overlay: t/file is not a directory");
        check_err!(configure(fd, "lowerdir+", ""), EINVAL);
        check_eq!(message(fd), "e overlay: Bad value for 'lowerdir+'");
        check_err!(configure(fd, "nonsense", "1"), EINVAL);
        check_eq!(message(fd), "e overlay: Unknown parameter 'nonsense'");
        // Names are taken as they are.
        configure(fd, "lowerdir+", "t/l")?;
        configure(fd, "lowerdir+", "t/x:y")?;
        configure(fd, "lowerdir+", "t/z,z")?;
        configure(fd, "upperdir", "t/u")?;
        configure(fd, "workdir", "t/w")?;
        sys!(SYS_fsconfig, fd, 6, 0, 0, 0)?;
        let mnt = sys!(SYS_fsmount, fd, 1, 0)? as i32;
        sys!(SYS_move_mount, mnt, c"".as_ptr(), CWD, c"m".as_ptr(), 4)?;
        check_eq!(names("m")?, ["1", "2"]);
        check_eq!(text("m/1")?, "topmost");
        let all = text("/proc/self/mounts")?;
        let line = all.lines().find(|line| line.contains("/m overlay ")).unwrap_or_default();
        check!(line.contains(",lowerdir+=t/l,lowerdir+=t/x:y,lowerdir+=t/z\\054z,upperdir=t/u,"), "{line}");
        // Nothing can be changed later.
        check_err!(configure(fd, "lowerdir+", "t/l"), EINVAL);
        check_eq!(message(fd), "e overlay: No changes allowed in reconfigure");
        // One kind of list or the other.
        let fd = sys!(SYS_fsopen, c"overlay".as_ptr(), 1)? as i32;
        configure(fd, "lowerdir", "t/l")?;
        check_err!(configure(fd, "lowerdir+", "t/x:y"), EINVAL);
        check_eq!(message(fd), "e overlay: lowerdir+ and datadir+ cannot follow lowerdir");
        Ok(())
    })
}

fn stacking_depth() -> Outcome {
    layers(|| {
        fs::write("t/l/f", "f")?;
        for dir in ["n", "o", "t/u2", "t/w2", "t/u3", "t/w3"] {
            fs::create_dir(dir)?;
        }
        over(USUAL)?;
        over_at(c"n", "lowerdir=m,upperdir=t/u2,workdir=t/w2")?;
        check_eq!(text("n/f")?, "f");
        fs::write("n/f", "changed")?;
        check_eq!(text("n/f")?, "changed");
        check_eq!(text("m/f")?, "f");
        fs::remove_file("n/f")?;
        check!(is_whiteout("t/u2/f"));
        check_eq!(names("n")?, Vec::<String>::new());
        check_err!(over_at(c"o", "lowerdir=n,upperdir=t/u3,workdir=t/w3"), EINVAL);
        // An overlay is no upper layer.
        fs::create_dir("m/u")?;
        fs::create_dir("m/w")?;
        check_err!(over_at(c"o", "lowerdir=t/l,upperdir=m/u,workdir=m/w"), EINVAL);
        Ok(())
    })
}

fn whiteouts() -> Outcome {
    layers(|| {
        fs::create_dir_all("t/l/d/e")?;
        fs::write("t/l/f", "lower")?;
        fs::write("t/l/d/g", "lower")?;
        fs::write("t/u/own", "upper")?;
        over(USUAL)?;
        fs::remove_file("m/f")?;
        check!(is_whiteout("t/u/f"));
        check_err!(stat(c"m/f"), ENOENT);
        check_err!(unlink(c"m/f"), ENOENT);
        check_eq!(names("m")?, ["d", "own"]);
        // A name that is in the upper layer only leaves nothing.
        fs::remove_file("m/own")?;
        check!(!fs::exists("t/u/own")?);
        // A new file takes the place of the whiteout.
        fs::write("m/f", "new")?;
        check_eq!(text("t/u/f")?, "new");
        check_eq!(text("m/f")?, "new");
        fs::remove_file("m/f")?;
        check!(is_whiteout("t/u/f"));
        link_to("d", "m/f")?;
        check_eq!(fs::read_link("m/f")?.to_string_lossy(), "d");
        fs::remove_file("m/f")?;
        sys!(SYS_mknodat, CWD, c"m/f".as_ptr(), S_IFIFO | 0o600, 0)?;
        check!(fs::symlink_metadata("m/f")?.file_type().is_fifo());
        fs::remove_file("m/f")?;
        fs::write("m/other", "o")?;
        fs::hard_link("m/other", "m/f")?;
        check_eq!(fs::metadata("m/f")?.nlink(), 2);
        check_eq!(fs::metadata("m/f")?.ino(), fs::metadata("m/other")?.ino());
        // In directories of the lower layer, too.
        fs::remove_file("m/d/g")?;
        check!(is_whiteout("t/u/d/g"));
        fs::remove_dir("m/d/e")?;
        check!(is_whiteout("t/u/d/e"));
        check_eq!(names("m/d")?, Vec::<String>::new());
        remounted(USUAL)?;
        check_eq!(names("m")?, ["d", "f", "other"]);
        check_eq!(names("m/d")?, Vec::<String>::new());
        // Whiteouts cannot be made by hand, here.
        check_err!(sys!(SYS_mknodat, CWD, c"m/w".as_ptr(), S_IFCHR, 0), EPERM);
        work_is_done()?;
        Ok(())
    })
}

fn whiteouts_that_are_attributes() -> Outcome {
    layers(|| {
        fs::create_dir_all("t/l1/d")?;
        fs::create_dir_all("t/l/d")?;
        set_xattr("t/l1/d", "trusted.overlay.opaque", "x")?;
        fs::write("t/l1/d/gone", "")?;
        set_xattr("t/l1/d/gone", "trusted.overlay.whiteout", "y")?;
        fs::write("t/l1/d/empty", "")?;
        fs::write("t/l1/d/full", "x")?;
        set_xattr("t/l1/d/full", "trusted.overlay.whiteout", "y")?;
        for name in ["gone", "empty", "full", "kept"] {
            fs::write(format!("t/l/d/{name}"), "lower")?;
        }
        over("lowerdir=t/l1:t/l")?;
        check_eq!(names("m/d")?, ["empty", "full", "kept"]);
        check_err!(stat(c"m/d/gone"), ENOENT);
        check_eq!(text("m/d/empty")?, "");
        check_eq!(text("m/d/full")?, "x");
        check_eq!(text("m/d/kept")?, "lower");
        Ok(())
    })
}

fn opaque_directories() -> Outcome {
    layers(|| {
        for dir in ["t/l/d", "t/u/d", "t/l/e", "t/u/e"] {
            fs::create_dir(dir)?;
        }
        fs::write("t/l/d/below", "")?;
        fs::write("t/u/d/above", "")?;
        fs::write("t/l/e/below", "")?;
        set_xattr("t/u/d", "trusted.overlay.opaque", "y")?;
        set_xattr("t/u/e", "trusted.overlay.opaque", "n")?;
        over(USUAL)?;
        check_eq!(names("m/d")?, ["above"]);
        check_err!(stat(c"m/d/below"), ENOENT);
        check_eq!(names("m/e")?, ["below"]);
        fs::remove_file("m/d/above")?;
        check_eq!(names("t/u/d")?, Vec::<String>::new());
        Ok(())
    })
}

fn directories_over_whiteouts() -> Outcome {
    layers(|| {
        fs::create_dir_all("t/l/d/sub")?;
        fs::write("t/l/d/f", "lower")?;
        over(USUAL)?;
        fs::remove_dir_all("m/d")?;
        check!(is_whiteout("t/u/d"));
        fs::create_dir("m/d")?;
        check_eq!(get_xattr("t/u/d", "trusted.overlay.opaque")?, b"y");
        check_eq!(names("m/d")?, Vec::<String>::new());
        fs::write("m/d/f", "new")?;
        remounted(USUAL)?;
        check_eq!(names("m/d")?, ["f"]);
        check_eq!(text("m/d/f")?, "new");
        // Mode and owner are those of any new directory.
        fs::remove_dir_all("m/d")?;
        sys!(SYS_umask, 0o027)?;
        fs::create_dir("m/d")?;
        check_eq!(fs::metadata("m/d")?.mode() & 0o7777, 0o750);
        Ok(())
    })
}

fn rmdir_of_merged() -> Outcome {
    layers(|| {
        for dir in ["t/l/d", "t/u/d", "t/l/only"] {
            fs::create_dir(dir)?;
        }
        fs::write("t/l/d/f", "")?;
        fs::write("t/u/d/g", "")?;
        fs::write("t/l/only/f", "")?;
        over(USUAL)?;
        check_err!(rmdir(c"m/d"), ENOTEMPTY);
        fs::remove_file("m/d/f")?;
        check_err!(rmdir(c"m/d"), ENOTEMPTY);
        fs::remove_file("m/d/g")?;
        // The upper directory holds a whiteout, which is nothing.
        check!(is_whiteout("t/u/d/f"));
        rmdir(c"m/d")?;
        check!(is_whiteout("t/u/d"));
        check_err!(rmdir(c"m/only"), ENOTEMPTY);
        check_err!(unlink(c"m/only"), EISDIR);
        fs::remove_file("m/only/f")?;
        rmdir(c"m/only")?;
        check!(is_whiteout("t/u/only"));
        check_eq!(names("m")?, Vec::<String>::new());
        work_is_done()?;
        // Who is in a directory that goes sees that it is gone.
        fs::create_dir("m/d")?;
        let dir = open(c"m/d", O_RDONLY | O_DIRECTORY, 0)?;
        rmdir(c"m/d")?;
        check_err!(sys!(SYS_mkdirat, dir, c"x".as_ptr(), 0o755), ENOENT);
        check_eq!(fstat(dir)?.st_nlink, 0);
        Ok(())
    })
}

fn rename_files() -> Outcome {
    layers(|| {
        for (path, what) in [("t/l/a", "a"), ("t/l/b", "b"), ("t/l/c", "c"), ("t/u/u", "u")] {
            fs::write(path, what)?;
        }
        fs::create_dir("t/l/d")?;
        over(USUAL)?;
        // From the lower layer: a whiteout stays.
        rename("m/a", "m/x", 0)?;
        check!(is_whiteout("t/u/a"));
        check_eq!(text("t/u/x")?, "a");
        check_eq!(text("m/x")?, "a");
        check_err!(stat(c"m/a"), ENOENT);
        // Of the upper layer only: nothing stays.
        rename("m/u", "m/v", 0)?;
        check!(!fs::exists("t/u/u")?);
        // Onto a whiteout, from below one.
        rename("m/v", "m/a", 0)?;
        check_eq!(text("m/a")?, "u");
        check!(!fs::exists("t/u/v")?);
        fs::remove_file("m/a")?;
        rename("m/b", "m/a", 0)?;
        check_eq!(text("m/a")?, "b");
        check!(is_whiteout("t/u/b"));
        // Over a file of the lower layer.
        rename("m/a", "m/c", 0)?;
        check_eq!(text("m/c")?, "b");
        check!(is_whiteout("t/u/a"));
        // Into a directory of the lower layer.
        rename("m/c", "m/d/c", 0)?;
        check_eq!(text("m/d/c")?, "b");
        check!(is_whiteout("t/u/c"));
        check_eq!(text("t/u/d/c")?, "b");
        check_eq!(names("m")?, ["d", "x"]);
        check_eq!(names("m/d")?, ["c"]);
        check_err!(rename("m/x", "m/d/c", NOREPLACE), EEXIST);
        check_err!(rename("m/x", "m/y", WHITEOUT), EINVAL);
        check_err!(rename("m/x", "m/d", 0), EISDIR);
        check_err!(rename("m/d", "m/x", 0), ENOTDIR);
        remounted(USUAL)?;
        check_eq!(names("m")?, ["d", "x"]);
        check_eq!(text("m/d/c")?, "b");
        work_is_done()?;
        Ok(())
    })
}

fn rename_exchange() -> Outcome {
    layers(|| {
        fs::write("t/l/a", "a")?;
        fs::write("t/u/b", "b")?;
        fs::create_dir("t/u/d")?;
        fs::create_dir("t/l/low")?;
        over(USUAL)?;
        rename("m/a", "m/b", EXCHANGE)?;
        check_eq!(text("m/a")? + &text("m/b")?, "ba");
        rename("m/a", "m/d", EXCHANGE)?;
        check!(fs::metadata("m/a")?.is_dir());
        check_eq!(text("m/d")?, "b");
        check_err!(rename("m/d", "m/low", EXCHANGE), EXDEV);
        check_err!(rename("m/a", "m/missing", EXCHANGE), ENOENT);
        remounted(USUAL)?;
        check_eq!(names("m")?, ["a", "b", "d", "low"]);
        check_eq!(text("m/d")? + &text("m/b")?, "ba");
        Ok(())
    })
}

fn rename_needs_redirect() -> Outcome {
    layers(|| {
        fs::create_dir("t/l/low")?;
        fs::create_dir("t/l/both")?;
        fs::create_dir("t/u/both")?;
        fs::create_dir("t/u/up")?;
        over(USUAL)?;
        check_err!(rename("m/low", "m/x", 0), EXDEV);
        check_err!(rename("m/both", "m/x", 0), EXDEV);
        rename("m/up", "m/x", 0)?;
        // Into a merged directory: what is in the lower layer there must stay hidden.
        fs::create_dir("t/l/both/late")?;
        fs::write("t/l/both/late/f", "")?;
        fs::create_dir("m/made")?;
        rename("m/made", "m/both/made", 0)?;
        check_eq!(get_xattr("t/u/both/made", "trusted.overlay.opaque")?, b"y");
        // A directory over an empty one that holds whiteouts.
        fs::remove_dir_all("m/low")?;
        fs::create_dir("m/low")?;
        rename("m/x", "m/low", 0)?;
        check_eq!(names("m")?, ["both", "low"]);
        Ok(())
    })
}

fn redirects() -> Outcome {
    layers(|| {
        const ON: &str = "lowerdir=t/l,upperdir=t/u,workdir=t/w,redirect_dir=on";
        fs::create_dir_all("t/l/d/sub")?;
        fs::create_dir_all("t/l/to")?;
        fs::write("t/l/d/f", "f")?;
        fs::write("t/l/d/sub/g", "g")?;
        over(ON)?;
        rename("m/d", "m/e", 0)?;
        check_eq!(get_xattr("t/u/e", "trusted.overlay.redirect")?, b"d");
        check!(is_whiteout("t/u/d"));
        check_eq!(names("m/e")?, ["f", "sub"]);
        check_eq!(text("m/e/sub/g")?, "g");
        rename("m/e", "m/to/e", 0)?;
        check_eq!(get_xattr("t/u/to/e", "trusted.overlay.redirect")?, b"/d");
        rename("m/to/e/sub", "m/sub", 0)?;
        check_eq!(get_xattr("t/u/sub", "trusted.overlay.redirect")?, b"/d/sub");
        check_eq!(names("m")?, ["sub", "to"]);
        let check = || -> Outcome {
            check_eq!(names("m/to/e")?, ["f"]);
            check_eq!(text("m/to/e/f")?, "f");
            check_eq!(names("m/sub")?, ["g"]);
            check_eq!(text("m/sub/g")?, "g");
            Ok(())
        };
        check()?;
        remounted(ON)?;
        check()?;
        // Redirects are followed, too, where none are made.
        remounted(USUAL)?;
        check()?;
        // The old name is free for something else.
        fs::create_dir("m/d")?;
        check_eq!(names("m/d")?, Vec::<String>::new());
        Ok(())
    })
}

fn redirect_not_followed() -> Outcome {
    layers(|| {
        fs::create_dir("t/l/d")?;
        fs::create_dir("t/u/e")?;
        fs::create_dir("t/u/bad")?;
        set_xattr("t/u/e", "trusted.overlay.redirect", "d")?;
        set_xattr("t/u/bad", "trusted.overlay.redirect", "a/b")?;
        over(&format!("{USUAL},redirect_dir=nofollow"))?;
        check_err!(stat(c"m/e"), EPERM);
        umount(c"m", 0)?;
        over(USUAL)?;
        check!(stat(c"m/e").is_ok());
        check_err!(stat(c"m/bad"), EINVAL);
        Ok(())
    })
}

fn listings() -> Outcome {
    layers(|| {
        for number in 0..150 {
            fs::write(format!("t/l/l{number:03}"), "")?;
            fs::write(format!("t/u/u{number:03}"), "")?;
        }
        fs::create_dir("t/u/pure")?;
        fs::write("t/u/pure/f", "")?;
        over(USUAL)?;
        check_eq!(names("m")?.len(), 301);
        // What is there under its number is there in the listing, and only once.
        let mut all = std::collections::BTreeMap::new();
        for entry in fs::read_dir("m")? {
            use std::os::unix::fs::DirEntryExt;
            let entry = entry?;
            check_eq!(entry.ino(), fs::symlink_metadata(entry.path())?.ino());
            check!(all.insert(entry.file_name(), ()).is_none());
        }
        // An open listing is complete, whatever happens meanwhile; from the start it shows what is there now.
        let fd = open(c"m", O_RDONLY | O_DIRECTORY, 0)?;
        let mut buffer = vec![0u8; 512];
        let first = sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len())?;
        check!(first > 0);
        let at = seek(fd, 0, SEEK_CUR)?;
        fs::write("m/later", "")?;
        let mut rest = 0;
        loop {
            let got = sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len())?;
            if got == 0 {
                break;
            }
            rest += got;
        }
        check!(rest > 5000, "{rest}");
        check_eq!(seek(fd, at as i64, SEEK_SET)?, at);
        check!(sys!(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len())? > 0);
        check_eq!(names("m")?.len(), 302);
        fs::remove_file("m/l000")?;
        check_eq!(names("m")?.len(), 301);
        // A directory of one layer.
        check_eq!(names("m/pure")?, ["f"]);
        fs::write("m/pure/g", "")?;
        check_eq!(names("m/pure")?, ["f", "g"]);
        for dir in [c"m", c"m/pure"] {
            let fd = open(dir, O_RDONLY | O_DIRECTORY, 0)?;
            check_err!(sys!(SYS_read, fd, buffer.as_mut_ptr(), 1), EISDIR);
            sys!(SYS_fsync, fd)?;
            close(fd)?;
        }
        Ok(())
    })
}

fn read_only_without_upper() -> Outcome {
    layers(|| {
        fs::create_dir("t/l2")?;
        fs::write("t/l/a", "a")?;
        fs::write("t/l2/b", "b")?;
        over("lowerdir=t/l:t/l2")?;
        check_eq!(names("m")?, ["a", "b"]);
        check_err!(open(c"m/new", O_CREAT | O_WRONLY, 0o644), EROFS);
        check_err!(open(c"m/a", O_WRONLY, 0), EROFS);
        check_err!(unlink(c"m/a"), EROFS);
        check_err!(sys!(SYS_fchmodat, CWD, c"m/a".as_ptr(), 0o600), EROFS);
        check_err!(mkdir(c"m/d", 0o755), EROFS);
        check_err!(mount(c"", c"m", c"", MS_REMOUNT, c""), EROFS);
        mount(c"", c"m", c"", MS_REMOUNT | MS_RDONLY, c"")?;
        // Of a read-only file system an upper layer cannot be.
        umount(c"m", 0)?;
        mount(c"", c"t", c"", MS_REMOUNT | MS_RDONLY, c"")?;
        check_err!(over(USUAL), EINVAL);
        over("lowerdir=t/l:t/l2")?;
        check_eq!(text("m/b")?, "b");
        Ok(())
    })
}

fn remount() -> Outcome {
    layers(|| {
        fs::write("t/l/a", "a")?;
        over(USUAL)?;
        fs::write("m/new", "")?;
        let fd = open(c"m/new", O_WRONLY, 0)?;
        check_err!(mount(c"", c"m", c"", MS_REMOUNT | MS_RDONLY, c""), EBUSY);
        close(fd)?;
        // Options are not looked at.
        mount(c"", c"m", c"", MS_REMOUNT | MS_RDONLY, c"nonsense=1")?;
        check_err!(open(c"m/a", O_WRONLY, 0), EROFS);
        check_eq!(names("t/u")?, ["new"]);
        mount(c"", c"m", c"", MS_REMOUNT, c"")?;
        fs::write("m/a", "changed")?;
        check_eq!(text("t/u/a")?, "changed");
        sys!(SYS_sync)?;
        let fd = open(c"m", O_RDONLY, 0)?;
        sys!(SYS_syncfs, fd)?;
        Ok(())
    })
}

fn volatile_leaves_a_mark() -> Outcome {
    layers(|| {
        over(&format!("{USUAL},volatile"))?;
        fs::write("m/f", "")?;
        let file = fs::File::open("m/f")?;
        file.sync_all()?;
        drop(file);
        check!(fs::exists("t/w/work/incompat/volatile/dirty")?);
        umount(c"m", 0)?;
        check_err!(over(USUAL), EINVAL);
        check_err!(over(&format!("{USUAL},volatile")), EINVAL);
        fs::remove_dir_all("t/w/work/incompat")?;
        over(USUAL)?;
        check_eq!(names("m")?, ["f"]);
        umount(c"m", 0)?;
        // Other things that a mount left are removed.
        fs::write("t/w/work/#1", "")?;
        fs::create_dir("t/w/work/#2")?;
        fs::write("t/w/work/#2/f", "")?;
        over(USUAL)?;
        check_eq!(names("t/w/work")?, Vec::<String>::new());
        Ok(())
    })
}

fn layers_are_free_after_unmount() -> Outcome {
    layers(|| {
        fs::create_dir("lower")?;
        mount(c"none", c"lower", c"tmpfs", 0, c"")?;
        fs::write("lower/f", "f")?;
        over("lowerdir=lower,upperdir=t/u,workdir=t/w")?;
        check_eq!(text("m/f")?, "f");
        // The layers have mounts of their own: what one sees of them may go.
        umount(c"lower", 0)?;
        check_eq!(text("m/f")?, "f");
        fs::write("m/f", "changed")?;
        let fd = open(c"m/f", O_RDONLY, 0)?;
        check_err!(umount(c"m", 0), EBUSY);
        close(fd)?;
        umount(c"m", 0)?;
        umount(c"t", 0)?;
        check_eq!(names("t")?, Vec::<String>::new());
        Ok(())
    })
}

fn statfs_is_of_the_upper_layer() -> Outcome {
    alone(|| {
        for dir in ["t", "m", "l"] {
            fs::create_dir(dir)?;
        }
        mount(c"none", c"t", c"tmpfs", 0, c"size=1m,nr_inodes=77")?;
        mount(c"none", c"l", c"tmpfs", 0, c"size=3m")?;
        fs::create_dir("t/u")?;
        fs::create_dir("t/w")?;
        over("lowerdir=l,upperdir=t/u,workdir=t/w")?;
        let (mut ours, mut upper): (statfs, statfs) = (zeroed(), zeroed());
        sys!(SYS_statfs, c"m".as_ptr(), addr_mut(&mut ours))?;
        sys!(SYS_statfs, c"t".as_ptr(), addr_mut(&mut upper))?;
        check_eq!(ours.f_type as u64, 0x794c_7630);
        check_eq!((ours.f_blocks, ours.f_files), (upper.f_blocks, upper.f_files));
        check_eq!((ours.f_bsize, ours.f_namelen), (upper.f_bsize, 255));
        // Space is that of the upper layer.
        let big = vec![1u8; 2 << 20];
        let full = fs::write("m/big", &big).err().and_then(|error| error.raw_os_error());
        check_eq!(full, Some(ENOSPC));
        fs::remove_file("m/big")?;
        fs::write("l/low", &big)?;
        let full = fs::OpenOptions::new().write(true).open("m/low").err().and_then(|e| e.raw_os_error());
        check_eq!(full, Some(ENOSPC));
        check_eq!(names("t/u")?, Vec::<String>::new());
        check_eq!(names("t/w/work")?, Vec::<String>::new());
        fs::write("m/low", "cut first")?;
        check_eq!(text("t/u/low")?, "cut first");
        Ok(())
    })
}

fn own_attributes_are_hidden() -> Outcome {
    layers(|| {
        fs::create_dir("t/l/d")?;
        fs::write("t/l/f", "")?;
        set_xattr("t/l/f", "user.a", "1")?;
        set_xattr("t/l/f", "trusted.b", "2")?;
        set_xattr("t/l/f", "trusted.overlay.mine", "3")?;
        over(USUAL)?;
        sys!(SYS_fchmodat, CWD, c"m/f".as_ptr(), 0o600)?;
        check_eq!(list_xattr("m/f")?, ["trusted.b", "user.a"]);
        check_err!(get_xattr("m/f", "trusted.overlay.origin"), ENODATA);
        check_err!(get_xattr("m/f", "trusted.overlay.mine"), ENODATA);
        check!(get_xattr("t/u/f", "trusted.overlay.origin").is_ok());
        check_err!(get_xattr("t/u/f", "trusted.overlay.mine"), ENODATA);
        check_eq!(get_xattr("t/u", "trusted.overlay.impure")?, b"y");
        check_eq!(get_xattr("m/f", "user.a")?, b"1");
        // A user's attribute with such a name is kept under another one.
        set_xattr("m/d", "trusted.overlay.opaque", "y")?;
        check_eq!(get_xattr("m/d", "trusted.overlay.opaque")?, b"y");
        check_eq!(list_xattr("m/d")?, ["trusted.overlay.opaque"]);
        check_eq!(get_xattr("t/u/d", "trusted.overlay.overlay.opaque")?, b"y");
        check_err!(get_xattr("t/u/d", "trusted.overlay.opaque"), ENODATA);
        sys!(SYS_lremovexattr, c"m/d".as_ptr(), c"trusted.overlay.opaque".as_ptr())?;
        check_err!(get_xattr("m/d", "trusted.overlay.opaque"), ENODATA);
        check_err!(sys!(SYS_lremovexattr, c"m/d".as_ptr(), c"user.none".as_ptr()), ENODATA);
        // So overlays stand on overlays.
        set_xattr("m/d", "trusted.overlay.opaque", "y")?;
        fs::create_dir_all("t/x/d/below")?;
        fs::create_dir("n")?;
        over_at(c"n", "lowerdir=m:t/x")?;
        check_eq!(names("n/d")?, Vec::<String>::new());
        Ok(())
    })
}

fn in_a_user_namespace() -> Outcome {
    alone(|| {
        for dir in ["t", "m"] {
            fs::create_dir(dir)?;
        }
        if sys!(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS).is_err() {
            return Ok(());
        }
        spew(c"/proc/self/setgroups", "deny")?;
        spew(c"/proc/self/uid_map", "0 0 1")?;
        spew(c"/proc/self/gid_map", "0 0 1")?;
        mount(c"none", c"t", c"tmpfs", 0, c"")?;
        for dir in ["t/l", "t/u", "t/w", "t/l/d", "t/l/e"] {
            fs::create_dir(dir)?;
        }
        fs::write("t/l/f", "lower")?;
        fs::write("t/l/d/g", "lower")?;
        over(&format!("{USUAL},userxattr"))?;
        fs::write("m/f", "changed")?;
        check_eq!(text("t/u/f")?, "changed");
        fs::remove_dir_all("m/d")?;
        check!(is_whiteout("t/u/d"));
        fs::create_dir("m/d")?;
        check_eq!(get_xattr("t/u/d", "user.overlay.opaque")?, b"y");
        check_err!(get_xattr("m/d", "user.overlay.opaque"), ENODATA);
        check_eq!(names("m/d")?, Vec::<String>::new());
        check_err!(rename("m/e", "m/x", 0), EXDEV);
        remounted(&format!("{USUAL},userxattr"))?;
        check_eq!(names("m/d")?, Vec::<String>::new());
        umount(c"m", 0)?;
        // Without, there are no attributes, and what takes them does not work.
        check_err!(over(&format!("{USUAL},redirect_dir=on")), EPERM);
        over(USUAL)?;
        fs::write("m/d/new", "")?;
        check_eq!(names("m/d")?, ["g", "new"]);
        Ok(())
    })
}

fn nameless_files() -> Outcome {
    layers(|| {
        fs::create_dir("t/l/d")?;
        fs::write("t/l/gone", "")?;
        over(USUAL)?;
        let fd = open(c"m/d", O_TMPFILE | O_RDWR, 0o640)?;
        write(fd, b"nameless")?;
        check_eq!(fstat(fd)?.st_nlink, 0);
        check_eq!(fstat(fd)?.st_dev, stat(c"m")?.st_dev);
        check_eq!(names("m/d")?, Vec::<String>::new());
        let path = cs(&format!("/proc/self/fd/{fd}"));
        sys!(SYS_linkat, CWD, path.as_ptr(), CWD, c"m/d/f".as_ptr(), AT_SYMLINK_FOLLOW)?;
        check_eq!(text("m/d/f")?, "nameless");
        check_eq!(text("t/u/d/f")?, "nameless");
        check_eq!(fs::metadata("m/d/f")?.permissions().mode() & 0o777, 0o640);
        // Over a whiteout.
        fs::remove_file("m/gone")?;
        let fd = open(c"m", O_TMPFILE | O_RDWR, 0o600)?;
        let path = cs(&format!("/proc/self/fd/{fd}"));
        sys!(SYS_linkat, CWD, path.as_ptr(), CWD, c"m/gone".as_ptr(), AT_SYMLINK_FOLLOW)?;
        check_eq!(fs::metadata("m/gone")?.nlink(), 1);
        check_err!(sys!(SYS_linkat, CWD, path.as_ptr(), CWD, c"m/d/f".as_ptr(), AT_SYMLINK_FOLLOW), EEXIST);
        Ok(())
    })
}
