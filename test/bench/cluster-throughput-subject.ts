import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createLogger, FolderStorage } from "@drydock/kit";
import { ClusterCapacity } from "../../services/controller/src/attempts/cluster-capacity.ts";
import { KubernetesFacts } from "../../services/controller/src/cluster-report/kubernetes-facts.ts";
import { gangSettings } from "../../services/controller/src/kubernetes/gang-settings.ts";
import { KubeApi } from "../../services/controller/src/kubernetes/kube-api.ts";
import { connectToCluster } from "../../services/controller/src/kubernetes/kube-connection.ts";
import { KubernetesBackend } from "../../services/controller/src/kubernetes/kubernetes-backend.ts";
import { quickImage } from "../cluster/simulated-nodes.ts";
import { inLanes, type Work } from "./cluster-burst.ts";

// A process of its own: the controller's admission and Kubernetes back end with a burst of runs, and nothing else, so that
// its peak memory is the controller's. Reads what to do from argv, prints one JSON line at the end.

const [kubeconfig = "", namespace = "", lanes = "", workFile = ""] = process.argv.slice(2);
const works = JSON.parse(await readFile(workFile, "utf8")) as Work[];
const logger = createLogger("bench", { DRYDOCK_LOG_LEVEL: "error" });
const accelerator = "nvidia-h100-80gb";
const api = new KubeApi(await connectToCluster(kubeconfig));
// Nothing is cleaned up while it is measured, as nothing is of Kueue's.
const keepFinishedSeconds = 4 * 3600;
const settings = gangSettings({ namespace, image: quickImage, imagePullPolicy: "IfNotPresent", keepFinishedSeconds });
const backend = new KubernetesBackend({ api, settings, storage: new FolderStorage(tmpdir()), logger });
await backend.connect();
const capacity = new ClusterCapacity();
const nodes = new KubernetesFacts({
  api,
  pods: () => backend.pods(),
  otherPods: () => [],
  productLabels: settings.productLabels,
  prioritise: (runId, priority) => capacity.prioritise(runId, priority),
  queues: capacity,
  onNodes: (found) => capacity.resize(found),
  logger,
});
await nodes.connect();
await nodes.nodes();
const never = new AbortController().signal;
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);

const admitted = works.map(async (work) => {
  const claim = {
    id: work.name,
    priority: "normal",
    queue: "default",
    slots: work.ranks,
    accelerator,
    gpus: work.ranks * work.gpus,
  } as const;
  return { work, release: await capacity.acquire({ ...claim, tell: () => undefined }, never) };
});
const ends: Promise<unknown>[] = [];
await inLanes(admitted, Number(lanes), async (next) => {
  const { work, release } = await next;
  const gang = await capacity.holdFor(release, async () => ({ gang: await backend.start(gangOf(work)) }));
  ends.push(gang.gang.ended);
});
await Promise.all(ends);
await Promise.all([backend.close(), nodes.close()]);
process.stdout.write(`${JSON.stringify({ peakBytes: process.resourceUsage().maxRSS * 1024 })}\n`);
process.exit(0);

function gangOf({ name, ranks, gpus }: Work) {
  return {
    name: `${name}-a1`,
    ranks,
    environment: { DRYDOCK_RUN_ID: name },
    secrets: { DRYDOCK_WORKER_TOKEN: randomBytes(24).toString("base64url") },
    memoryLimitBytes: null,
    placement: {
      accelerator,
      gpusPerRank: gpus,
      queue: "default",
      priority: "normal",
      avoidNodes: [],
    },
    stopGraceMs: 2000,
    logKeys: Array.from({ length: ranks }, (_, rank) => `logs/${name}/rank-${rank}.log`),
  } as const;
}
