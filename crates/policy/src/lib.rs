//! chancery-policy
