//! Ways in which a statement can try to carry a tagged value to its client. Each must leak on a direct connection, or it
//! would show nothing here; those marked quiet are there because they must not break.

/// A way out.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// One statement is asked in every way of the protocol; several are asked in order, the last one in every way.
    pub(crate) statements: &'static [&'static str],
    /// It gives nothing away on a direct connection either.
    pub(crate) quiet: bool,
}

const fn leaks(name: &'static str, statements: &'static [&'static str]) -> Shape {
    Shape { name, statements, quiet: false }
}

const fn quiet(name: &'static str, statements: &'static [&'static str]) -> Shape {
    Shape { name, statements, quiet: true }
}

/// Values as they are, under other names and through other relations.
pub(crate) const PLAIN: &[Shape] = &[
    leaks("star", &["SELECT * FROM person"]),
    leaks("column", &["SELECT id, ssn FROM person"]),
    leaks("alias", &["SELECT ssn AS city FROM person"]),
    leaks("table alias", &["SELECT p.ssn FROM public.person AS p"]),
    leaks("column aliases", &["SELECT a, d FROM person AS p (a, b, c, d, e)"]),
    leaks("quoted and case folded", &["SELECT \"ssn\", EMAIL, \"note\" AS \"ＳＳＮ\" FROM PERSON"]),
    leaks("unicode name", &["SELECT U&\"\\0073sn\" FROM U&\"pers\\006fn\""]),
    leaks("no-op cast", &["SELECT ssn::text FROM person"]),
    leaks("parentheses", &["SELECT (p).ssn, (p).card FROM person p"]),
    leaks("numeric date jsonb", &["SELECT born, salary, data FROM person"]),
    leaks("group by", &["SELECT ssn FROM person GROUP BY ssn"]),
    leaks("distinct", &["SELECT DISTINCT ssn FROM person"]),
    leaks("distinct on", &["SELECT DISTINCT ON (id) ssn, id FROM person"]),
    leaks("order limit", &["SELECT ssn FROM person ORDER BY ssn DESC LIMIT 2"]),
    leaks("fetch first", &["SELECT ssn FROM person ORDER BY id FETCH FIRST 3 ROWS ONLY"]),
    leaks("subquery", &["SELECT x FROM (SELECT ssn AS x FROM person) s"]),
    leaks(
        "subquery three deep",
        &["SELECT z FROM (SELECT y AS z FROM (SELECT x AS y FROM (SELECT ssn AS x FROM person) a) b) c"],
    ),
    leaks("lateral", &["SELECT l.x FROM orders o, LATERAL (SELECT ssn AS x FROM person p WHERE p.id = o.person) l"]),
    leaks("cte", &["WITH c AS (SELECT ssn AS x FROM person) SELECT x FROM c"]),
    leaks("cte materialized", &["WITH orders AS MATERIALIZED (SELECT ssn FROM person) SELECT * FROM orders"]),
    leaks(
        "cte named as the table",
        &["WITH person AS (SELECT ssn AS city FROM public.person) SELECT city FROM person"],
    ),
    leaks(
        "recursive cte",
        &[
            "WITH RECURSIVE r (n, s) AS (SELECT 101, ssn FROM person WHERE id = 101 UNION ALL SELECT n + 1, p.ssn FROM r JOIN person p ON p.id = n + 1) SELECT s FROM r",
        ],
    ),
    leaks("join", &["SELECT o.id, p.card FROM orders o JOIN person p ON p.id = o.person"]),
    leaks("full join using", &["SELECT ssn FROM person FULL JOIN parted USING (ssn)"]),
    leaks("natural join", &["SELECT * FROM person NATURAL JOIN parted"]),
    leaks("left join", &["SELECT p.note FROM orders o LEFT JOIN person p ON p.id = o.person"]),
    leaks("whole row", &["SELECT p FROM person p"]),
    leaks("whole row of a subquery", &["SELECT s FROM (SELECT id, ssn FROM person) s"]),
    leaks("table command", &["TABLE person"]),
    leaks("only", &["SELECT email FROM ONLY person"]),
    leaks("tablesample", &["SELECT ssn FROM person TABLESAMPLE system (100)"]),
    leaks("for update", &["SELECT ssn FROM person FOR UPDATE"]),
    leaks("view", &["SELECT * FROM person_view"]),
    leaks("view on view", &["SELECT b, c, d FROM person_view2"]),
    leaks("materialised view", &["SELECT * FROM person_mat"]),
    leaks("view with a function", &["SELECT x FROM function_view"]),
    leaks("generated column", &["SELECT ssn_tail FROM person"]),
    leaks("partitioned table", &["SELECT * FROM parted"]),
    leaks("partition", &["SELECT card FROM parted_low"]),
    leaks("child", &["SELECT * FROM employee"]),
    leaks("ctid scan", &["SELECT ctid, ssn FROM person WHERE ctid = '(0,1)'"]),
    leaks("system column and row", &["SELECT tableoid::regclass, xmin, p.* FROM person p"]),
    leaks("multi-statement", &["SELECT 1; SELECT ssn FROM person; SELECT 2"]),
];

/// Values made into others.
pub(crate) const DERIVED: &[Shape] = &[
    leaks("upper", &["SELECT upper(email), upper(note) FROM person"]),
    leaks("concat", &["SELECT ssn || '', concat(email, '!'), format('%s', note) FROM person"]),
    leaks(
        "substring",
        &["SELECT substr(ssn, 1, 6), left(card, 8), right(card, 8), substring(email from 1 for 12) FROM person"],
    ),
    leaks("one character a column", &["SELECT ssn || chr(10), string_to_array(ssn, '-') FROM person"]),
    leaks("reverse", &["SELECT reverse(ssn), reverse(email) FROM person"]),
    leaks("replace", &["SELECT replace(ssn, '-', ''), translate(ssn, '-', '') FROM person"]),
    leaks(
        "overlay and pad",
        &["SELECT overlay(ssn placing '' from 1 for 0), lpad(card, 40, '*'), repeat(ssn, 2) FROM person"],
    ),
    leaks("regexp", &["SELECT regexp_replace(ssn, '(.*)', '<\\1>'), (regexp_match(card, '.*'))[1] FROM person"]),
    leaks("regexp_split", &["SELECT regexp_split_to_table(note, ' ') || ssn FROM person"]),
    leaks("hex", &["SELECT encode(ssn::bytea, 'hex') FROM person"]),
    leaks(
        "base64",
        &[
            "SELECT encode(email::bytea, 'base64'), encode(('x' || email)::bytea, 'base64'), encode(('xx' || ssn)::bytea, 'base64') FROM person",
        ],
    ),
    leaks(
        "escape and bytea",
        &["SELECT ssn::bytea, encode(card::bytea, 'escape'), convert_to(email, 'UTF8') FROM person"],
    ),
    leaks("md5", &["SELECT md5(ssn) FROM person"]),
    leaks("sha256", &["SELECT sha256(ssn::bytea), encode(sha256(email::bytea), 'hex') FROM person"]),
    leaks(
        "rot13",
        &["SELECT translate(email, 'abcdefghijklmnopqrstuvwxyz', 'nopqrstuvwxyzabcdefghijklm') FROM person"],
    ),
    leaks(
        "character codes",
        &[
            "SELECT string_agg(ascii(c)::text, ',' ORDER BY n) FROM person, regexp_split_to_table(ssn, '') WITH ORDINALITY AS t (c, n) GROUP BY id",
        ],
    ),
    leaks("cast to varchar", &["SELECT ssn::varchar, ssn::varchar(20), card::char(16), ssn::name FROM person"]),
    leaks("cast to a number", &["SELECT card::bigint, card::numeric, replace(ssn, '-', '')::int FROM person"]),
    leaks("arithmetic", &["SELECT salary + 0, salary * 1.00, -salary, abs(-salary) FROM person"]),
    leaks("cast of a date", &["SELECT born::text, born::timestamp, to_char(born, 'YYYY-MM-DD'), born + 0 FROM person"]),
    leaks("numeric to text", &["SELECT salary::text, to_char(salary, 'FM9999999.00'), salary::float8 FROM person"]),
    leaks("collate", &["SELECT ssn COLLATE \"C\" FROM person"]),
    leaks("coalesce", &["SELECT coalesce(ssn, ''), nullif(ssn, ''), greatest(ssn, ''), least(ssn, 'zzz') FROM person"]),
    leaks("case", &["SELECT CASE WHEN id > 0 THEN ssn ELSE 'none' END FROM person"]),
    leaks("min max", &["SELECT min(ssn), max(email), min(born), max(salary), sum(salary) FROM person WHERE id = 101"]),
    leaks("string_agg", &["SELECT string_agg(ssn, ',') FROM person"]),
    leaks("array_agg", &["SELECT array_agg(ssn), array_agg(p) FROM person p"]),
    leaks("array", &["SELECT ARRAY[ssn, email], ARRAY(SELECT card FROM person) FROM person"]),
    leaks("row", &["SELECT ROW(ssn, email), ROW(p.*) FROM person p"]),
    leaks("row text", &["SELECT p::text FROM person p"]),
    leaks("row_to_json", &["SELECT row_to_json(p) FROM person p"]),
    leaks("to_jsonb", &["SELECT to_jsonb(p), to_json(p.ssn) FROM person p"]),
    leaks(
        "json build",
        &[
            "SELECT json_build_object('x', ssn), jsonb_build_array(email), json_agg(p) FROM person p GROUP BY ssn, email",
        ],
    ),
    leaks("json_object_agg", &["SELECT json_object_agg(ssn, email) FROM person"]),
    leaks("json path", &["SELECT data ->> 'secret', data -> 'phones', jsonb_path_query(data, '$.**') FROM person"]),
    leaks("json each", &["SELECT e.* FROM person, jsonb_each_text(data) e"]),
    leaks("xml", &["SELECT xmlelement(name x, ssn), xmlforest(email AS e) FROM person"]),
    leaks("query_to_xml", &["SELECT query_to_xml('SELECT * FROM person', true, false, '')"]),
    leaks("table_to_xml", &["SELECT table_to_xml('person', true, false, '')"]),
    leaks("union", &["SELECT city FROM person UNION ALL SELECT ssn FROM person"]),
    leaks("union with another table", &["SELECT word FROM words UNION SELECT ssn FROM person"]),
    leaks("intersect", &["SELECT ssn FROM person INTERSECT SELECT ssn FROM parted"]),
    leaks("except", &["SELECT ssn FROM person EXCEPT SELECT word FROM words"]),
    leaks("window", &["SELECT lag(ssn) OVER (ORDER BY id), first_value(email) OVER (ORDER BY id) FROM person"]),
    leaks("window string_agg", &["SELECT string_agg(ssn, '+') OVER (ORDER BY id) FROM person"]),
    leaks("scalar subquery", &["SELECT (SELECT ssn FROM person WHERE id = o.person) FROM orders o"]),
    leaks("subquery over nothing", &["SELECT (SELECT min(ssn) FROM person)"]),
    leaks("values", &["VALUES ((SELECT min(ssn) FROM person)), ('x')"]),
    leaks("unnest", &["SELECT unnest(ARRAY[ssn, card]) FROM person"]),
    leaks("tsvector", &["SELECT to_tsvector('simple', note), to_tsvector('simple', card) FROM person"]),
    leaks("range", &["SELECT daterange(born, NULL), numrange(salary, NULL), textsend(ssn) FROM person"]),
    leaks("quote and format", &["SELECT quote_literal(ssn), quote_ident(email), format('%L', card) FROM person"]),
    leaks("split_part", &["SELECT split_part(email, '@', 1) || '@' || split_part(email, '@', 2) FROM person"]),
    leaks(
        "mode",
        &["SELECT mode() WITHIN GROUP (ORDER BY ssn), percentile_disc(0.5) WITHIN GROUP (ORDER BY salary) FROM person"],
    ),
    leaks("user function", &["SELECT reads_ssn(101)"]),
    leaks("user function over a table", &["SELECT reads_ssn(person) FROM orders"]),
    leaks("set-returning function", &["SELECT * FROM all_of_them()"]),
    leaks("function of set in the list", &["SELECT all_of_them()"]),
    leaks("function as a field", &["SELECT o.first_ssn FROM orders o"]),
    leaks("grouping sets", &["SELECT ssn, count(*) FROM person GROUP BY GROUPING SETS ((ssn), ())"]),
    leaks("count and value", &["SELECT count(*), min(ssn) FROM person"]),
    leaks("count beside its like", &["SELECT count(*) + min(card)::bigint FROM person"]),
    leaks("sum of bigint", &["SELECT max(card::bigint), min(card::bigint) FROM person"]),
    leaks("inet and others", &["SELECT xmlcomment(note), convert(ssn::bytea, 'UTF8', 'LATIN1') FROM person"]),
    leaks(
        "large object",
        &["SELECT lo_from_bytea(777001, convert_to((SELECT min(ssn) FROM person), 'UTF8'))", "SELECT lo_get(777001)"],
    ),
    leaks(
        "sequence value",
        &[
            "CREATE SEQUENCE carrier",
            "SELECT setval('carrier', (SELECT min(card)::bigint FROM person))",
            "SELECT last_value FROM carrier",
        ],
    ),
    leaks(
        "sequence value by currval",
        &[
            "CREATE SEQUENCE carrier2",
            "SELECT setval('carrier2', (SELECT min(card)::bigint FROM person))",
            "SELECT nextval('carrier2') - 1, currval('carrier2') - 1, lastval() - 1",
        ],
    ),
    leaks(
        "advisory lock number",
        &[
            "SELECT pg_advisory_lock((SELECT min(replace(ssn, '-', ''))::int FROM person))",
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory'",
        ],
    ),
];

/// Other exits than rows of a query.
pub(crate) const EXITS: &[Shape] = &[
    leaks("copy table", &["COPY person TO STDOUT"]),
    leaks("copy columns", &["COPY person (id, ssn, born) TO STDOUT"]),
    leaks("copy binary", &["COPY person TO STDOUT (FORMAT binary)"]),
    leaks("copy csv", &["COPY person TO STDOUT (FORMAT csv, HEADER)"]),
    leaks("copy csv of some", &["COPY person (ssn) TO STDOUT (FORMAT csv)"]),
    leaks("copy with a delimiter", &["COPY person TO STDOUT (DELIMITER '|')"]),
    leaks("copy old spelling", &["COPY person TO STDOUT WITH CSV"]),
    leaks("copy query", &["COPY (SELECT ssn FROM person) TO STDOUT"]),
    leaks("copy query binary", &["COPY (SELECT born, salary, ssn FROM person) TO STDOUT (FORMAT binary)"]),
    leaks("copy query csv", &["COPY (SELECT ssn FROM person) TO STDOUT (FORMAT csv)"]),
    leaks("copy view", &["COPY (TABLE person_view2) TO STDOUT"]),
    leaks("copy partition", &["COPY parted_low TO STDOUT"]),
    leaks("copy materialised view", &["COPY (SELECT * FROM person_mat) TO STDOUT"]),
    leaks("copy returning", &["COPY (UPDATE person SET city = city RETURNING ssn) TO STDOUT"]),
    leaks("copy user function", &["COPY (SELECT reads_ssn(101)) TO STDOUT"]),
    leaks("two copies", &["COPY words TO STDOUT; COPY person TO STDOUT"]),
    leaks(
        "copy to a file and back",
        &["COPY person (ssn) TO '/tmp/chancery-leak-copy'", "SELECT pg_read_file('/tmp/chancery-leak-copy')"],
    ),
    leaks(
        "copy by file into a table",
        &[
            "COPY person (id, ssn) TO '/tmp/chancery-leak-hop'",
            "CREATE TABLE by_file (n int, v text)",
            "COPY by_file FROM '/tmp/chancery-leak-hop'",
            "SELECT n, v FROM by_file",
        ],
    ),
    leaks(
        "copy by program",
        &[
            "CREATE TABLE by_program (v text)",
            "COPY person (ssn) TO PROGRAM 'cat > /tmp/chancery-leak-program'",
            "COPY by_program FROM PROGRAM 'cat /tmp/chancery-leak-program'",
            "SELECT v FROM by_program",
        ],
    ),
    leaks("cursor", &["BEGIN", "DECLARE c CURSOR FOR SELECT ssn FROM person", "FETCH 2 FROM c", "FETCH ALL FROM c"]),
    leaks(
        "cursor of an expression",
        &[
            "BEGIN",
            "DECLARE c CURSOR WITH HOLD FOR SELECT upper(ssn) || card FROM person",
            "COMMIT",
            "FETCH 3 FROM c",
            "FETCH ALL FROM c",
        ],
    ),
    leaks(
        "scroll cursor",
        &[
            "BEGIN",
            "DECLARE c SCROLL CURSOR FOR SELECT email FROM person",
            "FETCH LAST FROM c",
            "FETCH BACKWARD ALL FROM c",
        ],
    ),
    leaks("execute", &["PREPARE q AS SELECT ssn FROM person", "EXECUTE q"]),
    leaks(
        "execute with parameters",
        &["PREPARE q (int) AS SELECT ssn || '' FROM person WHERE id = $1", "EXECUTE q (102)"],
    ),
    leaks(
        "execute as",
        &[
            "PREPARE q AS SELECT ssn AS x, lower(card) FROM person",
            "CREATE TEMP TABLE of_execute AS EXECUTE q",
            "SELECT * FROM of_execute",
        ],
    ),
    leaks(
        "explain of an execute",
        &["PREPARE q AS SELECT id FROM person WHERE reads_fixed(101) = ssn", "EXPLAIN EXECUTE q"],
    ),
    leaks(
        "execute of a name given twice",
        &[
            "PREPARE q AS SELECT item FROM orders",
            "DEALLOCATE q",
            "PREPARE q AS SELECT upper(ssn) || '' FROM person",
            "EXECUTE q",
        ],
    ),
    leaks(
        "execute of a name that cannot be given twice",
        &["PREPARE q AS SELECT upper(ssn) FROM person", "PREPARE q AS SELECT upper(item) FROM orders", "EXECUTE q"],
    ),
    leaks(
        "execute of a name given before a rollback",
        &[
            "PREPARE q AS SELECT upper(item) FROM orders",
            "BEGIN",
            "DEALLOCATE q",
            "PREPARE q AS SELECT upper(ssn) FROM person",
            "ROLLBACK",
            "EXECUTE q",
        ],
    ),
    leaks(
        "execute of a name given in the same text",
        &[
            "PREPARE q AS SELECT upper(item) FROM orders",
            "DEALLOCATE q; PREPARE q AS SELECT upper(ssn) FROM person; EXECUTE q; DISCARD ALL",
        ],
    ),
    leaks(
        "execute after discard",
        &[
            "PREPARE q AS SELECT upper(item) FROM orders",
            "DISCARD ALL",
            "PREPARE q AS SELECT upper(ssn) FROM person",
            "EXECUTE q",
        ],
    ),
    leaks(
        "execute after code gave the name",
        &[
            "PREPARE q AS SELECT upper(item) FROM orders",
            "DO $$ BEGIN EXECUTE 'DEALLOCATE q'; EXECUTE 'PREPARE q AS SELECT upper(ssn) FROM person'; END $$",
            "EXECUTE q",
        ],
    ),
    leaks(
        "execute after a function gave the name",
        &["PREPARE q AS SELECT upper(item) FROM orders", "SELECT renames_q()", "EXECUTE q"],
    ),
    leaks(
        "execute of long names",
        &[
            "PREPARE qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq_safe AS SELECT upper(ssn) FROM person",
            "PREPARE qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq AS SELECT upper(item) FROM orders",
            "EXECUTE qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq_other",
        ],
    ),
    leaks(
        "execute on another search path",
        &[
            "CREATE TABLE public.searched AS SELECT id, 'none'::text AS ssn FROM orders",
            "PREPARE q AS SELECT upper(ssn) FROM searched",
            "SET search_path = v, public",
            "EXECUTE q",
        ],
    ),
    leaks(
        "execute of a view that was replaced",
        &[
            "CREATE VIEW of_late AS SELECT item AS x FROM orders",
            "PREPARE q AS SELECT upper(x) FROM of_late",
            "CREATE OR REPLACE VIEW of_late AS SELECT ssn AS x FROM person",
            "EXECUTE q",
        ],
    ),
    leaks(
        "execute of a table filled later",
        &[
            "CREATE TABLE of_later (x text)",
            "PREPARE q AS SELECT upper(x) FROM of_later",
            "INSERT INTO of_later SELECT ssn FROM person",
            "EXECUTE q",
        ],
    ),
    leaks(
        "explain",
        &[
            "EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM person WHERE ssn = (SELECT min(ssn) FROM person) AND reads_ssn(101) = reads_ssn(id)",
            "EXPLAIN (VERBOSE, COSTS OFF) SELECT word FROM words WHERE word = reads_fixed(101)",
        ],
    ),
    quiet("explain statistics", &["ANALYZE person", "EXPLAIN (VERBOSE) SELECT * FROM person WHERE ssn > '5'"]),
    leaks("error of a cast", &["SELECT ssn::int FROM person"]),
    leaks("error of a date", &["SELECT note::date FROM person"]),
    leaks("error of json", &["SELECT (data ->> 'secret')::json FROM person"]),
    leaks("error of an enum", &["SELECT ssn::regclass FROM person"]),
    leaks("error in a condition", &["SELECT 1 FROM person WHERE email::int > 0"]),
    leaks("error of an insert", &["INSERT INTO sink_a SELECT ssn::int, '' FROM person"]),
    leaks("error of a function", &["SELECT fails()"]),
    leaks("error of a constraint", &["INSERT INTO person (id, name, ssn) SELECT id + 5000, name, ssn FROM person"]),
    leaks("error of an update", &["UPDATE person SET ssn = (SELECT min(ssn) FROM person)"]),
    leaks(
        "error of a not null",
        &["INSERT INTO person (id, name, ssn) SELECT id + 5000, NULL, ssn || 'x' FROM person"],
    ),
    leaks(
        "error of a domain",
        &[
            "CREATE DOMAIN tiny AS text CHECK (VALUE = '')",
            "CREATE TABLE tinies (t tiny, v text, CHECK (v = ''))",
            "INSERT INTO tinies SELECT '', ssn FROM person",
        ],
    ),
    leaks(
        "error of an index",
        &[
            "CREATE UNIQUE INDEX ON person ((left(ssn, 0)), (ssn IS NULL))",
            "CREATE TABLE pair AS SELECT ssn FROM person UNION ALL SELECT ssn FROM person",
            "CREATE UNIQUE INDEX ON pair (ssn)",
        ],
    ),
    leaks(
        "error of a foreign key",
        &[
            "CREATE TABLE pointing (s text)",
            "INSERT INTO pointing SELECT ssn || '!' FROM person",
            "ALTER TABLE pointing ADD FOREIGN KEY (s) REFERENCES person (ssn)",
        ],
    ),
    leaks("error of a column type", &["ALTER TABLE v.typed ALTER COLUMN ssn TYPE int USING ssn::int"]),
    leaks("notice of a function", &["SELECT shouts()"]),
    leaks(
        "notice of do",
        &[
            "DO $$ DECLARE r record; BEGIN FOR r IN SELECT ssn FROM person LOOP RAISE NOTICE '%', r.ssn; END LOOP; END $$",
        ],
    ),
    leaks(
        "error of do",
        &[
            "DO $$ BEGIN RAISE EXCEPTION USING MESSAGE = (SELECT min(ssn) FROM person), ERRCODE = '28419', HINT = (SELECT min(email) FROM person), TABLE = (SELECT min(card) FROM person); END $$",
        ],
    ),
    leaks("notice of call", &["CALL tells()"]),
    leaks("result of call", &["CALL gives('')"]),
    leaks("notify", &["LISTEN news", "SELECT pg_notify('news', (SELECT min(ssn) FROM person))"]),
    leaks(
        "notify a channel",
        &[
            "SELECT pg_notify('x' || (SELECT min(note) FROM person), '')",
            "LISTEN \"x\"",
            "DO $$ BEGIN EXECUTE format('LISTEN %I', (SELECT 'x' || min(note) FROM person)); END $$",
            "SELECT pg_notify('x' || (SELECT min(note) FROM person), '')",
        ],
    ),
    leaks("parameter status", &["SELECT set_config('application_name', (SELECT min(ssn) FROM person), false)"]),
    leaks(
        "parameter status of another",
        &[
            "SELECT set_config('TimeZone', '<' || (SELECT min(replace(ssn, '-', '')) FROM person) || '>0', false)",
            "SHOW TimeZone",
        ],
    ),
    leaks("show", &["SELECT set_config('my.var', (SELECT min(ssn) FROM person), false) IS NULL", "SHOW my.var"]),
    leaks(
        "current_setting",
        &[
            "SELECT set_config('my.other', (SELECT min(ssn) FROM person), false) IS NULL",
            "SELECT current_setting('my.other')",
        ],
    ),
    leaks(
        "pg_settings",
        &[
            "SELECT set_config('application_name', (SELECT min(ssn) FROM person), false) IS NULL",
            "SELECT setting, reset_val FROM pg_settings WHERE name = 'application_name'",
        ],
    ),
    leaks(
        "do sets a variable",
        &["DO $$ BEGIN PERFORM set_config('my.made', (SELECT min(ssn) FROM person), false); END $$", "SHOW my.made"],
    ),
    leaks(
        "do sets application_name",
        &[
            "DO $$ BEGIN PERFORM set_config('application_name', (SELECT min(ssn) FROM person), false); END $$",
            "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        ],
    ),
    leaks("pg_stats", &["ANALYZE person", "SELECT * FROM pg_stats WHERE tablename = 'person'"]),
    leaks(
        "pg_statistic",
        &[
            "ANALYZE person",
            "SELECT stavalues1, stavalues2, stavalues3 FROM pg_statistic WHERE starelid = 'person'::regclass",
        ],
    ),
    leaks(
        "pg_stats as text",
        &[
            "ANALYZE person",
            "SELECT histogram_bounds::text || most_common_vals::text FROM pg_stats WHERE tablename = 'person' AND attname IN ('ssn', 'card')",
            "SELECT array_to_string(histogram_bounds::text::text[], '/') FROM pg_stats WHERE attname = 'ssn'",
        ],
    ),
    leaks("insert returning", &["INSERT INTO sink_b SELECT 1, ssn FROM person RETURNING value"]),
    leaks("update returning", &["UPDATE person SET city = city RETURNING ssn, upper(email)"]),
    leaks("delete returning", &["BEGIN", "DELETE FROM v.deleted RETURNING *"]),
    leaks(
        "merge",
        &[
            "MERGE INTO sink_c s USING person p ON s.value = p.ssn WHEN NOT MATCHED THEN INSERT VALUES (9, p.ssn)",
            "SELECT value FROM sink_c",
        ],
    ),
    leaks("data-modifying cte", &["WITH u AS (UPDATE person SET city = city RETURNING ssn AS x) SELECT x FROM u"]),
    leaks(
        "cte moves",
        &[
            "CREATE TABLE moved (x text)",
            "WITH u AS (INSERT INTO moved SELECT ssn FROM person RETURNING x) SELECT x FROM u",
            "SELECT x FROM moved",
        ],
    ),
    leaks(
        "server log settings",
        &["SET log_statement = 'all'", "SET client_min_messages = debug5", "SELECT ssn FROM person"],
    ),
    leaks(
        "debug output",
        &[
            "SET debug_print_parse = on",
            "SET client_min_messages = log",
            "SELECT id FROM person WHERE ssn = (SELECT min(ssn) FROM person)",
            "SELECT max(ssn) FROM person",
        ],
    ),
    leaks("backend messages of a bad cursor", &["SELECT ssn FROM person WHERE id = 101 AND ssn::int = 1"]),
];

/// Values put where no rule tags them, to be read later.
pub(crate) const HOPS: &[Shape] = &[
    leaks(
        "create table as",
        &["CREATE TABLE hop_ctas AS SELECT id, ssn AS x FROM person", "SELECT id, x FROM hop_ctas"],
    ),
    leaks(
        "create table as, transaction",
        &["BEGIN", "CREATE TABLE hop_ctas2 AS SELECT ssn AS x FROM person", "SELECT x FROM hop_ctas2"],
    ),
    leaks(
        "create table as, one message",
        &["CREATE TABLE hop_ctas3 AS SELECT ssn AS x FROM person; SELECT x FROM hop_ctas3"],
    ),
    leaks(
        "second hop",
        &[
            "CREATE TABLE hop_one AS SELECT ssn AS x FROM person",
            "CREATE TABLE hop_two AS SELECT x AS y FROM hop_one",
            "SELECT y FROM hop_two",
        ],
    ),
    leaks(
        "second hop, transaction",
        &[
            "BEGIN",
            "CREATE TABLE hop_three AS SELECT ssn AS x FROM person",
            "CREATE TABLE hop_four AS SELECT x AS y FROM hop_three",
            "COMMIT",
            "SELECT y FROM hop_four",
        ],
    ),
    leaks(
        "second hop, one message",
        &[
            "CREATE TABLE hop_five AS SELECT ssn AS x FROM person; CREATE TABLE hop_six AS SELECT x AS y FROM hop_five",
            "SELECT y FROM hop_six",
        ],
    ),
    leaks("select into", &["SELECT ssn AS x INTO hop_into FROM person", "SELECT x FROM hop_into"]),
    leaks("temp table", &["CREATE TEMP TABLE hop_temp AS SELECT ssn AS x FROM person", "SELECT x FROM hop_temp"]),
    leaks(
        "temp table with the name of another",
        &[
            "CREATE TEMP TABLE shadow (id int, word text)",
            "INSERT INTO shadow SELECT id, ssn FROM person",
            "SELECT word FROM shadow",
        ],
    ),
    leaks(
        "insert select",
        &[
            "CREATE TABLE hop_insert (x text)",
            "INSERT INTO hop_insert SELECT ssn FROM person",
            "SELECT x FROM hop_insert",
        ],
    ),
    leaks(
        "insert select, transaction",
        &[
            "CREATE TABLE hop_insert2 (x text)",
            "BEGIN",
            "INSERT INTO hop_insert2 SELECT ssn FROM person",
            "SELECT x FROM hop_insert2",
        ],
    ),
    leaks(
        "insert subquery",
        &[
            "CREATE TABLE hop_insert3 (x text)",
            "INSERT INTO hop_insert3 VALUES ((SELECT max(ssn) FROM person))",
            "SELECT x FROM hop_insert3",
        ],
    ),
    leaks(
        "insert from a function",
        &[
            "CREATE TABLE hop_insert4 (x text)",
            "INSERT INTO hop_insert4 SELECT reads_ssn(101)",
            "SELECT x FROM hop_insert4",
        ],
    ),
    leaks(
        "insert from statistics",
        &[
            "ANALYZE person",
            "CREATE TABLE hop_stats AS SELECT histogram_bounds::text AS x FROM pg_stats WHERE attname = 'ssn'",
            "SELECT x FROM hop_stats",
        ],
    ),
    leaks(
        "insert by execute",
        &[
            "CREATE TABLE hop_exec (x text)",
            "PREPARE ins AS INSERT INTO hop_exec SELECT ssn FROM person",
            "EXECUTE ins",
            "SELECT x FROM hop_exec",
        ],
    ),
    leaks(
        "update from",
        &[
            "CREATE TABLE hop_update (id int, x text)",
            "INSERT INTO hop_update VALUES (101, '')",
            "UPDATE hop_update h SET x = p.ssn FROM person p WHERE p.id = h.id",
            "SELECT x FROM hop_update",
        ],
    ),
    leaks(
        "on conflict",
        &[
            "CREATE TABLE hop_conflict (id int PRIMARY KEY, x text)",
            "INSERT INTO hop_conflict VALUES (1, '')",
            "INSERT INTO hop_conflict VALUES (1, 'y') ON CONFLICT (id) DO UPDATE SET x = (SELECT min(ssn) FROM person)",
            "SELECT x FROM hop_conflict",
        ],
    ),
    leaks("update within the table", &["BEGIN", "UPDATE v.moved_a SET city = ssn", "SELECT city FROM v.moved_a"]),
    leaks("update within the table, committed", &["UPDATE v.moved_b SET city = ssn", "SELECT city FROM v.moved_b"]),
    leaks(
        "update within the table by a row",
        &["UPDATE v.moved_c SET (city, id) = (SELECT ssn, id)", "SELECT city FROM v.moved_c"],
    ),
    leaks(
        "update within the table by its other name",
        &["UPDATE v.moved_d AS a SET city = upper(a.ssn) || 'x'", "SELECT city FROM v.moved_d"],
    ),
    leaks(
        "insert within the table",
        &["INSERT INTO v.moved_e (id, city) SELECT id + 50, ssn FROM v.moved_e", "SELECT city FROM v.moved_e"],
    ),
    leaks(
        "on conflict within the table",
        &[
            "INSERT INTO v.moved_f (id) VALUES (102) ON CONFLICT (id) DO UPDATE SET city = moved_f.ssn",
            "SELECT city FROM v.moved_f",
        ],
    ),
    leaks(
        "merge within the table",
        &[
            "MERGE INTO v.moved_g t USING v.moved_g s ON t.id = s.id WHEN MATCHED THEN UPDATE SET city = s.ssn",
            "SELECT city FROM v.moved_g",
        ],
    ),
    leaks(
        "swap of columns",
        &[
            "ALTER TABLE v.swapped RENAME COLUMN ssn TO x",
            "ALTER TABLE v.swapped RENAME COLUMN city TO ssn",
            "SELECT x FROM v.swapped",
        ],
    ),
    leaks(
        "swap of tables",
        &[
            "ALTER TABLE v.tables RENAME TO tables_old",
            "CREATE TABLE v.tables (id int)",
            "SELECT ssn AS x, upper(city || ssn) FROM v.tables_old",
        ],
    ),
    leaks(
        "out of the schema",
        &[
            "ALTER TABLE v.left_it RENAME COLUMN ssn TO y",
            "ALTER TABLE v.left_it SET SCHEMA public",
            "ALTER TABLE left_it RENAME TO elsewhere",
            "SELECT y FROM elsewhere",
        ],
    ),
    leaks(
        "last value of a sequence",
        &[
            "CREATE SEQUENCE hop_last",
            "SELECT setval('hop_last', (SELECT min(card)::bigint FROM person)) IS NULL",
            "SELECT nextval('hop_last') IS NULL",
            "SELECT lastval() - 1",
        ],
    ),
    leaks(
        "list of sequences",
        &[
            "CREATE SEQUENCE hop_list",
            "SELECT setval('hop_list', (SELECT min(card)::bigint FROM person)) IS NULL",
            "SELECT last_value FROM pg_sequences WHERE sequencename = 'hop_list'",
        ],
    ),
    leaks(
        "generated by a function",
        &[
            "CREATE FUNCTION hop_pure(int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ssn FROM person WHERE id = $1'",
            "CREATE TABLE hop_pure (id int, g text GENERATED ALWAYS AS (hop_pure(id)) STORED)",
            "INSERT INTO hop_pure (id) VALUES (101)",
            "SELECT g FROM hop_pure",
        ],
    ),
    leaks(
        "rename of a sequence",
        &[
            "CREATE SEQUENCE hop_named",
            "SELECT setval('hop_named', (SELECT min(card)::bigint FROM person)) IS NULL",
            "ALTER SEQUENCE hop_named RENAME TO hop_renamed_sequence",
            "SELECT last_value FROM hop_renamed_sequence",
        ],
    ),
    leaks(
        "create view, transaction",
        &["BEGIN", "CREATE VIEW hop_view AS SELECT ssn AS x FROM person", "SELECT x FROM hop_view"],
    ),
    leaks("create view", &["CREATE VIEW hop_view2 AS SELECT ssn AS x FROM person", "SELECT x FROM hop_view2"]),
    leaks(
        "create temp view",
        &["CREATE TEMP VIEW hop_view3 AS SELECT upper(ssn) AS x FROM person", "SELECT x FROM hop_view3"],
    ),
    leaks(
        "replace a view",
        &[
            "CREATE VIEW hop_view4 AS SELECT word AS x FROM words",
            "SELECT x FROM hop_view4",
            "CREATE OR REPLACE VIEW hop_view4 AS SELECT ssn AS x FROM person",
            "SELECT x FROM hop_view4",
        ],
    ),
    leaks(
        "materialised view",
        &["CREATE MATERIALIZED VIEW hop_mat AS SELECT ssn AS x FROM person", "SELECT x FROM hop_mat"],
    ),
    leaks(
        "create function",
        &["CREATE FUNCTION hop_fn() RETURNS text LANGUAGE sql AS 'SELECT min(ssn) FROM person'", "SELECT hop_fn()"],
    ),
    leaks(
        "create aggregate",
        &[
            "CREATE FUNCTION hop_step(text, int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM person WHERE id = $2'",
            "CREATE AGGREGATE hop_agg(int) (SFUNC = hop_step, STYPE = text)",
            "SELECT hop_agg(person) FROM orders",
        ],
    ),
    leaks(
        "default that reads",
        &[
            "CREATE TABLE hop_default (a int, x text DEFAULT reads_ssn(101))",
            "INSERT INTO hop_default (a) VALUES (1) RETURNING x",
        ],
    ),
    leaks(
        "trigger",
        &[
            "CREATE TABLE hop_trigger (x text)",
            "CREATE FUNCTION pulls() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.x := (SELECT min(ssn) FROM person); RETURN NEW; END $$",
            "CREATE TRIGGER pulls BEFORE INSERT ON hop_trigger FOR EACH ROW EXECUTE FUNCTION pulls()",
            "INSERT INTO hop_trigger VALUES ('')",
            "SELECT x FROM hop_trigger",
        ],
    ),
    leaks(
        "rule",
        &[
            "CREATE TABLE hop_rule (x text)",
            "CREATE RULE copies AS ON UPDATE TO v.ruled DO ALSO INSERT INTO hop_rule VALUES (OLD.ssn)",
            "UPDATE v.ruled SET city = city",
            "DROP RULE copies ON v.ruled",
            "SELECT x FROM hop_rule",
        ],
    ),
    leaks(
        "rename a table",
        &["ALTER TABLE parted_high RENAME TO innocent", "SELECT ssn FROM innocent", "SELECT card || '' FROM innocent"],
    ),
    leaks(
        "rename a filled table",
        &[
            "CREATE TABLE hop_rename AS SELECT ssn AS x FROM person",
            "ALTER TABLE hop_rename RENAME TO hop_renamed",
            "SELECT x FROM hop_renamed",
        ],
    ),
    leaks("rename a tagged table", &["ALTER TABLE staff RENAME TO staff_old", "SELECT badge FROM staff_old"]),
    leaks("rename a tagged column", &["ALTER TABLE hr.staff RENAME COLUMN badge TO x", "SELECT x FROM hr.staff"]),
    leaks(
        "change the schema",
        &[
            "CREATE SCHEMA other",
            "CREATE TABLE hop_schema AS SELECT ssn AS x FROM person",
            "ALTER TABLE hop_schema SET SCHEMA other",
            "SELECT x FROM other.hop_schema",
        ],
    ),
    leaks(
        "inherit",
        &[
            "CREATE TABLE hop_child () INHERITS (v.inherited)",
            "INSERT INTO hop_child (id, ssn) SELECT id + 9000, ssn FROM person",
            "SELECT ssn FROM hop_child",
        ],
    ),
    leaks(
        "like",
        &[
            "CREATE TABLE hop_like (LIKE person INCLUDING DEFAULTS)",
            "INSERT INTO hop_like (id, name, ssn) SELECT id, name, ssn FROM ONLY person",
            "SELECT ssn FROM hop_like",
        ],
    ),
    leaks(
        "generated of another table",
        &[
            "CREATE TABLE hop_generated (s text, g text GENERATED ALWAYS AS (reverse(s)) STORED)",
            "INSERT INTO hop_generated SELECT ssn FROM person",
            "SELECT g FROM hop_generated",
        ],
    ),
    leaks(
        "composite",
        &[
            "CREATE TABLE hop_composite (p person)",
            "INSERT INTO hop_composite SELECT p FROM ONLY person p",
            "SELECT p, (p).ssn FROM hop_composite",
        ],
    ),
    leaks(
        "large object by import",
        &[
            "SELECT lo_from_bytea(777002, convert_to((SELECT min(email) FROM person), 'UTF8'))",
            "SELECT data FROM pg_largeobject WHERE loid = 777002",
        ],
    ),
    leaks(
        "prepared transaction name",
        &[
            "DO $$ BEGIN PERFORM set_config('my.gid', (SELECT min(ssn) FROM person), false); END $$",
            "SELECT current_setting('my.gid')",
        ],
    ),
];

/// Code of the database's own behind the names of built-ins. It makes the gateway distrust much of what comes later, so
/// it comes last.
pub(crate) const CUSTOM: &[Shape] = &[
    leaks(
        "function made in the transaction",
        &[
            "BEGIN",
            "CREATE FUNCTION lower(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM person WHERE id = $1'",
            "SELECT lower(101)",
        ],
    ),
    leaks(
        "function with the name of a built-in",
        &[
            "CREATE FUNCTION upper(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM person WHERE id = $1'",
            "SELECT upper(101)",
        ],
    ),
    leaks(
        "function put into information_schema",
        &[
            "CREATE FUNCTION information_schema._pg_keysequal(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM person WHERE id = $1'",
            "SELECT information_schema._pg_keysequal(101)",
        ],
    ),
    leaks(
        "row function made here",
        &[
            "CREATE FUNCTION hop_row(words) RETURNS text LANGUAGE sql AS 'SELECT max(ssn) FROM person'",
            "SELECT words.hop_row FROM words",
        ],
    ),
    leaks(
        "aggregate with the name of a built-in",
        &[
            "CREATE FUNCTION hop_step3(text, bool) RETURNS text LANGUAGE sql AS 'SELECT min(ssn) FROM person'",
            "CREATE AGGREGATE max(bool) (SFUNC = hop_step3, STYPE = text)",
            "SELECT max(paid) FROM orders",
        ],
    ),
    leaks(
        "create operator",
        &[
            "CREATE FUNCTION hop_op(int, int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM person WHERE id = $1'",
            "CREATE OPERATOR <-> (LEFTARG = int, RIGHTARG = int, FUNCTION = hop_op)",
            "SELECT 101 <-> 1",
        ],
    ),
    leaks(
        "create cast",
        &[
            "CREATE TYPE hop_type AS (n int)",
            "CREATE FUNCTION hop_cast(hop_type) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM person WHERE id = $1.n'",
            "CREATE CAST (hop_type AS text) WITH FUNCTION hop_cast (hop_type)",
            "SELECT ROW(101)::hop_type::text",
        ],
    ),
];

/// What is open: code whose text the gateway cannot read (DO, functions, procedures) writes a value where nobody looks
/// for it. All of it needs the `execute` permission.
pub(crate) const LIMITS: &[Shape] = &[
    leaks(
        "pg_get_viewdef of a literal",
        &[
            "DO $$ BEGIN EXECUTE format('CREATE VIEW spelled AS SELECT %L AS x', (SELECT min(ssn) FROM person)); END $$",
            "SELECT x FROM spelled",
            "SELECT pg_get_viewdef('spelled'::regclass)",
        ],
    ),
    leaks(
        "comment",
        &[
            "DO $$ BEGIN EXECUTE format('COMMENT ON TABLE words IS %L', (SELECT min(ssn) FROM person)); END $$",
            "SELECT obj_description('words'::regclass), description FROM pg_description WHERE objoid = 'words'::regclass",
        ],
    ),
    leaks(
        "name of a table",
        &[
            "DO $$ BEGIN EXECUTE format('CREATE TABLE %I (a int)', (SELECT min(note) FROM person)); END $$",
            "SELECT relname FROM pg_class WHERE relname LIKE '% %'",
        ],
    ),
    leaks(
        "default of a column",
        &[
            "DO $$ BEGIN EXECUTE format('ALTER TABLE sink ADD COLUMN d text DEFAULT %L', (SELECT min(ssn) FROM person)); END $$",
            "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'sink'::regclass",
        ],
    ),
    leaks(
        "do inserts",
        &[
            "CREATE TABLE hop_do (x text)",
            "DO $$ BEGIN INSERT INTO hop_do SELECT ssn FROM person; END $$",
            "SELECT x FROM hop_do",
        ],
    ),
    leaks(
        "do makes a table",
        &[
            "DO $$ BEGIN EXECUTE 'CREATE TABLE hop_do2 AS SELECT ssn AS x FROM per' || 'son'; END $$",
            "SELECT x FROM hop_do2",
        ],
    ),
    leaks(
        "function inserts",
        &[
            "CREATE TABLE hop_fill (x text)",
            "CREATE FUNCTION fills() RETURNS void LANGUAGE sql AS 'INSERT INTO hop_fill SELECT ssn FROM person'",
            "SELECT fills()",
            "SELECT x FROM hop_fill",
        ],
    ),
];
