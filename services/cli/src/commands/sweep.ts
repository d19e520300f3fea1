import type { Sweep, SweepTrial } from "@drydock/spec";
import type { Command } from "commander";
import type { SweepClient, SweepSteering } from "../client/sweep-client.ts";
import { cliExitCodes } from "../exit-codes.ts";
import { fields, table } from "../output/table.ts";
import { readYaml } from "../run-spec-file.ts";
import { contextOf, wholeNumber } from "./context.ts";
import { everyPage } from "./pages.ts";
import { pause } from "./watch-runs.ts";

const pollMs = 1000;

const steerings: readonly { readonly action: SweepSteering; readonly description: string }[] = [
  { action: "pause", description: "pause its trials after a checkpoint; no other starts" },
  { action: "resume", description: "go on with the trials that were paused" },
  { action: "cancel", description: "end a sweep and its trials; their checkpoints are kept" },
];

/** `drydock sweep …`: many runs that differ in some settings, and the best of them. */
export function addSweepCommands(program: Command): void {
  const sweep = program.command("sweep").description("try settings of a run: grid, random, successive halving");
  sweep
    .command("create")
    .argument("<file>", "sweep spec, YAML or JSON: name, run, space, search")
    .option("--no-wait", "do not wait for its end")
    .description("start a sweep and follow it to its best trial")
    .action(async function (this: Command, file: string, { wait }: { wait: boolean }) {
      const { sweeps, output, signal } = contextOf(this);
      const created = await sweeps().create(await readYaml(file));
      const ended = wait ? await waitFor(sweeps(), created, signal, (text) => output.status(text, false)) : created;
      output.answer(ended, () => describe(ended));
      if (ended.state === "failed") process.exitCode = cliExitCodes.unsuccessful;
      if (wait && ended.endedAt === null) {
        output.note("Stopped waiting; the sweep goes on.");
        process.exitCode = cliExitCodes.interrupted;
      }
    });

  sweep
    .command("list")
    .description("sweeps, newest first")
    .action(async function (this: Command) {
      const { sweeps, output } = contextOf(this);
      const items = await everyPage((query) => sweeps().list(query));
      output.answer(items, () =>
        table(
          ["sweep", "name", "state", "trials", "stopped", "best", "score"],
          items.map(({ id, name, state, trials, best }) => [
            id,
            name,
            state,
            `${trials.started}/${trials.planned}`,
            trials.stopped,
            best?.trial ?? null,
            best === null ? null : shown(best.score),
          ]),
        ),
      );
    });

  sweep
    .command("show")
    .argument("<sweep>", "id of the sweep")
    .description("a sweep: its best trial, counts, what it has used")
    .action(async function (this: Command, id: string) {
      const { sweeps, output } = contextOf(this);
      const found = await sweeps().get(id);
      output.answer(found, () => describe(found));
    });

  sweep
    .command("trials")
    .argument("<sweep>", "id of the sweep")
    .description("the leaderboard: settings, score and state of every trial, best first")
    .action(async function (this: Command, id: string) {
      const { sweeps, output } = contextOf(this);
      const trials = await sweeps().trials(id);
      output.answer(trials, () => trialTable(trials));
    });

  sweep
    .command("set")
    .argument("<sweep>", "id of the sweep")
    .requiredOption("--parallel <number>", "trials side by side", wholeNumber("--parallel", 1))
    .description("change how many trials run side by side")
    .action(async function (this: Command, id: string, { parallel }: { parallel: number }) {
      const { sweeps, output } = contextOf(this);
      const changed = await sweeps().setParallel(id, parallel);
      output.answer(changed, () => describe(changed));
    });

  for (const { action, description } of steerings)
    sweep
      .command(action)
      .argument("<sweep>", "id of the sweep")
      .description(description)
      .action(async function (this: Command, id: string) {
        const { sweeps, output } = contextOf(this);
        const changed = await sweeps().steer(id, action);
        output.answer(changed, () => describe(changed));
      });
}

async function waitFor(
  client: SweepClient,
  sweep: Sweep,
  signal: AbortSignal,
  status: (text: string) => void,
): Promise<Sweep> {
  let current = sweep;
  while (current.endedAt === null && !signal.aborted) {
    const { started, planned, running, stopped } = current.trials;
    status(`sweep ${current.id}: trial ${started} of ${planned}, ${running} run, ${stopped} stopped early …`);
    await pause(pollMs, signal);
    if (!signal.aborted) current = await client.get(current.id);
  }
  return current;
}

function describe({
  id,
  name,
  state,
  message,
  metric,
  goal,
  trials,
  steps,
  gpuHours,
  maxParallel,
  best,
}: Sweep): string[] {
  const counts = `${trials.started} of ${trials.planned} started, ${trials.running} run, ${trials.stopped} stopped early, ${trials.succeeded} succeeded, ${trials.failed} failed`;
  return fields({
    sweep: `${id} (${name})`,
    state: `${state}: ${message}`,
    "compared by": `${metric}, ${goal === "max" ? "most" : "least"} is best`,
    trials: `${counts}; ${maxParallel} at a time`,
    used: `${steps} steps, ${shown(gpuHours)} GPU hours`,
    best: best === null ? "none yet" : `trial ${best.trial}: ${shown(best.score)}, ${best.model ?? best.runId}`,
  });
}

function trialTable(trials: readonly SweepTrial[]): string[] {
  const names = Object.keys(trials[0]?.parameters ?? {});
  return table(
    ["trial", "state", "score", "steps", ...names, "model", "why"],
    trials.map(({ number, state, score, steps, parameters, model, message }) => [
      number,
      state,
      score === null ? null : shown(score),
      steps,
      ...names.map((name) => settingOf(parameters[name])),
      model,
      state === "stopped" || state === "failed" ? message : null,
    ]),
  );
}

function settingOf(value: unknown): string | number {
  return typeof value === "number" || typeof value === "string" ? value : JSON.stringify(value);
}

function shown(value: number): string {
  return String(Number(value.toPrecision(4)));
}
