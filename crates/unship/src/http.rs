//! One request over HTTP, with the system's authorities, and what went wrong in words that hold no
//! address: it may be a secret.

use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Whoever asks this address. No redirect is followed: what is told to one is not told to whom he
/// points at. A status is an answer and no error.
pub fn agent(url: &str, patience: Duration) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("unship/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https:") {
        config = config.tls_config(tls());
    }
    config.build().new_agent()
}

/// What went wrong.
pub fn words(error: &ureq::Error, patience: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {patience:?}"),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the address is not one".to_owned(),
        ureq::Error::HostNotFound => "the host is not known".to_owned(),
        ureq::Error::Io(e) => format!("the connection failed: {e}"),
        ureq::Error::ConnectionFailed => "the connection failed".to_owned(),
        ureq::Error::Rustls(e) => format!("TLS failed: {e}"),
        // The rest may repeat the address.
        _ => "the answer was not HTTP".to_owned(),
    }
}

fn tls() -> TlsConfig {
    // Whatever cannot be read of the system's authorities is one that is not trusted.
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots
        .iter()
        .map(|cert| Certificate::from_der(cert.as_ref()).to_owned())
        .collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}
