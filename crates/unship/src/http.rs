//! What went wrong with a request over HTTP, in words that hold no address: it may be a secret.

use std::time::Duration;

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
