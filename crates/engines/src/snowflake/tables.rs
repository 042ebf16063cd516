//! Planning for tables: one exchanges places with another, arrives where none is, or leaves.

use super::access;
use super::facts;
use super::layout;
use super::plan::{Change, SfAction};
use super::planner::{Incoming, Planner, place};
use super::sql::{Grant, Place};
use super::survey::{Table, There};
use unship_core::engine::EngineError;
use unship_core::ident::RelationName;
use unship_core::plan::{Fact, Step};

impl Planner<'_> {
    pub(super) fn bring_table(
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

    pub(super) fn leave_table(
        &mut self,
        name: &RelationName,
        live: &There,
    ) -> Result<(), EngineError> {
        let at = place(name);
        let away = self.away(name, live)?;
        let created = live.table.as_ref().map(|table| table.created.as_str());
        self.put_away(&at, &away, created.unwrap_or("absent"))?;
        if let Some(step) = self.steps.last_mut() {
            step.production = true;
        }
        Ok(())
    }
}
