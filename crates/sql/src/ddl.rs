//! Statements that change structure, privileges and the server.

use chancery_model::{Action, Object, TableName};
use pg_query::{NodeEnum, NodeRef, protobuf as p};

use crate::reader::{Reader, Top, Walk, string, strings};

/// Changes structure.
const DEFINE: &[Action] = &[Action::Define];
/// Changes privileges.
const GRANT: &[Action] = &[Action::Grant];
/// Changes structure, and who may do what with it.
const DEFINE_AND_GRANT: &[Action] = &[Action::Define, Action::Grant];
/// Changes the server, its code, or what it is connected with.
const ADMINISTER: &[Action] = &[Action::Administer];
/// Changes structure in a way that reaches beyond the database.
const DEFINE_AND_ADMINISTER: &[Action] = &[Action::Define, Action::Administer];

impl Reader {
    /// Walks a statement of definition; `None` if it is not one.
    pub(crate) fn definition(&mut self, node: NodeRef<'_>) -> Walk<Option<Top>> {
        if let Some(top) = self.on_relations(node)? {
            return Ok(Some(top));
        }
        if let Some(top) = self.on_roles(node)? {
            return Ok(Some(top));
        }
        if let Some(top) = self.on_names(node)? {
            return Ok(Some(top));
        }
        if let Some(top) = self.on_schema_things(node)? {
            return Ok(Some(top));
        }
        self.on_server(node)
    }

    /// Statements whose relations stand directly below them.
    fn on_relations(&mut self, node: NodeRef<'_>) -> Walk<Option<Top>> {
        let (kind, actions) = match node {
            NodeRef::CreateStmt(_) => ("create table".to_owned(), DEFINE),
            NodeRef::ViewStmt(_) => ("create view".to_owned(), DEFINE),
            NodeRef::IndexStmt(_) => ("create index".to_owned(), DEFINE),
            NodeRef::CreateSeqStmt(_) => ("create sequence".to_owned(), DEFINE),
            NodeRef::AlterSeqStmt(_) => ("alter sequence".to_owned(), DEFINE),
            NodeRef::CreateStatsStmt(_) => ("create statistics".to_owned(), DEFINE),
            NodeRef::CompositeTypeStmt(s) => {
                let schema = s.typevar.as_ref().map(|name| name.schemaname.clone()).filter(|name| !name.is_empty());
                self.visit_all(&s.coldeflist)?;
                self.need(Action::Define, schema.map_or(Object::Resource, Object::Schema));
                return Ok(Some(Top::of("create type")));
            }
            NodeRef::CreateTrigStmt(_) => ("create trigger".to_owned(), DEFINE),
            NodeRef::RuleStmt(_) => ("create rule".to_owned(), DEFINE),
            NodeRef::RefreshMatViewStmt(_) => ("refresh materialized view".to_owned(), DEFINE),
            NodeRef::ClusterStmt(_) => ("cluster".to_owned(), DEFINE),
            NodeRef::CreatePolicyStmt(_) => ("create policy".to_owned(), DEFINE_AND_GRANT),
            NodeRef::AlterPolicyStmt(_) => ("alter policy".to_owned(), DEFINE_AND_GRANT),
            NodeRef::AlterTableStmt(s) => {
                let kind = format!("alter {}", word(s.objtype));
                (kind, if changes_privileges(&s.cmds) { DEFINE_AND_GRANT } else { DEFINE })
            }
            NodeRef::CreateTableAsStmt(s) => {
                let kind =
                    if s.is_select_into { "select into".to_owned() } else { format!("create {} as", word(s.objtype)) };
                (kind.replace("materialized view as", "materialized view"), DEFINE)
            }
            NodeRef::CreateForeignTableStmt(_) => ("create foreign table".to_owned(), ADMINISTER),
            NodeRef::VacuumStmt(s) => {
                let role = std::mem::replace(&mut self.role, Action::Define);
                let top = self.act(node, if s.is_vacuumcmd { "vacuum" } else { "analyze" }, &[], Vec::new());
                self.role = role;
                if s.rels.is_empty() {
                    self.need_resource(Action::Define);
                }
                return top.map(Some);
            }
            NodeRef::ReindexStmt(s) => {
                let schema = p::ReindexObjectType::try_from(s.kind) == Ok(p::ReindexObjectType::ReindexObjectSchema);
                let objects = if schema { vec![Object::Schema(s.name.clone())] } else { Vec::new() };
                return self.act(node, "reindex", DEFINE, objects).map(Some);
            }
            _ => return Ok(None),
        };
        let named = matches!(node, NodeRef::CreateTableAsStmt(_) | NodeRef::CreateForeignTableStmt(_));
        if named {
            // The new relation is named one level down; the walk finds it there.
            actions.iter().filter(|a| **a != Action::Define).for_each(|action| self.need_resource(*action));
            self.visit_children(node)?;
            return Ok(Some(Top::of(kind)));
        }
        self.act(node, kind, actions, Vec::new()).map(Some)
    }

