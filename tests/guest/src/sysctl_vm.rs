//! /proc/sys/vm and what its files do (proc_sys_vm(5)).

use crate::prelude::*;

tests![
    modes_and_defaults,
    refuses_nonsense,
    ratios_and_absolute_values,
    reserves_and_watermarks,
    caches_are_dropped,
    map_count_is_enforced,
    lowest_address,
    layout_upwards,
    no_randomisation,
    memfd_executable,
    overcommit_never,
    only_root_writes,
];

fn name(file: &str) -> std::ffi::CString {
    std::ffi::CString::new(format!("/proc/sys/vm/{file}")).unwrap_or_default()
}

fn get(file: &str) -> Result<String, Failure> {
    Ok(slurp(&name(file))?.trim().to_string())
}

fn number(file: &str) -> Result<i64, Failure> {
    get(file)?.parse().map_err(|_| Failure::new(file))
}

fn set(file: &str, value: &str) -> Result<(), Errno> {
    spew(&name(file), value)
}

/// A value for as long as the test needs it.
struct Setting(&'static str, String);

impl Setting {
    fn new(file: &'static str, value: &str) -> Result<Self, Failure> {
        let old = get(file)?;
        set(file, value).map_err(|e| Failure::new(format!("{file}: {e:?}")))?;
        Ok(Self(file, old))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = set(self.0, &self.1);
    }
}

fn modes_and_defaults() -> Outcome {
    let files = [
        ("dirty_background_bytes", 0o644, Some(0)),
        ("dirty_background_ratio", 0o644, Some(10)),
        ("dirty_bytes", 0o644, Some(0)),
        ("dirty_expire_centisecs", 0o644, Some(3000)),
        ("dirty_ratio", 0o644, Some(20)),
        ("dirty_writeback_centisecs", 0o644, Some(500)),
        ("dirtytime_expire_seconds", 0o644, Some(43200)),
        ("laptop_mode", 0o644, Some(0)),
        ("legacy_va_layout", 0o644, Some(0)),
        ("max_map_count", 0o644, Some(65530)),
        ("memfd_noexec", 0o644, Some(0)),
        ("min_free_kbytes", 0o644, None),
        ("mmap_min_addr", 0o644, None),
        ("mmap_rnd_bits", 0o600, None),
        ("oom_dump_tasks", 0o644, Some(1)),
        ("oom_kill_allocating_task", 0o644, Some(0)),
        ("overcommit_kbytes", 0o644, Some(0)),
        ("overcommit_memory", 0o644, Some(0)),
        ("overcommit_ratio", 0o644, Some(50)),
        ("page-cluster", 0o644, Some(3)),
        ("panic_on_oom", 0o644, Some(0)),
        ("stat_interval", 0o644, Some(1)),
        ("swappiness", 0o644, Some(60)),
        ("admin_reserve_kbytes", 0o644, None),
        ("user_reserve_kbytes", 0o644, None),
        ("watermark_scale_factor", 0o644, Some(10)),
    ];
    for (file, mode, value) in files {
        let stat = stat(&name(file)).map_err(|e| Failure::new(format!("{file}: {e:?}")))?;
        check!(stat.st_mode & 0o777 == mode, "{file} {:o}", stat.st_mode);
        let got = number(file)?;
        check!(value.is_none_or(|value| value == got), "{file} is {got}");
    }
    check!(number("min_free_kbytes")? >= 128);
    check!((4096..=65536).contains(&number("mmap_min_addr")?));
    // A share of the memory that was free at boot, up to a limit.
    check!((1..=8192).contains(&number("admin_reserve_kbytes")?));
    check!((1..=131_072).contains(&number("user_reserve_kbytes")?));
    check!((18..=28).contains(&number("mmap_rnd_bits")?));
    check!(get("lowmem_reserve_ratio")?.starts_with("256\t256\t32\t0"));
    for (file, mode) in [("drop_caches", 0o200), ("compact_memory", 0o200)] {
        check_eq!(stat(&name(file))?.st_mode & 0o777, mode);
        check_err!(open(&name(file), O_RDONLY, 0), EACCES);
    }
    check_eq!(stat(&name("stat_refresh"))?.st_mode & 0o777, 0o600);
    check_eq!(get("stat_refresh")?, "");
    Ok(())
}

fn refuses_nonsense() -> Outcome {
    let bad = [
        ("dirty_background_bytes", "0"),
        ("dirty_background_ratio", "101"),
        ("dirty_bytes", "4096"),
        ("dirty_ratio", "101"),
        ("drop_caches", "5"),
        ("drop_caches", "0"),
        ("compact_memory", "2"),
        ("max_map_count", "-1"),
        ("memfd_noexec", "3"),
        ("mmap_rnd_bits", "17"),
        ("mmap_rnd_bits", "34"),
        ("overcommit_memory", "3"),
        ("overcommit_memory", "-1"),
        ("page-cluster", "32"),
        ("panic_on_oom", "3"),
        ("swappiness", "201"),
        ("watermark_scale_factor", "0"),
        ("watermark_scale_factor", "3001"),
        ("min_free_kbytes", "much"),
        ("swappiness", ""),
    ];
    for (file, value) in bad {
        let got = set(file, value);
        let expected = if value.is_empty() { Ok(()) } else { Err(Errno(EINVAL)) };
        check!(got == expected, "{value} to {file}: {got:?}");
    }
    check_eq!(number("swappiness")?, 60);
    Ok(())
}

fn ratios_and_absolute_values() -> Outcome {
    let pairs = [
        ("overcommit_ratio", "50", "overcommit_kbytes", "100000"),
        ("dirty_ratio", "20", "dirty_bytes", "1048576"),
        ("dirty_background_ratio", "10", "dirty_background_bytes", "524288"),
    ];
    for (ratio, value, bytes, absolute) in pairs {
        set(bytes, absolute)?;
        check_eq!((get(ratio)?.as_str(), get(bytes)?.as_str()), ("0", absolute));
        set(ratio, value)?;
        check_eq!((get(ratio)?.as_str(), get(bytes)?.as_str()), (value, "0"));
    }
    let limit = || -> Result<i64, Failure> {
        let text = slurp(c"/proc/meminfo")?;
        let line = text.lines().find(|l| l.starts_with("CommitLimit")).unwrap_or_default();
        Ok(line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0))
    };
    let before = limit()?;
    set("overcommit_kbytes", "40000")?;
    let absolute = limit();
    set("overcommit_ratio", "25")?;
    let quarter = limit();
    set("overcommit_ratio", "50")?;
    check_eq!(absolute?, 40000);
    check!((quarter? - before / 2).abs() < 400);
    let threshold = || -> Result<u64, Failure> {
        let text = slurp(c"/proc/vmstat")?;
        let line = text.lines().find(|l| l.starts_with("nr_dirty_threshold ")).unwrap_or_default();
        Ok(line.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0))
    };
    check!(threshold()? > 256);
    Ok(())
}

