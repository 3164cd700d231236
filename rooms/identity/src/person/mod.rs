//! Who a person is: what a browser hands over of a passkey, or a provider says of them, held against
//! what was asked. What they may do is `access`'s.

pub mod id_token;
pub mod passkey;
pub mod provider;
pub mod sign_out;
mod signed;