    /// Statements on roles and privileges.
    fn on_roles(&mut self, node: NodeRef<'_>) -> Walk<Option<Top>> {
        let (kind, actions, objects) = match node {
            NodeRef::GrantStmt(s) => {
                let kind = if s.is_grant { "grant" } else { "revoke" };
                (kind, GRANT, self.granted(s))
            }
            NodeRef::GrantRoleStmt(s) => (if s.is_grant { "grant role" } else { "revoke role" }, GRANT, Vec::new()),
            NodeRef::AlterDefaultPrivilegesStmt(_) => ("alter default privileges", GRANT, Vec::new()),
            NodeRef::CreateRoleStmt(_) => ("create role", GRANT, Vec::new()),
            NodeRef::AlterRoleStmt(_) => ("alter role", GRANT, Vec::new()),
            NodeRef::AlterRoleSetStmt(_) => {
                // The settings are those of later sessions.
                self.need_resource(Action::Grant);
                return Ok(Some(Top::of("alter role")));
            }
            NodeRef::DropRoleStmt(_) => ("drop role", GRANT, Vec::new()),
            NodeRef::DropOwnedStmt(_) => ("drop owned", DEFINE_AND_GRANT, Vec::new()),
            NodeRef::ReassignOwnedStmt(_) => ("reassign owned", DEFINE_AND_GRANT, Vec::new()),
            NodeRef::SecLabelStmt(s) => {
                let object = self.object(s.objtype, s.object.as_deref());
                ("security label", DEFINE_AND_GRANT, vec![object])
            }
            _ => return Ok(None),
        };
        self.act(node, kind, actions, objects).map(Some)
    }

    /// Statements that drop, rename or move things, whatever they are.
    fn on_names(&mut self, node: NodeRef<'_>) -> Walk<Option<Top>> {
        let one = |object: Object| vec![object];
        let (kind, actions, objects) = match node {
            NodeRef::DropStmt(s) => {
                let objects = s.objects.iter().map(|object| self.object(s.remove_type, Some(object))).collect();
                let beyond = matches!(
                    p::ObjectType::try_from(s.remove_type),
                    Ok(p::ObjectType::ObjectExtension
                        | p::ObjectType::ObjectFdw
                        | p::ObjectType::ObjectForeignServer
                        | p::ObjectType::ObjectEventTrigger
                        | p::ObjectType::ObjectLanguage
                        | p::ObjectType::ObjectAccessMethod)
                );
                (format!("drop {}", word(s.remove_type)), if beyond { ADMINISTER } else { DEFINE }, objects)
            }
            NodeRef::CommentStmt(s) => ("comment".to_owned(), DEFINE, one(self.object(s.objtype, s.object.as_deref()))),
            NodeRef::RenameStmt(s) => {
                if s.rename_type == p::ObjectType::ObjectColumn as i32 {
                    self.columns.extend([s.subname.clone(), s.newname.clone()]);
                }
                let role = p::ObjectType::try_from(s.rename_type) == Ok(p::ObjectType::ObjectRole);
                let objects = match &s.relation {
                    Some(_) => Vec::new(),
                    None if s.object.is_none() && s.rename_type == p::ObjectType::ObjectSchema as i32 => {
                        one(Object::Schema(s.subname.clone()))
                    }
                    None => one(self.object(s.rename_type, s.object.as_deref())),
                };
                let of = if s.relation_type > 1 && s.relation.is_some() { s.relation_type } else { s.rename_type };
                (format!("alter {}", word(of)), if role { GRANT } else { DEFINE }, objects)
            }
            NodeRef::AlterObjectSchemaStmt(s) => {
                let mut objects = one(Object::Schema(s.newschema.clone()));
                if s.relation.is_none() {
                    objects.push(self.object(s.object_type, s.object.as_deref()));
                }
                (format!("alter {}", word(s.object_type)), DEFINE, objects)
            }
            NodeRef::AlterOwnerStmt(s) => {
                let objects = match &s.relation {
                    Some(_) => Vec::new(),
                    None => one(self.object(s.object_type, s.object.as_deref())),
                };
                (format!("alter {}", word(s.object_type)), DEFINE_AND_GRANT, objects)
            }
            NodeRef::AlterObjectDependsStmt(s) => (format!("alter {}", word(s.object_type)), DEFINE, Vec::new()),
            _ => return Ok(None),
        };
        self.act(node, kind, actions, objects).map(Some)
    }

