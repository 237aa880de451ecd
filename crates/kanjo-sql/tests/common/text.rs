//! Results as text.

use tokio_postgres::{Client, SimpleQueryMessage};

/// The values of a result as text, row by row.
pub async fn all(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages =
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    });
    rows.collect()
}

/// Rows as `a|b`, nothing for null.
pub async fn lines(client: &Client, sql: &str) -> Vec<String> {
    let line = |row: Vec<Option<String>>| {
        row.into_iter().map(Option::unwrap_or_default).collect::<Vec<String>>().join("|")
    };
    all(client, sql).await.into_iter().map(line).collect()
}

pub async fn one(client: &Client, sql: &str) -> String {
    let rows = all(client, sql).await;
    assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
    rows[0][0].clone().unwrap_or_else(|| "NULL".to_owned())
}

/// How many rows a change says that it was about.
pub async fn count(client: &Client, sql: &str) -> u64 {
    let messages =
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let counts = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::CommandComplete(count) => Some(count),
        _ => None,
    });
    counts.last().unwrap()
}

/// SQLSTATE of a statement that must fail.
pub async fn code(client: &Client, sql: &str) -> String {
    let error = client.simple_query(sql).await;
    let error = error.err().unwrap_or_else(|| panic!("{sql} was taken"));
    error.code().unwrap_or_else(|| panic!("{sql}: {error:?}")).code().to_owned()
}
