//! Which statements restore a set of relations, or why none do.

use super::super::catalog::{Catalog, Key};
use super::super::observe::{comment, macro_word};
use super::super::{definition, quote};
use super::{Refusal, RestoreError, RestorePlan, broken, key};
use crate::duckdb::worker::Worker;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::ident::RelationName;

/// Plans to make the relations in `bring` as they are in the attached catalog `source`, and to
/// remove those in `remove`, in the worker's main database. Changes nothing.
///
/// # Errors
/// [`RestoreError::Refused`] with every relation that stands in the way, or the worker's error.
pub fn plan(
    worker: &mut Worker,
    source: &str,
    bring: &BTreeSet<RelationName>,
    remove: &BTreeSet<RelationName>,
) -> Result<RestorePlan, RestoreError> {
    let target = worker.database().to_owned();
    let mut planner = Planner {
        now: Catalog::load(worker, &target, &target)?,
        then: Catalog::load(worker, source, &target)?,
        bring: bring.iter().map(key).collect(),
        remove: remove.iter().map(key).collect(),
        refusals: Vec::new(),
        statements: Vec::new(),
    };
    planner.refuse_what_is_missing();
    planner.keep_or_add_sequences();
    planner.keep_equal_types();
    planner.refuse_foreign_keys();
    planner.refuse_self_references();
    planner.refuse_macros();
    planner.drops();
    planner.makes();
    if !planner.refusals.is_empty() {
        return Err(RestoreError::Refused(planner.refusals));
    }
    let readers = planner.readers();
    let unreadable = broken(worker, &readers)?;
    let readers = readers
        .into_iter()
        .filter(|view| unreadable.iter().all(|(name, _)| name != view))
        .collect();
    let name = |key: &Key| planner.now.relation(key);
    Ok(RestorePlan {
        bring: planner.bring.iter().map(name).collect(),
        remove: planner.remove.iter().map(name).collect(),
        target,
        source: source.to_owned(),
        statements: planner.statements,
        readers,
    })
}

struct Planner {
    now: Catalog,
    then: Catalog,
    bring: BTreeSet<Key>,
    remove: BTreeSet<Key>,
    refusals: Vec<Refusal>,
    statements: Vec<String>,
}

impl Planner {
    fn refuse(&mut self, key: &Key, reason: impl Into<String>) {
        let relation = self.now.relation(key);
        self.refusals.push(Refusal {
            relation,
            reason: reason.into(),
        });
    }

    fn inside(&self, key: &Key) -> bool {
        self.bring.contains(key) || self.remove.contains(key)
    }

    fn refuse_what_is_missing(&mut self) {
        for key in self.bring.union(&self.remove).cloned().collect::<Vec<_>>() {
            if self.then.kinds(&key) > 1 || self.now.kinds(&key) > 1 {
                self.refuse(
                    &key,
                    "relations of different kinds share this name; rename one",
                );
            }
            if self.bring.contains(&key) && self.then.kinds(&key) == 0 {
                self.refuse(&key, "it is not in the restore point");
            }
        }
        let now = &self.now;
        self.remove.retain(|key| now.kinds(key) > 0);
    }

    /// Sequences that exist stay; those that restored tables draw from and that are gone come too.
    fn keep_or_add_sequences(&mut self) {
        for (reader, read) in self.then.edges() {
            if self.bring.contains(&reader) && self.then.sequences.contains_key(&read) {
                self.bring.insert(read);
            }
        }
        let both: Vec<Key> = self
            .bring
            .iter()
            .filter(|key| self.now.sequences.contains_key(*key))
            .cloned()
            .collect();
        for key in both {
            let text = |catalog: &Catalog| {
                catalog
                    .sequences
                    .get(&key)
                    .map(|s| definition::sequence(s, "", false))
            };
            match text(&self.then) {
                Some(then) if Some(&then) != text(&self.now).as_ref() => self.refuse(
                    &key,
                    "the sequence has other limits in the restore point, and DuckDB cannot alter one",
                ),
                Some(_) => {
                    self.bring.remove(&key);
                }
                // Something else than a sequence in the restore point: it is dropped and made.
                None => {}
            }
        }
    }

    /// A type that is the same stays. Tables hold a copy of a type, so none depends on it.
    fn keep_equal_types(&mut self) {
        let (now, then) = (&self.now, &self.then);
        self.bring
            .retain(|key| match (now.types.get(key), then.types.get(key)) {
                (Some(a), Some(b)) => (&a.text, &a.comment) != (&b.text, &b.comment),
                _ => true,
            });
    }

