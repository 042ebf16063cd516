//! Restoring chosen relations: in a clone of production, never in production itself.
