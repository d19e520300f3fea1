/** The workflow engine as the api needs it. */
export interface Workflows {
  /**
   * Starts a workflow. One that is there already, running or over, counts as started.
   *
   * @throws UnavailableError `workflows_unavailable` when the engine does not answer
   */
  start(workflow: string, workflowId: string, input: unknown): Promise<void>;
  /**
   * Tells a running workflow something. One that is over, or was never there, hears nothing: `"gone"`.
   *
   * @throws UnavailableError `workflows_unavailable` when the engine does not answer
   */
  signal(workflowId: string, signal: string): Promise<"delivered" | "gone">;
  /** Answers when the engine does. */
  ping(): Promise<void>;
  close(): Promise<void>;
}
