//! Which functions and operators are harmless, and what the ones that are not do.
//!
//! `harmless.txt` holds the names of built-in functions of PostgreSQL (up to version 18) that neither change anything
//! nor reach files, the network, other sessions, session settings or SQL given as text. It was made from the server's own
//! catalog (functions marked immutable or stable, less the exceptions) and a short list of volatile functions that
//! only look. Whatever is on neither list can do anything.

use std::collections::HashSet;
use std::sync::LazyLock;

use chancery_model::Action;

/// What calling a function amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Only computes or looks.
    Harmless,
    /// Does what `actions` say, on the resource.
    Special {
        /// The actions that must be allowed.
        actions: &'static [Action],
        /// Whether its result can hold data that the statement does not name.
        opaque: bool,
    },
    /// `set_config()`.
    SetConfig,
    /// `nextval()` and `setval()`: writes the sequence that its first argument names.
    Sequence,
    /// Not on any list.
    Unlisted,
}

/// The class of an unqualified (or `pg_catalog`) function.
pub(crate) fn class(name: &str) -> Class {
    if HARMLESS.contains(name) {
        return Class::Harmless;
    }
    match name {
        "set_config" => return Class::SetConfig,
        "nextval" | "setval" => return Class::Sequence,
        _ => {}
    }
    SPECIAL
        .iter()
        .find(|group| group.names.contains(&name) || group.prefixes.iter().any(|p| name.starts_with(p)))
        .map_or(Class::Unlisted, |group| Class::Special { actions: group.actions, opaque: group.opaque })
}

/// Whether an operator symbol is one of the built-in ones.
pub(crate) fn is_builtin_operator(symbol: &str) -> bool {
    OPERATORS.binary_search(&symbol).is_ok()
}

/// Whether a function of `information_schema` is one that the server made there for its views. They read the system
/// catalogs and compute; drivers use some of them to read keys and indexes.
pub(crate) fn is_of_information_schema(name: &str) -> bool {
    INFORMATION_SCHEMA.binary_search(&name).is_ok()
}

/// Functions with the same consequences.
struct Group {
    /// Whole names.
    names: &'static [&'static str],
    /// Beginnings of names.
    prefixes: &'static [&'static str],
    /// What must be allowed.
    actions: &'static [Action],
    /// See [`Class::Special`].
    opaque: bool,
}

/// The first group that matches counts.
const SPECIAL: &[Group] = &[
    Group {
        names: &["lo_import", "lo_export"],
        prefixes: &["dblink", "postgres_fdw_", "pg_file_", "pg_read_", "pg_ls_", "pg_logical_slot_"],
        actions: &[Action::Administer, Action::Export],
        opaque: true,
    },
    Group {
        names: &["pg_stat_file", "pg_current_logfile", "pg_hba_file_rules", "pg_ident_file_mappings"],
        prefixes: &["pg_show_all_file_"],
        actions: &[Action::Administer],
        opaque: true,
    },
    Group { names: &["lo_get", "loread"], prefixes: &[], actions: &[Action::Export], opaque: true },
    // What stands behind system views that show values: texts of statements, settings, lock numbers, statistics.
    Group {
        names: &[
            "pg_cursor",
            "pg_lock_status",
            "pg_mcv_list_items",
            "pg_prepared_statement",
            "pg_prepared_xact",
            "pg_sequence_last_value",
            "pg_show_all_settings",
            "pg_stat_get_activity",
            "pg_stat_get_backend_activity",
        ],
        prefixes: &[],
        actions: &[Action::Read],
        opaque: true,
    },
    Group {
        names: &["lowrite", "setseed", "pg_export_snapshot", "pg_notify", "pg_logical_emit_message"],
        prefixes: &["lo_", "pg_advisory_", "pg_try_advisory_"],
        actions: &[Action::Write],
        opaque: false,
    },
    Group {
        names: &["gin_clean_pending_list", "pg_restore_relation_stats", "pg_restore_attribute_stats"],
        prefixes: &["brin_summarize_", "brin_desummarize_", "pg_clear_"],
        actions: &[Action::Define],
        opaque: false,
    },
    Group {
        names: &[
            "pg_cancel_backend",
            "pg_import_system_collations",
            "pg_log_backend_memory_contexts",
            "pg_log_standby_snapshot",
            "pg_nextoid",
            "pg_promote",
            "pg_reload_conf",
            "pg_stat_force_next_flush",
            "pg_stop_making_pinned_objects",
            "pg_sync_replication_slots",
            "pg_switch_wal",
            "pg_switch_xlog",
            "pg_terminate_backend",
        ],
        prefixes: &[
            "binary_upgrade_",
            "pg_backup_",
            "pg_copy_",
            "pg_create_",
            "pg_drop_",
            "pg_extension_config_",
            "pg_replication_",
            "pg_rotate_logfile",
            "pg_start_backup",
            "pg_stat_reset",
            "pg_stop_backup",
            "pg_wal_replay_",
        ],
        actions: &[Action::Administer],
        opaque: false,
    },
    Group {
        names: &["pg_sleep", "pg_sleep_for", "pg_sleep_until"],
        prefixes: &[],
        actions: &[Action::Execute],
        opaque: false,
    },
    Group {
        names: &["ts_stat", "ts_rewrite", "xpath_table"],
        prefixes: &[
            "query_to_xml",
            "table_to_xml",
            "schema_to_xml",
            "database_to_xml",
            "cursor_to_xml",
            "crosstab",
            "connectby",
        ],
        actions: &[Action::Execute],
        opaque: true,
    },
];

/// Functions that `initdb` creates in `information_schema`, sorted.
const INFORMATION_SCHEMA: &[&str] = &[
    "_pg_char_max_length",
    "_pg_char_octet_length",
    "_pg_datetime_precision",
    "_pg_expandarray",
    "_pg_index_position",
    "_pg_interval_type",
    "_pg_keysequal",
    "_pg_numeric_precision",
    "_pg_numeric_precision_radix",
    "_pg_numeric_scale",
    "_pg_truetypid",
    "_pg_truetypmod",
];

/// Symbols of the operators in `pg_catalog`, sorted.
const OPERATORS: &[&str] = &[
    "!!", "!=", "!~", "!~*", "!~~", "!~~*", "#", "##", "#-", "#>", "#>>", "%", "&", "&&", "&<", "&<|", "&>", "*", "*<",
    "*<=", "*<>", "*=", "*>", "*>=", "+", "-", "->", "->>", "-|-", "/", "<", "<->", "<<", "<<=", "<<|", "<=", "<>",
    "<@", "<^", "=", ">", ">=", ">>", ">>=", ">^", "?", "?#", "?&", "?-", "?-|", "?|", "?||", "@", "@-@", "@>", "@?",
    "@@", "@@@", "^", "^@", "|", "|&>", "|/", "|>>", "||", "||/", "~", "~*", "~<=~", "~<~", "~=", "~>=~", "~>~", "~~",
    "~~*",
];

/// Names of harmless functions, one a line, sorted.
static HARMLESS: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("harmless.txt").lines().collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        assert!(include_str!("harmless.txt").lines().is_sorted());
        assert!(OPERATORS.is_sorted() && INFORMATION_SCHEMA.is_sorted());
    }

    #[test]
    fn no_function_with_consequences_is_called_harmless() {
        for group in SPECIAL {
            for name in group.names {
                assert!(!HARMLESS.contains(name), "{name}");
            }
        }
        assert_eq!(class("my_function"), Class::Unlisted);
        assert_eq!(class("pg_get_expr"), Class::Harmless);
    }
}
