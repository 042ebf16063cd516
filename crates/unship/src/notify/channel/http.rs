//! One POST of JSON.

use super::{PATIENCE, SendError};
use std::sync::Arc;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Posts a body. The address may be a secret: nothing that is returned has it.
pub fn post(url: &str, headers: &[(&str, String)], body: &[u8]) -> Result<(), SendError> {
    if let Some(wrong) = super::super::config::insecure(url) {
        return Err(SendError::never(wrong));
    }
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // What is told to one is not told to whom he points at.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("unship/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https:") {
        config = config.tls_config(tls());
    }
    let mut request = config
        .build()
        .new_agent()
        .post(url)
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    match request.send(body) {
        Ok(response) => judged(response.status().as_u16()),
        Err(ureq::Error::Timeout(_)) => Err(SendError::later(format!(
            "no answer within {} seconds",
            PATIENCE.as_secs()
        ))),
        Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => {
            Err(SendError::never("the address is not one"))
        }
        Err(ureq::Error::HostNotFound) => Err(SendError::soon("the host is not known")),
        Err(ureq::Error::Io(e)) => Err(SendError::soon(format!("the connection failed: {e}"))),
        Err(ureq::Error::ConnectionFailed) => Err(SendError::soon("the connection failed")),
        Err(ureq::Error::Rustls(e)) => Err(SendError::soon(format!("TLS failed: {e}"))),
        // The rest may repeat the address.
        Err(_) => Err(SendError::soon("the answer was not HTTP")),
    }
}

/// What a status means for trying again.
fn judged(status: u16) -> Result<(), SendError> {
    match status {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500..=599 => Err(SendError::soon(format!("HTTP status {status}"))),
        _ => Err(SendError::never(format!(
            "refused with HTTP status {status}"
        ))),
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
