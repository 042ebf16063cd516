//! The side of the pipe that asks.

use super::cells::{Kind, Rows};
use super::error::{StartError, WorkerError};
use super::open::Open;
use super::protocol::{
    Answer, AnswerFrame, PROTOCOL, Param, Request, RequestFrame, TextRow, read_frame, write_frame,
};
use crate::duckdb::sql::quote;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use unship_core::value::Value;

/// How long a fresh process may take to say hello: importing a package from a cold, slow disk is
/// slow; a program that is no worker is silent for ever.
const HELLO: Duration = Duration::from_secs(60);

/// How many bytes of a worker's standard error are kept for an error message.
const TAIL: usize = 4096;

/// A running worker. Dropping it kills the process; [`Worker::close`] first if something was
/// written, so that it reaches the database file and not only its write-ahead log.
pub struct Worker {
    child: Child,
    program: PathBuf,
    pipe: Arc<Mutex<ChildStdin>>,
    answers: Receiver<std::io::Result<AnswerFrame>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: Option<JoinHandle<()>>,
    duckdb: String,
    pid: u32,
    asked: Arc<Asked>,
    database: String,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("program", &self.program)
            .field("duckdb", &self.duckdb)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// Interrupts a worker from another thread, such as a Ctrl-C handler.
#[derive(Clone)]
pub struct Canceller {
    pipe: Arc<Mutex<ChildStdin>>,
    asked: Arc<Asked>,
}

/// What a worker and its cancellers share.
#[derive(Debug, Default)]
struct Asked {
    /// The newest request.
    request: AtomicU64,
    /// Whether somebody wants an end to it.
    to_stop: AtomicBool,
}

impl std::fmt::Debug for Canceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canceller")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Canceller {
    /// Ends what the worker is doing: the running request, or if none runs at this moment the next
    /// one, fails with [`WorkerError::Cancelled`]; work that is made of several requests ends with
    /// it, and the requests after that (a rollback) run.
    pub fn cancel(&self) {
        self.asked.to_stop.store(true, Ordering::SeqCst);
        let target = self.asked.request.load(Ordering::SeqCst);
        let frame = RequestFrame {
            id: 0,
            request: Request::Cancel { target },
        };
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        // A worker that is gone has stopped.
        let _ = write_frame(&mut *pipe, &frame);
    }
}

impl Worker {
    /// Starts `command` as a worker and waits for its hello.
    ///
    /// # Errors
    /// When it cannot be run, is no worker, cannot import DuckDB, or speaks another protocol.
    pub fn start(mut command: Command) -> Result<Self, StartError> {
        let program = PathBuf::from(command.get_program());
        let spawn = |source| StartError::Spawn {
            program: program.clone(),
            source,
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(spawn)?;
        let (Some(stdin), Some(stdout), Some(pipe)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(spawn(std::io::ErrorKind::BrokenPipe.into()));
        };
        let (sender, answers) = sync_channel(4);
        std::thread::spawn(move || forward(stdout, &sender));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&stderr);
        let stderr_reader = std::thread::spawn(move || keep_tail(pipe, &kept));
        let mut worker = Self {
            child,
            program,
            pipe: Arc::new(Mutex::new(stdin)),
            answers,
            stderr,
            stderr_reader: Some(stderr_reader),
            duckdb: String::new(),
            pid: 0,
            asked: Arc::default(),
            database: String::new(),
        };
        worker.hello()?;
        Ok(worker)
    }

