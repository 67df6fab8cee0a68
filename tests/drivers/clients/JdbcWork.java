// PostgreSQL's JDBC driver, the parts beyond a first query: the scenarios of test_jdbc.py.
// usage: java -cp postgresql.jar JdbcWork.java URL USER PASSWORD [SCENARIO]      (without one: all)
// Prints "scenario: what was seen", a line each; the test compares the lines of two servers.
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;

public class JdbcWork {
    private static final int SECONDS_A_WAIT = 20;

    private interface Scenario {
        void play(Connection connection) throws Exception;
    }

    private static String url;
    private static String[] who;
    private static String only;
    private static String scenarioName;

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        who = new String[] {arguments[1], arguments[2]};
        only = arguments.length > 3 ? arguments[3] : null;
        play("batch", "", JdbcWork::batch);
        play("batch rewritten", "&reWriteBatchedInserts=true", JdbcWork::batch);
        play("batch by simple queries", "&preferQueryMode=simple", JdbcWork::batch);
        play("cursor", "", JdbcWork::cursor);
        play("copy", "", JdbcWork::copy);
        play("metadata", "", JdbcWork::metadata);
        play("threshold 0", "&prepareThreshold=0", JdbcWork::prepared);
        play("threshold 2", "&prepareThreshold=2&preparedStatementCacheQueries=2", JdbcWork::prepared);
        play("threshold -1", "&prepareThreshold=-1", JdbcWork::prepared);
        play("cancel", "", JdbcWork::cancel);
        play("types", "&prepareThreshold=1", JdbcWork::types);
        play("transactions", "&autosave=always", JdbcWork::transactions);
        play("notices", "", JdbcWork::notices);
    }

    private static void play(String name, String options, Scenario scenario) throws Exception {
        if (only != null && !only.equals(name)) {
            return;
        }
        scenarioName = name;
        try (Connection connection = DriverManager.getConnection(url + options, who[0], who[1])) {
            scenario.play(connection);
        }
    }

    private static void say(Object... seen) {
        StringBuilder line = new StringBuilder(scenarioName).append(":");
        for (Object one : seen) {
            line.append(' ').append(one instanceof int[] numbers ? Arrays.toString(numbers) : String.valueOf(one));
        }
        System.out.println(line.toString().replace("\n", "\\n"));
    }

    private static void all(ResultSet rows) throws SQLException {
        int columns = rows.getMetaData().getColumnCount();
        while (rows.next()) {
            List<String> cells = new ArrayList<>();
            for (int at = 1; at <= columns; at++) {
                Object cell = rows.getObject(at);
                cells.add(cell instanceof byte[] bytes ? Arrays.toString(bytes) : rows.getString(at));
            }
            say(cells);
        }
        rows.close();
    }

    private static void ask(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            if (statement.execute(sql)) {
                all(statement.getResultSet());
            } else {
                say(statement.getUpdateCount());
            }
        }
    }

    private static void batch(Connection connection) throws SQLException {
        ask(connection, "CREATE TEMP TABLE batched (id int PRIMARY KEY, name text, at timestamptz)");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO batched (id, name, at) VALUES (?, ?, ?)")) {
            for (int id = 0; id < 200; id++) {
                insert.setInt(1, id);
                insert.setString(2, id % 5 == 0 ? null : "näme '" + id);
                insert.setTimestamp(3, new Timestamp(4_000_000_000L * id));
                insert.addBatch();
            }
            say(insert.executeBatch());
            for (int id : new int[] {1000, 1001, 3, 1002}) {
                insert.setInt(1, id);
                insert.setString(2, "x");
                insert.setTimestamp(3, null);
                insert.addBatch();
            }
            try {
                insert.executeBatch();
            } catch (BatchUpdateException error) {
                say(error.getSQLState(), error.getUpdateCounts());
            }
        }
        // Asked with keys, every row of the batch answers with one.
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO batched (id) VALUES (?)", new String[] {"id"})) {
            for (int id = 2000; id < 2010; id++) {
                insert.setInt(1, id);
                insert.addBatch();
            }
            say(insert.executeBatch());
            all(insert.getGeneratedKeys());
        }
        try (Statement mixed = connection.createStatement()) {
            mixed.addBatch("UPDATE batched SET name = 'u' WHERE id < 10");
            mixed.addBatch("DELETE FROM batched WHERE id BETWEEN 10 AND 19");
            mixed.addBatch("CREATE TEMP TABLE another (n int)");
            say(mixed.executeBatch());
        }
        ask(connection, "SELECT count(*), sum(id), count(name), md5(string_agg(id || coalesce(name, '-'), ',' ORDER BY id)) FROM batched");
    }

    private static void cursor(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (PreparedStatement first = connection.prepareStatement("SELECT n, 'row ' || n FROM generate_series(1, ?) n");
                Statement second = connection.createStatement()) {
            first.setInt(1, 250);
            first.setFetchSize(40);
            second.setFetchSize(7);
            // Two portals are open at once and fetched from in turn; the second is left before its end.
            try (ResultSet one = first.executeQuery(); ResultSet other = second.executeQuery("SELECT n FROM generate_series(1, 100) n")) {
                long sum = 0;
                int rows = 0;
                while (one.next()) {
                    sum += one.getLong(1) + one.getString(2).length();
                    rows++;
                    if (rows <= 50 && other.next()) {
                        sum += other.getInt(1);
                    }
                }
                say(rows, sum);
            }
            first.setMaxRows(15);
            try (ResultSet limited = first.executeQuery()) {
                int rows = 0;
                while (limited.next()) {
                    rows++;
                }
                say(rows);
            }
        }
        try (Statement scrolled = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                ResultSet rows = scrolled.executeQuery("SELECT id, name FROM people ORDER BY id")) {
            rows.last();
            rows.updateString(2, "changed in place");
            rows.updateRow();
            rows.absolute(1);
            say(rows.getString(2));
        }
        ask(connection, "SELECT * FROM people ORDER BY id");
        connection.rollback();
    }

    private static void copy(Connection connection) throws Exception {
        CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
        ask(connection, "CREATE TEMP TABLE copied (id int, name text)");
        StringBuilder text = new StringBuilder();
        for (int id = 0; id < 5000; id++) {
            text.append(id).append(",\"näme \"\"").append(id).append("\"\"\"\n");
        }
        say(manager.copyIn("COPY copied FROM STDIN (FORMAT csv)", new StringReader(text.toString())));
        ByteArrayOutputStream binary = new ByteArrayOutputStream();
        say(manager.copyOut("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT binary)", binary));
        say(binary.size(), Arrays.hashCode(binary.toByteArray()));
        say(manager.copyIn("COPY copied FROM STDIN (FORMAT binary)", new ByteArrayInputStream(binary.toByteArray())));
        CopyIn piecewise = manager.copyIn("COPY copied FROM STDIN");
        for (String piece : new String[] {"900", "0\tpie", "ce\n9001\t\\N", "\n"}) {
            byte[] bytes = piece.getBytes(StandardCharsets.UTF_8);
            piecewise.writeToCopy(bytes, 0, bytes.length);
            piecewise.flushCopy();
        }
        say(piecewise.endCopy());
        CopyIn given = manager.copyIn("COPY copied FROM STDIN");
        given.writeToCopy("1\tgone\n".getBytes(StandardCharsets.UTF_8), 0, 7);
        given.cancelCopy();
        try {
            manager.copyIn("COPY copied FROM STDIN", new StringReader("1\tgood\nnot a number\tbad\n"));
        } catch (SQLException error) {
            say(error.getSQLState(), error.getMessage());
        }
        StringWriter out = new StringWriter();
        manager.copyOut("COPY (SELECT id, name FROM copied WHERE id < 3 OR id >= 9000 ORDER BY id, name) TO STDOUT (FORMAT csv, HEADER)", out);
        say(out);
        ask(connection, "SELECT count(*), sum(id) FROM copied");
    }

    private static void metadata(Connection connection) throws SQLException {
        DatabaseMetaData data = connection.getMetaData();
        say(data.getDatabaseProductName(), data.getDatabaseProductVersion(), data.getMaxColumnNameLength());
        all(data.getSchemas());
        all(data.getTables(null, "public", "%", new String[] {"TABLE", "VIEW", "SEQUENCE", "INDEX"}));
        all(data.getColumns(null, "public", "%", "%"));
        all(data.getPrimaryKeys(null, "public", "people"));
        all(data.getImportedKeys(null, "public", "orders"));
        all(data.getIndexInfo(null, "public", "people", false, false));
        all(data.getTablePrivileges(null, "public", "people"));
        all(data.getProcedures(null, "public", "%"));
        all(data.getFunctionColumns(null, "public", "%", "%"));
        all(data.getTypeInfo());
        try (PreparedStatement statement = connection.prepareStatement("SELECT o.id AS number, name, day FROM orders o JOIN people p ON p.id = ? WHERE day > ?")) {
            ResultSetMetaData columns = statement.getMetaData();
            for (int at = 1; at <= columns.getColumnCount(); at++) {
                say(columns.getColumnLabel(at), columns.getTableName(at), columns.getColumnTypeName(at), columns.isNullable(at), columns.isAutoIncrement(at));
            }
            say(statement.getParameterMetaData().getParameterTypeName(1), statement.getParameterMetaData().getParameterTypeName(2));
        }
    }

    private static void prepared(Connection connection) throws SQLException {
        String[] texts = {"SELECT name FROM people WHERE id = ?", "SELECT ?::int * 2", "SELECT count(*) FROM orders WHERE id < ?"};
        for (int round = 0; round < 7; round++) {
            for (String text : texts) {
                try (PreparedStatement statement = connection.prepareStatement(text)) {
                    statement.setInt(1, round);
                    all(statement.executeQuery());
                }
            }
        }
        // A plan whose result changes its type: the driver sees 0A000 or 26000 and, outside a transaction, prepares again.
        ask(connection, "CREATE TEMP TABLE changing (a int)");
        ask(connection, "INSERT INTO changing VALUES (1)");
        try (PreparedStatement statement = connection.prepareStatement("SELECT * FROM changing")) {
            for (int round = 0; round < 3; round++) {
                all(statement.executeQuery());
            }
            ask(connection, "ALTER TABLE changing ADD b text DEFAULT 'new'");
            all(statement.executeQuery());
            ask(connection, "DEALLOCATE ALL");
            try {
                all(statement.executeQuery());
            } catch (SQLException error) {
                say(error.getSQLState(), error.getMessage());
            }
        }
    }

    private static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            try {
                statement.executeQuery("SELECT pg_sleep(60)");
            } catch (SQLException error) {
                // Not the text: a statement that a busy gateway has not forwarded yet is cancelled there, in its own words.
                say("timeout", error.getSQLState());
            }
            statement.setQueryTimeout(0);
            Thread other = new Thread(() -> {
                try {
                    awaitActive();
                    statement.cancel();
                } catch (Exception error) {
                    say(error);
                }
            });
            other.start();
            try {
                statement.executeQuery("SELECT pg_sleep(60) /* of the thread */");
            } catch (SQLException error) {
                say("cancel", error.getSQLState(), error.getMessage());
            }
            other.join();
            say(statement.execute("SELECT 1"));
        }
    }

    /** A cancel that comes before its statement cancels nothing, so one waits until the server works on it. */
    private static void awaitActive() throws Exception {
        String question = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%of the thread%' AND state = 'active' AND pid <> pg_backend_pid()";
        try (Connection watcher = DriverManager.getConnection(url, who[0], who[1]); Statement statement = watcher.createStatement()) {
            for (int round = 0; round < SECONDS_A_WAIT * 20; round++) {
                try (ResultSet rows = statement.executeQuery(question)) {
                    rows.next();
                    if (rows.getInt(1) > 0) {
                        return;
                    }
                }
                Thread.sleep(50);
            }
        }
    }

    private static void types(Connection connection) throws SQLException {
        // The second use of the text is answered in binary.
        for (int round = 0; round < 3; round++) {
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::int8, ?::float8, ?::numeric, ?::date, ?::bytea, ?::text[], ?::uuid, ?::bool, ?::jsonb")) {
                Array array = connection.createArrayOf("text", new String[] {"a", null, "ü"});
                statement.setLong(1, Long.MIN_VALUE);
                statement.setDouble(2, 0.1);
                statement.setBigDecimal(3, new java.math.BigDecimal("12345.6789"));
                statement.setDate(4, java.sql.Date.valueOf("2024-02-29"));
                statement.setBytes(5, new byte[] {0, -1, 10});
                statement.setArray(6, array);
                statement.setObject(7, java.util.UUID.fromString("00000000-0000-0000-0000-00000000002a"));
                statement.setBoolean(8, true);
                statement.setString(9, "{\"a\": [1]}");
                all(statement.executeQuery());
            }
        }
    }

    private static void transactions(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        ask(connection, "INSERT INTO people VALUES (30, 'kept')");
        Savepoint point = connection.setSavepoint("point");
        ask(connection, "INSERT INTO people VALUES (31, 'gone')");
        connection.rollback(point);
        try {
            ask(connection, "INSERT INTO people VALUES (30, 'twice')");
        } catch (SQLException error) {
            say(error.getSQLState(), error.getMessage());
        }
        // With autosave the transaction survives the error.
        ask(connection, "SELECT count(*) FROM people");
        connection.commit();
        connection.setReadOnly(true);
        try {
            ask(connection, "DELETE FROM people");
        } catch (SQLException error) {
            say(error.getSQLState(), error.getMessage());
        }
        connection.rollback();
        ask(connection, "SELECT * FROM people ORDER BY id");
        connection.commit();
    }

    private static void notices(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
            for (SQLWarning warning = statement.getWarnings(); warning != null; warning = warning.getNextWarning()) {
                say(warning.getSQLState(), warning.getMessage());
            }
            statement.execute("LISTEN channel");
            try (Connection other = DriverManager.getConnection(url, who[0], who[1])) {
                ask(other, "NOTIFY channel, 'to be heard'");
            }
            int heard = 0;
            while (heard < 1) {
                PGNotification[] all = connection.unwrap(PGConnection.class).getNotifications(SECONDS_A_WAIT * 1000);
                if (all == null || all.length == 0) {
                    say("nothing was heard");
                    return;
                }
                for (PGNotification one : all) {
                    say(one.getName(), one.getParameter());
                    heard++;
                }
            }
        }
    }
}
