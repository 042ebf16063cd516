//! The worker inside unship's own binary, re-executed: for machines without a Python that has
//! `duckdb`. It speaks the protocol of the Python worker.

use super::client::Worker;
use super::error::StartError;
use super::protocol::{
    Answer, AnswerFrame, PROTOCOL, Param, ParamKind, Request, RequestFrame, TextRow, read_frame,
    unhex, write_frame,
};
use duckdb::{Connection, InterruptHandle, types::Value};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many rows go into one frame.
const ROWS_PER_FRAME: usize = 2048;

/// The request that runs, and how to interrupt it.
type Running = Arc<Mutex<Option<(u64, Arc<InterruptHandle>)>>>;

/// Starts `binary` (unship itself) with `arguments`, which must make it call [`serve`].
///
/// # Errors
/// Those of [`Worker::start`].
pub fn start_bundled(binary: &Path, arguments: &[&str]) -> Result<Worker, StartError> {
    let mut command = Command::new(binary);
    command.args(arguments);
    Worker::start(command)
}

/// Answers requests from `stdin` on `stdout` until it is told to shut down.
///
/// When `stdin` ends, the *process* ends at once, whatever runs: an open transaction must not
/// outlive the parent.
///
/// # Errors
/// When `stdout` is closed, or DuckDB cannot even tell its version.
pub fn serve(stdin: impl Read + Send + 'static, stdout: impl Write) -> io::Result<()> {
    let mut server = Server {
        stdout,
        connection: None,
        running: Running::default(),
    };
    let duckdb = version().map_err(io::Error::other)?;
    let hello = Answer::Hello {
        protocol: PROTOCOL,
        duckdb,
        pid: std::process::id(),
    };
    write_frame(
        &mut server.stdout,
        &AnswerFrame {
            id: 0,
            answer: hello,
        },
    )?;
    let (sender, requests) = channel();
    let running = Arc::clone(&server.running);
    std::thread::spawn(move || listen(stdin, &sender, &running));
    server.run(&requests)
}

fn version() -> duckdb::Result<String> {
    let connection = Connection::open_in_memory()?;
    let version: String = connection.query_row("SELECT version()", [], |row| row.get(0))?;
    Ok(version.trim_start_matches('v').to_owned())
}

fn listen(mut stdin: impl Read, sender: &Sender<RequestFrame>, running: &Running) {
    while let Ok(Some(frame)) = read_frame::<RequestFrame>(&mut stdin) {
        if let Request::Cancel { target } = frame.request {
            let running = Arc::clone(running);
            std::thread::spawn(move || interrupt(target, &running));
        } else if sender.send(frame).is_err() {
            return;
        }
    }
    std::process::exit(0);
}

