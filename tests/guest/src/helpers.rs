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
