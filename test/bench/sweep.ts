/*
 * `make bench-sweep`: a grid, and successive halvings of several seeds, over the demo's learning rates, on a Drydock of its own: what each
 * finds, and with how many steps. Counts steps, not seconds, so a busy computer changes nothing but the wait.
 *
 * usage: sweep.ts [--steps N] [--points N] [--trials N] [--seeds N,N…]
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { DrydockClient, HttpClient } from "@drydock/cli";
import { pageOf, Run, Sweep, SweepTrial } from "@drydock/spec";
import { importDataset } from "../../demo/journey.ts";
import { makePantry, pantryGroundingPrompt } from "../../demo/pantry/make-pantry.ts";
import { namesDataset, runSpecOf } from "../../demo/recipe.ts";
import { startServer } from "../../demo/server.ts";

const { values: flags } = parseArgs({
  options: {
    steps: { type: "string", default: "135" },
    points: { type: "string", default: "9" },
    trials: { type: "string", default: "9" },
    seeds: { type: "string", default: "1,2,3" },
  },
});
const maxSteps = Number(flags.steps);
const reductionFactor = 3;
const Trials = pageOf(SweepTrial).omit({ nextCursor: true });
const grid = { kind: "grid", points: Number(flags.points) } as const;
const ashaOf = (seed: number) =>
  ({
    kind: "asha",
    trials: Number(flags.trials),
    seed,
    minSteps: Math.round(maxSteps / reductionFactor ** 2),
    maxSteps,
    reductionFactor,
  }) as const;
const searches = [
  ["grid", grid],
  ...flags.seeds.split(",").map((seed) => [`asha-${seed}`, ashaOf(Number(seed))] as const),
] as const;

const scratch = await mkdtemp(join(tmpdir(), "drydock-bench-sweep-"));
const server = await startServer(join(scratch, "state"), () => undefined);
try {
  const http = new HttpClient(server);
  const client = new DrydockClient(http);
  const pantry = await makePantry(join(scratch, "pantry"));
  const { version } = await importDataset(
    client,
    namesDataset,
    pantry.namesDirectory,
    { format: "vi-jsonl", groundingPrompt: pantryGroundingPrompt },
    new AbortController().signal,
  );
  const run = runSpecOf("lora", version);
  const results = [];
  for (const [name, search] of searches) {
    const sweep = await ended(http, {
      name,
      run: {
        ...run,
        training: { ...run.training, maxSteps, learningRate: undefined },
        evaluation: { ...run.evaluation, maxSamples: 8 },
      },
      space: { "training.learningRate": { type: "log", low: 1e-4, high: 1e-1 } },
      search,
      metric: "loss",
      maxParallel: 2,
    });
    results.push(await rowOf(http, name, sweep));
    console.log(JSON.stringify(results.at(-1)));
  }
  const [best, ...halvings] = results;
  for (const { search, loss, steps } of halvings)
    console.log(
      `${search}'s best is ${(100 * (loss / best!.loss - 1)).toFixed(2)} % above grid's, with ${((100 * steps) / best!.steps).toFixed(1)} % of its steps`,
    );
  await mkdir(".drydock/bench", { recursive: true });
  await writeFile(".drydock/bench/sweep.json", `${JSON.stringify(results, null, 2)}\n`);
} finally {
  await server.close();
  await rm(scratch, { recursive: true, force: true });
}

async function ended(http: HttpClient, spec: object): Promise<Sweep> {
  let sweep = await http.postJson("/v1/sweeps", Sweep, spec);
  while (sweep.endedAt === null) {
    await delay(1000);
    sweep = await http.getJson(`/v1/sweeps/${sweep.id}`, Sweep);
  }
  if (sweep.best === null) throw new Error(`the sweep found nothing: ${sweep.message}`);
  return sweep;
}

async function rowOf(http: HttpClient, name: string, { id, best, steps, trials }: Sweep) {
  const { items } = await http.getJson(`/v1/sweeps/${id}/trials`, Trials);
  const run = await http.getJson(`/v1/runs/${best?.runId}`, Run);
  return {
    search: name,
    trials: trials.started,
    stopped: trials.stopped,
    steps,
    loss: best?.score ?? Number.NaN,
    learningRate: items.find(({ number }) => number === best?.trial)?.parameters["training.learningRate"],
    exactMatch: run.scores.after?.["exact-match"] ?? null,
    leaderboard: items.map(({ parameters, score, steps: done }) => [parameters["training.learningRate"], score, done]),
  };
}
