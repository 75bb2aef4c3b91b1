//! `net/`: the network stack of the process's network namespace. `proc_pid_net(5)`.
//!
//! Protocols that are not there yet print what Linux prints when nothing uses them: their heading.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use kernfs::{Context, Dir, Entry, Listing, Text, file_entry};
use vfs::types::FileType;

use super::{Class, Subject};
use mm::fallible::try_arc;

/// A heading, padded with blanks to a width.
struct Table {
    name: &'static str,
    mode: u32,
    heading: &'static str,
    width: usize,
}

const fn table(name: &'static str, heading: &'static str, width: usize) -> Table {
    Table { name, mode: 0o444, heading, width }
}

const ADDRESS6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

const TABLES: &[Table] = &[
    table(
        "dev",
        "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed",
        0,
    ),
    table(
        "route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
        127,
    ),
    table("arp", "IP address       HW type     Flags       HW address            Mask     Device", 0),
    table(
        "tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        149,
    ),
    table(
        "udp",
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops",
        127,
    ),
    table(
        "udplite",
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops",
        127,
    ),
    table(
        "raw",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops",
        0,
    ),
    table("unix", "Num       RefCount Protocol Flags    Type St Inode Path", 0),
    table("packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode", 0),
    table(
        "netlink",
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode",
        0,
    ),
    table("igmp", "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter", 0),
    table("tcp6", ADDRESS6, 0),
    table("udp6", ADDRESS6, 0),
    table("raw6", ADDRESS6, 0),
    table("if_inet6", "", 0),
    table("ipv6_route", "", 0),
    table("dev_mcast", "", 0),
    table("ptype", "Type Device      Function", 0),
    table("sockstat", "sockets: used 0", 0),
];

struct NetDir(Subject);

impl Dir for NetDir {
    fn lookup(&self, _: &Context<'_>, name: &[u8]) -> Result<Option<Entry>> {
        let found = TABLES.iter().enumerate().find(|(_, table)| table.name.as_bytes() == name);
        let Some((index, table)) = found else { return Ok(None) };
        file_entry(self.0.ino(Class::Net, index as u64), table.mode, |_, out| show(table, out)).map(Some)
    }

    fn list(&self, _: &Context<'_>, from: u64, emit: &mut Listing<'_>) -> Result<()> {
        for (index, table) in TABLES.iter().enumerate().skip(from as usize) {
            let index = index as u64;
            if !emit(table.name.as_bytes(), self.0.ino(Class::Net, index), FileType::Regular, index + 1) {
                break;
            }
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    fn is_volatile(&self) -> bool {
        true
    }
}

fn show(table: &Table, out: &mut Text) -> Result<()> {
    match table.name {
        "sockstat" => {
            writeln!(out, "sockets: used {}", crate::net::sockets_in_use()).map_err(|_| Errno::ENOMEM)
        }
        "unix" => {
            out.push(table.heading.as_bytes());
            out.push(b"\n");
            unix::show(out).map_err(|_| Errno::ENOMEM)
        }
        _ if table.heading.is_empty() => Ok(()),
        _ => writeln!(out, "{:<width$}", table.heading, width = table.width).map_err(|_| Errno::ENOMEM),
    }
}

/// `net/`.
pub(super) fn dir(subject: &Subject) -> Result<Arc<dyn Dir>> {
    Ok(try_arc(NetDir(subject.clone()))?)
}
