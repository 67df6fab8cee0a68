//! chancery-identity
