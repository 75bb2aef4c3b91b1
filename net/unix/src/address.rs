//! Names of unix sockets.
//!
//! A path name is an inode of type socket; the endpoint bound to it is found by the inode's
//! identity. An abstract name (first byte NUL) is any bytes; each type of socket has its own, in one map. Both maps
//! hold weak references: closing the socket frees the name, while a path stays until unlinked.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result, raw_sys::net};
use arch::sync::SpinLock;
use socket::{Kind, SocketAddr};
use vfs::inode::Inode;

use crate::endpoint::Endpoint;
use mm::fallible::{SortedMap, try_arc_slice, try_format};

/// Bytes of `sun_path`.
const PATH_BYTES: usize = 108;

/// What a `struct sockaddr_un` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `bind(2)` shall choose an abstract name; in `connect`, invalid.
    Unnamed,
    /// A path without its NUL.
    Path(Arc<[u8]>),
    /// Bytes after the leading NUL.
    Abstract(Arc<[u8]>),
}

impl Name {
    /// Parses an address.
    ///
    /// # Errors
    /// `EINVAL` for another family or a bad length.
    pub fn parse(addr: &SocketAddr) -> Result<Self> {
        if addr.family() != Some(net::AF_UNIX as u16) {
            return Err(Errno::EINVAL);
        }
        let path = addr.bytes().get(2..).unwrap_or_default();
        if path.len() > PATH_BYTES {
            return Err(Errno::EINVAL);
        }
        Ok(match path.split_first() {
            None => Self::Unnamed,
            Some((0, rest)) => Self::Abstract(copy(rest)?),
            Some(_) => {
                let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                Self::Path(copy(&path[..end])?)
            }
        })
    }

    /// The address as users see it.
    pub fn to_addr(&self) -> Result<SocketAddr> {
        let mut bytes = [0; 2 + PATH_BYTES + 1];
        let (family, rest) = bytes.split_at_mut(2);
        family.copy_from_slice(&(net::AF_UNIX as u16).to_ne_bytes());
        // A path ends in a NUL, an abstract name begins with one.
        let (at, name, len) = match self {
            Self::Unnamed => (0, &[][..], 0),
            Self::Path(path) => (0, &**path, path.len() + 1),
            Self::Abstract(name) => (1, &**name, name.len() + 1),
        };
        rest.get_mut(at..at + name.len()).ok_or(Errno::EINVAL)?.copy_from_slice(name);
        SocketAddr::new(bytes.get(..2 + len).ok_or(Errno::EINVAL)?)
    }
}

fn copy(bytes: &[u8]) -> Result<Arc<[u8]>> {
    Ok(try_arc_slice(bytes)?)
}

struct Names {
    by_name: SortedMap<(i32, Arc<[u8]>), Weak<Endpoint>>,
    by_inode: SortedMap<usize, Weak<Endpoint>>,
    next_auto: u32,
}

static NAMES: SpinLock<Names> =
    SpinLock::new(Names { by_name: SortedMap::new(), by_inode: SortedMap::new(), next_auto: 0 });

fn key(inode: &Arc<Inode>) -> usize {
    Arc::as_ptr(inode).addr()
}

/// Binds `endpoint` to an abstract name.
///
/// # Errors
/// `EADDRINUSE`, `ENOMEM`.
pub fn bind_abstract(name: Arc<[u8]>, endpoint: &Arc<Endpoint>) -> Result<()> {
    let name = (endpoint.kind as i32, name);
    let mut names = NAMES.lock();
    if names.by_name.get(&name).is_some_and(|other| other.strong_count() > 0) {
        return Err(Errno::EADDRINUSE);
    }
    names.by_name.try_insert(name, Arc::downgrade(endpoint))?;
    Ok(())
}

