//! What this node's operator does not serve: the `.deny` files of some folders, read again when they change.
//!
//! Folders count in their order and files in that of their names; what a later one says goes before. The matching is
//! [`cairn_proto::denylist`]'s, and [`crate::blocks`] enforces it.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use cairn_proto::cid::Cid;
use cairn_proto::denylist::{Denylist, Reader, Reason, Verdict};
use cairn_proto::path::ContentPath;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{Error, Kind, Result};

/// Ending of the files that are read.
const EXTENSION: &str = "deny";

/// How often files are looked at. Looking costs one `stat` for each.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of a file that are read at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// The lists in force; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Denylists(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    folders: Vec<PathBuf>,
    files: RwLock<Vec<File>>,
}

/// A file as it was last read.
#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    stamp: Stamp,
    list: Arc<Denylist>,
}

/// What changes when somebody writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len_bytes: u64,
    /// Number of the file in its file system: two that were written together may be alike otherwise.
    number: u64,
}

impl Stamp {
    fn of(file: &fs::Metadata) -> Self {
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(file);
        #[cfg(not(unix))]
        let number = 0;
        Self { modified: file.modified().ok(), len_bytes: file.len(), number }
    }
}

impl Denylists {
    /// Reads the lists of `folders`, of which any may be absent. Blocks the thread.
    ///
    /// # Errors
    /// [`Kind::Invalid`] or [`Kind::Unavailable`], naming the file: who cannot read what is forbidden must not start.
    pub fn open(folders: Vec<PathBuf>) -> Result<Self> {
        let mut files = Vec::new();
        for (path, stamp) in find(&folders)? {
            files.push(File { list: Arc::new(read(&path)?), path, stamp });
        }
        Ok(Self(Arc::new(Inner { folders, files: RwLock::new(files) })))
    }

    /// Whether a block may be had here.
    ///
    /// # Errors
    /// [`Kind::Blocked`] or [`Kind::BlockedByLaw`].
    pub fn check_block(&self, cid: &Cid) -> Result<()> {
        self.check(|list| list.block(cid), || format!("this content is blocked here, cid={cid}"))
    }

    /// Whether nothing at all is forbidden.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.files.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether a path may be followed here, apart from the blocks along it.
    ///
    /// # Errors
    /// As [`Self::check_block`].
    pub fn check_path(&self, path: &ContentPath) -> Result<()> {
        self.check(|list| list.path(path), || format!("this content is blocked here, path={path}"))
    }

    fn check(&self, ask: impl Fn(&Denylist) -> Option<Verdict>, message: impl Fn() -> String) -> Result<()> {
        let files = self.0.files.read().unwrap_or_else(PoisonError::into_inner);
        let said = files.iter().rev().find_map(|file| Some((file, ask(&file.list)?)));
        let Some((file, Verdict::Deny(reason))) = said else { return Ok(()) };
        let kind = match reason {
            Reason::Unspecified => Kind::Blocked,
            Reason::Legal => Kind::BlockedByLaw,
        };
        let name = file.list.name().map_or_else(|| file_name(&file.path), str::to_owned);
        Err(Error::new(kind, format!("{} denylist={name:?}", message())))
    }

    /// Reads again what has changed, until `stopping`. A file that cannot be read leaves its former rules in force.
    pub async fn watch(self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let lists = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || lists.refresh()).await {
                error!(%error, "looking for changes of denylists panicked");
            }
        }
    }

    /// Looks at every file once. Blocks the thread.
    fn refresh(&self) {
        let found = match find(&self.0.folders) {
            Ok(found) => found,
            Err(error) => {
                return warn!(%error, "denylists cannot be looked at, the former ones stay in force");
            }
        };
        let former = self.0.files.read().unwrap_or_else(PoisonError::into_inner).clone();
        let is_same =
            |file: &File, (path, stamp): &(PathBuf, Stamp)| file.path == *path && file.stamp == *stamp;
        if former.len() == found.len() && former.iter().zip(&found).all(|(file, found)| is_same(file, found))
        {
            return;
        }
        let files = found.into_iter().filter_map(|(path, stamp)| {
            let old = former.iter().find(|file| file.path == path);
            match old {
                Some(file) if file.stamp == stamp => return Some(file.clone()),
                _ => {}
            }
            match read(&path) {
                Ok(list) => {
                    info!(path = %path.display(), rule_count = list.rule_count(), "denylist read");
                    Some(File { path, stamp, list: Arc::new(list) })
                }
                Err(error) => {
                    // With the new stamp, so that this is said once for each change.
                    error!(%error, "denylist not read");
                    old.map(|file| File { stamp, ..file.clone() })
                }
            }
        });
        let files = files.collect();
        *self.0.files.write().unwrap_or_else(PoisonError::into_inner) = files;
    }
}

