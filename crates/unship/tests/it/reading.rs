//! What the reading commands print, for people and for machines.

use crate::support::shop::{self, Moment};
use crate::support::{Scratch, golden, tools};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The shape of a JSON document: every path in it with the types found there. What is a name or a
/// number of its own, and not a field, is written `*`.
fn shape(value: &Value, path: &str, out: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    out.entry(path.to_owned()).or_default().insert(kind);
    match value {
        Value::Array(items) => items
            .iter()
            .for_each(|item| shape(item, &format!("{path}[]"), out)),
        Value::Object(fields) => {
            // Relations, columns, packages and artefacts are keys where they are mapped.
            let named = ["columns", "artefacts", "packages"];
            let last = path.rsplit('.').next().unwrap_or_default();
            for (key, item) in fields {
                let free = key.contains(['.', '[']) || named.contains(&last);
                let key = if free { "*" } else { key };
                shape(item, &format!("{path}.{key}"), out);
            }
        }
        _ => {}
    }
}

#[test]
fn json_documents_keep_their_shape() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let mut text = String::new();
    for (schema, args) in [
        ("unship.status/1", &["status"][..]),
        ("unship.log/1", &["log"]),
        ("unship.release/1", &["show", "R3"]),
        ("unship.diff/1", &["diff", "R2", "R3"]),
        (
            "unship.diff_rows/1",
            &["diff", "R2", "R3", "mart_daily_revenue"],
        ),
        ("unship.plan/1", &["plan"]),
        ("unship.doctor/1", &["doctor"]),
        ("unship.restore/1", &["rollback"]),
        ("unship.verify/1", &["verify"]),
        ("unship.audit/1", &["audit", "verify"]),
        ("unship.fsck/1", &["fsck"]),
        ("unship.gc/1", &["gc"]),
        (
            "unship.run/1",
            &["run", "--in-place", "--", "python", "-c", ""],
        ),
    ] {
        let mut with = vec!["--json"];
        with.extend(args);
        let mut paths = BTreeMap::new();
        shape(&shop.json(schema, &with), "", &mut paths);
        text.push_str(&format!("{schema}\n"));
        for (path, kinds) in paths.iter().filter(|(path, _)| !path.is_empty()) {
            let kinds: Vec<_> = kinds.iter().copied().collect();
            text.push_str(&format!("  {path}: {}\n", kinds.join(" or ")));
        }
    }
    let error = shop.unship(&["--json", "show", "R99"]);
    assert_eq!(error.code, 2);
    text.push_str(&error.text());
    golden("json_shapes", &text);
}

#[test]
fn a_job_that_speaks_does_not_disturb_json() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R1);
    let run = shop.unship(&[
        "--json",
        "run",
        "--in-place",
        "--",
        "python",
        "-c",
        "print('hello')",
    ]);
    assert_eq!(run.code, 0, "{run:?}");
    let document: Value = serde_json::from_str(&run.stdout)
        .unwrap_or_else(|e| panic!("standard output is not one document: {e}: {run:?}"));
    assert_eq!(document["release"], "R2");
    assert!(run.stderr.contains("hello"), "{run:?}");
    shop.ok(&["show", "R2", "--log"]).says(0, &["hello"]);
}

fn all(shop: &Scratch, commands: &[&[&str]]) -> String {
    let outputs: Vec<_> = commands
        .iter()
        .map(|args| shop.unship(args).text())
        .collect();
    outputs.join("\n")
}

#[test]
fn releases_are_named_in_several_ways() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    for (name, release) in [
        ("@", "R3"),
        ("@-", "R2"),
        ("@--", "R1"),
        ("@---", "R0"),
        ("R2", "R2"),
        ("r2", "R2"),
        ("2", "R2"),
    ] {
        let shown = shop.ok(&["show", name]);
        assert!(
            shown.stdout.starts_with(&format!("{release} ")),
            "{shown:?}"
        );
    }
    let text = all(
        &shop,
        &[
            &["show", "@----"],
            &["show", "@x"],
            &["show", "R99"],
            &["show", "yesterday"],
            &["show", ""],
            &["show", "99999999999999999999"],
            &["diff", "R2", "R3", "no_such_table"],
            &["diff", "R0", "R3", "fct_orders"],
            &["plan", "--to", "R3"],
            &["plan", "--to", "R0", "--select", "no_such_model+"],
            &["plan", "--to", "R2", "--select", "tag:"],
            &["plan", "--to", "R2", "--select", "dim_stores"],
            &["plan", "--to", "R2", "--exclude", "dim_stores"],
            &["--env", "staging", "status"],
            &["unpin", "R2"],
            &["resume"],
            &["undo", "--to", "R2"],
            &["frobnicate"],
            &["show", "R2", "--log"],
        ],
    );
    golden("names_that_are_not_there", &text);
}

#[test]
fn colours_only_where_they_are_wanted() {
    let Some(tools) = tools() else { return };
    let mut shop = shop::at(&tools, Moment::R1);
    let plain = shop.ok(&["status"]).stdout;
    assert!(!plain.contains('\x1b'), "a pipe gets no colours");
    shop.set("CLICOLOR_FORCE", "1");
    assert!(shop.ok(&["status"]).stdout.contains('\x1b'));
    shop.set("NO_COLOR", "1");
    assert!(!shop.ok(&["status"]).stdout.contains('\x1b'));
}

#[test]
fn completions_know_every_command() {
    let Some(tools) = tools() else { return };
    let scratch = Scratch::new(&tools);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scratch.ok(&["completions", shell]).stdout;
        for command in ["rollback", "resume", "audit", "set-aside"] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    scratch.unship(&["completions", "csh"]).says(2, &["csh"]);
    golden("help", &scratch.ok(&["--help"]).text());
}

/// A program that stops reading early must not make unship panic.
#[test]
fn a_closed_pipe_is_no_crash() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    let unship = env!("CARGO_BIN_EXE_unship");
    for args in [
        "log",
        "plan",
        "show R3",
        "--json show R3",
        "completions bash",
    ] {
        let line =
            format!("{unship} {args} 2>&1 >/dev/full; {unship} {args} 2>err | true; cat err");
        let said = shop.sh("sh", &["-c", &line]);
        assert!(!said.contains("panicked"), "{args}: {said}");
    }
}
