//! Directories: reading.
//!
//! | file | what |
//! |---|---|
//! | [`block`] | blocks of a directory, checked |
//! | [`tree`] | the way to a leaf of the hash tree, and from one leaf to the next |
//! | [`lookup`] | from name to inode number |
//! | [`readdir`] | listing, in order of blocks or of hashes |

pub mod block;
pub mod lookup;
pub mod readdir;
pub mod tree;

use vfs::FileType;

use crate::disk::dir::file_type;

/// The type of an entry, as `getdents64(2)` shows it; none if it is not known.
pub fn kind_of(file_type: u8) -> Option<FileType> {
    Some(match file_type {
        file_type::REG_FILE => FileType::Regular,
        file_type::DIR => FileType::Directory,
        file_type::CHRDEV => FileType::CharDevice,
        file_type::BLKDEV => FileType::BlockDevice,
        file_type::FIFO => FileType::Fifo,
        file_type::SOCK => FileType::Socket,
        file_type::SYMLINK => FileType::Symlink,
        _ => return None,
    })
}

/// The opposite.
pub fn type_of(kind: FileType) -> u8 {
    match kind {
        FileType::Regular => file_type::REG_FILE,
        FileType::Directory => file_type::DIR,
        FileType::CharDevice => file_type::CHRDEV,
        FileType::BlockDevice => file_type::BLKDEV,
        FileType::Fifo => file_type::FIFO,
        FileType::Socket => file_type::SOCK,
        FileType::Symlink => file_type::SYMLINK,
    }
}
