//! Certificates: from a certificate authority, from files of the operator, or from a local CA that is made at first start.
//!
//! [`Tls`] chooses among them for each handshake. Read it first, then [`acme`].

mod acme;
mod files;
mod local;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;

use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use acme::Acme;
use files::Files;
use local::LocalCa;
use store::read;

pub use acme::AcmeSettings;

/// The protocol that a certificate authority offers to see a proof. Source: RFC 8737 §6.2.
pub(crate) const CHALLENGE_PROTOCOL: &[u8] = b"acme-tls/1";
/// Where it looks for one over HTTP. Source: RFC 8555 §8.3.
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

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
    /// A name that no certificate can be had for.
    #[error("no certificate for {name:?}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The cryptographic library failed.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Folder of the local CA and of what comes from another.
    pub folder: PathBuf,
    /// A certificate chain and its key, both PEM; they may be the same file.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Certificates from a certificate authority.
    pub acme: Option<AcmeSettings>,
}

/// The certificates of a server: for each name the one from an authority, else that of the operator's files, else, and for
/// `localhost` always, that of the local CA. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    sources: Arc<Sources>,
    config: Arc<ServerConfig>,
}

struct Sources {
    local: LocalCa,
    files: Option<Files>,
    acme: Option<Acme>,
}

impl Tls {
    /// Reads what there is and makes the local CA if there is none.
    ///
    /// # Errors
    /// [`TlsError`], also for a certificate that is expired or not valid yet.
    pub fn open(settings: TlsSettings) -> Result<Self, TlsError> {
        let sources = Arc::new(Sources {
            local: LocalCa::open(&settings.folder)?,
            files: settings.files.map(|(certificates, key)| Files::open(&certificates, &key)).transpose()?,
            acme: settings.acme.map(|acme| Acme::open(acme, &settings.folder)).transpose()?,
        });
        let config = config(&sources)?;
        Ok(Self { sources, config })
    }

    /// The certificate of the local CA, PEM, which clients are told to trust.
    pub fn ca_path(&self) -> &Path {
        &self.sources.local.ca_path
    }

    /// Whether browsers that come for a lower-case domain find a certificate for it, or will once they come.
    pub(crate) fn covers(&self, domain: &str) -> bool {
        let Sources { acme, files, .. } = &*self.sources;
        acme.as_ref().is_some_and(|acme| acme.covers(domain))
            || files.as_ref().is_some_and(|files| is_for(&files.key(), domain))
    }

    /// Follows changes of files and gets and renews certificates, until `stopping`.
    ///
    /// # Errors
    /// A file that is needed to talk to the authority.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), TlsError> {
        let files = async {
            match &self.sources.files {
                Some(files) => files.watch(&stopping).await,
                None => stopping.cancelled().await,
            }
        };
        let acme = async {
            match &self.sources.acme {
                Some(acme) => acme.run(&stopping).await,
                None => Ok(()),
            }
        };
        tokio::join!(files, acme).1
    }

    /// A router that also answers the questions of a certificate authority, for a server without TLS on port 80.
    pub fn answering(&self, router: Router) -> Router {
        let Some(acme) = self.sources.acme.clone() else { return router };
        let answer = async move |acme: State<Acme>, request: Request, next: Next| {
            let token = request.uri().path().strip_prefix(CHALLENGE_PATH);
            match token.and_then(|token| acme.answer(token)) {
                Some(content) => content.into_response(),
                None => next.run(request).await,
            }
        };
        router.layer(middleware::from_fn_with_state(acme, answer))
    }

    /// The configuration for a handshake, once there is a certificate for its name if there can be one.
    pub(crate) async fn config(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        // The authority itself must not wait for what it is about to give.
        if let (Some(acme), Some(name), false) =
            (&self.sources.acme, hello.server_name(), is_challenge(hello))
        {
            acme.prepare(name).await;
        }
        Arc::clone(&self.config)
    }
}

/// Source: RFC 8737 §3: that protocol alone is offered.
fn is_challenge(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.next() == Some(CHALLENGE_PROTOCOL) && protocols.next().is_none()
}

impl Sources {
    fn choose(&self, name: Option<&str>, is_challenge: bool) -> Option<Arc<CertifiedKey>> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        if is_challenge {
            return self.acme.as_ref()?.challenge(&name);
        }
        if name == "localhost" || name.ends_with(".localhost") {
            return Some(self.local.key());
        }
        let from_authority = self.acme.as_ref().and_then(|acme| acme.certificate(&name));
        let from_files = || self.files.as_ref().map(Files::key);
        Some(from_authority.or_else(from_files).unwrap_or_else(|| self.local.key()))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("ca_path", &self.ca_path()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Sources {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), is_challenge(&hello))
    }
}

/// Whether a certificate vouches for a domain.
fn is_for(key: &CertifiedKey, domain: &str) -> bool {
    let Some(leaf) = key.cert.first() else { return false };
    let (Ok(leaf), Ok(name)) = (ParsedCertificate::try_from(leaf), ServerName::try_from(domain)) else {
        return false;
    };
    verify_server_name(&leaf, &name).is_ok()
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn crypto(error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Crypto(error.to_string())
}

fn config(sources: &Arc<Sources>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| crypto(&error))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Sources>::clone(sources));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if sources.acme.is_some() {
        config.alpn_protocols.push(CHALLENGE_PROTOCOL.to_vec());
    }
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| crypto(&error))?;
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
