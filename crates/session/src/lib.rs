//! chancery-session
