import type { GangSpec } from "../src/backend/cluster-backend.ts";

let number = 0;

/** A gang of two ranks with one H100 each, and a name of its own. */
export function aGang(change: Partial<GangSpec> = {}): GangSpec {
  number += 1;
  const name = change.name ?? `run_${process.pid}x${number}-a1`;
  const ranks = change.ranks ?? 2;
  return {
    name,
    ranks,
    environment: { DRYDOCK_RUN_ID: name.replace(/-a\d+$/, "") },
    secrets: { DRYDOCK_WORKER_TOKEN: "token" },
    memoryLimitBytes: null,
    placement: {
      accelerator: "nvidia-h100-80gb",
      gpusPerRank: 1,
      queue: "default",
      priority: "normal",
      avoidNodes: [],
    },
    stopGraceMs: 2000,
    logKeys: Array.from({ length: ranks }, (_, rank) => `logs/${name}/rank-${rank}.log`),
    ...change,
  };
}
