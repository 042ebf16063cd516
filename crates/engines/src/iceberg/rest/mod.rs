//! A client of the Iceberg REST catalog protocol
//! (<https://iceberg.apache.org/rest-catalog-spec/>).
//!
//! Looking is repeated as often as it takes. What changes something is repeated only where the
//! catalog said that it did nothing, or where it keeps what was sent under a key; otherwise an
//! answer that was lost is [`RestError::Unknown`], and who asked must look.

pub mod encode;
mod error;
mod login;
mod send;
mod shapes;
mod tables;

pub use error::{Doing, RestError};
pub use login::Login;
pub use shapes::*;
pub use tables::{Snapshots, ViewContent};

use super::state;
use encode::{UNIT, plain};
use login::Bearer;
use send::{Answer, Sent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use ureq::Agent;
use ureq::http::Method;

/// What a catalog offers that does not say what (REST catalog specification, `CatalogConfig`).
const OFFERED: &[&str] = &[
    "GET /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
];

/// What unship uses that a catalog may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Several tables in one commit.
    Transaction,
    /// Another name for a table.
    Rename,
    /// A table from its metadata file.
    Register,
    /// A namespace more.
    CreateNamespace,
    /// Views, read.
    Views,
    /// Views, made and changed.
    ChangeViews,
}

impl Endpoint {
    /// As the specification writes it.
    pub fn spelled(self) -> &'static str {
        match self {
            Self::Transaction => "POST /v1/{prefix}/transactions/commit",
            Self::Rename => "POST /v1/{prefix}/tables/rename",
            Self::Register => "POST /v1/{prefix}/namespaces/{namespace}/register",
            Self::CreateNamespace => "POST /v1/{prefix}/namespaces",
            Self::Views => "GET /v1/{prefix}/namespaces/{namespace}/views",
            Self::ChangeViews => "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
        }
    }
}

/// Where a catalog is, and who asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The part of its address before `/v1`.
    pub uri: String,
    /// The warehouse that is asked for, where a catalog has several.
    pub warehouse: Option<String>,
    /// Who asks.
    pub login: Login,
}

/// A catalog that was asked what it can do.
pub struct Client {
    agent: Agent,
    /// Up to `/v1`.
    base: String,
    prefix: String,
    separator: String,
    /// What it says that it offers; `None` where it says nothing of it.
    endpoints: Option<BTreeSet<String>>,
    /// Whether a catalog that does not say what it offers has views.
    has_views: bool,
    /// Whether one that does not say what it offers commits several tables at once.
    transacts: OnceLock<bool>,
    keeps_keys: bool,
    bearer: Mutex<Bearer>,
    /// Tables as they were read last, by path, with the mark that the catalog gave them.
    read: Mutex<BTreeMap<String, (String, Arc<LoadTable>)>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish()
    }
}

/// A request that changes nothing, or that may be sent any number of times.
const LOOK: Option<&str> = None;

impl Client {
    /// Asks a catalog what it can do, and follows its configuration.
    pub fn connect(settings: &Settings) -> Result<Self, RestError> {
        let uri = settings.uri.trim_end_matches('/');
        let mut client = Self {
            agent: crate::http::agent(uri, send::PATIENCE),
            base: format!("{uri}/v1"),
            prefix: String::new(),
            separator: UNIT.to_owned(),
            endpoints: None,
            has_views: false,
            transacts: OnceLock::new(),
            keeps_keys: false,
            bearer: Mutex::new(Bearer::new(settings.login.clone())),
            read: Mutex::new(BTreeMap::new()),
        };
        let query = settings.warehouse.as_ref();
        let query = query.map(|name| format!("?warehouse={}", encode::segment(name)));
        let path = format!("/config{}", query.unwrap_or_default());
        let config: Config = client.json(Method::GET, &path, None::<&()>, LOOK)?;
        let said = |key: &str| -> Option<String> {
            let found = config.overrides.get(key).or(config.defaults.get(key));
            found.cloned().flatten()
        };
        if let Some(prefix) = said("prefix").filter(|prefix| !prefix.is_empty()) {
            let parts: Vec<_> = prefix.split('/').map(encode::segment).collect();
            client.prefix = format!("/{}", parts.join("/"));
        }
        if let Some(separator) = said("namespace-separator") {
            client.separator = plain(&separator);
        }
        client.keeps_keys = config.idempotency_key_lifetime.is_some();
        let tidy = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        // An empty list says as little as none (so does Iceberg's own client read it).
        let list = config.endpoints.as_ref().filter(|list| !list.is_empty());
        client.endpoints = list.map(|list| list.iter().map(tidy).collect());
        client.has_views = said("view-endpoints-supported").as_deref() == Some("true");
        Ok(client)
    }

    /// Whether the catalog can do it.
    pub fn offers(&self, endpoint: Endpoint) -> bool {
        let spelled = endpoint.spelled();
        match (&self.endpoints, endpoint) {
            (Some(list), _) => list.contains(spelled),
            (None, Endpoint::Views | Endpoint::ChangeViews) => self.has_views,
            (None, Endpoint::Transaction) => self.transacts(),
            (None, _) => OFFERED.contains(&spelled),
        }
    }

