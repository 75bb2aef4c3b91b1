//! Devices of the machine itself: the real-time clock (rtc(4)), wake-up latency (`Documentation/power/pm_qos_interface.rst`), and
//! what sysfs says about caches.

use crate::prelude::*;
use std::ffi::{CStr, CString};

tests![
    clock_shows_the_time,
    clock_can_be_set,
    clock_errors,
    clock_has_one_user,
    clock_in_sysfs,
    latency_is_the_smallest,
    latency_writes,
    programs_run_without_latency,
    caches_add_up,
    clock_source,
];

const RTC: &CStr = c"/dev/rtc0";
const RTC_RD_TIME: u32 = 0x8024_7009;
const RTC_SET_TIME: u32 = 0x4024_700a;

fn rtc_time(fd: i32) -> Result<[i32; 9], Errno> {
    let mut time = [0_i32; 9];
    sys!(SYS_ioctl, fd, RTC_RD_TIME, addr_mut(&mut time))?;
    Ok(time)
}

/// Seconds since the epoch, by the C library.
fn seconds(time: &[i32; 9]) -> i64 {
    let mut tm: tm = zeroed();
    [tm.tm_sec, tm.tm_min, tm.tm_hour, tm.tm_mday, tm.tm_mon, tm.tm_year] =
        [time[0], time[1], time[2], time[3], time[4], time[5]];
    // SAFETY: a broken-down time.
    unsafe { timegm(&raw mut tm) }
}

fn wall() -> i64 {
    let mut now: timespec = zeroed();
    let _ = sys!(SYS_clock_gettime, CLOCK_REALTIME, addr_mut(&mut now));
    now.tv_sec
}

fn clock_shows_the_time() -> Outcome {
    let fd = open(RTC, O_RDONLY, 0)?;
    let time = rtc_time(fd)?;
    // Other tests set the wall clock, and put it back as well as they can.
    check!((seconds(&time) - wall()).abs() < 600, "{time:?} {}", wall());
    let at = seconds(&time);
    sleep_ms(1100);
    check!(seconds(&rtc_time(fd)?) > at);
    check!(seconds(&rtc_time(fd)?) < at + 60);
    Ok(())
}

fn clock_can_be_set() -> Outcome {
    let fd = open(RTC, O_RDONLY, 0)?;
    let before = seconds(&rtc_time(fd)?);
    let began = std::time::Instant::now();
    // 29 February 2028, 13:59:58, and a day of the week that it is not.
    let wanted = [58, 59, 13, 29, 1, 128, 6, 0, 0];
    sys!(SYS_ioctl, fd, RTC_SET_TIME, addr(&wanted))?;
    let found = rtc_time(fd)?;
    let later = seconds(&found) - seconds(&wanted);
    let back = before + began.elapsed().as_secs() as i64;
    let mut tm: tm = zeroed();
    // SAFETY: both are there.
    unsafe { gmtime_r(&raw const back, &raw mut tm) };
    let back = [tm.tm_sec, tm.tm_min, tm.tm_hour, tm.tm_mday, tm.tm_mon, tm.tm_year, 0, 0, 0];
    sys!(SYS_ioctl, fd, RTC_SET_TIME, addr(&back))?;
    check!((0..30).contains(&later), "{found:?}");
    check_eq!(found[5], 128);
    let drift = seconds(&rtc_time(fd)?) - seconds(&back);
    check!((0..30).contains(&drift), "{drift}");
    Ok(())
}

