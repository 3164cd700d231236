//! Certificates and the lists behind them: who vouches, who is expected, what is issued.

pub mod authorities;
pub mod enrolling;
pub mod issuing;
pub mod lists;
pub mod over_mqtt;
pub mod serving;
pub mod tree;
pub mod waiting;
