//! What /proc and /sys show (proc(5), sysfs(5)).

use crate::prelude::*;
use std::fs;

tests![
    proc_root_files,
    meminfo_adds_up,
    cpuinfo_lists_cpus,
    stat_counts,
    uptime_and_loadavg,
    version_and_cmdline,
    filesystems_and_mounts,
    pid_stat_fields,
    pid_status_fields,
    pid_maps_format,
    pid_fd_links,
    pid_fdinfo,
    pid_cmdline_environ,
    pid_exe_cwd_root,
    pid_task_threads,
    pid_smaps_and_statm,
    pid_io_and_limits,
    pid_wchan_and_stack,
    proc_self_and_thread_self,
    sysctl_kernel,
    sysctl_vm_fs,
    sysctl_write,
    proc_devices,
    interrupts_and_softirqs,
    proc_readdir,
    pid_permissions,
    pagemap_and_kpage,
    oom_adjust,
    sys_cpu,
    sys_node,
    sys_class_dev,
    sys_kernel,
    dev_nodes,
    kmsg_reads_and_writes,
    syslog_actions,
    proc_partial_reads,
    proc_errors,
    random_devices,
    mountinfo_format,
    pid_namespaces,
    zoneinfo_vmstat_buddyinfo,
];

fn has_lines(text: &str, starts: &[&str]) -> Outcome {
    for start in starts {
        check!(text.lines().any(|line| line.starts_with(start)), "{start} in {text}");
    }
    Ok(())
}

fn number(path: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(path).map_err(|e| Failure::new(format!("{path}: {e}")))?;
    text.trim().parse().map_err(|_| Failure::new(format!("{path}: {text}")))
}

fn proc_root_files() -> Outcome {
    for name in [
        "buddyinfo",
        "cmdline",
        "consoles",
        "cpuinfo",
        "devices",
        "diskstats",
        "filesystems",
        "interrupts",
        "iomem",
        "kmsg",
        "loadavg",
        "locks",
        "meminfo",
        "misc",
        "modules",
        "mounts",
        "partitions",
        "self",
        "slabinfo",
        "softirqs",
        "stat",
        "swaps",
        "sys",
        "sysvipc",
        "thread-self",
        "timer_list",
        "tty",
        "uptime",
        "version",
        "vmallocinfo",
        "vmstat",
        "zoneinfo",
    ] {
        check!(fs::symlink_metadata(format!("/proc/{name}")).is_ok(), "/proc/{name}");
    }
    Ok(())
}

fn meminfo() -> Result<Vec<(String, u64)>, Failure> {
    Ok(slurp(c"/proc/meminfo")?
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            Some((name.to_string(), rest.split_whitespace().next()?.parse().ok()?))
        })
        .collect())
}

fn meminfo_adds_up() -> Outcome {
    let info = meminfo()?;
    let get = |name: &str| info.iter().find(|(n, _)| n == name).map_or(0, |(_, v)| *v);
    let names = [
        "MemTotal",
        "MemFree",
        "MemAvailable",
        "Buffers",
        "Cached",
        "SwapCached",
        "Active",
        "Inactive",
        "Active(anon)",
        "Inactive(anon)",
        "Active(file)",
        "Inactive(file)",
        "Unevictable",
        "Mlocked",
        "SwapTotal",
        "SwapFree",
        "Dirty",
        "Writeback",
        "AnonPages",
        "Mapped",
        "Shmem",
        "Slab",
        "SReclaimable",
        "SUnreclaim",
        "KernelStack",
        "PageTables",
        "CommitLimit",
        "Committed_AS",
        "VmallocTotal",
        "VmallocUsed",
    ];
    for name in names {
        check!(info.iter().any(|(n, _)| n == name), "{name}");
    }
    check!(get("MemTotal") > 20_000);
    check!(get("MemFree") <= get("MemTotal") && get("MemAvailable") <= get("MemTotal"));
    let order: Vec<_> = info.iter().map(|(n, _)| n.as_str()).take(3).collect();
    check_eq!(order, ["MemTotal", "MemFree", "MemAvailable"]);
    // A file in tmpfs shows as Shmem and Cached.
    let before = get("Shmem");
    create(c"f", &vec![1; 4 << 20])?;
    let info = meminfo()?;
    let shmem = info.iter().find(|(n, _)| n == "Shmem").map_or(0, |(_, v)| *v);
    check!(shmem >= before + 4000, "{shmem} {before}");
    let mut s: sysinfo = zeroed();
    sys!(SYS_sysinfo, addr_mut(&mut s))?;
    check_eq!(s.totalram * u64::from(s.mem_unit) / 1024, get("MemTotal"));
    Ok(())
}

