//! Random sequences of system calls, accesses and forks against a model that keeps one word per page.

use super::*;
use abi::raw::{MADV_DONTNEED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ, PROT_WRITE};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A window of 64 pages across a table boundary.
const BASE: usize = (0x1234 << 21) - 32 * PAGE_SIZE;
const PAGES: usize = 64;

#[derive(Clone, Debug)]
enum Op {
    Map { at: usize, len: usize, prot: u32, shared: bool },
    Unmap { at: usize, len: usize },
    Protect { at: usize, len: usize, prot: u32 },
    Move { from: usize, to: usize, len: usize, new_len: usize },
    Grow { at: usize, len: usize, new_len: usize },
    DontNeed { at: usize, len: usize },
    Lock { at: usize, len: usize, on: bool },
    Store { who: usize, at: usize, value: u64 },
    Load { who: usize, at: usize },
    Fork { who: usize },
    Exit { who: usize },
}

fn prot() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(PROT_NONE), 1 => Just(PROT_READ), 4 => Just(PROT_READ | PROT_WRITE)]
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..PAGES;
    let len = 1..12usize;
    let who = 0..4usize;
    prop_oneof![
        4 => (at.clone(), len.clone(), prot(), any::<bool>()).prop_map(|(at, len, prot, shared)| Op::Map { at, len, prot, shared }),
        2 => (at.clone(), len.clone()).prop_map(|(at, len)| Op::Unmap { at, len }),
        2 => (at.clone(), len.clone(), prot()).prop_map(|(at, len, prot)| Op::Protect { at, len, prot }),
        2 => (at.clone(), at.clone(), len.clone(), len.clone()).prop_map(|(from, to, len, new_len)| Op::Move { from, to, len, new_len }),
        1 => (at.clone(), len.clone(), len.clone()).prop_map(|(at, len, new_len)| Op::Grow { at, len, new_len }),
        1 => (at.clone(), len.clone()).prop_map(|(at, len)| Op::DontNeed { at, len }),
        1 => (at.clone(), len.clone(), any::<bool>()).prop_map(|(at, len, on)| Op::Lock { at, len, on }),
        12 => (who.clone(), at.clone(), any::<u64>()).prop_map(|(who, at, value)| Op::Store { who, at, value }),
        8 => (who.clone(), at.clone()).prop_map(|(who, at)| Op::Load { who, at }),
        1 => who.clone().prop_map(|who| Op::Fork { who }),
        1 => who.prop_map(|who| Op::Exit { who }),
    ]
}

/// A shared object: words by page index.
type Object = Rc<RefCell<BTreeMap<usize, u64>>>;

#[derive(Clone)]
enum Content {
    Private(u64),
    Shared(Object, usize),
}

#[derive(Clone)]
struct PageModel {
    prot: u32,
    locked: bool,
    content: Content,
    /// The area the page came from: mremap wants one area.
    area: Rc<()>,
}

#[derive(Clone, Default)]
struct ProcessModel {
    pages: BTreeMap<usize, PageModel>,
}

fn addr(page: usize) -> usize {
    BASE + page * PAGE_SIZE
}

struct Process {
    space: Arc<AddressSpace>,
    model: ProcessModel,
}

impl Process {
    fn check(&self) {
        for page in 0..PAGES + 16 {
            let found = load(&self.space, addr(page));
            match self.model.pages.get(&page) {
                None => assert_eq!(found, Err(FaultError::NotMapped), "page {page}"),
                Some(m) if m.prot == PROT_NONE => {
                    assert_eq!(found, Err(FaultError::Forbidden), "page {page}")
                }
                Some(m) => assert_eq!(found, Ok(value(m)), "page {page}"),
            }
        }
        assert_eq!(self.space.counters().total_vm(), self.model.pages.len());
        assert_eq!(self.space.counters().locked_vm(), self.model.pages.values().filter(|p| p.locked).count());
        // Neighbouring areas that could be one, are.
        let mut last: Option<(usize, VmFlagsAndName)> = None;
        self.space.for_each_area(0, &mut |area| {
            let range = area.range();
            assert!(last.as_ref().is_none_or(|(end, _)| *end <= range.start));
            last = Some((range.end, area.flags().bits()));
            true
        });
    }
}

type VmFlagsAndName = u64;

fn value(page: &PageModel) -> u64 {
    match &page.content {
        Content::Private(v) => *v,
        Content::Shared(object, index) => object.borrow().get(index).copied().unwrap_or(0),
    }
}

