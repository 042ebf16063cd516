//! Views that are not part of a release, read what it replaces, and cannot be bound to anything
//! else where they stand: materialised ones, which hold rows, and those that show a column whose
//! type is another one now.
//!
//! Each is built anew beside the new versions, under a search path on which they come first, and
//! then moves with them, while the one that stood there is retained. That it reads exactly what it
//! should is proved from the catalog, not assumed from names. Going back needs no building: the one
//! that was retained is still bound to the old versions.

use super::access;
use super::model::{Kind, Name, Relation, Survey};
use super::names::{is_ours, quoted};
use super::request::{Move, Request};
use super::survey::{cell, failed};
use postgres::Client;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind};

/// One view to be built anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// Where it stands in production.
    pub view: Name,
    /// Where it is built.
    pub at: Name,
    /// Where the one in production goes.
    pub away: Name,
    /// The statement that makes it; `None` where one that reads exactly what comes in is retained.
    pub statement: Option<String>,
    /// The search path under which it is run.
    pub path: String,
    /// What it must read, and nothing else: identities, and places of what is rebuilt before it.
    pub reads: BTreeSet<u32>,
    /// The rebuilt ones among them.
    pub rebuilt: BTreeSet<Name>,
}

impl Rebuild {
    /// The moves to be added to the request.
    pub fn moves(&self) -> [Move; 2] {
        [
            Move {
                from: self.view.clone(),
                to: self.away.clone(),
                carry_from: None,
                access: None,
            },
            Move {
                from: self.at.clone(),
                to: self.view.clone(),
                carry_from: Some(self.view.clone()),
                access: None,
            },
        ]
    }
}

/// What must be built anew, or brought back, for a request, in order. Other views are bound anew in
/// place.
pub fn plan(survey: &Survey, request: &Request) -> Vec<Rebuild> {
    let by_name: BTreeMap<Name, &Relation> =
        survey.relations.values().map(|r| (r.at(), r)).collect();
    let leaving: BTreeMap<u32, &Move> = request
        .moves
        .iter()
        .filter(|m| !is_ours(&m.from.schema) && is_ours(&m.to.schema))
        .filter_map(|m| by_name.get(&m.from).map(|r| (r.oid, m)))
        .collect();
    let arriving: BTreeMap<&Name, u32> = request
        .moves
        .iter()
        .filter(|m| !is_ours(&m.to.schema))
        .filter_map(|m| by_name.get(&m.from).map(|r| (&m.to, r.oid)))
        .collect();
    let reads = |view: u32| -> Vec<u32> {
        survey
            .reads
            .range((view, 0)..=(view, u32::MAX))
            .map(|(_, t)| *t)
            .collect()
    };
    // Everything in production that reads what leaves, however far up.
    let mut touched: BTreeSet<u32> = leaving.keys().copied().collect();
    loop {
        let more: Vec<u32> = survey
            .relations
            .values()
            .filter(|r| !touched.contains(&r.oid) && !is_ours(&r.schema))
            .filter(|r| reads(r.oid).iter().any(|t| touched.contains(t)))
            .map(|r| r.oid)
            .collect();
        if more.is_empty() {
            break;
        }
        touched.extend(more);
    }
    // Of those: materialised views, and views below them.
    let mut wanted: BTreeSet<u32> = touched
        .iter()
        .filter(|o| !leaving.contains_key(o))
        .filter(|o| {
            survey
                .relations
                .get(o)
                .is_some_and(|r| r.kind == Kind::Materialized)
        })
        .copied()
        .collect();
    wanted.extend(retyped(survey, &leaving, &arriving, &touched));
    loop {
        let more: Vec<u32> = wanted
            .iter()
            .flat_map(|w| reads(*w))
            .filter(|t| touched.contains(t) && !leaving.contains_key(t) && !wanted.contains(t))
            .collect();
        if more.is_empty() {
            break;
        }
        wanted.extend(more);
    }
    let mut ordered = Vec::new();
    let mut left = wanted.clone();
    while let Some(next) = left
        .iter()
        .copied()
        .find(|w| !reads(*w).iter().any(|t| left.contains(t)))
    {
        left.remove(&next);
        ordered.push(next);
    }
    let Some(release) = leaving.values().next().map(|m| m.to.schema.clone()) else {
        return Vec::new();
    };
    let places = Places {
        survey,
        sources: request
            .moves
            .iter()
            .filter(|m| !is_ours(&m.to.schema))
            .map(|m| (m.to.schema.clone(), m.from.schema.clone()))
            .collect(),
        release: release_of(&release).to_owned(),
    };
    let mut back: BTreeMap<u32, u32> = BTreeMap::new();
    for oid in &ordered {
        let Some(view) = survey.relations.get(oid) else {
            continue;
        };
        let found = places
            .sources
            .iter()
            .filter_map(|(to, from)| {
                // Beside what comes in, in the schema of its own.
                let release = from.strip_suffix(to.as_str())?;
                let schema = format!("{release}{}", view.schema);
                by_name.get(&Name::new(schema, &*view.name))
            })
            .find(|old| {
                // What it must read: what the one in production reads, each in the version that
                // comes in.
                let must: Option<BTreeSet<u32>> = reads(view.oid)
                    .into_iter()
                    .map(|t| match (survey.relations.get(&t), back.get(&t)) {
                        (_, Some(other)) => Some(*other),
                        (Some(r), None) if leaving.contains_key(&t) => {
                            arriving.get(&r.at()).copied()
                        }
                        _ => (!wanted.contains(&t)).then_some(t),
                    })
                    .collect();
                old.kind == view.kind && must == Some(reads(old.oid).into_iter().collect())
            });
        if let Some(found) = found {
            back.insert(*oid, found.oid);
        }
    }
    ordered
        .iter()
        .filter_map(|o| survey.relations.get(o))
        .map(|view| {
            let mut one = places.rebuild(view, &leaving, &arriving, &wanted, &reads(view.oid));
            if let Some(old) = back.get(&view.oid).and_then(|o| survey.relations.get(o)) {
                one.at = old.at();
                one.statement = None;
            }
            one
        })
        .collect()
}

