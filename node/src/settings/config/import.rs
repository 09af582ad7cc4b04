//! The keys that say how files become blocks.

use cairn_proto::cid::{HashFunction, Version};
use cairn_proto::unixfs::import::{Chunker, ImportOptions, Layout, SizeEstimate};

use super::{Config, invalid};
use crate::error::Result;

impl Config {
    /// How files become blocks where a command does not say otherwise. A missing key means the value of the profile
    /// `unixfs-v1-2025`; `Import.UnixFSRawLeaves` follows the version then.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`], naming the key whose value is wrong.
    pub fn import(&self) -> Result<ImportOptions> {
        let default = ImportOptions::default();
        let cid_version = match self.read::<u8>("Import.CidVersion")? {
            None => default.cid_version,
            Some(0) => Version::V0,
            Some(1) => Version::V1,
            Some(other) => return Err(invalid("Import.CidVersion", format!("no such version: {other}"))),
        };
        let options = ImportOptions {
            cid_version,
            raw_leaves: self.read("Import.UnixFSRawLeaves")?.unwrap_or(cid_version == Version::V1),
            hash: self.read_with("Import.HashFunction", parse_hash)?.unwrap_or(default.hash),
            chunker: self.read_with("Import.UnixFSChunker", Chunker::parse)?.unwrap_or(default.chunker),
            layout: self.read_with("Import.UnixFSDAGLayout", parse_layout)?.unwrap_or(default.layout),
            inline_limit_bytes: default.inline_limit_bytes,
            max_file_links: self.read("Import.UnixFSFileMaxLinks")?.unwrap_or(default.max_file_links),
            max_directory_links: self
                .read("Import.UnixFSDirectoryMaxLinks")?
                .unwrap_or(default.max_directory_links),
            hamt_fanout: self.read("Import.UnixFSHAMTDirectoryMaxFanout")?.unwrap_or(default.hamt_fanout),
            hamt_threshold_bytes: self
                .read_size("Import.UnixFSHAMTDirectorySizeThreshold")?
                .unwrap_or(default.hamt_threshold_bytes),
            hamt_size_estimate: self
                .read_with("Import.UnixFSHAMTDirectorySizeEstimation", parse_size_estimate)?
                .unwrap_or(default.hamt_size_estimate),
        };
        options.check().map_err(|error| invalid("Import", error))?;
        Ok(options)
    }
}

/// The hash function of that name.
///
/// # Errors
/// The name, when Cairn has no such function.
pub fn parse_hash(name: &str) -> Result<HashFunction, String> {
    HashFunction::from_name(name)
        .ok_or_else(|| format!("no such hash function: {name:?}; sha2-256 is the usual one"))
}

fn parse_layout(name: &str) -> Result<Layout, String> {
    Layout::from_name(name).ok_or_else(|| format!("no such layout: {name:?}; there are balanced and trickle"))
}

fn parse_size_estimate(name: &str) -> Result<SizeEstimate, String> {
    match name {
        "links" => Ok(SizeEstimate::Links),
        "block" => Ok(SizeEstimate::Block),
        "disabled" => Ok(SizeEstimate::Disabled),
        other => Err(format!("no such estimate: {other:?}; there are links, block, disabled")),
    }
}
