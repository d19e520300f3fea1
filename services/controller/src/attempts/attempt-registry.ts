import { Code, ConnectError } from "@connectrpc/connect";
import { Directive, type JoinRequest, type JoinResponse, type ReportRequest, type ReportResponse } from "@drydock/proto";

/** What the last report of a process said. */
export interface ReportedOutcome {
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly modelKey: string;
}

/** One attempt that this controller watches. */
export interface AttemptSession {
  readonly id: string;
  readonly epoch: number;
  readonly token: string;
  readonly configJson: string;
  /** Stores a report before it is acknowledged. Throwing makes the worker send it again. */
  readonly onReport: (report: ReportRequest) => Promise<void>;
  directive: Directive;
  outcome: ReportedOutcome | null;
  lastReportAtMs: number;
}

type Identity = Pick<JoinRequest, "runId" | "epoch" | "rank" | "token">;

/** The attempts that may speak. Whoever has another epoch or token is told to stop, and changes nothing. */
export class AttemptRegistry {
  readonly #sessions = new Map<string, AttemptSession>();

  add(session: AttemptSession): void {
    this.#sessions.set(session.id, session);
  }

  remove(session: AttemptSession): void {
    if (this.#sessions.get(session.id) === session) this.#sessions.delete(session.id);
  }

  join(request: JoinRequest): JoinResponse {
    const session = this.#sessionOf(request);
    if (!session) return answer(Directive.ABORT);
    session.lastReportAtMs = Date.now();
    return { ...answer(session.directive), configJson: session.configJson };
  }

  async report(request: ReportRequest): Promise<ReportResponse> {
    const session = this.#sessionOf(request);
    if (!session) return { $typeName: "drydock.worker.v1.ReportResponse", directive: Directive.ABORT };
    session.lastReportAtMs = Date.now();
    await session.onReport(request);
    if (request.outcome) session.outcome = request.outcome;
    return { $typeName: "drydock.worker.v1.ReportResponse", directive: session.directive };
  }

  /** Null for a stale epoch. @throws ConnectError to be tried again when the attempt is not known (yet), or for a wrong token */
  #sessionOf({ runId, epoch, token }: Identity): AttemptSession | null {
    const session = this.#sessions.get(runId);
    if (!session) throw new ConnectError("this attempt is not watched by any controller yet", Code.Unavailable);
    if (epoch < session.epoch) return null;
    if (epoch !== session.epoch || token !== session.token) throw new ConnectError("wrong epoch or token", Code.Unauthenticated);
    return session;
  }
}

function answer(directive: Directive): JoinResponse {
  return { $typeName: "drydock.worker.v1.JoinResponse", directive, configJson: "", peers: [], resumeFrom: "" };
}
