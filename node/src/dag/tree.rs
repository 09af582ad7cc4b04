//! The directories of an add, until they are built.

use std::collections::BTreeMap;

use cairn_proto::cid::Cid;
use cairn_proto::unixfs::Attributes;
use cairn_proto::unixfs::import::{Built, DirectoryBuilder, ImportOptions};

use super::add::AddOptions;
use crate::{Error, Result};

/// Everything that an add was given, by path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    top: Directory,
    /// Names at the top in the order in which they came, which is the order of the roots.
    order: Vec<String>,
}

/// Names under one directory, in the order of their bytes.
#[derive(Debug, Default)]
struct Directory {
    attributes: Attributes,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    File { cid: Cid, cumulative_bytes: u64 },
    Directory(Directory),
}

/// A directory and where it stands.
#[derive(Debug)]
pub(super) struct BuiltDirectory {
    pub(super) path: String,
    pub(super) built: Built,
}

/// All directories of a tree, children before parents, and the roots that a pin must keep.
#[derive(Debug, Default)]
pub(super) struct Directories {
    pub(super) built: Vec<BuiltDirectory>,
    pub(super) roots: Vec<Cid>,
}

impl Tree {
    /// Makes the directory and those above it.
    pub(super) fn directory(&mut self, path: &str, attributes: Attributes) -> Result<()> {
        check(path)?;
        self.note(path);
        self.top.descend(path, path.split('/'))?.attributes = attributes;
        Ok(())
    }

    /// Puts a file where it belongs.
    pub(super) fn insert(&mut self, path: &str, cid: Cid, cumulative_bytes: u64) -> Result<()> {
        check(path)?;
        self.note(path);
        let (parent, name) = match path.rsplit_once('/') {
            Some((parent, name)) => (self.top.descend(path, parent.split('/'))?, name),
            None => (&mut self.top, path),
        };
        match parent.entries.insert(name.to_owned(), Entry::File { cid, cumulative_bytes }) {
            None => Ok(()),
            Some(Entry::File { cid: earlier, .. }) if earlier == cid => Ok(()),
            Some(_) => Err(Error::invalid(format!("the path is there twice, path={path:?}"))),
        }
    }

    /// Builds every directory.
    pub(super) fn build(mut self, options: &AddOptions) -> Result<Directories> {
        let mut directories = Directories::default();
        if options.wrap {
            self.top.attributes = options.wrap_attributes;
            let root = self.top.build("", &options.import, &mut directories.built)?;
            directories.roots.push(root.0);
            return Ok(directories);
        }
        for name in self.order {
            let root = match self.top.entries.remove(&name) {
                None => continue,
                Some(Entry::File { cid, .. }) => cid,
                Some(Entry::Directory(directory)) => {
                    directory.build(&name, &options.import, &mut directories.built)?.0
                }
            };
            directories.roots.push(root);
        }
        Ok(directories)
    }

    fn note(&mut self, path: &str) {
        let first = path.split('/').next().unwrap_or_default();
        // Paths come depth first, so the name is nearly always the one noted last.
        if self.order.last().is_none_or(|last| last != first) && !self.top.entries.contains_key(first) {
            self.order.push(first.to_owned());
        }
    }
}

impl Directory {
    fn build(
        self,
        path: &str,
        import: &ImportOptions,
        built: &mut Vec<BuiltDirectory>,
    ) -> Result<(Cid, u64)> {
        let mut builder = DirectoryBuilder::new(import.clone()).with_attributes(self.attributes);
        for (name, entry) in self.entries {
            let (cid, cumulative_bytes) = match entry {
                Entry::File { cid, cumulative_bytes } => (cid, cumulative_bytes),
                Entry::Directory(directory) => {
                    let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    directory.build(&below, import, built)?
                }
            };
            builder.insert(name, &cid, cumulative_bytes)?;
        }
        let directory = builder.finish()?;
        let (cid, cumulative_bytes) = (directory.cid, directory.tsize);
        built.push(BuiltDirectory { path: path.to_owned(), built: directory });
        Ok((cid, cumulative_bytes))
    }

    fn descend<'a>(&mut self, path: &str, names: impl Iterator<Item = &'a str>) -> Result<&mut Self> {
        let mut here = self;
        for name in names {
            let entry =
                here.entries.entry(name.to_owned()).or_insert_with(|| Entry::Directory(Self::default()));
            here = match entry {
                Entry::Directory(directory) => directory,
                Entry::File { .. } => {
                    return Err(Error::invalid(format!(
                        "a file is in the way of a directory, path={path:?}"
                    )));
                }
            };
        }
        Ok(here)
    }
}

fn check(path: &str) -> Result<()> {
    if path.split('/').any(|name| name.is_empty() || name == "." || name == ".." || name.contains('\0')) {
        return Err(Error::invalid(format!("not a path inside the tree, path={path:?}")));
    }
    Ok(())
}
