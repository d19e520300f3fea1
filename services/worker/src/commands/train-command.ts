import { join, resolve } from "node:path";
import { engineDoors } from "../engine/engine-doors.ts";
import { readMessagesFile } from "../rows/read-messages.ts";
import { parseArguments } from "./arguments.ts";
import { readStandaloneConfig } from "./standalone-config.ts";
import { trainAlone } from "./train.ts";

/** `train`: the worker's own loop without a control plane. */
export async function trainCommand(values: readonly string[]): Promise<number> {
  const given = parseArguments("train --config FILE --data FILE.jsonl --out DIR [--adapter DIR] [--resume]", values, {
    config: { type: "string" },
    data: { type: "string" },
    out: { type: "string" },
    adapter: { type: "string" },
    resume: { type: "boolean" },
  });
  const config = await readStandaloneConfig(given.required("config"));
  const outDirectory = resolve(given.required("out"));
  const records = await readMessagesFile(resolve(given.required("data")), {
    task: config.spec.task,
    scratchDirectory: join(outDirectory, ".scratch", "images"),
  });
  return await trainAlone(
    { config, records, outDirectory, adapterDirectory: given.path("adapter"), resume: given.flag("resume") },
    engineDoors,
  );
}
