//! What watches for things that do not go on: /proc/sys/kernel (proc_sys_kernel(5), `Documentation/admin-guide/sysctl/kernel.rst`). What
//! they report is tried by `cargo xtask sweep --crash`.

use crate::prelude::*;

tests![files_and_defaults, refuses_nonsense, values_stay, cpumask_of_the_watchdog, two_switches, only_root];

fn name(file: &str) -> std::ffi::CString {
    std::ffi::CString::new(format!("/proc/sys/kernel/{file}")).unwrap_or_default()
}

fn get(file: &str) -> Result<String, Failure> {
    Ok(slurp(&name(file))?.trim().to_string())
}

fn set(file: &str, value: &str) -> Result<(), Errno> {
    spew(&name(file), value)
}

/// Puts a value back at the end.
struct Kept(&'static str, String);

impl Kept {
    fn new(file: &'static str) -> Result<Self, Failure> {
        Ok(Self(file, get(file)?))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = set(self.0, &self.1);
    }
}

fn files_and_defaults() -> Outcome {
    let files = [
        ("watchdog", "1"),
        ("soft_watchdog", "1"),
        ("watchdog_thresh", "10"),
        ("softlockup_panic", "0"),
        ("panic_on_rcu_stall", "0"),
        ("hung_task_panic", "0"),
        ("hung_task_timeout_secs", "120"),
        ("hung_task_check_interval_secs", "0"),
        ("hung_task_check_count", "4194304"),
        ("hung_task_warnings", "10"),
    ];
    for (file, value) in files {
        check_eq!((file, stat(&name(file))?.st_mode & 0o7777), (file, 0o644));
        // Whether the watchdog is on depends on the machine.
        if !matches!(file, "watchdog" | "soft_watchdog") {
            check_eq!((file, get(file)?.as_str()), (file, value));
        }
    }
    Ok(())
}

fn refuses_nonsense() -> Outcome {
    let wrong = [
        ("watchdog", "2"),
        ("watchdog", "-1"),
        ("soft_watchdog", "2"),
        ("watchdog_thresh", "61"),
        ("watchdog_thresh", "-1"),
        ("watchdog_thresh", "x"),
        ("softlockup_panic", "2"),
        ("panic_on_rcu_stall", "2"),
        ("hung_task_panic", "2"),
        ("hung_task_check_count", "-1"),
        ("hung_task_warnings", "-2"),
        ("hung_task_timeout_secs", "x"),
        ("hung_task_timeout_secs", "9223372036854775807"),
        ("hung_task_check_interval_secs", "9223372036854775807"),
        ("watchdog_cpumask", "x"),
        ("watchdog_cpumask", "1-0"),
    ];
    for (file, value) in wrong {
        let before = get(file)?;
        check_eq!((file, value, set(file, value)), (file, value, Err(Errno(EINVAL))));
        check_eq!((file, get(file)?), (file, before));
    }
    Ok(())
}

fn values_stay() -> Outcome {
    let right = [
        ("watchdog_thresh", &["30", "60", "0"][..]),
        ("softlockup_panic", &["1"]),
        ("hung_task_panic", &["1"]),
        ("panic_on_rcu_stall", &["1"]),
        ("hung_task_timeout_secs", &["240", "0"]),
        ("hung_task_check_interval_secs", &["3600"]),
        ("hung_task_check_count", &["0", "2147483647"]),
        ("hung_task_warnings", &["-1", "0", "7"]),
    ];
    for (file, values) in right {
        let _kept = Kept::new(file)?;
        for value in values {
            set(file, value)?;
            check_eq!((file, get(file)?.as_str()), (file, *value));
        }
    }
    Ok(())
}

fn cpumask_of_the_watchdog() -> Outcome {
    let _kept = Kept::new("watchdog_cpumask")?;
    let possible = slurp(c"/sys/devices/system/cpu/possible")?;
    check_eq!(get("watchdog_cpumask")?, possible.trim());
    set("watchdog_cpumask", "0")?;
    check_eq!(get("watchdog_cpumask")?, "0");
    Ok(())
}

fn two_switches() -> Outcome {
    let (_kept, _also) = (Kept::new("watchdog")?, Kept::new("soft_watchdog")?);
    // Both have to be on.
    let steps = [
        ("watchdog", "1", "-"),
        ("soft_watchdog", "1", "1"),
        ("soft_watchdog", "0", "0"),
        // On Linux, to read a switch while nothing is watched turns it off: both are set before they are read again.
        ("watchdog", "1", "-"),
        ("soft_watchdog", "1", "1"),
        ("watchdog", "0", "0"),
        ("watchdog", "1", "-"),
        ("soft_watchdog", "1", "1"),
    ];
    for (index, (file, value, on)) in steps.into_iter().enumerate() {
        set(file, value)?;
        if on != "-" {
            check_eq!((index, get("soft_watchdog")?.as_str()), (index, on));
            // Where there is a detector of hard lockups, it is the other half of `watchdog`.
            let hard = get("nmi_watchdog").unwrap_or_default();
            let either = if hard == "1" { "1" } else { on };
            check_eq!((index, get("watchdog")?.as_str()), (index, either));
        }
    }
    Ok(())
}

fn only_root() -> Outcome {
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let files =
            ["watchdog", "watchdog_thresh", "watchdog_cpumask", "hung_task_timeout_secs", "softlockup_panic"];
        let wrong = files
            .iter()
            .position(|file| get(file).is_err() || open(&name(file), O_WRONLY, 0) != Err(Errno(EACCES)));
        wrong.map_or(0, |index| index as i32 + 1)
    })?;
    check_eq!(status, 0);
    Ok(())
}
