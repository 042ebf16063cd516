//! The catalog as relations with their states.

use super::super::worker::{Worker, WorkerError};
use super::catalog::{Catalog, Key, TableColumn};
use super::reads::Mention;
use super::{definition, fingerprint, quote, storage};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::ident::RelationName;
use unship_core::relation::{Column, RelationKind, RelationState};

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Definitions only: reads the catalog.
    Definitions,
    /// Also exact row counts and storage digests: reads metadata.
    Storage,
    /// Also fingerprints: reads every row once.
    Fingerprints,
}

/// Everything in the attached database `catalog`: tables, views, sequences, macros and types of
/// every schema. Where two objects of different kinds share a name, the state is the first's (in
/// that order) and its definition holds the other's too.
///
/// # Errors
/// DuckDB's own, or the worker's end.
pub fn observe(
    worker: &mut Worker,
    catalog: &str,
    depth: Depth,
) -> Result<BTreeMap<RelationName, RelationState>, WorkerError> {
    let loaded = Catalog::load(worker, catalog, catalog)?;
    let mut states = definitions(&loaded);
    if depth >= Depth::Storage {
        let keys: Vec<&Key> = loaded.tables.keys().collect();
        for (key, stored) in storage::stored(worker, catalog, &keys)? {
            if let Some(state) = states.get_mut(&loaded.relation(&key)) {
                state.rows = stored.rows;
                state.storage = stored.digest;
            }
        }
    }
    if depth >= Depth::Fingerprints {
        for key in loaded.tables.keys() {
            let relation = loaded.relation(key);
            if let Some(state) = states.get_mut(&relation) {
                let print = fingerprint::fingerprint(worker, &relation, &state.columns)?;
                state.rows = Some(print.rows);
                state.fingerprint = Some(print);
            }
        }
    }
    for state in states.values_mut() {
        state.dependents.sort();
        state.dependents.dedup();
    }
    Ok(states)
}

/// The states that the catalog alone gives, without rows.
pub(super) fn definitions(catalog: &Catalog) -> BTreeMap<RelationName, RelationState> {
    let mut states: BTreeMap<RelationName, RelationState> = BTreeMap::new();
    let mut add = |key: &Key, kind, columns: &[TableColumn], lines: Vec<String>| {
        let columns: Vec<Column> = columns.iter().map(|column| column.column.clone()).collect();
        let definition = lines.join("\n");
        match states.entry(catalog.relation(key)) {
            std::collections::btree_map::Entry::Occupied(mut same_name) => {
                let state = same_name.get_mut();
                state.definition.push('\n');
                state.definition.push_str(&definition);
            }
            std::collections::btree_map::Entry::Vacant(empty) => {
                empty.insert(RelationState {
                    kind,
                    columns,
                    definition,
                    dependents: Vec::new(),
                    rows: None,
                    fingerprint: None,
                    storage: None,
                });
            }
        }
    };
    for (key, table) in &catalog.tables {
        add(
            key,
            RelationKind::Table,
            &table.columns,
            catalog.table_lines(key),
        );
    }
    for (key, view) in &catalog.views {
        add(
            key,
            RelationKind::View,
            &view.columns,
            catalog.view_lines(key),
        );
    }
    for (key, sequence) in &catalog.sequences {
        let target = local(key);
        let mut lines = vec![definition::sequence(sequence, &target, false)];
        lines.extend(comment("SEQUENCE", &target, sequence.comment.as_deref()));
        add(key, RelationKind::Sequence, &[], lines);
    }
    for (key, of_type) in &catalog.types {
        let target = local(key);
        let mut lines = vec![format!("CREATE TYPE {target} AS {}", of_type.text)];
        lines.extend(comment("TYPE", &target, of_type.comment.as_deref()));
        add(key, RelationKind::Type, &[], lines);
    }
    for ((key, is_table), text) in &catalog.macros {
        let target = local(key);
        let mut lines = vec![definition::macro_statement(text, &target)];
        lines.extend(comment(
            macro_word(*is_table),
            &target,
            text.comment.as_deref(),
        ));
        add(key, RelationKind::Macro, &[], lines);
    }
    for (reader, read) in catalog.edges() {
        if let Some(state) = states.get_mut(&catalog.relation(&read)) {
            state.dependents.push(catalog.relation(&reader));
        }
    }
    states
}

pub(super) fn macro_word(is_table: bool) -> &'static str {
    if is_table { "MACRO TABLE" } else { "MACRO" }
}

pub(super) fn comment(what: &str, target: &str, text: Option<&str>) -> Option<String> {
    text.map(|text| format!("COMMENT ON {what} {target} IS {}", quote::text(text)))
}

