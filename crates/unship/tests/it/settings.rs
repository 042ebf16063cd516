//! Mistakes in unship.toml, and commands where there is no project.

use crate::support::lab;
use crate::support::{Scratch, golden, tools};

#[test]
fn mistakes_in_the_configuration_are_named() {
    let Some(tools) = tools() else { return };
    let lab = lab::new(&tools);
    let good = lab.read("unship.toml");
    let mut text = String::new();
    for (what, toml) in [
        ("a newer format", good.replace("format = 1", "format = 7")),
        ("an unknown key", format!("colour = true\n{good}")),
        (
            "an unknown key of an environment",
            good.replace("path =", "pass = 1\npath ="),
        ),
        (
            "an unknown engine",
            good.replace("\"duckdb\"", "\"oracle\""),
        ),
        ("no path", good.replace("path =", "memory_limit =")),
        (
            "no such default",
            good.replace("default_env = \"prod\"", "default_env = \"live\""),
        ),
        ("not TOML", "{ format: 1 }".to_owned()),
        ("empty", String::new()),
    ] {
        lab.write("unship.toml", toml);
        let output = lab.unship(&["status"]);
        assert_eq!(output.code, 2, "{what}: {output:?}");
        text.push_str(&format!("# {what}\n{}\n", output.text()));
    }
    for (what, span) in [
        ("no time", "soon"),
        ("a negative time", "-3d"),
        ("calendar time", "1mo"),
    ] {
        let keep = good.split("[keep]").next().unwrap();
        lab.write(
            "unship.toml",
            format!("{keep}[keep]\nlast = 3\nfor = \"{span}\"\n"),
        );
        text.push_str(&format!("# {what}\n{}\n", lab.unship(&["gc"]).text()));
    }
    lab.write("unship.toml", &good);
    text.push_str(&lab.unship(&["init", "--database", "lab.duckdb"]).text());
    text.push_str(
        &lab.unship(&["--python", "/nowhere/python", "verify"])
            .text(),
    );
    golden("configuration", &text);
    lab.ok(&["init", "--database", "lab.duckdb", "--force"]);
    lab.ok(&["status"]);
}

#[test]
fn commands_without_a_project_say_so() {
    let Some(tools) = tools() else { return };
    let scratch = Scratch::new(&tools);
    let mut text = String::new();
    for args in [
        &["status"][..],
        &["run", "--", "python", "job.py"],
        &["run", "--", "dbt", "build"],
        &["init"],
        &["-C", "/nowhere", "log"],
        &["doctor"],
        &["--json", "status"],
    ] {
        let output = scratch.unship(args);
        assert_eq!(output.code, 2, "{output:?}");
        text.push_str(&output.text());
    }
    let lab = lab::empty(&tools);
    for args in [
        &["status"][..],
        &["rollback"],
        &["undo"],
        &["log"],
        &["verify"],
        &["pin", "R1"],
        &["gc"],
        &["audit", "verify"],
    ] {
        text.push_str(&lab.unship(args).text());
    }
    golden("no_project", &text);
}