fn cpuinfo_lists_cpus() -> Outcome {
    let text = slurp(c"/proc/cpuinfo")?;
    let count = text.lines().filter(|l| l.starts_with("processor\t")).count();
    check_eq!(count, c!(sysconf(_SC_NPROCESSORS_ONLN))? as usize);
    #[cfg(target_arch = "x86_64")]
    has_lines(&text, &["vendor_id\t: ", "model name\t: ", "flags\t\t: ", "bogomips\t: ", "cpu MHz\t\t: "])?;
    #[cfg(target_arch = "aarch64")]
    has_lines(&text, &["BogoMIPS\t: ", "Features\t: ", "CPU implementer\t: ", "CPU part\t: "])?;
    Ok(())
}

fn stat_counts() -> Outcome {
    let text = slurp(c"/proc/stat")?;
    has_lines(
        &text,
        &[
            "cpu  ",
            "cpu0 ",
            "intr ",
            "ctxt ",
            "btime ",
            "processes ",
            "procs_running ",
            "procs_blocked ",
            "softirq ",
        ],
    )?;
    let cpu = text.lines().next().unwrap_or_default();
    check_eq!(cpu.split_whitespace().count(), 11);
    let forks = |text: &str| -> u64 {
        let line = text.lines().find(|l| l.starts_with("processes "));
        line.and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
    };
    in_child(|| 0)?;
    check!(forks(&slurp(c"/proc/stat")?) > forks(&text));
    Ok(())
}

fn uptime_and_loadavg() -> Outcome {
    let text = slurp(c"/proc/uptime")?;
    let up: Vec<f64> = text.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    check_eq!(up.len(), 2);
    let mut t: timespec = zeroed();
    sys!(SYS_clock_gettime, CLOCK_BOOTTIME, addr_mut(&mut t))?;
    check!((t.tv_sec as f64 - up[0]).abs() < 5.0, "{} {}", t.tv_sec, up[0]);
    let load = slurp(c"/proc/loadavg")?;
    let words: Vec<&str> = load.split_whitespace().collect();
    check_eq!(words.len(), 5);
    check!(words[0].parse::<f64>().is_ok() && words[3].contains('/'));
    Ok(())
}

fn version_and_cmdline() -> Outcome {
    let version = slurp(c"/proc/version")?;
    let mut name: utsname = zeroed();
    sys!(SYS_uname, addr_mut(&mut name))?;
    let text = |field: &[c_char]| -> String {
        field.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect()
    };
    check_eq!(text(&name.sysname), "Linux");
    check!(version.starts_with(&format!("Linux version {} ", text(&name.release))), "{version}");
    check_eq!(text(&name.machine), std::env::consts::ARCH);
    check!(text(&name.version).starts_with('#'));
    check_eq!(slurp(c"/proc/sys/kernel/osrelease")?.trim(), text(&name.release));
    check!(slurp(c"/proc/cmdline")?.contains("console="));
    Ok(())
}

fn filesystems_and_mounts() -> Outcome {
    let text = slurp(c"/proc/filesystems")?;
    has_lines(
        &text,
        &[
            "nodev\tsysfs",
            "nodev\ttmpfs",
            "nodev\tproc",
            "nodev\tdevtmpfs",
            "nodev\tdevpts",
            "nodev\tpipefs",
            "nodev\tsockfs",
            "nodev\tramfs",
        ],
    )?;
    let mounts = slurp(c"/proc/mounts")?;
    has_lines(
        &mounts,
        &[
            "rootfs / rootfs rw",
            "proc /proc proc rw,nosuid",
            "tmpfs /tmp tmpfs rw,nosuid",
            "devpts /dev/pts devpts rw,nosuid",
        ],
    )?;
    check_eq!(mounts, slurp(c"/proc/self/mounts")?);
    Ok(())
}

