//! The engine under every machine that reads a DAG: it asks ahead within a window of bytes and emits in order.
//!
//! A [`Visitor`] says what stands in a block: items to emit and links to follow. The engine decides what to ask for and
//! when. Its window holds everything that was asked for and not emitted yet, blocks that came early included, so that
//! memory is bounded and a reader that stops also stops the asking. Two rules fill it:
//!
//! - Content is asked for in the order in which it will be emitted. But when the content known and not asked for falls
//!   below one more window, inner nodes go first, so that the pipe does not run dry at the border of a subtree. The
//!   frontier is never widened further than that, so it stays small.
//! - The block that the emission waits for is asked for whether the window is full or not, so it never locks up.
//!
//! It asks in batches: once a quarter of the window is free.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use super::frontier::{Class, FrameId, Front, Frontier, Path, parts_bytes};
use super::key::{Key, Visited};
use super::window::{State, Waiting, Want, Window};
use super::{Order, Step, WalkError, WalkOptions};
use crate::block::Block;
use crate::cid::Cid;

pub(crate) use super::frontier::{Link, Part};

/// Inner nodes that it takes, at least, to promise a whole window: one that is slow to come must not idle the rest.
const MIN_PROMISES: u64 = 4;

/// What the engine needs to know about the DAG that it reads.
pub(crate) trait Visitor {
    /// What comes out.
    type Item;
    /// What a parent tells about the block that it links.
    type Tag: Clone;
    /// What can be wrong with a block.
    type Error: From<WalkError>;

    /// Appends what stands in `block`, in order.
    ///
    /// Blocks come in any order, and one may come more than once: the answer depends on nothing but the arguments. In a
    /// walk without duplicates, it must not depend on the tag of the position that was first.
    fn visit(
        &self,
        block: &Block,
        tag: &Self::Tag,
        parts: &mut Vec<Part<Self::Item, Self::Tag>>,
    ) -> Result<(), Self::Error>;
}

/// The parts that a visitor finds in a block.
type Parts<V> = Vec<Part<<V as Visitor>::Item, <V as Visitor>::Tag>>;

/// An item that may go out, and what it counts in the window, in bytes.
type Ready<V> = Result<(<V as Visitor>::Item, u64), <V as Visitor>::Error>;

/// The engine; see the module.
pub(crate) struct Ahead<V: Visitor> {
    visitor: V,
    options: WalkOptions,
    frontier: Frontier<V::Item, V::Tag>,
    wants: HashMap<Key, Want<V::Tag>>,
    window: Window,
    needs: Vec<Cid>,
    /// Blocks that are not wanted again: asked for in [`Order::Any`], emitted in the other. `None` keeps duplicates.
    seen: Option<Visited>,
    /// In order: the frames from the root to what the walk has come to.
    stack: Vec<FrameId>,
    /// In order: the block that the walk has come to.
    waits_for: Option<Key>,
    /// As blocks arrive: what goes out next.
    ready: VecDeque<Ready<V>>,
}

/// What the front of the walk did.
enum Moved<I> {
    Out(I),
    /// To something that is not asked for.
    On,
    Nowhere,
    ToTheEnd,
}

