//! How one table differs from another place's: columns, rows, cells. The server does the work and
//! spills where it must; only counts and a few examples come over the line.

use super::catalog::{self, Attribute, Scope};
use super::error::Doing;
use super::{layout, observe, quote};
use postgres::{Client, GenericClient, IsolationLevel};
use unship_core::diff::{Cells, Change, Example, RelationDiff, SchemaDiff};
use unship_core::engine::{EngineError, ErrorKind, Place};
use unship_core::ident::RelationName;
use unship_core::relation::{Column, RelationKind};
use unship_core::value::Value;

/// Compares a table at one place with a table at another. A key is used where both sides have it,
/// each value once; otherwise rows are compared as wholes, and a row that stands twice counts twice.
pub fn diff(
    client: &mut Client,
    old: (Place, &RelationName),
    new: (Place, &RelationName),
    key: Option<&[String]>,
    examples: u64,
) -> Result<RelationDiff, EngineError> {
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .doing("begin to compare")?;
    let old = Side::load(&mut transaction, old.0, old.1)?;
    let new = Side::load(&mut transaction, new.0, new.1)?;
    let mut answer = RelationDiff {
        schema: schema(&old, &new),
        ..RelationDiff::default()
    };
    let both = Both::new(old, new);
    let usable = key
        .map(|key| both.usable(&mut transaction, key))
        .transpose()?;
    match usable {
        Some(Ok(keys)) => both.by_key(&mut transaction, &keys, examples, &mut answer)?,
        other => {
            answer.key_refused = other.and_then(Result::err);
            both.as_wholes(&mut transaction, examples, &mut answer)?;
        }
    }
    transaction.commit().doing("end the comparison")?;
    Ok(answer)
}

struct Side {
    full: String,
    definition: String,
    columns: Vec<Column>,
    bases: Vec<Attribute>,
}

impl Side {
    fn load(
        client: &mut impl GenericClient,
        place: Place,
        relation: &RelationName,
    ) -> Result<Self, EngineError> {
        let schema = match place {
            Place::Live => relation.schema.clone(),
            Place::Build(_) => layout::build(&relation.schema)?,
            Place::Point(release) => layout::retained(release, &relation.schema)?,
        };
        let namespaces = catalog::namespaces(client)?;
        let scopes: Vec<Scope> = namespaces
            .iter()
            .filter(|n| n.name == schema)
            .map(|n| catalog::scope(n, &relation.schema))
            .collect();
        let catalog = catalog::load(client, &scopes)?;
        let found = observe::states(&catalog, &scopes, &relation.database).remove(relation);
        let found = found.ok_or_else(|| {
            let text = format!("{relation} is not in the schema {schema}");
            EngineError::new(ErrorKind::Missing, text)
        })?;
        let rows = [RelationKind::Table, RelationKind::MaterializedView];
        if !rows.contains(&found.state.kind) {
            let text =
                format!("{relation} is no table there, so there are no rows of its own to compare");
            return Err(EngineError::new(ErrorKind::Unsupported, text));
        }
        let bases = found.oid.and_then(|oid| catalog.columns.get(&oid).cloned());
        Ok(Self {
            full: quote::relation(&schema, &relation.name),
            definition: found.state.definition,
            columns: found.state.columns,
            bases: bases.unwrap_or_default(),
        })
    }

    fn cells(&self, values: Vec<Option<String>>) -> Cells {
        let names = self.columns.iter().map(|c| c.name.clone());
        names
            .zip(
                values
                    .into_iter()
                    .map(|v| v.map_or(Value::Null, Value::Text)),
            )
            .collect()
    }
}

fn schema(old: &Side, new: &Side) -> SchemaDiff {
    SchemaDiff::between(
        (&old.columns, &old.definition),
        (&new.columns, &new.definition),
        |a, b| a == b,
    )
}

/// Two sides and what they have in common: a column's name, and what is compared of it.
struct Both {
    old: Side,
    new: Side,
    pairs: Vec<(String, String)>,
}

/// Types whose equality is sameness, under whatever collation that is deterministic.
const SAME_IF_EQUAL: &[&str] = &[
    "bool",
    "int2",
    "int4",
    "int8",
    "oid",
    "uuid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "bytea",
    "inet",
    "cidr",
];

impl Both {
    fn new(old: Side, new: Side) -> Self {
        let pairs = new
            .bases
            .iter()
            .filter_map(|n| {
                let o = old.bases.iter().find(|o| o.name == n.name)?;
                let cell = quote::name(&n.name);
                let same = o.data_type == n.data_type
                    && n.base
                        .as_deref()
                        .is_some_and(|b| SAME_IF_EQUAL.contains(&b));
                let compared = if same {
                    cell
                } else {
                    format!("{cell}::text COLLATE \"C\"")
                };
                Some((n.name.clone(), compared))
            })
            .collect();
        Self { old, new, pairs }
    }

