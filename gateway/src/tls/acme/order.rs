//! One certificate from a certificate authority (RFC 8555), with TLS-ALPN-01 (RFC 8737) or else HTTP-01.

use std::path::PathBuf;
use std::sync::Arc;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::AcmeSettings;
use super::challenges::{Challenges, Shown};
use super::client::Client;
use crate::tls::store::{self, SECRET};
use crate::tls::{TlsError, crypto, provider};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the certificate authority did not accept the proof for {domain}: {reason}")]
    Refused { domain: String, reason: String },
    #[error("the certificate authority offers no challenge of a kind that can be answered")]
    NoChallenge,
}

/// Makes orders with one account, which is made at the first order and kept in a file.
pub(super) struct Orders {
    settings: AcmeSettings,
    account_path: PathBuf,
    client: Client,
    account: Option<Account>,
    challenges: Arc<Challenges>,
}

impl Orders {
    pub(super) fn new(
        settings: AcmeSettings,
        account_path: PathBuf,
        challenges: Arc<Challenges>,
    ) -> Result<Self, TlsError> {
        let client = Client::new(settings.root.as_deref())?;
        Ok(Self { settings, account_path, client, account: None, challenges })
    }

    /// Key and chain for one name, PEM.
    pub(super) async fn certificate(&mut self, domain: &str) -> Result<String, OrderError> {
        // One of them works behind most routers and proxies.
        match self.order(domain, ChallengeType::TlsAlpn01).await {
            Err(error @ (OrderError::Refused { .. } | OrderError::NoChallenge)) => {
                tracing::info!(%error, domain, "no certificate by TLS-ALPN-01, trying HTTP-01");
                self.order(domain, ChallengeType::Http01).await
            }
            done => done,
        }
    }

    async fn order(&mut self, domain: &str, kind: ChallengeType) -> Result<String, OrderError> {
        let names = [Identifier::Dns(domain.to_owned())];
        let account = self.account().await?;
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let shown = self.prove(&mut order, domain, kind).await?;
        let refused = match order.poll_ready(&RetryPolicy::default()).await {
            Ok(OrderStatus::Ready) => None,
            Ok(_) => Some(reason(&mut order).await),
            Err(error @ (instant_acme::Error::Api(_) | instant_acme::Error::Timeout(_))) => {
                Some(error.to_string())
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = refused {
            return Err(OrderError::Refused { domain: domain.to_owned(), reason });
        }
        drop(shown);
        let key = KeyPair::generate().map_err(|error| crypto(&error))?;
        let mut params = CertificateParams::new([domain.to_owned()]).map_err(|error| crypto(&error))?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(|error| crypto(&error))?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&RetryPolicy::default()).await?;
        Ok(key.serialize_pem() + &chain)
    }

    /// Shows the answers to all challenges of an order and says so.
    async fn prove(
        &self,
        order: &mut Order,
        domain: &str,
        kind: ChallengeType,
    ) -> Result<Vec<Shown>, OrderError> {
        let mut shown = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                status => {
                    let reason = format!("its authorization is {status:?}");
                    return Err(OrderError::Refused { domain: domain.to_owned(), reason });
                }
            }
            let mut challenge = authorization.challenge(kind.clone()).ok_or(OrderError::NoChallenge)?;
            shown.push(self.show(&challenge, domain)?);
            challenge.set_ready().await?;
        }
        Ok(shown)
    }

    fn show(&self, challenge: &ChallengeHandle<'_>, domain: &str) -> Result<Shown, TlsError> {
        let answer = challenge.key_authorization();
        if challenge.r#type == ChallengeType::Http01 {
            return Ok(self.challenges.show_http(&challenge.token, answer.as_str()));
        }
        let key = KeyPair::generate().map_err(|error| crypto(&error))?;
        let mut params = CertificateParams::new([domain.to_owned()]).map_err(|error| crypto(&error))?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(answer.digest().as_ref())];
        let certificate = params.self_signed(&key).map_err(|error| crypto(&error))?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = provider().key_provider.load_private_key(private).map_err(|error| crypto(&error))?;
        // Not `from_der`, which refuses the critical extension that is the whole point of this certificate.
        let certificate = CertifiedKey::new(vec![certificate.into()], key);
        Ok(self.challenges.show_tls(domain, certificate))
    }

    async fn account(&mut self) -> Result<Account, OrderError> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let account = match self.credentials()? {
            Some(credentials) => self.builder().from_credentials(credentials).await?,
            None => self.sign_up().await?,
        };
        Ok(self.account.insert(account).clone())
    }

    fn credentials(&self) -> Result<Option<AccountCredentials>, TlsError> {
        if !self.account_path.exists() {
            return Ok(None);
        }
        let malformed = |error: serde_json::Error| TlsError::Content {
            path: self.account_path.clone(),
            reason: error.to_string(),
        };
        serde_json::from_slice(&store::read(&self.account_path)?).map(Some).map_err(malformed)
    }

    async fn sign_up(&self) -> Result<Account, OrderError> {
        let contact = self.settings.contact.as_ref().map(|address| format!("mailto:{address}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let created = self.builder().create(&new, self.settings.directory.clone(), None).await;
        let (account, credentials) = created?;
        let text = serde_json::to_vec_pretty(&credentials).map_err(|error| crypto(&error))?;
        store::replace(&self.account_path, &text, SECRET)?;
        Ok(account)
    }

    fn builder(&self) -> instant_acme::AccountBuilder {
        Account::builder_with_http(Box::new(self.client.clone()))
    }
}

/// What the authority says about an order that it refused.
async fn reason(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { break };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return problem.to_string();
        }
    }
    "it gave no reason".to_owned()
}
