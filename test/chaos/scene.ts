import { until } from "../support/embedded.ts";
import type { ClusterStage } from "./cluster-stage.ts";
import { Findings } from "./invariants.ts";
import type { LiveWorker } from "./site.ts";
import { expectSuccess, judge, slugOf, submit, type Submitted } from "./trial.ts";
import { WorkerWatch } from "./worker-watch.ts";

export interface RunShape {
  readonly ranks: number;
  /** At least so long it trains when nothing gets in its way. */
  readonly seconds: number;
}

/** A LoRA run of the tiny model. */
function specOf(ranks: number, steps: number): object {
  return {
    model: "drydock-tiny-vl",
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    mode: "lora",
    resources: { gpus: ranks },
    training: { maxSteps: steps, globalBatchSize: 8, learningRate: 1e-3 },
    checkpoint: { everySteps: 5 },
    evaluation: { before: false, maxNewTokens: 4 },
  };
}

/** A step of two ranks on two quiet cores; slower machines only train for longer. */
const secondsPerStep = 0.2;

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
  readonly #watch: WorkerWatch;
  readonly #shared: Findings;
  readonly #all: Findings[];
  readonly #own: Findings[] = [];

  /** @param all  gets the findings of every fault */
  constructor(stage: ClusterStage, name: string, all: Findings[], isFenced?: (worker: LiveWorker) => boolean) {
    this.stage = stage;
    this.#all = all;
    this.#shared = new Findings(name);
    this.#watch = new WorkerWatch(stage.site, isFenced);
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
    const run = await submit(this.stage.site, name, specOf(ranks, stepsIn(seconds)), this.#shared);
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

  /** Waits for all ends, asks the oracle, and closes the rows. Answers what did not hold. */
  async end(wanted: "succeeded" | "cancelled" = "succeeded"): Promise<string[]> {
    const shared = this.#shared;
    for (const { id } of this.runs) if (wanted === "succeeded") await expectSuccess(this.stage.site, id, shared);
    const { doubles } = await this.#watch.stop();
    shared.expect(1, doubles.length === 0, JSON.stringify(doubles[0]));
    for (const { id } of this.runs) {
      const attempts = (await this.stage.drydock.run(id)).attempts.map(({ epoch }) => epoch);
      const { metrics } = await (await import("./oracle.ts")).evidenceOf(this.stage.drydock, id);
      const t = metrics.map((m) => m.seconds).toSorted((a, b) => a - b);
      console.log(
        "PACE",
        this.slug,
        id,
        t.length,
        "min",
        t[0],
        "median",
        t[t.length >> 1],
        "sum",
        t.reduce((a, b) => a + b, 0),
      );
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
