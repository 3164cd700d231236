//! Certificates and the lists behind them: who vouches, who is expected, what is issued.

pub mod attesting;
pub mod authorities;
pub mod bad_keys;
pub mod claiming;
pub mod counting;
pub mod enrolling;
pub mod imports;
pub mod issuing;
pub mod lists;
pub mod over_mqtt;
pub mod owning;
pub mod pace;
pub mod root_list;
pub mod roots;
pub mod rotation;
pub mod status;
pub mod tokens;
pub mod tpm;
pub mod tree;
pub mod waiting;