/// Views that show something whose type is another one now, and all that stand on those.
fn retyped(
    survey: &Survey,
    leaving: &BTreeMap<u32, &Move>,
    arriving: &BTreeMap<&Name, u32>,
    touched: &BTreeSet<u32>,
) -> BTreeSet<u32> {
    let mut out = BTreeSet::new();
    for one in &survey.dependents {
        let (Some(view), Some("v")) = (one.relation, one.kind.as_deref()) else {
            continue;
        };
        let (Some(old), true) = (
            survey
                .relations
                .get(&one.on)
                .filter(|r| leaving.contains_key(&r.oid)),
            touched.contains(&view) && !leaving.contains_key(&view),
        ) else {
            continue;
        };
        let Some(new) = arriving
            .get(&old.at())
            .and_then(|o| survey.relations.get(o))
        else {
            continue;
        };
        let shows_row = one.catalog == "pg_class";
        let other_type = one.catalog == "pg_rewrite"
            && old
                .columns
                .iter()
                .find(|c| c.number == one.column)
                .and_then(|c| new.column(&c.name).map(|n| (c, n)))
                .is_some_and(|(c, n)| c.of != n.of || c.collation != n.collation);
        if shows_row || other_type {
            out.insert(view);
        }
    }
    loop {
        let more: Vec<u32> = survey
            .reads
            .iter()
            .filter(|(view, target)| {
                out.contains(target)
                    && !out.contains(view)
                    && touched.contains(view)
                    && !leaving.contains_key(view)
            })
            .map(|(view, _)| *view)
            .collect();
        if more.is_empty() {
            return out;
        }
        out.extend(more);
    }
}

/// `12` of `unship_r12_marts`.
fn release_of(schema: &str) -> &str {
    schema
        .strip_prefix("unship_r")
        .and_then(|r| r.split_once('_'))
        .map_or("", |(digits, _)| digits)
}

struct Places<'a> {
    survey: &'a Survey,
    sources: BTreeSet<(String, String)>,
    release: String,
}

