import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "@drydock/kit";
import { Directive, Phase, type ReportRequest } from "@drydock/proto";
import type { ClusterBackend, Pod } from "../backend/cluster-backend.ts";
import { classifyEnd, type AttemptEnd } from "./attempt-end.ts";
import type { AttemptFiles, StoredAttempt } from "./attempt-files.ts";
import type { AttemptRegistry, AttemptSession } from "./attempt-registry.ts";
import { watchPod, type Patience, type WatchSignals } from "./watch-pod.ts";

export interface AttemptHostOptions {
  readonly backend: ClusterBackend;
  readonly registry: AttemptRegistry;
  readonly files: AttemptFiles;
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
  readonly logKey: string;
}

/** An attempt with its process. */
export interface HostedAttempt {
  readonly session: AttemptSession;
  readonly pod: Pod;
}

type OnReport = (report: ReportRequest) => Promise<void>;

/** Starts attempts, finds those that run already, and watches them to their end. Knows nothing of runs or evaluations. */
export class AttemptHost {
  readonly #options: AttemptHostOptions;

  constructor(options: AttemptHostOptions) {
    this.#options = options;
  }

  /** Starts one rank with a new token. Whatever an older epoch says from now on is refused. */
  async start({ id, epoch, configJson, logKey }: AttemptStart, onReport: OnReport): Promise<HostedAttempt> {
    const { files, backend, scratchDirectory, memoryLimitBytes, storageUrl, controllerUrl } = this.#options;
    const stored: StoredAttempt = { epoch, token: randomBytes(24).toString("base64url"), configJson, outcome: null };
    await files.write(id, stored);
    const scratch = join(scratchDirectory, id);
    await mkdir(scratch, { recursive: true });
    const session = this.#session(id, stored, onReport);
    const pod = await backend.start({
      name: podName(id, epoch),
      memoryLimitBytes,
      logKey,
      environment: {
        DRYDOCK_RUN_ID: id,
        DRYDOCK_EPOCH: String(epoch),
        DRYDOCK_RANK: "0",
        DRYDOCK_WORKER_TOKEN: stored.token,
        DRYDOCK_CONTROLLER_URL: controllerUrl,
        STORAGE_URL: storageUrl,
        DRYDOCK_SCRATCH: scratch,
        ...(memoryLimitBytes === null ? {} : { DRYDOCK_MEMORY_LIMIT: String(memoryLimitBytes) }),
      },
    });
    return { session, pod };
  }

  /** Takes over a process that an earlier controller (or an earlier try of an activity) started; null when it is gone. */
  async adopt(id: string, epoch: number, onReport: OnReport): Promise<HostedAttempt | null> {
    const pod = await this.#options.backend.find(podName(id, epoch));
    if (!pod) return null;
    const stored = await this.#options.files.read(id);
    if (stored?.epoch === epoch) return { session: this.#session(id, stored, onReport), pod };
    pod.kill();
    await pod.ended;
    return null;
  }

  /** Epoch of the newest attempt that was started here; 0 when none was. */
  async newestEpoch(id: string): Promise<number> {
    return (await this.#options.files.read(id))?.epoch ?? 0;
  }

  /** Watches to the end. @throws the reason of `signals.abandon`; the worker is then left alone */
  async watch({ session, pod }: HostedAttempt, signals: WatchSignals): Promise<AttemptEnd> {
    const { registry, patience, logger } = this.#options;
    try {
      const { end, hungBecause } = await watchPod(pod, session, patience, signals);
      const classified = classifyEnd(end, session.outcome, hungBecause);
      logger.info({ id: session.id, attempt: session.epoch, ...end, reason: classified.reason }, "worker ended");
      return classified;
    } finally {
      registry.remove(session);
    }
  }

  /** How an attempt ended that nobody watched: by its last report, else it is lost. */
  async endOfUnwatched(id: string, epoch: number): Promise<AttemptEnd> {
    const stored = await this.#options.files.read(id);
    const outcome = stored?.epoch === epoch ? stored.outcome : null;
    const end = classifyEnd({ exitCode: null, signal: null, reason: "vanished" }, outcome, null);
    return outcome ? end : { ...end, message: "the worker was gone when the controller came back" };
  }

  #session(id: string, stored: StoredAttempt, onReport: OnReport): AttemptSession {
    const { registry, files } = this.#options;
    const nowMs = Date.now();
    const session: AttemptSession = {
      id,
      epoch: stored.epoch,
      token: stored.token,
      configJson: stored.configJson,
      directive: Directive.CONTINUE,
      outcome: stored.outcome,
      phase: Phase.UNSPECIFIED,
      lastReportAtMs: nowMs,
      reportsInFlight: 0,
      lastProgressAtMs: nowMs,
      onReport: async (report) => {
        await onReport(report);
        if (!report.outcome) return;
        const { exitCode, reason, message, modelKey } = report.outcome;
        await files.write(id, { ...stored, outcome: { exitCode, reason, message, modelKey } });
      },
    };
    registry.add(session);
    return session;
  }
}

function podName(id: string, epoch: number): string {
  return `${id}-a${epoch}-r0`;
}
