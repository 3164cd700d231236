//! The hot paths allocate nothing.
