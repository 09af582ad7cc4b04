//! Random operations against a model that fits in a page.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::gc;
use crate::pins::{PinKind, Pins};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Operations on one store.
const STEPS: usize = 150;
/// Operations in all; `CAIRN_TEST_OPERATIONS` changes it.
const OPERATIONS: usize = 600;

/// Blocks by name, and what they link to.
struct World {
    blocks: Vec<Block>,
    links: Vec<Vec<usize>>,
}

/// What should be in the store.
#[derive(Default)]
struct Model {
    stored: BTreeSet<usize>,
    pins: BTreeMap<usize, PinKind>,
}

impl World {
    fn new(random: &mut impl Rng) -> Self {
        let mut world = Self { blocks: Vec::new(), links: Vec::new() };
        for n in 0..60_usize {
            let links: Vec<_> = if n < 20 {
                Vec::new()
            } else {
                let count = random.random_range(1..6);
                let below: Vec<_> = (0..n).collect();
                below.choose_multiple(random, count).copied().collect()
            };
            let cids: Vec<_> = links.iter().map(|link| *world.blocks[*link].cid()).collect();
            let len = random.random_range(1..9000);
            world.blocks.push(if links.is_empty() { block_of(n as u64, len) } else { node(n as u64, &cids) });
            world.links.push(links);
        }
        world
    }

    fn below(&self, root: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::from([root]);
        let mut next = vec![root];
        while let Some(n) = next.pop() {
            next.extend(self.links[n].iter().copied().filter(|link| found.insert(*link)));
        }
        found
    }

    fn kept(&self, model: &Model) -> BTreeSet<usize> {
        let kept = model.pins.iter().map(|(root, kind)| match kind {
            PinKind::Recursive => self.below(*root),
            PinKind::Direct => BTreeSet::from([*root]),
        });
        kept.flatten().collect()
    }

    fn check(&self, store: &Store, model: &Model) {
        for (n, block) in self.blocks.iter().enumerate() {
            assert_eq!(store.get(block.cid()).unwrap().is_some(), model.stored.contains(&n), "block {n}");
        }
        let listed = Pins::new(store.clone()).list(Default::default()).map(|pin| pin.unwrap());
        let listed: BTreeSet<_> = listed.map(|pin| (pin.cid, pin.kind == PinKind::Recursive)).collect();
        let pins = model.pins.iter();
        let expected =
            pins.map(|(root, kind)| (*self.blocks[*root].cid(), *kind == PinKind::Recursive)).collect();
        assert_eq!(listed, expected);
        assert_sound(store);
    }
}

async fn run(seed: u64) {
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let world = World::new(&mut random);
    // In memory, where the system has such a place: this is not about the disk.
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let mut store = open(dir.path());
    let mut model = Model::default();
    for _ in 0..STEPS {
        let n = random.random_range(0..world.blocks.len());
        let cid = *world.blocks[n].cid();
        let pins = Pins::new(store.clone());
        match random.random_range(0..100) {
            0..45 => {
                let with_below: Vec<_> = world.below(n).into_iter().collect();
                let blocks = with_below.iter().map(|n| world.blocks[*n].clone()).collect();
                let durability = if random.random() { Durability::Now } else { Durability::Later };
                store.put(blocks, durability, &store.lease()).await.unwrap();
                model.stored.extend(with_below);
            }
            45..65 => {
                let kind = if random.random_ratio(3, 4) { PinKind::Recursive } else { PinKind::Direct };
                let pinned = pins.pin(cid, kind, None, &store.lease(), |_, _| ()).await;
                let whole = match kind {
                    PinKind::Recursive => world.below(n).is_subset(&model.stored),
                    PinKind::Direct => {
                        model.stored.contains(&n) && model.pins.get(&n) != Some(&PinKind::Recursive)
                    }
                };
                assert_eq!(pinned.is_ok(), whole, "{pinned:?}");
                if whole {
                    model.pins.insert(n, kind);
                }
            }
            65..80 => {
                let pinned: Vec<_> = model.pins.iter().map(|(n, kind)| (*n, *kind)).collect();
                if let Some((n, kind)) = pinned.choose(&mut random) {
                    pins.unpin(*world.blocks[*n].cid(), *kind).await.unwrap();
                    model.pins.remove(n);
                }
            }
            80..88 => {
                let refused = !model.stored.contains(&n) || world.kept(&model).contains(&n);
                let answer = store.remove(&[cid]).await.unwrap().pop().unwrap().1;
                assert_eq!(answer.is_err(), refused, "{answer:?}");
                if !refused {
                    model.stored.remove(&n);
                }
            }
            88..94 => {
                gc::collect(&store, |_| ()).await.unwrap();
                let kept = world.kept(&model);
                model.stored.retain(|n| kept.contains(n));
            }
            94..97 => {
                drop((pins, store));
                store = open(dir.path());
            }
            _ => {
                store.sync().await.unwrap();
                let copy = crashed(&store);
                world.check(&open(copy.path()), &model);
            }
        }
    }
    store.sync().await.unwrap();
    world.check(&store, &model);
}

#[test]
fn random_operations_leave_what_the_model_says() {
    let operations = std::env::var("CAIRN_TEST_OPERATIONS").map_or(OPERATIONS, |text| text.parse().unwrap());
    let threads = std::thread::available_parallelism().unwrap().get();
    let run_share = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..operations.div_ceil(STEPS * threads) {
            runtime.block_on(run(rand::random()));
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(run_share))));
    println!("{operations} operations");
}
