//! What a user of the core would notice, on a warehouse in memory.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod estate;
#[cfg(test)]
mod estate_apart;
#[cfg(test)]
mod long;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod model;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod stages;

use unship_core::testing::conformance::conforms;
use unship_core::testing::memory::Restoring;
use unship_core::testing::world::memory;

#[test]
fn the_engine_in_memory_conforms() {
    conforms(&|| Box::new(memory(Restoring::Clones)));
    conforms(&|| Box::new(memory(Restoring::Moves)));
}
