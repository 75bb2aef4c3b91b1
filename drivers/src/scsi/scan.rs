//! Which units there are: each target is asked, then each of its units.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Result;
use mm::dma::{Coherent, Reach};
use mm::fallible::{TryVec, try_arc};

use super::disk::Disk;
use super::{Command, Host, Unit, inquiry, read};

/// Bytes of an answer at most.
pub const BUFFER: usize = 4096;
/// Bytes of the standard answer that are asked for.
const INQUIRY: usize = 36;

/// Looks for disks behind `host`. May sleep, and takes its time.
///
/// # Errors
/// `ENOMEM`.
pub fn scan(host: &Arc<dyn Host>) -> Result<Vec<Arc<Disk>>> {
    let can = host.can();
    let buffer = try_arc(Coherent::new(BUFFER, Reach::Full)?)?;
    let mut disks = Vec::new();
    for target in 0..=can.last_target {
        let first = Unit { target, lun: 0 };
        if ask(host, first, &buffer).is_none() {
            continue;
        }
        let mut luns: Vec<u16> = Vec::new();
        let mut list = [0; 1024];
        let command = Command::report_luns(list.len() as u32);
        match read(&**host, first, command, &buffer, &mut list) {
            Ok(len) => luns.try_extend(inquiry::luns(list.get(..len).unwrap_or(&[])))?,
            Err(_) => luns.try_push(0)?,
        }
        for lun in luns.into_iter().filter(|lun| *lun <= can.last_lun) {
            let unit = Unit { target, lun };
            let Some(answer) = ask(host, unit, &buffer) else { continue };
            log::info!(
                "scsi {}:{unit}: {} {} {} {}",
                host.number(),
                if answer.kind == inquiry::DISK { "Direct-Access" } else { "another kind" },
                answer.vendor,
                answer.product,
                answer.revision
            );
            if answer.qualifier != 0 || answer.kind != inquiry::DISK {
                continue;
            }
            match Disk::attach(host, unit, &answer, &buffer) {
                Ok(disk) => disks.try_push(disk)?,
                Err(error) => log::warn!("scsi {}:{unit}: {error}", host.number()),
            }
        }
    }
    Ok(disks)
}

/// What is there, if something is.
fn ask(host: &Arc<dyn Host>, unit: Unit, buffer: &Arc<Coherent<u8>>) -> Option<inquiry::Inquiry> {
    let mut data = [0; INQUIRY];
    let len = read(&**host, unit, Command::inquiry(INQUIRY as u16), buffer, &mut data).ok()?;
    let answer = inquiry::inquiry(data.get(..len)?).ok()?;
    // 3 with kind 31: there could be one, but there is not.
    (answer.qualifier != 3).then_some(answer)
}