/// Binds `endpoint` to a free name of five hexadecimal digits, as an empty address asks for.
///
/// # Errors
/// `ENOSPC` when all are taken, `ENOMEM`.
pub fn bind_auto(endpoint: &Arc<Endpoint>) -> Result<Arc<[u8]>> {
    const COUNT: u32 = 1 << 20;
    for _ in 0..COUNT {
        let mut names = NAMES.lock();
        let number = names.next_auto;
        names.next_auto = (number + 1) % COUNT;
        drop(names);
        let name = copy(try_format(format_args!("{number:05x}"))?.as_bytes())?;
        match bind_abstract(name.clone(), endpoint) {
            Ok(()) => return Ok(name),
            Err(Errno::EADDRINUSE) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ENOSPC)
}

/// Binds `endpoint` to the socket inode of a path.
///
/// # Errors
/// `ENOMEM`.
pub fn bind_inode(inode: &Arc<Inode>, endpoint: &Arc<Endpoint>) -> Result<()> {
    // The socket has its place in the file system already.
    let _no_fail = mm::context::NoFailScope::enter();
    NAMES.lock().by_inode.try_insert(key(inode), Arc::downgrade(endpoint))?;
    Ok(())
}

/// The endpoint of type `kind` with an abstract name.
///
/// # Errors
/// `ECONNREFUSED`.
pub fn find_abstract(kind: Kind, name: &Arc<[u8]>) -> Result<Arc<Endpoint>> {
    let name = (kind as i32, name.clone());
    NAMES.lock().by_name.get(&name).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)
}

/// The endpoint bound to a socket inode.
///
/// # Errors
/// `ECONNREFUSED`.
pub fn find_inode(inode: &Arc<Inode>) -> Result<Arc<Endpoint>> {
    NAMES.lock().by_inode.get(&key(inode)).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)
}

/// The endpoint is closed: its names are free. An accepted socket shows its listener's name but does not own it.
pub fn release(endpoint: &Endpoint, name: &Name, inode: Option<&Arc<Inode>>) {
    let owned =
        |owner: Option<&Weak<Endpoint>>| owner.is_some_and(|owner| core::ptr::eq(owner.as_ptr(), endpoint));
    let mut names = NAMES.lock();
    if let Name::Abstract(name) = name {
        let name = (endpoint.kind as i32, name.clone());
        if owned(names.by_name.get(&name)) {
            names.by_name.remove(&name);
        }
    }
    if let Some(inode) = inode
        && owned(names.by_inode.get(&key(inode)))
    {
        names.by_inode.remove(&key(inode));
    }
}

/// Every socket that has a descriptor, for `/proc/net/unix`, by address.
static ALL: SpinLock<SortedMap<usize, Weak<Endpoint>>> = SpinLock::new(SortedMap::new());

/// Adds a socket to the listing.
/// Without memory it works all the same and is not shown.
pub fn list(endpoint: &Weak<Endpoint>) {
    let _ = ALL.lock().try_insert(endpoint.as_ptr().addr(), endpoint.clone());
}

/// Takes a socket that closes off the listing.
pub fn unlist(endpoint: &Endpoint) {
    let gone = ALL.lock().remove(&core::ptr::from_ref(endpoint).addr());
    drop(gone);
}

/// The listed socket with an address above `after`.
pub fn next_listed(after: usize) -> Option<(usize, Arc<Endpoint>)> {
    let all = ALL.lock();
    all.range_from(&after.checked_add(1)?).find_map(|(at, endpoint)| Some((*at, endpoint.upgrade()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(path: &[u8]) -> SocketAddr {
        let mut bytes = (net::AF_UNIX as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(path);
        SocketAddr::new(&bytes).unwrap()
    }

    #[test]
    fn names_are_parsed_as_unix_7_says() {
        assert_eq!(Name::parse(&addr(b"")).unwrap(), Name::Unnamed);
        assert_eq!(Name::parse(&addr(b"/tmp/s\0junk")).unwrap(), Name::Path(b"/tmp/s".as_slice().into()));
        assert_eq!(Name::parse(&addr(b"\0a\0b")).unwrap(), Name::Abstract(b"a\0b".as_slice().into()));
        assert!(Name::parse(&SocketAddr::new(&[2, 0, 1]).unwrap()).is_err());
        assert!(Name::parse(&SocketAddr::new(&[1]).unwrap()).is_err());
    }

    #[test]
    fn a_name_survives_the_way_back() {
        for path in [&b"/run/x"[..], b"\0abstract"] {
            let name = Name::parse(&addr(path)).unwrap();
            assert_eq!(Name::parse(&name.to_addr().unwrap()).unwrap(), name);
        }
    }
}