    fn refuse_foreign_keys(&mut self) {
        let mut refusals = Vec::new();
        for (child, table) in &self.now.tables {
            for parent in table.parents.iter().filter(|parent| self.inside(parent)) {
                if !self.inside(child) {
                    let child = self.now.relation(child);
                    refusals.push((
                        parent.clone(),
                        format!("{child} refers to it by a foreign key; restore that too"),
                    ));
                }
            }
        }
        for (reader, read) in self.now.edges() {
            let drops = self.inside(&read) && self.now.sequences.contains_key(&read);
            if drops && !self.inside(&reader) {
                let reader = self.now.relation(&reader);
                refusals.push((read, format!("{reader} draws from it; restore that too")));
            }
        }
        for key in &self.bring {
            for parent in self
                .then
                .tables
                .get(key)
                .into_iter()
                .flat_map(|table| &table.parents)
            {
                let stays = self.now.tables.contains_key(parent) && !self.remove.contains(parent);
                if !self.bring.contains(parent) && !stays {
                    let parent = self.now.relation(parent);
                    let reason = format!(
                        "its foreign key refers to {parent}, which is gone; restore that too"
                    );
                    refusals.push((key.clone(), reason));
                }
            }
        }
        for (key, reason) in refusals {
            self.refuse(&key, reason);
        }
    }

    /// DuckDB checks a foreign key against the rows that were there before the statement, so a
    /// table that refers to itself cannot be filled by one; and before 2.0 its catalog does not
    /// even say how it refers.
    fn refuse_self_references(&mut self) {
        let then = &self.then;
        let itself = |key: &&Key| {
            then.tables
                .get(*key)
                .is_some_and(|t| t.parents.contains(*key))
        };
        for key in self
            .bring
            .iter()
            .filter(itself)
            .cloned()
            .collect::<Vec<_>>()
        {
            self.refuse(
                &key,
                "it refers to itself by a foreign key, and DuckDB cannot make and fill such a \
                 table again; restore the whole file",
            );
        }
    }

    fn refuse_macros(&mut self) {
        let inexact: Vec<Key> = self
            .then
            .macros
            .iter()
            .filter(|((key, _), text)| self.bring.contains(key) && !text.exact)
            .map(|((key, _), _)| key.clone())
            .collect();
        for key in inexact {
            self.refuse(
                &key,
                "DuckDB does not say which parameters of this macro have defaults; restore the \
                 whole file, or leave it out",
            );
        }
    }

    fn drops(&mut self) {
        let now = &self.now;
        let inside = |key: &&Key| self.bring.contains(*key) || self.remove.contains(*key);
        let full = |key: &Key| quote::relation(&now.name, &key.0, &key.1);
        let mut list = Vec::new();
        for key in now.views.keys().filter(inside) {
            list.push(format!("DROP VIEW {}", full(key)));
        }
        for (key, is_table) in now.macros.keys().filter(|(key, _)| inside(&key)) {
            list.push(format!("DROP {} {}", macro_word(*is_table), full(key)));
        }
        let tables: BTreeSet<Key> = now.tables.keys().filter(inside).cloned().collect();
        for key in ordered(&tables, &now.edges(), |_| 0).iter().rev() {
            list.push(format!("DROP TABLE {}", full(key)));
        }
        for key in now.sequences.keys().filter(inside) {
            list.push(format!("DROP SEQUENCE {}", full(key)));
        }
        for key in now.types.keys().filter(inside) {
            list.push(format!("DROP TYPE {}", full(key)));
        }
        self.statements.extend(list);
    }

    fn makes(&mut self) {
        let mut schemas: BTreeSet<&str> = self.bring.iter().map(|key| key.0.as_str()).collect();
        schemas.retain(|schema| !self.now.schemas.contains(*schema) && *schema != "main");
        let mut list: Vec<String> = schemas
            .into_iter()
            .map(|schema| {
                let (catalog, schema) = (quote::name(&self.now.name), quote::name(schema));
                format!("CREATE SCHEMA IF NOT EXISTS {catalog}.{schema}")
            })
            .collect();
        let full = |key: &Key| quote::relation(&self.now.name, &key.0, &key.1);
        let brought = |key: &&Key| self.bring.contains(*key);
        for (key, of_type) in self.then.types.iter().filter(|(key, _)| brought(key)) {
            list.push(format!("CREATE TYPE {} AS {}", full(key), of_type.text));
            list.extend(comment("TYPE", &full(key), of_type.comment.as_deref()));
        }
        for (key, sequence) in self.then.sequences.iter().filter(|(key, _)| brought(key)) {
            list.push(definition::sequence(sequence, &full(key), true));
            list.extend(comment("SEQUENCE", &full(key), sequence.comment.as_deref()));
        }
        let edges = self.then.edges();
        let tables: BTreeSet<Key> = self.then.tables.keys().filter(brought).cloned().collect();
        let tables = ordered(&tables, &edges, |_| 0);
        let mut refused = Vec::new();
        for key in &tables {
            match self.table(key, &full(key)) {
                Some(statements) => list.extend(statements),
                None => refused.push(key.clone()),
            }
        }
        for key in &tables {
            match self.after_rows(key, &full(key)) {
                Some(statements) => list.extend(statements),
                None => refused.push(key.clone()),
            }
        }
        let queries: BTreeSet<Key> = self
            .then
            .views
            .keys()
            .chain(self.then.macros.keys().map(|(key, _)| key))
            .filter(brought)
            .cloned()
            .collect();
        // A query that DuckDB could not take apart comes where it stood in the catalog.
        let place = |key: &Key| {
            let view = self.then.views.get(key).map(|view| view.order);
            let of_macro = |is_table| {
                self.then
                    .macros
                    .get(&(key.clone(), is_table))
                    .map(|text| text.order)
            };
            view.or_else(|| of_macro(false))
                .or_else(|| of_macro(true))
                .unwrap_or_default()
        };
        for key in ordered(&queries, &edges, place) {
            match self.query(&key, &full(&key)) {
                Some(statements) => list.extend(statements),
                None => refused.push(key.clone()),
            }
        }
        self.statements.extend(list);
        for key in refused {
            self.refuse(&key, "its definition in the catalog is not understood");
        }
    }

