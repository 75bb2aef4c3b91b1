//! Threads that fault, map, protect, fork and truncate at the same time.

use super::files::{map_file, memory_file};
use super::*;
use abi::raw::{PROT_READ, PROT_WRITE};
use core::sync::atomic::{AtomicBool, Ordering};

const AT: usize = 0x6200_0000_0000;
const RW: u32 = PROT_READ | PROT_WRITE;
const ROUNDS: u64 = if cfg!(miri) { 3 } else { 300 };

#[test]
fn faults_against_changes() {
    let _serial = super::serial();
    let s = space();
    map_fixed(&s, AT, 64, RW, false);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each thread owns 16 pages, which nobody unmaps: their contents must survive everything else.
        for thread in 0..3usize {
            let (s, stop) = (&s, &stop);
            scope.spawn(move || {
                let mut round = 0u64;
                while !stop.load(Ordering::Relaxed) || round < 10 {
                    round += 1;
                    for page in 0..16 {
                        let addr = AT + (thread * 16 + page) * PAGE_SIZE;
                        store_stable(s, addr, round + page as u64);
                    }
                    for page in 0..16 {
                        let addr = AT + (thread * 16 + page) * PAGE_SIZE;
                        assert_eq!(load_stable(s, addr), round + page as u64);
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            // The last 16 pages come and go; everything is protected and released; children look at snapshots.
            let addr = AT + 48 * PAGE_SIZE;
            s.munmap(addr, 16 * PAGE_SIZE).unwrap();
            map_fixed(&s, addr, 16, RW, round % 2 == 0);
            store(&s, addr, round).unwrap();
            s.mprotect(AT, 40 * PAGE_SIZE, PROT_READ, &Limits::NONE).unwrap();
            s.mprotect(AT, 40 * PAGE_SIZE, RW, &Limits::NONE).unwrap();
            if round % 8 == 0 {
                let child = s.fork().unwrap();
                let first = load(&child, AT).unwrap();
                std::thread::yield_now();
                assert_eq!(load(&child, AT), Ok(first));
                store(&child, AT, 1 << 60).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(s.counters().rss(), resident(&s));
}

/// The store of a processor whose TLB is flushed by whoever changes the tables: under the table lock.
fn store_stable(s: &AddressSpace, addr: usize, value: u64) {
    with_entry(s, addr, Access::Write, |ptr| {
        // SAFETY: the table's lock is held, the entry allows stores.
        unsafe { ptr.cast::<u64>().write(value) };
    });
}

fn load_stable(s: &AddressSpace, addr: usize) -> u64 {
    let mut value = 0;
    with_entry(s, addr, Access::Read, |ptr| {
        // SAFETY: the table's lock is held, the entry allows loads.
        value = unsafe { ptr.cast::<u64>().read() };
    });
    value
}

fn with_entry(s: &AddressSpace, addr: usize, how: Access, f: impl FnOnce(*mut u8)) {
    loop {
        if let Some(table) = s.pgd().table(addr) {
            let table = table.lock();
            let cell = table.cell(addr);
            let pte = cell.load();
            let ok = pte.is_present() && !pte.is_prot_none() && (how == Access::Read || pte.is_writable());
            if ok {
                if how == Access::Write {
                    cell.store(pte.with_dirty(true));
                }
                f(phys_to_virt(pte.pfn().addr()));
                return;
            }
        }
        // The protection changes all the time: a refusal is not final.
        let _ = s.handle_fault(addr, how, Asker::Cpu, &|| Limits::NONE);
    }
}

fn resident(s: &AddressSpace) -> usize {
    let mut pages = 0;
    s.for_each_area(0, &mut |area| {
        pages += area.stats().rss / PAGE_SIZE;
        true
    });
    pages
}

#[test]
fn truncation_against_faults() {
    let _serial = super::serial();
    let s = space();
    let mapping = memory_file(16 * PAGE_SIZE as u64);
    map_file(&s, &mapping, AT, 16, RW, MAP_SHARED, true).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for page in 0..16 {
                        let _ = s
                            .handle_fault(AT + page * PAGE_SIZE, Access::Write, Asker::Cpu, &|| Limits::NONE);
                        let _ =
                            s.handle_fault(AT + page * PAGE_SIZE, Access::Read, Asker::Cpu, &|| Limits::NONE);
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            mapping.truncate((round % 16) * PAGE_SIZE as u64);
            mapping.truncate(16 * PAGE_SIZE as u64);
        }
        stop.store(true, Ordering::Relaxed);
    });
    mapping.truncate(0);
    assert_eq!((mapping.nr_pages(), s.counters().rss()), (0, 0));
    assert_eq!(load(&s, AT), Err(FaultError::Bus));
}
