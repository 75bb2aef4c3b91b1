//! The terminal: settings, job control, and the meeting point of line discipline and device.
//!
//! # Locks
//!
//! | lock | kind | protects | order |
//! |---|---|---|---|
//! | `writer` | sleeping | one `write(2)` at a time, its staging buffer | 1 |
//! | `line` | spin | settings and line discipline; nobody is woken or signalled under it | 2 |
//! | `job` | spin | session and foreground group | 3 |
//! | `input` | interrupt-safe | bytes the device delivered | leaf |
//!
//! A device delivers input from its interrupt through [`Tty::deliver`]; a work item then runs the
//! line discipline, so that signals are sent and echo is produced in process context. Pseudo
//! terminals deliver from the writer's own context ([`Tty::receive`]).
//!
//! Source: `ioctl_tty(2)`, `termios(3)`, `tty(4)`.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::fs::DevId;
use abi::poll::PollEvents;
use abi::tty::{Termios, Winsize};
use abi::{Errno, Result};
use arch::sync::{SpinLock, SpinLockIrq};
use mm::IovIter;
use mm::fallible::TryVec;
use mm::fallible::{try_arc, try_arc_cyclic, try_with_capacity};
use sched::mutex::Mutex;
use sched::wait::WaitQueue;
use sched::workqueue::{self, Work};
use sched::{Deadline, WaitError};

use super::job::{Group, Session, job_control};
use super::ldisc::{LineDiscipline, Port};
use super::termios::{DISABLED, Settings, cc, lflag};

/// The signals that a terminal sends of its own accord.
mod signal {
    pub const SIGHUP: i32 = 1;
    pub const SIGCONT: i32 = 18;
    pub const SIGTTIN: i32 = 21;
    pub const SIGTTOU: i32 = 22;
    pub const SIGWINCH: i32 = 28;
}

/// Bytes of a `write(2)` that are processed in one go.
const CHUNK: usize = 2048;
/// Bytes of device input that may wait for the line discipline.
const INPUT: usize = 8192;
/// Bytes of echo that may wait for room in the device.
const ECHO: usize = 4096;

/// The device behind a terminal. Methods may be called by several CPUs at once, under the
/// terminal's spin lock: they do not sleep.
pub trait TtyDriver: Send + Sync {
    /// Bytes that [`TtyDriver::write`] would take now.
    fn room(&self) -> usize;
    /// Queues bytes for transmission; returns how many it took.
    fn write(&self, bytes: &[u8]) -> usize;
    /// Bytes queued and not yet sent (`TIOCOUTQ`).
    fn unsent(&self) -> usize;
    /// Discards what is queued.
    fn flush(&self);
    /// Stops or resumes transmission.
    fn hold(&self, hold: bool);
    /// New settings are in force.
    fn settings_changed(&self, _settings: &Termios) {}
    /// Whether the other side is gone for good (the master of a pseudo terminal).
    fn is_disconnected(&self) -> bool {
        false
    }
    /// Whether the end of the session hangs the line up; a pseudo terminal only tells its foreground group.
    fn hangs_up_with_session(&self) -> bool {
        true
    }
    /// The last open file of the terminal was closed.
    fn closed(&self) {}
    /// Bytes were written, or input was taken: called with no lock held, so that a driver may wake others.
    fn kick(&self) {}
    /// Typed input was forgotten (`tcflush(3)`).
    fn input_flushed(&self) {}
}

struct Line {
    settings: Termios,
    /// Bits, and control characters that are not zero, which keep what `settings` has (`TIOCSLCKTRMIOS`).
    locked: Termios,
    ldisc: LineDiscipline,
    /// Echo that the device had no room for.
    echo: Vec<u8>,
}

#[derive(Default)]
struct Job {
    session: Option<Arc<dyn Session>>,
    foreground: Option<Arc<dyn Group>>,
}

struct Input {
    bytes: Vec<u8>,
    breaks: u32,
}

/// Which hang-ups end a file: those after it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening(Option<u32>);

impl Opening {
    /// That of `/dev/console`, which survives all of them.
    pub const CONSOLE: Self = Self(None);
}

