//! What a new relation takes over from the one that it replaces.
//!
//! What PostgreSQL writes with the table's own name in it (triggers, rules, policies) is replayed
//! after the move, when that name is the new relation's. What scans rows (keys, indexes, `NOT
//! NULL`) is done beforehand, on the new relation alone, where nobody waits for it.

use super::access::{self, comment_on};
use super::keys;
use super::model::{Column, Grant, Kind, Name, Relation, Sequence};
use super::names::{is_ours, literal, quoted};
use super::plan::Planner;
use super::request::{Access, Rights, Withdrawn};
use crate::postgres::writers;
use std::collections::BTreeSet;

/// Carries everything from `old` to `new`, which goes to `to`. What comes back from a retained
/// schema is complete in itself: it takes over access that was given meanwhile, its place in
/// publications and the sequences' positions, and nothing else.
pub(super) fn carry(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name) {
    let returns = is_ours(&new.schema) && !new.schema.starts_with("unship_build_");
    let shape = |r: &Relation| -> Vec<(String, String)> {
        let pair = |c: &Column| (c.name.clone(), c.of.clone());
        r.columns.iter().map(pair).collect()
    };
    if shape(old) != shape(new) {
        p.reshaped.insert(to.clone());
    }
    match p.access.get(&new.oid).copied() {
        Some(known) => access_back(p, old, new, to, known),
        None => access_of(p, old, new, to, returns),
    }
    publications(p, old, new, to);
    if old.kind.is_table() && new.kind.is_table() {
        row_security(p, old, new, to, returns);
        positions(p, old, new, to);
        if returns {
            keys::of_live(p, old, new, to);
        } else {
            columns(p, old, new, to);
            keys::carry(p, old, new, to);
            attached(p, old, new, to);
        }
    } else if !returns {
        becomes(p, old, new, to);
    }
    if !returns {
        storage(p, old, new, to);
        p.post.extend(access::labels(old, to));
    }
    // Whether that may be done was asked when the old one was found to move.
    if old.owner != new.owner && !returns {
        p.owners.push(format!(
            "ALTER {} {} OWNER TO {}",
            new.kind.sql(),
            to.sql(),
            quoted(&old.owner)
        ));
    }
}

fn access_of(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name, returns: bool) {
    let at = new.at().sql();
    let missing = access::lacking(old.grants.as_ref(), new.grants.as_ref(), &old.owner);
    // What was retained could not be written to, and gets that back.
    let told = |g: &&Grant| !(returns && writers::writes(g));
    let who: BTreeSet<String> = missing.iter().filter(told).map(for_whom).collect();
    let who = who.into_iter().collect::<Vec<_>>().join(", ");
    if returns && !who.is_empty() {
        p.note(format!(
            "{to}: access that it did not have when it was retained stays: {who}. Revoke what only \
             the version that gives way should have given."
        ));
    } else if !who.is_empty() && new.grants.as_ref().is_some_and(|g| !g.is_empty()) {
        p.note(format!(
            "{to}: its new version came with grants of its own; kept besides: {who}."
        ));
    }
    p.prepare
        .extend(access::grants(&missing, None, &format!("TABLE {at}")));
    for column in &old.columns {
        let Some(wanted) = &column.grants else {
            continue;
        };
        match new.column(&column.name) {
            Some(there) => {
                let missing = access::lacking(Some(wanted), there.grants.as_ref(), &old.owner);
                p.prepare.extend(access::grants(
                    &missing,
                    Some(&column.name),
                    &format!("TABLE {at}"),
                ));
            }
            None => {
                let who: BTreeSet<&str> = wanted
                    .iter()
                    .map(|g| g.to.as_deref().unwrap_or("everybody"))
                    .collect();
                p.warn(format!(
                    "{to}: column {} is gone, and with it what was granted on it to {}.",
                    column.name,
                    who.into_iter().collect::<Vec<_>>().join(", ")
                ));
            }
        }
    }
}

