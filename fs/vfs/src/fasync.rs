//! Signals when a file becomes ready: `O_ASYNC`, `F_SETOWN`, `F_SETSIG`. `fcntl(2)`.
//!
//! An object that can tell (a pipe's end, a terminal, an inotify instance) has an [`FasyncList`] of the open files that asked.
//! Who gets the signal belongs to the open file ([`FileOwner`]); sending it is the kernel's business ([`Sigio`]).
//!
//! Locks: the list's and the owner's are leaves, and released before a signal is sent.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::fallible::TryVec;

use crate::file::File;

/// Who gets `SIGIO` and `SIGURG` (`F_SETOWN`).
#[derive(Clone, Default)]
pub struct FileOwner {
    /// `F_OWNER_TID`, `F_OWNER_PID` or `F_OWNER_PGRP`.
    pub kind: u32,
    /// The process, thread or group; the kernel puts its own pid object here.
    pub target: Option<Arc<dyn Any + Send + Sync>>,
    /// Real user of who set it.
    pub uid: u32,
    /// Effective user of who set it.
    pub euid: u32,
    /// `F_SETSIG`; zero is `SIGIO`.
    pub signal: i32,
}

/// The owner of one open file, shared with the lists that it is on.
#[derive(Default)]
pub struct OwnerCell(SpinLock<FileOwner>);

impl OwnerCell {
    /// The owner as it is now.
    pub fn get(&self) -> FileOwner {
        self.0.lock().clone()
    }

    /// Changes the owner.
    pub fn update(&self, change: impl FnOnce(&mut FileOwner)) {
        // What falls out is dropped with the lock released.
        let old;
        {
            let mut owner = self.0.lock();
            old = owner.clone();
            change(&mut owner);
        }
        drop(old);
    }

    /// Tells the owner that `band` is so with descriptor `fd`.
    pub fn signal(&self, fd: i32, band: Band) {
        if let Some(sigio) = SIGIO.get() {
            sigio.send(&self.get(), fd, band);
        }
    }
}

/// Tells `owner` that urgent data came (`SIGURG`); `false`: there is none.
pub(crate) fn signal_urgent(owner: &OwnerCell) -> bool {
    let owner = owner.get();
    if owner.target.is_none() {
        return false;
    }
    if let Some(sigio) = SIGIO.get() {
        sigio.urgent(&owner);
    }
    true
}

/// Why a signal is sent: `si_code` (`POLL_IN` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Band {
    /// There is something to read.
    In = 1,
    /// There is room to write.
    Out = 2,
    /// Something happened that is neither (leases, directories).
    Msg = 3,
    /// An error.
    Err = 4,
    /// Urgent data.
    Pri = 5,
    /// The other side is gone.
    Hup = 6,
}

/// Sends signals to owners.
pub trait Sigio: Sync {
    /// Signals `owner`: `SIGIO`, or what it chose with `siginfo_t` of `fd` and `band`. Must not sleep.
    fn send(&self, owner: &FileOwner, fd: i32, band: Band);

    /// Sends `owner` a `SIGURG`. Must not sleep.
    fn urgent(&self, owner: &FileOwner);
}

static SIGIO: sync::Once<&'static dyn Sigio> = sync::Once::new();

/// Registers who sends.
pub fn set_sigio(hook: &'static dyn Sigio) {
    let _ = SIGIO.set(hook);
}

struct Entry {
    file: usize,
    owner: Arc<OwnerCell>,
    fd: i32,
}

/// Open files that want a signal when an object becomes ready.
#[derive(Default)]
pub struct FasyncList {
    used: AtomicBool,
    entries: SpinLock<Vec<Entry>>,
}

impl FasyncList {
    /// Nobody.
    pub const fn new() -> Self {
        Self { used: AtomicBool::new(false), entries: SpinLock::new(Vec::new()) }
    }

    /// Adds `file`, as descriptor `fd`, or takes it off.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn set(&self, file: &File, fd: i32, on: bool) -> Result<()> {
        let id = core::ptr::from_ref(file) as usize;
        let owner = if on { Some(file.owner_cell()?) } else { None };
        let mut old = None;
        let result = {
            let mut entries = self.entries.lock();
            let at = entries.iter().position(|entry| entry.file == id);
            let result = match (at, owner) {
                (Some(at), None) => {
                    old = Some(entries.swap_remove(at));
                    Ok(())
                }
                (Some(at), Some(_)) => {
                    if let Some(entry) = entries.get_mut(at) {
                        entry.fd = fd;
                    }
                    Ok(())
                }
                (None, None) => Ok(()),
                (None, Some(owner)) => entries.try_reserve(1).map_err(|_| Errno::ENOMEM).map(|()| {
                    entries.push_reserved(Entry { file: id, owner, fd });
                }),
            };
            self.used.store(!entries.is_empty(), Ordering::Release);
            result
        };
        drop(old);
        result
    }

    /// The object became ready: signals everybody on the list.
    #[inline]
    pub fn kill(&self, band: Band) {
        if self.used.load(Ordering::Acquire) {
            self.signal_all(band, |_| true);
        }
    }

    /// Urgent data came: signals those on the list that chose a signal of their own. The others have `SIGURG`.
    pub fn kill_urgent(&self) {
        if self.used.load(Ordering::Acquire) {
            self.signal_all(Band::Pri, |owner| owner.get().signal != 0);
        }
    }

    #[cold]
    fn signal_all(&self, band: Band, wanted: impl Fn(&OwnerCell) -> bool) {
        let mut index = 0;
        loop {
            let next = self.entries.lock().get(index).map(|entry| (entry.owner.clone(), entry.fd));
            let Some((owner, fd)) = next else { break };
            if wanted(&owner) {
                owner.signal(fd, band);
            }
            index += 1;
        }
    }
}
