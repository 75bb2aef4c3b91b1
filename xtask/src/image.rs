//! From the linked kernel to the file a boot loader loads.

use anyhow::{Context, Result, bail, ensure};
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSegment, ObjectSymbol, SymbolKind};

type Header = FileHeader64<Endianness>;

/// Where the arm64 `Image` header has its magic number.
const ARM64_MAGIC_OFFSET: usize = 56;
const ARM64_MAGIC: &[u8] = b"ARM\x64";

/// The ELF file cut down to what is loaded: program headers and segments, no section headers.
pub fn without_debug(elf: &[u8]) -> Result<Vec<u8>> {
    let header = Header::parse(elf).context("the kernel is not a 64-bit ELF file")?;
    let endian = header.endian()?;
    let mut end =
        header.e_phoff(endian) + u64::from(header.e_phnum(endian)) * u64::from(header.e_phentsize(endian));
    for segment in header.program_headers(endian, elf)? {
        end = end.max(segment.p_offset(endian) + segment.p_filesz(endian));
    }
    let end = usize::try_from(end)?;
    let mut image = elf.get(..end).context("a segment lies beyond the end of the file")?.to_vec();
    // e_shoff, then e_shnum and e_shstrndx: there are no sections any more.
    image[0x28..0x30].fill(0);
    image[0x3c..0x40].fill(0);
    Ok(image)
}

/// Writes the table of the kernel's functions into the room that the linked image reserves for it, so that the kernel can
/// name the functions of its own backtraces. Returns how many functions are in it, and how many there are.
pub fn add_symbols(elf: &mut [u8]) -> Result<(usize, usize)> {
    let (functions, room, file_offset) = {
        let file = object::read::elf::ElfFile64::<Endianness>::parse(&*elf).context("parse the kernel")?;
        let base = file.segments().map(|s| s.address()).min().context("nothing to load")?;
        let address = |name: &str| file.symbols().find(|s| s.name() == Ok(name)).map(|s| s.address());
        let Some((start, end)) = address("__ksyms_start").zip(address("__ksyms_end")) else {
            bail!("the kernel reserves no room for symbols");
        };
        let functions: Vec<_> = file
            .symbols()
            .filter(|s| {
                s.kind() == SymbolKind::Text && s.is_definition() && !s.name().unwrap_or("").starts_with('$')
            })
            .filter_map(|s| Some((u32::try_from(s.address().checked_sub(base)?).ok()?, s.name().ok()?)))
            .map(|(at, name)| (at, format!("{:#}", rustc_demangle::demangle(name))))
            .collect();
        let segment = file
            .segments()
            .find(|s| (s.address()..s.address() + s.size()).contains(&start))
            .context("the room for symbols is in no segment")?;
        (
            functions,
            usize::try_from(end - start)?,
            usize::try_from(segment.file_range().0 + (start - segment.address()))?,
        )
    };
    let (table, count) = symtab::encode(&functions, room);
    elf.get_mut(file_offset..file_offset + table.len())
        .context("the room lies outside of the file")?
        .copy_from_slice(&table);
    Ok((count, functions.len()))
}

/// The memory image of the loadable segments, by physical address, as an arm64 `Image`.
pub fn flat(elf: &[u8]) -> Result<Vec<u8>> {
    let header = Header::parse(elf).context("the kernel is not a 64-bit ELF file")?;
    let endian = header.endian()?;
    let loads: Vec<_> = header
        .program_headers(endian, elf)?
        .iter()
        .filter(|s| s.p_type(endian) == PT_LOAD && s.p_memsz(endian) > 0)
        .collect();
    let base = loads.iter().map(|s| s.p_paddr(endian)).min().context("nothing to load")?;
    let mut image = Vec::new();
    for segment in loads {
        let data = segment.data(endian, elf).ok().context("a segment lies outside of the file")?;
        let start = usize::try_from(segment.p_paddr(endian) - base)?;
        ensure!(start + data.len() < 1 << 30, "segments are more than 1 GiB apart");
        if image.len() < start + data.len() {
            image.resize(start + data.len(), 0);
        }
        image[start..start + data.len()].copy_from_slice(data);
    }
    let magic = image.get(ARM64_MAGIC_OFFSET..ARM64_MAGIC_OFFSET + ARM64_MAGIC.len());
    if magic != Some(ARM64_MAGIC) {
        bail!("the first segment does not begin with an arm64 Image header");
    }
    Ok(image)
}

/// Takes the uncompressed kernel out of a Linux `bzImage`, for a boot through its PVH note.
///
/// The boot protocol header says where the compressed payload lies
/// (`Documentation/arch/x86/boot.rst`).
pub fn bzimage_payload(image: &[u8]) -> Result<&[u8]> {
    let field = |at: usize| -> Result<usize> {
        let bytes = image.get(at..at + 4).context("bzImage is too short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "not a bzImage");
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + field(0x248)?;
    let length = field(0x24c)?;
    image.get(start..start + length).context("the payload lies outside of the bzImage")
}
