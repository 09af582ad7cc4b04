//! What a walk has asked for and not emitted: the blocks, and the account of their bytes.

use std::collections::BTreeMap;

use super::WalkOptions;
use super::frontier::{Class, FrameId, Guess, Link, Path};
use crate::block::Block;

/// What every position in the window counts besides its block, in bytes: our own records of it.
pub(super) const POSITION_BYTES: u64 = 256;

/// A block that was asked for, by one position or several.
pub(super) struct Want<T> {
    pub(super) state: State,
    /// The link that asked first.
    pub(super) link: Link<T>,
    /// Positions that asked for it and were not emitted yet.
    pub(super) position_count: u64,
    /// What each of them counts in the window, in bytes.
    pub(super) charge_bytes: u64,
    /// Content that it may bring, as long as it is on its way, in bytes.
    pub(super) promised_bytes: u64,
    /// Positions that will look for links in it.
    pub(super) waiting: Vec<Waiting<T>>,
    /// The frames made for them, by where they stand: what a block holds may depend on that.
    pub(super) frames: BTreeMap<Path, FrameId>,
}

/// A position that waits for a block.
pub(super) struct Waiting<T> {
    pub(super) link: Link<T>,
    pub(super) path: Path,
}

pub(super) enum State {
    Asked,
    Here(Block),
    /// It came when there was no room for it.
    Dropped {
        len_bytes: u64,
    },
    /// It is not to be had, or not wanted.
    Skipped,
}

/// The account.
#[derive(Debug)]
pub(super) struct Window {
    /// Charges of all positions asked for and not emitted, in bytes.
    used_bytes: u64,
    /// Blocks that are here and not emitted, each once, in bytes.
    held_bytes: u64,
    /// Blocks asked for and not here.
    asked_count: usize,
    /// Content that they may bring, in bytes.
    promised_bytes: u64,
    /// Largest block that came of unknown size, in bytes, and no less than the first guess.
    unknown_bytes: u64,
    /// Largest inner node that came, in bytes.
    inner_bytes: Option<u64>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            used_bytes: 0,
            held_bytes: 0,
            asked_count: 0,
            promised_bytes: 0,
            unknown_bytes: Guess::FIRST.unknown_bytes,
            inner_bytes: None,
        }
    }

    /// What a position counts until its block is here, in bytes.
    pub(super) fn charge_bytes<T>(&self, link: &Link<T>) -> u64 {
        let guess = Guess {
            unknown_bytes: self.unknown_bytes,
            inner_bytes: self.inner_bytes.unwrap_or(Guess::FIRST.inner_bytes),
        };
        POSITION_BYTES + link.block_bytes(guess)
    }

    pub(super) fn promised_bytes(&self) -> u64 {
        self.promised_bytes
    }

    /// True when so much is free that asking is worth a batch: a quarter.
    pub(super) fn has_room_for_a_batch(&self, options: &WalkOptions) -> bool {
        let three_quarters = |all: u64| all - all.div_ceil(4);
        self.used_bytes <= three_quarters(options.window_bytes)
            && self.asked_count as u64 <= three_quarters(options.max_wants as u64)
    }

    /// True when a position of that charge fits. One fits always, or large blocks would never come.
    pub(super) fn admits(&self, charge_bytes: u64, options: &WalkOptions) -> bool {
        let fits = self.used_bytes.saturating_add(charge_bytes) <= options.window_bytes;
        (fits || self.used_bytes == 0) && self.asked_count < options.max_wants
    }

    /// A block is asked for.
    pub(super) fn ask<T>(&mut self, want: &Want<T>) {
        self.asked_count += 1;
        self.promised_bytes += want.promised_bytes;
        self.used_bytes += want.position_count * want.charge_bytes;
    }

    /// One more position waits for a block.
    pub(super) fn join<T>(&mut self, want: &mut Want<T>) {
        want.position_count += 1;
        self.used_bytes += want.charge_bytes;
    }

    /// A block is not on its way any more; its positions count what it really takes. False if it was not on its way.
    pub(super) fn arrive<T>(&mut self, want: &mut Want<T>, len_bytes: u64) -> bool {
        if !matches!(want.state, State::Asked) {
            return false;
        }
        self.learn(&want.link, len_bytes);
        self.asked_count -= 1;
        self.promised_bytes -= std::mem::take(&mut want.promised_bytes);
        self.recharge(want, POSITION_BYTES + len_bytes);
        true
    }

    /// Keeps a block that has arrived, or drops it when more than `most_bytes` would be held. True when it is kept.
    pub(super) fn hold<T>(&mut self, want: &mut Want<T>, block: &Block, most_bytes: u64) -> bool {
        let len_bytes = block.data().len() as u64;
        if self.held_bytes + len_bytes > most_bytes {
            self.recharge(want, 0);
            want.state = State::Dropped { len_bytes };
            return false;
        }
        self.held_bytes += len_bytes;
        want.state = State::Here(block.clone());
        true
    }

    /// Asks again for a block that was dropped.
    pub(super) fn ask_again<T>(&mut self, want: &mut Want<T>, len_bytes: u64) {
        want.state = State::Asked;
        want.charge_bytes = POSITION_BYTES + len_bytes;
        self.ask(want);
    }

    /// One position is done with a block. True when it was the last.
    pub(super) fn release<T>(&mut self, want: &mut Want<T>) -> bool {
        want.position_count -= 1;
        self.used_bytes -= want.charge_bytes;
        if want.position_count > 0 {
            return false;
        }
        if let State::Here(block) = &want.state {
            self.held_bytes -= block.data().len() as u64;
        }
        true
    }

    /// What an emitted item counted is free again.
    pub(super) fn free(&mut self, charge_bytes: u64) {
        self.used_bytes -= charge_bytes;
    }

    /// Takes the largest block of a sort for what the next of it will be.
    fn learn<T>(&mut self, link: &Link<T>, len_bytes: u64) {
        if !link.has_known_size() {
            self.unknown_bytes = self.unknown_bytes.max(len_bytes);
        }
        if link.class() == Class::Inner {
            self.inner_bytes = self.inner_bytes.max(Some(len_bytes));
        }
    }

    fn recharge<T>(&mut self, want: &mut Want<T>, charge_bytes: u64) {
        self.used_bytes -= want.position_count * want.charge_bytes;
        want.charge_bytes = charge_bytes;
        self.used_bytes += want.position_count * want.charge_bytes;
    }
}
