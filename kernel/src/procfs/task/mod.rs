//! `/proc/PID` and `/proc/PID/task/TID`.
//!
//! A directory stands for a [`Subject`]: a pid, seen as a process or as a thread. What is in it is one table,
//! [`FILES`]; each row names a function in the file of its subject. Nothing is stored: every read asks the
//! process, and a process that is gone answers `ESRCH` (or `ENOENT` to a lookup).
//!
//! | file | what it shows |
//! |---|---|
//! | [`stat`] | `stat`, `statm`, `schedstat`, `sched`, `wchan`, `stack`, `syscall` |
//! | [`status`] | `status` |
//! | [`maps`] | `maps`, `smaps`, `smaps_rollup` |
//! | [`areas`] | how `maps` and `smaps` are read |
//! | [`numa_maps`] | `numa_maps` |
//! | [`memory`] | `mem`, `environ`, `cmdline`, `auxv` |
//! | [`pagemap`] | `pagemap` |
//! | [`fd`] | `fd/`, `fdinfo/` |
//! | [`links`] | `cwd`, `root`, `exe`, `map_files/` |
//! | [`ns`] | `ns/` |
//! | [`net`] | `net/` |
//! | [`settings`] | what can be written: `comm`, `oom_score_adj`, id maps, … |
//! | [`threads`] | `task/` |
//! | [`timens`] | `timens_offsets` |
//!
//! # Who may look
//!
//! A file belongs to the effective user of the process; while the process is not dumpable, to root. Beyond
//! that, what shows memory or open files asks for the right to trace it ([`access`]).

use alloc::sync::Arc;
use core::any::Any;

use abi::creds::{Gid, Uid};
use abi::{Errno, Result};
use kernfs::{Context, Dir, Entry, Link, Listing, Node, Show, Text};
use sched::Task;
use vfs::cred::Credentials;
use vfs::file::{File, FileImpl, OpenFile};
use vfs::inode_ops::LinkTarget;
use vfs::path::Path;
use vfs::types::FileType;

use super::Mounted;
use crate::process::{Pid, PidNamespace, Process, State, Thread, init_pid_ns};
use mm::fallible::try_arc;

mod access;
mod areas;
#[cfg(debug_assertions)]
mod fault;
mod fd;
mod links;
mod maps;
mod memory;
mod mounts;
mod net;
mod ns;
mod numa_maps;
mod pagemap;
mod settings;
mod stat;
mod status;
mod threads;
mod timens;

use access::Mode;
pub use ns::open_namespace;

/// Whether a directory is that of a process or of one thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    Process,
    Thread,
}

/// Whom a directory stands for.
#[derive(Clone)]
pub(super) struct Subject {
    pid: Arc<Pid>,
    scope: Scope,
}

impl Subject {
    /// The process; a zombie counts.
    ///
    /// # Errors
    /// `ESRCH` once it is reaped, for a thread once it has exited.
    fn process(&self) -> Result<Arc<Process>> {
        match self.scope {
            Scope::Process => self.pid.process().ok_or(Errno::ESRCH),
            Scope::Thread => self.with_thread(|_, thread| thread.process.clone()),
        }
    }

    /// The thread, or the one that stands for the process.
    ///
    /// # Errors
    /// `ESRCH` when none lives.
    fn task(&self) -> Result<Arc<Task>> {
        let task = match self.scope {
            Scope::Process => self.pid.task().or_else(|| self.pid.process()?.any_task()),
            Scope::Thread => self.pid.task(),
        };
        task.ok_or(Errno::ESRCH)
    }

    fn with_thread<R>(&self, f: impl FnOnce(&Arc<Task>, &Thread) -> R) -> Result<R> {
        let task = self.task()?;
        let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
        Ok(f(&task, thread))
    }

    fn is_alive(&self) -> bool {
        match self.scope {
            Scope::Process => self.pid.process().is_some_and(|process| process.state() != State::Reaped),
            Scope::Thread => self.pid.task().is_some(),
        }
    }

    /// Inode number of an object of kind `class` with number `index` below the directory.
    fn ino(&self, class: Class, index: u64) -> u64 {
        let thread = u64::from(self.scope == Scope::Thread);
        // Above all registered nodes: pid, thread bit, class, number.
        1 << 62 | (self.pid.global() as u64) << 36 | thread << 35 | (class as u64) << 28 | index & 0x0fff_ffff
    }

