import type { Pipeline, PipelineDryRun, PipelineEvent, PipelineRun } from "@drydock/spec";
import type { Command } from "commander";
import type { PipelineRunDecision } from "../client/pipeline-client.ts";
import { fields, table } from "../output/table.ts";
import { readYaml } from "../run-spec-file.ts";
import { contextOf } from "./context.ts";
import { everyPage } from "./pages.ts";

const decisions: readonly { readonly decision: PipelineRunDecision; readonly description: string }[] = [
  { decision: "approve", description: "let the candidate of a run go on to production" },
  { decision: "refuse", description: "end a run without a promotion" },
  { decision: "rollback", description: "put the version into production again that was there before a run's" },
];

/** `drydock pipeline …`: what is done by itself when data changes or time comes. */
export function addPipelineCommands(program: Command): void {
  const pipeline = program.command("pipeline").description("train, evaluate, gate and promote by itself");
  addDefinitionCommands(pipeline);
  addRunCommands(pipeline);
}

function addDefinitionCommands(pipeline: Command): void {
  pipeline
    .command("create")
    .argument("<file>", "pipeline spec, YAML or JSON: name, dataset, steps, triggers")
    .description("make a pipeline from a file")
    .action(async function (this: Command, file: string) {
      const { pipelines, output } = contextOf(this);
      const created = await pipelines().create(await readYaml(file));
      output.answer(created, () => describe(created));
    });
  pipeline
    .command("list")
    .description("pipelines, by name")
    .action(async function (this: Command) {
      const { pipelines, output } = contextOf(this);
      const items = await pipelines().list();
      output.answer(items, () =>
        table(
          ["pipeline", "state", "data", "steps", "runs", "next"],
          items.map(({ name, state, spec, runs, nextAt }) => [name, state, spec.dataset, stepsOf(spec), runs, nextAt]),
        ),
      );
    });
  pipeline
    .command("show")
    .argument("<pipeline>", "its name")
    .description("a pipeline: its steps and what starts it")
    .action(async function (this: Command, name: string) {
      const { pipelines, output } = contextOf(this);
      const found = await pipelines().get(name);
      output.answer(found, () => describe(found));
    });
  pipeline
    .command("dry-run")
    .argument("<pipeline>", "its name")
    .description("what would happen if it were started now, and what is missing")
    .action(async function (this: Command, name: string) {
      const { pipelines, output } = contextOf(this);
      const dry = await pipelines().dryRun(name);
      output.answer(dry, () => describeDryRun(dry));
    });
  for (const [action, description] of [
    ["pause", "start no run by itself"],
    ["resume", "start runs by itself again"],
  ] as const)
    pipeline
      .command(action)
      .argument("<pipeline>", "its name")
      .description(description)
      .action(async function (this: Command, name: string) {
        const { pipelines, output } = contextOf(this);
        const changed = await pipelines().steer(name, action);
        output.answer(changed, () => describe(changed));
      });
  pipeline
    .command("webhook-secret")
    .argument("<pipeline>", "its name")
    .description("make the secret that outsiders sign with to start it; shown this once")
    .action(async function (this: Command, name: string) {
      const { pipelines, output } = contextOf(this);
      const { path, secret } = await pipelines().webhookSecret(name);
      output.answer({ path, secret }, () => [`POST ${path}`, `secret: ${secret}`, "It is not shown again."]);
    });
  pipeline
    .command("delete")
    .argument("<pipeline>", "its name")
    .description("delete a pipeline and the history of its runs; models stay")
    .action(async function (this: Command, name: string) {
      const { pipelines, output } = contextOf(this);
      await pipelines().remove(name);
      output.answer({ deleted: name }, () => [`pipeline ${name} is deleted`]);
    });
}

