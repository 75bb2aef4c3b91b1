//! Memory policies and the nodes of memory: set_mempolicy(2), mbind(2), move_pages(2), numa(7).
//!
//! Run on a machine with one node and on one with two; what needs two is passed over on the first.

use crate::prelude::*;

tests![
    policy_of_thread,
    modes_and_masks,
    policy_is_inherited,
    get_mempolicy_flags,
    mbind_areas,
    mbind_errors,
    home_node,
    bound_memory,
    interleaved_memory,
    weighted_interleaving,
    preferred_memory,
    shared_objects_have_policies,
    move_pages_reports,
    move_pages_moves,
    mbind_moves,
    migrate_process,
    shared_pages_move,
    numa_maps,
    node_files,
];

const DEFAULT: u32 = 0;
const PREFERRED: u32 = 1;
const BIND: u32 = 2;
const INTERLEAVE: u32 = 3;
const LOCAL: u32 = 4;
const MANY: u32 = 5;
const WEIGHTED: u32 = 6;
const STATIC: u32 = 1 << 15;
const RELATIVE: u32 = 1 << 14;
const BALANCING: u32 = 1 << 13;
const F_NODE: u32 = 1;
const F_ADDR: u32 = 2;
const F_MEMS: u32 = 4;
const STRICT: u32 = 1;
const MOVE: u32 = 2;
const MOVE_ALL: u32 = 4;
const PAGE: usize = 4096;

fn set(mode: u32, nodes: u64) -> Result<(), Errno> {
    sys!(SYS_set_mempolicy, mode, addr(&nodes), 65).map(drop)
}

fn get(at: usize, flags: u32) -> Result<(u32, u64), Errno> {
    let (mut mode, mut nodes) = (0u32, [0u64; 16]);
    sys!(SYS_get_mempolicy, addr_mut(&mut mode), addr_mut(&mut nodes), 1024, at, flags)?;
    Ok((mode, nodes[0]))
}

fn bind(at: usize, len: usize, mode: u32, nodes: u64, flags: u32) -> Result<(), Errno> {
    sys!(SYS_mbind, at, len, mode, addr(&nodes), 65, flags).map(drop)
}

fn nodes() -> usize {
    let online = slurp(c"/sys/devices/system/node/online").unwrap_or_default();
    online.trim().rsplit('-').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0) + 1
}

/// The node of each page of a range.
fn places(at: usize, pages: usize) -> Result<Vec<i32>, Errno> {
    let list: Vec<usize> = (0..pages).map(|n| at + n * PAGE).collect();
    let mut status = vec![-1000i32; pages];
    sys!(SYS_move_pages, 0, pages, list.as_ptr(), 0, status.as_mut_ptr(), 0)?;
    Ok(status)
}

fn touch(at: usize, pages: usize) {
    for page in 0..pages {
        poke(at + page * PAGE, 1 + page as u8);
    }
}

fn on_node(at: usize, pages: usize, node: i32) -> Result<bool, Errno> {
    Ok(places(at, pages)?.iter().all(|n| *n == node))
}

fn policy_of_thread() -> Outcome {
    check_eq!(get(0, 0)?, (DEFAULT, 0));
    set(BIND, 1)?;
    check_eq!(get(0, 0)?, (BIND, 1));
    set(PREFERRED, 1)?;
    check_eq!(get(0, 0)?, (PREFERRED, 1));
    set(INTERLEAVE, 1)?;
    check_eq!(get(0, 0)?, (INTERLEAVE, 1));
    check_eq!(get(0, F_NODE)?.0, 0);
    set(WEIGHTED, 1)?;
    check_eq!(get(0, 0)?, (WEIGHTED, 1));
    check_eq!(get(0, F_NODE)?.0, 0);
    set(MANY, 1)?;
    check_eq!(get(0, 0)?, (MANY, 1));
    set(LOCAL, 0)?;
    check_eq!(get(0, 0)?, (LOCAL, 0));
    // Preferring no node is to prefer the local one.
    set(PREFERRED, 0)?;
    check_eq!(get(0, 0)?, (LOCAL, 0));
    set(BIND | STATIC, 1)?;
    check_eq!(get(0, 0)?, (BIND | STATIC, 1));
    set(INTERLEAVE | RELATIVE, 0b1001)?;
    check_eq!(get(0, 0)?, (INTERLEAVE | RELATIVE, 0b1001));
    set(BIND | BALANCING, 1)?;
    check_eq!(get(0, 0)?, (BIND | BALANCING, 1));
    set(MANY | BALANCING, 1)?;
    check_eq!(get(0, 0)?, (MANY | BALANCING, 1));
    set(DEFAULT, 0)?;
    check_eq!(get(0, 0)?, (DEFAULT, 0));
    sys!(SYS_set_mempolicy, DEFAULT, 0, 0)?;
    Ok(())
}

