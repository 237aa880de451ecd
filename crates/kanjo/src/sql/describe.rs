//! What tables there are, asked from `information_schema`.

use super::connection::{Connection, Failure};
use super::output::type_name;
use std::collections::BTreeMap;

/// Most tables and columns that are asked for.
const NAMES_MAX: usize = 100_000;

/// All tables, with their kinds.
pub const TABLES: &str = "SELECT table_name AS name, lower(table_type) AS kind \
    FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name";

/// Columns of each table.
pub type Names = BTreeMap<String, Vec<String>>;

/// Tables and columns, for completion.
pub fn names(connection: &Connection) -> Result<Names, Failure> {
    let rows = connection.values(&format!(
        "SELECT table_name, column_name FROM information_schema.columns \
         WHERE table_schema = 'public' ORDER BY table_name, ordinal_position LIMIT {NAMES_MAX}"
    ))?;
    let mut names = Names::new();
    for row in rows {
        if let [Some(table), Some(column)] = row.as_slice() {
            names.entry(table.clone()).or_default().push(column.clone());
        }
    }
    Ok(names)
}

/// Columns of one table: name, type, and whether it can be empty.
pub fn columns(connection: &Connection, table: &str) -> Result<Vec<[String; 3]>, Failure> {
    let (quoted, plain) = named(table);
    let columns = connection.columns(&format!("SELECT * FROM {quoted} LIMIT 0"))?;
    let rows = connection.values(&format!(
        "SELECT column_name, is_nullable FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name = '{}'",
        plain.replace('\'', "''")
    ))?;
    let of = |column: &str| {
        let row = rows.iter().find(|row| matches!(row.first(), Some(Some(name)) if name == column));
        row.and_then(|row| row.get(1).cloned().flatten())
    };
    let described = columns.into_iter().map(|column| {
        let nullable = if of(&column.name).as_deref() == Some("NO") { "not null" } else { "" };
        let name = type_name(&column.of).to_owned();
        [column.name, name, nullable.to_owned()]
    });
    Ok(described.collect())
}

/// A name as typed: quoted for SQL, and plain. Without quotes, capitals mean small letters.
fn named(typed: &str) -> (String, String) {
    let inner = typed.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let plain = inner.map_or_else(|| typed.to_lowercase(), |inner| inner.replace("\"\"", "\""));
    (format!("\"{}\"", plain.replace('"', "\"\"")), plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_do_no_harm() {
        assert_eq!(named("Wallets"), ("\"wallets\"".to_owned(), "wallets".to_owned()));
        assert_eq!(named("\"My\"\"T\""), ("\"My\"\"T\"".to_owned(), "My\"T".to_owned()));
        assert_eq!(named("x\"; DROP").0, "\"x\"\"; drop\"");
    }
}
