import { createNodes } from "../cluster/simulated-nodes.ts";
import { until } from "../support/embedded.ts";
import type { ClusterStage } from "./cluster-stage.ts";
import type { Findings } from "./invariants.ts";
import { cordon, isRunning, nodeOf } from "./real-node-faults.ts";
import { Scene } from "./scene.ts";
import type { Submitted } from "./trial.ts";

/**
 * A gang whose first attempt lies on simulated nodes, one of which is deleted; the second trains on real ones. Kubernetes
 * itself takes most of a minute to notice, so this goes on beside the other scenes, whose faults strike it, too.
 */
export class LostGang {
  readonly #scene: Scene;
  readonly #run: Submitted;
  readonly #findings: Findings;
  readonly #nodes: readonly string[];

  private constructor(scene: Scene, run: Submitted, findings: Findings, nodes: readonly string[]) {
    this.#scene = scene;
    this.#run = run;
    this.#findings = findings;
    this.#nodes = nodes;
  }

  static async begin(stage: ClusterStage, all: Findings[]): Promise<LostGang> {
    const { cluster, site } = stage;
    const { realNodes } = cluster.connection;
    const scene = new Scene(stage, "gang", all);
    const findings = scene.findings("the node of a gang is deleted");
    const nodes = await createNodes(cluster.plane, { prefix: "plain", count: 2, product: null });
    for (const node of realNodes) await cordon(cluster, node, true);
    try {
      const run = await scene.submit({ ranks: 2, steps: 50 });
      const pods = await until("the gang lies on simulated nodes", async () => {
        const found = await site.pods(run.id);
        return found.length === 2 && found.every(isRunning) ? found : null;
      });
      for (const node of nodes) await cordon(cluster, node, true);
      await cluster.admin.call("DELETE", `/api/v1/nodes/${nodeOf(pods[0]!)}`);
      return new LostGang(scene, run, findings, nodes);
    } finally {
      for (const node of realNodes) await cordon(cluster, node, false);
    }
  }

  /** Waits until the gang has trained elsewhere. Answers what did not hold. */
  async end(): Promise<string[]> {
    const { stage } = this.#scene;
    const violations = await this.#scene.end();
    const { attempts } = await stage.drydock.run(this.#run.id);
    const classes = attempts.map(({ failureClass }) => failureClass ?? "none");
    this.#findings.expect(8, classes.join() === "node-lost,none", `its attempts ended as ${classes.join(", ")}`);
    for (const node of this.#nodes)
      if ((await stage.cluster.admin.find(`/api/v1/nodes/${node}`)) !== null)
        await stage.cluster.admin.call("DELETE", `/api/v1/nodes/${node}`);
    return [...violations, ...this.#findings.violations()];
  }
}
