//! What stays in production and is bound, by identity, to a relation that leaves.
//!
//! Names do not help: a view reads the table that it was made over, wherever that lies now. Each
//! dependent is bound anew to what takes the old relation's place, or it is named and in the way.

use super::access;
use super::model::{Dependent, Kind, Name, Relation};
use super::names::{is_ours, quoted};
use super::plan::Planner;
use super::request::LeftKey;
use std::collections::{BTreeMap, BTreeSet};

/// What a person calls it: PostgreSQL says `rule _RETURN on view v` where only the view counts.
fn called(what: &str) -> String {
    what.strip_prefix("rule _RETURN on ")
        .unwrap_or(what)
        .to_owned()
}

/// Plans for everything that depends on what leaves.
pub(super) fn plan(p: &mut Planner<'_>) {
    let mut repoint: BTreeSet<u32> = BTreeSet::new();
    let mut policies: BTreeMap<u32, &Dependent> = BTreeMap::new();
    let mut functions: BTreeMap<u32, &Dependent> = BTreeMap::new();
    let mut rules: BTreeMap<u32, &Dependent> = BTreeMap::new();
    let mut keys: BTreeMap<u32, &Dependent> = BTreeMap::new();
    let mut anew: BTreeMap<u32, &Dependent> = BTreeMap::new();
    let survey = p.survey;
    for one in &survey.dependents {
        if !p.leaves(one.on) || one.relation.is_some_and(|r| p.leaves(r)) {
            continue;
        }
        let coming = one.relation.is_some_and(|r| p.arrives(r));
        if !coming && one.place.as_ref().is_some_and(|n| is_ours(&n.schema)) {
            continue;
        }
        let Some(old) = survey.relations.get(&one.on) else {
            continue;
        };
        let Some(new) = p
            .replacement(old.oid)
            .and_then(|o| survey.relations.get(&o))
        else {
            p.obstacle(
                called(&one.what),
                format!("depends on {}, which goes away", old.at()),
                "Drop it first, or keep the relation.".to_owned(),
            );
            continue;
        };
        let used = old.columns.iter().find(|c| c.number == one.column);
        if let Some(used) = used.filter(|u| new.column(&u.name).is_none()) {
            p.obstacle(
                called(&one.what),
                format!(
                    "uses column {} of {}, which the new version does not have",
                    used.name,
                    old.at()
                ),
                "Drop it first, change it so that it does without, or keep the column.".to_owned(),
            );
            continue;
        }
        let retyped = used.is_some_and(|u| {
            new.column(&u.name)
                .is_some_and(|n| n.of != u.of || n.collation != u.collation)
        });
        bind(
            p,
            one,
            old,
            retyped,
            &mut Found {
                repoint: &mut repoint,
                policies: &mut policies,
                functions: &mut functions,
                rules: &mut rules,
                keys: &mut keys,
                anew: &mut anew,
            },
        );
    }
    for key in keys.values() {
        rebind_key(p, key);
    }
    views(p, &repoint);
    for rule in rules.values() {
        if let Some(definition) = &rule.definition {
            p.lock_too.extend(rule.relation);
            let anew = definition.replacen("CREATE RULE", "CREATE OR REPLACE RULE", 1);
            p.views.push(anew.trim_end_matches(';').to_owned());
        }
    }
    for policy in policies.values() {
        if let Some(place) = &policy.place {
            p.lock_too.extend(policy.relation);
            p.views.push(format!(
                "ALTER POLICY {} ON {}{}{}",
                quoted(&policy.name),
                place.sql(),
                access::clause("USING", policy.sees.as_deref()),
                access::clause("WITH CHECK", policy.check.as_deref())
            ));
        }
    }
    for function in anew.values() {
        remake(p, function);
    }
    for function in functions.values().filter(|f| !anew.contains_key(&f.oid)) {
        if let Some(definition) = &function.definition {
            p.views
                .push(definition.trim_end().trim_end_matches(';').to_owned());
        }
    }
    strays(p);
    held(p);
}

