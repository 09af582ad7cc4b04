//! A CA that can vouch for `localhost` only, made at first start and kept.
//!
//! Whoever trusts it trusts nothing else by that: its names are constrained, and so is what a thief of its key can do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::store::{self, PUBLIC, SECRET, read, replace};
use super::{TlsError, crypto, read_pem, validity};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A CA is made for years: people install it by hand.
const CA_LIFETIME: Duration = DAY.saturating_mul(3650);
/// Browsers refuse leaves that are valid for more than 398 days; there is no reason to come near that.
const LEAF_LIFETIME: Duration = DAY.saturating_mul(90);
/// A leaf is renewed when less than this is left of it.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);
/// How long the next attempt waits after a renewal failed.
const RENEW_RETRY: Duration = Duration::from_secs(3600);
/// Validity starts a little in the past, for clients whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";
/// Key and certificate in one file, so that they are replaced together.
const LEAF_FILE: &str = "localhost.pem";

/// What the leaf is for, and what the CA may vouch for.
const NAMES: [&str; 5] = ["localhost", "*.ipfs.localhost", "*.ipns.localhost", "127.0.0.1", "::1"];

/// A local CA, which always has a leaf that is valid.
pub(super) struct LocalCa {
    /// The certificate of the CA, PEM, which clients are told to trust.
    pub(super) ca_path: PathBuf,
    renewing: Renewing,
}

impl LocalCa {
    /// Opens the CA in `dir`, or makes one there. Certificate and CA stay the same over restarts until they near their end.
    ///
    /// # Errors
    /// [`TlsError`], also when only one half of the CA is there: a new one would lose the trust in the old one unasked.
    pub(super) fn open(dir: &Path) -> Result<Self, TlsError> {
        let now = SystemTime::now();
        let authority = Authority::open(dir, now)?;
        let current = authority.leaf(now)?;
        let renewing = Renewing { authority, current: RwLock::new(current) };
        Ok(Self { ca_path: dir.join(CA_FILE), renewing })
    }

    /// The certificate for `localhost` and what is below it.
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.renewing.key_at(SystemTime::now())
    }
}

/// The CA: it can issue leaves.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, to tell leaves of its own from others.
    certificate: CertificateDer<'static>,
}

/// A leaf that is served, and when the next one is due.
struct Leaf {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

impl Authority {
    fn open(dir: &Path, now: SystemTime) -> Result<Self, TlsError> {
        let (path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
        if !path.exists() {
            return Self::make(dir, now);
        }
        if !key_path.exists() {
            let reason = format!(
                "it is missing, but {CA_FILE} is there; restore it, or remove {CA_FILE} to get a new CA"
            );
            return Err(TlsError::Content { path: key_path, reason });
        }
        let key = read_pem(&path, &key_path, now);
        if matches!(key, Err(TlsError::Validity { .. })) {
            tracing::warn!(path = %path.display(), "the local CA has expired: making a new one, which must be trusted again");
            return Self::make(dir, now);
        }
        let certificate = key?.cert.first().cloned().expect("a certified key has a certificate");
        let malformed = |reason: String| TlsError::Content { path: path.clone(), reason };
        let key_text = String::from_utf8(read(&key_path)?).map_err(|error| malformed(error.to_string()))?;
        let key = KeyPair::from_pem(&key_text).map_err(|error| malformed(error.to_string()))?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { dir: dir.to_owned(), issuer, certificate })
    }

    fn make(dir: &Path, now: SystemTime) -> Result<Self, TlsError> {
        store::make_folder(dir)?;
        let key = KeyPair::generate().map_err(|error| crypto(&error))?;
        let params = ca_params(&key, now);
        let certificate = params.self_signed(&key).map_err(|error| crypto(&error))?;
        // The certificate last: it is what tells a complete CA from one whose making was interrupted.
        replace(&dir.join(CA_KEY_FILE), key.serialize_pem().as_bytes(), SECRET)?;
        replace(&dir.join(CA_FILE), certificate.pem().as_bytes(), PUBLIC)?;
        Ok(Self { dir: dir.to_owned(), issuer: Issuer::new(params, key), certificate: certificate.into() })
    }

