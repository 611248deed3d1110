//! Signatures of requests, as Standard Webhooks has them: `v1,<base64 of HMAC-SHA256 of "<id>.<timestamp>.<body>">`.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use jiff::Timestamp;

/// Names a request; the same for a repeated one.
pub const ID_HEADER: &str = "webhook-id";
/// When it was signed, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// One signature or several, parted by spaces: keys are changed by signing with both for a while.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// A request that is older cannot be told from one that someone recorded. Clocks differ by less.
const TOLERANCE_SECONDS: i64 = 5 * 60;

/// A change of keys needs two.
const SIGNATURES: usize = 10;

/// Why a request is not believed. Says nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the signing key is empty, or `whsec_` is not followed by base64")]
    Key,
    #[error("the header {0} is missing or empty")]
    Missing(&'static str),
    #[error("the header webhook-timestamp is not a number of seconds since 1970")]
    Timestamp,
    #[error("the header webhook-timestamp is more than five minutes from now: check the sender's clock")]
    TooFar,
    #[error(
        "no signature in webhook-signature fits: check the key, and that `<webhook-id>.<webhook-timestamp>.<body>` is signed, byte for byte, as `v1,<base64>`"
    )]
    Wrong,
}

/// A key that signs.
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// `whsec_<base64>`, or any other text, which is taken as it is.
    ///
    /// # Errors
    /// [`SignatureError::Key`].
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        // A file that a secret was made from ends in a line break.
        let text = text.trim_ascii();
        let bytes = match text.strip_prefix("whsec_") {
            Some(encoded) => {
                BASE64_STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).map_err(|_| SignatureError::Key)?
            }
            None => text.as_bytes().to_vec(),
        };
        if bytes.is_empty() {
            return Err(SignatureError::Key);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of [`SIGNATURE_HEADER`] for a body. `timestamp` is in seconds since 1970.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }

    /// Checks the values of the three headers of a request that was received at `now`.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        for (value, name) in [(id, ID_HEADER), (timestamp, TIMESTAMP_HEADER), (signatures, SIGNATURE_HEADER)] {
            if value.is_empty() {
                return Err(SignatureError::Missing(name));
            }
        }
        let seconds: i64 = timestamp.parse().map_err(|_| SignatureError::Timestamp)?;
        if now.as_second().saturating_sub(seconds).saturating_abs() > TOLERANCE_SECONDS {
            return Err(SignatureError::TooFar);
        }
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let fits = |signature: &str| {
            let tag = signature.strip_prefix("v1,").and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
            // Takes the same time wherever they differ.
            tag.is_some_and(|tag| hmac::verify(&self.0, &signed, &tag).is_ok())
        };
        if signatures.split(' ').take(SIGNATURES).any(fits) { Ok(()) } else { Err(SignatureError::Wrong) }
    }
}

/// Signs a request with a key as text: the value of [`SIGNATURE_HEADER`].
///
/// # Errors
/// [`SignatureError::Key`].
pub fn sign(key: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<String, SignatureError> {
    Ok(SigningKey::parse(key)?.sign(id, timestamp, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification and its libraries.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SECONDS: i64 = 1_614_265_330;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn verify(signatures: &str, now: i64) -> Result<(), SignatureError> {
        SigningKey::parse(KEY).unwrap().verify(ID, &SECONDS.to_string(), signatures, BODY, at(now))
    }

    #[test]
    fn the_example_of_the_specification_is_signed_and_believed() {
        assert_eq!(sign(KEY, ID, SECONDS, BODY).unwrap(), SIGNATURE);
        assert_eq!(verify(SIGNATURE, SECONDS), Ok(()));
    }

    #[test]
    fn one_signature_of_several_is_enough() {
        assert_eq!(verify(&format!("v1,AAAA v1a,x {SIGNATURE} v2,y"), SECONDS), Ok(()));
        assert_eq!(verify("v1,AAAA v1a,x", SECONDS), Err(SignatureError::Wrong));
        assert_eq!(verify(SIGNATURE.strip_prefix("v1,").unwrap(), SECONDS), Err(SignatureError::Wrong));
    }

    #[test]
    fn a_request_is_believed_for_five_minutes_each_way() {
        for (seconds, expected) in [
            (-300, Ok(())),
            (300, Ok(())),
            (-301, Err(SignatureError::TooFar)),
            (301, Err(SignatureError::TooFar)),
            (86_400, Err(SignatureError::TooFar)),
        ] {
            assert_eq!(verify(SIGNATURE, SECONDS + seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn whatever_is_changed_breaks_the_signature() {
        let key = SigningKey::parse(KEY).unwrap();
        let check = |id: &str, timestamp: &str, body: &[u8]| key.verify(id, timestamp, SIGNATURE, body, at(SECONDS));
        let seconds = SECONDS.to_string();
        assert_eq!(check("msg_other", &seconds, BODY), Err(SignatureError::Wrong));
        assert_eq!(check(ID, &(SECONDS + 1).to_string(), BODY), Err(SignatureError::Wrong));
        assert_eq!(check(ID, &format!("+{seconds}"), BODY), Err(SignatureError::Wrong));
        assert_eq!(check(ID, &seconds, b"{\"test\": 2432232315}"), Err(SignatureError::Wrong));
        assert_eq!(check(ID, "soon", BODY), Err(SignatureError::Timestamp));
        assert_eq!(check("", &seconds, BODY), Err(SignatureError::Missing(ID_HEADER)));
        assert_eq!(check(ID, &i64::MIN.to_string(), BODY), Err(SignatureError::TooFar));
        let other = SigningKey::parse("whsec_AAAA").unwrap();
        assert_eq!(other.verify(ID, &seconds, SIGNATURE, BODY, at(SECONDS)), Err(SignatureError::Wrong));
    }

    #[test]
    fn a_key_is_base64_after_its_prefix_and_else_a_text() {
        let of_text = sign("a plain key\n", ID, SECONDS, BODY).unwrap();
        assert_eq!(
            of_text,
            sign(&format!("whsec_{}", BASE64_STANDARD.encode("a plain key")), ID, SECONDS, BODY).unwrap()
        );
        for broken in ["", "whsec_", "whsec_%", " \n"] {
            assert_eq!(sign(broken, ID, SECONDS, BODY), Err(SignatureError::Key), "{broken}");
        }
    }
}
