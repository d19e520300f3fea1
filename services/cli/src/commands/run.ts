import { Priority, RunState, type Run, type RunChange, type RunSummary } from "@drydock/spec";
import type { Command } from "commander";
import type { RunAction } from "../client/drydock-client.ts";
import { formatBytes, formatScores } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";
import { readRunSpec } from "../run-spec-file.ts";
import { contextOf, oneOf, wholeNumber } from "./context.ts";
import { everyPage } from "./pages.ts";
import { describeEvent, describeTimeLeft, watchRuns } from "./watch-runs.ts";

const actions: readonly { readonly action: RunAction; readonly summary: string }[] = [
  { action: "pause", summary: "finish the step, write a checkpoint, free the worker" },
  { action: "resume", summary: "go on from the last checkpoint" },
  { action: "cancel", summary: "end a run; its checkpoints are kept" },
];

/** `drydock run …`: submit, watch and steer fine-tuning runs. */
export function addRunCommands(program: Command): void {
  const run = program.command("run").description("fine-tuning runs: submit, watch, steer");
  addSubmit(run);
  addReading(run);
  addFeeds(run);
  addResize(run);
  addPriority(run);
  for (const { action, summary } of actions) {
    run
      .command(action)
      .argument("<run>", "id of the run")
      .description(summary)
      .action(async function (this: Command, id: string) {
        const { client, output } = contextOf(this);
        const changed = await client().actOnRun(id, action);
        output.answer(changed, () => [`${changed.id}: ${changed.state}. ${changed.message}`]);
      });
  }
}

function addResize(run: Command): void {
  run
    .command("resize")
    .argument("<run>", "id of the run")
    .requiredOption("--gpus <number>", "so many GPUs from now on, one rank on each", wholeNumber("--gpus", 1))
    .description("go on with more or fewer GPUs, from a checkpoint; the global batch and the order of the data stay")
    .action(async function (this: Command, id: string, { gpus }: { gpus: number }) {
      const { client, output } = contextOf(this);
      const changed = await client().resizeRun(id, gpus);
      output.answer(changed, () => [`${changed.id}: ${changed.state}. ${changed.message}`]);
    });
}

function addPriority(run: Command): void {
  run
    .command("priority")
    .argument("<run>", "id of the run")
    .argument("<priority>", `one of ${Priority.options.join(", ")}`, oneOf("priority", Priority.options))
    .description("let a run that waits start earlier or later than others")
    .action(async function (this: Command, id: string, priority: RunChange["priority"]) {
      const { client, output } = contextOf(this);
      const changed = await client().prioritiseRun(id, priority);
      output.answer(changed, () => [
        `${changed.id}: priority ${changed.spec.priority}. ${changed.waiting?.sentence ?? changed.message}`,
      ]);
    });
}

function addSubmit(run: Command): void {
  run
    .command("submit")
    .argument("<spec>", "run spec, YAML or JSON")
    .option("--expect-plan <digest>", "refuse when the plan is no longer the one that was seen")
    .option("--watch", "follow the run to its end")
    .description("start a run")
    .action(async function (
      this: Command,
      file: string,
      { expectPlan, watch }: { expectPlan?: string; watch?: boolean },
    ) {
      const { client, output, signal } = contextOf(this);
      const spec = await readRunSpec(file);
      const submitted = await client().submitRun({
        ...spec,
        ...(expectPlan !== undefined && { expect: { planDigest: expectPlan } }),
      });
      if (watch !== true) {
        output.answer(submitted, () => [
          `Submitted ${submitted.id} (${submitted.name}): ${submitted.message}`,
          `Follow it: drydock run watch ${submitted.id}`,
        ]);
        return;
      }
      output.note(`Submitted ${submitted.id} (${submitted.name}).`);
      process.exitCode = await watchRuns(client(), [submitted.id], output, signal);
    });
}

function addReading(run: Command): void {
  run
    .command("list")
    .option("--state <state>", `one of ${RunState.options.join(", ")}`, oneOf("--state", RunState.options))
    .option("--name <name>", "only runs of this name")
    .option("--limit <number>", "at most so many", wholeNumber("--limit", 1), 50)
    .description("runs, newest first")
    .action(async function (this: Command, { state, name, limit }: { state?: RunState; name?: string; limit: number }) {
      const { client, output } = contextOf(this);
      const items = await everyPage((query) => client().listRuns({ ...query, state, name }), limit);
      output.answer(items, () =>
        table(["run", "name", "state", "step", "loss", "left", "model", "why"], items.map(summaryRow)),
      );
    });

  run
    .command("show")
    .argument("<run>", "id of the run")
    .description("where a run stands, and why")
    .action(async function (this: Command, id: string) {
      const { client, output } = contextOf(this);
      const found = await client().getRun(id);
      output.answer(found, () => describeRun(found));
    });

  run
    .command("checkpoints")
    .argument("<run>", "id of the run")
    .description("checkpoints that can be resumed from")
    .action(async function (this: Command, id: string) {
      const { client, output } = contextOf(this);
      const items = await everyPage((query) => client().listCheckpoints(id, query));
      output.answer(items, () =>
        table(
          ["step", "attempt", "size", "best", "scores", "created"],
          items.map((item) => [
            item.step,
            item.attempt,
            formatBytes(item.sizeBytes),
            item.isBest ? "best" : "",
            formatScores(item.scores),
            item.createdAt,
          ]),
        ),
      );
    });
}