    fn hello(&mut self) -> Result<(), StartError> {
        let program = self.program.clone();
        let detail = match self.answers.recv_timeout(HELLO) {
            Ok(Ok(AnswerFrame {
                answer:
                    Answer::Hello {
                        protocol,
                        duckdb,
                        pid,
                    },
                ..
            })) => {
                if protocol != PROTOCOL {
                    return Err(StartError::Protocol {
                        program,
                        theirs: protocol,
                        ours: PROTOCOL,
                    });
                }
                self.duckdb = duckdb;
                self.pid = pid;
                return Ok(());
            }
            Ok(Ok(AnswerFrame {
                answer: Answer::Failed { message },
                ..
            })) => {
                return Err(StartError::NoDuckDb { program, message });
            }
            Ok(Ok(other)) => format!("its first answer was {:?}", other.answer),
            Ok(Err(error)) => error.to_string(),
            Err(RecvTimeoutError::Timeout) => {
                format!("it said nothing within {} s", HELLO.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => self.died().to_string(),
        };
        Err(StartError::NotAWorker { program, detail })
    }

    /// The version of the worker's DuckDB, such as `1.5.5`.
    pub fn duckdb_version(&self) -> &str {
        &self.duckdb
    }

    /// The worker's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The program that runs as the worker.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The catalog name of the main database: what DuckDB derives from the file's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Something that interrupts this worker from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            pipe: Arc::clone(&self.pipe),
            asked: Arc::clone(&self.asked),
        }
    }

    /// Opens a database, closing what was open before.
    ///
    /// The main file keeps the catalog name that DuckDB gives it, since a view's stored text may
    /// contain it; no other catalog than DuckDB's own stands beside it, so that names mean what
    /// they mean when the job opens the file.
    ///
    /// # Errors
    /// When a file is held by another process, too new, encrypted without its key, damaged or not
    /// there; the error names it.
    pub fn open(&mut self, open: &Open) -> Result<(), WorkerError> {
        self.request(Request::Connect)?;
        // A Python variable must never answer for a table that is missing. Older versions lack it.
        let replacements = self.execute("SET python_enable_replacements = false", &[]);
        if !matches!(replacements, Ok(()) | Err(WorkerError::Sql { .. })) {
            return replacements;
        }
        if let Some(limit) = &open.memory_limit {
            self.execute(&format!("SET memory_limit = {}", quote::text(limit)), &[])?;
        }
        if let Some(directory) = &open.temp_directory {
            let directory = quote::text(&path_text(directory)?);
            self.execute(&format!("SET temp_directory = {directory}"), &[])?;
        }
        if let Some(path) = &open.path {
            // A file may be called `memory.duckdb`: the first catalog gives its name free.
            for sql in [
                "ATTACH ':memory:' AS unship_scratch",
                "USE unship_scratch",
                "DETACH memory",
            ] {
                self.execute(sql, &[])?;
            }
            self.attach(path, None, open.read_only, open.key.as_deref())?;
            let names = self.texts(
                "SELECT database_name FROM duckdb_databases() WHERE NOT internal \
                 AND database_name <> 'unship_scratch'",
                &[],
            )?;
            self.database = first_cell(names)?;
            self.use_main()?;
            self.execute("DETACH unship_scratch", &[])?;
        } else {
            self.database = "memory".to_owned();
        }
        for file in &open.attach {
            self.attach(
                &file.path,
                Some(&file.alias),
                file.read_only,
                file.key.as_deref(),
            )?;
        }
        Ok(())
    }

    /// Makes the main database the one that unqualified names mean.
    pub(crate) fn use_main(&mut self) -> Result<(), WorkerError> {
        let sql = format!(
            "USE {}.{}",
            quote::name(&self.database),
            quote::name("main")
        );
        self.execute(&sql, &[])
    }

