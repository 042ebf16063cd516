//! Real DuckDB for tests: the interpreter named by `UNSHIP_TEST_PYTHON`, else `python3`.

use super::{Open, Worker, python};
use std::path::{Path, PathBuf};

/// The interpreter that tests use.
pub fn interpreter() -> PathBuf {
    std::env::var_os("UNSHIP_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

/// A started worker; a test without DuckDB fails here and says what is missing.
pub fn worker() -> Worker {
    let program = interpreter();
    match python::start(&program) {
        Ok(worker) => worker,
        Err(error) => panic!(
            "this test needs a Python with the duckdb package: {error}. Set UNSHIP_TEST_PYTHON."
        ),
    }
}

/// A worker with that file open for writing.
pub fn open(path: &Path) -> Worker {
    let mut worker = worker();
    worker.open(&Open::writable(path)).unwrap();
    worker
}

/// Runs statements one after the other, without their parameters.
pub fn run(worker: &mut Worker, statements: &[&str]) {
    for sql in statements {
        if let Err(error) = worker.execute(sql, &[]) {
            panic!("{sql}: {error}");
        }
    }
}
