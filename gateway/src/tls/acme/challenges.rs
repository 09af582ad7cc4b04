//! What a certificate authority is shown to prove that a name is ours, while it looks.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::sign::CertifiedKey;

/// Answers that wait for the authority. Few: orders are made one after the other.
#[derive(Default)]
pub(super) struct Challenges {
    /// HTTP-01: content of `/.well-known/acme-challenge/{token}`.
    http: Answers<String, String>,
    /// TLS-ALPN-01: certificate for a name.
    tls: Answers<String, Arc<CertifiedKey>>,
}

/// An answer is there as long as this is held.
#[must_use]
pub(super) enum Shown {
    Http(#[expect(dead_code, reason = "held for its end")] Entry<String, String>),
    Tls(#[expect(dead_code, reason = "held for its end")] Entry<String, Arc<CertifiedKey>>),
}

impl Challenges {
    pub(super) fn show_http(&self, token: &str, content: &str) -> Shown {
        Shown::Http(self.http.insert(token.to_owned(), content.to_owned()))
    }

    pub(super) fn show_tls(&self, name: &str, certificate: CertifiedKey) -> Shown {
        Shown::Tls(self.tls.insert(name.to_owned(), Arc::new(certificate)))
    }

    pub(super) fn http(&self, token: &str) -> Option<String> {
        self.http.get(token)
    }

    pub(super) fn tls(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.tls.get(name)
    }
}

struct Answers<K, V>(Arc<Mutex<HashMap<K, V>>>);

impl<K, V> Default for Answers<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Answers<K, V> {
    fn insert(&self, key: K, value: V) -> Entry<K, V> {
        lock(&self.0).insert(key.clone(), value);
        Entry { key, answers: Arc::clone(&self.0) }
    }

    fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        lock(&self.0).get(key).cloned()
    }
}

/// Takes its answer away when it is dropped.
pub(super) struct Entry<K: Eq + Hash, V> {
    key: K,
    answers: Arc<Mutex<HashMap<K, V>>>,
}

impl<K: Eq + Hash, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        lock(&self.answers).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