fn apply(processes: &mut Vec<Process>, op: &Op) {
    let count = processes.len();
    match *op {
        Op::Map { at, len, prot, shared } => {
            let p = &mut processes[0];
            map_fixed(&p.space, addr(at), len, prot, shared);
            let object = Object::default();
            let area = Rc::new(());
            for page in at..at + len {
                let content =
                    if shared { Content::Shared(object.clone(), page - at) } else { Content::Private(0) };
                p.model.pages.insert(page, PageModel { prot, locked: false, content, area: area.clone() });
            }
        }
        Op::Unmap { at, len } => {
            let p = &mut processes[0];
            p.space.munmap(addr(at), len * PAGE_SIZE).unwrap();
            p.model.pages.retain(|page, _| !(at..at + len).contains(page));
        }
        Op::Protect { at, len, prot } => {
            let p = &mut processes[0];
            let result = p.space.mprotect(addr(at), len * PAGE_SIZE, prot, &Limits::NONE);
            let mut whole = true;
            for page in at..at + len {
                match p.model.pages.get_mut(&page) {
                    Some(m) if whole => m.prot = prot,
                    _ => whole = false,
                }
            }
            assert_eq!(result.is_ok(), whole);
        }
        Op::Move { from, to, len, new_len } => {
            let p = &mut processes[0];
            // The model knows only moves of one area (merged areas are a superset).
            let one = (from..from + len).all(|page| {
                let first = p.model.pages.get(&from);
                p.model.pages.get(&page).is_some_and(|m| {
                    first.is_some_and(|f| {
                        Rc::ptr_eq(&f.area, &m.area) && f.prot == m.prot && f.locked == m.locked
                    })
                })
            });
            let apart = from + len <= to || to + new_len <= from;
            if !one || !apart {
                return;
            }
            let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
            let result = p.space.mremap(
                addr(from),
                len * PAGE_SIZE,
                new_len * PAGE_SIZE,
                flags,
                addr(to),
                &Limits::NONE,
            );
            assert_eq!(result, Ok(addr(to)));
            p.model.pages.retain(|page, _| !(to..to + new_len).contains(page));
            let old: Vec<_> = (from..from + len).map(|page| p.model.pages.remove(&page).unwrap()).collect();
            for number in 0..new_len {
                let mut page = old.get(number).unwrap_or(&old[0]).clone();
                if number >= len {
                    page.content = match &old[0].content {
                        Content::Private(_) => Content::Private(0),
                        // Behind the end of the object: SIGBUS. Not modelled: shrink instead.
                        Content::Shared(object, first) => Content::Shared(object.clone(), first + number),
                    };
                }
                p.model.pages.insert(to + number, page);
            }
        }
        Op::Grow { at, len, new_len } => {
            let p = &mut processes[0];
            let Some(first) = p.model.pages.get(&at).cloned() else { return };
            if !(at..at + len).all(|page| {
                p.model.pages.get(&page).is_some_and(|m| {
                    Rc::ptr_eq(&m.area, &first.area) && m.prot == first.prot && m.locked == first.locked
                })
            }) || matches!(first.content, Content::Shared(..))
            {
                return;
            }
            let result = p.space.mremap(addr(at), len * PAGE_SIZE, new_len * PAGE_SIZE, 0, 0, &Limits::NONE);
            if result.is_ok() {
                for page in at + new_len..at + len {
                    p.model.pages.remove(&page);
                }
                for page in at + len..at + new_len {
                    assert!(!p.model.pages.contains_key(&page));
                    p.model.pages.insert(page, PageModel { content: Content::Private(0), ..first.clone() });
                }
            }
        }
        Op::DontNeed { at, len } => {
            let p = &mut processes[0];
            let locked = (at..at + len).any(|page| p.model.pages.get(&page).is_some_and(|m| m.locked));
            if locked {
                return;
            }
            let _ = p.space.madvise(addr(at), len * PAGE_SIZE, MADV_DONTNEED);
            for page in at..at + len {
                if let Some(PageModel { content: Content::Private(v), .. }) = p.model.pages.get_mut(&page) {
                    *v = 0;
                }
            }
        }
        Op::Lock { at, len, on } => {
            let p = &mut processes[0];
            let result = if on {
                p.space.mlock(addr(at), len * PAGE_SIZE, 0, &Limits::NONE)
            } else {
                p.space.munlock(addr(at), len * PAGE_SIZE)
            };
            let mut whole = true;
            let mut readable = true;
            for page in at..at + len {
                match p.model.pages.get_mut(&page) {
                    Some(m) if whole => {
                        m.locked = on;
                        readable &= m.prot != PROT_NONE;
                    }
                    _ => whole = false,
                }
            }
            assert_eq!(result.is_ok(), whole && (readable || !on));
        }
        Op::Store { who, at, value } => {
            let p = &mut processes[who % count];
            let result = store(&p.space, addr(at), value);
            match p.model.pages.get_mut(&at) {
                None => assert_eq!(result, Err(FaultError::NotMapped)),
                Some(m) if m.prot & PROT_WRITE == 0 => assert_eq!(result, Err(FaultError::Forbidden)),
                Some(m) => {
                    assert_eq!(result, Ok(()));
                    match &mut m.content {
                        Content::Private(v) => *v = value,
                        Content::Shared(object, index) => {
                            object.borrow_mut().insert(*index, value);
                        }
                    }
                }
            }
        }
        Op::Load { who, at } => {
            let p = &processes[who % count];
            let found = load(&p.space, addr(at));
            match p.model.pages.get(&at) {
                None => assert_eq!(found, Err(FaultError::NotMapped)),
                Some(m) if m.prot == PROT_NONE => assert_eq!(found, Err(FaultError::Forbidden)),
                Some(m) => assert_eq!(found, Ok(value(m))),
            }
        }
        Op::Fork { who } => {
            if count < 4 {
                let p = &processes[who % count];
                let mut model = p.model.clone();
                model.pages.values_mut().for_each(|m| m.locked = false);
                let child = Process { space: p.space.fork().unwrap(), model };
                processes.push(child);
            }
        }
        Op::Exit { who } => {
            if count > 1 {
                let gone = processes.swap_remove(who % count);
                drop(gone);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 192 }))]

    #[test]
    fn behaves_like_the_model(ops in prop::collection::vec(op(), 1..120)) {
        let _serial = super::serial();
        let mut processes = vec![Process { space: space(), model: ProcessModel::default() }];
        for op in &ops {
            // Growing a shared area beyond its object means SIGBUS there, which the model does not know.
            if let Op::Move { len, new_len, .. } = op && new_len > len {
                continue;
            }
            apply(&mut processes, op);
        }
        for process in &processes {
            process.check();
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    let _serial = super::serial();
    let warm = space();
    drop(warm);
    let before = (crate::overcommit::committed(), crate::stats::item(crate::stats::Item::PageTables));
    {
        let parent = space();
        map_fixed(&parent, BASE, 40, PROT_READ | PROT_WRITE, false);
        for page in 0..40 {
            store(&parent, addr(page), page as u64).unwrap();
        }
        let child = parent.fork().unwrap();
        assert_eq!(child.counters().anon(), 40);
        store(&child, addr(3), 99).unwrap();
        assert_eq!(load(&parent, addr(3)), Ok(3));
        assert_eq!(load(&child, addr(3)), Ok(99));
        let grandchild = child.fork().unwrap();
        drop(child);
        store(&grandchild, addr(3), 7).unwrap();
        assert_eq!(load(&grandchild, addr(4)), Ok(4));
        drop(parent);
        for page in 4..40 {
            assert_eq!(load(&grandchild, addr(page)), Ok(page as u64));
            store(&grandchild, addr(page), 1).unwrap();
        }
    }
    assert_eq!(before, (crate::overcommit::committed(), crate::stats::item(crate::stats::Item::PageTables)));
}

#[test]
fn global_counters_return_to_where_they_were() {
    use crate::stats::{Item, item};
    let _serial = super::serial();
    drop(space());
    let numbers = || [Item::AnonPages, Item::FileMapped, Item::FilePages, Item::Shmem].map(item);
    let before = numbers();
    let s = space();
    map_fixed(&s, BASE, 8, PROT_READ | PROT_WRITE, true);
    map_fixed(&s, BASE + 8 * PAGE_SIZE, 8, PROT_READ | PROT_WRITE, false);
    for page in 0..16 {
        store(&s, addr(page), 1).unwrap();
    }
    let child = s.fork().unwrap();
    load(&child, addr(0)).unwrap();
    store(&child, addr(9), 1).unwrap();
    let now = numbers();
    assert_eq!([0, 1, 2, 3].map(|i| now[i] - before[i]), [9, 8, 8, 8]);
    drop((s, child));
    assert_eq!(numbers(), before);
}
