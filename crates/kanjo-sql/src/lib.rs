//! SQL over the rows and the log of a Kanjo ledger, spoken over the PostgreSQL wire.
