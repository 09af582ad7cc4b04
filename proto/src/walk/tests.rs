use std::collections::{HashMap, HashSet};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::testing::{Peers, block, identity, node, raw, with_seeds};
use super::*;
use crate::cid::{DAG_CBOR, RAW, Version};

const EVERY_ORDER: [Order; 3] =
    [Order::Any, Order::Dfs { duplicates: false }, Order::Dfs { duplicates: true }];

fn options(order: Order) -> WalkOptions {
    WalkOptions { order, ..WalkOptions::default() }
}

/// The walk as one would write it first: recursive, with every block at hand.
fn model(peers: &Peers, root: &Cid, duplicates: bool) -> Vec<Block> {
    fn visit(peers: &Peers, cid: &Cid, seen: &mut Option<HashSet<(u64, Vec<u8>)>>, out: &mut Vec<Block>) {
        if seen.as_mut().is_some_and(|seen| !seen.insert((cid.codec(), cid.hash().to_bytes()))) {
            return;
        }
        let block = peers.get(cid);
        let links = codec::links(&block).unwrap();
        if identity_content(cid).is_none() {
            out.push(block);
        }
        links.iter().for_each(|link| visit(peers, link, seen, out));
    }
    let mut out = Vec::new();
    visit(peers, root, &mut (!duplicates).then(HashSet::new), &mut out);
    out
}

/// A random DAG with shared and repeated parts: its root, and how many positions it has.
fn random_dag(peers: &mut Peers, rng: &mut ChaCha8Rng) -> (Cid, u64) {
    let mut nodes: Vec<(Cid, u64, u64)> = Vec::new();
    for _ in 0..rng.random_range(1..20) {
        let data: Vec<u8> = (0..rng.random_range(0..3000)).map(|_| rng.random()).collect();
        let len = data.len() as u64;
        let is_inline = len < 100;
        let cid = if is_inline { identity(RAW, &data) } else { peers.add(raw(data)) };
        nodes.push((cid, len, 1));
    }
    for _ in 0..rng.random_range(0..25) {
        let reach = rng.random_range(1..=nodes.len());
        let mut links = Vec::new();
        let (mut below, mut count) = (0, 1);
        for _ in 0..rng.random_range(0..12) {
            let (cid, len, positions) = nodes[nodes.len() - rng.random_range(1..=reach)];
            if count + positions > 3000 {
                continue;
            }
            (below, count) = (below + len, count + positions);
            links.push(("", cid, rng.random_bool(0.9).then_some(len)));
        }
        let parent = if rng.random_bool(0.2) { cbor_list(&links) } else { node(&links) };
        let len = below + parent.data().len() as u64;
        let small = parent.data().len() <= 100 && rng.random_bool(0.5);
        let cid = if small { identity(parent.cid().codec(), parent.data()) } else { peers.add(parent) };
        nodes.push((cid, len, count));
    }
    let (root, _, count) = *nodes.last().unwrap();
    (root, count)
}

fn cbor_list(links: &[(&str, Cid, Option<u64>)]) -> Block {
    let mut bytes = vec![0x80 | u8::try_from(links.len()).unwrap()];
    for (_, cid, _) in links {
        let cid = cid.to_bytes();
        bytes.extend([0xd8, 0x2a, 0x58, u8::try_from(cid.len() + 1).unwrap(), 0]);
        bytes.extend(cid);
    }
    block(DAG_CBOR, bytes)
}

/// A balanced tree over leaves of one size: its root and its size.
fn tree(peers: &mut Peers, depth: usize, width: usize, leaf_bytes: usize, at: &mut u64) -> (Cid, u64) {
    if depth == 0 {
        *at += 1;
        let mut data = vec![0; leaf_bytes];
        data[..8].copy_from_slice(&at.to_be_bytes());
        return (peers.add(raw(data)), leaf_bytes as u64);
    }
    let children: Vec<_> = (0..width).map(|_| tree(peers, depth - 1, width, leaf_bytes, at)).collect();
    let links: Vec<_> = children.iter().map(|(cid, len)| ("", *cid, Some(*len))).collect();
    let parent = node(&links);
    let len = children.iter().map(|(_, len)| len).sum::<u64>() + parent.data().len() as u64;
    (peers.add(parent), len)
}

