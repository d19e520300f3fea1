import type { ObjectStorage } from "@drydock/kit";
import type { Embedded } from "../support/embedded.ts";

/** A worker that somebody sees: a process of this computer, or a pod of the cluster. */
export interface LiveWorker {
  readonly runId: string;
  readonly epoch: number;
  /** Null for what is seen as a pod. */
  readonly pid: number | null;
  readonly rank: number;
  /** Null where there are no nodes. */
  readonly node: string | null;
}

/** A text in which no secret may stand, with its name. */
export interface NamedText {
  readonly name: string;
  readonly text: string;
}

/** A running Drydock as the oracle sees it from outside. What differs between one computer and a cluster is behind this. */
export interface Site {
  readonly drydock: Embedded;
  /** Where runs keep their checkpoints, read by a client of the tests' own. */
  readonly storage: ObjectStorage;
  /** Workers that live now, from whoever runs them: nobody of Drydock is asked. */
  liveWorkers(): Promise<LiveWorker[]>;
  /** What runs that are over left behind beyond its allowed time, as sentences; none when all is clean. */
  leftovers(runIds: readonly string[]): Promise<string[]>;
  /** Keys and tokens of this installation. */
  secrets(): Promise<string[]>;
  /** Logs, and whatever else tells of runs. */
  texts(runIds: readonly string[]): Promise<NamedText[]>;
}
