import { Code, ConnectError, createClient, type Client } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { InvalidError, UnavailableError } from "@drydock/kit";
import { Directive as WireDirective, Phase, WorkerService } from "@drydock/proto";
import type { TrainingPhase } from "../training/training-listener.ts";
import { ControllerClosingError } from "./controller-closing-error.ts";
import { StaleAttemptError } from "./stale-attempt-error.ts";
import type { Directive, JoinAnswer, Report, WorkerClient } from "./worker-client.ts";

/** Who this process is; goes with every call. */
export interface RankIdentity {
  readonly runId: string;
  readonly epoch: number;
  readonly rank: number;
  readonly token: string;
}

/** A call without an answer for so long counts as lost. */
const callTimeoutMs = 30_000;

const directives: { readonly [D in WireDirective]: Directive } = {
  [WireDirective.UNSPECIFIED]: "continue",
  [WireDirective.CONTINUE]: "continue",
  [WireDirective.CHECKPOINT]: "checkpoint",
  [WireDirective.CHECKPOINT_AND_STOP]: "checkpoint-and-stop",
  [WireDirective.ABORT]: "abort",
};

const phases: { readonly [P in TrainingPhase]: Phase } = {
  loading: Phase.LOADING,
  "evaluating-before": Phase.EVALUATING_BEFORE,
  training: Phase.TRAINING,
  "evaluating-during": Phase.EVALUATING_DURING,
  "evaluating-after": Phase.EVALUATING_AFTER,
  saving: Phase.SAVING,
};

/** Speaks to the controller by Connect over HTTP. */
export class ConnectWorkerClient implements WorkerClient {
  readonly #client: Client<typeof WorkerService>;
  readonly #identity: RankIdentity;

  constructor(controllerUrl: string, identity: RankIdentity) {
    this.#client = createClient(
      WorkerService,
      createConnectTransport({ baseUrl: controllerUrl, httpVersion: "1.1", defaultTimeoutMs: callTimeoutMs }),
    );
    this.#identity = identity;
  }

  async join(listenAddress: string): Promise<JoinAnswer> {
    return await translate(async () => {
      const answer = await this.#client.join({ ...this.#identity, processId: process.pid, listenAddress });
      const { configJson, resumeFrom, peers, missingRanks } = answer;
      return { directive: directives[answer.directive], configJson, resumeFrom, peers, missingRanks };
    });
  }

  async report(report: Report): Promise<Directive> {
    return await translate(async () => {
      const answer = await this.#client.report({
        ...this.#identity,
        sequence: BigInt(report.sequence),
        phase: phases[report.phase],
        steps: report.steps.map((step) => ({
          ...step,
          tokens: BigInt(step.tokens),
          memoryBytes: BigInt(step.memoryBytes),
          timeMs: BigInt(step.timeMs),
        })),
        checkpoints: report.checkpoints.map((checkpoint) => ({
          ...checkpoint,
          sizeBytes: BigInt(checkpoint.sizeBytes),
        })),
        evaluations: [...report.evaluations],
        logLines: report.logLines.map((line) => ({ ...line, timeMs: BigInt(line.timeMs) })),
        waitsForRanks: report.waitsForRanks,
        ...(report.outcome === null ? {} : { outcome: report.outcome }),
      });
      return directives[answer.directive];
    });
  }
}

async function translate<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const refusal = ConnectError.from(error);
    switch (refusal.code) {
      case Code.Unauthenticated:
      case Code.PermissionDenied:
        throw new StaleAttemptError(error);
      case Code.Aborted:
        throw new ControllerClosingError(error);
      case Code.InvalidArgument:
      case Code.NotFound:
      case Code.Unimplemented:
        throw new InvalidError("controller_refused", `the controller refused the call: ${refusal.rawMessage}`, {
          cause: error,
        });
      default:
        throw new UnavailableError("controller_unavailable", `the controller does not answer: ${refusal.rawMessage}`, {
          cause: error,
        });
    }
  }
}
