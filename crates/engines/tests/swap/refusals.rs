//! Everything that stands in the way is named, with what to do, and nothing is changed.

use crate::db::{Db, publish, retained, schemas, staging};
use std::fmt::Write as _;
use unship_engines::postgres::swap::{Name, Request, oracle};

/// Each: what it is, how it comes about, and the relations that are published.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "a foreign key of a table that stays",
        "ALTER TABLE m.fct ADD PRIMARY KEY (id);
         CREATE TABLE m.note (fct bigint CONSTRAINT of_fct REFERENCES m.fct, text text)",
        &["fct"],
    ),
    (
        "a view on a column that goes",
        "ALTER TABLE m.fct ADD old_score int; CREATE VIEW bi.score AS SELECT id, old_score FROM m.fct",
        &["fct"],
    ),
    (
        "a column of the row type",
        "CREATE TABLE bi.log (at timestamp, was m.fct)",
        &["fct"],
    ),
    (
        "an array of the row type",
        "CREATE TABLE bi.logs (at timestamp, were m.fct[])",
        &["fct"],
    ),
    (
        "a domain over the row type",
        "CREATE DOMAIN bi.one AS m.fct",
        &["fct"],
    ),
    (
        "a function on rows that a view uses",
        "CREATE FUNCTION bi.twice(m.fct) RETURNS float LANGUAGE sql AS 'SELECT 2 * ($1).amount';
         CREATE VIEW bi.double AS SELECT bi.twice(f) FROM m.fct f",
        &["fct"],
    ),
    (
        "a child that stays elsewhere",
        "CREATE TABLE bi.child () INHERITS (m.fct)",
        &["fct"],
    ),
    (
        "a partition of a table that stays",
        "CREATE TABLE m.part (id int) PARTITION BY RANGE (id);
         CREATE TABLE m.part_1 PARTITION OF m.part FOR VALUES FROM (0) TO (10);
         CREATE TABLE unship_build_m.part_1 AS SELECT 1 AS id",
        &["part_1"],
    ),
    (
        "a materialised view outside of the run",
        "CREATE MATERIALIZED VIEW bi.total AS SELECT sum(amount) FROM m.fct",
        &["fct"],
    ),
    (
        "a default that takes another table's sequence",
        "CREATE SEQUENCE m.fct_seq; ALTER SEQUENCE m.fct_seq OWNER TO ROLE_builder; ALTER SEQUENCE m.fct_seq OWNED BY m.fct.id;
         CREATE TABLE bi.other (id bigint DEFAULT nextval('m.fct_seq'))",
        &["fct"],
    ),
    (
        "a policy on a column that goes",
        "ALTER TABLE m.fct ADD tenant text; ALTER TABLE m.fct ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON m.fct USING (tenant = current_user)",
        &["fct"],
    ),
    (
        "row security on what becomes a view",
        "ALTER TABLE m.fct ENABLE ROW LEVEL SECURITY;
         DROP TABLE unship_build_m.fct; CREATE VIEW unship_build_m.fct AS SELECT 1 AS id, 2.0 AS amount",
        &["fct"],
    ),
    (
        "a view over a column whose type changed, under a materialised view",
        "DROP TABLE unship_build_m.fct; CREATE TABLE unship_build_m.fct AS SELECT 1::numeric AS id, 2.0::float AS amount;
         CREATE VIEW bi.ids AS SELECT id FROM m.fct; CREATE MATERIALIZED VIEW bi.kept AS SELECT * FROM bi.ids",
        &["fct"],
    ),
    (
        "a name that is taken",
        "CREATE TYPE unship_r1_m.fct AS ENUM ('a')",
        &["fct"],
    ),
    (
        "an index whose name is taken",
        "CREATE INDEX fct_id ON m.fct (id); CREATE TABLE unship_r1_m.fct_id (x int)",
        &["fct"],
    ),
    (
        "an extension's own table",
        "ALTER TABLE m.fct OWNER TO postgres; ALTER EXTENSION plpgsql ADD TABLE m.fct",
        &["fct"],
    ),
    (
        "a function of somebody else on rows",
        "CREATE FUNCTION bi.half(m.fct) RETURNS float LANGUAGE sql AS 'SELECT ($1).amount / 2';
         ALTER FUNCTION bi.half OWNER TO ROLE_stranger; SET ROLE ROLE_builder",
        &["fct"],
    ),
    ("a relation that is not there", "", &["gone"]),
    (
        "a schema that is not there",
        "DROP SCHEMA unship_r1_m",
        &["fct"],
    ),
    (
        "somebody else's view",
        "CREATE VIEW bi.theirs AS SELECT id FROM m.fct; ALTER VIEW bi.theirs OWNER TO ROLE_stranger; SET ROLE ROLE_builder",
        &["fct"],
    ),
    (
        "no right to move",
        "ALTER TABLE m.fct OWNER TO ROLE_stranger; REVOKE CREATE ON SCHEMA unship_r1_m FROM ROLE_builder; SET ROLE ROLE_builder",
        &["fct"],
    ),
];

