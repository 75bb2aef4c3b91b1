//! The file of a program: opened for execution, denied to writers while it runs.

use crate::process::current;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::fallible::{TryVec, try_arc, try_format, try_to_vec};
use mm::iov::IovIter;
use vfs::fdtable::{Fd, FdFlags};
use vfs::file::File;
use vfs::file_ops::IoFlags;
use vfs::namei::{At, LookupFlags, OpenArgs};
use vfs::path::LookupContext;

/// A program file that somebody runs: nobody writes to it (`ETXTBSY`) as long as this lives.
pub struct Exe(Arc<File>);

impl Exe {
    /// Denies writing to `file`.
    ///
    /// # Errors
    /// `ETXTBSY`: somebody has it open for writing.
    pub fn new(file: Arc<File>) -> Result<Arc<Self>> {
        file.inode().deny_write_access()?;
        Ok(try_arc(Self(file))?)
    }

    /// The program that an open file is.
    ///
    /// # Errors
    /// `EACCES`: not a regular file, not executable, on a mount without execution, open for writing.
    pub fn of_open(file: &File) -> Result<Arc<Self>> {
        let file = open_file(At::File(file), b"", 0, LookupFlags::EMPTY)?;
        Self::new(file).map_err(|error| if error == Errno::ETXTBSY { Errno::EACCES } else { error })
    }

    /// The file.
    pub fn file(&self) -> &Arc<File> {
        &self.0
    }
}

impl Drop for Exe {
    fn drop(&mut self) {
        self.0.inode().allow_write_access();
    }
}

/// What is to be run.
pub struct Program {
    /// The file.
    pub exe: Arc<Exe>,
    /// Its name as `AT_EXECFN` and scripts see it.
    pub name: Vec<u8>,
    /// The name cannot be opened again by an interpreter: the descriptor closes on exec.
    pub inaccessible: bool,
    /// The first bytes of the file, zero padded.
    pub prefix: [u8; super::script::PREFIX_LEN],
    /// How many bytes of `prefix` the file has.
    pub prefix_len: usize,
}

/// The mark of an open for execution (`FMODE_EXEC`).
const FMODE_EXEC: u32 = 0o40;

impl Program {
    /// Opens `path` relative to `dirfd` with `AT_*` flags.
    ///
    /// # Errors
    /// Those of a path walk; `EACCES`: not a regular file, not executable, or on a mount without execution.
    pub fn open(dirfd: i32, path: &[u8], flags: u32) -> Result<Self> {
        let me = current();
        let absolute = path.first() == Some(&b'/');
        let dir = if dirfd == raw::AT_FDCWD || absolute {
            None
        } else {
            Some(me.files().ok_or(Errno::EBADF)?.get_raw(Fd::from_raw(dirfd)?)?)
        };
        let mut resolve = LookupFlags::empty();
        resolve.set(LookupFlags::EMPTY, flags & raw::AT_EMPTY_PATH != 0);
        let nofollow = if flags & raw::AT_SYMLINK_NOFOLLOW != 0 { raw::O_NOFOLLOW } else { 0 };
        let at = dir.as_deref().map_or(At::Cwd, At::File);
        let file = open_file(at, path, nofollow, resolve)?;
        let mut inaccessible = false;
        let name = match &dir {
            None => try_to_vec(path)?,
            Some(_) => {
                inaccessible = me.files().is_some_and(|f| {
                    Fd::from_raw(dirfd)
                        .and_then(|fd| f.flags(fd))
                        .is_ok_and(|fl| fl.contains(FdFlags::CLOEXEC))
                });
                let mut name = try_format(format_args!("/dev/fd/{dirfd}"))?.into_bytes();
                if !path.is_empty() {
                    name.try_push(b'/')?;
                    name.try_extend_from_slice(path)?;
                }
                name
            }
        };
        Self::new(file, name, inaccessible)
    }

    /// The interpreter of a script, or the loader of a program.
    ///
    /// # Errors
    /// As [`Program::open`].
    pub fn interpreter(path: &[u8]) -> Result<Self> {
        let file = open_file(At::Cwd, path, 0, LookupFlags::empty())?;
        Self::new(file, try_to_vec(path)?, false)
    }

    fn new(file: Arc<File>, name: Vec<u8>, inaccessible: bool) -> Result<Self> {
        let exe = Exe::new(file)?;
        let mut prefix = [0; super::script::PREFIX_LEN];
        let prefix_len = read_at(exe.file(), &mut prefix, 0)?;
        Ok(Self { exe, name, inaccessible, prefix, prefix_len })
    }

    /// The file.
    pub fn file(&self) -> &Arc<File> {
        self.exe.file()
    }
}

fn open_file(at: At<'_>, path: &[u8], flags: u32, resolve: LookupFlags) -> Result<Arc<File>> {
    let me = current();
    let cred = me.cred();
    let fs = me.fs().ok_or(Errno::ENOENT)?;
    let nsproxy = me.nsproxy().ok_or(Errno::ENOENT)?;
    let ctx = LookupContext { cred: &cred, fs: &fs, ns: &nsproxy.mnt };
    vfs::namei::open(
        &ctx,
        at,
        path,
        &OpenArgs { flags: raw::O_RDONLY | FMODE_EXEC | flags, mode: 0, resolve },
    )
}

/// Reads up to `buf.len()` bytes at `pos`; fewer only at the end of the file.
///
/// # Errors
/// Those of the file system.
pub fn read_at(file: &Arc<File>, buf: &mut [u8], pos: u64) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
        let mut at = pos.checked_add(done as u64).ok_or(Errno::EINVAL)?;
        let got = file.ops().read_iter(file, &mut IovIter::dest(rest), &mut at, IoFlags::empty())?;
        if got == 0 {
            break;
        }
        done += got;
    }
    Ok(done)
}

/// Reads exactly `buf.len()` bytes at `pos`.
///
/// # Errors
/// `ENOEXEC` if the file ends before (Linux: `EIO` becomes the loader's own error).
pub fn read_exact_at(file: &Arc<File>, buf: &mut [u8], pos: u64) -> Result<()> {
    if read_at(file, buf, pos)? == buf.len() { Ok(()) } else { Err(Errno::EIO) }
}
