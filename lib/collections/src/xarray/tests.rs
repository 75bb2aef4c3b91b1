use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Op {
    Store(u64, u32),
    Shadow(u64, u64),
    Remove(u64),
    Mark(u64),
    Unmark(u64),
    Evict(u64, u64),
    Reserve(u64),
}

fn index() -> impl Strategy<Value = u64> {
    prop_oneof![0..200u64, 4000..4200u64, Just(u64::MAX), (0..64u32).prop_map(|s| 1u64 << s)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (index(), any::<u32>()).prop_map(|(i, v)| Op::Store(i, v)),
        1 => (index(), 0..MAX_SHADOW).prop_map(|(i, s)| Op::Shadow(i, s)),
        3 => index().prop_map(Op::Remove),
        2 => index().prop_map(Op::Mark),
        1 => index().prop_map(Op::Unmark),
        1 => (index(), 0..MAX_SHADOW).prop_map(|(i, s)| Op::Evict(i, s)),
        1 => index().prop_map(Op::Reserve),
    ]
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Model {
    Value(u32),
    Shadow(u64),
}

fn same(got: Option<Entry<Box<u32>>>) -> Option<Model> {
    got.map(|e| match e {
        Entry::Value(v) => Model::Value(*v),
        Entry::Shadow(s) => Model::Shadow(s),
    })
}

proptest! {
    #[test]
    fn behaves_like_a_map(ops in proptest::collection::vec(op(), 1..300)) {
        let mut xa: XArray<Box<u32>> = XArray::new();
        let mut model: BTreeMap<u64, Model> = BTreeMap::new();
        let mut marked: BTreeSet<u64> = BTreeSet::new();
        for op in ops {
            match op {
                Op::Store(i, v) => {
                    prop_assert_eq!(same(xa.store(i, Box::new(v)).unwrap()), model.insert(i, Model::Value(v)));
                }
                Op::Shadow(i, s) => {
                    marked.remove(&i);
                    prop_assert_eq!(same(xa.store_entry(i, Entry::Shadow(s)).unwrap()), model.insert(i, Model::Shadow(s)));
                }
                Op::Remove(i) => {
                    marked.remove(&i);
                    prop_assert_eq!(same(xa.remove_entry(i)), model.remove(&i));
                }
                Op::Mark(i) => {
                    let is = model.contains_key(&i);
                    prop_assert_eq!(xa.set_mark(i, Mark::Mark0), is);
                    if is { marked.insert(i); }
                }
                Op::Unmark(i) => prop_assert_eq!(xa.clear_mark(i, Mark::Mark0), marked.remove(&i)),
                Op::Evict(i, s) => {
                    let value = matches!(model.get(&i), Some(Model::Value(_)));
                    prop_assert_eq!(xa.replace_with_shadow(i, s).is_some(), value);
                    if value { model.insert(i, Model::Shadow(s)); marked.remove(&i); }
                }
                Op::Reserve(i) => xa.reserve(i).unwrap(),
            }
            prop_assert_eq!(xa.any_marked(Mark::Mark0), !marked.is_empty());
        }
        let values: Vec<_> = model.iter().filter_map(|(&i, m)| match m { Model::Value(v) => Some((i, *v)), _ => None }).collect();
        prop_assert_eq!(xa.iter().map(|(i, v)| (i, **v)).collect::<Vec<_>>(), values.clone());
        prop_assert_eq!(xa.len(), values.len());
        prop_assert_eq!(xa.shadows(), model.len() - values.len());
        for probe in [0, 1, 63, 64, 4096, 4100, 1 << 40, u64::MAX] {
            prop_assert_eq!(xa.next_entry(probe..=u64::MAX).map(|e| e.0), model.range(probe..).next().map(|e| *e.0));
            let marked_value = marked.range(probe..).next().filter(|i| matches!(model.get(i), Some(Model::Value(_))));
            if let Some(i) = marked_value { prop_assert_eq!(xa.next_marked(probe..=u64::MAX, Mark::Mark0).map(|e| e.0), Some(*i)); }
            prop_assert_eq!(xa.get(probe).map(|v| **v), match model.get(&probe) { Some(Model::Value(v)) => Some(*v), _ => None });
        }
    }
}

#[test]
fn values_are_dropped_once() {
    let shared = Arc::new(5u32);
    let mut xa = XArray::new();
    for i in 0..1000u64 {
        xa.store(i * 77, shared.clone()).unwrap();
    }
    assert_eq!(Arc::strong_count(&shared), 1001);
    for i in 0..500u64 {
        assert!(xa.remove(i * 77).is_some());
    }
    drop(xa.store(600 * 77, shared.clone()).unwrap());
    assert_eq!(Arc::strong_count(&shared), 501);
    drop(xa);
    assert_eq!(Arc::strong_count(&shared), 1);
}

#[test]
fn gaps() {
    let mut xa = XArray::new();
    for i in 10..20u64 {
        xa.store(i, Box::new(i)).unwrap();
    }
    assert_eq!(xa.next_gap(10, 5), None);
    assert_eq!(xa.next_gap(10, 100), Some(20));
    assert_eq!(xa.prev_gap(19, 100), Some(9));
}
use std::sync::Arc;