    /// The places of the key's columns among the pairs, or why the key is of no use.
    fn usable(
        &self,
        client: &mut impl GenericClient,
        key: &[String],
    ) -> Result<Result<Vec<usize>, String>, EngineError> {
        if key.is_empty() {
            return Ok(Err("the key has no columns".to_owned()));
        }
        let mut places = Vec::new();
        for name in key {
            // A key that is written down elsewhere may be in another case.
            let exact = self.pairs.iter().position(|(n, _)| n == name);
            let folded = || {
                self.pairs
                    .iter()
                    .position(|(n, _)| *n == name.to_lowercase())
            };
            match exact.or_else(folded) {
                Some(place) => places.push(place),
                None => return Ok(Err(format!("not both tables have the key's column {name}"))),
            }
        }
        let cells: Vec<_> = places
            .iter()
            .filter_map(|p| self.pairs.get(*p))
            .map(|(_, cell)| cell.as_str())
            .collect();
        for (side, word) in [(&self.old, "old"), (&self.new, "new")] {
            let sql = format!(
                "SELECT count(*)::int8 FROM (SELECT FROM {} GROUP BY {} HAVING count(*) > 1) d",
                side.full,
                cells.join(", ")
            );
            let twice = numbers(client, &sql, 1)?.into_iter().next().unwrap_or(0);
            if twice > 0 {
                let key = key.join(", ");
                return Ok(Err(format!(
                    "{twice} values of ({key}) stand more than once in the {word} table"
                )));
            }
        }
        Ok(Ok(places))
    }

    /// One side: a mark, the compared cells, and all columns as text for the examples.
    fn select(&self, side: &Side) -> String {
        let mut list = vec!["true AS here".to_owned()];
        list.extend(
            self.pairs
                .iter()
                .enumerate()
                .map(|(i, (_, cell))| format!("{cell} AS v{i}")),
        );
        let texts: Vec<_> = side
            .columns
            .iter()
            .map(|c| format!("{}::text", quote::name(&c.name)))
            .collect();
        list.push(format!("ARRAY[{}]::text[] AS x", texts.join(", ")));
        format!("(SELECT {} FROM {})", list.join(", "), side.full)
    }

    fn by_key(
        &self,
        client: &mut impl GenericClient,
        keys: &[usize],
        examples: u64,
        answer: &mut RelationDiff,
    ) -> Result<(), EngineError> {
        // Rows are joined by the text of their keys: a full join needs plain equality, and NULL
        // shall match NULL.
        let joined = |side: &str| {
            let cells: Vec<_> = keys.iter().map(|k| format!("{side}.v{k}")).collect();
            format!("ROW({})::text", cells.join(", "))
        };
        let from = format!(
            "{} o FULL JOIN {} n ON {} = {}",
            self.select(&self.old),
            self.select(&self.new),
            joined("o"),
            joined("n")
        );
        let others: Vec<usize> = (0..self.pairs.len())
            .filter(|i| !keys.contains(i))
            .collect();
        let differs: Vec<String> = others
            .iter()
            .map(|i| format!("o.v{i} IS DISTINCT FROM n.v{i}"))
            .collect();
        let any = if differs.is_empty() {
            "false".to_owned()
        } else {
            differs.join(" OR ")
        };
        let (added, removed) = ("o.here IS NULL", "n.here IS NULL");
        let changed = format!("o.here AND n.here AND ({any})");
        let mut counts = vec![
            added.to_owned(),
            removed.to_owned(),
            changed.clone(),
            format!("o.here AND n.here AND NOT ({any})"),
        ];
        counts.extend(differs.iter().map(|d| format!("o.here AND n.here AND {d}")));
        let list: Vec<_> = counts
            .iter()
            .map(|c| format!("count(*) FILTER (WHERE {c})::int8"))
            .collect();
        let sql = format!("SELECT {} FROM {from}", list.join(", "));
        let mut found = numbers(client, &sql, counts.len())?.into_iter();
        let mut next = || found.next().unwrap_or(0);
        (answer.added, answer.removed) = (next(), next());
        (answer.changed, answer.unchanged) = (next(), next());
        for place in &others {
            let count = next();
            if let Some((name, _)) = self.pairs.get(*place).filter(|_| count > 0) {
                answer.columns.insert(name.clone(), count);
            }
        }
        let names: Vec<String> = keys
            .iter()
            .filter_map(|k| self.pairs.get(*k))
            .map(|(name, _)| name.clone())
            .collect();
        let order: Vec<_> = keys
            .iter()
            .map(|k| format!("coalesce(o.v{k}, n.v{k}) NULLS FIRST"))
            .collect();
        for (change, condition, count) in [
            (Change::Added, added, answer.added),
            (Change::Removed, removed, answer.removed),
            (Change::Changed, changed.as_str(), answer.changed),
        ] {
            if count == 0 || examples == 0 {
                continue;
            }
            let sql = format!(
                "SELECT o.x, n.x FROM {from} WHERE {condition} ORDER BY {} LIMIT {examples}",
                order.join(", ")
            );
            for row in client.query(&sql, &[]).doing("read examples")? {
                let cells = |i: usize, side: &Side| -> Result<Cells, EngineError> {
                    let values: Option<Vec<Option<String>>> =
                        row.try_get(i).doing("read examples")?;
                    Ok(values.map(|v| side.cells(v)).unwrap_or_default())
                };
                let (old, new) = (cells(0, &self.old)?, cells(1, &self.new)?);
                let whole = if new.is_empty() { &old } else { &new };
                let key = names
                    .iter()
                    .filter_map(|name| whole.iter().find(|(n, _)| n == name).cloned())
                    .collect();
                answer.examples.push(Example {
                    change,
                    key,
                    old,
                    new,
                });
            }
        }
        answer.key = Some(names);
        Ok(())
    }

