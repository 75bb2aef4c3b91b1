//! The unix socket: names, connecting, listening, closing.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::fs::DevId;
use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::IovIter;
use mm::fallible::{TryDeque, try_arc_cyclic};
use sched::WaitError;
use sched::mutex::Mutex;
use sched::wait::{Wait, WaitQueue};
use socket::{
    BUFFER_DEFAULT, FilterSlot, Identity, Kind, MessageFlags, Options, Received, SendMessage, Shutdown,
    SocketAddr, SocketOps,
};
use sync::Once;
use vfs::fasync::{Band, FasyncList};
use vfs::file::File;
use vfs::inode::Inode;
use vfs::namei::{self, At, LookupFlags};
use vfs::path::LookupContext;
use vfs::permission::inode_permission;
use vfs::poll::PollTable;
use vfs::security::{self, Domain, Reach};
use vfs::types::{FileType, MayAccess};

use crate::account::Account;
use crate::address::{self, Name};
use crate::gc;
use crate::queue::{Message, Queue};
use crate::transfer::MOST_DATAGRAMS;

/// What a socket is doing.
pub enum State {
    /// Nothing yet, or a datagram socket without a default peer.
    Idle,
    /// Waiting for connections, which wait here to be accepted.
    Listening {
        /// Connected endpoints that nobody has accepted yet.
        pending: VecDeque<Arc<Endpoint>>,
        /// How many may wait.
        backlog: usize,
    },
    /// Connected; the peer may be gone.
    Connected(Weak<Endpoint>),
}

pub(crate) struct Inner {
    pub state: State,
    pub name: Name,
    inode: Option<Arc<Inode>>,
    /// The name of the peer at the time of connecting.
    pub peer_name: Name,
    /// Who is at the other end.
    pub peer: Identity,
}

/// A unix socket.
pub struct Endpoint {
    me: Weak<Endpoint>,
    /// What restricted who made it.
    domain: Option<Arc<dyn Domain>>,
    pub(crate) kind: Kind,
    pub(crate) inner: SpinLock<Inner>,
    pub(crate) queue: SpinLock<Queue>,
    /// Held while a reader works with the front of the queue: readers do not mix.
    pub(crate) reading: Mutex<()>,
    /// What this socket has sent and nobody has received.
    pub(crate) account: Arc<Account>,
    pub(crate) readers: WaitQueue,
    /// Woken when this socket's queue has a place for a datagram, and when a listener's does.
    pub(crate) room: WaitQueue,
    /// Who wants a signal when there is something to receive.
    pub(crate) fasync: FasyncList,
    pub(crate) read_shut: AtomicBool,
    pub(crate) write_shut: AtomicBool,
    pub(crate) closed: AtomicBool,
    /// The peer closed with data unread.
    pub(crate) reset: AtomicBool,
    /// `SO_PASSPIDFD`.
    pub(crate) pass_process: AtomicBool,
    /// Messages to it have the time of their sending.
    pub(crate) stamps: AtomicBool,
    pub(crate) filter: FilterSlot,
    pub(crate) flight: gc::Slot,
    ino: AtomicU64,
    /// The open file, whose owner hears of urgent data.
    pub(crate) file: Once<Weak<File>>,
}

