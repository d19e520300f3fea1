import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ensureTool } from "../build/build-tool.ts";
import { toolFolder } from "../build/tools.ts";
import { Component } from "../component.ts";
import { freePort, type ControlPlane } from "../control-plane.ts";
import { applyAll, readManifests } from "../manifests.ts";
import { applyDefinitions, rewriteConversions, rewriteWebhooks } from "./webhooks.ts";

/** Folder that Kueue's metrics server reads its certificate from; the path is fixed in the program. */
const metricsCertificates = "/etc/kueue/metrics/certs";

/** Definitions whose versions Kueue converts, as its own kustomization names them. */
const converted = ["clusterqueues", "cohorts", "localqueues", "multikueueclusters", "workloads"];

/** Starts Kueue as a process beside the API server, for Jobs and, with `withJobSet`, for JobSets. */
export async function startKueue(plane: ControlPlane, { withJobSet = false } = {}): Promise<Component> {
  const program = await ensureTool("kueue");
  const folder = join(plane.folder, "kueue");
  const [webhookPort, healthPort, metricsPort] = [await freePort(), await freePort(), await freePort()];
  const configuration = join(folder, "kueue.json");
  await mkdir(folder, { recursive: true });
  await issueServingPair(plane, folder);
  await writeFile(
    configuration,
    JSON.stringify({
      apiVersion: "config.kueue.x-k8s.io/v1beta2",
      kind: "Configuration",
      namespace: "kueue-system",
      health: { healthProbeBindAddress: `127.0.0.1:${healthPort}` },
      metrics: { bindAddress: `127.0.0.1:${metricsPort}` },
      webhook: { host: "127.0.0.1", port: webhookPort, certDir: folder },
      leaderElection: { leaderElect: false },
      internalCertManagement: { enable: false },
      controller: {
        groupKindConcurrency: {
          "Job.batch": 5,
          Pod: 5,
          "Workload.kueue.x-k8s.io": 5,
          "LocalQueue.kueue.x-k8s.io": 1,
          "ClusterQueue.kueue.x-k8s.io": 1,
          "ResourceFlavor.kueue.x-k8s.io": 1,
        },
      },
      // Without it the client's limit of 20 requests a second is what tests would measure.
      clientConnection: { qps: 500, burst: 1000 },
      // GPUs are what queues share out. A resource that a ClusterQueue does not cover would hold a Job for ever.
      resources: { excludeResourcePrefixes: ["cpu", "memory", "ephemeral-storage"] },
      integrations: { frameworks: ["batch/job", ...(withJobSet ? ["jobset.x-k8s.io/jobset"] : [])] },
    }),
  );
  const place = { url: `https://127.0.0.1:${webhookPort}`, caBundle: await plane.authority.bundle() };
  const sources = join(toolFolder("kueue"), "config", "components");
  await plane.admin.apply("/api/v1/namespaces", {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "kueue-system" },
  });
  const definitions = await readManifests(join(sources, "crd", "bases"));
  await applyDefinitions(plane.admin, rewriteConversions(definitions, place, converted));
  const component = new Component({
    name: "kueue",
    program,
    parameters: [
      `--kubeconfig=${plane.adminKubeconfig}`,
      `--config=${configuration}`,
      "--feature-gates=VisibilityOnDemand=false",
      "--zap-log-level=info",
    ],
    logPath: join(plane.folder, "logs", "kueue.log"),
    isReady: async () => (await fetch(`http://127.0.0.1:${healthPort}/readyz`)).ok,
  });
  await component.start();
  // Files of tests that do without Kueue go on when it is killed: it sees the Jobs of namespaces with runs alone.
  const ofRuns = { namespaceSelector: { matchLabels: { "drydock.dev/runs": "true" } } };
  const kept = {
    clusterqueue: {},
    cohort: {},
    resourceflavor: {},
    workload: {},
    job: ofRuns,
    ...(withJobSet ? { jobset: ofRuns } : {}),
  };
  const webhooks = await readManifests(join(sources, "webhook", "manifests.yaml"));
  await applyAll(plane.admin, rewriteWebhooks(webhooks, "kueue", place, kept));
  return component;
}

/** The pair serves webhooks and metrics. */
async function issueServingPair(plane: ControlPlane, folder: string): Promise<void> {
  const pair = await plane.authority.issue("kueue", { commonName: "kueue", alternativeNames: ["IP:127.0.0.1"] });
  for (const target of [folder, metricsCertificates]) {
    await mkdir(target, { recursive: true });
    await cp(pair.certificate, join(target, "tls.crt"));
    await cp(pair.key, join(target, "tls.key"));
  }
}
