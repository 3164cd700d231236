//! The room from outside: real keys, real certificates, OpenSSL as the second opinion.

mod attacks;
mod doors;
mod enrollment;
mod hostile;
mod limbo;
mod openssl;
mod requests;
mod support;