    /// Who owns the files: the effective user while the process is dumpable, else root. Files that everybody may
    /// read and list follow the user in any case, as on Linux.
    fn owner(&self, public: bool) -> (Uid, Gid) {
        let owner = self.with_thread(|_, thread| {
            let dumpable = thread.process.dumpable.load(core::sync::atomic::Ordering::Relaxed) == 1;
            if dumpable || public {
                thread.with_cred(|cred| (cred.euid, cred.egid))
            } else {
                (Uid(0), Gid(0))
            }
        });
        owner.unwrap_or((Uid(0), Gid(0)))
    }
}

/// Groups of inode numbers below one directory.
#[derive(Clone, Copy)]
enum Class {
    File = 0,
    Fd = 1,
    FdInfo = 2,
    Ns = 3,
    Net = 4,
    MapFiles = 5,
}

/// What a `show` or `store` function gets.
struct View<'a> {
    subject: &'a Subject,
    /// The namespace that numbers are shown in.
    ns: Arc<PidNamespace>,
    /// Who opened the file.
    cred: &'a Credentials,
}

impl<'a> View<'a> {
    fn new(subject: &'a Subject, cx: &Context<'a>) -> Self {
        let ns = cx.mounted_for::<Mounted>().map_or_else(init_pid_ns, |mounted| mounted.ns.clone());
        Self { subject, ns, cred: cx.cred }
    }

    fn task(&self) -> Result<Arc<Task>> {
        self.subject.task()
    }

    fn process(&self) -> Result<Arc<Process>> {
        self.subject.process()
    }

    fn with_thread<R>(&self, f: impl FnOnce(&Arc<Task>, &Thread) -> R) -> Result<R> {
        self.subject.with_thread(f)
    }
}

