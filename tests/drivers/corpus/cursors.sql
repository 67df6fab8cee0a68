-- begin
BEGIN
-- scroll cursor
DECLARE s SCROLL CURSOR FOR SELECT id, name, balance FROM customers ORDER BY id
-- fetch next
FETCH NEXT FROM s
-- fetch none
FETCH 0 FROM s
-- fetch last
FETCH LAST FROM s
-- fetch absolute
FETCH ABSOLUTE 2 FROM s
-- fetch prior
FETCH PRIOR FROM s
-- fetch backward
FETCH BACKWARD ALL FROM s
-- fetch forward
FETCH FORWARD 2 FROM s
-- fetch all left
FETCH ALL s
-- fetch beyond
FETCH s
-- cursor for update
DECLARE u CURSOR FOR SELECT id FROM orders ORDER BY id FOR UPDATE
-- position it
FETCH u
-- update where current
UPDATE orders SET item = 'moved' WHERE CURRENT OF u
-- see it
SELECT item FROM orders ORDER BY id LIMIT 1
-- binary cursor
DECLARE b BINARY CURSOR FOR SELECT 1::int4, 'x'::text, 2.5::float8
-- fetch binary
FETCH ALL FROM b
-- close all
CLOSE ALL
-- closed
FETCH s
-- rollback
ROLLBACK
-- begin for holding
BEGIN
-- hold
DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 5)
-- commit
COMMIT
-- fetch held
FETCH 3 FROM h
-- fetch held rest
FETCH ALL FROM h
-- close held
CLOSE h
-- begin in error
BEGIN
-- savepoint
SAVEPOINT a
-- fails
SELECT 1 / 0
-- refused by the server
SELECT 2
-- back
ROLLBACK TO a
-- goes on
SELECT 3
-- second savepoint
SAVEPOINT b
-- nested write
INSERT INTO archive.notes VALUES (50, 'nested')
-- release first
RELEASE a
-- unknown savepoint
ROLLBACK TO nowhere
-- commit of a failed transaction
COMMIT
-- was not kept
SELECT count(*) FROM archive.notes WHERE id = 50
-- serializable
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE
-- isolation
SHOW transaction_isolation
-- change inside
SET TRANSACTION READ ONLY
-- write is refused
DELETE FROM orders
-- and chain
ROLLBACK AND CHAIN
-- chained isolation
SHOW transaction_isolation
-- abort
ABORT
-- start transaction
START TRANSACTION
-- nested begin warns
BEGIN
-- set local
SET LOCAL statement_timeout = '5s'
-- local value
SHOW statement_timeout
-- set constraints
SET CONSTRAINTS ALL DEFERRED
-- end
END
-- value after
SHOW statement_timeout
-- prepared transactions are off
PREPARE TRANSACTION 'x'
-- statement timeout
SET statement_timeout = 50
-- runs into it
SELECT pg_sleep(5)
-- no timeout
RESET statement_timeout
-- default read only
SET default_transaction_read_only = on
-- fails by default
INSERT INTO archive.notes VALUES (1, '')
-- default again
SET default_transaction_read_only = off
-- several in one, one transaction [simple]
INSERT INTO archive.notes VALUES (60, 'a'); INSERT INTO archive.notes VALUES (61, 'b'); SELECT count(*) FROM archive.notes WHERE id IN (60, 61)
-- several with an error at the end [simple]
INSERT INTO archive.notes VALUES (62, 'c'); SELECT no_such_column
-- nothing of it stayed [simple]
SELECT count(*) FROM archive.notes WHERE id = 62
-- several kinds at once [simple]
SELECT 1; SHOW TimeZone; UPDATE archive.notes SET body = 'd' WHERE id = 60; ; VALUES (1), (2)
-- copy out and more [simple]
SELECT 1; COPY (VALUES (1), (2)) TO STDOUT; SELECT 2
-- commit in the middle [simple]
BEGIN; INSERT INTO archive.notes VALUES (63, 'e'); COMMIT; SELECT 1 / 0