/// Access to what comes back: its own, with what people granted and revoked since the relation that
/// gives way became production. What came with that relation goes with it.
fn access_back(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name, known: &Access) {
    let none = BTreeSet::new();
    let on = format!("TABLE {}", new.at().sql());
    let mut stays = BTreeSet::new();
    let mut goes = BTreeSet::new();
    let columns = old.columns.iter().filter(|c| new.column(&c.name).is_some());
    for column in std::iter::once(None).chain(columns.map(|c| Some(&*c.name))) {
        let of = |relation: &'_ Relation| -> BTreeSet<Grant> {
            let grants = match column {
                None => relation.grants.clone(),
                Some(name) => relation.column(name).and_then(|c| c.grants.clone()),
            };
            grants.unwrap_or_default()
        };
        let recorded = |rights: &'_ Rights| -> BTreeSet<Grant> {
            match column {
                None => rights.all.clone(),
                Some(name) => rights.columns.get(name).unwrap_or(&none).clone(),
            }
        };
        let (was, is) = (of(old), of(new));
        let (own, given) = (recorded(&known.own), recorded(&known.given));
        let has = |all: &BTreeSet<Grant>, one: &Grant| {
            all.iter()
                .any(|g| g.to == one.to && g.privilege == one.privilege)
        };
        let since: BTreeSet<Grant> = was.difference(&given).cloned().collect();
        let mut wanted: BTreeSet<Grant> = own.into_iter().filter(writers::writes).collect();
        // A right that a person took away is not given back by going back.
        wanted.retain(|grant| !has(&given, grant) || has(&was, grant));
        wanted.extend(since.iter().cloned());
        let missing = access::lacking(Some(&wanted), Some(&is), &old.owner);
        p.prepare.extend(access::grants(&missing, column, &on));
        let revoked: BTreeSet<Grant> = is
            .iter()
            .filter(|grant| has(&given, grant) && !has(&was, grant))
            .cloned()
            .collect();
        p.prepare.extend(access::revokes(&revoked, column, &on));
        stays.extend(missing.intersection(&since).map(for_whom));
        for grant in &was {
            let own_role = grant.to.as_deref() == Some(&*old.owner);
            if own_role || has(&is, grant) || has(&wanted, grant) {
                continue;
            }
            goes.insert(for_whom(grant));
            if column.is_none() {
                p.withdrawn.push(Withdrawn {
                    relation: old.oid,
                    to: grant.to.clone(),
                    privilege: grant.privilege.clone(),
                });
            }
        }
    }
    let list = |all: BTreeSet<String>| all.into_iter().collect::<Vec<_>>().join(", ");
    if !stays.is_empty() {
        p.note(format!("{to}: granted since, and stays: {}.", list(stays)));
    }
    if !goes.is_empty() {
        p.note(format!(
            "{to}: came with the version that gives way, and goes with it: {}.",
            list(goes)
        ));
    }
}

fn for_whom(grant: &Grant) -> String {
    let role = grant.to.as_deref().unwrap_or("everybody");
    format!("{} for {role}", grant.privilege)
}

/// Row security that production has must be there when the rows are.
fn row_security(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name, returns: bool) {
    if returns && new.row_security {
        return;
    }
    for policy in &old.policies {
        if new.policies.iter().any(|n| n.name == policy.name) {
            continue;
        }
        if let Some(gone) = gone(&policy.columns, new) {
            p.obstacle(
                format!("policy {} of {to}", policy.name),
                format!("decides by column {gone}, which the new version does not have"),
                "Without it rows would be exposed. Keep the column, or drop the policy first."
                    .to_owned(),
            );
            continue;
        }
        p.post.extend(access::create_policy(policy, to));
    }
    if old.row_security && !new.row_security {
        p.post.push(format!(
            "ALTER TABLE {} ENABLE ROW LEVEL SECURITY",
            to.sql()
        ));
    }
    if old.force_row_security && !new.force_row_security {
        p.post
            .push(format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY", to.sql()));
    }
}

/// A column that is used and that the new relation lacks.
pub(super) fn gone<'a>(used: &'a [String], new: &Relation) -> Option<&'a str> {
    used.iter()
        .find(|c| new.column(c).is_none())
        .map(String::as_str)
}

