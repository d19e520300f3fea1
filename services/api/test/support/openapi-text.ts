import { tmpdir } from "node:os";
import { FolderStorage, createLogger } from "@drydock/kit";
import { buildApp } from "../../src/app.ts";
import { openDatabase } from "../../src/store/database.ts";
import { FakeWorkflows } from "./fake-workflows.ts";

/** The OpenAPI document as it is committed: two spaces, a newline at the end. */
export async function openApiText(): Promise<string> {
  const logger = createLogger("openapi", { DRYDOCK_LOG_LEVEL: "silent" });
  const database = await openDatabase({ kind: "pglite", directory: null }, logger);
  const storage = new FolderStorage(tmpdir());
  const { server } = await buildApp({
    database,
    storage,
    workflows: new FakeWorkflows(),
    logger,
    modelsDirectory: tmpdir(),
    supply: undefined,
    internalKey: "internal-key-of-nobody",
  });
  await server.ready();
  const text = `${JSON.stringify(server.swagger(), null, 2)}\n`;
  await server.close();
  await database.close();
  return text;
}
