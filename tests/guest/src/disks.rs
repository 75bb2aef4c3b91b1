//! Disks of the machine: `Documentation/ABI/stable/sysfs-block`, `linux/fs.h`. The tests know two of them by their serial numbers.

use crate::prelude::*;
use std::ffi::CString;

tests![
    disks_have_serials_and_sizes,
    direct_transfers_come_back,
    buffered_transfers_reach_the_disk,
    threads_on_all_cpus,
    each_cpu_has_its_interrupt,
    discarded_and_zeroed_blocks,
    vectors_of_odd_pieces,
    ends_of_the_disk,
];

const SERIALS: [&str; 2] = ["guest-disk-a", "guest-disk-b"];
const SIZE: u64 = 64 << 20;
const BLKDISCARD: u32 = 0x1277;
const BLKZEROOUT: u32 = 0x127f;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKSSZGET: u32 = 0x1268;
const BLKPBSZGET: u32 = 0x127b;
const BLKFLSBUF: u32 = 0x1261;

fn text(path: &str) -> Result<String, Failure> {
    Ok(slurp(&CString::new(path).unwrap_or_default())?.trim_end().to_string())
}

/// The name of a disk.
fn disk(serial: &str) -> Result<String, Failure> {
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found =
        names.find(|name| text(&format!("/sys/block/{name}/serial")).is_ok_and(|text| text == serial));
    found.ok_or_else(|| Failure::from(format!("no disk {serial}")))
}

fn open_disk(serial: &str, flags: i32) -> Result<i32, Failure> {
    let path = CString::new(format!("/dev/{}", disk(serial)?)).unwrap_or_default();
    Ok(open(&path, O_RDWR | flags, 0)?)
}

/// Memory that transfers past the page cache can use.
struct Pages {
    at: usize,
    len: usize,
}

