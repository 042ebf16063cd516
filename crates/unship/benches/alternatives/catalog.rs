//! A REST catalog in memory that answers at once, so that what a client and the network take can be
//! told from what a catalog takes. It knows what the benchmark asks for, and nothing else.

use crate::measure::Outcome;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Tables, by namespace and name.
type Tables = BTreeMap<(String, String), Value>;

/// A status and a body.
type Answer = (u16, Value);

/// What it knows.
struct Shelf {
    tables: Tables,
    /// Where the files of tables lie that are none of its own business.
    files: PathBuf,
}

/// Listens until the benchmark ends.
pub fn start(files: PathBuf) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let tables = Tables::new();
    let tables = Arc::new(Mutex::new(Shelf { tables, files }));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tables = Arc::clone(&tables);
            // Whoever hangs up is done.
            thread::spawn(move || drop(serve(stream, &tables)));
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream, shelf: &Mutex<Shelf>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(Error::other)?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (status, answer) = {
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            let none = || {
                (
                    404,
                    json!({"error": {"message": path, "type": "NoSuchTable"}}),
                )
            };
            act(&mut shelf, method, path, &body).unwrap_or_else(none)
        };
        let body = match status {
            204 => String::new(),
            _ => answer.to_string(),
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        out.write_all((head + &body).as_bytes())?;
    }
}

/// `None`: what is asked for is not there.
fn act(shelf: &mut Shelf, method: &str, path: &str, body: &Value) -> Option<Answer> {
    let tables = &mut shelf.tables;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match (method, &*parts) {
        ("GET", ["config"]) => Some((
            200,
            json!({"defaults": {}, "overrides": {}, "endpoints": [
                "POST /v1/{prefix}/transactions/commit",
                "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
                "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
                "GET /v1/{prefix}/namespaces/{namespace}/tables"]}),
        )),
        ("GET", ["namespaces"]) => Some((200, json!({"namespaces": []}))),
        ("POST", ["namespaces"]) => Some((200, json!({}))),
        ("POST", ["namespaces", space, "tables"]) => {
            let name = text(&body["name"]);
            let table = made(&shelf.files, space, &name, &body["schema"]);
            let answer = loaded(&table, "");
            tables.insert(((*space).to_owned(), name), table);
            Some((200, answer))
        }
        ("GET", ["namespaces", space, "tables"]) => {
            let own = tables.keys().filter(|(of, _)| of == space);
            let all: Vec<_> = own
                .map(|(of, name)| json!({"namespace": [of], "name": name}))
                .collect();
            Some((200, json!({"identifiers": all})))
        }
        ("GET", ["namespaces", space, "tables", name]) => {
            let table = tables.get(&((*space).to_owned(), (*name).to_owned()))?;
            Some((200, loaded(table, query)))
        }
        ("POST", ["namespaces", space, "tables", name]) => {
            let key = ((*space).to_owned(), (*name).to_owned());
            let table = committed(tables.get(&key)?, body);
            Some(match table {
                Ok(table) => {
                    let answer = loaded(&table, "");
                    tables.insert(key, table);
                    (200, answer)
                }
                Err(failed) => failed,
            })
        }
        ("POST", ["transactions", "commit"]) => {
            let mut done = Vec::new();
            for change in body["table-changes"].as_array()? {
                let of = &change["identifier"];
                let key = (text(&of["namespace"][0]), text(&of["name"]));
                match committed(tables.get(&key)?, change) {
                    Ok(table) => done.push((key, table)),
                    Err(failed) => return Some(failed),
                }
            }
            tables.extend(done);
            Some((204, Value::Null))
        }
        _ => None,
    }
}

fn made(files: &Path, space: &str, name: &str, schema: &Value) -> Value {
    let uuid = blake3::hash(format!("{space}.{name}").as_bytes()).to_hex();
    let part = |from: usize, to: usize| uuid.get(from..to).unwrap_or_default().to_owned();
    let uuid = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| part(from, to));
    let mut schema = schema.clone();
    schema["schema-id"] = 0.into();
    json!({
        "format-version": 2, "table-uuid": uuid.join("-"),
        "location": files.join(space),
        "last-updated-ms": 1, "last-column-id": 20, "last-sequence-number": 0,
        "schemas": [schema], "current-schema-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": []}], "default-spec-id": 0,
        "last-partition-id": 999,
        "sort-orders": [{"order-id": 0, "fields": []}], "default-sort-order-id": 0,
        "properties": {}, "snapshots": [], "refs": {},
    })
}

fn loaded(table: &Value, query: &str) -> Value {
    let mut metadata = table.clone();
    if query.contains("snapshots=refs")
        && let (Some(refs), Some(all)) = (
            table["refs"].as_object(),
            metadata["snapshots"].as_array_mut(),
        )
    {
        let named = |s: &Value| {
            let mut refs = refs.values();
            refs.any(|to| to["snapshot-id"] == s["snapshot-id"])
        };
        all.retain(named);
    }
    json!({"metadata-location": "memory://metadata.json", "metadata": metadata, "config": {}})
}

/// A table after a commit, or why there is none.
fn committed(table: &Value, change: &Value) -> Result<Value, Answer> {
    let mut table = table.clone();
    let list = |key: &str| change[key].as_array().cloned().unwrap_or_default();
    for required in list("requirements") {
        let holds = match required["type"].as_str() {
            Some("assert-table-uuid") => required["uuid"] == table["table-uuid"],
            Some("assert-ref-snapshot-id") => {
                let name = required["ref"].as_str().unwrap_or_default();
                table["refs"][name]["snapshot-id"] == required["snapshot-id"]
            }
            _ => true,
        };
        if !holds {
            let error = json!({"message": required, "type": "CommitFailedException"});
            return Err((409, json!({"error": error})));
        }
    }
    for update in list("updates") {
        match update["action"].as_str() {
            Some("add-snapshot") => {
                let snapshot = update["snapshot"].clone();
                table["last-sequence-number"] = snapshot["sequence-number"].clone();
                if let Some(all) = table["snapshots"].as_array_mut() {
                    all.push(snapshot);
                }
            }
            Some("set-snapshot-ref") => {
                let name = update["ref-name"].as_str().unwrap_or_default();
                if name == "main" {
                    table["current-snapshot-id"] = update["snapshot-id"].clone();
                }
                let mut to = update.clone();
                if let Some(map) = to.as_object_mut() {
                    map.remove("action");
                    map.remove("ref-name");
                }
                table["refs"][name] = to;
            }
            Some("set-properties") => {
                if let (Some(own), Some(more)) = (
                    table["properties"].as_object_mut(),
                    update["updates"].as_object(),
                ) {
                    own.extend(more.clone());
                }
            }
            _ => {
                let error = json!({"message": update, "type": "UnsupportedOperation"});
                return Err((406, json!({"error": error})));
            }
        }
    }
    Ok(table)
}