fn local(key: &Key) -> String {
    quote::names([key.0.as_str(), key.1.as_str()]).replacen(", ", ".", 1)
}

impl Catalog {
    /// The whole name of something in this catalog.
    pub fn relation(&self, key: &Key) -> RelationName {
        RelationName::new(self.name.clone(), key.0.clone(), key.1.clone())
    }

    /// The comments of a table's or view's columns.
    pub fn column_comments(target: &str, columns: &[TableColumn]) -> Vec<String> {
        let mut lines: Vec<String> = columns
            .iter()
            .filter_map(|column| {
                let target = format!("{target}.{}", quote::name(&column.column.name));
                comment("COLUMN", &target, column.comment.as_deref())
            })
            .collect();
        lines.sort();
        lines
    }

    fn table_lines(&self, key: &Key) -> Vec<String> {
        let target = local(key);
        let Some(table) = self.tables.get(key) else {
            return Vec::new();
        };
        let mut lines =
            vec![definition::table(table, &target).unwrap_or_else(|| table.sql.clone())];
        for index in &table.indexes {
            lines.push(definition::index(index, &target).unwrap_or_else(|| index.sql.clone()));
        }
        for index in &table.indexes {
            lines.extend(comment(
                "INDEX",
                &quote::name(&index.name),
                index.comment.as_deref(),
            ));
        }
        lines.extend(comment("TABLE", &target, table.comment.as_deref()));
        lines.extend(Self::column_comments(&target, &table.columns));
        lines
    }

    fn view_lines(&self, key: &Key) -> Vec<String> {
        let target = local(key);
        let Some(view) = self.views.get(key) else {
            return Vec::new();
        };
        let mut lines = vec![definition::view(view, &target).unwrap_or_else(|| view.sql.clone())];
        lines.extend(comment("VIEW", &target, view.comment.as_deref()));
        lines.extend(Self::column_comments(&target, &view.columns));
        lines
    }

    /// Who reads what: (reader, read), from foreign keys, defaults, views and macros. DuckDB's own
    /// list of dependencies knows no views, and forgets the sequences when a file is opened again.
    pub fn edges(&self) -> BTreeSet<(Key, Key)> {
        let mut edges = BTreeSet::new();
        for (key, table) in &self.tables {
            for parent in table.parents.iter().filter(|parent| *parent != key) {
                edges.insert((key.clone(), parent.clone()));
            }
            for parts in definition::sequences(&table.sql) {
                if let Some(sequence) = self.sequence(&key.0, &parts) {
                    edges.insert((key.clone(), sequence));
                }
            }
        }
        let views = self.views.iter().map(|(key, view)| (key, &view.mentions));
        let macros = self
            .macros
            .iter()
            .map(|((key, _), text)| (key, &text.mentions));
        for (key, mentions) in views.chain(macros) {
            for mention in mentions {
                if let Some(read) = self.resolve(&key.0, mention)
                    && read != *key
                {
                    edges.insert((key.clone(), read));
                }
            }
        }
        edges
    }

    /// The sequence that a default in `schema` names.
    fn sequence(&self, schema: &str, parts: &[String]) -> Option<Key> {
        let (name, before) = parts.split_last()?;
        let schemas = match before.last() {
            Some(named) => vec![named.as_str()],
            None => vec![schema, "main"],
        };
        let keys = schemas
            .into_iter()
            .map(|schema| (schema.to_owned(), name.clone()));
        keys.into_iter()
            .find(|key| self.sequences.contains_key(key))
    }

    /// What a name in a view of `schema` means: as it is qualified, else in the view's own schema,
    /// else in `main`. A catalog that is not the file's own name is somebody else's.
    fn resolve(&self, schema: &str, mention: &Mention) -> Option<Key> {
        let own = |name: &str| name.to_lowercase() == self.written.to_lowercase();
        let schemas: Vec<&str> = match (mention.catalog.as_str(), mention.schema.as_str()) {
            ("", "") => vec![schema, "main"],
            // `a.b` is a schema's or a catalog's.
            ("", first) if own(first) => vec![first, "main"],
            ("", first) => vec![first],
            (catalog, named) if own(catalog) => vec![named],
            _ => return None,
        };
        let same = |key: &&Key, schema: &str| {
            key.0.to_lowercase() == schema.to_lowercase()
                && key.1.to_lowercase() == mention.name.to_lowercase()
        };
        schemas.into_iter().find_map(|schema| {
            if mention.function {
                self.macros
                    .keys()
                    .map(|(key, _)| key)
                    .find(|key| same(key, schema))
                    .cloned()
            } else {
                let relations = self.tables.keys().chain(self.views.keys());
                relations.into_iter().find(|key| same(key, schema)).cloned()
            }
        })
    }
}
