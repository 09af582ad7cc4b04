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
    Files::open(certificates, key).err().unwrap().to_string()
}

fn open(folder: &Path, files: (PathBuf, PathBuf)) -> Tls {
    Tls::open(TlsSettings { folder: folder.to_owned(), files: Some(files), acme: None }).unwrap()
}

#[test]
fn http_2_is_offered_first_and_a_protocol_of_authorities_only_where_one_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let tls = open(dir.path(), files(dir.path(), "a", &valid_for(10)));
    assert_eq!(tls.config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
}

#[test]
fn names_of_this_computer_get_the_local_certificate_and_all_others_that_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let tls = open(dir.path(), files(dir.path(), "a", &valid_for(10)));
    let of = |name| tls.sources.choose(name, false).unwrap().cert[0].clone();
    let (local, own) =
        (tls.sources.local.key().cert[0].clone(), tls.sources.files.as_ref().unwrap().key().cert[0].clone());
    assert_eq!(of(Some("localhost")), local);
    assert_eq!(of(Some("x.ipfs.LOCALHOST")), local);
    assert_eq!((of(Some("example.com")), of(None)), (own.clone(), own));
    assert!(tls.sources.choose(Some("example.com"), true).is_none());
}

#[test]
fn a_new_certificate_is_used_once_its_key_is_there_too() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = files(dir.path(), "a", &valid_for(10));
    let open = Files::open(&certificate, &key).unwrap();
    let first = open.key();
    let (new_certificate, new_key) = files(dir.path(), "b", &valid_for(20));
    fs::rename(&new_certificate, &certificate).unwrap();
    open.refresh();
    assert_eq!(open.key().cert, first.cert, "half of a change is none");
    fs::rename(&new_key, &key).unwrap();
    open.refresh();
    assert_ne!(open.key().cert, first.cert);
    fs::remove_file(&key).unwrap();
    let second = open.key();
    open.refresh();
    assert_eq!(open.key().cert, second.cert);
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