#[test]
fn a_dag_that_links_the_same_leaf_many_times_is_walked_to_its_end() {
    with_seeds(0..50, |mut rng| {
        let mut peers = Peers::new(rng.clone());
        let same = peers.add(raw(vec![7; 1000]));
        let other = peers.add(raw(vec![8; 1000]));
        let half: Vec<_> = (0..40).map(|at| if at % 9 == 4 { other } else { same }).collect();
        let half: Vec<_> = half.into_iter().map(|cid| ("", cid, Some(1000))).collect();
        let inner = peers.add(node(&half));
        let root = peers.add(node(&[("", inner, Some(42_000)), ("", same, None), ("", inner, Some(42_000))]));
        for order in EVERY_ORDER {
            let window_bytes = rng.random_range(0..20_000);
            let mut walk = Walk::new(root, WalkOptions { window_bytes, ..options(order) });
            let blocks = peers.run(&mut walk).unwrap();
            match order {
                Order::Any => assert_eq!(blocks.len(), 4),
                Order::Dfs { duplicates } => assert_eq!(blocks, model(&peers, &root, duplicates)),
            }
        }
    });
}

#[test]
fn random_dags_are_walked_as_the_model_walks_them() {
    with_seeds(0..400, |mut rng| {
        let mut peers = Peers::new(rng.clone());
        let (root, _) = random_dag(&mut peers, &mut rng);
        let once = model(&peers, &root, false);
        for order in EVERY_ORDER {
            let magnitude = rng.random_range(0..24);
            let options = WalkOptions {
                window_bytes: rng.random_range(0..1 << magnitude),
                max_wants: rng.random_range(0..20),
                ..options(order)
            };
            let blocks = peers.run(&mut Walk::new(root, options)).unwrap();
            if let Order::Dfs { duplicates } = order {
                assert_eq!(blocks, model(&peers, &root, duplicates), "{options:?}");
            } else {
                let by_cid = |blocks: &[Block]| {
                    let blocks = blocks.iter().map(|block| (block.cid().to_bytes(), block.clone()));
                    blocks.collect::<HashMap<_, _>>()
                };
                assert_eq!(by_cid(&blocks), by_cid(&once), "{options:?}");
                assert_eq!(blocks.len(), once.len(), "{options:?}");
            }
            if order == Order::Any {
                peers.assert_asked_once();
            }
        }
    });
}

#[test]
fn what_is_asked_for_and_not_emitted_stays_within_the_window() {
    with_seeds(0..60, |mut rng| {
        let mut peers = Peers::new(rng.clone());
        let (root, _) = tree(&mut peers, 3, 6, 1000, &mut 0);
        for order in EVERY_ORDER {
            let window_bytes = rng.random_range(0..60_000);
            let mut walk = Walk::new(root, WalkOptions { window_bytes, ..options(order) });
            let (mut emitted_bytes, mut most_bytes) = (0, 0);
            let on_block = |asked_bytes: u64, block: Block| {
                most_bytes = most_bytes.max(asked_bytes - emitted_bytes);
                emitted_bytes += block.data().len() as u64;
            };
            peers.run_with(&mut walk, on_block).unwrap();
            assert!(most_bytes <= window_bytes + 1000, "{most_bytes} {window_bytes} {order:?}");
            // It is used, too: the records of a position take less than half of what a leaf takes.
            assert!(most_bytes + 3000 >= window_bytes / 2, "{most_bytes} {window_bytes} {order:?}");
        }
    });
}

#[test]
fn wants_are_at_most_as_many_as_allowed_and_one_more_for_the_front() {
    for max_wants in [1, 2, 7] {
        for order in EVERY_ORDER {
            let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
            let (root, _) = tree(&mut peers, 2, 10, 100, &mut 0);
            let mut walk = Walk::new(root, WalkOptions { max_wants, ..options(order) });
            let blocks = peers.run(&mut walk).unwrap();
            assert_eq!(blocks.len(), 111);
            assert!(peers.most_count <= max_wants + 1, "{} {max_wants} {order:?}", peers.most_count);
        }
    }
}

#[test]
fn a_full_window_is_asked_for_in_batches() {
    for order in EVERY_ORDER {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let (root, len_bytes) = tree(&mut peers, 1, 1000, 2000, &mut 0);
        let window_bytes = len_bytes / 10;
        let blocks = peers.run(&mut Walk::new(root, WalkOptions { window_bytes, ..options(order) })).unwrap();
        assert_eq!(blocks.len(), 1001);
        // A batch for each quarter of a window, and some at the front.
        assert!(peers.batch_count <= 60, "{} {order:?}", peers.batch_count);
    }
}

