//! chancery-secrets
