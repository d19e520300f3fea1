import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "@drydock/kit";
import { Directive, type ReportRequest } from "@drydock/proto";
import type { ClusterBackend, Gang, GangSpec, Placement } from "../backend/cluster-backend.ts";
import { gangEnd } from "../backend/gang-end.ts";
import { classifyEnd, type AttemptEnd } from "./attempt-end.ts";
import type { AttemptStore, StoredAttempt } from "./attempt-files.ts";
import { newRanks, type AttemptRegistry, type AttemptSession, type ReportedOutcome } from "./attempt-registry.ts";
import { watchGang, type Patience, type WatchSignals } from "./watch-gang.ts";

export interface AttemptHostOptions {
  readonly backend: ClusterBackend;
  readonly registry: AttemptRegistry;
  readonly files: AttemptStore;
  readonly storageUrl: string;
  readonly controllerUrl: string;
  /** Folder for what workers keep while they run, one folder a run. */
  readonly scratchDirectory: string;
  readonly memoryLimitBytes: number | null;
  readonly patience: Patience;
  readonly logger: Logger;
}

export interface AttemptStart {
  readonly id: string;
  readonly epoch: number;
  readonly configJson: string;
  readonly ranks: number;
  readonly placement: Placement;
  /** Folder in object storage for `rank-<rank>.log`. */
  readonly logPrefix: string;
}

/** An attempt with its ranks. */
export interface HostedAttempt {
  readonly session: AttemptSession;
  readonly gang: Gang;
}

type OnReport = (report: ReportRequest) => Promise<void>;

/** Starts attempts, finds those that run already, and watches them to their end. Knows nothing of runs or evaluations. */
export class AttemptHost {
  readonly #options: AttemptHostOptions;

  constructor(options: AttemptHostOptions) {
    this.#options = options;
  }

  /**
   * Starts all ranks with a token of their own. Whatever an older epoch says from now on is refused. Doing it again for an
   * epoch starts only what does not run yet, with the same token.
   */
  async start(
    { id, epoch, configJson, ranks, placement, logPrefix }: AttemptStart,
    onReport: OnReport,
  ): Promise<HostedAttempt> {
    const { files, backend, scratchDirectory, memoryLimitBytes, storageUrl, controllerUrl, patience } = this.#options;
    const before = await files.read(id);
    const avoidNodes = before?.avoidNodes ?? [];
    const stored: StoredAttempt = {
      epoch,
      token: before?.epoch === epoch ? before.token : files.newToken(id, epoch),
      configJson,
      outcomes: Array.from({ length: ranks }, () => null),
      avoidNodes,
    };
    await files.write(id, stored);
    const scratch = join(scratchDirectory, id);
    await mkdir(scratch, { recursive: true });
    const session = this.#session(id, stored, onReport);
    const gang = await backend.start({
      name: gangName(id, epoch),
      ranks,
      memoryLimitBytes,
      placement: { ...placement, avoidNodes },
      stopGraceMs: patience.stopMs,
      logKeys: Array.from({ length: ranks }, (_, rank) => `${logPrefix}/rank-${rank}.log`),
      environment: {
        ...allocator,
        DRYDOCK_RUN_ID: id,
        DRYDOCK_EPOCH: String(epoch),
        DRYDOCK_CONTROLLER_URL: controllerUrl,
        STORAGE_URL: storageUrl,
        DRYDOCK_SCRATCH: scratch,
        ...(memoryLimitBytes === null ? {} : { DRYDOCK_MEMORY_LIMIT: String(memoryLimitBytes) }),
      },
      secrets: secretsOf(stored),
    });
    return { session, gang };
  }