/// A node that is not there, but could be: Debian's kernels have room for 16 (arm64) and 1024.
const ABSENT: u64 = 1 << 9;

fn modes_and_masks() -> Outcome {
    check_err!(set(7, 1), EINVAL);
    check_err!(set(1 << 12, 1), EINVAL);
    check_err!(set(BIND | STATIC | RELATIVE, 1), EINVAL);
    check_err!(set(INTERLEAVE | BALANCING, 1), EINVAL);
    check_err!(set(PREFERRED | BALANCING, 1), EINVAL);
    check_err!(set(DEFAULT, 1), EINVAL);
    check_err!(set(LOCAL, 1), EINVAL);
    check_err!(set(LOCAL | STATIC, 0), EINVAL);
    check_err!(set(PREFERRED | STATIC, 0), EINVAL);
    for mode in [BIND, INTERLEAVE, MANY, WEIGHTED] {
        check_err!(set(mode, 0), EINVAL);
        // A node that is not there.
        check_err!(set(mode, ABSENT), EINVAL);
        set(mode, 1 | ABSENT)?;
        check_eq!(get(0, 0)?, (mode, 1));
    }
    set(BIND | STATIC, 1 | ABSENT)?;
    check_eq!(get(0, 0)?.1, 1 | ABSENT);
    let mut mask = [0u64; 17];
    (mask[0], mask[16]) = (1, 1);
    check_err!(sys!(SYS_set_mempolicy, BIND, 8, 65), EFAULT);
    // Bits from node 1024 on must be 0; fewer bits cut the mask.
    check_err!(sys!(SYS_set_mempolicy, BIND, addr(&mask), 1024 + 64 + 1), EINVAL);
    sys!(SYS_set_mempolicy, BIND, addr(&mask), 64 * 16 + 1)?;
    check_err!(sys!(SYS_set_mempolicy, BIND, addr(&mask), PAGE * 8 + 2), EINVAL);
    check_err!(sys!(SYS_set_mempolicy, BIND, addr(&mask), 0), EINVAL);
    check_err!(sys!(SYS_set_mempolicy, BIND, addr(&mask), 1), EINVAL);
    let wide = 0b10_0001u64;
    sys!(SYS_set_mempolicy, BIND | STATIC, addr(&wide), 5)?;
    check_eq!(get(0, 0)?.1, 1);
    Ok(())
}

fn policy_is_inherited() -> Outcome {
    set(BIND | STATIC, 1)?;
    let child = in_child(|| i32::from(get(0, 0) != Ok((BIND | STATIC, 1))))?;
    check_eq!(child, 0);
    let thread = std::thread::spawn(|| {
        let inherited = get(0, 0);
        let _ = set(PREFERRED, 1);
        inherited
    });
    check_eq!(thread.join().map_err(|_| Failure::new("thread"))??, (BIND | STATIC, 1));
    // It was the thread's own.
    check_eq!(get(0, 0)?, (BIND | STATIC, 1));
    let output = std::process::Command::new("/proc/self/exe").arg("helper:mempolicy").output()?;
    check_eq!(String::from_utf8_lossy(&output.stdout), format!("{}", BIND | STATIC));
    Ok(())
}

