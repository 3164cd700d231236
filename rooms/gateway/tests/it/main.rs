//! The room as its caller sees it: bytes in, turns executed in their order, bytes out.

mod attacks;
mod conformance;
mod house;
mod pressure;
mod schedules;
mod shards;
mod timing;