/// Why a terminal is hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// The line went dead: the session's leader is told, its foreground group when the leader exits.
    Carrier,
    /// The session's leader exits: the foreground group is told.
    SessionEnd,
}

/// The name of a terminal's node in `/dev`.
#[derive(Clone, Copy)]
pub struct TtyName {
    text: [u8; 32],
    len: usize,
}

impl core::ops::Deref for TtyName {
    type Target = str;

    fn deref(&self) -> &str {
        self.text.get(..self.len).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Write for TtyName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.text.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// A terminal.
pub struct Tty {
    me: Weak<Tty>,
    name: &'static str,
    index: u32,
    dev: DevId,
    driver: Arc<dyn TtyDriver>,
    writer: Mutex<Vec<u8>>,
    line: SpinLock<Line>,
    job: SpinLock<Job>,
    window: SpinLock<Winsize>,
    input: SpinLockIrq<Input>,
    input_work: Work,
    readers: WaitQueue,
    writers: WaitQueue,
    exclusive: AtomicBool,
    /// Counts hang-ups: a file opened before one is dead after it.
    generation: AtomicU32,
    open_count: AtomicU32,
    /// Echo waits for room in the device.
    echo_waiting: AtomicBool,
}

impl Tty {
    /// A terminal named `name` plus `index` over `driver`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(
        name: &'static str,
        index: u32,
        dev: DevId,
        settings: Termios,
        driver: Arc<dyn TtyDriver>,
    ) -> Result<Arc<Self>> {
        let ldisc = LineDiscipline::new()?;
        let bytes = try_with_capacity(INPUT)?;
        let echo = try_with_capacity(ECHO)?;
        // The work needs the terminal, which is not there yet.
        let worker = try_arc(SpinLock::new(Weak::<Self>::new()))?;
        let terminal = worker.clone();
        let input_work = Work::new(move || {
            let tty = terminal.lock().upgrade();
            if let Some(tty) = tty {
                tty.process_input();
            }
        })?;
        let tty = try_arc_cyclic(|me: &Weak<Self>| {
            *worker.lock() = me.clone();
            Self {
                me: me.clone(),
                name,
                index,
                dev,
                driver,
                writer: Mutex::new(Vec::new()),
                line: SpinLock::new(Line { settings, locked: NOTHING_LOCKED, ldisc, echo }),
                job: SpinLock::new(Job::default()),
                window: SpinLock::new(Winsize::default()),
                input: SpinLockIrq::new(Input { bytes, breaks: 0 }),
                input_work,
                readers: WaitQueue::new(),
                writers: WaitQueue::new(),
                exclusive: AtomicBool::new(false),
                generation: AtomicU32::new(0),
                open_count: AtomicU32::new(0),
                echo_waiting: AtomicBool::new(false),
            }
        })?;
        Ok(tty)
    }

    /// The part of the name before the number: `ttyS`, `pts/`.
    pub fn base_name(&self) -> &'static str {
        self.name
    }

    /// The name of its node in `/dev`.
    pub fn name(&self) -> TtyName {
        let mut name = TtyName { text: [0; 32], len: 0 };
        let _ = write!(name, "{}{}", self.name, self.index);
        name
    }

    /// The number in the name.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its device number.
    pub fn dev(&self) -> DevId {
        self.dev
    }

    /// Where readers wait.
    pub fn readers(&self) -> &WaitQueue {
        &self.readers
    }

    /// Where writers wait; the driver wakes them when it has room again.
    pub fn writers(&self) -> &WaitQueue {
        &self.writers
    }

    /// Takes input from an interrupt handler. What does not fit the buffer is lost.
    pub fn deliver(&self, bytes: &[u8], breaks: u32) {
        let mut input = self.input.lock();
        let room = INPUT - input.bytes.len();
        let bytes = bytes.get(..room).unwrap_or(bytes);
        // There is room: the buffer was made as large as it ever is.
        let _ = input.bytes.try_extend_from_slice(bytes);
        input.breaks += breaks;
        drop(input);
        workqueue::system().queue_work(&self.input_work);
    }