/// A foreign key of a version that is retained would go on guarding what it refers to: rows there
/// could not be deleted, or would take retained rows with them.
fn held(p: &mut Planner<'_>) {
    let survey = p.survey;
    for relation in survey.relations.values().filter(|r| r.kind.is_table()) {
        let Some(away) = p
            .place_after(relation.oid)
            .filter(|_| p.leaves(relation.oid))
        else {
            continue;
        };
        for key in &relation.constraints {
            let stays = key
                .foreign
                .filter(|t| !p.going.contains_key(t))
                .and_then(|t| p.place_now(t))
                .filter(|n| !is_ours(&n.schema));
            let (Some(target), false) = (stays, key.inherited) else {
                continue;
            };
            p.drops.push(format!(
                "ALTER TABLE {} DROP CONSTRAINT {}",
                relation.at().sql(),
                quoted(&key.name)
            ));
            p.lock_as.insert(target.clone(), "ACCESS EXCLUSIVE");
            p.left_keys.push(LeftKey {
                relation: away.clone(),
                name: key.name.clone(),
                definition: key.definition.clone(),
                target,
                comment: key.comment.clone(),
            });
        }
    }
}

struct Found<'a, 'b> {
    repoint: &'a mut BTreeSet<u32>,
    policies: &'a mut BTreeMap<u32, &'b Dependent>,
    functions: &'a mut BTreeMap<u32, &'b Dependent>,
    rules: &'a mut BTreeMap<u32, &'b Dependent>,
    keys: &'a mut BTreeMap<u32, &'b Dependent>,
    anew: &'a mut BTreeMap<u32, &'b Dependent>,
}

fn bind<'b>(
    p: &mut Planner<'_>,
    one: &'b Dependent,
    old: &Relation,
    retyped: bool,
    found: &mut Found<'_, 'b>,
) {
    let kind = one.kind.as_deref();
    match (one.catalog.as_str(), one.relation) {
        ("pg_rewrite", Some(view)) if one.definition.is_none() => {
            if kind == Some("m") || retyped {
                built_anew(p, one, old);
            } else {
                found.repoint.insert(view);
            }
        }
        ("pg_rewrite", Some(_)) => {
            found.rules.insert(one.oid, one);
        }
        // A view that shows the row itself has a column of the row's type.
        ("pg_class", Some(_)) if matches!(kind, Some("v" | "m")) => built_anew(p, one, old),
        ("pg_class", Some(child))
            if p.survey
                .relations
                .get(&child)
                .is_some_and(|c| c.parents.contains(&old.oid)) => {}
        ("pg_constraint", Some(_)) if foreign_key(one) => {
            if p.request.foreign_keys {
                found.keys.insert(one.oid, one);
            } else {
                p.obstacle(
                    called(&one.what),
                    format!("is a foreign key of a table that stays, and refers to {}", old.at()),
                    "Build that table in the same release, drop the key, or allow foreign keys to be dropped and made anew.".to_owned(),
                );
            }
        }
        ("pg_policy", Some(_)) => {
            found.policies.insert(one.oid, one);
        }
        ("pg_proc", _) => function(p, one, old, found),
        ("pg_attrdef", _) if one.through == "sequence" => p.obstacle(
            called(&one.what),
            format!(
                "takes its numbers from a sequence that belongs to {}",
                old.at()
            ),
            "ALTER SEQUENCE … OWNED BY NONE, so that the sequence stays where it is.".to_owned(),
        ),
        _ => p.obstacle(
            called(&one.what),
            format!("is bound to the {} of {}", one.through, old.at()),
            "unship cannot bind it to another version. Drop it first.".to_owned(),
        ),
    }
}

/// A function whose body PostgreSQL has parsed is replaced in place. One that takes or gives rows of
/// the old version has that in its signature, which only a new function can change.
fn function<'b>(
    p: &mut Planner<'_>,
    one: &'b Dependent,
    old: &Relation,
    found: &mut Found<'_, 'b>,
) {
    let refuse = |p: &mut Planner<'_>, why: String, hint: &str| {
        p.obstacle(called(&one.what), why, hint.to_owned());
    };
    let Some(routine) = &one.routine else {
        return refuse(
            p,
            format!("is bound to the {} of {}", one.through, old.at()),
            "unship cannot bind it to another version. Drop it first.",
        );
    };
    if !p.can_act_as(&routine.owner) || routine.extension {
        return refuse(
            p,
            format!(
                "is bound to the {} of {} and belongs to {}",
                one.through,
                old.at(),
                if routine.extension {
                    "an extension"
                } else {
                    &routine.owner
                }
            ),
            "It would go on with the old version. Drop it, or let the role of unship own it.",
        );
    }
    if one.through == "relation" {
        found.functions.insert(one.oid, one);
    } else if let Some(user) = routine.used_by.as_deref().map(called) {
        refuse(
            p,
            format!(
                "takes or gives rows of {}, and {user} depends on it",
                old.at()
            ),
            "It is bound to the old version's row type and cannot be dropped and made anew. Let it name its columns.",
        );
    } else {
        found.anew.insert(one.oid, one);
    }
}

