//! chancery-wire-pg
