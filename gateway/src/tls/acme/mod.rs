//! Certificates from a certificate authority by ACME: for names that are listed, and on demand for others that may have one.
//!
//! Each name has a certificate of its own, kept in a file. One task makes the orders, one after the other; a handshake for
//! a name that may have a certificate and has none waits for it.

mod challenges;
mod client;
mod order;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::store::{self, SECRET};
use super::{TlsError, read_pem, validity};
use crate::headers::fingerprint;
use crate::policy::HostPattern;
use crate::rate::Pace;
use challenges::Challenges;
use order::Orders;

/// Folder below that of the local CA.
const FOLDER: &str = "acme";
/// Handshakes that wait for an order; more of them go without.
const QUEUE: usize = 64;
/// Certificates that are held; a name beyond gets none on demand.
const MAX_CERTIFICATES: usize = 10_000;
/// Orders on demand that may follow each other at once.
const ON_DEMAND_BURST: u32 = 10;
/// How long a name that was refused gets no other try on demand.
const REFUSED: Duration = Duration::from_secs(600);
/// Names that were refused and are remembered.
const MAX_REFUSED: usize = 1000;
/// Wait after the first failure for a listed name; it doubles with each.
const RETRY: Duration = Duration::from_secs(60);
/// Longest wait after a failure.
const MAX_RETRY: Duration = Duration::from_secs(6 * 3600);
/// Longest sleep between two looks at what is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);

/// Which authority, and for which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// URL of the authority's directory.
    pub directory: String,
    /// Mail address that the authority may write to.
    pub contact: Option<String>,
    /// Names that get a certificate at the start and keep one.
    pub domains: Vec<String>,
    /// Names that get one when the first client asks.
    pub on_demand: Vec<HostPattern>,
    /// Orders on demand in an hour, which saves the authority's patience for the listed names.
    pub on_demand_per_hour: u32,
    /// PEM file of the only root to trust in talking to the authority; `None` for those of this computer.
    pub root: Option<PathBuf>,
}

impl AcmeSettings {
    /// The authority that most of the web uses.
    pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
    /// A sixth of what Let's Encrypt allows an account.
    pub const ON_DEMAND_PER_HOUR: u32 = 16;

    fn check(&self) -> Result<(), TlsError> {
        let bad = self.domains.iter().find(|domain| !is_name(domain));
        match bad {
            None => Ok(()),
            Some(domain) if domain.contains('*') => Err(TlsError::Name {
                name: domain.clone(),
                reason: "a wildcard certificate needs a proof by DNS, which is not supported; use a certificate from files",
            }),
            Some(domain) => Err(TlsError::Name { name: domain.clone(), reason: "not a domain name" }),
        }
    }
}

/// Whether text is a host name of several labels, as a public authority vouches for.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(is_label)
        && text.parse::<std::net::IpAddr>().is_err()
}

/// The certificates. Cheap to clone.
#[derive(Clone)]
pub(super) struct Acme(Arc<Inner>);

struct Inner {
    settings: AcmeSettings,
    folder: PathBuf,
    certificates: RwLock<HashMap<String, Certificate>>,
    challenges: Arc<Challenges>,
    requests: mpsc::Sender<Request>,
    /// Taken by the task that makes the orders.
    pending: Mutex<Option<mpsc::Receiver<Request>>>,
    refused: Mutex<HashMap<String, Instant>>,
}

#[derive(Clone)]
struct Certificate {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

/// A name to get a certificate for, and who waits for that.
struct Request {
    domain: String,
    done: oneshot::Sender<()>,
}

impl Acme {
    /// Reads what `folder` holds from earlier runs.
    ///
    /// # Errors
    /// [`TlsError`] for names that cannot have a certificate, or a folder that cannot be made.
    pub(super) fn open(settings: AcmeSettings, folder: &Path) -> Result<Self, TlsError> {
        settings.check()?;
        let folder = folder.join(FOLDER);
        store::make_folder(&folder)?;
        let (requests, pending) = mpsc::channel(QUEUE);
        let acme = Self(Arc::new(Inner {
            settings,
            folder,
            certificates: RwLock::default(),
            challenges: Arc::default(),
            requests,
            pending: Mutex::new(Some(pending)),
            refused: Mutex::default(),
        }));
        for domain in &acme.0.settings.domains {
            acme.load(&domain.to_ascii_lowercase());
        }
        Ok(acme)
    }

    /// The certificate for a lower-case name.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.held(name).map(|certificate| certificate.key)
    }

