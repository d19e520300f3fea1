import { explainPlan } from "@drydock/spec";
import type { Command } from "commander";
import { cliExitCodes } from "../exit-codes.ts";
import { readRunSpec } from "../run-spec-file.ts";
import { contextOf } from "./context.ts";

/** `drydock plan FILE`: what a run would need, and why; nothing is started. */
export function addPlanCommand(program: Command): void {
  program
    .command("plan")
    .argument("<spec>", "run spec, YAML or JSON")
    .description("what a run would need: memory by term, tokens, steps, time, cost; nothing is started")
    .action(async function (this: Command, file: string) {
      const { client, output } = contextOf(this);
      const plan = await client().plan(await readRunSpec(file));
      output.answer(plan, () => explainPlan(plan));
      if (plan.refusals.length > 0) process.exitCode = cliExitCodes.invalid;
    });
}
