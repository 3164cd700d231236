//! The room as its caller sees it: bytes in, turns executed in their order, bytes out.

#[cfg(test)]
mod abuse;
mod attacks;
#[cfg(test)]
mod cedar;
#[cfg(test)]
mod claim;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod containment;
mod contracts;
#[cfg(test)]
mod differential;
#[cfg(test)]
#[allow(dead_code, reason = "its own tests use more of it")]
#[path = "../../../../words/mqtt/tests/it/generate.rs"]
mod generate;
#[cfg(test)]
mod house;
#[cfg(test)]
mod lasting;
#[cfg(test)]
mod metering;
#[cfg(test)]
#[allow(dead_code, reason = "its own tests use more of it")]
#[path = "../../../../words/mqtt/tests/it/oracle.rs"]
mod oracle;
#[cfg(test)]
mod pressure;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod qos_2;
#[cfg(test)]
mod retained;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod second_machine;
#[cfg(test)]
mod shards;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod side_by_side;
#[cfg(test)]
mod timing;
#[cfg(test)]
mod watch;
mod wills;