/// Drops a function and makes it anew with everything that was on it.
fn remake(p: &mut Planner<'_>, one: &Dependent) {
    let (Some(routine), Some(definition)) = (&one.routine, &one.definition) else {
        return;
    };
    let at = format!("ROUTINE {}", routine.identity);
    p.drops.push(format!("DROP {at}"));
    p.views
        .push(definition.trim_end().trim_end_matches(';').to_owned());
    if let Some(wanted) = &routine.grants {
        p.views.push(format!("REVOKE ALL ON {at} FROM PUBLIC"));
        p.views.extend(access::grants(wanted, None, &at));
    }
    if let Some(comment) = &routine.comment {
        p.views.push(access::comment_on(&at, comment));
    }
    p.views
        .push(format!("ALTER {at} OWNER TO {}", quoted(&routine.owner)));
    p.warn(format!(
        "{}: takes or gives rows of what is replaced, and is made anew.",
        one.what
    ));
}

fn foreign_key(one: &Dependent) -> bool {
    one.definition
        .as_deref()
        .is_some_and(|d| d.starts_with("FOREIGN KEY"))
}

/// A view that cannot be bound to anything else where it stands: [`super::plan_closure`] has it
/// built beside the new version, and then it is in the request.
fn built_anew(p: &mut Planner<'_>, one: &Dependent, old: &Relation) {
    let place = one
        .place
        .as_ref()
        .map_or_else(|| called(&one.what), Name::to_string);
    let materialized = one.kind.as_deref() == Some("m");
    p.obstacle(
        format!(
            "{}view {place}",
            if materialized { "materialised " } else { "" }
        ),
        if materialized {
            format!("was filled from {}, and would be for ever", old.at())
        } else {
            format!(
                "shows what has another type in the new version of {}",
                old.at()
            )
        },
        "It must be built anew beside the new version and move with it.".to_owned(),
    );
}

/// Drops a foreign key of a table that stays, and makes it anew on what takes the old one's place.
fn rebind_key(p: &mut Planner<'_>, one: &Dependent) {
    let (Some(place), Some(definition), Some(old)) =
        (&one.place, &one.definition, p.survey.relations.get(&one.on))
    else {
        return;
    };
    let (at, name) = (place.sql(), quoted(&one.name));
    p.lock_too.extend(one.relation);
    let unchecked = definition.ends_with(" NOT VALID");
    p.drops
        .push(format!("ALTER TABLE {at} DROP CONSTRAINT {name}"));
    p.post.push(format!(
        "ALTER TABLE {at} ADD CONSTRAINT {name} {definition}{}",
        if unchecked { "" } else { " NOT VALID" }
    ));
    if !unchecked {
        p.afterwards
            .push(format!("ALTER TABLE {at} VALIDATE CONSTRAINT {name}"));
    }
    p.warn(format!(
        "{place}: foreign key {} refers to the new version of {} and is checked only after the move.",
        one.name,
        old.at()
    ));
}

/// Statements for views, each after the ones that it reads.
fn views(p: &mut Planner<'_>, all: &BTreeSet<u32>) {
    let survey = p.survey;
    let mut ordered = Vec::new();
    let mut done = BTreeSet::new();
    for view in all {
        visit(*view, all, &survey.reads, &mut done, &mut ordered);
    }
    for oid in &ordered {
        let Some(view) = survey.relations.get(oid) else {
            continue;
        };
        let place = p.place_after(*oid).unwrap_or_else(|| view.at());
        if !p.can_act_as(&view.owner) {
            p.obstacle(
                format!("view {}", view.at()),
                format!(
                    "must read the new version, and belongs to {}: {} may not change it",
                    view.owner, survey.role.name
                ),
                format!(
                    "GRANT {} TO {}.",
                    quoted(&view.owner),
                    quoted(&survey.role.name)
                ),
            );
            continue;
        }
        let Some(definition) = view.definition.as_deref().map(|d| d.trim_end_matches(';')) else {
            continue;
        };
        let options = access::with_options(&view.options);
        p.views.push(format!(
            "CREATE OR REPLACE VIEW {}{options} AS{definition}",
            place.sql()
        ));
        p.lock_too.insert(*oid);
    }
}

