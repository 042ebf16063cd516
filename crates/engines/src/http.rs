//! Whoever asks over HTTP: one way for all of unship, with the system's authorities.

use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);

/// How many connections that nobody uses are kept: as many as anybody here has at once. Fewer would
/// be made anew again and again.
const IDLE: usize = 32;

/// An agent for an address, which keeps its connections. A request may take `patience` in all. No
/// redirect is followed: what is told to one, a login among it, is not told to whom he points at. A
/// status is an answer and no error.
pub fn agent(url: &str, patience: Duration) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .timeout_connect(Some(patience.min(CONNECT)))
        .max_idle_connections(IDLE)
        .max_idle_connections_per_host(IDLE)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("unship/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https:") {
        config = config.tls_config(tls());
    }
    config.build().new_agent()
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