fn pid_stat_fields() -> Outcome {
    sys!(SYS_prctl, PR_SET_NAME, c"a) b (c".as_ptr(), 0, 0, 0)?;
    let text = slurp(c"/proc/self/stat")?;
    check!(text.starts_with(&format!("{} (a) b (c) R ", getpid())), "{text}");
    let (_, rest) = text.rsplit_once(") ").unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    check_eq!(fields.len(), 50);
    check_eq!(fields[1], sys!(SYS_getppid)?.to_string());
    check_eq!(fields[2], getpid().to_string());
    check_eq!(fields[16], "0");
    check_eq!(fields[17], "1");
    check!(fields[19].parse::<u64>().is_ok_and(|start| start > 0));
    check!(fields[20].parse::<u64>().is_ok_and(|size| size > 100_000));
    check!(fields[21].parse::<u64>().is_ok_and(|pages| pages > 10));
    Ok(())
}

fn pid_status_fields() -> Outcome {
    let text = slurp(c"/proc/self/status")?;
    has_lines(
        &text,
        &[
            "Name:\t",
            "Umask:\t0022",
            "State:\tR (running)",
            "Tgid:\t",
            "Ngid:\t0",
            "Pid:\t",
            "PPid:\t",
            "TracerPid:\t0",
            "Uid:\t0\t0\t0\t0",
            "Gid:\t0\t0\t0\t0",
            "FDSize:\t",
            "Groups:\t",
            "VmPeak:\t",
            "VmSize:\t",
            "VmLck:\t",
            "VmPin:\t",
            "VmHWM:\t",
            "VmRSS:\t",
            "RssAnon:\t",
            "RssFile:\t",
            "RssShmem:\t",
            "VmData:\t",
            "VmStk:\t",
            "VmExe:\t",
            "VmLib:\t",
            "VmPTE:\t",
            "VmSwap:\t",
            "Threads:\t1",
            "SigQ:\t",
            "SigPnd:\t",
            "ShdPnd:\t",
            "SigBlk:\t",
            "SigIgn:\t",
            "SigCgt:\t",
            "CapInh:\t",
            "CapPrm:\t",
            "CapEff:\t",
            "CapBnd:\t",
            "CapAmb:\t",
            "NoNewPrivs:\t0",
            "Seccomp:\t0",
            "Cpus_allowed:\t",
            "Cpus_allowed_list:\t",
            "Mems_allowed:\t",
            "voluntary_ctxt_switches:\t",
        ],
    )
}

fn pid_maps_format() -> Outcome {
    let text = slurp(c"/proc/self/maps")?;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        check!(words.len() >= 5 && words[0].contains('-') && words[1].len() == 4, "{line}");
        // The name starts at column 73, as programs expect.
        if words.len() > 5 {
            check_eq!(line.find(words[5]), Some(73));
        }
    }
    has_lines(&text, &[""])?;
    for part in ["[stack]", "[vdso]", "[vvar]", "/init"] {
        check!(text.contains(part), "{part} in {text}");
    }
    let mut last = 0;
    for line in text.lines() {
        let start = line.split('-').next().and_then(|s| u64::from_str_radix(s, 16).ok()).unwrap_or(0);
        check!(start >= last);
        last = start;
    }
    Ok(())
}

fn pid_fd_links() -> Outcome {
    let file = create(c"f", b"x")?;
    let here = std::env::current_dir()?;
    let link =
        |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}")).map(|p| p.to_string_lossy().into_owned());
    check_eq!(link(file)?, format!("{}/f", here.display()));
    unlink(c"f")?;
    check_eq!(link(file)?, format!("{}/f (deleted)", here.display()));
    let ends = pipe(0)?;
    check_eq!(link(ends[0])?, format!("pipe:[{}]", fstat(ends[0])?.st_ino));
    let event = sys!(SYS_eventfd2, 0, 0)? as i32;
    check_eq!(link(event)?, "anon_inode:[eventfd]");
    let epoll = sys!(SYS_epoll_create1, 0)? as i32;
    check_eq!(link(epoll)?, "anon_inode:[eventpoll]");
    check!(link(77).is_err());
    let mut fds: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|e| e.ok()?.file_name().into_string().ok()?.parse().ok())
        .collect();
    fds.sort_unstable();
    check!(fds.contains(&file) && fds.contains(&epoll) && fds.contains(&0));
    // The link's permission bits show how it was opened.
    let read_only = open(c"/dev/null", O_RDONLY, 0)?;
    let path = std::ffi::CString::new(format!("/proc/self/fd/{read_only}")).unwrap_or_default();
    check_eq!(lstat(&path)?.st_mode & 0o777, 0o500);
    Ok(())
}

