//! A client made with tokio-postgres: plays scenarios and prints what it saw, one JSON object.
//!
//! usage: tokio-postgres-client URL      (`host=… port=… user=… dbname=… password=…`, without TLS)
//!
//! Nothing is judged here but what never ends: test_tokio_postgres.py compares what two servers made it say.

use futures_util::future::{join_all, poll_fn};
use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{Oid, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Error, NoTls, Row, SimpleQueryMessage};

type Said = Result<Value, Box<dyn std::error::Error>>;
type Messages = mpsc::UnboundedReceiver<AsyncMessage>;

const SECONDS_A_WAIT: u64 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: tokio-postgres-client URL")?;
    let (mut client, mut messages) = connect(&url).await?;
    let said = json!({
        "simple": simple(&client).await?,
        "typed": typed(&client).await?,
        "introspected": introspected(&client).await?,
        "prepared": prepared(&client).await?,
        "copied": copied(&client).await?,
        "portals": portals(&mut client).await?,
        "pipelined": pipelined(&client).await?,
        "abandoned": abandoned(&client).await?,
        "transactions": transactions(&mut client).await?,
        "errors": errors(&client).await?,
        "cancelled": cancelled(&client).await?,
        "notices": notices(&client, &mut messages).await?,
        "notified": notified(&url, &client, &mut messages).await?,
    });
    println!("{said}");
    Ok(())
}

/// A connection, and what the server says on it without being asked.
async fn connect(url: &str) -> Result<(Client, Messages), Error> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if sender.send(message).is_err() {
                // Nobody reads messages any more; the connection still has to be driven.
                let _ = (&mut connection).await;
                return;
            }
        }
    });
    Ok((client, receiver))
}

async fn simple(client: &Client) -> Said {
    let said = client
        .simple_query(
            "SELECT id, name FROM people ORDER BY id; SELECT NULL AS nothing; CREATE TABLE made (n int); ; \
             INSERT INTO made VALUES (1), (2)",
        )
        .await?;
    let one = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => json!((0..row.len()).map(|at| row.get(at)).collect::<Vec<_>>()),
        SimpleQueryMessage::CommandComplete(rows) => json!(rows),
        SimpleQueryMessage::RowDescription(columns) => json!(columns.iter().map(|c| c.name()).collect::<Vec<_>>()),
        other => json!(format!("{other:?}")),
    };
    Ok(said.iter().map(one).collect())
}

async fn typed(client: &Client) -> Said {
    let sql = "SELECT $1::bool, $2::int2, $3::int4, $4::int8, $5::float4, $6::float8, $7::text, $8::bytea, $9::int4[], \
               $10::text[], $11::oid, $12::char, $13::text";
    let row = client
        .query_one(
            sql,
            &[
                &true,
                &-7i16,
                &70_000i32,
                &(1i64 << 40),
                &0.5f32,
                &f64::MIN_POSITIVE,
                &"Ümit 🙂",
                &&b"\0\xff\n"[..],
                &vec![1, 2, 3],
                &vec![Some("a"), None, Some("")],
                &(4_000_000_000u32 as Oid),
                &"c",
                &None::<&str>,
            ],
        )
        .await?;
    let columns: Vec<String> = row.columns().iter().map(|c| format!("{} {}", c.name(), c.type_())).collect();
    let values = (
        (row.get::<_, bool>(0), row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)),
        (row.get::<_, f32>(4), row.get::<_, f64>(5), row.get::<_, &str>(6), row.get::<_, Vec<u8>>(7)),
        (row.get::<_, Vec<i32>>(8), row.get::<_, Vec<Option<String>>>(9), row.get::<_, Oid>(10)),
        (row.get::<_, &str>(11), row.get::<_, Option<&str>>(12)),
    );
    Ok(json!({ "columns": columns, "values": format!("{values:?}") }))
}

/// For types it does not know the driver asks the catalog by prepared statements of its own.
async fn introspected(client: &Client) -> Said {
    let statement = client.prepare("SELECT mood, at, zip FROM kinds WHERE mood = $1").await?;
    let columns: Vec<Value> = statement
        .columns()
        .iter()
        .map(|column| {
            json!([
                column.name(),
                column.type_().to_string(),
                format!("{:?}", column.type_().kind()).replace(char::is_numeric, "")
            ])
        })
        .collect();
    Ok(json!({ "columns": columns, "parameters": statement.params().iter().map(Type::to_string).collect::<Vec<_>>() }))
}