    /// Statements that make or alter things of a schema other than relations.
    fn on_schema_things(&mut self, node: NodeRef<'_>) -> Walk<Option<Top>> {
        let one = |object: Object| vec![object];
        let (kind, actions, objects) = match node {
            NodeRef::CreateSchemaStmt(s) => {
                let objects =
                    if s.schemaname.is_empty() { Vec::new() } else { one(Object::Schema(s.schemaname.clone())) };
                ("create schema".to_owned(), DEFINE, objects)
            }
            NodeRef::CreateFunctionStmt(s) => {
                let kind = if s.is_procedure { "create procedure" } else { "create function" };
                (kind.to_owned(), DEFINE, one(in_schema(&s.funcname)))
            }
            NodeRef::AlterFunctionStmt(s) => {
                let object = s.func.as_ref().map_or(Object::Resource, |f| in_schema(&f.objname));
                (format!("alter {}", word(s.objtype)), DEFINE, one(object))
            }
            NodeRef::DefineStmt(s) => (format!("create {}", word(s.kind)), DEFINE, one(in_schema(&s.defnames))),
            NodeRef::CreateDomainStmt(s) => ("create domain".to_owned(), DEFINE, one(in_schema(&s.domainname))),
            NodeRef::AlterDomainStmt(s) => ("alter domain".to_owned(), DEFINE, one(in_schema(&s.type_name))),
            NodeRef::CreateEnumStmt(s) => ("create type".to_owned(), DEFINE, one(in_schema(&s.type_name))),
            NodeRef::CreateRangeStmt(s) => ("create type".to_owned(), DEFINE, one(in_schema(&s.type_name))),
            NodeRef::AlterEnumStmt(s) => ("alter type".to_owned(), DEFINE, one(in_schema(&s.type_name))),
            NodeRef::AlterTypeStmt(s) => ("alter type".to_owned(), DEFINE, one(in_schema(&s.type_name))),
            NodeRef::AlterOperatorStmt(_) => ("alter operator".to_owned(), DEFINE, Vec::new()),
            NodeRef::AlterCollationStmt(s) => ("alter collation".to_owned(), DEFINE, one(in_schema(&s.collname))),
            NodeRef::AlterStatsStmt(s) => ("alter statistics".to_owned(), DEFINE, one(in_schema(&s.defnames))),
            NodeRef::CreateConversionStmt(s) => {
                ("create conversion".to_owned(), DEFINE, one(in_schema(&s.conversion_name)))
            }
            NodeRef::CreateCastStmt(_) => ("create cast".to_owned(), DEFINE, Vec::new()),
            NodeRef::CreateTransformStmt(_) => ("create transform".to_owned(), DEFINE, Vec::new()),
            NodeRef::CreateOpClassStmt(_) => ("create operator class".to_owned(), DEFINE, Vec::new()),
            NodeRef::CreateOpFamilyStmt(_) => ("create operator family".to_owned(), DEFINE, Vec::new()),
            NodeRef::AlterOpFamilyStmt(_) => ("alter operator family".to_owned(), DEFINE, Vec::new()),
            NodeRef::AlterTsdictionaryStmt(s) => {
                ("alter text search dictionary".to_owned(), DEFINE, one(in_schema(&s.dictname)))
            }
            NodeRef::AlterTsconfigurationStmt(s) => {
                ("alter text search configuration".to_owned(), DEFINE, one(in_schema(&s.cfgname)))
            }
            _ => return Ok(None),
        };
        self.act(node, kind, actions, objects).map(Some)
    }

