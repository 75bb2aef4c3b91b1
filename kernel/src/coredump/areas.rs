//! Which memory a dump holds: core(5), "Controlling which mappings are written to the core dump".

use crate::process::CurrentThread;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use core::fmt::Write;
use core::ops::Range;
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use mm::fallible::TryVec;
use mm::query::AreaInfo;
use mm::remote::{RemoteBuf, RemoteMode};
use mm::vma::VmFlags;
use vfs::file::File;

/// Bits of `/proc/<pid>/coredump_filter`.
mod filter {
    pub const ANON_PRIVATE: u32 = 1 << 0;
    pub const ANON_SHARED: u32 = 1 << 1;
    pub const MAPPED_PRIVATE: u32 = 1 << 2;
    pub const MAPPED_SHARED: u32 = 1 << 3;
    pub const ELF_HEADERS: u32 = 1 << 4;
}

/// An area of memory.
pub struct Area {
    /// Its addresses.
    pub range: Range<usize>,
    /// `PF_*` of a program header.
    pub rights: u32,
    /// How many bytes of it are written.
    pub size: usize,
    /// It is anonymous: pages that are not there are zero.
    pub is_anonymous: bool,
    /// The file behind it, and the page offset in it.
    pub file: Option<(Vec<u8>, u64)>,
}

/// How much of an area is written, as far as can be said without looking at its bytes.
enum Choice {
    Nothing,
    Whole,
    /// The first page, if it begins an ELF file.
    Header,
    FirstPage,
}

fn choose(info: &AreaInfo<'_>, filter: u32) -> Choice {
    let flags = info.flags();
    let on = |bit: u32| filter & bit != 0;
    let whole = |yes: bool| if yes { Choice::Whole } else { Choice::Nothing };
    if info.is_special() {
        return Choice::Whole;
    }
    if flags.intersects(VmFlags::DONTDUMP | VmFlags::IO) {
        return Choice::Nothing;
    }
    let file = info.file().and_then(|file| file.as_any().downcast::<File>().ok());
    if flags.contains(VmFlags::SHARED) {
        // Shared memory without a name is of no file either.
        let named = file.is_some_and(|file| file.inode().nlink() > 0);
        return whole(on(if named { filter::MAPPED_SHARED } else { filter::ANON_SHARED }));
    }
    if on(filter::ANON_PRIVATE) && info.stats().anonymous > 0 {
        return Choice::Whole;
    }
    if !info.is_file() {
        return Choice::Nothing;
    }
    if on(filter::MAPPED_PRIVATE) {
        return Choice::Whole;
    }
    if on(filter::ELF_HEADERS) && info.offset() == 0 && flags.contains(VmFlags::READ) {
        let executable = file.is_some_and(|file| file.inode().mode() & 0o111 != 0);
        return if executable { Choice::FirstPage } else { Choice::Header };
    }
    Choice::Nothing
}

/// Text that grows, and may find no memory.
struct Name(Vec<u8>);

impl Write for Name {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.try_extend_from_slice(text.as_bytes()).map_err(|_| core::fmt::Error)
    }
}

fn describe(info: &AreaInfo<'_>, filter: u32) -> (Area, bool) {
    let flags = info.flags();
    let bit = |flag, value: u32| if flags.contains(flag) { value } else { 0 };
    let range = info.range();
    let (size, look) = match choose(info, filter) {
        Choice::Nothing => (0, false),
        Choice::Whole => (range.len(), false),
        Choice::FirstPage => (PAGE_SIZE, false),
        Choice::Header => (0, true),
    };
    let file = info.file().map(|file| {
        let mut name = Name(Vec::new());
        // A name that cannot be told is left empty.
        if file.write_path(&mut name).is_err() {
            name.0.clear();
        }
        (name.0, info.offset() / PAGE_SIZE as u64)
    });
    let area = Area {
        rights: bit(VmFlags::READ, 4) | bit(VmFlags::WRITE, 2) | bit(VmFlags::EXEC, 1),
        size,
        is_anonymous: !info.is_file() && !info.is_special(),
        file,
        range,
    };
    (area, look)
}

/// All areas of the running thread's memory, in order.
///
/// # Errors
/// `ENOMEM`.
pub fn list(me: &CurrentThread, space: &Arc<AddressSpace>) -> Result<Vec<Area>> {
    let filter = me.process.coredump_filter.load(Ordering::Relaxed);
    let mut areas = Vec::new();
    let mut looks = Vec::new();
    let mut failed = false;
    space.for_each_area(0, &mut |info| {
        failed = areas.try_reserve(1).is_err() || looks.try_reserve(1).is_err();
        if !failed {
            let (area, look) = describe(info, filter);
            if look {
                looks.push_reserved(areas.len());
            }
            areas.push_reserved(area);
        }
        !failed
    });
    if failed {
        return Err(Errno::ENOMEM);
    }
    for index in looks {
        if let Some(area) = areas.get_mut(index) {
            let mut magic = [0; 4];
            let got = space.access_remote(area.range.start, RemoteBuf::Read(&mut magic), RemoteMode::Force);
            if got == magic.len() && magic == *b"\x7fELF" {
                area.size = PAGE_SIZE;
            }
        }
    }
    Ok(areas)
}
