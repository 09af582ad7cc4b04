//! What is told to the DHTs.

use std::fmt;
use std::str::FromStr;

use cairn_proto::cid::Multihash;
use tracing::debug;

use crate::Result;
use crate::blocks::Served;
use crate::routing::records::Own;
use crate::store::Store;

/// What is told to the DHTs: one kind of content, or several together.
///
/// Source of the names: Kubo `docs/config.md`, `Provide.Strategy`.
///
/// # Differences
/// `+unique` is accepted and changes nothing: nothing is ever told twice in a turn. So is `+entities`, with which Kubo
/// leaves out the inside of files; here it is told. `mfs` adds nothing to others, since this program has no files API;
/// alone it would tell nothing at all, and is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strategy {
    /// Every block in the store.
    pub all: bool,
    /// Every block that a pin keeps.
    pub pinned: bool,
    /// Only what is pinned itself.
    pub roots: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        Self { all: true, pinned: false, roots: false }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut strategy = Self { all: false, ..Self::default() };
        let (mut is_modified, mut has_mfs) = (false, false);
        for part in text.split('+') {
            match part {
                "all" | "flat" => strategy.all = true,
                "pinned" => strategy.pinned = true,
                "roots" => strategy.roots = true,
                "mfs" => has_mfs = true,
                "unique" | "entities" => is_modified = true,
                other => {
                    return Err(format!("no such strategy: {other:?}; there are all, pinned, roots"));
                }
            }
        }
        let Self { all, pinned, roots } = strategy;
        match (all, pinned || roots) {
            (false, false) if has_mfs => {
                Err("nothing to be told: mfs alone, and there is no files API here; use all, pinned or roots"
                    .to_owned())
            }
            (true, _) if has_mfs => Err(format!("all cannot be combined with others: {text:?}")),
            (true, true) => Err(format!("all cannot be combined with others: {text:?}")),
            (true, _) if is_modified => Err(format!("all cannot be modified: {text:?}")),
            (false, false) => Err(format!("nothing to be told: {text:?}")),
            _ => Ok(strategy),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, pinned, roots } = *self;
        let parts = [(all, "all"), (pinned, "pinned"), (roots, "roots")];
        let parts: Vec<_> = parts.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| *name).collect();
        f.write_str(&parts.join("+"))
    }
}

/// Tells which blocks of a store are to be told of.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    store: Store,
    served: Served,
    strategy: Strategy,
}

impl Wanted {
    pub(crate) fn new(store: Store, served: Served, strategy: Strategy) -> Self {
        Self { store, served, strategy }
    }

    pub(super) fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Which of these are here, may be given away, and belong to the strategy. Blocks its thread.
    pub(super) fn holds(&self, content: &[Multihash]) -> Result<Vec<bool>> {
        let shared = self.store.shared();
        let Strategy { all, pinned, roots } = self.strategy;
        self.held(content, |id| {
            Ok(all || (pinned && shared.is_kept(id)?) || (roots && shared.is_pinned(id)?))
        })
    }

    /// Which of these are here and may be given away. Blocks its thread.
    pub(super) fn has(&self, content: &[Multihash]) -> Result<Vec<bool>> {
        self.held(content, |_| Ok(true))
    }

    fn held(&self, content: &[Multihash], belongs: impl Fn(u64) -> Result<bool>) -> Result<Vec<bool>> {
        let ids = self.store.shared().ids_of(content)?;
        let held = |(hash, id): (&Multihash, Option<u64>)| match id {
            Some(id) if self.served.is_allowed(hash) => belongs(id),
            _ => Ok(false),
        };
        content.iter().zip(ids).map(held).collect()
    }

    /// The next blocks of the store in the order of their arrival, from a number on, that belong to the strategy, and the
    /// number to go on from; `None` behind the last. Blocks its thread.
    pub(super) fn next(&self, from: u64, max: usize) -> Result<(Vec<Multihash>, Option<u64>)> {
        let listed = self.store.ids_from(from, max)?;
        let next = listed.last().map(|(entry, _)| entry.id + 1);
        let content: Vec<_> = listed.into_iter().map(|(_, hash)| hash).collect();
        let mut holds = self.holds(&content)?.into_iter();
        let content = content.into_iter().filter(|_| holds.next().unwrap_or(false)).collect();
        Ok((content, next))
    }
}

impl Own for Wanted {
    fn provides(&self, content: &Multihash) -> bool {
        let held = self.holds(&[*content]);
        held.inspect_err(|error| debug!(%error, "not found out what is provided"))
            .is_ok_and(|held| held == [true])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_have_kubos_names_and_combinations() {
        // Source: Kubo `config/provide_test.go`.
        for (text, expected) in [
            ("", "all"),
            ("all", "all"),
            ("flat", "all"),
            ("pinned", "pinned"),
            ("pinned+mfs", "pinned"),
            ("mfs+pinned", "pinned"),
            ("pinned+unique", "pinned"),
            ("pinned+mfs+entities", "pinned"),
            ("roots", "roots"),
        ] {
            assert_eq!(text.parse::<Strategy>().unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "nothing",
            "all+pinned",
            "pinned+",
            "+",
            "unique",
            "entities",
            "all+unique",
            "all+entities",
            "mfs",
            "all+mfs",
        ] {
            assert!(text.parse::<Strategy>().is_err(), "{text}");
        }
    }
}