function addFeeds(run: Command): void {
  run
    .command("watch")
    .argument("<run...>", "ids of one or more runs")
    .description("follow runs to their end; exit code 3 when one fails")
    .action(async function (this: Command, ids: string[]) {
      const { client, output, signal } = contextOf(this);
      process.exitCode = await watchRuns(client(), ids, output, signal);
    });

  run
    .command("events")
    .argument("<run>", "id of the run")
    .option("--follow", "go on until the run is over")
    .description("what happened: changes of state, attempts, checkpoints, remedies")
    .action(async function (this: Command, id: string, { follow }: { follow?: boolean }) {
      const { client, output, signal } = contextOf(this);
      if (follow === true) {
        for await (const event of client().followEvents(id, signal)) output.item(event, () => describeEvent(event));
        return;
      }
      const items = await everyPage((query) => client().listEvents(id, query));
      output.answer(items, () => items.map(describeEvent));
    });

  run
    .command("metrics")
    .argument("<run>", "id of the run")
    .option("--follow", "go on until the run is over")
    .description("loss, learning rate, speed and memory by step")
    .action(async function (this: Command, id: string, { follow }: { follow?: boolean }) {
      const { client, output, signal } = contextOf(this);
      if (follow === true) {
        for await (const metric of client().followMetrics(id, signal))
          output.item(
            metric,
            () =>
              `step ${metric.step}  loss ${metric.loss.toFixed(4)}  ${Math.round(metric.tokens / metric.seconds)} tokens/s`,
          );
        return;
      }
      const items = await everyPage((query) => client().listMetrics(id, query));
      output.answer(items, () =>
        table(
          ["step", "loss", "learning rate", "gradient norm", "tokens/s", "memory"],
          items.map((item) => [
            item.step,
            item.loss.toFixed(4),
            item.learningRate.toExponential(2),
            item.gradientNorm.toFixed(3),
            Math.round(item.tokens / item.seconds),
            formatBytes(item.memoryBytes),
          ]),
        ),
      );
    });

  run
    .command("logs")
    .argument("<run>", "id of the run")
    .option("--attempt <number>", "of this attempt; the newest otherwise", wholeNumber("--attempt", 1))
    .option("--tail <number>", "lines from the end", wholeNumber("--tail", 0), 200)
    .option("--follow", "go on until the run is over")
    .description("what the worker wrote")
    .action(async function (
      this: Command,
      id: string,
      { attempt, tail, follow }: { attempt?: number; tail: number; follow?: boolean },
    ) {
      const { client, output, signal } = contextOf(this);
      if (follow === true) {
        for await (const line of client().followLog(id, signal)) output.item({ line }, () => line);
        return;
      }
      const log = await client().getLog(id, { attempt, tail });
      output.answer(log, () => log.lines);
    });
}

function summaryRow(item: RunSummary): (string | number | null)[] {
  const { step, totalSteps, loss } = item.progress;
  return [
    item.id,
    item.name,
    item.state,
    `${step}/${totalSteps}`,
    loss === null ? null : loss.toFixed(4),
    describeTimeLeft(item),
    item.model,
    item.waiting?.sentence ?? item.message.slice(0, 60),
  ];
}

function describeRun(run: Run): string[] {
  const { step, totalSteps, loss, tokensPerSecond } = run.progress;
  return [
    ...fields({
      run: run.id,
      name: run.name,
      state: `${run.state} (${run.reason})`,
      message: run.waiting?.sentence ?? run.message,
      priority: run.spec.priority,
      base: typeof run.spec.model === "string" ? run.spec.model : run.spec.model.uri,
      data: run.spec.dataset,
      task: `${run.spec.task}, ${run.spec.mode}`,
      progress: `step ${step} of ${totalSteps}${loss === null ? "" : `, loss ${loss.toFixed(4)}`}${tokensPerSecond === null ? "" : `, ${Math.round(tokensPerSecond)} tokens/s`}`,
      "time left": describeTimeLeft(run),
      "score before": run.scores.before === null ? null : formatScores(run.scores.before),
      "score after": run.scores.after === null ? null : formatScores(run.scores.after),
      model: run.model,
    }),
    ...(run.attempts.length === 0
      ? []
      : [
          "",
          ...table(
            ["attempt", "state", "from", "to", "exit", "why"],
            run.attempts.map((attempt) => [
              attempt.epoch,
              attempt.state,
              attempt.fromStep,
              attempt.lastStep,
              attempt.exitCode,
              attempt.message,
            ]),
          ),
        ]),
  ];
}
