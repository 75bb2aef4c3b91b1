//! Signals: `signal(7)`, `sigaction(2)`, `siginfo` of `sigaction(2)`, `signalfd(2)`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kernel's `struct sigaction` (`rt_sigaction(2)`; both architectures have `sa_restorer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sigaction {
    /// `SIG_DFL` (0), `SIG_IGN` (1) or the handler's user address.
    pub handler: usize,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to when `SA_RESTORER` is set.
    pub restorer: usize,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

/// `stack_t` of `sigaltstack(2)`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackT {
    /// Lowest address of the stack.
    pub sp: usize,
    /// `SS_*`.
    pub flags: i32,
    /// Padding, zero.
    pub pad: u32,
    /// Length in bytes.
    pub size: usize,
}

/// `siginfo_t`: 128 bytes whose tail depends on the signal's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Siginfo {
    /// Signal number.
    pub signo: i32,
    /// An error number, or 0.
    pub errno: i32,
    /// `SI_*` or a code of the signal's own.
    pub code: i32,
    /// Padding, zero.
    pub pad: i32,
    /// The union; see the constructors for its layouts.
    pub fields: [u8; 112],
}

impl Default for Siginfo {
    fn default() -> Self {
        Self { signo: 0, errno: 0, code: 0, pad: 0, fields: [0; 112] }
    }
}

impl Siginfo {
    /// A signal with nothing but its number and code.
    pub const fn new(signo: i32, code: i32) -> Self {
        Self { signo, errno: 0, code, pad: 0, fields: [0; 112] }
    }

    /// Sent by `kill(2)` and relatives: sender's pid and uid.
    pub fn from_kill(signo: i32, code: i32, pid: i32, uid: u32) -> Self {
        let mut info = Self::new(signo, code);
        info.put(0, &pid.to_ne_bytes());
        info.put(4, &uid.to_ne_bytes());
        info
    }

    /// Sent by `sigqueue(3)`: sender and the value it passed.
    pub fn from_queue(signo: i32, code: i32, pid: i32, uid: u32, value: u64) -> Self {
        let mut info = Self::from_kill(signo, code, pid, uid);
        info.put(8, &value.to_ne_bytes());
        info
    }

    /// A POSIX timer expired: its id, the overrun count and its value.
    pub fn from_timer(signo: i32, timer_id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::new(signo, SI_TIMER);
        info.put(0, &timer_id.to_ne_bytes());
        info.put(4, &overrun.to_ne_bytes());
        info.put(8, &value.to_ne_bytes());
        info
    }

    /// A child changed state; times are in units of `USER_HZ`.
    pub fn from_child(code: i32, pid: i32, uid: u32, status: i32, utime: i64, stime: i64) -> Self {
        let mut info = Self::from_kill(17, code, pid, uid);
        info.put(8, &status.to_ne_bytes());
        info.put(16, &utime.to_ne_bytes());
        info.put(24, &stime.to_ne_bytes());
        info
    }

    /// A fault at user address `addr`.
    pub fn from_fault(signo: i32, code: i32, addr: usize) -> Self {
        let mut info = Self::new(signo, code);
        info.put(0, &addr.to_ne_bytes());
        info
    }

    /// `SIGBUS` with `BUS_MCEERR_AR`: the running thread needs memory whose contents are lost, `1 << lsb` bytes around `addr`.
    pub fn from_lost_memory(addr: usize, lsb: u16) -> Self {
        let mut info = Self::from_fault(7, 4, addr);
        info.put(8, &lsb.to_ne_bytes());
        info
    }

    /// `SIGSEGV` with `SEGV_PKUERR`: the page at `addr` has protection key `key`, which the running thread has closed.
    pub fn from_key(addr: usize, key: u32) -> Self {
        let mut info = Self::from_fault(11, 4, addr);
        info.put(16, &key.to_ne_bytes());
        info
    }

