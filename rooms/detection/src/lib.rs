//! **Question:** is it behaving?
//!
//! Observations against baselines become deviations, deviations become alerts.
