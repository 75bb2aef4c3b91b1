//! Compressed archives: gzip, zstd, xz and legacy lz4, told apart by their first bytes.
//!
//! A [`Decoder`] is a [`cpio::Read`]er over compressed bytes in memory. It stops at the end of its
//! stream and then knows what follows it. Formats: RFC 1952 (gzip), RFC 8878 (zstd), the xz and lz4
//! format descriptions; lz4 is the "legacy" frame that `lz4 -l` writes, the one Linux takes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::io::Read as _;
use xz4rust::XzDecoder;

/// The compressed data is damaged, or too large for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    Gzip,
    Zstd,
    Xz,
    Lz4,
    /// Known to Linux's boot loaders, not supported here.
    Bzip2,
    Lzma,
    Lzo,
}

impl Format {
    /// The format that data beginning like this has.
    pub fn detect(data: &[u8]) -> Option<Self> {
        Some(match data {
            [0x1f, 0x8b | 0x9e, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x02, 0x21, 0x4c, 0x18, ..] => Self::Lz4,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0x5d, 0x00, 0x00, ..] => Self::Lzma,
            [0x89, b'L', b'Z', b'O', ..] => Self::Lzo,
            _ => return None,
        })
    }

    /// The name, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
        }
    }
}

/// A stream being decompressed.
pub enum Decoder<'a> {
    /// Deflate in a gzip member.
    Gzip(Gzip<'a>),
    /// A zstd frame.
    Zstd(Box<StreamingDecoder<&'a [u8], ruzstd::decoding::FrameDecoder>>),
    /// An xz stream.
    Xz(Xz<'a>),
    /// Legacy lz4 blocks.
    Lz4(Lz4<'a>),
}

impl<'a> Decoder<'a> {
    /// A decoder for `data`, which begins with a stream of `format`.
    ///
    /// # Errors
    /// [`Corrupt`] for a damaged header or a format that is not supported.
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    pub fn new(format: Format, data: &'a [u8]) -> Result<Self, Corrupt> {
        Ok(match format {
            Format::Gzip => Self::Gzip(Gzip::new(data)?),
            Format::Zstd => Self::Zstd(Box::new(StreamingDecoder::new(data).map_err(|_| Corrupt)?)),
            Format::Xz => Self::Xz(Xz::new(data)),
            Format::Lz4 => Self::Lz4(Lz4::new(data)),
            Format::Bzip2 | Format::Lzma | Format::Lzo => return Err(Corrupt),
        })
    }

    /// What follows the stream, once it has been read to its end.
    pub fn rest(&self) -> &'a [u8] {
        match self {
            Self::Gzip(gzip) => gzip.data,
            Self::Zstd(zstd) => zstd.get_ref(),
            Self::Xz(xz) => xz.data,
            Self::Lz4(lz4) => lz4.data,
        }
    }
}

impl cpio::Read for &mut Decoder<'_> {
    type Error = Corrupt;

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        if into.is_empty() {
            return Ok(0);
        }
        match self {
            Decoder::Gzip(gzip) => gzip.read(into),
            Decoder::Zstd(zstd) => zstd.read(into).map_err(|_| Corrupt),
            Decoder::Xz(xz) => xz.read(into),
            Decoder::Lz4(lz4) => lz4.read(into),
        }
    }
}

/// A gzip member.
pub struct Gzip<'a> {
    data: &'a [u8],
    state: Box<InflateState>,
    ended: bool,
}

impl<'a> Gzip<'a> {
    fn new(data: &'a [u8]) -> Result<Self, Corrupt> {
        let data = skip_gzip_header(data).ok_or(Corrupt)?;
        Ok(Self { data, state: InflateState::new_boxed(DataFormat::Raw), ended: false })
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        while !self.ended {
            let step = inflate(&mut self.state, self.data, into, MZFlush::None);
            self.data = self.data.get(step.bytes_consumed..).ok_or(Corrupt)?;
            match step.status {
                Ok(MZStatus::StreamEnd) => {
                    self.ended = true;
                    // CRC and length.
                    self.data = self.data.get(8..).ok_or(Corrupt)?;
                }
                Ok(_) if step.bytes_written > 0 || step.bytes_consumed > 0 => {}
                _ => return Err(Corrupt),
            }
            if step.bytes_written > 0 {
                return Ok(step.bytes_written);
            }
        }
        Ok(0)
    }
}

/// Skips a gzip header with its optional fields.
fn skip_gzip_header(data: &[u8]) -> Option<&[u8]> {
    const HCRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let flags = *data.get(3)?;
    let mut data = data.get(10..)?;
    if flags & EXTRA != 0 {
        let length = u16::from_le_bytes(*data.first_chunk()?);
        data = data.get(2 + usize::from(length)..)?;
    }
    for field in [NAME, COMMENT] {
        if flags & field != 0 {
            let end = data.iter().position(|&byte| byte == 0)?;
            data = data.get(end + 1..)?;
        }
    }
    if flags & HCRC != 0 {
        data = data.get(2..)?;
    }
    Some(data)
}

