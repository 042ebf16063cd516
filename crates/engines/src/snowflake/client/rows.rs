//! The rows of an answer, fetched partition by partition as they are asked for.

use super::cell::Column;
use super::error::ClientError;
use super::statement::Client;
use super::wire::ResultSet;
use std::collections::VecDeque;
use unship_core::value::Value;

/// One row as the API sends it: text or `NULL` for each column.
type Raw = Vec<Option<String>>;

/// An answer. Only one partition of it is in memory.
pub struct Rows<'a> {
    client: &'a Client,
    handle: String,
    columns: Vec<Column>,
    partitions: usize,
    next: usize,
    here: VecDeque<Raw>,
    broken: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn new(client: &'a Client, first: ResultSet) -> Self {
        let meta = first.result_set_meta_data;
        let columns = meta.row_type.into_iter().map(|column| Column {
            kind: super::cell::Type::of(&column.kind, column.scale),
            name: column.name,
        });
        Self {
            client,
            handle: first.statement_handle,
            columns: columns.collect(),
            partitions: meta.partition_info.map_or(1, |all| all.len()),
            next: 1,
            here: first.data.unwrap_or_default().into(),
            broken: false,
        }
    }

    /// The columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The id under which Snowflake's history has the statement.
    pub fn handle(&self) -> &str {
        &self.handle
    }

    fn values(&self, raw: &[Option<String>]) -> Result<Vec<Value>, ClientError> {
        if raw.len() != self.columns.len() {
            return Err(ClientError::Answer(format!(
                "a row has {} cells, and there are {} columns",
                raw.len(),
                self.columns.len()
            )));
        }
        let cells = raw.iter().zip(&self.columns);
        cells
            .map(|(cell, column)| {
                column.kind.value(cell.as_deref()).ok_or_else(|| {
                    ClientError::Answer(format!("a cell of {} is not of its type", column.name))
                })
            })
            .collect()
    }

    fn fetch(&mut self) -> Result<Option<Vec<Value>>, ClientError> {
        loop {
            if let Some(raw) = self.here.pop_front() {
                return self.values(&raw).map(Some);
            }
            if self.next >= self.partitions {
                return Ok(None);
            }
            let more = self.client.partition(&self.handle, self.next)?;
            self.next += 1;
            self.here = more.data.unwrap_or_default().into();
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Vec<Value>, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let row = self.fetch().transpose();
        self.broken = matches!(row, Some(Err(_)));
        row
    }
}
