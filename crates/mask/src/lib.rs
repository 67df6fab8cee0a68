//! chancery-mask
