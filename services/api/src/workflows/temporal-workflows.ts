import { UnavailableError, messageOf } from "@drydock/kit";
import { temporalNames } from "@drydock/spec";
import {
  Client,
  Connection,
  isGrpcServiceError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowNotFoundError,
} from "@temporalio/client";
import type { Workflows } from "./workflows.ts";

/** gRPC status codes that pass with time: CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE. */
const passingCodes = new Set([1, 4, 8, 10, 13, 14]);
const callTimeoutMs = 5_000;

/** {@link Workflows} on a Temporal server. Connects at the first call, and again by itself whenever the server comes back. */
export function connectTemporal(options: { readonly address: string; readonly namespace: string }): Workflows {
  const connection = Connection.lazy({ address: options.address, connectTimeout: callTimeoutMs });
  const client = new Client({ connection, namespace: options.namespace });
  const call = async <Result>(action: () => Promise<Result>): Promise<Result> => {
    try {
      return await connection.withDeadline(Date.now() + callTimeoutMs, action);
    } catch (error) {
      throw asWorkflowsUnavailable(error, options.address) ?? error;
    }
  };
  return {
    start: async (workflow, workflowId, input) => {
      try {
        await call(
          async () =>
            await client.workflow.start(workflow, {
              taskQueue: temporalNames.taskQueue,
              workflowId,
              args: [input],
              // One object, one workflow, ever: a start that is repeated after a crash must not run it twice.
              workflowIdReusePolicy: "REJECT_DUPLICATE",
              workflowIdConflictPolicy: "FAIL",
            }),
        );
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      }
    },
    signal: async (workflowId, signal) => {
      try {
        await call(async () => await client.workflow.getHandle(workflowId).signal(signal));
        return "delivered";
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return "gone";
        throw error;
      }
    },
    ping: async () => {
      await call(async () => await connection.workflowService.getSystemInfo({}));
    },
    close: async () => await connection.close(),
  };
}

function asWorkflowsUnavailable(error: unknown, address: string): UnavailableError | null {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const isPassing = isGrpcServiceError(at)
      ? passingCodes.has(at.code)
      : /failed to connect|connect timed out/i.test(at.message);
    if (isPassing)
      return new UnavailableError(
        "workflows_unavailable",
        `Temporal at ${address} does not answer right now (${messageOf(at)})`,
        { cause: error },
      );
  }
  return null;
}
