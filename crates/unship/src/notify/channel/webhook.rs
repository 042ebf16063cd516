//! Any HTTP endpoint, signed as the Standard Webhooks specification 1.0.0 says
//! (<https://www.standardwebhooks.com>): HMAC-SHA256 over `id.timestamp.body`.

use super::{SendError, http};
use crate::pipeline::dbt::connection::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use unship_core::notice::Notice;

pub fn send(url: &str, secret: &Secret, notice: &Notice) -> Result<(), SendError> {
    let body = body(notice).to_string();
    let headers = headers(secret, &notice.key, Timestamp::now(), &body)?;
    http::post(url, &headers, body.as_bytes())
}

/// The document that is posted, and that a command reads.
pub fn body(notice: &Notice) -> Value {
    let mut value = serde_json::to_value(notice).unwrap_or_else(|_| json!({}));
    value["schema"] = "unship.notice/1".into();
    value
}

fn headers(
    secret: &Secret,
    key: &str,
    now: Timestamp,
    body: &str,
) -> Result<[(&'static str, String); 3], SendError> {
    let seconds = now.as_second();
    // A header holds no blank or control character, and the parts of what is signed no full stop.
    let id = blake3::hash(key.as_bytes()).to_hex().to_string();
    let signature = signature(secret, &id, seconds, body)?;
    Ok([
        ("webhook-id", id),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ])
}

fn signature(secret: &Secret, id: &str, seconds: i64, body: &str) -> Result<String, SendError> {
    let bytes = match secret.reveal().strip_prefix("whsec_") {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| SendError::never("the secret after `whsec_` is not base64"))?,
        None => secret.reveal().as_bytes().to_vec(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&bytes)
        .map_err(|_| SendError::never("the secret is no key"))?;
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    Ok(format!(
        "v1,{}",
        STANDARD.encode(mac.finalize().into_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signature as Python's `hmac` makes it by the specification's sentence.
    #[test]
    fn the_signature_is_what_another_implementation_makes_of_it() {
        let plain = Secret::new("a key of ours");
        let encoded = Secret::new(format!("whsec_{}", STANDARD.encode("a key of ours")));
        let sign = |secret: &Secret, body: &str| signature(secret, "m", 1_614_265_330, body);
        let signed = sign(&plain, "{}").unwrap();
        assert_eq!(signed, "v1,ZcbBf1f/SkkaO5Oq7VTbZvMEouOVy29SewzcnNBPne0=");
        assert_eq!(
            sign(&encoded, "{}").unwrap(),
            signed,
            "one key, written in two ways"
        );
        assert_ne!(sign(&plain, "{ }").unwrap(), signed);
    }
}