    /// Runs the line discipline over what the device delivered, as far as it has room: a reader makes some and starts this
    /// again.
    fn process_input(&self) {
        let mut chunk = [0; 256];
        loop {
            let room = {
                let mut line = self.line.lock();
                self.send_echo(&mut line);
                line.ldisc.room(&line.settings)
            };
            let mut input = self.input.lock();
            let count = input.bytes.len().min(chunk.len()).min(room);
            chunk[..count].copy_from_slice(&input.bytes[..count]);
            input.bytes.drain(..count);
            let breaks = core::mem::take(&mut input.breaks);
            drop(input);
            if count == 0 && breaks == 0 {
                return;
            }
            self.receive_all(&chunk[..count], breaks);
        }
    }

    /// Runs input through the line discipline, as far as it has room; returns how much it took.
    /// May sleep.
    pub fn receive(&self, bytes: &[u8]) -> usize {
        let line = self.line.lock();
        let room = line.ldisc.room(&line.settings);
        drop(line);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.receive_all(taken, 0);
        taken.len()
    }

    fn receive_all(&self, bytes: &[u8], breaks: u32) {
        let mut guard = self.line.lock();
        let line = &mut *guard;
        let mut port = Device { driver: &*self.driver, echo: &mut line.echo, signals: 0, resumed: false };
        for _ in 0..breaks {
            line.ldisc.receive_break(&line.settings, &mut port);
        }
        line.ldisc.receive(bytes, &line.settings, &mut port);
        let (signals, resumed) = (port.signals, port.resumed);
        self.send_echo(line);
        let readable = line.ldisc.readable(&line.settings, 1);
        drop(guard);
        if signals != 0
            && let Some(group) = self.foreground()
        {
            (1..32).filter(|&signo| signals & (1 << signo) != 0).for_each(|signo| group.signal(signo));
        }
        if resumed {
            self.wake_writers();
        }
        self.driver.kick();
        if readable {
            self.readers.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
        }
    }

    /// Whether [`Tty::receive`] would take at least one byte.
    pub fn has_input_room(&self) -> bool {
        let line = self.line.lock();
        line.ldisc.room(&line.settings) > 0
    }

    fn send_echo(&self, line: &mut Line) {
        if line.echo.is_empty() || line.ldisc.held() {
            return;
        }
        let sent = self.driver.write(&line.echo);
        line.echo.drain(..sent.min(line.echo.len()));
        self.echo_waiting.store(!line.echo.is_empty(), Ordering::Release);
    }