/// A line on which blocks come `delay` ticks after they were asked for, one kilobyte a tick. Ticks until the walk ends.
fn ticks_on_a_line(peers: &Peers, walk: &mut Walk, delay: u64) -> u64 {
    let mut line: std::collections::VecDeque<(u64, Block)> = std::collections::VecDeque::new();
    let (mut now, mut is_free_at) = (0, 0);
    loop {
        match walk.next().unwrap() {
            Step::Need(cids) => {
                for block in cids.iter().map(|cid| peers.get(cid)) {
                    is_free_at = is_free_at.max(now + delay) + block.data().len().div_ceil(1000) as u64;
                    line.push_back((is_free_at, block));
                }
            }
            Step::Emit(_) => {}
            Step::Pending => {
                let (arrives_at, block) = line.pop_front().unwrap();
                now = arrives_at;
                walk.provide(block);
            }
            Step::Done => return now,
        }
    }
}

#[test]
fn the_line_does_not_run_dry_at_the_borders_of_subtrees() {
    let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
    let (root, len_bytes) = tree(&mut peers, 2, 60, 10_000, &mut 0);
    let delay = 300;
    for order in EVERY_ORDER {
        let mut walk = Walk::new(root, WalkOptions { window_bytes: 700_000, ..options(order) });
        let ticks = ticks_on_a_line(&peers, &mut walk, delay);
        // One delay for the root, one for the inner nodes, one for the first leaves; nothing for the other 59 borders.
        let least = len_bytes / 1000 + 3 * delay;
        assert!(ticks <= least + least / 20, "{ticks} {least} {order:?}");
    }
}

#[test]
fn blocks_larger_than_their_parents_say_are_asked_for_again_rather_than_hoarded() {
    with_seeds(0..20, |rng| {
        let mut peers = Peers::new(rng);
        let mut links = Vec::new();
        for at in 0..100_u8 {
            links.push(("", peers.add(raw(vec![at; 50_000])), Some(1)));
        }
        let root = peers.add(node(&links));
        let options = WalkOptions { window_bytes: 200_000, ..WalkOptions::default() };
        let blocks = peers.run(&mut Walk::new(root, options)).unwrap();
        assert_eq!(blocks, model(&peers, &root, false));
        assert!(peers.asked.len() > 101);
    });
}

#[test]
fn a_dag_may_be_as_deep_as_the_bound_and_no_deeper() {
    for order in EVERY_ORDER {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let mut root = peers.add(raw(vec![1]));
        let mut chain = vec![root];
        for _ in 0..=MAX_DAG_DEPTH {
            root = peers.add(node(&[("", root, None)]));
            chain.push(root);
        }
        let blocks = peers.run(&mut Walk::new(chain[MAX_DAG_DEPTH], options(order))).unwrap();
        assert_eq!(blocks.len(), MAX_DAG_DEPTH + 1);
        let error = peers.run(&mut Walk::new(root, options(order))).unwrap_err();
        assert_eq!(error, WalkError::TooDeep { cid: chain[1], max: MAX_DAG_DEPTH });
    }
}

#[test]
fn links_may_take_as_much_memory_as_the_bound_and_no_more() {
    let link_bytes = size_of::<Part<Box<Block>, ()>>() as u64;
    for order in EVERY_ORDER {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let (root, _) = tree(&mut peers, 1, 1000, 8, &mut 0);
        // The root's own position, and the root as the one item among its parts.
        let walk = |spare| {
            // Twice, since the parts of a block may take more than they need while they are gathered.
            let max_frontier_bytes = 2 * link_bytes * 1002 - spare;
            Walk::new(root, WalkOptions { max_frontier_bytes, ..options(order) })
        };
        assert_eq!(peers.run(&mut walk(0)).unwrap().len(), 1001);
        let max_bytes = 1001 * link_bytes - 1;
        let error = peers.run(&mut walk(link_bytes * 1003 + 1)).unwrap_err();
        assert_eq!(error, WalkError::TooWide { cid: root, max_bytes }, "{order:?}");
    }
}

#[test]
fn both_versions_of_a_cid_are_one_block_and_each_goes_out_as_it_was_linked() {
    let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
    let v1 = peers.add(node(&[]));
    let v0 = Cid::new_v0(*v1.hash()).unwrap();
    assert_eq!(v0.version(), Version::V0);
    let root = peers.add(node(&[("", v0, Some(0)), ("", v1, Some(0))]));
    let mut cids = |order| {
        let blocks = peers.run(&mut Walk::new(root, options(order))).unwrap();
        assert_eq!(peers.asked, [root, v0]);
        blocks.iter().map(|block| *block.cid()).collect::<Vec<_>>()
    };
    assert_eq!(cids(Order::Any), [root, v0]);
    assert_eq!(cids(Order::Dfs { duplicates: false }), [root, v0]);
    assert_eq!(cids(Order::Dfs { duplicates: true }), [root, v0, v1]);
}

