import { expect, test } from "vitest";
import { Cluster } from "./cluster.ts";
import { jobOf, succeeds } from "./job-fixtures.ts";

/** A cluster of its own: JobSet's webhook would cost every other file a call for each pod. */
test("JobSet makes the Jobs of a set, and says when it is complete", async () => {
  await using cluster = await Cluster.start({ jobSet: true });
  const namespace = await cluster.namespace("jobset");
  const sets = `/apis/jobset.x-k8s.io/v1alpha2/namespaces/${namespace}/jobsets`;
  const { spec } = jobOf("unused", { ranks: 2, gpus: 8, image: "drydock.test/quick:1" });
  await cluster.admin.call("POST", sets, {
    apiVersion: "jobset.x-k8s.io/v1alpha2",
    kind: "JobSet",
    metadata: { name: "set" },
    spec: { replicatedJobs: [{ name: "ranks", replicas: 1, template: { spec } }] },
  });
  await succeeds(async () => {
    expect(await cluster.admin.call("GET", `${sets}/set`)).toMatchObject({ status: { terminalState: "Completed" } });
  });
});
