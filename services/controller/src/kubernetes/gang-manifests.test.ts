import { expect, test } from "vitest";
import { aGang } from "../../test/gang-spec.ts";
import { gangManifests } from "./gang-manifests.ts";
import { gangSettings } from "./gang-settings.ts";

const settings = gangSettings({ namespace: "runs", image: "worker:1", sharedMemoryBytes: 1000, scratchBytes: 2000 });

function podOf(change: Parameters<typeof aGang>[0] = {}): Record<string, unknown> {
  const { job } = gangManifests(aGang(change), settings);
  return (job["spec"] as { template: { spec: Record<string, unknown> } }).template.spec;
}

test("a Job never retries by itself and has a rank for each index", () => {
  const { job } = gangManifests(aGang({ ranks: 4 }), settings);
  expect(job["spec"]).toMatchObject({
    completionMode: "Indexed",
    completions: 4,
    parallelism: 4,
    backoffLimit: 0,
    podReplacementPolicy: "Failed",
    suspend: false,
  });
});

test("pods are restricted, have no token, and get time for a checkpoint", () => {
  expect(podOf({ stopGraceMs: 90_500 })).toMatchObject({
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 91,
    securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
    containers: [
      {
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
      },
    ],
  });
});

test("shared memory counts in the memory limit, GPUs are limits of the container", () => {
  expect(podOf({ memoryLimitBytes: 5000 })).toMatchObject({
    containers: [{ resources: { limits: { memory: "6000", "nvidia.com/gpu": "1" } } }],
  });
});

test("tokens are in the Secret, never in the Job", () => {
  const { job, secret } = gangManifests(aGang({ secrets: { DRYDOCK_WORKER_TOKEN: "s3cret" } }), settings);
  expect(JSON.stringify(job)).not.toContain("s3cret");
  expect(secret).toMatchObject({ immutable: true, stringData: { DRYDOCK_WORKER_TOKEN: "s3cret" } });
});

test("nodes of the accelerator's product are wanted, nodes to avoid are not", () => {
  const { placement } = aGang();
  const affinity = podOf({ placement: { ...placement, avoidNodes: ["broken-1"] } })["affinity"];
  expect(affinity).toMatchObject({
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [
          {
            matchExpressions: [
              { key: "nvidia.com/gpu.product", operator: "In", values: ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"] },
              { key: "kubernetes.io/hostname", operator: "NotIn", values: ["broken-1"] },
            ],
          },
        ],
      },
    },
  });
});

test("nodes in use fill up first, so that whole nodes stay free for gangs; the ranks of one are near each other", () => {
  const wishes = (ranks: number) =>
    (
      podOf({ ranks })["affinity"] as {
        podAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: { podAffinityTerm: { topologyKey: string } }[];
        };
      }
    ).podAffinity.preferredDuringSchedulingIgnoredDuringExecution.map(
      ({ podAffinityTerm }) => podAffinityTerm.topologyKey,
    );
  expect(wishes(1)).toEqual(["kubernetes.io/hostname"]);
  expect(wishes(4)).toEqual([
    "kubernetes.io/hostname",
    "kubernetes.io/hostname",
    "drydock.dev/rack",
    "topology.kubernetes.io/zone",
  ]);
});

test("a rank tells the others the address of its pod, with no Service", () => {
  expect(Object.keys(gangManifests(aGang({ ranks: 2 }), settings))).toEqual(["job", "secret"]);
  expect(podOf({ ranks: 2 })).toMatchObject({
    containers: [
      {
        env: expect.arrayContaining([
          { name: "DRYDOCK_LISTEN_HOST", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
        ]) as unknown,
      },
    ],
  });
});

test("with Kueue a Job waits suspended in the queue of its run, with its priority", () => {
  const { placement } = aGang();
  const { job } = gangManifests(aGang({ placement: { ...placement, queue: "night", priority: "low" } }), {
    ...settings,
    usesKueue: true,
    localQueues: { night: "night-shift" },
  });
  expect(job["spec"]).toMatchObject({ suspend: true });
  expect(job.metadata.labels).toMatchObject({
    "kueue.x-k8s.io/queue-name": "night-shift",
    "kueue.x-k8s.io/priority-class": "drydock-low",
  });
});