fn publications(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name) {
    for publication in &old.publications {
        let name = quoted(&publication.name);
        if !new.kind.is_table() {
            p.warn(format!(
                "{to}: is a {} now and leaves publication {}.",
                new.kind.word(),
                publication.name
            ));
        } else if !new.publications.iter().any(|n| n.name == publication.name) {
            let columns = publication.columns.as_ref().map_or_else(String::new, |c| {
                let c: Vec<String> = c.iter().map(|c| quoted(c)).collect();
                format!(" ({})", c.join(", "))
            });
            let rows = access::clause("WHERE", publication.rows.as_deref());
            p.post.push(format!(
                "ALTER PUBLICATION {name} ADD TABLE {}{columns}{rows}",
                to.sql()
            ));
            p.warn(format!(
                "{to}: publication {} goes on with the new version. Its rows are not sent: each subscriber needs ALTER SUBSCRIPTION … REFRESH PUBLICATION, and its copy made anew.",
                publication.name
            ));
        }
        if let Some(away) = p.place_after(old.oid) {
            p.post.push(format!(
                "ALTER PUBLICATION {name} DROP TABLE {}",
                away.sql()
            ));
        }
    }
}

/// Sequences go on where production's stood, or where they stood themselves if that is further: a
/// number that was handed out is not handed out again.
fn positions(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name) {
    for sequence in &old.sequences {
        if let Some(same) = new.sequences.iter().find(|s| s.column == sequence.column) {
            position(p, old, sequence, &Name::new(&*to.schema, &*same.name));
        }
    }
}

fn position(p: &mut Planner<'_>, old: &Relation, sequence: &Sequence, to: &Name) {
    let away = p.place_after(old.oid).map_or_else(
        || sequence.at(),
        |place| {
            if sequence.schema == old.schema {
                Name::new(place.schema, &*sequence.name)
            } else {
                sequence.at()
            }
        },
    );
    let further = if sequence.increment < 0 { "<" } else { ">" };
    p.late.push(format!(
        "SELECT pg_catalog.setval({}, o.last_value, o.is_called) FROM {} o, {} n WHERE o.last_value {further} n.last_value OR (o.last_value = n.last_value AND o.is_called AND NOT n.is_called)",
        literal(&to.sql()),
        away.sql(),
        to.sql(),
    ));
}

fn columns(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name) {
    let at = new.at().sql();
    for was in &old.columns {
        let Some(is) = new.column(&was.name) else {
            continue;
        };
        let alter = format!("ALTER TABLE {at} ALTER COLUMN {}", quoted(&was.name));
        if was.not_null && !is.not_null {
            p.prepare.push(format!("{alter} SET NOT NULL"));
        }
        let bare = is.default.is_none() && is.identity.is_none() && is.generated.is_none();
        let own = old
            .sequences
            .iter()
            .find(|s| s.column == was.name && s.schema == old.schema);
        if was.generated.is_some() {
            if is.generated.is_none() {
                p.warn(format!(
                    "{to}: column {} was computed from the others and holds plain data now.",
                    was.name
                ));
            }
        } else if let (Some(identity), true) = (&was.identity, bare) {
            if let Some(sequence) = own {
                let made = Name::new(&*new.schema, &*sequence.name);
                p.prepare.push(format!(
                    "{alter} ADD GENERATED {} AS IDENTITY (SEQUENCE NAME {} {})",
                    if identity == "a" {
                        "ALWAYS"
                    } else {
                        "BY DEFAULT"
                    },
                    made.sql(),
                    sequence.settings()
                ));
                p.sequence_made(sequence, new, &made);
                position(p, old, sequence, &Name::new(&*to.schema, &*sequence.name));
            }
        } else if let (Some(default), true) = (&was.default, bare) {
            match own {
                Some(sequence) => {
                    let made = Name::new(&*new.schema, &*sequence.name);
                    p.prepare.push(format!(
                        "CREATE SEQUENCE {} AS {} {} OWNED BY {at}.{}",
                        made.sql(),
                        sequence.of,
                        sequence.settings(),
                        quoted(&was.name)
                    ));
                    p.prepare.push(format!(
                        "{alter} SET DEFAULT pg_catalog.nextval({}::pg_catalog.regclass)",
                        literal(&made.sql())
                    ));
                    p.sequence_made(sequence, new, &made);
                    position(p, old, sequence, &Name::new(&*to.schema, &*sequence.name));
                }
                None if was.of == is.of => {
                    p.prepare.push(format!("{alter} SET DEFAULT {default}"));
                }
                None => p.warn(format!(
                    "{to}: column {} is {} now and was {}: its default {default} is not carried.",
                    was.name, is.of, was.of
                )),
            }
        }
        if was.statistics >= 0 && is.statistics < 0 {
            p.prepare
                .push(format!("{alter} SET STATISTICS {}", was.statistics));
        }
        if was.of == is.of {
            if let (Some(storage), None) = (&was.storage, &is.storage) {
                p.prepare.push(format!("{alter} SET STORAGE {storage}"));
            }
            if let (Some(compression), None) = (&was.compression, &is.compression) {
                p.prepare
                    .push(format!("{alter} SET COMPRESSION {compression}"));
            }
        }
        if !was.options.is_empty() && is.options.is_empty() {
            let options: Vec<String> = was.options.iter().map(|o| access::option(o)).collect();
            p.prepare
                .push(format!("{alter} SET ({})", options.join(", ")));
        }
    }
}

