import { cpus } from "node:os";
import { plan, RunSpec, type DatasetStatistics } from "@drydock/spec";

/*
 * Times the planner in this process: without data (aim: under 20 ms) and with a data set of 10,000 rows (aim: under 2 s).
 * Usage: node test/bench/planner.ts [--json]
 */
interface Timing {
  readonly name: string;
  readonly coldMs: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly maxMs: number;
  readonly repetitions: number;
}

/** Ten thousand rows with 10,000 different picture sizes, the worst case for the cache of sizes. */
function bigDataset(): DatasetStatistics {
  const samples = Array.from({ length: 10_000 }, (_, index) => ({
    images: [[320 + (index % 3000), 240 + ((index * 7) % 2500)]] as [number, number][],
    promptCharacters: 20 + (index % 400),
    answerCharacters: 5 + (index % 200),
    promptTokens: 8 + (index % 120),
    answerTokens: 3 + (index % 60),
  }));
  return {
    rows: 10_000,
    trainRows: 8000,
    validationRows: 2000,
    images: 10_000,
    pairs: 10_000,
    boxes: 0,
    tasks: { vqa: 10_000 },
    samples,
  };
}

function specOf(model: string, mode: "lora" | "full"): RunSpec {
  return RunSpec.parse({ name: "bench", model, mode, dataset: "bench@1", task: "vqa" });
}

function time(name: string, repetitions: number, work: () => unknown): Timing {
  const elapsed = Array.from({ length: repetitions + 1 }, () => {
    const start = performance.now();
    work();
    return performance.now() - start;
  });
  const [coldMs = 0, ...warm] = elapsed;
  const sorted = warm.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { name, coldMs, p50Ms: at(0.5), p95Ms: at(0.95), maxMs: at(1), repetitions };
}

/** Parsed before the clock runs: the API has parsed a spec before it plans. */
const specs = {
  small: specOf("qwen3.5-4b", "lora"),
  large: specOf("qwen3.5-27b", "full"),
  dynamic: specOf("qwen3-vl-8b", "lora"),
  tiled: specOf("internvl3.5-8b", "lora"),
};
const statistics = bigDataset();
const timings = [
  time("no data, qwen3.5-4b lora (first plan of the process)", 200, () => plan({ spec: specs.small })),
  time("no data, qwen3.5-27b full (longest search)", 200, () => plan({ spec: specs.large })),
  time("10,000 rows, qwen3-vl-8b lora", 20, () => plan({ spec: specs.dynamic, statistics })),
  time("10,000 rows, internvl3.5-8b lora (tiles)", 20, () => plan({ spec: specs.tiled, statistics })),
];

if (process.argv.includes("--json")) process.stdout.write(`${JSON.stringify(timings)}\n`);
else {
  process.stdout.write(
    `Planner on ${cpus().length} × ${cpus()[0]?.model ?? "unknown processor"}, Node ${process.version}\n`,
  );
  for (const timing of timings)
    process.stdout.write(
      `${timing.name.padEnd(54)} first ${timing.coldMs.toFixed(2).padStart(8)} ms   p50 ${timing.p50Ms.toFixed(2).padStart(8)} ms   p95 ${timing.p95Ms.toFixed(2).padStart(8)} ms   max ${timing.maxMs.toFixed(2).padStart(8)} ms   (${timing.repetitions} ×)\n`,
    );
}
