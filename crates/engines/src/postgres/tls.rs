//! TLS as libpq's `sslmode` means it.

use super::address::{Address, AddressError};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How closely the server's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Not at all: the line is encrypted, to whomever.
    Anybody,
    /// A trusted authority signed it.
    Authority,
    /// And it is this host's.
    Host,
}

/// The TLS settings of an address. `require` looks at the certificate only where there is a root
/// certificate to look with, as with libpq.
pub fn connector(address: &Address) -> Result<MakeRustlsConnect, AddressError> {
    let roots = address.get("sslrootcert");
    let trust = match address.get("sslmode").unwrap_or("prefer") {
        "verify-full" => Trust::Host,
        "verify-ca" => Trust::Authority,
        "require" if roots == Some("system") => Trust::Host,
        "require" if roots.is_some() => Trust::Authority,
        _ => Trust::Anybody,
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier {
        trust,
        inner: match trust {
            Trust::Anybody => None,
            Trust::Authority | Trust::Host => Some(trusted(roots, &provider)?),
        },
        provider: Arc::clone(&provider),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| file_error("the TLS library", &e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (address.get("sslcert"), address.get("sslkey")) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| file_error(key, &e))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|e| file_error(cert, &e))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn trusted(
    roots: Option<&str>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, AddressError> {
    let path = roots.unwrap_or("~/.postgresql/root.crt");
    let mut store = RootCertStore::empty();
    let certs = match roots {
        Some("system") => rustls_native_certs::load_native_certs().certs,
        _ => certificates(path)?,
    };
    store.add_parsable_certificates(certs);
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|e| file_error(path, &e))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, AddressError> {
    CertificateDer::pem_file_iter(Path::new(path))
        .and_then(Iterator::collect)
        .map_err(|e| file_error(path, &e))
}

fn file_error(path: &str, error: &dyn std::error::Error) -> AddressError {
    AddressError::File {
        path: path.into(),
        reason: error.to_string(),
    }
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        let seen =
            inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match seen {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.trust == Trust::Authority => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