fn get_mempolicy_flags() -> Outcome {
    let all = (1u64 << nodes()) - 1;
    check_eq!(get(0, F_MEMS)?.1, all);
    check_err!(get(0, F_MEMS | F_NODE), EINVAL);
    check_err!(get(0, F_MEMS | F_ADDR), EINVAL);
    check_err!(get(0, 8), EINVAL);
    check_err!(get(PAGE, 0), EINVAL);
    check_err!(get(0, F_NODE), EINVAL);
    check_err!(get(PAGE, F_ADDR), EFAULT);
    let at = map_anon(2 * PAGE)?;
    check_eq!(get(at, F_ADDR)?, (DEFAULT, 0));
    // Looking brings the page in.
    let mut resident = [0u8; 1];
    sys!(SYS_mincore, at, PAGE, resident.as_mut_ptr())?;
    check_eq!(resident[0] & 1, 0);
    check!((get(at, F_ADDR | F_NODE)?.0 as usize) < nodes());
    sys!(SYS_mincore, at, PAGE, resident.as_mut_ptr())?;
    check_eq!(resident[0] & 1, 1);
    set(BIND, 1)?;
    // The area has none of its own.
    check_eq!(get(at, F_ADDR)?, (DEFAULT, 0));
    check_err!(get(0, F_NODE), EINVAL);
    let (mut mode, mut mask) = (0u32, [u64::MAX; 3]);
    check_err!(sys!(SYS_get_mempolicy, addr_mut(&mut mode), addr_mut(&mut mask), 0, 0, 0), EINVAL);
    check_err!(sys!(SYS_get_mempolicy, 8, 0, 0, 0, 0), EFAULT);
    check_err!(sys!(SYS_get_mempolicy, 0, 8, 64, 0, 0), EFAULT);
    sys!(SYS_get_mempolicy, 0, 0, 0, 0, 0)?;
    // As many words as the count covers are written.
    sys!(SYS_get_mempolicy, 0, addr_mut(&mut mask), 129, 0, 0)?;
    check_eq!(mask, [1, 0, u64::MAX]);
    Ok(())
}

fn areas(from: usize, len: usize) -> usize {
    let maps = slurp(c"/proc/self/maps").unwrap_or_default();
    let starts = maps.lines().filter_map(|l| usize::from_str_radix(l.split('-').next()?, 16).ok());
    starts.filter(|start| (from..from + len).contains(start)).count()
}

fn mbind_areas() -> Outcome {
    let at = map_anon(8 * PAGE)?;
    bind(at + 2 * PAGE, 2 * PAGE, BIND, 1, 0)?;
    check_eq!(get(at + PAGE, F_ADDR)?, (DEFAULT, 0));
    check_eq!(get(at + 2 * PAGE, F_ADDR)?, (BIND, 1));
    check_eq!(get(at + 3 * PAGE + 5, F_ADDR)?, (BIND, 1));
    check_eq!(get(at + 4 * PAGE, F_ADDR)?, (DEFAULT, 0));
    check_eq!(areas(at + 1, 8 * PAGE - 1), 2);
    bind(at + 4 * PAGE, 1, INTERLEAVE, 1, 0)?;
    check_eq!(get(at + 4 * PAGE, F_ADDR)?, (INTERLEAVE, 1));
    check_eq!(areas(at + 1, 8 * PAGE - 1), 3);
    // The same policy joins them.
    bind(at + 4 * PAGE, PAGE, BIND, 1, 0)?;
    check_eq!(areas(at + 1, 8 * PAGE - 1), 2);
    // A child has it as well.
    check_eq!(in_child(|| i32::from(get(at + 2 * PAGE, F_ADDR) != Ok((BIND, 1))))?, 0);
    // So has what was moved.
    let to = sys!(SYS_mremap, at + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE)?;
    check_eq!(get(to + PAGE, F_ADDR)?, (BIND, 1));
    bind(at + 3 * PAGE, 5 * PAGE, DEFAULT, 0, 0)?;
    check_eq!(get(at + 4 * PAGE, F_ADDR)?, (DEFAULT, 0));
    check_eq!(areas(at + 3 * PAGE + 1, 5 * PAGE - 1), 0);
    Ok(())
}

