//! Putting steps together: for each relation what must be true, what is done, and how it is taken
//! back.

use super::facts;
use super::layout;
use super::order::in_order;
use super::plan::{Change, ENGINE, SfAction};
use super::sql::Place;
use super::survey::{Survey, There};
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

    pub(super) fn grants(&self, changes: Vec<Change>) -> Result<Option<Step>, EngineError> {
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
    pub(super) fn away(&mut self, name: &RelationName, live: &There) -> Result<Place, EngineError> {
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

    /// What future grants would have given to a relation that is made in a schema of production: it
    /// was made in another one. A copy is not there before the first steps; nor is a view.
    pub(super) fn given(&mut self, name: &RelationName, from: &Place, there: bool, view: bool) {
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
