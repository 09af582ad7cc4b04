//! Files that hold keys and certificates.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::TlsError;

/// Mode of a file that only its owner may read.
pub(super) const SECRET: u32 = 0o600;
/// Mode of a file that everybody may read.
pub(super) const PUBLIC: u32 = 0o644;

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Makes a folder that only its owner may look into, and those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), TlsError> {
    let mut options = fs::DirBuilder::new();
    options.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut options, 0o700);
    options.create(path).map_err(|source| TlsError::Write { path: path.to_owned(), source })
}

/// Replaces a file by one that is durable, in one step.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), TlsError> {
    let failed = |source| TlsError::Write { path: path.to_owned(), source };
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    // A file left by an interrupted run may have other permissions.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = options.open(&new).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    // A rename alone may not survive a crash.
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}