fn mbind_errors() -> Outcome {
    let at = map_anon(6 * PAGE)?;
    check_err!(bind(at + 1, PAGE, BIND, 1, 0), EINVAL);
    check_err!(bind(at, PAGE, BIND, 1, 8), EINVAL);
    check_err!(bind(at, PAGE, 7, 1, 0), EINVAL);
    check_err!(bind(at, PAGE, BIND, 0, 0), EINVAL);
    check_err!(bind(at, PAGE, DEFAULT, 1, 0), EINVAL);
    check_err!(bind(at, usize::MAX & !(PAGE - 1), BIND, 1, 0), EINVAL);
    bind(at, 0, BIND, 1, 0)?;
    check_err!(sys!(SYS_mbind, at, PAGE, BIND, 8, 64, 0), EFAULT);
    munmap(at + 2 * PAGE, PAGE)?;
    check_err!(bind(at, 6 * PAGE, BIND, 1, 0), EFAULT);
    check_err!(bind(at + 2 * PAGE, PAGE, BIND, 1, 0), EFAULT);
    check_err!(bind(at + 2 * PAGE, 2 * PAGE, BIND, 1, 0), EFAULT);
    check_err!(bind(at + 2 * PAGE, PAGE, DEFAULT, 0, 0), EFAULT);
    // The default may have holes.
    bind(at, 6 * PAGE, DEFAULT, 0, 0)?;
    let status = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(
            bind(at, PAGE, BIND, 1, MOVE_ALL) != Err(Errno(EPERM)) || bind(at, PAGE, BIND, 1, MOVE).is_err(),
        )
    })?;
    check_eq!(status, 0);
    Ok(())
}

fn home_node() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    let home = |at: usize, len: usize, node: usize, flags: usize| {
        sys!(SYS_set_mempolicy_home_node, at, len, node, flags)
    };
    check_err!(home(at, PAGE, 0, 0), ENOENT);
    bind(at, PAGE, BIND, 1, 0)?;
    bind(at + PAGE, PAGE, MANY, 1, 0)?;
    bind(at + 2 * PAGE, PAGE, PREFERRED, 1, 0)?;
    home(at, 2 * PAGE, 0, 0)?;
    check_eq!(get(at, F_ADDR)?, (BIND, 1));
    check_err!(home(at, 3 * PAGE, 0, 0), EOPNOTSUPP);
    check_err!(home(at, PAGE, 0, 1), EINVAL);
    check_err!(home(at, PAGE, 1000, 0), EINVAL);
    check_err!(home(at, PAGE, 1024, 0), EINVAL);
    check_err!(home(at + 1, PAGE, 0, 0), EINVAL);
    home(at, 0, 0, 0)?;
    if nodes() > 1 {
        // Both nodes are allowed: the home decides.
        bind(at, PAGE, BIND, 3, 0)?;
        home(at, PAGE, 1, 0)?;
        touch(at, 1);
        check!(on_node(at, 1, 1)?);
        bind(at + PAGE, PAGE, MANY, 3, 0)?;
        home(at + PAGE, PAGE, 1, 0)?;
        touch(at + PAGE, 1);
        check!(on_node(at + PAGE, 1, 1)?);
    }
    Ok(())
}

fn bound_memory() -> Outcome {
    for node in 0..nodes() {
        let at = map_anon(64 * PAGE)?;
        set(BIND, 1 << node)?;
        touch(at, 32);
        set(DEFAULT, 0)?;
        check!(on_node(at, 32, node as i32)?, "{:?}", places(at, 32)?);
        // An area's policy counts before the thread's.
        bind(at + 32 * PAGE, 32 * PAGE, BIND, 1 << node, 0)?;
        set(BIND, 1)?;
        touch(at + 32 * PAGE, 32);
        set(DEFAULT, 0)?;
        check!(on_node(at + 32 * PAGE, 32, node as i32)?);
        munmap(at, 64 * PAGE)?;
    }
    Ok(())
}

