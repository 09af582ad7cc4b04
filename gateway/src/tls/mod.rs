//! Certificates: from files of the operator, or from a local CA that is made at first start.
//!
//! Both give a [`ServerConfig`] that offers HTTP/2 and HTTP/1.1, for [`serve_https`](crate::serve_https).

mod local;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

pub use local::{LocalCa, local_ca};

/// Why there is no certificate to serve with. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The private key is not that of the certificate.
    #[error("the key in {key} is not the key of the certificate in {certificates}", key = key.display(), certificates = certificates.display())]
    KeyMismatch {
        /// File of the certificate.
        certificates: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// The certificate is not valid now.
    #[error("the certificate in {path} is valid from {from} to {to} only", path = path.display())]
    Validity {
        /// File of the certificate.
        path: PathBuf,
        /// Start of its validity.
        from: OffsetDateTime,
        /// End of its validity.
        to: OffsetDateTime,
    },
    /// The cryptographic library failed.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

/// The configuration of a certificate chain and its key, both PEM. They may be the same file.
///
/// # Errors
/// [`TlsError`], also for a certificate that is expired or not valid yet.
pub fn load_pem(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let key = read_pem(certificates, key, SystemTime::now())?;
    config(Arc::new(SingleCertAndKey::from(key)))
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn config(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
    let crypto = |error: rustls::Error| TlsError::Crypto(error.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(crypto)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(crypto)?;
    Ok(Arc::new(config))
}

fn read_pem(certificates: &Path, key: &Path, now: SystemTime) -> Result<CertifiedKey, TlsError> {
    let content = |path: &Path, reason: String| TlsError::Content { path: path.to_owned(), reason };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificates)?)
        .collect::<Result<_, _>>()
        .map_err(|error| content(certificates, format!("not a PEM file: {error}")))?;
    let Some(leaf) = chain.first() else {
        return Err(content(certificates, "no CERTIFICATE section in it".to_owned()));
    };
    let validity = validity(certificates, leaf)?;
    if !validity.holds_at(now) {
        return Err(TlsError::Validity {
            path: certificates.to_owned(),
            from: validity.from,
            to: validity.to,
        });
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| content(key, format!("no PRIVATE KEY section that can be read: {error}")))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { certificates: certificates.to_owned(), key: key.to_owned() }
        }
        error => content(key, error.to_string()),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy)]
struct Validity {
    from: OffsetDateTime,
    to: OffsetDateTime,
}

impl Validity {
    fn holds_at(&self, now: SystemTime) -> bool {
        (self.from..=self.to).contains(&OffsetDateTime::from(now))
    }
}

fn validity(path: &Path, certificate: &CertificateDer<'_>) -> Result<Validity, TlsError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| {
        TlsError::Content { path: path.to_owned(), reason: format!("not a certificate: {error}") }
    })?;
    let validity = parsed.validity();
    Ok(Validity { from: validity.not_before.to_datetime(), to: validity.not_after.to_datetime() })
}

#[cfg(test)]
mod tests;
