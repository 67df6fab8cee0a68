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