fn interleaved_memory() -> Outcome {
    let count = nodes();
    let all = (1u64 << count) - 1;
    let at = map_anon(64 * PAGE)?;
    bind(at, 64 * PAGE, INTERLEAVE, all, 0)?;
    touch(at, 64);
    let found = places(at, 64)?;
    for (first, next) in found.iter().zip(&found[1..]) {
        check_eq!(*next, (*first + 1) % count as i32);
    }
    // The thread's takes turns by address too.
    let other = map_anon(64 * PAGE)?;
    set(INTERLEAVE, all)?;
    touch(other, 64);
    set(DEFAULT, 0)?;
    let on_first = places(other, 64)?.iter().filter(|n| **n == 0).count();
    check_eq!(on_first, 64 / count);
    Ok(())
}

fn weighted_interleaving() -> Outcome {
    let path = c"/sys/kernel/mm/mempolicy/weighted_interleave/node0";
    check_eq!(slurp(path)?, "1\n");
    check_err!(spew(path, "256"), EINVAL);
    check_err!(spew(path, "much"), EINVAL);
    spew(path, "3\n")?;
    check_eq!(slurp(path)?, "3\n");
    let count = nodes();
    let at = map_anon(64 * PAGE)?;
    bind(at, 64 * PAGE, WEIGHTED, (1u64 << count) - 1, 0)?;
    touch(at, 64);
    let on_first = places(at, 64)?.iter().filter(|n| **n == 0).count();
    spew(path, "0")?;
    check_eq!(slurp(path)?, "1\n");
    spew(path, "2")?;
    spew(path, "\n")?;
    check_eq!(slurp(path)?, "1\n");
    check_eq!(on_first, 64 * 3 / (3 + count - 1));
    Ok(())
}

fn preferred_memory() -> Outcome {
    let last = nodes() - 1;
    for mode in [PREFERRED, MANY] {
        let at = map_anon(16 * PAGE)?;
        bind(at, 16 * PAGE, mode, 1 << last, 0)?;
        touch(at, 16);
        check!(on_node(at, 16, last as i32)?);
    }
    Ok(())
}

fn shared_objects_have_policies() -> Outcome {
    let last = nodes() - 1;
    let fd = sys!(SYS_memfd_create, c"numa".as_ptr(), 0)? as i32;
    sys!(SYS_ftruncate, fd, 32 * PAGE)?;
    let at = mmap(0, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
    bind(at + 8 * PAGE, 8 * PAGE, BIND, 1 << last, 0)?;
    check_eq!(get(at + 8 * PAGE, F_ADDR)?, (BIND, 1 << last));
    check_eq!(get(at, F_ADDR)?, (DEFAULT, 0));
    // The policy is the object's: another mapping of it has it, and writing to the file obeys it.
    let again = mmap(0, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
    check_eq!(get(again + 15 * PAGE, F_ADDR)?, (BIND, 1 << last));
    touch(again + 8 * PAGE, 4);
    check!(on_node(again + 8 * PAGE, 4, last as i32)?);
    sys!(SYS_pwrite64, fd, addr(&[7u8; 4 * PAGE]), 4 * PAGE, 12 * PAGE)?;
    peek(at + 12 * PAGE);
    check!(on_node(at + 12 * PAGE, 1, last as i32)?);
    bind(at, 32 * PAGE, DEFAULT, 0, 0)?;
    check_eq!(get(at + 8 * PAGE, F_ADDR)?, (DEFAULT, 0));
    check_eq!(get(again + 8 * PAGE, F_ADDR)?, (DEFAULT, 0));
    // A private file mapping keeps its own.
    let anonymous = map_shared(4 * PAGE)?;
    bind(anonymous, PAGE, PREFERRED, 1 << last, 0)?;
    check_eq!(get(anonymous, F_ADDR)?, (PREFERRED, 1 << last));
    check_eq!(get(anonymous + PAGE, F_ADDR)?, (DEFAULT, 0));
    Ok(())
}

fn move_pages_reports() -> Outcome {
    let at = map_anon(4 * PAGE)?;
    touch(at, 1);
    peek(at + PAGE);
    let hole = map_anon(PAGE)?;
    munmap(hole, PAGE)?;
    let list = [at, at + PAGE, at + 2 * PAGE, hole];
    let mut status = [99i32; 4];
    let stat = |pid: i32, count: usize, pages: usize, status: usize, flags: u32| {
        sys!(SYS_move_pages, pid, count, pages, 0, status, flags)
    };
    check_eq!(stat(0, 4, addr(&list), addr_mut(&mut status), 0)?, 0);
    check!((0..nodes() as i32).contains(&status[0]));
    // The zero page, no page, and nothing.
    check_eq!(status[1..], [-EFAULT, -ENOENT, -EFAULT]);
    check_eq!(stat(getpid(), 1, addr(&list), addr_mut(&mut status), MOVE)?, 0);
    check_eq!(stat(0, 0, 0, 0, 0)?, 0);
    check_err!(stat(0, 1, addr(&list), addr_mut(&mut status), 8), EINVAL);
    check_err!(stat(0, 1, 8, addr_mut(&mut status), 0), EFAULT);
    check_err!(stat(0, 1, addr(&list), 8, 0), EFAULT);
    check_err!(stat(999_999, 1, addr(&list), addr_mut(&mut status), 0), ESRCH);
    let to = |node: i32, flags: u32, status: &mut [i32; 4]| {
        let target = [node; 4];
        sys!(SYS_move_pages, 0, 4, addr(&list), addr(&target), addr_mut(status), flags)
    };
    check_err!(to(-1, MOVE, &mut status), ENODEV);
    check_err!(to(1000, MOVE, &mut status), ENODEV);
    check_err!(to(5000, MOVE, &mut status), ENODEV);
    status = [99; 4];
    to(0, MOVE, &mut status)?;
    check_eq!(status, [0, -EFAULT, -ENOENT, -EFAULT]);
    let denied = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        let mut status = [0; 4];
        let all = to(0, MOVE_ALL, &mut status) != Err(Errno(EPERM));
        i32::from(all || stat(1, 1, addr(&list), addr_mut(&mut status), 0) != Err(Errno(EPERM)))
    })?;
    check_eq!(denied, 0);
    Ok(())
}

