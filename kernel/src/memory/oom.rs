//! The OOM killer's view of the processes.

use crate::process::thread::flags;
use crate::process::{Process, Thread, init_pid_ns};
use crate::signal::send;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use mm::oom::{Candidate, OomVictims};

/// Implements [`OomVictims`] over the process table.
pub struct Victims;

/// A vfork child lives in its parent's memory: killing it frees nothing.
fn is_vfork_child(process: &Process) -> bool {
    process.with_thread(|_, thread| thread.vfork_done.lock().is_some()).unwrap_or(false)
}

impl OomVictims for Victims {
    fn for_each(&self, f: &mut dyn FnMut(&Candidate<'_>)) {
        for process in init_pid_ns().processes() {
            let Some(space) = process.mm() else { continue };
            let dying = process.sig.lock().group_exit.is_some()
                || process.with_thread(|_, t: &Thread| t.has(flags::OOM_VICTIM)).unwrap_or(false);
            f(&Candidate {
                id: process.pid.global() as u64,
                space: &space,
                adj: process.oom_score_adj.load(Ordering::Relaxed).into(),
                dying,
                exempt: process.pid.global() == 1 || is_vfork_child(&process),
            });
        }
    }

    fn kill(&self, id: u64, points: i64) -> Option<Arc<AddressSpace>> {
        let process = init_pid_ns().process(i32::try_from(id).ok()?)?;
        let space = process.mm()?;
        process.with_thread(|task, thread| {
            let counters = space.counters();
            log::error!(
                "Out of memory: Killed process {} ({}) total-vm:{}kB, anon-rss:{}kB, file-rss:{}kB, shmem-rss:{}kB, UID:{} pgtables:{}kB oom_score_adj:{} (points {points})",
                id,
                task.comm(),
                counters.total_vm() * 4,
                counters.anon() * 4,
                counters.file() * 4,
                counters.shmem() * 4,
                thread.with_cred(|c| c.uid.0),
                space.pgtables_bytes() / 1024,
                process.oom_score_adj.load(Ordering::Relaxed),
            );
            thread.set(flags::OOM_VICTIM);
            task.thread_flags().set(arch::thread::ThreadFlags::MEMALLOC);
        });
        send::kill_process(&process);
        // Others that share the memory keep it alive: they go too.
        for other in init_pid_ns().processes() {
            let same = other.mm().is_some_and(|s| Arc::ptr_eq(&s, &space));
            if same && !Arc::ptr_eq(&other, &process) && other.pid.global() != 1 {
                send::kill_process(&other);
            }
        }
        Some(space)
    }

    fn allocating(&self) -> Option<u64> {
        crate::process::with_current(|thread| thread.process.pid.global() as u64)
    }

    fn dump(&self) {
        log::info!("Tasks state (memory values in pages):");
        log::info!(
            "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name"
        );
        for process in init_pid_ns().processes() {
            let Some(space) = process.mm() else { continue };
            let counters = space.counters();
            let pid = process.pid.global();
            process.with_thread(|task, thread| {
                log::info!(
                    "[{pid:7}] {:5} {pid:5} {:8} {:8} {:8} {:8} {:9} {:8} {:8}         {:5} {}",
                    thread.with_cred(|c| c.uid.0),
                    counters.total_vm(),
                    counters.rss(),
                    counters.anon(),
                    counters.file(),
                    counters.shmem(),
                    space.pgtables_bytes(),
                    counters.swap(),
                    process.oom_score_adj.load(Ordering::Relaxed),
                    task.comm(),
                );
            });
        }
    }

    fn no_victim(&self) {
        log::error!("Out of memory and no killable processes...");
    }
}