    /// The device has room again: has waiting echo sent, wakes writers. Called in process context or
    /// from the driver's interrupt.
    pub fn wake_writers(&self) {
        if self.echo_waiting.load(Ordering::Acquire) {
            workqueue::system().queue_work(&self.input_work);
        }
        self.writers.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM);
    }

    /// Reads as `read(2)` does. `generation` is what [`Tty::open`] returned.
    pub fn read(&self, to: &mut IovIter<'_>, nonblock: bool, generation: Opening) -> Result<usize> {
        let mut done = 0;
        let mut deadline = None;
        let mut chunk = [0; 256];
        loop {
            if self.is_dead(generation) {
                return Ok(done);
            }
            self.check_background_read()?;
            let mut line = self.line.lock();
            let settings = line.settings;
            let canonical = settings.local(lflag::ICANON);
            let size = to.count().min(chunk.len());
            if let Some(count) = line.ldisc.read(&mut chunk[..size], &settings) {
                let ended = canonical
                    && (count < size || chunk[..count].last().is_some_and(|&b| ends_line(b, &settings)));
                drop(line);
                if !self.input.lock().bytes.is_empty() {
                    workqueue::system().queue_work(&self.input_work);
                }
                self.driver.kick();
                let copied = to.copy_to_iter(&chunk[..count]);
                done += copied;
                if copied < count {
                    return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
                }
                if ended || to.is_empty() {
                    return Ok(done);
                }
                deadline = self.byte_deadline(&settings);
                continue;
            }
            drop(line);
            if done > 0 && (canonical || done >= usize::from(minimum(&settings))) {
                return Ok(done);
            }
            if self.driver.is_disconnected() {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            let (min, time) = (settings.cc[cc::VMIN], settings.cc[cc::VTIME]);
            if !canonical && min == 0 && time == 0 {
                return Ok(done);
            }
            if nonblock {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            if !canonical && min == 0 && deadline.is_none() {
                deadline = self.byte_deadline(&settings);
            }
            let ready = || self.is_readable(1) || self.is_dead(generation) || self.driver.is_disconnected();
            match self.readers.wait_event_interruptible_timeout(deadline, ready) {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(done),
                Err(WaitError::Interrupted) if done > 0 => return Ok(done),
                Err(WaitError::Interrupted) => return Err(Errno::ERESTARTSYS),
            }
        }
    }

    /// When the inter-byte timer that starts now runs out.
    fn byte_deadline(&self, settings: &Termios) -> Option<Deadline> {
        let tenths = u64::from(settings.cc[cc::VTIME]);
        (!settings.local(lflag::ICANON) && tenths > 0).then(|| Deadline::after_ns(tenths * 100_000_000))
    }

    fn is_readable(&self, minimum: usize) -> bool {
        let line = self.line.lock();
        line.ldisc.readable(&line.settings, minimum)
    }

    /// Writes as `write(2)` does.
    pub fn write(&self, from: &mut IovIter<'_>, nonblock: bool, generation: Opening) -> Result<usize> {
        self.check_background_write()?;
        let mut staging = self.writer.lock_interruptible().map_err(|_| Errno::ERESTARTSYS)?;
        staging.clear();
        staging.try_reserve(2 * CHUNK).map_err(|_| Errno::ENOMEM)?;
        let mut chunk = [0; CHUNK / 4];
        let mut done = 0;
        while !from.is_empty() {
            let size = from.count().min(chunk.len());
            let count = from.copy_from_iter(&mut chunk[..size]);
            if count == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            let mut sent = 0;
            while sent < count {
                match self.write_some(&chunk[sent..count], &mut staging, nonblock, generation) {
                    Ok(taken) => sent += taken,
                    Err(_) if done + sent > 0 => return Ok(done + sent),
                    Err(error) => return Err(error),
                }
            }
            done += sent;
        }
        Ok(done)
    }

    /// Processes and sends a beginning of `bytes`, waiting for room if there is none.
    fn write_some(
        &self,
        bytes: &[u8],
        staging: &mut Vec<u8>,
        nonblock: bool,
        generation: Opening,
    ) -> Result<usize> {
        loop {
            if self.is_dead(generation) || self.driver.is_disconnected() {
                return Err(Errno::EIO);
            }
            let mut line = self.line.lock();
            self.send_echo(&mut line);
            if !line.ldisc.held() {
                staging.clear();
                let settings = line.settings;
                let room = self.driver.room();
                let taken = line.ldisc.write(bytes, room, &settings, staging);
                if taken > 0 {
                    self.driver.write(staging);
                    drop(line);
                    self.driver.kick();
                    return Ok(taken);
                }
            }
            drop(line);
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            let ready = || self.can_write() || self.is_dead(generation) || self.driver.is_disconnected();
            if self.writers.wait_event_interruptible(ready).is_err() {
                return Err(Errno::ERESTARTSYS);
            }
        }
    }

    fn can_write(&self) -> bool {
        // Eight bytes: the longest form that output processing gives one.
        self.driver.room() > 8 && !self.line.lock().ldisc.held()
    }

    /// What the terminal is ready for.
    pub fn poll(&self, generation: Opening) -> PollEvents {
        if self.is_dead(generation) {
            return PollEvents::IN
                | PollEvents::OUT
                | PollEvents::ERR
                | PollEvents::HUP
                | PollEvents::RDNORM
                | PollEvents::WRNORM;
        }
        let mut events = PollEvents::empty();
        let line = self.line.lock();
        let minimum = match (line.settings.cc[cc::VMIN], line.settings.cc[cc::VTIME]) {
            (min, 0) => usize::from(min),
            _ => 1,
        };
        if line.ldisc.readable(&line.settings, minimum) {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        let held = line.ldisc.held();
        drop(line);
        if self.driver.is_disconnected() {
            events |= PollEvents::HUP;
        } else if !held && self.driver.room() > 8 {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }

    /// A file of the terminal was opened. Returns the generation that its other calls pass.
    ///
    /// # Errors
    /// `EBUSY` while somebody holds it exclusively (`TIOCEXCL`).
    pub fn open(&self) -> Result<Opening> {
        if self.exclusive.load(Ordering::Relaxed) && !job_control()?.is_admin() {
            return Err(Errno::EBUSY);
        }
        self.open_count.fetch_add(1, Ordering::Relaxed);
        Ok(Opening(Some(self.generation.load(Ordering::Acquire))))
    }

    /// The opener without `O_NOCTTY` gets the terminal as its controlling one if it leads a session without.
    pub fn acquire_on_open(&self) {
        let Ok(job) = job_control() else { return };
        if !job.is_session_leader() {
            return;
        }
        let session = job.session();
        if session.terminal().is_none() && self.job.lock().session.is_none() {
            self.give_to(&session);
        }
    }

    /// A file of the terminal was closed.
    pub fn close(&self) {
        if self.open_count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.exclusive.store(false, Ordering::Relaxed);
            self.driver.closed();
        }
    }

    /// Whether a hang-up ended the file.
    pub(super) fn is_dead(&self, opening: Opening) -> bool {
        opening.0.is_some_and(|generation| self.generation.load(Ordering::Acquire) != generation)
    }

    fn give_to(&self, session: &Arc<dyn Session>) {
        let Ok(control) = job_control() else { return };
        let Some(me) = self.me.upgrade() else { return };
        let group = control.group();
        let mut job = self.job.lock();
        job.session = Some(session.clone());
        job.foreground = Some(group);
        drop(job);
        session.set_terminal(Some(me));
    }

    /// Hangs the terminal up (`vhangup(2)`, carrier lost): open files are dead from now on, and the
    /// session is told.
    pub fn hang_up(&self, why: HangUp) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.exclusive.store(false, Ordering::Relaxed);
        self.line.lock().ldisc.flush_input();
        let job = core::mem::take(&mut *self.job.lock());
        if let Some(session) = job.session {
            let later = if why == HangUp::Carrier { job.foreground.clone() } else { None };
            session.terminal_lost(later);
            session.signal_leader(signal::SIGHUP);
            session.signal_leader(signal::SIGCONT);
        }
        if why == HangUp::SessionEnd
            && let Some(group) = job.foreground
        {
            group.signal(signal::SIGHUP);
        }
        self.wake_everybody();
    }

    fn belongs_to(&self, session: &Arc<dyn Session>) -> bool {
        self.session().is_some_and(|owner| owner.identity() == session.identity())
    }

    /// The session's leader exits.
    pub fn session_ends(&self, session: &Arc<dyn Session>) {
        if !self.belongs_to(session) {
            return;
        }
        if self.driver.hangs_up_with_session() {
            return self.hang_up(HangUp::SessionEnd);
        }
        let job = core::mem::take(&mut *self.job.lock());
        session.set_terminal(None);
        if let Some(group) = job.foreground {
            group.signal(signal::SIGHUP);
        }
    }

    /// The session's leader gives the terminal up (`TIOCNOTTY`).
    pub fn disassociate(&self, session: &Arc<dyn Session>) {
        if !self.belongs_to(session) {
            return;
        }
        let job = core::mem::take(&mut *self.job.lock());
        session.set_terminal(None);
        if let Some(group) = job.foreground {
            group.signal(signal::SIGHUP);
            group.signal(signal::SIGCONT);
        }
    }

    /// Wakes all who wait here: the terminal's state changed for good.
    pub fn wake_everybody(&self) {
        self.readers.wake_up_poll(PollEvents::IN | PollEvents::HUP);
        self.writers.wake_up_poll(PollEvents::OUT | PollEvents::HUP);
    }

    /// The foreground group, if the terminal controls a session.
    pub fn foreground(&self) -> Option<Arc<dyn Group>> {
        self.job.lock().foreground.clone()
    }

    /// The session that the terminal controls.
    pub fn session(&self) -> Option<Arc<dyn Session>> {
        self.job.lock().session.clone()
    }

    /// Whether the caller is in the background of this, its controlling, terminal: its own group then.
    fn background_group(&self) -> Result<Option<Arc<dyn Group>>> {
        let control = job_control()?;
        let job = self.job.lock();
        let (Some(session), Some(foreground)) = (job.session.clone(), job.foreground.clone()) else {
            return Ok(None);
        };
        drop(job);
        if control.session().identity() != session.identity() {
            return Ok(None);
        }
        let group = control.group();
        Ok((group.identity() != foreground.identity()).then_some(group))
    }

    fn check_background_read(&self) -> Result<()> {
        let Some(group) = self.background_group()? else { return Ok(()) };
        if job_control()?.ignores(signal::SIGTTIN) || group.is_orphaned() {
            return Err(Errno::EIO);
        }
        group.signal(signal::SIGTTIN);
        Err(Errno::ERESTARTSYS)
    }

    fn check_background_write(&self) -> Result<()> {
        if !self.line.lock().settings.local(lflag::TOSTOP) {
            return Ok(());
        }
        self.check_change()
    }

    /// A background process that changes the terminal is stopped first, unless it does not mind.
    pub(super) fn check_change(&self) -> Result<()> {
        let Some(group) = self.background_group()? else { return Ok(()) };
        if job_control()?.ignores(signal::SIGTTOU) {
            return Ok(());
        }
        if group.is_orphaned() {
            return Err(Errno::EIO);
        }
        group.signal(signal::SIGTTOU);
        Err(Errno::ERESTARTSYS)
    }

    /// The settings in force.
    pub fn settings(&self) -> Termios {
        self.line.lock().settings
    }

    /// Changes the settings; `flush` forgets typed input first (`TCSETSF`).
    pub(super) fn set_settings(&self, new: Termios, flush: bool) {
        let mut guard = self.line.lock();
        let line = &mut *guard;
        let new = keep_locked(&line.settings, new, &line.locked);
        if flush {
            line.ldisc.flush_input();
        }
        let old = line.settings;
        line.settings = new;
        line.ldisc.settings_changed(&old, &new);
        drop(guard);
        self.driver.settings_changed(&new);
        self.driver.kick();
        self.wake_everybody();
    }

    /// What of the settings cannot be changed.
    pub(super) fn locked_settings(&self) -> Termios {
        self.line.lock().locked
    }

    /// Says what of the settings cannot be changed from now on.
    pub(super) fn lock_settings(&self, locked: Termios) {
        self.line.lock().locked = locked;
    }

    /// Waits until all output was sent (`tcdrain(3)`).
    pub(super) fn drain(&self) -> Result<()> {
        self.writers
            .wait_event_interruptible(|| self.driver.unsent() == 0 || self.driver.is_disconnected())
            .map_err(|_| Errno::ERESTARTSYS)
    }

    /// Forgets unread input, unsent output, or both (`tcflush(3)`).
    pub(super) fn flush(&self, input: bool, output: bool) {
        if input {
            self.input.lock().bytes.clear();
            self.line.lock().ldisc.flush_input();
            self.driver.input_flushed();
            self.driver.kick();
        }
        if output {
            self.driver.flush();
            self.wake_writers();
        }
    }

    /// Holds or resumes output (`tcflow(3)`).
    pub(super) fn hold(&self, hold: bool) {
        self.line.lock().ldisc.set_held(hold);
        self.driver.hold(hold);
        self.driver.kick();
        if !hold {
            self.wake_writers();
        }
    }

    /// Bytes a read would return (`FIONREAD`).
    pub(super) fn readable_bytes(&self) -> usize {
        let line = self.line.lock();
        line.ldisc.available(&line.settings)
    }

    /// Bytes not yet sent (`TIOCOUTQ`).
    pub(super) fn unsent(&self) -> usize {
        self.driver.unsent()
    }

    /// The size of the window.
    pub fn window(&self) -> Winsize {
        *self.window.lock()
    }

    /// Sets the size of the window; the foreground group is told if it changed.
    pub fn set_window(&self, size: Winsize) {
        let before = core::mem::replace(&mut *self.window.lock(), size);
        if before != size
            && let Some(group) = self.foreground()
        {
            group.signal(signal::SIGWINCH);
        }
    }

    /// Takes the terminal for oneself, or shares it again (`TIOCEXCL`, `TIOCNXCL`).
    pub(super) fn set_exclusive(&self, exclusive: bool) {
        self.exclusive.store(exclusive, Ordering::Relaxed);
    }

    /// Whether somebody took it (`TIOCGEXCL`).
    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive.load(Ordering::Relaxed)
    }

    /// Makes this the controlling terminal of the caller's session (`TIOCSCTTY`).
    pub(super) fn acquire(&self, steal: bool) -> Result<()> {
        let control = job_control()?;
        let session = control.session();
        let owner = self.session();
        let ours = owner.as_ref().is_some_and(|s| s.identity() == session.identity());
        if control.is_session_leader() && ours {
            return Ok(());
        }
        if !control.is_session_leader() || session.terminal().is_some() {
            return Err(Errno::EPERM);
        }
        if let Some(owner) = owner {
            if !steal || !control.is_admin() {
                return Err(Errno::EPERM);
            }
            owner.set_terminal(None);
        }
        self.give_to(&session);
        Ok(())
    }

    /// Whether this is the controlling terminal of the caller.
    pub(super) fn is_controlling(&self) -> Result<bool> {
        let session = job_control()?.session();
        Ok(self.session().is_some_and(|s| s.identity() == session.identity()))
    }

    /// Changes the foreground group (`TIOCSPGRP`).
    pub(super) fn set_foreground(&self, number: i32) -> Result<()> {
        match self.check_change() {
            Err(Errno::EIO) => return Err(Errno::ENOTTY),
            other => other?,
        }
        if !self.is_controlling()? {
            return Err(Errno::ENOTTY);
        }
        if number < 0 {
            return Err(Errno::EINVAL);
        }
        let control = job_control()?;
        let group = control.find_group(number)?;
        if group.session().identity() != control.session().identity() {
            return Err(Errno::EPERM);
        }
        self.job.lock().foreground = Some(group);
        Ok(())
    }
}