function addRunCommands(pipeline: Command): void {
  pipeline
    .command("trigger")
    .argument("<pipeline>", "its name")
    .description("start a pipeline now")
    .action(async function (this: Command, name: string) {
      const { pipelines, output } = contextOf(this);
      const run = await pipelines().trigger(name);
      output.answer(run, () => describeRun(run, []));
    });
  pipeline
    .command("runs")
    .argument("<pipeline>", "its name")
    .description("runs of a pipeline, newest first, and why some were left out")
    .action(async function (this: Command, name: string) {
      const { pipelines, output } = contextOf(this);
      const items = await everyPage((query) => pipelines().runs(name, query));
      output.answer(items, () =>
        table(
          ["run", "number", "state", "step", "started by", "message"],
          items.map(({ id, number, state, step, trigger, message }) => [
            id,
            number,
            state,
            step,
            trigger.detail,
            message,
          ]),
        ),
      );
    });
  pipeline
    .command("timeline")
    .argument("<run>", "id of the pipeline's run")
    .option("--follow", "go on until the run is over")
    .description("what happened in a run, in order; `--follow`")
    .action(async function (this: Command, id: string, { follow }: { follow?: boolean }) {
      const { pipelines, output, signal } = contextOf(this);
      if (follow === true) {
        for await (const event of pipelines().followTimeline(id, signal)) output.item(event, () => lineOf(event));
        return;
      }
      const [run, events] = [await pipelines().run(id), await pipelines().timeline(id)];
      output.answer({ run, events }, () => describeRun(run, events));
    });
  for (const { decision, description } of decisions)
    pipeline
      .command(decision)
      .argument("<run>", "id of the pipeline's run")
      .option("--comment <text>", "why; part of the timeline", "")
      .description(description)
      .action(async function (this: Command, id: string, { comment }: { comment: string }) {
        const { pipelines, output } = contextOf(this);
        const run = await pipelines().decide(id, decision, comment);
        output.answer(run, () => describeRun(run, []));
      });
  pipeline
    .command("cancel")
    .argument("<run>", "id of the pipeline's run")
    .description("end a run and what it has started")
    .action(async function (this: Command, id: string) {
      const { pipelines, output } = contextOf(this);
      const run = await pipelines().cancel(id);
      output.answer(run, () => describeRun(run, []));
    });
}

function stepsOf({ steps }: Pipeline["spec"]): string {
  return steps.map(({ type }) => type).join(" → ");
}

function describe({ name, state, spec, nextAt, runs }: Pipeline): string[] {
  return fields({
    pipeline: `${name} (${state})`,
    data: spec.dataset,
    steps: stepsOf(spec),
    "started by": ["hand", ...spec.triggers.map(triggerText)].join(", "),
    "open at a time": spec.maxConcurrent,
    "when no more may be": spec.overlap,
    next: nextAt,
    runs,
  });
}

function triggerText(trigger: Pipeline["spec"]["triggers"][number]): string {
  switch (trigger.type) {
    case "cron":
      return `schedule ${trigger.expression} (${trigger.timeZone})`;
    case "dataset":
      return "new data";
    case "pipeline":
      return `pipeline ${trigger.pipeline}`;
    case "webhook":
      return "webhook";
    case "metric":
      return `live ${trigger.metric} ${trigger.minimum === undefined ? `${trigger.maximumDrop} below its own` : `below ${trigger.minimum}`}`;
  }
}

function describeDryRun({ dataset, model, production, steps, nextTimes, problems }: PipelineDryRun): string[] {
  return [
    ...fields({ data: dataset, model, "in production": production ?? "nothing yet", next: nextTimes[0] }),
    "",
    ...table(
      ["step", "what would happen"],
      steps.map(({ step, what }) => [step, what]),
    ),
    ...(problems.length === 0 ? [] : ["", ...problems.map((problem) => `! ${problem}`)]),
  ];
}

function describeRun(run: PipelineRun, events: readonly PipelineEvent[]): string[] {
  return [
    ...fields({
      run: `${run.id} (${run.pipeline} ${run.number})`,
      state: `${run.state}${run.step === null ? "" : ` at ${run.step}`}: ${run.message}`,
      "started by": run.trigger.detail,
      candidate: run.results.candidate,
    }),
    ...(events.length === 0
      ? []
      : [
          "",
          ...table(
            ["time", "step", "what", "message"],
            events.map(({ time, step, type, message }) => [time.slice(0, 19), step, type, message]),
          ),
        ]),
  ];
}

function lineOf({ time, step, type, message }: PipelineEvent): string {
  return `${time.slice(0, 19)} ${step === null ? "" : `${step} `}${type}: ${message}`;
}
