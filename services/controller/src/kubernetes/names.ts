/** Labels and annotations that mark what is ours. */
export const labels = {
  managedBy: "app.kubernetes.io/managed-by",
  gang: "drydock.dev/gang",
  run: "drydock.dev/run",
  epoch: "drydock.dev/epoch",
  queue: "kueue.x-k8s.io/queue-name",
  kueuePriority: "kueue.x-k8s.io/priority-class",
  job: "batch.kubernetes.io/job-name",
  rank: "batch.kubernetes.io/job-completion-index",
} as const;

export const annotations = {
  /** Digest of what was asked for: the same name with another digest is not the same gang. */
  specDigest: "drydock.dev/spec-digest",
  /** The gang's name before it was made fit for Kubernetes. */
  gang: "drydock.dev/gang",
  accelerator: "drydock.dev/accelerator",
  gpusPerRank: "drydock.dev/gpus-per-rank",
  queue: "drydock.dev/queue",
  logKeys: "drydock.dev/log-keys",
} as const;

export const managedBy = "drydock";

/** `run_01jd-a2` → `dd-run-01jd-a2`: lower case letters, digits and `-`; with the rank at most 63 characters. */
export function jobName(gang: string): string {
  return `dd-${gang.toLowerCase().replaceAll(/[^a-z0-9-]/g, "-")}`;
}