fn pid_fdinfo() -> Outcome {
    let fd = create(c"f", b"0123456789")?;
    seek(fd, 7, SEEK_SET)?;
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    #[cfg(target_arch = "x86_64")]
    has_lines(&text, &["pos:\t7", "flags:\t0100002", "mnt_id:\t", "ino:\t"])?;
    #[cfg(target_arch = "aarch64")]
    has_lines(&text, &["pos:\t7", "flags:\t0400002", "mnt_id:\t", "ino:\t"])?;
    Ok(())
}

fn pid_cmdline_environ() -> Outcome {
    let cmdline = fs::read("/proc/self/cmdline")?;
    let expected: Vec<u8> =
        std::env::args().flat_map(|arg| arg.into_bytes().into_iter().chain([0])).collect();
    check_eq!(cmdline, expected);
    check!(fs::read("/proc/self/environ").is_ok());
    let kthread = fs::read("/proc/2/cmdline")?;
    check_eq!(kthread, b"");
    check_eq!(slurp(c"/proc/2/comm")?, "kthreadd\n");
    Ok(())
}

fn pid_exe_cwd_root() -> Outcome {
    check_eq!(fs::read_link("/proc/self/exe")?.to_string_lossy().as_ref(), "/init");
    check_eq!(fs::read_link("/proc/self/cwd")?, std::env::current_dir()?);
    check_eq!(fs::read_link("/proc/self/root")?.to_string_lossy().as_ref(), "/");
    check!(fs::read_link("/proc/2/exe").is_err());
    // Through the root link one gets where the process is.
    check!(fs::metadata("/proc/self/root/proc/version").is_ok());
    Ok(())
}

fn pid_task_threads() -> Outcome {
    let (to, from) = std::sync::mpsc::channel();
    let (quit, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _ = to.send(sys!(SYS_gettid).unwrap_or(0));
        let _ = wait.recv();
    });
    let tid = from.recv().unwrap_or(0);
    let mut tasks: Vec<usize> = fs::read_dir("/proc/self/task")?
        .filter_map(|e| e.ok()?.file_name().into_string().ok()?.parse().ok())
        .collect();
    tasks.sort_unstable();
    check_eq!(tasks, [getpid() as usize, tid]);
    check!(fs::read_to_string(format!("/proc/{tid}/status"))?.contains(&format!("Tgid:\t{}\n", getpid())));
    // Threads have no entry in the listing of /proc.
    let listed =
        fs::read_dir("/proc")?.filter_map(Result::ok).any(|e| e.file_name() == tid.to_string().as_str());
    check!(!listed);
    drop(quit);
    check!(thread.join().is_ok());
    Ok(())
}

fn pid_smaps_and_statm() -> Outcome {
    let at = map_anon(1 << 20)?;
    for n in 0..64 {
        poke(at + n * 4096, 1);
    }
    let text = slurp(c"/proc/self/smaps")?;
    has_lines(
        &text,
        &["Size:", "KernelPageSize:", "Rss:", "Pss:", "Private_Dirty:", "Anonymous:", "VmFlags:"],
    )?;
    has_lines(&slurp(c"/proc/self/smaps_rollup")?, &["Rss:", "Pss:"])?;
    let statm = slurp(c"/proc/self/statm")?;
    let pages: Vec<u64> = statm.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    check_eq!(pages.len(), 7);
    check!(pages[0] > 256 && pages[1] > 64);
    Ok(())
}

fn pid_io_and_limits() -> Outcome {
    has_lines(
        &slurp(c"/proc/self/limits")?,
        &["Limit ", "Max cpu time", "Max processes", "Max realtime timeout"],
    )?;
    let text = slurp(c"/proc/self/io")?;
    has_lines(&text, &["rchar: ", "wchar: ", "syscr: ", "syscw: "])?;
    has_lines(&slurp(c"/proc/self/schedstat")?, &[""])?;
    Ok(())
}