fn marks() -> Result<u64, Failure> {
    let text = slurp(c"/proc/zoneinfo")?;
    let min = |l: &str| l.trim().strip_prefix("min ").and_then(|n| n.trim().parse::<u64>().ok());
    Ok(text.lines().filter_map(min).sum())
}

fn reserves_and_watermarks() -> Outcome {
    let before = marks()?;
    let kb = number("min_free_kbytes")?;
    {
        let _more = Setting::new("min_free_kbytes", &(kb * 2).to_string())?;
        check!(marks()? > before * 3 / 2, "{} of {before}", marks()?);
    }
    check!(marks()?.abs_diff(before) <= 4);
    let high = || -> Result<u64, Failure> {
        let text = slurp(c"/proc/zoneinfo")?;
        let high = |l: &str| l.trim().strip_prefix("high ").and_then(|n| n.trim().parse::<u64>().ok());
        Ok(text.lines().filter_map(high).sum())
    };
    let before = high()?;
    let _wide = Setting::new("watermark_scale_factor", "1000")?;
    check!(high()? > before, "{} of {before}", high()?);
    let ratio = get("lowmem_reserve_ratio")?;
    set("lowmem_reserve_ratio", "128 64")?;
    let changed = get("lowmem_reserve_ratio")?;
    set("lowmem_reserve_ratio", &ratio)?;
    check!(changed.starts_with("128\t64\t32"));
    Ok(())
}