    /// The leaf on disk if it will do, else a new one.
    fn leaf(&self, now: SystemTime) -> Result<Leaf, TlsError> {
        match self.load(now) {
            Some(leaf) if now < leaf.renew_at => Ok(leaf),
            _ => self.issue(now),
        }
    }

    fn load(&self, now: SystemTime) -> Option<Leaf> {
        let path = self.dir.join(LEAF_FILE);
        let key = read_pem(&path, &path, now).ok()?;
        let is_ours = || {
            let (_, leaf) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
            let (_, ca) = x509_parser::parse_x509_certificate(&self.certificate).ok()?;
            // The name of a CA holds a digest of its key.
            Some(leaf.issuer().as_raw() == ca.subject().as_raw())
        };
        is_ours()?.then_some(())?;
        let end = SystemTime::from(validity(&path, key.cert.first()?).ok()?.to);
        Some(Leaf { key: Arc::new(key), renew_at: end - RENEW_BEFORE })
    }

    fn issue(&self, now: SystemTime) -> Result<Leaf, TlsError> {
        let path = self.dir.join(LEAF_FILE);
        let key = KeyPair::generate().map_err(|error| crypto(&error))?;
        let certificate = leaf_params(now)?.signed_by(&key, &self.issuer).map_err(|error| crypto(&error))?;
        replace(&path, format!("{}{}", key.serialize_pem(), certificate.pem()).as_bytes(), SECRET)?;
        let key = read_pem(&path, &path, now)?;
        Ok(Leaf { key: Arc::new(key), renew_at: now + LEAF_LIFETIME - RENEW_BEFORE })
    }
}

fn ca_params(key: &KeyPair, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let key_id =
        params.key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
    params.distinguished_name = distinguished_name(&format!("Cairn local CA {key_id}"));
    params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
    params.not_after = OffsetDateTime::from(now + CA_LIFETIME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A constraint on a name covers the names below it (RFC 5280 §4.2.1.10).
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(IpAddr::V4(Ipv4Addr::LOCALHOST), 32)),
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(IpAddr::V6(Ipv6Addr::LOCALHOST), 128)),
        ],
        excluded_subtrees: Vec::new(),
    });
    params
}

fn leaf_params(now: SystemTime) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned)).map_err(|error| crypto(&error))?;
    params.distinguished_name = distinguished_name("localhost");
    params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
    params.not_after = OffsetDateTime::from(now + LEAF_LIFETIME);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Cairn");
    name.push(DnType::CommonName, common_name);
    name
}

/// Serves the current leaf, and a new one once that is due.
struct Renewing {
    authority: Authority,
    current: RwLock<Leaf>,
}

impl Renewing {
    fn key_at(&self, now: SystemTime) -> Arc<CertifiedKey> {
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if now < current.renew_at {
                return Arc::clone(&current.key);
            }
        }
        // About once in two months one handshake waits for this: a signature and a small file.
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if now >= current.renew_at {
            match self.authority.issue(now) {
                Ok(leaf) => *current = leaf,
                Err(error) => {
                    tracing::error!(%error, "cannot renew the certificate of the gateway");
                    current.renew_at = now + RENEW_RETRY;
                }
            }
        }
        Arc::clone(&current.key)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn leaf_der(leaf: &Leaf) -> Vec<u8> {
        leaf.key.cert[0].to_vec()
    }

