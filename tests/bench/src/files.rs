//! Files and directories.

use crate::measure::Rows;
use crate::sys::{call, must};
use libc::{AT_FDCWD, AT_REMOVEDIR, O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR, O_WRONLY, SEEK_SET};
use std::ffi::{CStr, CString};

/// Opens `path`.
pub fn open(path: &CStr, flags: i32) -> usize {
    must!(SYS_openat, AT_FDCWD, path.as_ptr(), flags, 0o644)
}

/// Runs the rows.
pub fn run(rows: &Rows) {
    transfers(rows);
    names(rows);
    changes(rows);
}

/// Names and sizes that change, and calls about descriptors.
fn changes(rows: &Rows) {
    let (one, two) = (c"/tmp/one", c"/tmp/two");
    let fd = open(one, O_RDWR | O_CREAT);
    rows.each("rename", || {
        must!(SYS_renameat2, AT_FDCWD, one.as_ptr(), AT_FDCWD, two.as_ptr(), 0);
        must!(SYS_renameat2, AT_FDCWD, two.as_ptr(), AT_FDCWD, one.as_ptr(), 0);
    });
    rows.each("link_unlink", || {
        must!(SYS_linkat, AT_FDCWD, one.as_ptr(), AT_FDCWD, two.as_ptr(), 0);
        must!(SYS_unlinkat, AT_FDCWD, two.as_ptr(), 0);
    });
    rows.each("symlink_unlink", || {
        must!(SYS_symlinkat, one.as_ptr(), AT_FDCWD, two.as_ptr());
        must!(SYS_unlinkat, AT_FDCWD, two.as_ptr(), 0);
    });
    must!(SYS_symlinkat, one.as_ptr(), AT_FDCWD, two.as_ptr());
    let mut text = [0_u8; 64];
    rows.each("readlink", || {
        must!(SYS_readlinkat, AT_FDCWD, two.as_ptr(), text.as_mut_ptr(), text.len());
    });
    must!(SYS_unlinkat, AT_FDCWD, two.as_ptr(), 0);
    rows.each("access", || {
        must!(SYS_faccessat, AT_FDCWD, one.as_ptr(), libc::R_OK);
    });
    rows.each("chmod", || {
        must!(SYS_fchmodat, AT_FDCWD, one.as_ptr(), 0o644);
    });
    rows.each("dup_close", || {
        let copy = must!(SYS_dup, fd);
        must!(SYS_close, copy);
    });
    rows.each("lseek", || {
        must!(SYS_lseek, fd, 0, SEEK_SET);
    });
    rows.each("getcwd", || {
        must!(SYS_getcwd, text.as_mut_ptr(), text.len());
    });
    rows.each("truncate_64k", || {
        must!(SYS_ftruncate, fd, 65536);
        must!(SYS_ftruncate, fd, 0);
    });
    let mut large = vec![0_u8; 65536];
    rows.each("append_64k_truncate", || {
        must!(SYS_pwrite64, fd, large.as_ptr(), large.len(), 0);
        must!(SYS_ftruncate, fd, 0);
    });
    must!(SYS_pwrite64, fd, large.as_ptr(), large.len(), 0);
    rows.each("read_tmpfs_64k", || {
        must!(SYS_pread64, fd, large.as_mut_ptr(), large.len(), 0);
    });
    must!(SYS_close, fd);
}

fn transfers(rows: &Rows) {
    let mut page = vec![0u8; 4096];
    let zero = open(c"/dev/zero", O_RDONLY);
    let null = open(c"/dev/null", O_WRONLY);
    let file = open(c"/tmp/file", O_RDWR | O_CREAT);
    let buffer = page.as_mut_ptr();
    must!(SYS_write, file, buffer, 4096);
    for (size, label) in [(1, "1"), (4096, "4k")] {
        rows.each(&format!("read_zero_{label}"), || {
            must!(SYS_read, zero, buffer, size);
        });
        rows.each(&format!("write_null_{label}"), || {
            must!(SYS_write, null, buffer, size);
        });
        rows.each(&format!("read_tmpfs_{label}"), || {
            must!(SYS_pread64, file, buffer, size, 0);
        });
        rows.each(&format!("write_tmpfs_{label}"), || {
            must!(SYS_pwrite64, file, buffer, size, 0);
        });
    }
    for fd in [zero, null, file] {
        must!(SYS_close, fd);
    }
}

fn names(rows: &Rows) {
    let path = c"/tmp/file";
    let fd = open(path, O_RDWR | O_CREAT);
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    let out = stat.as_mut_ptr();
    rows.each("stat", || {
        must!(SYS_newfstatat, AT_FDCWD, path.as_ptr(), out, 0);
    });
    rows.each("fstat", || {
        must!(SYS_fstat, fd, out);
    });
    for directory in [c"/tmp/a", c"/tmp/a/b", c"/tmp/a/b/c"] {
        must!(SYS_mkdirat, AT_FDCWD, directory.as_ptr(), 0o755);
    }
    let deep = c"/tmp/a/b/c/file";
    must!(SYS_close, open(deep, O_RDWR | O_CREAT));
    rows.each("stat_deep", || {
        must!(SYS_newfstatat, AT_FDCWD, deep.as_ptr(), out, 0);
    });
    rows.each("stat_absent", || {
        call!(SYS_newfstatat, AT_FDCWD, c"/tmp/absent".as_ptr(), out, 0);
    });
    rows.each("open_close", || {
        must!(SYS_close, open(path, O_RDONLY));
    });
    rows.each("create_unlink", || {
        must!(SYS_close, open(c"/tmp/new", O_RDWR | O_CREAT));
        must!(SYS_unlinkat, AT_FDCWD, c"/tmp/new".as_ptr(), 0);
    });
    rows.each("mkdir_rmdir", || {
        must!(SYS_mkdirat, AT_FDCWD, c"/tmp/dir".as_ptr(), 0o755);
        must!(SYS_unlinkat, AT_FDCWD, c"/tmp/dir".as_ptr(), AT_REMOVEDIR);
    });
    if rows.wants("getdents_100") {
        entries(rows);
    }
    must!(SYS_close, fd);
}

/// Reads a directory of a hundred entries.
fn entries(rows: &Rows) {
    must!(SYS_mkdirat, AT_FDCWD, c"/tmp/many".as_ptr(), 0o755);
    for index in 0..100 {
        if let Ok(path) = CString::new(format!("/tmp/many/entry-{index}")) {
            must!(SYS_close, open(&path, O_RDWR | O_CREAT));
        }
    }
    let directory = open(c"/tmp/many", O_RDONLY | O_DIRECTORY);
    let mut buffer = vec![0u8; 32768];
    rows.each("getdents_100", || {
        must!(SYS_lseek, directory, 0, SEEK_SET);
        while must!(SYS_getdents64, directory, buffer.as_mut_ptr(), buffer.len()) > 0 {}
    });
    must!(SYS_close, directory);
}
