//! The file that a dump is written to, or the program that takes it.

use crate::process::{CurrentThread, Process, State, helper, kthread};
use abi::creds::Uid;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::cred::Credentials;
use vfs::file::File;
use vfs::namei::{self, At, OpenArgs};
use vfs::path::LookupContext;
use vfs::types::FileType;

/// Opens the file `name`. `root_only`: the process ran with rights that its user has not; the dump is root's, and its place
/// must not be up to the user.
///
/// # Errors
/// Those of open(2); `EPERM`: the file is not what a dump may be written to.
pub fn open_file(me: &CurrentThread, name: &[u8], root_only: bool) -> Result<Arc<File>> {
    if root_only && name.first() != Some(&b'/') {
        return Err(Errno::EPERM);
    }
    let mut cred = Credentials::clone(&me.cred());
    if root_only {
        cred.fsuid = Uid(0);
    }
    let cred = mm::fallible::try_arc(cred)?;
    let own = me.fs().ok_or(Errno::ENOENT)?;
    let nsproxy = me.nsproxy().ok_or(Errno::ENOENT)?;
    let (fs, ns) = match kthread::parts().filter(|_| root_only) {
        Some((fs, _, proxy)) => (fs, proxy.mnt.clone()),
        None => (own, nsproxy.mnt.clone()),
    };
    let ctx = LookupContext { cred: &cred, fs: &fs, ns: &ns };
    if !root_only {
        // An old dump makes room. One that cannot be removed shows below.
        let _ = namei::unlink(&ctx, At::Cwd, name);
    }
    let flags = raw::O_CREAT | raw::O_WRONLY | raw::O_NOFOLLOW | raw::O_LARGEFILE | raw::O_EXCL;
    let file = namei::open(&ctx, At::Cwd, name, &OpenArgs::from_open(flags, 0o600)?)?;
    let inode = file.inode();
    let plain = inode.nlink() <= 1 && file.file_type() == FileType::Regular;
    let private = inode.uid() == cred.fsuid && inode.mode() & 0o677 == 0o600;
    if !plain || !private {
        return Err(Errno::EPERM);
    }
    vfs::attr::ftruncate(&file, 0)?;
    Ok(file)
}

/// Starts the program `words`, with the dump as its standard input; the end to write to, and the program.
///
/// # Errors
/// Those of execve(2).
pub fn open_pipe(me: &CurrentThread, words: Vec<Vec<u8>>) -> Result<(Arc<File>, Arc<Process>)> {
    let (reader, writer) = vfs::pipe::pipe(&me.cred(), 0)?;
    let process = helper::run(words, reader)?;
    Ok((writer, process))
}

/// Waits until the program has ended, or this one is killed.
pub fn wait_for(helper: &Process) {
    let ended = || helper.state() != State::Alive;
    // Killed: there is nothing more to wait for.
    let _ = helper.pid.exit_wait.wait_event_killable(ended);
}
