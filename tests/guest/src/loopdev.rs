//! Loop devices (loop(4), `linux/loop.h`), and what every block device does: reads, writes, ioctls, partitions, and what `/proc` and `/sys`
//! say (`linux/fs.h`, `linux/blkpg.h`, `Documentation/ABI/stable/sysfs-block`, `Documentation/admin-guide/iostats.rst`).

use crate::prelude::*;
use std::ffi::CString;

tests![
    a_file_becomes_a_disk,
    part_of_a_file,
    what_cannot_be_bound,
    read_only_files,
    lets_go_with_the_last_close,
    lets_go_later,
    numbers_are_chosen,
    block_sizes,
    status_changes,
    partitions_are_found,
    partitions_by_hand,
    discards_punch_holes,
    one_at_a_time,
    the_end_of_the_disk,
    mapped_disk,
    past_the_cache,
    numbers_of_a_disk,
    only_root,
    disks_in_proc,
    disks_in_sysfs,
    transfers_are_counted,
    schedulers,
];

const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LOOP_GET_STATUS64: u32 = 0x4c05;
const LOOP_SET_CAPACITY: u32 = 0x4c07;
const LOOP_SET_BLOCK_SIZE: u32 = 0x4c09;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_ADD: u32 = 0x4c80;
const LOOP_CTL_REMOVE: u32 = 0x4c81;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const PARTSCAN: u32 = 8;

const BLKROGET: u32 = 0x125e;
const BLKROSET: u32 = 0x125d;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKRASET: u32 = 0x1262;
const BLKRAGET: u32 = 0x1263;
const BLKSECTGET: u32 = 0x1267;
const BLKSSZGET: u32 = 0x1268;
const BLKPG: u32 = 0x1269;
const BLKDISCARD: u32 = 0x1277;
const BLKIOMIN: u32 = 0x1278;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKDISCARDZEROES: u32 = 0x127c;
const BLKROTATIONAL: u32 = 0x127e;
const BLKZEROOUT: u32 = 0x127f;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKBSZSET: u32 = 0x4008_1271;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKGETDISKSEQ: u32 = 0x8008_1280;
const BLKGETNRZONES: u32 = 0x8004_1285;
const HDIO_GETGEO: u32 = 0x0301;

const MIB: usize = 1 << 20;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    key_size: u32,
    flags: u32,
    name: [u8; 64],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

fn config(fd: i32) -> Config {
    Config { fd: fd as u32, ..zeroed() }
}

fn ioctl(fd: i32, command: u32, arg: usize) -> Result<usize, Errno> {
    sys!(SYS_ioctl, fd, command, arg)
}

/// What a command that answers with a number says.
fn get<T>(fd: i32, command: u32) -> Result<T, Errno> {
    let mut value: T = zeroed();
    ioctl(fd, command, addr_mut(&mut value))?;
    Ok(value)
}

fn control(command: u32, arg: usize) -> Result<usize, Errno> {
    let fd = open(c"/dev/loop-control", O_RDWR, 0)?;
    let result = ioctl(fd, command, arg);
    close(fd)?;
    result
}

fn text(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

/// A loop device that is open; lets its file go in the end.
struct Disk {
    number: usize,
    fd: i32,
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = ioctl(self.fd, LOOP_CLR_FD, 0);
        let _ = close(self.fd);
    }
}

impl Disk {
    /// A free one.
    fn free() -> Result<Self, Errno> {
        let number = control(LOOP_CTL_GET_FREE, 0)?;
        let fd = open(&text(format!("/dev/loop{number}")), O_RDWR, 0)?;
        Ok(Self { number, fd })
    }

    fn bound(config: &Config) -> Result<Self, Errno> {
        let disk = Self::free()?;
        ioctl(disk.fd, LOOP_CONFIGURE, addr(config))?;
        Ok(disk)
    }

    /// One over a new file of `len` bytes of 0x11.
    fn new(len: usize) -> Result<Self, Errno> {
        let file = create(c"backing", &vec![0x11; len])?;
        let disk = Self::bound(&config(file));
        close(file)?;
        disk
    }

    fn path(&self) -> CString {
        text(format!("/dev/loop{}", self.number))
    }

    fn part(&self, part: usize) -> CString {
        text(format!("/dev/loop{}p{part}", self.number))
    }

    fn sys(&self, file: &str) -> Result<String, Errno> {
        slurp(&text(format!("/sys/block/loop{}/{file}", self.number)))
    }
}

fn pread(fd: i32, len: usize, at: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0xee; len];
    let count = sys!(SYS_pread64, fd, bytes.as_mut_ptr(), len, at)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn pwrite(fd: i32, bytes: &[u8], at: usize) -> Result<usize, Errno> {
    sys!(SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), at)
}

