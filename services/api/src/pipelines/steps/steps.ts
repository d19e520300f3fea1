import type { PipelineStep } from "@drydock/spec";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../step-outcome.ts";
import { approve } from "./approve.ts";
import { evaluate } from "./evaluate.ts";
import { gate } from "./gate.ts";
import { deploy, promote } from "./promote.ts";
import { sweep, train } from "./train.ts";
import { validate } from "./validate.ts";
import { watch } from "./watch.ts";

/** What a step comes to now. */
export async function steps(services: Services, run: PipelineRunRow, step: PipelineStep): Promise<StepOutcome> {
  switch (step.type) {
    case "validate":
      return await validate(services, run, step);
    case "train":
      return await train(services, run, step);
    case "sweep":
      return await sweep(services, run, step);
    case "evaluate":
      return await evaluate(services, run, step);
    case "gate":
      return await gate(services, run, step);
    case "approve":
      return approve(run, step);
    case "promote":
      return await promote(services, run);
    case "deploy":
      return await deploy(services, run, step);
    case "watch":
      return await watch(services, run, step);
  }
}