impl Endpoint {
    /// A fresh socket.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(kind: Kind) -> Result<Arc<Self>> {
        let account = Account::new(BUFFER_DEFAULT)?;
        Ok(try_arc_cyclic(|me| Self {
            me: me.clone(),
            domain: socket::current_domain(),
            kind,
            inner: SpinLock::new(Inner {
                state: State::Idle,
                name: Name::Unnamed,
                inode: None,
                peer_name: Name::Unnamed,
                peer: Identity::default(),
            }),
            queue: SpinLock::new(Queue::default()),
            reading: Mutex::new(()),
            account,
            readers: WaitQueue::new(),
            room: WaitQueue::new(),
            fasync: FasyncList::new(),
            read_shut: AtomicBool::new(false),
            write_shut: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            pass_process: AtomicBool::new(false),
            stamps: AtomicBool::new(false),
            filter: FilterSlot::new(),
            flight: gc::Slot::new(),
            ino: AtomicU64::new(0),
            file: Once::new(),
        })?)
    }

    /// Connects two fresh sockets to each other (`socketpair(2)`).
    pub fn join(a: &Arc<Self>, b: &Arc<Self>) {
        let who = socket::current_identity();
        for (one, other) in [(a, b), (b, a)] {
            let mut inner = one.inner.lock();
            inner.state = State::Connected(Arc::downgrade(other));
            inner.peer = who.clone();
        }
    }

    /// A reference of one's own; `None` when the last one is going.
    pub(crate) fn me(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Runs `f` on each file in the messages that wait here, and in those of connections that wait to be accepted.
    pub(crate) fn each_waiting_file(&self, f: &mut dyn FnMut(&File)) {
        let mut scan = |endpoint: &Self| {
            for message in endpoint.queue.lock().iter() {
                message.files.files().iter().for_each(|file| f(file));
            }
        };
        scan(self);
        if let State::Listening { pending, .. } = &self.inner.lock().state {
            pending.iter().for_each(|endpoint| scan(endpoint));
        }
    }

    /// Drops all that waits here; nobody can receive it.
    pub(crate) fn purge(&self) {
        let waiting = self.queue.lock().take_all();
        let pending = match &mut self.inner.lock().state {
            State::Listening { pending, .. } => core::mem::take(pending),
            _ => VecDeque::new(),
        };
        pending.iter().for_each(|endpoint| endpoint.refuse());
        drop(waiting);
    }

    /// Closes a connection that nobody accepted; who made it learns so.
    fn refuse(&self) {
        if let Ok(Some(client)) = self.peer() {
            client.reset.store(true, Ordering::Release);
        }
        self.release();
    }

    /// The connected peer. `None`: it is gone.
    pub(crate) fn peer(&self) -> Result<Option<Arc<Self>>> {
        let peer = match &self.inner.lock().state {
            State::Connected(peer) => peer.upgrade(),
            _ => return Err(Errno::ENOTCONN),
        };
        // Outside the lock: this may drop the last reference.
        Ok(peer.filter(|peer| !peer.closed.load(Ordering::Acquire)))
    }

    /// The connected peer, if it has the abstract name `name`: what was allowed once stays allowed.
    pub(crate) fn connected_to(&self, name: &Name) -> Option<Arc<Self>> {
        let peer = self.peer().ok()??;
        (matches!(name, Name::Abstract(_)) && peer.name() == *name).then_some(peer)
    }

    /// Whether `from` may send to this datagram socket: one that is connected hears its peer only.
    pub(crate) fn accepts_from(&self, from: &Self) -> bool {
        match &self.inner.lock().state {
            State::Connected(peer) => core::ptr::eq(peer.as_ptr(), from),
            _ => true,
        }
    }

    /// Number of the socket's inode, for listings.
    pub(crate) fn ino(&self) -> u64 {
        self.ino.load(Ordering::Relaxed)
    }

    /// With `SO_PASSCRED`, who connects or sends has a name (`unix(7)`, "Autobind feature").
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(crate) fn name_if_passing(&self, options: &Options) -> Result<()> {
        if options.pass_credentials.load(Ordering::Relaxed) && self.name() == Name::Unnamed {
            let name = address::bind_auto(&self.me().ok_or(Errno::EINVAL)?)?;
            self.inner.lock().name = Name::Abstract(name);
        }
        Ok(())
    }

    fn name(&self) -> Name {
        self.inner.lock().name.clone()
    }

    /// Finds who is bound to `name`; an abstract one means a socket of type `kind`.
    ///
    /// # Errors
    /// `ECONNREFUSED`; those of path lookup; `EPERM`: the caller's domain does not reach that far.
    pub(crate) fn find(ctx: &LookupContext<'_>, kind: Kind, name: &Name) -> Result<Arc<Self>> {
        match name {
            Name::Unnamed => Err(Errno::EINVAL),
            Name::Abstract(name) => {
                let found = address::find_abstract(kind, name)?;
                security::check_reach(ctx.cred, found.domain.as_ref(), Reach::AbstractSocket)?;
                Ok(found)
            }
            Name::Path(path) => {
                let inode = find_socket(ctx, path)?;
                address::find_inode(&inode)
            }
        }
    }

    /// Whether `from` has to wait before it sends a datagram here. The two ends of a pair have their buffers to limit
    /// them and nothing else.
    pub(crate) fn is_full_for(&self, from: &Self) -> bool {
        let paired = matches!(&self.inner.lock().state,
            State::Connected(peer) if core::ptr::eq(peer.as_ptr(), from));
        !paired && self.queue.lock().len() > MOST_DATAGRAMS
    }

    fn connect_stream(
        self: &Arc<Self>,
        ctx: &LookupContext<'_>,
        name: &Name,
        options: &Options,
        nonblock: bool,
    ) -> Result<()> {
        let server = Self::new(self.kind)?;
        self.claim(&server)?;
        match self.queue_at_listener(ctx, name, &server, options, nonblock) {
            Ok(listener) => {
                listener.readers.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
                listener.fasync.kill(Band::In);
                Ok(())
            }
            Err(error) => {
                // Not connected after all; nobody saw `server`.
                self.inner.lock().state = State::Idle;
                Err(error)
            }
        }
    }

    /// Reserves this socket for a connection to `server`: only one `connect` can win.
    fn claim(&self, server: &Arc<Self>) -> Result<()> {
        let mut inner = self.inner.lock();
        match inner.state {
            State::Idle => inner.state = State::Connected(Arc::downgrade(server)),
            State::Connected(_) => return Err(Errno::EISCONN),
            State::Listening { .. } => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Finds the listener and puts `server`, complete, into its queue.
    fn queue_at_listener(
        self: &Arc<Self>,
        ctx: &LookupContext<'_>,
        name: &Name,
        server: &Arc<Self>,
        options: &Options,
        nonblock: bool,
    ) -> Result<Arc<Self>> {
        loop {
            let listener = Self::find(ctx, self.kind, name)?;
            if listener.kind != self.kind {
                return Err(Errno::EPROTOTYPE);
            }
            let (listener_name, listener_peer) = {
                let inner = listener.inner.lock();
                (inner.name.clone(), inner.peer.clone())
            };
            let (client, mut identity) = (self.name(), socket::current_identity());
            {
                let mut fresh = server.inner.lock();
                fresh.state = State::Connected(Arc::downgrade(self));
                fresh.name = listener_name.clone();
                core::mem::swap(&mut fresh.peer, &mut identity);
                fresh.peer_name = client;
            }
            let before = {
                let mut inner = self.inner.lock();
                inner.peer_name = listener_name;
                core::mem::replace(&mut inner.peer, listener_peer)
            };
            // What they refer to goes outside of the locks.
            drop((identity, before));
            match listener.enqueue(server)? {
                Queued::Yes => return Ok(listener),
                Queued::Full if nonblock => return Err(Errno::EAGAIN),
                Queued::Full => {
                    let how = Wait::INTERRUPTIBLE.until(options.send_deadline());
                    listener.room.wait(how, || listener.accepts().then_some(())).map_err(wait_error)?;
                }
            }
        }
    }

    /// Adds a connection that waits to be accepted.
    fn enqueue(&self, server: &Arc<Self>) -> Result<Queued> {
        let mut inner = self.inner.lock();
        let State::Listening { pending, backlog } = &mut inner.state else { return Err(Errno::ECONNREFUSED) };
        if self.read_shut.load(Ordering::Relaxed) || self.closed.load(Ordering::Acquire) {
            return Err(Errno::ECONNREFUSED);
        }
        if pending.len() > *backlog {
            return Ok(Queued::Full);
        }
        pending.try_push_back(server.clone())?;
        Ok(Queued::Yes)
    }

    /// Whether a connection would be queued, or refused at once.
    fn accepts(&self) -> bool {
        match &self.inner.lock().state {
            State::Listening { pending, backlog } => pending.len() <= *backlog,
            _ => true,
        }
    }

    /// The other side is closed or shut down: wake whoever waits here.
    fn peer_changed(&self) {
        self.readers.wake_up_poll(PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP | PollEvents::HUP);
        self.account.room.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM | PollEvents::HUP);
        self.room.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM | PollEvents::HUP);
        self.fasync.kill(Band::Hup);
    }
}

