// A process that is `drydock up` for a test: prints one JSON line when ready, ends on SIGTERM or when killed.
import { up } from "../../services/cli/src/up/up.ts";

const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());
process.once("SIGINT", () => stop.abort());
await up({
  state: process.argv[2],
  port: 0,
  tell: (line) => process.stderr.write(`${line}\n`),
  signal: stop.signal,
  onReady: (connection) => process.stdout.write(`${JSON.stringify(connection)}\n`),
});