fn pid_wchan_and_stack() -> Outcome {
    check!(slurp(c"/proc/self/wchan").is_ok());
    check!(slurp(c"/proc/self/personality")?.starts_with("00000000"));
    check_eq!(slurp(c"/proc/self/loginuid").map(|t| t.trim() == "4294967295").unwrap_or(true), true);
    check!(slurp(c"/proc/self/cgroup").is_ok());
    Ok(())
}

fn proc_self_and_thread_self() -> Outcome {
    check_eq!(fs::read_link("/proc/self")?.to_string_lossy().as_ref(), getpid().to_string().as_str());
    let thread = fs::read_link("/proc/thread-self")?;
    check_eq!(thread.to_string_lossy().as_ref(), format!("{0}/task/{0}", getpid()).as_str());
    check!(fs::metadata("/proc/self/").is_ok());
    check_eq!(fs::read_link("/proc/mounts")?.to_string_lossy().as_ref(), "self/mounts");
    Ok(())
}

fn sysctl_kernel() -> Outcome {
    check_eq!(slurp(c"/proc/sys/kernel/ostype")?, "Linux\n");
    check!(number("/proc/sys/kernel/pid_max")? >= 32768);
    check!(number("/proc/sys/kernel/threads-max")? > 100);
    check_eq!(number("/proc/sys/kernel/ngroups_max")?, 65536);
    check_eq!(number("/proc/sys/kernel/cap_last_cap")?, 40);
    check!(number("/proc/sys/kernel/randomize_va_space")? <= 2);
    let id = slurp(c"/proc/sys/kernel/random/boot_id")?;
    check_eq!((id.len(), id.as_bytes()[8]), (37, b'-'));
    check_eq!(id, slurp(c"/proc/sys/kernel/random/boot_id")?);
    check!(slurp(c"/proc/sys/kernel/random/uuid")? != slurp(c"/proc/sys/kernel/random/uuid")?);
    check_eq!(number("/proc/sys/kernel/random/entropy_avail")?, 256);
    Ok(())
}

fn sysctl_vm_fs() -> Outcome {
    check_eq!(number("/proc/sys/vm/overcommit_memory")?, 0);
    check_eq!(number("/proc/sys/vm/overcommit_ratio")?, 50);
    check_eq!(number("/proc/sys/vm/swappiness")?, 60);
    check!(number("/proc/sys/vm/max_map_count")? >= 65530);
    check!(number("/proc/sys/vm/min_free_kbytes")? > 0);
    check_eq!(number("/proc/sys/fs/pipe-max-size")?, 1 << 20);
    check!(number("/proc/sys/fs/nr_open")? >= 1 << 20);
    check!(number("/proc/sys/fs/file-max")? > 1000);
    check_eq!(slurp(c"/proc/sys/fs/file-nr")?.split_whitespace().count(), 3);
    Ok(())
}

