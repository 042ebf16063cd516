//! What an object store can do to a rollback, and what it cannot do for one.

use super::Lake;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use unship_core::testing::skipped;

/// A lake in a store, whose `R1` made two tables and whose `R2` changed both, with what they were.
fn told() -> Option<(Lake, Value, Value)> {
    let lake = Lake::in_store()?;
    let writes = |value: i64| {
        json!([
            ["create", "s/orders", ["id"], [[value]]],
            ["create", "s/customers", ["id"], [[value]]],
        ])
    };
    lake.run(&writes(1)).says(0, &["R1 is production"]);
    let r1 = lake.show();
    lake.run(&json!([
        ["append", "s/orders", [[2]]],
        ["overwrite", "s/customers", [[2]]]
    ]))
    .says(0, &["R2 is production"]);
    let r2 = lake.show();
    Some((lake, r1, r2))
}

impl Lake {
    /// What happens to the next commit of unship's.
    fn fault(&self, what: &str) {
        self.scratch.write("fault", what);
    }

    /// Ends a fault that stays.
    fn mend(&self) {
        std::fs::remove_file(self.scratch.path("fault")).unwrap();
    }

    /// Whether what was to happen has happened.
    fn has_happened(&self) -> bool {
        !self.scratch.path("fault").exists()
    }

    /// How many requests there were.
    fn requests(&self) -> u64 {
        let server = self.server.as_ref().unwrap();
        let at = server.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(at).unwrap();
        let ask = format!("GET /requests HTTP/1.0\r\nHost: {at}\r\n\r\n");
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().last().unwrap().parse().unwrap()
    }
}

/// Somebody commits between the plan and its last step. What they did is part of the next plan, which
/// is carried out by itself if it was said what becomes of it.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn somebody_who_is_faster_is_planned_with_anew() {
    let Some((lake, r1, r2)) = told() else { return };
    let appends = |id: i64| format!("before {}", json!([["append", "s/orders", [[id]]]]));
    lake.fault(&appends(98));
    let stopped = lake.scratch.unship(&["rollback"]);
    assert!(lake.has_happened());
    stopped.says(
        stopped.code,
        &["planning anew", "lake.s.orders", "--others"],
    );
    assert_ne!(stopped.code, 0);
    let mut expected = r2;
    expected["s/orders"]["rows"] = json!([[1], [2], [98]]);
    assert_eq!(lake.show(), expected);

    lake.fault(&appends(99));
    let back = lake.scratch.unship(&["rollback", "--others", "set-aside"]);
    back.says(0, &["planning anew"]);
    assert_eq!(lake.show(), r1);
    lake.scratch.ok(&["verify"]);
    let kept = lake.sh(&["kept", "s/orders"]);
    assert_eq!(kept, json!([1, 2, 98, 99]), "what they committed is lost");
}

/// The answer is lost, or the commit: the log says which. Where nobody can say yet, it stays in doubt.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn a_lost_answer_is_asked_of_the_log() {
    let Some((lake, r1, r2)) = told() else { return };
    lake.fault("lose");
    lake.scratch.ok(&["rollback"]);
    assert!(lake.has_happened());
    assert_eq!(lake.show(), r1);
    lake.fault("drop");
    let doubt = lake.scratch.unship(&["undo"]);
    doubt.says(72, &["whether the commit to lake.s.", "unship resume"]);
    assert_eq!(lake.show(), r1);
    lake.mend();
    // Nothing of it had happened: it is finished, or given up.
    let resumed = lake.scratch.unship(&["resume"]);
    assert!([0, 70, 75].contains(&resumed.code), "{}", resumed.text());
    let after = lake.show();
    assert!(after == r1 || after == r2, "a mixture: {after}");
    lake.scratch.ok(&["verify"]);
}

/// Nothing is changed by a commit that is refused, and no secret is told. A store that lets one writer
/// overwrite another is not written to at all.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn a_store_that_refuses_or_obeys_too_much_is_named() {
    let Some((mut lake, _, r2)) = told() else {
        return;
    };
    lake.fault("deny");
    let denied = lake.scratch.unship(&["rollback"]);
    denied.says(
        70,
        &["could not commit to lake.s.", "AccessDenied: Access Denied"],
    );
    assert!(!denied.text().contains("hush-hush"), "{}", denied.text());
    assert_eq!(lake.show(), r2);

    lake.fault("naive");
    for args in [&["rollback"][..], &["run", "--", "true"]] {
        let refused = lake.scratch.unship(args);
        refused.says(
            refused.code,
            &["s3://lake overwrites a file", "If-None-Match"],
        );
        assert_ne!(refused.code, 0);
    }
    lake.mend();
    assert_eq!(lake.show(), r2);
    let log = lake.sh(&["history", "s/orders"]);
    assert_ne!(log["operation"], "RESTORE");

    lake.scratch.set("AWS_S3_LOCKING_PROVIDER", "dynamodb");
    let refused = lake.scratch.unship(&["rollback"]);
    refused.says(refused.code, &["agree through dynamodb"]);
    assert_ne!(refused.code, 0);
}

/// A table that a job replaced has another identity in the same log, and goes back in it.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn a_table_that_was_replaced_goes_back() {
    for lake in Lake::everywhere() {
        lake.run(&json!([["create", "s/orders", ["id"], [[1]]]]))
            .says(0, &["R1"]);
        let r1 = lake.show();
        lake.run(&json!([["replace", "s/orders", [[2]]]]))
            .says(0, &["R2"]);
        let r2 = lake.show();
        lake.run(&json!([["replace", "s/orders", [[3]]]]))
            .says(0, &["R3"]);
        lake.scratch.ok(&["rollback", "--to", "R1"]);
        assert_eq!(lake.show(), r1);
        lake.scratch.ok(&["rollback", "--to", "R2"]);
        assert_eq!(lake.show(), r2);
        lake.scratch.ok(&["verify"]);
        lake.scratch.ok(&["fsck"]);
    }
}

/// What a look and a rollback cost, in requests for each table.
#[test]
#[ignore = "needs the Python package deltalake: scripts/python-env delta"]
fn requests_grow_with_the_tables_and_with_nothing_else() {
    let Some(lake) = Lake::in_store() else {
        return skipped("no S3 server");
    };
    const TABLES: usize = 12;
    let all = |operation: &dyn Fn(&str) -> Value| {
        let names = (0..TABLES).map(|n| format!("s/t{n}"));
        Value::from(names.map(|name| operation(&name)).collect::<Vec<_>>())
    };
    lake.run(&all(&|name| json!(["create", name, ["id"], [[1]]])))
        .says(0, &["R1"]);
    lake.run(&all(&|name| json!(["append", name, [[2]]])))
        .says(0, &["R2"]);
    let cost = |args: &[&str]| {
        let before = lake.requests();
        lake.scratch.ok(args);
        let each = (lake.requests() - before) / TABLES as u64;
        println!("{args:?}: {each} requests a table");
        each
    };
    let verify = cost(&["verify"]);
    let rollback = cost(&["rollback"]);
    assert!(verify <= 12 && rollback <= 60, "{verify}, {rollback}");
}
