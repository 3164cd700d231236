//! The room as its callers meet it: observations in, deviations and alerts out.

mod alerts;
mod baselines;
mod deviations;
mod replay;
mod reports;
mod world;