    /// Statements that reach beyond the objects of one database.
    fn on_server(&mut self, node: NodeRef<'_>) -> Walk<Option<Top>> {
        let (kind, actions) = match node {
            NodeRef::CreatedbStmt(_) => ("create database", ADMINISTER),
            NodeRef::DropdbStmt(_) => ("drop database", ADMINISTER),
            NodeRef::AlterDatabaseStmt(_) | NodeRef::AlterDatabaseRefreshCollStmt(_) => ("alter database", ADMINISTER),
            NodeRef::AlterDatabaseSetStmt(_) => {
                // The settings are those of later sessions.
                self.need_resource(Action::Administer);
                return Ok(Some(Top::of("alter database")));
            }
            NodeRef::CreateTableSpaceStmt(_) => ("create tablespace", ADMINISTER),
            NodeRef::DropTableSpaceStmt(_) => ("drop tablespace", ADMINISTER),
            NodeRef::AlterTableSpaceOptionsStmt(_) => ("alter tablespace", ADMINISTER),
            NodeRef::AlterTableMoveAllStmt(_) => ("alter table all in tablespace", DEFINE_AND_ADMINISTER),
            NodeRef::CreateExtensionStmt(_) => ("create extension", ADMINISTER),
            NodeRef::AlterExtensionStmt(_) | NodeRef::AlterExtensionContentsStmt(_) => ("alter extension", ADMINISTER),
            NodeRef::CreateFdwStmt(_) => ("create foreign data wrapper", ADMINISTER),
            NodeRef::AlterFdwStmt(_) => ("alter foreign data wrapper", ADMINISTER),
            NodeRef::CreateForeignServerStmt(_) => ("create server", ADMINISTER),
            NodeRef::AlterForeignServerStmt(_) => ("alter server", ADMINISTER),
            NodeRef::CreateUserMappingStmt(_) => ("create user mapping", ADMINISTER),
            NodeRef::AlterUserMappingStmt(_) => ("alter user mapping", ADMINISTER),
            NodeRef::DropUserMappingStmt(_) => ("drop user mapping", ADMINISTER),
            NodeRef::ImportForeignSchemaStmt(s) => {
                self.need_resource(Action::Administer);
                self.need(Action::Define, Object::Schema(s.local_schema.clone()));
                return Ok(Some(Top::of("import foreign schema")));
            }
            NodeRef::CreateEventTrigStmt(_) => ("create event trigger", DEFINE_AND_ADMINISTER),
            NodeRef::AlterEventTrigStmt(_) => ("alter event trigger", DEFINE_AND_ADMINISTER),
            NodeRef::CreatePlangStmt(_) => ("create language", ADMINISTER),
            NodeRef::CreateAmStmt(_) => ("create access method", ADMINISTER),
            NodeRef::CreatePublicationStmt(_) => ("create publication", ADMINISTER),
            NodeRef::AlterPublicationStmt(_) => ("alter publication", ADMINISTER),
            NodeRef::CreateSubscriptionStmt(_) => ("create subscription", ADMINISTER),
            NodeRef::AlterSubscriptionStmt(_) => ("alter subscription", ADMINISTER),
            NodeRef::DropSubscriptionStmt(_) => ("drop subscription", ADMINISTER),
            _ => return Ok(None),
        };
        self.act(node, kind, actions, Vec::new()).map(Some)
    }

    /// What a GRANT is on, unless it is relations.
    fn granted(&mut self, statement: &p::GrantStmt) -> Vec<Object> {
        let schemas = statement.targtype == p::GrantTargetType::AclTargetAllInSchema as i32
            || statement.objtype == p::ObjectType::ObjectSchema as i32;
        let objects = statement.objects.iter().filter(|o| !matches!(o.node, Some(NodeEnum::RangeVar(_))));
        let objects = objects.map(|object| match string(object) {
            Some(name) if schemas => Object::Schema(name.to_owned()),
            _ => self.object(statement.objtype, Some(object)),
        });
        objects.collect()
    }

