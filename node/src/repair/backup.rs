//! A copy of a repo at one moment, while it is in use; and a repo from such a copy.
//!
//! A backup is a folder with the layout of a repo: `config` and `store`. Files of the store that never change are shared
//! with it where it is on the same disk.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::builder::STORE_DIR;
use crate::error::{Error, Kind, Result};
use crate::settings::config::{Config, FILE_NAME};
use crate::store::{Store, StoreStat};

/// Ending of a folder that is not whole yet.
const UNFINISHED: &str = "unfinished";

/// Copies the store and the configuration of `repo` into the folder `target`, which does not exist yet: everything that
/// was acknowledged before, and nothing by halves. Writers wait only while what is in memory is written out.
///
/// # Errors
/// [`Kind::Invalid`] when the folder exists; what the store and the disk say.
///
/// # Cancellation
/// Dropped, it may go on in the background.
pub async fn backup(store: &Store, repo: &Path, target: &Path) -> Result<StoreStat> {
    if target.exists() {
        return Err(Error::invalid(format!("the folder of the backup exists already: {}", target.display())));
    }
    let (config, target) = (Config::load(repo)?, target.to_path_buf());
    let unfinished = target.with_extension(UNFINISHED);
    let (folder, dir) = (unfinished.clone(), unfinished.join(STORE_DIR));
    tokio::task::spawn_blocking(move || make(&folder)).await.map_err(stopped)??;
    let stat = store.checkpoint(dir).await?;
    let finish = move || {
        config.save(&unfinished)?;
        rename(&unfinished, &target)
    };
    tokio::task::spawn_blocking(finish).await.map_err(stopped)??;
    Ok(stat)
}

/// Makes a repo of a backup, in a folder without one. The copy is audited before it gets its name: every block is hashed.
///
/// # Errors
/// [`Kind::Invalid`] when there is a repo already, [`Kind::NotFound`] when the folder is no backup, [`Kind::Corrupt`] when
/// something in it is not what it was, what the disk says.
///
/// # Cancellation
/// Dropped, it may go on in the background; there is no repo until it is whole.
pub async fn restore(backup: &Path, repo: &Path) -> Result<StoreStat> {
    if repo.join(FILE_NAME).exists() || repo.join(STORE_DIR).exists() {
        return Err(Error::invalid(format!("{} has a repo already", repo.display())));
    }
    let config = Config::load(backup)?;
    let unfinished = repo.with_extension(UNFINISHED);
    let settings = config.to_settings(repo)?.store;
    let (from, to) = (backup.join(STORE_DIR), unfinished.clone());
    let copy = move || {
        make(&to)?;
        let dir = to.join(STORE_DIR);
        copy_files(&from, &dir).map_err(|error| unusable(&from, error))?;
        config.save(&to)?;
        Store::open(&dir, &settings)
    };
    let opened = tokio::task::spawn_blocking(copy).await.map_err(stopped)?;
    let audited = match &opened {
        Ok(store) => store.audit().await,
        Err(error) => Err(Error::new(error.kind(), error.to_string())),
    };
    let problem = match audited {
        Ok(report) => report.problems.into_iter().next(),
        Err(error) if error.kind() == Kind::Corrupt => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    if let Some(problem) = problem {
        drop(opened);
        remove(&unfinished)?;
        return Err(Error::corrupt(format!("backup is damaged: {problem}")));
    }
    let store = opened?;
    let stat = store.stat();
    store.close().await?;
    drop(store);
    // An empty folder may be there.
    let repo = repo.to_path_buf();
    tokio::task::spawn_blocking(move || rename(&unfinished, &repo)).await.map_err(stopped)??;
    Ok(stat)
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let copy = to.join(entry.file_name());
            fs::copy(entry.path(), &copy)?;
            File::open(copy)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // fsync the folder: a rename alone may not survive a crash.
    let renamed = fs::rename(from, to).and_then(|()| File::open(parent)?.sync_all());
    renamed.map_err(|error| unusable(to, error))
}

/// Makes an empty folder for its owner only: it will hold a private key.
fn make(folder: &Path) -> Result<()> {
    remove(folder)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| unusable(folder, error))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(folder, error)),
        _ => Ok(()),
    }
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot use {}", path.display())).with_cause(error)
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::internal("backup stopped").with_cause(error)
}
