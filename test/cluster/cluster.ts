import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Component } from "./component.ts";
import { startControlPlane, type ControlPlane } from "./control-plane.ts";
import type { KubeObject } from "./kube-client.ts";
import { createNodes, endPatch, startSimulator, type NodeShape, type PodEnding } from "./simulated-nodes.ts";

export interface ClusterOptions {
  /** Where the cluster lives; a new temporary folder when absent. */
  readonly folder?: string;
  readonly nodes?: readonly NodeShape[];
  readonly address?: string;
  readonly isDurable?: boolean;
  /** Between two signs of life of a simulated node. */
  readonly heartbeatMs?: number;
}

/** A small GPU cluster: two racks of H100 nodes and one of L4. */
export const defaultNodes: readonly NodeShape[] = [
  { prefix: "h100", count: 4, product: "NVIDIA-H100-80GB-HBM3", nodesPerRack: 2 },
  { prefix: "l4", count: 2, product: "NVIDIA-L4", gpus: 4, memory: "256Gi" },
];

/** A running test cluster. */
export class Cluster implements AsyncDisposable {
  readonly plane: ControlPlane;
  readonly #components: Component[];
  readonly #ownFolder: string | null;

  private constructor(plane: ControlPlane, components: Component[], ownFolder: string | null) {
    this.plane = plane;
    this.#components = components;
    this.#ownFolder = ownFolder;
  }

  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const ownFolder = options.folder === undefined ? await mkdtemp(join(tmpdir(), "drydock-cluster-")) : null;
    const folder = options.folder ?? ownFolder!;
    await mkdir(folder, { recursive: true });
    const plane = await startControlPlane({ ...options, folder });
    const simulator = await startSimulator(plane, options);
    await simulator.start();
    const cluster = new Cluster(plane, [...plane.components, simulator], ownFolder);
    for (const shape of options.nodes ?? defaultNodes) await createNodes(plane, shape);
    return cluster;
  }

  get admin(): ControlPlane["admin"] {
    return this.plane.admin;
  }

  component(name: string): Component {
    const found = this.#components.find((component) => component.name === name);
    if (!found) throw new Error(`no component ${name}: there are ${this.#components.map((c) => c.name).join(", ")}`);
    return found;
  }

  /** Adds a process that ends with the cluster. */
  add(component: Component): void {
    this.#components.push(component);
  }

  /** A new namespace in which restricted Pod Security is enforced. */
  async namespace(prefix: string): Promise<string> {
    const name = `${prefix}-${randomBytes(3).toString("hex")}`;
    const labels = {
      "pod-security.kubernetes.io/enforce": "restricted",
      "pod-security.kubernetes.io/enforce-version": "latest",
    };
    await this.admin.call("POST", "/api/v1/namespaces", { metadata: { name, labels } });
    return name;
  }

  async pods(namespace: string, selector = ""): Promise<KubeObject[]> {
    const query = selector === "" ? "" : `?labelSelector=${encodeURIComponent(selector)}`;
    return await this.admin.list(`/api/v1/namespaces/${namespace}/pods${query}`);
  }

  /** Ends a simulated pod in the given way. */
  async endPod(namespace: string, name: string, ending: PodEnding): Promise<void> {
    await this.admin.patch(`/api/v1/namespaces/${namespace}/pods/${name}`, endPatch(ending));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The API server last but one: what asks it would only complain.
    for (const component of this.#components.toReversed()) await component.stop(1000);
    if (this.#ownFolder !== null) await rm(this.#ownFolder, { recursive: true, force: true });
  }
}
