//! The auditor: recounts the truth, slowly, and says where the store differs from it.

use std::collections::HashSet;

use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, IDENTITY, RAW};

use super::layout::{self, BlockId, DagNode, Edge, Entry, PinKind, cf, meta};
use super::{Shared, Store, bad_row, has_links, links_of};
use crate::error::Result;

/// Problems that are told in words; the others are only counted.
const MAX_PROBLEMS: usize = 100;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Totals, counted anew.
    pub counted: super::StoreStat,
    /// Edges.
    pub edge_count: u64,
    /// Blocks that were set aside as damaged and are still missed.
    pub damaged_count: u64,
    /// Where the store differs from the truth.
    pub problem_count: u64,
    /// The first of them, in words.
    pub problems: Vec<String>,
}

/// Holds against each other: payload, `ids` and `index`, one to one and by their hashes; edges and the links of every
/// node that is kept; the counters. The store must be at rest, or what is under way looks like a difference.
pub(super) fn audit(store: &Store) -> Result<AuditReport> {
    let mut audit = Audit { store, report: AuditReport::default() };
    audit.blocks()?;
    audit.strays(cf::INDEX)?;
    audit.strays(cf::PAYLOAD)?;
    audit.edges()?;
    audit.counters()?;
    Ok(audit.report)
}

struct Audit<'s> {
    store: &'s Store,
    report: AuditReport,
}

impl Audit<'_> {
    fn shared(&self) -> &Shared {
        self.store.shared()
    }

    fn problem(&mut self, words: String) {
        self.report.problem_count += 1;
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(words);
        }
    }

    /// Every row of `ids` has its row in `index` and, unless damaged, a payload that hashes to it.
    fn blocks(&mut self) -> Result<()> {
        let shared = std::sync::Arc::clone(self.store.shared());
        for row in super::rows::paged(shared, cf::IDS, Vec::new()) {
            let (key, value) = row?;
            let (entry, multihash) = Entry::decode_with(&key, &value).ok_or_else(bad_row)?;
            if self.shared().entries(&[multihash])?.pop().flatten() != Some(entry) {
                self.problem(format!("block has no index row of its own, id={}", entry.id));
            }
            if entry.damaged {
                self.report.damaged_count += 1;
                continue;
            }
            self.report.counted.block_count += 1;
            self.report.counted.block_bytes += u64::from(entry.len_bytes);
            let hash = layout::multihash(multihash).ok_or_else(bad_row)?;
            let payload = self.shared().read_payload(&entry, multihash)?;
            let whole = payload.is_some_and(|bytes| {
                bytes.len() == entry.len_bytes as usize
                    && Block::verify(Cid::new_v1(RAW, hash), bytes).is_ok()
            });
            if !whole {
                self.problem(format!("payload is missing or damaged, id={}", entry.id));
            }
        }
        Ok(())
    }

    /// Every row of `index` or `payload` is one that `ids` knows.
    fn strays(&mut self, family: &'static str) -> Result<()> {
        let shared = std::sync::Arc::clone(self.store.shared());
        let mut rows = shared.db.rows_from(family, &[]);
        while let Some((key, value)) = rows.next()? {
            let (id, multihash) = match family {
                cf::INDEX => (Entry::decode(value).ok_or_else(bad_row)?.id, key),
                _ => layout::split_u64(key).ok_or_else(bad_row)?,
            };
            let known = shared.db.get(cf::IDS, &id.to_be_bytes())?;
            let known = known
                .as_deref()
                .and_then(|row| Entry::decode_with(&key_of(id), row).map(|(_, m)| m == multihash));
            if known != Some(true) {
                self.problem(format!("row of {family} belongs to no block, id={id}"));
            }
        }
        Ok(())
    }

    /// Every link of every node that is kept has its edge, and there are no others.
    fn edges(&mut self) -> Result<()> {
        let mut expected_count = 0;
        let mut last = None;
        for edge in self.store.edges() {
            let child = edge?.child;
            self.report.edge_count += 1;
            if last.replace(child) != Some(child) {
                expected_count += self.links_of_kept(child)?;
            }
        }
        let mut last = None;
        for pin in self.store.stored_pins() {
            let pin = pin?;
            self.report.counted.pin_count += 1;
            if pin.cid.hash().code() == IDENTITY {
                continue;
            }
            if self.shared().multihash_of(pin.id)? != Some(*pin.cid.hash()) {
                self.problem(format!("pin dangles, cid={}", pin.cid));
            }
            let root = DagNode { id: pin.id, codec: pin.cid.codec() };
            let again = last.replace(root) == Some(root);
            // A root that an edge keeps too was counted above.
            if pin.kind == PinKind::Recursive && !again && self.shared().parents(root)?.is_empty() {
                expected_count += self.links_of_kept(root)?;
            }
        }
        if expected_count != self.report.edge_count {
            let found = self.report.edge_count;
            self.problem(format!(
                "edges differ from the links of kept nodes, found={found} links={expected_count}"
            ));
        }
        Ok(())
    }

    /// Counts the distinct links of a kept node, and tells those that have no edge.
    fn links_of_kept(&mut self, parent: DagNode) -> Result<u64> {
        let Some(multihash) = self.shared().multihash_of(parent.id)? else {
            self.problem(format!("kept block is missing, id={}", parent.id));
            return Ok(0);
        };
        if !has_links(parent.codec) {
            return Ok(0);
        }
        let cid = Cid::new_v1(parent.codec, multihash);
        let Some(block) = self.store.get(&cid)? else {
            self.problem(format!("kept block cannot be read, cid={cid}"));
            return Ok(0);
        };
        let links = links_of(&cid, Some(&block))?;
        let ids = self.shared().ids_of(&links.iter().map(|link| *link.hash()).collect::<Vec<_>>())?;
        let mut edges = HashSet::new();
        for (link, id) in links.iter().zip(ids) {
            let Some(id) = id else {
                self.problem(format!("kept block links to one that is missing, cid={cid} link={link}"));
                continue;
            };
            let child = DagNode { id, codec: link.codec() };
            edges.insert(Edge { child, parent, child_version: cairn_proto::cid::Version::V1 }.key());
        }
        for key in &edges {
            if self.shared().db.get(cf::EDGES, key)?.is_none() {
                self.problem(format!("link of a kept block has no edge, cid={cid}"));
            }
        }
        Ok(edges.len() as u64)
    }

    fn counters(&mut self) -> Result<()> {
        let row = self.shared().db.get(cf::META, meta::COUNTERS)?.map(|row| row.to_vec());
        let stored = row.as_deref().and_then(super::StoreStat::decode).unwrap_or_default();
        let counted = self.report.counted;
        if stored != counted {
            self.problem(format!("counters are wrong, stored={stored:?} counted={counted:?}"));
        }
        Ok(())
    }
}

fn key_of(id: BlockId) -> [u8; 8] {
    id.to_be_bytes()
}
