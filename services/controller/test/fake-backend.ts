import type { ClusterBackend, Pod, PodEnd, PodSpec } from "../src/backend/cluster-backend.ts";

/** A pod that runs until it is told to end. */
export class FakePod implements Pod {
  readonly name: string;
  readonly ended: Promise<PodEnd>;
  /** What was asked of it, in order. */
  readonly asked: string[] = [];
  readonly #obeysStop: boolean;
  #end: (end: PodEnd) => void = () => undefined;

  constructor(name: string, obeysStop = true) {
    this.name = name;
    this.#obeysStop = obeysStop;
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  end(end: Partial<PodEnd>): void {
    this.#end({ exitCode: null, signal: null, reason: "exited", ...end });
  }

  stop(): void {
    this.asked.push("stop");
    if (this.#obeysStop) this.end({ exitCode: 143 });
  }

  kill(): void {
    this.asked.push("kill");
    this.end({ signal: "SIGKILL" });
  }
}

/** Pods in memory. */
export class FakeBackend implements ClusterBackend {
  readonly pods: FakePod[];
  readonly started: PodSpec[] = [];

  constructor(...pods: FakePod[]) {
    this.pods = pods;
  }

  async start(spec: PodSpec): Promise<Pod> {
    this.started.push(spec);
    const pod = new FakePod(spec.name);
    this.pods.push(pod);
    return pod;
  }

  async find(name: string): Promise<Pod | null> {
    return this.pods.find((pod) => pod.name === name) ?? null;
  }

  async list(): Promise<FakePod[]> {
    return this.pods;
  }
}
