//! Checks that a project writes and that reach beyond the build: another environment, earlier
//! releases, an application.

use crate::rig::{Oracle, World, python};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;

/// An application that says how it is, at an address of its own.
fn application(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{at}/health?key=hush")
}

fn found<'a>(document: &'a Value, check: &str) -> &'a Value {
    let all = document["findings"].as_array().unwrap();
    let found = all.iter().find(|f| f["check"] == check);
    found.unwrap_or_else(|| panic!("{check}: {document:#}"))
}

#[test]
fn checks_reach_other_environments_earlier_releases_and_applications() {
    let Some(python) = python() else { return };
    let oracle = Oracle::start(&python);
    let world = World::new(&python);
    world.begin(&oracle);
    let other = "[env.other]\nengine = \"duckdb\"\npath = \"other.duckdb\"\n";
    world.configure(other);
    oracle.write(
        &world.root.join("other.duckdb"),
        "create table orders as select i as id from range(2010) t(i)",
    );
    let checks = format!(
        r#"{other}
[[check]]
name = "as_elsewhere"
kind = "reconcile"
left = "select count(*) from {{main.orders}}"
environment = "other"
relative_tolerance = 0.001

[[check]]
name = "dashboard"
kind = "sample"
sql = "select * from {{main.facts}}"
regression = 50

[[check]]
name = "well"
kind = "http"
url = "{}"
severity = "medium"

[[check]]
name = "ill"
kind = "http"
url = "{}"
severity = "medium"
"#,
        application("204 x"),
        application("500 x")
    );
    world.configure(&checks);
    let looked = |release: i64| {
        let ran = world.run("--aside", release, &[]);
        assert!(!format!("{ran}").contains("hush"), "{ran}");
        world.json(&["show", "@", "--json"])
    };
    let first = looked(1);
    // Nothing was released there yet.
    assert_eq!(found(&first, "as_elsewhere")["outcome"], "unknown");
    assert_eq!(
        found(&first, "dashboard")["outcome"],
        "unknown",
        "too early"
    );
    assert_eq!(found(&first, "well")["outcome"], "pass");
    assert_eq!(found(&first, "ill")["outcome"], "fail");
    assert_eq!(found(&first, "ill")["severity"], "medium");

    let there = ["--env", "other", "run", "--in-place", "--", "true"];
    world.unship(&there).ok();
    looked(1);
    let third = looked(1);
    let elsewhere = found(&third, "as_elsewhere");
    assert_eq!(elsewhere["outcome"], "pass", "{elsewhere}");
    let said = elsewhere["observed"].as_str().unwrap();
    assert!(said.starts_with("2010 and 2010 in R"), "{said}");
    assert!(said.ends_with("of other"), "{said}");
    assert_eq!(found(&third, "dashboard")["outcome"], "pass");

    // Ten rows more than there are elsewhere.
    let ran = world.run("--aside", 2, &[]);
    assert_eq!(ran.code, Some(76), "{ran}");
    assert!(ran.out.contains("as_elsewhere"), "{ran}");
}
