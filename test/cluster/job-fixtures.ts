import { setTimeout as delay } from "node:timers/promises";
import type { KubeObject } from "./kube-client.ts";

export interface JobShape {
  readonly ranks: number;
  readonly image: string;
  readonly gpus?: number;
  /** Arguments of the image's program. */
  readonly command?: readonly string[];
  /** Instead of the image's program. */
  readonly entrypoint?: readonly string[];
  readonly memory?: string;
  /** Bound of /tmp. */
  readonly scratch?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly node?: string;
  /** GPU product that its node must have. */
  readonly product?: string;
  readonly priorityClass?: string;
  readonly graceSeconds?: number;
}

/** An Indexed Job as Drydock makes them: no second tries, restricted Pod Security, a writable /tmp and nothing else. */
export function jobOf(name: string, shape: JobShape): KubeObject {
  const {
    ranks,
    image,
    gpus = 0,
    command = [],
    memory = "64Mi",
    scratch = "64Mi",
    labels = {},
    node,
    priorityClass,
  } = shape;
  const isReal = image.startsWith("drydock.local/");
  return {
    metadata: { name, labels },
    spec: {
      completions: ranks,
      parallelism: ranks,
      completionMode: "Indexed",
      backoffLimit: 0,
      podReplacementPolicy: "Failed",
      template: {
        spec: {
          restartPolicy: "Never",
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          terminationGracePeriodSeconds: shape.graceSeconds ?? 30,
          dnsPolicy: "Default",
          ...(priorityClass === undefined ? {} : { priorityClassName: priorityClass }),
          nodeSelector: {
            ...(node === undefined ? {} : { "kubernetes.io/hostname": node }),
            ...(shape.product === undefined ? {} : { "nvidia.com/gpu.product": shape.product }),
          },
          tolerations: isReal ? [] : [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }],
          securityContext: { runAsNonRoot: true, runAsUser: 10_001, seccompProfile: { type: "RuntimeDefault" } },
          containers: [
            {
              name: "worker",
              image,
              imagePullPolicy: isReal ? "Never" : "IfNotPresent",
              args: command,
              ...(shape.entrypoint === undefined ? {} : { command: shape.entrypoint }),
              resources: {
                requests: { cpu: "50m" },
                limits: { memory, ...(gpus > 0 ? { "nvidia.com/gpu": String(gpus) } : {}) },
              },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
              volumeMounts: [{ name: "tmp", mountPath: "/tmp" }],
            },
          ],
          volumes: [{ name: "tmp", emptyDir: { sizeLimit: scratch } }],
        },
      },
    },
  };
}

/** Tries until it does not throw. @throws its last error after the time */
export async function succeeds<T>(attempt: () => Promise<T>, withinMs = 60_000): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await delay(100);
    }
  }
}
