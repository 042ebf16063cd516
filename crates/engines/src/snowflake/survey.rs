//! What planning needs to know of relations in production, in staging and retained.

use super::access::{self, Access};
use super::catalog::{self, Extent, Relation};
use super::inside::{self, Future, Inside};
use super::level::Level;
use super::session::{Session, cell, text};
use super::sql::{self, Place};
use super::{hang, layout, observe};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::EngineError;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::RelationKind;

/// Everything that a plan is made from, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The role that acts.
    pub role: String,
    /// The schemas that are there.
    pub schemas: BTreeSet<String>,
    /// What stands where.
    pub there: Vec<There>,
    /// What is in each schema of production, of staging and of retained versions, where schemas are
    /// exchanged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub whole: BTreeMap<String, Inside>,
    /// The schemas that retain something, as they are written down.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub remembered: BTreeSet<String>,
    /// What whoever makes a relation in each schema of production gives away with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub future: BTreeMap<String, BTreeSet<Future>>,
}

/// A relation somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct There {
    /// Where.
    pub at: Place,
    /// Its identity; none for a view.
    pub table: Option<Table>,
    /// What a view is; none for a table.
    pub view: Option<View>,
    /// The role that owns it.
    pub owner: Option<String>,
    /// Who may do what with it.
    pub access: Access,
    /// Why it must not be replaced, each a sentence about it.
    pub refusals: Vec<String>,
    /// Its policies and tags.
    pub protection: BTreeSet<String>,
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its identity.
    pub created: String,
    /// What changes with every write.
    pub token: Option<String>,
    /// How many rows it has.
    pub rows: Option<u64>,
    /// Whether it is transient.
    pub transient: bool,
}

/// What is known of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// What it selects, with production's names; none where it could not be read.
    pub body: Option<String>,
    /// What it selects as it was written, where it names a schema of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// Whether it hides its text.
    pub secure: bool,
    /// Its comment.
    pub comment: Option<String>,
    /// Its columns' names.
    pub columns: Vec<String>,
    /// What tells it from another.
    pub hash: String,
    /// When it was made.
    #[serde(default)]
    pub made: String,
}

impl View {
    /// What tells it from another by the text as it was written.
    pub fn raw_hash(&self) -> String {
        let body = self.raw.as_deref().or(self.body.as_deref());
        catalog::view_hash(self.secure, self.comment.as_deref(), body)
    }
}

impl Survey {
    /// What stands at a place.
    pub fn at(&self, place: &Place) -> Option<&There> {
        self.there.iter().find(|there| there.at == *place)
    }
}

/// Looks around these relations.
pub fn survey(
    session: &Session,
    release: ReleaseId,
    relations: &BTreeSet<RelationName>,
    level: Level,
) -> Result<Survey, EngineError> {
    let all = catalog::schemas(session)?;
    let own: BTreeSet<String> = relations.iter().map(|name| name.schema.clone()).collect();
    let staged = catalog::staging(session, &all, &own, release)?;
    let concerned: BTreeSet<String> = all
        .iter()
        .filter(|schema| {
            let retains = layout::parse_retained(schema).map(|(_, schema)| schema);
            own.contains(schema.as_str())
                || staged.contains(*schema)
                || own.iter().any(|own| retains == Some(own.as_str()))
        })
        .cloned()
        .collect();
    let catalog = catalog::load(session, &concerned, Extent::All)?;
    let wanted = |at: &Place, relation: &Relation| {
        !observe::is_helper(at, relation) && relations.contains(&observe::named(at))
    };
    let live: BTreeSet<Place> = catalog
        .iter()
        .filter(|(at, relation)| wanted(at, relation) && layout::may_be_production(&at.schema))
        .filter(|(_, relation)| relation.kind == RelationKind::Table)
        .map(|(at, _)| at.clone())
        .collect();
    let mut hanging: BTreeMap<Place, Vec<String>> = hang::on(session, &live)?;
    let whole = match level {
        Level::Table => BTreeMap::new(),
        Level::Schema => inside::look(session, &concerned, &catalog)?,
    };
    let remembered = match level {
        Level::Table => BTreeSet::new(),
        Level::Schema => {
            let home = BTreeSet::from([layout::HOME.to_owned()]);
            let there = catalog::load(session, &home, Extent::Names)?;
            there.into_keys().map(|at| at.name).collect()
        }
    };
    let standing: BTreeSet<String> = own.iter().filter(|s| all.contains(s)).cloned().collect();
    let future = inside::future(session, &standing)?;
    let role = session.rows(&sql::session(), "see which role acts")?;
    let role = role.first().and_then(|row| text(cell(row, 0)));
    let mut survey = Survey {
        role: role.unwrap_or_default(),
        schemas: all.into_iter().collect(),
        there: Vec::new(),
        whole,
        remembered,
        future,
    };
    for (at, relation) in catalog.iter().filter(|(at, relation)| wanted(at, relation)) {
        let view = relation.kind == RelationKind::View;
        let mut refusals = hanging.remove(at).unwrap_or_default();
        refusals.extend(relation.special.map(|sort| format!("it is {sort}")));
        if view && relation.body.is_none() {
            refusals.push("the role may not read its text, or it is not understood".to_owned());
        }
        let sequence = relation.details.iter().find(|detail| {
            detail.to_uppercase().contains(".NEXTVAL") && layout::parse_build(&at.schema).is_some()
        });
        if let Some(detail) = sequence {
            refusals.push(format!(
                "its column {detail} takes numbers from a sequence, which would stay in staging"
            ));
        }
        let table = !view && relation.special.is_none();
        survey.there.push(There {
            at: at.clone(),
            table: table.then(|| Table {
                created: catalog::identity(&relation.created),
                token: relation.token.clone(),
                rows: relation.rows,
                transient: relation.transient,
            }),
            view: view.then(|| View {
                body: relation.body.clone(),
                raw: relation.raw.clone(),
                secure: relation.secure,
                comment: relation.comment.clone(),
                columns: relation.columns.iter().map(|c| c.name.clone()).collect(),
                hash: relation.text_hash(),
                made: catalog::identity(&relation.created),
            }),
            owner: relation.owner.clone(),
            access: access::read(session, at, view)?,
            refusals,
            protection: match table || view {
                true => hang::protection(session, at, view)?,
                false => BTreeSet::new(),
            },
        });
    }
    Ok(survey)
}