    /// Whether there is a certificate for a lower-case name, or the first client that comes for it gets one.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.held(name).is_some() || (self.may_have(name) && !self.is_refused(name))
    }

    /// The certificate that proves a name to the authority.
    pub(super) fn challenge(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.0.challenges.tls(name)
    }

    /// What the authority is shown under a token.
    pub(super) fn answer(&self, token: &str) -> Option<String> {
        self.0.challenges.http(token)
    }

    /// Returns when there is a certificate for a name, or will be none: for a name that may have one on demand this takes as
    /// long as the authority does.
    pub(super) async fn prepare(&self, name: &str) {
        let name = name.to_ascii_lowercase();
        let held = self.held(&name).or_else(|| self.may_have(&name).then(|| self.load(&name)).flatten());
        let is_due = held.as_ref().is_none_or(|held| held.renew_at <= SystemTime::now());
        if !is_due || !self.may_have(&name) || self.is_refused(&name) {
            return;
        }
        let (done, ready) = oneshot::channel();
        if self.0.requests.try_send(Request { domain: name, done }).is_ok() && held.is_none() {
            // Dropped unsent when there is none.
            let _ = ready.await;
        }
    }

    /// Gets and renews certificates until `stopping`.
    ///
    /// # Errors
    /// A root that cannot be read.
    pub(super) async fn run(&self, stopping: &CancellationToken) -> Result<(), TlsError> {
        let Some(mut requests) = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let account =
            self.0.folder.join(format!("account-{}.json", fingerprint(self.0.settings.directory.as_bytes())));
        let mut orders = Orders::new(self.0.settings.clone(), account, Arc::clone(&self.0.challenges))?;
        let mut schedule = Schedule::new(&self.0.settings.domains);
        let pace =
            Pace::new(Duration::from_secs(3600) / self.0.settings.on_demand_per_hour.max(1), ON_DEMAND_BURST);
        let on_demand = AtomicU64::default();
        loop {
            let next = schedule.next(|domain| self.held(domain), SystemTime::now());
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                Some(Request { domain, done }) = requests.recv() => {
                    let is_due = self.held(&domain).is_none_or(|held| held.renew_at <= SystemTime::now());
                    if is_due && pace.take(&on_demand).is_ok() && !self.order(&mut orders, &domain, stopping).await {
                        self.refuse(domain);
                    }
                    drop(done);
                }
                () = tokio::time::sleep(next.wait) => {
                    let Some(domain) = next.domain else { continue };
                    let is_done = self.order(&mut orders, &domain, stopping).await;
                    schedule.tried(&domain, is_done, SystemTime::now());
                }
            }
        }
    }

    async fn order(&self, orders: &mut Orders, domain: &str, stopping: &CancellationToken) -> bool {
        let ordered = tokio::select! {
            ordered = orders.certificate(domain) => ordered,
            () = stopping.cancelled() => return false,
        };
        let path = self.path(domain);
        let kept = ordered.and_then(|pem| Ok(store::replace(&path, pem.as_bytes(), SECRET)?));
        match kept {
            Ok(()) => {
                tracing::info!(domain, "certificate issued");
                self.load(domain).is_some()
            }
            Err(error) => {
                tracing::error!(%error, domain, "no certificate");
                false
            }
        }
    }

    fn held(&self, name: &str) -> Option<Certificate> {
        self.0.certificates.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Takes in a certificate from its file, if there is one that is valid.
    fn load(&self, name: &str) -> Option<Certificate> {
        let path = self.path(name);
        if !path.exists() {
            return None;
        }
        let read = || {
            let key = read_pem(&path, &path, SystemTime::now())?;
            let validity = validity(&path, &key.cert[0])?;
            let (from, to) = (SystemTime::from(validity.from), SystemTime::from(validity.to));
            // When a third of its life is left, as Let's Encrypt asks for.
            let renew_at = to - to.duration_since(from).unwrap_or_default() / 3;
            Ok::<_, TlsError>(Certificate { key: Arc::new(key), renew_at })
        };
        match read() {
            Ok(certificate) => {
                let mut certificates = self.0.certificates.write().unwrap_or_else(PoisonError::into_inner);
                certificates.insert(name.to_owned(), certificate.clone());
                Some(certificate)
            }
            Err(error) => {
                tracing::warn!(%error, "certificate not used, getting another");
                None
            }
        }
    }

    fn may_have(&self, name: &str) -> bool {
        let count = self.0.certificates.read().unwrap_or_else(PoisonError::into_inner).len();
        is_name(name)
            && count < MAX_CERTIFICATES
            && self.0.settings.on_demand.iter().any(|pattern| pattern.matches(name, name))
    }

    fn is_refused(&self, name: &str) -> bool {
        let refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(name).is_some_and(|until| Instant::now() < *until)
    }

    fn refuse(&self, name: String) {
        let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        refused.retain(|_, until| now < *until);
        if refused.len() < MAX_REFUSED {
            refused.insert(name, now + REFUSED);
        }
    }

    /// [`is_name`] holds for every name that comes here, so it is one plain file name.
    fn path(&self, name: &str) -> PathBuf {
        self.0.folder.join(format!("{name}.pem"))
    }
}