    #[test]
    fn a_restart_keeps_ca_and_leaf() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let open = || {
            let authority = Authority::open(dir.path(), now).unwrap();
            let leaf = authority.leaf(now).unwrap();
            (authority.certificate.to_vec(), leaf_der(&leaf))
        };
        assert_eq!(open(), open());
    }

    #[test]
    fn a_leaf_is_renewed_30_days_before_its_end_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let start = SystemTime::now();
        let authority = Authority::open(dir.path(), start).unwrap();
        let first = authority.leaf(start).unwrap();
        let due = LEAF_LIFETIME - RENEW_BEFORE;
        // A certificate counts whole seconds.
        let before = authority.leaf(start + due - Duration::from_secs(2)).unwrap();
        assert_eq!(leaf_der(&before), leaf_der(&first));
        let after = authority.leaf(start + due).unwrap();
        assert_ne!(leaf_der(&after), leaf_der(&first));
    }

    #[test]
    fn a_running_server_renews_its_leaf() {
        let dir = tempfile::tempdir().unwrap();
        let start = SystemTime::now();
        let authority = Authority::open(dir.path(), start).unwrap();
        let current = RwLock::new(authority.leaf(start).unwrap());
        let renewing = Renewing { authority, current };
        let first = renewing.key_at(start);
        assert!(Arc::ptr_eq(&first, &renewing.key_at(start + DAY)));
        let second = renewing.key_at(start + LEAF_LIFETIME);
        assert_ne!(first.cert, second.cert);
        assert!(Arc::ptr_eq(&second, &renewing.key_at(start + LEAF_LIFETIME + DAY)));
    }

    #[test]
    fn a_renewal_that_fails_leaves_the_old_leaf_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let start = SystemTime::now();
        let authority = Authority::open(dir.path(), start).unwrap();
        let current = RwLock::new(authority.leaf(start).unwrap());
        let renewing = Renewing { authority, current };
        let first = renewing.key_at(start);
        dir.close().unwrap();
        assert!(Arc::ptr_eq(&first, &renewing.key_at(start + LEAF_LIFETIME)));
    }

    #[test]
    fn a_leaf_of_another_ca_is_replaced() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = SystemTime::now();
        let authority = Authority::open(ours.path(), now).unwrap();
        let foreign = Authority::open(theirs.path(), now).unwrap().leaf(now).unwrap();
        fs::copy(theirs.path().join(LEAF_FILE), ours.path().join(LEAF_FILE)).unwrap();
        assert_ne!(leaf_der(&authority.leaf(now).unwrap()), leaf_der(&foreign));
    }

    #[test]
    fn half_a_ca_is_refused_and_an_interrupted_one_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        Authority::open(dir.path(), now).unwrap();
        fs::remove_file(dir.path().join(CA_FILE)).unwrap();
        Authority::open(dir.path(), now).unwrap();
        fs::remove_file(dir.path().join(CA_KEY_FILE)).unwrap();
        let error = Authority::open(dir.path(), now).err().unwrap().to_string();
        assert!(error.contains(CA_KEY_FILE) && error.contains("restore it"), "{error}");
    }

    #[test]
    fn an_expired_ca_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = Authority::open(dir.path(), now).unwrap();
        let second = Authority::open(dir.path(), now + CA_LIFETIME + DAY).unwrap();
        assert_ne!(first.certificate, second.certificate);
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        Authority::open(dir.path(), now).unwrap().leaf(now).unwrap();
        for (name, mode) in [(CA_KEY_FILE, 0o600), (LEAF_FILE, 0o600), (CA_FILE, 0o644)] {
            let found = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{name}");
        }
    }

    #[test]
    fn the_ca_can_vouch_for_localhost_only_and_the_leaf_is_what_browsers_accept() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = Authority::open(dir.path(), now).unwrap();
        let leaf = leaf_der(&authority.leaf(now).unwrap());
        let (_, ca) = x509_parser::parse_x509_certificate(&authority.certificate).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let constraints = ca.name_constraints().unwrap().unwrap();
        assert!(constraints.critical);
        assert_eq!(constraints.value.permitted_subtrees.as_ref().unwrap().len(), 3);
        assert!(ca.is_ca() && !leaf.is_ca());
        assert!(leaf.extended_key_usage().unwrap().unwrap().value.server_auth);
        let days = (leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp()) / 86_400;
        assert!(days <= 398, "{days}");
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names.len(), NAMES.len());
    }
}
