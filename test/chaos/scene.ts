import { messageOf } from "@drydock/kit";
import { until } from "../support/embedded.ts";
import type { ClusterStage } from "./cluster-stage.ts";
import { Findings } from "./invariants.ts";
import { expectSuccess, judge, slugOf, submit, type Submitted } from "./trial.ts";
import { WorkerWatch } from "./worker-watch.ts";

export interface RunShape {
  readonly ranks: number;
  /** At least so long it trains when nothing gets in its way. */
  readonly seconds: number;
}

/** A LoRA run of the tiny model. */
function loraSpec(ranks: number, steps: number): object {
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

/** A step on two quiet cores; slower machines only train for longer. */
const secondsPerStep = 0.1;

function stepsIn(seconds: number): number {
  return Math.ceil(seconds / secondsPerStep);
}

/** Steps that a run must take after a fault to count as going on. */
const goesOnBy = 2;

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

  async submit({ ranks, seconds }: RunShape): Promise<Submitted> {
    const name = `${this.slug}-${this.runs.length + 1}`;
    const run = await submit(this.stage.site, name, loraSpec(ranks, stepsIn(seconds)), this.#shared);
    this.runs.push(run);
    return run;
  }

  /** Strikes in the middle of training, and waits until the run goes on beyond the step of the fault. */
  async strike(fault: string, run: Submitted, inject: () => Promise<number | void>): Promise<Findings> {
    const findings = this.findings(fault);
    const before = (await this.stage.drydock.runAtStep(run.id, (await this.stepOf(run)) + 1)).progress.step;
    await this.stage.site.noteSecrets();
    findings.times = (await inject()) ?? 1;
    const step = await until(`run ${run.id} goes on after: ${fault}`, async () => {
      const now = await this.stepOf(run).catch(() => 0);
      return now >= before + goesOnBy ? now : null;
    }).catch(() => null);
    findings.expect(6, step !== null, `run ${run.id} stays at step ${before} after: ${fault}`);
    await run.again(findings);
    return findings;
  }

  async stepOf({ id }: Submitted): Promise<number> {
    return (await this.stage.drydock.run(id)).progress.step;
  }

  /** A run that no fault was meant for has not noticed any. */
  async expectUndisturbed({ id }: Submitted, findings: Findings): Promise<void> {
    await expectSuccess(this.stage.site, id, findings);
    const { attempts } = await this.stage.drydock.run(id);
    findings.expect(9, attempts.length === 1, `the other run ${id} has ${attempts.length} attempts`);
  }

  /** Ends the watch also of a scene that broke off; its rows say so. */
  async breakOff(why: string): Promise<void> {
    await this.#watch.stop();
    for (const findings of this.#own) findings.expect(6, false, why);
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