/// Triggers, rules, extended statistics.
fn attached(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name) {
    for (word, of_old, of_new) in [
        ("TRIGGER", &old.triggers, &new.triggers),
        ("RULE", &old.rules, &new.rules),
    ] {
        for one in of_old.iter().filter(|t| !t.inherited) {
            if of_new.iter().any(|n| n.name == one.name) {
                continue;
            }
            let what = word.to_lowercase();
            if let Some(gone) = gone(&one.columns, new) {
                p.warn(format!(
                    "{to}: {what} {} needs column {gone}, which is gone, and is not carried.",
                    one.name
                ));
                continue;
            }
            p.post.push(one.definition.trim_end_matches(';').to_owned());
            let enabled = match one.enabled.as_str() {
                "D" => Some("DISABLE"),
                "R" => Some("ENABLE REPLICA"),
                "A" => Some("ENABLE ALWAYS"),
                _ => None,
            };
            if let Some(enabled) = enabled {
                p.post.push(format!(
                    "ALTER TABLE {} {enabled} {word} {}",
                    to.sql(),
                    quoted(&one.name)
                ));
            }
            if let Some(comment) = &one.comment {
                p.post.push(comment_on(
                    &format!("{word} {} ON {}", quoted(&one.name), to.sql()),
                    comment,
                ));
            }
        }
    }
    for statistics in &old.statistics {
        let from = format!(" FROM {}", old.sql);
        let body = statistics
            .definition
            .strip_prefix("CREATE STATISTICS ")
            .and_then(|d| d.strip_prefix(statistics.sql.as_str()))
            .and_then(|d| d.strip_suffix(from.as_str()));
        let there = new.statistics.iter().any(|n| n.name == statistics.name);
        if there {
            continue;
        }
        let (Some(body), None, true) = (
            body,
            gone(&statistics.columns, new),
            statistics.schema == old.schema,
        ) else {
            p.warn(format!(
                "{to}: extended statistics {}.{} stay with the old version.",
                statistics.schema, statistics.name
            ));
            continue;
        };
        if !p.claim(new, "statistics", &statistics.name) {
            p.warn(format!(
                "{to}: extended statistics {} are not carried: something beside the new version has that name.",
                statistics.name
            ));
            continue;
        }
        let at = Name::new(&*new.schema, &*statistics.name);
        p.prepare.push(format!(
            "CREATE STATISTICS {}{body} FROM {}",
            at.sql(),
            new.at().sql()
        ));
        if statistics.target >= 0 {
            p.prepare.push(format!(
                "ALTER STATISTICS {} SET STATISTICS {}",
                at.sql(),
                statistics.target
            ));
        }
        if let Some(comment) = &statistics.comment {
            p.prepare
                .push(comment_on(&format!("STATISTICS {}", at.sql()), comment));
        }
        p.statistics_made.push((at, to.schema.clone()));
    }
}

