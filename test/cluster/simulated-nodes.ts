import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Component } from "./component.ts";
import { freePort, type ControlPlane } from "./control-plane.ts";
import type { KubeObject } from "./kube-client.ts";
import { ensureTool } from "./build/build-tool.ts";
import { toolFolder } from "./build/tools.ts";

/** Label that ends a simulated pod; annotations beside it say how. Patched onto a running pod by a test. */
export const endLabel = "drydock.test/end";
/** Pods of this image never start: their pull fails for ever. */
export const missingImage = "drydock.test/missing:1";
/** Pods of this image end well by themselves as soon as they run. */
export const quickImage = "drydock.test/quick:1";

/** How a simulated pod ends. Everything absent: exit code 0. */
export interface PodEnding {
  readonly exitCode?: number;
  /** Reason of the container's end, such as `OOMKilled`. */
  readonly containerReason?: string;
  /** `status.reason` of the pod, such as `Evicted`. */
  readonly podReason?: string;
  readonly message?: string;
  /** Reason of a `DisruptionTarget` condition, such as `EvictionByEvictionAPI`. */
  readonly disruption?: string;
  /** True when no container ever ran (the kubelet refused the pod). */
  readonly isNeverStarted?: boolean;
}

/** The merge patch that ends a simulated pod so. */
export function endPatch(ending: PodEnding): object {
  return {
    metadata: {
      labels: { [endLabel]: "yes" },
      annotations: {
        "drydock.test/exit-code": String(ending.exitCode ?? 0),
        "drydock.test/container-reason": ending.containerReason ?? (ending.exitCode ? "Error" : "Completed"),
        "drydock.test/pod-reason": ending.podReason ?? "",
        "drydock.test/message": ending.message ?? "",
        "drydock.test/disruption": ending.disruption ?? "",
        "drydock.test/never-started": ending.isNeverStarted ? "yes" : "",
      },
    },
  };
}

const failed = `
{{ $now := Now }}
{{ $root := . }}
{{ $notes := .metadata.annotations }}
{{ $code := index $notes "drydock.test/exit-code" }}
{{ $disruption := index $notes "drydock.test/disruption" }}
{{ if $disruption }}
conditions:
- type: DisruptionTarget
  status: "True"
  reason: {{ $disruption | Quote }}
  message: {{ index $notes "drydock.test/message" | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
{{ if index $notes "drydock.test/never-started" }}
{{ else }}
containerStatuses:
{{ range $index, $item := .spec.containers }}
- image: {{ $item.image | Quote }}
  name: {{ $item.name | Quote }}
  ready: false
  restartCount: 0
  started: false
  state:
    terminated:
      exitCode: {{ $code }}
      finishedAt: {{ $now | Quote }}
      reason: {{ index $notes "drydock.test/container-reason" | Quote }}
      startedAt: {{ or $root.status.startTime $now | Quote }}
{{ end }}
{{ end }}
{{ with index $notes "drydock.test/pod-reason" }}
reason: {{ . | Quote }}
{{ end }}
{{ with index $notes "drydock.test/message" }}
message: {{ . | Quote }}
{{ end }}
{{ if eq $code "0" }}
phase: Succeeded
{{ else }}
phase: Failed
{{ end }}
`;

const pullFails = `
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  imageID: ""
  name: {{ .name | Quote }}
  ready: false
  restartCount: 0
  started: false
  state:
    waiting:
      reason: ImagePullBackOff
      message: {{ printf "Back-off pulling image %s: not found" .image | Quote }}
{{ end }}
phase: Pending
`;

const isAlive = { key: ".metadata.deletionTimestamp", operator: "DoesNotExist" };
const image = ".spec.containers.[].image";

function stage(name: string, matchExpressions: readonly object[], statusTemplate: string): object {
  return {
    apiVersion: "kwok.x-k8s.io/v1alpha1",
    kind: "Stage",
    metadata: { name },
    spec: {
      resourceRef: { apiGroup: "v1", kind: "Pod" },
      selector: { matchExpressions },
      next: { statusTemplate },
    },
  };
}

/** As a kubelet does: what is deleted while it runs ends by SIGTERM first, and only then is gone. */
const terminated = `
{{ $now := Now }}
{{ $root := . }}
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: false
  restartCount: 0
  started: false
  state:
    terminated:
      exitCode: 143
      finishedAt: {{ $now | Quote }}
      reason: Error
      startedAt: {{ or $root.status.startTime $now | Quote }}
{{ end }}
phase: Failed
`;
const isDeleted = { key: ".metadata.deletionTimestamp", operator: "Exists" };

/** Stages of our own: endings on demand, images that cannot be had, and deletion. */
const ownStages = [
  stage("pod-terminate", [isDeleted, phaseIs("Running")], terminated),
  stage("pod-end", [isAlive, { key: `.metadata.labels["${endLabel}"]`, operator: "Exists" }, running()], failed),
  stage("pod-pull-fails", [isAlive, phaseIs("Pending"), imageIs(missingImage), noStatus()], pullFails),
];

