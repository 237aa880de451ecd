//! Prints how fast a link over loopback is: `cargo run --release -p kanjo-link --example
//! throughput`.

fn main() {}
