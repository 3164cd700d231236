//! The records of TLS 1.3 against rustls' own: whatever a client with the keys says, both hear the
//! same, end alike and answer the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../doors/plane/src/shards/transport/machine.rs"]
mod machine;
#[path = "../../doors/plane/src/shards/transport/records.rs"]
mod records;
#[path = "../../doors/plane/src/shards/transport/side_by_side.rs"]
mod side_by_side;

fuzz_target!(|choices: &[u8]| side_by_side::check(choices));
