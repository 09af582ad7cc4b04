//! Unpacks what `get` receives, and never outside its target.
//!
//! Invariant: everything is made below a folder of our own beside the target, and only in folders that were made here;
//! nothing that exists is opened, followed or replaced. What is whole takes the target's name in one step.
//!
//! The archive comes from a daemon, and its names from whoever made the content: both are taken for hostile.

mod attributes;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use self::attributes::Attributes;
pub(crate) use self::attributes::FolderAttributes;

/// Room that is left free on the disk, in bytes.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes copied at a time.
const COPY_BYTES: usize = 256 * 1024;

/// Where something is being made: a folder beside the target, gone with this unless [`Staging::publish`] succeeds.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: tempfile::TempDir,
    target: PathBuf,
    force: bool,
}

impl Staging {
    /// Prepares to make `target`.
    ///
    /// # Errors
    /// When it exists and may not be replaced, or its folder cannot be written.
    pub(crate) fn new(target: &Path, force: bool) -> Result<Self> {
        if !force && fs::symlink_metadata(target).is_ok() {
            bail!("{} exists; remove it or give --force to replace it", target.display());
        }
        ensure!(target.file_name().is_some(), "{} is no name for a file", target.display());
        let parent = parent(target);
        let folder = tempfile::Builder::new().prefix(".cairn-get-").tempdir_in(parent);
        let folder = folder.with_context(|| format!("cannot write in {}", parent.display()))?;
        Ok(Self { folder, target: target.to_owned(), force })
    }

    /// Whether the disk has room for that many bytes.
    ///
    /// # Errors
    /// When it has not.
    pub(crate) fn check_room(&self, len_bytes: u64) -> Result<()> {
        let disk =
            rustix::fs::statvfs(self.folder.path()).context("cannot ask the disk for its free space")?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        ensure!(
            len_bytes.saturating_add(RESERVE_BYTES) <= free_bytes,
            "not enough room on the disk of {}, needed={len_bytes} free={free_bytes}",
            self.target.display()
        );
        Ok(())
    }

    /// The name under which the target is made.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("new")
    }

    /// Gives what was made the target's name.
    ///
    /// # Errors
    /// When the target exists by now and may not be replaced.
    pub(crate) fn publish(self) -> Result<()> {
        let target = &self.target;
        if self.force && fs::symlink_metadata(target).is_ok() {
            let old = self.folder.path().join("old");
            fs::rename(target, &old).with_context(|| format!("cannot replace {}", target.display()))?;
        }
        match renameat_with(CWD, self.path(), CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // A file system that cannot refuse to replace: the check at the start has to do.
            Err(rustix::io::Errno::INVAL) => fs::rename(self.path(), target).map_err(Into::into),
            Err(error) => Err(error).with_context(|| format!("cannot make {}", target.display())),
        }
    }
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Modes that an archive has where the content says nothing.
const USUAL_FILE: u32 = 0o644;
const USUAL_FOLDER: u32 = 0o755;

/// Makes what an archive holds: one file, link or folder at its top, which becomes `path`. Gives what is to be set on the
/// folders in the end.
///
/// # Errors
/// A name or an entry that has no place below the top, an entry that comes twice, a torn archive, a full disk.
pub(crate) fn extract(
    archive: impl Read,
    path: &Path,
    mut on_bytes: impl FnMut(u64),
) -> Result<FolderAttributes> {
    let mut archive = tar::Archive::new(archive);
    let mut made = Made {
        top: None,
        path: path.to_owned(),
        folders: HashSet::new(),
        folder_attributes: FolderAttributes::default(),
    };
    for entry in archive.entries()? {
        let mut entry = entry.context("the archive is damaged")?;
        let name = entry.path_bytes().into_owned();
        let name = String::from_utf8(name).ok().context("the archive has a name that is not UTF-8")?;
        let kind = entry.header().entry_type();
        match kind {
            tar::EntryType::Directory => {
                let attributes = Attributes::of(&mut entry, USUAL_FOLDER)?;
                made.folder(&name, attributes)?;
            }
            tar::EntryType::Regular => {
                let attributes = Attributes::of(&mut entry, USUAL_FILE)?;
                made.file(&name, attributes, &mut entry, &mut on_bytes)?;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().map(|target| target.into_owned());
                let target = target.and_then(|target| String::from_utf8(target).ok());
                let target = target.context("the archive has a link without a target")?;
                let attributes = Attributes::of(&mut entry, 0)?;
                made.symlink(&name, attributes.of_link(), &target)?;
            }
            other => bail!(
                "the archive has an entry that is no file, folder or link, name={name:?} type={other:?}"
            ),
        }
    }
    ensure!(made.top.is_some(), "the archive is empty");
    Ok(made.folder_attributes)
}

/// What was made so far.
struct Made {
    /// First part of every name.
    top: Option<String>,
    /// What the top is called on disk.
    path: PathBuf,
    /// Folders made here: the only ones in which anything else is made.
    folders: HashSet<PathBuf>,
    folder_attributes: FolderAttributes,
}

impl Made {
    fn folder(&mut self, name: &str, attributes: Attributes) -> Result<()> {
        let path = self.place(name.strip_suffix('/').unwrap_or(name))?;
        fs::DirBuilder::new().mode(0o755).create(&path).with_context(|| failed(name))?;
        let below = path.strip_prefix(&self.path).expect("a place is below the top").to_owned();
        self.folder_attributes.note(below, attributes);
        self.folders.insert(path);
        Ok(())
    }

    fn file(
        &mut self,
        name: &str,
        attributes: Attributes,
        content: &mut impl Read,
        on_bytes: &mut impl FnMut(u64),
    ) -> Result<()> {
        let path = self.place(name)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let mut file = file.with_context(|| failed(name))?;
        copy(content, &mut file, on_bytes).with_context(|| failed(name))?;
        attributes.apply(&path)
    }

    fn symlink(&mut self, name: &str, attributes: Attributes, target: &str) -> Result<()> {
        let path = self.place(name)?;
        std::os::unix::fs::symlink(target, &path).with_context(|| failed(name))?;
        attributes.apply(&path)
    }

    /// Where a name belongs on disk: below the top, in a folder that was made here.
    fn place(&mut self, name: &str) -> Result<PathBuf> {
        let mut parts = name.split('/');
        let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
        ensure!(!name.split('/').any(bad), "a name would leave the target, name={name:?}");
        let top = parts.next().expect("splitting gives at least one part");
        let rest: PathBuf = parts.collect();
        if rest.as_os_str().is_empty() {
            ensure!(self.top.is_none(), "a name comes twice, name={name:?}");
            self.top = Some(top.to_owned());
            return Ok(self.path.clone());
        }
        ensure!(self.top.as_deref() == Some(top), "a name is not below the first one, name={name:?}");
        let path = self.path.join(rest);
        let parent = path.parent().expect("a part was joined");
        ensure!(self.folders.contains(parent), "a name is below something that is no folder, name={name:?}");
        Ok(path)
    }
}

fn failed(name: &str) -> String {
    format!("cannot make {name:?}")
}

fn copy(from: &mut impl Read, to: &mut File, on_bytes: &mut impl FnMut(u64)) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        io::Write::write_all(to, &buffer[..len])?;
        on_bytes(len as u64);
    }
}

#[cfg(test)]
mod tests;