type ShowFn = fn(&View<'_>, &mut Text) -> Result<()>;
type StoreFn = fn(&View<'_>, &[u8]) -> Result<()>;

/// What a name in the directory is.
enum Kind {
    /// Text, with the right that opening it asks for.
    Text(ShowFn, Option<Mode>),
    /// Text that can be written.
    Writable(ShowFn, StoreFn),
    /// Text about the memory that the process has when the file is opened.
    Memory(memory::ShowMemory),
    /// A link to an object.
    Link(fn(&Subject) -> Result<Path>),
    /// A directory.
    Dir(fn(&Subject) -> Result<Arc<dyn Dir>>),
    /// A file with operations of its own.
    Custom(fn(&Subject, &mut OpenFile<'_>) -> Result<FileImpl>),
}

/// A row of the table.
struct FileSpec {
    name: &'static str,
    mode: u32,
    /// Where it is: in both directories, or in one kind only.
    only: Option<Scope>,
    kind: Kind,
}

const fn row(name: &'static str, mode: u32, kind: Kind) -> FileSpec {
    FileSpec { name, mode, only: None, kind }
}

const fn text(name: &'static str, mode: u32, show: ShowFn) -> FileSpec {
    row(name, mode, Kind::Text(show, None))
}

const fn memory(name: &'static str, mode: u32, show: memory::ShowMemory) -> FileSpec {
    row(name, mode, Kind::Memory(show))
}

const fn secret(name: &'static str, mode: u32, show: ShowFn) -> FileSpec {
    row(name, mode, Kind::Text(show, Some(Mode::Read)))
}

impl FileSpec {
    const fn only(mut self, scope: Scope) -> Self {
        self.only = Some(scope);
        self
    }

    fn is_in(&self, scope: Scope) -> bool {
        self.only.is_none_or(|only| only == scope)
    }
}

const FILES: &[FileSpec] = &[
    row("task", 0o555, Kind::Dir(threads::dir)).only(Scope::Process),
    row("fd", 0o500, Kind::Dir(fd::dir)),
    row("map_files", 0o500, Kind::Dir(links::map_files)).only(Scope::Process),
    row("fdinfo", 0o555, Kind::Dir(fd::info_dir)),
    row("ns", 0o511, Kind::Dir(ns::dir)),
    row("net", 0o555, Kind::Dir(net::dir)),
    memory("environ", 0o400, memory::environ),
    memory("auxv", 0o400, memory::auxv),
    text("status", 0o444, status::status),
    secret("personality", 0o400, settings::personality),
    text("limits", 0o444, settings::limits),
    row("sched", 0o644, Kind::Writable(stat::sched, stat::sched_store)),
    #[cfg(debug_assertions)]
    row("make-it-fail", 0o644, Kind::Writable(fault::make_it_fail, fault::make_it_fail_store)),
    #[cfg(debug_assertions)]
    row("fail-nth", 0o644, Kind::Custom(fault::open_fail_nth)),
    row("comm", 0o644, Kind::Writable(settings::comm, settings::comm_store)),
    text("syscall", 0o400, stat::syscall),
    text("cmdline", 0o444, memory::cmdline),
    text("stat", 0o444, stat::stat),
    text("statm", 0o444, stat::statm),
    row("maps", 0o444, Kind::Custom(maps::open_maps)),
    text("children", 0o444, threads::children).only(Scope::Thread),
    secret("numa_maps", 0o444, numa_maps::numa_maps),
    row("mem", 0o600, Kind::Custom(memory::open_mem)),
    row("cwd", 0o777, Kind::Link(links::cwd)),
    row("root", 0o777, Kind::Link(links::root)),
    row("exe", 0o777, Kind::Link(links::exe)),
    row("mounts", 0o444, Kind::Custom(mounts::open_mounts)),
    row("mountinfo", 0o444, Kind::Custom(mounts::open_mountinfo)),
    row("mountstats", 0o400, Kind::Custom(mounts::open_mountstats)).only(Scope::Process),
    row("clear_refs", 0o200, Kind::Writable(settings::write_only, settings::clear_refs)),
    row("smaps", 0o444, Kind::Custom(maps::open_smaps)),
    memory("smaps_rollup", 0o444, maps::smaps_rollup),
    text("stack", 0o400, stat::stack),
    row("pagemap", 0o400, Kind::Custom(pagemap::open)),
    text("wchan", 0o444, stat::wchan),
    text("schedstat", 0o444, stat::schedstat),
    text("cpuset", 0o444, settings::cpuset),
    text("cgroup", 0o444, settings::cgroup),
    text("oom_score", 0o444, settings::oom_score),
    row("oom_adj", 0o644, Kind::Writable(settings::oom_adj, settings::oom_adj_store)),
    row("oom_score_adj", 0o644, Kind::Writable(settings::oom_score_adj, settings::oom_score_adj_store)),
    row("coredump_filter", 0o644, Kind::Writable(settings::coredump_filter, settings::coredump_filter_store))
        .only(Scope::Process),
    secret("io", 0o400, settings::io),
    row("uid_map", 0o644, Kind::Writable(settings::uid_map, settings::uid_map_store)),
    row("gid_map", 0o644, Kind::Writable(settings::gid_map, settings::gid_map_store)),
    row("projid_map", 0o644, Kind::Writable(settings::projid_map, settings::projid_map_store)),
    row("setgroups", 0o644, Kind::Writable(settings::setgroups, settings::setgroups_store)),
    row("timens_offsets", 0o644, Kind::Writable(timens::show, timens::store)).only(Scope::Process),
    row("timerslack_ns", 0o666, Kind::Writable(settings::timerslack, settings::timerslack_store))
        .only(Scope::Process),
];

/// The directory of a process or thread.
struct TaskDir(Subject);

/// A file of text of the table.
struct TaskText {
    subject: Subject,
    show: ShowFn,
    store: Option<StoreFn>,
    mode: Option<Mode>,
}

impl Show for TaskText {
    fn show(&self, cx: &Context<'_>, out: &mut Text) -> Result<()> {
        // Since the file was opened the process may have become another user's.
        if let Some(mode) = self.mode {
            self.subject.with_thread(|_, thread| access::check(thread, mode))??;
        }
        (self.show)(&View::new(&self.subject, cx), out)
    }

    fn store(&self, cx: &Context<'_>, data: &[u8]) -> Result<()> {
        let store = self.store.ok_or(Errno::EINVAL)?;
        store(&View::new(&self.subject, cx), data)
    }

    fn open(&self, _: &Context<'_>) -> Result<()> {
        match self.mode {
            Some(mode) => self.subject.with_thread(|_, thread| access::check(thread, mode))?,
            None if self.subject.is_alive() => Ok(()),
            None => Err(Errno::ESRCH),
        }
    }
}

/// A magic link of the table.
struct TaskLink {
    subject: Subject,
    path: fn(&Subject) -> Result<Path>,
}

impl Link for TaskLink {
    fn target(&self, _: &Context<'_>) -> Result<LinkTarget> {
        self.subject
            .with_thread(|_, thread| access::check(thread, Mode::Read))
            .map_err(|_| Errno::ENOENT)??;
        Ok(LinkTarget::Jump((self.path)(&self.subject)?))
    }

    fn is_magic(&self) -> bool {
        true
    }
}

impl TaskDir {
    fn entry(&self, index: usize, spec: &'static FileSpec) -> Result<Entry> {
        let subject = self.0.clone();
        let text = |show, store, mode| {
            let subject = subject.clone();
            Ok::<_, Errno>(Node::Text(try_arc(TaskText { subject, show, store, mode })?))
        };
        let node = match &spec.kind {
            Kind::Text(show, mode) => text(*show, None, *mode)?,
            Kind::Writable(show, store) => text(*show, Some(*store), None)?,
            Kind::Memory(show) => {
                let show = *show;
                Node::Custom(try_arc(move |_: &Context<'_>, _: &mut OpenFile<'_>| {
                    memory::open_text(&subject, show)
                })?)
            }
            Kind::Link(path) => Node::Link(try_arc(TaskLink { subject, path: *path })?),
            Kind::Dir(make) => Node::Dir(make(&subject)?),
            Kind::Custom(open) => {
                let open = *open;
                Node::Custom(try_arc(move |_: &Context<'_>, file: &mut OpenFile<'_>| open(&subject, file))?)
            }
        };
        let public = spec.mode == 0o555;
        let (uid, gid) = self.0.owner(public);
        let size = if spec.name == "fd" { fd::count(&self.0) } else { 0 };
        let ino = self.0.ino(Class::File, index as u64 + 1);
        Ok(Entry::new(node, ino, spec.mode).owned_by(uid, gid).sized(size))
    }
}

/// The process that an open `/proc/PID` stands for.
pub fn process_of(file: &File) -> Option<Arc<Pid>> {
    let inode = file.path().dentry.inode()?;
    let subject = kernfs::directory(inode)?.stands_for()?.downcast_ref::<Subject>()?;
    (subject.scope == Scope::Process).then(|| subject.pid.clone())
}

impl Dir for TaskDir {
    fn stands_for(&self) -> Option<&dyn Any> {
        Some(&self.0)
    }

    fn lookup(&self, _: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        if !self.0.is_alive() {
            return Err(Errno::ENOENT);
        }
        let found = FILES.iter().enumerate().find(|(_, spec)| spec.name.as_bytes() == name);
        let found = found.filter(|(_, spec)| spec.is_in(self.0.scope));
        found.map(|(index, spec)| self.entry(index, spec)).transpose()
    }

    fn list(&self, _: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        for (index, spec) in FILES.iter().enumerate().skip(from as usize) {
            let kind = match spec.kind {
                Kind::Dir(_) => FileType::Directory,
                Kind::Link(_) => FileType::Symlink,
                _ => FileType::Regular,
            };
            let index = index as u64 + 1;
            if spec.is_in(self.0.scope)
                && !emit(spec.name.as_bytes(), self.0.ino(Class::File, index), kind, index)
            {
                break;
            }
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn follows_owner(&self) -> bool {
        true
    }

    fn is_guarded(&self) -> bool {
        self.0.scope == Scope::Process
    }

    fn may_enter(&self, cx: &Context<'_>) -> Result<()> {
        let Some(mounted) = cx.mounted_for::<Mounted>() else { return Ok(()) };
        // A process that is gone hides nothing.
        self.0.with_thread(|_, thread| mounted.enter(thread)).unwrap_or(Ok(()))
    }

    fn may_see(&self, cx: &Context<'_>) -> Result<()> {
        let Some(mounted) = cx.mounted_for::<Mounted>() else { return Ok(()) };
        let seen = self.0.with_thread(|_, thread| mounted.lists(thread)).unwrap_or(true);
        if seen { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn nlink(&self) -> u32 {
        let dirs = |spec: &&FileSpec| spec.is_in(self.0.scope) && matches!(spec.kind, Kind::Dir(_));
        2 + FILES.iter().filter(dirs).count() as u32
    }
}

/// Whether the running thread may look into `thread` (`PTRACE_MODE_READ_FSCREDS`).
pub(super) fn may_look(thread: &Thread) -> bool {
    access::permitted(thread)
}

fn directory(subject: Subject) -> Result<Entry> {
    let ino = subject.ino(Class::File, 0);
    let (uid, gid) = subject.owner(true);
    Ok(Entry::new(Node::Dir(try_arc(TaskDir(subject))?), ino, 0o555).owned_by(uid, gid))
}

/// The inode number of the directory of the process with id `pid`.
pub(super) fn directory_ino(pid: &Arc<Pid>) -> u64 {
    Subject { pid: pid.clone(), scope: Scope::Process }.ino(Class::File, 0)
}

/// The directory of the process that `pid` belongs to: that of a thread's id shows the thread's process as the
/// thread sees it, and is not listed.
pub(super) fn process_entry(pid: Arc<Pid>) -> Result<Option<Entry>> {
    let scope = match pid.process() {
        Some(_) => Scope::Process,
        None if pid.task().is_some() => Scope::Thread,
        None => return Ok(None),
    };
    directory(Subject { pid, scope }).map(Some)
}
