//! Planning to exchange whole schemas: where a release replaces all that is in one, one statement
//! does it for all.

use super::access::{self, Access};
use super::facts;
use super::inside::Inside;
use super::layout;
use super::plan::{Change, Held, SfAction};
use super::planner::{Incoming, Planner, place};
use super::sql::{Grant, Place};
use super::survey::There;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::EngineError;
use unship_core::ident::RelationName;
use unship_core::operate::count;
use unship_core::plan::{Fact, Step};
use unship_core::release::VersionId;

/// What comes into a schema and what goes from it.
#[derive(Default)]
struct Wanted<'a> {
    incoming: Vec<(&'a RelationName, &'a There)>,
    clones: bool,
    remove: BTreeSet<&'a RelationName>,
}

/// A schema that is exchanged whole.
struct Whole<'a> {
    /// The schema of production.
    schema: String,
    /// The one that takes its place.
    from: String,
    /// Under which name what gave way is kept.
    away: String,
    incoming: Vec<(&'a RelationName, &'a There)>,
    live: Vec<&'a There>,
    names: Vec<RelationName>,
    now: &'a Inside,
    then: &'a Inside,
}

/// When something was made: the order in which they were built is that of their lineage.
fn made(there: &There) -> &str {
    match (&there.table, &there.view) {
        (Some(table), _) => &table.created,
        (None, Some(view)) => &view.made,
        (None, None) => "",
    }
}

fn list<'n>(names: impl IntoIterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    match names.as_slice() {
        [a, b, c, rest @ ..] if rest.len() > 1 => format!("{a}, {b}, {c} and {} more", rest.len()),
        all => all.join(", "),
    }
}

impl<'a> Planner<'a> {
    /// Takes the schemas that are exchanged whole out of what comes and goes, and puts their steps
    /// together; what is left is exchanged table by table. Gives how many they are.
    pub(super) fn whole_schemas(
        &mut self,
        incoming: &mut Vec<(&'a RelationName, Incoming<'a>)>,
        remove: &mut Vec<&'a RelationName>,
    ) -> Result<usize, EngineError> {
        if self.survey.whole.is_empty() {
            return Ok(0);
        }
        let mut wanted: BTreeMap<&'a str, Wanted<'a>> = BTreeMap::new();
        for (name, one) in incoming.iter() {
            let of = wanted.entry(&name.schema).or_default();
            of.clones |= one.clone;
            of.incoming.push((*name, one.there));
        }
        for name in remove.iter() {
            wanted.entry(&name.schema).or_default().remove.insert(*name);
        }
        let mut all = Vec::new();
        for (schema, wanted) in wanted {
            match self.fits(schema, wanted) {
                Ok(whole) => all.push(whole),
                Err(why) => self.notes.push(format!(
                    "the schema {schema} is exchanged table by table: {why}"
                )),
            }
        }
        let whole: BTreeSet<String> = all.iter().map(|one| one.schema.clone()).collect();
        incoming.retain(|(name, _)| !whole.contains(&name.schema));
        remove.retain(|name| !whole.contains(&name.schema));
        all.sort_by_key(|one| {
            let first = one.incoming.iter().map(|(_, there)| made(there)).min();
            first.unwrap_or_default().to_owned()
        });
        for one in &all {
            self.prepare_whole(one)?;
        }
        // The exchanges come right after each other: what readers may see of two releases lasts as
        // long as they do.
        for one in &all {
            self.swap_whole(one)?;
        }
        for one in &all {
            self.remake_views(one)?;
        }
        for one in &all {
            self.keep_whole(one)?;
        }
        Ok(all.len())
    }

