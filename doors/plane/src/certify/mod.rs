//! Certificates and the lists behind them: who vouches, who is expected, what is issued.

pub mod imports;
pub mod issuing;
pub mod lists;
pub mod tokens;
