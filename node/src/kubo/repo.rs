//! The folder of a Kubo repo: whether it is one that can be read, and where its parts are.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::Value;

use crate::error::{Error, Kind, Result};

/// Version of the repos that are understood. Source: Kubo 0.43, `repo/fsrepo/fsrepo.go`.
const VERSION: &str = "18";

/// A repo that can be read.
#[derive(Debug)]
pub(super) struct KuboRepo {
    path: PathBuf,
    blocks: String,
    datastore: String,
    peer_id: String,
    /// Keeps Kubo from starting meanwhile, where its lock file is there.
    _lock: Option<File>,
}

impl KuboRepo {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let version = read(path, "version")?;
        if version.trim() != VERSION {
            return Err(Error::invalid(format!(
                "only repos of version {VERSION} are understood: start a current Kubo once, which migrates it, version={} path={}",
                version.trim(),
                path.display()
            )));
        }
        let lock = lock(path)?;
        let [blocks, datastore] = mounts(&json(path, "datastore_spec")?)?;
        let config = json(path, "config")?;
        let peer_id = config["Identity"]["PeerID"].as_str().unwrap_or_default().to_owned();
        Ok(Self { path: path.to_owned(), blocks, datastore, peer_id, _lock: lock })
    }

    /// Folder of the blocks.
    pub(super) fn blocks(&self) -> PathBuf {
        self.path.join(&self.blocks)
    }

    /// Folder of the LevelDB.
    pub(super) fn datastore(&self) -> PathBuf {
        self.path.join(&self.datastore)
    }

    /// Folder of the keys.
    pub(super) fn keystore(&self) -> PathBuf {
        self.path.join("keystore")
    }

    /// Peer ID of its configuration.
    pub(super) fn peer_id(&self) -> &str {
        &self.peer_id
    }
}

fn read(path: &Path, name: &str) -> Result<String> {
    fs::read_to_string(path.join(name)).map_err(|error| {
        let message = format!("this is no repo of Kubo, file={name} path={}", path.display());
        Error::invalid(message).with_cause(error)
    })
}

fn json(path: &Path, name: &str) -> Result<Value> {
    serde_json::from_str(&read(path, name)?).map_err(|error| {
        Error::invalid(format!("{name} of Kubo's repo is not JSON, path={}", path.display()))
            .with_cause(error)
    })
}

/// Kubo locks this file while it runs, as `fcntl` does.
fn lock(path: &Path) -> Result<Option<File>> {
    let file = match File::options().read(true).write(true).open(path.join("repo.lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::invalid("Kubo's repo cannot be locked").with_cause(error)),
    };
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::new(Kind::Unavailable, format!("Kubo runs on this repo: stop it, path={}", path.display()))
    })?;
    Ok(Some(file))
}

/// Folders of flatfs and of LevelDB, which every repo has that `ipfs init` makes without a profile for datastores.
fn mounts(spec: &Value) -> Result<[String; 2]> {
    let mounts = spec["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let find = |place: &str, kind: &str| {
        let mount = mounts.iter().find(|mount| mount["mountpoint"] == place)?;
        let folder = mount["path"].as_str().filter(|_| mount["type"] == kind)?;
        // It comes from a file: it stays below the repo.
        Path::new(folder)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)))
            .then(|| folder.to_owned())
    };
    match (spec["type"].as_str(), find("/blocks", "flatfs"), find("/", "levelds")) {
        (Some("mount"), Some(blocks), Some(datastore)) if mounts.len() == 2 => Ok([blocks, datastore]),
        _ => Err(Error::invalid(format!(
            "only flatfs with LevelDB is understood, which `ipfs init` makes by default; convert others with ipfs-ds-convert, or \
             move DAGs by `ipfs dag export`, datastores={}",
            kinds(spec)
        ))),
    }
}

fn kinds(spec: &Value) -> String {
    let mounts = spec["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kinds: Vec<_> =
        mounts.iter().chain(std::iter::once(spec)).filter_map(|part| part["type"].as_str()).collect();
    kinds.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repo that has nothing but what says what it is.
    fn repo(version: &str, spec: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("version", version), ("datastore_spec", spec), ("config", "{}")] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    // Source: `ipfs init` of Kubo 0.43, as it is and with `--profile=pebbleds` and `badgerds`.
    const FLATFS: &str = r#"{"mounts":[{"mountpoint":"/blocks","path":"blocks","shardFunc":"/repo/flatfs/shard/v1/next-to-last/2","type":"flatfs"},{"mountpoint":"/","path":"datastore","type":"levelds"}],"type":"mount"}"#;
    const PEBBLE: &str = r#"{"formatMajorVersion":16,"path":"pebbleds","type":"pebbleds"}"#;
    const BADGER: &str = r#"{"path":"badgerds","type":"badgerds"}"#;

    #[test]
    fn a_repo_of_the_usual_kind_is_opened() {
        let folder = repo("18", FLATFS);
        let kubo = KuboRepo::open(folder.path()).unwrap();
        assert_eq!(kubo.blocks(), folder.path().join("blocks"));
        assert_eq!(kubo.datastore(), folder.path().join("datastore"));
    }

    #[test]
    fn other_versions_and_datastores_are_refused_by_name() {
        for (version, spec, named) in [
            ("17", FLATFS, "version=17"),
            ("19\n", FLATFS, "version=19"),
            ("18", PEBBLE, "pebbleds"),
            ("18", BADGER, "badgerds"),
            ("18", "{}", "datastores="),
            ("18", &FLATFS.replace("\"blocks\"", "\"../blocks\""), "flatfs"),
            ("18", "[", "datastore_spec"),
        ] {
            let error = KuboRepo::open(repo(version, spec).path()).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains(named), "{named}: {error}");
        }
        let error = KuboRepo::open(tempfile::tempdir().unwrap().path()).unwrap_err();
        assert!(error.to_string().contains("no repo of Kubo"), "{error}");
    }
}
