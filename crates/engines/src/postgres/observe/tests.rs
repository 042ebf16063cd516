use super::*;
use crate::postgres::testing::Database;
use crate::postgres::{build, inputs};
use unship_core::relation::Difference;

const QUIET: OnProgress<'static> = &|_, _, _| {};

fn see(database: &Database, place: Place, depth: &Depth) -> Observation {
    let connector = database.connector();
    let look = Look {
        connector: &connector,
        schemas: None,
        database: connector.database(),
    };
    observe(&mut database.client(), &look, place, depth, QUIET).unwrap()
}

fn live(database: &Database) -> Observation {
    see(database, Place::Live, &Depth::AllRows)
}

fn one(seen: &Observation, name: &str) -> RelationState {
    let found = seen.iter().find(|(n, _)| n.name == name);
    found
        .unwrap_or_else(|| panic!("{name} is not in {:?}", seen.keys()))
        .1
        .clone()
}

/// What `wal`s and statistics of another session say arrives when that session ends.
fn run(database: &Database, sql: &str) {
    database.client().batch_execute(sql).unwrap();
}

#[test]
fn real_databases_are_seen_whole_and_the_same_twice() {
    for (input, tables, views) in [
        ("pagila.sql.gz", 15, 8),
        ("chinook.sql.gz", 11, 0),
        ("adventureworks.sql.gz", 68, 89),
    ] {
        let (Some(path), Some(database)) = (inputs::dump(input), Database::new()) else {
            return;
        };
        inputs::load(&database.connector(), &path);
        let first = live(&database);
        let of = |kind: &[RelationKind]| first.values().filter(|s| kind.contains(&s.kind)).count();
        assert_eq!(of(&[RelationKind::Table]), tables, "{input}");
        let both = [RelationKind::View, RelationKind::MaterializedView];
        assert_eq!(of(&both), views, "{input}");
        let second = live(&database);
        for (name, state) in &first {
            assert_eq!(state.difference(&second[name]), Difference::None, "{name}");
            assert_eq!(state, &second[name], "{name}");
            if state.kind == RelationKind::Table {
                let sql = format!(
                    "SELECT count(*) FROM {}",
                    quote::relation(&name.schema, &name.name)
                );
                let row = database.client().query_one(&sql, &[]).unwrap();
                assert_eq!(
                    state.rows,
                    Some(row.get::<_, i64>(0).unsigned_abs()),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn what_dbt_left_is_seen() {
    for (input, schemas) in [
        ("dataops", 3),
        ("adventureworks-dbt", 5),
        ("jaffle_shop_duckdb", 2),
    ] {
        let path = format!("states/{input}/pg.sql.gz");
        let (Some(path), Some(database)) = (inputs::dump(&path), Database::new()) else {
            return;
        };
        inputs::load(&database.connector(), &path);
        let seen = live(&database);
        let names: BTreeSet<_> = seen.keys().map(|n| n.schema.as_str()).collect();
        assert!(names.len() >= schemas - 1, "{input}: {names:?}");
        let fingerprinted = seen.values().filter(|s| s.fingerprint.is_some()).count();
        assert!(fingerprinted > 0);
    }
}

/// Every pair differs in one cell by less than equality sees, or by all there is.
#[test]
fn a_fingerprint_changes_if_and_only_if_a_row_does() {
    let Some(database) = Database::new() else {
        return;
    };
    run(
        &database,
        "CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('sad', 'glad');
         CREATE DOMAIN s.word AS text; CREATE TYPE s.pair AS (a int, b numeric)",
    );
    let values = [
        ("numeric", "1.0", "1.00"),
        ("float8", "0", "'-0'"),
        ("float4", "0", "'-0'"),
        ("interval", "'1 month'", "'30 days'"),
        ("int[]", "'{1,2}'", "'{{1,2}}'"),
        ("int[]", "'{1,2}'", "'[0:1]={1,2}'"),
        ("numeric[]", "'{1.0}'", "'{1.00}'"),
        ("jsonb", "'{\"a\": 1.0}'", "'{\"a\": 1.00}'"),
        ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
        ("text", "'a'", "'a '"),
        ("varchar(9)", "''", "NULL"),
        ("bpchar", "'a'", "'a '"),
        ("bytea", "'\\x00'", "'\\x0000'"),
        ("bool", "true", "false"),
        ("date", "'2024-01-01'", "'infinity'"),
        ("date", "'5874897-01-01'", "'4713-01-01 BC'"),
        ("timestamp", "'2024-01-01'", "'-infinity'"),
        (
            "timestamptz",
            "'2024-01-01'",
            "'2024-01-01 00:00:00.000001'",
        ),
        ("timetz", "'12:00+00'", "'13:00+01'"),
        (
            "uuid",
            "'00000000-0000-0000-0000-000000000000'",
            "'00000000-0000-0000-0000-000000000001'",
        ),
        ("point", "'(1,2)'", "'(2,1)'"),
        ("int4range", "'[1,5)'", "'[1,6)'"),
        ("inet", "'10.0.0.1'", "'10.0.0.1/24'"),
        ("money", "'1'", "'2'"),
        ("xml", "'<a/>'", "'<b/>'"),
        ("s.mood", "'sad'", "'glad'"),
        ("s.word", "'x'", "'y'"),
        ("s.pair", "'(1,1.0)'", "'(1,1.00)'"),
        ("int8", "1", "-1"),
        ("oid", "1", "2"),
        ("\"char\"", "'a'", "'b'"),
        ("tsvector", "'a b'", "'a c'"),
        ("bit(3)", "'101'", "'100'"),
    ];
    let print = |table: &str| {
        let seen = live(&database);
        one(&seen, table).fingerprint.unwrap()
    };
    for (i, (of, one, other)) in values.iter().enumerate() {
        run(
            &database,
            &format!(
                "CREATE TABLE s.a{i} (k int, v {of}); CREATE TABLE s.b{i} (k int, v {of});
                 INSERT INTO s.a{i} VALUES (1, {one}), (2, {one}), (2, {one});
                 INSERT INTO s.b{i} VALUES (2, {one}), (1, {one}), (2, {one});"
            ),
        );
        let same = print(&format!("a{i}"));
        assert_eq!(same, print(&format!("b{i}")), "{of}: order means nothing");
        run(
            &database,
            &format!("UPDATE s.b{i} SET v = {other} WHERE k = 1"),
        );
        let changed = print(&format!("b{i}"));
        assert_ne!(same.whole, changed.whole, "{of}: {one} became {other}");
        assert_ne!(
            same.columns["v"], changed.columns["v"],
            "{of}: {one} became {other}"
        );
        assert_eq!(
            same.columns["k"], changed.columns["k"],
            "{of}: the key is the same"
        );
        run(
            &database,
            &format!("UPDATE s.b{i} SET v = {one}; DROP TABLE s.a{i}"),
        );
        assert_eq!(same, print(&format!("b{i}")), "{of}: it is as it was");
        run(&database, &format!("DROP TABLE s.b{i}"));
    }
}

#[test]
fn cells_that_change_places_are_noticed() {
    let Some(database) = Database::new() else {
        return;
    };
    run(
        &database,
        "CREATE TABLE public.a AS SELECT * FROM (VALUES (1, 'x'), (2, 'y')) v(k, v);
         CREATE TABLE public.b AS SELECT * FROM (VALUES (1, 'y'), (2, 'x')) v(k, v);
         CREATE TABLE public.none ();
         INSERT INTO public.none DEFAULT VALUES",
    );
    let seen = live(&database);
    let (a, b) = (
        one(&seen, "a").fingerprint.unwrap(),
        one(&seen, "b").fingerprint.unwrap(),
    );
    assert_eq!(a.columns, b.columns);
    assert_ne!(a.whole, b.whole);
    assert_eq!(one(&seen, "none").rows, Some(1));
}

#[test]
fn a_thousand_relations_are_observed_without_reading_a_row() {
    let Some(database) = Database::new() else {
        return;
    };
    run(
        &database,
        "CREATE SCHEMA big; DO $$ BEGIN FOR i IN 1..1000 LOOP
           EXECUTE format('CREATE TABLE big.t%s (id int PRIMARY KEY, v text)', i); END LOOP; END $$;
         ",
    );
    let seen = see(&database, Place::Live, &Depth::Catalog);
    assert_eq!(seen.len(), 1000);
    assert!(
        seen.values()
            .all(|s| s.fingerprint.is_none() && s.storage.is_some())
    );
    assert!(one(&seen, "t7").definition.contains("PRIMARY KEY (id)"));
}

#[test]
fn odd_names_and_kinds_are_seen_as_they_are() {
    let Some(database) = Database::new() else {
        return;
    };
    run(
        &database,
        r#"CREATE SCHEMA "My ""odd"" schema"; SET search_path = "My ""odd"" schema";
           CREATE TABLE "select" ("From" int DEFAULT 1 CHECK ("From" > 0), "ä'ö" text COLLATE "C");
           COMMENT ON COLUMN "select"."ä'ö" IS 'it''s \ odd';
           CREATE UNLOGGED TABLE "💥" (id serial PRIMARY KEY, twice int GENERATED ALWAYS AS (1) STORED);
           CREATE VIEW "View" AS SELECT * FROM "select" JOIN "💥" ON true;
           CREATE MATERIALIZED VIEW m AS SELECT * FROM "View" WITH NO DATA;
           CREATE SEQUENCE free START 5;
           CREATE FUNCTION f(a int, b text) RETURNS int LANGUAGE sql AS 'SELECT 1';
           CREATE TABLE p (a int, b text) PARTITION BY LIST (a);
           CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
           CREATE TABLE p2 PARTITION OF p DEFAULT;
           INSERT INTO p VALUES (1, 'x'), (7, 'y');
           CREATE TABLE child (c int) INHERITS ("select");
           INSERT INTO child VALUES (1, 'x', 2);
           ALTER TABLE "select" ENABLE ROW LEVEL SECURITY;
           CREATE POLICY mine ON "select" USING ("From" = 1);
           CREATE RULE quiet AS ON DELETE TO p DO INSTEAD NOTHING;
           CREATE STATISTICS st ON a, b FROM p"#,
    );
    let seen = live(&database);
    let names: Vec<_> = seen.keys().map(|n| n.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "View",
            "child",
            "f(a integer, b text)",
            "free",
            "m",
            "p",
            "select",
            "💥"
        ]
    );
    let odd = one(&seen, "select");
    assert_eq!(odd.rows, Some(0), "a child's rows are the child's");
    assert_eq!(one(&seen, "child").rows, Some(1));
    let p = one(&seen, "p");
    assert_eq!(p.rows, Some(2), "a partition's rows are its tree's");
    assert_eq!(one(&seen, "m").rows, None);
    let dependents: Vec<_> = odd.dependents.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(dependents, ["View"]);
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    let mut client = database.client();
    // Each version writes views its own way.
    if catalog::server_version(&mut client).unwrap() / 10_000 == 15 {
        settings.bind(|| {
            let text: Vec<_> = seen
                .iter()
                .map(|(n, s)| format!("-- {} {}\n{}", s.kind.word(), n.name, s.definition))
                .collect();
            insta::assert_snapshot!("odd_definitions", text.join("\n"));
        });
    }
    // A write to one partition is a write to the tree.
    run(
        &database,
        r#"INSERT INTO "My ""odd"" schema".p2 VALUES (8, 'z')"#,
    );
    assert_ne!(one(&live(&database), "p").storage, p.storage);
}

#[test]
fn a_build_is_seen_under_the_names_of_production() {
    let Some(database) = Database::new() else {
        return;
    };
    let sql = |schema: &str| {
        format!(
            r#"CREATE SCHEMA {schema};
               CREATE TABLE {schema}.t (id int PRIMARY KEY, v text);
               INSERT INTO {schema}.t VALUES (1, 'x');
               CREATE INDEX on_v ON {schema}.t (v);
               CREATE VIEW {schema}.w AS SELECT t.id FROM {schema}.t"#
        )
    };
    run(&database, &sql("\"order\""));
    let release = ReleaseId(3);
    run(&database, &sql("unship_build_order"));
    let mark = build::Mark {
        release,
        stands_for: "order".to_owned(),
    };
    let comment = quote::text(&serde_json::to_string(&mark).unwrap());
    run(
        &database,
        &format!("COMMENT ON SCHEMA unship_build_order IS {comment}"),
    );
    let before = live(&database);
    assert_eq!(
        before.len(),
        2,
        "a build is no part of production: {:?}",
        before.keys()
    );
    let built = see(&database, Place::Build(release), &Depth::AllRows);
    for (name, state) in &before {
        assert_eq!(state.difference(&built[name]), Difference::None, "{name}");
    }
    assert!(see(&database, Place::Build(ReleaseId(4)), &Depth::AllRows).is_empty());
    // Afterwards it is where it was retained.
    run(
        &database,
        "ALTER SCHEMA unship_build_order RENAME TO unship_r3_order",
    );
    let kept = see(&database, Place::Point(release), &Depth::AllRows);
    for (name, state) in &before {
        assert_eq!(state.difference(&kept[name]), Difference::None, "{name}");
    }
}

/// What nobody wrote to is not read again; what was never read is not read for the first time.
#[test]
fn only_what_was_written_to_is_read_again() {
    let Some(database) = Database::new() else {
        return;
    };
    run(
        &database,
        "CREATE TABLE public.ours AS SELECT 1 AS a; CREATE TABLE public.raw AS SELECT 1 AS a",
    );
    let mut known = live(&database);
    for (name, state) in &mut known {
        if name.name == "raw" {
            state.fingerprint = None;
            state.rows = None;
        }
    }
    let look = |known: &Observation| {
        let depth = Depth::Changed {
            known: known.clone(),
            always: BTreeSet::new(),
        };
        see(&database, Place::Live, &depth)
    };
    assert_eq!(look(&known), known, "nobody wrote");
    run(
        &database,
        "UPDATE public.ours SET a = 2; UPDATE public.raw SET a = 2",
    );
    let now = look(&known);
    assert_eq!(
        one(&known, "ours").difference(&one(&now, "ours")),
        Difference::Rows
    );
    assert_eq!(
        one(&known, "raw").difference(&one(&now, "raw")),
        Difference::Unknown
    );
    assert_eq!(one(&now, "raw").fingerprint, None);
    run(&database, "UPDATE public.ours SET a = 1");
    let back = look(&now);
    assert_eq!(
        one(&known, "ours").difference(&one(&back, "ours")),
        Difference::None
    );
    // Moved to another schema and back it is the very same.
    run(
        &database,
        "CREATE SCHEMA elsewhere; ALTER TABLE public.ours SET SCHEMA elsewhere;
         ALTER TABLE elsewhere.ours SET SCHEMA public",
    );
    assert_eq!(one(&look(&back), "ours"), one(&back, "ours"));
}

#[test]
fn a_role_that_may_only_read_can_look() {
    let Some(database) = Database::new() else {
        return;
    };
    let role = format!("unship reader {}", std::process::id());
    let quoted = quote::name(&role);
    run(
        &database,
        &format!(
            "CREATE ROLE {quoted} LOGIN; CREATE SCHEMA s; CREATE TABLE s.a AS SELECT 1 AS x;
             CREATE TABLE s.hidden AS SELECT 1 AS x; CREATE TABLE s.guarded AS SELECT 1 AS x;
             ALTER TABLE s.guarded ENABLE ROW LEVEL SECURITY;
             GRANT USAGE ON SCHEMA s TO {quoted}; GRANT SELECT ON s.a, s.guarded TO {quoted}"
        ),
    );
    let connector = database.connector().as_role(Some(role.clone()));
    let mut client = connector.connect().unwrap();
    let look = Look {
        connector: &connector,
        schemas: None,
        database: connector.database(),
    };
    let name = |n: &str| RelationName::new(connector.database(), "s", n);
    let mut at = |n: &str| {
        let depth = Depth::Rows([name(n)].into());
        observe(&mut client, &look, Place::Live, &depth, QUIET)
    };
    assert_eq!(at("a").unwrap()[&name("a")].rows, Some(1));
    let error = at("hidden").unwrap_err();
    assert_eq!(
        error.kind,
        unship_core::engine::ErrorKind::Permission,
        "{error}"
    );
    assert!(error.message.contains("s.hidden"), "{error}");
    let error = at("guarded").unwrap_err();
    assert!(error.message.contains("row-level security"), "{error}");
    drop(client);
    run(
        &database,
        &format!("DROP OWNED BY {quoted}; DROP ROLE {quoted}"),
    );
}
