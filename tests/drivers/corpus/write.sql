-- insert
INSERT INTO customers (id, name) VALUES (10, 'Edsger')
-- insert several
INSERT INTO customers (id, name) VALUES (11, 'Barbara'), (12, 'Tony')
-- insert returning
INSERT INTO customers (id, name, balance) VALUES (13, 'Radia', 5) RETURNING id, name, balance, active
-- insert select
INSERT INTO archive.notes SELECT id, name FROM customers WHERE id < 3
-- insert default values
INSERT INTO moods DEFAULT VALUES
-- on conflict do nothing
INSERT INTO customers (id, name) VALUES (10, 'again') ON CONFLICT DO NOTHING
-- on conflict update
INSERT INTO customers (id, name) VALUES (10, 'Edsger W.') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING name
-- identity
INSERT INTO orders (customer, item, quantity) VALUES (10, 'pencil', 3) RETURNING id
-- update
UPDATE customers SET balance = balance + 1 WHERE id = 10
-- update returning
UPDATE customers SET active = NOT active WHERE id IN (1, 2) RETURNING id, active
-- update from
UPDATE orders o SET item = upper(item) FROM customers c WHERE c.id = o.customer AND c.name = 'Alan'
-- update nothing
UPDATE customers SET name = name WHERE false
-- delete
DELETE FROM customers WHERE id = 12
-- delete using returning
DELETE FROM archive.notes n USING customers c WHERE n.id = c.id AND c.id = 1 RETURNING n.body
-- data modifying with
WITH gone AS (DELETE FROM archive.notes RETURNING *) SELECT count(*) FROM gone
-- merge
MERGE INTO archive.notes n USING (VALUES (7, 'seven')) v(id, body) ON n.id = v.id WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.body)
-- sequence
SELECT nextval('tickets'), currval('tickets')
-- setval
SELECT setval('tickets', 500, false)
-- call
CALL tidy_up(2)
-- do block
DO $$ BEGIN RAISE NOTICE 'inside'; END $$
-- truncate
TRUNCATE archive.notes
-- create table
CREATE TABLE extra (a integer, b text DEFAULT 'x')
-- alter table
ALTER TABLE extra ADD COLUMN c date
-- create index
CREATE INDEX extra_a ON extra (a)
-- create table as
CREATE TABLE copied AS SELECT id, name FROM customers
-- select into
SELECT id INTO copied_too FROM customers
-- create view
CREATE VIEW extra_view AS SELECT a FROM extra
-- comment on
COMMENT ON TABLE extra IS 'short lived'
-- create if not exists
CREATE TABLE IF NOT EXISTS extra (a integer)
-- drop with cascade
DROP TABLE extra CASCADE
-- drop if exists
DROP TABLE IF EXISTS not_there
-- analyze
ANALYZE customers
-- vacuum
VACUUM customers
-- grant
GRANT SELECT ON customers TO PUBLIC
-- revoke
REVOKE SELECT ON customers FROM PUBLIC
-- temporary table
CREATE TEMPORARY TABLE scratch (a integer)
-- insert into temporary
INSERT INTO scratch SELECT generate_series(1, 10)
-- materialized view
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM orders
-- refresh
REFRESH MATERIALIZED VIEW counted
-- create function
CREATE FUNCTION thrice(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1 * 3'
-- drop function
DROP FUNCTION thrice