fn a_file_becomes_a_disk() -> Outcome {
    let file = create(c"f", &vec![0x11; MIB])?;
    let disk = Disk::free()?;
    check_eq!(get::<u64>(disk.fd, BLKGETSIZE64)?, 0);
    check_err!(get::<Info>(disk.fd, LOOP_GET_STATUS64), ENXIO);
    check_err!(ioctl(disk.fd, LOOP_SET_CAPACITY, 0), ENXIO);
    check_eq!(read_vec(disk.fd, 10)?.len(), 0);
    let mut wanted = config(file);
    wanted.info.name[..3].copy_from_slice(b"abc");
    ioctl(disk.fd, LOOP_CONFIGURE, addr(&wanted))?;
    check_eq!(get::<u64>(disk.fd, BLKGETSIZE64)?, MIB as u64);
    let info: Info = get(disk.fd, LOOP_GET_STATUS64)?;
    let stat = fstat(file)?;
    check_eq!((info.inode, info.number as usize, info.flags), (stat.st_ino, disk.number, 0));
    check_eq!((info.offset, info.size_limit, &info.name[..4]), (0, 0, b"abc\0".as_slice()));
    check_eq!(pread(disk.fd, 100, MIB - 50)?, vec![0x11; 50]);
    let bytes: Vec<u8> = (0..70_000_u32).map(|n| (n / 3) as u8).collect();
    check_eq!(pwrite(disk.fd, &bytes, 12_345)?, bytes.len());
    sys!(SYS_fsync, disk.fd)?;
    check_eq!(pread(file, bytes.len(), 12_345)?, bytes);
    check_eq!(pread(file, 4, 12_341)?, [0x11; 4]);
    // A file that grew.
    sys!(SYS_ftruncate, file, 2 * MIB)?;
    check_eq!(get::<u64>(disk.fd, BLKGETSIZE64)?, MIB as u64);
    ioctl(disk.fd, LOOP_SET_CAPACITY, 0)?;
    check_eq!(get::<u64>(disk.fd, BLKGETSIZE64)?, 2 * MIB as u64);
    check_eq!(pread(disk.fd, 3, 2 * MIB - 3)?, [0; 3]);
    Ok(())
}

fn part_of_a_file() -> Outcome {
    let file = create(c"f", &(0..MIB).map(|n| (n / 512) as u8).collect::<Vec<_>>())?;
    let mut wanted = config(file);
    (wanted.info.offset, wanted.info.size_limit) = (4096, 8192 + 100);
    let disk = Disk::bound(&wanted)?;
    check_eq!(get::<u64>(disk.fd, BLKGETSIZE64)?, 8192);
    check_eq!(pread(disk.fd, 513, 0)?, [vec![8; 512], vec![9]].concat());
    check_eq!(pwrite(disk.fd, b"xyz", 8000)?, 3);
    sys!(SYS_fsync, disk.fd)?;
    check_eq!(pread(file, 3, 4096 + 8000)?, b"xyz");
    Ok(())
}

fn what_cannot_be_bound() -> Outcome {
    let file = create(c"f", &[0; 4096])?;
    let disk = Disk::free()?;
    let bind = |config: &Config| ioctl(disk.fd, LOOP_CONFIGURE, addr(config));
    check_err!(bind(&config(-1)), EBADF);
    check_err!(bind(&config(999)), EBADF);
    check_err!(ioctl(disk.fd, LOOP_SET_FD, 999), EBADF);
    check_err!(bind(&config(pipe(0)?[0])), EINVAL);
    check_err!(bind(&config(open(c".", O_RDONLY | O_DIRECTORY, 0)?)), EINVAL);
    check_err!(bind(&config(open(c"/dev/null", O_RDWR, 0)?)), EINVAL);
    check_err!(bind(&config(disk.fd)), EBADF);
    let mut wrong = config(file);
    wrong.block_size = 513;
    check_err!(bind(&wrong), EINVAL);
    let mut wrong = config(file);
    wrong.info.flags = 0x100;
    check_err!(bind(&wrong), EINVAL);
    let mut wrong = config(file);
    wrong.info.offset = 1 << 63;
    check_err!(bind(&wrong), EOVERFLOW);
    check_err!(ioctl(disk.fd, 0x4c7f, 0), EINVAL);
    bind(&config(file))?;
    check_err!(bind(&config(file)), EBUSY);
    check_err!(ioctl(disk.fd, LOOP_SET_FD, file as usize), EBUSY);
    Ok(())
}

