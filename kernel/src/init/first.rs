//! The first process: it finishes the boot, then becomes `init`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result, raw};
use arch::trap::TrapFrame;
use boot::BootInfo;
use vfs::fdtable::{FdFlags, FdTable};
use vfs::mount::{Mount, ops};
use vfs::namei::{self, At, OpenArgs};
use vfs::path::{FsStruct, Path};

use super::cmdline;
use crate::exec;
use crate::fs::context::Caller;
use crate::process::{self, NsProxy, current, kthread};
use mm::fallible::{TryCollect, TryVec, try_arc, try_box};

/// Makes process 1 and lets it run.
pub(super) fn spawn(root: Arc<Mount>, info: &'static BootInfo) -> Result<()> {
    let fs = try_arc(FsStruct::new(Path::new(root.clone(), root.root().clone()))?)?;
    let nsproxy = try_arc(NsProxy::initial(ops::initial_namespace(&root))?)?;
    let init = process::boot::spawn_init(
        fs.clone(),
        nsproxy.clone(),
        try_box(move |frame: &mut TrapFrame| {
            become_init(frame, info);
            None
        })?,
    )?;
    // Kernel threads come after it, so that `kthreadd` is process 2.
    kthread::init(fs, try_arc(FdTable::new())?, nsproxy);
    let body = || {
        // The parent of all kernel threads has nothing to do but to be there.
        let never = sched::WaitQueue::new();
        while never.wait_event_interruptible(|| false).is_err() {}
    };
    let kthreadd = sched::Task::new_kthread(b"kthreadd", try_box(body)?)?;
    kthread::adopt(&kthreadd)?;
    sched::wake_up_new(&kthreadd);
    sched::kthread::set_hook(&kthread::Hook);
    sched::wake_up_new(&init);
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
    if let Err(error) = super::root::mount() {
        panic!("VFS: Unable to mount root fs (error {})", -error.code());
    }
    if let Some(program) = cmdline::init_program() {
        run(frame, program);
        return;
    }
    for program in ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"] {
        log::info!("Run {program} as init process");
        match load(frame, program) {
            Ok(()) => return,
            Err(Errno::ENOENT) => {}
            Err(error) => {
                log::error!(
                    "Starting init: {program} exists but couldn't execute it (error {})",
                    -error.code()
                );
            }
        }
    }
    panic!(
        "No working init found.  Try passing init= option to kernel. See Linux \
         Documentation/admin-guide/init.rst for guidance."
    );
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
    let rest_args = rest.args.iter().map(|argument| argument.as_bytes());
    let argv = core::iter::once(program.as_bytes()).chain(rest_args).try_collect_vec()?;
    let usual = [("HOME=", "HOME=/"), ("TERM=", "TERM=linux")];
    let replaced = |name: &str| rest.env.iter().any(|entry| entry.starts_with(name));
    let mut envp: Vec<&[u8]> = Vec::new();
    envp.try_extend(usual.iter().filter(|(name, _)| !replaced(name)).map(|(_, entry)| entry.as_bytes()))?;
    envp.try_extend(rest.env.iter().map(|entry| entry.as_bytes()))?;
    exec::kernel_exec(frame, program.as_bytes(), &argv, &envp)
}
