//! Sockets on the host: real threads wait for each other.

use std::string::ToString;
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use abi::poll::PollEvents;
use abi::{Errno, Result, raw_sys::net};
use mm::IovIter;
use socket::{Control, Kind, MessageFlags, Options, Received, SendMessage, Shutdown, SocketAddr, SocketOps};
use vfs::mount::{self, MountNamespace};
use vfs::poll::PollTable;
use vfs::{Credentials, File, FsStruct, LookupContext};

use crate::endpoint::Endpoint;

static INIT: Once = Once::new();

/// A machine with an empty root directory.
struct World {
    cred: Arc<Credentials>,
    ns: Arc<MountNamespace>,
    fs: FsStruct,
}

impl World {
    fn new() -> Self {
        INIT.call_once(|| {
            mm::testing::init();
            vfs::init(8192).unwrap();
        });
        let user_ns = vfs::UserNamespace::initial();
        let request = vfs::MountRequest {
            flags: 0,
            source: b"rootfs",
            device: None,
            options: b"",
            user_ns,
            private: None,
        };
        let sb = vfs::FsType::mount(&tmpfs::ROOTFS, &request).unwrap();
        let mount = mount::kernel_mount(&sb, 0, b"rootfs").unwrap();
        let ns = mount::initial_namespace(&mount);
        Self { cred: Credentials::kernel().clone(), ns, fs: FsStruct::new(mount.root_path()).unwrap() }
    }

    fn ctx(&self) -> LookupContext<'_> {
        LookupContext { cred: &self.cred, fs: &self.fs, ns: &self.ns }
    }

    fn listener(&self, kind: Kind, name: &str, backlog: u32) -> Arc<Endpoint> {
        let socket = Endpoint::new(kind).unwrap();
        socket.bind(&self.ctx(), &addr(name)).unwrap();
        socket.listen(backlog).unwrap();
        socket
    }

    fn connect(&self, kind: Kind, name: &str, nonblock: bool) -> Result<Arc<Endpoint>> {
        let socket = Endpoint::new(kind).unwrap();
        socket.clone().connect(&self.ctx(), &addr(name), &Options::default(), nonblock)?;
        Ok(socket)
    }
}

/// `@name` is abstract.
fn addr(name: &str) -> SocketAddr {
    let mut bytes = (net::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(name.replace('@', "\0").as_bytes());
    SocketAddr::new(&bytes).unwrap()
}

fn pair(kind: Kind) -> (Arc<Endpoint>, Arc<Endpoint>) {
    let (a, b) = (Endpoint::new(kind).unwrap(), Endpoint::new(kind).unwrap());
    Endpoint::join(&a, &b);
    (a, b)
}

fn send_with(from: &Endpoint, data: &[u8], control: Vec<Control>, nonblock: bool) -> Result<usize> {
    let message = SendMessage { to: None, control, flags: MessageFlags::empty(), nonblock };
    from.send(None, &mut IovIter::source(data), message, &Options::default())
}

fn send(from: &Endpoint, data: &[u8]) -> Result<usize> {
    send_with(from, data, Vec::new(), true)
}

fn receive_with(
    from: &Endpoint,
    size: usize,
    flags: MessageFlags,
    wait: bool,
) -> Result<(Vec<u8>, Received)> {
    let mut bytes = vec![0; size];
    let received = from.receive(&mut IovIter::dest(&mut bytes), flags, !wait, &Options::default())?;
    bytes.truncate(received.len.min(size));
    Ok((bytes, received))
}

fn receive(from: &Endpoint, size: usize) -> Result<Vec<u8>> {
    receive_with(from, size, MessageFlags::empty(), false).map(|(bytes, _)| bytes)
}

fn some_file() -> Arc<File> {
    let cred = Credentials::kernel();
    vfs::anon::anon_file(cred, "[test]", vfs::file::FileImpl::Static(&vfs::file_ops::NoOps), 2).unwrap()
}

#[test]
fn a_stream_has_no_message_bounds() {
    let (a, b) = pair(Kind::Stream);
    assert_eq!(send(&a, b"hello "), Ok(6));
    assert_eq!(send(&a, b"world"), Ok(5));
    assert_eq!(receive_with(&b, 64, MessageFlags::PEEK, false).unwrap().0, b"hello world");
    assert_eq!(receive(&b, 3).unwrap(), b"hel");
    assert_eq!(receive(&b, 64).unwrap(), b"lo world");
    assert_eq!(receive(&b, 64), Err(Errno::EAGAIN));
}

#[test]
fn closing_ends_the_stream_and_unread_data_resets_it() {
    let (a, b) = pair(Kind::Stream);
    send(&a, b"last").unwrap();
    a.release();
    assert_eq!(receive(&b, 64).unwrap(), b"last");
    assert_eq!(receive(&b, 64).unwrap(), b"");
    assert_eq!(send(&b, b"x"), Err(Errno::EPIPE));

    let (a, b) = pair(Kind::Stream);
    send(&a, b"unread").unwrap();
    b.release();
    assert_eq!(receive(&a, 64), Err(Errno::ECONNRESET));
    assert_eq!(receive(&a, 64).unwrap(), b"");
}

#[test]
fn shutdown_closes_one_direction() {
    let (a, b) = pair(Kind::Stream);
    a.shutdown(Shutdown::Write).unwrap();
    assert_eq!(send(&a, b"x"), Err(Errno::EPIPE));
    assert_eq!(receive(&b, 1).unwrap(), b"");
    assert_eq!(send(&b, b"y"), Ok(1));
    assert_eq!(receive(&a, 1).unwrap(), b"y");
    let events = b.poll(&mut PollTable::look());
    assert!(events.contains(PollEvents::RDHUP | PollEvents::IN | PollEvents::OUT));
    assert!(!events.contains(PollEvents::HUP));
}

#[test]
fn a_full_stream_stops_the_sender_until_it_is_read() {
    let (a, b) = pair(Kind::Stream);
    let chunk = [7u8; 32 * 1024];
    let mut sent = 0;
    loop {
        match send(&a, &chunk) {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error, Errno::EAGAIN);
                break;
            }
        }
    }
    assert!(sent >= 200 * 1024, "{sent}");
    let reader = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let mut total = 0;
        while total < sent + chunk.len() {
            total += receive_with(&b, 1 << 20, MessageFlags::empty(), true).unwrap().0.len();
        }
        total
    });
    assert_eq!(send_with(&a, &chunk, Vec::new(), false), Ok(chunk.len()));
    assert_eq!(reader.join().unwrap(), sent + chunk.len());
}

