//! A program that reads the notice on its standard input.

use super::{PATIENCE, SendError, webhook};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use unship_core::notice::Notice;

/// How often it is looked whether the program has ended.
const GLANCE: Duration = Duration::from_millis(20);

pub fn send(command: &[String], notice: &Notice, root: &Path) -> Result<(), SendError> {
    let Some((program, args)) = command.split_first() else {
        return Err(SendError::never("the command is empty"));
    };
    let mut child = Command::new(program)
        .args(args)
        .current_dir(root)
        .env("UNSHIP_NOTICE_KEY", &notice.key)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| SendError::later(format!("cannot start {program}: {e}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that wants to read nothing may have closed it, and is judged by how it ends. The
        // document is far smaller than what a pipe holds, so that nobody waits here.
        let _ = stdin.write_all(webhook::body(notice).to_string().as_bytes());
    }
    let since = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                return Err(SendError::soon(format!("{program} ended with {status}")));
            }
            Ok(None) if since.elapsed() < PATIENCE => std::thread::sleep(GLANCE),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                let seconds = PATIENCE.as_secs();
                return Err(SendError::later(format!(
                    "{program} had not ended after {seconds} seconds and was killed"
                )));
            }
            Err(e) => return Err(SendError::soon(format!("cannot wait for {program}: {e}"))),
        }
    }
}
