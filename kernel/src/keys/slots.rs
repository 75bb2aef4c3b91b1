//! The keyrings of threads, processes, sessions and users.

use super::Key;
use super::key::{NewKey, Value, perm};
use super::kind::Kind;
use super::quota::Account;
use crate::process::{CurrentThread, Thread};
use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLock;
use core::fmt;
use mm::fallible::{SortedMap, try_format};
use vfs::cred::Credentials;

/// The keyrings of a thread.
#[derive(Default)]
pub struct Slots(SpinLock<Rings>);

/// What is in the slots.
#[derive(Clone, Default)]
pub struct Rings {
    /// The thread's own.
    pub thread: Option<Arc<Key>>,
    /// That of the threads of its process.
    pub process: Option<Arc<Key>>,
    /// That of its session.
    pub session: Option<Arc<Key>>,
    /// Where requested keys go: `KEY_REQKEY_DEFL_*`.
    pub default: i32,
}

impl Slots {
    /// What is in them.
    pub fn get(&self) -> Rings {
        self.0.lock().clone()
    }

    /// Changes them.
    pub fn set(&self, change: impl FnOnce(&mut Rings)) {
        let mut rings = self.get();
        change(&mut rings);
        let old = core::mem::replace(&mut *self.0.lock(), rings);
        drop(old);
    }

    fn is_unused(&self) -> bool {
        let rings = self.0.lock();
        rings.thread.is_none() && rings.process.is_none() && rings.session.is_none() && rings.default == 0
    }
}

/// What a child gets of the parent's keyrings: the session's, and a thread also the process's.
///
/// # Errors
/// `EDQUOT`, `ENOMEM`: a thread of a parent with a thread keyring gets one of its own.
pub fn inherit(parent: &Thread, child: &Thread, is_thread: bool) -> Result<()> {
    if parent.keys.is_unused() {
        return Ok(());
    }
    let mut rings = parent.keys.get();
    if !is_thread {
        rings.process = None;
    }
    if rings.thread.take().is_some() && is_thread {
        rings.thread = Some(thread_ring(&child.cred())?);
    }
    child.keys.set(|slots| *slots = rings);
    Ok(())
}

/// exec: the new program has neither thread nor process keyring.
pub fn exec(me: &Thread) {
    if !me.keys.is_unused() {
        me.keys.set(|rings| (rings.thread, rings.process) = (None, None));
    }
}

/// exit: the thread needs them no more.
pub fn exit(me: &Thread) {
    if !me.keys.is_unused() {
        me.keys.set(|rings| *rings = Rings::default());
    }
}

/// The file system user changed: the thread keyring belongs to the new one.
pub fn fs_ids_changed(me: &Thread, uid: u32, gid: u32) {
    if !me.keys.is_unused()
        && let Some(ring) = me.keys.get().thread
    {
        let mut state = ring.state.lock();
        (state.uid, state.gid) = (uid, gid);
    }
}

fn ring(cred: &Credentials, name: &[u8], perm: u32, account: Account) -> Result<Arc<Key>> {
    let new = NewKey {
        kind: Kind::Keyring,
        description: name,
        uid: cred.uid.0,
        gid: cred.gid.0,
        perm,
        account,
        of_user: false,
    };
    new.make(cred, Value::Ring(Vec::new()), 0)
}

const POSSESSOR_ALL: u32 = perm::ALL << perm::POSSESSOR;

fn thread_ring(cred: &Credentials) -> Result<Arc<Key>> {
    ring(cred, b"_tid", POSSESSOR_ALL | perm::VIEW << perm::USER, Account::Overrun)
}

/// The thread keyring, made if it is not there.
///
/// # Errors
/// `ENOMEM`.
pub fn thread(me: &CurrentThread) -> Result<Arc<Key>> {
    if let Some(ring) = me.keys.get().thread {
        return Ok(ring);
    }
    let made = thread_ring(&me.cred())?;
    me.keys.set(|rings| rings.thread = Some(made.clone()));
    Ok(made)
}