    /// Compares by a hash of all common cells; equal rows cancel each other out one by one.
    fn as_wholes(
        &self,
        client: &mut impl GenericClient,
        examples: u64,
        answer: &mut RelationDiff,
    ) -> Result<(), EngineError> {
        let cells: Vec<_> = self.pairs.iter().map(|(_, cell)| cell.as_str()).collect();
        // Without a common column all rows are alike, and only their number is compared.
        let hash = format!(
            "hashtextextended(ROW({})::text COLLATE \"C\", 0)",
            cells.join(", ")
        );
        let groups = format!(
            "(SELECT h, sum(o) AS o, sum(n) AS n FROM (SELECT {hash} AS h, 1 AS o, 0 AS n FROM {} \
             UNION ALL SELECT {hash}, 0, 1 FROM {}) r GROUP BY h)",
            self.old.full, self.new.full
        );
        let sums = ["greatest(n - o, 0)", "greatest(o - n, 0)", "least(o, n)"]
            .map(|sum| format!("coalesce(sum({sum}), 0)::int8"));
        let sql = format!("SELECT {} FROM {groups} g", sums.join(", "));
        let mut found = numbers(client, &sql, 3)?.into_iter();
        let mut next = || found.next().unwrap_or(0);
        (answer.added, answer.removed, answer.unchanged) = (next(), next(), next());
        for (change, side, condition, count) in [
            (Change::Added, &self.new, "n > o", answer.added),
            (Change::Removed, &self.old, "o > n", answer.removed),
        ] {
            if count == 0 || examples == 0 {
                continue;
            }
            let sql = format!(
                "SELECT x FROM {} s WHERE {} IN (SELECT h FROM {groups} g WHERE {condition} \
                 ORDER BY h LIMIT {examples}) LIMIT {examples}",
                self.select(side),
                self.hash_of_selected(),
            );
            for row in client.query(&sql, &[]).doing("read examples")? {
                let values: Vec<Option<String>> = row.try_get(0).doing("read examples")?;
                let cells = side.cells(values);
                let (old, new) = match change {
                    Change::Removed => (cells, Cells::new()),
                    Change::Added | Change::Changed => (Cells::new(), cells),
                };
                let key = Cells::new();
                answer.examples.push(Example {
                    change,
                    key,
                    old,
                    new,
                });
            }
        }
        Ok(())
    }

    fn hash_of_selected(&self) -> String {
        let cells: Vec<_> = (0..self.pairs.len()).map(|i| format!("s.v{i}")).collect();
        format!(
            "hashtextextended(ROW({})::text COLLATE \"C\", 0)",
            cells.join(", ")
        )
    }
}

/// The numbers of an answer of one row.
fn numbers(
    client: &mut impl GenericClient,
    sql: &str,
    count: usize,
) -> Result<Vec<u64>, EngineError> {
    let row = client.query_one(sql, &[]).doing("compare the rows")?;
    (0..count)
        .map(|i| {
            let number: i64 = row.try_get(i).doing("compare the rows")?;
            Ok(number.unsigned_abs())
        })
        .collect()
}
