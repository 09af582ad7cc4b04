//! Looks for what is missing below pins.

use std::collections::HashSet;

use cairn_proto::cid::Cid;

use super::{DagNode, PinKind, Pins, Store};
use crate::error::{Kind, Result};
use crate::store::{has_links, links_of};

/// A recursive pin that was looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinCheck {
    /// What is pinned.
    pub cid: Cid,
    /// Blocks that are missing or damaged, and how.
    pub broken: Vec<(Cid, String)>,
}

impl Pins {
    /// Every recursive pin, with what is missing below it. What several share is looked through once. Blocks its thread;
    /// leaves are looked up, not read.
    pub fn verify(&self) -> impl Iterator<Item = Result<PinCheck>> + Send + use<> {
        let store = self.store.clone();
        let mut whole = HashSet::new();
        let pins = self.list(super::PinFilter { kind: Some(PinKind::Recursive), ..Default::default() });
        pins.map(move |pin| {
            let cid = pin?.cid;
            Ok(PinCheck { cid, broken: broken(&store, cid, &mut whole)? })
        })
    }
}

/// Walks below a root, but not into what is known to be whole.
fn broken(store: &Store, root: Cid, whole: &mut HashSet<DagNode>) -> Result<Vec<(Cid, String)>> {
    let mut broken = Vec::new();
    let mut seen = HashSet::new();
    let mut next = vec![root];
    while let Some(cid) = next.pop() {
        if !has_links(cid.codec()) {
            if !store.has(cid.hash())? && cairn_proto::block::Block::from_identity(cid).is_none() {
                broken.push((cid, missing()));
            }
            continue;
        }
        let id = store.shared().id_of(cid.hash())?;
        if let Some(node) = id.map(|id| DagNode { id, codec: cid.codec() })
            && (whole.contains(&node) || !seen.insert(node))
        {
            continue;
        }
        match store.get(&cid) {
            Ok(Some(block)) => next.extend(links_of(&cid, Some(&block))?),
            Ok(None) => broken.push((cid, missing())),
            Err(error) if error.kind() == Kind::Corrupt => broken.push((cid, error.to_string())),
            Err(error) => return Err(error),
        }
    }
    if broken.is_empty() {
        whole.extend(seen);
    }
    Ok(broken)
}

fn missing() -> String {
    "block is not in the local store".to_owned()
}
