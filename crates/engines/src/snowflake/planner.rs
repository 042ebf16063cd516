//! Putting steps together: for each relation what must be true, what is done, and how it is taken
//! back.

use super::access;
use super::facts;
use super::layout;
use super::order::in_order;
use super::plan::{Change, ENGINE, SfAction};
use super::sql::{Grant, Place};
use super::survey::{Survey, Table, There, View};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::count;
use unship_core::plan::{Fact, Step};
use unship_core::release::Version;

/// A relation that comes, and where it lies.
pub struct Incoming<'a> {
    /// It.
    pub there: &'a There,
    /// It must stay where it is: a copy comes.
    pub clone: bool,
}

/// Steps that are being put together.
pub struct Planner<'a> {
    pub(super) survey: &'a Survey,
    pub(super) release: ReleaseId,
    pub(super) database: String,
    pub(super) live_map: &'a BTreeMap<RelationName, Version>,
    /// Whether privileges that only the incoming relation has go: they were taken since.
    pub strict: bool,
    pub(super) schemas: BTreeSet<String>,
    pub(super) before: Vec<Change>,
    pub(super) after: Vec<Change>,
    pub(super) steps: Vec<Step>,
    pub(super) refusals: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Where a relation of production is.
pub(super) fn place(name: &RelationName) -> Place {
    Place::new(&*name.database, &*name.schema, &*name.name)
}