fn send(pid: i32, at: usize, pages: usize, node: i32, flags: u32) -> Result<Vec<i32>, Errno> {
    let list: Vec<usize> = (0..pages).map(|n| at + n * PAGE).collect();
    let target = vec![node; pages];
    let mut status = vec![-1000; pages];
    sys!(SYS_move_pages, pid, pages, list.as_ptr(), target.as_ptr(), status.as_mut_ptr(), flags)?;
    Ok(status)
}

fn move_pages_moves() -> Outcome {
    let last = nodes() as i32 - 1;
    let at = map_anon(16 * PAGE)?;
    set(BIND, 1)?;
    touch(at, 16);
    set(DEFAULT, 0)?;
    check!(on_node(at, 16, 0)?);
    check_eq!(send(0, at, 16, last, MOVE)?, vec![last; 16]);
    check!(on_node(at, 16, last)?);
    check!((0..16).all(|n| peek(at + n * PAGE) == 1 + n as u8));
    // A page can be written afterwards, and copied on write.
    touch(at, 16);
    let child = in_child(|| {
        touch(at + PAGE, 1);
        i32::from(peek(at + PAGE) != 1 || peek(at) != 1)
    })?;
    check_eq!((child, peek(at + PAGE)), (0, 2));
    // What a child has as well stays, unless all may move.
    let [read, write_end] = pipe(0)?;
    let child = fork(|| {
        let mut byte = [0u8];
        let _ = crate::sys::read(read, &mut byte);
        i32::from((0..16).any(|n| peek(at + n * PAGE) != 1 + n as u8))
    })?;
    let status = send(0, at, 16, 0, MOVE)?;
    check_eq!(status, vec![if last == 0 { 0 } else { -EACCES }; 16]);
    check_eq!(send(0, at, 16, 0, MOVE_ALL)?, vec![0; 16]);
    check_eq!(send(child, at, 16, last, MOVE_ALL)?, vec![last; 16]);
    check!(on_node(at, 16, last)?);
    check!((0..16).all(|n| peek(at + n * PAGE) == 1 + n as u8));
    write(write_end, b"x")?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn mbind_moves() -> Outcome {
    let last = nodes() as i32 - 1;
    let at = map_anon(16 * PAGE)?;
    set(BIND, 1)?;
    touch(at, 16);
    set(DEFAULT, 0)?;
    bind(at, 16 * PAGE, BIND, 1, STRICT)?;
    if last > 0 {
        // They are elsewhere: strict, and nothing is changed.
        check_err!(bind(at, 16 * PAGE, BIND, 2, STRICT), EIO);
        check_eq!(get(at, F_ADDR)?, (BIND, 1));
        bind(at, 16 * PAGE, BIND, 2, 0)?;
        check!(on_node(at, 16, 0)?);
    }
    bind(at, 16 * PAGE, BIND, 1 << last, MOVE | STRICT)?;
    check!(on_node(at, 16, last)?);
    check!((0..16).all(|n| peek(at + n * PAGE) == 1 + n as u8));
    let shared = fork(|| {
        sleep_ms(60_000);
        0
    })?;
    // Shared pages are left alone without complaint.
    bind(at, 16 * PAGE, BIND, 1, MOVE | STRICT)?;
    check!(on_node(at, 16, last)?);
    bind(at, 16 * PAGE, BIND, 1, MOVE_ALL | STRICT)?;
    check!(on_node(at, 16, 0)?);
    kill(shared, SIGKILL)?;
    wait(shared)?;
    bind(at, 16 * PAGE, INTERLEAVE, (1 << nodes()) - 1, MOVE)?;
    check!((0..16).all(|n| peek(at + n * PAGE) == 1 + n as u8));
    Ok(())
}

fn migrate(pid: i32, from: u64, to: u64) -> Result<usize, Errno> {
    sys!(SYS_migrate_pages, pid, 65, addr(&from), addr(&to))
}

fn migrate_process() -> Outcome {
    let last = nodes() as i32 - 1;
    let at = map_anon(64 * PAGE)?;
    set(BIND, 1)?;
    touch(at, 64);
    set(DEFAULT, 0)?;
    migrate(0, 1, 1 << last)?;
    check!(on_node(at, 64, last)?, "{:?}", places(at, 64)?);
    check!((0..64).all(|n| peek(at + n * PAGE) == 1 + n as u8));
    migrate(getpid(), 1 << last, 1)?;
    check!(on_node(at, 64, 0)?);
    check_err!(migrate(0, 1, 0), EINVAL);
    check_err!(migrate(0, 1, ABSENT), EINVAL);
    check_err!(migrate(999_999, 1, 1), ESRCH);
    check_err!(sys!(SYS_migrate_pages, 0, 65, 8, 8), EFAULT);
    let denied = in_child(|| {
        let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
        i32::from(migrate(1, 1, 1) != Err(Errno(EPERM)) || migrate(0, 1, ABSENT) != Err(Errno(EPERM)))
    })?;
    check_eq!(denied, 0);
    // Another process's pages.
    let [read, write_end] = pipe(0)?;
    let child = fork(|| {
        touch(at, 64);
        let _ = write(write_end, b"x");
        sleep_ms(60_000);
        0
    })?;
    crate::sys::read(read, &mut [0u8])?;
    migrate(child, 1, 1 << last)?;
    let list: Vec<usize> = (0..64).map(|n| at + n * PAGE).collect();
    let mut status = vec![0; 64];
    sys!(SYS_move_pages, child, 64, list.as_ptr(), 0, status.as_mut_ptr(), 0)?;
    kill(child, SIGKILL)?;
    wait(child)?;
    check_eq!(status, vec![last; 64]);
    Ok(())
}

fn shared_pages_move() -> Outcome {
    let last = nodes() as i32 - 1;
    let fd = sys!(SYS_memfd_create, c"numa".as_ptr(), 0)? as i32;
    sys!(SYS_ftruncate, fd, 8 * PAGE)?;
    let at = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
    let other = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)?;
    set(BIND, 1)?;
    touch(at, 8);
    set(DEFAULT, 0)?;
    touch(other, 8);
    check_eq!(send(0, at, 8, last, MOVE_ALL)?, vec![last; 8]);
    poke(at, 77);
    check_eq!((peek(other), peek(other + PAGE)), (77, 2));
    let mut bytes = [0u8; 1];
    sys!(SYS_pread64, fd, bytes.as_mut_ptr(), 1, 0)?;
    check_eq!(bytes[0], 77);
    check!(on_node(other, 8, last)?);
    Ok(())
}

