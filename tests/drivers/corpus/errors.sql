-- syntax [unreadable]
SELEC 1
-- syntax with position [unreadable]
SELECT 1 FROM FROM x
-- unknown table
SELECT * FROM nowhere
-- unknown column
SELECT colour FROM customers
-- unknown function
SELECT no_such(1)
-- division by zero
SELECT 1 / 0
-- bad cast
SELECT 'abc'::integer
-- overflow
SELECT 2147483647 + 1
-- unique violation
INSERT INTO customers (id, name) VALUES (1, 'again')
-- not null violation
INSERT INTO customers (id) VALUES (77)
-- check violation
INSERT INTO orders (customer, item, quantity) VALUES (1, 'x', 0)
-- foreign key violation
INSERT INTO orders (customer, item, quantity) VALUES (999, 'x', 1)
-- bad enum
SELECT 'angry'::mood
-- domain violation
SELECT (-1)::positive
-- ambiguous
SELECT id FROM customers JOIN orders ON true
-- grouping error
SELECT name, count(*) FROM customers
-- raise
DO $$ BEGIN RAISE EXCEPTION 'told you' USING HINT = 'do not', DETAIL = 'at all', ERRCODE = 'P0042'; END $$
-- error after rows
SELECT 10 / (5 - i) FROM generate_series(1, 10) i
-- unknown setting
SET no_such_setting = 1
-- bad setting value
SET work_mem = 'lots'
-- warning
DO $$ BEGIN RAISE WARNING 'careful'; END $$
-- unterminated [unreadable]
SELECT 'open
-- bad unicode escape [unreadable]
SELECT U&'\zzzz'
-- too many arguments
SELECT twice(1, 2)
-- dividing in the where clause
SELECT id FROM customers WHERE 1 / (id - 1) > 0
-- invalid json
SELECT '{bad'::json
-- invalid date
SELECT '2024-02-30'::date
-- invalid uuid
SELECT 'no'::uuid
-- string too long
SELECT 'abcdef'::varchar(3), 'abcdef'::char(2)
-- value too long for a column
CREATE TEMPORARY TABLE tight (a varchar(2))
-- is too long
INSERT INTO tight VALUES ('abc')
-- numeric overflow
SELECT 99999::numeric(4, 1)
-- array subscript
SELECT (ARRAY[1, 2])[5], ARRAY[1, 2] + 1
-- duplicate table
CREATE TABLE customers (id integer)
-- dependent object
DROP TABLE customers
-- duplicate alias
SELECT * FROM customers c, orders c
-- subquery of many rows
SELECT (SELECT id FROM customers)
-- wrong number of columns
SELECT 1 UNION SELECT 1, 2
-- exclusion in plpgsql
DO $$ BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN RAISE NOTICE 'caught %', SQLERRM; END $$
-- assert
DO $$ BEGIN ASSERT 1 = 2, 'not so'; END $$
-- nested context
DO $$ BEGIN PERFORM shout(NULL); PERFORM ('x' || id)::integer FROM customers; END $$
-- bad regular expression
SELECT 'a' ~ '('
-- invalid escape in like
SELECT 'a' LIKE 'a\'
-- bad encoding
SELECT convert_from('\xff'::bytea, 'UTF8')
-- no such role
SET ROLE nobody_here
-- no such database object kind
COMMENT ON SEQUENCE customers IS 'x'
