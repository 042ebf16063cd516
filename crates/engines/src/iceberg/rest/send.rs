//! One request and its answer, and when it is sent again.

use super::error::RestError;
use std::thread::sleep;
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;

/// How long one request may take. A catalog that commits a thousand tables writes as many files.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a request is sent at most.
const TRIES: u32 = 5;

/// The first wait before a request is sent again; each later one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// What a server may ask for in `Retry-After` at most.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The largest answer that is read. Metadata with a hundred thousand snapshots stays below it.
const LARGEST: u64 = 512 << 20;

/// A status and a body.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// What the server calls this state of it (`ETag`).
    pub mark: Option<String>,
    /// How long the server asks to wait (`Retry-After`).
    pub wait: Option<Duration>,
}

impl Answer {
    /// Whether it is JSON, or nothing: whatever stands between here and a catalog answers in HTML.
    pub fn is_json(&self) -> bool {
        let text = self.body.trim_ascii();
        text.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
    }

    /// That no more is taken now, if it says so.
    pub fn overloaded(&self) -> Option<Sent> {
        matches!(self.status, 429 | 503).then(|| {
            let said = format!("HTTP status {}", self.status);
            Sent::Again(RestError::Overloaded(said), self.wait)
        })
    }
}

/// What came of sending once.
#[derive(Debug)]
pub enum Sent {
    /// An answer that counts.
    Done(Answer),
    /// None that counts, and it may be sent again, after a wait where the server asks for one.
    Again(RestError, Option<Duration>),
    /// None that counts, and it must not be sent again.
    Never(RestError),
}

/// Sends until something counts, with growing waits.
pub fn patiently(mut once: impl FnMut() -> Sent) -> Result<Answer, RestError> {
    let mut wait = FIRST_WAIT;
    let mut tried = 0;
    loop {
        tried += 1;
        match once() {
            Sent::Done(answer) => return Ok(answer),
            Sent::Never(error) => return Err(error),
            Sent::Again(error, _) if tried == TRIES => return Err(error),
            Sent::Again(_, asked) => {
                sleep(asked.unwrap_or(wait).min(LONGEST_WAIT));
                wait *= 2;
            }
        }
    }
}

/// Reads an answer.
pub fn read(mut response: Response<Body>) -> Result<Answer, RestError> {
    let status = response.status().as_u16();
    let header = response.headers().get("retry-after");
    // In seconds; a date is not worth a parser, the growing wait does.
    let wait = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let wait = wait.map(Duration::from_secs);
    let mark = response.headers().get("etag");
    let mark = mark.and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let body = response
        .body_mut()
        .with_config()
        .limit(LARGEST)
        .read_to_vec();
    match (status, body) {
        (_, Ok(body)) => Ok(Answer {
            status,
            body,
            mark,
            wait,
        }),
        // The status says all.
        (429, Err(_)) => Ok(Answer {
            status,
            body: Vec::new(),
            mark,
            wait,
        }),
        (_, Err(error)) => Err(RestError::NotReached(words(&error))),
    }
}

/// Whether a request cannot have reached the server.
pub fn never_left(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
        ureq::Error::Timeout(at) => matches!(at, ureq::Timeout::Resolve | ureq::Timeout::Connect),
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

/// What a failure to send says, without the address.
pub fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "the catalog did not answer in time".to_owned(),
        ureq::Error::HostNotFound => "the catalog's host is not known".to_owned(),
        ureq::Error::ConnectionFailed => "no connection to the catalog could be made".to_owned(),
        ureq::Error::Io(e) => format!("the connection to the catalog failed: {e}"),
        ureq::Error::Rustls(e) => format!("TLS to the catalog failed: {e}"),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            "the catalog's address is not one".to_owned()
        }
        ureq::Error::BodyExceedsLimit(_) => "the answer is larger than half a GB".to_owned(),
        // The rest may repeat what was sent.
        _ => "the answer was not HTTP".to_owned(),
    }
}
