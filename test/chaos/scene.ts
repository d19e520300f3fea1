import { messageOf } from "@drydock/kit";
import { until, type RunView } from "../support/embedded.ts";
import type { ClusterStage } from "./cluster-stage.ts";
import { Findings } from "./invariants.ts";
import { expectSuccess, judge, slugOf, submit, type Submitted } from "./trial.ts";
import { WorkerWatch } from "./worker-watch.ts";

export interface RunShape {
  readonly ranks: number;
  readonly steps: number;
}

/** A LoRA run of the tiny model: ten steps a second on two quiet cores. */
function loraSpec({ ranks, steps }: RunShape): object {
  return {
    model: "drydock-tiny-vl",
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    mode: "lora",
    resources: { gpus: ranks },
    training: { maxSteps: steps, globalBatchSize: 8, learningRate: 1e-3 },
    checkpoint: { everySteps: 10 },
    evaluation: { before: false, maxNewTokens: 4 },
  };
}

/** A run with fewer steps left may be done before a fault has struck. */
const enoughLeft = 30;

/** Steps that a run must take after a fault to count as going on. */
const goesOnBy = 2;
/** On a quiet computer it takes half a minute at the most. */
const goesOnWithinMs = 180_000;

/**
 * Runs under watch, and what happens to them: faults strike one after the other, each is judged by itself where it can be
 * (the run goes on, nobody is launched twice, the API says the same), and by what the whole run shows at its end.
 */
export class Scene {
  readonly stage: ClusterStage;
  readonly runs: Submitted[] = [];
  /** Nodes that nobody reaches: what lives there is fenced by its epoch, and may live beside its successor. */
  readonly cutOff = new Set<string>();
  readonly #watch: WorkerWatch;
  readonly #shared: Findings;
  readonly #all: Findings[];
  readonly #own: Findings[] = [];

  /** @param all  gets the findings of every fault */
  constructor(stage: ClusterStage, name: string, all: Findings[]) {
    this.stage = stage;
    this.#all = all;
    this.#shared = new Findings(name);
    this.#watch = new WorkerWatch(stage.site, ({ node }) => this.cutOff.has(node ?? ""));
    this.#watch.start();
  }

  get slug(): string {
    return slugOf(this.#shared.fault);
  }

  /** A row of the table. */
  findings(fault: string): Findings {
    const findings = new Findings(fault);
    this.#own.push(findings);
    this.#all.push(findings);
    return findings;
  }

  async submit(shape: RunShape): Promise<Submitted> {
    const run = await submit(this.stage.site, `${this.slug}-${this.runs.length + 1}`, loraSpec(shape), this.#shared);
    this.runs.push(run);
    return run;
  }

  /** A run that trains and has steps enough left for a fault; a new one when there is none. */
  async inTraining(shape: RunShape): Promise<Submitted> {
    for (const run of this.runs.toReversed()) {
      const { state, progress } = await this.stage.drydock.run(run.id);
      if (state === "running" && progress.totalSteps - progress.step > enoughLeft) return run;
    }
    const run = await this.submit(shape);
    await this.stage.drydock.runAtStep(run.id, 1);
    return run;
  }

  /** Strikes in the middle of training, and waits until the run goes on beyond the step of the fault, or is done. */
  async strike(fault: string, run: Submitted, inject: () => Promise<number | void>): Promise<Findings> {
    const { drydock, site } = this.stage;
    const findings = this.findings(fault);
    const before = await drydock.runAtStep(run.id, 1);
    if (before.state !== "running") throw new Error(`run ${run.id} is ${before.state}, too early for: ${fault}`);
    await site.noteSecrets();
    findings.times = (await inject()) ?? 1;
    const wanted = (await drydock.run(run.id).catch(() => before)).progress.step + goesOnBy;
    const goesOn = async (): Promise<RunView | null> => {
      const now = await drydock.run(run.id).catch(() => null);
      return now && (now.state === "succeeded" || now.progress.step >= wanted) ? now : null;
    };
    const after = await until(`run ${run.id} goes on after: ${fault}`, goesOn, goesOnWithinMs).catch(() => null);
    findings.expect(6, after !== null, `run ${run.id} does not get to step ${wanted} after: ${fault}`);
    await run.again(findings);
    return findings;
  }

  /** A run that no fault was meant for has not noticed any. */
  async expectUndisturbed({ id }: Submitted, findings: Findings): Promise<void> {
    await expectSuccess(this.stage.site, id, findings);
    const { attempts } = await this.stage.drydock.run(id);
    findings.expect(9, attempts.length === 1, `the other run ${id} has ${attempts.length} attempts`);
  }

  /** Ends a scene that broke off: the row of its last fault says so, and its runs are in nobody's way. */
  async breakOff(why: string): Promise<void> {
    await this.#watch.stop();
    for (const { id } of this.runs) await this.stage.drydock.request("POST", `/v1/runs/${id}/cancel`);
    this.#own.at(-1)?.expect(6, false, why);
  }

  /** Waits for all ends, asks the oracle, and closes the rows. Answers what did not hold. */
  async end(wanted: "succeeded" | "cancelled" = "succeeded"): Promise<string[]> {
    const shared = this.#shared;
    for (const { id } of this.runs) if (wanted === "succeeded") await expectSuccess(this.stage.site, id, shared);
    const { doubles, looks } = await this.#watch.stop();
    if (looks < 10) throw new Error(`the workers were looked at ${looks} times only`);
    const own = doubles.filter(({ runId }) => this.runs.some(({ id }) => id === runId));
    shared.expect(1, own.length === 0, JSON.stringify(own[0]));
    for (const { id } of this.runs) {
      const attempts = (await this.stage.drydock.run(id)).attempts.map(({ epoch }) => epoch);
      const launched = this.#watch.epochsOf(id);
      const isSame = attempts.join() === launched.join();
      shared.expect(
        8,
        isSame,
        `run ${id} counts attempts ${attempts.join(", ")}, workers were of ${launched.join(", ")}`,
      );
    }
    await judge(
      this.stage.site,
      this.runs.map(({ id }) => id),
      shared,
    );
    for (const findings of this.#own) findings.include(shared);
    return this.#own.flatMap((findings) => findings.violations());
  }
}

/** Plays a scene to its end. A scene that breaks off counts as no progress. Answers every invariant that does not hold. */
export async function play(
  stage: ClusterStage,
  all: Findings[],
  name: string,
  script: (scene: Scene) => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const scene = new Scene(stage, name, all);
  try {
    return await script(scene);
  } catch (error) {
    await scene.breakOff(messageOf(error));
    throw error;
  }
}
