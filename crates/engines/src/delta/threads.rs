//! The threads on which the library and object stores work.

use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};
use unship_core::engine::{EngineError, ErrorKind};

/// Started once, for as long as the process lives.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

fn runtime() -> Result<&'static Runtime, EngineError> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| {
            let text = "cannot start the threads that read tables";
            EngineError::new(ErrorKind::Io, text).because(e)
        })?;
    // Somebody else may have been faster: then theirs counts.
    Ok(RUNTIME.get_or_init(|| made))
}

/// Works on threads of their own, and waits for it. `what` says for a person what is done.
///
/// # Errors
/// [`ErrorKind::Corrupt`], if it panics: a log that the library cannot stand must not take us down
/// with it.
pub fn run<T, F>(what: &str, work: F) -> Result<T, EngineError>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let runtime = runtime()?;
    let task = runtime.spawn(work);
    runtime
        .block_on(task)
        .map_err(|e| EngineError::new(ErrorKind::Corrupt, format!("could not {what}")).because(e))
}
