//! Links of a block to other blocks.

use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, IDENTITY};
use cairn_proto::codec;

use crate::error::{Error, Result};

/// Links of the block of a CID to blocks; `block` is not asked for of an identity CID.
///
/// An identity CID is no block: what it links to counts for the block that links it.
pub(crate) fn links_of(cid: &Cid, block: Option<&Block>) -> Result<Vec<Cid>> {
    let inline = Block::from_identity(*cid);
    let Some(block) = block.or(inline.as_ref()) else { return Ok(Vec::new()) };
    let undecodable = |error| Error::invalid(format!("block does not decode, cid={cid}")).with_cause(error);
    let links = codec::links(block).map_err(undecodable)?;
    let mut all = Vec::with_capacity(links.len());
    for link in links {
        // An identity CID is shorter than the one that holds it, so this ends.
        match link.hash().code() {
            IDENTITY => all.extend(links_of(&link, None)?),
            _ => all.push(link),
        }
    }
    Ok(all)
}
