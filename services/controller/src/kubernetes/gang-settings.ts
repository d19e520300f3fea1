import type { WorkerPodSettings } from "./gang-manifests.ts";

/**
 * Labels that NVIDIA's GPU feature discovery gives to nodes, by accelerator of the catalogue. Operators whose nodes say
 * something else add theirs.
 */
const productLabels: Readonly<Record<string, readonly string[]>> = {
  "nvidia-l4-24gb": ["NVIDIA-L4"],
  "nvidia-a10-24gb": ["NVIDIA-A10", "NVIDIA-A10G"],
  "nvidia-a100-40gb": ["NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"],
  "nvidia-l40s-48gb": ["NVIDIA-L40S"],
  "nvidia-a100-80gb": ["NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"],
  "nvidia-h100-80gb": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"],
  "nvidia-h200-141gb": ["NVIDIA-H200"],
  "nvidia-b200-192gb": ["NVIDIA-B200"],
};

const gibibyte = 2 ** 30;

const defaults: Omit<WorkerPodSettings, "namespace" | "image"> = {
  imagePullPolicy: "IfNotPresent",
  imagePullSecret: null,
  environment: {},
  secrets: {},
  productLabels,
  rackLabel: "drydock.dev/rack",
  cpuPerRank: 1,
  memoryPerRankBytes: 16 * gibibyte,
  sharedMemoryBytes: gibibyte,
  scratchBytes: 100 * gibibyte,
  nodeLossSeconds: 60,
  keepFinishedSeconds: 600,
  usesKueue: false,
  localQueues: {},
};

/** What a cluster's operator said, over what is usual. */
export function gangSettings(
  given: Pick<WorkerPodSettings, "namespace" | "image"> & Partial<WorkerPodSettings>,
): WorkerPodSettings {
  return { ...defaults, ...given, productLabels: { ...productLabels, ...given.productLabels } };
}
