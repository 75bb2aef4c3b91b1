//! What can happen to a file: the bits that inotify and fanotify share (`FS_*`, with the values of `IN_*` and `FAN_*`).

use abi::raw;

/// Read.
pub const ACCESS: u32 = raw::IN_ACCESS;
/// Written or truncated.
pub const MODIFY: u32 = raw::IN_MODIFY;
/// Attributes changed.
pub const ATTRIB: u32 = raw::IN_ATTRIB;
/// Closed after it was open for writing.
pub const CLOSE_WRITE: u32 = raw::IN_CLOSE_WRITE;
/// Closed otherwise.
pub const CLOSE_NOWRITE: u32 = raw::IN_CLOSE_NOWRITE;
/// Opened.
pub const OPEN: u32 = raw::IN_OPEN;
/// An entry of the directory got another name or place.
pub const MOVED_FROM: u32 = raw::IN_MOVED_FROM;
/// An entry came by a rename.
pub const MOVED_TO: u32 = raw::IN_MOVED_TO;
/// An entry was made.
pub const CREATE: u32 = raw::IN_CREATE;
/// An entry was removed.
pub const DELETE: u32 = raw::IN_DELETE;
/// The inode is gone.
pub const DELETE_SELF: u32 = raw::IN_DELETE_SELF;
/// The inode itself was renamed.
pub const MOVE_SELF: u32 = raw::IN_MOVE_SELF;
/// Opened to be executed.
pub const OPEN_EXEC: u32 = 0x1000;
/// The file system was unmounted.
pub const UNMOUNT: u32 = raw::IN_UNMOUNT;
/// Events were lost.
pub const Q_OVERFLOW: u32 = raw::IN_Q_OVERFLOW;
/// inotify: the watch is over.
pub const IGNORED: u32 = raw::IN_IGNORED;
/// fanotify: the file system found itself damaged. (The same bit as [`IGNORED`]; neither group knows both.)
pub const ERROR: u32 = 0x8000;
/// May it be opened?
pub const OPEN_PERM: u32 = 0x1_0000;
/// May it be read?
pub const ACCESS_PERM: u32 = 0x2_0000;
/// May it be opened to be executed?
pub const OPEN_EXEC_PERM: u32 = 0x4_0000;
/// In an event: it happened to an entry of the directory. In a mark: events of entries are wanted.
pub const ON_CHILD: u32 = 0x0800_0000;
/// A rename, with both names.
pub const RENAME: u32 = 0x1000_0000;
/// It happened to a directory.
pub const ISDIR: u32 = raw::IN_ISDIR;

/// Closed.
pub const CLOSE: u32 = CLOSE_WRITE | CLOSE_NOWRITE;
/// The names in a directory changed.
pub const DIRENT: u32 = MOVED_FROM | MOVED_TO | CREATE | DELETE | RENAME;
/// Somebody waits for an answer.
pub const PERM: u32 = OPEN_PERM | ACCESS_PERM | OPEN_EXEC_PERM;
/// What a directory can be shown of its entries.
pub const ON_CHILDREN: u32 = PERM | ACCESS | MODIFY | ATTRIB | CLOSE | OPEN | OPEN_EXEC;
/// What can be told with directory and name.
pub const WITH_PARENT: u32 = ON_CHILDREN;
/// All events.
pub const ALL: u32 = DIRENT | ON_CHILDREN | DELETE_SELF | MOVE_SELF | UNMOUNT | Q_OVERFLOW | ERROR;
