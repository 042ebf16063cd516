//! Keys, other constraints and indexes: what a new table takes over, and what comes back with an
//! old one.

use super::access::comment_on;
use super::carry::gone;
use super::model::{Constraint, Kind, Name, Relation};
use super::names::quoted;
use super::plan::Planner;
use std::collections::BTreeSet;

/// Constraints and indexes, and what is said of them.
pub(super) fn carry(p: &mut Planner<'_>, old: &Relation, new: &Relation, to: &Name) {
    let at = new.at().sql();
    let mut made = BTreeSet::new();
    for constraint in old.constraints.iter().filter(|c| !c.inherited) {
        let same = |n: &&Constraint| {
            n.kind == constraint.kind
                && (n.name == constraint.name || n.definition == constraint.definition)
        };
        if matches!(constraint.kind.as_str(), "n" | "t") || new.constraints.iter().any(|n| same(&n))
        {
            continue;
        }
        if p.request.leave.contains(&constraint.name) {
            p.warn(format!(
                "{to}: {} is left behind, as asked for.",
                constraint.name
            ));
            continue;
        }
        if let Some(gone) = gone(&constraint.columns, new) {
            p.warn(format!(
                "{to}: {} needs column {gone}, which is gone, and is not carried.",
                constraint.name
            ));
            continue;
        }
        let add = format!(
            "ALTER TABLE {at} ADD CONSTRAINT {} {}",
            quoted(&constraint.name),
            constraint.definition
        );
        if constraint.kind == "f" {
            foreign_key(p, constraint, new, to);
            continue;
        }
        if constraint.kind != "c" && !p.claim(new, "relation", &constraint.name) {
            p.warn(format!(
                "{to}: {} is not carried: something beside the new version has that name.",
                constraint.name
            ));
            continue;
        }
        p.prepare.push(add);
        made.insert(constraint.name.as_str());
        if let Some(comment) = &constraint.comment {
            p.prepare.push(comment_on(
                &format!("CONSTRAINT {} ON {at}", quoted(&constraint.name)),
                comment,
            ));
        }
    }
    for index in old.indexes.iter().filter(|i| !i.inherited) {
        let tail = index.definition.strip_prefix(&index.prefix);
        let there = new.indexes.iter().any(|n| {
            n.name == index.name
                || (n.definition.strip_prefix(&n.prefix).is_some()
                    && n.definition.strip_prefix(&n.prefix) == tail)
        });
        if !index.constraint && !there {
            if let Some(gone) = gone(&index.columns, new) {
                p.warn(format!(
                    "{to}: index {} needs column {gone}, which is gone, and is not carried.",
                    index.name
                ));
                continue;
            }
            let Some(tail) = tail.filter(|_| index.valid) else {
                p.warn(format!(
                    "{to}: index {} is not carried: it is not valid.",
                    index.name
                ));
                continue;
            };
            if !p.claim(new, "relation", &index.name) {
                p.warn(format!(
                    "{to}: index {} is not carried: something beside the new version has that name.",
                    index.name
                ));
                continue;
            }
            p.prepare.push(format!(
                "CREATE {}INDEX {} ON {at} USING {tail}",
                if index.prefix.starts_with("CREATE UNIQUE") {
                    "UNIQUE "
                } else {
                    ""
                },
                quoted(&index.name),
            ));
            made.insert(&index.name);
        }
        if !made.contains(index.name.as_str()) {
            continue;
        }
        let name = Name::new(&*new.schema, &*index.name).sql();
        if let (Some(comment), false) = (&index.comment, index.constraint) {
            p.prepare
                .push(comment_on(&format!("INDEX {name}"), comment));
        }
        for (number, target) in &index.statistics {
            p.prepare.push(format!(
                "ALTER INDEX {name} ALTER COLUMN {number} SET STATISTICS {target}"
            ));
        }
        if index.clustered {
            p.prepare.push(format!(
                "ALTER TABLE {at} CLUSTER ON {}",
                quoted(&index.name)
            ));
        }
        if index.replica_identity && new.replica_identity == "d" {
            p.prepare.push(format!(
                "ALTER TABLE {at} REPLICA IDENTITY USING INDEX {}",
                quoted(&index.name)
            ));
        }
    }
    match (old.replica_identity.as_str(), new.replica_identity.as_str()) {
        ("f", "d") => p
            .prepare
            .push(format!("ALTER TABLE {at} REPLICA IDENTITY FULL")),
        ("n", "d") => p
            .prepare
            .push(format!("ALTER TABLE {at} REPLICA IDENTITY NOTHING")),
        _ => {}
    }
}

