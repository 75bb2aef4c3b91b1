//! reboot(2).

use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::{Errno, Result};
use arch::power;
use core::sync::atomic::{AtomicBool, Ordering};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[REBOOT];

const MAGIC1: u32 = 0xfee1_dead;
const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];

/// `LINUX_REBOOT_CMD_*`.
mod cmd {
    pub const RESTART: u32 = 0x0123_4567;
    pub const HALT: u32 = 0xcdef_0123;
    pub const CAD_ON: u32 = 0x89ab_cdef;
    pub const CAD_OFF: u32 = 0;
    pub const POWER_OFF: u32 = 0x4321_fedc;
    pub const RESTART2: u32 = 0xa1b2_c3d4;
}

/// Ctrl-Alt-Del reboots at once; otherwise init gets `SIGINT`.
pub static CTRL_ALT_DEL: AtomicBool = AtomicBool::new(true);

#[macros::syscall(reboot)]
fn sys_reboot(magic: u32, magic2: u32, op: u32, _arg: usize) -> Result<()> {
    let me = current();
    let ns = me.pid_ns();
    if !me.with_cred(|cred| cred.ns_capable(ns.user_ns(), Cap::SysBoot)) {
        return Err(Errno::EPERM);
    }
    if magic != MAGIC1 || !MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    if ns.level() != 0 {
        // In a pid namespace the call ends its init.
        return match (op, ns.reaper()) {
            (cmd::RESTART | cmd::RESTART2 | cmd::HALT | cmd::POWER_OFF, Some(init)) => {
                crate::signal::send::kill_process(&init);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        };
    }
    match op {
        cmd::CAD_ON => CTRL_ALT_DEL.store(true, Ordering::Relaxed),
        cmd::CAD_OFF => CTRL_ALT_DEL.store(false, Ordering::Relaxed),
        cmd::RESTART | cmd::RESTART2 => restart(),
        cmd::HALT => {
            log::error!("reboot: System halted");
            halt()
        }
        cmd::POWER_OFF => {
            log::error!("reboot: Power down");
            power::poweroff();
            halt()
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Restarts the machine.
pub fn restart() -> ! {
    log::error!("reboot: Restarting system");
    power::reboot(power::Mode::Auto)
}

fn halt() -> ! {
    arch::smp::stop_others();
    arch::cpu::halt()
}
