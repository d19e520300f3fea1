/** What a back end is asked to start: one rank of an attempt. A pod on a cluster, a process on one computer. */
export interface PodSpec {
  /** `<run or evaluation id>-a<epoch>-r<rank>`: starting the same name twice starts one. */
  readonly name: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly memoryLimitBytes: number | null;
  /** Key of the log in object storage. */
  readonly logKey: string;
}

/** How a pod ended. `exitCode` is null when nobody saw it (a process that another controller had started). */
export interface PodEnd {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly reason: "exited" | "out-of-memory" | "vanished";
}

/** A started pod. */
export interface Pod {
  readonly name: string;
  /** Resolves when the pod has ended, however it did. */
  readonly ended: Promise<PodEnd>;
  /** Asks to stop after a checkpoint (SIGTERM). */
  stop(): void;
  /** Ends it at once (SIGKILL). */
  kill(): void;
}

/** Starts and finds the processes of attempts. Every back end passes one contract. */
export interface ClusterBackend {
  start(pod: PodSpec): Promise<Pod>;
  /** A pod that runs already under this name, started by this controller or by one before it; null when there is none. */
  find(name: string): Promise<Pod | null>;
  /** All pods that run. */
  list(): Promise<Pod[]>;
}
