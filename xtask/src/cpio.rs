//! A writer of the "newc" cpio format, the format of initramfs archives.
//!
//! Archives are byte-stable: the same entries give the same bytes (fixed times, counted inodes).
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux.

const S_IFCHR: u32 = 0o020000;
const S_IFDIR: u32 = 0o040000;
const S_IFREG: u32 = 0o100000;
const S_IFLNK: u32 = 0o120000;

/// The time stamp of every entry: 2024-01-01 00:00:00 UTC.
const MTIME: u32 = 1_704_067_200;

/// An archive being written.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &str, mode: u32) -> &mut Self {
        self.entry(path, S_IFDIR | mode, 2, (0, 0), &[])
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> &mut Self {
        self.entry(path, S_IFREG | mode, 1, (0, 0), data)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(path, S_IFLNK | 0o777, 1, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    pub fn char_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> &mut Self {
        self.entry(path, S_IFCHR | mode, 1, (major, minor), &[])
    }

    /// Ends the archive and returns its bytes, padded to 512.
    pub fn finish(mut self) -> Vec<u8> {
        self.header("TRAILER!!!", 0, 0, 1, (0, 0), 0);
        self.align(512);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, links: u32, rdev: (u32, u32), data: &[u8]) -> &mut Self {
        self.entries += 1;
        self.header(path.trim_start_matches('/'), self.entries, mode, links, rdev, data.len());
        self.bytes.extend_from_slice(data);
        self.align(4);
        self
    }

    fn header(&mut self, name: &str, ino: u32, mode: u32, links: u32, rdev: (u32, u32), size: usize) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let name_size = name.len() as u32 + 1;
        let fields = [ino, mode, 0, 0, links, MTIME, size, 0, 0, rdev.0, rdev.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align(4);
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn layout_is_newc() {
        let mut archive = Archive::new();
        archive.directory("/dev", 0o755).file("/init", 0o755, b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ED");
        assert_eq!(&bytes[110..114], b"dev\0");
        let second = 116;
        assert_eq!(&bytes[second..second + 6], b"070701");
        assert_eq!(&bytes[second + 54..second + 62], b"00000005");
        assert_eq!(&bytes[second + 110..second + 116], b"init\0\0");
        assert_eq!(&bytes[second + 116..second + 121], b"hello");
    }

    #[test]
    fn same_entries_give_same_bytes() {
        let make = || {
            let mut archive = Archive::new();
            archive.symlink("bin/sh", "busybox").char_device("dev/null", 0o666, 1, 3);
            archive.finish()
        };
        assert_eq!(make(), make());
    }
}
