//! Certificates and the lists behind them: who vouches, who is expected, what is issued.

pub mod authorities;
pub mod counting;
pub mod issuing;
pub mod lists;
pub mod roots;
pub mod serving;
pub mod tree;