const NOTHING_LOCKED: Termios =
    Termios { iflag: 0, oflag: 0, cflag: 0, lflag: 0, line: 0, cc: [0; abi::tty::NCCS] };

/// `new`, but for what is locked.
fn keep_locked(old: &Termios, new: Termios, locked: &Termios) -> Termios {
    let flags = |old: u32, new: u32, locked: u32| old & locked | new & !locked;
    let byte = |old: u8, new: u8, locked: u8| if locked != 0 { old } else { new };
    let mut cc = new.cc;
    for ((cc, old), locked) in cc.iter_mut().zip(old.cc).zip(locked.cc) {
        *cc = byte(old, *cc, locked);
    }
    Termios {
        iflag: flags(old.iflag, new.iflag, locked.iflag),
        oflag: flags(old.oflag, new.oflag, locked.oflag),
        cflag: flags(old.cflag, new.cflag, locked.cflag),
        lflag: flags(old.lflag, new.lflag, locked.lflag),
        line: byte(old.line, new.line, locked.line),
        cc,
    }
}

fn minimum(settings: &Termios) -> u8 {
    settings.cc[cc::VMIN]
}

fn ends_line(byte: u8, settings: &Termios) -> bool {
    byte == b'\n' || (byte != DISABLED && (byte == settings.cc[cc::VEOL] || byte == settings.cc[cc::VEOL2]))
}

/// The line discipline's view of its terminal while the line is locked: what must not happen under
/// a spin lock is noted and done afterwards.
struct Device<'a> {
    driver: &'a dyn TtyDriver,
    echo: &'a mut Vec<u8>,
    /// A bit for each signal to send.
    signals: u32,
    /// Writers may go on.
    resumed: bool,
}

impl Port for Device<'_> {
    fn echo(&mut self, bytes: &[u8]) {
        // Echo is a courtesy: far behind the device it is dropped.
        if ECHO - self.echo.len() >= bytes.len() {
            let _ = self.echo.try_extend_from_slice(bytes);
        }
    }

    fn signal(&mut self, signo: i32) {
        self.signals |= 1 << signo;
    }

    fn flush_output(&mut self) {
        self.echo.clear();
        self.driver.flush();
        self.resumed = true;
    }

    fn hold_output(&mut self, hold: bool) {
        self.driver.hold(hold);
        self.resumed |= !hold;
    }
}
