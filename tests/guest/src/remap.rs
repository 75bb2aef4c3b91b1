//! remap_file_pages(2), and map_shadow_stack(2) with its relatives of arch_prctl(2) on processors without shadow stacks.

use crate::prelude::*;

tests![
    pages_in_another_order,
    remaps_in_parts,
    remaps_shared_memory,
    what_stays,
    remap_errors,
    no_shadow_stacks,
];

const PAGE: usize = 4096;
const RW: i32 = PROT_READ | PROT_WRITE;

fn remap(at: usize, len: usize, prot: usize, pgoff: usize, flags: i32) -> Result<usize, Errno> {
    sys!(SYS_remap_file_pages, at, len, prot, pgoff, flags)
}

/// A file of `pages` pages, each filled with its number from 1.
fn numbered(pages: usize) -> Result<i32, Errno> {
    let content: Vec<u8> = (0..pages * PAGE).map(|n| (n / PAGE + 1) as u8).collect();
    create(c"f", &content)
}

fn pages_in_another_order() -> Outcome {
    let fd = numbered(4)?;
    let at = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0)?;
    for page in 0..4 {
        remap(at + page * PAGE, PAGE, 0, 3 - page, 0)?;
    }
    let seen: Vec<u8> = (0..4).map(|page| peek(at + page * PAGE + 100)).collect();
    check_eq!(seen, [4, 3, 2, 1]);
    // Stores go to the file.
    poke(at, 77);
    let mut byte = [0u8];
    check_eq!(sys!(SYS_pread64, fd, byte.as_mut_ptr(), 1, 3 * PAGE)?, 1);
    check_eq!(byte, [77]);
    // The same page twice.
    remap(at + PAGE, PAGE, 0, 3, 0)?;
    check_eq!(peek(at + PAGE), 77);
    poke(at + PAGE, 78);
    check_eq!(peek(at), 78);
    Ok(())
}

fn remaps_in_parts() -> Outcome {
    let fd = numbered(6)?;
    let at = mmap(0, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0)?;
    let seen = || (0..4).map(|page| peek(at + page * PAGE)).collect::<Vec<u8>>();
    // Address and length are rounded down.
    remap(at + 5, PAGE + 100, 0, 4, 0)?;
    check_eq!(seen(), [5, 2, 3, 4]);
    // Over areas of the same file.
    remap(at, 3 * PAGE, 0, 2, MAP_NONBLOCK)?;
    check_eq!(seen(), [3, 4, 5, 4]);
    // The flags that there are say nothing of importance, and others are passed over.
    for flags in [MAP_PRIVATE, MAP_FIXED | MAP_ANONYMOUS, 0x4000_0000] {
        remap(at, PAGE, 0, 0, flags)?;
    }
    check_eq!(seen(), [1, 4, 5, 4]);
    // Behind the end of the file.
    remap(at, 2 * PAGE, 0, 5, 0)?;
    check_eq!(peek(at), 6);
    check_eq!(in_child(|| i32::from(peek(at + PAGE)))?, -SIGBUS);
    Ok(())
}

fn remaps_shared_memory() -> Outcome {
    let at = map_shared(3 * PAGE)?;
    (0..3).for_each(|page| poke(at + page * PAGE, 10 + page as u8));
    remap(at, PAGE, 0, 2, 0)?;
    check_eq!(peek(at), 12);
    check_eq!(peek(at + PAGE), 11);
    poke(at, 1);
    check_eq!(peek(at + 2 * PAGE), 1);
    Ok(())
}

fn vm_flags(at: usize) -> Result<String, Errno> {
    let text = slurp(c"/proc/self/smaps")?;
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{at:x}-")));
    Ok(lines.find(|line| line.starts_with("VmFlags:")).unwrap_or_default().to_string())
}

fn what_stays() -> Outcome {
    let fd = numbered(3)?;
    // The protection is that of the area.
    let at = mmap(0, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0)?;
    remap(at, PAGE, 0, 2, 0)?;
    let status = in_child(|| {
        poke(at, 1);
        0
    })?;
    check_eq!(status, -SIGSEGV);
    check_eq!(peek(at), 3);
    // Locked areas stay locked.
    let locked = mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0)?;
    sys!(SYS_mlock, locked, 2 * PAGE)?;
    remap(locked, PAGE, 0, 1, 0)?;
    check!(vm_flags(locked)?.contains(" lo"), "{}", vm_flags(locked)?);
    check_eq!(peek(locked), 2);
    Ok(())
}

