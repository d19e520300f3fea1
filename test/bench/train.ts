/*
 * `make bench-train`: seconds a step and peak memory of training, Drydock and the peer (PyTorch + transformers + PEFT) in
 * turn on the same model, batch and threads. Both sides are fresh processes; the median of the steps counts.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { trainCases, writeTrainCase } from "./train-cases.ts";

interface Measure {
  readonly secondsPerStep: number;
  readonly secondsPerStepLow: number;
  readonly peakMemoryBytes: number;
  readonly trainableParameters: number;
  readonly firstLoss: number;
  readonly lastLoss: number;
}

const run = promisify(execFile);
const { values: flags } = parseArgs({
  options: {
    python: { type: "string" },
    threads: { type: "string", default: "2" },
    steps: { type: "string", default: "10" },
    only: { type: "string" },
  },
});

async function measure(
  program: string,
  script: string,
  files: { model: string; batch: string },
  mode: string,
): Promise<Measure> {
  const parameters = [
    "--model",
    files.model,
    "--batch",
    files.batch,
    "--mode",
    mode,
    "--steps",
    flags.steps,
    "--threads",
    flags.threads,
  ];
  const { stdout } = await run(program, [script, ...parameters], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Measure;
}

const table: Record<string, unknown>[] = [];
const scratch = await mkdtemp(join(tmpdir(), "drydock-bench-"));
try {
  for (const bench of trainCases.filter(({ name }) => flags.only === undefined || flags.only === name)) {
    const files = await writeTrainCase(bench, join(scratch, bench.name));
    for (const mode of ["full", "lora"]) {
      const own = await measure(process.execPath, "test/bench/train-subject.ts", files, mode);
      const peer =
        flags.python === undefined ? null : await measure(flags.python, "test/bench/peer/train_peer.py", files, mode);
      table.push({
        model: bench.name,
        mode,
        "ms/step": Math.round(own.secondsPerStep * 1000),
        "peer ms/step": peer && Math.round(peer.secondsPerStep * 1000),
        "times as fast": peer && Number((peer.secondsPerStep / own.secondsPerStep).toFixed(2)),
        // Of the fastest step of each: the figure to look at on a computer that has other work.
        "times as fast at best": peer && Number((peer.secondsPerStepLow / own.secondsPerStepLow).toFixed(2)),
        "ms/step at best": Math.round(own.secondsPerStepLow * 1000),
        "peer ms/step at best": peer && Math.round(peer.secondsPerStepLow * 1000),
        "memory MB": Math.round(own.peakMemoryBytes / 1e6),
        "peer memory MB": peer && Math.round(peer.peakMemoryBytes / 1e6),
        "share of its memory": peer && Number((own.peakMemoryBytes / peer.peakMemoryBytes).toFixed(2)),
        "loss after": Number(own.lastLoss.toFixed(4)),
        "peer loss after": peer && Number(peer.lastLoss.toFixed(4)),
      });
      console.log(JSON.stringify(table.at(-1)));
    }
  }
  console.table(table);
  await mkdir(".drydock/bench", { recursive: true });
  await writeFile(".drydock/bench/train.json", `${JSON.stringify(table, null, 2)}\n`);
} finally {
  await rm(scratch, { recursive: true, force: true });
}
