//! SQL tables: which there are, what their columns hold, and how they are read.

pub(crate) mod cells;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod names;
mod read_log;
mod read_rows;
pub(crate) mod relation;
mod relation_keys;
pub(crate) mod rows;
pub(crate) mod scan;
pub(crate) mod values;

pub(crate) use read_log::LogProvider;
pub(crate) use read_rows::RowProvider;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;
use values::Kind;

/// The schema of columns by name, kind, and whether they can be empty.
fn schema(columns: impl Iterator<Item = (&'static str, Kind, bool)>) -> SchemaRef {
    let fields: Vec<Field> = columns
        .map(|(name, kind, nullable)| Field::new(name, kind.data_type(), nullable))
        .collect();
    Arc::new(Schema::new(fields))
}
