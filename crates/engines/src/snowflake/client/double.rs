//! A server that speaks the SQL API by a script: what it is asked is written down and checked
//! against the API's description, what it answers is given.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: serde_json::Value,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }

    /// A parameter of the path.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// By the API's reference: which paths there are, which headers are required, and what a body
    /// may hold.
    fn checked(&self) {
        assert!(
            self.header("authorization").starts_with("Bearer "),
            "{self:?}"
        );
        assert!(!self.header("user-agent").is_empty(), "{self:?}");
        assert_eq!(self.header("accept"), "application/json");
        let path = self.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (self.method.as_str(), parts.as_slice()) {
            ("POST", ["api", "v2", "statements"]) => {
                let known = [
                    "statement",
                    "timeout",
                    "database",
                    "schema",
                    "warehouse",
                    "role",
                    "bindings",
                    "parameters",
                ];
                let body = self.body.as_object().unwrap();
                for key in body.keys() {
                    assert!(
                        known.contains(&key.as_str()),
                        "{key} is no part of a request"
                    );
                }
                assert!(body["parameters"]["query_tag"].is_string(), "{body:?}");
                assert_eq!(self.query("requestId").unwrap().len(), 36);
            }
            ("POST", ["api", "v2", "statements", _, "cancel"])
            | ("GET", ["api", "v2", "statements", _]) => {}
            _ => panic!("there is no {} {}", self.method, self.path),
        }
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Say {
    /// A status, headers and a body.
    Reply(u16, Vec<(&'static str, String)>, String),
    /// The same, compressed.
    Packed(u16, Vec<u8>),
    /// Nothing: the connection is closed after the request was read.
    HangUp,
}

impl Say {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Reply(status, Vec::new(), body.to_string())
    }

    pub fn failed(code: &str, message: &str) -> Self {
        let body = serde_json::json!({"code": code, "message": message, "sqlState": "42000",
            "statementHandle": "01-failed"});
        Self::json(422, &body)
    }

    pub fn running(handle: &str) -> Self {
        let body = serde_json::json!({"code": "333334", "message": "in progress",
            "statementHandle": handle,
            "statementStatusUrl": format!("/api/v2/statements/{handle}")});
        Self::json(202, &body)
    }

    /// A result of one partition.
    pub fn rows(columns: &[(&str, &str)], rows: &[&[Option<&str>]]) -> Self {
        Self::json(200, &result(columns, rows, 1))
    }
}

/// A result's first partition of so many.
pub fn result(columns: &[(&str, &str)], rows: &[&[Option<&str>]], of: usize) -> serde_json::Value {
    let types: Vec<_> = columns
        .iter()
        .map(|(name, kind)| {
            serde_json::json!({"name": name, "type": kind, "scale": 0,
            "nullable": true})
        })
        .collect();
    serde_json::json!({
        "code": "090001", "statementHandle": "01-handle", "data": rows,
        "resultSetMetaData": {"numRows": rows.len(), "format": "jsonv2", "rowType": types,
            "partitionInfo": vec![serde_json::json!({"rowCount": rows.len()}); of]},
    })
}

/// The server. Its thread ends with the test's process.
pub struct Double {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Double {
    /// Answers by a function.
    pub fn new(mut script: impl FnMut(&Asked) -> Say + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let Some(one) = read(&stream) else { continue };
                written.lock().unwrap().push(one.clone());
                let say = script(&one);
                answer(&mut stream, say);
            }
        });
        Self { url, asked }
    }

    /// Answers from a list, in order.
    pub fn scripted(says: impl IntoIterator<Item = Say>) -> Self {
        let mut says: VecDeque<Say> = says.into_iter().collect();
        Self::new(move |_| {
            says.pop_front()
                .unwrap_or_else(|| Say::failed("0", "nothing left to say"))
        })
    }

    /// Everything that was asked, each checked against the API's description.
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap().clone();
        asked.iter().for_each(Asked::checked);
        asked
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length");
    let length = length.map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
    Some(Asked {
        method,
        path,
        headers,
        body,
    })
}

fn answer(stream: &mut TcpStream, say: Say) {
    let (status, headers, body) = match say {
        Say::HangUp => return,
        Say::Reply(status, headers, body) => (status, headers, body.into_bytes()),
        Say::Packed(status, body) => (status, vec![("Content-Encoding", "gzip".to_owned())], body),
    };
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body);
}
