//! Which members can be released together, in which order, and what their joined plan says.

use super::*;
use crate::lineage::Lineage;
use crate::testing::memory::{Restoring, Warehouse};

fn member(name: &str, database: &str, reads: &[&str]) -> Member {
    Member {
        name: name.to_owned(),
        databases: BTreeSet::from([database.to_owned()]),
        reads: reads.iter().map(|name| (*name).to_owned()).collect(),
        engine: Box::new(Warehouse::new(&[database], Restoring::Clones).engine()),
    }
}

fn refused(members: Vec<Member>) -> String {
    Estate::new(members).map(drop).unwrap_err().to_string()
}

#[test]
fn sources_come_before_what_reads_them() {
    let estate = Estate::new(vec![
        member("a-report", "d1", &["marts", "extract"]),
        member("extract", "d2", &["lake"]),
        member("lake", "d3", &[]),
        member("marts", "d4", &["lake", "extract"]),
    ])
    .unwrap();
    let names: Vec<_> = estate.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["lake", "extract", "marts", "a-report"]);
    let related = |one, other| order::related(&estate.members, one, other);
    assert!(related("lake", "a-report") && related("a-report", "lake"));
    let two = Estate::new(vec![member("a", "d1", &[]), member("b", "d2", &[])]).unwrap();
    assert!(!order::related(&two.members, "a", "b"));
}

#[test]
fn members_that_cannot_be_released_together_are_refused() {
    for (members, says) in [
        (vec![], "it has no member"),
        (
            vec![member("a b", "d", &[])],
            "`a b` is not a member's name",
        ),
        (vec![member("", "d", &[])], "`` is not a member's name"),
        (
            vec![member("a-b", "d1", &[]), member("a_b", "d2", &[])],
            "`a-b` and `a_b` are the same in the names of a job's environment variables",
        ),
        (
            vec![member("a", "d", &[]), member("b", "d", &[])],
            "`a` and `b` both have the database `d`",
        ),
        (
            vec![member("a", "d1", &["c"]), member("b", "d2", &[])],
            "`a` reads `c`, which is no other member",
        ),
        (
            vec![member("a", "d", &["a"])],
            "`a` reads `a`, which is no other member",
        ),
        (
            vec![
                member("a", "d1", &["b"]),
                member("b", "d2", &["c"]),
                member("c", "d3", &["a"]),
                member("d", "d4", &[]),
            ],
            "a, b, c read each other in a circle",
        ),
    ] {
        let error = refused(members);
        assert!(error.contains(says), "{error}");
    }
}

/// A project whose nodes have these names and databases, and read these.
fn project(nodes: &[(&str, &str, &[&str])]) -> Lineage {
    let node = |(id, database, reads): &(&str, &str, &[&str])| {
        let (kind, _) = id.split_once('.').unwrap();
        let name = id.rsplit('.').next().unwrap();
        let relation_name = (!database.is_empty()).then(|| format!("{database}.s.{name}"));
        let materialized = if database.is_empty() {
            "ephemeral"
        } else {
            "table"
        };
        let value = serde_json::json!({
            "resource_type": kind, "name": name, "database": database, "schema": "s",
            "relation_name": relation_name, "config": { "materialized": materialized },
            "depends_on": { "nodes": reads },
        });
        ((*id).to_owned(), value)
    };
    let (sources, nodes): (Vec<_>, Vec<_>) = nodes
        .iter()
        .map(node)
        .partition(|(id, _)| id.starts_with("source."));
    let manifest = serde_json::json!({
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
        },
        "nodes": nodes.into_iter().collect::<serde_json::Map<_, _>>(),
        "sources": sources.into_iter().collect::<serde_json::Map<_, _>>(),
    });
    let manifest = manifest.to_string();
    Lineage::new(crate::pipeline::dbt::manifest::Manifest::parse(manifest.as_bytes()).unwrap())
}

fn settled(reads: &[&str], nodes: &[(&str, &str, &[&str])]) -> Result<Estate, EstateError> {
    let members = vec![member("extract", "d1", reads), member("marts", "d2", &[])];
    let lineage = project(nodes);
    let mut estate = Estate::new(members)?.with_lineage(move || vec![lineage]);
    estate.settle().map(|()| estate)
}

