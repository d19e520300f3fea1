// Before tests that start whole servers: find or build the Temporal server, the S3 server and the servers of the test cluster, so that no test waits for a build.
import { ensureTemporal } from "../services/cli/src/up/temporal-server.ts";

console.log(`temporal: ${await ensureTemporal((line) => console.log(line))}`);
await import("../test/cluster/build/build-tools.ts");
