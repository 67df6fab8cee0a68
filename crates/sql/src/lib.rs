//! chancery-sql