impl Pages {
    fn new(len: usize) -> Result<Self, Failure> {
        Ok(Self { at: map_anon(len)?, len })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is ours alone.
        unsafe { std::slice::from_raw_parts_mut(self.at as *mut u8, self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = munmap(self.at, self.len);
    }
}

/// Contents that tell where they belong.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for word in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}

fn pwrite_all(fd: i32, bytes: &[u8], at: u64) -> Outcome {
    check_eq!(sys!(SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), at)? as usize, bytes.len());
    Ok(())
}

fn pread_all(fd: i32, bytes: &mut [u8], at: u64) -> Outcome {
    check_eq!(sys!(SYS_pread64, fd, bytes.as_mut_ptr(), bytes.len(), at)? as usize, bytes.len());
    Ok(())
}

fn disks_have_serials_and_sizes() -> Outcome {
    for serial in SERIALS {
        let name = disk(serial)?;
        let file = |path: &str| text(&format!("/sys/block/{name}/{path}"));
        check_eq!(file("size")?, (SIZE / 512).to_string());
        check_eq!(file("ro")?, "0");
        check_eq!(file("queue/logical_block_size")?, "512");
        let physical = if serial == SERIALS[1] { "4096" } else { "512" };
        check_eq!(file("queue/physical_block_size")?, physical);
        let cache = if serial == SERIALS[1] { "write through" } else { "write back" };
        check_eq!(file("queue/write_cache")?, cache);
        check_eq!(file("cache_type")?, cache);
        let fd = open_disk(serial, 0)?;
        let mut size = 0u64;
        sys!(SYS_ioctl, fd, BLKGETSIZE64, addr_mut(&mut size))?;
        check_eq!(size, SIZE);
        let mut block = 0i32;
        sys!(SYS_ioctl, fd, BLKSSZGET, addr_mut(&mut block))?;
        check_eq!(block, 512);
        sys!(SYS_ioctl, fd, BLKPBSZGET, addr_mut(&mut block))?;
        check_eq!(block.to_string(), physical);
        close(fd)?;
        let home = std::fs::canonicalize(format!("/sys/block/{name}/device")).unwrap_or_default();
        check!(home.to_string_lossy().contains("/virtio"), "{home:?}");
    }
    Ok(())
}

fn direct_transfers_come_back() -> Outcome {
    for serial in SERIALS {
        let fd = open_disk(serial, O_DIRECT)?;
        let mut pages = Pages::new(256 << 10)?;
        // Of many lengths, at many places.
        let lens = [512usize, 1024, 4096, 12288, 65536, 131072, 262144, 5120];
        for (round, len) in lens.into_iter().enumerate() {
            let at = (round as u64 * 3 + 1) << 20 | 0x600;
            fill(&mut pages.bytes()[..len], at);
            pwrite_all(fd, &pages.bytes()[..len], at)?;
        }
        close(fd)?;
        let fd = open_disk(serial, O_DIRECT)?;
        let mut wanted = vec![0; 256 << 10];
        for (round, len) in lens.into_iter().enumerate() {
            let at = (round as u64 * 3 + 1) << 20 | 0x600;
            fill(&mut wanted[..len], at);
            pages.bytes().fill(0);
            pread_all(fd, &mut pages.bytes()[..len], at)?;
            check!(pages.bytes()[..len] == wanted[..len], "{serial} {len} at {at:#x}");
        }
        close(fd)?;
    }
    Ok(())
}

fn buffered_transfers_reach_the_disk() -> Outcome {
    for serial in SERIALS {
        let at = 30 << 20 | 0x123;
        let mut content = vec![0; 700_001];
        fill(&mut content, 77);
        let fd = open_disk(serial, 0)?;
        pwrite_all(fd, &content, at)?;
        sys!(SYS_fsync, fd)?;
        close(fd)?;
        // Past the cache.
        let fd = open_disk(serial, O_DIRECT)?;
        let mut pages = Pages::new(704 << 10)?;
        pread_all(fd, pages.bytes(), 30 << 20)?;
        check!(pages.bytes()[0x123..0x123 + content.len()] == content[..], "{serial}");
        close(fd)?;
        // And through it, from the disk.
        let fd = open_disk(serial, 0)?;
        sys!(SYS_ioctl, fd, BLKFLSBUF, 0)?;
        let mut back = vec![0; content.len()];
        pread_all(fd, &mut back, at)?;
        check!(back == content, "{serial}");
        close(fd)?;
    }
    Ok(())
}

fn pin(cpu: usize) -> Outcome {
    let mask = 1u64 << cpu;
    sys!(SYS_sched_setaffinity, 0, 8, addr(&mask))?;
    Ok(())
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

fn threads_on_all_cpus() -> Outcome {
    for serial in SERIALS {
        let threads: Vec<_> = (0..4usize)
            .map(|index| {
                std::thread::spawn(move || -> Outcome {
                    pin(index % cpus())?;
                    let fd = open_disk(serial, O_DIRECT)?;
                    let mut pages = Pages::new(32 << 10)?;
                    let mut wanted = vec![0; 32 << 10];
                    let base = (40 + index as u64 * 4) << 20;
                    for round in 0..3u64 {
                        for block in 0..32u64 {
                            // Not in order, each where nobody else writes.
                            let at = base + (block * 7 % 32) * (32 << 10);
                            fill(pages.bytes(), at ^ round);
                            pwrite_all(fd, pages.bytes(), at)?;
                        }
                        for block in 0..32u64 {
                            let at = base + block * (32 << 10);
                            pread_all(fd, pages.bytes(), at)?;
                            fill(&mut wanted, at ^ round);
                            check!(pages.bytes() == &wanted[..], "{serial} {at:#x} round {round}");
                        }
                    }
                    close(fd)?;
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| Failure::from("a thread failed"))??;
        }
    }
    Ok(())
}

/// Counts of the interrupts of a device's queues, by queue and CPU.
fn counts(virtio: &str) -> Result<Vec<Vec<u64>>, Failure> {
    let table = text("/proc/interrupts")?;
    let begin = format!("{virtio}-req.");
    let lines =
        table.lines().filter(|line| line.split_whitespace().last().is_some_and(|n| n.starts_with(&begin)));
    let numbers = |line: &str| {
        let words = line.split_whitespace().skip(1);
        words.map_while(|word| word.parse().ok()).take(cpus()).collect()
    };
    Ok(lines.map(numbers).collect())
}

fn each_cpu_has_its_interrupt() -> Outcome {
    let name = disk(SERIALS[0])?;
    let home = std::fs::canonicalize(format!("/sys/block/{name}/device")).unwrap_or_default();
    let virtio = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let queues = std::fs::read_dir(format!("/sys/block/{name}/mq")).map_or(0, |entries| entries.count());
    let before = counts(&virtio)?;
    check_eq!(before.len(), queues);
    for cpu in 0..cpus() {
        let before = counts(&virtio)?;
        checked_child(|| {
            pin(cpu)?;
            let fd = open_disk(SERIALS[0], O_DIRECT)?;
            let mut pages = Pages::new(4096)?;
            for block in 0..50 {
                pread_all(fd, pages.bytes(), block << 12)?;
            }
            Ok(())
        })?;
        let after = counts(&virtio)?;
        // One queue was used, and its interrupts came to one CPU.
        let grown =
            |queue: usize| -> u64 { after[queue].iter().sum::<u64>() - before[queue].iter().sum::<u64>() };
        let used: Vec<usize> = (0..queues).filter(|queue| grown(*queue) >= 40).collect();
        check_eq!(used.len(), 1);
        if queues == cpus() {
            check!(after[used[0]][cpu] - before[used[0]][cpu] >= 40, "CPU {cpu}: {before:?} {after:?}");
        }
    }
    Ok(())
}

fn discarded_and_zeroed_blocks() -> Outcome {
    let fd = open_disk(SERIALS[0], O_DIRECT)?;
    let mut pages = Pages::new(128 << 10)?;
    for (request, at) in [(BLKDISCARD, 20u64 << 20), (BLKZEROOUT, 21 << 20)] {
        fill(pages.bytes(), at);
        pwrite_all(fd, pages.bytes(), at)?;
        let range = [at + 4096, 64 << 10];
        sys!(SYS_ioctl, fd, request, addr(&range))?;
        let mut wanted = vec![0; 128 << 10];
        fill(&mut wanted, at);
        // A disk that is a sparse file reads zeroes where something was discarded.
        wanted[4096..4096 + (64 << 10)].fill(0);
        pread_all(fd, pages.bytes(), at)?;
        check!(pages.bytes() == &wanted[..], "{request:#x}");
    }
    let range = [1u64, 512];
    check_err!(sys!(SYS_ioctl, fd, BLKDISCARD, addr(&range)), EINVAL);
    let range = [SIZE, 512];
    check_err!(sys!(SYS_ioctl, fd, BLKDISCARD, addr(&range)), EINVAL);
    close(fd)?;
    Ok(())
}

fn vectors_of_odd_pieces() -> Outcome {
    for serial in SERIALS {
        let fd = open_disk(serial, O_DIRECT)?;
        // 200 pieces of one sector, in every other sector of memory: as many segments.
        let mut pages = Pages::new(200 * 1024)?;
        fill(pages.bytes(), 5);
        let base = pages.at;
        let pieces: Vec<iovec> =
            (0..200).map(|n| iovec { iov_base: (base + n * 1024) as *mut _, iov_len: 512 }).collect();
        check_eq!(sys!(SYS_pwritev, fd, pieces.as_ptr(), 200, 22 << 20, 0)? as usize, 200 * 512);
        let mut back = Pages::new(200 * 512)?;
        pread_all(fd, back.bytes(), 22 << 20)?;
        for n in 0..200 {
            check!(back.bytes()[n * 512..][..512] == pages.bytes()[n * 1024..][..512], "{serial} piece {n}");
        }
        close(fd)?;
    }
    Ok(())
}

fn ends_of_the_disk() -> Outcome {
    let fd = open_disk(SERIALS[0], O_DIRECT)?;
    let mut pages = Pages::new(8192)?;
    let read = |pages: &mut Pages, at: u64| sys!(SYS_pread64, fd, pages.at, 8192, at);
    check_eq!(read(&mut pages, SIZE - 4096)?, 4096);
    check_eq!(read(&mut pages, SIZE)?, 0);
    check_err!(sys!(SYS_pwrite64, fd, pages.at, 4096, SIZE), ENOSPC);
    check_err!(sys!(SYS_pread64, fd, pages.at, 100, 0), EINVAL);
    check_err!(sys!(SYS_pread64, fd, pages.at + 1, 512, 0), EINVAL);
    pages.bytes().fill(9);
    check_eq!(sys!(SYS_pwrite64, fd, pages.at, 8192, SIZE - 4096)?, 4096);
    close(fd)?;
    Ok(())
}
