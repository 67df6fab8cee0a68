-- a value over 64 KiB
SELECT repeat('0123456789', 7000)
-- a value over 1 MiB
SELECT repeat('x', 1200000) AS big, 1 AS small
-- bytes over 1 MiB
SELECT decode(repeat('00ff', 600000), 'hex')
-- many rows
SELECT i, i * 2, 'row ' || i FROM generate_series(1, 5000) i
-- rows of very different sizes
SELECT i, repeat('y', CASE i % 3 WHEN 0 THEN 0 WHEN 1 THEN 17 ELSE 40000 END) FROM generate_series(1, 12) i
-- two hundred columns
SELECT 1 AS c1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 'a', 'b', 'c', 'd', NULL, NULL, NULL, NULL, true, false, 1.5, 2.5, 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', 'end'
-- a wide table
CREATE TABLE wide AS SELECT i AS id, repeat('w', 300) AS a, repeat('v', 3000) AS b, ARRAY[i, i + 1] AS c FROM generate_series(1, 200) i
-- read the wide table
SELECT * FROM wide ORDER BY id
-- copy the wide table out
COPY (SELECT * FROM wide ORDER BY id) TO STDOUT
-- copy one line over 1 MiB
COPY (SELECT repeat('z', 1100000)) TO STDOUT
-- an error after many rows
SELECT 1 / (4000 - i) FROM generate_series(1, 4100) i
-- an aggregate of everything
SELECT string_agg(i::text, ',' ORDER BY i) FROM generate_series(1, 30000) i
-- a nested array
SELECT array_agg(ARRAY[i, -i] ORDER BY i) FROM generate_series(1, 2000) i
-- an insert that returns much
INSERT INTO wide SELECT i, repeat('q', 2000), '', NULL FROM generate_series(1000, 1100) i RETURNING id, a
-- empty strings and nulls
SELECT '' AS a, NULL AS b, ' ' AS c, ''::bytea AS d FROM generate_series(1, 3)
-- nothing at all
SELECT FROM generate_series(1, 3)
