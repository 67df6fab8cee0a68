-- listen to one
LISTEN news
-- listen quoted
LISTEN "News Of The World"
-- notify oneself
NOTIFY news, 'first'
-- notify without words
NOTIFY news
-- notify quoted
NOTIFY "News Of The World", 'it''s "so"'
-- by function
SELECT pg_notify('news', 'by function')
-- several at once
SELECT pg_notify('news', i::text) FROM generate_series(1, 3) i
-- begin
BEGIN
-- notify in a transaction
NOTIFY news, 'later'
-- nothing yet
SELECT 1
-- commit delivers
COMMIT
-- begin again
BEGIN
-- notify to be undone
NOTIFY news, 'never'
-- rollback delivers nothing
ROLLBACK
-- a long payload
SELECT pg_notify('news', repeat('p', 7000))
-- a payload too long
SELECT pg_notify('news', repeat('p', 9000))
-- channels
SELECT pg_listening_channels() ORDER BY 1
-- unlisten one
UNLISTEN news
-- unheard
NOTIFY news, 'unheard'
-- unlisten all
UNLISTEN *
-- a notice
DO $$ BEGIN RAISE NOTICE 'noted % and %', 1, 'two'; END $$
-- many notices
DO $$ BEGIN FOR i IN 1..50 LOOP RAISE NOTICE 'line %', i; END LOOP; END $$
-- a notice with everything
DO $$ BEGIN RAISE WARNING USING MESSAGE = 'm', DETAIL = 'd', HINT = 'h', ERRCODE = '01P01', COLUMN = 'c', TABLE = 't', SCHEMA = 's', DATATYPE = 'dt', CONSTRAINT = 'cs'; END $$
-- notices between rows
SELECT shout(name) FROM customers ORDER BY id
-- notices that are not shown
SET client_min_messages = error
-- unshown
SELECT shout('quiet')
-- shown again
RESET client_min_messages
-- notice of a drop
DROP TABLE IF EXISTS never_was
-- notice of a create
CREATE TABLE IF NOT EXISTS customers (id integer)
