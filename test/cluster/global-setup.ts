import type { TestProject } from "vitest/node";
import { Cluster } from "./cluster.ts";

/** Starts one cluster before the first test file of the project, and ends it after the last. */
export default async function setUpCluster(project: TestProject): Promise<() => Promise<void>> {
  const cluster = await Cluster.start({
    realNodes: 2,
    kueue: true,
    tell: (line) => console.log(`test cluster: ${line}`),
  });
  project.provide("cluster", cluster.connection);
  if (cluster.connection.missing !== null) console.log(`test cluster: no real nodes: ${cluster.connection.missing}`);
  return async () => await cluster[Symbol.asyncDispose]();
}