fn read_only_files() -> Outcome {
    close(create(c"f", &[7; 8192])?)?;
    let file = open(c"f", O_RDONLY, 0)?;
    let disk = Disk::bound(&config(file))?;
    check_eq!(get::<Info>(disk.fd, LOOP_GET_STATUS64)?.flags, READ_ONLY);
    check_eq!(get::<i32>(disk.fd, BLKROGET)?, 1);
    check_eq!(disk.sys("ro")?, "1\n");
    check_err!(pwrite(disk.fd, b"x", 0), EPERM);
    check_eq!(pread(disk.fd, 2, 8191)?, [7]);
    drop(disk);
    let disk = Disk::new(8192)?;
    check_eq!(get::<i32>(disk.fd, BLKROGET)?, 0);
    ioctl(disk.fd, BLKROSET, addr(&1_i32))?;
    check_eq!((get::<i32>(disk.fd, BLKROGET)?, disk.sys("ro")?.as_str()), (1, "1\n"));
    check_err!(pwrite(disk.fd, b"x", 0), EPERM);
    ioctl(disk.fd, BLKROSET, addr(&0_i32))?;
    check_eq!(pwrite(disk.fd, b"x", 0)?, 1);
    Ok(())
}

fn lets_go_with_the_last_close() -> Outcome {
    let file = create(c"f", &[0; 8192])?;
    let mut wanted = config(file);
    wanted.info.flags = AUTOCLEAR;
    let disk = Disk::bound(&wanted)?;
    check_eq!(disk.sys("loop/autoclear")?, "1\n");
    check_eq!(disk.sys("size")?, "16\n");
    let again = open(&disk.path(), O_RDONLY, 0)?;
    let second = sys!(SYS_dup, disk.fd)? as i32;
    close(second)?;
    check_eq!(get::<u64>(again, BLKGETSIZE64)?, 8192);
    let (number, path) = (disk.number, disk.path());
    close(disk.fd)?;
    check_eq!(get::<u64>(again, BLKGETSIZE64)?, 8192);
    close(again)?;
    let fd = open(&path, O_RDONLY, 0)?;
    check_eq!(get::<u64>(fd, BLKGETSIZE64)?, 0);
    check_eq!(slurp(&text(format!("/sys/block/loop{number}/size")))?, "0\n");
    check_err!(slurp(&text(format!("/sys/block/loop{number}/loop/autoclear"))), ENOENT);
    std::mem::forget(disk);
    close(fd)?;
    Ok(())
}

fn lets_go_later() -> Outcome {
    let disk = Disk::new(8192)?;
    let other = open(&disk.path(), O_RDONLY, 0)?;
    // Somebody else has it open: that one goes on.
    ioctl(disk.fd, LOOP_CLR_FD, 0)?;
    check_eq!(pread(other, 1, 0)?, [0x11]);
    check_eq!(get::<Info>(other, LOOP_GET_STATUS64)?.flags & AUTOCLEAR, AUTOCLEAR);
    let path = disk.path();
    drop(disk);
    close(other)?;
    let fd = open(&path, O_RDONLY, 0)?;
    check_err!(get::<Info>(fd, LOOP_GET_STATUS64), ENXIO);
    close(fd)?;
    Ok(())
}

fn numbers_are_chosen() -> Outcome {
    const NUMBER: usize = 57;
    let path = c"/dev/loop57";
    check_eq!(control(LOOP_CTL_ADD, NUMBER)?, NUMBER);
    check_err!(control(LOOP_CTL_ADD, NUMBER), EEXIST);
    let node = stat(path)?;
    check_eq!((node.st_mode, node.st_rdev), (S_IFBLK | 0o600, makedev(7, 57)));
    let fd = open(path, O_RDWR, 0)?;
    check_err!(control(LOOP_CTL_REMOVE, NUMBER), EBUSY);
    close(fd)?;
    check_eq!(control(LOOP_CTL_REMOVE, NUMBER)?, 0);
    check_err!(control(LOOP_CTL_REMOVE, NUMBER), ENODEV);
    check_err!(stat(path), ENOENT);
    check_err!(stat(c"/sys/block/loop57"), ENOENT);
    check_err!(control(0x4c8f, 0), ENOSYS);
    // A node of a number that nobody has.
    sys!(SYS_mknodat, CWD, c"node".as_ptr(), S_IFBLK | 0o600, makedev(250, 3))?;
    check_err!(open(c"node", O_RDONLY, 0), ENXIO);
    Ok(())
}

fn block_sizes() -> Outcome {
    let file = create(c"f", &[0; 65536])?;
    let mut wanted = config(file);
    wanted.block_size = 2048;
    let disk = Disk::bound(&wanted)?;
    check_eq!((get::<i32>(disk.fd, BLKSSZGET)?, get::<u32>(disk.fd, BLKPBSZGET)?), (2048, 2048));
    check_eq!(disk.sys("queue/logical_block_size")?, "2048\n");
    ioctl(disk.fd, LOOP_SET_BLOCK_SIZE, 4096)?;
    check_eq!(get::<i32>(disk.fd, BLKSSZGET)?, 4096);
    for wrong in [256, 1000] {
        check_err!(ioctl(disk.fd, LOOP_SET_BLOCK_SIZE, wrong), EINVAL);
    }
    check_eq!(pwrite(disk.fd, b"abc", 5000)?, 3);
    sys!(SYS_fsync, disk.fd)?;
    check_eq!(pread(file, 3, 5000)?, b"abc");
    Ok(())
}