fn remap_errors() -> Outcome {
    let fd = numbered(4)?;
    let at = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0)?;
    for prot in [PROT_READ as usize, PROT_EXEC as usize, 0x100, 1 << 32] {
        check!(remap(at, PAGE, prot, 0, 0) == Err(Errno(EINVAL)), "{prot:#x}");
    }
    // No length, and lengths that go round.
    for len in [0, 1, PAGE - 1, usize::MAX, usize::MAX - PAGE, 0usize.wrapping_sub(at)] {
        check!(remap(at, len, 0, 0, 0) == Err(Errno(EINVAL)), "{len:#x}");
    }
    // Offsets that go round with the length; those that no file has.
    check_err!(remap(at, 2 * PAGE, 0, usize::MAX, 0), EINVAL);
    check_err!(remap(at, PAGE, 0, usize::MAX - 1, 0), EOVERFLOW);
    check_err!(remap(at, PAGE, 0, 1 << 52, 0), EOVERFLOW);
    check_err!(remap(at, PAGE, 0, (1 << 52) + 1, 0), EOVERFLOW);
    check_eq!(peek(at), 1);
    // Nothing, private memory of both kinds, and ranges that leave the area.
    munmap(at + 3 * PAGE, PAGE)?;
    check_err!(remap(at + 3 * PAGE, PAGE, 0, 0, 0), EINVAL);
    check_err!(remap(at + PAGE, 3 * PAGE, 0, 0, 0), EINVAL);
    check_err!(remap(map_anon(PAGE)?, PAGE, 0, 0, 0), EINVAL);
    let private = mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0)?;
    check_err!(remap(private, PAGE, 0, 0, 0), EINVAL);
    // Another file behind it, or other flags.
    let other = create(c"g", &[0; PAGE])?;
    mmap(at + 2 * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, other, 0)?;
    check_err!(remap(at + PAGE, 2 * PAGE, 0, 0, 0), EINVAL);
    mmap(at + 2 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0)?;
    check_err!(remap(at + PAGE, 2 * PAGE, 0, 0, 0), EINVAL);
    // A shared mapping of a file that is open for reading only counts as private.
    let reader = open(c"f", O_RDONLY, 0)?;
    let read_only = mmap(0, PAGE, PROT_READ, MAP_SHARED, reader, 0)?;
    check_err!(remap(read_only, PAGE, 0, 1, 0), EINVAL);
    check_eq!(peek(at), 1);
    Ok(())
}

/// No machine that tests run on has shadow stacks.
fn no_shadow_stacks() -> Outcome {
    let map = |at: usize, len: usize, flags: usize| sys!(SYS_map_shadow_stack, at, len, flags);
    if cfg!(target_arch = "aarch64") {
        check_err!(map(0, PAGE, 0), ENOSYS);
        return Ok(());
    }
    for (at, len, flags) in [(0, PAGE, 0), (0, 8, 1), (1, 0, 2), (usize::MAX, usize::MAX, usize::MAX)] {
        check_err!(map(at, len, flags), EOPNOTSUPP);
    }
    #[cfg(target_arch = "x86_64")]
    {
        const ARCH_SHSTK_ENABLE: usize = 0x5001;
        const ARCH_SHSTK_DISABLE: usize = 0x5002;
        const ARCH_SHSTK_LOCK: usize = 0x5003;
        const ARCH_SHSTK_UNLOCK: usize = 0x5004;
        const ARCH_SHSTK_STATUS: usize = 0x5005;
        let call = |op: usize, argument: usize| sys!(SYS_arch_prctl, op, argument);
        let mut features = 9usize;
        check_eq!(call(ARCH_SHSTK_STATUS, addr_mut(&mut features))?, 0);
        check_eq!(features, 0);
        check_err!(call(ARCH_SHSTK_STATUS, 8), EFAULT);
        check_err!(call(ARCH_SHSTK_ENABLE, 0), EINVAL);
        check_err!(call(ARCH_SHSTK_ENABLE, 3), EINVAL);
        check_err!(call(ARCH_SHSTK_ENABLE, 4), EINVAL);
        check_err!(call(ARCH_SHSTK_ENABLE, 1), EOPNOTSUPP);
        check_err!(call(ARCH_SHSTK_ENABLE, 2), EOPNOTSUPP);
        check_err!(call(ARCH_SHSTK_DISABLE, 0), EINVAL);
        check_err!(call(ARCH_SHSTK_DISABLE, 1), EOPNOTSUPP);
        check_err!(call(ARCH_SHSTK_DISABLE, 2), EOPNOTSUPP);
        // Unlocking is for debuggers: here it is as enabling.
        check_err!(call(ARCH_SHSTK_UNLOCK, 0), EINVAL);
        check_err!(call(ARCH_SHSTK_UNLOCK, 1), EOPNOTSUPP);
        // What is locked is not to be changed.
        check_eq!(call(ARCH_SHSTK_LOCK, 1)?, 0);
        check_err!(call(ARCH_SHSTK_ENABLE, 1), EPERM);
        check_err!(call(ARCH_SHSTK_DISABLE, 3), EPERM);
        check_err!(call(ARCH_SHSTK_ENABLE, 2), EOPNOTSUPP);
        check_err!(call(ARCH_SHSTK_UNLOCK, 1), EPERM);
        let inherited = in_child(|| i32::from(call(ARCH_SHSTK_ENABLE, 1) == Err(Errno(EPERM))))?;
        check_eq!(inherited, 1);
    }
    Ok(())
}
