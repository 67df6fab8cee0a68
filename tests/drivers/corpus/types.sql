-- integers
SELECT 32767::int2, -2147483648::int4, 9223372036854775807::int8
-- floats
SELECT 1.5::float4, 0.1::float8 + 0.2::float8, 'NaN'::float8, '-Infinity'::float4
-- numeric
SELECT 123456789012345678901234567890.123456789::numeric, 'NaN'::numeric, 0.000::numeric
-- money
SELECT '12.34'::money
-- booleans
SELECT true, false, NULL::bool
-- text kinds
SELECT 'a'::text, 'b'::varchar(10), 'c'::char(5), 'd'::name, 'e'::"char"
-- bytes
SELECT '\xdeadbeef00'::bytea, ''::bytea
-- date and time
SELECT '2024-02-29'::date, '23:59:60'::time, '12:00+02'::timetz, '1999-12-31 23:59:59.5'::timestamp, '2024-06-01 00:00+00'::timestamptz
-- far dates
SELECT '4713-01-01 BC'::date, 'infinity'::timestamp, '-infinity'::date
-- intervals
SELECT '1 year 2 mons 3 days 04:05:06.789'::interval, '-1 day'::interval
-- uuid
SELECT '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid
-- json
SELECT '{"a": [1, 2, {"b": null}]}'::json, '{"z": 1, "a": 2}'::jsonb
-- json operators
SELECT profile -> 'level', profile ->> 'city', profile @> '{"level": 9}' FROM customers ORDER BY id
-- json path
SELECT jsonb_path_query('[1, 2, 3]', '$[*] ? (@ > 1)')
-- arrays
SELECT ARRAY[1, 2, NULL], ARRAY[[1, 2], [3, 4]], '{}'::text[], ARRAY['a,b', 'c"d', '{}', NULL]
-- array bounds
SELECT '[2:4]={1,2,3}'::int[]
-- ranges
SELECT '[1,5)'::int4range, 'empty'::numrange, '(,2024-01-01)'::daterange
-- multirange
SELECT '{[1,3),[5,7)}'::int4multirange
-- network
SELECT '192.0.2.1/24'::inet, '2001:db8::/32'::cidr, '08:00:2b:01:02:03'::macaddr
-- bit strings
SELECT B'1010', '0011'::varbit
-- geometry
SELECT '(1,2)'::point, '((0,0),(1,1))'::box, '<(0,0),3>'::circle, '[(0,0),(1,1)]'::lseg
-- text search
SELECT to_tsvector('simple', 'the quick fox'), 'fox & !dog'::tsquery
-- xml-free object ids
SELECT 1::oid, 'pg_class'::regclass, 'int4'::regtype
-- enum
SELECT id, feels FROM moods ORDER BY feels
-- domain and composite
SELECT size, both_ FROM moods ORDER BY id
-- row constructor
SELECT ROW(1, 'a', NULL), ROW()
-- casts
SELECT '42'::int + 1, 42::text || 'x', CAST('t' AS boolean)
-- escape string
SELECT E'tab\tnew\nquote\'', U&'d\0061t\+000061'
-- dollar quotes
SELECT $$it's$$, $tag$a $$ b$tag$
-- literal kinds
SELECT 0x1F::int, 1e3, .5, 1_000
-- array functions
SELECT array_agg(id ORDER BY id), string_agg(name, '|' ORDER BY id) FROM customers
-- large object-free bytes
SELECT decode('00ff10', 'hex'), encode('\x0102'::bytea, 'base64')
-- pg_lsn
SELECT '16/B374D848'::pg_lsn
-- void
SELECT pg_notify('nobody', '')
-- record function
SELECT * FROM json_to_record('{"a": 1, "b": "x"}') AS r(a int, b text)