/// Whether the stream is at the mark of urgent data (`asm-generic/sockios.h`).
const SIOCATMARK: u32 = 0x8905;

/// Whether a listener took a connection.
enum Queued {
    Yes,
    /// Too many wait already.
    Full,
}

/// The inode of the socket that a path names.
fn find_socket(ctx: &LookupContext<'_>, path: &[u8]) -> Result<Arc<Inode>> {
    let found = namei::path_lookup(ctx, At::Cwd, path, LookupFlags::FOLLOW)?;
    let inode = found.inode()?;
    inode_permission(inode, ctx.cred, MayAccess::WRITE)?;
    if inode.file_type() != FileType::Socket {
        return Err(Errno::ECONNREFUSED);
    }
    Ok(inode.clone())
}

pub(crate) fn wait_error(error: WaitError) -> Errno {
    match error {
        WaitError::Interrupted => Errno::ERESTARTSYS,
        WaitError::TimedOut => Errno::EAGAIN,
    }
}

impl SocketOps for Endpoint {
    fn fasync(&self) -> Option<&FasyncList> {
        Some(&self.fasync)
    }

    fn bind(&self, ctx: &LookupContext<'_>, addr: &SocketAddr) -> Result<()> {
        let me = self.me().ok_or(Errno::EINVAL)?;
        let name = Name::parse(addr)?;
        if self.name() != Name::Unnamed {
            return if name == Name::Unnamed { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let (name, inode) = match name {
            Name::Unnamed => (Name::Abstract(address::bind_auto(&me)?), None),
            Name::Abstract(bytes) => {
                address::bind_abstract(bytes.clone(), &me)?;
                (Name::Abstract(bytes), None)
            }
            Name::Path(path) => {
                let mode = raw::S_IFSOCK | 0o777;
                let made = namei::mknod(ctx, At::Cwd, &path, mode, DevId::default())
                    .map_err(|error| if error == Errno::EEXIST { Errno::EADDRINUSE } else { error })?;
                let inode = made.inode()?.clone();
                address::bind_inode(&inode, &me)?;
                (Name::Path(path), Some(inode))
            }
        };
        let mut inner = self.inner.lock();
        inner.name = name;
        inner.inode = inode;
        Ok(())
    }

    fn connect(
        self: Arc<Self>,
        ctx: &LookupContext<'_>,
        addr: &SocketAddr,
        options: &Options,
        nonblock: bool,
    ) -> Result<()> {
        if self.kind != Kind::Dgram {
            let name = Name::parse(addr)?;
            self.name_if_passing(options)?;
            return self.connect_stream(ctx, &name, options, nonblock);
        }
        if addr.family() == Some(0) {
            self.inner.lock().state = State::Idle;
            return Ok(());
        }
        let name = Name::parse(addr)?;
        self.name_if_passing(options)?;
        let peer = Self::find(ctx, self.kind, &name)?;
        if peer.kind != Kind::Dgram {
            return Err(Errno::EPROTOTYPE);
        }
        if !peer.accepts_from(&self) {
            return Err(Errno::EPERM);
        }
        let mut inner = self.inner.lock();
        inner.state = State::Connected(Arc::downgrade(&peer));
        inner.peer_name = name;
        Ok(())
    }

    fn listen(&self, backlog: u32) -> Result<()> {
        if self.kind == Kind::Dgram {
            return Err(Errno::EOPNOTSUPP);
        }
        const SOMAXCONN: u32 = 4096;
        let limit = backlog.min(SOMAXCONN) as usize;
        let identity = socket::current_identity();
        let mut inner = self.inner.lock();
        if inner.name == Name::Unnamed {
            return Err(Errno::EINVAL);
        }
        match &mut inner.state {
            State::Idle => inner.state = State::Listening { pending: VecDeque::new(), backlog: limit },
            State::Listening { backlog, .. } => *backlog = limit,
            State::Connected(_) => return Err(Errno::EINVAL),
        }
        let before = core::mem::replace(&mut inner.peer, identity);
        drop(inner);
        drop(before);
        self.room.wake_all();
        Ok(())
    }

    fn accept(&self, options: &Options, nonblock: bool) -> Result<Arc<dyn SocketOps>> {
        let take = || -> Option<Result<Arc<Self>>> {
            match &mut self.inner.lock().state {
                State::Listening { pending, .. } => match pending.pop_front() {
                    Some(endpoint) => Some(Ok(endpoint)),
                    None if self.read_shut.load(Ordering::Acquire) => Some(Err(Errno::EINVAL)),
                    None => None,
                },
                _ if self.kind == Kind::Dgram => Some(Err(Errno::EOPNOTSUPP)),
                _ => Some(Err(Errno::EINVAL)),
            }
        };
        let accepted = match take() {
            Some(result) => result?,
            None if nonblock => return Err(Errno::EAGAIN),
            None => {
                let how = Wait::INTERRUPTIBLE.exclusive().until(options.receive_deadline());
                self.readers.wait(how, take).map_err(wait_error)??
            }
        };
        self.room.wake_all();
        Ok(accepted)
    }

    fn local_name(&self) -> Result<SocketAddr> {
        self.name().to_addr()
    }

    fn peer_name(&self) -> Result<SocketAddr> {
        let inner = self.inner.lock();
        match inner.state {
            State::Connected(_) => inner.peer_name.clone().to_addr(),
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn send(
        &self,
        ctx: Option<&LookupContext<'_>>,
        iter: &mut IovIter<'_>,
        message: SendMessage,
        options: &Options,
    ) -> Result<usize> {
        match self.kind {
            Kind::Stream => self.send_stream(iter, message, options),
            _ => self.send_datagram(ctx, iter, message, options),
        }
    }

    fn receive(
        &self,
        iter: &mut IovIter<'_>,
        flags: MessageFlags,
        nonblock: bool,
        options: &Options,
    ) -> Result<Received> {
        match self.kind {
            Kind::Stream => self.receive_stream(iter, flags, nonblock, options),
            _ => self.receive_datagram(iter, flags, nonblock, options),
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if how.reads() {
            self.read_shut.store(true, Ordering::Release);
        }
        if how.writes() {
            self.write_shut.store(true, Ordering::Release);
        }
        if self.kind != Kind::Dgram
            && let Ok(Some(peer)) = self.peer()
        {
            if how.reads() {
                peer.write_shut.store(true, Ordering::Release);
            }
            if how.writes() {
                peer.read_shut.store(true, Ordering::Release);
            }
            peer.peer_changed();
        }
        self.peer_changed();
        Ok(())
    }

    fn poll(&self, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.readers);
        table.wait(&self.account.room);
        let peer = self.peer();
        let mut full = false;
        if self.kind == Kind::Dgram
            && let Ok(Some(peer)) = &peer
        {
            table.wait(&peer.room);
            full = peer.is_full_for(self);
        }
        let mut events = PollEvents::empty();
        let read_shut = self.read_shut.load(Ordering::Acquire);
        if self.is_listening() {
            let waiting =
                matches!(&self.inner.lock().state, State::Listening { pending, .. } if !pending.is_empty());
            return if waiting { PollEvents::IN | PollEvents::RDNORM } else { events };
        }
        if read_shut {
            events |= PollEvents::RDHUP | PollEvents::IN | PollEvents::RDNORM;
        }
        if read_shut && self.write_shut.load(Ordering::Acquire) {
            events |= PollEvents::HUP;
        }
        {
            let queue = self.queue.lock();
            if !queue.is_empty() {
                events |= PollEvents::IN | PollEvents::RDNORM;
            }
            if queue.has_urgent() {
                events |= PollEvents::PRI;
            }
        }
        match (&peer, self.kind) {
            (Ok(None), Kind::Stream | Kind::Seqpacket) => {
                events |= PollEvents::HUP | PollEvents::RDHUP | PollEvents::IN | PollEvents::RDNORM;
            }
            (Err(_), Kind::Stream | Kind::Seqpacket) => events |= PollEvents::HUP,
            _ => {}
        }
        if !full && self.account.is_writable() {
            events |= PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        }
        if self.reset.load(Ordering::Acquire) {
            events |= PollEvents::ERR;
        }
        events
    }

    fn ioctl(&self, cmd: u32, arg: usize) -> Result<isize> {
        use abi::raw_sys::ioctl as request;
        use mm::user::UserPtr;
        let bytes = match cmd {
            request::FIONREAD if self.is_listening() => return Err(Errno::EINVAL),
            request::FIONREAD => {
                let queue = self.queue.lock();
                if self.kind != Kind::Dgram {
                    queue.bytes()
                } else {
                    queue.front().map_or(0, |m| m.rest().len())
                }
            }
            request::TIOCOUTQ => self.account.bytes(),
            SIOCATMARK => self.at_mark()?.into(),
            _ => return Err(Errno::ENOTTY),
        };
        UserPtr::<i32>::new(arg).write(&(bytes as i32))?;
        Ok(0)
    }

    fn peer_identity(&self) -> Identity {
        self.inner.lock().peer.clone()
    }

    fn options_changed(&self, options: &Options) {
        self.account.set_limit(options.send_buffer.load(Ordering::Relaxed));
        self.pass_process.store(options.pass_process.load(Ordering::Relaxed), Ordering::Relaxed);
        self.stamps.store(options.stamps.wanted().is_some(), Ordering::Relaxed);
    }

    fn filter(&self) -> Option<&FilterSlot> {
        Some(&self.filter)
    }

    fn is_listening(&self) -> bool {
        matches!(self.inner.lock().state, State::Listening { .. })
    }

    fn take_error(&self) -> Option<Errno> {
        self.reset.swap(false, Ordering::AcqRel).then_some(Errno::ECONNRESET)
    }

    fn kind(&self) -> Option<Kind> {
        Some(self.kind)
    }

    fn set_file(&self, file: &Arc<File>) {
        let _ = self.file.set(Arc::downgrade(file));
    }

    fn set_ino(&self, ino: u64) {
        self.ino.store(ino, Ordering::Relaxed);
        address::list(&self.me);
    }

    fn release(&self) {
        self.closed.store(true, Ordering::Release);
        let mut inner = self.inner.lock();
        let state = core::mem::replace(&mut inner.state, State::Idle);
        let name = core::mem::replace(&mut inner.name, Name::Unnamed);
        let inode = inner.inode.take();
        drop(inner);
        address::release(self, &name, inode.as_ref());
        let unread = self.queue.lock().close();
        match state {
            State::Connected(peer) => {
                if let Some(peer) = peer.upgrade() {
                    if self.kind != Kind::Dgram {
                        // What is left of an urgent byte that was received is nothing unread.
                        let lost =
                            |message: &Message| self.kind != Kind::Stream || !message.rest().is_empty();
                        if unread.iter().any(lost) {
                            peer.reset.store(true, Ordering::Release);
                        }
                        peer.read_shut.store(true, Ordering::Release);
                        peer.write_shut.store(true, Ordering::Release);
                    }
                    peer.peer_changed();
                }
            }
            // Whoever connected and was not accepted learns that nobody will.
            State::Listening { pending, .. } => pending.iter().for_each(|endpoint| endpoint.refuse()),
            State::Idle => {}
        }
        drop_later(unread);
        address::unlist(self);
        self.room.wake_all();
        self.readers.wake_all();
        gc::closed();
    }
}

/// Drops messages nobody received. Files among them may be sockets with files in turn, to any depth: those go one
/// level at a time, each in a fresh context, so that no chain of sockets exhausts the stack.
fn drop_later(messages: VecDeque<Message>) {
    if messages.iter().any(|message| !message.files.files().is_empty()) {
        sched::workqueue::queue(move || drop(messages));
    }
}
