//! What this program does when a test executes it as `helper:NAME`.

use crate::prelude::*;

/// Runs the helper that the arguments name, if they do.
pub fn dispatch(args: &[String]) {
    let Some(name) = args.iter().find_map(|arg| arg.strip_prefix("helper:")) else { return };
    let mut output = String::new();
    let mut status = 0;
    match name.split(' ').next().unwrap_or(name) {
        "args" => {
            for arg in &args[1..] {
                output.push_str(&format!("[{arg}]"));
            }
            for (key, value) in std::env::vars() {
                output.push_str(&format!("{{{key}={value}}}"));
            }
        }
        "boottime" => output = boottime(),
        "caps" => {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
            output = line.unwrap_or("none").trim().to_string();
        }
        "count" => {
            output = args[1..].iter().map(String::len).sum::<usize>().to_string();
        }
        "fds" => {
            for fd in 0..256 {
                if fstat(fd).is_ok() {
                    output.push_str(&format!("{fd} "));
                }
            }
        }
        "comm" => output = slurp(c"/proc/self/comm").unwrap_or_default(),
        "core" => status = take_core(args),
        "ids" => output = ids(),
        "layout" => {
            // Larger than any gap that loading left.
            let place = || map_anon(64 << 20).unwrap_or(0);
            output = format!("{}\n{}\n", place(), place());
            output.push_str(&slurp(c"/proc/self/maps").unwrap_or_default());
        }
        "mempolicy" => {
            let mut mode = 0u32;
            let _ = sys!(SYS_get_mempolicy, addr_mut(&mut mode), 0, 0, 0, 0);
            output = mode.to_string();
        }
        "pid" => {
            let leader = sys!(SYS_gettid) == Ok(getpid() as usize);
            let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
            status = i32::from(!leader || threads != 1);
        }
        "pkeys" => output = crate::pkeys::describe(),
        #[cfg(target_arch = "x86_64")]
        "segments" => {
            let gs: u16;
            // SAFETY: reads a register.
            unsafe { std::arch::asm!("mov {0:x}, gs", out(reg) gs) };
            let mut bytes = [0_u8; 64];
            output = format!("{gs} {}", sys!(SYS_modify_ldt, 0, addr_mut(&mut bytes), 64).unwrap_or(9));
        }
        "signals" => output = signals(),
        "sleep" => sleep_ms(60_000),
        "smash" => {
            // Runs into the end of the stack.
            fn recurse(n: u64) -> u64 {
                let block = std::hint::black_box([n; 512]);
                if n == u64::MAX { 0 } else { recurse(n + 1) + block[(n % 512) as usize] }
            }
            output = recurse(0).to_string();
        }
        _ => status = 126,
    }
    let _ = write(1, output.as_bytes());
    exit(status);
}

/// Seconds of the boot clock: by the vDSO, by a call, in `/proc/uptime`.
fn boottime() -> String {
    let (mut fast, mut slow): (timespec, timespec) = (zeroed(), zeroed());
    let _ = c!(clock_gettime(CLOCK_BOOTTIME, &raw mut fast));
    let _ = sys!(SYS_clock_gettime, CLOCK_BOOTTIME, addr_mut(&mut slow));
    let text = slurp(c"/proc/uptime").unwrap_or_default();
    format!("{} {} {}", fast.tv_sec, slow.tv_sec, text.split('.').next().unwrap_or_default())
}

/// A program that core dumps are piped to: standard input goes to the file that the first argument names, and what else there
/// is to see to another one beside it.
fn take_core(args: &[String]) -> i32 {
    // The path of the program comes before its name here.
    let own = args.iter().skip_while(|arg| !arg.starts_with("helper:")).skip(1).cloned().collect::<Vec<_>>();
    let [file, rest @ ..] = own.as_slice() else { return 1 };
    let Ok(core) = read_all(0) else { return 2 };
    let fds: Vec<String> = (0..16).filter(|fd| fstat(*fd).is_ok()).map(|fd| fd.to_string()).collect();
    let cwd = std::env::current_dir().unwrap_or_default();
    let uid = sys!(SYS_geteuid).unwrap_or(99);
    let seen = format!("{} uid={uid} cwd={} fds={}", rest.join(" "), cwd.display(), fds.join(","));
    let written = std::fs::write(file, core).and_then(|()| {
        let ready = format!("{file}.new");
        std::fs::write(&ready, seen)?;
        std::fs::rename(&ready, format!("{file}.args"))
    });
    if written.is_ok() { 0 } else { 3 }
}

fn ids() -> String {
    let (mut u, mut g) = ([0_u32; 3], [0_u32; 3]);
    let _ = sys!(SYS_getresuid, addr_mut(&mut u[0]), addr_mut(&mut u[1]), addr_mut(&mut u[2]));
    let _ = sys!(SYS_getresgid, addr_mut(&mut g[0]), addr_mut(&mut g[1]), addr_mut(&mut g[2]));
    // SAFETY: reads a value of the auxiliary vector.
    let secure = unsafe { getauxval(AT_SECURE) };
    format!("{} {} {} {} {} {} secure={secure}", u[0], u[1], u[2], g[0], g[1], g[2])
}

fn signals() -> String {
    let action = |signal: i32| {
        let mut old: sigaction = zeroed();
        let _ = c!(sigaction(signal, std::ptr::null(), &raw mut old));
        match old.sa_sigaction {
            SIG_DFL => "default",
            SIG_IGN => "ignored",
            _ => "caught",
        }
    };
    let (mut mask, mut pending): (sigset_t, sigset_t) = (zeroed(), zeroed());
    let _ = c!(sigprocmask(SIG_BLOCK, std::ptr::null(), &raw mut mask));
    let _ = c!(sigpending(&raw mut pending));
    let member = |set: &sigset_t| c!(sigismember(std::ptr::from_ref(set), SIGTERM)).unwrap_or(9);
    format!(
        "usr1={} usr2={} term-blocked={} pending={}",
        action(SIGUSR1),
        action(SIGUSR2),
        member(&mask),
        member(&pending)
    )
}