fn clock_errors() -> Outcome {
    let fd = open(RTC, O_RDWR | O_NONBLOCK, 0)?;
    check_err!(sys!(SYS_ioctl, fd, RTC_RD_TIME, 8), EFAULT);
    check_err!(sys!(SYS_ioctl, fd, RTC_SET_TIME, 8), EFAULT);
    let good = rtc_time(fd)?;
    for (field, value) in [(0, 60), (1, 60), (2, 24), (3, 0), (3, 32), (4, 12), (5, 60)] {
        let mut bad = good;
        bad[field] = value;
        check!(sys!(SYS_ioctl, fd, RTC_SET_TIME, addr(&bad)) == Err(Errno(EINVAL)), "{field} {value}");
    }
    check_err!(sys!(SYS_ioctl, fd, 0x7000, 0), ENOTTY);
    let mut byte = [0_u8; 8];
    check_err!(sys!(SYS_read, fd, addr_mut(&mut byte), 3), EINVAL);
    check_err!(sys!(SYS_read, fd, addr_mut(&mut byte), 8), EAGAIN);
    close(fd)?;
    let status = in_child(|| {
        let Ok(fd) = open(RTC, O_RDONLY, 0) else { return 1 };
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let read = rtc_time(fd).is_ok();
        let set = sys!(SYS_ioctl, fd, RTC_SET_TIME, addr(&good));
        i32::from(!read) << 1 | i32::from(set != Err(Errno(EACCES))) << 2
    })?;
    // Whoever opened it is gone with the child.
    check!(status == 0 || status == 4, "{status}");
    Ok(())
}

fn clock_has_one_user() -> Outcome {
    let fd = open(RTC, O_RDONLY, 0)?;
    check_err!(open(RTC, O_RDONLY, 0), EBUSY);
    let copy = sys!(SYS_dup, fd)? as i32;
    close(fd)?;
    check_err!(open(RTC, O_RDONLY, 0), EBUSY);
    close(copy)?;
    close(open(RTC, O_RDWR, 0)?)?;
    check_eq!(stat(RTC)?.st_mode, S_IFCHR | 0o600);
    Ok(())
}

fn clock_in_sysfs() -> Outcome {
    let file = |name: &str| slurp(&CString::new(format!("/sys/class/rtc/rtc0/{name}")).unwrap_or_default());
    let since: i64 = file("since_epoch")?.trim().parse().unwrap_or(0);
    check!((since - wall()).abs() < 600, "{since} {}", wall());
    let (date, time) = (file("date")?, file("time")?);
    check!(date.len() == 11 && date.as_bytes()[4] == b'-' && date.ends_with('\n'), "{date}");
    check!(time.len() == 9 && time.as_bytes()[2] == b':', "{time}");
    check!(file("name")?.starts_with("rtc"));
    let dev = stat(RTC)?.st_rdev;
    check_eq!(file("dev")?, format!("{}:{}\n", major(dev), minor(dev)));
    check!(file("uevent")?.contains("DEVNAME=rtc0\n"));
    Ok(())
}

const LATENCY: &CStr = c"/dev/cpu_dma_latency";

fn allowed(fd: i32) -> Result<i32, Errno> {
    let mut value = [0_u8; 4];
    sys!(SYS_pread64, fd, addr_mut(&mut value), 4, 0)?;
    Ok(i32::from_ne_bytes(value))
}

fn latency_is_the_smallest() -> Outcome {
    check_eq!(stat(LATENCY)?.st_mode, S_IFCHR | 0o600);
    let one = open(LATENCY, O_RDWR, 0)?;
    check_eq!(allowed(one)?, 2_000_000_000);
    check_eq!(read_vec(one, 100)?.len(), 4);
    check_eq!(read_vec(one, 100)?.len(), 0);
    write(one, &300_i32.to_ne_bytes())?;
    check_eq!(allowed(one)?, 300);
    let two = open(LATENCY, O_RDWR, 0)?;
    check_eq!(allowed(two)?, 300);
    write(two, &200_i32.to_ne_bytes())?;
    check_eq!(allowed(one)?, 200);
    write(two, &400_i32.to_ne_bytes())?;
    check_eq!(allowed(one)?, 300);
    close(one)?;
    check_eq!(allowed(two)?, 400);
    close(two)?;
    let three = open(LATENCY, O_RDONLY, 0)?;
    check_eq!(allowed(three)?, 2_000_000_000);
    Ok(())
}

