import { expect, test } from "vitest";
import { PodsByJob } from "./pods-by-job.ts";
import { labels } from "./names.ts";

const pod = (name: string, job: string, phase = "Pending") => ({
  metadata: { name, labels: { [labels.job]: job } },
  status: { phase },
});

test("pods are found by their Job, as they were seen last, until they are gone", () => {
  const pods = new PodsByJob();
  pods.put(pod("a-0", "a"));
  pods.put(pod("a-1", "a"));
  pods.put(pod("b-0", "b"));
  pods.put(pod("a-0", "a", "Running"));
  expect(pods.of("a").map(({ metadata, status }) => [metadata.name, status?.phase])).toEqual([
    ["a-0", "Running"],
    ["a-1", "Pending"],
  ]);
  expect(pods.remove("a-0")?.status?.phase).toBe("Running");
  expect(pods.remove("a-1")?.metadata.name).toBe("a-1");
  expect([pods.of("a"), pods.remove("a-1"), pods.of("never")]).toEqual([[], null, []]);
});