fn event(name: &str) -> Result<u64, Failure> {
    let text = slurp(c"/proc/vmstat")?;
    let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.ok_or_else(|| Failure::new(name))
}

fn caches_are_dropped() -> Outcome {
    let (pages, slab) = (event("drop_pagecache")?, event("drop_slab")?);
    set("drop_caches", "1")?;
    check_eq!((event("drop_pagecache")? - pages, event("drop_slab")? - slab), (1, 0));
    set("drop_caches", "3\n")?;
    check_eq!(event("drop_pagecache")? - pages, 2);
    check!(event("drop_slab")? > slab);
    set("compact_memory", "1")?;
    Ok(())
}

fn map_count_is_enforced() -> Outcome {
    let areas = slurp(c"/proc/self/maps")?.lines().count();
    let _few = Setting::new("max_map_count", &(areas + 20).to_string())?;
    let mut got = Vec::new();
    let error = loop {
        // Protections that alternate do not merge.
        let prot = if got.len() % 2 == 0 { PROT_READ } else { PROT_NONE };
        match mmap(0, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) {
            Ok(at) => got.push(at),
            Err(error) => break error,
        }
        check!(got.len() < 100);
    };
    check_eq!(error, Errno(ENOMEM));
    check!((15..=25).contains(&got.len()), "{}", got.len());
    Ok(())
}

fn map_at(at: usize) -> Result<usize, Errno> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    let mapped = mmap(at, 4096, PROT_READ, flags, -1, 0)?;
    munmap(mapped, 4096)?;
    Ok(mapped)
}

fn lowest_address() -> Outcome {
    let as_user = |at: usize| {
        in_child(move || {
            let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
            map_at(at).map_or_else(|e| e.0, |_| 0)
        })
    };
    let _default = Setting::new("mmap_min_addr", "65536")?;
    check_eq!(map_at(0x3000)?, 0x3000);
    check_eq!(as_user(0x3000)?, EPERM);
    {
        let _low = Setting::new("mmap_min_addr", "8192")?;
        check_eq!((as_user(0x1000)?, as_user(0x2000)?), (EPERM, 0));
    }
    check_eq!(as_user(0x3000)?, EPERM);
    // A hint below is moved up.
    let hinted = mmap(0x1000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)?;
    check!(hinted as i64 >= number("mmap_min_addr")?);
    Ok(())
}

/// What `/proc/self/maps` of a new program shows, and where two new mappings went.
fn new_program() -> Result<(String, usize, usize), Failure> {
    let output = std::process::Command::new("/proc/self/exe").arg("helper:layout").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let mut place = || lines.next().and_then(|l| l.parse::<usize>().ok()).unwrap_or(0);
    let (first, second) = (place(), place());
    Ok((lines.collect::<Vec<_>>().join("\n"), first, second))
}

fn layout_upwards() -> Outcome {
    let (_, first, second) = new_program()?;
    check!(first > second, "{first:x} {second:x}");
    let _legacy = Setting::new("legacy_va_layout", "1")?;
    let (_, first, second) = new_program()?;
    check!(first < second, "{first:x} {second:x}");
    check!(second < 0x6000_0000_0000);
    Ok(())
}

fn no_randomisation() -> Outcome {
    let place = |name: &str| -> Result<String, Failure> {
        let (maps, ..) = new_program()?;
        let line = maps.lines().find(|l| l.ends_with(name)).unwrap_or_default();
        Ok(line.split('-').next().unwrap_or_default().to_string())
    };
    let differs = |name: &str| -> Result<bool, Failure> {
        let first = place(name)?;
        for _ in 0..4 {
            if place(name)? != first {
                return Ok(true);
            }
        }
        Ok(false)
    };
    check!(differs("[stack]")? && differs("[vdso]")?);
    spew(c"/proc/sys/kernel/randomize_va_space", "0")?;
    let off = (differs("[stack]"), differs("[vdso]"), new_program().map(|p| p.1), new_program().map(|p| p.1));
    spew(c"/proc/sys/kernel/randomize_va_space", "2")?;
    check_eq!((off.0?, off.1?), (false, false));
    check_eq!(off.2?, off.3?);
    check_err!(spew(c"/proc/sys/kernel/randomize_va_space", "x"), EINVAL);
    Ok(())
}

