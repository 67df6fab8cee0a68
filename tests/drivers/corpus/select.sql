-- a number
SELECT 1
-- several columns and names
SELECT 1 AS one, 'two' AS "Two", NULL AS "the third"
-- no columns
SELECT
-- no rows
SELECT * FROM customers WHERE false
-- all columns
SELECT * FROM customers ORDER BY id
-- some columns
SELECT id, name FROM customers ORDER BY name COLLATE "C"
-- qualified star
SELECT c.* FROM customers AS c ORDER BY c.id LIMIT 2
-- expressions
SELECT id * 2 + 1 AS odd, name || '!' AS louder FROM customers ORDER BY id
-- inner join
SELECT c.name, o.item FROM customers c JOIN orders o ON o.customer = c.id ORDER BY o.id
-- left join
SELECT c.name, o.item FROM customers c LEFT JOIN orders o ON o.customer = c.id ORDER BY c.id, o.id
-- using
SELECT id FROM customers JOIN moods USING (id) ORDER BY id
-- natural join
SELECT count(*) FROM customers NATURAL JOIN moods
-- cross join
SELECT a, b FROM generate_series(1, 3) a CROSS JOIN generate_series(10, 11) b ORDER BY 1, 2
-- lateral
SELECT c.id, l.item FROM customers c, LATERAL (SELECT item FROM orders WHERE customer = c.id ORDER BY id LIMIT 1) l ORDER BY c.id
-- aggregate
SELECT count(*), sum(balance), min(born), max(name COLLATE "C"), avg(balance) FROM customers
-- group by having
SELECT customer, sum(quantity) FROM orders GROUP BY customer HAVING sum(quantity) > 2 ORDER BY customer
-- grouping sets
SELECT customer, item, count(*) FROM orders GROUP BY GROUPING SETS ((customer), (item), ()) ORDER BY 1 NULLS LAST, 2 NULLS LAST
-- filter clause
SELECT count(*) FILTER (WHERE active) FROM customers
-- distinct
SELECT DISTINCT customer FROM orders ORDER BY customer
-- distinct on
SELECT DISTINCT ON (customer) customer, item FROM orders ORDER BY customer, id DESC
-- window
SELECT id, rank() OVER (ORDER BY balance DESC), sum(balance) OVER w FROM customers WINDOW w AS (ORDER BY id) ORDER BY id
-- union
SELECT id FROM customers UNION SELECT id FROM moods ORDER BY id
-- union all
SELECT 1 UNION ALL SELECT 1
-- intersect and except
(SELECT id FROM customers INTERSECT SELECT id FROM moods) EXCEPT SELECT 1
-- with
WITH rich AS (SELECT * FROM customers WHERE balance > 100) SELECT name FROM rich ORDER BY id
-- recursive with
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 20) SELECT n FROM t
-- materialized with
WITH x AS MATERIALIZED (SELECT 1 AS a) SELECT a FROM x
-- subquery in select
SELECT name, (SELECT count(*) FROM orders WHERE customer = c.id) FROM customers c ORDER BY id
-- exists
SELECT name FROM customers c WHERE EXISTS (SELECT FROM orders WHERE customer = c.id) ORDER BY id
-- in a list
SELECT name FROM customers WHERE id IN (1, 3, 5) ORDER BY id
-- any array
SELECT name FROM customers WHERE id = ANY (ARRAY[2, 4]) ORDER BY id
-- between and like
SELECT name FROM customers WHERE id BETWEEN 1 AND 2 AND name LIKE '%a%' ORDER BY id
-- case
SELECT CASE WHEN balance < 0 THEN 'owes' WHEN balance = 0 THEN 'even' ELSE 'has' END FROM customers ORDER BY id
-- coalesce and nullif
SELECT coalesce(email, 'none'), nullif(name, '') FROM customers ORDER BY id
-- values
VALUES (1, 'a'), (2, NULL)
-- table
TABLE moods
-- a view
SELECT * FROM order_totals ORDER BY name COLLATE "C"
-- limit and offset
SELECT id FROM customers ORDER BY id LIMIT 2 OFFSET 1
-- fetch first
SELECT id FROM customers ORDER BY id FETCH FIRST 1 ROW ONLY
-- order nulls
SELECT born FROM customers ORDER BY born DESC NULLS LAST
-- for update
SELECT id FROM customers WHERE id = 1 FOR UPDATE
-- sql function
SELECT twice(21)
-- plpgsql function with a notice
SELECT shout('hello')
-- set returning
SELECT * FROM generate_series(1, 5) WITH ORDINALITY
-- unnest
SELECT unnest(ARRAY['x', 'y']), unnest(ARRAY[1, 2, 3])
-- comment in front
/* why */ SELECT 1 -- trailing
-- unicode
SELECT 'naïve — Ω — 漢字 — 🙂' AS "schlüssel"
-- quoted names
SELECT "id" AS "a ""quoted"" name" FROM "public"."customers" ORDER BY 1
-- a long value
SELECT repeat('chancery ', 20000)
-- many rows
SELECT i, i::text, i % 7 = 0 FROM generate_series(1, 5000) i
-- many columns
SELECT 0 AS c0, 1 AS c1, 2 AS c2, 3 AS c3, 4 AS c4, 5 AS c5, 6 AS c6, 7 AS c7, 8 AS c8, 9 AS c9, 10 AS c10, 11 AS c11, 12 AS c12, 13 AS c13, 14 AS c14, 15 AS c15, 16 AS c16, 17 AS c17, 18 AS c18, 19 AS c19, 20 AS c20, 21 AS c21, 22 AS c22, 23 AS c23, 24 AS c24, 25 AS c25, 26 AS c26, 27 AS c27, 28 AS c28, 29 AS c29, 30 AS c30, 31 AS c31, 32 AS c32, 33 AS c33, 34 AS c34, 35 AS c35, 36 AS c36, 37 AS c37, 38 AS c38, 39 AS c39, 40 AS c40, 41 AS c41, 42 AS c42, 43 AS c43, 44 AS c44, 45 AS c45, 46 AS c46, 47 AS c47, 48 AS c48, 49 AS c49, 50 AS c50, 51 AS c51, 52 AS c52, 53 AS c53, 54 AS c54, 55 AS c55, 56 AS c56, 57 AS c57, 58 AS c58, 59 AS c59, 60 AS c60, 61 AS c61, 62 AS c62, 63 AS c63, 64 AS c64, 65 AS c65, 66 AS c66, 67 AS c67, 68 AS c68, 69 AS c69, 70 AS c70, 71 AS c71, 72 AS c72, 73 AS c73, 74 AS c74, 75 AS c75, 76 AS c76, 77 AS c77, 78 AS c78, 79 AS c79, 80 AS c80, 81 AS c81, 82 AS c82, 83 AS c83, 84 AS c84, 85 AS c85, 86 AS c86, 87 AS c87, 88 AS c88, 89 AS c89, 90 AS c90, 91 AS c91, 92 AS c92, 93 AS c93, 94 AS c94, 95 AS c95, 96 AS c96, 97 AS c97, 98 AS c98, 99 AS c99, 100 AS c100, 101 AS c101, 102 AS c102, 103 AS c103, 104 AS c104, 105 AS c105, 106 AS c106, 107 AS c107, 108 AS c108, 109 AS c109, 110 AS c110, 111 AS c111, 112 AS c112, 113 AS c113, 114 AS c114, 115 AS c115, 116 AS c116, 117 AS c117, 118 AS c118, 119 AS c119, 120 AS c120, 121 AS c121, 122 AS c122, 123 AS c123, 124 AS c124, 125 AS c125, 126 AS c126, 127 AS c127, 128 AS c128, 129 AS c129, 130 AS c130, 131 AS c131, 132 AS c132, 133 AS c133, 134 AS c134, 135 AS c135, 136 AS c136, 137 AS c137, 138 AS c138, 139 AS c139, 140 AS c140, 141 AS c141, 142 AS c142, 143 AS c143, 144 AS c144, 145 AS c145, 146 AS c146, 147 AS c147, 148 AS c148, 149 AS c149, 150 AS c150, 151 AS c151, 152 AS c152, 153 AS c153, 154 AS c154, 155 AS c155, 156 AS c156, 157 AS c157, 158 AS c158, 159 AS c159, 160 AS c160, 161 AS c161, 162 AS c162, 163 AS c163, 164 AS c164, 165 AS c165, 166 AS c166, 167 AS c167, 168 AS c168, 169 AS c169, 170 AS c170, 171 AS c171, 172 AS c172, 173 AS c173, 174 AS c174, 175 AS c175, 176 AS c176, 177 AS c177, 178 AS c178, 179 AS c179, 180 AS c180, 181 AS c181, 182 AS c182, 183 AS c183, 184 AS c184, 185 AS c185, 186 AS c186, 187 AS c187, 188 AS c188, 189 AS c189, 190 AS c190, 191 AS c191, 192 AS c192, 193 AS c193, 194 AS c194, 195 AS c195, 196 AS c196, 197 AS c197, 198 AS c198, 199 AS c199
-- explain
EXPLAIN (COSTS OFF) SELECT * FROM customers WHERE id = 1
-- catalog
SELECT relname, relkind FROM pg_class WHERE relname IN ('customers', 'orders') ORDER BY 1
-- information schema
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'customers' ORDER BY ordinal_position
-- system column [text]
SELECT tableoid::regclass, ctid FROM moods ORDER BY id
-- whole row [text]
SELECT m FROM moods m ORDER BY id
-- composite field
SELECT (both_).second FROM moods ORDER BY id
