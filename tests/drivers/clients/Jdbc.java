// PostgreSQL's JDBC driver: the scenario of test_drivers.py.
// usage: java -cp postgresql.jar Jdbc.java URL USER PASSWORD   (prints one JSON object)
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;

public class Jdbc {
    public static void main(String[] arguments) throws SQLException {
        try (Connection connection = DriverManager.getConnection(arguments[0], arguments[1], arguments[2])) {
            int parameter;
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::int + 1")) {
                statement.setInt(1, 41);
                parameter = Integer.parseInt(first(statement.executeQuery()));
            }
            List<String> text = new ArrayList<>();
            try (Statement statement = connection.createStatement();
                    ResultSet rows = statement.executeQuery("SELECT name FROM people ORDER BY id")) {
                while (rows.next()) {
                    text.add(quote(rows.getString(1)));
                }
            }
            // Past the driver's threshold of five uses the statement is prepared on the server by name.
            List<String> prepared = new ArrayList<>();
            try (PreparedStatement statement = connection.prepareStatement("SELECT name FROM people WHERE id = ?")) {
                for (int use = 0; use < 10; use++) {
                    statement.setInt(1, 1 + use % 2);
                    prepared.add(quote(first(statement.executeQuery())));
                }
            }
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("INSERT INTO people VALUES (9, 'gone')");
            }
            connection.rollback();
            connection.setAutoCommit(true);
            String count;
            String after;
            String sqlstate = null;
            try (Statement statement = connection.createStatement()) {
                count = first(statement.executeQuery("SELECT count(*) FROM people"));
                try {
                    statement.executeQuery("SELECT 1 / 0");
                } catch (SQLException error) {
                    sqlstate = error.getSQLState();
                }
                after = first(statement.executeQuery("SELECT 1"));
            }
            System.out.printf("{\"parameter\": %d, \"text\": [%s], \"prepared\": [%s], \"count\": %s, \"sqlstate\": \"%s\", \"after\": %s}%n",
                    parameter, String.join(", ", text), String.join(", ", prepared.subList(8, 10)), count, sqlstate, after);
        }
    }

    private static String first(ResultSet rows) throws SQLException {
        rows.next();
        return rows.getString(1);
    }

    private static String quote(String text) {
        return '"' + text + '"';
    }
}