impl Places<'_> {
    fn rebuild(
        &self,
        view: &Relation,
        leaving: &BTreeMap<u32, &Move>,
        arriving: &BTreeMap<&Name, u32>,
        wanted: &BTreeSet<u32>,
        below: &[u32],
    ) -> Rebuild {
        let at = Name::new(format!("unship_build_{}", view.schema), &*view.name);
        let away = Name::new(
            format!("unship_r{}_{}", self.release, view.schema),
            &*view.name,
        );
        let mut reads = BTreeSet::new();
        let mut rebuilt = BTreeSet::new();
        let mut first = BTreeSet::new();
        let mut then = BTreeSet::new();
        for target in below {
            let name = self
                .survey
                .relations
                .get(target)
                .map(Relation::at)
                .or_else(|| self.survey.others.get(target).cloned());
            if let Some(name) = &name {
                then.insert(name.schema.clone());
            }
            if wanted.contains(target) {
                if let Some(name) = name {
                    let built = Name::new(format!("unship_build_{}", name.schema), name.name);
                    first.insert(built.schema.clone());
                    rebuilt.insert(built);
                }
            } else if leaving.contains_key(target) {
                if let Some(name) = name {
                    reads.extend(arriving.get(&name));
                    for (to, from) in &self.sources {
                        if *to == name.schema {
                            first.insert(from.clone());
                        }
                    }
                }
            } else {
                reads.insert(*target);
            }
        }
        let path = first
            .iter()
            .chain(then.iter().filter(|s| !first.contains(*s)))
            .map(|s| quoted(s))
            .collect::<Vec<_>>()
            .join(", ");
        let (word, populate) = match view.kind {
            Kind::Materialized if view.populated => ("MATERIALIZED VIEW", " WITH DATA"),
            Kind::Materialized => ("MATERIALIZED VIEW", " WITH NO DATA"),
            _ => ("VIEW", ""),
        };
        let text = view.unqualified.as_deref().unwrap_or_default();
        Rebuild {
            statement: Some(format!(
                "CREATE {word} {}{} AS{}{populate}",
                at.sql(),
                access::with_options(&view.options),
                text.trim_end_matches(';')
            )),
            view: view.at(),
            at,
            away,
            path,
            reads,
            rebuilt,
        }
    }
}

/// Builds them, beside production, and proves each by what the catalog says that it reads.
pub fn build(client: &mut Client, all: &[Rebuild]) -> Result<(), EngineError> {
    let mut made: BTreeMap<&Name, u32> = BTreeMap::new();
    let mut tx = client.transaction().map_err(failed)?;
    for one in all {
        let Some(statement) = &one.statement else {
            continue;
        };
        tx.execute("SELECT set_config('search_path', $1, true)", &[&one.path])
            .map_err(failed)?;
        tx.batch_execute(statement).map_err(|e| {
            let error = failed(e);
            EngineError::new(
                ErrorKind::Refused,
                format!(
                    "{} reads what is replaced, and cannot be built anew: {}",
                    one.view, error.message
                ),
            )
            .hint("Nothing was changed. Drop it, or build it in the same release.")
            .because(error)
        })?;
        let row = tx
            .query_one(
                "SELECT r.ev_class, array_agg(DISTINCT d.refobjid) FILTER (WHERE d.refobjid <> r.ev_class)
                 FROM pg_rewrite r LEFT JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass
                     AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                 WHERE r.ev_class = $1::text::regclass GROUP BY 1",
                &[&one.at.sql()],
            )
            .map_err(failed)?;
        let found: BTreeSet<u32> = cell::<Option<Vec<u32>>>(&row, 1)?
            .unwrap_or_default()
            .into_iter()
            .collect();
        let mut wanted = one.reads.clone();
        wanted.extend(one.rebuilt.iter().filter_map(|n| made.get(n)));
        if found != wanted {
            return Err(EngineError::new(
                ErrorKind::Refused,
                format!(
                    "{} was built anew and reads other relations than it should: a name in it stands in two schemas.",
                    one.view
                ),
            )
            .hint("Nothing was changed. Build it in the same release, or drop it."));
        }
        made.insert(&one.at, cell(&row, 0)?);
    }
    tx.commit().map_err(failed)
}