#[test]
fn the_same_bytes_have_links_under_one_codec_and_none_under_another() {
    let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
    let leaf = peers.add(raw(vec![1]));
    let parent = node(&[("", leaf, Some(1))]);
    let as_raw = peers.add(raw(parent.data().clone()));
    let as_node = peers.add(parent);
    let root = peers.add(node(&[("", as_raw, Some(40)), ("", as_node, Some(40))]));
    for order in EVERY_ORDER {
        let blocks = peers.run(&mut Walk::new(root, options(order))).unwrap();
        let cids: HashSet<Cid> = blocks.iter().map(|block| *block.cid()).collect();
        assert_eq!(cids, HashSet::from([root, as_raw, as_node, leaf]));
    }
}

#[test]
fn identity_cids_are_followed_without_asking_and_not_emitted() {
    let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
    let leaf = peers.add(raw(vec![1]));
    let inline = identity(DAG_PB, node(&[("", leaf, Some(1))]).data());
    let root = peers.add(node(&[("", inline, None), ("", identity(RAW, b"text"), None)]));
    for order in EVERY_ORDER {
        let blocks = peers.run(&mut Walk::new(root, options(order))).unwrap();
        assert_eq!(blocks.iter().map(|block| *block.cid()).collect::<Vec<_>>(), [root, leaf]);
        let blocks = peers.run(&mut Walk::new(inline, options(order))).unwrap();
        assert_eq!(blocks.iter().map(|block| *block.cid()).collect::<Vec<_>>(), [leaf]);
    }
}

#[test]
fn what_is_skipped_is_left_out_with_all_below_it() {
    for order in EVERY_ORDER {
        let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
        let below = peers.add(raw(vec![1]));
        let skipped = peers.add(node(&[("", below, Some(1))]));
        let kept = peers.add(raw(vec![2]));
        let links = [("", skipped, None), ("", kept, Some(1)), ("", skipped, None)];
        let root = peers.add(node(&links));
        let mut walk = Walk::new(root, options(order));
        let mut cids = Vec::new();
        loop {
            match walk.next().unwrap() {
                Step::Need(needed) => {
                    for cid in needed {
                        if cid == skipped { walk.skip(&cid) } else { walk.provide(peers.get(&cid)) }
                    }
                }
                Step::Emit(block) => cids.push(*block.cid()),
                Step::Pending => panic!("everything was answered"),
                Step::Done => break,
            }
        }
        assert_eq!(cids, [root, kept], "{order:?}");
    }
}

#[test]
fn a_block_that_does_not_decode_fails_the_walk_in_its_turn() {
    with_seeds(0..20, |rng| {
        let mut peers = Peers::new(rng);
        let good = peers.add(raw(vec![1]));
        let bad = peers.add(block(DAG_PB, vec![0xff]));
        let root = peers.add(node(&[("", good, Some(1)), ("", bad, Some(1)), ("", good, Some(1))]));
        let mut cids = Vec::new();
        let mut walk = Walk::new(root, WalkOptions::default());
        let error = peers.run_with(&mut walk, |_, block| cids.push(*block.cid())).unwrap_err();
        assert!(matches!(error, WalkError::Decode { cid, .. } if cid == bad));
        assert_eq!(cids, [root, good]);
        assert!(peers.run(&mut Walk::new(root, options(Order::Any))).is_err());
    });
}

#[test]
fn blocks_that_nobody_asked_for_are_ignored() {
    let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
    let stranger = raw(vec![9]);
    let (root, _) = tree(&mut peers, 1, 3, 8, &mut 0);
    for order in EVERY_ORDER {
        let mut walk = Walk::new(root, options(order));
        walk.provide(stranger.clone());
        walk.skip(stranger.cid());
        assert_eq!(peers.run(&mut walk).unwrap().len(), 4);
    }
}

#[test]
fn a_node_with_many_links_is_walked_in_little_more_than_its_own_memory() {
    // As many links as fit into the largest block.
    let mut peers = Peers::new(ChaCha8Rng::seed_from_u64(1));
    let leaves: Vec<_> =
        (0..45_000_u32).map(|at| ("", peers.add(raw(at.to_be_bytes().to_vec())), Some(4))).collect();
    let root = peers.add(node(&leaves));
    for order in EVERY_ORDER {
        assert_eq!(peers.run(&mut Walk::new(root, options(order))).unwrap().len(), 45_001);
    }
}
