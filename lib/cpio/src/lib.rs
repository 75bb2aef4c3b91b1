//! The "new ASCII" cpio archive, as `cpio -H newc` writes it and Linux takes it for an initramfs.
//!
//! Reads from any [`Read`]er front to back, in memory bounded by one name; nothing is trusted. Knows
//! neither compression nor file systems. Source: `cpio(5)`, and "initramfs buffer format" of the
//! kernel's user documentation.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Longest name, its NUL included, and longest symbolic link.
pub const PATH_MAX: usize = 4096;
/// The name that ends an archive.
pub const TRAILER: &[u8] = b"TRAILER!!!";

/// Bytes in front of each entry: the magic and thirteen numbers of eight hexadecimal digits.
const HEADER: usize = 110;

/// A source of bytes.
pub trait Read {
    /// Why reading failed.
    type Error;

    /// Reads some bytes; 0 only at the end or for an empty buffer.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error>;
}

impl Read for &[u8] {
    type Error = core::convert::Infallible;

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
        let count = self.len().min(into.len());
        let (now, later) = self.split_at(count);
        into[..count].copy_from_slice(now);
        *self = later;
        Ok(count)
    }
}

/// Why an archive cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The source failed.
    Source(E),
    /// The archive ends in the middle of something.
    Truncated,
    /// Where an entry must begin there is something else.
    NoMagic,
    /// A number has a digit that is none.
    BadNumber,
    /// A name is empty or longer than [`PATH_MAX`].
    BadName,
}

/// What an entry says about its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Entry {
    pub ino: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime: u32,
    pub size: u32,
    pub dev: (u32, u32),
    pub rdev: (u32, u32),
    pub name_size: u32,
    /// Sum of the data's bytes, in archives of the `070702` kind.
    pub checksum: Option<u32>,
}

impl Entry {
    fn parse<E>(header: &[u8; HEADER]) -> Result<Self, Error<E>> {
        let with_sum = match &header[..6] {
            b"070701" => false,
            b"070702" => true,
            _ => return Err(Error::NoMagic),
        };
        let mut fields = [0; 13];
        for (field, digits) in fields.iter_mut().zip(header[6..].chunks_exact(8)) {
            for &digit in digits {
                let value = (digit as char).to_digit(16).ok_or(Error::BadNumber)?;
                *field = *field << 4 | value;
            }
        }
        let [ino, mode, uid, gid, nlink, mtime, size, maj, min, rmaj, rmin, name_size, sum] = fields;
        Ok(Self {
            ino,
            mode,
            uid,
            gid,
            nlink,
            mtime,
            size,
            dev: (maj, min),
            rdev: (rmaj, rmin),
            name_size,
            checksum: with_sum.then_some(sum),
        })
    }
}

/// What [`Archive::next`] answers: an entry and its name, or the end.
pub type NextEntry<'n, E> = Result<Option<(Entry, &'n [u8])>, Error<E>>;

/// An archive, or several one after another with zeroes in between.
pub struct Archive<R> {
    source: R,
    /// Bytes read so far; entries begin at multiples of four.
    at: u64,
    /// Bytes of the current entry's data not read yet.
    left: u32,
    /// The first byte of the next header, if it was read while skipping zeroes.
    ahead: Option<u8>,
}

impl<R: Read> Archive<R> {
    /// An archive that begins where `source` does.
    pub fn new(source: R) -> Self {
        Self { source, at: 0, left: 0, ahead: None }
    }

    /// Moves to the next entry, reads its name into `name` (without the NUL) and returns both.
    /// `None`: the source ended where an archive may end.
    ///
    /// The entry named [`TRAILER`] is returned too: link counts start afresh after it.
    pub fn next<'n>(&mut self, name: &'n mut [u8; PATH_MAX]) -> NextEntry<'n, R::Error> {
        self.skip_data()?;
        if !self.skip_zeroes()? {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        self.fill(&mut header)?;
        let entry = Entry::parse(&header)?;
        let size = entry.name_size as usize;
        if size == 0 || size > PATH_MAX {
            return Err(Error::BadName);
        }
        self.fill(&mut name[..size])?;
        self.align()?;
        self.left = entry.size;
        let text = &name[..size];
        let end = text.iter().position(|&byte| byte == 0).ok_or(Error::BadName)?;
        Ok(Some((entry, &text[..end])))
    }

    /// Reads from the current entry's data; 0 at its end.
    pub fn read_data(&mut self, into: &mut [u8]) -> Result<usize, Error<R::Error>> {
        let wanted = into.len().min(self.left as usize);
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut into[..wanted]).map_err(Error::Source)?;
        if count == 0 {
            return Err(Error::Truncated);
        }
        self.at += count as u64;
        self.left -= count as u32;
        Ok(count)
    }

    /// The source, for what follows the archive.
    pub fn into_source(self) -> R {
        self.source
    }

    fn skip_data(&mut self) -> Result<(), Error<R::Error>> {
        let mut scratch = [0; 512];
        while self.left > 0 {
            self.read_data(&mut scratch)?;
        }
        self.align()
    }

    /// Reads up to the next multiple of four. A missing end is no error: nothing may follow.
    fn align(&mut self) -> Result<(), Error<R::Error>> {
        while !self.at.is_multiple_of(4) {
            if self.read_byte()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Skips padding between archives; whether anything else follows.
    fn skip_zeroes(&mut self) -> Result<bool, Error<R::Error>> {
        loop {
            match self.read_byte()? {
                None => return Ok(false),
                Some(0) => {}
                Some(byte) => {
                    if !(self.at - 1).is_multiple_of(4) {
                        return Err(Error::NoMagic);
                    }
                    self.ahead = Some(byte);
                    return Ok(true);
                }
            }
        }
    }

    fn read_byte(&mut self) -> Result<Option<u8>, Error<R::Error>> {
        let mut byte = [0];
        if self.source.read(&mut byte).map_err(Error::Source)? == 0 {
            return Ok(None);
        }
        self.at += 1;
        Ok(Some(byte[0]))
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), Error<R::Error>> {
        let mut done = 0;
        if let (Some(byte), Some(first)) = (self.ahead.take(), into.first_mut()) {
            *first = byte;
            done = 1;
        }
        while done < into.len() {
            let count = self.source.read(&mut into[done..]).map_err(Error::Source)?;
            if count == 0 {
                return Err(Error::Truncated);
            }
            done += count;
            self.at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
