import { NotFoundError, openStorage } from "@drydock/kit";
import { expect, test } from "vitest";
import { PipelineApi } from "../pipeline-api.ts";
import { RegistryApi } from "../registry-api.ts";
import { createPipelineActivities } from "./pipeline-activities.ts";

test("a run that was deleted since is not tried again for ever", async () => {
  const call = async (): Promise<never> => {
    throw new NotFoundError("api_not_found", "there is no run of that id");
  };
  const { failPipeline } = createPipelineActivities({
    pipelines: new PipelineApi({ call }),
    registry: new RegistryApi({ call }),
    storage: openStorage("file:///nowhere"),
  });
  await expect(failPipeline({ pipelineRunId: "prun_1", message: "it cannot go on" })).resolves.toBeUndefined();
});
