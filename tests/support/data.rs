//! Seeded content, and comparisons of what arrived with what was sent.

use std::env;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use tempfile::TempDir;

const BUFFER_BYTES: usize = 1024 * 1024;

/// Length of the big file of the scenarios: 64 MiB, or `CAIRN_TEST_BIG_BYTES`.
#[must_use]
pub fn big_file_bytes() -> u64 {
    match env::var("CAIRN_TEST_BIG_BYTES") {
        Ok(text) => text.parse().expect("CAIRN_TEST_BIG_BYTES is a number of bytes"),
        Err(_) => 64 * 1024 * 1024,
    }
}

/// A folder for the content of one test, removed with it.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// An empty folder.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it touches the disk")]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cairn-content-").tempdir();
        Self { folder: folder.expect("a temporary folder") }
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of `len_bytes` random bytes, the same for the same `seed`.
    #[must_use]
    pub fn random_file(&self, name: &str, len_bytes: u64, seed: u64) -> PathBuf {
        let path = self.path(name);
        let mut file = BufWriter::new(File::create(&path).expect("a file can be created"));
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut left = len_bytes;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            random.fill_bytes(&mut buffer[..part]);
            file.write_all(&buffer[..part]).expect("a file can be written");
            left -= part as u64;
        }
        file.flush().expect("a file can be written");
        path
    }

    /// Writes files below a folder: pairs of a path and a text.
    #[must_use]
    pub fn site(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.path(name);
        for (file, text) in files {
            write(&root.join(file), text.as_bytes());
        }
        root
    }

    /// Writes a tree.
    #[must_use]
    pub fn tree(&self, name: &str, tree: Tree) -> PathBuf {
        let root = self.path(name);
        fs::create_dir(&root).expect("a folder can be created");
        let mut random = ChaCha20Rng::seed_from_u64(tree.seed);
        for number in 0..tree.file_count {
            let folder =
                if tree.nested { format!("d{}/e{}/", number % 7, number % 3) } else { String::new() };
            let mut bytes = vec![0; 1 + number * 37 % tree.max_file_bytes];
            random.fill_bytes(&mut bytes);
            write(&root.join(format!("{folder}file-{number:05}.bin")), &bytes);
        }
        root
    }
}

/// A tree of many small files of different lengths.
///
/// None is empty: Kubo 0.43 waits forever for an empty raw block, even from another Kubo.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    /// Number of files.
    pub file_count: usize,
    /// Length of the longest file.
    pub max_file_bytes: usize,
    /// Spread over folders two levels deep, or all in one folder.
    pub nested: bool,
    /// Seed of the content.
    pub seed: u64,
}

/// Whether two files hold the same bytes.
#[must_use]
pub fn files_equal(left: &Path, right: &Path) -> bool {
    let open = |path: &Path| {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (file.metadata().expect("an open file has a length").len(), BufReader::new(file))
    };
    let ((left_bytes, mut left), (right_bytes, mut right)) = (open(left), open(right));
    let (mut a, mut b) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut at = 0;
    while left_bytes == right_bytes && at < left_bytes {
        let part = usize::try_from(left_bytes - at).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        left.read_exact(&mut a[..part]).expect("a file can be read");
        right.read_exact(&mut b[..part]).expect("a file can be read");
        if a[..part] != b[..part] {
            return false;
        }
        at += part as u64;
    }
    left_bytes == right_bytes
}

/// Whether two folders hold the same names with the same content, at every depth.
#[must_use]
pub fn trees_equal(left: &Path, right: &Path) -> bool {
    let names = |path: &Path| {
        let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("a folder can be read").file_name()).collect();
        names.sort();
        names
    };
    let (ours, theirs) = (names(left), names(right));
    ours == theirs
        && ours.iter().all(|name| {
            let (left, right) = (left.join(name), right.join(name));
            match (left.is_dir(), right.is_dir()) {
                (true, true) => trees_equal(&left, &right),
                (false, false) => files_equal(&left, &right),
                _ => false,
            }
        })
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be created");
    fs::write(path, bytes).expect("a file can be written");
}
