//! Any bytes as the choices of one client's life: our session machine must answer as that of
//! mqtt-protocol-core does, but by the written list, and say nothing that a server may not.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "its tests use more of it")]
#[path = "../../words/mqtt/tests/it/generate.rs"]
mod generate;
#[allow(dead_code, reason = "its tests use more of it")]
#[path = "../../rooms/gateway/tests/it/house.rs"]
mod house;
#[allow(dead_code, reason = "the why of each entry is for readers")]
#[path = "../../words/mqtt/tests/it/oracle.rs"]
mod oracle;
#[path = "../../rooms/gateway/tests/it/second_machine.rs"]
mod second_machine;
#[allow(dead_code, reason = "the why of each entry is for readers")]
#[path = "../../rooms/gateway/tests/it/side_by_side.rs"]
mod side_by_side;

fuzz_target!(|input: &[u8]| {
    if let Err(difference) = side_by_side::run(&mut side_by_side::Tape(input)) {
        panic!("{difference}");
    }
});