/// The process keyring, made if it is not there.
///
/// # Errors
/// `ENOMEM`.
pub fn process(me: &CurrentThread) -> Result<Arc<Key>> {
    if let Some(ring) = me.keys.get().process {
        return Ok(ring);
    }
    let made = ring(&me.cred(), b"_pid", POSSESSOR_ALL | perm::VIEW << perm::USER, Account::Overrun)?;
    me.keys.set(|rings| rings.process = Some(made.clone()));
    Ok(made)
}

/// A new session keyring without a name, in force at once.
///
/// # Errors
/// `EDQUOT`, `ENOMEM`.
pub fn new_session(me: &CurrentThread) -> Result<Arc<Key>> {
    let account = if me.keys.get().session.is_some() { Account::Limited } else { Account::Overrun };
    let perm = POSSESSOR_ALL | (perm::VIEW | perm::READ) << perm::USER;
    let made = ring(&me.cred(), b"_ses", perm, account)?;
    join(me, made.clone());
    Ok(made)
}

/// A new session keyring with a name; not in force yet.
///
/// # Errors
/// `EDQUOT`, `ENOMEM`, `EINVAL`.
pub fn named_session(me: &CurrentThread, name: &[u8]) -> Result<Arc<Key>> {
    let perm = POSSESSOR_ALL | (perm::VIEW | perm::READ | perm::LINK) << perm::USER;
    ring(&me.cred(), name, perm, Account::Limited)
}

/// Makes `ring` the session keyring of the running thread.
pub fn join(me: &CurrentThread, ring: Arc<Key>) {
    me.keys.set(|rings| rings.session = Some(ring));
}

/// Keyrings that live as long as the system, by user.
struct Users {
    user: SortedMap<u32, (Arc<Key>, Arc<Key>)>,
    persistent: SortedMap<u32, Arc<Key>>,
}

static USERS: SpinLock<Users> = SpinLock::new(Users { user: SortedMap::new(), persistent: SortedMap::new() });

fn user_ring(cred: &Credentials, name: fmt::Arguments<'_>, uid: u32) -> Result<Arc<Key>> {
    let name = try_format(name)?;
    let owner = (perm::ALL & !perm::SETATTR) << perm::POSSESSOR | perm::ALL << perm::USER;
    let new = NewKey {
        kind: Kind::Keyring,
        description: name.as_bytes(),
        uid,
        gid: u32::MAX,
        perm: owner,
        account: Account::Limited,
        of_user: true,
    };
    new.make(cred, Value::Ring(Vec::new()), 0)
}

/// The user keyring and the user session keyring (which has a link to it) of the running thread's real user.
///
/// # Errors
/// `EDQUOT`, `ENOMEM`.
pub fn of_user(cred: &Credentials) -> Result<(Arc<Key>, Arc<Key>)> {
    let uid = cred.uid.0;
    if let Some(found) = USERS.lock().user.get(&uid) {
        return Ok(found.clone());
    }
    let user = user_ring(cred, format_args!("_uid.{uid}"), uid)?;
    let session = user_ring(cred, format_args!("_uid_ses.{uid}"), uid)?;
    super::ring::link(&session, &user)?;
    USERS.lock().user.try_insert(uid, (user.clone(), session.clone()))?;
    Ok((user, session))
}

/// The user session keyring, if there is one already.
pub fn existing_user_session(cred: &Credentials) -> Option<Arc<Key>> {
    USERS.lock().user.get(&cred.uid.0).map(|(_, session)| session.clone())
}

/// The persistent keyring of `uid`, made if it is not there or has expired.
///
/// # Errors
/// `ENOMEM`.
pub fn persistent(cred: &Credentials, uid: u32) -> Result<Arc<Key>> {
    let found = USERS.lock().persistent.get(&uid).cloned();
    if let Some(found) = found.filter(|found| found.validate().is_ok()) {
        return Ok(found);
    }
    let perm = (perm::ALL & !perm::SETATTR) << perm::POSSESSOR | (perm::VIEW | perm::READ) << perm::USER;
    let name = try_format(format_args!("_persistent.{uid}"))?;
    let new = NewKey {
        kind: Kind::Keyring,
        description: name.as_bytes(),
        uid,
        gid: u32::MAX,
        perm,
        account: Account::Free,
        of_user: false,
    }
    .make(cred, Value::Ring(Vec::new()), 0)?;
    let old = USERS.lock().persistent.try_insert(uid, new.clone())?;
    drop(old);
    Ok(new)
}
