//! unship.
fn main() {}