    /// Whether a catalog that does not say what it offers commits several tables at once. The
    /// specification has one take it for granted, and many that are older than the list cannot do
    /// it: a commit of no table tells, and changes nothing.
    fn transacts(&self) -> bool {
        *self.transacts.get_or_init(|| {
            let sent = self.commit_all(&[], "");
            let lacks = |error| match error {
                RestError::Unsupported(_) | RestError::Missing(_) => true,
                RestError::Nonsense(said) => said == status(404),
                _ => false,
            };
            !sent.is_err_and(lacks)
        })
    }

    /// Whether a request may be repeated under its key.
    pub fn keeps_keys(&self) -> bool {
        self.keeps_keys
    }

    fn bearer(&self) -> MutexGuard<'_, Bearer> {
        // Nothing is left half done where it is held.
        self.bearer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of a namespace, prefix included.
    fn in_namespace(&self, parts: &[String]) -> String {
        let namespace = encode::namespace(parts, &self.separator);
        format!("{}/namespaces/{namespace}", self.prefix)
    }

    /// A table, unless it is as it was read last.
    fn fresh(&self, path: &str) -> Result<Arc<LoadTable>, RestError> {
        let read = || self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = read().get(path).cloned();
        let mark = known.as_ref().map(|(mark, _)| mark.as_str());
        let answer = self.send(Method::GET, path, None::<&()>, LOOK, mark)?;
        if let (304, Some((_, table))) = (answer.status, known) {
            return Ok(table);
        }
        let mut table: LoadTable = understood(&answer)?;
        // Not every catalog leaves out what it was not asked for.
        state::forget_history(&mut table.metadata);
        let table = Arc::new(table);
        match answer.mark {
            Some(mark) => read().insert(path.to_owned(), (mark, Arc::clone(&table))),
            None => read().remove(path),
        };
        Ok(table)
    }

    /// A table as it is now, which is not kept.
    fn whole(&self, path: &str) -> Result<Arc<LoadTable>, RestError> {
        let answer = self.send(Method::GET, path, None::<&()>, LOOK, None)?;
        understood(&answer).map(Arc::new)
    }

    /// Sends a request and reads the JSON of its answer.
    fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        key: Option<&str>,
    ) -> Result<T, RestError> {
        let change = key.is_some();
        let answer = self.send(method, path, body, key, None)?;
        serde_json::from_slice(&answer.body).map_err(|e| {
            let said = format!("{e} (HTTP status {})", answer.status);
            match change {
                // It said that it did it, in words that nobody understands.
                true => RestError::Unknown(said),
                false => RestError::Nonsense(said),
            }
        })
    }

    /// Sends a request; only a good answer comes back. A `key` says that it changes something: the
    /// key is the same each time that this very change is sent. A `mark` is that of what is known:
    /// 304 then says that it still is so.
    fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        key: Option<&str>,
        mark: Option<&str>,
    ) -> Result<Answer, RestError> {
        let body = match body.map(serde_json::to_vec).transpose() {
            Ok(body) => body,
            Err(e) => return Err(RestError::Unsupported(e.to_string())),
        };
        let mut in_doubt = None;
        let mut bought_again = false;
        let answer = send::patiently(|| {
            let token = match self.bearer().token(&self.agent) {
                Ok(token) => token,
                Err(error) => return Sent::Never(error),
            };
            let key_sent = key.filter(|_| self.keeps_keys);
            let bearer = token.as_ref().map(|token| format!("Bearer {token}"));
            let headers = [
                ("authorization", bearer),
                ("idempotency-key", key_sent.map(str::to_owned)),
                ("if-none-match", mark.map(str::to_owned)),
            ];
            let answer = match self.once(&method, path, body.as_deref(), headers) {
                Err(error) if send::never_left(&error) => {
                    return Sent::Again(RestError::NotReached(send::words(&error)), None);
                }
                Err(error) => return self.lost(key, send::words(&error), &mut in_doubt),
                Ok(response) => match send::read(response) {
                    Ok(answer) => answer,
                    // The status was read and the rest was lost: it may have been done.
                    Err(error) => return self.lost(key, error.to_string(), &mut in_doubt),
                },
            };
            match answer.status {
                401 | 419 if !bought_again && self.bearer().refused(token.as_deref()) => {
                    bought_again = true;
                    Sent::Again(RestError::Login("it expired".to_owned()), None)
                }
                503 if key.is_some() && !spoke(&answer) => {
                    // A catalog says by it that it did nothing. A gateway also says it of a request
                    // that it had passed on when the connection behind it broke.
                    in_doubt.get_or_insert_with(|| status(503));
                    Sent::Again(RestError::Overloaded(status(503)), answer.wait)
                }
                429 | 503 => answer.overloaded().unwrap_or(Sent::Done(answer)),
                501 => Sent::Done(answer),
                // 500, 502 and 504 by the specification; whatever else there is of this sort (524:
                // a gateway's time was up) says no more. Nor does a catalog by 408 that gave up on itself.
                408 | 500..=599 => {
                    let text = format!("{}: {}", status(answer.status), self.said(&answer));
                    self.lost(key, text, &mut in_doubt)
                }
                200..=299 if key.is_some() && !answer.is_json() => {
                    let text = format!("{}, and no JSON", status(answer.status));
                    self.lost(key, text, &mut in_doubt)
                }
                _ => Sent::Done(answer),
            }
        });
        let judged = answer.and_then(|answer| match answer.status {
            200..=299 if answer.is_json() => Ok(answer),
            304 if mark.is_some() => Ok(answer),
            _ => Err(self.judged(&answer)),
        });
        match (judged, in_doubt) {
            (Ok(answer), _) => Ok(answer),
            // An earlier try may be what this one ran into.
            (Err(_), Some(doubt)) => Err(RestError::Unknown(doubt)),
            (Err(error), None) => Err(error),
        }
    }

    /// What follows from an answer that was lost: looking is repeated, and so is what the catalog
    /// keeps under a key.
    fn lost(&self, key: Option<&str>, text: String, in_doubt: &mut Option<String>) -> Sent {
        match key {
            None => Sent::Again(RestError::NotReached(text), None),
            Some(_) => {
                in_doubt.get_or_insert_with(|| text.clone());
                match self.keeps_keys {
                    true => Sent::Again(RestError::Unknown(text), None),
                    false => Sent::Never(RestError::Unknown(text)),
                }
            }
        }
    }

    fn once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&[u8]>,
        headers: [(&str, Option<String>); 3],
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("accept", "application/json");
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body)?)
            }
            None => self.agent.run(request.body(())?),
        }
    }

    /// What an answer says of why it is none that was hoped for.
    fn said(&self, answer: &Answer) -> String {
        let failure: Failure = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = match (
            failure.error.message.is_empty(),
            failure.error.r#type.is_empty(),
        ) {
            (true, true) => "it does not say why".to_owned(),
            (true, false) => failure.error.r#type,
            (false, true) => failure.error.message,
            (false, false) => format!("{} ({})", failure.error.message, failure.error.r#type),
        };
        self.bearer().masked(&said)
    }

    fn judged(&self, answer: &Answer) -> RestError {
        let said = self.said(answer);
        let spoke = spoke(answer);
        match answer.status {
            401 | 419 => RestError::Login(said),
            403 => RestError::Forbidden(said),
            // Something that is no catalog also says that there is no such page.
            404 if spoke => RestError::Missing(said),
            409 => RestError::Conflict(said),
            405 | 406 | 501 => RestError::Unsupported(said),
            status @ (400..=499) if spoke => RestError::Refused { status, said },
            other => RestError::Nonsense(status(other)),
        }
    }
}

