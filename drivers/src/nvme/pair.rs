//! A submission queue and the completion queue that belongs to it.
//!
//! Both are rings in memory. The driver writes commands and rings a doorbell once for all of them; the device writes completions, each with
//! a *phase* bit that changes with every round, so that a new one is told from an old one without a register being read.
//!
//! Who calls [`Pair::submit`] never has more commands under way than the ring holds, so that its tail does not pass the device.
//!
//! Locks: `submit` (in threads), `complete` (irq-safe); both leaves.

use alloc::sync::Arc;

use abi::Result;
use arch::sync::{SpinLock, SpinLockIrq};
use mm::dma::{self, Coherent, Reach};

use super::regs::{Bells, COMPLETION_DWORDS, Command, Status};

/// Completions that are taken from the ring at a time.
const AT_ONCE: usize = 16;

struct Submit {
    tail: u16,
    /// Whether the device takes commands.
    live: bool,
}

struct Complete {
    head: u16,
    phase: u32,
}

impl Complete {
    const FIRST: Self = Self { head: 0, phase: 1 };
}

/// What the device says of a command that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The command's.
    pub id: u16,
    /// How it ended.
    pub status: Status,
    /// Dword 0.
    pub result: u32,
}

/// See the module text.
pub struct Pair {
    id: u16,
    entries: u16,
    bells: Arc<dyn Bells>,
    commands: Coherent<Command>,
    completions: Coherent<u32>,
    submit: SpinLock<Submit>,
    complete: SpinLockIrq<Complete>,
}

impl Pair {
    /// The pair `id` with `entries` entries each, of which all but one can be used.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(id: u16, entries: u16, bells: Arc<dyn Bells>) -> Result<Self> {
        Ok(Self {
            id,
            entries,
            bells,
            commands: Coherent::new(entries.into(), Reach::Full)?,
            completions: Coherent::new(usize::from(entries) * COMPLETION_DWORDS, Reach::Full)?,
            submit: SpinLock::new(Submit { tail: 0, live: false }),
            complete: SpinLockIrq::new(Complete::FIRST),
        })
    }

    /// Its number.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Entries of each ring.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Where the device finds the commands.
    pub fn commands_at(&self) -> u64 {
        self.commands.device_addr().0
    }

    /// Where it writes completions.
    pub fn completions_at(&self) -> u64 {
        self.completions.device_addr().0
    }

    #[cfg(test)]
    pub fn rings(&self) -> (&Coherent<Command>, &Coherent<u32>) {
        (&self.commands, &self.completions)
    }

    /// Begins again, for a device that knows nothing of this pair yet (any more). It takes nothing before [`open`](Self::open).
    pub fn rewind(&self) {
        let mut submit = self.submit.lock();
        let mut complete = self.complete.lock();
        (submit.tail, submit.live) = (0, false);
        *complete = Complete::FIRST;
        for dword in 0..self.completions.len() {
            self.completions.write(dword, 0);
        }
    }

    /// The device takes commands, or not any more.
    pub fn open(&self, live: bool) {
        self.submit.lock().live = live;
    }

    /// To write commands; `None` while the device takes none.
    pub fn submit(&self) -> Option<Submission<'_>> {
        let state = self.submit.lock();
        state.live.then(|| Submission { pair: self, state, any: false })
    }

    /// Takes what is complete from the ring, and gives it to `each` without a lock. Any context.
    pub fn reap(&self, mut each: impl FnMut(Completion)) {
        loop {
            let mut found = [const { None }; AT_ONCE];
            let mut count = 0;
            {
                let mut at = self.complete.lock();
                for slot in &mut found {
                    let first = usize::from(at.head) * COMPLETION_DWORDS;
                    let Some(word) = self.completions.read(first + 3) else { break };
                    if word >> 16 & 1 != at.phase {
                        break;
                    }
                    // The phase came last: the rest is there.
                    dma::read_barrier();
                    let result = self.completions.read(first).unwrap_or_default();
                    *slot = Some(Completion {
                        id: word as u16,
                        status: Status::new((word >> 16) as u16),
                        result,
                    });
                    count += 1;
                    at.head += 1;
                    if at.head == self.entries {
                        *at = Complete { head: 0, phase: at.phase ^ 1 };
                    }
                }
                if count > 0 {
                    self.bells.completed(self.id, at.head);
                }
            }
            found.iter().flatten().for_each(|completion| each(*completion));
            if count < AT_ONCE {
                return;
            }
        }
    }
}

/// Commands on their way into the ring: the device is told when this is dropped.
pub struct Submission<'a> {
    pair: &'a Pair,
    state: sync::SpinLockGuard<'a, Submit, arch::sync::Preempt>,
    any: bool,
}

impl Submission<'_> {
    /// Adds a command.
    pub fn push(&mut self, command: &Command) {
        self.pair.commands.write(self.state.tail.into(), *command);
        self.state.tail += 1;
        if self.state.tail == self.pair.entries {
            self.state.tail = 0;
        }
        self.any = true;
    }
}

impl Drop for Submission<'_> {
    fn drop(&mut self) {
        if self.any {
            dma::write_barrier();
            self.pair.bells.submitted(self.pair.id, self.state.tail);
        }
    }
}
