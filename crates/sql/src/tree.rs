//! The children of every node of a raw parse tree.
//!
//! One line per node names every field of its message: lists of nodes, single nodes, typed nodes, and the scalar
//! fields that hold none. The patterns below have no `..`: a new version of the grammar that adds a field does not
//! compile until somebody has looked at it. Nodes that only planner and analyzer produce are not on the list; meeting
//! one is a reason to call the statement unreadable.

use pg_query::{NodeRef, protobuf as p};

/// Met a node that is not part of a raw parse tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownNode;

/// A visitor of nodes that can call the walk off.
pub(crate) type Visit<'v, 'n, E> = &'v mut dyn FnMut(NodeRef<'n>) -> Result<(), E>;

/// Calls `visit` for a wrapped node; an empty wrapper is the absence of a node.
pub(crate) fn visit_node<'n, E>(node: &'n p::Node, visit: Visit<'_, 'n, E>) -> Result<(), E> {
    match &node.node {
        Some(inner) => visit(inner.to_ref()),
        None => Ok(()),
    }
}

/// Whether the node is a statement of its own.
pub(crate) fn is_statement(node: NodeRef<'_>) -> bool {
    name(node).ends_with("Stmt") && !matches!(node, NodeRef::ReplicaIdentityStmt(_) | NodeRef::ReturnStmt(_))
}

macro_rules! children {
    ($($variant:ident $message:ident [many $($many:ident)*; one $($one:ident)*;
        node $($field:ident: $kind:ident),*; skip $($skip:ident)*])*) => {
        /// Calls `visit` once for every child of `node`, in the order lists, single nodes, typed nodes.
        pub(crate) fn children<'n, E: From<UnknownNode>>(
            node: NodeRef<'n>,
            visit: Visit<'_, 'n, E>,
        ) -> Result<(), E> {
            match node {
                $(NodeRef::$variant(inner) => {
                    let p::$message { $($many,)* $($one,)* $($field,)* $($skip: _,)* } = inner;
                    $(for child in $many { visit_node(child, visit)?; })*
                    $(if let Some(child) = $one { visit_node(child, visit)?; })*
                    $(if let Some(child) = $field { visit(NodeRef::$kind(child))?; })*
                    Ok(())
                })*
                _ => Err(E::from(UnknownNode)),
            }
        }

        /// The name of the node, as the grammar has it.
        pub(crate) fn name(node: NodeRef<'_>) -> &'static str {
            match node {
                $(NodeRef::$variant(_) => stringify!($variant),)*
                _ => "",
            }
        }
    };
}

