//! Order-independent digests of rows, computed by the server in one scan a relation, over several
//! connections at once.

use super::catalog::Attribute;
use super::connect::Connector;
use super::error::Doing;
use super::{parallel, quote};
use postgres::GenericClient;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use unship_core::engine::{EngineError, ErrorKind, OnProgress};
use unship_core::relation::Fingerprint;

/// The first version in which a row can be hashed.
const HASHES_ROWS: u32 = 140_000;

/// What is to be fingerprinted.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its object id, to find it again.
    pub oid: u32,
    /// Quoted, with its schema. A partitioned table's rows are those of its partitions; an inheriting
    /// table's rows are its own.
    pub from: String,
    /// For messages.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Attribute>,
    /// How large it is, so that the largest goes first.
    pub bytes: u64,
    /// Whether its rows lie in blocks of its own, so that several connections can share it.
    pub divisible: bool,
}

/// Blocks of a relation, from the first to before the second.
type Blocks = (u64, Option<u64>);

/// The first version that reads chosen blocks without reading all.
const READS_BLOCKS: u32 = 140_000;

/// What one connection reads at a time of a large relation.
const PART: u64 = 64 << 20;

/// A page, as servers are built by default. Where pages are larger or smaller so are the parts, and
/// the last takes what is left.
const BLOCK: u64 = 8192;

/// The parts that a relation is read in: `None` is all of it.
fn parts(task: &Task, version: u32) -> Vec<Option<Blocks>> {
    if version < READS_BLOCKS || !task.divisible || task.bytes < 2 * PART {
        return vec![None];
    }
    let count = task.bytes / PART;
    let first = |part: u64| part * (PART / BLOCK);
    let end = |part: u64| (part + 1 < count).then(|| first(part + 1));
    (0..count).map(|n| Some((first(n), end(n)))).collect()
}

/// How a cell is hashed. PostgreSQL's hash functions follow equality, which is not enough to prove
/// that rows are the same: `1.0` equals `1.00`, `-0` equals `0`, a month equals 30 days, an array
/// equals one of other dimensions. Where equality is sameness the type's own function is the
/// fastest; everything else goes through its text.
fn cell(column: &Attribute, version: u32) -> String {
    let c = quote::name(&column.name);
    let as_text = |text: String| format!("hashtextextended({text} COLLATE \"C\", 0)");
    let as_row = |value: String| format!("hash_record_extended(ROW({value}), 0)");
    let rows = version >= HASHES_ROWS;
    match column.base.as_deref().unwrap_or_default() {
        "int2" => format!("hashint2extended({c}, 0)"),
        "int4" => format!("hashint4extended({c}, 0)"),
        "int8" => format!("hashint8extended({c}, 0)"),
        "oid" => format!("hashoidextended({c}, 0)"),
        "bool" => format!("hashint4extended({c}::int4, 0)"),
        "uuid" => format!("uuid_hash_extended({c}, 0)"),
        "time" => format!("time_hash_extended({c}, 0)"),
        "timestamp" => format!("timestamp_hash_extended({c}, 0)"),
        "timestamptz" => format!("timestamp_hash_extended({c} AT TIME ZONE 'UTC', 0)"),
        "inet" | "cidr" => format!("hashinetextended({c}, 0)"),
        "macaddr" => format!("hashmacaddrextended({c}, 0)"),
        "numeric" => format!("hash_numeric_extended({c}, coalesce(scale({c}), -1)::int8)"),
        "float4" | "float8" => {
            let of = if column.base.as_deref() == Some("float4") {
                "hashfloat4extended"
            } else {
                "hashfloat8extended"
            };
            format!("{of}({c}, CASE WHEN {c} = 0 AND {c}::text = '-0' THEN 1 ELSE 0 END)")
        }
        // A cast to text would drop the blanks at its end.
        "bpchar" => as_text(format!("textin(bpcharout({c}))")),
        "date" | "bytea" if rows => as_row(c),
        "interval" if rows => as_row(format!("interval_send({c})")),
        _ => as_text(format!("{c}::text")),
    }
}

/// The functions and their version. Fingerprints of different methods are not compared.
pub fn method(version: u32) -> &'static str {
    match version {
        ..HASHES_ROWS => "postgres-13/1",
        _ => "postgres/1",
    }
}

/// The query: rows, the sum over rows, and the sum over each column's cells.
pub fn query(from: &str, columns: &[Attribute], blocks: Option<Blocks>, version: u32) -> String {
    let chosen = match blocks {
        None => String::new(),
        Some((first, None)) => format!(" WHERE ctid >= '({first},0)'"),
        Some((first, Some(end))) => {
            format!(" WHERE ctid >= '({first},0)' AND ctid < '({end},0)'")
        }
    };
    let inner: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| format!("{} AS h{i}", cell(column, version)))
        .collect();
    let cells: Vec<String> = (0..columns.len()).map(|i| format!("h{i}")).collect();
    let whole = chain(&cells);
    let sums: Vec<String> = std::iter::once(whole)
        .chain(cells)
        .map(|sum| format!("coalesce(sum({sum}), 0)::text"))
        .collect();
    // OFFSET 0 keeps the hashes of cells from being computed twice. It also keeps the server from
    // a parallel plan, which would take more work: relations and their parts are read in parallel.
    format!(
        "SELECT count(*)::int8, ARRAY[{}] FROM (SELECT {} FROM {from}{chosen} OFFSET 0) cells",
        sums.join(", "),
        inner.join(", ")
    )
}

/// How many calls are nested in one another at most: the server's stack is not endless.
const DEPTH: usize = 100;

