//! Every statement that can be sent, once: as a golden file beside the page that defines it, and
//! through a parser of Snowflake's SQL.

use super::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// Each function of this file that makes a statement, with a statement of its.
fn statements() -> Vec<(&'static str, String)> {
    // Names are whatever Snowflake lets people make.
    let odd = Place::new("DB", "say \"hi\"", "it's; -- \\ä");
    let other = Place::new("DB", "UNSHIP_R1_MARTS", "orders");
    let schemas = ["MARTS".to_owned(), "o'clock".to_owned()];
    let columns = ["id".to_owned(), "select".to_owned()];
    let typed: Vec<(String, String)> = vec![
        ("id".to_owned(), "NUMBER(38,0)".to_owned()),
        ("WHERE".to_owned(), "GEOGRAPHY".to_owned()),
    ];
    let key = ["id".to_owned()];
    let all = ["id".to_owned(), "v".to_owned()];
    let rest = ["v".to_owned()];
    let role = Grant::new("SELECT", Grantee::Role("REPORT \"ER".to_owned()), true).unwrap();
    let of_database = Grantee::DatabaseRole("DB".to_owned(), "READER".to_owned());
    let of_database = Grant::new("APPLYBUDGET", of_database, false).unwrap();
    let record = ReleaseRecord {
        id: "R7_prod".to_owned(),
        env: "prod".to_owned(),
        job: "unship run".to_owned(),
        commit: Some("it's".to_owned()),
        schemas: r#"[{"database":"DB","schema":"MARTS"}]"#.to_owned(),
        began: Duration::from_millis(90_500),
        ended: Duration::from_millis(250),
    };
    let usage = Grant::new("USAGE", Grantee::Role("REPORTER".to_owned()), false).unwrap();
    vec![
        ("session", session()),
        ("running", running("DB", "unship R2 step 5")),
        ("schemas", super::schemas("DB")),
        ("tables", tables("DB", &schemas)),
        ("columns", super::columns("DB", &schemas)),
        ("views", views("DB", &schemas)),
        ("tokens", tokens([&odd, &other])),
        ("mark", mark(&odd, "R12")),
        ("create_schema", create_schema("DB", "say \"hi\"")),
        ("drop_schema", drop_schema("DB", "say \"hi\"")),
        ("clone", clone(&odd, &other, true)),
        ("clone", clone(&odd, &other, false)),
        ("retain", retain(&odd, &other, true)),
        ("drop_table", drop_table(&odd)),
        ("swap", swap(&odd, &other)),
        ("rename", rename(&odd, &other)),
        ("drop_view", drop_view(&odd)),
        (
            "create_view",
            create_view(
                &odd,
                &ViewText {
                    body: "SELECT 1 AS ONE, 2",
                    columns: &columns,
                    secure: true,
                    comment: Some("it's \\ here"),
                },
            ),
        ),
        (
            "create_view",
            create_view(
                &odd,
                &ViewText {
                    body: "(SELECT 1 AS ONE)",
                    columns: &[],
                    secure: false,
                    comment: None,
                },
            ),
        ),
        ("show_grants", show_grants(&odd, false)),
        ("show_grants", show_grants(&odd, true)),
        ("grant", grant(&odd, false, &role)),
        ("grant", grant(&odd, true, &of_database)),
        ("revoke", revoke(&odd, false, &role)),
        ("show_streams", show_streams()),
        ("show_pipes", show_pipes()),
        ("show_dynamic_tables", show_dynamic_tables()),
        ("show_materialized_views", show_materialized_views()),
        ("policies", policies(&odd, "TABLE")),
        ("tags", tags(&odd)),
        ("fingerprint", fingerprint(&odd, &typed)),
        ("count", count(&odd)),
        ("first_row", first_row(&odd)),
        (
            "profile",
            profile(
                &odd,
                &[
                    ("id".to_owned(), true),
                    ("at".to_owned(), true),
                    ("note".to_owned(), false),
                ],
                &[true, false, false],
            ),
        ),
        ("bounded", bounded(" SELECT id FROM t; ", 11)),
        ("difference", difference(&odd, &other, &columns)),
        ("examples", examples(&odd, &other, &columns, true, 5)),
        ("examples", examples(&odd, &other, &columns, false, 5)),
        ("by_key", by_key(&odd, &other, &key, &rest)),
        ("changed", changed(&odd, &other, &key, &all, 5)),
        ("key_faults", key_faults(&odd, &key)),
        ("only", only(&odd, &other, &key, &all, true, 5)),
        (
            "create_schema_like",
            create_schema_like(
                "DB",
                "UNSHIP_BUILD_MARTS",
                &Making {
                    transient: true,
                    managed: true,
                    days: Some(7),
                    comment: Some("it's ours".to_owned()),
                },
            ),
        ),
        (
            "create_schema_like",
            create_schema_like("DB", "UNSHIP_BUILD_MARTS", &Making::default()),
        ),
        (
            "swap_schemas",
            swap_schemas("DB", "MARTS", "UNSHIP_BUILD_MARTS"),
        ),
        (
            "rename_schema",
            rename_schema("DB", "UNSHIP_BUILD_MARTS", "UNSHIP_R1_MARTS"),
        ),
        ("show_schemas", show_schemas("DB")),
        ("show_schema_grants", show_schema_grants("DB", "MARTS")),
        ("show_future_grants", show_future_grants("DB", "MARTS")),
        (
            "show_grants_to",
            show_grants_to(&Grantee::Role("LOADER".to_owned())),
        ),
        (
            "show_grants_to",
            show_grants_to(&Grantee::DatabaseRole("DB".to_owned(), "R".to_owned())),
        ),
        ("show_kind", show_kind("DB", "USER PROCEDURES")),
        ("schema_tags", schema_tags("DB", "say \"hi\"")),
        ("grant_on_schema", grant_on_schema("DB", "MARTS", &usage)),
        ("revoke_on_schema", revoke_on_schema("DB", "MARTS", &usage)),
        (
            "give",
            give("CREATE SCHEMA", "DATABASE", &name("DB"), "LOADER"),
        ),
        (
            "give_ownership",
            give_ownership("SCHEMA", &schema("DB", "MARTS"), "LOADER"),
        ),
        (
            "record_release",
            record_release("DB", "marts_unship", &record),
        ),
    ]
}

