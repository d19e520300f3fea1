import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { promisify } from "node:util";
import type { Connection } from "@drydock/cli";
import type { Pantry } from "./pantry/make-pantry.ts";

const run = promisify(execFile);
const cliMain = resolve(import.meta.dirname, "../services/cli/src/main.ts");

/** Asks the trained model through the command line, as a person would, and has the answer drawn. */
export async function predictWithDrawing(
  server: Connection,
  model: string,
  pantry: Pantry,
  directory: string,
): Promise<{ command: string; text: string; drawing: string }> {
  const rows = (await readFile(join(pantry.boxesDirectory, "valid", "rows.jsonl"), "utf8")).split("\n");
  const row = JSON.parse(rows[1] ?? "{}") as { asset: { filename: string }; contents: { caption: string } };
  const image = join(pantry.boxesDirectory, "valid", row.asset.filename);
  const drawing = join(directory, "prediction.png");
  const values = ["predict", model, "--image", image, "--prompt", `Find "${row.contents.caption}".`, "--draw", drawing];
  const { stdout } = await run(process.execPath, ["--no-warnings", cliMain, ...values], {
    env: { ...process.env, DRYDOCK_URL: server.url, DRYDOCK_API_KEY: server.key },
  });
  const shown = values
    .map((value) => (value === image || value === drawing ? relative(process.cwd(), value) : value))
    .map((value) => (/[\s"]/.test(value) ? `'${value}'` : value));
  return {
    command: `npx drydock ${shown.join(" ")}`,
    text: stdout,
    drawing: `data:image/png;base64,${(await readFile(drawing)).toString("base64")}`,
  };
}
