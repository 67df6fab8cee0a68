// node-postgres: the scenario of test_drivers.py. usage: node node_pg.mjs '{"host": …}'   (prints one JSON object)
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.cwd()}/package.json`);
const { Client } = require('pg');
const to = JSON.parse(process.argv[2]);
const client = new Client({
  host: to.host, port: to.port, user: to.user, database: to.database, password: to.password,
  ssl: to.ca ? { ca: readFileSync(to.ca), servername: 'localhost' } : false,
});
await client.connect();
const said = {};
said.parameter = (await client.query('SELECT $1::int + 1 AS n', [41])).rows[0].n;
said.text = (await client.query('SELECT name FROM people ORDER BY id')).rows.map((row) => row.name);
said.prepared = [];
for (const id of [1, 2]) {
  const answer = await client.query({ name: 'by_id', text: 'SELECT name FROM people WHERE id = $1', values: [id] });
  said.prepared.push(answer.rows[0].name);
}
await client.query('BEGIN');
await client.query("INSERT INTO people VALUES (9, 'gone')");
await client.query('ROLLBACK');
said.count = Number((await client.query('SELECT count(*) FROM people')).rows[0].count);
said.sqlstate = await client.query('SELECT 1 / 0').then(() => null, (error) => error.code);
said.after = (await client.query('SELECT 1 AS one')).rows[0].one;
await client.end();
console.log(JSON.stringify(said));