function running(): object {
  return { key: ".status.phase", operator: "In", values: ["Running", "Pending"] };
}

function phaseIs(phase: string): object {
  return { key: ".status.phase", operator: "In", values: [phase] };
}

function imageIs(name: string): object {
  return { key: image, operator: "In", values: [name] };
}

function noStatus(): object {
  return { key: ".status.containerStatuses", operator: "DoesNotExist" };
}

/** Reads a stage that KWOK ships, changed where the tests need it. */
async function shippedStage(path: string, change: (text: string) => string = (text) => text): Promise<string> {
  return change(await readFile(join(toolFolder("kwok"), "kustomize", "stage", path), "utf8"));
}

function addSelector(expression: string): (text: string) => string {
  return (text) => text.replace(/matchExpressions:\n/, `matchExpressions:\n${expression}`);
}

/** Starts KWOK: it plays the kubelet of every node that `createNodes` makes. */
export async function startSimulator(
  plane: ControlPlane,
  { heartbeatMs = 2000 }: { readonly heartbeatMs?: number } = {},
): Promise<Component> {
  const program = await ensureTool("kwok");
  const notMissing = `    - key: '${image}'\n      operator: 'NotIn'\n      values:\n      - '${missingImage}'\n`;
  const onlyQuick = `    - key: '${image}'\n      operator: 'In'\n      values:\n      - '${quickImage}'\n`;
  const notRunning = "    - key: '.status.phase'\n      operator: 'NotIn'\n      values:\n      - 'Running'\n";
  const stages = [
    await shippedStage("node/fast/node-initialize.yaml"),
    await shippedStage("node/heartbeat/node-heartbeat.yaml", (text) =>
      text
        .replace(/durationMilliseconds: \d+/, `durationMilliseconds: ${heartbeatMs}`)
        .replace(/jitterDurationMilliseconds: \d+/, `jitterDurationMilliseconds: ${Math.round(heartbeatMs * 1.25)}`),
    ),
    await shippedStage("pod/fast/pod-ready.yaml", addSelector(notMissing)),
    await shippedStage("pod/fast/pod-complete.yaml", addSelector(onlyQuick)),
    await shippedStage("pod/fast/pod-delete.yaml", addSelector(notRunning)),
    ...ownStages.map((own) => JSON.stringify(own)),
  ];
  const configuration = join(plane.folder, "kwok-stages.yaml");
  await writeFile(configuration, stages.join("\n---\n"));
  const port = await freePort();
  return new Component({
    name: "kwok",
    program,
    parameters: [
      `--kubeconfig=${plane.adminKubeconfig}`,
      `--config=${configuration}`,
      "--manage-all-nodes=false",
      "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
      `--server-address=127.0.0.1:${port}`,
      "--node-lease-duration-seconds=0",
    ],
    logPath: join(plane.folder, "logs", "kwok.log"),
    isReady: async () => (await fetch(`http://127.0.0.1:${port}/healthz`)).ok,
  });
}

export interface NodeShape {
  readonly prefix: string;
  readonly count: number;
  /** GPU feature discovery's product label; null for a node without GPUs. */
  readonly product: string | null;
  readonly gpus?: number;
  /** Nodes of one rack. */
  readonly nodesPerRack?: number;
  readonly memory?: string;
}

/** Makes simulated nodes with the labels and the taint of a GPU cluster. */
export async function createNodes(plane: ControlPlane, shape: NodeShape): Promise<string[]> {
  const { prefix, count, product, gpus = 8, nodesPerRack = 8, memory = "1Ti" } = shape;
  const names = Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
  const hasGpus = product !== null;
  const amounts = {
    cpu: "128",
    memory,
    pods: "500",
    "ephemeral-storage": "2Ti",
    ...(hasGpus ? { "nvidia.com/gpu": String(gpus) } : {}),
  };
  const node = (name: string, index: number): KubeObject => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name,
      annotations: { "kwok.x-k8s.io/node": "fake" },
      labels: {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": "zone-a",
        "drydock.dev/rack": `rack-${Math.floor(index / nodesPerRack)}`,
        ...(hasGpus
          ? {
              "nvidia.com/gpu.present": "true",
              "nvidia.com/gpu.product": product,
              "nvidia.com/gpu.count": String(gpus),
            }
          : {}),
      },
    },
    spec: hasGpus ? { taints: [{ key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" }] } : {},
    status: { capacity: amounts, allocatable: amounts, phase: "Running" },
  });
  for (let from = 0; from < count; from += 50)
    await Promise.all(
      names.slice(from, from + 50).map(async (name, offset) => {
        const made = node(name, from + offset);
        await plane.admin.call("POST", "/api/v1/nodes", made);
      }),
    );
  return names;
}
