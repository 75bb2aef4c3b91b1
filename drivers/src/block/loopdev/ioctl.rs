//! ioctl(2) of loop devices.

use alloc::sync::Arc;

use abi::fs::DevId;
use abi::{Errno, Result};
use block::disk::{Access, BlockDevice, Call, Claim, Disk, HolderId, LOOP_MAJOR, Opened};
use mm::UserPtr;
use vfs::file::File;
use vfs::types::FileType;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::control;
use super::device::{
    AUTOCLEAR, Binding, DIRECT_IO, Loop, NAME, PARTSCAN, READ_ONLY, State, block_device_of, length_of,
};

const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LOOP_GET_STATUS64: u32 = 0x4c05;
const LOOP_CHANGE_FD: u32 = 0x4c06;
const LOOP_SET_CAPACITY: u32 = 0x4c07;
const LOOP_SET_DIRECT_IO: u32 = 0x4c08;
const LOOP_SET_BLOCK_SIZE: u32 = 0x4c09;
const LOOP_CONFIGURE: u32 = 0x4c0a;

/// Flags that `LOOP_CONFIGURE` takes.
const CONFIGURE: u32 = READ_ONLY | AUTOCLEAR | PARTSCAN | DIRECT_IO;
/// Flags that `LOOP_SET_STATUS64` sets; of these it clears the first only.
const SETTABLE: u32 = AUTOCLEAR | PARTSCAN;
const CLEARABLE: u32 = AUTOCLEAR;
/// How many loop devices may be bound to each other in a row.
const DEPTH: usize = 16;

/// `struct loop_info64`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; NAME],
    crypt_name: [u8; NAME],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

fn empty_info() -> LoopInfo64 {
    zerocopy::FromZeros::new_zeroed()
}