    /// Whether a schema can be exchanged whole, or why not.
    fn fits(&self, schema: &str, wanted: Wanted<'a>) -> Result<Whole<'a>, String> {
        let survey = self.survey;
        let now = survey.whole.get(schema).ok_or("it is not there yet")?;
        if wanted.clones {
            return Err("what comes is pinned, so that copies come".to_owned());
        }
        let froms: BTreeSet<&str> = wanted
            .incoming
            .iter()
            .map(|(_, there)| there.at.schema.as_str())
            .collect();
        let from = match froms.iter().collect::<Vec<_>>().as_slice() {
            [one] => (**one).to_owned(),
            [] => return Err("nothing comes into it".to_owned()),
            _ => return Err("what comes is kept in several schemas".to_owned()),
        };
        let then = survey.whole.get(&from).ok_or("what comes is not there")?;
        let replaced: BTreeSet<&String> = wanted
            .incoming
            .iter()
            .map(|(name, _)| &name.name)
            .chain(wanted.remove.iter().map(|name| &name.name))
            .collect();
        let stay: Vec<&String> = now
            .relations
            .iter()
            .filter(|n| !replaced.contains(n))
            .collect();
        if !stay.is_empty() {
            return Err(format!("the release does not replace {} in it", list(stay)));
        }
        let coming: BTreeSet<&String> =
            wanted.incoming.iter().map(|(name, _)| &name.name).collect();
        let more: Vec<&String> = then
            .relations
            .iter()
            .filter(|n| !coming.contains(n))
            .collect();
        if !more.is_empty() {
            return Err(format!("{} would come along from {from}", list(more)));
        }
        let live: Vec<&There> = now
            .relations
            .iter()
            .filter_map(|name| {
                let at = Place::new(&*self.database, schema, &**name);
                survey.at(&at)
            })
            .collect();
        if live.len() != now.relations.len() || live.is_empty() {
            return Err("there is nothing in it that gives way".to_owned());
        }
        if now.relations.contains(layout::MARK) {
            return Err(format!("a relation in it is called {}", layout::MARK));
        }
        self.same_schema(schema, now, then)?;
        for (name, there) in &wanted.incoming {
            let before = live.iter().find(|live| live.at.name == name.name);
            if before.is_some_and(|before| before.view.is_some() != there.view.is_some()) {
                return Err(format!(
                    "{name} is a view at one time and a table at another"
                ));
            }
        }
        let versions: BTreeSet<Option<VersionId>> = live
            .iter()
            .map(|there| {
                let name = RelationName::new(&*self.database, schema, &*there.at.name);
                let known = self.live_map.get(&name).filter(|v| v.state.is_some());
                known.map(|v| v.id)
            })
            .collect();
        let away = match versions.iter().collect::<Vec<_>>().as_slice() {
            [Some(version)] => layout::retained(*version, schema).map_err(|e| e.message)?,
            _ => return Err("several releases built what is in it".to_owned()),
        };
        if survey.schemas.contains(&away) || survey.remembered.contains(&away) {
            return Err(format!("{away} is there already, or was and is lost"));
        }
        let names = wanted.incoming.iter().map(|(name, _)| (*name).clone());
        Ok(Whole {
            schema: schema.to_owned(),
            names: names
                .chain(wanted.remove.iter().map(|n| (*n).clone()))
                .collect(),
            incoming: wanted.incoming,
            from,
            away,
            live,
            now,
            then,
        })
    }

    /// What hangs on a schema itself and would not be on the other, or why the two cannot be
    /// exchanged.
    fn same_schema(&self, schema: &str, now: &Inside, then: &Inside) -> Result<(), String> {
        let role = Some(&self.survey.role);
        if now.owner.as_ref() != role || then.owner.as_ref() != role {
            let owner = now.owner.as_deref().unwrap_or("nobody that can be seen");
            return Err(format!(
                "it belongs to {owner}, and only the owner of both may exchange two schemas"
            ));
        }
        if let Some(what) = now.others.first().or(then.others.first()) {
            return Err(format!("{what} is in it, and would go along"));
        }
        let foreign = now.access.grants.iter().find(|grant| {
            let ours = matches!(&grant.to, super::sql::Grantee::Role(r) if *r == self.survey.role);
            let makes = grant.privilege.starts_with("CREATE ") || grant.privilege == "ALL";
            makes && !ours
        });
        if let Some(grant) = foreign {
            return Err(format!(
                "{} may make things in it, which this role might not see",
                grant.to
            ));
        }
        if let Some(whom) = now.access.others.first() {
            return Err(format!("{whom} on it cannot be given again by unship"));
        }
        if self.survey.future.contains_key(schema) {
            return Err(
                "it has future grants, and they would stay with the schema that gives way"
                    .to_owned(),
            );
        }
        if now.making != then.making {
            return Err(
                "it was made otherwise than the one that would take its place (transient, \
                        managed access, days of Time Travel, or comment)"
                    .to_owned(),
            );
        }
        if let Some(tag) = now.tags.symmetric_difference(&then.tags).next() {
            return Err(format!("only one of the two schemas has the tag {tag}"));
        }
        Ok(())
    }

    fn prepare_whole(&mut self, one: &Whole<'a>) -> Result<(), EngineError> {
        for (name, there) in &one.incoming {
            self.refuse(name, there);
            let remade = there.view.as_ref().is_some_and(|view| view.raw.is_some());
            let live = one.live.iter().find(|live| live.at.name == name.name);
            if let Some(live) = live {
                self.refuse(name, live);
                self.compare_owner(name, live, there);
                self.compare_protection(name, live, there);
            }
            let both = live.map(|live| &live.protection).into_iter();
            for what in both.flatten().chain(&there.protection).filter(|_| remade) {
                self.refusals.push(format!(
                    "{name}: {what} would not be on the view that is made anew"
                ));
            }
            let view = there.view.is_some();
            let may = live.map(|live| live.access.clone()).unwrap_or_default();
            let change = |grant: &Grant, give| Change {
                place: there.at.clone(),
                view,
                grant: grant.clone(),
                give,
            };
            let lost = access::lost(&may, &there.access).into_iter();
            self.before.extend(lost.map(|grant| change(grant, true)));
            if self.strict && live.is_some() {
                let surplus = access::lost(&there.access, &may).into_iter();
                self.before
                    .extend(surplus.map(|grant| change(grant, false)));
            }
        }
        for live in &one.live {
            if !one
                .incoming
                .iter()
                .any(|(name, _)| name.name == live.at.name)
            {
                let name = RelationName::new(&*self.database, &*one.schema, &*live.at.name);
                self.refuse(&name, live);
            }
        }
        let lost = access::lost(&one.now.access, &one.then.access).into_iter();
        let mut changes: Vec<(Grant, bool)> = lost.map(|grant| (grant.clone(), true)).collect();
        if self.strict {
            let surplus = access::lost(&one.then.access, &one.now.access).into_iter();
            changes.extend(surplus.map(|grant| (grant.clone(), false)));
        }
        if !changes.is_empty() {
            let expect = changes
                .iter()
                .map(|(grant, give)| facts::granted_on_schema(&one.from, grant, *give))
                .collect();
            let explain = format!(
                "let who may use the schema {} now use it afterwards: {}",
                one.schema,
                count(changes.len(), "privilege")
            );
            let action = SfAction::SchemaGrants {
                schema: one.from.clone(),
                changes,
            };
            let step = self.step(action, Vec::new(), expect)?;
            self.steps.push(Step { explain, ..step });
        }
        if !one.then.helpers.is_empty() {
            let at = |name: &String| Place::new(&*self.database, &*one.from, &**name);
            let gone = one.then.helpers.iter().map(|n| facts::view(&at(n), None));
            let mark = at(&layout::MARK.to_owned());
            let clear = SfAction::Clear {
                schema: one.from.clone(),
                helpers: one.then.helpers.clone(),
            };
            let undo = SfAction::Mark {
                schema: one.from.clone(),
                of: self.release.to_string(),
            };
            let step = self.step(clear, vec![facts::made(&mark)], gone.collect())?;
            self.steps.push(Step {
                undo: Some(undo.action(self.release)?),
                explain: format!("take what helped the job out of {}", one.from),
                ..step
            });
        }
        Ok(())
    }

    fn swap_whole(&mut self, one: &Whole<'a>) -> Result<(), EngineError> {
        let (live, other) = (one.schema.clone(), one.from.clone());
        let comes = |name: &str| one.incoming.iter().any(|(n, _)| n.name == name);
        let held = one.live.iter().map(|there| Held {
            name: there.at.name.clone(),
            view: there.view.is_some(),
            token: there.table.as_ref().and_then(|t| t.token.clone()),
            rows: there.table.as_ref().and_then(|t| t.rows),
            access: match comes(&there.at.name) {
                true => there.access.clone(),
                false => Access::default(),
            },
        });
        let action = SfAction::SwapSchemas {
            live: live.clone(),
            other: other.clone(),
            held: held.collect(),
            access: one.now.access.clone(),
        };
        let undo = SfAction::SwapSchemas {
            live: live.clone(),
            other: other.clone(),
            held: Vec::new(),
            access: Access::default(),
        };
        let (now, then) = (one.now.contents.as_str(), one.then.contents.as_str());
        let mut guard: Vec<Fact> = one
            .incoming
            .iter()
            .filter_map(|(_, there)| {
                let token = there.table.as_ref()?.token.as_deref()?;
                Some(facts::written(&there.at, token))
            })
            .collect();
        guard.push(facts::contents(&live, Some(now)));
        guard.push(facts::contents(&other, Some(then)));
        let expect = vec![
            facts::contents(&live, Some(then)),
            facts::contents(&other, Some(now)),
        ];
        let step = self.step(action, guard, expect)?;
        self.steps.push(Step {
            production: true,
            undo: Some(undo.action(self.release)?),
            explain: format!(
                "exchange the schema {live} with {other}: {} at once",
                count(one.names.len(), "relation")
            ),
            relations: one.names.clone(),
            ..step
        });
        Ok(())
    }

    /// A view that a job made in staging reads staging by name, where what gave way is now.
    fn remake_views(&mut self, one: &Whole<'a>) -> Result<(), EngineError> {
        let mut views: Vec<_> = one
            .incoming
            .iter()
            .filter_map(|(name, there)| Some((*name, there.view.as_ref()?)))
            .filter(|(_, view)| view.raw.is_some())
            .collect();
        views.sort_by(|(_, a), (_, b)| a.made.cmp(&b.made));
        for (name, view) in views {
            let at = place(name);
            let make = |body: Option<&String>| SfAction::MakeView {
                place: at.clone(),
                body: body.cloned().unwrap_or_default(),
                secure: view.secure,
                comment: view.comment.clone(),
                columns: view.columns.clone(),
            };
            let guard = vec![facts::text(&at, &view.raw_hash())];
            let expect = vec![facts::text(&at, &view.hash)];
            let step = self.step(make(view.body.as_ref()), guard, expect)?;
            self.steps.push(Step {
                production: true,
                undo: Some(make(view.raw.as_ref()).action(self.release)?),
                explain: format!("let the view {name} read production, not where it was built"),
                relations: vec![name.clone()],
                ..step
            });
        }
        Ok(())
    }

    fn keep_whole(&mut self, one: &Whole<'a>) -> Result<(), EngineError> {
        let (from, to) = (one.from.clone(), one.away.clone());
        let are = Some(one.now.contents.as_str());
        let rename = |from: &str, to: &str| SfAction::RenameSchema {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let guard = vec![facts::contents(&from, are), facts::contents(&to, None)];
        let expect = vec![facts::contents(&from, None), facts::contents(&to, are)];
        let step = self.step(rename(&from, &to), guard, expect)?;
        self.steps.push(Step {
            undo: Some(rename(&to, &from).action(self.release)?),
            explain: format!("keep what gave way as {to}"),
            relations: one.names.clone(),
            ..step
        });
        let there = BTreeSet::from([to]);
        let gone: BTreeSet<String> = Some(from)
            .filter(|from| layout::parse_retained(from).is_some())
            .into_iter()
            .collect();
        let home = |name: &String| Place::new(&*self.database, layout::HOME, &**name);
        let made = there.iter().map(|name| facts::made(&home(name)));
        let dropped = gone.iter().map(|name| facts::view(&home(name), None));
        let expect = made.chain(dropped).collect();
        let guard = there.iter().map(|name| facts::view(&home(name), None));
        let guard = guard.collect();
        let undo = SfAction::Remember {
            there: gone.clone(),
            gone: there.clone(),
        };
        let step = self.step(SfAction::Remember { there, gone }, guard, expect)?;
        self.steps.push(Step {
            undo: Some(undo.action(self.release)?),
            explain: "write down where it is kept".to_owned(),
            ..step
        });
        Ok(())
    }
}
