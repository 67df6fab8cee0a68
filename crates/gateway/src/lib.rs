//! chancery-gateway

pub mod issuers;
