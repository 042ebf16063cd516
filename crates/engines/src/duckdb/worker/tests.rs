//! The client against a real DuckDB.

use super::testing::{interpreter, open, run, worker};
use super::{Open, Rows, StartError, Worker, WorkerError, python};
use proptest::prelude::*;
use std::cell::RefCell;
use std::process::{Command, Stdio};
use unship_core::value::Value;

fn one(worker: &mut Worker, sql: &str) -> Value {
    let Rows { mut rows, .. } = worker.query(sql, &[], 10).unwrap();
    rows.remove(0).remove(0)
}

#[test]
fn values_arrive_exactly() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let cases = [
        ("SELECT NULL", Value::Null),
        ("SELECT true", Value::Bool(true)),
        (
            "SELECT 170141183460469231731687303715884105727::HUGEINT",
            Value::Int(i128::MAX),
        ),
        (
            "SELECT 340282366920938463463374607431768211455::UHUGEINT",
            Value::Text(u128::MAX.to_string()),
        ),
        ("SELECT 0.1::DOUBLE", Value::Float(0.1)),
        ("SELECT 0.1::FLOAT", Value::Float(f64::from(0.1_f32))),
        ("SELECT 'inf'::DOUBLE", Value::Float(f64::INFINITY)),
        ("SELECT '-inf'::FLOAT", Value::Float(f64::NEG_INFINITY)),
        ("SELECT 1.10::DECIMAL(38,2)", Value::Text("1.10".into())),
        ("SELECT 'infinity'::DATE", Value::Text("infinity".into())),
        ("SELECT '\\x00\\xFF'::BLOB", Value::Bytes(vec![0, 255])),
        ("SELECT [1, NULL]", Value::Text("[1, NULL]".into())),
        ("SELECT 'ä''b'", Value::Text("ä'b".into())),
        ("SELECT 1 AS a -- a comment", Value::Int(1)),
        ("SELECT 1;\n", Value::Int(1)),
    ];
    for (sql, expected) in cases {
        assert_eq!(one(&mut worker, sql), expected, "{sql}");
    }
    assert!(matches!(one(&mut worker, "SELECT 'nan'::DOUBLE"), Value::Float(x) if x.is_nan()));
}

#[test]
fn any_value_survives_the_way_there_and_back() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let worker = RefCell::new(worker);
    let value = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i128>()
            .prop_filter("DuckDB's range", |i| *i != i128::MIN)
            .prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        ".*".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..50).prop_map(Value::Bytes),
    ];
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..Default::default()
    };
    proptest!(config, |(value in value)| {
        let mut worker = worker.borrow_mut();
        // A parameter alone has no type while a query is described: each kind names its own.
        let sql = match &value {
            Value::Bool(_) => "SELECT ?::BOOLEAN",
            Value::Int(_) => "SELECT ?::HUGEINT",
            Value::Float(_) => "SELECT ?::DOUBLE",
            Value::Bytes(_) => "SELECT ?::BLOB",
            _ => "SELECT ?::VARCHAR",
        };
        let rows = worker.query(sql, std::slice::from_ref(&value), 1).unwrap().rows;
        match (&rows[0][0], &value) {
            (Value::Float(a), Value::Float(b)) => {
                prop_assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
            }
            (a, b) => prop_assert_eq!(a, b),
        }
    });
}

#[test]
fn rows_keep_their_order_and_stop_at_the_limit() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let answer = worker
        .query(
            "SELECT range AS a, range AS a FROM range(10000) ORDER BY range DESC",
            &[],
            5000,
        )
        .unwrap();
    assert!(answer.truncated);
    assert_eq!(answer.columns[1], ("a".to_owned(), "BIGINT".to_owned()));
    let expected: Vec<Value> = (5000..10000).rev().map(Value::Int).collect();
    let got: Vec<Value> = answer
        .rows
        .into_iter()
        .map(|mut row| row.remove(1))
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn an_error_carries_duckdbs_words_and_the_worker_goes_on() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let error = worker.query("SELECT * FROM missing", &[], 1).unwrap_err();
    let WorkerError::Sql { kind, message } = error else {
        panic!("{error}")
    };
    assert_eq!(kind, "Catalog");
    assert!(message.contains("missing"), "{message}");
    // A Python variable of the worker must not answer for a missing table.
    assert!(worker.query("SELECT * FROM requests", &[], 1).is_err());
    assert!(worker.execute("SELECT 1; SELECT 2", &[]).is_err());
    assert_eq!(one(&mut worker, "SELECT 1"), Value::Int(1));
}