async fn prepared(client: &Client) -> Said {
    let mut seen = Vec::new();
    let statement = client.prepare("SELECT name FROM people WHERE id = $1").await?;
    for use_number in 0..50 {
        let found = client.query_opt(&statement, &[&(use_number % 4)]).await?;
        seen.push(found.map(|row| row.get::<_, String>(0)));
    }
    drop(statement);
    for _ in 0..5 {
        // Dropping one closes it on the server before the next is made.
        let typed = client.prepare_typed("SELECT $1 || '!'", &[Type::TEXT]).await?;
        seen.push(Some(client.query_one(&typed, &[&"a"]).await?.get(0)));
    }
    let row = &client.query_typed("SELECT $1 + $2", &[(&40i32, Type::INT4), (&2i32, Type::INT4)]).await?[0];
    let inserted = client.execute("INSERT INTO people VALUES ($1, $2)", &[&77i32, &"gone"]).await?;
    let deleted = client.execute("DELETE FROM people WHERE id = $1", &[&77i32]).await?;
    Ok(json!({ "seen": seen, "sum": row.get::<_, i32>(0), "inserted": inserted, "deleted": deleted }))
}

async fn copied(client: &Client) -> Said {
    client.batch_execute("CREATE TABLE copied (id int4, name text, raw bytea)").await?;
    let kinds = [Type::INT4, Type::TEXT, Type::BYTEA];
    let writer = BinaryCopyInWriter::new(client.copy_in("COPY copied FROM STDIN BINARY").await?, &kinds);
    pin_mut!(writer);
    for id in 0..2000i32 {
        let name = (id % 3 != 0).then(|| format!("name {id}"));
        let values: [&(dyn ToSql + Sync); 3] = [&id, &name, &vec![id as u8; id as usize % 40]];
        writer.as_mut().write(&values).await?;
    }
    let into = writer.finish().await?;
    let text = client.copy_in("COPY copied FROM STDIN").await?;
    pin_mut!(text);
    text.send(&b"5000\tfive\\tthousand\t\\\\x00\n5001\t\\N\t"[..]).await?;
    text.send(&b"\\N\n"[..]).await?;
    let into_text = text.finish().await?;
    // A sink that is dropped sends CopyFail: nothing of it may stay.
    {
        let failing = client.copy_in("COPY copied FROM STDIN").await?;
        pin_mut!(failing);
        failing.send(&b"6000\tgone\t\\N\n"[..]).await?;
    }
    let rows = BinaryCopyOutStream::new(
        client.copy_out("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT BINARY").await?,
        &kinds,
    );
    let rows: Vec<_> = rows.try_collect().await?;
    let last = rows.last().ok_or("no rows")?;
    let last =
        format!("{:?}", (last.try_get::<i32>(0)?, last.try_get::<Option<&str>>(1)?, last.try_get::<Option<&[u8]>>(2)?));
    let mut raw = Vec::new();
    let stream = client.copy_out("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT BINARY").await?;
    pin_mut!(stream);
    while let Some(piece) = stream.try_next().await? {
        raw.extend_from_slice(&piece);
    }
    Ok(json!({ "into": into, "into text": into_text, "out": rows.len(), "last": last, "raw": raw }))
}

async fn portals(client: &mut Client) -> Said {
    let transaction = client.transaction().await?;
    let statement = transaction.prepare("SELECT n FROM generate_series(1, $1) n").await?;
    let (first, second) = (transaction.bind(&statement, &[&10]).await?, transaction.bind(&statement, &[&4]).await?);
    let mut pages: Vec<Vec<i32>> = Vec::new();
    // Two portals suspended in turn, each to its end and once past it.
    for _ in 0..5 {
        for portal in [&first, &second] {
            let page = transaction.query_portal(portal, 3).await?;
            pages.push(page.iter().map(|row| row.get(0)).collect());
        }
    }
    drop(first);
    let rest = transaction.bind("SELECT n FROM generate_series(1, 5) n", &[]).await?;
    pages.push(transaction.query_portal(&rest, 0).await?.iter().map(|row| row.get(0)).collect());
    drop(rest);
    transaction.commit().await?;
    Ok(json!(pages))
}

async fn pipelined(client: &Client) -> Said {
    let statement = client.prepare("SELECT 100 / $1::int4, repeat('x', $1 * 50)").await?;
    let numbers: Vec<i32> = (0..60).map(|n| n % 20).collect();
    let answers = join_all(numbers.iter().map(|number| {
        let statement = &statement;
        async move { client.query_one(statement, &[number]).await }
    }))
    .await;
    let mixed = join_all(["SELECT 1", "SELECT FROM nowhere", "SELECT 'two'"].map(|sql| client.query(sql, &[]))).await;
    let (simple, extended, copy) = tokio::join!(
        client.simple_query("SELECT 7"),
        client.query("SELECT count(*) FROM people", &[]),
        client.simple_query("SELECT broken"),
    );
    Ok(json!({
        "answers": answers.iter().map(|one| answer(one.as_ref().map(|row| (row.get::<_, i32>(0), row.get::<_, String>(1).len())))).collect::<Vec<_>>(),
        "mixed": mixed.iter().map(|one| answer(one.as_ref().map(Vec::len))).collect::<Vec<_>>(),
        "joined": [answer(simple.as_ref().map(Vec::len)), answer(extended.as_ref().map(Vec::len)), answer(copy.as_ref().map(Vec::len))],
    }))
}

