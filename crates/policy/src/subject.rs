//! Who asks, from where, of which resource: what stays the same for a whole session.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};
use chancery_model::{Action, Authentication, Delegation, Digest, Need, Object, Resource, Timestamp};

use crate::names::{schema_id, scoped, table_id, uid};
use crate::rules::RuleSet;

/// Deeper chains are not decided upon; each link costs an evaluation.
pub(crate) const CHAIN_LINKS_MAX: usize = 16;

/// Entities and fixed facts of one session under one rule set. Cheap to clone. It must be made anew when the rule set
/// changes: `decide` denies a subject of other rules.
#[derive(Clone)]
pub struct Subject(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) rules: Digest,
    pub(crate) chain: Delegation,
    /// The principal, then each actor, without repetition.
    pub(crate) links: Vec<EntityUid>,
    /// `None` if they could not be built: then everything is denied.
    entities: Option<Entities>,
    pub(crate) resource: Resource,
    /// `context.chain` and `context.address`.
    pub(crate) chain_fact: RestrictedExpression,
    pub(crate) address_fact: RestrictedExpression,
    pub(crate) issuer: String,
    pub(crate) method: &'static str,
    pub(crate) authenticated_at: Timestamp,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subject({} on {})", self.0.chain, self.0.resource.name)
    }
}

impl Subject {
    /// Builds the entities of the chain and of the resource. Only groups that some rule names are kept.
    pub fn new(
        rules: &RuleSet,
        chain: &Delegation,
        authentication: &Authentication,
        resource: &Resource,
        client: IpAddr,
    ) -> Self {
        let (links, people) = links(rules, chain);
        let mut entities = people;
        entities.extend(places(rules, resource));
        let entities = entities.into_iter().collect::<Option<Vec<Entity>>>();
        let entities = entities
            .filter(|_| chain.depth() < CHAIN_LINKS_MAX)
            .and_then(|entities| Entities::from_entities(entities, None).ok());
        Self(Arc::new(Inner {
            rules: rules.digest(),
            links,
            entities,
            chain_fact: chain_fact(chain),
            address_fact: RestrictedExpression::new_ip(client.to_canonical().to_string()),
            chain: chain.clone(),
            resource: resource.clone(),
            issuer: authentication.issuer.clone(),
            method: authentication.method,
            authenticated_at: authentication.authenticated_at,
        }))
    }

    /// The chain it was made for.
    pub fn chain(&self) -> &Delegation {
        &self.0.chain
    }

    /// The resource it was made for.
    pub fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// The digest of the rule set it was made under.
    pub fn rules(&self) -> Digest {
        self.0.rules
    }
}

impl Inner {
    /// The uid of the object of each need, and the entities of the session with those objects added.
    pub(crate) fn place(&self, rules: &RuleSet, needs: &[Need]) -> Option<(Vec<EntityUid>, Entities)> {
        let types = &rules.types;
        let name = &self.resource.name;
        let mut added: BTreeMap<String, Option<Entity>> = BTreeMap::new();
        let mut schema = |schema: &str| {
            let id = schema_id(name, schema);
            let this = uid(&types.schema, &id);
            let parent = uid(&types.database, &database_id(&self.resource));
            added.entry(format!("s{id}")).or_insert_with(|| self.object(this.clone(), parent, &[("name", schema)]));
            this
        };
        let mut tables: BTreeMap<String, (EntityUid, EntityUid, &str, &str)> = BTreeMap::new();
        let mut objects = Vec::with_capacity(needs.len());
        for need in needs {
            objects.push(match &need.object {
                Object::Resource if need.action == Action::Connect => uid(&types.resource, name.as_str()),
                Object::Resource => uid(&types.database, &database_id(&self.resource)),
                Object::Schema(of) => schema(of),
                Object::Table(table) => {
                    let of = table.schema.as_deref()?;
                    let id = table_id(name, of, &table.name);
                    let this = uid(&types.table, &id);
                    tables.insert(id, (this.clone(), schema(of), of, &table.name));
                    this
                }
            });
        }
        for (id, (this, parent, schema, table)) in tables {
            added.insert(format!("t{id}"), self.object(this, parent, &[("schema", schema), ("name", table)]));
        }
        let entities = self.entities.clone()?;
        if added.is_empty() {
            return Some((objects, entities));
        }
        let added = added.into_values().collect::<Option<Vec<Entity>>>()?;
        Some((objects, entities.add_entities(added, None).ok()?))
    }