/// Comments, options, and what cannot be altered without writing every row anew.
fn storage(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name) {
    let at = new.at().sql();
    if let (Some(comment), None) = (&old.comment, &new.comment) {
        p.prepare
            .push(comment_on(&format!("{} {at}", new.kind.sql()), comment));
    }
    for column in &old.columns {
        let lacks = new
            .column(&column.name)
            .is_some_and(|c| c.comment.is_none());
        if let (Some(comment), true) = (&column.comment, lacks) {
            p.prepare.push(comment_on(
                &format!("COLUMN {at}.{}", quoted(&column.name)),
                comment,
            ));
        }
    }
    if old.kind == new.kind {
        let key = |o: &str| o.split('=').next().unwrap_or_default().to_owned();
        let has: BTreeSet<String> = new.options.iter().map(|o| key(o)).collect();
        let missing: Vec<String> = old
            .options
            .iter()
            .filter(|o| !has.contains(&key(o)))
            .map(|o| access::option(o))
            .collect();
        if !missing.is_empty() {
            p.prepare.push(format!(
                "ALTER {} {at} SET ({})",
                new.kind.sql(),
                missing.join(", ")
            ));
        }
        let default = |t: &Option<String>| t.clone().unwrap_or_else(|| "the default".to_owned());
        if old.tablespace != new.tablespace {
            p.warn(format!(
                "{to}: lies in tablespace {} now and lay in {}.",
                default(&new.tablespace),
                default(&old.tablespace)
            ));
        }
        if old.access_method != new.access_method && old.kind != Kind::Partitioned {
            p.warn(format!(
                "{to}: is stored by access method {} now and was by {}.",
                default(&new.access_method),
                default(&old.access_method)
            ));
        }
        if old.persistence != new.persistence {
            p.warn(format!(
                "{to}: is {} now: {}.",
                if new.persistence == "u" {
                    "unlogged"
                } else {
                    "logged"
                },
                if new.persistence == "u" {
                    "a crash of the server empties it"
                } else {
                    "the old version was unlogged"
                }
            ));
        }
        if let (Some(of), None) = (&old.of_type, &new.of_type) {
            p.warn(format!(
                "{to}: was a table of type {of} and is an ordinary table now."
            ));
        }
    }
}

/// The new version is another kind of relation: what has no place on it is named.
fn becomes(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name) {
    if old.kind == new.kind {
        if old.kind == Kind::Materialized {
            keys::carry(p, old, new, to);
        }
        if old.kind == Kind::View {
            let at = new.at().sql();
            for column in &old.columns {
                let lacks = new
                    .column(&column.name)
                    .is_some_and(|c| c.default.is_none());
                if let (Some(default), true) = (&column.default, lacks) {
                    p.prepare.push(format!(
                        "ALTER VIEW {at} ALTER COLUMN {} SET DEFAULT {default}",
                        quoted(&column.name)
                    ));
                }
            }
            attached(p, old, new, to);
        }
        return;
    }
    let mut lost: Vec<String> = Vec::new();
    // From version 18 on NOT NULL is a constraint of its own; what a column may hold is said of it.
    let constraints = old.constraints.iter().filter(|c| c.kind != "n");
    lost.extend(constraints.map(|c| c.name.clone()));
    lost.extend(
        old.indexes
            .iter()
            .filter(|i| !i.constraint)
            .map(|i| i.name.clone()),
    );
    lost.extend(old.triggers.iter().map(|t| t.name.clone()));
    lost.extend(old.rules.iter().map(|t| t.name.clone()));
    lost.extend(old.statistics.iter().map(|t| t.name.clone()));
    if old.row_security {
        p.obstacle(
            to.to_string(),
            format!(
                "has row security, and its new version is a {}, which cannot have it",
                new.kind.word()
            ),
            "Rows would be exposed. Build it as a table, or take row security off first."
                .to_owned(),
        );
    }
    if !lost.is_empty() {
        p.warn(format!(
            "{to}: is a {} now and was a {}; it does without {}.",
            new.kind.word(),
            old.kind.word(),
            lost.join(", ")
        ));
    }
}
