import { UnavailableError } from "@drydock/kit";
import type { Workflows } from "../../src/workflows/workflows.ts";

export interface StartedWorkflow {
  readonly workflow: string;
  readonly workflowId: string;
  readonly input: unknown;
}

/** A workflow engine in memory that can go away and come back. */
export class FakeWorkflows implements Workflows {
  readonly started: StartedWorkflow[] = [];
  readonly signals: { readonly workflowId: string; readonly signal: string }[] = [];
  isAway = false;
  /** Calls that were answered or refused. */
  calls = 0;

  async start(workflow: string, workflowId: string, input: unknown): Promise<void> {
    this.#answer();
    if (!this.started.some((each) => each.workflowId === workflowId))
      this.started.push({ workflow, workflowId, input });
  }

  async signal(workflowId: string, signal: string): Promise<"delivered" | "gone"> {
    this.#answer();
    if (!this.started.some((each) => each.workflowId === workflowId)) return "gone";
    this.signals.push({ workflowId, signal });
    return "delivered";
  }

  async ping(): Promise<void> {
    this.#answer();
  }

  async close(): Promise<void> {
    this.isAway = true;
  }

  #answer(): void {
    this.calls++;
    if (this.isAway)
      throw new UnavailableError("workflows_unavailable", "Temporal at fake:7233 does not answer right now");
  }
}