fn visit(
    view: u32,
    all: &BTreeSet<u32>,
    reads: &BTreeSet<(u32, u32)>,
    done: &mut BTreeSet<u32>,
    out: &mut Vec<u32>,
) {
    if !all.contains(&view) || !done.insert(view) {
        return;
    }
    for (_, below) in reads.range((view, 0)..=(view, u32::MAX)) {
        visit(*below, all, reads, done, out);
    }
    out.push(view);
}

/// A view that comes in and reads a version that is retained and stays so: it must read production.
fn strays(p: &mut Planner<'_>) {
    let survey = p.survey;
    let coming: Vec<&Relation> = survey
        .relations
        .values()
        .filter(|r| matches!(r.kind, Kind::View | Kind::Materialized) && p.arrives(r.oid))
        .collect();
    for view in coming {
        let mut stray = Vec::new();
        for (_, target) in survey.reads.range((view.oid, 0)..=(view.oid, u32::MAX)) {
            let place = p
                .place_after(*target)
                .or_else(|| survey.relations.get(target).map(Relation::at))
                .or_else(|| survey.others.get(target).cloned());
            let rebound = p.leaves(*target) && p.replacement(*target).is_some();
            if let Some(place) = place.filter(|n| is_ours(&n.schema) && !rebound) {
                stray.push(place);
            }
        }
        if stray.is_empty() {
            continue;
        }
        let to = p.place_after(view.oid).unwrap_or_else(|| view.at());
        let names: Vec<String> = stray.iter().map(Name::to_string).collect();
        let homes: BTreeMap<&Name, Name> = stray
            .iter()
            .filter_map(|n| home(&n.schema).map(|s| (n, Name::new(s, &*n.name))))
            .collect();
        let there = homes.len() == stray.len()
            && homes.values().all(|n| {
                p.going.values().any(|g| g.to == *n)
                    || survey
                        .occupied
                        .iter()
                        .any(|o| o.sort == "relation" && o.name == *n)
            });
        match view.unqualified.as_deref() {
            Some(text) if there && view.kind == Kind::View => {
                let mut path: BTreeSet<String> =
                    homes.values().map(|n| quoted(&n.schema)).collect();
                for (_, target) in survey.reads.range((view.oid, 0)..=(view.oid, u32::MAX)) {
                    let schema = survey
                        .relations
                        .get(target)
                        .map(|r| r.schema.as_str())
                        .or_else(|| survey.others.get(target).map(|n| n.schema.as_str()));
                    path.extend(schema.filter(|s| !is_ours(s)).map(quoted));
                }
                let ambiguous = stray.iter().any(|n| text.contains(&quoted(&n.schema)))
                    || stray
                        .iter()
                        .any(|n| text.contains(&format!("{}.", n.schema)));
                if ambiguous {
                    unbound(p, &to, &names);
                    continue;
                }
                p.views.push(format!(
                    "SET LOCAL search_path = {}",
                    path.into_iter().collect::<Vec<_>>().join(", ")
                ));
                p.views.push(format!(
                    "CREATE OR REPLACE VIEW {}{} AS{}",
                    to.sql(),
                    access::with_options(&view.options),
                    text.trim_end_matches(';')
                ));
                p.views.push("SET LOCAL search_path = ''".to_owned());
                p.warn(format!(
                    "{to}: comes back reading what is live, where it read {} when it left.",
                    names.join(", ")
                ));
            }
            _ => unbound(p, &to, &names),
        }
    }
}

fn unbound(p: &mut Planner<'_>, to: &Name, names: &[String]) {
    p.obstacle(
        to.to_string(),
        format!(
            "reads {}, which is not live after the move",
            names.join(", ")
        ),
        "Bring those back too, or leave this one out.".to_owned(),
    );
}

/// The schema that one of unship's stands for.
pub(super) fn home(schema: &str) -> Option<&str> {
    schema.strip_prefix("unship_build_").or_else(|| {
        let (digits, rest) = schema.strip_prefix("unship_r")?.split_once('_')?;
        (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(rest)
    })
}