fn memfd(flags: u32) -> Result<(u32, usize), Errno> {
    let fd = sys!(SYS_memfd_create, c"m".as_ptr(), flags)? as i32;
    let mode = fstat(fd)?.st_mode & 0o777;
    let seals = fcntl(fd, F_GET_SEALS, 0)?;
    close(fd)?;
    Ok((mode, seals))
}

fn memfd_executable() -> Outcome {
    const SEAL: u32 = 8;
    const EXEC: u32 = 16;
    const F_SEAL_EXEC: usize = 0x20;
    check_eq!(memfd(0)?, (0o777, F_SEAL_SEAL as usize));
    check_eq!(memfd(2)?, (0o777, 0));
    check_eq!(memfd(EXEC)?, (0o777, F_SEAL_SEAL as usize));
    check_eq!(memfd(SEAL)?, (0o666, F_SEAL_EXEC));
    check_err!(memfd(SEAL | EXEC), EINVAL);
    check_err!(memfd(32), EINVAL);
    {
        let _sealed = Setting::new("memfd_noexec", "1")?;
        check_eq!(memfd(0)?, (0o666, F_SEAL_EXEC));
        check_eq!(memfd(EXEC)?, (0o777, F_SEAL_SEAL as usize));
    }
    {
        let _enforced = Setting::new("memfd_noexec", "2")?;
        check_eq!(memfd(0)?, (0o666, F_SEAL_EXEC));
        check_eq!(memfd(SEAL)?, (0o666, F_SEAL_EXEC));
        check_err!(memfd(EXEC), EACCES);
        // A namespace inside cannot be more lenient.
        let inside = in_child(|| {
            if sys!(SYS_unshare, CLONE_NEWPID).is_err() {
                return 90;
            }
            in_child(|| match set("memfd_noexec", "1") {
                Err(Errno(EINVAL)) => i32::from(memfd(EXEC) != Err(Errno(EACCES))),
                _ => 91,
            })
            .unwrap_or(92)
        })?;
        check_eq!(inside, 0);
    }
    check_err!(sys!(SYS_memfd_create, 8, 0), EFAULT);
    check_err!(sys!(SYS_memfd_create, 8, 32), EINVAL);
    let long = std::ffi::CString::new(vec![b'x'; 250]).unwrap_or_default();
    check_err!(sys!(SYS_memfd_create, long.as_ptr(), 0), EINVAL);
    Ok(())
}

fn overcommit_never() -> Outcome {
    let huge = 16usize << 30;
    let all = |flags: i32| mmap(0, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    check_err!(all(0), ENOMEM);
    munmap(all(MAP_NORESERVE)?, huge)?;
    {
        let _always = Setting::new("overcommit_memory", "1")?;
        munmap(all(0)?, huge)?;
    }
    // Promises that exist are kept; new ones are refused, whatever MAP_NORESERVE says.
    let refused = in_child(|| {
        let Ok(_never) = Setting::new("overcommit_memory", "2") else { return 90 };
        let Ok(_little) = Setting::new("overcommit_kbytes", "1") else { return 91 };
        let refused = map_anon(64 << 20);
        let unreserved = mmap(0, 64 << 20, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        drop(_little);
        let _ = set("overcommit_ratio", "50");
        i32::from(refused != Err(Errno(ENOMEM)) || unreserved != Err(Errno(ENOMEM)))
    })?;
    let _ = set("overcommit_memory", "0");
    check_eq!(refused, 0);
    Ok(())
}

fn only_root_writes() -> Outcome {
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        for file in ["max_map_count", "drop_caches", "overcommit_memory", "memfd_noexec", "mmap_min_addr"] {
            if open(&name(file), O_WRONLY, 0) != Err(Errno(EACCES)) {
                return 1;
            }
        }
        i32::from(open(&name("mmap_rnd_bits"), O_RDONLY, 0) != Err(Errno(EACCES)))
    })?;
    check_eq!(status, 0);
    Ok(())
}