/// DuckDB forgets an interrupt that comes before the query has begun, so it is said until the
/// request is over.
fn interrupt(target: u64, running: &Running) {
    loop {
        match &*running.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((id, handle)) if *id == target => handle.interrupt(),
            _ => return,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Server<W> {
    stdout: W,
    connection: Option<Connection>,
    running: Running,
}

impl<W: Write> Server<W> {
    fn run(&mut self, requests: &Receiver<RequestFrame>) -> io::Result<()> {
        while let Ok(RequestFrame { id, request }) = requests.recv() {
            let last = request == Request::Shutdown;
            self.mark(Some(id));
            let answered = self.answer(id, request);
            self.mark(None);
            let answer = match answered {
                Ok(()) => Answer::Done,
                Err(Failure::Duckdb(message)) => Answer::Failed { message },
                Err(Failure::Pipe(error)) => return Err(error),
            };
            self.send(id, answer)?;
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    fn mark(&self, id: Option<u64>) {
        let handle = self.connection.as_ref().map(Connection::interrupt_handle);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = id.zip(handle);
    }

    fn send(&mut self, id: u64, answer: Answer) -> io::Result<()> {
        write_frame(&mut self.stdout, &AnswerFrame { id, answer })
    }

    fn answer(&mut self, id: u64, request: Request) -> Result<(), Failure> {
        match request {
            Request::Connect => {
                self.close()?;
                self.connection = Some(Connection::open_in_memory()?);
                Ok(())
            }
            Request::Close | Request::Shutdown => self.close(),
            Request::Execute { sql, params } => self.statement(id, &sql, &params, false),
            Request::Query { sql, params } => self.statement(id, &sql, &params, true),
            // The listener keeps these.
            Request::Cancel { .. } => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), Failure> {
        match self.connection.take() {
            Some(connection) => connection.close().map_err(|(_, error)| error.into()),
            None => Ok(()),
        }
    }

    fn statement(
        &mut self,
        id: u64,
        sql: &str,
        params: &[Param],
        wants_rows: bool,
    ) -> Result<(), Failure> {
        let connection = self
            .connection
            .as_ref()
            .ok_or_else(|| Failure::Duckdb("no database is open".to_owned()))?;
        let params = params
            .iter()
            .map(value)
            .collect::<Result<Vec<Value>, Failure>>()?;
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query(duckdb::params_from_iter(params))?;
        if !wants_rows {
            return Ok(());
        }
        let columns = rows
            .as_ref()
            .map_or(0, |statement| statement.column_count());
        let mut batch: Vec<TextRow> = Vec::new();
        loop {
            let row = match rows.next()? {
                Some(row) => (0..columns)
                    .map(|i| row.get(i))
                    .collect::<duckdb::Result<TextRow>>()?,
                None => break,
            };
            batch.push(row);
            if batch.len() == ROWS_PER_FRAME {
                let answer = Answer::Rows {
                    rows: std::mem::take(&mut batch),
                };
                write_frame(&mut self.stdout, &AnswerFrame { id, answer })?;
            }
        }
        if !batch.is_empty() {
            write_frame(
                &mut self.stdout,
                &AnswerFrame {
                    id,
                    answer: Answer::Rows { rows: batch },
                },
            )?;
        }
        Ok(())
    }
}

fn value(Param(kind, text): &Param) -> Result<Value, Failure> {
    let Some(text) = text else {
        return Ok(Value::Null);
    };
    let value = match kind {
        ParamKind::Bool => text.parse().ok().map(Value::Boolean),
        ParamKind::Int => text.parse().ok().map(Value::HugeInt),
        ParamKind::Float => text.parse().ok().map(Value::Double),
        ParamKind::Text => Some(Value::Text(text.clone())),
        ParamKind::Bytes => unhex(text).map(Value::Blob),
    };
    value.ok_or_else(|| Failure::Duckdb(format!("`{text}` is no {kind:?}")))
}

/// What ends a request, or the whole service.
enum Failure {
    Duckdb(String),
    Pipe(io::Error),
}

impl From<duckdb::Error> for Failure {
    fn from(error: duckdb::Error) -> Self {
        Self::Duckdb(match error {
            duckdb::Error::DuckDBFailure(_, Some(message)) => message,
            other => other.to_string(),
        })
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Pipe(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's ends of the pipes to a server in this process. The end that the server reads is
    /// never closed, since its end ends the process.
    struct Client {
        requests: std::mem::ManuallyDrop<io::PipeWriter>,
        answers: io::PipeReader,
        id: u64,
    }

    impl Client {
        fn start() -> Self {
            let (stdin, requests) = io::pipe().unwrap();
            let (answers, stdout) = io::pipe().unwrap();
            std::thread::spawn(move || serve(stdin, stdout));
            let mut client = Self {
                requests: std::mem::ManuallyDrop::new(requests),
                answers,
                id: 0,
            };
            let hello = client.next();
            assert!(
                matches!(&hello, Answer::Hello { protocol: PROTOCOL, duckdb, .. } if duckdb.starts_with('1')),
                "{hello:?}"
            );
            client
        }

        fn next(&mut self) -> Answer {
            let frame: AnswerFrame = read_frame(&mut self.answers).unwrap().unwrap();
            assert_eq!(frame.id, self.id);
            frame.answer
        }

        fn send(&mut self, request: Request) {
            self.id += 1;
            let frame = RequestFrame {
                id: self.id,
                request,
            };
            write_frame(&mut *self.requests, &frame).unwrap();
        }

        fn ask(&mut self, request: Request) -> (Vec<TextRow>, Answer) {
            self.send(request);
            let mut all = Vec::new();
            loop {
                match self.next() {
                    Answer::Rows { rows } => all.extend(rows),
                    last => return (all, last),
                }
            }
        }
    }

    fn query(sql: &str, params: Vec<Param>) -> Request {
        Request::Query {
            sql: sql.to_owned(),
            params,
        }
    }

    #[test]
    fn it_answers_as_the_python_worker_does() {
        let mut client = Client::start();
        let (_, closed) = client.ask(query("SELECT 'a'", vec![]));
        assert!(matches!(closed, Answer::Failed { .. }));
        assert_eq!(client.ask(Request::Connect).1, Answer::Done);
        let params = vec![
            Param(ParamKind::Int, Some(i128::MAX.to_string())),
            Param(ParamKind::Bytes, Some("00ff".to_owned())),
            Param(ParamKind::Text, None),
        ];
        let sql = "SELECT CAST(? AS VARCHAR), hex(?::BLOB), CAST(? AS VARCHAR) FROM range(5000)";
        let (rows, done) = client.ask(query(sql, params));
        assert_eq!(done, Answer::Done);
        assert_eq!(rows.len(), 5000);
        assert_eq!(
            rows[4999],
            [Some(i128::MAX.to_string()), Some("00FF".to_owned()), None]
        );
        let (_, failed) = client.ask(query("SELECT * FROM missing", vec![]));
        let Answer::Failed { message } = failed else {
            panic!("{failed:?}")
        };
        assert!(message.starts_with("Catalog Error:"), "{message}");
        assert_eq!(client.ask(Request::Shutdown).1, Answer::Done);
    }

    #[test]
    fn a_running_query_can_be_cancelled() {
        let mut client = Client::start();
        client.ask(Request::Connect);
        let sql = "SELECT CAST(count(*) AS VARCHAR) FROM range(10000000) a, range(10000000) b";
        client.send(query(sql, vec![]));
        let cancel = RequestFrame {
            id: 0,
            request: Request::Cancel { target: client.id },
        };
        write_frame(&mut *client.requests, &cancel).unwrap();
        let answer = client.next();
        let Answer::Failed { message } = answer else {
            panic!("{answer:?}")
        };
        assert!(message.starts_with("INTERRUPT Error"), "{message}");
        assert_eq!(client.ask(query("SELECT 'on'", vec![])).1, Answer::Done);
    }
}
