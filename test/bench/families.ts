/*
 * `make bench-families`: training and decoding tokens/s and peak memory of every model family, Drydock and the peer (PyTorch +
 * transformers + PEFT) in turn, on the same model, rows and threads. Fresh processes; the median counts.
 *
 * usage: families.ts --python PYTHON [--family NAME]… [--steps N] [--threads N]
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { openModelFolder } from "@drydock/engine";
import { parityFamilies } from "../golden/round-trips.ts";

interface Measure {
  readonly seconds: number;
  readonly secondsLow: number;
  readonly tokens: number;
  readonly peakMemoryBytes: number;
}

const run = promisify(execFile);
const { values: flags } = parseArgs({
  options: {
    python: { type: "string", default: "python3" },
    family: { type: "string", multiple: true },
    steps: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
  },
});

async function lastLine<T>(program: string, parameters: readonly string[]): Promise<T> {
  const { stdout } = await run(program, [...parameters], { maxBuffer: 1 << 26 });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as T;
}

async function measureFamily(family: string, script: string, folder: string): Promise<Record<string, unknown>[]> {
  const peerScript = ["test/bench/peer/family_peer.py", script, folder];
  const { parameters } = await lastLine<{ parameters: number }>(flags.python, [...peerScript, "prepare"]);
  const { model } = await openModelFolder(join(folder, "model"));
  const counts = ["--steps", flags.steps, "--threads", flags.threads];
  const rows: Record<string, unknown>[] = [];
  for (const what of model.loraRefusal === null ? ["full", "lora", "decode"] : ["full", "decode"]) {
    const own = await lastLine<Measure>(process.execPath, ["test/bench/family-subject.ts", folder, what, ...counts]);
    const peer = await lastLine<Measure>(flags.python, [...peerScript, what, ...counts]);
    rows.push({
      family,
      "parameters M": Number((parameters / 1e6).toFixed(1)),
      what,
      "tokens/s": Math.round(own.tokens / own.seconds),
      "peer tokens/s": Math.round(peer.tokens / peer.seconds),
      "times as fast": Number((peer.seconds / own.seconds).toFixed(2)),
      "times as fast at best": Number((peer.secondsLow / own.secondsLow).toFixed(2)),
      "memory MB": Math.round(own.peakMemoryBytes / 1e6),
      "peer memory MB": Math.round(peer.peakMemoryBytes / 1e6),
      "share of its memory": Number((own.peakMemoryBytes / peer.peakMemoryBytes).toFixed(2)),
    });
    console.log(JSON.stringify(rows.at(-1)));
  }
  return rows;
}

const table: Record<string, unknown>[] = [];
for (const { family, script } of await parityFamilies()) {
  if (flags.family && !flags.family.includes(family)) continue;
  const folder = await mkdtemp(join(tmpdir(), "drydock-bench-"));
  try {
    table.push(...(await measureFamily(family, script, folder)));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
console.table(table);
await mkdir(".drydock/bench", { recursive: true });
await writeFile(".drydock/bench/families.json", `${JSON.stringify(table, null, 2)}\n`);