/// Public functions that make no statement.
const NO_STATEMENTS: [&str; 4] = ["full", "text", "new", "fmt"];

/// The page beside each public function that makes a statement.
fn pages() -> BTreeMap<String, String> {
    let sources = [
        include_str!("../sql.rs"),
        include_str!("compare.rs"),
        include_str!("schema.rs"),
    ];
    let mut out = BTreeMap::new();
    let mut page = String::new();
    for line in sources.iter().flat_map(|source| source.lines()) {
        let line = line.trim();
        if let Some((_, rest)) = line
            .split_once("<https://")
            .filter(|_| line.starts_with("///"))
        {
            page = format!("https://{}", rest.trim_end_matches('>'));
        } else if let Some(rest) = line.strip_prefix("pub fn ") {
            let name = rest.split(['(', '<']).next().unwrap();
            out.insert(name.to_owned(), std::mem::take(&mut page));
        }
    }
    out.retain(|name, _| !NO_STATEMENTS.contains(&name.as_str()));
    out
}

#[test]
fn every_statement_is_listed_beside_its_page() {
    let pages = pages();
    let all = statements();
    for name in pages.keys() {
        assert!(all.iter().any(|(of, _)| of == name), "{name} is not listed");
    }
    let lines: Vec<String> = all
        .iter()
        .map(|(name, statement)| {
            let page = pages
                .get(*name)
                .filter(|page| page.starts_with("https://docs.snowflake.com/"));
            format!(
                "{name}: {}\n{statement}\n",
                page.unwrap_or_else(|| panic!("{name} has no page"))
            )
        })
        .collect();
    insta::assert_snapshot!("statements", lines.join("\n"));
}

/// The statements that the parser gives back as a raw command: of `SHOW` it knows only schemas, and
/// it knows no grant to a database role, no grant that leaves others be, no change of a schema, no
/// schema whose owner alone says who may read, and no clone with the privileges of its original.
fn is_unknown_to_the_parser(statement: &str) -> bool {
    let shows = statement.starts_with("SHOW ") && !statement.starts_with("SHOW SCHEMAS ");
    let words = [
        " TO DATABASE ROLE ",
        " COPY CURRENT GRANTS",
        " WITH MANAGED ACCESS",
    ];
    shows
        || statement.starts_with("ALTER SCHEMA ")
        || (statement.contains(" CLONE ") && statement.ends_with(" COPY GRANTS"))
        || words.iter().any(|words| statement.contains(words))
}

const PARSE: &str = "
import json, sys
import sqlglot
for statement in json.load(sys.stdin):
    try:
        parsed = sqlglot.parse(statement, read='snowflake')
        raw = any(isinstance(part, sqlglot.exp.Command) for one in parsed for part in one.walk())
        print('many' if len(parsed) != 1 else 'raw' if raw else 'parsed')
    except Exception as error:
        print('error', str(error).splitlines()[0])
";

#[test]
fn every_statement_is_one_of_snowflakes() {
    let Ok(python) = std::env::var("UNSHIP_TEST_SNOWFLAKE_PYTHON") else {
        println!("skipped: UNSHIP_TEST_SNOWFLAKE_PYTHON names no Python that has sqlglot");
        return;
    };
    let all = statements();
    let texts: Vec<&String> = all.iter().map(|(_, text)| text).collect();
    let mut child = Command::new(python)
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(&texts).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), texts.len());
    for (text, said) in texts.iter().zip(said) {
        let expected = match is_unknown_to_the_parser(text) {
            true => "raw",
            false => "parsed",
        };
        assert_eq!(said, expected, "{text}");
    }
}

#[test]
fn a_privilege_is_a_word_and_nothing_else() {
    let to = || Grantee::Role("R".to_owned());
    for bad in [
        "",
        "SELECT ON TABLE x TO ROLE y; DROP",
        "select",
        "A\nB",
        "A--",
    ] {
        assert_eq!(Grant::new(bad, to(), false), None, "{bad}");
    }
    assert!(Grant::new("REFERENCES", to(), false).is_some());
}
