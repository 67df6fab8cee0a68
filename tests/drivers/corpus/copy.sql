-- copy target
CREATE TABLE loads (id integer, name text, amount numeric)
-- copy in [copy]
COPY loads FROM STDIN
-- copied rows
SELECT * FROM loads ORDER BY id
-- copy out
COPY loads TO STDOUT
-- copy out csv
COPY loads TO STDOUT (FORMAT csv, HEADER)
-- copy a query
COPY (SELECT id, name FROM customers ORDER BY id) TO STDOUT
-- copy binary
COPY loads TO STDOUT (FORMAT binary)
-- copy large
COPY (SELECT i, repeat('x', 90) FROM generate_series(1, 3000) i) TO STDOUT
-- copy columns [copy]
COPY loads (id, name, amount) FROM STDIN
-- copy unknown
COPY nowhere TO STDOUT
-- copy bad input [copy]
COPY customers (id, born) FROM STDIN
-- after copy
SELECT count(*) FROM loads
