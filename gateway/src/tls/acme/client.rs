//! The HTTPS client that speaks to a certificate authority: one connection for each request, which are few.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::{TlsError, crypto, provider};

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer, in bytes; a certificate chain has some thousand.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A client that trusts what this computer trusts, or one authority.
#[derive(Clone)]
pub(super) struct Client(TlsConnector);

impl Client {
    /// `root`: a PEM file with the only authority to trust.
    pub(super) fn new(root: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        match root {
            Some(path) => {
                let malformed = |error: &dyn std::fmt::Display| TlsError::Content {
                    path: path.to_owned(),
                    reason: error.to_string(),
                };
                let root = CertificateDer::from_pem_file(path).map_err(|error| malformed(&error))?;
                roots.add(root).map_err(|error| malformed(&error))?;
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| crypto(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    async fn send(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Failure> {
        let uri = std::mem::take(request.uri_mut());
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(format!("not an https:// URL: {uri}").into());
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
        let stream = self.0.connect(ServerName::try_from(host)?, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        request.headers_mut().insert(header::HOST, authority.parse()?);
        *request.uri_mut() = uri.path_and_query().map_or(Uri::from_static("/"), |path| path.clone().into());
        let exchange = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
            Ok(BytesResponse { parts, body: Box::new(body) })
        };
        tokio::select! {
            answer = exchange => answer,
            ended = connection => Err(ended.err().map_or("the connection was closed".into(), Failure::from)),
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(TIMEOUT, client.send(request)).await {
                Ok(answer) => answer.map_err(Error::Other),
                Err(_) => Err(Error::Other(format!("no answer within {TIMEOUT:?}").into())),
            }
        })
    }
}