/// A row's hash: each cell's hash is hashed with that of the cells before it as the seed. Of a sum
/// of `hash_record_extended`, which is linear in the cells' hashes, rows that swap cells would be no
/// change.
fn chain(hashes: &[String]) -> String {
    let link =
        |seed: String, hash: &String| format!("hashint8extended(coalesce({hash}, 1), {seed})");
    let groups: Vec<String> = hashes
        .chunks(DEPTH)
        .map(|group| group.iter().fold("7".to_owned(), link))
        .collect();
    match groups.as_slice() {
        [] => "0".to_owned(),
        [one] => one.clone(),
        several => chain(several),
    }
}

/// The fingerprint of a relation, or of some blocks of it.
fn one(
    client: &mut impl GenericClient,
    task: &Task,
    blocks: Option<Blocks>,
    version: u32,
) -> Result<Fingerprint, EngineError> {
    let what = format!("read the rows of {}", task.name);
    let sql = query(&task.from, &task.columns, blocks, version);
    let row = client.query_one(&sql, &[]).doing(&what)?;
    let rows: i64 = row.try_get(0).doing(&what)?;
    let sums: Vec<String> = row.try_get(1).doing(&what)?;
    let mut sums = sums.into_iter();
    let whole = sums.next().unwrap_or_default();
    Ok(Fingerprint {
        method: method(version).to_owned(),
        rows: rows.unsigned_abs(),
        whole,
        columns: task
            .columns
            .iter()
            .map(|c| c.name.clone())
            .zip(sums)
            .collect(),
    })
}

/// Fingerprints of many relations, as the moment of `snapshot` (an exported one) shows them. The
/// largest come first, so that no connection is left alone with one at the end.
pub fn all(
    connector: &Connector,
    snapshot: &str,
    mut tasks: Vec<Task>,
    version: u32,
    connections: usize,
    on: OnProgress<'_>,
) -> Result<BTreeMap<u32, Fingerprint>, EngineError> {
    tasks.sort_by_key(|task| task.bytes);
    let shares: Vec<_> = tasks
        .iter()
        .flat_map(|task| {
            parts(task, version)
                .into_iter()
                .map(move |part| (task, part))
        })
        .collect();
    // Compiling the query anew for each part takes longer than it saves.
    let moment = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; \
         SET LOCAL jit = off",
        quote::text(snapshot)
    );
    let prints = parallel::each(
        connector,
        shares,
        connections,
        "fingerprinting",
        on,
        &|client| {
            client
                .batch_execute(&moment)
                .doing("look at the same moment over another connection")
        },
        &|client, (task, part)| Ok((task.oid, one(client, task, part, version)?)),
    )?;
    let mut whole = BTreeMap::new();
    for (oid, print) in prints {
        match whole.entry(oid) {
            Entry::Vacant(first) => {
                first.insert(print);
            }
            Entry::Occupied(mut sum) => add(sum.get_mut(), &print)?,
        }
    }
    Ok(whole)
}

/// Adds the fingerprint of other rows of the same relation.
fn add(sum: &mut Fingerprint, more: &Fingerprint) -> Result<(), EngineError> {
    let added = |a: &str, b: &str| -> Result<String, EngineError> {
        let number = |text: &str| {
            text.parse::<i128>().map_err(|e| {
                EngineError::new(ErrorKind::Query, "a sum of hashes is no number").because(e)
            })
        };
        let sum = number(a)?.checked_add(number(b)?).ok_or_else(|| {
            EngineError::new(
                ErrorKind::Query,
                "a sum of hashes is larger than any relation",
            )
        })?;
        Ok(sum.to_string())
    };
    sum.rows += more.rows;
    sum.whole = added(&sum.whole, &more.whole)?;
    for (column, digest) in &mut sum.columns {
        if let Some(of_more) = more.columns.get(column) {
            *digest = added(digest, of_more)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::catalog;
    use crate::postgres::testing::Database;

    #[test]
    fn a_relation_read_in_parts_has_the_fingerprint_of_the_whole() {
        let Some(database) = Database::new() else {
            return;
        };
        let mut client = database.client();
        client
            .batch_execute(
                "CREATE TABLE public.large AS SELECT i AS id, 'row ' || i AS name, i * 1.50 AS amount
                 FROM generate_series(1, 5000) i",
            )
            .unwrap();
        let version = catalog::server_version(&mut client).unwrap();
        let oid: u32 = client
            .query_one("SELECT 'public.large'::regclass::oid", &[])
            .unwrap()
            .get(0);
        let public = client
            .query_one("SELECT 'public'::regnamespace::oid", &[])
            .unwrap();
        let scope = catalog::Scope {
            oid: public.get(0),
            schema: "public".to_owned(),
            quoted: "public".to_owned(),
            stands_for: "public".to_owned(),
        };
        let loaded = catalog::load(&mut client, &[scope]).unwrap();
        let task = |bytes| Task {
            oid,
            from: "public.large".to_owned(),
            name: "large".to_owned(),
            columns: loaded.columns[&oid].clone(),
            bytes,
            divisible: true,
        };
        let mut read = |blocks| one(&mut client, &task(0), blocks, version).unwrap();
        let whole = read(None);
        let mut sum = read(Some((0, Some(7))));
        assert!(sum.rows > 0 && sum.rows < 5000);
        add(&mut sum, &read(Some((7, Some(20))))).unwrap();
        add(&mut sum, &read(Some((20, None)))).unwrap();
        assert_eq!(sum, whole);

        assert_eq!(parts(&task(PART), 150_000), [None]);
        assert_eq!(parts(&task(5 * PART), 130_000), [None]);
        let three = parts(&task(3 * PART + 5), 150_000);
        assert_eq!(
            three,
            [
                Some((0, Some(8192))),
                Some((8192, Some(16384))),
                Some((16384, None))
            ]
        );
    }
}
