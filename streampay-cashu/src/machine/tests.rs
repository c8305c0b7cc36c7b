//! Machine tests
