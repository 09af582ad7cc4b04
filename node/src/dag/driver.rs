//! The loop between a machine of `cairn_proto` and a block session.

use cairn_proto::walk::{Machine, Step};
use futures::{Stream, stream};

use crate::blocks;
use crate::{Error, Result};

/// A machine and the session that feeds it. Dropping it cancels what is still wanted.
#[derive(Debug)]
pub(super) struct Driver<M> {
    machine: M,
    blocks: blocks::Session,
}

impl<M: Machine> Driver<M>
where
    M::Error: Into<Error>,
{
    pub(super) fn new(machine: M, blocks: blocks::Session) -> Self {
        Self { machine, blocks }
    }

    /// The next item, `None` at the end.
    ///
    /// # Cancellation
    /// Safe: nothing is lost between calls.
    pub(super) async fn next(&mut self) -> Result<Option<M::Item>> {
        loop {
            match self.machine.next().map_err(Into::into)? {
                Step::Need(cids) => self.blocks.request(cids),
                Step::Emit(item) => return Ok(Some(item)),
                Step::Pending => {
                    for block in self.blocks.next().await? {
                        self.machine.provide(block);
                    }
                }
                Step::Done => {
                    self.blocks.finish().await?;
                    return Ok(None);
                }
            }
        }
    }

    /// Takes the machine and the session apart, for the next machine on the same session.
    pub(super) fn into_parts(self) -> (M, blocks::Session) {
        (self.machine, self.blocks)
    }

    /// The items as a stream that ends after the first error.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<M::Item>> {
        stream::unfold(Some(self), |state| async move {
            let mut driver = state?;
            match driver.next().await {
                Ok(Some(item)) => Some((Ok(item), Some(driver))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}
