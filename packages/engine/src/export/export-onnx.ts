import { cp, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { ConflictError, InvalidError } from "@drydock/kit";
import { collate } from "../batch/collate.ts";
import type { ModelBatch } from "../batch/model-batch.ts";
import { lastRows } from "../generation/answer-passes.ts";
import { StepCache } from "../generation/step-cache.ts";
import { encodeOnnx } from "../graph/onnx/encode-onnx.ts";
import type { Node } from "../graph/ops.ts";
import { evaluate } from "../graph/shape.ts";
import { topologicalOrder } from "../graph/topological-order.ts";
import type { ForwardGraph } from "../models/model.ts";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import type { Feeds, Symbols } from "../runtime/feeds.ts";
import { quantizedFeeds } from "../weights/frozen-weights.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { weightLocations } from "../weights/read-weights.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { readSafetensorsHeader, writeSafetensors, writeTensorsInTurn } from "../weights/safetensors.ts";
import { exportReadme, type ExportedGraph } from "./export-readme.ts";

/** Parts of quantized layers that no file of the model holds as they are. */
const computedFile = "computed.safetensors";

export interface OnnxExport {
  readonly graphs: readonly ExportedGraph[];
}

/**
 * Writes a model as ONNX graphs whose weights are external data: the model's own safetensors files, copied beside them.
 * `prefill.onnx` takes whole rows, `prefill-images.onnx` rows with pictures, `decode.onnx` one further token a row with the
 * keys and values of those before. `README.md` says what goes in and comes out; `example-*.safetensors` hold one pass of each.
 *
 * @param prompt  what the examples are of; default eight tokens of text
 * @throws ConflictError when `out` has files in it
 */
export async function exportOnnx(directory: string, out: string, prompt?: ModelBatch): Promise<OnnxExport> {
  const folder = await openModelFolder(directory);
  if (resolve(directory) === resolve(out))
    throw new InvalidError("bad_output_folder", `--out ${out} is the model itself: name another folder`);
  await mkdir(out, { recursive: true });
  if ((await readdir(out)).length > 0)
    throw new ConflictError("folder_in_use", `folder ${out} has files in it: name a new one`);
  try {
    return await writeExport(folder, out, prompt);
  } catch (error) {
    await rm(out, { recursive: true, force: true });
    throw error;
  }
}

async function writeExport(folder: ModelFolder, out: string, prompt: ModelBatch | undefined): Promise<OnnxExport> {
  const { model, directory } = folder;
  for (const name of await readdir(directory))
    if (!name.endsWith(".bin")) await cp(join(directory, name), join(out, name), { recursive: true });
  const passes = [
    { name: "prefill", hasImages: false, hasCache: false },
    { name: "prefill-images", hasImages: true, hasCache: false },
    { name: "decode", hasImages: false, hasCache: true },
    ...(model.stepSeesImages ? [{ name: "decode-images", hasImages: true, hasCache: true }] : []),
  ].map((pass) => ({ ...pass, ...graphOf(model.forward(pass), pass.hasCache) }));

  const names = new Set(passes.flatMap(({ forward }) => [...forward.variables.shapes.keys()]));
  const computed = await writeComputed(folder, names, out);
  const graphs: ExportedGraph[] = [];
  for (const { name, forward, outputs } of passes) {
    const weights = new Map([...weightLocations(folder, forward.variables.shapes), ...computed]);
    const encoded = encodeOnnx(outputs, weights, { prefersPackedOperators: true, isSelfContained: true });
    await writeFile(join(out, `${name}.onnx`), encoded.model);
    graphs.push({
      name,
      inputs: inputsOf(outputs, encoded.inputNames),
      outputs: Object.entries(outputs).map(([output, { shape, dtype }]) => ({ name: output, shape, dtype })),
    });
  }
  await writeExamples(folder, out, prompt ?? somePrompt(folder));
  await writeFile(join(out, "README.md"), exportReadme(basename(directory), model, graphs));
  return { graphs };
}

function graphOf(
  forward: ForwardGraph,
  hasCache: boolean,
): { readonly forward: ForwardGraph; readonly outputs: Record<string, Node> } {
  const cache = [...forward.cache].map(([slot, node]): [string, Node] => [`new.${slot}`, node]);
  return {
    forward,
    outputs: { logits: forward.logits(hasCache ? "all" : "given"), ...Object.fromEntries(cache) },
  };
}

function inputsOf(outputs: Readonly<Record<string, Node>>, names: readonly string[]): ExportedGraph["inputs"] {
  const leaves = new Map(
    topologicalOrder(Object.values(outputs))
      .filter(({ op }) => op === "Input")
      .map(({ attributes, shape, dtype }) => [attributes["name"] as string, { shape, dtype }]),
  );
  return names.map((name) => ({ name, shape: [], dtype: "float32", ...leaves.get(name) }));
}

/** Writes what is not stored as operators read it; answers where it lies. */
async function writeComputed(
  folder: ModelFolder,
  names: ReadonlySet<string>,
  out: string,
): Promise<ReturnType<typeof weightLocations>> {
  const feeds = await quantizedFeeds(folder, names, (name) => folder.quantized?.location(name) === null);
  const entries = Object.entries(feeds);
  if (entries.length === 0) return new Map();
  await writeTensorsInTurn(
    join(out, computedFile),
    entries.map(([name, { data, shape }]) => ({ name, shape, type: "F32", read: () => Promise.resolve(data) })),
  );
  const { tensors } = await readSafetensorsHeader(join(out, computedFile));
  return new Map(
    [...tensors.values()].map(({ name, offset, sizeBytes }) => [
      name,
      { file: computedFile, offset, sizeBytes, dtype: "float32" },
    ]),
  );
}

/** Eight tokens of text, whatever they mean. */
function somePrompt({ model }: ModelFolder): ModelBatch {
  const inputIds = Array.from({ length: 8 }, (_, index) => (index * 7 + 1) % Math.min(64, model.vocabularySize)).filter(
    (id) => id !== model.imageTokenId,
  );
  const row = { name: "example", inputIds, labels: inputIds.map(() => -100), images: [], imagePositions: [] };
  return collate([row], model);
}

/** One pass of each kind, inputs as `input:<name>` and outputs as `output:<name>`, computed by Drydock. */
async function writeExamples(folder: ModelFolder, out: string, prompt: ModelBatch): Promise<void> {
  const { model } = folder;
  const hasImages = prompt.pictures.length > 0;
  const rows = lastRows(prompt);
  const feeds: Feeds = { ...model.feeds(prompt), rows: { data: rows, shape: [rows.length] } };
  const symbols = { ...model.symbols(prompt), L: rows.length };
  const forward = model.forward({ hasImages });
  const prefill = await runOnce(folder, graphOf(forward, false), feeds, symbols);
  await writeExample(join(out, `example-prefill${hasImages ? "-images" : ""}.safetensors`), prefill);
  const cache = new StepCache(model, prompt, prefill.outputs, 1);
  const next = cache.inputs(rows.length === 0 ? [] : Array.from(rows, () => 1));
  const stepSeesImages = hasImages && model.stepSeesImages;
  const step = graphOf(model.forward({ hasImages: stepSeesImages, hasCache: true }), true);
  const decode = await runOnce(folder, step, next.feeds, next.symbols);
  await writeExample(join(out, `example-decode${stepSeesImages ? "-images" : ""}.safetensors`), decode);
}

interface Example {
  readonly feeds: Feeds;
  readonly outputs: Record<string, Float32Array>;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
}

async function runOnce(
  folder: ModelFolder,
  { forward, outputs }: ReturnType<typeof graphOf>,
  feeds: Feeds,
  symbols: Symbols,
): Promise<Example> {
  const { shapes } = forward.variables;
  const weights = weightLocations(folder, shapes);
  const computed = await quantizedFeeds(folder, shapes.keys(), (name) => !weights.has(name));
  const graph = await CompiledGraph.compile(outputs, { threads: 1, weights, weightsDirectory: folder.directory });
  try {
    const given = Object.fromEntries(Object.entries(feeds).filter(([name]) => graph.inputNames.has(name)));
    return {
      feeds: given,
      outputs: await graph.run({ ...given, ...computed }, symbols),
      shapes: Object.fromEntries(
        Object.entries(outputs).map(([name, { shape }]) => [name, shape.map((size) => evaluate(size, symbols))]),
      ),
    };
  } finally {
    await graph.close();
  }
}

async function writeExample(path: string, { feeds, outputs, shapes }: Example): Promise<void> {
  await writeSafetensors(path, [
    ...Object.entries(feeds).map(([name, { data, shape }]) => ({
      name: `input:${name}`,
      shape,
      data: data as Float32Array | BigInt64Array,
    })),
    ...Object.entries(outputs).map(([name, data]) => ({ name: `output:${name}`, shape: shapes[name] ?? [], data })),
  ]);
}
