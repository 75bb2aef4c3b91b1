//! Security modules: lsm_list_modules(2), lsm_get_self_attr(2), lsm_set_self_attr(2).

use crate::prelude::*;

tests![modules, list_errors, attributes_are_asked_for, attributes_are_set];

const CAPABILITY: u64 = 100;
const LANDLOCK: u64 = 110;
const CURRENT: u32 = 100;
const SINGLE: u32 = 1;

fn list(ids: &mut [u64], size: &mut u32, flags: u32) -> Result<usize, Errno> {
    sys!(SYS_lsm_list_modules, ids.as_mut_ptr(), addr_mut(size), flags)
}

fn modules() -> Outcome {
    let (mut ids, mut size) = ([0; 32], 256);
    let count = list(&mut ids, &mut size, 0)?;
    check_eq!(size as usize, count * 8);
    let known = ids.get(..count).unwrap_or_default();
    check!(known.contains(&CAPABILITY) && known.contains(&LANDLOCK), "{known:?}");
    Ok(())
}

fn list_errors() -> Outcome {
    let (mut ids, mut size) = ([0; 32], 256);
    check_err!(list(&mut ids, &mut size, 1), EINVAL);
    check_eq!(size, 256);
    // Too little room: told how much is needed.
    size = 7;
    check_err!(list(&mut ids, &mut size, 0), E2BIG);
    check!(size >= 16 && size % 8 == 0, "{size}");
    check_eq!(ids, [0; 32]);
    check_err!(sys!(SYS_lsm_list_modules, ids.as_mut_ptr(), 0, 0), EFAULT);
    check_err!(sys!(SYS_lsm_list_modules, 8, addr_mut(&mut size), 0), EFAULT);
    Ok(())
}

fn attributes_are_asked_for() -> Outcome {
    let (mut ctx, mut size) = ([0_u64; 512], 4096_u32);
    let mut get = |attr: u32, ctx: usize, flags: u32| {
        size = 4096;
        sys!(SYS_lsm_get_self_attr, attr, ctx, addr_mut(&mut size), flags)
    };
    let buffer = ctx.as_mut_ptr() as usize;
    check_err!(get(0, buffer, 0), EINVAL);
    check_err!(get(CURRENT, buffer, 2), EINVAL);
    check_err!(get(CURRENT, 0, SINGLE), EINVAL);
    // Of nobody.
    check_err!(get(CURRENT, buffer, SINGLE), EINVAL);
    check_err!(get(CURRENT, 8, SINGLE), EFAULT);
    check_err!(sys!(SYS_lsm_get_self_attr, CURRENT, buffer, 0, 0), EINVAL);
    check_err!(sys!(SYS_lsm_get_self_attr, CURRENT, buffer, 8, 0), EFAULT);
    // Landlock has none.
    ctx[0] = LANDLOCK;
    check_err!(get(CURRENT, ctx.as_mut_ptr() as usize, SINGLE), EOPNOTSUPP);
    Ok(())
}

fn attributes_are_set() -> Outcome {
    let set = |ctx: &[u64], size: usize, flags: u32| {
        sys!(SYS_lsm_set_self_attr, CURRENT, ctx.as_ptr(), size, flags)
    };
    // Module, flags, length of all, length of the value.
    let ctx = [LANDLOCK, 0, 40, 8, 0];
    check_err!(set(&ctx, 40, 1), EINVAL);
    check_err!(set(&ctx, 31, 0), EINVAL);
    check_err!(set(&ctx, 1 << 20, 0), E2BIG);
    check_err!(set(&ctx, 32, 0), EINVAL);
    check_err!(set(&[LANDLOCK, 0, 39, 8, 0], 40, 0), EINVAL);
    check_err!(set(&[LANDLOCK, 0, 40, u64::MAX, 0], 40, 0), EINVAL);
    check_err!(sys!(SYS_lsm_set_self_attr, CURRENT, 8, 40, 0), EFAULT);
    check_err!(set(&ctx, 40, 0), EOPNOTSUPP);
    Ok(())
}