/// The line of `/proc/self/numa_maps` of the area that begins at `at`.
fn numa_line(at: usize) -> Result<String, Failure> {
    let text = slurp(c"/proc/self/numa_maps")?;
    let start = format!("{at:08x} ");
    let line = text.lines().find_map(|l| l.strip_prefix(start.as_str()));
    line.map(str::to_string).ok_or_else(|| Failure::new(text.clone()))
}

fn numa_maps() -> Outcome {
    let maps = slurp(c"/proc/self/maps")?.lines().count();
    let text = slurp(c"/proc/self/numa_maps")?;
    check!(text.lines().count().abs_diff(maps) <= 2);
    check!(text.lines().any(|l| l.contains(" stack ")) && text.contains(" file=/"));
    let last = nodes() - 1;
    // Apart from what is mapped already.
    let at = map_anon(8 * PAGE)?;
    bind(at, 4 * PAGE, BIND | STATIC, 1 << last, 0)?;
    check_eq!(numa_line(at)?, format!("bind=static:{last}"));
    touch(at, 3);
    let line = numa_line(at)?;
    check!(
        line.starts_with(&format!("bind=static:{last} anon=3 dirty=3"))
            && line.ends_with(&format!("N{last}=3 kernelpagesize_kB=4")),
        "{line}"
    );
    for (mode, nodes, text) in [
        (PREFERRED, 1, "prefer:0"),
        (INTERLEAVE, 1, "interleave:0"),
        (MANY, 1, "prefer (many):0"),
        (WEIGHTED, 1, "weighted interleave:0"),
        (LOCAL, 0, "local"),
        (BIND | RELATIVE, 1, "bind=relative:0"),
    ] {
        bind(at, 4 * PAGE, mode, nodes, 0)?;
        let line = numa_line(at)?;
        check!(line.starts_with(&format!("{text} ")), "{line}");
    }
    bind(at, 4 * PAGE, DEFAULT, 0, 0)?;
    set(BIND, 1)?;
    // What has no policy shows the thread's.
    let text = slurp(c"/proc/self/numa_maps")?;
    set(DEFAULT, 0)?;
    check!(text.lines().filter(|l| l.contains(" bind:0")).count() > 3, "{text}");
    check_err!(open(c"/proc/self/numa_maps", O_WRONLY, 0).and(Err::<(), _>(Errno(EACCES))), EACCES);
    Ok(())
}

fn node_files() -> Outcome {
    let count = nodes();
    for node in 0..count {
        let file = |name: &str| {
            let path = format!("/sys/devices/system/node/node{node}/{name}");
            std::fs::read_to_string(&path).map_err(|e| Failure::new(format!("{path}: {e}")))
        };
        let distance: Vec<u32> =
            file("distance")?.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        check_eq!((distance.len(), distance[node]), (count, 10));
        check!(file("meminfo")?.starts_with(&format!("Node {node} MemTotal: ")));
        let names = ["numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node"];
        let stat = file("numastat")?;
        let found: Vec<&str> = stat.lines().filter_map(|l| l.split(' ').next()).collect();
        check_eq!(found, names);
        check!(!file("cpulist")?.trim().is_empty() && !file("cpumap")?.trim().is_empty());
        // Memory that a policy asks for is counted.
        let hits =
            |text: &str| text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let at = map_anon(256 * PAGE)?;
        bind(at, 256 * PAGE, BIND, 1 << node, 0)?;
        touch(at, 256);
        let after = hits(&file("numastat")?);
        check!(after >= hits(&stat) + 200, "{after} after {}", hits(&stat));
    }
    Ok(())
}
