import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Versitygw } from "./versitygw.ts";

const gibibyte = 2 ** 30;
const mebibyte = 2 ** 20;
const kit = new URL("../src/index.ts", import.meta.url).href;

let root: string;
let server: Versitygw;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-memory-"));
  server = await Versitygw.start();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

/** Runs one call of S3 storage in a process whose heap is small. Answers its peak resident bytes. */
async function peakOf(call: string): Promise<number> {
  const script = `import { openStorage } from ${JSON.stringify(kit)};
    const storage = openStorage("s3://bucket/memory");
    ${call};
    console.log(process.resourceUsage().maxRSS * 1024);`;
  const child = spawn(
    process.execPath,
    ["--max-old-space-size=48", "--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", script],
    { env: { ...process.env, ...server.environment() }, stdio: ["ignore", "pipe", "inherit"] },
  );
  let printed = "";
  child.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString()));
  const [exitCode] = (await once(child, "exit")) as [number | null];
  expect(exitCode).toBe(0);
  return Number(printed);
}

/** Bytes around the middle of a file. */
async function middleOf(path: string): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    return (await file.read({ buffer: Buffer.alloc(16), position: gibibyte / 2 - 8 })).buffer;
  } finally {
    await file.close();
  }
}

test("an object of 1 GiB goes up and comes down through a process with a heap of 48 MiB", async () => {
  const path = join(root, "in");
  const file = await open(path, "w");
  await truncate(path, gibibyte);
  await file.write("in the middle", gibibyte / 2 - 8);
  await file.close();
  expect(await peakOf(`await storage.putFile("big", ${JSON.stringify(path)})`)).toBeLessThan(300 * mebibyte);
  const copy = join(root, "out");
  expect(await peakOf(`await storage.getFile("big", ${JSON.stringify(copy)})`)).toBeLessThan(300 * mebibyte);
  expect((await middleOf(copy)).equals(await middleOf(path))).toBe(true);
});
