/*
 * `make tiny-base`: trains models/drydock-tiny-vl from random weights with Drydock's own engine, in stages. The pictures
 * and questions of every step come from the seed alone, so that the recipe is this file.
 *
 *   node demo/tiny-base/train-tiny-base.ts [--out DIR] [--from STAGE] [--threads N]
 */
import { appendFile, cp, mkdir, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { collate, EngineTrainer } from "@drydock/engine";
import { createRandom } from "../artwork/random.ts";
import { tinyModelName } from "./architecture.ts";
import { Classroom, type ObjectCounts, type SubjectMatter } from "./classroom.ts";
import { tokenizerCorpus } from "./corpus.ts";
import { examine } from "./examination.ts";
import { createTinyModel } from "./model-folder.ts";
import { drawConcepts, type DrawnConcept } from "./pictures.ts";

interface Stage {
  readonly name: string;
  readonly matter: SubjectMatter;
  readonly objects: ObjectCounts;
  readonly steps: number;
  readonly batchSize: number;
  readonly microBatchSize: number;
  readonly learningRate: number;
}

const seed = 20261123;
/** Mostly crowded scenes, so that each picture teaches more. */
const crowded: ObjectCounts = { labels: [1, 2, 3, 4, 4], lessons: [1, 2, 3, 3, 4] };
/** As people's scenes are: often few things. */
const sparse: ObjectCounts = { labels: [1, 2, 2, 3, 4], lessons: [1, 1, 2, 2, 3, 4] };

const stages: readonly Stage[] = [
  {
    name: "cards",
    matter: "cards",
    objects: crowded,
    steps: 1000,
    batchSize: 128,
    microBatchSize: 128,
    learningRate: 2e-3,
  },
  {
    name: "labels",
    matter: "labels",
    objects: crowded,
    steps: 700,
    batchSize: 48,
    microBatchSize: 48,
    learningRate: 2e-3,
  },
  {
    name: "lessons",
    matter: "lessons",
    objects: crowded,
    steps: 1200,
    batchSize: 52,
    microBatchSize: 26,
    learningRate: 2e-3,
  },
  {
    name: "practice",
    matter: "lessons",
    objects: sparse,
    steps: 600,
    batchSize: 52,
    microBatchSize: 26,
    learningRate: 1.5e-3,
  },
];
const logEverySteps = 25;
const saveEverySteps = 200;

const repository = resolve(import.meta.dirname, "../..");
const { values: options } = parseArgs({
  options: { out: { type: "string" }, from: { type: "string" }, threads: { type: "string" } },
});
const target = resolve(options.out ?? join(repository, "models", tinyModelName));
const workshop = join(repository, ".drydock", "tiny-base");
const threads = Number(options.threads ?? availableParallelism());

await mkdir(workshop, { recursive: true });
const curve = join(workshop, "curve.jsonl");
const concepts = await drawConcepts();
let folder = join(workshop, "random");
const firstStage = Math.max(
  0,
  stages.findIndex(({ name }) => name === options.from),
);
if (firstStage === 0) {
  await writeFile(curve, "");
  console.log(`${await createTinyModel(folder, tokenizerCorpus(concepts, seed), seed)} parameters`);
} else folder = join(workshop, stages[firstStage - 1]!.name);

for (const stage of stages.slice(firstStage)) folder = await runStage(stage, folder, concepts);
await rm(target, { recursive: true, force: true });
await cp(folder, target, { recursive: true });
console.log(`saved in ${target}`);

/** Trains one stage from a model folder; answers the folder of what came out. */
async function runStage(stage: Stage, from: string, drawn: readonly DrawnConcept[]): Promise<string> {
  const to = join(workshop, stage.name);
  const trainer = await EngineTrainer.open({
    directory: from,
    mode: "full",
    lora: { rank: 1, alpha: 1, dropout: 0, targets: "all-linear" },
    optimizer: { betas: [0.9, 0.98], epsilon: 1e-8, weightDecay: 0.01, maxGradientNorm: 1 },
    schedule: { kind: "cosine", learningRate: stage.learningRate, warmupRatio: 0.02, totalSteps: stage.steps },
    seed,
    threads,
  });
  const classroom = await Classroom.open(from, trainer.model, drawn);
  const random = createRandom(seed + stages.indexOf(stage) + 1);
  const startedMs = performance.now();
  let lossSum = 0;
  for (let step = 1; step <= stage.steps; step += 1) {
    const rows = classroom.rows(stage.matter, stage.batchSize, stage.objects, random);
    const batches = Array.from({ length: Math.ceil(rows.length / stage.microBatchSize) }, (_, index) =>
      collate(rows.slice(index * stage.microBatchSize, (index + 1) * stage.microBatchSize), trainer.model),
    );
    const { loss, learningRate, gradientNorm } = await trainer.step(batches);
    lossSum += loss;
    if (step % logEverySteps === 0) {
      const seconds = (performance.now() - startedMs) / 1000;
      await tell({ stage: stage.name, step, loss: lossSum / logEverySteps, learningRate, gradientNorm, seconds });
      lossSum = 0;
    }
    if (step % saveEverySteps === 0 || step === stage.steps) {
      await trainer.save(to);
      if (stage.matter === "lessons")
        await tell({ stage: stage.name, step, ...(await examine(trainer, classroom, drawn, seed)) });
    }
  }
  await trainer.close();
  return to;
}

async function tell(entry: Readonly<Record<string, string | number>>): Promise<void> {
  const rounded = Object.fromEntries(
    Object.entries(entry).map(([key, value]) => [
      key,
      typeof value === "number" ? Number(value.toPrecision(5)) : value,
    ]),
  );
  await appendFile(curve, `${JSON.stringify(rounded)}\n`);
  console.log(JSON.stringify(rounded));
}
