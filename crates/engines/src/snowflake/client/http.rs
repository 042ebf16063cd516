//! One exchange with the server: what was sent, what came back, and nothing secret in errors.

use std::time::Duration;
use ureq::http::HeaderMap;

/// An answer of any status.
pub struct Reply {
    pub status: u16,
    /// How long the server asks to wait.
    pub wait: Option<Duration>,
    /// The server's clock, in seconds since 1970.
    pub clock: Option<i64>,
    pub body: String,
}

/// No answer, or none to be read.
#[derive(Debug)]
pub enum Lost {
    /// The request may have arrived.
    Perhaps(String),
    /// The server was never reached.
    Unreached(String),
}

/// The largest partition that is read into memory. Snowflake's are of some 10 MB compressed.
const LARGEST: u64 = 1 << 30;

/// Sends one request; a body makes it a POST.
pub fn exchange(
    agent: &ureq::Agent,
    url: &str,
    headers: &[(&'static str, &str)],
    body: Option<&[u8]>,
) -> Result<Reply, Lost> {
    let answer = match body {
        Some(body) => {
            let mut request = agent.post(url).header("content-type", "application/json");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.send(body)
        }
        None => {
            let mut request = agent.get(url);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.call()
        }
    };
    let mut answer = answer.map_err(lost)?;
    let (wait, clock) = (retry_after(answer.headers()), date(answer.headers()));
    let reader = answer.body_mut().with_config().limit(LARGEST);
    let body = reader.read_to_string().map_err(lost)?;
    Ok(Reply {
        status: answer.status().as_u16(),
        wait,
        clock,
        body,
    })
}

/// Errors may repeat what was sent: only their kind is told.
fn lost(error: ureq::Error) -> Lost {
    match error {
        ureq::Error::HostNotFound => Lost::Unreached("the host is not known".to_owned()),
        ureq::Error::ConnectionFailed => Lost::Unreached("nothing answers there".to_owned()),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            Lost::Unreached("the address is not one".to_owned())
        }
        ureq::Error::Rustls(e) => Lost::Unreached(format!("TLS failed: {e}")),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Lost::Unreached("the connection is refused".to_owned())
        }
        ureq::Error::Io(e) => Lost::Perhaps(format!("the connection broke: {}", e.kind())),
        ureq::Error::Timeout(_) => Lost::Perhaps("it did not answer in time".to_owned()),
        _ => Lost::Perhaps("the answer was not HTTP".to_owned()),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim();
    Some(Duration::from_secs(seconds.parse().ok()?))
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get("date")?.to_str().ok()?;
    let parsed = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(parsed.timestamp().as_second())
}