#[test]
fn name_everything_in_the_way() {
    let mut all = String::new();
    for (what, setup, names) in CASES {
        let Some(mut db) = Db::new() else { return };
        let (builder, stranger) = (db.role("builder"), db.role("stranger"));
        let names: Vec<Name> = names.iter().map(|n| Name::new("m", *n)).collect();
        db.sql("CREATE SCHEMA m; CREATE SCHEMA bi; CREATE TABLE m.fct (id bigint, amount float)");
        schemas(&mut db, &names, &[1]);
        db.sql("CREATE TABLE unship_build_m.fct AS SELECT 1::bigint AS id, 2.0::float AS amount");
        db.sql(&format!(
            "ALTER TABLE m.fct OWNER TO {builder}; ALTER TABLE unship_build_m.fct OWNER TO {builder};
             GRANT ALL ON SCHEMA m, bi, unship_build_m, unship_r1_m TO {builder}, {stranger}"
        ));
        db.sql(
            &setup
                .replace("ROLE_builder", &builder)
                .replace("ROLE_stranger", &stranger),
        );
        let before = oracle::catalog(&mut db.client, &["m", "bi", "unship_build_m"]).unwrap();
        let refusal = db
            .plan(&publish(&names, 1))
            .expect_err(&format!("{what}: was not refused"));
        let after = oracle::catalog(&mut db.client, &["m", "bi", "unship_build_m"]).unwrap();
        assert_eq!(before, after, "{what}: something was changed");
        let _ = writeln!(all, "# {what}\n{}\n", db.plain(&refusal));
    }
    insta::assert_snapshot!("refusals", all);
}

#[test]
fn a_name_that_postgresql_would_cut_off() {
    let Some(mut db) = Db::new() else { return };
    let long = "a_schema_whose_name_is_so_long_that_nothing_fits_before_it_x";
    let name = Name::new(long, "fct");
    db.sql(&format!(
        "CREATE SCHEMA {long}; CREATE TABLE {long}.fct (id int);
         CREATE SCHEMA unship_build_short; CREATE TABLE unship_build_short.fct (id int)"
    ));
    let mut request = publish(std::slice::from_ref(&name), 12);
    request.moves[1].from = Name::new("unship_build_short", "fct");
    let refusal = db.plan(&request).unwrap_err();
    insta::assert_snapshot!("too_long", refusal);
    assert!(retained(12, &name).schema.len() > 63);
}

#[test]
fn a_lock_table_that_is_too_small() {
    let Some(mut db) = Db::new() else { return };
    db.sql("CREATE SCHEMA m; CREATE TABLE m.fct (id int)");
    let name = Name::new("m", "fct");
    schemas(&mut db, std::slice::from_ref(&name), &[1]);
    crate::db::stage(&mut db, std::slice::from_ref(&name));
    let request = publish(std::slice::from_ref(&name), 1);
    let mut found =
        unship_engines::postgres::swap::survey(&mut db.client, &request.scope()).unwrap();
    found.locks.capacity = 100;
    found.locks.held = 49;
    let refusal = unship_engines::postgres::swap::plan(&found, &request).unwrap_err();
    insta::assert_snapshot!("lock_table", refusal.to_string());
}

#[test]
fn a_view_that_comes_back_without_what_it_reads() {
    let Some(mut db) = Db::new() else { return };
    db.sql(
        "CREATE SCHEMA m; CREATE SCHEMA unship_r1_m; CREATE SCHEMA unship_r2_m;
         CREATE TABLE unship_r1_m.gone AS SELECT 1 AS id;
         CREATE VIEW unship_r1_m.v AS SELECT id FROM unship_r1_m.gone; CREATE VIEW m.v AS SELECT 2 AS id",
    );
    let v = Name::new("m", "v");
    let mut request: Request = publish(std::slice::from_ref(&v), 2);
    request.moves[1].from = Name::new("unship_r1_m", "v");
    assert_ne!(request.moves[1].from, staging(&v));
    insta::assert_snapshot!("stray_view", db.plan(&request).unwrap_err());
}