/// A foreign key to something that is replaced too is made and checked beforehand; one to something
/// that stays is made with the move, unchecked, and checked afterwards.
fn foreign_key(p: &mut Planner<'_>, key: &Constraint, new: &Relation, to: &Name) {
    let (Some(target), Some(prefix), Some(written)) = (key.foreign, &key.prefix, &key.target)
    else {
        return;
    };
    let Some(rest) = key
        .definition
        .strip_prefix(prefix.as_str())
        .and_then(|d| d.strip_prefix(written.as_str()))
    else {
        p.warn(format!("{to}: foreign key {} is not carried.", key.name));
        return;
    };
    let comment = |at: &Name| {
        key.comment.as_ref().map(|comment| {
            comment_on(
                &format!("CONSTRAINT {} ON {}", quoted(&key.name), at.sql()),
                comment,
            )
        })
    };
    if let Some(with) = p.replacement(target) {
        let Some(there) = p.survey.relations.get(&with).filter(|r| r.kind.is_table()) else {
            p.warn(format!(
                "{to}: foreign key {} is not carried: what it refers to is no table any more.",
                key.name
            ));
            return;
        };
        p.keys.push(format!(
            "ALTER TABLE {} ADD CONSTRAINT {} {prefix}{}{rest}",
            new.at().sql(),
            quoted(&key.name),
            there.at().sql()
        ));
        p.keys.extend(comment(&new.at()));
    } else if p.place_after(target).is_some() {
        p.warn(format!(
            "{to}: foreign key {} is not carried: {written} is taken away.",
            key.name
        ));
    } else if new.kind == Kind::Partitioned {
        p.warn(format!(
            "{to}: foreign key {} is not carried: on a partitioned table it could only be checked while everybody waits.",
            key.name
        ));
    } else {
        let unchecked = if rest.ends_with(" NOT VALID") {
            ""
        } else {
            " NOT VALID"
        };
        if let Some(name) = p.place_now(target) {
            p.lock_as.entry(name).or_insert("SHARE ROW EXCLUSIVE");
        }
        p.post.push(format!(
            "ALTER TABLE {} ADD CONSTRAINT {} {prefix}{written}{rest}{unchecked}",
            to.sql(),
            quoted(&key.name)
        ));
        p.post.extend(comment(to));
        if !unchecked.is_empty() {
            p.afterwards.push(format!(
                "ALTER TABLE {} VALIDATE CONSTRAINT {}",
                to.sql(),
                quoted(&key.name)
            ));
        }
    }
}

/// What comes back has lost its foreign keys to what stayed in production. The live version took
/// them over when this one left.
pub(super) fn of_live(p: &mut Planner<'_>, live: &Relation, back: &Relation, to: &Name) {
    let given: BTreeSet<&str> = p
        .request
        .keys
        .iter()
        .filter(|k| k.relation == back.at())
        .map(|k| k.name.as_str())
        .collect();
    for key in live
        .constraints
        .iter()
        .filter(|c| c.kind == "f" && !c.inherited)
    {
        let stays = key.foreign.is_some_and(|t| p.place_after(t).is_none());
        let has = back
            .constraints
            .iter()
            .any(|n| n.name == key.name || n.definition == key.definition);
        if stays && !has && !given.contains(key.name.as_str()) && gone(&key.columns, back).is_none()
        {
            foreign_key(p, key, back, to);
        }
    }
}

/// Foreign keys that were written down when a version left.
pub(super) fn come_back(p: &mut Planner<'_>) {
    for key in &p.request.keys {
        let Some(one) = p.request.moves.iter().find(|m| m.from == key.relation) else {
            continue;
        };
        let unchecked = key.definition.ends_with(" NOT VALID");
        let partitioned = p
            .going
            .values()
            .any(|g| g.relation.at() == one.from && g.relation.kind == Kind::Partitioned);
        p.lock_as
            .entry(key.target.clone())
            .or_insert("SHARE ROW EXCLUSIVE");
        let (at, name) = (one.to.sql(), quoted(&key.name));
        p.post.push(format!(
            "ALTER TABLE {at} ADD CONSTRAINT {name} {}{}",
            key.definition,
            if unchecked || partitioned {
                ""
            } else {
                " NOT VALID"
            }
        ));
        if let Some(comment) = &key.comment {
            p.post
                .push(comment_on(&format!("CONSTRAINT {name} ON {at}"), comment));
        }
        if !unchecked && !partitioned {
            p.afterwards
                .push(format!("ALTER TABLE {at} VALIDATE CONSTRAINT {name}"));
        }
    }
}
