//! A machine with one tmpfs as its root, for tests on the host.
#![allow(dead_code, clippy::disallowed_methods, clippy::disallowed_macros)]

use std::sync::{Arc, Once};

use vfs::mount::{self, MountNamespace};
use vfs::{At, Credentials, File, FsStruct, LookupContext, OpenArgs, namei};

static INIT: Once = Once::new();

/// Root credentials, a namespace, root and working directory.
pub struct World {
    pub cred: Arc<Credentials>,
    pub ns: Arc<MountNamespace>,
    pub fs: FsStruct,
}

impl World {
    pub fn new() -> Self {
        INIT.call_once(|| {
            mm::testing::init();
            vfs::init(8192).unwrap();
            vfs::register_filesystem(&tmpfs::TMPFS).unwrap();
            vfs::register_filesystem(&tmpfs::devtmpfs::DEVTMPFS).unwrap();
        });
        let request = vfs::MountRequest {
            flags: 0,
            source: b"rootfs",
            device: None,
            options: b"",
            user_ns: vfs::UserNamespace::initial(),
            private: None,
        };
        let sb = vfs::FsType::mount(&tmpfs::ROOTFS, &request).unwrap();
        let mount = mount::kernel_mount(&sb, 0, b"rootfs").unwrap();
        let ns = mount::initial_namespace(&mount);
        let fs = FsStruct::new(mount.root_path()).unwrap();
        fs.set_umask(0o022);
        Self { cred: Credentials::kernel().clone(), ns, fs }
    }

    pub fn ctx(&self) -> LookupContext<'_> {
        LookupContext { cred: &self.cred, fs: &self.fs, ns: &self.ns }
    }

    /// As another user.
    pub fn as_user(&self, uid: u32, gid: u32) -> Arc<Credentials> {
        Arc::new(Credentials::user(abi::creds::Uid(uid), abi::creds::Gid(gid), &[]))
    }

    pub fn open(&self, name: &str, flags: u32) -> abi::Result<Arc<File>> {
        namei::open(&self.ctx(), At::Cwd, name.as_bytes(), &OpenArgs::from_open(flags, 0o644)?)
    }

    pub fn write(&self, name: &str, text: &str) -> abi::Result<()> {
        use abi::raw;
        let file = self.open(name, raw::O_WRONLY | raw::O_CREAT | raw::O_TRUNC)?;
        let mut pos = 0;
        vfs::rw::kernel_write(&file, text.as_bytes(), &mut pos)
    }

    pub fn read(&self, name: &str) -> abi::Result<String> {
        let file = self.open(name, 0)?;
        let mut text = Vec::new();
        let mut chunk = [0; 333];
        loop {
            let n = vfs::rw::read(&file, &mut mm::IovIter::dest(&mut chunk), 0)?;
            if n == 0 {
                return Ok(String::from_utf8(text).unwrap());
            }
            text.extend_from_slice(&chunk[..n]);
        }
    }

    pub fn mkdir(&self, name: &str) -> abi::Result<()> {
        namei::mkdir(&self.ctx(), At::Cwd, name.as_bytes(), 0o777).map(drop)
    }

    pub fn symlink(&self, target: &str, name: &str) -> abi::Result<()> {
        namei::symlink(&self.ctx(), target.as_bytes(), At::Cwd, name.as_bytes()).map(drop)
    }

    pub fn unlink(&self, name: &str) -> abi::Result<()> {
        namei::unlink(&self.ctx(), At::Cwd, name.as_bytes())
    }

    pub fn rmdir(&self, name: &str) -> abi::Result<()> {
        namei::rmdir(&self.ctx(), At::Cwd, name.as_bytes())
    }

    pub fn rename(&self, old: &str, new: &str, flags: u32) -> abi::Result<()> {
        namei::rename(&self.ctx(), At::Cwd, old.as_bytes(), At::Cwd, new.as_bytes(), flags)
    }

    pub fn link(&self, old: &str, new: &str) -> abi::Result<()> {
        namei::link(&self.ctx(), At::Cwd, old.as_bytes(), At::Cwd, new.as_bytes(), 0)
    }

    pub fn stat(&self, name: &str) -> abi::Result<vfs::Kstat> {
        vfs::stat::stat(&self.ctx(), At::Cwd, name.as_bytes(), 0, abi::raw::STATX_BASIC_STATS)
    }

    pub fn lstat(&self, name: &str) -> abi::Result<vfs::Kstat> {
        let flags = abi::raw::AT_SYMLINK_NOFOLLOW;
        vfs::stat::stat(&self.ctx(), At::Cwd, name.as_bytes(), flags, abi::raw::STATX_BASIC_STATS)
    }

    pub fn list(&self, name: &str) -> Vec<String> {
        let dir = self.open(name, abi::raw::O_DIRECTORY).unwrap();
        let mut names = Vec::new();
        vfs::dir::iterate_dir(&dir, &mut |entry: &vfs::dir::DirEntry<'_>| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        })
        .unwrap();
        names.retain(|n| n != "." && n != "..");
        names
    }

    pub fn mount(
        &self,
        source: &str,
        target: &str,
        kind: Option<&str>,
        flags: u32,
        options: &str,
    ) -> abi::Result<()> {
        mount::mount(
            &self.ctx(),
            source.as_bytes(),
            target.as_bytes(),
            kind.map(str::as_bytes),
            flags,
            options.as_bytes(),
            None,
        )
    }

    pub fn umount(&self, target: &str, flags: u32) -> abi::Result<()> {
        mount::umount(&self.ctx(), target.as_bytes(), flags)
    }
}
