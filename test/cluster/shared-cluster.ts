import { inject } from "vitest";
import { Cluster, type ClusterConnection } from "./cluster.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The cluster that all files of the project `cluster` share. */
    cluster: ClusterConnection;
  }
}

/** The cluster that test files share; each takes a namespace of its own. It has real nodes where the computer allows, and Kueue. */
export async function sharedCluster(): Promise<Cluster> {
  return await Cluster.connect(inject("cluster"));
}

/** What stands in the way of real nodes, for `test.skipIf`: CI fails on what it must skip. */
export function realNodesMissing(): string | null {
  return inject("cluster").missing;
}
