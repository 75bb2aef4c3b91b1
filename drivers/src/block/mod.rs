//! Block devices without hardware.
//!
//! | module | what |
//! |---|---|
//! | [`loopdev`] | a file as a disk: `loop(4)` |
//! | [`brd`] | memory as a disk |
//! | [`null_blk`] | a disk that does nothing, to measure what is above it |

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub mod brd;
pub mod loopdev;
mod memory;
pub mod null_blk;
mod serve;

enum Variable {
    Small(&'static AtomicU32),
    Large(&'static AtomicU64),
}

/// Boot parameters of these drivers.
const PARAMETERS: [(&str, Variable); 11] = [
    ("max_loop", Variable::Small(&loopdev::COUNT)),
    ("brd.rd_nr", Variable::Small(&brd::COUNT)),
    ("brd.rd_size", Variable::Large(&brd::SIZE_KB)),
    ("null_blk.nr_devices", Variable::Small(&null_blk::COUNT)),
    ("null_blk.submit_queues", Variable::Small(&null_blk::QUEUES)),
    ("null_blk.hw_queue_depth", Variable::Small(&null_blk::DEPTH)),
    ("null_blk.gb", Variable::Small(&null_blk::GB)),
    ("null_blk.bs", Variable::Small(&null_blk::BLOCK_SIZE)),
    ("null_blk.irqmode", Variable::Small(&null_blk::IRQ_MODE)),
    ("null_blk.completion_nsec", Variable::Large(&null_blk::COMPLETION_NS)),
    ("null_blk.memory_backed", Variable::Small(&null_blk::MEMORY_BACKED)),
];

/// Takes a boot parameter of one of these drivers; `None`: it is nobody's; `Some(false)`: its value makes no sense.
pub fn parameter(name: &str, value: Option<&str>) -> Option<bool> {
    let (_, variable) = PARAMETERS.iter().find(|(known, _)| *known == name)?;
    let Some(number) = value.and_then(|value| value.parse::<u64>().ok()) else { return Some(false) };
    match variable {
        Variable::Small(variable) => match u32::try_from(number) {
            Ok(number) => variable.store(number, Ordering::Relaxed),
            Err(_) => return Some(false),
        },
        Variable::Large(variable) => variable.store(number, Ordering::Relaxed),
    }
    Some(true)
}