#[test]
fn dbt_tells_which_member_reads_which() {
    // By their names, the extract would be first. What lies between the two is read through.
    let through: &[(&str, &str, &[&str])] = &[
        ("source.shop.raw.revenue", "d2", &[]),
        ("model.shop.view", "", &["source.shop.raw.revenue"]),
        ("model.shop.top", "d1", &["model.shop.view"]),
        ("source.shop.raw.other", "elsewhere", &[]),
        ("model.shop.more", "d1", &["source.shop.raw.other"]),
    ];
    let said = "extract reads marts (model.shop.top reads source.shop.raw.revenue)";
    let estate = settled(&[], through).unwrap();
    let names: Vec<_> = estate.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["marts", "extract"]);
    let grounds = said::grounds(&estate.members, &estate.derived, &["extract", "marts"]);
    assert_eq!(grounds, format!(". What reads what: {said}"));

    // What is said already needs no grounds.
    let estate = settled(&["marts"], through).unwrap();
    let grounds = said::grounds(&estate.members, &estate.derived, &["extract", "marts"]);
    assert_eq!(grounds, ". What reads what: extract reads marts (`reads`)");

    // What lineage says against it is told, and does not count.
    let against: &[(&str, &str, &[&str])] = &[
        ("source.shop.raw.top", "d1", &[]),
        ("model.shop.revenue", "d2", &["source.shop.raw.top"]),
    ];
    let mut estate = settled(&["marts"], against).unwrap();
    let names: Vec<_> = estate.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["marts", "extract"]);
    let grounds = said::grounds(&estate.members, &estate.derived, &["extract", "marts"]);
    assert!(
        grounds.contains("`reads` says the opposite, and counts"),
        "{grounds}"
    );
    let warned = estate.doctor();
    let warned = warned
        .iter()
        .find(|one| one.level == crate::engine::Level::Warning);
    assert!(
        warned
            .unwrap()
            .finding
            .contains("marts reads extract (model.shop.revenue reads")
    );
}

#[test]
fn a_circle_that_only_lineage_knows_is_refused_with_its_models() {
    let circle: &[(&str, &str, &[&str])] = &[
        ("model.shop.a", "d1", &["model.shop.b"]),
        ("model.shop.b", "d2", &["model.shop.c"]),
        ("model.shop.c", "d1", &[]),
    ];
    let error = settled(&[], circle).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("marts reads extract (model.shop.b reads model.shop.c)"),
        "{error}"
    );
    assert!(
        error.contains("extract reads marts (model.shop.a reads model.shop.b)"),
        "{error}"
    );
    // A person's word ends it.
    settled(&["marts"], circle).unwrap();
    // Only what is planned needs an order.
    let members = vec![member("extract", "d1", &[]), member("marts", "d2", &[])];
    let mut estate = Estate::new(members)
        .unwrap()
        .with_lineage(|| vec![project(circle)]);
    assert!(estate.mark().is_ok());
    for _ in 0..2 {
        let refused = estate.survey(ReleaseId(1), &BTreeSet::new()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Refused);
    }
}

#[test]
fn an_error_says_of_which_member_it_is() {
    let mut estate = Estate::new(vec![member("lake", "d1", &[]), member("marts", "d2", &[])]);
    let estate = estate.as_mut().unwrap();
    let error = estate.fact("marts: file nowhere").unwrap_err();
    assert!(error.message.starts_with("marts: "), "{error}");
    let stranger = RelationName::new("d3", "s", "t");
    let error = estate.changes(&stranger, 1).unwrap_err();
    assert!(
        error
            .message
            .contains("no member of this environment has the database d3")
    );
    for (plan, says) in [
        ("file nowhere", "which is of no member"),
        ("gone: file nowhere", "no member `gone`"),
    ] {
        let error = estate.fact(plan).unwrap_err();
        assert!(error.message.contains(says), "{error}");
    }
}

#[test]
fn a_query_says_which_member_it_asks() {
    let mut estate = Estate::new(vec![member("lake", "d1", &[]), member("marts", "d2", &[])]);
    let estate = estate.as_mut().unwrap();
    let mut at = |database: &str| {
        let name = RelationName::new(database, "s", "t");
        estate.address(crate::engine::Place::Live, &name).unwrap()
    };
    let (lake, marts) = (at("d1"), at("d2"));
    let mut ask = |sql: &str| {
        let patience = std::time::Duration::from_secs(1);
        let answer = estate.query(crate::engine::Place::Live, sql, 1, patience);
        answer.unwrap_err().to_string()
    };
    // A warehouse in memory knows no SQL, and says which one was asked.
    assert!(ask(&format!("SELECT * FROM {marts}")).starts_with("marts: "));
    assert!(ask(&format!("SELECT * FROM {lake} JOIN {marts}")).contains("no engine reads both"));
    assert!(ask("SELECT 1").contains("does not say which member"));
}

/// What an engine answers unless it says otherwise would be an estate's answer, too, if it did not ask
/// its members: whoever adds to the trait has to say here what an estate does.
#[test]
fn an_estate_asks_its_members_whatever_there_is_to_ask() {
    // dbt's package keeps its table in one warehouse, and which one is not known.
    const LEFT_OUT: &[&str] = &["record_release"];
    let (_, methods) = include_str!("../engine.rs")
        .split_once("pub trait Engine {")
        .unwrap();
    let (methods, _) = methods.split_once("\n}").unwrap();
    let names = methods
        .lines()
        .filter_map(|line| line.strip_prefix("    fn ")?.split_once('('));
    let names: BTreeSet<&str> = names.map(|(name, _)| name).collect();
    assert!(
        names.contains("apply") && names.contains("proving"),
        "{names:?}"
    );
    let ours = include_str!("engine.rs");
    let (_, ours) = ours.split_once("impl Engine for Estate {").unwrap();
    let missing =
        |name: &&str| !ours.contains(&format!("    fn {name}(")) && !LEFT_OUT.contains(name);
    let missing: Vec<_> = names.into_iter().filter(missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