/// An xz stream.
pub struct Xz<'a> {
    data: &'a [u8],
    decoder: Box<XzDecoder<'static>>,
    ended: bool,
}

/// The largest dictionary: what `xz -9` uses.
const XZ_DICTIONARY_MAX: usize = 64 << 20;
/// What most archives use.
const XZ_DICTIONARY: usize = 1 << 20;

impl<'a> Xz<'a> {
    fn new(data: &'a [u8]) -> Self {
        let decoder = XzDecoder::in_heap_with_alloc_dict_size(XZ_DICTIONARY, XZ_DICTIONARY_MAX);
        Self { data, decoder, ended: false }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        while !self.ended {
            let step = self.decoder.decode(self.data, into).map_err(|_| Corrupt)?;
            self.data = self.data.get(step.input_consumed()..).ok_or(Corrupt)?;
            self.ended = step.is_end_of_stream();
            if step.output_produced() > 0 {
                return Ok(step.output_produced());
            }
            if !step.made_progress() && !self.ended {
                return Err(Corrupt);
            }
        }
        Ok(0)
    }
}

/// Legacy lz4: a magic number, then blocks with their compressed size in front.
pub struct Lz4<'a> {
    data: &'a [u8],
    block: Vec<u8>,
    read: usize,
}

/// Bytes that a block decompresses to at most.
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_MAGIC: u32 = 0x184c_2102;

impl<'a> Lz4<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data: data.get(4..).unwrap_or_default(), block: Vec::new(), read: 0 }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        if self.read == self.block.len() && !self.next_block()? {
            return Ok(0);
        }
        let ready = self.block.get(self.read..).unwrap_or_default();
        let count = ready.len().min(into.len());
        into[..count].copy_from_slice(&ready[..count]);
        self.read += count;
        Ok(count)
    }

    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    fn next_block(&mut self) -> Result<bool, Corrupt> {
        loop {
            let Some(size) = self.data.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) else {
                return Ok(false);
            };
            if size == LZ4_MAGIC {
                self.data = &self.data[4..];
                continue;
            }
            // Zeroes, or another archive: the end of this one.
            let Some(compressed) = self.data.get(4..4 + size as usize).filter(|block| !block.is_empty())
            else {
                return if size == 0 || Format::detect(self.data).is_some() || self.data.starts_with(b"0707") {
                    Ok(false)
                } else {
                    Err(Corrupt)
                };
            };
            if self.block.capacity() < LZ4_BLOCK {
                self.block.try_reserve_exact(LZ4_BLOCK).map_err(|_| Corrupt)?;
            }
            self.block.resize(LZ4_BLOCK, 0);
            let length =
                lz4_flex::block::decompress_into(compressed, &mut self.block).map_err(|_| Corrupt)?;
            self.block.truncate(length);
            self.read = 0;
            self.data = &self.data[4 + size as usize..];
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::Read;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::vec::Vec;

    fn text() -> Vec<u8> {
        (0..200_000u32).flat_map(|n| (n / 7).to_string().into_bytes()).collect()
    }

    fn compress(tool: &[&str], data: &[u8]) -> Option<Vec<u8>> {
        let mut child = Command::new(tool[0])
            .args(&tool[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut input = child.stdin.take()?;
        let data = data.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&data));
        let output = child.wait_with_output().ok()?;
        writer.join().ok()?.ok()?;
        Some(output.stdout)
    }

    fn decode(data: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Corrupt> {
        let mut decoder = Decoder::new(Format::detect(data).ok_or(Corrupt)?, data)?;
        let mut out = Vec::new();
        let mut chunk = [0; 1000];
        loop {
            match (&mut decoder).read(&mut chunk)? {
                0 => return Ok((out, decoder.rest().to_vec())),
                count => out.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn check(tool: &[&str]) {
        // A build machine may lack the compressor; the guest tests boot every format anyway.
        let Some(mut data) = compress(tool, &text()) else { return };
        assert!(decode(&data).unwrap() == (text(), Vec::new()));
        let whole = data.len();
        data.extend_from_slice(b"\x00\x00\x00\x00070701");
        assert_eq!(decode(&data).unwrap().1, b"\x00\x00\x00\x00070701");
        for cut in [whole / 2, 20, 12] {
            assert_eq!(decode(&data[..cut]), Err(Corrupt), "{tool:?} cut to {cut}");
        }
        for at in (0..whole).step_by(whole / 50) {
            let mut broken = data.clone();
            broken[at] ^= 0x55;
            let _ = decode(&broken);
        }
    }

    #[test]
    fn gzip() {
        check(&["gzip", "-9"]);
    }

    #[test]
    fn zstd() {
        check(&["zstd", "-19", "-c"]);
    }

    #[test]
    fn xz() {
        check(&["xz", "--check=crc32", "-c"]);
        check(&["xz", "-9", "-c"]);
    }

    #[test]
    fn lz4() {
        check(&["lz4", "-l", "-9", "-c"]);
    }
}
