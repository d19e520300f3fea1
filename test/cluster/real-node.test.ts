import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Cluster } from "./cluster.ts";
import { smallImage } from "./images/small-images.ts";
import { ensureWorkerImage, workerImage } from "./images/service-image.ts";
import { jobOf, succeeds, type JobShape } from "./job-fixtures.ts";
import type { KubeObject } from "./kube-client.ts";
import { realNodesMissing, sharedCluster } from "./shared-cluster.ts";

describe.skipIf(realNodesMissing() !== null)("on nodes with a real kubelet", () => {
  let cluster: Cluster;
  let namespace: string;
  beforeAll(async () => {
    cluster = await sharedCluster();
    namespace = await cluster.namespace("real");
    await cluster.importImage(await ensureWorkerImage());
  });
  afterAll(async () => {
    await cluster?.admin.call("DELETE", `/api/v1/namespaces/${namespace}`);
  });

  const start = async (name: string, shape: JobShape): Promise<void> => {
    await cluster.admin.call("POST", `/apis/batch/v1/namespaces/${namespace}/jobs`, jobOf(name, shape));
  };
  const jobEnds = async (name: string, type: "Complete" | "Failed"): Promise<KubeObject[]> =>
    await succeeds(async () => {
      const job = await cluster.admin.call("GET", `/apis/batch/v1/namespaces/${namespace}/jobs/${name}`);
      const { conditions = [] } = job["status"] as { conditions?: object[] };
      expect(conditions).toContainEqual(expect.objectContaining({ type, status: "True" }));
      return await cluster.pods(namespace, `job-name=${name}`);
    });
  const isRunning = async (name: string): Promise<KubeObject[]> =>
    await succeeds(async () => {
      const pods = await cluster.pods(namespace, `job-name=${name}`);
      expect(pods.length).toBeGreaterThan(0);
      for (const pod of pods) expect(pod["status"]).toMatchObject({ phase: "Running" });
      return pods;
    });
  const logOf = async (pod: KubeObject | undefined): Promise<string> =>
    await cluster.admin.call<string>("GET", `/api/v1/namespaces/${namespace}/pods/${pod?.metadata.name}/log`);
  const terminated = (state: object): object =>
    expect.objectContaining({
      containerStatuses: [expect.objectContaining({ state: { terminated: expect.objectContaining(state) } })],
    });

  test("two ranks of a Job load the worker's engine, as a user that may write to /tmp alone", async () => {
    const program = `
      const { InferenceSession } = await import("onnxruntime-node");
      const { default: sharp } = await import("sharp");
      const { messageOf } = await import("@drydock/kit");
      await import("./services/worker/src/training/train.ts");
      const picture = await sharp({ create: { width: 2, height: 2, channels: 3, background: "red" } }).png().toBuffer();
      await (await import("node:fs/promises")).writeFile("/tmp/there", "x");
      const refusal = await (await import("node:fs/promises")).writeFile("/app/there", "x").catch(messageOf);
      console.log(process.env.JOB_COMPLETION_INDEX, process.getuid(), typeof InferenceSession, picture.length > 0, refusal.includes("EROFS"));`;
    const entrypoint = ["node", "--input-type=module", "--eval", program];
    await start("engine", { ranks: 2, image: workerImage, entrypoint, memory: "512Mi" });
    const pods = await jobEnds("engine", "Complete");
    const lines = (await Promise.all(pods.map(logOf))).map((text) => text.trim());
    expect(lines.toSorted()).toEqual(["0 10001 function true true", "1 10001 function true true"]);
  });

  test("a worker without its settings ends with 64 and names them", async () => {
    await start("settings", { ranks: 1, image: workerImage, command: ["rank"], memory: "512Mi" });
    const [pod] = await jobEnds("settings", "Failed");
    expect(pod?.["status"]).toEqual(terminated({ exitCode: 64 }));
    expect(await logOf(pod)).toContain("DRYDOCK_");
  });

  test("a pod over its memory limit is OOMKilled with 137, and its Job fails", async () => {
    await start("memory", { ranks: 1, image: smallImage, command: ["eat", "200"] });
    const [pod] = await jobEnds("memory", "Failed");
    expect(pod?.["status"]).toEqual(terminated({ exitCode: 137, reason: "OOMKilled" }));
  });

  test("SIGTERM leaves time for a checkpoint: the pod ends with 143 within its grace", async () => {
    await start("graceful", { ranks: 1, image: smallImage, command: ["checkpoint", "1"], graceSeconds: 20 });
    const [pod] = await isRunning("graceful");
    const path = `/api/v1/namespaces/${namespace}/pods/${pod?.metadata.name}`;
    const finalizers = (pod?.metadata["finalizers"] ?? []) as string[];
    // Keeps the ended pod to be looked at.
    await cluster.admin.patch(path, { metadata: { finalizers: [...finalizers, "drydock.test/keep"] } });
    await cluster.admin.call("DELETE", path);
    await succeeds(async () => {
      expect((await cluster.admin.call("GET", path))["status"]).toEqual(terminated({ exitCode: 143 }));
    });
    // The Job's own finalizer goes when it has counted the pod; before, the count would be lost.
    await jobEnds("graceful", "Failed");
    await succeeds(async () => {
      const { metadata } = await cluster.admin.call("GET", path);
      expect(metadata["finalizers"]).toEqual(["drydock.test/keep"]);
    });
    await cluster.admin.patch(path, { metadata: { finalizers: [] } });
  });

  test("a pod that ignores SIGTERM is gone after its grace", async () => {
    await start("stubborn", { ranks: 1, image: smallImage, command: ["stubborn"], graceSeconds: 1 });
    const [pod] = await isRunning("stubborn");
    await cluster.admin.call("DELETE", `/api/v1/namespaces/${namespace}/pods/${pod?.metadata.name}`);
    await jobEnds("stubborn", "Failed");
    await succeeds(async () => expect(await cluster.pods(namespace, "job-name=stubborn")).toEqual([]));
  });

  test("an image that no node has is named as the reason a pod waits", async () => {
    await start("image", { ranks: 1, image: "drydock.local/nowhere:1" });
    await succeeds(async () => {
      const [pod] = await cluster.pods(namespace, "job-name=image");
      expect(pod?.["status"]).toMatchObject({
        containerStatuses: [{ state: { waiting: { reason: "ErrImageNeverPull" } } }],
      });
    });
    await cluster.admin.call(
      "DELETE",
      `/apis/batch/v1/namespaces/${namespace}/jobs/image?propagationPolicy=Background`,
    );
  });

  test("a pod that writes more than its scratch space is evicted", async () => {
    await start("scratch", { ranks: 1, image: smallImage, command: ["write", "32", "/tmp/big"], scratch: "8Mi" });
    const [pod] = await jobEnds("scratch", "Failed");
    const message = expect.stringContaining("exceeds the limit");
    expect(pod?.["status"]).toMatchObject({ phase: "Failed", reason: "Evicted", message });
  });

  test("pods reach servers of this computer, and each other, by address", async () => {
    const asked: string[] = [];
    const server = createServer((incoming, answer) => {
      asked.push(incoming.url ?? "");
      answer.end("here");
    }).listen(0, cluster.hostAddress);
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const program = `
      const http = await import("node:http");
      const address = process.env.POD_IP;
      http.createServer((_, answer) => answer.end("peer")).listen(9000);
      const text = await (await fetch("http://${cluster.hostAddress}:${port}/from-pod")).text();
      console.log(text);
      setTimeout(() => process.exit(0), 20_000);
      process.on("SIGTERM", () => process.exit(0));`;
    const entrypoint = ["node", "--input-type=module", "--eval", program];
    await start("network", { ranks: 2, image: workerImage, entrypoint, memory: "256Mi" });
    const pods = await isRunning("network");
    await succeeds(async () => expect(asked).toEqual(["/from-pod", "/from-pod"]));
    for (const pod of pods) {
      const { podIP } = pod["status"] as { podIP: string };
      await succeeds(async () => expect(await (await fetch(`http://${podIP}:9000`)).text()).toBe("peer"));
    }
    server.close();
    await cluster.admin.call(
      "DELETE",
      `/apis/batch/v1/namespaces/${namespace}/jobs/network?propagationPolicy=Background`,
    );
  });

  test("pods outlive kill -9 of the kubelet; a node without one is NotReady until it is back", async () => {
    await start("survivor", { ranks: 1, image: smallImage, command: ["pause"], node: "real-1" });
    const [before] = await isRunning("survivor");
    const readiness = async (): Promise<unknown> => {
      const node = await cluster.admin.call("GET", "/api/v1/nodes/real-1");
      const { conditions } = node["status"] as { conditions: { type: string; status: string }[] };
      return conditions.find(({ type }) => type === "Ready")?.status;
    };
    await cluster.component("kubelet-1").kill9();
    await succeeds(async () => expect(await readiness()).toBe("Unknown"));
    await cluster.component("kubelet-1").start();
    await succeeds(async () => expect(await readiness()).toBe("True"));
    const [after] = await isRunning("survivor");
    expect(after?.metadata.uid).toBe(before?.metadata.uid);
  });
});
