use super::*;

fn policy(mode: u32, nodes: u64) -> Result<Option<Arc<Policy>>> {
    Policy::among(ModeArg::parse(mode)?, NodeMask(nodes), NodeMask(0b1011))
}

#[test]
fn nodes_are_those_with_memory() {
    let shown = |mode, nodes| policy(mode, nodes).map(|p| p.map(|p| (p.to_string(), p.shown_nodes().0)));
    let some = |text: &str, nodes| Ok(Some((text.to_string(), nodes)));
    assert_eq!(shown(raw::MPOL_BIND, 0b1111), some("bind:0-1,3", 0b1011));
    assert_eq!(shown(raw::MPOL_BIND, 0b100), Err(Errno::EINVAL));
    assert_eq!(shown(raw::MPOL_PREFERRED, 0b1010), some("prefer:1", 0b10));
    assert_eq!(shown(raw::MPOL_PREFERRED, 0), some("local", 0));
    assert_eq!(shown(raw::MPOL_LOCAL, 1), Err(Errno::EINVAL));
    assert_eq!(shown(raw::MPOL_DEFAULT, 1), Err(Errno::EINVAL));
    assert_eq!(shown(raw::MPOL_DEFAULT, 0), Ok(None));
    let fixed = raw::MPOL_INTERLEAVE | raw::MPOL_F_STATIC_NODES;
    assert_eq!(shown(fixed, 0b110), some("interleave=static:1", 0b110));
    let relative = raw::MPOL_BIND | raw::MPOL_F_RELATIVE_NODES;
    // Numbers 2 and 4 of three nodes: the third and the second.
    assert_eq!(shown(relative, 0b1_0100), some("bind=relative:1,3", 0b1_0100));
    assert_eq!(shown(raw::MPOL_PREFERRED | raw::MPOL_F_STATIC_NODES, 0), Err(Errno::EINVAL));
    assert!(ModeArg::parse(raw::MPOL_MAX).is_err());
    assert!(ModeArg::parse(raw::MPOL_INTERLEAVE | raw::MPOL_F_NUMA_BALANCING).is_err());
    assert!(ModeArg::parse(relative | raw::MPOL_F_STATIC_NODES).is_err());
}

#[test]
fn turns_go_round() {
    let Ok(Some(plain)) = policy(raw::MPOL_INTERLEAVE, 0b1011) else { panic!("no policy") };
    let order: Vec<_> = (0..6).filter_map(|n| plain.turn(n)).collect();
    assert_eq!(order, [0, 1, 3, 0, 1, 3]);
    let task = TaskPolicy::default();
    let order: Vec<_> = (0..4).filter_map(|_| task.take_turn(&plain)).collect();
    assert_eq!(order, [0, 1, 3, 0]);
    let Ok(Some(weighted)) = policy(raw::MPOL_WEIGHTED_INTERLEAVE, 0b11) else { panic!("no policy") };
    set_weight(0, 3);
    let order: Vec<_> = (0..8).filter_map(|n| weighted.turn(n)).collect();
    let task = TaskPolicy::default();
    let turns: Vec<_> = (0..8).filter_map(|_| task.take_turn(&weighted)).collect();
    set_weight(0, 1);
    assert_eq!(order, [0, 0, 0, 1, 0, 0, 0, 1]);
    assert_eq!(turns, order);
}

#[test]
fn nodes_map_by_rank() {
    let (old, new) = (NodeMask(0b101), NodeMask(0b1010));
    assert_eq!(NodeMask::remap(0, old, new), 1);
    assert_eq!(NodeMask::remap(2, old, new), 3);
    assert_eq!(NodeMask::remap(1, old, new), 1);
}

#[test]
fn objects_have_policies_by_range() -> Result<()> {
    let Ok(Some(bind)) = policy(raw::MPOL_BIND, 1) else { panic!("no policy") };
    let Ok(Some(local)) = policy(raw::MPOL_LOCAL, 0) else { panic!("no policy") };
    let shared = SharedPolicies::default();
    shared.set(0..10, Some(bind.clone()))?;
    shared.set(4..6, Some(local.clone()))?;
    shared.set(8..20, None)?;
    let at = |index| shared.get(index);
    assert_eq!([at(3), at(4), at(6)], [Some(bind.clone()), Some(local), Some(bind)]);
    assert_eq!([at(8), at(19)], [None, None]);
    Ok(())
}