    fn attach(
        &mut self,
        path: &Path,
        alias: Option<&str>,
        read_only: bool,
        key: Option<&str>,
    ) -> Result<(), WorkerError> {
        // ATTACH would make a new database where a file is missing: nobody asked for one here.
        if let Err(error) = std::fs::metadata(path)
            && (read_only || error.kind() != std::io::ErrorKind::NotFound)
        {
            let message = error.to_string();
            return Err(WorkerError::Open {
                path: path.to_path_buf(),
                message,
            });
        }
        let alias = alias
            .map(|alias| format!(" AS {}", quote::name(alias)))
            .unwrap_or_default();
        let mut options = Vec::new();
        if read_only {
            options.push("READ_ONLY".to_owned());
        }
        if let Some(key) = key {
            options.push(format!("ENCRYPTION_KEY {}", quote::text(key)));
        }
        let options = if options.is_empty() {
            String::new()
        } else {
            format!(" ({})", options.join(", "))
        };
        let sql = format!("ATTACH {}{alias}{options}", quote::text(&path_text(path)?));
        let duckdb = self.duckdb.clone();
        self.execute(&sql, &[])
            .map_err(|error| error.attach(path, &duckdb))
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// DuckDB's own, or the worker's end.
    pub fn execute(&mut self, sql: &str, params: &[Value]) -> Result<(), WorkerError> {
        let params = params.iter().map(Param::from).collect();
        self.request(Request::Execute {
            sql: sql.to_owned(),
            params,
        })
    }

    /// Runs one `SELECT` and gives at most `limit` typed rows.
    ///
    /// # Errors
    /// DuckDB's own, or the worker's end.
    pub fn query(&mut self, sql: &str, params: &[Value], limit: u64) -> Result<Rows, WorkerError> {
        let sql = sql
            .trim_end()
            .trim_end_matches([';', ' ', '\n', '\t', '\r']);
        let described = self.texts(&format!("DESCRIBE ({sql}\n)"), params)?;
        let mut columns = Vec::new();
        for row in described {
            let mut cells = row.into_iter().flatten();
            match (cells.next(), cells.next()) {
                (Some(name), Some(data_type)) => columns.push((name, data_type)),
                _ => return Err(WorkerError::Garbled("a column without a type".to_owned())),
            }
        }
        let kinds: Vec<Kind> = columns
            .iter()
            .map(|(_, data_type)| Kind::of(data_type))
            .collect();
        let aliases: Vec<String> = (0..kinds.len()).map(|i| format!("c{i}")).collect();
        let cells: Vec<String> = kinds
            .iter()
            .zip(&aliases)
            .map(|(kind, alias)| kind.as_text(alias))
            .collect();
        let sql = format!(
            "SELECT {} FROM ({sql}\n) AS unship_query({}) LIMIT {}",
            cells.join(", "),
            aliases.join(", "),
            limit.saturating_add(1).min(i64::MAX as u64),
        );
        let mut rows = Vec::new();
        let mut truncated = false;
        self.each_text(&sql, params, |row| {
            if rows.len() as u64 == limit {
                truncated = true;
                return Ok(());
            }
            let row = row
                .into_iter()
                .zip(&kinds)
                .map(|(cell, kind)| kind.value(cell));
            rows.push(row.collect::<Result<Vec<Value>, WorkerError>>()?);
            Ok(())
        })?;
        Ok(Rows {
            columns,
            rows,
            truncated,
        })
    }

    /// Runs one statement all of whose columns are text, and gives every row.
    ///
    /// # Errors
    /// DuckDB's own, or the worker's end.
    pub fn texts(&mut self, sql: &str, params: &[Value]) -> Result<Vec<TextRow>, WorkerError> {
        let mut rows = Vec::new();
        self.each_text(sql, params, |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// Runs one statement all of whose columns are text, and hands over row after row, so that an
    /// answer larger than memory can be digested.
    ///
    /// # Errors
    /// DuckDB's own, the worker's end, or the first error of `each`.
    pub fn each_text(
        &mut self,
        sql: &str,
        params: &[Value],
        mut each: impl FnMut(TextRow) -> Result<(), WorkerError>,
    ) -> Result<(), WorkerError> {
        let params = params.iter().map(Param::from).collect();
        let id = self.send(Request::Query {
            sql: sql.to_owned(),
            params,
        })?;
        // Even when `each` fails, the answer is read to its end: the next request needs the pipe.
        let mut failed = None;
        while let Some(rows) = self.answer(id)? {
            for row in rows {
                if failed.is_none() {
                    failed = each(row).err();
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Closes the database, so that what was committed stands in the file itself.
    ///
    /// # Errors
    /// DuckDB's own, or the worker's end.
    pub fn close(&mut self) -> Result<(), WorkerError> {
        self.request(Request::Close)
    }

    /// Closes the database and ends the worker.
    ///
    /// # Errors
    /// DuckDB's own while it closes, or the worker's earlier end.
    pub fn shutdown(mut self) -> Result<(), WorkerError> {
        self.request(Request::Shutdown)?;
        self.child
            .wait()
            .map_err(|error| WorkerError::Garbled(error.to_string()))?;
        Ok(())
    }

    fn request(&mut self, request: Request) -> Result<(), WorkerError> {
        let id = self.send(request)?;
        while self.answer(id)?.is_some() {}
        Ok(())
    }

    fn send(&mut self, request: Request) -> Result<u64, WorkerError> {
        let id = self.asked.request.fetch_add(1, Ordering::SeqCst) + 1;
        // Looked at after the number is out: a cancel either sees this request or is seen here.
        if self.asked.to_stop.swap(false, Ordering::SeqCst) {
            return Err(WorkerError::Cancelled);
        }
        let sent = {
            let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
            write_frame(&mut *pipe, &RequestFrame { id, request })
        };
        match sent {
            Ok(()) => Ok(id),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(WorkerError::Garbled(error.to_string()))
            }
            Err(_) => Err(self.died()),
        }
    }

    /// The next rows of request `id`; `None` when it is done.
    fn answer(&mut self, id: u64) -> Result<Option<Vec<TextRow>>, WorkerError> {
        let frame = match self.answers.recv() {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.died());
            }
            Ok(Err(error)) => return Err(WorkerError::Garbled(error.to_string())),
            Err(_) => return Err(self.died()),
        };
        if frame.id != id {
            return Err(WorkerError::Garbled(format!(
                "an answer to request {} came for request {id}",
                frame.id
            )));
        }
        match frame.answer {
            Answer::Rows { rows } => Ok(Some(rows)),
            Answer::Done => Ok(None),
            Answer::Failed { message } => {
                let error = WorkerError::statement(message);
                if matches!(error, WorkerError::Cancelled) {
                    self.asked.to_stop.store(false, Ordering::SeqCst);
                }
                Err(error)
            }
            Answer::Hello { .. } => Err(WorkerError::Garbled("a second hello".to_owned())),
        }
    }

    fn died(&mut self) -> WorkerError {
        // The pipe is closed, so the process is ending; if it lingers it is of no more use.
        let ended = (0..50).find_map(|_| match self.child.try_wait() {
            Ok(Some(status)) => Some(status),
            _ => {
                std::thread::sleep(Duration::from_millis(10));
                None
            }
        });
        let status = match ended {
            Some(status) => status.to_string(),
            None => {
                let _ = self.child.kill();
                let _ = self.child.wait();
                "it closed its pipe and was killed".to_owned()
            }
        };
        if let Some(reader) = self.stderr_reader.take() {
            let _ = reader.join();
        }
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        WorkerError::Died {
            status,
            stderr: String::from_utf8_lossy(&tail).into_owned(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(mut stdout: ChildStdout, sender: &SyncSender<std::io::Result<AnswerFrame>>) {
    loop {
        let frame = match read_frame(&mut stdout) {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let last = frame.is_err();
        if sender.send(frame).is_err() || last {
            return;
        }
    }
}

fn keep_tail(mut pipe: ChildStderr, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(n) = pipe.read(&mut buffer) {
        if n == 0 {
            return;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..n]);
        let surplus = kept.len().saturating_sub(TAIL);
        kept.drain(..surplus);
    }
}

fn path_text(path: &Path) -> Result<String, WorkerError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| WorkerError::Open {
            path: path.to_path_buf(),
            message: "DuckDB takes only paths that are UTF-8".to_owned(),
        })
}

fn first_cell(rows: Vec<TextRow>) -> Result<String, WorkerError> {
    rows.into_iter()
        .flatten()
        .flatten()
        .next()
        .ok_or_else(|| WorkerError::Garbled("an answer without a row".to_owned()))
}
