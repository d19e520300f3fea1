import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Phase } from "@drydock/proto";
import {
  Directive,
  JoinResponseSchema,
  ReportResponseSchema,
  type JoinRequest,
  type JoinResponse,
  type ReportRequest,
  type ReportResponse,
} from "@drydock/proto";

/** What the last report of a process said. */
export interface ReportedOutcome {
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly modelKey: string;
}

/** One attempt that this controller watches. */
export interface AttemptSession {
  /** Id of the run or the evaluation. */
  readonly id: string;
  readonly epoch: number;
  readonly token: string;
  readonly configJson: string;
  /** Stores a report before it is acknowledged. Throwing makes the worker send it again. */
  readonly onReport: (report: ReportRequest) => Promise<void>;
  directive: Directive;
  outcome: ReportedOutcome | null;
  phase: Phase;
  /** When the worker last said anything. */
  lastReportAtMs: number;
  /** Reports that are being stored: while the api is away the worker waits for us, and is not silent. */
  reportsInFlight: number;
  /** When the worker last said that it got further: a step, a checkpoint, an evaluation, another phase. */
  lastProgressAtMs: number;
}

type Identity = Pick<JoinRequest, "runId" | "epoch" | "token">;

/** The attempts that may speak. Whoever has another epoch or token is told to stop, and changes nothing. */
export class AttemptRegistry {
  readonly #sessions = new Map<string, AttemptSession>();

  add(session: AttemptSession): void {
    this.#sessions.set(session.id, session);
  }

  remove(session: AttemptSession): void {
    if (this.#sessions.get(session.id) === session) this.#sessions.delete(session.id);
  }

  /** Tells every worker to stop after a checkpoint. */
  stopAll(): void {
    for (const session of this.#sessions.values()) session.directive = Directive.CHECKPOINT_AND_STOP;
  }

  join(request: JoinRequest, nowMs: number): JoinResponse {
    const session = this.#sessionOf(request);
    if (!session) return create(JoinResponseSchema, { directive: Directive.ABORT });
    session.lastReportAtMs = nowMs;
    session.lastProgressAtMs = nowMs;
    return create(JoinResponseSchema, { directive: session.directive, configJson: session.configJson });
  }

  async report(request: ReportRequest, nowMs: number): Promise<ReportResponse> {
    const session = this.#sessionOf(request);
    if (!session) return create(ReportResponseSchema, { directive: Directive.ABORT });
    session.lastReportAtMs = nowMs;
    if (isProgress(request, session)) session.lastProgressAtMs = nowMs;
    session.phase = request.phase;
    session.reportsInFlight += 1;
    try {
      await session.onReport(request);
    } finally {
      session.reportsInFlight -= 1;
      session.lastReportAtMs = Date.now();
    }
    if (request.outcome) session.outcome = request.outcome;
    return create(ReportResponseSchema, { directive: session.directive });
  }

  /** Null for a stale epoch. @throws ConnectError to be tried again when the attempt is not known (yet), or for a wrong token */
  #sessionOf({ runId, epoch, token }: Identity): AttemptSession | null {
    const session = this.#sessions.get(runId);
    if (!session)
      throw new ConnectError("no controller watches this attempt yet: try again in a moment", Code.Unavailable);
    if (epoch < session.epoch) return null;
    if (epoch !== session.epoch || token !== session.token)
      throw new ConnectError("this epoch and token are not of a running attempt", Code.Unauthenticated);
    return session;
  }
}

function isProgress({ steps, checkpoints, evaluations, phase }: ReportRequest, session: AttemptSession): boolean {
  return steps.length + checkpoints.length + evaluations.length > 0 || phase !== session.phase;
}
