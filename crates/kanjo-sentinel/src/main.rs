//! Stand-in until the next commit.
fn main() {}