fn answer<T: std::fmt::Debug>(one: Result<T, &Error>) -> Value {
    match one {
        Ok(value) => json!(format!("{value:?}")),
        Err(error) => json!(error.code().map(|code| code.code())),
    }
}

/// A result nobody reads to its end is still answered to its end.
async fn abandoned(client: &Client) -> Said {
    let none: [&(dyn ToSql + Sync); 0] = [];
    let first: Row = {
        let rows = client.query_raw("SELECT n, repeat('y', 1000) FROM generate_series(1, 3000) n", none).await?;
        pin_mut!(rows);
        rows.next().await.ok_or("no row")??
    };
    let after = client.query_one("SELECT 'after'", &[]).await?;
    Ok(json!([first.get::<_, i32>(0), after.get::<_, String>(0)]))
}

async fn transactions(client: &mut Client) -> Said {
    let mut transaction = client
        .build_transaction()
        .read_only(false)
        .isolation_level(tokio_postgres::IsolationLevel::Serializable)
        .start()
        .await?;
    transaction.execute("INSERT INTO people VALUES (50, 'kept')", &[]).await?;
    let inner = transaction.savepoint("inside").await?;
    inner.execute("INSERT INTO people VALUES (51, 'gone')", &[]).await?;
    inner.rollback().await?;
    // One that is dropped is rolled back by the driver, without being waited for.
    drop(transaction.transaction().await?);
    transaction.commit().await?;
    let read_only = client.build_transaction().read_only(true).start().await?;
    let refused = read_only.execute("DELETE FROM people", &[]).await;
    drop(read_only);
    let left = client.query("SELECT id FROM people ORDER BY id", &[]).await?;
    Ok(json!([answer(refused.as_ref()), left.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()]))
}

async fn errors(client: &Client) -> Said {
    let mut said = Vec::new();
    for sql in [
        "INSERT INTO people VALUES (1, 'twice')",
        "SELECT lower(1, 2)",
        "SELECT 'x'::int",
        "SELECT missing FROM people",
    ] {
        let error = client.execute(sql, &[]).await.err().ok_or("no error")?;
        let db = error.as_db_error().ok_or("no error of the server")?;
        said.push(json!({ "said": db.to_string(), "code": db.code().code(), "detail": db.detail(), "constraint": db.constraint(),
            "table": db.table(), "position": format!("{:?}", db.position()), "routine": db.routine(), "file": db.file(), "line": db.line() }));
    }
    Ok(json!(said))
}

async fn cancelled(client: &Client) -> Said {
    let token = client.cancel_token();
    let sleeping = client.query("SELECT pg_sleep(60)", &[]);
    let cancel = async {
        // As long as it takes to be running: a cancel that comes before its statement cancels nothing.
        tokio::time::sleep(Duration::from_millis(500)).await;
        token.cancel_query(NoTls).await
    };
    let (slept, asked) =
        tokio::time::timeout(Duration::from_secs(SECONDS_A_WAIT), async { tokio::join!(sleeping, cancel) }).await?;
    asked?;
    let after = client.query_one("SELECT 'after'", &[]).await?;
    Ok(json!([answer(slept.as_ref().map(Vec::len)), after.get::<_, String>(0)]))
}

async fn notices(client: &Client, messages: &mut Messages) -> Said {
    client
        .batch_execute(
            "DO $$ BEGIN RAISE NOTICE 'first %', 1; RAISE WARNING 'second' USING HINT = 'h', ERRCODE = '01007'; END $$",
        )
        .await?;
    client.batch_execute("DROP TABLE IF EXISTS nobody").await?;
    let mut said = Vec::new();
    while said.len() < 3 {
        if let AsyncMessage::Notice(notice) = next(messages).await? {
            said.push(json!([notice.severity(), notice.code().code(), notice.message(), notice.hint()]));
        }
    }
    Ok(json!(said))
}

async fn notified(url: &str, client: &Client, messages: &mut Messages) -> Said {
    client.batch_execute("LISTEN channel").await?;
    let (other, _messages) = connect(url).await?;
    other.batch_execute("BEGIN; NOTIFY channel, 'one'; NOTIFY channel; COMMIT").await?;
    other.execute("SELECT pg_notify('channel', $1)", &[&"drei ß"]).await?;
    client.batch_execute("NOTIFY channel, 'to myself'").await?;
    let mut said = Vec::new();
    while said.len() < 4 {
        if let AsyncMessage::Notification(notification) = next(messages).await? {
            said.push(json!([notification.channel(), notification.payload()]));
        }
    }
    client.batch_execute("UNLISTEN *").await?;
    Ok(json!(said))
}

async fn next(messages: &mut Messages) -> Result<AsyncMessage, Box<dyn std::error::Error>> {
    let message = tokio::time::timeout(Duration::from_secs(SECONDS_A_WAIT), messages.recv()).await?;
    Ok(message.ok_or("the connection ended")?)
}
