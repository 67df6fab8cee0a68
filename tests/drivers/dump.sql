-- What pg_dump has a kind of entry for, in small. Loaded by test_pg_dump.py.
CREATE SCHEMA shop;
CREATE SCHEMA "odd ""name";
COMMENT ON SCHEMA shop IS 'a shop; it''s "small"';
CREATE TYPE shop.mood AS ENUM ('glad', 'sad', 'it''s');
CREATE TYPE shop.place AS (street text, number integer);
CREATE DOMAIN shop.zip AS text CHECK (VALUE ~ '^[0-9]+$');
CREATE SEQUENCE shop.numbers START 7 INCREMENT 3 CACHE 2;
CREATE FUNCTION shop.twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  NEW.note := coalesce(NEW.note, 'stamped; $$ ' || TG_OP);
  RETURN NEW;
END $body$;
CREATE PROCEDURE shop.nothing() LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE AGGREGATE shop.product(integer) (SFUNC = int4mul, STYPE = integer, INITCOND = '1');
CREATE OPERATOR shop.=== (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq, COMMUTATOR = OPERATOR(shop.===));
CREATE TABLE shop.customers (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL COLLATE "C",
  email text UNIQUE CHECK (email LIKE '%@%'),
  mood shop.mood DEFAULT 'glad',
  home shop.place,
  zip shop.zip,
  tags text[] DEFAULT '{}',
  about jsonb,
  raw bytea,
  long text GENERATED ALWAYS AS (name || '!') STORED,
  born timestamptz DEFAULT '2001-02-03 04:05:06.789+00',
  price numeric(12, 4),
  ratio double precision,
  note text
);
CREATE TRIGGER stamp BEFORE INSERT ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.stamp();
INSERT INTO shop.customers (name, email, mood, home, zip, tags, about, raw, price, ratio, note) VALUES
  ('Grace', 'grace@secret.test', 'sad', ('Main "St"', 1), '0815', '{a,"b c",NULL,""}', '{"k": [1, null, "é"]}', '\x00ff0a', 1.5, 0.1, NULL),
  (E'Ümit 🙂\ttab\nline\\back', 'umit@secret.test', 'it''s', NULL, NULL, '{}', NULL, '', 'NaN', '-Infinity', ''),
  ('\N', 'null@secret.test', NULL, ROW(NULL, NULL), '1', NULL, '[]', NULL, NULL, 1e-300, E'\\.');
INSERT INTO shop.customers (name, email, raw, note)
  SELECT 'name ' || n, 'user' || n || '@secret.test', decode(md5(n::text), 'hex'), repeat(chr(65 + n % 26), n % 300) FROM generate_series(1, 600) n;
CREATE TABLE shop.orders (
  id bigint DEFAULT nextval('shop.numbers'), customer integer REFERENCES shop.customers ON DELETE CASCADE,
  day date NOT NULL
) PARTITION BY RANGE (day);
CREATE TABLE shop.orders_old PARTITION OF shop.orders FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE shop.orders_new PARTITION OF shop.orders DEFAULT;
INSERT INTO shop.orders (customer, day) SELECT 1 + n % 3, date '2019-06-01' + n FROM generate_series(1, 400) n;
CREATE INDEX ON shop.orders (day);
CREATE TABLE shop.bookings (during tstzrange, EXCLUDE USING gist (during WITH &&));
INSERT INTO shop.bookings VALUES ('[2020-01-01, 2020-01-02)'), ('empty');
CREATE TABLE "odd ""name"."Table; --" ("Column 'x'" integer, "SELECT" text);
INSERT INTO "odd ""name"."Table; --" VALUES (1, '$$'), (NULL, ';');
CREATE TABLE shop.empty ();
CREATE TABLE shop.computed (n integer, twice integer GENERATED ALWAYS AS (shop.twice(n)) STORED);
INSERT INTO shop.computed VALUES (21);
CREATE UNLOGGED TABLE shop.unlogged (n integer);
CREATE TABLE shop.parent (a integer);
CREATE TABLE shop.child (b text) INHERITS (shop.parent);
INSERT INTO shop.child VALUES (1, 'c');
CREATE VIEW shop.contacts WITH (security_barrier) AS SELECT name, email FROM shop.customers WHERE id < 100;
CREATE MATERIALIZED VIEW shop.counts AS SELECT mood, count(*) AS n FROM shop.customers GROUP BY mood;
CREATE INDEX names ON shop.customers USING btree (lower(name) DESC NULLS LAST) WHERE note IS NOT NULL;
CREATE STATISTICS shop.together ON name, email FROM shop.customers;
CREATE RULE quiet AS ON DELETE TO shop.bookings DO INSTEAD NOTHING;
ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.customers USING (email = current_user);
ALTER TABLE shop.customers ALTER COLUMN name SET STATISTICS 500, ALTER COLUMN raw SET STORAGE EXTERNAL;
COMMENT ON COLUMN shop.customers.email IS E'where to write\nto';
GRANT SELECT ON shop.contacts TO PUBLIC;
REVOKE ALL ON FUNCTION shop.twice FROM PUBLIC;
CREATE PUBLICATION everything FOR TABLE shop.bookings;
CREATE FUNCTION event_noop() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER watched ON ddl_command_end EXECUTE FUNCTION event_noop();
ALTER EVENT TRIGGER watched DISABLE;
SELECT setval('shop.numbers', 5000);