/// The files of some folders in their order.
fn find(folders: &[PathBuf]) -> Result<Vec<(PathBuf, Stamp)>> {
    let mut found = Vec::new();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(unreadable(folder, error)),
        };
        let mut of_folder = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| unreadable(folder, error))?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            match fs::metadata(&path) {
                Ok(file) if file.is_file() => of_folder.push((path, Stamp::of(&file))),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&path, error)),
            }
        }
        of_folder.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found.extend(of_folder);
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Denylist> {
    let mut file = fs::File::open(path).map_err(|error| unreadable(path, error))?;
    let mut reader = Reader::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(|error| unreadable(path, error))? {
            0 => break,
            len => reader.push(&piece[..len]).map_err(|error| useless(path, error))?,
        }
    }
    let (list, errors) = reader.finish().map_err(|error| useless(path, error))?;
    for (line, error) in errors {
        warn!(path = %path.display(), line, %error, "line of a denylist left out");
    }
    Ok(list)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot read the denylist {}", path.display())).with_cause(error)
}

fn useless(path: &Path, error: cairn_proto::denylist::DenylistError) -> Error {
    Error::invalid(format!("cannot use the denylist {}", path.display())).with_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_denied(lists: &Denylists, name: &str) -> bool {
        lists.check_path(&ContentPath::parse(&format!("/ipns/{name}")).unwrap()).is_err()
    }

    #[test]
    fn later_files_and_folders_go_before_earlier_ones() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(first.path().join("a.deny"), "/ipns/a.org\n/ipns/b.org\n/ipns/c.org\n").unwrap();
        fs::write(first.path().join("b.deny"), "!/ipns/b.org\n").unwrap();
        fs::write(first.path().join("c.txt"), "/ipns/other.org\n").unwrap();
        fs::write(second.path().join("a.deny"), "!/ipns/c.org\n").unwrap();
        let folders = [first.path(), Path::new("/nowhere"), second.path()];
        let lists = Denylists::open(folders.map(Path::to_owned).to_vec()).unwrap();
        assert!(is_denied(&lists, "a.org"));
        assert!(
            !is_denied(&lists, "b.org") && !is_denied(&lists, "c.org") && !is_denied(&lists, "other.org")
        );
    }

    #[test]
    fn changes_of_files_are_noticed_and_broken_ones_leave_the_former_rules() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.deny");
        let lists = Denylists::open(vec![folder.path().to_owned()]).unwrap();
        assert!(!is_denied(&lists, "a.org"));
        fs::write(&path, "/ipns/a.org\n").unwrap();
        lists.refresh();
        assert!(is_denied(&lists, "a.org") && !is_denied(&lists, "b.org"));
        fs::write(&path, "/ipns/a.org\n/ipns/b.org").unwrap();
        lists.refresh();
        assert!(is_denied(&lists, "a.org") && is_denied(&lists, "b.org"));
        fs::write(&path, "version: 99\n---\n").unwrap();
        lists.refresh();
        assert!(is_denied(&lists, "a.org"));
        assert_eq!(Denylists::open(vec![folder.path().to_owned()]).unwrap_err().kind(), Kind::Invalid);
        fs::remove_file(&path).unwrap();
        lists.refresh();
        assert!(!is_denied(&lists, "a.org"));
    }

    #[test]
    fn the_list_is_named_and_the_reason_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.deny"), "name: Court orders\n---\n/ipns/a.org gateway_status:451")
            .unwrap();
        let lists = Denylists::open(vec![folder.path().to_owned()]).unwrap();
        let error = lists.check_path(&ContentPath::parse("/ipns/a.org").unwrap()).unwrap_err();
        assert_eq!(error.kind(), Kind::BlockedByLaw);
        assert!(error.to_string().contains("Court orders"), "{error}");
    }
}