impl<'a> Planner<'a> {
    /// Nothing is planned yet.
    pub fn new(
        survey: &'a Survey,
        release: ReleaseId,
        live_map: &'a BTreeMap<RelationName, Version>,
    ) -> Self {
        Self {
            survey,
            release,
            database: String::new(),
            live_map,
            strict: false,
            schemas: BTreeSet::new(),
            before: Vec::new(),
            after: Vec::new(),
            steps: Vec::new(),
            refusals: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The steps for all that comes and goes.
    pub fn all(
        mut self: Planner<'a>,
        mut incoming: Vec<(&'a RelationName, Incoming<'a>)>,
        mut remove: Vec<&'a RelationName>,
    ) -> Result<Steps, EngineError> {
        let names = incoming
            .iter()
            .map(|(name, _)| *name)
            .chain(remove.iter().copied());
        self.database = names
            .clone()
            .next()
            .map_or_else(String::new, |n| n.database.clone());
        let whole = self.whole_schemas(&mut incoming, &mut remove)?;
        let total = incoming.len() + remove.len();
        for (name, one) in in_order(incoming) {
            self.bring(name, &one)?;
        }
        for name in remove {
            self.remove(name)?;
        }
        if !self.refusals.is_empty() {
            return Err(EngineError::new(
                ErrorKind::Refused,
                format!(
                    "this cannot be done without a loss:\n  - {}",
                    self.refusals.join("\n  - ")
                ),
            )
            .hint("leave these out, or change what each line says"));
        }
        self.finish(whole, total)
    }

    fn finish(mut self, whole: usize, total: usize) -> Result<Steps, EngineError> {
        let make = SfAction::Schemas {
            names: self.schemas.clone(),
        };
        let remembered = self
            .schemas
            .iter()
            .filter(|name| layout::parse_retained(name).is_some())
            .map(|name| facts::made(&Place::new(&*self.database, layout::HOME, &**name)));
        let there = self.schemas.iter().map(|s| facts::schema(s));
        let there = there.chain(remembered).collect();
        let mut steps = vec![Step {
            explain: format!(
                "make sure of {}: where the release goes, and where what gives way is kept",
                count(self.schemas.len(), "schema")
            ),
            ..self.step(make, Vec::new(), there)?
        }];
        let (before, after) = (
            std::mem::take(&mut self.before),
            std::mem::take(&mut self.after),
        );
        steps.extend(self.grants(before)?);
        steps.append(&mut self.steps);
        steps.extend(self.grants(after)?);
        for (n, step) in (1u32..).zip(&mut steps) {
            step.id = n;
            step.after = (n > 1).then(|| n - 1).into_iter().collect();
        }
        let exchanges = whole + total;
        if whole > 1 {
            self.notes.push(format!(
                "each of {} changes in one instant, one after the other: readers may see schemas of \
                 two releases for as long as these statements take",
                count(whole, "schema")
            ));
        }
        if total > 0 && exchanges > 1 {
            self.notes.push(format!(
                "this is not atomic: Snowflake commits each of the {} by itself, so that readers \
                 may see relations of two releases until all are done",
                count(exchanges, "exchange")
            ));
        }
        let tables = "each table is exchanged with the one that takes its place, in the order in \
                      which they were built, and views are put in place after them; no row is \
                      copied";
        let schemas = "each schema is exchanged whole with the one that takes its place, in the \
                       order in which they were built; no row is copied";
        let method = match (whole, total) {
            (0, _) => tables.to_owned(),
            (_, 0) => schemas.to_owned(),
            _ => format!("{schemas}; of the others, {tables}"),
        };
        Ok(Steps {
            steps,
            method,
            irreversible: Vec::new(),
            notes: self.notes,
            needs: Vec::new(),
            bytes: 0,
            ..Steps::default()
        })
    }

    /// A step; its number and order come at the end.
    pub(super) fn step(
        &self,
        action: SfAction,
        guard: Vec<Fact>,
        expect: Vec<Fact>,
    ) -> Result<Step, EngineError> {
        Ok(Step {
            id: 0,
            after: Vec::new(),
            engine: ENGINE.to_owned(),
            relations: Vec::new(),
            statements: action.statements(&self.database),
            guard,
            expect,
            undo: None,
            production: false,
            explain: String::new(),
            action: action.action(self.release)?,
        })
    }

    fn grants(&self, changes: Vec<Change>) -> Result<Option<Step>, EngineError> {
        if changes.is_empty() {
            return Ok(None);
        }
        let expect = changes
            .iter()
            .map(|c| facts::granted(&c.place, c.view, &c.grant, c.give))
            .collect();
        let explain = format!(
            "let who may read now read afterwards: {}",
            count(changes.len(), "privilege")
        );
        Ok(Some(Step {
            explain,
            ..self.step(SfAction::Grants { changes }, Vec::new(), expect)?
        }))
    }

    /// Where the version that gives way goes.
    fn away(&mut self, name: &RelationName, live: &There) -> Result<Place, EngineError> {
        let stranger = |why: &str| {
            EngineError::new(ErrorKind::Refused, format!("{name} {why}"))
                .hint("somebody changed it just now; run the command again to record it")
        };
        let version = self.live_map.get(name).filter(|v| v.state.is_some());
        let version = version
            .ok_or_else(|| stranger("is in production, and no release is known to have made it"))?;
        let known = version.state.as_ref().and_then(|s| s.storage.as_deref());
        let known = known.and_then(|storage| storage.split(' ').next());
        if let (Some(known), Some(table)) = (known, &live.table)
            && known != table.created
        {
            return Err(stranger("is another table than the one that was looked at"));
        }
        let schema = layout::retained(version.id, &name.schema)?;
        let away = Place::new(&*name.database, &*schema, &*name.name);
        // A view that is retained is a text, which stays when it is brought back.
        let text = |there: &There| there.view.is_some() && live.view.is_some();
        // So does the copy of it that a job in place left: the version itself takes its place.
        let copy = |there: &There| there.table.is_some() && live.table.is_some();
        let occupied = self.survey.at(&away);
        if occupied.is_some_and(|there| !text(there) && !copy(there)) {
            self.refusals.push(format!(
                "{name}: {} is there already, and is where this version would be kept",
                away
            ));
        }
        self.schemas.insert(schema);
        Ok(away)
    }

    pub(super) fn refuse(&mut self, name: &RelationName, there: &There) {
        let reasons = there.refusals.iter().cloned();
        let others = there
            .access
            .others
            .iter()
            .map(|whom| format!("{whom} cannot be given again by unship"));
        let all: Vec<String> = reasons
            .chain(others)
            .map(|why| format!("{name}: {why}"))
            .collect();
        self.refusals.extend(all);
    }

    pub(super) fn compare_owner(&mut self, name: &RelationName, live: &There, incoming: &There) {
        if let (Some(now), Some(then)) = (&live.owner, &incoming.owner)
            && now != then
        {
            self.refusals.push(format!(
                "{name}: it belongs to the role {now} in production, and to {then} afterwards"
            ));
        }
    }

    pub(super) fn compare_protection(
        &mut self,
        name: &RelationName,
        live: &There,
        incoming: &There,
    ) {
        for what in live.protection.difference(&incoming.protection) {
            self.refusals.push(format!(
                "{name}: {what} would not be on what takes its place"
            ));
        }
    }

    /// What would be lost of what protects production, and of its kind.
    fn compare(&mut self, name: &RelationName, live: &There, incoming: &There) {
        self.compare_owner(name, live, incoming);
        if incoming.view.is_none() {
            self.compare_protection(name, live, incoming);
        }
        if let (Some(now), Some(then)) = (&live.table, &incoming.table) {
            if now.transient != then.transient {
                let word = |transient| if transient { "transient" } else { "permanent" };
                self.refusals.push(format!(
                    "{name}: it is {} in production and {} afterwards, and Snowflake swaps only \
                     tables of one sort",
                    word(now.transient),
                    word(then.transient)
                ));
            }
            if now.created == then.created {
                self.refusals.push(format!(
                    "{name}: it was made in the same instant as what takes its place, so that \
                     they could not be told apart"
                ));
            }
        }
    }

    fn bring(&mut self, name: &RelationName, one: &Incoming<'_>) -> Result<(), EngineError> {
        let at = place(name);
        let live = self.survey.at(&at);
        self.refuse(name, one.there);
        if one.there.view.is_some() {
            // A view is made anew from its text, which says nothing of these.
            let both = live.map(|live| &live.protection).into_iter();
            for what in both.flatten().chain(&one.there.protection) {
                self.refusals.push(format!(
                    "{name}: {what} would not be on the view that is made anew"
                ));
            }
        }
        if !self.survey.schemas.contains(&name.schema) {
            self.schemas.insert(name.schema.clone());
        }
        if let Some(live) = live {
            self.refuse(name, live);
            self.compare(name, live, one.there);
        }
        let first = self.steps.len();
        match (live, &one.there.table, &one.there.view) {
            (_, Some(table), _) => self.bring_table(name, live, one, table)?,
            (_, None, Some(view)) => self.bring_view(name, live, one.there, view)?,
            // What is neither is refused already.
            (_, None, None) => {}
        }
        self.belong(first, name);
        Ok(())
    }

    fn belong(&mut self, first: usize, name: &RelationName) {
        for step in self.steps.iter_mut().skip(first) {
            step.relations = vec![name.clone()];
        }
    }

    fn bring_table(
        &mut self,
        name: &RelationName,
        live: Option<&There>,
        one: &Incoming<'_>,
        table: &Table,
    ) -> Result<(), EngineError> {
        let at = place(name);
        let mut from = one.there.at.clone();
        let mut here = facts::table(&from, Some(&table.created));
        if one.clone {
            let staging = layout::build(&name.schema)?;
            let copy = Place::new(&*name.database, &*staging, format!("{}__UNSHIP", name.name));
            self.schemas.insert(staging);
            self.steps.push(Step {
                explain: format!("make a copy of {from}, which is pinned and stays"),
                ..self.step(
                    SfAction::Clone {
                        copy: copy.clone(),
                        of: from.clone(),
                        transient: table.transient,
                        access: false,
                    },
                    vec![here],
                    vec![facts::made(&copy)],
                )?
            });
            from = copy;
            here = facts::made(&from);
        }
        let mut guard = vec![here.clone()];
        if let Some(token) = table.token.as_deref().filter(|_| !one.clone) {
            guard.push(facts::written(&from, token));
        }
        match live {
            Some(There {
                table: Some(now),
                access: may,
                ..
            }) => {
                self.level(&from, one, may)?;
                let away = self.away(name, live.unwrap_or(one.there))?;
                guard.push(facts::table(&at, Some(&now.created)));
                let mut expect = vec![facts::table(&from, Some(&now.created))];
                if !one.clone {
                    expect.push(facts::table(&at, Some(&table.created)));
                }
                let swap = SfAction::Swap {
                    live: at.clone(),
                    other: from.clone(),
                    token: now.token.clone(),
                    rows: now.rows,
                    access: may.clone(),
                };
                let undo = SfAction::Swap {
                    live: at.clone(),
                    other: from.clone(),
                    token: None,
                    rows: None,
                    access: access::Access::default(),
                };
                self.steps.push(Step {
                    production: true,
                    undo: Some(undo.action(self.release)?),
                    explain: format!("exchange {name} with {from}"),
                    ..self.step(swap, guard, expect)?
                });
                self.put_away(&from, &away, &now.created)?;
            }
            Some(live) => {
                self.notes.push(format!(
                    "{name} is a view now and a table afterwards: it is missing for an instant"
                ));
                self.drop_view(name, live)?;
                self.given(name, &from, !one.clone, false);
                self.arrive(&at, from, guard, one.clone, &table.created)?;
            }
            None => {
                self.given(name, &from, !one.clone, false);
                self.arrive(&at, from, guard, one.clone, &table.created)?;
            }
        }
        Ok(())
    }

    /// What future grants would have given to a relation that is made in a schema of production: it
    /// was made in another one. A copy is not there before the first steps; nor is a view.
    fn given(&mut self, name: &RelationName, from: &Place, there: bool, view: bool) {
        let here = self.survey.future.get(&name.schema).into_iter().flatten();
        let at = if there { from.clone() } else { place(name) };
        let changes = here
            .filter(|future| future.view == view)
            .map(|future| Change {
                place: at.clone(),
                view,
                grant: future.grant.clone(),
                give: true,
            });
        match there {
            true => self.before.extend(changes),
            false => self.after.extend(changes),
        }
    }

    /// Privileges: what production's has, what takes its place must have.
    fn level(
        &mut self,
        from: &Place,
        one: &Incoming<'_>,
        may: &access::Access,
    ) -> Result<(), EngineError> {
        // A copy has no privileges of its own.
        let has = match one.clone {
            true => access::Access::default(),
            false => one.there.access.clone(),
        };
        let change = |grant: &Grant, give| Change {
            place: from.clone(),
            view: false,
            grant: grant.clone(),
            give,
        };
        let mut changes: Vec<Change> = access::lost(may, &has)
            .into_iter()
            .map(|grant| change(grant, true))
            .collect();
        if self.strict {
            let surplus = access::lost(&has, may);
            changes.extend(surplus.into_iter().map(|grant| change(grant, false)));
        }
        if one.clone && !changes.is_empty() {
            // It is not there before it is made.
            let step = self.grants(changes)?;
            self.steps.extend(step);
        } else {
            self.before.extend(changes);
        }
        Ok(())
    }

    /// A copy of the version that gives way is dropped, where one is retained: the version itself is
    /// kept instead.
    fn drop_copy(&mut self, of: &Place, copy: &Place) -> Result<(), EngineError> {
        let Some(table) = self.survey.at(copy).and_then(|there| there.table.as_ref()) else {
            return Ok(());
        };
        let (created, transient) = (table.created.clone(), table.transient);
        let again = SfAction::Clone {
            copy: copy.clone(),
            of: of.clone(),
            transient,
            access: true,
        };
        // Taken back, it is another copy: which it must be is looked at when it is dropped.
        let guard = vec![facts::made(copy), facts::made(of)];
        let gone = SfAction::DropTable {
            place: copy.clone(),
            created,
        };
        self.steps.push(Step {
            undo: Some(again.action(self.release)?),
            explain: format!("drop {copy}, a copy of what gives way and is kept itself"),
            ..self.step(gone, guard, vec![facts::table(copy, None)])?
        });
        Ok(())
    }

    fn put_away(&mut self, from: &Place, to: &Place, created: &str) -> Result<(), EngineError> {
        self.drop_copy(from, to)?;
        // That it is there is what the step before this brings about.
        let guard = vec![facts::table(to, None)];
        let expect = vec![facts::table(from, None), facts::table(to, Some(created))];
        let (away, back) = (
            SfAction::Move {
                from: from.clone(),
                to: to.clone(),
                created: Some(created.to_owned()),
            },
            SfAction::Move {
                from: to.clone(),
                to: from.clone(),
                created: Some(created.to_owned()),
            },
        );
        self.steps.push(Step {
            undo: Some(back.action(self.release)?),
            explain: format!("keep what gave way as {to}"),
            ..self.step(away, guard, expect)?
        });
        Ok(())
    }

    /// A table comes to where none is.
    fn arrive(
        &mut self,
        at: &Place,
        from: Place,
        mut guard: Vec<Fact>,
        clone: bool,
        created: &str,
    ) -> Result<(), EngineError> {
        guard.push(facts::table(at, None));
        let mut expect = vec![facts::table(&from, None)];
        expect.push(match clone {
            true => facts::made(at),
            false => facts::table(at, Some(created)),
        });
        let which = (!clone).then(|| created.to_owned());
        let back = SfAction::Move {
            from: at.clone(),
            to: from.clone(),
            created: which.clone(),
        };
        let come = SfAction::Move {
            from: from.clone(),
            to: at.clone(),
            created: which,
        };
        self.steps.push(Step {
            production: true,
            undo: Some(back.action(self.release)?),
            explain: format!("move {from} to {at}"),
            ..self.step(come, guard, expect)?
        });
        Ok(())
    }

    fn bring_view(
        &mut self,
        name: &RelationName,
        live: Option<&There>,
        incoming: &There,
        view: &View,
    ) -> Result<(), EngineError> {
        let at = place(name);
        let was = live.and_then(|live| live.view.as_ref());
        match live {
            Some(live) if was.is_some() => {
                let away = self.away(name, live)?;
                self.keep_view(&away, was)?;
            }
            Some(live) => {
                self.notes.push(format!(
                    "{name} is a table now and a view afterwards: it is missing for an instant"
                ));
                self.leave_table(name, live)?;
            }
            None => self.given(name, &at, false, true),
        }
        let may = live.map(|live| live.access.clone()).unwrap_or_default();
        let more = access::lost(&incoming.access, &may).into_iter().cloned();
        let lost = match was {
            // They stay with a view that is replaced.
            Some(_) => Vec::new(),
            None => may.grants.iter().cloned().collect(),
        };
        let changes: Vec<Change> = more
            .chain(lost)
            .map(|grant| Change {
                place: at.clone(),
                view: true,
                grant,
                give: true,
            })
            .collect();
        self.after.extend(
            changes
                .into_iter()
                .filter(|_| !self.strict || was.is_none()),
        );
        let make = make_view(&at, view);
        let undo = match was {
            Some(was) => make_view(&at, was),
            None => SfAction::DropView { place: at.clone() },
        };
        self.steps.push(Step {
            production: true,
            undo: Some(undo.action(self.release)?),
            explain: format!("put the view {name} in place"),
            ..self.step(
                make,
                vec![facts::view(&at, was.map(|was| was.hash.as_str()))],
                vec![facts::view(&at, Some(&view.hash))],
            )?
        });
        Ok(())
    }

    /// A view's text is retained beside the tables of its release.
    fn keep_view(&mut self, away: &Place, view: Option<&View>) -> Result<(), EngineError> {
        let Some(view) = view else { return Ok(()) };
        self.steps.push(Step {
            explain: format!("keep the view that gives way as {away}"),
            ..self.step(
                make_view(away, view),
                Vec::new(),
                vec![facts::view(away, Some(&view.hash))],
            )?
        });
        Ok(())
    }

    fn drop_view(&mut self, name: &RelationName, live: &There) -> Result<(), EngineError> {
        let at = place(name);
        let away = self.away(name, live)?;
        self.keep_view(&away, live.view.as_ref())?;
        let hash = live.view.as_ref().map(|view| view.hash.as_str());
        let undo = live.view.as_ref().map(|view| make_view(&at, view));
        let undo = undo.map(|undo| undo.action(self.release)).transpose()?;
        self.steps.push(Step {
            production: true,
            undo,
            explain: format!("drop the view {name}"),
            ..self.step(
                SfAction::DropView { place: at.clone() },
                vec![facts::view(&at, hash)],
                vec![facts::view(&at, None)],
            )?
        });
        Ok(())
    }

    fn leave_table(&mut self, name: &RelationName, live: &There) -> Result<(), EngineError> {
        let at = place(name);
        let away = self.away(name, live)?;
        let created = live.table.as_ref().map(|table| table.created.as_str());
        self.put_away(&at, &away, created.unwrap_or("absent"))?;
        if let Some(step) = self.steps.last_mut() {
            step.production = true;
        }
        Ok(())
    }

    fn remove(&mut self, name: &RelationName) -> Result<(), EngineError> {
        let first = self.steps.len();
        if let Some(live) = self.survey.at(&place(name)) {
            self.refuse(name, live);
            match live.view {
                Some(_) => self.drop_view(name, live)?,
                None => self.leave_table(name, live)?,
            }
        }
        self.belong(first, name);
        Ok(())
    }
}

fn make_view(at: &Place, view: &View) -> SfAction {
    SfAction::MakeView {
        place: at.clone(),
        body: view.body.clone().unwrap_or_default(),
        secure: view.secure,
        comment: view.comment.clone(),
        columns: view.columns.clone(),
    }
}
