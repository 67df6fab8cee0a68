-- explain
EXPLAIN (COSTS OFF) SELECT * FROM customers WHERE id = 1
-- explain json
EXPLAIN (COSTS OFF, FORMAT json) SELECT name FROM customers ORDER BY id
-- explain analyze
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT count(*) FROM orders
-- explain a write
EXPLAIN (COSTS OFF) DELETE FROM orders WHERE id = 1
-- explain fails
EXPLAIN SELECT * FROM nowhere
-- tables of a schema
SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1
-- columns of a table
SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'customers' ORDER BY ordinal_position
-- catalog join
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relname = 'moods' AND a.attnum > 0 ORDER BY a.attnum
-- constraints
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'orders'::regclass ORDER BY conname
-- view definition
SELECT pg_get_viewdef('order_totals'::regclass)
-- function definition
SELECT pg_get_functiondef('twice'::regproc)
-- settings
SELECT name, setting FROM pg_settings WHERE name IN ('server_encoding', 'max_index_keys', 'block_size') ORDER BY name
-- show server version
SHOW server_version_num
-- show encoding
SHOW server_encoding
-- show collation
SHOW lc_collate
-- show unknown
SHOW no_such_thing
-- current setting
SELECT current_setting('work_mem'), current_setting('no.such', true)
-- set config
SELECT set_config('work_mem', '5MB', false)
-- custom setting
SET my.own = 'value'
-- read custom setting
SHOW my.own
-- reset all
RESET ALL
-- set role none
SET ROLE NONE
-- has privilege
SELECT has_table_privilege('customers', 'SELECT')
-- is in recovery
SELECT pg_is_in_recovery()
-- system columns
SELECT (ctid).* IS NOT NULL FROM archive.notes LIMIT 1
-- tableoid as a name [text]
SELECT tableoid::regclass, id FROM moods ORDER BY id
-- whole row [text]
SELECT moods FROM moods ORDER BY id
-- composite field
SELECT (both_).second FROM moods ORDER BY id
-- composite expanded
SELECT (both_).* FROM moods ORDER BY id
-- array of composites [text]
SELECT array_agg(both_ ORDER BY id) FROM moods
-- range operators
SELECT int4range(1, 5) * int4range(3, 9), '[1,3)'::int4range @> 2, upper(numrange(1.5, 2.5))
-- array of ranges
SELECT ARRAY['[1,2]'::int4range, 'empty']
-- row comparison
SELECT ROW(1, 2) < ROW(1, 3), ROW(1, NULL) IS NULL
-- unnest with ordinality
SELECT * FROM unnest(ARRAY['a', 'b'], ARRAY[1, 2, 3]) WITH ORDINALITY AS t(x, y, n)
-- bytes with zeros
SELECT '\x00ff00'::bytea, set_byte('\x000000'::bytea, 1, 0), length('\x0000'::bytea)
-- json build
SELECT json_build_object('a', 1, 'b', ARRAY[1, 2]), jsonb_agg(id ORDER BY id) FROM customers
-- table sample
SELECT count(*) FROM customers TABLESAMPLE SYSTEM (100)
-- for update
SELECT id FROM customers ORDER BY id LIMIT 1 FOR UPDATE
-- for share skip locked
SELECT id FROM customers ORDER BY id LIMIT 1 FOR SHARE SKIP LOCKED
-- lock table
BEGIN
-- locked
LOCK TABLE customers IN SHARE MODE
-- advisory
SELECT pg_advisory_xact_lock(42), pg_try_advisory_xact_lock(42)
-- unlock
ROLLBACK
-- partitioned
CREATE TABLE parts (id integer, v text) PARTITION BY RANGE (id)
-- a partition
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10)
-- into a partition [text]
INSERT INTO parts VALUES (1, 'in') RETURNING tableoid::regclass, *
-- into none
INSERT INTO parts VALUES (99, 'out')
-- a trigger function
CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'new row %', NEW.id; RETURN NEW; END $$
-- a trigger
CREATE TRIGGER noted BEFORE INSERT ON parts_low FOR EACH ROW EXECUTE FUNCTION note_it()
-- fires
INSERT INTO parts VALUES (2, 'noticed')
-- rename
ALTER TABLE parts RENAME TO pieces
-- a type
CREATE TYPE colour AS ENUM ('red')
-- more of a type
ALTER TYPE colour ADD VALUE 'blue'
-- uses the type [text]
SELECT 'blue'::colour, enum_range(NULL::colour)
-- drops the type
DROP TYPE colour
-- reindex
REINDEX TABLE customers
-- cluster without an index
CLUSTER customers
-- checkpoint
CHECKPOINT
-- unknown statement kind [unreadable]
FROBNICATE customers
-- too deep [unreadable]
SELECT ((((((((((1)