    /// Input or output became possible on `fd` (`F_SETSIG`).
    pub fn from_poll(signo: i32, code: i32, band: i64, fd: i32) -> Self {
        let mut info = Self::new(signo, code);
        info.put(0, &band.to_ne_bytes());
        info.put(8, &fd.to_ne_bytes());
        info
    }

    /// A system call was stopped by a seccomp filter or is not there.
    pub fn from_syscall(code: i32, call_addr: usize, nr: i32, audit_arch: u32) -> Self {
        let mut info = Self::new(31, code);
        info.put(0, &call_addr.to_ne_bytes());
        info.put(8, &nr.to_ne_bytes());
        info.put(12, &audit_arch.to_ne_bytes());
        info
    }

    /// The sender's pid, in the layouts that have one.
    pub fn pid(&self) -> i32 {
        i32::from_ne_bytes(self.get(0))
    }

    /// The sender's uid, in the layouts that have one.
    pub fn uid(&self) -> u32 {
        u32::from_ne_bytes(self.get(4))
    }

    /// The fault's address, in the layouts that have one.
    pub fn addr(&self) -> usize {
        usize::from_ne_bytes(self.get(0))
    }

    /// The value passed with the signal, in the layouts that have one.
    pub fn value(&self) -> u64 {
        u64::from_ne_bytes(self.get(8))
    }

    /// The child's status, in the `SIGCHLD` layout.
    pub fn status(&self) -> i32 {
        i32::from_ne_bytes(self.get(8))
    }

    /// Overwrites union bytes from `offset` on; offsets are this module's own constants.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(to) = self.fields.get_mut(offset..offset + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    /// Reads union bytes at `offset`; zero beyond the union.
    pub fn get<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut out = [0; N];
        if let Some(from) = self.fields.get(offset..offset + N) {
            out.copy_from_slice(from);
        }
        out
    }
}

/// `si_code`: sent by `kill(2)`.
pub const SI_USER: i32 = 0;
/// `si_code`: sent by the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// `si_code`: sent by `sigqueue(3)`.
pub const SI_QUEUE: i32 = -1;
/// `si_code`: a POSIX timer expired.
pub const SI_TIMER: i32 = -2;
/// `si_code`: a message queue changed state.
pub const SI_MESGQ: i32 = -3;
/// `si_code`: asynchronous I/O completed.
pub const SI_ASYNCIO: i32 = -4;
/// `si_code`: queued `SIGIO`.
pub const SI_SIGIO: i32 = -5;
/// `si_code`: sent by `tkill(2)` or `tgkill(2)`.
pub const SI_TKILL: i32 = -6;

/// `struct signalfd_siginfo`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SignalfdSiginfo {
    pub signo: u32,
    pub errno: i32,
    pub code: i32,
    pub pid: u32,
    pub uid: u32,
    pub fd: i32,
    pub tid: u32,
    pub band: u32,
    pub overrun: u32,
    pub trapno: u32,
    pub status: i32,
    pub int: i32,
    pub ptr: u64,
    pub utime: u64,
    pub stime: u64,
    pub addr: u64,
    pub addr_lsb: u16,
    pub pad2: u16,
    pub syscall: i32,
    pub call_addr: u64,
    pub arch: u32,
    pub pad: [u8; 28],
}

/// `struct sigevent` of `timer_create(2)`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Sigevent {
    pub value: u64,
    pub signo: i32,
    pub notify: i32,
    pub tid: i32,
    pub pad: [u32; 11],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_headers() {
        assert_eq!(size_of::<Siginfo>(), 128);
        assert_eq!(size_of::<SignalfdSiginfo>(), 128);
        assert_eq!(size_of::<Sigevent>(), 64);
        assert_eq!(size_of::<Sigaction>(), 32);
        assert_eq!(size_of::<StackT>(), 24);
    }

    #[test]
    fn child_layout_round_trips() {
        let info = Siginfo::from_child(1, 42, 1000, 7, 3, 4);
        assert_eq!((info.pid(), info.uid(), info.status()), (42, 1000, 7));
    }
}
