//! Statements: sent, sent again, waited for, cancelled.

use super::account::Settings;
use super::auth::{Credentials, LIFETIME, RENEW};
use super::error::ClientError;
use super::http::{self, Lost, Reply};
use super::rows::Rows;
use super::wire::{ResultSet, Status, Submit};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The first wait before something is tried again or asked about again; it doubles each time.
    pub first: Duration,
    /// The longest such wait.
    pub most: Duration,
    /// How long one request may take. A statement is answered within 45 seconds, if only by saying
    /// that it still runs.
    pub request: Duration,
    /// For how long a request is sent again while no usable answer comes.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            most: Duration::from_secs(15),
            request: Duration::from_secs(90),
            patience: Duration::from_secs(300),
        }
    }
}

/// A statement to run.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// Its text: one statement.
    pub text: &'a str,
    /// What Snowflake's history shall say it belongs to.
    pub tag: &'a str,
    /// How long it may take; afterwards it is cancelled.
    pub timeout: Option<Duration>,
    /// The schema that names without one mean, if not the session's.
    pub schema: Option<&'a str>,
}

impl<'a> Statement<'a> {
    /// A statement that may take as long as it needs.
    pub fn new(text: &'a str, tag: &'a str) -> Self {
        Self {
            text,
            tag,
            timeout: None,
            schema: None,
        }
    }
}

/// A token, and when it ends, in seconds since 1970 by the server's clock.
struct Token {
    text: String,
    until: i64,
}

/// Sends statements to one account.
pub struct Client {
    settings: Settings,
    base: String,
    pace: Pace,
    agent: ureq::Agent,
    token: RefCell<Option<Token>>,
    /// How far the server's clock is ahead of ours, in seconds.
    skew: Cell<i64>,
    sent: Cell<u64>,
}

/// What to do about an answer that is none.
enum Again {
    /// Wait as long as the server says, or as is usual.
    After(Option<Duration>),
    /// At once, with another token.
    Renewed,
}

