//! One POST of JSON.

use super::{Again, PATIENCE, SendError};
use crate::http;

/// Posts a body. The address may be a secret: nothing that is returned has it.
pub fn post(url: &str, headers: &[(&str, String)], body: &[u8]) -> Result<(), SendError> {
    if let Some(wrong) = super::super::config::insecure(url) {
        return Err(SendError::never(wrong));
    }
    let mut request = unship_engines::http::agent(url, PATIENCE)
        .post(url)
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    match request.send(body) {
        Ok(response) => judged(response.status().as_u16()),
        Err(error) => Err(SendError {
            text: http::words(&error, PATIENCE),
            again: match error {
                ureq::Error::Timeout(_) => Again::Later,
                ureq::Error::BadUri(_) | ureq::Error::Http(_) => Again::Never,
                _ => Again::Soon,
            },
        }),
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