/// When each listed name is tried again after failures.
struct Schedule {
    /// Failures in a row, and when the next try is.
    tries: Vec<(String, u32, SystemTime)>,
}

struct Next {
    domain: Option<String>,
    wait: Duration,
}

impl Schedule {
    fn new(domains: &[String]) -> Self {
        let tries = domains.iter().map(|domain| (domain.to_ascii_lowercase(), 0, SystemTime::UNIX_EPOCH));
        Self { tries: tries.collect() }
    }

    /// The name that is due first, and in how long.
    fn next(&self, held: impl Fn(&str) -> Option<Certificate>, now: SystemTime) -> Next {
        let due = |(domain, _, retry_at): &(String, u32, SystemTime)| {
            let renew_at = held(domain).map_or(SystemTime::UNIX_EPOCH, |certificate| certificate.renew_at);
            (renew_at.max(*retry_at), domain.clone())
        };
        let Some((at, domain)) = self.tries.iter().map(due).min() else {
            return Next { domain: None, wait: LOOK_INTERVAL };
        };
        match at.duration_since(now) {
            Ok(wait) if wait > LOOK_INTERVAL => Next { domain: None, wait: LOOK_INTERVAL },
            wait => Next { domain: Some(domain), wait: wait.unwrap_or_default() },
        }
    }

    fn tried(&mut self, domain: &str, is_done: bool, now: SystemTime) {
        for (_, failures, retry_at) in self.tries.iter_mut().filter(|(name, ..)| name == domain) {
            *failures = if is_done { 0 } else { *failures + 1 };
            let wait = RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_RETRY);
            *retry_at = if is_done { now } else { now + wait };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(domains: &[&str], on_demand: &[&str]) -> AcmeSettings {
        AcmeSettings {
            directory: AcmeSettings::LETS_ENCRYPT.to_owned(),
            contact: None,
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            on_demand: on_demand.iter().map(|name| HostPattern::new(name)).collect(),
            on_demand_per_hour: 1,
            root: None,
        }
    }

    #[test]
    fn names_that_no_authority_vouches_for_are_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            |domain| Acme::open(settings(&[domain], &[]), folder.path()).err().map(|error| error.to_string());
        assert!(error("*.example.com").unwrap().contains("proof by DNS"));
        for domain in ["localhost", "192.0.2.1", "a..b", "../x.y", "a/b.c", ""] {
            assert!(error(domain).is_some(), "{domain}");
        }
        assert_eq!(error("example.com"), None);
    }

    #[test]
    fn only_allowed_names_may_have_a_certificate_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let acme = Acme::open(settings(&[], &["*.sites.example", "blog.example"]), folder.path()).unwrap();
        for (name, expected) in [
            ("blog.example", true),
            ("a.sites.example", true),
            ("sites.example", false),
            ("a.b.sites.example", false),
            ("..sites.example", false),
            ("other.example", false),
        ] {
            assert_eq!(acme.may_have(name), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_name_that_may_have_none_does_not_wait() {
        let folder = tempfile::tempdir().unwrap();
        let acme = Acme::open(settings(&["own.example"], &["blog.example"]), folder.path()).unwrap();
        for name in ["own.example", "other.example", "localhost"] {
            acme.prepare(name).await;
        }
        acme.refuse("blog.example".to_owned());
        acme.prepare("Blog.example").await;
    }

    #[test]
    fn failures_are_tried_again_ever_more_seldom() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut schedule = Schedule::new(&["a.example".to_owned()]);
        let wait = |schedule: &Schedule| schedule.next(|_| None, now).wait;
        assert_eq!(wait(&schedule), Duration::ZERO);
        for expected in [60, 120, 240] {
            schedule.tried("a.example", false, now);
            assert_eq!(wait(&schedule), Duration::from_secs(expected));
        }
        (0..100).for_each(|_| schedule.tried("a.example", false, now));
        assert_eq!(schedule.tries[0].2, now + MAX_RETRY);
        schedule.tried("a.example", true, now);
        assert_eq!(wait(&schedule), Duration::ZERO);
    }
}
