// Before tests that start whole servers: find or build the Temporal server, so that no test waits for a build.
import { ensureTemporal } from "../services/cli/src/up/temporal-server.ts";

console.log(`temporal: ${await ensureTemporal((line) => console.log(line))}`);
