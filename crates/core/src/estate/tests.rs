//! Which members can be released together, in which order, and what their joined plan says.

use super::*;
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
