export { DrydockClient, type RunAction, type UploadFile } from "./client/drydock-client.ts";
export { findConnection, type Connection } from "./client/connection.ts";
export { HttpClient } from "./client/http.ts";
export { bar, formatBytes, formatDuration } from "./output/quantities.ts";
export { createOutput, type Output } from "./output/output.ts";
export { table } from "./output/table.ts";
export { watchRuns } from "./commands/watch-runs.ts";
export { runProgram } from "./program.ts";
