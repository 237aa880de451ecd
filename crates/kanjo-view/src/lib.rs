//! The final rows of a ledger in several versions, for readers that hold a height.
