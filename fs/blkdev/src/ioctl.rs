//! ioctl(2) of block special files: `linux/fs.h`, `linux/blkpg.h`, `linux/hdreg.h`, `linux/blkzoned.h`.

use abi::cap::Cap;
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use block::bio::{SECTOR_SHIFT, SECTOR_SIZE};
use block::disk::{Access, Call, Claim, HolderId, Zeroing};
use block::limits::Features;
use mm::UserPtr;
use vfs::cred::Credentials;
use vfs::file::File;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::file::BlockFile;

const HDIO_GETGEO: u32 = 0x0301;
const BLKROSET: u32 = 0x125d;
const BLKROGET: u32 = 0x125e;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKRASET: u32 = 0x1262;
const BLKRAGET: u32 = 0x1263;
const BLKFRASET: u32 = 0x1264;
const BLKFRAGET: u32 = 0x1265;
const BLKSECTGET: u32 = 0x1267;
const BLKSSZGET: u32 = 0x1268;
const BLKPG: u32 = 0x1269;
const BLKDISCARD: u32 = 0x1277;
const BLKIOMIN: u32 = 0x1278;
const BLKIOOPT: u32 = 0x1279;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKDISCARDZEROES: u32 = 0x127c;
const BLKSECDISCARD: u32 = 0x127d;
const BLKROTATIONAL: u32 = 0x127e;
const BLKZEROOUT: u32 = 0x127f;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKBSZSET: u32 = 0x4008_1271;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKGETDISKSEQ: u32 = 0x8008_1280;
const BLKGETZONESZ: u32 = 0x8004_1284;
const BLKGETNRZONES: u32 = 0x8004_1285;