    /// Names without a schema mean what they mean to a relation of that schema.
    fn look_in(&self, schema: &str) -> String {
        let at = |schema: &str| format!("{}.{}", quote::name(&self.now.name), quote::name(schema));
        let path = if schema == "main" {
            at("main")
        } else {
            format!("{},{}", at(schema), at("main"))
        };
        format!("SET search_path = {}", quote::text(&path))
    }

    fn table(&self, key: &Key, full: &str) -> Option<Vec<String>> {
        let table = self.then.tables.get(key)?;
        let from = quote::relation(&self.then.name, &key.0, &key.1);
        let columns = quote::names(
            table
                .columns
                .iter()
                .filter(|c| !c.generated)
                .map(|c| c.column.name.as_str()),
        );
        Some(vec![
            self.look_in(&key.0),
            definition::table(table, full)?,
            format!("INSERT INTO {full} ({columns}) SELECT {columns} FROM {from}"),
        ])
    }

    fn after_rows(&self, key: &Key, full: &str) -> Option<Vec<String>> {
        let table = self.then.tables.get(key)?;
        let mut list = Vec::new();
        for index in &table.indexes {
            list.push(definition::index(index, full)?);
            let name = quote::relation(&self.now.name, &key.0, &index.name);
            list.extend(comment("INDEX", &name, index.comment.as_deref()));
        }
        list.extend(comment("TABLE", full, table.comment.as_deref()));
        list.extend(Catalog::column_comments(full, &table.columns));
        Some(list)
    }

    fn query(&self, key: &Key, full: &str) -> Option<Vec<String>> {
        let mut list = vec![self.look_in(&key.0)];
        if let Some(view) = self.then.views.get(key) {
            list.push(definition::view(view, full)?);
            list.extend(comment("VIEW", full, view.comment.as_deref()));
            list.extend(Catalog::column_comments(full, &view.columns));
        }
        for is_table in [false, true] {
            if let Some(text) = self.then.macros.get(&(key.clone(), is_table)) {
                list.push(definition::macro_statement(text, full));
                list.extend(comment(macro_word(is_table), full, text.comment.as_deref()));
            }
        }
        Some(list)
    }

    /// Views outside of the restore that read something in it, however far away.
    fn readers(&self) -> Vec<RelationName> {
        let edges = self.now.edges();
        let mut reached: BTreeSet<Key> = self.bring.union(&self.remove).cloned().collect();
        loop {
            let more: Vec<Key> = edges
                .iter()
                .filter(|(reader, read)| reached.contains(read) && !reached.contains(reader))
                .map(|(reader, _)| reader.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            reached.extend(more);
        }
        let outside = reached.iter().filter(|key| !self.inside(key));
        outside
            .filter(|key| self.now.views.contains_key(*key))
            .map(|key| self.now.relation(key))
            .collect()
    }
}

impl Catalog {
    /// How many relations of different kinds have this name.
    fn kinds(&self, key: &Key) -> usize {
        let is_macro = [false, true]
            .iter()
            .any(|is_table| self.macros.contains_key(&(key.clone(), *is_table)));
        [
            self.tables.contains_key(key),
            self.views.contains_key(key),
            self.sequences.contains_key(key),
            self.types.contains_key(key),
            is_macro,
        ]
        .into_iter()
        .filter(|there| *there)
        .count()
    }
}

/// `keys` so that whatever one reads comes before it; among equals by `place`, then by name. What
/// reads itself in a circle (which DuckDB does not allow) comes last, by the same order.
fn ordered(
    keys: &BTreeSet<Key>,
    edges: &BTreeSet<(Key, Key)>,
    place: impl Fn(&Key) -> u64,
) -> Vec<Key> {
    let mut waits: BTreeMap<&Key, BTreeSet<&Key>> =
        keys.iter().map(|key| (key, BTreeSet::new())).collect();
    for (reader, read) in edges {
        if keys.contains(read)
            && reader != read
            && let Some(reads) = waits.get_mut(reader)
        {
            reads.insert(read);
        }
    }
    let mut order = Vec::new();
    while !waits.is_empty() {
        let next = waits
            .iter()
            .min_by_key(|(key, reads)| (!reads.is_empty(), place(key), **key))
            .map(|(key, _)| *key);
        let Some(next) = next else { break };
        waits.remove(next);
        for reads in waits.values_mut() {
            reads.remove(next);
        }
        order.push(next.clone());
    }
    order
}
