/*
 * `make bench-gpu`: training on the GPU of this computer: tokens/s, memory, and the ratio to PyTorch + PEFT on the same GPU where a
 * Python with torch is given. Says so and measures nothing where there is no GPU.
 *
 * usage: gpu.ts [--python PYTHON] [--only CASE] [--steps N] [--matrices bfloat16|float16|float32]
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { gpuNames } from "./gpu-memory.ts";
import { trainCases, writeTrainCase } from "./train-cases.ts";

interface Measure {
  readonly secondsPerStep: number;
  readonly tokensPerStep: number;
  readonly deviceMemoryBytes: number | null;
  readonly lastLoss: number;
}

const run = promisify(execFile);
const { values: flags } = parseArgs({
  options: {
    python: { type: "string" },
    only: { type: "string" },
    steps: { type: "string", default: "30" },
    matrices: { type: "string", default: "bfloat16" },
  },
});

async function measure(program: string, script: string, parameters: readonly string[]): Promise<Measure> {
  const { stdout } = await run(program, [script, ...parameters], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Measure;
}

async function measureAll(scratch: string): Promise<Record<string, unknown>[]> {
  const table: Record<string, unknown>[] = [];
  for (const bench of trainCases.filter(({ name }) => flags.only === undefined || flags.only === name)) {
    const files = await writeTrainCase(bench, join(scratch, bench.name));
    for (const mode of ["full", "lora"]) {
      const given = ["--model", files.model, "--batch", files.batch, "--mode", mode, "--steps", flags.steps];
      const device = ["--device", "cuda", "--matrices", flags.matrices];
      const own = await measure(process.execPath, "test/bench/train-subject.ts", [...given, ...device]);
      const peer =
        flags.python === undefined
          ? null
          : await measure(flags.python, "test/bench/peer/train_peer.py", [...given, ...device]);
      table.push({
        model: bench.name,
        mode,
        "tokens/s": Math.round(own.tokensPerStep / own.secondsPerStep),
        "GPU memory MB": own.deviceMemoryBytes === null ? null : Math.round(own.deviceMemoryBytes / 1e6),
        "peer tokens/s": peer && Math.round(own.tokensPerStep / peer.secondsPerStep),
        "peer GPU memory MB": peer?.deviceMemoryBytes ? Math.round(peer.deviceMemoryBytes / 1e6) : null,
        "times as fast": peer && Number((peer.secondsPerStep / own.secondsPerStep).toFixed(2)),
        "loss after": Number(own.lastLoss.toFixed(4)),
      });
      console.log(JSON.stringify(table.at(-1)));
    }
  }
  return table;
}

const gpus = await gpuNames();
if (gpus.length === 0) {
  console.log("no GPU on this computer (nvidia-smi finds none): nothing was measured");
} else {
  console.log(`GPU: ${gpus.join(", ")}`);
  const scratch = await mkdtemp(join(tmpdir(), "drydock-bench-"));
  try {
    const table = await measureAll(scratch);
    console.table(table);
    await mkdir(".drydock/bench", { recursive: true });
    await writeFile(".drydock/bench/gpu.json", `${JSON.stringify({ gpus, table }, null, 2)}\n`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
