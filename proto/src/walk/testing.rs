//! For tests of machines: a driver that answers in a random order, and DAGs to read.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::key::Key;
use super::{Machine, Step};
use crate::block::Block;
use crate::cid::{Cid, DAG_PB, HashFunction, IDENTITY, Multihash, RAW, Version};
use crate::codec::dag_pb::{PbLink, PbNode};

/// Runs a test with many seeds, and prints the one that fails.
pub(crate) fn with_seeds(seeds: std::ops::Range<u64>, test: impl Fn(ChaCha8Rng)) {
    struct Printer(u64);
    impl Drop for Printer {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with seed {}", self.0);
            }
        }
    }
    for seed in seeds {
        let _printer = Printer(seed);
        test(ChaCha8Rng::seed_from_u64(seed));
    }
}

/// Blocks that are somewhere, and a machine's driver that gets them in a random order.
pub(crate) struct Peers {
    blocks: HashMap<Key, Block>,
    rng: ChaCha8Rng,
    on_their_way: Vec<Cid>,
    /// All that was asked for, in order.
    pub(crate) asked: Vec<Cid>,
    /// Number of [`Step::Need`].
    pub(crate) batch_count: usize,
    /// Most blocks that were on their way.
    pub(crate) most_count: usize,
    asked_bytes: u64,
}

impl Peers {
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            blocks: HashMap::new(),
            rng,
            on_their_way: Vec::new(),
            asked: Vec::new(),
            batch_count: 0,
            most_count: 0,
            asked_bytes: 0,
        }
    }

    pub(crate) fn add(&mut self, block: Block) -> Cid {
        let cid = *block.cid();
        self.blocks.insert(Key::of(&cid), block);
        cid
    }

    pub(crate) fn add_all(&mut self, blocks: Vec<Block>) {
        for block in blocks {
            self.add(block);
        }
    }

    pub(crate) fn get(&self, cid: &Cid) -> Block {
        if let Some(block) = Block::from_identity(*cid) {
            return block;
        }
        self.blocks[&Key::of(cid)].clone().with_cid(*cid).unwrap()
    }

    /// Runs a machine to its end.
    pub(crate) fn run<M: Machine>(&mut self, machine: &mut M) -> Result<Vec<M::Item>, M::Error> {
        let mut items = Vec::new();
        self.run_with(machine, |_, item| items.push(item))?;
        Ok(items)
    }

    /// Runs a machine to its end, and gives `on_item` each item and the bytes asked for so far.
    pub(crate) fn run_with<M: Machine>(
        &mut self,
        machine: &mut M,
        mut on_item: impl FnMut(u64, M::Item),
    ) -> Result<(), M::Error> {
        self.on_their_way.clear();
        self.asked.clear();
        (self.asked_bytes, self.batch_count, self.most_count) = (0, 0, 0);
        loop {
            match machine.next()? {
                Step::Need(cids) => self.ask(cids),
                Step::Emit(item) => on_item(self.asked_bytes, item),
                Step::Pending => {
                    assert!(!self.on_their_way.is_empty(), "the machine waits for nothing");
                    self.deliver(machine);
                }
                Step::Done => break,
            }
            while !self.on_their_way.is_empty() && self.rng.random_bool(0.3) {
                self.deliver(machine);
            }
        }
        assert_eq!(self.on_their_way, [], "the machine is done and waits");
        assert!(matches!(machine.next()?, Step::Done), "done is done");
        Ok(())
    }

    fn ask(&mut self, cids: Vec<Cid>) {
        assert!(!cids.is_empty());
        self.batch_count += 1;
        for cid in cids {
            assert!(!self.on_their_way.contains(&cid), "{cid} is on its way already");
            assert_ne!(cid.hash().code(), IDENTITY);
            self.asked_bytes += self.get(&cid).data().len() as u64;
            self.asked.push(cid);
            self.on_their_way.push(cid);
        }
        self.most_count = self.most_count.max(self.on_their_way.len());
    }

    fn deliver<M: Machine>(&mut self, machine: &mut M) {
        let at = self.rng.random_range(0..self.on_their_way.len());
        let cid = self.on_their_way.swap_remove(at);
        let block = self.blocks.get(&Key::of(&cid)).unwrap_or_else(|| panic!("nobody has {cid}"));
        machine.provide(block.clone());
        if self.rng.random_bool(0.1) {
            machine.provide(block.clone());
        }
    }

    /// Panics if a CID was asked for twice.
    pub(crate) fn assert_asked_once(&self) {
        let distinct: HashSet<_> = self.asked.iter().collect();
        assert_eq!(distinct.len(), self.asked.len());
    }
}

pub(crate) fn block(codec: u64, data: impl Into<Bytes>) -> Block {
    Block::hash(Version::V1, codec, HashFunction::Sha2_256, data.into()).unwrap()
}

pub(crate) fn raw(data: impl Into<Bytes>) -> Block {
    block(RAW, data)
}

/// A dag-pb node without data; each link has the name and the size that it claims.
pub(crate) fn node(links: &[(&str, Cid, Option<u64>)]) -> Block {
    let links = links.iter().map(|(name, cid, tsize)| PbLink {
        cid: *cid,
        name: Some(Bytes::copy_from_slice(name.as_bytes())),
        tsize: *tsize,
    });
    block(DAG_PB, PbNode { links: links.collect(), data: None }.encode())
}

pub(crate) fn identity(codec: u64, data: &[u8]) -> Cid {
    Cid::new_v1(codec, Multihash::wrap(IDENTITY, data).unwrap())
}
