//! The first process: it finishes the boot, then becomes `init`.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use abi::creds::Uid;
use abi::{Errno, Result, raw};
use arch::trap::TrapFrame;
use boot::BootInfo;
use sched::{NewTask, Task};
use vfs::fdtable::{FdFlags, FdTable};
use vfs::mount::{Mount, ops};
use vfs::namei::{self, At, OpenArgs};
use vfs::path::{FsStruct, Path};

use super::cmdline;
use crate::exec::args::{Limits, Strings, Vectors};
use crate::exec::{self, Program};
use crate::fs::context::Caller;
use crate::process::limits::Limits as ResourceLimits;
use crate::process::thread::Parts;
use crate::process::user::{ThreadCharge, UserCounts};
use crate::process::{NsProxy, Pid, Process, Thread, current, init_cred, init_pid_ns, kthread, tree};
use crate::signal::SigHand;

/// Programs that are tried in this order when the command line names none.
const USUAL: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];

/// Makes process 1 and lets it run.
pub(super) fn spawn(root: Arc<Mount>, info: &'static BootInfo) -> Result<()> {
    let namespace = ops::initial_namespace(&root);
    let at = Path::new(root.clone(), root.root().clone());
    let fs = Arc::new(FsStruct::new(at));
    let nsproxy = Arc::new(NsProxy::initial(namespace));
    let threads = crate::fork::MAX_THREADS.load(core::sync::atomic::Ordering::Relaxed);

    let pid = Pid::new(&init_pid_ns(), &[1])?;
    let process = Arc::new(Process::new(
        pid.clone(),
        Arc::new(SigHand::new()),
        ResourceLimits::initial(threads),
        0,
    ));
    let thread = Thread::new(Parts {
        process: process.clone(),
        pid: pid.clone(),
        cred: init_cred(),
        mm: None,
        fs: fs.clone(),
        files: Arc::new(FdTable::new()),
        nsproxy: nsproxy.clone(),
        charge: ThreadCharge::new(UserCounts::of(Uid(0))),
    });
    let task = Task::new_program(
        NewTask { comm: b"swapper/0", mm: None, data: thread },
        Box::new(move |frame| become_init(frame, info)),
    )?;
    if let Some(thread) = task.data::<Thread>() {
        thread.set_task(&task);
    }
    process.sig.lock().threads.push(task.clone());
    process.unkillable.store(true, core::sync::atomic::Ordering::Relaxed);
    pid.with_links(|links| {
        links.task = Some(task.clone());
        links.process = Some(process.clone());
    });
    tree::enter(&tree::lock(), &process, &pid, &pid)?;
    init_pid_ns().set_reaper(&process);

    // Kernel threads come after it, so that `kthreadd` is process 2.
    kthread::init(fs, Arc::new(FdTable::new()), nsproxy);
    sched::kthread::set_hook(&kthread::Adopter);
    sched::wake_up_new(&task);
    Ok(())
}

fn become_init(frame: &mut TrapFrame, info: &'static BootInfo) {
    if let Err(error) = super::late(info) {
        panic!("cannot start: {error}");
    }
    open_console();
    // `rdinit` counts only if the initramfs has it, as on Linux.
    if exists(cmdline::rdinit_program()) {
        run(frame, cmdline::rdinit_program());
        return;
    }
    if cmdline::rdinit_program() != "/init" {
        log::error!("check access for rdinit={} failed, ignoring", cmdline::rdinit_program());
    }
    if let Some(program) = cmdline::init_program() {
        if exists(program) {
            run(frame, program);
            return;
        }
        panic!("Requested init {program} failed (error -2).");
    }
    match USUAL.into_iter().find(|program| exists(program)) {
        Some(program) => run(frame, program),
        None => panic!(
            "No working init found.  Try passing init= option to kernel. See Linux Documentation/admin-guide/init.rst for guidance."
        ),
    }
}

fn exists(program: &str) -> bool {
    let Ok(caller) = Caller::current() else { return false };
    namei::access(&caller.ctx(), At::Cwd, program.as_bytes(), 0, raw::AT_EACCESS).is_ok()
}

/// Standard input, output and error.
fn open_console() {
    let open = || -> Result<()> {
        let caller = Caller::current()?;
        let files = current().files().ok_or(Errno::EBADF)?;
        let args = OpenArgs::from_open(raw::O_RDWR, 0)?;
        let console = namei::open(&caller.ctx(), At::Cwd, b"/dev/console", &args)?;
        for _ in 0..3 {
            files.install(console.clone(), u64::MAX, FdFlags::empty())?;
        }
        Ok(())
    };
    if open().is_err() {
        log::error!("Warning: unable to open an initial console.");
    }
}

fn run(frame: &mut TrapFrame, program: &str) {
    log::info!("Run {program} as init process");
    let result = load(frame, program);
    if let Err(error) = result {
        panic!("Requested init {program} failed (error {}).", -error.code());
    }
}

/// Replaces the kernel's first task by a program, with what the command line left for it.
fn load(frame: &mut TrapFrame, program: &str) -> Result<()> {
    let rest = cmdline::for_init();
    let mut argv = Strings::default();
    argv.push(program.as_bytes())?;
    for argument in &rest.args {
        argv.push(argument.as_bytes())?;
    }
    let mut envp = Strings::default();
    let replaced = |name: &str| rest.env.iter().any(|entry| entry.starts_with(name));
    for (name, value) in [("HOME=", "/"), ("TERM=", "linux")] {
        if !replaced(name) {
            envp.push(format!("{name}{value}").as_bytes())?;
        }
    }
    for entry in &rest.env {
        envp.push(entry.as_bytes())?;
    }
    let vectors = Vectors::new(argv, envp, &Limits::of_current())?;
    let program = Program::open(raw::AT_FDCWD, program.as_bytes(), 0)?;
    exec::exec(frame, program, vectors)
}
