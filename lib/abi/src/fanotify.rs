//! `fanotify(7)`: constants and structures of `linux/fanotify.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[allow(missing_docs)]
pub mod init {
    //! Flags of `fanotify_init(2)`.
    pub const CLOEXEC: u32 = 0x1;
    pub const NONBLOCK: u32 = 0x2;
    pub const CLASS_CONTENT: u32 = 0x4;
    pub const CLASS_PRE_CONTENT: u32 = 0x8;
    pub const UNLIMITED_QUEUE: u32 = 0x10;
    pub const UNLIMITED_MARKS: u32 = 0x20;
    pub const REPORT_PIDFD: u32 = 0x80;
    pub const REPORT_TID: u32 = 0x100;
    pub const REPORT_FID: u32 = 0x200;
    pub const REPORT_DIR_FID: u32 = 0x400;
    pub const REPORT_NAME: u32 = 0x800;
    pub const REPORT_TARGET_FID: u32 = 0x1000;
    /// All that report file handles.
    pub const FID_BITS: u32 = REPORT_FID | REPORT_DIR_FID | REPORT_NAME | REPORT_TARGET_FID;
    /// What takes `CAP_SYS_ADMIN`.
    pub const ADMIN: u32 =
        CLASS_CONTENT | CLASS_PRE_CONTENT | REPORT_TID | REPORT_PIDFD | UNLIMITED_QUEUE | UNLIMITED_MARKS;
    /// All flags but that of the audit system, which is not here.
    pub const ALL: u32 = ADMIN | FID_BITS | CLOEXEC | NONBLOCK;
}

#[allow(missing_docs)]
pub mod mark {
    //! Flags of `fanotify_mark(2)`.
    pub const ADD: u32 = 0x1;
    pub const REMOVE: u32 = 0x2;
    pub const DONT_FOLLOW: u32 = 0x4;
    pub const ONLYDIR: u32 = 0x8;
    pub const MOUNT: u32 = 0x10;
    pub const IGNORED_MASK: u32 = 0x20;
    pub const IGNORED_SURV_MODIFY: u32 = 0x40;
    pub const FLUSH: u32 = 0x80;
    pub const FILESYSTEM: u32 = 0x100;
    pub const EVICTABLE: u32 = 0x200;
    pub const IGNORE: u32 = 0x400;
    /// What to mark; neither is an inode.
    pub const TYPE_BITS: u32 = MOUNT | FILESYSTEM;
    /// What to do.
    pub const COMMANDS: u32 = ADD | REMOVE | FLUSH;
    /// Both kinds of ignore masks.
    pub const IGNORE_BITS: u32 = IGNORED_MASK | IGNORE;
    /// All flags.
    pub const ALL: u32 =
        COMMANDS | DONT_FOLLOW | ONLYDIR | TYPE_BITS | IGNORE_BITS | IGNORED_SURV_MODIFY | EVICTABLE;
}

#[allow(missing_docs)]
pub mod response {
    //! Answers to permission events.
    pub const ALLOW: u32 = 1;
    pub const DENY: u32 = 2;
    pub const AUDIT: u32 = 0x10;
    pub const INFO: u32 = 0x20;
    /// Type of the one record that can follow an answer.
    pub const INFO_AUDIT_RULE: u8 = 1;
    /// Its size.
    pub const INFO_AUDIT_RULE_LEN: u16 = 16;
}

#[allow(missing_docs)]
pub mod info {
    //! Types of records behind the metadata.
    pub const FID: u8 = 1;
    pub const DFID_NAME: u8 = 2;
    pub const DFID: u8 = 3;
    pub const PIDFD: u8 = 4;
    pub const OLD_DFID_NAME: u8 = 10;
    pub const NEW_DFID_NAME: u8 = 12;
    /// Bytes of a record with a file handle up to `f_handle`: header, `fsid`, `handle_bytes`, `handle_type`.
    pub const FID_HEADER: usize = 20;
    /// Bytes of the record with a pidfd.
    pub const PIDFD_LEN: usize = 8;
    /// Records are padded to multiples of it.
    pub const ALIGN: usize = 4;
}

/// `FAN_NOFD`, `FAN_NOPIDFD`.
pub const NOFD: i32 = -1;
/// `FAN_EPIDFD`: making the pidfd failed.
pub const EPIDFD: i32 = -2;
/// `FANOTIFY_METADATA_VERSION`.
pub const METADATA_VERSION: u8 = 3;

/// `struct fanotify_event_metadata`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Metadata {
    pub event_len: u32,
    pub vers: u8,
    pub reserved: u8,
    pub metadata_len: u16,
    pub mask: u64,
    pub fd: i32,
    pub pid: i32,
}

/// `struct fanotify_response`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Response {
    pub fd: i32,
    pub response: u32,
}