#[test]
fn datagrams_keep_their_bounds() {
    let (a, b) = pair(Kind::Dgram);
    for text in [&b"one"[..], b"", b"three"] {
        send(&a, text).unwrap();
    }
    assert_eq!(receive(&b, 64).unwrap(), b"one");
    assert_eq!(receive(&b, 64).unwrap(), b"");
    let (bytes, received) = receive_with(&b, 2, MessageFlags::TRUNC, false).unwrap();
    assert_eq!((&bytes[..], received.len), (&b"th"[..], 5));
    assert!(received.flags.contains(MessageFlags::TRUNC));
    assert_eq!(receive(&b, 1), Err(Errno::EAGAIN));
    assert_eq!(send(&a, &vec![0; 1 << 20]), Err(Errno::EMSGSIZE));
    while send(&a, b"fill").is_ok() {}
    assert_eq!(send(&a, b"fill"), Err(Errno::EAGAIN));
    b.release();
    assert_eq!(send(&a, b"gone"), Err(Errno::ECONNREFUSED));
}

#[test]
fn connecting_and_accepting() {
    let world = World::new();
    assert_eq!(world.connect(Kind::Stream, "@nobody", true).err(), Some(Errno::ECONNREFUSED));
    let listener = world.listener(Kind::Stream, "@server", 0);
    assert_eq!(world.connect(Kind::Seqpacket, "@server", true).err(), Some(Errno::ECONNREFUSED));
    assert_eq!(listener.accept(&Options::default(), true).err(), Some(Errno::EAGAIN));
    let client = world.connect(Kind::Stream, "@server", true).unwrap();
    assert!(listener.poll(&mut PollTable::look()).contains(PollEvents::IN));
    // A backlog of 0 lets one wait.
    assert_eq!(world.connect(Kind::Stream, "@server", true).err(), Some(Errno::EAGAIN));
    assert_eq!(send(&client, b"early"), Ok(5));
    let server = listener.accept(&Options::default(), true).unwrap();
    let mut bytes = [0; 8];
    let got =
        server.receive(&mut IovIter::dest(&mut bytes), MessageFlags::empty(), true, &Options::default());
    assert_eq!(got.map(|received| received.len), Ok(5));
    assert_eq!(client.peer_name().unwrap().bytes(), addr("@server").bytes());
    assert_eq!(server.local_name().unwrap().bytes(), addr("@server").bytes());
    let again = client.clone().connect(&world.ctx(), &addr("@server"), &Options::default(), true);
    assert_eq!(again, Err(Errno::EISCONN));
    // Who waits when the listener closes is told.
    let waiting = world.connect(Kind::Stream, "@server", true).unwrap();
    listener.release();
    assert_eq!(receive(&waiting, 1), Err(Errno::ECONNRESET));
    assert_eq!(world.connect(Kind::Stream, "@server", true).err(), Some(Errno::ECONNREFUSED));
}

