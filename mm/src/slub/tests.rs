//! Caches against a model, through the real page allocator over the arena.

use super::debug;
use super::*;
use crate::gfp::Gfp;
use crate::testing;
use core::ptr::NonNull;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

fn leak(name: &'static str, size: usize, align: usize) -> &'static RawCache {
    Box::leak(Box::new(RawCache::new(name, size, align)))
}

fn free(cache: &'static RawCache, object: NonNull<u8>) {
    // SAFETY: the tests free each object once (or, where they check that it is noticed, twice).
    unsafe { cache.free(object) };
}

fn write(object: NonNull<u8>, len: usize, value: u8) {
    // SAFETY: an object of at least `len` bytes that the test owns.
    unsafe { object.as_ptr().write_bytes(value, len) };
}

fn read(object: NonNull<u8>, len: usize) -> Vec<u8> {
    // SAFETY: as above, and written before.
    unsafe { std::slice::from_raw_parts(object.as_ptr(), len) }.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 24 }))]

    #[test]
    fn against_model(
        size in 1usize..3000,
        align in 0u32..7,
        ops in prop::collection::vec((any::<bool>(), any::<u16>()), 0..if cfg!(miri) { 40 } else { 800 }),
    ) {
        testing::init();
        let align = 1usize << align;
        let cache = leak("model", size, align);
        let mut live: BTreeMap<usize, (NonNull<u8>, u8)> = BTreeMap::new();
        for (alloc, n) in ops {
            if alloc || live.is_empty() {
                let object = cache.alloc(|| Gfp::KERNEL).unwrap();
                let at = object.as_ptr().addr();
                prop_assert_eq!(at % align, 0);
                if let Some((other, _)) = live.range(..=at).next_back() {
                    prop_assert!(other + size <= at, "overlap");
                }
                if let Some((other, _)) = live.range(at..).next() {
                    prop_assert!(at + size <= *other, "overlap");
                }
                write(object, size, n as u8);
                live.insert(at, (object, n as u8));
            } else {
                let key = *live.keys().nth(n as usize % live.len()).unwrap();
                let (object, value) = live.remove(&key).unwrap();
                prop_assert!(read(object, size).iter().all(|b| *b == value), "contents changed");
                free(cache, object);
            }
        }
        for (object, value) in live.into_values() {
            prop_assert!(read(object, size).iter().all(|b| *b == value));
            free(cache, object);
        }
        cache.shrink();
        let info = cache.info();
        prop_assert_eq!((info.slabs, info.objects, info.free_objects), (0, 0, 0));
    }
}

#[test]
fn objects_travel_between_threads() {
    testing::init();
    let cache = leak("travel", 48, 8);
    let rounds = if cfg!(miri) { 20 } else { 5000 };
    let (to, from) = std::sync::mpsc::channel::<usize>();
    let taker = std::thread::spawn(move || {
        for object in from {
            let object = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(object)).unwrap();
            assert!(read(object, 48).iter().all(|b| *b == 0x42));
            free(cache, object);
        }
        cache.shrink();
    });
    for _ in 0..rounds {
        let object = cache.alloc(|| Gfp::KERNEL).unwrap();
        write(object, 48, 0x42);
        to.send(object.as_ptr().expose_provenance()).unwrap();
    }
    drop(to);
    taker.join().unwrap();
}

#[test]
fn kmalloc_and_kfree() {
    testing::init();
    let zeroed = kmalloc(100, Gfp::KERNEL | Gfp::ZERO).unwrap();
    assert!(read(zeroed, 100).iter().all(|b| *b == 0));
    let large = kmalloc(8192, Gfp::KERNEL).unwrap();
    assert_eq!(large.as_ptr().addr() % 4096, 0);
    // SAFETY: from kmalloc, once each.
    unsafe {
        kfree(zeroed);
        kfree(large);
    }
    assert!(kmalloc(8193, Gfp::KERNEL).is_none());
}

#[test]
fn typed_boxes_drop_their_contents() {
    testing::init();
    static CACHE: Cache<std::sync::Arc<u32>> = Cache::new("typed");
    let shared = std::sync::Arc::new(7);
    let boxed = CACHE.alloc(shared.clone(), Gfp::KERNEL).unwrap();
    assert_eq!((**boxed, std::sync::Arc::strong_count(&shared)), (7, 2));
    drop(boxed);
    assert_eq!(std::sync::Arc::strong_count(&shared), 1);
    let mut seen = false;
    for_each_cache(|cache| seen |= cache.name() == "typed");
    assert!(seen);
}

/// The debug tests count reports, so one at a time.
static DEBUG: Mutex<()> = Mutex::new(());

fn debug_cache(name: &'static str, size: usize) -> &'static RawCache {
    testing::init();
    debug::set_options("FZPU,debug-*");
    leak(name, size, 8)
}

fn reported(f: impl FnOnce()) -> usize {
    let before = debug::reports();
    f();
    debug::reports() - before
}

#[test]
fn debug_is_silent_about_good_users() {
    let _one = DEBUG.lock().unwrap();
    let cache = debug_cache("debug-good", 50);
    assert_eq!(
        reported(|| {
            let objects: Vec<_> = (0..200).map(|_| cache.alloc(|| Gfp::KERNEL).unwrap()).collect();
            for object in &objects {
                assert!(read(*object, 50).iter().all(|b| *b == 0x5a));
                write(*object, 50, 1);
            }
            objects.into_iter().for_each(|o| free(cache, o));
        }),
        0
    );
    cache.shrink();
    assert_eq!(cache.info().slabs, 0);
}

#[test]
fn debug_sees_overruns() {
    let _one = DEBUG.lock().unwrap();
    let cache = debug_cache("debug-overrun", 50);
    let object = cache.alloc(|| Gfp::KERNEL).unwrap();
    assert_eq!(
        reported(|| {
            write(object, 51, 0);
            free(cache, object);
        }),
        1
    );
    let object = cache.alloc(|| Gfp::KERNEL).unwrap();
    assert_eq!(
        reported(|| {
            write(NonNull::new(object.as_ptr().wrapping_sub(1)).unwrap(), 1, 0);
            free(cache, object);
        }),
        1
    );
}

#[test]
fn debug_sees_writes_after_free_and_double_frees() {
    let _one = DEBUG.lock().unwrap();
    let cache = debug_cache("debug-uaf", 64);
    let object = cache.alloc(|| Gfp::KERNEL).unwrap();
    free(cache, object);
    assert_eq!(reported(|| free(cache, object)), 1);
    assert_eq!(
        reported(|| {
            write(object, 1, 0);
            // The damaged object is set aside; another is given.
            let next = cache.alloc(|| Gfp::KERNEL).unwrap();
            assert_ne!(next, object);
            free(cache, next);
        }),
        1
    );
    let wrong = NonNull::new(object.as_ptr().wrapping_add(8)).unwrap();
    assert_eq!(reported(|| free(cache, wrong)), 1);
}
