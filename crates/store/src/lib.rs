//! chancery-store

mod catalog;

pub use catalog::{
    CachedJwks, Catalog, CatalogError, ChainRecord, Denial, PrincipalRecord, ReviewLine, ReviewerKey, SecretLine,
    SecretState, SecretVersion, SessionFilter, SessionRecord, limits as catalog_limits,
};