    /// The object that a name of this type stands for.
    fn object(&mut self, object_type: i32, name: Option<&p::Node>) -> Object {
        use p::ObjectType as Type;
        let Some(node) = name.and_then(|node| node.node.as_ref()) else { return Object::Resource };
        let parts = match node {
            NodeEnum::List(list) => list.items.as_slice(),
            NodeEnum::TypeName(name) => &name.names,
            NodeEnum::ObjectWithArgs(object) => &object.objname,
            NodeEnum::String(name) if Type::try_from(object_type) == Ok(Type::ObjectSchema) => {
                return Object::Schema(name.sval.clone());
            }
            _ => return Object::Resource,
        };
        match Type::try_from(object_type) {
            Ok(
                Type::ObjectTable
                | Type::ObjectView
                | Type::ObjectMatview
                | Type::ObjectSequence
                | Type::ObjectForeignTable
                | Type::ObjectIndex,
            ) => relation(parts),
            Ok(
                Type::ObjectColumn
                | Type::ObjectTrigger
                | Type::ObjectRule
                | Type::ObjectPolicy
                | Type::ObjectTabconstraint,
            ) => {
                if Type::try_from(object_type) == Ok(Type::ObjectColumn) {
                    self.column_names(parts.last().map(std::slice::from_ref).unwrap_or_default());
                }
                relation(parts.split_last().map(|(_, table)| table).unwrap_or_default())
            }
            _ => in_schema(parts),
        }
    }
}

/// The relation of these name parts: (database,) schema, name.
fn relation(parts: &[p::Node]) -> Object {
    match strings(parts).as_slice() {
        [.., schema, name] => Object::Table(TableName { schema: Some((*schema).to_owned()), name: (*name).to_owned() }),
        [name] => Object::Table(TableName { schema: None, name: (*name).to_owned() }),
        [] => Object::Resource,
    }
}

/// The schema that a qualified name stands in, or the resource.
fn in_schema(parts: &[p::Node]) -> Object {
    match strings(parts).as_slice() {
        [.., schema, _] => Object::Schema((*schema).to_owned()),
        _ => Object::Resource,
    }
}

/// Whether an ALTER TABLE changes its owner or its row security.
fn changes_privileges(commands: &[p::Node]) -> bool {
    use p::AlterTableType as Type;
    commands.iter().any(|node| match &node.node {
        Some(NodeEnum::AlterTableCmd(command)) => matches!(
            Type::try_from(command.subtype),
            Ok(Type::AtChangeOwner
                | Type::AtEnableRowSecurity
                | Type::AtDisableRowSecurity
                | Type::AtForceRowSecurity
                | Type::AtNoForceRowSecurity)
        ),
        _ => false,
    })
}

/// The words for a type of object: `OBJECT_FOREIGN_TABLE` is `foreign table`.
fn word(object_type: i32) -> String {
    use p::ObjectType as Type;
    match Type::try_from(object_type) {
        Ok(Type::ObjectMatview) => "materialized view".to_owned(),
        Ok(Type::ObjectFdw) => "foreign data wrapper".to_owned(),
        Ok(Type::ObjectForeignServer) => "server".to_owned(),
        Ok(Type::ObjectOpclass) => "operator class".to_owned(),
        Ok(Type::ObjectOpfamily) => "operator family".to_owned(),
        Ok(Type::ObjectStatisticExt) => "statistics".to_owned(),
        Ok(Type::ObjectTsconfiguration) => "text search configuration".to_owned(),
        Ok(Type::ObjectTsdictionary) => "text search dictionary".to_owned(),
        Ok(Type::ObjectTsparser) => "text search parser".to_owned(),
        Ok(Type::ObjectTstemplate) => "text search template".to_owned(),
        Ok(Type::ObjectAttribute) => "type".to_owned(),
        Ok(Type::ObjectColumn | Type::ObjectTabconstraint) => "table".to_owned(),
        Ok(Type::ObjectDomconstraint) => "domain".to_owned(),
        Ok(known) => known.as_str_name().trim_start_matches("OBJECT_").replace('_', " ").to_ascii_lowercase(),
        Err(_) => "object".to_owned(),
    }
}
