//! Proving who asks: a signed token of a key pair, or a token that somebody else gave.
//!
//! <https://docs.snowflake.com/en/developer-guide/sql-api/authenticating>

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pkcs8::der::{Decode, Encode, SecretDocument};
use pkcs8::spki::SubjectPublicKeyInfoRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use std::fmt;
use std::sync::Arc;

/// How long a signed token is good for, in seconds. Snowflake takes no more than an hour.
pub const LIFETIME: i64 = 50 * 60;

/// A signed token is renewed when it has so many seconds left.
pub const RENEW: i64 = 5 * 60;

/// Text that is never shown, by `Debug` neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text to itself.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What proves who the user is.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A key whose public half the user has (`ALTER USER … SET RSA_PUBLIC_KEY`).
    KeyPair(PrivateKey),
    /// A token of an OAuth server.
    OAuth(Secret),
    /// A programmatic access token.
    AccessToken(Secret),
}

impl Credentials {
    /// The kind of token, as the API's header names it.
    pub(super) fn token_type(&self) -> &'static str {
        match self {
            Self::KeyPair(_) => "KEYPAIR_JWT",
            Self::OAuth(_) => "OAUTH",
            Self::AccessToken(_) => "PROGRAMMATIC_ACCESS_TOKEN",
        }
    }
}

/// A file that is not a key that can sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It needs a passphrase.
    #[error("the private key is encrypted, and no passphrase was given")]
    NeedsPassphrase,
    /// The passphrase is wrong, or the encryption is one that is not known here.
    #[error(
        "the private key cannot be decrypted: the passphrase is wrong, or its encryption unusual"
    )]
    NotDecrypted,
    /// It is no PKCS#8 key in PEM.
    #[error("this is no private key in PEM (`-----BEGIN PRIVATE KEY-----`)")]
    NotAKey,
    /// It is no RSA key, or too short.
    #[error("the private key is no RSA key of 2048 bits or more")]
    NotRsa,
}

/// An RSA key that signs tokens. What it is made of is never shown.
#[derive(Clone)]
pub struct PrivateKey {
    pair: Arc<RsaKeyPair>,
    fingerprint: String,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.fingerprint)
    }
}

impl PrivateKey {
    /// Reads a key as `openssl pkcs8` writes it: PEM, encrypted or not; or the base64 of its DER,
    /// which dbt takes too.
    ///
    /// # Errors
    /// When it is none, or the passphrase is missing or wrong.
    pub fn read(text: &str, passphrase: Option<&Secret>) -> Result<Self, KeyError> {
        let (encrypted, der) = document(text.trim())?;
        let plain = match (encrypted, passphrase) {
            (false, _) => der,
            (true, None) => return Err(KeyError::NeedsPassphrase),
            (true, Some(phrase)) => {
                let sealed = EncryptedPrivateKeyInfoRef::from_der(der.as_bytes())
                    .map_err(|_| KeyError::NotAKey)?;
                let opened = sealed.decrypt(phrase.reveal());
                opened.map_err(|_| KeyError::NotDecrypted)?
            }
        };
        let pair = RsaKeyPair::from_pkcs8(plain.as_bytes()).map_err(|_| KeyError::NotRsa)?;
        let fingerprint = fingerprint(&pair).ok_or(KeyError::NotRsa)?;
        Ok(Self {
            pair: Arc::new(pair),
            fingerprint,
        })
    }

    /// The public key's fingerprint, as `DESCRIBE USER` shows it: `SHA256:` and base64.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A token that is good from `now`, in seconds since 1970.
    pub(super) fn token(&self, account: &str, user: &str, now: i64) -> Option<String> {
        let subject = format!("{}.{}", account_name(account), user.to_uppercase());
        let claims = serde_json::json!({
            "iss": format!("{subject}.{}", self.fingerprint),
            "sub": subject,
            "iat": now,
            "exp": now + LIFETIME,
        });
        let header = serde_json::json!({"alg": "RS256", "typ": "JWT"});
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let random = SystemRandom::new();
        let bytes = signed.as_bytes();
        self.pair
            .sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
            .ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The key's bytes, and whether they are encrypted.
fn document(text: &str) -> Result<(bool, SecretDocument), KeyError> {
    if text.starts_with("-----") {
        let (label, der) = SecretDocument::from_pem(text).map_err(|_| KeyError::NotAKey)?;
        return match label {
            "PRIVATE KEY" => Ok((false, der)),
            "ENCRYPTED PRIVATE KEY" => Ok((true, der)),
            _ => Err(KeyError::NotAKey),
        };
    }
    let packed: String = text.split_whitespace().collect();
    let bytes = STANDARD.decode(packed).map_err(|_| KeyError::NotAKey)?;
    let der = SecretDocument::try_from(bytes).map_err(|_| KeyError::NotAKey)?;
    let plain = PrivateKeyInfoRef::from_der(der.as_bytes()).is_ok();
    Ok((!plain, der))
}

/// `SHA256:` and the digest of the public key's `SubjectPublicKeyInfo` (RFC 5280).
fn fingerprint(pair: &RsaKeyPair) -> Option<String> {
    let info = SubjectPublicKeyInfoRef {
        algorithm: pkcs8::AlgorithmIdentifierRef {
            // rsaEncryption, RFC 8017.
            oid: pkcs8::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"),
            parameters: Some(pkcs8::der::asn1::AnyRef::NULL),
        },
        subject_public_key: pkcs8::der::asn1::BitStringRef::from_bytes(pair.public_key().as_ref())
            .ok()?,
    };
    let der = info.to_der().ok()?;
    let digest = digest(&SHA256, &der);
    Some(format!("SHA256:{}", STANDARD.encode(digest.as_ref())))
}

/// The account as a token names it: in capitals, and without the region that a locator may have.
/// <https://docs.snowflake.com/en/developer-guide/sql-api/authenticating>
fn account_name(account: &str) -> String {
    let first = account.split('.').next().unwrap_or(account);
    first.to_uppercase()
}
