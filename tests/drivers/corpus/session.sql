-- set
SET work_mem = '8MB'
-- show
SHOW work_mem
-- reset
RESET work_mem
-- set local outside
SET LOCAL work_mem = '4MB'
-- application name
SET application_name = 'corpus'
-- show application name
SHOW application_name
-- time zone
SET TIME ZONE 'Asia/Tokyo'
-- time in zone
SELECT '2024-01-01 00:00:00+00'::timestamptz
-- reset time zone
RESET TIME ZONE
-- datestyle
SET DateStyle = 'German'
-- date in style
SELECT '2024-02-03'::date
-- reset datestyle
RESET DateStyle
-- bytea escape
SET bytea_output = 'escape'
-- bytes escaped
SELECT '\x0001ff'::bytea
-- reset bytea
RESET bytea_output
-- search path
SET search_path = archive, public
-- found by path
SELECT count(*) FROM notes
-- reset path
RESET search_path
-- begin
BEGIN
-- inside
SELECT 1
-- savepoint
SAVEPOINT one
-- write inside
INSERT INTO archive.notes VALUES (1, 'kept?')
-- rollback to
ROLLBACK TO SAVEPOINT one
-- release
RELEASE SAVEPOINT one
-- commit
COMMIT
-- begin read only
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
-- write refused by server
INSERT INTO archive.notes VALUES (2, 'no')
-- statement in failed transaction
SELECT 1
-- rollback
ROLLBACK
-- commit outside
COMMIT
-- declare cursor outside
DECLARE c CURSOR FOR SELECT 1
-- begin for cursor
BEGIN
-- declare cursor
DECLARE c CURSOR FOR SELECT id, name FROM customers ORDER BY id
-- fetch
FETCH 2 FROM c
-- fetch all
FETCH ALL FROM c
-- move
MOVE BACKWARD 1 FROM c
-- close cursor
CLOSE c
-- end cursor
END
-- prepare
PREPARE by_id (integer) AS SELECT name FROM customers WHERE id = $1
-- execute
EXECUTE by_id (2)
-- execute again
EXECUTE by_id (3)
-- deallocate
DEALLOCATE by_id
-- execute gone
EXECUTE by_id (1)
-- listen
LISTEN news
-- unlisten
UNLISTEN *
-- lock outside
LOCK TABLE customers
-- discard
DISCARD ALL
-- two statements [simple]
SELECT 1; SELECT 'two'
-- three with an error [simple]
SELECT 1; SELECT 1 / 0; SELECT 3
-- transaction in one query [simple]
BEGIN; SELECT 1; COMMIT
-- empty query

-- only a comment
/* nothing */
-- semicolons [simple]
;;
-- trailing semicolon
SELECT 1;
