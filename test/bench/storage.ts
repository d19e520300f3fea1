import { spawn } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, open, rm, stat } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { openStorage } from "@drydock/kit";
import { Versitygw } from "@drydock/kit/versitygw";

/*
 * Object storage: one large file up and down, and many small objects, in a folder and on a real S3 server (versitygw on
 * the same disk and the same cores), with one part at a time and several. Each measurement is a process of its own with a
 * heap of 64 MiB; its peak resident memory is reported, less that of a process that only loads the code.
 * Usage: node test/bench/storage.ts [--mib 1024] [--repetitions 3] [--json]
 */
const mebibyte = 2 ** 20;
const smallObjects = 200;
const smallBytes = 32 * 1024;

interface Measurement {
  readonly seconds: number;
  readonly peakBytes: number;
}

interface Line {
  readonly storage: string;
  readonly what: string;
  readonly perSecond: number;
  readonly unit: "MB/s" | "objects/s";
  readonly peakMebibytes: number;
}

// The measured process: node test/bench/storage.ts --measure WHAT PATH
if (process.argv[2] === "--measure") {
  const [, , , what = "", path = ""] = process.argv;
  process.stdout.write(JSON.stringify(await measure(what, path)));
} else {
  await main();
}

async function measure(what: string, path: string): Promise<Measurement> {
  const storage = openStorage(process.env["STORAGE_URL"] ?? "");
  const small = new Uint8Array(smallBytes);
  await storage.put("warm", "up"); // the SDK is loaded at the first call
  const start = performance.now();
  switch (what) {
    case "nothing":
      break;
    case "upload":
      await storage.putFile("large", path);
      break;
    case "download":
      await storage.getFile("large", path);
      break;
    case "put small":
      await tenAtOnce(async (index) => await storage.put(`small/${index}`, small));
      break;
    case "get small":
      await tenAtOnce(async (index) => void (await storage.get(`small/${index}`)));
      break;
    default:
      throw new Error(`nothing is called "${what}"`);
  }
  return { seconds: (performance.now() - start) / 1000, peakBytes: process.resourceUsage().maxRSS * 1024 };
}

async function tenAtOnce(action: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  async function work(): Promise<void> {
    while (next < smallObjects) await action(next++);
  }
  await Promise.all(Array.from({ length: 10 }, work));
}

async function measureApart(
  what: string,
  path: string,
  environment: Readonly<Record<string, string>>,
): Promise<Measurement> {
  const child = spawn(process.execPath, ["--max-old-space-size=64", import.meta.filename, "--measure", what, path], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...environment },
  });
  let printed = "";
  child.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString()));
  const [exitCode] = (await once(child, "exit")) as [number | null];
  if (exitCode !== 0) throw new Error(`${what} ended with ${exitCode}`);
  return JSON.parse(printed) as Measurement;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      mib: { type: "string", default: "1024" },
      repetitions: { type: "string", default: "3" },
      json: { type: "boolean", default: false },
    },
  });
  const root = await mkdtemp(join(tmpdir(), "drydock-bench-storage-"));
  await using server = await Versitygw.start();
  try {
    const file = join(root, "large");
    await writeRandom(file, Number(values.mib) * mebibyte);
    const s3 = { STORAGE_URL: "s3://bucket/bench", ...server.environment() };
    const storages: Record<string, Record<string, string>> = {
      folder: { STORAGE_URL: pathToFileURL(join(root, "store")).href },
      "S3, 1 part at once": { ...s3, S3_PARALLEL_PARTS: "1" },
      "S3, 4 parts at once": { ...s3, S3_PARALLEL_PARTS: "4" },
      "S3, 8 parts at once": { ...s3, S3_PARALLEL_PARTS: "8" },
      "S3, 4 × 16 MiB": { ...s3, S3_PARALLEL_PARTS: "4", S3_PART_SIZE_MIB: "16" },
    };
    const lines = await linesOf(storages, root, file, Number(values.repetitions));
    if (values.json) process.stdout.write(`${JSON.stringify(lines)}\n`);
    else print(lines, Number(values.mib));
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** Storages take turns, so that a slow moment of the machine meets each; the median counts. */
async function linesOf(
  storages: Readonly<Record<string, Readonly<Record<string, string>>>>,
  root: string,
  file: string,
  repetitions: number,
): Promise<Line[]> {
  const { size } = await stat(file);
  const found = new Map<string, Measurement[]>();
  for (let repetition = 0; repetition < repetitions; repetition++) {
    for (const [storage, environment] of Object.entries(storages)) {
      const nothing = await measureApart("nothing", "", environment);
      for (const what of ["upload", "download", "put small", "get small"]) {
        const path = what === "download" ? join(root, "copy") : file;
        const { seconds, peakBytes } = await measureApart(what, path, environment);
        const name = `${storage}|${what}`;
        found.set(name, [...(found.get(name) ?? []), { seconds, peakBytes: peakBytes - nothing.peakBytes }]);
      }
      await rm(join(root, "copy"), { force: true });
    }
  }
  return [...found].map(([name, measurements]) => {
    const [storage = "", what = ""] = name.split("|");
    const isSmall = what.endsWith("small");
    const seconds = median(measurements.map((each) => each.seconds));
    return {
      storage,
      what,
      perSecond: isSmall ? smallObjects / seconds : size / 1e6 / seconds,
      unit: isSmall ? "objects/s" : "MB/s",
      peakMebibytes: Math.max(...measurements.map((each) => each.peakBytes)) / mebibyte,
    };
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function writeRandom(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, "w");
  const chunk = Buffer.alloc(8 * mebibyte);
  for (let written = 0; written < sizeBytes; written += chunk.length)
    await file.write(randomFillSync(chunk), 0, Math.min(chunk.length, sizeBytes - written));
  await file.close();
}

function print(lines: readonly Line[], mebibytes: number): void {
  process.stdout.write(
    `Object storage on ${cpus().length} × ${cpus()[0]?.model ?? "unknown processor"}, Node ${process.version}: a file of ${mebibytes} MiB, ${smallObjects} objects of ${smallBytes / 1024} KiB\n`,
  );
  for (const { storage, what, perSecond, unit, peakMebibytes } of lines)
    process.stdout.write(
      `${storage.padEnd(20)} ${what.padEnd(10)} ${perSecond.toFixed(0).padStart(6)} ${unit.padEnd(9)}  peak memory +${peakMebibytes.toFixed(0).padStart(3)} MiB\n`,
    );
}
