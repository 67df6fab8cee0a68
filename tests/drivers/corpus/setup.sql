CREATE TABLE customers (
  id integer PRIMARY KEY, name text NOT NULL, email text UNIQUE, balance numeric(12,2) DEFAULT 0, active boolean DEFAULT true,
  born date, seen timestamptz, tags text[] DEFAULT '{}', profile jsonb DEFAULT '{}'::jsonb
);
INSERT INTO customers (id, name, email, balance, active, born, seen, tags, profile) VALUES
  (1, 'Grace', 'grace@example.test', 120.50, true, '1906-12-09', '2024-01-02 03:04:05+00', '{pioneer,navy}', '{"level": 9, "city": "Arlington"}'),
  (2, 'Alan', 'alan@example.test', -3.10, false, '1912-06-23', '2024-02-29 23:59:59.999999+00', '{}', '{"level": 8}'),
  (3, 'Ümit "Ü" Öz', 'umit@example.test', 0, true, NULL, NULL, NULL, NULL),
  (4, '', NULL, 99999999.99, NULL, '2000-01-01', 'infinity', '{"a b","c\"d",NULL}', '[1, "two", null]');
CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer integer REFERENCES customers (id), item text, quantity smallint CHECK (quantity > 0)
);
INSERT INTO orders (customer, item, quantity) VALUES (1, 'compass', 2), (1, 'chart', 1), (2, 'tape', 30), (3, 'lamp', 4);
CREATE VIEW order_totals AS SELECT c.name, count(o.*) AS orders, coalesce(sum(o.quantity), 0) AS pieces
  FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.name;
CREATE TYPE mood AS ENUM ('calm', 'busy', 'on fire');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TYPE pair AS (first integer, second text);
CREATE TABLE moods (id integer, feels mood, both_ pair, size positive);
INSERT INTO moods VALUES (1, 'calm', ROW(1, 'x'), 3), (2, 'on fire', ROW(NULL, 'y z'), NULL);
CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE FUNCTION shout(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'shouting %', t; RETURN upper(t); END $$;
CREATE PROCEDURE tidy_up(keep integer) LANGUAGE plpgsql AS $$ BEGIN DELETE FROM orders WHERE id > keep AND false; END $$;
CREATE SEQUENCE tickets START 100;
CREATE SCHEMA archive;
CREATE TABLE archive.notes (id integer, body text);
