import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ensureTool } from "../build/build-tool.ts";
import { toolFolder } from "../build/tools.ts";
import { Component } from "../component.ts";
import { freePort, type ControlPlane } from "../control-plane.ts";
import { applyAll, readManifests } from "../manifests.ts";
import { applyDefinitions, rewriteWebhooks } from "./webhooks.ts";

/** Starts JobSet's controller as a process beside the API server. */
export async function startJobSet(plane: ControlPlane): Promise<Component> {
  const program = await ensureTool("jobset");
  const folder = join(plane.folder, "jobset");
  const [webhookPort, healthPort, metricsPort] = [await freePort(), await freePort(), await freePort()];
  const configuration = join(folder, "jobset.json");
  await mkdir(folder, { recursive: true });
  const pair = await plane.authority.issue("jobset", { commonName: "jobset", alternativeNames: ["IP:127.0.0.1"] });
  await cp(pair.certificate, join(folder, "tls.crt"));
  await cp(pair.key, join(folder, "tls.key"));
  await writeFile(
    configuration,
    JSON.stringify({
      apiVersion: "config.jobset.x-k8s.io/v1alpha1",
      kind: "Configuration",
      webhook: { host: "127.0.0.1", port: webhookPort, certDir: folder },
      leaderElection: { leaderElect: false },
      internalCertManagement: { enable: false },
      clientConnection: { qps: 500, burst: 1000 },
    }),
  );
  const sources = join(toolFolder("jobset"), "config", "components");
  await applyDefinitions(plane.admin, await readManifests(join(sources, "crd", "bases")));
  const component = new Component({
    name: "jobset",
    program,
    parameters: [
      `--kubeconfig=${plane.adminKubeconfig}`,
      `--config=${configuration}`,
      `--metrics-bind-address=127.0.0.1:${metricsPort}`,
      `--health-probe-bind-address=127.0.0.1:${healthPort}`,
    ],
    logPath: join(plane.folder, "logs", "jobset.log"),
    isReady: async () => (await fetch(`http://127.0.0.1:${healthPort}/readyz`)).ok,
  });
  await component.start();
  const place = { url: `https://127.0.0.1:${webhookPort}`, caBundle: await plane.authority.bundle() };
  const ofJobSets = {
    objectSelector: { matchExpressions: [{ key: "jobset.sigs.k8s.io/jobset-name", operator: "Exists" }] },
  };
  const webhooks = await readManifests(join(sources, "webhook", "manifests.yaml"));
  await applyAll(plane.admin, rewriteWebhooks(webhooks, "jobset", place, { jobset: {}, pod: ofJobSets }));
  return component;
}