fn status(of: u16) -> String {
    format!("HTTP status {of}")
}

/// Whether a catalog itself says why it is no good answer.
fn spoke(answer: &Answer) -> bool {
    serde_json::from_slice::<Failure>(&answer.body)
        .is_ok_and(|f| !f.error.message.is_empty() || !f.error.r#type.is_empty())
}

/// What an answer to a look says.
fn understood<T: DeserializeOwned>(answer: &Answer) -> Result<T, RestError> {
    serde_json::from_slice(&answer.body)
        .map_err(|e| RestError::Nonsense(format!("{e} (HTTP status {})", answer.status)))
}

/// How many pages of a list may follow each other without a name that was not there yet.
const IDLE_PAGES: usize = 1000;

/// Every page of a list. One that leads to itself, or on and on, would be read for ever.
fn pages<T: Ord>(
    mut page: impl FnMut(Option<&str>) -> Result<(Vec<T>, Option<String>), RestError>,
) -> Result<Vec<T>, RestError> {
    let mut all = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut idle = 0;
    let mut token: Option<String> = None;
    loop {
        let (some, next) = page(token.as_deref())?;
        let before = all.len();
        all.extend(some);
        idle = if all.len() > before { 0 } else { idle + 1 };
        match next.filter(|next| !next.is_empty()) {
            None => return Ok(all.into_iter().collect()),
            Some(next) if idle > IDLE_PAGES || !seen.insert(next.clone()) => {
                return Err(RestError::Nonsense(
                    "it gives the same page of a list again".to_owned(),
                ));
            }
            next => token = next,
        }
    }
}

/// Properties as JSON.
pub type Properties = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    /// A list may have pages without a name, and must not go on for ever.
    #[test]
    fn a_list_that_goes_on_and_on_is_nonsense() {
        let mut asked = 0;
        let endless = pages(|_| {
            asked += 1;
            Ok((vec!["orders"], Some(asked.to_string())))
        });
        assert!(matches!(endless, Err(RestError::Nonsense(_))));
        let mut some = (0..3).map(|n| (vec![n], (n < 2).then(|| n.to_string())));
        let all = pages(|_| Ok(some.next().unwrap_or_default()));
        assert_eq!(all, Ok(vec![0, 1, 2]));
    }
}
