use std::fs;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A certificate and its key as an operator has them, in files.
fn files(dir: &Path, name: &str, params: &CertificateParams) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let paths = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-key.pem")));
    fs::write(&paths.0, certificate.pem()).unwrap();
    fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

fn valid_for(days: u64) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
    let now = SystemTime::now();
    params.not_before = OffsetDateTime::from(now - Duration::from_secs(3600 * 24 * 30));
    params.not_after = params.not_before + Duration::from_secs(3600 * 24 * (30 + days));
    params
}

fn message(certificates: &Path, key: &Path) -> String {
    load_pem(certificates, key).unwrap_err().to_string()
}

#[test]
fn a_certificate_and_its_key_are_loaded_and_offer_http_2_first() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = files(dir.path(), "a", &valid_for(10));
    let config = load_pem(&certificate, &key).unwrap();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = files(dir.path(), "a", &valid_for(10));
    let (_, other_key) = files(dir.path(), "b", &valid_for(10));
    let missing = dir.path().join("missing.pem");
    assert!(
        message(&missing, &key).contains("cannot read") && message(&missing, &key).contains("missing.pem")
    );
    assert!(message(&certificate, &missing).contains("missing.pem"));
    assert!(message(&key, &key).contains("no CERTIFICATE section"));
    assert!(message(&certificate, &certificate).contains("no PRIVATE KEY section"));
    let mismatch = message(&certificate, &other_key);
    assert!(
        mismatch.contains("is not the key of the certificate") && mismatch.contains("b-key.pem"),
        "{mismatch}"
    );
}

#[test]
fn an_expired_certificate_and_one_of_the_future_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = files(dir.path(), "old", &valid_for(0));
    let later = SystemTime::now() + Duration::from_secs(60);
    assert!(matches!(read_pem(&certificate, &key, later), Err(TlsError::Validity { .. })));
    let earlier = SystemTime::now() - Duration::from_secs(3600 * 24 * 31);
    assert!(matches!(read_pem(&certificate, &key, earlier), Err(TlsError::Validity { .. })));
    let within = SystemTime::now() - Duration::from_secs(60);
    assert!(read_pem(&certificate, &key, within).is_ok());
}
