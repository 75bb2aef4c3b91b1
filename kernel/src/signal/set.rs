//! Signal numbers and sets of them: signal(7), sigsetops(3).

use abi::{Errno, Result, raw};

/// How many signals there are (`_NSIG`).
pub const NSIG: u32 = 64;

/// A valid signal number: 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident)*) => {
        /// The standard signals by name.
        #[allow(missing_docs)]
        impl Signal { $(pub const $name: Self = Self(raw::$name as u8);)* }
    };
}

signals! {
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2
    SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG
    SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS
}

impl Signal {
    /// The first real-time signal, as the kernel counts them (the C library keeps two for itself).
    pub const RTMIN: Self = Self(32);

    /// The signal with number `number`, if there is one.
    pub const fn new(number: i32) -> Option<Self> {
        if number >= 1 && number <= NSIG as i32 { Some(Self(number as u8)) } else { None }
    }

    /// The signal a system call names.
    ///
    /// # Errors
    /// `EINVAL` when there is none with that number.
    pub fn from_user(number: i32) -> Result<Self> {
        Self::new(number).ok_or(Errno::EINVAL)
    }

    /// The number, 1 to 64.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Index into a table of 64 entries.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// The set with this signal only.
    pub const fn bit(self) -> SigSet {
        SigSet(1 << (self.0 - 1))
    }

    /// Whether several instances of it may be queued.
    pub const fn is_realtime(self) -> bool {
        self.0 >= Self::RTMIN.0
    }
}

/// A set of signals, bit `n - 1` for signal `n` as user space has it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal.
    pub const FULL: Self = Self(u64::MAX);
    /// What nobody can block, catch or ignore.
    pub const UNBLOCKABLE: Self = Signal::SIGKILL.bit().with(Signal::SIGSTOP);
    /// The signals whose default is to stop.
    pub const STOP: Self =
        Signal::SIGSTOP.bit().with(Signal::SIGTSTP).with(Signal::SIGTTIN).with(Signal::SIGTTOU);
    /// Faults of the running instruction: delivered before anything else.
    pub const SYNCHRONOUS: Self = Signal::SIGSEGV
        .bit()
        .with(Signal::SIGBUS)
        .with(Signal::SIGILL)
        .with(Signal::SIGTRAP)
        .with(Signal::SIGFPE)
        .with(Signal::SIGSYS);
    /// The signals whose default is to be ignored.
    pub const DEFAULT_IGNORED: Self =
        Signal::SIGCONT.bit().with(Signal::SIGCHLD).with(Signal::SIGWINCH).with(Signal::SIGURG);
    /// The signals whose default is to end the process with a core dump.
    pub const CORE: Self = Signal::SIGQUIT
        .bit()
        .with(Signal::SIGILL)
        .with(Signal::SIGTRAP)
        .with(Signal::SIGABRT)
        .with(Signal::SIGFPE)
        .with(Signal::SIGSEGV)
        .with(Signal::SIGBUS)
        .with(Signal::SIGSYS)
        .with(Signal::SIGXCPU)
        .with(Signal::SIGXFSZ);

    /// With `signal` added.
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | signal.bit().0)
    }

    /// Whether `signal` is a member.
    pub const fn has(self, signal: Signal) -> bool {
        self.0 & signal.bit().0 != 0
    }

    /// Adds `signal`.
    pub fn add(&mut self, signal: Signal) {
        self.0 |= signal.bit().0;
    }

    /// Takes `signal` out.
    pub fn remove(&mut self, signal: Signal) {
        self.0 &= !signal.bit().0;
    }

    /// Members of either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Members of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Members that `other` does not have.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is no member.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The member with the lowest number.
    pub const fn lowest(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal(self.0.trailing_zeros() as u8 + 1)) }
    }

    /// What may be blocked of this set.
    pub const fn blockable(self) -> Self {
        self.minus(Self::UNBLOCKABLE)
    }

    /// Which member is delivered first: a fault of the running instruction, then by number.
    pub const fn first(self) -> Option<Signal> {
        let faults = self.and(Self::SYNCHRONOUS);
        if faults.is_empty() { self.lowest() } else { faults.lowest() }
    }
}

/// What the kernel does with a signal whose action is `SIG_DFL`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Default {
    /// Nothing.
    Ignore,
    /// Nothing more: the continuing happened when it was sent.
    Continue,
    /// Stops the process.
    Stop,
    /// Ends the process.
    Terminate,
    /// Ends the process and says that a core was due.
    Core,
}

/// The default action of `signal`.
pub const fn default_action(signal: Signal) -> Default {
    if matches!(signal, Signal::SIGCONT) {
        Default::Continue
    } else if SigSet::DEFAULT_IGNORED.has(signal) {
        Default::Ignore
    } else if SigSet::STOP.has(signal) {
        Default::Stop
    } else if SigSet::CORE.has(signal) {
        Default::Core
    } else {
        Default::Terminate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bits() {
        assert_eq!(Signal::new(0), None);
        assert_eq!(Signal::new(65), None);
        assert_eq!(Signal::new(64).unwrap().bit().0, 1 << 63);
        assert_eq!(SigSet::FULL.blockable().0, !(1 << 8 | 1 << 18));
        assert_eq!(SigSet(0b1000_0000_0010).first(), Some(Signal::SIGINT));
        assert_eq!(Signal::SIGHUP.bit().with(Signal::SIGSEGV).first(), Some(Signal::SIGSEGV));
    }

    #[test]
    fn defaults() {
        assert_eq!(default_action(Signal::SIGTERM), Default::Terminate);
        assert_eq!(default_action(Signal::SIGQUIT), Default::Core);
        assert_eq!(default_action(Signal::SIGTSTP), Default::Stop);
        assert_eq!(default_action(Signal::SIGCHLD), Default::Ignore);
        assert_eq!(default_action(Signal::SIGCONT), Default::Continue);
        assert_eq!(default_action(Signal::RTMIN), Default::Terminate);
    }
}