#[test]
fn accept_waits_for_connect_and_connect_for_room() {
    let world = World::new();
    let listener = world.listener(Kind::Stream, "@busy", 0);
    let server = {
        let listener = listener.clone();
        thread::spawn(move || {
            for _ in 0..8 {
                let socket = listener.accept(&Options::default(), false).unwrap();
                thread::sleep(Duration::from_millis(1));
                socket.release();
            }
        })
    };
    let clients: Vec<_> = (0..8).map(|_| world.connect(Kind::Stream, "@busy", false).unwrap()).collect();
    server.join().unwrap();
    for client in clients {
        assert_eq!(receive_with(&client, 1, MessageFlags::empty(), true).unwrap().0, b"");
    }
}

#[test]
fn paths_are_socket_files() {
    let world = World::new();
    let listener = world.listener(Kind::Seqpacket, "/sock", 5);
    let other = Endpoint::new(Kind::Stream).unwrap();
    assert_eq!(other.bind(&world.ctx(), &addr("/sock")), Err(Errno::EADDRINUSE));
    assert_eq!(other.bind(&world.ctx(), &addr("/none/sock")), Err(Errno::ENOENT));
    let client = world.connect(Kind::Seqpacket, "/sock", true).unwrap();
    send(&client, b"ab").unwrap();
    send(&client, b"cd").unwrap();
    let server = listener.accept(&Options::default(), true).unwrap();
    let mut bytes = [0; 8];
    let got =
        server.receive(&mut IovIter::dest(&mut bytes), MessageFlags::empty(), true, &Options::default());
    assert_eq!(got.map(|received| received.len), Ok(2));
    listener.release();
    // The file stays, but nobody is behind it.
    assert_eq!(world.connect(Kind::Seqpacket, "/sock", true).err(), Some(Errno::ECONNREFUSED));
}

#[test]
fn a_connected_datagram_socket_hears_its_peer_only() {
    let world = World::new();
    let bound = |name: &str| {
        let socket = Endpoint::new(Kind::Dgram).unwrap();
        socket.bind(&world.ctx(), &addr(name)).unwrap();
        socket
    };
    let (a, b, c) = (bound("@a"), bound("@b"), bound("@c"));
    let to = |from: &Arc<Endpoint>, name: &str| {
        let message = SendMessage {
            to: Some(addr(name)),
            control: Vec::new(),
            flags: MessageFlags::empty(),
            nonblock: true,
        };
        from.send(Some(&world.ctx()), &mut IovIter::source(b"x"), message, &Options::default())
    };
    assert_eq!(to(&a, "@b"), Ok(1));
    let (_, received) = receive_with(&b, 4, MessageFlags::empty(), false).unwrap();
    assert_eq!(received.from.map(|from| from.bytes().to_vec()), Some(addr("@a").bytes().to_vec()));
    b.clone().connect(&world.ctx(), &addr("@a"), &Options::default(), true).unwrap();
    assert_eq!(to(&a, "@b"), Ok(1));
    assert_eq!(to(&c, "@b"), Err(Errno::EPERM));
    assert_eq!(c.clone().connect(&world.ctx(), &addr("@b"), &Options::default(), true), Err(Errno::EPERM));
}

#[test]
fn files_travel_with_their_byte() {
    let (a, b) = pair(Kind::Stream);
    send(&a, b"before").unwrap();
    send_with(&a, b"with", vec![Control::Rights(vec![some_file(), some_file()])], true).unwrap();
    send(&a, b"after").unwrap();
    // A read stops behind the message that carries files.
    let (bytes, received) = receive_with(&b, 64, MessageFlags::empty(), false).unwrap();
    assert_eq!(bytes, b"beforewith");
    assert!(matches!(&received.control[..], [Control::Rights(files)] if files.len() == 2));
    assert_eq!(receive(&b, 64).unwrap(), b"after");
}

#[test]
fn automatic_names_differ() {
    let world = World::new();
    let names: Vec<_> = (0..3)
        .map(|_| {
            let socket = Endpoint::new(Kind::Dgram).unwrap();
            socket.bind(&world.ctx(), &addr("")).unwrap();
            (socket.local_name().unwrap().bytes().to_vec(), socket)
        })
        .collect();
    assert!(names.iter().all(|(name, _)| name.len() == 8 && name[2] == 0));
    assert!(names[0].0 != names[1].0 && names[1].0 != names[2].0);
}

#[test]
fn the_listing_shows_kind_state_and_name() {
    let world = World::new();
    let listener = world.listener(Kind::Stream, "@listed", 1);
    listener.set_ino(4711);
    let mut out = std::string::String::new();
    crate::show(&mut out).unwrap();
    let row = out.lines().find(|row| row.contains("@listed")).unwrap().to_string();
    assert_eq!(row, "0000000000000000: 00000002 00000000 00010000 0001 01  4711 @listed");
    listener.release();
    out.clear();
    crate::show(&mut out).unwrap();
    assert!(!out.contains("@listed"));
}
