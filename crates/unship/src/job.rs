//! Running the job: its output goes to the terminal and to a log, signals go on to it, and its exit
//! code comes back.

use crate::error::{CliError, io_error, system_error};
use crate::turn::Turn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How much of a job's output is kept in the ledger, from its end, in bytes.
const LOG_TAIL: u64 = 8 << 20;

/// What a job hears of in unship's place.
const PASSED_ON: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// How a job ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How long it ran.
    pub took: Duration,
    /// The end of what it printed.
    pub log: Vec<u8>,
}

/// Runs a command to its end. `log` is written as it prints. With `quiet` standard output stays
/// unship's own, and what the job prints there goes to standard error.
pub fn run(
    command: &[String],
    dir: &Path,
    env: &BTreeMap<String, String>,
    log: &Path,
    quiet: bool,
    turn: &Turn,
) -> Result<Ended, CliError> {
    let [program, args @ ..] = command else {
        return Err(CliError::usage("there is no command to run after `--`"));
    };
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
    }
    let log_file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(log)
        .map_err(io_error("write", log))?;
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = Instant::now();
    let mut signals = signal_hook::iterator::Signals::new(PASSED_ON)
        .map_err(system_error("listen for signals"))?;
    // Once the job is over they end unship again, as if it had never listened.
    let over = Arc::new(AtomicBool::new(false));
    for signal in PASSED_ON {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&over))
            .map_err(system_error("listen for signals"))?;
    }
    let inherited = turn.inherited();
    let mut child = Command::new(program)
        .args(args)
        .current_dir(dir)
        .envs(env)
        .env("PYTHONUNBUFFERED", "1")
        .envs(
            colour
                .then_some([("DBT_USE_COLORS", "1"), ("CLICOLOR_FORCE", "1")])
                .into_iter()
                .flatten(),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            over.store(true, Ordering::SeqCst);
            CliError::failed(format!("cannot start `{program}`: {e}"))
                .hint("the command after `--` is run as it stands, without a shell")
        })?;
    drop(inherited);
    turn.is_of(child.id(), program);
    let pid = Pid::from_raw(child.id() as i32);
    let handle = signals.handle();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let status = std::thread::scope(|scope| {
        scope.spawn(move || {
            for signal in signals.forever() {
                // A terminal's Ctrl-C reaches the job by itself; sending it once more is harmless.
                if let Ok(signal) = Signal::try_from(signal) {
                    let _ = kill(pid, signal);
                }
            }
        });
        let shown: Box<dyn Write + Send> = if quiet {
            Box::new(io::stderr())
        } else {
            Box::new(io::stdout())
        };
        let copies = [
            out.map(|out| copy(scope, out, shown, log_file.try_clone())),
            err.map(|err| copy(scope, err, io::stderr(), log_file.try_clone())),
        ];
        for copy in copies.into_iter().flatten() {
            let _ = copy.join();
        }
        let status = child.wait();
        handle.close();
        status
    })
    .map_err(system_error("wait for the job"))?;
    over.store(true, Ordering::SeqCst);
    let took = started.elapsed();
    Ok(Ended {
        exit_code: status.code(),
        signal: status.signal(),
        took,
        // The job has run, whether or not what it printed can be read back.
        log: tail_of(log_file).unwrap_or_default(),
    })
}

fn tail_of(mut log: File) -> io::Result<Vec<u8>> {
    let length = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut tail = Vec::new();
    log.take(LOG_TAIL).read_to_end(&mut tail)?;
    Ok(tail)
}

/// Copies until the end. Output that cannot be shown or kept is no reason to stop the job.
fn copy<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    mut from: impl Read + Send + 'scope,
    mut to: impl Write + Send + 'scope,
    log: io::Result<File>,
) -> std::thread::ScopedJoinHandle<'scope, ()> {
    scope.spawn(move || {
        let mut log = log.ok();
        let mut buffer = [0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let Some(bytes) = buffer.get(..n) else { break };
            let _ = to.write_all(bytes).and_then(|()| to.flush());
            if log
                .as_mut()
                .is_some_and(|log| log.write_all(bytes).is_err())
            {
                log = None;
            }
        }
    })
}
