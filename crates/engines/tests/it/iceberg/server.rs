//! The catalog behind HTTP, with faults on demand.

use super::catalog::{Catalog, Id, Refusal, id_of};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use unship_core::ledger::Hash;

/// What a server is like.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Endpoints that it lacks: parts of their names.
    pub lacks: Vec<&'static str>,
    /// Whether it lists its endpoints.
    pub lists: bool,
    /// What it puts before namespaces.
    pub prefix: &'static str,
    /// How many names a page has.
    pub page: usize,
    /// Whether it keeps what was sent under a key.
    pub keys: bool,
    /// The token that it takes, if it asks for one.
    pub token: Option<String>,
    /// What it wants between the parts of a namespace, if it is not what the protocol says.
    pub separator: Option<&'static str>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            lacks: Vec::new(),
            lists: true,
            prefix: "",
            page: 1000,
            keys: false,
            token: None,
            separator: None,
        }
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is answered with this, and not carried out.
    Says(u16, &'static str),
    /// It is carried out, and answered with this.
    DoesAndSays(u16, &'static str),
    /// The connection breaks before it is carried out.
    Lost,
    /// The connection breaks after it was carried out.
    DoesAndLost,
    /// The connection breaks, and it is carried out when the next request has come in: it was on its
    /// way.
    LostAndDoneLater,
    /// Others write to this table before it is carried out.
    OthersFirst(Id),
    /// Others set a property of this table before it is carried out.
    OthersSet(Id, &'static str, &'static str),
}

/// What is shared with those who look.
#[derive(Debug, Default)]
pub struct State {
    pub catalog: Catalog,
    pub manner: Manner,
    /// Faults, each for the next request whose method and path hold this text.
    pub faults: VecDeque<(&'static str, Fault)>,
    /// What was asked for: method, path and body.
    pub asked: Vec<(String, Value)>,
    /// A request that is carried out late.
    late: Option<(String, String, Value)>,
    /// Keys of what was done.
    done: Vec<String>,
}

/// A catalog that listens.
#[derive(Clone)]
pub struct Server {
    pub uri: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/api", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            manner,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        // It ends with the test.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    // Whoever hangs up has his reasons.
                    let _ = serve(stream, &shared);
                });
            }
        });
        Self { uri, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next request whose method and path hold this text goes wrong.
    pub fn fault(&self, on: &'static str, fault: Fault) {
        self.state().faults.push_back((on, fault));
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    out.set_nodelay(true)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let (mut length, mut bearer, mut key, mut known) = (0, String::new(), None, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => bearer = value.trim().to_owned(),
                "if-none-match" => known = Some(value.trim().to_owned()),
                "idempotency-key" => key = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let form = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_slice(&body).unwrap_or(Value::String(form));
        let answer = state
            .lock()
            .unwrap()
            .answer(method, path, body, &bearer, key);
        let Some((status, body)) = answer else {
            return Ok(());
        };
        let mark = format!("\"{}\"", Hash::of(body.as_bytes()));
        let (status, body) = match known == Some(mark.clone()) && status == 200 {
            true => (304, String::new()),
            false => (status, body),
        };
        // In one piece: two small ones wait for each other.
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nretry-after: 0\r\n\
             etag: {mark}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        out.write_all(answer.as_bytes())?;
    }
}

type Answer = (u16, String);

impl State {
    /// `None`: the connection breaks.
    fn answer(
        &mut self,
        method: &str,
        path: &str,
        body: Value,
        bearer: &str,
        key: Option<String>,
    ) -> Option<Answer> {
        let line = format!("{method} {path}");
        self.asked.push((line.clone(), body.clone()));
        if let Some((method, path, body)) = self.late.take() {
            let _ = self.act(&method, &path, &body);
        }
        let at = self.faults.iter().position(|(on, _)| line.contains(on));
        let fault = at.and_then(|at| self.faults.remove(at)).map(|(_, f)| f);
        match &fault {
            Some(Fault::Says(status, body)) => return Some((*status, (*body).to_owned())),
            Some(Fault::Lost) => return None,
            Some(Fault::LostAndDoneLater) => {
                self.late = Some((method.to_owned(), path.to_owned(), body));
                return None;
            }
            Some(Fault::OthersFirst(id)) => {
                let now = super::catalog::read(self.catalog.table(id).unwrap(), None);
                self.catalog.write(id, "append", &now);
            }
            Some(Fault::OthersSet(id, key, value)) => {
                self.catalog
                    .edit(id, |m| m["properties"][key] = (*value).into());
            }
            _ => {}
        }
        let wants = self.manner.token.as_ref().map(|t| format!("Bearer {t}"));
        if wants.is_some_and(|wants| wants != bearer) && !path.contains("oauth") {
            return Some(failure((401, "NotAuthorizedException", "no".to_owned())));
        }
        let done = match &key {
            Some(key) if self.manner.keys && self.done.contains(key) => Ok(Value::Null),
            _ => self.act(method, path, &body),
        };
        if done.is_ok() {
            self.done.extend(key);
        }
        match fault {
            Some(Fault::DoesAndSays(status, body)) => Some((status, body.to_owned())),
            Some(Fault::DoesAndLost) => None,
            _ => Some(match done {
                Ok(Value::Null) => (204, String::new()),
                Ok(body) => (200, body.to_string()),
                Err(refusal) => failure(refusal),
            }),
        }
    }

    fn act(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, Refusal> {
        let unknown = || (404, "", format!("{method} {path}"));
        let path = path.strip_prefix("/api/v1").ok_or_else(unknown)?;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path == "/config" {
            return Ok(self.config());
        }
        if path == "/oauth/tokens" {
            let token = self.manner.token.clone().unwrap_or_default();
            return Ok(json!({"access_token": token, "expires_in": 3600}));
        }
        let path = path.strip_prefix(self.manner.prefix).ok_or_else(unknown)?;
        if self.manner.lacks.iter().any(|lacks| path.contains(lacks)) {
            return Err(unknown());
        }
        let parts: Vec<String> = path.split('/').skip(1).map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let separator = self.manner.separator.unwrap_or("\u{1f}");
        let space = |text: &str| text.split(separator).map(str::to_owned).collect::<Vec<_>>();
        let catalog = &mut self.catalog;
        match (method, &*parts) {
            ("GET", ["namespaces"]) => {
                let parent = query.split('&').find_map(|q| q.strip_prefix("parent="));
                let parent = parent.map_or(Vec::new(), |p| space(&decoded(p)));
                let all = catalog.namespaces.iter();
                let all = all.filter(|n| n.len() == parent.len() + 1 && n.starts_with(&parent));
                let all = all.map(|n| json!(n)).collect();
                Ok(page("namespaces", all, query, self.manner.page))
            }
            ("POST", ["namespaces"]) => {
                let id = id_of(&json!({"namespace": body["namespace"], "name": ""}));
                catalog.namespaces.insert(id.0);
                Ok(json!({}))
            }
            ("DELETE", ["namespaces", n]) => {
                catalog.drop_namespace(&space(n))?;
                Ok(Value::Null)
            }
            ("GET", ["namespaces", n]) if catalog.namespaces.contains(&space(n)) => Ok(json!({})),
            ("GET", ["namespaces", n, what @ ("tables" | "views")]) => {
                let namespace = space(n);
                let ids: Vec<_> = match *what {
                    "tables" => catalog.tables.keys().cloned().collect(),
                    _ => catalog.views.keys().cloned().collect(),
                };
                let ids = ids.into_iter().filter(|(n, _)| *n == namespace);
                let ids = ids.map(|(n, name)| json!({"namespace": n, "name": name}));
                Ok(page("identifiers", ids.collect(), query, self.manner.page))
            }
            ("GET", ["namespaces", n, "tables", name]) => {
                let id = (space(n), (*name).to_owned());
                let location = catalog.tables.get(&id);
                let mut metadata = catalog.table(&id).cloned().ok_or_else(missing)?;
                if query.contains("snapshots=refs") {
                    only_named(&mut metadata);
                }
                Ok(json!({"metadata-location": location, "metadata": metadata}))
            }
            ("POST", ["namespaces", _, "tables", _]) => {
                catalog.commit(std::slice::from_ref(body))?;
                Ok(json!({}))
            }
            ("DELETE", ["namespaces", n, "tables", name]) => {
                catalog.drop_table(&(space(n), (*name).to_owned()))?;
                Ok(Value::Null)
            }
            ("POST", ["transactions", "commit"]) => {
                catalog.commit(body["table-changes"].as_array().unwrap())?;
                Ok(Value::Null)
            }
            ("POST", ["tables", "rename"]) => {
                catalog.rename(&id_of(&body["source"]), &id_of(&body["destination"]))?;
                Ok(Value::Null)
            }
            ("POST", ["namespaces", n, "register"]) => {
                let id = (space(n), body["name"].as_str().unwrap().to_owned());
                catalog.register(&id, body["metadata-location"].as_str().unwrap())?;
                Ok(json!({}))
            }
            ("POST", ["namespaces", n, "views"]) => {
                let id = (space(n), body["name"].as_str().unwrap().to_owned());
                catalog.create_view(&id, body)?;
                Ok(json!({}))
            }
            ("GET", ["namespaces", n, "views", name]) => {
                let view = catalog.views.get(&(space(n), (*name).to_owned()));
                Ok(json!({"metadata-location": "x", "metadata": view.ok_or_else(missing)?}))
            }
            ("POST", ["namespaces", n, "views", name]) => {
                catalog.commit_view(&(space(n), (*name).to_owned()), body)?;
                Ok(json!({}))
            }
            ("DELETE", ["namespaces", n, "views", name]) => {
                let view = catalog.views.remove(&(space(n), (*name).to_owned()));
                view.map(|_| Value::Null).ok_or_else(missing)
            }
            _ => Err((404, "NoSuchNamespaceException", format!("{method} {path}"))),
        }
    }

    fn config(&self) -> Value {
        let all = [
            "GET /v1/{prefix}/namespaces",
            "POST /v1/{prefix}/namespaces",
            "POST /v1/{prefix}/namespaces/{namespace}/register",
            "POST /v1/{prefix}/tables/rename",
            "POST /v1/{prefix}/transactions/commit",
            "GET /v1/{prefix}/namespaces/{namespace}/views",
            "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
        ];
        let offered = all
            .iter()
            .filter(|e| !self.manner.lacks.iter().any(|l| e.contains(l)));
        let mut config = json!({
            "defaults": {}, "overrides": {"prefix": self.manner.prefix.trim_start_matches('/')},
        });
        if self.manner.lists {
            config["endpoints"] = offered.copied().collect();
        } else {
            config["defaults"] = json!({"view-endpoints-supported": "true"});
        }
        if let Some(separator) = self.manner.separator {
            let encoded: String = separator.bytes().map(|b| format!("%{b:02X}")).collect();
            config["overrides"]["namespace-separator"] = encoded.into();
        }
        if self.manner.keys {
            config["idempotency-key-lifetime"] = "PT1H".into();
        }
        config
    }
}

fn missing() -> Refusal {
    (404, "NoSuchTableException", "it is not there".to_owned())
}

fn failure((status, kind, said): Refusal) -> Answer {
    let body = match kind {
        "" => "<html>not found</html>".to_owned(),
        kind => json!({"error": {"message": said, "type": kind, "code": status}}).to_string(),
    };
    (status, body)
}

/// One page of a list: the token is where it begins.
fn page(what: &str, all: Vec<Value>, query: &str, size: usize) -> Value {
    let token = query.split('&').find_map(|q| q.strip_prefix("pageToken="));
    let from: usize = token.and_then(|t| t.parse().ok()).unwrap_or(0);
    let to = all.len().min(from + size);
    let next = (to < all.len()).then(|| to.to_string());
    json!({what: all[from..to], "next-page-token": next})
}

fn only_named(metadata: &mut Value) {
    let named: Vec<_> = metadata["refs"]
        .as_object()
        .unwrap()
        .values()
        .cloned()
        .collect();
    let is_named = |s: &Value| named.iter().any(|r| r["snapshot-id"] == s["snapshot-id"]);
    metadata["snapshots"]
        .as_array_mut()
        .unwrap()
        .retain(is_named);
}

fn decoded(text: &str) -> String {
    unship_engines::iceberg::rest::encode::plain(text)
}
