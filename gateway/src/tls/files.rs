//! A certificate from the operator's files, read again when they change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use super::{TlsError, read_pem};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate chain and its key, both PEM; they may be in the same file.
pub(super) struct Files {
    certificates: PathBuf,
    key: PathBuf,
    current: RwLock<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    stamps: [Stamp; 2],
}

/// What changes when somebody replaces a file.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// [`TlsError`], also for a certificate that is expired or not valid yet.
    pub(super) fn open(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamps = [stamp(certificates), stamp(key)];
        let current = Current { key: Arc::new(read_pem(certificates, key, SystemTime::now())?), stamps };
        Ok(Self { certificates: certificates.to_owned(), key: key.to_owned(), current: RwLock::new(current) })
    }

    /// The certificate as it was last read.
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).key)
    }

    /// Follows changes until `stopping`. Connections that are open keep the certificate that they were opened with.
    pub(super) async fn watch(&self, stopping: &CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => self.refresh(),
            }
        }
    }

    /// Looks once. What cannot be used, such as a key whose certificate has not been written yet, changes nothing.
    pub(super) fn refresh(&self) {
        let stamps = [stamp(&self.certificates), stamp(&self.key)];
        if self.current.read().unwrap_or_else(PoisonError::into_inner).stamps == stamps {
            return;
        }
        let read = read_pem(&self.certificates, &self.key, SystemTime::now());
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.stamps = stamps;
        match read {
            Ok(key) => {
                current.key = Arc::new(key);
                tracing::info!(path = %self.certificates.display(), "certificate reloaded");
            }
            Err(error) => tracing::error!(%error, "certificate not reloaded, the former one stays"),
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    // Two files that were written together may have the same time and length.
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&file);
    #[cfg(not(unix))]
    let number = 0;
    Some((file.modified().ok()?, file.len(), number))
}