    /// The uid of the resource itself, with the session's entities.
    pub(crate) fn whole(&self, rules: &RuleSet) -> Option<(EntityUid, Entities)> {
        Some((uid(&rules.types.resource, self.resource.name.as_str()), self.entities.clone()?))
    }

    /// The uids of tags, each a child of the resource.
    pub(crate) fn tags(&self, rules: &RuleSet, tags: &[String]) -> Option<(Vec<EntityUid>, Entities)> {
        let uids: Vec<EntityUid> = tags.iter().map(|tag| uid(&rules.types.tag, tag)).collect();
        let parent = uid(&rules.types.resource, self.resource.name.as_str());
        let distinct: HashSet<&EntityUid> = uids.iter().collect();
        let added = distinct
            .into_iter()
            .map(|tag| self.object(tag.clone(), parent.clone(), &[("name", tag.id().unescaped())]))
            .collect::<Option<Vec<Entity>>>()?;
        let entities = self.entities.clone()?.add_entities(added, None).ok()?;
        Some((uids, entities))
    }

    fn object(&self, this: EntityUid, parent: EntityUid, attributes: &[(&str, &str)]) -> Option<Entity> {
        entity(this, Some(parent), attributes, &self.resource)
    }
}

fn links(rules: &RuleSet, chain: &Delegation) -> (Vec<EntityUid>, Vec<Option<Entity>>) {
    let principal = &chain.principal;
    let groups = principal
        .groups
        .iter()
        .flat_map(|group| rules.group_ids(group, &principal.issuer))
        .filter(|id| rules.names_group(id))
        .map(|id| uid(&rules.types.group, &id));
    let root = uid(rules.types.kind(principal.kind), &scoped(&principal.subject, &principal.issuer));
    let person = |this: &EntityUid, issuer: &str, subject: &str, parents: HashSet<EntityUid>| {
        let attributes = [("subject", subject), ("issuer", issuer)];
        let attributes =
            attributes.map(|(key, value)| (key.to_owned(), RestrictedExpression::new_string(value.into())));
        Entity::new_with_tags(this.clone(), attributes, parents, []).ok()
    };
    let mut links = vec![root.clone()];
    let mut entities = vec![person(&root, &principal.issuer, &principal.subject, groups.collect())];
    let mut parent = root;
    for actor in chain.actors.iter().take(CHAIN_LINKS_MAX) {
        let this = uid(rules.types.kind(actor.kind), &scoped(&actor.subject, &actor.issuer));
        // Somebody who comes twice keeps the first place: one entity cannot be below itself, and every link is
        // evaluated anyhow.
        if !links.contains(&this) {
            entities.push(person(&this, &actor.issuer, &actor.subject, HashSet::from([parent])));
            links.push(this.clone());
        }
        parent = this;
    }
    (links, entities)
}

fn places(rules: &RuleSet, resource: &Resource) -> [Option<Entity>; 2] {
    let whole = uid(&rules.types.resource, resource.name.as_str());
    let database = uid(&rules.types.database, &database_id(resource));
    let protocol = resource.protocol.to_string();
    let attributes = [("name", resource.name.as_str()), ("protocol", protocol.as_str())];
    [
        entity(whole.clone(), None, &attributes, resource),
        entity(database, Some(whole), &[("name", resource.database.as_str())], resource),
    ]
}

fn entity(
    this: EntityUid,
    parent: Option<EntityUid>,
    attributes: &[(&str, &str)],
    resource: &Resource,
) -> Option<Entity> {
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    let labels = resource.labels.iter().map(|(key, value)| (key.clone(), text(value)));
    Entity::new_with_tags(this, attributes, parent, labels).ok()
}

fn database_id(resource: &Resource) -> String {
    format!("{}/{}", resource.name, resource.database)
}

fn chain_fact(chain: &Delegation) -> RestrictedExpression {
    let text = RestrictedExpression::new_string;
    let actors = chain.actors.iter().map(|actor| text(scoped(&actor.subject, &actor.issuer)));
    let principal = scoped(&chain.principal.subject, &chain.principal.issuer);
    record([
        ("depth", RestrictedExpression::new_long(i64::try_from(chain.depth()).unwrap_or(i64::MAX))),
        ("principal", text(principal)),
        ("actors", RestrictedExpression::new_set(actors)),
    ])
}

pub(crate) fn record<const N: usize>(fields: [(&str, RestrictedExpression); N]) -> RestrictedExpression {
    let fields = fields.map(|(key, value)| (key.to_owned(), value));
    RestrictedExpression::new_record(fields).expect("the keys are literals of this crate, each written once")
}