fn status_changes() -> Outcome {
    let disk = Disk::new(MIB)?;
    let mut info: Info = get(disk.fd, LOOP_GET_STATUS64)?;
    (info.offset, info.size_limit, info.flags) = (1024, 2048, AUTOCLEAR);
    ioctl(disk.fd, LOOP_SET_STATUS64, addr(&info))?;
    check_eq!(get::<u64>(disk.fd, BLKGETSIZE64)?, 2048);
    let now: Info = get(disk.fd, LOOP_GET_STATUS64)?;
    check_eq!((now.offset, now.size_limit, now.flags), (1024, 2048, AUTOCLEAR));
    check_eq!(
        (disk.sys("loop/offset")?.as_str(), disk.sys("loop/sizelimit")?.as_str()),
        ("1024\n", "2048\n")
    );
    check!(disk.sys("loop/backing_file")?.ends_with("/backing\n"), "{:?}", disk.sys("loop/backing_file"));
    info.encrypt_type = 1;
    check_err!(ioctl(disk.fd, LOOP_SET_STATUS64, addr(&info)), EINVAL);
    Ok(())
}

/// A master boot record with these partitions: start and length in sectors.
fn table(parts: &[(u32, u32)]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    for (n, (start, sectors)) in parts.iter().enumerate() {
        let entry = &mut sector[446 + n * 16..][..16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn partitions_are_found() -> Outcome {
    let file = create(c"f", &vec![0; MIB])?;
    pwrite(file, &table(&[(64, 128), (512, 1000)]), 0)?;
    let mut wanted = config(file);
    wanted.info.flags = PARTSCAN;
    let disk = Disk::bound(&wanted)?;
    check!(eventually(|| stat(&disk.part(2)).is_ok()));
    let two = open(&disk.part(2), O_RDWR, 0)?;
    check_eq!((get::<u64>(two, BLKGETSIZE64)?, get::<u64>(two, BLKGETSIZE)?), (512_000, 1000));
    check_eq!(pwrite(two, b"hello", 10)?, 5);
    sys!(SYS_fsync, two)?;
    check_eq!(pread(file, 5, 512 * 512 + 10)?, b"hello");
    let of = |file: &str| disk.sys(&format!("loop{}p2/{file}", disk.number));
    check_eq!(
        (of("partition")?.as_str(), of("start")?.as_str(), of("size")?.as_str()),
        ("2\n", "512\n", "1000\n")
    );
    check!(of("uevent")?.contains("DEVTYPE=partition\n"), "{}", of("uevent")?);
    check!(of("uevent")?.contains("PARTN=2\n"), "{}", of("uevent")?);
    check_err!(ioctl(disk.fd, BLKRRPART, 0), EBUSY);
    check_err!(ioctl(two, BLKRRPART, 0), EINVAL);
    close(two)?;
    // Another table.
    pwrite(disk.fd, &table(&[(100, 50)]), 0)?;
    sys!(SYS_fsync, disk.fd)?;
    ioctl(disk.fd, BLKRRPART, 0)?;
    check!(eventually(|| stat(&disk.part(2)).err() == Some(Errno(ENOENT))));
    let one = open(&disk.part(1), O_RDONLY, 0)?;
    check_eq!(get::<u64>(one, BLKGETSIZE64)?, 25_600);
    close(one)?;
    Ok(())
}

/// `struct blkpg_ioctl_arg` and `struct blkpg_partition`.
fn blkpg(fd: i32, op: i32, number: i32, start: i64, len: i64) -> Result<usize, Errno> {
    #[repr(C)]
    struct Partition {
        start: i64,
        len: i64,
        number: i32,
        names: [u8; 128],
    }
    #[repr(C)]
    struct Arg {
        op: i32,
        flags: i32,
        len: i32,
        data: usize,
    }
    let partition = Partition { start, len, number, names: [0; 128] };
    let arg = Arg { op, flags: 0, len: size_of::<Partition>() as i32, data: addr(&partition) };
    ioctl(fd, BLKPG, addr(&arg))
}

fn partitions_by_hand() -> Outcome {
    const ADD: i32 = 1;
    const DEL: i32 = 2;
    const RESIZE: i32 = 3;
    let disk = Disk::new(MIB)?;
    let change = |op, number, start, len| blkpg(disk.fd, op, number, start, len);
    change(ADD, 3, 8192, 4096)?;
    check_err!(change(ADD, 3, 65536, 4096), EBUSY);
    check_err!(change(ADD, 4, 8192 + 3584, 4096), EBUSY);
    check_err!(change(ADD, 4, 100, 4096), EINVAL);
    check_err!(change(ADD, 4, MIB as i64, 4096), EINVAL);
    check_err!(change(ADD, 4, 65536, 0), EINVAL);
    check_err!(change(ADD, 0, 65536, 4096), EINVAL);
    check_err!(change(9, 4, 65536, 4096), EINVAL);
    check!(eventually(|| stat(&disk.part(3)).is_ok()));
    let three = open(&disk.part(3), O_RDWR, 0)?;
    check_eq!(get::<u64>(three, BLKGETSIZE64)?, 4096);
    check_err!(blkpg(three, ADD, 1, 0, 512), EINVAL);
    change(RESIZE, 3, 8192, 8192)?;
    check_eq!(get::<u64>(three, BLKGETSIZE64)?, 8192);
    check_err!(change(RESIZE, 3, 4096, 8192), EINVAL);
    check_err!(change(DEL, 3, 0, 0), EBUSY);
    close(three)?;
    change(DEL, 3, 0, 0)?;
    check_err!(change(DEL, 3, 0, 0), ENXIO);
    check_err!(change(RESIZE, 3, 8192, 512), ENXIO);
    Ok(())
}

fn discards_punch_holes() -> Outcome {
    let disk = Disk::new(MIB)?;
    let file = open(c"backing", O_RDONLY, 0)?;
    let blocks = fstat(file)?.st_blocks;
    let range = |command, start: u64, len: u64| ioctl(disk.fd, command, addr(&[start, len]));
    // It is in the page cache as well.
    check_eq!(pread(disk.fd, 2, 262_143)?, [0x11; 2]);
    range(BLKDISCARD, 262_144, 131_072)?;
    check_eq!(pread(disk.fd, 3, 262_142)?, [0x11, 0x11, 0]);
    check_eq!(pread(disk.fd, 2, 262_144 + 131_071)?, [0, 0x11]);
    check!(fstat(file)?.st_blocks <= blocks - 128, "{} {}", fstat(file)?.st_blocks, blocks);
    // Before anything that a file in memory cannot do is tried: Linux does not ask again then.
    let allocate = |mode: i32, start: usize, len: usize| sys!(SYS_fallocate, disk.fd, mode, start, len);
    allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 524_288, 4096)?;
    check_eq!(pread(disk.fd, 4097, 524_288)?, [vec![0; 4096], vec![0x11]].concat());
    range(BLKZEROOUT, 1024, 512)?;
    check_eq!(pread(disk.fd, 514, 1023)?, [vec![0x11], vec![0; 512], vec![0x11]].concat());
    check_err!(range(BLKDISCARD, 100, 512), EINVAL);
    check_err!(range(BLKDISCARD, 0, 100), EINVAL);
    check_err!(range(BLKZEROOUT, MIB as u64, 512), EINVAL);
    check_err!(range(BLKZEROOUT, u64::MAX - 511, 512), EINVAL);
    let reader = open(&disk.path(), O_RDONLY, 0)?;
    check_err!(ioctl(reader, BLKZEROOUT, addr(&[0_u64, 512])), EBADF);
    check_err!(ioctl(reader, BLKDISCARD, addr(&[0_u64, 512])), EBADF);
    close(reader)?;
    allocate(FALLOC_FL_ZERO_RANGE, 600_064, 512)?;
    check_eq!(pread(disk.fd, 513, 600_064)?, [vec![0; 512], vec![0x11]].concat());
    check_err!(allocate(0, 0, 4096), EOPNOTSUPP);
    check_err!(allocate(FALLOC_FL_ZERO_RANGE, 1, 512), EINVAL);
    check_err!(allocate(FALLOC_FL_ZERO_RANGE, MIB, 512), EINVAL);
    Ok(())
}

fn one_at_a_time() -> Outcome {
    let disk = Disk::new(MIB)?;
    blkpg(disk.fd, 1, 1, 8192, 4096)?;
    check!(eventually(|| stat(&disk.part(1)).is_ok()));
    let alone = open(&disk.path(), O_RDWR | O_EXCL, 0)?;
    check_err!(open(&disk.path(), O_RDONLY | O_EXCL, 0), EBUSY);
    check_err!(open(&disk.part(1), O_RDONLY | O_EXCL, 0), EBUSY);
    close(open(&disk.path(), O_RDWR, 0)?)?;
    close(open(&disk.part(1), O_RDWR, 0)?)?;
    close(alone)?;
    let part = open(&disk.part(1), O_RDONLY | O_EXCL, 0)?;
    check_err!(open(&disk.path(), O_RDONLY | O_EXCL, 0), EBUSY);
    close(part)?;
    close(open(&disk.path(), O_RDONLY | O_EXCL, 0)?)?;
    blkpg(disk.fd, 2, 1, 0, 0)?;
    Ok(())
}

fn the_end_of_the_disk() -> Outcome {
    let disk = Disk::new(10_240)?;
    check_eq!(pread(disk.fd, 100, 10_200)?.len(), 40);
    check_eq!(pread(disk.fd, 100, 10_240)?.len(), 0);
    check_eq!(pwrite(disk.fd, &[5; 100], 10_200)?, 40);
    check_err!(pwrite(disk.fd, &[5; 100], 10_240), ENOSPC);
    check_eq!(pread(disk.fd, 100, 10_199)?, [vec![0x11], vec![5; 40]].concat());
    check_eq!(seek(disk.fd, 0, SEEK_END)?, 10_240);
    check_eq!(seek(disk.fd, -40, SEEK_CUR)?, 10_200);
    check_eq!(read_vec(disk.fd, 1000)?, [5; 40]);
    check_err!(seek(disk.fd, 1, SEEK_END), EINVAL);
    check_err!(seek(disk.fd, 0, SEEK_DATA), EINVAL);
    check_err!(seek(disk.fd, 0, SEEK_HOLE), EINVAL);
    sys!(SYS_fsync, disk.fd)?;
    let file = open(c"backing", O_RDONLY, 0)?;
    check_eq!(seek(file, 0, SEEK_END)?, 10_240);
    check_eq!(pread(file, 50, 10_200)?, [5; 40]);
    Ok(())
}

fn mapped_disk() -> Outcome {
    let disk = Disk::new(MIB)?;
    let at = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, disk.fd, 8192)?;
    check_eq!((peek(at), peek(at + 8191)), (0x11, 0x11));
    poke(at + 4097, 0x77);
    check_eq!(pread(disk.fd, 2, 8192 + 4096)?, [0x11, 0x77]);
    pwrite(disk.fd, &[0x55], 8192)?;
    check_eq!(peek(at), 0x55);
    sys!(SYS_msync, at, 3 * 4096, MS_SYNC)?;
    let file = open(c"backing", O_RDONLY, 0)?;
    check_eq!(pread(file, 2, 8192 + 4096)?, [0x11, 0x77]);
    // Another descriptor has the same pages.
    let other = open(&disk.path(), O_RDONLY, 0)?;
    poke(at, 0x44);
    check_eq!(pread(other, 1, 8192)?, [0x44]);
    close(other)?;
    munmap(at, 3 * 4096)?;
    Ok(())
}

fn past_the_cache() -> Outcome {
    let disk = Disk::new(MIB)?;
    let fd = open(&disk.path(), O_RDWR | O_DIRECT, 0)?;
    let at = map_anon(3 * MIB)?;
    let transfer = |write: bool, at: usize, len: usize, pos: usize| {
        if write { sys!(SYS_pwrite64, fd, at, len, pos) } else { sys!(SYS_pread64, fd, at, len, pos) }
    };
    // What the page cache has is seen.
    pwrite(disk.fd, &[0x33; 5000], 4096)?;
    check_eq!(transfer(false, at, 8192, 4096)?, 8192);
    check_eq!((peek(at), peek(at + 4999), peek(at + 5000)), (0x33, 0x33, 0x11));
    (0..8192).for_each(|n| poke(at + n, (n / 100) as u8));
    check_eq!(transfer(true, at, 8192, 512)?, 8192);
    check_eq!(pread(disk.fd, 3, 511)?, [0x11, 0, 0]);
    check_eq!(pread(disk.fd, 1, 512 + 8191)?, [81]);
    check_err!(transfer(false, at, 100, 0), EINVAL);
    check_err!(transfer(false, at, 512, 100), EINVAL);
    check_err!(transfer(true, at + 1, 512, 0), EINVAL);
    check_err!(transfer(false, 0x1000, 512, 0), EFAULT);
    // More than one transfer holds, and the end.
    check_eq!(transfer(false, at, 2 * MIB, 0)?, MIB);
    check_eq!(peek(at + MIB - 1), 0x11);
    check_eq!(transfer(false, at, 512, MIB)?, 0);
    check_err!(transfer(true, at, 512, MIB), ENOSPC);
    close(fd)?;
    Ok(())
}

fn numbers_of_a_disk() -> Outcome {
    let disk = Disk::new(MIB)?;
    let fd = disk.fd;
    check_eq!(get::<u64>(fd, BLKGETSIZE)?, 2048);
    check_eq!((get::<i32>(fd, BLKSSZGET)?, get::<u32>(fd, BLKPBSZGET)?), (512, 512));
    check_eq!((get::<u32>(fd, BLKIOMIN)?, get::<i32>(fd, BLKALIGNOFF)?), (512, 0));
    check_eq!((get::<u32>(fd, BLKDISCARDZEROES)?, get::<u32>(fd, BLKGETNRZONES)?), (0, 0));
    check_eq!(get::<u16>(fd, BLKROTATIONAL)?, 0);
    check_eq!(get::<u16>(fd, BLKSECTGET)?, 2560);
    check_eq!(get::<i32>(fd, BLKBSZGET)?, 4096);
    ioctl(fd, BLKBSZSET, addr(&1024_i32))?;
    check_eq!(get::<i32>(fd, BLKBSZGET)?, 1024);
    for wrong in [0_i32, 256, 1000, 65536 * 4, -1] {
        check_err!(ioctl(fd, BLKBSZSET, addr(&wrong)), EINVAL);
    }
    check_err!(ioctl(fd, BLKBSZSET, 0), EINVAL);
    check_eq!(get::<u64>(fd, BLKRAGET)?, 256);
    ioctl(fd, BLKRASET, 512)?;
    check_eq!((get::<u64>(fd, BLKRAGET)?, disk.sys("queue/read_ahead_kb")?.as_str()), (512, "256\n"));
    ioctl(fd, BLKRASET, 256)?;
    check_err!(get::<u64>(fd, HDIO_GETGEO), ENOTTY);
    check_err!(ioctl(fd, HDIO_GETGEO, 0), EINVAL);
    check_err!(ioctl(fd, BLKRAGET, 0), EINVAL);
    check_err!(ioctl(fd, BLKGETSIZE64, 0), EFAULT);
    check_err!(ioctl(fd, BLKRRPART, 0), EINVAL);
    let sequence = get::<u64>(fd, BLKGETDISKSEQ)?;
    check_eq!(disk.sys("diskseq")?, format!("{sequence}\n"));
    drop(disk);
    let disk = Disk::new(MIB)?;
    check!(get::<u64>(disk.fd, BLKGETDISKSEQ)? > sequence);
    pwrite(disk.fd, b"abc", 0)?;
    ioctl(disk.fd, BLKFLSBUF, 0)?;
    let file = open(c"backing", O_RDONLY, 0)?;
    check_eq!(pread(file, 3, 0)?, b"abc");
    Ok(())
}

fn only_root() -> Outcome {
    let disk = Disk::new(MIB)?;
    let status = in_child(|| {
        let dropped = sys!(SYS_setresuid, 1000, 1000, 1000).is_ok();
        let refused = |command: u32, arg: usize| ioctl(disk.fd, command, arg) == Err(Errno(EACCES));
        let all = refused(BLKFLSBUF, 0)
            && refused(BLKROSET, addr(&1_i32))
            && refused(BLKRASET, 10)
            && refused(BLKRRPART, 0)
            && refused(BLKBSZSET, addr(&512_i32))
            && blkpg(disk.fd, 1, 1, 4096, 4096) == Err(Errno(EACCES));
        let closed = open(&disk.path(), O_RDONLY, 0) == Err(Errno(EACCES));
        let size = get::<u64>(disk.fd, BLKGETSIZE64) == Ok(MIB as u64);
        i32::from(!(dropped && all && closed && size))
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn disks_in_proc() -> Outcome {
    let disk = Disk::new(MIB)?;
    let name = format!("loop{}", disk.number);
    let partitions = slurp(c"/proc/partitions")?;
    check!(partitions.starts_with("major minor  #blocks  name\n\n"), "{partitions}");
    let line = format!("{:4}  {:7} {:10} {name}", 7, disk.number, 1024);
    check!(partitions.lines().any(|other| other == line), "{partitions}");
    let stats = slurp(c"/proc/diskstats")?;
    let line = format!("{:4} {:7} {name} ", 7, disk.number);
    let found = stats.lines().find_map(|other| other.strip_prefix(line.as_str()));
    let numbers = found.unwrap_or_default().split(' ').map(str::parse::<u64>).filter(Result::is_ok).count();
    check_eq!(numbers, 17);
    let devices = slurp(c"/proc/devices")?;
    let block = devices.split("\nBlock devices:\n").nth(1).unwrap_or_default();
    check!(block.lines().any(|line| line == "  7 loop"), "{devices}");
    Ok(())
}

fn disks_in_sysfs() -> Outcome {
    let disk = Disk::new(MIB)?;
    let name = format!("loop{}", disk.number);
    let target = |path: String| std::fs::read_link(path).map(|path| path.display().to_string());
    let home = format!("devices/virtual/block/{name}");
    check_eq!(target(format!("/sys/block/{name}")).ok(), Some(format!("../{home}")));
    check_eq!(target(format!("/sys/class/block/{name}")).ok(), Some(format!("../../{home}")));
    check_eq!(target(format!("/sys/dev/block/7:{}", disk.number)).ok(), Some(format!("../../{home}")));
    check_eq!(target(format!("/sys/block/{name}/subsystem")).ok(), Some("../../../../class/block".into()));
    for (file, wanted) in [
        ("dev", format!("7:{}", disk.number)),
        ("size", "2048".into()),
        ("ro", "0".into()),
        ("removable", "0".into()),
        ("hidden", "0".into()),
        ("range", "1".into()),
        ("ext_range", "256".into()),
        ("alignment_offset", "0".into()),
        ("discard_alignment", "0".into()),
        ("events_poll_msecs", "-1".into()),
        ("loop/dio", "0".into()),
        ("loop/partscan", "0".into()),
        ("queue/logical_block_size", "512".into()),
        ("queue/hw_sector_size", "512".into()),
        ("queue/minimum_io_size", "512".into()),
        ("queue/optimal_io_size", "0".into()),
        ("queue/max_hw_sectors_kb", "1280".into()),
        ("queue/max_sectors_kb", "1280".into()),
        ("queue/max_segments", "128".into()),
        ("queue/rotational", "0".into()),
        ("queue/zoned", "none".into()),
        ("queue/nr_zones", "0".into()),
        ("queue/chunk_sectors", "0".into()),
        ("queue/fua", "0".into()),
        ("queue/dax", "0".into()),
        ("queue/iostats", "1".into()),
        ("queue/add_random", "0".into()),
        ("queue/nr_requests", "128".into()),
        ("queue/write_cache", "write back".into()),
        ("queue/discard_zeroes_data", "0".into()),
        ("queue/read_ahead_kb", "128".into()),
        ("mq/0/nr_tags", "128".into()),
    ] {
        check_eq!((file, disk.sys(file)?.trim_end()), (file, wanted.as_str()));
    }
    let uevent = disk.sys("uevent")?;
    let sequence = get::<u64>(disk.fd, BLKGETDISKSEQ)?;
    check_eq!(
        uevent,
        format!("MAJOR=7\nMINOR={}\nDEVNAME={name}\nDEVTYPE=disk\nDISKSEQ={sequence}\n", disk.number)
    );
    for dir in ["holders", "slaves", "queue", "power"] {
        check_eq!(stat(&text(format!("/sys/block/{name}/{dir}")))?.st_mode & S_IFMT, S_IFDIR);
    }
    let set = |file: &str, value: &str| spew(&text(format!("/sys/block/{name}/{file}")), value);
    set("queue/max_sectors_kb", "64")?;
    check_eq!(disk.sys("queue/max_sectors_kb")?, "64\n");
    check_err!(set("queue/max_sectors_kb", "2"), EINVAL);
    check_err!(set("queue/max_sectors_kb", "x"), EINVAL);
    check_eq!(pread(disk.fd, MIB, 0)?.len(), MIB);
    // What the device cannot do is cut.
    set("queue/max_sectors_kb", "100000")?;
    check_eq!(disk.sys("queue/max_sectors_kb")?, "1280\n");
    set("queue/read_ahead_kb", "64")?;
    check_eq!(get::<u64>(disk.fd, BLKRAGET)?, 128);
    set("queue/read_ahead_kb", "128")?;
    check_err!(set("queue/logical_block_size", "4096"), EACCES);
    Ok(())
}

fn transfers_are_counted() -> Outcome {
    let disk = Disk::new(MIB)?;
    let numbers = || -> Result<Vec<u64>, Errno> {
        Ok(disk.sys("stat")?.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    };
    let before = numbers()?;
    check_eq!(before.len(), 17);
    let fd = open(&disk.path(), O_RDWR | O_DIRECT, 0)?;
    let at = map_anon(MIB)?;
    for _ in 0..3 {
        check_eq!(sys!(SYS_pread64, fd, at, 8192, 0)?, 8192);
    }
    check_eq!(sys!(SYS_pwrite64, fd, at, 4096, 0)?, 4096);
    sys!(SYS_fsync, fd)?;
    ioctl(fd, BLKDISCARD, addr(&[65536_u64, 65536]))?;
    let after = numbers()?;
    let grown: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    check_eq!((grown[0], grown[2]), (3, 48));
    // The flush is counted as a write without sectors as well.
    check!(grown[4] >= 2 && grown[6] == 8, "{grown:?}");
    check_eq!((grown[11], grown[13]), (1, 128));
    check!(grown[15] >= 1 && after[8] == 0, "{grown:?}");
    check_eq!(disk.sys("inflight")?, "       0        0\n");
    close(fd)?;
    Ok(())
}

fn schedulers() -> Outcome {
    let disk = Disk::new(MIB)?;
    let path = text(format!("/sys/block/loop{}/queue/scheduler", disk.number));
    check!(slurp(&path)?.contains("[none]"), "{}", slurp(&path)?);
    check_err!(spew(&path, "nonsense"), EINVAL);
    if slurp(&path)?.contains("mq-deadline") {
        spew(&path, "mq-deadline\n")?;
        check!(slurp(&path)?.contains("[mq-deadline]"), "{}", slurp(&path)?);
        check_eq!(disk.sys("queue/iosched/fifo_batch")?, "16\n");
        check_eq!(pwrite(disk.fd, &[9; 100_000], 5000)?, 100_000);
        sys!(SYS_fsync, disk.fd)?;
        check_eq!(pread(disk.fd, 2, 4999)?, [0x11, 9]);
        spew(&path, "none")?;
        check!(slurp(&path)?.contains("[none]"), "{}", slurp(&path)?);
    }
    Ok(())
}
