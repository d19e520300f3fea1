import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createLogger, FolderStorage } from "@drydock/kit";
import { Capacity } from "../../services/controller/src/attempts/capacity.ts";
import { gangSettings } from "../../services/controller/src/kubernetes/gang-settings.ts";
import { KubeApi } from "../../services/controller/src/kubernetes/kube-api.ts";
import { connectToCluster } from "../../services/controller/src/kubernetes/kube-connection.ts";
import { KubernetesBackend } from "../../services/controller/src/kubernetes/kubernetes-backend.ts";
import { quickImage } from "../cluster/simulated-nodes.ts";
import { inLanes, type Work } from "./cluster-burst.ts";

// A process of its own: the controller's admission and Kubernetes back end with a burst of runs, and nothing else, so that
// its peak memory is the controller's. Reads what to do from argv, prints one JSON line at the end.

const [kubeconfig = "", namespace = "", slots = "", lanes = "", workFile = ""] = process.argv.slice(2);
const works = JSON.parse(await readFile(workFile, "utf8")) as Work[];
const logger = createLogger("bench", { DRYDOCK_LOG_LEVEL: "error" });
const backend = new KubernetesBackend({
  api: new KubeApi(await connectToCluster(kubeconfig)),
  settings: gangSettings({ namespace, image: quickImage, imagePullPolicy: "IfNotPresent" }),
  storage: new FolderStorage(tmpdir()),
  logger,
});
await backend.connect();
const capacity = new Capacity(Number(slots));
const never = new AbortController().signal;
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);

const admitted = works.map(async (work) => {
  const claim = {
    id: work.name,
    priority: "normal",
    queue: "default",
    slots: work.ranks * work.gpus,
    accelerator: null,
    gpus: 0,
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
await backend.close();
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
      accelerator: "nvidia-h100-80gb",
      gpusPerRank: gpus,
      queue: "default",
      priority: "normal",
      avoidNodes: [],
    },
    stopGraceMs: 2000,
    logKeys: Array.from({ length: ranks }, (_, rank) => `logs/${name}/rank-${rank}.log`),
  } as const;
}