/// `op` of `struct blkpg_ioctl_arg`.
const ADD_PARTITION: i32 = 1;
const DEL_PARTITION: i32 = 2;
const RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_ioctl_arg`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BlkpgArg {
    op: i32,
    flags: i32,
    datalen: i32,
    pad: i32,
    data: u64,
}

/// The beginning of `struct blkpg_partition`; names follow that nobody reads.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    pad: i32,
}

/// `struct hd_geometry`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct HdGeometry {
    heads: u8,
    sectors: u8,
    cylinders: u16,
    pad: u32,
    start: u64,
}

/// Answers with one number.
fn put<T: IntoBytes + Immutable>(arg: usize, value: T) -> Result<isize> {
    UserPtr::<T>::new(arg).write(&value).map(|()| 0)
}

/// Runs a command.
pub fn ioctl(file: &BlockFile, _: &File, cred: &Credentials, cmd: u32, arg: usize) -> Result<isize> {
    let device = file.device();
    let limits = device.limits();
    let is_admin = || cred.capable(Cap::SysAdmin);
    let admin = || if is_admin() { Ok(()) } else { Err(Errno::EACCES) };
    match cmd {
        BLKGETSIZE => put(arg, device.sectors()),
        BLKGETSIZE64 => put(arg, device.bytes()),
        BLKSSZGET => put(arg, limits.logical_block_size),
        BLKPBSZGET => put(arg, limits.physical_block_size),
        BLKIOMIN => put(arg, limits.io_min),
        BLKIOOPT => put(arg, limits.io_opt),
        BLKALIGNOFF => put(arg, device.alignment_offset() as i32),
        BLKDISCARDZEROES => put(arg, 0u32),
        BLKSECTGET => put(arg, limits.max_sectors.min(u16::MAX.into()) as u16),
        BLKROTATIONAL => put(arg, u16::from(limits.features.contains(Features::ROTATIONAL))),
        BLKROGET => put(arg, i32::from(device.is_read_only())),
        BLKGETDISKSEQ => put(arg, device.disk().sequence()),
        BLKGETZONESZ | BLKGETNRZONES => put(arg, 0u32),
        BLKRAGET | BLKFRAGET if arg == 0 => Err(Errno::EINVAL),
        BLKRAGET | BLKFRAGET => put(arg, u64::from(device.disk().read_ahead()) >> SECTOR_SHIFT),
        BLKRASET | BLKFRASET => {
            admin()?;
            let pages = (arg as u64).saturating_mul(SECTOR_SIZE) / PAGE_SIZE as u64;
            let bytes = u32::try_from(pages * PAGE_SIZE as u64).unwrap_or(!(PAGE_SIZE as u32 - 1));
            device.disk().set_read_ahead(bytes);
            Ok(0)
        }
        BLKBSZGET => put(arg, device.block_size()),
        BLKBSZSET => {
            admin()?;
            if arg == 0 {
                return Err(Errno::EINVAL);
            }
            let size = UserPtr::<i32>::new(arg).read()?;
            let size = u32::try_from(size).map_err(|_| Errno::EINVAL)?;
            let _claim = alone(file)?;
            device.set_block_size(size).map(|()| 0)
        }
        BLKROSET => {
            admin()?;
            let read_only = UserPtr::<i32>::new(arg).read()? != 0;
            device.disk().ops().set_read_only(device.disk(), read_only)?;
            device.set_read_only(read_only);
            Ok(0)
        }
        BLKFLSBUF => {
            admin()?;
            file.cache().write_back(0..u64::MAX)?;
            file.cache().invalidate(0..u64::MAX);
            Ok(0)
        }
        BLKRRPART => {
            admin()?;
            if device.partition().is_some() || !device.disk().scans_partitions() {
                return Err(Errno::EINVAL);
            }
            let _claim = alone(file)?;
            device.disk().rescan().map(|()| 0)
        }
        BLKPG => blkpg(file, cred, arg),
        BLKDISCARD | BLKSECDISCARD | BLKZEROOUT => discard(file, cmd, arg),
        HDIO_GETGEO => {
            if arg == 0 {
                return Err(Errno::EINVAL);
            }
            let geometry = device.disk().ops().geometry(device.disk()).ok_or(Errno::ENOTTY)?;
            let block::disk::Geometry { heads, sectors, cylinders } = geometry;
            put(arg, HdGeometry { heads, sectors, cylinders, pad: 0, start: device.start() })
        }
        _ => {
            let call = Call {
                access: file.access(),
                exclusive: file.is_exclusive(),
                command: cmd,
                arg: arg as u64,
                is_admin: &is_admin,
            };
            device.disk().ops().ioctl(device, &call).map(|value| value as isize)
        }
    }
}

/// Nobody else may have claimed the device while something is changed.
fn alone(file: &BlockFile) -> Result<Option<block::disk::Opened>> {
    if file.is_exclusive() {
        return Ok(None);
    }
    file.device().open(Access::default(), Some(Claim::new(HolderId::new()))).map(Some)
}

fn blkpg(file: &BlockFile, cred: &Credentials, arg: usize) -> Result<isize> {
    let BlkpgArg { op, data, .. } = UserPtr::<BlkpgArg>::new(arg).read()?;
    if !cred.capable(Cap::SysAdmin) {
        return Err(Errno::EACCES);
    }
    let BlkpgPartition { start, length, number, .. } =
        UserPtr::<BlkpgPartition>::new(data as usize).read()?;
    let device = file.device();
    if device.partition().is_some() {
        return Err(Errno::EINVAL);
    }
    let number = u32::try_from(number).ok().filter(|number| *number > 0).ok_or(Errno::EINVAL)?;
    let disk = device.disk();
    if op == DEL_PARTITION {
        return disk.remove_partition(number).map(|()| 0);
    }
    let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else {
        return Err(Errno::EINVAL);
    };
    let block = u64::from(device.limits().logical_block_size);
    if length == 0 || !(start | length).is_multiple_of(block) || start.checked_add(length).is_none() {
        return Err(Errno::EINVAL);
    }
    let (start, length) = (start >> SECTOR_SHIFT, length >> SECTOR_SHIFT);
    match op {
        ADD_PARTITION => disk.add_partition(number, start, length)?,
        RESIZE_PARTITION => disk.resize_partition(number, start, length)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Commands whose argument is a start and a length in bytes.
fn discard(file: &BlockFile, cmd: u32, arg: usize) -> Result<isize> {
    let device = file.device();
    let limits = device.limits();
    let range = || UserPtr::<[u64; 2]>::new(arg).read();
    let writable = || if file.access().write { Ok(()) } else { Err(Errno::EBADF) };
    let unit;
    let [start, len] = match cmd {
        BLKDISCARD => {
            let range = range()?;
            if limits.max_discard_sectors == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            writable()?;
            if device.is_read_only() {
                return Err(Errno::EPERM);
            }
            unit = u64::from(limits.logical_block_size);
            range
        }
        BLKSECDISCARD => {
            writable()?;
            if limits.max_secure_erase_sectors == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            unit = SECTOR_SIZE;
            range()?
        }
        _ => {
            writable()?;
            unit = SECTOR_SIZE;
            range()?
        }
    };
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    if !(start | len).is_multiple_of(unit) || len == 0 || end > device.bytes() {
        return Err(Errno::EINVAL);
    }
    file.forget(start, len);
    let (sector, sectors) = (start >> SECTOR_SHIFT, len >> SECTOR_SHIFT);
    match cmd {
        BLKDISCARD => device.discard(sector, sectors)?,
        BLKSECDISCARD => device.secure_erase(sector, sectors)?,
        _ => device.write_zeroes(sector, sectors, Zeroing { keep_space: true, no_fallback: false })?,
    }
    Ok(0)
}
