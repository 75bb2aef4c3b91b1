//! Pseudo terminals: a terminal whose device is a program.
//!
//! What the slave's programs write goes through the slave's output processing into a ring that the
//! master reads; what the master writes is the slave's typed input. The slave is an ordinary
//! [`Tty`] with a [`Pty`] as its device; the master has no line discipline.
//!
//! Source: `pty(7)`, `ioctl_tty(2)` (packet mode).

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use abi::fs::DevId;
use abi::poll::PollEvents;
use abi::tty::Termios;
use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::IovIter;
use mm::fallible::try_arc;
use sched::wait::WaitQueue;
use sync::Once;

use super::core::{HangUp, Tty, TtyDriver};
use super::termios::{PTY, Settings, cc, iflag};

/// Bytes that may wait for the master.
const RING: usize = 8192;

/// What a master in packet mode learns besides data.
#[allow(missing_docs)]
pub mod packet {
    pub const FLUSHREAD: u8 = 1;
    pub const FLUSHWRITE: u8 = 2;
    pub const STOP: u8 = 4;
    pub const START: u8 = 8;
    pub const NOSTOP: u8 = 16;
    pub const DOSTOP: u8 = 32;
}

/// The pair's shared state, and the slave's device.
pub struct Pty {
    slave: Once<Weak<Tty>>,
    ring: SpinLock<VecDeque<u8>>,
    readers: WaitQueue,
    writers: WaitQueue,
    locked: AtomicBool,
    master_gone: AtomicBool,
    /// The slave was open and is not any more.
    slave_gone: AtomicBool,
    packet_mode: AtomicBool,
    packet_bits: AtomicU8,
    flow_control: AtomicBool,
}