impl Client {
    /// Nothing is sent yet.
    pub fn new(settings: Settings, pace: Pace) -> Self {
        let base = settings.base();
        Self {
            agent: crate::http::agent(&base, pace.request),
            base,
            settings,
            pace,
            token: RefCell::new(None),
            skew: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    /// Where it leads.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How long things may take.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// How many statements were sent, each counted once.
    pub fn statements(&self) -> u64 {
        self.sent.get()
    }

    /// Runs a statement to its end.
    ///
    /// # Errors
    /// What Snowflake answered, or that nobody answered. Only [`ClientError::NoAnswer`] leaves open
    /// whether the statement ran.
    pub fn run(&self, statement: &Statement<'_>) -> Result<Rows<'_>, ClientError> {
        if !self.settings.is_private() {
            return Err(ClientError::Unreachable {
                host: self.base.clone(),
                cause: "the address is not https, and a token would be sent for all to read"
                    .to_owned(),
            });
        }
        self.sent.set(self.sent.get() + 1);
        let parameters = BTreeMap::from([
            ("query_tag", statement.tag.to_owned()),
            // One request is one statement, whatever the account's default is.
            ("multi_statement_count", "1".to_owned()),
        ]);
        let settings = &self.settings;
        let submit = Submit {
            statement: statement.text,
            timeout: statement.timeout.map(|t| t.as_secs().max(1)),
            database: &settings.database,
            schema: statement.schema.or(settings.schema.as_deref()),
            warehouse: settings.warehouse.as_deref(),
            role: settings.role.as_deref(),
            parameters,
        };
        let body = serde_json::to_vec(&submit)
            .map_err(|e| ClientError::Answer(format!("the request cannot be written: {e}")))?;
        let request = Uuid::new_v4().to_string();
        let path = format!("/api/v2/statements?requestId={request}");
        let began = Instant::now();
        let first = self.ask(&path, Some(&body), &request)?;
        let result = self.finished(first, statement, began, &request)?;
        Ok(Rows::new(self, result))
    }

    /// Waits for a statement that was accepted, and cancels it when its time is over.
    fn finished(
        &self,
        mut reply: Reply,
        statement: &Statement<'_>,
        began: Instant,
        request: &str,
    ) -> Result<ResultSet, ClientError> {
        let mut wait = self.pace.first;
        loop {
            if reply.status == 200 {
                return parse(&reply.body);
            }
            let status: Status = parse(&reply.body)?;
            let handle = status
                .statement_handle
                .filter(|handle| {
                    handle
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '-')
                })
                .filter(|handle| !handle.is_empty())
                .ok_or_else(|| ClientError::Answer("a statement without its handle".to_owned()))
                .map_err(|error| error.of_one_that_may_run(request))?;
            if let Some(limit) = statement.timeout.filter(|limit| began.elapsed() >= *limit) {
                self.cancel(&handle, request)?;
                return Err(ClientError::TimedOut(limit.as_secs()));
            }
            let left = statement.timeout.map(|t| t.saturating_sub(began.elapsed()));
            std::thread::sleep(left.map_or(wait, |left| wait.min(left)));
            wait = (wait * 2).min(self.pace.most);
            let path = format!("/api/v2/statements/{handle}");
            reply = self
                .ask(&path, None, request)
                .map_err(|error| error.of_one_that_may_run(request))?;
        }
    }

    fn cancel(&self, handle: &str, request: &str) -> Result<(), ClientError> {
        let path = format!("/api/v2/statements/{handle}/cancel");
        match self.ask(&path, Some(b"{}"), request) {
            // It ended by itself in the meantime, or cannot be cancelled any more.
            Ok(_) | Err(ClientError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.of_one_that_may_run(request)),
        }
    }

    /// One more partition of a result.
    pub(super) fn partition(&self, handle: &str, n: usize) -> Result<ResultSet, ClientError> {
        let path = format!("/api/v2/statements/{handle}?partition={n}");
        let reply = self.ask(&path, None, handle)?;
        match reply.status {
            200 => parse(&reply.body),
            status => Err(ClientError::Answer(format!(
                "partition {n} came with status {status}"
            ))),
        }
    }

    /// Asks until there is an answer of status 200 or 202, or a refusal. A body is sent again with
    /// the same id, marked as sent before.
    fn ask(&self, path: &str, body: Option<&[u8]>, request: &str) -> Result<Reply, ClientError> {
        let began = Instant::now();
        let mut wait = self.pace.first;
        let mut path = path.to_owned();
        let (mut sent, mut renewed) = (false, false);
        loop {
            let url = format!("{}{path}", self.base);
            let answer = self.exchange(&url, body)?;
            let (again, cause, arrived) = match answer {
                Ok(reply) => match self.judged(reply, renewed) {
                    Ok(Ok(reply)) => return Ok(reply),
                    // A token that is not taken keeps the statement out.
                    Ok(Err((Again::Renewed, cause))) => (Again::Renewed, cause, false),
                    Ok(Err((again, cause))) => (again, cause, true),
                    Err(error) if sent => return Err(error.of_one_that_may_run(request)),
                    Err(error) => return Err(error),
                },
                Err(Lost::Perhaps(cause)) => (Again::After(None), cause, true),
                Err(Lost::Unreached(cause)) => (Again::After(None), cause, false),
            };
            sent |= arrived;
            if sent && body.is_some() && path.contains("requestId=") && !path.contains("&retry=") {
                path.push_str("&retry=true");
            }
            let pause = match again {
                Again::Renewed => {
                    renewed = true;
                    continue;
                }
                Again::After(told) => told.unwrap_or(wait),
            };
            if began.elapsed() + pause > self.pace.patience {
                return Err(match sent {
                    true => ClientError::NoAnswer {
                        request: request.to_owned(),
                        cause,
                    },
                    false => ClientError::Unreachable {
                        host: self.base.clone(),
                        cause,
                    },
                });
            }
            std::thread::sleep(pause);
            wait = (wait * 2).min(self.pace.most);
        }
    }

    fn exchange(&self, url: &str, body: Option<&[u8]>) -> Result<Result<Reply, Lost>, ClientError> {
        let bearer = format!("Bearer {}", self.bearer()?);
        let headers = [
            ("authorization", bearer.as_str()),
            ("accept", "application/json"),
            (
                "x-snowflake-authorization-token-type",
                self.settings.credentials.token_type(),
            ),
        ];
        let reply = http::exchange(&self.agent, url, &headers, body);
        if let Ok(Reply {
            clock: Some(theirs),
            ..
        }) = &reply
        {
            self.skew.set(theirs - jiff::Timestamp::now().as_second());
        }
        Ok(reply)
    }

    /// What an answer means: it, a refusal, or that it is to be asked for again.
    fn judged(
        &self,
        reply: Reply,
        renewed: bool,
    ) -> Result<Result<Reply, (Again, String)>, ClientError> {
        let said = || {
            let status: Status = serde_json::from_str(&reply.body).unwrap_or_default();
            let message = status
                .message
                .unwrap_or_else(|| format!("HTTP status {}", reply.status));
            (status.code.unwrap_or_default(), message)
        };
        match reply.status {
            200 | 202 => Ok(Ok(reply)),
            401 | 403 => {
                let key = matches!(self.settings.credentials, Credentials::KeyPair(_));
                if key && !renewed && reply.status == 401 {
                    // It had expired, or our clock is wrong; the answer told what theirs says.
                    self.token.replace(None);
                    return Ok(Err((Again::Renewed, said().1)));
                }
                Err(ClientError::Login { message: said().1 })
            }
            408 => {
                let (code, message) = said();
                let code = if code.is_empty() {
                    "000630".to_owned()
                } else {
                    code
                };
                Err(ClientError::Refused { code, message })
            }
            429 | 500 | 502..=504 => Ok(Err((
                Again::After(reply.wait),
                format!("HTTP status {}", reply.status),
            ))),
            _ => {
                let (code, message) = said();
                Err(ClientError::Refused { code, message })
            }
        }
    }

    /// The token of now.
    fn bearer(&self) -> Result<String, ClientError> {
        let now = jiff::Timestamp::now().as_second() + self.skew.get();
        let key = match &self.settings.credentials {
            Credentials::OAuth(token) | Credentials::AccessToken(token) => {
                return Ok(token.reveal().to_owned());
            }
            Credentials::KeyPair(key) => key,
        };
        if let Some(token) = self.token.borrow().as_ref()
            && token.until - now > RENEW
        {
            return Ok(token.text.clone());
        }
        let text = key
            .token(&self.settings.account, &self.settings.user, now)
            .ok_or_else(|| ClientError::Login {
                message: "the private key did not sign".to_owned(),
            })?;
        self.token.replace(Some(Token {
            text: text.clone(),
            until: now + LIFETIME,
        }));
        Ok(text)
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, ClientError> {
    serde_json::from_str(body).map_err(|e| ClientError::Answer(e.to_string()))
}
