//! Delta Lake: the suite over tables whose logs the tests write themselves, and what can go wrong
//! with them.

mod faults;
mod suite;
mod table;
