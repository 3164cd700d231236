//! What is remembered of one device: about a kilobyte.
