/**
 * Compares Drydock with the reference implementations in every way there is and writes docs/fidelity.md: the parity suite; models
 * and adapters that Drydock trained and saved, loaded in transformers and PEFT; and the whole way from picture files and
 * messages to logits. Needs the Python packages of `requirements.txt`, so it is no part of `make test`.
 *
 * usage: check-fidelity.ts --python PYTHON [--family NAME]…
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { TextTokenizer, createRandomModel } from "@drydock/engine";
import { preprocessorConfig, tinyConfig } from "../../demo/tiny-base/architecture.ts";
import { fidelityTable } from "./fidelity-table.ts";
import { recordVariable, type Difference } from "./parity/fidelity-record.ts";
import { parityFamilies, roundTrips } from "./round-trips.ts";

const { values } = parseArgs({
  options: { python: { type: "string", default: "python3" }, family: { type: "string", multiple: true } },
});
/** Bound on logits, in fp32. */
const limit = 1e-4;

/** Status 0? */
async function succeeds(command: string, parameters: readonly string[], variables = {}): Promise<boolean> {
  const child = spawn(command, parameters, { stdio: "inherit", env: { ...process.env, ...variables } });
  const [status] = (await once(child, "exit")) as [number | null];
  return status === 0;
}

/** What the parity suite saw. */
async function runSuite(record: string): Promise<Difference[]> {
  await writeFile(record, "");
  const tests = (values.family ?? [""]).map((family) => `test/golden/parity/${family}`);
  if (!(await succeeds("vitest", ["run", "--project=unit", ...tests], { [recordVariable]: record })))
    process.exitCode = 1;
  const lines = (await readFile(record, "utf8")).split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Difference);
}

async function checkRoundTrips(): Promise<Difference[]> {
  const all: Difference[] = [];
  for (const each of await parityFamilies()) {
    if (values.family && !values.family.includes(each.family)) continue;
    const found = await roundTrips(each, values.python, join(scratch, each.family));
    for (const { shape, check, difference } of found)
      console.log(`${each.family} ${shape}, ${check}: ${difference.toExponential(1)}`);
    if (found.some(({ difference }) => !(difference < limit))) process.exitCode = 1;
    all.push(...found);
  }
  return all;
}

async function writeTable(differences: readonly Difference[]): Promise<void> {
  const versions = (await readFile(join(import.meta.dirname, "requirements.txt"), "utf8"))
    .split("\n")
    .filter((line) => /^(torch|transformers|peft)==/.test(line))
    .map((line) => line.replace("==", " "));
  const text = `# Fidelity

How far Drydock's numbers are from the reference implementations (${versions.join(", ")}; fp32, CPU), written by \`make fidelity\`.
Each cell is the worst value over all shapes and batches of a family. Bounds: logits 1e-4, gradients 1e-3 (relative, per parameter),
losses 1e-3, greedy tokens equal. Logits are up to about 10, so 1e-5 is a few units in the last place of float32.

Models are tiny and random, made by \`test/golden/parity/<family>.py\`, with random norms and biases. Batches: one picture, two
pictures of different size in one row, text only, and rows of different length padded on the left. "Round trip": a model that the
reference saved is trained here for 20 steps, saved, and loaded by the reference. NVILA has no class in transformers: its reference is
its published source, restated in \`test/golden/parity/nvila_reference.py\`.

${fidelityTable(differences)}
`;
  await writeFile(resolve(import.meta.dirname, "../../docs/fidelity.md"), text);
}

async function runPython(script: string, paths: readonly string[]): Promise<boolean> {
  return await succeeds(values.python, [join(import.meta.dirname, script), ...paths]);
}

/** A random model with the golden tokenizer and template, and two pictures, one of them turned by its EXIF data. */
async function makePipelineFolder(directory: string): Promise<void> {
  await cp(join(import.meta.dirname, "text/model"), directory, { recursive: true });
  const tokenizer = await TextTokenizer.load(directory);
  await createRandomModel(tinyConfig(tokenizer.idOf("<|endoftext|>")), directory, 1);
  await writeFile(join(directory, "preprocessor_config.json"), JSON.stringify(preprocessorConfig));
  for (const name of ["tall.png", "turned.jpg"])
    await cp(join(import.meta.dirname, "images", name), join(directory, name));
  const content = [
    { type: "image", image: "turned.jpg" },
    { type: "text", text: "\nIs there a red apple at 123,456 or in " },
    { type: "image", image: "tall.png" },
    { type: "text", text: " – naïve 東京?" },
  ];
  const messages = [
    { role: "system", content: "You look at one picture." },
    { role: "user", content },
    { role: "assistant", content: '[{"bbox_2d":[0,12,345,1000],"label":"red apple"}]' },
  ];
  await writeFile(join(directory, "messages.json"), JSON.stringify(messages));
}

async function checkPipeline(directory: string): Promise<boolean> {
  await makePipelineFolder(directory);
  const [messages, logits] = [join(directory, "messages.json"), join(directory, "logits.safetensors")];
  const worker = resolve(import.meta.dirname, "../../services/worker/src/main.ts");
  return (
    (await succeeds(process.execPath, [worker, "logits", directory, "--messages", messages, "--out", logits])) &&
    (await runPython("check_pipeline.py", [directory, messages, logits]))
  );
}

const scratch = await mkdtemp(join(tmpdir(), "drydock-fidelity-"));
try {
  const differences = [...(await runSuite(join(scratch, "record.jsonl"))), ...(await checkRoundTrips())];
  if (!values.family) await writeTable(differences);
  console.log(fidelityTable(differences));
  console.log("a conversation with two pictures, random model:");
  if (!(await checkPipeline(join(scratch, "pipeline")))) process.exitCode = 1;
} finally {
  await rm(scratch, { recursive: true, force: true });
}
