//! Whose token it is: tokens of pods, checked against the keys that the API server publishes for them. Every ServiceAccount
//! may read these, so that the operator needs no right to ask about tokens.

use std::collections::HashMap;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use pintail_protocol::AGENT_AUDIENCE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::Teller;
use crate::process::causes;

const ISSUER_PATH: &str = "/.well-known/openid-configuration";
const KEYS_PATH: &str = "/openid/v1/jwks";
/// Whoever makes up keys has the API server asked no more often than this.
const FETCH_EVERY: Duration = Duration::from_secs(10);
/// A key that the cluster withdraws is trusted for as long.
const KEYS_STAY: Duration = Duration::from_secs(3600);

/// Why a token names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// It is not known whether it is.
    #[error("the keys of tokens cannot be read: {0}")]
    Unknown(String),
}

/// Checks tokens.
pub struct Tokens {
    client: kube::Client,
    fetched: Mutex<Fetched>,
}

#[derive(Default)]
struct Fetched {
    keys: Keys,
    /// When they were asked for last.
    at: Option<Instant>,
    /// Why they are not known, or those of before are used.
    failure: Option<String>,
}

/// What is known of those who sign.
#[derive(Default)]
struct Keys {
    issuer: String,
    by_id: HashMap<String, DecodingKey>,
}

#[derive(Deserialize)]
struct Issuer {
    issuer: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

/// What the token is bound to.
#[derive(Deserialize)]
struct Bound {
    namespace: String,
    pod: Option<BoundPod>,
}

#[derive(Deserialize)]
struct BoundPod {
    name: String,
    uid: String,
}

impl Tokens {
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client, fetched: Mutex::default() }
    }

    /// The pod that the token was made for, with the audience `pintail`.
    ///
    /// # Errors
    /// Where the token is none, or the keys cannot be read.
    pub async fn verify(&self, token: &str) -> Result<Teller, TokenError> {
        let mut fetched = self.fetched.lock().await;
        let is_known = key_id(token)?.is_some_and(|key| fetched.keys.by_id.contains_key(&key));
        let stay = if is_known { KEYS_STAY } else { FETCH_EVERY };
        if fetched.at.is_none_or(|at| at.elapsed() >= stay) {
            fetched.at = Some(Instant::now());
            match self.fetch().await {
                Ok(keys) => (fetched.keys, fetched.failure) = (keys, None),
                Err(error) => {
                    tracing::warn!("the keys of tokens cannot be read: {error}");
                    fetched.failure = Some(error);
                }
            }
        }
        match (&fetched.failure, is_known) {
            (Some(error), false) => Err(TokenError::Unknown(error.clone())),
            _ => teller(token, &fetched.keys),
        }
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let Issuer { issuer } = self.read(ISSUER_PATH).await?;
        let keys: JwkSet = self.read(KEYS_PATH).await?;
        Ok(Keys { issuer, by_id: by_id(&keys) })
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        self.client.request(request).await.map_err(|error| format!("{path}: {}", causes(&error)))
    }
}

/// Keys that can be used, by their ids. A shared secret is no key of an API server.
fn by_id(keys: &JwkSet) -> HashMap<String, DecodingKey> {
    let usable = keys.keys.iter().filter_map(|key| {
        let decoding = DecodingKey::from_jwk(key).ok().filter(|key| key.family() != AlgorithmFamily::Hmac)?;
        Some((key.common.key_id.clone()?, decoding))
    });
    usable.collect()
}

fn key_id(token: &str) -> Result<Option<String>, TokenError> {
    decode_header(token).map(|header| header.kid).map_err(|error| TokenError::Invalid(error.to_string()))
}

