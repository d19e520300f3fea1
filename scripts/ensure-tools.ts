// Before tests that start whole servers: find or build the Temporal server and the S3 server, so that no test waits for a build.
import { ensureVersitygw } from "@drydock/kit/versitygw";
import { ensureTemporal } from "../services/cli/src/up/temporal-server.ts";

console.log(`temporal: ${await ensureTemporal((line) => console.log(line))}`);
console.log(`versitygw: ${await ensureVersitygw()}`);