fn sysctl_write() -> Outcome {
    let old = slurp(c"/proc/sys/vm/swappiness")?;
    spew(c"/proc/sys/vm/swappiness", "10\n")?;
    check_eq!(slurp(c"/proc/sys/vm/swappiness")?, "10\n");
    check_err!(spew(c"/proc/sys/vm/swappiness", "nonsense"), EINVAL);
    check_err!(spew(c"/proc/sys/vm/swappiness", "9999"), EINVAL);
    spew(c"/proc/sys/vm/swappiness", &old)?;
    check_err!(spew(c"/proc/sys/kernel/ostype", "x"), EACCES);
    spew(c"/proc/sys/kernel/hostname", "by-sysctl\n")?;
    let mut name: utsname = zeroed();
    sys!(SYS_uname, addr_mut(&mut name))?;
    check_eq!(name.nodename[3] as u8, b's');
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(open(c"/proc/sys/vm/swappiness", O_WRONLY, 0) != Err(Errno(EACCES)))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn proc_devices() -> Outcome {
    let text = slurp(c"/proc/devices")?;
    has_lines(
        &text,
        &[
            "Character devices:",
            "  1 mem",
            "  5 /dev/tty",
            "  5 /dev/console",
            "  5 /dev/ptmx",
            "136 pts",
            "Block devices:",
        ],
    )
}

fn interrupts_and_softirqs() -> Outcome {
    let text = slurp(c"/proc/interrupts")?;
    check!(text.lines().next().is_some_and(|l| l.contains("CPU0")), "{text}");
    let text = slurp(c"/proc/softirqs")?;
    has_lines(&text, &["                    CPU0"])?;
    check!(text.contains("TIMER:") && text.contains("RCU:"));
    Ok(())
}

fn proc_readdir() -> Outcome {
    let child = fork(|| {
        sleep_ms(20_000);
        0
    })?;
    let names: Vec<String> =
        fs::read_dir("/proc")?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    for wanted in ["1", "2", &getpid().to_string(), &child.to_string(), "self", "meminfo"] {
        check!(names.iter().any(|n| n == wanted), "{wanted}");
    }
    kill(child, SIGKILL)?;
    wait(child)?;
    check!(!fs::exists(format!("/proc/{child}"))?);
    let metadata = stat(c"/proc/1")?;
    check_eq!((metadata.st_mode & 0o7777, metadata.st_uid), (0o555, 0));
    Ok(())
}

fn pid_permissions() -> Outcome {
    let status = in_child(|| {
        let _ = sys!(SYS_setresgid, 1000, 1000, 1000);
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let maps = open(c"/proc/1/maps", O_RDONLY, 0) == Err(Errno(EACCES))
            || slurp(c"/proc/1/maps") == Err(Errno(EACCES));
        let environ = open(c"/proc/1/environ", O_RDONLY, 0) == Err(Errno(EACCES));
        let fd = open(c"/proc/1/fd", O_RDONLY, 0) == Err(Errno(EACCES));
        let stat = slurp(c"/proc/1/stat").is_ok();
        let exe = fs::read_link("/proc/1/exe").is_err();
        [maps, environ, fd, stat, exe].iter().enumerate().map(|(n, ok)| i32::from(!ok) << n).sum()
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn pagemap_and_kpage() -> Outcome {
    let at = map_anon(8192)?;
    poke(at, 1);
    let fd = open(c"/proc/self/pagemap", O_RDONLY, 0)?;
    let mut words = [0_u64; 2];
    sys!(SYS_pread64, fd, words.as_mut_ptr(), 16, at / 4096 * 8)?;
    check!(words[0] >> 63 == 1 && words[1] >> 63 == 0);
    Ok(())
}

fn oom_adjust() -> Outcome {
    check_eq!(slurp(c"/proc/self/oom_score_adj")?, "0\n");
    spew(c"/proc/self/oom_score_adj", "500")?;
    check_eq!(slurp(c"/proc/self/oom_score_adj")?, "500\n");
    check!(number("/proc/self/oom_score")? >= 500);
    check_err!(spew(c"/proc/self/oom_score_adj", "1001"), EINVAL);
    check_eq!(in_child(|| i32::from(slurp(c"/proc/self/oom_score_adj") != Ok("500\n".into())))?, 0);
    Ok(())
}

fn sys_cpu() -> Outcome {
    let last = c!(sysconf(_SC_NPROCESSORS_ONLN))? - 1;
    let range = if last == 0 { "0\n".to_string() } else { format!("0-{last}\n") };
    check_eq!(slurp(c"/sys/devices/system/cpu/online")?, range);
    check_eq!(slurp(c"/sys/devices/system/cpu/present")?, range);
    check!(fs::metadata("/sys/devices/system/cpu/cpu0/topology/core_id").is_ok());
    check!(fs::metadata("/sys/devices/system/cpu/possible").is_ok());
    Ok(())
}

fn sys_node() -> Outcome {
    let online = slurp(c"/sys/devices/system/node/online")?;
    check!(online.starts_with('0'), "{online}");
    check!(slurp(c"/sys/devices/system/node/node0/meminfo")?.contains("Node 0 MemTotal:"));
    check!(slurp(c"/sys/devices/system/node/node0/cpulist")?.starts_with('0'));
    Ok(())
}

fn sys_class_dev() -> Outcome {
    check_eq!(slurp(c"/sys/class/mem/null/dev")?, "1:3\n");
    check!(fs::symlink_metadata("/sys/class/mem/null")?.file_type().is_symlink());
    check!(fs::read_link("/sys/class/mem/null")?.to_string_lossy().contains("devices/virtual/mem/null"));
    check!(slurp(c"/sys/class/mem/null/uevent")?.contains("MAJOR=1\nMINOR=3\nDEVNAME=null\n"));
    check!(fs::metadata("/sys/dev/char/1:3").is_ok());
    for folder in ["block", "bus", "class", "dev", "devices", "firmware", "fs", "kernel", "module", "power"] {
        check!(fs::metadata(format!("/sys/{folder}"))?.is_dir(), "{folder}");
    }
    Ok(())
}

fn sys_kernel() -> Outcome {
    check!(number("/sys/kernel/uevent_seqnum").is_ok());
    check!(fs::metadata("/sys/kernel/mm").is_ok());
    check_eq!(stat(c"/sys/kernel")?.st_mode, S_IFDIR | 0o755);
    let s = stat(c"/sys/kernel/uevent_seqnum")?;
    check_eq!((s.st_mode, s.st_size), (S_IFREG | 0o444, 4096));
    check_err!(open(c"/sys/kernel/new", O_CREAT | O_WRONLY, 0o600), EACCES);
    check_err!(mkdir(c"/sys/new", 0o755), EPERM);
    Ok(())
}

fn dev_nodes() -> Outcome {
    let nodes: [(&std::ffi::CStr, u32, u32, u32); 9] = [
        (c"/dev/null", 1, 3, 0o666),
        (c"/dev/zero", 1, 5, 0o666),
        (c"/dev/full", 1, 7, 0o666),
        (c"/dev/random", 1, 8, 0o666),
        (c"/dev/urandom", 1, 9, 0o666),
        (c"/dev/kmsg", 1, 11, 0o644),
        (c"/dev/tty", 5, 0, 0o666),
        (c"/dev/console", 5, 1, 0o600),
        (c"/dev/ptmx", 5, 2, 0o666),
    ];
    for (path, major, minor, mode) in nodes {
        let s = stat(path)?;
        check_eq!((s.st_rdev, s.st_mode), (makedev(major, minor), S_IFCHR | mode));
    }
    let full = open(c"/dev/full", O_RDWR, 0)?;
    check_err!(write(full, b"x"), ENOSPC);
    check_eq!(read_vec(full, 4)?, [0; 4]);
    Ok(())
}

fn kmsg_reads_and_writes() -> Outcome {
    let fd = open(c"/dev/kmsg", O_RDWR | O_NONBLOCK, 0)?;
    write(fd, b"<6>guest test says hello\n")?;
    let mut found = false;
    loop {
        match read_vec(fd, 8192) {
            Ok(record) => {
                let text = String::from_utf8_lossy(&record).into_owned();
                check!(text.split(';').next().is_some_and(|head| head.split(',').count() >= 4), "{text}");
                found |= text.contains(";guest test says hello\n");
            }
            Err(Errno(EPIPE)) => {}
            Err(errno) => {
                check_eq!(errno, Errno(EAGAIN));
                break;
            }
        }
    }
    check!(found);
    check_err!(read_vec(open(c"/dev/kmsg", O_RDONLY | O_NONBLOCK, 0)?, 1), EINVAL);
    Ok(())
}

fn syslog_actions() -> Outcome {
    let size = sys!(SYS_syslog, 10, 0, 0)?;
    check!(size >= 4096);
    let mut buffer = vec![0_u8; size];
    let count = sys!(SYS_syslog, 3, buffer.as_mut_ptr(), size)?;
    check!(count > 0 && buffer[0] == b'<');
    check_err!(sys!(SYS_syslog, 3, 0, 0), EINVAL);
    check_err!(sys!(SYS_syslog, 99, 0, 0), EINVAL);
    sys!(SYS_syslog, 8, 0, 1)?;
    Ok(())
}

fn proc_partial_reads() -> Outcome {
    // Byte by byte gives the same as all at once.
    let whole = slurp(c"/proc/filesystems")?;
    let fd = open(c"/proc/filesystems", O_RDONLY, 0)?;
    let mut bytes = Vec::new();
    loop {
        let part = read_vec(fd, 1)?;
        if part.is_empty() {
            break;
        }
        bytes.extend(part);
    }
    check_eq!(String::from_utf8_lossy(&bytes), whole.as_str());
    seek(fd, 10, SEEK_SET)?;
    check_eq!(read_vec(fd, 10)?, &whole.as_bytes()[10..20]);
    let mut two = [0_u8; 2];
    sys!(SYS_pread64, fd, two.as_mut_ptr(), 2, 0)?;
    check_eq!(two, [b'n', b'o']);
    Ok(())
}

fn proc_errors() -> Outcome {
    check_err!(open(c"/proc/version", O_WRONLY, 0).and_then(|fd| write(fd, b"x")), EIO);
    check_err!(unlink(c"/proc/version"), EPERM);
    check_err!(open(c"/proc/new", O_CREAT | O_WRONLY, 0o600), ENOENT);
    check_err!(mkdir(c"/proc/new", 0o755), ENOENT);
    check_err!(open(c"/proc/99999999/stat", O_RDONLY, 0), ENOENT);
    check_err!(open(c"/proc/1/nonsense", O_RDONLY, 0), ENOENT);
    Ok(())
}

fn random_devices() -> Outcome {
    for path in [c"/dev/random", c"/dev/urandom"] {
        let fd = open(path, O_RDWR, 0)?;
        let (one, two) = (read_vec(fd, 32)?, read_vec(fd, 32)?);
        check!(one != two && one.len() == 32);
        write(fd, b"some entropy")?;
    }
    let mut buffer = [0_u8; 256];
    check_eq!(sys!(SYS_getrandom, buffer.as_mut_ptr(), 256, 0)?, 256);
    check!(buffer.iter().filter(|b| **b == 0).count() < 20);
    check_err!(sys!(SYS_getrandom, buffer.as_mut_ptr(), 16, 0x80), EINVAL);
    check_err!(sys!(SYS_getrandom, 1, 16, 0), EFAULT);
    check_eq!(sys!(SYS_getrandom, buffer.as_mut_ptr(), 16, GRND_NONBLOCK)?, 16);
    Ok(())
}

fn mountinfo_format() -> Outcome {
    let text = slurp(c"/proc/self/mountinfo")?;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        check!(words.len() >= 10 && words.contains(&"-"), "{line}");
        check!(words[0].parse::<u32>().is_ok() && words[2].contains(':'), "{line}");
    }
    check!(text.lines().any(|l| l.contains(" / /proc rw,nosuid") && l.contains(" - proc proc ")), "{text}");
    Ok(())
}

fn pid_namespaces() -> Outcome {
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"] {
        let link = fs::read_link(format!("/proc/self/ns/{kind}"))?;
        let link = link.to_string_lossy().into_owned();
        check!(link.contains(":[") && link.ends_with(']'), "{link}");
    }
    check_eq!(fs::read_link("/proc/self/ns/uts")?, fs::read_link("/proc/1/ns/uts")?);
    let uts = fs::read_link("/proc/self/ns/uts")?;
    check_eq!(uts.to_string_lossy().as_ref(), "uts:[4026531838]");
    Ok(())
}

fn zoneinfo_vmstat_buddyinfo() -> Outcome {
    has_lines(
        &slurp(c"/proc/vmstat")?,
        &["nr_free_pages ", "nr_anon_pages ", "pgfault ", "pgmajfault ", "pgalloc_"],
    )?;
    check!(slurp(c"/proc/zoneinfo")?.starts_with("Node 0, zone "));
    let buddy = slurp(c"/proc/buddyinfo")?;
    check!(buddy.starts_with("Node 0, zone "), "{buddy}");
    check_eq!(buddy.lines().next().map(|l| l.split_whitespace().count()), Some(15));
    let before = slurp(c"/proc/vmstat")?;
    let fault = |text: &str| -> u64 {
        let line = text.lines().find(|l| l.starts_with("pgfault "));
        line.and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
    };
    let at = map_anon(1 << 20)?;
    for n in 0..256 {
        poke(at + n * 4096, 1);
    }
    check!(fault(&slurp(c"/proc/vmstat")?) >= fault(&before) + 256);
    Ok(())
}