fn latency_writes() -> Outcome {
    let fd = open(LATENCY, O_RDWR, 0)?;
    for (text, value) in [("0x1f\n", 31), ("fffff", 0xf_ffff), ("0x000010", 16), ("a\n", 10)] {
        check_eq!(write(fd, text.as_bytes()), Ok(text.len()));
        check_eq!((text, allowed(fd)?), (text, value));
    }
    for bad in ["x", "0x", "12 34 5", "g0000", "\n"] {
        check!(write(fd, bad.as_bytes()) == Err(Errno(EINVAL)), "{bad}");
    }
    check_err!(sys!(SYS_write, fd, 8, 4), EFAULT);
    check_eq!(allowed(fd)?, 10);
    Ok(())
}

fn programs_run_without_latency() -> Outcome {
    let fd = open(LATENCY, O_RDWR, 0)?;
    write(fd, &0_i32.to_ne_bytes())?;
    for _ in 0..20 {
        sleep_ms(2);
        check_eq!(in_child(|| 3)?, 3);
    }
    close(fd)?;
    for _ in 0..5 {
        sleep_ms(2);
    }
    Ok(())
}

fn clock_source() -> Outcome {
    let dir = "/sys/devices/system/clocksource/clocksource0";
    let file = |name: &str| CString::new(format!("{dir}/{name}")).unwrap_or_default();
    let current = slurp(&file("current_clocksource"))?;
    let available = slurp(&file("available_clocksource"))?;
    check!(available.split_whitespace().any(|name| name == current.trim()), "{current} of {available}");
    check!(available.ends_with(" \n") && current.ends_with('\n'));
    // Another that there is not changes nothing.
    spew(&file("current_clocksource"), "sundial")?;
    check_eq!(slurp(&file("current_clocksource"))?, current);
    check_err!(spew(&file("current_clocksource"), &"x".repeat(40)), EINVAL);
    check_eq!(stat(&file("current_clocksource"))?.st_mode & 0o777, 0o644);
    // What a key combination does.
    let keys = c"/proc/sys/kernel/ctrl-alt-del";
    let old = slurp(keys)?;
    spew(keys, "0")?;
    check_eq!(slurp(keys)?, "0\n");
    spew(keys, &old)?;
    let rtc = slurp(c"/proc/driver/rtc")?;
    check!(
        rtc.starts_with("rtc_time\t: ") && rtc.contains("\nrtc_date\t: 20") && rtc.contains("24hr\t\t: yes"),
        "{rtc}"
    );
    Ok(())
}

fn caches_add_up() -> Outcome {
    let file = |index: u32, name: &str| -> Option<String> {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
        Some(std::fs::read_to_string(path).ok()?.trim().to_string())
    };
    for index in 0..16 {
        // Not every machine describes its caches.
        let Some(level) = file(index, "level") else { break };
        check!(("1"..="7").contains(&level.as_str()), "{level}");
        let kind = file(index, "type").unwrap_or_default();
        check!(["Data", "Instruction", "Unified"].contains(&kind.as_str()), "{kind}");
        check!(file(index, "shared_cpu_map").is_some_and(|map| !map.is_empty()));
        check!(file(index, "shared_cpu_list").is_some_and(|list| list.starts_with('0')));
        let number = |name| file(index, name).and_then(|text| text.parse::<u64>().ok());
        let Some(size) = file(index, "size") else { continue };
        let kib: u64 = size.strip_suffix('K').and_then(|kib| kib.parse().ok()).unwrap_or(0);
        if let (Some(line), Some(ways), Some(sets)) =
            (number("coherency_line_size"), number("ways_of_associativity"), number("number_of_sets"))
        {
            let partitions = number("physical_line_partition").unwrap_or(1);
            check_eq!((index, line * ways * sets * partitions / 1024), (index, kib));
        }
    }
    Ok(())
}
