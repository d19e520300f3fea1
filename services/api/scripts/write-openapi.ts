import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openApiText } from "../test/support/openapi-text.ts";

const path = join(import.meta.dirname, "..", "openapi.json");
await writeFile(path, await openApiText());
process.stdout.write(`wrote ${path}\n`);