  /** Takes over ranks that an earlier controller (or an earlier try of an activity) started; null when they are gone. */
  async adopt(id: string, epoch: number, onReport: OnReport): Promise<HostedAttempt | null> {
    const { backend, files } = this.#options;
    const stored = await files.read(id);
    const isOurs = stored?.epoch === epoch;
    const gang = await backend.find(gangName(id, epoch), isOurs ? secretsOf(stored) : undefined);
    if (!gang) return null;
    if (isOurs) return { session: this.#session(id, stored, onReport), gang };
    gang.kill();
    await gang.ended;
    return null;
  }

  /** Whether a rank of this attempt said how it ended. */
  async hasReportedEnd(id: string, epoch: number): Promise<boolean> {
    const stored = await this.#options.files.read(id);
    return stored?.epoch === epoch && stored.outcomes.some((outcome) => outcome !== null);
  }

  /** Epoch of the newest attempt that was started here; 0 when none was. */
  async newestEpoch(id: string): Promise<number> {
    return (await this.#options.files.read(id))?.epoch ?? 0;
  }

  /** Watches to the end. @throws the reason of `signals.abandon`; the worker is then left alone */
  async watch({ session, gang }: HostedAttempt, signals: WatchSignals): Promise<AttemptEnd> {
    const { registry, patience, logger } = this.#options;
    try {
      const { end, hungBecause } = await watchGang(gang, session, patience, signals);
      const classified = classifyEnd(end, outcomesOf(session), hungBecause);
      logger.info({ id: session.id, attempt: session.epoch, ...end.cause, reason: classified.reason }, "worker ended");
      if (classified.reason === "hung" || classified.reason === "hardware")
        await this.#avoid(session.id, end.cause.node);
      return classified;
    } finally {
      registry.remove(session);
    }
  }

  /** The next attempt of this run goes to another node. */
  async #avoid(id: string, node: string | null): Promise<void> {
    const stored = node === null ? null : await this.#options.files.read(id);
    if (!stored || node === null || stored.avoidNodes.includes(node)) return;
    await this.#options.files.write(id, { ...stored, avoidNodes: [...stored.avoidNodes, node] });
  }

  /** How an attempt ended that nobody watched: by its last report, else it is lost. */
  async endOfUnwatched(id: string, epoch: number): Promise<AttemptEnd> {
    const stored = await this.#options.files.read(id);
    const outcomes = stored?.epoch === epoch ? stored.outcomes : [null];
    const ends = outcomes.map((outcome, rank) => ({ ...nobodySaw, rank, exitCode: outcome?.exitCode ?? null }));
    // Ranks that nobody saw end count as lost, unless every rank that said something is done.
    const told = ends.filter(({ rank }) => outcomes[rank]);
    const end = classifyEnd(gangEnd(told.length > 0 ? told : ends), outcomes, null);
    return told.length > 0 ? end : { ...end, message: "the worker was gone when the controller came back" };
  }

  #session(id: string, stored: StoredAttempt, onReport: OnReport): AttemptSession {
    const { registry, files } = this.#options;
    const outcomes = [...stored.outcomes];
    const ranks = newRanks(outcomes.length, Date.now());
    for (const rank of ranks) rank.outcome = outcomes[rank.rank] ?? null;
    let written: Promise<void> = Promise.resolve();
    const session: AttemptSession = {
      id,
      epoch: stored.epoch,
      token: stored.token,
      configJson: stored.configJson,
      ranks,
      directive: Directive.CONTINUE,
      onReport: async (report) => {
        await onReport(report);
        if (!report.outcome) return;
        const { exitCode, reason, message, modelKey } = report.outcome;
        outcomes[report.rank] = { exitCode, reason, message, modelKey };
        // Ranks end at the same time; the file holds what all of them said.
        written = written.catch(() => undefined).then(async () => await files.write(id, { ...stored, outcomes }));
        await written;
      },
    };
    registry.add(session);
    return session;
  }
}

/**
 * glibc keeps what threads freed in heaps of their own. With two for all threads, a row of 8k tokens peaks a quarter lower and no
 * step is slower (docs/log/2026-11-23-memory.md).
 */
const allocator = { MALLOC_ARENA_MAX: "2" } as const;

const nobodySaw = { exitCode: null, signal: null, reason: "vanished", node: null, message: null } as const;

function outcomesOf({ ranks }: AttemptSession): (ReportedOutcome | null)[] {
  return ranks.map(({ outcome }) => outcome);
}

function secretsOf({ token }: StoredAttempt): GangSpec["secrets"] {
  return { DRYDOCK_WORKER_TOKEN: token };
}

function gangName(id: string, epoch: number): string {
  return `${id}-a${epoch}`;
}