fn teller(token: &str, keys: &Keys) -> Result<Teller, TokenError> {
    let invalid = |why: &str| TokenError::Invalid(why.to_owned());
    let id = key_id(token)?.ok_or_else(|| invalid("it does not say which key signed it"))?;
    let key = keys.by_id.get(&id).ok_or_else(|| invalid("the cluster does not know the key that signed it"))?;
    let mut validation = Validation::new_for_family(key.family());
    validation.set_audience(&[AGENT_AUDIENCE]);
    validation.set_issuer(&[&keys.issuer]);
    validation.set_required_spec_claims(&["exp", "aud", "iss"]);
    validation.validate_nbf = true;
    let claims = decode::<Claims>(token, key, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidAudience => invalid(&format!("it is not for the audience {AGENT_AUDIENCE}")),
        ErrorKind::InvalidIssuer => invalid(&format!("its issuer is not {}", keys.issuer)),
        _ => TokenError::Invalid(error.to_string()),
    })?;
    let bound = claims.claims.kubernetes.ok_or_else(|| invalid("it is bound to nothing"))?;
    let pod = bound.pod.ok_or_else(|| invalid("it is bound to no pod"))?;
    Ok(Teller { namespace: bound.namespace, pod: pod.name, pod_uid: pod.uid })
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

    /// Someone who signs tokens, as the API server does.
    pub struct Signer {
        id: String,
        key: EncodingKey,
        keys: JwkSet,
    }

    impl Signer {
        pub fn new(id: &str) -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let key = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
            let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
            public.common.key_id = Some(id.to_owned());
            Self { id: id.to_owned(), key, keys: JwkSet { keys: vec![public] } }
        }

        pub fn token(&self, change: impl FnOnce(&mut Value)) -> String {
            let now = get_current_timestamp();
            let mut claims = json!({
                "aud": [AGENT_AUDIENCE], "exp": now + 3600, "iat": now, "nbf": now, "iss": ISSUER,
                "kubernetes.io": {
                    "namespace": "data", "pod": { "name": "pintail-agent-x", "uid": "u1" },
                    "serviceaccount": { "name": "pintail-runner", "uid": "s1" },
                },
                "sub": "system:serviceaccount:data:pintail-runner",
            });
            change(&mut claims);
            let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
            encode(&header, &claims, &self.key).unwrap()
        }

        fn known(&self) -> Keys {
            Keys { issuer: ISSUER.to_owned(), by_id: by_id(&self.keys) }
        }

        /// A client of an API server that publishes these keys, and how often they were asked for.
        pub fn client(signers: Vec<Self>) -> (kube::Client, Arc<AtomicUsize>) {
            let keys = JwkSet { keys: signers.into_iter().flat_map(|signer| signer.keys.keys).collect() };
            let asked = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&asked);
            let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
                let body = match request.uri().path() {
                    ISSUER_PATH => json!({ "issuer": ISSUER, "jwks_uri": "https://elsewhere/openid/v1/jwks" }),
                    KEYS_PATH => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        json!(keys)
                    }
                    path => panic!("{path} is asked for"),
                };
                let body = kube::client::Body::from(body.to_string().into_bytes());
                async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
            });
            (kube::Client::new(service, "default"), asked)
        }
    }

    fn why(token: &str, keys: &Keys) -> String {
        teller(token, keys).unwrap_err().to_string()
    }

    #[test]
    fn a_token_names_the_pod_that_it_was_made_for() {
        let signer = Signer::new("k1");
        let found = teller(&signer.token(|_| {}), &signer.known()).unwrap();
        assert_eq!(
            (found.namespace.as_str(), found.pod.as_str(), found.pod_uid.as_str()),
            ("data", "pintail-agent-x", "u1")
        );
    }

    #[test]
    fn a_token_for_others_or_of_others_names_nobody() {
        let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
        let keys = signer.known();
        let now = get_current_timestamp();
        for (token, expected) in [
            (
                signer.token(|claims| claims["aud"] = json!(["https://kubernetes.default.svc"])),
                "not for the audience pintail",
            ),
            (signer.token(|claims| claims["iss"] = json!("https://elsewhere")), "its issuer is not"),
            (signer.token(|claims| claims["exp"] = json!(now - 120)), "ExpiredSignature"),
            (signer.token(|claims| claims["nbf"] = json!(now + 120)), "ImmatureSignature"),
            (signer.token(|claims| drop(claims.as_object_mut().unwrap().remove("aud"))), "aud"),
            (signer.token(|claims| drop(claims.as_object_mut().unwrap().remove("exp"))), "exp"),
            (
                signer.token(|claims| drop(claims["kubernetes.io"].as_object_mut().unwrap().remove("pod"))),
                "bound to no pod",
            ),
            (other.token(|_| {}), "InvalidSignature"),
            (Signer::new("k2").token(|_| {}), "does not know the key"),
            (String::new(), "not valid"),
            ("a.b.c".to_owned(), "not valid"),
        ] {
            assert!(why(&token, &keys).contains(expected), "{expected}: {}", why(&token, &keys));
        }
    }

    #[test]
    fn a_token_that_is_signed_with_a_published_key_as_a_secret_is_refused() {
        let signer = Signer::new("k1");
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
        let secret = EncodingKey::from_secret(serde_json::to_string(&signer.keys).unwrap().as_bytes()).unwrap();
        let token = encode(&header, &json!({ "aud": "pintail" }), &secret).unwrap();
        assert!(why(&token, &signer.known()).contains("InvalidAlgorithm"));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_fetched_once_and_again_for_new_ones_but_not_often() {
        let (old, stranger) = (Signer::new("old"), Signer::new("made-up"));
        let (good, bad) = (old.token(|_| {}), stranger.token(|_| {}));
        let (client, asked) = Signer::client(vec![old]);
        let tokens = Tokens::new(client);
        for _ in 0..3 {
            tokens.verify(&good).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for _ in 0..3 {
            tokens.verify(&bad).await.unwrap_err();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(FETCH_EVERY).await;
        for _ in 0..3 {
            tokens.verify(&bad).await.unwrap_err();
            tokens.verify(&good).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
