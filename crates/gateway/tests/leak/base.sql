CREATE TABLE person (
    id int PRIMARY KEY, name text NOT NULL, city text, ssn text UNIQUE, email text, card text, note text,
    born date, salary numeric(12, 2), data jsonb,
    ssn_tail text GENERATED ALWAYS AS (translate(ssn, '-', '')) STORED
);
CREATE TABLE orders (
    id int PRIMARY KEY, person int, item text, paid bool, at timestamptz, data jsonb, ref uuid, tags text[],
    number bigint, amount numeric(10, 2)
);
INSERT INTO orders SELECT i, 101 + i % 6, 'item ' || i, i % 2 = 0, '2024-01-01 00:00+00'::timestamptz + i * interval '1 h',
    jsonb_build_object('qty', i, 'colour', 'blue'), md5(i::text)::uuid, ARRAY['a', 'b' || i], 1000000000000 + i, i / 3.0
    FROM generate_series(1, 40) i;
CREATE TABLE words (id int PRIMARY KEY, word text);
INSERT INTO words VALUES (1, 'plain'), (2, NULL), (3, '😀 emoji'), (4, '漢字かな交じり文'), (5, ''), (6, E'tab\there \\ line\nend');
CREATE TABLE sink (n int, value text);
CREATE TABLE sink_a (n int, value text);
CREATE TABLE sink_b (n int, value text);
CREATE TABLE sink_c (n int, value text);
CREATE SCHEMA IF NOT EXISTS v;
CREATE SCHEMA hr;
CREATE TABLE staff (id int, badge text);
CREATE TABLE hr.staff (id int, badge text);
CREATE VIEW person_view AS SELECT id, name, ssn AS number, email FROM person;
CREATE VIEW person_view2 (a, b, c, d) AS SELECT * FROM person_view;
CREATE VIEW order_view AS SELECT id, item FROM orders;
CREATE MATERIALIZED VIEW person_mat AS SELECT id, upper(ssn) AS u, card AS c FROM person;
CREATE TABLE parted (id int, ssn text, card text) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (104);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (104) TO (1000);
CREATE TABLE employee (grade int) INHERITS (person);
CREATE FUNCTION reads_ssn(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM person WHERE id = $1';
CREATE FUNCTION reads_fixed(int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ssn FROM person WHERE id = $1';
CREATE FUNCTION all_of_them() RETURNS SETOF person LANGUAGE sql STABLE AS 'SELECT * FROM person';
CREATE FUNCTION shouts() RETURNS void LANGUAGE plpgsql AS
    $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM person LOOP RAISE NOTICE 'is %', r.ssn; END LOOP; END $$;
CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no: %', (SELECT string_agg(ssn, ' ') FROM person) USING DETAIL = (SELECT min(card) FROM person); END $$;
CREATE FUNCTION first_ssn(orders) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM person WHERE id = $1.person';
CREATE VIEW function_view AS SELECT o.id, reads_ssn(o.person) AS x FROM orders o;
CREATE FUNCTION renames_q() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'DEALLOCATE q'; EXECUTE 'PREPARE q AS SELECT upper(ssn) FROM person'; END $$;
CREATE PROCEDURE tells() LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', (SELECT string_agg(email, ',') FROM person); END $$;
CREATE PROCEDURE gives(INOUT x text) LANGUAGE plpgsql AS $$ BEGIN x := (SELECT min(ssn) FROM person); END $$;
