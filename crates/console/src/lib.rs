//! chancery-console
