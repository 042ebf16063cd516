//! Planning for views: a text that is put in place, and one that is kept.

use super::access;
use super::facts;
use super::plan::{Change, SfAction};
use super::planner::{Planner, place};
use super::sql::Place;
use super::survey::{There, View};
use unship_core::engine::EngineError;
use unship_core::ident::RelationName;
use unship_core::plan::Step;

impl Planner<'_> {
    pub(super) fn bring_view(
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

    pub(super) fn drop_view(
        &mut self,
        name: &RelationName,
        live: &There,
    ) -> Result<(), EngineError> {
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