/// Runs a command.
pub(super) fn ioctl(device: &Loop, disk: &Arc<BlockDevice>, call: &Call<'_>) -> Result<u64> {
    let may_change = || if call.access.write || (call.is_admin)() { Ok(()) } else { Err(Errno::EPERM) };
    let arg = call.arg as usize;
    match call.command {
        LOOP_SET_FD => configure(device, disk, call, call.arg as i32, 0, &empty_info()),
        LOOP_CONFIGURE => {
            let config = UserPtr::<LoopConfig>::new(arg).read()?;
            configure(device, disk, call, config.fd as i32, config.block_size, &config.info)
        }
        LOOP_CHANGE_FD => change_file(device, disk, call.arg as i32),
        LOOP_CLR_FD => clear(device, disk),
        LOOP_SET_STATUS64 => {
            may_change()?;
            set_status(device, disk, &UserPtr::<LoopInfo64>::new(arg).read()?)
        }
        LOOP_GET_STATUS64 => {
            let info = status(device)?;
            UserPtr::<LoopInfo64>::new(arg).write(&info).map(|()| 0)
        }
        LOOP_SET_CAPACITY => {
            may_change()?;
            with_bound(device, |binding| {
                disk.disk().set_capacity_and_notify(binding.sectors());
                Ok(0)
            })
        }
        LOOP_SET_DIRECT_IO => {
            may_change()?;
            with_bound(device, |binding| set_direct(device, disk, binding, call.arg != 0))
        }
        LOOP_SET_BLOCK_SIZE => {
            may_change()?;
            set_block_size(device, disk, call.arg)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// With what the device is bound to: `ENXIO` if it is not.
fn with_bound<R>(device: &Loop, f: impl FnOnce(&mut Binding) -> Result<R>) -> Result<R> {
    match &mut *device.state.lock() {
        State::Bound(binding) => f(binding),
        _ => Err(Errno::ENXIO),
    }
}

/// Whether `file` can be what a loop device is bound to: regular or a block device, and not, through others, this one.
fn check_file(device: &Loop, file: &Arc<File>) -> Result<()> {
    let mut below = block_device_of(file);
    for _ in 0..DEPTH {
        let Some(whole) = below.filter(|below| below.dev().major == LOOP_MAJOR) else {
            return match file.file_type() {
                FileType::Regular | FileType::BlockDevice => Ok(()),
                _ => Err(Errno::EINVAL),
            };
        };
        if whole.dev().minor == device.number {
            return Err(Errno::EBADF);
        }
        match control::bound_file(whole.dev().minor)? {
            Some(next) => below = block_device_of(&next),
            None => return Err(Errno::EINVAL),
        }
    }
    Err(Errno::EBADF)
}

/// Nobody else may have claimed the disk while it is bound.
fn alone(disk: &Arc<BlockDevice>, call: &Call<'_>) -> Result<Option<Opened>> {
    if call.exclusive {
        return Ok(None);
    }
    disk.open(Access::default(), Some(Claim::new(HolderId::new()))).map(Some)
}

fn is_block_size(size: u32) -> bool {
    size.is_power_of_two() && (512..=4096).contains(&size)
}

/// The offset and size limit that `info` wants.
fn place(info: &LoopInfo64) -> Result<(u64, u64)> {
    if info.encrypt_type != 0 {
        return Err(Errno::EINVAL);
    }
    if info.offset > i64::MAX as u64 || info.size_limit > i64::MAX as u64 {
        return Err(Errno::EOVERFLOW);
    }
    Ok((info.offset, info.size_limit))
}

fn configure(
    device: &Loop,
    whole: &Arc<BlockDevice>,
    call: &Call<'_>,
    fd: i32,
    block_size: u32,
    info: &LoopInfo64,
) -> Result<u64> {
    let file = control::file(fd)?;
    let disk = whole.disk();
    let claim = alone(whole, call)?;
    check_file(device, &file)?;
    if info.flags & !CONFIGURE != 0 || block_size != 0 && !is_block_size(block_size) {
        return Err(Errno::EINVAL);
    }
    let (offset, size_limit) = place(info)?;
    let mut flags = info.flags & (READ_ONLY | AUTOCLEAR | PARTSCAN);
    if Binding::is_read_only(&file, call.access) {
        flags |= READ_ONLY;
    }
    let block_size = match (block_size, block_device_of(&file)) {
        (0, Some(below)) if file.flags() & abi::raw::O_DIRECT != 0 => below.limits().logical_block_size,
        (0, _) => 512,
        (size, _) => size,
    };
    {
        let mut state = device.state.lock();
        if !matches!(*state, State::Unbound) {
            return Err(Errno::EBUSY);
        }
        let mut binding = Binding { file, offset, size_limit, flags, name: info.file_name };
        let wants_direct = info.flags & DIRECT_IO != 0 || binding.file.flags() & abi::raw::O_DIRECT != 0;
        if wants_direct && binding.can_be_direct(block_size) {
            binding.flags |= DIRECT_IO;
        }
        device.set_limits(disk, &binding, Some(block_size))?;
        device.apply(disk, &binding)?;
        disk.set_read_only(flags & READ_ONLY != 0);
        disk.set_scans_partitions(flags & PARTSCAN != 0);
        disk.set_capacity(binding.sectors());
        *state = State::Bound(binding);
        disk.media_changed();
    }
    if flags & PARTSCAN != 0 {
        rescan(disk);
    }
    drop(claim);
    Ok(0)
}

/// Looks for partitions; that some are open is no reason to fail.
fn rescan(disk: &Arc<Disk>) {
    if let Err(error) = disk.rescan() {
        log::warn!("{}: partition scan failed ({error:?})", disk.name());
    }
}

fn change_file(device: &Loop, disk: &Arc<BlockDevice>, fd: i32) -> Result<u64> {
    let file = control::file(fd)?;
    check_file(device, &file)?;
    let old = with_bound(device, |binding| {
        if binding.flags & READ_ONLY == 0 || length_of(&file) != length_of(&binding.file) {
            return Err(Errno::EINVAL);
        }
        disk.disk().media_changed();
        let old = core::mem::replace(&mut binding.file, file.clone());
        if !binding.can_be_direct(disk.limits().logical_block_size) {
            binding.flags &= !DIRECT_IO;
        }
        device.apply(disk.disk(), binding)?;
        Ok((old, binding.flags & PARTSCAN != 0))
    })?;
    if old.1 {
        rescan(disk.disk());
    }
    Ok(0)
}

fn clear(device: &Loop, disk: &Arc<BlockDevice>) -> Result<u64> {
    let mut state = device.state.lock();
    let State::Bound(binding) = &mut *state else { return Err(Errno::ENXIO) };
    // The file goes with the last close. If that is the caller's, nobody comes any more.
    binding.flags |= AUTOCLEAR;
    if disk.disk().whole().is_some_and(|whole| whole.openers() == 1)
        && let State::Bound(binding) = core::mem::replace(&mut *state, State::Retired)
    {
        *state = State::RunDown(binding);
    }
    Ok(0)
}

fn set_status(device: &Loop, disk: &Arc<BlockDevice>, info: &LoopInfo64) -> Result<u64> {
    let (offset, size_limit) = place(info)?;
    let scan = with_bound(device, |binding| {
        let moved = (binding.offset, binding.size_limit) != (offset, size_limit);
        if moved && let Some(mapping) = disk.mapping() {
            mapping.write_back(0..u64::MAX)?;
            mapping.invalidate(0..u64::MAX);
        }
        let before = binding.flags;
        let mut flags = before & !CLEARABLE | info.flags & SETTABLE;
        (binding.offset, binding.size_limit, binding.name) = (offset, size_limit, info.file_name);
        if flags & DIRECT_IO != 0 && !binding.can_be_direct(disk.limits().logical_block_size) {
            flags &= !DIRECT_IO;
        }
        binding.flags = flags;
        device.apply(disk.disk(), binding)?;
        if moved {
            disk.disk().set_capacity_and_notify(binding.sectors());
        }
        let scan = flags & PARTSCAN != 0 && before & PARTSCAN == 0;
        if scan {
            disk.disk().set_scans_partitions(true);
        }
        Ok(scan)
    })?;
    if scan {
        rescan(disk.disk());
    }
    Ok(0)
}

fn status(device: &Loop) -> Result<LoopInfo64> {
    with_bound(device, |binding| {
        let inode = binding.file.inode();
        let stat = vfs::stat::fstat(&binding.file)?;
        let encode = |dev: DevId| u64::from(dev.encode());
        let rdev = if block_device_of(&binding.file).is_some() { inode.rdev() } else { stat.dev };
        Ok(LoopInfo64 {
            device: encode(stat.dev),
            inode: inode.ino(),
            rdevice: encode(rdev),
            offset: binding.offset,
            size_limit: binding.size_limit,
            number: device.number,
            flags: binding.flags,
            file_name: binding.name,
            ..empty_info()
        })
    })
}

fn set_direct(device: &Loop, disk: &Arc<BlockDevice>, binding: &mut Binding, direct: bool) -> Result<u64> {
    let flags = binding.flags & !DIRECT_IO | if direct { DIRECT_IO } else { 0 };
    if flags != binding.flags {
        if direct && !binding.can_be_direct(disk.limits().logical_block_size) {
            return Err(Errno::EINVAL);
        }
        vfs::rw::vfs_fsync(&binding.file, 0, u64::MAX, false)?;
        binding.flags = flags;
        device.apply(disk.disk(), binding)?;
    }
    Ok(0)
}

fn set_block_size(device: &Loop, disk: &Arc<BlockDevice>, size: u64) -> Result<u64> {
    with_bound(device, |binding| {
        let size = u32::try_from(size).ok().filter(|size| is_block_size(*size)).ok_or(Errno::EINVAL)?;
        if size == disk.limits().logical_block_size {
            return Ok(0);
        }
        if let Some(mapping) = disk.mapping() {
            mapping.write_back(0..u64::MAX)?;
            mapping.invalidate(0..u64::MAX);
        }
        device.set_limits(disk.disk(), binding, Some(size))?;
        if binding.flags & DIRECT_IO != 0 && !binding.can_be_direct(size) {
            binding.flags &= !DIRECT_IO;
            device.apply(disk.disk(), binding)?;
        }
        Ok(0)
    })
}