impl Pty {
    /// A new pair: the master's side, and the slave with number `index`. The slave is locked until
    /// the master unlocks it (`unlockpt(3)`).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn pair(index: u32, dev: DevId) -> Result<(Arc<Self>, Arc<Tty>)> {
        let mut ring = VecDeque::new();
        ring.try_reserve_exact(RING).map_err(|_| Errno::ENOMEM)?;
        let pty = try_arc(Self {
            slave: Once::new(),
            ring: SpinLock::new(ring),
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            locked: AtomicBool::new(true),
            master_gone: AtomicBool::new(false),
            slave_gone: AtomicBool::new(false),
            packet_mode: AtomicBool::new(false),
            packet_bits: AtomicU8::new(0),
            flow_control: AtomicBool::new(true),
        })?;
        let slave = Tty::new("pts/", index, dev, PTY, pty.clone())?;
        pty.slave.call_once(|| Arc::downgrade(&slave));
        Ok((pty, slave))
    }

    /// The slave, while it exists.
    ///
    /// # Errors
    /// `EIO` when it is gone.
    pub fn slave(&self) -> Result<Arc<Tty>> {
        self.slave.get().and_then(Weak::upgrade).ok_or(Errno::EIO)
    }

    /// Checks that the slave may be opened now, and notes that it is.
    ///
    /// # Errors
    /// `EIO` while it is locked, and after the master is gone.
    pub fn slave_opened(&self) -> Result<()> {
        if self.locked.load(Ordering::Relaxed) || self.master_gone.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        self.slave_gone.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether the slave is locked (`TIOCGPTLCK`).
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    /// Locks or unlocks the slave (`TIOCSPTLCK`).
    pub fn set_locked(&self, locked: bool) {
        self.locked.store(locked, Ordering::Relaxed);
    }

    /// Whether packet mode is on (`TIOCGPKT`).
    pub fn is_packet_mode(&self) -> bool {
        self.packet_mode.load(Ordering::Relaxed)
    }

    /// Switches packet mode (`TIOCPKT`).
    pub fn set_packet_mode(&self, on: bool) {
        self.packet_bits.store(0, Ordering::Relaxed);
        self.packet_mode.store(on, Ordering::Relaxed);
    }

    /// Where the master's readers wait.
    pub fn readers(&self) -> &WaitQueue {
        &self.readers
    }

    /// Where the master's writers wait.
    pub fn writers(&self) -> &WaitQueue {
        &self.writers
    }

    /// Bytes the master could read now (`FIONREAD`).
    pub fn readable_bytes(&self) -> usize {
        self.ring.lock().len()
    }

    /// Reads as the master.
    pub fn read(&self, to: &mut IovIter<'_>, nonblock: bool) -> Result<usize> {
        let mut chunk = [0; 512];
        loop {
            if self.is_packet_mode() {
                let bits = self.packet_bits.swap(0, Ordering::AcqRel);
                if bits != 0 {
                    return if to.copy_to_iter(&[bits]) == 1 { Ok(1) } else { Err(Errno::EFAULT) };
                }
            }
            if self.readable_bytes() > 0 {
                return self.read_data(to, &mut chunk);
            }
            if self.slave_gone.load(Ordering::Acquire) {
                return Err(Errno::EIO);
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            let ready = || {
                self.readable_bytes() > 0
                    || self.packet_bits.load(Ordering::Acquire) != 0
                    || self.slave_gone.load(Ordering::Acquire)
            };
            if self.readers.wait_event_interruptible(ready).is_err() {
                return Err(Errno::ERESTARTSYS);
            }
        }
    }

    fn read_data(&self, to: &mut IovIter<'_>, chunk: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        if self.is_packet_mode() {
            if to.copy_to_iter(&[0]) == 0 {
                return Err(Errno::EFAULT);
            }
            done = 1;
        }
        while !to.is_empty() {
            let mut ring = self.ring.lock();
            let count = ring.len().min(chunk.len()).min(to.count());
            for (slot, byte) in chunk.iter_mut().zip(ring.drain(..count)) {
                *slot = byte;
            }
            drop(ring);
            if count == 0 {
                break;
            }
            let copied = to.copy_to_iter(&chunk[..count]);
            done += copied;
            if copied < count {
                return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
            }
        }
        if let Ok(slave) = self.slave() {
            slave.wake_writers();
        }
        Ok(done)
    }

    /// Writes as the master: what arrives is typed at the slave.
    pub fn write(&self, from: &mut IovIter<'_>, nonblock: bool) -> Result<usize> {
        let slave = self.slave()?;
        let mut chunk = [0; 512];
        let mut done = 0;
        while !from.is_empty() {
            let size = from.count().min(chunk.len());
            let count = from.copy_from_iter(&mut chunk[..size]);
            if count == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            let mut typed = 0;
            while typed < count {
                let taken = slave.receive(&chunk[typed..count]);
                typed += taken;
                if taken > 0 {
                    continue;
                }
                let total = done + typed;
                if nonblock || self.slave_gone.load(Ordering::Acquire) {
                    return if total > 0 { Ok(total) } else { Err(Errno::EAGAIN) };
                }
                let ready = || slave.has_input_room() || self.slave_gone.load(Ordering::Acquire);
                if self.writers.wait_event_interruptible(ready).is_err() {
                    return if total > 0 { Ok(total) } else { Err(Errno::ERESTARTSYS) };
                }
            }
            done += typed;
        }
        Ok(done)
    }

    /// What the master is ready for.
    pub fn poll(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        if self.readable_bytes() > 0 {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if self.packet_bits.load(Ordering::Acquire) != 0 {
            events |= PollEvents::PRI | PollEvents::IN | PollEvents::RDNORM;
        }
        if self.slave_gone.load(Ordering::Acquire) {
            events |= PollEvents::HUP;
        }
        if self.slave().is_ok_and(|slave| slave.has_input_room()) {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }

    /// The master was closed: the slave hangs up.
    pub fn master_closed(&self) {
        self.master_gone.store(true, Ordering::Release);
        if let Ok(slave) = self.slave() {
            slave.hang_up(HangUp::Carrier);
        }
    }

    fn packet_event(&self, bits: u8) {
        if self.is_packet_mode() {
            self.packet_bits.fetch_or(bits, Ordering::AcqRel);
        }
    }
}

impl TtyDriver for Pty {
    fn room(&self) -> usize {
        RING - self.ring.lock().len()
    }

    fn write(&self, bytes: &[u8]) -> usize {
        let mut ring = self.ring.lock();
        let room = RING - ring.len();
        let bytes = bytes.get(..room).unwrap_or(bytes);
        ring.extend(bytes);
        bytes.len()
    }

    fn unsent(&self) -> usize {
        0
    }

    fn flush(&self) {
        self.ring.lock().clear();
        self.packet_event(packet::FLUSHWRITE);
    }

    fn hold(&self, hold: bool) {
        self.packet_event(if hold { packet::STOP } else { packet::START });
    }

    fn settings_changed(&self, settings: &Termios) {
        let flow =
            settings.input(iflag::IXON) && settings.cc[cc::VSTOP] == 0o23 && settings.cc[cc::VSTART] == 0o21;
        if self.flow_control.swap(flow, Ordering::Relaxed) != flow {
            self.packet_event(if flow { packet::DOSTOP } else { packet::NOSTOP });
        }
    }

    fn is_disconnected(&self) -> bool {
        self.master_gone.load(Ordering::Acquire)
    }

    fn hangs_up_with_session(&self) -> bool {
        false
    }

    fn kick(&self) {
        if self.readable_bytes() > 0 || self.packet_bits.load(Ordering::Acquire) != 0 {
            self.readers.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
        }
        self.writers.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM);
    }

    fn input_flushed(&self) {
        self.packet_event(packet::FLUSHREAD);
    }

    fn closed(&self) {
        self.slave_gone.store(true, Ordering::Release);
        self.readers.wake_up_poll(PollEvents::IN | PollEvents::HUP);
        self.writers.wake_up_poll(PollEvents::OUT | PollEvents::HUP);
    }
}
