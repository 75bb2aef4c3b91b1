use super::*;
use crate::testing::Random;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
/// The largest budget in these tests, in sectors.
const MOST: u64 = 1024;

/// One turn: whoever is next gets up to its budget; who it was, and what it got.
fn turn(wfq: &mut Wfq, random: &mut Random) -> (u32, u64) {
    let id = wfq.select(0).expect("somebody waits");
    let (budget, _) = wfq.turn(id);
    let got = 1 + random.below(budget);
    wfq.served(id, got);
    wfq.expire(id, Some(1 + random.below(MOST)));
    (id, got)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Nobody is further from what the ideal system would have given it than two budgets, at any time, whatever part of them is used.
    #[test]
    fn lag_is_bounded(weights in proptest::collection::vec(1u32..1000, 1..12), seed in 1u64..u64::MAX) {
        let mut random = Random(seed);
        let mut wfq = Wfq::new(weights.len(), 0).unwrap();
        for (id, &weight) in weights.iter().enumerate() {
            wfq.set_weight(id as u32, 1, weight);
            wfq.activate(id as u32, 1 + random.below(MOST), false);
        }
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let (mut got, mut total) = (vec![0u64; weights.len()], 0u64);
        for _ in 0..2000 {
            let (id, sectors) = turn(&mut wfq, &mut random);
            got[id as usize] += sectors;
            total += sectors;
            for (id, &weight) in weights.iter().enumerate() {
                let ideal = total as f64 * f64::from(weight) / sum as f64;
                let lag = ideal - got[id] as f64;
                prop_assert!(lag.abs() <= 2.0 * MOST as f64, "{} of {:?}: {}", id, weights, lag);
            }
        }
    }

    /// Two that want something all the time get the same for their weights, whoever else comes and goes.
    #[test]
    fn comings_and_goings_of_others_do_not_matter(seed in 1u64..u64::MAX, a in 1u32..500, b in 1u32..500) {
        let mut random = Random(seed);
        let mut wfq = Wfq::new(8, 0).unwrap();
        for id in 0..8 {
            let weight = match id { 0 => a, 1 => b, _ => 1 + random.below(500) as u32 };
            wfq.set_weight(id, 1, weight);
        }
        wfq.activate(0, MOST, false);
        wfq.activate(1, MOST, false);
        let mut got = [0u64; 8];
        for _ in 0..3000 {
            let id = 2 + random.below(6) as u32;
            wfq.activate(id, 1 + random.below(MOST), random.below(4) == 0);
            let id = wfq.select(0).unwrap();
            let sectors = 1 + random.below(wfq.turn(id).0);
            wfq.served(id, sectors);
            got[id as usize] += sectors;
            let stays = id < 2 || random.below(3) > 0;
            wfq.expire(id, stays.then(|| 1 + random.below(MOST)));
            let (per_a, per_b) = (got[0] as f64 / f64::from(a), got[1] as f64 / f64::from(b));
            let bound = 2.0 * MOST as f64 * (1.0 / f64::from(a) + 1.0 / f64::from(b));
            prop_assert!((per_a - per_b).abs() <= bound, "{} {} {}", per_a, per_b, bound);
        }
    }
}

#[test]
fn groups_share_by_their_weights_whatever_is_in_them() {
    let mut wfq = Wfq::new(6, 2).unwrap();
    let (small, large) = (wfq.entity_of(1), wfq.entity_of(2));
    wfq.set_weight(small, 1, 100);
    wfq.set_weight(large, 1, 300);
    for id in 0..6 {
        wfq.place(id, if id < 5 { 1 } else { 2 });
        wfq.set_weight(id, 1, 100 * (id + 1));
        wfq.activate(id, MOST, false);
    }
    let mut random = Random(5);
    let mut got = [0u64; 6];
    for _ in 0..20_000 {
        let (id, sectors) = turn(&mut wfq, &mut random);
        got[id as usize] += sectors;
    }
    let all: u64 = got.iter().sum();
    let share = |part: u64, of: u64| part as f64 / of as f64;
    assert!((share(got[5], all) - 0.75).abs() < 0.01, "{got:?}");
    let first: u64 = got[..5].iter().sum();
    for (id, &part) in got[..5].iter().enumerate() {
        assert!((share(part, first) - (id + 1) as f64 / 15.0).abs() < 0.02, "{got:?}");
    }
}

#[test]
fn higher_classes_first_but_the_idle_one_now_and_then() {
    let mut wfq = Wfq::new(3, 0).unwrap();
    for id in 0..3 {
        wfq.set_weight(id, id as u8, 100);
        wfq.activate(id, 64, false);
    }
    let mut next = |now: u64| {
        let id = wfq.select(now).unwrap();
        wfq.served(id, 64);
        wfq.expire(id, Some(64));
        id
    };
    assert_eq!([next(1), next(2), next(199 * MS)], [0, 0, 0]);
    assert_eq!([next(201 * MS), next(202 * MS), next(400 * MS)], [2, 0, 0]);
    assert_eq!(next(402 * MS), 2);
}

#[test]
fn somebody_of_a_higher_class_is_next() {
    let mut wfq = Wfq::new(2, 0).unwrap();
    wfq.set_weight(0, 1, 100);
    wfq.set_weight(1, 0, 10);
    wfq.activate(0, 64, false);
    assert!(!wfq.is_somebody_next());
    assert_eq!(wfq.select(0), Some(0));
    assert!(!wfq.is_somebody_next());
    wfq.activate(1, 64, false);
    assert!(wfq.is_somebody_next());
}

#[test]
fn who_was_away_for_a_moment_loses_nothing() {
    for missed in [false, true] {
        let mut wfq = Wfq::new(2, 0).unwrap();
        for id in 0..2 {
            wfq.set_weight(id, 1, 100);
            wfq.activate(id, 64, false);
        }
        assert_eq!(wfq.select(0), Some(0));
        wfq.served(0, 8);
        wfq.expire(0, None);
        // The other one has the device for a long time.
        for _ in 0..4 {
            assert_eq!(wfq.select(0), Some(1));
            wfq.served(1, 64);
            wfq.expire(1, Some(64));
        }
        wfq.activate(0, 56, missed);
        let mut own = 0;
        for _ in 0..4 {
            let id = wfq.select(0).unwrap();
            own += u64::from(id == 0);
            wfq.served(id, 56);
            wfq.expire(id, Some(56));
        }
        assert_eq!(own, if missed { 4 } else { 2 });
    }
}

#[test]
fn weights_change_with_the_next_turn() {
    let mut wfq = Wfq::new(2, 0).unwrap();
    for id in 0..2 {
        wfq.set_weight(id, 1, 100);
        wfq.activate(id, 64, false);
    }
    let run = |wfq: &mut Wfq| {
        let mut got = [0u64; 2];
        for _ in 0..400 {
            let id = wfq.select(0).unwrap();
            wfq.served(id, 64);
            wfq.expire(id, Some(64));
            got[id as usize] += 64;
        }
        got[0] as f64 / got[1] as f64
    };
    assert!((run(&mut wfq) - 1.0).abs() < 0.05);
    wfq.set_weight(0, 1, 300);
    assert!((run(&mut wfq) - 3.0).abs() < 0.2);
    assert_eq!(wfq.weight(0), (1, 300));
}