#[test]
fn a_running_query_can_be_cancelled_and_the_worker_goes_on() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let canceller = worker.canceller();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        canceller.cancel();
    });
    let error = worker
        .query(
            "SELECT count(*) FROM range(10000000) a, range(10000000) b",
            &[],
            1,
        )
        .unwrap_err();
    assert!(matches!(error, WorkerError::Cancelled), "{error}");
    thread.join().unwrap();
    assert_eq!(one(&mut worker, "SELECT 1"), Value::Int(1));
}

#[test]
fn a_cancel_between_two_requests_stops_the_next_one_only() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    worker.canceller().cancel();
    let error = worker.execute("SELECT 1", &[]).unwrap_err();
    assert!(matches!(error, WorkerError::Cancelled), "{error}");
    assert_eq!(one(&mut worker, "SELECT 1"), Value::Int(1));
}

#[test]
fn a_worker_that_dies_says_how() {
    let mut worker = worker();
    worker.open(&Open::default()).unwrap();
    let pid = i32::try_from(worker.pid()).unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    });
    let error = worker
        .execute(
            "SELECT count(*) FROM range(10000000) a, range(10000000) b",
            &[],
        )
        .unwrap_err();
    thread.join().unwrap();
    let WorkerError::Died { status, .. } = &error else {
        panic!("{error}")
    };
    assert!(status.contains("signal: 9"), "{status}");
    assert!(matches!(
        worker.execute("SELECT 1", &[]),
        Err(WorkerError::Died { .. })
    ));
}

