import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { setTimeout as delay } from "node:timers/promises";
import {
  Directive,
  JoinResponseSchema,
  Phase,
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

/** What one rank of an attempt has said. */
export interface RankSession {
  readonly rank: number;
  /** It runs and has found us. */
  hasSpoken: boolean;
  /** `host:port` where it waits for the next rank; null until it has joined. */
  listenAddress: string | null;
  outcome: ReportedOutcome | null;
  phase: Phase;
  /** It has done its part of a step and waits for those of the others. */
  waitsForRanks: boolean;
  /** When it last said anything. */
  lastReportAtMs: number;
  /** Its reports that are being stored: while the api is away it waits for us, and is not silent. */
  reportsInFlight: number;
  /** When it last said that it got further: a step, a checkpoint, an evaluation, another phase. */
  lastProgressAtMs: number;
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
  readonly ranks: readonly RankSession[];
  directive: Directive;
}

/** Ranks that have said nothing yet. */
export function newRanks(count: number, nowMs: number): RankSession[] {
  return Array.from({ length: count }, (_, rank) => ({
    rank,
    hasSpoken: false,
    listenAddress: null,
    outcome: null,
    phase: Phase.UNSPECIFIED,
    waitsForRanks: false,
    lastReportAtMs: nowMs,
    reportsInFlight: 0,
    lastProgressAtMs: nowMs,
  }));
}

type Identity = Pick<JoinRequest, "runId" | "epoch" | "token" | "rank">;

/** A rank whose peers are missing gets its answer when they have come, or after so long. */
const rendezvousMs = 2_000;
const rendezvousLookMs = 50;

/** The attempts that may speak. Whoever has another epoch or token is told to stop, and changes nothing. */
export class AttemptRegistry {
  readonly #sessions = new Map<string, AttemptSession>();
  #isClosing = false;

  add(session: AttemptSession): void {
    this.#sessions.set(session.id, session);
  }

  remove(session: AttemptSession): void {
    if (this.#sessions.get(session.id) === session) this.#sessions.delete(session.id);
  }

  /** Tells every worker to stop after a checkpoint. Those that nobody watches by now are told that nobody will. */
  stopAll(): void {
    this.#isClosing = true;
    for (const session of this.#sessions.values()) session.directive = Directive.CHECKPOINT_AND_STOP;
  }

  /** Tells a rank its config and, once all ranks have joined, where they are. */
  async join(request: JoinRequest, nowMs: number): Promise<JoinResponse> {
    const known = this.#rankOf(request);
    if (!known) return create(JoinResponseSchema, { directive: Directive.ABORT });
    known.rank.hasSpoken = true;
    known.rank.listenAddress = request.listenAddress;
    known.rank.lastReportAtMs = nowMs;
    known.rank.lastProgressAtMs = nowMs;
    for (
      let waitedMs = 0;
      waitedMs < rendezvousMs && missingRanks(known.session).length > 0;
      waitedMs += rendezvousLookMs
    )
      await delay(rendezvousLookMs);
    // Another attempt may have begun while this rank waited.
    const still = this.#rankOf(request);
    if (!still) return create(JoinResponseSchema, { directive: Directive.ABORT });
    still.rank.lastReportAtMs = Date.now();
    const { directive, configJson, ranks } = still.session;
    const missing = missingRanks(still.session);
    const peers = missing.length > 0 || ranks.length === 1 ? [] : ranks.map(({ listenAddress }) => listenAddress ?? "");
    return create(JoinResponseSchema, { directive, configJson, peers, missingRanks: missing });
  }

  async report(request: ReportRequest, nowMs: number): Promise<ReportResponse> {
    const known = this.#rankOf(request);
    if (!known) return create(ReportResponseSchema, { directive: Directive.ABORT });
    const { session, rank } = known;
    rank.hasSpoken = true;
    rank.lastReportAtMs = nowMs;
    if (isProgress(request, rank)) rank.lastProgressAtMs = nowMs;
    rank.phase = request.phase;
    rank.waitsForRanks = request.waitsForRanks;
    rank.reportsInFlight += 1;
    try {
      await session.onReport(request);
    } finally {
      rank.reportsInFlight -= 1;
      rank.lastReportAtMs = Date.now();
    }
    if (request.outcome) rank.outcome = request.outcome;
    return create(ReportResponseSchema, { directive: session.directive });
  }

  /**
   * Null for a stale epoch.
   *
   * @throws ConnectError `unavailable` (try again) when the attempt is not known yet, `aborted` when this controller will never know it, `unauthenticated` for a wrong token
   */
  #rankOf({ runId, epoch, token, rank }: Identity): { session: AttemptSession; rank: RankSession } | null {
    const session = this.#sessions.get(runId);
    if (!session && this.#isClosing)
      throw new ConnectError("the controller is closing and watches no more attempts", Code.Aborted);
    if (!session)
      throw new ConnectError("no controller watches this attempt yet: try again in a moment", Code.Unavailable);
    if (epoch < session.epoch) return null;
    if (epoch !== session.epoch || token !== session.token)
      throw new ConnectError("this epoch and token are not of a running attempt", Code.Unauthenticated);
    const found = session.ranks[rank];
    if (!found)
      throw new ConnectError(
        `there is no rank ${rank}: the attempt has ${session.ranks.length}, counted from 0`,
        Code.InvalidArgument,
      );
    return { session, rank: found };
  }
}

function missingRanks({ ranks }: AttemptSession): number[] {
  return ranks.filter(({ listenAddress }) => listenAddress === null).map(({ rank }) => rank);
}

function isProgress({ steps, checkpoints, evaluations, phase }: ReportRequest, known: RankSession): boolean {
  return steps.length + checkpoints.length + evaluations.length > 0 || phase !== known.phase;
}
