//! What `/proc/PID/mounts`, `mountinfo` and `mountstats` contain. `proc_pid_mountinfo(5)`.

use alloc::sync::Arc;
use core::fmt::{self, Write};

use super::{Mount, MountNamespace, flags, propagate};
use crate::path::{Path, render};

/// Escapes blanks, tabs, newlines, backslashes and `#` as octal.
pub fn mangle(out: &mut dyn Write, text: &[u8]) -> fmt::Result {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                ' ' | '\t' | '\n' | '\\' | '#' => write!(out, "\\{:03o}", c as u32)?,
                _ => out.write_char(c)?,
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\{byte:03o}")?;
        }
    }
    Ok(())
}

fn show_type(out: &mut dyn Write, mount: &Mount) -> fmt::Result {
    mangle(out, mount.sb().fs_type().name().as_bytes())
}

fn show_devname(out: &mut dyn Write, mount: &Mount) -> fmt::Result {
    if let Some(result) = mount.sb().ops().show_devname(out) {
        return result;
    }
    match mount.devname() {
        b"" => out.write_str("none"),
        name => mangle(out, name),
    }
}

fn show_mnt_flags(out: &mut dyn Write, mount: &Mount) -> fmt::Result {
    let set = mount.flags();
    for (bit, text) in [
        (flags::NOSUID, ",nosuid"),
        (flags::NODEV, ",nodev"),
        (flags::NOEXEC, ",noexec"),
        (flags::NOATIME, ",noatime"),
        (flags::NODIRATIME, ",nodiratime"),
        (flags::RELATIME, ",relatime"),
        (flags::NOSYMFOLLOW, ",nosymfollow"),
    ] {
        if set & bit != 0 {
            out.write_str(text)?;
        }
    }
    Ok(())
}

/// The mounts of `ns` that can be reached from `root`, with their names.
fn visible(
    ns: &Arc<MountNamespace>,
    root: &Path,
    mut f: impl FnMut(&Arc<Mount>, &[u8]) -> fmt::Result,
) -> fmt::Result {
    let mut all = ns.mounts();
    all.sort_by_key(|mount| mount.unique_id());
    for mount in &all {
        let Ok(name) = render(&mount.root_path(), Some(root)) else { continue };
        if name.first() == Some(&b'/') {
            f(mount, &name)?;
        }
    }
    Ok(())
}

/// `/proc/PID/mounts`.
pub fn show_mounts(ns: &Arc<MountNamespace>, root: &Path, out: &mut dyn Write) -> fmt::Result {
    visible(ns, root, |mount, name| {
        let sb = mount.sb();
        show_devname(out, mount)?;
        out.write_char(' ')?;
        mangle(out, name)?;
        out.write_char(' ')?;
        show_type(out, mount)?;
        out.write_str(if mount.is_read_only() || sb.is_read_only() { " ro" } else { " rw" })?;
        sb.show_flags(out)?;
        show_mnt_flags(out, mount)?;
        sb.ops().show_options(sb, out)?;
        out.write_str(" 0 0\n")
    })
}

/// `/proc/PID/mountinfo`.
pub fn show_mountinfo(ns: &Arc<MountNamespace>, root: &Path, out: &mut dyn Write) -> fmt::Result {
    visible(ns, root, |mount, name| {
        let sb = mount.sb();
        let parent = mount.mountpoint().map_or(mount.id(), |at| at.mnt.id());
        write!(out, "{} {} {}:{} ", mount.id(), parent, sb.dev().major, sb.dev().minor)?;
        let inner = crate::path::within_super(mount.root()).map_err(|_| fmt::Error)?;
        mangle(out, &inner)?;
        out.write_char(' ')?;
        mangle(out, name)?;
        out.write_str(if mount.is_read_only() { " ro" } else { " rw" })?;
        show_mnt_flags(out, mount)?;
        let (group, master) = propagate::groups(mount);
        if group != 0 {
            write!(out, " shared:{group}")?;
        }
        if master != 0 {
            write!(out, " master:{master}")?;
            if let Some(from) = propagate::dominating_group(mount, root)
                && from != master
            {
                write!(out, " propagate_from:{from}")?;
            }
        }
        if mount.propagation.lock().unbindable {
            out.write_str(" unbindable")?;
        }
        out.write_str(" - ")?;
        show_type(out, mount)?;
        out.write_char(' ')?;
        show_devname(out, mount)?;
        out.write_str(if sb.is_read_only() { " ro" } else { " rw" })?;
        sb.show_flags(out)?;
        sb.ops().show_options(sb, out)?;
        out.write_char('\n')
    })
}

/// `/proc/PID/mountstats`.
pub fn show_mountstats(ns: &Arc<MountNamespace>, root: &Path, out: &mut dyn Write) -> fmt::Result {
    visible(ns, root, |mount, name| {
        if mount.devname().is_empty() {
            out.write_str("no device")?;
        } else {
            out.write_str("device ")?;
            show_devname(out, mount)?;
        }
        out.write_str(" mounted on ")?;
        mangle(out, name)?;
        out.write_str(" with fstype ")?;
        show_type(out, mount)?;
        out.write_char('\n')
    })
}

/// Escapes newlines only (`/proc/PID/maps`).
pub fn mangle_newlines(out: &mut dyn Write, text: &[u8]) -> fmt::Result {
    for chunk in text.utf8_chunks() {
        for (index, part) in chunk.valid().split('\n').enumerate() {
            if index > 0 {
                out.write_str("\\012")?;
            }
            out.write_str(part)?;
        }
        for byte in chunk.invalid() {
            write!(out, "\\{byte:03o}")?;
        }
    }
    Ok(())
}
