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
mod house;
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
mod shards;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod timing;
#[cfg(test)]
mod watch;
mod wills;