#[test]
fn a_worker_ends_when_its_parent_is_gone() {
    // The parent's death closes the pipe; so does dropping it here, with the process kept.
    let mut child = Command::new(interpreter())
        .args(["-I", "-u", "-c", include_str!("worker.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn programs_that_are_no_worker_are_named() {
    let missing = python::start("/nowhere/python".as_ref()).unwrap_err();
    assert!(matches!(missing, StartError::Spawn { .. }), "{missing}");
    let start = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Worker::start(command).unwrap_err()
    };
    let silent = start("echo broken >&2; exit 4");
    let text = silent.to_string();
    assert!(
        text.contains("exit status: 4") && text.contains("broken"),
        "{text}"
    );
    let hello = r#"{"id":0,"answer":{"kind":"hello","protocol":99,"duckdb":"9","pid":1}}"#;
    let other = start(&format!(
        "printf '\\000\\000\\000\\{:o}%s' '{hello}'",
        hello.len()
    ));
    assert!(
        matches!(other, StartError::Protocol { theirs: 99, .. }),
        "{other}"
    );
    let bare = r#"{"id":0,"answer":{"kind":"failed","message":"ModuleNotFoundError: x"}}"#;
    let bare = start(&format!(
        "printf '\\000\\000\\000\\{:o}%s' '{bare}'",
        bare.len()
    ));
    assert!(bare.to_string().contains("pip install duckdb"), "{bare}");
    let chatty = start("echo hello, I am a shell");
    assert!(matches!(chatty, StartError::NotAWorker { .. }), "{chatty}");
}

#[test]
fn a_file_that_another_process_writes_is_refused_with_its_pid() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.duckdb");
    let writer = open(&path);
    let mut second = worker();
    let error = second.open(&Open::writable(&path)).unwrap_err();
    let WorkerError::Locked { pid, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*pid, Some(writer.pid()));
}

#[test]
fn files_that_cannot_be_opened_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let mut messages = Vec::new();
    let mut refuse = |name: &str| {
        let path = directory.path().join(name);
        let error = worker().open(&Open::read_only(&path)).expect_err(name);
        messages.push(
            error
                .to_string()
                .replace(&directory.path().display().to_string(), "<dir>"),
        );
        error
    };
    std::fs::write(directory.path().join("junk.duckdb"), b"hello".repeat(9000)).unwrap();
    refuse("junk.duckdb");
    refuse("missing.duckdb");

    // A file of a later format: the version stands behind the checksum and the magic bytes.
    let plain = directory.path().join("newer.duckdb");
    run(
        &mut open(&plain),
        &["CREATE TABLE t (a INTEGER)", "CHECKPOINT"],
    );
    let mut bytes = std::fs::read(&plain).unwrap();
    bytes[12..20].copy_from_slice(&200_u64.to_le_bytes());
    std::fs::write(&plain, bytes).unwrap();
    let newer = refuse("newer.duckdb");
    assert!(
        matches!(
            newer,
            WorkerError::NewerFile { .. } | WorkerError::Open { .. }
        ),
        "{newer}"
    );

    let wal = directory.path().join("wal.duckdb");
    {
        let mut writer = open(&wal);
        run(
            &mut writer,
            &[
                "CREATE TABLE t (a INTEGER)",
                "CHECKPOINT",
                "INSERT INTO t VALUES (1)",
            ],
        );
    }
    let log = directory.path().join("wal.duckdb.wal");
    let mut bytes = std::fs::read(&log).unwrap();
    // Inside the last entry; DuckDB does not notice every damage to an entry's length.
    let near_the_end = bytes.len() - 8;
    bytes[near_the_end] ^= 0xff;
    bytes[near_the_end + 1] ^= 0xff;
    std::fs::write(&log, bytes).unwrap();
    let broken = refuse("wal.duckdb");
    assert!(matches!(broken, WorkerError::Wal { .. }), "{broken}");
    assert!(
        messages[0].contains("not a valid DuckDB database file"),
        "{}",
        messages[0]
    );
    assert!(
        messages[1].contains("<dir>/missing.duckdb"),
        "{}",
        messages[1]
    );
}

#[test]
fn a_file_keeps_the_name_that_duckdb_gives_it() {
    let directory = tempfile::tempdir().unwrap();
    for (file, name) in [
        ("memory.duckdb", "memory"),
        ("a b.duckdb", "a b"),
        ("x'y\"z.db", "x'y\"z"),
    ] {
        let mut worker = open(&directory.path().join(file));
        assert_eq!(worker.database(), name);
        run(&mut worker, &["CREATE TABLE t AS SELECT 1 AS a"]);
        assert_eq!(one(&mut worker, "SELECT a FROM t"), Value::Int(1));
        let names = worker
            .texts(
                "SELECT database_name FROM duckdb_databases() WHERE NOT internal",
                &[],
            )
            .unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}

#[test]
fn an_encrypted_file_opens_with_its_key_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret.duckdb");
    let mut maker = worker();
    maker.open(&Open::default()).unwrap();
    let attach = format!(
        "ATTACH {} AS secret (ENCRYPTION_KEY 'open sesame')",
        crate::duckdb::sql::quote::text(path.to_str().unwrap())
    );
    run(
        &mut maker,
        &[
            "SET force_mbedtls_unsafe = 'true'",
            &attach,
            "CREATE TABLE secret.t AS SELECT 42 AS a",
            "DETACH secret",
        ],
    );
    let without = worker().open(&Open::read_only(&path)).unwrap_err();
    assert!(
        matches!(without, WorkerError::Encrypted { .. }),
        "{without}"
    );
    let with = |key: &str| {
        let mut reader = worker();
        let open = Open {
            key: Some(key.to_owned()),
            ..Open::read_only(&path)
        };
        reader.open(&open).map(|()| reader)
    };
    assert!(matches!(with("wrong"), Err(WorkerError::Encrypted { .. })));
    let mut reader = with("open sesame").unwrap();
    assert_eq!(one(&mut reader, "SELECT a FROM t"), Value::Int(42));
}
