//! Tables that leave their names, that get their names, and what a table that was registered lacks.

use super::{Intent, Return};
use crate::iceberg::action::{ABSENT, ALL, IcebergAction, Registered, Sequence, Turn, subject};
use crate::iceberg::name;
use crate::iceberg::rest::Identifier;
use unship_core::engine::EngineError;
use unship_core::plan::Fact;

impl Intent<'_> {
    pub(super) fn leaving(&self, steps: &mut Sequence) -> Result<(), EngineError> {
        for (relation, from, to, uuid) in &self.leave {
            let rename = |from: &Identifier, to: &Identifier| IcebergAction::Rename {
                from: from.clone(),
                to: to.clone(),
                uuid: uuid.clone(),
            };
            let place = name::text(to);
            let mut turns = vec![
                (subject::table(from), uuid.clone(), ABSENT.to_owned()),
                (subject::table(to), ABSENT.to_owned(), uuid.clone()),
            ];
            // What takes its place is what was checked, before this one gives way.
            turns.extend(
                self.checked(relation)
                    .map(|(at, head)| (at, head.clone(), head)),
            );
            steps.push(
                &rename(from, to),
                Some(&rename(to, from)),
                vec![relation.clone()],
                &turns,
                vec![format!("rename {relation} to {place}")],
                format!("set {relation} aside as {place}"),
            )?;
        }
        Ok(())
    }

    pub(super) fn coming(&self, steps: &mut Sequence) -> Result<(), EngineError> {
        for (relation, id, way, uuid) in &self.come {
            let arrives = (subject::table(id), ABSENT.to_owned(), uuid.clone());
            let (action, undo, turns, statement) = match way {
                Return::Renamed(at) => {
                    let place = name::text(at);
                    let rename = |from: &Identifier, to: &Identifier| IcebergAction::Rename {
                        from: from.clone(),
                        to: to.clone(),
                        uuid: uuid.clone(),
                    };
                    let leaves = (subject::table(at), uuid.clone(), ABSENT.to_owned());
                    let checked = self.checked(relation);
                    let checked = checked.map(|(at, head)| (at, head, ABSENT.to_owned()));
                    (
                        rename(at, id),
                        rename(id, at),
                        [arrives, leaves].into_iter().chain(checked).collect(),
                        format!("rename {place} to {relation}"),
                    )
                }
                Return::Registered(metadata, _) => (
                    IcebergAction::Register {
                        name: id.clone(),
                        metadata: metadata.clone(),
                        uuid: uuid.clone(),
                    },
                    IcebergAction::Unregister {
                        name: id.clone(),
                        uuid: uuid.clone(),
                    },
                    vec![arrives],
                    format!("register {relation} from {metadata}"),
                ),
            };
            // A name in production may be one that it had.
            let mut relations = vec![relation.clone()];
            if let Return::Renamed(at) = way
                && !name::is_own(&at.namespace)
            {
                relations.push(name::relation(&relation.database, at));
            }
            let explain = match self.publishes {
                true => format!("give {relation}, which was made aside, its name"),
                false => format!("bring {relation} back, which is not there now"),
            };
            steps.push(
                &action,
                Some(&undo),
                relations,
                &turns,
                vec![statement],
                explain,
            )?;
        }
        Ok(())
    }

    /// A table that was registered is to be what it was, tags included. A step of its own, so that
    /// what is done of it after the name is there can be seen after a crash.
    pub(super) fn tagging(&self, steps: &mut Sequence) -> Result<(), EngineError> {
        let mut relations = Vec::new();
        let mut tables = Vec::new();
        for (relation, id, way, uuid) in &self.come {
            if let Return::Registered(_, main) = way {
                relations.push(relation.clone());
                tables.push(Registered {
                    name: id.clone(),
                    uuid: uuid.clone(),
                    main: main.map_or(ABSENT.to_owned(), |id| id.to_string()),
                });
            }
        }
        if tables.is_empty() {
            return Ok(());
        }
        let turns: Vec<Turn> = tables
            .iter()
            .map(|one| {
                (
                    subject::table(&one.name),
                    one.uuid.clone(),
                    one.uuid.clone(),
                )
            })
            .collect();
        let after: Vec<_> = tables
            .iter()
            .map(|one| Fact::new(subject::tags(&one.name), ALL.to_owned()))
            .collect();
        let statements = relations.iter();
        let statements = statements.map(|relation| format!("tag {relation} again"));
        let statements = statements.collect();
        let action = IcebergAction::Retag { tables };
        let explain = match &*relations {
            [one] => format!("make the tags of {one} again"),
            all => format!("make the tags of {} tables again", all.len()),
        };
        steps.push(&action, None, relations, &turns, statements, explain)?;
        steps.then(after);
        Ok(())
    }
}