children! {
    Alias Alias [many colnames; one; node; skip aliasname]
    RangeVar RangeVar [many; one; node alias: Alias; skip catalogname schemaname relname inh relpersistence
        location]
    GroupingFunc GroupingFunc [many args refs; one xpr; node; skip agglevelsup location]
    NamedArgExpr NamedArgExpr [many; one xpr arg; node; skip name argnumber location]
    BoolExpr BoolExpr [many args; one xpr; node; skip boolop location]
    SubLink SubLink [many oper_name; one xpr testexpr subselect; node; skip sub_link_type sub_link_id location]
    CaseExpr CaseExpr [many args; one xpr arg defresult; node; skip casetype casecollid location]
    CaseWhen CaseWhen [many; one xpr expr result; node; skip location]
    RowExpr RowExpr [many args colnames; one xpr; node; skip row_typeid row_format location]
    CoalesceExpr CoalesceExpr [many args; one xpr; node; skip coalescetype coalescecollid location]
    MinMaxExpr MinMaxExpr [many args; one xpr; node; skip minmaxtype minmaxcollid inputcollid op location]
    SqlvalueFunction SqlValueFunction [many; one xpr; node; skip op r#type typmod location]
    XmlExpr XmlExpr [many named_args arg_names args; one xpr; node; skip op name xmloption indent r#type typmod
        location]
    NullTest NullTest [many; one xpr arg; node; skip nulltesttype argisrow location]
    BooleanTest BooleanTest [many; one xpr arg; node; skip booltesttype location]
    SetToDefault SetToDefault [many; one xpr; node; skip type_id type_mod collation location]
    CurrentOfExpr CurrentOfExpr [many; one xpr; node; skip cvarno cursor_name cursor_param]
    JoinExpr JoinExpr [many using_clause; one larg rarg quals; node join_using_alias: Alias, alias: Alias; skip
        jointype is_natural rtindex]
    IntoClause IntoClause [many col_names options; one; node rel: RangeVar, view_query: Query; skip
        access_method on_commit table_space_name skip_data]
    RawStmt RawStmt [many; one stmt; node; skip stmt_location stmt_len]
    InsertStmt InsertStmt [many cols; one select_stmt; node relation: RangeVar, on_conflict_clause:
        OnConflictClause, returning_clause: ReturningClause, with_clause: WithClause; skip r#override]
    DeleteStmt DeleteStmt [many using_clause; one where_clause; node relation: RangeVar, returning_clause:
        ReturningClause, with_clause: WithClause; skip]
    UpdateStmt UpdateStmt [many target_list from_clause; one where_clause; node relation: RangeVar,
        returning_clause: ReturningClause, with_clause: WithClause; skip]
    SelectStmt SelectStmt [many distinct_clause target_list from_clause group_clause window_clause values_lists
        sort_clause locking_clause; one where_clause having_clause limit_offset limit_count; node into_clause:
        IntoClause, with_clause: WithClause, larg: SelectStmt, rarg: SelectStmt; skip group_distinct
        limit_option op all]
    AlterTableStmt AlterTableStmt [many cmds; one; node relation: RangeVar; skip objtype missing_ok]
    AlterTableCmd AlterTableCmd [many; one def; node newowner: RoleSpec; skip subtype name num behavior
        missing_ok recurse]
    AlterDomainStmt AlterDomainStmt [many type_name; one def; node; skip subtype name behavior missing_ok]
    GrantStmt GrantStmt [many objects privileges grantees; one; node grantor: RoleSpec; skip is_grant targtype
        objtype grant_option behavior]
    GrantRoleStmt GrantRoleStmt [many granted_roles grantee_roles opt; one; node grantor: RoleSpec; skip
        is_grant behavior]
    AlterDefaultPrivilegesStmt AlterDefaultPrivilegesStmt [many options; one; node action: GrantStmt; skip]
    ClosePortalStmt ClosePortalStmt [many; one; node; skip portalname]
    ClusterStmt ClusterStmt [many params; one; node relation: RangeVar; skip indexname]
    CopyStmt CopyStmt [many attlist options; one query where_clause; node relation: RangeVar; skip is_from
        is_program filename]
    CreateStmt CreateStmt [many table_elts inh_relations constraints nnconstraints options; one; node relation:
        RangeVar, partbound: PartitionBoundSpec, partspec: PartitionSpec, of_typename: TypeName; skip oncommit
        tablespacename access_method if_not_exists]
    DefineStmt DefineStmt [many defnames args definition; one; node; skip kind oldstyle if_not_exists replace]
    DropStmt DropStmt [many objects; one; node; skip remove_type behavior missing_ok concurrent]
    TruncateStmt TruncateStmt [many relations; one; node; skip restart_seqs behavior]
    CommentStmt CommentStmt [many; one object; node; skip objtype comment]
    FetchStmt FetchStmt [many; one; node; skip direction how_many portalname ismove]
    IndexStmt IndexStmt [many index_params index_including_params options exclude_op_names; one where_clause;
        node relation: RangeVar; skip idxname access_method table_space idxcomment index_oid old_number
        old_create_subid old_first_relfilelocator_subid unique nulls_not_distinct primary isconstraint
        iswithoutoverlaps deferrable initdeferred transformed concurrent if_not_exists reset_default_tblspc]
    CreateFunctionStmt CreateFunctionStmt [many funcname parameters options; one sql_body; node return_type:
        TypeName; skip is_procedure replace]
    AlterFunctionStmt AlterFunctionStmt [many actions; one; node func: ObjectWithArgs; skip objtype]
    DoStmt DoStmt [many args; one; node; skip]
    RenameStmt RenameStmt [many; one object; node relation: RangeVar; skip rename_type relation_type subname
        newname behavior missing_ok]
    RuleStmt RuleStmt [many actions; one where_clause; node relation: RangeVar; skip rulename event instead
        replace]
    NotifyStmt NotifyStmt [many; one; node; skip conditionname payload payload_location]
    ListenStmt ListenStmt [many; one; node; skip conditionname]
    UnlistenStmt UnlistenStmt [many; one; node; skip conditionname]
    TransactionStmt TransactionStmt [many options; one; node; skip kind savepoint_name gid chain location]
    ViewStmt ViewStmt [many aliases options; one query; node view: RangeVar; skip replace with_check_option]
    LoadStmt LoadStmt [many; one; node; skip filename]
    CreateDomainStmt CreateDomainStmt [many domainname constraints; one; node type_name: TypeName, coll_clause:
        CollateClause; skip]
    CreatedbStmt CreatedbStmt [many options; one; node; skip dbname]
    DropdbStmt DropdbStmt [many options; one; node; skip dbname missing_ok]
    VacuumStmt VacuumStmt [many options rels; one; node; skip is_vacuumcmd]
    ExplainStmt ExplainStmt [many options; one query; node; skip]
    CreateTableAsStmt CreateTableAsStmt [many; one query; node into: IntoClause; skip objtype is_select_into
        if_not_exists]
    CreateSeqStmt CreateSeqStmt [many options; one; node sequence: RangeVar; skip owner_id for_identity
        if_not_exists]
    AlterSeqStmt AlterSeqStmt [many options; one; node sequence: RangeVar; skip for_identity missing_ok]
    VariableSetStmt VariableSetStmt [many args; one; node; skip kind name jumble_args is_local location]
    VariableShowStmt VariableShowStmt [many; one; node; skip name]
    DiscardStmt DiscardStmt [many; one; node; skip target]
    CreateTrigStmt CreateTrigStmt [many funcname args columns transition_rels; one when_clause; node relation:
        RangeVar, constrrel: RangeVar; skip replace isconstraint trigname row timing events deferrable
        initdeferred]
    CreatePlangStmt CreatePLangStmt [many plhandler plinline plvalidator; one; node; skip replace plname
        pltrusted]
    CreateRoleStmt CreateRoleStmt [many options; one; node; skip stmt_type role]
    AlterRoleStmt AlterRoleStmt [many options; one; node role: RoleSpec; skip action]
    DropRoleStmt DropRoleStmt [many roles; one; node; skip missing_ok]
    LockStmt LockStmt [many relations; one; node; skip mode nowait]
    ConstraintsSetStmt ConstraintsSetStmt [many constraints; one; node; skip deferred]
    ReindexStmt ReindexStmt [many params; one; node relation: RangeVar; skip kind name]
    CheckPointStmt CheckPointStmt [many; one; node; skip]
    CreateSchemaStmt CreateSchemaStmt [many schema_elts; one; node authrole: RoleSpec; skip schemaname
        if_not_exists]
    AlterDatabaseStmt AlterDatabaseStmt [many options; one; node; skip dbname]
    AlterDatabaseSetStmt AlterDatabaseSetStmt [many; one; node setstmt: VariableSetStmt; skip dbname]
    AlterRoleSetStmt AlterRoleSetStmt [many; one; node role: RoleSpec, setstmt: VariableSetStmt; skip database]
    CreateConversionStmt CreateConversionStmt [many conversion_name func_name; one; node; skip for_encoding_name
        to_encoding_name def]
    CreateCastStmt CreateCastStmt [many; one; node sourcetype: TypeName, targettype: TypeName, func:
        ObjectWithArgs; skip context inout]
    CreateOpClassStmt CreateOpClassStmt [many opclassname opfamilyname items; one; node datatype: TypeName; skip
        amname is_default]
    CreateOpFamilyStmt CreateOpFamilyStmt [many opfamilyname; one; node; skip amname]
    AlterOpFamilyStmt AlterOpFamilyStmt [many opfamilyname items; one; node; skip amname is_drop]
    PrepareStmt PrepareStmt [many argtypes; one query; node; skip name]
    ExecuteStmt ExecuteStmt [many params; one; node; skip name]
    DeallocateStmt DeallocateStmt [many; one; node; skip name isall location]
    DeclareCursorStmt DeclareCursorStmt [many; one query; node; skip portalname options]
    CreateTableSpaceStmt CreateTableSpaceStmt [many options; one; node owner: RoleSpec; skip tablespacename
        location]
    DropTableSpaceStmt DropTableSpaceStmt [many; one; node; skip tablespacename missing_ok]
    AlterObjectDependsStmt AlterObjectDependsStmt [many; one object; node relation: RangeVar, extname: String;
        skip object_type remove]
    AlterObjectSchemaStmt AlterObjectSchemaStmt [many; one object; node relation: RangeVar; skip object_type
        newschema missing_ok]
    AlterOwnerStmt AlterOwnerStmt [many; one object; node relation: RangeVar, newowner: RoleSpec; skip
        object_type]
    AlterOperatorStmt AlterOperatorStmt [many options; one; node opername: ObjectWithArgs; skip]
    AlterTypeStmt AlterTypeStmt [many type_name options; one; node; skip]
    AtalterConstraint AtAlterConstraint [many; one; node; skip conname alter_enforceability is_enforced
        alter_deferrability deferrable initdeferred alter_inheritability noinherit]
    DropOwnedStmt DropOwnedStmt [many roles; one; node; skip behavior]
    ReassignOwnedStmt ReassignOwnedStmt [many roles; one; node newrole: RoleSpec; skip]
    CompositeTypeStmt CompositeTypeStmt [many coldeflist; one; node typevar: RangeVar; skip]
    CreateEnumStmt CreateEnumStmt [many type_name vals; one; node; skip]
    CreateRangeStmt CreateRangeStmt [many type_name params; one; node; skip]
    AlterEnumStmt AlterEnumStmt [many type_name; one; node; skip old_val new_val new_val_neighbor
        new_val_is_after skip_if_new_val_exists]
    AlterTsdictionaryStmt AlterTsDictionaryStmt [many dictname options; one; node; skip]
    AlterTsconfigurationStmt AlterTsConfigurationStmt [many cfgname tokentype dicts; one; node; skip kind
        r#override replace missing_ok]
    CreateFdwStmt CreateFdwStmt [many func_options options; one; node; skip fdwname]
    AlterFdwStmt AlterFdwStmt [many func_options options; one; node; skip fdwname]
    CreateForeignServerStmt CreateForeignServerStmt [many options; one; node; skip servername servertype version
        fdwname if_not_exists]
    AlterForeignServerStmt AlterForeignServerStmt [many options; one; node; skip servername version has_version]
    CreateUserMappingStmt CreateUserMappingStmt [many options; one; node user: RoleSpec; skip servername
        if_not_exists]
    AlterUserMappingStmt AlterUserMappingStmt [many options; one; node user: RoleSpec; skip servername]
    DropUserMappingStmt DropUserMappingStmt [many; one; node user: RoleSpec; skip servername missing_ok]
    AlterTableSpaceOptionsStmt AlterTableSpaceOptionsStmt [many options; one; node; skip tablespacename
        is_reset]
    AlterTableMoveAllStmt AlterTableMoveAllStmt [many roles; one; node; skip orig_tablespacename objtype
        new_tablespacename nowait]
    SecLabelStmt SecLabelStmt [many; one object; node; skip objtype provider label]
    CreateForeignTableStmt CreateForeignTableStmt [many options; one; node base_stmt: CreateStmt; skip
        servername]
    ImportForeignSchemaStmt ImportForeignSchemaStmt [many table_list options; one; node; skip server_name
        remote_schema local_schema list_type]
    CreateExtensionStmt CreateExtensionStmt [many options; one; node; skip extname if_not_exists]
    AlterExtensionStmt AlterExtensionStmt [many options; one; node; skip extname]
    AlterExtensionContentsStmt AlterExtensionContentsStmt [many; one object; node; skip extname action objtype]
    CreateEventTrigStmt CreateEventTrigStmt [many whenclause funcname; one; node; skip trigname eventname]
    AlterEventTrigStmt AlterEventTrigStmt [many; one; node; skip trigname tgenabled]
    RefreshMatViewStmt RefreshMatViewStmt [many; one; node relation: RangeVar; skip concurrent skip_data]
    ReplicaIdentityStmt ReplicaIdentityStmt [many; one; node; skip identity_type name]
    AlterSystemStmt AlterSystemStmt [many; one; node setstmt: VariableSetStmt; skip]
    CreatePolicyStmt CreatePolicyStmt [many roles; one qual with_check; node table: RangeVar; skip policy_name
        cmd_name permissive]
    AlterPolicyStmt AlterPolicyStmt [many roles; one qual with_check; node table: RangeVar; skip policy_name]
    CreateTransformStmt CreateTransformStmt [many; one; node type_name: TypeName, fromsql: ObjectWithArgs,
        tosql: ObjectWithArgs; skip replace lang]
    CreateAmStmt CreateAmStmt [many handler_name; one; node; skip amname amtype]
    CreatePublicationStmt CreatePublicationStmt [many options pubobjects; one; node; skip pubname
        for_all_tables]
    AlterPublicationStmt AlterPublicationStmt [many options pubobjects; one; node; skip pubname for_all_tables
        action]
    CreateSubscriptionStmt CreateSubscriptionStmt [many publication options; one; node; skip subname conninfo
        conninfo_location]
    AlterSubscriptionStmt AlterSubscriptionStmt [many publication options; one; node; skip kind subname conninfo
        conninfo_location]
    DropSubscriptionStmt DropSubscriptionStmt [many; one; node; skip subname missing_ok behavior]
    CreateStatsStmt CreateStatsStmt [many defnames stat_types exprs relations; one; node; skip stxcomment
        transformed if_not_exists]
    AlterCollationStmt AlterCollationStmt [many collname; one; node; skip]
    CallStmt CallStmt [many outargs; one; node funccall: FuncCall, funcexpr: FuncExpr; skip]
    AlterStatsStmt AlterStatsStmt [many defnames; one stxstattarget; node; skip missing_ok]
    AExpr AExpr [many name; one lexpr rexpr; node; skip kind rexpr_list_start rexpr_list_end location]
    ColumnRef ColumnRef [many fields; one; node; skip location]
    ParamRef ParamRef [many; one; node; skip number location]
    AConst AConst [many; one; node; skip isnull location val]
    FuncCall FuncCall [many funcname args agg_order; one agg_filter; node over: WindowDef; skip agg_within_group
        agg_star agg_distinct func_variadic funcformat location]
    AStar AStar [many; one; node; skip]
    AIndices AIndices [many; one lidx uidx; node; skip is_slice]
    AIndirection AIndirection [many indirection; one arg; node; skip]
    AArrayExpr AArrayExpr [many elements; one; node; skip list_start list_end location]
    ResTarget ResTarget [many indirection; one val; node; skip name location]
    MultiAssignRef MultiAssignRef [many; one source; node; skip colno ncolumns]
    TypeCast TypeCast [many; one arg; node type_name: TypeName; skip location]
    CollateClause CollateClause [many collname; one arg; node; skip location]
    SortBy SortBy [many use_op; one node; node; skip sortby_dir sortby_nulls location]
    WindowDef WindowDef [many partition_clause order_clause; one start_offset end_offset; node; skip name
        refname frame_options location]
    RangeSubselect RangeSubselect [many; one subquery; node alias: Alias; skip lateral]
    RangeFunction RangeFunction [many functions coldeflist; one; node alias: Alias; skip lateral ordinality
        is_rowsfrom]
    RangeTableSample RangeTableSample [many method args; one relation repeatable; node; skip location]
    RangeTableFunc RangeTableFunc [many namespaces columns; one docexpr rowexpr; node alias: Alias; skip lateral
        location]
    RangeTableFuncCol RangeTableFuncCol [many; one colexpr coldefexpr; node type_name: TypeName; skip colname
        for_ordinality is_not_null location]
    TypeName TypeName [many names typmods array_bounds; one; node; skip type_oid setof pct_type typemod
        location]
    ColumnDef ColumnDef [many constraints fdwoptions; one raw_default cooked_default; node type_name: TypeName,
        identity_sequence: RangeVar, coll_clause: CollateClause; skip colname compression inhcount is_local
        is_not_null is_from_type storage storage_name identity generated coll_oid location]
    IndexElem IndexElem [many collation opclass opclassopts; one expr; node; skip name indexcolname ordering
        nulls_ordering]
    Constraint Constraint [many keys including exclusions options fk_attrs pk_attrs fk_del_set_cols
        old_conpfeqop; one raw_expr where_clause; node pktable: RangeVar; skip contype conname deferrable
        initdeferred is_enforced skip_validation initially_valid is_no_inherit cooked_expr generated_when
        generated_kind nulls_not_distinct without_overlaps indexname indexspace reset_default_tblspc
        access_method fk_with_period pk_with_period fk_matchtype fk_upd_action fk_del_action old_pktable_oid
        location]
    DefElem DefElem [many; one arg; node; skip defnamespace defname defaction location arg_location]
    GroupingSet GroupingSet [many content; one; node; skip kind location]
    ObjectWithArgs ObjectWithArgs [many objname objargs objfuncargs; one; node; skip args_unspecified]
    AccessPriv AccessPriv [many cols; one; node; skip priv_name]
    CreateOpClassItem CreateOpClassItem [many order_family class_args; one; node name: ObjectWithArgs,
        storedtype: TypeName; skip itemtype number]
    TableLikeClause TableLikeClause [many; one; node relation: RangeVar; skip options relation_oid]
    FunctionParameter FunctionParameter [many; one defexpr; node arg_type: TypeName; skip name mode location]
    LockingClause LockingClause [many locked_rels; one; node; skip strength wait_policy]
    XmlSerialize XmlSerialize [many; one expr; node type_name: TypeName; skip xmloption indent location]
    WithClause WithClause [many ctes; one; node; skip recursive location]
    InferClause InferClause [many index_elems; one where_clause; node; skip conname location]
    OnConflictClause OnConflictClause [many target_list; one where_clause; node infer: InferClause; skip action
        location]
    CommonTableExpr CommonTableExpr [many aliascolnames ctecolnames ctecoltypes ctecoltypmods ctecolcollations;
        one ctequery; node search_clause: CtesearchClause, cycle_clause: CtecycleClause; skip ctename
        ctematerialized location cterecursive cterefcount]
    RoleSpec RoleSpec [many; one; node; skip roletype rolename location]
    TriggerTransition TriggerTransition [many; one; node; skip name is_new is_table]
    PartitionElem PartitionElem [many collation opclass; one expr; node; skip name location]
    PartitionSpec PartitionSpec [many part_params; one; node; skip strategy location]
    PartitionBoundSpec PartitionBoundSpec [many listdatums lowerdatums upperdatums; one; node; skip strategy
        is_default modulus remainder location]
    PartitionRangeDatum PartitionRangeDatum [many; one value; node; skip kind location]
    PartitionCmd PartitionCmd [many; one; node name: RangeVar, bound: PartitionBoundSpec; skip concurrent]
    VacuumRelation VacuumRelation [many va_cols; one; node relation: RangeVar; skip oid]
    Integer Integer [many; one; node; skip ival]
    Float Float [many; one; node; skip fval]
    Boolean Boolean [many; one; node; skip boolval]
    String String [many; one; node; skip sval]
    BitString BitString [many; one; node; skip bsval]
    List List [many items; one; node; skip]
    MergeStmt MergeStmt [many merge_when_clauses; one source_relation join_condition; node relation: RangeVar,
        returning_clause: ReturningClause, with_clause: WithClause; skip]
    AlterDatabaseRefreshCollStmt AlterDatabaseRefreshCollStmt [many; one; node; skip dbname]
    ReturnStmt ReturnStmt [many; one returnval; node; skip]
    ReturningClause ReturningClause [many options exprs; one; node; skip]
    ReturningOption ReturningOption [many; one; node; skip option value location]
    StatsElem StatsElem [many; one expr; node; skip name]
    CtesearchClause CteSearchClause [many search_col_list; one; node; skip search_breadth_first
        search_seq_column location]
    CtecycleClause CteCycleClause [many cycle_col_list; one cycle_mark_value cycle_mark_default; node; skip
        cycle_mark_column cycle_path_column location cycle_mark_type cycle_mark_typmod cycle_mark_collation
        cycle_mark_neop]
    MergeWhenClause MergeWhenClause [many target_list values; one condition; node; skip match_kind command_type
        r#override]
    PublicationObjSpec PublicationObjSpec [many; one; node pubtable: PublicationTable; skip pubobjtype name
        location]
    PublicationTable PublicationTable [many columns; one where_clause; node relation: RangeVar; skip]
    JsonFormat JsonFormat [many; one; node; skip format_type encoding location]
    JsonReturning JsonReturning [many; one; node format: JsonFormat; skip typid typmod]
    JsonValueExpr JsonValueExpr [many; one raw_expr formatted_expr; node format: JsonFormat; skip]
    JsonIsPredicate JsonIsPredicate [many; one expr; node format: JsonFormat; skip item_type unique_keys
        location]
    JsonOutput JsonOutput [many; one; node type_name: TypeName, returning: JsonReturning; skip]
    JsonKeyValue JsonKeyValue [many; one key; node value: JsonValueExpr; skip]
    JsonObjectConstructor JsonObjectConstructor [many exprs; one; node output: JsonOutput; skip absent_on_null
        unique location]
    JsonArrayConstructor JsonArrayConstructor [many exprs; one; node output: JsonOutput; skip absent_on_null
        location]
    JsonArrayQueryConstructor JsonArrayQueryConstructor [many; one query; node output: JsonOutput, format:
        JsonFormat; skip absent_on_null location]
    JsonAggConstructor JsonAggConstructor [many agg_order; one agg_filter; node output: JsonOutput, over:
        WindowDef; skip location]
    JsonObjectAgg JsonObjectAgg [many; one; node constructor: JsonAggConstructor, arg: JsonKeyValue; skip
        absent_on_null unique]
    JsonArrayAgg JsonArrayAgg [many; one; node constructor: JsonAggConstructor, arg: JsonValueExpr; skip
        absent_on_null]
    MergeSupportFunc MergeSupportFunc [many; one xpr; node; skip msftype msfcollid location]
    JsonBehavior JsonBehavior [many; one expr; node; skip btype coerce location]
    JsonArgument JsonArgument [many; one; node val: JsonValueExpr; skip name]
    JsonFuncExpr JsonFuncExpr [many passing; one pathspec; node context_item: JsonValueExpr, output: JsonOutput,
        on_empty: JsonBehavior, on_error: JsonBehavior; skip op column_name wrapper quotes location]
    JsonTablePathSpec JsonTablePathSpec [many; one string; node; skip name name_location location]
    JsonTable JsonTable [many passing columns; one; node context_item: JsonValueExpr, pathspec:
        JsonTablePathSpec, on_error: JsonBehavior, alias: Alias; skip lateral location]
    JsonTableColumn JsonTableColumn [many columns; one; node type_name: TypeName, pathspec: JsonTablePathSpec,
        format: JsonFormat, on_empty: JsonBehavior, on_error: JsonBehavior; skip coltype name wrapper quotes
        location]
    JsonParseExpr JsonParseExpr [many; one; node expr: JsonValueExpr, output: JsonOutput; skip unique_keys
        location]
    JsonScalarExpr JsonScalarExpr [many; one expr; node output: JsonOutput; skip location]
    JsonSerializeExpr JsonSerializeExpr [many; one; node expr: JsonValueExpr, output: JsonOutput; skip location]
}
