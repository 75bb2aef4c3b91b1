//! The initramfs archives that xtask makes: a busybox system, and overlays that run one command.

use crate::arch::Arch;
use crate::cpio::Archive;
use crate::{debian, paths};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The line on the console before the output of the command of `--exec`.
pub const EXEC_BEGIN: &str = "@@exec-begin";
/// The line after it, followed by the exit status.
pub const EXEC_END: &str = "@@exec-end ";

const INITTAB: &str = "\
::sysinit:/etc/init.d/rcS
::respawn:/bin/cttyhack /bin/sh -l
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/sync
";

/// Mounts and names that every guest system starts with.
const MOUNTS: &str = "\
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
mount -t tmpfs -o nosuid,nodev tmpfs /tmp
hostname karst
";

/// A busybox system without init: directories, applets, users.
pub fn busybox_root(arch: Arch) -> Result<Archive> {
    let busybox = debian::busybox(arch)?;
    let busybox = std::fs::read(&busybox).with_context(|| format!("read {}", busybox.display()))?;
    let mut archive = Archive::new();
    for path in ["bin", "dev", "etc", "etc/init.d", "home", "lib", "mnt", "proc", "sbin", "sys", "usr"] {
        archive.directory(path, 0o755);
    }
    for path in ["run", "usr/bin", "usr/sbin", "var", "var/log"] {
        archive.directory(path, 0o755);
    }
    archive.directory("root", 0o700).directory("tmp", 0o1777);
    archive.char_device("dev/console", 0o600, 5, 1).char_device("dev/null", 0o666, 1, 3);
    archive.file("bin/busybox", 0o755, &busybox).symlink("bin/sh", "busybox");
    archive.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    );
    archive.file("etc/group", 0o644, b"root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
    archive.file(
        "etc/profile",
        0o644,
        b"export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-vt102}\ncd\n",
    );
    Ok(archive)
}

/// The default system of `cargo xtask run`: busybox init, a shell with job control on the console.
pub fn shell(arch: Arch) -> Result<PathBuf> {
    let mut archive = busybox_root(arch)?;
    let setup = format!("#!/bin/sh\n/bin/busybox --install -s\n{MOUNTS}");
    archive
        .file("etc/inittab", 0o644, INITTAB.as_bytes())
        .file("etc/init.d/rcS", 0o755, setup.as_bytes())
        .symlink("init", "bin/busybox")
        .symlink("sbin/init", "../bin/busybox");
    write(arch, "shell.cpio", &archive.finish())
}

/// Appends to initramfs `base` an init that runs `command` and powers off.
///
/// The kernel unpacks concatenated archives one over the other; the new init is chosen with
/// `rdinit=/.karst/init`, which [`exec_append`] gives, so that it works over any initramfs.
pub fn exec(arch: Arch, base: &Path, command: &str) -> Result<PathBuf> {
    let mut bytes = std::fs::read(base).with_context(|| format!("read {}", base.display()))?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(exec_overlay(arch, command)?);
    write(arch, "exec.cpio", &bytes)
}

/// The archive that [`exec`] appends.
pub fn exec_overlay(arch: Arch, command: &str) -> Result<Vec<u8>> {
    let busybox = std::fs::read(debian::busybox(arch)?)?;
    let init = format!(
        "#!/.karst/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
b=/.karst/busybox
$b mkdir -p /bin /sbin /usr/bin /usr/sbin /proc /sys /dev /tmp /root
[ -e /bin/mount ] || $b --install -s
for a in mount mkdir hostname; do [ -e /bin/$a ] || $b ln -s $b /bin/$a; done
{MOUNTS}for m in /lib/modules/*.ko; do [ -e $m ] && $b insmod $m; done
$b stty -opost </dev/console
cd /root
echo {EXEC_BEGIN}
[ -e /bin/sh ] && sh=/bin/sh || sh=\"$b sh\"
$b setsid $sh -c \"$($b cat /.karst/command)\" </dev/null
echo \"{EXEC_END}$?\"
$b poweroff -f
"
    );
    let mut overlay = Archive::new();
    overlay
        .directory(".karst", 0o755)
        .file(".karst/busybox", 0o755, &busybox)
        .file(".karst/init", 0o755, init.as_bytes())
        .file(".karst/command", 0o644, command.as_bytes());
    Ok(overlay.finish())
}

/// Adds modules of the kernel, as [`debian::modules`] gives them, to be loaded in the order of their file names: by the guest tests' harness and by the
/// init of [`exec`].
pub fn add_modules(archive: &mut Archive, modules: &[(String, Vec<u8>)]) {
    if !modules.is_empty() {
        archive.directory("lib", 0o755).directory("lib/modules", 0o755);
    }
    for (index, (name, contents)) in modules.iter().enumerate() {
        archive.file(&format!("lib/modules/{index:02}-{name}.ko"), 0o644, contents);
    }
}

/// What the kernel command line needs for an archive made by [`exec`].
pub fn exec_append() -> &'static str {
    "rdinit=/.karst/init quiet loglevel=1"
}

/// Stores an archive among the outputs of `arch`.
pub fn write(arch: Arch, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = paths::output(arch)?.join(name);
    paths::write_if_changed(&path, bytes)?;
    Ok(path)
}
