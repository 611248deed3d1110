//! The certificate of the webhook: of files that cert-manager keeps, or made here, kept in one Secret and renewed.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::process::causes;
use crate::settings::AdmissionSettings;

/// The Secret that the chart makes without content. The operator may read and write this one and no other.
const SECRET: &str = "pintail-admission";
/// How long a certificate of ours is valid, and when another is made: months are left to notice that none can be.
const VALID_DAYS: i64 = 365;
const RENEW_AFTER_DAYS: i64 = 240;
/// How often files or Secret are read: what another replica renewed is served, and the files of cert-manager change too.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_secs(5);

const AUTHORITY: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const RENEW_AFTER: &str = "renew-after";

/// What the webhook is served with at this moment.
#[derive(Debug, Default)]
pub struct Certificate(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Certificate {
    fn set(&self, certificate: &[u8], key: &[u8]) -> Result<(), String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key cannot be read: {error}"))?;
        let whole = CertifiedKey::from_der(chain, key, &default_provider());
        let whole = whole.map_err(|error| format!("certificate and key do not fit: {error}"))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(whole));
        Ok(())
    }
}

/// Keeps the certificate the one that the API server trusts, until the end of the process.
pub async fn watch_certificate(
    client: Client,
    namespace: String,
    settings: AdmissionSettings,
    served: Arc<Certificate>,
) {
    let mut trouble = String::new();
    loop {
        let result = match &settings.certificate_folder {
            Some(folder) => of_files(folder, &served).await,
            None => of_secret(&client, &namespace, &settings, &served).await,
        };
        let wait = match result {
            Ok(()) => LOOK_AGAIN,
            Err(why) => {
                if why != trouble {
                    tracing::warn!("objects are not reviewed as they are applied: {why}");
                }
                trouble = why;
                RETRY_AFTER
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn of_files(folder: &Path, served: &Certificate) -> Result<(), String> {
    let read = async |name: &str| {
        let path = folder.join(name);
        tokio::fs::read(&path).await.map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    served.set(&read(CERTIFICATE).await?, &read(KEY).await?)
}

async fn of_secret(
    client: &Client,
    namespace: &str,
    settings: &AdmissionSettings,
    served: &Certificate,
) -> Result<(), String> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let failed = |what: &str, error: &kube::Error| format!("cannot {what}: {}", causes(error));
    let mut secret = secrets.get(SECRET).await.map_err(|error| failed("read Secret pintail-admission", &error))?;
    let host = format!("{}.{namespace}.svc", settings.service);
    let now = Timestamp::now();
    if is_due(&secret, now) {
        secret.data = Some(renewed(&secret, &host, now)?);
        // Of two replicas one is refused, and finds that of the other.
        let written = secrets.replace(SECRET, &PostParams::default(), &secret).await;
        secret = written.map_err(|error| failed("write Secret pintail-admission", &error))?;
        tracing::info!("the certificate of the webhook is renewed");
    }
    let part = |name: &str| secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice());
    let (authority, certificate, key) = (part(AUTHORITY), part(CERTIFICATE), part(KEY));
    served.set(certificate.unwrap_or_default(), key.unwrap_or_default())?;
    trust(client, &settings.configuration, authority.unwrap_or_default())
        .await
        .map_err(|error| failed("tell the API server whom to trust", &error))
}

/// Puts the authority into the webhook configuration, where it is not there.
async fn trust(client: &Client, configuration: &str, authority: &[u8]) -> Result<(), kube::Error> {
    let configurations = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    // Whoever deletes it does not want objects reviewed.
    let Some(found) = configurations.get_opt(configuration).await? else { return Ok(()) };
    let bundle = ByteString(authority.to_vec());
    let webhooks = found.webhooks.unwrap_or_default();
    let other = webhooks.iter().filter(|webhook| webhook.client_config.ca_bundle.as_ref() != Some(&bundle));
    // A list that is merged by name: nothing else of the webhooks is touched.
    let patches: Vec<_> =
        other.map(|webhook| json!({ "name": webhook.name, "clientConfig": { "caBundle": bundle } })).collect();
    if patches.is_empty() {
        return Ok(());
    }
    let patch = Patch::Strategic(json!({ "webhooks": patches }));
    configurations.patch(configuration, &PatchParams::default(), &patch).await.map(drop)
}

type Data = std::collections::BTreeMap<String, ByteString>;

/// Whether there is no certificate yet, or it has been there for long.
fn is_due(secret: &Secret, now: Timestamp) -> bool {
    let text = |name: &str| std::str::from_utf8(&secret.data.as_ref()?.get(name)?.0).ok();
    let is_whole = [AUTHORITY, CERTIFICATE, KEY].into_iter().all(|name| text(name).is_some());
    let renew_after = text(RENEW_AFTER).and_then(|text| text.parse::<Timestamp>().ok());
    !is_whole || renew_after.is_none_or(|renew_after| renew_after <= now)
}

/// Another certificate, by an authority of its own whose key is thrown away. The authority before is trusted for as long as
/// another replica may serve what it signed.
fn renewed(secret: &Secret, host: &str, now: Timestamp) -> Result<Data, String> {
    let made = make(host, now).map_err(|error| format!("cannot make a certificate: {error}"))?;
    let before = secret.data.as_ref().and_then(|data| data.get(AUTHORITY));
    let before = before.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default();
    let newest_before = before.find(END).map_or("", |end| &before[..end + END.len()]);
    let renew_after = now + SignedDuration::from_hours(24 * RENEW_AFTER_DAYS);
    let parts = [
        (AUTHORITY, format!("{}{newest_before}\n", made.authority)),
        (CERTIFICATE, made.certificate),
        (KEY, made.key),
        (RENEW_AFTER, renew_after.to_string()),
    ];
    Ok(parts.into_iter().map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).collect())
}

const END: &str = "-----END CERTIFICATE-----";

struct Made {
    authority: String,
    certificate: String,
    key: String,
}

fn make(host: &str, now: Timestamp) -> Result<Made, rcgen::Error> {
    let day = |days: i64| {
        let date = (now + SignedDuration::from_hours(24 * days)).to_zoned(jiff::tz::TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    let named = |names: Vec<String>, name: &str| {
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        // Clocks differ.
        (parameters.not_before, parameters.not_after) = (day(-1), day(VALID_DAYS));
        Ok::<_, rcgen::Error>(parameters)
    };
    let mut authority = named(Vec::new(), &format!("pintail-admission {now}"))?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let certificate = named(vec![host.to_owned()], host)?.signed_by(&key, &issuer)?;
    Ok(Made { authority: authority_certificate.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_certificate_is_made_once_and_again_when_its_time_comes() {
        let empty = Secret::default();
        assert!(is_due(&empty, now()));
        let first = Secret { data: Some(renewed(&empty, "pintail-admission.x.svc", now()).unwrap()), ..empty };
        let after = |days: i64| now() + SignedDuration::from_hours(24 * days);
        assert!(!is_due(&first, after(RENEW_AFTER_DAYS - 1)));
        assert!(is_due(&first, after(RENEW_AFTER_DAYS)));
        // Both authorities are trusted, the newer first, and no third.
        let authorities = |secret: &Secret| -> Vec<String> {
            let text = String::from_utf8(secret.data.as_ref().unwrap()[AUTHORITY].0.clone()).unwrap();
            text.split_inclusive(END).map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        };
        let renew = |secret: &Secret, days| Secret {
            data: Some(renewed(secret, "pintail-admission.x.svc", after(days)).unwrap()),
            ..Secret::default()
        };
        let second = renew(&first, 240);
        let third = renew(&second, 480);
        assert_eq!(authorities(&second)[1..], authorities(&first)[..]);
        assert_eq!(authorities(&third)[1], authorities(&second)[0]);
        assert_eq!(authorities(&third).len(), 2);
    }

    #[test]
    fn what_is_made_can_be_served_and_a_key_of_another_is_refused() {
        let (one, other) = (make("a.b.svc", now()).unwrap(), make("a.b.svc", now()).unwrap());
        let served = Certificate::default();
        assert_eq!(served.set(one.certificate.as_bytes(), one.key.as_bytes()), Ok(()));
        assert!(served.set(one.certificate.as_bytes(), other.key.as_bytes()).is_err());
        assert!(served.set(b"", b"").is_err());
    }
}
