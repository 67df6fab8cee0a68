//! Entity uids: how principals, groups, resources and tables are called in rules.
//!
//! Every mapping is injective: two different things never share a uid.

use std::borrow::Cow;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use chancery_model::{Action, PrincipalKind, ResourceName};

/// The type names of the schema, parsed once.
pub(crate) struct Types {
    pub(crate) user: EntityTypeName,
    pub(crate) service: EntityTypeName,
    pub(crate) agent: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) resource: EntityTypeName,
    pub(crate) database: EntityTypeName,
    pub(crate) schema: EntityTypeName,
    pub(crate) table: EntityTypeName,
    pub(crate) tag: EntityTypeName,
    pub(crate) actions: [EntityUid; Action::ALL.len()],
}

impl Types {
    pub(crate) fn new() -> Self {
        fn name(text: &str) -> EntityTypeName {
            text.parse().expect("a plain identifier is an entity type name")
        }
        let action = name("Action");
        Self {
            user: name("User"),
            service: name("Service"),
            agent: name("Agent"),
            group: name("Group"),
            resource: name("Resource"),
            database: name("Database"),
            schema: name("Schema"),
            table: name("Table"),
            tag: name("Tag"),
            actions: Action::ALL.map(|word| uid(&action, word.as_str())),
        }
    }
    pub(crate) fn kind(&self, kind: PrincipalKind) -> &EntityTypeName {
        match kind {
            PrincipalKind::User => &self.user,
            PrincipalKind::Service => &self.service,
            PrincipalKind::Agent => &self.agent,
        }
    }
    pub(crate) fn action(&self, action: Action) -> &EntityUid {
        &self.actions[action as usize]
    }
}

pub(crate) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// The part of a uid that names the issuer: its URL without `https://`; `%` and `@` are percent-encoded, so that the
/// last `@` of a uid always divides it.
pub(crate) fn issuer_suffix(issuer: &str) -> Cow<'_, str> {
    // A scheme behind the scheme would make two issuers look alike, so such an oddity keeps its own.
    let short = issuer.strip_prefix("https://").filter(|rest| !rest.contains("://")).unwrap_or(issuer);
    if short.contains(['%', '@']) {
        Cow::Owned(short.replace('%', "%25").replace('@', "%40"))
    } else {
        Cow::Borrowed(short)
    }
}

/// `alice@idp.example`: for users, services, agents and, with several issuers, groups.
pub(crate) fn scoped(name: &str, issuer: &str) -> String {
    format!("{name}@{}", issuer_suffix(issuer))
}

/// `shop/public`.
pub(crate) fn schema_id(resource: &ResourceName, schema: &str) -> String {
    format!("{resource}/{}", part(schema))
}

/// `shop/public.customers`.
pub(crate) fn table_id(resource: &ResourceName, schema: &str, table: &str) -> String {
    format!("{resource}/{}.{}", part(schema), part(table))
}

/// One part of a dotted name: quoted as SQL quotes it where a dot or a quote stands inside.
pub(crate) fn part(name: &str) -> Cow<'_, str> {
    if name.is_empty() || name.contains(['.', '"']) {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_and_subjects_never_collide() {
        assert_eq!(scoped("alice", "https://idp.example"), "alice@idp.example");
        let all = [
            scoped("a", "https://b"),
            scoped("a", "http://b"),
            scoped("a", "https://b/"),
            scoped("a@b", "https://c"),
            scoped("a", "https://b@c"),
            scoped("a", "https://b%40c"),
            scoped("a", "https://http://b"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
    }

    #[test]
    fn a_dot_in_a_name_does_not_divide_it() {
        let shop = ResourceName::parse("shop").expect("well-formed");
        assert_eq!(table_id(&shop, "public", "customers"), "shop/public.customers");
        assert_ne!(table_id(&shop, "a.b", "c"), table_id(&shop, "a", "b.c"));
        assert_ne!(table_id(&shop, "\"a", "b"), table_id(&shop, "a", "\"b"));
        assert_ne!(table_id(&shop, "", "a"), table_id(&shop, "\"\"", "a"));
    }

    #[test]
    fn actions_are_found_by_their_place() {
        let types = Types::new();
        for action in Action::ALL {
            assert_eq!(types.action(action).id().unescaped(), action.as_str());
        }
    }
}