impl<V: Visitor> Ahead<V> {
    pub(crate) fn new(visitor: V, root: &Cid, tag: V::Tag, mut options: WalkOptions) -> Self {
        options.window_bytes = options.window_bytes.max(1);
        options.max_wants = options.max_wants.max(1);
        let mut frontier = Frontier::new();
        let top = frontier.add(Path::new(), vec![Part::Link(Link::new(root, None, tag))]);
        Self {
            visitor,
            frontier,
            wants: HashMap::new(),
            window: Window::new(),
            needs: Vec::new(),
            seen: (options.order != Order::Dfs { duplicates: true }).then(Visited::default),
            stack: if options.order == Order::Any { Vec::new() } else { vec![top] },
            waits_for: None,
            ready: VecDeque::new(),
            options,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Step<V::Item>, V::Error> {
        loop {
            self.ask_front();
            self.ask_ahead();
            if !self.needs.is_empty() {
                return Ok(Step::Need(std::mem::take(&mut self.needs)));
            }
            match self.advance()? {
                Moved::Out(item) => return Ok(Step::Emit(item)),
                Moved::On => {}
                Moved::Nowhere => return Ok(Step::Pending),
                Moved::ToTheEnd => return Ok(Step::Done),
            }
        }
    }

    /// Takes a block that was asked for; any other is ignored.
    pub(crate) fn provide(&mut self, block: &Block) {
        let key = Key::of(block.cid());
        let Some(want) = self.wants.get_mut(&key) else { return };
        if !self.window.arrive(want, block.data().len() as u64) {
            return;
        }
        if self.options.order == Order::Any {
            let waiting = want.waiting.pop();
            let path = waiting.map(|waiting| waiting.path).unwrap_or_default();
            if let Some(want) = self.wants.remove(&key) {
                self.emit_now(block, &want.link, path, want.charge_bytes);
            }
            return;
        }
        // Only blocks larger than their parents said can fill the window twice.
        let is_waited_for = self.waits_for.as_ref() == Some(&key);
        let most_bytes = if is_waited_for { u64::MAX } else { self.options.window_bytes.saturating_mul(2) };
        if !self.window.hold(want, block, most_bytes) {
            return;
        }
        for waiting in std::mem::take(&mut want.waiting) {
            self.look_into(&key, block, waiting);
        }
    }

    /// Passes over a block that was asked for, and over what only it leads to.
    pub(crate) fn skip(&mut self, cid: &Cid) {
        let key = Key::of(cid);
        let Some(want) = self.wants.get_mut(&key) else { return };
        if !self.window.arrive(want, 0) {
            return;
        }
        let Some(seen) = &mut self.seen else {
            want.waiting.clear();
            want.state = State::Skipped;
            return;
        };
        seen.insert(&key);
        self.window.free(want.charge_bytes);
        self.wants.remove(&key);
    }

    fn ask_front(&mut self) {
        let Some(&top) = self.stack.last() else { return };
        if let Some((index, class)) = self.frontier.front_unasked(top) {
            self.waits_for = Some(self.frontier.link(top, index).key.clone());
            self.frontier.advance(top, class);
            self.ask(top, index);
        }
    }

    fn ask_ahead(&mut self) {
        if !self.window.has_room_for_a_batch(&self.options) {
            return;
        }
        while let Some((frame, index, class)) = self.next_to_ask() {
            let charge_bytes = self.window.charge_bytes(self.frontier.link(frame, index));
            if !self.window.admits(charge_bytes, &self.options) {
                return;
            }
            let is_exhausted = self.frontier.advance(frame, class);
            self.ask(frame, index);
            if is_exhausted && self.options.order == Order::Any {
                self.frontier.remove(frame);
            }
        }
    }

    fn next_to_ask(&self) -> Option<(FrameId, usize, Class)> {
        let reserve_bytes = self.frontier.leaf_bytes().saturating_add(self.window.promised_bytes());
        let is_reserve_low =
            reserve_bytes < self.options.window_bytes && self.frontier.leaf_count() < self.options.max_wants;
        let first = |class| self.frontier.first(class).map(|(frame, index)| (frame, index, class));
        let inner = if is_reserve_low { first(Class::Inner) } else { None };
        inner.or_else(|| first(Class::Leaf))
    }

    /// Asks for what a position links, unless it is here, on its way or not wanted again.
    fn ask(&mut self, frame: FrameId, index: usize) {
        let link = self.frontier.link(frame, index);
        let is_unwanted = match &mut self.seen {
            Some(seen) if self.options.order == Order::Any => !seen.insert(&link.key),
            Some(seen) => seen.contains(&link.key) || self.wants.contains_key(&link.key),
            None => false,
        };
        if is_unwanted {
            return;
        }
        let link = link.clone();
        if link.key.is_identity() {
            return self.ask_identity(frame, index, &link);
        }
        let waiting = link
            .key
            .may_link()
            .then(|| Waiting { link: link.clone(), path: self.frontier.path(frame, index) });
        match self.wants.entry(link.key.clone()) {
            Entry::Vacant(entry) => {
                let most_bytes = self.options.window_bytes.div_ceil(MIN_PROMISES);
                self.needs.push(link.cid());
                let want = entry.insert(Want {
                    state: State::Asked,
                    position_count: 1,
                    charge_bytes: self.window.charge_bytes(&link),
                    promised_bytes: link.promised_bytes().min(most_bytes),
                    waiting: Vec::from_iter(waiting),
                    frames: BTreeMap::new(),
                    link,
                });
                self.window.ask(want);
            }
            Entry::Occupied(mut entry) => {
                let want = entry.get_mut();
                self.window.join(want);
                match (waiting, &want.state) {
                    (Some(waiting), State::Asked) => want.waiting.push(waiting),
                    (Some(waiting), State::Here(block)) => {
                        let block = block.clone();
                        self.look_into(&link.key, &block, waiting);
                    }
                    _ => {}
                }
            }
        }
    }

    /// An identity CID is its own block: read at once, or when a walk in order gets there.
    fn ask_identity(&mut self, frame: FrameId, index: usize, link: &Link<V::Tag>) {
        if self.options.order == Order::Any {
            let path = self.frontier.path(frame, index);
            self.emit_now(&identity_block(link), link, path, 0);
        }
    }

    /// Emits what stands in a block, and puts its links into the frontier.
    fn emit_now(&mut self, block: &Block, link: &Link<V::Tag>, path: Path, mut charge_bytes: u64) {
        match self.read(block, link, path.len(), self.options.max_frontier_bytes) {
            Err(error) => self.ready.push_back(Err(error)),
            Ok(mut parts) => {
                let items = parts.iter_mut().filter_map(Part::take_item);
                self.ready.extend(items.map(|item| Ok((item, std::mem::take(&mut charge_bytes)))));
                if parts.iter().any(Part::is_link) {
                    self.frontier.add(path, parts);
                }
            }
        }
        self.window.free(charge_bytes);
    }

    /// Puts the links of a block into the frontier before the walk comes to it.
    ///
    /// Does nothing for a block that cannot be read, since the walk has yet to say so, in its order.
    fn look_into(&mut self, key: &Key, block: &Block, waiting: Waiting<V::Tag>) {
        let most_bytes = self.options.max_frontier_bytes / 2;
        let Ok(parts) = self.read(block, &waiting.link, waiting.path.len(), most_bytes) else { return };
        if let Some(want) = self.wants.get_mut(key) {
            want.frames.insert(waiting.path.clone(), self.frontier.add(waiting.path, parts));
        }
    }

    /// The parts of a block, held against the bounds of depth and memory.
    fn read(
        &self,
        block: &Block,
        link: &Link<V::Tag>,
        depth: usize,
        most_bytes: u64,
    ) -> Result<Parts<V>, V::Error> {
        let mut parts = Vec::new();
        self.visitor.visit(&link.address(block), &link.tag, &mut parts)?;
        if depth > self.options.max_depth && parts.iter().any(Part::is_link) {
            return Err(WalkError::TooDeep { cid: *block.cid(), max: self.options.max_depth }.into());
        }
        if self.frontier.memory_bytes() + parts_bytes(&parts) > most_bytes {
            return Err(WalkError::TooWide { cid: *block.cid(), max_bytes: most_bytes }.into());
        }
        Ok(parts)
    }

    fn advance(&mut self) -> Result<Moved<V::Item>, V::Error> {
        if let Some(ready) = self.ready.pop_front() {
            let (item, charge_bytes) = ready?;
            self.window.free(charge_bytes);
            return Ok(Moved::Out(item));
        }
        while let Some(&top) = self.stack.last() {
            let moved = match self.frontier.front(top) {
                Front::Item(item) => Some(Moved::Out(item)),
                Front::Link { is_asked: false, .. } => Some(Moved::On),
                Front::Link { index, is_asked: true } => self.enter(top, index)?,
                Front::End => {
                    self.stack.pop();
                    self.frontier.remove(top);
                    None
                }
            };
            if let Some(moved) = moved {
                return Ok(moved);
            }
        }
        let is_end = self.wants.is_empty() && self.frontier.is_asked_for();
        Ok(if is_end { Moved::ToTheEnd } else { Moved::Nowhere })
    }

    /// Goes past the link that the front has come to, into its block if that is here. `None` when there is more to do.
    fn enter(&mut self, top: FrameId, index: usize) -> Result<Option<Moved<V::Item>>, V::Error> {
        let link = self.frontier.link(top, index).clone();
        if self.seen.as_ref().is_some_and(|seen| seen.contains(&link.key)) {
            self.frontier.pass(top);
            return Ok(None);
        }
        if link.key.is_identity() {
            return self.open(top, index, &link, &identity_block(&link));
        }
        let want =
            self.wants.get_mut(&link.key).expect("a position that asked and was not emitted has its want");
        let block = match &want.state {
            State::Here(block) => Some(block.clone()),
            State::Skipped => None,
            State::Asked => {
                self.waits_for = Some(link.key);
                return Ok(Some(Moved::Nowhere));
            }
            &State::Dropped { len_bytes } => {
                self.window.ask_again(want, len_bytes);
                self.needs.push(link.cid());
                self.waits_for = Some(link.key);
                return Ok(Some(Moved::On));
            }
        };
        // Without duplicates the block is read once, here, wherever the walk looked into it.
        let frame = match &self.seen {
            _ if want.frames.is_empty() => None,
            Some(_) => want.frames.pop_first().map(|(_, frame)| frame),
            None => want.frames.remove(&self.frontier.path(top, index)),
        };
        if self.window.release(want) {
            self.wants.remove(&link.key);
        }
        match (block, frame) {
            (None, _) => {
                self.frontier.pass(top);
                Ok(None)
            }
            (Some(block), None) => self.open(top, index, &link, &block),
            (Some(_), Some(frame)) => {
                self.frontier.place(frame, self.frontier.path(top, index));
                self.step_into(top, &link.key, frame);
                Ok(None)
            }
        }
    }

    /// Reads a block that nobody looked into before. One that is a single item goes out without a frame.
    fn open(
        &mut self,
        top: FrameId,
        index: usize,
        link: &Link<V::Tag>,
        block: &Block,
    ) -> Result<Option<Moved<V::Item>>, V::Error> {
        let depth = self.stack.len();
        let mut parts = self.read(block, link, depth, self.options.max_frontier_bytes)?;
        if let [part] = parts.as_mut_slice()
            && let Some(item) = part.take_item()
        {
            self.frontier.pass(top);
            self.see(&link.key);
            return Ok(Some(Moved::Out(item)));
        }
        let frame = self.frontier.add(self.frontier.path(top, index), parts);
        self.step_into(top, &link.key, frame);
        Ok(None)
    }

    fn step_into(&mut self, top: FrameId, key: &Key, frame: FrameId) {
        self.frontier.pass(top);
        self.see(key);
        self.stack.push(frame);
    }

    fn see(&mut self, key: &Key) {
        if let Some(seen) = &mut self.seen {
            seen.insert(key);
        }
    }
}

fn identity_block<T>(link: &Link<T>) -> Block {
    Block::from_identity(link.cid()).expect("the key says that it is one")
}
