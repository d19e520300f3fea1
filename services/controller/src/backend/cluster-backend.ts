/** Where the ranks of a gang may run, and before whom. */
export interface Placement {
  /** Name of the accelerator's catalogue entry; null: no GPU is asked for. */
  readonly accelerator: string | null;
  readonly gpusPerRank: number;
  readonly queue: string;
  readonly priority: "low" | "normal" | "high";
  /** Nodes on which an earlier attempt hung or saw a hardware fault. */
  readonly avoidNodes: readonly string[];
}

/** What a back end is asked to start: all ranks of one attempt. Pods on a cluster, processes on one computer. */
export interface GangSpec {
  /** `<run or evaluation id>-a<epoch>`: starting the same name twice starts one. */
  readonly name: string;
  readonly ranks: number;
  /** The same for all ranks; the back end adds DRYDOCK_RANK and DRYDOCK_WORLD_SIZE. */
  readonly environment: Readonly<Record<string, string>>;
  /** Environment that nobody else may read: tokens and keys. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Of one rank. */
  readonly memoryLimitBytes: number | null;
  readonly placement: Placement;
  /** From the wish to stop to the end by force: long enough for a checkpoint. */
  readonly stopGraceMs: number;
  /** Keys of the logs in object storage, by rank. */
  readonly logKeys: readonly string[];
}

/** What a back end saw of an end, beside the exit code. The classes of failure are made from it (design §6). */
export type EndReason =
  | "exited"
  | "out-of-memory"
  | "vanished"
  /** Taken away for one with a higher priority, or for its owner's quota. */
  | "preempted"
  /** The node was drained, shut down or short of something. */
  | "drained"
  | "node-lost"
  /** The node refused the pod before any container ran. */
  | "refused-by-node"
  | "image-unavailable"
  /** The pod cannot be started as it is written: a missing secret, a bad mount, a refusal by policy. */
  | "bad-pod"
  | "disk-full"
  | "deadline";

/** How one rank ended. `exitCode` is null when nobody saw it. */
export interface RankEnd {
  readonly rank: number;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly reason: EndReason;
  readonly node: string | null;
  /** What the cluster said of it, in a sentence; null when it said nothing. */
  readonly message: string | null;
}

/** How a gang ended: each rank, and the one that is the cause (the others end because of it). */
export interface GangEnd {
  readonly cause: RankEnd;
  readonly ranks: readonly RankEnd[];
}

/** The started ranks of one attempt. One that ends badly takes the others with it. */
export interface Gang {
  readonly name: string;
  /** How many ranks run. */
  readonly ranks: number;
  /** What its ranks hold, where that is counted by accelerator. */
  readonly placement?: Pick<Placement, "accelerator" | "gpusPerRank" | "queue">;
  /** Resolves when every rank has ended, however it did. */
  readonly ended: Promise<GangEnd>;
  /** Asks all ranks to stop after a checkpoint (SIGTERM). */
  stop(): void;
  /** Ends them at once (SIGKILL). */
  kill(): void;
  /** Tells why the gang does not run yet, now and whenever that changes. */
  onWaiting?(tell: (why: string) => void): void;
}

/** Starts and finds gangs. Every back end passes one contract. */
export interface ClusterBackend {
  start(gang: GangSpec): Promise<Gang>;
  /**
   * A gang that runs already under this name, started by this controller or by one before it; null when there is none. One
   * whose start was cut short before it had its secrets gets them, where they are told.
   */
  find(name: string, secrets?: GangSpec["secrets"]): Promise<Gang | null>;
  /** All gangs that run. */
  list(): Promise<Gang[]>;
}
